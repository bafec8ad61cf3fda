//! A stream that carries much data moves to a connection of its own, at both ends: every byte arrives once and in order, and everything
//! that ends a session still does.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::port::Port;
use tests::program::Program;
use tests::wait::{PATIENCE, Stopwatch, eventually, unix_now};

use crate::rig::{Connected, Echo, Helpers, Running, metric, sessions};
use crate::{audit, items, joined};

/// Bytes of a transfer: enough to move a stream on a busy machine too.
const MUCH: usize = 24 * 1024 * 1024;

/// Bytes with a long period, so that a gap or a swap is detected.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from((n ^ (n >> 8) ^ (n >> 16)).wrapping_mul(31) & 0xff).unwrap()).collect()
}

/// Sends bytes to an echo and reads them back concurrently.
#[track_caller]
fn there_and_back(stream: &TcpStream, bytes: &[u8]) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut heard = vec![0; bytes.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| (&*stream).write_all(bytes).unwrap());
        (&*stream).read_exact(&mut heard).unwrap();
    });
    let wrong = heard.iter().zip(bytes).position(|(heard, said)| heard != said);
    assert_eq!(wrong, None, "the first byte that is not what was sent");
}

/// `lychgate forward`, and its address.
#[track_caller]
fn forward(person: &Lychgate, machine: &str, service: &str) -> (Program, SocketAddr) {
    let mut forward = person.start(&["forward", "--raw", machine, service]);
    let at = forward.expect_stderr("it listens", |said| {
        said.split_once("lychgate: ")?.1.split_once(" forwards to")?.0.parse().ok()
    });
    (forward, at)
}

/// Waits until the open session has `count` separate connections.
#[track_caller]
fn moved(person: &Lychgate, ends: u64) -> Value {
    eventually("the stream has moved", PATIENCE, || {
        sessions(person).into_iter().find(|session| session["dial_backs"] == ends)
    })
}

#[track_caller]
fn connections(gateway: &Gateway, person: &Lychgate, face: &str) -> u64 {
    metric(gateway, person, &format!("lychgate_connections{{face=\"{face}\"}}"))
}

#[test]
fn what_carries_much_moves_at_both_ends_and_arrives_whole() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let exposed = [echo.exposed("raw", ",raw"), echo.exposed("shut", ",sealed")];
    let _alpha = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &exposed[0], "--expose", &exposed[1]]);
    let bytes = pattern(MUCH);
    for service in ["raw", "shut"] {
        let (_forward, at) = forward(&alice, "alpha", service);
        let stream = TcpStream::connect(at).unwrap();
        // Little stays where it began.
        there_and_back(&stream, b"hello\n");
        assert_eq!(sessions(&alice)[0]["dial_backs"], 0);
        there_and_back(&stream, &bytes);
        let session = moved(&alice, 2);
        // One for the machine's stream beside its tunnel, one for the person's beside the others.
        assert_eq!(connections(&gateway, &alice, "tunnel"), 2);
        assert_eq!(connections(&gateway, &alice, "proxy"), 2);
        there_and_back(&stream, &bytes);
        there_and_back(&stream, b"and a little more\n");
        let id = session["id"].as_str().unwrap().to_owned();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!((&stream).read(&mut [0; 1]).unwrap(), 0, "its end arrives too");
        drop(stream);
        let closed = eventually("the audit has its end", PATIENCE, || {
            audit(&alice, "session.closed").into_iter().find(|event| event["subject"] == id)
        });
        assert_eq!(closed["detail"]["reason"], "peer");
        if service == "raw" {
            let all = (2 * MUCH + b"hello\n".len() + b"and a little more\n".len()).to_string();
            assert_eq!(
                (&closed["detail"]["to_machine"], &closed["detail"]["from_machine"]),
                (&all.clone().into(), &all.into())
            );
        }
        eventually("nothing is left open", PATIENCE, || {
            (connections(&gateway, &alice, "tunnel") == 1 && connections(&gateway, &alice, "proxy") <= 1).then_some(())
        });
    }
    assert_eq!(metric(&gateway, &alice, "lychgate_dial_backs_total{outcome=\"done\"}"), 4);
    assert!(audit(&alice, "lineage.forked").is_empty());
}

#[test]
fn what_one_machine_sends_another_moves_at_both() {
    let rule = "@id(\"agents-reach\") permit(principal is Lychgate::Machine, action == Lychgate::Action::\"reach\", \
                resource is Lychgate::Service);";
    let echo = Echo::start();
    let gateway = Setup::default().policy(rule).start();
    let alice = gateway.first_person();
    let exposed = [echo.exposed("raw", ",raw,allow=machine"), echo.exposed("shut", ",sealed,allow=machine")];
    let _infra = Running::start(joined(&gateway, &alice, "infra"), &["--expose", &exposed[0], "--expose", &exposed[1]]);
    let ports = [Port::take(), Port::take()];
    let reach = [format!("raw=raw.infra:{},raw", ports[0].number()), format!("shut=shut.infra:{}", ports[1].number())];
    let _edge = Running::start(joined(&gateway, &alice, "edge"), &["--reach", &reach[0], "--reach", &reach[1]]);
    let bytes = pattern(MUCH);
    for port in &ports {
        let stream = TcpStream::connect(("127.0.0.1", port.number())).unwrap();
        there_and_back(&stream, &bytes);
        moved(&alice, 2);
        there_and_back(&stream, &bytes[..1_000_000]);
        drop(stream);
        eventually("it is closed", PATIENCE, || sessions(&alice).is_empty().then_some(()));
    }
    assert_eq!(connections(&gateway, &alice, "tunnel"), 2);
}

