//! Turns refusals into bytes, once: `application/problem+json` (RFC 9457) with a stable code, a hint for whoever reads
//! it, and the correlation id under which the log has the rest.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use wire::problem::{PROBLEM_PREFIX, PROBLEM_TYPE, Problem};

use crate::{
    core::{
        approve::UNCHECKED,
        evidence::{Blame, Reject},
        proof::BadProof,
        refusal::{Fault, NameRule, REMOVED, Refusal, Unreached},
    },
    registry::live::CloseReason,
};

/// Every code but those by which evidence is rejected, which the attestors declare. docs/errors.md says what each means; a test compares.
pub const CODES: &[&str] = &[
    "malformed",
    "bad-csr",
    "bad-ssh-key",
    "bad-proof",
    "denied",
    "denied-by-person",
    "waiting-expired",
    "name-taken",
    "name-illegal",
    "queue-full",
    "rate-limited",
    "locked",
    "forked",
    "retired",
    "removed",
    "replaced",
    "certificate-limit",
    "expired",
    "not-found",
    "wrong-code",
    "conflict",
    "wrong-caller",
    "not-json",
    "cross-site",
    "too-large",
    "too-slow",
    "http-version",
    "head-too-large",
    "method-not-allowed",
    "offline",
    "other-gateway",
    "not-exposed",
    "refused-by-machine",
    "target-closed",
    "target-slow",
    "machine-silent",
    "stream-limit",
    "internal",
    "signer-unavailable",
    "evidence-unverifiable",
    "unavailable",
];

/// What to do about a rate.
const AGAIN: &str = "try again in a few seconds; `Retry-After` says in how many";

/// What to do about two holders of one key.
const FORKED: &str = "the key was copied or a disk restored: find the other copy; then an administrator must unlock or \
remove the machine";

/// What to do about a proof that does not hold.
const PROVE_AGAIN: &str = "make a new proof on this connection, with the gateway's time";

/// What to do about a waiting code that differs.
const READ_AGAIN: &str = "read the code on the machine's own screen again; if it still differs, do not approve: another \
machine is asking";

/// What a body must be.
const AS_JSON: &str = "send `Content-Type: application/json`, also without a body; no `Content-Encoding`";

/// What version of HTTP there is, and how proxies are told.
const AS_HTTP_1_1: &str = "use HTTP/1.1; in nginx `proxy_http_version 1.1;`, in haproxy's checks `ver HTTP/1.1`";

/// Status, code and hint of a refusal.
type Parts = (StatusCode, &'static str, Option<&'static str>);

