//! Received data is complete, or the program reports that it is not: for each kind of end, with open and closed standard input, raw
//! and sealed, with and without helper.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::port::Port;
use tests::raw::Raw;
use tests::tls;
use tests::wait::{PATIENCE, eventually};

use crate::rig::{Connected, Helpers, Running, sessions};
use crate::{audit, joined};

/// A service that sends data slowly, until the test ends it.
struct Dump {
    at: SocketAddr,
    close: Arc<AtomicBool>,
    reset: Arc<AtomicBool>,
}

impl Dump {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let (close, reset) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let told = (Arc::clone(&close), Arc::clone(&reset));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let told = (Arc::clone(&told.0), Arc::clone(&told.1));
                std::thread::spawn(move || send(stream, &told.0, &told.1));
            }
        });
        Self { at, close, reset }
    }
}

fn send(mut stream: TcpStream, close: &AtomicBool, reset: &AtomicBool) {
    while !close.load(Ordering::SeqCst) {
        if reset.load(Ordering::SeqCst) {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            return;
        }
        if stream.write_all(&[b'x'; 1000]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One `connect` under way, its output in a file.
struct Transfer {
    what: String,
    child: Child,
    file: PathBuf,
}

impl Transfer {
    fn all(gateway: &Gateway, who: &Lychgate) -> Vec<Self> {
        let mut all = Vec::new();
        for service in ["raw", "sealed"] {
            for way in [&[][..], &["--helper"]] {
                for stdin in ["open", "at its end"] {
                    let what = format!("{service} {way:?}, standard input {stdin}");
                    let file = gateway.room().join(format!("got-{}", all.len()));
                    let child = who
                        .command(&[&["connect", "--raw"], way, &[&format!("{service}@alpha")]].concat())
                        .stdin(if stdin == "open" { Stdio::piped() } else { Stdio::null() })
                        .stdout(File::create(&file).unwrap())
                        .stderr(Stdio::piped())
                        .spawn()
                        .unwrap();
                    all.push(Self { what, child, file });
                }
            }
        }
        for one in &all {
            let some = || std::fs::metadata(&one.file).is_ok_and(|about| about.len() > 3000).then_some(());
            eventually(&format!("bytes of {}", one.what), PATIENCE, some);
        }
        all
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that reads from a port of `--reach`. It has no exit code; the test checks whether it sees end of file or an error.
struct Reader {
    what: String,
    program: TcpStream,
}

impl Reader {
    fn all(ports: &[(&str, Port)]) -> Vec<Self> {
        let mut all = Vec::new();
        for (service, port) in ports {
            for half_closed in [false, true] {
                let what = format!("{service} by --reach, half closed: {half_closed}");
                let mut program = TcpStream::connect((Ipv4Addr::LOCALHOST, port.number())).unwrap();
                program.set_read_timeout(Some(PATIENCE)).unwrap();
                if half_closed {
                    program.shutdown(std::net::Shutdown::Write).unwrap();
                }
                if let Err(error) = program.read_exact(&mut [0; 3000]) {
                    panic!("{what}: {error}");
                }
                all.push(Self { what, program });
            }
        }
        all
    }

    /// Whether it ended as complete data does.
    fn ended_well(mut self) -> bool {
        match std::io::copy(&mut self.program, &mut std::io::sink()) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{}", self.what);
                false
            }
        }
    }
}

/// The setup for all kinds of ends.
struct Stage {
    gateway: Gateway,
    alice: Lychgate,
    alpha: Running,
    dump: Dump,
}

/// A rule that permits `reach` for machines.
const RULE: &str = "@id(\"agents-reach\") permit(principal is Lychgate::Machine, action == Lychgate::Action::\"reach\", \
                    resource is Lychgate::Service);";

/// Opens one transfer of each kind, ends them, and checks the message and exit code of each.
#[track_caller]
fn check(end: impl FnOnce(&mut Stage), exit: i32, says: &str) {
    let dump = Dump::start();
    let gateway = Setup::default().policy(RULE).config("limits.drain_time", "1s").start();
    let alice = gateway.first_person();
    let _helpers = Helpers::of(alice.dir());
    let modes = ["raw", "sealed"];
    let exposed = modes.map(|mode| format!("{mode}={},{mode},allow=machine,allow=person", dump.at));
    let alpha = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &exposed[0], "--expose", &exposed[1]]);
    let ports = modes.map(|mode| (mode, Port::take()));
    let reach =
        [format!("raw=raw.alpha:{},raw", ports[0].1.number()), format!("sealed=sealed.alpha:{}", ports[1].1.number())];
    let _edge = Running::start(joined(&gateway, &alice, "edge"), &["--reach", &reach[0], "--reach", &reach[1]]);
    let mut stage = Stage { gateway, alice, alpha, dump };
    let transfers = Transfer::all(&stage.gateway, &stage.alice);
    let readers = Reader::all(&ports);
    end(&mut stage);
    for reader in readers {
        let what = reader.what.clone();
        assert_eq!(reader.ended_well(), exit == 0, "{what}");
    }
    for mut transfer in transfers {
        let what = &transfer.what;
        let status = eventually(&format!("the end of {what}"), PATIENCE, || transfer.child.try_wait().unwrap());
        let mut said = String::new();
        std::io::Read::read_to_string(&mut transfer.child.stderr.take().unwrap(), &mut said).unwrap();
        assert_eq!(status.code(), Some(exit), "{what}: {said}");
        assert!(said.contains(says), "{what} does not say `{says}`: {said}");
        assert_eq!(exit == 0, said.is_empty(), "{what}: {said}");
    }
}

#[test]
fn the_service_has_no_more_to_say() {
    check(|stage| stage.dump.close.store(true, Ordering::SeqCst), 0, "");
}

#[test]
fn the_service_breaks_off() {
    check(|stage| stage.dump.reset.store(true, Ordering::SeqCst), 5, "broke");
}

#[test]
fn the_gateway_is_killed() {
    check(|stage| stage.gateway.kill(), 5, "was ended: ");
}

#[test]
fn the_gateway_stops() {
    check(|stage| drop(stage.gateway.stop()), 5, "was ended: drained");
}

#[test]
fn the_machine_is_killed() {
    check(|stage| stage.alpha.run.kill(), 5, "was ended: lost");
}

#[test]
fn the_machine_stops() {
    check(|stage| stage.alpha.run.signal(Signal::TERM), 5, "was ended: lost");
}

#[test]
fn the_machine_is_locked() {
    let lock = |stage: &mut Stage| drop(stage.alice.ok(&["machines", "lock", "alpha", "--reason", "stolen"]));
    check(lock, 3, "was ended: locked");
}

#[test]
fn somebody_ends_them() {
    let kill = |stage: &mut Stage| {
        for session in sessions(&stage.alice) {
            stage.alice.ok(&["sessions", "kill", session["id"].as_str().unwrap()]);
        }
    };
    check(kill, 3, "was ended: killed");
}

/// A program that uses a forwarded port sees a reset, and not an end that it would take for the end of the data; the same for a
/// stock program by `CONNECT`, whose TLS has no orderly end.
#[test]
fn other_programs_see_that_it_was_cut() {
    let dump = Dump::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let exposed = format!("raw={},raw", dump.at);
    let _alpha = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &exposed]);
    let mut forward = alice.start(&["forward", "--raw", "raw@alpha"]);
    let at: SocketAddr = forward.expect_stderr("it listens", |said| {
        said.split_once("lychgate: ")?.1.split_once(" forwards to")?.0.parse().ok()
    });
    for half_closed in [false, true] {
        let mut program = TcpStream::connect(at).unwrap();
        program.set_read_timeout(Some(PATIENCE)).unwrap();
        std::io::Read::read_exact(&mut program, &mut [0; 3000]).unwrap();
        if half_closed {
            program.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let id = sessions(&alice)[0]["id"].as_str().unwrap().to_owned();
        alice.ok(&["sessions", "kill", &id]);
        let end = std::io::copy(&mut program, &mut std::io::sink());
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "half closed: {half_closed}");
    }
    let reasons = audit(&alice, "session.closed");
    assert!(reasons.iter().all(|closed| closed["detail"]["reason"] == "killed"), "{reasons:?}");
    let face = gateway.proxy();
    let config = tls::trusting(&gateway.roots(), Some(&alice.identity()));
    let mut raw = Raw::open(face.address, &face.name, &config).unwrap();
    raw.send(b"CONNECT raw.alpha:80 HTTP/1.1\r\nHost: raw.alpha:80\r\n\r\n").unwrap();
    assert!(!raw.receive().unwrap().is_empty());
    let id = sessions(&alice)[0]["id"].as_str().unwrap().to_owned();
    alice.ok(&["sessions", "kill", &id]);
    let end = loop {
        match raw.receive() {
            Ok(bytes) if bytes.is_empty() => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error.kind()),
        }
    };
    assert!(end.is_err(), "an orderly end of TLS after a cut");
}

