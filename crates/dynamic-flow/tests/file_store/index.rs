//! The index: never wrong for long, never trusted, and never more than a help.

use std::{collections::BTreeSet, fs};

use dynamic_flow::{
    ErrorKind, FlowId, Metadata, RunId, RunStatus, Scalar, Timestamp, ToolId,
    store::{Change, Cursor, Expect, FileStore, Filter, Queue, Record, Store},
};

use super::support::*;

fn any_record(dice: &mut Dice) -> Record {
    let mut record = parked();
    let created = at(-40_000_000 * dice.below(20).cast_signed());
    record.id = RunId::new(created).unwrap();
    record.flow_id = FlowId::from(["purchase", "review", "pür"][dice.below(3) as usize]);
    any_columns(dice).apply(&mut record);
    record.revision = dynamic_flow::Revision::FIRST;
    record
}

fn any_columns(dice: &mut Dice) -> Change {
    let waits = (0..dice.below(9)).map(|_| {
        let tool =
            ["approve", "confirm", "review", "a", "b", "c", "d", "e"][dice.below(8) as usize];
        let deadline = at(dice.below(10).cast_signed() * 1000);
        wait(tool, (dice.below(3) > 0).then_some(deadline))
    });
    Change {
        waits: Some(waits.collect()),
        status: Some(RunStatus::ALL[dice.below(8) as usize]),
        metadata: Some(Metadata::from([("n".into(), Scalar::Int(dice.below(3).cast_signed()))])),
        due_at: Some((dice.below(2) > 0).then(|| at(dice.below(100_000).cast_signed()))),
        ..Change::at(NOW)
    }
}

fn any_filter(dice: &mut Dice) -> Filter {
    let mut one_in = |n| dice.below(n) == 0;
    let (status, flow, tool, metadata) = (one_in(2), one_in(3), one_in(3), one_in(4));
    let (created, expires) = ((one_in(4), one_in(4)), (one_in(4), one_in(4)));
    let statuses = (0..dice.below(4)).map(|_| RunStatus::ALL[dice.below(8) as usize]).collect();
    let when = |yes: bool, time: Timestamp| yes.then_some(time);
    Filter {
        status: if status { statuses } else { BTreeSet::new() },
        flow_id: flow.then(|| FlowId::from(["purchase", "review", "none"][dice.below(3) as usize])),
        tool_id: tool.then(|| ToolId::from(["approve", "e", "none"][dice.below(3) as usize])),
        metadata: if metadata {
            Metadata::from([("n".into(), Scalar::Int(1))])
        } else {
            Metadata::new()
        },
        created_after: when(created.0, at(-40_000_000 * dice.below(20).cast_signed())),
        created_before: when(created.1, at(-40_000_000 * dice.below(20).cast_signed())),
        expires_after: when(expires.0, at(1000 * dice.below(10).cast_signed())),
        expires_before: when(expires.1, at(1000 * dice.below(10).cast_signed())),
    }
}

#[tokio::test]
async fn a_query_lists_what_reading_everything_would() {
    let place = Place::new().await;
    let mut dice = Dice(0x5eed);
    let mut records = Vec::new();
    for _ in 0..60 {
        let record = any_record(&mut dice);
        place.store.insert(record.clone()).await.unwrap();
        records.push(record);
    }
    for round in 0..300 {
        if round % 3 == 0 {
            let record = &mut records[dice.below(60) as usize];
            let change = any_columns(&mut dice);
            place.store.update(record.id, Expect::Any, change.clone()).await.unwrap();
            change.apply(record);
        }
        let filter = any_filter(&mut dice);
        let mut expected: Vec<_> = records.iter().filter(|r| filter.matches(r)).collect();
        expected.sort_by_key(|record| std::cmp::Reverse(record.id));
        let expected: Vec<_> = expected.into_iter().map(Into::into).collect();
        assert_eq!(place.list(&filter).await, expected, "{filter:?}");
    }
    assert_eq!(place.columns_hints().len(), 60);
    let due = records.iter().filter(|record| record.due_at.is_some()).count();
    assert_eq!(place.due_hints().len(), due);
}

