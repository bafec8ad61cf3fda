//! Requests to the enroll face, without a client certificate. Each carries a proof by its key, bound to the TLS connection.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::KeyDigest;
use wire::enroll::{EnrollRequest, GatewayInfo, IssuedReply, WaitingReply};

use super::net::{CallError, Connection, HttpReply, HttpRequest, NetError, TlsClient};
use super::verifier::GatewayVerifier;
use super::{clock, entropy};
use crate::core::attestation::Offer;
use crate::core::enrollment::{Challenge, EnrollmentReply, PollWait};
use crate::core::key::{KeyFault, PrivateKey};
use crate::core::offset::Offset;
use crate::core::proof::{self, Subject};
use crate::core::receive::{self, Expect, KnownGateway};
use crate::core::target::Address;
use crate::core::trust::Expected;
use crate::evidence::tpm::with_key;
use crate::evidence::{self, Binding, Prover};
use crate::text::report::{Complaint, Exit};

/// The contents of an enrollment request, the same in every attempt.
pub struct Application {
    /// The key to be certified.
    pub key: PrivateKey,
    /// The requested name.
    pub name: Option<String>,
    /// Self-reported attributes.
    pub attributes: BTreeMap<String, String>,
    /// The evidence that was named: without it the request is not sent.
    pub demands: Offer,
    /// Provers that make the evidence.
    pub provers: Vec<Box<dyn Prover>>,
}

/// The enroll face, with one connection that is reused while it is open.
pub struct EnrollFace {
    address: Address,
    manners: TlsClient,
    verifier: GatewayVerifier,
    trusted: Vec<KeyDigest>,
    pin: KeyDigest,
    /// The pin that the gateway reports now, which differs from ours after a change of roots.
    reported_pin: Option<KeyDigest>,
    connection: Option<Connection>,
    offset: Offset,
    before: KnownGateway,
    /// The kinds of evidence that the gateway reports to accept; empty for an older gateway.
    accepted_kinds: Vec<String>,
    /// What is to be said about the evidence that was sent last.
    about_evidence: Vec<String>,
    /// The kinds of evidence of the machine itself that were sent last.
    offered: Vec<String>,
}

/// Why a request has no usable reply.
enum SubmitError {
    Call(CallError),
    Key(KeyFault),
    Evidence(Complaint),
}

impl From<CallError> for SubmitError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<NetError> for SubmitError {
    fn from(error: NetError) -> Self {
        Self::Call(CallError::Net(error))
    }
}

impl From<KeyFault> for SubmitError {
    fn from(fault: KeyFault) -> Self {
        Self::Key(fault)
    }
}

impl From<SubmitError> for EnrollmentReply {
    fn from(fault: SubmitError) -> Self {
        match fault {
            SubmitError::Call(CallError::Refused(refusal)) => Self::Refused(*refusal),
            SubmitError::Call(CallError::Net(error)) if !error.is_passing() => Self::Hopeless(error.into()),
            SubmitError::Call(CallError::Net(error)) if error.may_have_arrived() => Self::NoAnswer(error.into()),
            SubmitError::Call(CallError::Net(error)) if error.is_load() => Self::TurnedAway(error.into()),
            SubmitError::Call(CallError::Net(error)) => Self::NotSent(error.into()),
            SubmitError::Key(fault) => Self::Hopeless(fault.into()),
            SubmitError::Evidence(complaint) => Self::Hopeless(complaint),
        }
    }
}

impl EnrollFace {
    /// The gateway at `address`, verified by `expected`; `pin` is the root at first contact.
    pub fn new(address: Address, expected: Expected, pin: KeyDigest) -> Result<Self, NetError> {
        let trusted = match &expected {
            Expected::Roots { roots, .. } => roots.iter().filter_map(|root| pki::root_pin(root).ok()).collect(),
            Expected::Pin(_) | Expected::Anybody => Vec::new(),
        };
        let verifier = GatewayVerifier::new(expected, address.host());
        let manners = TlsClient::anonymous(verifier.clone())?;
        Ok(Self {
            address,
            manners,
            verifier,
            trusted,
            pin,
            reported_pin: None,
            connection: None,
            offset: Offset::default(),
            before: KnownGateway::default(),
            accepted_kinds: Vec::new(),
            about_evidence: Vec::new(),
            offered: Vec::new(),
        })
    }

    /// Sets what the client has accepted from this gateway before.
    pub fn follows(&mut self, before: KnownGateway) {
        self.before = before;
    }

    /// The gateway's root: the pinned one, or the one that has replaced it, if our bundle contains that.
    #[must_use]
    pub fn pin(&self) -> KeyDigest {
        self.pin
    }

    /// The offset of the gateway's clock, as of the last reply.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// What is to be said about the evidence that was sent last: which kinds were offered, and which could not be.
    #[must_use]
    pub fn about_evidence(&self) -> &[String] {
        &self.about_evidence
    }

