//! Joining and rejoining: drives the state machine of [`crate::core::enrollment`], from the key on the disk to the certificate in the
//! folder. Progress is reported to an [`EnrollmentObserver`].

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use pki::{KeyDigest, Role, UnixTime};

use crate::core::attestation::{Attestation, Offer};
use crate::core::enrollment::{
    Challenge, Enrollment, EnrollmentInput, EnrollmentOutput, EnrollmentReply, Forget, RetryPolicy,
};
use crate::core::offset::Offset;
use crate::core::plan::JoinRequest;
use crate::core::receive::{Issued, PendingApproval};
use crate::core::record::{Denied, Pending, RequestAtGate, VERSION};
use crate::core::target::Address;
use crate::core::trust::Expected;
use crate::edge::enroll::{Application, EnrollFace};
use crate::edge::keystore::{Credential, Keystore, StoreError};
use crate::edge::{clock, entropy};
use crate::evidence::{self, ForOwner, JoinToken, Known, PriorCertificate, Prover};
use crate::flow::keys;
use crate::platform::{self, StopSignal};
use crate::text::report::{Complaint, Exit};

/// A waiting request, to be shown.
#[derive(Clone, Debug)]
pub struct WaitingNotice {
    /// The gateway it was sent to.
    pub gateway: Address,
    /// The enrollment.
    pub id: String,
    /// The waiting code.
    pub code: String,
    /// SHA-256 of the key, hex.
    pub key: String,
    /// When it expires, by the gateway's clock.
    pub expires: UnixTime,
    /// Number of approvals still missing.
    pub approvals_missing: u32,
    /// The offset of the gateway's clock.
    pub offset: Offset,
    /// The kinds of evidence of the machine itself that this process sent.
    pub offered: Vec<String>,
}

/// Receives the progress of an enrollment.
pub trait EnrollmentObserver {
    /// The request waits for approval.
    fn waiting(&mut self, notice: &WaitingNotice);
    /// Which evidence of the machine itself is offered, or why one is not.
    fn evidence(&mut self, line: &str);
    /// Called every second.
    fn tick(&mut self);
    /// An attempt failed and is repeated after `pause`.
    fn retrying(&mut self, why: &Complaint, pause: Duration);
}

/// How an enrollment ended.
pub enum EnrollmentEnd {
    /// The folder holds the new identity.
    Installed {
        /// It.
        credential: Box<Credential>,
        /// The offset of the gateway's clock.
        offset: Offset,
        /// The kinds of evidence of the machine itself that this process sent for it.
        offered: Vec<String>,
    },
    /// The request waits for approval, and the caller does not want to wait.
    Waiting(WaitingNotice),
    /// A signal was received; with the waiting request, if there is one.
    Stopped(Option<WaitingNotice>),
}

/// One attempt to join or rejoin.
pub struct EnrollmentAttempt<'a> {
    /// The folder, whose lock the caller holds.
    pub store: &'a Keystore,
    /// The request.
    pub pending: Pending,
    /// How the gateway is verified.
    pub expected: Expected,
    /// The enroll face, if there is a connection already.
    pub face: Option<EnrollFace>,
    /// The expired identity to send as evidence.
    pub prior: Option<&'a Credential>,
    /// Retries, and what to do while the request waits.
    pub policy: RetryPolicy,
}

/// State of an attempt that is running.
struct EnrollmentDriver<'a> {
    store: &'a Keystore,
    pending: Pending,
    gateway: Address,
    face: EnrollFace,
    application: Application,
    notice: Option<WaitingNotice>,
    /// What the observer was told about the evidence.
    told: BTreeSet<String>,
}

/// Runs an enrollment to its end.
pub async fn drive_enrollment(
    attempt: EnrollmentAttempt<'_>,
    observer: &mut dyn EnrollmentObserver,
    stop: &mut StopSignal,
) -> Result<EnrollmentEnd, Complaint> {
    let EnrollmentAttempt { store, mut pending, expected, face, prior, policy } = attempt;
    let damaged =
        |_| Complaint::new(Exit::Files, "files", "`pending.json` is damaged").hint("remove it and join again");
    let gateway = Address::parse(&pending.gateway, 443).map_err(damaged)?;
    let pin = pending_pin(&pending)?;
    let key = keys::next(store).await?;
    let attestation = store.attestation()?;
    pending.request = pending.request.filter(|request| request.key == key.digest().hex());
    // The request is on the disk before it is sent, so that a later process can repeat it.
    store.save_pending(&pending)?;
    let enrollment = match &pending.request {
        Some(request) => Enrollment::resume(policy, request.id.clone()),
        None => Enrollment::ask(policy),
    };
    let application = Application {
        key,
        name: pending.name.clone(),
        attributes: pending.attributes.clone(),
        provers: provers(store, &attestation, pending.token.as_deref(), prior),
        // A machine that returns is not kept out because it proves less than it did: the gateway's policy decides.
        demands: if prior.is_some() { Offer::Auto } else { attestation.attest },
    };
    let mut face = match face {
        Some(face) => face,
        None => EnrollFace::new(gateway.clone(), expected, pin)?,
    };
    face.follows(prior.map(Credential::known_gateway).unwrap_or_default());
    EnrollmentDriver { store, pending, gateway, face, application, notice: None, told: BTreeSet::new() }
        .follow(enrollment, observer, stop)
        .await
}