/// An endless transfer through `forward`, whose bytes are discarded.
struct Endless {
    _forward: Program,
    stream: TcpStream,
}

impl Endless {
    #[track_caller]
    fn start(person: &Lychgate) -> Self {
        let (forward, at) = forward(person, "alpha", "echo");
        let stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut to, mut from) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
        std::thread::spawn(move || while to.write_all(&[b'x'; 64 * 1024]).is_ok() {});
        std::thread::spawn(move || while from.read(&mut [0; 64 * 1024]).is_ok_and(|read| read > 0) {});
        moved(person, 2);
        Self { _forward: forward, stream }
    }

    /// Whether the person's program sees an end soon.
    fn is_over(&mut self) -> bool {
        self.stream.write_all(b"x").and_then(|()| self.stream.write_all(b"x")).is_err()
    }
}

#[test]
fn a_lock_reaches_what_has_moved_within_a_second() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let bob = gateway.client("bob");
    let invitation = alice.json(&["people", "invite", "--name", "bob", "--group", "admins"]);
    bob.ok(&["join", invitation["token"].as_str().unwrap(), "--name", "bob"]);
    let mut alpha = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &echo.exposed("echo", ",raw")]);
    for lock in [["people", "bob"], ["machines", "alpha"]] {
        let mut endless = Endless::start(&bob);
        let began = Stopwatch::start();
        let said = alice.ok(&[lock[0], "lock", lock[1], "--reason", "stolen"]);
        assert!(said.contains("ended 1 session in"), "{said}");
        eventually("the person's end is closed", PATIENCE, || endless.is_over().then_some(()));
        began.assert_within(Duration::from_secs(5), "the cut, with the commands themselves");
        let enforced = audit(&alice, "lock.enforced").pop().unwrap();
        let millis: u64 = enforced["detail"]["millis"].as_str().unwrap().parse().unwrap();
        began.assert_took(Duration::from_millis(millis), Duration::from_secs(1), "the cut by its own record");
        let closed = eventually("the audit says so", PATIENCE, || audit(&alice, "session.closed").pop());
        assert_eq!(closed["detail"]["reason"], "locked");
        if lock[0] == "people" {
            alpha.run.expect_stdout("the machine hears why", |out| {
                (out.contains("the gateway ended the session") && out.contains("a lock was set")).then_some(())
            });
            alice.ok(&["people", "unlock", "bob"]);
        }
    }
    eventually("nothing is left open", PATIENCE, || (connections(&gateway, &alice, "tunnel") == 0).then_some(()));
}

/// Both ends live for a minute and renew: what has moved outlives the certificates that its connections were made with, and so
/// does what has not.
#[test]
fn a_session_survives_renewals_of_the_person_and_of_the_machine() {
    let echo = Echo::start();
    let gateway = Setup::default().machine_lifetime("60s").start();
    let alice = gateway.first_person();
    gateway.edit_policy(|text| text.replace("@lifetime(\"12h\")", "@lifetime(\"60s\")"));
    gateway.reload();
    let bob = gateway.client("bob");
    let invitation = alice.json(&["people", "invite", "--name", "bob", "--group", "admins"]);
    bob.ok(&["join", invitation["token"].as_str().unwrap(), "--name", "bob"]);
    let _alpha = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &echo.exposed("echo", ",raw")]);
    let (_forward, at) = forward(&bob, "alpha", "echo");
    let [busy, quiet] = [(); 2].map(|()| TcpStream::connect(at).unwrap());
    there_and_back(&quiet, b"hello\n");
    there_and_back(&busy, &pattern(MUCH));
    moved(&alice, 2);
    // A person's certificate is renewed by whoever keeps it: here, by the person.
    let mut run = bob.start(&["run"]);
    let first: Vec<u64> = ["person/bob", "machine/alpha"].map(|who| first_end(&alice, who)).to_vec();
    eventually("the first certificates end", Duration::from_secs(100), || {
        (unix_now() > first.iter().max().unwrap() + 2).then_some(())
    });
    there_and_back(&busy, &pattern(1_000_000));
    there_and_back(&quiet, b"still here\n");
    assert_eq!(items(&alice.json(&["sessions", "list"])).len(), 2);
    assert!(audit(&alice, "lineage.forked").is_empty());
    // Without renewals it ends with the last certificate that was proven.
    let _helpers = Helpers::of(bob.dir());
    let mut by_helper = Connected::start(&bob, &["--helper", "alpha", "echo"]);
    by_helper.passes("hello\n");
    run.kill();
    eventually("its end", Duration::from_secs(100), || sessions(&alice).is_empty().then_some(()));
    let closed = audit(&alice, "session.closed");
    assert!(closed.iter().all(|event| event["detail"]["reason"] == "expired"), "{closed:?}");
    let (code, said) = by_helper.end();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("was ended: expired: a certificate came to its end"), "{said}");
}

