//! A service of a machine, in this process: sends a byte at once, or sends, reads or echoes bytes on request.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Size in bytes of a read or write.
const CHUNK: usize = 64 * 1024;

/// What a service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sends a byte at once.
    Greeter,
    /// The first byte selects the direction, see [`Direction`], or `e` for an echo.
    Carrier,
}

/// Direction of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the service.
    Down,
    /// To the service.
    Up,
}

/// A service, which listens until it is dropped.
pub struct Service {
    at: SocketAddr,
    task: JoinHandle<()>,
}

impl Service {
    /// Starts a service, with TLS if a configuration is given.
    pub async fn start(kind: Kind, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let tls = tls.clone();
                tokio::spawn(async move {
                    tcp.set_nodelay(true)?;
                    match tls {
                        Some(tls) => serve(kind, TlsAcceptor::from(tls).accept(tcp).await?).await,
                        None => serve(kind, tcp).await,
                    }
                });
            }
        });
        Self { at, task }
    }

    /// Its address.
    #[must_use]
    pub const fn at(&self) -> SocketAddr {
        self.at
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(kind: Kind, mut io: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    if kind == Kind::Greeter {
        io.write_all(b"x").await?;
        io.flush().await?;
        let mut rest = [0; 64];
        while io.read(&mut rest).await? > 0 {}
        return io.shutdown().await;
    }
    let what = io.read_u8().await?;
    match what {
        b'd' => {
            let count = io.read_u64().await?;
            send(&mut io, count).await?;
        }
        b'u' => {
            let count = io.read_u64().await?;
            take(&mut io, count).await?;
            io.write_all(b"x").await?;
            io.flush().await?;
        }
        _ => {
            let mut key = [0; 64];
            loop {
                let read = io.read(&mut key).await?;
                if read == 0 {
                    break;
                }
                io.write_all(&key[..read]).await?;
                io.flush().await?;
            }
        }
    }
    io.shutdown().await
}

async fn send(io: &mut (impl AsyncWrite + Unpin), mut count: u64) -> io::Result<()> {
    let chunk = vec![7; CHUNK];
    while count > 0 {
        let now = chunk.len().min(usize::try_from(count).unwrap_or(CHUNK));
        io.write_all(&chunk[..now]).await?;
        count -= now as u64;
    }
    io.flush().await
}

async fn take(io: &mut (impl AsyncRead + Unpin), mut count: u64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    while count > 0 {
        let read = io.read(&mut chunk).await? as u64;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        count = count.saturating_sub(read);
    }
    Ok(())
}

/// Transfers `count` bytes over a connection to a [`Kind::Carrier`].
pub async fn transfer(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    direction: Direction,
    count: u64,
) -> io::Result<()> {
    let mut order = vec![if direction == Direction::Down { b'd' } else { b'u' }];
    order.extend(count.to_be_bytes());
    io.write_all(&order).await?;
    io.flush().await?;
    match direction {
        Direction::Down => take(io, count).await?,
        Direction::Up => {
            send(io, count).await?;
            io.read_u8().await?;
        }
    }
    // An orderly end: after a reset the gateway queries the machine, and the stream counts as open meanwhile.
    io.shutdown().await
}

/// Sends a key at each interval over a connection to a [`Kind::Carrier`], until told to end; returns the round trip times.
pub async fn types(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    every: Duration,
    mut end: tokio::sync::watch::Receiver<bool>,
) -> io::Result<Vec<Duration>> {
    io.write_all(b"e").await?;
    let mut took = Vec::new();
    while !*end.borrow() {
        let began = Instant::now();
        io.write_all(b"k").await?;
        io.flush().await?;
        io.read_u8().await?;
        took.push(began.elapsed());
        tokio::select! {
            _ = end.changed() => {}
            () = tokio::time::sleep(every) => {}
        }
    }
    Ok(took)
}
