//! Checks a gateway's reply and gives a certificate that may be installed. The certificate must chain to a root that we hold (at
//! first contact the pinned one), a new root must be cross-certified by a root that we hold, and the gateway's addresses must be
//! names in the certificate of this TLS connection. So a thief of the gateway's TLS key who has no CA key cannot change what the
//! client trusts. A reply with a smaller order than an accepted one is refused.

use std::time::Duration;

use pki::{Identity, KeyDigest, Order, PeerError, PemError, Role, Serial, TrustAnchors, TrustDomain, UnixTime};
use wire::enroll::{IssuedReply, WaitingReply};

use crate::core::renew::Life;
use crate::core::target::Address;
use crate::core::trust::{Expected, GatewayCertificate, anchors_of};
use crate::text::report::{Complaint, Exit};

/// A checked certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Id of its enrollment or lineage.
    pub id: String,
    /// Its SPIFFE ID.
    pub identity: Identity,
    /// The leaf, PEM.
    pub leaf: String,
    /// The issuing CA, PEM.
    pub chain: String,
    /// The roots to trust after installing it, PEM.
    pub bundle: String,
    /// The pin of the root that it chains to.
    pub pin: KeyDigest,
    /// Its serial number.
    pub serial: Serial,
    /// SHA-256 of the key that it certifies.
    pub key: KeyDigest,
    /// Its validity and renewal times.
    pub life: Life,
    /// The manage face.
    pub manage: Address,
    /// The greatest order accepted so far.
    pub order: Order,
    /// The gateway's clock when it answered.
    pub time: UnixTime,
}

/// A request that the gateway has recorded and that waits for approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingApproval {
    /// Id of the enrollment.
    pub id: String,
    /// The gateway's part of the waiting code (`pki::code`).
    pub nonce: [u8; 16],
    /// When the request expires, seconds since the Unix epoch by the gateway's clock.
    pub expires: u64,
    /// Number of approvals still missing.
    pub approvals_missing: u32,
    /// Time between polls that are not long polls.
    pub poll_after: Duration,
}

