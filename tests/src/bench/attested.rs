//! Figure 7: enrollments by evidence other than join tokens, compared with enrollments by tokens of the same gateway.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tpm::HashAlgorithm;
use tpm::soft::{Maker, SoftTpm};
use wire::enroll::{ChallengeReply, EnrollRequest, Evidence};
use wire::evidence::{TPM, TPM_CONTEXT, TpmAnswer, TpmChallenge, TpmEvidence, TpmQuote, TpmSigned};

use super::WORKERS;
use super::connections::next;
use super::fleet::{Cost, Site, measure};
use crate::device::{self, Key, Outcome};
use crate::gateway::Setup;
use crate::http::{Connection, Face};

/// Admits machines with a TPM of a trusted maker.
const RULES: &str = r#"
@id("by-tpm")
permit (principal is Lychgate::Newcomer, action == Lychgate::Action::"enroll", resource)
when { principal.claims has tpm_chain && principal.claims.tpm_chain == "verified" };
"#;

/// The value of the PCR that is quoted.
const PCR_7: [u8; 32] = [7; 32];

/// A gateway that admits machines by their TPMs, and the maker of these.
pub struct Attested {
    /// The gateway.
    pub site: Site,
    maker: Maker,
    _anchors: TempDir,
}

impl Default for Attested {
    fn default() -> Self {
        Self::new()
    }
}

impl Attested {
    /// Starts a new gateway that trusts a new maker.
    #[must_use]
    pub fn new() -> Self {
        let (maker, folder) = (Maker::named("Maker CA"), tempfile::tempdir().unwrap());
        let anchors = folder.path().join("anchors.pem");
        std::fs::write(&anchors, maker.pem()).unwrap();
        let setup = Setup::default().config("attest.tpm.anchors", anchors.to_str().unwrap()).policy(RULES);
        Self { site: Site::with(setup), maker, _anchors: folder }
    }

    /// One round of complete enrollments, each of a machine with a TPM of its own: a new connection, both rounds, a certificate for a
    /// key inside the TPM.
    pub async fn by_tpm(&self, count: usize, prefix: &str) -> Cost {
        let queue: VecDeque<Machine> = (0..count).map(|i| Machine::new(&self.maker, format!("{prefix}-{i}"))).collect();
        let (queue, config) = (Arc::new(Mutex::new(queue)), self.site.anonymous());
        measure(self.site.id(), count, async {
            let mut workers = JoinSet::new();
            for _ in 0..WORKERS {
                let (queue, face, config) = (Arc::clone(&queue), self.site.enroll.clone(), Arc::clone(&config));
                workers.spawn(async move {
                    while let Some(machine) = next(&queue) {
                        machine.joins(&face, &config).await;
                    }
                });
            }
            workers.join_all().await;
        })
        .await
    }
}

/// A machine with a TPM.
struct Machine {
    tpm: SoftTpm,
    key: Key,
    evidence: TpmEvidence,
    name: String,
}

impl Machine {
    fn new(maker: &Maker, name: String) -> Self {
        let tpm = SoftTpm::new();
        let evidence = TpmEvidence {
            certificates: vec![STANDARD.encode(maker.certify(&tpm, 2050))],
            ek: STANDARD.encode(tpm.ek()),
            ak: STANDARD.encode(tpm.ak()),
            key: Some(STANDARD.encode(tpm.identity())),
            answer: None,
        };
        Self { key: Key::from_pkcs8(&tpm.identity_pkcs8()), tpm, evidence, name }
    }

    fn request(&self, evidence: &TpmEvidence, ticket: Option<String>) -> EnrollRequest {
        let body = serde_json::to_string(evidence).unwrap();
        let evidence = vec![Evidence { kind: TPM.to_owned(), body }];
        EnrollRequest { evidence, ticket, ..device::request(&self.key, Some(&self.name), None) }
    }

    async fn joins(self, face: &Face, config: &Arc<ClientConfig>) {
        let mut connection = Connection::open(face, config).await.unwrap();
        let first = self.request(&self.evidence, None);
        let challenge: ChallengeReply = match device::enroll_on(&mut connection, face, &self.key, &first).await.unwrap()
        {
            Outcome::Refused(reply) if reply.status == 401 => reply.json().unwrap(),
            other => panic!("no challenge: {other:?}"),
        };
        let asked: TpmChallenge = serde_json::from_str(&challenge.challenges[0].body).unwrap();
        let evidence = TpmEvidence { answer: Some(self.answer(&asked)), ..self.evidence.clone() };
        let second = self.request(&evidence, Some(challenge.ticket));
        let outcome = device::enroll_on(&mut connection, face, &self.key, &second).await.unwrap();
        assert!(matches!(outcome, Outcome::Issued(_)), "not admitted: {outcome:?}");
    }

    fn answer(&self, asked: &TpmChallenge) -> TpmAnswer {
        let bytes = |text: &String| STANDARD.decode(text).unwrap();
        let secret = self.tpm.activate(&bytes(&asked.credential), &bytes(&asked.encrypted_secret)).unwrap();
        let digest = hex::decode(&self.key.digest).unwrap();
        let bound = HashAlgorithm::Sha256.digest(&[TPM_CONTEXT, &bytes(&asked.nonce), &digest]);
        let signed = |(attest, signature): (Vec<u8>, Vec<u8>)| TpmSigned {
            attest: STANDARD.encode(attest),
            signature: STANDARD.encode(signature),
        };
        TpmAnswer {
            secret: STANDARD.encode(secret),
            certification: Some(signed(self.tpm.certify(&bound, &self.tpm.identity()))),
            quote: Some(TpmQuote {
                signed: signed(self.tpm.quote(&bound, 7, &PCR_7)),
                bank: "sha256".to_owned(),
                values: [(7, hex::encode(PCR_7))].into(),
                log: None,
            }),
        }
    }
}
