//! The certificate authorities: a root, which may be kept offline, and one issuing CA for each role.
//!
//! The issuing CA's certificate contains its role as a certificate policy of ours, and a peer's role is taken from there: a leaf is
//! only as trustworthy as the CA that signed it. There are no URI name constraints, because two of the seven verifiers we tested
//! refuse every leaf below a CA that has them.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyUsagePurpose,
    SanType,
};
use rustls_pki_types::CertificateDer;
use thiserror::Error;

use crate::anchor::AnchorError;
use crate::cert::{CertFault, Certificate};
use crate::draft::{IssueError, key_identifier};
use crate::key::{CaKey, KeyDigest, KeyError, SignError, SubjectKey};
use crate::name::{Role, TrustDomain};
use crate::oid;
use crate::profile::BACKDATE;
use crate::serial::Serial;
use crate::time::UnixTime;

const YEAR: u64 = 31_556_952;
/// Lifetime of an issuing CA. Several can be valid at once, so it is replaced well before.
pub const ISSUING_CA_LIFETIME: Duration = Duration::from_secs(5 * YEAR);
/// Upper bound of a common name (RFC 5280 A.1, ub-common-name).
const COMMON_NAME_MAX: usize = 64;

/// Why a certificate and a key do not make a CA.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum CaError {
    #[error("the CA certificate is not usable: {0}")]
    Certificate(#[from] CertFault),
    #[error("the root certificate is not usable: {0}")]
    Root(#[from] AnchorError),
    #[error("the CA key is not usable: {0}")]
    Key(#[from] KeyError),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("the CA key and the CA certificate do not belong together; check which files were paired")]
    KeyMismatch,
    #[error("the CA certificate lacks the key usage cRLSign; issue it again")]
    CannotSignLists,
    #[error("the certificate is not an issuing CA of ours: it carries {found} role markers instead of one")]
    NoRole { found: usize },
    #[error("the CA certificate does not name its trust domain in exactly one `spiffe://` URI")]
    NoDomain,
    #[error("the root did not sign it")]
    OtherRoot,
    #[error("the certificate cannot take the place of the CA's older one: {why}")]
    NotItsRenewal { why: &'static str },
    /// The encoder would write an issuer name into leaves that differs from the CA's subject (RFC 5280 4.1.2.4).
    #[error("the subject of the CA certificate has a form that cannot be copied into leaves: {0}")]
    Name(String),
}

/// A CA certificate with its key.
pub(crate) struct CertifiedKey {
    cert_der: Vec<u8>,
    domain: TrustDomain,
    not_before: UnixTime,
    not_after: UnixTime,
    key: SubjectKey,
    key_identifier: Vec<u8>,
    issuer: Issuer<'static, Signer>,
}

/// Implements the encoder's signing key by a [`CaKey`].
struct Signer {
    key: Arc<dyn CaKey>,
    /// The cause of a failure, which the encoder's error type cannot contain.
    failure: Mutex<Option<SignError>>,
}

impl rcgen::PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        self.key.public_key()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.key.algorithm().for_encoder()
    }
}

impl rcgen::SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.key.sign(message).map_err(|error| {
            if let Ok(mut failure) = self.failure.lock() {
                *failure = Some(error);
            }
            rcgen::Error::RemoteKeyError
        })
    }
}

/// A signing key with an empty signature, for encodings that are only compared.
struct Unsigned<'a>(&'a dyn CaKey);

impl rcgen::PublicKeyData for Unsigned<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.0.algorithm().for_encoder()
    }
}

impl rcgen::SigningKey for Unsigned<'_> {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}

