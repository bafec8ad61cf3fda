//! Stories of machines that are renamed, and of when they were last seen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::flow::asked::MachineCorrection;
use gateway::flow::views::SubjectDetails;
use gateway::registry::sessions::SessionSelector;
use gateway::{
    core::{
        admission::{self, Admission, AdmissionRecords, Use},
        change::Changes,
        keys,
        records::KeptName,
        refusal::Refusal,
    },
    flow::{
        self,
        shell::{Actor, Retry},
    },
};
use pki::Role;
use story::{DAY, Member, Story, minutes};

async fn rename(story: &Story, by: &Member, old: &str, new: &str) -> Result<SubjectDetails, Refusal> {
    let asked = MachineCorrection { name: Some(new.to_owned()), ..MachineCorrection::default() };
    let caller = by.caller(story).await;
    Ok(flow::set::machine(&story.shell, &caller, old, &asked, "story").await?.subject)
}

async fn shown(story: &Story, by: &Member, name: &str) -> Result<SubjectDetails, Refusal> {
    flow::admin::subject(&story.shell, &by.caller(story).await, Role::Machine, name).await
}

fn taken<T>(answer: &Result<T, Refusal>) -> bool {
    matches!(answer, Err(Refusal::NameTaken { .. }))
}

async fn newcomer(story: &Story, name: &str) -> Result<story::Answer, Refusal> {
    let token = story.token(gateway::flow::asked::TokenWish::default()).await;
    story.stranger().join(&token, name).await
}

/// A machine with an owner, a label and a last run.
async fn machine(story: &Story, alice: &Member) -> Member {
    let machine = story.machine("edge-07").await;
    let caller = alice.caller(story).await;
    let given = MachineCorrection {
        labels: [("env".to_owned(), "lab".to_owned())].into(),
        owner: Some("alice".to_owned()),
        ..MachineCorrection::default()
    };
    flow::set::machine(&story.shell, &caller, "edge-07", &given, "story").await.unwrap();
    let run = serde_json::from_value::<wire::admin::ReportRequest>(
        serde_json::json!({ "tool": "ansible", "started": 1, "finished": 2,
        "ok": 3, "changed": 0, "failed": 0, "unreachable": 0, "skipped": 0 }),
    )
    .unwrap();
    flow::reports::report(&story.shell, &caller, "edge-07", &run.into(), "story").await.unwrap();
    machine
}

#[tokio::test]
async fn a_machine_takes_its_name_with_the_certificate_that_has_it() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = machine(&story, &alice).await;
    let before = shown(&story, &alice, "edge-07").await.unwrap();
    story.clock.advance(minutes(5));
    let asked = rename(&story, &alice, "edge-07", "rack7-2").await.unwrap();
    assert_eq!((asked.name.as_str(), asked.renaming.as_deref()), ("edge-07", Some("rack7-2")));
    // Both names are its own from now on, and it is called as before until it uses what it gets.
    assert!(taken(&newcomer(&story, "rack7-2").await) && taken(&newcomer(&story, "edge-07").await));
    story.clock.advance(minutes(5));
    assert!(
        flow::renew_now::is_wanted(&story.shell, &machine.caller(&story).await, story.peer(&machine.issued).not_before)
            .await
            .unwrap()
    );
    let issued = machine.renew(&story).await.unwrap();
    assert!(issued.identity.ends_with("/machine/rack7-2"), "{}", issued.identity);
    assert_eq!(machine.caller(&story).await.subject.record.name, "edge-07", "the old one goes on until then");
    assert_eq!(shown(&story, &alice, "edge-07").await.unwrap().lineage, before.lineage);
    // A reply that was lost: the same again.
    assert_eq!(machine.renew(&story).await.unwrap().serial, issued.serial);
    let session = story.session(&alice, "edge-07");

    let machine = machine.moved(issued);
    let caller = machine.caller(&story).await;
    assert_eq!((caller.subject.record.name.as_str(), caller.identity.name.as_str()), ("rack7-2", "rack7-2"));
    let after = shown(&story, &alice, "rack7-2").await.unwrap();
    assert_eq!((&after.lineage, &after.labels, &after.owner), (&before.lineage, &before.labels, &before.owner));
    assert_eq!(after.convergence, before.convergence);
    assert!(after.convergence.is_some() && after.renaming.is_none());
    assert!(matches!(shown(&story, &alice, "edge-07").await, Err(Refusal::NotFound(_))));
    let open = story.shell.sessions.find(&SessionSelector::Id(session));
    assert!(open.iter().all(|session| session.reason().is_some()), "what goes on under the old name was told to end");
    // It lives on as any other.
    let again = machine.renew(&story).await.unwrap();
    assert!(again.identity.ends_with("/machine/rack7-2"));
    machine.moved(again).caller(&story).await;
    let told: Vec<String> = story.events(&alice).await.into_iter().map(|event| event.event).collect();
    for event in ["subject.set", "renewal.asked", "subject.renamed"] {
        assert!(told.iter().any(|other| other == event), "{event}");
    }
}