#[tokio::test]
async fn the_last_page_says_that_it_is() {
    let place = Place::new().await;
    for _ in 0..4 {
        place.store.insert(parked()).await.unwrap();
    }
    let filter = of_status(RunStatus::Waiting);
    let page = place.store.query(&filter, None, 2).await.unwrap();
    assert_eq!(page.next, page.readable().last().map(|last| Cursor(last.id)));
    let last = place.store.query(&filter, page.next, 2).await.unwrap();
    assert_eq!((last.items.len(), last.next), (2, None));
    let oldest = last.readable().last().map(|last| Cursor(last.id));
    assert_eq!(place.store.query(&filter, oldest, 2).await.unwrap().items, vec![]);
}

/// Makes a record unreadable, so that whoever reads it fails.
fn damage(place: &Place, id: RunId) {
    fs::write(place.record(id), "{").unwrap();
}

#[tokio::test]
async fn neither_claims_nor_queries_read_records_that_do_not_concern_them() {
    let place = Place::new().await;
    let mut due = parked();
    due.due_at = Some(at(0));
    due.status = RunStatus::Ready;
    due.flow_id = "review".into();
    due.waits = vec![wait("review", Some(at(7)))];
    place.store.insert(due.clone()).await.unwrap();
    for _ in 0..20 {
        let other = parked();
        place.store.insert(other.clone()).await.unwrap();
        damage(&place, other.id);
    }
    let all = Filter::default();
    for filter in [
        of_status(RunStatus::Ready),
        Filter { flow_id: Some("review".into()), ..all.clone() },
        Filter { tool_id: Some("review".into()), ..all.clone() },
        Filter { expires_before: Some(at(8)), ..all.clone() },
    ] {
        assert_eq!(place.list(&filter).await.len(), 1, "{filter:?}");
    }
    let none = Filter { expires_after: Some(at(9_999_999)), ..all.clone() };
    assert_eq!(place.list(&none).await, vec![]);
    let elsewhen = Filter { created_before: Some(at(0)), ..all.clone() };
    assert_eq!(place.list(&elsewhen).await, vec![]);
    assert_eq!(place.claimed(at(0), 99).await, [due.id]);
    let all = place.store.query(&all, None, 99).await.unwrap();
    assert_eq!((all.readable().count(), all.unreadable().count()), (1, 20));
}

#[tokio::test]
async fn hints_of_other_records_are_mended_beside_one_that_does_not_read_back() {
    let place = Place::new().await;
    let records = [parked(), parked(), parked()];
    for record in &records {
        place.store.insert(record.clone()).await.unwrap();
    }
    let hints = place.columns_hints();
    hints.iter().for_each(|hint| fs::remove_file(hint).unwrap());
    damage(&place, records[1].id);
    let page = place.store.query(&Filter::default(), None, 99).await.unwrap();
    assert_eq!((page.readable().count(), page.unreadable().count()), (2, 1));
    assert_eq!(place.columns_hints().len(), 2);
}

#[tokio::test]
async fn a_record_whose_file_cannot_be_used_hides_no_other() {
    let place = Place::new().await;
    let records = [parked(), parked()];
    for record in &records {
        place.store.insert(record.clone()).await.unwrap();
    }
    let path = place.record(records[0].id);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let page = place.store.query(&Filter::default(), None, 99).await.unwrap();
    assert_eq!(page.readable().map(|it| it.id).collect::<Vec<_>>(), [records[1].id]);
    let unreadable = page.unreadable().next().unwrap();
    assert_eq!((unreadable.id, &*unreadable.place), (records[0].id, path.to_str().unwrap()));
    assert!(unreadable.reason.contains("move it away"), "{unreadable}");
}

#[tokio::test]
async fn a_due_run_that_cannot_be_read_does_not_keep_workers_from_the_others() {
    let place = Place::new().await;
    let mut ids = Vec::new();
    for due in [-3, -2, -1] {
        let mut record = parked();
        record.due_at = Some(at(due));
        ids.push(record.id);
        place.store.insert(record).await.unwrap();
    }
    damage(&place, ids[0]);
    let text = fs::read_to_string(place.record(ids[1])).unwrap();
    fs::write(place.record(ids[1]), text.replace("AHNlYWxl", "*HNlYWxl")).unwrap();
    let before = fs::read(place.record(ids[1])).unwrap();
    assert_eq!(place.claimed(at(0), 3).await, [ids[2]]);
    assert_eq!(fs::read(place.record(ids[1])).unwrap(), before, "it was not claimed for nobody");
}

