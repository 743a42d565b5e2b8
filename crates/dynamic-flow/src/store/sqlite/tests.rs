//! What the conformance suite can't see: plans, files, groups, foreign files.

mod damaged;
mod disks;

use std::{fs, time::Duration};

use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    connection::{open_to_read, open_to_write},
    operation::{DUE, Operation},
    query::tests::plans,
    *,
};
use crate::{
    codec::Sealed,
    engine::RunStatus,
    id::KeyDigest,
    store::{Lease, Queue, WaitIndex},
    wait::{Metadata, Scalar},
};

fn now() -> Timestamp {
    Timestamp::from_millis(1_795_420_800_000)
}

fn record(snapshot: usize) -> Record {
    Record {
        id: RunId::new(now()).unwrap(),
        revision: Revision::FIRST,
        epoch: Epoch(1),
        flow_id: "purchase-approval".into(),
        queue: Some(Queue("purchase-approval".into())),
        status: RunStatus::Waiting,
        waits: vec![WaitIndex {
            id: "ask".into(),
            tool_id: "manager-approval".into(),
            keys: vec![KeyDigest::from_bytes([1; 32])],
            created_at: now(),
            expires_at: Some(now()),
            has_default: true,
        }],
        metadata: Metadata::from([("department".into(), "sales".into())]),
        updated_at: now(),
        due_at: Some(now()),
        attempts: 0,
        lease: Some(Lease { owner: "me".into(), until: now() }),
        snapshot: Sealed(vec![7; snapshot]),
        inbox: vec![],
    }
}

fn store(folder: &TempDir) -> SqliteStore {
    SqliteStore::new(folder.path().join("flows.db"))
}

/// How much has been appended to the log, in frames, and how many of these end a commit.
fn log(folder: &TempDir) -> (usize, usize) {
    let log = fs::read(folder.path().join("flows.db-wal")).unwrap();
    let frames = log[32..].chunks(24 + 4096);
    let commits = frames.clone().filter(|frame| frame[4..8] != [0; 4]).count();
    (frames.count(), commits)
}

fn filters() -> Vec<Filter> {
    let base = Filter::default;
    let mut filters = vec![base()];
    let criteria = [
        Filter { status: [RunStatus::Ready, RunStatus::Waiting].into(), ..base() },
        Filter { flow_id: Some("f".into()), ..base() },
        Filter { tool_id: Some("t".into()), ..base() },
        Filter {
            metadata: [("a".to_owned(), 1.into()), ("b".to_owned(), 2.into())].into(),
            ..base()
        },
        Filter { created_after: Some(now()), ..base() },
        Filter { created_before: Some(now()), ..base() },
        Filter { expires_after: Some(now()), ..base() },
        Filter { expires_before: Some(now()), ..base() },
    ];
    for choice in 0..1_u32 << criteria.len() {
        let mut filter = base();
        for (n, criterion) in criteria.iter().enumerate().filter(|(n, _)| choice >> n & 1 == 1) {
            match n {
                0 => filter.status.clone_from(&criterion.status),
                1 => filter.flow_id.clone_from(&criterion.flow_id),
                2 => filter.tool_id.clone_from(&criterion.tool_id),
                3 => filter.metadata.clone_from(&criterion.metadata),
                4 => filter.created_after = criterion.created_after,
                5 => filter.created_before = criterion.created_before,
                6 => filter.expires_after = criterion.expires_after,
                _ => filter.expires_before = criterion.expires_before,
            }
        }
        filters.push(filter);
    }
    filters
}

#[test]
fn no_query_scans_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let connection = open_to_write(&folder.path().join("flows.db")).unwrap();
    for filter in filters() {
        for line in plans(&connection, &filter) {
            // The waits of one row, unfolded from its JSON, are "scanned" as a virtual table.
            let scans = line.starts_with("SCAN") && !line.contains("VIRTUAL TABLE");
            assert!(!scans, "{line}: {filter:?}");
            let sorts = line.contains("TEMP B-TREE");
            assert!(!sorts, "{line}: {filter:?}");
        }
    }
}

