//! A machine that has a tunnel and exposes nothing: TLS and yamux without the product's code, the frames of the wire crate, and the
//! backoff and spread that every machine must use when it reconnects.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use wire::tunnel::{Frames, FromMachine, Hello, ToMachine, encode};

use crate::http::{Face, handshake};

/// First upper bound of the backoff.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// Counters of all machines of a process.
#[derive(Default)]
pub struct Count {
    /// Number of established tunnels.
    pub up: AtomicUsize,
    /// Number of failed attempts.
    pub failed: AtomicUsize,
    /// Sum of the last received reconnect spreads, in milliseconds.
    pub within_ms: AtomicU64,
}

/// One machine.
pub struct LightMachine {
    /// The manage face, with the local address.
    pub face: Face,
    /// The machine's TLS configuration.
    pub config: Arc<ClientConfig>,
    /// The shared counters.
    pub count: Arc<Count>,
}

impl LightMachine {
    /// Keeps a tunnel up for ever. `first` is the pause before the first attempt.
    pub async fn run(self, first: Duration) {
        sleep(first).await;
        let (mut failures, mut within) = (0_u32, BACKOFF_FIRST);
        self.count.within_ms.fetch_add(u64::try_from(within.as_millis()).unwrap(), Ordering::SeqCst);
        loop {
            let mut up = false;
            let closing = self.hold(&mut up, &mut within).await.unwrap_or_default();
            if up {
                self.count.up.fetch_sub(1, Ordering::SeqCst);
                failures = 0;
                sleep(closing + share(within)).await;
            } else {
                self.count.failed.fetch_add(1, Ordering::SeqCst);
                failures += 1;
                let ceiling = BACKOFF_FIRST * (1 << (failures - 1).min(8));
                sleep(closing + share(ceiling.max(within))).await;
            }
        }
    }

    /// Runs one tunnel to its end. Returns the reconnect delay that the gateway asked for.
    async fn hold(&self, up: &mut bool, within: &mut Duration) -> io::Result<Duration> {
        let tls = handshake(&self.face, &self.config).await?;
        let mut connection = yamux::Connection::new(tls.compat(), yamux::Config::default(), yamux::Mode::Client);
        let control = poll_fn(|cx| connection.poll_new_outbound(cx)).await.map_err(io::Error::other)?;
        let talk = self.talk(control.compat(), up, within);
        tokio::pin!(talk);
        poll_fn(|cx| {
            loop {
                match connection.poll_next_inbound(cx) {
                    // It exposes nothing.
                    Poll::Ready(Some(Ok(stream))) => drop(stream),
                    Poll::Ready(_) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                    Poll::Pending => return talk.as_mut().poll(cx),
                }
            }
        })
        .await
    }

    async fn talk(
        &self,
        mut control: impl AsyncRead + AsyncWrite + Unpin,
        up: &mut bool,
        within: &mut Duration,
    ) -> io::Result<Duration> {
        say(&mut control, &FromMachine::Hello(Hello { client: "bench".to_owned(), services: vec![] })).await?;
        let (mut frames, mut every, mut number) = (Frames::new(), Duration::from_secs(15), 0);
        let mut beat = Instant::now() + every;
        let mut told = |millis: u64| {
            let before = u64::try_from(within.as_millis()).unwrap();
            *within = Duration::from_millis(millis).max(BACKOFF_FIRST);
            let now = u64::try_from(within.as_millis()).unwrap();
            self.count.within_ms.fetch_add(now.wrapping_sub(before), Ordering::SeqCst);
        };
        loop {
            while let Some(frame) = frames.next_frame::<ToMachine>().map_err(io::Error::other)? {
                match frame {
                    ToMachine::Welcome(welcome) => {
                        *up = true;
                        self.count.up.fetch_add(1, Ordering::SeqCst);
                        every = Duration::from_millis(welcome.heartbeat_ms);
                        beat = Instant::now() + every.mul_f64(0.8) + share(every.mul_f64(0.4));
                        told(welcome.reconnect_within_ms);
                    }
                    ToMachine::Heartbeat { reconnect_within_ms, .. } => told(reconnect_within_ms),
                    ToMachine::Closing(closing) => return Ok(Duration::from_millis(closing.retry_after_ms)),
                    _ => {}
                }
            }
            let mut space = [0; 512];
            let read = tokio::select! {
                read = control.read(&mut space) => read?,
                () = sleep_until(beat) => {
                    number += 1;
                    beat = Instant::now() + every.mul_f64(0.8) + share(every.mul_f64(0.4));
                    say(&mut control, &FromMachine::Heartbeat { number }).await?;
                    continue;
                }
            };
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            frames.feed(&space[..read]);
        }
    }
}

async fn say(control: &mut (impl AsyncWrite + Unpin), frame: &FromMachine) -> io::Result<()> {
    control.write_all(&encode(frame).map_err(io::Error::other)?).await?;
    control.flush().await
}

/// A uniformly random share of a duration.
#[must_use]
pub fn share(span: Duration) -> Duration {
    let mut draw = [0; 4];
    aws_lc_rs::rand::fill(&mut draw).unwrap();
    span.mul_f64(f64::from(u32::from_le_bytes(draw)) / f64::from(u32::MAX))
}
