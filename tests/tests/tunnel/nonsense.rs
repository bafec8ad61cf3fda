//! A peer that sends arbitrary frames in any order: neither state machine panics, exceeds its memory limits, or produces output after
//! its end.

use std::time::Duration;

use enroll_client::core::tunnel as client;
use gateway::core::frame_rate::FRAMES_MAX;
use gateway::edge::tunnel::conversation::{self as server, GatewayState, TunnelConversation};
use proptest::prelude::*;
use wire::tunnel::{
    Closing, FRAME_HEAD, FRAME_MAX, Frames, FromMachine, Hello, Mode, Reason, Reauthenticate, ServiceOffer, ToMachine,
    VERSION, Welcome,
};

const ABOUT: GatewayState = GatewayState { epoch: u64::MAX, time: u64::MAX, reconnect_within: Duration::MAX };

fn reason() -> impl Strategy<Value = Reason> {
    prop::sample::select(vec![
        Reason::Peer,
        Reason::Drained,
        Reason::Expired,
        Reason::Locked,
        Reason::Policy,
        Reason::Killed,
        Reason::Limit,
        Reason::Replaced,
        Reason::Unknown,
    ])
}

fn services() -> impl Strategy<Value = Vec<ServiceOffer>> {
    let offer = |name: String| ServiceOffer { name, mode: Mode::Raw };
    prop_oneof![
        4 => prop::collection::vec("[a-cA -]{0,33}".prop_map(offer), 0..4),
        2 => (0_usize..70).prop_map(move |count| (0..count).map(|n| offer(format!("s{n}"))).collect()),
    ]
}

fn from_machine() -> impl Strategy<Value = FromMachine> {
    prop_oneof![
        3 => services().prop_map(|services| FromMachine::Hello(Hello { client: "x".into(), services })),
        1 => Just(FromMachine::Hello(Hello::default())),
        4 => any::<u64>().prop_map(|number| FromMachine::Heartbeat { number }),
        1 => services().prop_map(|services| FromMachine::Services { services }),
        1 => Just(FromMachine::Services { services: vec![] }),
        1 => Just(FromMachine::Reauthenticate(Reauthenticate { chain: vec![], proof: String::new() })),
        2 => Just(FromMachine::Unknown),
    ]
}

fn to_machine() -> impl Strategy<Value = ToMachine> {
    let welcome = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(a, epoch, time, b)| {
        ToMachine::Welcome(Welcome { heartbeat_ms: a, epoch, time, reconnect_within_ms: b })
    });
    let closing = (reason(), any::<u64>()).prop_map(|(reason, retry_after_ms)| {
        ToMachine::Closing(Closing { reason, detail: "d".into(), retry_after_ms })
    });
    let heartbeat = (any::<u64>(), any::<u64>()).prop_map(|(number, within)| ToMachine::Heartbeat {
        number,
        epoch: within,
        time: number,
        reconnect_within_ms: within,
    });
    prop_oneof![
        4 => welcome,
        2 => closing,
        4 => heartbeat,
        1 => any::<u64>().prop_map(|not_after| ToMachine::Reauthenticated { not_after }),
        1 => Just(ToMachine::ReauthenticationRefused { code: "c".into(), detail: "d".into() }),
        1 => Just(ToMachine::RenewNow),
        1 => reason().prop_map(|reason| ToMachine::Ended { session: "s".into(), reason }),
        1 => reason().prop_map(|reason| ToMachine::ReachEnded { session: "s".into(), reason }),
        1 => (any::<u64>(), any::<u64>())
            .prop_map(|(after_ms, reconnect_within_ms)| ToMachine::Drain { after_ms, reconnect_within_ms }),
        1 => Just(ToMachine::Unknown),
    ]
}

fn server_input() -> impl Strategy<Value = server::Input> {
    prop_oneof![
        8 => from_machine().prop_map(server::Input::Frame),
        2 => Just(server::Input::Tick),
        2 => (0_usize..100).prop_map(server::Input::Streams),
        1 => any::<u64>().prop_map(server::Input::Verified),
        1 => Just(server::Input::Unverified("c".into(), "d".into())),
        1 => Just(server::Input::RenewNow),
        1 => reason().prop_map(|reason| server::Input::Ended("s".into(), reason)),
        1 => Just(server::Input::Drain(Duration::MAX)),
        1 => reason().prop_map(|reason| {
            server::Input::End(Closing { reason, detail: "d".into(), retry_after_ms: u64::MAX })
        }),
    ]
}

fn client_input() -> impl Strategy<Value = client::Input> {
    prop_oneof![
        8 => to_machine().prop_map(client::Input::Frame),
        6 => Just(client::Input::Tick),
        4 => Just(client::Input::Connected),
        2 => (0_u64..u64::MAX).prop_map(|ms| client::Input::NotConnected(Some(Duration::from_millis(ms)))),
        1 => Just(client::Input::NotConnected(None)),
        2 => Just(client::Input::Lost),
        1 => Just(client::Input::Renewed),
        2 => (0_usize..100).prop_map(client::Input::Streams),
    ]
}

