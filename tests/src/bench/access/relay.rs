//! A simulated slow line: relays TCP connections with a shared rate and a delay. Bytes wait in a small buffer of each connection, as
//! behind a router with fair queueing.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, tcp};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::bench::meter::float;

/// Bytes that occupy the line at a time: large enough for the resolution of timers, small enough for the latency of a key.
const CHUNK: usize = 4 * 1024;

/// Receive buffer of the relay's sockets, in bytes.
const BUFFER: u32 = 32 * 1024;

/// Rate and delay of a line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Bits per second in each direction.
    pub bits: u64,
    /// Delay in each direction.
    pub delay: Duration,
}

impl Line {
    /// A typical home connection.
    pub const SLOW: Self = Self { bits: 20_000_000, delay: Duration::from_millis(10) };
}

/// Until when a direction of the line is occupied.
type Taken = Arc<Mutex<Instant>>;

/// A relay, which accepts connections until it is dropped.
pub struct Relay {
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens on a port of loopback and relays to `to`.
    pub fn start(port: u16, to: SocketAddr, line: Line) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.set_recv_buffer_size(BUFFER).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, port).into()).unwrap();
        let listener = socket.listen(64).unwrap();
        let ways: [Taken; 2] = [(); 2].map(|()| Arc::new(Mutex::new(Instant::now())));
        let task = tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let ways = ways.clone();
                tokio::spawn(async move {
                    let socket = TcpSocket::new_v4()?;
                    socket.set_recv_buffer_size(BUFFER)?;
                    let there = socket.connect(to).await?;
                    carry(from, there, line, ways).await
                });
            }
        });
        Self { task }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(from: TcpStream, to: TcpStream, line: Line, [there, back]: [Taken; 2]) -> io::Result<()> {
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
    let (one, other) =
        tokio::join!(one_direction(from_read, to_write, line, there), one_direction(to_read, from_write, line, back));
    one.and(other)
}

async fn one_direction(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    line: Line,
    taken: Taken,
) -> io::Result<()> {
    // Bytes in transit.
    let (travels, mut arrives) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let arrive = async move {
        while let Some((at, bytes)) = arrives.recv().await {
            sleep_until(at).await;
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    };
    let leave = async move {
        loop {
            let mut bytes = vec![0; CHUNK];
            let read = from.read(&mut bytes).await?;
            if read == 0 {
                return io::Result::Ok(());
            }
            bytes.truncate(read);
            let time = Duration::from_secs_f64(float(8 * read as u64) / float(line.bits));
            let until = {
                let mut taken = taken.lock().unwrap();
                *taken = (*taken).max(Instant::now()) + time;
                *taken
            };
            sleep_until(until).await;
            if travels.send((until + line.delay, bytes)).await.is_err() {
                return Ok(());
            }
        }
    };
    let (left, arrived) = tokio::join!(leave, arrive);
    left.and(arrived)
}
