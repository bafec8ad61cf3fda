//! The file of anchors: PEM, with what is known of each certificate in comments above it.

use pki::{EkAnchorError, EkAnchors, ForeignCa, ForeignCaError, PemError, UnixTime, parse_pem, to_pem};
use thiserror::Error;

use super::{AnchorStanding, KnownAnchor, standings};

/// The label of certificates in PEM (RFC 7468 5.1).
const LABEL: &str = "CERTIFICATE";

/// First line of such a block.
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// A certificate of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredAnchor {
    /// The certificate.
    pub ca: ForeignCa,
    /// Where it is from, in the words of whoever imported it.
    pub source: Option<String>,
    /// When it was imported.
    pub date: Option<String>,
}

/// Why certificates are not read or imported.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum AnchorFileError {
    #[error("it is neither a certificate in DER nor text")]
    NotText,
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("certificate {at}: {fault}")]
    Certificate {
        /// Counted from 1.
        at: usize,
        #[source]
        fault: ForeignCaError,
    },
    #[error("with these certificates the gateway could not read the file: {0}")]
    Unreadable(EkAnchorError),
    #[error("with these certificates the file would be read as another list of certificates")]
    Ambiguous,
}

/// What an import comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorImport {
    /// The new text of the file.
    pub text: String,
    /// What is added.
    pub added: Vec<(ConfiguredAnchor, AnchorStanding)>,
    /// What is in the file already, or came twice.
    pub there: Vec<ForeignCa>,
    /// What may not be added: it has the name of a known CA, is another, and its fingerprint was not given.
    pub refused: Vec<(ForeignCa, &'static KnownAnchor)>,
}

/// SHA-256 of a certificate, hex.
#[must_use]
pub fn fingerprint(ca: &ForeignCa) -> String {
    hex::encode(ca.sha256())
}

/// The CAs in a file that an operator was given: one certificate in DER, or PEM.
///
/// # Errors
/// Something in it is not the certificate of a CA.
pub fn certificates(bytes: &[u8]) -> Result<Vec<ForeignCa>, AnchorFileError> {
    // a SEQUENCE; no text begins so, but for the digit 0
    if bytes.first() == Some(&0x30) && std::str::from_utf8(bytes).is_err() {
        return all(&[bytes.to_vec()]);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| AnchorFileError::NotText)?;
    all(&parse_pem(LABEL, text)?)
}

fn all(ders: &[Vec<u8>]) -> Result<Vec<ForeignCa>, AnchorFileError> {
    let read =
        |(der, at): (&Vec<u8>, usize)| ForeignCa::read(der).map_err(|fault| AnchorFileError::Certificate { at, fault });
    ders.iter().zip(1..).map(read).collect()
}

/// The certificates of the file that the configuration names. A file without any is one to which nothing was added yet.
///
/// # Errors
/// It is not PEM, or has something else than CAs.
pub fn configured(text: &str) -> Result<Vec<ConfiguredAnchor>, AnchorFileError> {
    let cas = match parse_pem(LABEL, text) {
        Err(PemError::Missing { .. }) => vec![],
        parsed => all(&parsed?)?,
    };
    let origins = origins(text);
    // in a text where blocks are found that the lines do not show, no comment belongs to a block for certain
    let origins = if origins.len() == cas.len() { origins } else { vec![(None, None); cas.len()] };
    let anchor = |(ca, (source, date))| ConfiguredAnchor { ca, source, date };
    Ok(cas.into_iter().zip(origins).map(anchor).collect())
}

/// Source and date in the comments above each block.
fn origins(text: &str) -> Vec<(Option<String>, Option<String>)> {
    let (mut origins, mut above) = (Vec::new(), (None, None));
    for line in text.lines().map(str::trim) {
        if let Some(source) = line.strip_prefix("# Source: ") {
            above.0 = Some(source.to_owned());
        } else if let Some(date) = line.strip_prefix("# Date: ") {
            above.1 = Some(date.to_owned());
        } else if line == BEGIN {
            origins.push(std::mem::take(&mut above));
        } else if line.starts_with("-----") {
            above = (None, None);
        }
    }
    origins
}

/// Adds CAs, each with its source, to the text of the file. One with the name of a known CA that is another is added only if its
/// fingerprint is in `accepted`.
///
/// # Errors
/// The file has something else than CAs, or the gateway could not read the result.
pub fn import(
    text: &str,
    offered: Vec<(ForeignCa, String)>,
    accepted: &[String],
    now: UnixTime,
) -> Result<AnchorImport, AnchorFileError> {
    let old = configured(text)?;
    let everything: Vec<&ForeignCa> =
        old.iter().map(|anchor| &anchor.ca).chain(offered.iter().map(|(ca, _)| ca)).collect();
    let standings = standings(&everything).split_off(old.len());
    let date: String = now.to_string().chars().take("2026-11-30".len()).collect();
    let mut done = AnchorImport { text: text.to_owned(), added: vec![], there: vec![], refused: vec![] };
    for ((ca, source), standing) in offered.into_iter().zip(standings) {
        let added = done.added.iter().map(|(anchor, _)| anchor);
        if old.iter().chain(added).any(|anchor| anchor.ca.sha256() == ca.sha256()) {
            done.there.push(ca);
            continue;
        }
        match standing {
            AnchorStanding::Differs(known) if !accepted.contains(&fingerprint(&ca)) => done.refused.push((ca, known)),
            AnchorStanding::Known(_)
            | AnchorStanding::Below(_)
            | AnchorStanding::Differs(_)
            | AnchorStanding::Unknown => {
                let anchor = ConfiguredAnchor { ca, source: Some(comment(&source)), date: Some(date.clone()) };
                append(&mut done.text, &anchor);
                done.added.push((anchor, standing));
            }
        }
    }
    if !done.added.is_empty() {
        EkAnchors::from_pem(&done.text).map_err(AnchorFileError::Unreadable)?;
        let now: Vec<ForeignCa> = configured(&done.text)?.into_iter().map(|anchor| anchor.ca).collect();
        let wanted = old.iter().chain(done.added.iter().map(|(anchor, _)| anchor)).map(|anchor| &anchor.ca);
        if !now.iter().eq(wanted) {
            return Err(AnchorFileError::Ambiguous);
        }
    }
    Ok(done)
}

fn append(text: &mut String, anchor: &ConfiguredAnchor) {
    if !text.is_empty() {
        text.push_str(if text.ends_with('\n') { "\n" } else { "\n\n" });
    }
    let lines = [
        ("Subject", Some(anchor.ca.subject())),
        ("SHA-256", Some(&*fingerprint(&anchor.ca))),
        ("Source", anchor.source.as_deref()),
        ("Date", anchor.date.as_deref()),
    ];
    for (name, value) in lines {
        if let Some(value) = value {
            text.push_str(&format!("# {name}: {}\n", comment(value)));
        }
    }
    text.push_str(&to_pem(LABEL, anchor.ca.der()));
}

/// A text of others on one line, which is not the begin or end of a block.
fn comment(text: &str) -> String {
    let line: String = text.chars().filter(|c| !pki::is_deceptive(*c)).collect();
    line.replace("-----", "- - - - -")
}