/// The provers of an enrollment. Either the old certificate or the token: the gateway accepts one of them, and only the certificate
/// restores the machine's identity. Beside these the machine itself proves nothing that its owner did not name, since the gateway refuses
/// two pieces that each admit; but a machine that returns shows its TPM, which admits nobody and says which machine it is. A document of a
/// cloud may be good for one admission, which that machine has had.
fn provers(
    store: &Keystore,
    attestation: &Attestation,
    token: Option<&str>,
    prior: Option<&Credential>,
) -> Vec<Box<dyn Prover>> {
    let mut provers: Vec<Box<dyn Prover>> = Vec::new();
    let is_named = !attestation.attest.named().is_empty();
    let offers = |kind: &str| match prior {
        Some(_) if kind == wire::evidence::CLOUD => false,
        Some(_) => is_named || token.is_none() && kind == wire::evidence::TPM,
        None => is_named || token.is_none(),
    };
    if prior.is_none_or(|prior| prior.identity.role == Role::Machine) {
        // What was shown by another identity of this folder binds nobody.
        let ek = attestation.ek.as_ref().filter(|_| prior.is_some());
        let all = evidence::of_this_machine(Known { folder: store.dir(), attestation, ek });
        provers.extend(all.into_iter().filter(|prover| offers(prover.kind())));
    }
    if let (Some(token), None) = (token, prior) {
        provers.push(Box::new(JoinToken(token.to_owned())));
    }
    if let Some(prior) = prior {
        // With the issuing CA, as in TLS: the gateway may use another one now.
        let chain = std::iter::once(&prior.leaf).chain(&prior.chain);
        let certificate = chain.map(|der| pki::to_pem("CERTIFICATE", der)).collect();
        provers.push(Box::new(PriorCertificate { certificate, key: prior.key.clone() }));
    }
    provers
}

impl EnrollmentDriver<'_> {
    async fn follow(
        mut self,
        mut enrollment: Enrollment,
        observer: &mut dyn EnrollmentObserver,
        stop: &mut StopSignal,
    ) -> Result<EnrollmentEnd, Complaint> {
        let mut input = EnrollmentInput::Continue;
        loop {
            let (next, output) = enrollment.step(input, entropy::draw());
            enrollment = next;
            let heard = match output {
                EnrollmentOutput::Submit => with_ticks(self.face.submit(&self.application), observer, stop).await,
                EnrollmentOutput::Answer(challenge) => self.answer(&challenge, observer, stop).await,
                EnrollmentOutput::Poll { id, patience } => {
                    with_ticks(self.face.poll(&self.application, &id, patience), observer, stop).await
                }
                EnrollmentOutput::Pause { length, why } => {
                    if let Some(why) = why {
                        observer.retrying(&why, length);
                    }
                    if with_ticks(tokio::time::sleep(length), observer, stop).await.is_none() {
                        return Ok(EnrollmentEnd::Stopped(self.notice));
                    }
                    input = EnrollmentInput::Continue;
                    continue;
                }
                EnrollmentOutput::Announce(ticket) => {
                    let notice = self.remember(&ticket)?;
                    observer.waiting(&notice);
                    self.notice = Some(notice);
                    input = EnrollmentInput::Continue;
                    continue;
                }
                EnrollmentOutput::Leave(ticket) => return Ok(EnrollmentEnd::Waiting(self.remember(&ticket)?)),
                EnrollmentOutput::Install(issued) => return Ok(self.install(&issued)?),
                EnrollmentOutput::GiveUp(complaint, forget) => {
                    match forget {
                        Forget::Nothing => {}
                        Forget::Approval => {
                            self.pending.request = None;
                            self.store.save_pending(&self.pending)?;
                        }
                        Forget::Question => self.store.forget_pending()?,
                        Forget::Request => {
                            let denied = Denied { at: clock::now().secs(), what: complaint.what.clone() };
                            self.store.deny_request(&self.pending, denied)?;
                        }
                    }
                    return Err(complaint);
                }
            };
            for line in self.face.about_evidence() {
                if self.told.insert(line.clone()) {
                    observer.evidence(line);
                }
            }
            self.remember_ek()?;
            let Some(heard) = heard else { return Ok(EnrollmentEnd::Stopped(self.notice)) };
            input = EnrollmentInput::Reply(heard);
        }
    }

    /// Answers a challenge, after the owner of the machine was given time for what they have to do for it.
    async fn answer(
        &mut self,
        challenge: &Challenge,
        observer: &mut dyn EnrollmentObserver,
        stop: &mut StopSignal,
    ) -> Option<EnrollmentReply> {
        let ask = |(kind, body): &(String, String)| {
            self.application.provers.iter().find(|prover| prover.kind() == kind)?.for_owner(body)
        };
        let asked: Vec<ForOwner> = challenge.asks.iter().filter_map(ask).collect();
        for ForOwner { what, pause } in asked {
            if self.told.insert(what.clone()) {
                observer.evidence(&what);
            }
            with_ticks(tokio::time::sleep(pause), observer, stop).await?;
        }
        with_ticks(self.face.answer(&self.application, challenge), observer, stop).await
    }

    /// Makes the certificate the identity in use.
    fn install(&self, issued: &Issued) -> Result<EnrollmentEnd, StoreError> {
        let credential = Box::new(self.store.install(issued, &self.application.key, &self.gateway)?);
        let (offset, offered) = (self.face.offset(), self.face.offered().to_vec());
        Ok(EnrollmentEnd::Installed { credential, offset, offered })
    }

    /// Records which of the TPM's keys the gateway now knows the machine by. Before the identity is installed: it is the same in every
    /// attempt until then.
    fn remember_ek(&self) -> Result<(), StoreError> {
        match self.application.provers.iter().find_map(|prover| prover.shown()) {
            Some(ek) => self.store.change_attestation(|attestation| attestation.ek = Some(ek)),
            None => Ok(()),
        }
    }

    /// Computes the waiting code and stores the request.
    fn remember(&mut self, ticket: &PendingApproval) -> Result<WaitingNotice, StoreError> {
        let digest = self.application.key.digest();
        let code = pki::waiting_code(&digest, &self.face.pin(), &ticket.nonce).to_string();
        let request =
            RequestAtGate { id: ticket.id.clone(), key: digest.hex(), code: code.clone(), expires: ticket.expires };
        if self.pending.request.as_ref() != Some(&request) || self.pending.denied.is_some() {
            // It waits, so an earlier denial has been taken back.
            self.pending.denied = None;
            self.pending.request = Some(request);
            self.store.save_pending(&self.pending)?;
        }
        Ok(WaitingNotice {
            gateway: self.gateway.clone(),
            id: ticket.id.clone(),
            code,
            key: digest.hex(),
            expires: UnixTime::new(ticket.expires),
            approvals_missing: ticket.approvals_missing,
            offset: self.face.offset(),
            offered: self.face.offered().to_vec(),
        })
    }
}

