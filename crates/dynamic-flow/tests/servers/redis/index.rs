//! What partitions and their indexes must come to.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use dynamic_flow::{
    Metadata, RunId, RunStatus,
    store::{Change, Claim, Expect, Filter, Hint, Queue, Record, Store as _},
    testkit::conformance::{
        Subject, a_hub_does_its_work_beside_damaged_records, damaged_records_hide_no_others,
    },
};
use dynamic_flow_services::{Kind, redis::Options};
use redis::Commands as _;

use super::support::{Namespace, START, at, claim, config, due, failed, id, open, server};

/// All names of commands that a server has been asked for, by those who hold their tongue and by
/// scripts.
fn commands(server: &dynamic_flow_services::redis::Redis) -> BTreeSet<String> {
    let stats = server.cli(&["INFO", "commandstats"]).unwrap();
    let names = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next());
    names.map(str::to_owned).collect()
}

#[tokio::test]
async fn nothing_scans_the_keyspace_and_few_records_are_read() {
    let Some(server) = server(&Options::default()) else { return };
    let store = open(&config(&server));
    for n in 0..2000 {
        let mut record = due(n);
        record.due_at = Some(at(if n < 10 { 0 } else { 5_000_000 }));
        record.metadata.insert("parity".into(), (n as i64 % 2).into());
        store.insert(record).await.unwrap();
    }
    server.cli(&["CONFIG", "RESETSTAT"]).unwrap();
    let meta = |name: &str, value: i64| Metadata::from([(name.to_owned(), value.into())]);
    let filters = [
        (Filter::default(), 11),
        (Filter { status: [RunStatus::Waiting].into(), ..Filter::default() }, 11),
        (Filter { status: [RunStatus::Failed].into(), ..Filter::default() }, 0),
        (Filter { flow_id: Some("purchase".into()), ..Filter::default() }, 11),
        (Filter { flow_id: Some("other".into()), ..Filter::default() }, 0),
        (Filter { metadata: meta("order", 7), ..Filter::default() }, 1),
        (
            Filter {
                flow_id: Some("purchase".into()),
                metadata: [meta("order", 7), meta("parity", 1)].into_iter().flatten().collect(),
                ..Filter::default()
            },
            1,
        ),
        (Filter { created_before: Some(at(5)), ..Filter::default() }, 5),
        (Filter { expires_before: Some(at(5)), ..Filter::default() }, 0),
    ];
    let mut read = 0;
    for (filter, expected) in filters {
        let page = store.query(&filter, None, 10).await.unwrap();
        assert_eq!(page.items.len(), expected.min(10), "{filter:?}");
        read += expected;
    }
    assert_eq!(store.claim(claim(5)).await.unwrap().len(), 5);
    let used = commands(&server);
    let scans = ["keys", "scan", "hscan", "zscan", "sscan", "randomkey", "sort", "zrange"];
    for scan in scans {
        assert!(!used.contains(scan), "{scan} is among {used:?}");
    }
    assert!(used.contains("zrevrangebylex"), "{used:?}");
    let stats = server.cli(&["INFO", "commandstats"]).unwrap();
    let headers = stats.lines().find_map(|line| line.strip_prefix("cmdstat_hmget:calls="));
    let headers: usize = headers.unwrap().split(',').next().unwrap().parse().unwrap();
    // Those that are listed, and twice what the script reads of those that it gives.
    assert_eq!(headers, read + 2 * 5, "records that were looked at");
}

