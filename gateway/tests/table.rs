//! Walks the table of endpoints cell by cell: every method and path, by every kind of caller, on both faces, with its
//! limits. An endpoint that is not written down here fails the test, and so does a line for an endpoint that is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod requests;
mod rows;
mod ssh_key;
#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::flow::asked::TokenWish;
use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{Method, response::Parts},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use gateway::core::face::Face;
use gateway::{
    edge::{
        content::Content,
        endpoints::{self, Callers, Carries, Endpoint},
        headers::Effect,
        http::router,
    },
    flow,
    limits::{ClassLimits, Quota, RateLimits},
    store::{self, Key},
};
use gateway::{
    ports::rate::{Class, Rates},
    registry::live::NewConn,
};
use http_body_util::BodyExt as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use pki::{KeyAlgorithm, Peer, SoftwareKey, UnixTime};
use serde_json::json;
use ssh_key::SshHolder;
use story::{Member, Story};
use tower::ServiceExt as _;
use wire::{
    enroll::WaitingReply,
    evidence::{PROOF_HEADER, PROOF_TYPE, ProofClaims},
    problem::Problem,
    ssh::{HOST_NAMESPACE, USER_NAMESPACE},
};

/// What a cell answers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Want {
    /// It does what it is for.
    Served,
    /// A proof of the key is wanted.
    Unproven,
    /// Not for this kind of caller.
    Caller,
    /// No rule allows it to this one.
    Denied,
    /// As if it were not there.
    Hidden,
    /// A lock stands against the caller.
    Locked,
    /// The caller's certificate is over.
    Expired,
    /// The caller was removed.
    Retired,
    /// The caller's key is in two hands.
    Forked,
    /// The caller's certificate was replaced a moment ago.
    Replaced,
}

use Want::{Caller, Denied, Hidden, Locked, Served, Unproven};

/// What a newcomer brings.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Proof {
    /// Nothing.
    Missing,
    /// A proof of a key that is not the one in question.
    OfAnotherKey,
    /// A proof of the key in the request.
    Good,
}

/// The columns of [`ENROLL`].
const PROOFS: [Proof; 3] = [Proof::Missing, Proof::OfAnotherKey, Proof::Good];

/// The enroll face.
const ENROLL: &[(&str, &str, [Want; 3])] = &[
    ("GET", "/healthz", [Served, Served, Served]),
    ("GET", "/readyz", [Served, Served, Served]),
    ("GET", "/v1/gateway", [Served, Served, Served]),
    ("GET", "/v1/bundle", [Served, Served, Served]),
    ("GET", "/v1/ssh/ca", [Served, Served, Served]),
    ("GET", "/.well-known/ssh-known-hosts", [Served, Served, Served]),
    ("GET", "/v1/crl/{list}", [Served, Served, Served]),
    ("POST", "/v1/enrollments", [Unproven, Unproven, Served]),
    // Another's key learns nothing, not even that the request is there.
    ("GET", "/v1/enrollments/{id}", [Unproven, Hidden, Served]),
    ("DELETE", "/v1/enrollments/{id}", [Unproven, Hidden, Served]),
];

