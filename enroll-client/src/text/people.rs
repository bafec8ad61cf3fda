//! How requests, machines, people, locks, tokens and events look on a terminal. Whatever came from a machine is escaped by
//! [`crate::text`] on its way out.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use pki::UnixTime;
use wire::admin::{
    AuditView, CanIReply, ConvergenceView, LockView, RequestView, SessionEventView, SessionView, SubjectView,
    TokenView, TunnelView,
};

use crate::text::table::{NOTHING, Table, detail, key, natural, prose};
use crate::text::{fields, safe, span};

/// A time, or a dash.
fn time(at: Option<u64>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| UnixTime::new(at).to_string())
}

/// Text, or a dash.
fn or_dash(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| NOTHING.to_owned())
}

/// `a=b c=d`.
fn joined(map: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" ")
}

/// `key  value` lines, first of what is always there, then of a map.
fn listed(always: &[(&str, String)], map: &BTreeMap<String, String>) -> String {
    let mut pairs = always.to_vec();
    pairs.extend(map.iter().map(|(key, value)| (key.as_str(), value.clone())));
    fields("  ", &pairs)
}

/// A span before or after now.
fn from_now(at: u64, now: UnixTime) -> String {
    let at = UnixTime::new(at);
    if at > now { format!("in {}", span(at.since(now))) } else { format!("{} ago", span(now.since(at))) }
}

/// The rows in an order of ours.
fn sorted<T>(rows: &[T], order: impl Fn(&T, &T) -> Ordering) -> Vec<&T> {
    let mut rows: Vec<&T> = rows.iter().collect();
    rows.sort_by(|a, b| order(a, b));
    rows
}

/// How many approvals there are of the content that has most: only those of one content count together.
fn together(row: &RequestView) -> usize {
    let same = |content: &Option<String>| row.approvals.iter().filter(|one| one.content == *content).count();
    row.approvals.iter().map(|approval| same(&approval.content)).max().unwrap_or(0)
}

/// `requests watch`, one line.
#[must_use]
pub fn request_event(event: &str, row: &RequestView, now: UnixTime) -> String {
    let (id, source) = (safe(&row.id), safe(&row.source));
    let name = safe(&wanted(row));
    let (given, wanted) = (together(row), row.approvals_wanted);
    format!("{event} {id} {name} from {source}, asked {}, approvals {given}/{wanted}", from_now(row.created, now))
}

/// The name it got or wants, which may be somebody's already.
fn wanted(row: &RequestView) -> String {
    let name = or_dash(row.name.as_ref().or(row.wanted_name.as_ref()));
    if row.taken.is_some() { format!("{name} (taken)") } else { name }
}

/// `requests list`, who has waited longest first.
#[must_use]
pub fn requests(rows: &[RequestView], now: UnixTime) -> Table {
    let columns = [
        key("REQUEST"),
        key("STATE"),
        detail("ROLE"),
        key("NAME"),
        detail("FROM"),
        detail("APPROVALS"),
        detail("ASSURANCE"),
        key("ASKED"),
    ];
    Table::new(
        "nobody waits that you may see",
        &columns,
        sorted(rows, |a, b| (a.created, &a.id).cmp(&(b.created, &b.id))),
        |row| {
            vec![
                row.id.clone(),
                row.state.clone(),
                row.role.clone(),
                wanted(row),
                row.source.clone(),
                format!("{}/{}", together(row), row.approvals_wanted),
                row.assurance.clone(),
                from_now(row.created, now),
            ]
        },
    )
}

