//! A second front, with a dialect, a media type and a header of its own: a folder (here this file) and its rows are all that it
//! needs. Whoever enrols by it gets what the native front gives, from the same sequence.
//!
//! Its requests are PKCS#10 in DER, as those of EST are (RFC 7030): on a real listener, whose enroll face asks for certificates
//! and demands none, the key is proven by the request alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "a client calls the gateway")]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, Method, Response, StatusCode},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use gateway::{
    config::Listen,
    core::{
        admission::Use,
        enroll::Inbound,
        face::{Chains, ClientAuth, Face, FaceNames, FaceRow},
        proven::ProvenKey,
        refusal::{BadCsr, Refusal},
    },
    edge::{
        content::Content,
        endpoints::{self, Carries, Endpoint},
        fronts::Front,
        headers::Effect,
        http::{Answer, Boxed, Call, Handler, HolderCall, router, router_of, typed},
        listen::{Faces, ListenerDeps, Running, Server},
        tls::TlsSwap,
    },
    flow::{
        self,
        asked::TokenWish,
        enroll::EnrollOutcome,
        issue::Issued,
        renew::{RenewalOutcome, RenewalRequest},
        views::AuditEntry,
    },
    limits::{Limits, RateLimits},
    ports::rate::{Class, Prefix, Rates},
    registry::live::CloseReason,
    server::upkeep,
};
use pki::{
    AdmittedBy, AnchorSet, Assurance, AssuranceOf, GatewayName, Identity, IssuingCa, KeyAlgorithm, LeafRequest, Role,
    Root, Serial, SoftwareKey, TrustDomain, UnixTime,
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types, time_provider::TimeProvider, version::TLS13};
use story::{Member, Story};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A certificate request, and one line as the answer.
struct Lines;

const VERSION: &str = "lines-version";
const TOKEN: &str = "lines-token";
const MEDIA: &str = "application/pkcs10";

impl Front for Lines {
    fn name(&self) -> &'static str {
        "lines"
    }

    fn media(&self) -> &'static [&'static str] {
        &[MEDIA]
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if headers.get(VERSION).is_some_and(|version| version == "1") { Ok(()) } else { Err(Refusal::HttpVersion) }
    }

    fn refused(&self, refusal: &Refusal, _instance: &str) -> Response<Body> {
        let status = if matches!(refusal, Refusal::NotFound(_)) { 404 } else { 400 };
        Response::builder().status(status).body(Body::from(format!("no: {}\n", refusal.told()))).unwrap()
    }

    fn ended(&self, reason: CloseReason, _instance: &str) -> Response<Body> {
        Response::builder().status(503).body(Body::from(format!("over: {reason:?}\n"))).unwrap()
    }
}

/// The rows of the front.
fn rows() -> Vec<Endpoint> {
    let row = |path, intent, run| Endpoint {
        method: Method::POST,
        path,
        face: Face::Enroll,
        front: &Lines,
        content: Content::Data,
        changes: Effect::State,
        query: &[],
        body_max: 4_096,
        carries: Carries::Nothing,
        rate: Class::Anonymous,
        intent,
        run,
    };
    vec![
        row("/lines/enroll", Use::Read, Handler::KeyHolder(enroll)),
        row("/lines/reenroll", Use::Renewal, Handler::Holder(reenroll)),
    ]
}

/// The key of the request, proven by it alone.
fn proven(call: &Call) -> Result<ProvenKey, Refusal> {
    let csr = pki::csr::verify(&call.body).map_err(BadCsr::from)?;
    Ok(ProvenKey::by_request(csr, call.conn.requester(), call.conn.exporter())?)
}

fn enroll(call: Call) -> Boxed {
    Box::pin(async move {
        let token = call.header(TOKEN).map(|token| ("join-token".to_owned(), token.to_owned()));
        let inbound = Inbound { evidence: token.into_iter().collect(), ..call.inbound(proven(&call)?) };
        match flow::enroll::enroll(&call.shell, &inbound, &call.instance).await? {
            EnrollOutcome::Issued(made) => issued(&made),
            EnrollOutcome::Waiting(waiting) => line(format!("waiting {}\n", waiting.id)),
            EnrollOutcome::Challenge(challenge) => line(format!("challenge {}\n", challenge.ticket)),
        }
    })
}

