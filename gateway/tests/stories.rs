//! Stories: everything but the network, in one process, with the clock in our hand. Keys, requests, certificates and the
//! policy are real; the store is the memory engine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod story;

use gateway::flow::asked::{LockWish, TokenWish};
use std::time::Duration;

use gateway::{
    core::{
        refusal::{Missing, QueueFull, Refusal},
        token::TokenError,
    },
    flow::{self, queue},
    registry::queue::QueueLimits,
};
use story::{Answer, DAY, Story, minutes};

#[tokio::test]
async fn a_stranger_waits_and_is_admitted_with_the_code() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.stranger();
    let waiting = machine.ask("edge-07").await.waiting();
    let code = machine.code(&waiting);
    assert_eq!(story.approve(&alice, &waiting.id, "WRNG-C0DE").await.unwrap_err(), Refusal::WrongCode);
    story.approve(&alice, &waiting.id, &code).await.unwrap();
    let issued = machine.poll(&waiting.id).await.unwrap().issued();
    assert_eq!(issued.identity, "spiffe://test.example/machine/edge-07");
    let peer = story.peer(&issued);
    assert_eq!(story.admit(&peer).await.unwrap().identity.to_string(), issued.identity);
    for event in ["enrollment.waiting", "enrollment.wrong-code", "enrollment.approved", "certificate.issued"] {
        assert!(story.events(&alice).await.iter().any(|row| row.event == event), "{event}");
    }
}

#[tokio::test]
async fn the_same_key_asking_again_gets_the_same_certificate() {
    let story = Story::new().await;
    let token = story.token(TokenWish::default()).await;
    let machine = story.stranger();
    let first = machine.join(&token, "edge-07").await.unwrap().issued();
    let again = machine.join(&token, "edge-07").await.unwrap().issued();
    assert_eq!(first.serial, again.serial);
    assert_eq!(first.certificate, again.certificate);
    let polled = machine.poll(&first.id).await.unwrap().issued();
    assert_eq!(polled.certificate, first.certificate);
}

#[tokio::test]
async fn a_token_is_for_one_key() {
    let story = Story::new().await;
    let token = story.token(TokenWish::default()).await;
    story.stranger().join(&token, "edge-07").await.unwrap().issued();
    let other = story.stranger().join(&token, "edge-08").await.unwrap_err();
    assert_eq!(other, Refusal::Evidence(TokenError::Spent.into()));
}

#[tokio::test]
async fn tokens_that_do_not_admit() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let short = story.token(TokenWish { ttl: Some(60), ..TokenWish::default() }).await;
    story.clock.advance(Duration::from_secs(61));
    let late = story.stranger().join(&short, "edge-01").await.unwrap_err();
    assert_eq!(late, Refusal::Evidence(TokenError::Expired(1).into()));

    let revoked = story.token_reply(TokenWish::default()).await;
    gateway::flow::tokens::revoke(&story.shell, &alice.caller(&story).await, &revoked.id, "i").await.unwrap();
    let refused = story.stranger().join(&revoked.token, "edge-01").await.unwrap_err();
    assert_eq!(refused, Refusal::Evidence(TokenError::Revoked.into()));

    let other = Story::new().await.token(TokenWish::default()).await;
    let foreign = story.stranger().join(&other, "edge-01").await.unwrap_err();
    assert!(matches!(&foreign, Refusal::Evidence(reject) if reject.code.name == "token-invalid"), "{foreign:?}");

    let named = story.token(TokenWish { names: vec!["edge-*".into()], ..TokenWish::default() }).await;
    let wrong = story.stranger().join(&named, "core-01").await.unwrap_err();
    assert!(matches!(wrong, Refusal::NameIllegal { .. }), "{wrong:?}");

    let mine = story.stranger();
    let bound = TokenWish { key: Some(mine.digest()), ..TokenWish::default() };
    let bound = story.token(bound).await;
    let lent = story.stranger().join(&bound, "edge-02").await.unwrap_err();
    assert_eq!(lent, Refusal::Evidence(TokenError::OtherKey.into()));
    mine.join(&bound, "edge-02").await.unwrap().issued();
}

