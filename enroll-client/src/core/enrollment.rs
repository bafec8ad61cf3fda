//! The conversation with which a machine or person joins, as a state machine: what was heard goes in, what to do next comes
//! out. It has no clock, no random numbers, no socket; [`crate::flow::enroll`] drives it.

use std::time::Duration;

use crate::core::receive::{Issued, PendingApproval};
use crate::core::renew::backoff;
use crate::text::report::{Complaint, Exit, Refusal};

/// Longest pause between attempts while a person waits at the keyboard or a request waits at the gate: a restart of the
/// gateway is noticed within the minute.
pub const PAUSE_MOST: Duration = Duration::from_secs(60);

/// How long to try again when what load turned away is asked for by somebody who said no time of their own: a crowd that comes at
/// once, such as a rack that is switched on, is through by then.
pub const LOAD_PATIENCE: Duration = Duration::from_secs(60);

/// A poll answered sooner than this was not a long one, and the next must wait as the gateway said.
pub const LONG_POLL_LEAST: Duration = Duration::from_secs(5);

/// Most times that the gateway may ask back in one conversation: two rounds of an attestor, and once more from the beginning, twice.
pub const ROUNDS_MAX: u32 = 6;

/// Bounds of the pause between polls that are not long.
const POLL_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What an attestor of the gateway asked back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Kind and question of each.
    pub asks: Vec<(String, String)>,
    /// To be sent along with the answers.
    pub ticket: String,
}

/// What came of the last request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrollmentReply {
    /// A certificate.
    Issued(Box<Issued>),
    /// A person must decide; `took` is how long the answer took.
    Wait {
        /// The request at the gate.
        ticket: PendingApproval,
        /// How long the answer took.
        took: Duration,
    },
    /// The gateway asks back.
    Challenge(Challenge),
    /// The gateway refused.
    Refused(Refusal),
    /// The gateway could not be reached: nothing was sent.
    NotSent(Complaint),
    /// The gateway, or something before it, hung up before anything was said: too many come at once.
    TurnedAway(Complaint),
    /// Something was sent and no answer came: it may or may not have arrived.
    NoAnswer(Complaint),
    /// Something that trying again does not mend: the wrong gateway, a damaged reply.
    Hopeless(Complaint),
}

/// What goes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrollmentInput {
    /// Go on: the last output was carried out and gave nothing.
    Continue,
    /// The answer to the last request.
    Reply(EnrollmentReply),
}

/// What must not survive a failure, in the order of how much that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forget {
    /// Nothing: the same request may be sent again as it is.
    Nothing,
    /// The request at the gate: it lapsed. The same key may ask again.
    Approval,
    /// What was asked, such as a token that is not good; the same key may ask again.
    Question,
    /// The request and its key: a person decided about this key. That is remembered.
    Request,
}

/// What comes out: one thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrollmentOutput {
    /// Send the enrollment.
    Submit,
    /// Send the enrollment with the answers.
    Answer(Challenge),
    /// Ask how it stands.
    Poll {
        /// The enrollment.
        id: String,
        /// For how long the gateway may hold the question.
        patience: PollWait,
    },
    /// Do nothing for a while; say why when there is a reason.
    Pause {
        /// The length of the pause.
        length: Duration,
        /// What went wrong.
        why: Option<Complaint>,
    },
    /// Remember the request and show its code.
    Announce(PendingApproval),
    /// The end: install the certificate.
    Install(Box<Issued>),
    /// The end for now: somebody must approve, and the caller does not want to wait.
    Leave(PendingApproval),
    /// The end.
    GiveUp(Complaint, Forget),
}

/// For how long the gateway may hold a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollWait {
    /// Not at all: somebody waits to see the code.
    AtOnce,
    /// Until something changes, within the limit of the protocol.
    Long,
}

/// How long to put up with a gateway that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Somebody waits at the keyboard: a closed port is an error at once, load is waited out for [`LOAD_PATIENCE`].
    Brief,
    /// The same, for as long as they said, and a closed port is no reason to give up sooner.
    UpTo(Duration),
    /// A service that does what is due now: as `Brief`, but what was asked stays, for the next time.
    Once,
    /// A service: for ever.
    Endless,
}

/// Whether to wait for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnWait {
    /// Stay and poll.
    Stay,
    /// Leave with the ticket.
    Leave,
}

