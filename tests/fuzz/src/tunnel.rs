//! The frames of a tunnel. However the bytes are cut, the same frames come out of them; no more is held than one frame and
//! what was fed last; and both ends' conversations take any of them, in any order, without going on after their end.

use std::{fmt::Debug, time::Duration};

use enroll_client::core::tunnel as client;
use gateway::edge::tunnel::conversation::{self as server, GatewayState};
use serde::{Serialize, de::DeserializeOwned};
use wire::tunnel::{
    BadFrame, Closing, DialBack, DialedBack, FRAME_HEAD, FRAME_MAX, Frames, FromMachine, Hello, Mode, Open,
    OpenRefusal, Opened, Reach, Reached, Reason, ServiceOffer, ToMachine, Welcome, body_len, decode, encode,
};

use crate::{
    Outcome,
    parts::{mode, with_mode},
};

/// Judges one input: the first byte says which frames they are, and how large the pieces.
pub fn check(data: &[u8]) -> Outcome {
    let Some((mode, bytes)) = mode(data) else { return Outcome::Refused };
    let piece = usize::from(mode >> 3).max(1);
    let taken = match mode & 7 {
        0 | 1 => {
            let frames = frames::<FromMachine>(bytes, piece);
            gateway(&frames);
            !frames.is_empty()
        }
        2 | 3 => {
            let frames = frames::<ToMachine>(bytes, piece);
            machine(&frames);
            !frames.is_empty()
        }
        4 => !frames::<Open>(bytes, piece).is_empty(),
        5 => !frames::<Opened>(bytes, piece).is_empty(),
        6 => !(frames::<Reach>(bytes, piece).is_empty() && frames::<DialBack>(bytes, piece).is_empty()),
        _ => !(frames::<Reached>(bytes, piece).is_empty() && frames::<DialedBack>(bytes, piece).is_empty()),
    };
    Outcome::any(&[taken])
}

trait Frame: Serialize + DeserializeOwned + PartialEq + Debug {}
impl<T: Serialize + DeserializeOwned + PartialEq + Debug> Frame for T {}

/// All frames of a stream, read with the two functions below the collector.
fn plain<T: Frame>(bytes: &[u8]) -> (Vec<(T, usize)>, Option<BadFrame>) {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        let Some(head) = bytes[at..].first_chunk::<FRAME_HEAD>() else { return (found, None) };
        let length = match body_len(*head) {
            Ok(length) => length,
            Err(bad) => return (found, Some(bad)),
        };
        let Some(body) = bytes.get(at + FRAME_HEAD..at + FRAME_HEAD + length) else { return (found, None) };
        at += FRAME_HEAD + length;
        match decode(body) {
            Ok(frame) => found.push((frame, at)),
            Err(bad) => return (found, Some(bad)),
        }
    }
}

fn frames<T: Frame>(bytes: &[u8], piece: usize) -> Vec<T> {
    let (want, bad) = plain::<T>(bytes);
    for piece in [piece, usize::MAX] {
        let (mut frames, mut at, mut fed, mut ended) = (Frames::new(), 0, 0, None);
        'bytes: for part in bytes.chunks(piece) {
            frames.feed(part);
            fed += part.len();
            loop {
                match frames.next_frame::<T>() {
                    Ok(Some(frame)) => {
                        assert_eq!(Some(&frame), want.get(at).map(|(frame, _)| frame), "in pieces of {piece}");
                        at += 1;
                    }
                    Ok(None) => break,
                    Err(bad) => {
                        ended = Some(bad);
                        break 'bytes;
                    }
                }
            }
            let held = fed - at.checked_sub(1).map_or(0, |last| want[last].1);
            assert!(held < FRAME_HEAD + FRAME_MAX, "{held} bytes are held, and no frame among them");
        }
        assert_eq!((at, &ended), (want.len(), &bad), "in pieces of {piece}");
    }
    let frames: Vec<T> = want.into_iter().map(|(frame, _)| frame).collect();
    for frame in &frames {
        // What is written anew may be longer than what was read: an escape for each byte.
        if let Ok(bytes) = encode(frame) {
            assert_eq!(decode::<T>(&bytes[FRAME_HEAD..]).as_ref(), Ok(frame));
        }
    }
    frames
}

