//! A server that is killed, frozen, restarted, or cut off in the middle of a write.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use dynamic_flow::{
    Error, ErrorKind, Result,
    codec::Sealed,
    store::{Change, Expect, Neo4jStore, Record, Store},
};
use dynamic_flow_services::neo4j::Options;

use crate::support::small_disk;

use super::{
    ground::{Ground, private},
    proxy::{Fault, Proxy},
    records::{at, id, snapshot, waiting},
};

/// What a fault may be answered with: an error that says that trying again makes sense, and where.
fn passing(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::StorageError, "{error}");
    assert!(error.is_retryable(), "{error}");
    assert!(error.context_value("server").is_some(), "{error}");
}

/// Makes a call until it succeeds, for a minute at the most; what goes wrong must be passing.
async fn in_the_end<T>(call: impl AsyncFn() -> Result<T>) -> T {
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        match call().await {
            Ok(done) => return done,
            Err(error) => {
                passing(&error);
                assert!(Instant::now() < give_up, "it does not come back: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn large(letter: u8) -> Change {
    Change { snapshot: Some(Sealed(vec![letter; 1 << 20])), ..Change::at(at(9)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_cut_is_done_or_not_done() {
    let Some(ground) = Ground::new() else { return };
    let proxy = Proxy::before(&ground.config()).await;
    let mut config = proxy.instead(ground.config());
    config.pool_size = 1;
    let store = Neo4jStore::new(config).unwrap();
    store.provision().await.unwrap();
    let mut record = waiting(1, "purchase", "manager", "jane");
    store.insert(record.clone()).await.unwrap();

    // In the middle of the request: the server never saw the whole of it, so that the driver may
    // send it again, on another connection.
    proxy.set(Fault::CutRequests(100_000));
    let expected = Expect::Revision(record.revision);
    match store.update(record.id, expected, large(b'a')).await {
        Ok(_) => large(b'a').apply(&mut record),
        Err(error) => passing(&error),
    }
    assert_eq!(store.get(record.id).await.unwrap(), Some(record.clone()));

    // Behind the request, before the answer: nobody is told whether it is done.
    proxy.set(Fault::CutAnswer(1 << 20));
    let expected = Expect::Revision(record.revision);
    let error = store.update(record.id, expected, large(b'b')).await.unwrap_err();
    passing(&error);
    assert!(error.message().contains("may have taken effect"), "{error}");
    let now = store.get(record.id).await.unwrap().expect("the record is there");
    if now.revision != record.revision {
        large(b'b').apply(&mut record);
    }
    assert_eq!(now, record);

    // The store goes on by itself.
    store.update(record.id, Expect::Revision(now.revision), snapshot("after")).await.unwrap();
    let page = store.query(&Default::default(), None, 10).await.unwrap();
    assert_eq!(page.items.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_the_server_ends_is_told_of_and_not_done() {
    let Some(ground) = Ground::new() else { return };
    let store = ground.store();
    store.provision().await.unwrap();
    let record = waiting(1, "purchase", "manager", "jane");
    store.insert(record.clone()).await.unwrap();

    // Somebody holds the lock, and an administrator ends those who wait for it.
    let graph = super::ground::driver(&ground.config());
    let mut holder = graph.start_txn().await.unwrap();
    let hold = ground.named("MATCH (f:SuspendedFlow) SET f._held = true");
    holder.run(neo4rs::query(&hold)).await.unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.update(id(1), Expect::Any, snapshot("never")).await }
    });
    let mark = format!("{}SuspendedFlow", ground.config().namespace);
    let find = "SHOW TRANSACTIONS YIELD transactionId, currentQuery, status \
         WHERE currentQuery CONTAINS $mark AND status STARTS WITH 'Blocked' \
         RETURN transactionId AS id";
    let give_up = Instant::now() + Duration::from_secs(8);
    let victim: String = loop {
        let query = neo4rs::query(find).param("mark", &*mark);
        let rows = super::ground::rows(&graph, query).await;
        if let Some(row) = rows.first() {
            break row.get("id").unwrap();
        }
        assert!(Instant::now() < give_up, "nobody waits for the lock");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let end = neo4rs::query("TERMINATE TRANSACTIONS $id YIELD message RETURN message");
    super::ground::rows(&graph, end.param("id", victim)).await;
    let error = waiting.await.unwrap().unwrap_err();
    passing(&error);
    assert!(error.message().contains("ended the transaction"), "{error}");
    holder.rollback().await.unwrap();
    assert_eq!(store.get(record.id).await.unwrap(), Some(record));
}

/// Writes until it is told to stop; remembers what was acknowledged.
async fn write_on(
    store: Neo4jStore,
    n: u64,
    acknowledged: Arc<Mutex<Vec<Record>>>,
    stop: Arc<AtomicBool>,
) {
    let mut number = n * 100_000;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let mut record = waiting(number, "purchase", "manager", "jane");
        if store.insert(record.clone()).await.is_ok() {
            let change = snapshot(&number.to_string());
            if store.update(record.id, Expect::Any, change.clone()).await.is_ok() {
                change.apply(&mut record);
                acknowledged.lock().unwrap().push(record);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_freezes_and_restarts_lose_nothing_and_need_no_new_store() {
    let Some(mut server) = private(&Options::default()) else { return };
    let ground = Ground::at(&server.url());
    let mut config = ground.config();
    config.operation_timeout = Duration::from_secs(3);
    let store = Neo4jStore::new(config).unwrap();
    in_the_end(async || store.provision().await).await;

    // A refused write does not even reach the log.
    in_the_end(async || store.insert(waiting(1, "purchase", "manager", "jane")).await).await;
    let stale = Expect::Revision(dynamic_flow::Revision(7));
    let refused = async || store.update(id(1), stale, large(b'x')).await.unwrap_err();
    assert!(refused().await.is_conflict());
    let before = log_size(server.folder());
    for _ in 0..20 {
        assert!(refused().await.is_conflict());
    }
    assert_eq!(log_size(server.folder()), before, "a refused write was committed");
    store.update(id(1), Expect::Any, snapshot("done")).await.unwrap();
    assert!(log_size(server.folder()) > before, "or is the log not where it is looked for?");

    // Frozen: an error within seconds, and all is well when it goes on.
    server.freeze().unwrap();
    let began = Instant::now();
    let error = store.get(id(1)).await.unwrap_err();
    passing(&error);
    assert!(error.message().contains("no answer within 3s"), "{error}");
    assert!(!error.message().contains("taken effect"), "it only reads: {error}");
    assert!(began.elapsed() < Duration::from_secs(6));
    server.thaw().unwrap();
    in_the_end(async || store.get(id(1)).await).await;

    // Killed in the middle of many writes, twice, and stopped in good order once.
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let enough = |more: usize| {
        let acknowledged = acknowledged.clone();
        let goal = acknowledged.lock().unwrap().len() + more;
        async move {
            while acknowledged.lock().unwrap().len() < goal {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    for round in 0..3 {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = tokio::task::JoinSet::new();
        for n in 0..8 {
            let (acknowledged, stop) = (acknowledged.clone(), stop.clone());
            writers.spawn(write_on(store.clone(), 1 + round * 8 + n, acknowledged, stop));
        }
        enough(40).await;
        if round == 1 {
            server.stop().unwrap();
        } else {
            server.kill();
        }
        passing(&store.get(id(1)).await.unwrap_err());
        stop.store(true, Ordering::Relaxed);
        writers.join_all().await;
        server.start_again().unwrap();
        in_the_end(async || store.get(id(1)).await).await;
        let told = acknowledged.lock().unwrap().clone();
        for record in told {
            let found = store.get(record.id).await.unwrap();
            assert_eq!(found, Some(record), "acknowledged before the kill, and lost");
        }
    }
}

/// How many bytes the server's transaction log has.
fn log_size(folder: &std::path::Path) -> u64 {
    let logs = std::fs::read_dir(folder.join("data/transactions/neo4j")).unwrap();
    logs.map(|log| log.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_loses_nothing_that_was_acknowledged() {
    let Some(disk) = small_disk(32) else { return };
    let options = Options { data: Some(disk.path().to_owned()), ..Options::default() };
    let Some(mut server) = private(&options) else { return };
    let ground = Ground::at(&server.url());
    let mut config = ground.config();
    config.operation_timeout = Duration::from_secs(3);
    let store = Neo4jStore::new(config).unwrap();
    in_the_end(async || store.provision().await).await;
    let mut told = Vec::new();
    let (refused, error) = loop {
        let mut record = waiting(told.len() as u64 + 1, "purchase", "manager", "jane");
        record.snapshot = Sealed(vec![b'x'; 1 << 20]);
        match store.insert(record.clone()).await {
            Ok(()) => told.push(record),
            Err(error) => break (record, error),
        }
        assert!(told.len() < 100, "the disk is never full");
    };
    let next = waiting(1000, "purchase", "manager", "jane");
    for error in [error, store.insert(next).await.unwrap_err()] {
        passing(&error);
        assert!(error.message().contains("full disk"), "{error}");
    }
    // It takes no writes any more, until it is started again with some room.
    disk.grow(256 << 10).unwrap();
    server.kill();
    server.start_again().unwrap();
    for record in told {
        let found = in_the_end(async || store.get(record.id).await).await;
        assert_eq!(found, Some(record), "acknowledged, and lost");
    }
    let found = store.get(refused.id).await.unwrap();
    assert!(found.is_none() || found == Some(refused), "it is half there");
    store.update(id(1), Expect::Any, large(b'y')).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_is_told_of() {
    let Some(mut server) = private(&Options::default()) else { return };
    let ground = Ground::at(&server.url());
    let store = ground.store();
    in_the_end(async || store.provision().await).await;
    let record = waiting(1, "purchase", "manager", "jane");
    store.insert(record.clone()).await.unwrap();
    let health = store.health().await.unwrap();
    assert!(health.durable);
    assert_eq!(health.warnings.len(), 1, "{health:?}");
    assert!(health.warnings[0].contains("Community"), "{health:?}");

    server.stop().unwrap();
    server.set("server.databases.read_only", "neo4j").unwrap();
    server.set("db.memory.transaction.max", "4m").unwrap();
    server.start_again().unwrap();
    in_the_end(async || store.health().await).await;
    store.provision().await.expect("what is there already needs no write");
    assert_eq!(store.get(record.id).await.unwrap(), Some(record.clone()), "it can be read");
    let queue = record.queue.clone().unwrap();
    for error in [
        store.insert(waiting(2, "purchase", "manager", "jane")).await.unwrap_err(),
        store.update(record.id, Expect::Any, snapshot("x")).await.unwrap_err(),
        store.delete(record.id, Expect::Any).await.unwrap_err(),
        store.claim(claim_of(queue)).await.unwrap_err(),
        Ground::at(&server.url()).store().provision().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::StorageError, "{error}");
        assert!(error.message().contains("read-only"), "{error}");
        assert!(!error.is_retryable());
    }
    let health = store.health().await.unwrap();
    let told = health.warnings.join("\n");
    assert!(told.contains("read-only") && told.contains("db.memory.transaction.max"), "{told}");

    server.stop().unwrap();
    server.set("server.databases.read_only", "").unwrap();
    server.start_again().unwrap();
    in_the_end(async || store.get(record.id).await).await;
    let error = store.update(record.id, Expect::Any, enormous()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageError, "{error}");
    assert!(error.message().contains("memory.transaction"), "{error}");
    assert_eq!(store.get(record.id).await.unwrap(), Some(record), "it is as it was");
}

fn enormous() -> Change {
    Change { snapshot: Some(Sealed(vec![7; 16 << 20])), ..Change::at(at(9)) }
}

fn claim_of(queue: dynamic_flow::store::Queue) -> dynamic_flow::store::Claim {
    dynamic_flow::store::Claim {
        now: at(100_000_000),
        queues: vec![queue],
        owner: "me".into(),
        lease: Duration::from_secs(1),
        limit: 1,
        except: [].into(),
    }
}
