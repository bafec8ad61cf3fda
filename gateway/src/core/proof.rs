//! The proof of possession that comes with every request of the enroll face: a JWT in the shape of RFC 9449, signed by
//! the key to be certified and bound to the TLS connection by its exporter value (RFC 9266).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use pki::{KeyAlgorithm, SubjectKey, UnixTime};
use wire::evidence::{PROOF_TYPE, ProofClaims};

use super::jose::{self, BadJws, Jws};

/// Greatest age of a proof. A proof is made for one request on one connection; this limits only the time between making and sending it,
/// and the error in the client's idea of our clock.
pub const PROOF_AGE_MAX: Duration = Duration::from_secs(300);

/// Longest proof that is parsed, in bytes: claims and an RSA-4096 `jwk` with its signature take under 3 kB.
pub const PROOF_MAX: usize = 8 * 1024;

/// The request that a proof must be for.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The path without query.
    pub path: &'a str,
    /// Host names of this gateway.
    pub hosts: &'a [String],
    /// The connection's exporter value.
    pub exporter: &'a [u8; 32],
}

/// Why a proof is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProof {
    /// It is missing.
    #[error("the `DPoP` header is missing")]
    Missing,
    /// It is not a JWT of the right type.
    #[error("the proof is not a JWT of type `dpop+jwt`")]
    Shape,
    /// It is longer than [`PROOF_MAX`].
    #[error("the proof is longer than {PROOF_MAX} bytes")]
    TooLong,
    /// Its `htu` cannot be the address of a request.
    #[error("the proof's `htu` is not an https URL without user, query and fragment")]
    Address,
    /// It names extensions that must be understood (RFC 7515 4.1.11).
    #[error("the proof has `crit` in its header, and no extension is known here")]
    Critical,
    /// A claim is missing or of another type; which one.
    #[error("the proof's claims are not those of a proof: {0}")]
    Claims(String),
    /// It names an algorithm other than the key's.
    #[error("the proof's algorithm is not the one of its key")]
    Algorithm,
    /// The signature is not by this key.
    #[error("the proof is not signed by the key it is for")]
    Signature,
    /// It was made for another request.
    #[error("the proof is for another method or path")]
    OtherRequest,
    /// It was made for another gateway.
    #[error("the proof is for another gateway")]
    OtherGateway,
    /// It was made on another connection.
    #[error("the proof belongs to another connection")]
    OtherConnection,
    /// It is a certificate request alone, and names no connection.
    #[error(
        "the certificate request names no connection: its challengePassword must be base64 of the TLS exporter value"
    )]
    Unbound,
    /// It is a certificate request alone, and what should name the connection cannot be read.
    #[error(
        "the challengePassword of the certificate request is not one text of at most {} bytes",
        pki::csr::CHALLENGE_MAX
    )]
    Challenge,
    /// It is by an SSH key, and is no proof.
    #[error("{0}")]
    Ssh(pki::BadSshSignature),
    /// It is too old or from the future.
    #[error("the proof is {0} s away from the gateway's clock")]
    Stale(u64),
}

impl From<BadJws> for BadProof {
    fn from(bad: BadJws) -> Self {
        match bad {
            BadJws::Shape => Self::Shape,
            BadJws::Critical => Self::Critical,
            BadJws::Algorithm => Self::Algorithm,
            BadJws::Claims(why) => Self::Claims(why),
            BadJws::Signature => Self::Signature,
        }
    }
}

/// A proof for this request, by a key that is not known yet.
#[derive(Clone, Debug)]
pub struct Proof<'a>(Jws<'a, ProofClaims>);

/// Reads a proof and checks everything that does not depend on the key.
///
/// # Errors
/// The first failed check.
pub fn read<'a>(proof: &'a str, expected: &Expected<'_>, now: UnixTime) -> Result<Proof<'a>, BadProof> {
    if proof.len() > PROOF_MAX {
        return Err(BadProof::TooLong);
    }
    let jws = jose::read::<ProofClaims>(proof)?;
    if jws.typ.as_deref() != Some(PROOF_TYPE) {
        return Err(BadProof::Shape);
    }
    check_claims(&jws.claims, expected, now)?;
    Ok(Proof(jws))
}

impl Proof<'_> {
    /// Checks that it is signed by `key`. The header's `jwk` is ignored: the key is that of the CSR or of the enrollment.
    ///
    /// # Errors
    /// [`BadProof::Algorithm`], [`BadProof::Signature`].
    pub fn signed_by(self, key: &SubjectKey) -> Result<(), BadProof> {
        self.0.signed_by(&decoding_key(key), algorithm_of(key))?;
        Ok(())
    }
}

/// Checks a proof by `key`.
///
/// # Errors
/// The first failed check.
pub fn check(proof: &str, key: &SubjectKey, expected: &Expected<'_>, now: UnixTime) -> Result<(), BadProof> {
    read(proof, expected, now)?.signed_by(key)
}