/// A service sees the end of what it is sent when its caller has ended it, and an error when the caller was lost or cut off: half an
/// upload is none.
#[test]
fn a_service_sees_that_what_it_was_sent_was_cut() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let (to, ends) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let to = to.clone();
            std::thread::spawn(move || {
                let _ = to.send(std::io::copy(&mut stream, &mut std::io::sink()).map_err(|error| error.kind()));
            });
        }
    });
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let exposed = ["raw", "sealed"].map(|mode| format!("{mode}={at},{mode}"));
    let _alpha = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &exposed[0], "--expose", &exposed[1]]);
    let reset = Err(std::io::ErrorKind::ConnectionReset);
    for service in ["raw@alpha", "sealed@alpha"] {
        for (end, want) in [("its caller ends it", Ok(5)), ("its caller is killed", reset), ("it is killed", reset)] {
            let mut caller = Connected::start(&alice, &[service]);
            caller.say("12345");
            let arrived =
                || sessions(&alice).iter().any(|session| session["to_machine"].as_u64() >= Some(5)).then_some(());
            eventually("the bytes at the gateway", PATIENCE, arrived);
            match end {
                "its caller ends it" => drop(caller.child.stdin.take()),
                "its caller is killed" => caller.child.kill().unwrap(),
                _ => {
                    let id = sessions(&alice)[0]["id"].as_str().unwrap().to_owned();
                    alice.ok(&["sessions", "kill", &id]);
                }
            }
            assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), want, "{service}: {end}");
            drop(caller);
            eventually("it is over", PATIENCE, || sessions(&alice).is_empty().then_some(()));
        }
    }
}
