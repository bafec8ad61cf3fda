//! Stores that are locked, foreign, damaged, half imported or on a full disk: each is a clear error, none is a panic, and
//! no acknowledged record is ever missing without an error.
#![expect(clippy::disallowed_methods, reason = "the tests spoil the files below a store")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use super::{
    Batch, CommitError, Engine, Entry, Key, OpenError, ReadError, Rows, Store,
    engine::{DiskEngine as _, RowChange, View as _, Writes},
    open, redb,
    scan::{Direction, Span},
    scan_all, sled, transfer,
};

const ON_DISK: [Engine; 2] = [Engine::Sled, Engine::Redb];

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap().block_on(work)
}

async fn contents(store: &dyn Store) -> Result<Rows, ReadError> {
    scan_all(store, &Key::from("")).await
}

#[track_caller]
fn refused(engine: Engine, path: &Path, want: &str) {
    let error = open(engine, path, 8).unwrap_err();
    assert!(error.to_string().contains(want), "{engine}: {error}");
}

/// Creates a store, applies `spoil` to its files, and expects the next opening to be refused.
#[track_caller]
fn check_refused(spoil: impl Fn(Engine, &Path), want: &str) {
    for engine in ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        block_on(async {
            let store = open(engine, folder.path(), 8).unwrap();
            store.commit(Batch::default().put("a", "1")).await.unwrap();
            store.close().await;
        });
        spoil(engine, folder.path());
        refused(engine, folder.path(), want);
    }
}

/// Writes to the engine below the store.
fn write_below(engine: Engine, path: &Path, key: &[u8], value: Option<&[u8]>) {
    let change = RowChange { after: value.map(<[u8]>::to_vec), before: 0 };
    let writes = Writes::from([(key.to_vec(), change)]);
    match engine {
        Engine::Sled => {
            let sled = sled::Sled::open(&path.join("sled"), 8).unwrap();
            sled.apply(&writes).unwrap();
            sled.sync().unwrap();
        }
        Engine::Redb => redb::Redb::open(&path.join("store.redb"), 8).unwrap().apply(&writes).unwrap(),
        Engine::Memory => unreachable!("has nothing below"),
    }
}

/// Parts left over from replaced or deleted values would fill the disk unnoticed.
#[test]
fn sled_keeps_no_part_of_what_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let parts = || {
        let sled = sled::Sled::open(&folder.path().join("sled"), 8).unwrap();
        let view = sled.view().unwrap();
        view.rows(&Span::of(b"p"), Direction::Ascending).unwrap().count()
    };
    let commit = |batches: Vec<Batch>| {
        block_on(async {
            let store = open(Engine::Sled, folder.path(), 8).unwrap();
            for batch in batches {
                store.commit(batch).await.unwrap();
            }
            store.close().await;
        });
    };
    let large = || vec![7; 50_000];
    commit(vec![Batch::default().put("a", large()).put("b", large())]);
    assert_eq!(parts(), 26, "two values in 13 parts each");
    commit(vec![Batch::default().put("a", large()), Batch::default().put("b", "small"), Batch::default().delete("a")]);
    assert_eq!(parts(), 0);
}

#[test]
fn a_second_opener_is_told() {
    for engine in ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        block_on(async {
            let store = open(engine, folder.path(), 8).unwrap();
            refused(engine, folder.path(), "already open by another process");
            store.commit(Batch::default().put("a", "1")).await.unwrap();
            store.close().await;
            // the lock is free when `close` returns
            for _ in 0..5 {
                open(engine, folder.path(), 8).unwrap().close().await;
            }
        });
    }
}

#[test]
fn another_engine_does_not_start_an_empty_store_beside_the_full_one() {
    check_refused(
        |engine, path| {
            let other = if engine == Engine::Sled { Engine::Redb } else { Engine::Sled };
            let error = open(other, path, 8).unwrap_err();
            assert_eq!(error, OpenError::OtherEngine { has: engine, asked: other });
            fs::write(path.join("store.json"), "{}").unwrap();
        },
        "store.json`: missing field",
    );
}

#[test]
fn a_newer_format_is_refused() {
    let newer = |engine, path: &Path| write_below(engine, path, b"meta/format", Some(b"2"));
    check_refused(newer, "format 2, this version knows formats up to 1");
    let garbled = |engine, path: &Path| write_below(engine, path, b"meta/format", Some(b"\xffx"));
    check_refused(garbled, "its format version reads");
    let gone = |engine, path: &Path| write_below(engine, path, b"meta/format", None);
    check_refused(gone, "its format version is missing");
}

