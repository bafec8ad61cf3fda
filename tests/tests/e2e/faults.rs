//! The gateway is killed at random moments under load, and so are clients. Afterwards every certificate that anybody holds
//! is recorded, no serial was used twice, no token was redeemed for two keys, and everybody gets on without help.
//!
//! `LYCHGATE_KILLS` sets how often (100), `LYCHGATE_SEED` the moments; the seed is printed with a failure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use serde_json::Value;
use tests::cli::Lychgate;
use tests::device::{self, Held, Key, Outcome};
use tests::gateway::{Gateway, Setup};
use tests::http::{Connection, Face};
use tests::program::Program;
use tests::tls;
use tests::wait::{PATIENCE, eventually};
use tokio::task::JoinSet;
use wire::admin::{TokenReply, TokenRequest};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Machines of this process that enroll and renew.
const WORKERS: usize = 6;

/// Real programs that are killed themselves.
const REAL_CLIENTS: usize = 2;

/// Renewals of one machine before the next one joins.
const RENEWALS: usize = 8;

/// Between two attempts while the gateway is away.
const RETRY: Duration = Duration::from_millis(20);

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Random moments that can be had again (xorshift64*, Vigna 2014).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// What everybody got, by serial; the same serial for two different certificates fails at once.
#[derive(Default)]
struct Ledger(Mutex<BTreeMap<String, Vec<u8>>>);

impl Ledger {
    fn enter(&self, der: &[u8]) {
        let (_, parsed) = X509Certificate::from_der(der).unwrap();
        let serial = hex::encode(parsed.raw_serial()).trim_start_matches('0').to_owned();
        let before = self.0.lock().unwrap().insert(serial.clone(), der.to_vec());
        assert!(before.is_none_or(|before| before == der), "two certificates with the serial {serial}");
    }
}

/// What the load shares.
struct Load {
    enroll: Face,
    manage: Face,
    anonymous: Arc<ClientConfig>,
    tokens: Mutex<VecDeque<String>>,
    ledger: Ledger,
    stop: AtomicBool,
    renewed: AtomicUsize,
}

impl Load {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks until there is an answer: the gateway may be away, or have lost the reply.
    async fn redeem(&self, key: &Key, token: &str) -> Outcome {
        let request = device::request(key, None, Some(token));
        loop {
            match device::enroll(&self.enroll, &self.anonymous, key, &request).await {
                Ok(Outcome::Refused(reply)) if reply.status >= 500 => {}
                Ok(outcome) => return outcome,
                Err(_) => {}
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Two keys want the same single-use token; gives the one that got it.
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

    /// Renews with one new key until there is an answer.
    async fn renew(&self, held: &Held) -> Held {
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
                    self.renewed.fetch_add(1, Ordering::Relaxed);
                    return held;
                }
                Ok(Outcome::Refused(reply)) if reply.status >= 500 => {}
                Ok(other) => panic!("a renewal was refused: {other:?}"),
                Err(_) => {}
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn enter(&self, held: &Held) {
        self.ledger.enter(&tls::certificates(held.reply.certificate.as_bytes())[0]);
    }

    fn next_token(&self) -> Option<String> {
        self.tokens.lock().unwrap().pop_front()
    }

    /// One machine after the other joins and renews, until the end; gives the last ones of each.
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
}

/// Kills the gateway that often at random moments; every start must succeed.
fn kill_repeatedly(gateway: &mut Gateway, kills: u64, dice: &mut Dice) {
    for _ in 0..kills {
        // From the middle of the start to well into the load.
        if dice.below(8) == 0 {
            std::thread::sleep(dice.millis(0, 100));
        } else {
            gateway.wait_healthy();
            std::thread::sleep(dice.millis(20, 900));
        }
        gateway.kill();
        gateway.launch();
    }
    gateway.wait_healthy();
}

/// A real client that is killed while it joins and renews.
fn batter(machine: &Lychgate, token: &str, stop: &AtomicBool, dice: &mut Dice) {
    let run = |args: &[&str], dice: &mut Dice| {
        let mut program: Program = machine.start(args);
        let until = Instant::now() + dice.millis(5, 1_500);
        while program.runs() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        program.kill();
    };
    while !stop.load(Ordering::Relaxed) {
        if machine.file("cert.pem").exists() {
            run(&["renew", "--force"], dice);
        } else {
            run(&["join", token, "--name", machine.dir().file_name().unwrap().to_str().unwrap()], dice);
        }
    }
}

/// Single-use tokens that outlive the test.
async fn tokens(gateway: &Gateway, count: u64) -> VecDeque<String> {
    let alice = gateway.first_person();
    let config = tls::trusting(&gateway.roots(), Some(&alice.identity()));
    let mut connection = Connection::open(&gateway.manage(), &config).await.unwrap();
    let asked = TokenRequest { ttl: Some(4 * 3_600), ..TokenRequest::default() };
    let mut made = VecDeque::new();
    for _ in 0..count {
        let reply = connection.post("/v1/tokens", &asked).await.unwrap();
        made.push_back(reply.json::<TokenReply>().unwrap().token);
    }
    made
}

/// What the load left behind.
struct Left {
    load: Arc<Load>,
    held: Vec<Held>,
    clients: Vec<Lychgate>,
}

async fn under_load(gateway: &mut Gateway, kills: u64, seed: u64) -> Left {
    let tokens = tokens(gateway, 20 + 2 * kills).await;
    let load = Arc::new(Load {
        enroll: gateway.enroll(),
        manage: gateway.manage(),
        anonymous: tls::trusting(&gateway.roots(), None),
        tokens: Mutex::new(tokens),
        ledger: Ledger::default(),
        stop: AtomicBool::new(false),
        renewed: AtomicUsize::new(0),
    });
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(Arc::clone(&load).work());
    }
    let clients: Vec<Lychgate> = (0..REAL_CLIENTS).map(|i| gateway.client(&format!("real-{i}"))).collect();
    let mine: Vec<String> = clients.iter().map(|_| load.next_token().unwrap()).collect();
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            for (i, (client, token)) in clients.iter().zip(&mine).enumerate() {
                let (load, mut dice) = (&load, Dice::new(seed.wrapping_add(i as u64 + 1)));
                scope.spawn(move || batter(client, token, &load.stop, &mut dice));
            }
            let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                kill_repeatedly(gateway, kills, &mut Dice::new(seed));
            }));
            // Also when a start failed, or the scope would wait for ever.
            load.stop.store(true, Ordering::Relaxed);
            if let Err(panic) = killed {
                std::panic::resume_unwind(panic);
            }
        });
    });
    // A client that was never let finish its joining does so now, without help.
    for (client, token) in clients.iter().zip(&mine) {
        if !client.file("cert.pem").exists() {
            let name = client.dir().file_name().unwrap().to_str().unwrap().to_owned();
            client.ok(&["join", token, "--name", &name]);
        }
    }
    let finished = tokio::time::timeout(4 * PATIENCE, workers.join_all()).await;
    let held = finished.expect("the load does not come to an end").into_iter().flatten().collect();
    Left { load, held, clients }
}

