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
    beside.extend(index_waits(&mut it, tables, &record.waits));
    beside.extend(index_metadata(&mut it, tables, &record.metadata));
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
        beside.extend(index_waits_anew(&mut it, tables, waits));
    }
    if let Some(metadata) = &change.metadata {
        beside.extend(index_metadata_anew(&mut it, tables, metadata));
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

/// Makes a run findable by its waits.
fn index_waits(it: &mut Statement<'_>, tables: &Tables, waits: &[WaitIndex]) -> Option<String> {
    let found = (!waits.is_empty()).then(|| bind_waits(it, waits))?;
    let into = &tables.waits;
    Some(format!(
        "INSERT INTO {into} (run, tool_id, expires_at) SELECT done.id, w.* FROM done, {found}"
    ))
}

/// Makes a run findable by its metadata.
fn index_metadata(it: &mut Statement<'_>, tables: &Tables, metadata: &Metadata) -> Option<String> {
    let found = (!metadata.is_empty()).then(|| bind_metadata(it, metadata))?;
    let into = &tables.metadata;
    Some(format!("INSERT INTO {into} (run, entry) SELECT done.id, m.* FROM done, {found}"))
}

/// Makes a run findable by these waits, and by no others. Most commits change none of them, and
/// then no row is written.
fn index_waits_anew(it: &mut Statement<'_>, tables: &Tables, waits: &[WaitIndex]) -> Vec<String> {
    let table = &tables.waits;
    if waits.is_empty() {
        return vec![unindex(table)];
    }
    let found = bind_waits(it, waits);
    let same = "w.tool_id = o.tool_id AND w.expires_at IS NOT DISTINCT FROM o.expires_at";
    vec![
        format!("{} AND NOT EXISTS (SELECT 1 FROM {found} WHERE {same})", unindex(table)),
        format!(
            "INSERT INTO {table} (run, tool_id, expires_at) SELECT done.id, w.* FROM done, {found} \
             WHERE NOT EXISTS (SELECT 1 FROM {table} AS o WHERE o.run = done.id AND {same})"
        ),
    ]
}

/// Makes a run findable by this metadata, and by no other.
fn index_metadata_anew(
    it: &mut Statement<'_>,
    tables: &Tables,
    metadata: &Metadata,
) -> Vec<String> {
    let table = &tables.metadata;
    if metadata.is_empty() {
        return vec![unindex(table)];
    }
    let found = bind_metadata(it, metadata);
    let same = "m.entry = o.entry";
    vec![
        format!("{} AND NOT EXISTS (SELECT 1 FROM {found} WHERE {same})", unindex(table)),
        format!(
            "INSERT INTO {table} (run, entry) SELECT done.id, m.* FROM done, {found} \
             WHERE NOT EXISTS (SELECT 1 FROM {table} AS o WHERE o.run = done.id AND {same})"
        ),
    ]
}

/// What waits are found by, as a table `w`; two that are found by the same are one.
fn bind_waits(it: &mut Statement<'_>, waits: &[WaitIndex]) -> String {
    let waits =
        waits.iter().map(|wait| (wait.tool_id.as_str().to_owned(), millis(wait.expires_at)));
    let (tools, ends): (Vec<_>, Vec<_>) = waits.collect::<BTreeSet<_>>().into_iter().unzip();
    let (tools, ends) = (it.bind(tools, Type::TEXT_ARRAY), it.bind(ends, Type::INT8_ARRAY));
    format!("unnest({tools}, {ends}) AS w (tool_id, expires_at)")
}

/// What metadata is found by, as a table `m`.
fn bind_metadata(it: &mut Statement<'_>, metadata: &Metadata) -> String {
    let entries: Vec<_> = metadata.iter().map(|(name, value)| entry(name, value)).collect();
    format!("unnest({}) AS m (entry)", it.bind(entries, Type::TEXT_ARRAY))
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
