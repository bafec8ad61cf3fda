//! The contract as tests: every case runs on every engine, and random histories are compared with a plain map.
#![expect(clippy::disallowed_methods, reason = "a test looks at sled's files")]

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    Batch, BoxFuture, Change, CommitError, Engine, Entry, Expect, InvalidBatch, KEY_MAX, Key, ReadError, Rows,
    SCAN_MAX, ScanPage, Snapshot, Store, StoreLimits, VALUE_MAX, Version, Write, open, scan_all, watch::WATCH_BACKLOG,
};

mod leases;

use leases::*;

/// A store and the folder it can be opened from again.
struct Bench {
    engine: Engine,
    folder: TempDir,
    store: Arc<dyn Store>,
}

impl Bench {
    fn new(engine: Engine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(engine, folder.path(), 8).unwrap();
        Self { engine, folder, store }
    }

    /// Closes and opens again. Does nothing for the memory store, which would be empty.
    async fn reopen(&mut self) {
        if self.engine != Engine::Memory {
            self.store.close().await;
            self.store = open(self.engine, self.folder.path(), 8).unwrap();
        }
    }

    async fn dump(&self) -> String {
        show(&scan_all(&*self.store, &Key::from("")).await.unwrap())
    }
}

/// `key=value@version`, with long values shortened.
fn show(rows: &Rows) -> String {
    let one =
        |(key, entry): &(Key, Entry)| format!("{key}={}@{}", String::from_utf8_lossy(&entry.value), entry.version);
    rows.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap().block_on(work)
}

fn run(engine: Engine, case: impl for<'a> FnOnce(&'a mut Bench) -> BoxFuture<'a, ()>) {
    let mut bench = Bench::new(engine);
    block_on(async {
        case(&mut bench).await;
        bench.store.close().await;
    });
}

