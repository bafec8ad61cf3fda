//! Random numbers, drawn in this one place. Keys are drawn by the crypto library itself.

/// A random number for jitter. Should the system have no random numbers, half is as good as any: no secret hangs on it.
#[must_use]
pub fn draw() -> u64 {
    let mut bytes = [0; 8];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => u64::MAX / 2,
    }
}

/// An id that nobody else uses.
///
/// # Errors
/// When the system has no random numbers.
pub fn unique() -> Result<[u8; 16], crate::core::key::KeyFault> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| crate::core::key::KeyFault::Library("no random numbers from the system".into()))?;
    Ok(bytes)
}
