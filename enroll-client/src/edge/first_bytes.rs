//! Reads the first bytes of a stream ahead, to detect a caller that speaks plain HTTP to a sealed service, which gets an HTTP error.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// Number of bytes: fewer than any TLS client sends, and enough for the beginning of every method.
const LOOKED_AT: usize = 4;

/// First bytes of requests in HTTP/1 (RFC 9110 9.1) and of HTTP/2 with prior knowledge (RFC 9113 3.4).
const METHODS: [&[u8; LOOKED_AT]; 9] =
    [b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC", b"TRAC", b"PRI "];

/// A stream whose first bytes were read ahead; reading it returns them again.
#[derive(Debug)]
pub struct FirstBytes<IO> {
    io: IO,
    head: Vec<u8>,
    given: usize,
}

impl<IO: AsyncRead + Unpin> FirstBytes<IO> {
    /// Reads the first bytes, fewer if the stream ends before.
    pub async fn look(mut io: IO) -> io::Result<Self> {
        let mut head = Vec::with_capacity(LOOKED_AT);
        (&mut io).take(LOOKED_AT as u64).read_to_end(&mut head).await?;
        Ok(Self { io, head, given: 0 })
    }

    /// Whether they begin an HTTP request.
    pub fn are_http(&self) -> bool {
        METHODS.iter().any(|method| self.head == **method)
    }
}

impl<IO> FirstBytes<IO> {
    /// The stream behind them.
    pub const fn get_mut(&mut self) -> &mut IO {
        &mut self.io
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for FirstBytes<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = self.head.get(self.given..).unwrap_or_default();
        if left.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let count = left.len().min(buf.remaining());
        buf.put_slice(left.get(..count).unwrap_or_default());
        self.given += count;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for FirstBytes<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn they_come_once_more_and_say_who_speaks() {
        for (sent, http) in [
            (&b"GET / HTTP/1.1\r\n"[..], true),
            (b"POST / HTTP/1.1\r\n", true),
            (b"\x16\x03\x01\x00\xf0...", false),
            (b"GETTYSBURG", false),
            (b"GE", false),
            (b"", false),
        ] {
            let mut first = FirstBytes::look(sent).await.unwrap();
            assert_eq!(first.are_http(), http, "{sent:?}");
            let mut all = Vec::new();
            first.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, sent);
        }
    }
}
