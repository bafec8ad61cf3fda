//! Frames at the beginning of a stream, and what they say in our own types.

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use wire::tunnel::{self as said, FRAME_HEAD, body_len, decode, encode};

use crate::core::session::{EndReason, Mode, Offer};

/// Writes one frame at the beginning of a stream; nothing when the stream broke.
pub async fn write_frame<IO: AsyncWrite + Unpin>(stream: &mut IO, frame: &impl Serialize) -> Option<()> {
    stream.write_all(&encode(frame).ok()?).await.ok()?;
    stream.flush().await.ok()
}

/// Reads exactly one frame from the beginning of a stream; nothing when it is none.
pub async fn read_frame<T: DeserializeOwned, IO: AsyncRead + Unpin>(stream: &mut IO) -> Option<T> {
    let mut head = [0; FRAME_HEAD];
    stream.read_exact(&mut head).await.ok()?;
    let mut body = vec![0; body_len(head).ok()?];
    stream.read_exact(&mut body).await.ok()?;
    decode(&body).ok()
}

impl From<EndReason> for said::Reason {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::Peer => Self::Peer,
            EndReason::Drained => Self::Drained,
            EndReason::Expired => Self::Expired,
            EndReason::Locked => Self::Locked,
            EndReason::Policy => Self::Policy,
            EndReason::Killed => Self::Killed,
            EndReason::Limit => Self::Limit,
            EndReason::Replaced => Self::Replaced,
            EndReason::Lost => Self::Lost,
            EndReason::Broken => Self::Broken,
        }
    }
}

impl From<Mode> for said::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Raw => Self::Raw,
            Mode::Sealed => Self::Sealed,
        }
    }
}

impl From<said::ServiceOffer> for Offer {
    fn from(offer: said::ServiceOffer) -> Self {
        let mode = match offer.mode {
            said::Mode::Raw => Mode::Raw,
            said::Mode::Sealed => Mode::Sealed,
        };
        Self { name: offer.name, mode }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_for_a_reason_and_for_a_mode() {
        for reason in EndReason::ALL {
            assert_eq!(said::Reason::from(reason).as_str(), reason.as_str());
        }
        for mode in [Mode::Raw, Mode::Sealed] {
            assert_eq!(said::Mode::from(mode).as_str(), mode.as_str());
        }
    }
}
