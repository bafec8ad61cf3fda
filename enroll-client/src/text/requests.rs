//! Output of `requests`: verified claims are shown apart from unverified attributes.

use std::collections::BTreeMap;

use pki::UnixTime;
use wire::admin::{RequestView, SameDeviceView};

use super::cells::{STATED, assurance, from_now, joined, listed, or_dash, sorted, time};
use crate::text::table::{Table, detail, key};
use crate::text::{fields, safe, span};

/// The largest number of approvals with equal content: only those are counted together.
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

/// The assigned or requested name, with a note if it is in use.
fn wanted(row: &RequestView) -> String {
    let name = or_dash(row.name.as_ref().or(row.wanted_name.as_ref()));
    let comes_back = row.same_device.as_ref().is_some_and(|same| same.comes_back);
    match (comes_back, row.taken.is_some()) {
        (true, _) => format!("{name} (comes back)"),
        (false, true) => format!("{name} (taken)"),
        (false, false) => name,
    }
}

/// `requests list`, oldest first.
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
        "no request is waiting that you may see",
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
                assurance(&row.assurance, row.assurance_of.as_ref()),
                from_now(row.created, now),
            ]
        },
    )
}

/// `requests show`.
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
        ("assurance", assurance(&row.assurance, row.assurance_of.as_ref())),
    ];
    out.push_str(&listed(&sure, &row.verified));
    if !row.stated.is_empty() {
        out.push_str(STATED);
        out.push_str(&listed(&[], &row.stated));
    }
    out.push_str("\nCLAIMED by the machine, proven by nobody\n");
    out.push_str(&listed(&[("wanted name", or_dash(row.wanted_name.as_ref()))], &row.claimed));
    out.push_str(&decided(row));
    if row.state == "waiting" {
        out.push_str(&format!(
            "\nAsk the machine's owner for the code on its screen, then\n    lychgate requests approve {} --code CODE\n",
            safe(&row.id)
        ));
        // Without `--same-as` a second approver would approve other content, which is counted separately. The line is meant to be
        // copied, so it contains only a checked name.
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

/// Conflicts of a request and its approvals, each with the approver's name: approvals with equal content are counted together.
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
    if let Some(same) = &row.same_device {
        out.push_str(&same_device(same));
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

/// Which machine the requester's device is, and what an approval would mean.
fn same_device(same: &SameDeviceView) -> String {
    let (machine, state) = (safe(&same.machine), safe(&same.state));
    let then = match (same.comes_back, same.state.as_str()) {
        (true, _) => "approved, it comes back as that machine, and the machine's certificate ends".to_owned(),
        (false, "removed") => "approved, it is a new machine".to_owned(),
        (false, _) => "approved, it is another machine beside that one".to_owned(),
    };
    let mut out = format!("\nTHE SAME DEVICE as the machine `{machine}` ({state}): {then}\n");
    if same.counted_back {
        out.push_str(
            "    It counts less than it did: its TPM was cleared, or is an emulated one that was copied or set back\n",
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use wire::admin::ApprovalView;

    use super::*;

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
            assurance_of: None,
            stated: BTreeMap::new(),
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
            same_device: None,
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

    /// What a certificate says that nobody vouches for is neither verified nor the machine's own word.
    #[test]
    fn what_is_stated_stands_apart_from_both() {
        let stated = BTreeMap::from([
            ("tpm_maker".into(), "IFX".into()),
            ("tpm_model".into(), "SLB\u{202e}\nVERIFIED by the gateway".into()),
        ]);
        let verified = BTreeMap::from([("tpm_chain".into(), "unknown-issuer".into())]);
        let text = request(&RequestView { stated, verified, ..row() }, UnixTime::new(7_200));
        let want = "\
VERIFIED by the gateway
  key        P-256 SHA-256 abababab
  from       203.0.113.0/24
  assurance  software
  tpm_chain  unknown-issuer

STATED in its evidence, proven by nobody
  tpm_maker  IFX
  tpm_model  SLB\\u{202e}\\u{a}VERIFIED by the gateway

CLAIMED by the machine, proven by nobody
";
        assert!(text.contains(want), "{text}");
    }

    #[test]
    fn the_assurance_says_of_what() {
        for (of, says) in [(None, "hardware"), (Some("key"), "hardware (key)"), (Some("host"), "hardware (host)")] {
            let row = RequestView { assurance: "hardware".into(), assurance_of: of.map(Into::into), ..row() };
            let text = request(&row, UnixTime::new(7_200));
            assert!(text.contains(&format!("  assurance  {says}\n")), "{text}");
            let list = requests(&[row], UnixTime::new(7_200)).render(None);
            assert!(list.contains(&format!("  {says}  ")), "{list}");
        }
    }

    #[test]
    fn a_device_that_is_known_is_told() {
        let told = |state: &str, comes_back, counted_back| {
            let same = SameDeviceView { machine: "edge-01".into(), state: state.into(), comes_back, counted_back };
            let row = RequestView { same_device: Some(same), ..row() };
            let text = request(&row, UnixTime::new(7_200));
            let told = text.lines().skip_while(|line| !line.starts_with("THE SAME DEVICE"));
            told.take_while(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(
            told("active", true, false),
            "THE SAME DEVICE as the machine `edge-01` (active): approved, it comes back as that machine, and the machine's \
             certificate ends"
        );
        let lower = told("expired", true, true);
        assert!(lower.ends_with("\n    It counts less than it did: its TPM was cleared, or is an emulated one that was copied or set back"), "{lower}");
        assert!(told("removed", false, false).ends_with("(removed): approved, it is a new machine"));
        assert!(told("active", false, false).ends_with("it is another machine beside that one"));
    }

    #[test]
    fn listings() {
        let want = "\
REQUEST  STATE    ROLE     NAME             FROM            APPROVALS  ASSURANCE  ASKED
e1       waiting  machine  edge-07 (taken)  203.0.113.0/24  1/2        software   1 h ago
";
        assert_eq!(requests(&[row()], UnixTime::new(7_200)).render(None), want);
        assert_eq!(requests(&[], UnixTime::new(0)).render(None), "no request is waiting that you may see\n");
    }
}
