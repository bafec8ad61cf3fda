//! Compares the clock with the time that the gateway counted itself, before housekeeping deletes anything because of its age.

use std::sync::PoisonError;

use super::{
    lead,
    shell::{Actor, Retry, Shell},
};
use crate::{
    core::{
        audit::{AuditRecord, Event, Upkeep},
        change::Changes,
        keys,
        records::{Seen, UnixSecs},
        refusal::{Fault, Refusal},
        timekeeping::{ClockNote, ClockReading, CountedTime, Deletes, Doubt},
    },
    limits::CLOCK_REMINDER,
};

const ACTOR: Actor<'_> = Actor { who: "gateway", instance: "clock" };

/// What housekeeping may delete at this time.
///
/// # Errors
/// When the store fails; then nothing may be deleted.
pub async fn look(shell: &Shell) -> Result<Deletes, Refusal> {
    let stored = stored(shell).await?;
    let now = reading(shell);
    let before = shell.counted();
    let begin = match (before, &stored) {
        (Some(counted), _) => counted,
        (None, Some(seen)) => CountedTime::resumed(&seen.record, now),
        (None, None) => first(shell, now).await?,
    };
    let judged = begin.judge(now);
    let event = match (stored.as_ref().and_then(|seen| seen.record.doubt), judged.doubt) {
        (None, Some(doubt)) => Some(Upkeep::ClockDoubted { why: doubt.off.to_string() }),
        (Some(_), None) => Some(Upkeep::ClockBelieved { why: "the clock is right again".to_owned() }),
        (None, None) | (Some(_), Some(_)) => None,
    };
    say(before.and_then(|counted| counted.doubt), judged);
    settle(shell, judged, stored.as_ref(), event).await?;
    Ok(judged.deletes())
}

/// Accepts the clock as it is, because an operator says that it is right.
///
/// # Errors
/// When the store fails.
pub async fn accept(shell: &Shell) -> Result<(), Refusal> {
    let stored = stored(shell).await?;
    let judged = CountedTime::believing(reading(shell));
    let event = Upkeep::ClockBelieved { why: "an operator says that the clock is right".to_owned() };
    tracing::info!("the clock is trusted again: an operator has accepted it");
    settle(shell, judged, stored.as_ref(), Some(event)).await
}

/// The reason why the clock is doubted, if it is.
#[must_use]
pub fn doubt(shell: &Shell) -> Option<Doubt> {
    shell.counted()?.doubt
}

fn reading(shell: &Shell) -> ClockReading {
    ClockReading { wall: shell.now().secs(), uptime: shell.clock.uptime() }
}

async fn stored(shell: &Shell) -> Result<Option<Seen<ClockNote>>, Refusal> {
    match shell.get(keys::CLOCK.to_owned()).await {
        // It is replaced below.
        Err(Fault::Record(_)) => Ok(None),
        other => Ok(other?),
    }
}

/// Without a note the newest event shows the latest known time. A new store has none, and accepts its clock.
async fn first(shell: &Shell, now: ClockReading) -> Result<CountedTime, Refusal> {
    let newest: Vec<(String, Seen<AuditRecord>)> = shell.scan_back(keys::AUDIT, None, 1).await?;
    let at = newest.first().map(|(_, seen)| UnixSecs(seen.record.at_ms / 1000));
    Ok(at.map_or(CountedTime::believing(now), |at| CountedTime::resumed(&ClockNote { at, doubt: None }, now)))
}

/// Keeps the result, in memory and in the store. On a conflict another round has written the same result before.
async fn settle(
    shell: &Shell,
    judged: CountedTime,
    stored: Option<&Seen<ClockNote>>,
    event: Option<Upkeep>,
) -> Result<(), Refusal> {
    *shell.counted.lock().unwrap_or_else(PoisonError::into_inner) = Some(judged);
    shell.metrics.clock(judged.doubt);
    let Some(note) = judged.note(stored.map(|seen| &seen.record)) else { return Ok(()) };
    // Only the leader writes the note; otherwise two gateways would overwrite each other's for ever.
    let Some(lead) = lead::lead(shell).await? else { return Ok(()) };
    let mut changes = Changes::new();
    lead.guards(&mut changes);
    changes.put(keys::CLOCK.to_owned(), &note);
    event.into_iter().for_each(|event| changes.event(Event::Upkeep(event)));
    match shell.commit(changes, &ACTOR).await {
        Ok(_) | Err(Retry::Conflict) => Ok(()),
        Err(Retry::Refused(refusal)) => Err(refusal),
    }
}

/// Logs a doubt when it begins, once an hour while it lasts, and when it ends.
fn say(before: Option<Doubt>, judged: CountedTime) {
    match (before, judged.doubt) {
        (before, Some(doubt)) => {
            let lasted = judged.expected.saturating_sub(doubt.since);
            let hour = CLOCK_REMINDER.as_secs();
            if before.is_none() || lasted >= hour && lasted % hour < crate::limits::SWEEP.as_secs() {
                tracing::error!(
                    clock = %doubt.off,
                    "the clock cannot be right: nothing is deleted by it; set it right, or if it is, run \
                     `lychgate-gateway clock accept`"
                );
            }
        }
        (Some(_), None) => tracing::warn!("the clock is right again: housekeeping continues"),
        (None, None) => {}
    }
}
