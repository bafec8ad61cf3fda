//! The cast: a gateway without a network, machines and people with real keys, and a clock.

use gateway::edge::fronts::native;
use gateway::flow::asked::{LockWish, TokenWish};
use gateway::flow::enroll::EnrollOutcome;
use gateway::flow::views::{AuditEntry, LockDetails, MadeToken};
use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use gateway::core::face::Face;
use gateway::{
    attest,
    core::{
        admission::{Caller, Use},
        approve::{Approve, CodeCheck, Wish},
        enroll::Inbound,
        evidence::{Challenge, Section, Sections},
        keys,
        proven::ProvenKey,
        records::Subject,
        refusal::Refusal,
        requester::Requester,
    },
    flow::{
        self,
        shell::{Actor, Retry, Settings, Shell},
    },
    store::{Engine, Key, StoreLimits, open},
};
use gateway::{
    ports::{
        clock::{Clock, FakeClock},
        entropy::Entropy,
    },
    registry::{
        live::{self, NewConn},
        sessions::{self, EntryPoint, Party, SessionInfo},
    },
    signer::{Authority, CaBuilder, Passphrase},
};
use pki::{CaKey as _, KeyAlgorithm, KeyDigest, Peer, SoftwareKey, SubjectKey, TrustDomain, UnixTime};
use policy::{Ruleset, Source};
use tokio::sync::OnceCell;
use wire::{
    enroll::{IssuedReply, WaitingReply},
    evidence::{JOIN_TOKEN, PRIOR_CERTIFICATE, PRIOR_CERTIFICATE_CONTEXT, PriorCertificate},
};

mod member;
#[allow(dead_code, reason = "one of several programs that share this cast")]
pub mod store;

pub use member::Member;
use store::TestStore;

/// A day.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// Most that wait from one prefix in these stories.
pub const PER_PREFIX: usize = 3;

/// Most certificates of a lineage in one life in these stories.
pub const PER_LIFE: u32 = 16;

/// Most that wait in all in these stories.
pub const IN_ALL: usize = 6;

/// The connection's exporter in these stories; proofs are the edge's business and tested there.
pub const EXPORTER: [u8; 32] = [7; 32];

/// When stories begin.
const START: u64 = 1_800_000_000;

/// Minutes.
pub fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// Awaits all, one beside the other.
pub async fn all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pinned: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<T>> = pinned.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, result) in pinned.iter_mut().zip(&mut results) {
            if result.is_none()
                && let std::task::Poll::Ready(done) = future.as_mut().poll(cx)
            {
                *result = Some(done);
            }
        }
        if results.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// A gateway and its clock.
pub struct Story {
    /// The gateway.
    pub shell: Arc<Shell>,
    /// The clock.
    pub clock: FakeClock,
    /// Its store.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub store: Arc<TestStore>,
    /// What ends connections in it.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub enforcer: tokio::task::JoinHandle<()>,
    /// The task that follows the queue.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub queue: tokio::task::JoinHandle<()>,
    /// Where its store and its keys lie.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub room: tempfile::TempDir,
    /// What opens the keys there.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub passphrase: Passphrase,
}

/// What a gateway answers.
#[derive(Debug)]
pub enum Answer {
    /// A certificate.
    Issued(Box<IssuedReply>),
    /// A wait.
    Waiting(WaitingReply),
    /// A challenge.
    Challenge(Challenge),
}

impl Answer {
    fn of(shell: &Shell, outcome: EnrollOutcome) -> Self {
        match outcome {
            EnrollOutcome::Issued(made) => Self::Issued(Box::new(native::enroll::issued(shell, *made))),
            EnrollOutcome::Waiting(awaiting) => Self::Waiting(native::enroll::waiting(shell, &awaiting)),
            EnrollOutcome::Challenge(challenge) => Self::Challenge(challenge),
        }
    }

    /// It must be a certificate.
    #[track_caller]
    pub fn issued(self) -> IssuedReply {
        match self {
            Self::Issued(issued) => *issued,
            other => panic!("{other:?} instead of a certificate"),
        }
    }

    /// It must be a challenge.
    #[track_caller]
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub fn challenge(self) -> Challenge {
        match self {
            Self::Challenge(challenge) => challenge,
            other => panic!("{other:?} instead of a challenge"),
        }
    }

