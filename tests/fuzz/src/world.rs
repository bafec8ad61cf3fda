//! One trust domain, the same in every run: keys from fixed seeds, Ed25519 because its signatures do not vary. A corpus
//! of yesterday still carries good signatures today.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gateway::core::token::TokenKey;
use pki::{
    AdmittedBy, Assurance, Identity, IssuingCa, LeafRequest, Role, Root, Serial, SoftwareKey, TrustAnchors,
    TrustDomain, UnixTime,
};

/// 2026-03-01T12:00:00Z, the time in every check.
pub const NOW: UnixTime = UnixTime::new(1_772_366_400);

/// The exporter value of every connection.
pub const EXPORTER: [u8; 32] = [7; 32];

/// A trust domain.
pub struct World {
    /// `lab.example`.
    pub domain: TrustDomain,
    /// Its root.
    pub root: Root,
    /// The root's key.
    pub root_key: SoftwareKey,
    /// The CA of its machines.
    pub machines: IssuingCa,
    /// The machine CA's key.
    pub machines_key: SoftwareKey,
    /// The CA of its people.
    pub people: IssuingCa,
    /// The root as anchor.
    pub anchors: TrustAnchors,
    /// The key of join tokens.
    pub token_key: TokenKey,
}

/// The one there is.
pub static WORLD: LazyLock<World> = LazyLock::new(|| {
    let domain = TrustDomain::parse("lab.example").expect("a good name");
    let root = Root::create(&domain, Arc::new(key(1)), serial(1), NOW, 10).expect("a root");
    let ca = |role, number| root.issue_ca(role, Arc::new(key(number)), serial(number), NOW).expect("a CA");
    let (machines, people) = (ca(Role::Machine, 2), ca(Role::Person, 3));
    let anchors = TrustAnchors::new(&domain, &[root.cert_der()], NOW).expect("anchors");
    let token_key = TokenKey::new(&P256_GENERATOR);
    let (root_key, machines_key) = (key(1), key(2));
    World { domain, root, root_key, machines, machines_key, people, anchors, token_key }
});

/// A serial number.
#[must_use]
pub fn serial(number: u8) -> Serial {
    Serial::from_entropy([number; 16])
}

fn pair(number: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[number; 32]).expect("any seed will do")
}

/// A key; the same number gives the same.
#[must_use]
pub fn key(number: u8) -> SoftwareKey {
    SoftwareKey::from_pkcs8(pair(number).to_pkcs8v1().expect("PKCS#8").as_ref()).expect("the key just made")
}

/// The number of the key of [`leaf`].
pub const LEAF_KEY: u8 = 9;

/// The certificate of a machine or person.
#[must_use]
pub fn leaf(role: Role) -> Vec<u8> {
    let name = format!("spiffe://lab.example/{role}/edge-07");
    let request = LeafRequest {
        key: key(LEAF_KEY).subject_key().expect("its public key"),
        identity: Identity::parse(&name).expect("a good name"),
        serial: serial(42),
        lifetime: Duration::from_secs(86_400),
        assurance: Assurance::SOFTWARE,
        admitted_by: AdmittedBy::Person,
        gateway_names: vec![],
    };
    let ca = if role == Role::Person { &WORLD.people } else { &WORLD.machines };
    pki::draft(request, NOW).lint().expect("a good draft").issue(ca).expect("a certificate").der
}

/// The generator of P-256 (SP 800-186 3.2.1.3): the public key of the private key 1.
const P256_GENERATOR: [u8; 65] = {
    let mut point = [0; 65];
    let hex = b"046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
    let mut at = 0;
    while at < 65 {
        point[at] = digit(hex[2 * at]) << 4 | digit(hex[2 * at + 1]);
        at += 1;
    }
    point
};

const fn digit(hex: u8) -> u8 {
    if hex.is_ascii_digit() { hex - b'0' } else { hex - b'a' + 10 }
}

/// The private key 1.
const P256_ONE: [u8; 32] = {
    let mut one = [0; 32];
    one[31] = 1;
    one
};

/// Header and claims before the first dot and after, in base64url, as they are signed.
fn unsigned(header: &[u8], claims: &[u8]) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

/// A JWT by the key of [`leaf`] (RFC 8037).
#[must_use]
pub fn jwt_by_leaf(header: &[u8], claims: &[u8]) -> String {
    let text = unsigned(header, claims);
    let signature = URL_SAFE_NO_PAD.encode(pair(LEAF_KEY).sign(text.as_bytes()));
    format!("{text}.{signature}")
}

/// A JWT by the key of join tokens (RFC 7518 3.4).
#[must_use]
pub fn jwt_by_token_key(header: &[u8], claims: &[u8]) -> String {
    static PAIR: LazyLock<EcdsaKeyPair> = LazyLock::new(|| {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        EcdsaKeyPair::from_private_key_and_public_key(algorithm, &P256_ONE, &P256_GENERATOR).expect("a pair")
    });
    let text = unsigned(header, claims);
    let signature = PAIR.sign(&SystemRandom::new(), text.as_bytes()).expect("a key in memory signs");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}
