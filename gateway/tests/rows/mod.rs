//! What holds of every row, whoever asks: audit, face, methods, odd parameters, sizes and rates.

use super::*;

/// Whatever somebody changes stands in the audit with their name: each row that is not a `GET`.
#[tokio::test]
async fn whoever_changes_something_is_in_the_audit() {
    let stage = Stage::set().await;
    for row in endpoints::all().iter().filter(|row| row.method != Method::GET && row.face == Face::Manage) {
        // It changes nothing.
        if row.path == "/v1/can-i" {
            continue;
        }
        let what = format!("{} {}", row.method, row.path);
        let caller = stage.served_to(row).await.unwrap();
        let who = caller.identity.to_string();
        let asked = stage.asked(row.method.as_str(), row.path, Proof::Good).await;
        let (parts, body) = stage.exchange(stage.router(row.face, &unlimited()), row.face, Some(caller), asked).await;
        assert!(parts.status.is_success(), "{what}: {}", String::from_utf8_lossy(&body));
        let instance = parts.headers.get("lychgate-instance").unwrap().to_str().unwrap();
        let events = stage.story.events(&stage.alice).await;
        let by: Vec<&str> =
            events.iter().filter(|event| event.instance == instance).map(|event| event.actor.as_str()).collect();
        assert!(by.contains(&who.as_str()), "{what}: {by:?}");
    }
}

#[tokio::test]
async fn nothing_is_served_on_the_other_face() {
    let stage = Stage::set().await;
    let admin = stage.caller("an administrator").await;
    for (face, method, path) in written() {
        let (other, peer) = match face {
            Face::Enroll => (Face::Manage, admin.clone()),
            Face::Manage | Face::Proxy | Face::Tunnel => (Face::Enroll, None),
        };
        let asked = stage.asked(method, path, Proof::Good).await;
        let answer = stage.send(stage.router(other, &unlimited()), other, peer, asked).await;
        check(&format!("{method} {path} on the other face"), Hidden, &answer);
    }
}

/// The table has no `HEAD`: it is `GET` without the body (RFC 9110 9.3.2), and so for the same callers.
#[tokio::test]
async fn head_is_get_without_the_body() {
    let stage = Stage::set().await;
    for (face, _, path) in written().into_iter().filter(|(_, method, _)| *method == "GET") {
        for kind in CALLERS {
            let caller = if face == Face::Manage { stage.caller(kind).await } else { None };
            let mut statuses = Vec::new();
            for method in ["GET", "HEAD"] {
                let asked = Asked { method: method.parse().unwrap(), ..stage.asked("GET", path, Proof::Missing).await };
                let router = stage.router(face, &unlimited());
                let (status, _, body) = stage.send(router, face, caller.clone(), asked).await;
                assert!(method == "GET" || body.is_empty(), "{path} by {kind}: {}", String::from_utf8_lossy(&body));
                statuses.push(status);
            }
            assert_eq!(statuses[0], statuses[1], "{path} by {kind}");
        }
    }
}

#[tokio::test]
async fn other_methods_are_refused() {
    let stage = Stage::set().await;
    let admin = stage.caller("an administrator").await;
    let rows = written();
    for (face, _, path) in &rows {
        let served: BTreeSet<&str> = rows
            .iter()
            .filter(|row| (row.0, row.2) == (*face, *path))
            .flat_map(|(_, method, _)| if *method == "GET" { vec!["GET", "HEAD"] } else { vec![*method] })
            .collect();
        for method in METHODS.into_iter().filter(|method| !served.contains(method)) {
            let (uri, peer) = (path.replace(['{', '}'], ""), admin.clone().filter(|_| *face == Face::Manage));
            let asked =
                Asked { method: method.parse().unwrap(), uri, body: vec![], proof: None, headers: PLAIN.to_vec() };
            let (parts, _) = stage.exchange(stage.router(*face, &unlimited()), *face, peer, asked).await;
            assert_eq!(parts.status, 405, "{method} {path}");
            assert!(parts.headers.contains_key("lychgate-instance"), "{method} {path}");
            // RFC 9110 15.5.6.
            let allow = parts.headers.get("allow").and_then(|value| value.to_str().ok()).unwrap_or_default();
            assert_eq!(allow.split(',').map(str::trim).collect::<BTreeSet<_>>(), served, "{method} {path}");
        }
    }
}

