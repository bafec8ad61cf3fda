//! Malicious dial-back connections: with tickets of others, used or invented tickets, wrong counts, or no data.

use std::sync::Arc;

use rustls::ClientConfig;
use tests::gateway::Setup;
use tests::http::Face;
use tests::raw::Raw;
use tests::tls;
use tests::wait::{PATIENCE, eventually};
use wire::tunnel::{DIAL_BACK_ALPN, DialBack, DialedBack, Frames, Opened, encode};

use super::Site;
use super::peer::{Connect, Peer};
use crate::audit;

/// A dial-back connection for a stream.
struct Dialed {
    raw: Raw,
    frames: Frames,
}

impl Dialed {
    fn with(face: &Face, config: &ClientConfig, ticket: &str) -> Self {
        let config: Arc<ClientConfig> = tls::speaking(config, DIAL_BACK_ALPN);
        let mut raw = Raw::open(face.address, &face.name, &config).unwrap();
        raw.send(&encode(&DialBack { ticket: ticket.to_owned() }).unwrap()).unwrap();
        Self { raw, frames: Frames::new() }
    }

    #[track_caller]
    fn answer(&mut self) -> DialedBack {
        loop {
            if let Some(answer) = self.frames.next_frame().unwrap() {
                return answer;
            }
            // One byte at a time: what follows is not ours to keep.
            let byte = self.raw.read_some(1).unwrap();
            assert!(!byte.is_empty(), "it ended without an answer");
            self.frames.feed(&byte);
        }
    }

    #[track_caller]
    fn refused(mut self, status: u16, code: &str) {
        let DialedBack::Refused { problem } = self.answer() else { panic!("it was let in") };
        assert_eq!((problem.status, problem.code()), (status, code), "{problem:?}");
        assert!(self.raw.closed());
    }
}

/// Mallory's tunnel, and alice's session to it: her end, the stream, and its ticket.
#[track_caller]
fn open(site: &Site, mallory: &mut Peer) -> (Connect, u32, String) {
    let mut connect = site.asking("echo.mallory:1");
    let (stream, open) = mallory.asked();
    mallory.say(stream, &Opened::Ok);
    assert_eq!(connect.answer().status, 200);
    (connect, stream, open.dial_back.unwrap())
}

#[test]
fn only_the_machine_that_was_asked_and_only_once() {
    let site = Site::open(Setup::default());
    let mut mallory = site.mallory_up();
    let face = site.gateway.manage();
    let (mut connect, stream, ticket) = open(&site, &mut mallory);
    let stranger = tls::trusting(&site.gateway.roots(), Some(&site.alpha.identity()));
    Dialed::with(&face, &stranger, &ticket).refused(404, "not-found");
    Dialed::with(&site.gateway.proxy(), &site.person, &ticket).refused(404, "not-found");
    for never in ["", "00000000000000000000000000000000", "\u{0}\r\n"] {
        Dialed::with(&face, &site.mallory, never).refused(404, "not-found");
    }
    // Whoever tried has not spent it.
    mallory.data(stream, b"by the tunnel, ").unwrap();
    let mut own = Dialed::with(&face, &site.mallory, &ticket);
    assert_eq!(own.answer(), DialedBack::Ok);
    own.raw.send(&15_u64.to_be_bytes()).unwrap();
    own.raw.send(b"and by its own\n").unwrap();
    connect.hear(b"by the tunnel, and by its own\n");
    connect.raw.send(b"answer\n").unwrap();
    assert_eq!(own.raw.read_some(8 + 7).unwrap(), [&0_u64.to_be_bytes()[..], b"answer\n"].concat());
    Dialed::with(&face, &site.mallory, &ticket).refused(404, "not-found");
    // With the session the ticket is gone as well.
    let (ended, _, ticket) = open(&site, &mut mallory);
    drop(ended);
    eventually("it is closed", PATIENCE, || audit(&site.alice, "session.closed").pop());
    Dialed::with(&face, &site.mallory, &ticket).refused(404, "not-found");
    site.assert_healthy();
}

#[test]
fn bytes_that_never_came_make_no_gap() {
    let site = Site::open(Setup::default());
    let mut mallory = site.mallory_up();
    let face = site.gateway.manage();
    // More is promised by the old way than comes there, less than came already, and no count at all.
    for (count, heard) in [(Some(100_u64), &b"first"[..]), (Some(2), b"first"), (None, b"first")] {
        let (mut connect, stream, ticket) = open(&site, &mut mallory);
        mallory.data(stream, b"first").unwrap();
        connect.hear(heard);
        let mut own = Dialed::with(&face, &site.mallory, &ticket);
        assert_eq!(own.answer(), DialedBack::Ok);
        if let Some(count) = count {
            own.raw.send(&count.to_be_bytes()).unwrap();
            own.raw.send(b"last").unwrap();
        }
        // And the tunnel is gone with whatever was on its way in it.
        drop((own, mallory));
        assert!(connect.ends(), "what came after the gap was let through");
        mallory = site.mallory_up();
    }
    site.assert_healthy();
}

#[test]
fn locked_machines_and_mute_ones_get_no_stream() {
    let site = Site::open(Setup::default().config("limits.head_time", "1s"));
    let mut mallory = site.mallory_up();
    let (_connect, _, ticket) = open(&site, &mut mallory);
    let face = site.gateway.manage();
    let config: Arc<ClientConfig> = tls::speaking(&site.mallory, DIAL_BACK_ALPN);
    let mut mute = Raw::open(face.address, &face.name, &config).unwrap();
    assert!(mute.closed(), "after the time that a head may take");
    let mut nonsense = Raw::open(face.address, &face.name, &config).unwrap();
    nonsense.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(nonsense.closed());
    site.alice.ok(&["machines", "lock", "mallory", "--reason", "stolen"]);
    Dialed::with(&face, &site.mallory, &ticket).refused(403, "locked");
    site.assert_healthy();
}