#[tokio::test]
async fn a_due_run_whose_files_cannot_be_used_does_not_keep_workers_from_the_others() {
    let place = Place::new().await;
    let mut records = Vec::new();
    for (n, due) in [-4, -3, -2, -1].into_iter().enumerate() {
        let mut record = parked();
        let mut bytes = *record.id.as_bytes();
        bytes[15] = u8::try_from(n).unwrap();
        record.id = RunId::from_bytes(bytes);
        record.due_at = Some(at(due));
        place.store.insert(record.clone()).await.unwrap();
        records.push(record.id);
    }
    let block = |path: &std::path::Path| {
        let _ = fs::remove_file(path);
        fs::create_dir(path).unwrap();
    };
    let record = place.record(records[0]);
    block(&record);
    block(&place.record(records[1]).with_extension("lease"));
    block(&place.path.join("locks").join("02"));
    assert_eq!(place.claimed(at(0), 9).await, [records[3]]);
    let nothing_else = place.store.claim(claim(at(0), 9)).await.unwrap_err();
    assert_eq!(nothing_else.kind(), ErrorKind::StorageError);
    assert!(nothing_else.to_string().contains(name(&record)), "{nothing_else}");
}

#[tokio::test]
async fn a_pipe_or_a_link_in_the_place_of_a_record_is_damage_that_holds_nobody_up() {
    for plant in [
        |path: &std::path::Path| {
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.unwrap().success());
        },
        |path: &std::path::Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
    ] {
        let place = Place::new().await;
        let mut ids = Vec::new();
        for due in [-2, -1] {
            let mut record = parked();
            record.due_at = Some(at(due));
            place.store.insert(record.clone()).await.unwrap();
            ids.push(record.id);
        }
        let path = place.record(ids[0]);
        fs::remove_file(&path).unwrap();
        plant(&path);
        let error = place.store.get(ids[0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptState);
        assert!(error.to_string().contains("no regular file"), "{error}");
        let page = place.store.query(&Filter::default(), None, 9).await.unwrap();
        assert_eq!(page.items.len(), 2);
        assert_eq!(page.readable().map(|it| it.id).collect::<Vec<_>>(), [ids[1]]);
        assert_eq!(place.claimed(at(0), 9).await, [ids[1]]);
    }
}

#[tokio::test]
async fn an_index_that_is_gone_hides_nothing_from_queries() {
    let place = Place::new().await;
    let records = [parked(), parked()];
    for record in &records {
        place.store.insert(record.clone()).await.unwrap();
    }
    for hint in place.columns_hints() {
        fs::remove_file(hint).unwrap();
    }
    assert_eq!(place.list(&of_status(RunStatus::Waiting)).await.len(), 2);
    assert_eq!(place.columns_hints().len(), 2, "it is mended on the way");
    let ready = with_status(RunStatus::Ready);
    place.store.update(records[0].id, Expect::Any, ready).await.unwrap();
    assert_eq!(place.list(&of_status(RunStatus::Ready)).await.len(), 1);
}

#[tokio::test]
async fn hints_that_are_not_right_are_found_out_and_removed() {
    let place = Place::new().await;
    let (record, deleted) = (parked(), parked());
    place.store.insert(record.clone()).await.unwrap();
    place.store.insert(deleted.clone()).await.unwrap();
    let planted: Vec<_> = place
        .columns_hints()
        .iter()
        .map(|hint| hint.with_file_name(name(hint).replace("waiting", "failed")))
        .collect();
    let due = place.due_hints();
    place.store.delete(deleted.id, Expect::Any).await.unwrap();
    let later = Change { due_at: Some(Some(at(9_000_000))), ..Change::at(NOW) };
    place.store.update(record.id, Expect::Any, later).await.unwrap();
    for hint in planted.iter().chain(&due) {
        fs::create_dir_all(hint.parent().unwrap()).unwrap();
        fs::write(hint, "").unwrap();
    }
    assert_eq!(place.list(&of_status(RunStatus::Failed)).await, vec![]);
    assert!(planted.iter().all(|hint| !hint.exists()), "{planted:?}");
    assert_eq!(place.columns_hints().len(), 1, "the right one stays");
    assert_eq!(place.claimed(at(3_600_000), 9).await, []);
    assert_eq!(place.due_hints().len(), 1, "the right one stays");
    assert_eq!(place.claimed(at(9_000_000), 9).await, [record.id]);
}

