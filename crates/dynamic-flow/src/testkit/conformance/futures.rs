//! Callers that go away in the middle of a call.

use std::{future::Future, pin::pin, task::Poll};

use super::{
    Subject,
    build::{at, claim, due, full, id, id_at, moved, plain, read, sealed},
};
use crate::store::{Change, Claim, Expect, Filter, Record};

/// Polls a future so many times at the most, lets others run in between, and drops it.
///
/// Says whether it came to its end.
async fn polled<F: Future>(future: F, times: usize) -> bool {
    let mut future = pin!(future);
    for _ in 0..times {
        let poll = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        if poll.is_ready() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

/// Wherever an update is dropped, the record is as before or as after.
pub async fn a_dropped_write_is_whole_or_nothing(subject: Subject) {
    let store = subject.provisioned().await;
    for times in 0..40 {
        let before = full(id(times));
        let record = || before.clone();
        let inserted = polled(store.insert(record()), times as usize).await;
        let seen = store.get(before.id).await.expect("get");
        assert!(seen.is_none_or(|seen| seen == before), "half an insert");
        // Whether the dropped insert has happened is not known, nor whether it still will: a
        // second insert settles it.
        let second = store.insert(record()).await;
        assert!(!inserted || second.is_err(), "an insert that succeeded was lost");
        assert_same!(read(&*store, before.id).await, before);
        let change = Change {
            snapshot: Some(sealed("after")),
            inbox_drop: 1,
            inbox_push: vec![sealed("third")],
            waits: Some(vec![]),
            ..Change::at(at(9))
        };
        let mut after = record();
        change.clone().apply(&mut after);
        let expect = Expect::Revision(before.revision);
        let updated = polled(store.update(before.id, expect, change.clone()), times as usize).await;
        let seen = read(&*store, before.id).await;
        assert!(seen == before || seen == after, "half an update: {seen:?}");
        let second = store.update(before.id, expect, change).await;
        assert!(!updated || second.is_err(), "an update that succeeded was lost");
        assert_same!(read(&*store, before.id).await, after);
        let deleted = polled(store.delete(before.id, Expect::Any), times as usize).await;
        let second = store.delete(before.id, Expect::Any).await;
        assert!(!deleted || second.is_err(), "a delete that succeeded was lost");
        assert_eq!(store.get(before.id).await.expect("get"), None);
    }
}

/// A call that is dropped holds no lock, no connection and no place for ever.
pub async fn dropped_calls_leave_the_store_usable(subject: Subject) {
    let [store, other] = subject.pair().await;
    let kept = full(id(1000));
    store.insert(kept.clone()).await.expect("insert");
    for n in 0..100 {
        let times = (n % 7) as usize;
        let _ = polled(store.insert(plain(id_at(0, n))), times).await;
        let _ = polled(store.get(kept.id), times).await;
        let _ = polled(store.query(&Filter::default(), None, 10), times).await;
        let _ = polled(store.claim(claim(at(0))), times).await;
        let _ = polled(store.renew(id_at(0, n), kept.epoch, at(1)), times).await;
        let _ = polled(store.update(id_at(0, n), Expect::Any, moved(None)), times).await;
        let _ = polled(store.health(), times).await;
    }
    for store in [store, other] {
        assert_same!(read(&*store, kept.id).await, kept);
        // Due later than any of the claims above, which may still take effect.
        store.insert(due(id(2000), at(100))).await.expect("insert");
        let all = Claim { limit: 10, ..claim(at(101)) };
        let claimed = store.claim(all).await.expect("claim").len();
        assert_eq!(claimed, 1, "a due run is not given after calls were dropped");
        let changed = Record { metadata: Default::default(), ..plain(id(3000)) };
        store.insert(changed).await.expect("insert");
        for n in [2000, 3000] {
            store.delete(id(n), Expect::Any).await.expect("delete");
        }
    }
}
