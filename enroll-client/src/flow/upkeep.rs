//! The steps of `renew` and `run`: query the gateway, renew, run hooks, update `state.json`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::{Role, TrustDomain, UnixTime};
use wire::enroll::IssuedReply;
use wire::manage::{RenewRequest, SealedRequest, SelfReply};

use crate::core::enrollment::{Challenge, ROUNDS_MAX};
use crate::core::key::{KeyFault, PrivateKey};
use crate::core::offset::{Offset, Unbelievable};
use crate::core::plan::denied_before;
use crate::core::receive::{BadReply, Expect, accept, own_address};
use crate::core::record::{Pending, RunState, State, Trouble};
use crate::core::target::Address;
use crate::edge::clock;
use crate::edge::enroll::EnrollFace;
use crate::edge::entropy;
use crate::edge::hooks::{self, HookContext};
use crate::edge::keystore::{Credential, Keystore, StoreError};
use crate::edge::manage::{ManageFace, RenewalReply};
use crate::edge::net::CallError;
use crate::edge::sealed::Seal;
use crate::edge::terminal;
use crate::evidence::tpm::with_key;
use crate::evidence::{self, Binding, Known, Prover};
use crate::flow::keys;
use crate::text::report::{Complaint, Exit};

/// How long a renewal waits for the folder's lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum UpkeepError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the gateway's reply cannot be used: {0}")]
    Reply(#[from] BadReply),
    #[error(transparent)]
    Clock(#[from] Unbelievable),
    #[error("cannot make a request: {0}")]
    Key(#[from] KeyFault),
    /// The gateway asks back without end.
    #[error("the gateway asked back more than {ROUNDS_MAX} times")]
    Asked,
}

impl UpkeepError {
    /// Whether the gateway refuses until a person changes that, for example by lifting a lock.
    #[must_use]
    pub fn is_lock(&self) -> bool {
        matches!(self, Self::Call(CallError::Refused(refusal)) if refusal.is_lock())
    }

    /// Whether the gateway reports that our certificate has expired.
    #[must_use]
    pub fn is_expiry(&self) -> bool {
        matches!(self, Self::Call(CallError::Refused(refusal)) if refusal.code == "expired")
    }

    /// The gateway's `Retry-After`.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Call(CallError::Refused(refusal)) => refusal.retry_after,
            Self::Call(CallError::Net(_))
            | Self::Store(_)
            | Self::Reply(_)
            | Self::Clock(_)
            | Self::Key(_)
            | Self::Asked => None,
        }
    }
}

impl From<UpkeepError> for Complaint {
    fn from(failed: UpkeepError) -> Self {
        match failed {
            UpkeepError::Call(error) => error.into(),
            UpkeepError::Store(error) => error.into(),
            UpkeepError::Reply(bad) => bad.into(),
            UpkeepError::Clock(unbelievable) => Self::new(Exit::Untrusted, "clock", unbelievable.to_string())
                .hint("tell the gateway's operator; compare this machine's clock with `date -u`"),
            UpkeepError::Key(fault) => fault.into(),
            asked @ UpkeepError::Asked => Self::new(Exit::Failure, "asked-too-often", asked.to_string()),
        }
    }
}

/// The identity in the folder.
///
/// # Errors
/// [`Exit::NotJoined`] when there is none, or it cannot be read.
pub fn load(store: &Keystore) -> Result<Credential, Complaint> {
    if let Some(credential) = store.credential()? {
        return Ok(credential);
    }
    let dir = store.dir().display();
    let not_joined = Complaint::new(Exit::NotJoined, "not-joined", format!("`{dir}` holds no identity"));
    Err(match store.pending()? {
        Some(Pending { gateway, request: Some(_), denied: None, .. }) => {
            Complaint::new(Exit::Waiting, "waiting", format!("the request of `{dir}` still waits at {gateway}"))
                .hint("`lychgate join` goes on with it")
        }
        Some(Pending { denied: Some(denied), gateway, .. }) => denied_before(&denied, &gateway),
        Some(Pending { gateway, trouble: Some(trouble), .. }) => {
            let what = format!("`{dir}` holds no identity yet; {gateway} refused it last: {}", trouble.what);
            Complaint::new(Exit::NotJoined, "not-joined", what)
                .hint("`lychgate run` asks again by itself, `lychgate join` now")
        }
        Some(Pending { gateway, request: None, .. }) => {
            not_joined.hint(format!("`lychgate join`, or `lychgate run`, asks again at {gateway}"))
        }
        None => not_joined.hint("`lychgate join TOKEN` makes one; --dir or LYCHGATE_DIR names another folder"),
    })
}

