//! Both faces on real sockets, with a real TLS client.

use std::{
    net::Ipv4Addr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Extension, routing::get};
use pki::{
    AdmittedBy, Assurance, GatewayName, Identity, KeyAlgorithm, LeafRequest, Name, Role, Serial, SoftwareKey,
    TrustDomain,
};
use rustls::{ClientConfig, RootCertStore, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::{TlsConnector, client};

use policy::{Ruleset, Source};

use super::*;
use crate::{
    core::face::{FaceNames, FaceRow},
    edge::tls::TlsTable,
    flow::shell::Settings,
    ports::{clock::FakeClock, entropy::Entropy},
    registry::live::Conn,
    signer::{Authority, GatewayLeaf},
    store::{Engine, open},
};

mod clients;
mod limits;

const SEPARATE: Listen = Listen::Separate { enroll: LOCAL, manage: LOCAL, proxy: None };
const THREE: Listen = Listen::Separate { enroll: LOCAL, manage: LOCAL, proxy: Some(LOCAL) };
const SHARED: Listen = Listen::Shared(LOCAL);
const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const JOIN: &str = "join.td.example";
const MANAGE: &str = "manage.td.example";
const PROXY: &str = "gw.td.example";
/// Far longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);
/// What happens by itself and not because a time limit of a connection ran out; the least of those is longer.
const AT_ONCE: Duration = Duration::from_secs(9);

/// A running pair of faces and everything that moves them.
struct Rig {
    authority: Authority,
    clock: Clock,
    hand: FakeClock,
    entropy: Entropy,
    tls: Arc<TlsSwap>,
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    bound: Bound,
    running: Mutex<Option<Running>>,
    /// Requests that reached a handler that takes its time.
    begun: Arc<AtomicUsize>,
}

fn authority(domain: &str, clock: &Clock, entropy: &Entropy) -> Authority {
    Authority::ephemeral(&TrustDomain::parse(domain).unwrap(), clock, entropy).unwrap()
}

fn table(
    (authority, anchors): (&Authority, &Authority),
    enroll: &FaceRow,
    clock: &Clock,
    entropy: &Entropy,
) -> TlsTable {
    let dns = |name: &str| GatewayName::Dns(name.to_owned());
    let proxy = vec![dns(PROXY), GatewayName::Ip(LOCAL.ip())];
    let names = FaceNames { enroll: vec![dns(JOIN)], manage: vec![dns(MANAGE)], proxy };
    let leaf = GatewayLeaf::unrecorded(authority, &Name::parse("gate").unwrap(), names.all(), clock, entropy).unwrap();
    TlsTable::build(&leaf, anchors.anchors(), names, enroll, clock).unwrap()
}

/// What is served: who is asking, and handlers that take their time.
fn faces(begun: &Arc<AtomicUsize>) -> Faces {
    async fn who(Extension(conn): Extension<Arc<Conn>>) -> String {
        format!("{} {} {}", conn.face(), conn.requester(), hex::encode(conn.exporter()))
    }
    async fn last(Extension(conn): Extension<Arc<Conn>>) -> &'static str {
        conn.close_after_response();
        "last"
    }
    async fn never(Extension(begun): Extension<Arc<AtomicUsize>>) {
        begun.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
    async fn polite(Extension(conn): Extension<Arc<Conn>>, Extension(begun): Extension<Arc<AtomicUsize>>) -> String {
        begun.fetch_add(1, Ordering::SeqCst);
        conn.told_to_end().await.to_string()
    }
    let router = || {
        Router::new()
            .route("/who", get(who))
            .route("/last", get(last))
            .route("/polite", get(polite))
            .route("/large", get(async || "x".repeat(1024 * 1024)))
            .route("/never", get(never))
            .layer(Extension(Arc::clone(begun)))
    };
    let clock = Clock::system();
    let entropy = Entropy::os();
    let ca = authority("td.example", &clock, &entropy);
    let store = open(Engine::Memory, std::path::Path::new(""), 1).unwrap();
    let rules = Ruleset::load(
        &[Source { name: "p", text: policy::DEFAULT_POLICY }],
        &crate::attest::claims().collect::<Vec<_>>(),
    )
    .unwrap();
    let settings = Settings {
        public_enroll: JOIN.to_owned(),
        public_manage: MANAGE.to_owned(),
        public_proxy: None,
        dial_back_at: None,
        services_below: None,
        tunnel_hosts: vec![],
        proxy_hosts: vec![],
        public_crl: None,
        hosts: vec![],
        pending_ttl: SOON,
        pending_max: 1,
        pending_max_per_prefix: 1,
        certificates_per_life: 16,
        audit_retention: SOON,
        attestors: Arc::new(crate::attest::Attestors::standard().unwrap()),
    };
    let shell = Shell::new(store, rules, ca, settings, pki::Name::parse("gateway").unwrap(), (clock, entropy));
    let rates = Arc::new(Rates::new(&Limits::default().rates, Arc::clone(&shell.metrics)));
    Faces { enroll: router(), manage: router(), shell, rates }
}

impl Rig {
    async fn new(listen: Listen) -> Self {
        Self::limited(listen, Limits::default()).await
    }

    async fn limited(listen: Listen, limits: Limits) -> Self {
        let (clock, hand) = Clock::fake(Clock::system().now());
        let entropy = Entropy::os();
        let authority = authority("td.example", &clock, &entropy);
        let tls = TlsSwap::new(table((&authority, &authority), Face::Enroll.row(), &clock, &entropy));
        let metrics = Arc::new(Metrics::new());
        let live = Live::new(Arc::clone(&metrics));
        let parts = ListenerDeps {
            tls: Arc::clone(&tls),
            live: Arc::clone(&live),
            clock: clock.clone(),
            limits,
            metrics: Arc::clone(&metrics),
            balancers: vec![],
        };
        let server = Server::bind(listen, parts).await.unwrap();
        let bound = server.bound();
        let begun = Arc::default();
        let running = Mutex::new(Some(server.start(faces(&begun))));
        Self { authority, clock, hand, entropy, tls, live, metrics, bound, running, begun }
    }

    fn take(&self) -> Running {
        self.running.lock().unwrap().take().unwrap()
    }

    fn holder(&self, role: Role, name: &str) -> Holder {
        Holder::of(&self.authority, role, name, Duration::from_hours(1), &self.clock, &self.entropy)
    }

    fn client(&self, holder: Option<&Holder>) -> Arc<ClientConfig> {
        Arc::new(client(&self.authority, holder))
    }

    async fn connect(&self, to: SocketAddr, name: &str, config: Arc<ClientConfig>) -> io::Result<Client> {
        dial(to, name, config).await
    }

    async fn manage(&self, holder: &Holder) -> Client {
        self.connect(self.bound.manage, MANAGE, self.client(Some(holder))).await.unwrap()
    }

    async fn enroll(&self) -> Client {
        self.connect(self.bound.enroll, JOIN, self.client(None)).await.unwrap()
    }

    /// Waits until a line of the metrics is there; the counting may come after what the client sees.
    async fn counted(&self, line: &str) {
        let seen = async {
            while !self.metrics.render().lines().any(|each| each == line) {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, seen).await.unwrap_or_else(|_| panic!("{line} is not in\n{}", self.metrics.render()));
    }

    async fn open(&self, count: usize) {
        until(|| self.live.len() == count).await;
    }

    /// Begins a request that takes its time, and waits until it has reached the handler.
    async fn begin(&self, client: &mut Client, path: &str) {
        let before = self.begun.load(Ordering::SeqCst);
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        until(|| self.begun.load(Ordering::SeqCst) > before).await;
    }
}

async fn until(mut test: impl FnMut() -> bool) {
    let waiting = async {
        while !test() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, waiting).await.unwrap();
}

/// A certificate with its key.
struct Holder {
    identity: Identity,
    serial: Serial,
    chain: Vec<CertificateDer<'static>>,
    pkcs8: Vec<u8>,
}

impl Holder {
    fn of(set: &Authority, role: Role, name: &str, life: Duration, clock: &Clock, entropy: &Entropy) -> Self {
        let (key, pkcs8) = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        let identity = Identity { domain: set.domain().clone(), role, name: Name::parse(name).unwrap() };
        let request = LeafRequest {
            key: key.subject_key().unwrap(),
            identity: identity.clone(),
            serial: Serial::from_entropy(entropy.bytes()),
            lifetime: life,
            assurance: Assurance::SOFTWARE,
            admitted_by: AdmittedBy::Policy,
            gateway_names: match role {
                Role::Gateway => vec![GatewayName::Dns(MANAGE.to_owned())],
                Role::Machine | Role::Person => vec![],
            },
        };
        let ca = set.issuing_in_test(role);
        let issued = pki::draft(request, clock.now()).lint().unwrap().issue(ca).unwrap();
        let chain = [issued.der, ca.cert_der().to_vec()].map(CertificateDer::from).into();
        Self { identity, serial: issued.serial, chain, pkcs8: pkcs8.to_vec() }
    }
}

fn client(set: &Authority, holder: Option<&Holder>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(set.root_der().to_vec())).unwrap();
    // The library's own order of preference, as foreign clients have it.
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots);
    match holder {
        None => builder.with_no_client_auth(),
        Some(holder) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(holder.pkcs8.clone()));
            builder.with_client_auth_cert(holder.chain.clone(), key).unwrap()
        }
    }
}

