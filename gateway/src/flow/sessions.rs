//! What people do with sessions: list, watch and end them. And what a new policy does to open sessions.

use std::{sync::Arc, time::Duration};

use pki::Role;

use super::{
    connect::may_connect,
    page,
    shell::{Actor, Shell},
    subjects::{SubjectRecords, find_subject, may_see, resource},
    views::{Page, SessionDetails, SessionEvent, SessionNews},
};
use crate::{
    core::{
        admission::Caller,
        audit::{AccessEvent, Event},
        change::Changes,
        event_cursor::EventCursor,
        facts::permit,
        look::Look,
        refusal::{Conflict, Fault, Malformed, Missing, Refusal},
        session::EndReason,
    },
    registry::{
        enforcer::Rechecked,
        sessions::{Session, SessionSelector},
    },
};

/// The view of a session.
#[must_use]
pub fn view(session: &Session) -> SessionDetails {
    let about = session.about();
    let (to_machine, from_machine) = session.bytes();
    SessionDetails {
        id: session.id().to_owned(),
        caller: about.caller.identity.to_string(),
        source: about.caller.source.to_string(),
        machine: about.machine.name.to_string(),
        service: about.service.clone(),
        mode: about.mode.as_str(),
        door: about.door.as_str(),
        rules: about.rules.clone(),
        started_ms: about.started_ms,
        ended_ms: session.ended_ms(),
        reason: session.reason().map(|reason| reason.as_str()),
        to_machine,
        from_machine,
        dial_backs: session.dial_backs().try_into().unwrap_or(u32::MAX),
    }
}

/// A filter for sessions.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those to this machine.
    pub machine: Option<String>,
    /// Only those of this person.
    pub person: Option<String>,
    /// Only those to this service.
    pub service: Option<String>,
    /// Only those that this rule allowed.
    pub rule: Option<String>,
}

impl Filter {
    fn wants(&self, session: &Session) -> bool {
        let about = session.about();
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let caller = &about.caller.identity;
        // A machine that reaches another may have the name of a person.
        let person = self.person.is_none() || caller.role == Role::Person;
        is(&self.machine, about.machine.name.as_str())
            && person
            && is(&self.person, caller.name.as_str())
            && is(&self.service, &about.service)
            && self.rule.as_ref().is_none_or(|rule| about.rules.contains(rule))
    }
}

/// Whether the caller may know of a session: their own, those to machines they may read, or all if they may read everything.
fn may_read(shell: &Shell, look: &Look, caller: &Caller, session: &Session) -> Result<bool, Fault> {
    if session.about().caller.identity == caller.identity {
        return Ok(true);
    }
    let machine = machine(look, session)?;
    Ok(machine.is_some_and(|records| may_see(shell, caller, &records)) || may_see_all(shell, caller))
}

fn machine(look: &Look, session: &Session) -> Result<Option<SubjectRecords>, Fault> {
    find_subject(look, Role::Machine, session.about().machine.name.as_str())
}

/// Most sessions checked together.
const AT_ONCE: usize = 256;

/// A position in the listing: start and id of a session. It stays valid after the session has ended.
fn place(session: &Session) -> (u64, &str) {
    (session.about().started_ms, session.id())
}

fn parse_place(text: &str) -> Option<(u64, &str)> {
    let (started, id) = text.split_once('-')?;
    Some((started.parse().ok()?, id))
}

/// Name of the listing, for its encrypted positions.
const LISTING: &str = "sessions";

