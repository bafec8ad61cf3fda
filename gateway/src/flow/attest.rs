//! Evidence, judged: opened, looked up in rounds, held against the locks, and only then believed. Enrolment, renewal and
//! rejoining come through here alike.

use std::{collections::BTreeMap, time::Duration};

use pki::UnixTime;

use super::{
    locks,
    shell::{Actor, Retry, Shell},
};
use crate::{
    attest::{Attestors, Case, Chosen, Renewal},
    core::{
        change::{Changes, Expectation},
        evidence::{self, Challenge, Context, Finding, Found, Judged, Message, Need, Reject, Rejected, Step, Then},
        keys,
        lock::Target,
        proven::ProvenKey,
        records::{Enrollment, Shown, UnixSecs},
        refusal::{Fault, Refusal},
        requester::Requester,
        ticket::{self, Ticket},
    },
    signer::Authority,
};

/// Most rounds of look-ups for one request: what a certificate belongs to takes three.
const ROUNDS_MAX: usize = 4;

/// Most look-ups in a round.
const NEEDS_MAX: usize = 64;

/// Evidence, and what it was sent for.
pub struct EvidenceSubmission<'a> {
    /// Kind and body of each piece.
    pub evidence: &'a [(String, String)],
    /// What it is for.
    pub entrance: Entrance,
    /// What came back of an earlier round.
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

/// Which way to a certificate evidence is shown on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// Joining, or coming back.
    Join,
    /// Renewing.
    Renewal,
}

/// What evidence comes to.
#[derive(Debug)]
pub enum Judgement {
    /// It holds.
    Holds(Box<Judged>),
    /// Somebody asks back. Nothing is written.
    Asks(Challenge),
}

/// A piece on its way.
struct Piece<'a> {
    chosen: Chosen<'a>,
    case: Box<dyn Case>,
    found: Found,
}

/// Judges all evidence: what any of it needs is looked up together, then the locks on what it rests on, then each piece is judged.
///
/// # Errors
/// Why it does not hold.
pub async fn judge(shell: &Shell, asked: &EvidenceSubmission<'_>) -> Result<Judgement, Retry> {
    let (settings, rules, ca) = (shell.settings.load_full(), shell.rules.load_full(), shell.ca());
    let context = context(shell, &ca, &rules);
    let ticket = ticket(&ca, asked, context.now)?;
    if asked.evidence.is_empty() {
        return Ok(Judgement::Holds(Box::new(Judged::nothing())));
    }
    let mut pieces = opened(shell, &settings.attestors, asked, ticket.as_ref(), &context)?;
    look_up(shell, &mut pieces, |piece| &mut piece.found, |piece| piece.case.needs(&piece.found)).await?;
    let rests_on = pieces.iter().map(|piece| piece.case.rests_on(&piece.found, &context));
    let rests_on: Vec<_> = rests_on.collect::<Result<_, Reject>>().map_err(Refusal::from)?;
    let targets: Vec<Target> = rests_on.iter().flat_map(|one| one.targets.clone()).collect();
    let locks = locks::on(shell, targets.clone()).await?;
    for piece in &pieces {
        if let Some(alarm) = piece.case.alarm(&piece.found, &locks, asked.source, &context) {
            return Err(rejected(shell, alarm, asked.instance).await);
        }
    }
    let mut judged = Judged { rests_on: targets.into_iter().collect(), ..Judged::nothing() };
    let (mut claims, mut asks, mut kept) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (piece, rests_on) in pieces.iter().zip(&rests_on) {
        let cleared = rests_on.clear(&locks)?;
        let vouched = match piece.case.step(&piece.found, &context, &cleared) {
            Ok(Step::Done(vouched)) => piece.chosen.named(*vouched),
            Ok(Step::Ask { send, keep }) => {
                let kind = piece.chosen.kind().to_owned();
                if kept.insert(kind.clone(), keep).is_some() {
                    return Err(Refusal::from(Reject::together("two pieces of one kind ask back")).into());
                }
                asks.push((kind, send));
                continue;
            }
            Err(reject) => return Err(rejected(shell, reject, asked.instance).await),
        };
        claims.push(vouched.claims);
        judged.spends.extend(vouched.spends);
        if piece.chosen.renewal() == Renewal::Proves {
            judged.again.push((piece.chosen.kind(), piece.chosen.prefix()));
        }
        let kind = piece.chosen.kind().to_owned();
        judged.shown.push(Shown { kind, at: context.now.into(), reference: vouched.reference });
    }
    judged.claims = evidence::merge(claims).map_err(Refusal::from)?;
    if !asks.is_empty() {
        return Ok(Judgement::Asks(challenge(shell, asked, asks, kept, context.now)?));
    }
    if let Some(ticket) = ticket {
        let spent = keys::ticket(&ticket.id);
        judged.spends.create(spent.clone(), &UnixSecs::from(ticket.ends));
        judged.ticket = Some(spent);
    }
    Ok(Judgement::Holds(Box::new(judged)))
}

/// The ticket that came along, if it holds for this request.
fn ticket(ca: &Authority, asked: &EvidenceSubmission<'_>, now: UnixTime) -> Result<Option<Ticket>, Refusal> {
    let Some(text) = asked.ticket else { return Ok(None) };
    let ticket = ca.ticket_key().open(text)?;
    let kinds: Vec<&str> = asked.evidence.iter().map(|(kind, _)| kind.as_str()).collect();
    ticket.holds(&asked.key.digest(), &kinds, now)?;
    Ok(Some(ticket))
}

