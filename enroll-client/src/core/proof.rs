//! The proof that the sender of a request holds the key, bound to the TLS connection: a DPoP JWT (RFC 9449) with the exporter
//! value of RFC 9266 instead of a nonce.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters, EllipticCurveKeyType, Jwk,
};
use jsonwebtoken::{Algorithm, Header};
use pki::UnixTime;
use wire::evidence::{PROOF_TYPE, ProofClaims};

use crate::core::key::{KeyFault, PrivateKey};

/// The TLS exporter value of a connection (RFC 9266 4.2).
pub type Exporter = [u8; 32];

/// The request that a proof is for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// `host[:port]`, as in the `Host` header.
    pub authority: &'a str,
    /// The path, without query (RFC 9449 4.2).
    pub path: &'a str,
    /// The connection.
    pub exporter: &'a Exporter,
}

/// A proof that is not signed yet.
pub struct UnsignedProof(String);

/// What a proof by this key says. `now` is the gateway's time as far as known, `unique` is the source of the proof's `jti`.
pub fn draft(
    subject: Subject<'_>,
    key: &PrivateKey,
    now: UnixTime,
    unique: [u8; 16],
) -> Result<UnsignedProof, KeyFault> {
    let (x, y) = key.coordinates();
    let mut header = Header::new(Algorithm::ES256);
    header.typ = Some(PROOF_TYPE.to_owned());
    header.jwk = Some(Jwk {
        common: CommonParameters::default(),
        algorithm: AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
            key_type: EllipticCurveKeyType::EC,
            curve: EllipticCurve::P256,
            x: URL_SAFE_NO_PAD.encode(x),
            y: URL_SAFE_NO_PAD.encode(y),
        }),
    });
    let claims = ProofClaims {
        jti: URL_SAFE_NO_PAD.encode(unique),
        iat: now.secs(),
        htm: subject.method.to_owned(),
        htu: format!("https://{}{}", subject.authority, subject.path),
        exporter: URL_SAFE_NO_PAD.encode(subject.exporter),
    };
    let library = |e: serde_json::Error| KeyFault::Library(e.to_string());
    let part = |json: Vec<u8>| URL_SAFE_NO_PAD.encode(json);
    let header = part(serde_json::to_vec(&header).map_err(library)?);
    Ok(UnsignedProof(format!("{header}.{}", part(serde_json::to_vec(&claims).map_err(library)?))))
}

impl UnsignedProof {
    /// Signs it (JWS compact serialization; RFC 7515 7.1).
    pub fn sign(self, key: &PrivateKey) -> Result<String, KeyFault> {
        let signature = key.sign_for_jws(self.0.as_bytes())?;
        Ok(format!("{}.{}", self.0, URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation};

    #[test]
    fn a_proof_says_what_it_speaks_for_and_verifies_by_its_own_key() {
        let key = crate::testing::private_key();
        let subject =
            Subject { method: "POST", authority: "gw.example:8443", path: "/v1/enrollments", exporter: &[7; 32] };
        let proof = draft(subject, &key, UnixTime::new(1_000), [1; 16]).unwrap().sign(&key).unwrap();

        let header = jsonwebtoken::decode_header(&proof).unwrap();
        assert_eq!(header.typ.as_deref(), Some("dpop+jwt"));
        assert_eq!(header.alg, Algorithm::ES256);
        let jwk = header.jwk.unwrap();
        let mut rules = Validation::new(Algorithm::ES256);
        rules.required_spec_claims.clear();
        rules.validate_exp = false;
        let claims =
            jsonwebtoken::decode::<ProofClaims>(&proof, &DecodingKey::from_jwk(&jwk).unwrap(), &rules).unwrap().claims;
        assert_eq!(claims.htm, "POST");
        assert_eq!(claims.htu, "https://gw.example:8443/v1/enrollments");
        assert_eq!(claims.iat, 1_000);
        assert_eq!(URL_SAFE_NO_PAD.decode(claims.exporter).unwrap(), [7; 32]);

        // The header contains the public key and no private member.
        let json = serde_json::to_value(&jwk).unwrap();
        assert_eq!(json["x"], URL_SAFE_NO_PAD.encode(key.coordinates().0));
        assert!(json.get("d").is_none());
    }
}