fn reenroll(call: HolderCall) -> Boxed {
    Box::pin(async move {
        let (key, source) = (proven(&call)?, Prefix::of(call.conn.source()).to_string());
        let requester = call.conn.requester();
        let asked = RenewalRequest { key: &key, takes: None, evidence: &[], ticket: None, requester, source: &source };
        match flow::renew::renew(&call.shell, &call.caller, &asked, &call.instance).await.map_err(Refusal::from)? {
            RenewalOutcome::Issued(made) => issued(&made),
            RenewalOutcome::Challenge(challenge) => line(format!("challenge {}\n", challenge.ticket)),
        }
    })
}

fn issued(made: &Issued) -> Answer {
    let ders: Vec<String> =
        std::iter::once(&made.certificate.der).chain(&made.chain).map(|der| STANDARD.encode(der)).collect();
    line(format!("issued {} {}\n", made.identity, ders.join(" ")))
}

fn line(text: String) -> Answer {
    typed(StatusCode::OK, "text/plain", text)
}

const JOIN: &str = "join.test";

/// A gateway with the front, on a listener.
struct Gate {
    story: Story,
    alice: Member,
    maker: IssuingCa,
    running: Running,
}

fn software_key() -> (Arc<SoftwareKey>, Vec<u8>) {
    let (key, pkcs8) = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    (Arc::new(key), pkcs8.to_vec())
}

/// A certificate with its key.
#[derive(Clone)]
struct Shown {
    chain: Vec<Vec<u8>>,
    pkcs8: Vec<u8>,
}

impl Gate {
    async fn open() -> Self {
        let story = Story::new().await;
        let alice = story.first_person().await;
        let shell = &story.shell;
        let domain = TrustDomain::parse("maker.example").unwrap();
        let serial = Serial::from_entropy([7; 16]);
        let root = Root::create(&domain, software_key().0, serial, shell.now(), 10).unwrap();
        let maker = root.issue_ca(Role::Machine, software_key().0, serial, shell.now()).unwrap();
        let foreign = AnchorSet::new(&[root.cert_der()], shell.now()).unwrap();
        let row = FaceRow {
            client_auth: ClientAuth::Optional,
            chains: Chains::OursAnd(Arc::new(foreign)),
            ..Face::Enroll.row().clone()
        };
        let name = |name: &str| vec![GatewayName::Dns(name.to_owned())];
        let names = FaceNames { enroll: name(JOIN), manage: name("manage.test"), proxy: vec![] };
        let tls = upkeep::table_of(shell, &shell.signer, &shell.ca(), &names, &row).await.unwrap();
        let deps = ListenerDeps {
            tls: TlsSwap::new(tls),
            live: Arc::clone(&shell.live),
            clock: shell.clock.clone(),
            limits: Limits::default(),
            metrics: Arc::clone(&shell.metrics),
            balancers: vec![],
        };
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(Listen::Separate { enroll: local, manage: local, proxy: None }, deps).await.unwrap();
        let rates = Arc::new(Rates::new(&RateLimits::default(), Arc::clone(&shell.metrics)));
        let table = endpoints::all().into_iter().chain(rows()).collect();
        let running = server.start(Faces {
            enroll: router_of(table, shell, &rates, Face::Enroll),
            manage: router(shell, &rates, Face::Manage),
            shell: Arc::clone(shell),
            rates,
        });
        Self { story, alice, maker, running }
    }

    /// What the manufacturer gave a device.
    fn device(&self) -> Shown {
        let (key, pkcs8) = software_key();
        let request = LeafRequest {
            key: key.subject_key().unwrap(),
            identity: Identity::parse("spiffe://maker.example/machine/device").unwrap(),
            serial: Serial::from_entropy([9; 16]),
            lifetime: Duration::from_secs(3600),
            assurance: Assurance::hardware(AssuranceOf::Host),
            admitted_by: AdmittedBy::Policy,
            gateway_names: vec![],
        };
        let leaf = pki::draft(request, self.story.shell.now()).lint().unwrap().issue(&self.maker).unwrap();
        Shown { chain: vec![leaf.der, self.maker.cert_der().to_vec()], pkcs8 }
    }