/// When the first certificate of somebody ends, seconds since the Unix epoch.
#[track_caller]
fn first_end(person: &Lychgate, who: &str) -> u64 {
    let subject = format!("spiffe://test.example/{who}");
    let issued = audit(person, "certificate.issued").into_iter().filter(|event| event["subject"] == subject);
    issued.filter_map(|event| event["detail"]["not_after"].as_str()?.parse::<u64>().ok()).min().unwrap()
}

/// Ends that come while a stream moves: everything is sent, the end is said, and only then the answer comes. Whichever moment
/// that hits, the answer is whole.
#[test]
fn an_end_that_comes_while_it_moves_loses_nothing() {
    const SIZES: [usize; 6] = [200_000, 255_000, 262_145, 270_000, 400_000, 1_000_000];
    let echo = Echo::start();
    let gateway = Setup::default().no_limits().start();
    let alice = gateway.first_person();
    let exposed = [echo.exposed("raw", ",raw"), echo.exposed("shut", ",sealed")];
    let _alpha = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &exposed[0], "--expose", &exposed[1]]);
    let bytes = pattern(1_001_000);
    for service in ["raw", "shut"] {
        let (_forward, at) = forward(&alice, "alpha", service);
        for round in 0..180 {
            let said = &bytes[..SIZES[round % SIZES.len()] + round];
            let stream = TcpStream::connect(at).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut heard = Vec::new();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    (&stream).write_all(said).unwrap();
                    stream.shutdown(std::net::Shutdown::Write).unwrap();
                });
                (&stream).read_to_end(&mut heard).unwrap();
            });
            assert!(heard == said, "{service}, round {round}: {} of {} bytes came back", heard.len(), said.len());
        }
    }
    eventually("nothing is left open", PATIENCE, || sessions(&alice).is_empty().then_some(()));
}

/// Both ends connect to the address that the gateway gives, and stay where they are when nobody is there.
#[test]
fn a_dial_back_is_made_where_the_gateway_says() {
    let (echo, port) = (Echo::start(), Port::take());
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
    let gateway = Setup::default().config("public.dial_back", at.to_string()).start();
    let alice = gateway.first_person();
    let exposed = echo.exposed("raw", ",raw");
    let _alpha = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &exposed]);
    let (_forward, service) = forward(&alice, "alpha", "raw");
    let bytes = pattern(MUCH);
    let stream = TcpStream::connect(service).unwrap();
    there_and_back(&stream, &bytes);
    assert_eq!(sessions(&alice)[0]["dial_backs"], 0, "nobody is there");
    drop(stream);
    eventually("it is closed", PATIENCE, || sessions(&alice).is_empty().then_some(()));

    let accepted = relay(at, gateway.proxy().address);
    let stream = TcpStream::connect(service).unwrap();
    there_and_back(&stream, &bytes);
    moved(&alice, 2);
    there_and_back(&stream, &bytes);
    assert_eq!(accepted.load(Ordering::SeqCst), 2, "one of the machine, one of the person");
}

/// Relays connections to another address, and counts them.
fn relay(at: SocketAddr, to: SocketAddr) -> Arc<AtomicUsize> {
    let listener = std::net::TcpListener::bind(at).unwrap();
    let accepted = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&accepted);
    std::thread::spawn(move || {
        for here in listener.incoming().map_while(Result::ok) {
            count.fetch_add(1, Ordering::SeqCst);
            let there = TcpStream::connect(to).unwrap();
            for (mut from, mut into) in
                [(&here, &there), (&there, &here)].map(|(a, b)| (a.try_clone().unwrap(), b.try_clone().unwrap()))
            {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    accepted
}

/// Whoever says the end of what they send and goes away before the answer is through: nothing of it stays, although a stream
/// that was half closed cannot say by itself that it is gone.
#[test]
fn whoever_goes_away_half_way_leaves_no_session_behind() {
    let exposed = format!("fountain={},raw", fountain());
    let gateway = Setup::default().no_limits().start();
    let alice = gateway.first_person();
    let _alpha = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &exposed]);
    let (_forward, at) = forward(&alice, "alpha", "fountain");
    for round in 0..60 {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if round % 2 == 0 {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        stream.read_exact(&mut vec![0; 20_000 * (round % 20 + 1)]).unwrap();
    }
    eventually("nothing is left open", PATIENCE, || sessions(&alice).is_empty().then_some(()));
    eventually("and no connection", PATIENCE, || (connections(&gateway, &alice, "tunnel") == 1).then_some(()));
}

/// A service that sends without end.
fn fountain() -> SocketAddr {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || while stream.write_all(&[b'x'; 64 * 1024]).is_ok() {});
        }
    });
    at
}
