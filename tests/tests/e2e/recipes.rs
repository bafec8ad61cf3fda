//! The policies in `policy/examples/`: each loads beside the default policy without warnings, and passes its cases.

use std::path::Path;
use std::process::Command;

use tests::gateway::Setup;
use tests::program::{Ended, built, run};
use tests::wait::PATIENCE;

fn policy(words: &[&Path]) -> Ended {
    run(Command::new(built("lychgate-gateway")).arg("policy").args(words), PATIENCE)
}

#[test]
fn every_recipe_loads_and_keeps_its_promises() {
    let room = tempfile::tempdir().unwrap();
    let default = room.path().join("default.cedar");
    std::fs::write(&default, policy(&[Path::new("default")]).stdout).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("policy/examples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "cedar") {
            continue;
        }
        count += 1;
        let checked = policy(&[Path::new("check"), &default, &path]);
        assert_eq!(checked.code, 0, "{}: {}", path.display(), checked.stderr);
        assert_eq!(checked.stderr, "", "{}", path.display());
        let tested = policy(&[Path::new("test"), &default, &path, &path.with_extension("cases.toml")]);
        assert_eq!(tested.code, 0, "{}: {}{}", path.display(), tested.stdout, tested.stderr);
    }
    assert!(count >= 5, "{count}");
}

#[test]
fn what_was_hardly_meant_is_warned_of() {
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("p.cedar");
    std::fs::write(&file, "@id(\"all\")\npermit (principal, action, resource);\n").unwrap();
    let checked = policy(&[Path::new("check"), &file]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    let says =
        format!("lychgate-gateway: warning: {}:1:1: the rule permits everybody everything (name who", file.display());
    assert!(checked.stderr.starts_with(&says), "{}", checked.stderr);
    // Of groups the store knows who is in them.
    let mut gateway = Setup::default().start();
    let _alice = gateway.first_person();
    gateway.stop();
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("policy/examples/helpdesk.cedar");
    let default = room.path().join("default.cedar");
    std::fs::write(&default, policy(&[Path::new("default")]).stdout).unwrap();
    let config = gateway.config();
    let checked = policy(&[Path::new("check"), Path::new("--config"), &config, &default, &recipe]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    let says = "lychgate-gateway: warning: rules name the group `helpdesk`, and nobody is in it\n";
    assert_eq!(checked.stderr, says, "somebody is in `admins`");
}