    async fn connect(&self, shown: Option<&Shown>) -> TlsStream<TcpStream> {
        let der = |der: &Vec<u8>| pki_types::CertificateDer::from(der.clone());
        let mut roots = RootCertStore::empty();
        for root in pki::parse_pem("CERTIFICATE", self.story.shell.ca().bundle_pem()).unwrap() {
            roots.add(der(&root)).unwrap();
        }
        let clock = Arc::new(StoryTime(self.story.shell.now()));
        let builder = ClientConfig::builder_with_details(Arc::new(aws_lc_rs::default_provider()), clock)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(Shown { chain, pkcs8 }) => {
                let key = pki_types::PrivatePkcs8KeyDer::from(pkcs8.clone()).into();
                builder.with_client_auth_cert(chain.iter().map(der).collect(), key).unwrap()
            }
        };
        let tcp = TcpStream::connect(self.running.bound().enroll).await.unwrap();
        let name = pki_types::ServerName::try_from(JOIN).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
    }

    /// One request on a connection of its own, made by the name of that. Gives the line that it is answered with.
    async fn ask(
        &self,
        (path, shown): (&str, Option<&Shown>),
        headers: &[(&str, &str)],
        request: impl FnOnce(&str) -> Vec<u8>,
    ) -> String {
        let mut tls = self.connect(shown).await;
        let exporter = tls.get_ref().1.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).unwrap();
        let body = request(&STANDARD.encode(exporter));
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {JOIN}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        tls.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, line) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.to_ascii_lowercase().contains("cache-control: no-store"), "{head}");
        assert_eq!(head.starts_with("HTTP/1.1 200 "), !line.starts_with("no: "), "{answer}");
        line.trim_end().to_owned()
    }

    async fn token(&self, name: &str) -> String {
        let wish = TokenWish { names: vec![name.to_owned()], ..TokenWish::default() };
        self.story.token_reply(wish).await.token
    }

    /// A machine that joined by the front.
    async fn machine(&self, name: &str) -> Shown {
        let (token, (key, pkcs8)) = (self.token(name).await, software_key());
        let line = self.ask((ENROLL, None), &[RIGHT[0], RIGHT[1], (TOKEN, &token)], bound(&key)).await;
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some("issued"), "{line}");
        assert!(words.next().unwrap().ends_with(&format!("/machine/{name}")), "{line}");
        Shown { chain: words.map(|der| STANDARD.decode(der).unwrap()).collect(), pkcs8 }
    }

    /// What the audit has of a request that waits, by the line that says so: events of one moment have no order.
    async fn waiting(&self, line: &str) -> AuditEntry {
        let id = line.strip_prefix("waiting ").unwrap();
        let is = |row: &AuditEntry| row.event == "enrollment.waiting" && row.subject == id;
        self.story.events(&self.alice).await.into_iter().find(is).unwrap()
    }
}

/// The time of a story.
#[derive(Debug)]
struct StoryTime(UnixTime);

impl TimeProvider for StoryTime {
    fn current_time(&self) -> Option<pki_types::UnixTime> {
        Some(pki_types::UnixTime::since_unix_epoch(Duration::from_secs(self.0.secs())))
    }
}

const ENROLL: &str = "/lines/enroll";
const REENROLL: &str = "/lines/reenroll";
const RIGHT: [(&str, &str); 2] = [("content-type", MEDIA), (VERSION, "1")];

/// A request that names its connection.
fn bound(key: &Arc<SoftwareKey>) -> impl FnOnce(&str) -> Vec<u8> {
    let key = Arc::clone(key);
    move |connection| pki::csr::bound_request(&*key, connection).unwrap()
}

/// One that names none.
fn silent(key: &Arc<SoftwareKey>) -> impl FnOnce(&str) -> Vec<u8> {
    let key = Arc::clone(key);
    move |_| pki::csr::request(&*key).unwrap()
}

#[tokio::test]
async fn a_second_front_enrols_by_the_same_sequence() {
    let gate = Gate::open().await;
    let (key, other) = (software_key().0, software_key().0);
    let line = gate.ask((ENROLL, None), &RIGHT, bound(&key)).await;
    assert!(line.starts_with("waiting "), "{line}");
    let waiting = gate.waiting(&line).await;
    assert_eq!(waiting.detail.get("proof").map(String::as_str), Some("bound-request"));
    assert_eq!(waiting.detail.get("certificate"), None);
    let token = gate.token("edge-1").await;
    let headers = [RIGHT[0], RIGHT[1], (TOKEN, &*token)];
    let line = gate.ask((ENROLL, None), &headers, bound(&key)).await;
    assert!(line.starts_with("issued spiffe://"), "{line}");
    // It is refused in its own dialect.
    let line = gate.ask((ENROLL, None), &headers, bound(&other)).await;
    assert_eq!(line, "no: the join token was already used by another key");
}