/// Pauses from zero to half a year.
fn pause() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => (0_u64..20_000).prop_map(Duration::from_millis),
        2 => (0_u64..400).prop_map(Duration::from_secs),
        1 => (0_u64..15_000_000).prop_map(Duration::from_secs),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_gateway_keeps_its_rules(said in prop::collection::vec((server_input(), pause()), 0..60)) {
        let mut tunnel = TunnelConversation::new(Duration::ZERO, None);
        let (mut now, mut over, mut ups) = (Duration::ZERO, false, 0);
        for (input, pause) in said {
            now += pause;
            let is_hello = matches!(&input, server::Input::Frame(FromMachine::Hello(_)));
            let (next, outputs) = tunnel.step(input, &ABOUT, now);
            tunnel = next;
            prop_assert!(!over || outputs.is_empty(), "it speaks after its end: {outputs:?}");
            for (at, output) in outputs.iter().enumerate() {
                match output {
                    server::Output::Close(_) => {
                        prop_assert_eq!(at, outputs.len() - 1);
                        over = true;
                    }
                    server::Output::Up(services) => {
                        prop_assert!(is_hello && services.len() <= wire::tunnel::SERVICES_MAX);
                        ups += 1;
                    }
                    server::Output::Services(_)
                    | server::Output::Send(_)
                    | server::Output::Verify(_)
                    | server::Output::Abandoned(_) => {
                        prop_assert_eq!(ups, 1, "before the hello: {:?}", output);
                    }
                }
            }
            prop_assert!(ups <= 1);
            prop_assert_eq!(over, matches!(tunnel, TunnelConversation::Closed));
            prop_assert_eq!(over, tunnel.deadline().is_none());
        }
    }

    #[test]
    fn the_machine_keeps_its_rules(said in prop::collection::vec((client_input(), pause(), any::<u64>()), 0..80)) {
        let mut tunnel = client::Tunnel::new(Duration::ZERO, Duration::from_secs(1), u64::MAX);
        let (mut now, mut connecting, mut linked) = (Duration::ZERO, false, false);
        for (input, pause, draw) in said {
            now += pause;
            match &input {
                client::Input::Connected => linked |= std::mem::take(&mut connecting),
                client::Input::NotConnected(_) => connecting = false,
                client::Input::Lost => linked = false,
                _ => {}
            }
            let (next, outputs) = tunnel.step(input, now, draw);
            tunnel = next;
            for output in outputs {
                match output {
                    client::Output::Connect => {
                        prop_assert!(!connecting, "two attempts at a time");
                        connecting = true;
                    }
                    client::Output::HangUp => (connecting, linked) = (false, false),
                    client::Output::Tell(client::News::Down(_, pause)) => {
                        prop_assert!(pause <= 2 * client::AWAY_MOST, "away for {pause:?}");
                    }
                    _ => {}
                }
            }
            prop_assert!(!tunnel.is_up() || linked, "up without a connection");
            prop_assert!(connecting || tunnel.deadline().is_some(), "nothing would ever wake it: {tunnel:?}");
            let most = now + 4 * client::AWAY_MOST;
            prop_assert!(tunnel.deadline().is_none_or(|at| at <= most), "asleep for too long: {tunnel:?}");
        }
    }

    #[test]
    fn frames_of_any_bytes_end_or_are_read(bytes in prop::collection::vec(any::<u8>(), 0..4_000), whole in any::<bool>()) {
        let mut stream = bytes;
        if whole && stream.len() > FRAME_HEAD {
            // A valid head, so that the JSON is arbitrary.
            let length = u32::try_from((stream.len() - FRAME_HEAD).min(FRAME_MAX)).unwrap().to_be_bytes();
            stream[..FRAME_HEAD].copy_from_slice(&[VERSION, length[1], length[2], length[3]]);
        }
        let mut frames = Frames::new();
        frames.feed(&stream);
        for _ in 0..=stream.len() / FRAME_HEAD {
            match frames.next_frame::<FromMachine>() {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Ok(()),
            }
        }
        prop_assert!(false, "more frames than bytes");
    }
}

#[test]
fn a_machine_that_never_stops_talking_is_ended() {
    let mut tunnel = TunnelConversation::new(Duration::ZERO, None);
    (tunnel, _) = tunnel.step(server::Input::Frame(FromMachine::Hello(Hello::default())), &ABOUT, Duration::ZERO);
    let mut frames = 0;
    loop {
        let (next, outputs) = tunnel.step(server::Input::Frame(FromMachine::Unknown), &ABOUT, Duration::from_secs(1));
        tunnel = next;
        if let [server::Output::Close(closing)] = outputs.as_slice() {
            assert_eq!(closing.reason, Reason::Limit);
            break;
        }
        frames += 1;
    }
    assert_eq!(frames, FRAMES_MAX);
}
