//! Which runs are listed.

use super::{
    Subject,
    build::{
        assert_kind, at, claim, full, id, id_at, insert_all, listed, pages, plain, sealed, wait,
    },
    records::ODD_TEXTS,
};
use crate::{
    clock::Timestamp,
    engine::RunStatus,
    error::ErrorKind,
    id::RunId,
    store::{Change, Cursor, Expect, Filter, Record, Store, Summary},
    wait::{Metadata, Scalar},
};

/// No runs: an empty page that is the last one, with and without criteria.
pub async fn an_empty_store_lists_nothing(subject: Subject) {
    let store = subject.provisioned().await;
    let filters = [
        Filter::default(),
        Filter { status: RunStatus::ALL.into(), ..Filter::default() },
        Filter { metadata: Metadata::from([("a".into(), 1.into())]), ..Filter::default() },
        Filter { expires_before: Some(at(0)), ..Filter::default() },
    ];
    for filter in filters {
        for after in [None, Some(Cursor(id(5)))] {
            let page = store.query(&filter, after, 10).await.expect("query");
            assert_eq!((page.items, page.next), (vec![], None));
        }
    }
}

/// Sixty runs that differ in everything a filter can ask for.
pub(super) fn population() -> Vec<Record> {
    let flows = ["a", "b", "purchase-approval"];
    let tools = ["approve", "review", "Approve"];
    (0..60_u64)
        .map(|n| {
            let number = i64::try_from(n).expect("a small number");
            let waits = (0..n % 4).map(|w| {
                let tool = tools[((n + w) % 3) as usize];
                let ends = (number * 10 + w as i64 * 300) % 700;
                wait(&format!("w{w}"), tool, ((n + w) % 3 > 0).then(|| at(ends)))
            });
            let mut metadata = Metadata::from([("parity".into(), (number % 2).into())]);
            if n % 3 == 0 {
                metadata.insert("team".into(), ["red", "blue"][(n % 2) as usize].into());
            }
            Record {
                flow_id: flows[(n % 3) as usize].into(),
                status: RunStatus::ALL[(n % 8) as usize],
                waits: waits.collect(),
                metadata,
                inbox: (0..n % 3).map(|_| sealed("item")).collect(),
                // Every other run shares its millisecond with the next one.
                ..plain(id_at(number / 2 * 10, n))
            }
        })
        .collect()
}

/// Single criteria; all pairs of them are tried too.
pub(super) fn criteria() -> Vec<Filter> {
    let base = Filter::default;
    let meta = |name: &str, value: Scalar| Metadata::from([(name.to_owned(), value)]);
    vec![
        base(),
        Filter { status: [RunStatus::Waiting].into(), ..base() },
        Filter { status: [RunStatus::Ready, RunStatus::Failed].into(), ..base() },
        Filter { status: RunStatus::ALL.into(), ..base() },
        Filter { flow_id: Some("a".into()), ..base() },
        Filter { flow_id: Some("A".into()), ..base() },
        Filter { tool_id: Some("approve".into()), ..base() },
        Filter { tool_id: Some("Approve".into()), ..base() },
        Filter { tool_id: Some("nobody".into()), ..base() },
        Filter { metadata: meta("parity", 1.into()), ..base() },
        Filter { metadata: meta("team", "red".into()), ..base() },
        Filter { metadata: meta("team", "Red".into()), ..base() },
        Filter { created_after: Some(at(100)), ..base() },
        Filter { created_before: Some(at(200)), ..base() },
        Filter { created_after: Some(at(100)), created_before: Some(at(100)), ..base() },
        Filter { expires_after: Some(at(300)), ..base() },
        Filter { expires_before: Some(at(300)), ..base() },
        Filter { expires_after: Some(at(300)), expires_before: Some(at(310)), ..base() },
        // Two at once, so that pairs make three and four.
        Filter { tool_id: Some("review".into()), metadata: meta("team", "blue".into()), ..base() },
        Filter { tool_id: Some("approve".into()), metadata: meta("parity", 1.into()), ..base() },
        Filter {
            flow_id: Some("b".into()),
            status: [RunStatus::Running, RunStatus::Failed].into(),
            ..base()
        },
    ]
}

fn both(a: &Filter, b: &Filter) -> Filter {
    let mut status = a.status.clone();
    if !b.status.is_empty() {
        status.clone_from(&b.status);
    }
    let mut metadata = a.metadata.clone();
    metadata.extend(b.metadata.clone());
    Filter {
        status,
        flow_id: a.flow_id.clone().or_else(|| b.flow_id.clone()),
        tool_id: a.tool_id.clone().or_else(|| b.tool_id.clone()),
        metadata,
        created_after: a.created_after.or(b.created_after),
        created_before: a.created_before.or(b.created_before),
        expires_after: a.expires_after.or(b.expires_after),
        expires_before: a.expires_before.or(b.expires_before),
    }
}

