//! The writer thread on an engine whose every step can be blocked or made to fail.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
    mpsc as std_mpsc,
};

use super::*;
use crate::store::{Change, Rows, engine::RawRows};

/// What the next sync does. Without an instruction it succeeds.
enum Sync {
    /// Send on the first channel, then wait for the second.
    Hold(std_mpsc::Sender<()>, std_mpsc::Receiver<()>),
    Fail(EngineError),
    Panic,
}

#[derive(Default)]
struct Inner {
    rows: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    next_sync: Mutex<Option<Sync>>,
    next_apply: Mutex<Option<EngineError>>,
    syncs: AtomicUsize,
}

#[derive(Clone, Default)]
struct Fake(Arc<Inner>);

impl DiskEngine for Fake {
    type View = Self;

    fn view(&self) -> Result<Self, EngineError> {
        Ok(self.clone())
    }

    fn apply(&self, writes: &Writes) -> Result<(), EngineError> {
        if let Some(fault) = self.0.next_apply.lock().unwrap().take() {
            return Err(fault);
        }
        let mut rows = self.0.rows.lock().unwrap();
        for (key, change) in writes.clone() {
            match change.after {
                Some(value) => drop(rows.insert(key, value)),
                None => drop(rows.remove(&key)),
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.0.syncs.fetch_add(1, Ordering::Relaxed);
        let next = self.0.next_sync.lock().unwrap().take();
        match next {
            None => Ok(()),
            Some(Sync::Hold(there, word)) => {
                there.send(()).unwrap();
                word.recv().unwrap();
                Ok(())
            }
            Some(Sync::Fail(fault)) => Err(fault),
            Some(Sync::Panic) => panic!("as told"),
        }
    }
}

impl View for Fake {
    type Bytes = Vec<u8>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.0.rows.lock().unwrap().get(key).cloned())
    }

    fn rows<'a>(&'a self, span: &Span, order: Direction) -> Result<RawRows<'a, Vec<u8>>, EngineError> {
        let rows = self.0.rows.lock().unwrap();
        let rows: Vec<_> = rows.range::<[u8], _>(span.bounds()).map(|(k, v)| Ok((k.clone(), v.clone()))).collect();
        Ok(match order {
            Direction::Ascending => Box::new(rows.into_iter()),
            Direction::Descending => Box::new(rows.into_iter().rev()),
        })
    }

    fn assemble(&self, raw: Vec<u8>) -> Result<Vec<u8>, EngineError> {
        Ok(raw)
    }
}

fn start() -> (Fake, Grouped<Fake>) {
    let fake = Fake::default();
    let store = Grouped::start(fake.clone(), Totals::default().into(), None).unwrap();
    (fake, store)
}

impl Fake {
    /// Blocks the next sync. Returns a channel that receives when the sync is reached, and one that lets it continue.
    fn hold(&self) -> (std_mpsc::Receiver<()>, std_mpsc::Sender<()>) {
        let (there, is_there) = std_mpsc::channel();
        let (go, word) = std_mpsc::channel();
        *self.0.next_sync.lock().unwrap() = Some(Sync::Hold(there, word));
        (is_there, go)
    }
}

fn batch() -> Batch {
    Batch::default()
}

