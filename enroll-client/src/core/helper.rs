//! State machine of the control stream of a person's connection to the proxy face: when to prove a renewed certificate, how to handle
//! the gateway's frames, and when to close the connection. Times are durations since any fixed moment.

use std::time::Duration;

use pki::{Serial, UnixTime};
use wire::tunnel::{FromMachine, Reason, ToMachine};

/// Interval of checks for a renewed certificate while streams are open. Short enough for a certificate that is valid for a minute,
/// which is renewed 30 s before its end.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperInput {
    /// [`Helper::deadline`] may have passed.
    Tick,
    /// The gateway opened the control stream.
    ControlOpened,
    /// The control stream ended.
    ControlEnded,
    /// A frame of the gateway.
    Frame(ToMachine),
    /// The certificate in use has this serial number: the answer to [`HelperOutput::Look`].
    InUse(Serial),
    /// A session broke at this end; with its id.
    Abandoned(String),
    /// No further stream will be requested.
    Released,
    /// Number of open streams, without the control stream.
    Streams(usize),
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperOutput {
    /// Find the certificate in use. The result is [`HelperInput::InUse`].
    Look,
    /// Send a frame.
    Send(FromMachine),
    /// Prove the certificate in use on this connection.
    Reauthenticate,
    /// The gateway will report the ends of sessions on this connection; with its clock.
    Welcome(UnixTime),
    /// A session has ended.
    Ended(String, Reason),
    /// The gateway is stopping and accepts no more streams; the time left for open ones.
    Draining(Duration),
    /// The gateway accepted the certificate with this serial number.
    Proven(Serial),
    /// Close the connection.
    Close,
}

/// State of the control stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ControlState {
    /// The gateway has not opened it yet.
    Awaited,
    Open,
    /// It has ended. It is not opened a second time; an older gateway never opens one.
    Ended,
}

/// Whether more streams may be requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    Wanted,
    Released,
}

/// State of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    control: ControlState,
    demand: Demand,
    streams: usize,
    /// Serial of the certificate last sent to the gateway.
    shown: Serial,
    look_at: Duration,
}

impl Helper {
    /// A new connection that was made with the certificate `shown`.
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
                // One attempt for each certificate, whatever its result.
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
            // The sessions then end with the previous certificate.
            ToMachine::ReauthenticationRefused { .. }
            // Frames for machines, or of a later version.
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

    /// Feeds all inputs in the same second and returns the outputs of the last one.
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
