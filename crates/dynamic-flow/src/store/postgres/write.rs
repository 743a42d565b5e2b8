//! Statements that write one record. What queries find it by is written by the same statement, and
//! follows it: if the record is not as expected, no row of any table changes.

use std::collections::BTreeSet;

use tokio_postgres::types::Type;

use super::{
    connection::Statement,
    rows::{Id, Json, entry, millis},
    tables::Tables,
    trouble::Trouble,
};
use crate::{
    clock::Timestamp,
    codec::Sealed,
    id::{Epoch, RunId},
    store::{Change, Expect, Record, WaitIndex},
    wait::Metadata,
};

/// Adds a record; gives a row if it was added. Hints are told with it by that expression.
pub(super) fn insert<'a>(
    tables: &Tables,
    record: &'a Record,
    told: Option<&str>,
) -> Result<Statement<'a>, Trouble> {
    let mut it = Statement::new("");
    let lease = record.lease.as_ref();
    let values = [
        it.bind(Id(record.id), Type::UUID),
        it.bind(counter(record.revision.0), Type::INT8),
        it.bind(counter(record.epoch.0), Type::INT8),
        it.bind(record.updated_at.as_millis(), Type::INT8),
        it.bind(millis(record.due_at), Type::INT8),
        it.bind(lease.map(|lease| lease.until.as_millis()), Type::INT8),
        it.bind(i64::from(record.attempts), Type::INT8),
        it.bind(length(record.inbox.len()), Type::INT4),
        it.bind(record.flow_id.as_str(), Type::TEXT),
        it.bind(record.queue.as_ref().map(|queue| &*queue.0), Type::TEXT),
        it.bind(record.status.as_str(), Type::TEXT),
        it.bind(lease.map(|lease| &*lease.owner), Type::TEXT),
        it.bind(Json::of(&record.waits, "waits")?, Type::JSON),
        it.bind(Json::of(&record.metadata, "metadata")?, Type::JSON),
        it.bind(&record.snapshot.0, Type::BYTEA),
        it.bind(items(&record.inbox), Type::BYTEA_ARRAY),
    ];
    let write = format!(
        "INSERT INTO {} AS f (id, revision, epoch, updated_at, due_at, lease_until, attempts, \
         inbox_len, flow_id, queue, status, lease_owner, waits, metadata, state, inbox) \
         VALUES ({}) ON CONFLICT (id) DO NOTHING",
        tables.flows,
        values.join(", ")
    );
    let mut beside = Vec::new();
    beside.extend(Found::by_waits(&mut it, tables, &record.waits).insert());
    beside.extend(Found::by_metadata(&mut it, tables, &record.metadata).insert());
    Ok(finish(it, &write, &beside, told))
}

