//! What a write leaves in the tables, and what it does not touch.

use std::time::Duration;

use dynamic_flow::{
    Epoch, ErrorKind, Metadata, Revision, RunId,
    codec::Sealed,
    store::{Change, Claim, Expect, Filter, Queue, Record, Store as _},
    testkit::conformance::{
        a_hub_does_its_work_beside_damaged_records, damaged_records_hide_no_others,
    },
};
use dynamic_flow_services::postgres::Options;

use super::support::{
    Schema, assert_whole, at, change, connect, failure, open, private, record, soon, subject, with,
};

/// What a burst needed is not kept for ever, however often one connection is used.
#[tokio::test]
async fn connections_that_nobody_uses_are_given_back() {
    let Some(schema) = Schema::fresh() else { return };
    let name = format!("idle-{}", schema.name());
    let named = with(&schema.url(), &format!("application_name={name}&idle_timeout=300ms"));
    let store = open(&named);
    store.provision().await.unwrap();
    let client = connect(schema.server()).await;
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
    let open = async || client.query_one(count, &[&name]).await.unwrap().get::<_, i64>(0);
    let burst = (0..64).map(|_| store.get(record(1).id));
    futures::future::try_join_all(burst).await.unwrap();
    assert!(open().await > 4, "a burst has many");
    soon(async {
        while open().await > 1 {
            store.get(record(1).id).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    drop(store);
}

/// Two writes of whatever revision wait for the same lock: the second one begins before the first
/// is done, and has to see its rows all the same.
#[tokio::test]
async fn an_unconditional_write_leaves_nothing_of_the_one_it_waited_for() {
    let Some(schema) = Schema::fresh() else { return };
    let name = format!("waiting-{}", schema.name());
    let store = open(&with(&schema.url(), &format!("application_name={name}")));
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    let table = format!("{}.suspended_flows", schema.name());
    let mut other = connect(schema.server()).await;
    let lock = other.transaction().await.unwrap();
    lock.execute(&format!("SELECT 1 FROM {table} FOR UPDATE"), &[]).await.unwrap();
    let texts = ["a", "b", "c"];
    let writes = texts.map(|text| {
        let store = store.clone();
        tokio::spawn(async move { store.update(record(1).id, Expect::Any, change(text)).await })
    });
    let admin = connect(schema.server()).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE wait_event_type = 'Lock' AND application_name = $1";
    soon(async {
        while admin.query_one(waiting, &[&name]).await.unwrap().get::<_, i64>(0) < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    lock.commit().await.unwrap();
    for write in writes {
        soon(write).await.unwrap().unwrap();
    }
    let last = store.get(record(1).id).await.unwrap().unwrap();
    assert_whole(&store, &last).await;
    for text in texts {
        let metadata = Metadata::from([("text".into(), text.into())]);
        let listed = store
            .query(&Filter { metadata: metadata.clone(), ..Filter::default() }, None, 10)
            .await
            .unwrap();
        assert_eq!(listed.items.len(), usize::from(metadata == last.metadata), "{text}");
    }
    store.delete(record(1).id, Expect::Any).await.unwrap();
    for suffix in ["", "_waits", "_metadata"] {
        let count = format!("SELECT count(*) FROM {table}{suffix}");
        assert_eq!(admin.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), 0, "{suffix}");
    }
}

/// By what the server writes to its log: a large snapshot is in it once.
#[tokio::test]
async fn a_small_write_does_not_write_a_large_snapshot_again() {
    const LARGE: usize = 4 << 20;
    let Some(server) = private(&Options::default().set("autovacuum", "off")) else { return };
    let store = open(&server.url());
    store.provision().await.unwrap();
    let large = Record { snapshot: Sealed(vec![0; LARGE]), ..record(1) };
    let client = connect(&server.url()).await;
    let written = || async {
        let place = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8";
        client.query_one(place, &[]).await.unwrap().get::<_, i64>(0)
    };
    let before = written().await;
    store.insert(large.clone()).await.unwrap();
    let inserted = written().await - before;
    assert!(inserted > LARGE as i64, "it is not compressed again: {inserted}");
    client.batch_execute("CHECKPOINT").await.unwrap();
    let before = written().await;
    for n in 0..10 {
        let inbox_push = vec![Sealed(vec![n; 10])];
        let small = Change { inbox_push, snapshot: None, ..change("small") };
        store.update(large.id, Expect::Any, small).await.unwrap();
        store.update(large.id, Expect::Any, Change::at(at(5))).await.unwrap();
    }
    let updated = written().await - before;
    assert!(updated < LARGE as i64 / 10, "twenty small writes: {updated}");
    assert_eq!(store.get(large.id).await.unwrap().unwrap().snapshot, large.snapshot);
}

/// A claim of everything that is due.
fn claim() -> Claim {
    Claim {
        now: at(10),
        queues: vec![Queue("q".into())],
        owner: "hub".into(),
        lease: Duration::from_secs(30),
        limit: 10,
        except: [].into(),
    }
}

/// What was given is leased: it must not be lost because of a neighbor.
#[tokio::test]
async fn a_run_that_does_not_read_back_keeps_nobody_from_the_others() {
    let Some(schema) = Schema::fresh() else { return };
    let store = open(&schema.url());
    store.provision().await.unwrap();
    for n in 1..=3 {
        store.insert(record(n)).await.unwrap();
    }
    let client = connect(schema.server()).await;
    let damage = |n: u8| {
        let id = record(n).id;
        format!("UPDATE {}.suspended_flows SET waits = '7' WHERE id = '{id}'", schema.name())
    };
    client.batch_execute(&damage(2)).await.unwrap();
    let given = store.claim(claim()).await.unwrap();
    assert_eq!(given.iter().map(|it| it.id).collect::<Vec<_>>(), [record(1).id, record(3).id]);
    // With nobody beside it, it is told of.
    let later = Claim { now: at(40_000), limit: 1, ..claim() };
    for n in [1, 3] {
        store.delete(record(n).id, Expect::Any).await.unwrap();
    }
    let error = failure(store.claim(later)).await;
    assert_eq!(error.kind(), ErrorKind::CorruptState, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_read_back_hide_no_others() {
    for damage in ["waits = '7'", "attempts = -1"] {
        let Some(schema) = Schema::fresh() else { return };
        let harm = harm(&schema, damage).await;
        damaged_records_hide_no_others(subject(schema, ""), harm).await;
    }
    let Some(schema) = Schema::fresh() else { return };
    let harm = harm(&schema, "waits = '7'").await;
    a_hub_does_its_work_beside_damaged_records(subject(schema, ""), harm).await;
}

async fn harm(schema: &Schema, damage: &'static str) -> impl AsyncFn(RunId) + use<> {
    let client = connect(schema.server()).await;
    let table = format!("{}.suspended_flows", schema.name());
    async move |id: RunId| {
        let update = format!("UPDATE {table} SET {damage} WHERE id = '{id}'");
        assert_eq!(client.execute(&update, &[]).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_run_whose_counters_are_at_their_end_keeps_nobody_from_the_others() {
    let Some(schema) = Schema::fresh() else { return };
    let store = open(&schema.url());
    store.provision().await.unwrap();
    let end = u64::try_from(i64::MAX).unwrap();
    store.insert(Record { revision: Revision(end), ..record(1) }).await.unwrap();
    store.insert(Record { epoch: Epoch(end), ..record(2) }).await.unwrap();
    store.insert(record(3)).await.unwrap();
    let given = store.claim(claim()).await.unwrap();
    assert_eq!(given.iter().map(|it| it.id).collect::<Vec<_>>(), [record(3).id]);
}
