//! Reads a certificate and checks the rules of RFC 5280 that concern a single certificate.

use rustls_pki_types::CertificateDer;
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, GeneralName, KeyUsage, ParsedExtension, X509Extension,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use crate::chain::{Eku, Unstated};
use crate::key::{KeyError, SubjectKey};
use crate::name::{Role, TrustDomain, check_dns};
use crate::profile::{AssuranceLevel, AssuranceOf};
use crate::serial::Serial;
use crate::time::UnixTime;

/// Longest certificate read, in bytes. Ours have 0.7 to 1.3 KiB, one of the public web with fifty names under 4 KiB.
pub const CERT_MAX: usize = 8 * 1024;

/// What is wrong with one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum CertFault {
    #[error("it has {len} bytes and at most {CERT_MAX} are read")]
    TooLong { len: usize },
    #[error("it is not an X.509 certificate in DER")]
    Malformed,
    #[error("{0} bytes follow it")]
    TrailingBytes(usize),
    /// RFC 5280 4.1.2.1.
    #[error("it is not of version 3")]
    Version,
    /// RFC 5280 4.1.2.2.
    #[error("its serial number is not a positive number of at most 20 octets")]
    Serial,
    /// RFC 5280 4.1.1.2.
    #[error("it names two different signature algorithms")]
    SignatureAlgorithm,
    /// RFC 5280 4.1.2.4.
    #[error("its issuer name is empty")]
    NoIssuer,
    /// RFC 5280 4.1.2.6.
    #[error("it is a CA without a name")]
    NoSubject,
    /// RFC 5280 4.1.2.5.
    #[error("it is not valid before {from}; check the clocks")]
    NotYetValid { from: UnixTime },
    /// RFC 5280 4.1.2.5.
    #[error("it expired at {at}")]
    Expired { at: UnixTime },
    #[error("its key is refused: {0}")]
    Key(#[from] KeyError),
    /// RFC 5280 4.2: no extension twice.
    #[error("extension {oid} is there twice")]
    DuplicateExtension { oid: String },
    #[error("extension {oid} cannot be read")]
    BadExtension { oid: String },
    /// RFC 5280 4.2: an unknown critical extension must be rejected.
    #[error("extension {oid} is critical and not understood")]
    UnknownCritical { oid: String },
    /// RFC 5280 4.2.1 says for each extension whether it is critical.
    #[error("extension {oid} must {}be critical", if *.must { "" } else { "not " })]
    Criticality { oid: &'static str, must: bool },
    /// RFC 5280 4.2.1.1.
    #[error("its authority key identifier is missing or incomplete")]
    AuthorityKeyIdentifier,
    /// RFC 5280 4.2.1.2.
    #[error("it is a CA without a subject key identifier")]
    SubjectKeyIdentifier,
    /// RFC 5280 4.2.1.9.
    #[error("it is not a CA")]
    NotCa,
    /// RFC 5280 4.2.1.9.
    #[error("it is a CA and cannot speak for a peer")]
    CaAsLeaf,
    /// RFC 5280 4.2.1.3.
    #[error("its key usage does not fit what it is used for")]
    KeyUsage,
    /// RFC 5280 4.2.1.12.
    #[error("its extended key usage is not {wanted}")]
    ExtendedKeyUsage { wanted: Eku },
    /// The path builder does not enforce an anchor's extended key usage on the certificates below it.
    #[error("it is a root with an extended key usage")]
    RootExtendedKeyUsage,
    /// RFC 5280 4.2.1.10.
    #[error("it is a leaf with name constraints")]
    NameConstraints,
    /// RFC 5280 4.2.1.6.
    #[error("it has no subject and its alternative names are missing or not critical")]
    NoName,
}

/// A certificate that was parsed and is not trusted yet.
#[derive(Debug)]
pub(crate) struct Certificate<'a> {
    der: &'a [u8],
    parsed: X509Certificate<'a>,
    key: SubjectKey,
}

/// Extensions that this module enforces, and which may therefore be critical.
const ENFORCED: [&str; 4] = ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30"];

