//! Makes database, schema and tables where they are missing, and brings them up to date.

use std::time::Duration;

use tokio_postgres::{Row, error::SqlState};

use super::{
    connection::{Connections, Lent, Statement},
    parts::{self, Part},
    rows::get,
    tables::{Tables, identifier, literal},
    trouble::{OLDEST, Trouble},
};
use crate::store::server::within;

/// What leads from each version of the schema to the next; new tables go through all of them.
pub(super) const MIGRATIONS: &[&str] = &[include_str!("schema_1.sql")];

/// Makes the table of what was made.
pub(super) const MAKE_VERSIONS: &str = "CREATE TABLE {versions} (version integer NOT NULL PRIMARY \
                                        KEY, made_at timestamptz NOT NULL DEFAULT now())";

/// The columns that the first table must have.
const COLUMNS: &[(&str, &str)] = &[
    ("id", "uuid"),
    ("revision", "bigint"),
    ("epoch", "bigint"),
    ("updated_at", "bigint"),
    ("due_at", "bigint"),
    ("lease_until", "bigint"),
    ("attempts", "bigint"),
    ("inbox_len", "integer"),
    ("flow_id", "text"),
    ("queue", "text"),
    ("status", "text"),
    ("lease_owner", "text"),
    ("waits", "json"),
    ("metadata", "json"),
    ("state", "bytea"),
    ("inbox", "bytea[]"),
];

/// Held by who makes tables in a database: one at a time, whatever their names.
const LOCK: i64 = 0x4446_6c77;

/// How long making tables may take, waiting for others who do it included.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is begun anew because others were at it in the same moment.
const ATTEMPTS: usize = 10;

/// The databases that every server has, one of which takes the connection that makes another.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];

/// Makes what is missing. Does nothing, and needs no rights, where all is there.
pub(super) async fn provision(connections: &Connections) -> Result<(), Trouble> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let missing_database = match make_tables(connections).await {
            Err(trouble) if attempt >= ATTEMPTS => return Err(trouble),
            Err(trouble) if trouble.code() == Some(&SqlState::INVALID_CATALOG_NAME) => true,
            Err(trouble) if raced(&trouble) => false,
            result => return result,
        };
        if missing_database {
            within(connections.settings.config.operation_timeout, make_database(connections))
                .await?;
        }
    }
}

/// Whether one of the tables is there that can't be made again from others.
pub(super) async fn exists(connections: &Connections) -> Result<bool, Trouble> {
    match connections.query(&look(&connections.settings.tables)).await {
        Err(trouble) if trouble.code() == Some(&SqlState::INVALID_CATALOG_NAME) => Ok(false),
        rows => Found::read(&rows?).map(|found| found.flows || found.versions),
    }
}

/// Whether somebody else made the same thing at the same time.
fn raced(trouble: &Trouble) -> bool {
    const BY_OTHERS: [&SqlState; 6] = [
        &SqlState::UNIQUE_VIOLATION,
        &SqlState::DUPLICATE_DATABASE,
        &SqlState::DUPLICATE_SCHEMA,
        &SqlState::DUPLICATE_TABLE,
        &SqlState::DUPLICATE_OBJECT,
        // Of a database that is being made, or a template that is in use.
        &SqlState::OBJECT_IN_USE,
    ];
    trouble.code().is_some_and(|code| BY_OTHERS.contains(&code))
}

async fn make_database(connections: &Connections) -> Result<(), Trouble> {
    let settings = &connections.settings;
    let dialer = connections.dialer();
    let mut dialed = Err(Trouble::Closed);
    for name in MAINTENANCE {
        dialed = dialer.dial_database(name).await.map_err(Trouble::from);
        if dialed.is_ok() {
            break;
        }
    }
    let name = identifier(&settings.database);
    // The locale of the server may not go with UTF-8; that of C goes with everything.
    let as_what = "TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'";
    let create = format!("CREATE DATABASE {name} {as_what}");
    match dialed?.batch_execute(&create).await.map_err(Trouble::from) {
        Err(trouble) if raced(&trouble) => Ok(()),
        Err(trouble) if trouble.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let owner = identifier(&settings.user);
            Err(Trouble::Forbidden(format!("CREATE DATABASE {name} OWNER {owner} {as_what}")))
        }
        result => result,
    }
}

