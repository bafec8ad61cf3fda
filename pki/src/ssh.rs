//! OpenSSH certificates (OpenSSH's PROTOCOL.certkeys, version 01) for hosts and users.
//!
//! [`SshDraft::host`] or [`SshDraft::user`] fills in and checks every field, [`SshDraft::issue`] signs. Only the public key comes
//! from the requester, and [`SshKey::verify`] checks the proof of its possession. Hosts and users have separate CAs, so that a
//! host's certificate can never be used to log in.
//!
//! The `ssh-key` crate parses keys, signatures and certificates. Encoding is done here, one line for each field of the protocol.

mod foreign;
mod key;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

pub use foreign::{ForeignSshCertificate, ForeignSshError};
pub use key::{BadSshSignature, SshKey, SshKeyError};

use crate::key::{CaKey, KeyError, SignError};
use crate::name::{Identity, Role};
use crate::profile::BACKDATE;
use crate::time::UnixTime;

/// Most principals in one certificate: OpenSSH reads no more (SSHKEY_CERT_MAX_PRINCIPALS).
pub const SSH_PRINCIPALS_MAX: usize = 256;
/// Longest principal, in bytes: twice the longest name.
pub const SSH_PRINCIPAL_MAX: usize = 128;
/// Length of the nonce in bytes, the same as OpenSSH's.
const NONCE: usize = 32;
/// The default extensions of `ssh-keygen` for user certificates, in lexical order as PROTOCOL.certkeys requires.
const USER_EXTENSIONS: [&str; 5] =
    ["permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc"];

/// The certificate type, with the numbers of PROTOCOL.certkeys.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SshKind {
    /// For logging in.
    User,
    /// For an SSH server.
    Host,
}

impl SshKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::User, Self::Host];

    /// `user` or `host`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Host => "host",
        }
    }

    const fn number(self) -> u32 {
        match self {
            Self::User => 1,
            Self::Host => 2,
        }
    }

    /// The role whose members get such certificates.
    const fn role(self) -> Role {
        match self {
            Self::User => Role::Person,
            Self::Host => Role::Machine,
        }
    }
}

impl fmt::Display for SshKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an SSH certificate is not issued.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum SshError {
    #[error("a {kind} certificate cannot be for `{identity}`")]
    Role { kind: SshKind, identity: String },
    /// OpenSSH accepts a certificate without principals for every name.
    #[error("an SSH certificate needs between 1 and {SSH_PRINCIPALS_MAX} principals, not {found}")]
    Principals { found: usize },
    #[error("`{principal}` cannot be a principal")]
    Principal { principal: String },
    #[error("the certificate would end before it begins")]
    Over,
    #[error("the SSH CA for {ca} certificates does not sign {kind} certificates")]
    WrongCa { ca: SshKind, kind: SshKind },
    #[error("{found} keys cannot sign SSH certificates here; use Ed25519, P-256 or P-384")]
    CaAlgorithm { found: String },
    #[error("the SSH CA key is not usable: {0}")]
    CaKey(#[from] KeyError),
    #[error("the SSH CA key signs, but not for the public key it shows")]
    CaMismatch,
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("the SSH certificate cannot be encoded: {0}")]
    Encoding(String),
}

/// A CA for one kind of SSH certificate.
pub struct SshCa {
    kind: SshKind,
    key: Arc<dyn CaKey>,
    public: SshKey,
}

impl fmt::Debug for SshCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SshCa({} {})", self.kind, self.public.fingerprint())
    }
}

impl SshCa {
    /// Checks by a test signature that the private key matches the public one.
    pub fn new(kind: SshKind, key: Arc<dyn CaKey>) -> Result<Self, SshError> {
        const PROBE: &[u8] = b"lychgate: does this key belong to itself?";
        let public = SshKey::of_ca(key.as_ref())?;
        let signature = key::sign(key.as_ref(), PROBE)?;
        public.verify_blob(PROBE, &signature).map_err(|_| SshError::CaMismatch)?;
        Ok(Self { kind, key, public })
    }

    /// The only kind of certificate that it signs.
    #[must_use]
    pub const fn kind(&self) -> SshKind {
        self.kind
    }

    /// Its public key.
    #[must_use]
    pub const fn public(&self) -> &SshKey {
        &self.public
    }
}

