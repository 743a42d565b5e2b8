//! Tables, indexes and rows that were lost: dropped, renamed, or not restored with the others.

use std::collections::BTreeMap;

use dynamic_flow::{
    Metadata, Scalar,
    store::{Expect, Filter, PostgresStore, Record, Store as _},
};

use super::support::{
    Schema, as_user, assert_tells, assert_whole, change, connect, execute, failure, open, record,
    with,
};
use crate::support::fresh;

/// A store of that schema that was made, with a run in it; and what its table is called.
async fn ready(schema: &Schema) -> (PostgresStore, String) {
    let store = open(&schema.url());
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    (store, format!("{}.suspended_flows", schema.name()))
}

async fn warnings(store: &PostgresStore) -> String {
    store.health().await.unwrap().warnings.join("\n")
}

/// All rows of a table, as texts.
async fn rows(schema: &Schema, table: &str) -> Vec<String> {
    let all = format!("SELECT t::text FROM {table} AS t ORDER BY 1");
    let found = connect(schema.server()).await.query(&all, &[]).await.unwrap();
    found.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn an_index_that_was_dropped_is_told_of_and_made_again() {
    let Some(schema) = Schema::fresh() else { return };
    let (store, table) = ready(&schema).await;
    let indexes = "_due _by_status _by_flow _waits_of_run _waits_by_tool _waits_expiring \
                   _metadata_of_run _metadata_by_entry";
    for index in indexes.split_whitespace() {
        execute(schema.server(), &format!("DROP INDEX {table}{index}"));
        let told = warnings(&store).await;
        assert!(told.contains(&format!("The index {table}{index} is missing")), "{told}");
        assert!(told.contains("run CREATE INDEX"), "{told}");
        open(&schema.url()).provision().await.unwrap();
        assert_eq!(warnings(&store).await, "");
    }
    execute(schema.server(), &format!("ALTER TABLE {table} DROP CONSTRAINT suspended_flows_pkey"));
    let error = failure(store.insert(record(2))).await;
    assert_tells(&error, "insert", false, &[&table, "lost its primary key"]);
    assert!(warnings(&store).await.contains("ADD CONSTRAINT"));
    open(&schema.url()).provision().await.unwrap();
    assert_eq!(warnings(&store).await, "");
    store.insert(record(2)).await.unwrap();
}

/// An index that is missing keeps nobody out.
#[tokio::test]
async fn who_may_not_make_an_index_works_without_it_and_is_told() {
    let Some(schema) = Schema::fresh() else { return };
    let (_, table) = ready(&schema).await;
    let (user, name) = (fresh(), schema.name());
    execute(
        schema.server(),
        &format!(
            "CREATE ROLE {user} LOGIN PASSWORD 'p'; GRANT USAGE ON SCHEMA {name} TO {user}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO {user}; \
             DROP INDEX {table}_due"
        ),
    );
    let url = with(&as_user(schema.server(), &user, "p"), &format!("schema_name={name}"));
    let store = open(&url);
    store.provision().await.unwrap();
    store.insert(record(2)).await.unwrap();
    let told = warnings(&store).await;
    // What it says is what helps.
    let (_, statement) = told.split_once("the owner of the table run ").unwrap();
    execute(schema.server(), statement.trim_end_matches('.'));
    assert_eq!(warnings(&store).await, "");
    drop(store);
    execute(schema.server(), &format!("DROP OWNED BY {user}; DROP ROLE {user}"));
}

/// Runs with all that metadata may hold.
fn odd() -> Vec<Record> {
    let scalars: BTreeMap<u8, Scalar> = [
        "plain".into(),
        "\"quoted\" \\ and\n\t\u{1}\u{7f}/\u{1f600}".into(),
        "t".repeat(505).into(),
        "t".repeat(600).into(),
        i64::MAX.into(),
        i64::MIN.into(),
        1e16.into(),
        1.5e-9.into(),
        0.1.into(),
        (-0.0).into(),
        true.into(),
    ]
    .into_iter()
    .zip(2..)
    .map(|(scalar, n)| (n, scalar))
    .collect();
    let records = scalars.into_iter().map(|(n, scalar)| {
        let metadata = [("order".into(), scalar), ("a \"b\"\u{e9}".into(), i64::from(n).into())];
        Record { metadata: Metadata::from(metadata), ..record(n) }
    });
    let mut all: Vec<_> = records.collect();
    let twice = all[0].waits[0].clone();
    all[0].waits.push(twice);
    all[1].waits[0].expires_at = None;
    all[2].waits.clear();
    all[3].metadata.clear();
    all
}

#[tokio::test]
async fn tables_beside_the_records_are_made_again_from_them() {
    let Some(schema) = Schema::fresh() else { return };
    let (store, table) = ready(&schema).await;
    for record in odd() {
        store.insert(record).await.unwrap();
    }
    // One that does not read back keeps none of the others from it.
    let damage = format!("UPDATE {table} SET waits = '7', metadata = '[]' WHERE id = $1");
    store.insert(record(99)).await.unwrap();
    let id = record(99).id.to_string();
    execute(schema.server(), &damage.replace("$1", &format!("'{id}'")));
    for lost in ["waits", "metadata"] {
        let (lost, short) = (format!("{table}_{lost}"), lost);
        execute(schema.server(), &format!("DELETE FROM {lost} WHERE run = '{id}'"));
        let before = rows(&schema, &lost).await;
        assert!(before.len() > 8, "{before:?}");
        execute(schema.server(), &format!("DROP TABLE {lost}"));
        let error = failure(store.update(record(1).id, Expect::Any, change("x"))).await;
        assert_tells(&error, "update", false, &[&lost, "the next start of a hub"]);
        let told = warnings(&store).await;
        assert!(told.contains(&format!("The table {lost} is missing")), "{told}");
        open(&schema.url()).provision().await.unwrap();
        assert_eq!(rows(&schema, &lost).await, before, "{short}");
        assert_eq!(warnings(&store).await, "");
    }
    for record in odd() {
        assert_whole(&store, &record).await;
    }
}

#[tokio::test]
async fn rows_that_were_not_restored_are_told_of() {
    let Some(schema) = Schema::fresh() else { return };
    let (store, table) = ready(&schema).await;
    store.insert(record(2)).await.unwrap();
    for beside in ["waits", "metadata"] {
        let beside = format!("{table}_{beside}");
        execute(schema.server(), &format!("DELETE FROM {beside} WHERE run = '{}'", record(2).id));
        let told = warnings(&store).await;
        assert!(told.contains("Of the newest 1000 runs 1 can't be found by"), "{told}");
        let (_, rest) = told.split_once("run ").unwrap();
        let (statement, _) = rest.split_once(" while").unwrap();
        execute(schema.server(), statement);
        open(&schema.url()).provision().await.unwrap();
        assert_eq!(warnings(&store).await, "");
    }
    let all = store.query(&Filter::default(), None, 10).await.unwrap();
    assert_eq!(all.items.len(), 2);
    assert_whole(&store, &record(2)).await;
}

#[tokio::test]
async fn tables_whose_version_is_lost_are_not_touched() {
    let Some(schema) = Schema::fresh() else { return };
    let (store, table) = ready(&schema).await;
    for loss in ["DELETE FROM", "DROP TABLE"] {
        execute(schema.server(), &format!("{loss} {table}_schema"));
        let error = failure(open(&schema.url()).provision()).await;
        let words = [&*table, "none beside it tells its version", "restore", "table_name"];
        assert_tells(&error, "provision", false, &words);
    }
    assert!(warnings(&store).await.contains("_schema is missing"));
    assert_eq!(store.get(record(1).id).await.unwrap(), Some(record(1)));
}

#[tokio::test]
async fn a_table_that_was_renamed_is_not_begun_anew() {
    let Some(schema) = Schema::fresh() else { return };
    let (store, table) = ready(&schema).await;
    execute(schema.server(), &format!("ALTER TABLE {table} RENAME TO elsewhere"));
    let error = failure(store.get(record(1).id)).await;
    assert_tells(&error, "get", false, &["is not there", &table]);
    let error = failure(open(&schema.url()).provision()).await;
    assert_tells(&error, "provision", false, &[&table, "is missing", "its name back", "drop"]);
    let told = warnings(&store).await;
    assert!(
        told.contains(&format!("The table {table} is missing: give it its name back")),
        "{told}"
    );
    // What is left behind of a store is in the way of another, and said to be.
    execute(schema.server(), &format!("DROP TABLE {table}_schema"));
    let error = failure(open(&schema.url()).provision()).await;
    assert_tells(&error, "provision", false, &["left behind", "already exists"]);
}
