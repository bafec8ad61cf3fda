//! JSON Web Key Sets (RFC 7517 5): the keys that an issuer publishes. Each key is read by itself, so that one that cannot be used costs
//! nothing but itself.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value, json};

/// Most keys of a set that are read. The largest public ones have about ten.
const KEYS_MAX: usize = 64;

/// Most keys that are tried for one token.
const CANDIDATES_MAX: usize = 4;

/// Sizes of RSA moduli that are taken, in bits: below, the key can be broken; above, verifying takes long.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What a key must be for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// Signatures of ordinary tokens: `use` is `sig`, or absent.
    Signature,
    /// JWT-SVIDs: `use` is `jwt-svid` (SPIFFE Trust Domain and Bundle 4.2.2), `sig`, or absent.
    JwtSvid,
}

impl KeyUse {
    /// The types of tokens, if they say one. JWT-SVID 2.3 allows two.
    pub(super) const fn types(self) -> &'static [&'static str] {
        match self {
            Self::Signature => &["JWT"],
            Self::JwtSvid => &["JWT", "JOSE"],
        }
    }

    fn admits(self, found: Option<&str>) -> bool {
        match found {
            None | Some("sig") => true,
            Some("jwt-svid") => self == Self::JwtSvid,
            Some(_) => false,
        }
    }
}

/// What makes a document no key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a JSON Web Key Set: {0}")]
pub struct BadKeySet(String);

/// The keys of an issuer.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<IssuerKey>,
    complaints: Vec<String>,
}

/// One of them.
#[derive(Debug)]
pub struct IssuerKey {
    kid: Option<String>,
    kind: KeyKind,
    alg: Option<String>,
    usage: Option<String>,
    thumbprint: [u8; 32],
    key: DecodingKey,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum KeyKind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl KeyKind {
    /// Whether such a key signs with this algorithm (RFC 7518 3.1, RFC 8037 3.1).
    const fn signs(self, algorithm: Algorithm) -> bool {
        match self {
            Self::Rsa => matches!(
                algorithm,
                Algorithm::RS256
                    | Algorithm::RS384
                    | Algorithm::RS512
                    | Algorithm::PS256
                    | Algorithm::PS384
                    | Algorithm::PS512
            ),
            Self::P256 => matches!(algorithm, Algorithm::ES256),
            Self::P384 => matches!(algorithm, Algorithm::ES384),
            Self::Ed25519 => matches!(algorithm, Algorithm::EdDSA),
        }
    }
}

impl IssuerKey {
    /// Its thumbprint (RFC 7638), SHA-256.
    #[must_use]
    pub const fn thumbprint(&self) -> [u8; 32] {
        self.thumbprint
    }

    pub(super) const fn decoding_key(&self) -> &DecodingKey {
        &self.key
    }

    fn fits(&self, algorithm: Algorithm, key_use: KeyUse) -> bool {
        // RFC 9864 calls EdDSA with this curve by another name.
        let named = |alg: &String| {
            super::algorithm(alg) == Some(algorithm) || (alg == "Ed25519" && algorithm == Algorithm::EdDSA)
        };
        self.kind.signs(algorithm) && self.alg.as_ref().is_none_or(named) && key_use.admits(self.usage.as_deref())
    }
}

impl KeySet {
    /// Reads a set.
    ///
    /// # Errors
    /// It is not JSON, or not an object with a list of `keys`.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadKeySet> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| BadKeySet(error.to_string()))?;
        let keys = value.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or_else(|| BadKeySet("it has no list `keys`".to_owned()))?;
        let mut set = Self::default();
        for (at, key) in keys.iter().take(KEYS_MAX).enumerate() {
            match key.as_object().map_or(Err("it is not an object"), read) {
                Ok(key) => set.keys.extend(key),
                Err(why) => set.complaints.push(format!("{} cannot be used: {why}", called(at, key))),
            }
        }
        if keys.len() > KEYS_MAX {
            set.complaints.push(format!("of {} keys only the first {KEYS_MAX} are used", keys.len()));
        }
        if set.keys.is_empty() {
            set.complaints.push("there is no key for signatures".to_owned());
        }
        Ok(set)
    }

    /// What in it cannot be used, for the operator.
    #[must_use]
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    #[cfg(test)]
    pub(super) fn keys_for_tests(&self) -> &[IssuerKey] {
        &self.keys
    }

    /// The keys that may have signed a token: those with the `kid` that it names; without such a key, those that have no `kid`; for a
    /// token that names none, all. Of these, those that are for signatures with this algorithm.
    pub(super) fn candidates(&self, kid: Option<&str>, algorithm: Algorithm, key_use: KeyUse) -> Vec<&IssuerKey> {
        let named = |key: &&IssuerKey| kid.is_none_or(|kid| key.kid.as_deref() == Some(kid));
        let fitting = || self.keys.iter().filter(|key| key.fits(algorithm, key_use));
        if self.keys.iter().any(|key| named(&key)) {
            return fitting().filter(named).take(CANDIDATES_MAX).collect();
        }
        fitting().filter(|key| key.kid.is_none()).take(CANDIDATES_MAX).collect()
    }
}

