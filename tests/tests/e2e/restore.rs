//! Stores restored to an older state.

use tests::gateway::Setup;

use crate::joined;

/// Every file of a folder with its size and time of change.
fn disk_state(folder: &std::path::Path) -> Vec<(std::path::PathBuf, u64, std::time::SystemTime)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let (path, about) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
        all.push((path.clone(), about.len(), about.modified().unwrap()));
        if about.is_dir() {
            all.extend(disk_state(&path));
        }
    }
    all.sort();
    all
}

/// Restoring a backup from before a lock would lift the lock: the gateway detects it and does not start.
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
    assert!(refused.stderr.contains("older than the one last used here"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--accept-rollback"), "{}", refused.stderr);
}

/// On another host the lock epoch is unknown: the gateway reports that instead of silently forgetting locks.
#[test]
fn a_store_restored_on_another_host_wants_a_word() {
    let mut gateway = Setup::default().start();
    let alice = gateway.first_person();
    let _ = gateway.stop();
    let backup = gateway.room().join("backup.jsonl");
    assert_eq!(gateway.command(&["export", "--out", backup.to_str().unwrap()]).code, 0);
    std::fs::remove_dir_all(gateway.dir().join("store")).unwrap();
    std::fs::remove_file(gateway.dir().join("epoch")).unwrap();
    let ended = gateway.command(&["import", "--in", backup.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("--accept-rollback"), "{}", ended.stderr);
    let refused = gateway.command(&["run"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("restored or copied here"), "{}", refused.stderr);
    drop(alice);
}

/// A damaged record is reported and skipped, and an import fails unless it is told to skip it.
#[test]
fn a_damaged_record_is_named_put_aside_and_not_imported_in_silence() {
    let mut gateway = Setup::default().start();
    let alice = gateway.first_person();
    let _machine = joined(&gateway, &alice, "edge-07");
    let _other = joined(&gateway, &alice, "edge-08");
    let _ = gateway.stop();
    let backup = gateway.room().join("backup.jsonl");
    let damaged = |args: &[&str]| gateway.command(args);
    assert_eq!(damaged(&["export", "--out", backup.to_str().unwrap()]).code, 0);
    let before = disk_state(&gateway.dir().join("store"));
    let good = damaged(&["store", "check"]);
    assert_eq!((good.code, good.stdout.contains("all good")), (0, true), "{}", good.stderr);
    assert_eq!(disk_state(&gateway.dir().join("store")), before, "neither wrote anything");

    // As a hand would spoil it: the sum at the end is made anew.
    let text = std::fs::read_to_string(&backup).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let end: serde_json::Value = serde_json::from_str(&lines.pop().unwrap()).unwrap();
    let at = lines.iter().position(|line| line.contains("subject/machine/edge-07")).unwrap();
    lines[at] = r#"{"key":"subject/machine/edge-07","value":"{\"half\":"}"#.to_owned();
    let body = lines.join("\n") + "\n";
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
    let last = serde_json::json!({"records": end["records"], "sha256": hex::encode(sum)});
    std::fs::write(&backup, format!("{body}{last}\n")).unwrap();
    std::fs::remove_dir_all(gateway.dir().join("store")).unwrap();

    let refused = damaged(&["import", "--in", backup.to_str().unwrap()]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("subject/machine/edge-07"), "{}", refused.stderr);
    let taken = damaged(&["import", "--quarantine", "--in", backup.to_str().unwrap()]);
    assert_eq!(taken.code, 0, "{}", taken.stderr);
    assert!(taken.stderr.contains("quarantined: subject/machine/edge-07"), "{}", taken.stderr);
    let refused = damaged(&["store", "quarantine", "subject/machine/edge-08"]);
    assert_eq!(refused.code, 1, "what is good stays: {}", refused.stderr);
    gateway.start();
    assert!(alice.ok(&["machines", "list"]).contains("edge-08"));
}