/// A program that knows nothing of it, or takes another name than it was told, keeps the one it has, and is not asked for ever.
#[tokio::test]
async fn a_program_that_takes_no_name_keeps_its_own() {
    for takes in [None, Some("edge-07"), Some("other")] {
        let story = Story::new().await;
        let alice = story.first_person().await;
        let machine = machine(&story, &alice).await;
        story.clock.advance(minutes(5));
        rename(&story, &alice, "edge-07", "rack7-2").await.unwrap();
        story.clock.advance(minutes(1));
        let issued = machine.renew_as(&story, takes).await.unwrap();
        assert!(issued.identity.ends_with("/machine/edge-07"), "{takes:?}: {}", issued.identity);
        let machine = machine.moved(issued);
        let (caller, from) = (machine.caller(&story).await, story.peer(&machine.issued).not_before);
        assert!(!flow::renew_now::is_wanted(&story.shell, &caller, from).await.unwrap());
        assert_eq!(shown(&story, &alice, "edge-07").await.unwrap().renaming.as_deref(), Some("rack7-2"));
    }
}

/// The old name may stand in certificates that live: whoever got it could be taken for the machine.
#[tokio::test]
async fn the_old_name_is_free_when_its_last_certificate_has_ended() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = machine(&story, &alice).await;
    rename(&story, &alice, "edge-07", "rack7-2").await.unwrap();
    let issued = machine.renew(&story).await.unwrap();
    let machine = machine.moved(issued);
    machine.caller(&story).await;
    story.clock.advance(DAY / 2);
    flow::sweep::sweep(&story.shell).await.unwrap();
    let alice = story.renewed(alice).await;
    assert!(taken(&newcomer(&story, "edge-07").await));
    assert!(taken(&rename(&story, &alice, "rack7-2", "edge-07").await), "nor back to it");
    story.clock.advance(DAY / 2 + minutes(2));
    newcomer(&story, "edge-07").await.unwrap().issued();
    flow::sweep::sweep(&story.shell).await.unwrap();
    let kept = story.shell.get::<KeptName>(keys::kept_name(Role::Machine, "edge-07")).await.unwrap();
    assert!(kept.is_none(), "{kept:?}");
}

/// Each row: what stands in the way, and what is said.
#[tokio::test]
async fn what_cannot_be_renamed() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let bob = story.person("bob", &[]).await;
    for name in ["edge-07", "edge-08", "locked"] {
        story.machine(name).await;
    }
    story.lock(&alice, "machine", "locked").await.unwrap();
    assert!(taken(&rename(&story, &alice, "edge-07", "edge-08").await));
    for (old, new, says) in [
        ("edge-07", "edge-07", "name is already `edge-07`"),
        ("edge-07", "localhost", "cannot be given"),
        ("edge-07", "Rack", "cannot be given"),
        ("locked", "free", "`locked` is locked"),
        ("nobody", "free", "no such machine"),
    ] {
        let refused = rename(&story, &alice, old, new).await.unwrap_err().to_string();
        assert!(refused.contains(says), "{old} to {new}: {refused}");
    }
    assert!(matches!(rename(&story, &bob, "edge-07", "free").await.unwrap_err(), Refusal::NotFound(_)));
    rename(&story, &alice, "edge-07", "free").await.unwrap();
    let twice = rename(&story, &alice, "edge-07", "other").await.unwrap_err().to_string();
    assert!(twice.contains("being renamed to `free` already"), "{twice}");
    assert!(taken(&rename(&story, &alice, "edge-08", "free").await));
    // Whoever is removed before it took the name leaves it free.
    flow::admin::remove(&story.shell, &alice.caller(&story).await, Role::Machine, "edge-07", "story").await.unwrap();
    newcomer(&story, "free").await.unwrap().issued();
}

