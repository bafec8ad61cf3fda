//! The encoding of frames: version, length, JSON.

use serde::{Serialize, de::DeserializeOwned};

use super::{FRAME_HEAD, FRAME_MAX, VERSION};

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadFrame {
    /// The version byte is not ours; here is the one received.
    Version(u8),
    /// The length in bytes, more than [`FRAME_MAX`].
    TooLong(usize),
    /// The body does not decode; serde's message.
    Json(String),
}

impl std::fmt::Display for BadFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version(version) => write!(f, "a frame of version {version}, where {VERSION} is spoken"),
            Self::TooLong(length) => write!(f, "a frame of {length} bytes, where {FRAME_MAX} are allowed"),
            Self::Json(what) => write!(f, "a frame that makes no sense: {what}"),
        }
    }
}

impl std::error::Error for BadFrame {}

/// Encodes a frame. For the types of this module the only error is [`BadFrame::TooLong`].
pub fn encode(frame: &impl Serialize) -> Result<Vec<u8>, BadFrame> {
    let mut bytes = vec![0; FRAME_HEAD];
    serde_json::to_writer(&mut bytes, frame).map_err(|error| BadFrame::Json(error.to_string()))?;
    let length = bytes.len() - FRAME_HEAD;
    if length > FRAME_MAX {
        return Err(BadFrame::TooLong(length));
    }
    let [_, a, b, c] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    bytes[..FRAME_HEAD].copy_from_slice(&[VERSION, a, b, c]);
    Ok(bytes)
}

/// The length in bytes of the JSON that follows a frame's head.
pub fn body_len(head: [u8; FRAME_HEAD]) -> Result<usize, BadFrame> {
    let [version, a, b, c] = head;
    if version != VERSION {
        return Err(BadFrame::Version(version));
    }
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
    if length > FRAME_MAX { Err(BadFrame::TooLong(length)) } else { Ok(length) }
}

/// Decodes the JSON of a frame.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, BadFrame> {
    // serde also reads an internally tagged enum from an array.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(BadFrame::Json("not an object".to_owned()));
    }
    crate::strict::from_slice(body).map_err(|error| BadFrame::Json(error.to_string()))
}

/// Splits a byte stream into frames. Buffers at most one frame and the bytes of the last [`Frames::feed`].
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// An empty buffer.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Appends received bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete frame, if there is one. After an error no further frame can be read.
    pub fn next_frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, BadFrame> {
        let Some(head) = self.bytes.first_chunk::<FRAME_HEAD>() else { return Ok(None) };
        let end = FRAME_HEAD + body_len(*head)?;
        let Some(body) = self.bytes.get(FRAME_HEAD..end) else { return Ok(None) };
        let frame = decode(body)?;
        self.bytes.drain(..end);
        if self.bytes.is_empty() {
            // Frees the capacity of the largest frame so far: tunnels are idle most of the time.
            self.bytes = Vec::new();
        }
        Ok(Some(frame))
    }
}
