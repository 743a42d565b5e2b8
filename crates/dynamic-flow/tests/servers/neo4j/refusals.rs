//! What the store says of servers that it can't use, and of graphs that are not its own.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use dynamic_flow::{
    Error, ErrorKind, RunId,
    store::{Filter, Neo4jConfig, Neo4jStore, Store as _},
    testkit::conformance::{
        Subject, a_hub_does_its_work_beside_damaged_records, damaged_records_hide_no_others,
    },
};
use neo4rs::Query;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    ground::{Ground, driver, rows},
    records::waiting,
};

/// Provisions, and gives the error, which must come soon, name the server and tell no secret.
async fn refused(config: Neo4jConfig) -> Error {
    let (uri, password) = (config.uri.clone(), config.password.expose().to_owned());
    let store = Neo4jStore::new(config).unwrap();
    let began = Instant::now();
    let error = store.provision().await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(12), "{error} took {:?}", began.elapsed());
    assert_eq!(error.kind(), ErrorKind::StorageError, "{error}");
    assert!(error.context_value("server").unwrap().starts_with(&uri), "{error}");
    assert!(error.to_string().contains("(provision; server "), "{error}");
    let everything = format!("{error} {error:?}");
    assert!(password.is_empty() || !everything.contains(&password), "{everything}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_named() {
    let mut config = Neo4jConfig::default();
    config.password = "hunter2".into();

    config.uri = "neo4j://no-such-host.invalid:7687".into();
    let error = refused(config.clone()).await;
    assert!(error.message().contains("host name is not known"), "{error}");

    let port = dynamic_flow_services::free_port().unwrap();
    config.uri = format!("bolt://127.0.0.1:{port}");
    let error = refused(config.clone()).await;
    assert!(error.message().contains("nobody listens"), "{error}");
    assert!(error.is_retryable(), "it may be starting");

    // One that takes connections and says nothing, as a frozen one does.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    config.connect_timeout = Duration::from_secs(1);
    for scheme in ["bolt", "neo4j+s"] {
        config.uri = format!("{scheme}://127.0.0.1:{}", silent.local_addr().unwrap().port());
        let error = refused(config.clone()).await;
        assert!(error.message().contains("did not answer within 1s"), "{error}");
        assert!(error.is_retryable());
        assert!(!error.message().contains("taken effect"), "nothing was asked: {error}");
    }
}