/// What does not change during the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How long to put up with silence.
    pub patience: Patience,
    /// What to do when a person must decide.
    pub on_wait: OnWait,
}

/// The conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrollment {
    /// Nothing is known to be recorded at the gateway.
    Asking(Asking),
    /// Nothing is recorded there yet: it asked back.
    Challenged(Challenged),
    /// The request is recorded there.
    Waiting(Waiting),
    /// Over.
    Closed,
}

/// State of [`Enrollment::Asking`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    policy: RetryPolicy,
    failures: u32,
    /// The pauses so far.
    paused: Duration,
    /// How often the gateway has asked back in all.
    rounds: u32,
}

/// State of [`Enrollment::Challenged`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenged {
    /// What to go back to when the challenge is not good any more.
    asking: Asking,
    challenge: Challenge,
    /// How often the gateway has asked back in all.
    rounds: u32,
}

/// State of [`Enrollment::Waiting`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    policy: RetryPolicy,
    id: String,
    failures: u32,
    /// What was announced last; a change is announced again.
    announced: Option<PendingApproval>,
}

impl Patience {
    /// Whether nobody is at the keyboard: what was asked is asked again, now or by the next one to come.
    const fn is_a_service(self) -> bool {
        match self {
            Self::Once | Self::Endless => true,
            Self::Brief | Self::UpTo(_) => false,
        }
    }

    /// How long to pause in all; `worth_it` says whether somebody at the keyboard who said nothing would wait at all. Nothing: for
    /// ever.
    #[must_use]
    pub fn limit(self, worth_it: bool) -> Option<Duration> {
        match self {
            Self::Brief | Self::Once => Some(if worth_it { LOAD_PATIENCE } else { Duration::ZERO }),
            Self::UpTo(limit) => Some(limit),
            Self::Endless => None,
        }
    }
}

impl Enrollment {
    /// A new request.
    #[must_use]
    pub const fn ask(policy: RetryPolicy) -> Self {
        Self::Asking(Asking::new(policy))
    }

    /// A request that was recorded before, in another run.
    #[must_use]
    pub const fn resume(policy: RetryPolicy, id: String) -> Self {
        Self::Waiting(Waiting { policy, id, failures: 0, announced: None })
    }

    /// One step. `draw` is random, for the length of pauses.
    #[must_use]
    pub fn step(self, input: EnrollmentInput, draw: u64) -> (Self, EnrollmentOutput) {
        match self {
            Self::Asking(asking) => asking.step(input, draw),
            Self::Challenged(challenged) => challenged.step(input, draw),
            Self::Waiting(waiting) => waiting.step(input, draw),
            Self::Closed => (Self::Closed, closed()),
        }
    }
}

/// A driver that goes on after the end has a fault; it is told so rather than sent round again.
fn closed() -> EnrollmentOutput {
    EnrollmentOutput::GiveUp(
        Complaint::new(Exit::Failure, "internal", "the conversation is already over"),
        Forget::Nothing,
    )
}

/// The end, badly.
fn give_up(complaint: Complaint, forget: Forget) -> (Enrollment, EnrollmentOutput) {
    (Enrollment::Closed, EnrollmentOutput::GiveUp(complaint, forget))
}

/// What a refusal leaves. Only what a person decided about this key will not change; asking again needs another one then.
fn forget_after(refusal: &Refusal) -> Forget {
    match refusal.code.as_str() {
        "denied-by-person" | "retired" => Forget::Request,
        "waiting-expired" => Forget::Approval,
        _ => Forget::Nothing,
    }
}

impl Asking {
    const fn new(policy: RetryPolicy) -> Self {
        Self { policy, failures: 0, paused: Duration::ZERO, rounds: 0 }
    }