impl<'a> Certificate<'a> {
    /// Reads a certificate and checks what holds for all: size, no trailing bytes, version, serial, names, a supported key, no
    /// duplicate and no unreadable extension.
    pub(crate) fn read(der: &'a [u8]) -> Result<Self, CertFault> {
        if der.len() > CERT_MAX {
            return Err(CertFault::TooLong { len: der.len() });
        }
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| CertFault::Malformed)?;
        if !rest.is_empty() {
            return Err(CertFault::TrailingBytes(rest.len()));
        }
        if parsed.version() != X509Version::V3 {
            return Err(CertFault::Version);
        }
        if parsed.signature_algorithm != parsed.tbs_certificate.signature {
            return Err(CertFault::SignatureAlgorithm);
        }
        check_serial(parsed.raw_serial())?;
        if parsed.issuer().iter().next().is_none() {
            return Err(CertFault::NoIssuer);
        }
        check_extensions(parsed.extensions())?;
        // Verifying a signature with the key checks that the point is on the curve.
        let key = SubjectKey::unchecked_point(parsed.public_key().raw)?;
        Ok(Self { der, parsed, key })
    }

    pub(crate) const fn der(&self) -> &'a [u8] {
        self.der
    }

    pub(crate) const fn key(&self) -> &SubjectKey {
        &self.key
    }

    /// The serial, unless it is longer than 16 bytes.
    pub(crate) fn serial(&self) -> Option<Serial> {
        Serial::from_integer(self.parsed.raw_serial())
    }

    pub(crate) fn not_before(&self) -> UnixTime {
        UnixTime::from_signed(self.parsed.validity().not_before.timestamp())
    }

    pub(crate) fn not_after(&self) -> UnixTime {
        UnixTime::from_signed(self.parsed.validity().not_after.timestamp())
    }

    pub(crate) fn subject(&self) -> &[u8] {
        self.parsed.subject().as_raw()
    }

    pub(crate) fn issuer(&self) -> &[u8] {
        self.parsed.issuer().as_raw()
    }

    fn find<T>(&self, pick: impl Fn(&ParsedExtension<'a>) -> Option<T>) -> Option<(bool, T)> {
        self.parsed.extensions().iter().find_map(|e| pick(e.parsed_extension()).map(|value| (e.critical, value)))
    }

    fn basic_constraints(&self) -> Option<(bool, BasicConstraints)> {
        self.find(|e| if let ParsedExtension::BasicConstraints(b) = e { Some(b.clone()) } else { None })
    }

    pub(crate) fn path_len(&self) -> Option<u32> {
        self.basic_constraints().and_then(|(_, basic)| basic.path_len_constraint)
    }

    pub(crate) fn key_usage(&self) -> Option<(bool, KeyUsage)> {
        self.find(|e| if let ParsedExtension::KeyUsage(usage) = e { Some(*usage) } else { None })
    }

    pub(crate) fn extended_key_usage(&self) -> Option<ExtendedKeyUsage<'a>> {
        self.find(|e| if let ParsedExtension::ExtendedKeyUsage(usage) = e { Some(usage.clone()) } else { None })
            .map(|(_, usage)| usage)
    }

    pub(crate) fn subject_key_identifier(&self) -> Option<&'a [u8]> {
        self.find(|e| if let ParsedExtension::SubjectKeyIdentifier(id) = e { Some(id.0) } else { None })
            .map(|(_, id)| id)
    }

    fn authority_key_identifier(&self) -> Option<AuthorityKeyIdentifier<'a>> {
        self.find(|e| if let ParsedExtension::AuthorityKeyIdentifier(id) = e { Some(id.clone()) } else { None })
            .map(|(_, id)| id)
    }

    /// Every URI among the alternative names.
    pub(crate) fn uris(&self) -> Vec<&'a str> {
        let names = self.find(|e| match e {
            ParsedExtension::SubjectAlternativeName(names) => Some(names.general_names.clone()),
            _ => None,
        });
        let uri = |name| {
            if let GeneralName::URI(uri) = name { Some(uri) } else { None }
        };
        names.map(|(_, names)| names.into_iter().filter_map(uri).collect()).unwrap_or_default()
    }

    /// The trust domain of a CA certificate: its one URI, `spiffe://<domain>` without a path (SPIFFE X509-SVID 3.1).
    pub(crate) fn ca_domain(&self) -> Option<TrustDomain> {
        match self.uris().as_slice() {
            [uri] => TrustDomain::parse(uri.strip_prefix("spiffe://")?).ok(),
            _ => None,
        }
    }

    fn policy_values<T>(&self, read: impl Fn(&[u8]) -> Option<T>) -> Vec<T> {
        let found = self.find(|e| match e {
            ParsedExtension::CertificatePolicies(policies) => {
                Some(policies.iter().filter_map(|policy| read(policy.policy_id.as_bytes())).collect())
            }
            _ => None,
        });
        found.map(|(_, values)| values).unwrap_or_default()
    }

    /// The roles whose leaves this CA signs. A CA of ours has exactly one.
    pub(crate) fn role_markers(&self) -> Vec<Role> {
        self.policy_values(Role::from_oid)
    }

    /// The assurance levels. A leaf of ours has exactly one.
    pub(crate) fn assurances(&self) -> Vec<AssuranceLevel> {
        self.policy_values(AssuranceLevel::from_oid)
    }

    /// What the assurance is of. A leaf of ours has at most one, and only with hardware.
    pub(crate) fn assurances_of(&self) -> Vec<AssuranceOf> {
        self.policy_values(AssuranceOf::from_oid)
    }

    /// Whether its key may sign revocation lists (RFC 5280 4.2.1.3); true without a key usage extension.
    pub(crate) fn may_sign_lists(&self) -> bool {
        self.key_usage().is_none_or(|(_, usage)| usage.crl_sign())
    }

    /// Whether its own key signed it.
    pub(crate) fn is_self_signed(&self) -> bool {
        self.subject() == self.issuer() && self.parsed.verify_signature(None).is_ok()
    }

    /// Whether its issuer is the subject of `ca`, and the key of `ca` signed it.
    pub(crate) fn is_signed_by(&self, ca: &Certificate<'_>) -> bool {
        self.issuer() == ca.subject() && self.parsed.verify_signature(Some(ca.parsed.public_key())).is_ok()
    }

    /// Whether this CA signed `list`.
    pub(crate) fn signed_list(&self, list: &x509_parser::revocation_list::CertificateRevocationList<'_>) -> bool {
        list.issuer().as_raw() == self.subject() && list.verify_signature(self.parsed.public_key()).is_ok()
    }

    /// RFC 5280 4.1.2.5: notBefore and notAfter are both inclusive.
    pub(crate) fn check_time(&self, now: UnixTime) -> Result<(), CertFault> {
        if now < self.not_before() {
            return Err(CertFault::NotYetValid { from: self.not_before() });
        }
        if now > self.not_after() {
            return Err(CertFault::Expired { at: self.not_after() });
        }
        Ok(())
    }

    /// The rules for every leaf.
    pub(crate) fn check_leaf(&self, eku: Eku, unstated: Unstated) -> Result<(), CertFault> {
        if self.basic_constraints().is_some_and(|(_, basic)| basic.ca) {
            return Err(CertFault::CaAsLeaf);
        }
        self.check_authority_key_identifier()?;
        // RFC 5280 4.2.1.3: a leaf signs handshakes (RFC 8446 4.4.2.2), never certificates or lists.
        if let Some((_, usage)) = self.key_usage()
            && (!usage.digital_signature() || usage.key_cert_sign() || usage.crl_sign())
        {
            return Err(CertFault::KeyUsage);
        }
        // Stricter than RFC 5280 4.2.1.12: anyExtendedKeyUsage is not accepted, and a missing extension of foreign leaves alone.
        let fits = match self.extended_key_usage() {
            Some(usage) => !usage.any && eku.is_in(&usage),
            None => unstated == Unstated::Taken,
        };
        if !fits {
            return Err(CertFault::ExtendedKeyUsage { wanted: eku });
        }
        // RFC 5280 4.2.1.10: in CA certificates only.
        if self.find(|e| matches!(e, ParsedExtension::NameConstraints(_)).then_some(())).is_some() {
            return Err(CertFault::NameConstraints);
        }
        // RFC 5280 4.1.2.6: an empty subject requires a critical subjectAltName.
        let names = self.find(|e| matches!(e, ParsedExtension::SubjectAlternativeName(_)).then_some(()));
        if self.parsed.subject().iter().next().is_none() && !names.is_some_and(|(critical, ())| critical) {
            return Err(CertFault::NoName);
        }
        Ok(())
    }

    /// The rules for every CA, roots included.
    pub(crate) fn check_anchor_or_issuer(&self) -> Result<(), CertFault> {
        if self.parsed.subject().iter().next().is_none() {
            return Err(CertFault::NoSubject);
        }
        // RFC 5280 4.2.1.9: present, critical, true.
        match self.basic_constraints() {
            Some((true, basic)) if basic.ca => {}
            Some((false, basic)) if basic.ca => {
                return Err(CertFault::Criticality { oid: "2.5.29.19", must: true });
            }
            _ => return Err(CertFault::NotCa),
        }
        // RFC 5280 4.2.1.3: if present, key usage must include keyCertSign.
        if self.key_usage().is_some_and(|(_, usage)| !usage.key_cert_sign()) {
            return Err(CertFault::KeyUsage);
        }
        // RFC 5280 4.2.1.2: required in CA certificates.
        if self.subject_key_identifier().is_none() {
            return Err(CertFault::SubjectKeyIdentifier);
        }
        Ok(())
    }

    /// The rules for a CA between leaf and root.
    pub(crate) fn check_issuer(&self) -> Result<(), CertFault> {
        self.check_anchor_or_issuer()?;
        self.check_authority_key_identifier()?;
        // RFC 5280 4.2.1.11: policyConstraints must be critical.
        if self.find(|e| matches!(e, ParsedExtension::PolicyConstraints(_)).then_some(())).is_some_and(|(c, ())| !c) {
            return Err(CertFault::Criticality { oid: "2.5.29.36", must: true });
        }
        Ok(())
    }

    /// The rules for a root. The path builder uses only its name, key and name constraints; RFC 5280 6.1.1 leaves the rest to the
    /// relying party.
    pub(crate) fn check_anchor(&self, now: UnixTime) -> Result<(), CertFault> {
        self.check_anchor_or_issuer()?;
        self.check_time(now)?;
        let understood = |e: &X509Extension<'_>| !e.critical || ENFORCED.contains(&e.oid.to_id_string().as_str());
        if let Some(extension) = self.parsed.extensions().iter().find(|e| !understood(e)) {
            return Err(CertFault::UnknownCritical { oid: extension.oid.to_id_string() });
        }
        if self.extended_key_usage().is_some() {
            return Err(CertFault::RootExtendedKeyUsage);
        }
        // RFC 5280 4.2.1.1: optional in a self-signed certificate. If present, it must name its own key and nothing else.
        if let Some(id) = self.authority_key_identifier() {
            let plain = id.authority_cert_issuer.is_none() && id.authority_cert_serial.is_none();
            let own = id.key_identifier.as_ref().map(|id| id.0) == self.subject_key_identifier();
            if !plain || (self.subject() == self.issuer() && !own) {
                return Err(CertFault::AuthorityKeyIdentifier);
            }
        }
        // Checks that the point is on its curve now, and not when the first peer connects.
        SubjectKey::from_spki_der(self.key.spki_der())?;
        Ok(())
    }

    /// RFC 5280 4.2.1.1: required in every certificate that is not self-signed.
    fn check_authority_key_identifier(&self) -> Result<(), CertFault> {
        match self.authority_key_identifier() {
            Some(id) if id.key_identifier.is_some() => Ok(()),
            _ => Err(CertFault::AuthorityKeyIdentifier),
        }
    }

    /// The path builder's type.
    pub(crate) fn for_path_builder(&self) -> CertificateDer<'a> {
        CertificateDer::from(self.der)
    }
}

