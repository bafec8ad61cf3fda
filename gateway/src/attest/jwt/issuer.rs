//! The issuers that a gateway trusts: what their sections say, and their keys.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jsonwebtoken::Algorithm;
use pki::TrustDomain;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::presets::{At, PRESETS, Preset};
use crate::core::{
    evidence::{BadSection, Document, DocumentSource, HttpsUrl, Parsed, Reach, Section},
    jwt::{self, ALGORITHMS, IssuerName, KeySet, KeyUse},
};

/// Most issuers: a token is held against each.
const ISSUERS_MAX: usize = 32;

/// Longest `max_age`. So long it is remembered that a token was used.
pub const MAX_AGE_MOST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Oldest keys that are used while newer ones cannot be fetched: longer than most outages of issuers, and shorter than a key that an
/// issuer has withdrawn should go on counting.
const KEYS_AGE_MAX: Duration = Duration::from_secs(6 * 3600);

/// `[attest.jwt.issuers.NAME]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtIssuerSettings {
    /// What is known of such issuers.
    preset: String,
    /// `iss` of the tokens; with the preset `spiffe`, the trust domain as `spiffe://DOMAIN`.
    issuer: Option<String>,
    /// Its key set: an https URL, or a file.
    keys: Option<String>,
    /// The CAs of that URL's certificate.
    ca: Option<PathBuf>,
    /// Whether that URL may lead to a private address.
    #[serde(default)]
    private_network: bool,
    /// The audience of tokens for this gateway.
    audience: Option<String>,
    /// The algorithms that are taken.
    algorithms: Option<Vec<String>>,
    /// Oldest token, since it was issued.
    max_age: Option<String>,
    /// Claims that must have one of these values.
    #[serde(default)]
    require: BTreeMap<String, Wanted>,
}

/// One value or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Wanted {
    Text(String),
    Number(i64),
    Flag(bool),
    OneOf(Vec<String>),
}

impl Wanted {
    fn values(self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text],
            Self::Number(number) => vec![number.to_string()],
            Self::Flag(flag) => vec![flag.to_string()],
            Self::OneOf(all) => all,
        }
    }
}

/// An issuer that is trusted.
pub struct JwtIssuer {
    /// The name of its section.
    pub name: String,
    /// What is known of it.
    pub preset: &'static Preset,
    /// Who it is.
    pub issuer: IssuerName,
    /// Where its keys are.
    pub source: DocumentSource,
    /// The template of the audience.
    pub audience: String,
    /// The algorithms that are taken.
    pub algorithms: Vec<Algorithm>,
    /// Oldest token, in seconds.
    pub max_age: u64,
    required: Vec<Required>,
    /// Nothing if the document is no key set.
    read: Parsed<Option<Arc<KeySet>>>,
}

/// A claim that must have one of these values.
struct Required {
    called: String,
    place: Place,
    values: Vec<String>,
}

/// Where a required claim is.
enum Place {
    /// As the preset says.
    Known(&'static At),
    /// A JSON Pointer (RFC 6901).
    Pointer(Vec<String>),
    /// A member of the token.
    Member(String),
}

impl Place {
    fn of(preset: &Preset, called: &str) -> Self {
        if let Some(claim) = preset.claim(called) {
            return Self::Known(&claim.at);
        }
        match called.strip_prefix('/') {
            Some(steps) => {
                Self::Pointer(steps.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect())
            }
            None => Self::Member(called.to_owned()),
        }
    }

    fn find<'t>(&self, token: &'t Map<String, Value>) -> Option<&'t Value> {
        match self {
            Self::Known(at) => at.find(token),
            Self::Member(name) => token.get(name),
            Self::Pointer(steps) => {
                let (first, rest) = steps.split_first()?;
                rest.iter().try_fold(token.get(first)?, |value, step| value.as_object()?.get(step))
            }
        }
    }

    fn normal(&self, text: &str) -> String {
        match self {
            Self::Known(at) => at.normal(text),
            Self::Member(_) | Self::Pointer(_) => text.to_owned(),
        }
    }
}

/// The value of a claim as a text. Some issuers write numbers and truth values as texts, and others as what they are.
pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Why the keys of an issuer cannot be used now.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NoKeys {
    /// They cannot be read or fetched.
    Gone,
    /// What is kept is older than [`KEYS_AGE_MAX`].
    Old,
    /// They are not a key set.
    Unreadable,
}

impl JwtIssuer {
    /// Checks the sections of all issuers.
    pub fn all(settings: BTreeMap<String, JwtIssuerSettings>, section: &Section) -> Result<Vec<Arc<Self>>, BadSection> {
        if settings.len() > ISSUERS_MAX {
            return Err(BadSection::new(format!("there are more than {ISSUERS_MAX} issuers")));
        }
        let mut all: Vec<Arc<Self>> = Vec::new();
        for (name, settings) in settings {
            let issuer = Self::new(&name, settings, section);
            let issuer = issuer.map_err(|what| BadSection::new(format!("`issuers.{name}`: {what}")))?;
            if let Some(other) = all.iter().find(|other| other.issuer == issuer.issuer) {
                let both = format!("`issuers.{}` and `issuers.{name}` are one issuer: put both into one", other.name);
                return Err(BadSection::new(both));
            }
            all.push(Arc::new(issuer));
        }
        Ok(all)
    }