impl CertifiedKey {
    /// Pairs a certificate with its key. Checks that they match, that the key signs, and that the certificate is a CA's.
    fn new(cert_der: &[u8], key: Arc<dyn CaKey>) -> Result<Self, CaError> {
        let cert = Certificate::read(cert_der)?;
        cert.check_anchor_or_issuer()?;
        if !cert.may_sign_lists() {
            return Err(CaError::CannotSignLists);
        }
        let domain = cert.ca_domain().ok_or(CaError::NoDomain)?;
        let subject_key = SubjectKey::from_raw(key.algorithm(), key.public_key())?;
        if subject_key != *cert.key() {
            return Err(CaError::KeyMismatch);
        }
        // A device may have a private key that does not match its public key, or return signatures in another form.
        const PROBE: &[u8] = b"lychgate: does this key belong to this certificate?";
        let signature = key.sign(PROBE)?;
        cert.key().verify(PROBE, &signature).map_err(|_| CaError::KeyMismatch)?;

        let der = CertificateDer::from(cert_der);
        copies_name(&der, key.as_ref(), &cert)?;
        let signer = Signer { key, failure: Mutex::new(None) };
        let issuer = Issuer::from_ca_cert_der(&der, signer).map_err(|e| CaError::Name(e.to_string()))?;
        Ok(Self {
            cert_der: cert_der.to_vec(),
            domain,
            not_before: cert.not_before(),
            not_after: cert.not_after(),
            key_identifier: cert.subject_key_identifier().unwrap_or_default().to_vec(),
            key: subject_key,
            issuer,
        })
    }

    /// Encodes and signs a certificate.
    pub(crate) fn sign(&self, params: &CertificateParams, subject: &SubjectKey) -> Result<Vec<u8>, IssueError> {
        match params.signed_by(subject, &self.issuer) {
            Ok(certificate) => Ok(certificate.der().to_vec()),
            Err(error) => Err(self.explain(&error)),
        }
    }

    /// Signs bytes that are not a certificate or list; the caller prevents confusion with those.
    pub(crate) fn sign_bytes(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.issuer.key().key.sign(message)
    }

    /// Encodes and signs a revocation list.
    pub(crate) fn sign_list(&self, params: &rcgen::CertificateRevocationListParams) -> Result<Vec<u8>, IssueError> {
        match params.signed_by(&self.issuer) {
            Ok(list) => Ok(list.der().to_vec()),
            Err(error) => Err(self.explain(&error)),
        }
    }

    /// The CA's subject key identifier, which RFC 5280 5.2.1 requires in lists.
    pub(crate) fn key_identifier(&self) -> &[u8] {
        &self.key_identifier
    }

    fn explain(&self, error: &rcgen::Error) -> IssueError {
        let failure = self.issuer.key().failure.lock().ok().and_then(|mut failure| failure.take());
        match (error, failure) {
            (rcgen::Error::RemoteKeyError, Some(failure)) => IssueError::Sign(failure),
            _ => IssueError::Encoding(error.to_string()),
        }
    }
}

/// RFC 5280 4.1.2.4: the issuer field of a leaf must equal the CA's subject byte for byte. The encoder stores a name as a map and
/// loses names that an imported CA may have (two organisational units, a multi-valued RDN), so this encodes one and compares.
fn copies_name(der: &CertificateDer<'_>, key: &dyn CaKey, cert: &Certificate<'_>) -> Result<(), CaError> {
    let failed = |error: rcgen::Error| CaError::Name(error.to_string());
    let issuer = Issuer::from_ca_cert_der(der, Unsigned(key)).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.serial_number = Some(1_u64.into());
    let sample = params.signed_by(&Unsigned(key), &issuer).map_err(failed)?;
    let sample = Certificate::read(sample.der())?;
    if sample.issuer() == cert.subject() {
        Ok(())
    } else {
        Err(CaError::Name("use one value for each attribute".to_owned()))
    }
}

