//! Attacks through the tunnel and through a helper's connection.

use std::time::Duration;

use serde_json::Value;
use tests::gateway::Setup;
use tests::wait::{PATIENCE, Stopwatch, eventually};
use tests::{raw::Raw, tls};
use wire::tunnel::{FromMachine, Hello, Opened, Reached, Reason, STREAMS_ALPN, ToMachine, encode};

use super::peer::{CONTROL, DATA, Peer, SYN, header};
use super::{Site, assert_passes, echo};
use crate::audit;

/// What 10,000 streams may cost the gateway, in MiB: the streams of one connection with a window each are 16 for a tunnel
/// and 64 for a helper; without a limit they would be 2,500.
const MEMORY_MOST: u64 = 100;

/// Opens up to 10,000 streams, until the peer refuses.
fn open_streams(peer: &mut Peer, first: u32) {
    for hundred in 0..100_u32 {
        let ids = (0..100).map(|one| first + 2 * (100 * hundred + one));
        let opening: Vec<u8> = ids.flat_map(|id| header(DATA, SYN, id, 0)).collect();
        if peer.raw.send(&opening).is_err() {
            return;
        }
    }
}

#[test]
fn a_machine_that_opens_ten_thousand_streams_loses_its_tunnel() {
    let mut site = Site::open(Setup::default());
    site.run(&[("echo", echo())]);
    let mut other = site.connected("echo.alpha:1");
    assert_passes(&mut other);
    let before = site.memory();
    let mut mallory = site.mallory_up();
    let mut hit = site.asking("echo.mallory:1");
    mallory.let_in();
    assert_eq!(hit.answer().status, 200);
    open_streams(&mut mallory, 3);
    let closing = mallory.closing_frame();
    assert_eq!((closing.reason, closing.detail.as_str()), (Reason::Limit, "more than 64 streams"));
    while mallory.pump().unwrap_or(false) {}
    assert_limit(&site, "mallory");
    site.assert_served();
    assert_passes(&mut other);
    let after = site.memory();
    assert!(after < before + MEMORY_MOST, "{before} MiB before, {after} after");
    // It may come back, and behave.
    drop(site.mallory_up());
}

/// A session on the connection has its own reason in the audit event.
#[track_caller]
fn assert_limit(site: &Site, machine: &str) {
    eventually("it ended by the limit", PATIENCE, || {
        let closed = audit(&site.alice, "session.closed");
        closed
            .iter()
            .any(|event| {
                event["detail"]["reason"] == "limit" && event["detail"]["machine"].to_string().contains(machine)
            })
            .then_some(())
    });
}

#[test]
fn streams_before_the_hello_end_it() {
    let site = Site::open(Setup::default());
    let mut mallory = Peer::tunnel(&site.gateway.manage(), &site.mallory);
    mallory.open_with(CONTROL, b"");
    mallory.open_with(3, b"");
    let closing = mallory.closing_frame();
    assert_eq!(closing.reason, Reason::Peer);
    assert_eq!(closing.detail, "a stream before the hello was answered");
    site.assert_healthy();
}

#[test]
fn whoever_opens_a_helper_with_ten_thousand_streams_loses_it() {
    let mut site = Site::open(Setup::default());
    site.run(&[("echo", echo())]);
    let mut other = site.connected("echo.alpha:1");
    assert_passes(&mut other);
    let before = site.memory();
    let mut helper = Peer::connect(&site.gateway.proxy(), &site.person, STREAMS_ALPN).unwrap();
    helper.reach(1, "echo", "alpha");
    assert!(matches!(helper.frame::<Reached>(1), Some(Reached::Ok { .. })));
    open_streams(&mut helper, 3);
    while helper.pump().unwrap_or(false) {}
    assert_limit(&site, "alpha");
    site.assert_served();
    assert_passes(&mut other);
    let after = site.memory();
    assert!(after < before + MEMORY_MOST, "{before} MiB before, {after} after");
    let mut helper = Peer::connect(&site.gateway.proxy(), &site.person, STREAMS_ALPN).unwrap();
    helper.reach(1, "echo", "alpha");
    assert!(matches!(helper.frame::<Reached>(1), Some(Reached::Ok { .. })));
}

#[test]
fn whoever_says_no_hello_is_let_go_after_ten_seconds() {
    let site = Site::open(Setup::default());
    let mut mute = Peer::tunnel(&site.gateway.manage(), &site.mallory);
    let mut slow = Peer::tunnel(&site.gateway.manage(), &site.mallory);
    slow.open_with(CONTROL, &encode(&FromMachine::Hello(Hello::default())).unwrap()[..7]);
    let began = Stopwatch::start();
    let closing = slow.closing_frame();
    began.assert_lasted(Duration::from_secs(8));
    began.assert_within(Duration::from_secs(15), "the end for want of a hello");
    assert_eq!((closing.reason, closing.detail.as_str()), (Reason::Peer, "no hello within 10 s"));
    while mute.pump().unwrap() {}
    began.assert_within(Duration::from_secs(15), "the end of the mute one");
    site.assert_healthy();
}