/// What stands for a parameter in a path may be anything: it is not there, or not what is wanted, and never our fault.
#[tokio::test]
async fn odd_parameters_are_answered_like_unknown_ones() {
    let stage = Stage::set().await;
    let long = "x".repeat(4_000);
    let odd = ["..", "%2e%2e%2f", "a%2fb", "%00", "%0a", "%c3%bc", "*", "meta%2fepoch", &long];
    for (face, method, path) in written().into_iter().filter(|(_, _, path)| path.contains('{')) {
        for odd in odd {
            let uri = path
                .split('/')
                .map(|part| if part.starts_with('{') { odd } else { part })
                .collect::<Vec<_>>()
                .join("/");
            let peer = if face == Face::Manage { stage.caller("an administrator").await } else { None };
            let body = stage.about(method, path).await.1;
            let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
            let proof = Newcomer::new().proof(method, &uri, stage.story.shell.now().secs());
            let asked = Asked {
                method: method.parse().unwrap(),
                uri: uri.clone(),
                body,
                proof: Some(proof),
                headers: PLAIN.to_vec(),
            };
            let before = stage.records().await;
            let (status, code, body) = stage.send(stage.router(face, &unlimited()), face, peer, asked).await;
            let text = String::from_utf8_lossy(&body);
            assert!(
                [(404, "not-found"), (400, "malformed")].contains(&(status, code.as_str())),
                "{method} {uri}: {status} {text}"
            );
            assert_eq!(stage.records().await, before, "{method} {uri}");
        }
    }
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_and_those_within_are_read() {
    let stage = Stage::set().await;
    for row in endpoints::all().iter().filter(|row| row.body_max > 0) {
        let body_max = match row.carries {
            Carries::Nothing => row.body_max,
            // What the attestors of this stage want, which is no more than what any gateway reads of whoever joins.
            Carries::Evidence => wire::limits::ENROLL_BODY_MAX,
        };
        for (more, too_large) in [(0, false), (1, true)] {
            let peer = stage.served_to(row).await;
            let mut asked = stage.asked(row.method.as_str(), row.path, Proof::Good).await;
            // Blanks after the JSON count, and mean nothing.
            asked.body.resize(body_max + more, b' ');
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
                let asked = stage.asked(row.method.as_str(), row.path, Proof::Good).await;
                codes.push(stage.send(router.clone(), row.face, peer, asked).await.1);
            }
            let limited = codes.iter().position(|code| code == "rate-limited");
            let want = (class == row.rate).then_some(1);
            assert_eq!(limited, want, "{} {} against {}: {codes:?}", row.method, row.path, class.as_str());
        }
    }
}

/// The rows whose answers are not JSON, with their media type, and for how long it may be kept.
const FILES: &[(&str, &str, &str)] = &[
    ("/healthz", "text/plain", "no-store"),
    ("/readyz", "text/plain", "no-store"),
    ("/v1/bundle", "application/pem-certificate-chain", "no-store"),
    ("/.well-known/ssh-known-hosts", "text/plain; charset=utf-8", "no-store"),
    ("/v1/crl/{list}", "application/x-pem-file", "public, max-age=60"),
    ("/metrics", "application/openmetrics-text; version=1.0.0; charset=utf-8", "no-store"),
];

/// The content column, written down here once more: every row answers data, in JSON but for [`FILES`], and refuses with a problem. A
/// browser may keep none of it, but for revocation lists, and may run, load or frame nothing of it.
#[tokio::test]
async fn every_row_answers_data_that_a_browser_only_shows() {
    const ALWAYS: [(&str, &str); 3] = [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ];
    let stage = Stage::set().await;
    for row in endpoints::all() {
        assert_eq!(row.content, Content::Data, "{} {}", row.method, row.path);
        let file = FILES.iter().find(|(path, ..)| *path == row.path);
        let (kind, kept) = file.map_or(("application/json", "no-store"), |(_, kind, kept)| (*kind, *kept));
        for (query, kind, kept) in [("", kind, kept), ("?nonsense=1", "application/problem+json", "no-store")] {
            let (what, peer) = (format!("{} {}{query}", row.method, row.path), stage.served_to(&row).await);
            let asked = stage.asked(row.method.as_str(), row.path, Proof::Good).await;
            let asked = Asked { uri: format!("{}{query}", asked.uri), ..asked };
            let (parts, body) = stage.exchange(stage.router(row.face, &unlimited()), row.face, peer, asked).await;
            assert_eq!(parts.status.is_success(), query.is_empty(), "{what}: {}", String::from_utf8_lossy(&body));
            for (name, want) in ALWAYS.into_iter().chain([("content-type", kind), ("cache-control", kept)]) {
                let got: Vec<_> = parts.headers.get_all(name).iter().collect();
                assert_eq!(got, [want], "{what}: {name}");
            }
        }
    }
}

/// Nobody may ask for what is not there at any rate they like.
#[tokio::test]
async fn what_is_not_there_counts_too() {
    let stage = Stage::set().await;
    for (face, class) in [(Face::Enroll, Class::Poll), (Face::Manage, Class::Machine)] {
        for (method, uri) in [("GET", "/nothing"), ("DELETE", "/v1/enrollments"), ("DELETE", "/v1/self")] {
            let router = stage.router(face, &rates(Some(class)));
            let mut statuses = Vec::new();
            for _ in 0..2 {
                let peer = if face == Face::Manage { stage.caller("an administrator").await } else { None };
                let asked = Asked {
                    method: method.parse().unwrap(),
                    uri: uri.to_owned(),
                    body: vec![],
                    proof: None,
                    headers: PLAIN.to_vec(),
                };
                statuses.push(stage.exchange(router.clone(), face, peer, asked).await.0.status.as_u16());
            }
            assert!([404, 405].contains(&statuses[0]) && statuses[1] == 429, "{method} {uri}: {statuses:?}");
        }
    }
}
