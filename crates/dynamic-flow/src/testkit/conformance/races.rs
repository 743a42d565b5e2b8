//! Many at once, over two handles: nothing is lost, nothing is given twice.

use std::{
    collections::BTreeMap,
    future::Future,
    iter,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Barrier, task::JoinSet};

use super::{
    Subject,
    build::{
        assert_one_winner, at, claim, due, full, id, id_at, insert_crowd, listed, plain, queue,
        read, sealed,
    },
};
use crate::{
    Result,
    codec::Sealed,
    error::ErrorKind,
    id::{Epoch, RunId},
    store::{Change, Claim, Expect, Filter, Record, Store, Summary},
    wait::Metadata,
};

/// Starts `count` tasks at the same moment, on the two handles in turn; gives their results.
async fn at_once<T, F>(
    stores: &[Arc<dyn Store>; 2],
    count: usize,
    task: impl Fn(Arc<dyn Store>, usize) -> F,
) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let barrier = Arc::new(Barrier::new(count));
    let mut tasks = JoinSet::new();
    for n in 0..count {
        let barrier = barrier.clone();
        let task = task(stores[n % 2].clone(), n);
        tasks.spawn(async move {
            barrier.wait().await;
            (n, task.await)
        });
    }
    let mut results = tasks.join_all().await;
    results.sort_by_key(|(n, _)| *n);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Of many who insert one id, one succeeds, and the record is theirs.
pub async fn one_of_many_inserts_wins(subject: Subject) {
    let stores = subject.pair().await;
    for round in 0..5 {
        let results = at_once(&stores, 32, |store, n| async move {
            let mine = Metadata::from([("writer".into(), (n as i64).into())]);
            store.insert(Record { metadata: mine, ..plain(id(round)) }).await
        })
        .await;
        let winner = assert_one_winner(&results, ErrorKind::AlreadyExists);
        let kept = read(&*stores[0], id(round)).await;
        assert_eq!(kept.metadata["writer"], (winner as i64).into());
    }
}

/// Of many who update one revision, one succeeds, and the record is theirs.
pub async fn one_of_many_updates_wins(subject: Subject) {
    let stores = subject.pair().await;
    stores[0].insert(plain(id(1))).await.expect("insert");
    for round in 0..5 {
        let before = read(&*stores[0], id(1)).await;
        let expect = Expect::Revision(before.revision);
        let results = at_once(&stores, 64, |store, n| async move {
            let mine = sealed(&format!("writer {n} of round {round}"));
            let change = Change {
                snapshot: Some(mine.clone()),
                inbox_push: vec![mine],
                ..Change::at(at(round))
            };
            store.update(id(1), expect, change).await
        })
        .await;
        let winner = assert_one_winner(&results, ErrorKind::Conflict);
        let after = read(&*stores[1], id(1)).await;
        let mine = sealed(&format!("writer {winner} of round {round}"));
        assert_eq!(after.snapshot, mine);
        assert_eq!(after.inbox.last(), Some(&mine));
        assert_eq!(after.inbox.len(), before.inbox.len() + 1);
        assert_eq!(after.revision, before.revision.next());
    }
}