/// Lists open sessions that the caller may know of, oldest first.
///
/// # Errors
/// [`Refusal::Malformed`] when `after` is not what another page gave; when the store fails.
pub async fn list(
    shell: &Shell,
    caller: &Caller,
    filter: &Filter,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<SessionDetails>, Refusal> {
    let start = page::start(shell, LISTING, after)?;
    let after = start.as_deref().and_then(parse_place);
    let mut found = shell.sessions.find(&SessionSelector::All);
    found.retain(|session| filter.wants(session) && after.is_none_or(|after| place(session) > after));
    found.sort_by(|a, b| place(a).cmp(&place(b)));
    let mut items: Vec<SessionDetails> = Vec::new();
    let mut last = String::new();
    for some in found.chunks(AT_ONCE) {
        let readable = |look: &Look| some.iter().map(|session| may_read(shell, look, caller, session)).collect();
        let readable: Vec<bool> = shell.look::<_, Fault>(readable).await?;
        for (session, _) in some.iter().zip(readable).filter(|(_, readable)| *readable) {
            // One more than is shown shows that there is a next page, which starts after the last one shown.
            if items.len() == limit {
                return Ok(Page { items, next: Some(page::next(shell, LISTING, &last)?) });
            }
            let (started, id) = place(session);
            last = format!("{started}-{id}");
            items.push(view(session));
        }
    }
    Ok(Page { items, next: None })
}

/// One session, open or recently ended.
///
/// # Errors
/// [`Refusal::NotFound`], also when the caller may not know of it.
pub async fn show(shell: &Shell, caller: &Caller, id: &str) -> Result<SessionDetails, Refusal> {
    Ok(view(&*found(shell, caller, id).await?))
}

async fn found(shell: &Shell, caller: &Caller, id: &str) -> Result<Arc<Session>, Refusal> {
    let absent = Refusal::NotFound(Missing::Session);
    let session = shell.sessions.get(id).ok_or_else(|| absent.clone())?;
    let readable = shell.look(|look| may_read(shell, look, caller, &session)).await?;
    if readable { Ok(session) } else { Err(absent) }
}

/// Ends a session: one's own, or one to a machine that the caller may lock.
///
/// # Errors
/// Why not.
pub async fn kill(shell: &Shell, caller: &Caller, id: &str, instance: &str) -> Result<SessionDetails, Refusal> {
    let session = found(shell, caller, id).await?;
    let mut rules = vec![];
    if session.about().caller.identity != caller.identity {
        let resource = match shell.look(|look| machine(look, &session)).await? {
            Some(records) => resource(shell, &records),
            None => policy::Resource::Gateway,
        };
        let grant = permit(&shell.rules.load(), caller, policy::Action::Lock, resource, shell.now())?;
        rules = grant.rules().to_vec();
    }
    let ended = || Refusal::Conflict(Conflict::SessionEnded(id.to_owned()));
    if session.ended_ms().is_some() {
        return Err(ended());
    }
    let mut changes = Changes::new();
    let (machine, service) = (session.about().machine.name.to_string(), session.about().service.clone());
    changes.event(Event::Access(AccessEvent::SessionKilled { session: id.to_owned(), machine, service, rules }));
    let who = caller.identity.to_string();
    shell.commit(changes, &Actor { who: &who, instance }).await.map_err(Refusal::from)?;
    if !session.cut(EndReason::Killed) {
        return Err(ended());
    }
    let _ = tokio::time::timeout(crate::limits::ENFORCE_TIME, session.ended()).await;
    Ok(view(&session))
}

/// Returns the session events after `after` that the caller may see; waits if there are none. A cursor from another process returns
/// everything kept, with `gap`. Without a cursor the watch starts now. The caller cannot tell from cursors or from the time of the
/// answer how many events are hidden.
///
/// # Errors
/// [`Refusal::Malformed`] if `after` is no cursor; when the store fails.
pub async fn events(
    shell: &Shell,
    caller: &Caller,
    after: Option<&str>,
    wait: Duration,
) -> Result<SessionNews, Refusal> {
    let after = after.map(|text| EventCursor::parse(text).ok_or(Malformed::Place)).transpose()?;
    let place = |number| {
        let place = shell.places.hide(number, shell.entropy.bytes());
        (place, EventCursor::OfRun { run: shell.replica.run, place }.to_string())
    };
    let (mut after, gap) = begin(shell, caller, after);
    let end = tokio::time::Instant::now() + wait;
    loop {
        // An answer with a gap is sent at once.
        let over = gap || tokio::time::timeout_at(end, shell.sessions.news(after)).await.is_err();
        let mut items = Vec::new();
        let happened = shell.sessions.since(after);
        for some in happened.chunks(AT_ONCE) {
            let readable = |look: &Look| some.iter().map(|one| may_read(shell, look, caller, &one.session)).collect();
            let readable: Vec<bool> = shell.look::<_, Fault>(readable).await?;
            for (happened, readable) in some.iter().zip(readable) {
                after = happened.number;
                let (number, cursor) = place(happened.number);
                items.extend(readable.then(|| SessionEvent {
                    number,
                    cursor,
                    event: if happened.ended { "closed" } else { "opened" },
                    session: view(&happened.session),
                }));
            }
        }
        if over || !items.is_empty() {
            let (next, cursor) = place(after);
            return Ok(SessionNews { items, next, cursor, gap });
        }
    }
}

/// The number after which the caller's events start, and whether events before it are missing.
fn begin(shell: &Shell, caller: &Caller, after: Option<EventCursor>) -> (u64, bool) {
    let last = shell.sessions.last();
    let known = |place| Some(shell.places.reveal(place)).filter(|number| *number <= last);
    match after {
        None => (last, false),
        // A bare number from another process counts as the end of the list, as in 0.1.0.
        Some(EventCursor::Bare(place)) => (known(place).unwrap_or(last), false),
        Some(EventCursor::OfRun { run, place }) => match known(place).filter(|_| run == shell.replica.run) {
            Some(number) => (number, shell.sessions.has_dropped_since(number) && may_see_all(shell, caller)),
            None => (0, true),
        },
    }
}

/// Whether nothing is hidden from the caller. To others a gap would reveal the number of events that they may not see.
fn may_see_all(shell: &Shell, caller: &Caller) -> bool {
    permit(&shell.rules.load(), caller, policy::Action::Read, policy::Resource::Gateway, shell.now()).is_ok()
}

/// Checks every open session against the policy in force, and ends those that it no longer permits or that cannot be checked because
/// the store fails.
pub async fn recheck(shell: &Shell) -> Rechecked {
    recheck_of(shell, &SessionSelector::All).await
}

/// [`recheck`] for some sessions.
pub(super) async fn recheck_of(shell: &Shell, selector: &SessionSelector) -> Rechecked {
    let mut rechecked = Rechecked::default();
    for some in shell.sessions.find(selector).chunks(AT_ONCE) {
        let asked = |look: &Look| Ok(some.iter().map(|session| allowed(shell, look, session)).collect());
        let answers: Vec<Result<bool, Fault>> = match shell.look::<_, Fault>(asked).await {
            Ok(answers) => answers,
            Err(fault) => some.iter().map(|_| Err(fault.clone())).collect(),
        };
        for (session, answer) in some.iter().zip(answers) {
            match answer {
                Ok(true) => {}
                Ok(false) => rechecked.ended += usize::from(session.cut(EndReason::Policy)),
                Err(Fault::Unavailable { .. }) => rechecked.later += 1,
                Err(fault) => {
                    let cut = usize::from(session.cut(EndReason::Policy));
                    rechecked.unasked.get_or_insert((0, fault)).0 += cut;
                }
            }
        }
    }
    rechecked
}

fn allowed(shell: &Shell, look: &Look, session: &Session) -> Result<bool, Fault> {
    let about = session.about();
    let party = &about.caller;
    let caller = find_subject(look, party.identity.role, party.identity.name.as_str())?;
    let Some(machine) = machine(look, session)? else { return Ok(false) };
    let Some(caller) = caller.and_then(|records| records.into_caller(party.identity.clone(), party.key)) else {
        return Ok(false);
    };
    Ok(may_connect(shell, &caller, &machine, &about.service).is_ok())
}