/// The identity in the folder, if its certificate is still valid.
///
/// # Errors
/// When there is none, or it has expired.
pub fn load_valid(store: &Keystore) -> Result<Credential, Complaint> {
    let credential = load(store)?;
    match expired(store, &credential) {
        Some(complaint) => Err(complaint),
        None => Ok(credential),
    }
}

/// The message that a certificate has expired, if it has by both clocks: the stored offset is as old as the last contact, and the
/// local clock may have been set since. In doubt the gateway decides.
#[must_use]
pub fn expired(store: &Keystore, credential: &Credential) -> Option<Complaint> {
    let life = &credential.life;
    (life.is_over(gateway_time(store, credential)) && life.is_over(clock::now())).then(|| {
        let what = format!("the certificate of `{}` expired at {}", credential.facts.identity, life.not_after);
        Complaint::new(Exit::Expired, "expired", what).hint("`lychgate join` rejoins with it as evidence")
    })
}

/// The current time by the gateway's clock, with the stored offset.
#[must_use]
pub fn gateway_time(store: &Keystore, credential: &Credential) -> UnixTime {
    Offset::from_secs(store.state(&credential.facts).clock_offset).gateway_time(clock::now())
}

/// Queries the offset of the gateway's clock, without client certificate.
pub async fn ask_time(credential: &Credential) -> Result<Offset, CallError> {
    EnrollFace::new(credential.gateway.clone(), credential.expected(), credential.pin)?.ask_time().await
}

/// Stores the offset of the gateway's clock.
pub fn save_offset(store: &Keystore, credential: &Credential, offset: Offset) -> Result<(), StoreError> {
    store.change_state(&credential.facts, |state| state.clock_offset = offset.secs())
}

/// Queries `GET /v1/self` and the offset of the gateway's clock. The first use of a new certificate activates it at the gateway.
pub async fn look(store: &Keystore, credential: &Credential) -> Result<(SelfReply, Offset), UpkeepError> {
    let mut face = ManageFace::new(credential).map_err(CallError::Net)?;
    let seen: SelfReply = face.get("/v1/self").await?;
    let shown = face.shown();
    let proxy = seen.proxy.as_deref().map(|proxy| own_address("proxy", proxy, shown.as_ref())).transpose()?;
    let time = Offset::heard(UnixTime::new(seen.time), clock::now(), shown.as_ref());
    note_success(store, credential, time.as_ref().ok().copied(), proxy, &seen)?;
    Ok((seen, time?))
}

/// Requests a server certificate for the machine's sealed services. Its key is only in memory, and it expires with the certificate in
/// use.
pub async fn seal(credential: &Credential, offset: Offset) -> Result<Seal, String> {
    let key = entropy::private_key().map_err(|e| e.to_string())?;
    let csr = STANDARD.encode(key.csr().map_err(|e| e.to_string())?);
    let mut face = ManageFace::new(credential).map_err(|e| e.to_string())?;
    let reply: IssuedReply = face.post("/v1/sealed", &SealedRequest { csr }).await.map_err(|e| e.to_string())?;
    let chain = pki::parse_pem("CERTIFICATE", &format!("{}{}", reply.certificate, reply.chain))
        .map_err(|e| format!("the gateway's reply is not PEM: {e}"))?;
    Seal::new(&chain, &key, credential, offset)
}

/// The address of the proxy face, stored or queried.
pub async fn proxy(store: &Keystore, credential: &Credential) -> Result<Address, Complaint> {
    let known = store.state(&credential.facts).proxy;
    let proxy = match known {
        Some(proxy) => Some(proxy),
        None => look(store, credential).await?.0.proxy,
    };
    let proxy = proxy.ok_or_else(|| {
        Complaint::new(Exit::Refused, "no-proxy", "the gateway has no proxy face, so it gives no access to machines")
            .hint("its operator sets `listen.proxy`, or `names.proxy` on a shared port")
    })?;
    Ok(Address::parse(&proxy, 443)?)
}

