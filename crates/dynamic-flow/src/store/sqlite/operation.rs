//! What the writer does within a transaction, one call of the trait at a time.

use std::collections::BTreeSet;

use rusqlite::{Connection, ToSql, params};

use super::{
    rows::{
        Header, columns, counter, find, index_metadata, index_waits, millis, push, to_json,
        unindex_metadata, unindex_waits,
    },
    trouble::Trouble,
};
use crate::{
    clock::Timestamp,
    id::{Epoch, Revision, RunId},
    store::{Change, Claim, Expect, Record},
};

/// A call that writes. It can be made again when the transaction around it was rolled back.
pub(super) enum Operation {
    Provision,
    Insert(Box<Record>),
    Update(RunId, Expect, Box<Change>),
    Delete(RunId, Expect),
    Claim(Claim),
    Renew(RunId, Epoch, Timestamp),
    Health,
}

/// What came of it.
pub(super) enum Done {
    Nothing,
    Revision(Revision),
    Records(Vec<Record>),
    /// The journal mode and `PRAGMA synchronous`.
    Health(String, i64, Result<(), Trouble>),
}

impl Operation {
    /// Makes the call. If it is refused, nothing has been changed.
    pub(super) fn perform(&self, connection: &Connection) -> Result<Done, Trouble> {
        match self {
            Self::Provision => Ok(Done::Nothing),
            Self::Insert(record) => insert(connection, record).map(|()| Done::Nothing),
            Self::Update(id, expect, change) => {
                update(connection, *id, *expect, change).map(Done::Revision)
            }
            Self::Delete(id, expect) => delete(connection, *id, *expect).map(|()| Done::Nothing),
            Self::Claim(wanted) => claim(connection, wanted).map(Done::Records),
            Self::Renew(id, epoch, until) => {
                renew(connection, *id, *epoch, *until).map(|()| Done::Nothing)
            }
            Self::Health => {
                let mode = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
                let level = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
                // Changes nothing, and asks for the right to.
                let written = connection
                    .execute("UPDATE suspended_flows SET id = id WHERE false", [])
                    .map(drop)
                    .map_err(Trouble::from);
                Ok(Done::Health(mode, level, written))
            }
        }
    }
}

fn insert(connection: &Connection, record: &Record) -> Result<(), Trouble> {
    let mut known = connection.prepare_cached("SELECT 1 FROM suspended_flows WHERE id = ?1")?;
    if known.exists([record.id.as_bytes()])? {
        return Err(Trouble::Exists);
    }
    let (revision, epoch) = (counter(record.revision.0)?, counter(record.epoch.0)?);
    let mut snapshot =
        connection.prepare_cached("INSERT INTO suspended_flow_snapshots (body) VALUES (?1)")?;
    let snapshot = snapshot.insert([&record.snapshot.0])?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO suspended_flows VALUES \
         (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 0, ?15)",
    )?;
    insert.execute(params![
        record.id.as_bytes(),
        revision,
        epoch,
        record.flow_id.as_str(),
        record.queue.as_ref().map(|queue| &queue.0),
        record.status.as_str(),
        to_json(&record.waits, "waits")?,
        to_json(&record.metadata, "metadata")?,
        record.updated_at.as_millis(),
        millis(record.due_at),
        record.attempts,
        record.lease.as_ref().map(|lease| &lease.owner),
        record.lease.as_ref().map(|lease| lease.until.as_millis()),
        snapshot,
        length(&record.inbox),
    ])?;
    push(connection, record.id, 0, &record.inbox)?;
    index_waits(connection, record.id, &record.waits)?;
    index_metadata(connection, record.id, &record.metadata)
}

/// Finds the row that a conditional write is about.
fn expected(connection: &Connection, id: RunId, expect: Expect) -> Result<Header, Trouble> {
    find(connection, id)?
        .filter(|header| expect.admits(header.record.revision))
        .ok_or(Trouble::Conflict)
}

/// `UPDATE` of the columns that change, and of no other: each index costs a page to write.
#[derive(Default)]
struct Assignments<'a> {
    columns: String,
    values: Vec<Box<dyn ToSql + 'a>>,
}