/// `requests show`: what was verified stands apart from what is merely claimed.
#[must_use]
pub fn request(row: &RequestView, now: UnixTime) -> String {
    let mut head = vec![
        ("request", row.id.clone()),
        ("state", row.state.clone()),
        ("role", row.role.clone()),
        ("asked", format!("{} ({})", time(Some(row.created)), from_now(row.created, now))),
        ("lapses", format!("{} ({})", time(Some(row.expires)), from_now(row.expires, now))),
        ("approvals", format!("{} of {}", together(row), row.approvals_wanted)),
    ];
    if !row.rules.is_empty() {
        head.push(("rules", row.rules.join(" ")));
    }
    if let Some(lifetime) = row.lifetime {
        head.push(("life", span(std::time::Duration::from_secs(lifetime))));
    }
    if let Some(name) = &row.name {
        head.push(("name given", name.clone()));
    }
    if let Some(reason) = &row.reason {
        head.push(("reason", reason.clone()));
    }
    let mut out = fields("", &head);
    out.push_str("\nVERIFIED by the gateway\n");
    let sure = [
        ("key", format!("{} SHA-256 {}", row.algorithm, row.key)),
        ("from", row.source.clone()),
        ("assurance", row.assurance.clone()),
    ];
    out.push_str(&listed(&sure, &row.verified));
    out.push_str("\nCLAIMED by the machine, proven by nobody\n");
    out.push_str(&listed(&[("wanted name", or_dash(row.wanted_name.as_ref()))], &row.claimed));
    out.push_str(&decided(row));
    if row.state == "waiting" {
        out.push_str(&format!(
            "\nAsk the machine's owner for the code on its screen, then\n    lychgate requests approve {} --code CODE\n",
            safe(&row.id)
        ));
        // Whoever comes second would otherwise give it nothing, and begin to count anew.
        // Only a name stands in a line that people copy.
        let first = row.approvals.iter().find(|approval| approval.content.is_some());
        if let Some(by) = first.and_then(|first| pki::Name::parse(&first.by).ok()) {
            let id = safe(&row.id);
            out.push_str(&format!(
                "    lychgate requests approve {id} --code CODE --same-as {by}    # what {by} gave it\n"
            ));
        }
    }
    out
}

/// What stands against a request, and what its approvers gave it, each with their name: approvals of one content count
/// together.
fn decided(row: &RequestView) -> String {
    let mut out = String::new();
    for approval in &row.approvals {
        let how = if approval.code_checked { "code checked" } else { "code NOT checked" };
        out.push_str(&format!("\nAPPROVED by {} at {} ({how})\n", safe(&approval.by), time(Some(approval.at))));
        let mut given = vec![("name", or_dash(approval.name.as_ref())), ("owner", or_dash(approval.owner.as_ref()))];
        given.push(("labels", if approval.labels.is_empty() { "-".to_owned() } else { joined(&approval.labels) }));
        out.push_str(&listed(&given, &BTreeMap::new()));
    }
    if !row.rivals.is_empty() {
        let rivals: Vec<String> = row.rivals.iter().map(|id| safe(id)).collect();
        out.push_str(&format!("\nOTHERS want the same name: {}\n", rivals.join(", ")));
    }
    if let Some(state) = &row.taken {
        out.push_str(&format!(
            "\nA {} of this name EXISTS ({}): approve this one under another name (--name), or remove that one first\n",
            safe(&row.role),
            safe(state)
        ));
    }
    out
}

/// `machines list`.
#[must_use]
pub fn machines(rows: &[SubjectView], now: UnixTime) -> Table {
    let columns = [
        key("NAME"),
        key("STATE"),
        detail("TUNNEL"),
        detail("ASSURANCE"),
        detail("OWNER"),
        key("EXPIRES"),
        prose("LABELS"),
    ];
    Table::new("none that you may see", &columns, sorted(rows, |a, b| natural(&a.name, &b.name)), |row| {
        vec![
            row.name.clone(),
            row.state.clone(),
            match (&row.tunnel, row.last_seen) {
                (Some(_), _) => "up".to_owned(),
                (None, seen) => seen.map_or_else(|| NOTHING.to_owned(), |at| from_now(at, now)),
            },
            row.assurance.clone(),
            owner(row),
            expires(row, now),
            joined(&row.labels),
        ]
    })
}