pub(super) fn expected(records: &[Record], filter: &Filter) -> Vec<Summary> {
    let mut found: Vec<_> =
        records.iter().filter(|record| filter.matches(record)).map(Summary::from).collect();
    found.sort_by_key(|summary| std::cmp::Reverse(summary.id));
    found
}

/// Criteria mean AND, alone and with any other.
pub async fn each_filter_and_all_pairs_of_them_list_what_matches(subject: Subject) {
    let store = subject.provisioned().await;
    let records = population();
    insert_all(&*store, &records).await;
    let criteria = criteria();
    for first in &criteria {
        for second in &criteria {
            let filter = both(first, second);
            let found = pages(&*store, &filter, 100).await;
            assert_same!(found, expected(&records, &filter), "{filter:?}");
        }
    }
    let everything = Filter {
        status: [RunStatus::Running, RunStatus::Cancelled].into(),
        flow_id: Some("b".into()),
        tool_id: Some("Approve".into()),
        metadata: Metadata::from([("parity".into(), 0.into())]),
        created_after: Some(at(0)),
        created_before: Some(at(10_000)),
        expires_after: Some(at(0)),
        expires_before: Some(at(10_000)),
    };
    let found = pages(&*store, &everything, 100).await;
    assert_same!(found, expected(&records, &everything));
    assert!(!found.is_empty(), "the check must find something");
}

/// A run with one wait of the tool and another that ends in time is not meant.
pub async fn wait_criteria_hold_for_one_wait(subject: Subject) {
    let store = subject.provisioned().await;
    let waits_of = |n: u64, waits| Record { waits, ..plain(id(n)) };
    let records = [
        waits_of(1, vec![wait("a", "x", None), wait("b", "y", Some(at(100)))]),
        waits_of(2, vec![wait("a", "x", Some(at(100))), wait("b", "y", None)]),
        waits_of(3, vec![wait("a", "x", Some(at(50))), wait("b", "x", Some(at(150)))]),
        waits_of(4, vec![wait("a", "x", None)]),
        waits_of(5, vec![]),
        // Two waits that match make one line.
        waits_of(6, vec![wait("a", "x", Some(at(100))), wait("b", "x", Some(at(101)))]),
    ];
    insert_all(&*store, &records).await;
    let x = Filter { tool_id: Some("x".into()), ..Filter::default() };
    let between =
        Filter { expires_after: Some(at(90)), expires_before: Some(at(110)), ..Filter::default() };
    let early = Filter { expires_before: Some(at(110)), ..x.clone() };
    assert_eq!(listed(&*store, &x).await, [id(6), id(4), id(3), id(2), id(1)]);
    assert_eq!(listed(&*store, &between).await, [id(6), id(2), id(1)]);
    assert_eq!(listed(&*store, &both(&x, &between)).await, [id(6), id(2)]);
    assert_eq!(listed(&*store, &early).await, [id(6), id(3), id(2)]);
    for limit in [1, 2] {
        assert_same!(pages(&*store, &both(&x, &between), limit).await.len(), 2);
    }
}

/// `1`, `1.0`, `"1"` and `true` are four values, and neighbors of large numbers are two.
pub async fn metadata_is_compared_by_type_and_value(subject: Subject) {
    let store = subject.provisioned().await;
    let values: Vec<Scalar> = vec![
        1.into(),
        1.0.into(),
        "1".into(),
        "1.0".into(),
        true.into(),
        "true".into(),
        false.into(),
        0.into(),
        0.0.into(),
        "".into(),
        "0".into(),
        i64::MAX.into(),
        (i64::MAX - 1).into(),
        9.223_372_036_854_776e18.into(),
        ((1_i64 << 53) + 1).into(),
        (1_i64 << 53).into(),
        9_007_199_254_740_992.0.into(),
        (0.1 + 0.2).into(),
        0.3.into(),
        "t".repeat(4096).into(),
        format!("{}u", "t".repeat(4095)).into(),
    ];
    for (n, value) in (1..).zip(&values) {
        let metadata = Metadata::from([("v".into(), value.clone()), ("n".into(), n.into())]);
        store.insert(Record { metadata, ..plain(id(n as u64)) }).await.expect("insert");
    }
    for (n, value) in (1..).zip(&values) {
        let equal =
            Filter { metadata: Metadata::from([("v".into(), value.clone())]), ..Filter::default() };
        assert_eq!(listed(&*store, &equal).await, [id(n)], "{value:?}");
        let other_name =
            Filter { metadata: Metadata::from([("w".into(), value.clone())]), ..Filter::default() };
        assert_eq!(listed(&*store, &other_name).await, [], "{value:?}");
    }
    let two = |v: Scalar, n: i64| Filter {
        metadata: Metadata::from([("v".into(), v), ("n".into(), n.into())]),
        ..Filter::default()
    };
    assert_eq!(listed(&*store, &two(1.into(), 1)).await, [id(1)]);
    assert_eq!(listed(&*store, &two(1.into(), 2)).await, [], "both must hold");
    let negative_zero =
        Filter { metadata: Metadata::from([("v".into(), (-0.0).into())]), ..Filter::default() };
    assert_eq!(listed(&*store, &negative_zero).await, [id(9)], "-0.0 equals 0.0");
}