/// A lock that is set between the two moments stops it under either name, and what it rests on stays one lineage.
#[tokio::test]
async fn a_lock_hits_a_machine_under_either_name() {
    for (kind, under) in [("machine", "edge-07"), ("lineage", ""), ("key", "")] {
        let story = Story::new().await;
        let alice = story.first_person().await;
        let machine = machine(&story, &alice).await;
        let view = rename(&story, &alice, "edge-07", "rack7-2").await.unwrap();
        let digest = machine.digest();
        let issued = machine.renew(&story).await.unwrap();
        let target = match kind {
            "machine" => under.to_owned(),
            "lineage" => view.lineage,
            _ => digest,
        };
        story.lock(&alice, kind, &target).await.unwrap();
        let refused = story.admit(&story.peer(&issued)).await;
        assert!(matches!(refused, Err(Refusal::Locked { .. })), "{kind}: {refused:?}");
        flow::admin::unlock(&story.shell, &alice.caller(&story).await, kind, &target, "story").await.unwrap();
        let machine = machine.moved(issued);
        machine.caller(&story).await;
        story.lock(&alice, "machine", "rack7-2").await.unwrap();
        assert!(matches!(story.admit(&story.peer(&machine.issued)).await, Err(Refusal::Locked { .. })), "{kind}");
    }
}

/// Off for so long that its certificate ended, before or after it had one with the new name: nobody has to drive there.
#[tokio::test]
async fn whoever_was_off_meanwhile_comes_back() {
    for renewed in [false, true] {
        let story = Story::new().await;
        let alice = story.first_person().await;
        let mut machine = machine(&story, &alice).await;
        rename(&story, &alice, "edge-07", "rack7-2").await.unwrap();
        if renewed {
            let issued = machine.renew(&story).await.unwrap();
            machine = machine.moved(issued);
        }
        story.clock.advance(DAY * 3);
        let named = machine.issued.identity.rsplit_once('/').unwrap().1.to_owned();
        let back = machine.rejoin_named(&story, &named).await.unwrap().issued();
        assert!(back.identity.ends_with("/machine/edge-07"), "{renewed}: {}", back.identity);
        let machine = machine.moved(back);
        machine.caller(&story).await;
        let issued = machine.renew(&story).await.unwrap();
        assert!(issued.identity.ends_with("/machine/rack7-2"), "{renewed}");
        assert_eq!(machine.moved(issued).caller(&story).await.subject.record.name, "rack7-2");
    }
}

/// When a machine was last seen: at its renewals and at the end of its tunnels, and not with every request.
#[tokio::test]
async fn machines_were_last_seen() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.machine("edge-07").await;
    assert_eq!(shown(&story, &alice, "edge-07").await.unwrap().last_seen, None, "it has never come");
    let start = story.shell.now().secs();
    let lineage = machine.caller(&story).await.lineage.record.id.clone();
    assert_eq!(shown(&story, &alice, "edge-07").await.unwrap().last_seen, Some(start));
    story.clock.advance(minutes(10));
    machine.caller(&story).await;
    assert_eq!(shown(&story, &alice, "edge-07").await.unwrap().last_seen, Some(start), "a request writes nothing");
    flow::connect::last_seen(&story.shell, &lineage).await;
    assert_eq!(shown(&story, &alice, "edge-07").await.unwrap().last_seen, Some(start + 600));
    // One that comes and goes is not written down each time.
    story.clock.advance(minutes(1) / 2);
    flow::connect::last_seen(&story.shell, &lineage).await;
    assert_eq!(shown(&story, &alice, "edge-07").await.unwrap().last_seen, Some(start + 600));
    // A damaged or missing lineage is no reason to fail.
    let mut changes = Changes::new();
    changes.delete(keys::lineage("none"));
    story.shell.commit(changes, &Actor { who: "gateway", instance: "story" }).await.unwrap();
    flow::connect::last_seen(&story.shell, "none").await;
}

