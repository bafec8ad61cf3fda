//! Why a document of a cloud is rejected.

use pki::{CmsError, PathError, UnixTime};

use crate::core::evidence::{Reject, RejectionCode};

static MALFORMED: RejectionCode = RejectionCode::malformed("cloud-malformed", None);
static DOCUMENT: RejectionCode = RejectionCode::refused(
    "cloud-document",
    Some("ask the operator which documents the gateway accepts, or join by other evidence, such as a join token"),
);
static NONCE: RejectionCode =
    RejectionCode::refused("cloud-nonce", Some("get a new document for the newest challenge"));
static SIGNATURE: RejectionCode = RejectionCode::refused(
    "cloud-signature",
    Some("send the document as the cloud gave it, or ask the operator whether its cloud and region are configured"),
);
static TIME: RejectionCode = RejectionCode::refused(
    "cloud-time",
    Some("get a new document; an instance's identity document admits only for a while after its start"),
);
static ACCOUNT: RejectionCode =
    RejectionCode::refused("cloud-account", Some("ask the operator which accounts and regions may join"));
static MEASURED: RejectionCode = RejectionCode::refused(
    "cloud-measured",
    Some("start the image that the operator expects, or ask for its measurements to be added"),
);
static DEBUG: RejectionCode =
    RejectionCode::refused("cloud-debug", Some("start the enclave without debug mode, or the instance with UEFI"));
static USED: RejectionCode = RejectionCode::refused(
    "cloud-used",
    Some("join by other evidence, such as a join token; if this is the first time, somebody else read the document"),
);

pub(super) fn malformed(why: &str) -> Reject {
    Reject::new(&MALFORMED, format!("the cloud's document cannot be judged: {why}"))
}

pub(super) fn no_document(has: &[String], accepted: &[&str]) -> Reject {
    let has = if has.is_empty() { "no document of a cloud".to_owned() } else { format!("`{}`", has.join("`, `")) };
    Reject::new(&DOCUMENT, format!("the machine has {has}, and the gateway accepts `{}`", accepted.join("`, `")))
}

pub(super) fn other_nonce() -> Reject {
    Reject::new(&NONCE, "the cloud's document was made for another challenge or another key")
}

pub(super) fn signature(why: &str) -> Reject {
    Reject::new(&SIGNATURE, format!("the cloud's document does not hold: {why}"))
}

pub(super) fn late(until: UnixTime, now: UnixTime) -> Reject {
    let ago = now.since(until).as_secs();
    Reject::new(&TIME, format!("the cloud's document admitted the instance until {ago} s ago"))
}

pub(super) fn expired(at: UnixTime) -> Reject {
    Reject::new(&TIME, format!("the cloud's document ended at {at}"))
}

pub(super) fn other_time(at: UnixTime) -> Reject {
    Reject::new(&TIME, format!("the cloud's document was made at {at}, and not for this challenge"))
}

pub(super) fn early(at: UnixTime) -> Reject {
    Reject::new(&TIME, format!("the cloud's document is from {at}, which has not come yet"))
}

pub(super) fn account(what: &str, id: &str) -> Reject {
    Reject::new(&ACCOUNT, format!("the instance is of the {what} `{id}`, which may not join"))
}

pub(super) fn measured(pcr: u64, value: Option<&[u8]>) -> Reject {
    let value = value.map_or_else(|| "missing".to_owned(), hex::encode);
    Reject::new(&MEASURED, format!("PCR {pcr} is {value}, which is not what the operator expects"))
}

pub(super) fn debug() -> Reject {
    Reject::new(&DEBUG, "nothing was measured: the enclave is in debug mode, or the instance was not started with UEFI")
}

pub(super) fn used(device: &str) -> Reject {
    Reject::new(&USED, format!("the instance `{device}` was admitted already, for another key"))
}

impl From<CmsError> for Reject {
    fn from(error: CmsError) -> Self {
        match error {
            CmsError::TooLong { .. }
            | CmsError::Malformed
            | CmsError::Signers { .. }
            | CmsError::TooMany
            | CmsError::SignerName
            | CmsError::Ambiguous { .. } => malformed(&error.to_string()),
            CmsError::Digest | CmsError::Algorithm | CmsError::Content | CmsError::NoSigner | CmsError::Signature => {
                signature(&error.to_string())
            }
        }
    }
}

/// What is wrong with the certificates of a document.
pub(super) fn path(error: &PathError) -> Reject {
    if matches!(error, PathError::Expired { .. } | PathError::NotYetValid { .. }) {
        return Reject::new(&TIME, format!("the cloud's document does not hold: {error}"));
    }
    signature(&error.to_string())
}

/// One example of each.
pub(super) fn rejections() -> Vec<Reject> {
    let at = UnixTime::new(1_000_000);
    vec![
        malformed("its JSON is malformed"),
        CmsError::Signers { found: 2 }.into(),
        no_document(&["aws-identity".to_owned()], &["aws-nitro"]),
        no_document(&[], &["aws-nitro", "azure-attested"]),
        other_nonce(),
        CmsError::Signature.into(),
        CmsError::NoSigner.into(),
        path(&PathError::UnknownIssuer { issuer: "CN=aws.nitro-enclaves".to_owned() }),
        path(&PathError::Expired { subject: "CN=i-0123".to_owned(), at }),
        late(at, UnixTime::new(1_000_060)),
        expired(at),
        other_time(at),
        early(at),
        account("account", "123456789012"),
        measured(4, Some(&[0xab; 4])),
        measured(4, None),
        debug(),
        used("aws i-0123456789abcdef0"),
    ]
}
