//! Refusals that read alike on every store, so that one hub can tell what each of them means.

use super::{
    Subject,
    build::{at, claim, full, id, plain, queue, wait},
};
use crate::{
    Result,
    error::ErrorKind,
    id::{Epoch, Revision, RunId},
    store::{Change, Claim, Expect, Filter, Record},
    wait::Metadata,
};

/// Whether the call was refused in that way, for good, and said of which run.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind, run: Option<RunId>) {
    let error = result.expect_err("a refusal");
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(error.run_id(), run, "which run a refusal is about: {error}");
    assert!(!error.is_retryable(), "the same call would be refused again: {error}");
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
}

/// Another revision, another epoch, nothing there: each names its run and is not worth a retry.
pub async fn a_refusal_names_its_run_and_is_final(subject: Subject) {
    let store = subject.provisioned().await;
    let (held, free) = (full(id(1)), plain(id(2)));
    store.insert(held.clone()).await.expect("insert");
    store.insert(free.clone()).await.expect("insert");
    for again in [held.clone(), plain(id(1))] {
        assert_refused(store.insert(again).await, ErrorKind::AlreadyExists, Some(id(1)));
    }
    let (stale, any) = (Expect::Revision(Revision(999)), Expect::Any);
    for (n, expect) in [(1, stale), (2, stale), (3, stale), (3, any)] {
        let update = store.update(id(n), expect, Change::at(at(1))).await;
        assert_refused(update, ErrorKind::Conflict, Some(id(n)));
        let delete = store.delete(id(n), expect).await;
        assert_refused(delete, ErrorKind::Conflict, Some(id(n)));
    }
    // Somebody else's, nobody's, none at all, and one that no store can hold.
    for (n, epoch) in [(1, Epoch(4)), (2, free.epoch), (3, Epoch(0)), (1, Epoch(u64::MAX))] {
        let renewal = store.renew(id(n), epoch, at(9)).await;
        assert_refused(renewal, ErrorKind::Conflict, Some(id(n)));
    }
}

/// What no store may take is said to be that, whatever else the call would run into.
pub async fn what_is_invalid_is_refused_before_anything_is_looked_up(subject: Subject) {
    let store = subject.provisioned().await;
    store.insert(full(id(1))).await.expect("insert");
    let nul = "a\0b";
    for n in [1, 2] {
        let record = Record { flow_id: nul.into(), ..plain(id(n)) };
        assert_refused(store.insert(record).await, ErrorKind::InvalidArgument, Some(id(n)));
        let waits = vec![wait("w", "t", None), wait("w2", nul, None)];
        let change = Change { waits: Some(waits), ..Change::at(at(1)) };
        for expect in [Expect::Any, Expect::Revision(Revision(999))] {
            let update = store.update(id(n), expect, change.clone()).await;
            assert_refused(update, ErrorKind::InvalidArgument, Some(id(n)));
        }
    }
    let nothing_due = Claim { queues: vec![queue("q"), queue(nul)], limit: 0, ..claim(at(1)) };
    assert_refused(store.claim(nothing_due).await, ErrorKind::InvalidArgument, None);
    let nobody = Claim { owner: nul.into(), queues: vec![], ..claim(at(1)) };
    assert_refused(store.claim(nobody).await, ErrorKind::InvalidArgument, None);
    let metadata = Metadata::from([("a".into(), 1.into()), ("b".into(), nul.into())]);
    let filter = Filter { metadata, flow_id: Some("nobody".into()), ..Filter::default() };
    assert_refused(store.query(&filter, None, 1).await, ErrorKind::InvalidArgument, None);
    let empty = store.query(&Filter::default(), None, 0).await;
    assert_refused(empty, ErrorKind::InvalidArgument, None);
}
