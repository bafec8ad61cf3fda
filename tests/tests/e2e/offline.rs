//! Commands that change a stopped gateway's store: each writes an audit event.

use std::time::Duration;

use tests::gateway::Setup;
use tests::wait::eventually;

use crate::audit as events;

/// Time for the gateway to write the noted events: at its start, and every minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs a command, and checks the number of events of a kind after it.
type Row = (&'static [&'static str], &'static [(&'static str, usize)]);

const COMMANDS: [Row; 3] = [
    (&["ca", "crl"], &[("ca.root-list", 1)]),
    (&["ca", "renew"], &[("ca.renewed", 3), ("ca.root-list", 2)]),
    (&["clock", "accept"], &[("ca.renewed", 3), ("ca.root-list", 2)]),
];

#[test]
fn every_command_that_changes_something_leaves_its_event() {
    let mut gateway = Setup::default().start();
    let alice = gateway.first_person();
    assert_eq!(events(&alice, "gateway.initialised").len(), 1);
    for (command, wanted) in COMMANDS {
        // While it runs: its store is its own.
        let ended = gateway.command(command);
        assert_eq!(ended.code, 0, "{command:?}: {}", ended.stderr);
        let _ = gateway.stop();
        gateway.start();
        for (event, count) in wanted {
            eventually(&format!("{event} by {command:?}"), PATIENCE, || {
                (events(&alice, event).len() == *count).then_some(())
            });
        }
    }
    let _ = gateway.stop();
    let backup = gateway.room().join("backup.jsonl");
    assert_eq!(gateway.command(&["export", "--out", backup.to_str().unwrap()]).code, 0);
    std::fs::remove_dir_all(gateway.dir().join("store")).unwrap();
    assert_eq!(gateway.command(&["import", "--in", backup.to_str().unwrap()]).code, 0);
    gateway.start();
    assert_eq!(events(&alice, "store.imported").len(), 1);
}