/// The fields that the root and the issuing CAs have in common.
fn ca_params(
    domain: &TrustDomain,
    what: &str,
    key: &SubjectKey,
    serial: Serial,
) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(rcgen::SerialNumber::from_slice(serial.as_bytes()));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name(domain, what));
    // SPIFFE X509-SVID 3.1: a signing certificate may name its trust domain, without a path.
    let uri = domain.uri();
    params.subject_alt_names =
        vec![SanType::URI(uri.as_str().try_into().map_err(|e: rcgen::Error| IssueError::Encoding(e.to_string()))?)];
    // RFC 5280 4.2.1.3: required in a CA certificate.
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = Vec::new();
    params.name_constraints = None;
    params.crl_distribution_points = Vec::new();
    params.custom_extensions = Vec::new();
    params.use_authority_key_identifier_extension = true;
    params.key_identifier_method = key_identifier(&key.digest());
    Ok(params)
}

/// `kernel.example machines CA`; a domain too long for a common name is replaced by the start of its hash.
fn common_name(domain: &TrustDomain, what: &str) -> String {
    let plain = format!("{domain} {what} CA");
    if plain.len() <= COMMON_NAME_MAX {
        return plain;
    }
    let hash = KeyDigest::from_spki_der(domain.as_str().as_bytes()).hex();
    format!("{} {what} CA", hash.get(..16).unwrap_or(&hash))
}

fn set_validity(params: &mut CertificateParams, from: UnixTime, until: UnixTime) -> Result<(), IssueError> {
    params.not_before = from.to_datetime().ok_or(IssueError::Date { at: from })?;
    params.not_after = until.to_datetime().ok_or(IssueError::Date { at: until })?;
    Ok(())
}

fn usable(error: impl fmt::Display) -> IssueError {
    IssueError::Ca(error.to_string())
}

/// The root CA of a trust domain. It signs issuing CAs and nothing else.
pub struct Root(pub(crate) CertifiedKey);

impl Root {
    /// Creates a self-signed root, valid for `years`.
    pub fn create(
        domain: &TrustDomain,
        key: Arc<dyn CaKey>,
        serial: Serial,
        now: UnixTime,
        years: u32,
    ) -> Result<Self, IssueError> {
        let subject = SubjectKey::from_raw(key.algorithm(), key.public_key()).map_err(usable)?;
        let mut params = ca_params(domain, "root", &subject, serial)?;
        // RFC 5280 4.2.1.9: path length 1, so one level of CAs below.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        let until = now.plus(Duration::from_secs(u64::from(years) * YEAR));
        set_validity(&mut params, now.minus(BACKDATE), until)?;
        let signer = Signer { key: Arc::clone(&key), failure: Mutex::new(None) };
        let der = params.self_signed(&signer).map_err(|error| {
            let failure = signer.failure.lock().ok().and_then(|mut failure| failure.take());
            failure.map_or_else(|| IssueError::Encoding(error.to_string()), IssueError::Sign)
        })?;
        Self::from_parts(der.der(), key).map_err(usable)
    }

    /// Loads an existing root.
    pub fn from_parts(cert_der: &[u8], key: Arc<dyn CaKey>) -> Result<Self, CaError> {
        crate::anchor::check_root(cert_der)?;
        CertifiedKey::new(cert_der, key).map(Self)
    }

    /// Creates an issuing CA for a role, valid for [`ISSUING_CA_LIFETIME`] or until the root ends, whichever is earlier.
    pub fn issue_ca(
        &self,
        role: Role,
        key: Arc<dyn CaKey>,
        serial: Serial,
        now: UnixTime,
    ) -> Result<IssuingCa, IssueError> {
        let subject = SubjectKey::from_raw(key.algorithm(), key.public_key()).map_err(usable)?;
        let der = self.certify(role, &subject, serial, now.minus(BACKDATE), now)?;
        IssuingCa::from_parts(&der, key).map_err(usable)
    }

    /// As [`Root::issue_ca`], for a key held elsewhere. Returns the certificate in DER.
    pub fn certify_ca(
        &self,
        role: Role,
        key: &SubjectKey,
        serial: Serial,
        now: UnixTime,
    ) -> Result<Vec<u8>, IssueError> {
        self.certify(role, key, serial, now.minus(BACKDATE), now)
    }

