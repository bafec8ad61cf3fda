//! Walks the table of endpoints cell by cell: every method and path, by every kind of caller, on both faces, with its
//! limits. An endpoint that is not written down here fails the test, and so does a line for an endpoint that is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use std::{collections::BTreeSet, sync::Arc};

use axum::{Router, body::Body, http::Method};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use gateway::{
    edge::{
        endpoints,
        http::router,
        live::NewConn,
        rate::{Class, Rates},
        tls::Face,
    },
    limits::{ClassLimits, Quota, RateLimits},
    store::{self, Key},
};
use http_body_util::BodyExt as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use pki::{KeyAlgorithm, Peer, SoftwareKey};
use serde_json::json;
use story::{Member, Story};
use tower::ServiceExt as _;
use wire::{
    admin::TokenRequest,
    enroll::{PROOF_HEADER, PROOF_TYPE, ProofClaims, WaitingReply},
    problem::Problem,
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
}

use Want::{Caller, Denied, Hidden, Locked, Served, Unproven};

/// The enroll face: who brings nothing, and who brings a proof of the key in the request.
const ENROLL: &[(&str, &str, [Want; 2])] = &[
    ("GET", "/healthz", [Served, Served]),
    ("GET", "/readyz", [Served, Served]),
    ("GET", "/v1/gateway", [Served, Served]),
    ("GET", "/v1/bundle", [Served, Served]),
    ("GET", "/v1/crl/{role}", [Served, Served]),
    ("POST", "/v1/enrollments", [Unproven, Served]),
    ("GET", "/v1/enrollments/{id}", [Unproven, Served]),
];

/// The manage face: nobody (whom the handshake keeps out already), a machine, a person in no group, an administrator,
/// and an administrator who is locked.
const MANAGE: &[(&str, &str, [Want; 5])] = &[
    ("GET", "/v1/self", [Caller, Served, Served, Served, Locked]),
    ("POST", "/v1/renew", [Caller, Served, Served, Served, Locked]),
    ("POST", "/v1/leave", [Caller, Served, Served, Served, Locked]),
    // Listings show what one may read: nothing, perhaps.
    ("GET", "/v1/requests", [Caller, Caller, Served, Served, Locked]),
    ("GET", "/v1/requests/{id}", [Caller, Caller, Hidden, Served, Locked]),
    ("POST", "/v1/requests/{id}/approve", [Caller, Caller, Denied, Served, Locked]),
    ("POST", "/v1/requests/{id}/deny", [Caller, Caller, Denied, Served, Locked]),
    ("GET", "/v1/machines", [Caller, Caller, Served, Served, Locked]),
    ("GET", "/v1/machines/{name}", [Caller, Caller, Hidden, Served, Locked]),
    ("DELETE", "/v1/machines/{name}", [Caller, Caller, Hidden, Served, Locked]),
    ("GET", "/v1/people", [Caller, Caller, Served, Served, Locked]),
    ("GET", "/v1/people/{name}", [Caller, Caller, Hidden, Served, Locked]),
    ("DELETE", "/v1/people/{name}", [Caller, Caller, Hidden, Served, Locked]),
    ("POST", "/v1/people/invite", [Caller, Caller, Denied, Served, Locked]),
    ("GET", "/v1/locks", [Caller, Caller, Denied, Served, Locked]),
    ("POST", "/v1/locks", [Caller, Caller, Denied, Served, Locked]),
    ("DELETE", "/v1/locks/{kind}/{target}", [Caller, Caller, Denied, Served, Locked]),
    ("GET", "/v1/tokens", [Caller, Caller, Denied, Served, Locked]),
    ("POST", "/v1/tokens", [Caller, Caller, Denied, Served, Locked]),
    ("DELETE", "/v1/tokens/{id}", [Caller, Caller, Denied, Served, Locked]),
    ("GET", "/v1/audit", [Caller, Caller, Denied, Served, Locked]),
    ("POST", "/v1/can-i", [Caller, Caller, Served, Served, Locked]),
    ("GET", "/metrics", [Caller, Denied, Denied, Served, Locked]),
];

