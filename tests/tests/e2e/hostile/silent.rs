//! Peers that do not read or do not reply.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::gateway::Setup;
use tests::wait::{PATIENCE, Stopwatch, eventually, never};
use wire::tunnel::{FromMachine, Opened, Reason, ToMachine};

use super::peer::{Answer, CONTROL, Connect};
use super::{Site, assert_passes, deaf, echo, fountain};
use crate::{audit, items};

/// Time from a person's request to the gateway's own reply for a machine that does not answer.
const OPEN_TIME: Duration = Duration::from_secs(12);

fn sessions(site: &Site) -> Vec<Value> {
    items(&site.alice.json(&["sessions", "list"]))
}

#[test]
fn a_person_who_never_reads_holds_up_nobody() {
    let mut site = Site::open(Setup::default());
    site.run(&[("echo", echo()), ("fountain", fountain())]);
    let mut other = site.connected("echo.alpha:1");
    let before = site.memory();
    let unread: Vec<Connect> = (0..20).map(|_| site.connected("fountain.alpha:1")).collect();
    // What each may be sent unread is bounded on every leg: it comes to a stand.
    let carried = || sessions(&site).iter().map(|row| row["from_machine"].as_u64().unwrap()).sum::<u64>();
    let mut last = 0;
    eventually("everything stands still", PATIENCE, || {
        let now = carried();
        let still = now > 0 && now == std::mem::replace(&mut last, now);
        still.then_some(())
    });
    assert_passes(&mut other);
    site.assert_served();
    let after = site.memory();
    assert!(after < before + 50, "{before} MiB before, {after} after");
    drop(unread);
    eventually("only one is left", PATIENCE, || (sessions(&site).len() == 1).then_some(()));
    assert_passes(&mut other);
}

#[test]
fn a_stream_of_the_machines_own_does_not_end_its_tunnel() {
    let reach =
        "@id(\"reach\")\npermit (principal is Lychgate::Machine, action == Lychgate::Action::\"reach\", resource);";
    let mut site = Site::open(Setup::default().policy(reach));
    site.run(&[("echo", echo())]);
    let port = tests::port::Port::take();
    let beta = crate::joined(&site.gateway, &site.alice, "beta");
    let mut run = beta.start(&["run", "--reach", &format!("echo=echo@alpha:{},raw", port.number())]);
    run.expect_stdout("the tunnel is up", |out| out.contains("tunnel-up").then_some(()));
    let mut program = TcpStream::connect(("127.0.0.1", port.number())).unwrap();
    let mut passes = || {
        program.write_all(b"hello").unwrap();
        let mut heard = [0; 5];
        program.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
    };
    passes();
    never("the tunnel ends", Duration::from_secs(50), || run.stdout().contains("tunnel-down").then_some(()));
    passes();
}

#[test]
fn a_machine_that_never_reads_is_let_go_and_others_go_on() {
    const STREAMS: usize = 50;
    let mut site = Site::open(Setup::default());
    site.run(&[("echo", echo())]);
    let mut other = site.connected("echo.alpha:1");
    let before = site.memory();
    let mut mallory = site.mallory_up();
    let mut callers = Vec::new();
    for _ in 0..STREAMS {
        let mut connect = site.asking("echo.mallory:1");
        mallory.let_in();
        assert_eq!(connect.answer().status, 200);
        callers.push(connect);
    }
    // More than the system takes for a connection whose owner does not read.
    for connect in &mut callers {
        connect.raw.tcp().set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let _ = connect.raw.send(&vec![b'x'; 1 << 20]);
    }
    let began = Stopwatch::start();
    assert_passes(&mut other);
    site.assert_served();
    let after = site.memory();
    assert!(after < before + 60, "{before} MiB before, {after} after");
    let ended = eventually("its sessions end", PATIENCE, || {
        let mut ended = audit(&site.alice, "session.closed");
        ended.retain(|row| row["detail"]["machine"].to_string().contains("mallory"));
        (ended.len() == STREAMS).then_some(ended)
    });
    began.assert_within(Duration::from_secs(28), "the end of a tunnel that takes nothing");
    assert!(ended.iter().all(|row| row["detail"]["reason"] == Reason::Lost.as_str()), "{ended:?}");
    site.asking("echo.mallory:1").answer().assert_refused(503, "offline", "destination_unavailable", "offline");
    assert_passes(&mut other);
    site.assert_healthy();
}

#[track_caller]
fn assert_silent(answer: &Answer) {
    answer.assert_refused(504, "machine-silent", "connection_timeout", "if the machine works, it reconnects");
    assert_eq!(answer.header("Retry-After"), Some("5"));
}

