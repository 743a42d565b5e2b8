//! Several processes on one database, and processes that are killed.
//!
//! The processes are this test program, started again for one test that does nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use dynamic_flow::{
    Epoch, Metadata, Revision, RunId, RunStatus, Scalar, Timestamp,
    codec::Sealed,
    seconds,
    store::{Change, Claim, Expect, Filter, Queue, Record, SqliteStore, Store},
};

const DATABASE: &str = "SQLITE_STORE_TEST_DATABASE";
const NOW: Timestamp = Timestamp::from_millis(1_795_420_800_000);

fn start(test: &str, database: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(DATABASE, database)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The store to work on, if this is such a process.
async fn store_of_process() -> Option<SqliteStore> {
    let store = SqliteStore::new(env::var(DATABASE).ok()?);
    store.provision().await.unwrap();
    Some(store)
}

/// Tells the process that started this one; it has been told when this returns.
fn tell(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("> {text}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// What a process tells, line by line, until it ends.
fn told(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| Some(line.split_once("> ")?.1.to_owned()))
}

fn due(n: u64) -> Record {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    Record { id: RunId::from_bytes(bytes), ..parked() }
}

fn parked() -> Record {
    Record {
        id: RunId::new(NOW).unwrap(),
        revision: Revision::FIRST,
        epoch: Epoch(0),
        flow_id: "purchase".into(),
        queue: Some(Queue("purchase".into())),
        status: RunStatus::Waiting,
        waits: vec![],
        metadata: Metadata::from([("count".into(), 0.into())]),
        updated_at: NOW,
        due_at: Some(NOW),
        attempts: 0,
        lease: None,
        snapshot: Sealed(vec![1; 3000]),
        inbox: vec![],
    }
}

/// Counts to fifty in one record, and claims what others do not claim.
#[tokio::test]
async fn as_a_process_that_counts_and_claims() {
    let Some(store) = store_of_process().await else { return };
    let counter = due(0).id;
    let mut counted = 0;
    while counted < 50 {
        let record = store.get(counter).await.unwrap().unwrap();
        let Scalar::Int(count) = record.metadata["count"] else { panic!("no count") };
        let metadata = Metadata::from([("count".into(), (count + 1).into())]);
        let change = Change { metadata: Some(metadata), ..Change::at(NOW) };
        match store.update(counter, Expect::Revision(record.revision), change).await {
            Ok(_) => counted += 1,
            Err(error) => assert!(error.is_conflict(), "{error}"),
        }
        let claim = Claim {
            now: NOW,
            queues: vec![Queue("purchase".into())],
            owner: "process".into(),
            lease: seconds(60),
            limit: 1,
            except: [].into(),
        };
        for held in store.claim(claim).await.unwrap() {
            tell(&held.id.to_string());
        }
    }
}

#[tokio::test]
async fn four_processes_lose_no_count_and_share_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows.db");
    let store = SqliteStore::new(&path);
    store.insert(Record { queue: None, ..due(0) }).await.unwrap();
    for n in 1..=100 {
        store.insert(due(n)).await.unwrap();
    }
    let mut children: Vec<_> =
        (0..4).map(|_| start("as_a_process_that_counts_and_claims", &path)).collect();
    let mut claimed = BTreeSet::new();
    for child in &mut children {
        for id in told(child) {
            assert!(claimed.insert(id), "two processes hold the same run");
        }
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(claimed.len(), 100);
    let counter = store.get(due(0).id).await.unwrap().unwrap();
    assert_eq!(counter.metadata["count"], 200.into());
    assert_eq!(counter.revision, Revision(201));
}

/// Writes without end; tells each write that was acknowledged, as run and revision or `gone`.
#[tokio::test]
async fn as_a_process_that_writes() {
    let Some(store) = store_of_process().await else { return };
    for n in 0.. {
        let record = parked();
        let id = record.id;
        store.insert(record).await.unwrap();
        tell(&format!("{id} 1"));
        for revision in 1..4 {
            let change = Change {
                inbox_push: vec![Sealed(vec![2; 500])],
                snapshot: (revision == 2).then(|| Sealed(vec![3; 40_000])),
                ..Change::at(NOW)
            };
            let revision = store.update(id, Expect::Revision(Revision(revision)), change).await;
            tell(&format!("{id} {}", revision.unwrap().0));
        }
        if n % 2 == 0 {
            store.delete(id, Expect::Any).await.unwrap();
            tell(&format!("{id} gone"));
        }
    }
}

#[tokio::test]
async fn as_a_process_that_writes_one_record() {
    let Some(store) = store_of_process().await else { return };
    store.insert(due(1)).await.unwrap();
    assert!(store.get(due(1).id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_path_is_a_path_whatever_sqlite_makes_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in [":memory:", "file:flows.db", "file:x.db?mode=memory", "flows.db"] {
        let written = Command::new(env::current_exe().unwrap())
            .args(["--exact", "as_a_process_that_writes_one_record"])
            .env(DATABASE, name)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stdout));
        let store = SqliteStore::new(folder.path().join(name));
        assert_eq!(store.get(due(1).id).await.unwrap(), Some(due(1)), "{name}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows.db");
    let mut acknowledged: BTreeMap<RunId, Option<u64>> = BTreeMap::new();
    for round in 0..12 {
        let mut child = start("as_a_process_that_writes", &path);
        for (n, line) in told(&mut child).enumerate() {
            let (id, what) = line.split_once(' ').unwrap();
            acknowledged.insert(id.parse().unwrap(), what.parse().ok());
            // It goes on writing until the signal comes, wherever that finds it.
            if n == 3 + round * 2 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let store = SqliteStore::new(&path);
        for (id, revision) in &acknowledged {
            let record = store.get(*id).await.unwrap();
            let Some(revision) = *revision else {
                assert_eq!(record, None, "{id} came back");
                continue;
            };
            // One more write may have been done and not told: an update, or the delete.
            match record {
                Some(record) => {
                    let kept = record.revision.0;
                    assert!(kept == revision || kept == revision + 1, "{id} lost {revision}");
                    assert_eq!(record.inbox.len() as u64, kept - 1);
                    let expected = if kept > 2 { 40_000 } else { 3000 };
                    assert_eq!(record.snapshot.0.len(), expected);
                }
                None => assert_eq!(revision, 4, "{id} lost {revision}"),
            }
        }
    }
    let store = SqliteStore::new(&path);
    let all = store.query(&Filter::default(), None, 10_000).await.unwrap();
    let known = all.readable().filter(|summary| acknowledged.contains_key(&summary.id)).count();
    assert!(all.items.len() - known <= 12, "more than one unacknowledged insert for each kill");
}
