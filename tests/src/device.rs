//! A machine in this process: it makes keys and proofs, enrolls and renews, without code of the product's client.

use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use wire::manage::RenewRequest;
use wire::{
    enroll::{EnrollRequest, Evidence, IssuedReply, WaitingReply},
    evidence::{JOIN_TOKEN, PROOF_TYPE, ProofClaims},
};

use crate::http::{Connection, Face, Reply};
use crate::tls::{self, ClientIdentity};
use crate::wait::unix_now;

/// A key pair and its CSR.
#[derive(Clone)]
pub struct Key {
    /// PKCS#8.
    pub pkcs8: Vec<u8>,
    /// PKCS#10 in base64.
    pub csr: String,
    /// SHA-256 of the SPKI, hex.
    pub digest: String,
}

impl Key {
    /// A new P-256 key with a CSR without subject.
    #[must_use]
    pub fn generate() -> Self {
        Self::of(&KeyPair::generate().unwrap())
    }

    /// A P-256 key in PKCS#8.
    #[must_use]
    pub fn from_pkcs8(pkcs8: &[u8]) -> Self {
        Self::of(&KeyPair::try_from(pkcs8).unwrap())
    }

    fn of(pair: &KeyPair) -> Self {
        let request = CertificateParams::default().serialize_request(pair).unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &pair.subject_public_key_info());
        Self { pkcs8: pair.serialize_der(), csr: STANDARD.encode(request.der()), digest: hex::encode(digest) }
    }

    /// The proof JWT for one request on one connection (RFC 9449 4.2).
    #[must_use]
    pub fn proof(&self, method: &str, url: &str, exporter: &[u8; 32]) -> String {
        let claims = ProofClaims {
            jti: hex::encode(random()),
            iat: unix_now(),
            htm: method.to_owned(),
            htu: url.to_owned(),
            exporter: URL_SAFE_NO_PAD.encode(exporter),
        };
        self.sign_proof(&claims)
    }

    /// A proof with any claims.
    #[must_use]
    pub fn sign_proof(&self, claims: &ProofClaims) -> String {
        let key = EncodingKey::from_ec_der(&self.pkcs8);
        let header = Header {
            typ: Some(PROOF_TYPE.to_owned()),
            jwk: Some(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()),
            ..Header::new(Algorithm::ES256)
        };
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    }
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Held {
    /// The gateway's reply.
    pub reply: IssuedReply,
    /// The key it was issued for.
    pub key: Key,
}

impl Held {
    /// For use in TLS.
    #[must_use]
    pub fn identity(&self) -> ClientIdentity {
        let mut chain = tls::certificates(self.reply.certificate.as_bytes());
        chain.extend(tls::certificates(self.reply.chain.as_bytes()));
        ClientIdentity { chain, key: self.key.pkcs8.clone() }
    }

    /// A TLS client with this certificate that trusts the roots in the reply.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        tls::trusting(&self.roots(), Some(&self.identity()))
    }

    /// The roots in the reply.
    #[must_use]
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        tls::certificates(self.reply.bundle.as_bytes())
    }
}

/// The outcome of a request for a certificate.
#[derive(Debug)]
pub enum Outcome {
    /// Issued.
    Issued(Box<IssuedReply>),
    /// Waiting for approval.
    Waiting(WaitingReply),
    /// Refused, with the reply.
    Refused(Reply),
}

impl Outcome {
    /// From a reply, by its status.
    pub fn of(reply: Reply) -> io::Result<Self> {
        Ok(match reply.status {
            200 | 201 => Self::Issued(Box::new(reply.json()?)),
            202 => Self::Waiting(reply.json()?),
            _ => Self::Refused(reply),
        })
    }

    /// The certificate, when it was issued.
    #[must_use]
    pub fn issued(self) -> Option<IssuedReply> {
        match self {
            Self::Issued(reply) => Some(*reply),
            Self::Waiting(_) | Self::Refused(_) => None,
        }
    }

    /// Detail and hint, when it was refused.
    #[must_use]
    pub fn says(&self) -> String {
        match self {
            Self::Refused(reply) => reply.says(),
            Self::Issued(_) | Self::Waiting(_) => String::new(),
        }
    }

    /// The problem's code, when it was refused.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        match self {
            Self::Refused(reply) => Some(reply.code()),
            Self::Issued(_) | Self::Waiting(_) => None,
        }
    }
}

/// An enrollment request of a key, with or without a join token.
#[must_use]
pub fn request(key: &Key, name: Option<&str>, token: Option<&str>) -> EnrollRequest {
    let evidence = token.map(|token| Evidence { kind: JOIN_TOKEN.to_owned(), body: token.to_owned() });
    EnrollRequest {
        csr: key.csr.clone(),
        wanted_name: name.map(str::to_owned),
        evidence: evidence.into_iter().collect(),
        ticket: None,
        attributes: std::collections::BTreeMap::new(),
        pin: None,
    }
}

/// Enrolls on a new connection.
pub async fn enroll(
    face: &Face,
    config: &Arc<ClientConfig>,
    key: &Key,
    request: &EnrollRequest,
) -> io::Result<Outcome> {
    let mut connection = Connection::open(face, config).await?;
    enroll_on(&mut connection, face, key, request).await
}

/// Enrolls on this connection.
pub async fn enroll_on(
    connection: &mut Connection,
    face: &Face,
    key: &Key,
    request: &EnrollRequest,
) -> io::Result<Outcome> {
    let path = "/v1/enrollments";
    let proof = key.proof("POST", &face.url(path), &connection.exporter);
    let reply = connection.send("POST", path, Some(&proof), serde_json::to_vec(request)?).await?;
    Outcome::of(reply)
}

/// Polls a waiting enrollment.
pub async fn poll(connection: &mut Connection, face: &Face, key: &Key, id: &str, wait: u64) -> io::Result<Outcome> {
    let path = format!("/v1/enrollments/{id}");
    let proof = key.proof("GET", &face.url(&path), &connection.exporter);
    let reply = connection.send("GET", &format!("{path}?wait={wait}"), Some(&proof), Vec::new()).await?;
    Outcome::of(reply)
}

/// Renews on a connection of the manage face.
pub async fn renew_on(connection: &mut Connection, next: &Key) -> io::Result<Outcome> {
    let reply = connection
        .post("/v1/renew", &RenewRequest { csr: next.csr.clone(), name: None, evidence: vec![], ticket: None })
        .await?;
    Outcome::of(reply)
}

/// 16 random bytes.
#[must_use]
pub fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes
}