/// Changes a record if it is as expected; gives a row with the new revision if it was. Hints are
/// told with it by that expression.
pub(super) fn update<'a>(
    tables: &Tables,
    id: RunId,
    expect: Expect,
    change: &'a Change,
    told: Option<&str>,
) -> Result<Statement<'a>, Trouble> {
    let mut it = Statement::new("");
    let expected = expected(&mut it, id, expect);
    let mut set = vec!["revision = f.revision + 1".to_owned()];
    let mut column = |name: &str, value: String| set.push(format!("{name} = {value}"));
    column("updated_at", it.bind(change.updated_at.as_millis(), Type::INT8));
    if let Some(epoch) = change.epoch {
        column("epoch", it.bind(counter(epoch.0), Type::INT8));
    }
    if let Some(queue) = &change.queue {
        column("queue", it.bind(queue.as_ref().map(|queue| &*queue.0), Type::TEXT));
    }
    if let Some(status) = change.status {
        column("status", it.bind(status.as_str(), Type::TEXT));
    }
    if let Some(due_at) = change.due_at {
        column("due_at", it.bind(millis(due_at), Type::INT8));
    }
    if let Some(attempts) = change.attempts {
        column("attempts", it.bind(i64::from(attempts), Type::INT8));
    }
    if let Some(lease) = &change.lease {
        let lease = lease.as_ref();
        column("lease_owner", it.bind(lease.map(|lease| &*lease.owner), Type::TEXT));
        column("lease_until", it.bind(lease.map(|lease| lease.until.as_millis()), Type::INT8));
    }
    if let Some(snapshot) = &change.snapshot {
        column("state", it.bind(&snapshot.0, Type::BYTEA));
    }
    if let Some(waits) = &change.waits {
        column("waits", it.bind(Json::of(waits, "waits")?, Type::JSON));
    }
    if let Some(metadata) = &change.metadata {
        column("metadata", it.bind(Json::of(metadata, "metadata")?, Type::JSON));
    }
    if let Some(inbox) = &change.inbox {
        column("inbox", it.bind(items(inbox), Type::BYTEA_ARRAY));
        column("inbox_len", it.bind(length(inbox.len()), Type::INT4));
    } else if change.inbox_drop > 0 || !change.inbox_push.is_empty() {
        // Relative to what is there when the row is locked, whatever was pushed before that.
        let kept = it.bind(length(change.inbox_drop), Type::INT4);
        let pushed = it.bind(items(&change.inbox_push), Type::BYTEA_ARRAY);
        let count = it.bind(length(change.inbox_push.len()), Type::INT4);
        column("inbox", format!("f.inbox[{kept} + 1:] || {pushed}"));
        column("inbox_len", format!("greatest(f.inbox_len - {kept}, 0) + {count}"));
    }
    let write = format!("UPDATE {} AS f SET {} WHERE {expected}", tables.flows, set.join(", "));
    let mut beside = Vec::new();
    if let Some(waits) = &change.waits {
        beside.extend(Found::by_waits(&mut it, tables, waits).replace());
    }
    if let Some(metadata) = &change.metadata {
        beside.extend(Found::by_metadata(&mut it, tables, metadata).replace());
    }
    Ok(finish(it, &write, &beside, told))
}

/// Removes a record if it is as expected; gives a row if it was.
pub(super) fn delete(tables: &Tables, id: RunId, expect: Expect) -> Statement<'static> {
    let mut it = Statement::new("");
    let expected = expected(&mut it, id, expect);
    let write = format!("DELETE FROM {} AS f WHERE {expected}", tables.flows);
    finish(it, &write, &[unindex(&tables.waits), unindex(&tables.metadata)], None)
}

/// Moves the end of a lease; gives a row if it was moved.
pub(super) fn renew(
    tables: &Tables,
    id: RunId,
    epoch: Epoch,
    until: Timestamp,
) -> Statement<'static> {
    let mut it = Statement::new("");
    let id = it.bind(Id(id), Type::UUID);
    let epoch = it.bind(counter(epoch.0), Type::INT8);
    let until = it.bind(until.as_millis(), Type::INT8);
    it.sql = format!(
        "UPDATE {} AS f SET lease_until = {until}, due_at = {until} \
         WHERE f.id = {id} AND f.epoch = {epoch} AND f.lease_owner IS NOT NULL RETURNING f.id",
        tables.flows
    );
    it
}

/// Whether a write has to lock its record first.
///
/// A statement sees all tables as they were when it began. If it waits for another write of the
/// same row, it goes on with the row that this one left, but with the other tables as they were
/// before it. Where a revision is expected, that ends the statement, since the row has another one
/// now; where any will do, rows of the other write would stay.
pub(super) fn needs_lock(expect: Expect, beside: bool) -> bool {
    expect == Expect::Any && beside
}

/// Locks a record until the end of the transaction.
pub(super) fn lock(tables: &Tables, id: RunId) -> Statement<'static> {
    let mut it = Statement::new("");
    let id = it.bind(Id(id), Type::UUID);
    it.sql = format!("SELECT 1 FROM {} WHERE id = {id} FOR UPDATE", tables.flows);
    it
}

fn expected(it: &mut Statement<'_>, id: RunId, expect: Expect) -> String {
    let id = it.bind(Id(id), Type::UUID);
    match expect {
        Expect::Any => format!("f.id = {id}"),
        Expect::Revision(revision) => {
            let revision = it.bind(counter(revision.0), Type::INT8);
            format!("f.id = {id} AND f.revision = {revision}")
        }
    }
}

