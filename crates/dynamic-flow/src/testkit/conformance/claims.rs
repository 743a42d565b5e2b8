//! Who gets which run to work on, and what changes with it.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Subject,
    build::{
        at, claim, due, full, id, id_at, insert_all, insert_crowd, listed, moved, plain, queue,
        read, sealed,
    },
    records::ODD_TEXTS,
};
use crate::{
    clock::{Clock as _, SystemClock, Timestamp, hours},
    engine::RunStatus,
    id::RunId,
    store::{Change, Claim, Expect, Filter, Lease, Record, Store},
};

/// What a claim gives, by id, in its order.
async fn claimed(store: &dyn Store, claim: Claim) -> Vec<RunId> {
    store.claim(claim).await.expect("claim").iter().map(|record| record.id).collect()
}

/// A run without a due time or without a queue is never given, nor one whose time has not come.
pub async fn only_what_is_due_is_claimed(subject: Subject) {
    let store = subject.provisioned().await;
    let early = Timestamp::from_millis(i64::MIN);
    let records = [
        due(id(1), at(10)),
        due(id(2), at(11)),
        due(id(3), Timestamp::from_millis(i64::MAX)),
        due(id(4), early),
        Record { due_at: None, ..due(id(5), at(0)) },
        Record { queue: None, ..due(id(6), at(0)) },
        plain(id(7)),
    ];
    insert_all(&*store, &records).await;
    let all = |now| Claim { limit: 100, ..claim(now) };
    assert_eq!(claimed(&*store, all(at(10))).await, [id(4), id(1)]);
    assert_eq!(claimed(&*store, all(at(10))).await, []);
    assert_eq!(claimed(&*store, all(at(11))).await, [id(2)]);
    for n in [5, 6, 7] {
        assert_eq!(read(&*store, id(n)).await.epoch.0, 0, "nobody may have claimed {n}");
    }
}

/// The millisecond at which a run is due, and at which a lease lapses, belongs to the claimer.
pub async fn due_now_is_due(subject: Subject) {
    let store = subject.provisioned().await;
    store.insert(due(id(1), at(1000))).await.expect("insert");
    assert_eq!(claimed(&*store, claim(at(999))).await, []);
    assert_eq!(claimed(&*store, claim(at(1000))).await, [id(1)]);
    let lapse = at(1000 + 60_000);
    assert_eq!(claimed(&*store, claim(lapse.before(Duration::from_millis(1)))).await, []);
    assert_eq!(claimed(&*store, claim(lapse)).await, [id(1)]);
}

/// A worker gets runs of the queues that it names, each run once.
pub async fn only_the_named_queues_are_claimed(subject: Subject) {
    let store = subject.provisioned().await;
    for (n, name) in (1..).zip(["a", "b", "c", "@documents", "@purge"]) {
        let record = Record { queue: Some(queue(name)), ..due(id(n), at(0)) };
        store.insert(record).await.expect("insert");
    }
    let of = |names: &[&str], limit| Claim {
        queues: names.iter().map(|name| queue(name)).collect(),
        limit,
        ..claim(at(1))
    };
    assert_eq!(claimed(&*store, of(&[], 10)).await, []);
    assert_eq!(claimed(&*store, of(&["d", "", "purge", "@"], 10)).await, []);
    assert_eq!(claimed(&*store, of(&["b", "b", "b"], 10)).await, [id(2)]);
    let both: BTreeSet<_> =
        claimed(&*store, of(&["a", "@purge", "d"], 10)).await.into_iter().collect();
    assert_eq!(both, [id(1), id(5)].into());
    assert_eq!(claimed(&*store, of(&["@documents", "c"], 1)).await.len(), 1);
}

/// Queues are compared exactly: no case, no wildcard, no prefix, no normal form.
pub async fn queues_that_look_alike_are_different(subject: Subject) {
    let store = subject.provisioned().await;
    for (n, name) in (1..).zip(ODD_TEXTS) {
        let record = Record { queue: Some(queue(name)), ..due(id(n), at(0)) };
        store.insert(record).await.expect("insert");
    }
    for (n, name) in (1..).zip(ODD_TEXTS) {
        let of_name = Claim { queues: vec![queue(name)], limit: 100, ..claim(at(1)) };
        assert_eq!(claimed(&*store, of_name).await, [id(n)], "the queue {name:?}");
    }
}

