//! Whoever is in: a machine or a person with a certificate.

use super::*;

/// Somebody who is in.
pub struct Member {
    pub(super) key: Arc<SoftwareKey>,
    pub(super) next: OnceCell<Arc<SoftwareKey>>,
    /// Its certificate.
    pub issued: IssuedReply,
}

impl Member {
    /// It, as the manage face knows it.
    pub async fn caller(&self, story: &Story) -> Caller {
        *story.admit(&story.peer(&self.issued)).await.unwrap()
    }

    /// Renews with its next key: the same until it has another certificate.
    pub async fn renew(&self, story: &Story) -> Result<IssuedReply, Refusal> {
        // What it heard when it last looked.
        let identity = story.peer(&self.issued).identity;
        let record = keys::subject(identity.role, identity.name.as_str());
        let heard = story.shell.get::<Subject>(record).await.unwrap().and_then(|seen| seen.record.renaming);
        self.renew_as(story, heard.as_deref()).await
    }

    /// The same, taking a name or none.
    pub async fn renew_as(&self, story: &Story, takes: Option<&str>) -> Result<IssuedReply, Refusal> {
        let key = self.next.get_or_init(|| async { key() }).await;
        self.renew_by(story, key, takes).await
    }

    /// The key that it asks for next.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub async fn next_key(&self) -> Arc<SoftwareKey> {
        Arc::clone(self.next.get_or_init(|| async { key() }).await)
    }

    /// Renews with evidence.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub async fn renew_with(
        &self,
        story: &Story,
        evidence: Vec<(String, String)>,
        ticket: Option<&str>,
    ) -> Result<Told, Refusal> {
        let key = self.next.get_or_init(|| async { key() }).await;
        self.ask_to_renew(story, key, None, &evidence, ticket).await
    }

    /// The same for a key of its own.
    pub async fn renew_by(
        &self,
        story: &Story,
        key: &SoftwareKey,
        takes: Option<&str>,
    ) -> Result<IssuedReply, Refusal> {
        self.ask_to_renew(story, key, takes, &[], None).await.map(Told::issued)
    }

    async fn ask_to_renew(
        &self,
        story: &Story,
        key: &SoftwareKey,
        takes: Option<&str>,
        evidence: &[(String, String)],
        ticket: Option<&str>,
    ) -> Result<Told, Refusal> {
        let peer = story.peer(&self.issued);
        let csr = pki::csr::verify(&pki::csr::request(key).unwrap()).unwrap();
        let requester = Requester::from(peer.clone());
        let proven = ProvenKey::by_request(csr, &requester, &EXPORTER).unwrap();
        flow::shell::retrying(|| async {
            let caller = flow::admit::admit(&story.shell, &peer, Use::Renewal, "story").await?;
            let asked = flow::renew::RenewalRequest {
                key: &proven,
                takes,
                evidence,
                ticket,
                requester: &requester,
                source: "192.0.2.0/24",
            };
            match flow::renew::renew(&story.shell, &caller, &asked, "story").await? {
                flow::renew::RenewalOutcome::Issued(made) => {
                    Ok(Told::Issued(Box::new(native::enroll::issued(&story.shell, *made))))
                }
                flow::renew::RenewalOutcome::Challenge(challenge) => Ok(Told::Challenge(challenge)),
            }
        })
        .await
    }

    /// A request by the key it has.
    #[allow(dead_code, reason = "only some stories ask for more than a renewal")]
    pub fn csr(&self) -> ProvenKey {
        let csr = pki::csr::bound_request(&*self.key, &STANDARD.encode(EXPORTER)).unwrap();
        ProvenKey::by_request(pki::csr::verify(&csr).unwrap(), &Requester::Nobody, &EXPORTER).unwrap()
    }

    /// The digest of its key.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub fn digest(&self) -> String {
        subject_key(&self.key).digest().hex()
    }

    /// The digest of the key that it asks for next.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub async fn next_digest(&self) -> String {
        subject_key(self.next.get_or_init(|| async { key() }).await).digest().hex()
    }

    /// It, with its next key and the certificate for that.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub fn moved(self, issued: IssuedReply) -> Self {
        Self { key: self.next.into_inner().unwrap(), next: OnceCell::new(), issued }
    }

    /// A copy of its directory.
    pub fn cloned(&self, _story: &Story) -> Self {
        self.fresh()
    }

    /// The same certificate and key, another next key: what a copy of the folder has.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub fn copied(&self) -> Self {
        Self { key: Arc::clone(&self.key), next: OnceCell::new(), issued: self.issued.clone() }
    }

    /// The same certificate, another next key.
    pub fn fresh(&self) -> Self {
        Self { key: key(), next: OnceCell::new(), issued: self.issued.clone() }
    }

    /// The code it shows while it waits to come back.
    pub fn next_code(&self, story: &Story, waiting: &WaitingReply) -> String {
        let nonce: [u8; 16] = hex::decode(&waiting.nonce).unwrap().try_into().unwrap();
        let key = subject_key(self.next.get().unwrap());
        pki::waiting_code(&key.digest(), &story.shell.ca().pin(), &nonce).to_string()
    }

    /// Comes back with its old certificate as evidence.
    pub async fn rejoin(&self, story: &Story) -> Result<Answer, Refusal> {
        let key = self.next.get_or_init(|| async { key() }).await;
        enroll(&story.shell, key, (1, EXPORTER, None), None, (vec![self.evidence(key)], None)).await
    }

    /// The same, with a wish for a name.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub async fn rejoin_named(&self, story: &Story, name: &str) -> Result<Answer, Refusal> {
        let key = self.next.get_or_init(|| async { key() }).await;
        enroll(&story.shell, key, (1, EXPORTER, None), Some(name), (vec![self.evidence(key)], None)).await
    }

    /// Its old certificate as evidence for its next key, beside other evidence.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub async fn rejoin_with(&self, story: &Story, other: Vec<(String, String)>) -> Result<Answer, Refusal> {
        let key = self.next.get_or_init(|| async { key() }).await;
        let all = other.into_iter().chain([self.evidence(key)]).collect();
        enroll(&story.shell, key, (1, EXPORTER, None), None, (all, None)).await
    }

    /// Asks how its request to come back stands.
    #[allow(dead_code, reason = "one of several programs that share this cast")]
    pub async fn poll(&self, story: &Story, id: &str) -> Result<Answer, Refusal> {
        flow::enroll::poll(&story.shell, id, Duration::ZERO, "story")
            .await
            .map(|outcome| Answer::of(&story.shell, outcome))
    }

    fn evidence(&self, key: &SoftwareKey) -> (String, String) {
        let mut signed = PRIOR_CERTIFICATE_CONTEXT.to_vec();
        signed.extend_from_slice(&EXPORTER);
        signed.extend_from_slice(subject_key(key).digest().as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(&signed).unwrap());
        let certificate = format!("{}{}", self.issued.certificate, self.issued.chain);
        let body = serde_json::to_string(&PriorCertificate { certificate, signature }).unwrap();
        (PRIOR_CERTIFICATE.to_owned(), body)
    }
}
