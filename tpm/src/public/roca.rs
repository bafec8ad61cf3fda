//! RSA keys made by the faulty library of Infineon's chips (CVE-2017-15361, "ROCA"): whoever knows the public key can compute the
//! private one.
//!
//! Both primes of such a key are `k * M + (65537^a mod M)`, where M is the product of the first primes. So the modulus is a power of
//! 65537 modulo each of those primes, and that is the fingerprint (Nemec and others, "The Return of Coppersmith's Attack", 2017, 4).

/// The odd primes of the smallest M, which divides the M of every length of key. One other key in a hundred million is a power of
/// 65537 modulo all of them.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// What the primes are powers of.
const GENERATOR: u32 = 65_537;

/// Whether an RSA modulus has the fingerprint.
pub(super) fn has_fingerprint(modulus: &[u8]) -> bool {
    PRIMES.into_iter().all(|prime| is_power(remainder(modulus, prime), prime))
}

/// A number, the byte of most weight first, modulo a small one.
fn remainder(number: &[u8], by: u32) -> u32 {
    number.iter().fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % by)
}

/// Whether a number is a power of [`GENERATOR`] modulo a prime. The powers repeat after at most `prime - 1`.
fn is_power(number: u32, prime: u32) -> bool {
    let mut power = 1;
    for _ in 1..prime {
        if power == number {
            return true;
        }
        power = power * (GENERATOR % prime) % prime;
    }
    false
}

#[cfg(test)]
mod tests {
    use num_bigint::BigUint;

    use super::*;
    use crate::testing::roca_modulus;

    #[test]
    fn a_modulus_of_that_form_is_known() {
        for bytes in [256, 384, 512] {
            let modulus = roca_modulus(bytes);
            assert!(modulus.len() == bytes && modulus[0] >= 0x80 && has_fingerprint(&modulus), "{bytes}");
            // The next odd number is a power modulo few of the primes.
            let next = (BigUint::from_bytes_be(&modulus) + 2_u32).to_bytes_be();
            assert!(!has_fingerprint(&next), "{bytes}");
        }
        assert!(has_fingerprint(&[1, 0, 1]));
        for other in [&[][..], &[0], &[2], &[0xff; 256]] {
            assert!(!has_fingerprint(other), "{other:?}");
        }
    }

    #[test]
    fn remainders_are_those_of_the_whole_number() {
        let number: Vec<u8> = (1..=255).collect();
        for prime in PRIMES {
            let want = BigUint::from_bytes_be(&number) % prime;
            assert_eq!(BigUint::from(remainder(&number, prime)), want, "{prime}");
            // Every number but 0 is a power of some generator; the ones that count are a true part of them for most primes.
            assert!(is_power(1, prime) && !is_power(0, prime) && is_power(GENERATOR % prime, prime), "{prime}");
        }
    }

    /// Keys of a library without the fault.
    #[test]
    fn other_keys_do_not_have_it() {
        use aws_lc_rs::{rsa::KeySize, signature::KeyPair as _, signature::RsaKeyPair};
        for _ in 0..3 {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            let modulus = pair.public_key().modulus().big_endian_without_leading_zero().to_vec();
            assert!(!has_fingerprint(&modulus));
        }
    }
}
