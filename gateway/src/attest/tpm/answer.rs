//! The answer to a challenge: the secret, the certification of the key, the quote and its event log.

use aws_lc_rs::{constant_time, digest};
use pki::{KeyDigest, shown};
use tpm::{Attest, Attested, PcrValues, QuotedPcrs, verify};
use wire::evidence::{TPM_CONTEXT, TpmAnswer, TpmQuote, TpmSigned};

use super::{
    LogDemand, Tpm,
    boot::MeasuredBoot,
    keys::{Asked, TpmKeys, decoded},
    reject::{log_missing, malformed, not_certified, quote_wrong, secret_wrong},
};
use crate::core::evidence::Reject;

/// What an answer proves.
pub(super) struct Answered {
    /// `sent` or `missing`, if it was asked for.
    pub(super) log: Option<&'static str>,
    /// What was booted.
    pub(super) boot: MeasuredBoot,
    /// How often the TPM was started anew.
    pub(super) resets: u32,
    /// Milliseconds that the TPM has run since it was cleared.
    pub(super) clock: u64,
}

/// Checks an answer. The secret comes first: who cannot open it costs no signature.
pub(super) fn check(
    answer: &TpmAnswer,
    keys: &TpmKeys,
    asked: &Asked,
    for_key: &KeyDigest,
    wanted: &Tpm,
) -> Result<Answered, Reject> {
    constant_time::verify_slices_are_equal(&decoded(&answer.secret)?, &asked.secret).map_err(|_| secret_wrong())?;
    let bound = bound(asked, for_key);
    match (&keys.inside, &answer.certification) {
        (Some(key), Some(signed)) => match statement(signed, keys, &bound, not_certified)?.attested {
            Attested::Certify { name, .. } if name == key.public().name() => {}
            Attested::Certify { .. } => return Err(not_certified("it certified another key")),
            Attested::Quote(_) => return Err(not_certified("what it signed is a quote")),
        },
        (Some(_), None) => return Err(not_certified("its certification is missing")),
        (None, Some(_)) => return Err(malformed("a certification without the public area of the key")),
        (None, None) => {}
    }
    let quote = answer.quote.as_ref().ok_or_else(|| quote_wrong("it is missing"))?;
    let signed = statement(&quote.signed, keys, &bound, quote_wrong)?;
    let quoted = quoted(quote, &signed, wanted)?;
    let (log, told) = match (wanted.log, quote.log.as_deref()) {
        // One that was not asked for is not looked at.
        (None, _) => (None, None),
        (Some(LogDemand::Wanted), None) => (Some("missing"), None),
        (Some(LogDemand::Required), None) => return Err(log_missing()),
        (Some(LogDemand::Wanted | LogDemand::Required), Some(log)) => (Some("sent"), Some(log)),
    };
    let boot = MeasuredBoot::read(&quoted, told)?;
    Ok(Answered { log, boot, resets: signed.clock.reset_count, clock: signed.clock.clock })
}

/// The `extraData` of what the AK signs.
pub(super) fn bound(asked: &Asked, for_key: &KeyDigest) -> Vec<u8> {
    let bytes = [TPM_CONTEXT, &asked.nonce, for_key.as_bytes()].concat();
    digest::digest(&digest::SHA256, &bytes).as_ref().to_vec()
}

/// What the AK signed for this challenge and key.
fn statement(signed: &TpmSigned, keys: &TpmKeys, bound: &[u8], wrong: fn(&str) -> Reject) -> Result<Attest, Reject> {
    let (attest, signature) = (decoded(&signed.attest)?, decoded(&signed.signature)?);
    let attest = verify(&keys.ak, &attest, &signature).map_err(|error| wrong(&error.to_string()))?;
    if attest.extra_data != bound {
        return Err(wrong("it was signed for another challenge or another key"));
    }
    Ok(attest)
}

fn quoted(quote: &TpmQuote, signed: &Attest, wanted: &Tpm) -> Result<QuotedPcrs, Reject> {
    let bank = wanted.banks.iter().copied().find(|bank| bank.as_str() == quote.bank).ok_or_else(|| {
        let accepted: Vec<&str> = wanted.banks.iter().map(|bank| bank.as_str()).collect();
        quote_wrong(&format!("its bank is `{}`, and accepted are `{}`", shown(&quote.bank), accepted.join("`, `")))
    })?;
    let value = |(pcr, text): (&u8, &String)| hex::decode(text).map(|value| (*pcr, value));
    let values: PcrValues = quote
        .values
        .iter()
        .map(value)
        .collect::<Result<_, _>>()
        .map_err(|_| malformed("a value of a PCR is not hex"))?;
    match &signed.attested {
        Attested::Quote(said) => {
            said.check(wanted.pcrs, bank, &values).map_err(|error| quote_wrong(&error.to_string()))
        }
        Attested::Certify { .. } => Err(quote_wrong("what it signed is a certification")),
    }
}
