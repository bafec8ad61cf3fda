//! Reading the audit.

use super::{
    admin::may_read_gateway,
    shell::Shell,
    views::{AuditEntry, Page},
};
use crate::core::{
    admission::Caller,
    audit::{self, AuditRecord},
    keys,
    records::Seen,
    refusal::{Malformed, Refusal},
};

/// A filter for audit events.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only this event, or all whose name starts with it and a dot.
    pub event: Option<String>,
    /// Only events whose subject contains this.
    pub subject: Option<String>,
    /// Only events by actors that contain this.
    pub actor: Option<String>,
    /// Only events at or after this time, seconds since the Unix epoch.
    pub since: Option<u64>,
    /// Only events before this time.
    pub until: Option<u64>,
    /// Only events before this id.
    pub after: Option<String>,
}

/// Most events looked at for one page: a filter that matches nothing must not read the whole record in one request.
const AUDIT_SCAN_MAX: usize = 20_000;

/// Reads the audit, newest first.
///
/// # Errors
/// When the caller may not, or the store fails.
pub async fn audit(
    shell: &Shell,
    caller: &Caller,
    filter: &AuditFilter,
    limit: usize,
) -> Result<Page<AuditEntry>, Refusal> {
    may_read_gateway(shell, caller)?;
    if let Some(event) = filter.event.as_deref().filter(|event| !audit::is_known(event)) {
        let known = audit::like(event).join(", ");
        return Err(Refusal::Malformed(Malformed::Event { name: event.escape_debug().to_string(), known }));
    }
    let mut before = filter.after.as_ref().map(|id| format!("{}{id}", keys::AUDIT));
    if let (None, Some(until)) = (&before, filter.until) {
        before = Some(keys::audit(until.saturating_mul(1000), [0; 6]));
    }
    let mut items = Vec::new();
    let mut looked_at = 0;
    loop {
        let rows: Vec<(String, Seen<AuditRecord>)> = shell.scan_back(keys::AUDIT, before.as_deref(), 500).await?;
        let last = rows.len() < 500;
        looked_at += rows.len();
        for (key, seen) in rows {
            let id = key.trim_start_matches(keys::AUDIT).to_owned();
            if filter.since.is_some_and(|since| seen.record.at_ms < since.saturating_mul(1000)) {
                return Ok(Page { items, next: None });
            }
            if wanted(filter, &seen.record) {
                items.push(audit_view(id.clone(), seen.record));
                if items.len() == limit {
                    return Ok(Page { items, next: Some(id) });
                }
            }
            before = Some(key);
        }
        if last {
            return Ok(Page { items, next: None });
        }
        if looked_at >= AUDIT_SCAN_MAX {
            let next = before.map(|key| key.trim_start_matches(keys::AUDIT).to_owned());
            return Ok(Page { items, next });
        }
    }
}

fn wanted(filter: &AuditFilter, record: &AuditRecord) -> bool {
    let event = filter.event.as_ref().is_none_or(|event| {
        record.event == *event || record.event.strip_prefix(event.as_str()).is_some_and(|rest| rest.starts_with('.'))
    });
    event
        && filter.subject.as_ref().is_none_or(|subject| record.subject.contains(subject.as_str()))
        && filter.actor.as_ref().is_none_or(|actor| record.actor.contains(actor.as_str()))
}

fn audit_view(id: String, record: AuditRecord) -> AuditEntry {
    AuditEntry {
        id,
        at_ms: record.at_ms,
        event: record.event,
        actor: record.actor,
        subject: record.subject,
        rules: record.rules,
        instance: record.instance,
        detail: record.detail,
    }
}