/// What is there.
struct Found {
    schema: bool,
    flows: bool,
    versions: bool,
    missing: Vec<&'static Part>,
}

async fn make_tables(connections: &Connections) -> Result<(), Trouble> {
    let settings = &connections.settings;
    let tables = &settings.tables;
    let found = Found::read(&connections.query(&look(tables)).await?)?;
    let mut limit = PATIENCE;
    let mut bearable = false;
    if found.versions && known(&connections.query(&version(tables)).await?)? == MIGRATIONS.len() {
        let there = connections.query(&columns(tables)).await?;
        found.check(tables, MIGRATIONS.len(), &there)?;
        if found.missing.is_empty() {
            return Ok(());
        }
        bearable = found.missing.iter().all(|part| part.is_index());
        if bearable {
            // Nobody writes meanwhile.
            limit = settings.config.operation_timeout;
        }
    }
    let made = within(limit, async {
        let mut lent = connections.lend().await?;
        let result = migrate(&mut lent, tables, &settings.user, limit).await;
        if result.is_ok() {
            lent.give_back(None);
        }
        result
    });
    match made.await {
        // As for a user who owns no tables, or on a standby; what is missing is told by `health`.
        Err(trouble) if bearable => {
            tracing::warn!(%trouble, "an index that is missing could not be made again");
            Ok(())
        }
        made => made,
    }
}

/// Goes from what is there to the newest version, in one transaction that excludes others.
async fn migrate(
    lent: &mut Lent,
    tables: &Tables,
    user: &str,
    limit: Duration,
) -> Result<(), Trouble> {
    let transaction = lent.client_mut().transaction().await?;
    // Ends with the transaction, as it must behind a pooler.
    transaction
        .batch_execute(&format!(
            "SET LOCAL statement_timeout = {}; SET LOCAL client_min_messages = warning; \
             SELECT pg_advisory_xact_lock({LOCK})",
            limit.as_millis().max(1)
        ))
        .await?;
    // Others may have made everything while this one waited.
    let found = Found::read(&transaction.query_typed(&look(tables).sql, &[]).await?)?;
    let done = match found.versions {
        true => known(&transaction.query_typed(&version(tables).sql, &[]).await?)?,
        false => 0,
    };
    let there = transaction.query_typed(&columns(tables).sql, &[]).await?;
    found.check(tables, done, &there)?;
    let owner = identifier(user);
    if !found.schema {
        let forbidden = format!("CREATE SCHEMA {} AUTHORIZATION {owner}", tables.schema);
        let create = format!("CREATE SCHEMA {}", tables.schema);
        permitted(transaction.batch_execute(&create).await, forbidden)?;
    }
    let forbidden = format!("GRANT USAGE, CREATE ON SCHEMA {} TO {owner}", tables.schema);
    let make =
        async |script: &str| permitted(transaction.batch_execute(script).await, forbidden.clone());
    if !found.versions {
        make(&tables.fill(MAKE_VERSIONS)).await?;
    }
    for (n, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        make(&tables.fill(migration)).await?;
        let made = format!("INSERT INTO {} (version) VALUES ({})", tables.versions, n + 1);
        transaction.batch_execute(&made).await?;
    }
    if done == MIGRATIONS.len() {
        for part in found.missing {
            make(&part.make_again(tables)).await?;
        }
    }
    transaction.commit().await?;
    Ok(())
}

/// Names the statement that would permit it, if it is not.
fn permitted(result: Result<(), tokio_postgres::Error>, statement: String) -> Result<(), Trouble> {
    match result.map_err(Trouble::from) {
        Err(trouble) if trouble.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            Err(Trouble::Forbidden(statement))
        }
        result => result,
    }
}

