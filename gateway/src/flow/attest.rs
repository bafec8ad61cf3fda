//! Verification of evidence: parsed, looked up in rounds, checked against the locks, and then verified. Enrolment, renewal and
//! rejoining all use it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use pki::{SshKind, UnixTime};

use super::shell::{Actor, Retry, Settings, Shell};
use crate::{
    attest::{Attestors, Case, Chosen, Renewal},
    core::{
        change::{Changes, Expectation},
        evidence::{
            self, Challenge, Context, Finding, FollowUp, Found, Freshness, Judged, Message, Need, Purpose, Reject,
            Rejected, RestsOn, Step,
        },
        keys, kinds,
        lock::Target,
        look::Look,
        proven::ProvenKey,
        records::{Enrollment, Shown, UnixSecs},
        refusal::{Fault, Refusal},
        requester::Requester,
        ticket::{self, Ticket},
    },
    signer::Authority,
};

/// Most rounds of look-ups for a piece of evidence: a certificate with its lineage takes three.
const STEPS_MAX: usize = 4;

/// Most look-ups for a piece in one round.
const NEEDS_MAX: usize = 64;

/// Evidence and its request.
pub struct EvidenceSubmission<'a> {
    /// Kind and body of each piece.
    pub evidence: &'a [(String, String)],
    /// The purpose of the request.
    pub purpose: Purpose<'a>,
    /// The ticket of an earlier challenge.
    pub ticket: Option<&'a str>,
    /// The key to be certified.
    pub key: &'a ProvenKey,
    /// Who sent it.
    pub requester: &'a Requester,
    /// The network prefix it came from.
    pub source: &'a str,
    /// Correlation id.
    pub instance: &'a str,
}

/// The result of verifying evidence.
#[derive(Debug)]
pub enum Judgement {
    /// It holds.
    Holds(Box<Judged>),
    /// An attestor challenges. Nothing is written.
    Asks(Vec<Question>),
}

/// The challenge of one attestor.
#[derive(Debug)]
pub struct Question {
    kind: String,
    send: String,
    keep: Vec<u8>,
}

/// All evidence of a request, parsed and checked as far as possible without look-ups.
pub struct OpenedEvidence<'a> {
    asked: &'a EvidenceSubmission<'a>,
    context: Context<'a>,
    ticket: Option<Ticket>,
    pieces: Vec<Piece<'a>>,
}

/// A piece of evidence that is being verified.
struct Piece<'a> {
    chosen: Chosen<'a>,
    case: Box<dyn Case>,
}

/// Opens evidence.
///
/// # Errors
/// A piece is malformed.
pub fn open<'a>(
    shell: &'a Shell,
    asked: &'a EvidenceSubmission<'a>,
    in_force: &'a InForce,
) -> Result<OpenedEvidence<'a>, Refusal> {
    let context = in_force.context(shell);
    let ticket = ticket(&in_force.ca, asked, context.now)?;
    let pieces = opened(shell, &in_force.settings.attestors, asked, ticket.as_ref(), &context)?;
    Ok(OpenedEvidence { asked, context, ticket, pieces })
}

/// Settings, policy and authority for one request: a reload meanwhile does not change them.
pub struct InForce {
    /// The settings, and the attestors in them.
    pub settings: Arc<Settings>,
    /// The policy.
    pub rules: Arc<policy::Ruleset>,
    /// The authority.
    pub ca: Arc<Authority>,
}

impl InForce {
    /// What is in force now.
    #[must_use]
    pub fn of(shell: &Shell) -> Self {
        Self { settings: shell.settings.load_full(), rules: shell.rules.load_full(), ca: shell.ca() }
    }

    fn context<'a>(&'a self, shell: &'a Shell) -> Context<'a> {
        let Self { rules, ca, .. } = self;
        Context {
            domain: &shell.domain,
            anchors: ca.anchors(),
            token_key: ca.token_key(),
            host_ca: Some(ca.ssh(SshKind::Host)),
            rules,
            now: shell.now(),
        }
    }
}

