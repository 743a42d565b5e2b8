//! Pages of runs: their order, and where one ends and the next begins.

use std::collections::BTreeSet;

use super::{
    Subject,
    build::{at, due, full, id, id_at, insert_all, listed, pages, plain},
    queries::{criteria, expected, population},
};
use crate::{
    id::RunId,
    store::{Change, Cursor, Expect, Filter, Record, Summary},
};

/// By time of creation, and by id among runs of one millisecond, whatever the order of inserts.
pub async fn the_newest_are_listed_first(subject: Subject) {
    let store = subject.provisioned().await;
    let ids = [id_at(5, 1), id_at(3, 9), id_at(5, 0), id_at(4, u64::MAX >> 2), id_at(5, 300)];
    let lowest = RunId::from_bytes([0; 16]);
    let highest = RunId::from_bytes([0xff; 16]);
    for id in ids.into_iter().chain([highest, lowest]) {
        store.insert(full(id)).await.expect("insert");
    }
    let expected = [
        highest,
        id_at(5, 300),
        id_at(5, 1),
        id_at(5, 0),
        id_at(4, u64::MAX >> 2),
        id_at(3, 9),
        lowest,
    ];
    assert_eq!(listed(&*store, &Filter::default()).await, expected);
    let summaries = pages(&*store, &Filter::default(), 100).await;
    let whole: Vec<_> = expected.into_iter().map(|id| Summary::from(&full(id))).collect();
    assert_same!(summaries, whole);
}

/// Every page size gives the same list; a page that just fits is the last one.
pub async fn pages_of_any_size_list_everything_once(subject: Subject) {
    let store = subject.provisioned().await;
    let records = population();
    insert_all(&*store, &records).await;
    for filter in criteria() {
        let expected = expected(&records, &filter);
        for limit in [1, 2, 7, expected.len().max(1), expected.len() + 1, 100] {
            assert_same!(pages(&*store, &filter, limit).await, expected, "{limit}: {filter:?}");
        }
        let all = store.query(&filter, None, usize::MAX).await.expect("query");
        let expected = expected.into_iter().map(Ok).collect();
        assert_eq!((all.items, all.next), (expected, None));
    }
}

/// Runs that come and go while pages are turned make none of the others come twice or not at all.
pub async fn writes_between_pages_disturb_nothing(subject: Subject) {
    let [store, other] = subject.pair().await;
    for n in 0..40 {
        store.insert(due(id_at(n / 4, n as u64), at(0))).await.expect("insert");
    }
    let filter = Filter { flow_id: Some("purchase-approval".into()), ..Filter::default() };
    let mut seen = Vec::new();
    let mut after = None;
    let mut turn = 0;
    loop {
        let page = store.query(&filter, after, 3).await.expect("query");
        seen.extend(page.readable().map(|summary| summary.id));
        let Some(next) = page.next else { break };
        after = Some(next);
        turn += 1;
        assert!(turn < 50, "the pages do not end");
        // One newer than all, one that was listed, and one that is still to come.
        other.insert(plain(id_at(100 + turn, 0))).await.expect("insert");
        other.delete(next.0, Expect::Any).await.expect("delete");
        let coming = id_at(0, (turn % 4) as u64);
        match other.update(coming, Expect::Any, Change::at(at(turn))).await {
            Ok(_) => {}
            Err(error) => assert!(error.is_conflict(), "unless it was listed and is gone: {error}"),
        }
        let old = id_at(0, 100 + turn as u64);
        other.insert(Record { flow_id: "another".into(), ..plain(old) }).await.expect("insert");
    }
    let unique: BTreeSet<_> = seen.iter().copied().collect();
    assert_eq!(unique.len(), seen.len(), "a run was listed twice");
    let mut expected: Vec<_> = (0..40).map(|n| id_at(n / 4, n as u64)).collect();
    expected.reverse();
    assert_eq!(seen, expected);
}

/// A cursor is a place in the order; no run need be there.
pub async fn a_cursor_outlives_its_run(subject: Subject) {
    let store = subject.provisioned().await;
    insert_all(&*store, &[plain(id(1)), plain(id(3)), plain(id(5))]).await;
    let at_cursor = |n| {
        let store = store.clone();
        async move {
            let page = store.query(&Filter::default(), Some(Cursor(id(n))), 10).await;
            page.expect("query").readable().map(|summary| summary.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(at_cursor(9).await, [id(5), id(3), id(1)]);
    assert_eq!(at_cursor(5).await, [id(3), id(1)]);
    assert_eq!(at_cursor(4).await, [id(3), id(1)]);
    store.delete(id(3), Expect::Any).await.expect("delete");
    assert_eq!(at_cursor(3).await, [id(1)]);
    assert_eq!(at_cursor(1).await, []);
    let narrow =
        Filter { created_after: Some(at(1)), created_before: Some(at(5)), ..Filter::default() };
    let page = store.query(&narrow, Some(Cursor(id(9))), 10).await.expect("query");
    assert_eq!(page.readable().map(|s| s.id).collect::<Vec<_>>(), [id(1)]);
}