async fn seen(store: &dyn Store) -> [String; 3] {
    let show = |rows: Rows| {
        let one = |(key, entry): &(Key, Entry)| format!("{key}={}", String::from_utf8_lossy(&entry.value));
        rows.iter().map(one).collect::<Vec<_>>().join(" ")
    };
    let keys = ["a", "b", "c", "d", "e"].map(Key::from);
    let read = store.read(&keys).await.unwrap().entries;
    let read = keys.into_iter().zip(read).filter_map(|(key, entry)| Some((key, entry?))).collect();
    let all = Key::from("");
    [
        show(read),
        show(store.scan(&all, None, 9).await.unwrap().rows),
        show(store.scan_back(&all, None, 9).await.unwrap().rows),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_shown_before_it_is_durable() {
    let (fake, store) = start();
    store.commit(batch().put("a", "1").put("b", "1").put("d", "1")).await.unwrap();
    let mut watch = store.watch(vec![Key::from("")]);
    let before = ["a=1 b=1 d=1", "a=1 b=1 d=1", "d=1 b=1 a=1"];
    let after = ["b=2 c=2 d=1 e=2", "b=2 c=2 d=1 e=2", "e=2 d=1 c=2 b=2"];
    assert_eq!(seen(&store).await, before);

    let (is_there, go) = fake.hold();
    let commit = tokio::spawn(store.commit(batch().delete("a").put("b", "2").put("c", "2").put("e", "2")));
    is_there.recv().unwrap();
    assert_eq!(fake.0.rows.lock().unwrap().len(), 5, "the engine has it already: b c d e and the totals");
    assert_eq!(seen(&store).await, before);
    assert_eq!(store.scan(&Key::from("c"), None, 9).await.unwrap().rows, []);
    assert_eq!(store.scan(&Key::from(""), Some(&Key::from("a")), 1).await.unwrap().rows[0].0, Key::from("b"));
    assert_eq!(store.scan_back(&Key::from(""), Some(&Key::from("b")), 1).await.unwrap().rows[0].0, Key::from("a"));
    let told = tokio::spawn(async move { watch.next().await });
    tokio::task::yield_now().await;
    assert!(!commit.is_finished() && !told.is_finished());

    go.send(()).unwrap();
    assert_eq!(commit.await.unwrap(), Ok(2));
    assert_eq!(seen(&store).await, after);
    assert_eq!(
        told.await.unwrap(),
        Some(Change::Written { version: 2, keys: ["a", "b", "c", "e"].map(Key::from).to_vec() })
    );
}

/// All batches queued behind a blocked sync become one group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_decided_in_order_and_synced_once() {
    let (fake, store) = start();
    let (is_there, go) = fake.hold();
    let first = tokio::spawn(store.commit(batch().put("first", "")));
    is_there.recv().unwrap();
    let rows = [
        (batch().absent("x").put("x", "1"), Ok(2)),
        (batch().absent("x").put("x", "2"), Err(CommitError::Conflict)),
        (batch().at("x", 2), Ok(2)),
        (batch().at("x", 2).delete("x"), Ok(3)),
        (batch().at("x", 2).put("x", "3"), Err(CommitError::Conflict)),
        (batch().absent("x").put("x", "4"), Ok(4)),
        (batch().at("x", 4).put("y", "5"), Ok(5)),
    ];
    let mut answers = Vec::new();
    for (batch, want) in rows {
        let mut answer = store.commit(batch);
        // one poll puts it into the queue, so that the test decides the order
        assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(answer.as_mut().poll(cx).is_pending())).await);
        answers.push((answer, want));
    }
    go.send(()).unwrap();
    assert_eq!(first.await.unwrap(), Ok(1));
    for (answer, want) in answers {
        assert_eq!(answer.await, want);
    }
    assert_eq!(fake.0.syncs.load(Ordering::Relaxed), 2);
    let x = store.read(&[Key::from("x")]).await.unwrap().entries.remove(0).unwrap();
    assert_eq!((x.version, x.value), (4, b"4".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_makes_committers_wait_and_loses_nobody() {
    let (fake, store) = start();
    let (is_there, go) = fake.hold();
    let first = tokio::spawn(store.commit(batch().put("first", "")));
    is_there.recv().unwrap();
    let commits: Vec<_> =
        (0..QUEUE_MAX + 50).map(|n| tokio::spawn(store.commit(batch().put(format!("k{n}"), "")))).collect();
    while store.queue.capacity() > 0 {
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    first.await.unwrap().unwrap();
    let mut versions = Vec::new();
    for commit in commits {
        versions.push(commit.await.unwrap().unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (2..=(QUEUE_MAX + 51) as u64).collect::<Vec<_>>());
    let syncs = fake.0.syncs.load(Ordering::Relaxed);
    assert!((1 + (QUEUE_MAX + 50).div_ceil(GROUP_MAX)..QUEUE_MAX / 2).contains(&syncs), "{syncs}");
}

/// `spoil` makes the second commit fail; two committers share its group or follow it.
#[track_caller]
fn check_fatal(spoil: impl FnOnce(&Inner), want: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let (fake, store) = start();
        store.commit(batch().put("a", "1")).await.unwrap();
        let mut watch = store.watch(vec![Key::from("")]);
        spoil(&fake.0);
        let got = store.commit(batch().put("a", "2")).await;
        assert!(matches!(&got, Err(CommitError::Unknown(why)) if why.contains(want)), "{got:?}");
        assert_eq!(store.commit(batch().put("a", "3")).await, Err(CommitError::Closed));
        assert_eq!(store.commit(batch()).await, Err(CommitError::Closed));
        assert_eq!(store.read(&[Key::from("a")]).await, Err(ReadError::Closed));
        assert_eq!(store.scan(&Key::from("a"), None, 1).await, Err(ReadError::Closed));
        assert_eq!(watch.next().await, None);
        store.close().await;
        assert_eq!(Arc::strong_count(&fake.0), 1, "the engine was let go");
    });
}

#[test]
fn any_fault_is_final() {
    let full = || EngineError::Full("writing".to_owned());
    check_fatal(|inner| *inner.next_sync.lock().unwrap() = Some(Sync::Fail(full())), "no space left");
    check_fatal(|inner| *inner.next_apply.lock().unwrap() = Some(full()), "no space left");
    check_fatal(|inner| *inner.next_sync.lock().unwrap() = Some(Sync::Panic), "panicked: as told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_answers_the_whole_group_and_all_behind_it() {
    let (fake, store) = start();
    let (is_there, go) = fake.hold();
    let first = tokio::spawn(store.commit(batch().put("first", "")));
    is_there.recv().unwrap();
    let commits: Vec<_> =
        (0..GROUP_MAX + 20).map(|_| tokio::spawn(store.commit(batch().absent("x").put("x", "")))).collect();
    while store.queue.capacity() > QUEUE_MAX - GROUP_MAX - 20 {
        tokio::task::yield_now().await;
    }
    *fake.0.next_apply.lock().unwrap() = Some(EngineError::Io("as told".to_owned()));
    go.send(()).unwrap();
    assert_eq!(first.await.unwrap(), Ok(1));
    let mut unknown = 0;
    let mut closed = 0;
    for commit in commits {
        match commit.await.unwrap() {
            // not even the conflicts are answered as such: they depend on a batch that was lost
            Err(CommitError::Unknown(_)) => unknown += 1,
            Err(CommitError::Closed) => closed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((unknown, closed), (GROUP_MAX, 20));
}

#[tokio::test]
async fn a_damaged_record_is_named() {
    let (fake, store) = start();
    store.commit(batch().put("a", "1").put("b", "2")).await.unwrap();
    fake.0.rows.lock().unwrap().get_mut(&row_key(b"a")).unwrap()[record::HEADER] ^= 1;
    let got = store.read(&[Key::from("b"), Key::from("a")]).await.unwrap().entries;
    let damaged: Vec<bool> = got.iter().flatten().map(|entry| entry.damage.is_some()).collect();
    assert_eq!(damaged, [false, true]);
    let got = store.scan(&Key::from(""), None, 5).await.unwrap().rows;
    let damaged: Vec<bool> = got.iter().map(|(_, entry)| entry.damage.is_some()).collect();
    assert_eq!(damaged, [true, false]);
    // It can be replaced like any other, even if its version cannot be read.
    fake.0.rows.lock().unwrap().get_mut(&row_key(b"a")).unwrap().truncate(3);
    let version = store.read(&[Key::from("a")]).await.unwrap().entries[0].as_ref().unwrap().version;
    store.commit(batch().at("a", version).put("a", "3")).await.unwrap();
    let entry = store.read(&[Key::from("a")]).await.unwrap().entries.remove(0).unwrap();
    assert_eq!((entry.value, entry.damage), (b"3".to_vec(), None));
}

#[tokio::test]
async fn a_dropped_store_stops_its_writer() {
    let (fake, store) = start();
    store.commit(batch().put("a", "1")).await.unwrap();
    let mut closed = store.closed.clone();
    drop(store);
    closed.wait_for(|closed| *closed).await.unwrap();
    assert_eq!(Arc::strong_count(&fake.0), 1);
}
