//! What the tests of several modules need: the vectors of others, which lie beside the repository and are read there.

use std::path::PathBuf;

use num_bigint::BigUint;
use serde_json::Value;

use crate::algorithm::HashAlgorithm;
use crate::public::{Area, Attributes, Parameters, Public};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/tpm")
}

/// A file of the vectors. Without it the test is skipped, and says so.
#[expect(clippy::disallowed_methods, reason = "tests read vectors")]
pub(crate) fn vector(name: &str) -> Option<Vec<u8>> {
    let found = std::fs::read(folder().join(name)).ok();
    if found.is_none() {
        println!("skipped: {name} is not there; put it into ../shared/vectors/tpm");
    }
    found
}

/// One row of a file of vectors.
pub(crate) struct Row(Value);

impl Row {
    pub(crate) fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    pub(crate) fn bytes(&self, field: &str) -> Vec<u8> {
        hex::decode(self.text(field)).unwrap()
    }

    pub(crate) fn number(&self, field: &str) -> u16 {
        self.0[field].as_u64().unwrap().try_into().unwrap()
    }
}

/// The rows of a file of vectors.
pub(crate) fn rows(name: &str) -> Option<Vec<Row>> {
    let rows: Vec<Value> = serde_json::from_slice(&vector(name)?).unwrap();
    Some(rows.into_iter().map(Row).collect())
}

/// The public area of a key that exists.
pub(crate) fn public(attributes: Attributes, parameters: Parameters, spki: &[u8]) -> Public {
    public_named(HashAlgorithm::Sha256, attributes, parameters, spki)
}

/// The same, with another hash for its name.
pub(crate) fn public_named(
    name_algorithm: HashAlgorithm,
    attributes: Attributes,
    parameters: Parameters,
    spki: &[u8],
) -> Public {
    let area = Area { name_algorithm, attributes, auth_policy: Vec::new(), parameters };
    Public::of(area, spki)
}

/// A modulus of so many bytes that is a power of 65537 modulo each of the primes up to 167, its highest bit set. It is a number with
/// that property and no more: nobody knows its factors.
pub(crate) fn roca_modulus(bytes: usize) -> Vec<u8> {
    let is_prime = |number: &u32| !(2..*number).any(|by| number.is_multiple_of(by));
    let product: BigUint = (3..=167).filter(is_prime).map(BigUint::from).product();
    // 1 modulo each, and odd; each factor 65537 adds 16 bits.
    let mut number = product * 2_u32;
    while !number.bits().is_multiple_of(16) {
        number *= 2_u32;
    }
    number += 1_u32;
    while number.to_bytes_be().len() < bytes {
        number *= 65_537_u32;
    }
    number.to_bytes_be()
}
