//! Frames that survive a round trip, and bytes that are refused.

use serde::de::DeserializeOwned;

use super::*;

#[track_caller]
fn there_and_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(frame: &T, json: &str) {
    let bytes = encode(frame).unwrap();
    assert_eq!(std::str::from_utf8(&bytes[FRAME_HEAD..]).unwrap(), json);
    let mut frames = Frames::new();
    for byte in &bytes {
        assert_eq!(frames.next_frame::<T>(), Ok(None));
        frames.feed(&[*byte]);
    }
    assert_eq!(frames.next_frame(), Ok(Some(decode::<T>(json.as_bytes()).unwrap())));
    assert_eq!(frames.next_frame::<T>(), Ok(None));
    assert_eq!(&decode::<T>(json.as_bytes()).unwrap(), frame);
}

#[test]
fn frames_as_they_are_written() {
    let services = vec![ServiceOffer { name: "ssh".into(), mode: Mode::Raw }];
    there_and_back(
        &FromMachine::Hello(Hello { client: "1".into(), services }),
        r#"{"type":"hello","client":"1","services":[{"name":"ssh","mode":"raw"}]}"#,
    );
    there_and_back(&FromMachine::Heartbeat { number: 7 }, r#"{"type":"heartbeat","number":7}"#);
    there_and_back(
        &ToMachine::Ended { session: "s".into(), reason: Reason::Locked },
        r#"{"type":"ended","session":"s","reason":"locked"}"#,
    );
    there_and_back(
        &Opened::Refused { why: OpenRefusal::TargetClosed, detail: "no".into() },
        r#"{"type":"refused","why":"target-closed","detail":"no"}"#,
    );
    there_and_back(
        &Reached::Ok {
            session: "s".into(),
            mode: Mode::Sealed,
            dial_back: None,
            dial_back_at: None,
            end_is_said: false,
        },
        r#"{"type":"ok","session":"s","mode":"sealed"}"#,
    );
    there_and_back(&DialBack { ticket: "t".into() }, r#"{"ticket":"t"}"#);
    there_and_back(&DialedBack::Ok, r#"{"type":"ok"}"#);
}

#[test]
fn what_a_later_version_says_is_no_error() {
    assert_eq!(decode(br#"{"type":"sing","key":"c"}"#), Ok(FromMachine::Unknown));
    assert_eq!(decode(br#"{"type":"sing"}"#), Ok(ToMachine::Unknown));
    // A reason is a member of a frame, never a frame.
    assert_eq!(serde_json::from_str::<Reason>(r#""bored""#).unwrap(), Reason::Unknown);
    assert_eq!(decode(br#"{"type":"heartbeat","number":1,"mood":"good"}"#), Ok(FromMachine::Heartbeat { number: 1 }));
}

#[test]
fn what_is_no_frame() {
    let mut frames = Frames::new();
    frames.feed(&[2, 0, 0, 2, b'{', b'}']);
    assert_eq!(frames.next_frame::<FromMachine>(), Err(BadFrame::Version(2)));
    let mut frames = Frames::new();
    // Refused by the head alone, before any of the body is buffered.
    frames.feed(&[1, 0xff, 0xff, 0xff]);
    assert_eq!(frames.next_frame::<FromMachine>(), Err(BadFrame::TooLong(0xff_ffff)));
    let mut frames = Frames::new();
    frames.feed(&[1, 0, 0, 2, b'{', b'}']);
    assert!(matches!(frames.next_frame::<FromMachine>(), Err(BadFrame::Json(_))));
    assert!(matches!(
        encode(&Opened::Refused { why: OpenRefusal::Limit, detail: "x".repeat(FRAME_MAX) }),
        Err(BadFrame::TooLong(_))
    ));
}

#[test]
fn the_largest_hello_fits() {
    let services =
        (0..SERVICES_MAX).map(|n| ServiceOffer { name: format!("{n:0>SERVICE_NAME_MAX$}"), mode: Mode::Sealed });
    assert!(encode(&FromMachine::Hello(Hello { client: "1".into(), services: services.collect() })).is_ok());
}

#[test]
fn names_of_services() {
    for (text, good) in [
        ("ssh", true),
        ("a-b", true),
        ("8080", true),
        ("", false),
        ("-a", false),
        ("a-", false),
        ("a--b", false),
        ("A", false),
        ("a.b", false),
        ("ä", false),
    ] {
        assert_eq!(is_service_name(text), good, "{text}");
    }
    assert!(is_service_name(&"a".repeat(SERVICE_NAME_MAX)));
    assert!(!is_service_name(&"a".repeat(SERVICE_NAME_MAX + 1)));
}

/// Each reason's index in the list; a new variant does not compile until it has one.
const fn place(reason: Reason) -> usize {
    match reason {
        Reason::Peer => 0,
        Reason::Drained => 1,
        Reason::Expired => 2,
        Reason::Locked => 3,
        Reason::Policy => 4,
        Reason::Killed => 5,
        Reason::Limit => 6,
        Reason::Replaced => 7,
        Reason::Lost => 8,
        Reason::Broken => 9,
        Reason::Unknown => 10,
    }
}

#[test]
fn every_reason_is_listed_and_written_as_it_is_said() {
    assert_eq!(Reason::ALL.map(place), std::array::from_fn(|at| at));
    for reason in Reason::ALL {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
}
