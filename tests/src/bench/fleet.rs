//! A gateway with machines that renew over persistent connections: figure 2, and the load of figure 6.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use tokio::task::JoinSet;
use wire::admin::{TokenReply, TokenRequest};

use super::meter::{cpu_of, rate};
use crate::cli::Lychgate;
use crate::device::{self, Held, Key, Outcome};
use crate::gateway::{Gateway, Setup};
use crate::http::{Connection, Face};
use crate::tls;

/// A running gateway without limits, and a person with the right to make tokens.
pub struct Site {
    /// The gateway.
    pub gateway: Gateway,
    /// The enroll face.
    pub enroll: Face,
    /// The manage face.
    pub manage: Face,
    /// The gateway's roots.
    pub roots: Vec<CertificateDer<'static>>,
    alice: Lychgate,
}

/// The cost of a round of work.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Number of operations.
    pub count: usize,
    /// CPU time of the process under test.
    pub cpu: Duration,
    /// Wall clock time.
    pub wall: Duration,
}

impl Cost {
    /// Operations per CPU second.
    #[must_use]
    pub fn per_cpu_second(&self) -> f64 {
        rate(self.count, self.cpu)
    }

    /// Operations per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        rate(self.count, self.wall)
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Site {
    /// Starts a new gateway on a new store.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Setup::default())
    }

    /// The same with these settings.
    #[must_use]
    pub fn with(setup: Setup) -> Self {
        let gateway = setup.no_limits().start();
        let alice = gateway.first_person();
        let (enroll, manage, roots) = (gateway.enroll(), gateway.manage(), gateway.roots());
        Self { gateway, enroll, manage, roots, alice }
    }

    /// The gateway's process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.gateway.id()
    }

    /// A client without a certificate.
    #[must_use]
    pub fn anonymous(&self) -> Arc<ClientConfig> {
        tls::trusting(&self.roots, None)
    }

    /// Single-use join tokens.
    pub async fn tokens(&self, count: usize) -> Vec<String> {
        let config = tls::trusting(&self.roots, Some(&self.alice.identity()));
        let each = count.div_ceil(8);
        let mut makers = JoinSet::new();
        for _ in 0..8 {
            let (config, face) = (Arc::clone(&config), self.manage.clone());
            makers.spawn(async move {
                let mut connection = Connection::open(&face, &config).await.unwrap();
                let wanted = TokenRequest { uses: Some(1), ttl: Some(3_600), ..TokenRequest::default() };
                let mut tokens = Vec::with_capacity(each);
                for _ in 0..each {
                    let reply = connection.post("/v1/tokens", &wanted).await.unwrap();
                    assert!(reply.status < 300, "{reply}");
                    tokens.push(reply.json::<TokenReply>().unwrap().token);
                }
                tokens
            });
        }
        let mut tokens: Vec<String> = makers.join_all().await.into_iter().flatten().collect();
        tokens.truncate(count);
        tokens
    }

    /// Machines with a certificate each.
    pub async fn machines(&self, count: usize, prefix: &str) -> Vec<Held> {
        let config = self.anonymous();
        let mut joins = JoinSet::new();
        for (i, token) in self.tokens(count).await.into_iter().enumerate() {
            let (config, face, name) = (Arc::clone(&config), self.enroll.clone(), format!("{prefix}-{i}"));
            joins.spawn(async move {
                let key = Key::generate();
                let request = device::request(&key, Some(&name), Some(&token));
                let outcome = device::enroll(&face, &config, &key, &request).await.unwrap();
                let reply = match outcome {
                    Outcome::Issued(reply) => *reply,
                    other => panic!("{name} was not admitted: {other:?}"),
                };
                Held { reply, key }
            });
        }
        joins.join_all().await
    }
}

/// Keys with their CSRs, made on all cores.
#[must_use]
pub fn keys(count: usize) -> Vec<Key> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let each = count.div_ceil(cores);
    std::thread::scope(|scope| {
        let makers: Vec<_> =
            (0..cores).map(|_| scope.spawn(move || (0..each).map(|_| Key::generate()).collect::<Vec<_>>())).collect();
        makers.into_iter().flat_map(|maker| maker.join().unwrap()).take(count).collect()
    })
}

/// Measures a round of work by a process: `work` is what the load generator does meanwhile.
pub async fn measure(pid: u32, count: usize, work: impl Future<Output = ()>) -> Cost {
    let (cpu, began) = (cpu_of(pid), Instant::now());
    work.await;
    Cost { count, cpu: cpu_of(pid).saturating_sub(cpu), wall: began.elapsed() }
}

/// Persistent connections, one for each machine.
pub async fn connect(site: &Site, machines: &[Held]) -> io::Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(machines.len());
    for held in machines {
        let mut connection = Connection::open(&site.manage, &held.config()).await?;
        // The first use activates the certificate.
        let reply = connection.get("/v1/self").await?;
        assert_eq!(reply.status, 200, "{reply}");
        connections.push(connection);
    }
    Ok(connections)
}

/// One round of renewals, each with a new key, over persistent connections.
pub async fn renewals(site: &Site, connections: Vec<Connection>, count: usize) -> (Cost, Vec<Connection>) {
    let each = count / connections.len();
    let work: Vec<(Connection, Vec<Key>)> = {
        let mut all = keys(each * connections.len());
        connections.into_iter().map(|connection| (connection, all.split_off(all.len() - each))).collect()
    };
    let count = each * work.len();
    let mut kept = Vec::new();
    let cost = measure(site.id(), count, async {
        let mut workers = JoinSet::new();
        for (mut connection, keys) in work {
            workers.spawn(async move {
                for key in keys {
                    let outcome = device::renew_on(&mut connection, &key).await.unwrap();
                    assert!(matches!(outcome, Outcome::Issued(_)), "renewal refused: {outcome:?}");
                }
                connection
            });
        }
        kept = workers.join_all().await;
    })
    .await;
    (cost, kept)
}