/// The manage face: nobody (whom the handshake keeps out already), a machine, a person in no group, an administrator,
/// and an administrator who is locked.
const MANAGE: &[(&str, &str, [Want; 5])] = &[
    ("GET", "/v1/self", [Caller, Served, Served, Served, Locked]),
    ("POST", "/v1/renew", [Caller, Served, Served, Served, Locked]),
    ("POST", "/v1/leave", [Caller, Served, Served, Served, Locked]),
    // Who is no machine is told so first.
    ("POST", "/v1/sealed", [Caller, Served, Caller, Caller, Caller]),
    ("POST", "/v1/ssh/host", [Caller, Served, Caller, Caller, Caller]),
    ("POST", "/v1/ssh/user", [Caller, Caller, Denied, Served, Locked]),
    // Listings show what one may read: nothing, perhaps.
    ("GET", "/v1/requests", [Caller, Caller, Served, Served, Locked]),
    ("GET", "/v1/request-events", [Caller, Caller, Served, Served, Locked]),
    ("GET", "/v1/requests/{id}", [Caller, Caller, Hidden, Served, Locked]),
    ("POST", "/v1/requests/{id}/approve", [Caller, Caller, Hidden, Served, Locked]),
    ("POST", "/v1/requests/{id}/deny", [Caller, Caller, Hidden, Served, Locked]),
    ("POST", "/v1/requests/{id}/reopen", [Caller, Caller, Hidden, Served, Locked]),
    ("GET", "/v1/machines", [Caller, Caller, Served, Served, Locked]),
    ("GET", "/v1/machines/{name}", [Caller, Caller, Hidden, Served, Locked]),
    ("PATCH", "/v1/machines/{name}", [Caller, Caller, Hidden, Served, Locked]),
    ("DELETE", "/v1/machines/{name}", [Caller, Caller, Hidden, Served, Locked]),
    ("POST", "/v1/machines/{name}/reports", [Caller, Hidden, Hidden, Served, Locked]),
    ("POST", "/v1/renewals", [Caller, Caller, Hidden, Served, Locked]),
    ("GET", "/v1/people", [Caller, Caller, Served, Served, Locked]),
    ("GET", "/v1/people/{name}", [Caller, Caller, Hidden, Served, Locked]),
    ("PATCH", "/v1/people/{name}", [Caller, Caller, Hidden, Served, Locked]),
    ("POST", "/v1/people/{name}/offboard", [Caller, Caller, Hidden, Served, Locked]),
    ("DELETE", "/v1/people/{name}", [Caller, Caller, Hidden, Served, Locked]),
    ("POST", "/v1/people/invite", [Caller, Caller, Denied, Served, Locked]),
    ("GET", "/v1/locks", [Caller, Caller, Denied, Served, Locked]),
    ("POST", "/v1/locks", [Caller, Caller, Hidden, Served, Locked]),
    ("DELETE", "/v1/locks/{kind}/{target}", [Caller, Caller, Hidden, Served, Locked]),
    ("GET", "/v1/tokens", [Caller, Caller, Served, Served, Locked]),
    ("POST", "/v1/tokens", [Caller, Caller, Denied, Served, Locked]),
    ("DELETE", "/v1/tokens/{id}", [Caller, Caller, Hidden, Served, Locked]),
    ("GET", "/v1/audit", [Caller, Caller, Denied, Served, Locked]),
    ("POST", "/v1/can-i", [Caller, Caller, Served, Served, Locked]),
    ("GET", "/v1/sessions", [Caller, Caller, Served, Served, Locked]),
    ("GET", "/v1/sessions/{id}", [Caller, Caller, Hidden, Served, Locked]),
    ("DELETE", "/v1/sessions/{id}", [Caller, Caller, Hidden, Served, Locked]),
    ("GET", "/v1/session-events", [Caller, Caller, Served, Served, Locked]),
    ("GET", "/metrics", [Caller, Denied, Denied, Served, Locked]),
];

/// The callers of [`MANAGE`].
const CALLERS: [&str; 5] = ["nobody", "a machine", "a person", "an administrator", "a locked administrator"];

/// Administrators whose certificate is no good any more: whatever the row, they are refused.
const OUTCASTS: &[(&str, Want)] = &[
    ("an expired administrator", Want::Expired),
    ("a removed administrator", Want::Retired),
    ("a forked administrator", Want::Forked),
];

/// Every method there is, and one there is not.
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"];

/// The exporter value of every connection here.
const EXPORTER: [u8; 32] = [9; 32];

/// A gateway with an administrator, and names for whoever is needed.
struct Stage {
    story: Story,
    alice: Member,
    count: std::cell::Cell<u32>,
}

/// A request.
struct Asked {
    method: Method,
    uri: String,
    body: Vec<u8>,
    proof: Option<String>,
    headers: Vec<(&'static str, &'static str)>,
}

/// What a program sends that is no browser.
const PLAIN: [(&str, &str); 2] = [("host", "gate.test:8444"), ("content-type", "application/json")];

/// A new key, as a client holds it.
struct Newcomer {
    pkcs8: Vec<u8>,
    csr: String,
}

impl Newcomer {
    fn new() -> Self {
        let (key, pkcs8) = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        Self { pkcs8: pkcs8.to_vec(), csr: STANDARD.encode(pki::csr::request(&key).unwrap()) }
    }