#[tokio::test]
async fn a_claim_over_all_partitions_gives_those_due_for_longest_and_leases_no_other() {
    let Some(namespace) = Namespace::fresh(Kind::Redis) else { return };
    let store = namespace.open();
    for n in 0..200 {
        store.insert(due(n)).await.unwrap();
    }
    let given = store.claim(claim(30)).await.unwrap();
    let given: Vec<_> = given.iter().map(|record| record.id).collect();
    assert_eq!(given, (0..30).map(id).collect::<Vec<_>>());
    let running = Filter { status: [RunStatus::Running].into(), ..Filter::default() };
    let leased = store.query(&running, None, 1000).await.unwrap().items;
    assert_eq!(leased.len(), 30, "no more are leased than were given");
    // More than one reading of each partition, and past those that are leased and due.
    let lease = Change {
        lease: Some(Some(dynamic_flow::store::Lease { owner: "x".into(), until: at(9_000_000) })),
        ..Change::at(at(0))
    };
    for n in 30..190 {
        store.update(id(n), Expect::Any, lease.clone()).await.unwrap();
    }
    let rest = store.claim(Claim { limit: 3, ..claim(3) }).await.unwrap();
    assert_eq!(rest.iter().map(|it| it.id).collect::<Vec<_>>(), [id(190), id(191), id(192)]);
    let rest = store.claim(claim(usize::MAX)).await.unwrap();
    assert_eq!(rest.len(), 7);
}

