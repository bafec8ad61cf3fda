//! Verifies the gateway's certificate chain: at first contact by the pinned root, later by the roots of the bundle. The chain and the
//! time are arguments; [`crate::edge::verifier`] calls this in a handshake.

use std::time::Duration;

use pki::{AnchorError, CertFault, ChainError, KeyDigest, PeerError, TrustAnchors, TrustDomain, UnixTime};

use crate::core::target::Address;
use crate::text;
use crate::text::report::{Complaint, Exit};

/// How the gateway is verified.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Its chain ends in the root with this pin, which it sends.
    Pin(KeyDigest),
    /// Its chain ends in one of these roots.
    Roots {
        /// The trust domain.
        domain: TrustDomain,
        /// The roots, DER.
        roots: Vec<Vec<u8>>,
    },
    /// Not at all: only to read the root that it presents. No request is sent.
    Anybody,
}

/// Why the peer is not accepted as the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distrust {
    place: String,
    why: DistrustCause,
}

/// The causes, the most specific first.
#[derive(Clone, Debug, PartialEq, Eq)]
enum DistrustCause {
    /// It presents another root, or none.
    OtherRoot { presented: Option<KeyDigest>, expected: KeyDigest },
    /// Its chain does not end in one of our roots.
    OtherCa,
    /// The certificate is for another host.
    OtherHost,
    /// It is not valid yet by the local clock.
    TooEarly { now: UnixTime, from: UnixTime },
    /// It has expired by the local clock.
    TooLate { now: UnixTime, at: UnixTime },
    /// Our own roots are invalid.
    OwnRoots(String),
    /// Any other error of the verification.
    Other(String),
}

impl Distrust {
    /// Adds the address of the connection.
    #[must_use]
    pub fn at(self, address: &Address) -> Self {
        Self { place: address.to_string(), ..self }
    }
}

impl std::fmt::Display for Distrust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = &self.place;
        match &self.why {
            DistrustCause::OtherRoot { presented: Some(presented), expected } => write!(
                f,
                "the gateway at {place} presents the root {presented}, and {expected} was expected: it is the wrong gateway, or somebody is in between"
            ),
            DistrustCause::OtherRoot { presented: None, expected } => write!(
                f,
                "{place} presents no gateway's root, and {expected} was expected: it is no gateway, or somebody is in between"
            ),
            DistrustCause::OtherCa => write!(
                f,
                "the certificate of {place} does not lead to a root in our bundle: it is another gateway, or somebody is in between"
            ),
            DistrustCause::OtherHost => write!(f, "the gateway's certificate is not for the name in {place}"),
            DistrustCause::TooEarly { now, from } => {
                write!(f, "the certificate of {place} is valid from {from}, and this machine's clock says {now}")
            }
            DistrustCause::TooLate { now, at } => {
                write!(f, "the certificate of {place} expired at {at}, and this machine's clock says {now}")
            }
            DistrustCause::OwnRoots(cause) => write!(f, "the roots in our bundle cannot be used: {cause}"),
            DistrustCause::Other(cause) => write!(f, "{place} cannot be trusted: {cause}"),
        }
    }
}

impl std::error::Error for Distrust {}

impl From<Distrust> for Complaint {
    fn from(distrust: Distrust) -> Self {
        let (code, hint) = match &distrust.why {
            DistrustCause::OtherRoot { .. } => {
                ("wrong-pin", "compare the pin with the gateway's operator; do not go on without")
            }
            DistrustCause::OtherCa => {
                ("wrong-ca", "nothing was sent; ask the gateway's operator whether its root was replaced")
            }
            DistrustCause::OtherHost => ("wrong-host", "use the name or address that the gateway's operator gave you"),
            DistrustCause::TooEarly { .. } => {
                ("clock", "set this machine's clock (compare with `date -u`) and try again")
            }
            DistrustCause::TooLate { .. } => (
                "clock",
                "check this machine's clock (`date -u`); if it is right, the gateway's certificate must be renewed",
            ),
            DistrustCause::OwnRoots(_) | DistrustCause::Other(_) => {
                ("untrusted", "nothing was sent; ask the gateway's operator")
            }
        };
        Self::new(Exit::Untrusted, code, distrust.to_string()).hint(hint)
    }
}

