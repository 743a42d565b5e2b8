//! What is said of how a server is set up.

use dynamic_flow::{
    Revision,
    store::{Change, Expect, Filter, Health, Hint, Store as _},
};
use dynamic_flow_services::mongodb::Options;
use mongodb::{
    IndexModel,
    bson::{Document, doc},
    options::IndexOptions,
};
use std::time::Duration;

use super::support::{
    Database, assert_tells, at, failure, impatient, open, private, record, with, with_database,
};

fn warns(health: &Health, word: &str) -> bool {
    health.warnings.iter().any(|warning| warning.contains(word))
}

#[tokio::test]
async fn a_replica_set_is_durable_as_long_as_the_url_lets_it() {
    let Some(database) = Database::fresh() else { return };
    let store = database.store();
    store.provision().await.unwrap();
    let health = store.health().await.unwrap();
    assert_eq!(health.backend, "mongodb");
    assert!(health.location.ends_with(".suspended_flows"), "{health:?}");
    assert!(health.durable, "{health:?}");
    assert!(!warns(&health, "w=majority") && !warns(&health, "journal"), "{health:?}");
    for (parameter, word) in
        [("journal=false", "journal=true"), ("w=1&journal=false", "journal=true")]
    {
        let store = open(&with(database.url(), parameter));
        let health = store.health().await.unwrap();
        assert!(!health.durable && warns(&health, word), "{parameter}: {health:?}");
    }
}

#[tokio::test]
async fn a_server_alone_is_said_to_be_one_and_gives_no_hints() {
    let Some(server) = private(&Options { standalone: true, ..Options::default() }) else { return };
    let store = open(&with_database(&server.url(), "flows"));
    store.provision().await.unwrap();
    let health = store.health().await.unwrap();
    assert!(health.durable && warns(&health, "The server stands alone"), "{health:?}");
    assert!(Hint::ALL.iter().all(|hint| store.hints(*hint).is_none()));
    // It takes and gives runs as others do.
    store.insert(record(1)).await.unwrap();
    let change = Change { attempts: Some(1), ..Change::at(at(1)) };
    store.update(record(1).id, Expect::Any, change).await.unwrap();
    assert_eq!(store.get(record(1).id).await.unwrap().unwrap().attempts, 1);
    assert_eq!(store.query(&Filter::default(), None, 1).await.unwrap().items.len(), 1);
    store.delete(record(1).id, Expect::Revision(Revision(2))).await.unwrap();
}

#[tokio::test]
async fn indexes_that_are_missing_and_such_as_remove_runs_are_told() {
    let Some(database) = Database::fresh() else { return };
    let store = database.store();
    store.provision().await.unwrap();
    let raw = database.raw().await.collection::<Document>("suspended_flows");
    raw.drop_index("due").await.unwrap();
    let options = IndexOptions::builder()
        .name("theirs".to_owned())
        .expire_after(Duration::from_secs(9))
        .build();
    let index = IndexModel::builder().keys(doc! { "expiresAt": 1 }).options(options).build();
    raw.create_index(index).await.unwrap();
    let health = store.health().await.unwrap();
    assert!(warns(&health, "Indexes are missing: due;"), "{health:?}");
    assert!(warns(&health, "theirs makes the server remove runs"), "{health:?}");
}

#[tokio::test]
async fn a_server_that_is_gone_has_no_health() {
    let Some(mut server) = private(&Options::default()) else { return };
    let store = open(&impatient(&with_database(&server.url(), "flows")));
    store.health().await.unwrap();
    server.kill();
    assert_tells(&failure(store.health()).await, "health", true, &[]);
}
