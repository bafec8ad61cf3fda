//! PCRs: banks, selections, and values that a quote vouches for.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest;
use thiserror::Error;

use crate::algorithm::HashAlgorithm;
use crate::codec::{CodecError, Reader, Writer};

/// PCRs that a TPM of a PC has.
pub const PCRS: u8 = 24;

/// Most selections read in one list: there is one for each bank, and no TPM has more of them.
const SELECTIONS_MAX: u32 = 16;

/// The hash algorithm of a bank of PCRs.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bank {
    /// SHA-1. It is read, and what it says is not believed: two different boots can be made to have the same values.
    Sha1,
    /// A bank that is believed.
    Believed(HashAlgorithm),
    /// Another TPM_ALG_ID, of which nothing is known.
    Other(u16),
}

impl Bank {
    /// The bank with this TPM_ALG_ID.
    #[must_use]
    pub fn from_id(id: u16) -> Self {
        match (id, HashAlgorithm::from_id(id)) {
            (0x0004, _) => Self::Sha1,
            (_, Some(hash)) => Self::Believed(hash),
            (other, None) => Self::Other(other),
        }
    }

    /// Its TPM_ALG_ID.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Believed(hash) => hash.id(),
            Self::Other(id) => id,
        }
    }

    /// In the crypto library, if it is known.
    pub(crate) fn algorithm(self) -> Option<&'static digest::Algorithm> {
        match self {
            Self::Sha1 => Some(&digest::SHA1_FOR_LEGACY_USE_ONLY),
            Self::Believed(hash) => Some(hash.algorithm()),
            Self::Other(_) => None,
        }
    }
}

/// A set of PCRs.
#[derive(Copy, Clone, Default, PartialEq, Eq, Hash)]
pub struct PcrSet(u32);

impl PcrSet {
    /// The set of these, if a PC's TPM has all of them.
    #[must_use]
    pub fn of(pcrs: impl IntoIterator<Item = u8>) -> Option<Self> {
        pcrs.into_iter().try_fold(Self::default(), |set, pcr| (pcr < PCRS).then_some(Self(set.0 | 1 << pcr)))
    }

    /// Whether this one is in it.
    #[must_use]
    pub fn contains(self, pcr: u8) -> bool {
        pcr < PCRS && self.0 & 1 << pcr != 0
    }

    /// Each of them, the lowest first.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..PCRS).filter(move |pcr| self.contains(*pcr))
    }

    /// Those of them that are such.
    pub(crate) fn filter(self, such: impl Fn(u8) -> bool) -> Self {
        Self(self.iter().filter(|pcr| such(*pcr)).fold(0, |bits, pcr| bits | 1 << pcr))
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for PcrSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// PCRs of one bank (TPMS_PCR_SELECTION).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The bank.
    pub bank: Bank,
    /// Its PCRs.
    pub pcrs: PcrSet,
}

impl Selection {
    /// Reads a TPML_PCR_SELECTION.
    pub(crate) fn read_list(reader: &mut Reader<'_>) -> Result<Vec<Self>, CodecError> {
        let count = reader.u32("pcrSelect count")?;
        if count > SELECTIONS_MAX {
            return Err(CodecError::Unsupported { field: "pcrSelect count", found: count });
        }
        (0..count).map(|_| Self::read(reader)).collect()
    }

    /// Appends a TPML_PCR_SELECTION of this one alone.
    pub(crate) fn write_list(self, writer: &mut Writer) {
        let [low, middle, high, _] = self.pcrs.0.to_le_bytes();
        writer.u32(1).u16(self.bank.id()).bytes(&[3, low, middle, high]);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let bank = Bank::from_id(reader.u16("pcrSelect hash")?);
        let size = reader.u8("sizeofSelect")?;
        if size > 4 {
            return Err(CodecError::Unsupported { field: "sizeofSelect", found: size.into() });
        }
        // The lowest PCR is the lowest bit of the first byte.
        let mut bits = [0; 4];
        let bytes = reader.bytes("pcrSelect", size.into())?;
        bits.iter_mut().zip(bytes).for_each(|(bit, byte)| *bit = *byte);
        let bits = u32::from_le_bytes(bits);
        if bits >> PCRS != 0 {
            return Err(CodecError::Value { field: "pcrSelect" });
        }
        Ok(Self { bank, pcrs: PcrSet(bits) })
    }
}

/// What a quote says of PCRs (TPMS_QUOTE_INFO).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    selections: Vec<Selection>,
    digest: Vec<u8>,
    hash: HashAlgorithm,
}

/// Why values are not those of a quote.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum QuoteError {
    /// A TPM signs an empty selection, or one of a bank that it does not have, without a word.
    #[error("the quote is of {found:?}, not of what was asked for")]
    Selection { found: Vec<Selection> },
    #[error("the value of PCR {0} is missing or has the wrong length")]
    Value(u8),
    #[error("the values are not those that were quoted")]
    Digest,
}

impl Quote {
    /// Reads a TPMS_QUOTE_INFO. Its digest is of the hash with which the quote is signed.
    pub(crate) fn read(reader: &mut Reader<'_>, hash: HashAlgorithm) -> Result<Self, CodecError> {
        let selections = Selection::read_list(reader)?;
        let digest = reader.sized("pcrDigest", hash.digest_len())?.to_vec();
        if digest.len() != hash.digest_len() {
            let (found, want) = (digest.len(), hash.digest_len());
            return Err(CodecError::Length { field: "pcrDigest", found, want });
        }
        Ok(Self { selections, digest, hash })
    }

