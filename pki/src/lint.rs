//! The rules a leaf must obey before it is signed, one function each. They check the fields passed to the encoder, so that
//! they catch a mistake in any earlier step: a signed certificate cannot be withdrawn.

use rcgen::{CertificateParams, DnType, DnValue, IsCa, KeyIdMethod, KeyUsagePurpose, SanType};
use thiserror::Error;

use crate::key::{KeyAlgorithm, SubjectKey};
use crate::name::{Identity, Role, check_dns};
use crate::oid;
use crate::profile::{BACKDATE, OtherNames, Profile};
use crate::time::UnixTime;

/// The rule a draft broke.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum LintError {
    /// RFC 5280 4.1.2.2.
    #[error("the serial number is not a positive number of at most 20 octets")]
    Serial,
    /// RFC 5280 4.1.2.5.
    #[error("the date {at} cannot be written in a certificate; give one before the year 10000")]
    Date { at: UnixTime },
    /// RFC 5280 4.1.2.5.
    #[error("the certificate would end at {not_after}, before it begins at {not_before}; give a lifetime above zero")]
    Validity { not_before: UnixTime, not_after: UnixTime },
    #[error("a {role} certificate lasts at most {max_secs} s and this one would last {secs} s")]
    Lifetime {
        role: Role,
        /// Seconds from now to its end.
        secs: u64,
        /// Seconds allowed.
        max_secs: u64,
    },
    /// RFC 5280 4.1.2.6.
    #[error("the subject is not exactly one common name equal to the name in the identity")]
    Subject,
    /// SPIFFE X509-SVID 2.
    #[error("the certificate must carry exactly one URI, its identity, and carries {found}")]
    IdentityCount { found: usize },
    /// SPIFFE X509-SVID 2.
    #[error("the URI in the certificate is `{found}` and the identity `{wanted}`")]
    IdentityMismatch { found: String, wanted: String },
    #[error("the profile is for the role {profile} and the identity has the role {identity}")]
    Role { profile: Role, identity: Role },
    /// RFC 5280 4.2.1.6.
    #[error("the name `{name}` is not a DNS name a certificate can carry")]
    Name { name: String },
    #[error("the name `{name}` does not belong in a {role} certificate")]
    ForeignName { name: String, role: Role },
    /// RFC 5280 4.2.1.6.
    #[error("the name `{name}` is listed twice")]
    DuplicateName { name: String },
    #[error("a gateway certificate needs at least one DNS name or address; set the gateway's public names")]
    NoGatewayName,
    /// RFC 5280 4.2.1.3.
    #[error("the key usage must be digitalSignature alone")]
    KeyUsage,
    /// RFC 5280 4.2.1.12.
    #[error("the extended key usage is not the one of the role {role}")]
    ExtendedKeyUsage { role: Role },
    /// RFC 5280 4.2.1.9.
    #[error("the certificate must say that it is not a CA")]
    Ca,
    /// RFC 5280 4.2.1.1 and 4.2.1.2.
    #[error("the certificate must carry both key identifiers, its own of 20 bytes taken from its key")]
    KeyIdentifiers,
    /// RFC 5280 4.2.1.10.
    #[error("name constraints do not belong in a leaf of ours")]
    CaExtensions,
    /// RFC 5280 4.2.1.13.
    #[error("the address of the revocation list is not the one configured, or there is one and none is configured")]
    List,
    /// RFC 5280 4.2.
    #[error("an extension is there twice")]
    DuplicateExtension,
    /// RFC 5280 4.2.1.4.
    #[error(
        "the certificate policies must be one assurance level, one approver class and, with hardware, one thing it is of"
    )]
    Policies,
    #[error("{0} keys are not certified")]
    Key(KeyAlgorithm),
}

/// The fields of a leaf about to be signed, and what they must match.
pub(crate) struct Candidate<'a> {
    pub(crate) params: &'a CertificateParams,
    pub(crate) key: &'a SubjectKey,
    pub(crate) identity: &'a Identity,
    pub(crate) profile: &'static Profile,
    pub(crate) list: Option<&'a str>,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
}

