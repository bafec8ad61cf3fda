//! The control conversation of a person's connection to the proxy face, as their program holds it: when to prove a renewed
//! certificate, what is made of what the gateway says, and when the connection has no more use. Pure: time is counted from any
//! fixed moment.

use std::time::Duration;

use pki::{Serial, UnixTime};
use wire::tunnel::{FromMachine, Reason, ToMachine};

/// How often to look whether the certificate was renewed while streams are open. A certificate that lives for a minute is renewed
/// half of that before its end.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperInput {
    /// The deadline may have passed.
    Tick,
    /// The gateway opened the control stream.
    ControlOpened,
    /// The control stream ended.
    ControlEnded,
    /// The gateway said something.
    Frame(ToMachine),
    /// The certificate in use has this serial number: the answer to [`HelperOutput::Look`].
    InUse(Serial),
    /// Our end of a session is gone.
    Abandoned(String),
    /// Nobody will want another stream.
    Released,
    /// So many streams are open, control aside.
    Streams(usize),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperOutput {
    /// Look which certificate is in use, and come back with [`HelperInput::InUse`].
    Look,
    /// Say this.
    Send(FromMachine),
    /// Prove the certificate in use on this connection.
    Reauthenticate,
    /// The gateway says on this connection how sessions end; this is its clock, as it was a moment ago.
    Welcome(UnixTime),
    /// A session has ended.
    Ended(String, Reason),
    /// The gateway will stop; streams have this long, and it takes no more.
    Draining(Duration),
    /// The gateway took the certificate with this serial number.
    Proven(Serial),
    /// Close the connection.
    Close,
}

/// The control stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ControlState {
    /// The gateway has not opened it yet.
    Awaited,
    Open,
    /// An older gateway may never open one, and there is no second.
    Ended,
}

/// Whether more streams may be wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    Wanted,
    Released,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    control: ControlState,
    demand: Demand,
    streams: usize,
    /// Of the certificate that the gateway was last shown.
    shown: Serial,
    look_at: Duration,
}

impl Helper {
    /// A connection that was just made with the certificate `shown`.
    #[must_use]
    pub fn new(shown: Serial, now: Duration) -> Self {
        Self { control: ControlState::Awaited, demand: Demand::Wanted, streams: 0, shown, look_at: now + LOOK_EVERY }
    }