#[tokio::test]
async fn a_name_is_given_once_but_many_may_want_it() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let (one, two) = (story.stranger(), story.stranger());
    let first = one.ask("edge-07").await.waiting();
    let second = two.ask("edge-07").await.waiting();
    let seen = gateway::flow::people::show(&story.shell, &alice.caller(&story).await, &first.id).await.unwrap();
    assert_eq!(seen.rivals, std::slice::from_ref(&second.id));
    story.approve(&alice, &first.id, &one.code(&first)).await.unwrap();
    let taken = story.approve(&alice, &second.id, &two.code(&second)).await.unwrap_err();
    assert_eq!(taken, Refusal::NameTaken { name: "edge-07".into() });
    story.approve_as(&alice, &second.id, &two.code(&second), "edge-08").await.unwrap();
    assert!(two.poll(&second.id).await.unwrap().issued().identity.ends_with("/edge-08"));
}

#[tokio::test]
async fn denied_stays_denied_and_says_why() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.stranger();
    let waiting = machine.ask("edge-07").await.waiting();
    let caller = alice.caller(&story).await;
    gateway::flow::people::deny(&story.shell, &caller, &waiting.id, "not ours", "i").await.unwrap();
    let denied = Refusal::DeniedByPerson { reason: "not ours".into() };
    assert_eq!(machine.poll(&waiting.id).await.unwrap_err(), denied);
    assert_eq!(machine.try_ask("edge-07").await.unwrap_err(), denied);
    let late = story.approve(&alice, &waiting.id, &machine.code(&waiting)).await.unwrap_err();
    assert!(matches!(late, Refusal::Conflict(_)));
}

#[tokio::test]
async fn a_request_lapses_and_may_be_made_again() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.stranger();
    let waiting = machine.ask("edge-07").await.waiting();
    story.clock.advance(DAY + Duration::from_secs(1));
    assert_eq!(machine.poll(&waiting.id).await.unwrap_err(), Refusal::Lapsed);
    let alice = story.renewed(alice).await;
    assert!(story.approve(&alice, &waiting.id, &machine.code(&waiting)).await.is_err());
    gateway::flow::sweep::sweep(&story.shell).await.unwrap();
    let again = machine.ask("edge-07").await.waiting();
    assert_ne!(again.id, waiting.id);
}

#[tokio::test]
async fn the_queue_is_bounded_in_all_and_per_prefix() {
    let story = Story::new().await;
    let oldest = story.stranger().from(10);
    let first = oldest.ask("m-0").await.waiting();
    for index in 1..story::PER_PREFIX {
        story.stranger().from(10).ask(&format!("m-{index}")).await.waiting();
    }
    let full = story.stranger().from(10).try_ask("late").await.unwrap_err();
    assert!(matches!(full, Refusal::QueueFull(_)));
    for index in story::PER_PREFIX..story::IN_ALL {
        let net = u8::try_from(index).unwrap() + 20;
        story.stranger().from(net).ask(&format!("n-{index}")).await.waiting();
    }
    assert!(oldest.poll(&first.id).await.unwrap().waiting().id == first.id);
    // Of the network with most the oldest gives way; and the next one, until all have as many.
    story.stranger().from(99).ask("late").await.waiting();
    assert!(matches!(oldest.poll(&first.id).await.unwrap_err(), Refusal::Lapsed));
    story.stranger().from(98).ask("later").await.waiting();
    let full = story.stranger().from(99).try_ask("latest").await.unwrap_err();
    assert!(matches!(full, Refusal::QueueFull(_)));
    assert!(story.shell.metrics.render().lines().any(|line| line == format!("lychgate_waiting {}", story::IN_ALL)));
    let token = story.token(TokenWish::default()).await;
    story.stranger().from(10).join(&token, "with-token").await.unwrap().issued();
}

