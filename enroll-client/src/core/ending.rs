//! How a connection to a service ended, and whether the data that was read is complete.
//!
//! While our own direction is open, an end of file comes from the service, and a lost connection is a read error. After our direction
//! was closed (standard input has ended), a stream reports end of file in both cases, and only the gateway's reason for the end of
//! the session distinguishes them. Without that reason the data counts as incomplete.

use std::io;

use wire::tunnel::Reason;

use crate::text::report::Exit;

/// How the stream ended, as this end has seen it.
#[derive(Debug)]
pub enum Ending {
    /// End of file while our own direction was open.
    Finished,
    /// End of file after our own direction had been closed.
    Closed,
    /// Reading failed.
    Broke(io::Error),
    /// The reader of our output has closed it.
    Unwanted,
    /// Our output could not be written.
    Unwritten(io::Error),
}

impl Ending {
    /// From an error of our output: a closed pipe is [`Ending::Unwanted`].
    #[must_use]
    pub fn unwritten(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Unwanted } else { Self::Unwritten(error) }
    }

    /// Judges completeness by this and the gateway's reason for the session's end, if it sent one.
    #[must_use]
    pub fn judge(&self, said: Option<Reason>) -> Completeness {
        match (self, said) {
            (Self::Unwritten(error), _) => {
                Completeness::Cut(Exit::Files, format!("what it sent cannot be written: {error}"))
            }
            (Self::Unwanted, _) | (Self::Finished, None | Some(Reason::Peer | Reason::Broken)) => {
                Completeness::Complete
            }
            (Self::Closed, Some(Reason::Peer)) => Completeness::Complete,
            (Self::Broke(error), Some(Reason::Peer)) => {
                Completeness::Cut(Exit::Unreachable, format!("the connection broke before its end: {error}"))
            }
            // The gateway's record says who set the lock and why.
            (_, Some(Reason::Locked | Reason::Unknown)) | (Self::Closed | Self::Broke(_), None) => {
                Completeness::AskGateway
            }
            (_, Some(reason)) => Completeness::Cut(exit_of(reason), describe(reason)),
        }
    }

    /// As [`Ending::judge`], when the gateway could not be asked or did not know.
    #[must_use]
    pub fn judge_alone(&self, said: Option<Reason>) -> Completeness {
        match (self.judge(said), said, self) {
            (Completeness::AskGateway, Some(reason), _) => Completeness::Cut(exit_of(reason), describe(reason)),
            (Completeness::AskGateway, None, Self::Broke(error)) => {
                Completeness::Cut(Exit::Unreachable, format!("the connection broke before its end: {error}"))
            }
            (Completeness::AskGateway, None, _) => Completeness::Cut(
                Exit::Unreachable,
                "the connection ended without confirmation that the data is complete".to_owned(),
            ),
            (judged, ..) => judged,
        }
    }
}

/// Whether the data is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// The service has sent all of it.
    Complete,
    /// The session was ended before: the exit code, and the reason.
    Cut(Exit, String),
    /// Unknown: query the gateway's record of the session.
    AskGateway,
}

/// The exit code for a session that ended for this reason.
#[must_use]
pub const fn exit_of(reason: Reason) -> Exit {
    match reason {
        Reason::Peer => Exit::Ok,
        Reason::Drained | Reason::Lost | Reason::Broken | Reason::Replaced => Exit::Unreachable,
        Reason::Expired | Reason::Locked | Reason::Policy | Reason::Killed | Reason::Limit | Reason::Unknown => {
            Exit::Refused
        }
    }
}

/// The reason as text for people.
#[must_use]
pub fn describe(reason: Reason) -> String {
    format!("{}: {}", reason.as_str(), reason.explain())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASONS: [Reason; 11] = [
        Reason::Peer,
        Reason::Drained,
        Reason::Expired,
        Reason::Locked,
        Reason::Policy,
        Reason::Killed,
        Reason::Limit,
        Reason::Replaced,
        Reason::Lost,
        Reason::Broken,
        Reason::Unknown,
    ];

    fn error() -> io::Error {
        io::Error::from(io::ErrorKind::UnexpectedEof)
    }

    /// Every combination of ending and reason: which are complete, and the exit code of the others.
    #[test]
    fn nothing_that_was_cut_is_taken_for_whole() {
        for said in REASONS.map(Some).into_iter().chain([None]) {
            let endings = [Ending::Finished, Ending::Closed, Ending::Broke(error())];
            for ending in endings {
                let exit = match ending.judge_alone(said) {
                    Completeness::Complete => Exit::Ok,
                    Completeness::Cut(exit, why) => {
                        assert!(!why.is_empty());
                        exit
                    }
                    Completeness::AskGateway => panic!("nobody is left to ask: {ending:?} {said:?}"),
                };
                let want = match (&ending, said) {
                    (Ending::Finished, None | Some(Reason::Peer | Reason::Broken)) => Exit::Ok,
                    (Ending::Closed, Some(Reason::Peer)) => Exit::Ok,
                    (Ending::Closed | Ending::Broke(_), None) | (Ending::Broke(_), Some(Reason::Peer)) => {
                        Exit::Unreachable
                    }
                    (_, Some(reason)) => exit_of(reason),
                    _ => panic!("not in the table"),
                };
                assert_eq!(exit, want, "{ending:?} {said:?}");
            }
        }
    }

    #[test]
    fn who_wants_no_more_is_content_and_a_full_disk_is_not() {
        for said in REASONS.map(Some).into_iter().chain([None]) {
            let unwanted = Ending::unwritten(io::Error::from(io::ErrorKind::BrokenPipe));
            assert_eq!(unwanted.judge(said), Completeness::Complete);
            let full = Ending::unwritten(io::Error::from(io::ErrorKind::StorageFull));
            assert!(matches!(full.judge(said), Completeness::Cut(Exit::Files, _)), "{said:?}");
        }
    }
}
