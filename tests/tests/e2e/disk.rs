//! Disks and files that fail: full, unwritable, locked by another, damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::cli::Lychgate;
use tests::device::{self, Key, Outcome};
use tests::disk::SmallDisk;
use tests::gateway::{Gateway, Setup};
use tests::http::Connection;
use tests::program::{Ended, built, run};
use tests::tls;
use tests::wait::{PATIENCE, eventually};

use crate::{assert_says, items, joined, token};

/// `lychgate-gateway` with a configuration file, run to its end.
#[track_caller]
fn gateway_program(args: &[&str], config: &Path) -> Ended {
    let mut command = Command::new(built("lychgate-gateway"));
    command.args(args).arg("--config").arg(config);
    run(&mut command, PATIENCE)
}

#[track_caller]
fn assert_clear(ended: &Ended, code: i32, says: &str) {
    let what = format!("{}\n{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, code, "{what}");
    assert!(!ended.stderr.contains("panicked"), "{what}");
    assert!(what.contains(says), "it does not say `{says}`\n{what}");
}

#[test]
fn an_unwritable_directory() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let token = token(&alice, &[]);
    // Below a file there is no directory to be made, whoever runs this.
    let file = gateway.room().join("file");
    fs::write(&file, "").unwrap();
    let machine = Lychgate::at(file.join("me"));
    let refused = machine.refused(&["join", &token, "--name", "edge-07"]);
    assert_says(&refused, 7, &format!("cannot create the folder `{}`", machine.dir().display()));
    // It was noticed before the token was spent.
    gateway.client("edge-07").ok(&["join", &token, "--name", "edge-07"]);
}

#[test]
fn an_unwritable_directory_of_the_gateway() {
    let gateway = Setup::default().init();
    let file = gateway.room().join("file");
    fs::write(&file, "").unwrap();
    let below = file.join("gateway");
    let mut init = Command::new(built("lychgate-gateway"));
    init.args(["init", "--trust-domain", "test.example", "--dir"]).arg(&below);
    assert_clear(&run(&mut init, PATIENCE), 1, file.to_str().unwrap());
    // A store that cannot be where the configuration says: the configuration is what is wrong.
    point_store_at(&gateway, &below);
    assert_clear(&gateway_program(&["run"], &gateway.config()), 3, file.to_str().unwrap());
}

#[test]
fn a_full_disk_of_the_client() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let mount = gateway.room().join("small");
    let disk = SmallDisk::mount(&mount, 256, gateway.room());
    let machine = Lychgate::at(mount.join("me")).under(&disk.wrapper());
    let token = token(&alice, &[]);

    disk.fill();
    let refused = machine.refused(&["join", &token, "--name", "edge-07"]);
    assert_says(&refused, 7, "No space left on device");
    assert_says(&refused, 7, "hint: free some space and try again; the identity in use is untouched");
    assert!(refused.stderr.contains(machine.dir().to_str().unwrap()), "{}", refused.stderr);
    disk.free();
    machine.ok(&["join", &token, "--name", "edge-07"]);

    let certificate = || fs::read(disk.outside(&machine.file("cert.pem"))).unwrap();
    let before = certificate();
    disk.fill();
    assert_says(&machine.refused(&["renew", "--force"]), 7, "No space left on device");
    assert_eq!(certificate(), before, "a renewal that could not be written must leave what was there");
    machine.ok(&["status"]);
    disk.free();
    machine.ok(&["renew", "--force"]);
    assert_ne!(certificate(), before);
}

