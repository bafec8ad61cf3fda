//! Sequences of inputs and outputs of an enrollment, one row each.

use super::*;
use crate::text::report::Exit;

const BRIEF: RetryPolicy = RetryPolicy { patience: Patience::Brief, on_wait: OnWait::Stay };
const SERVICE: RetryPolicy = RetryPolicy { patience: Patience::Endless, on_wait: OnWait::Stay };
const ONCE: RetryPolicy = RetryPolicy { patience: Patience::Once, on_wait: OnWait::Leave };
const NO_WAIT: RetryPolicy = RetryPolicy { patience: Patience::Brief, on_wait: OnWait::Leave };

fn ticket(id: &str) -> PendingApproval {
    PendingApproval {
        id: id.into(),
        nonce: [1; 16],
        expires: 900,
        approvals_missing: 1,
        poll_after: Duration::from_secs(3),
    }
}

fn wait(id: &str, took: u64) -> EnrollmentInput {
    EnrollmentInput::Reply(EnrollmentReply::Wait { ticket: ticket(id), took: Duration::from_secs(took) })
}

fn refused(code: &str) -> EnrollmentInput {
    EnrollmentInput::Reply(EnrollmentReply::Refused(refusal(code, None)))
}

fn refusal(code: &str, retry_after: Option<u64>) -> Refusal {
    Refusal {
        status: 403,
        code: code.into(),
        detail: "no".into(),
        hint: None,
        instance: String::new(),
        retry_after: retry_after.map(Duration::from_secs),
        rules: vec![],
    }
}

fn down() -> Complaint {
    Complaint::new(Exit::Unreachable, "unreachable", "down")
}

fn issued() -> EnrollmentInput {
    EnrollmentInput::Reply(EnrollmentReply::Issued(Box::new(Issued::example())))
}

/// Name of an output's variant.
fn name(output: &EnrollmentOutput) -> String {
    match output {
        EnrollmentOutput::Submit => "submit".into(),
        EnrollmentOutput::Answer(challenge) => format!("answer {}", challenge.ticket),
        EnrollmentOutput::Poll { id, patience: PollWait::Long } => format!("poll {id}"),
        EnrollmentOutput::Poll { id, patience: PollWait::AtOnce } => format!("ask {id}"),
        EnrollmentOutput::Pause { why: None, .. } => "pause".into(),
        EnrollmentOutput::Pause { why: Some(why), .. } => format!("pause because {why}"),
        EnrollmentOutput::Announce(ticket) => format!("announce {}", ticket.id),
        EnrollmentOutput::Install(_) => "install".into(),
        EnrollmentOutput::Leave(ticket) => format!("leave {}", ticket.id),
        EnrollmentOutput::GiveUp(complaint, Forget::Nothing) => format!("give up: {}", complaint.code),
        EnrollmentOutput::GiveUp(complaint, Forget::Approval) => format!("give up and ask again: {}", complaint.code),
        EnrollmentOutput::GiveUp(complaint, Forget::Question) => format!("give up and drop: {}", complaint.code),
        EnrollmentOutput::GiveUp(complaint, Forget::Request) => format!("give up and forget: {}", complaint.code),
    }
}

#[track_caller]
fn check(mut flow: Enrollment, story: Vec<(EnrollmentInput, &str)>) {
    for (at, (input, want)) in story.into_iter().enumerate() {
        let (next, output) = flow.step(input, 0);
        assert_eq!(name(&output), want, "step {at}");
        flow = next;
    }
}

#[test]
fn admitted_at_once() {
    check(Enrollment::ask(BRIEF), vec![(EnrollmentInput::Continue, "submit"), (issued(), "install")]);
}

fn challenge(ticket: &str) -> EnrollmentInput {
    EnrollmentInput::Reply(EnrollmentReply::Challenge(Challenge {
        asks: vec![("tpm".into(), "?".into())],
        ticket: ticket.into(),
    }))
}