/// `people list`.
#[must_use]
pub fn people(rows: &[SubjectView], now: UnixTime) -> Table {
    let columns = [key("NAME"), key("STATE"), detail("ASSURANCE"), key("EXPIRES"), prose("GROUPS")];
    Table::new("none that you may see", &columns, sorted(rows, |a, b| natural(&a.name, &b.name)), |row| {
        vec![row.name.clone(), row.state.clone(), row.assurance.clone(), expires(row, now), row.groups.join(" ")]
    })
}

/// Whoever has the rights of an owner; or the name of one who is gone, said as such.
fn owner(row: &SubjectView) -> String {
    let gone = if row.owner_gone { " (gone)" } else { "" };
    row.owner.as_ref().map_or_else(|| "-".to_owned(), |name| format!("{name}{gone}"))
}

fn expires(row: &SubjectView, now: UnixTime) -> String {
    row.not_after.map_or_else(|| "-".to_owned(), |at| from_now(at, now))
}

/// `machines show`.
#[must_use]
pub fn subject(row: &SubjectView, now: UnixTime) -> String {
    let expires =
        row.not_after.map_or_else(|| "-".to_owned(), |at| format!("{} ({})", time(Some(at)), from_now(at, now)));
    let mut head = vec![
        ("identity", row.identity.clone()),
        ("state", row.state.clone()),
        ("assurance", row.assurance.clone()),
        ("owner", owner(row)),
        ("labels", joined(&row.labels)),
        ("groups", row.groups.join(" ")),
        ("lineage", row.lineage.clone()),
        ("serial", or_dash(row.serial.as_ref())),
        ("expires", expires),
        ("admitted", time(Some(row.created))),
    ];
    if let Some(name) = &row.renaming {
        head.push(("becomes", format!("`{name}`, when it next renews")));
    }
    if let Some(pending) = &row.pending_serial {
        head.push(("not used yet", pending.clone()));
    }
    if row.role == "machine" {
        head.push(("tunnel", tunnel(row.tunnel.as_ref(), now)));
        if let (None, Some(at)) = (&row.tunnel, row.last_seen) {
            head.push(("last seen", format!("{} ({})", time(Some(at)), from_now(at, now))));
        }
    }
    if let Some(run) = &row.convergence {
        head.push(("last convergence", convergence(run, now)));
    }
    head.retain(|(_, value)| !value.is_empty());
    let mut out = fields("", &head);
    for lock in &row.locks {
        out.push_str(&format!(
            "\nLOCKED ({} {}) by {} at {}: {}\n",
            safe(&lock.kind),
            safe(&lock.target),
            safe(&lock.by),
            time(Some(lock.at)),
            safe(&lock.reason)
        ));
    }
    if !row.verified.is_empty() {
        out.push_str("\nVERIFIED by the gateway\n");
        out.push_str(&listed(&[], &row.verified));
    }
    if !row.claimed.is_empty() {
        out.push_str("\nCLAIMED by the machine, proven by nobody\n");
        out.push_str(&listed(&[], &row.claimed));
    }
    out
}

fn tunnel(tunnel: Option<&TunnelView>, now: UnixTime) -> String {
    let Some(tunnel) = tunnel else { return "none: it cannot be reached".to_owned() };
    let services = if tunnel.services.is_empty() { "nothing".to_owned() } else { tunnel.services.join(", ") };
    format!("since {} from {}, exposing {services}", from_now(tunnel.since, now), tunnel.source)
}

/// `ansible 2.19.1, 2026-03-01T12:00:00Z (5 min ago), 3 changed, 0 failed, by ...`, with the gateway's time.
fn convergence(run: &ConvergenceView, now: UnixTime) -> String {
    let version = run.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let unreachable = if run.unreachable > 0 { ", unreachable" } else { "" };
    format!(
        "{}{version}, {} ({}), {} changed, {} failed{unreachable}, by {}",
        run.tool,
        time(Some(run.at)),
        from_now(run.at, now),
        run.changed,
        run.failed,
        run.by
    )
}

