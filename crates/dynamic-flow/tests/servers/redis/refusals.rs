//! Servers that can't be used as they are, each of which says so within seconds.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
    time::Duration,
};

use dynamic_flow::store::{Change, Expect, Filter, RedisConfig, Store as _};
use dynamic_flow_services::{Kind, free_port, redis::Options};
use redis::Commands as _;

use super::support::{Namespace, at, claim, config, due, failed, id, open, server, soon};
use crate::support::url;

fn impatient(url: &str) -> RedisConfig {
    let mut config = RedisConfig::from_url(url).unwrap();
    config.operation_timeout = Duration::from_secs(3);
    config.connect_timeout = Duration::from_secs(1);
    config
}

#[tokio::test]
async fn a_wrong_host_and_a_closed_port_are_told_apart() {
    let nowhere = open(&impatient("redis://:hunter2@no-such-host.invalid/0"));
    let error = failed(soon(nowhere.provision()).await, "name of the host", false);
    assert_eq!(error.context_value("server"), Some("redis://no-such-host.invalid/0"));
    let port = free_port().unwrap();
    let closed = open(&impatient(&format!("redis://:hunter2@127.0.0.1:{port}")));
    let error = failed(soon(closed.insert(due(1))).await, "refused; check host and port", true);
    assert!(error.to_string().contains("insert"), "{error}");
    failed(soon(closed.health()).await, "refused", true);
    let cluster = open(&impatient(&format!("redis://127.0.0.1:{port}?cluster=true")));
    failed(soon(cluster.provision()).await, "refused", true);
}

#[tokio::test]
async fn a_wrong_password_and_none_are_refused() {
    let Some(server) = server(&Options { password: Some("hunter2".into()), ..Options::default() })
    else {
        return;
    };
    open(&config(&server)).provision().await.unwrap();
    let mut wrong = config(&server);
    wrong.password = Some("hunter22".into());
    failed(open(&wrong).provision().await, "password is wrong", false);
    wrong.username = Some("nobody".into());
    failed(open(&wrong).get(id(1)).await, "the user or the password is wrong", false);
    wrong.username = None;
    wrong.password = None;
    failed(open(&wrong).provision().await, "asks for a password", false);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_refused() {
    let Some(url) = url("DFLOW_TEST_REDIS_URL") else { return };
    let mut config = impatient(&url);
    config.db = 4_000_000;
    failed(open(&config).provision().await, "no database of that number", false);
}

#[tokio::test]
async fn foreign_data_under_our_names_is_refused_and_left_alone() {
    let Some(mut namespace) = Namespace::fresh(Kind::Redis) else { return };
    namespace.config.partitions = 1;
    let prefix = namespace.config.key_prefix.clone();
    let mut raw = namespace.raw();
    let _: () = raw.set(format!("{prefix}layout"), "somebody's").unwrap();
    failed(namespace.open().provision().await, "holds something else", false);
    let _: () = raw.del(format!("{prefix}layout")).unwrap();
    let _: () = raw.lpush(format!("{prefix}layout"), "somebody's").unwrap();
    failed(namespace.open().provision().await, "holds something else", false);
    let _: () = raw.del(format!("{prefix}layout")).unwrap();
    let _: () = raw.set(format!("{prefix}layout"), "dynamic-flow 2 1").unwrap();
    failed(namespace.open().provision().await, "newer program", false);
    let _: () = raw.del(format!("{prefix}layout")).unwrap();

    let store = namespace.open();
    store.provision().await.unwrap();
    store.insert(due(1)).await.unwrap();
    let index: Vec<String> =
        raw.scan_match(format!("{prefix}*index")).unwrap().collect::<Result<_, _>>().unwrap();
    let _: () = raw.rename(&index[0], format!("{prefix}kept")).unwrap();
    let _: () = raw.set(&index[0], "somebody's").unwrap();
    failed(store.insert(due(2)).await, "holds something else", false);
    assert_eq!(store.get(id(2)).await.unwrap(), None, "nothing is half written");
    failed(store.update(id(1), Expect::Any, Change::at(at(9))).await, "something else", false);
    failed(store.delete(id(1), Expect::Any).await, "something else", false);
    assert_eq!(store.get(id(1)).await.unwrap(), Some(due(1)));
    failed(store.query(&Filter::default(), None, 1).await, "something else", false);
    failed(store.claim(claim(1)).await, "something else", false);
    let theirs: String = raw.get(&index[0]).unwrap();
    assert_eq!(theirs, "somebody's");
    let _: () = raw.rename(format!("{prefix}kept"), &index[0]).unwrap();

    let record = index[0].replace("index", &format!("run:{}", id(3)));
    let _: () = raw.set(&record, "somebody's").unwrap();
    failed(store.insert(due(3)).await, "something else", false);
    failed(store.get(id(3)).await, "something else", false);
    let theirs: String = raw.get(&record).unwrap();
    assert_eq!(theirs, "somebody's");
}

#[tokio::test]
async fn foreign_data_in_the_place_of_one_record_keeps_nobody_from_the_others() {
    let Some(mut namespace) = Namespace::fresh(Kind::Redis) else { return };
    namespace.config.partitions = 1;
    let store = namespace.open();
    for n in 1..=3 {
        store.insert(due(n)).await.unwrap();
    }
    let mut raw = namespace.raw();
    let pattern = format!("{}*run:{}", namespace.config.key_prefix, id(2));
    let keys: Vec<String> = raw.scan_match(pattern).unwrap().collect::<Result<_, _>>().unwrap();
    let _: () = raw.set(&keys[0], "somebody's").unwrap();
    failed(store.get(id(2)).await, "something else", false);
    let given = store.claim(claim(3)).await.unwrap();
    assert_eq!(given.iter().map(|record| record.id).collect::<Vec<_>>(), [id(1), id(3)]);
    let left: String = raw.get(&keys[0]).unwrap();
    assert_eq!(left, "somebody's", "what is not ours stays as it is");
}

/// A server that answers each of our greetings with the same words; "bye" ends the connection.
fn imposter(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            let mut asked = [0; 1024];
            while stream.read(&mut asked).is_ok_and(|length| length > 0)
                && answer != "bye"
                && stream.write_all(answer.as_bytes()).is_ok()
            {}
        }
    });
    port
}

