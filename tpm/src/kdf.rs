//! The two key derivation functions of the TPM (part 1, 11.4.10).

use crate::algorithm::HashAlgorithm;

/// KDFa: counter mode of NIST SP 800-108 with HMAC. `bits` bits come in whole bytes; those that are too much are 0 in
/// the first byte.
#[must_use]
pub fn kdfa(hash: HashAlgorithm, key: &[u8], label: &str, u: &[u8], v: &[u8], bits: u16) -> Vec<u8> {
    let length = u32::from(bits).to_be_bytes();
    derive(hash, bits, |counter| hash.hmac(key, &[counter, label.as_bytes(), &[0], u, v, &length]))
}

/// KDFe: the one-step function of NIST SP 800-56A, for the secret `z` of a key agreement. `u` and `v` are the x
/// coordinates of both points.
#[must_use]
pub fn kdfe(hash: HashAlgorithm, z: &[u8], label: &str, u: &[u8], v: &[u8], bits: u16) -> Vec<u8> {
    derive(hash, bits, |counter| hash.digest(&[counter, z, label.as_bytes(), &[0], u, v]))
}

fn derive(hash: HashAlgorithm, bits: u16, block: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let bytes = usize::from(bits.div_ceil(8));
    let mut derived = Vec::with_capacity(bytes + hash.digest_len());
    for counter in 1_u32.. {
        if derived.len() >= bytes {
            break;
        }
        derived.extend_from_slice(&block(&counter.to_be_bytes()));
    }
    derived.truncate(bytes);
    if let (Some(first), excess @ 1..) = (derived.first_mut(), bits % 8) {
        *first &= (1 << excess) - 1;
    }
    derived
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    type Kdf = fn(HashAlgorithm, &[u8], &str, &[u8], &[u8], u16) -> Vec<u8>;

    /// Every row of a file of vectors; those of SHA-1, which nothing here derives with, are counted.
    fn check(name: &str, secret: &str, kdf: Kdf) {
        let Some(rows) = testing::rows(name) else { return };
        let (mut run, mut sha1) = (0, 0);
        for row in &rows {
            let Some(hash) = HashAlgorithm::from_id(row.number("HashAlg")) else {
                assert_eq!(row.number("HashAlg"), 4);
                sha1 += 1;
                continue;
            };
            let (u, v) = (row.bytes("ContextU"), row.bytes("ContextV"));
            let got = kdf(hash, &row.bytes(secret), row.text("Label"), &u, &v, row.number("Bits"));
            assert_eq!(got, row.bytes("Result"), "{}", row.text("Name"));
            run += 1;
        }
        println!("{name}: {run} derived, {sha1} with SHA-1 left out");
        assert_eq!(run + sha1, 100);
        assert!(run > 70);
    }

    #[test]
    fn kdfa_gives_what_the_vectors_say() {
        check("kdfa.json", "Key", kdfa);
    }

    #[test]
    fn kdfe_gives_what_the_vectors_say() {
        check("kdfe.json", "Z", kdfe);
    }
}