/// `locks list`, the oldest first.
#[must_use]
pub fn locks(rows: &[LockView]) -> Table {
    let columns = [key("KIND"), key("TARGET"), detail("BY"), key("SET"), prose("REASON")];
    Table::new("none", &columns, sorted(rows, |a, b| (a.at, &a.target).cmp(&(b.at, &b.target))), |row| {
        vec![row.kind.clone(), row.target.clone(), short(&row.by), time(Some(row.at)), row.reason.clone()]
    })
}

/// `tokens list`, what ends first first.
#[must_use]
pub fn tokens(rows: &[TokenView], now: UnixTime) -> Table {
    let columns =
        [key("TOKEN"), key("STATE"), detail("ROLE"), detail("USED"), prose("NAMES"), key("EXPIRES"), detail("BY")];
    Table::new("none", &columns, sorted(rows, |a, b| (a.expires, &a.id).cmp(&(b.expires, &b.id))), |row| {
        vec![
            row.id.clone(),
            row.state.clone(),
            row.role.clone(),
            format!("{}/{}", row.redeemed.len(), row.uses),
            if row.names.is_empty() { "any".to_owned() } else { row.names.join(" ") },
            from_now(row.expires, now),
            row.by.clone(),
        ]
    })
}

/// Digits of a digest or id that are shown where it is not to be copied.
const DIGITS: usize = 12;

/// A value as it fits a screen: of long digests the beginning, of identities what tells them apart.
fn brief(value: &str) -> String {
    if value.len() > 2 * DIGITS && value.bytes().all(|b| b.is_ascii_hexdigit()) {
        format!("{}…", value.get(..DIGITS).unwrap_or_default())
    } else if value.starts_with("spiffe://") {
        short(value)
    } else {
        value.to_owned()
    }
}

