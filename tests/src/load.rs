//! Load while the gateway is killed: machines that race for tokens, renew and retry until they get a reply, and a ledger of all
//! certificates that they received.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use tokio::task::JoinSet;
use wire::admin::{TokenReply, TokenRequest};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::device::{self, Held, Key, Outcome};
use crate::http::{Connection, Face};
use crate::tls::{self, ClientIdentity};

/// Number of concurrent machines.
pub const WORKERS: usize = 6;

/// Renewals of one machine before a new one joins.
const RENEWALS: usize = 8;

/// Interval of attempts while the gateway is down.
const RETRY: Duration = Duration::from_millis(20);

/// Reproducible random numbers (xorshift64*, Vigna 2014).
pub struct Dice(u64);

impl Dice {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }

    /// A time between two, in milliseconds.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// All received certificates by serial. Panics if two different certificates have the same serial.
#[derive(Default)]
pub struct Ledger(Mutex<BTreeMap<String, Vec<u8>>>);

/// A serial in the form used to compare the ledger with the keys of the store.
fn plain(serial: &str) -> String {
    serial.trim_start_matches('0').to_owned()
}

impl Ledger {
    /// Adds a received certificate.
    pub fn enter(&self, der: &[u8]) {
        let (_, parsed) = X509Certificate::from_der(der).unwrap();
        let serial = plain(&hex::encode(parsed.raw_serial()));
        let before = self.0.lock().unwrap().insert(serial.clone(), der.to_vec());
        assert!(before.is_none_or(|before| before == der), "two certificates with the serial {serial}");
    }

    /// The number of certificates.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Panics unless `store`, an export by key, contains every received certificate, and no single-use token was redeemed for two
    /// keys.
    pub fn assert_recorded(&self, store: &BTreeMap<String, Value>) {
        let recorded: BTreeMap<String, &Value> =
            store.iter().filter_map(|(key, value)| Some((plain(key.strip_prefix("cert/")?), value))).collect();
        for (serial, der) in self.0.lock().unwrap().iter() {
            let record =
                recorded.get(serial).unwrap_or_else(|| panic!("certificate {serial} is held and not recorded"));
            assert_eq!(record["der"], STANDARD.encode(der), "{serial}: another certificate is recorded");
        }
        let tokens: Vec<_> = store.iter().filter(|(key, _)| key.starts_with("token/")).collect();
        assert!(tokens.len() > WORKERS, "{} tokens in the export", tokens.len());
        for (key, token) in tokens {
            let redeemed = token["redeemed"].as_array().unwrap_or_else(|| panic!("{key} is no token: {token}")).len();
            assert!(redeemed <= 1, "a single-use token was redeemed for {redeemed} keys: {token}");
        }
    }
}

/// State shared by the machines.
pub struct Load {
    enroll: Face,
    manage: Face,
    anonymous: Arc<ClientConfig>,
    tokens: Mutex<VecDeque<String>>,
    /// All received certificates.
    pub ledger: Ledger,
    stop: AtomicBool,
    away: AtomicBool,
    renewed: AtomicUsize,
}