/// An unsigned certificate whose fields are checked.
#[derive(Clone, Debug)]
#[must_use = "a draft that is not issued does nothing"]
pub struct SshDraft {
    kind: SshKind,
    key: SshKey,
    serial: u64,
    key_id: String,
    principals: Vec<String>,
    valid_after: UnixTime,
    valid_before: UnixTime,
}

/// A signed certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshIssued {
    /// The line of a `-cert.pub` file, without newline.
    pub line: String,
    /// The serial number.
    pub serial: u64,
}

impl SshDraft {
    /// A host certificate for a machine, with its name and its DNS name as principals, until `until` (exclusive).
    pub fn host(
        key: SshKey,
        identity: &Identity,
        until: UnixTime,
        entropy: [u8; 8],
        now: UnixTime,
    ) -> Result<Self, SshError> {
        let names = vec![identity.name.as_str().to_owned(), identity.dns_name()];
        Self::new(SshKind::Host, key, identity, names, until, entropy, now)
    }

    /// A user certificate for a person who may log in under `principals`, until `until` (exclusive).
    pub fn user(
        key: SshKey,
        identity: &Identity,
        principals: Vec<String>,
        until: UnixTime,
        entropy: [u8; 8],
        now: UnixTime,
    ) -> Result<Self, SshError> {
        Self::new(SshKind::User, key, identity, principals, until, entropy, now)
    }

    fn new(
        kind: SshKind,
        key: SshKey,
        identity: &Identity,
        principals: Vec<String>,
        until: UnixTime,
        entropy: [u8; 8],
        now: UnixTime,
    ) -> Result<Self, SshError> {
        if identity.role != kind.role() {
            return Err(SshError::Role { kind, identity: identity.to_string() });
        }
        if !(1..=SSH_PRINCIPALS_MAX).contains(&principals.len()) {
            return Err(SshError::Principals { found: principals.len() });
        }
        if let Some(bad) = principals.iter().find(|principal| !is_principal(principal)) {
            return Err(SshError::Principal { principal: bad.clone() });
        }
        if until <= now {
            return Err(SshError::Over);
        }
        // Zero means that the CA does not number its certificates (PROTOCOL.certkeys).
        let serial = u64::from_be_bytes(entropy).max(1);
        // sshd logs the key id at every login.
        let key_id = format!("{identity}#{serial:016x}");
        Ok(Self { kind, key, serial, key_id, principals, valid_after: now.minus(BACKDATE), valid_before: until })
    }

    /// Host or user.
    #[must_use]
    pub const fn kind(&self) -> SshKind {
        self.kind
    }

    /// The serial number.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// The key id: the holder's SPIFFE ID, `#`, and the serial in hex.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Login names or host names.
    #[must_use]
    pub fn principals(&self) -> &[String] {
        &self.principals
    }

    /// The certified key.
    #[must_use]
    pub const fn key(&self) -> &SshKey {
        &self.key
    }

    /// First second of validity.
    #[must_use]
    pub const fn valid_after(&self) -> UnixTime {
        self.valid_after
    }

    /// First second after its validity.
    #[must_use]
    pub const fn valid_before(&self) -> UnixTime {
        self.valid_before
    }

    /// Encodes and signs.
    pub fn issue(self, ca: &SshCa, nonce: [u8; NONCE]) -> Result<SshIssued, SshError> {
        if ca.kind != self.kind {
            return Err(SshError::WrongCa { ca: ca.kind, kind: self.kind });
        }
        let mut bytes = self.to_be_signed(ca, &nonce);
        let signature = key::sign(ca.key.as_ref(), &bytes)?;
        string(&mut bytes, &signature);
        // Parse the result: a certificate that the `ssh-key` crate cannot read is not issued.
        let unreadable = |error: ssh_key::Error| SshError::Encoding(error.to_string());
        let line = ssh_key::Certificate::from_bytes(&bytes).and_then(|cert| cert.to_openssh()).map_err(unreadable)?;
        Ok(SshIssued { line, serial: self.serial })
    }

