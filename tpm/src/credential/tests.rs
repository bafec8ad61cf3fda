//! Credentials, opened as a TPM would: with private keys that are known. And the vectors of go-tpm for the exchanges of
//! seeds, most of which a TPM accepted.

use aws_lc_rs::cipher::{DecryptingKey, DecryptionContext};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use num_bigint::BigUint;

use super::*;
use crate::codec::{Reader, unwrap_sized};
use crate::der;
use crate::public::{Area, Parameters, Public, RsaBits, Scheme, template::Template};
use crate::testing::{self, Row};

/// The private part of an EK.
enum Opener {
    Rsa(PrivateDecryptingKey),
    Ecc(PrivateKey),
}

impl Opener {
    fn generate(area: &Area) -> Self {
        match area.parameters {
            Parameters::Rsa { bits: RsaBits::Rsa2048, .. } => {
                Self::Rsa(PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap())
            }
            Parameters::Rsa { .. } => Self::Rsa(PrivateDecryptingKey::generate(KeySize::Rsa3072).unwrap()),
            Parameters::Ecc { curve, .. } => Self::Ecc(PrivateKey::generate(curve.agreement()).unwrap()),
        }
    }

    fn spki(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => AsDer::<PublicKeyX509Der<'_>>::as_der(&key.public_key()).unwrap().as_ref().to_vec(),
            Self::Ecc(key) => {
                let key = key.compute_public_key().unwrap();
                AsDer::<PublicKeyX509Der<'_>>::as_der(&key).unwrap().as_ref().to_vec()
            }
        }
    }

    /// The seed in what was sent.
    fn seed(&self, public: &PublicKey, hash: HashAlgorithm, label: &str, exchange: &[u8]) -> Option<Vec<u8>> {
        match (self, public) {
            (Self::Rsa(key), _) => {
                let key = OaepPrivateDecryptingKey::new(key.clone()).unwrap();
                let mut seed = vec![0; key.min_output_size()];
                let label = [label.as_bytes(), &[0]].concat();
                key.decrypt(hash.oaep(), exchange, &mut seed, Some(&label)).ok().map(|seed| seed.to_vec())
            }
            (Self::Ecc(key), PublicKey::Ecc { curve, x: own_x, .. }) => {
                let mut reader = Reader::new(exchange);
                let x = reader.sized("x", curve.coordinate_len()).ok()?;
                let y = reader.sized("y", curve.coordinate_len()).ok()?;
                reader.finish("point").ok()?;
                let peer = UnparsedPublicKey::new(curve.agreement(), [&[4], x, y].concat());
                agreement::agree(key, peer, (), |z| Ok(kdfe(hash, z, label, x, own_x, bits(hash)))).ok()
            }
            (Self::Ecc(_), PublicKey::Rsa { .. }) => None,
        }
    }

    /// TPM2_ActivateCredential.
    fn activate(&self, ek: &Ek, name: &Name, credential: &Credential) -> Option<Vec<u8>> {
        let hash = ek.public().area().name_algorithm;
        let exchange = unwrap_sized("secret", &credential.encrypted_secret, 1024).ok()?;
        let seed = self.seed(ek.public().key(), hash, IDENTITY, exchange)?;
        let mut reader = Reader::new(unwrap_sized("credential", &credential.id_object, 1024).ok()?);
        let integrity = reader.sized("integrityHMAC", hash.digest_len()).ok()?;
        let mut identity = reader.rest().to_vec();
        let hmac_key = kdfa(hash, &seed, "INTEGRITY", &[], &[], bits(hash));
        if hash.hmac(&hmac_key, &[&identity, &name.bytes()]) != integrity {
            return None;
        }
        let key = kdfa(hash, &seed, "STORAGE", &name.bytes(), &[], ek.symmetric().bits());
        let key = UnboundCipherKey::new(ek.symmetric().algorithm(), &key).unwrap();
        let context = DecryptionContext::Iv128(FixedLength::from([0; 16]));
        let secret = DecryptingKey::cfb128(key).unwrap().decrypt(&mut identity, context).unwrap().to_vec();
        unwrap_sized("credential", &secret, 64).ok().map(<[u8]>::to_vec)
    }
}

fn name(of: &[u8]) -> Name {
    Name::parse(&[&[0, 0x0b][..], &HashAlgorithm::Sha256.digest(&[of])].concat()).unwrap()
}

#[test]
fn the_tpm_with_the_ek_opens_it_and_no_other() {
    for template in [Template::L1, Template::L2, Template::H3, Template::H4, Template::H6] {
        let (key, other) = (Opener::generate(&template.area()), Opener::generate(&template.area()));
        let ek = Ek::check(Public::of(template.area(), &key.spki())).unwrap();
        let credential = make_credential(&ek, &name(b"ak"), &[0x5e; 32]).unwrap();
        assert_eq!(key.activate(&ek, &name(b"ak"), &credential), Some(vec![0x5e; 32]), "{template:?}");
        assert_eq!(key.activate(&ek, &name(b"another"), &credential), None);
        assert_eq!(other.activate(&ek, &name(b"ak"), &credential), None);
        let again = make_credential(&ek, &name(b"ak"), &[0x5e; 32]).unwrap();
        assert_ne!(credential.encrypted_secret, again.encrypted_secret);
        assert_ne!(credential.id_object, again.id_object);
    }
}

