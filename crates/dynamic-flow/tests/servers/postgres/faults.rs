//! Servers that freeze, go, come back and change places, and connections that break.

use std::{
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use dynamic_flow::{
    Revision,
    store::{Change, Expect, PostgresStore, Record, Store as _},
};
use dynamic_flow_services::postgres::{Options, Postgres};

use crate::support::small_disk;

use super::{
    proxy::Proxy,
    support::{
        assert_tells, assert_whole, at, change, connect, eventually, failure, impatient, open,
        private, record, soon, with,
    },
};

/// A store on a server of its own, with a run in it.
async fn ready(options: &Options) -> Option<(Postgres, PostgresStore)> {
    let server = private(options)?;
    let store = open(&impatient(&server.url()));
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    Some((server, store))
}

#[tokio::test]
async fn a_frozen_server_is_an_error_and_outlasted() {
    let Some((server, store)) = ready(&Options::default()).await else { return };
    server.freeze().unwrap();
    let error = failure(store.get(record(1).id)).await;
    assert_tells(&error, "get", true, &["no answer within"]);
    let error = failure(store.update(record(1).id, Expect::Any, change("x"))).await;
    assert_tells(&error, "update", true, &[]);
    // Nobody who is new gets in either.
    let newcomer = open(&impatient(&server.url()));
    let error = failure(newcomer.provision()).await;
    assert_tells(&error, "provision", true, &["within"]);
    server.thaw().unwrap();
    eventually(|| store.get(record(1).id)).await;
    store.insert(record(2)).await.unwrap();
    assert_whole(&store, &record(2)).await;
}

#[tokio::test]
async fn a_server_that_starts_again_is_used_again() {
    let Some((mut server, store)) = ready(&Options::default()).await else { return };
    server.stop().unwrap();
    let error = failure(store.get(record(1).id)).await;
    assert!(error.is_retryable(), "{error}");
    assert_tells(&failure(store.insert(record(2))).await, "insert", true, &[]);
    server.start_again().unwrap();
    let found = eventually(|| store.get(record(1).id)).await;
    assert_eq!(found, Some(record(1)));
    eventually(|| store.insert(record(2))).await;
    server.kill().unwrap();
    server.start_again().unwrap();
    eventually(|| store.get(record(2).id)).await;
    assert_whole(&store, &record(2)).await;
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_anew() {
    let Some(server) = private(&Options::default()) else { return };
    let proxy = Proxy::to(server.port());
    let port = server.port().to_string();
    let store = open(&impatient(&server.url().replace(&port, &proxy.port().to_string())));
    store.provision().await.unwrap();
    for n in 1..5 {
        store.insert(record(n)).await.unwrap();
        proxy.cut();
        eventually(|| store.get(record(n).id)).await;
        assert_whole(&store, &record(n)).await;
    }
}

/// A write that waits for a lock when its connection is killed: it says so, and is not done.
#[tokio::test]
async fn a_connection_that_is_killed_in_the_middle_of_a_write() {
    let Some((server, store)) = ready(&Options::default()).await else { return };
    let mut other = connect(&server.url()).await;
    for kill in ["pg_terminate_backend(pid)", "pg_cancel_backend(pid)"] {
        let lock = other.transaction().await.unwrap();
        lock.execute("SELECT 1 FROM suspended_flows FOR UPDATE", &[]).await.unwrap();
        let write = {
            let store = store.clone();
            let expect = Expect::Revision(Revision::FIRST);
            tokio::spawn(async move { store.update(record(1).id, expect, change("x")).await })
        };
        let blocked = format!(
            "SELECT count({kill}) FROM pg_stat_activity \
             WHERE wait_event_type = 'Lock' AND application_name = 'dynamic-flow'"
        );
        let admin = connect(&server.url()).await;
        soon(async {
            while admin.query_one(&blocked, &[]).await.unwrap().get::<_, i64>(0) == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let error = failure(async { write.await.unwrap() }).await;
        assert_tells(&error, "update", true, &["server"]);
        lock.rollback().await.unwrap();
        assert_whole(&store, &record(1)).await;
    }
    let expect = Expect::Revision(Revision::FIRST);
    store.update(record(1).id, expect, change("again")).await.unwrap();
}

/// A write that gives up on a lock has not happened, and does not happen later.
#[tokio::test]
async fn a_write_that_gives_up_on_a_lock_is_not_done_later() {
    let Some((server, store)) = ready(&Options::default()).await else { return };
    let mut other = connect(&server.url()).await;
    let lock = other.transaction().await.unwrap();
    lock.execute("SELECT 1 FROM suspended_flows FOR UPDATE", &[]).await.unwrap();
    let expect = Expect::Revision(Revision::FIRST);
    let error = failure(store.update(record(1).id, expect, change("late"))).await;
    assert_tells(&error, "update", true, &["locks"]);
    lock.rollback().await.unwrap();
    let admin = connect(&server.url()).await;
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
                AND application_name = 'dynamic-flow'";
    soon(async {
        while admin.query_one(busy, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let found = store.get(record(1).id).await.unwrap().unwrap();
    assert!(found == record(1) || found.metadata == change("late").metadata.unwrap());
    assert_whole(&store, &found).await;
}

/// The URL names both; the standby takes over.
#[tokio::test]
async fn a_failover_is_followed() {
    let Some(mut primary) = private(&Options::default()) else { return };
    open(&primary.url()).provision().await.unwrap();
    let standby = primary.standby().unwrap();
    let url = format!(
        "postgres://postgres:hunter2@127.0.0.1:{},127.0.0.1:{}/postgres?target_session_attrs=read-write",
        standby.port(),
        primary.port()
    );
    let store = open(&impatient(&url));
    store.insert(record(1)).await.unwrap();
    let follower = open(&standby.url());
    soon(async {
        while follower.get(record(1).id).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // Frozen rather than gone: it takes connections and does not answer.
    primary.freeze().unwrap();
    let error = failure(store.insert(record(2))).await;
    assert!(error.is_retryable(), "{error}");
    standby.promote().unwrap();
    let found = eventually(|| store.get(record(1).id)).await;
    assert_eq!(found, Some(record(1)));
    eventually(|| store.insert(record(3))).await;
    assert_whole(&store, &record(3)).await;
    primary.thaw().unwrap();
    primary.kill().unwrap();
}

/// Two hosts that take connections and say nothing, which is all that a call has time for: the
/// third one is reached by a later call.
#[tokio::test]
async fn hosts_that_hang_do_not_keep_the_others_from_being_tried() {
    let Some((server, _)) = ready(&Options::default()).await else { return };
    let hung = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let hung = hung.each_ref().map(|it| it.local_addr().unwrap().to_string());
    let place = format!("127.0.0.1:{}", server.port());
    let url = server.url().replace(&place, &format!("{},{place}", hung.join(",")));
    let store = open(&with(&url, "connect_timeout=1s&operation_timeout=1500ms"));
    assert_tells(&failure(store.get(record(1).id)).await, "get", true, &[]);
    assert_eq!(eventually(|| store.get(record(1).id)).await, Some(record(1)));
}

/// The disk of the table is full, on a file system of a megabyte or two.
#[tokio::test]
async fn a_full_disk_is_an_error_and_outlasted() {
    let Some((server, _)) = ready(&Options::default()).await else { return };
    let Some(disk) = small_disk(2) else { return };
    let admin = connect(&server.url()).await;
    admin
        .batch_execute(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.path().display()))
        .await
        .unwrap();
    let store =
        open(&with(&server.url(), "schema_name=small&options=-c%20default_tablespace%3Dsmall"));
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    let large =
        |n: u8| Record { snapshot: dynamic_flow::codec::Sealed(vec![n; 300_000]), ..record(n) };
    let mut kept = vec![record(1)];
    let error = soon(async {
        loop {
            let next = large(u8::try_from(kept.len() + 1).unwrap());
            match store.insert(next.clone()).await {
                Ok(()) => kept.push(next),
                Err(error) => break error,
            }
        }
    })
    .await;
    assert_tells(&error, "insert", false, &["disk is full", "make room"]);
    let last = large(u8::try_from(kept.len() + 1).unwrap());
    assert_eq!(store.get(last.id).await.unwrap(), None);
    let update = Change { snapshot: Some(last.snapshot.clone()), ..change("large") };
    let expect = Expect::Revision(Revision::FIRST);
    let error = failure(store.update(record(1).id, expect, update)).await;
    assert_tells(&error, "update", false, &["disk is full"]);
    for record in &kept {
        assert_whole(&store, record).await;
    }
    // Room is made, and it goes on.
    disk.grow(64 << 10).unwrap();
    store.insert(last.clone()).await.unwrap();
    assert_whole(&store, &last).await;
    store.update(record(1).id, expect, Change::at(at(5))).await.unwrap();
}