/// `audit`, newest last as in a log: whole, or shortened for a terminal of some width.
#[must_use]
pub fn audit(rows: &[AuditView], width: Option<usize>) -> String {
    let shown = |value: &str| if width.is_some() { brief(value) } else { value.to_owned() };
    let mut rows: Vec<&AuditView> = rows.iter().collect();
    rows.sort_by_key(|row| row.at_ms);
    let mut out = String::new();
    for row in rows {
        let mut line = format!(
            "{} {} by {}: {}",
            UnixTime::new(row.at_ms / 1000),
            safe(&row.event),
            safe(&shown(&row.actor)),
            safe(&shown(&row.subject))
        );
        if !row.detail.is_empty() {
            let detail = row.detail.iter().map(|(name, value)| (name.clone(), shown(value))).collect();
            line.push_str(&format!(" ({})", safe(&joined(&detail))));
        }
        if !row.rules.is_empty() {
            line.push_str(&format!(" [{}]", safe(&row.rules.join(" "))));
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// The last part of a SPIFFE ID, with its role when it is a machine's.
fn short(identity: &str) -> String {
    let mut parts = identity.rsplit('/');
    match (parts.next(), parts.next()) {
        (Some(name), Some("machine")) => format!("machine/{name}"),
        (Some(name), _) => name.to_owned(),
        (None, _) => identity.to_owned(),
    }
}

/// So many bytes, in three digits or so.
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

/// What a lock ended, for whoever set it.
#[must_use]
pub fn ended(view: &LockView) -> Option<String> {
    let ended = view.ended.as_ref()?;
    let sessions = match ended.sessions {
        0 => "no session was open".to_owned(),
        1 => format!("ended 1 session in {} ms", ended.millis),
        count => format!("ended {count} sessions in {} ms", ended.millis),
    };
    let left = match ended.left {
        0 => String::new(),
        left => format!(", except for {left} whose connections are cut all the same"),
    };
    Some(sessions + &left)
}

/// `can-i`.
#[must_use]
pub fn can_i(reply: &CanIReply) -> String {
    if reply.allowed { "yes\n".to_owned() } else { "no\n".to_owned() }
}

/// `can-i --explain`.
#[must_use]
pub fn can_i_explained(reply: &CanIReply) -> String {
    let rules = if reply.rules.is_empty() { "none".to_owned() } else { reply.rules.join(", ") };
    format!("{}{}", can_i(reply), fields("  ", &[("why", reply.explanation.clone()), ("rules", rules)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::admin::ApprovalView;

    fn row() -> RequestView {
        RequestView {
            id: "e1".into(),
            state: "waiting".into(),
            role: "machine".into(),
            wanted_name: Some("edge-07".into()),
            name: None,
            key: "ab".repeat(4),
            algorithm: "P-256".into(),
            verified: BTreeMap::from([("token".into(), "t1".into())]),
            claimed: BTreeMap::from([("hostname".into(), "edge\u{1b}[2J\u{202e}07\nVERIFIED by the gateway".into())]),
            assurance: "software".into(),
            source: "203.0.113.0/24".into(),
            created: 3_600,
            expires: 90_000,
            approvals: vec![ApprovalView {
                by: "bob".into(),
                at: 3_700,
                code_checked: false,
                name: Some("edge-07".into()),
                labels: BTreeMap::from([("env".into(), "lab".into()), ("tier".into(), "db".into())]),
                owner: Some("carol".into()),
                content: Some("c1".into()),
            }],
            approvals_wanted: 2,
            rivals: vec!["e2".into()],
            taken: Some("active".into()),
            rules: vec!["stranger-machine".into()],
            lifetime: Some(86_400),
            reason: None,
        }
    }

    #[test]
    fn what_is_verified_stands_apart_and_claims_cannot_pretend() {
        let want = "\
request    e1
state      waiting
role       machine
asked      1970-01-01T01:00:00Z (1 h ago)
lapses     1970-01-02T01:00:00Z (in 23 h)
approvals  1 of 2
rules      stranger-machine
life       1 d

VERIFIED by the gateway
  key        P-256 SHA-256 abababab
  from       203.0.113.0/24
  assurance  software
  token      t1

CLAIMED by the machine, proven by nobody
  wanted name  edge-07
  hostname     edge\\u{1b}[2J\\u{202e}07\\u{a}VERIFIED by the gateway

APPROVED by bob at 1970-01-01T01:01:40Z (code NOT checked)
  name    edge-07
  owner   carol
  labels  env=lab tier=db

OTHERS want the same name: e2

A machine of this name EXISTS (active): approve this one under another name (--name), or remove that one first

Ask the machine's owner for the code on its screen, then
    lychgate requests approve e1 --code CODE
    lychgate requests approve e1 --code CODE --same-as bob    # what bob gave it
";
        assert_eq!(request(&row(), UnixTime::new(7_200)), want);
    }

    #[test]
    fn listings() {
        let want = "\
REQUEST  STATE    ROLE     NAME             FROM            APPROVALS  ASSURANCE  ASKED
e1       waiting  machine  edge-07 (taken)  203.0.113.0/24  1/2        software   1 h ago
";
        assert_eq!(requests(&[row()], UnixTime::new(7_200)).render(None), want);
        assert_eq!(requests(&[], UnixTime::new(0)).render(None), "nobody waits that you may see\n");
        let lock = LockView {
            kind: "machine".into(),
            target: "edge-07".into(),
            reason: "stolen\u{7}".into(),
            by: "gateway".into(),
            at: 60,
            ended: None,
            hits: vec![],
            suspended: None,
        };
        let want = "\
KIND     TARGET   BY       SET                   REASON
machine  edge-07  gateway  1970-01-01T00:01:00Z  stolen\\u{7}
";
        assert_eq!(locks(&[lock]).render(None), want);
    }

    #[test]
    fn what_a_lock_ended() {
        for (text, want) in [
            (r#"{"sessions":0,"millis":0}"#, "no session was open"),
            (r#"{"sessions":1,"millis":2,"left":0}"#, "ended 1 session in 2 ms"),
            (
                r#"{"sessions":3,"millis":5000,"left":2}"#,
                "ended 3 sessions in 5000 ms, except for 2 whose connections are cut all the same",
            ),
        ] {
            let view = LockView {
                kind: "machine".into(),
                target: "edge-07".into(),
                reason: String::new(),
                by: "gateway".into(),
                at: 60,
                // A gateway that says nothing of any left has left none.
                ended: Some(serde_json::from_str(text).unwrap()),
                hits: vec![],
                suspended: None,
            };
            assert_eq!(ended(&view).unwrap(), want);
        }
    }

    #[test]
    fn machines_have_labels_and_people_groups() {
        let row = SubjectView {
            name: "edge-07".into(),
            identity: String::new(),
            role: "machine".into(),
            state: "active".into(),
            labels: BTreeMap::from([("site".into(), "lab".into())]),
            groups: vec!["admins".into(), "staff".into()],
            owner: Some("bob".into()),
            owner_gone: false,
            assurance: "software".into(),
            lineage: String::new(),
            serial: None,
            not_after: Some(7_200),
            pending_serial: None,
            created: 0,
            locks: vec![],
            verified: BTreeMap::new(),
            claimed: BTreeMap::new(),
            tunnel: None,
            convergence: None,
            last_seen: None,
            renaming: None,
        };
        let want = "\
NAME     STATE   ASSURANCE  OWNER  EXPIRES  LABELS
edge-07  active  software   bob    in 1 h   site=lab
";
        assert_eq!(machines(std::slice::from_ref(&row), UnixTime::new(3_600)).render(None), want);
        let want = "\
NAME     STATE   ASSURANCE  EXPIRES  GROUPS
edge-07  active  software   in 1 h   admins staff
";
        assert_eq!(people(&[row], UnixTime::new(3_600)).render(None), want);
        assert_eq!(people(&[], UnixTime::new(0)).render(None), "none that you may see\n");
    }

    #[test]
    fn a_convergence_is_one_line() {
        let mut run = ConvergenceView {
            tool: "ansible".into(),
            version: Some("2.19.1".into()),
            run_id: None,
            play: Some("site.yml".into()),
            started: 1,
            finished: 2,
            ok: 7,
            changed: 3,
            failed: 0,
            unreachable: 0,
            skipped: 1,
            by: "spiffe://td/person/robot".into(),
            at: 3_600,
        };
        let now = UnixTime::new(3_900);
        let want = "ansible 2.19.1, 1970-01-01T01:00:00Z (5 min ago), 3 changed, 0 failed, by spiffe://td/person/robot";
        assert_eq!(convergence(&run, now), want);
        (run.version, run.changed, run.unreachable) = (None, 0, 1);
        let want = "ansible, 1970-01-01T01:00:00Z (5 min ago), 0 changed, 0 failed, unreachable, by \
                    spiffe://td/person/robot";
        assert_eq!(convergence(&run, now), want);
    }

    #[test]
    fn events_are_one_line_each_whatever_they_say() {
        let event = |at_ms, subject: &str| AuditView {
            id: "1".into(),
            at_ms,
            event: "lock.set".into(),
            actor: "gateway".into(),
            subject: subject.into(),
            rules: vec!["admins".into()],
            instance: String::new(),
            detail: BTreeMap::from([("why".into(), "a\nb".into())]),
        };
        let want = "\
1970-01-01T00:00:01Z lock.set by gateway: first (why=a\\u{a}b) [admins]
1970-01-01T00:00:02Z lock.set by gateway: se\\u{d}cond (why=a\\u{a}b) [admins]
";
        assert_eq!(audit(&[event(2_000, "se\rcond"), event(1_000, "first")], None), want);
        let long = AuditView { subject: "ab".repeat(32), actor: "spiffe://td/person/ann".into(), ..event(1_000, "") };
        let want = "1970-01-01T00:00:01Z lock.set by ann: abababababab… (why=a\\u{a}b) [admins]\n";
        assert_eq!(audit(&[long], Some(80)), want);
    }

    #[test]
    fn answers() {
        let reply = CanIReply { allowed: false, rules: vec![], explanation: "no rule allows it".into() };
        assert_eq!(can_i(&reply), "no\n");
        assert_eq!(can_i_explained(&reply), "no\n  why    no rule allows it\n  rules  none\n");
    }
}
