//! A slow line, in this process: carries TCP connections at a rate that all of them share, late. What waits for its turn on
//! the line waits in small buffers of each connection, as behind a router with a fair queue.

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

/// What takes the line at a time: so much that timers are fine enough, so little that a key waits for few of them.
const CHUNK: usize = 4 * 1024;

/// What the relay's side takes in before its turn.
const BUFFER: u32 = 32 * 1024;

/// A line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Bits in a second, each way.
    pub bits: u64,
    /// How late, each way.
    pub delay: Duration,
}

impl Line {
    /// A household's.
    pub const SLOW: Self = Self { bits: 20_000_000, delay: Duration::from_millis(10) };
}

/// Where the line is taken until, one for each way.
type Taken = Arc<Mutex<Instant>>;

/// A relay; dropped, it takes no new connections.
pub struct Relay {
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens on a port of loopback and leads to `to`.
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
    let (one, other) = tokio::join!(way(from_read, to_write, line, there), way(to_read, from_write, line, back));
    one.and(other)
}

async fn way(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, line: Line, taken: Taken) -> io::Result<()> {
    // On its way: what the line holds, and a little.
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