#[test]
fn answers_a_challenge_and_is_admitted_or_waits() {
    let start = [(EnrollmentInput::Continue, "submit"), (challenge("t1"), "answer t1")];
    for (input, want) in [(issued(), "install"), (wait("e1", 0), "announce e1")] {
        check(Enrollment::ask(BRIEF), start.iter().cloned().chain([(input, want)]).collect());
    }
}

#[test]
fn an_answer_that_may_be_lost_is_sent_again_with_its_ticket() {
    check(
        Enrollment::ask(SERVICE),
        vec![
            (EnrollmentInput::Continue, "submit"),
            (challenge("t1"), "answer t1"),
            (EnrollmentInput::Reply(EnrollmentReply::NoAnswer(down())), "pause because down"),
            (EnrollmentInput::Continue, "answer t1"),
            (issued(), "install"),
        ],
    );
}

#[test]
fn a_ticket_that_is_not_good_any_more_is_asked_for_again() {
    check(
        Enrollment::ask(BRIEF),
        vec![
            (EnrollmentInput::Continue, "submit"),
            (challenge("t1"), "answer t1"),
            (refused("ticket-expired"), "submit"),
            (challenge("t2"), "answer t2"),
            (refused("tpm-wrong"), "give up and drop: tpm-wrong"),
        ],
    );
}

#[test]
fn nobody_is_asked_for_ever() {
    let mut story = vec![(EnrollmentInput::Continue, "submit")];
    story.extend((0..ROUNDS_MAX).map(|_| (challenge("t"), "answer t")));
    let mut more = story.clone();
    more.push((challenge("t"), "give up: asked-too-often"));
    check(Enrollment::ask(SERVICE), more);
    story.push((refused("ticket-spent"), "give up: ticket-spent"));
    check(Enrollment::ask(SERVICE), story);
}

#[test]
fn waits_announces_once_and_is_admitted() {
    check(
        Enrollment::ask(BRIEF),
        vec![
            (EnrollmentInput::Continue, "submit"),
            (wait("e1", 0), "announce e1"),
            (EnrollmentInput::Continue, "poll e1"),
            (wait("e1", 25), "poll e1"),
            (wait("e1", 25), "poll e1"),
            (issued(), "install"),
        ],
    );
}

#[test]
fn a_gateway_that_answers_polls_at_once_is_not_hammered() {
    check(
        Enrollment::ask(BRIEF),
        vec![
            (EnrollmentInput::Continue, "submit"),
            (wait("e1", 0), "announce e1"),
            (EnrollmentInput::Continue, "poll e1"),
            (wait("e1", 0), "pause"),
            (EnrollmentInput::Continue, "poll e1"),
        ],
    );
}

#[test]
fn a_second_approval_is_news() {
    let mut later = ticket("e1");
    later.approvals_missing = 0;
    check(
        Enrollment::ask(BRIEF),
        vec![
            (EnrollmentInput::Continue, "submit"),
            (wait("e1", 0), "announce e1"),
            (
                EnrollmentInput::Reply(EnrollmentReply::Wait { ticket: later, took: Duration::from_secs(25) }),
                "announce e1",
            ),
        ],
    );
}

#[test]
fn resuming_polls_and_shows_the_code_again() {
    check(
        Enrollment::resume(BRIEF, "e1".into()),
        vec![
            (EnrollmentInput::Continue, "ask e1"),
            (wait("e1", 0), "announce e1"),
            (EnrollmentInput::Continue, "poll e1"),
            (issued(), "install"),
        ],
    );
}

#[test]
fn a_request_the_gateway_lost_is_asked_anew() {
    check(
        Enrollment::resume(BRIEF, "e1".into()),
        vec![
            (EnrollmentInput::Continue, "ask e1"),
            (refused("not-found"), "submit"),
            (wait("e2", 0), "announce e2"),
            (EnrollmentInput::Continue, "poll e2"),
        ],
    );
}

#[test]
fn losing_it_twice_is_an_error() {
    check(
        Enrollment::resume(BRIEF, "e1".into()),
        vec![
            (EnrollmentInput::Continue, "ask e1"),
            (refused("not-found"), "submit"),
            (refused("not-found"), "give up and drop: not-found"),
        ],
    );
}