type Rule = fn(&Candidate<'_>) -> Result<(), LintError>;

/// Every rule, in the order of RFC 5280.
const RULES: &[Rule] = &[
    serial_is_positive,
    validity_is_in_order,
    lifetime_is_within_the_profile,
    subject_is_the_name,
    key_is_certified,
    role_matches_profile,
    key_identifiers_are_set,
    key_usage_is_to_sign,
    policies_are_ours,
    one_identity,
    other_names_match_profile,
    names_are_unique,
    not_a_ca,
    nothing_of_a_ca,
    one_list_or_none,
    extended_key_usage_matches_profile,
    no_extension_twice,
];

/// Fails with the first rule that is broken.
pub(crate) fn check(candidate: &Candidate<'_>) -> Result<(), LintError> {
    RULES.iter().try_for_each(|rule| rule(candidate))
}

/// RFC 5280 4.1.2.2: a positive integer of at most 20 octets.
fn serial_is_positive(c: &Candidate<'_>) -> Result<(), LintError> {
    let bytes: &[u8] = c.params.serial_number.as_ref().map_or(&[], AsRef::as_ref);
    let positive = bytes.first().is_some_and(|first| first & 0x80 == 0) && bytes.iter().any(|byte| *byte != 0);
    if positive && bytes.len() <= 20 { Ok(()) } else { Err(LintError::Serial) }
}

/// RFC 5280 4.1.2.5: notBefore is before notAfter, both are whole seconds and those of the draft.
fn validity_is_in_order(c: &Candidate<'_>) -> Result<(), LintError> {
    let wrong = LintError::Validity { not_before: c.not_before, not_after: c.not_after };
    if c.not_after <= c.not_before.plus(BACKDATE) {
        return Err(wrong);
    }
    let same = c.not_before.to_datetime() == Some(c.params.not_before)
        && c.not_after.to_datetime() == Some(c.params.not_after);
    if same { Ok(()) } else { Err(wrong) }
}

/// The profile's longest lifetime, counted from the time of issue. Not in an RFC.
fn lifetime_is_within_the_profile(c: &Candidate<'_>) -> Result<(), LintError> {
    let secs = c.not_after.since(c.not_before.plus(BACKDATE)).as_secs();
    let max_secs = c.profile.lifetime_max.as_secs();
    if secs <= max_secs { Ok(()) } else { Err(LintError::Lifetime { role: c.profile.role, secs, max_secs }) }
}

/// RFC 5280 4.1.2.6, and upper bound ub-common-name of appendix A.1 (64, a name has at most 63).
fn subject_is_the_name(c: &Candidate<'_>) -> Result<(), LintError> {
    let mut entries = c.params.distinguished_name.iter();
    match (entries.next(), entries.next()) {
        (Some((DnType::CommonName, DnValue::Utf8String(text))), None) if text == c.identity.name.as_str() => Ok(()),
        _ => Err(LintError::Subject),
    }
}

/// RFC 5280 4.1.2.7 leaves the choice to the CA. Repeats the size checks of [`SubjectKey`].
fn key_is_certified(c: &Candidate<'_>) -> Result<(), LintError> {
    match c.key.algorithm() {
        KeyAlgorithm::P256 | KeyAlgorithm::P384 | KeyAlgorithm::Ed25519 => Ok(()),
        KeyAlgorithm::Rsa { bits } if (2048..=4096).contains(&bits) => Ok(()),
        other @ KeyAlgorithm::Rsa { .. } => Err(LintError::Key(other)),
    }
}

/// Each role has one profile and one issuing CA. Not in an RFC.
fn role_matches_profile(c: &Candidate<'_>) -> Result<(), LintError> {
    let (profile, identity) = (c.profile.role, c.identity.role);
    if profile == identity { Ok(()) } else { Err(LintError::Role { profile, identity }) }
}

/// RFC 5280 4.2.1.1 and 4.2.1.2: the authority key identifier is required, the subject's recommended.
fn key_identifiers_are_set(c: &Candidate<'_>) -> Result<(), LintError> {
    let own = c.key.digest();
    match &c.params.key_identifier_method {
        KeyIdMethod::PreSpecified(id)
            if id.len() == 20 && own.as_bytes().starts_with(id) && c.params.use_authority_key_identifier_extension =>
        {
            Ok(())
        }
        _ => Err(LintError::KeyIdentifiers),
    }
}

/// RFC 5280 4.2.1.3 and RFC 8446 4.4.2.2: TLS 1.3 uses the key only to sign. The encoder marks the extension critical.
fn key_usage_is_to_sign(c: &Candidate<'_>) -> Result<(), LintError> {
    if c.params.key_usages == [KeyUsagePurpose::DigitalSignature] { Ok(()) } else { Err(LintError::KeyUsage) }
}

/// RFC 5280 4.2.1.4: an assurance level, an approver class and, with hardware, what the assurance is of; all ours, not critical.
fn policies_are_ours(c: &Candidate<'_>) -> Result<(), LintError> {
    use crate::profile::{AdmittedBy, AssuranceLevel, AssuranceOf};
    let [extension] = c.params.custom_extensions.as_slice() else {
        return Err(LintError::Policies);
    };
    let right_place = extension.oid_components().eq(oid::CERTIFICATE_POLICIES) && !extension.criticality();
    // The extensions of two leaves differ only in the last two bytes of each identifier.
    let (level, class, of) = (AssuranceLevel::None.oid(), AdmittedBy::Policy.oid(), AssuranceOf::Key.oid());
    let (levels, classes) = (AssuranceLevel::ALL.map(AssuranceLevel::oid), AdmittedBy::ALL.map(AdmittedBy::oid));
    let hardware = [AssuranceLevel::Hardware, AssuranceLevel::Measured].map(AssuranceLevel::oid);
    let content = extension.content();
    let among = |known: &[[u8; oid::LEN]]| {
        known.iter().filter(|one| content.windows(oid::LEN).any(|window| window == one.as_slice())).count()
    };
    let length = match among(&AssuranceOf::ALL.map(AssuranceOf::oid)) {
        0 => oid::policies(&[&level, &class]).len(),
        1 if among(&hardware) == 1 => oid::policies(&[&level, &class, &of]).len(),
        _ => return Err(LintError::Policies),
    };
    let right = right_place && content.len() == length && among(&levels) == 1 && among(&classes) == 1;
    if right { Ok(()) } else { Err(LintError::Policies) }
}

/// SPIFFE X509-SVID 2: exactly one URI, and it is the identity.
fn one_identity(c: &Candidate<'_>) -> Result<(), LintError> {
    let uris: Vec<&str> = c
        .params
        .subject_alt_names
        .iter()
        .filter_map(|name| if let SanType::URI(uri) = name { Some(uri.as_str()) } else { None })
        .collect();
    let wanted = c.identity.to_string();
    match uris.as_slice() {
        [one] if *one == wanted => Ok(()),
        [one] => Err(LintError::IdentityMismatch { found: (*one).to_owned(), wanted }),
        more => Err(LintError::IdentityCount { found: more.len() }),
    }
}

/// RFC 5280 4.2.1.6: the profile decides which names there are beside the identity.
fn other_names_match_profile(c: &Candidate<'_>) -> Result<(), LintError> {
    let role = c.profile.role;
    let foreign = |name: String| Err(LintError::ForeignName { name, role });
    let mut others = 0_usize;
    for name in &c.params.subject_alt_names {
        match name {
            SanType::URI(_) => continue,
            SanType::DnsName(dns) => {
                check_dns(dns.as_str()).map_err(|_| LintError::Name { name: dns.as_str().to_owned() })?;
                match c.profile.other_names {
                    OtherNames::GatewayNames => {}
                    OtherNames::OwnDnsName if dns.as_str() == c.identity.dns_name() => {}
                    OtherNames::OwnDnsName | OtherNames::Nothing => return foreign(dns.as_str().to_owned()),
                }
            }
            SanType::IpAddress(address) if c.profile.other_names != OtherNames::GatewayNames => {
                return foreign(address.to_string());
            }
            SanType::IpAddress(address) if address.is_unspecified() => return foreign(address.to_string()),
            SanType::IpAddress(_) => {}
            other => return foreign(format!("{other:?}")),
        }
        others += 1;
    }
    match c.profile.other_names {
        OtherNames::GatewayNames if others == 0 => Err(LintError::NoGatewayName),
        OtherNames::OwnDnsName if others == 0 => foreign(String::new()),
        OtherNames::GatewayNames | OtherNames::OwnDnsName | OtherNames::Nothing => Ok(()),
    }
}

/// RFC 5280 4.2.1.6: no name is listed twice.
fn names_are_unique(c: &Candidate<'_>) -> Result<(), LintError> {
    let names = &c.params.subject_alt_names;
    match names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|earlier| earlier == *name)) {
        None => Ok(()),
        Some((_, SanType::DnsName(dns))) => Err(LintError::DuplicateName { name: dns.as_str().to_owned() }),
        Some((_, name)) => Err(LintError::DuplicateName { name: format!("{name:?}") }),
    }
}