fn parts(refusal: &Refusal) -> Parts {
    match refusal {
        Refusal::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed", None),
        Refusal::BadCsr(_) => (StatusCode::BAD_REQUEST, "bad-csr", Some(CSR_KEYS)),
        Refusal::BadSshKey(_) => (StatusCode::BAD_REQUEST, "bad-ssh-key", Some(SSH_KEYS)),
        Refusal::BadProof(_) => (StatusCode::UNAUTHORIZED, "bad-proof", Some(PROVE_AGAIN)),
        Refusal::Evidence(reject) => evidence(reject),
        Refusal::Unverifiable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "evidence-unverifiable", Some(UNVERIFIABLE)),
        Refusal::Denied { action, .. } => (StatusCode::FORBIDDEN, "denied", Some(denied(action))),
        Refusal::DeniedByPerson { .. } => (StatusCode::FORBIDDEN, "denied-by-person", Some(ASK_APPROVER)),
        Refusal::Lapsed | Refusal::Withdrawn => {
            (StatusCode::GONE, "waiting-expired", Some("join again to make a new request"))
        }
        Refusal::NameTaken { .. } => (StatusCode::CONFLICT, "name-taken", Some(TAKEN)),
        Refusal::NameIllegal { whose, .. } => (StatusCode::BAD_REQUEST, "name-illegal", Some(other_name(*whose))),
        Refusal::QueueFull(_) => (StatusCode::TOO_MANY_REQUESTS, "queue-full", Some(FULL)),
        Refusal::Service(unreached) => service(unreached),
        Refusal::TooFast { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate-limited", Some(AGAIN)),
        Refusal::Locked { .. } => (StatusCode::FORBIDDEN, "locked", Some(LOCKED)),
        Refusal::Forked { .. } => (StatusCode::FORBIDDEN, "forked", Some(FORKED)),
        Refusal::Retired { why } if *why == REMOVED => (StatusCode::FORBIDDEN, "removed", Some(REMOVED_HINT)),
        Refusal::Retired { .. } => (StatusCode::FORBIDDEN, "retired", Some(RETIRED)),
        Refusal::Replaced => (StatusCode::FORBIDDEN, "replaced", Some("use the new certificate: read the files again")),
        Refusal::CertificateLimit { .. } => (StatusCode::TOO_MANY_REQUESTS, "certificate-limit", Some(LIMIT)),
        Refusal::Expired => (StatusCode::FORBIDDEN, "expired", Some("join again; the old certificate is evidence")),
        Refusal::NotFound(_) => (StatusCode::NOT_FOUND, "not-found", None),
        Refusal::WrongCode => (StatusCode::UNPROCESSABLE_ENTITY, "wrong-code", Some(READ_AGAIN)),
        Refusal::Conflict(_) => (StatusCode::CONFLICT, "conflict", None),
        Refusal::WrongCaller(_) => (StatusCode::FORBIDDEN, "wrong-caller", None),
        Refusal::WrongMedia { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", Some(AS_JSON)),
        Refusal::CrossSite => (StatusCode::FORBIDDEN, "cross-site", Some(NO_BROWSER)),
        Refusal::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", None),
        Refusal::TooSlow(_) | Refusal::Unfinished => (StatusCode::REQUEST_TIMEOUT, "too-slow", None),
        Refusal::HttpVersion => (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "http-version", Some(AS_HTTP_1_1)),
        Refusal::HeadTooLarge { .. } => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", None),
        Refusal::Method => (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", None),
        Refusal::SignerUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "signer-unavailable", Some(NOTHING_CHANGED)),
        Refusal::Ours(fault) => ours(fault),
    }
}

/// What to do about a CSR by a key that is not certified.
const CSR_KEYS: &str = "send a PKCS#10 request by a P-256, P-384, Ed25519 or RSA (2048 to 4096 bit) key";

/// What to do about an SSH key that is not certified.
const SSH_KEYS: &str = "make one with `ssh-keygen -t ed25519`; RSA keys need 2048 to 4096 bits";

/// What to do about evidence that cannot be checked.
const UNVERIFIABLE: &str = "try again later, or join by other evidence; if it lasts, tell the gateway's operator";

/// What to do about a denial by a person.
const ASK_APPROVER: &str = "ask the approver; joining again makes a new request with a new key";

/// What to do about a name that somebody has.
const TAKEN: &str = "choose another name, or have the old machine removed first";

/// What to do about a queue without room.
const FULL: &str = "try again later, or use a join token";

/// What to do about a lock.
const LOCKED: &str = "ask whoever set the lock; it takes effect until it is lifted";

/// What to do with a certificate whose subject was removed.
const REMOVED_HINT: &str = "to join again: `lychgate leave --local`, then join";

/// What to do with a certificate that is not in use any more.
const RETIRED: &str = "run `lychgate leave --local`, then join again";

/// What to do about too many certificates.
const LIMIT: &str = "find out which program asks so often; `Retry-After` says when the next one is possible";

/// What to do about a browser's request.
const NO_BROWSER: &str = "use `lychgate`, or a program that is not a browser";

/// What to do when a signing key does not answer.
const NOTHING_CHANGED: &str = "try again; the same request is safe to repeat, and nothing was changed";

/// What to do about a denial by the policy, by what was asked.
fn denied(action: &str) -> &'static str {
    match action {
        "enroll or request" => {
            "ask the gateway's operator for a join token, and give them the id of this request, which is in the gateway's log"
        }
        UNCHECKED => "have the machine's owner read the code to you, and pass it with --code: that is permitted",
        _ => "ask the gateway's operator; the gateway's log has this request under its id",
    }
}

