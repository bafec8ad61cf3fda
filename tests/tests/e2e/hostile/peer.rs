//! A peer without code of the product: yamux frames over TLS, so that it can violate the protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tests::http::Face;
use tests::raw::Raw;
use tests::tls;
use wire::tunnel::{Frames, FromMachine, Hello, Mode, Open, Opened, Reach, ServiceOffer, ToMachine, encode};

/// The header of yamux: version, type, flags, stream, length.
const HEAD: usize = 12;

pub const DATA: u8 = 0;
pub const WINDOW: u8 = 1;
pub const PING: u8 = 2;
pub const SYN: u16 = 1;
pub const ACK: u16 = 2;

/// The control stream: the first that a client opens.
pub const CONTROL: u32 = 1;

pub fn header(kind: u8, flags: u16, stream: u32, length: usize) -> Vec<u8> {
    let mut head = vec![0, kind];
    head.extend(flags.to_be_bytes());
    head.extend(stream.to_be_bytes());
    head.extend(u32::try_from(length).unwrap().to_be_bytes());
    head
}

/// A yamux connection.
pub struct Peer {
    pub raw: Raw,
    unread: Vec<u8>,
    heard: BTreeMap<u32, Frames>,
    pub bytes: BTreeMap<u32, Vec<u8>>,
    /// Streams opened by the gateway, without a reply yet.
    pub inbound: Vec<u32>,
    pub closed: BTreeSet<u32>,
    pongs: usize,
    pub is_over: bool,
}

impl Peer {
    pub fn connect(face: &Face, config: &ClientConfig, alpn: &[u8]) -> io::Result<Self> {
        let config: Arc<ClientConfig> = tls::speaking(config, alpn);
        let raw = Raw::to(face, &config)?;
        Ok(Self {
            raw,
            unread: Vec::new(),
            heard: BTreeMap::new(),
            bytes: BTreeMap::new(),
            inbound: Vec::new(),
            closed: BTreeSet::new(),
            pongs: 0,
            is_over: false,
        })
    }

    /// A machine's tunnel.
    pub fn tunnel(face: &Face, config: &ClientConfig) -> Self {
        Self::connect(face, config, wire::tunnel::ALPN).unwrap()
    }

    /// Opens the control stream with these bytes on it.
    pub fn open_with(&mut self, stream: u32, bytes: &[u8]) {
        let opening = [header(DATA, SYN, stream, bytes.len()), bytes.to_vec()].concat();
        self.raw.send(&opening).unwrap();
    }

    pub fn data(&mut self, stream: u32, bytes: &[u8]) -> io::Result<()> {
        self.raw.send(&[header(DATA, 0, stream, bytes.len()), bytes.to_vec()].concat())
    }

    pub fn say(&mut self, stream: u32, frame: &impl Serialize) {
        self.data(stream, &encode(frame).unwrap()).unwrap();
    }

    /// Sends a hello that exposes `services`, and waits for the welcome.
    #[track_caller]
    pub fn come_up(&mut self, services: &[&str]) {
        self.hello(services);
        let welcome = self.frame::<ToMachine>(CONTROL);
        assert!(matches!(welcome, Some(ToMachine::Welcome(_))), "{welcome:?}");
    }

    pub fn hello(&mut self, services: &[&str]) {
        let offer = |name: &&str| ServiceOffer { name: (*name).to_owned(), mode: Mode::Raw };
        let services = services.iter().map(offer).collect();
        self.open_with(CONTROL, &encode(&FromMachine::Hello(Hello { client: "raw".into(), services })).unwrap());
    }

    /// Waits until the gateway has accepted this connection: a client's handshake ends before the gateway's.
    #[track_caller]
    pub fn ping(&mut self) {
        let before = self.pongs;
        self.raw.send(&header(PING, SYN, 0, 7)).unwrap();
        while self.pongs == before {
            assert!(self.pump().unwrap(), "it ended instead");
        }
    }

    /// Requests a service on a new stream.
    pub fn reach(&mut self, stream: u32, service: &str, machine: &str) {
        let reach = Reach { service: service.to_owned(), machine: machine.to_owned() };
        self.open_with(stream, &encode(&reach).unwrap());
    }

    /// Waits for the gateway to open a stream; returns its open frame.
    #[track_caller]
    pub fn asked(&mut self) -> (u32, Open) {
        while self.inbound.is_empty() {
            assert!(self.pump().unwrap(), "it ended instead");
        }
        let stream = self.inbound.remove(0);
        // Accepted, with no more room than there is from the beginning.
        self.raw.send(&header(WINDOW, ACK, stream, 0)).unwrap();
        (stream, self.frame(stream).expect("it ended instead"))
    }

    /// Accepts the next stream of the gateway.
    #[track_caller]
    pub fn let_in(&mut self) -> u32 {
        let (stream, _) = self.asked();
        self.say(stream, &Opened::Ok);
        stream
    }

    /// The next frame on a stream; `None` at its end.
    pub fn frame<T: DeserializeOwned>(&mut self, stream: u32) -> Option<T> {
        loop {
            let frames = self.heard.entry(stream).or_default();
            frames.feed(&self.bytes.remove(&stream).unwrap_or_default());
            if let Some(frame) = frames.next_frame().unwrap() {
                return Some(frame);
            }
            if self.closed.contains(&stream) || !self.pump().unwrap_or(false) {
                return None;
            }
        }
    }