#[tokio::test]
async fn two_must_approve_when_the_policy_says_so() {
    let story = Story::with_policy(|text| text.replace("@approvals(\"1\")", "@approvals(\"2\")")).await;
    let alice = story.first_person().await;
    let bob = story.person("bob", &["admins"]).await;
    let machine = story.stranger();
    let waiting = machine.ask("edge-07").await.waiting();
    let code = machine.code(&waiting);
    story.approve(&alice, &waiting.id, &code).await.unwrap();
    assert_eq!(machine.poll(&waiting.id).await.unwrap().waiting().approvals_missing, 1);
    let twice = story.approve(&alice, &waiting.id, &code).await.unwrap_err();
    assert!(matches!(twice, Refusal::Conflict(_)));
    story.approve(&bob, &waiting.id, &code).await.unwrap();
    machine.poll(&waiting.id).await.unwrap().issued();
}

#[tokio::test]
async fn two_approvers_at_once_make_one_admission() {
    let story = Story::new().await;
    let (alice, bob) = (story.first_person().await, story.person("bob", &["admins"]).await);
    let machine = story.stranger();
    let waiting = machine.ask("edge-07").await.waiting();
    let code = machine.code(&waiting);
    let (one, two) = tokio::join!(story.approve(&alice, &waiting.id, &code), story.approve(&bob, &waiting.id, &code));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    assert!(matches!(one.err().or(two.err()).unwrap(), Refusal::Conflict(_)));
}

#[tokio::test]
async fn somebody_without_the_right_approves_nothing() {
    let story = Story::new().await;
    let carol = story.person("carol", &[]).await;
    let machine = story.stranger();
    let waiting = machine.ask("edge-07").await.waiting();
    let refused = story.approve(&carol, &waiting.id, &machine.code(&waiting)).await.unwrap_err();
    assert_eq!(refused, Refusal::NotFound(Missing::Request));
    let hidden = gateway::flow::people::show(&story.shell, &carol.caller(&story).await, &waiting.id).await;
    assert_eq!(hidden.unwrap_err(), Refusal::NotFound(Missing::Request));
}

#[tokio::test]
async fn renewal_is_two_phase_and_a_lost_reply_costs_nothing() {
    let story = Story::new().await;
    let machine = story.machine("edge-07").await;
    let first = story.peer(&machine.issued);
    let lost = machine.renew(&story).await.unwrap();
    let again = machine.renew(&story).await.unwrap();
    assert_eq!(lost.certificate, again.certificate);
    story.admit(&first).await.unwrap();
    let second = story.peer(&again);
    story.admit(&second).await.unwrap();
    // A program that read the files a moment ago is not a thief.
    story.admit(&first).await.unwrap();
    story.clock.advance(minutes(10));
    assert!(matches!(story.admit(&first).await.unwrap_err(), Refusal::Forked { .. }));
}

#[tokio::test]
async fn a_cloned_directory_locks_its_lineage_and_no_other() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let (original, bystander) = (story.machine("edge-07").await, story.machine("edge-08").await);
    let clone = original.cloned(&story);
    let renewed = original.renew(&story).await.unwrap();
    story.admit(&story.peer(&renewed)).await.unwrap();
    assert!(matches!(clone.renew(&story).await.unwrap_err(), Refusal::Forked { .. }));
    assert!(matches!(story.admit(&story.peer(&renewed)).await.unwrap_err(), Refusal::Forked { .. }));
    story.admit(&story.peer(&bystander.issued)).await.unwrap();
    let caller = alice.caller(&story).await;
    let fork = story.events(&alice).await.into_iter().find(|row| row.event == "lineage.forked").unwrap();
    assert_eq!(fork.subject, "spiffe://test.example/machine/edge-07");
    assert!(fork.detail["why"].contains("renewed"));
    let notices = gateway::flow::notices::of(&story.shell, &caller).await.unwrap();
    assert_eq!(notices.len(), 1, "{notices:?}");
    let view = gateway::flow::admin::subject(&story.shell, &caller, pki::Role::Machine, "edge-07").await.unwrap();
    assert_eq!(view.state, "locked");
    let lineage = view.lineage;
    gateway::flow::admin::unlock(&story.shell, &caller, "lineage", &lineage, "i").await.unwrap();
    story.admit(&story.peer(&renewed)).await.unwrap();
}

