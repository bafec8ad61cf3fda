//! A key of a TPM in a file (TPMKey of the ASN.1 Specification for TPM 2.0 Key Files), which OpenSSL's providers for TPMs read too. The
//! private part is encrypted by the TPM: nothing else can use it.
//!
//! Of what the specification allows one form is read and written: a loadable key without a password and without a policy, below the
//! storage key of [`crate::template::storage_key`].

use thiserror::Error;

use crate::codec::{self, Writer};
use crate::command::{Created, PRIVATE_MAX};
use crate::der::{self, OID, SEQUENCE};
use crate::public::{IdentityKey, PUBLIC_MAX, Public};

/// The label of such a file in PEM.
pub const LABEL: &str = "TSS2 PRIVATE KEY";

/// id-loadablekey, 2.23.133.10.1.3.
const LOADABLE_KEY: &[u8] = &[0x67, 0x81, 0x05, 0x0a, 0x01, 0x03];
/// emptyAuth, [0] EXPLICIT BOOLEAN, which is true.
const EMPTY_AUTH: &[u8] = &[0xa0, 3, 1, 1, 0xff];
/// The parent, an INTEGER: TPM_RH_OWNER.
const PARENT: &[u8] = &[2, 4, 0x40, 0, 0, 1];
/// OCTET STRING.
const OCTETS: u8 = 0x04;

/// An identity key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    key: Created,
    point: Vec<u8>,
}

/// Why bytes are no key of ours.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants mean")]
pub enum KeyFileError {
    #[error("it is not a TPM's key without a password below the storage key")]
    Form,
    #[error("the TPM's key in it is not one on P-256 for signatures that stays in its TPM")]
    Key,
}

impl KeyFile {
    /// The key that a TPM made.
    pub fn new(key: Created) -> Result<Self, KeyFileError> {
        let public = Public::parse(&key.public).map_err(|_| KeyFileError::Key)?;
        let public = IdentityKey::check(public).map_err(|_| KeyFileError::Key)?;
        let point = public.public().key().p256_point().ok_or(KeyFileError::Key)?;
        Ok(Self { key, point })
    }

    /// Reads its DER.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyFileError> {
        let form = || KeyFileError::Form;
        let content = der::only(bytes, SEQUENCE).ok_or_else(form)?;
        let (oid, rest) = der::read(content, OID).ok_or_else(form)?;
        let rest = rest.strip_prefix(EMPTY_AUTH).and_then(|rest| rest.strip_prefix(PARENT)).ok_or_else(form)?;
        let (public, rest) = der::read(rest, OCTETS).ok_or_else(form)?;
        let private = der::only(rest, OCTETS).ok_or_else(form)?;
        if oid != LOADABLE_KEY {
            return Err(form());
        }
        let inner =
            |field, bytes, most| codec::unwrap_sized(field, bytes, most).map(<[u8]>::to_vec).map_err(|_| form());
        let public = inner("TPM2B_PUBLIC", public, PUBLIC_MAX)?;
        Self::new(Created { public, private: inner("TPM2B_PRIVATE", private, PRIVATE_MAX)? })
    }

    /// Its DER.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        let octets = |bytes: &[u8]| {
            let mut sized = Writer::default();
            // Both came with such a size.
            let size = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
            sized.u16(size).bytes(bytes);
            der::tlv(OCTETS, &[&sized.finish()])
        };
        let (public, private) = (octets(&self.key.public), octets(&self.key.private));
        der::tlv(SEQUENCE, &[&der::tlv(OID, &[LOADABLE_KEY]), EMPTY_AUTH, PARENT, &public, &private])
    }

    /// What the TPM made.
    #[must_use]
    pub const fn key(&self) -> &Created {
        &self.key
    }

    /// Its public point: 0x04 and two coordinates.
    #[must_use]
    pub fn point(&self) -> &[u8] {
        &self.point
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template;

    /// A public area from this template with a point.
    fn made(template: Vec<u8>) -> Created {
        let head = &template[..template.len() - 4];
        let public = [head, &[0, 32], &[7; 32], &[0, 32], &[9; 32]].concat();
        Created { public, private: vec![5; 126] }
    }

    #[test]
    fn what_is_written_is_read() {
        let key = KeyFile::new(made(template::identity_key().unwrap())).unwrap();
        assert_eq!(key.point(), [&[4][..], &[7; 32], &[9; 32]].concat());
        let der = key.der();
        assert_eq!(KeyFile::parse(&der).unwrap(), key);
        let head = "3081f006066781050a0103a0030101ff02044000000104580056";
        assert_eq!(hex::encode(&der[..head.len() / 2]), head);
    }

    #[test]
    fn other_keys_are_refused() {
        // A storage key does not sign; an AK signs nothing that others give it.
        for template in [template::storage_key(), template::AkTemplate::P256.encode()] {
            assert_eq!(KeyFile::new(made(template.unwrap())), Err(KeyFileError::Key));
        }
        let der = KeyFile::new(made(template::identity_key().unwrap())).unwrap().der();
        for at in [0, 4, 10, 14, 17, 20, 24, 25] {
            let mut other = der.clone();
            other[at] ^= 1;
            assert!(KeyFile::parse(&other).is_err(), "byte {at}");
        }
        for len in 0..der.len() {
            assert_eq!(KeyFile::parse(&der[..len]), Err(KeyFileError::Form), "{len}");
        }
        assert_eq!(KeyFile::parse(&[&der[..], &[0]].concat()), Err(KeyFileError::Form));
    }
}