#[test]
fn a_store_that_lost_something_is_refused() {
    let gone = |engine, path: &Path| write_below(engine, path, b"ra", None);
    check_refused(gone, "should hold 1 records and holds 0");
    let no_totals = |engine, path: &Path| write_below(engine, path, b"meta/commits", None);
    check_refused(no_totals, "its totals are missing");
    let behind = |engine: Engine, path: &Path| {
        fs::write(path.join("store.json"), format!(r#"{{"engine":"{engine}","commits":2}}"#)).unwrap();
    };
    check_refused(behind, "it ends at commit 1, but had reached 2");
    let empty = |engine, path: &Path| match engine {
        Engine::Sled => fs::remove_dir_all(path.join("sled")).unwrap(),
        _ => fs::remove_file(path.join("store.redb")).unwrap(),
    };
    check_refused(empty, "its format version is missing");
}

/// A record damaged in each of its fields in turn: it is listed and returned as damaged, and the others are intact. It can be replaced and
/// deleted like any other, and afterwards the store has no damage.
#[test]
fn a_damaged_record_takes_no_other_with_it() {
    type Spoil = fn(&mut Vec<u8>);
    let rows: [(&str, Spoil); 6] = [
        ("its value", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("its checksum", |bytes| bytes[super::record::HEADER - 1] ^= 1),
        ("its version", |bytes| bytes[3] ^= 1),
        ("its format", |bytes| bytes[0] = 9),
        ("cut within the header", |bytes| bytes.truncate(5)),
        ("all of it", |bytes| *bytes = b"\x01 not a record".to_vec()),
    ];
    for engine in ON_DISK {
        for (what, spoil) in rows {
            for repair in [Batch::default().put("b", "new"), Batch::default().delete("b")] {
                let folder = tempfile::tempdir().unwrap();
                block_on(async {
                    let store = open(engine, folder.path(), 8).unwrap();
                    store.commit(Batch::default().put("a", "1").put("b", "2").put("c", "3")).await.unwrap();
                    store.close().await;
                });
                let mut bytes = super::record::encode(b"b", 1, false, b"2").1;
                spoil(&mut bytes);
                write_below(engine, folder.path(), b"rb", Some(&bytes));
                block_on(async {
                    let store = open(engine, folder.path(), 8).unwrap();
                    assert_eq!(store.damaged(), [Key::from("b")], "{engine} {what}");
                    let rows = contents(&*store).await.unwrap();
                    let damaged: Vec<bool> = rows.iter().map(|(_, entry)| entry.damage.is_some()).collect();
                    assert_eq!(damaged, [false, true, false], "{engine} {what}");
                    let entry = store.read(&[Key::from("b")]).await.unwrap().entries.remove(0).unwrap();
                    assert!(entry.damage.is_some(), "{engine} {what}");
                    // Other records can still be written, and the damage is reported at the next opening, too.
                    store.commit(Batch::default().put("a", "4")).await.unwrap();
                    store.close().await;
                    let store = open(engine, folder.path(), 8).unwrap();
                    let batch = Batch { expect: Batch::default().at("b", entry.version).expect, ..repair.clone() };
                    store.commit(batch).await.unwrap();
                    store.close().await;
                    let store = open(engine, folder.path(), 8).unwrap();
                    assert_eq!(store.damaged(), [], "{engine} {what}");
                    assert!(contents(&*store).await.unwrap().iter().all(|(_, entry)| entry.damage.is_none()));
                    store.close().await;
                });
            }
        }
    }
}

/// What sled does when its log is damaged in the middle: it opens in an older, consistent state.
#[test]
fn an_old_state_in_place_of_the_newest_is_noticed() {
    for engine in ON_DISK {
        let (live, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        block_on(async {
            let store = open(engine, live.path(), 8).unwrap();
            store.commit(Batch::default().put("a", "1")).await.unwrap();
            copy_under(live.path(), old.path());
            store.commit(Batch::default().put("a", "2")).await.unwrap();
            // the mark of a process killed now, above the engine's files of one commit earlier
            fs::copy(live.path().join("reached"), old.path().join("reached")).unwrap();
            store.close().await;
        });
        refused(engine, old.path(), "it ends at commit 1, but had reached 2");
    }
}

#[test]
fn a_torn_mark_leaves_the_other_and_two_are_damage() {
    for engine in ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("reached");
        let spoil = |at: usize| {
            let mut bytes = fs::read(&mark).unwrap();
            bytes[at] ^= 1;
            fs::write(&mark, bytes).unwrap();
        };
        block_on(async {
            let store = open(engine, folder.path(), 8).unwrap();
            for n in 0..3 {
                store.commit(Batch::default().put("a", n.to_string())).await.unwrap();
            }
            store.close().await;
            spoil(7);
            open(engine, folder.path(), 8).unwrap().close().await;
        });
        spoil(512 + 7);
        refused(engine, folder.path(), "reached` is unreadable");
        fs::write(&mark, "short").unwrap();
        refused(engine, folder.path(), "reached` is unreadable");
        fs::remove_file(&mark).unwrap();
        block_on(async { open(engine, folder.path(), 8).unwrap().close().await });
    }
}

#[test]
fn an_old_value_in_place_of_a_new_one_is_noticed() {
    for engine in ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let old = super::record::encode(b"a", 1, false, b"1").1;
        block_on(async {
            let store = open(engine, folder.path(), 8).unwrap();
            store.commit(Batch::default().put("a", "1")).await.unwrap();
            store.commit(Batch::default().put("a", "2")).await.unwrap();
            store.close().await;
        });
        write_below(engine, folder.path(), b"ra", Some(&old));
        refused(engine, folder.path(), "or an old one among them");
    }
}

#[test]
fn a_half_finished_import_is_refused() {
    for engine in ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        block_on(async {
            let store = open(engine, folder.path(), 8).unwrap();
            store.commit(Batch::default().put(transfer::IMPORT_MARK, "").put("a", "1")).await.unwrap();
            store.close().await;
        });
        refused(engine, folder.path(), "an import into this store did not finish");
    }
}

#[test]
fn a_snapshot_that_sled_did_not_finish_is_not_the_end() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let store = open(Engine::Sled, folder.path(), 8).unwrap();
        store.commit(Batch::default().put("a", "1")).await.unwrap();
        store.close().await;
        fs::write(folder.path().join("sled/snap.7FFFFFFFFFFFFFFF.generating"), "half").unwrap();
        let store = open(Engine::Sled, folder.path(), 8).unwrap();
        assert_eq!(contents(&*store).await.unwrap().len(), 1);
        store.close().await;
    });
}

