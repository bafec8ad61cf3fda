//! Figure 2: bytes from a service to a person and back, on one stream and on many, against haproxy.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::haproxy::Haproxy;
use super::person;
use super::service::{Way, transfer};
use super::stage::{MACHINE, Stage};
use crate::bench::meter::{cpu_of, float};
use crate::http::{Face, handshake};

/// What carrying took.
#[derive(Clone, Copy, Debug)]
pub struct Carried {
    /// Bytes of all streams.
    pub bytes: u64,
    /// Time on the wall.
    pub wall: Duration,
    /// CPU time of the gateway, or of whatever stands in its place.
    pub middle: Duration,
    /// CPU time of the agent, or of whatever stands in its place.
    pub end: Duration,
}

impl Carried {
    /// MB in a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        float(self.bytes) / 1e6 / self.wall.as_secs_f64()
    }

    /// CPU-seconds for a GB, of the middle and of the end.
    #[must_use]
    pub fn cpu(&self) -> [f64; 2] {
        [self.middle, self.end].map(|time| time.as_secs_f64() / (float(self.bytes) / 1e9))
    }
}

/// How bytes get to the service.
#[derive(Clone)]
pub enum Route {
    /// Through the gateway.
    Gateway(Face, std::sync::Arc<rustls::ClientConfig>),
    /// Over TLS to whatever leads there.
    Tls(Face, std::sync::Arc<rustls::ClientConfig>),
    /// Over TCP to whatever leads there.
    Tcp(std::net::SocketAddr),
}

/// Carries `bytes` over so many streams at a time, by whatever the two processes do.
pub async fn carry(route: &Route, pids: [u32; 2], way: Way, streams: usize, bytes: u64) -> Carried {
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
                    transfer(&mut io, way, each).await.unwrap();
                }
                Route::Tls(face, config) => {
                    transfer(&mut handshake(&face, &config).await.unwrap(), way, each).await.unwrap();
                }
                Route::Tcp(at) => {
                    transfer(&mut tokio::net::TcpStream::connect(at).await.unwrap(), way, each).await.unwrap();
                }
            }
        });
    }
    all.join_all().await;
    let wall = began.elapsed();
    let [middle, end] = [0, 1].map(|i| cpu_of(pids[i]).saturating_sub(before[i]));
    Carried { bytes: each * streams as u64, wall, middle, end }
}

/// Ours and theirs, round by round.
pub async fn measure(
    stage: &Stage,
    haproxy: &Haproxy,
    way: Way,
    streams: usize,
    rounds: usize,
    bytes: u64,
) -> Vec<(Carried, Carried)> {
    let ours = Route::Gateway(stage.proxy.clone(), stage.config.clone());
    let theirs = Route::Tls(haproxy.face.clone(), haproxy.config.clone());
    let mut pairs = Vec::new();
    for _ in 0..rounds {
        pairs.push((
            carry(&ours, [stage.gateway.id(), stage.machine_id()], way, streams, bytes).await,
            carry(&theirs, [haproxy.id(), haproxy.second_id()], way, streams, bytes).await,
        ));
    }
    pairs
}