/// Waits for `work` and calls [`EnrollmentObserver::tick`] every second; `None` if a signal comes first.
async fn with_ticks<T>(
    work: impl Future<Output = T>,
    observer: &mut dyn EnrollmentObserver,
    stop: &mut StopSignal,
) -> Option<T> {
    tokio::pin!(work);
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            _ = stop.wait() => return None,
            _ = seconds.tick() => observer.tick(),
        }
    }
}

/// The pin of the root that an unfinished request expects.
///
/// # Errors
/// When `pending.json` holds no pin, or one that is not 64 hex digits.
pub fn pending_pin(pending: &Pending) -> Result<KeyDigest, Complaint> {
    KeyDigest::parse_hex(&pending.pin).map_err(|_| {
        Complaint::new(Exit::Files, "files", "`pending.json` holds no pin").hint("remove it and join again")
    })
}

/// A new request to join.
#[must_use]
pub fn ask_pending(gateway: &Address, pin: KeyDigest, token: Option<String>, join: &JoinRequest) -> Pending {
    Pending {
        version: VERSION,
        gateway: gateway.to_string(),
        pin: pin.hex(),
        name: join.name.as_ref().map(|name| name.as_str().to_owned()),
        token,
        attributes: attributes(&join.attributes),
        created: clock::now().secs(),
        request: None,
        denied: None,
        trouble: None,
    }
}

/// A request to rejoin with the old name. An unfinished one at the same gateway is continued.
#[must_use]
pub fn rejoin_pending(
    credential: &Credential,
    earlier: Option<Pending>,
    token: Option<String>,
    join: &JoinRequest,
) -> Pending {
    let mut pending = ask_pending(&credential.gateway, credential.pin, token, join);
    pending.name = pending.name.or_else(|| Some(credential.facts.name.clone()));
    pending.request = earlier
        .filter(|earlier| earlier.gateway == pending.gateway && pending.token.is_none())
        .and_then(|earlier| earlier.request);
    pending
}

/// The attributes of a request: those of the system, our version, and those given by the person, within the limits of the protocol.
fn attributes(extra: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::from([
        ("os".into(), std::env::consts::OS.into()),
        ("arch".into(), std::env::consts::ARCH.into()),
        ("client".into(), concat!("lychgate/", env!("CARGO_PKG_VERSION")).into()),
    ]);
    all.extend(platform::about_host().into_iter().map(|(name, value)| (name.to_owned(), value)));
    all.extend(extra.clone());
    for value in all.values_mut() {
        while value.len() > wire::limits::ATTRIBUTE_VALUE_MAX {
            value.pop();
        }
    }
    all
}