#[test]
fn a_file_that_redb_did_not_finish_making_is_not_the_end() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("store.new"), vec![0; 1 << 20]).unwrap();
    block_on(async {
        let store = open(Engine::Redb, folder.path(), 8).unwrap();
        store.commit(Batch::default().put("a", "1")).await.unwrap();
        store.close().await;
        let store = open(Engine::Redb, folder.path(), 8).unwrap();
        assert_eq!(contents(&*store).await.unwrap().len(), 1);
        store.close().await;
    });
    assert!(!folder.path().join("store.new").exists());
}

/// A linear congruential generator: the same numbers on every run.
struct Lcg(u64);

impl Lcg {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % below as u64).unwrap()
    }
}

fn files_under(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_under(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn copy_under(from: &Path, to: &Path) {
    for file in files_under(from) {
        let copy = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(&file, &copy).unwrap();
    }
}

/// Damages the engine's files at one place: flips a bit, zeroes up to 4 KiB, or truncates the file there.
fn spoil(path: &Path, random: &mut Lcg) -> String {
    let files: Vec<_> = files_under(path)
        .into_iter()
        .filter(|file| !file.ends_with("lock") && !file.ends_with("store.json"))
        .filter(|file| file.metadata().unwrap().len() > 0)
        .collect();
    // three times in four in the largest file
    let largest = files.iter().max_by_key(|file| file.metadata().unwrap().len()).unwrap();
    let file = if random.next(4) == 0 { &files[random.next(files.len())] } else { largest };
    let mut bytes = fs::read(file).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let at = random.next(used);
    let what = match random.next(8) {
        0 => {
            bytes.truncate(at);
            "cut"
        }
        1 => {
            let end = used.min(at + 4096);
            bytes[at..end].fill(0);
            "zeroed"
        }
        _ => {
            bytes[at] ^= 1 << random.next(8);
            "flipped"
        }
    };
    fs::write(file, bytes).unwrap();
    format!("{} {what} at {at} of {used}", file.display())
}

/// How the store's process ended before its files were damaged.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum End {
    Clean,
    Killed,
}

/// After any damage, either the store is refused, or it is complete, or the damaged record is named.
fn check_damage(engine: Engine, end: End, rounds: usize) {
    let (live, good) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let want = block_on(async {
        let store = open(engine, live.path(), 8).unwrap();
        for n in 0..400_usize {
            let value = vec![u8::try_from(n % 256).unwrap(); if n.is_multiple_of(10) { 9000 } else { 1500 }];
            store
                .commit(Batch::default().put(format!("k/{}", n % 90), value).put("last", n.to_string()))
                .await
                .unwrap();
        }
        let rows = contents(&*store).await.unwrap();
        if end == End::Clean {
            store.close().await;
        }
        copy_under(live.path(), good.path());
        store.close().await;
        rows
    });
    let mut random = Lcg(17);
    let mut refused = 0;
    for _ in 0..rounds {
        let copy = tempfile::tempdir().unwrap();
        copy_under(good.path(), copy.path());
        let what = spoil(copy.path(), &mut random);
        match open(engine, copy.path(), 8) {
            Err(OpenError::Damaged { .. } | OpenError::Engine { .. }) => refused += 1,
            Err(other) => panic!("{what}: {other}"),
            Ok(store) => block_on(async {
                match contents(&*store).await {
                    Ok(rows) => {
                        let named = rows.iter().filter(|(_, entry)| entry.damage.is_some()).count();
                        refused += usize::from(named > 0);
                        let same = |(got, want): (&(Key, Entry), &(Key, Entry))| got.1.damage.is_some() || got == want;
                        let all = rows.len() == want.len() && rows.iter().zip(&want).all(same);
                        assert!(all, "{what}: a record is missing without an error");
                    }
                    Err(ReadError::Engine(_)) => refused += 1,
                    Err(other) => panic!("{what}: {other}"),
                }
                store.close().await;
            }),
        }
    }
    // much of every file is in use, so the damage is noticed at least this often
    assert!(refused > rounds / 6, "{engine} {end:?}: {refused} of {rounds}");
}

#[test]
fn damaged_sled_files_are_noticed() {
    check_damage(Engine::Sled, End::Clean, 60);
}

#[test]
fn damaged_sled_files_are_noticed_after_a_kill() {
    check_damage(Engine::Sled, End::Killed, 60);
}

#[test]
fn damaged_redb_files_are_noticed() {
    check_damage(Engine::Redb, End::Clean, 60);
}

#[test]
fn damaged_redb_files_are_noticed_after_a_kill() {
    check_damage(Engine::Redb, End::Killed, 60);
}

/// A disk of 8 MB, unmounted on drop. Needs root.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(folder.path()).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(folder)),
            Ok(_) | Err(_) => {
                eprintln!("skipped: mounting a small disk needs root");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).output();
    }
}

