//! What is claimed of a TPM that answered.

use std::collections::BTreeMap;

use pki::{AssuranceLevel, EkCertificate, EkChain, EkDevice, Role, UnixTime};

use super::{answer::Answered, keys::TpmKeys};
use crate::core::{evidence::Claims, records::Claim};

/// Only what a trusted maker signed is told as maker, model and firmware. What another certificate says is told apart from that, as
/// `stated`: a rule that names a maker must not believe it.
pub(super) fn claims(
    keys: &TpmKeys,
    answered: &Answered,
    certificate: Option<&EkCertificate>,
    now: UnixTime,
) -> Claims {
    let mut values = BTreeMap::new();
    let mut text = |name: &str, value: &str| {
        values.insert(name.to_owned(), Claim::Text(value.to_owned()));
    };
    text("ek", &keys.fingerprint().hex());
    text("key", if keys.inside.is_some() { "inside" } else { "beside" });
    if let Some(log) = answered.log {
        text("log", log);
    }
    text("secure_boot", answered.secure_boot);
    let mut assurance = AssuranceLevel::Software;
    match certificate.map(|certificate| (&certificate.chain, certificate)) {
        None => text("chain", "none"),
        Some((EkChain::UnknownIssuer, certificate)) => {
            text("chain", "unknown-issuer");
            if let Some(stated) = stated(&certificate.device) {
                text("stated", &stated);
            }
        }
        Some((EkChain::Verified { anchor }, certificate)) => {
            assurance = AssuranceLevel::Hardware;
            text("chain", "verified");
            text("anchor", anchor);
            text("ek_expired", if certificate.not_after < now { "yes" } else { "no" });
            let EkDevice { maker, model, firmware } = &certificate.device;
            for (name, value) in [("maker", maker), ("model", model), ("firmware", firmware)] {
                if let Some(value) = value {
                    text(name, value);
                }
            }
        }
    }
    values.insert("resets".to_owned(), Claim::Number(answered.resets.into()));
    let clock = i64::try_from(answered.clock).unwrap_or(i64::MAX);
    values.insert("clock".to_owned(), Claim::Number(clock));
    Claims { values, assurance, role: Some(Role::Machine), names: vec![], grants: None }
}

/// Maker, model and firmware as a certificate says that nobody vouches for.
fn stated(device: &EkDevice) -> Option<String> {
    let EkDevice { maker, model, firmware } = device;
    let all: Vec<&str> = [maker, model, firmware].into_iter().flatten().map(String::as_str).collect();
    (!all.is_empty()).then(|| all.join(" "))
}