impl<'a> Assignments<'a> {
    fn set(&mut self, column: &'static str, value: impl ToSql + 'a) {
        let separator = if self.values.is_empty() { "" } else { ", " };
        self.columns.push_str(separator);
        self.columns.push_str(column);
        self.columns.push_str(" = ?");
        self.values.push(Box::new(value));
    }

    fn execute(mut self, connection: &Connection, id: &'a RunId) -> Result<(), Trouble> {
        let sql = format!("UPDATE suspended_flows SET {} WHERE id = ?", self.columns);
        self.values.push(Box::new(id.as_bytes()));
        let values = self.values.iter().map(|value| &**value);
        connection.prepare_cached(&sql)?.execute(rusqlite::params_from_iter(values))?;
        Ok(())
    }
}

fn update(
    connection: &Connection,
    id: RunId,
    expect: Expect,
    change: &Change,
) -> Result<Revision, Trouble> {
    let header = expected(connection, id, expect)?;
    let before = &header.record;
    let revision = before.revision.next();
    let mut set = Assignments::default();
    set.set("revision", counter(revision.0)?);
    set.set("updated_at", change.updated_at.as_millis());
    if let Some(epoch) = change.epoch {
        set.set("epoch", counter(epoch.0)?);
    }
    if let Some(queue) = &change.queue
        && *queue != before.queue
    {
        set.set("queue", queue.as_ref().map(|queue| &queue.0));
    }
    if let Some(status) = change.status
        && status != before.status
    {
        set.set("status", status.as_str());
    }
    if let Some(due_at) = change.due_at
        && due_at != before.due_at
    {
        set.set("due_at", millis(due_at));
    }
    if let Some(attempts) = change.attempts {
        set.set("attempts", attempts);
    }
    if let Some(lease) = &change.lease {
        set.set("lease_owner", lease.as_ref().map(|lease| &lease.owner));
        set.set("lease_until", lease.as_ref().map(|lease| lease.until.as_millis()));
    }
    if let Some(waits) = &change.waits
        && *waits != before.waits
    {
        set.set("waits", to_json(waits, "waits")?);
        unindex_waits(connection, id, &before.waits)?;
        index_waits(connection, id, waits)?;
    }
    if let Some(metadata) = &change.metadata
        && *metadata != before.metadata
    {
        set.set("metadata", to_json(metadata, "metadata")?);
        unindex_metadata(connection, id, &before.metadata)?;
        index_metadata(connection, id, metadata)?;
    }
    if let Some(snapshot) = &change.snapshot {
        connection
            .prepare_cached("UPDATE suspended_flow_snapshots SET body = ?1 WHERE key = ?2")?
            .execute(params![snapshot.0, header.snapshot])?;
    }
    let inbox = change_inbox(connection, id, &header, change)?;
    if inbox != header.inbox {
        set.set("inbox_from", inbox.start);
        set.set("inbox_to", inbox.end);
    }
    set.execute(connection, &id)?;
    Ok(revision)
}

/// Drops and appends items; gives the places that are taken then.
fn change_inbox(
    connection: &Connection,
    id: RunId,
    header: &Header,
    change: &Change,
) -> Result<std::ops::Range<i64>, Trouble> {
    let (from, to) = (header.inbox.start, header.inbox.end);
    let (drop, items) = match &change.inbox {
        Some(whole) => (usize::MAX, whole),
        None => (change.inbox_drop, &change.inbox_push),
    };
    let kept_from = from.saturating_add(i64::try_from(drop).unwrap_or(i64::MAX)).min(to);
    if kept_from > from {
        connection
            .prepare_cached("DELETE FROM suspended_flow_inbox WHERE run = ?1 AND place < ?2")?
            .execute(params![id.as_bytes(), kept_from])?;
    }
    push(connection, id, to, items)?;
    Ok(kept_from..to + length(items))
}

fn delete(connection: &Connection, id: RunId, expect: Expect) -> Result<(), Trouble> {
    let header = expected(connection, id, expect)?;
    unindex_waits(connection, id, &header.record.waits)?;
    unindex_metadata(connection, id, &header.record.metadata)?;
    connection
        .prepare_cached("DELETE FROM suspended_flow_inbox WHERE run = ?1")?
        .execute([id.as_bytes()])?;
    connection
        .prepare_cached("DELETE FROM suspended_flow_snapshots WHERE key = ?1")?
        .execute([header.snapshot])?;
    connection
        .prepare_cached("DELETE FROM suspended_flows WHERE id = ?1")?
        .execute([id.as_bytes()])?;
    Ok(())
}

