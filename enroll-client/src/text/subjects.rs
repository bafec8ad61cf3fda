//! Output of `machines` and `people`.

use pki::UnixTime;
use wire::admin::{ConvergenceView, SubjectView, TunnelView};

use super::cells::{STATED, assurance, from_now, joined, listed, or_dash, sorted, time};
use crate::text::table::{NOTHING, Table, detail, key, natural, prose};
use crate::text::{fields, safe};

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
            assurance(&row.assurance, row.assurance_of.as_ref()),
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
        let assurance = assurance(&row.assurance, row.assurance_of.as_ref());
        vec![row.name.clone(), row.state.clone(), assurance, expires(row, now), row.groups.join(" ")]
    })
}

/// The owner, or the name of a removed owner with a note.
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
        ("assurance", assurance(&row.assurance, row.assurance_of.as_ref())),
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
    if !row.stated.is_empty() {
        out.push_str(STATED);
        out.push_str(&listed(&[], &row.stated));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

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
            assurance_of: None,
            stated: BTreeMap::new(),
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
        assert_eq!(people(std::slice::from_ref(&row), UnixTime::new(3_600)).render(None), want);
        assert_eq!(people(&[], UnixTime::new(0)).render(None), "none that you may see\n");

        let maker = BTreeMap::from([("tpm_maker".into(), "IFX".into())]);
        let (level, of) = ("measured".into(), Some("host".into()));
        let row = SubjectView { stated: maker, assurance: level, assurance_of: of, ..row };
        let list = machines(std::slice::from_ref(&row), UnixTime::new(3_600)).render(None);
        assert!(list.contains("  measured (host)  "), "{list}");
        let shown = subject(&row, UnixTime::new(3_600));
        assert!(shown.contains("measured (host)\n"), "{shown}");
        assert!(shown.ends_with("\nSTATED in its evidence, proven by nobody\n  tpm_maker  IFX\n"), "{shown}");
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
}
