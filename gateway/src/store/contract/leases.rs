//! Leases: entries written with one exist as long as it is kept alive.

use super::*;
use crate::store::LeaseId;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A lease of ten seconds, from the second `at`.
async fn lease(bench: &Bench, at: u32) -> LeaseId {
    bench.store.lease(10 * SECOND, at * SECOND).await.unwrap()
}

async fn passes(bench: &Bench, until: u32) {
    bench.store.lapse(until * SECOND).await.unwrap();
}

pub(super) async fn what_is_leased_goes_with_its_lease(bench: &mut Bench) {
    let (one, two) = (lease(bench, 100).await, lease(bench, 105).await);
    assert_ne!(one, two);
    bench.store.commit(batch().put_leased("t/a", "1", one).put("kept", "2")).await.unwrap();
    bench.store.commit(batch().put_leased("t/b", "3", two)).await.unwrap();
    bench.store.commit(batch().at("t/a", 1).put_leased("t/a", "4", one)).await.unwrap();
    let mut watch = bench.store.watch(vec![Key::from("t/")]);
    passes(bench, 109).await;
    assert_eq!(bench.dump().await, "kept=2@1 t/a=4@3 t/b=3@2");
    passes(bench, 110).await;
    assert_eq!(bench.dump().await, "kept=2@1 t/b=3@2");
    assert_eq!(watch.next().await, written(4, &["t/a"]));
    bench.store.revoke(two).await.unwrap();
    bench.store.revoke(two).await.unwrap();
    assert_eq!(bench.dump().await, "kept=2@1");
    assert_eq!(watch.next().await, written(5, &["t/b"]));
    assert_eq!(bench.store.commit(batch().absent("t/a").put("t/a", "5")).await, Ok(6));
}

pub(super) async fn a_lease_that_is_kept_stands(bench: &mut Bench) {
    let kept = lease(bench, 0).await;
    bench.store.commit(batch().put_leased("a", "1", kept)).await.unwrap();
    for at in [9, 18, 27] {
        assert_eq!(bench.store.keep_alive(kept, at * SECOND).await, Ok(()));
        passes(bench, at).await;
    }
    // `lapse` has not been called yet, and the lease has ended all the same.
    assert_eq!(bench.store.keep_alive(kept, 37 * SECOND).await, Err(CommitError::Lapsed));
    assert_eq!(bench.dump().await, "a=1@1");
    passes(bench, 37).await;
    assert_eq!(bench.dump().await, "");
}

pub(super) async fn what_was_written_anew_outlives_the_lease(bench: &mut Bench) {
    let (before, after) = (lease(bench, 0).await, lease(bench, 5).await);
    let all = ["plain", "moved", "gone"];
    bench.store.commit(all.iter().fold(batch(), |batch, key| batch.put_leased(*key, "1", before))).await.unwrap();
    bench.store.commit(batch().put("plain", "2").put_leased("moved", "2", after).delete("gone")).await.unwrap();
    bench.store.commit(batch().put("gone", "3").put("both", "3").put_leased("both", "4", after)).await.unwrap();
    passes(bench, 10).await;
    assert_eq!(bench.dump().await, "both=4@3 gone=3@3 moved=2@2 plain=2@2");
    passes(bench, 15).await;
    assert_eq!(bench.dump().await, "gone=3@3 plain=2@2");
}

pub(super) async fn a_lease_that_is_over_takes_nothing(bench: &mut Bench) {
    let over = lease(bench, 0).await;
    passes(bench, 10).await;
    for lease in [over, LeaseId(77)] {
        let refused = bench.store.commit(batch().put("x", "").put_leased("a", "1", lease)).await;
        assert_eq!(refused, Err(CommitError::Lapsed));
        assert_eq!(bench.store.keep_alive(lease, SECOND).await, Err(CommitError::Lapsed));
    }
    // A failed expectation is reported before a lapsed lease.
    let refused = bench.store.commit(batch().at("x", 1).put_leased("a", "1", over)).await;
    assert_eq!(refused, Err(CommitError::Conflict));
    assert_eq!(bench.dump().await, "");
}

pub(super) async fn leases_end_with_the_process(bench: &mut Bench) {
    let held = lease(bench, 0).await;
    bench.store.commit(batch().put_leased("a", "1", held).put("b", "2")).await.unwrap();
    bench.store.commit(batch().put_leased("c", bytes_of(9000), held)).await.unwrap();
    bench.reopen().await;
    if bench.engine == Engine::Memory {
        return; // its process has not ended
    }
    assert_eq!(bench.dump().await, "b=2@1");
    assert_eq!(bench.store.keep_alive(held, SECOND).await, Err(CommitError::Lapsed));
    let fresh = lease(bench, 0).await;
    bench.store.commit(batch().absent("a").put_leased("a", "3", fresh)).await.unwrap();
    bench.reopen().await;
    assert_eq!(bench.dump().await, "b=2@1");
}