#[test]
fn a_claim_searches_the_due_index() {
    let folder = tempfile::tempdir().unwrap();
    let connection = open_to_write(&folder.path().join("flows.db")).unwrap();
    let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {DUE}")).unwrap();
    let lines = plan.query_map(("q", 1), |row| row.get::<_, String>(3)).unwrap();
    let lines: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(lines.len(), 1, "no sorting either: {lines:?}");
    assert!(
        lines[0].ends_with("USING INDEX suspended_flows_due (queue=? AND due_at<?)"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn small_writes_do_not_write_a_large_snapshot_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let record = record(2 << 20);
    store.insert(record.clone()).await.unwrap();
    let (before, _) = log(&folder);
    let push = Change { inbox_push: vec![Sealed(vec![1; 100])], ..Change::at(now()) };
    store.update(record.id, Expect::Any, push).await.unwrap();
    store.renew(record.id, Epoch(1), now().after(Duration::from_secs(1))).await.unwrap();
    let moved = Change { status: Some(RunStatus::Ready), ..Change::at(now()) };
    store.update(record.id, Expect::Any, moved).await.unwrap();
    let (after, _) = log(&folder);
    assert!(before > 500, "the snapshot has {before} pages");
    assert!(after - before < 20, "three small writes took {} pages", after - before);
}

#[tokio::test]
async fn a_group_is_one_commit_in_which_refusals_hurt_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows.db");
    let connection = open_to_write(&path).unwrap();
    let (_, before) = log(&folder);
    let records: Vec<_> = (0..10).map(|_| record(100)).collect();
    let mut operations: Vec<_> =
        records.iter().map(|record| Operation::Insert(Box::new(record.clone()))).collect();
    let stale = Expect::Revision(Revision(99));
    operations.insert(3, Operation::Insert(Box::new(records[0].clone())));
    let change = || Box::new(Change::at(now()));
    operations.insert(5, Operation::Update(records[1].id, stale, change()));
    operations.push(Operation::Delete(records[2].id, stale));
    operations.push(Operation::Update(records[3].id, Expect::Any, change()));
    let results = writer::tests::commit(&connection, operations);
    let failed: Vec<_> = (0..results.len()).filter(|n| results[*n].is_err()).collect();
    assert_eq!(failed, [3, 5, 12]);
    assert_eq!(log(&folder).1 - before, 1, "one commit for all");
    let reader = open_to_read(&path).unwrap();
    for record in &records {
        assert!(rows::find(&reader, record.id).unwrap().is_some());
    }
}

#[tokio::test]
async fn a_call_that_breaks_the_group_fails_alone_and_leaves_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows.db");
    let connection = open_to_write(&path).unwrap();
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    // Room for small records, and none for a large one: a full disk.
    connection.pragma_update_and_check(None, "max_page_count", pages + 20, |_| Ok(())).unwrap();
    let (small, large, last) = (record(10), record(1 << 20), record(10));
    let insert = |record: &Record| Operation::Insert(Box::new(record.clone()));
    let results =
        writer::tests::commit(&connection, vec![insert(&small), insert(&large), insert(&last)]);
    let outcome: Vec<_> = results.iter().map(Result::is_ok).collect();
    assert_eq!(outcome, [true, false, true]);
    let trouble = results.into_iter().nth(1).unwrap().err().unwrap();
    let error = trouble.into_error("insert", &path);
    assert_eq!(error.kind(), ErrorKind::StorageError);
    assert!(error.message().contains("disk is full"), "{error}");
    for (table, rows) in [
        ("suspended_flows", 2),
        ("suspended_flow_snapshots", 2),
        ("suspended_flow_waits", 2),
        ("suspended_flow_metadata", 2),
    ] {
        assert_eq!(count(&connection, table), rows, "{table}");
    }
    assert!(connection.is_autocommit());
}

