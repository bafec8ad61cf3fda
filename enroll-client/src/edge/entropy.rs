//! The only source of random numbers and of new private keys.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::core::key::{KeyFault, PrivateKey};

/// A random number for jitter, which is not secret: the middle of the range if the system has no random numbers.
#[must_use]
pub fn draw() -> u64 {
    let mut bytes = [0; 8];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => u64::MAX / 2,
    }
}

/// 16 random bytes, for a unique id.
pub fn unique() -> Result<[u8; 16], KeyFault> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeyFault::Library("no random numbers from the system".into()))?;
    Ok(bytes)
}

/// Draws a new private key.
pub fn private_key() -> Result<PrivateKey, KeyFault> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| KeyFault::Library(error.to_string()))?;
    PrivateKey::from_pair(pair)
}