/// Asks whether the server will do, and what there is.
fn look(tables: &Tables) -> Statement<'static> {
    let (schema, flows, versions) =
        (literal(&tables.schema_name), literal(&tables.flows), literal(&tables.versions));
    Statement::new(format!(
        "SELECT current_setting('server_version_num')::int4, \
         pg_encoding_to_char(d.encoding)::text, \
         EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = {schema}), \
         to_regclass({flows}) IS NOT NULL, to_regclass({versions}) IS NOT NULL, {} \
         FROM pg_database AS d WHERE d.datname = current_database()",
        parts::missing(tables)
    ))
}

impl Found {
    fn read(rows: &[Row]) -> Result<Self, Trouble> {
        let row = rows.first().ok_or(Trouble::Damaged("version"))?;
        new_enough(get(row, 0, "version")?)?;
        let encoding: String = get(row, 1, "encoding")?;
        if encoding != "UTF8" {
            return Err(Trouble::Encoding(encoding));
        }
        Ok(Self {
            schema: get(row, 2, "schema")?,
            flows: get(row, 3, "flows")?,
            versions: get(row, 4, "versions")?,
            missing: parts::numbered(&get::<Vec<i32>>(row, 5, "missing")?),
        })
    }

    /// Whether what is there goes together: the table has the columns of this store, and its version
    /// is known; or there is neither.
    fn check(&self, tables: &Tables, done: usize, columns: &[Row]) -> Result<(), Trouble> {
        match (self.flows, done) {
            (false, 0) => Ok(()),
            (false, _) => Err(Trouble::Lost),
            (true, done) => {
                verify(tables, columns)?;
                if done == 0 { Err(Trouble::Unversioned) } else { Ok(()) }
            }
        }
    }
}

/// Whether a server of that version has all that is used here.
pub(super) fn new_enough(version: i32) -> Result<(), Trouble> {
    if version < OLDEST { Err(Trouble::TooOld(version)) } else { Ok(()) }
}

fn version(tables: &Tables) -> Statement<'static> {
    let versions = &tables.versions;
    Statement::new(format!("SELECT coalesce(max(version), 0) FROM {versions}"))
}

/// How many migrations were made.
fn known(rows: &[Row]) -> Result<usize, Trouble> {
    let row = rows.first().ok_or(Trouble::Damaged("version"))?;
    let version: i32 = get(row, 0, "version")?;
    match usize::try_from(version) {
        Ok(known) if known <= MIGRATIONS.len() => Ok(known),
        _ => Err(Trouble::Newer(version)),
    }
}

fn columns(tables: &Tables) -> Statement<'static> {
    Statement::new(format!(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
         WHERE attrelid = to_regclass({}) AND attnum > 0 AND NOT attisdropped",
        literal(&tables.flows)
    ))
}

/// Whether a table has the columns that this store needs; it may have others.
fn verify(tables: &Tables, rows: &[Row]) -> Result<(), Trouble> {
    let there: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| Ok((get(row, 0, "attname")?, get(row, 1, "format_type")?)))
        .collect::<Result<_, Trouble>>()?;
    match COLUMNS.iter().find(|column| !there.contains(column)) {
        None => Ok(()),
        Some((name, of)) => Err(Trouble::Foreign {
            table: tables.shown(),
            what: format!("it has no column {name} of the type {of}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_new_enough_from_thirteen_on() {
        for old in [90_624, 100_023, 120_022, 129_999] {
            assert!(matches!(new_enough(old), Err(Trouble::TooOld(version)) if version == old));
        }
        for new in [130_000, 150_018, 180_001] {
            assert!(new_enough(new).is_ok());
        }
    }

    #[test]
    fn the_columns_that_are_asked_for_are_those_that_are_made() {
        let script = MIGRATIONS[0];
        let (_, table) = script.split_once("CREATE TABLE {flows} (").unwrap();
        let (table, _) = table.split_once("CONSTRAINT").unwrap();
        let lines = table.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines = lines.filter(|line| !line.starts_with("--"));
        let made: Vec<_> = lines
            .map(|line| {
                let mut words = line.trim_end_matches(',').split(' ');
                (words.next().unwrap(), words.next().unwrap())
            })
            .collect();
        assert_eq!(made, COLUMNS);
    }
}