/// Those of one queue that are due and free, due for longest first.
pub(super) const DUE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM suspended_flows f INDEXED BY suspended_flows_due \
     WHERE f.queue = ?1 AND f.due_at <= ?2 AND (f.lease_until IS NULL OR f.lease_until <= ?2) \
     ORDER BY f.due_at"
);

fn claim(connection: &Connection, claim: &Claim) -> Result<Vec<Record>, Trouble> {
    let mut taken = Vec::new();
    let mut seen = claim.except.clone();
    loop {
        let wanted = claim.limit - taken.len();
        let due = due(connection, claim, wanted, &seen)?;
        let mut all_read = true;
        for header in due {
            let id = header.record.id;
            seen.insert(id);
            match take(connection, claim, header) {
                Err(trouble @ (Trouble::Damaged(_) | Trouble::Counter)) => {
                    pass_over(Some(id), &trouble);
                    all_read = false;
                }
                record => taken.push(record?),
            }
        }
        if all_read {
            return Ok(taken);
        }
    }
}

/// So many that are due, but for those seen before and those the claimer does not want, due for longest first.
fn due(
    connection: &Connection,
    claim: &Claim,
    wanted: usize,
    seen: &BTreeSet<RunId>,
) -> Result<Vec<Header>, Trouble> {
    let queues: BTreeSet<_> = claim.queues.iter().collect();
    let mut due = Vec::new();
    for queue in queues {
        let mut statement = connection.prepare_cached(DUE)?;
        let mut rows = statement.query(params![queue.0, claim.now.as_millis()])?;
        let enough = due.len() + wanted;
        while due.len() < enough
            && let Some(row) = rows.next()?
        {
            match Header::from_row(row) {
                Err(trouble @ Trouble::Damaged(_)) => {
                    pass_over(row.get(0).ok().map(RunId::from_bytes), &trouble);
                }
                header => due.extend(Some(header?).filter(|it| !seen.contains(&it.record.id))),
            }
        }
    }
    due.sort_by_key(|header| header.record.due_at);
    due.truncate(wanted);
    Ok(due)
}

/// One run that does not read back must not keep workers from all the others.
fn pass_over(run: Option<RunId>, trouble: &Trouble) {
    tracing::warn!(?run, %trouble, "a due run can't be claimed");
}

/// Gives one run to the claimer. If that fails because of what the run is, nothing was changed.
fn take(connection: &Connection, claim: &Claim, header: Header) -> Result<Record, Trouble> {
    let mut record = header.into_record(connection)?;
    let status = record.status;
    claim.apply(&mut record);
    let mut set = Assignments::default();
    set.set("revision", counter(record.revision.0)?);
    set.set("epoch", counter(record.epoch.0)?);
    set.set("updated_at", record.updated_at.as_millis());
    set.set("due_at", millis(record.due_at));
    set.set("attempts", record.attempts);
    set.set("lease_owner", &claim.owner);
    set.set("lease_until", claim.until().as_millis());
    if record.status != status {
        set.set("status", record.status.as_str());
    }
    set.execute(connection, &record.id)?;
    Ok(record)
}

fn renew(
    connection: &Connection,
    id: RunId,
    epoch: Epoch,
    until: Timestamp,
) -> Result<(), Trouble> {
    // No record has an epoch that no column can hold.
    let epoch = counter(epoch.0).map_err(|_| Trouble::Conflict)?;
    let renewed = connection
        .prepare_cached(
            "UPDATE suspended_flows SET lease_until = ?1, due_at = ?1 \
             WHERE id = ?2 AND epoch = ?3 AND lease_owner IS NOT NULL",
        )?
        .execute(params![until.as_millis(), id.as_bytes(), epoch])?;
    if renewed == 0 { Err(Trouble::Conflict) } else { Ok(()) }
}

fn length<T>(items: &[T]) -> i64 {
    i64::try_from(items.len()).unwrap_or(i64::MAX)
}