/// What the client is sent when somebody asks. It is written nowhere: the ticket holds it.
fn challenge(
    shell: &Shell,
    asked: &EvidenceSubmission<'_>,
    asks: Vec<(String, String)>,
    kept: BTreeMap<String, Vec<u8>>,
    now: UnixTime,
) -> Result<Challenge, Fault> {
    let too_long = asks.iter().any(|(_, send)| send.len() > ticket::ASK_MAX);
    if too_long || kept.values().any(|keep| keep.len() > ticket::KEPT_MAX) {
        return Err(Fault::Record("an attestor asks or keeps more than it may".to_owned()));
    }
    let ends = now.plus(Duration::from_secs(ticket::TICKET_LIFE_SECS));
    let sealed = Ticket { id: shell.entropy.bytes(), for_key: asked.key.digest(), ends, kept };
    let ticket =
        shell.ca().ticket_key().seal(&sealed).ok_or_else(|| Fault::Record("a ticket cannot be sealed".to_owned()))?;
    let kinds: Vec<&str> = asks.iter().map(|(kind, _)| kind.as_str()).collect();
    tracing::info!(instance = asked.instance, key = %asked.key.digest(), kinds = kinds.join(","), "evidence: asked back");
    Ok(Challenge { asks, ticket, ends })
}

/// Whether the evidence of an enrollment still holds: on what conditions, or why not.
///
/// # Errors
/// When the store fails.
pub async fn still(shell: &Shell, enrollment: &Enrollment) -> Result<Result<Vec<Expectation>, Reject>, Fault> {
    let (settings, rules, ca) = (shell.settings.load_full(), shell.rules.load_full(), shell.ca());
    let context = context(shell, &ca, &rules);
    let mut taken = Vec::new();
    for shown in &enrollment.evidence {
        let Some(reference) = &shown.reference else { continue };
        match settings.attestors.by_kind(&shown.kind) {
            Ok(chosen) => taken.push(TakenBefore { chosen, reference, found: Found::default() }),
            Err(reject) => return Ok(Err(reject)),
        }
    }
    look_up(
        shell,
        &mut taken,
        |one| &mut one.found,
        |one| Ok(one.chosen.attestor().still_needs(one.reference, &one.found)),
    )
    .await
    .map_err(|error| match error {
        Refusal::Ours(fault) => fault,
        other => Fault::Record(other.to_string()),
    })?;
    let mut conditions = Changes::new();
    for one in &taken {
        match one.chosen.attestor().still(one.reference, &enrollment.key, &one.found, &context) {
            Ok(changes) => conditions.extend(changes),
            Err(reject) => return Ok(Err(reject)),
        }
    }
    Ok(Ok(conditions.expect))
}

/// Evidence that was taken before.
struct TakenBefore<'a> {
    chosen: Chosen<'a>,
    reference: &'a str,
    found: Found,
}

fn context<'a>(shell: &'a Shell, ca: &'a Authority, rules: &'a policy::Ruleset) -> Context<'a> {
    Context { domain: &shell.domain, anchors: ca.anchors(), token_key: ca.token_key(), rules, now: shell.now() }
}

fn opened<'a>(
    shell: &Shell,
    attestors: &'a Attestors,
    asked: &EvidenceSubmission<'_>,
    ticket: Option<&Ticket>,
    context: &Context<'_>,
) -> Result<Vec<Piece<'a>>, Refusal> {
    let open = |(kind, body): &(String, String)| {
        let chosen = attestors.by_kind(kind)?;
        if asked.entrance == Entrance::Renewal && chosen.renewal() == Renewal::OnlyAdmits {
            return Err(Reject::only_admits(chosen.kind()));
        }
        let kept = ticket.and_then(|ticket| ticket.kept.get(kind)).map(Vec::as_slice);
        let (for_key, exporter, requester) = (asked.key.digest(), asked.key.exporter(), asked.requester);
        let message = Message { body, kept, entropy: shell.entropy.bytes(), for_key, exporter, requester };
        Ok(Piece { chosen, case: chosen.open(&message, context)?, found: Found::default() })
    };
    let pieces: Result<_, Reject> = asked.evidence.iter().map(open).collect();
    Ok(pieces?)
}

/// Meets the needs of all, in rounds: the records of one round are read together.
async fn look_up<T>(
    shell: &Shell,
    all: &mut [T],
    found: impl Fn(&mut T) -> &mut Found,
    needs: impl Fn(&T) -> Result<Vec<Need>, Reject>,
) -> Result<(), Refusal> {
    for _ in 0..ROUNDS_MAX {
        let wanted: Vec<Vec<Need>> = all.iter().map(&needs).collect::<Result<_, Reject>>()?;
        let count: usize = wanted.iter().map(Vec::len).sum();
        if count == 0 {
            return Ok(());
        }
        if count > NEEDS_MAX {
            return Err(Fault::Record(format!("{count} look-ups in a round")).into());
        }
        let records = wanted.iter().flatten().filter_map(|need| match need {
            Need::Record(key) => Some(key.clone()),
            Need::Document(_) => None,
        });
        let mut records = shell.get_bytes(records.collect()).await?.into_iter();
        for (one, needs) in all.iter_mut().zip(&wanted) {
            for need in needs {
                found(one).push(match need {
                    Need::Record(_) => Finding::Record(records.next().flatten()),
                    Need::Document(source) => Finding::Document(shell.documents.get(source).await),
                });
            }
        }
    }
    Err(Fault::Record("evidence that goes on needing".to_owned()).into())
}

/// Carries out what follows from a rejection, and gives the rejection.
async fn rejected(shell: &Shell, rejected: Rejected, instance: &str) -> Retry {
    let Rejected { refusal, then } = rejected;
    let Some(then) = then else { return refusal.into() };
    let Then { changes, forks } = *then;
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