/// Records a successful contact in `state.json`.
fn note_success(
    store: &Keystore,
    credential: &Credential,
    offset: Option<Offset>,
    proxy: Option<Address>,
    seen: &SelfReply,
) -> Result<(), StoreError> {
    store.change_state(&credential.facts, |state| {
        state.proxy = proxy.map(|proxy| proxy.to_string());
        state.clock_offset = offset.map_or(state.clock_offset, Offset::secs);
        state.last_contact = Some(Offset::from_secs(state.clock_offset).gateway_time(clock::now()).secs());
        state.renaming.clone_from(&seen.renaming);
        state.evidence.clone_from(&seen.evidence);
        state.trouble = None;
    })
}

/// Records a failure in `state.json`. Errors of writing are ignored.
pub fn note_trouble(store: &Keystore, credential: &Credential, complaint: &Complaint, locked: bool) {
    let _ = store.change_state(&credential.facts, |state| {
        let now = Offset::from_secs(state.clock_offset).gateway_time(clock::now());
        let before = state.trouble.take();
        state.trouble = Some(Trouble {
            code: complaint.code.clone(),
            what: complaint.what.clone(),
            since: before.as_ref().map_or(now.secs(), |before| before.since),
            failures: before.map_or(0, |before| before.failures).saturating_add(1),
            locked,
        });
    });
}

/// Records the state of `lychgate run` in `state.json`. Errors of writing are ignored.
pub fn note_run(store: &Keystore, credential: &Credential, run: &RunState) {
    let _ = store.change_state(&credential.facts, |state| state.run = Some(run.clone()));
}

/// Renews: takes the folder's lock, makes or finds the next key, sends the request, and installs the certificate. After an error the
/// identity in use is unchanged.
pub async fn renew(store: &Keystore, credential: &Credential) -> Result<Credential, UpkeepError> {
    let _lock = store.lock(LOCK_PATIENCE).await?;
    store.mend()?;
    // Another process may have renewed while we waited for the lock.
    if let Some(current) = store.credential()?.filter(|current| current.serial != credential.serial) {
        return Ok(current);
    }
    let mut face = ManageFace::new(credential).map_err(CallError::Net)?;
    // First of all whether our present key can be used: a TPM that does not have it is asked for no other.
    face.exporter().await?;
    let key = keys::next(store).await?;
    let State { renaming, evidence: takes, clock_offset, .. } = store.state(&credential.facts);
    let name = renaming.filter(|name| pki::Name::parse(name).is_ok());
    let attestation = store.attestation()?;
    // A person is not the machine that they sit at.
    let provers = match credential.identity.role {
        Role::Machine => {
            let ek = attestation.ek.as_ref();
            evidence::of_this_machine(Known { folder: store.dir(), attestation: &attestation, ek })
        }
        Role::Person | Role::Gateway => vec![],
    };
    let domain = &credential.identity.domain;
    let now = Offset::from_secs(clock_offset).gateway_time(clock::now());
    let renewal = Renewal { store, key: &key, name: name.as_deref(), provers: &provers, takes: &takes, domain, now };
    let reply: IssuedReply = match ask(&mut face, renewal).await {
        Ok(reply) => reply,
        Err(UpkeepError::Call(error)) => {
            // The gateway will never accept this key: the next attempt uses another one.
            if matches!(&error, CallError::Refused(refusal) if matches!(refusal.code.as_str(), "bad-csr" | "conflict"))
            {
                keys::fresh(store).await?;
            }
            return Err(error.into());
        }
        Err(other) => return Err(other),
    };
    let (digest, shown, believed) = (key.digest(), face.shown(), credential.expected());
    let heard = Offset::heard(UnixTime::new(reply.time), clock::now(), shown.as_ref());
    let offset = heard.unwrap_or_else(|_| Offset::from_secs(store.state(&credential.facts).clock_offset));
    let now = offset.gateway_time(clock::now());
    let before = credential.known_gateway();
    let expect = Expect { key: &digest, believed: &believed, shown: shown.as_ref(), before: &before, now };
    let issued = accept(&reply, expect)?;
    // The identity must not change, except for a new name that we have accepted.
    let takes = name.is_some_and(|name| issued.identity.name.as_str() == name);
    let (old, new) = (&credential.identity, &issued.identity);
    let same = old.domain == new.domain && old.role == new.role && (old.name == new.name || takes);
    if !same {
        return Err(BadReply::Disagrees("identity").into());
    }
    let renewed = store.install(&issued, &key, &credential.gateway)?;
    save_offset(store, &renewed, offset)?;
    Ok(renewed)
}

