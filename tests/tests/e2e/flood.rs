//! Large numbers of slow, idle and aggressive clients: other clients are served meanwhile.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use tests::device::{self, Held, Key, Outcome};
use tests::gateway::{Gateway, Setup};
use tests::http::{Connection, Face, handshake};
use tests::program::raise_descriptor_limit;
use tests::raw::Raw;
use tests::tls;
use tests::wait::{PATIENCE, Stopwatch, eventually};
use tokio::task::JoinSet;

use crate::{at_the_gate, request_id, token};

/// Time limit for a normal client during a flood.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

struct Site {
    gateway: Gateway,
    alice: tests::cli::Lychgate,
    anonymous: Arc<ClientConfig>,
}

impl Site {
    fn open() -> Self {
        // Before the gateway is started, which inherits the limit.
        raise_descriptor_limit();
        let gateway = Setup::default().start();
        let alice = gateway.first_person();
        let anonymous = tls::trusting(&gateway.roots(), None);
        Self { gateway, alice, anonymous }
    }

    async fn machine(&self, name: &str, token: &str) -> Held {
        let key = Key::generate();
        let request = device::request(&key, Some(name), Some(token));
        let outcome = device::enroll(&self.gateway.enroll(), &self.anonymous, &key, &request).await.unwrap();
        match outcome {
            Outcome::Issued(reply) => Held { reply: *reply, key },
            other => panic!("{name} was not admitted: {other:?}"),
        }
    }

    /// A machine renews and a newcomer is admitted, each on a new connection and in time.
    async fn assert_served(&self, held: &Held, name: &str, token: &str) {
        let began = Stopwatch::start();
        let mut connection = Connection::open(&self.gateway.manage(), &held.config()).await.unwrap();
        assert_eq!(connection.get("/v1/self").await.unwrap().status, 200);
        began.assert_within(SERVED_WITHIN, "a machine's answer");
        let began = Stopwatch::start();
        let _ = self.machine(name, token).await;
        began.assert_within(SERVED_WITHIN, "a newcomer's answer");
    }
}

