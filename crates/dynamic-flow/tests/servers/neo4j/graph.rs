//! What the graph around the runs is, and what can be asked of it.

use dynamic_flow::{
    Metadata, RunStatus,
    store::{Change, Expect, Filter, Record, Store as _},
};
use neo4rs::Query;

use super::{
    ground::Ground,
    records::{at, id, snapshot, wait, waiting},
};

const SAME_APPROVER: &str = include_str!("../../../src/store/neo4j/queries/same_approver.cypher");
const WAITING_LONGEST: &str =
    include_str!("../../../src/store/neo4j/queries/waiting_longest.cypher");
const SHARED_APPROVERS: &str =
    include_str!("../../../src/store/neo4j/queries/shared_approvers.cypher");

/// What leads from a run to its neighbors, each as a line.
const NEIGHBORS: &str = "MATCH (:SuspendedFlow {id: $id})-[r]->(x) \
     RETURN type(r) + ' ' + coalesce(x.id, x.name + '=' + toString(x.value)) AS line ORDER BY line";

async fn neighbors(ground: &Ground, n: u64) -> Vec<String> {
    let query = Query::new(ground.named(NEIGHBORS)).param("id", id(n).to_string());
    let rows = ground.ask_with(query).await;
    let namespace = ground.config().namespace;
    rows.iter().map(|row| row.get::<String>("line").unwrap().replace(&namespace, "")).collect()
}