    fn new(name: &str, settings: JwtIssuerSettings, section: &Section) -> Result<Self, String> {
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(word) {
            return Err("its name must be lower-case letters, digits and hyphens, 64 at most".to_owned());
        }
        let known = || PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join("`, `");
        let preset = Preset::named(&settings.preset)
            .ok_or_else(|| format!("there is no preset `{}`; there are `{}`", settings.preset, known()))?;
        let issuer = settings.issuer.or_else(|| preset.issuer.map(str::to_owned));
        let issuer = issuer_name(preset, issuer.ok_or("`issuer` is missing: who issues these tokens?")?)?;
        let keys = settings.keys.or_else(|| preset.keys.map(|keys| keys.replace("{issuer}", issuer.as_str())));
        let keys = keys.ok_or("`keys` is missing: the https URL or the file of the issuer's key set")?;
        let ca = settings.ca.map(|path| section.path(&path));
        let source = source(&keys, ca, settings.private_network, section)?;
        let audience = settings.audience.or_else(|| preset.audience.map(str::to_owned));
        let audience = audience.filter(|audience| !audience.is_empty());
        let audience = audience.ok_or("`audience` is missing: for whom are tokens for this gateway?")?;
        let required = required(preset, settings.require)?;
        if !preset.pinned.is_empty() && !preset.pinned.iter().any(|pin| required.iter().any(|one| one.called == *pin)) {
            let pins = preset.pinned.join("` or `");
            return Err(format!("this issuer issues tokens to everybody, so `require` must name `{pins}`"));
        }
        Ok(Self {
            name: name.to_owned(),
            preset,
            issuer,
            source,
            audience,
            algorithms: algorithms(preset, settings.algorithms)?,
            max_age: max_age(preset, settings.max_age.as_deref())?,
            required,
            read: Parsed::default(),
        })
    }

    /// The keys in a document of this issuer. They are read once for each content of the document.
    pub fn keys(&self, document: Option<&Document>) -> Result<Arc<KeySet>, NoKeys> {
        let document = document.ok_or(NoKeys::Gone)?;
        match self.source {
            DocumentSource::Url(_) if document.age > KEYS_AGE_MAX => return Err(NoKeys::Old),
            DocumentSource::Url(_) | DocumentSource::File(_) => {}
        }
        let keys = self.read.of(document, |bytes| KeySet::parse(bytes).ok().map(Arc::new));
        keys.as_ref().clone().ok_or(NoKeys::Unreadable)
    }

    /// What its keys must be for.
    pub const fn key_use(&self) -> KeyUse {
        self.preset.key_use
    }

    /// The first required claim that a token does not have: its name, and what it has instead.
    pub fn missing<'s>(&'s self, token: &Map<String, Value>) -> Option<(&'s str, Option<String>)> {
        self.required.iter().find_map(|required| {
            let found = required.place.find(token).and_then(scalar).map(|text| required.place.normal(&text));
            let fits = found.as_ref().is_some_and(|found| required.values.contains(found));
            (!fits).then_some((required.called.as_str(), found))
        })
    }
}

fn issuer_name(preset: &Preset, issuer: String) -> Result<IssuerName, String> {
    match preset.key_use {
        KeyUse::Signature if issuer.is_empty() => Err("`issuer` is empty".to_owned()),
        KeyUse::Signature => Ok(IssuerName::Iss(issuer)),
        KeyUse::JwtSvid => {
            let domain = issuer.strip_prefix("spiffe://").and_then(|domain| TrustDomain::parse(domain).ok());
            let domain = domain.ok_or("`issuer` must be a trust domain such as \"spiffe://example.org\"")?;
            Ok(IssuerName::TrustDomain(domain.uri()))
        }
    }
}

/// An URL, if it looks like one; else a file.
fn source(keys: &str, ca: Option<PathBuf>, private: bool, section: &Section) -> Result<DocumentSource, String> {
    if keys.contains("://") {
        let reach = if private { Reach::Any } else { Reach::Public };
        let url = HttpsUrl::parse(keys, ca, reach).map_err(|why| format!("`keys` is no usable URL: {why}"))?;
        return Ok(DocumentSource::Url(url));
    }
    if ca.is_some() || private {
        return Err("`ca` and `private_network` are for `keys` that are an https URL".to_owned());
    }
    Ok(DocumentSource::File(section.path(Path::new(keys))))
}

fn algorithms(preset: &Preset, names: Option<Vec<String>>) -> Result<Vec<Algorithm>, String> {
    let Some(names) = names else {
        let all = || ALGORITHMS.map(|(_, algorithm)| algorithm).to_vec();
        return Ok(if preset.algorithms.is_empty() { all() } else { preset.algorithms.to_vec() });
    };
    let bad = |what: String| format!("`algorithms` {what}; there are {}", jwt::algorithm_names());
    if names.is_empty() {
        return Err(bad("is empty".to_owned()));
    }
    names.iter().map(|name| jwt::algorithm(name).ok_or_else(|| bad(format!("has `{name}`")))).collect()
}

fn max_age(preset: &Preset, text: Option<&str>) -> Result<u64, String> {
    let Some(text) = text else { return Ok(preset.max_age) };
    let age = humantime::parse_duration(text).ok();
    let age = age.filter(|age| (Duration::from_secs(1)..=MAX_AGE_MOST).contains(age));
    age.map(|age| age.as_secs()).ok_or_else(|| "`max_age` must be a time such as \"15m\", up to \"30d\"".to_owned())
}

fn required(preset: &Preset, require: BTreeMap<String, Wanted>) -> Result<Vec<Required>, String> {
    let fixed = preset.fixed.iter().map(|(claim, value)| ((*claim).to_owned(), vec![(*value).to_owned()]));
    let given = require.into_iter().map(|(called, wanted)| (called, wanted.values()));
    let mut all = Vec::new();
    for (called, values) in fixed.chain(given) {
        if values.is_empty() || values.iter().any(String::is_empty) {
            return Err(format!("`require.{called}` has an empty value, or none"));
        }
        let place = Place::of(preset, &called);
        let values = values.iter().map(|value| place.normal(value)).collect();
        all.push(Required { called, place, values });
    }
    Ok(all)
}
