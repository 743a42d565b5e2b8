//! ACL users: what the documentation says is enough, and what is missing is named.

use dynamic_flow::{
    store::{Change, Expect, Filter, Hint, Queue, RedisConfig, Store as _},
    testkit::conformance,
};
use dynamic_flow_services::redis::{Options, Redis};

use super::support::{at, claim, config, due, failed, id, open, server};

/// What the documentation of the store gives a user.
const RIGHTS: &str = "on >hunter2 resetchannels &flow:suspended:* ~flow:suspended:* +@hash \
     +@sortedset +@scripting +@connection +get +set +del +exists +pexpireat +persist +publish \
     +subscribe +wait +cluster|slots +info +config|get +scan";

fn user(server: &Redis, name: &str, rights: &str) -> RedisConfig {
    let mut words = vec!["ACL", "SETUSER", name];
    words.extend(rights.split_whitespace());
    assert_eq!(server.cli(&words).unwrap(), "OK");
    let mut config = config(server);
    config.username = Some(name.into());
    config.password = Some("hunter2".into());
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_are_documented_are_enough() {
    let Some(server) = server(&Options::default()) else { return };
    let config = user(&server, "flows", RIGHTS);
    for check in [
        "a_record_reads_back_as_it_was_written",
        "all_fields_change_together",
        "a_delete_is_conditional",
        "a_claim_changes_what_it_says",
        "a_renewal_moves_the_lease_and_the_due_time",
        "each_filter_and_all_pairs_of_them_list_what_matches",
        "hints_reach_who_waits_elsewhere",
    ] {
        server.cli(&["FLUSHALL"]).unwrap();
        let config = config.clone();
        let subject = conformance::Subject::new(open(&config), move || open(&config));
        conformance::check(check, subject).await;
    }
    let health = open(&config).health().await.unwrap();
    assert!(health.durable && health.warnings.is_empty(), "{health:?}");
}

#[tokio::test]
async fn the_right_that_is_missing_is_named_before_anything_is_written() {
    let Some(server) = server(&Options::default()) else { return };
    for (n, (less, named)) in [
        ("-evalsha", "evalsha"),
        ("-zadd", "zadd"),
        ("-hincrby", "hincrby"),
        ("-persist", "persist"),
        ("-get", "get"),
        ("resetkeys ~other:*", "key"),
    ]
    .into_iter()
    .enumerate()
    {
        let config = user(&server, &format!("user{n}"), &format!("{RIGHTS} {less}"));
        let store = open(&config);
        let error = store.insert(due(1)).await.expect_err(less);
        let message = error.message().to_lowercase();
        let a_command = named == "key" || message.contains("this command");
        assert!(message.contains(named) || a_command, "{less}: {error}");
        failed::<()>(Err(error), "lacks a right", false);
        assert_eq!(server.cli(&["DBSIZE"]).unwrap(), "0", "{less}");
    }
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_where_there_are_records_and_they_stay_whole() {
    let Some(server) = server(&Options::default()) else { return };
    let owner = open(&config(&server));
    owner.insert(due(1)).await.unwrap();
    let move_on = Change { queue: Some(Some(Queue("other".into()))), ..Change::at(at(2)) };
    for (n, right) in ["zrem", "zadd", "hdel", "persist", "zcard"].into_iter().enumerate() {
        let user = user(&server, &format!("less{n}"), &format!("{RIGHTS} -{right}"));
        let store = open(&user);
        assert_eq!(store.get(id(1)).await.unwrap(), Some(due(1)), "reading needs no {right}");
        for _ in 0..2 {
            let failure = store.update(id(1), Expect::Any, move_on.clone()).await;
            failed(failure, "lacks a right", false);
        }
        failed(store.delete(id(1), Expect::Any).await, "lacks a right", false);
        failed(store.claim(claim(1)).await, "lacks a right", false);
        assert_eq!(owner.get(id(1)).await.unwrap(), Some(due(1)), "without {right}");
    }
    assert_eq!(owner.claim(claim(2)).await.unwrap().len(), 1, "it is found by its queue still");
}

#[tokio::test]
async fn a_right_that_is_taken_away_later_is_named_as_one() {
    let Some(server) = server(&Options::default()) else { return };
    let store = open(&user(&server, "flows", RIGHTS));
    store.insert(due(1)).await.unwrap();
    server.cli(&["ACL", "SETUSER", "flows", "-hget"]).unwrap();
    failed(store.delete(id(1), Expect::Any).await, "lacks a right", false);
}

#[tokio::test]
async fn whoever_may_only_read_reads() {
    let Some(server) = server(&Options::default()) else { return };
    open(&config(&server)).insert(due(1)).await.unwrap();
    let rights = "on >hunter2 resetchannels ~flow:suspended:* +@connection +@read +@scripting";
    let store = open(&user(&server, "reader", rights));
    assert_eq!(store.get(id(1)).await.unwrap(), Some(due(1)));
    assert_eq!(store.query(&Filter::default(), None, 5).await.unwrap().items.len(), 1);
    failed(store.insert(due(2)).await, "lacks a right", false);
}

#[tokio::test]
async fn without_rights_to_look_health_says_so_and_without_channels_writes_go_on() {
    let Some(server) = server(&Options::default()) else { return };
    let blind = format!("{RIGHTS} -info -config|get -scan resetchannels -subscribe");
    let store = open(&user(&server, "blind", &blind));
    store.insert(due(1)).await.unwrap();
    let health = store.health().await.unwrap();
    assert!(!health.durable, "what was not seen is not promised");
    for right in ["INFO", "CONFIG GET", "SCAN"] {
        assert!(health.warnings.iter().any(|it| it.contains(right)), "{health:?}");
    }
    assert!(store.hints(Hint::Due).is_some(), "they may be allowed later");
    assert_eq!(store.get(id(1)).await.unwrap(), Some(due(1)));
    assert_eq!(store.query(&Filter::default(), None, 5).await.unwrap().items.len(), 1);
}