impl OpenedEvidence<'_> {
    /// Verifies all pieces: looks up what they need, then checks the locks on what they depend on, then verifies each piece.
    ///
    /// # Errors
    /// The reason for the rejection, and a change that follows from it.
    pub fn judge(&self, look: &Look) -> Result<Judgement, Rejected> {
        if self.pieces.is_empty() {
            return Ok(Judgement::Holds(Box::new(Judged::nothing())));
        }
        let found = self.pieces.iter().map(|piece| found(look, |found| piece.case.needs(found)));
        let found: Vec<Found> = found.collect::<Result<_, Rejected>>()?;
        let cases = || self.pieces.iter().zip(&found);
        let rests_on = cases().map(|(piece, found)| piece.case.rests_on(found, &self.context));
        let rests_on: Vec<RestsOn> = rests_on.collect::<Result<_, Reject>>()?;
        let targets: Vec<Target> = rests_on.iter().flat_map(|one| one.targets.clone()).collect();
        let locks = look.locks(targets)?;
        for (piece, found) in cases() {
            if let Some(alarm) = piece.case.alarm(found, &locks, self.asked.source, &self.context) {
                return Err(alarm);
            }
        }
        let mut judged = Judged::nothing();
        let (mut claims, mut questions) = (Vec::new(), Vec::<Question>::new());
        for ((piece, found), rests_on) in cases().zip(&rests_on) {
            let kind = piece.chosen.kind().to_owned();
            let cleared = rests_on.clear(&locks)?;
            let vouched = match piece.case.step(found, &self.context, &cleared)? {
                Step::Done(vouched) => piece.chosen.named(*vouched),
                Step::Ask { .. } if !piece.chosen.asks() => {
                    return Err(Fault::Record(format!("`{kind}` asks back, and says that it does not")).into());
                }
                Step::Ask { send, keep } => {
                    questions.push(Question { kind, send, keep });
                    continue;
                }
            };
            claims.push(vouched.claims);
            judged.stated.extend(vouched.stated);
            judged.rest_on(cleared);
            judged.spend(vouched.spends);
            judged.differs = judged.differs.take().or(vouched.differs);
            if piece.chosen.renewal() == Renewal::Proves {
                judged.again.push((piece.chosen.kind(), piece.chosen.prefix()));
            }
            judged.shown.push(Shown { kind, at: self.context.now.into(), reference: vouched.reference });
        }
        judged.claims = evidence::merge(claims)?;
        if !questions.is_empty() {
            return Ok(Judgement::Asks(questions));
        }
        if let Some(ticket) = &self.ticket {
            let mut spends = Changes::new();
            spends.create(keys::ticket(&ticket.id), &UnixSecs::from(ticket.ends));
            judged.spend(spends);
        }
        Ok(Judgement::Holds(Box::new(judged)))
    }

    /// Whether the ticket was used before.
    ///
    /// # Errors
    /// When the record of that makes no sense.
    pub fn ticket_spent(&self, look: &Look) -> Result<bool, Fault> {
        match &self.ticket {
            Some(ticket) => Ok(look.get::<UnixSecs>(&keys::ticket(&ticket.id))?.is_some()),
            None => Ok(false),
        }
    }

    /// The challenge for the client.
    ///
    /// # Errors
    /// [`Fault`] if an attestor's challenge is larger than allowed.
    pub fn challenge(&self, shell: &Shell, questions: Vec<Question>) -> Result<Challenge, Fault> {
        challenge(shell, self.asked, questions, self.context.now)
    }
}

/// The results for the needs of one piece, as far as they are known.
fn found<E: From<Fault> + From<Reject>>(
    look: &Look,
    needs: impl Fn(&Found) -> Result<Vec<Need>, Reject>,
) -> Result<Found, E> {
    let mut found = Found::default();
    for _ in 0..STEPS_MAX {
        let needs = needs(&found)?;
        if needs.is_empty() {
            return Ok(found);
        }
        if needs.len() > NEEDS_MAX {
            return Err(Fault::Record(format!("{} look-ups at once", needs.len())).into());
        }
        for need in needs {
            found.push(match need {
                Need::Record(key) => Finding::Record(look.record(&key, kinds::damage)?),
                Need::Document(source) => Finding::Document(look.document(source, Freshness::Kept)),
                Need::Newest(source) => Finding::Document(look.document(source, Freshness::Newest)),
                Need::OfName(source) => Finding::Document(look.document(source, Freshness::OfName)),
            });
        }
    }
    Err(Fault::Record("evidence that goes on needing".to_owned()).into())
}

/// Decrypts the ticket of this request and checks that it is valid for it.
fn ticket(ca: &Authority, asked: &EvidenceSubmission<'_>, now: UnixTime) -> Result<Option<Ticket>, Refusal> {
    let Some(text) = asked.ticket else { return Ok(None) };
    let ticket = ca.ticket_key().open(text)?;
    let kinds: Vec<&str> = asked.evidence.iter().map(|(kind, _)| kind.as_str()).collect();
    ticket.holds(&asked.key.digest(), &kinds, now)?;
    Ok(Some(ticket))
}