/// Sends one byte per second until the peer closes the connection; panics if that is too late.
fn drip(gateway: &Gateway, begin: &str, rest: &[u8]) {
    let face = gateway.enroll();
    let mut raw = Raw::open(face.address, &face.name, &tls::trusting_anybody(None)).unwrap();
    raw.tcp().set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    raw.send(begin.replace("HOST", &face.authority()).as_bytes()).unwrap();
    let began = Stopwatch::start();
    for byte in rest.iter().cycle() {
        began.assert_within(Duration::from_secs(40), "a byte a second");
        // The read is the pause: a second, or the end.
        if raw.send(&[*byte]).is_err() || raw.closed() {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_byte_a_second() {
    let site = Arc::new(Site::open());
    let (first, second) = (token(&site.alice, &[]), token(&site.alice, &[]));
    let held = site.machine("edge-07", &first).await;
    let slow = |begin: &'static str, rest: &'static [u8]| {
        let site = Arc::clone(&site);
        tokio::task::spawn_blocking(move || drip(&site.gateway, begin, rest))
    };
    let drips = [
        slow("GET /healthz HTTP/1.1\r\nHost: HOST\r\nX: ", b"a"),
        slow(
            "POST /v1/enrollments HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n",
            b" ",
        ),
        slow("", b"G"),
    ];
    site.assert_served(&held, "edge-08", &second).await;
    for drip in drips {
        drip.await.unwrap();
    }
}

/// Holds silent TLS connections from `prefixes` source prefixes; returns those that the gateway kept.
async fn hold(
    face: &Face,
    config: &Arc<ClientConfig>,
    count: usize,
    prefixes: u8,
) -> Vec<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let mut openers = JoinSet::new();
    for i in 0..count {
        let prefix = 1 + u8::try_from(i % usize::from(prefixes)).unwrap();
        let (face, config) = (face.from(Ipv4Addr::new(127, 0, prefix, 1)), Arc::clone(config));
        if openers.len() >= 64 {
            openers.join_next().await;
        }
        openers.spawn(async move { handshake(&face, &config).await.ok() });
    }
    openers.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_idle_machines() {
    let site = Site::open();
    let (first, second) = (token(&site.alice, &[]), token(&site.alice, &[]));
    let held = site.machine("edge-07", &first).await;
    // Five prefixes of four hundred.
    let kept = open_and_ask(&site.gateway.manage(), &held.config(), 2_000, 5).await;
    assert_eq!(kept.len(), 2_000);
    site.assert_served(&held, "edge-08", &second).await;
    drop(kept);
}

/// Connections with one request each, kept open.
async fn open_and_ask(face: &Face, config: &Arc<ClientConfig>, count: usize, prefixes: u8) -> Vec<Connection> {
    let mut workers = JoinSet::new();
    for worker in 0..32 {
        let (face, config) = (face.clone(), Arc::clone(config));
        let each = (worker..count).step_by(32);
        workers.spawn(async move {
            let mut kept = Vec::new();
            for i in each {
                let prefix = 1 + u8::try_from(i % usize::from(prefixes)).unwrap();
                let face = face.from(Ipv4Addr::new(127, 0, prefix, 1));
                let mut connection = Connection::open(&face, &config).await.unwrap();
                let reply = connection.get("/v1/self").await.unwrap();
                assert!([200, 429].contains(&reply.status), "{reply}");
                kept.push(connection);
            }
            kept
        });
    }
    workers.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_idle_strangers_of_one_network() {
    let site = Site::open();
    let (first, second) = (token(&site.alice, &[]), token(&site.alice, &[]));
    let held = site.machine("edge-07", &first).await;
    let kept = hold(&site.gateway.enroll(), &site.anonymous, 2_000, 1).await;
    // Clients from other networks are served: no network can use all places.
    site.assert_served(&held, "edge-08", &second).await;
    drop(kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_anonymous_requests() {
    let site = Site::open();
    let tokens: Vec<String> = (0..4).map(|_| token(&site.alice, &[])).collect();
    let held = site.machine("edge-07", &tokens[0]).await;
    let waiting = at_the_gate(&site.gateway, "at-the-gate");
    let (stop, turned_away) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut flood = JoinSet::new();
    for _ in 0..16 {
        let (face, config) = (site.gateway.enroll().from([127, 0, 7, 7]), Arc::clone(&site.anonymous));
        let (stop, turned_away) = (Arc::clone(&stop), Arc::clone(&turned_away));
        flood.spawn(async move {
            let key = Key::generate();
            let request = device::request(&key, None, None);
            while !stop.load(Ordering::Relaxed) {
                let Ok(mut connection) = Connection::open(&face, &config).await else { continue };
                for _ in 0..20 {
                    match device::enroll_on(&mut connection, &face, &key, &request).await {
                        Ok(Outcome::Refused(reply)) if reply.status == 429 => {
                            turned_away.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(_) => {}
                        Err(_) => break,
                    }
                }
            }
        });
    }
    for (round, token) in tokens[1..].iter().enumerate() {
        site.assert_served(&held, &format!("edge-1{round}"), token).await;
    }
    // People are served meanwhile too.
    let id = request_id(&site.alice, "at-the-gate");
    site.alice.ok(&["requests", "approve", &id, "--code", &waiting.code]);
    assert_eq!(waiting.join.end_within(tests::wait::PATIENCE).code, 0);
    stop.store(true, Ordering::Relaxed);
    flood.join_all().await;
    assert!(turned_away.load(Ordering::Relaxed) > 100, "the flood was no flood: {turned_away:?}");
}

/// Idle connections from a few networks fill the enroll face, and do not block clients from other networks.
#[test]
fn a_newcomer_finds_room_on_a_full_face() {
    let gateway = Setup::default()
        .config("limits.connections_enroll", 8)
        .config("limits.connections_enroll_per_prefix", 4)
        .start();
    let anybody = tls::trusting_anybody(None);
    let idle: Vec<Raw> = [21, 22]
        .into_iter()
        .flat_map(|net| (0..4).map(move |_| [127, 0, net, 1]))
        .map(|source| Raw::to(&gateway.enroll().from(source), &anybody).unwrap())
        .collect();
    assert!(Raw::to(&gateway.enroll().from([127, 0, 21, 1]), &anybody).is_err(), "its share is used up");
    eventually("the log says so", PATIENCE, || {
        let log = gateway.log();
        (log.contains("connections turned away") && log.contains("127.0.21.0/24")).then_some(())
    });
    for net in 30..36 {
        let mut newcomer = Raw::to(&gateway.enroll().from([127, 0, net, 1]), &anybody).unwrap();
        newcomer.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(newcomer.response().unwrap().0, 200);
    }
    drop(idle);
}
