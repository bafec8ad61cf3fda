//! Bodies of the evidence of kind `tpm`: JSON, with the structures of TPM 2.0 (part 2 of its library specification) in base64 as the
//! TPM marshals them.
//!
//! In the first round the client sends the keys; the gateway answers with [`TpmChallenge`]. In the second it sends the same again
//! with [`TpmEvidence::answer`].

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// Evidence kind of a TPM.
pub const TPM: &str = "tpm";

/// Domain separation: the `extraData` of whatever the AK signs is SHA-256 over this, the nonce of the challenge (32 bytes), and the
/// digest of the key to be certified (32 bytes).
pub const TPM_CONTEXT: &[u8] = b"lychgate tpm v1\0";

/// Length of the nonce of a challenge, in bytes.
pub const TPM_NONCE_LEN: usize = 32;

/// What the client sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmEvidence {
    /// The certificate of the EK, and those of CAs above it that the TPM or the client has: DER, in any order. It may be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
    /// Public area of the EK, `TPMT_PUBLIC`.
    pub ek: String,
    /// Public area of the AK, `TPMT_PUBLIC`.
    pub ak: String,
    /// Public area of the key to be certified, `TPMT_PUBLIC`, if that key is in the TPM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// In the second round, the answer to the challenge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<TpmAnswer>,
}

/// The challenge. Only the TPM with the private part of the EK can open it, and only for the AK that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmChallenge {
    /// `TPM2B_ID_OBJECT` for TPM2_ActivateCredential.
    pub credential: String,
    /// `TPM2B_ENCRYPTED_SECRET` for TPM2_ActivateCredential.
    pub encrypted_secret: String,
    /// What the AK's signatures are bound to; see [`TPM_CONTEXT`].
    pub nonce: String,
    /// The PCRs to quote, in one of the TPM's banks. It may be empty if the key to be certified is in the TPM; then no quote is wanted.
    #[serde(default)]
    pub pcrs: Vec<u8>,
    /// The banks that the quote may be of, the preferred one first, named as in [`TpmQuote::bank`]. If there is none, any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub banks: Vec<String>,
    /// Whether the event log is wanted with the quote.
    #[serde(default)]
    pub log: bool,
}

/// The answer to a [`TpmChallenge`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmAnswer {
    /// What TPM2_ActivateCredential gave: its bytes, without a length.
    pub secret: String,
    /// What TPM2_Certify says of the key to be certified, if it is in the TPM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certification: Option<TpmSigned>,
    /// The quote, if one is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<TpmQuote>,
}

/// A statement of the TPM, signed by the AK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmSigned {
    /// `TPMS_ATTEST`.
    pub attest: String,
    /// `TPMT_SIGNATURE`.
    pub signature: String,
}

/// A quote with what it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmQuote {
    /// What TPM2_Quote signed.
    pub signed: TpmSigned,
    /// The bank: `sha256`, `sha384` or `sha512`.
    pub bank: String,
    /// The values of the quoted PCRs, hex, by their numbers.
    #[serde(deserialize_with = "by_pcr")]
    pub values: BTreeMap<u8, String>,
    /// The event log (TCG PC Client Platform Firmware Profile), if it was wanted and there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// Reads an object whose members are numbers of PCRs, each written in one way.
fn by_pcr<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<u8, String>, D::Error> {
    let by_text = BTreeMap::<String, String>::deserialize(from)?;
    let number = |(text, value): (String, String)| {
        let pcr = text.parse::<u8>().ok().filter(|pcr| pcr.to_string() == text);
        pcr.map(|pcr| (pcr, value)).ok_or_else(|| D::Error::custom("a PCR is a number from 0 to 255"))
    };
    by_text.into_iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_by_the_numbers_of_pcrs() {
        let read = |values: &str| {
            let signed = r#"{"attest":"","signature":""}"#;
            let text = format!(r#"{{"signed":{signed},"bank":"sha256","values":{values}}}"#);
            crate::strict::from_slice::<TpmQuote>(text.as_bytes())
        };
        let quote = read(r#"{"0":"aa","14":"bb"}"#).unwrap();
        assert_eq!(quote.values, BTreeMap::from([(0, "aa".to_owned()), (14, "bb".to_owned())]));
        let again = serde_json::to_string(&quote).unwrap();
        assert_eq!(crate::strict::from_slice::<TpmQuote>(again.as_bytes()).unwrap(), quote);
        for bad in [r#"{"07":"aa"}"#, r#"{"+7":"aa"}"#, r#"{"256":"aa"}"#, r#"{"":"aa"}"#, r#"{"7":"aa","7":"bb"}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