/// A lock and the first use of a certificate with the new name at the same moment: whichever comes second looks again, so that no
/// lock is left on a name that nobody has any more.
#[tokio::test]
async fn a_lock_at_the_very_moment_is_not_slipped_by() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = machine(&story, &alice).await;
    rename(&story, &alice, "edge-07", "rack7-2").await.unwrap();
    let issued = machine.renew(&story).await.unwrap();
    let (peer, shell) = (story.peer(&issued), &story.shell);
    let lineage = machine.caller(&story).await.lineage.record.id.clone();
    let standing = AdmissionRecords {
        certificate: shell.get(keys::certificate(&peer.serial)).await.unwrap(),
        lineage: shell.get(keys::lineage(&lineage)).await.unwrap(),
        subject: shell.get(keys::subject(Role::Machine, "edge-07")).await.unwrap(),
        epoch: shell.get(keys::EPOCH.to_owned()).await.unwrap(),
        ..AdmissionRecords::default()
    };
    let Ok(Admission::Admit(_, Some(changes))) = admission::decide(&peer, &standing, Use::Read, shell.now()) else {
        panic!("it is admitted")
    };
    story.lock(&alice, "machine", "edge-07").await.unwrap();
    let commit = shell.commit(changes, &Actor { who: "machine", instance: "story" }).await;
    assert!(matches!(commit, Err(Retry::Conflict)), "{commit:?}");
    flow::admin::unlock(shell, &alice.caller(&story).await, "machine", "edge-07", "story").await.unwrap();
    // The other way round: whoever has looked up the old name to lock it looks again.
    let epoch = story.epoch().await;
    story.admit(&peer).await.unwrap();
    assert!(story.epoch().await > epoch);
}

/// A certificate with the old name serves nobody any more, not even the programs that are forgiven after a renewal: what they did
/// under that name a lock on the new one would not find.
#[tokio::test]
async fn nothing_begins_under_the_old_name() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = machine(&story, &alice).await;
    let (old, lineage) = (story.peer(&machine.issued), machine.caller(&story).await.lineage.record.id.clone());
    rename(&story, &alice, "edge-07", "rack7-2").await.unwrap();
    let issued = machine.renew(&story).await.unwrap();
    flow::admit::recheck(&story.shell, &old, &lineage).await.unwrap();
    let machine = machine.moved(issued);
    machine.caller(&story).await;
    assert_eq!(story.admit(&old).await.unwrap_err(), Refusal::Replaced);
    assert_eq!(flow::admit::recheck(&story.shell, &old, &lineage).await.unwrap_err(), Refusal::Replaced);
    // It is no second holder for that.
    machine.caller(&story).await;
}

/// Whoever may administer machines by their names may not make by two changes at once what they may not make by one.
#[tokio::test]
async fn what_is_changed_with_the_name_is_judged_under_both() {
    let fixed = r#"
@id("fixed") forbid (principal, action == Lychgate::Action::"administer", resource)
when { resource is Lychgate::Machine && resource.name == "NAME" && resource.labels.contains("env=prod") };"#;
    for (fixed_name, first) in [("edge-07", false), ("rack7-2", false), ("rack7-2", true)] {
        let story = Story::with_policy(|text| format!("{text}{}", fixed.replace("NAME", fixed_name))).await;
        let alice = story.first_person().await;
        machine(&story, &alice).await;
        if first {
            rename(&story, &alice, "edge-07", "rack7-2").await.unwrap();
        }
        let asked = MachineCorrection {
            name: (!first).then(|| "rack7-2".to_owned()),
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            ..MachineCorrection::default()
        };
        let caller = alice.caller(&story).await;
        let answer = flow::set::machine(&story.shell, &caller, "edge-07", &asked, "story").await;
        assert!(matches!(answer, Err(Refusal::Denied { .. })), "{fixed_name}, renamed first: {first}: {answer:?}");
    }
}

/// A certificate that was replaced before anybody used it lives on as well.
#[tokio::test]
async fn the_old_name_is_kept_past_every_certificate_with_it() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = machine(&story, &alice).await;
    story.clock.advance(DAY / 2);
    let alice = story.renewed(alice).await;
    let unused = machine.renew(&story).await.unwrap();
    rename(&story, &alice, "edge-07", "rack7-2").await.unwrap();
    let issued = machine.renew_by(&story, &story::key(), Some("rack7-2")).await.unwrap();
    assert!(unused.identity.ends_with("/edge-07") && issued.identity.ends_with("/rack7-2"));
    story.admit(&story.peer(&issued)).await.unwrap();
    story.clock.advance(DAY / 2 + minutes(2));
    assert!(story.shell.now() <= story.peer(&unused).not_after);
    assert!(taken(&newcomer(&story, "edge-07").await));
}
