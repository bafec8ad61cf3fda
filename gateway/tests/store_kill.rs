//! What was acknowledged survives SIGKILL, and nothing is ever there by half.
//!
//! The test runs itself again as a writer, kills it at a random moment, opens the store and compares every row with the one
//! state the writers' counters allow. `LYCHGATE_KILLS` sets how often, per engine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    hash::BuildHasher,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use gateway::store::{Batch, Engine, Key, Store, open, scan_all};

/// Set for the child: the engine and the folder, with a colon between.
const WRITER: &str = "LYCHGATE_KILL_WRITER";

/// Writers in the child.
const WRITERS: usize = 4;

/// Each writer keeps this many records and removes the one before, so that space is reclaimed under the kills.
const KEPT: u64 = 100;

const CACHE_MIB: u64 = 8;

fn record(who: usize, n: u64) -> Vec<u8> {
    // every eighth is stored in parts by sled
    let len = if n.is_multiple_of(8) { 9_000 } else { 1_500 };
    format!("{who}/{n};").into_bytes().into_iter().cycle().take(len).collect()
}

/// What the store holds when a writer has got as far as `n`.
fn state(who: usize, n: u64) -> BTreeMap<Key, Vec<u8>> {
    let mut rows = BTreeMap::new();
    if n > 0 {
        rows.insert(Key::from(format!("count/{who}")), n.to_string().into_bytes());
    }
    for n in n.saturating_sub(KEPT - 1).max(1)..=n {
        rows.insert(Key::from(format!("record/{who}/{n}")), record(who, n));
        rows.insert(Key::from(format!("index/{n}/{who}")), Vec::new());
    }
    rows
}

async fn counter(store: &dyn Store, who: usize) -> (u64, Option<u64>) {
    let entry = store.read(&[Key::from(format!("count/{who}"))]).await.unwrap().entries.remove(0);
    match entry {
        Some(entry) => (String::from_utf8(entry.value).unwrap().parse().unwrap(), Some(entry.version)),
        None => (0, None),
    }
}

/// Commits for ever; tells every commit only after it was acknowledged.
async fn write_on(store: std::sync::Arc<dyn Store>, who: usize) {
    let count = Key::from(format!("count/{who}"));
    let (mut n, mut version) = counter(&*store, who).await;
    loop {
        n += 1;
        let batch = match version {
            Some(version) => Batch::default().at(count.clone(), version),
            None => Batch::default().absent(count.clone()),
        };
        let mut batch = batch
            .put(count.clone(), n.to_string())
            .put(format!("record/{who}/{n}"), record(who, n))
            .put(format!("index/{n}/{who}"), "");
        if n > KEPT {
            let old = n - KEPT;
            batch = batch.delete(format!("record/{who}/{old}")).delete(format!("index/{old}/{who}"));
        }
        version = Some(store.commit(batch).await.unwrap());
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nacked {who} {n}").unwrap();
        out.flush().unwrap();
    }
}

/// The child. Without the variable it is a test that does nothing.
#[test]
fn writer() {
    let Ok(told) = std::env::var(WRITER) else { return };
    let (engine, path) = told.split_once(':').unwrap();
    let store = open(engine.parse().unwrap(), Path::new(path), CACHE_MIB).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let writers: Vec<_> = (0..WRITERS).map(|who| tokio::spawn(write_on(store.clone(), who))).collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

fn below(most: u64) -> u64 {
    RandomState::new().hash_one(most) % most
}

/// Runs a writer and kills it: sometimes while it opens, mostly in full flow. Gives the newest acknowledgements.
fn run_and_kill(engine: Engine, path: &Path, round: u64) -> [u64; WRITERS] {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--nocapture"])
        .env(WRITER, format!("{engine}:{}", path.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (first, flowing) = mpsc::channel();
    let listener = thread::spawn(move || {
        let mut acked = [0; WRITERS];
        // the last line may be cut off in the middle; it then stands for a smaller number, which claims less
        for line in stdout.lines() {
            let line = line.unwrap();
            let Some((who, n)) = line.strip_prefix("acked ").and_then(|rest| rest.split_once(' ')) else { continue };
            if let (Ok(who), Ok(n)) = (who.parse::<usize>(), n.parse::<u64>()) {
                acked[who] = acked[who].max(n);
                let _ = first.send(());
            }
        }
        acked
    });
    if round.is_multiple_of(3) {
        thread::sleep(Duration::from_micros(below(60_000)));
    } else {
        let _ = flowing.recv_timeout(Duration::from_secs(60));
        thread::sleep(Duration::from_micros(below(400_000)));
    }
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_none(), "the writer ended by itself: {stderr}");
    listener.join().unwrap()
}

async fn verify(engine: Engine, path: &Path, acked: &[u64; WRITERS]) -> [u64; WRITERS] {
    let store = open(engine, path, CACHE_MIB).unwrap();
    let mut want = BTreeMap::new();
    let mut reached = [0; WRITERS];
    for who in 0..WRITERS {
        (reached[who], _) = counter(&*store, who).await;
        assert!(reached[who] >= acked[who], "writer {who}: {} was acknowledged, {} is there", acked[who], reached[who]);
        want.extend(state(who, reached[who]));
    }
    let rows = scan_all(&*store, &Key::from("")).await.unwrap();
    let got: BTreeMap<_, _> = rows.into_iter().map(|(key, entry)| (key, entry.value)).collect();
    let missing: Vec<_> = want.keys().filter(|key| !got.contains_key(*key)).collect();
    let extra: Vec<_> = got.keys().filter(|key| !want.contains_key(*key)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, too many {extra:?}");
    assert!(got == want, "a record is not what was written");
    store.close().await;
    reached
}

fn survives_kills(engine: Engine) {
    let kills = std::env::var("LYCHGATE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(15);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut reached = [0; WRITERS];
    for round in 0..kills {
        let acked = run_and_kill(engine, &path, round);
        let acked: [u64; WRITERS] = std::array::from_fn(|who| acked[who].max(reached[who]));
        reached = runtime.block_on(verify(engine, &path, &acked));
    }
    let total: u64 = reached.iter().sum();
    eprintln!("{engine}: {kills} kills, {total} commits, none lost");
    assert!(total > 0);
}

#[test]
fn sled_survives_kills() {
    survives_kills(Engine::Sled);
}

#[test]
fn redb_survives_kills() {
    survives_kills(Engine::Redb);
}
