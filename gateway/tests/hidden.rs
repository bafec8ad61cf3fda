//! What one may not see looks as if it were not there: a person without any right asks every endpoint of the manage face about
//! things that are there and about things that are not, and hears the same bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::flow::asked::TokenWish;
use std::sync::Arc;

use axum::{body::Body, http::Method};
use gateway::core::face::Face;
use gateway::{
    edge::{endpoints, http::router},
    limits::{ClassLimits, Quota, RateLimits},
};
use gateway::{ports::rate::Rates, registry::live::NewConn};
use http_body_util::BodyExt as _;
use pki::Peer;
use serde_json::{Value, json};
use story::{Member, Story};
use tower::ServiceExt as _;

/// Names of things of each kind.
struct Things {
    machine: String,
    person: String,
    request: String,
    lineage: String,
    token: String,
    session: String,
}

/// Where names stand in the rows, and bodies that name things: each row that takes a name is written down here.
fn questions(things: &Things) -> Vec<(Method, String, Value)> {
    let Things { machine, person, request, lineage, token, session } = things;
    let run = json!({ "tool": "ansible", "started": 1, "finished": 2, "ok": 3, "changed": 0, "failed": 0,
        "unreachable": 0, "skipped": 0 });
    let lock = |kind: &str, target: &str| json!({ "kind": kind, "target": target, "reason": "r" });
    let mut all = vec![
        (Method::GET, format!("/v1/requests/{request}"), Value::Null),
        (Method::POST, format!("/v1/requests/{request}/approve"), json!({ "unchecked": true })),
        (Method::POST, format!("/v1/requests/{request}/approve"), json!({ "code": "GYV6-KDXP", "owner": "noone" })),
        (Method::POST, format!("/v1/requests/{request}/deny"), json!({ "reason": "r" })),
        (Method::POST, format!("/v1/requests/{request}/reopen"), Value::Null),
        (Method::GET, format!("/v1/machines/{machine}"), Value::Null),
        (Method::PATCH, format!("/v1/machines/{machine}"), json!({ "labels": { "a": "b" } })),
        (Method::DELETE, format!("/v1/machines/{machine}"), Value::Null),
        (Method::POST, format!("/v1/machines/{machine}/reports"), run),
        (Method::POST, "/v1/renewals".to_owned(), json!({ "machines": [machine] })),
        (Method::GET, format!("/v1/people/{person}"), Value::Null),
        (Method::PATCH, format!("/v1/people/{person}"), json!({ "groups": ["staff"] })),
        (Method::DELETE, format!("/v1/people/{person}"), Value::Null),
        (Method::POST, format!("/v1/people/{person}/offboard"), json!({ "to": "eve" })),
        (Method::POST, "/v1/locks".to_owned(), lock("machine", machine)),
        (Method::POST, "/v1/locks".to_owned(), lock("person", person)),
        (Method::POST, "/v1/locks".to_owned(), lock("lineage", lineage)),
        (Method::DELETE, format!("/v1/locks/machine/{machine}"), Value::Null),
        (Method::DELETE, format!("/v1/locks/person/{person}"), Value::Null),
        (Method::DELETE, format!("/v1/locks/lineage/{lineage}"), Value::Null),
        (Method::DELETE, format!("/v1/tokens/{token}"), Value::Null),
        (Method::GET, format!("/v1/sessions/{session}"), Value::Null),
        (Method::DELETE, format!("/v1/sessions/{session}"), Value::Null),
        (Method::POST, "/v1/tokens".to_owned(), json!({ "owner": person })),
        (Method::POST, "/v1/people/invite".to_owned(), json!({ "names": [person] })),
    ];
    let resources = [
        ("read", machine.clone()),
        ("read", format!("person/{person}")),
        ("read", request.clone()),
        ("administer", format!("machine/{machine}")),
        ("administer", request.clone()),
        ("lock", machine.clone()),
        ("lock", format!("person/{person}")),
        ("report", machine.clone()),
        ("approve", request.clone()),
        ("approve", format!("wants-{request}")),
        ("connect", format!("ssh@{machine}")),
    ];
    for (action, resource) in resources {
        all.push((Method::POST, "/v1/can-i".to_owned(), json!({ "action": action, "resource": resource })));
    }
    all
}

