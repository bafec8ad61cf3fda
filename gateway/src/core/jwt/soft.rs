//! An issuer's keys in memory, for tests.
#![expect(clippy::disallowed_methods, reason = "a test draws its own keys")]

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa,
    signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use pki::{CaKey as _, KeyAlgorithm, SoftwareKey};
use serde_json::{Value, json};

/// A key that signs tokens.
pub enum SoftKey {
    P256(SoftwareKey, EncodingKey),
    P384(SoftwareKey, EncodingKey),
    Ed25519(SoftwareKey, EncodingKey),
    Rsa(Box<rsa::KeyPair>),
}

impl SoftKey {
    pub fn p256() -> Self {
        let (key, pkcs8) = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        Self::P256(key, EncodingKey::from_ec_der(&pkcs8))
    }

    pub fn p384() -> Self {
        let (key, pkcs8) = SoftwareKey::generate(KeyAlgorithm::P384).unwrap();
        Self::P384(key, EncodingKey::from_ec_der(&pkcs8))
    }

    pub fn ed25519() -> Self {
        let (key, pkcs8) = SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap();
        Self::Ed25519(key, EncodingKey::from_ed_der(&pkcs8))
    }

    pub fn rsa() -> Self {
        Self::Rsa(Box::new(rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap()))
    }

    /// The algorithm that it usually signs with.
    pub const fn alg(&self) -> &'static str {
        match self {
            Self::P256(..) => "ES256",
            Self::P384(..) => "ES384",
            Self::Ed25519(..) => "EdDSA",
            Self::Rsa(_) => "RS256",
        }
    }

    /// Its public key, with nothing but what a JWK must have.
    pub fn jwk(&self) -> Value {
        let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = |key: &SoftwareKey, crv: &str| {
            let (x, y) = key.public_key()[1..].split_at((key.public_key().len() - 1) / 2);
            json!({ "kty": "EC", "crv": crv, "x": encoded(x), "y": encoded(y) })
        };
        match self {
            Self::P256(key, _) => point(key, "P-256"),
            Self::P384(key, _) => point(key, "P-384"),
            Self::Ed25519(key, _) => json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(key.public_key()) }),
            Self::Rsa(key) => {
                let public = key.public_key();
                let n = encoded(public.modulus().big_endian_without_leading_zero());
                json!({ "kty": "RSA", "n": n, "e": encoded(public.exponent().big_endian_without_leading_zero()) })
            }
        }
    }

    /// The public key as a JWK with more members.
    pub fn jwk_with(&self, more: &Value) -> Value {
        let mut jwk = self.jwk();
        let members = more.as_object().unwrap().clone();
        jwk.as_object_mut().unwrap().extend(members);
        jwk
    }

    /// DER of the public key, which an attacker may take for a shared secret.
    pub fn public_der(&self) -> Vec<u8> {
        match self {
            Self::P256(key, _) | Self::P384(key, _) | Self::Ed25519(key, _) => {
                key.subject_key().unwrap().spki_der().to_vec()
            }
            Self::Rsa(key) => AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key()).unwrap().as_ref().to_vec(),
        }
    }

    /// A token of any header and claims, as texts.
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let by = |key: &EncodingKey, algorithm| jsonwebtoken::crypto::sign(input.as_bytes(), key, algorithm).unwrap();
        let signature = match self {
            Self::P256(_, key) => by(key, Algorithm::ES256),
            Self::P384(_, key) => by(key, Algorithm::ES384),
            Self::Ed25519(_, key) => by(key, Algorithm::EdDSA),
            Self::Rsa(key) => {
                let pss = header.contains("PS256");
                let padding: &dyn RsaEncoding = if pss { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &SystemRandom::new(), input.as_bytes(), &mut signature).unwrap();
                URL_SAFE_NO_PAD.encode(signature)
            }
        };
        format!("{input}.{signature}")
    }

    /// A token with the usual header.
    pub fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = json!({ "alg": self.alg(), "typ": "JWT" });
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        self.sign_text(&header.to_string(), &claims.to_string())
    }
}

/// A key set of these JWKs.
pub fn key_set(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}