    fn proof(&self, method: &str, path: &str, now: u64) -> String {
        let key = EncodingKey::from_ec_der(&self.pkcs8);
        let claims = ProofClaims {
            jti: "1".to_owned(),
            iat: now,
            htm: method.to_owned(),
            htu: format!("https://gate.test:8443{path}"),
            exporter: URL_SAFE_NO_PAD.encode(EXPORTER),
        };
        let jwk = Some(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap());
        let header = Header { typ: Some(PROOF_TYPE.to_owned()), jwk, ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    }
}

impl Stage {
    async fn set() -> Self {
        let story = Story::new().await;
        let mut settings = (**story.shell.settings.load()).clone();
        (settings.pending_max, settings.pending_max_per_prefix) = (1_000, 1_000);
        story.shell.settings.store(Arc::new(settings));
        let alice = story.first_person().await;
        Self { story, alice, count: std::cell::Cell::new(0) }
    }

    fn name(&self, kind: &str) -> String {
        self.count.set(self.count.get() + 1);
        format!("{kind}-{}", self.count.get())
    }

    async fn person(&self, groups: &[&str]) -> Member {
        self.story.person(&self.name("person"), groups).await
    }

    async fn machine(&self) -> (String, Member) {
        let name = self.name("machine");
        let member = self.story.machine(&name).await;
        (name, member)
    }

    /// One of [`CALLERS`] or [`OUTCASTS`], new for each cell since some of them are gone afterwards.
    async fn caller(&self, kind: &str) -> Option<Peer> {
        let member = match kind {
            "nobody" => return None,
            "a machine" => self.machine().await.1,
            "a person" => self.person(&[]).await,
            _ => self.person(&["admins"]).await,
        };
        let mut peer = self.story.peer(&member.issued);
        // Its certificate is in use already, so that a refusal has nothing to write.
        self.story.admit(&peer).await.unwrap();
        let name = peer.identity.name.as_str();
        match kind {
            "a locked administrator" => drop(self.story.lock(&self.alice, "person", name).await.unwrap()),
            "an expired administrator" => peer.not_after = UnixTime::new(self.story.shell.now().secs() - 1),
            "a removed administrator" => {
                let by = self.alice.caller(&self.story).await;
                flow::admin::remove(&self.story.shell, &by, pki::Role::Person, name, "i").await.unwrap();
            }
            "a forked administrator" => {
                let newer = self.story.peer(&member.renew(&self.story).await.unwrap());
                self.story.admit(&newer).await.unwrap();
                member.cloned(&self.story).renew(&self.story).await.unwrap_err();
                peer = newer;
            }
            _ => {}
        }
        Some(peer)
    }

    /// Somebody whom a row of the table serves.
    async fn served_to(&self, row: &Endpoint) -> Option<Peer> {
        match (row.face, row.callers()) {
            (Face::Enroll, _) => None,
            (Face::Manage, Callers::Machine) => self.caller("a machine").await,
            (Face::Manage | Face::Proxy | Face::Tunnel, _) => self.caller("an administrator").await,
        }
    }

    async fn send(&self, router: Router, face: Face, peer: Option<Peer>, asked: Asked) -> (u16, String, Vec<u8>) {
        let (parts, body) = self.exchange(router, face, peer, asked).await;
        let code = serde_json::from_slice::<Problem>(&body).map(|problem| problem.code().to_owned());
        (parts.status.as_u16(), code.unwrap_or_default(), body)
    }

    async fn exchange(&self, router: Router, face: Face, peer: Option<Peer>, asked: Asked) -> (Parts, Vec<u8>) {
        let source = std::net::Ipv4Addr::new(192, 0, 2, 1).into();
        let seat = self.story.shell.live.enter(NewConn { face, requester: peer.into(), source, exporter: EXPORTER });
        let mut request = axum::http::Request::builder().method(asked.method).uri(asked.uri);
        for (name, value) in asked.headers {
            request = request.header(name, value);
        }
        if let Some(proof) = asked.proof {
            request = request.header(PROOF_HEADER, proof);
        }
        let request = request.extension(Arc::clone(seat.conn())).body(Body::from(asked.body)).unwrap();
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        (parts, body.collect().await.unwrap().to_bytes().to_vec())
    }

    fn router(&self, face: Face, limits: &RateLimits) -> Router {
        let rates = Rates::new(limits, Arc::clone(&self.story.shell.metrics));
        router(&self.story.shell, &Arc::new(rates), face)
    }

    /// Records of any kind.
    async fn records(&self) -> usize {
        store::scan_all(&*self.story.shell.store, &Key::from("")).await.unwrap().len()
    }

