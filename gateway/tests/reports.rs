//! Stories of reports about machines: who may make them, what is remembered, and until when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::flow::asked::TokenWish;
use gateway::flow::views::AuditEntry;
use gateway::{
    core::refusal::{Missing, Refusal},
    flow::{admin, reports},
};
use pki::Role;
use story::{Member, Story, all, minutes};
use wire::{
    admin::{ConvergenceView, ReportRequest},
    limits::{REPORT_BODY_MAX, REPORT_PLAY_MAX, REPORT_TOOL_MAX, REPORT_WORD_MAX},
};

fn run(run_id: &str) -> ReportRequest {
    ReportRequest {
        tool: "ansible".into(),
        version: Some("2.19.1".into()),
        run_id: Some(run_id.into()),
        play: Some("site.yml".into()),
        started: 100,
        finished: 160,
        ok: 7,
        changed: 3,
        failed: 0,
        unreachable: 0,
        skipped: 1,
    }
}

async fn report(story: &Story, by: &Member, machine: &str, asked: &ReportRequest) -> Result<(), Refusal> {
    reports::report(&story.shell, &by.caller(story).await, machine, &asked.clone().into(), "story").await
}

async fn shown(story: &Story, by: &Member, machine: &str) -> Option<ConvergenceView> {
    let caller = by.caller(story).await;
    admin::subject(&story.shell, &caller, Role::Machine, machine).await.unwrap().convergence.map(Into::into)
}

async fn converged(story: &Story, by: &Member) -> Vec<AuditEntry> {
    story.events(by).await.into_iter().filter(|row| row.event == "machine.converged").collect()
}

#[tokio::test]
async fn a_report_is_shown_with_who_and_when_by_the_gateways_clock() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let _machines = (story.machine("edge-1").await, story.machine("edge-2").await);
    assert_eq!(shown(&story, &alice, "edge-1").await, None);
    report(&story, &alice, "edge-1", &run("run-1")).await.unwrap();
    let want = ConvergenceView {
        tool: "ansible".into(),
        version: Some("2.19.1".into()),
        run_id: Some("run-1".into()),
        play: Some("site.yml".into()),
        started: 100,
        finished: 160,
        ok: 7,
        changed: 3,
        failed: 0,
        unreachable: 0,
        skipped: 1,
        by: alice.issued.identity.clone(),
        at: story.shell.now().secs(),
    };
    assert_eq!(shown(&story, &alice, "edge-1").await, Some(want.clone()));
    assert_eq!(shown(&story, &alice, "edge-2").await, None);
    let caller = alice.caller(&story).await;
    let listing = admin::subjects(&story.shell, &caller, Role::Machine, None, 100).await.unwrap();
    let listed: Vec<_> = listing.items.into_iter().map(|row| (row.name, row.convergence.map(Into::into))).collect();
    assert_eq!(listed, [("edge-1".to_owned(), Some(want)), ("edge-2".to_owned(), None)]);
    let events = converged(&story, &alice).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].subject, "spiffe://test.example/machine/edge-1");
    assert_eq!((events[0].actor.as_str(), &events[0].rules), (&*alice.issued.identity, &vec!["admins".to_owned()]));
    let told = ["tool", "version", "run_id", "play", "ok", "changed", "failed", "unreachable", "skipped"]
        .map(|field| events[0].detail[field].as_str());
    assert_eq!(told, ["ansible", "2.19.1", "run-1", "site.yml", "7", "3", "0", "0", "1"]);
}