/// Sends these bytes first; returns the gateway's closing frame.
#[track_caller]
fn says_first(site: &Site, bytes: &[u8], words: &str) {
    let mut mallory = Peer::tunnel(&site.gateway.manage(), &site.mallory);
    mallory.open_with(CONTROL, bytes);
    let closing = mallory.closing_frame();
    assert_eq!(closing.reason, Reason::Peer, "{closing:?}");
    assert!(closing.detail.contains(words), "it does not say `{words}`: {}", closing.detail);
    while mallory.pump().unwrap() {}
}

#[test]
fn frames_that_are_none_are_told_so() {
    let site = Site::open(Setup::default());
    says_first(&site, &[2, 0, 0, 2, b'{', b'}'], "a frame of version 2, where 1 is spoken");
    says_first(&site, &[1, 0xff, 0xff, 0xff], "a frame of 16777215 bytes, where 16384 are allowed");
    says_first(&site, &[1, 0, 0, 4, b'n', b'o', b'p', b'e'], "a frame that makes no sense");
    says_first(&site, b"GET / HTTP/1.1\r\n\r\n", "a frame of version 71");
    let beat = encode(&FromMachine::Heartbeat { number: 1 }).unwrap();
    says_first(&site, &beat, "the first frame must be a hello");
    let hello = encode(&FromMachine::Hello(Hello::default())).unwrap();
    says_first(&site, &[hello.clone(), hello].concat(), "a second hello");
    // And below the frames: what is no yamux ends it as well, with no place for words.
    let mut mallory = Peer::tunnel(&site.gateway.manage(), &site.mallory);
    mallory.raw.send(b"SSH-2.0-OpenSSH_9.9\r\n").unwrap();
    while mallory.pump().unwrap() {}
    site.assert_healthy();
}

#[test]
fn a_person_is_told_that_tunnels_are_for_machines() {
    let site = Site::open(Setup::default());
    let mut person = Peer::tunnel(&site.gateway.manage(), &site.person);
    person.hello(&[]);
    let closing = person.closing_frame();
    assert_eq!(closing.reason, Reason::Policy);
    assert!(closing.detail.contains("people connect to the proxy face"), "{}", closing.detail);
    assert!(closing.retry_after_ms >= 60_000);
    site.assert_healthy();
}

#[test]
fn a_machine_is_told_that_the_proxy_face_is_for_people() {
    let site = Site::open(Setup::default());
    let mut machine = super::peer::Connect::open(&site.gateway.proxy(), &site.mallory);
    machine.ask("echo.alpha:1");
    let words = "for people; a machine's own programs reach other machines with `lychgate run --reach`";
    machine.answer().assert_refused(403, "wrong-caller", "http_request_denied", words);
    assert!(machine.ends());
    let mut helper = Peer::connect(&site.gateway.proxy(), &site.mallory, STREAMS_ALPN).unwrap();
    helper.reach(1, "echo", "alpha");
    let Some(Reached::Refused { problem }) = helper.frame::<Reached>(1) else { panic!("it was let in") };
    assert_eq!((problem.status, problem.code()), (403, "wrong-caller"));
    assert!(problem.detail.contains(words), "{}", problem.detail);
    assert_eq!(audit(&site.alice, "session.opened").len(), 0);
    site.assert_healthy();
}

#[test]
fn without_a_certificate_nobody_gets_past_the_handshake() {
    let site = Site::open(Setup::default());
    let anonymous = tls::trusting(&site.gateway.roots(), None);
    for (face, alpn) in [
        (site.gateway.manage(), wire::tunnel::ALPN),
        (site.gateway.proxy(), STREAMS_ALPN),
        (site.gateway.proxy(), b"http/1.1".as_slice()),
    ] {
        // Over TLS 1.3 the client is done before it hears of it.
        let error = Peer::connect(&face, &anonymous, alpn).and_then(|mut peer| peer.raw.receive()).unwrap_err();
        assert!(error.to_string().contains("CertificateRequired"), "{error}");
    }
    site.assert_healthy();
}

