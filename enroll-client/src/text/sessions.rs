//! Output of `sessions`.

use pki::UnixTime;
use wire::admin::{SessionEventView, SessionView};

use super::cells::{from_now, short, sorted, time};
use crate::text::table::{Table, detail, key, prose};
use crate::text::{fields, safe};

/// A number of bytes with about three digits and a unit.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut left, mut unit) = (bytes, 0);
    while left >= 10_240 && unit + 1 < UNITS.len() {
        left /= 1024;
        unit += 1;
    }
    format!("{left} {}", UNITS[unit])
}

/// `sessions list`, the oldest first.
#[must_use]
pub fn sessions(rows: &[SessionView], now: UnixTime) -> Table {
    let columns = [
        key("SESSION"),
        key("WHO"),
        key("SERVICE"),
        detail("MODE"),
        key("SINCE"),
        detail("SENT"),
        detail("RECEIVED"),
        detail("FROM"),
        prose("RULES"),
    ];
    Table::new(
        "no session is open",
        &columns,
        sorted(rows, |a, b| (a.started_ms, &a.id).cmp(&(b.started_ms, &b.id))),
        |row| {
            vec![
                row.id.clone(),
                short(&row.caller),
                format!("{}@{}", row.service, row.machine),
                row.mode.clone(),
                from_now(row.started_ms / 1000, now),
                size(row.to_machine),
                size(row.from_machine),
                row.source.clone(),
                row.rules.join(" "),
            ]
        },
    )
}

/// `sessions show`.
#[must_use]
pub fn session(row: &SessionView) -> String {
    let carried = match row.mode.as_str() {
        "sealed" => "sealed: TLS between the two ends, unreadable for the gateway",
        _ => "raw: the service's own bytes",
    };
    let own = match row.dial_backs {
        0 => "",
        1 => "; much, by a connection of its own at one end",
        _ => "; much, by connections of its own at both ends",
    };
    let mut pairs = vec![
        ("session", row.id.clone()),
        ("who", row.caller.clone()),
        ("from", format!("{} ({})", row.source, row.door)),
        ("machine", row.machine.clone()),
        ("service", row.service.clone()),
        ("carried", format!("{carried}{own}")),
        ("rules", row.rules.join(" ")),
        ("began", time(Some(row.started_ms / 1000))),
    ];
    match (&row.reason, row.ended_ms) {
        (Some(reason), Some(ended)) => pairs.push(("ended", format!("{} ({reason})", time(Some(ended / 1000))))),
        (Some(reason), None) => pairs.push(("ending", reason.clone())),
        (None, _) => pairs.push(("ended", "no, it is open".to_owned())),
    }
    pairs.push(("bytes", format!("{} to the machine, {} from it", row.to_machine, row.from_machine)));
    fields("", &pairs)
}

/// `sessions watch`, one line.
#[must_use]
pub fn session_event(event: &SessionEventView) -> String {
    let row = &event.session;
    let end = match (event.event.as_str(), &row.reason) {
        ("closed", Some(reason)) => {
            format!(": {reason}, {} to the machine, {} from it", size(row.to_machine), size(row.from_machine))
        }
        _ => String::new(),
    };
    let at = if event.event == "closed" { row.ended_ms.unwrap_or(row.started_ms) } else { row.started_ms };
    let (who, machine, service) = (short(&row.caller), &row.machine, &row.service);
    let at = UnixTime::new(at / 1000);
    format!(
        "{at} {} {} {} -> {}@{}{}",
        safe(&event.event),
        safe(&row.id),
        safe(&who),
        safe(service),
        safe(machine),
        safe(&end)
    )
}
