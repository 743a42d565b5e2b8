//! Records, changes and claims for the checks.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;

use crate::{
    Result,
    clock::Timestamp,
    codec::Sealed,
    engine::RunStatus,
    error::{Error, ErrorKind},
    id::{Epoch, KeyDigest, Revision, RunId},
    store::{
        Change, Claim, Cursor, Expect, Filter, Lease, Queue, Record, Store, Summary, WaitIndex,
    },
    wait::Metadata,
};

/// The time at which all checks begin.
const START: i64 = 1_795_420_800_000;

/// So many milliseconds after the checks began.
pub(super) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(START + millis)
}

/// The `n`-th id among those of runs created at that time; ids of one time sort by `n`.
pub(super) fn id_at(millis: i64, n: u64) -> RunId {
    let time = u64::try_from(START + millis).expect("after 1970");
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&time.to_be_bytes()[2..]);
    bytes[6] = 0x70;
    bytes[8..].copy_from_slice(&((1 << 63) | n).to_be_bytes());
    RunId::from_bytes(bytes)
}

/// The id of the run created `n` milliseconds after the start.
pub(super) fn id(n: u64) -> RunId {
    id_at(i64::try_from(n).expect("a small number"), n)
}

/// A parked record without anything that could be left out.
pub(super) fn plain(id: RunId) -> Record {
    Record {
        id,
        revision: Revision::FIRST,
        epoch: Epoch(0),
        flow_id: "purchase-approval".into(),
        queue: None,
        status: RunStatus::Waiting,
        waits: vec![],
        metadata: Metadata::new(),
        updated_at: at(0),
        due_at: None,
        attempts: 0,
        lease: None,
        snapshot: sealed("snapshot"),
        inbox: vec![],
    }
}

/// A record in which everything is set to something.
pub(super) fn full(id: RunId) -> Record {
    Record {
        id,
        revision: Revision(7),
        epoch: Epoch(3),
        flow_id: "purchase-approval".into(),
        queue: Some(queue("purchase-approval")),
        status: RunStatus::Running,
        waits: vec![wait("ask", "manager-approval", Some(at(9_000))), wait("ask:2", "audit", None)],
        metadata: Metadata::from([
            ("urgent".into(), true.into()),
            ("amount".into(), 1250.into()),
            ("rate".into(), 0.1.into()),
            ("customer".into(), "Émile & Söhne".into()),
        ]),
        updated_at: at(5),
        due_at: Some(at(8_000)),
        attempts: 2,
        lease: Some(Lease { owner: "worker-1".into(), until: at(8_000) }),
        snapshot: sealed("snapshot"),
        inbox: vec![sealed("first"), sealed("second")],
    }
}

/// A record that is due at that time in the queue `q`.
pub(super) fn due(id: RunId, at: Timestamp) -> Record {
    Record { queue: Some(queue("q")), due_at: Some(at), ..plain(id) }
}

pub(super) fn queue(name: &str) -> Queue {
    Queue(name.into())
}

pub(super) fn sealed(text: &str) -> Sealed {
    Sealed(text.as_bytes().to_vec())
}

pub(super) fn wait(id: &str, tool: &str, expires_at: Option<Timestamp>) -> WaitIndex {
    WaitIndex {
        id: id.into(),
        tool_id: tool.into(),
        keys: vec![KeyDigest::from_bytes([id.len() as u8; 32])],
        created_at: at(1),
        expires_at,
        has_default: expires_at.is_some(),
    }
}

/// A claim of one run in the queue `q`, for a minute.
pub(super) fn claim(now: Timestamp) -> Claim {
    Claim {
        now,
        queues: vec![queue("q")],
        owner: "claimer".into(),
        lease: Duration::from_secs(60),
        limit: 1,
        except: [].into(),
    }
}

/// A change of the due time.
pub(super) fn moved(to: Option<Timestamp>) -> Change {
    Change { due_at: Some(to), ..Change::at(at(1)) }
}

pub(super) async fn insert_all(store: &dyn Store, records: &[Record]) {
    for record in records {
        store.insert(record.clone()).await.expect("insert");
    }
}

/// Inserts a crowd whose order does not matter, several at a time: a slow server takes them sooner.
pub(super) async fn insert_crowd(store: &Arc<dyn Store>, records: Vec<Record>) {
    let inserts = futures::stream::iter(records).map(|record| store.insert(record));
    inserts.buffer_unordered(16).for_each(|done| async { done.expect("insert") }).await;
}

/// The record, which must be there.
pub(super) async fn read(store: &dyn Store, id: RunId) -> Record {
    store.get(id).await.expect("get").expect("the record is there")
}

/// Updates the record and a copy of it, and compares the two.
pub(super) async fn update_both(store: &dyn Store, record: &mut Record, change: Change) {
    let expect = Expect::Revision(record.revision);
    let revision = store.update(record.id, expect, change.clone()).await.expect("update");
    change.apply(record);
    assert_eq!(revision, record.revision, "the revision that update returned");
    assert_same!(read(store, record.id).await, *record);
}

/// Turns all pages of a query, and checks of each that it is full unless it is the last.
pub(super) async fn pages(store: &dyn Store, filter: &Filter, limit: usize) -> Vec<Summary> {
    let mut found = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let page = store.query(filter, after, limit).await.expect("query");
        assert!(page.items.len() <= limit, "{} items on a page of {limit}", page.items.len());
        let after_nothing = after.is_some() && page.items.is_empty();
        assert!(!after_nothing, "a cursor was given though there was nothing more");
        found.extend(page.items.into_iter().map(|it| it.expect("a record that reads back")));
        let Some(next) = page.next else { return found };
        assert_eq!(found.len() % limit, 0, "a page that is not the last one is full");
        assert_eq!(Some(next.0), found.last().map(|last| last.id), "the cursor is the last item");
        assert!(after.is_none_or(|before| next.0 < before.0), "each page is older than the last");
        after = Some(next);
    }
}

/// What a query for everything that matches lists, by id.
pub(super) async fn listed(store: &dyn Store, filter: &Filter) -> Vec<RunId> {
    pages(store, filter, 1000).await.iter().map(|summary| summary.id).collect()
}

#[track_caller]
pub(super) fn assert_kind<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind) {
    match result {
        Ok(value) => panic!("{kind} was expected, not {value:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{error}"),
    }
}

/// Whether exactly one call succeeded; all others must have failed with that kind.
#[track_caller]
pub(super) fn assert_one_winner<T>(results: &[Result<T>], loser: ErrorKind) -> usize {
    let winners: Vec<_> = (0..results.len()).filter(|n| results[*n].is_ok()).collect();
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(Error::kind(error), loser, "{error}");
    }
    assert_eq!(winners.len(), 1, "exactly one call must succeed, not those: {winners:?}");
    winners[0]
}