/// Sixteen writers who count in the snapshot, each trying again after a conflict.
pub async fn no_increment_is_lost(subject: Subject) {
    let stores = subject.pair().await;
    let zero = Record { snapshot: sealed("0"), ..plain(id(1)) };
    stores[0].insert(zero).await.expect("insert");
    at_once(&stores, 16, |store, _| async move {
        for _ in 0..5 {
            while increment(&*store, id(1)).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let after = read(&*stores[0], id(1)).await;
    assert_eq!(after.snapshot, sealed("80"));
    assert_eq!(after.revision.0, 81);
}

/// Reads the count and writes the next one.
async fn increment(store: &dyn Store, id: RunId) -> Result<()> {
    let record = read(store, id).await;
    let text = String::from_utf8(record.snapshot.0).expect("a number");
    let next = text.parse::<u32>().expect("a number") + 1;
    let change = Change { snapshot: Some(sealed(&next.to_string())), ..Change::at(at(1)) };
    match store.update(id, Expect::Revision(record.revision), change).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_conflict() => Err(error),
        Err(error) => panic!("{error}"),
    }
}

/// Sixty-four append at once without reading first; each is told another revision, each item is kept.
pub async fn no_inbox_item_is_lost(subject: Subject) {
    let stores = subject.pair().await;
    stores[0].insert(plain(id(1))).await.expect("insert");
    let results = at_once(&stores, 64, |store, n| async move {
        let item = |part| sealed(&format!("{n}: {part}"));
        let mut revisions = Vec::new();
        for part in 0..2 {
            let change = Change { inbox_push: vec![item(part)], ..Change::at(at(1)) };
            revisions.push(store.update(id(1), Expect::Any, change).await.expect("update"));
        }
        revisions
    })
    .await;
    let record = read(&*stores[1], id(1)).await;
    assert_eq!(record.inbox.len(), 128);
    assert_eq!(record.revision.0, 129);
    for (n, revisions) in results.iter().enumerate() {
        for (part, revision) in revisions.iter().enumerate() {
            // The first write made revision 2 and put its item in front.
            let place = usize::try_from(revision.0 - 2).expect("a small number");
            assert_eq!(record.inbox[place], sealed(&format!("{n}: {part}")));
        }
    }
}

/// Thirty-two workers share fifty runs: each run once, all of them given.
pub async fn two_claimers_never_share_a_run(subject: Subject) {
    let stores = subject.pair().await;
    for n in 0..50 {
        stores[0].insert(due(id(n), at(n as i64))).await.expect("insert");
    }
    let given = at_once(&stores, 32, |store, n| async move {
        let claim = Claim { owner: format!("worker-{n}"), limit: 3, ..claim(at(1000)) };
        let mut given = Vec::new();
        loop {
            let more = store.claim(claim.clone()).await.expect("claim");
            if more.is_empty() {
                return given;
            }
            given.extend(more);
            assert!(given.len() <= 50, "runs are given again and again");
        }
    })
    .await;
    let mut holders = BTreeMap::new();
    for (n, mine) in given.into_iter().enumerate() {
        for record in mine {
            let before = holders.insert(record.id, n);
            assert_eq!(before, None, "{} was given to two claimers", record.id);
            let stored = read(&*stores[1], record.id).await;
            assert_same!(stored, record, "what is stored is what was given");
            assert_eq!(stored.lease.expect("a lease").owner, format!("worker-{n}"));
            assert_eq!((stored.epoch.0, stored.revision.0, stored.attempts), (1, 2, 1));
        }
    }
    assert_eq!(holders.len(), 50, "every run was given to somebody");
}

/// Which part a task plays: those that start first, and on which handle, change from round to round.
fn who_first(task: usize, round: u64, parts: usize) -> usize {
    (task * 5 + round as usize) % parts
}

/// A claim makes an update of what was read before fail, or the other way round.
pub async fn a_claim_and_an_update_exclude_each_other(subject: Subject) {
    let stores = subject.pair().await;
    for round in 0..20 {
        let before = due(id(round), at(0));
        stores[0].insert(before.clone()).await.expect("insert");
        let expect = Expect::Revision(before.revision);
        let results = at_once(&stores, 4, |store, n| async move {
            if who_first(n, round, 4) < 2 {
                let answer = Change {
                    inbox_push: vec![sealed("answer")],
                    due_at: Some(None),
                    ..Change::at(at(1))
                };
                return store.update(id(round), expect, answer).await.is_ok();
            }
            !store.claim(claim(at(1))).await.expect("claim").is_empty()
        })
        .await;
        let winners = results.iter().filter(|won| **won).count();
        assert_eq!(winners, 1, "exactly one of two claims and two updates: {results:?}");
        let after = read(&*stores[0], id(round)).await;
        assert_eq!(after.revision, before.revision.next());
        let updated = (0..4).any(|n| results[n] && who_first(n, round, 4) < 2);
        assert_eq!(after.inbox.len(), usize::from(updated));
        assert_eq!(after.lease.is_some(), !updated);
        assert_eq!(after.due_at.is_some(), !updated);
    }
}

/// Once a delete has succeeded there is nothing, whatever was on its way.
pub async fn a_delete_and_an_update_exclude_each_other(subject: Subject) {
    let stores = subject.pair().await;
    for round in 0..20 {
        let before = due(id(round), at(0));
        stores[0].insert(before.clone()).await.expect("insert");
        let expect = Expect::Revision(before.revision);
        let results = at_once(&stores, 6, |store, n| async move {
            match who_first(n, round, 6) {
                0 | 1 => store.delete(id(round), expect).await.is_ok(),
                2 | 3 => {
                    let change = Change {
                        due_at: Some(None),
                        snapshot: Some(sealed("update")),
                        ..Change::at(at(1))
                    };
                    store.update(id(round), expect, change).await.is_ok()
                }
                _ => !store.claim(claim(at(1))).await.expect("claim").is_empty(),
            }
        })
        .await;
        let winners = results.iter().filter(|won| **won).count();
        assert_eq!(winners, 1, "deletes, updates and claims of one revision: {results:?}");
        let after = stores[1].get(id(round)).await.expect("get");
        let deleted = (0..6).any(|n| results[n] && who_first(n, round, 6) < 2);
        assert_eq!(after.is_none(), deleted);
        if after.is_some() {
            stores[0].delete(id(round), Expect::Any).await.expect("delete");
        }
        let much_later = claim(at(1_000_000_000));
        assert_eq!(stores[0].claim(much_later).await.expect("claim"), []);
    }
}

/// Nobody who writes without looking, or for a lease that was theirs, brings back what is deleted.
pub async fn a_delete_is_the_last_of_all_writes(subject: Subject) {
    let stores = subject.pair().await;
    for round in 0..8 {
        let before = full(id(round));
        stores[0].insert(before.clone()).await.expect("insert");
        let gone = Arc::new(AtomicBool::new(false));
        at_once(&stores, 6, |store, n| {
            let (epoch, gone) = (before.epoch, gone.clone());
            async move {
                let part = who_first(n, round, 6);
                if part == 0 {
                    // Among so many others a busy server may ask for another try, and a try that
                    // seemed to fail may have been the one that removed it.
                    while let Err(error) = store.delete(id(round), Expect::Any).await {
                        if error.is_conflict() {
                            break;
                        }
                        assert!(error.is_retryable(), "delete: {error}");
                    }
                    gone.store(true, Ordering::SeqCst);
                    return;
                }
                loop {
                    // Asked before the write: one that began after the delete must be refused.
                    let was_gone = gone.load(Ordering::SeqCst);
                    let written = write_somehow(&*store, id(round), part, epoch).await;
                    assert!(!(written && was_gone), "written after the delete");
                    if was_gone {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            }
        })
        .await;
        for store in &stores {
            assert_eq!(store.get(id(round)).await.expect("get"), None, "it came back");
            assert_eq!(listed(&**store, &Filter::default()).await, [], "it is still listed");
        }
        let queues = vec![queue("purchase-approval")];
        let much_later = Claim { queues, ..claim(at(1_000_000_000)) };
        assert_eq!(stores[1].claim(much_later).await.expect("claim"), []);
    }
}

/// Updates, renews or claims a run, and says whether that was done.
async fn write_somehow(store: &dyn Store, id: RunId, part: usize, epoch: Epoch) -> bool {
    let written = match part {
        1 | 2 => {
            let change = Change { inbox_push: vec![sealed("late")], ..Change::at(at(1)) };
            store.update(id, Expect::Any, change).await.map(drop)
        }
        3 | 4 => store.renew(id, epoch, at(8_001)).await,
        _ => {
            let queues = vec![queue("purchase-approval")];
            match store.claim(Claim { queues, ..claim(at(8_000)) }).await {
                Ok(given) if given.is_empty() => return false,
                claimed => claimed.map(drop),
            }
        }
    };
    match written {
        Ok(()) => true,
        // A busy server may ask for another try, which is the next one.
        Err(error) if error.is_conflict() || error.is_retryable() => false,
        Err(error) => panic!("{error:?}"),
    }
}

/// Pages that are turned while runs of the same millisecond come in among those that are listed.
pub async fn pages_are_in_order_while_runs_come_in(subject: Subject) {
    let stores = subject.pair().await;
    let run = |place: u64| plain(id_at(5, place));
    insert_crowd(&stores[0], (0..30).map(|n| run(4 * n)).collect()).await;
    at_once(&stores, 4, |store, n| async move {
        // Between the first ones, near and far from each other in turn.
        let places = (0..15).map(|step| (n as u64 * 15 + step) * 37 % 60);
        let mut coming = places.map(|place| run(4 * (place / 2) + 1 + place % 2)).peekable();
        let mut last_look = false;
        while !last_look {
            last_look = coming.peek().is_none();
            let found = listed_amid(&*store, &mut coming).await;
            assert!(found.is_sorted_by(|a, b| a > b), "newest first, and nothing twice");
            let kept = (0..30).all(|n| found.contains(&id_at(5, 4 * n)));
            assert!(kept, "a run that was there all the time is missing");
        }
    })
    .await;
    assert_eq!(listed_amid(&*stores[1], &mut iter::empty()).await.len(), 90);
}

/// All runs, in small pages; while each of them is turned, the next of `coming` comes in.
async fn listed_amid(store: &dyn Store, coming: &mut impl Iterator<Item = Record>) -> Vec<RunId> {
    let everything = Filter::default();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let arrival = async {
            match coming.next() {
                Some(record) => store.insert(record).await,
                None => Ok(()),
            }
        };
        let (page, arrived) = tokio::join!(store.query(&everything, after, 4), arrival);
        arrived.expect("insert");
        let page = page.expect("query");
        found.extend(page.items.into_iter().map(|it| it.expect("a record that reads back").id));
        let Some(next) = page.next else { return found };
        after = Some(next);
    }
}

/// A renewal neither undoes an update that it overlaps, nor is undone by it.
pub async fn renewals_and_updates_do_not_undo_each_other(subject: Subject) {
    let stores = subject.pair().await;
    let before = full(id(1));
    stores[0].insert(before.clone()).await.expect("insert");
    let renewed = Arc::new(AtomicBool::new(false));
    let updates = at_once(&stores, 4, |store, n| {
        let (epoch, renewed) = (before.epoch, renewed.clone());
        async move {
            if n == 0 {
                for step in 0..25 {
                    store.renew(id(1), epoch, at(10_000 + step)).await.expect("renew");
                    tokio::task::yield_now().await;
                }
                renewed.store(true, Ordering::SeqCst);
                return 0;
            }
            // Updates go on for as long as renewals do, so that some of them overlap.
            let mut count = 0;
            while !renewed.load(Ordering::SeqCst) || count < 5 {
                let change = Change {
                    attempts: Some(count),
                    snapshot: (n == 1).then(|| sealed(&format!("snapshot {count}"))),
                    ..Change::at(at(1))
                };
                store.update(id(1), Expect::Any, change).await.expect("update");
                count += 1;
                tokio::task::yield_now().await;
            }
            count
        }
    })
    .await;
    let after = read(&*stores[1], id(1)).await;
    let counted = after.revision.0 - before.revision.0;
    assert_eq!(
        counted,
        updates.iter().copied().map(u64::from).sum::<u64>(),
        "updates, no renewals"
    );
    assert_eq!(after.snapshot, sealed(&format!("snapshot {}", updates[1] - 1)));
    assert_eq!(after.lease.expect("a lease").until, at(10_024), "the last renewal holds");
    assert_eq!(after.due_at, Some(at(10_024)));
    let queues = vec![queue("purchase-approval")];
    let early = Claim { queues: queues.clone(), ..claim(at(10_023)) };
    assert_eq!(stores[0].claim(early).await.expect("claim"), []);
    let late = Claim { queues, lease: Duration::from_secs(1), ..claim(at(10_024)) };
    assert_eq!(stores[0].claim(late).await.expect("claim").len(), 1);
}

/// Snapshot, inbox, metadata and revision that are written together are read together.
pub async fn a_reader_never_sees_half_a_write(subject: Subject) {
    let stores = subject.pair().await;
    let state = |n: u64| -> (Metadata, Sealed, Vec<Sealed>) {
        let text = n.to_string();
        // Large and small in turn, so that what is behind one row moves between places.
        let snapshot =
            Sealed(text.repeat(if n.is_multiple_of(2) { 1 } else { 20_000 }).into_bytes());
        (Metadata::from([("n".into(), (n as i64).into())]), snapshot, vec![sealed(&text); 2])
    };
    let (metadata, snapshot, inbox) = state(1);
    let first = Record { metadata, snapshot, inbox, ..plain(id(1)) };
    stores[0].insert(first).await.expect("insert");
    at_once(&stores, 6, |store, n| async move {
        if n == 0 {
            for next in 2..60 {
                let (metadata, snapshot, inbox) = state(next);
                let change = Change {
                    metadata: Some(metadata),
                    snapshot: Some(snapshot),
                    inbox: Some(inbox),
                    ..Change::at(at(1))
                };
                store.update(id(1), Expect::Any, change).await.expect("update");
            }
            return;
        }
        let mut last = 0;
        while last < 59 {
            let record = read(&*store, id(1)).await;
            let (metadata, snapshot, inbox) = state(record.revision.0);
            assert_eq!(record.metadata, metadata);
            assert!(record.snapshot == snapshot, "the snapshot of another revision");
            assert_eq!(record.inbox, inbox);
            assert!(record.revision.0 >= last, "a reader went back in time");
            last = record.revision.0;
            // A store that never waits must not keep the writer from its turn.
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A record that is deleted while others read and list it is there, whole, or it is not.
pub async fn a_reader_never_sees_half_a_deletion(subject: Subject) {
    const RECORDS: u64 = 120;
    let stores = subject.pair().await;
    insert_crowd(&stores[0], (0..RECORDS).map(|n| full(id(n))).collect()).await;
    let gone = Arc::new(AtomicBool::new(false));
    at_once(&stores, 6, |store, part| {
        let gone = gone.clone();
        async move {
            if part == 0 {
                for n in (0..RECORDS).rev() {
                    store.delete(id(n), Expect::Any).await.expect("delete");
                }
                gone.store(true, Ordering::SeqCst);
                return;
            }
            let mut next = RECORDS - 1;
            while !gone.load(Ordering::SeqCst) {
                // The run that goes next, or has just gone.
                let page = store.query(&Filter::default(), None, 3).await.expect("query");
                for listed in page.items {
                    let summary = listed.expect("a record that reads back");
                    assert_same!(summary, Summary::from(&full(summary.id)));
                }
                for _ in 0..part {
                    match store.get(id(next)).await.expect("get") {
                        Some(record) => assert_same!(record, full(id(next))),
                        None => next = next.saturating_sub(1),
                    }
                }
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    assert_eq!(listed(&*stores[1], &Filter::default()).await, []);
}
