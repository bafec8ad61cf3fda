//! What a TPM says of itself under its AK's signature (TPMS_ATTEST): that it holds a key (TPM2_Certify), or what its
//! PCRs are (TPM2_Quote).
//!
//! [`verify`] is the only way to an [`Attest`]. It establishes that the AK signed it. That the AK is a real TPM's is
//! established by a credential; that it was signed now, by comparing [`Attest::extra_data`] with what was asked for.

use thiserror::Error;

use crate::algorithm::HashAlgorithm;
use crate::codec::{CodecError, Reader};
use crate::pcr::Quote;
use crate::public::{Ak, Name};
use crate::signature::{Signature, SignatureError};

/// TPM_GENERATED_VALUE. A restricted key signs nothing that begins with it but what the TPM itself made.
const MAGIC: u32 = 0xff54_4347;
/// TPM_ST_ATTEST_CERTIFY.
const CERTIFY: u16 = 0x8017;
/// TPM_ST_ATTEST_QUOTE.
const QUOTE: u16 = 0x8018;

/// Longest TPMS_ATTEST read, in bytes. One with two names and the longest nonce has under 400.
pub const ATTEST_MAX: usize = 1024;

/// Longest name and longest nonce: an algorithm and a digest of SHA-512 (TPM2B_NAME, TPM2B_DATA).
const DATA_MAX: usize = 66;

/// What a TPM said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attest {
    /// The name of the AK and its parents, hashed together.
    pub qualified_signer: Vec<u8>,
    /// What the caller gave the TPM to sign with it, such as a digest of a nonce.
    pub extra_data: Vec<u8>,
    /// Its clock and its count of starts.
    pub clock: ClockInfo,
    /// Its firmware, as its maker counts; obscured like the counts of [`ClockInfo`].
    pub firmware_version: u64,
    /// What it is about.
    pub attested: Attested,
}

/// What it is about (TPMU_ATTEST).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attested {
    /// The TPM holds the key with this name.
    Certify {
        /// The name.
        name: Name,
        /// The names of the key and its parents, hashed together.
        qualified_name: Vec<u8>,
    },
    /// PCRs had these values.
    Quote(Quote),
}

/// Clock and starts of a TPM (TPMS_CLOCK_INFO). For an AK outside the endorsement hierarchy the counts have an offset
/// of their own, and clearing a TPM starts them again: they tell boots apart, and need not grow.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds that the TPM has run since it was cleared.
    pub clock: u64,
    /// How often it was started anew.
    pub reset_count: u32,
    /// How often it woke up since.
    pub restart_count: u32,
    /// Whether `clock` cannot have had a higher value before.
    pub safe: bool,
}

/// Why it is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants mean")]
pub enum AttestError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// Reads a TPMS_ATTEST that this AK signed with this TPMT_SIGNATURE. The signature is checked over the bytes as they
/// came, before any of them is read.
pub fn verify(ak: &Ak, attest: &[u8], signature: &[u8]) -> Result<Attest, AttestError> {
    if attest.len() > ATTEST_MAX {
        return Err(CodecError::TooLong { field: "attest", found: attest.len(), most: ATTEST_MAX }.into());
    }
    Signature::parse(signature)?.verify(ak, attest)?;
    Ok(parse(attest, ak.hash())?)
}

fn parse(bytes: &[u8], hash: HashAlgorithm) -> Result<Attest, CodecError> {
    let mut reader = Reader::new(bytes);
    if reader.u32("magic")? != MAGIC {
        return Err(CodecError::Value { field: "magic" });
    }
    let kind = reader.u16("attest type")?;
    let qualified_signer = reader.sized("qualifiedSigner", DATA_MAX)?.to_vec();
    let extra_data = reader.sized("extraData", DATA_MAX)?.to_vec();
    let clock = ClockInfo::read(&mut reader)?;
    let firmware_version = reader.u64("firmwareVersion")?;
    let attested = match kind {
        CERTIFY => {
            let name = Name::parse(reader.sized("name", DATA_MAX)?)?;
            Attested::Certify { name, qualified_name: reader.sized("qualifiedName", DATA_MAX)?.to_vec() }
        }
        QUOTE => Attested::Quote(Quote::read(&mut reader, hash)?),
        _ => return Err(CodecError::Unsupported { field: "attest type", found: kind.into() }),
    };
    reader.finish("attest")?;
    Ok(Attest { qualified_signer, extra_data, clock, firmware_version, attested })
}

impl ClockInfo {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            clock: reader.u64("clock")?,
            reset_count: reader.u32("resetCount")?,
            restart_count: reader.u32("restartCount")?,
            safe: match reader.u8("safe")? {
                0 => false,
                1 => true,
                _ => return Err(CodecError::Value { field: "safe" }),
            },
        })
    }
}

#[cfg(test)]
mod tests;
