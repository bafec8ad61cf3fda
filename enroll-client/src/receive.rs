//! A gateway's reply to a certificate that may be installed. The reply is believed only after the certificate in it was
//! verified like a peer's, for our key, under the roots that came with it, one of which is the pinned one.

use pki::{Identity, KeyDigest, PeerError, PemError, Role, Serial, TrustAnchors, UnixTime};
use wire::enroll::{IssuedReply, WaitingReply};

use crate::flow::Ticket;
use crate::renew::Life;
use crate::report::{Complaint, Exit};
use crate::target::Address;

/// A certificate ready to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The enrollment or lineage it belongs to.
    pub id: String,
    /// Who it says we are.
    pub identity: Identity,
    /// The leaf, PEM.
    pub leaf: String,
    /// The issuing CA, PEM.
    pub chain: String,
    /// The trusted roots, PEM.
    pub bundle: String,
    /// Its serial number.
    pub serial: Serial,
    /// Its key.
    pub key: KeyDigest,
    /// Its times.
    pub life: Life,
    /// Where its holder talks to the gateway.
    pub manage: Address,
    /// The gateway's clock when it answered.
    pub time: UnixTime,
}

/// Why a reply is not believed.
#[derive(Debug, thiserror::Error)]
pub enum BadReply {
    /// Not PEM.
    #[error("`{field}` is not what it should be: {cause}")]
    Pem {
        /// Which field.
        field: &'static str,
        /// What is wrong.
        cause: PemError,
    },
    /// More or fewer certificates than expected.
    #[error("`{0}` holds the wrong number of certificates")]
    Count(&'static str),
    /// A field does not parse.
    #[error("`{0}` does not parse")]
    Field(&'static str),
    /// The roots cannot be used.
    #[error("its roots cannot be used: {0}")]
    Roots(String),
    /// The certificate does not verify.
    #[error("the certificate does not verify: {0}")]
    Certificate(PeerError),
    /// The certificate is for another key.
    #[error("the certificate is for another key than ours")]
    OtherKey,
    /// The certificate and the fields beside it disagree.
    #[error("the certificate disagrees with `{0}`")]
    Disagrees(&'static str),
    /// The pinned root is not among the roots.
    #[error("the root we were told to expect is not in its bundle")]
    PinMissing,
}

impl From<BadReply> for Complaint {
    fn from(bad: BadReply) -> Self {
        let exit = match &bad {
            BadReply::PinMissing => Exit::Untrusted,
            _ => Exit::Failure,
        };
        Self::new(exit, "bad-reply", format!("the gateway's reply cannot be used: {bad}"))
            .hint("nothing was installed; tell the gateway's operator")
    }
}

/// What a reply must match.
#[derive(Clone, Copy, Debug)]
pub struct Expect<'a> {
    /// Our key.
    pub key: &'a KeyDigest,
    /// The root pinned at first contact; at renewals the roots may have moved on.
    pub pin: Option<&'a KeyDigest>,
}

/// Checks a reply and takes it apart.
///
/// # Errors
/// When anything in it is not as it must be; nothing of it may be used then.
pub fn accept(reply: &IssuedReply, expect: Expect<'_>) -> Result<Issued, BadReply> {
    let leaf = certificates("certificate", &reply.certificate)?;
    let chain = certificates("chain", &reply.chain)?;
    let roots = certificates("bundle", &reply.bundle)?;
    let [leaf] = leaf.as_slice() else { return Err(BadReply::Count("certificate")) };
    let identity = Identity::parse(&reply.identity).map_err(|_| BadReply::Field("identity"))?;
    let now = UnixTime::new(reply.time);

    let root_slices: Vec<&[u8]> = roots.iter().map(Vec::as_slice).collect();
    let chain_slices: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    if let Some(pin) = expect.pin
        && pki::find_pinned_root(&root_slices, pin).is_none()
    {
        return Err(BadReply::PinMissing);
    }
    let anchors = TrustAnchors::new(&identity.domain, &root_slices, now).map_err(|e| BadReply::Roots(e.to_string()))?;
    let peer = pki::verify_peer(leaf, &chain_slices, &anchors, &[Role::Machine, Role::Person], now)
        .map_err(BadReply::Certificate)?;

    if peer.key != *expect.key {
        return Err(BadReply::OtherKey);
    }
    if peer.identity != identity {
        return Err(BadReply::Disagrees("identity"));
    }
    if Serial::parse_hex(&reply.serial).ok() != Some(peer.serial) {
        return Err(BadReply::Disagrees("serial"));
    }
    let latest = peer.not_after;
    Ok(Issued {
        id: reply.id.clone(),
        identity,
        leaf: pki::to_pem("CERTIFICATE", leaf),
        chain: chain.iter().map(|der| pki::to_pem("CERTIFICATE", der)).collect(),
        bundle: roots.iter().map(|der| pki::to_pem("CERTIFICATE", der)).collect(),
        serial: peer.serial,
        key: peer.key,
        life: Life {
            not_before: peer.not_before,
            not_after: latest,
            renew_after: UnixTime::new(reply.renew_after).min(latest),
            renew_by: UnixTime::new(reply.renew_by).min(latest),
        },
        manage: Address::parse(&reply.manage, 443).map_err(|_| BadReply::Field("manage"))?,
        time: now,
    })
}

/// The certificates of one field, at least one.
fn certificates(field: &'static str, text: &str) -> Result<Vec<Vec<u8>>, BadReply> {
    let found = pki::parse_pem("CERTIFICATE", text).map_err(|cause| BadReply::Pem { field, cause })?;
    if found.is_empty() { Err(BadReply::Count(field)) } else { Ok(found) }
}

/// A `202` taken apart.
///
/// # Errors
/// When the nonce is not 16 bytes in hex.
pub fn ticket(reply: &WaitingReply) -> Result<Ticket, BadReply> {
    let mut nonce = [0; 16];
    hex::decode_to_slice(&reply.nonce, &mut nonce).map_err(|_| BadReply::Field("nonce"))?;
    Ok(Ticket {
        id: reply.id.clone(),
        nonce,
        expires: reply.expires,
        approvals_missing: reply.approvals_missing,
        poll_after: std::time::Duration::from_secs(reply.poll_after),
    })
}

#[cfg(test)]
impl Issued {
    /// Something to hand around in tests that do not look inside.
    pub(crate) fn example() -> Self {
        Self {
            id: "e1".into(),
            identity: Identity::parse("spiffe://td.example/machine/edge-07").unwrap(),
            leaf: String::new(),
            chain: String::new(),
            bundle: String::new(),
            serial: Serial::from_entropy([1; 16]),
            key: KeyDigest::parse_hex(&"0".repeat(64)).unwrap(),
            life: Life {
                not_before: UnixTime::new(0),
                not_after: UnixTime::new(1_000),
                renew_after: UnixTime::new(500),
                renew_by: UnixTime::new(750),
            },
            manage: Address::parse("gw:1", 1).unwrap(),
            time: UnixTime::new(0),
        }
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
