//! Several handles on the same data, as several processes have them.

use std::time::Duration;

use super::{
    Subject,
    build::{
        assert_kind, at, claim, due, full, id, insert_all, listed, plain, read, sealed,
        update_both, wait,
    },
};
use crate::{
    error::ErrorKind,
    id::RunId,
    store::{Change, Cursor, Expect, Filter, Hint, Record, Summary},
    wait::Metadata,
};

/// A second provision changes nothing that is there.
pub async fn provision_is_idempotent(subject: Subject) {
    let store = subject.provisioned().await;
    store.insert(full(id(1))).await.expect("insert");
    store.provision().await.expect("provision again");
    subject.reopen().provision().await.expect("provision from another handle");
    assert_same!(read(&*store, id(1)).await, full(id(1)));
}

/// A store that was made is there, also when nothing is in it any more; asking for it makes none.
pub async fn a_store_is_there_once_it_was_made(subject: Subject) {
    let before = subject.store().exists().await.expect("exists");
    assert_eq!(subject.reopen().exists().await.expect("exists"), before, "asking made a store");
    // There may be nothing to tell yet.
    let _ = subject.reopen().health().await;
    assert_eq!(subject.reopen().exists().await.expect("exists"), before, "health made a store");
    let store = subject.provisioned().await;
    for handle in [subject.store(), subject.reopen()] {
        assert!(handle.exists().await.expect("exists"), "what was made is not there");
    }
    store.insert(full(id(1))).await.expect("insert");
    store.delete(id(1), Expect::Any).await.expect("delete");
    assert!(subject.reopen().exists().await.expect("exists"), "without runs it is not there");
}

/// Twenty processes that start at once all find a store that works.
pub async fn twenty_provision_at_once(subject: Subject) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let store = subject.reopen();
        tasks.spawn(async move {
            store.provision().await.expect("provision");
            store.insert(plain(id(n))).await.expect("insert");
        });
    }
    tasks.join_all().await;
    let store = subject.provisioned().await;
    assert_eq!(listed(&*store, &Filter::default()).await.len(), 20);
}

/// Nothing is cached: what one has written, the other reads, lists and claims.
pub async fn a_second_handle_sees_every_write_at_once(subject: Subject) {
    let stores = subject.pair().await;
    for turn in 0..6 {
        let (writer, reader) = (&stores[turn % 2], &stores[(turn + 1) % 2]);
        let id = id(turn as u64);
        assert_eq!(reader.get(id).await.expect("get"), None);
        let mut record = due(id, at(0));
        writer.insert(record.clone()).await.expect("insert");
        assert_same!(read(&**reader, id).await, record);
        let name = format!("tool-{turn}");
        let change = Change {
            waits: Some(vec![wait("w", &name, None)]),
            metadata: Some(Metadata::from([("turn".into(), (turn as i64).into())])),
            snapshot: Some(sealed(&name)),
            ..Change::at(at(1))
        };
        writer.update(id, Expect::Revision(record.revision), change.clone()).await.expect("update");
        change.apply(&mut record);
        assert_same!(read(&**reader, id).await, record);
        let by_tool = Filter { tool_id: Some(name.as_str().into()), ..Filter::default() };
        assert_eq!(listed(&**reader, &by_tool).await, [id]);
        let by_metadata = Filter { metadata: record.metadata.clone(), ..Filter::default() };
        assert_eq!(listed(&**reader, &by_metadata).await, [id]);
        let given = reader.claim(claim(at(1))).await.expect("claim");
        assert_eq!(given.iter().map(|record| record.id).collect::<Vec<_>>(), [id]);
        assert_eq!(writer.claim(claim(at(1))).await.expect("claim"), []);
        reader.renew(id, given[0].epoch, at(5_000_000)).await.expect("renew");
        assert_eq!(read(&**writer, id).await.due_at, Some(at(5_000_000)));
        writer.delete(id, Expect::Any).await.expect("delete");
        assert_eq!(reader.get(id).await.expect("get"), None);
        assert_eq!(listed(&**reader, &by_tool).await, []);
    }
}

/// A handle that is opened later finds what others wrote, and goes on with it.
pub async fn what_was_written_is_there_after_reopening(subject: Subject) {
    let store = subject.provisioned().await;
    let records = [full(id(1)), due(id(2), at(0)), plain(id(3))];
    insert_all(&*store, &records).await;
    store.delete(id(3), Expect::Any).await.expect("delete");
    drop(store);
    let later = subject.reopen();
    later.provision().await.expect("provision");
    assert_same!(read(&*later, id(1)).await, full(id(1)));
    assert_eq!(later.get(id(3)).await.expect("get"), None);
    assert_eq!(listed(&*later, &Filter::default()).await, [id(2), id(1)]);
    assert_eq!(later.claim(claim(at(0))).await.expect("claim").len(), 1);
    let more = Record { inbox: vec![sealed("more")], ..plain(id(4)) };
    later.insert(more.clone()).await.expect("insert");
    assert_same!(read(&*subject.store(), id(4)).await, more);
}

