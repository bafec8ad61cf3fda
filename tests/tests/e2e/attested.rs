//! Evidence in two rounds, with the test attestor and test prover of debug builds.

use std::os::unix::fs::DirBuilderExt as _;

use tests::cli::Lychgate;
use tests::gateway::Setup;
use toml::Table;

use crate::audit;

const RULES: &str = r#"
@id("by-reference")
permit (principal is Lychgate::Newcomer, action == Lychgate::Action::"enroll", resource)
when { principal.claims has reference_name && principal.assurance >= 2 };
"#;

/// What the machine has to show, if anything.
fn give(machine: &Lychgate, name: &str) {
    std::fs::DirBuilder::new().mode(0o700).create(machine.dir()).unwrap();
    std::fs::write(machine.file("reference.secret"), format!("{name} sixteen bytes or more\n")).unwrap();
}

#[test]
fn a_machine_joins_and_renews_by_what_it_has() {
    let section: Table = "secret = 'sixteen bytes or more'".parse().unwrap();
    let gateway = Setup::default().config("attest.reference", section).policy(RULES).start();
    let alice = gateway.first_person();
    let machine = gateway.client("edge-a");
    give(&machine, "edge-a");
    let (url, pin) = (gateway.enroll().url(""), gateway.info().pin);
    machine.ok(&["join", &url, "--pin", &pin, "--name", "edge-a"]);
    let assurance = || alice.json(&["machines", "show", "edge-a"])["assurance"].clone();
    assert_eq!(assurance(), "hardware");
    // The first renewal is sent before anything was heard of what renewals may carry, and its answer says that.
    machine.ok(&["renew", "--force"]);
    machine.ok(&["renew", "--force"]);
    assert_eq!(assurance(), "hardware");
    assert!(!audit(&alice, "evidence.taken").is_empty());
    std::fs::remove_file(machine.file("reference.secret")).unwrap();
    machine.ok(&["renew", "--force"]);
    assert_eq!(assurance(), "software", "nothing was proven of this key");
}
