//! The conformance suite, on every embedded store.

use std::{fs, sync::Arc};

use dynamic_flow::{
    RunId, Schema,
    codec::{EncryptionKey, Keyring},
    conformance_tests,
    hub::{PersistenceHub, SuspensionRequest},
    store::{self, FileStore, MemoryStore, SqliteStore},
    testkit::conformance::{self, Subject},
};

async fn on_memory() -> Subject {
    let store = MemoryStore::new();
    Subject::new(store.clone(), move || store.clone())
}

async fn on_file() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows");
    let store = FileStore::new(&path);
    Subject::new(store, move || {
        // The folder goes with the last who may open it.
        let _ = &folder;
        FileStore::new(&path)
    })
}

async fn on_sqlite() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows.db");
    let store = SqliteStore::new(&path);
    Subject::new(store, move || {
        let _ = &folder;
        SqliteStore::new(&path)
    })
}

/// Files, and what damages the whole record of a run.
fn with_damaged_files() -> (Subject, impl Fn(RunId)) {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let path = folder.path().to_owned();
    let subject = Subject::new(FileStore::new(&path), move || FileStore::new(folder.path()));
    let damage = move |id: RunId| {
        let name = format!("{id}.json");
        let buckets = fs::read_dir(path.join("runs")).unwrap().map(|it| it.unwrap().path());
        let record = buckets.map(|bucket| bucket.join(&name)).find(|path| path.exists()).unwrap();
        fs::write(record, "{").unwrap();
    };
    (subject, damage)
}

/// SQLite, and what makes the open waits of a run that text.
fn with_damaged_rows(waits: &str) -> (Subject, impl Fn(RunId)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows.db");
    let store = SqliteStore::new(&path);
    let reopened = path.clone();
    let subject = Subject::new(store, move || {
        let _ = &folder;
        SqliteStore::new(&reopened)
    });
    let damage = move |id: RunId| {
        let sql = "UPDATE suspended_flows SET waits = ?1 WHERE id = ?2";
        let connection = rusqlite::Connection::open(&path).unwrap();
        assert_eq!(connection.execute(sql, (waits, id.as_bytes())).unwrap(), 1);
    };
    (subject, damage)
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_hide_no_others() {
    let (subject, damage) = with_damaged_files();
    conformance::damaged_records_hide_no_others(subject, async |id| damage(id)).await;
    let (subject, damage) = with_damaged_files();
    conformance::a_hub_does_its_work_beside_damaged_records(subject, async |id| damage(id)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_rows_of_sqlite_hide_no_others() {
    for waits in ["{", "7", "[\"manager-approval\"]", "[{\"tool_id\":7}]"] {
        let (subject, damage) = with_damaged_rows(waits);
        conformance::damaged_records_hide_no_others(subject, async |id| damage(id)).await;
        let (subject, damage) = with_damaged_rows(waits);
        conformance::a_hub_does_its_work_beside_damaged_records(subject, async |id| damage(id))
            .await;
    }
}

/// Such a run is listed like any other: only what is sealed of it is damaged.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_does_not_read_back_keeps_no_other_from_being_sealed_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows.db");
    let store = Arc::new(SqliteStore::new(&path));
    let key = || EncryptionKey::generate().unwrap();
    let old = key();
    let keys = Keyring::new(key()).with_older(old.expose().parse().unwrap());
    let hub = PersistenceHub::builder(store.clone()).keyring(Keyring::new(old));
    let hub = hub.build().await.unwrap();
    let mut runs = Vec::new();
    for n in 0..3 {
        let schema = Schema::new(serde_json::json!({ "type": "string" })).unwrap();
        let request = SuspensionRequest::new("ask", schema);
        runs.push(hub.suspend(&n, request).await.unwrap().run_id);
    }
    let damage = "UPDATE suspended_flow_snapshots SET body = 'x' \
                  WHERE key = (SELECT snapshot FROM suspended_flows WHERE id = ?1)";
    let connection = rusqlite::Connection::open(&path).unwrap();
    assert_eq!(connection.execute(damage, [runs[1].as_bytes()]).unwrap(), 1);
    let hub = PersistenceHub::builder(store).keyring(keys).build().await.unwrap();
    let report = hub.reseal(None, 9).await.unwrap();
    assert_eq!((report.runs, report.resealed, report.failed), (3, 2, 1));
}

conformance_tests!(memory, super::on_memory);
conformance_tests!(file, super::on_file);
conformance_tests!(sqlite, super::on_sqlite);

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_runs_in_one_go_and_by_name() {
    conformance::run(on_memory).await;
    let mut names: Vec<_> = conformance::names().collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "every check has a name of its own");
    for name in names {
        conformance::check(name, on_memory().await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_quick_with_many_runs() {
    let scale = conformance::scale(on_memory().await, 2_000).await;
    assert_eq!(scale.runs, 2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_listed_and_claimed_among_many_runs() {
    let scale = conformance::scale(on_file().await, 1_000).await;
    assert_eq!(scale.runs, 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_lists_and_claims_among_many_runs() {
    let scale = conformance::scale(on_sqlite().await, 2_000).await;
    assert_eq!(scale.runs, 2_000);
}

#[test]
fn a_url_of_no_store_is_told_of_by_its_kind_and_by_nothing_that_may_be_a_secret() {
    let said = |url: &str| store::open(url).unwrap_err().to_string();
    assert!(said("carrier-pigeon:coop").contains("carrier-pigeon"));
    assert!(said("memory:coop").contains("takes no path"));
    let long = format!("{}:coop", "password".repeat(5));
    for url in ["pass$word:coop", "pass word:coop", &long] {
        let said = said(url);
        assert!(!said.contains("word") && said.contains("file:"), "{said}");
    }
}

/// Run by the test below, in a process with an environment of its own.
#[test]
fn as_a_process_that_opens_the_store_of_its_environment() {
    if let Ok(expected) = std::env::var("DFLOW_EXPECTED_STORE") {
        let opened = format!("{:?}", store::open_from_env().unwrap());
        assert!(opened.starts_with(&expected), "{opened}");
    }
}

#[test]
fn the_environment_names_the_store_and_an_empty_name_is_none() {
    for (url, expected) in
        [(Some("memory:"), "MemoryStore"), (Some(""), "FileStore"), (None, "FileStore")]
    {
        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", "as_a_process_that_opens_the_store_of_its_environment"]);
        process.env("DFLOW_EXPECTED_STORE", expected).env_remove(store::STORE_VARIABLE);
        process.envs(url.map(|url| (store::STORE_VARIABLE, url)));
        let told = process.output().unwrap();
        assert!(told.status.success(), "{url:?}: {}", String::from_utf8_lossy(&told.stdout));
    }
}
