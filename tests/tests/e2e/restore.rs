//! Stores that were put back to an older state.

use tests::gateway::Setup;

use crate::joined;

/// A backup from before a lock would lift it: the gateway notices and does not start.
#[test]
fn a_store_older_than_its_last_lock_is_refused() {
    let mut gateway = Setup::default().start();
    let alice = gateway.first_person();
    let _machine = joined(&gateway, &alice, "edge-07");
    let _ = gateway.stop();
    let backup = gateway.room().join("backup.jsonl");
    let ended = gateway.command(&["export", "--out", backup.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);

    gateway.start();
    alice.ok(&["machines", "lock", "edge-07", "--reason", "stolen"]);
    let _ = gateway.stop();
    std::fs::rename(gateway.dir().join("store"), gateway.room().join("newest")).unwrap();
    let ended = gateway.command(&["import", "--in", backup.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);

    let refused = gateway.command(&["run"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("older than the last one seen"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--accept-rollback"), "{}", refused.stderr);
}
