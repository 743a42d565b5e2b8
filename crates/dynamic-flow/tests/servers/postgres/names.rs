//! Names that are configured, some by who means harm, and what is made under them.

use dynamic_flow::{
    ErrorKind,
    store::{PostgresConfig, PostgresStore, Store as _, open},
};

use super::support::{
    Schema, as_user, assert_whole, at, connect, database, execute, failure, record, soon, with,
};
use crate::support::{fresh, url};

/// Names that would do something else if they were pasted.
const ODD: [&str; 8] = [
    "x\"; DROP TABLE kept; --",
    "x'; DROP TABLE kept; --",
    "\"",
    "''",
    "a\\b",
    "Gemischt und mit Lücken",
    "{flows}{name:x}",
    "select",
];

#[tokio::test]
async fn odd_names_of_tables_and_schemas_are_names() {
    let Some(kept) = Schema::fresh() else { return };
    let server = kept.server();
    execute(server, &format!("CREATE SCHEMA \"{0}\"; CREATE TABLE \"{0}\".kept ()", kept.name()));
    for odd in ODD {
        let table = odd.to_owned();
        let schema = format!("{}{odd}", fresh());
        let mut config = PostgresConfig::from_url(with(server, "pool_size=2"));
        config.table_name.clone_from(&table);
        config.schema_name.clone_from(&schema);
        config.url =
            with(config.url.expose(), &format!("options=-c%20search_path%3D{}", kept.name()))
                .into();
        let store = PostgresStore::new(config.clone()).unwrap();
        store.provision().await.unwrap();
        store.insert(record(1)).await.unwrap();
        assert_whole(&store, &record(1)).await;
        assert!(store.health().await.unwrap().warnings.is_empty(), "{odd}");
        PostgresStore::new(config).unwrap().provision().await.unwrap();
        let client = connect(server).await;
        let there =
            "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = $2)";
        let made: bool = client.query_one(there, &[&schema, &table]).await.unwrap().get(0);
        assert!(made, "a table of exactly that name: {odd}");
        let still: bool = client.query_one(there, &[&kept.name(), &"kept"]).await.unwrap().get(0);
        assert!(still, "nothing else was done: {odd}");
        execute(server, &format!("DROP SCHEMA \"{}\" CASCADE", schema.replace('"', "\"\"")));
    }
}

#[tokio::test]
async fn odd_names_of_databases_are_names() {
    let Some(server) = url("DFLOW_TEST_POSTGRES_URL") else { return };
    for odd in ["\"; DROP DATABASE template1; --", "Groß und klein", "a'b"] {
        let name = format!("{}{odd}", fresh());
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let store = PostgresStore::from_url(database(&server, &encoded)).unwrap();
        store.provision().await.unwrap();
        store.insert(record(1)).await.unwrap();
        assert_whole(&store, &record(1)).await;
        drop(store);
        let quoted = name.replace('"', "\"\"");
        execute(&server, &format!("DROP DATABASE \"{quoted}\" WITH (FORCE)"));
    }
}