/// Why a reply is refused.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum BadReply {
    #[error("`{field}` is not what it should be: {cause}")]
    Pem { field: &'static str, cause: PemError },
    #[error("`{0}` holds the wrong number of certificates")]
    Count(&'static str),
    #[error("`{0}` does not parse")]
    Field(&'static str),
    #[error("its roots cannot be used: {0}")]
    Roots(String),
    #[error("the certificate does not verify: {0}")]
    Certificate(PeerError),
    #[error("the certificate is for another key than ours")]
    OtherKey,
    #[error("the certificate disagrees with `{0}`")]
    Disagrees(&'static str),
    #[error("the expected root is not in its bundle")]
    PinMissing,
    /// A new root without a valid cross certificate by a root that we hold.
    #[error("it names the root {0}, which no root that is trusted here vouches for")]
    NewRoot(KeyDigest),
    #[error("{0}")]
    Older(pki::VouchError),
    /// An address of the gateway whose host is not in its certificate.
    #[error("`{field}` leads to {host}, and the gateway's certificate is not for that name")]
    Elsewhere { field: &'static str, host: String },
}

impl From<BadReply> for Complaint {
    fn from(bad: BadReply) -> Self {
        let exit = match &bad {
            BadReply::PinMissing
            | BadReply::NewRoot(_)
            | BadReply::Older(_)
            | BadReply::Elsewhere { .. }
            | BadReply::Certificate(_) => Exit::Untrusted,
            _ => Exit::Failure,
        };
        Self::new(exit, "bad-reply", format!("the gateway's reply cannot be used: {bad}"))
            .hint("nothing was taken from it; tell the gateway's operator")
    }
}

/// What the client has accepted from the gateway before; empty at first contact.
#[derive(Clone, Debug, Default)]
pub struct KnownGateway {
    /// The greatest order accepted so far.
    pub order: Order,
    /// The manage face.
    pub manage: Option<Address>,
}

impl KnownGateway {
    /// Whether a reply of this order may change roots and address. A gateway that sends none after one was accepted is of an older
    /// version, reinstalled: its certificate is accepted, roots and address stay.
    fn may_change(&self, order: Order) -> Result<bool, BadReply> {
        if order == Order::default() {
            return Ok(self.order == Order::default());
        }
        order.check(self.order).map_err(BadReply::Older)?;
        Ok(true)
    }
}

/// What a reply must match.
#[derive(Clone, Copy, Debug)]
pub struct Expect<'a> {
    /// Digest of the key that was sent.
    pub key: &'a KeyDigest,
    /// The pin or the roots trusted so far.
    pub believed: &'a Expected,
    /// The gateway's certificate in this TLS connection.
    pub shown: Option<&'a GatewayCertificate>,
    /// What was accepted before.
    pub before: &'a KnownGateway,
    /// The current time by the gateway's clock, within the bounds of [`crate::core::offset`].
    pub now: UnixTime,
}

/// The roots trusted so far that are valid now.
struct TrustedRoots {
    domain: TrustDomain,
    roots: Vec<Vec<u8>>,
    anchors: TrustAnchors,
}

impl TrustedRoots {
    fn new(believed: &Expected, offered: &[&[u8]], now: UnixTime) -> Result<Self, BadReply> {
        let unusable = |error: String| BadReply::Roots(error);
        let (domain, roots) = match believed {
            Expected::Pin(pin) => {
                let root = pki::find_pinned_root(offered, pin).ok_or(BadReply::PinMissing)?;
                let domain = pki::root_domain(root).map_err(|error| unusable(error.to_string()))?;
                (domain, vec![root.to_vec()])
            }
            Expected::Roots { domain, roots } => (domain.clone(), roots.clone()),
            Expected::Anybody => return Err(BadReply::PinMissing),
        };
        let anchors = anchors_of(&domain, &roots, now).map_err(unusable)?;
        Ok(Self { domain, roots, anchors })
    }

    /// The roots to trust from now on: those we hold, and the offered ones that a root we hold has certified. An offered root without
    /// a valid cross certificate is an error. A root that is not offered is kept; an expired one is dropped if another remains.
    fn with(&self, offered: &[&[u8]], cross: &[Vec<u8>], now: UnixTime) -> Result<Vec<Vec<u8>>, BadReply> {
        let pin_of = |root: &[u8]| pki::root_pin(root).map_err(|error| BadReply::Roots(error.to_string()));
        let mut all = Vec::new();
        for root in offered {
            let pin = pin_of(root)?;
            // The same key with other dates needs no cross certificate: it is signed by a key that we hold, its own.
            let same_key = self.roots.iter().any(|held| pin_of(held).is_ok_and(|held| held == pin));
            if !same_key && !cross.iter().any(|cross| pki::verify_cross(root, cross, &self.anchors, now).is_ok()) {
                return Err(BadReply::NewRoot(pin));
            }
            all.push((pin, root.to_vec()));
        }
        for held in &self.roots {
            let (pin, good) = (pin_of(held)?, anchors_of(&self.domain, std::slice::from_ref(held), now).is_ok());
            if good && all.iter().all(|(other, _)| *other != pin) {
                all.push((pin, held.clone()));
            }
        }
        let roots: Vec<Vec<u8>> = all.into_iter().map(|(_, root)| root).collect();
        anchors_of(&self.domain, &roots, now).map_err(BadReply::Roots)?;
        Ok(roots)
    }
}

/// Checks and converts a reply. After an error nothing of it may be used.
pub fn accept(reply: &IssuedReply, expect: Expect<'_>) -> Result<Issued, BadReply> {
    let leaf = certificates("certificate", &reply.certificate)?;
    let chain = certificates("chain", &reply.chain)?;
    let roots = certificates("bundle", &reply.bundle)?;
    let order = Order::new(reply.order);
    let may_change = expect.before.may_change(order)?;
    let cross = if reply.cross.is_empty() || !may_change { vec![] } else { certificates("cross", &reply.cross)? };
    let [leaf] = leaf.as_slice() else { return Err(BadReply::Count("certificate")) };
    let identity = Identity::parse(&reply.identity).map_err(|_| BadReply::Field("identity"))?;
    let now = expect.now;

    let offered: Vec<&[u8]> = roots.iter().map(Vec::as_slice).collect();
    let chain_slices: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let held = TrustedRoots::new(expect.believed, &offered, now)?;
    let (peer, pin) = pki::verify_peer_to_root(leaf, &chain_slices, &held.anchors, &[Role::Machine, Role::Person], now)
        .map_err(BadReply::Certificate)?;
    let bundle = held.with(&offered, &cross, now)?;

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
    let manage = match &expect.before.manage {
        Some(held) if !may_change => held.clone(),
        _ => own_address("manage", &reply.manage, expect.shown)?,
    };
    Ok(Issued {
        id: reply.id.clone(),
        identity,
        leaf: pki::to_pem("CERTIFICATE", leaf),
        chain: chain.iter().map(|der| pki::to_pem("CERTIFICATE", der)).collect(),
        bundle: bundle.iter().map(|der| pki::to_pem("CERTIFICATE", der)).collect(),
        pin,
        serial: peer.serial,
        key: peer.key,
        life: Life {
            not_before: peer.not_before,
            not_after: latest,
            renew_after: UnixTime::new(reply.renew_after).min(latest),
            renew_by: UnixTime::new(reply.renew_by).min(latest),
        },
        manage,
        order: order.max(expect.before.order),
        time: now,
    })
}

/// Parses an address that the gateway gives as its own. Its host must be a name in the gateway's certificate.
pub fn own_address(field: &'static str, text: &str, shown: Option<&GatewayCertificate>) -> Result<Address, BadReply> {
    let address = Address::parse(text, 443).map_err(|_| BadReply::Field(field))?;
    if shown.is_some_and(|shown| shown.names(address.host())) {
        Ok(address)
    } else {
        Err(BadReply::Elsewhere { field, host: address.host().to_owned() })
    }
}

/// The certificates of one field, at least one.
fn certificates(field: &'static str, text: &str) -> Result<Vec<Vec<u8>>, BadReply> {
    let found = pki::parse_pem("CERTIFICATE", text).map_err(|cause| BadReply::Pem { field, cause })?;
    if found.is_empty() { Err(BadReply::Count(field)) } else { Ok(found) }
}

/// Converts a `202` reply.
pub fn pending_approval(reply: &WaitingReply) -> Result<PendingApproval, BadReply> {
    let mut nonce = [0; 16];
    hex::decode_to_slice(&reply.nonce, &mut nonce).map_err(|_| BadReply::Field("nonce"))?;
    Ok(PendingApproval {
        id: reply.id.clone(),
        nonce,
        expires: reply.expires,
        approvals_missing: reply.approvals_missing,
        poll_after: Duration::from_secs(reply.poll_after),
    })
}

#[cfg(test)]
impl Issued {
    /// For tests that do not use its contents.
    pub(crate) fn example() -> Self {
        Self {
            id: "e1".into(),
            identity: Identity::parse("spiffe://td.example/machine/edge-07").unwrap(),
            leaf: String::new(),
            chain: String::new(),
            bundle: String::new(),
            pin: KeyDigest::parse_hex(&"0".repeat(64)).unwrap(),
            serial: Serial::from_entropy([1; 16]),
            key: KeyDigest::parse_hex(&"0".repeat(64)).unwrap(),
            life: Life {
                not_before: UnixTime::new(0),
                not_after: UnixTime::new(1_000),
                renew_after: UnixTime::new(500),
                renew_by: UnixTime::new(750),
            },
            manage: Address::parse("gw:1", 1).unwrap(),
            order: Order::default(),
            time: UnixTime::new(0),
        }
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