/// Of a failure of ours.
const fn ours(fault: &Fault) -> Parts {
    match fault {
        Fault::Commit(_) | Fault::Read(_) | Fault::Unavailable { .. } | Fault::Document { .. } | Fault::Contention => {
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable", Some("try again; the same request is safe to repeat"))
        }
        Fault::CaEnded { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", Some(CA_ENDED)),
        Fault::Issue(_) | Fault::Record(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "internal", Some("the gateway's log has the cause under this id"))
        }
    }
}

/// When to come again after a CA has ended: somebody must renew it and start the gateway, so seconds would only fill the log.
const CA_ENDED_AGAIN: Duration = Duration::from_mins(15);

/// What to do when nothing can be signed any more.
const CA_ENDED: &str = "the gateway's CA has expired: tell its operator; the same request works when the CA is renewed";

/// How to go on when a name cannot be given.
const fn other_name(whose: NameRule) -> &'static str {
    match whose {
        NameRule::Form => {
            "choose another name: lower-case letters a to z, digits and inner hyphens, 63 characters at most"
        }
        NameRule::Token => "ask for a name that the token allows, or for none, or get a token for this name",
        NameRule::Kept => "rejoin under the name in the old certificate; for another name, leave and join again",
    }
}

/// Its attestor declares code and hint.
const fn evidence(reject: &Reject) -> Parts {
    let status = match reject.code.blame {
        Blame::Malformed => StatusCode::BAD_REQUEST,
        Blame::Refused => StatusCode::FORBIDDEN,
    };
    (status, reject.code.name, reject.code.hint)
}

fn service(unreached: &Unreached) -> Parts {
    match unreached {
        Unreached::Offline { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "offline",
            Some("see that the machine is up and `lychgate run` runs on it, then try again"),
        ),
        Unreached::Elsewhere { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "other-gateway",
            Some("connect by that gateway, or try again: the machine may come back here"),
        ),
        Unreached::StreamElsewhere { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "other-gateway",
            Some("`[public] dial_back` of that gateway must lead to it"),
        ),
        Unreached::NotExposed { .. } => (
            StatusCode::NOT_FOUND,
            "not-exposed",
            Some("its owner exposes services with `lychgate run --expose NAME=TARGET`"),
        ),
        Unreached::ByMachine { .. } => {
            (StatusCode::FORBIDDEN, "refused-by-machine", Some("ask the machine's owner, who decides who may connect"))
        }
        Unreached::TargetClosed { .. } => {
            (StatusCode::BAD_GATEWAY, "target-closed", Some("see that the service runs on the machine"))
        }
        Unreached::TargetSlow { .. } => {
            (StatusCode::GATEWAY_TIMEOUT, "target-slow", Some("check the service on the machine"))
        }
        Unreached::Silent { .. } => (
            StatusCode::GATEWAY_TIMEOUT,
            "machine-silent",
            Some("its connection may be broken; if the machine works, it reconnects by itself"),
        ),
        Unreached::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "stream-limit", Some("end some of them, or wait")),
    }
}

/// The problem document of a refusal.
#[must_use]
pub fn problem(refusal: &Refusal, instance: &str) -> Problem {
    let (status, code, hint) = parts(refusal);
    let rules = if let Refusal::Denied { rules, .. } = refusal { rules.clone() } else { Vec::new() };
    Problem {
        kind: format!("{PROBLEM_PREFIX}{code}"),
        title: code.replace('-', " "),
        status: status.as_u16(),
        detail: refusal.told(),
        hint: hint.map(str::to_owned),
        instance: instance.to_owned(),
        retry_after: retry_after(refusal),
        rules,
    }
}