/// What a key is called in a complaint.
fn called(at: usize, key: &Value) -> String {
    match key.get("kid").and_then(Value::as_str) {
        Some(kid) => format!("the key {:?}", super::shown(kid)),
        None => format!("key {} of the set", at + 1),
    }
}

type Member<'a> = Result<Option<&'a str>, &'static str>;

/// A member that is a text, if it is there.
fn text<'a>(key: &'a Map<String, Value>, name: &str, otherwise: &'static str) -> Member<'a> {
    match key.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(otherwise),
    }
}

/// A member that must be there, in base64url.
fn bytes(key: &Map<String, Value>, name: &str) -> Result<Vec<u8>, &'static str> {
    let text = text(key, name, "a part of the key is not a text")?.ok_or("a part of the key is missing")?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "a part of the key is not base64url without padding")
}

/// One key; nothing if it is for something else than signatures.
fn read(key: &Map<String, Value>) -> Result<Option<IssuerKey>, &'static str> {
    let usage = text(key, "use", "its `use` is not a text")?.map(str::to_owned);
    if !KeyUse::JwtSvid.admits(usage.as_deref()) || !verifies(key)? {
        return Ok(None);
    }
    if key.contains_key("d") {
        return Err("it is a private key, which everybody who can read it signs with");
    }
    let (kind, public, decoding) = match text(key, "kty", "its `kty` is not a text")? {
        Some("RSA") => rsa(key)?,
        Some("EC") => ec(key)?,
        Some("OKP") => okp(key)?,
        Some("oct") => return Err("it is a shared secret"),
        Some(_) => return Err("its `kty` is not one of RSA, EC and OKP"),
        None => return Err("it has no `kty`"),
    };
    // The members are in the order of their names, as RFC 7638 3.3 wants.
    let mut thumbprint = [0; 32];
    thumbprint.copy_from_slice(digest(&SHA256, public.to_string().as_bytes()).as_ref());
    Ok(Some(IssuerKey {
        kid: text(key, "kid", "its `kid` is not a text")?.map(str::to_owned),
        alg: text(key, "alg", "its `alg` is not a text")?.map(str::to_owned),
        kind,
        usage,
        thumbprint,
        key: decoding,
    }))
}

/// Whether `key_ops`, if there are any (RFC 7517 4.3), allow to verify.
fn verifies(key: &Map<String, Value>) -> Result<bool, &'static str> {
    match key.get("key_ops") {
        None | Some(Value::Null) => Ok(true),
        Some(Value::Array(all)) => Ok(all.iter().any(|one| one == "verify")),
        Some(_) => Err("its `key_ops` is not a list"),
    }
}

type PublicKey = (KeyKind, Value, DecodingKey);

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa(key: &Map<String, Value>) -> Result<PublicKey, &'static str> {
    let (n, e) = (bytes(key, "n")?, bytes(key, "e")?);
    let bits = match n.first() {
        Some(first) if *first != 0 => n.len() * 8 - first.leading_zeros() as usize,
        _ => return Err("its modulus is empty or begins with a zero"),
    };
    if !RSA_BITS.contains(&bits) {
        return Err("its modulus is shorter than 2048 bits, or longer than 8192");
    }
    if e.len() > 4 || e.first().is_none_or(|first| *first == 0) || e.last().is_none_or(|last| last % 2 == 0) || e == [1]
    {
        return Err("its exponent is not an odd number from 3 to 32 bits");
    }
    let public = json!({ "e": encoded(&e), "kty": "RSA", "n": encoded(&n) });
    Ok((KeyKind::Rsa, public, DecodingKey::from_rsa_raw_components(&n, &e)))
}

fn ec(key: &Map<String, Value>) -> Result<PublicKey, &'static str> {
    let (kind, crv, length) = match text(key, "crv", "its `crv` is not a text")? {
        Some("P-256") => (KeyKind::P256, "P-256", 32),
        Some("P-384") => (KeyKind::P384, "P-384", 48),
        Some(_) | None => return Err("its curve is not P-256 or P-384"),
    };
    let (x, y) = (bytes(key, "x")?, bytes(key, "y")?);
    if x.len() != length || y.len() != length {
        return Err("its point has another length than its curve");
    }
    let public = json!({ "crv": crv, "kty": "EC", "x": encoded(&x), "y": encoded(&y) });
    // SEC 1 2.3.3, uncompressed
    Ok((kind, public, DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat())))
}

fn okp(key: &Map<String, Value>) -> Result<PublicKey, &'static str> {
    if text(key, "crv", "its `crv` is not a text")? != Some("Ed25519") {
        return Err("its curve is not Ed25519");
    }
    let x = bytes(key, "x")?;
    if x.len() != 32 {
        return Err("its point has another length than its curve");
    }
    let public = json!({ "crv": "Ed25519", "kty": "OKP", "x": encoded(&x) });
    Ok((KeyKind::Ed25519, public, DecodingKey::from_ed_der(&x)))
}
