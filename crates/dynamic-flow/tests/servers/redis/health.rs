//! What `health` says of servers that are set up well and badly.

use dynamic_flow::{
    RunStatus,
    store::{Change, Expect, Filter, Health, Store as _},
};
use dynamic_flow_services::redis::{Options, Redis};

use super::support::{START, at, claim, config, due, failed, id, open, server};
use crate::support::eventually;

async fn health(server: &Redis) -> Health {
    open(&config(server)).health().await.unwrap()
}

fn says(health: &Health, words: &str) -> bool {
    health.warnings.iter().any(|it| it.contains(words))
}

#[tokio::test]
async fn a_server_that_syncs_each_write_is_durable() {
    let Some(server) = server(&Options { password: Some("hunter2".into()), ..Options::default() })
    else {
        return;
    };
    let health = health(&server).await;
    assert_eq!(health.backend, "redis");
    assert_eq!(health.location, format!("redis://127.0.0.1:{}/0", server.port()));
    assert!(health.durable);
    assert_eq!(health.warnings, [""; 0]);
    assert!(!health.latency.is_zero());
}

#[tokio::test]
async fn each_setting_that_could_lose_a_run_is_told() {
    let Some(server) = server(&Options::default()) else { return };
    let set = |name: &str, value: &str| {
        assert_eq!(server.cli(&["CONFIG", "SET", name, value]).unwrap(), "OK");
    };
    set("appendfsync", "everysec");
    let it = health(&server).await;
    assert!(!it.durable && says(&it, "appendfsync is everysec"), "{it:?}");
    set("appendfsync", "no");
    let it = health(&server).await;
    assert!(!it.durable && says(&it, "appendfsync is no"), "{it:?}");
    set("appendfsync", "always");
    set("no-appendfsync-on-rewrite", "yes");
    let it = health(&server).await;
    assert!(!it.durable && says(&it, "no-appendfsync-on-rewrite"), "{it:?}");
    set("no-appendfsync-on-rewrite", "no");
    set("maxmemory-policy", "allkeys-lru");
    let it = health(&server).await;
    assert!(it.durable && says(&it, "as soon as maxmemory is set"), "{it:?}");
    set("maxmemory", "1gb");
    assert!(says(&health(&server).await, "when memory is full, runs are thrown away"));
    set("maxmemory-policy", "volatile-lru");
    assert!(says(&health(&server).await, "ended runs with an expiry"));
    set("maxmemory-policy", "noeviction");
    assert_eq!(health(&server).await.warnings, [""; 0]);
    set("appendonly", "no");
    let it = health(&server).await;
    assert!(!it.durable && says(&it, "everything is lost when the server ends"), "{it:?}");
    set("save", "3600 1");
    assert!(says(&health(&server).await, "after the last snapshot is lost"));
}

