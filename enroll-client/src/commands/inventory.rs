//! The JSON of an Ansible inventory script. Without I/O; [`crate::commands::people`] fetches the machines and prints it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pki::{Identity, Role};
use serde_json::{Map, Value, json};
use wire::admin::SubjectView;

use crate::cli::MachineState;
use crate::core::render::LocalPath;
use crate::text::report::{Complaint, Exit};

/// Longest claimed operating system that becomes a group, in bytes: longer than the name of any.
const OS_MAX: usize = 64;

/// Hex digits of the digest that distinguishes groups whose names would be equal.
const DIGEST_DIGITS: usize = 8;

/// The arguments of `ssh` for reaching the machines: `-F` and the file, if it exists.
///
/// For `ansible_ssh_common_args`, not `ansible_ssh_args`: the default of that one keeps connections open for the next task
/// (`ControlPersist`).
///
/// # Errors
/// When the path cannot be quoted for ssh.
pub fn ssh_arguments(config: &Path) -> Result<Option<String>, Complaint> {
    if !config.is_file() {
        return Ok(None);
    }
    Ok(Some(format!("-F {}", LocalPath::new(config)?.shell_word())))
}

/// The output of `--list`: the machines in one of these states, their groups, and the variables of all machines, so that Ansible does
/// not call `--host`.
///
/// # Errors
/// When a machine has an invalid identity.
pub fn list(rows: &[SubjectView], states: &[MachineState], ssh: Option<&str>) -> Result<Value, Complaint> {
    let wanted = rows.iter().filter(|row| states.iter().any(|state| state.as_str() == row.state));
    // Such names are no longer assigned; a machine may have one from an earlier version.
    let wanted = wanted.filter(|row| pki::misread(&row.name).is_none());
    let (mut variables, mut members) = (Map::new(), BTreeMap::<Group, BTreeSet<&str>>::new());
    for row in wanted {
        variables.insert(name_of(row)?.name.to_string(), host(row, ssh)?);
        for group in groups(row) {
            members.entry(group).or_default().insert(&row.name);
        }
    }
    let names = names(members.keys());
    let mut out = Map::new();
    for (group, hosts) in &members {
        if let Some(name) = names.get(group) {
            out.insert(name.clone(), json!({ "hosts": hosts }));
        }
    }
    let children: Vec<&String> = names.values().collect();
    let all = json!({ "children": children });
    out.insert("all".to_owned(), all);
    out.insert("_meta".to_owned(), json!({ "hostvars": variables }));
    Ok(Value::Object(out))
}

/// The output of `--host`: the variables of one machine.
///
/// # Errors
/// When it has an invalid identity.
pub fn host(row: &SubjectView, ssh: Option<&str>) -> Result<Value, Complaint> {
    let identity = name_of(row)?;
    let mut variables = Map::new();
    variables.insert("ansible_host".to_owned(), identity.dns_name().into());
    if let Some(ssh) = ssh {
        variables.insert("ansible_ssh_common_args".to_owned(), text(ssh));
    }
    for (name, value) in [
        ("lychgate_identity", json!(row.identity)),
        ("lychgate_owner", json!(row.owner)),
        ("lychgate_labels", json!(row.labels)),
        ("lychgate_assurance", json!(row.assurance)),
        ("lychgate_assurance_of", json!(row.assurance_of)),
        ("lychgate_state", json!(row.state)),
        ("lychgate_verified", json!(row.verified)),
        ("lychgate_claimed", json!(row.claimed)),
        ("lychgate_convergence", json!(row.convergence)),
    ] {
        variables.insert(name.to_owned(), harmless(value));
    }
    Ok(Value::Object(variables))
}

/// The identity of a row. Its two name fields must agree.
fn name_of(row: &SubjectView) -> Result<Identity, Complaint> {
    let identity = Identity::parse(&row.identity).ok().filter(|identity| identity.role == Role::Machine);
    identity.filter(|identity| identity.name.as_str() == row.name).ok_or_else(|| {
        let what = format!(
            "the gateway's reply makes no sense: `{}` is not the identity of a machine `{}`",
            row.identity, row.name
        );
        Complaint::new(Exit::Failure, "bad-reply", what)
    })
}