#[test]
fn a_name_that_is_not_ours_is_no_way_in() {
    let gateway = Setup::default().shared().start();
    let face = gateway.proxy();
    for name in ["other.example", "echo--alpha.other.example", "echo--alpha.sub.proxy.localhost", "manage.proxy"] {
        let error = Raw::open(face.address, name, &tls::trusting_anybody(None)).err().unwrap();
        assert!(
            error.to_string().contains("UnrecognizedName") || error.to_string().contains("UnrecognisedName"),
            "{error}"
        );
    }
}

#[test]
fn a_hello_that_was_overtaken_does_not_throw_out_the_tunnel_that_came_after() {
    let site = Site::open(Setup::default());
    let mut old = Peer::tunnel(&site.gateway.manage(), &site.mallory);
    old.ping();
    let mut new = site.mallory_up();
    old.hello(&["echo"]);
    assert_eq!(old.closing_frame().reason, Reason::Replaced);
    let mut connect = site.asking("echo.mallory:1");
    let stream = new.let_in();
    assert_eq!(connect.answer().status, 200);
    new.data(stream, b"hello\n").unwrap();
    connect.hear(b"hello\n");
    // In the order in which they came it is as ever: the newest wins.
    let _newest = site.mallory_up();
    assert_eq!(new.closing_frame().reason, Reason::Replaced);
}

/// A second tunnel from another address indicates a copied key. A reconnect from the same address does not,
/// nor one after the first tunnel has ended.
#[test]
fn a_second_tunnel_from_elsewhere_is_written_down() {
    let site = Site::open(Setup::default());
    let up = |from: [u8; 4]| {
        let mut peer = Peer::tunnel(&site.gateway.manage().from(from), &site.mallory);
        peer.come_up(&["echo"]);
        peer
    };
    let twice = || -> Vec<[String; 2]> {
        let mut events = audit(&site.alice, "tunnel.twice");
        assert!(events.iter().all(|event| event["subject"] == "spiffe://test.example/machine/mallory"), "{events:?}");
        events.sort_by_key(|event| event["at_ms"].as_u64());
        let text = |event: &Value, key: &str| event["detail"][key].as_str().unwrap().to_owned();
        events.iter().map(|event| [text(event, "before"), text(event, "now")]).collect()
    };
    let (here, there) = ([127, 0, 0, 1], [127, 0, 0, 2]);
    let mut first = up(here);
    let mut second = up(here);
    assert_eq!(first.closing_frame().reason, Reason::Replaced);
    let third = up(there);
    assert_eq!(second.closing_frame().reason, Reason::Replaced);
    let want = [["127.0.0.1", "127.0.0.2"].map(str::to_owned)];
    eventually("the audit says so", PATIENCE, || (twice() == want).then_some(()));
    drop(third);
    eventually("nobody is there", PATIENCE, || {
        site.alice.json(&["machines", "show", "mallory"])["tunnel"].is_null().then_some(())
    });
    let mut fourth = up(here);
    let _fifth = up(there);
    assert_eq!(fourth.closing_frame().reason, Reason::Replaced);
    // Both that were from elsewhere while the one before was alive, and nothing else.
    let want = [want[0].clone(), want[0].clone()];
    eventually("the audit says so again", PATIENCE, || (twice().len() > 1).then_some(()));
    assert_eq!(twice(), want);
}

#[test]
fn what_a_machine_answers_is_not_trusted() {
    let site = Site::open(Setup::default());
    let mut mallory = site.mallory_up();
    // No frame at all where an answer should be: as if it had gone.
    for nonsense in [&[9, 0, 0, 0][..], &[1, 0xff, 0xff, 0xff], &[1, 0, 0, 1, b'x']] {
        let mut connect = site.asking("echo.mallory:1");
        let (stream, open) = mallory.asked();
        assert_eq!(open.service, "echo");
        mallory.data(stream, nonsense).unwrap();
        connect.answer().assert_refused(503, "offline", "destination_unavailable", "offline");
    }
    let mut connect = site.asking("echo.mallory:1");
    let (stream, _) = mallory.asked();
    let detail = "a\r\nSet-Cookie: x=1\r\n\r\n".to_owned();
    mallory.say(stream, &Opened::Refused { why: wire::tunnel::OpenRefusal::NotAllowed, detail });
    let answer = connect.answer();
    answer.assert_refused(403, "refused-by-machine", "http_request_denied", "ask the machine's owner");
    assert_eq!(answer.header("Set-Cookie"), None, "{answer:?}");
    eventually("no session is left", PATIENCE, || {
        crate::items(&site.alice.json(&["sessions", "list"])).is_empty().then_some(())
    });
    site.assert_healthy();
    mallory.say(CONTROL, &FromMachine::Heartbeat { number: 4 });
    assert!(matches!(mallory.frame(CONTROL), Some(ToMachine::Heartbeat { number: 4, .. })), "its tunnel goes on");
}