/// Makes the challenge for the client. It is not recorded: the ticket contains its state.
fn challenge(
    shell: &Shell,
    asked: &EvidenceSubmission<'_>,
    questions: Vec<Question>,
    now: UnixTime,
) -> Result<Challenge, Fault> {
    let much = |question: &Question| question.send.len() > ticket::ASK_MAX || question.keep.len() > ticket::KEPT_MAX;
    if questions.iter().any(much) {
        return Err(Fault::Record("an attestor asks or keeps more than it may".to_owned()));
    }
    let ends = now.plus(Duration::from_secs(ticket::TICKET_LIFE_SECS));
    let (mut asks, mut kept) = (Vec::new(), BTreeMap::new());
    for Question { kind, send, keep } in questions {
        asks.push((kind.clone(), send));
        kept.insert(kind, keep);
    }
    let sealed = Ticket { id: shell.entropy.bytes(), for_key: asked.key.digest(), ends, kept };
    let ticket =
        shell.ca().ticket_key().seal(&sealed).ok_or_else(|| Fault::Record("a ticket cannot be sealed".to_owned()))?;
    let kinds: Vec<&str> = asks.iter().map(|(kind, _)| kind.as_str()).collect();
    tracing::info!(instance = asked.instance, key = %asked.key.digest(), kinds = kinds.join(","), "evidence: asked back");
    Ok(Challenge { asks, ticket, ends })
}

/// Checks the evidence of an enrollment again. Returns the conditions for the commit, or the reason why the evidence has become
/// invalid.
///
/// # Errors
/// [`Fault::Record`] when what it needs makes no sense.
pub fn recheck(
    shell: &Shell,
    in_force: &InForce,
    look: &Look,
    enrollment: &Enrollment,
) -> Result<Result<Vec<Expectation>, Refusal>, Fault> {
    let context = in_force.context(shell);
    let mut conditions = Changes::new();
    for shown in &enrollment.evidence {
        let Some(reference) = &shown.reference else { continue };
        let chosen = match in_force.settings.attestors.by_kind(&shown.kind) {
            Ok(chosen) => chosen,
            Err(reject) => return Ok(Err(reject.into())),
        };
        let attestor = chosen.attestor();
        let found = found(look, |found| Ok(attestor.recheck_needs(reference, found)));
        let found = found.map_err(|Rejected { refusal, .. }| match refusal {
            Refusal::Ours(fault) => fault,
            other => Fault::Record(other.to_string()),
        })?;
        match attestor.recheck(reference, &enrollment.key, &found, &context) {
            Ok(changes) => conditions.extend(changes),
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
    Ok(Ok(conditions.expect))
}

fn opened<'a>(
    shell: &Shell,
    attestors: &'a Attestors,
    asked: &EvidenceSubmission<'_>,
    ticket: Option<&Ticket>,
    context: &Context<'_>,
) -> Result<Vec<Piece<'a>>, Refusal> {
    one_of_each_that_asks(attestors, asked.evidence)?;
    let open = |(kind, body): &(String, String)| {
        let chosen = attestors.by_kind(kind)?;
        if matches!(asked.purpose, Purpose::Renewal { .. }) && chosen.renewal() == Renewal::OnlyAdmits {
            return Err(Reject::only_admits(chosen.kind()));
        }
        let kept = ticket.and_then(|ticket| ticket.kept.get(kind)).map(Vec::as_slice);
        let (for_key, exporter, entropy) = (asked.key.digest(), asked.key.exporter(), shell.entropy.bytes());
        let (requester, purpose) = (asked.requester, asked.purpose);
        let message = Message { body, kept, entropy, for_key, exporter, requester, purpose };
        Ok(Piece { chosen, case: chosen.open(&message, context)? })
    };
    let pieces: Result<_, Reject> = asked.evidence.iter().map(open).collect();
    Ok(pieces?)
}

/// Refuses a second piece of a kind that may ask back, before anything is done for the first.
fn one_of_each_that_asks(attestors: &Attestors, evidence: &[(String, String)]) -> Result<(), Reject> {
    let mut asking = BTreeSet::new();
    for (kind, _) in evidence {
        if attestors.by_kind(kind).is_ok_and(|chosen| chosen.asks()) && !asking.insert(kind) {
            return Err(Reject::together("there are two of a kind that asks back, and one is answered"));
        }
    }
    Ok(())
}

/// Commits the change that follows from a rejection, and returns the rejection.
pub async fn rejected(shell: &Shell, rejected: Rejected, instance: &str) -> Retry {
    let Rejected { refusal, follow_up } = rejected;
    let Some(follow_up) = follow_up else { return refusal.into() };
    let FollowUp { changes, forks } = *follow_up;
    let version = match shell.commit(changes, &Actor { who: "gateway", instance }).await {
        Ok(version) => version,
        Err(retry) => return retry,
    };
    if forks {
        shell.metrics.lock("forked");
        shell.enforcer.passed(version).await;
    }
    refusal.into()
}