    fn step(self, input: EnrollmentInput, draw: u64) -> (Enrollment, EnrollmentOutput) {
        match input {
            EnrollmentInput::Continue => (Enrollment::Asking(self), EnrollmentOutput::Submit),
            EnrollmentInput::Reply(EnrollmentReply::Issued(issued)) => {
                (Enrollment::Closed, EnrollmentOutput::Install(issued))
            }
            EnrollmentInput::Reply(EnrollmentReply::Wait { ticket, .. }) => {
                let waiting = Waiting { policy: self.policy, id: ticket.id.clone(), failures: 0, announced: None };
                waiting.announce(ticket)
            }
            EnrollmentInput::Reply(EnrollmentReply::Challenge(challenge)) => {
                let rounds = self.rounds.saturating_add(1);
                if rounds > ROUNDS_MAX {
                    return give_up(no_end(), Forget::Nothing);
                }
                let challenged = Challenged { asking: Self { rounds, ..self }, challenge: challenge.clone(), rounds };
                (Enrollment::Challenged(challenged), EnrollmentOutput::Answer(challenge))
            }
            EnrollmentInput::Reply(EnrollmentReply::Refused(refusal)) if refusal.is_passing() => {
                let patient = refusal.retry_after.is_none_or(|asked| asked <= PAUSE_MOST);
                self.again(refusal.complaint(), refusal.retry_after, patient, draw)
            }
            EnrollmentInput::Reply(EnrollmentReply::Refused(refusal)) => {
                // A person types another token; a service asks again, later, what it was told to ask.
                let service = self.policy.patience.is_a_service();
                let least = if service { Forget::Nothing } else { Forget::Question };
                let forget = forget_after(&refusal).max(least);
                give_up(refusal.complaint(), forget)
            }
            EnrollmentInput::Reply(EnrollmentReply::NotSent(complaint)) => self.again(complaint, None, false, draw),
            EnrollmentInput::Reply(EnrollmentReply::NoAnswer(complaint) | EnrollmentReply::TurnedAway(complaint)) => {
                self.again(complaint, None, true, draw)
            }
            EnrollmentInput::Reply(EnrollmentReply::Hopeless(complaint)) => give_up(complaint, Forget::Nothing),
        }
    }

    /// Tries again, or not: `worth_it` says whether somebody at the keyboard would want that.
    fn again(
        mut self,
        why: Complaint,
        asked: Option<Duration>,
        worth_it: bool,
        draw: u64,
    ) -> (Enrollment, EnrollmentOutput) {
        self.failures = self.failures.saturating_add(1);
        let limit = self.policy.patience.limit(worth_it);
        let most = limit.map_or(PAUSE_MOST, |limit| PAUSE_MOST.min(limit / 4));
        let length = backoff(self.failures, most, asked, draw);
        self.paused = self.paused.saturating_add(length);
        if limit.is_some_and(|limit| self.paused > limit) {
            return give_up(why, Forget::Nothing);
        }
        (Enrollment::Asking(self), EnrollmentOutput::Pause { length, why: Some(why) })
    }
}

impl Challenged {
    /// The answer is heard as if the first question had been: only what concerns the challenge itself is different.
    fn step(self, input: EnrollmentInput, draw: u64) -> (Enrollment, EnrollmentOutput) {
        match input {
            // After a pause: the ticket is still good, or the gateway says that it is not.
            EnrollmentInput::Continue => {
                let challenge = self.challenge.clone();
                (Enrollment::Challenged(self), EnrollmentOutput::Answer(challenge))
            }
            // It ended while a slow device worked or the line was down: begin anew.
            EnrollmentInput::Reply(EnrollmentReply::Refused(refusal)) if is_of_the_ticket(&refusal.code) => {
                if self.rounds >= ROUNDS_MAX {
                    return give_up(refusal.complaint(), Forget::Nothing);
                }
                (Enrollment::Asking(self.asking), EnrollmentOutput::Submit)
            }
            other => match self.asking.step(other, draw) {
                (Enrollment::Asking(asking), pause @ EnrollmentOutput::Pause { .. }) => {
                    (Enrollment::Challenged(Self { asking, ..self }), pause)
                }
                next => next,
            },
        }
    }
}

/// Whether a refusal is of the ticket and not of the evidence.
fn is_of_the_ticket(code: &str) -> bool {
    matches!(code, "ticket-invalid" | "ticket-expired" | "ticket-spent")
}

/// For a gateway that asks back without end.
fn no_end() -> Complaint {
    Complaint::new(Exit::Failure, "asked-too-often", format!("the gateway asked back more than {ROUNDS_MAX} times"))
}

