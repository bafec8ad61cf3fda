//! What a request's headers say before anything else is looked at: each said once, of a declared type where something changes, and
//! nothing that a page of another site can make a browser send. A browser shows a person's certificate on whatever page is
//! open, so the certificate alone does not tell that the person wanted it.

use http::{HeaderMap, HeaderName, header};

use super::fronts::Front;
use crate::core::refusal::{Malformed, Refusal};

/// Which site the page belongs to that asked (W3C Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The proof of a key (RFC 9449).
const PROOF: HeaderName = HeaderName::from_static("dpop");

/// Headers that we, or who stands between, act on and that mean one thing: two of them could be read differently by two
/// readers. `Host`, `Content-Length` and `Transfer-Encoding` are single by the guard over framing.
pub const SINGLE: [HeaderName; 9] = [
    PROOF,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::ORIGIN,
    SEC_FETCH_SITE,
    header::EXPECT,
    header::AUTHORIZATION,
    header::REFERER,
    header::USER_AGENT,
];

/// Whether a request changes something.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It only tells.
    Nothing,
    /// It may.
    State,
}

/// Whether the headers let a request go on. Pure.
///
/// # Errors
/// [`Refusal::Malformed`] for a header said twice; of a request that changes something [`Refusal::CrossSite`] when another
/// site's page asks, and [`Refusal::WrongMedia`] unless it is declared as one of the front's media types; what the front finds.
pub fn check(headers: &HeaderMap, changes: Effect, front: &dyn Front) -> Result<(), Refusal> {
    if let Some(twice) = SINGLE.iter().find(|name| headers.get_all(*name).iter().nth(1).is_some()) {
        return Err(Refusal::Malformed(Malformed::HeaderTwice(shown(twice))));
    }
    match changes {
        Effect::State if is_cross_site(headers) => Err(Refusal::CrossSite),
        Effect::State if !is_declared(headers, front.media()) => {
            Err(Refusal::WrongMedia { wanted: front.media().first().copied().unwrap_or_default() })
        }
        Effect::Nothing | Effect::State => front.check(headers),
    }
}

/// The name as the RFC that defines it writes it.
fn shown(name: &HeaderName) -> String {
    if *name == PROOF {
        return "DPoP".to_owned();
    }
    let capital =
        |part: &str| part.get(..1).unwrap_or_default().to_ascii_uppercase() + part.get(1..).unwrap_or_default();
    name.as_str().split('-').map(capital).collect::<Vec<_>>().join("-")
}

/// Whether the request comes from a page that is not the gateway's own. Programs send neither header.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let elsewhere = headers
        .get(SEC_FETCH_SITE)
        // `none` is a person at the address bar. A neighbour below the same domain is somebody else.
        .is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    let host = headers.get(header::HOST).map_or(&b""[..], |host| host.as_bytes());
    // RFC 6454 7: the whole origin of the page, or `null` when the browser will not say.
    let foreign = headers.get(header::ORIGIN).is_some_and(|origin| {
        origin.as_bytes().strip_prefix(b"https://").is_none_or(|authority| !authority.eq_ignore_ascii_case(host))
    });
    elsewhere || foreign
}

/// Whether the body is declared as one of these, plain: types that forms cannot send, so that a browser asks first (CORS) and
/// is refused.
fn is_declared(headers: &HeaderMap, media: &[&str]) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let plain = headers.get(header::CONTENT_ENCODING).is_none_or(|coding| coding.as_bytes() == b"identity");
    media.iter().any(|wanted| essence.eq_ignore_ascii_case(wanted)) && plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::fronts::native::Native;

    const NOT_JSON: Refusal = Refusal::WrongMedia { wanted: "application/json" };

    fn headers(rows: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "gate.example:8444".parse().unwrap());
        for (name, value) in rows {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[track_caller]
    fn check_row(rows: &[(&'static str, &'static str)], want: Result<(), Refusal>) {
        assert_eq!(check(&headers(rows), Effect::State, &Native), want, "{rows:?}");
        // What only tells is told to whoever asks; a page of another site cannot read the answer.
        assert_eq!(check(&headers(rows), Effect::Nothing, &Native), Ok(()), "{rows:?}");
    }

    const IS_JSON: (&str, &str) = ("content-type", "application/json");

    #[test]
    fn only_json_changes_something() {
        check_row(&[IS_JSON], Ok(()));
        check_row(&[("content-type", "Application/JSON; charset=utf-8")], Ok(()));
        check_row(&[IS_JSON, ("content-encoding", "identity")], Ok(()));
        check_row(&[], Err(NOT_JSON));
        for kind in [
            "",
            "text/plain",
            "text/plain; application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json, text/plain",
            "application/jsonp",
            "application/problem+json",
        ] {
            check_row(&[("content-type", kind)], Err(NOT_JSON));
        }
        check_row(&[IS_JSON, ("content-encoding", "gzip")], Err(NOT_JSON));
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        for site in ["same-origin", "none"] {
            check_row(&[IS_JSON, ("sec-fetch-site", site)], Ok(()));
        }
        for site in ["cross-site", "same-site", "Same-Origin", "", "whatever comes next"] {
            check_row(&[IS_JSON, ("sec-fetch-site", site)], Err(Refusal::CrossSite));
        }
        for origin in ["https://gate.example:8444", "https://GATE.example:8444"] {
            check_row(&[IS_JSON, ("origin", origin)], Ok(()));
        }
        for origin in [
            "null",
            "",
            "https://evil.example",
            "https://gate.example",
            "https://gate.example:8443",
            "http://gate.example:8444",
            "https://gate.example:8444.evil.example",
            "https://gate.example:8444 https://evil.example",
        ] {
            check_row(&[IS_JSON, ("origin", origin)], Err(Refusal::CrossSite));
        }
        // Either is enough, and it is said before the media type.
        check_row(
            &[("sec-fetch-site", "cross-site"), ("origin", "https://gate.example:8444")],
            Err(Refusal::CrossSite),
        );
        check_row(&[("sec-fetch-site", "same-origin"), ("origin", "null")], Err(Refusal::CrossSite));
    }

    #[test]
    fn a_header_that_means_one_thing_is_said_once() {
        for name in SINGLE {
            for (first, second) in [("a", "a"), ("a", ""), ("", "a")] {
                let mut headers = headers(&[]);
                for value in [first, second] {
                    headers.append(name.clone(), value.parse().unwrap());
                }
                for changes in [Effect::Nothing, Effect::State] {
                    let refused = check(&headers, changes, &Native).unwrap_err();
                    let Refusal::Malformed(Malformed::HeaderTwice(says)) = refused else { panic!("{refused:?}") };
                    assert!(says.to_ascii_lowercase().contains(name.as_str()), "{says}");
                }
            }
        }
        assert_eq!((shown(&PROOF), shown(&SEC_FETCH_SITE)), ("DPoP".to_owned(), "Sec-Fetch-Site".to_owned()));
    }
}
