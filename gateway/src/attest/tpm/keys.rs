//! The keys in a TPM's evidence, and what is kept of them between the two rounds.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::KeyDigest;
use tpm::{Ak, Ek, IdentityKey, Public, public::PUBLIC_MAX};
use wire::evidence::{TPM_NONCE_LEN, TpmEvidence};

use super::reject::{ak_unsound, ek_unsound, malformed, not_certified};
use crate::core::evidence::{ENTROPY_LEN, Reject};

/// Length of the secret, in bytes: no longer than any digest by which a key is named.
const SECRET_LEN: usize = 32;

/// Length of the digest of the keys, in bytes.
const DIGEST_LEN: usize = 32;

/// Bytes of a message: base64, standard alphabet, padded.
pub(super) fn decoded(text: &str) -> Result<Vec<u8>, Reject> {
    STANDARD.decode(text).map_err(|_| malformed("what should be base64 is not"))
}

pub(super) fn encoded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The keys, each of which is what it must be.
pub(super) struct TpmKeys {
    pub(super) ek: Ek,
    pub(super) ak: Ak,
    /// The key to be certified, if it is in the TPM.
    pub(super) inside: Option<IdentityKey>,
}

impl TpmKeys {
    pub(super) fn read(body: &TpmEvidence, for_key: &KeyDigest) -> Result<Self, Reject> {
        let ek = Ek::check(public(&body.ek, ek_unsound)?).map_err(|error| ek_unsound(&error.to_string()))?;
        let ak = Ak::check(public(&body.ak, ak_unsound)?).map_err(|error| ak_unsound(&error.to_string()))?;
        let inside = body.key.as_ref().map(|text| identity(text, for_key)).transpose()?;
        Ok(Self { ek, ak, inside })
    }

    /// By which the machine's TPM is known: the key alone, since certificates of an EK are issued anew, and of its public area the
    /// owner chooses parts.
    pub(super) fn fingerprint(&self) -> KeyDigest {
        KeyDigest::from_spki_der(&self.ek.public().key().spki_der())
    }

    /// Of all of them.
    fn digest(&self) -> [u8; DIGEST_LEN] {
        let mut context = digest::Context::new(&digest::SHA256);
        let inside = self.inside.as_ref().map(|key| key.public().name().bytes());
        for name in [Some(self.ek.public().name().bytes()), Some(self.ak.public().name().bytes()), inside] {
            // the length of a name follows from its beginning; an absent one is shorter than any
            context.update(&name.unwrap_or_default());
        }
        let mut bytes = [0; DIGEST_LEN];
        bytes.copy_from_slice(context.finish().as_ref());
        bytes
    }
}

fn public(text: &str, unsound: fn(&str) -> Reject) -> Result<Public, Reject> {
    // four characters for three bytes
    if text.len() > PUBLIC_MAX * 4 / 3 + 4 {
        return Err(malformed("a public area is too long"));
    }
    Public::parse(&decoded(text)?).map_err(|error| unsound(&error.to_string()))
}

fn identity(text: &str, for_key: &KeyDigest) -> Result<IdentityKey, Reject> {
    let public = public(text, not_certified)?;
    if KeyDigest::from_spki_der(&public.key().spki_der()) != *for_key {
        return Err(not_certified("the key in the TPM is not the one of the request"));
    }
    IdentityKey::check(public).map_err(|error| not_certified(&error.to_string()))
}

/// What was asked in the first round.
pub(super) struct Asked {
    pub(super) secret: [u8; SECRET_LEN],
    pub(super) nonce: [u8; TPM_NONCE_LEN],
    keys: [u8; DIGEST_LEN],
}

impl Asked {
    /// A new challenge.
    pub(super) fn fresh(entropy: &[u8; ENTROPY_LEN], keys: &TpmKeys) -> Self {
        let mut asked = Self { secret: [0; SECRET_LEN], nonce: [0; TPM_NONCE_LEN], keys: keys.digest() };
        let mut entropy = entropy.iter().copied();
        asked.secret.iter_mut().chain(&mut asked.nonce).zip(&mut entropy).for_each(|(byte, random)| *byte = random);
        asked
    }

    /// For the ticket.
    pub(super) fn kept(&self) -> Vec<u8> {
        [&self.secret[..], &self.nonce, &self.keys].concat()
    }

    /// From the ticket, which must be for these keys.
    pub(super) fn read(kept: &[u8], keys: &TpmKeys) -> Result<Self, Reject> {
        let read = || {
            let (secret, rest) = kept.split_first_chunk()?;
            let (nonce, rest) = rest.split_first_chunk()?;
            Some(Self { secret: *secret, nonce: *nonce, keys: rest.try_into().ok()? })
        };
        let asked = read().filter(|asked| asked.keys == keys.digest());
        asked.ok_or_else(|| Reject::ticket("it is for other keys of the TPM"))
    }
}