#[tokio::test]
async fn a_run_that_is_there_is_rid_of_what_is_wrongly_said_of_it() {
    let place = Place::new().await;
    let record = parked();
    place.store.insert(record.clone()).await.unwrap();
    let right = place.columns_hints();
    let wrong = right[0].with_file_name(name(&right[0]).replace("waiting", "failed"));
    fs::write(&wrong, "").unwrap();
    assert_eq!(place.list(&of_status(RunStatus::Failed)).await, vec![]);
    assert_eq!(place.columns_hints(), right);
}

#[tokio::test]
async fn queues_whose_hashes_were_equal_would_not_mix() {
    let place = Place::new().await;
    let mut record = parked();
    record.due_at = Some(at(0));
    record.queue = Some(Queue("other".into()));
    place.store.insert(record.clone()).await.unwrap();
    // A hint in the wrong queue, as if both had one name.
    let due = place.path.join("due");
    let theirs = fs::read_dir(&due).unwrap().next().unwrap().unwrap().path();
    let mut decoy = parked();
    decoy.due_at = Some(at(1));
    place.store.insert(decoy).await.unwrap();
    let is_ours = |path: &std::path::PathBuf| *path != theirs;
    let ours =
        fs::read_dir(&due).unwrap().map(|entry| entry.unwrap().path()).find(is_ours).unwrap();
    for hint in files(&theirs) {
        let copy = ours.join(hint.strip_prefix(&theirs).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(&hint, copy).unwrap();
    }
    assert_eq!(place.claimed(at(0), 9).await, []);
    let theirs =
        dynamic_flow::store::Claim { queues: vec![record.queue.unwrap()], ..claim(at(0), 9) };
    assert_eq!(place.store.claim(theirs).await.unwrap().len(), 1);
}

#[tokio::test]
async fn folders_that_are_empty_are_removed_by_claims_and_now_and_then() {
    let place = Place::new().await;
    let folders = || {
        let hours = fs::read_dir(place.path.join("due")).unwrap().flat_map(|queue| {
            fs::read_dir(queue.unwrap().path()).unwrap().map(|hours| hours.unwrap().path())
        });
        hours.count()
    };
    for due in [0, 1_000_000_000] {
        let mut record = parked();
        record.due_at = Some(at(due));
        place.store.insert(record.clone()).await.unwrap();
        place.store.delete(record.id, Expect::Any).await.unwrap();
    }
    assert_eq!(folders(), 2);
    assert_eq!(place.claimed(at(500_000_000), 1).await, []);
    assert_eq!(folders(), 1, "what is past is of no use any more");
    let tidied = fs::File::open(place.path.join("locks").join("tidied")).unwrap();
    place.store.provision().await.unwrap();
    assert_eq!(folders(), 1);
    tidied.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    place.store.provision().await.unwrap();
    assert_eq!(folders(), 0);
}

#[tokio::test]
async fn after_the_machine_was_restarted_the_index_is_rebuilt_once() {
    let place = Place::new().await;
    let mut record = parked();
    record.due_at = Some(at(0));
    place.store.insert(record.clone()).await.unwrap();
    let lose = || {
        let hints = place.due_hints().into_iter().chain(place.columns_hints());
        hints.for_each(|hint| fs::remove_file(hint).unwrap());
    };
    lose();
    assert_eq!(place.claimed(at(0), 1).await, []);
    FileStore::new(&place.path).provision().await.unwrap();
    assert_eq!(place.claimed(at(0), 1).await, [], "no restart, so nothing was rebuilt");

    // Another start of the machine: what is noted of the present one is of an earlier one.
    for boot in files(&place.path.join("boots")) {
        fs::rename(&boot, boot.with_file_name("00000000-0000-4000-8000-000000000000")).unwrap();
    }
    FileStore::new(&place.path).provision().await.unwrap();
    assert_eq!(place.columns_hints().len(), 1);
    assert_eq!(place.claimed(at(0), 1).await, [record.id]);
}

#[tokio::test]
async fn after_another_machine_had_the_folder_the_index_is_rebuilt_once() {
    let place = Place::new().await;
    let mut record = parked();
    record.due_at = Some(at(0));
    place.store.insert(record.clone()).await.unwrap();
    let boots = place.path.join("boots");
    let ours = files(&boots);
    for machine in 0..3 {
        // It was there, and its power failed.
        fs::write(boots.join(format!("{machine:08}.2")), "").unwrap();
        place.due_hints().into_iter().for_each(|hint| fs::remove_file(hint).unwrap());
        FileStore::new(&place.path).provision().await.unwrap();
        assert_eq!(place.due_hints().len(), 1);
        assert_eq!(files(&boots), ours, "when they come back, they rebuild it too");
    }
    place.due_hints().into_iter().for_each(|hint| fs::remove_file(hint).unwrap());
    FileStore::new(&place.path).provision().await.unwrap();
    assert_eq!(place.due_hints().len(), 0, "nobody was there in between");
}

#[tokio::test]
async fn what_an_earlier_build_made_is_rebuilt_once() {
    let place = Place::in_memory().await;
    place.store.insert(parked()).await.unwrap();
    let made = place.marks();
    for mark in &made {
        fs::remove_file(mark).unwrap();
    }
    for boot in files(&place.path.join("boots")) {
        fs::rename(&boot, boot.with_extension("")).unwrap();
    }
    FileStore::new(&place.path).provision().await.unwrap();
    assert_eq!(place.marks(), made);
    assert_eq!(files(&place.path.join("boots")).len(), 2, "an earlier build need not rebuild it");
}

#[tokio::test]
async fn what_the_disk_fails_with_is_no_damaged_record_and_hides_none() {
    let place = Place::new().await;
    let mut record = parked();
    record.due_at = Some(at(0));
    place.store.insert(record.clone()).await.unwrap();
    let path = place.record(record.id);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let claimed = place.store.claim(claim(at(0), 1)).await;
    assert_eq!(kind(claimed), ErrorKind::StorageError);
    assert_eq!(kind(place.store.rebuild().await), ErrorKind::StorageError);

    let bucket = path.parent().unwrap();
    fs::remove_dir_all(bucket).unwrap();
    fs::write(bucket, "").unwrap();
    assert_eq!(kind(list(&place.store, &Filter::default()).await), ErrorKind::StorageError);
}

#[tokio::test]
async fn a_rebuild_reports_what_it_found() {
    let place = Place::new().await;
    let records = [parked(), parked(), parked()];
    for record in &records {
        place.store.insert(record.clone()).await.unwrap();
    }
    fs::remove_dir_all(place.path.join("due")).unwrap();
    fs::create_dir(place.path.join("due")).unwrap();
    damage(&place, records[0].id);
    fs::remove_file(place.record(records[1].id)).unwrap();
    let marked = usize::from(!place.marks().is_empty());
    let rebuilt = place.store.rebuild().await.unwrap();
    assert_eq!((rebuilt.records, rebuilt.added, rebuilt.removed), (2, 1, 1 + marked));
    assert_eq!(rebuilt.damaged.len(), 1);
    assert!(rebuilt.damaged[0].contains(&records[0].id.to_string()), "{:?}", rebuilt.damaged);
    assert_eq!(place.claimed(at(3_600_000), 9).await, [records[2].id]);
    let again = place.store.rebuild().await.unwrap();
    assert_eq!((again.added, again.removed), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_that_is_there_all_the_time_is_always_listed_while_others_write() {
    let place = Place::new().await;
    let record = parked();
    place.store.insert(record.clone()).await.unwrap();
    for _ in 0..30 {
        place.store.insert(parked()).await.unwrap();
    }
    let store = place.store.clone();
    let writer = tokio::spawn(async move {
        for n in 0..200 {
            let status = RunStatus::ALL[n % 3];
            store.update(record.id, Expect::Any, with_status(status)).await.unwrap();
            store.insert(parked()).await.unwrap();
        }
    });
    let live = Filter {
        status: RunStatus::ALL[..3].iter().copied().collect(),
        flow_id: Some(record.flow_id.clone()),
        ..Filter::default()
    };
    while !writer.is_finished() {
        let page = place.store.query(&live, None, 10_000).await.unwrap();
        assert_eq!(page.readable().filter(|item| item.id == record.id).count(), 1);
    }
    writer.await.unwrap();
}