#[tokio::test]
async fn two_renewals_from_one_certificate_are_a_fork_once_the_loser_shows_its_own() {
    let story = Story::new().await;
    let original = story.machine("edge-07").await;
    let clone = original.cloned(&story);
    let mine = original.renew(&story).await.unwrap();
    let theirs = clone.renew(&story).await.unwrap();
    story.admit(&story.peer(&theirs)).await.unwrap();
    story.clock.advance(minutes(10));
    assert!(matches!(story.admit(&story.peer(&mine)).await.unwrap_err(), Refusal::Forked { .. }));
}

#[tokio::test]
async fn renewal_runs_todays_policy() {
    let story = Story::new().await;
    let machine = story.machine("edge-07").await;
    story.set_policy(|text| text.replace("@lifetime(\"24h\")", "@lifetime(\"2m\")"));
    let short = machine.renew(&story).await.unwrap();
    let life = short.not_after - story.shell.now().secs();
    assert!((119..=120).contains(&life), "{life}");
    story.set_policy(|_| "@id(\"nobody\") forbid(principal, action, resource);".to_owned());
    assert!(matches!(machine.fresh().renew(&story).await.unwrap_err(), Refusal::Denied { .. }));
}

#[tokio::test]
async fn locks_bite_while_waiting_while_renewing_and_on_every_request() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.machine("edge-07").await;
    story.lock(&alice, "machine", "edge-07").await.unwrap();
    assert!(matches!(machine.renew(&story).await.unwrap_err(), Refusal::Locked { .. }));
    assert!(matches!(story.admit(&story.peer(&machine.issued)).await.unwrap_err(), Refusal::Locked { .. }));
    let crl = gateway::flow::crl::list(&story.shell, &story.shell.ca().signing().machine).await.unwrap();
    assert!(crl.der.windows(16).any(|bytes| hex::encode(bytes) == machine.issued.serial));
    let caller = alice.caller(&story).await;
    gateway::flow::admin::unlock(&story.shell, &caller, "machine", "edge-07", "i").await.unwrap();
    story.admit(&story.peer(&machine.issued)).await.unwrap();
    let crl = gateway::flow::crl::list(&story.shell, &story.shell.ca().signing().machine).await.unwrap();
    assert!(!crl.der.windows(16).any(|bytes| hex::encode(bytes) == machine.issued.serial));

    let waiting_machine = story.stranger();
    let waiting = waiting_machine.ask("edge-09").await.waiting();
    story.lock(&alice, "key", &waiting_machine.digest()).await.unwrap();
    assert!(matches!(waiting_machine.poll(&waiting.id).await.unwrap_err(), Refusal::Locked { .. }));
    let code = waiting_machine.code(&waiting);
    assert!(matches!(story.approve(&alice, &waiting.id, &code).await.unwrap_err(), Refusal::Locked { .. }));
}

#[tokio::test]
async fn off_past_expiry_a_machine_comes_back_under_its_name() {
    let story = Story::new().await;
    let machine = story.machine("edge-07").await;
    story.clock.advance(DAY * 3);
    let peer = story.peer_at(&machine.issued, machine.issued.not_after);
    assert_eq!(story.admit(&peer).await.unwrap_err(), Refusal::Expired);
    let back = machine.rejoin(&story).await.unwrap().issued();
    assert_eq!(back.identity, machine.issued.identity);
    story.admit(&story.peer(&back)).await.unwrap();
}

#[tokio::test]
async fn too_long_off_means_waiting_for_a_person() {
    let story = Story::new().await;
    let machine = story.machine("edge-07").await;
    story.clock.advance(DAY * 40);
    let alice = story.first_person().await;
    let waiting = machine.rejoin(&story).await.unwrap().waiting();
    let shown = gateway::flow::people::show(&story.shell, &alice.caller(&story).await, &waiting.id).await.unwrap();
    assert_eq!(shown.verified.get("prior_name").map(String::as_str), Some("edge-07"));
    story.approve(&alice, &waiting.id, &machine.next_code(&story, &waiting)).await.unwrap();
    let back = machine.rejoin(&story).await.unwrap().issued();
    assert_eq!(back.identity, machine.issued.identity);
    story.admit(&story.peer(&back)).await.unwrap();
}

