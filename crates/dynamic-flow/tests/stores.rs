//! The conformance suite, on every embedded store.

use std::sync::Arc;

use dynamic_flow::{
    conformance_tests,
    store::{FileStore, MemoryStore, SqliteStore},
    testkit::conformance::{self, Subject},
};

async fn on_memory() -> Subject {
    let store = MemoryStore::new();
    Subject::new(store.clone(), move || store.clone())
}

async fn on_file() -> Subject {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let open = move || FileStore::new(folder.path().join("flows"));
    Subject::new(open(), open)
}

async fn on_sqlite() -> Subject {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let open = move || SqliteStore::new(folder.path().join("flows.db"));
    Subject::new(open(), open)
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