/// The verified certificate of a gateway. It limits the addresses and times that the gateway may claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayCertificate {
    leaf: Vec<u8>,
    domain: TrustDomain,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl GatewayCertificate {
    /// Whether it contains this host name or address.
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        pki::names_host(&self.leaf, host)
    }

    /// Its trust domain.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Whether it is valid at this time.
    #[must_use]
    pub fn covers(&self, time: UnixTime) -> bool {
        (self.not_before..=self.not_after).contains(&time)
    }
}

/// Tolerance for the local clock in the validity check of the gateway's certificate: a machine whose clock is off by an hour, for
/// example by a wrong time zone, must still be able to join. It extends the validity of a stolen gateway key, which never leaves
/// the gateway's memory and is valid for a week, by the same time.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(2 * 3600);

/// Decides whether a chain, leaf first, is that of the gateway at `host`, within [`CLOCK_TOLERANCE`] of `now`. Returns the gateway's
/// certificate, `None` with [`Expected::Anybody`].
pub fn verify_gateway(
    expected: &Expected,
    chain: &[&[u8]],
    host: &str,
    now: UnixTime,
) -> Result<Option<GatewayCertificate>, Distrust> {
    judge(expected, chain, host, now).map_err(|why| Distrust { place: host.to_owned(), why })
}

fn judge(
    expected: &Expected,
    chain: &[&[u8]],
    host: &str,
    now: UnixTime,
) -> Result<Option<GatewayCertificate>, DistrustCause> {
    let by_the_clock = judge_at(expected, chain, host, now);
    let other = match &by_the_clock {
        Err(DistrustCause::TooEarly { .. }) => now.plus(CLOCK_TOLERANCE),
        Err(DistrustCause::TooLate { .. }) => now.minus(CLOCK_TOLERANCE),
        Ok(_) | Err(_) => return by_the_clock,
    };
    judge_at(expected, chain, host, other).or(by_the_clock)
}

/// Decides for exactly this time.
fn judge_at(
    expected: &Expected,
    chain: &[&[u8]],
    host: &str,
    now: UnixTime,
) -> Result<Option<GatewayCertificate>, DistrustCause> {
    let Some((leaf, rest)) = chain.split_first() else {
        return Err(DistrustCause::Other("it presents no certificate".into()));
    };
    let anchors = match expected {
        Expected::Anybody => return Ok(None),
        Expected::Pin(pin) => {
            let presented = chain.iter().rev().find_map(|der| pki::root_pin(der).ok());
            let root =
                pki::find_pinned_root(chain, pin).ok_or(DistrustCause::OtherRoot { presented, expected: *pin })?;
            let domain = pki::root_domain(root).map_err(|e| DistrustCause::Other(e.to_string()))?;
            TrustAnchors::new(&domain, &[root], now).map_err(|e| root_fault(e, now))?
        }
        Expected::Roots { domain, roots } => usable_anchors(domain, roots, now)?,
    };
    // The peer may send the root too; it is not needed to build the chain.
    match pki::verify_gateway(leaf, rest, &anchors, host, now) {
        Ok(peer) => Ok(Some(GatewayCertificate {
            leaf: leaf.to_vec(),
            domain: peer.identity.domain,
            not_before: peer.not_before,
            not_after: peer.not_after,
        })),
        Err(error) => Err(peer_fault(error, now)),
    }
}