#[tokio::test]
async fn a_restored_disk_that_rejoins_is_a_fork() {
    let story = Story::new().await;
    let machine = story.machine("edge-07").await;
    let renewed = machine.renew(&story).await.unwrap();
    story.admit(&story.peer(&renewed)).await.unwrap();
    story.clock.advance(DAY / 2);
    assert!(matches!(machine.rejoin(&story).await.unwrap_err(), Refusal::Forked { .. }));
}

#[tokio::test]
async fn leaving_ends_the_lineage_and_frees_the_name() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.machine("edge-07").await;
    let caller = story.admit(&story.peer(&machine.issued)).await.unwrap();
    gateway::flow::admin::leave(&story.shell, &caller, "i").await.unwrap();
    let refused = story.admit(&story.peer(&machine.issued)).await.unwrap_err();
    assert!(matches!(refused, Refusal::Retired { .. }));
    let successor = story.machine("edge-07").await;
    story.admit(&story.peer(&successor.issued)).await.unwrap();
    // The predecessor's certificate is refused and does not harm whoever has the name now.
    assert!(matches!(story.admit(&story.peer(&machine.issued)).await.unwrap_err(), Refusal::Retired { .. }));
    story.admit(&story.peer(&successor.issued)).await.unwrap();
    assert!(story.events(&alice).await.iter().any(|row| row.event == "subject.left"));
}

#[tokio::test]
async fn nothing_is_written_for_a_request_that_is_refused() {
    let story = Story::with_policy(|_| "@id(\"nobody\") forbid(principal, action, resource);".to_owned()).await;
    let before = story.everything().await;
    assert!(matches!(story.stranger().try_ask("edge-07").await.unwrap_err(), Refusal::Denied { .. }));
    assert_eq!(story.everything().await, before);
}

#[tokio::test]
async fn what_cannot_be_locked_is_said() {
    let story = Story::new().await;
    let caller = story.first_person().await.caller(&story).await;
    let lock = LockWish { kind: "moon".into(), target: "x".into(), reason: String::new() };
    let refused = gateway::flow::admin::lock(&story.shell, &caller, &lock, "i").await.unwrap_err();
    assert!(matches!(refused, Refusal::Malformed(_)));
}

/// Yes, no, or words that a person can use; never that the policy failed.
#[tokio::test]
async fn many_machines_at_once_each_get_their_own_serial() {
    let story = Story::new().await;
    let token = story.token(TokenWish { uses: Some(20), ..TokenWish::default() }).await;
    let machines: Vec<_> = (0..20).map(|_| story.stranger()).collect();
    let names: Vec<String> = (0..20).map(|index| format!("m-{index}")).collect();
    let joins = machines.iter().zip(&names).map(|(machine, name)| machine.join(&token, name));
    let answers: Vec<Answer> = story::all(joins).await.into_iter().map(Result::unwrap).collect();
    let mut serials: Vec<String> = answers.into_iter().map(|answer| answer.issued().serial).collect();
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 20);
}

#[tokio::test]
async fn an_approval_nobody_comes_for_frees_the_name_in_the_end() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.stranger();
    let waiting = machine.ask("edge-07").await.waiting();
    story.approve(&alice, &waiting.id, &machine.code(&waiting)).await.unwrap();
    story.clock.advance(DAY * 2);
    gateway::flow::sweep::sweep(&story.shell).await.unwrap();
    let taken = story.stranger().join(&story.token(TokenWish::default()).await, "edge-07").await.unwrap_err();
    assert_eq!(taken, Refusal::NameTaken { name: "edge-07".into() });
    story.clock.advance(DAY * 7);
    gateway::flow::sweep::sweep(&story.shell).await.unwrap();
    story.machine("edge-07").await;
    assert_eq!(machine.poll(&waiting.id).await.unwrap_err(), Refusal::Lapsed);
}

#[tokio::test]
async fn housekeeping_drops_what_is_old_and_nothing_else() {
    let story = Story::new().await;
    let machine = story.machine("edge-07").await;
    gateway::flow::sweep::sweep(&story.shell).await.unwrap();
    story.admit(&story.peer(&machine.issued)).await.unwrap();
    let before = story.everything().await;
    story.clock.advance(DAY * 401);
    gateway::flow::sweep::sweep(&story.shell).await.unwrap();
    assert!(story.everything().await < before);
    assert!(story.shell.get::<serde_json::Value>("subject/machine/edge-07".into()).await.unwrap().is_some());
}

