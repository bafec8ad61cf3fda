//! People reach services on machines that accept nothing from the network.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::cli::Lychgate;
use tests::gateway::Setup;
use tests::program::Program;
use tests::wait::{PATIENCE, eventually};

use crate::{assert_says, audit, items, joined};

/// A service that says what it hears, line by line, on loopback. Ends with the test.
struct Echo(SocketAddr);

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let mut from = stream.try_clone().unwrap();
                    let _ = std::io::copy(&mut from, &mut stream);
                });
            }
        });
        Self(at)
    }

    fn exposed(&self, name: &str, how: &str) -> String {
        format!("{name}={}{how}", self.0)
    }
}

/// A machine that runs, exposing something, with its tunnel up.
struct Running {
    machine: Lychgate,
    run: Program,
}

impl Running {
    #[track_caller]
    fn start(machine: Lychgate, flags: &[&str]) -> Self {
        let mut run = machine.start(&[&["run"], flags].concat());
        run.expect_stdout("the tunnel is up", |out| out.contains("tunnel-up").then_some(()));
        Self { machine, run }
    }
}

/// `lychgate connect` with its ends in our hands.
struct Connected {
    child: Child,
}

impl Connected {
    fn start(person: &Lychgate, args: &[&str]) -> Self {
        let child = person
            .command(&[&["connect"], args].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child }
    }

    #[track_caller]
    fn say(&mut self, line: &str) {
        self.child.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }

    #[track_caller]
    fn hear(&mut self, want: &str) {
        let mut heard = vec![0; want.len()];
        if let Err(error) = self.child.stdout.as_mut().unwrap().read_exact(&mut heard) {
            let mut said = String::new();
            self.child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
            panic!("it ended instead: {error}\n{said}");
        }
        assert_eq!(String::from_utf8_lossy(&heard), want);
    }

    /// Says something and hears it come back: bytes pass both ways.
    #[track_caller]
    fn passes(&mut self, line: &str) {
        self.say(line);
        self.hear(line);
    }

    /// What it said at its end, and its exit code.
    #[track_caller]
    fn end(mut self) -> (i32, String) {
        let status = eventually("the end of `connect`", PATIENCE, || self.child.try_wait().unwrap());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code().unwrap_or(-1), said)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn sessions(person: &Lychgate) -> Vec<Value> {
    items(&person.json(&["sessions", "list"]))
}

#[test]
fn a_person_reaches_a_service_behind_the_gateway() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let _a = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &echo.exposed("echo", ",raw")]);
    let mut open = Connected::start(&alice, &["alpha", "echo"]);
    open.passes("hello\n");
    let listed = sessions(&alice);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["machine"], "alpha");
    assert_eq!(listed[0]["service"], "echo");
    assert_eq!(listed[0]["rules"], serde_json::json!(["admins-connect"]));
    drop(open.child.stdin.take());
    let (code, said) = open.end();
    assert_eq!((code, said.as_str()), (0, ""));
    eventually("the session is closed", PATIENCE, || sessions(&alice).is_empty().then_some(()));
    let closed = eventually("the audit says so", PATIENCE, || audit(&alice, "session.closed").pop());
    assert_eq!(closed["detail"]["reason"], "peer");
    assert_eq!(closed["detail"]["to_machine"], "6");
    assert_eq!(closed["detail"]["from_machine"], "6");
    assert_eq!(audit(&alice, "session.opened").len(), 1);
}

#[test]
fn a_lock_ends_a_session_within_a_second_and_says_why() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let _a = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &echo.exposed("echo", ",raw")]);
    let mut open = Connected::start(&alice, &["alpha", "echo"]);
    open.passes("hello\n");
    let began = Instant::now();
    let locked = alice.ok(&["machines", "lock", "alpha", "--reason", "stolen"]);
    assert!(locked.contains("ended 1 session in"), "{locked}");
    let mut rest = Vec::new();
    open.child.stdout.as_mut().unwrap().read_to_end(&mut rest).unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?} with the command itself", began.elapsed());
    let (code, said) = open.end();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("locked: a lock was set"), "{said}");
    let enforced = audit(&alice, "lock.enforced").pop().unwrap();
    assert_eq!(enforced["detail"]["sessions"], "1");
    let millis: u64 = enforced["detail"]["millis"].as_str().unwrap().parse().unwrap();
    assert!(millis <= 1_000, "{enforced}");
    assert_says(&alice.refused(&["connect", "alpha", "echo"]), 3, "locked-machine");
}
