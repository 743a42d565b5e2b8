//! Holders who keep their lease, and those who lost it.

use std::{pin::pin, sync::Arc, thread};

use futures::{FutureExt as _, future::join_all};
use tokio::runtime::{Builder, Runtime};

use super::{
    PATIENCE, Subject,
    build::{assert_kind, at, claim, due, full, id, insert_all, plain, queue, read},
};
use crate::{
    clock::Timestamp,
    error::ErrorKind,
    id::{Epoch, RunId},
    store::{Change, Claim, Expect, Record, Store},
};

async fn holder(store: &dyn Store, id: RunId, now: Timestamp) -> Record {
    let given = store.claim(claim(now)).await.expect("claim");
    assert_eq!(given.len(), 1);
    assert_eq!(given[0].id, id);
    given.into_iter().next().expect("one record")
}

/// Nobody claims the run before the new end of the lease; at that moment somebody can.
pub async fn a_renewal_moves_the_lease_and_the_due_time(subject: Subject) {
    let store = subject.provisioned().await;
    store.insert(due(id(1), at(0))).await.expect("insert");
    let held = holder(&*store, id(1), at(0)).await;
    store.renew(id(1), held.epoch, at(200_000)).await.expect("renew");
    for too_early in [60_000, 199_999] {
        assert_eq!(store.claim(claim(at(too_early))).await.expect("claim"), []);
    }
    let taken = holder(&*store, id(1), at(200_000)).await;
    assert_eq!(taken.epoch, held.epoch.next());
    // A lease may be shortened too: a shutdown gives its runs back early.
    store.renew(id(1), taken.epoch, at(200_001)).await.expect("renew");
    assert_eq!(holder(&*store, id(1), at(200_001)).await.epoch, taken.epoch.next());
}

/// The revision above all stays: a renewal must not make the holder's next commit fail.
pub async fn a_renewal_changes_nothing_else(subject: Subject) {
    let store = subject.provisioned().await;
    let mut record = full(id(1));
    store.insert(record.clone()).await.expect("insert");
    for until in [8_001, 20_000, 7_000] {
        store.renew(id(1), record.epoch, at(until)).await.expect("renew");
        record.due_at = Some(at(until));
        record.lease.as_mut().expect("a lease").until = at(until);
        assert_same!(read(&*store, id(1)).await, record);
    }
    let expect = Expect::Revision(record.revision);
    store.update(id(1), expect, Change::at(at(9))).await.expect("the holder's commit");
}

/// Another epoch, no lease, no record: each is a conflict, and nothing is changed.
pub async fn a_renewal_needs_the_epoch_and_a_lease(subject: Subject) {
    let store = subject.provisioned().await;
    let held = full(id(1));
    let released = Record { lease: None, ..full(id(2)) };
    insert_all(&*store, &[held.clone(), released.clone(), plain(id(3))]).await;
    for wrong in [0, 2, 4, u64::MAX] {
        let renewal = store.renew(id(1), Epoch(wrong), at(99_999)).await;
        assert_kind(renewal, ErrorKind::Conflict);
    }
    assert_same!(read(&*store, id(1)).await, held);
    assert_kind(store.renew(id(2), released.epoch, at(99_999)).await, ErrorKind::Conflict);
    assert_same!(read(&*store, id(2)).await, released);
    assert_kind(store.renew(id(3), Epoch(0), at(99_999)).await, ErrorKind::Conflict);
    assert_same!(read(&*store, id(3)).await, plain(id(3)));
    assert_kind(store.renew(id(4), Epoch(0), at(99_999)).await, ErrorKind::Conflict);
    assert_eq!(store.get(id(4)).await.expect("get"), None);
    let release = Change { lease: Some(None), due_at: Some(None), ..Change::at(at(1)) };
    store.update(id(1), Expect::Any, release).await.expect("release");
    assert_kind(store.renew(id(1), held.epoch, at(99_999)).await, ErrorKind::Conflict);
    let late = Claim { queues: vec![queue("purchase-approval")], limit: 9, ..claim(at(100_000)) };
    let due: Vec<_> = store.claim(late).await.expect("claim").iter().map(|r| r.id).collect();
    assert_eq!(due, [id(2)], "refused renewals made nothing due");
}

/// A holder who is late but was not replaced goes on; one who was replaced does not.
pub async fn a_lapsed_lease_can_be_renewed_until_somebody_claims(subject: Subject) {
    let [store, other] = subject.pair().await;
    store.insert(due(id(1), at(0))).await.expect("insert");
    let held = holder(&*store, id(1), at(0)).await;
    store.renew(id(1), held.epoch, at(70_000)).await.expect("renew");
    store.renew(id(1), held.epoch, at(300_000)).await.expect("renew a lapsed lease");
    let successor = holder(&*other, id(1), at(300_000)).await;
    assert_kind(store.renew(id(1), held.epoch, at(999_999)).await, ErrorKind::Conflict);
    assert_same!(read(&*store, id(1)).await, successor);
    let stale = Expect::Revision(held.revision);
    assert_kind(store.update(id(1), stale, Change::at(at(1))).await, ErrorKind::Conflict);
    other.renew(id(1), successor.epoch, at(400_000)).await.expect("the successor renews");
}

/// A tool may block its thread for long, and all that runs there with it: the first use of the
/// store, and more calls in the middle than it has connections. The lease of its run is renewed
/// from another thread all the same.
pub async fn a_blocked_thread_holds_up_no_renewal(subject: Subject) {
    let store = subject.store();
    let working = move || thread_of_its_own().block_on(blocked(store));
    tokio::task::spawn_blocking(working).await.expect("a tool that blocks its thread");
    let held = read(&*subject.store(), id(1)).await;
    assert_eq!(held.lease.expect("a lease").until, at(90_000), "when that thread is gone");
}

async fn blocked(store: Arc<dyn Store>) {
    store.provision().await.expect("provision");
    store.insert(due(id(1), at(0))).await.expect("insert");
    let held = holder(&*store, id(1), at(0)).await;
    // One after the other, so that connections which take turns are all made here.
    for _ in 0..20 {
        read(&*store, id(1)).await;
    }
    let mut begun = pin!(join_all((0..100).map(|_| store.get(id(1)))));
    assert!(begun.as_mut().now_or_never().is_none_or(|read| read.iter().all(Result::is_ok)));
    let renewal = {
        let store = store.clone();
        let renewal = async move { store.renew(id(1), held.epoch, at(90_000)).await };
        let renewal = async move { tokio::time::timeout(PATIENCE, renewal).await };
        thread::spawn(move || thread_of_its_own().block_on(renewal))
    };
    // Until it is over, nothing else is done on this thread.
    let renewed = renewal.join().expect("the thread that keeps leases");
    renewed.expect("a renewal in time").expect("a renewal beside a blocked thread");
}

fn thread_of_its_own() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}
