//! Conditional updates of one record.

use super::{
    Subject,
    build::{assert_kind, at, full, id, listed, plain, queue, read, sealed, update_both, wait},
    records::ODD_TEXTS,
};
use crate::{
    codec::Sealed,
    engine::RunStatus,
    error::ErrorKind,
    id::{Epoch, Revision},
    store::{Change, Expect, Filter, Lease, MAX_COUNTER, Record},
    wait::{Metadata, Scalar},
};

/// Each field of a change touches its own field of the record, the revision and the time only.
pub async fn each_field_changes_alone(subject: Subject) {
    let store = subject.provisioned().await;
    let base = || Change::at(at(77));
    let changes = [
        base(),
        Change { epoch: Some(Epoch(12)), ..base() },
        Change { queue: Some(Some(queue("@purge"))), ..base() },
        Change { queue: Some(None), ..base() },
        Change { status: Some(RunStatus::Completed), ..base() },
        Change { waits: Some(vec![]), ..base() },
        Change { waits: Some(vec![wait("new", "manager-approval", Some(at(1)))]), ..base() },
        Change { metadata: Some(Metadata::new()), ..base() },
        Change { metadata: Some(Metadata::from([("amount".into(), 2.into())])), ..base() },
        Change { due_at: Some(Some(at(1))), ..base() },
        Change { due_at: Some(None), ..base() },
        Change { attempts: Some(0), ..base() },
        Change { lease: Some(None), ..base() },
        Change { lease: Some(Some(Lease { owner: "w2".into(), until: at(2) })), ..base() },
        Change { snapshot: Some(sealed("other")), ..base() },
        Change { snapshot: Some(Sealed(vec![])), ..base() },
        Change { inbox_drop: 1, ..base() },
        Change { inbox_push: vec![sealed("third")], ..base() },
        Change { inbox: Some(vec![]), ..base() },
    ];
    for (n, change) in (1..).zip(changes) {
        // Each change is made to a record in which everything is set, and to one in which nothing is.
        for mut record in [full(id(n)), plain(id(n + 1000))] {
            store.insert(record.clone()).await.expect("insert");
            update_both(&*store, &mut record, change.clone()).await;
        }
    }
}

/// A change of everything at once, and back.
pub async fn all_fields_change_together(subject: Subject) {
    let store = subject.provisioned().await;
    let mut record = full(id(1));
    let to = |record: Record, inbox: Option<Vec<Sealed>>| Change {
        updated_at: record.updated_at,
        epoch: Some(Epoch(record.epoch.0 + 9)),
        queue: Some(record.queue),
        status: Some(record.status),
        waits: Some(record.waits),
        metadata: Some(record.metadata),
        due_at: Some(record.due_at),
        attempts: Some(record.attempts),
        lease: Some(record.lease),
        snapshot: Some(record.snapshot),
        inbox_drop: 1,
        inbox_push: vec![sealed("pushed")],
        inbox,
    };
    store.insert(record.clone()).await.expect("insert");
    update_both(&*store, &mut record, to(plain(id(2)), None)).await;
    update_both(&*store, &mut record, to(full(id(2)), Some(vec![sealed("only")]))).await;
}

/// Revisions go up by one, where floating point would skip some as well.
pub async fn an_update_counts_revisions_exactly(subject: Subject) {
    let store = subject.provisioned().await;
    for (n, start) in (1..).zip([0, 1, 255, (1 << 31) - 1, (1 << 53) - 2, MAX_COUNTER - 3]) {
        let mut record = Record { revision: Revision(start), ..plain(id(n)) };
        store.insert(record.clone()).await.expect("insert");
        for _ in 0..3 {
            update_both(&*store, &mut record, Change::at(at(1))).await;
        }
        assert_eq!(record.revision.0, start + 3);
    }
}

/// A writer who read an older revision, or guesses a later one, changes nothing.
pub async fn a_stale_update_is_refused_and_changes_nothing(subject: Subject) {
    let store = subject.provisioned().await;
    let mut record = full(id(1));
    store.insert(record.clone()).await.expect("insert");
    update_both(&*store, &mut record, Change::at(at(1))).await;
    let change = Change {
        epoch: Some(Epoch(99)),
        queue: Some(None),
        status: Some(RunStatus::Failed),
        waits: Some(vec![]),
        metadata: Some(Metadata::new()),
        due_at: Some(None),
        attempts: Some(99),
        lease: Some(None),
        snapshot: Some(sealed("stale")),
        inbox_drop: 1,
        inbox_push: vec![sealed("stale")],
        ..Change::at(at(99))
    };
    for wrong in [0, 1, 6, 7, 9, 1 << 63, u64::MAX] {
        let expect = Expect::Revision(Revision(wrong));
        assert_kind(store.update(id(1), expect, change.clone()).await, ErrorKind::Conflict);
        assert_same!(read(&*store, id(1)).await, record);
    }
}

/// An update never makes a record.
pub async fn an_update_of_nothing_is_refused(subject: Subject) {
    let store = subject.provisioned().await;
    let whole = Change { snapshot: Some(sealed("s")), ..Change::at(at(1)) };
    for expect in [Expect::Any, Expect::Revision(Revision(0)), Expect::Revision(Revision(1))] {
        assert_kind(store.update(id(1), expect, whole.clone()).await, ErrorKind::Conflict);
        assert_eq!(store.get(id(1)).await.expect("get"), None);
    }
}

/// `Expect::Any` takes the record as it is, and tells the revision it came to.
pub async fn an_update_of_any_revision_is_taken(subject: Subject) {
    let store = subject.provisioned().await;
    store.insert(full(id(1))).await.expect("insert");
    for expected in 8..12 {
        let change = Change::at(at(1));
        let revision = store.update(id(1), Expect::Any, change).await.expect("update");
        assert_eq!(revision, Revision(expected));
        assert_eq!(read(&*store, id(1)).await.revision, revision);
    }
}