    /// A request that waits, with the key that may ask how it stands.
    async fn waiting(&self) -> (Newcomer, String) {
        let newcomer = Newcomer::new();
        let path = "/v1/enrollments";
        let asked = Asked {
            method: Method::POST,
            uri: path.to_owned(),
            body: json!({ "csr": newcomer.csr, "wanted_name": self.name("waiting") }).to_string().into_bytes(),
            proof: Some(newcomer.proof("POST", path, self.story.shell.now().secs())),
            headers: PLAIN.to_vec(),
        };
        let (status, _, body) = self.send(self.router(Face::Enroll, &unlimited()), Face::Enroll, None, asked).await;
        assert_eq!(status, 202, "{}", String::from_utf8_lossy(&body));
        let id = serde_json::from_slice::<WaitingReply>(&body).unwrap().id;
        (newcomer, id)
    }

    /// A request for a row that is right in everything, about something made for it.
    async fn asked(&self, method: &str, path: &str, brings: Proof) -> Asked {
        let (uri, body, holder) = self.about(method, path).await;
        let now = self.story.shell.now().secs();
        let proof = holder.and_then(|newcomer| match brings {
            Proof::Missing => None,
            Proof::OfAnotherKey => Some(Newcomer::new().proof(method, &uri, now)),
            Proof::Good => Some(newcomer.proof(method, &uri, now)),
        });
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        Asked { method: method.parse().unwrap(), uri, body, proof, headers: PLAIN.to_vec() }
    }

    /// A change of what somebody was given.
    async fn correction(&self, path: &str) -> (String, serde_json::Value, Option<Newcomer>) {
        if path == "/v1/machines/{name}" {
            let name = self.machine().await.0;
            return (path.replace("{name}", &name), json!({ "labels": { "env": "lab" } }), None);
        }
        let (somebody, heir) = (self.person(&[]).await, self.person(&[]).await);
        let name = |of: &Member| of.issued.identity.rsplit_once('/').unwrap().1.to_owned();
        let offboarding = path.ends_with("/offboard");
        let body = if offboarding { json!({ "to": name(&heir) }) } else { json!({ "groups": ["staff"] }) };
        (path.replace("{name}", &name(&somebody)), body, None)
    }

    /// What is asked about a request that waits.
    async fn request(&self, path: &str) -> (String, serde_json::Value, Option<Newcomer>) {
        let id = self.waiting().await.1;
        let body = match path.rsplit_once('/') {
            Some((_, "approve")) => json!({ "unchecked": true }),
            Some((_, "deny")) => json!({ "reason": "not ours" }),
            _ => serde_json::Value::Null,
        };
        if path.ends_with("/reopen") {
            let by = self.alice.caller(&self.story).await;
            flow::people::deny(&self.story.shell, &by, &id, "not ours", "i").await.unwrap();
        }
        (path.replace("{id}", &id), body, None)
    }