#[test]
fn a_group_that_breaks_in_the_middle_is_undone_before_each_call_is_made_alone() {
    let folder = tempfile::tempdir().unwrap();
    let connection = open_to_write(&folder.path().join("flows.db")).unwrap();
    let (damaged, counted, new) = (record(1), record(2), record(3));
    let insert = |record: &Record| Operation::Insert(Box::new(record.clone()));
    writer::tests::commit(&connection, vec![insert(&damaged), insert(&counted)]);
    let damage = "UPDATE suspended_flows SET status = 'dancing' WHERE id = ?1";
    connection.execute(damage, [damaged.id.as_bytes()]).unwrap();
    let update = |id| Operation::Update(id, Expect::Any, Box::new(Change::at(now())));
    let operations = vec![insert(&new), update(counted.id), update(damaged.id)];
    let results = writer::tests::commit(&connection, operations);
    let outcome: Vec<_> = results.iter().map(Result::is_ok).collect();
    assert_eq!(outcome, [true, true, false]);
    let after = rows::find(&connection, counted.id).unwrap().unwrap().record;
    assert_eq!(after.revision, Revision(2), "the update was made once");
}

fn count(connection: &Connection, table: &str) -> i64 {
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_delete_leaves_nothing_in_any_table() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let record = Record { inbox: vec![Sealed(vec![1]); 3], ..record(100) };
    store.insert(record.clone()).await.unwrap();
    let changed = Change {
        waits: Some([&record.waits[..], &record.waits[..]].concat()),
        metadata: Some([("x".to_owned(), Scalar::from("y".repeat(100)))].into()),
        inbox_push: vec![Sealed(vec![2])],
        ..Change::at(now())
    };
    store.update(record.id, Expect::Any, changed).await.unwrap();
    store.delete(record.id, Expect::Any).await.unwrap();
    let connection = open_to_read(&folder.path().join("flows.db")).unwrap();
    for table in ["s", "_snapshots", "_inbox", "_waits", "_metadata"] {
        let table = format!("suspended_flow{table}");
        assert_eq!(count(&connection, &table), 0, "{table}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn files_and_new_folders_are_their_owners_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder/flows.db");
    let store = SqliteStore::new(&path);
    store.insert(record(100)).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for name in ["flows.db", "flows.db-wal", "flows.db-shm"] {
        assert_eq!(mode(&path.with_file_name(name)), 0o600, "{name}");
    }
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&folder.path().join("new")), 0o700);
    assert_eq!(store.health().await.unwrap().warnings, Vec::<String>::new());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = store.health().await.unwrap().warnings;
    assert!(warnings[0].contains("chmod 600"), "{warnings:?}");
}

#[tokio::test]
async fn health_says_that_it_is_durable_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let missing = store.health().await.unwrap_err();
    assert!(missing.message().contains("no file yet"), "{missing}");
    store.provision().await.unwrap();
    let health = store.health().await.unwrap();
    assert!(health.durable);
    assert_eq!(health.backend, "sqlite");
    assert!(health.location.ends_with("flows.db"));
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn health_says_of_a_disk_in_memory_that_it_is_none() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else { return };
    let store = store(&folder);
    store.provision().await.unwrap();
    let health = store.health().await.unwrap();
    assert!(!health.durable);
    assert!(health.warnings[0].contains("in memory"), "{health:?}");
}

/// What the store says when it meets that file, which must stay as it was.
async fn refused(folder: &TempDir) -> Error {
    let path = folder.path().join("flows.db");
    let before = fs::read(&path).ok();
    let error = store(folder).provision().await.unwrap_err();
    assert_eq!(fs::read(&path).ok(), before, "the file must not be touched");
    assert_eq!(error.kind(), ErrorKind::StorageError);
    assert!(error.to_string().contains("flows.db"), "{error}");
    assert!(!error.is_retryable());
    error
}

#[tokio::test]
async fn foreign_and_newer_files_are_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows.db");
    fs::write(&path, "Dear diary, ".repeat(500)).unwrap();
    assert!(refused(&folder).await.message().contains("foreign file"));

    fs::remove_file(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE songs (title TEXT)").unwrap();
    assert!(refused(&folder).await.message().contains("another program"));
    other.pragma_update(None, "application_id", 4711).unwrap();
    assert!(refused(&folder).await.message().contains("another program"));
    drop(other);

    fs::remove_file(&path).unwrap();
    drop(open_to_write(&path).unwrap());
    let newer = Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 2).unwrap();
    newer.pragma_update_and_check(None, "wal_checkpoint", "truncate", |_| Ok(())).unwrap();
    assert!(refused(&folder).await.message().contains("newer"));

    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("flows.db")).unwrap();
    assert!(refused(&folder).await.message().contains("is a folder"));
}