    /// It must be a wait.
    #[track_caller]
    pub fn waiting(self) -> WaitingReply {
        match self {
            Self::Waiting(waiting) => waiting,
            other => panic!("{other:?} instead of a wait"),
        }
    }
}

/// What a renewal is told.
#[derive(Debug)]
#[allow(dead_code, reason = "one of several programs that share this cast")]
pub enum Told {
    /// A certificate.
    Issued(Box<IssuedReply>),
    /// A challenge.
    Challenge(Challenge),
}

impl Told {
    /// It must be a certificate.
    #[track_caller]
    pub fn issued(self) -> IssuedReply {
        match self {
            Self::Issued(issued) => *issued,
            Self::Challenge(challenge) => panic!("{challenge:?} instead of a certificate"),
        }
    }
}

fn ruleset(text: &str) -> Ruleset {
    Ruleset::load(&[Source { name: "story.cedar", text }], &attest::claims().collect::<Vec<_>>()).unwrap()
}

impl Story {
    /// With the default policy.
    pub async fn new() -> Self {
        Self::with_policy(str::to_owned).await
    }

    /// With a changed policy.
    pub async fn with_policy(change: impl Fn(&str) -> String) -> Self {
        Self::on(Engine::Memory, change).await
    }

    /// From now on the one attestor is this, with this section; its files are in `folder`.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub fn attests_by(&self, kind: &str, section: &str, folder: &std::path::Path) {
        let section = Section { values: section.parse().unwrap(), folder: folder.to_owned() };
        let mut settings = (**self.shell.settings.load()).clone();
        settings.attestors = Arc::new(attest::Attestors::from(&Sections::from([(kind.to_owned(), section)])).unwrap());
        self.shell.settings.store(Arc::new(settings));
    }

    /// With the default policy, and with each CA key behind what holds it.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub fn behind(hold: impl Fn(SoftwareKey) -> Arc<dyn pki::CaKey>) -> Self {
        let (clock, hand) = Clock::fake(UnixTime::new(START));
        let room = tempfile::tempdir().unwrap();
        let entropy = Entropy::os();
        let domain = TrustDomain::parse("test.example").unwrap();
        let passphrase = Passphrase::generate(&entropy);
        let ca = Authority::ephemeral_with(hold, &domain, &clock, &entropy).unwrap();
        let store = Arc::new(TestStore::new(open(Engine::Memory, &room.path().join("store"), 1).unwrap()));
        let rules = ruleset(policy::DEFAULT_POLICY);
        let shell = Shell::new(Arc::clone(&store) as _, rules, ca, settings(), gateway_name("a"), (clock, entropy));
        let enforcer = flow::enforcer::start(&shell).unwrap();
        let queue = flow::queue::start(&shell);
        Self { shell, clock: hand, store, enforcer, queue, room, passphrase }
    }

    /// With the default policy, on a store that takes little at once.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub async fn small(limits: StoreLimits) -> Self {
        Self::over(Engine::Memory, Some(limits), str::to_owned).await
    }

    /// The same on a store of some engine.
    pub async fn on(engine: Engine, change: impl Fn(&str) -> String) -> Self {
        Self::over(engine, None, change).await
    }

    async fn over(engine: Engine, limits: Option<StoreLimits>, change: impl Fn(&str) -> String) -> Self {
        let (clock, hand) = Clock::fake(UnixTime::new(START));
        let room = tempfile::tempdir().unwrap();
        let entropy = Entropy::os();
        let domain = TrustDomain::parse("test.example").unwrap();
        let passphrase = Passphrase::generate(&entropy);
        let builder = CaBuilder { data_dir: room.path().to_owned(), domain, passphrase, clock, entropy };
        let ca = Authority::create(&builder).unwrap();
        let CaBuilder { passphrase, clock, entropy, .. } = builder;
        let store = open(engine, &room.path().join("store"), 1).unwrap();
        let limits = limits.unwrap_or_else(|| store.limits());
        let store = Arc::new(TestStore::with_limits(store, limits));
        let rules = ruleset(&change(policy::DEFAULT_POLICY));
        let shell = Shell::new(Arc::clone(&store) as _, rules, ca, settings(), gateway_name("a"), (clock, entropy));
        let enforcer = flow::enforcer::start(&shell).unwrap();
        let queue = flow::queue::start(&shell);
        Self { shell, clock: hand, store, enforcer, queue, room, passphrase }
    }

    /// Another gateway, `b`, over the same store, with the same keys.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub fn another(&self) -> Self {
        let room = tempfile::tempdir().unwrap();
        let store = Arc::new(TestStore::new(self.store.inner()));
        let rules = ruleset(policy::DEFAULT_POLICY);
        let (clock, entropy) = (self.shell.clock.clone(), Entropy::os());
        let ca = Authority::load(self.room.path(), &self.shell.domain, &self.passphrase, &clock).unwrap();
        let shell = Shell::new(Arc::clone(&store) as _, rules, ca, settings(), gateway_name("b"), (clock, entropy));
        let enforcer = flow::enforcer::start(&shell).unwrap();
        let queue = flow::queue::start(&shell);
        let passphrase = self.passphrase.clone();
        Self { shell, clock: self.clock.clone(), store, enforcer, queue, room, passphrase }
    }

    /// Another policy from now on.
    pub fn set_policy(&self, change: impl Fn(&str) -> String) {
        self.shell.rules.store(Arc::new(ruleset(&change(policy::DEFAULT_POLICY))));
    }

    /// Somebody with a new key.
    pub fn stranger(&self) -> Stranger {
        Stranger { shell: Arc::clone(&self.shell), key: key(), net: 1, exporter: EXPORTER, pin: self.shell.ca().pin() }
    }

    /// A token made by the gateway itself.
    pub async fn token_reply(&self, asked: TokenWish) -> MadeToken {
        let actor = Actor { who: "gateway", instance: "story" };
        flow::tokens::make(&self.shell, &asked, flow::tokens::By::Gateway, &actor).await.unwrap()
    }

    /// Its string.
    pub async fn token(&self, asked: TokenWish) -> String {
        self.token_reply(asked).await.token
    }

    /// A person in some groups.
    pub async fn person(&self, name: &str, groups: &[&str]) -> Member {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        let role = Some("person".to_owned());
        let token = self.token(TokenWish { role, groups, ..TokenWish::default() }).await;
        let stranger = self.stranger();
        let issued = stranger.join(&token, name).await.unwrap().issued();
        stranger.into_member(issued)
    }

    /// The first person.
    pub async fn first_person(&self) -> Member {
        self.person("alice", &["admins"]).await
    }

    /// A person that renews when it must.
    pub async fn renewed(&self, member: Member) -> Member {
        let issued = member.rejoin(self).await.unwrap().issued();
        Member { key: member.next.into_inner().unwrap(), next: OnceCell::new(), issued }
    }

    /// A machine admitted by token.
    pub async fn machine(&self, name: &str) -> Member {
        let token = self.token(TokenWish::default()).await;
        let stranger = self.stranger();
        let issued = stranger.join(&token, name).await.unwrap().issued();
        stranger.into_member(issued)
    }

    /// The peer that a connection with this certificate would be.
    pub fn peer(&self, issued: &IssuedReply) -> Peer {
        self.peer_at(issued, self.shell.now().secs())
    }

    /// The same for a connection made at another time.
    pub fn peer_at(&self, issued: &IssuedReply, at: u64) -> Peer {
        let ders = |text: &str| pki::parse_pem("CERTIFICATE", text).unwrap();
        let (leaf, chain) = (ders(&issued.certificate), ders(&issued.chain));
        let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        let roles = [pki::Role::Machine, pki::Role::Person];
        pki::verify_peer(&leaf[0], &chain, self.shell.ca().anchors(), &roles, UnixTime::new(at)).unwrap()
    }

    /// A request by a peer.
    pub async fn admit(&self, peer: &Peer) -> Result<Box<Caller>, Refusal> {
        flow::admit::admit(&self.shell, peer, Use::Read, "story").await
    }

    /// An approval with a code.
    pub async fn approve(&self, by: &Member, id: &str, code: &str) -> Result<(), Refusal> {
        self.approve_named(by, id, code, None).await
    }

    /// An approval under another name.
    pub async fn approve_as(&self, by: &Member, id: &str, code: &str, name: &str) -> Result<(), Refusal> {
        self.approve_named(by, id, code, Some(name.to_owned())).await
    }

    async fn approve_named(&self, by: &Member, id: &str, code: &str, name: Option<String>) -> Result<(), Refusal> {
        let code = CodeCheck::Typed(code.to_owned());
        let asked = Approve { code, wish: Wish::Own { name, labels: Default::default(), owner: None } };
        flow::people::approve(&self.shell, &by.caller(self).await, id, &asked, "story").await.map(drop)
    }

    /// A lock.
    pub async fn lock(&self, by: &Member, kind: &str, target: &str) -> Result<LockDetails, Refusal> {
        let asked = LockWish { kind: kind.into(), target: target.into(), reason: "stolen".into() };
        flow::admin::lock(&self.shell, &by.caller(self).await, &asked, "story").await
    }

    /// The audit.
    pub async fn events(&self, by: &Member) -> Vec<AuditEntry> {
        let filter = flow::audit::AuditFilter::default();
        flow::audit::audit(&self.shell, &by.caller(self).await, &filter, 1000).await.unwrap().items
    }

    /// The lock epoch.
    pub async fn epoch(&self) -> u64 {
        let seen = self.shell.get::<u64>("meta/epoch".into()).await.unwrap();
        seen.map_or(0, |seen| seen.record)
    }

    #[allow(dead_code, reason = "one of several programs that share this cast")]
    /// A session of somebody to a service on a machine, without the bytes: it ends when it is told to. Gives its id.
    pub fn session(&self, caller: &Member, machine: &str) -> String {
        let seats = self.seats(caller, machine);
        let session = Arc::clone(seats.0.session());
        let id = session.id().to_owned();
        tokio::spawn(async move {
            session.told().await;
            drop(seats);
        });
        id
    }

    #[allow(dead_code, reason = "one of several programs that share this cast")]
    /// The same, ending when its seat, and its connection's, are given up.
    pub fn seats(&self, caller: &Member, machine: &str) -> (sessions::SessionGuard, live::ConnGuard) {
        let shell = &self.shell;
        let source = IpAddr::from(Ipv4Addr::LOCALHOST);
        let peer = self.peer(&caller.issued);
        let conn =
            shell.live.enter(NewConn { face: Face::Proxy, requester: peer.clone().into(), source, exporter: EXPORTER });
        let machine = format!("spiffe://{}/machine/{machine}", shell.domain.as_str());
        let about = SessionInfo {
            caller: Party {
                identity: peer.identity.clone(),
                lineage: caller.issued.id.clone(),
                key: peer.key,
                conn: conn.conn().id(),
                tunnel: None,
                source,
            },
            machine: pki::Identity::parse(&machine).unwrap(),
            machine_lineage: "l".to_owned(),
            tunnel: 1,
            service: "ssh".to_owned(),
            mode: gateway::core::session::Mode::Raw,
            rules: vec!["admins-connect".to_owned()],
            door: EntryPoint::Connect,
            started_ms: shell.clock.now_ms(),
        };
        (shell.sessions.enter(hex::encode(shell.entropy.bytes::<8>()), about), conn)
    }

    /// How many records there are of everything.
    pub async fn everything(&self) -> usize {
        self.shell.store.scan(&Key::from(""), None, 1000).await.unwrap().rows.len()
    }
}