/// Items leave at the front and join at the back, in one write and over many.
pub async fn the_inbox_keeps_its_order(subject: Subject) {
    let store = subject.provisioned().await;
    let mut record = plain(id(1));
    store.insert(record.clone()).await.expect("insert");
    let item = |n: usize| sealed(&format!("item {n}"));
    let mut pushed = 0;
    // (dropped, pushed): to empty, beyond empty, within one write, and past ten, where text sorts.
    let moves =
        [(0, 1), (0, 2), (1, 0), (1, 3), (9, 2), (2, 0), (1, 0), (0, 12), (3, 30), (39, 1), (1, 1)];
    for (inbox_drop, count) in moves {
        let inbox_push = (pushed..pushed + count).map(item).collect();
        pushed += count;
        let change = Change { inbox_drop, inbox_push, ..Change::at(at(1)) };
        update_both(&*store, &mut record, change).await;
    }
    let everything = Change { inbox_drop: usize::MAX, ..Change::at(at(2)) };
    update_both(&*store, &mut record, everything).await;
    assert_eq!(record.inbox, []);
    let twins = vec![sealed("twin"), sealed("twin"), Sealed(vec![]), sealed("twin")];
    update_both(&*store, &mut record, Change { inbox_push: twins, ..Change::at(at(3)) }).await;
    update_both(&*store, &mut record, Change { inbox_drop: 1, ..Change::at(at(4)) }).await;
    assert_eq!(record.inbox.len(), 3);
}

/// A whole new inbox takes the place of drop and push, and order is kept after it.
pub async fn the_inbox_is_replaced_whole(subject: Subject) {
    let store = subject.provisioned().await;
    let mut record = full(id(1));
    store.insert(record.clone()).await.expect("insert");
    let replaced = Change {
        inbox_drop: 1,
        inbox_push: vec![sealed("ignored")],
        inbox: Some(vec![sealed("a"), sealed("b"), sealed("c")]),
        ..Change::at(at(1))
    };
    update_both(&*store, &mut record, replaced.clone()).await;
    assert_eq!(record.inbox, [sealed("a"), sealed("b"), sealed("c")]);
    let shifted =
        Change { inbox_drop: 2, inbox_push: vec![sealed("d"), sealed("e")], ..Change::at(at(2)) };
    update_both(&*store, &mut record, shifted).await;
    assert_eq!(record.inbox, [sealed("c"), sealed("d"), sealed("e")]);
    update_both(&*store, &mut record, replaced).await;
    update_both(&*store, &mut record, Change { inbox: Some(vec![]), ..Change::at(at(3)) }).await;
    let again = Change { inbox_push: vec![sealed("f")], ..Change::at(at(4)) };
    update_both(&*store, &mut record, again).await;
    assert_eq!(record.inbox, [sealed("f")]);
}

/// What means something to one backend or another is only text when it comes with an update, and
/// goes with the next.
pub async fn odd_texts_come_and_go_with_updates(subject: Subject) {
    let store = subject.provisioned().await;
    let mut record = plain(id(1));
    store.insert(record.clone()).await.expect("insert");
    let with = |metadata: &Metadata| Filter { metadata: metadata.clone(), ..Filter::default() };
    for text in ODD_TEXTS {
        let before = record.metadata.clone();
        let change = Change {
            queue: Some(Some(queue(text))),
            waits: Some(vec![wait(text, text, Some(at(9)))]),
            metadata: Some(Metadata::from([((*text).into(), (*text).into())])),
            lease: Some(Some(Lease { owner: (*text).into(), until: at(9) })),
            // What a store does to an inbox in the same write must not make a text mean anything.
            inbox_drop: 1,
            inbox_push: vec![sealed(text)],
            ..Change::at(at(1))
        };
        update_both(&*store, &mut record, change).await;
        assert_eq!(listed(&*store, &with(&record.metadata)).await, [id(1)], "{text:?}");
        let of_tool = Filter { tool_id: Some((*text).into()), ..Filter::default() };
        assert_eq!(listed(&*store, &of_tool).await, [id(1)], "{text:?}");
        let still_found = listed(&*store, &with(&before)).await;
        assert_eq!(still_found.is_empty(), !before.is_empty(), "what it was before {text:?}");
    }
    let mut all: Metadata =
        ODD_TEXTS.iter().map(|text| ((*text).into(), Scalar::from(*text))).collect();
    let change = Change { metadata: Some(all.clone()), ..Change::at(at(2)) };
    update_both(&*store, &mut record, change).await;
    assert_eq!(listed(&*store, &with(&all)).await, [id(1)], "all of them at once");
    all.insert("one more".into(), true.into());
    assert_eq!(listed(&*store, &with(&all)).await, [], "all of them, and one that is not there");
}

/// What a change leaves out stays, however large it is.
pub async fn a_large_snapshot_survives_small_updates(subject: Subject) {
    let store = subject.provisioned().await;
    let large = Sealed((0..300_000).map(|n| (n * 7 / 3) as u8).collect());
    let mut record = Record { snapshot: large, ..full(id(1)) };
    store.insert(record.clone()).await.expect("insert");
    for n in 0..10 {
        let inbox_push = vec![sealed(&format!("item {n}"))];
        update_both(&*store, &mut record, Change { inbox_push, ..Change::at(at(n)) }).await;
    }
    let smaller = Change { snapshot: Some(sealed("small")), ..Change::at(at(1)) };
    update_both(&*store, &mut record, smaller).await;
}