/// A change that cannot be written is refused, and the gateway ends: it cannot know what the disk holds. With room again
/// it goes on, and has everything it promised.
#[tokio::test]
async fn a_full_disk_of_the_gateway() {
    let many = |setup: Setup, key: &str| setup.config(key, i64::try_from(FILLING_MAX).unwrap());
    let setup = many(many(Setup::default().no_limits(), "enroll.pending_max"), "enroll.pending_max_per_prefix");
    let mut gateway = setup.init();
    let mount = gateway.room().join("small");
    let disk = SmallDisk::mount(&mount, 24 * 1024, gateway.room());
    move_store(&gateway, &disk, &mount.join("store"));
    gateway.run_under(&disk.wrapper());
    gateway.start();
    let alice = gateway.first_person();
    let first = joined(&gateway, &alice, "before");

    disk.fill();
    let config = tls::trusting(&gateway.roots(), None);
    let mut promised = Vec::new();
    let refused = loop {
        assert!(promised.len() < FILLING_MAX, "{FILLING_MAX} requests fitted on a full disk");
        let key = Key::generate();
        let outcome = device::enroll(&gateway.enroll(), &config, &key, &device::request(&key, None, None)).await;
        match outcome.unwrap_or_else(|e| panic!("no answer: {e}\n{}", gateway.log())) {
            Outcome::Waiting(waiting) => promised.push((key, waiting.id)),
            Outcome::Refused(reply) => break reply,
            Outcome::Issued(reply) => panic!("issued: {reply:?}"),
        }
    };
    assert_eq!((refused.status, refused.code().as_str()), (503, "unavailable"), "{refused}");
    let ended = gateway.ended();
    assert_clear(&ended, 4, "no space left on the store's disk");
    assert_clear(&ended, 4, "free some, then start again");

    disk.free();
    gateway.start();
    let mut connection = Connection::open(&gateway.enroll(), &config).await.unwrap();
    for (key, id) in &promised {
        let outcome = device::poll(&mut connection, &gateway.enroll(), key, id, 0).await.unwrap();
        assert!(matches!(outcome, Outcome::Waiting(_)), "the request {id} was acknowledged: {outcome:?}");
    }
    first.ok(&["renew", "--force"]);
    let _ = joined(&gateway, &alice, "after");
    assert_eq!(items(&alice.json(&["machines", "list"])).len(), 2);
}

/// More requests than fit into what an engine may have set aside before the disk was full.
const FILLING_MAX: usize = 5_000;

/// Moves everything that `init` made to another directory and says so in the configuration.
fn move_store(gateway: &Gateway, disk: &SmallDisk, to: &Path) {
    let wrapper = disk.wrapper();
    let mut copy = Command::new(&wrapper[0]);
    copy.args(&wrapper[1..]).arg("cp").arg("-a").arg(store_dir(gateway)).arg(to);
    assert_eq!(run(&mut copy, PATIENCE).code, 0);
    point_store_at(gateway, to);
}

fn point_store_at(gateway: &Gateway, path: &Path) {
    gateway.edit_config(|config| {
        let section = config.entry("store").or_insert_with(|| toml::Table::new().into());
        section.as_table_mut().unwrap().insert("path".to_owned(), path.to_str().unwrap().into());
    });
}

/// Where the store of a gateway that does not run is.
fn store_dir(gateway: &Gateway) -> PathBuf {
    let text = fs::read_to_string(gateway.config()).unwrap();
    let config: toml::Table = toml::from_str(&text).unwrap();
    let path = config.get("store").and_then(|store| store.get("path")).and_then(toml::Value::as_str);
    gateway.dir().join(path.unwrap_or("store"))
}

#[test]
fn a_store_opened_twice() {
    let gateway = Setup::default().start();
    // The same files, other ports.
    let second = gateway.dir().join("second.toml");
    let text = fs::read_to_string(gateway.config()).unwrap();
    let mut config: toml::Table = toml::from_str(&text).unwrap();
    let listen = toml::toml! { enroll = "127.0.0.1:0" manage = "127.0.0.1:0" proxy = "127.0.0.1:0" };
    config.insert("listen".to_owned(), listen.into());
    fs::write(&second, toml::to_string(&config).unwrap()).unwrap();
    assert_clear(&gateway_program(&["run"], &second), 4, "already open by another process");
    assert_clear(&gateway_program(&["export"], &second), 4, "already open by another process");
    // The first one never noticed.
    let alice = gateway.first_person();
    joined(&gateway, &alice, "edge-07").ok(&["renew", "--force"]);
}

/// Every file of a directory, with its size.
fn sizes(dir: &Path) -> Vec<(u64, PathBuf)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(sizes(&entry.path()));
        } else {
            found.push((entry.metadata().unwrap().len(), entry.path()));
        }
    }
    found
}