#[tokio::test]
async fn a_report_sent_again_is_one_report() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let _machine = story.machine("edge-1").await;
    report(&story, &alice, "edge-1", &run("run-1")).await.unwrap();
    let (first, records) = (shown(&story, &alice, "edge-1").await, story.everything().await);
    story.clock.advance(minutes(1));
    report(&story, &alice, "edge-1", &run("run-1")).await.unwrap();
    assert_eq!(shown(&story, &alice, "edge-1").await, first);
    assert_eq!(story.everything().await, records, "not even an event");
    // The same run, told otherwise: it takes the place of what was told before.
    let corrected = ReportRequest { failed: 1, ..run("run-1") };
    report(&story, &alice, "edge-1", &corrected).await.unwrap();
    report(&story, &alice, "edge-1", &run("run-2")).await.unwrap();
    let last = shown(&story, &alice, "edge-1").await.unwrap();
    assert_eq!((last.run_id.as_deref(), last.failed), (Some("run-2"), 0));
    assert_eq!(story.everything().await, records + 2, "one record a machine; two events more");
    assert_eq!(converged(&story, &alice).await.len(), 3);
}

#[tokio::test]
async fn reports_at_once_all_count_and_one_is_the_last() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let _machine = story.machine("edge-1").await;
    let asked: Vec<ReportRequest> = (0..8).map(|index| run(&format!("run-{index}"))).collect();
    for outcome in all(asked.iter().map(|asked| report(&story, &alice, "edge-1", asked))).await {
        outcome.unwrap();
    }
    assert_eq!(converged(&story, &alice).await.len(), 8);
    assert!(shown(&story, &alice, "edge-1").await.is_some());
}

#[tokio::test]
async fn who_may_report() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let bob = story.person("bob", &[]).await;
    let owned = TokenWish { owner: Some("bob".into()), ..TokenWish::default() };
    let (token, stranger) = (story.token(owned).await, story.stranger());
    let issued = stranger.join(&token, "edge-1").await.unwrap().issued();
    let one = stranger.into_member(issued);
    let (two, carol) = (story.machine("edge-2").await, story.person("carol", &[]).await);
    let (run, hidden) = (run("run-1"), Refusal::NotFound(Missing::Machine));
    for by in [&alice, &one, &bob] {
        report(&story, by, "edge-1", &run).await.unwrap();
        assert_eq!(shown(&story, &alice, "edge-1").await.unwrap().by, by.issued.identity);
    }
    for by in [&two, &carol] {
        assert_eq!(report(&story, by, "edge-1", &run).await.unwrap_err(), hidden);
    }
    assert_eq!(report(&story, &alice, "edge-9", &run).await.unwrap_err(), hidden);
    // A person is no machine, whatever the name.
    assert_eq!(report(&story, &alice, "bob", &run).await.unwrap_err(), hidden);
    // One who may look and not report is told so.
    let watcher = "@id(\"watcher\") permit (principal == Lychgate::Person::\"carol\", \
                   action == Lychgate::Action::\"read\", resource is Lychgate::Machine);";
    story.set_policy(|text| format!("{text}\n{watcher}"));
    let denied = Refusal::Denied { rules: vec![], action: "report" };
    assert_eq!(report(&story, &carol, "edge-1", &run).await.unwrap_err(), denied);
    // A robot that may report and nothing else needs no right to look.
    story.set_policy(|text| format!("{text}\n{}", watcher.replace("\"read\"", "\"report\"")));
    report(&story, &carol, "edge-1", &run).await.unwrap();
    let caller = carol.caller(&story).await;
    assert_eq!(admin::subject(&story.shell, &caller, Role::Machine, "edge-1").await.unwrap_err(), hidden);
}