#[tokio::test]
async fn another_number_of_partitions_is_refused_in_words() {
    let Some(mut namespace) = Namespace::fresh(Kind::Redis) else { return };
    namespace.config.partitions = 3;
    let store = namespace.open();
    store.provision().await.unwrap();
    store.insert(due(1)).await.unwrap();
    namespace.config.partitions = 4;
    let other = namespace.open();
    let error = failed(other.provision().await, "has 3 partitions, and not 4", false);
    assert!(error.message().contains("partitions=3"), "what to do: {error}");
    failed(other.get(id(1)).await, "3 partitions", false);
    failed(other.insert(due(2)).await, "3 partitions", false);
    namespace.config.partitions = 3;
    assert_eq!(namespace.open().get(id(1)).await.unwrap(), Some(due(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_do_not_read_back_hide_no_others() {
    for (field, value) in [("w", "{"), ("st", "?"), ("to", ""), ("try", "x"), ("ep", "1.5")] {
        let Some((subject, change)) = with_keys() else { return };
        let harm = async |id| change(id, &mut |raw, key| raw.hset(key, field, value).unwrap());
        let (store, called) = (subject.store(), called(field));
        store.insert(due(1)).await.unwrap();
        harm(id(1)).await;
        let error = store.get(id(1)).await.unwrap_err();
        let says = format!("the {called} of a record does not read back");
        assert!(error.message().contains(&says), "{error}");
        let page = store.query(&Filter::default(), None, 1).await.unwrap();
        assert!(page.unreadable().all(|it| it.reason.contains(called)), "{page:?}");
        store.delete(id(1), Expect::Any).await.unwrap();
        damaged_records_hide_no_others(subject, harm).await;
    }
    let Some((subject, change)) = with_keys() else { return };
    let harm = async |id| change(id, &mut |raw, key| raw.hset(key, "w", "7").unwrap());
    a_hub_does_its_work_beside_damaged_records(subject, harm).await;
}

/// What people call a field.
fn called(field: &str) -> &'static str {
    match field {
        "w" => "waits",
        "st" => "status",
        "to" => "inbox",
        "try" => "number of attempts",
        _ => "epoch",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_sort_hides_no_others() {
    let Some((subject, change)) = with_keys() else { return };
    let store = subject.store();
    for n in 0..200 {
        store.insert(due(n)).await.unwrap();
    }
    let odd = [id(7), id(8), id(199)];
    for id in odd {
        change(id, &mut |raw, key| {
            let _: () = raw.del(key).unwrap();
            let _: () = raw.set(key, "text").unwrap();
        });
    }
    let page = store.query(&Filter::default(), None, 500).await.unwrap();
    assert_eq!((page.items.len(), page.readable().count()), (200, 197));
    for (unreadable, id) in page.unreadable().zip(odd.into_iter().rev()) {
        assert_eq!(unreadable.id, id);
        assert!(unreadable.place.contains(&format!("run:{id}")), "{unreadable}");
        assert!(unreadable.reason.contains("WRONGTYPE"), "{unreadable}");
    }
    let given = store.claim(claim(500)).await.unwrap();
    assert_eq!(given.len(), 197);
    assert!(given.iter().all(|record| !odd.contains(&record.id)));
}

/// What is done to a key.
type Harm<'a> = &'a mut dyn FnMut(&mut redis::Connection, &str);

/// A store, and what does something to the key of a run's record behind its back; none if there is
/// no server.
fn with_keys() -> Option<(Subject, impl Fn(RunId, Harm<'_>))> {
    let namespace = Namespace::fresh(Kind::Redis)?;
    let raw = Mutex::new(namespace.raw());
    let (prefix, store) = (namespace.config.key_prefix.clone(), namespace.open());
    let change = move |id: RunId, change: Harm<'_>| {
        let mut raw = raw.lock().unwrap();
        let keys = raw.scan_match(format!("{prefix}*run:{id}")).unwrap();
        let keys: Vec<String> = keys.collect::<Result<_, _>>().unwrap();
        change(&mut raw, &keys[0]);
    };
    Some((Subject::new(store, move || namespace.open()), change))
}

#[tokio::test]
async fn prefixes_and_databases_are_apart() {
    let Some(namespace) = Namespace::fresh(Kind::Redis) else { return };
    let mut other_db = namespace.config.clone();
    other_db.db = 1;
    let mut other_prefix = namespace.config.clone();
    // A glob, a quote and what ends a string in Lua are a name like any other.
    other_prefix.key_prefix += "*'\"]]\\ \u{e9}%s:";
    let stores = [namespace.open(), open(&other_db), open(&other_prefix)];
    for (n, store) in (0..).zip(&stores) {
        let record = Record { attempts: n, ..due(1) };
        store.insert(record.clone()).await.unwrap();
        assert_eq!(store.get(id(1)).await.unwrap(), Some(record));
        assert_eq!(store.query(&Filter::default(), None, 10).await.unwrap().items.len(), 1);
    }
    for store in &stores {
        assert_eq!(store.claim(claim(10)).await.unwrap().len(), 1);
        store.delete(id(1), Expect::Any).await.unwrap();
    }
    let mut raw = namespace.raw();
    let _: () = redis::cmd("SELECT").arg(1).query(&mut raw).unwrap();
    let _: () = raw.del(format!("{}layout", namespace.config.key_prefix)).unwrap();
}

/// What an attacker could write into a prefix reaches no script and no other key.
#[tokio::test]
async fn a_prefix_is_a_name_and_nothing_else() {
    let Some(mut namespace) = Namespace::fresh(Kind::Redis) else { return };
    let canary = format!("{}canary", namespace.config.key_prefix);
    let mut raw = namespace.raw();
    let _: () = raw.set(&canary, "alive").unwrap();
    let fresh = namespace.config.key_prefix.clone();
    for attack in [
        "') redis.call('FLUSHALL') --",
        "]]..redis.call('FLUSHALL')..[[",
        "* DEL *",
        "$(FLUSHALL)",
        "%s%d%n",
    ] {
        namespace.config.key_prefix = format!("{fresh}{attack}");
        let store = namespace.open();
        store.provision().await.unwrap();
        store.insert(due(1)).await.unwrap();
        store.update(id(1), Expect::Any, Change::at(at(2))).await.unwrap();
        assert_eq!(store.claim(claim(1)).await.unwrap().len(), 1);
        store.delete(id(1), Expect::Any).await.unwrap();
        let alive: String = raw.get(&canary).unwrap();
        assert_eq!(alive, "alive");
    }
    for refused in ["a{b}", "}", "a\r\nFLUSHALL\r\n", "a\0b", ""] {
        namespace.config.key_prefix = refused.into();
        let error = dynamic_flow::store::RedisStore::new(namespace.config.clone()).unwrap_err();
        assert_eq!(error.kind(), dynamic_flow::ErrorKind::InvalidConfig, "{refused:?}");
    }
}

#[tokio::test]
async fn redis_removes_ended_runs_some_time_after_their_retention_and_no_others() {
    let Some(mut namespace) = Namespace::fresh(Kind::Redis) else { return };
    let plain = namespace.open();
    namespace.config.expiry = Some(Duration::from_secs(3600));
    let store = namespace.open();
    let mut raw = namespace.raw();
    let mut expires_at = |n: u64| -> i64 {
        let pattern = format!("{}*run:{}", namespace.config.key_prefix, id(n));
        let keys: Vec<String> = raw.scan_match(pattern).unwrap().collect::<Result<_, _>>().unwrap();
        redis::cmd("PEXPIRETIME").arg(&keys[0]).query(&mut raw).unwrap()
    };
    // Far away, so that Redis, whose clock is the real one, does not remove it while we look.
    let later = at(400_000_000_000);
    let purge = Some(Queue("@purge".into()));
    let ended = Change {
        status: Some(RunStatus::Failed),
        queue: Some(purge.clone()),
        due_at: Some(Some(later)),
        ..Change::at(at(1))
    };
    store.insert(due(1)).await.unwrap();
    assert_eq!(expires_at(1), -1, "a default may still be applied");
    store.claim(claim(1)).await.unwrap();
    assert_eq!(expires_at(1), -1);
    store.update(id(1), Expect::Any, ended.clone()).await.unwrap();
    assert_eq!(expires_at(1), later.as_millis() + 3_600_000);
    // Whoever retries it keeps it, configured as it may be.
    let retried = Change { status: Some(RunStatus::Running), ..Change::at(at(2)) };
    plain.update(id(1), Expect::Any, retried).await.unwrap();
    assert_eq!(expires_at(1), -1);
    store.update(id(1), Expect::Any, ended.clone()).await.unwrap();
    let kept = Change { due_at: Some(None), ..Change::at(at(3)) };
    store.update(id(1), Expect::Any, kept).await.unwrap();
    assert_eq!(expires_at(1), -1, "it is kept for ever");
    plain.insert(due(2)).await.unwrap();
    plain.update(id(2), Expect::Any, ended).await.unwrap();
    assert_eq!(expires_at(2), -1, "expiry is off unless it is asked for");
    let born_ended = Record { status: RunStatus::Completed, queue: purge, ..due(3) };
    store.insert(Record { due_at: Some(later), ..born_ended }).await.unwrap();
    assert_eq!(expires_at(3), later.as_millis() + 3_600_000);
}

#[tokio::test]
async fn what_redis_removed_is_neither_listed_nor_claimed_and_its_entries_go() {
    let Some(mut namespace) = Namespace::fresh(Kind::Redis) else { return };
    namespace.config.expiry = Some(Duration::from_millis(1));
    namespace.config.partitions = 1;
    let store = namespace.open();
    for n in 0..40 {
        store.insert(due(n)).await.unwrap();
    }
    // Long ago by the clock of Redis, which so removes it at once.
    let ended = Change {
        status: Some(RunStatus::Completed),
        due_at: Some(Some(at(-START + 1000))),
        ..Change::at(at(1))
    };
    for n in 5..35 {
        store.update(id(n), Expect::Any, ended.clone()).await.unwrap();
        assert_eq!(store.get(id(n)).await.unwrap(), None);
    }
    let mut raw = namespace.raw();
    let index: Vec<String> = raw
        .scan_match(format!("{}*index", namespace.config.key_prefix))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let entries = |raw: &mut redis::Connection| -> usize { raw.zcard(&index[0]).unwrap() };
    let before = entries(&mut raw);
    let page = store.query(&Filter::default(), None, 7).await.unwrap();
    assert_eq!(page.items.len(), 7, "a page that is not the last is full");
    let rest = store.query(&Filter::default(), page.next, 100).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (3, None));
    // Those that are there have a status, a flow, a queue and metadata.
    assert_eq!(entries(&mut raw), 10 * 4, "nothing is left of {before} entries");
    assert_eq!(store.claim(claim(100)).await.unwrap().len(), 10);
    assert_eq!(entries(&mut raw), 10 * 4);
}

#[tokio::test]
async fn a_claim_removes_all_that_is_left_of_what_redis_removed() {
    let Some(mut namespace) = Namespace::fresh(Kind::Redis) else { return };
    namespace.config.partitions = 1;
    let plain = namespace.open();
    namespace.config.expiry = Some(Duration::from_millis(1));
    let store = namespace.open();
    let mut raw = namespace.raw();
    let pattern = format!("{}*index", namespace.config.key_prefix);
    let mut entries = || -> usize {
        let index: Vec<String> =
            raw.scan_match(&pattern).unwrap().collect::<Result<_, _>>().unwrap();
        index.iter().map(|index| raw.zcard::<_, usize>(index).unwrap()).sum()
    };
    let ended = |due: i64| Change {
        status: Some(RunStatus::Completed),
        queue: Some(Some(Queue("@purge".into()))),
        due_at: Some(Some(at(due))),
        ..Change::at(at(1))
    };
    // Neither a change, nor one by who lets nothing expire, nor a delete leaves anything behind.
    for n in 0..3 {
        store.insert(due(n)).await.unwrap();
        store.update(id(n), Expect::Any, ended(400_000_000_000)).await.unwrap();
        assert_eq!(entries(), 5, "with the one for when it is gone");
        store.update(id(n), Expect::Any, ended(400_000_000_000)).await.unwrap();
        assert_eq!(entries(), 5);
        let change = if n == 0 { ended(400_000_000_000) } else { ended(400_000_000_001) };
        plain.update(id(n), Expect::Any, change).await.unwrap();
        assert_eq!(entries(), 4, "it is kept");
        store.update(id(n), Expect::Any, ended(400_000_000_001)).await.unwrap();
        assert_eq!(entries(), 5);
        plain.delete(id(n), Expect::Any).await.unwrap();
        assert_eq!(entries(), 0);
    }
    // The name of a queue has no bound.
    let long = Change { queue: Some(Some(Queue("q".repeat(300)))), ..ended(400_000_000_000) };
    store.insert(due(9)).await.unwrap();
    store.update(id(9), Expect::Any, long).await.unwrap();
    assert_eq!(entries(), 5);
    store.delete(id(9), Expect::Any).await.unwrap();
    assert_eq!(entries(), 0);
    for n in 0..3 {
        store.insert(due(n)).await.unwrap();
        // Long ago by the clock of Redis, which so removes it at once.
        store.update(id(n), Expect::Any, ended(-START + 1000)).await.unwrap();
        assert_eq!(store.get(id(n)).await.unwrap(), None);
    }
    assert_eq!(entries(), 3 * 5);
    let purge = Claim { queues: vec![Queue("@purge".into())], ..claim(10) };
    assert_eq!(store.claim(purge).await.unwrap(), []);
    assert_eq!(entries(), 0);
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_given_to_it_again() {
    let Some(server) = server(&Options::default()) else { return };
    let store = open(&config(&server));
    store.insert(due(1)).await.unwrap();
    for n in 2..5 {
        server.cli(&["SCRIPT", "FLUSH"]).unwrap();
        store.insert(due(n)).await.unwrap();
        server.cli(&["SCRIPT", "FLUSH"]).unwrap();
        assert_eq!(store.claim(claim(1)).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn hints_end_with_the_store_and_come_again_after_a_cut() {
    let Some(server) = server(&Options::default()) else { return };
    let store = open(&config(&server));
    let writer = open(&config(&server));
    let subscribers = || server.cli(&["PUBSUB", "NUMSUB", "flow:suspended:hints:0"]).unwrap();
    let until = |count: &'static str| async move {
        for _ in 0..400 {
            if subscribers().ends_with(count) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{count} subscribers were expected: {}", subscribers());
    };
    let mut hints = store.hints(Hint::Due).unwrap();
    until("1").await;
    hints.next().await;
    let record = Record { updated_at: at(1000), ..due(1) };
    writer.insert(record).await.unwrap();
    hints.next().await;
    server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
    // Whoever listens again is told to look, whatever was said meanwhile.
    hints.next().await;
    until("1").await;
    let record = Record { updated_at: at(1000), ..due(2) };
    writer.insert(record).await.unwrap();
    hints.next().await;
    drop(store);
    until("0").await;
}
