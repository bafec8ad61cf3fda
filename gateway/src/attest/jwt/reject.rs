//! Why a token is rejected, with the text for the client.

use crate::core::{
    evidence::{Reject, RejectionCode},
    jwt::BadJwt,
};

static MALFORMED: RejectionCode =
    RejectionCode::malformed("jwt-malformed", Some("send the token as the issuer gave it, and nothing else"));
static ALGORITHM: RejectionCode = RejectionCode::refused(
    "jwt-algorithm",
    Some("ask the gateway's operator about `algorithms` in the section of this issuer"),
);
static TYPE: RejectionCode = RejectionCode::refused("jwt-type", Some("send an identity token, and no access token"));
static ISSUER: RejectionCode =
    RejectionCode::refused("jwt-issuer", Some("ask the gateway's operator which issuers it knows"));
static SIGNATURE: RejectionCode = RejectionCode::refused("jwt-signature", Some(AGAIN));
static AUDIENCE: RejectionCode =
    RejectionCode::refused("jwt-audience", Some("get a token with the audience that the gateway's operator named"));
static EXPIRED: RejectionCode = RejectionCode::refused("jwt-expired", Some(AGAIN));
static NOT_YET: RejectionCode =
    RejectionCode::refused("jwt-not-yet", Some("compare the clocks of the issuer and of the gateway"));
static CLAIMS: RejectionCode = RejectionCode::refused(
    "jwt-claims",
    Some("see that the token is of the job or machine that may join; ask the gateway's operator what is required"),
);
static USED: RejectionCode = RejectionCode::refused("jwt-used", Some(AGAIN));

/// Hint for a token that another may replace.
const AGAIN: &str = "get a new token from the issuer";

impl From<BadJwt> for Reject {
    fn from(bad: BadJwt) -> Self {
        let code = match &bad {
            BadJwt::TooLong
            | BadJwt::Shape
            | BadJwt::Critical
            | BadJwt::Unreadable(_)
            | BadJwt::Absent(_)
            | BadJwt::Kind { .. } => &MALFORMED,
            BadJwt::UnknownAlgorithm(_) | BadJwt::OtherAlgorithm(_) => &ALGORITHM,
            BadJwt::Type(_) => &TYPE,
            BadJwt::UnknownKey | BadJwt::Signature => &SIGNATURE,
            BadJwt::Issuer { .. } => &ISSUER,
            BadJwt::Audience { .. } | BadJwt::Party(_) => &AUDIENCE,
            BadJwt::Expired(_) | BadJwt::Old { .. } => &EXPIRED,
            BadJwt::NotYet(_) | BadJwt::Future(_) => &NOT_YET,
        };
        Self::new(code, format!("the JWT does not hold: {bad}"))
    }
}

/// None of the configured issuers.
pub fn unknown_issuer(found: Option<&str>) -> Reject {
    let by = found.map_or_else(|| "names no issuer".to_owned(), |found| format!("is by the issuer {found:?}"));
    Reject::new(&ISSUER, format!("the JWT {by}, which this gateway does not know"))
}

/// A required claim that is not there, or has another value.
pub fn unmet(claim: &str, found: Option<&str>) -> Reject {
    let found = found.map_or_else(
        || "is missing".to_owned(),
        |found| format!("is {:?}, which is not admitted", found.chars().take(SHOWN_MAX).collect::<String>()),
    );
    Reject::new(&CLAIMS, format!("the JWT does not hold: the claim `{claim}` {found}"))
}

/// Longest value of a claim that is told, in characters.
const SHOWN_MAX: usize = 128;

/// A claim that is too long to be kept.
pub fn long(claim: &str, max: usize) -> Reject {
    Reject::new(&CLAIMS, format!("the JWT does not hold: the claim `{claim}` is longer than {max} bytes"))
}

/// Used before, for another key.
pub fn used() -> Reject {
    Reject::new(&USED, "the JWT was used already for another key")
}

/// One example of each.
pub fn rejections() -> Vec<Reject> {
    let text = |text: &str| text.to_owned();
    let bad = [
        BadJwt::TooLong,
        BadJwt::Shape,
        BadJwt::Critical,
        BadJwt::Unreadable(text("EOF while parsing an object at line 1 column 1")),
        BadJwt::Absent("exp"),
        BadJwt::Kind { claim: "sub", want: "a text" },
        BadJwt::UnknownAlgorithm(text("none")),
        BadJwt::OtherAlgorithm(text("ES256")),
        BadJwt::Type(text("at+jwt")),
        BadJwt::UnknownKey,
        BadJwt::Signature,
        BadJwt::Issuer { found: text("https://a.example"), want: text("https://b.example") },
        BadJwt::Audience { found: text(r#"["a","b"]"#), want: text("lychgate://td.example") },
        BadJwt::Party(text("other")),
        BadJwt::Expired(70),
        BadJwt::Old { age: 1000, max: 900 },
        BadJwt::NotYet(70),
        BadJwt::Future(70),
    ];
    let ours = [
        unknown_issuer(Some("https://a.example")),
        unknown_issuer(None),
        unmet("repository_id", Some("7")),
        unmet("environment", None),
        long("ref", 512),
        used(),
    ];
    bad.into_iter().map(Reject::from).chain(ours).collect()
}