/// The names of the keys that begin so.
fn keys(server: &Redis, pattern: &str) -> Vec<String> {
    server.cli(&["KEYS", pattern]).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn entries_without_a_record_are_told_of_and_go_when_they_are_met() {
    let Some(server) = server(&Options::default()) else { return };
    let store = open(&config(&server));
    for n in 0..40 {
        store.insert(due(n)).await.unwrap();
    }
    assert_eq!(health(&server).await.warnings, [""; 0]);
    for key in keys(&server, &format!("*run:{}", id(7))) {
        server.cli(&["DEL", &key]).unwrap();
    }
    let it = health(&server).await;
    assert!(says(&it, &format!("those of 1 run have no record, as of {}", id(7))), "{it:?}");
    let given = store.claim(claim(100)).await.unwrap();
    assert_eq!(given.len(), 39);
    let filters = [
        Filter::default(),
        Filter { flow_id: Some("purchase".into()), ..Filter::default() },
        Filter { metadata: due(7).metadata, ..Filter::default() },
    ];
    for filter in filters {
        store.query(&filter, None, 100).await.unwrap();
    }
    assert_eq!(health(&server).await.warnings, [""; 0]);
}

#[tokio::test]
async fn records_that_are_in_no_index_are_told_of_and_a_write_puts_them_back() {
    let Some(server) = server(&Options::default()) else { return };
    let store = open(&config(&server));
    for n in 0..40 {
        store.insert(due(n)).await.unwrap();
    }
    for n in 0..100 {
        server.cli(&["SET", &format!("flow:suspended:{{0}}:run:{n}"), "of somebody else"]).unwrap();
    }
    for index in keys(&server, "*:index") {
        server.cli(&["DEL", &index]).unwrap();
    }
    let it = health(&server).await;
    assert!(says(&it, "40 runs are in no index"), "{it:?}");
    assert_eq!(store.query(&Filter::default(), None, 100).await.unwrap().items.len(), 0);
    for n in 0..40 {
        store.update(id(n), Expect::Any, Change::at(at(9))).await.unwrap();
    }
    assert_eq!(health(&server).await.warnings, [""; 0]);
    assert_eq!(store.query(&Filter::default(), None, 100).await.unwrap().items.len(), 40);
    let metadata = Filter { metadata: due(7).metadata, ..Filter::default() };
    assert_eq!(store.query(&metadata, None, 100).await.unwrap().items.len(), 1);
    assert_eq!(store.claim(claim(100)).await.unwrap().len(), 40);
}

/// What Redis removes after its time was to be removed.
#[tokio::test]
async fn what_expired_is_not_told_of() {
    let Some(server) = server(&Options::default()) else { return };
    let mut config = config(&server);
    config.expiry = Some(std::time::Duration::from_millis(1));
    let store = open(&config);
    store.insert(due(1)).await.unwrap();
    let ended = Change {
        status: Some(RunStatus::Completed),
        due_at: Some(Some(at(1 - START))),
        ..Change::at(at(1))
    };
    store.update(id(1), Expect::Any, ended).await.unwrap();
    assert_eq!(store.get(id(1)).await.unwrap(), None);
    assert_eq!(health(&server).await.warnings, [""; 0]);
}

#[tokio::test]
async fn a_failover_is_a_risk_that_is_told_and_can_be_met() {
    let Some(master) = server(&Options::default()) else { return };
    let mut waiting = config(&master);
    waiting.wait_replicas = 1;
    waiting.pool_size = 4;
    let store = open(&waiting);
    let it = health(&master).await;
    assert!(it.durable && it.warnings.is_empty(), "{it:?}");
    failed(store.insert(due(0)).await, "0 of 1 replicas", true);
    let options = Options { replica_of: Some(master.port()), ..Options::default() };
    let Some(mut replica) = server(&options) else { return };
    in_step(&master, &replica).await;
    assert!(says(&health(&master).await, "a failover may lose"));
    store.insert(due(1)).await.unwrap();
    assert_eq!(replica.cli(&["DBSIZE"]).unwrap(), master.cli(&["DBSIZE"]).unwrap());
    let it = store.health().await.unwrap();
    assert_eq!(it.warnings, [""; 0], "replicas are waited for");
    replica.kill();
    let error = failed(store.insert(due(2)).await, "0 of 1 replicas have confirmed", true);
    assert!(error.message().contains("written"), "{error}");
    // What made it fail made it fail: a second try is not told that there is such a run.
    failed(store.insert(due(2)).await, "0 of 1 replicas", true);
    assert!(says(&store.health().await.unwrap(), "no write can be acknowledged"));
    replica.start_again().unwrap();
    for _ in 0..400 {
        let Err(error) = store.insert(due(2)).await else { panic!("it was written") };
        if error.kind() == dynamic_flow::ErrorKind::AlreadyExists {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the replica is back");
}

#[tokio::test]
async fn a_replica_that_keeps_nothing_on_its_disk_is_told_of() {
    let Some(master) = server(&Options::default()) else { return };
    let mut waiting = config(&master);
    waiting.wait_replicas = 1;
    let store = open(&waiting);
    let options = Options { replica_of: Some(master.port()), ..Options::default() };
    let Some(replica) = server(&options.with("appendonly", "no")) else { return };
    in_step(&master, &replica).await;
    let it = store.health().await.unwrap();
    assert!(it.durable && says(&it, "A replica has appendonly no"), "{it:?}");
    replica.cli(&["CONFIG", "SET", "appendonly", "yes"]).unwrap();
    assert_eq!(store.health().await.unwrap().warnings, [""; 0]);
    replica.cli(&["CONFIG", "SET", "requirepass", "hunter2"]).unwrap();
    let it = store.health().await.unwrap();
    assert!(it.durable && says(&it, "A replica could not be checked"), "{it:?}");
}

#[tokio::test]
async fn a_run_is_not_claimed_where_the_lease_would_not_be_confirmed() {
    let Some(master) = server(&Options::default()) else { return };
    let alone = open(&config(&master));
    for n in 0..40 {
        alone.insert(due(n)).await.unwrap();
    }
    let mut waiting = config(&master);
    waiting.wait_replicas = 1;
    // As many waits as there are partitions would outlast the call.
    waiting.pool_size = 1;
    let options = Options { replica_of: Some(master.port()), ..Options::default() };
    let Some(mut replica) = server(&options) else { return };
    in_step(&master, &replica).await;
    let store = open(&waiting);
    // A replica that has just come may still be too busy to confirm in time.
    assert_eq!(eventually(|| store.claim(claim(1))).await.len(), 1);
    replica.kill();
    for _ in 0..3 {
        let error = failed(store.claim(claim(100)).await, "0 of 1 replicas confirm", true);
        assert!(error.message().contains("nothing was changed"), "{error}");
    }
    for n in 1..40 {
        assert_eq!(alone.get(id(n)).await.unwrap(), Some(due(n)), "nobody has taken it");
    }
    replica.start_again().unwrap();
    in_step(&master, &replica).await;
    let given = eventually(|| store.claim(claim(100))).await;
    assert_eq!(given.len(), 39);
    assert!(given.iter().all(|record| record.attempts == 1), "as often as it was given");
}

/// Waits until a replica has what its master has, and its disk is free for what comes.
async fn in_step(master: &Redis, replica: &Redis) {
    for _ in 0..400 {
        let info = replica.cli(&["INFO"]).unwrap();
        let is = |what: &str| info.contains(what);
        // The master counts a replica from its first confirmation on, after the link is up.
        if is("master_link_status:up")
            && master.cli(&["WAIT", "1", "10"]).unwrap().contains('1')
            && is("aof_rewrite_in_progress:0")
            && is("aof_rewrite_scheduled:0")
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the replica does not come up");
}