    /// The kinds of evidence of the machine itself that were sent last.
    #[must_use]
    pub fn offered(&self) -> &[String] {
        &self.offered
    }

    /// Sends the enrollment.
    pub async fn submit(&mut self, application: &Application) -> EnrollmentReply {
        self.converse(application, Request::Enroll(None)).await
    }

    /// Sends the enrollment with the answers to a challenge.
    pub async fn answer(&mut self, application: &Application, challenge: &Challenge) -> EnrollmentReply {
        self.converse(application, Request::Enroll(Some(challenge))).await
    }

    /// Polls the enrollment.
    pub async fn poll(&mut self, application: &Application, id: &str, patience: PollWait) -> EnrollmentReply {
        self.converse(application, Request::Poll(id, patience)).await
    }

    async fn converse(&mut self, application: &Application, request: Request<'_>) -> EnrollmentReply {
        let begun = tokio::time::Instant::now();
        let had_connection = self.connection.as_ref().is_some_and(Connection::was_used);
        let mut outcome = self.exchange(application, request).await;
        // The gateway may have closed an idle connection. The request is idempotent, so it is sent again.
        if had_connection && matches!(&outcome, Err(SubmitError::Call(CallError::Net(NetError::Broken { .. })))) {
            outcome = self.exchange(application, request).await;
        }
        match outcome {
            Ok(reply) => self.convert_reply(&reply, application, begun.elapsed()),
            Err(fault) => fault.into(),
        }
    }

