//! After root has used the folder of a service or person with `sudo`, all files still belong to its owner.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use tests::gateway::Setup;
use tests::wait::{PATIENCE, eventually};

use crate::joined;
use crate::rig::{Echo, Helpers, Running};

/// A user that owns nothing else.
const NOBODY: u32 = 65534;

fn all_in(folder: &Path) -> BTreeMap<PathBuf, u32> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let about = std::fs::symlink_metadata(&path).unwrap();
        if about.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        // Of a link nothing hangs on the owner: whoever owns the folder may put another there.
        if !about.is_symlink() {
            found.insert(path, about.uid());
        }
    }
    found
}

#[track_caller]
fn assert_theirs(folder: &Path, after: &[&str]) {
    for (path, owner) in all_in(folder) {
        assert_eq!(owner, NOBODY, "{} after {after:?}", path.display());
    }
}

#[test]
fn whatever_root_runs_in_somebody_elses_folder_leaves_it_theirs() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: becoming another user wants root");
        return;
    }
    let echo = Echo::start();
    let gateway = Setup::default().start();
    std::fs::set_permissions(gateway.room(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let alice = gateway.first_person();
    let _helpers = Helpers::of(alice.dir());
    let _alpha = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &echo.exposed("ssh", ",raw")]);
    let beta = joined(&gateway, &alice, "beta");
    for who in [&alice, &beta] {
        all_in(who.dir()).into_keys().for_each(|path| lchown(path, Some(NOBODY), Some(NOBODY)).unwrap());
    }
    let pages = alice.dir().join("share").join("man").join("man1");
    let out = alice.dir().join("elsewhere").join("key");
    std::fs::create_dir(out.parent().unwrap()).unwrap();
    lchown(out.parent().unwrap(), Some(NOBODY), Some(NOBODY)).unwrap();
    for (who, args) in [
        (&alice, &["status"][..]),
        (&alice, &["renew", "--force"]),
        (&alice, &["machines", "list"]),
        (&alice, &["ssh-cert", "user"]),
        (&alice, &["ssh-cert", "known-hosts"]),
        (&alice, &["ssh-config"]),
        (&alice, &["connect", "--helper", "ssh@alpha"]),
        (&alice, &["connect", "ssh@alpha"]),
        (&alice, &["man", pages.to_str().unwrap()]),
        (&beta, &["run", "--once"]),
        (&beta, &["renew", "--force"]),
    ] {
        who.ok(args);
        assert_theirs(who.dir(), args);
    }
    // The socket is theirs, and so is the process that listens there.
    let socket = alice.file("helper.sock");
    assert_eq!(socket.metadata().unwrap().uid(), NOBODY);
    let mut helpers = Helpers::of(alice.dir()).ids();
    assert_eq!(helpers.len(), 1);
    let helper = helpers.pop().unwrap();
    assert_eq!(Path::new(&format!("/proc/{helper}")).metadata().unwrap().uid(), NOBODY);
    kill_process(Pid::from_raw(helper).unwrap(), Signal::TERM).unwrap();
    eventually("it is gone", PATIENCE, || (!socket.exists()).then_some(()));
    // Typed by hand it becomes them, too.
    let mut typed = alice.start(&["helper"]);
    typed.expect_stderr("it helps", |said| said.contains("helping at").then_some(()));
    assert_theirs(alice.dir(), &["helper"]);
    assert_eq!(Path::new(&format!("/proc/{}", typed.id())).metadata().unwrap().uid(), NOBODY);
    drop(typed);
    beta.ok(&["leave"]);
    assert_theirs(beta.dir(), &["leave"]);
}