    /// Issues a new certificate for an issuing CA with the same key and name, valid for [`ISSUING_CA_LIFETIME`] from now or until
    /// the root ends. Leaves below the old certificate verify with the new one too.
    ///
    /// # Errors
    /// [`IssueError::Ca`] when `old` is not an issuing CA that this root signed, or has fields that ours do not have.
    pub fn renew_ca(&self, old: &[u8], serial: Serial, now: UnixTime) -> Result<Vec<u8>, IssueError> {
        let cert = Certificate::read(old).map_err(usable)?;
        let root = Certificate::read(&self.0.cert_der).map_err(usable)?;
        let [role] = cert.role_markers()[..] else {
            return Err(usable(CaError::NoRole { found: cert.role_markers().len() }));
        };
        if !cert.is_signed_by(&root) {
            return Err(IssueError::Ca(format!("the CA for {} was not signed by this root", role.plural())));
        }
        // Keeps the old notBefore: a leaf must not begin before its issuer.
        let der = self.certify(role, cert.key(), serial, cert.not_before(), now)?;
        check_renewed(&self.0.cert_der, old, &der).map_err(usable)?;
        Ok(der)
    }

    fn certify(
        &self,
        role: Role,
        subject: &SubjectKey,
        serial: Serial,
        from: UnixTime,
        now: UnixTime,
    ) -> Result<Vec<u8>, IssueError> {
        let mut params = ca_params(&self.0.domain, role.plural(), subject, serial)?;
        // RFC 5280 4.2.1.9: path length 0, so only leaves below.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        // RFC 5280 4.2.1.4: the role marker, and anyPolicy, without which policy processing (6.1.3) discards the policies of
        // the leaves.
        params.custom_extensions = vec![CustomExtension::from_oid_content(
            &oid::CERTIFICATE_POLICIES,
            oid::policies(&[&role.oid(), &oid::ANY_POLICY]),
        )];
        let until = now.plus(ISSUING_CA_LIFETIME).min(self.0.not_after);
        set_validity(&mut params, from.max(self.0.not_before), until)?;
        self.0.sign(&params, subject)
    }

    pub(crate) const fn authority(&self) -> &CertifiedKey {
        &self.0
    }

    /// A cross certificate: for the key and name of another root. The caller has checked that it is of the same trust domain.
    pub(crate) fn certify_root(&self, other: &Certificate<'_>, serial: Serial) -> Result<Vec<u8>, IssueError> {
        let mut params = ca_params(&self.0.domain, "root", other.key(), serial)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        let (from, until) = (self.0.not_before.max(other.not_before()), self.0.not_after.min(other.not_after()));
        set_validity(&mut params, from, until)?;
        self.0.sign(&params, other.key())
    }

    /// The certificate.
    #[must_use]
    pub fn cert_der(&self) -> &[u8] {
        &self.0.cert_der
    }

    /// The trust domain.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.0.domain
    }

    /// The pin: the digest of its key.
    #[must_use]
    pub const fn pin(&self) -> KeyDigest {
        self.0.key.digest()
    }

    /// End of its validity.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.0.not_after
    }
}

/// Checks that a certificate is that of an issuing CA which the root signed, and returns its role and trust domain. Validity is not
/// checked.
pub fn check_issuing(root: &[u8], der: &[u8]) -> Result<(Role, TrustDomain), CaError> {
    let (root, cert) = (crate::anchor::check_root(root)?, Certificate::read(der)?);
    cert.check_anchor_or_issuer()?;
    if !cert.is_signed_by(&root) {
        return Err(CaError::OtherRoot);
    }
    let [role] = cert.role_markers()[..] else {
        return Err(CaError::NoRole { found: cert.role_markers().len() });
    };
    Ok((role, cert.ca_domain().ok_or(CaError::NoDomain)?))
}