/// Flows, tools and metadata names are compared exactly, each in its own place.
pub async fn names_that_look_alike_are_different(subject: Subject) {
    let store = subject.provisioned().await;
    for (n, text) in (1..).zip(ODD_TEXTS) {
        let record = Record {
            flow_id: (*text).into(),
            waits: vec![wait("w", text, None)],
            metadata: Metadata::from([
                ((*text).into(), "here".into()),
                ("text".into(), (*text).into()),
            ]),
            ..plain(id(n))
        };
        store.insert(record).await.expect("insert");
    }
    for (n, text) in (1..).zip(ODD_TEXTS) {
        let by = [
            Filter { flow_id: Some((*text).into()), ..Filter::default() },
            Filter { tool_id: Some((*text).into()), ..Filter::default() },
            Filter {
                metadata: Metadata::from([((*text).into(), "here".into())]),
                ..Filter::default()
            },
            Filter {
                metadata: Metadata::from([("text".into(), (*text).into())]),
                ..Filter::default()
            },
        ];
        for filter in by {
            assert_eq!(listed(&*store, &filter).await, [id(n)], "{filter:?}");
        }
    }
}

/// "After" takes its own millisecond, "before" does not; any time may be asked for.
pub async fn boundaries_of_times_are_exact(subject: Subject) {
    let store = subject.provisioned().await;
    for n in [9_u64, 10, 11] {
        let time = i64::try_from(n).expect("a small number");
        // The least and the greatest id of its millisecond.
        for low in [0, u64::MAX >> 2] {
            let waits = vec![wait("w", "t", Some(at(1000 + time)))];
            store.insert(Record { waits, ..plain(id_at(time, low)) }).await.expect("insert");
        }
    }
    store.insert(plain(id_at(10, 5))).await.expect("insert");
    let times = |filter: Filter| {
        let store = store.clone();
        async move {
            let found = listed(&*store, &filter).await;
            let times = found.iter().map(|id| at(0).until(id.created_at()).as_millis());
            times.collect::<Vec<_>>()
        }
    };
    let base = Filter::default;
    let after = |millis| Filter { created_after: Some(at(millis)), ..base() };
    let before = |millis| Filter { created_before: Some(at(millis)), ..base() };
    assert_eq!(times(after(10)).await, [11, 11, 10, 10, 10]);
    assert_eq!(times(before(10)).await, [9, 9]);
    assert_eq!(times(Filter { created_before: Some(at(11)), ..after(10) }).await, [10, 10, 10]);
    assert_eq!(times(Filter { created_before: Some(at(10)), ..after(10) }).await, []);
    let ends_after = |millis| Filter { expires_after: Some(at(millis)), ..base() };
    let ends_before = |millis| Filter { expires_before: Some(at(millis)), ..base() };
    assert_eq!(times(ends_after(1010)).await, [11, 11, 10, 10]);
    assert_eq!(times(ends_before(1010)).await, [9, 9]);
    let last_of_all = RunId::from_bytes([0xff; 16]);
    let waits = [i64::MIN, i64::MAX].map(|n| wait("w", "t", Some(Timestamp::from_millis(n))));
    for (id, wait) in [last_of_all, id_at(10, 6)].into_iter().zip(waits) {
        store.insert(Record { waits: vec![wait], ..plain(id) }).await.expect("insert");
    }
    let extremes = [i64::MIN, i64::MIN + 1, -1, 0, (1 << 48) - 1, 1 << 48, i64::MAX]
        .map(Timestamp::from_millis);
    let all = store.query(&base(), None, 100).await.expect("query");
    for time in extremes {
        let filters = [
            Filter { created_after: Some(time), ..base() },
            Filter { created_before: Some(time), ..base() },
            Filter { expires_after: Some(time), ..base() },
            Filter { expires_before: Some(time), ..base() },
        ];
        for filter in filters {
            let expected = all.readable().filter(|summary| {
                let record = Record { waits: summary.waits.clone(), ..plain(summary.id) };
                filter.matches(&record)
            });
            let expected: Vec<_> = expected.map(|summary| summary.id).collect();
            assert_eq!(listed(&*store, &filter).await, expected, "{filter:?}");
        }
    }
}

