//! What a store is refused, and what it says then.

use dynamic_flow::store::{PostgresStore, Store as _};
use dynamic_flow_services::{free_port, postgres::Options};

use super::support::{
    Schema, as_user, assert_tells, assert_whole, change, database, execute, failure, impatient,
    open, private, record, with,
};
use crate::support::{fresh, url};

#[tokio::test]
async fn a_host_that_does_not_exist() {
    let store = open(&impatient("postgres://u:hunter2@no-such-host.invalid/flows"));
    let error = failure(store.provision()).await;
    let text = error.to_string();
    assert!(text.contains("host can't be reached"), "{text}");
    assert!(text.contains("postgres://no-such-host.invalid/flows"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_port_on_which_nobody_listens() {
    let port = free_port().unwrap();
    let store = open(&impatient(&format!("postgres://u:hunter2@127.0.0.1:{port}/flows")));
    let error = failure(store.provision()).await;
    assert_tells(&error, "provision", true, &["refused", "check host and port"]);
    let error = failure(store.insert(record(1))).await;
    assert_tells(&error, "insert", true, &["refused", &record(1).id.to_string()]);
    assert_tells(&failure(store.health()).await, "health", true, &["refused"]);
}

#[tokio::test]
async fn a_wrong_password() {
    let Some(server) = url("DFLOW_TEST_POSTGRES_URL") else { return };
    let store = open(&as_user(&server, "postgres", "hunter22"));
    let error = failure(store.provision()).await;
    assert_tells(&error, "provision", false, &["\"postgres\"", "password"]);
    let store = open(&as_user(&server, "postgres", ""));
    let error = failure(store.provision()).await;
    assert_tells(&error, "provision", false, &["asks for a password"]);
}

#[tokio::test]
async fn a_database_that_may_not_be_made() {
    let Some(server) = url("DFLOW_TEST_POSTGRES_URL") else { return };
    let (user, missing) = (fresh(), fresh());
    execute(&server, &format!("CREATE ROLE {user} LOGIN PASSWORD 'p'"));
    let store = open(&database(&as_user(&server, &user, "p"), &missing));
    let error = failure(store.insert(record(1))).await;
    assert_tells(&error, "insert", false, &["no database", &missing, "the next start of a hub"]);
    let error = failure(store.provision()).await;
    let create = format!("CREATE DATABASE \"{missing}\" OWNER \"{user}\"");
    assert_tells(&error, "provision", false, &["an administrator must run", &create]);
    // What it says is what helps.
    let (_, statement) = error.message().split_once("must run: ").unwrap();
    // A locale of the server need not go with the encoding.
    assert!(statement.contains("LC_COLLATE 'C' LC_CTYPE 'C'"), "{statement}");
    execute(&server, statement);
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    drop(store);
    execute(&server, &format!("DROP DATABASE \"{missing}\" WITH (FORCE)"));
    execute(&server, &format!("DROP ROLE {user}"));
}

#[tokio::test]
async fn a_schema_and_tables_that_may_not_be_made() {
    let Some(schema) = Schema::fresh() else { return };
    let user = fresh();
    execute(schema.server(), &format!("CREATE ROLE {user} LOGIN PASSWORD 'p'"));
    let name = schema.name();
    let url = with(&as_user(schema.server(), &user, "p"), &format!("schema_name={name}"));
    let store = open(&url);
    let create = format!("CREATE SCHEMA \"{name}\" AUTHORIZATION \"{user}\"");
    let error = failure(store.provision()).await;
    assert_tells(&error, "provision", false, &["an administrator must run", &create]);
    execute(
        schema.server(),
        &format!("CREATE SCHEMA {name}; GRANT USAGE ON SCHEMA {name} TO {user}"),
    );
    let error = failure(store.provision()).await;
    let grant = format!("GRANT USAGE, CREATE ON SCHEMA \"{name}\" TO \"{user}\"");
    assert_tells(&error, "provision", false, &["an administrator must run", &grant]);
    execute(schema.server(), &grant);
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    drop(store);
    execute(schema.server(), &format!("DROP OWNED BY {user} CASCADE; DROP ROLE {user}"));
}

#[tokio::test]
async fn a_table_of_that_name_with_other_columns() {
    let Some(schema) = Schema::fresh() else { return };
    let name = schema.name();
    let table = format!("{name}.suspended_flows");
    let foreign =
        format!("CREATE TABLE {table} (id int, note text); INSERT INTO {table} VALUES (1)");
    execute(schema.server(), &format!("CREATE SCHEMA {name}; {foreign}"));
    let store = open(&schema.url());
    let error = failure(store.provision()).await;
    assert_tells(&error, "provision", false, &[&table, "no column id of the type uuid"]);
    assert_tells(&error, "provision", false, &["table_name"]);
    let error = failure(store.insert(record(1))).await;
    assert_tells(&error, "insert", false, &["other columns", &table]);
    let rows = super::support::connect(schema.server())
        .await
        .query_one(&format!("SELECT count(*) FROM {table} WHERE note IS NULL"), &[])
        .await
        .unwrap();
    assert_eq!(rows.get::<_, i64>(0), 1, "it is as it was");
    let beside = "SELECT count(*) FROM pg_tables WHERE schemaname = $1";
    let client = super::support::connect(schema.server()).await;
    let tables: i64 = client.query_one(beside, &[&name]).await.unwrap().get(0);
    assert_eq!(tables, 1, "nothing was made beside it");
}

/// Ours once, and changed since.
#[tokio::test]
async fn a_table_that_lost_a_column() {
    let Some(schema) = Schema::fresh() else { return };
    open(&schema.url()).provision().await.unwrap();
    let table = format!("{}.suspended_flows", schema.name());
    execute(schema.server(), &format!("ALTER TABLE {table} ALTER COLUMN attempts TYPE text"));
    let error = failure(open(&schema.url()).provision()).await;
    assert_tells(&error, "provision", false, &["no column attempts of the type bigint"]);
    // Columns of the operator's own do no harm.
    execute(
        schema.server(),
        &format!(
            "ALTER TABLE {table} ALTER COLUMN attempts TYPE bigint USING attempts::bigint; \
             ALTER TABLE {table} ADD COLUMN note text"
        ),
    );
    let store = open(&schema.url());
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    assert_whole(&store, &record(1)).await;
}

#[tokio::test]
async fn tables_of_a_newer_program() {
    let Some(schema) = Schema::fresh() else { return };
    open(&schema.url()).provision().await.unwrap();
    let versions = format!("{}.suspended_flows_schema", schema.name());
    execute(schema.server(), &format!("INSERT INTO {versions} (version) VALUES (99)"));
    let error = failure(open(&schema.url()).provision()).await;
    assert_tells(
        &error,
        "provision",
        false,
        &["schema 99", "newer than this program", "update it"],
    );
}

#[tokio::test]
async fn a_database_that_can_not_hold_every_text() {
    let Some(server) = url("DFLOW_TEST_POSTGRES_URL") else { return };
    let name = fresh();
    execute(
        &server,
        &format!(
            "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
        ),
    );
    let store = open(&database(&server, &name));
    let error = failure(store.provision()).await;
    assert_tells(&error, "provision", false, &["LATIN1", "ENCODING 'UTF8'"]);
    drop(store);
    execute(&server, &format!("DROP DATABASE {name} WITH (FORCE)"));
}

#[tokio::test]
async fn a_standby_is_read_and_not_written() {
    let Some(primary) = private(&Options::default()) else { return };
    let store = open(&primary.url());
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    let standby = primary.standby().unwrap();
    let replica = open(&standby.url());
    replica.provision().await.unwrap();
    assert_whole(&replica, &record(1)).await;
    let error = failure(replica.insert(record(2))).await;
    assert_tells(&error, "insert", false, &["read-only", "target_session_attrs=read-write"]);
    let update = replica.update(record(1).id, dynamic_flow::store::Expect::Any, change("x"));
    assert_tells(&failure(update).await, "update", false, &["read-only"]);
    let elsewhere = open(&with(&standby.url(), "schema_name=elsewhere"));
    assert_tells(&failure(elsewhere.provision()).await, "provision", false, &["read-only"]);
    let demanding = open(&with(&standby.url(), "target_session_attrs=read-write"));
    assert_tells(&failure(demanding.get(record(1).id)).await, "get", false, &["read-only"]);
    let warned = |store: PostgresStore| async move { store.health().await.unwrap().warnings };
    assert!(warned(replica).await.iter().any(|warning| warning.contains("read-only")));
    assert!(warned(store).await.iter().any(|warning| warning.contains("failover")));
}

/// As an administrator may set it for a while.
#[tokio::test]
async fn a_database_that_is_read_only() {
    let Some(schema) = Schema::fresh() else { return };
    open(&schema.url()).provision().await.unwrap();
    let read_only = "options=-c%20default_transaction_read_only%3Don";
    let store = open(&with(&schema.url(), read_only));
    assert_tells(&failure(store.insert(record(1))).await, "insert", false, &["read-only"]);
}