#[test]
fn no_wait_leaves_with_the_ticket() {
    check(Enrollment::ask(NO_WAIT), vec![(EnrollmentInput::Continue, "submit"), (wait("e1", 0), "leave e1")]);
    check(
        Enrollment::resume(NO_WAIT, "e1".into()),
        vec![(EnrollmentInput::Continue, "ask e1"), (wait("e1", 25), "leave e1")],
    );
}

#[test]
fn a_closed_port_is_an_error_at_the_keyboard() {
    check(
        Enrollment::ask(BRIEF),
        vec![
            (EnrollmentInput::Continue, "submit"),
            (EnrollmentInput::Reply(EnrollmentReply::NotSent(down())), "give up: unreachable"),
        ],
    );
}

#[test]
fn a_service_tries_for_ever() {
    let mut story = vec![(EnrollmentInput::Continue, "submit")];
    for _ in 0..40 {
        story.push((EnrollmentInput::Reply(EnrollmentReply::NotSent(down())), "pause because down"));
        story.push((EnrollmentInput::Continue, "submit"));
    }
    check(Enrollment::ask(SERVICE), story);
}

/// Overload is retried: for a minute by default, for the time given, or without limit.
#[test]
fn what_may_pass_is_tried_again_within_limits() {
    let lost = || EnrollmentReply::NoAnswer(down());
    let cut = || EnrollmentReply::TurnedAway(down());
    let busy = || EnrollmentReply::Refused(refusal("rate-limited", Some(10)));
    let closed = || EnrollmentReply::NotSent(down());
    let minute = LOAD_PATIENCE.as_secs();
    for (heard, patience, least, most) in [
        (&lost as &dyn Fn() -> EnrollmentReply, Patience::Brief, minute / 2, minute),
        (&cut, Patience::Brief, minute / 2, minute),
        (&busy, Patience::Brief, minute / 2, minute),
        (&cut, Patience::Once, minute / 2, minute),
        (&closed, Patience::Brief, 0, 0),
        (&closed, Patience::Once, 0, 0),
        (&closed, Patience::UpTo(Duration::from_secs(600)), 400, 600),
        (&cut, Patience::UpTo(Duration::from_secs(600)), 400, 600),
        (&cut, Patience::UpTo(Duration::ZERO), 0, 0),
        (&closed, Patience::Endless, 10_000, u64::MAX),
    ] {
        let (mut flow, _) =
            Enrollment::ask(RetryPolicy { patience, on_wait: OnWait::Stay }).step(EnrollmentInput::Continue, 0);
        let mut paused = Duration::ZERO;
        for _ in 0..1_000 {
            let (next, output) = flow.step(EnrollmentInput::Reply(heard()), u64::MAX);
            let EnrollmentOutput::Pause { length, .. } = output else { break };
            paused += length;
            flow = next.step(EnrollmentInput::Continue, 0).0;
        }
        assert!((least..=most).contains(&paused.as_secs()), "{:?} {patience:?}: {paused:?}", heard());
    }
}

/// Only a person's denial ends the enrollment of a service; after `join` has failed, key and gateway are kept for the next `join`.
#[test]
fn a_request_that_lapsed_is_asked_anew_with_the_same_key() {
    check(
        Enrollment::resume(SERVICE, "e1".into()),
        vec![
            (EnrollmentInput::Continue, "ask e1"),
            (refused("waiting-expired"), "pause because no"),
            (EnrollmentInput::Continue, "submit"),
            (wait("e2", 0), "announce e2"),
        ],
    );
    check(
        Enrollment::resume(ONCE, "e1".into()),
        vec![
            (EnrollmentInput::Continue, "ask e1"),
            (refused("waiting-expired"), "pause because no"),
            (EnrollmentInput::Continue, "submit"),
            (wait("e2", 0), "leave e2"),
        ],
    );
    for policy in [BRIEF, NO_WAIT] {
        let story = vec![
            (EnrollmentInput::Continue, "ask e1"),
            (refused("waiting-expired"), "give up and ask again: waiting-expired"),
        ];
        check(Enrollment::resume(policy, "e1".into()), story);
    }
}