/// What time it is, the claimer says: no clock of a store or a server has a word in it.
pub async fn a_claim_goes_by_the_time_of_its_claimer(subject: Subject) {
    let store = subject.provisioned().await;
    let wall = SystemClock.now();
    let (day, century) = (hours(24), hours(24 * 36_525));
    let times = [
        Timestamp::from_millis(0),
        wall.before(century),
        wall.before(day),
        wall,
        wall.after(day),
        wall.after(century),
    ];
    for (n, now) in (1..).zip(times) {
        let name = format!("clock {n}");
        let of = |late: u64| Claim {
            now: now.after(Duration::from_millis(late)),
            queues: vec![queue(&name)],
            limit: 10,
            ..claim(now)
        };
        let due = |n, late| Record { queue: Some(queue(&name)), ..due(id(n), of(late).now) };
        insert_all(&*store, &[due(n + 200, 2), due(n + 100, 1), due(n, 0)]).await;
        let an_hour_behind = Claim { now: now.before(hours(1)), ..of(0) };
        assert_eq!(claimed(&*store, an_hour_behind).await, [], "by a clock that is behind");
        let given = store.claim(of(0)).await.expect("claim");
        assert_eq!(given.iter().map(|record| record.id).collect::<Vec<_>>(), [id(n)], "at {now}");
        assert_eq!(given[0].updated_at, now);
        assert_eq!(given[0].due_at, Some(of(60_000).now), "the lease is counted from {now}");
        store.renew(id(n), given[0].epoch, of(10_000).now).await.expect("renew");
        assert_eq!(claimed(&*store, of(9_999)).await, [id(n + 100), id(n + 200)], "in this order");
        assert_eq!(claimed(&*store, of(9_999)).await, [], "all are leased at {now}");
        assert_eq!(
            claimed(&*store, of(10_000)).await,
            [id(n)],
            "a lease that lapsed by that clock"
        );
    }
}

/// A lease protects its run even if the run is due; it ends by itself.
pub async fn a_leased_run_is_not_claimed_until_its_lease_lapses(subject: Subject) {
    let store = subject.provisioned().await;
    let lease = |until| Some(Lease { owner: "holder".into(), until: at(until) });
    let records = [
        Record { lease: lease(100), ..due(id(1), at(0)) },
        Record { lease: lease(50), ..due(id(2), at(80)) },
    ];
    insert_all(&*store, &records).await;
    let all = |now| Claim { limit: 10, ..claim(at(now)) };
    assert_eq!(claimed(&*store, all(79)).await, [], "one is leased, the other not due");
    assert_eq!(claimed(&*store, all(80)).await, [id(2)]);
    assert_eq!(claimed(&*store, all(99)).await, []);
    assert_eq!(claimed(&*store, all(100)).await, [id(1)]);
    let taken = read(&*store, id(1)).await;
    assert_eq!(taken.lease.expect("a lease").owner, "claimer");
}

/// However many leased runs are due before it, a free one is found.
pub async fn leased_runs_do_not_hide_free_ones(subject: Subject) {
    let store = subject.provisioned().await;
    let lease = Some(Lease { owner: "holder".into(), until: at(100_000) });
    let leased = |n| Record { lease: lease.clone(), ..due(id(n), at(0)) };
    insert_crowd(&store, (0..200).map(leased).collect()).await;
    store.insert(due(id(500), at(5))).await.expect("insert");
    assert_eq!(claimed(&*store, claim(at(5))).await, [id(500)]);
}

/// Order is by due time, across queues, whatever the order of ids, inserts and names.
pub async fn those_due_for_longest_come_first(subject: Subject) {
    let store = subject.provisioned().await;
    // Of different numbers of digits, and negative, where text would sort otherwise.
    let times = [5, 1000, -7, 99, 100, -70, 42, 3, 10_000, 0];
    for (n, time) in (1..).zip(times) {
        let name = ["q", "a", "z"][n as usize % 3];
        let due_at = if time < 0 { Timestamp::from_millis(time) } else { at(time) };
        let record = Record { queue: Some(queue(name)), ..due(id(n), due_at) };
        store.insert(record).await.expect("insert");
    }
    let three = || Claim {
        queues: vec![queue("z"), queue("q"), queue("a")],
        limit: 3,
        lease: Duration::from_secs(1 << 30),
        ..claim(at(1000))
    };
    assert_eq!(claimed(&*store, three()).await, [id(6), id(3), id(10)]);
    assert_eq!(claimed(&*store, three()).await, [id(8), id(1), id(7)]);
    assert_eq!(claimed(&*store, three()).await, [id(4), id(5), id(2)]);
    assert_eq!(claimed(&*store, three()).await, []);
}