/// RFC 5280 4.1.2.2.
fn check_serial(content: &[u8]) -> Result<(), CertFault> {
    let positive = content.first().is_some_and(|first| first & 0x80 == 0) && content.iter().any(|byte| *byte != 0);
    // At most 20 content octets, a leading zero included.
    if positive && content.len() <= 20 { Ok(()) } else { Err(CertFault::Serial) }
}

/// No extension twice (RFC 5280 4.2), every known one readable, and the two key identifiers not critical (RFC 5280 4.2.1.1-2).
fn check_extensions(extensions: &[X509Extension<'_>]) -> Result<(), CertFault> {
    for (at, extension) in extensions.iter().enumerate() {
        let oid = || extension.oid.to_id_string();
        if extensions.iter().take(at).any(|earlier| earlier.oid == extension.oid) {
            return Err(CertFault::DuplicateExtension { oid: oid() });
        }
        match extension.parsed_extension() {
            ParsedExtension::ParseError { .. } => return Err(CertFault::BadExtension { oid: oid() }),
            ParsedExtension::SubjectAlternativeName(names)
                if names.general_names.is_empty() || names.general_names.iter().any(is_bad_name) =>
            {
                return Err(CertFault::BadExtension { oid: oid() });
            }
            ParsedExtension::NameConstraints(constraints) => {
                // RFC 5280 4.2.1.10: not empty, and no domain with a leading dot.
                let subtrees = [&constraints.permitted_subtrees, &constraints.excluded_subtrees];
                let mut all = subtrees.into_iter().flatten().flatten().peekable();
                let dotted = |name: &GeneralName<'_>| matches!(name, GeneralName::DNSName(n) if n.starts_with('.'));
                if all.peek().is_none() || all.any(|subtree| dotted(&subtree.base)) {
                    return Err(CertFault::BadExtension { oid: oid() });
                }
            }
            ParsedExtension::AuthorityKeyIdentifier(_) if extension.critical => {
                return Err(CertFault::Criticality { oid: "2.5.29.35", must: false });
            }
            ParsedExtension::SubjectKeyIdentifier(_) if extension.critical => {
                return Err(CertFault::Criticality { oid: "2.5.29.14", must: false });
            }
            _ => {}
        }
    }
    Ok(())
}

/// RFC 5280 4.2.1.6: names are ASCII, and DNS names follow the preferred syntax (RFC 1034 3.5).
fn is_bad_name(name: &GeneralName<'_>) -> bool {
    match name {
        GeneralName::Invalid(..) => true,
        GeneralName::DNSName(text) => check_dns(&text.to_ascii_lowercase()).is_err(),
        GeneralName::URI(text) | GeneralName::RFC822Name(text) => !text.is_ascii(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
