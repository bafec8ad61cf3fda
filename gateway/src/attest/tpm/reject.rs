//! Why a TPM's evidence is rejected.

use pki::EkError;

use crate::core::evidence::{Reject, RejectionCode};

static MALFORMED: RejectionCode = RejectionCode::malformed("tpm-malformed", None);
static EK_UNSOUND: RejectionCode = RejectionCode::refused("tpm-ek-unsound", Some(NOT_BY_IT));
static EK_CERTIFICATE: RejectionCode = RejectionCode::refused(
    "tpm-ek-certificate",
    Some("join without this certificate, and let a person decide; or ask the machine's maker for another"),
);
static AK_UNSOUND: RejectionCode = RejectionCode::refused("tpm-ak-unsound", Some(NOT_BY_IT));
static SECRET_WRONG: RejectionCode = RejectionCode::refused("tpm-secret-wrong", Some("answer the newest challenge"));
static KEY_NOT_CERTIFIED: RejectionCode =
    RejectionCode::refused("tpm-key-not-certified", Some("make the key in the TPM whose keys are sent"));
static QUOTE_WRONG: RejectionCode =
    RejectionCode::refused("tpm-quote-wrong", Some("quote the PCRs of the newest challenge"));
static LOG_MISSING: RejectionCode = RejectionCode::refused(
    "tpm-log-missing",
    Some("let the client read the event log of the boot, which most systems show to root alone"),
);
static LOG_MISMATCH: RejectionCode =
    RejectionCode::refused("tpm-log-mismatch", Some("send the event log of this boot, or none"));
static BOOT_DIFFERS: RejectionCode = RejectionCode::refused(
    "tpm-boot-differs",
    Some(
        "boot what is allowed; if this boot is as it should be, the gateway's operator allows it in `[attest.tpm.boot]`",
    ),
);

/// Hint for keys that do not prove anything.
const NOT_BY_IT: &str = "join by other evidence, such as a join token";

pub(super) fn malformed(why: &str) -> Reject {
    Reject::new(&MALFORMED, format!("the TPM's evidence is malformed: {why}"))
}

pub(super) fn ek_unsound(why: &str) -> Reject {
    Reject::new(&EK_UNSOUND, format!("the TPM's endorsement key is not accepted: {why}"))
}

pub(super) fn certificate(error: &EkError) -> Reject {
    Reject::new(&EK_CERTIFICATE, format!("the certificate of the TPM's endorsement key does not hold: {error}"))
}

pub(super) fn ak_unsound(why: &str) -> Reject {
    Reject::new(&AK_UNSOUND, format!("the TPM's attestation key is not accepted: {why}"))
}

pub(super) fn secret_wrong() -> Reject {
    Reject::new(&SECRET_WRONG, "the TPM did not open the credential: it holds another endorsement or attestation key")
}

pub(super) fn not_certified(why: &str) -> Reject {
    Reject::new(&KEY_NOT_CERTIFIED, format!("the TPM does not vouch for the key: {why}"))
}

pub(super) fn quote_wrong(why: &str) -> Reject {
    Reject::new(&QUOTE_WRONG, format!("the TPM's quote does not hold: {why}"))
}

pub(super) fn log_missing() -> Reject {
    Reject::new(&LOG_MISSING, "the event log of the boot is required and did not come with the quote")
}

pub(super) fn log_mismatch(why: &str) -> Reject {
    Reject::new(&LOG_MISMATCH, format!("the event log is not that of the quote: {why}"))
}

/// For whoever wants a boot that is allowed.
pub(super) fn boot_differs(difference: &str) -> Reject {
    Reject::new(&BOOT_DIFFERS, format!("what was booted is not what is allowed as {difference}"))
}

/// One example of each.
pub(super) fn rejections() -> Vec<Reject> {
    vec![
        malformed("the answer is missing"),
        ek_unsound("its attribute `restricted` is not set and must be"),
        certificate(&EkError::Sha1 { subject: "CN=Example CA".to_owned() }),
        ak_unsound("its attribute `restricted` is not set and must be"),
        secret_wrong(),
        not_certified("its certification is missing"),
        quote_wrong("it is missing"),
        log_missing(),
        log_mismatch("the log does not lead to the value of PCR 7 that was quoted"),
        boot_differs("`uki-1`: kernel command line: expected `ro quiet`, measured `ro init=/bin/sh`"),
    ]
}