/// Revisions and epochs go on where others left them, whichever handle counts, however late it came.
pub async fn a_handle_that_is_opened_later_goes_on_counting(subject: Subject) {
    let first = subject.provisioned().await;
    let mut record = due(id(1), at(0));
    first.insert(record.clone()).await.expect("insert");
    let mut handles = vec![first];
    for turn in 1..=4 {
        let later = subject.reopen();
        later.provision().await.expect("provision");
        handles.push(later);
        for handle in &handles {
            let read_before = Expect::Revision(record.revision);
            let change = Change { snapshot: Some(sealed("a")), ..Change::at(at(turn)) };
            update_both(&**handle, &mut record, change.clone()).await;
            let again = handle.update(id(1), read_before, change).await;
            assert_kind(again, ErrorKind::Conflict);
            let claim = claim(record.due_at.expect("a due time"));
            let given = handle.claim(claim.clone()).await.expect("claim");
            let lost = record.epoch;
            claim.apply(&mut record);
            assert_same!(given, [record.clone()]);
            assert_kind(handle.renew(id(1), lost, at(9)).await, ErrorKind::Conflict);
        }
        for handle in &handles {
            assert_same!(read(&**handle, id(1)).await, record);
        }
    }
    assert_eq!((record.revision.0, record.epoch.0, record.attempts), (29, 14, 14));
}

/// Processes that start while others are at work make none of these fail, wait for ever or look
/// at half a store.
pub async fn provisioning_disturbs_no_work(subject: Subject) {
    let [store, other] = subject.pair().await;
    store.insert(full(id(1000))).await.expect("insert");
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let starting = subject.reopen();
        tasks.spawn(async move {
            for _ in 0..2 {
                starting.provision().await.expect("provision");
                assert_same!(read(&*starting, id(1000)).await, full(id(1000)));
            }
        });
        let working = [&store, &other][n as usize % 2].clone();
        tasks.spawn(async move {
            for step in 0..3 {
                let mut record = plain(id(n * 10 + step));
                working.insert(record.clone()).await.expect("insert");
                let change = Change { inbox_push: vec![sealed("item")], ..Change::at(at(1)) };
                update_both(&*working, &mut record, change).await;
                assert_same!(read(&*working, id(1000)).await, full(id(1000)));
                let mine = Some(Cursor(id(n * 10 + step + 1)));
                let page = working.query(&Filter::default(), mine, 1).await.expect("query");
                assert_same!(page.items, [Ok(Summary::from(&record))], "listed while others start");
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(listed(&*store, &Filter::default()).await.len(), 25);
}

/// Health names the backend and the place, and shows no credentials.
pub async fn health_says_what_and_where(subject: Subject) {
    let store = subject.provisioned().await;
    for store in [store, subject.reopen()] {
        let health = store.health().await.expect("health");
        assert!(!health.backend.is_empty());
        assert!(!health.location.is_empty());
        let authority = health.location.split("://").nth(1).unwrap_or_default();
        let host = authority.split('/').next().unwrap_or_default();
        assert!(!host.contains('@'), "a location without credentials");
        assert!(health.warnings.iter().all(|warning| !warning.trim().is_empty()));
        assert!(health.durable || !health.warnings.is_empty(), "if it is not durable, why not?");
    }
}

/// A store that gives hints gives them to those who use another handle.
pub async fn hints_reach_who_waits_elsewhere(subject: Subject) {
    let [writer, reader] = subject.pair().await;
    let subscribe = |to| reader.hints(to);
    let (Some(mut due), Some(mut idle)) = (subscribe(Hint::Due), subscribe(Hint::Idle)) else {
        assert!(subscribe(Hint::Due).is_none(), "all kinds of hints are given, or none");
        return;
    };
    // A subscription may take a while to be made; until then a write gives no hint.
    let mut told = false;
    for n in 0..100 {
        writer.insert(due_now(id(n))).await.expect("insert");
        let hint = tokio::time::timeout(Duration::from_millis(100), due.next());
        told = told || hint.await.is_ok();
        if told {
            break;
        }
    }
    assert!(told, "a hint follows the insert of a run that is due");
    writer.insert(plain(id(200))).await.expect("insert");
    let due_then = Change { due_at: Some(Some(at(1))), ..Change::at(at(1)) };
    writer.update(id(200), Expect::Any, due_then).await.expect("update");
    due.next().await;
    let let_go = Change { lease: Some(None), ..Change::at(at(2)) };
    writer.update(id(200), Expect::Any, let_go).await.expect("update");
    idle.next().await;
}

/// A run that is due by the clock of who writes it.
fn due_now(id: RunId) -> Record {
    Record { updated_at: at(0), ..due(id, at(0)) }
}
