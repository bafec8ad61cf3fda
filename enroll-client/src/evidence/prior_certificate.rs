//! `prior-certificate`: a machine whose certificate expired while it was off sends that certificate, and signs the exporter value of
//! the connection and the digest of the new key with the old key. Body: JSON of [`wire::evidence::PriorCertificate`].

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use wire::evidence::PRIOR_CERTIFICATE_CONTEXT;

use super::tpm::with_key;
use super::{Binding, Prover, Proving};
use crate::core::key::{KeyFault, PrivateKey};

/// The expired certificate with its key.
pub struct PriorCertificate {
    /// The leaf followed by its issuing CA, PEM.
    pub certificate: String,
    /// The private key of that certificate.
    pub key: PrivateKey,
}

/// The bytes that the old key signs.
#[must_use]
pub fn message(binding: Binding<'_>) -> Vec<u8> {
    [PRIOR_CERTIFICATE_CONTEXT, binding.exporter, binding.new_key.as_bytes()].concat()
}

impl Prover for PriorCertificate {
    fn kind(&self) -> &'static str {
        wire::evidence::PRIOR_CERTIFICATE
    }

    fn body<'a>(&'a self, binding: Binding<'a>, _: Option<&'a str>) -> Proving<'a> {
        Box::pin(async move {
            let message = message(binding);
            let signature = with_key(&self.key, move |key| key.sign(&message)).await?;
            let signature = URL_SAFE_NO_PAD.encode(signature);
            let body = wire::evidence::PriorCertificate { certificate: self.certificate.clone(), signature };
            Ok(serde_json::to_string(&body).map_err(|e| KeyFault::Library(e.to_string()))?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn old_key_signs_connection_and_new_key() {
        let (old, new) = (crate::testing::private_key(), crate::testing::private_key());
        let digest = new.digest();
        let domain = pki::TrustDomain::parse("td.example").unwrap();
        let binding =
            Binding { exporter: &[9; 32], new_key: &digest, inside: None, domain: &domain, now: pki::UnixTime::new(0) };
        let prover = PriorCertificate { certificate: "PEM".into(), key: old.clone() };
        let body: wire::evidence::PriorCertificate =
            serde_json::from_str(&prover.body(binding, None).await.unwrap()).unwrap();
        assert_eq!(body.certificate, "PEM");

        let signature = URL_SAFE_NO_PAD.decode(body.signature).unwrap();
        let public = pki::csr::verify(&old.csr().unwrap()).unwrap().into_key();
        let mut want = b"lychgate prior-certificate v1\0".to_vec();
        want.extend([9; 32]);
        want.extend(digest.as_bytes());
        assert!(public.verify(&want, &signature).is_ok());
        assert!(public.verify(&message(Binding { exporter: &[8; 32], ..binding }), &signature).is_err());
    }
}
