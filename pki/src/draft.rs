//! The life of a leaf certificate: [`draft`] fills in every field, [`Draft::lint`] checks them, [`Linted::issue`] signs.
//!
//! Each step takes the value before it, so nothing unchecked can be signed. Every field is written here or in the
//! profile; none is left to the encoder's defaults (its default validity ends in the year 4096).

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    CertificateParams, CrlDistributionPoint, CustomExtension, DistinguishedName, DnType, IsCa, KeyIdMethod,
    KeyUsagePurpose, SanType,
};
use thiserror::Error;

use crate::ca::IssuingCa;
use crate::crl::ListsUrl;
use crate::key::{KeyDigest, SignError, SubjectKey};
use crate::lint::{self, Candidate, LintError};
use crate::name::{GatewayName, Identity, Role};
use crate::oid;
use crate::profile::{AdmittedBy, Assurance, AssuranceOf, BACKDATE, OtherNames, Profile};
use crate::serial::Serial;
use crate::time::UnixTime;

/// The input of a leaf. Only the key comes from the requester.
#[derive(Clone, Debug)]
pub struct LeafRequest {
    /// The key to certify.
    pub key: SubjectKey,
    /// Who holds it.
    pub identity: Identity,
    /// The serial, reserved by the caller.
    pub serial: Serial,
    /// Time from now to its end, limited by the profile's `lifetime_max`.
    pub lifetime: Duration,
    /// Put into the leaf as certificate policies.
    pub assurance: Assurance,
    /// Put into the leaf as a certificate policy.
    pub admitted_by: AdmittedBy,
    /// Names and addresses by which clients connect; for gateways only.
    pub gateway_names: Vec<GatewayName>,
}

/// A leaf with all its fields, not yet checked.
#[derive(Clone, Debug)]
#[must_use = "a draft that is not linted and issued does nothing"]
pub struct Draft {
    key: SubjectKey,
    identity: Identity,
    profile: &'static Profile,
    serial: Serial,
    not_before: UnixTime,
    not_after: UnixTime,
    names: Vec<AltName>,
    assurance: Assurance,
    admitted_by: AdmittedBy,
    list: Option<String>,
}

/// One entry of the subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum AltName {
    Uri(String),
    Dns(String),
    Ip(IpAddr),
}

