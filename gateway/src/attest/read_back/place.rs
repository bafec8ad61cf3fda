//! A place where an owner writes: how it is read, and how the text is found in what it says.

use std::path::{Path, PathBuf};

use pki::Name;
use serde::Deserialize;

use super::reject::malformed;
use crate::core::{
    evidence::{BadSection, DocumentSource, HttpsUrl, Reach, Reject, Section},
    name,
};

/// Where the machine's name goes.
const NAME: &str = "{name}";

/// Longest description of a place, in characters: one line.
const WHERE_MAX: usize = 200;

/// Label of the TXT record, below the zone (RFC 8552).
const LABEL: &str = "_lychgate";

/// The type of TXT records (RFC 1035 3.2.2).
const TXT: u16 = 16;

/// `[attest.read-back.places.NAME]`: one of `dns`, `url` and `file`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceSettings {
    /// A zone, in which the record of a machine is `_lychgate.NAME`.
    dns: Option<String>,
    /// With `dns`: the https URL of a resolver that answers in JSON.
    resolver: Option<String>,
    /// An https URL, in whose path or query `{name}` is the machine's name.
    url: Option<String>,
    /// A file, in whose path `{name}` is the machine's name.
    file: Option<PathBuf>,
    /// What owners are told of the place. `dns` says it by itself.
    #[serde(rename = "where")]
    told: Option<String>,
    /// The CAs of the URL's certificate.
    ca: Option<PathBuf>,
    /// Whether the URL may lead to a private address.
    #[serde(default)]
    private_network: bool,
}

/// A place where owners write.
pub(super) struct ReadBackPlace {
    /// The name of its section.
    pub(super) name: String,
    told: String,
    read: PlaceSource,
}

enum PlaceSource {
    File(String),
    Url(UrlTemplate),
    Dns(UrlTemplate),
}

/// An URL with [`NAME`] in path or query.
struct UrlTemplate {
    text: String,
    ca: Option<PathBuf>,
    reach: Reach,
}

impl UrlTemplate {
    fn of(&self, name: &str) -> Result<HttpsUrl, &'static str> {
        HttpsUrl::parse(&self.text.replace(NAME, name), self.ca.clone(), self.reach)
    }

    /// Checks that it is an URL whatever the name, of a host that is always the same.
    fn checked(self) -> Result<Self, &'static str> {
        // the longest name there is
        let (one, other) = (self.of("a")?, self.of(&"b".repeat(63))?);
        if (&one.host, one.port) != (&other.host, other.port) {
            return Err("`{name}` stands in its host");
        }
        Ok(self)
    }
}

impl ReadBackPlace {
    /// Checks the section of a place.
    pub(super) fn build(name: String, settings: PlaceSettings, section: &Section) -> Result<Self, BadSection> {
        let bad = |what: &str| BadSection::new(format!("`places.{name}`: {what}"));
        if name::known(&name).is_err() {
            return Err(bad("its name must be lower-case letters, digits and hyphens"));
        }
        let PlaceSettings { dns, resolver, url, file, told, ca, private_network } = settings;
        if file.is_some() && (ca.is_some() || private_network) {
            return Err(bad("`ca` and `private_network` are for `url` and `dns`"));
        }
        if dns.is_none() && resolver.is_some() {
            return Err(bad("`resolver` is for `dns`"));
        }
        let reach = if private_network { Reach::Any } else { Reach::Public };
        let ca = ca.map(|path| section.path(&path));
        let template = |text: String| UrlTemplate { text, ca, reach }.checked();
        let (read, known) = match (dns, url, file) {
            (Some(zone), None, None) => {
                let resolver = resolver.ok_or_else(|| bad("`resolver` is missing: who is asked for the record?"))?;
                if !zone.split('.').all(|label| name::known(label).is_ok()) {
                    return Err(bad("`dns` must be a lower-case DNS domain such as \"example.com\""));
                }
                let sign = if resolver.contains('?') { '&' } else { '?' };
                let asked = format!("{resolver}{sign}name={LABEL}.{NAME}.{zone}&type=TXT");
                let read = template(asked).map_err(|why| bad(&format!("`resolver` is no usable URL: {why}")))?;
                (PlaceSource::Dns(read), Some(format!("the TXT record of {LABEL}.{NAME}.{zone}")))
            }
            (None, Some(url), None) => {
                let read = template(url).map_err(|why| bad(&format!("`url` is no usable URL: {why}")))?;
                (PlaceSource::Url(read), None)
            }
            (None, None, Some(file)) => {
                let path = section.path(&file);
                let path = path.to_str().ok_or_else(|| bad("`file` is no text"))?;
                (PlaceSource::File(path.to_owned()), None)
            }
            (None, None, None) | (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                return Err(bad("it must have one of `dns`, `url` and `file`"));
            }
        };
        let told = told.or(known).ok_or_else(|| bad("`where` is missing: what are owners told of the place?"))?;
        if told.is_empty() || told.chars().count() > WHERE_MAX || told.chars().any(char::is_control) {
            return Err(bad(&format!("`where` must be a line of at most {WHERE_MAX} characters")));
        }
        Ok(Self { name, told, read })
    }

    /// Where a machine's text is read.
    pub(super) fn source(&self, name: &Name) -> Result<DocumentSource, Reject> {
        let name = name.as_str();
        match &self.read {
            PlaceSource::File(path) => Ok(DocumentSource::File(Path::new(&path.replace(NAME, name)).to_owned())),
            PlaceSource::Url(url) | PlaceSource::Dns(url) => {
                url.of(name).map(DocumentSource::Url).map_err(|_| malformed("its name is too long to be looked up"))
            }
        }
    }

    /// What the owner of a machine is told of the place.
    pub(super) fn told(&self, name: &str) -> String {
        self.told.replace(NAME, name)
    }

    /// Whether a text is in what was read.
    pub(super) fn has(&self, bytes: &[u8], text: &str) -> bool {
        match &self.read {
            PlaceSource::File(_) | PlaceSource::Url(_) => stands_alone(&String::from_utf8_lossy(bytes), text),
            PlaceSource::Dns(_) => is_a_record(bytes, text),
        }
    }
}

/// Whether a text is there, and is no part of a longer word.
fn stands_alone(all: &str, text: &str) -> bool {
    let of_a_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let mut parts = all.split(text).peekable();
    while let Some(before) = parts.next() {
        let Some(after) = parts.peek() else { return false };
        if !before.ends_with(of_a_word) && !after.starts_with(of_a_word) {
            return true;
        }
    }
    false
}

/// The answer of a resolver in JSON, as that of Google gives it.
#[derive(Deserialize)]
struct Resolved {
    /// RFC 1035 4.1.1: 0 is no error.
    #[serde(rename = "Status")]
    status: u16,
    #[serde(rename = "Answer", default)]
    answer: Vec<ResolvedRecord>,
}

#[derive(Deserialize)]
struct ResolvedRecord {
    #[serde(rename = "type")]
    kind: u16,
    /// With quotes around it, as in a zone file, or without.
    data: String,
}

/// Whether one of the TXT records in an answer is this text.
fn is_a_record(bytes: &[u8], text: &str) -> bool {
    let Ok(Resolved { status: 0, answer }) = serde_json::from_slice::<Resolved>(bytes) else { return false };
    answer.iter().any(|record| record.kind == TXT && record.data.trim_matches('"') == text)
}
