//! Whether `health` tells the truth of servers that are set up well, and badly.

use dynamic_flow::store::{Health, Store as _};
use dynamic_flow_services::postgres::Options;

use super::support::{Schema, execute, open, private, with};

async fn health(url: &str) -> Health {
    let store = open(url);
    store.provision().await.unwrap();
    store.health().await.unwrap()
}

#[tokio::test]
async fn a_server_as_it_comes_is_durable() {
    let Some(schema) = Schema::fresh() else { return };
    let before = open(&schema.url()).health().await.unwrap();
    assert!(before.warnings.iter().any(|it| it.contains("the next start of a hub")), "{before:?}");
    let health = health(&schema.url()).await;
    assert_eq!(health.backend, "postgres");
    assert!(health.location.starts_with("postgres://"), "{health:?}");
    assert!(health.durable, "{health:?}");
    assert_eq!(health.warnings, Vec::<String>::new());
    assert!(!health.latency.is_zero());
}

#[tokio::test]
async fn a_server_that_would_lose_runs_is_found_out() {
    let options = Options::default()
        .set("fsync", "off")
        .set("full_page_writes", "off")
        .set("synchronous_commit", "off")
        .set("autovacuum", "off")
        .set("max_connections", "12");
    let Some(server) = private(&options) else { return };
    let health = health(&server.url()).await;
    assert!(!health.durable);
    for word in
        ["fsync is off", "full_page_writes", "synchronous_commit", "autovacuum", "pool_size"]
    {
        assert!(health.warnings.iter().any(|it| it.contains(word)), "{word}: {health:?}");
    }
}

#[tokio::test]
async fn a_table_that_would_be_empty_after_a_crash_is_found_out() {
    let Some(schema) = Schema::fresh() else { return };
    health(&schema.url()).await;
    let table = format!("{}.suspended_flows", schema.name());
    execute(schema.server(), &format!("ALTER TABLE {table} SET UNLOGGED"));
    let health = health(&schema.url()).await;
    assert!(!health.durable);
    assert!(health.warnings[0].contains(&table), "{health:?}");
}

/// What is set for a user or a database counts, not what the server has for all others.
#[tokio::test]
async fn what_is_set_for_the_session_counts() {
    let Some(schema) = Schema::fresh() else { return };
    let relaxed = "options=-c%20synchronous_commit%3Doff";
    let health = health(&with(&schema.url(), relaxed)).await;
    assert!(!health.durable);
    assert_eq!(health.warnings.len(), 1, "{health:?}");
}
