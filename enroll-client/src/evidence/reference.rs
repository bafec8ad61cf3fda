//! `reference`: the prover for the gateway's test attestor of that name: two rounds over a shared secret. Only in debug builds, and used
//! if the client's folder contains `reference.secret`.

use aws_lc_rs::hmac;

use super::{Binding, EvidenceError, Known, Prover, Proving};

/// File of the secret in the client's folder.
const FILE: &str = "reference.secret";

/// The prover, if the folder contains a secret.
pub fn probe(known: Known<'_>) -> Option<Box<dyn Prover>> {
    let text = std::fs::read_to_string(known.folder.join(FILE)).ok()?;
    let (name, secret) = text.trim_end().split_once(' ')?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    Some(Box::new(Reference { name: name.to_owned(), key }))
}

struct Reference {
    name: String,
    key: hmac::Key,
}

impl Prover for Reference {
    fn kind(&self) -> &'static str {
        "reference"
    }

    fn body<'a>(&'a self, binding: Binding<'a>, challenge: Option<&'a str>) -> Proving<'a> {
        let body = challenge.map_or_else(
            || Ok(self.name.clone()),
            |nonce| {
                let nonce = hex::decode(nonce).map_err(|error| EvidenceError::Machine(error.to_string()))?;
                let tag = hmac::sign(&self.key, &[&nonce, &binding.new_key.as_bytes()[..]].concat());
                Ok(format!("{} {}", self.name, hex::encode(tag)))
            },
        );
        Box::pin(std::future::ready(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_answers_for_the_key() {
        let room = tempfile::tempdir().unwrap();
        let attestation = crate::core::attestation::Attestation::default();
        let known = Known { folder: room.path(), attestation: &attestation, ek: None };
        assert!(probe(known).is_none());
        std::fs::write(room.path().join(FILE), "edge-a sixteen bytes or more\n").unwrap();
        let prover = probe(known).unwrap();
        let digest = pki::KeyDigest::from_spki_der(b"key");
        let domain = pki::TrustDomain::parse("td.example").unwrap();
        let binding =
            Binding { exporter: &[9; 32], new_key: &digest, inside: None, domain: &domain, now: pki::UnixTime::new(0) };
        assert_eq!(prover.body(binding, None).await.unwrap(), "edge-a");
        let answer = prover.body(binding, Some("00ff")).await.unwrap();
        let signed = [&[0, 0xff][..], digest.as_bytes()].concat();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"sixteen bytes or more"), &signed);
        assert_eq!(answer, format!("edge-a {}", hex::encode(tag)));
        assert!(prover.body(binding, Some("no hex")).await.is_err());
    }
}
