//! Thousands of machines in several processes, because each process needs as many descriptors as the gateway; and their certificates.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use wire::admin::{TokenReply, TokenRequest};

use super::light::{Count, LightMachine};
use crate::cli::Lychgate;
use crate::device::{self, Held, Outcome};
use crate::gateway::Gateway;
use crate::http::{Connection, Face};
use crate::program::Program;
use crate::tls::{self, ClientIdentity};

/// Most machines of one process: below the usual hard limit of 20,000 descriptors.
const HERD_MAX: usize = 9_000;

/// New tunnels per second of all processes: the most for two cores that run both ends.
const PER_SECOND: usize = 300;

/// Interval of a process's reports.
const LOOK: Duration = Duration::from_millis(50);

/// The parameters of a process.
#[derive(Serialize, Deserialize)]
struct Orders {
    port: u16,
    name: String,
    /// Pause between two first attempts, and before the first, in microseconds.
    gap_us: u64,
    offset_us: u64,
    roots: Vec<String>,
    machines: Vec<Machine>,
}

#[derive(Serialize, Deserialize)]
struct Machine {
    /// Local address of its connections: one address does not have enough ports.
    source: Ipv4Addr,
    chain: Vec<String>,
    key: String,
}

/// The report of a process, or the sum of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Number of established tunnels.
    pub up: usize,
    /// Number of failed attempts so far.
    pub failed: usize,
    /// Sum of the reconnect spreads that machines have received, in milliseconds.
    pub within_ms: u64,
}

/// Running processes with their machines, killed when dropped.
pub struct Herd {
    programs: Vec<Program>,
    /// Number of machines.
    pub machines: usize,
}

/// Enrolls `count` machines.
pub async fn enroll(gateway: &Gateway, person: &Lychgate, count: usize) -> Vec<Held> {
    let roots = gateway.roots();
    let config = tls::trusting(&roots, Some(&person.identity()));
    let mut workers = JoinSet::new();
    for worker in 0..super::super::WORKERS {
        let each = count / super::super::WORKERS + usize::from(worker < count % super::super::WORKERS);
        let (face, manage) = (gateway.enroll(), gateway.manage());
        let (config, anonymous) = (Arc::clone(&config), tls::trusting(&roots, None));
        workers.spawn(async move {
            let mut all = Vec::with_capacity(each);
            let mut connection = Connection::open(&manage, &config).await.unwrap();
            let mut token = String::new();
            for i in 0..each {
                // All uses of a token are in one record, which becomes slow after a few hundred.
                if i % 50 == 0 {
                    let wanted = TokenRequest { uses: Some(50), ttl: Some(7_200), ..TokenRequest::default() };
                    let reply = connection.post("/v1/tokens", &wanted).await.unwrap();
                    token = reply.json::<TokenReply>().unwrap().token;
                }
                let key = device::Key::generate();
                let request = device::request(&key, Some(&format!("m-{worker}-{i}")), Some(&token));
                match device::enroll(&face, &anonymous, &key, &request).await.unwrap() {
                    Outcome::Issued(reply) => all.push(Held { reply: *reply, key }),
                    other => panic!("not admitted: {other:?}"),
                }
            }
            all
        });
    }
    workers.join_all().await.into_iter().flatten().collect()
}

/// One request of each machine, with few at a time.
pub async fn visit(gateway: &Gateway, machines: &[Held]) {
    let mut workers = JoinSet::new();
    for part in machines.chunks(machines.len().div_ceil(8)) {
        let (face, part) = (gateway.manage(), part.to_vec());
        workers.spawn(async move {
            for held in part {
                let mut connection = Connection::open(&face, &held.config()).await.unwrap();
                let reply = connection.get("/v1/self").await.unwrap();
                assert_eq!(reply.status, 200, "{reply}");
            }
        });
    }
    workers.join_all().await;
}