#[tokio::test]
async fn whoever_rejoins_by_approval_keeps_its_name_and_takes_no_other() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let (machine, _other) = (story.machine("edge-07").await, story.machine("edge-08").await);
    story.clock.advance(DAY * 3);
    let alice = story.renewed(alice).await;
    story.set_policy(|text| {
        let strangers =
            "@id(\"everybody-waits\") permit(principal, action == Lychgate::Action::\"request\", resource);";
        format!("{}\n{strangers}", text.replace("prior_expired_for <= 2592000", "prior_expired_for <= 60"))
    });
    let waiting = machine.rejoin(&story).await.unwrap().waiting();
    let code = machine.next_code(&story, &waiting);
    let taken = story.approve_as(&alice, &waiting.id, &code, "edge-08").await.unwrap_err();
    assert!(matches!(taken, Refusal::NameIllegal { .. }), "{taken:?}");
    story.approve(&alice, &waiting.id, &code).await.unwrap();
    let back = machine.rejoin(&story).await.unwrap().issued();
    assert_eq!(back.identity, "spiffe://test.example/machine/edge-07");
}

#[tokio::test]
async fn whatever_takes_a_right_away_moves_the_epoch() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let caller = alice.caller(&story).await;
    story.machine("edge-07").await;
    let mut before = story.epoch().await;
    let mut moved = async |what: &str| {
        let now = story.epoch().await;
        assert!(now > before, "{what}");
        before = now;
    };
    story.lock(&alice, "machine", "edge-07").await.unwrap();
    moved("lock").await;
    gateway::flow::admin::unlock(&story.shell, &caller, "machine", "edge-07", "i").await.unwrap();
    moved("unlock").await;
    gateway::flow::admin::remove(&story.shell, &caller, pki::Role::Machine, "edge-07", "i").await.unwrap();
    moved("removal").await;
    let token = story.token_reply(TokenWish::default()).await;
    gateway::flow::tokens::revoke(&story.shell, &caller, &token.id, "i").await.unwrap();
    moved("token").await;
}

#[tokio::test]
async fn asking_again_after_the_approval_collects_the_certificate() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.stranger();
    let waiting = machine.ask("edge-07").await.waiting();
    story.approve(&alice, &waiting.id, &machine.code(&waiting)).await.unwrap();
    assert!(machine.ask("edge-07").await.issued().identity.ends_with("/edge-07"));
}

#[tokio::test]
async fn certificates_say_where_the_lists_are_once_that_is_configured() {
    let story = Story::new().await;
    let machine = story.machine("edge-07").await;
    let says = |certificate: &str, url: &str| {
        let der = pki::parse_pem("CERTIFICATE", certificate).unwrap().remove(0);
        der.windows(url.len()).any(|window| window == url.as_bytes())
    };
    assert!(!says(&machine.issued.certificate, "crl.test.example"));
    let mut settings = (**story.shell.settings.load()).clone();
    settings.public_crl = Some(pki::ListsUrl::parse("http://crl.test.example").unwrap());
    story.shell.settings.store(settings.into());
    let renewed = machine.renew(&story).await.unwrap();
    assert!(says(
        &renewed.certificate,
        &format!("http://crl.test.example/{}", story.shell.ca().signing().machine.hex())
    ));
    story.admit(&story.peer(&renewed)).await.unwrap();
    assert!(says(
        &story.first_person().await.issued.certificate,
        &format!("http://crl.test.example/{}", story.shell.ca().signing().person.hex())
    ));
}

#[tokio::test]
async fn locks_are_listed_to_the_last() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    story.machine("edge-07").await;
    story.lock(&alice, "machine", "edge-07").await.unwrap();
    for number in 0..6 {
        story.lock(&alice, "key", &format!("{number:064x}")).await.unwrap();
    }
    let caller = alice.caller(&story).await;
    for (limit, pages) in [(3, 3), (7, 2), (8, 1)] {
        let (mut found, mut after, mut seen) = (Vec::new(), None, 0);
        loop {
            let listed = gateway::flow::admin::list_locks(&story.shell, &caller, after.as_deref(), limit).await;
            let page = listed.unwrap();
            found.extend(page.items.into_iter().map(|lock| lock.target));
            (after, seen) = (page.next, seen + 1);
            if after.is_none() {
                break;
            }
        }
        assert_eq!((found.len(), seen), (7, pages), "pages of {limit}: {found:?}");
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 7, "none twice");
    }
}