/// Checks that a CA's certificate may replace an older one: signed by the root, with a later end, and with the same role, key, name
/// and key identifier, so that leaves below the older one verify with it too.
pub fn check_renewed(root: &[u8], old: &[u8], new: &[u8]) -> Result<(), CaError> {
    let root = crate::anchor::check_root(root)?;
    let (old, new) = (Certificate::read(old)?, Certificate::read(new)?);
    new.check_anchor_or_issuer()?;
    let refuse = |why| Err(CaError::NotItsRenewal { why });
    if !new.is_signed_by(&root) {
        return refuse("the root did not sign it");
    }
    if new.role_markers() != old.role_markers() {
        return refuse("it is for another role");
    }
    if new.key() != old.key() {
        return refuse("it is for another key");
    }
    // RFC 5280 4.1.2.4, 4.2.1.1: every leaf contains both.
    if new.subject() != old.subject() || new.subject_key_identifier() != old.subject_key_identifier() {
        return refuse("its name or key identifier is another one, so no leaf would lead to it");
    }
    if new.not_after() <= old.not_after() {
        return refuse("it ends no later");
    }
    Ok(())
}

/// Fields of a CA's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaInfo {
    /// The role of the leaves it signs; `None` for a root.
    pub role: Option<Role>,
    /// Its serial.
    pub serial: String,
    /// The digest of its key.
    pub key: KeyDigest,
    /// Start of its validity.
    pub not_before: UnixTime,
    /// End of its validity.
    pub not_after: UnixTime,
}

/// Reads a CA's certificate. Validity is not checked.
pub fn ca_info(der: &[u8]) -> Result<CaInfo, CertFault> {
    let cert = Certificate::read(der)?;
    Ok(CaInfo {
        role: cert.role_markers().first().copied(),
        serial: cert.serial().map_or_else(|| "?".to_owned(), |serial| serial.hex()),
        key: cert.key().digest(),
        not_before: cert.not_before(),
        not_after: cert.not_after(),
    })
}

/// The CA that signs the leaves of one role.
pub struct IssuingCa {
    authority: CertifiedKey,
    role: Role,
}

impl IssuingCa {
    /// Loads an existing issuing CA. The certificate is parsed here once, and not again for each leaf.
    pub fn from_parts(cert_der: &[u8], key: Arc<dyn CaKey>) -> Result<Self, CaError> {
        let roles = Certificate::read(cert_der)?.role_markers();
        let [role] = roles.as_slice() else {
            return Err(CaError::NoRole { found: roles.len() });
        };
        Ok(Self { authority: CertifiedKey::new(cert_der, key)?, role: *role })
    }

    /// The role of the leaves it signs.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The certificate.
    #[must_use]
    pub fn cert_der(&self) -> &[u8] {
        &self.authority.cert_der
    }

    /// The trust domain.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.authority.domain
    }

    /// Start of its validity.
    #[must_use]
    pub const fn not_before(&self) -> UnixTime {
        self.authority.not_before
    }

    /// End of its validity.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.authority.not_after
    }

    /// The digest of its key.
    #[must_use]
    pub const fn key_digest(&self) -> KeyDigest {
        self.authority.key.digest()
    }

    pub(crate) const fn authority(&self) -> &CertifiedKey {
        &self.authority
    }

    /// For tests that sign certificates outside our profiles.
    #[cfg(test)]
    pub(crate) fn into_authority(self) -> CertifiedKey {
        self.authority
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root({} {})", self.0.domain, self.0.key.digest())
    }
}

impl fmt::Debug for IssuingCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuingCa({} {} {})", self.role, self.authority.domain, self.authority.key.digest())
    }
}

impl Role {
    const fn number(self) -> u8 {
        match self {
            Self::Machine => 1,
            Self::Person => 2,
            Self::Gateway => 3,
        }
    }

    /// The policy identifier that marks the role's issuing CA.
    pub(crate) const fn oid(self) -> [u8; oid::LEN] {
        oid::ours(oid::ROLE, self.number())
    }

    pub(crate) fn from_oid(content: &[u8]) -> Option<Self> {
        let number = oid::value_under(oid::ROLE, content)?;
        Self::ALL.into_iter().find(|role| role.number() == number)
    }
}

#[cfg(test)]
mod tests;