fn gateway_name(name: &str) -> pki::Name {
    pki::Name::parse(name).unwrap()
}

fn settings() -> Settings {
    Settings {
        public_enroll: "gate.test:8443".into(),
        public_manage: "gate.test:8444".into(),
        public_proxy: None,
        dial_back_at: None,
        services_below: None,
        proxy_hosts: vec![],
        tunnel_hosts: vec!["gate.test".into()],
        public_crl: None,
        hosts: vec!["gate.test".into()],
        pending_ttl: DAY,
        pending_max: IN_ALL,
        pending_max_per_prefix: PER_PREFIX,
        certificates_per_life: PER_LIFE,
        audit_retention: DAY * 400,
        attestors: Arc::new(attest::Attestors::standard().unwrap()),
    }
}

pub fn key() -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate(KeyAlgorithm::P256).unwrap().0)
}

/// The digest of a key.
#[allow(dead_code, reason = "one of several programs that share this cast")]
pub fn digest(key: &SoftwareKey) -> pki::KeyDigest {
    subject_key(key).digest()
}

fn subject_key(key: &SoftwareKey) -> SubjectKey {
    pki::csr::verify(&pki::csr::request(key).unwrap()).unwrap().into_key()
}

/// The refusal of one who has no rival.
#[allow(dead_code, reason = "one of several programs that share this cast")]
pub fn refused(retry: Retry) -> Refusal {
    match retry {
        Retry::Refused(refusal) => refusal,
        Retry::Conflict => panic!("nobody else is here"),
    }
}