/// A text that Ansible does not evaluate as a template. Inventory variables are rendered by Jinja on the controller, with its rights,
/// and machines report arbitrary attributes.
fn text(raw: &str) -> Value {
    // `#jinja2` lets a text define its own template delimiters.
    let may_be_template = ["{{", "{%", "{#", "#jinja2"].iter().any(|mark| raw.contains(mark));
    if may_be_template { json!({ "__ansible_unsafe": raw }) } else { raw.into() }
}

/// [`text`] for all texts in a value. Members whose names have a meaning for Ansible are left out.
fn harmless(value: Value) -> Value {
    match value {
        Value::String(raw) => text(&raw),
        Value::Array(items) => items.into_iter().map(harmless).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(name, _)| is_plain_name(name));
            Value::Object(fields.map(|(name, value)| (name, harmless(value))).collect())
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
    }
}

/// Members such as `__ansible_vault` make Ansible convert the object to another value.
fn is_plain_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b" ._:/@+-".contains(&b);
    !name.is_empty() && !name.starts_with("__") && name.bytes().all(plain)
}

/// The property for which a machine is in a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    kind: &'static str,
    value: String,
}

impl Group {
    /// The preferred name: letters, digits and underscores, as Ansible requires.
    fn wish(&self) -> String {
        let value: String =
            self.value.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
        format!("{}_{value}", self.kind)
    }

    /// Whether the preferred name represents the property exactly. The first `=` of a label ends its key.
    fn is_exact(&self) -> bool {
        let exact = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match self.value.split_once('=') {
            Some((key, value)) if self.kind == "label" => exact(key) && exact(value),
            Some(_) | None => exact(&self.value),
        }
    }

    /// The preferred name with a digest, so that no other group has it.
    fn distinct(&self) -> String {
        let what = format!("{}:{}", self.kind, self.value);
        let digest = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, what.as_bytes()));
        format!("{}_{}", self.wish(), digest.get(..DIGEST_DIGITS).unwrap_or_default())
    }
}

/// The groups of a machine. The system is what the machine claims to run.
fn groups(row: &SubjectView) -> Vec<Group> {
    let group = |kind, value: &str| Group { kind, value: value.to_owned() };
    let mut found = vec![group("state", &row.state), group("assurance", &row.assurance)];
    found.extend(row.labels.iter().map(|(key, value)| group("label", &format!("{key}={value}"))));
    found.extend(row.owner.iter().map(|owner| group("owner", owner)));
    let os = row.claimed.get("os").filter(|os| !os.is_empty() && os.len() <= OS_MAX);
    found.extend(os.map(|os| group("os", &os.to_lowercase())));
    found
}

