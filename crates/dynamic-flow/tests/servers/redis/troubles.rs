//! What happens to servers and connections in the middle of work: nothing is half done, each call
//! ends within seconds, and the same store goes on afterwards.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dynamic_flow::{
    ErrorKind,
    codec::Sealed,
    store::{Change, Expect, Filter, Record, RedisStore, Store},
};
use dynamic_flow_services::redis::{Options, Redis};

use super::support::{at, claim, config, due, failed, id, open, server, soon};

/// That a record is whole: it reads back, and is listed and claimed as one that is there.
async fn assert_whole(store: &RedisStore, expected: &[Record]) {
    let page = store.query(&Filter::default(), None, 1000).await.unwrap();
    let mut listed: Vec<_> = page.readable().map(|summary| summary.id).collect();
    listed.reverse();
    let ids: Vec<_> = expected.iter().map(|record| record.id).collect();
    assert_eq!(listed, ids);
    for record in expected {
        assert_eq!(store.get(record.id).await.unwrap().as_ref(), Some(record));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_killed_and_started_again_has_all_that_it_acknowledged() {
    let Some(mut server) = server(&Options::default()) else { return };
    let store = open(&config(&server));
    for round in 0..3 {
        store.insert(due(round)).await.unwrap();
        server.kill();
        let error = soon(store.insert(due(100))).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        server.start_again().unwrap();
        let expected: Vec<_> = (0..=round).map(due).collect();
        assert_whole(&store, &expected).await;
    }
    server.stop().unwrap();
    server.start_again().unwrap();
    // A server that was stopped in good order has said goodbye: nobody notices.
    store.insert(due(3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_go_on_over_a_restart_and_nothing_acknowledged_is_lost() {
    let Some(mut server) = server(&Options::default()) else { return };
    let store = open(&config(&server));
    store.provision().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8_u64)
        .map(|writer| {
            let (store, stop) = (store.clone(), stop.clone());
            tokio::spawn(async move {
                let (mut acknowledged, mut n) = (Vec::new(), writer * 100_000);
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    match store.insert(due(n)).await {
                        Ok(()) => acknowledged.push(n),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::StorageError, "{error}");
                            assert!(error.is_retryable(), "{error}");
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                }
                acknowledged
            })
        })
        .collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.kill();
        server.start_again().unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = 0;
    for writer in writers {
        for n in writer.await.unwrap() {
            assert_eq!(store.get(id(n)).await.unwrap(), Some(due(n)));
            acknowledged += 1;
        }
    }
    assert!(acknowledged > 50, "the writers wrote: {acknowledged}");
    let listed = store.query(&Filter::default(), None, usize::MAX).await.unwrap().items.len();
    assert!(listed >= acknowledged, "{listed} of {acknowledged} are listed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_an_error_within_seconds_and_is_used_again_when_it_thaws() {
    let Some(server) = server(&Options::default()) else { return };
    let store = open(&config(&server));
    store.insert(due(1)).await.unwrap();
    server.freeze().unwrap();
    let began = Instant::now();
    failed(soon(store.insert(due(2))).await, "no answer within 3s", true);
    failed(soon(store.get(id(1))).await, "did not answer within 2s", true);
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    server.thaw().unwrap();
    assert_eq!(store.get(id(1)).await.unwrap(), Some(due(1)));
    // The insert may have arrived or not; whole it is.
    let second = store.insert(due(2)).await;
    assert!(second.is_ok_and(|()| true) || store.get(id(2)).await.unwrap() == Some(due(2)));
    assert_whole(&store, &[due(1), due(2)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_are_made_anew() {
    let Some(server) = server(&Options::default()) else { return };
    let store = open(&config(&server));
    store.insert(due(0)).await.unwrap();
    let mut expected = vec![due(0)];
    for n in 1..30 {
        server.cli(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
        match store.insert(due(n)).await {
            Ok(()) => expected.push(due(n)),
            Err(error) => {
                failed::<()>(Err(error), "may have taken effect", true);
                expected.extend(store.get(id(n)).await.unwrap());
            }
        }
        server.cli(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
        assert_eq!(store.get(id(0)).await.unwrap(), Some(due(0)), "a read is made again");
    }
    assert_whole(&store, &expected).await;
}

/// Passes on what is said, until it is told to cut the next answers off.
struct Proxy {
    port: u16,
    cut: Arc<AtomicBool>,
}

impl Proxy {
    fn to(server: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(AtomicBool::new(false));
        let (to, cuts) = (server.port(), cut.clone());
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(("127.0.0.1", to)).unwrap();
                let asks = (near.try_clone().unwrap(), far.try_clone().unwrap());
                thread::spawn(move || pass(asks.0, asks.1, &AtomicBool::new(false)));
                let cuts = cuts.clone();
                thread::spawn(move || pass(far, near, &cuts));
            }
        });
        Self { port, cut }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer) {
        let cut = length > 0 && cut.swap(false, Ordering::SeqCst);
        if length == 0 || cut || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_was_cut_off_is_uncertain_and_is_not_made_again() {
    let Some(server) = server(&Options::default()) else { return };
    let proxy = Proxy::to(&server);
    let mut config = config(&server);
    config.hosts = vec![format!("127.0.0.1:{}", proxy.port)];
    let store = open(&config);
    store.insert(due(1)).await.unwrap();
    // The server has seen all scripts: what is cut off is not its word that it knows one of them not.
    store.update(id(1), Expect::Any, Change::at(at(4))).await.unwrap();
    assert_eq!(store.claim(claim(1)).await.unwrap().len(), 1);
    proxy.cut.store(true, Ordering::SeqCst);
    failed(store.insert(due(2)).await, "may have taken effect", true);
    assert_eq!(store.get(id(2)).await.unwrap(), Some(due(2)), "and it has");
    proxy.cut.store(true, Ordering::SeqCst);
    let change = Change { inbox_push: vec![Sealed(vec![7])], ..Change::at(at(5)) };
    let cut = store.update(id(1), Expect::Any, change.clone()).await;
    failed(cut, "may have taken effect", true);
    let after = store.get(id(1)).await.unwrap().unwrap();
    assert_eq!(after.inbox.len(), 1, "once, not twice");
    assert_eq!(after.revision.0, 4);
    proxy.cut.store(true, Ordering::SeqCst);
    assert!(store.get(id(1)).await.is_ok(), "a read is made again");
    proxy.cut.store(true, Ordering::SeqCst);
    assert_eq!(store.query(&Filter::default(), None, 9).await.unwrap().items.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_while_it_is_greeted_is_made_again() {
    let Some(server) = server(&Options::default()) else { return };
    let proxy = Proxy::to(&server);
    let mut config = config(&server);
    config.hosts = vec![format!("127.0.0.1:{}", proxy.port)];
    for n in 1..=2 {
        let store = open(&config);
        proxy.cut.store(true, Ordering::SeqCst);
        store.insert(due(n)).await.unwrap();
        assert!(!proxy.cut.load(Ordering::SeqCst), "the first answer was cut off");
    }
    assert_whole(&open(&config), &[due(1), due(2)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_memory_refuses_writes_whole_and_takes_deletes() {
    let Some(server) = server(&Options::default()) else { return };
    let store = open(&config(&server));
    let record = |n| Record { snapshot: Sealed(vec![7; 100_000]), ..due(n) };
    store.insert(record(1)).await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    failed(store.insert(record(2)).await, "memory is full, and nothing was written", false);
    let change = Change { queue: Some(None), ..Change::at(at(5)) };
    failed(store.update(id(1), Expect::Any, change).await, "memory is full", false);
    failed(store.claim(claim(1)).await, "memory is full", false);
    assert_whole(&store, &[record(1)]).await;
    let health = store.health().await.unwrap();
    assert!(health.warnings.iter().any(|it| it.contains("maxmemory is nearly full")), "{health:?}");
    store.delete(id(1), Expect::Any).await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    store.insert(record(2)).await.unwrap();
    assert_whole(&store, &[record(2)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_persist_refuses_writes_whole() {
    let Some(mut server) = server(&Options::default().with("save", "3600 1")) else { return };
    let store = open(&config(&server));
    store.insert(due(1)).await.unwrap();
    // Where the snapshot should go there is a folder.
    std::fs::create_dir(server.folder().join("dump.rdb")).unwrap();
    std::fs::write(server.folder().join("dump.rdb/x"), "x").unwrap();
    server.cli(&["BGSAVE"]).unwrap();
    for _ in 0..400 {
        if server.cli(&["INFO", "persistence"]).unwrap().contains("rdb_last_bgsave_status:err") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    failed(store.insert(due(2)).await, "can't persist", false);
    failed(store.update(id(1), Expect::Any, Change::at(at(5))).await, "nothing was written", false);
    failed(store.delete(id(1), Expect::Any).await, "can't persist", false);
    assert_whole(&store, &[due(1)]).await;
    let health = store.health().await.unwrap();
    assert!(health.warnings.iter().any(|it| it.contains("last snapshot failed")), "{health:?}");
    // It would not end without a snapshot.
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_server_and_leaves_whole_records() {
    let Some(mut server) = server(&Options::default()) else { return };
    let store = open(&config(&server));
    store.insert(due(0)).await.unwrap();
    server.stop().unwrap();
    // The file may grow to 100 blocks of 512 bytes, and what would make it larger fails.
    let limited = "ulimit -f 100; trap '' XFSZ; exec \"$@\"";
    let launch = server.launch_mut();
    let program = std::mem::replace(&mut launch.program, "/bin/sh".into());
    let plain = launch.args.clone();
    let words = ["-c", limited, "sh", program.to_str().unwrap()].map(str::to_owned);
    launch.args.splice(0..0, words);
    server.start_again().unwrap();
    let mut written = vec![due(0)];
    let refused = loop {
        let record = Record { snapshot: Sealed(vec![1; 3000]), ..due(written.len() as u64) };
        match soon(store.insert(record.clone())).await {
            Ok(()) => written.push(record),
            Err(error) => break error,
        }
        assert!(written.len() < 1000, "the disk is never full");
    };
    assert_eq!(refused.kind(), ErrorKind::StorageError, "{refused}");
    server.kill();
    server.launch_mut().program = program;
    server.launch_mut().args = plain;
    server.start_again().unwrap();
    assert_whole(&store, &written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_loading_is_worth_another_try() {
    let Some(mut server) = server(&Options::default()) else { return };
    let store = open(&config(&server));
    store.insert(due(1)).await.unwrap();
    for n in 2..300 {
        let record = Record { snapshot: Sealed(vec![n as u8; 1000]), ..due(n) };
        store.insert(record).await.unwrap();
    }
    server.cli(&["BGREWRITEAOF"]).unwrap();
    for _ in 0..400 {
        let info = server.cli(&["INFO", "persistence"]).unwrap();
        if info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.stop().unwrap();
    let launch = server.launch_mut();
    let args = launch.args.clone();
    // Loads so slowly that one can watch.
    launch
        .args
        .extend(["--enable-debug-command", "yes", "--key-load-delay", "10000"].map(String::from));
    launch.args.extend(["--loading-process-events-interval-bytes", "1024"].map(String::from));
    std::ops::DerefMut::deref_mut(&mut server).start_again().unwrap();
    failed(soon(store.get(id(1))).await, "still loading", true);
    failed(soon(store.insert(due(1000))).await, "still loading", true);
    server.kill();
    server.launch_mut().args = args;
    server.start_again().unwrap();
    assert_eq!(store.get(id(1)).await.unwrap(), Some(due(1)));
    assert_eq!(store.get(id(1000)).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_goes_on_over_a_restart_without_being_made_anew() {
    let Some(mut server) = server(&Options::default()) else { return };
    let store: Arc<dyn Store> = Arc::new(open(&config(&server)));
    let hub = dynamic_flow::hub::PersistenceHub::builder(store)
        .plaintext()
        .retry_delay(Duration::from_millis(100))
        .build()
        .await
        .unwrap();
    let ask = dynamic_flow::tool::AwaitInput::<bool>::new("ask").prompt("Go on?");
    let flow = dynamic_flow::Flow::input::<u32>("restart").await_input(ask).build().unwrap();
    let handle = hub.register(flow).unwrap();
    for _ in 0..3 {
        let outcome = handle.run(7).await.unwrap();
        let dynamic_flow::hub::Outcome::Suspended(parked) = outcome else { panic!("it asks") };
        server.kill();
        server.start_again().unwrap();
        let key = parked.only().unwrap().key().unwrap();
        let outcome = handle.resume(key, serde_json::json!(true)).await.unwrap();
        assert!(matches!(outcome, dynamic_flow::hub::Outcome::Completed(done) if done.output));
    }
}