    /// PROTOCOL.certkeys, "New public key formats": every field up to the signature, in its order.
    fn to_be_signed(&self, ca: &SshCa, nonce: &[u8; NONCE]) -> Vec<u8> {
        let mut out = Vec::new();
        string(&mut out, format!("{}-cert-v01@openssh.com", self.key.algorithm()).as_bytes());
        string(&mut out, nonce);
        out.extend_from_slice(self.key.fields());
        out.extend_from_slice(&self.serial.to_be_bytes());
        out.extend_from_slice(&self.kind.number().to_be_bytes());
        string(&mut out, self.key_id.as_bytes());
        let mut principals = Vec::new();
        self.principals.iter().for_each(|principal| string(&mut principals, principal.as_bytes()));
        string(&mut out, &principals);
        out.extend_from_slice(&self.valid_after.secs().to_be_bytes());
        out.extend_from_slice(&self.valid_before.secs().to_be_bytes());
        // Critical options: none.
        string(&mut out, b"");
        let mut extensions = Vec::new();
        if self.kind == SshKind::User {
            for name in USER_EXTENSIONS {
                string(&mut extensions, name.as_bytes());
                string(&mut extensions, b"");
            }
        }
        string(&mut out, &extensions);
        // Reserved.
        string(&mut out, b"");
        string(&mut out, ca.public.blob());
        out
    }
}

/// Letters, digits, `_`, `-`, `.` and `@`, not starting with `-`: valid as login name and as host name on every system.
fn is_principal(text: &str) -> bool {
    let ours = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@".contains(&byte);
    (1..=SSH_PRINCIPAL_MAX).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(ours)
}

/// RFC 4251 5, `string`: a length of four bytes, then the bytes. The lengths here are far below 2^32.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Why a certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum SshCertError {
    #[error("it is not an OpenSSH certificate: {0}")]
    Unreadable(String),
    #[error("it is not signed by this SSH CA")]
    NotByThisCa,
}

/// A certificate that was parsed and is not trusted yet.
#[derive(Clone, Debug)]
pub struct SshCertificate(ssh_key::Certificate);

impl SshCertificate {
    /// Reads the line of a `-cert.pub` file.
    pub fn parse(line: &str) -> Result<Self, SshCertError> {
        ssh_key::Certificate::from_openssh(line.trim())
            .map(Self)
            .map_err(|error| SshCertError::Unreadable(error.to_string()))
    }

    /// The line of a `-cert.pub` file, without comment and newline.
    #[must_use]
    pub fn line(&self) -> String {
        // Cannot fail: the certificate was parsed from this form.
        let text = self.0.to_openssh().unwrap_or_default();
        text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// Checks the signature by a CA's public key. Validity and principals are not checked.
    pub fn check_signed_by(&self, ca: &SshKey) -> Result<(), SshCertError> {
        let other = |_| SshCertError::NotByThisCa;
        let unreadable = |error: ssh_key::Error| SshCertError::Unreadable(error.to_string());
        let signer = ssh_key::PublicKey::from(self.0.signature_key().clone()).to_bytes().map_err(unreadable)?;
        let signature = Vec::<u8>::try_from(self.0.signature().clone()).map_err(unreadable)?;
        let whole = self.0.to_bytes().map_err(unreadable)?;
        // The signature is the last string; the bytes before its length are what was signed.
        let signed = whole.len().checked_sub(signature.len() + 4).and_then(|end| whole.get(..end));
        let signed = signed.ok_or(SshCertError::NotByThisCa)?;
        if signer != ca.blob() {
            return Err(SshCertError::NotByThisCa);
        }
        ca.verify_blob(signed, &signature).map_err(other)
    }

    /// Whether it certifies this key.
    #[must_use]
    pub fn certifies(&self, key: &SshKey) -> bool {
        let certified = ssh_key::PublicKey::from(self.0.public_key().clone()).to_bytes();
        certified.is_ok_and(|blob| blob == key.blob())
    }

    /// Host or user.
    #[must_use]
    pub fn kind(&self) -> SshKind {
        match self.0.cert_type() {
            ssh_key::certificate::CertType::User => SshKind::User,
            ssh_key::certificate::CertType::Host => SshKind::Host,
        }
    }

    /// The serial number.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.0.serial()
    }

    /// The key id.
    #[must_use]
    pub fn key_id(&self) -> &str {
        self.0.key_id()
    }

    /// Login names or host names.
    #[must_use]
    pub fn principals(&self) -> &[String] {
        self.0.valid_principals()
    }

    /// First second of validity.
    #[must_use]
    pub fn valid_after(&self) -> UnixTime {
        UnixTime::new(self.0.valid_after())
    }

    /// First second after its validity.
    #[must_use]
    pub fn valid_before(&self) -> UnixTime {
        UnixTime::new(self.0.valid_before())
    }
}