/// Assigns a name to each group. If several prefer the same name, the one that it represents exactly gets it and the others get a
/// digest appended; if there is no such group or more than one, all get a digest. So a machine cannot get into another group by a
/// similar claim, and no name has two meanings.
fn names<'a>(groups: impl Iterator<Item = &'a Group>) -> BTreeMap<&'a Group, String> {
    let mut by_wish: BTreeMap<String, Vec<&Group>> = BTreeMap::new();
    for group in groups {
        by_wish.entry(group.wish()).or_default().push(group);
    }
    let mut names = BTreeMap::new();
    for (wish, rivals) in by_wish {
        let exact: Vec<&Group> = rivals.iter().copied().filter(|group| group.is_exact()).collect();
        let heir = match (rivals.as_slice(), exact.as_slice()) {
            ([only], _) | (_, [only]) => Some(*only),
            _ => None,
        };
        for group in rivals {
            let name = if heir == Some(group) { wish.clone() } else { group.distinct() };
            names.insert(group, name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use wire::admin::ConvergenceView;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn machine(name: &str, labels: &[(&str, &str)]) -> SubjectView {
        SubjectView {
            name: name.into(),
            identity: format!("spiffe://td.example/machine/{name}"),
            role: "machine".into(),
            state: "active".into(),
            labels: map(labels),
            groups: vec![],
            owner: None,
            owner_gone: false,
            assurance: "software".into(),
            assurance_of: None,
            stated: BTreeMap::new(),
            lineage: "l".into(),
            serial: None,
            not_after: None,
            pending_serial: None,
            created: 0,
            locks: vec![],
            tunnel: None,
            verified: BTreeMap::new(),
            claimed: BTreeMap::new(),
            convergence: None,
            last_seen: None,
            renaming: None,
        }
    }

    const ACTIVE: &[MachineState] = &[MachineState::Active];

    fn convergence() -> ConvergenceView {
        ConvergenceView {
            tool: "ansible".into(),
            version: None,
            run_id: None,
            play: Some("site.yml".into()),
            started: 1,
            finished: 2,
            ok: 3,
            changed: 1,
            failed: 0,
            unreachable: 0,
            skipped: 0,
            by: "spiffe://td.example/person/ann".into(),
            at: 5,
        }
    }

    #[test]
    fn a_listing_has_groups_and_all_variables() {
        let mut one = machine("edge-1", &[("site", "oslo")]);
        one.owner = Some("bob".into());
        one.verified = map(&[("token_id", "t1")]);
        one.claimed = map(&[("os", "Linux"), ("hostname", "box")]);
        one.convergence = Some(convergence());
        let two = machine("edge-2", &[("site", "oslo")]);
        let want = json!({
            "_meta": { "hostvars": {
                "edge-1": {
                    "ansible_host": "edge-1.machine.td.example",
                    "ansible_ssh_common_args": "-F /x/ssh/config",
                    "lychgate_identity": "spiffe://td.example/machine/edge-1",
                    "lychgate_owner": "bob",
                    "lychgate_labels": { "site": "oslo" },
                    "lychgate_assurance": "software",
                    "lychgate_assurance_of": null,
                    "lychgate_state": "active",
                    "lychgate_verified": { "token_id": "t1" },
                    "lychgate_claimed": { "os": "Linux", "hostname": "box" },
                    "lychgate_convergence": {
                        "tool": "ansible", "play": "site.yml", "started": 1, "finished": 2, "ok": 3, "changed": 1,
                        "failed": 0, "unreachable": 0, "skipped": 0, "by": "spiffe://td.example/person/ann", "at": 5,
                    },
                },
                "edge-2": {
                    "ansible_host": "edge-2.machine.td.example",
                    "ansible_ssh_common_args": "-F /x/ssh/config",
                    "lychgate_identity": "spiffe://td.example/machine/edge-2",
                    "lychgate_owner": null,
                    "lychgate_labels": { "site": "oslo" },
                    "lychgate_assurance": "software",
                    "lychgate_assurance_of": null,
                    "lychgate_state": "active",
                    "lychgate_verified": {},
                    "lychgate_claimed": {},
                    "lychgate_convergence": null,
                },
            } },
            "all": { "children": ["assurance_software", "label_site_oslo", "os_linux", "owner_bob", "state_active"] },
            "assurance_software": { "hosts": ["edge-1", "edge-2"] },
            "label_site_oslo": { "hosts": ["edge-1", "edge-2"] },
            "os_linux": { "hosts": ["edge-1"] },
            "owner_bob": { "hosts": ["edge-1"] },
            "state_active": { "hosts": ["edge-1", "edge-2"] },
        });
        let rows = [one, two];
        assert_eq!(list(&rows, ACTIVE, Some("-F /x/ssh/config")).unwrap(), want);
        assert_eq!(host(&rows[0], Some("-F /x/ssh/config")).unwrap(), want["_meta"]["hostvars"]["edge-1"]);
        assert!(host(&rows[0], None).unwrap().get("ansible_ssh_common_args").is_none());
        let nothing = json!({ "_meta": { "hostvars": {} }, "all": { "children": [] } });
        assert_eq!(list(&[], ACTIVE, None).unwrap(), nothing);
    }

    #[test]
    fn machines_in_other_states_are_left_out_unless_asked_for() {
        let rows: Vec<SubjectView> = ["active", "expired", "locked", "reserved", "dreaming"]
            .map(|state| SubjectView { state: state.into(), ..machine(&format!("m-{state}"), &[]) })
            .into();
        let hosts = |states: &[MachineState]| {
            let listing = list(&rows, states, None).unwrap();
            let hosts: Vec<String> = listing["_meta"]["hostvars"].as_object().unwrap().keys().cloned().collect();
            assert_eq!(
                listing.as_object().unwrap().keys().filter(|key| key.starts_with("state_")).count(),
                hosts.len()
            );
            hosts
        };
        assert_eq!(hosts(ACTIVE), ["m-active"]);
        assert_eq!(hosts(&[MachineState::Expired, MachineState::Locked]), ["m-expired", "m-locked"]);
        assert_eq!(hosts(&[MachineState::Reserved]), ["m-reserved"]);
    }

    /// The names of label groups, each machine having one label.
    #[track_caller]
    fn check(labels: &[(&str, &str)], want: &[&str]) {
        let rows: Vec<SubjectView> =
            labels.iter().enumerate().map(|(at, label)| machine(&format!("m-{at}"), &[*label])).collect();
        let listing = list(&rows, ACTIVE, None).unwrap();
        let name_of = |host: &str| {
            let groups = listing.as_object().unwrap().iter();
            let mut names = groups.filter(|(name, group)| {
                name.starts_with("label_") && group["hosts"].as_array().unwrap().contains(&host.into())
            });
            names.next().unwrap().0.clone()
        };
        let got: Vec<String> = (0..labels.len()).map(|at| name_of(&format!("m-{at}"))).collect();
        assert_eq!(got, want);
        let legal = |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        assert!(got.iter().all(legal));
    }

    #[test]
    fn names_of_groups() {
        check(&[("site", "oslo")], &["label_site_oslo"]);
        check(&[("site", "oslo-1"), ("rack", "7")], &["label_site_oslo_1", "label_rack_7"]);
        check(&[("a.b", "c=d")], &["label_a_b_c_d"]);
        check(&[("site", "Ålesund"), ("x", "")], &["label_site__lesund", "label_x_"]);
        // Group names are case-sensitive, in Ansible too.
        check(&[("env", "prod"), ("env", "Prod")], &["label_env_prod", "label_env_Prod"]);
        // The exact one gets the name, in any order.
        check(
            &[("s", "a_b"), ("s", "a-b"), ("s", "a.b")],
            &["label_s_a_b", "label_s_a_b_e3ca28c4", "label_s_a_b_e94c7cf7"],
        );
        check(&[("s", "a.b"), ("s", "a_b")], &["label_s_a_b_e94c7cf7", "label_s_a_b"]);
        // No group gets it when none is exact, or two are.
        check(&[("s", "a-b"), ("s", "a.b")], &["label_s_a_b_e3ca28c4", "label_s_a_b_e94c7cf7"]);
        check(&[("s_a", "b"), ("s", "a_b")], &["label_s_a_b_b06dc288", "label_s_a_b_0aa9aee0"]);
    }

    #[test]
    fn a_machine_cannot_claim_itself_into_the_group_of_another_system() {
        let claiming = |name: &str, os: &str| SubjectView { claimed: map(&[("os", os)]), ..machine(name, &[]) };
        let long = "x".repeat(OS_MAX + 1);
        let rows = [claiming("a", "free_bsd"), claiming("b", "free-bsd"), claiming("c", &long), claiming("d", "")];
        let listing = list(&rows, ACTIVE, None).unwrap();
        assert_eq!(listing["os_free_bsd"]["hosts"], json!(["a"]));
        let systems = listing.as_object().unwrap().keys().filter(|name| name.starts_with("os_")).count();
        assert_eq!(systems, 2);
    }

    #[test]
    fn nothing_that_others_wrote_is_a_template() {
        let mut row = machine("m", &[("note", "{{ lookup('pipe', 'id') }}")]);
        row.claimed = map(&[
            ("motd", "{% raw %}"),
            ("curly", "a { b } c"),
            ("__ansible_vault", "x"),
            ("__ansible_unsafe", "x"),
            ("{{ x }}", "x"),
        ]);
        let got = host(&row, None).unwrap();
        assert_eq!(got["lychgate_labels"], json!({ "note": { "__ansible_unsafe": "{{ lookup('pipe', 'id') }}" } }));
        assert_eq!(
            got["lychgate_claimed"],
            json!({ "motd": { "__ansible_unsafe": "{% raw %}" }, "curly": "a { b } c" })
        );
    }

    #[test]
    fn an_identity_must_be_a_machines() {
        for identity in ["spiffe://td.example/person/ann", "m", "spiffe://td.example/machine/../x"] {
            let row = SubjectView { identity: identity.into(), ..machine("m", &[]) };
            assert!(host(&row, None).is_err(), "{identity}");
        }
    }

    #[test]
    fn the_file_for_ssh_is_named_when_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("it is here");
        assert_eq!(ssh_arguments(&config).unwrap(), None);
        std::fs::write(&config, "").unwrap();
        assert_eq!(ssh_arguments(&config).unwrap(), Some(format!("-F '{}'", config.display())));
        let config = dir.path().join("config");
        std::fs::write(&config, "").unwrap();
        assert_eq!(ssh_arguments(&config).unwrap(), Some(format!("-F {}", config.display())));
    }
}