/// The ids or values of all nodes of that label.
async fn all(ground: &Ground, label: &str) -> Vec<String> {
    let cypher =
        format!("MATCH (x:{label}) RETURN coalesce(x.id, toString(x.value)) AS name ORDER BY name");
    let rows = ground.ask(&cypher).await;
    rows.iter().map(|row| row.get("name").unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_questions_are_answered() {
    let Some(ground) = Ground::new() else { return };
    let store = ground.store();
    store.provision().await.unwrap();
    let ended = Record {
        status: RunStatus::Completed,
        waits: vec![],
        ..waiting(6, "purchase", "manager", "jane")
    };
    for record in [
        waiting(1, "purchase", "manager", "jane"),
        waiting(2, "purchase", "manager", "joe"),
        waiting(3, "review", "reviewer", "jane"),
        waiting(4, "review", "manager", "jane"),
        waiting(5, "review", "manager", "Jane"),
        ended,
    ] {
        store.insert(record).await.unwrap();
    }

    let query = Query::new(ground.named(SAME_APPROVER)).param("run", id(1).to_string());
    let rows = ground.ask_with(query).await;
    let found: Vec<String> = rows.iter().map(|row| row.get("run").unwrap()).collect();
    assert_eq!(found, [id(3).to_string(), id(4).to_string()], "not itself, not those that ended");

    let query = Query::new(ground.named(WAITING_LONGEST)).param("tool", "manager");
    let rows = ground.ask_with(query).await;
    let found: Vec<(String, i64, i64)> = rows
        .iter()
        .map(|it| (it.get("run").unwrap(), it.get("since").unwrap(), it.get("until").unwrap()))
        .collect();
    let expected = [1, 2, 4, 5].map(|n| {
        let (since, until) = (at(n as i64).as_millis(), at(1_000_000 + n as i64).as_millis());
        (id(n).to_string(), since, until)
    });
    assert_eq!(found, expected);

    let rows = ground.ask(SHARED_APPROVERS).await;
    let found: Vec<(String, Vec<String>, i64)> = rows
        .iter()
        .map(|it| {
            let mut flows: Vec<String> = it.get("flows").unwrap();
            flows.sort();
            (it.get("approver").unwrap(), flows, it.get("runs").unwrap())
        })
        .collect();
    let both = vec!["purchase".to_owned(), "review".to_owned()];
    assert_eq!(found, [("jane".to_owned(), both, 3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_neighbors_follow_the_record() {
    let Some(ground) = Ground::new() else { return };
    let store = ground.store();
    store.provision().await.unwrap();
    store.insert(waiting(1, "purchase", "manager", "jane")).await.unwrap();
    store.insert(waiting(2, "purchase", "manager", "jane")).await.unwrap();
    let first = ["HAS approver=jane", "OF purchase", "WAITS_FOR manager"];
    assert_eq!(neighbors(&ground, 1).await, first);

    let change = Change {
        waits: Some(vec![wait("ask", "manager", 1), wait("audit", "auditor", 2)]),
        metadata: Some(Metadata::from([
            ("approver".into(), "joe".into()),
            ("amount".into(), 1.into()),
            ("rate".into(), 1.0.into()),
            ("urgent".into(), true.into()),
        ])),
        ..Change::at(at(9))
    };
    store.update(id(1), Expect::Any, change.clone()).await.unwrap();
    let changed = [
        "HAS amount=1",
        "HAS approver=joe",
        "HAS rate=1.0",
        "HAS urgent=true",
        "OF purchase",
        "WAITS_FOR auditor",
        "WAITS_FOR manager",
    ];
    assert_eq!(neighbors(&ground, 1).await, changed);
    assert_eq!(neighbors(&ground, 2).await, first, "the other run keeps what is its");
    assert_eq!(all(&ground, "Metadata").await, ["1", "1.0", "jane", "joe", "true"]);
    store.update(id(1), Expect::Any, change).await.unwrap();
    assert_eq!(neighbors(&ground, 1).await, changed, "the same again makes no second one");

    let over = Change { waits: Some(vec![]), ..Change::at(at(10)) };
    store.update(id(1), Expect::Any, over).await.unwrap();
    assert_eq!(neighbors(&ground, 1).await, changed[..5]);
    store.delete(id(1), Expect::Any).await.unwrap();
    assert_eq!(all(&ground, "Metadata").await, ["jane"], "values go with their last run");
    store.delete(id(2), Expect::Any).await.unwrap();
    assert_eq!(all(&ground, "Metadata").await, [""; 0]);
    assert_eq!(all(&ground, "SuspendedFlow").await, [""; 0]);
    assert_eq!(all(&ground, "Flow").await, ["purchase"], "flows and tools stay");
    assert_eq!(all(&ground, "Tool").await, ["auditor", "manager"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_leaves_nothing_behind() {
    let Some(ground) = Ground::new() else { return };
    let store = ground.store();
    store.provision().await.unwrap();
    store.insert(waiting(1, "purchase", "manager", "jane")).await.unwrap();
    let properties = "MATCH (f:SuspendedFlow) UNWIND keys(f) AS key \
         WITH f, key ORDER BY key RETURN collect(key) AS keys, f.revision AS revision";
    let before: Vec<String> = ground.ask(properties).await[0].get("keys").unwrap();
    assert!(!before.contains(&"_lock".to_owned()));
    let stale = Expect::Revision(dynamic_flow::Revision(7));
    for _ in 0..3 {
        let moved = Change {
            waits: Some(vec![wait("other", "auditor", 1)]),
            metadata: Some(Metadata::new()),
            inbox_push: vec![dynamic_flow::codec::Sealed(vec![1])],
            ..snapshot("never")
        };
        assert!(store.update(id(1), stale, moved).await.unwrap_err().is_conflict());
        assert!(store.delete(id(1), stale).await.unwrap_err().is_conflict());
        let lost = dynamic_flow::Epoch(7);
        assert!(store.renew(id(1), lost, at(1)).await.unwrap_err().is_conflict());
    }
    let row = &ground.ask(properties).await[0];
    assert_eq!(row.get::<i64>("revision").unwrap(), 1);
    assert_eq!(row.get::<Vec<String>>("keys").unwrap(), before);
    let first = ["HAS approver=jane", "OF purchase", "WAITS_FOR manager"];
    assert_eq!(neighbors(&ground, 1).await, first);
    assert_eq!(all(&ground, "Tool").await, ["manager"]);

    // A write that is done leaves no trace of the lock either.
    store.update(id(1), Expect::Any, snapshot("done")).await.unwrap();
    let row = &ground.ask(properties).await[0];
    assert_eq!(row.get::<Vec<String>>("keys").unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_runs_of_one_flow_do_not_stand_in_each_others_way() {
    let Some(ground) = Ground::new() else { return };
    let store = ground.store();
    store.provision().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            // The nodes that they share are made by all of them, gone from and come to, at once.
            store.insert(waiting(n, "purchase", "manager", "jane")).await.unwrap();
            let (to, other) = if n % 2 == 0 { ("auditor", "joe") } else { ("clerk", "jim") };
            for (tool, approver) in [(to, other), ("manager", "jane"), (to, "jane")] {
                let change = Change {
                    waits: Some(vec![wait("ask", tool, 1), wait("again", "manager", 2)]),
                    metadata: Some(Metadata::from([("approver".into(), approver.into())])),
                    ..snapshot(approver)
                };
                store.update(id(n), Expect::Any, change).await.unwrap();
            }
            store.delete(id(n), Expect::Any).await.unwrap();
        });
    }
    tasks.join_all().await;
    let page = store.query(&Filter::default(), None, 10).await.unwrap();
    assert_eq!(page.items, []);
    assert_eq!(all(&ground, "Flow").await, ["purchase"]);
    assert_eq!(all(&ground, "Tool").await, ["auditor", "clerk", "manager"]);
    // Some that went at the same moment may have left a value behind; it is found again.
    store.insert(waiting(99, "purchase", "manager", "jane")).await.unwrap();
    store.delete(id(99), Expect::Any).await.unwrap();
    assert!(!all(&ground, "Metadata").await.contains(&"jane".to_owned()));
}