/// The roots that are valid now. While a root is being replaced the bundle contains the old one too, whose expiry must not make the
/// set invalid.
fn usable_anchors(domain: &TrustDomain, roots: &[Vec<u8>], now: UnixTime) -> Result<TrustAnchors, DistrustCause> {
    let all: Vec<&[u8]> = roots.iter().map(Vec::as_slice).collect();
    let usable: Vec<&[u8]> =
        all.iter().copied().filter(|root| TrustAnchors::new(domain, &[root], now).is_ok()).collect();
    let chosen = if usable.is_empty() { &all } else { &usable };
    TrustAnchors::new(domain, chosen, now).map_err(|e| match root_fault(e, now) {
        DistrustCause::Other(cause) => DistrustCause::OwnRoots(cause),
        why => why,
    })
}

/// The trust anchors of our own certificate: the roots in `roots` that are valid now.
///
/// # Errors
/// A message, when none is valid.
pub fn anchors_of(domain: &TrustDomain, roots: &[Vec<u8>], now: UnixTime) -> Result<TrustAnchors, String> {
    usable_anchors(domain, roots, now).map_err(|why| Distrust { place: "the gateway".to_owned(), why }.to_string())
}

fn root_fault(error: AnchorError, now: UnixTime) -> DistrustCause {
    match error {
        AnchorError::Certificate { fault, .. } => {
            certificate_fault(&fault, now).unwrap_or_else(|| DistrustCause::Other(fault.to_string()))
        }
        other => DistrustCause::Other(other.to_string()),
    }
}

fn peer_fault(error: PeerError, now: UnixTime) -> DistrustCause {
    match error {
        PeerError::WrongHost { .. } => DistrustCause::OtherHost,
        // A root of the same name with another key, such as that of a reinstalled gateway, gives a signature error.
        PeerError::Chain(ChainError::UnknownIssuer | ChainError::Path { .. }) => DistrustCause::OtherCa,
        PeerError::Chain(ChainError::Leaf(fault) | ChainError::Issuer(fault)) => {
            certificate_fault(&fault, now).unwrap_or_else(|| DistrustCause::Other(fault.to_string()))
        }
        other => DistrustCause::Other(other.to_string()),
    }
}

/// The cause for a fault that depends on the time.
fn certificate_fault(fault: &CertFault, now: UnixTime) -> Option<DistrustCause> {
    match fault {
        CertFault::NotYetValid { from } => Some(DistrustCause::TooEarly { now, from: *from }),
        CertFault::Expired { at } => Some(DistrustCause::TooLate { now, at: *at }),
        _ => None,
    }
}

#[cfg(test)]
impl GatewayCertificate {
    /// A certificate with this validity and no names.
    pub(crate) fn valid(not_before: UnixTime, not_after: UnixTime) -> Self {
        let domain = TrustDomain::parse("td.example").expect("a legal name");
        Self { leaf: vec![], domain, not_before, not_after }
    }

    /// The certificate of this test server.
    pub(crate) fn of(server: &crate::testing::ServerChain) -> Self {
        let anytime = (UnixTime::new(0), UnixTime::new(u64::MAX));
        Self { leaf: server.chain[0].to_vec(), ..Self::valid(anytime.0, anytime.1) }
    }
}