async fn everybody_gets_on(left: &Left) {
    for held in &left.held {
        let mut connection = Connection::open(&left.load.manage, &held.config()).await.unwrap();
        let reply = connection.get("/v1/self").await.unwrap();
        assert_eq!(reply.status, 200, "{}: {reply}", held.reply.identity);
        let _ = left.load.renew(held).await;
    }
    for client in &left.clients {
        eventually("a real client renews", PATIENCE, || (client.run(&["renew", "--force"]).code == 0).then_some(()));
        client.ok(&["status"]);
        left.load.ledger.enter(&client.identity().chain[0]);
    }
}

fn everything_is_recorded(store: &BTreeMap<String, Value>, ledger: &Ledger) {
    let recorded: BTreeMap<String, &Value> = store
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix("cert/")?.trim_start_matches('0').to_owned(), value)))
        .collect();
    for (serial, der) in ledger.0.lock().unwrap().iter() {
        let record = recorded.get(serial).unwrap_or_else(|| panic!("certificate {serial} is held and not recorded"));
        assert_eq!(record["state"], "issued", "{serial}");
        assert_eq!(record["der"], STANDARD.encode(der), "{serial}: another certificate is recorded");
    }
    let tokens: Vec<&Value> =
        store.iter().filter(|(key, _)| key.starts_with("token/")).map(|(_, value)| value).collect();
    assert!(tokens.len() > WORKERS, "{} tokens in the export", tokens.len());
    for token in tokens {
        let redeemed = token["redeemed"].as_array().map_or(0, Vec::len);
        assert!(redeemed <= 1, "a single-use token was redeemed for {redeemed} keys: {token}");
    }
}

async fn kill_and_check(engine: &str, kills: u64) {
    let seed = setting("LYCHGATE_SEED", u64::from_be_bytes(device::random()[..8].try_into().unwrap()));
    eprintln!("LYCHGATE_SEED={seed} LYCHGATE_KILLS={kills} ({engine})");
    let mut gateway = Setup::default().engine(engine).no_limits().cheap_keys().start();
    let left = under_load(&mut gateway, kills, seed).await;
    everybody_gets_on(&left).await;
    let renewed = left.load.renewed.load(Ordering::Relaxed);
    eprintln!("{renewed} renewals, {} certificates held", left.load.ledger.0.lock().unwrap().len());
    assert!(renewed as u64 > kills, "hardly any load: {renewed} renewals");
    let _ = gateway.stop();
    everything_is_recorded(&gateway.export(), &left.load.ledger);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_a_hundred_times_on_sled() {
    kill_and_check("sled", setting("LYCHGATE_KILLS", 100)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_again_and_again_on_redb() {
    kill_and_check("redb", setting("LYCHGATE_KILLS", 100) / 4).await;
}
