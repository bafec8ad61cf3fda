//! Ownership of the gateway's folders: files that other users may write are refused, and files made by root belong to the service.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use tests::gateway::{Gateway, Setup};

/// A user that owns nothing else.
const NOBODY: u32 = 65534;

/// Whether the test can run: only root can switch users.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: becoming another user wants root");
    }
    root
}

fn each(folder: &Path, look: &mut impl FnMut(&Path)) {
    look(folder);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { each(&path, look) } else { look(&path) }
    }
}

fn give(folder: &Path, user: u32) {
    each(folder, &mut |path| chown(path, Some(user), Some(user)).unwrap());
}

#[track_caller]
fn assert_all_of(folder: &Path, user: u32, after: &str) {
    each(folder, &mut |path| assert_eq!(path.metadata().unwrap().uid(), user, "{} after {after}", path.display()));
}

fn passable(gateway: &Gateway) {
    std::fs::set_permissions(gateway.room(), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn every_offline_command_of_root_leaves_the_owner_its_folder() {
    if !is_root() {
        return;
    }
    for engine in ["sled", "redb"] {
        let gateway = Setup::default().engine(engine).init();
        passable(&gateway);
        let backup = gateway.room().join("backup.jsonl");
        let backup = backup.to_str().unwrap();
        give(gateway.dir(), NOBODY);
        for args in [
            &["export", "--out", backup][..],
            &["store", "check"],
            &["invite"],
            &["clock", "accept"],
            &["check-config"],
        ] {
            let ended = gateway.command(args);
            assert_eq!(ended.code, 0, "{engine} {args:?}: {}", ended.stderr);
            assert_all_of(gateway.dir(), NOBODY, &format!("{engine} {args:?}"));
        }
        let stores = std::fs::read_dir(gateway.dir()).unwrap().map(|entry| entry.unwrap().path());
        for store in stores.filter(|path| path.join("store.json").exists()) {
            std::fs::remove_dir_all(store).unwrap();
        }
        let ended = gateway.command(&["import", "--in", backup]);
        assert_eq!(ended.code, 0, "{engine}: {}", ended.stderr);
        assert_all_of(gateway.dir(), NOBODY, "import");
        // Root itself would leave files of its own.
        let ended = gateway.command(&["run"]);
        assert_eq!(ended.code, 3, "{}", ended.stderr);
        assert!(ended.stderr.contains("belongs to user 65534"), "{}", ended.stderr);
        assert_all_of(gateway.dir(), NOBODY, "run");
    }
}

#[test]
fn init_in_anothers_folder_makes_it_theirs_and_they_can_run_it() {
    if !is_root() {
        return;
    }
    let room = tempfile::tempdir().unwrap();
    std::fs::set_permissions(room.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (config, data) = (room.path().join("etc"), room.path().join("data"));
    std::fs::create_dir(&data).unwrap();
    chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut init = std::process::Command::new(tests::program::built("lychgate-gateway"));
    init.args(["init", "--trust-domain", "lab.example", "--listen", "127.0.0.1:0", "--engine", "redb", "--config-dir"]);
    init.arg(&config).arg("--data-dir").arg(&data);
    let made = tests::program::run(&mut init, tests::wait::PATIENCE);
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert_all_of(&data, NOBODY, "init");
    assert_all_of(&config, 0, "init");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&config), mode(&config.join("policy"))), (0o755, 0o755));
    assert_eq!((mode(&config.join("ca-passphrase")), mode(&config.join("first-person.token"))), (0o600, 0o600));
    // Root finds the passphrase beside the configuration.
    let toml = config.join("gateway.toml");
    let mut invite = std::process::Command::new(tests::program::built("lychgate-gateway"));
    let invited = tests::program::run(invite.args(["invite", "--config"]).arg(&toml), tests::wait::PATIENCE);
    assert_eq!(invited.code, 0, "{}", invited.stderr);
    assert_all_of(&data, NOBODY, "invite");
}

#[test]
fn what_others_could_have_written_is_not_believed() {
    let mut gateway = Setup::default().init();
    let policy = gateway.policy();
    let config = gateway.config();
    for (path, mode, good) in [
        (gateway.dir().to_owned(), 0o777, 0o700),
        (gateway.dir().join("ca"), 0o770, 0o700),
        (gateway.dir().join("store"), 0o720, 0o700),
        (policy.parent().unwrap().to_owned(), 0o733, 0o700),
        (policy.clone(), 0o666, 0o644),
        (config.clone(), 0o664, 0o644),
    ] {
        let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        set(mode);
        for command in ["run", "invite"] {
            let ended = gateway.command(&[command]);
            assert_eq!(ended.code, 3, "{command} {} {mode:o}: {}", path.display(), ended.stderr);
            assert!(ended.stderr.contains("can be written by others"), "{}", ended.stderr);
            assert!(ended.stderr.contains("chmod go-w"), "{}", ended.stderr);
        }
        set(good);
        if is_root() {
            chown(&path, Some(NOBODY), None).unwrap();
            let ended = gateway.command(&["run"]);
            assert_eq!(ended.code, 3, "{}: {}", path.display(), ended.stderr);
            assert!(ended.stderr.contains("belongs to user 65534"), "{}", ended.stderr);
            chown(&path, Some(0), None).unwrap();
        }
    }
    gateway.start();
}

/// `dev` passes no secret as argument, which the process list would show.
#[test]
fn dev_gives_the_token_by_standard_input() {
    let room = tempfile::tempdir().unwrap();
    let programs = room.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    std::fs::copy(tests::program::built("lychgate-gateway"), programs.join("lychgate-gateway")).unwrap();
    let (client, seen) = (tests::program::built("lychgate"), room.path().join("seen"));
    let shim =
        format!("#!/bin/sh\nprintf '%s\\n' \"$*\" >> '{}'\nexec '{}' \"$@\"\n", seen.display(), client.display());
    std::fs::write(programs.join("lychgate"), shim).unwrap();
    std::fs::set_permissions(programs.join("lychgate"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let _terminal = crate::dev::Terminal::open(room.path());
    let mut command = std::process::Command::new(programs.join("lychgate-gateway"));
    command.args(["dev", "--dir", "d"]).current_dir(room.path()).env_remove("CARGO");
    let mut dev = tests::program::Program::start(&mut command, room.path());
    let said = dev.expect_stderr("what to paste", |text| text.contains("stop  ").then(|| text.to_owned()));
    let arguments = std::fs::read_to_string(&seen).unwrap();
    assert!(arguments.contains(" join - --name admin"), "{arguments}");
    assert!(!arguments.contains("eyJ"), "{arguments}");
    assert!(!said.contains("join $("), "{said}");
    assert_eq!(dev.stop().code, 0);
}

/// The units as they are packaged, with the programs that were built.
#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let room = tempfile::tempdir().unwrap();
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let mut verify = std::process::Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--generators=no"]);
    for name in ["lychgate.service", "lychgate-gateway.service"] {
        let text = std::fs::read_to_string(packaged.join(name)).unwrap();
        let program = tests::program::built(name.trim_end_matches(".service"));
        let (before, after) = text.split_once("ExecStart=").unwrap();
        let (_, after) = after.split_once(' ').unwrap();
        std::fs::write(room.path().join(name), format!("{before}ExecStart={} {after}", program.display())).unwrap();
        verify.arg(room.path().join(name));
    }
    let Ok(output) = verify.output() else {
        eprintln!("skipped: systemd-analyze is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("lychgate")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}
