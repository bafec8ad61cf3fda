//! A key to be certified, with proof that its holder is at the other end of this connection. Every issuance needs one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{KeyDigest, RequestBinding, SubjectKey, UnixTime, VerifiedCsr};

use super::{
    proof::{self, BadProof, Expected},
    requester::Requester,
};

/// How possession of a key was proven on a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ProvenBy {
    /// By a proof that names the connection ([`proof`]).
    Jwt,
    /// By the signature of the request, which names the connection (RFC 7030 3.5).
    BoundRequest,
    /// By the signature of a CSR without a channel binding, on a connection with a client certificate: the holder of that certificate
    /// is responsible for it.
    HolderRequest,
}

impl ProvenBy {
    /// The word for the audit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::BoundRequest => "bound-request",
            Self::HolderRequest => "holder-request",
        }
    }
}

/// A key whose holder is at the other end of a connection. Only the checks below make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenKey {
    key: SubjectKey,
    by: ProvenBy,
    exporter: [u8; 32],
}

impl ProvenKey {
    /// From a CSR, and a proof by the same key that is bound to the connection.
    ///
    /// # Errors
    /// The first failed check of the proof.
    pub fn by_jwt(csr: VerifiedCsr, proof: &str, expected: &Expected<'_>, now: UnixTime) -> Result<Self, BadProof> {
        let key = csr.into_key();
        proof::check(proof, &key, expected, now)?;
        Ok(Self { key, by: ProvenBy::Jwt, exporter: *expected.exporter })
    }

    /// From a CSR alone, if it contains the exporter value of the connection (RFC 9266), or if it contains none and the client showed a
    /// certificate.
    ///
    /// # Errors
    /// [`BadProof::OtherConnection`], [`BadProof::Unbound`], [`BadProof::Challenge`].
    pub fn by_request(csr: VerifiedCsr, requester: &Requester, exporter: &[u8; 32]) -> Result<Self, BadProof> {
        let by = match (csr.binding(&STANDARD.encode(exporter)), requester) {
            (RequestBinding::Here, _) => ProvenBy::BoundRequest,
            (RequestBinding::Absent, Requester::Ours(_) | Requester::Foreign(_)) => ProvenBy::HolderRequest,
            (RequestBinding::Absent, Requester::Nobody) => return Err(BadProof::Unbound),
            (RequestBinding::Elsewhere, _) => return Err(BadProof::OtherConnection),
            (RequestBinding::Unreadable, _) => return Err(BadProof::Challenge),
        };
        Ok(Self { key: csr.into_key(), by, exporter: *exporter })
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &SubjectKey {
        &self.key
    }

    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        self.key.digest()
    }

    /// How it was proven.
    #[must_use]
    pub const fn by(&self) -> ProvenBy {
        self.by
    }

    /// The exporter value of the connection (RFC 9266), which evidence is bound to as well.
    #[must_use]
    pub const fn exporter(&self) -> &[u8; 32] {
        &self.exporter
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pki::{ForeignPeer, KeyAlgorithm, SoftwareKey};

    use super::*;

    const HERE: [u8; 32] = [0xfb; 32];

    /// What a CSR with this channel binding, or none, proves for the holder of this certificate.
    #[track_caller]
    fn check(connection: Option<&str>, requester: &Requester, want: Result<ProvenBy, BadProof>) {
        let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap().0;
        let csr = connection.map_or_else(|| pki::csr::request(&key), |text| pki::csr::bound_request(&key, text));
        let proven = ProvenKey::by_request(pki::csr::verify(&csr.unwrap()).unwrap(), requester, &HERE);
        if let Ok(proven) = &proven {
            assert_eq!((proven.key(), proven.exporter()), (&key.subject_key().unwrap(), &HERE));
        }
        assert_eq!(proven.map(|proven| proven.by()), want, "{connection:?} {requester}");
    }

    #[test]
    fn a_request_names_its_connection_or_comes_from_a_holder() {
        let digest = KeyDigest::from_spki_der(b"k");
        let foreign =
            ForeignPeer { leaf: vec![], issuers: vec![], key: digest, anchor: digest, not_after: UnixTime::new(1) };
        let (nobody, holder) = (Requester::Nobody, Requester::Foreign(Arc::new(foreign)));
        let here = STANDARD.encode(HERE);
        let long = "x".repeat(256);
        for requester in [&nobody, &holder] {
            check(Some(&here), requester, Ok(ProvenBy::BoundRequest));
            for elsewhere in [STANDARD.encode([0; 32]), here.trim_end_matches('=').to_owned(), hex::encode(HERE)] {
                check(Some(&elsewhere), requester, Err(BadProof::OtherConnection));
            }
            check(Some(&long), requester, Err(BadProof::Challenge));
        }
        check(None, &nobody, Err(BadProof::Unbound));
        check(None, &holder, Ok(ProvenBy::HolderRequest));
    }
}
