//! Places in listings as callers are given them: sealed, so that they say nothing of what is left out.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};

/// Bytes of the key that seals places.
const KEY_LEN: usize = 32;

/// Longest place that is opened, in hex characters: no key of the store is nearly as long.
const PLACE_MAX: usize = 2_048;

/// Bits of half of a numbered place: two of them are no more than every reader of JSON keeps of a number.
const HALF: u32 = 26;

/// Bits of a numbered place that are drawn anew each time, so that of two places nobody can tell how far they are apart, nor that they
/// are the same. The others, 36, are more than happens in a process's life.
const DRAWN: u32 = 16;

/// Rounds of the Feistel network that hides numbers: four make a strong pseudorandom permutation of a good round function (Luby, Rackoff).
const ROUNDS: u8 = 4;

/// Seals places in listings. The key is the process's own: after a restart a listing begins anew.
pub struct Places {
    key: Option<LessSafeKey>,
    numbers: hmac::Key,
}

impl Places {
    /// With this key.
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

    /// The place after what has this number, as a number that says nothing of it.
    #[must_use]
    pub fn hide(&self, number: u64, drawn: [u8; 2]) -> u64 {
        let whole = ((number << DRAWN) | u64::from(u16::from_be_bytes(drawn))) & ((1 << (2 * HALF)) - 1);
        let (mut left, mut right) = (whole >> HALF, whole & ((1 << HALF) - 1));
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.round(round, right));
        }
        (left << HALF) | right
    }

    /// The number of a place that was hidden here. Of what was not, it is some number, hardly ever one that has been given.
    #[must_use]
    pub fn reveal(&self, place: u64) -> u64 {
        let (mut left, mut right) = ((place >> HALF) & ((1 << HALF) - 1), place & ((1 << HALF) - 1));
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.round(round, left), left);
        }
        ((left << HALF) | right) >> DRAWN
    }

    /// A place of a listing as it is given to a caller; nothing when it cannot be sealed. A nonce is used once.
    #[must_use]
    pub fn seal(&self, listing: &str, place: &str, nonce: [u8; NONCE_LEN]) -> Option<String> {
        let mut sealed = place.as_bytes().to_vec();
        let aad = Aad::from(listing.as_bytes());
        self.key.as_ref()?.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        Some(format!("{}{}", hex::encode(nonce), hex::encode(sealed)))
    }

    /// A place that was sealed here for this listing.
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
