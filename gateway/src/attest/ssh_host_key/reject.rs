//! Why an SSH host key is rejected.

use pki::{BadSshSignature, ForeignSshError, SshKeyError, UnixTime};

use crate::core::evidence::{Reject, RejectionCode};

static MALFORMED: RejectionCode = RejectionCode::malformed("ssh-host-malformed", None);
static KEY: RejectionCode = RejectionCode::refused(
    "ssh-host-key",
    Some("sign with a host key of type ed25519, ecdsa, or rsa of 2048 to 4096 bits"),
);
static SIGNATURE: RejectionCode = RejectionCode::refused(
    "ssh-host-signature",
    Some("sign the four lines for this connection and key with `ssh-keygen -Y sign -n join@lychgate`"),
);
static CERTIFICATE: RejectionCode =
    RejectionCode::refused("ssh-host-certificate", Some("have the CA sign the host key again, or send the key alone"));
static EXPIRED: RejectionCode = RejectionCode::refused("ssh-host-expired", Some(RENEW));
static NOT_YET: RejectionCode = RejectionCode::refused(
    "ssh-host-not-yet",
    Some("compare the clocks of this machine, of the CA and of the gateway"),
);
static AUTHORITY: RejectionCode = RejectionCode::refused(
    "ssh-host-authority",
    Some("send the key alone, or ask the operator whether the gateway should know this CA"),
);
static NAMES: RejectionCode = RejectionCode::refused(
    "ssh-host-names",
    Some("ask for one of these names, or ask the operator about `domain` in `[attest.ssh-host-key]`"),
);
static REVOKED: RejectionCode = RejectionCode::refused("ssh-host-revoked", Some("make a new host key"));

/// Hint for a certificate that has ended.
const RENEW: &str = "have the host certificate renewed, or send the key alone";

pub(super) fn malformed(why: &str) -> Reject {
    Reject::new(&MALFORMED, format!("the SSH host key cannot be judged: {why}"))
}

pub(super) fn certificate(why: &str) -> Reject {
    Reject::new(&CERTIFICATE, format!("the SSH host certificate does not hold: {why}"))
}

pub(super) fn unusable(error: &SshKeyError) -> Reject {
    match error {
        SshKeyError::Unreadable(why) => malformed(why),
        SshKeyError::Unsupported { .. } | SshKeyError::Key(_) => {
            Reject::new(&KEY, format!("the SSH host key is not one that is judged here: {error}"))
        }
    }
}

impl From<BadSshSignature> for Reject {
    fn from(error: BadSshSignature) -> Self {
        match &error {
            BadSshSignature::Unreadable(why) => malformed(why),
            BadSshSignature::OtherKey
            | BadSshSignature::Namespace { .. }
            | BadSshSignature::Sha1
            | BadSshSignature::Wrong => Self::new(&SIGNATURE, error.to_string()),
        }
    }
}

impl From<ForeignSshError> for Reject {
    fn from(error: ForeignSshError) -> Self {
        match &error {
            ForeignSshError::Unreadable(why) => malformed(why),
            ForeignSshError::Key(bad) => unusable(bad),
            ForeignSshError::Ca(_) | ForeignSshError::Sha1 | ForeignSshError::Signature => {
                certificate(&error.to_string())
            }
        }
    }
}

pub(super) fn expired(until: UnixTime) -> Reject {
    Reject::new(&EXPIRED, format!("the SSH host certificate ended at {until}"))
}

pub(super) fn not_yet(from: UnixTime) -> Reject {
    Reject::new(&NOT_YET, format!("the SSH host certificate is valid from {from}"))
}

pub(super) fn other_authority(ca: &str) -> Reject {
    Reject::new(&AUTHORITY, format!("the SSH host certificate is by the CA {ca}, which this gateway does not know"))
}

pub(super) fn no_name(names: &[String]) -> Reject {
    let text = if names.is_empty() {
        "the SSH host key is trusted, and for no host that a machine could be called after".to_owned()
    } else {
        format!("the SSH host key is trusted for {}, and none of these is a name for a machine here", some(names))
    };
    Reject::new(&NAMES, text)
}

pub(super) fn revoked() -> Reject {
    Reject::new(&REVOKED, "the SSH host key, or the CA of its certificate, is marked `@revoked` at this gateway")
}

pub(super) fn rejections() -> Vec<Reject> {
    let unsupported = SshKeyError::Unsupported { found: "sk-ssh-ed25519@openssh.com".to_owned() };
    vec![
        malformed("its JSON is malformed"),
        unusable(&unsupported),
        BadSshSignature::OtherKey.into(),
        BadSshSignature::Namespace { found: "file".to_owned() }.into(),
        BadSshSignature::Sha1.into(),
        BadSshSignature::Wrong.into(),
        ForeignSshError::Sha1.into(),
        ForeignSshError::Signature.into(),
        certificate(IS_FOR_A_USER),
        certificate(&options(&["source-address".to_owned()])),
        certificate(FOR_EVERY_HOST),
        expired(UnixTime::new(1_000_000)),
        not_yet(UnixTime::new(1_000_000)),
        other_authority("SHA256:AAAA"),
        no_name(&["web1.example.com".to_owned()]),
        no_name(&[]),
        revoked(),
    ]
}

pub(super) const IS_FOR_A_USER: &str = "it is a user's, and no host's";
pub(super) const FOR_EVERY_HOST: &str = "it names no host, so it would be valid for all";

pub(super) fn options(unknown: &[String]) -> String {
    format!("it has critical options that are not known here: {}", some(unknown))
}

/// The first few of a list.
fn some(all: &[String]) -> String {
    const SHOWN: usize = 4;
    let first: Vec<&str> = all.iter().take(SHOWN).map(String::as_str).collect();
    match all.len().saturating_sub(SHOWN) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