#[test]
fn a_machine_that_answers_too_late_keeps_its_tunnel() {
    let site = Site::open(Setup::default());
    let mut mallory = site.mallory_up();
    let mut connect = site.asking("echo.mallory:1");
    let (late, _) = mallory.asked();
    let began = Stopwatch::start();
    let (done, answered) = mpsc::channel();
    let answering = std::thread::spawn(move || {
        let answer = connect.answer();
        let _ = done.send(());
        answer
    });
    // Alive all the while, but for that.
    for number in 0.. {
        mallory.say(CONTROL, &FromMachine::Heartbeat { number });
        assert!(matches!(mallory.frame(CONTROL), Some(ToMachine::Heartbeat { .. })));
        if answered.recv_timeout(Duration::from_secs(2)).is_ok() {
            break;
        }
    }
    assert_silent(&answering.join().unwrap());
    began.assert_lasted(OPEN_TIME * 9 / 10);
    began.assert_within(OPEN_TIME * 2, "the refusal of a stream that nobody answers");
    // The answer that comes now is nobody's, and the next one is served.
    mallory.say(late, &Opened::Ok);
    let mut connect = site.asking("echo.mallory:1");
    let stream = mallory.let_in();
    assert_eq!(connect.answer().status, 200);
    mallory.data(stream, b"hello\n").unwrap();
    connect.hear(b"hello\n");
    site.assert_healthy();
}

#[test]
fn a_machine_that_answers_nothing_at_all_is_let_go() {
    let site = Site::open(Setup::default());
    let mut mallory = site.mallory_up();
    let mut connect = site.asking("echo.mallory:1");
    assert_silent(&connect.answer());
    site.asking("echo.mallory:1").answer().assert_refused(503, "offline", "destination_unavailable", "offline");
    let closing = mallory.closing_frame();
    assert_eq!((closing.reason, closing.detail.as_str()), (Reason::Peer, "it does not answer"));
    let mut mallory = site.mallory_up();
    let mut connect = site.asking("echo.mallory:1");
    mallory.let_in();
    assert_eq!(connect.answer().status, 200);
    site.assert_healthy();
}

#[test]
fn a_machine_that_stands_still_is_noticed_and_comes_back_by_itself() {
    let mut site = Site::open(Setup::default());
    site.run(&[("echo", echo())]);
    assert_passes(&mut site.connected("echo.alpha:1"));
    let run = site.run.as_ref().unwrap();
    run.signal(Signal::STOP);
    let mut connect = site.asking("echo.alpha:1");
    site.assert_healthy();
    connect.answer().assert_refused(504, "machine-silent", "connection_timeout", "its connection may be broken");
    site.asking("echo.alpha:1").answer().assert_refused(503, "offline", "destination_unavailable", "is offline");
    run.signal(Signal::CONT);
    eventually("it is back", PATIENCE, || {
        let mut connect = site.asking("echo.alpha:1");
        (connect.answer().status == 200).then(|| assert_passes(&mut connect))
    });
}

/// Streams of a lost tunnel end, even if their service never closes.
#[test]
fn a_service_that_never_closes_keeps_nothing_of_a_lost_tunnel() {
    let mut site = Site::open(Setup::default());
    site.run(&[("echo", echo()), ("deaf", deaf())]);
    let _held: Vec<Connect> = (0..3).map(|_| site.connected("deaf.alpha:1")).collect();
    site.gateway.kill();
    site.gateway.start();
    let said = || site.run.as_ref().unwrap().stdout();
    eventually("each has ended", PATIENCE, || (said().matches(Reason::Lost.explain()).count() == 3).then_some(()));
}

#[test]
fn a_gateway_that_stops_waits_for_what_is_open_and_no_longer() {
    let mut site = Site::open(Setup::default());
    site.run(&[("echo", echo())]);
    let mut connect = site.connected("echo.alpha:1");
    assert_passes(&mut connect);
    let run = site.run.as_mut().unwrap();
    let gateway = Pid::from_raw(i32::try_from(site.gateway.id()).unwrap()).unwrap();
    kill_process(gateway, Signal::TERM).unwrap();
    run.expect_stdout("it hears of it", |out| out.contains("tunnel-draining").then_some(()));
    assert_passes(&mut connect);
    drop(connect);
    let began = Stopwatch::start();
    let ended = site.gateway.ended();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    began.assert_within(Duration::from_secs(8), "the end of a gateway with nothing open");
    // And the machine comes back by itself.
    site.gateway.start();
    eventually("it is back", PATIENCE, || {
        let mut connect = site.asking("echo.alpha:1");
        (connect.answer().status == 200).then(|| assert_passes(&mut connect))
    });
}
