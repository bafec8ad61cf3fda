//! State machine of the control stream of a helper's connection, which carries many streams of one person: the allowed frames, and
//! when the connection ends. `now` is monotonic time from any origin. `C` is a renewed certificate as received; it is passed on unread.

use std::time::Duration;

use crate::core::{frame_rate::FrameRate, session::EndReason};

/// A frame from the helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperFrame<C> {
    /// The certificate was renewed.
    Reauthenticate(C),
    /// The client of this session has gone.
    Abandoned(String),
    /// A type of a later protocol version; ignored.
    Unknown,
    /// A type that only machines send.
    Foreign,
}

/// An input of the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperInput<C> {
    /// A frame arrived.
    Frame(HelperFrame<C>),
    /// Number of open streams, without the control stream.
    Streams(usize),
    /// The renewed certificate is valid until then, seconds since the Unix epoch.
    Verified(u64),
    /// The renewed certificate is not valid: problem code and text.
    Unverified(String, String),
    /// The gateway stops, and cuts remaining streams after this time.
    Drain(Duration),
    /// The connection must end.
    End(EndReason),
}

/// An output of the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperOutput<C> {
    /// Send: the renewed certificate is accepted until then, seconds since the Unix epoch.
    Reauthenticated(u64),
    /// Send: the renewed certificate is refused; problem code and text.
    ReauthenticationRefused(String, String),
    /// Send: the gateway stops, and streams may continue for this time.
    Drain(Duration),
    /// Verify this certificate and answer with [`HelperInput::Verified`] or [`HelperInput::Unverified`].
    Verify(C),
    /// End this session: its client has gone.
    Abandoned(String),
    /// Close the connection and all its streams.
    Close(EndReason),
}

/// Whether a renewed certificate is being verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    None,
    Running,
}

/// Stage of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HelperStage {
    Open,
    /// The connection closes with its last stream.
    Draining,
    Closed,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    stage: HelperStage,
    check: Check,
    streams: usize,
    rate: FrameRate,
}

impl Helper {
    /// A new connection.
    #[must_use]
    pub const fn new(now: Duration) -> Self {
        Self { stage: HelperStage::Open, check: Check::None, streams: 0, rate: FrameRate::new(now) }
    }

    /// Whether the connection closes with its last stream.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.stage == HelperStage::Draining
    }

    /// One step. [`HelperOutput::Close`] is the last output.
    #[must_use]
    pub fn step<C>(mut self, input: HelperInput<C>, now: Duration) -> (Self, Vec<HelperOutput<C>>) {
        if self.stage == HelperStage::Closed {
            return (self, vec![]);
        }
        let mut outputs = match input {
            HelperInput::Frame(frame) => self.frame(frame, now),
            HelperInput::Streams(count) => {
                self.streams = count;
                vec![]
            }
            HelperInput::Verified(not_after) => {
                self.check = Check::None;
                vec![HelperOutput::Reauthenticated(not_after)]
            }
            HelperInput::Unverified(code, detail) => {
                self.check = Check::None;
                vec![HelperOutput::ReauthenticationRefused(code, detail)]
            }
            HelperInput::Drain(after) => {
                self.stage = HelperStage::Draining;
                vec![HelperOutput::Drain(after)]
            }
            HelperInput::End(reason) => vec![HelperOutput::Close(reason)],
        };
        if self.stage == HelperStage::Draining && self.streams == 0 {
            outputs.push(HelperOutput::Close(EndReason::Drained));
        }
        if outputs.iter().any(|output| matches!(output, HelperOutput::Close(_))) {
            self.stage = HelperStage::Closed;
        }
        (self, outputs)
    }

    fn frame<C>(&mut self, frame: HelperFrame<C>, now: Duration) -> Vec<HelperOutput<C>> {
        if !self.rate.allows(now) {
            return vec![HelperOutput::Close(EndReason::Limit)];
        }
        match (frame, self.check) {
            (HelperFrame::Reauthenticate(renewed), Check::None) => {
                self.check = Check::Running;
                vec![HelperOutput::Verify(renewed)]
            }
            // one certificate at a time
            (HelperFrame::Reauthenticate(_), Check::Running) => vec![HelperOutput::Close(EndReason::Limit)],
            // a frame of machines is a fault of the helper, as on a tunnel a second hello is one of the machine
            (HelperFrame::Foreign, _) => vec![HelperOutput::Close(EndReason::Peer)],
            (HelperFrame::Abandoned(session), _) => vec![HelperOutput::Abandoned(session)],
            (HelperFrame::Unknown, _) => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::frame_rate::FRAMES_MAX;

    type Input = HelperInput<&'static str>;
    type Output = HelperOutput<&'static str>;

    const NOW: Duration = Duration::from_secs(1);
    const SOON: Duration = Duration::from_secs(30);

    /// Compares the outputs of the last input.
    #[track_caller]
    fn check(inputs: Vec<Input>, want: &[Output]) {
        let (_, outputs) = inputs
            .iter()
            .cloned()
            .fold((Helper::new(Duration::ZERO), vec![]), |(helper, _), input| helper.step(input, NOW));
        assert_eq!(outputs, want, "{inputs:?}");
    }

    fn renewed() -> Input {
        Input::Frame(HelperFrame::Reauthenticate("chain"))
    }

    #[test]
    fn one_renewed_certificate_is_checked_at_a_time() {
        check(vec![renewed()], &[Output::Verify("chain")]);
        check(vec![renewed(), renewed()], &[Output::Close(EndReason::Limit)]);
        check(vec![renewed(), Input::Verified(9)], &[Output::Reauthenticated(9)]);
        check(vec![renewed(), Input::Verified(9), renewed()], &[Output::Verify("chain")]);
        let (code, detail) = ("bad-proof".to_owned(), "d".to_owned());
        let refused = Input::Unverified(code.clone(), detail.clone());
        check(vec![renewed(), refused.clone()], &[Output::ReauthenticationRefused(code, detail)]);
        check(vec![renewed(), refused, renewed()], &[Output::Verify("chain")]);
    }

    #[test]
    fn it_drains_to_its_last_stream() {
        check(vec![Input::Drain(SOON)], &[Output::Drain(SOON), Output::Close(EndReason::Drained)]);
        check(vec![Input::Streams(2), Input::Drain(SOON)], &[Output::Drain(SOON)]);
        check(vec![Input::Streams(2), Input::Drain(SOON), Input::Streams(1)], &[]);
        check(vec![Input::Streams(2), Input::Drain(SOON), Input::Streams(0)], &[Output::Close(EndReason::Drained)]);
        check(vec![Input::Streams(0)], &[]);
    }

    #[test]
    fn what_ends_it() {
        let unknown = || Input::Frame(HelperFrame::Unknown);
        check(vec![Input::Frame(HelperFrame::Foreign)], &[Output::Close(EndReason::Peer)]);
        check(vec![Input::End(EndReason::Locked)], &[Output::Close(EndReason::Locked)]);
        check(vec![Input::End(EndReason::Locked), unknown(), Input::End(EndReason::Policy)], &[]);
        let most = usize::try_from(FRAMES_MAX).unwrap();
        check(std::iter::repeat_with(unknown).take(most).collect(), &[]);
        check(std::iter::repeat_with(unknown).take(most + 1).collect(), &[Output::Close(EndReason::Limit)]);
    }

    #[test]
    fn an_end_that_is_gone_is_passed_on() {
        check(vec![Input::Frame(HelperFrame::Abandoned("s".into()))], &[Output::Abandoned("s".into())]);
    }
}
