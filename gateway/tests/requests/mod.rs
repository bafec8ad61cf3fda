//! What a request must be before its row is asked: no web page's, with a query that is known, and refused in a document.

use super::*;

/// A page of another site may make a browser send what it likes with a person's certificate, but for these headers.
#[tokio::test]
async fn no_web_page_changes_anything() {
    /// What it is, its headers, and what it gets.
    type Row = (&'static str, &'static [(&'static str, &'static str)], (u16, &'static str));
    const HOST: (&str, &str) = PLAIN[0];
    const JSON: (&str, &str) = PLAIN[1];
    let rows: [Row; 7] = [
        ("no type", &[HOST], (415, "not-json")),
        ("a form", &[HOST, ("content-type", "application/x-www-form-urlencoded")], (415, "not-json")),
        ("plain text", &[HOST, ("content-type", "text/plain")], (415, "not-json")),
        ("another site", &[HOST, JSON, ("origin", "https://evil.example")], (403, "cross-site")),
        ("a hidden origin", &[HOST, JSON, ("origin", "null")], (403, "cross-site")),
        ("told by the browser", &[HOST, JSON, ("sec-fetch-site", "cross-site")], (403, "cross-site")),
        ("a neighbour", &[HOST, JSON, ("sec-fetch-site", "same-site")], (403, "cross-site")),
    ];
    let stage = Stage::set().await;
    for row in endpoints::all() {
        let changes = row.changes == Effect::State;
        assert_eq!(changes, row.method != Method::GET, "{} {}: only fetching changes nothing", row.method, row.path);
        for (what, headers, want) in &rows {
            let peer = stage.served_to(&row).await;
            let asked =
                Asked { headers: headers.to_vec(), ..stage.asked(row.method.as_str(), row.path, Proof::Good).await };
            let before = stage.records().await;
            let (status, code, _) = stage.send(stage.router(row.face, &unlimited()), row.face, peer, asked).await;
            let what = format!("{} {}, {what}", row.method, row.path);
            if changes {
                assert_eq!((status, code.as_str()), *want, "{what}");
                assert_eq!(stage.records().await, before, "{what}: refused, and something was written");
            } else {
                assert!(![403, 415].contains(&status), "{what}: {status} {code}");
            }
        }
    }
}

/// Whatever a row answers, and whatever refuses it, says what a browser may do with it: by its column, and nothing else.
#[tokio::test]
async fn every_answer_has_the_headers_of_its_content() {
    let stage = Stage::set().await;
    for row in endpoints::all() {
        let mut want = axum::http::HeaderMap::new();
        row.content.mark(&mut want);
        for headers in [PLAIN.to_vec(), vec![PLAIN[0], PLAIN[0]]] {
            let peer = stage.served_to(&row).await;
            let asked = Asked { headers, ..stage.asked(row.method.as_str(), row.path, Proof::Good).await };
            let (parts, _) = stage.exchange(stage.router(row.face, &unlimited()), row.face, peer, asked).await;
            for (name, value) in &want {
                let got = parts.headers.get(name);
                // Only a file that may be kept says for how long.
                let kept = *name == "cache-control" && row.path == "/v1/crl/{list}" && parts.status == 200;
                assert!(got.is_some() && (kept || got == Some(value)), "{} {}: {name}: {got:?}", row.method, row.path);
            }
        }
    }
}

/// What an endpoint does not know in a query is not passed over: a slip would list everything.
#[tokio::test]
async fn unknown_members_of_a_query_are_refused() {
    let stage = Stage::set().await;
    for row in endpoints::all() {
        let asked = |asked: Asked, query: String| Asked { uri: format!("{}?{query}", asked.uri), ..asked };
        let router = || stage.router(row.face, &unlimited());
        let mut queries = vec![("nonsense=1".to_owned(), Some("unknown parameter `nonsense`"))];
        if let Some(name) = row.query.iter().find(|name| name.len() > 3) {
            queries.push((format!("{}=1", &name[..name.len() - 1]), Some("did you mean `")));
        }
        for name in row.query {
            queries.push((format!("{name}=1&{name}=1"), Some("twice")));
        }
        for (query, says) in queries {
            let plain = stage.asked(row.method.as_str(), row.path, Proof::Good).await;
            let peer = stage.served_to(&row).await;
            let (status, code, body) = stage.send(router(), row.face, peer, asked(plain, query.clone())).await;
            let text = String::from_utf8_lossy(&body);
            assert_eq!((status, code.as_str()), (400, "malformed"), "{} {}?{query}: {text}", row.method, row.path);
            assert!(says.is_none_or(|says| text.contains(says)), "{} {}?{query}: {text}", row.method, row.path);
        }
    }
}

/// Without the key of a request nobody learns whether it is there.
#[tokio::test]
async fn an_unknown_request_and_anothers_are_answered_alike() {
    let stage = Stage::set().await;
    let (holder, there) = stage.waiting().await;
    let stranger = Newcomer::new();
    let now = stage.story.shell.now().secs();
    for brings in ["nothing", "nonsense", "another path", "another key", "an old proof"] {
        let mut told = Vec::new();
        for id in [there.as_str(), "0123456789ab", "..", "x"] {
            let uri = format!("/v1/enrollments/{id}");
            let proof = match brings {
                "nothing" => None,
                "nonsense" => Some("x".to_owned()),
                "another path" => Some(holder.proof("GET", "/v1/enrollments/y", now)),
                "another key" => Some(stranger.proof("GET", &uri, now)),
                _ => Some(stranger.proof("GET", &uri, now - 3_600)),
            };
            let asked = Asked { method: Method::GET, uri, body: vec![], proof, headers: PLAIN.to_vec() };
            let (parts, body) =
                stage.exchange(stage.router(Face::Enroll, &unlimited()), Face::Enroll, None, asked).await;
            let mut problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            problem["instance"] = json!("");
            let challenged = parts.headers.contains_key("www-authenticate");
            assert_eq!(challenged, parts.status == 401, "{brings}: {problem}");
            told.push((parts.status, problem));
        }
        assert!(told.iter().all(|other| *other == told[0]), "{brings}: {told:?}");
    }
}

/// Whatever is refused is a problem document with the id under which the log has it.
#[tokio::test]
async fn every_refusal_is_a_problem_document() {
    let stage = Stage::set().await;
    let plain = PLAIN.to_vec();
    let rows: [(&str, &str, u16, &str); 9] = [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/", 404, "not-found"),
        ("GET", "*", 404, "not-found"),
        ("PATCH", "/v1/self", 405, "method-not-allowed"),
        ("PATCH", "/healthz", 405, "method-not-allowed"),
        ("GET", "/v1/machines/%ff", 400, "malformed"),
        ("GET", "/v1/crl/%ff", 400, "malformed"),
        ("GET", "/v1/self?x=%ff%", 400, "malformed"),
        ("POST", "/v1/leave%ff", 404, "not-found"),
    ];
    for face in [Face::Enroll, Face::Manage] {
        for (method, uri, status, code) in rows {
            let peer = if face == Face::Manage { stage.caller("an administrator").await } else { None };
            let method: Method = method.parse().unwrap();
            let asked = Asked { method, uri: uri.to_owned(), body: vec![], proof: None, headers: plain.clone() };
            let (parts, body) = stage.exchange(stage.router(face, &unlimited()), face, peer, asked).await;
            let what = format!("{} {uri}: {} {}", face.as_str(), parts.status, String::from_utf8_lossy(&body));
            assert_eq!(parts.headers["content-type"], wire::problem::PROBLEM_TYPE, "{what}");
            let problem: Problem = serde_json::from_slice(&body).expect(&what);
            assert_eq!(parts.headers["lychgate-instance"], problem.instance.as_str(), "{what}");
            assert_eq!(parts.status, problem.status, "{what}");
            // On the other face it is not there at all.
            let there = [(status, code), (404, "not-found")];
            assert!(there.contains(&(problem.status, problem.code())), "{what}");
        }
    }
}