/// RFC 5280 4.2.1.9.
fn not_a_ca(c: &Candidate<'_>) -> Result<(), LintError> {
    if c.params.is_ca == IsCa::ExplicitNoCa { Ok(()) } else { Err(LintError::Ca) }
}

/// RFC 5280 4.2.1.10: name constraints occur only in CA certificates.
fn nothing_of_a_ca(c: &Candidate<'_>) -> Result<(), LintError> {
    if c.params.name_constraints.is_none() { Ok(()) } else { Err(LintError::CaExtensions) }
}

/// RFC 5280 4.2.1.13: the configured address of the issuing CA's list, or none when none is configured.
fn one_list_or_none(c: &Candidate<'_>) -> Result<(), LintError> {
    let points: Vec<&[String]> = c.params.crl_distribution_points.iter().map(|point| point.uris.as_slice()).collect();
    let right = match (points.as_slice(), c.list) {
        ([], None) => true,
        ([[uri]], Some(list)) => uri == list,
        (_, Some(_) | None) => false,
    };
    if right { Ok(()) } else { Err(LintError::List) }
}

/// RFC 5280 4.2.1.12: one usage, so that no machine can impersonate the gateway. A machine's leaf has serverAuth only with the
/// profile of sealed services.
fn extended_key_usage_matches_profile(c: &Candidate<'_>) -> Result<(), LintError> {
    let right = c.params.extended_key_usages == [c.profile.eku.for_encoder()];
    if right { Ok(()) } else { Err(LintError::ExtendedKeyUsage { role: c.profile.role }) }
}

/// RFC 5280 4.2: no extension twice. The encoder does not check this, and would write a custom extension beside its own.
fn no_extension_twice(c: &Candidate<'_>) -> Result<(), LintError> {
    // Extensions that the encoder writes from its own fields.
    const WRITTEN: [[u64; 4]; 7] = [
        [2, 5, 29, 35],
        [2, 5, 29, 14],
        [2, 5, 29, 15],
        [2, 5, 29, 17],
        [2, 5, 29, 19],
        [2, 5, 29, 31],
        [2, 5, 29, 37],
    ];
    let custom: Vec<Vec<u64>> = c.params.custom_extensions.iter().map(|e| e.oid_components().collect()).collect();
    let repeated = custom
        .iter()
        .enumerate()
        .any(|(at, oid)| WRITTEN.iter().any(|own| own == oid.as_slice()) || custom.iter().take(at).any(|o| o == oid));
    if repeated { Err(LintError::DuplicateExtension) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
