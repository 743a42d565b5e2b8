//! Hints: who hears them, and what they outlast.

use std::time::Duration;

use dynamic_flow::store::{Hint, Hints, PostgresStore, Record, Store as _};
use dynamic_flow_services::postgres::Options;

use super::{
    proxy::Proxy,
    support::{Schema, at, connect, open, private, record, soon, with},
};

/// Writes runs that are due until that is heard: a subscription may take a while to be made.
async fn told(writer: &PostgresStore, hints: &mut Hints, from: u8) {
    for n in from..from + 100 {
        let due = Record { updated_at: at(0), ..record(n) };
        writer.insert(due).await.unwrap();
        if tokio::time::timeout(Duration::from_millis(200), hints.next()).await.is_ok() {
            return;
        }
    }
    panic!("no hint is heard");
}

#[tokio::test]
async fn a_hint_is_heard_in_another_store_and_in_no_other_table() {
    let Some(schema) = Schema::fresh() else { return };
    let [writer, reader, other] = ["one", "one", "two"]
        .map(|table| open(&with(&schema.url(), &format!("table_name={table}"))));
    for store in [&writer, &other] {
        store.provision().await.unwrap();
    }
    let (mut here, mut elsewhere) =
        (reader.hints(Hint::Due).unwrap(), other.hints(Hint::Due).unwrap());
    // The first is that it listens.
    soon(here.next()).await;
    soon(elsewhere.next()).await;
    writer.insert(record(1)).await.unwrap();
    soon(here.next()).await;
    other.insert(record(1)).await.unwrap();
    soon(elsewhere.next()).await;
    let more = tokio::time::timeout(Duration::from_millis(100), here.next()).await;
    assert!(more.is_err(), "the other table's hint is not ours");
}

/// However many write at once, the last hint comes after the last write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_follows_every_write_among_many() {
    let Some(schema) = Schema::fresh() else { return };
    let (writer, reader) = (open(&schema.url()), open(&schema.url()));
    writer.provision().await.unwrap();
    let mut hints = reader.hints(Hint::Due).unwrap();
    soon(hints.next()).await;
    for round in 0..5 {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..32 {
            let writer = writer.clone();
            let due = Record { ..record(round * 32 + n) };
            tasks.spawn(async move { writer.insert(due).await.unwrap() });
        }
        let seen = async {
            let mut seen = 0;
            while seen < 32 * (usize::from(round) + 1) {
                hints.next().await;
                seen = reader.query(&Default::default(), None, 1000).await.unwrap().items.len();
            }
        };
        let ((), _) = soon(async { tokio::join!(seen, tasks.join_all()) }).await;
    }
}

#[tokio::test]
async fn hints_are_heard_again_after_the_connection_was_cut() {
    let Some(server) = private(&Options::default()) else { return };
    let writer = open(&server.url());
    writer.provision().await.unwrap();
    let proxy = Proxy::to(server.port());
    let port = server.port().to_string();
    let reader = open(&server.url().replace(&port, &proxy.port().to_string()));
    let mut hints = reader.hints(Hint::Due).unwrap();
    soon(hints.next()).await;
    proxy.cut();
    // What was told in between is lost, so that it listens again is a hint.
    soon(hints.next()).await;
    told(&writer, &mut hints, 1).await;
}

/// A store that is gone holds no connection.
#[tokio::test]
async fn nobody_listens_when_the_store_is_gone() {
    let Some(schema) = Schema::fresh() else { return };
    let name = format!("listener-{}", schema.name());
    let store = open(&with(&schema.url(), &format!("application_name={name}")));
    store.provision().await.unwrap();
    let mut hints = store.hints(Hint::Idle).unwrap();
    soon(hints.next()).await;
    let client = connect(schema.server()).await;
    let count = || async {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
        client.query_one(open, &[&name]).await.unwrap().get::<_, i64>(0)
    };
    assert!(count().await >= 2, "one listens, one writes");
    drop(store);
    soon(async {
        while count().await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