#[tokio::test]
async fn a_second_front_has_header_rules_of_its_own() {
    let gate = Gate::open().await;
    let key = software_key().0;
    for (headers, says) in [
        (&[("content-type", "application/json"), (VERSION, "1")][..], "declared as `application/pkcs10`"),
        (&[("content-type", MEDIA)], "HTTP/1.1"),
        (&[RIGHT[0], RIGHT[1], ("sec-fetch-site", "cross-site")], "a page of another site"),
    ] {
        let line = gate.ask((ENROLL, None), headers, bound(&key)).await;
        assert!(line.starts_with("no: ") && line.contains(says), "{headers:?}: {line}");
    }
}

#[tokio::test]
async fn a_request_alone_proves_a_key_on_its_own_connection() {
    let gate = Gate::open().await;
    let key = software_key().0;
    let line = gate.ask((ENROLL, None), &RIGHT, silent(&key)).await;
    assert!(line.starts_with("no: the certificate request names no connection"), "{line}");
    let mut elsewhere = String::new();
    let _ = gate
        .ask((ENROLL, None), &RIGHT, |here| {
            elsewhere = here.to_owned();
            Vec::new()
        })
        .await;
    let line = gate.ask((ENROLL, None), &RIGHT, |_| pki::csr::bound_request(&*key, &elsewhere).unwrap()).await;
    assert_eq!(line, "no: the proof belongs to another connection");
    // Also with a certificate.
    let device = gate.device();
    let line = gate.ask((ENROLL, Some(&device)), &RIGHT, |_| pki::csr::bound_request(&*key, &elsewhere).unwrap()).await;
    assert_eq!(line, "no: the proof belongs to another connection");
}

#[tokio::test]
async fn whoever_has_a_certificate_renews_on_the_enroll_face() {
    let gate = Gate::open().await;
    let key = software_key().0;
    let line = gate.ask((REENROLL, None), &RIGHT, bound(&key)).await;
    assert_eq!(line, "no: this endpoint is for holders of a certificate");
    let line = gate.ask((REENROLL, Some(&gate.device())), &RIGHT, bound(&key)).await;
    assert_eq!(line, "no: this endpoint is for holders of a certificate");
    let machine = gate.machine("edge-1").await;
    let line = gate.ask((REENROLL, Some(&machine)), &RIGHT, silent(&key)).await;
    assert!(line.starts_with("issued ") && line.contains("/machine/edge-1 "), "{line}");
    gate.story.lock(&gate.alice, "machine", "edge-1").await.unwrap();
    let line = gate.ask((REENROLL, Some(&machine)), &RIGHT, silent(&key)).await;
    assert!(line.contains("the machine `edge-1` is locked"), "{line}");
}

#[tokio::test]
async fn a_certificate_shown_with_a_request_is_written_down_and_its_locks_count() {
    let gate = Gate::open().await;
    let (machine, device) = (gate.machine("edge-1").await, gate.device());
    for (shown, says) in [(&machine, "/machine/edge-1"), (&device, "foreign-key:")] {
        let line = gate.ask((ENROLL, Some(shown)), &RIGHT, silent(&software_key().0)).await;
        assert!(line.starts_with("waiting "), "{line}");
        let waiting = gate.waiting(&line).await;
        assert_eq!(waiting.detail.get("proof").map(String::as_str), Some("holder-request"));
        let certificate = waiting.detail.get("certificate").unwrap();
        assert!(certificate.contains(says), "{certificate}");
    }
    gate.story.lock(&gate.alice, "machine", "edge-1").await.unwrap();
    let line = gate.ask((ENROLL, Some(&machine)), &RIGHT, silent(&software_key().0)).await;
    assert!(line.contains("the machine `edge-1` is locked"), "{line}");
    let key = SoftwareKey::from_pkcs8(&device.pkcs8).unwrap().subject_key().unwrap().digest();
    gate.story.lock(&gate.alice, "key", &key.hex()).await.unwrap();
    let line = gate.ask((ENROLL, Some(&device)), &RIGHT, silent(&software_key().0)).await;
    assert!(line.contains("this key is locked"), "{line}");
    // Nobody else is.
    assert!(gate.ask((ENROLL, None), &RIGHT, bound(&software_key().0)).await.starts_with("waiting "));
}
