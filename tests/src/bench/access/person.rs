//! A person in this process: a TLS client that sends `CONNECT`, without code of the product.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::http::{Face, handshake};

/// Opens a connection to a service of a machine. Fails with the gateway's response unless it is 200.
pub async fn connect(
    face: &Face,
    config: &Arc<ClientConfig>,
    service: &str,
    machine: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let mut stream = handshake(face, config).await?;
    let target = format!("{service}.{machine}:1");
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await?;
    stream.flush().await?;
    let mut head = Vec::with_capacity(256);
    // Byte by byte (the TLS connection buffers), because the bytes after the head are the service's.
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if head.starts_with(b"HTTP/1.1 200 ") {
        return Ok(stream);
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    Err(io::Error::other(line))
}
