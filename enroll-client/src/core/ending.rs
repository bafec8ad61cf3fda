//! How a connection to a service came to its end, and whether what was read is all of it. Pure.
//!
//! An end that is read while our own direction is open is the service's: a loss is an error then. Once our direction is closed (a
//! program whose standard input is at its end) a stream ends alike with its data and with the connection below it, and only
//! what the gateway says of the session tells the two apart. Where it says nothing, nothing is taken for whole.

use std::io;

use wire::tunnel::Reason;

use crate::text::report::Exit;

/// How the bytes came to their end, as we saw it.
#[derive(Debug)]
pub enum Ending {
    /// The service had no more to say, and our own direction was open.
    Whole,
    /// There were no more bytes, after our own direction had been closed.
    Closed,
    /// Reading failed.
    Broke(io::Error),
    /// Whoever reads what we write wants no more.
    Unwanted,
    /// What came could not be written.
    Unwritten(io::Error),
}

impl Ending {
    /// Of what we write for: a closed pipe is somebody who has read enough.
    #[must_use]
    pub fn unwritten(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Unwanted } else { Self::Unwritten(error) }
    }

    /// What it means, together with what was said of the session's end, if anything was.
    #[must_use]
    pub fn judge(&self, said: Option<Reason>) -> Completeness {
        match (self, said) {
            (Self::Unwritten(error), _) => {
                Completeness::Cut(Exit::Files, format!("what it sent cannot be written: {error}"))
            }
            (Self::Unwanted, _) | (Self::Whole, None | Some(Reason::Peer | Reason::Broken)) => Completeness::Complete,
            (Self::Closed, Some(Reason::Peer)) => Completeness::Complete,
            (Self::Broke(error), Some(Reason::Peer)) => {
                Completeness::Cut(Exit::Unreachable, format!("the connection broke before its end: {error}"))
            }
            // Whose the lock is, and what for, is worth a question.
            (_, Some(Reason::Locked | Reason::Unknown)) | (Self::Closed | Self::Broke(_), None) => {
                Completeness::AskGateway
            }
            (_, Some(reason)) => Completeness::Cut(exit_of(reason), in_words(reason)),
        }
    }

    /// The same when nobody could be asked, or did not know.
    #[must_use]
    pub fn judge_alone(&self, said: Option<Reason>) -> Completeness {
        match (self.judge(said), said, self) {
            (Completeness::AskGateway, Some(reason), _) => Completeness::Cut(exit_of(reason), in_words(reason)),
            (Completeness::AskGateway, None, Self::Broke(error)) => {
                Completeness::Cut(Exit::Unreachable, format!("the connection broke before its end: {error}"))
            }
            (Completeness::AskGateway, None, _) => {
                Completeness::Cut(Exit::Unreachable, "nobody said that what came is all of it".to_owned())
            }
            (judged, ..) => judged,
        }
    }
}

/// What is made of an ending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// It is whole.
    Complete,
    /// Somebody or something ended it: the exit code, and why.
    Cut(Exit, String),
    /// The gateway's record of the session may say.
    AskGateway,
}

/// The exit code for a session that was ended.
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

/// A reason as people read it.
#[must_use]
pub fn in_words(reason: Reason) -> String {
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

    /// Every ending with everything that may be said of it: what is whole, and the exit code of the rest.
    #[test]
    fn nothing_that_was_cut_is_taken_for_whole() {
        for said in REASONS.map(Some).into_iter().chain([None]) {
            let endings = [Ending::Whole, Ending::Closed, Ending::Broke(error())];
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
                    (Ending::Whole, None | Some(Reason::Peer | Reason::Broken)) => Exit::Ok,
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