/// What a renewal asks for, and what it may prove.
#[derive(Clone, Copy)]
struct Renewal<'a> {
    store: &'a Keystore,
    /// The key to be certified.
    key: &'a PrivateKey,
    /// The new name that the machine accepts.
    name: Option<&'a str>,
    provers: &'a [Box<dyn Prover>],
    /// The kinds of evidence that the gateway accepts.
    takes: &'a [String],
    domain: &'a TrustDomain,
    /// The gateway's time.
    now: UnixTime,
}

/// Sends the renewal with the evidence that this machine has and the gateway accepts, and answers challenges.
async fn ask(face: &mut ManageFace, renewal: Renewal<'_>) -> Result<IssuedReply, UpkeepError> {
    let Renewal { store, key, name, provers, takes, domain, now } = renewal;
    let (digest, csr) = (key.digest(), STANDARD.encode(with_key(key, PrivateKey::csr).await?));
    let mut given_up: Vec<&str> = Vec::new();
    let mut challenge: Option<Challenge> = None;
    for _ in 0..=ROUNDS_MAX {
        let exporter = face.exporter().await?;
        let binding = Binding { exporter: &exporter, new_key: &digest, inside: key.file(), domain, now };
        let asked = challenge.as_ref().map_or(&[][..], |challenge| &challenge.asks);
        let taken = |kind: &str| takes.iter().any(|takes| takes == kind) && !given_up.contains(&kind);
        let gathered = evidence::gather(provers, taken, binding, asked).await?;
        for (kind, why) in &gathered.missing {
            terminal::say(&format!("renewing without the evidence `{kind}`: {why}"));
        }
        let unanswered = gathered.missing.iter().map(|(kind, _)| *kind);
        let unanswered: Vec<&str> = unanswered.filter(|kind| asked.iter().any(|(of, _)| of == kind)).collect();
        if !unanswered.is_empty() {
            // The challenge's ticket is for evidence of that kind too.
            given_up.extend(unanswered);
            challenge = None;
            continue;
        }
        if let Some(ek) = provers.iter().find_map(|prover| prover.shown()) {
            // Before the gateway knows the machine by it.
            store.change_attestation(|attestation| attestation.ek = Some(ek))?;
        }
        let request = RenewRequest {
            csr: csr.clone(),
            name: name.map(str::to_owned),
            evidence: gathered.evidence,
            ticket: challenge.as_ref().map(|challenge| challenge.ticket.clone()),
        };
        match face.renew(&request).await {
            Ok(RenewalReply::Issued(reply)) => return Ok(*reply),
            Ok(RenewalReply::Challenge(asked)) => challenge = Some(asked),
            Err(CallError::Refused(refusal)) => {
                let shown = |kind: &str| request.evidence.iter().any(|piece| piece.kind == kind);
                let without = provers.iter().filter(|prover| prover.renews_without(&refusal.code));
                let Some(kind) = without.map(|prover| prover.kind()).find(|kind| shown(kind)) else {
                    return Err(CallError::Refused(refusal).into());
                };
                terminal::say(&format!("renewing without the evidence `{kind}`: {}", refusal.detail));
                given_up.push(kind);
                challenge = None;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(UpkeepError::Asked)
}

/// Runs the hooks; returns a line for each that failed or was not run.
pub async fn run_hooks(store: &Keystore, credential: &Credential, commands: &[String], event: &str) -> Vec<String> {
    let facts = &credential.facts;
    let occasion = HookContext { event, serial: &facts.serial, identity: &facts.identity };
    hooks::run(store.dir(), commands, &occasion)
        .await
        .into_iter()
        .filter_map(|ran| Some(format!("the hook `{}` failed: {}", ran.name, ran.trouble?)))
        .collect()
}
