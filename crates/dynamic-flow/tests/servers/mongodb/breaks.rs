//! Servers that freeze, go and come back, and wires that are cut in the middle of a write.

use dynamic_flow::{
    Revision,
    codec::Sealed,
    store::{Change, Expect, MongodbStore, Record, Store as _},
};
use dynamic_flow_services::mongodb::{Mongodb, Options};

use super::{
    proxy::Proxy,
    support::{
        assert_tells, at, eventually, failure, impatient, open, private, record, soon,
        with_database,
    },
};

/// A store on a server of its own, with a run in it.
async fn ready(options: &Options) -> Option<(Mongodb, MongodbStore)> {
    let server = private(options)?;
    let store = open(&impatient(&with_database(&server.url(), "flows")));
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    Some((server, store))
}

fn item(text: &str) -> Change {
    Change { inbox_push: vec![Sealed(text.into())], ..Change::at(at(1)) }
}

#[tokio::test]
async fn a_frozen_server_is_an_error_and_outlasted() {
    let Some((server, store)) = ready(&Options::default()).await else { return };
    server.freeze().unwrap();
    let error = failure(store.get(record(1).id)).await;
    assert_tells(&error, "get", true, &[]);
    let error = failure(store.update(record(1).id, Expect::Any, item("x"))).await;
    assert_tells(&error, "update", true, &[]);
    // Nobody who is new gets in either.
    let newcomer = open(&impatient(&with_database(&server.url(), "flows")));
    assert_tells(&failure(newcomer.provision()).await, "provision", true, &[]);
    server.thaw().unwrap();
    eventually(|| store.get(record(1).id)).await;
    store.insert(record(2)).await.unwrap();
    assert_eq!(store.get(record(2).id).await.unwrap(), Some(record(2)));
}

#[tokio::test]
async fn a_server_that_starts_again_is_used_again() {
    let Some((mut server, store)) = ready(&Options::default()).await else { return };
    server.kill();
    let error = failure(store.get(record(1).id)).await;
    assert_tells(&error, "get", true, &[]);
    let error = failure(store.insert(record(2))).await;
    assert_tells(&error, "insert", true, &["nothing listens there"]);
    server.start_again().unwrap();
    let found = eventually(|| store.get(record(1).id)).await;
    assert_eq!(found, Some(record(1)));
    store.insert(record(2)).await.unwrap();
}

/// What was acknowledged before a kill is there after it, and no run is half one.
#[tokio::test]
async fn a_killed_server_loses_nothing_that_it_acknowledged() {
    let Some((mut server, store)) = ready(&Options::default()).await else { return };
    for round in 0..3_u8 {
        let writers = (0..4_u8).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let record = record(10 + round * 4 + writer);
                let mut acknowledged = 0;
                let mut inserted = store.insert(record.clone()).await.is_ok();
                while inserted {
                    let text = acknowledged.to_string();
                    inserted = store.update(record.id, Expect::Any, item(&text)).await.is_ok();
                    acknowledged += usize::from(inserted);
                }
                (record, acknowledged)
            })
        });
        let writers: Vec<_> = writers.collect();
        // In the middle of it all: once every writer has been acknowledged something.
        soon(async {
            for writer in 0..4_u8 {
                let id = record(10 + round * 4 + writer).id;
                while store.get(id).await.unwrap().is_none_or(|it| it.inbox.len() < 4) {
                    tokio::task::yield_now().await;
                }
            }
        })
        .await;
        server.kill();
        let mut written = Vec::new();
        for writer in writers {
            written.push(soon(writer).await.unwrap());
        }
        server.start_again().unwrap();
        for (before, acknowledged) in written {
            let found = eventually(|| store.get(before.id)).await.expect("an acknowledged run");
            assert!(found.inbox.len() >= acknowledged, "an acknowledged item is lost");
            assert!(found.inbox.len() <= acknowledged + 1, "more than was on its way");
            assert_eq!(found.revision.0, 1 + found.inbox.len() as u64, "half a write");
            for (n, item) in found.inbox.iter().enumerate() {
                assert_eq!(item.0, n.to_string().into_bytes());
            }
            let expected = Record {
                revision: found.revision,
                inbox: found.inbox.clone(),
                updated_at: at(1),
                ..before
            };
            assert_eq!(found, expected);
        }
    }
}