/// Fills in a leaf by the profile of its role.
pub fn draft(request: LeafRequest, now: UnixTime) -> Draft {
    let LeafRequest { key, identity, serial, lifetime, assurance, admitted_by, gateway_names } = request;
    let profile = Profile::of(identity.role);
    let mut names = vec![AltName::Uri(identity.to_string())];
    if profile.other_names == OtherNames::OwnDnsName {
        names.push(AltName::Dns(identity.dns_name()));
    }
    // Added for other roles too: the lint then refuses them, and they are not dropped silently.
    for name in gateway_names {
        let name = match name {
            GatewayName::Dns(name) => AltName::Dns(name),
            GatewayName::Ip(address) => AltName::Ip(address),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Draft {
        key,
        identity,
        profile,
        serial,
        not_before: now.minus(BACKDATE),
        not_after: now.plus(lifetime.min(profile.lifetime_max)),
        names,
        assurance,
        admitted_by,
        list: None,
    }
}

impl Draft {
    /// The content of its certificate policies.
    fn policies(&self) -> Vec<u8> {
        let (level, by) = (self.assurance.level().oid(), self.admitted_by.oid());
        let of = self.assurance.of().map(AssuranceOf::oid);
        let all: Vec<&[u8]> =
            [Some(&level), Some(&by), of.as_ref()].into_iter().flatten().map(|oid| &oid[..]).collect();
        oid::policies(&all)
    }

    /// Makes it the server certificate of a machine's sealed services; the machine's own certificate is for clients. The lint
    /// refuses it for other roles.
    pub fn for_sealed_services(mut self) -> Self {
        self.profile = Profile::sealed();
        self
    }

    /// Adds the address of its issuing CA's revocation list (RFC 5280 4.2.1.13).
    pub fn with_list(mut self, lists: &ListsUrl, issuer: &KeyDigest) -> Self {
        self.list = Some(lists.of(issuer));
        self
    }

    /// Checks every rule of [`crate::lint`] on the fields that will be encoded.
    pub fn lint(self) -> Result<Linted, LintError> {
        let params = self.encode()?;
        lint::check(&Candidate {
            params: &params,
            key: &self.key,
            identity: &self.identity,
            profile: self.profile,
            list: self.list.as_deref(),
            not_before: self.not_before,
            not_after: self.not_after,
        })?;
        let Self { key, identity, serial, not_before, not_after, .. } = self;
        Ok(Linted { params, key, identity, serial, not_before, not_after })
    }

    /// The encoder's form. The comments name the sections of RFC 5280.
    fn encode(&self) -> Result<CertificateParams, LintError> {
        let mut params = CertificateParams::default();
        // 4.1.2.2
        params.serial_number = Some(rcgen::SerialNumber::from_slice(self.serial.as_bytes()));
        // 4.1.2.5
        params.not_before = self.not_before.to_datetime().ok_or(LintError::Date { at: self.not_before })?;
        params.not_after = self.not_after.to_datetime().ok_or(LintError::Date { at: self.not_after })?;
        // 4.1.2.6: for tools that display it; nothing of ours reads it.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.identity.name.as_str());
        // 4.2.1.6
        params.subject_alt_names = self.names.iter().map(encode_name).collect::<Result<_, _>>()?;
        // 4.2.1.9: cA FALSE, stated explicitly.
        params.is_ca = IsCa::ExplicitNoCa;
        // 4.2.1.3
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // 4.2.1.12
        params.extended_key_usages = vec![self.profile.eku.for_encoder()];
        // 4.2.1.10: for CAs only.
        params.name_constraints = None;
        // 4.2.1.13
        params.crl_distribution_points =
            self.list.iter().map(|list| CrlDistributionPoint { uris: vec![list.clone()] }).collect();
        // 4.2.1.4
        params.custom_extensions = vec![CustomExtension::from_oid_content(&oid::CERTIFICATE_POLICIES, self.policies())];
        // 4.2.1.1, 4.2.1.2
        params.use_authority_key_identifier_extension = true;
        params.key_identifier_method = key_identifier(&self.key.digest());
        Ok(params)
    }
}

/// The leftmost 160 bits of SHA-256 over the SubjectPublicKeyInfo (RFC 7093 2, method 4).
pub(crate) fn key_identifier(digest: &KeyDigest) -> KeyIdMethod {
    KeyIdMethod::PreSpecified(digest.as_bytes().iter().take(20).copied().collect())
}

fn encode_name(name: &AltName) -> Result<SanType, LintError> {
    let not_ascii = |text: &str| LintError::Name { name: text.to_owned() };
    Ok(match name {
        AltName::Uri(uri) => SanType::URI(uri.as_str().try_into().map_err(|_| not_ascii(uri))?),
        AltName::Dns(dns) => SanType::DnsName(dns.as_str().try_into().map_err(|_| not_ascii(dns))?),
        AltName::Ip(address) => SanType::IpAddress(*address),
    })
}

/// A leaf that passed every rule of [`crate::lint`].
#[derive(Clone, Debug)]
#[must_use = "a checked draft that is not issued does nothing"]
pub struct Linted {
    params: CertificateParams,
    key: SubjectKey,
    identity: Identity,
    serial: Serial,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Linted {
    /// Its serial.
    #[must_use]
    pub const fn serial(&self) -> Serial {
        self.serial
    }

    /// Start of its validity.
    #[must_use]
    pub const fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// End of its validity.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// The SPIFFE ID in its subjectAltName.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The digest of the certified key.
    #[must_use]
    pub const fn key(&self) -> &SubjectKey {
        &self.key
    }

    /// The unsigned certificate, for tests that change it.
    #[cfg(test)]
    pub(crate) fn into_params(self) -> CertificateParams {
        self.params
    }

    /// Signs it. `ca` must be the issuing CA of its role and outlive it.
    pub fn issue(self, ca: &IssuingCa) -> Result<Issued, IssueError> {
        if ca.role() != self.identity.role {
            return Err(IssueError::WrongIssuer { leaf: self.identity.role, ca: ca.role() });
        }
        if *ca.domain() != self.identity.domain {
            return Err(IssueError::ForeignDomain {
                leaf: self.identity.domain.to_string(),
                ca: ca.domain().to_string(),
            });
        }
        // RFC 5280 6.1.3 checks the validity of each certificate, so a leaf that outlives its issuer would fail before its own
        // end.
        if self.not_after > ca.not_after() || self.not_before < ca.not_before() {
            return Err(IssueError::OutsideIssuer { ca_from: ca.not_before(), ca_until: ca.not_after() });
        }
        let der = ca.authority().sign(&self.params, &self.key)?;
        Ok(Issued {
            der,
            serial: self.serial,
            not_before: self.not_before,
            not_after: self.not_after,
            key: self.key.digest(),
            identity: self.identity,
            issuer: ca.role(),
        })
    }
}

/// A signed leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub der: Vec<u8>,
    /// Its serial.
    pub serial: Serial,
    /// Start of its validity.
    pub not_before: UnixTime,
    /// End of its validity.
    pub not_after: UnixTime,
    /// The SPIFFE ID in its subjectAltName.
    pub identity: Identity,
    /// The digest of its key.
    pub key: KeyDigest,
    /// Role of the issuing CA that signed it.
    pub issuer: Role,
}

/// Why something was not signed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum IssueError {
    /// Each role has its own issuing CA.
    #[error("a {leaf} certificate cannot be signed by the {} CA; use the {} CA", ca.plural(), leaf.plural())]
    WrongIssuer { leaf: Role, ca: Role },
    #[error("the identity lies in trust domain `{leaf}` and the CA in `{ca}`")]
    ForeignDomain { leaf: String, ca: String },
    #[error("the validity is not within that of the issuing CA, {ca_from} to {ca_until}; shorten it or renew the CA")]
    OutsideIssuer { ca_from: UnixTime, ca_until: UnixTime },
    #[error("the date {at} cannot be written in a certificate; give one before the year 10000")]
    Date { at: UnixTime },
    #[error("the list's next update must lie after this update")]
    NextUpdate,
    #[error("serial {serial} is listed twice")]
    DuplicateEntry { serial: Serial },
    #[error(transparent)]
    Sign(#[from] SignError),
    /// Does not happen with linted input.
    #[error("the certificate could not be encoded: {0}")]
    Encoding(String),
    #[error("the new CA certificate is not usable: {0}")]
    Ca(String),
}

#[cfg(test)]
mod tests;
