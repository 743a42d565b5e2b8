//! What `health` says of connections that cross a network unencrypted.

use dynamic_flow::store;
use dynamic_flow_services::Kind;

use crate::support::{corner, elsewhere};

/// What is said of the way to the server.
async fn said(url: &str) -> Vec<String> {
    let store = store::open(url).unwrap();
    store.provision().await.unwrap();
    let mut warnings = store.health().await.unwrap().warnings;
    warnings.retain(|warning| warning.contains("crosses a network"));
    warnings
}

async fn is_told(kind: Kind, remedy: &str) {
    let Some(corner) = corner(kind) else { return };
    let url = corner.url();
    assert_eq!(said(&url).await, [""; 0], "it does not leave this machine");
    let Some(elsewhere) = elsewhere(&url) else { return };
    let said = said(&elsewhere).await;
    let [warning] = said.as_slice() else { panic!("once: {said:?}") };
    assert!(warning.contains("unencrypted") && warning.contains(remedy), "{warning}");
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn to_postgres() {
    is_told(Kind::Postgres, "sslmode").await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn to_redis() {
    is_told(Kind::Redis, "rediss://").await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn to_a_redis_cluster() {
    is_told(Kind::RedisCluster, "rediss://").await;
}

#[cfg(feature = "mongodb")]
#[tokio::test]
async fn to_mongodb() {
    is_told(Kind::Mongodb, "tls=true").await;
}

#[cfg(feature = "neo4j")]
#[tokio::test(flavor = "multi_thread")]
async fn to_neo4j() {
    is_told(Kind::Neo4j, "bolt+s://").await;
}