macro_rules! on_every_engine {
    ($($case:ident)*) => {
        mod memory { $(#[test] fn $case() { super::run(super::Engine::Memory, |b| Box::pin(super::$case(b))); })* }
        mod sled { $(#[test] fn $case() { super::run(super::Engine::Sled, |b| Box::pin(super::$case(b))); })* }
        mod redb { $(#[test] fn $case() { super::run(super::Engine::Redb, |b| Box::pin(super::$case(b))); })* }
    };
}

on_every_engine! {
    a_history_of_commits
    a_batch_without_writes_only_checks
    pages_of_a_scan
    every_size_of_value
    what_is_refused_before_the_queue
    a_watch_tells_what_is_under_its_prefixes
    a_page_ends_when_it_is_large
    what_is_leased_goes_with_its_lease
    a_lease_that_is_kept_stands
    what_was_written_anew_outlives_the_lease
    a_lease_that_is_over_takes_nothing
    leases_end_with_the_process
    a_slow_watcher_is_told_that_it_lags
    a_closed_store_says_so
    increments_are_never_lost
    a_reader_never_sees_half_a_batch
    values_that_change_size_over_and_over
}

fn batch() -> Batch {
    Batch::default()
}

async fn a_history_of_commits(bench: &mut Bench) {
    let conflict = Err(CommitError::Conflict);
    let rows: [(Batch, Result<Version, CommitError>, &str); 16] = [
        (batch().absent("a").put("a", "1"), Ok(1), "a=1@1"),
        (batch().absent("a").put("a", "2"), conflict.clone(), "a=1@1"),
        (batch().put("b", "2").put("c", "3"), Ok(2), "a=1@1 b=2@2 c=3@2"),
        (batch().at("a", 1).put("a", "4"), Ok(3), "a=4@3 b=2@2 c=3@2"),
        (batch().at("a", 1).put("a", "5"), conflict.clone(), "a=4@3 b=2@2 c=3@2"),
        (batch().at("a", 3).at("b", 1).put("a", "5"), conflict.clone(), "a=4@3 b=2@2 c=3@2"),
        (batch().at("d", 3).put("d", "5"), conflict.clone(), "a=4@3 b=2@2 c=3@2"),
        (batch().at("d", 0).put("d", "5"), conflict.clone(), "a=4@3 b=2@2 c=3@2"),
        (batch().at("b", 2).delete("b"), Ok(4), "a=4@3 c=3@2"),
        (batch().delete("b").delete("never"), Ok(5), "a=4@3 c=3@2"),
        (batch().absent("b").put("b", "6"), Ok(6), "a=4@3 b=6@6 c=3@2"),
        (batch().at("b", 2).delete("b"), conflict.clone(), "a=4@3 b=6@6 c=3@2"),
        (batch().put("e", "7").delete("e").put("f", "8").put("f", "9"), Ok(7), "a=4@3 b=6@6 c=3@2 f=9@7"),
        (batch().delete("f").put("f", ""), Ok(8), "a=4@3 b=6@6 c=3@2 f=@8"),
        (batch().absent("g").at("f", 8).put("g", "x").delete("a"), Ok(9), "b=6@6 c=3@2 f=@8 g=x@9"),
        (batch().delete("b").delete("c").delete("f").delete("g"), Ok(10), ""),
    ];
    for (number, (batch, want, dump)) in rows.into_iter().enumerate() {
        assert_eq!(bench.store.commit(batch).await, want, "row {number}");
        assert_eq!(bench.dump().await, dump, "row {number}");
        bench.reopen().await;
        assert_eq!(bench.dump().await, dump, "row {number}, opened again");
    }
}

async fn a_batch_without_writes_only_checks(bench: &mut Bench) {
    assert_eq!(bench.store.commit(batch()).await, Ok(0));
    assert_eq!(bench.store.commit(batch().put("a", "1")).await, Ok(1));
    assert_eq!(bench.store.commit(batch().at("a", 1)).await, Ok(1));
    assert_eq!(bench.store.commit(batch().absent("a")).await, Err(CommitError::Conflict));
    assert_eq!(bench.dump().await, "a=1@1");
}

async fn pages_of_a_scan(bench: &mut Bench) {
    let keys: [&[u8]; 9] = [b"a", b"a/", b"a/1", b"a/2", b"a/2\x00", b"a/\xff", b"a0", b"\xff", b"\xff\xff"];
    let filled = keys.iter().fold(batch(), |batch, key| batch.put(*key, ""));
    bench.store.commit(filled).await.unwrap();
    let page = |page: ScanPage| page.rows.into_iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>().join(" ");
    type Row = (&'static [u8], Option<&'static [u8]>, usize, &'static str, &'static str);
    let rows: [Row; 13] = [
        (
            b"",
            None,
            100,
            r"a a/ a/1 a/2 a/2\x00 a/\xff a0 \xff \xff\xff",
            r"\xff\xff \xff a0 a/\xff a/2\x00 a/2 a/1 a/ a",
        ),
        (b"a/", None, 100, r"a/ a/1 a/2 a/2\x00 a/\xff", r"a/\xff a/2\x00 a/2 a/1 a/"),
        (b"a/", None, 2, "a/ a/1", r"a/\xff a/2\x00"),
        (b"a/", None, 0, "", ""),
        (b"a/", Some(b"a/1"), 2, r"a/2 a/2\x00", "a/"),
        (b"a/", Some(b"a/1x"), 2, r"a/2 a/2\x00", "a/1 a/"),
        (b"a/", Some(b"a/2"), 1, r"a/2\x00", "a/1"),
        (b"a/", Some(b"a"), 1, "a/", ""),
        (b"a/", Some(b"a0"), 9, "", r"a/\xff a/2\x00 a/2 a/1 a/"),
        (b"a/", Some(b"z"), 9, "", r"a/\xff a/2\x00 a/2 a/1 a/"),
        (b"\xff", None, 9, r"\xff \xff\xff", r"\xff\xff \xff"),
        (b"\xff\xff\xff", None, 9, "", ""),
        (b"b", None, 9, "", ""),
    ];
    for (prefix, from, limit, up, down) in rows {
        let (prefix, from) = (Key::from(prefix), from.map(Key::from));
        let got = bench.store.scan(&prefix, from.as_ref(), limit).await.unwrap();
        assert_eq!(page(got), up, "{prefix:?} after {from:?}");
        let got = bench.store.scan_back(&prefix, from.as_ref(), limit).await.unwrap();
        assert_eq!(page(got), down, "{prefix:?} before {from:?}");
    }
    let too_large = Err(ReadError::PageTooLarge { asked: SCAN_MAX + 1 });
    assert_eq!(bench.store.scan(&Key::from(""), None, SCAN_MAX + 1).await, too_large);
    assert_eq!(bench.store.scan_back(&Key::from(""), None, SCAN_MAX + 1).await, too_large);
    assert!(bench.store.scan(&Key::from(""), None, SCAN_MAX).await.is_ok());
}

/// Not all alike, so that a part in the wrong place is noticed.
fn bytes_of(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 7 + i / 251 + len) % 256).unwrap()).collect()
}

async fn every_size_of_value(bench: &mut Bench) {
    // around the places where the sled engine starts to store values in parts
    for len in [0, 1, 4082, 4083, 4084, 8179, 8180, 40_000, VALUE_MAX - 1, VALUE_MAX] {
        bench.store.commit(batch().put("it", bytes_of(len)).put(format!("kept/{len}"), bytes_of(len))).await.unwrap();
        bench.reopen().await;
        let keys = [Key::from("it"), Key::from("none"), Key::from(format!("kept/{len}")), Key::from("it")];
        let got = bench.store.read(&keys).await.unwrap();
        let got: Vec<_> = got.entries.into_iter().map(|entry| entry.map(|entry| entry.value)).collect();
        assert_eq!(got, [Some(bytes_of(len)), None, Some(bytes_of(len)), Some(bytes_of(len))], "{len}");
    }
    bench.store.commit(batch().delete("it")).await.unwrap();
    let rows = bench.store.scan(&Key::from(""), None, 100).await.unwrap().rows;
    assert_eq!(rows.len(), 10);
    assert!(rows.iter().all(|(key, entry)| key.to_string() == format!("kept/{}", entry.value.len())));
}

async fn what_is_refused_before_the_queue(bench: &mut Bench) {
    const ITEMS: usize = StoreLimits::EMBEDDED.batch_items;
    assert_eq!(bench.store.limits(), StoreLimits::EMBEDDED);
    let long = "k".repeat(KEY_MAX + 1);
    let large = vec![0; VALUE_MAX + 1];
    let many = || vec![Write::Delete(Key::from("x")); ITEMS + 1];
    let rows = [
        (batch().put("", "x"), InvalidBatch::EmptyKey),
        (batch().delete(""), InvalidBatch::EmptyKey),
        (batch().put(long.as_str(), "x"), InvalidBatch::KeyTooLong { len: KEY_MAX + 1 }),
        (batch().delete(long.as_str()), InvalidBatch::KeyTooLong { len: KEY_MAX + 1 }),
        (batch().put("x", large), InvalidBatch::ValueTooLarge { key: Key::from("x"), len: VALUE_MAX + 1 }),
        (Batch { expect: vec![], writes: many() }, InvalidBatch::TooManyItems { items: ITEMS + 1, most: ITEMS }),
        (
            Batch { expect: vec![Expect::Absent(Key::from("x")); ITEMS + 1], writes: vec![] },
            InvalidBatch::TooManyItems { items: ITEMS + 1, most: ITEMS },
        ),
        (
            Batch { expect: vec![], writes: vec![Write::Put(Key::from("x"), vec![0; VALUE_MAX]); 9] },
            InvalidBatch::TooLarge { bytes: 9 * (VALUE_MAX + 1), most: StoreLimits::EMBEDDED.batch_bytes },
        ),
    ];
    for (batch, want) in rows {
        assert_eq!(bench.store.commit(batch).await, Err(CommitError::Invalid(want)));
    }
    let most = (0..ITEMS).fold(batch(), |batch, n| batch.put(format!("{n:0>KEY_MAX$}"), "x"));
    assert_eq!(bench.store.commit(most).await, Ok(1));
    bench.reopen().await;
    assert_eq!(bench.store.scan(&Key::from("0"), None, SCAN_MAX).await.unwrap().rows.len(), SCAN_MAX);
}

fn written(version: Version, keys: &[&str]) -> Option<Change> {
    Some(Change::Written { version, keys: keys.iter().map(|key| Key::from(*key)).collect() })
}

async fn a_watch_tells_what_is_under_its_prefixes(bench: &mut Bench) {
    bench.store.commit(batch().put("locks/before", "")).await.unwrap();
    let mut locks = bench.store.watch(vec![Key::from("locks/")]);
    let mut two = bench.store.watch(vec![Key::from("other"), Key::from("locks/b")]);
    let mut all = bench.store.watch(vec![Key::from("")]);
    let mut none = bench.store.watch(vec![]);
    bench.store.commit(batch().put("locks/a", "").put("other", "").put("locks/b", "")).await.unwrap();
    bench.store.commit(batch().absent("other").put("locks/never", "")).await.unwrap_err();
    bench.store.commit(batch().delete("locks/a")).await.unwrap();
    bench.store.close().await;
    assert_eq!(locks.next().await, written(2, &["locks/a", "locks/b"]));
    assert_eq!(locks.next().await, written(3, &["locks/a"]));
    assert_eq!(locks.next().await, None);
    assert_eq!(two.next().await, written(2, &["other", "locks/b"]));
    assert_eq!(two.next().await, None);
    assert_eq!(all.next().await, written(2, &["locks/a", "other", "locks/b"]));
    assert_eq!(all.next().await, written(3, &["locks/a"]));
    assert_eq!(all.next().await, None);
    assert_eq!(none.next().await, None);
    assert_eq!(bench.store.watch(vec![Key::from("")]).next().await, None);
}

async fn a_slow_watcher_is_told_that_it_lags(bench: &mut Bench) {
    let mut slow = bench.store.watch(vec![Key::from("n")]);
    for n in 0..WATCH_BACKLOG + 10 {
        bench.store.commit(batch().put(format!("n{n}"), "")).await.unwrap();
    }
    assert_eq!(slow.next().await, Some(Change::Lagged));
    assert_eq!(slow.next().await, written(11, &["n10"]));
}

async fn a_page_ends_when_it_is_large(bench: &mut Bench) {
    let most = StoreLimits::EMBEDDED.page_bytes / VALUE_MAX;
    for n in 0..most + 3 {
        bench.store.commit(batch().put(format!("{n:04}"), bytes_of(VALUE_MAX))).await.unwrap();
    }
    let first = bench.store.scan(&Key::from(""), None, 100).await.unwrap();
    assert_eq!((first.rows.len(), first.more), (most, true));
    let rest = bench.store.scan(&Key::from(""), first.rows.last().map(|(key, _)| key), 100).await.unwrap();
    assert_eq!((rest.rows.len(), rest.more), (3, false));
    let back = bench.store.scan_back(&Key::from(""), None, 100).await.unwrap();
    assert_eq!((back.rows.len(), back.more), (most, true));
    assert_eq!(scan_all(&*bench.store, &Key::from("")).await.unwrap().len(), most + 3);
    let exactly = bench.store.scan(&Key::from(""), None, 2).await.unwrap();
    assert_eq!((exactly.rows.len(), exactly.more), (2, true));
}

async fn a_closed_store_says_so(bench: &mut Bench) {
    bench.store.commit(batch().put("a", "1")).await.unwrap();
    let waiting = bench.store.commit(batch().put("b", "2"));
    bench.store.close().await;
    bench.store.close().await;
    assert_eq!(waiting.await, Err(CommitError::Closed));
    assert_eq!(bench.store.commit(batch()).await, Err(CommitError::Closed));
    assert_eq!(bench.store.lease(SECOND, Duration::ZERO).await, Err(CommitError::Closed));
    assert_eq!(bench.store.read(&[Key::from("a")]).await, Err(ReadError::Closed));
    assert_eq!(bench.store.scan(&Key::from(""), None, 1).await, Err(ReadError::Closed));
    assert_eq!(bench.store.scan_back(&Key::from(""), None, 1).await, Err(ReadError::Closed));
}

/// Adds one to a number stored under `key`, over and over until it is not a conflict.
async fn increment(store: &dyn Store, key: &Key) {
    loop {
        let entry = store.read(std::slice::from_ref(key)).await.unwrap().entries.remove(0);
        let batch = match entry {
            None => batch().absent(key.clone()).put(key.clone(), "1"),
            Some(entry) => {
                let n: u64 = String::from_utf8(entry.value).unwrap().parse().unwrap();
                batch().at(key.clone(), entry.version).put(key.clone(), (n + 1).to_string())
            }
        };
        match store.commit(batch).await {
            Ok(_) => return,
            Err(CommitError::Conflict) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

async fn increments_are_never_lost(bench: &mut Bench) {
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let store = Arc::clone(&bench.store);
            tokio::spawn(async move {
                for round in 0..25 {
                    increment(&*store, &Key::from(format!("counter/{}", (task + round) % 3))).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    bench.reopen().await;
    let rows = bench.store.scan(&Key::from("counter/"), None, 9).await.unwrap().rows;
    let sum: u64 = rows.iter().map(|(_, entry)| String::from_utf8_lossy(&entry.value).parse::<u64>().unwrap()).sum();
    assert_eq!((rows.len(), sum), (3, 16 * 25));
    assert_eq!(bench.store.commit(batch()).await, Ok(16 * 25));
}

/// A writer keeps exactly one of ten places filled and two numbers equal; a reader must never see anything else.
async fn a_reader_never_sees_half_a_batch(bench: &mut Bench) {
    bench.store.commit(batch().put("at/0", "").put("x", "0").put("y", "0")).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, done) = (Arc::clone(&bench.store), Arc::clone(&done));
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(store.scan(&Key::from("at/"), None, 20).await.unwrap().rows.len(), 1);
                    assert_eq!(store.scan_back(&Key::from("at/"), None, 20).await.unwrap().rows.len(), 1);
                    let both = store.read(&[Key::from("x"), Key::from("y")]).await.unwrap();
                    assert_eq!(both.entries[0], both.entries[1]);
                    let x = both.entries[0].as_ref().map_or(0, |entry| entry.version);
                    assert!(x <= both.at, "{x} of {}", both.at);
                    let later = store.read(&[Key::from("x")]).await.unwrap();
                    assert!(later.at >= both.at);
                    assert!(later.at != both.at || later.entries[0] == both.entries[0], "two moments of one number");
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for n in 1..300 {
        let moved = batch().delete(format!("at/{}", (n - 1) % 10)).put(format!("at/{}", n % 10), bytes_of(n * 20));
        bench.store.commit(moved.put("x", n.to_string()).put("y", n.to_string())).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
}

/// Long keys and large values in every order: pages split and merge, parts come and go.
async fn values_that_change_size_over_and_over(bench: &mut Bench) {
    let key = |n: usize| format!("{:x<200}{:0>184}", n % 7, n);
    for round in 0..6 {
        for chunk in 0..20 {
            let write = |batch: Batch, i: usize| {
                let n = (chunk * 12 + i) * 37 % 240;
                match (n + round) % 5 {
                    0 => batch.delete(key(n)),
                    1 => batch.put(key(n), bytes_of(4083)),
                    2 => batch.put(key(n), bytes_of(60_000 + n)),
                    _ => batch.put(key(n), bytes_of(n)),
                }
            };
            bench.store.commit((0..12).fold(batch(), write)).await.unwrap();
        }
        bench.reopen().await;
        let rows = scan_all(&*bench.store, &Key::from("")).await.unwrap();
        assert_eq!(rows.len(), 240 / 5 * 4);
        for (key, entry) in rows {
            assert_eq!(entry.value, bytes_of(entry.value.len()), "{key}");
        }
    }
}

/// Our sync does not cover sled's `blobs/`, so it must stay empty.
#[track_caller]
fn no_page_left_the_log(bench: &Bench) {
    let blobs = std::fs::read_dir(bench.folder.path().join("sled/blobs")).unwrap();
    assert_eq!(blobs.count(), 0);
}

#[test]
fn sled_pages_full_of_the_largest_values_stay_in_the_log() {
    run(Engine::Sled, |bench| {
        Box::pin(async {
            for n in 0..60 {
                let pieces = |batch: Batch, i: usize| batch.put(format!("{i:x<384}"), bytes_of(4083 - n % 3));
                bench.store.commit((0..200).fold(batch(), pieces)).await.unwrap();
                bench.store.commit(batch().put(format!("{n}"), bytes_of(VALUE_MAX))).await.unwrap();
                no_page_left_the_log(bench);
            }
        })
    });
}

#[test]
fn sled_pages_full_of_the_longest_keys_stay_in_the_log() {
    run(Engine::Sled, |bench| {
        Box::pin(async {
            // neighbours in key order come far apart in time, and the keys have no long prefix in common
            let key = |n: usize| format!("{:04x}{:x<380}", n * 40_503 % 65_536, n);
            for start in (0..16_000).step_by(1000) {
                let keys = (start..start + 1000).fold(batch(), |batch, n| batch.put(key(n), "v"));
                bench.store.commit(keys).await.unwrap();
                no_page_left_the_log(bench);
            }
            for start in (0..16_000).step_by(1000) {
                let keys = (start..start + 1000).filter(|n| n % 9 > 0).fold(batch(), |batch, n| batch.delete(key(n)));
                bench.store.commit(keys).await.unwrap();
                no_page_left_the_log(bench);
            }
        })
    });
}

// Random histories against a model.

const KEYS: [&[u8]; 8] = [b"a", b"a/", b"a/b", b"a/b/c", b"b", b"b\xff", b"\xff", b"a/\x00"];

#[derive(Clone, Debug)]
enum Expected {
    Absent(usize),
    Current(usize),
    Version(usize, Version),
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Expected>, Vec<(usize, Option<(u8, usize)>)>),
    Scan(usize, Option<usize>, usize),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    let expected = prop_oneof![
        1 => key.clone().prop_map(Expected::Absent),
        3 => key.clone().prop_map(Expected::Current),
        1 => (key.clone(), 0..20u64).prop_map(|(key, version)| Expected::Version(key, version)),
    ];
    let len = prop_oneof![4 => 0..20usize, 1 => 4000..13_000usize];
    let write = (key.clone(), proptest::option::weighted(0.7, (any::<u8>(), len)));
    prop_oneof![
        8 => (prop::collection::vec(expected, 0..3), prop::collection::vec(write, 0..5))
            .prop_map(|(expect, writes)| Step::Commit(expect, writes)),
        4 => (key.clone(), proptest::option::of(key), 0..6usize)
            .prop_map(|(prefix, from, limit)| Step::Scan(prefix, from, limit)),
        1 => Just(Step::Reopen),
    ]
}

/// The simplest thing that can answer.
#[derive(Default)]
struct Model {
    rows: BTreeMap<Vec<u8>, (Version, Vec<u8>)>,
    commits: Version,
}

impl Model {
    fn batch(&self, expect: &[Expected], writes: &[(usize, Option<(u8, usize)>)]) -> (Batch, bool) {
        let mut batch = Batch::default();
        let mut holds = true;
        for expected in expect {
            let (key, want) = match expected {
                Expected::Absent(key) => (*key, None),
                Expected::Current(key) => (*key, self.rows.get(KEYS[*key]).map(|(version, _)| *version)),
                Expected::Version(key, version) => (*key, Some(*version)),
            };
            holds &= self.rows.get(KEYS[key]).map(|(version, _)| *version) == want;
            batch = match want {
                None => batch.absent(KEYS[key]),
                Some(version) => batch.at(KEYS[key], version),
            };
        }
        for (key, value) in writes {
            batch = match value {
                None => batch.delete(KEYS[*key]),
                Some((byte, len)) => batch.put(KEYS[*key], vec![*byte; *len]),
            };
        }
        (batch, holds)
    }

    fn apply(&mut self, batch: &Batch) -> Version {
        if !batch.writes.is_empty() {
            self.commits += 1;
        }
        for write in &batch.writes {
            match write {
                Write::Put(key, value) | Write::PutLeased(key, value, _) => {
                    drop(self.rows.insert(key.as_bytes().to_vec(), (self.commits, value.clone())))
                }
                Write::Delete(key) => drop(self.rows.remove(key.as_bytes())),
            }
        }
        self.commits
    }

    fn under(&self, prefix: &[u8]) -> Rows {
        let rows = self.rows.iter().filter(|(key, _)| key.starts_with(prefix));
        let entry =
            |(version, value): &(Version, Vec<u8>)| Entry { version: *version, value: value.clone(), damage: None };
        rows.map(|(key, stored)| (Key::from(key.clone()), entry(stored))).collect()
    }
}

/// The page that such a scan is to give.
fn first(mut rows: Rows, limit: usize) -> ScanPage {
    let more = limit > 0 && rows.len() > limit;
    rows.truncate(limit);
    ScanPage { rows, more }
}

async fn compare(engine: Engine, steps: Vec<Step>) {
    let mut bench = Bench::new(engine);
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Commit(expect, writes) => {
                let (batch, holds) = model.batch(&expect, &writes);
                let want = if holds { Ok(model.apply(&batch)) } else { Err(CommitError::Conflict) };
                assert_eq!(bench.store.commit(batch).await, want);
            }
            Step::Scan(prefix, from, limit) => {
                let (prefix, from) = (Key::from(KEYS[prefix]), from.map(|from| Key::from(KEYS[from])));
                let mut want = model.under(prefix.as_bytes());
                let mut back: Rows = want.iter().rev().cloned().collect();
                if let Some(from) = &from {
                    want.retain(|(key, _)| key > from);
                    back.retain(|(key, _)| key < from);
                }
                assert_eq!(bench.store.scan(&prefix, from.as_ref(), limit).await, Ok(first(want, limit)));
                assert_eq!(bench.store.scan_back(&prefix, from.as_ref(), limit).await, Ok(first(back, limit)));
            }
            Step::Reopen => bench.reopen().await,
        }
        let keys = KEYS.map(Key::from);
        let want: Vec<_> = KEYS.map(|key| model.under(key).into_iter().find(|(k, _)| k.as_bytes() == key)).into();
        let want: Vec<_> = want.into_iter().map(|row| row.map(|(_, entry)| entry)).collect();
        assert_eq!(bench.store.read(&keys).await, Ok(Snapshot { at: model.commits, entries: want }));
    }
    bench.reopen().await;
    assert_eq!(bench.store.scan(&Key::from(""), None, 100).await, Ok(first(model.under(b""), 100)));
    bench.store.close().await;
}

fn random_histories(engine: Engine, cases: u32) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in prop::collection::vec(step(), 1..40))| {
        block_on(compare(engine, steps));
    });
}

#[test]
fn random_histories_in_memory() {
    random_histories(Engine::Memory, 200);
}

#[test]
fn random_histories_in_sled() {
    random_histories(Engine::Sled, 25);
}

#[test]
fn random_histories_in_redb() {
    random_histories(Engine::Redb, 25);
}