    /// What it is of.
    #[must_use]
    pub fn selections(&self) -> &[Selection] {
        &self.selections
    }

    /// That it is of exactly these PCRs of this bank, and that these are their values. Values of other PCRs are not
    /// looked at.
    pub fn check(&self, asked: PcrSet, bank: HashAlgorithm, values: &PcrValues) -> Result<QuotedPcrs, QuoteError> {
        if self.selections != [Selection { bank: Bank::Believed(bank), pcrs: asked }] || asked.is_empty() {
            return Err(QuoteError::Selection { found: self.selections.clone() });
        }
        let mut quoted = PcrValues::new();
        for pcr in asked.iter() {
            let value = values.get(&pcr).filter(|value| value.len() == bank.digest_len());
            quoted.insert(pcr, value.ok_or(QuoteError::Value(pcr))?.clone());
        }
        let parts: Vec<&[u8]> = quoted.values().map(Vec::as_slice).collect();
        if self.hash.digest(&parts) != self.digest {
            return Err(QuoteError::Digest);
        }
        Ok(QuotedPcrs { bank, pcrs: asked, values: quoted })
    }
}

/// Values of PCRs by their number.
pub type PcrValues = BTreeMap<u8, Vec<u8>>;

/// Values of PCRs that a quote was checked to be of. PCRs that are not among them are unknown, not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotedPcrs {
    bank: HashAlgorithm,
    pcrs: PcrSet,
    values: PcrValues,
}

impl QuotedPcrs {
    /// The bank they are of.
    #[must_use]
    pub const fn bank(&self) -> HashAlgorithm {
        self.bank
    }

    /// The value of a PCR that was quoted.
    #[must_use]
    pub fn value(&self, pcr: u8) -> Option<&[u8]> {
        self.values.get(&pcr).map(Vec::as_slice)
    }

    /// The PCRs that were quoted.
    #[must_use]
    pub const fn pcrs(&self) -> PcrSet {
        self.pcrs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_are_read_bit_by_bit() {
        let bytes = hex::decode("00000002000b038100010004020080").unwrap();
        let mut reader = Reader::new(&bytes);
        let found = Selection::read_list(&mut reader).unwrap();
        assert_eq!(
            found,
            [
                Selection { bank: Bank::Believed(HashAlgorithm::Sha256), pcrs: PcrSet::of([0, 7, 16]).unwrap() },
                Selection { bank: Bank::Sha1, pcrs: PcrSet::of([15]).unwrap() },
            ]
        );
        for bad in ["00000011", "00000001000b0500000000", "00000001000b0400000001", "00000001000b03"] {
            assert!(Selection::read_list(&mut Reader::new(&hex::decode(bad).unwrap())).is_err(), "{bad}");
        }
        assert_eq!(PcrSet::of([0, 24]), None);
        assert_eq!(Bank::from_id(0x27), Bank::Other(0x27));
    }

    fn quote(bank: Bank, pcrs: &[u8], values: &PcrValues) -> Quote {
        let pcrs = PcrSet::of(pcrs.iter().copied()).unwrap();
        let parts: Vec<&[u8]> = pcrs.iter().map(|pcr| values[&pcr].as_slice()).collect();
        let hash = HashAlgorithm::Sha384;
        Quote { selections: vec![Selection { bank, pcrs }], digest: hash.digest(&parts), hash }
    }

    #[test]
    fn a_quote_is_of_what_was_asked_for_or_worth_nothing() {
        let sha256 = HashAlgorithm::Sha256;
        let values = PcrValues::from([(0, vec![1; 32]), (7, vec![7; 32]), (8, vec![8; 32])]);
        let asked = PcrSet::of([0, 7]).unwrap();
        let good = quote(Bank::Believed(sha256), &[0, 7], &values);
        let quoted = good.check(asked, sha256, &values).unwrap();
        assert_eq!(quoted.value(7), Some(&[7; 32][..]));
        assert_eq!(quoted.value(8), None, "it was not quoted");

        let refused = |quote: &Quote, asked: &[u8]| {
            matches!(
                quote.check(PcrSet::of(asked.iter().copied()).unwrap(), sha256, &values),
                Err(QuoteError::Selection { .. })
            )
        };
        assert!(refused(&good, &[0]));
        assert!(refused(&good, &[0, 7, 8]));
        assert!(refused(&quote(Bank::Believed(sha256), &[], &values), &[]), "nothing was quoted");
        assert!(refused(&quote(Bank::Sha1, &[0, 7], &values), &[0, 7]));
        assert!(refused(&quote(Bank::Believed(HashAlgorithm::Sha384), &[0, 7], &values), &[0, 7]));

        let mut others = values.clone();
        others.insert(7, vec![9; 32]);
        assert_eq!(good.check(asked, sha256, &others), Err(QuoteError::Digest));
        others.insert(7, vec![7; 31]);
        assert_eq!(good.check(asked, sha256, &others), Err(QuoteError::Value(7)));
        others.remove(&7);
        assert_eq!(good.check(asked, sha256, &others), Err(QuoteError::Value(7)));
    }
}
