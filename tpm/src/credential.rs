//! TPM2_MakeCredential without a TPM (part 1, 24): a secret that only the TPM with this EK can open, and only while it
//! holds the key with this name.
//!
//! The certificate of the EK must be checked elsewhere: whoever has the private part of some key opens what is made for
//! it.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::cipher::{EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{rand, rsa};
use thiserror::Error;

use crate::algorithm::{AesBits, Curve, HashAlgorithm};
use crate::codec::{CodecError, Writer};
use crate::kdf::{kdfa, kdfe};
use crate::public::{Ek, Name, PublicKey};

/// Longest content of a TPM2B_ID_OBJECT, in bytes: a digest and a secret of SHA-512, each with its size.
pub const ID_OBJECT_MAX: usize = 2 * (2 + 64);
/// Longest content of a TPM2B_ENCRYPTED_SECRET, in bytes: what an RSA-4096 key encrypts to.
pub const SECRET_MAX: usize = 512;

/// What is sent to the TPM, for TPM2_ActivateCredential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// A TPM2B_ID_OBJECT: the secret, encrypted, and what proves its integrity.
    pub id_object: Vec<u8>,
    /// A TPM2B_ENCRYPTED_SECRET: from what the EK derives the keys for it.
    pub encrypted_secret: Vec<u8>,
}

/// Why no credential is made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum CredentialError {
    #[error("the secret has {found} bytes and must have 1 to {most}")]
    SecretLength { found: usize, most: usize },
    #[error("the point of the EK does not lie on its curve")]
    Point,
    #[error("the crypto library refuses the EK")]
    Library,
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Makes a credential for the key with this name beside this EK. The secret is at most as long as a digest of the EK's
/// name algorithm: some TPMs open longer ones and others do not.
///
/// This is the one place of the crate that draws random bytes: the seed and the padding of RSA, or the ephemeral key of
/// ECC. The crypto library pads with its own, so they cannot all be arguments.
pub fn make_credential(ek: &Ek, name: &Name, secret: &[u8]) -> Result<Credential, CredentialError> {
    let hash = ek.public().area().name_algorithm;
    let most = hash.digest_len();
    if secret.is_empty() || secret.len() > most {
        return Err(CredentialError::SecretLength { found: secret.len(), most });
    }
    let (seed, exchange) = match ek.public().key() {
        key @ PublicKey::Rsa { .. } => {
            let mut seed = vec![0; hash.digest_len()];
            rand::fill(&mut seed).map_err(|_| CredentialError::Library)?;
            let exchange = rsa_exchange(key, hash, IDENTITY, &seed)?;
            (seed, exchange)
        }
        key @ PublicKey::Ecc { curve, .. } => {
            let ephemeral = PrivateKey::generate(curve.agreement()).map_err(|_| CredentialError::Library)?;
            ecc_exchange(key, *curve, hash, IDENTITY, &ephemeral)?
        }
    };
    let id_object = seal(hash, ek.symmetric(), &seed, name, secret)?;
    let mut encrypted_secret = Writer::default();
    encrypted_secret.sized("secret", &exchange)?;
    Ok(Credential { id_object, encrypted_secret: encrypted_secret.finish() })
}

/// What seeds of credentials are called. With OAEP the zero at its end belongs to it, too.
const IDENTITY: &str = "IDENTITY";

/// Encrypts a seed for an RSA key (part 1, B.10.3).
fn rsa_exchange(key: &PublicKey, hash: HashAlgorithm, label: &str, seed: &[u8]) -> Result<Vec<u8>, CredentialError> {
    let refused = |_| CredentialError::Library;
    let key = rsa::PublicEncryptingKey::from_der(&key.spki_der()).map_err(|_| CredentialError::Library)?;
    let key = rsa::OaepPublicEncryptingKey::new(key).map_err(refused)?;
    let mut encrypted = vec![0; key.ciphertext_size()];
    let label = [label.as_bytes(), &[0]].concat();
    let written = key.encrypt(hash.oaep(), seed, &mut encrypted, Some(&label)).map_err(refused)?.len();
    encrypted.truncate(written);
    Ok(encrypted)
}

/// Agrees on a seed with an ECC key: the seed, and the ephemeral point as TPMS_ECC_POINT (part 1, C.6.1).
fn ecc_exchange(
    key: &PublicKey,
    curve: Curve,
    hash: HashAlgorithm,
    label: &str,
    ephemeral: &PrivateKey,
) -> Result<(Vec<u8>, Vec<u8>), CredentialError> {
    let point = key.library_form();
    let sent = ephemeral.compute_public_key().map_err(|_| CredentialError::Library)?;
    let coordinates = |point: &[u8]| {
        let (x, y) = point.get(1..)?.split_at_checked(curve.coordinate_len())?;
        Some((x.to_vec(), y.to_vec()))
    };
    let (x, y) = coordinates(sent.as_ref()).ok_or(CredentialError::Library)?;
    let (own_x, _) = coordinates(&point).ok_or(CredentialError::Point)?;
    let peer = UnparsedPublicKey::new(curve.agreement(), point);
    let seed = agreement::agree(ephemeral, peer, CredentialError::Point, |z| {
        Ok(kdfe(hash, z, label, &x, &own_x, bits(hash)))
    })?;
    let mut exchange = Writer::default();
    exchange.sized("x", &x)?.sized("y", &y)?;
    Ok((seed, exchange.finish()))
}

/// Bits in a digest.
const fn bits(hash: HashAlgorithm) -> u16 {
    match hash {
        HashAlgorithm::Sha256 => 256,
        HashAlgorithm::Sha384 => 384,
        HashAlgorithm::Sha512 => 512,
    }
}

/// The TPM2B_ID_OBJECT (part 1, 24.4 and 24.5).
fn seal(
    hash: HashAlgorithm,
    symmetric: AesBits,
    seed: &[u8],
    name: &Name,
    secret: &[u8],
) -> Result<Vec<u8>, CredentialError> {
    let name = name.bytes();
    let mut identity = Writer::default();
    identity.sized("credential", secret)?;
    let mut identity = identity.finish();
    encrypt(symmetric, &kdfa(hash, seed, "STORAGE", &name, &[], symmetric.bits()), &mut identity)?;
    let integrity = hash.hmac(&kdfa(hash, seed, "INTEGRITY", &[], &[], bits(hash)), &[&identity, &name]);
    let mut body = Writer::default();
    body.sized("integrityHMAC", &integrity)?.bytes(&identity);
    let mut id_object = Writer::default();
    id_object.sized("credential", &body.finish())?;
    Ok(id_object.finish())
}

/// AES in CFB mode from an IV of zeros: the key is used once.
fn encrypt(symmetric: AesBits, key: &[u8], bytes: &mut [u8]) -> Result<(), CredentialError> {
    let key = UnboundCipherKey::new(symmetric.algorithm(), key).and_then(EncryptingKey::cfb128);
    let context = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    let done = key.and_then(|key| key.less_safe_encrypt(bytes, context));
    done.map(|_| ()).map_err(|_| CredentialError::Library)
}

#[cfg(test)]
mod tests;