/// Runs several committers until the disk is full and returns the keys that were acknowledged.
async fn fill_up(store: &Arc<dyn Store>, round: usize) -> Vec<Key> {
    let committers: Vec<_> = (0..4)
        .map(|who| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut acked = Vec::new();
                for n in 0.. {
                    let key = Key::from(format!("{round}/{who}/{n}"));
                    let batch =
                        Batch::default().put(key.clone(), vec![b'v'; 1500 + 700 * who]).put("last", key.into_bytes());
                    match store.commit(batch).await {
                        Ok(_) => acked.push(Key::from(format!("{round}/{who}/{n}"))),
                        Err(CommitError::Unknown(why)) => {
                            assert!(why.contains("no space left on the store's disk"), "{why}");
                            break;
                        }
                        Err(CommitError::Closed) => break,
                        Err(other) => panic!("{other}"),
                    }
                }
                acked
            })
        })
        .collect();
    let mut all = Vec::new();
    for committer in committers {
        all.extend(committer.await.unwrap());
    }
    all
}

async fn all_there(store: &dyn Store, acked: &[Key]) {
    for page in acked.chunks(500) {
        let entries = store.read(page).await.unwrap().entries;
        for (key, entry) in page.iter().zip(entries) {
            assert!(entry.is_some(), "{key:?} was acknowledged and is gone");
        }
    }
}

fn check_full_disk(engine: Engine) {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.0.path().join("store");
    let ballast: Vec<_> = (0..5).map(|n| disk.0.path().join(format!("ballast{n}"))).collect();
    for file in &ballast {
        fs::write(file, vec![1; 1024 * 1024]).unwrap();
    }
    block_on(async {
        let mut acked = Vec::new();
        for (round, file) in ballast.iter().enumerate() {
            let store = open(engine, &path, 2).unwrap();
            all_there(&*store, &acked).await;
            acked.extend(fill_up(&store, round).await);
            assert_eq!(store.commit(Batch::default()).await, Err(CommitError::Closed));
            assert_eq!(store.read(&[Key::from("last")]).await, Err(ReadError::Closed));
            store.close().await;
            // still full: it opens or says why not
            match open(engine, &path, 2) {
                Ok(store) => {
                    all_there(&*store, &acked).await;
                    store.close().await;
                }
                Err(error) => assert!(error.to_string().contains("no space left"), "{error}"),
            }
            fs::remove_file(file).unwrap();
        }
        let store = open(engine, &path, 2).unwrap();
        all_there(&*store, &acked).await;
        store.commit(Batch::default().put("after", "")).await.unwrap();
        store.close().await;
        eprintln!("{engine}: {} commits acknowledged around five full disks", acked.len());
        assert!(acked.len() > 100, "{}", acked.len());
    });
}

#[test]
fn a_full_disk_under_sled() {
    check_full_disk(Engine::Sled);
}

#[test]
fn a_full_disk_under_redb() {
    check_full_disk(Engine::Redb);
}