#[tokio::test]
async fn a_server_that_is_too_old_or_no_redis_is_refused() {
    const SIX: &str = "*4\r\n$7\r\nversion\r\n$6\r\n6.0.16\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n";
    for (answer, says) in [
        (SIX, "the server is Redis 6.0.16; 6.2 is the oldest"),
        ("-ERR unknown command `HELLO`, with args beginning with: \r\n", "6.2 is the oldest"),
        ("-DENIED Redis is running in protected mode\r\n", "protected mode"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak as Redis does"),
    ] {
        let port = imposter(answer);
        let store = open(&impatient(&format!("redis://127.0.0.1:{port}")));
        failed(soon(store.provision()).await, says, false);
    }
    // As a server does that is killed between two words.
    let ending = imposter("bye");
    let store = open(&impatient(&format!("redis://127.0.0.1:{ending}")));
    failed(soon(store.insert(due(1))).await, "ended the connection before it answered", true);
    let silent = imposter("");
    let store = open(&impatient(&format!("redis://127.0.0.1:{silent}")));
    failed(soon(store.provision()).await, "did not answer within 1s", true);
}

#[tokio::test]
async fn a_replica_takes_no_writes() {
    let Some(master) = server(&Options::default()) else { return };
    let writer = open(&config(&master));
    writer.insert(due(1)).await.unwrap();
    let options = Options { replica_of: Some(master.port()), ..Options::default() };
    let Some(replica) = server(&options) else { return };
    let store = open(&config(&replica));
    for _ in 0..400 {
        if replica.cli(&["DBSIZE"]).unwrap() != "0" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    failed(store.insert(due(2)).await, "read-only replica", true);
    failed(store.update(id(1), Expect::Any, Change::at(at(1))).await, "read-only", true);
    failed(store.claim(claim(1)).await, "read-only", true);
    assert_eq!(store.get(id(1)).await.unwrap(), Some(due(1)), "it may be read");
    assert_eq!(store.query(&Filter::default(), None, 1).await.unwrap().items.len(), 1);
    let health = store.health().await.unwrap();
    assert!(health.warnings.iter().any(|it| it.contains("is a replica")), "{health:?}");
    // What was a replica becomes the master, and the same store goes on.
    replica.cli(&["REPLICAOF", "NO", "ONE"]).unwrap();
    store.insert(due(2)).await.unwrap();
}

#[tokio::test]
async fn a_server_with_too_many_clients_is_worth_another_try() {
    let Some(server) = server(&Options::default()) else { return };
    let first = open(&config(&server));
    first.provision().await.unwrap();
    server.cli(&["CONFIG", "SET", "maxclients", "1"]).unwrap();
    let second = open(&config(&server));
    failed(soon(second.provision()).await, "no more clients", true);
    drop(first);
    for _ in 0..400 {
        if second.provision().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the place of the first is free again");
}