/// In how many seconds the same request may succeed (RFC 9110 10.2.3).
fn retry_after(refusal: &Refusal) -> Option<u64> {
    match refusal {
        Refusal::TooFast { retry_after }
        | Refusal::CertificateLimit { retry_after }
        | Refusal::Unverifiable { retry_after, .. }
        | Refusal::Ours(Fault::Unavailable { retry_after, .. } | Fault::Document { retry_after, .. }) => {
            Some(retry_after.as_secs().max(1))
        }
        Refusal::QueueFull(_) => Some(600),
        Refusal::Service(Unreached::Offline { .. } | Unreached::Elsewhere { .. }) => Some(30),
        Refusal::Ours(Fault::CaEnded { .. }) => Some(CA_ENDED_AGAIN.as_secs()),
        Refusal::Service(Unreached::Silent { .. } | Unreached::TooMany(_))
        | Refusal::Ours(_)
        | Refusal::SignerUnavailable => Some(5),
        Refusal::Service(
            Unreached::StreamElsewhere { .. }
            | Unreached::NotExposed { .. }
            | Unreached::ByMachine { .. }
            | Unreached::TargetClosed { .. }
            | Unreached::TargetSlow { .. },
        )
        | Refusal::Malformed(_)
        | Refusal::BadCsr(_)
        | Refusal::BadSshKey(_)
        | Refusal::BadProof(_)
        | Refusal::Evidence(_)
        | Refusal::Denied { .. }
        | Refusal::DeniedByPerson { .. }
        | Refusal::Lapsed
        | Refusal::Withdrawn
        | Refusal::NameTaken { .. }
        | Refusal::NameIllegal { .. }
        | Refusal::Locked { .. }
        | Refusal::Forked { .. }
        | Refusal::Retired { .. }
        | Refusal::Replaced
        | Refusal::Expired
        | Refusal::NotFound(_)
        | Refusal::WrongCode
        | Refusal::Conflict(_)
        | Refusal::WrongCaller(_)
        | Refusal::WrongMedia { .. }
        | Refusal::CrossSite
        | Refusal::TooLarge { .. }
        | Refusal::TooSlow(_)
        | Refusal::Unfinished
        | Refusal::HttpVersion
        | Refusal::HeadTooLarge { .. }
        | Refusal::Method => None,
    }
}

/// What would be taken as a proof (RFC 9110 15.5.2, RFC 9449 7.1).
const fn challenge(bad: &BadProof) -> &'static str {
    match bad {
        // RFC 6750 3.1: who brought nothing is told no error.
        BadProof::Missing => r#"DPoP algs="ES256 ES384 EdDSA RS256""#,
        BadProof::Shape
        | BadProof::TooLong
        | BadProof::Address
        | BadProof::Critical
        | BadProof::Claims(_)
        | BadProof::Algorithm
        | BadProof::Signature
        | BadProof::OtherRequest
        | BadProof::OtherGateway
        | BadProof::OtherConnection
        | BadProof::Unbound
        | BadProof::Challenge
        | BadProof::Ssh(_)
        | BadProof::Stale(_) => r#"DPoP algs="ES256 ES384 EdDSA RS256", error="invalid_dpop_proof""#,
    }
}

/// The response to a request on a connection that was cut, by the codes that the handlers use for the same reasons.
#[must_use]
pub fn ended(reason: CloseReason, instance: &str) -> Response<Body> {
    let (status, code, detail) = match reason {
        CloseReason::Locked => (StatusCode::FORBIDDEN, "locked", "a lock was set"),
        CloseReason::Expired => (StatusCode::FORBIDDEN, "expired", "the certificate of this connection has expired"),
        CloseReason::Policy => (StatusCode::FORBIDDEN, "denied", "the policy no longer allows this connection"),
        CloseReason::Killed | CloseReason::Drained | CloseReason::Stopped => {
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "this connection was ended; connect again")
        }
    };
    let problem = Problem {
        kind: format!("{PROBLEM_PREFIX}{code}"),
        title: code.to_owned(),
        status: status.as_u16(),
        detail: detail.to_owned(),
        hint: None,
        instance: instance.to_owned(),
        retry_after: None,
        rules: Vec::new(),
    };
    document(&problem)
}

