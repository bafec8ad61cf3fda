//! State machine of an enrollment: replies of the gateway go in, the next action comes out. It has no clock, no random numbers, no
//! socket; [`crate::flow::enroll`] drives it.

use std::time::Duration;

use crate::core::receive::{Issued, PendingApproval};
use crate::core::renew::backoff;
use crate::text::report::{Complaint, Exit, Refusal};

/// Longest pause between attempts while a person watches or a request waits for approval: the client notices within a minute that
/// the gateway is back.
pub const PAUSE_MOST: Duration = Duration::from_secs(60);

/// Default time of retries when the gateway is overloaded: enough for all machines of a rack that is switched on to enroll.
pub const LOAD_PATIENCE: Duration = Duration::from_secs(60);

/// A poll answered sooner than this was not a long poll, and the next one must wait for the gateway's `poll_after`.
pub const LONG_POLL_LEAST: Duration = Duration::from_secs(5);

/// Most challenges in one enrollment: two rounds of an attestor, started over twice; or an owner who takes half an hour to write what
/// the gateway reads back, with pauses of up to four minutes.
pub const ROUNDS_MAX: u32 = 12;

/// Least and most pause between polls that are not long polls.
const POLL_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Challenges of the gateway's attestors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Kind and body of each challenge.
    pub asks: Vec<(String, String)>,
    /// To be sent along with the answers.
    pub ticket: String,
}

/// The result of the last request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrollmentReply {
    /// A certificate.
    Issued(Box<Issued>),
    /// The request waits for approval.
    Wait {
        /// Its id and waiting code.
        ticket: PendingApproval,
        /// How long the answer took.
        took: Duration,
    },
    /// Attestors of the gateway have challenges.
    Challenge(Challenge),
    /// The gateway refused.
    Refused(Refusal),
    /// No connection, so no request was sent.
    NotSent(Complaint),
    /// The gateway or a load balancer closed the connection before the request was sent: it is overloaded.
    TurnedAway(Complaint),
    /// The request was sent and no reply came: the gateway may have received it.
    NoAnswer(Complaint),
    /// Not worth a retry: the wrong gateway, an invalid reply.
    Hopeless(Complaint),
}

/// Input of the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrollmentInput {
    /// The last output was carried out and has no result.
    Continue,
    /// The reply to the last request.
    Reply(EnrollmentReply),
}

/// What to delete after a failure, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forget {
    /// Nothing: the same request may be sent again.
    Nothing,
    /// The recorded request, which expired. The same key may be used again.
    Approval,
    /// The request's parameters, such as an invalid token. The same key may be used again.
    Question,
    /// The request and its key: a person has denied this key, which is recorded in the folder.
    Request,
}

/// Output of the state machine: one action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrollmentOutput {
    /// Send the enrollment.
    Submit,
    /// Send the enrollment with the answers.
    Answer(Challenge),
    /// Poll the enrollment.
    Poll {
        /// Id of the enrollment.
        id: String,
        /// Whether to use the long poll.
        patience: PollWait,
    },
    /// Wait.
    Pause {
        /// The length of the pause.
        length: Duration,
        /// The failure that is retried afterwards, to be shown.
        why: Option<Complaint>,
    },
    /// Store the request and show its waiting code.
    Announce(PendingApproval),
    /// Finished: install the certificate.
    Install(Box<Issued>),
    /// Finished: the request waits for approval, and the caller does not want to wait.
    Leave(PendingApproval),
    /// Finished with an error.
    GiveUp(Complaint, Forget),
}

/// The `wait` parameter of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollWait {
    /// Zero: the waiting code must be shown soon.
    AtOnce,
    /// [`wire::limits::WAIT_MAX_SECS`].
    Long,
}

/// How long to retry while the gateway does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// For a person who watches: a closed port is an error at once, overload is retried for [`LOAD_PATIENCE`].
    Brief,
    /// For a person who watches: retry for this long, also after a closed port.
    UpTo(Duration),
    /// For `run --once`: as `Brief`, but the request's parameters are kept for the next run.
    Once,
    /// For `run`: without limit.
    Endless,
}

/// What to do while a request waits for approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnWait {
    /// Poll.
    Stay,
    /// End with [`EnrollmentOutput::Leave`].
    Leave,
}

/// Parameters of an enrollment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How long to retry.
    pub patience: Patience,
    /// What to do while the request waits.
    pub on_wait: OnWait,
}