#[tokio::test]
async fn near_the_end_of_its_ca_lives_are_shortened_and_after_it_there_are_none() {
    let story = Story::new().await;
    let end = story.shell.ca().ends().machine;
    story.clock.set(end.minus(minutes(60)));
    let machine = story.machine("edge-07").await;
    assert_eq!(machine.issued.not_after, end.secs());
    story.clock.set(end.minus(minutes(1)));
    assert_eq!(machine.renew(&story).await.unwrap().not_after, end.secs());
    story.clock.set(end);
    let token = story.token(TokenWish::default()).await;
    let refused = story.stranger().join(&token, "edge-08").await.unwrap_err();
    let says = refused.to_string();
    assert!(says.contains("the CA for machine certificates ended at") && says.contains("ca renew"), "{says}");
}

/// What is counted of the queue in memory is what a gateway that was started anew counts from its store: after arrivals from several
/// networks, decisions, lapses and those that gave way.
#[tokio::test]
async fn a_restarted_gateway_counts_the_queue_as_before() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let agree = async |when: &str| {
        let fresh = queue::from_store(&story.shell).await.unwrap();
        let limits = QueueLimits { all: story::IN_ALL, per_prefix: story::PER_PREFIX };
        for net in 1..6 {
            let source = format!("192.0.{net}.0/24");
            let kept = queue::numbers(&story.shell, &source).await.unwrap();
            assert_eq!(kept.map(drop), fresh.numbers(&source, limits, 0).map(drop), "{when}: {source}");
        }
        for name in ["a-1", "b-1"] {
            let mut rivals = [queue::rivals(&story.shell, name, "nobody").await.unwrap(), fresh.rivals(name, "nobody")];
            rivals.iter_mut().for_each(|rivals| rivals.sort());
            assert_eq!(rivals[0], rivals[1], "{when}: {name}");
        }
        (fresh.waiting(), fresh.numbers("192.0.1.0/24", limits, 0).err())
    };
    let mut ids = Vec::new();
    for net in [1, 1, 1, 2, 3] {
        ids.push(story.stranger().from(net).ask("a-1").await.waiting().id);
    }
    let full = agree("after they came").await;
    assert_eq!(full, (5, Some(QueueFull::Network)));
    // The share of the network is full for whoever comes after the restart, too.
    assert!(story.stranger().from(1).try_ask("b-1").await.is_err());
    let caller = alice.caller(&story).await;
    gateway::flow::people::deny(&story.shell, &caller, &ids[0], "no", "i").await.unwrap();
    let full = agree("after one was denied").await;
    assert_eq!(full, (4, None));
    story.stranger().from(4).ask("b-1").await.waiting();
    story.stranger().from(5).ask("b-1").await.waiting();
    story.stranger().from(2).ask("b-1").await.waiting();
    agree("after the longest queue gave way").await;
    story.clock.advance(DAY * 2);
    gateway::flow::sweep::sweep(&story.shell).await.unwrap();
    agree("after they lapsed").await;
}

/// It may still read; but whoever reaches the machine through a tunnel must reach the holder of the newest certificate.
#[tokio::test]
async fn a_certificate_that_was_replaced_holds_no_tunnel() {
    let story = Story::new().await;
    let _alice = story.first_person().await;
    let before = story.machine("edge-07").await;
    let peer = story.peer(&before.issued);
    flow::connect::enter(&story.shell, &peer).await.unwrap();
    let now = story.renewed(before).await;
    flow::connect::enter(&story.shell, &story.peer(&now.issued)).await.unwrap();
    story.admit(&peer).await.unwrap();
    assert_eq!(flow::connect::enter(&story.shell, &peer).await, Err(Refusal::Replaced));
    flow::connect::enter(&story.shell, &story.peer(&now.issued)).await.unwrap();
}