#[test]
fn waiting_survives_restarts_of_the_gateway() {
    let mut story = vec![(EnrollmentInput::Continue, "submit"), (wait("e1", 0), "announce e1")];
    for _ in 0..20 {
        story.push((EnrollmentInput::Continue, "poll e1"));
        story.push((EnrollmentInput::Reply(EnrollmentReply::NotSent(down())), "pause because down"));
    }
    story.push((EnrollmentInput::Continue, "poll e1"));
    story.push((refused("unavailable"), "pause because no"));
    story.push((EnrollmentInput::Continue, "poll e1"));
    story.push((issued(), "install"));
    check(Enrollment::ask(BRIEF), story);
}

#[test]
fn refusals_end_it() {
    for (code, at_the_keyboard, by_a_service, while_waiting) in [
        ("denied", "give up and drop: denied", "give up: denied", "give up: denied"),
        ("token-expired", "give up and drop: token-expired", "give up: token-expired", "give up: token-expired"),
        ("name-taken", "give up and drop: name-taken", "give up: name-taken", "give up: name-taken"),
        ("locked", "give up and drop: locked", "give up: locked", "give up: locked"),
        (
            "denied-by-person",
            "give up and forget: denied-by-person",
            "give up and forget: denied-by-person",
            "give up and forget: denied-by-person",
        ),
        ("new-code", "give up and drop: new-code", "give up: new-code", "give up: new-code"),
    ] {
        for (policy, want) in [(BRIEF, at_the_keyboard), (ONCE, by_a_service), (SERVICE, by_a_service)] {
            let asking = vec![
                (EnrollmentInput::Continue, "submit"),
                (refused(code), want),
                (EnrollmentInput::Continue, "give up: internal"),
            ];
            check(Enrollment::ask(policy), asking);
        }
        check(
            Enrollment::resume(BRIEF, "e1".into()),
            vec![(EnrollmentInput::Continue, "ask e1"), (refused(code), while_waiting)],
        );
    }
}

#[test]
fn a_busy_gateway_is_waited_for_if_it_will_not_be_long() {
    let busy = |secs| EnrollmentInput::Reply(EnrollmentReply::Refused(refusal("rate-limited", Some(secs))));
    check(
        Enrollment::ask(BRIEF),
        vec![
            (EnrollmentInput::Continue, "submit"),
            (busy(10), "pause because no"),
            (EnrollmentInput::Continue, "submit"),
        ],
    );
    check(Enrollment::ask(BRIEF), vec![(EnrollmentInput::Continue, "submit"), (busy(3_600), "give up: rate-limited")]);
    check(Enrollment::ask(SERVICE), vec![(EnrollmentInput::Continue, "submit"), (busy(3_600), "pause because no")]);
}

#[test]
fn retry_after_is_obeyed() {
    let (flow, _) = Enrollment::ask(SERVICE).step(EnrollmentInput::Continue, 0);
    let (_, output) =
        flow.step(EnrollmentInput::Reply(EnrollmentReply::Refused(refusal("rate-limited", Some(100)))), 0);
    let EnrollmentOutput::Pause { length, .. } = output else { panic!("{output:?}") };
    assert_eq!(length, Duration::from_secs(100));
}

#[test]
fn the_wrong_gateway_is_hopeless_in_every_state() {
    let wrong =
        || EnrollmentInput::Reply(EnrollmentReply::Hopeless(Complaint::new(Exit::Untrusted, "wrong-pin", "no")));
    check(Enrollment::ask(SERVICE), vec![(EnrollmentInput::Continue, "submit"), (wrong(), "give up: wrong-pin")]);
    check(
        Enrollment::resume(SERVICE, "e".into()),
        vec![(EnrollmentInput::Continue, "ask e"), (wrong(), "give up: wrong-pin")],
    );
}