fn check_claims(claims: &ProofClaims, expected: &Expected<'_>, now: UnixTime) -> Result<(), BadProof> {
    let (host, path) = split_htu(&claims.htu).ok_or(BadProof::Address)?;
    if claims.htm != expected.method || path != expected.path {
        return Err(BadProof::OtherRequest);
    }
    if !expected.hosts.iter().any(|known| known.eq_ignore_ascii_case(host)) {
        return Err(BadProof::OtherGateway);
    }
    let exporter = URL_SAFE_NO_PAD.decode(&claims.exporter);
    let exporter = exporter.map_err(|_| BadProof::Claims("`exporter` is not base64url without padding".to_owned()))?;
    if exporter != expected.exporter {
        return Err(BadProof::OtherConnection);
    }
    let away = claims.iat.abs_diff(now.secs());
    if away > PROOF_AGE_MAX.as_secs() {
        return Err(BadProof::Stale(away));
    }
    Ok(())
}

/// Splits `https://host[:port]/path` into host and path. The port is not compared: with a port mapping the client's differs from ours,
/// and the exporter binds the proof to this connection anyway. But it must be a port: in `https://host:4?3/path` another parser sees a
/// query where we would see the path.
fn split_htu(htu: &str) -> Option<(&str, &str)> {
    // RFC 3986 3.1: schemes are compared without regard to case
    let (scheme, rest) = htu.split_at_checked("https://".len())?;
    if !scheme.eq_ignore_ascii_case("https://") {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find('/')?);
    if authority.contains(['@', '?', '#']) || path.contains(['?', '#']) {
        return None;
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_port = |text: &str| text.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    (!host.is_empty() && (port.is_empty() || is_port(port))).then_some((host, path))
}

/// The algorithm for a key (RFC 7518 3.1, RFC 8037 3.1).
#[must_use]
pub const fn algorithm_of(key: &SubjectKey) -> Algorithm {
    match key.algorithm() {
        KeyAlgorithm::P256 => Algorithm::ES256,
        KeyAlgorithm::P384 => Algorithm::ES384,
        KeyAlgorithm::Ed25519 => Algorithm::EdDSA,
        KeyAlgorithm::Rsa { .. } => Algorithm::RS256,
    }
}

fn decoding_key(key: &SubjectKey) -> DecodingKey {
    let raw = key.raw_public_key();
    match key.algorithm() {
        KeyAlgorithm::P256 | KeyAlgorithm::P384 => DecodingKey::from_ec_der(raw),
        KeyAlgorithm::Ed25519 => DecodingKey::from_ed_der(raw),
        KeyAlgorithm::Rsa { .. } => DecodingKey::from_rsa_der(raw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(change: impl FnOnce(&mut ProofClaims)) -> ProofClaims {
        let mut claims = ProofClaims {
            jti: "1".into(),
            iat: 1000,
            htm: "POST".into(),
            htu: "https://gate.example:8443/v1/enrollments".into(),
            exporter: URL_SAFE_NO_PAD.encode([7; 32]),
        };
        change(&mut claims);
        claims
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut ProofClaims), want: Result<(), BadProof>) {
        let hosts = ["gate.example".to_owned(), "::1".to_owned()];
        let expected = Expected { method: "POST", path: "/v1/enrollments", hosts: &hosts, exporter: &[7; 32] };
        assert_eq!(check_claims(&claims(change), &expected, UnixTime::new(1000)), want);
    }

    #[test]
    fn a_proof_for_this_request_holds() {
        check(|_| {}, Ok(()));
        check(|c| c.htu = "https://GATE.example/v1/enrollments".into(), Ok(()));
        check(|c| c.htu = "https://[::1]:8443/v1/enrollments".into(), Ok(()));
        check(|c| c.iat = 700, Ok(()));
        check(|c| c.iat = 1300, Ok(()));
    }

    #[test]
    fn a_proof_for_anything_else_does_not() {
        check(|c| c.htm = "GET".into(), Err(BadProof::OtherRequest));
        check(|c| c.htu = "https://gate.example/v1/enrollments/x".into(), Err(BadProof::OtherRequest));
        check(|c| c.htu = "https://evil.example/v1/enrollments".into(), Err(BadProof::OtherGateway));
        check(|c| c.htu = "https://gate.example.test/v1/enrollments".into(), Err(BadProof::OtherGateway));
        check(|c| c.htu = "https://gate.example@evil/v1/enrollments".into(), Err(BadProof::Address));
        check(|c| c.htu = "http://gate.example/v1/enrollments".into(), Err(BadProof::Address));
        check(|c| c.htu = "HTTPS://gate.example/v1/enrollments".into(), Ok(()));
        check(|c| c.htu = "https:/".into(), Err(BadProof::Address));
        check(
            |c| c.exporter = "AA==".into(),
            Err(BadProof::Claims("`exporter` is not base64url without padding".into())),
        );
        for authority in ["gate.example:4?3", "gate.example:x", "gate.example?x", "[::1]x", "[::1]:4#3", ""] {
            check(|c| c.htu = format!("https://{authority}/v1/enrollments"), Err(BadProof::Address));
        }
        check(|c| c.exporter = URL_SAFE_NO_PAD.encode([8; 32]), Err(BadProof::OtherConnection));
        check(|c| c.exporter = String::new(), Err(BadProof::OtherConnection));
        check(|c| c.iat = 699, Err(BadProof::Stale(301)));
        check(|c| c.iat = u64::MAX, Err(BadProof::Stale(u64::MAX - 1000)));
    }
}
