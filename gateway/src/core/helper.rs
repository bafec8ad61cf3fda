//! The control conversation of a person's connection with many streams, as the gateway holds it: what their helper may say, and when
//! the connection ends. Time is an argument, counted from any fixed moment. `C` is a renewed certificate as it was sent, which is
//! only handed on.

use std::time::Duration;

use crate::core::{frame_rate::FrameRate, session::EndReason};

/// What the helper says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperFrame<C> {
    /// The certificate was renewed.
    Reauthenticate(C),
    /// Its end of a session is gone.
    Abandoned(String),
    /// Something of a later version.
    Unknown,
    /// What a machine says, and no helper.
    Foreign,
}

/// What happens to the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperInput<C> {
    /// The helper said something.
    Frame(HelperFrame<C>),
    /// So many streams are open, control aside.
    Streams(usize),
    /// The renewed certificate is good until then, seconds since the Unix epoch.
    Verified(u64),
    /// It is not: a problem's code, and words.
    Unverified(String, String),
    /// We are about to stop, and cut what is left after this time.
    Drain(Duration),
    /// It must end.
    End(EndReason),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperOutput<C> {
    /// Say that the renewed certificate counts, until then.
    Reauthenticated(u64),
    /// Say that it does not, and why.
    ReauthenticationRefused(String, String),
    /// Say that we stop, and that streams have this long.
    Drain(Duration),
    /// Check this, and come back with [`HelperInput::Verified`] or [`HelperInput::Unverified`].
    Verify(C),
    /// The helper's end of this session is gone.
    Abandoned(String),
    /// End everything on the connection, for this reason.
    Close(EndReason),
}

/// Whether a renewed certificate is being checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    None,
    Running,
}

/// How far the connection is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HelperStage {
    Open,
    /// It ends with its last stream.
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
    /// A connection that was just made.
    #[must_use]
    pub const fn new(now: Duration) -> Self {
        Self { stage: HelperStage::Open, check: Check::None, streams: 0, rate: FrameRate::new(now) }
    }

    /// Whether it ends with its last stream.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.stage == HelperStage::Draining
    }

    /// One step. After [`HelperOutput::Close`] nothing more comes.
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
            // One at a time, and nothing that a person's helper has no use for.
            (HelperFrame::Reauthenticate(_), Check::Running) | (HelperFrame::Foreign, _) => {
                vec![HelperOutput::Close(EndReason::Limit)]
            }
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

    /// What comes of the last of these.
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
        check(vec![Input::Frame(HelperFrame::Foreign)], &[Output::Close(EndReason::Limit)]);
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