/// The states of an enrollment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrollment {
    /// Whether the gateway has recorded the request is not known.
    Asking(Asking),
    /// The gateway has not recorded the request and has sent challenges.
    Challenged(Challenged),
    /// The gateway has recorded the request, which waits for approval.
    Waiting(Waiting),
    /// The last output has ended it.
    Closed,
}

/// State of [`Enrollment::Asking`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    policy: RetryPolicy,
    failures: u32,
    /// Sum of the pauses so far.
    paused: Duration,
    /// Number of challenges so far.
    rounds: u32,
}

/// State of [`Enrollment::Challenged`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenged {
    /// The state to return to when the challenge's ticket is no longer valid.
    asking: Asking,
    challenge: Challenge,
    /// Number of challenges so far.
    rounds: u32,
}

/// State of [`Enrollment::Waiting`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    policy: RetryPolicy,
    id: String,
    failures: u32,
    /// The last [`EnrollmentOutput::Announce`].
    announced: Option<PendingApproval>,
}

impl Patience {
    /// Whether no person watches, so that a refused request is kept and sent again.
    const fn is_a_service(self) -> bool {
        match self {
            Self::Once | Self::Endless => true,
            Self::Brief | Self::UpTo(_) => false,
        }
    }

    /// Limit of the sum of pauses, `None` for no limit. `worth_it` says whether [`Patience::Brief`] retries this failure at all.
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

    /// A request that an earlier run has recorded.
    #[must_use]
    pub const fn resume(policy: RetryPolicy, id: String) -> Self {
        Self::Waiting(Waiting { policy, id, failures: 0, announced: None })
    }

    /// One step. `draw` is uniformly random and determines the length of a pause.
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

/// The output after the end, which only a defective driver can ask for.
fn closed() -> EnrollmentOutput {
    EnrollmentOutput::GiveUp(
        Complaint::new(Exit::Failure, "internal", "the conversation is already over"),
        Forget::Nothing,
    )
}

/// Ends with an error.
fn give_up(complaint: Complaint, forget: Forget) -> (Enrollment, EnrollmentOutput) {
    (Enrollment::Closed, EnrollmentOutput::GiveUp(complaint, forget))
}

/// What to delete after a refusal. Only a person's denial is about the key, so only then a new request needs a new key.
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
                // A person can give another token; a service sends the same request again later.
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

    /// Retries or gives up. `worth_it` says whether [`Patience::Brief`] retries this failure.
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
    /// The reply is handled as in [`Asking`], except for refusals of the challenge's ticket.
    fn step(self, input: EnrollmentInput, draw: u64) -> (Enrollment, EnrollmentOutput) {
        match input {
            // After a pause. If the ticket has expired meanwhile, the gateway says so.
            EnrollmentInput::Continue => {
                let challenge = self.challenge.clone();
                (Enrollment::Challenged(self), EnrollmentOutput::Answer(challenge))
            }
            // The ticket has expired, for example because a TPM is slow: start over.
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

/// Whether the gateway refused the ticket and not the evidence.
fn is_of_the_ticket(code: &str) -> bool {
    matches!(code, "ticket-invalid" | "ticket-expired" | "ticket-spent")
}

/// The error after [`ROUNDS_MAX`] challenges.
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
            // The gateway has no such record (its store was restored, or the record was deleted): send the request again with
            // the same key, as after a lost reply.
            EnrollmentInput::Reply(EnrollmentReply::Refused(refusal)) if refusal.code == "not-found" => {
                (Enrollment::Asking(Asking::new(self.policy)), EnrollmentOutput::Submit)
            }
            // The request expired without a decision: a service sends it again with the same key.
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
            // A poll carries no evidence, so a challenge is a protocol error.
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

    /// Whether to announce it: the code is new, or fewer approvals are missing than before.
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

    /// Retries without limit: the gateway keeps a recorded request across restarts.
    fn again(mut self, why: Complaint, asked: Option<Duration>, draw: u64) -> (Enrollment, EnrollmentOutput) {
        self.failures = self.failures.saturating_add(1);
        let length = backoff(self.failures, PAUSE_MOST, asked, draw);
        (Enrollment::Waiting(self), EnrollmentOutput::Pause { length, why: Some(why) })
    }
}

#[cfg(test)]
#[path = "enrollment_tests.rs"]
mod tests;
