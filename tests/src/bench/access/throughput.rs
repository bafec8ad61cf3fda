//! Figure 2: throughput from and to a service, with one stream and with many, compared with haproxy.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::haproxy::Haproxy;
use super::person;
use super::service::{Direction, transfer};
use super::stage::{MACHINE, Stage};
use crate::bench::meter::{cpu_of, float};
use crate::http::{Face, handshake};

/// The cost of a transfer.
#[derive(Clone, Copy, Debug)]
pub struct Carried {
    /// Bytes of all streams.
    pub bytes: u64,
    /// Wall clock time.
    pub wall: Duration,
    /// CPU time of the gateway, or of the program in its place.
    pub middle: Duration,
    /// CPU time of the machine's client, or of the program in its place.
    pub end: Duration,
}

impl Carried {
    /// MB per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        float(self.bytes) / 1e6 / self.wall.as_secs_f64()
    }

    /// CPU seconds per GB, of both processes.
    #[must_use]
    pub fn cpu(&self) -> [f64; 2] {
        [self.middle, self.end].map(|time| time.as_secs_f64() / (float(self.bytes) / 1e9))
    }
}

/// How the service is reached.
#[derive(Clone)]
pub enum Route {
    /// Through the gateway.
    Gateway(Face, std::sync::Arc<rustls::ClientConfig>),
    /// Over TLS to another proxy.
    Tls(Face, std::sync::Arc<rustls::ClientConfig>),
    /// Over TCP to another proxy.
    Tcp(std::net::SocketAddr),
}

/// Transfers `bytes` over `streams` streams; `pids` are the two processes whose CPU time is measured.
pub async fn carry(route: &Route, pids: [u32; 2], direction: Direction, streams: usize, bytes: u64) -> Carried {
    let each = bytes / streams as u64;
    let before = pids.map(cpu_of);
    let began = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..streams {
        let route = route.clone();
        all.spawn(async move {
            match route {
                Route::Gateway(face, config) => {
                    let mut io = person::connect(&face, &config, "carrier", MACHINE).await.unwrap();
                    transfer(&mut io, direction, each).await.unwrap();
                }
                Route::Tls(face, config) => {
                    transfer(&mut handshake(&face, &config).await.unwrap(), direction, each).await.unwrap();
                }
                Route::Tcp(at) => {
                    transfer(&mut tokio::net::TcpStream::connect(at).await.unwrap(), direction, each).await.unwrap();
                }
            }
        });
    }
    all.join_all().await;
    let wall = began.elapsed();
    let [middle, end] = [0, 1].map(|i| cpu_of(pids[i]).saturating_sub(before[i]));
    Carried { bytes: each * streams as u64, wall, middle, end }
}

/// Measures the gateway and haproxy alternately.
pub async fn measure(
    stage: &Stage,
    haproxy: &Haproxy,
    direction: Direction,
    streams: usize,
    rounds: usize,
    bytes: u64,
) -> Vec<(Carried, Carried)> {
    let ours = Route::Gateway(stage.proxy.clone(), stage.config.clone());
    let theirs = Route::Tls(haproxy.face.clone(), haproxy.config.clone());
    let mut pairs = Vec::new();
    for _ in 0..rounds {
        pairs.push((
            carry(&ours, [stage.gateway.id(), stage.machine_id()], direction, streams, bytes).await,
            carry(&theirs, [haproxy.id(), haproxy.second_id()], direction, streams, bytes).await,
        ));
    }
    pairs
}
