//! Exports that import completely, and files that are refused.

use std::{io::Cursor, sync::Arc};

use super::*;
use crate::store::{Engine, Entry, Rows, open, scan_all};

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

/// A fresh store in a folder that lives as long as the guard.
fn fresh(engine: Engine) -> (tempfile::TempDir, Arc<dyn Store>) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(engine, folder.path(), 8).unwrap();
    (folder, store)
}

async fn fill(store: &dyn Store) {
    let mut batch = Batch::default()
        .put("text", "gr\u{fc}\u{df} \"quoted\" \\ \n \u{0}")
        .put("empty", "")
        .put("binary", vec![0xff, 0, 0x80])
        .put(vec![0xfe, b'k'], "binary key")
        .put("large", vec![7; VALUE_MAX])
        .put("escaped", vec![1; VALUE_MAX]);
    for n in 0..900 {
        batch = batch.put(format!("many/{n:04}"), format!("value {n}"));
    }
    store.commit(batch).await.unwrap();
    let more = (0..1000).fold(Batch::default(), |batch, n| batch.put(format!("more/{n}"), vec![b'x'; n]));
    store.commit(more).await.unwrap();
    store.commit(Batch::default().delete("more/7").put("more/8", "again")).await.unwrap();
}

fn bare(rows: Rows) -> Vec<(Key, Vec<u8>)> {
    rows.into_iter().map(|(key, Entry { value, .. })| (key, value)).collect()
}

async fn contents(store: &dyn Store) -> Vec<(Key, Vec<u8>)> {
    bare(scan_all(store, &Key::from("")).await.unwrap())
}

#[track_caller]
fn check_move(from: Engine, to: Engine) {
    let (_a, source) = fresh(from);
    let (folder, target) = fresh(to);
    block_on(async {
        fill(&*source).await;
        let mut file = Vec::new();
        let exported = export(&*source, "2026-01-02T03:04:05Z", &mut file).await.unwrap();
        assert_eq!(exported.records, 1905);
        assert_eq!(import(&*target, &mut Cursor::new(&file), |_, _| ImportDecision::Take).await.unwrap(), exported);
        assert_eq!(contents(&*target).await, contents(&*source).await);

        // the same lines come out again, whichever engine they went through
        let mut again = Vec::new();
        export(&*target, "2026-01-02T03:04:05Z", &mut again).await.unwrap();
        assert!(again == file);

        let refused = import(&*target, &mut Cursor::new(&file), |_, _| ImportDecision::Take).await;
        assert!(matches!(refused, Err(ImportError::NotEmpty)), "{refused:?}");

        // versions start at 1 again and still only grow
        let key = Key::from("text");
        let version = target.read(std::slice::from_ref(&key)).await.unwrap().entries.remove(0).unwrap().version;
        assert!(target.commit(Batch::default().at("text", version).put("text", "new")).await.unwrap() > version);
        target.close().await;
        source.close().await;
        if to != Engine::Memory {
            let target = open(to, folder.path(), 8).unwrap();
            assert_eq!(contents(&*target).await.len(), 1905);
            target.close().await;
        }
    });
}

#[test]
fn from_every_engine_to_every_other() {
    for (from, to) in [
        (Engine::Memory, Engine::Sled),
        (Engine::Sled, Engine::Redb),
        (Engine::Redb, Engine::Sled),
        (Engine::Redb, Engine::Memory),
    ] {
        check_move(from, to);
    }
}

#[test]
fn an_empty_store_moves_too() {
    let (_a, source) = fresh(Engine::Memory);
    let (_b, target) = fresh(Engine::Memory);
    block_on(async {
        let mut file = Vec::new();
        export(&*source, "now", &mut file).await.unwrap();
        let want = r#"{"lychgate_store_export":1,"exported_at":"now"}"#;
        assert_eq!(str::from_utf8(&file).unwrap().lines().next().unwrap(), want);
        assert_eq!(import(&*target, &mut Cursor::new(&file), |_, _| ImportDecision::Take).await.unwrap().records, 0);
        assert_eq!(contents(&*target).await, []);
    });
}

/// Expects an export of two records, after `spoil`, to be refused with nothing imported.
#[track_caller]
fn check_refused(spoil: impl FnOnce(String) -> String, want: &str) {
    let (_a, source) = fresh(Engine::Memory);
    let (_b, target) = fresh(Engine::Memory);
    block_on(async {
        source.commit(Batch::default().put("a", "1").put("b", "2")).await.unwrap();
        let mut file = Vec::new();
        export(&*source, "now", &mut file).await.unwrap();
        let file = spoil(String::from_utf8(file).unwrap());
        let got = import(&*target, &mut Cursor::new(file), |_, _| ImportDecision::Take).await.unwrap_err().to_string();
        assert!(got.contains(want), "{got}");
        assert_eq!(contents(&*target).await, []);
        assert_eq!(target.commit(Batch::default()).await, Ok(0));
    });
}

fn lines(file: &str, keep: &[usize]) -> String {
    let all: Vec<_> = file.split_inclusive('\n').collect();
    keep.iter().map(|line| all[*line]).collect()
}

#[test]
fn a_file_that_is_not_whole_is_refused() {
    check_refused(|file| lines(&file, &[0, 1, 2]), "cut short after line 3");
    check_refused(|file| lines(&file, &[0, 1]), "cut short after line 2");
    check_refused(|file| file[..file.len() - 1].to_owned(), "cut short after line 3");
    check_refused(|file| file[..60].to_owned(), "cut short after line 1");
    check_refused(|_| String::new(), "cut short after line 0");
    check_refused(|file| lines(&file, &[0, 1, 3]), "says 2 records and has 1");
    check_refused(|file| file.clone() + &file, "more after its last line");
}

#[test]
fn a_file_that_was_altered_is_refused() {
    check_refused(|file| file.replace(r#""1""#, r#""9""#), "altered: its lines have the sum");
    check_refused(|file| file.replace("now", "then"), "altered: its lines have the sum");
    check_refused(|file| file.replace(r#""records":2"#, r#""records":3"#), "says 3 records and has 2");
    check_refused(|file| lines(&file, &[0, 2, 1, 3]), "out of order");
    check_refused(|file| lines(&file, &[0, 1, 1, 3]), "out of order or there twice");
    check_refused(|file| lines(&file, &[1, 2, 3]), "line 1 of the export: not an export");
}

#[test]
fn a_file_of_another_kind_is_refused() {
    check_refused(|_| "hello\n".to_owned(), "line 1 of the export: not an export");
    check_refused(|file| file.replace("export\":1", "export\":2"), "has format 2, this version knows formats up to 1");
    check_refused(|file| file.replace("export\":1", "export\":0"), "there is no export format 0");
    check_refused(|file| file.replace(r#""value":"1""#, r#""value_hex":"0g""#), "line 2 of the export: value_hex");
    check_refused(|file| file.replace(r#""value":"1""#, r#""more":"1""#), "neither a record nor the last line");
    check_refused(|file| file.replace(r#","value":"1""#, ""), "neither value nor value_hex");
    check_refused(|file| file.replace(r#""value":"1""#, r#""value":"1","value_hex":"00""#), "both value and value_hex");
    check_refused(|file| file.replace(r#""key":"a""#, r#""key":"""#), "a key is empty");
    check_refused(|file| file.replace(r#""key":"a""#, &format!(r#""key":"{IMPORT_MARK}""#)), "did not finish");
    check_refused(
        |file| file.replace(r#""1""#, &format!(r#""{}""#, "1".repeat(LINE_MAX))),
        "line 2 of the export: longer",
    );
}
