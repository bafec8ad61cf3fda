//! Cursors of listings. They are encrypted, so that a client learns nothing about the rows that it may not see.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};

/// Bytes of the key that encrypts cursors.
const KEY_LEN: usize = 32;

/// Longest cursor that is decrypted, in hex characters: the keys of listed records are much shorter.
const PLACE_MAX: usize = 2_048;

/// Bits of one half of a numeric cursor: 52 in all, which every JSON parser reads exactly (RFC 8259 6: 53 bits).
const HALF: u32 = 26;

/// Random bits in a numeric cursor, so that two cursors show neither their distance nor that they are the same. The other 36 bits are
/// the number: more events than a process ever counts.
const DRAWN: u32 = 16;

/// Rounds of the Feistel network: four make a strong pseudorandom permutation of a pseudorandom round function (Luby, Rackoff).
const ROUNDS: u8 = 4;

/// Encrypts and decrypts cursors. The key is the process's own: after a restart old cursors are refused and a listing must start again.
pub struct Places {
    key: Option<LessSafeKey>,
    numbers: hmac::Key,
}

impl Places {
    /// `key` must be random.
    #[must_use]
    pub fn new(key: [u8; KEY_LEN]) -> Self {
        let numbers = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), b"numbered places");
        Self {
            key: UnboundKey::new(&AES_256_GCM, &key).ok().map(LessSafeKey::new),
            numbers: hmac::Key::new(hmac::HMAC_SHA256, numbers.as_ref()),
        }
    }

    fn round(&self, round: u8, half: u64) -> u64 {
        let tag = hmac::sign(&self.numbers, &[&[round][..], &half.to_be_bytes()].concat());
        let bits = tag.as_ref().iter().take(8).fold(0, |bits: u64, byte| (bits << 8) | u64::from(*byte));
        bits & ((1 << HALF) - 1)
    }

    /// The cursor after the row with this number. `drawn` is random.
    #[must_use]
    pub fn hide(&self, number: u64, drawn: [u8; 2]) -> u64 {
        let block = ((number << DRAWN) | u64::from(u16::from_be_bytes(drawn))) & ((1 << (2 * HALF)) - 1);
        let (mut left, mut right) = (block >> HALF, block & ((1 << HALF) - 1));
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.round(round, right));
        }
        (left << HALF) | right
    }

    /// The number in a cursor of [`Places::hide`]. A forged cursor gives a random number, almost certainly none that exists.
    #[must_use]
    pub fn reveal(&self, place: u64) -> u64 {
        let (mut left, mut right) = ((place >> HALF) & ((1 << HALF) - 1), place & ((1 << HALF) - 1));
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.round(round, left), left);
        }
        ((left << HALF) | right) >> DRAWN
    }

    /// Encrypts a store key as a cursor of `listing`; `None` if the cipher fails. A nonce must not be used twice.
    #[must_use]
    pub fn seal(&self, listing: &str, place: &str, nonce: [u8; NONCE_LEN]) -> Option<String> {
        let mut sealed = place.as_bytes().to_vec();
        let aad = Aad::from(listing.as_bytes());
        self.key.as_ref()?.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        Some(format!("{}{}", hex::encode(nonce), hex::encode(sealed)))
    }

    /// The store key in a cursor; `None` if this process did not make it for `listing`.
    #[must_use]
    pub fn open(&self, listing: &str, text: &str) -> Option<String> {
        let bytes = hex::decode(Some(text).filter(|text| text.len() <= PLACE_MAX)?).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let (nonce, mut sealed) = (Nonce::try_assume_unique_for_key(nonce).ok()?, sealed.to_vec());
        let place = self.key.as_ref()?.open_in_place(nonce, Aad::from(listing.as_bytes()), &mut sealed).ok()?;
        String::from_utf8(place.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_place_says_nothing_of_its_number() {
        let (places, others) = (Places::new([1; KEY_LEN]), Places::new([2; KEY_LEN]));
        let mut seen = std::collections::BTreeSet::new();
        for number in (0..300).chain([(1 << 36) - 1]) {
            for drawn in [[0, 0], [0, 1], [255, 255]] {
                let place = places.hide(number, drawn);
                assert_eq!(places.reveal(place), number);
                assert!(place < 1 << 53 && seen.insert(place), "{place}");
                assert!(others.reveal(place) > 1_000_000, "{place}");
            }
        }
        let close = seen.iter().zip(seen.iter().skip(1)).filter(|(one, next)| *next - *one < 1 << 20).count();
        assert!(close < 3, "they stand close together: {close}");
    }

    #[test]
    fn a_place_is_read_by_whoever_sealed_it_and_only_for_its_listing() {
        let (places, others) = (Places::new([1; KEY_LEN]), Places::new([2; KEY_LEN]));
        let sealed = places.seal("subject/machine/", "subject/machine/edge-7", [3; NONCE_LEN]).unwrap();
        assert!(!sealed.contains(&hex::encode("edge-7")));
        assert_eq!(places.open("subject/machine/", &sealed).as_deref(), Some("subject/machine/edge-7"));
        assert_eq!(places.open("subject/person/", &sealed), None);
        assert_eq!(others.open("subject/machine/", &sealed), None);
        for bad in ["", "edge-7", "00", &sealed[..sealed.len() - 2], &"0".repeat(PLACE_MAX + 2)] {
            assert_eq!(places.open("subject/machine/", bad), None, "{bad}");
        }
    }
}
