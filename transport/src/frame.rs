//! The frames at the beginning of a stream, which precede the service's bytes.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use wire::tunnel::{FRAME_HEAD, body_len, decode, encode};

/// Writes one frame and flushes. A frame that is too long fails too.
pub async fn write_frame<IO: AsyncWrite + Unpin>(stream: &mut IO, frame: &impl Serialize) -> io::Result<()> {
    let bytes = encode(frame).map_err(io::Error::other)?;
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Reads one frame and no byte beyond it. Bytes that are not a frame are an error of kind [`io::ErrorKind::Other`].
pub async fn read_frame<T: DeserializeOwned, IO: AsyncRead + Unpin>(stream: &mut IO) -> io::Result<T> {
    let mut head = [0; FRAME_HEAD];
    stream.read_exact(&mut head).await?;
    let mut body = vec![0; body_len(head).map_err(io::Error::other)?];
    stream.read_exact(&mut body).await?;
    decode(&body).map_err(io::Error::other)
}
