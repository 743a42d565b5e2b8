//! Behind PgBouncer, which lends connections for a transaction.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use dynamic_flow::{
    Revision,
    store::{Change, Expect, Hint, PostgresStore, Store as _},
    testkit::conformance::Subject,
};
use dynamic_flow_services::{
    Server,
    postgres::{self, Options, Postgres},
};
use tokio::{sync::Mutex, task::JoinHandle};
use tokio_postgres::Client;

use super::support::{
    self, Schema, assert_tells, assert_whole, at, connect, eventually, failure, impatient, open,
    record, soon, with,
};

/// A server and what stands before it.
struct Pair {
    url: String,
    _bouncer: Server,
    server: Postgres,
}

impl Pair {
    fn start() -> Option<Self> {
        let server = support::private(&Options::default())?;
        match postgres::bouncer_before(&server) {
            Ok((bouncer, url)) => Some(Self { url, _bouncer: bouncer, server }),
            Err(error) if error.to_string().contains("not installed") => {
                crate::support::skip(&format!("{error}; `cargo xtask test` installs it"));
                None
            }
            Err(error) => panic!("{error:#}"),
        }
    }
}

/// One pair for as long as some test uses it.
static PAIR: LazyLock<Mutex<std::sync::Weak<Pair>>> = LazyLock::new(Mutex::default);

async fn pair() -> Option<Arc<Pair>> {
    let mut pair = PAIR.lock().await;
    if let Some(pair) = pair.upgrade() {
        return Some(pair);
    }
    let started = Arc::new(Pair::start()?);
    *pair = Arc::downgrade(&started);
    Some(started)
}

async fn subject() -> Option<Subject> {
    let pair = pair().await?;
    let schema = Schema::at(&pair.url);
    let url = with(&schema.url(), "prepared_statements=false");
    Some(Subject::new(open(&url), move || {
        let _kept = (&schema, &pair);
        open(&url)
    }))
}

dynamic_flow::conformance_tests!(conformance, super::subject);

#[tokio::test]
async fn there_are_no_hints_where_nothing_can_be_listened_for() {
    let Some(pair) = pair().await else { return };
    let store = open(&with(&pair.url, "prepared_statements=false"));
    assert!(Hint::ALL.into_iter().all(|hint| store.hints(hint).is_none()));
}

#[tokio::test]
async fn a_store_that_was_not_told_of_the_pooler_says_what_to_do() {
    let Some(pair) = pair().await else { return };
    let error = failure(open(&pair.url).insert(record(1))).await;
    assert_tells(&error, "insert", false, &["prepared_statements=false"]);
}

/// A pair of a test's own, which it may break, and a store with a run in it.
async fn own() -> Option<(Pair, PostgresStore)> {
    let pair = Pair::start()?;
    let store = open(&impatient(&with(&pair.url, "prepared_statements=false")));
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    Some((pair, store))
}

const BLOCKED: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";

/// Begins a write that waits for a lock which somebody else has.
async fn blocked(
    store: &PostgresStore,
    admin: &Client,
) -> JoinHandle<dynamic_flow::Result<Revision>> {
    let store = store.clone();
    let expect = Expect::Revision(Revision::FIRST);
    let write =
        tokio::spawn(async move { store.update(record(1).id, expect, Change::at(at(1))).await });
    soon(async {
        while admin.query_one(BLOCKED, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    write
}

#[tokio::test]
async fn a_server_that_dies_behind_it_is_worth_a_retry() {
    let Some((mut pair, store)) = own().await else { return };
    let mut other = connect(&pair.server.url()).await;
    let admin = connect(&pair.server.url()).await;
    let lock = other.transaction().await.unwrap();
    lock.execute("SELECT 1 FROM suspended_flows FOR UPDATE", &[]).await.unwrap();
    let write = blocked(&store, &admin).await;
    pair.server.kill().unwrap();
    let error = failure(async { write.await.unwrap() }).await;
    assert_tells(&error, "update", true, &["may have taken effect"]);
    assert_tells(&failure(store.get(record(1).id)).await, "get", true, &[]);
    pair.server.start_again().unwrap();
    eventually(|| store.get(record(1).id)).await;
    assert_whole(&store, &record(1)).await;
}

/// What sessions are set up for otherwise holds for each call: neither how the user's sessions are
/// isolated, nor that their statements never end, changes what a store does.
#[tokio::test]
async fn how_sessions_are_set_up_behind_it_does_not_matter() {
    let Some((pair, store)) = own().await else { return };
    let mut other = connect(&pair.server.url()).await;
    let admin = connect(&pair.server.url()).await;
    admin
        .batch_execute("ALTER ROLE postgres SET default_transaction_isolation = 'repeatable read'")
        .await
        .unwrap();
    // The sessions that there are have not heard of it.
    admin
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = 'dynamic-flow'",
        )
        .await
        .unwrap();
    eventually(|| store.get(record(1).id)).await;
    let lock = other.transaction().await.unwrap();
    lock.execute("UPDATE suspended_flows SET revision = 2", &[]).await.unwrap();
    let write = blocked(&store, &admin).await;
    lock.commit().await.unwrap();
    let error = failure(async { write.await.unwrap() }).await;
    assert!(error.is_conflict(), "{error}");

    admin.batch_execute("UPDATE suspended_flows SET revision = 1").await.unwrap();
    let lock = other.transaction().await.unwrap();
    lock.execute("SELECT 1 FROM suspended_flows FOR UPDATE", &[]).await.unwrap();
    let write = blocked(&store, &admin).await;
    assert!(failure(async { write.await.unwrap() }).await.is_retryable());
    soon(async {
        while admin.query_one(BLOCKED, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    lock.rollback().await.unwrap();
    assert_eq!(store.get(record(1).id).await.unwrap(), Some(record(1)), "not done later either");
}