#[test]
fn a_name_that_can_not_be_is_refused_at_once() {
    let base = "postgres://u:hunter2@h/d";
    let long = "x".repeat(64);
    for url in [
        with(base, "table_name="),
        with(base, &format!("table_name={}", "x".repeat(41))),
        with(base, "table_name=a%00b"),
        with(base, &format!("schema_name={long}")),
        with(base, "schema_name=a%0Ab"),
        format!("postgres://u:hunter2@h/{long}"),
        with(base, "pool_size=0"),
        with(base, "pool_size=hunter2"),
        with(base, "sslmode=allow"),
        with(base, "sslcert=/x"),
        with(base, "operation_timeout=never"),
        with(base, "connect_timeout=-5"),
        with(base, "tabel_name=x"),
        "postgres://u:hunter2@h:port/d".into(),
        "postgresql:hunter2".into(),
        "postgres://u:hunter2@/d".into(),
        "postgres://u:p?hunter2@h/d".into(),
        "postgres://u:p?hunter2=hunter2&pool_size=3@h/d".into(),
        "postgres://u:p#hunter2@h:port/d".into(),
        "postgres://u:p@hunter2@h/d".into(),
        "postgres://u:p@ss/hunter2@h/d".into(),
        "postgres://u:12/hunter2@h/d".into(),
    ] {
        let error = open(&url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}: {error}");
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
    assert!(open(&with(base, "tabel_name=x")).unwrap_err().message().contains("tabel_name"));
}

#[test]
fn settings_are_read_from_a_file_and_show_no_secret() {
    let config: PostgresConfig = serde_json::from_value(serde_json::json!({
        "url": "postgres://u:hunter2@h/d?table_name=other",
        "password": "hunter3",
        "schema_name": "s",
        "ssl_mode": "verify-full",
        "operation_timeout": "3s",
    }))
    .unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter"), "{shown}");
    let store = PostgresStore::new(config).unwrap();
    assert_eq!(format!("{store:?}"), "PostgresStore(\"postgres://h/d\")");
    assert!(serde_json::from_str::<PostgresConfig>("{\"tabel_name\": \"x\"}").is_err());
}

#[tokio::test]
async fn two_tables_in_one_schema_have_runs_of_their_own() {
    let Some(schema) = Schema::fresh() else { return };
    let stores = ["one", "two"].map(|name| {
        PostgresStore::from_url(with(&schema.url(), &format!("table_name={name}"))).unwrap()
    });
    for store in &stores {
        store.provision().await.unwrap();
        store.insert(record(1)).await.unwrap();
    }
    stores[0].delete(record(1).id, dynamic_flow::store::Expect::Any).await.unwrap();
    assert_eq!(stores[0].get(record(1).id).await.unwrap(), None);
    assert_whole(&stores[1], &record(1)).await;
}

/// Whoever comes first makes the database, and everybody finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_make_one_database_at_once() {
    let Some(server) = url("DFLOW_TEST_POSTGRES_URL") else { return };
    let name = fresh();
    let url = with(&database(&server, &name), "pool_size=1");
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let store = PostgresStore::from_url(url.clone()).unwrap();
        tasks.spawn(async move {
            store.provision().await.unwrap();
            store.insert(record(n)).await.unwrap();
        });
    }
    soon(tasks.join_all()).await;
    let store = PostgresStore::from_url(url).unwrap();
    let page = store.query(&Default::default(), None, 100).await.unwrap();
    assert_eq!(page.items.len(), 20);
    drop(store);
    execute(&server, &format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
}

/// Tables that are there are used by whoever may read and write them.
#[tokio::test]
async fn who_may_not_make_tables_uses_those_that_are_there() {
    let Some(schema) = Schema::fresh() else { return };
    let admin = PostgresStore::from_url(schema.url()).unwrap();
    admin.provision().await.unwrap();
    let user = fresh();
    let name = schema.name();
    execute(
        schema.server(),
        &format!("CREATE ROLE {user} LOGIN PASSWORD 'p'; GRANT USAGE ON SCHEMA {name} TO {user}"),
    );
    let url = with(&as_user(schema.server(), &user, "p"), &format!("schema_name={name}"));
    let store = PostgresStore::from_url(url).unwrap();
    let refused = failure(store.insert(record(1))).await;
    assert!(refused.message().contains(&format!("TO \"{user}\"")), "{refused}");
    // What it says is what helps.
    let (_, statement) = refused.message().split_once("must run: ").unwrap();
    execute(schema.server(), statement);
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    let changed = store.update(
        record(1).id,
        dynamic_flow::store::Expect::Any,
        dynamic_flow::store::Change::at(at(1)),
    );
    changed.await.unwrap();
    store.delete(record(1).id, dynamic_flow::store::Expect::Any).await.unwrap();
    drop(store);
    execute(schema.server(), &format!("DROP OWNED BY {user}; DROP ROLE {user}"));
}