type Client = client::TlsStream<TcpStream>;

async fn dial(to: SocketAddr, name: &str, config: Arc<ClientConfig>) -> io::Result<Client> {
    let tcp = TcpStream::connect(to).await?;
    timeout(SOON, TlsConnector::from(config).connect(ServerName::try_from(name.to_owned()).unwrap(), tcp))
        .await
        .unwrap()
}

/// One request and the whole answer to it.
async fn get_path(client: &mut Client, path: &str) -> io::Result<String> {
    client.write_all(format!("GET {path} HTTP/1.1\r\nHost: {MANAGE}\r\n\r\n").as_bytes()).await?;
    answer(client).await
}

async fn answer(client: &mut Client) -> io::Result<String> {
    let mut text = String::new();
    let read = async {
        let mut buffer = [0; 4096];
        loop {
            let count = client.read(&mut buffer).await?;
            text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
            let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                length.is_some_and(|length| length.parse() == Ok(body.len()))
            });
            if whole {
                return Ok(text);
            }
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    };
    timeout(SOON, read).await.unwrap()
}

async fn body(client: &mut Client, path: &str) -> String {
    let answer = get_path(client, path).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// What the client is told in place of an answer: in the handshake, or on its first read (TLS 1.3).
async fn refusal(connecting: impl Future<Output = io::Result<Client>>) -> String {
    match connecting.await {
        Err(error) => error.to_string(),
        Ok(mut client) => get_path(&mut client, "/who").await.unwrap_err().to_string(),
    }
}

/// How long until the connection is closed for the client.
async fn ended(client: &mut Client) -> Duration {
    let begun = Instant::now();
    let mut buffer = [0; 64];
    loop {
        match timeout(SOON, client.read(&mut buffer)).await.unwrap() {
            Ok(0) | Err(_) => return begun.elapsed(),
            Ok(_) => {}
        }
    }
}

#[tokio::test]
async fn each_port_has_its_face() {
    let rig = Rig::new(SEPARATE).await;
    assert_ne!(rig.bound.enroll, rig.bound.manage);
    let mut anonymous = rig.enroll().await;
    assert!(body(&mut anonymous, "/who").await.starts_with("enroll nobody "));
    for role in [Role::Machine, Role::Person] {
        let holder = rig.holder(role, "a");
        let mut client = rig.manage(&holder).await;
        let who = body(&mut client, "/who").await;
        assert!(who.starts_with(&format!("manage {} ", holder.identity)), "{who}");
    }
    // With separate ports the name does not matter, so an address will do as well.
    let holder = rig.holder(Role::Machine, "a");
    let mut client = rig.connect(rig.bound.manage, JOIN, rig.client(Some(&holder))).await.unwrap();
    assert!(body(&mut client, "/who").await.starts_with("manage "));
    // A certificate shown on the enroll face is nobody's.
    let mut client = rig.connect(rig.bound.enroll, JOIN, rig.client(Some(&holder))).await.unwrap();
    assert!(body(&mut client, "/who").await.starts_with("enroll nobody "));
}

#[tokio::test]
async fn both_ends_have_the_same_exporter() {
    let rig = Rig::new(SEPARATE).await;
    let mut client = rig.enroll().await;
    let ours = client.get_ref().1.export_keying_material([0; 32], wire::evidence::EXPORTER_LABEL, Some(b"")).unwrap();
    assert!(body(&mut client, "/who").await.ends_with(&hex::encode(ours)));
}

#[tokio::test]
async fn nobody_enters_the_manage_face_without_a_good_certificate() {
    let rig = Rig::new(SEPARATE).await;
    let told = async |holder: Option<&Holder>| refusal(rig.connect(rig.bound.manage, MANAGE, rig.client(holder))).await;
    assert_eq!(told(None).await, "received fatal alert: CertificateRequired");
    let stranger = authority("td.example", &rig.clock, &rig.entropy);
    let stranger = Holder::of(&stranger, Role::Machine, "a", Duration::from_hours(1), &rig.clock, &rig.entropy);
    assert_eq!(told(Some(&stranger)).await, "received fatal alert: UnknownCA");
    let gateway = rig.holder(Role::Gateway, "gate");
    assert!(told(Some(&gateway)).await.starts_with("received fatal alert: "));
    let brief = Holder::of(&rig.authority, Role::Machine, "a", Duration::from_secs(60), &rig.clock, &rig.entropy);
    rig.hand.advance(Duration::from_secs(61));
    assert_eq!(told(Some(&brief)).await, "received fatal alert: CertificateExpired");
    rig.counted(r#"lychgate_handshakes_total{outcome="certificate"} 4"#).await;
    assert!(rig.live.is_empty());
}

#[tokio::test]
async fn on_one_port_the_name_decides() {
    let rig = Rig::new(SHARED).await;
    assert_eq!(rig.bound.enroll, rig.bound.manage);
    let holder = rig.holder(Role::Machine, "a");
    let mut manage = rig.manage(&holder).await;
    assert!(body(&mut manage, "/who").await.starts_with("manage "));
    // The request says `Host: manage...`; the connection's name counts.
    let mut enroll = rig.enroll().await;
    assert!(body(&mut enroll, "/who").await.starts_with("enroll nobody "));
    let told = refusal(rig.connect(rig.bound.manage, MANAGE, rig.client(None))).await;
    assert_eq!(told, "received fatal alert: CertificateRequired");
    for name in ["other.example", "127.0.0.1"] {
        let told = refusal(rig.connect(rig.bound.enroll, name, rig.client(None))).await;
        assert_eq!(told, "received fatal alert: UnrecognisedName", "{name}");
    }
    rig.counted(r#"lychgate_handshakes_total{outcome="unknown-name"} 2"#).await;
}

/// What somebody hears who asks the proxy face for a service that is nowhere.
async fn connect(rig: &Rig, name: &str, holder: &Holder) -> io::Result<String> {
    let mut client = rig.connect(rig.bound.proxy.unwrap(), name, rig.client(Some(holder))).await?;
    client.write_all(b"CONNECT ssh.m:22 HTTP/1.1\r\nHost: ssh.m:22\r\n\r\n").await?;
    let mut heard = vec![0; 9];
    timeout(SOON, client.read_exact(&mut heard)).await.unwrap()?;
    Ok(String::from_utf8(heard).unwrap())
}

#[tokio::test]
async fn the_proxy_face_knows_its_names_on_a_port_of_its_own_too() {
    let rig = Rig::new(THREE).await;
    let holder = rig.holder(Role::Person, "ann");
    // An address sends no name.
    for name in [PROXY, "GW.td.example", "127.0.0.1"] {
        assert_eq!(connect(&rig, name, &holder).await.unwrap(), "HTTP/1.1 ", "{name}");
    }
    // Its bytes are the service's: nothing answers in HTTP.
    assert_eq!(connect(&rig, "web--m.gw.td.example", &holder).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let others = ["web--m.other.example", "web--m.manage.td.example", "m.gw.td.example", JOIN, MANAGE, "td.example"];
    for name in others {
        let told = connect(&rig, name, &holder).await.unwrap_err().to_string();
        assert_eq!(told, "received fatal alert: UnrecognisedName", "{name}");
    }
    rig.counted(&format!(r#"lychgate_handshakes_total{{outcome="unknown-name"}} {}"#, others.len())).await;
}

#[tokio::test]
async fn machines_that_come_back_hold_up_no_people() {
    const PROMPTLY: Duration = Duration::from_secs(5);
    // No more in all than tunnels may take, so that nobody else had a turn if they took it from the same heap.
    let limits = Limits { handshakes: TUNNEL_HANDSHAKES, handshake_time: 3 * SOON, ..Limits::default() };
    let rig = Rig::limited(THREE, limits).await;
    let mut tunnels = client(&rig.authority, Some(&rig.holder(Role::Machine, "m")));
    tunnels.alpn_protocols = vec![wire::tunnel::ALPN.to_vec()];
    let tunnels = Arc::new(tunnels);
    // Each says its first word, hears the gateway's, and nothing more comes.
    let mut stalled = Vec::new();
    for _ in 0..TUNNEL_HANDSHAKES {
        let name = ServerName::try_from(MANAGE).unwrap();
        let mut hello = Vec::new();
        rustls::ClientConnection::new(Arc::clone(&tunnels), name).unwrap().write_tls(&mut hello).unwrap();
        let mut tcp = TcpStream::connect(rig.bound.manage).await.unwrap();
        tcp.write_all(&hello).await.unwrap();
        timeout(SOON, tcp.read_exact(&mut [0])).await.unwrap().unwrap();
        stalled.push(tcp);
    }
    // One more machine waits for a turn,
    let next = tokio::spawn(dial(rig.bound.manage, MANAGE, tunnels));
    // and people do not.
    let ann = rig.holder(Role::Person, "ann");
    for _ in 0..2 * TUNNEL_HANDSHAKES {
        let mut open = timeout(PROMPTLY, rig.manage(&ann)).await.unwrap();
        assert!(timeout(PROMPTLY, body(&mut open, "/who")).await.unwrap().starts_with("manage "));
        assert_eq!(timeout(PROMPTLY, connect(&rig, PROXY, &ann)).await.unwrap().unwrap(), "HTTP/1.1 ");
    }
    assert!(!next.is_finished(), "it had no turn to have");
    drop(stalled);
    next.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_handshake_is_as_we_want_it_and_never_resumed() {
    let rig = Rig::new(SEPARATE).await;
    let holder = rig.holder(Role::Machine, "a");
    for (to, name, config) in
        [(rig.bound.manage, MANAGE, rig.client(Some(&holder))), (rig.bound.enroll, JOIN, rig.client(None))]
    {
        for _ in 0..2 {
            let mut client = rig.connect(to, name, Arc::clone(&config)).await.unwrap();
            body(&mut client, "/who").await;
            let tls = client.get_ref().1;
            assert_eq!(tls.handshake_kind(), Some(rustls::HandshakeKind::Full));
            let suite = tls.negotiated_cipher_suite().unwrap().suite();
            assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
            let group = tls.negotiated_key_exchange_group().unwrap().name();
            assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
            assert_eq!(tls.peer_certificates().unwrap().len(), 3, "leaf, issuing CA, root");
        }
    }
    let mut h2 = client(&rig.authority, None);
    h2.alpn_protocols = vec![b"h2".to_vec()];
    let told = refusal(rig.connect(rig.bound.enroll, JOIN, Arc::new(h2))).await;
    assert_eq!(told, "received fatal alert: NoApplicationProtocol");
}

#[tokio::test]
async fn a_swap_counts_for_new_connections_and_a_cut_for_old_ones() {
    let rig = Rig::new(SEPARATE).await;
    let old = rig.holder(Role::Machine, "a");
    let mut open = rig.manage(&old).await;
    body(&mut open, "/who").await;

    let next = authority("td.example", &rig.clock, &rig.entropy);
    rig.tls.swap(table((&rig.authority, &next), Face::Enroll.row(), &rig.clock, &rig.entropy));
    let told = refusal(rig.connect(rig.bound.manage, MANAGE, rig.client(Some(&old)))).await;
    assert_eq!(told, "received fatal alert: UnknownCA");
    let new = Holder::of(&next, Role::Machine, "b", Duration::from_hours(1), &rig.clock, &rig.entropy);
    let mut client = rig.manage(&new).await;
    body(&mut client, "/who").await;

    body(&mut open, "/who").await;
    assert_eq!(rig.live.cut(&ConnSelector::Identity(old.identity.clone()), CloseReason::Killed), 1);
    assert!(ended(&mut open).await < AT_ONCE);
    body(&mut client, "/who").await;
}

#[tokio::test]
async fn a_lock_ends_idle_connections_and_requests_under_way() {
    let rig = Rig::new(SEPARATE).await;
    let (locked, spared) = (rig.holder(Role::Machine, "a"), rig.holder(Role::Machine, "b"));
    let (mut idle, mut busy, mut other) =
        (rig.manage(&locked).await, rig.manage(&locked).await, rig.manage(&spared).await);
    body(&mut idle, "/who").await;
    body(&mut other, "/who").await;
    rig.begin(&mut busy, "/never").await;
    assert_eq!(rig.live.cut(&ConnSelector::Serial(locked.serial), CloseReason::Locked), 2);
    assert!(ended(&mut idle).await < AT_ONCE);
    assert!(ended(&mut busy).await < AT_ONCE);
    rig.open(1).await;
    body(&mut other, "/who").await;
    rig.counted(r#"lychgate_cuts_total{reason="locked"} 2"#).await;
    rig.counted(r#"lychgate_connections{face="manage"} 1"#).await;
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let rig = Rig::new(SEPARATE).await;
    let brief = Holder::of(&rig.authority, Role::Machine, "a", Duration::from_secs(60), &rig.clock, &rig.entropy);
    let (mut brief, mut long) = (rig.manage(&brief).await, rig.manage(&rig.holder(Role::Machine, "b")).await);
    body(&mut brief, "/who").await;
    rig.hand.advance(Duration::from_secs(61));
    assert!(ended(&mut brief).await < 4 * EXPIRY_SWEEP);
    body(&mut long, "/who").await;
    rig.counted(r#"lychgate_cuts_total{reason="expired"} 1"#).await;
}

#[tokio::test]
async fn large_answers_come_whole() {
    let rig = Rig::new(SEPARATE).await;
    let mut client = rig.enroll().await;
    for _ in 0..2 {
        let body = body(&mut client, "/large").await;
        assert!(body.len() == 1024 * 1024 && body.bytes().all(|byte| byte == b'x'));
    }
}

#[tokio::test]
async fn a_handler_can_ask_for_the_end() {
    let rig = Rig::new(SEPARATE).await;
    let mut client = rig.manage(&rig.holder(Role::Machine, "a")).await;
    let answer = get_path(&mut client, "/last").await.unwrap();
    assert!(answer.contains("connection: close") && answer.ends_with("last"), "{answer}");
    ended(&mut client).await;
    rig.open(0).await;
}

#[tokio::test]
async fn a_malformed_request_leads_to_no_endpoint_and_to_the_end() {
    let rig = Rig::new(SEPARATE).await;
    let mut client = rig.enroll().await;
    client.write_all(b"GET /who HTTP/1.1\nHost: a\n\n").await.unwrap();
    // No endpoint here says why; with the table of endpoints one does.
    let answer = answer(&mut client).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("connection: close"), "{answer}");
    ended(&mut client).await;
    rig.counted(r#"lychgate_malformed_total{reason="bare-lf"} 1"#).await;
}

#[tokio::test]
async fn what_is_not_tls_is_refused() {
    let rig = Rig::new(SEPARATE).await;
    // HTTP is told so in HTTP; whatever else it is hears no HTTP.
    let rows: [(&[u8], bool); 3] = [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        (b"\x00\x01garbage and more of it", false),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", false),
    ];
    for (count, (sent, told)) in rows.into_iter().enumerate() {
        let mut tcp = TcpStream::connect(rig.bound.enroll).await.unwrap();
        tcp.write_all(sent).await.unwrap();
        let mut bytes = Vec::new();
        let _ = timeout(SOON, tcp.read_to_end(&mut bytes)).await.unwrap();
        assert_eq!(bytes.starts_with(b"HTTP/1.1 400 "), told, "{bytes:?}");
        assert_eq!(bytes.windows(4).any(|window| window == b"HTTP"), told, "{bytes:?}");
        rig.counted(&format!("lychgate_handshakes_total{{outcome=\"refused\"}} {}", count + 1)).await;
    }
}