impl Waiting {
    fn step(mut self, input: EnrollmentInput, draw: u64) -> (Enrollment, EnrollmentOutput) {
        match input {
            EnrollmentInput::Continue => self.poll(),
            EnrollmentInput::Reply(EnrollmentReply::Issued(issued)) => {
                (Enrollment::Closed, EnrollmentOutput::Install(issued))
            }
            EnrollmentInput::Reply(EnrollmentReply::Wait { ticket, took }) => {
                self.failures = 0;
                if self.is_news(&ticket) {
                    return self.announce(ticket);
                }
                let (least, most) = POLL_AFTER;
                let length = ticket.poll_after.clamp(least, most).saturating_sub(took);
                if took >= LONG_POLL_LEAST || length.is_zero() {
                    self.poll()
                } else {
                    (Enrollment::Waiting(self), EnrollmentOutput::Pause { length, why: None })
                }
            }
            EnrollmentInput::Reply(EnrollmentReply::Refused(refusal)) if refusal.is_passing() => {
                self.again(refusal.complaint(), refusal.retry_after, draw)
            }
            // The gateway knows nothing of it (its store was restored, or the record was cleared away): ask anew with the
            // same key, which is what the gateway expects of a request that may have been lost.
            EnrollmentInput::Reply(EnrollmentReply::Refused(refusal)) if refusal.code == "not-found" => {
                (Enrollment::Asking(Asking::new(self.policy)), EnrollmentOutput::Submit)
            }
            // Nobody came in time. That decides nothing: a service asks again by itself, with the same key.
            EnrollmentInput::Reply(EnrollmentReply::Refused(refusal))
                if refusal.code == "waiting-expired" && self.policy.patience.is_a_service() =>
            {
                let length = backoff(1, PAUSE_MOST, refusal.retry_after, draw);
                (
                    Enrollment::Asking(Asking::new(self.policy)),
                    EnrollmentOutput::Pause { length, why: Some(refusal.complaint()) },
                )
            }
            EnrollmentInput::Reply(EnrollmentReply::Refused(refusal)) => {
                give_up(refusal.complaint(), forget_after(&refusal))
            }
            // A poll brings no evidence that anybody could ask about.
            EnrollmentInput::Reply(EnrollmentReply::Challenge(_)) => give_up(no_end(), Forget::Nothing),
            EnrollmentInput::Reply(
                EnrollmentReply::NotSent(complaint)
                | EnrollmentReply::TurnedAway(complaint)
                | EnrollmentReply::NoAnswer(complaint),
            ) => self.again(complaint, None, draw),
            EnrollmentInput::Reply(EnrollmentReply::Hopeless(complaint)) => give_up(complaint, Forget::Nothing),
        }
    }

    fn poll(self) -> (Enrollment, EnrollmentOutput) {
        let id = self.id.clone();
        let patience = if self.announced.is_some() { PollWait::Long } else { PollWait::AtOnce };
        (Enrollment::Waiting(self), EnrollmentOutput::Poll { id, patience })
    }

    /// Whether the person should see this: the code is new, or fewer approvals are missing than before.
    fn is_news(&self, ticket: &PendingApproval) -> bool {
        self.announced.as_ref().is_none_or(|told| {
            told.id != ticket.id
                || told.nonce != ticket.nonce
                || told.expires != ticket.expires
                || told.approvals_missing != ticket.approvals_missing
        })
    }

    fn announce(mut self, ticket: PendingApproval) -> (Enrollment, EnrollmentOutput) {
        self.id.clone_from(&ticket.id);
        match self.policy.on_wait {
            OnWait::Leave => (Enrollment::Closed, EnrollmentOutput::Leave(ticket)),
            OnWait::Stay => {
                self.announced = Some(ticket.clone());
                (Enrollment::Waiting(self), EnrollmentOutput::Announce(ticket))
            }
        }
    }

    /// A request at the gate outlives the gateway's restarts, whoever waits.
    fn again(mut self, why: Complaint, asked: Option<Duration>, draw: u64) -> (Enrollment, EnrollmentOutput) {
        self.failures = self.failures.saturating_add(1);
        let length = backoff(self.failures, PAUSE_MOST, asked, draw);
        (Enrollment::Waiting(self), EnrollmentOutput::Pause { length, why: Some(why) })
    }
}

#[cfg(test)]
#[path = "enrollment_tests.rs"]
mod tests;