struct Asker {
    story: Story,
    alice: Member,
    eve: Peer,
}

impl Asker {
    async fn new() -> Self {
        let story = Story::new().await;
        let alice = story.first_person().await;
        let eve = story.person("eve", &["nothing"]).await;
        let eve = story.peer(&eve.issued);
        story.admit(&eve).await.unwrap();
        Self { story, alice, eve }
    }

    /// What she hears, without the correlation id.
    async fn hears(&self, method: &Method, uri: &str, body: &Value) -> (u16, String) {
        let many = ClassLimits { per_prefix: Quota::of(1_000_000, 1_000_000), total: Quota::of(1_000_000, 1_000_000) };
        let limits = RateLimits {
            anonymous: many.clone(),
            poll: many.clone(),
            machine: many.clone(),
            person: many.clone(),
            connect: many.clone(),
            health: many,
        };
        let rates = Arc::new(Rates::new(&limits, Arc::clone(&self.story.shell.metrics)));
        let source = std::net::Ipv4Addr::new(192, 0, 2, 1).into();
        let (face, peer) = (Face::Manage, Some(self.eve.clone()));
        let seat = self.story.shell.live.enter(NewConn { face, requester: peer.into(), source, exporter: [7; 32] });
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = axum::http::Request::builder().method(method.clone()).uri(uri);
        let request = request.header("content-type", "application/json");
        let request = request.extension(Arc::clone(seat.conn())).body(body).unwrap();
        let (parts, body) = router(&self.story.shell, &rates, face).oneshot(request).await.unwrap().into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let instance = parts.headers.get("lychgate-instance").map_or("-", |value| value.to_str().unwrap());
        (parts.status.as_u16(), body.replace(instance, "ID"))
    }

    /// Something of each kind, that she may know nothing of.
    async fn things(&self, name: &str) -> Things {
        let machine = self.story.machine(name).await;
        self.story.person(&format!("p-{name}"), &["admins"]).await;
        let waiting = self.story.stranger().ask(&format!("wants-{name}")).await.waiting();
        let lineage = machine.caller(&self.story).await.lineage.record.id.clone();
        let token = self.story.token_reply(TokenWish::default()).await.id;
        let session = self.story.session(&self.alice, name);
        Things { machine: name.to_owned(), person: format!("p-{name}"), request: waiting.id, lineage, token, session }
    }
}

/// As things would be called that are not there.
fn absent(of: &Things) -> Things {
    let other = |text: &str| text.chars().map(|c| if c == '0' { '1' } else { '0' }).collect::<String>();
    Things {
        machine: "nothing".to_owned(),
        person: "p-nobody".to_owned(),
        request: other(&of.request),
        lineage: other(&of.lineage),
        token: other(&of.token),
        session: other(&of.session),
    }
}

#[tokio::test]
async fn what_is_there_and_what_is_not_sound_alike() {
    let asker = Asker::new().await;
    let there = asker.things("edge-7").await;
    // With locks, too.
    asker.story.lock(&asker.alice, "person", &there.person).await.unwrap();
    let gone = absent(&there);
    for (is, is_not) in questions(&there).iter().zip(&questions(&gone)) {
        let (heard, want) =
            (asker.hears(&is.0, &is.1, &is.2).await, asker.hears(&is_not.0, &is_not.1, &is_not.2).await);
        // What she wrote herself may be said back to her.
        assert_eq!(heard, want, "{} {} {}", is.0, is.1, is.2);
        assert!(heard.0 >= 400, "{} {} {}: {heard:?}", is.0, is.1, is.2);
    }
}

