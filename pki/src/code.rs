//! The waiting code, which a waiting machine shows and its approver types.
//!
//! It is computed from the machine's key, the gateway's root and a nonce that the gateway draws after it has stored the key. A
//! man in the middle has another key or another root, and so another code. Because the nonce follows the key, an attacker
//! cannot search for a key that gives the same code.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA256};

use crate::key::KeyDigest;

/// Crockford's base 32: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Number of characters: 40 bits. There is one guess, because a wrong code refuses the approval; it succeeds once in 10^12.
const LEN: usize = 8;
/// Domain separation from other hashes.
const LABEL: &[u8] = b"lychgate waiting code v1\0";

/// A waiting code, shown as `ABCD-EFGH`.
#[derive(Clone, PartialEq, Eq)]
pub struct WaitingCode([u8; LEN]);

/// Computes the code from the pin of the gateway's root, the machine's key and the gateway's nonce.
#[must_use]
pub fn waiting_code(key: &KeyDigest, root_pin: &KeyDigest, nonce: &[u8; 16]) -> WaitingCode {
    let mut context = Context::new(&SHA256);
    for part in [LABEL, key.as_bytes(), root_pin.as_bytes(), nonce] {
        context.update(part);
    }
    let digest = context.finish();
    let bits = digest.as_ref().iter().take(5).fold(0_u64, |acc, byte| (acc << 8) | u64::from(*byte));
    let mut code = [0; LEN];
    for (at, character) in code.iter_mut().enumerate() {
        let index = (bits >> (5 * (LEN - 1 - at))) & 31;
        *character = ALPHABET[index as usize];
    }
    WaitingCode(code)
}

impl WaitingCode {
    /// Compares with typed text in constant time. Case, hyphens and spaces are ignored; O is read as 0, I and L as 1.
    #[must_use]
    pub fn matches(&self, typed: &str) -> bool {
        let mut read = [0; LEN];
        let mut count = 0_usize;
        for character in typed.chars().filter(|c| *c != '-' && !c.is_whitespace()) {
            let plain = match character.to_ascii_uppercase() {
                'O' => b'0',
                'I' | 'L' => b'1',
                other => u8::try_from(other).unwrap_or(0),
            };
            if let Some(slot) = read.get_mut(count) {
                *slot = plain;
            }
            count = count.saturating_add(1);
        }
        // The length of the typed text may be leaked by timing; the position of a wrong character may not.
        count == LEN && verify_slices_are_equal(&self.0, &read).is_ok()
    }
}

impl fmt::Display for WaitingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, character) in self.0.iter().enumerate() {
            if at == LEN / 2 {
                f.write_str("-")?;
            }
            write!(f, "{}", char::from(*character))?;
        }
        Ok(())
    }
}

/// Redacted, because whoever knows the code can approve the machine.
impl fmt::Debug for WaitingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WaitingCode(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn code(key: u8, pin: u8, nonce: u8) -> WaitingCode {
        waiting_code(&KeyDigest::from_bytes([key; 32]), &KeyDigest::from_bytes([pin; 32]), &[nonce; 16])
    }

    #[test]
    fn every_input_counts_and_the_form_is_fixed() {
        let shown = code(1, 2, 3).to_string();
        assert_eq!(shown.len(), 9);
        assert_eq!(&shown[4..5], "-");
        for other in [code(9, 2, 3), code(1, 9, 3), code(1, 2, 9), code(2, 1, 3)] {
            assert_ne!(other.to_string(), shown);
        }
        assert_eq!(format!("{:?}", code(1, 2, 3)), "WaitingCode(..)");
    }

    #[track_caller]
    fn check(code: &[u8; LEN], typed: &str, want: bool) {
        assert_eq!(WaitingCode(*code).matches(typed), want, "{typed:?}");
    }

    #[test]
    fn typing_is_forgiven() {
        check(b"01AB10ZZ", "01AB-10ZZ", true);
        check(b"01AB10ZZ", "01ab10zz", true);
        check(b"01AB10ZZ", " oIab - Lo zz\n", true);
        check(b"01AB10ZZ", "01AB-10ZY", false);
        check(b"01AB10ZZ", "01AB-10Z", false);
        check(b"01AB10ZZ", "01AB-10ZZZ", false);
        check(b"01AB10ZZ", "", false);
        check(b"01AB10ZZ", "01AB-10Z\u{ff3a}", false);
    }

    proptest! {
        #[test]
        fn own_text_matches(key: [u8; 32], pin: [u8; 32], nonce: [u8; 16]) {
            let code = waiting_code(&KeyDigest::from_bytes(key), &KeyDigest::from_bytes(pin), &nonce);
            assert!(code.matches(&code.to_string()));
        }

        #[test]
        fn never_panics(typed in any::<String>()) { let _ = code(1, 2, 3).matches(&typed); }
    }
}