/// The response for a refusal.
#[must_use]
pub fn response(refusal: &Refusal, instance: &str) -> Response<Body> {
    let problem = problem(refusal, instance);
    let mut response = document(&problem);
    let headers = response.headers_mut();
    if let Refusal::BadProof(bad) = refusal {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge(bad)));
    }
    if let Some(seconds) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn document(problem: &Problem) -> Response<Body> {
    let mut response = Response::new(Body::from(serde_json::to_vec(problem).unwrap_or_default()));
    *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_ended(reason: CloseReason, status: u16, code: &str) {
        let response = ended(reason, "i");
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_TYPE);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = http_body_util::BodyExt::collect(response.into_body());
        let body = runtime.block_on(body).unwrap().to_bytes();
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!((problem.code(), problem.status, problem.instance.as_str()), (code, status, "i"));
    }

    #[test]
    fn a_request_that_came_too_late_is_told_why() {
        check_ended(CloseReason::Locked, 403, "locked");
        check_ended(CloseReason::Expired, 403, "expired");
        check_ended(CloseReason::Policy, 403, "denied");
        check_ended(CloseReason::Killed, 503, "unavailable");
        check_ended(CloseReason::Drained, 503, "unavailable");
    }

    /// RFC 9110 15.5.2: a 401 says what would do.
    #[test]
    fn who_proves_nothing_is_told_how() {
        for (bad, error) in [(BadProof::Missing, false), (BadProof::Shape, true), (BadProof::Signature, true)] {
            let response = response(&bad.into(), "i");
            let challenge = response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
            assert_eq!(response.status(), 401);
            assert!(challenge.starts_with("DPoP algs=\"ES256 "), "{challenge}");
            assert_eq!(challenge.ends_with("error=\"invalid_dpop_proof\""), error, "{challenge}");
        }
    }

    #[test]
    fn faults_of_ours_say_nothing_of_their_cause() {
        let refusal = Refusal::Ours(Fault::Read("secret path".into()));
        let problem = problem(&refusal, "i");
        assert!(!serde_json::to_string(&problem).unwrap_or_default().contains("secret"));
        assert_eq!(problem.code(), "unavailable");
    }

    /// A hint goes with its cause, and not with a code that has several.
    #[test]
    fn hints_go_by_the_cause() {
        let name = |whose| Refusal::NameIllegal { name: "n".into(), why: "w".into(), whose };
        let denied = |action| Refusal::Denied { rules: vec![], action };
        for (refusal, code, hint) in [
            (
                name(NameRule::Form),
                "name-illegal",
                "choose another name: lower-case letters a to z, digits and inner hyphens, 63 characters at most",
            ),
            (
                name(NameRule::Token),
                "name-illegal",
                "ask for a name that the token allows, or for none, or get a token for this name",
            ),
            (
                name(NameRule::Kept),
                "name-illegal",
                "rejoin under the name in the old certificate; for another name, leave and join again",
            ),
            (
                denied("enroll or request"),
                "denied",
                "ask the gateway's operator for a join token, and give them the id of this request, which is in the gateway's log",
            ),
            (
                denied(UNCHECKED),
                "denied",
                "have the machine's owner read the code to you, and pass it with --code: that is permitted",
            ),
            (
                denied("connect"),
                "denied",
                "ask the gateway's operator; the gateway's log has this request under its id",
            ),
            (
                Refusal::Retired { why: crate::core::refusal::REMOVED },
                "removed",
                "to join again: `lychgate leave --local`, then join",
            ),
            (
                Refusal::Retired { why: "it is not known here" },
                "retired",
                "run `lychgate leave --local`, then join again",
            ),
            (Refusal::Ours(Fault::Contention), "unavailable", "try again; the same request is safe to repeat"),
            (
                Refusal::SignerUnavailable,
                "signer-unavailable",
                "try again; the same request is safe to repeat, and nothing was changed",
            ),
            (Refusal::Ours(Fault::Issue(String::new())), "internal", "the gateway's log has the cause under this id"),
        ] {
            let problem = problem(&refusal, "i");
            assert_eq!((problem.code(), problem.hint.as_deref()), (code, Some(hint)), "{refusal:?}");
        }
    }

    #[test]
    fn every_code_is_listed() {
        for refusal in [Refusal::Lapsed, Refusal::Expired, Refusal::WrongCode, Refusal::TooSlow(1)] {
            assert!(CODES.contains(&parts(&refusal).1));
        }
    }
}