    /// The gateway's closing frame; earlier frames are skipped.
    #[track_caller]
    pub fn closing_frame(&mut self) -> wire::tunnel::Closing {
        loop {
            match self.frame(CONTROL) {
                Some(ToMachine::Closing(closing)) => return closing,
                Some(_) => {}
                None => panic!("it ended without a word"),
            }
        }
    }

    /// Reads once. False at the end of the connection.
    pub fn pump(&mut self) -> io::Result<bool> {
        if self.is_over {
            return Ok(false);
        }
        let more = match self.raw.receive() {
            Ok(more) => more,
            // Whoever is cut off with bytes unread gets a reset; what matters came before.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) => {
                vec![]
            }
            Err(error) => return Err(error),
        };
        self.is_over = more.is_empty();
        self.unread.extend(more);
        while let Some(head) = self.unread.first_chunk::<HEAD>().copied() {
            let kind = head[1];
            let flags = u16::from_be_bytes([head[2], head[3]]);
            let stream = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            let length = usize::try_from(u32::from_be_bytes([head[8], head[9], head[10], head[11]])).unwrap();
            let end = HEAD + if kind == DATA { length } else { 0 };
            if self.unread.len() < end {
                break;
            }
            let body: Vec<u8> = self.unread.drain(..end).skip(HEAD).collect();
            if flags & SYN != 0 && kind != PING {
                self.inbound.push(stream);
            }
            if flags & !(SYN | ACK) != 0 {
                self.closed.insert(stream);
            }
            match kind {
                DATA => self.bytes.entry(stream).or_default().extend(body),
                PING if flags & SYN != 0 => {
                    let _ = self.raw.send(&header(PING, ACK, 0, length));
                }
                PING => self.pongs += 1,
                _ => {}
            }
        }
        Ok(!self.is_over)
    }
}

/// The answer to a `CONNECT`.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, wanted: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim()).next()
    }

    /// Checks a refusal: its status line, `Proxy-Status` and problem document.
    #[track_caller]
    pub fn assert_refused(&self, status: u16, code: &str, error: &str, says: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let proxy_status = format!("lychgate; error={error}; details=\"{code}\"");
        assert_eq!(self.header("Proxy-Status"), Some(proxy_status.as_str()), "{self:?}");
        assert_eq!(self.header("Content-Type"), Some("application/problem+json"), "{self:?}");
        let problem: Value = serde_json::from_str(&self.body).unwrap();
        assert!(problem["type"].as_str().unwrap().ends_with(&format!(":{code}")), "{self:?}");
        let said = format!("{} {}", problem["detail"].as_str().unwrap(), problem["hint"].as_str().unwrap_or_default());
        assert!(said.contains(says), "it does not say `{says}`: {said}");
    }
}

/// A person's connection to the proxy face, for one `CONNECT`.
pub struct Connect {
    pub raw: Raw,
    ahead: Vec<u8>,
}

impl Connect {
    pub fn open(face: &Face, config: &Arc<ClientConfig>) -> Self {
        Self { raw: Raw::open(face.address, &face.name, config).unwrap(), ahead: Vec::new() }
    }

    pub fn ask(&mut self, target: &str) {
        self.raw.send(request(target).as_bytes()).unwrap();
    }

    /// Reads the answer. What comes after it is kept.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        let mut more = || {
            let bytes = self.raw.receive().unwrap();
            assert!(!bytes.is_empty(), "it ended without an answer: {}", String::from_utf8_lossy(&self.ahead));
            self.ahead.extend(bytes);
            self.ahead.windows(4).position(|four| four == b"\r\n\r\n")
        };
        let end = loop {
            if let Some(end) = more() {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.ahead[..end]).into_owned();
        let mut answer = Answer { status: head[9..12].parse().unwrap(), head, body: String::new() };
        let length: usize = answer.header("Content-Length").map_or(0, |text| text.parse().unwrap());
        while self.ahead.len() < end + length {
            let bytes = self.raw.receive().unwrap();
            assert!(!bytes.is_empty(), "it ended within the answer");
            self.ahead.extend(bytes);
        }
        answer.body = String::from_utf8_lossy(&self.ahead[end..end + length]).into_owned();
        self.ahead.drain(..end + length);
        answer
    }

    /// Expects exactly these bytes of the service.
    #[track_caller]
    pub fn hear(&mut self, want: &[u8]) {
        while self.ahead.len() < want.len() {
            let bytes = self.raw.receive().unwrap();
            assert!(!bytes.is_empty(), "it ended after {:?}", String::from_utf8_lossy(&self.ahead));
            self.ahead.extend(bytes);
        }
        let heard: Vec<u8> = self.ahead.drain(..want.len()).collect();
        assert_eq!(String::from_utf8_lossy(&heard), String::from_utf8_lossy(want));
    }

    /// Whether it ends without further bytes.
    pub fn ends(&mut self) -> bool {
        self.ahead.is_empty() && self.raw.closed()
    }
}

pub fn request(target: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")
}
