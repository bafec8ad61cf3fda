//! Figure 3: time to the first byte of a service, with connection and handshake.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;

use super::service::Kind;
use super::stage::Stage;
use crate::http::handshake;

/// Times, sorted.
pub struct Opening {
    /// Through the gateway.
    pub through: Vec<Duration>,
    /// Directly, by mutual TLS.
    pub direct: Vec<Duration>,
}

/// Opens `count` connections of each kind, alternately.
pub async fn measure(stage: &Stage, count: usize) -> Opening {
    let direct = stage.direct(Kind::Greeter).await;
    let (mut seen, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let began = Instant::now();
        let mut stream = stage.connect("greeter").await;
        stream.read_u8().await.unwrap();
        seen.push(began.elapsed());
        drop(stream);
        let began = Instant::now();
        let mut stream = handshake(&direct.face, &direct.config).await.unwrap();
        stream.read_u8().await.unwrap();
        plain.push(began.elapsed());
    }
    seen.sort();
    plain.sort();
    Opening { through: seen, direct: plain }
}