    async fn exchange(&mut self, application: &Application, request: Request<'_>) -> Result<HttpReply, SubmitError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let (method, path) = match request {
            Request::Enroll(_) => ("POST", "/v1/enrollments".to_owned()),
            Request::Poll(id, _) => ("GET", format!("/v1/enrollments/{}", super::manage::segment(id))),
        };
        let authority = self.address.authority();
        let (target, body) = match request {
            Request::Enroll(challenge) => (path.clone(), Some(self.body(application, challenge, &connection).await?)),
            Request::Poll(_, PollWait::AtOnce) => (path.clone(), None),
            Request::Poll(_, PollWait::Long) => (format!("{path}?wait={}", wire::limits::WAIT_MAX_SECS), None),
        };
        // After the evidence, which may take a while: the proof says when it was made.
        let subject = Subject { method, authority: &authority, path: &path, exporter: connection.exporter() };
        let now = self.offset.gateway_time(clock::now());
        let proof = proof::draft(subject, &application.key, now, entropy::unique()?)?;
        let proof = with_key(&application.key, |key| proof.sign(key)).await?;
        let reply = connection.call(HttpRequest { method, path: &target, proof: Some(proof), body }).await?;
        self.connection = Some(connection);
        Ok(reply)
    }

    /// Withdraws a request, with a proof by its key.
    pub async fn withdraw(&mut self, key: &PrivateKey, id: &str) -> Result<(), Complaint> {
        let mut connection = self.open().await?;
        let (method, path) = ("DELETE", format!("/v1/enrollments/{}", super::manage::segment(id)));
        let authority = self.address.authority();
        let subject = Subject { method, authority: &authority, path: &path, exporter: connection.exporter() };
        let now = self.offset.gateway_time(clock::now());
        let proof = proof::draft(subject, key, now, entropy::unique()?)?;
        let proof = with_key(key, |key| proof.sign(key)).await?;
        let reply = connection
            .call(HttpRequest { method, path: &path, proof: Some(proof), body: None })
            .await
            .map_err(CallError::Net)?;
        let _: wire::manage::Done = reply.decode(&self.address)?;
        Ok(())
    }

    /// Queries the gateway's time.
    pub async fn ask_time(&mut self) -> Result<Offset, CallError> {
        self.connection = Some(self.open().await?);
        Ok(self.offset)
    }

    /// `GET` of a resource that needs no proof.
    pub async fn get<T: serde::de::DeserializeOwned>(&mut self, path: &str) -> Result<T, CallError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let reply = connection.call(HttpRequest { method: "GET", path, proof: None, body: None }).await?;
        self.connection = Some(connection);
        reply.decode(&self.address)
    }

    /// Opens a connection and queries the gateway's time.
    async fn open(&mut self) -> Result<Connection, CallError> {
        let mut connection = Connection::open(&self.address, &self.manners).await?;
        let reply =
            connection.call(HttpRequest { method: "GET", path: "/v1/gateway", proof: None, body: None }).await?;
        let info: GatewayInfo = reply.decode(&self.address)?;
        if let Some(root) = self.verifier.presented_root().filter(|root| self.trusted.contains(root)) {
            self.pin = root;
        }
        self.reported_pin = KeyDigest::parse_hex(&info.pin).ok();
        self.update_offset(info.time);
        self.accepted_kinds = info.evidence;
        Ok(connection)
    }

    /// Updates the offset from the gateway's time. An implausible time is ignored.
    fn update_offset(&mut self, time: u64) {
        let heard = Offset::heard(pki::UnixTime::new(time), clock::now(), self.verifier.shown().as_ref());
        self.offset = heard.unwrap_or(self.offset);
    }

    async fn body(
        &mut self,
        application: &Application,
        challenge: Option<&Challenge>,
        connection: &Connection,
    ) -> Result<Vec<u8>, SubmitError> {
        let digest = application.key.digest();
        let gateway = self.verifier.shown();
        let gateway = gateway.ok_or_else(|| KeyFault::Library("the gateway was not verified".to_owned()))?;
        let now = self.offset.gateway_time(clock::now());
        let key = &application.key;
        let (exporter, domain) = (connection.exporter(), gateway.domain());
        let binding = Binding { exporter, new_key: &digest, inside: key.file(), domain, now };
        // Evidence of the machine itself is sent only if the gateway accepts its kind. A token or certificate is sent in any case, so
        // that the gateway's refusal explains the problem.
        let given = [wire::evidence::JOIN_TOKEN, wire::evidence::PRIOR_CERTIFICATE];
        let taken = |kind: &str| given.contains(&kind) || self.accepted_kinds.iter().any(|accepted| accepted == kind);
        let gathered = evidence::gather(&application.provers, taken, binding, asked(challenge)).await?;
        self.about_evidence = gathered.lines();
        self.offered = gathered.of_machine().into_iter().map(str::to_owned).collect();
        gathered.demand(&application.demands, &self.accepted_kinds).map_err(SubmitError::Evidence)?;
        let request = EnrollRequest {
            csr: STANDARD.encode(with_key(key, PrivateKey::csr).await?),
            wanted_name: application.name.clone(),
            evidence: gathered.evidence,
            ticket: challenge.map(|challenge| challenge.ticket.clone()),
            attributes: application.attributes.clone(),
            pin: self.reported_pin.filter(|given| *given != self.pin).map(|_| self.pin.hex()),
        };
        serde_json::to_vec(&request).map_err(|e| SubmitError::Key(KeyFault::Library(e.to_string())))
    }

    /// Converts a reply.
    fn convert_reply(&mut self, reply: &HttpReply, application: &Application, took: Duration) -> EnrollmentReply {
        match reply.status {
            200 | 201 => {
                let issued: IssuedReply = match reply.decode(&self.address) {
                    Ok(issued) => issued,
                    Err(error) => return SubmitError::Call(error).into(),
                };
                self.update_offset(issued.time);
                let (key, shown) = (application.key.digest(), self.verifier.shown());
                let now = self.offset.gateway_time(clock::now());
                let believed = self.verifier.expected();
                let expect = Expect { key: &key, believed, shown: shown.as_ref(), before: &self.before, now };
                match receive::accept(&issued, expect) {
                    Ok(issued) => EnrollmentReply::Issued(Box::new(issued)),
                    Err(bad) => EnrollmentReply::Hopeless(bad.into()),
                }
            }
            202 => {
                let waiting: WaitingReply = match reply.decode(&self.address) {
                    Ok(waiting) => waiting,
                    Err(error) => return SubmitError::Call(error).into(),
                };
                self.update_offset(waiting.time);
                match receive::pending_approval(&waiting) {
                    Ok(ticket) => EnrollmentReply::Wait { ticket, took },
                    Err(bad) => EnrollmentReply::Hopeless(bad.into()),
                }
            }
            _ => match reply.challenge() {
                Some(challenge) => EnrollmentReply::Challenge(challenge),
                None => EnrollmentReply::Refused(reply.refusal()),
            },
        }
    }
}

/// A request to the enroll face.
#[derive(Clone, Copy)]
enum Request<'a> {
    /// The enrollment, with the answers to a challenge from the second round on.
    Enroll(Option<&'a Challenge>),
    /// A poll of the enrollment with this id.
    Poll(&'a str, PollWait),
}

/// Kind and body of each challenge.
fn asked(challenge: Option<&Challenge>) -> &[(String, String)] {
    challenge.map_or(&[], |challenge| &challenge.asks)
}

/// The fingerprint of the root that a gateway presents, for a person to compare. No request is sent.
///
/// # Errors
/// When there is no connection, or the chain does not contain its root.
pub async fn presented_root(address: &Address) -> Result<KeyDigest, Complaint> {
    let verifier = GatewayVerifier::new(Expected::Anybody, address.host());
    let manners = TlsClient::anonymous(verifier.clone())?;
    drop(Connection::open(address, &manners).await?);
    verifier.presented_root().ok_or_else(|| {
        Complaint::new(Exit::Untrusted, "no-root", format!("{address} presents no root that could be pinned"))
            .hint("check that the address is a gateway's enroll face")
    })
}
