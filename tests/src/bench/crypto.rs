//! Figure 1: issuing with `pki`, compared with the crypto library alone, on one thread.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pki::{
    AdmittedBy, Assurance, Identity, IssuingCa, KeyAlgorithm, LeafRequest, Role, Root, Serial, SoftwareKey,
    TrustDomain, UnixTime,
};

use super::meter::{cpu_of_this_thread, rate};
use crate::device::{Key, random};
use crate::wait::unix_now;

/// Certificates and signature pairs per CPU second.
pub struct Rates {
    /// CSR verified, leaf drafted, linted and signed.
    pub pki: f64,
    /// One P-256 verification and one P-256 signature.
    pub raw: f64,
}

/// Input of both measurements.
pub struct Subject {
    ca: IssuingCa,
    requests: Vec<Vec<u8>>,
    pair: EcdsaKeyPair,
    rng: SystemRandom,
    // The lengths of the signed parts of a CSR and of a leaf.
    request: Vec<u8>,
    signature: Vec<u8>,
    leaf: Vec<u8>,
}

impl Default for Subject {
    fn default() -> Self {
        Self::new()
    }
}

impl Subject {
    /// A CA, CSRs by different keys, and inputs of the same sizes for the crypto library.
    #[must_use]
    pub fn new() -> Self {
        let now = UnixTime::new(unix_now());
        let domain = TrustDomain::parse("bench.example").unwrap();
        let key = || Arc::new(SoftwareKey::generate(KeyAlgorithm::P256).unwrap().0);
        let root = Root::create(&domain, key(), Serial::from_entropy(random()), now, 10).unwrap();
        let ca = root.issue_ca(Role::Machine, key(), Serial::from_entropy(random()), now).unwrap();
        let requests = (0..256).map(|_| STANDARD.decode(Key::generate().csr).unwrap()).collect();
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &rng).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref()).unwrap();
        let request = vec![0x5a; 160];
        let signature = pair.sign(&rng, &request).unwrap().as_ref().to_vec();
        Self { ca, requests, pair, rng, request, signature, leaf: vec![0xa5; 560] }
    }

    /// One round of each.
    #[must_use]
    pub fn round(&self, count: usize) -> Rates {
        let raw = timed(|| (0..count).for_each(|_| self.raw()));
        let pki = timed(|| (0..count).for_each(|i| self.issue(i)));
        Rates { pki: rate(count, pki), raw: rate(count, raw) }
    }

    fn raw(&self) {
        // The key is parsed each time, as for a request.
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.pair.public_key().as_ref());
        public.verify(black_box(&self.request), &self.signature).unwrap();
        black_box(self.pair.sign(&self.rng, black_box(&self.leaf)).unwrap());
    }

    fn issue(&self, i: usize) {
        let now = UnixTime::new(unix_now());
        let csr = pki::csr::verify(black_box(&self.requests[i % self.requests.len()])).unwrap();
        let request = LeafRequest {
            key: csr.into_key(),
            identity: Identity {
                domain: self.ca.domain().clone(),
                role: Role::Machine,
                name: pki::Name::parse("edge-07").unwrap(),
            },
            serial: Serial::from_entropy(random()),
            lifetime: Duration::from_secs(86_400),
            assurance: Assurance::SOFTWARE,
            admitted_by: AdmittedBy::Policy,
            gateway_names: Vec::new(),
        };
        black_box(pki::draft(request, now).lint().unwrap().issue(&self.ca).unwrap());
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let before = cpu_of_this_thread();
    work();
    cpu_of_this_thread().saturating_sub(before)
}