/// Somebody who is not in yet.
pub struct Stranger {
    shell: Arc<Shell>,
    key: Arc<SoftwareKey>,
    net: u8,
    /// The root by which it knows the gateway.
    pin: KeyDigest,
    exporter: [u8; 32],
}

impl Stranger {
    /// The same, from another network.
    pub fn from(mut self, net: u8) -> Self {
        self.net = net;
        self
    }

    /// In, with the certificate it was given.
    pub fn into_member(self, issued: IssuedReply) -> Member {
        Member { key: self.key, next: OnceCell::new(), issued }
    }

    /// The digest of its key.
    pub fn digest(&self) -> String {
        subject_key(&self.key).digest().hex()
    }

    /// The code it shows.
    pub fn code(&self, waiting: &WaitingReply) -> String {
        let nonce: [u8; 16] = hex::decode(&waiting.nonce).unwrap().try_into().unwrap();
        pki::waiting_code(&subject_key(&self.key).digest(), &self.pin, &nonce).to_string()
    }

    /// Asks without evidence.
    pub async fn try_ask(&self, name: &str) -> Result<Answer, Refusal> {
        self.with(name, vec![]).await
    }

    /// Asks for no name, without evidence.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub async fn ask_for_any_name(&self) -> Answer {
        let from = (self.net, self.exporter, Some(self.pin));
        enroll(&self.shell, &self.key, from, None, (vec![], None)).await.unwrap()
    }

    /// Asks without evidence, which must not be refused.
    pub async fn ask(&self, name: &str) -> Answer {
        self.try_ask(name).await.unwrap()
    }

    /// Joins with a token.
    pub async fn join(&self, token: &str, name: &str) -> Result<Answer, Refusal> {
        self.with(name, vec![(JOIN_TOKEN.to_owned(), token.to_owned())]).await
    }

    /// Asks with any evidence.
    pub async fn with(&self, name: &str, evidence: Vec<(String, String)>) -> Result<Answer, Refusal> {
        self.told(name, evidence, None).await
    }

    /// The same on another connection.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub fn on_connection(mut self, exporter: [u8; 32]) -> Self {
        self.exporter = exporter;
        self
    }

    /// Its key.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub fn key(&self) -> &SoftwareKey {
        &self.key
    }

    /// Answers a challenge.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub async fn answer(&self, name: &str, evidence: Vec<(String, String)>, ticket: &str) -> Result<Answer, Refusal> {
        self.told(name, evidence, Some(ticket)).await
    }

    async fn told(&self, name: &str, evidence: Vec<(String, String)>, ticket: Option<&str>) -> Result<Answer, Refusal> {
        enroll(&self.shell, &self.key, (self.net, self.exporter, Some(self.pin)), Some(name), (evidence, ticket)).await
    }

    /// Polls.
    pub async fn poll(&self, id: &str) -> Result<Answer, Refusal> {
        flow::enroll::poll(&self.shell, id, Duration::ZERO, "story")
            .await
            .map(|outcome| Answer::of(&self.shell, outcome))
    }
}

async fn enroll(
    shell: &Shell,
    key: &SoftwareKey,
    (net, exporter, pin): (u8, [u8; 32], Option<KeyDigest>),
    name: Option<&str>,
    (evidence, ticket): (Vec<(String, String)>, Option<&str>),
) -> Result<Answer, Refusal> {
    let csr = pki::csr::bound_request(key, &STANDARD.encode(exporter)).unwrap();
    let csr = pki::csr::verify(&csr).unwrap();
    let inbound = Inbound {
        key: ProvenKey::by_request(csr, &Requester::Nobody, &exporter).unwrap(),
        requester: Requester::Nobody,
        wanted_name: name.map(str::to_owned),
        pin,
        evidence,
        ticket: ticket.map(str::to_owned),
        attributes: [("os".to_owned(), "linux".to_owned())].into(),
        source: IpAddr::V4(Ipv4Addr::new(192, 0, net, 1)),
        prefix: format!("192.0.{net}.0/24"),
    };
    flow::enroll::enroll(shell, &inbound, "story").await.map(|outcome| Answer::of(shell, outcome))
}