impl Load {
    /// Load on these faces, with single-use tokens for the machines that join.
    #[must_use]
    pub fn on(enroll: Face, manage: Face, roots: &[CertificateDer<'static>], tokens: VecDeque<String>) -> Arc<Self> {
        Arc::new(Self {
            enroll,
            manage,
            anonymous: tls::trusting(roots, None),
            tokens: Mutex::new(tokens),
            ledger: Ledger::default(),
            stop: AtomicBool::new(false),
            away: AtomicBool::new(false),
            renewed: AtomicUsize::new(0),
        })
    }

    /// Starts the machines.
    #[must_use]
    pub fn start(self: &Arc<Self>) -> JoinSet<Vec<Held>> {
        let mut machines = JoinSet::new();
        for _ in 0..WORKERS {
            machines.spawn(Arc::clone(self).work());
        }
        machines
    }

    /// Stops the machines after their current request.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether [`Load::stop`] was called.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// While true, the machines do not retry because the gateway is known to be down.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// The number of renewals.
    pub fn renewed(&self) -> usize {
        self.renewed.load(Ordering::SeqCst)
    }

    /// An unused token.
    pub fn next_token(&self) -> Option<String> {
        self.tokens.lock().unwrap().pop_front()
    }

    async fn pause(&self) {
        tokio::time::sleep(RETRY).await;
        while self.away.load(Ordering::SeqCst) {
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Retries until there is a reply: the gateway may be down, or the reply may be lost.
    async fn redeem(&self, key: &Key, token: &str) -> Outcome {
        let request = device::request(key, None, Some(token));
        loop {
            match device::enroll(&self.enroll, &self.anonymous, key, &request).await {
                Ok(Outcome::Refused(reply)) if reply.status >= 500 => {}
                Ok(outcome) => return outcome,
                Err(_) => {}
            }
            self.pause().await;
        }
    }

    /// Two keys use the same single-use token; returns the one that was admitted.
    async fn race(&self, token: &str) -> Held {
        let (one, two) = (Key::generate(), Key::generate());
        let (first, second) = tokio::join!(self.redeem(&one, token), self.redeem(&two, token));
        let mut held: Vec<Held> = Vec::new();
        for (key, outcome) in [(one, first), (two, second)] {
            match outcome {
                Outcome::Issued(reply) => held.push(Held { reply: *reply, key }),
                refused => assert_eq!(refused.code().as_deref(), Some("token-spent"), "{refused:?}"),
            }
        }
        assert_eq!(held.len(), 1, "one token, {} machines", held.len());
        let held = held.remove(0);
        self.enter(&held);
        held
    }

    /// Renews with one new key, and retries until there is a reply.
    pub async fn renew(&self, held: &Held) -> Held {
        let next = Key::generate();
        loop {
            let answer = match Connection::open(&self.manage, &held.config()).await {
                Ok(mut connection) => device::renew_on(&mut connection, &next).await,
                Err(e) => Err(e),
            };
            match answer {
                Ok(Outcome::Issued(reply)) => {
                    let held = Held { reply: *reply, key: next };
                    self.enter(&held);
                    self.renewed.fetch_add(1, Ordering::SeqCst);
                    return held;
                }
                Ok(Outcome::Refused(reply)) if reply.status >= 500 => {}
                Ok(other) => panic!("a renewal was refused: {other:?}"),
                Err(_) => {}
            }
            self.pause().await;
        }
    }

    fn enter(&self, held: &Held) {
        self.ledger.enter(&tls::certificates(held.reply.certificate.as_bytes())[0]);
    }

    /// One machine after the other joins and renews, until the end; returns the last certificate of each.
    async fn work(self: Arc<Self>) -> Vec<Held> {
        let mut all = Vec::new();
        let mut held = self.race(&self.next_token().unwrap()).await;
        while !self.stopped() {
            for _ in 0..RENEWALS {
                held = self.renew(&held).await;
            }
            if let Some(token) = self.next_token() {
                all.push(std::mem::replace(&mut held, self.race(&token).await));
            }
        }
        all.push(held);
        all
    }

    /// Panics unless all machines can send requests and renew.
    pub async fn assert_everybody_gets_on(&self, held: &[Held]) {
        for held in held {
            let mut connection = Connection::open(&self.manage, &held.config()).await.unwrap();
            let reply = connection.get("/v1/self").await.unwrap();
            assert_eq!(reply.status, 200, "{}: {reply}", held.reply.identity);
            let _ = self.renew(held).await;
        }
    }
}

/// Single-use tokens that are valid longer than any test.
pub async fn tokens(
    manage: &Face,
    roots: &[CertificateDer<'static>],
    person: &ClientIdentity,
    count: u64,
) -> VecDeque<String> {
    let mut connection = Connection::open(manage, &tls::trusting(roots, Some(person))).await.unwrap();
    let asked = TokenRequest { ttl: Some(4 * 3_600), ..TokenRequest::default() };
    let mut made = VecDeque::new();
    for _ in 0..count {
        let reply = connection.post("/v1/tokens", &asked).await.unwrap();
        made.push_back(reply.json::<TokenReply>().unwrap().token);
    }
    made
}
