//! Figure 7: somebody types into a stream while another stream of the same machine carries as much as it can, against the same
//! over two connections.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::relay::{Line, Relay};
use super::service::{Kind, Way, transfer, types};
use super::stage::Stage;
use crate::gateway::Setup;
use crate::http::{Face, handshake};
use crate::port::Port;

/// Between two keys: faster than anybody types, slow enough to count as load of nothing.
const KEY_EVERY: Duration = Duration::from_millis(20);

/// What was seen beside a transfer.
#[derive(Clone, Debug)]
pub struct Typed {
    /// How long keys took to come back, sorted.
    pub keys: Vec<Duration>,
    /// Bytes in a second of the transfer.
    pub rate: f64,
}

/// How much is carried meanwhile.
#[derive(Clone, Copy, Debug)]
pub enum Bulk {
    /// So many bytes.
    Bytes(u64),
    /// As much as goes in this time.
    Seconds(u64),
}

/// Where both streams lead.
pub struct TypingStage {
    stage: Stage,
    direct: super::stage::Direct,
    through: Face,
    // The line to the machine, and the one to the service that is reached directly.
    _relays: Vec<Relay>,
    _ports: Vec<Port>,
}

impl TypingStage {
    /// Both roads, over a line if there is one.
    pub async fn set(line: Option<Line>) -> Self {
        let Some(line) = line else {
            let stage = Stage::set(Setup::default()).await;
            let direct = stage.direct(Kind::Carrier).await;
            let through = direct.face.clone();
            return Self { stage, direct, through, _relays: vec![], _ports: vec![] };
        };
        // The machine comes to the gateway over the line; people do not.
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

    /// Types over the gateway while it carries.
    pub async fn through_gateway(&self, way: Option<Way>, bulk: Bulk) -> Typed {
        beside(self.stage.connect("carrier").await, self.stage.connect("carrier").await, way, bulk).await
    }

    /// Types over one connection while another carries.
    pub async fn directly(&self, way: Option<Way>, bulk: Bulk) -> Typed {
        let open = || async { handshake(&self.through, &self.direct.config).await.unwrap() };
        beside(open().await, open().await, way, bulk).await
    }
}

async fn beside<IO>(mut typing: IO, mut carrying: IO, way: Option<Way>, bulk: Bulk) -> Typed
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (tell, end) = watch::channel(false);
    let keys = tokio::spawn(async move { types(&mut typing, KEY_EVERY, end).await.unwrap() });
    let began = Instant::now();
    let bytes = match (way, bulk) {
        (Some(way), Bulk::Bytes(bytes)) => {
            transfer(&mut carrying, way, bytes).await.unwrap();
            bytes
        }
        (Some(way), Bulk::Seconds(secs)) => {
            // Far more than the line takes in that time: it is cut off.
            let cut = tokio::time::timeout(Duration::from_secs(secs), transfer(&mut carrying, way, u64::MAX)).await;
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
