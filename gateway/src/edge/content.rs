//! What an endpoint answers with, and all that follows from it in a browser: how long the answer may be kept, what a page may
//! load, and how a refusal looks. A column of the endpoint table; nothing else decides about it.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, header},
};

use super::fronts::Front;
use crate::core::refusal::Refusal;

/// What an endpoint answers with.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Data for a program, in the dialect of the endpoint's front.
    Data,
    /// A page for a person.
    Page,
    /// What a page loads: a script, a style sheet, a picture.
    Asset,
}

/// What data is in a browser: nothing that runs, loads or is framed (W3C Content Security Policy 3).
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// A page loads from the gateway alone, runs no script of its own text, sends its forms nowhere else and is framed by nobody.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

impl Content {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Data, Self::Page, Self::Asset];

    /// The headers of every answer. Those in the second list yield to what the endpoint itself has set.
    #[must_use]
    const fn headers(self) -> ([(HeaderName, &'static str); 3], (HeaderName, &'static str)) {
        const NOSNIFF: (HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        const NO_REFERRER: (HeaderName, &str) = (header::REFERRER_POLICY, "no-referrer");
        let policy = match self {
            Self::Data | Self::Asset => DATA_POLICY,
            Self::Page => PAGE_POLICY,
        };
        // RFC 9111 5.2.2: an asset may be kept, and is asked for again whenever it is used.
        let kept = match self {
            Self::Data | Self::Page => "no-store",
            Self::Asset => "no-cache",
        };
        ([NOSNIFF, NO_REFERRER, (header::CONTENT_SECURITY_POLICY, policy)], (header::CACHE_CONTROL, kept))
    }

    /// Gives an answer the headers that its content wants.
    pub fn mark(self, headers: &mut HeaderMap) {
        let (always, unless_set) = self.headers();
        for (name, value) in always {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.entry(unless_set.0).or_insert(HeaderValue::from_static(unless_set.1));
    }

    /// A refusal as whoever asked can read it: data in the front's dialect, else a page or a line of text.
    #[must_use]
    pub fn refused(self, front: &dyn Front, refusal: &Refusal, instance: &str) -> Response<Body> {
        let mut response = front.refused(refusal, instance);
        let (kind, text) = match self {
            Self::Data => return response,
            Self::Page => ("text/html; charset=utf-8", page(&refusal.told(), instance)),
            Self::Asset => ("text/plain; charset=utf-8", format!("{}\n", refusal.told())),
        };
        *response.body_mut() = Body::from(text);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}

fn page(told: &str, instance: &str) -> String {
    let (told, instance) = (escaped(told), escaped(instance));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Refused</title>\n<h1>Refused</h1>\n\
         <p>{told}</p>\n<p>The gateway's log has this request as <code>{instance}</code>.</p>\n</html>\n"
    )
}

/// Text in HTML: what it says may come from whoever asks.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::fronts::native::Native;

    fn marked(content: Content, set: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(value) = set {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(value));
        }
        content.mark(&mut headers);
        headers
    }

    #[test]
    fn every_content_says_what_a_browser_may_do_with_it() {
        for content in Content::ALL {
            let headers = marked(content, None);
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{content:?}");
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'; "), "{content:?}: {policy}");
            assert!(policy.ends_with("frame-ancestors 'none'"), "{content:?}: {policy}");
            assert!(!policy.contains("unsafe"), "{content:?}: {policy}");
        }
        assert_eq!(marked(Content::Data, None)[header::CACHE_CONTROL], "no-store");
        assert_eq!(marked(Content::Page, None)[header::CACHE_CONTROL], "no-store");
        assert_eq!(marked(Content::Asset, None)[header::CACHE_CONTROL], "no-cache");
        assert_eq!(marked(Content::Data, Some("public, max-age=60"))[header::CACHE_CONTROL], "public, max-age=60");
    }

    #[track_caller]
    fn check(content: Content, refusal: &Refusal, kind: &str, says: &str) {
        let response = content.refused(&Native, refusal, "i");
        assert_eq!(response.status(), Native.refused(refusal, "i").status());
        assert_eq!(response.headers()[header::CONTENT_TYPE], kind);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = http_body_util::BodyExt::collect(response.into_body());
        let body = runtime.block_on(body).unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body);
        assert!(text.contains(says), "{text}");
        assert!(!text.contains("<script>") || content == Content::Data, "{text}");
    }

    #[test]
    fn a_refusal_is_readable_where_it_arrives() {
        let taken = Refusal::NameTaken { name: "<script>".to_owned() };
        check(Content::Data, &taken, wire::problem::PROBLEM_TYPE, "name-taken");
        check(Content::Page, &taken, "text/html; charset=utf-8", "the name `&lt;script&gt;` is taken");
        check(Content::Asset, &Refusal::Expired, "text/plain; charset=utf-8", "this certificate has expired\n");
        let ours = Refusal::Ours(crate::core::refusal::Fault::Read("secret path".to_owned()));
        check(Content::Page, &ours, "text/html; charset=utf-8", "the gateway could not do this now");
    }
}