/// No more than asked for; the rest stays for others; nothing is nothing.
pub async fn a_claim_keeps_to_its_limit(subject: Subject) {
    let store = subject.provisioned().await;
    for n in 0..10 {
        store.insert(due(id(n), at(n as i64))).await.expect("insert");
    }
    let some = |limit| Claim { limit, ..claim(at(100)) };
    assert_eq!(claimed(&*store, some(0)).await, []);
    assert_eq!(claimed(&*store, some(1)).await, [id(0)]);
    assert_eq!(claimed(&*store, some(4)).await.len(), 4);
    assert_same!(read(&*store, id(5)).await, due(id(5), at(5)), "what was not given is untouched");
    assert_eq!(claimed(&*store, some(usize::MAX)).await.len(), 5);
}

/// Runs that the claimer can't go on with are left to others, and keep it from no others, however
/// many they are and however long they have been due.
pub async fn a_claim_leaves_alone_what_it_excepts(subject: Subject) {
    let store = subject.provisioned().await;
    insert_crowd(&store, (0..150).map(|n| due(id(n), at(n as i64))).collect()).await;
    let but = |except: std::ops::Range<u64>| Claim {
        except: except.map(id).collect(),
        limit: 2,
        ..claim(at(1000))
    };
    assert_eq!(claimed(&*store, but(0..148)).await, [id(148), id(149)]);
    assert_eq!(claimed(&*store, but(0..148)).await, []);
    assert_eq!(read(&*store, id(0)).await, due(id(0), at(0)), "what was left alone is untouched");
    assert_eq!(claimed(&*store, but(1..148)).await, [id(0)]);
    // One that is not there, or not due, is no fault.
    assert_eq!(claimed(&*store, but(145..1145)).await, [id(1), id(2)]);
}

/// Lease, due time, epoch, revision, attempts, time and status change, and nothing else.
pub async fn a_claim_changes_what_it_says(subject: Subject) {
    let store = subject.provisioned().await;
    let statuses = [RunStatus::Waiting, RunStatus::Ready, RunStatus::Running];
    for (n, status) in (1..).zip(statuses) {
        let before = Record { status, lease: None, ..full(id(n)) };
        store.insert(before.clone()).await.expect("insert");
        let claim = Claim {
            queues: vec![queue("purchase-approval")],
            owner: "wörker \"2\"".into(),
            lease: Duration::from_millis(1234),
            ..claim(at(8_500))
        };
        let given = store.claim(claim.clone()).await.expect("claim");
        let mut after = before.clone();
        claim.apply(&mut after);
        assert_eq!(after.lease.as_ref().map(|lease| lease.until), Some(at(9_734)));
        assert_eq!(after.due_at, Some(at(9_734)));
        assert_eq!(after.status, RunStatus::Running);
        assert_same!(given, [after.clone()]);
        assert_same!(read(&*store, id(n)).await, after);
        let again = Claim { now: at(9_734), ..claim };
        let given = store.claim(again.clone()).await.expect("claim");
        again.apply(&mut after);
        assert_same!(given, [after], "a takeover counts on");
        store.delete(id(n), Expect::Any).await.expect("delete");
    }
}

/// What is given includes snapshot, inbox, waits and metadata.
pub async fn a_claim_gives_the_whole_record(subject: Subject) {
    let store = subject.provisioned().await;
    for n in 0..5 {
        let mut record = full(id(n));
        record.lease = None;
        record.inbox.push(sealed(&format!("item of {n}")));
        store.insert(record).await.expect("insert");
    }
    let queues = vec![queue("purchase-approval")];
    let all = Claim { queues, limit: 10, ..claim(at(10_000)) };
    let given = store.claim(all).await.expect("claim");
    assert_eq!(given.len(), 5);
    for record in given {
        assert_eq!(record.inbox.len(), 3);
        assert_same!(read(&*store, record.id).await, record);
    }
}