/// The callers of [`MANAGE`].
const CALLERS: [&str; 5] = ["nobody", "a machine", "a person", "an administrator", "a locked administrator"];

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
}

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

    /// One of [`CALLERS`], new for each cell since some of them are gone afterwards.
    async fn caller(&self, kind: &str) -> Option<Peer> {
        let member = match kind {
            "nobody" => return None,
            "a machine" => self.machine().await.1,
            "a person" => self.person(&[]).await,
            _ => self.person(&["admins"]).await,
        };
        let peer = self.story.peer(&member.issued);
        // Its certificate is in use already, so that a refusal has nothing to write.
        self.story.admit(&peer).await.unwrap();
        if kind == "a locked administrator" {
            self.story.lock(&self.alice, "person", peer.identity.name.as_str()).await.unwrap();
        }
        Some(peer)
    }

    async fn send(&self, router: Router, face: Face, peer: Option<Peer>, asked: Asked) -> (u16, String, Vec<u8>) {
        let source = std::net::Ipv4Addr::new(192, 0, 2, 1).into();
        let seat = self.story.shell.live.enter(NewConn { face, peer, source, exporter: EXPORTER });
        let mut request = axum::http::Request::builder().method(asked.method).uri(asked.uri);
        if let Some(proof) = asked.proof {
            request = request.header(PROOF_HEADER, proof);
        }
        let request = request.extension(Arc::clone(seat.conn())).body(Body::from(asked.body)).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes().to_vec();
        let code = serde_json::from_slice::<Problem>(&body).map(|problem| problem.code().to_owned());
        (status, code.unwrap_or_default(), body)
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
        };
        let (status, _, body) = self.send(self.router(Face::Enroll, &unlimited()), Face::Enroll, None, asked).await;
        assert_eq!(status, 202, "{}", String::from_utf8_lossy(&body));
        let id = serde_json::from_slice::<WaitingReply>(&body).unwrap().id;
        (newcomer, id)
    }

    /// A request for a row that is right in everything, about something made for it.
    async fn asked(&self, method: &str, path: &str, proven: bool) -> Asked {
        let (uri, body, holder) = self.about(method, path).await;
        let now = self.story.shell.now().secs();
        let proof = holder.filter(|_| proven).map(|newcomer| newcomer.proof(method, &uri, now));
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        Asked { method: method.parse().unwrap(), uri, body, proof }
    }

    async fn about(&self, method: &str, path: &str) -> (String, serde_json::Value, Option<Newcomer>) {
        let nothing = serde_json::Value::Null;
        match (method, path) {
            (_, "/v1/crl/{role}") => (path.replace("{role}", "machine"), nothing, None),
            ("POST", "/v1/enrollments") => {
                let newcomer = Newcomer::new();
                (path.to_owned(), json!({ "csr": newcomer.csr }), Some(newcomer))
            }
            (_, "/v1/enrollments/{id}") => {
                let (newcomer, id) = self.waiting().await;
                (path.replace("{id}", &id), nothing, Some(newcomer))
            }
            (_, "/v1/renew") => (path.to_owned(), json!({ "csr": Newcomer::new().csr }), None),
            (_, "/v1/requests/{id}" | "/v1/requests/{id}/approve" | "/v1/requests/{id}/deny") => {
                let body = match path.rsplit_once('/') {
                    Some((_, "approve")) => json!({ "unchecked": true }),
                    Some((_, "deny")) => json!({ "reason": "not ours" }),
                    _ => nothing,
                };
                (path.replace("{id}", &self.waiting().await.1), body, None)
            }
            (_, "/v1/machines/{name}") => (path.replace("{name}", &self.machine().await.0), nothing, None),
            (_, "/v1/people/{name}") => {
                let somebody = self.person(&[]).await;
                let name = somebody.issued.identity.rsplit_once('/').unwrap().1.to_owned();
                (path.replace("{name}", &name), nothing, None)
            }
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
                let token = self.story.token_reply(TokenRequest::default()).await;
                (path.replace("{id}", &token.id), nothing, None)
            }
            (_, "/v1/can-i") => (path.to_owned(), json!({ "action": "approve" }), None),
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
        health: many,
    };
    let one = match only {
        None => return limits,
        Some(Class::Anonymous) => &mut limits.anonymous,
        Some(Class::Poll) => &mut limits.poll,
        Some(Class::Machine) => &mut limits.machine,
        Some(Class::Person) => &mut limits.person,
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
        for (proven, want) in [false, true].into_iter().zip(wants) {
            let asked = stage.asked(method, path, proven).await;
            let before = stage.records().await;
            let router = stage.router(Face::Enroll, &unlimited());
            let answer = stage.send(router, Face::Enroll, None, asked).await;
            let what = format!("{method} {path} {}", if proven { "with a proof" } else { "by anybody" });
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
            let asked = stage.asked(method, path, false).await;
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
async fn nothing_is_served_on_the_other_face() {
    let stage = Stage::set().await;
    let admin = stage.caller("an administrator").await;
    for (face, method, path) in written() {
        let (other, peer) = match face {
            Face::Enroll => (Face::Manage, admin.clone()),
            Face::Manage => (Face::Enroll, None),
        };
        let asked = stage.asked(method, path, true).await;
        let answer = stage.send(stage.router(other, &unlimited()), other, peer, asked).await;
        check(&format!("{method} {path} on the other face"), Hidden, &answer);
    }
}

#[tokio::test]
async fn other_methods_are_refused() {
    let stage = Stage::set().await;
    let admin = stage.caller("an administrator").await;
    let rows = written();
    for (face, _, path) in &rows {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            if rows.iter().any(|row| row == &(*face, method, *path)) {
                continue;
            }
            let (uri, peer) = (path.replace(['{', '}'], ""), admin.clone().filter(|_| *face == Face::Manage));
            let asked = Asked { method: method.parse().unwrap(), uri, body: vec![], proof: None };
            let (status, ..) = stage.send(stage.router(*face, &unlimited()), *face, peer, asked).await;
            assert_eq!(status, 405, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_and_those_within_are_read() {
    let stage = Stage::set().await;
    for row in endpoints::all().iter().filter(|row| row.body_max > 0) {
        for (more, too_large) in [(0, false), (1, true)] {
            let peer = if row.face == Face::Manage { stage.caller("an administrator").await } else { None };
            let mut asked = stage.asked(row.method.as_str(), row.path, true).await;
            // Blanks after the JSON count, and mean nothing.
            asked.body.resize(row.body_max + more, b' ');
            let (status, code, body) = stage.send(stage.router(row.face, &unlimited()), row.face, peer, asked).await;
            let refused = (status, code.as_str()) == (413, "too-large");
            assert_eq!(refused, too_large, "{} with {more} more: {}", row.path, String::from_utf8_lossy(&body));
        }
    }
}

#[tokio::test]
async fn every_endpoint_counts_against_its_rate_and_no_other() {
    let stage = Stage::set().await;
    let classes = [Class::Anonymous, Class::Poll, Class::Machine, Class::Person, Class::Health];
    for row in endpoints::all() {
        for class in classes {
            let router = stage.router(row.face, &rates(Some(class)));
            let mut codes = Vec::new();
            for _ in 0..2 {
                let peer = if row.face == Face::Manage { stage.caller("an administrator").await } else { None };
                let asked = stage.asked(row.method.as_str(), row.path, true).await;
                codes.push(stage.send(router.clone(), row.face, peer, asked).await.1);
            }
            let limited = codes.iter().position(|code| code == "rate-limited");
            let want = (class == row.rate).then_some(1);
            assert_eq!(limited, want, "{} {} against {}: {codes:?}", row.method, row.path, class.as_str());
        }
    }
}
