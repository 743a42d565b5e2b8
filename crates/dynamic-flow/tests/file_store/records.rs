//! One record: written as a whole, on one condition, by one at a time.

use std::{fs, time::Duration};

use dynamic_flow::{
    Clock as _, ErrorKind, Metadata, Revision, RunId, RunStatus, Scalar, SystemClock, Timestamp,
    codec::Sealed,
    store::{Change, Expect, FileStore, Filter, Lease, Store},
};

use super::support::*;

#[tokio::test]
async fn another_store_on_the_folder_reads_what_was_written_as_it_was() {
    let place = Place::new().await;
    let mut record = parked();
    record.lease = Some(Lease { owner: "\"me\"\n".into(), until: Timestamp::from_millis(-5) });
    record.due_at = Some(Timestamp::from_millis(i64::MIN));
    record.metadata.insert("π".into(), Scalar::Float(2.0));
    record.metadata.insert("".into(), Scalar::Text("../\u{1}\\\"".into()));
    record.flow_id = "../../etc/passwd".into();
    place.store.insert(record.clone()).await.unwrap();

    let other = FileStore::new(&place.path);
    assert_eq!(other.get(record.id).await.unwrap(), Some(record));
}

#[tokio::test]
async fn a_record_is_json_that_people_can_read() {
    let place = Place::new().await;
    let record = parked();
    place.store.insert(record.clone()).await.unwrap();
    let text = fs::read_to_string(place.record(record.id)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["format"], 1);
    assert_eq!(json["id"], record.id.to_string());
    assert_eq!(json["status"], "waiting");
    assert_eq!(json["snapshot"], "AHNlYWxlZP8gc25hcHNob3Q");
    assert_eq!(json["inbox"], serde_json::json!(["AQID", ""]));
}

#[tokio::test]
async fn an_insert_never_replaces_a_record() {
    let place = Place::new().await;
    let record = parked();
    place.store.insert(record.clone()).await.unwrap();
    let mut second = record.clone();
    second.status = RunStatus::Failed;
    assert_eq!(kind(place.store.insert(second).await), ErrorKind::AlreadyExists);
    assert_eq!(place.store.get(record.id).await.unwrap(), Some(record));
    assert_eq!(place.list(&of_status(RunStatus::Failed)).await, vec![]);
}

#[tokio::test]
async fn an_update_keeps_what_it_does_not_name_and_needs_the_revision() {
    let place = Place::new().await;
    let record = parked();
    place.store.insert(record.clone()).await.unwrap();
    let change = Change {
        inbox_drop: 1,
        inbox_push: vec![Sealed(vec![9])],
        ..with_status(RunStatus::Ready)
    };
    let first = Expect::Revision(Revision::FIRST);
    let revision = place.store.update(record.id, first, change.clone()).await.unwrap();
    let mut expected = record.clone();
    change.clone().apply(&mut expected);
    assert_eq!(revision, Revision(2));
    assert_eq!(place.store.get(record.id).await.unwrap(), Some(expected.clone()));

    let late = place.store.update(record.id, first, change.clone()).await;
    assert_eq!(kind(late), ErrorKind::Conflict);
    assert_eq!(place.store.get(record.id).await.unwrap(), Some(expected.clone()));

    let snapshot = Change { snapshot: Some(Sealed(vec![4; 5000])), ..Change::at(at(5)) };
    place.store.update(record.id, Expect::Any, snapshot.clone()).await.unwrap();
    snapshot.apply(&mut expected);
    assert_eq!(place.store.get(record.id).await.unwrap(), Some(expected));
}