/// A run that ended is claimed to be purged: it does not start to run again.
pub async fn a_claim_of_an_ended_run_keeps_its_status(subject: Subject) {
    let store = subject.provisioned().await;
    for (n, status) in (1..).zip(RunStatus::ALL) {
        store.insert(Record { status, ..due(id(n), at(0)) }).await.expect("insert");
    }
    let all = Claim { limit: 100, ..claim(at(1)) };
    assert_eq!(store.claim(all).await.expect("claim").len(), RunStatus::ALL.len());
    for (n, status) in (1..).zip(RunStatus::ALL) {
        let expected = if status.is_final() { status } else { RunStatus::Running };
        assert_eq!(read(&*store, id(n)).await.status, expected);
        let of_status = Filter { status: [expected].into(), ..Filter::default() };
        assert!(listed(&*store, &of_status).await.contains(&id(n)), "listed as {expected}");
    }
}

/// A due time or a queue that was taken away leaves nothing to claim behind.
pub async fn a_run_leaves_the_queue_when_its_due_time_is_cleared(subject: Subject) {
    let store = subject.provisioned().await;
    insert_all(&*store, &[due(id(1), at(0)), due(id(2), at(0)), due(id(3), at(0))]).await;
    let cleared = moved(None);
    store.update(id(1), Expect::Any, cleared.clone()).await.expect("update");
    let unqueued = Change { queue: Some(None), ..Change::at(at(1)) };
    store.update(id(2), Expect::Any, unqueued).await.expect("update");
    let all = Claim { limit: 10, ..claim(at(100)) };
    assert_eq!(claimed(&*store, all.clone()).await, [id(3)]);
    let released = Change { lease: Some(None), ..cleared };
    store.update(id(3), Expect::Any, released).await.expect("update");
    let much_later = Claim { now: at(1_000_000_000), ..all.clone() };
    assert_eq!(claimed(&*store, much_later.clone()).await, []);
    let back = Change { queue: Some(Some(queue("q"))), ..Change::at(at(2)) };
    store.update(id(2), Expect::Any, back).await.expect("update");
    assert_eq!(claimed(&*store, much_later).await, [id(2)], "its due time was kept");
}

/// Earlier, later, another queue: the run is found where it is now, and there only.
pub async fn a_run_moves_in_the_queue_when_its_due_time_moves(subject: Subject) {
    let store = subject.provisioned().await;
    insert_all(&*store, &[due(id(1), at(100)), due(id(2), at(200)), due(id(3), at(300))]).await;
    store.update(id(1), Expect::Any, moved(Some(at(400)))).await.expect("update");
    store.update(id(3), Expect::Any, moved(Some(at(50)))).await.expect("update");
    let other = Change { queue: Some(Some(queue("r"))), ..Change::at(at(1)) };
    store.update(id(2), Expect::Any, other).await.expect("update");
    let all = |now| Claim { limit: 10, lease: Duration::from_secs(9999), ..claim(at(now)) };
    assert_eq!(claimed(&*store, all(49)).await, []);
    assert_eq!(claimed(&*store, all(50)).await, [id(3)]);
    assert_eq!(claimed(&*store, all(399)).await, []);
    assert_eq!(claimed(&*store, all(400)).await, [id(1)]);
    let of_other = Claim { queues: vec![queue("r")], ..all(400) };
    assert_eq!(claimed(&*store, of_other).await, [id(2)]);
}

/// A run that is gone is no candidate, and takes no place of one that is there.
pub async fn a_deleted_run_is_not_claimed(subject: Subject) {
    let store = subject.provisioned().await;
    for n in 0..20 {
        store.insert(due(id_at(0, n), at(0))).await.expect("insert");
    }
    for n in 0..19 {
        store.delete(id_at(0, n), Expect::Any).await.expect("delete");
    }
    assert_eq!(claimed(&*store, claim(at(1))).await, [id_at(0, 19)]);
    assert_eq!(claimed(&*store, claim(at(1))).await, []);
}

/// A lease of all time ends at the end of time, and does not wrap.
pub async fn a_lease_without_end_saturates(subject: Subject) {
    let store = subject.provisioned().await;
    let tired = Record { attempts: u32::MAX, ..due(id(1), at(0)) };
    store.insert(tired).await.expect("insert");
    let forever = Claim { lease: Duration::MAX, ..claim(at(1)) };
    let given = store.claim(forever).await.expect("claim");
    assert_eq!(given[0].due_at, Some(Timestamp::from_millis(i64::MAX)));
    assert_eq!(given[0].attempts, u32::MAX);
    assert_same!(read(&*store, id(1)).await, given[0]);
    assert_eq!(claimed(&*store, claim(at(1_000_000))).await, []);
}
