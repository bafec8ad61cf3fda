//! Figure 7: latency of typing in a stream while another stream of the same machine transfers data, compared with two separate
//! connections.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::relay::{Line, Relay};
use super::service::{Direction, Kind, transfer, types};
use super::stage::Stage;
use crate::gateway::Setup;
use crate::http::{Face, handshake};
use crate::port::Port;

/// Interval of keys: faster than anybody types, and no relevant load.
const KEY_EVERY: Duration = Duration::from_millis(20);

/// Typing latencies during a transfer.
#[derive(Clone, Debug)]
pub struct Typed {
    /// Round trip times of keys, sorted.
    pub keys: Vec<Duration>,
    /// Bytes per second of the transfer.
    pub rate: f64,
}

/// Length of the transfer.
#[derive(Clone, Copy, Debug)]
pub enum Bulk {
    /// Number of bytes.
    Bytes(u64),
    /// Time in seconds.
    Seconds(u64),
}

/// The setup for both streams.
pub struct TypingStage {
    stage: Stage,
    direct: super::stage::Direct,
    through: Face,
    // The simulated lines of the machine, and of the service that is reached directly.
    _relays: Vec<Relay>,
    _ports: Vec<Port>,
}

impl TypingStage {
    /// Sets up both connections, over a simulated line if given.
    pub async fn set(line: Option<Line>) -> Self {
        let Some(line) = line else {
            let stage = Stage::set(Setup::default()).await;
            let direct = stage.direct(Kind::Carrier).await;
            let through = direct.face.clone();
            return Self { stage, direct, through, _relays: vec![], _ports: vec![] };
        };
        // Only the machine connects to the gateway over the line.
        let (to_manage, to_service) = (Port::take(), Port::take());
        let public = format!("127.0.0.1:{}", to_manage.number());
        let setup = Setup::default().config("public.manage", public);
        let stage =
            Stage::set_behind(setup, |gateway| Relay::start(to_manage.number(), gateway.manage().address, line)).await;
        let (stage, first) = stage;
        let direct = stage.direct(Kind::Carrier).await;
        let second = Relay::start(to_service.number(), direct.face.address, line);
        let through = Face::named(([127, 0, 0, 1], to_service.number()).into(), &direct.face.name);
        Self { stage, direct, through, _relays: vec![first, second], _ports: vec![to_manage, to_service] }
    }

    /// Types through the gateway during a transfer.
    pub async fn through_gateway(&self, direction: Option<Direction>, bulk: Bulk) -> Typed {
        beside(self.stage.connect("carrier").await, self.stage.connect("carrier").await, direction, bulk).await
    }

    /// Types over one direct connection during a transfer over another.
    pub async fn directly(&self, direction: Option<Direction>, bulk: Bulk) -> Typed {
        let open = || async { handshake(&self.through, &self.direct.config).await.unwrap() };
        beside(open().await, open().await, direction, bulk).await
    }
}

async fn beside<IO>(mut typing: IO, mut carrying: IO, direction: Option<Direction>, bulk: Bulk) -> Typed
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (tell, end) = watch::channel(false);
    let keys = tokio::spawn(async move { types(&mut typing, KEY_EVERY, end).await.unwrap() });
    let began = Instant::now();
    let bytes = match (direction, bulk) {
        (Some(direction), Bulk::Bytes(bytes)) => {
            transfer(&mut carrying, direction, bytes).await.unwrap();
            bytes
        }
        (Some(direction), Bulk::Seconds(secs)) => {
            // More than the line can carry in that time: the transfer is aborted.
            let cut =
                tokio::time::timeout(Duration::from_secs(secs), transfer(&mut carrying, direction, u64::MAX)).await;
            assert!(cut.is_err(), "the transfer ended by itself");
            0
        }
        (None, _) => {
            tokio::time::sleep(Duration::from_secs(2)).await;
            0
        }
    };
    let took = began.elapsed();
    tell.send(true).unwrap();
    drop(carrying);
    let mut keys = keys.await.unwrap();
    keys.sort();
    Typed { keys, rate: crate::bench::meter::float(bytes) / took.as_secs_f64() }
}