    async fn about(&self, method: &str, path: &str) -> (String, serde_json::Value, Option<Newcomer>) {
        let nothing = serde_json::Value::Null;
        match (method, path) {
            (_, "/v1/crl/{list}") => (path.replace("{list}", "machine.pem"), nothing, None),
            ("POST", "/v1/enrollments") => {
                let newcomer = Newcomer::new();
                (path.to_owned(), json!({ "csr": newcomer.csr }), Some(newcomer))
            }
            (_, "/v1/enrollments/{id}") => {
                let (newcomer, id) = self.waiting().await;
                (path.replace("{id}", &id), nothing, Some(newcomer))
            }
            (_, "/v1/renew" | "/v1/sealed") => (path.to_owned(), json!({ "csr": Newcomer::new().csr }), None),
            (_, path) if path.starts_with("/v1/requests/{id}") => self.request(path).await,
            ("PATCH", "/v1/machines/{name}" | "/v1/people/{name}") | (_, "/v1/people/{name}/offboard") => {
                self.correction(path).await
            }
            (_, "/v1/machines/{name}") => (path.replace("{name}", &self.machine().await.0), nothing, None),
            (_, "/v1/machines/{name}/reports") => {
                let run = json!({ "tool": "ansible", "started": 1, "finished": 2, "ok": 3, "changed": 0, "failed": 0,
                    "unreachable": 0, "skipped": 0 });
                (path.replace("{name}", &self.machine().await.0), run, None)
            }
            (_, "/v1/people/{name}") => {
                let somebody = self.person(&[]).await;
                let name = somebody.issued.identity.rsplit_once('/').unwrap().1.to_owned();
                (path.replace("{name}", &name), nothing, None)
            }
            ("POST", "/v1/renewals") => (path.to_owned(), json!({ "machines": [self.machine().await.0] }), None),
            (_, "/v1/people/invite") | ("POST", "/v1/tokens") => (path.to_owned(), json!({}), None),
            ("POST", "/v1/locks") => {
                let target = self.machine().await.0;
                (path.to_owned(), json!({ "kind": "machine", "target": target, "reason": "stolen" }), None)
            }
            (_, "/v1/locks/{kind}/{target}") => {
                let target = self.machine().await.0;
                self.story.lock(&self.alice, "machine", &target).await.unwrap();
                (path.replace("{kind}", "machine").replace("{target}", &target), nothing, None)
            }
            (_, "/v1/tokens/{id}") => {
                let token = self.story.token_reply(TokenWish::default()).await;
                (path.replace("{id}", &token.id), nothing, None)
            }
            (_, "/v1/sessions/{id}") => {
                let machine = self.machine().await.0;
                (path.replace("{id}", &self.story.session(&self.alice, &machine)), nothing, None)
            }
            (_, "/v1/ssh/host" | "/v1/ssh/user") => {
                let key = SshHolder::new();
                let namespace = if path.ends_with("host") { HOST_NAMESPACE } else { USER_NAMESPACE };
                let body = json!({ "public_key": key.line(), "signature": key.proof(namespace, EXPORTER) });
                (path.to_owned(), body, None)
            }
            (_, "/v1/can-i") => (path.to_owned(), json!({ "action": "read" }), None),
            _ => (path.to_owned(), nothing, None),
        }
    }
}

/// Rates that nothing here reaches, but for one class that takes one request.
fn rates(only: Option<Class>) -> RateLimits {
    let many = ClassLimits { per_prefix: Quota::of(1_000_000, 1_000_000), total: Quota::of(1_000_000, 1_000_000) };
    let mut limits = RateLimits {
        anonymous: many.clone(),
        poll: many.clone(),
        machine: many.clone(),
        person: many.clone(),
        connect: many.clone(),
        health: many,
    };
    let one = match only {
        None => return limits,
        Some(Class::Anonymous) => &mut limits.anonymous,
        Some(Class::Poll) => &mut limits.poll,
        Some(Class::Machine) => &mut limits.machine,
        Some(Class::Person) => &mut limits.person,
        Some(Class::Connect) => &mut limits.connect,
        Some(Class::Health) => &mut limits.health,
    };
    one.per_prefix = Quota::of(1, 1);
    limits
}

fn unlimited() -> RateLimits {
    rates(None)
}

#[track_caller]
fn check(what: &str, want: Want, (status, code, body): &(u16, String, Vec<u8>)) {
    let text = String::from_utf8_lossy(body);
    let got = match (*status, code.as_str()) {
        (200..=202, "") => Some(Served),
        (401, "bad-proof") => Some(Unproven),
        (403, "wrong-caller") => Some(Caller),
        (403, "denied") => Some(Denied),
        (404, "not-found") => Some(Hidden),
        (403, "locked") => Some(Locked),
        (403, "expired") => Some(Want::Expired),
        (403, "retired" | "removed") => Some(Want::Retired),
        (403, "forked") => Some(Want::Forked),
        (403, "replaced") => Some(Want::Replaced),
        _ => None,
    };
    assert_eq!(got, Some(want), "{what}: {status} {text}");
}

fn label(face: Face, method: &str, path: &str) -> String {
    format!("{}: {method} {path}", face.as_str())
}

/// The rows of this file, with their face.
fn written() -> Vec<(Face, &'static str, &'static str)> {
    let enroll = ENROLL.iter().map(|(method, path, _)| (Face::Enroll, *method, *path));
    let manage = MANAGE.iter().map(|(method, path, _)| (Face::Manage, *method, *path));
    enroll.chain(manage).collect()
}

#[test]
fn every_endpoint_is_written_down_here_and_nothing_else() {
    let all = endpoints::all();
    let served: BTreeSet<String> = all.iter().map(|row| label(row.face, row.method.as_str(), row.path)).collect();
    let known: BTreeSet<String> = written().iter().map(|(face, method, path)| label(*face, method, path)).collect();
    assert_eq!(served, known);
    assert_eq!(served.len(), all.len(), "an endpoint is in the table twice");
}

#[tokio::test]
async fn every_cell_of_the_enroll_face() {
    let stage = Stage::set().await;
    for (method, path, wants) in ENROLL {
        for (brings, want) in PROOFS.into_iter().zip(wants) {
            let asked = stage.asked(method, path, brings).await;
            let before = stage.records().await;
            let router = stage.router(Face::Enroll, &unlimited());
            let answer = stage.send(router, Face::Enroll, None, asked).await;
            let what = format!("{method} {path}, proof {brings:?}");
            check(&what, *want, &answer);
            assert!(*want == Served || stage.records().await == before, "{what}: refused, and something was written");
        }
    }
}

#[tokio::test]
async fn every_cell_of_the_manage_face() {
    let stage = Stage::set().await;
    for (method, path, wants) in MANAGE {
        for (kind, want) in CALLERS.iter().zip(wants) {
            let caller = stage.caller(kind).await;
            let asked = stage.asked(method, path, Proof::Missing).await;
            let before = stage.records().await;
            let router = stage.router(Face::Manage, &unlimited());
            let answer = stage.send(router, Face::Manage, caller, asked).await;
            let what = format!("{method} {path} by {kind}");
            check(&what, *want, &answer);
            assert!(*want == Served || stage.records().await == before, "{what}: refused, and something was written");
        }
    }
}

#[tokio::test]
async fn whose_certificate_is_no_good_is_refused_everywhere() {
    let stage = Stage::set().await;
    for (kind, want) in OUTCASTS {
        let outcast = stage.caller(kind).await;
        for (method, path, wants) in MANAGE {
            // What is for machines is refused before anybody looks at the certificate.
            let want = if wants[3] == Caller { Caller } else { *want };
            let asked = stage.asked(method, path, Proof::Missing).await;
            let before = stage.records().await;
            let router = stage.router(Face::Manage, &unlimited());
            let answer = stage.send(router, Face::Manage, outcast.clone(), asked).await;
            check(&format!("{method} {path} by {kind}"), want, &answer);
            assert_eq!(stage.records().await, before, "{method} {path} by {kind}: refused, and something was written");
        }
    }
}

/// What a certificate that was replaced a moment ago may still do. Every other row of the manage face makes, ends or grants.
const READS: &[(&str, &str)] = &[("POST", "/v1/machines/{name}/reports"), ("POST", "/v1/can-i")];

#[tokio::test]
async fn a_certificate_that_was_just_replaced_reads_and_changes_nothing() {
    let stage = Stage::set().await;
    for (method, path, _) in MANAGE {
        let (before_it, member) = match *path {
            "/v1/sealed" | "/v1/ssh/host" => ("a machine", stage.machine().await.1),
            _ => ("an administrator", stage.person(&["admins"]).await),
        };
        let old = stage.story.peer(&member.issued);
        let newer = stage.story.peer(&member.renew(&stage.story).await.unwrap());
        stage.story.admit(&newer).await.unwrap();
        let want = match (*method, *path) {
            // Two renewals from one certificate are two holders.
            (_, "/v1/renew") => Want::Forked,
            ("GET", _) => Served,
            row if READS.contains(&row) => Served,
            _ => Want::Replaced,
        };
        let asked = stage.asked(method, path, Proof::Missing).await;
        let records = stage.records().await;
        let router = stage.router(Face::Manage, &unlimited());
        let answer = stage.send(router, Face::Manage, Some(old), asked).await;
        check(&format!("{method} {path} by {before_it} with the certificate before"), want, &answer);
        if want == Want::Replaced {
            assert_eq!(stage.records().await, records, "{method} {path}: refused, and something was written");
            stage.story.admit(&newer).await.unwrap();
        }
    }
}

#[test]
fn what_reads_is_written_down() {
    use gateway::core::admission::Use;
    for row in endpoints::all().iter().filter(|row| row.face == Face::Manage) {
        let (method, path) = (row.method.as_str(), row.path);
        let want = match (method, path) {
            (_, "/v1/renew") => Use::Renewal,
            ("GET", _) => Use::Read,
            row if READS.contains(&row) => Use::Read,
            _ => Use::Change,
        };
        assert_eq!(row.intent, want, "{method} {path}");
    }
}
