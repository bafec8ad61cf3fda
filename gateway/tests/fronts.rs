//! A second front, with a dialect, a media type and a header of its own: a folder (here this file) and its rows are all that it
//! needs. Whoever enrols by it gets what the native front gives, from the same sequence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::flow::asked::TokenWish;
use std::{collections::BTreeMap, future::Future, net::Ipv4Addr, pin::Pin, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderMap, Method, Request, Response, StatusCode, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use gateway::{
    core::{admission::Use, enroll::Inbound, face::Face, refusal::Refusal, requester::Requester},
    edge::{
        content::Content,
        endpoints::{self, Carries, Endpoint},
        fronts::Front,
        headers::Effect,
        http::{Answer, Call, Handler, router_of, typed},
    },
    flow::{self, enroll::EnrollOutcome},
    limits::RateLimits,
    ports::rate::{Class, Rates},
    registry::live::{CloseReason, NewConn},
};
use http_body_util::BodyExt as _;
use pki::{KeyAlgorithm, SoftwareKey};
use story::Story;
use tower::ServiceExt as _;

/// One line a request and one line an answer.
struct Lines;

const VERSION: &str = "lines-version";
const MEDIA: &str = "application/x-lines";

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
    vec![Endpoint {
        method: Method::POST,
        path: "/lines/enroll",
        face: Face::Enroll,
        front: &Lines,
        content: Content::Data,
        changes: Effect::State,
        query: &[],
        body_max: 4_096,
        carries: Carries::Nothing,
        rate: Class::Anonymous,
        intent: Use::Read,
        run: Handler::KeyHolder(enroll),
    }]
}

/// `CSR TOKEN`, in one line.
fn enroll(call: Call) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
    Box::pin(async move {
        let text = std::str::from_utf8(&call.body).unwrap_or_default();
        let (csr, token) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let key = flow::renew::csr(csr)?.into_key();
        let evidence = if token.is_empty() { vec![] } else { vec![("join-token".to_owned(), token.to_owned())] };
        let inbound = Inbound {
            key,
            wanted_name: None,
            pin: None,
            evidence,
            ticket: None,
            attributes: BTreeMap::new(),
            source: call.conn.source(),
            prefix: "192.0.2.0/24".to_owned(),
        };
        let line = match flow::enroll::enroll(&call.shell, &inbound, call.conn.exporter(), &call.instance).await? {
            EnrollOutcome::Issued(issued) => format!("issued {}\n", issued.identity),
            EnrollOutcome::Waiting(waiting) => format!("waiting {}\n", waiting.id),
            EnrollOutcome::Challenge(challenge) => format!("challenge {}\n", challenge.ticket),
        };
        typed(StatusCode::OK, MEDIA, line)
    })
}

async fn send(story: &Story, headers: &[(&str, &str)], body: String) -> (u16, HeaderMap, String) {
    let rates = Rates::new(&RateLimits::default(), Arc::clone(&story.shell.metrics));
    let table = endpoints::all().into_iter().chain(rows()).collect();
    let router = router_of(table, &story.shell, &Arc::new(rates), Face::Enroll);
    let source = Ipv4Addr::new(192, 0, 2, 1).into();
    let seat =
        story.shell.live.enter(NewConn { face: Face::Enroll, requester: Requester::Nobody, source, exporter: [9; 32] });
    let mut request = Request::builder().method("POST").uri("/lines/enroll");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.extension(Arc::clone(seat.conn())).body(Body::from(body)).unwrap();
    let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

const RIGHT: [(&str, &str); 2] = [("content-type", MEDIA), (VERSION, "1")];

fn csr() -> String {
    let (key, _) = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    STANDARD.encode(pki::csr::request(&key).unwrap())
}

#[tokio::test]
async fn a_second_front_enrols_by_the_same_sequence() {
    let story = Story::new().await;
    let _alice = story.first_person().await;
    let (status, headers, line) = send(&story, &RIGHT, csr()).await;
    assert!(status == 200 && line.starts_with("waiting "), "{status} {line}");
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    let token = story.token_reply(TokenWish { names: vec!["edge-1".to_owned()], ..TokenWish::default() }).await;
    let (status, _, line) = send(&story, &RIGHT, format!("{} {}", csr(), token.token)).await;
    assert_eq!(status, 200, "{line}");
    assert!(line.starts_with("issued spiffe://") && line.trim_end().ends_with("/machine/edge-1"), "{line}");
    // It is refused in its own dialect.
    let (status, _, line) = send(&story, &RIGHT, format!("{} {}", csr(), token.token)).await;
    assert_eq!((status, line.as_str()), (400, "no: the join token was already used by another key\n"));
}

#[tokio::test]
async fn a_second_front_has_header_rules_of_its_own() {
    let story = Story::new().await;
    for (headers, says) in [
        (&[("content-type", "application/json"), (VERSION, "1")][..], "declared as `application/x-lines`"),
        (&[("content-type", MEDIA)], "HTTP/1.1"),
        (&[RIGHT[0], RIGHT[1], ("sec-fetch-site", "cross-site")], "a page of another site"),
    ] {
        let (status, _, line) = send(&story, headers, csr()).await;
        assert!(status == 400 && line.starts_with("no: ") && line.contains(says), "{headers:?}: {status} {line}");
    }
}
