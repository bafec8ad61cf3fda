//! Random bytes. All other code gets them as an argument or from an [`Entropy`].
#![expect(clippy::disallowed_methods, reason = "this file is where random bytes are drawn")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use aws_lc_rs::digest::{SHA256, digest};

/// A source of random bytes: the operating system's, or a repeatable one for tests.
#[derive(Clone, Debug)]
pub struct Entropy(EntropySource);

#[derive(Clone, Debug)]
enum EntropySource {
    Os,
    /// SHA-256 over seed and counter: the same seed gives the same bytes in the same order.
    Seeded {
        seed: u64,
        counter: Arc<AtomicU64>,
    },
}

impl Entropy {
    /// The crypto library's generator, which the operating system seeds.
    #[must_use]
    pub const fn os() -> Self {
        Self(EntropySource::Os)
    }

    /// Repeatable bytes for tests. Clones share one sequence.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(EntropySource::Seeded { seed, counter: Arc::new(AtomicU64::new(0)) })
    }

    /// `N` random bytes.
    ///
    /// # Panics
    /// If the operating system has no randomness. No input causes this, and a CA cannot do anything safely without it.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a CA without randomness must not go on; no input leads here")]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        match &self.0 {
            EntropySource::Os => aws_lc_rs::rand::fill(&mut out).expect("the operating system gives random bytes"),
            EntropySource::Seeded { seed, counter } => {
                for chunk in out.chunks_mut(32) {
                    let mut input = [0; 16];
                    input[..8].copy_from_slice(&seed.to_be_bytes());
                    input[8..].copy_from_slice(&counter.fetch_add(1, Ordering::SeqCst).to_be_bytes());
                    let block = digest(&SHA256, &input);
                    chunk.copy_from_slice(&block.as_ref()[..chunk.len()]);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_its_bytes_differ() {
        let (a, b) = (Entropy::seeded(7), Entropy::seeded(7));
        let (first, second): ([u8; 40], [u8; 40]) = (a.bytes(), a.bytes());
        assert_eq!((first, second), (b.bytes(), b.bytes()));
        assert_ne!(first, second);
        assert_ne!(first, Entropy::seeded(8).bytes());
    }

    #[test]
    fn the_system_does_not_repeat() {
        let os = Entropy::os();
        assert_ne!(os.bytes::<32>(), os.bytes::<32>());
    }
}