/// Puts the write of the record, those beside it and what is told of it into one statement.
fn finish<'a>(
    mut it: Statement<'a>,
    write: &str,
    beside: &[String],
    told: Option<&str>,
) -> Statement<'a> {
    let told = told.map_or_else(String::new, |told| format!(", {told}"));
    it.sql = if beside.is_empty() {
        format!("{write} RETURNING f.revision{told}")
    } else {
        let beside: String =
            beside.iter().enumerate().map(|(n, one)| format!(", beside_{n} AS ({one})")).collect();
        format!(
            "WITH done AS ({write} RETURNING f.id, f.revision){beside} \
             SELECT done.revision{told} FROM done"
        )
    };
    it
}

/// What a run is found by in one of the tables beside it.
struct Found<'t> {
    table: &'t str,
    /// The columns beside the run's.
    columns: &'static str,
    /// Their values, as a table `n` of the same columns; none if the run is not in the table.
    values: Option<String>,
    /// Whether a row `o` of the table has the values of `n`.
    same: &'static str,
}

impl<'t> Found<'t> {
    /// By its waits; two that are found by the same are one.
    fn by_waits(it: &mut Statement<'_>, tables: &'t Tables, waits: &[WaitIndex]) -> Self {
        let values = (!waits.is_empty()).then(|| {
            let waits = waits.iter();
            let rows = waits.map(|w| (w.tool_id.as_str().to_owned(), millis(w.expires_at)));
            let (tools, ends): (Vec<_>, Vec<_>) = rows.collect::<BTreeSet<_>>().into_iter().unzip();
            let (tools, ends) = (it.bind(tools, Type::TEXT_ARRAY), it.bind(ends, Type::INT8_ARRAY));
            format!("unnest({tools}, {ends}) AS n (tool_id, expires_at)")
        });
        Self {
            table: &tables.waits,
            columns: "tool_id, expires_at",
            values,
            same: "n.tool_id = o.tool_id AND n.expires_at IS NOT DISTINCT FROM o.expires_at",
        }
    }

    fn by_metadata(it: &mut Statement<'_>, tables: &'t Tables, metadata: &Metadata) -> Self {
        let values = (!metadata.is_empty()).then(|| {
            let entries: Vec<_> = metadata.iter().map(|(name, value)| entry(name, value)).collect();
            format!("unnest({}) AS n (entry)", it.bind(entries, Type::TEXT_ARRAY))
        });
        Self { table: &tables.metadata, columns: "entry", values, same: "n.entry = o.entry" }
    }

    /// Makes a new run findable.
    fn insert(&self) -> Option<String> {
        let Self { table, columns, values, .. } = self;
        let values = values.as_ref()?;
        Some(format!(
            "INSERT INTO {table} (run, {columns}) SELECT done.id, n.* FROM done, {values}"
        ))
    }

    /// Makes a run findable by this, and by nothing else. Most commits change nothing of it, and
    /// then no row is written.
    fn replace(&self) -> Vec<String> {
        let Self { table, same, .. } = self;
        let (Some(values), Some(insert)) = (&self.values, self.insert()) else {
            return vec![unindex(table)];
        };
        vec![
            format!("{} AND NOT EXISTS (SELECT 1 FROM {values} WHERE {same})", unindex(table)),
            format!(
                "{insert} WHERE NOT EXISTS \
                 (SELECT 1 FROM {table} AS o WHERE o.run = done.id AND {same})"
            ),
        ]
    }
}

/// Leaves nothing by which a run is found.
fn unindex(table: &str) -> String {
    format!("DELETE FROM {table} AS o USING done WHERE o.run = done.id")
}

fn items(items: &[Sealed]) -> Vec<&[u8]> {
    items.iter().map(|item| &*item.0).collect()
}

/// A revision or epoch as a column. None is as high as what does not fit: it is not checked where
/// it is only compared.
fn counter(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(-1)
}

/// So many items, at the most as many as an array can have.
fn length(count: usize) -> i32 {
    const MOST: i32 = i32::MAX / 2;
    i32::try_from(count).unwrap_or(MOST).min(MOST)
}