#[tokio::test]
async fn a_file_in_the_place_of_a_folder_is_named_and_mending_it_helps_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("flows");
    fs::write(&blocked, "").unwrap();
    let store = SqliteStore::new(blocked.join("flows.db"));
    let error = store.insert(record(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageError);
    assert!(error.message().contains("where a folder should be"), "{error}");
    fs::remove_file(&blocked).unwrap();
    store.insert(record(1)).await.unwrap();
}

#[test]
fn a_group_waits_once_for_who_holds_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows.db");
    let mut connection = open_to_write(&path).unwrap();
    let (asked, times) = std::sync::mpsc::channel();
    connection.busy_handler(Some(move |_| asked.send(()).is_err())).unwrap();
    let other = open_to_write(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let insert = || Operation::Insert(Box::new(record(1)));
    let results = writer::tests::commit(&connection, vec![insert(), insert(), insert()]);
    assert!(results.iter().all(|result| result.as_ref().is_err_and(Trouble::is_busy)));
    assert_eq!(times.try_iter().count(), 1);
    other.execute_batch("ROLLBACK").unwrap();
    assert!(writer::tests::commit(&connection, vec![insert()])[0].is_ok());
}

#[test]
fn a_call_that_nobody_waits_for_is_not_begun() {
    let folder = tempfile::tempdir().unwrap();
    let connection = open_to_write(&folder.path().join("flows.db")).unwrap();
    let (wanted, given_up) = (record(1), record(2));
    let insert = |record: &Record| Operation::Insert(Box::new(record.clone()));
    writer::tests::commit_all_but_the_last(&connection, vec![insert(&wanted), insert(&given_up)]);
    assert!(rows::find(&connection, wanted.id).unwrap().is_some());
    assert!(rows::find(&connection, given_up.id).unwrap().is_none());
}

#[test]
fn only_a_lock_is_worth_another_try_and_each_fault_says_what_to_do() {
    use rusqlite::ffi;
    let path = Path::new("/nowhere/flows.db");
    let told = |code| {
        let fault = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        Trouble::from(fault).into_error("update", path)
    };
    for code in [ffi::SQLITE_BUSY, ffi::SQLITE_LOCKED] {
        assert!(told(code).is_retryable());
    }
    let others = [
        ffi::SQLITE_FULL,
        ffi::SQLITE_READONLY,
        ffi::SQLITE_CANTOPEN,
        ffi::SQLITE_PERM,
        ffi::SQLITE_NOTADB,
        ffi::SQLITE_CORRUPT,
        ffi::SQLITE_IOERR,
        ffi::SQLITE_TOOBIG,
        ffi::SQLITE_ERROR,
    ];
    assert!(others.iter().all(|code| !told(*code).is_retryable()));
    let mut words: Vec<String> =
        others.iter().chain([&ffi::SQLITE_BUSY]).map(|code| told(*code).message().into()).collect();
    use std::io::ErrorKind as Io;
    let around = [
        Io::PermissionDenied,
        Io::StorageFull,
        Io::ReadOnlyFilesystem,
        Io::NotADirectory,
        Io::IsADirectory,
        Io::Other,
    ];
    for kind in around {
        let error = Trouble::from(std::io::Error::from(kind)).into_error("provision", path);
        assert!(!error.is_retryable());
        words.push(error.message().into());
    }
    let count = words.len();
    words.sort();
    words.dedup();
    // A full disk is one, whoever tells of it, and so is a file in the place of a folder.
    assert_eq!(words.len(), count - 1, "{words:?}");
}

#[test]
fn metadata_are_in_the_index_as_they_always_were() {
    let long = "x".repeat(65);
    let terms = [true.into(), 7.into(), "short".into(), "x".repeat(64).into(), long.into()]
        .map(|value: Scalar| hex::encode(super::rows::term(&value)));
    assert_eq!(terms[..3], ["6201", "690000000000000007", "7473686f7274"]);
    assert_eq!(terms[3], format!("74{}", "78".repeat(64)));
    assert_eq!(terms[4].len(), 66, "of a longer text there is a digest: {}", terms[4]);
}
