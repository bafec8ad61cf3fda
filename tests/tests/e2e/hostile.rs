//! Malicious and broken peers: each gets an error where the protocol allows one, and other peers are not affected.

mod dial_back;
mod many;
pub mod peer;
mod proxy;
mod silent;
mod tunnel;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::Program;
use tests::wait::Stopwatch;
use tests::{raw, tls};

use self::peer::{Connect, Peer};
use crate::joined;

/// Time limit for a reply during an attack.
const AT_ONCE: Duration = Duration::from_secs(3);

/// A service on loopback that calls `serve` for each connection in a thread.
fn service(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    at
}

/// Sends back what it receives.
fn echo() -> SocketAddr {
    service(|mut stream| {
        let mut from = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut from, &mut stream);
    })
}

/// Sends without end.
fn fountain() -> SocketAddr {
    service(|mut stream| while stream.write_all(&[b'x'; 64 * 1024]).is_ok() {})
}

/// Reads, never sends, and never closes, not even after its caller has.
fn deaf() -> SocketAddr {
    service(|mut stream| {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        loop {
            std::thread::park();
        }
    })
}

/// A gateway with alice, who may connect to every service; `alpha`, an honest machine; and the certificate of `mallory`, a
/// malicious one.
struct Site {
    gateway: Gateway,
    alice: Lychgate,
    alpha: Lychgate,
    run: Option<Program>,
    person: Arc<ClientConfig>,
    mallory: Arc<ClientConfig>,
}

impl Site {
    #[track_caller]
    fn open(setup: Setup) -> Self {
        let gateway = setup.start();
        let alice = gateway.first_person();
        let alpha = joined(&gateway, &alice, "alpha");
        let roots = gateway.roots();
        let person = tls::trusting(&roots, Some(&alice.identity()));
        let mallory = tls::trusting(&roots, Some(&joined(&gateway, &alice, "mallory").identity()));
        Self { gateway, alice, alpha, run: None, person, mallory }
    }

    /// Starts `lychgate run` on alpha with these exposed services, and waits for its tunnel.
    #[track_caller]
    fn run(&mut self, exposed: &[(&str, SocketAddr)]) {
        let flags: Vec<String> =
            exposed.iter().map(|(name, at)| format!("{name}={at},raw,allow=person,allow=machine")).collect();
        let mut args = vec!["run"];
        args.extend(flags.iter().flat_map(|flag| ["--expose", flag.as_str()]));
        let mut run = self.alpha.start(&args);
        run.expect_stdout("the tunnel is up", |out| out.contains("tunnel-up").then_some(()));
        self.run = Some(run);
    }

    /// Mallory's tunnel, up and exposing `echo`.
    #[track_caller]
    fn mallory_up(&self) -> Peer {
        let mut peer = Peer::tunnel(&self.gateway.manage(), &self.mallory);
        peer.come_up(&["echo"]);
        peer
    }

    /// Alice's `CONNECT`, sent and without reply yet.
    fn asking(&self, target: &str) -> Connect {
        let mut connect = Connect::open(&self.gateway.proxy(), &self.person);
        connect.ask(target);
        connect
    }

    /// Alice's connection to a service, open.
    #[track_caller]
    fn connected(&self, target: &str) -> Connect {
        let mut connect = self.asking(target);
        let answer = connect.answer();
        assert_eq!(answer.status, 200, "{answer:?}");
        connect
    }

    /// The gateway replies within [`AT_ONCE`].
    #[track_caller]
    fn assert_healthy(&self) {
        let face = self.gateway.enroll();
        let began = Stopwatch::start();
        let answer = raw::get(face.address, &face.name, &tls::trusting_anybody(None), "/healthz");
        assert_eq!(answer.map(|(status, _)| status), Some(200));
        began.assert_within(AT_ONCE, "the answer");
    }

    /// The gateway replies, and a person reaches an honest machine.
    #[track_caller]
    fn assert_served(&self) {
        self.assert_healthy();
        let began = Stopwatch::start();
        assert_passes(&mut self.connected("echo.alpha:1"));
        began.assert_within(AT_ONCE, "the answer");
    }

    /// Resident memory of the gateway, in MiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.gateway.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }
}

#[track_caller]
fn assert_passes(connect: &mut Connect) {
    connect.raw.send(b"hello\n").unwrap();
    connect.hear(b"hello\n");
}