/// What a run was is not found any more, what it is now is.
pub async fn a_query_follows_every_write(subject: Subject) {
    let store = subject.provisioned().await;
    let mut record = Record { lease: None, ..full(id(1)) };
    store.insert(record.clone()).await.expect("insert");
    store.insert(plain(id(2))).await.expect("insert");
    let new_wait = vec![wait("new", "legal", Some(at(50_000)))];
    let changes = [
        Change { status: Some(RunStatus::Waiting), ..Change::at(at(10)) },
        Change { waits: Some(new_wait), ..Change::at(at(11)) },
        Change {
            metadata: Some(Metadata::from([("amount".into(), 1250.0.into())])),
            ..Change::at(at(12))
        },
        Change { inbox_push: vec![sealed("x")], due_at: Some(None), ..Change::at(at(13)) },
        Change {
            status: Some(RunStatus::Completed),
            waits: Some(vec![]),
            metadata: Some(Metadata::new()),
            ..Change::at(at(14))
        },
    ];
    let asked = [
        Filter::default(),
        Filter { status: [RunStatus::Running].into(), ..Filter::default() },
        Filter { status: [RunStatus::Waiting].into(), ..Filter::default() },
        Filter { status: [RunStatus::Completed].into(), ..Filter::default() },
        Filter { tool_id: Some("manager-approval".into()), ..Filter::default() },
        Filter { tool_id: Some("audit".into()), ..Filter::default() },
        Filter { tool_id: Some("legal".into()), ..Filter::default() },
        Filter { expires_before: Some(at(10_000)), ..Filter::default() },
        Filter { expires_after: Some(at(10_000)), ..Filter::default() },
        Filter { metadata: Metadata::from([("amount".into(), 1250.into())]), ..Filter::default() },
        Filter {
            metadata: Metadata::from([("amount".into(), 1250.0.into())]),
            ..Filter::default()
        },
    ];
    for change in changes {
        compare(&*store, &asked, &record).await;
        store.update(id(1), Expect::Any, change.clone()).await.expect("update");
        change.apply(&mut record);
    }
    compare(&*store, &asked, &record).await;
    let due_again = Change { due_at: Some(Some(at(15))), ..Change::at(at(15)) };
    store.update(id(1), Expect::Any, due_again.clone()).await.expect("update");
    due_again.apply(&mut record);
    let claim =
        crate::store::Claim { queues: record.queue.clone().into_iter().collect(), ..claim(at(20)) };
    assert_eq!(store.claim(claim.clone()).await.expect("claim").len(), 1);
    claim.apply(&mut record);
    compare(&*store, &asked, &record).await;
    store.renew(id(1), record.epoch, at(90_000)).await.expect("renew");
    record.due_at = Some(at(90_000));
    record.lease.as_mut().expect("a lease").until = at(90_000);
    compare(&*store, &asked, &record).await;
}

/// Compares what is listed of the record, and that nothing but it and the plain second one is.
async fn compare(store: &dyn Store, asked: &[Filter], record: &Record) {
    for filter in asked {
        let expected = expected(&[record.clone(), plain(id(2))], filter);
        assert_same!(pages(store, filter, 10).await, expected, "{filter:?}");
    }
}

/// Criteria that no record can meet for want of a place to write them are an error.
pub async fn a_query_that_no_store_may_answer_is_refused(subject: Subject) {
    let store = subject.provisioned().await;
    let refused = [
        (Filter::default(), 0),
        (Filter { flow_id: Some("a\0b".into()), ..Filter::default() }, 1),
        (Filter { tool_id: Some("a\0b".into()), ..Filter::default() }, 1),
        (Filter { metadata: Metadata::from([("a\0".into(), 1.into())]), ..Filter::default() }, 1),
        (
            Filter {
                metadata: Metadata::from([("a".into(), f64::NAN.into())]),
                ..Filter::default()
            },
            1,
        ),
    ];
    for (filter, limit) in refused {
        assert_kind(store.query(&filter, None, limit).await, ErrorKind::InvalidArgument);
    }
}