/// The message with the root's fingerprint, for a person to compare when no pin was given.
#[must_use]
pub fn fingerprint_block(pin: &KeyDigest) -> String {
    text::fingerprint(&pin.hex(), "    ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;

    const NOW: UnixTime = UnixTime::new(100_000);

    /// Verifies the chain of `server` for `gw.example`, issued at [`NOW`] for a day.
    #[track_caller]
    fn check(expected: &Expected, server: &Authority, host: &str, now: u64, want: &str) {
        let shown = server.server("gw.example", NOW);
        let chain: Vec<&[u8]> = shown.chain.iter().map(|der| der.as_ref()).collect();
        let got = match judge(expected, &chain, host, UnixTime::new(now)) {
            Ok(_) => "trusted".to_owned(),
            Err(why) => Complaint::from(Distrust { place: "gw.example:443".into(), why }).lines(),
        };
        assert_eq!(got, want);
    }

    fn pin(authority: &Authority) -> Expected {
        Expected::Pin(authority.root.pin())
    }

    fn roots(authorities: &[&Authority]) -> Expected {
        Expected::Roots {
            domain: TrustDomain::parse("td.example").unwrap(),
            roots: authorities.iter().map(|authority| authority.root.cert_der().to_vec()).collect(),
        }
    }

    #[test]
    fn the_right_gateway() {
        let (ours, other) = (Authority::new(), Authority::new());
        check(&pin(&ours), &ours, "gw.example", 100_000, "trusted");
        check(&roots(&[&ours]), &ours, "gw.example", 100_000, "trusted");
        check(&roots(&[&other, &ours]), &ours, "gw.example", 100_000, "trusted");
    }

    #[test]
    fn another_root() {
        let (ours, other) = (Authority::new(), Authority::new());
        let want = format!(
            "lychgate: error: the gateway at gw.example:443 presents the root {}, and {} was expected: it is the wrong gateway, or somebody is in between\nlychgate: hint: compare the pin with the gateway's operator; do not go on without\n",
            other.root.pin(),
            ours.root.pin()
        );
        check(&pin(&ours), &other, "gw.example", 100_000, &want);
        check(
            &roots(&[&ours]),
            &other,
            "gw.example",
            100_000,
            "lychgate: error: the certificate of gw.example:443 does not lead to a root in our bundle: it is another gateway, or somebody is in between\nlychgate: hint: nothing was sent; ask the gateway's operator whether its root was replaced\n",
        );
    }

    #[test]
    fn another_host() {
        let ours = Authority::new();
        check(
            &pin(&ours),
            &ours,
            "other.example",
            100_000,
            "lychgate: error: the gateway's certificate is not for the name in gw.example:443\nlychgate: hint: use the name or address that the gateway's operator gave you\n",
        );
    }

    #[test]
    fn clocks() {
        let ours = Authority::new();
        check(
            &pin(&ours),
            &ours,
            "gw.example",
            60_000,
            "lychgate: error: the certificate of gw.example:443 is valid from 1970-01-02T03:41:40Z, and this machine's clock says 1970-01-01T16:40:00Z\nlychgate: hint: set this machine's clock (compare with `date -u`) and try again\n",
        );
        check(
            &roots(&[&ours]),
            &ours,
            "gw.example",
            200_000,
            "lychgate: error: the certificate of gw.example:443 expired at 1970-01-03T03:46:40Z, and this machine's clock says 1970-01-03T07:33:20Z\nlychgate: hint: check this machine's clock (`date -u`); if it is right, the gateway's certificate must be renewed\n",
        );
    }

    #[test]
    fn what_was_shown_bounds_what_is_said() {
        let ours = Authority::new();
        let shown = ours.server("gw.example", NOW);
        let chain: Vec<&[u8]> = shown.chain.iter().map(|der| der.as_ref()).collect();
        let shown = judge(&pin(&ours), &chain, "gw.example", NOW).unwrap().unwrap();
        assert!(shown.names("gw.example") && !shown.names("elsewhere.example"));
        assert!(shown.covers(NOW) && !shown.covers(NOW.plus(Duration::from_secs(3 * 86_400))));
        assert_eq!(judge(&Expected::Anybody, &chain, "gw.example", NOW), Ok(None));
    }

    #[test]
    fn a_pinned_key_in_somebody_elses_wording_is_not_the_root() {
        // Only the self-signed root counts, at any position in the chain.
        let ours = Authority::new();
        let shown = ours.server("gw.example", NOW);
        let without_root: Vec<&[u8]> = shown.chain[..2].iter().map(|der| der.as_ref()).collect();
        let outcome = judge(&pin(&ours), &without_root, "gw.example", NOW);
        assert_eq!(outcome, Err(DistrustCause::OtherRoot { presented: None, expected: ours.root.pin() }));
    }

    #[test]
    fn no_certificates() {
        assert!(judge(&pin(&Authority::new()), &[], "gw.example", NOW).is_err());
    }
}