    /// When [`HelperInput::Tick`] is due.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.look_at
    }

    /// Whether a stream that the gateway opens now is the control stream.
    #[must_use]
    pub fn awaits_control(&self) -> bool {
        self.control == ControlState::Awaited
    }

    /// One step.
    #[must_use]
    pub fn step(mut self, input: HelperInput, now: Duration) -> (Self, Vec<HelperOutput>) {
        let outputs = match input {
            HelperInput::Tick if now >= self.look_at => {
                self.look_at = now + LOOK_EVERY;
                if self.control == ControlState::Open && self.streams > 0 { vec![HelperOutput::Look] } else { vec![] }
            }
            HelperInput::Tick => vec![],
            HelperInput::ControlOpened => {
                if self.control == ControlState::Awaited {
                    self.control = ControlState::Open;
                }
                vec![]
            }
            HelperInput::ControlEnded => {
                self.control = ControlState::Ended;
                vec![]
            }
            HelperInput::InUse(serial) if serial != self.shown && self.control == ControlState::Open => {
                // Once for each certificate, whatever comes of it.
                self.shown = serial;
                vec![HelperOutput::Reauthenticate]
            }
            HelperInput::InUse(_) => vec![],
            HelperInput::Abandoned(session) if self.control == ControlState::Open => {
                vec![HelperOutput::Send(FromMachine::Abandoned { session })]
            }
            HelperInput::Abandoned(_) => vec![],
            HelperInput::Released => {
                self.demand = Demand::Released;
                self.unless_used()
            }
            HelperInput::Streams(count) => {
                self.streams = count;
                self.unless_used()
            }
            HelperInput::Frame(frame) => self.frame(frame),
        };
        (self, outputs)
    }

    fn unless_used(&self) -> Vec<HelperOutput> {
        if self.demand == Demand::Released && self.streams == 0 { vec![HelperOutput::Close] } else { vec![] }
    }

    fn frame(&self, frame: ToMachine) -> Vec<HelperOutput> {
        match frame {
            ToMachine::Welcome(welcome) => vec![HelperOutput::Welcome(UnixTime::new(welcome.time))],
            ToMachine::Ended { session, reason } => vec![HelperOutput::Ended(session, reason)],
            ToMachine::Drain { after_ms, .. } => vec![HelperOutput::Draining(Duration::from_millis(after_ms))],
            ToMachine::Reauthenticated { .. } => vec![HelperOutput::Proven(self.shown)],
            // Then the streams end with the certificate before, as they would have.
            ToMachine::ReauthenticationRefused { .. }
            // What a machine is told, or somebody of a later version.
            | ToMachine::Closing(_)
            | ToMachine::Heartbeat { .. }
            | ToMachine::RenewNow
            | ToMachine::ReachEnded { .. }
            | ToMachine::Unknown => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::tunnel::Welcome;

    use super::*;

    fn first() -> Serial {
        Serial::from_entropy([1; 16])
    }

    fn second() -> Serial {
        Serial::from_entropy([2; 16])
    }

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Feeds all of it in the same second; gives what came of the last.
    #[track_caller]
    fn after(helper: Helper, secs: u64, inputs: Vec<HelperInput>) -> (Helper, Vec<HelperOutput>) {
        inputs.into_iter().fold((helper, vec![]), |(helper, _), input| helper.step(input, at(secs)))
    }

    fn open(streams: usize) -> Helper {
        let inputs = vec![HelperInput::ControlOpened, HelperInput::Streams(streams)];
        after(Helper::new(first(), at(0)), 0, inputs).0
    }

    #[test]
    fn a_renewed_certificate_is_proven_once() {
        let (helper, outputs) = after(open(1), 9, vec![HelperInput::Tick]);
        assert_eq!(outputs, []);
        let (helper, outputs) = after(helper, 10, vec![HelperInput::Tick]);
        assert_eq!((outputs, helper.deadline()), (vec![HelperOutput::Look], at(20)));
        let (helper, outputs) = after(helper, 10, vec![HelperInput::InUse(first())]);
        assert_eq!(outputs, []);
        let (helper, outputs) = after(helper, 10, vec![HelperInput::InUse(second())]);
        assert_eq!(outputs, [HelperOutput::Reauthenticate]);
        let frame = ToMachine::Reauthenticated { not_after: 1 };
        let (helper, outputs) = after(helper, 11, vec![HelperInput::Frame(frame)]);
        assert_eq!(outputs, [HelperOutput::Proven(second())]);
        let (_, outputs) = after(helper, 20, vec![HelperInput::Tick, HelperInput::InUse(second())]);
        assert_eq!(outputs, []);
    }

    #[test]
    fn nobody_looks_while_nothing_is_open_or_nobody_listens() {
        for helper in [
            open(0),
            after(open(1), 0, vec![HelperInput::ControlEnded]).0,
            after(open(1), 0, vec![HelperInput::ControlEnded, HelperInput::ControlOpened]).0,
            after(Helper::new(first(), at(0)), 0, vec![HelperInput::Streams(1)]).0,
        ] {
            assert_eq!(after(helper, 10, vec![HelperInput::Tick]).1, []);
        }
    }

    #[test]
    fn it_closes_with_its_last_stream_once_nobody_wants_more() {
        for (inputs, want) in [
            (vec![HelperInput::Released], vec![HelperOutput::Close]),
            (vec![HelperInput::Streams(0)], vec![]),
            (vec![HelperInput::Streams(2), HelperInput::Released], vec![]),
            (
                vec![HelperInput::Streams(2), HelperInput::Released, HelperInput::Streams(1), HelperInput::Streams(0)],
                vec![HelperOutput::Close],
            ),
        ] {
            assert_eq!(after(open(0), 0, inputs.clone()).1, want, "{inputs:?}");
        }
    }

    #[test]
    fn what_the_gateway_says() {
        let welcome = Welcome { heartbeat_ms: 0, epoch: 4, time: 9, reconnect_within_ms: 0 };
        for (frame, want) in [
            (ToMachine::Welcome(welcome), vec![HelperOutput::Welcome(UnixTime::new(9))]),
            (
                ToMachine::Ended { session: "s".into(), reason: Reason::Killed },
                vec![HelperOutput::Ended("s".into(), Reason::Killed)],
            ),
            (ToMachine::Drain { after_ms: 30_000, reconnect_within_ms: 0 }, vec![HelperOutput::Draining(at(30))]),
            (ToMachine::ReauthenticationRefused { code: "c".into(), detail: "d".into() }, vec![]),
            (ToMachine::RenewNow, vec![]),
            (ToMachine::Unknown, vec![]),
        ] {
            assert_eq!(after(open(1), 0, vec![HelperInput::Frame(frame.clone())]).1, want, "{frame:?}");
        }
    }

    #[test]
    fn the_gateway_hears_of_an_end_that_is_gone_if_it_listens() {
        let gone = || vec![HelperInput::Abandoned("s".into())];
        let want = HelperOutput::Send(FromMachine::Abandoned { session: "s".into() });
        assert_eq!(after(open(1), 0, gone()).1, [want]);
        assert_eq!(after(Helper::new(first(), at(0)), 0, gone()).1, []);
    }
}
