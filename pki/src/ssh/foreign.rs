//! OpenSSH certificates of other CAs (OpenSSH's PROTOCOL.certkeys, version 01), read from the bytes that came, over which their
//! signature is checked. The `ssh-key` crate does not read all that OpenSSH makes: it refuses validity without an end.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use super::key::{SHA1, SshKey, SshKeyError, read_string};
use super::{SSH_PRINCIPALS_MAX, SshKind, string};
use crate::shown::is_deceptive;
use crate::time::UnixTime;

/// What the name of a certificate's algorithm adds to that of its key.
const SUFFIX: &str = "-cert-v01@openssh.com";

/// Longest key id and principal, in bytes: a DNS name has 253 at most, OpenSSH's own tools write key ids of a few dozen.
const TEXT_MAX: usize = 255;

/// Why a certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum ForeignSshError {
    #[error("it is not an OpenSSH certificate: {0}")]
    Unreadable(&'static str),
    #[error("the key in it cannot be used: {0}")]
    Key(SshKeyError),
    #[error("the key of its CA cannot be used: {0}")]
    Ca(SshKeyError),
    /// RFC 8332 3.
    #[error("its CA signed it with `ssh-rsa`, which means SHA-1; sign it again with `ssh-keygen -t rsa-sha2-512`")]
    Sha1,
    #[error("the signature in it is not by the CA that it names")]
    Signature,
}

/// A certificate that the CA in it has signed. It does not establish who that CA is: the reader compares [`Self::ca`].
#[derive(Clone, Debug)]
pub struct ForeignSshCertificate {
    /// The certified key.
    pub key: SshKey,
    /// Host or user.
    pub kind: SshKind,
    /// The key id.
    pub key_id: String,
    /// Host names or login names; valid for every name if empty.
    pub principals: Vec<String>,
    /// First second of validity.
    pub valid_after: UnixTime,
    /// First second after its validity; the greatest number if it does not end.
    pub valid_before: UnixTime,
    /// Names of the critical options: a reader that does not know one must refuse.
    pub critical_options: Vec<String>,
    /// The key of the CA.
    pub ca: SshKey,
}

impl ForeignSshCertificate {
    /// Whether a line is that of a `-cert.pub` file.
    #[must_use]
    pub fn is_line(line: &str) -> bool {
        line.split_whitespace().next().is_some_and(|algorithm| algorithm.ends_with(SUFFIX))
    }

    /// Reads the line of a `-cert.pub` file, and checks its signature.
    pub fn parse(line: &str) -> Result<Self, ForeignSshError> {
        let mut words = line.split_whitespace();
        let (Some(algorithm), Some(base64)) = (words.next(), words.next()) else {
            return Err(ForeignSshError::Unreadable("it is not a line of a `-cert.pub` file"));
        };
        let bytes = STANDARD.decode(base64).map_err(|_| ForeignSshError::Unreadable("it is not base64"))?;
        Self::from_bytes(algorithm, &bytes)
    }

    fn from_bytes(algorithm: &str, bytes: &[u8]) -> Result<Self, ForeignSshError> {
        let mut fields = Fields(bytes);
        if fields.string()? != algorithm.as_bytes() {
            return Err(ForeignSshError::Unreadable("it is of another algorithm than the line says"));
        }
        let key_algorithm =
            algorithm.strip_suffix(SUFFIX).ok_or(ForeignSshError::Unreadable("it is of no version 01"))?;
        let _nonce = fields.string()?;
        let key = fields.key(key_algorithm)?;
        let _serial = fields.u64()?;
        let kind = match fields.u32()? {
            1 => SshKind::User,
            2 => SshKind::Host,
            _ => return Err(ForeignSshError::Unreadable("it is for neither hosts nor users")),
        };
        let key_id = text(fields.string()?)?;
        let principals = list(fields.string()?)?;
        let (valid_after, valid_before) = (UnixTime::new(fields.u64()?), UnixTime::new(fields.u64()?));
        let critical_options = options(fields.string()?)?;
        // What no reader needs to know.
        let (_extensions, _reserved) = (fields.string()?, fields.string()?);
        let ca = SshKey::from_blob(fields.string()?).map_err(ForeignSshError::Ca)?;
        let signed = bytes.get(..bytes.len() - fields.0.len()).unwrap_or_default();
        let signature = fields.string()?;
        if !fields.0.is_empty() {
            return Err(ForeignSshError::Unreadable("bytes follow its signature"));
        }
        if Fields(signature).string()? == SHA1.as_bytes() {
            return Err(ForeignSshError::Sha1);
        }
        ca.verify_blob(signed, signature).map_err(|_| ForeignSshError::Signature)?;
        Ok(Self { key, kind, key_id, principals, valid_after, valid_before, critical_options, ca })
    }
}

/// What is left to read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn string(&mut self) -> Result<&'a [u8], ForeignSshError> {
        let (text, rest) = read_string(self.0).ok_or(ForeignSshError::Unreadable("it ends too early"))?;
        self.0 = rest;
        Ok(text)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], ForeignSshError> {
        let (number, rest) = self.0.split_first_chunk().ok_or(ForeignSshError::Unreadable("it ends too early"))?;
        self.0 = rest;
        Ok(*number)
    }

    fn u32(&mut self) -> Result<u32, ForeignSshError> {
        self.number().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, ForeignSshError> {
        self.number().map(u64::from_be_bytes)
    }

    /// The certified key: the fields that follow the algorithm's name in a key of this algorithm.
    fn key(&mut self, algorithm: &str) -> Result<SshKey, ForeignSshError> {
        let fields = match algorithm {
            "ssh-ed25519" => 1,
            "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521" | "ssh-rsa" => 2,
            other => {
                let found = other.chars().take(TEXT_MAX).collect();
                return Err(ForeignSshError::Key(SshKeyError::Unsupported { found }));
            }
        };
        let mut blob = Vec::new();
        string(&mut blob, algorithm.as_bytes());
        for _ in 0..fields {
            string(&mut blob, self.string()?);
        }
        SshKey::from_blob(&blob).map_err(ForeignSshError::Key)
    }
}

fn text(bytes: &[u8]) -> Result<String, ForeignSshError> {
    let text =
        String::from_utf8(bytes.to_vec()).map_err(|_| ForeignSshError::Unreadable("a text in it is not UTF-8"))?;
    if text.len() > TEXT_MAX || text.chars().any(is_deceptive) {
        return Err(ForeignSshError::Unreadable(
            "a text in it has control or hidden characters, or more than 255 bytes",
        ));
    }
    Ok(text)
}

/// The strings in a string.
fn list(bytes: &[u8]) -> Result<Vec<String>, ForeignSshError> {
    let (mut fields, mut all) = (Fields(bytes), Vec::new());
    while !fields.0.is_empty() {
        if all.len() == SSH_PRINCIPALS_MAX {
            return Err(ForeignSshError::Unreadable("it has more than 256 principals"));
        }
        all.push(text(fields.string()?)?);
    }
    Ok(all)
}

/// The names of options, each followed by its value.
fn options(bytes: &[u8]) -> Result<Vec<String>, ForeignSshError> {
    let (mut fields, mut names) = (Fields(bytes), Vec::new());
    while !fields.0.is_empty() {
        names.push(text(fields.string()?)?);
        let _value = fields.string()?;
    }
    Ok(names)
}
