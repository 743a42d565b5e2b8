//! What only a cluster does: share the load, move slots, lose a master.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dynamic_flow::{
    ErrorKind,
    store::{Change, Expect, Filter, RedisConfig, RedisStore, Store as _},
};
use dynamic_flow_services::redis::{Cluster, Options, start_cluster};

use super::support::{at, claim, config, due, failed, id, open, server, soon};

fn cluster() -> Option<(Cluster, RedisConfig)> {
    match start_cluster(&Options::default()) {
        Ok(cluster) => {
            let mut config = RedisConfig::from_url(&cluster.url()).unwrap();
            config.operation_timeout = Duration::from_secs(5);
            config.connect_timeout = Duration::from_secs(1);
            Some((cluster, config))
        }
        Err(error) => {
            crate::support::skip(&format!("no Redis cluster can be started: {error:#}"));
            None
        }
    }
}

async fn assert_all_there(store: &RedisStore, count: u64) {
    let page = store.query(&Filter::default(), None, usize::MAX).await.unwrap();
    let mut listed: Vec<_> = page.readable().map(|it| it.id).collect();
    listed.reverse();
    assert_eq!(listed, (0..count).map(id).collect::<Vec<_>>());
}

#[tokio::test]
async fn all_masters_share_the_load_and_health_looks_at_each() {
    let Some((cluster, mut config)) = cluster() else { return };
    // One member is enough to find the others.
    config.hosts.truncate(1);
    let store = open(&config);
    for n in 0..300 {
        store.insert(due(n)).await.unwrap();
    }
    assert_all_there(&store, 300).await;
    let sizes: Vec<u32> =
        cluster.nodes[..3].iter().map(|it| it.cli(&["DBSIZE"]).unwrap().parse().unwrap()).collect();
    assert!(sizes.iter().all(|size| *size > 60), "each has its share: {sizes:?}");
    let given = store.claim(claim(20)).await.unwrap();
    let given: Vec<_> = given.iter().map(|record| record.id).collect();
    assert_eq!(given, (0..20).map(id).collect::<Vec<_>>());
    let health = store.health().await.unwrap();
    assert!(health.durable, "{health:?}");
    assert!(health.warnings.iter().any(|it| it.contains("failover may lose")), "{health:?}");
    cluster.nodes[2].cli(&["CONFIG", "SET", "appendfsync", "no"]).unwrap();
    let health = store.health().await.unwrap();
    assert!(!health.durable, "one is enough to lose a run");
}