#[tokio::test]
async fn a_report_goes_with_its_machine() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let _machine = story.machine("edge-1").await;
    report(&story, &alice, "edge-1", &run("run-1")).await.unwrap();
    // A lock is no reason to forget, nor to refuse what an administrator has to say.
    story.lock(&alice, "machine", "edge-1").await.unwrap();
    report(&story, &alice, "edge-1", &run("run-2")).await.unwrap();
    let caller = alice.caller(&story).await;
    admin::remove(&story.shell, &caller, Role::Machine, "edge-1", "i").await.unwrap();
    assert_eq!(report(&story, &alice, "edge-1", &run("run-3")).await.unwrap_err(), Refusal::NotFound(Missing::Machine));
    admin::unlock(&story.shell, &caller, "machine", "edge-1", "i").await.unwrap();
    let again = story.machine("edge-1").await;
    assert_eq!(shown(&story, &alice, "edge-1").await, None);
    report(&story, &again, "edge-1", &run("run-4")).await.unwrap();
    admin::leave(&story.shell, &again.caller(&story).await, "i").await.unwrap();
    let _third = story.machine("edge-1").await;
    assert_eq!(shown(&story, &alice, "edge-1").await, None);
}

#[tokio::test]
async fn whoever_is_approved_and_never_comes_leaves_no_report() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let stranger = story.stranger();
    let waiting = stranger.ask("edge-1").await.waiting();
    story.approve(&alice, &waiting.id, &stranger.code(&waiting)).await.unwrap();
    report(&story, &alice, "edge-1", &run("run-1")).await.unwrap();
    story.clock.advance(story::DAY * 9);
    gateway::flow::sweep::sweep(&story.shell).await.unwrap();
    let alice = story.renewed(alice).await;
    let _machine = story.machine("edge-1").await;
    assert_eq!(shown(&story, &alice, "edge-1").await, None);
}

#[track_caller]
fn says(outcome: Result<(), Refusal>, field: &str) {
    let Err(Refusal::Malformed(why)) = outcome else { panic!("{outcome:?} for {field}") };
    let text = why.to_string();
    assert!(text.contains(&format!("`{field}`")), "{text}");
}

#[tokio::test]
async fn a_report_that_makes_no_sense_is_refused_in_words() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let _machine = story.machine("edge-1").await;
    // Her first request makes her certificate the current one, which is written.
    alice.caller(&story).await;
    let before = story.everything().await;
    let long = |max: usize| "x".repeat(max + 1);
    let cases = [
        ("tool", ReportRequest { tool: String::new(), ..run("r") }),
        ("tool", ReportRequest { tool: long(REPORT_TOOL_MAX), ..run("r") }),
        ("tool", ReportRequest { tool: "an sible".into(), ..run("r") }),
        ("version", ReportRequest { version: Some(String::new()), ..run("r") }),
        ("version", ReportRequest { version: Some("2.19\n".into()), ..run("r") }),
        ("run_id", run("")),
        ("run_id", run(&long(REPORT_WORD_MAX))),
        ("run_id", run("../../x")),
        ("play", ReportRequest { play: Some(long(REPORT_PLAY_MAX)), ..run("r") }),
        ("play", ReportRequest { play: Some("a\u{1b}[2J".into()), ..run("r") }),
        ("finished", ReportRequest { started: 161, ..run("r") }),
        ("finished", ReportRequest { finished: u64::MAX, ..run("r") }),
    ];
    for (field, asked) in cases {
        says(report(&story, &alice, "edge-1", &asked).await, field);
    }
    assert_eq!(story.everything().await, before);
    let longest = ReportRequest {
        tool: "x".repeat(REPORT_TOOL_MAX),
        version: Some("1".repeat(REPORT_WORD_MAX)),
        run_id: Some("r".repeat(REPORT_WORD_MAX)),
        play: Some("\"".repeat(REPORT_PLAY_MAX)),
        started: 0,
        finished: pki::UnixTime::LAST_IN_CERTIFICATES.secs(),
        ..ReportRequest { ok: u32::MAX, changed: u32::MAX, failed: u32::MAX, ..run("r") }
    };
    report(&story, &alice, "edge-1", &longest).await.unwrap();
    // Each byte of its texts may take six in JSON.
    let texts = REPORT_TOOL_MAX + 2 * REPORT_WORD_MAX + REPORT_PLAY_MAX;
    assert!(serde_json::to_vec(&longest).unwrap().len() + 5 * texts < REPORT_BODY_MAX);
}