/// A listener that answers each connection with these bytes.
async fn answering(with: &'static [u8]) -> u16 {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut greeting = [0; 20];
            if stream.read_exact(&mut greeting).await.is_ok() {
                let _ = stream.write_all(with).await;
            }
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_speak_bolt_is_told_of() {
    let mut config = Neo4jConfig::default();
    for (answer, word) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "does not speak Bolt"),
        // No version that both speak.
        (&[0, 0, 0, 0], "5.23 or later"),
        (&[], "cut before any greeting"),
    ] {
        config.uri = format!("bolt://127.0.0.1:{}", answering(answer).await);
        let error = refused(config.clone()).await;
        assert!(error.message().contains(word), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_where_there_is_none_is_told_of() {
    let Some(ground) = Ground::new() else { return };
    let mut config = ground.config();
    let (_, address) = config.uri.split_once("://").unwrap();
    config.uri = format!("bolt+s://{address}");
    let error = refused(config).await;
    assert!(error.message().contains("TLS") && error.message().contains("+s"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_of() {
    let Some(ground) = Ground::new() else { return };
    let mut config = ground.config();
    // A name of its own, so that nobody else is locked out for too many tries.
    config.username = ground.config().namespace;
    config.password = "not-the-password".into();
    let error = refused(config).await;
    assert!(error.message().contains("user or password is wrong"), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_missing_and_cant_be_made_is_told_of() {
    let Some(ground) = Ground::new() else { return };
    let mut config = ground.config();
    config.database = "flows-of-others".into();
    let error = refused(config).await;
    assert!(error.message().contains("flows-of-others"), "{error}");
    assert!(error.message().contains("Enterprise"), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_somebody_else_are_left_alone() {
    let Some(ground) = Ground::new() else { return };
    for label in ["SuspendedFlow", "Flow", "Tool", "Metadata"] {
        ground.ask(&format!("CREATE (:{label} {{name: 'theirs'}}) RETURN 1")).await;
        let error = refused(ground.config()).await;
        let named = format!("{}{label}", ground.config().namespace);
        assert!(error.message().contains("foreign") && error.message().contains(&named), "{error}");
        ground.ask(&format!("MATCH (x:{label} {{name: 'theirs'}}) DELETE x RETURN 1")).await;
    }
    ground.store().provision().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_another_shape_is_told_of() {
    let Some(ground) = Ground::new() else { return };
    let namespace = ground.config().namespace;
    let graph = driver(&ground.config());
    for (name, shape) in [
        // What is indexed already can't be made unique.
        ("theirs", format!("(x:`{namespace}SuspendedFlow`) ON (x.id)")),
        // The name is taken.
        ("suspended_flow_due", "(x:Elsewhere) ON (x.name)".to_owned()),
    ] {
        rows(&graph, Query::new(format!("CREATE INDEX `{namespace}{name}` FOR {shape}"))).await;
        let error = refused(ground.config()).await;
        assert!(error.message().contains("index"), "{error}");
        rows(&graph, Query::new(format!("DROP INDEX `{namespace}{name}`"))).await;
    }
    ground.store().provision().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_refused() {
    let Some(ground) = Ground::new() else { return };
    ground.store().provision().await.unwrap();
    ground.ask("MATCH (s:SuspendedFlowSchema) SET s.version = 2 RETURN 1").await;
    let error = refused(ground.config()).await;
    assert!(error.message().contains("schema 2"), "{error}");
    ground.ask("MATCH (s:SuspendedFlowSchema) SET s.version = 1 RETURN 1").await;
    ground.store().provision().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_others_have_damaged_is_told_of() {
    let Some(ground) = Ground::new() else { return };
    let store = ground.store();
    store.provision().await.unwrap();
    let record = waiting(1, "purchase", "manager", "jane");
    store.insert(record.clone()).await.unwrap();
    for (damage, repair) in [
        ("f.kept = f.row, f.row = ['x']", "f.row = f.kept"),
        ("f.kept = f.snapshot, f.snapshot = 'x'", "f.snapshot = f.kept"),
    ] {
        ground.ask(&format!("MATCH (f:SuspendedFlow) SET {damage} RETURN 1")).await;
        let error = store.get(record.id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptState, "{error}");
        assert_eq!(error.run_id(), Some(record.id));
        ground.ask(&format!("MATCH (f:SuspendedFlow) SET {repair} RETURN 1")).await;
        assert_eq!(store.get(record.id).await.unwrap(), Some(record.clone()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_others_have_damaged_hide_no_others() {
    for damage in ["f.row = ['x']", "f.row = 7", "f.flowId = 7"] {
        let Some(ground) = Ground::new() else { return };
        let ground = Arc::new(ground);
        damaged_records_hide_no_others(subject(&ground), harm(&ground, damage)).await;
    }
    let Some(ground) = Ground::new() else { return };
    let ground = Arc::new(ground);
    let harm = harm(&ground, "f.row = ['x']");
    a_hub_does_its_work_beside_damaged_records(subject(&ground), harm).await;
}

fn subject(ground: &Arc<Ground>) -> Subject {
    let store = ground.store();
    let ground = ground.clone();
    Subject::new(store, move || ground.store())
}

fn harm(ground: &Arc<Ground>, damage: &'static str) -> impl AsyncFn(RunId) + use<> {
    let ground = ground.clone();
    async move |id: RunId| {
        let text = format!("MATCH (f:SuspendedFlow {{id: '{id}'}}) SET {damage} RETURN 1");
        assert_eq!(ground.ask(&text).await.len(), 1);
    }
}

/// They stand where a page is cut, and there may be more of them than a page has runs.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_without_an_id_of_a_run_are_no_runs() {
    let Some(ground) = Ground::new() else { return };
    let store = ground.store();
    store.provision().await.unwrap();
    let ids: Vec<_> = (1..=6).map(|n| waiting(n, "purchase", "manager", "jane").id).collect();
    for n in 1..=6 {
        store.insert(waiting(n, "purchase", "manager", "jane")).await.unwrap();
    }
    for id in &ids[2..5] {
        let odd = format!("MATCH (f:SuspendedFlow {{id: '{id}'}}) SET f.id = '{id}x' RETURN 1");
        assert_eq!(ground.ask(&odd).await.len(), 1);
    }
    for limit in [1, 2, 9] {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = store.query(&Filter::default(), after, limit).await.unwrap();
            listed.extend(page.readable().map(|it| it.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(listed, [ids[5], ids[1], ids[0]], "{limit} at a time");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn state_that_is_too_large_is_refused_before_it_is_sent() {
    let Some(ground) = Ground::new() else { return };
    let store = ground.store();
    store.provision().await.unwrap();
    let mut record = waiting(1, "purchase", "manager", "jane");
    record.snapshot.0 = vec![7; (32 << 20) + 1];
    let error = store.insert(record.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StateTooLarge, "{error}");
    assert!(
        error.message().contains("33554433") && error.message().contains("33554432"),
        "{error}"
    );
    assert_eq!(store.get(record.id).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_never_taken_for_statements() {
    let Some(ground) = Ground::new() else { return };
    let theirs = ground.store();
    theirs.provision().await.unwrap();
    theirs.insert(waiting(1, "purchase", "manager", "jane")).await.unwrap();
    let unique = ground.config().namespace;
    for attempt in [
        "x) DETACH DELETE (y",
        "x) MATCH (n) DETACH DELETE n //",
        "'; DROP DATABASE neo4j; //",
        "\"}) RETURN 1 UNION MATCH (n)",
        "$p.id",
        "{x: 1}",
        "/* ",
    ] {
        let mut config = ground.config();
        config.namespace = format!("{unique}{attempt}");
        let store = Neo4jStore::new(config).unwrap();
        store.provision().await.unwrap();
        store.insert(waiting(2, "purchase", "manager", "joe")).await.unwrap();
        let page = store.query(&Filter::default(), None, 10).await.unwrap();
        assert_eq!(page.items.len(), 1, "{attempt}");
        store
            .delete(page.readable().next().unwrap().id, dynamic_flow::store::Expect::Any)
            .await
            .unwrap();
    }
    for attempt in ["x` {id: 1}) DETACH DELETE (y", "\\u0060) DETACH DELETE (y //", "a\nb"] {
        let mut config = ground.config();
        config.namespace = attempt.into();
        let error = Neo4jStore::new(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{attempt}");
    }
    for attempt in ["neo4j; DROP", "neo4j' OR '1", "system--", "a b"] {
        let mut config = ground.config();
        config.database = attempt.into();
        refused(config).await;
    }
    assert!(theirs.get(super::records::id(1)).await.unwrap().is_some(), "nobody deleted it");
}