#[tokio::test]
async fn what_is_no_cluster_and_what_is_one_are_told_apart() {
    let Some(alone) = server(&Options::default()) else { return };
    let mut config = config(&alone);
    config.cluster = true;
    failed(open(&config).provision().await, "is no member of a cluster", false);
    let Some((_cluster, mut config)) = cluster() else { return };
    config.hosts.truncate(1);
    config.db = 1;
    failed(open(&config).provision().await, "database 0 alone", false);
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_move_are_followed_while_everybody_writes() {
    let Some((cluster, config)) = cluster() else { return };
    let store = open(&config);
    store.provision().await.unwrap();
    let moving = Arc::new(AtomicBool::new(true));
    let writer = tokio::spawn({
        let (store, moving) = (store.clone(), moving.clone());
        async move {
            let mut n = 0;
            while moving.load(Ordering::Relaxed) || n < 100 {
                store.insert(due(n)).await.unwrap();
                let change = Change { attempts: Some(7), ..Change::at(at(1)) };
                store.update(id(n), Expect::Any, change).await.unwrap();
                assert!(store.get(id(n / 2)).await.unwrap().is_some());
                n += 1;
            }
            n
        }
    });
    let first = format!("127.0.0.1:{}", cluster.nodes[0].port());
    let ids: Vec<_> =
        cluster.nodes[..3].iter().map(|node| node.cli(&["CLUSTER", "MYID"]).unwrap()).collect();
    let _cluster = tokio::task::spawn_blocking(move || {
        for (from, to) in [(0, 1), (1, 2)] {
            let words = [
                "--cluster",
                "reshard",
                &first,
                "--cluster-from",
                &ids[from],
                "--cluster-to",
                &ids[to],
                "--cluster-slots",
                "3000",
                "--cluster-yes",
            ];
            cluster.nodes[0].cli(&words).unwrap();
            cluster.until_agreed().unwrap();
        }
        moving.store(false, Ordering::Relaxed);
        cluster
    })
    .await
    .unwrap();
    let count = writer.await.unwrap();
    assert!(count >= 100);
    assert_all_there(&store, count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_masters_have_is_claimed_while_one_is_away() {
    let Some((mut cluster, config)) = cluster() else { return };
    let store = open(&config);
    for n in 0..60 {
        store.insert(due(n)).await.unwrap();
    }
    for node in &cluster.nodes {
        node.cli(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]).unwrap();
    }
    // Nobody takes its place.
    for node in [3, 4, 5, 1] {
        cluster.nodes[node].kill();
    }
    let given = soon(store.claim(claim(60))).await.unwrap().len();
    assert!((1..60).contains(&given), "{given}");
    assert!(soon(store.claim(claim(60))).await.unwrap().is_empty());
    let listing = soon(store.query(&Filter::default(), None, 60)).await;
    assert!(listing.unwrap_err().is_retryable(), "a page with holes is no page");
    cluster.nodes[1].start_again().unwrap();
    let mut rest = 0;
    for _ in 0..200 {
        rest += soon(store.claim(claim(60))).await.unwrap().len();
        if given + rest == 60 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{given} and {rest} of 60 were given");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_does_not_answer_is_asked_last_where_the_slots_are() {
    let Some((mut cluster, mut config)) = cluster() else { return };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    config.hosts.insert(0, silent.local_addr().unwrap().to_string());
    let asked = Arc::new(AtomicUsize::new(0));
    std::thread::spawn({
        let asked = asked.clone();
        move || {
            let kept: Vec<_> = silent
                .incoming()
                .inspect(|_| {
                    asked.fetch_add(1, Ordering::SeqCst);
                })
                .collect();
            drop(kept);
        }
    });
    let store = open(&config);
    store.provision().await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // Whoever looks for the runs that were there asks where they are now.
    cluster.nodes[1].kill();
    let gets = futures::future::join_all((0..64).map(|n| store.get(id(n)))).await;
    assert!(gets.iter().filter(|it| it.is_ok()).count() > 20);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "others know");
}

#[tokio::test]
async fn a_cluster_that_hangs_takes_hardly_longer_than_one_server() {
    let silent = [(); 6].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let hosts = silent.each_ref().map(|it| it.local_addr().unwrap().to_string());
    let mut config = RedisConfig::default();
    config.hosts = hosts.into();
    config.connect_timeout = Duration::from_millis(500);
    config.operation_timeout = Duration::from_secs(2);
    failed(open(&config).get(id(1)).await, "did not answer within 500ms", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_dies_is_replaced_and_the_store_goes_on() {
    let Some((mut cluster, mut config)) = cluster() else { return };
    let mut safe = config.clone();
    safe.wait_replicas = 1;
    safe.pool_size = 2;
    let safe = open(&safe);
    for n in 0..50 {
        safe.insert(due(n)).await.unwrap();
    }
    // What takes its place has no replica that could confirm anything.
    config.pool_size = 2;
    let store = open(&config);
    store.provision().await.unwrap();
    cluster.nodes[1].kill();
    let mut kinds = BTreeSet::new();
    let mut count = 50;
    // The others have to notice first; until then some calls fail and say that it is worth a try.
    for _ in 0..200 {
        match soon(store.insert(due(count))).await {
            Ok(()) => count += 1,
            // A try that failed may have written it; only a record that is whole says so.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                assert_eq!(store.get(id(count)).await.unwrap(), Some(due(count)));
                count += 1;
            }
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                kinds.insert(error.message().to_owned());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        if count == 150 {
            break;
        }
    }
    assert_eq!(count, 150, "{kinds:?}");
    assert!(!kinds.is_empty(), "the loss of a master was noticed");
    assert_all_there(&store, count).await;
    assert_eq!(store.claim(claim(50)).await.unwrap().len(), 50);
}
