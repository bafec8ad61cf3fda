//! CAs of makers of TPMs, for the operator who decides which are trusted: what is known of a certificate, and the file of those that
//! `[attest.tpm] anchors` names.
//!
//! That a certificate is known says that somebody got it from where its maker publishes. Whether that maker is trusted, and whether
//! this program is the one that was published, is not established here.

use std::collections::BTreeSet;

use pki::ForeignCa;

mod file;
mod table;

pub use file::{AnchorFileError, AnchorImport, ConfiguredAnchor, certificates, configured, fingerprint, import};
pub use table::{KNOWN, KNOWN_AS_OF};

/// A CA that its maker publishes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct KnownAnchor {
    /// The maker, by its short name in the TCG's registry of vendors.
    pub maker: &'static str,
    /// The name of the CA.
    pub subject: &'static str,
    /// SHA-256 of the certificate, hex.
    pub sha256: &'static str,
    /// The address where the maker publishes it.
    pub published: &'static str,
}

/// What is known of a certificate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AnchorStanding {
    /// It is in the table.
    Known(&'static KnownAnchor),
    /// One that is in the table signed it, or signed a CA above it.
    Below(&'static KnownAnchor),
    /// It has the name of one that is in the table, and is another.
    Differs(&'static KnownAnchor),
    /// Nothing.
    Unknown,
}

impl AnchorStanding {
    /// One word, for people and programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Known(_) => "known",
            Self::Below(_) => "below-known",
            Self::Differs(_) => "differs",
            Self::Unknown => "unknown",
        }
    }

    /// The entry of the table that it is about.
    #[must_use]
    pub const fn known(self) -> Option<&'static KnownAnchor> {
        match self {
            Self::Known(known) | Self::Below(known) | Self::Differs(known) => Some(known),
            Self::Unknown => None,
        }
    }
}

/// What is known of each of these certificates. Paths to known ones are found among them alone.
#[must_use]
pub fn standings(cas: &[&ForeignCa]) -> Vec<AnchorStanding> {
    let known = |ca: &&ForeignCa| KNOWN.iter().find(|known| known.sha256 == fingerprint(ca));
    let mut roots: Vec<Option<&'static KnownAnchor>> = cas.iter().map(known).collect();
    let in_table: Vec<bool> = roots.iter().map(Option::is_some).collect();
    // Each round finds those that are one step further below a known one.
    loop {
        let step = |at: usize, ca: &ForeignCa| {
            let issuers = cas.iter().zip(&roots).filter_map(|(issuer, root)| Some((issuer, (*root)?)));
            issuers.filter(|_| roots[at].is_none()).find(|(issuer, _)| issuer.issued(ca)).map(|(_, root)| root)
        };
        let found: Vec<_> = cas.iter().enumerate().map(|(at, ca)| step(at, ca)).collect();
        if found.iter().all(Option::is_none) {
            break;
        }
        roots = roots.into_iter().zip(found).map(|(root, found)| root.or(found)).collect();
    }
    let standing = |((ca, root), in_table): ((&&ForeignCa, Option<&'static KnownAnchor>), bool)| match root {
        Some(known) if in_table => AnchorStanding::Known(known),
        Some(known) => AnchorStanding::Below(known),
        None => namesake(ca).map_or(AnchorStanding::Unknown, AnchorStanding::Differs),
    };
    cas.iter().zip(roots).zip(in_table).map(standing).collect()
}

/// The entry of the table with the same name. Order, letter case and signs do not count: to a person they look alike.
fn namesake(ca: &ForeignCa) -> Option<&'static KnownAnchor> {
    let name = folded(ca.subject());
    KNOWN.iter().find(|known| folded(known.subject) == name)
}

fn folded(name: &str) -> BTreeSet<String> {
    name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests;