/// A store whose wire to its server can be cut.
fn behind(server: &Mongodb, parameters: &str) -> (Proxy, MongodbStore) {
    let proxy = Proxy::to(server.port());
    let url =
        format!("mongodb://127.0.0.1:{}/flows?directConnection=true{parameters}", proxy.port());
    (proxy, open(&impatient(&url)))
}

/// The driver asks again with the same number, and a replica set knows that it has done it.
#[tokio::test]
async fn a_write_whose_answer_is_lost_is_made_once() {
    let Some((server, _)) = ready(&Options::default()).await else { return };
    let (proxy, store) = behind(&server, "");
    store.provision().await.unwrap();
    proxy.cut_behind("insert", 1);
    store.insert(record(2)).await.unwrap();
    proxy.cut_behind("update", 1);
    let first = Expect::Revision(Revision::FIRST);
    assert_eq!(store.update(record(2).id, first, item("a")).await.unwrap(), Revision(2));
    proxy.cut_behind("findAndModify", 1);
    assert_eq!(store.update(record(2).id, Expect::Any, item("b")).await.unwrap(), Revision(3));
    assert_eq!(proxy.to_come(), 0);
    let found = store.get(record(2).id).await.unwrap().unwrap();
    assert_eq!(found.inbox, [Sealed("a".into()), Sealed("b".into())]);
    proxy.cut_behind("delete", 1);
    store.delete(record(2).id, Expect::Revision(Revision(3))).await.unwrap();
    assert_eq!(proxy.to_come(), 0);
    assert_eq!(store.get(record(2).id).await.unwrap(), None);
}

/// Where nobody asks again, whether the write was made is not known, and the error says so; what
/// it was about is whole.
#[tokio::test]
async fn a_write_whose_outcome_is_unknown_is_whole() {
    let Some((server, direct)) = ready(&Options::default()).await else { return };
    let (proxy, store) = behind(&server, "&retryWrites=false");
    store.provision().await.unwrap();
    proxy.cut_behind("insert", 1);
    let error = failure(store.insert(record(2))).await;
    assert_tells(&error, "insert", true, &["may have taken effect"]);
    // The server may still be at it.
    soon(async {
        while direct.get(record(2).id).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(direct.get(record(2).id).await.unwrap(), Some(record(2)));
    proxy.cut_behind("update", 1);
    let first = Expect::Revision(Revision::FIRST);
    let error = failure(store.update(record(2).id, first, item("a"))).await;
    assert_tells(&error, "update", true, &["may have taken effect"]);
    assert_eq!(error.run_id(), Some(record(2).id));
    // Either both or neither is there: to look at the record settles it.
    let error = failure(store.update(record(2).id, first, item("b"))).await;
    assert!(error.is_conflict(), "{error}");
    let found = store.get(record(2).id).await.unwrap().unwrap();
    assert_eq!((found.revision, found.inbox), (Revision(2), vec![Sealed("a".into())]));
}

/// A wire that is cut each time is an error at last, and used again when it holds.
#[tokio::test]
async fn a_wire_that_is_cut_again_and_again_is_an_error() {
    let Some((server, _)) = ready(&Options::default()).await else { return };
    let (proxy, store) = behind(&server, "");
    store.provision().await.unwrap();
    proxy.cut_behind("find", 1000);
    let error = failure(store.get(record(1).id)).await;
    assert_tells(&error, "get", true, &[]);
    proxy.cut_behind("find", 0);
    let found = eventually(|| store.get(record(1).id)).await;
    assert_eq!(found, Some(record(1)));
}

/// A tool that blocks the only thread of its runtime keeps no lease from being renewed.
#[test]
fn a_blocked_runtime_holds_up_nobody_else() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime().block_on(async {
        let Some((server, store)) = ready(&Options::default()).await else { return };
        let other = store.clone();
        let elsewhere = std::thread::spawn(move || {
            runtime().block_on(soon(async { other.get(record(1).id).await }))
        });
        // Nothing that this runtime has to do is done while it waits for that.
        assert_eq!(elsewhere.join().unwrap().unwrap(), Some(record(1)));
        drop(server);
    });
}

/// A store outlives the runtime in which it was used first.
#[test]
fn a_store_outlives_a_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let Some((server, store)) = runtime().block_on(ready(&Options::default())) else { return };
    let found = runtime().block_on(soon(store.get(record(1).id))).unwrap();
    assert_eq!(found, Some(record(1)));
    drop(server);
}
