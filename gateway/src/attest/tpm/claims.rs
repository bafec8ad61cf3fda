//! What is claimed of a TPM that answered.

use std::collections::BTreeMap;

use pki::{Assurance, AssuranceOf, EkCertificate, EkChain, EkDevice, Role, UnixTime};

use super::{answer::Answered, boot::Compared, keys::TpmKeys, reject::boot_differs};
use crate::core::{
    evidence::{Claims, Vouched},
    records::Claim,
};

/// What is vouched for, and what is only stated. Only what a trusted maker signed is claimed as maker, model and firmware. What another
/// certificate says of them is stated: a rule that names a maker cannot read it.
pub(super) fn vouched(
    keys: &TpmKeys,
    answered: &Answered,
    certificate: Option<&EkCertificate>,
    compared: &Compared,
    now: UnixTime,
) -> Vouched {
    let mut values = BTreeMap::new();
    let mut text = |name: &str, value: &str| {
        values.insert(name.to_owned(), Claim::Text(value.to_owned()));
    };
    text("ek", &keys.fingerprint().hex());
    text("key", if keys.inside.is_some() { "inside" } else { "beside" });
    if let Some(log) = answered.log {
        text("log", log);
    }
    text("secure_boot", answered.boot.secure_boot());
    let of = if keys.inside.is_some() { AssuranceOf::Key } else { AssuranceOf::Host };
    let (mut assurance, mut stated) = (Assurance::SOFTWARE, Vec::new());
    match certificate.map(|certificate| (&certificate.chain, certificate)) {
        None => text("chain", "none"),
        Some((EkChain::UnknownIssuer, certificate)) => {
            text("chain", "unknown-issuer");
            stated = device(&certificate.device);
        }
        Some((EkChain::Verified { anchor }, certificate)) => {
            assurance = Assurance::hardware(of);
            text("chain", "verified");
            text("anchor", anchor);
            text("ek_expired", if certificate.not_after < now { "yes" } else { "no" });
            device(&certificate.device).into_iter().for_each(|(name, value)| text(name, value));
        }
    }
    values.insert("resets".to_owned(), Claim::Number(answered.resets.into()));
    let clock = i64::try_from(answered.clock).unwrap_or(i64::MAX);
    values.insert("clock".to_owned(), Claim::Number(clock));
    let assurance = answered.boot.assurance(assurance, compared);
    values.extend(answered.boot.claims(compared, assurance));
    let claims = Claims { values, assurance, role: Some(Role::Machine), names: vec![], grants: None };
    let stated = stated.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let differs = match compared {
        Compared::Unasked | Compared::Allowed(_) => None,
        Compared::Differs(difference) => Some(boot_differs(&difference.to_string())),
    };
    Vouched { stated, differs, ..Vouched::claims(claims) }
}

/// What a certificate says of the TPM.
fn device(of: &EkDevice) -> Vec<(&'static str, &str)> {
    let EkDevice { maker, model, firmware } = of;
    let all = [("maker", maker), ("model", model), ("firmware", firmware)];
    all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
}