#[test]
fn a_corrupt_store() {
    for engine in ["sled", "redb"] {
        let mut gateway = Setup::default().engine(engine).start();
        let alice = gateway.first_person();
        for i in 0..5 {
            let _ = joined(&gateway, &alice, &format!("edge-{i}"));
        }
        let _ = gateway.stop();
        let (size, largest) = sizes(&store_dir(&gateway)).into_iter().max().unwrap();
        let mut bytes = fs::read(&largest).unwrap();
        assert!(size > 4096, "{engine}: {} has only {size} bytes", largest.display());
        for byte in bytes.iter_mut().skip(256).step_by(61) {
            *byte ^= 0x55;
        }
        fs::write(&largest, bytes).unwrap();
        let ended = gateway_program(&["run"], &gateway.config());
        assert_clear(&ended, 4, "damaged");
        assert_clear(&ended, 4, "restore it from the newest export");
    }
}

#[test]
fn a_truncated_configuration_and_unknown_keys() {
    let gateway = Setup::default().init();
    let config = gateway.config();
    let text = fs::read_to_string(&config).unwrap();
    let bent = [
        ("cut in a line", text[..text.rfind('"').unwrap()].to_owned(), "gateway.toml"),
        ("an unknown key", format!("colour = \"red\"\n{text}"), "colour"),
        ("an unknown key in a table", format!("{text}\n[limits]\nconections = 3\n"), "conections"),
        ("empty", String::new(), "empty"),
        ("a wrong type", text.replacen("trust_domain = \"", "trust_domain = 7 # \"", 1), "trust_domain"),
    ];
    for (what, text, says) in bent {
        fs::write(&config, text).unwrap();
        for command in ["run", "check-config"] {
            let ended = gateway_program(&[command], &config);
            assert_eq!(ended.code, 3, "{what}, {command}\n{}", ended.stderr);
            assert_clear(&ended, 3, says);
        }
    }
    fs::remove_file(&config).unwrap();
    assert_clear(&gateway_program(&["run"], &config), 3, config.to_str().unwrap());
}

#[test]
fn a_reload_with_a_bad_policy_keeps_the_old_one_and_says_why() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let good = fs::read_to_string(gateway.policy()).unwrap();
    fs::write(gateway.policy(), good.replace("principal.claims has token_id", "principal.claims has tokken_id"))
        .unwrap();
    gateway.reload();
    eventually("a complaint about the policy", PATIENCE, || gateway.log().contains("tokken_id").then_some(()));
    let _ = joined(&gateway, &alice, "edge-07");
    // A good one is taken: tokens admit nobody any more.
    fs::write(gateway.policy(), good.replace("principal.claims has token_id", "principal.claims has prior_name"))
        .unwrap();
    gateway.reload();
    let mut round = 0;
    eventually("the new policy", PATIENCE, || {
        round += 1;
        let machine = gateway.client(&format!("late-{round}"));
        let token = token(&alice, &[]);
        (machine.run(&["join", &token, "--name", &format!("late-{round}"), "--no-wait"]).code != 0).then_some(())
    });
}

#[test]
fn damaged_files_of_the_client() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    // What is known of the gateway may be lost: it is learnt again.
    fs::write(machine.file("state.json"), "{").unwrap();
    machine.ok(&["renew", "--force"]);
    for name in ["cert.pem", "key.pem"] {
        let good = fs::read(machine.file(name)).unwrap();
        fs::write(machine.file(name), &good[..good.len() / 2]).unwrap();
        let refused = machine.refused(&["renew", "--force"]);
        assert_says(&refused, 7, &format!("{name}` is damaged"));
        fs::write(machine.file(name), good).unwrap();
    }
    machine.ok(&["renew", "--force"]);
}

#[test]
fn an_export_moves_to_the_other_engine_and_back() {
    let mut gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    let _ = gateway.stop();
    let before = gateway.export();
    for (moves, engine) in [(1, "redb"), (2, "sled")] {
        gateway.change_engine(engine);
        let mut after = gateway.export();
        let all = after.len();
        // What is added is that it was imported, each time.
        after.retain(|_, record| record["event"] != "store.imported");
        assert_eq!(all - after.len(), moves, "{engine}");
        assert_eq!(after, before, "{engine}");
    }
    gateway.start();
    machine.ok(&["renew", "--force"]);
}