fn gateway(frames: &[FromMachine]) {
    let about = GatewayState { epoch: 1, time: 1, reconnect_within: Duration::from_secs(1) };
    let mut tunnel = server::TunnelConversation::new(Duration::ZERO, None);
    for (frame, second) in frames.iter().zip(0..) {
        let was_closed = matches!(tunnel, server::TunnelConversation::Closed);
        let (next, outputs) = tunnel.step(server::Input::Frame(frame.clone()), &about, Duration::from_secs(second));
        tunnel = next;
        assert!(!was_closed || outputs.is_empty(), "it speaks after its end");
        for output in outputs {
            if let server::Output::Up(services) | server::Output::Services(services) = output {
                assert!(services.len() <= wire::tunnel::SERVICES_MAX);
                assert!(services.iter().all(|offer| wire::tunnel::is_service_name(&offer.name)));
            }
        }
    }
}

fn machine(frames: &[ToMachine]) {
    let (mut tunnel, mut now) = (client::Tunnel::new(Duration::ZERO, Duration::ZERO, 0), Duration::ZERO);
    for input in [client::Input::Tick, client::Input::Connected] {
        (tunnel, _) = tunnel.step(input, now, 0);
    }
    for frame in frames {
        now += Duration::from_millis(100);
        (tunnel, _) = tunnel.step(client::Input::Frame(frame.clone()), now, u64::MAX);
        let deadline = tunnel.deadline().expect("something wakes it");
        assert!(deadline <= now + 4 * client::AWAY_MOST, "asleep for ever: {tunnel:?}");
    }
}

/// Each kind of frame, alone and in a row, and what is nearly one.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let bytes = |frame: &dyn Fn() -> Result<Vec<u8>, BadFrame>| frame().expect("seeds are short");
    let services = vec![ServiceOffer { name: "ssh".into(), mode: Mode::Raw }];
    let hello = bytes(&|| encode(&FromMachine::Hello(Hello { client: "1".into(), services: services.clone() })));
    let beat = bytes(&|| encode(&FromMachine::Heartbeat { number: 7 }));
    let changed = bytes(&|| encode(&FromMachine::Services { services: services.clone() }));
    let welcome = Welcome { heartbeat_ms: 60_000, epoch: 1, time: 2, reconnect_within_ms: 9_000 };
    let welcome = bytes(&|| encode(&ToMachine::Welcome(welcome.clone())));
    let drain = bytes(&|| encode(&ToMachine::Drain { after_ms: 1, reconnect_within_ms: 2 }));
    let closing = Closing { reason: Reason::Drained, detail: "d".into(), retry_after_ms: 1 };
    let closing = bytes(&|| encode(&ToMachine::Closing(closing.clone())));
    let ticket = || "00ff".to_owned();
    let open = Open {
        session: "s".into(),
        service: "ssh".into(),
        caller: "spiffe://a/person/b".into(),
        labels: vec![],
        dial_back: Some(ticket()),
        dial_back_at: Some("gw-a.example:443".into()),
    };
    let reached = Reached::Ok {
        session: "s".into(),
        mode: Mode::Sealed,
        dial_back: Some(ticket()),
        dial_back_at: None,
        end_is_said: true,
    };
    let refused = Opened::Refused { why: OpenRefusal::Limit, detail: "\u{0}\"".into() };
    let reach = Reach { service: "ssh".into(), machine: "edge-7".into() };
    vec![
        with_mode(0, &[hello.clone(), beat.clone(), changed, beat.clone()].concat()),
        with_mode(0x39, &[beat, hello].concat()),
        with_mode(2, &[welcome.clone(), drain.clone(), closing].concat()),
        with_mode(0xfb, &[drain, welcome].concat()),
        with_mode(4, &bytes(&|| encode(&open))),
        with_mode(5, &bytes(&|| encode(&refused))),
        with_mode(5, &bytes(&|| encode(&Opened::Ok))),
        with_mode(6, &bytes(&|| encode(&reach))),
        with_mode(6, &bytes(&|| encode(&DialBack { ticket: ticket() }))),
        with_mode(7, &bytes(&|| encode(&reached))),
        with_mode(7, &bytes(&|| encode(&DialedBack::Ok))),
        with_mode(0, &[2, 0, 0, 2, b'{', b'}']),
        with_mode(0, &[1, 0xff, 0xff, 0xff]),
        with_mode(1, b"\x01\x00\x00\x10{\"type\":\"sing\"}\n"),
    ]
}