#[tokio::test]
async fn what_is_deleted_stays_deleted_and_leaves_nothing() {
    let place = Place::new().await;
    let record = parked();
    let clean = files(&place.path);
    place.store.insert(record.clone()).await.unwrap();
    let wrong = place.store.delete(record.id, Expect::Revision(Revision(2))).await;
    assert_eq!(kind(wrong), ErrorKind::Conflict);
    assert!(place.store.get(record.id).await.unwrap().is_some());

    place.store.delete(record.id, Expect::Revision(Revision::FIRST)).await.unwrap();
    let late = place.store.update(record.id, Expect::Any, Change::at(NOW)).await;
    assert_eq!(kind(late), ErrorKind::Conflict);
    assert_eq!(kind(place.store.delete(record.id, Expect::Any).await), ErrorKind::Conflict);
    assert_eq!(place.store.get(record.id).await.unwrap(), None);
    let locks = |path: &std::path::PathBuf| !path.starts_with(place.path.join("locks"));
    let left: Vec<_> = files(&place.path).into_iter().filter(locks).collect();
    assert_eq!(left, clean.into_iter().filter(locks).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_folder_of_old_records_goes_with_the_last_of_them() {
    let place = Place::new().await;
    let mut record = parked();
    record.id = RunId::new(Timestamp::from_millis(1_000_000_000_000)).unwrap();
    place.store.insert(record.clone()).await.unwrap();
    assert_eq!(fs::read_dir(place.path.join("runs")).unwrap().count(), 1);
    place.store.delete(record.id, Expect::Any).await.unwrap();
    assert_eq!(fs::read_dir(place.path.join("runs")).unwrap().count(), 0);
    place.store.insert(record.clone()).await.unwrap();
    assert_eq!(place.list(&Filter::default()).await.len(), 1);
}

#[tokio::test]
async fn the_folder_that_new_records_come_into_stays() {
    let place = Place::new().await;
    // A folder has the runs of 4.7 hours. One that is just full may still be written to.
    let now = SystemClock.now();
    let before = Timestamp::from_millis(now.as_millis() - (1 << 24));
    for created in [now, before] {
        let mut record = parked();
        record.id = RunId::new(created).unwrap();
        place.store.insert(record.clone()).await.unwrap();
        place.store.delete(record.id, Expect::Any).await.unwrap();
    }
    assert_eq!(fs::read_dir(place.path.join("runs")).unwrap().count(), 2);
}

#[tokio::test]
async fn a_run_may_wait_for_more_tools_than_a_file_name_holds() {
    let place = Place::new().await;
    let mut record = parked();
    record.waits = (0..60).map(|n| wait(&format!("tool-{n}"), Some(at(n)))).collect();
    place.store.insert(record.clone()).await.unwrap();
    let asked = Filter { tool_id: Some("tool-59".into()), ..Filter::default() };
    assert_eq!(place.list(&asked).await.len(), 1);
    assert_eq!(place.store.get(record.id).await.unwrap(), Some(record));
}

#[tokio::test]
async fn metadata_that_json_would_change_is_refused() {
    let place = Place::new().await;
    let mut record = parked();
    record.metadata = Metadata::from([("share".into(), Scalar::Float(f64::NAN))]);
    let refused = place.store.insert(record.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    assert!(refused.to_string().contains("share"), "{refused}");
    assert_eq!(place.store.get(record.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_claim_gives_due_runs_once_those_due_for_longest_first() {
    let place = Place::new().await;
    let mut ids = Vec::new();
    for due in [50, -9_000_000, 0, -60_000] {
        let mut record = parked();
        record.due_at = Some(at(due));
        ids.push(record.id);
        place.store.insert(record).await.unwrap();
    }
    assert_eq!(place.claimed(at(0), 2).await, [ids[1], ids[3]]);
    assert_eq!(place.claimed(at(0), 0).await, []);

    let last = place.store.claim(claim(at(0), 9)).await.unwrap();
    let mut expected = parked();
    expected.id = ids[2];
    expected.due_at = Some(at(0));
    let lease = Lease { owner: "worker".into(), until: at(30_000) };
    let change = Change {
        epoch: Some(expected.epoch.next()),
        attempts: Some(1),
        due_at: Some(Some(at(30_000))),
        lease: Some(Some(lease)),
        ..with_status(RunStatus::Running)
    };
    change.apply(&mut expected);
    assert_eq!(last, [expected]);

    assert_eq!(place.claimed(at(49), 9).await, []);
    assert_eq!(place.claimed(at(29_999), 9).await, [ids[0]]);
    assert_eq!(place.claimed(at(30_000), 9).await.len(), 3);
}

#[tokio::test]
async fn a_claim_passes_by_a_run_that_is_being_written_and_comes_back_if_it_must() {
    let place = Place::new().await;
    let mut busy = parked();
    busy.due_at = Some(at(-2));
    let mut free = parked();
    free.due_at = Some(at(-1));
    while free.id.as_bytes()[15] % 64 == busy.id.as_bytes()[15] % 64 {
        free.id = RunId::new(NOW).unwrap();
    }
    place.store.insert(busy.clone()).await.unwrap();
    place.store.insert(free.clone()).await.unwrap();
    let lock = place.lock(busy.id);
    lock.lock().unwrap();
    assert_eq!(place.claimed(at(0), 1).await, [free.id]);
    let store = place.store.clone();
    let waiting = tokio::spawn(async move { store.claim(claim(at(0), 1)).await });
    while !waiting.is_finished() && !is_waited_for(&lock) {
        tokio::task::yield_now().await;
    }
    drop(lock);
    assert_eq!(waiting.await.unwrap().unwrap()[0].id, busy.id);
}

#[tokio::test]
async fn a_writer_that_is_stopped_in_the_middle_holds_nobody_up_for_ever() {
    let place = Place::new().await;
    let mut record = parked();
    record.due_at = Some(at(-1));
    let id = record.id;
    place.store.insert(record.clone()).await.unwrap();
    let lock = place.lock(id);
    lock.lock().unwrap();
    let store = place.store.clone().lock_timeout(Duration::from_millis(20));
    for error in [
        store.update(id, Expect::Any, Change::at(at(1))).await.unwrap_err(),
        store.delete(id, Expect::Any).await.unwrap_err(),
        store.renew(id, record.epoch, at(1)).await.unwrap_err(),
        store.insert(record.clone()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::StorageError);
        assert!(error.is_retryable());
        let text = error.to_string();
        for word in ["lock a record", "20ms", "lslocks", "/locks/"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
    // Readers need no lock.
    assert_eq!(store.get(id).await.unwrap(), Some(record));
    drop(lock);
    store.update(id, Expect::Any, Change::at(at(1))).await.unwrap();
}

#[tokio::test]
async fn a_claim_waits_for_a_writer_that_is_stopped_once_and_not_for_each_of_its_runs() {
    let place = Place::new().await;
    let stopped = parked().id.as_bytes()[15] % 64;
    for n in 0..40 {
        let mut record = parked();
        record.due_at = Some(at(-n));
        let mut id = *record.id.as_bytes();
        id[15] = stopped;
        record.id = RunId::from_bytes(id);
        place.store.insert(record).await.unwrap();
    }
    let lock = place.lock(RunId::from_bytes([stopped; 16]));
    lock.lock().unwrap();
    let claiming = tokio::time::timeout(Duration::from_secs(20), place.claimed(at(0), 50));
    assert_eq!(claiming.await.expect("it gives up soon"), []);
    drop(lock);
    assert_eq!(place.claimed(at(0), 50).await.len(), 40);
}

#[tokio::test]
async fn a_claim_is_only_about_its_queues_and_leaves_a_final_status() {
    let place = Place::new().await;
    let mut other = parked();
    other.queue = Some(dynamic_flow::store::Queue("@purge".into()));
    other.status = RunStatus::Completed;
    other.due_at = Some(at(-1));
    let mut nobodys = parked();
    nobodys.queue = None;
    nobodys.due_at = Some(at(-1));
    let mut held = parked();
    held.due_at = Some(at(-1));
    held.lease = Some(Lease { owner: "other".into(), until: at(1) });
    for record in [&other, &nobodys, &held] {
        place.store.insert(record.clone()).await.unwrap();
    }
    assert_eq!(place.claimed(at(0), 9).await, []);
    let mut both = claim(at(0), 9);
    both.queues.push(other.queue.clone().unwrap());
    both.queues.push(queue());
    let claimed = place.store.claim(both).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].id, claimed[0].status), (other.id, RunStatus::Completed));
    assert_eq!(place.claimed(at(1), 9).await, [held.id]);
}

#[tokio::test]
async fn a_renewal_moves_the_end_of_the_lease_and_rewrites_no_state() {
    let place = Place::new().await;
    let mut record = parked();
    record.due_at = Some(at(0));
    place.store.insert(record).await.unwrap();
    let held = place.store.claim(claim(at(0), 1)).await.unwrap().remove(0);
    let file = place.record(held.id);
    let before = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap());

    place.store.renew(held.id, held.epoch, at(60_000)).await.unwrap();
    place.store.renew(held.id, held.epoch, at(90_000)).await.unwrap();
    let after = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap());
    assert_eq!(after, before);
    let mut expected = held.clone();
    expected.due_at = Some(at(90_000));
    expected.lease.as_mut().unwrap().until = at(90_000);
    assert_eq!(place.store.get(held.id).await.unwrap(), Some(expected.clone()));
    let listed = place.list(&Filter::default()).await.remove(0);
    assert_eq!((listed.due_at, listed.lease), (expected.due_at, expected.lease.clone()));
    assert_eq!(place.due_hints().len(), 1);

    // What the lease was before does not come back, whatever is written next.
    let change = Change { inbox_push: vec![Sealed(vec![8])], ..Change::at(at(1)) };
    place.store.update(held.id, Expect::Revision(held.revision), change.clone()).await.unwrap();
    change.apply(&mut expected);
    assert_eq!(place.store.get(held.id).await.unwrap(), Some(expected.clone()));

    assert_eq!(place.claimed(at(89_999), 1).await, []);
    assert_eq!(place.claimed(at(90_000), 1).await, [held.id]);
    let late = place.store.renew(held.id, held.epoch, at(200_000)).await;
    assert_eq!(kind(late), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_renewal_is_void_after_the_next_write() {
    let place = Place::new().await;
    let mut record = parked();
    record.due_at = Some(at(0));
    place.store.insert(record).await.unwrap();
    let held = place.store.claim(claim(at(0), 1)).await.unwrap().remove(0);
    place.store.renew(held.id, held.epoch, at(60_000)).await.unwrap();
    // As a process leaves it that dies right after its write.
    let lease = place.record(held.id).with_extension("lease");
    let left_over = fs::read(&lease).unwrap();
    let sooner = Lease { owner: "worker".into(), until: at(10_000) };
    let change = Change {
        lease: Some(Some(sooner.clone())),
        due_at: Some(Some(at(10_000))),
        ..Change::at(NOW)
    };
    place.store.update(held.id, Expect::Any, change).await.unwrap();
    assert!(!lease.exists());
    fs::write(&lease, left_over).unwrap();
    let read = place.store.get(held.id).await.unwrap().unwrap();
    assert_eq!((read.lease, read.due_at), (Some(sooner), Some(at(10_000))));

    // And as a power failure may leave it.
    fs::write(&lease, b"").unwrap();
    assert_eq!(place.store.get(held.id).await.unwrap().unwrap().due_at, Some(at(10_000)));
    let free = Change { lease: Some(None), ..Change::at(NOW) };
    place.store.update(held.id, Expect::Any, free).await.unwrap();
    let nobody = place.store.renew(held.id, held.epoch, at(60_000)).await;
    assert_eq!(kind(nobody), ErrorKind::Conflict);
    let missing = place.store.renew(parked().id, held.epoch, at(60_000)).await;
    assert_eq!(kind(missing), ErrorKind::Conflict);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_updates_at_once_that_expect_one_revision_one_succeeds() {
    let place = Place::new().await;
    let record = parked();
    place.store.insert(record.clone()).await.unwrap();
    for round in 1..=10 {
        let tasks: Vec<_> = (0..32)
            .map(|n| {
                // Half of them through another store: locks must hold between those too.
                let store =
                    if n % 2 == 0 { place.store.clone() } else { FileStore::new(&place.path) };
                let change = Change { attempts: Some(n), ..Change::at(NOW) };
                let expect = Expect::Revision(Revision(round));
                tokio::spawn(async move { (n, store.update(record.id, expect, change).await) })
            })
            .collect();
        let mut winners = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                (n, Ok(revision)) => winners.push((n, revision)),
                (_, Err(error)) => assert!(error.is_conflict(), "{error}"),
            }
        }
        let read = place.store.get(record.id).await.unwrap().unwrap();
        assert_eq!(winners, [(read.attempts, Revision(round + 1))]);
    }
}

#[tokio::test]
async fn a_dropped_call_leaves_its_write_done_or_not_done() {
    let place = Place::new().await;
    for polls in 0..40 {
        let record = parked();
        let insert = place.store.insert(record.clone());
        // Not at all, once, or until some moment on its way to the disk.
        let _ = tokio::time::timeout(Duration::from_micros(polls * 50), insert).await;
        // Who comes next gets the lock only when the dropped call is through, or never began.
        let again = place.store.insert(record.clone()).await;
        assert!(again.is_ok() || again.unwrap_err().kind() == ErrorKind::AlreadyExists);
        assert_eq!(place.store.get(record.id).await.unwrap(), Some(record));
    }
    assert_eq!(files(&place.path.join("tmp")), Vec::<std::path::PathBuf>::new());
    assert_eq!(place.list(&Filter::default()).await.len(), 40);
}

fn spares(place: &Place) -> Vec<std::path::PathBuf> {
    let is_spare = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "spare");
    files(&place.path.join("locks")).into_iter().filter(is_spare).collect()
}

#[tokio::test]
async fn nothing_is_left_of_a_run_that_was_deleted() {
    let place = Place::new().await;
    let record = parked();
    place.store.insert(record.clone()).await.unwrap();
    place.store.update(record.id, Expect::Any, Change::at(NOW)).await.unwrap();
    assert_eq!(spares(&place).len(), 1);
    place.store.delete(record.id, Expect::Any).await.unwrap();
    let left = files(&place.path);
    let text = record.id.to_string();
    assert_eq!(spares(&place), Vec::<std::path::PathBuf>::new());
    for path in left {
        let there = std::fs::read_to_string(&path).unwrap();
        assert!(!there.contains(&text), "{}", path.display());
    }
}

#[tokio::test]
async fn of_a_large_record_no_second_one_is_kept() {
    let place = Place::new().await;
    let mut record = parked();
    record.snapshot.0 = vec![7; 100_000];
    place.store.insert(record.clone()).await.unwrap();
    for _ in 0..2 {
        place.store.update(record.id, Expect::Any, Change::at(NOW)).await.unwrap();
    }
    assert_eq!(spares(&place), Vec::<std::path::PathBuf>::new());
    let read = place.store.get(record.id).await.unwrap().unwrap();
    assert_eq!((read.revision, read.snapshot), (Revision(3), record.snapshot));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(target_os = "linux")]
async fn what_does_not_read_is_looked_at_again_when_nobody_writes() {
    let place = Place::new().await;
    let record = parked();
    place.store.insert(record.clone()).await.unwrap();
    let path = place.record(record.id);
    let good = fs::read(&path).unwrap();
    let writer = place.lock(record.id);
    writer.lock().unwrap();
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    let (store, id) = (place.store.clone(), record.id);
    let reading = tokio::spawn(async move { store.get(id).await });
    while !is_waited_for(&writer) {
        assert!(!reading.is_finished(), "it did not wait for the writer");
        tokio::task::yield_now().await;
    }
    fs::write(&path, &good).unwrap();
    drop(writer);
    assert_eq!(reading.await.unwrap().unwrap(), Some(record));
}