impl Herd {
    /// Starts them.
    #[must_use]
    pub fn start(gateway: &Gateway, machines: &[Held]) -> Self {
        let parts: Vec<&[Held]> = machines.chunks(HERD_MAX.min(machines.len().div_ceil(2)).max(1)).collect();
        let manage = gateway.manage();
        let gap_us = 1_000_000 * parts.len() as u64 / PER_SECOND as u64;
        let mut number = 0_u32;
        let mut programs = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            let machines = part.iter().map(|held| {
                number += 1;
                let identity = held.identity();
                Machine {
                    source: Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + number / 100),
                    chain: identity.chain.iter().map(|der| STANDARD.encode(der)).collect(),
                    key: STANDARD.encode(identity.key),
                }
            });
            let orders = Orders {
                port: manage.address.port(),
                name: manage.name.clone(),
                gap_us,
                offset_us: gap_us * i as u64 / parts.len() as u64,
                roots: part[0].roots().iter().map(|der| STANDARD.encode(der)).collect(),
                machines: machines.collect(),
            };
            let path = gateway.room().join(format!("herd-{i}.json"));
            std::fs::write(&path, serde_json::to_vec(&orders).unwrap()).unwrap();
            let mut command = Command::new(std::env::current_exe().unwrap());
            programs.push(Program::start(command.arg("--herd").arg(path), gateway.room()));
        }
        Self { programs, machines: machines.len() }
    }

    /// The sum of the current reports.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let mut sum = Seen::default();
        for program in &self.programs {
            let said = program.stdout();
            let whole = said.rfind('\n').map_or("", |end| &said[..end]);
            let line = whole.rsplit('\n').next().unwrap_or_default();
            let mut numbers = line.split(' ').map(|number| number.parse::<u64>().unwrap_or_default());
            let mut next = || numbers.next().unwrap_or_default();
            let (at, up, failed, within) = (next(), next(), next(), next());
            sum.at_ms = sum.at_ms.max(at);
            sum.up += usize::try_from(up).unwrap();
            sum.failed += usize::try_from(failed).unwrap();
            sum.within_ms += within;
        }
        sum
    }

    /// Waits until the sum of the reports satisfies `good`.
    pub fn until(&self, what: &str, patience: Duration, good: impl Fn(&Seen) -> bool) -> Seen {
        let began = Instant::now();
        loop {
            let seen = self.seen();
            if good(&seen) {
                return seen;
            }
            assert!(began.elapsed() < patience, "{what}: not within {patience:?}: {seen:?}");
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until all tunnels are up.
    pub fn wait_up(&self) {
        let paced = Duration::from_secs((self.machines / PER_SECOND) as u64);
        self.until("all tunnels up", 10 * paced + Duration::from_secs(60), |seen| seen.up == self.machines);
    }
}

/// Main function of a process, which runs until it is killed.
pub async fn work(path: &Path) {
    let orders: Orders = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let der = |text: &String| CertificateDer::from(STANDARD.decode(text).unwrap());
    let roots: Vec<_> = orders.roots.iter().map(der).collect();
    let count = Arc::new(Count::default());
    let face = Face::named((Ipv4Addr::LOCALHOST, orders.port).into(), &orders.name);
    for (i, machine) in orders.machines.iter().enumerate() {
        let identity = ClientIdentity {
            chain: machine.chain.iter().map(der).collect(),
            key: STANDARD.decode(&machine.key).unwrap(),
        };
        let config = tls::speaking(&tls::trusting(&roots, Some(&identity)), wire::tunnel::ALPN);
        let face = face.from(IpAddr::V4(machine.source));
        let light = LightMachine { face, config, count: Arc::clone(&count) };
        let first = orders.offset_us + orders.gap_us * i as u64;
        tokio::spawn(light.run(Duration::from_micros(first)));
    }
    let mut last = String::new();
    loop {
        let load = |number: &std::sync::atomic::AtomicUsize| number.load(Ordering::SeqCst);
        let now = format!("{} {} {}", load(&count.up), load(&count.failed), count.within_ms.load(Ordering::SeqCst));
        if now != last {
            let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
            println!("{at} {now}");
            last = now;
        }
        tokio::time::sleep(LOOK).await;
    }
}