/// Listings do not change by what is not shown in them, nor do their places.
#[tokio::test]
async fn listings_say_nothing_of_what_they_leave_out() {
    let asker = Asker::new().await;
    let lists: Vec<String> = endpoints::all()
        .iter()
        .filter(|row| row.face == Face::Manage && row.method == Method::GET && !row.path.contains('{'))
        .filter(|row| !["/v1/self", "/metrics", "/v1/session-events"].contains(&row.path))
        .flat_map(|row| ["", "?limit=1"].map(|query| format!("{}{query}", row.path)))
        .collect();
    assert!(lists.len() >= 14, "{lists:?}");
    let mut before = Vec::new();
    for list in &lists {
        before.push(asker.hears(&Method::GET, list, &Value::Null).await);
    }
    // Before and behind her own name.
    for name in ["edge-7", "aaa", "zzz"] {
        asker.things(name).await;
    }
    for (list, before) in lists.iter().zip(&before) {
        assert_eq!(asker.hears(&Method::GET, list, &Value::Null).await, *before, "{list}");
    }
}

/// Every row that takes a name is asked above.
#[tokio::test]
async fn every_row_with_a_name_is_asked() {
    let things = Things {
        machine: "{name}".into(),
        person: "{name}".into(),
        request: "{id}".into(),
        lineage: "{target}".into(),
        token: "{id}".into(),
        session: "{id}".into(),
    };
    let asked: Vec<(String, String)> =
        questions(&things).into_iter().map(|(method, uri, _)| (method.to_string(), uri)).collect();
    for row in endpoints::all().iter().filter(|row| row.face == Face::Manage && row.path.contains('{')) {
        let path = row.path.replace("{kind}", "lineage");
        assert!(asked.contains(&(row.method.to_string(), path.clone())), "{} {path} is not asked", row.method);
    }
}

#[tokio::test]
async fn who_asks_what_they_may_is_answered() {
    let story = Story::new().await;
    let (alice, bob) = (story.first_person().await, story.person("bob", &[]).await);
    story.machine("edge-07").await;
    let waiting = story.stranger().ask("edge-08").await.waiting().id;
    for _ in 0..2 {
        story.stranger().ask("edge-09").await.waiting();
    }
    let rows = [
        (&alice, "approve", waiting.as_str(), "allowed by rule `admins`"),
        (&alice, "approve", "edge-08", "allowed by rule `admins`"),
        (&alice, "approve", "edge-09", "several requests ask for the name `edge-09`: give one of "),
        (&alice, "approve", "edge-07", "no such request: `approve` takes one that waits"),
        (&alice, "approve", "", "allowed by rule `admins`"),
        (&alice, "lock", "edge-07", "allowed by rule `admins`"),
        (&alice, "lock", "person/bob", "allowed by rule `admins`"),
        (&alice, "lock", "", "allowed by rule `admins`"),
        (&alice, "lock", "token", "no such machine"),
        (&alice, "read", waiting.as_str(), "allowed by rule `admins`"),
        (&alice, "administer", "token", "allowed by rule `admins`"),
        (&alice, "administer", "edge-10", "no such machine"),
        (&alice, "renew", "", "allowed by rule `renew-person`"),
        (&alice, "renew", "edge-07", "`renew` is for oneself"),
        (&alice, "enroll", "", "`enroll` is asked of newcomers"),
        (&alice, "connect", "edge-07", "`connect` concerns a service on a machine: write it as SERVICE@MACHINE"),
        (&alice, "dance", "", "`dance` is not an action of the policy: use one of enroll, request, approve, "),
        (&bob, "approve", waiting.as_str(), "no such request"),
        (&bob, "approve", "", "denied: no rule permits it"),
        (
            &alice,
            "unlock",
            "edge-07",
            "`unlock` is not an action of the policy; `administer` is what it takes: use one of ",
        ),
        // What bob may not see is not there for him.
        (&bob, "approve", "edge-08", "no such request"),
        (&bob, "lock", "edge-07", "no such machine"),
        (&bob, "read", "person/bob", "allowed by rule `person-reads-themselves`"),
        (&bob, "administer", "", "denied: no rule permits it"),
    ];
    for (who, action, resource, want) in rows {
        let asked = gateway::flow::asked::PolicyQuestion { action: action.to_owned(), resource: resource.to_owned() };
        let said = match gateway::flow::can_i::can_i(&story.shell, &who.caller(&story).await, &asked).await {
            Ok(reply) => reply.explanation,
            Err(refusal) => refusal.to_string(),
        };
        assert!(said.starts_with(want), "{action} {resource}: {said}");
    }
}