#[test]
fn secrets_of_a_wrong_length_and_points_off_the_curve_are_refused() {
    let key = Opener::generate(&Template::H3.area());
    let ek = Ek::check(Public::of(Template::H3.area(), &key.spki())).unwrap();
    assert_eq!(
        make_credential(&ek, &name(b"ak"), &[7; 49]),
        Err(CredentialError::SecretLength { found: 49, most: 48 })
    );
    assert!(make_credential(&ek, &name(b"ak"), &[7; 48]).is_ok());
    assert!(make_credential(&ek, &name(b"ak"), &[]).is_err());
    let mut bytes = ek.public().bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let off = Ek::check(Public::parse(&bytes).unwrap()).unwrap();
    assert_eq!(make_credential(&off, &name(b"ak"), &[7; 32]), Err(CredentialError::Point));
}

/// What the vectors have and this crate does not read.
fn is_left_out(why: &CodecError) -> bool {
    let CodecError::Unsupported { field, found } = why else { return false };
    // SHA-1, and ECMQV.
    matches!((*field, *found), ("nameAlg" | "scheme hash", 4) | ("scheme", 0x1d))
}

/// The private part in a row: of a TPMT_SENSITIVE the last field, a prime or a scalar.
fn sensitive(row: &Row) -> Vec<u8> {
    let bytes = row.bytes("PrivateKey");
    let mut reader = Reader::new(&bytes);
    reader.u16("sensitiveType").unwrap();
    reader.sized("authValue", 64).unwrap();
    reader.sized("seedValue", 64).unwrap();
    reader.sized("sensitive", 512).unwrap().to_vec()
}

/// The hash of an exchange: that of the scheme if the key has one for it, else that of the name.
fn exchange_hash(public: &Public) -> HashAlgorithm {
    match public.area().parameters.scheme() {
        Scheme::Oaep(hash) => hash,
        Scheme::Null | Scheme::RsaSsa(_) | Scheme::RsaPss(_) | Scheme::EcDsa(_) | Scheme::EcDh(_) => {
            public.area().name_algorithm
        }
    }
}

/// The rows of a file that can be read, which must be more than half of a hundred.
fn readable(file: &str) -> Vec<(Public, Row)> {
    let mut left_out = 0;
    let mut found = Vec::new();
    for row in testing::rows(file).unwrap_or_default() {
        match Public::parse(&row.bytes("PublicKey")) {
            Ok(public) => found.push((public, row)),
            Err(why) if is_left_out(&why) => left_out += 1,
            Err(why) => panic!("{}: {why}", row.text("Name")),
        }
    }
    println!("{file}: {} rows run, {left_out} with SHA-1 or ECMQV left out", found.len());
    assert!(found.is_empty() && left_out == 0 || found.len() > 50 && found.len() + left_out == 100);
    found
}

#[test]
fn ecc_exchanges_are_those_of_the_vectors() {
    for (public, row) in readable("ecc_labeled_encaps.json") {
        let (hash, label) = (exchange_hash(&public), row.text("Label"));
        let PublicKey::Ecc { curve, .. } = public.key() else { panic!("another key") };
        let whole = |bytes: Vec<u8>| [vec![0; curve.coordinate_len() - bytes.len()], bytes].concat();
        let private = |bytes| PrivateKey::from_private_key(curve.agreement(), &whole(bytes)).unwrap();
        let ephemeral = private(row.bytes("EphemeralPrivate"));
        let (seed, exchange) = ecc_exchange(public.key(), *curve, hash, label, &ephemeral).unwrap();
        assert_eq!(seed, row.bytes("Secret"), "{}", row.text("Name"));
        assert_eq!(exchange, row.bytes("Ciphertext"), "{}", row.text("Name"));
        let key = Opener::Ecc(private(sensitive(&row)));
        assert_eq!(key.seed(public.key(), hash, label, &exchange), Some(seed), "{}", row.text("Name"));
    }
}

/// An RSA key from one of its primes, in PKCS #8.
fn rsa_from_prime(modulus: &[u8], prime: &[u8]) -> PrivateDecryptingKey {
    let (n, p) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(prime));
    let (q, one, e) = (&n / &p, BigUint::from(1_u8), BigUint::from(65_537_u32));
    let (p1, q1) = (&p - &one, &q - &one);
    let d = e.modinv(&(&p1 * &q1)).unwrap();
    let coefficient = q.modinv(&p).unwrap();
    let numbers = [&BigUint::default(), &n, &e, &d, &p, &q, &(&d % &p1), &(&d % &q1), &coefficient];
    let numbers = numbers.map(|number| der::unsigned(&number.to_bytes_be()));
    let key = der::tlv(der::SEQUENCE, &numbers.each_ref().map(Vec::as_slice));
    let algorithm = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    let pkcs8 = der::tlv(der::SEQUENCE, &[&[2, 1, 0], &algorithm, &der::tlv(0x04, &[&key])]);
    PrivateDecryptingKey::from_pkcs8(&pkcs8).unwrap()
}

/// The salt of OAEP cannot be given to the crypto library: so what the vectors encrypted must open, and what is
/// encrypted here must open to the same.
#[test]
fn rsa_exchanges_are_those_of_the_vectors() {
    for (public, row) in readable("rsa_labeled_encaps.json") {
        let (hash, label, secret) = (exchange_hash(&public), row.text("Label"), row.bytes("Secret"));
        let PublicKey::Rsa { modulus, .. } = public.key() else { panic!("another key") };
        let key = Opener::Rsa(rsa_from_prime(modulus, &sensitive(&row)));
        let opened = key.seed(public.key(), hash, label, &row.bytes("Ciphertext"));
        assert_eq!(opened.as_ref(), Some(&secret), "{}", row.text("Name"));
        let exchange = rsa_exchange(public.key(), hash, label, &secret).unwrap();
        assert_eq!(key.seed(public.key(), hash, label, &exchange), opened, "{}", row.text("Name"));
        assert_eq!(key.seed(public.key(), hash, "OTHER", &exchange), None);
    }
}
