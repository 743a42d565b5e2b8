//! Records as rows, and back.

use rusqlite::{Connection, Row, params, types::FromSql};
use sha2::{Digest as _, Sha256};

use super::trouble::Trouble;
use crate::{
    clock::Timestamp,
    codec::Sealed,
    engine::RunStatus,
    id::{Epoch, Revision, RunId},
    store::{Lease, Queue, Record, Summary, WaitIndex},
    wait::{Metadata, Scalar},
};

/// The columns of a [`Header`], in its order, of the table `f`.
macro_rules! columns {
    () => {
        "f.id, f.revision, f.epoch, f.flow_id, f.queue, f.status, f.waits, f.metadata, \
         f.updated_at, f.due_at, f.attempts, f.lease_owner, f.lease_until, f.snapshot, \
         f.inbox_from, f.inbox_to"
    };
}
pub(super) use columns;

/// A row of `suspended_flows`: a record whose sealed parts are left out, and where they are.
pub(super) struct Header {
    pub(super) record: Record,
    /// The row of `suspended_flow_snapshots`.
    pub(super) snapshot: i64,
    /// The places of the inbox.
    pub(super) inbox: std::ops::Range<i64>,
}

impl Header {
    pub(super) fn from_row(row: &Row<'_>) -> Result<Self, Trouble> {
        let flow_id: String = get(row, 3, "flow_id")?;
        let status: String = get(row, 5, "status")?;
        let owner: Option<String> = get(row, 11, "lease_owner")?;
        let until: Option<i64> = get(row, 12, "lease_until")?;
        let record = Record {
            id: RunId::from_bytes(get(row, 0, "id")?),
            revision: Revision(read_counter(row, 1, "revision")?),
            epoch: Epoch(read_counter(row, 2, "epoch")?),
            flow_id: flow_id.into(),
            queue: get::<Option<String>>(row, 4, "queue")?.map(Queue),
            status: RunStatus::from_name(&status).ok_or(Trouble::Damaged("status"))?,
            waits: json(row, 6, "waits")?,
            metadata: json(row, 7, "metadata")?,
            updated_at: Timestamp::from_millis(get(row, 8, "updated_at")?),
            due_at: get::<Option<i64>>(row, 9, "due_at")?.map(Timestamp::from_millis),
            attempts: get(row, 10, "attempts")?,
            lease: owner
                .zip(until)
                .map(|(owner, until)| Lease { owner, until: Timestamp::from_millis(until) }),
            snapshot: Sealed(Vec::new()),
            inbox: Vec::new(),
        };
        let inbox = get(row, 14, "inbox_from")?..get(row, 15, "inbox_to")?;
        Ok(Self { record, snapshot: get(row, 13, "snapshot")?, inbox })
    }

    pub(super) fn into_summary(self) -> Summary {
        let inbox_len =
            usize::try_from(self.inbox.end.saturating_sub(self.inbox.start)).unwrap_or(0);
        Summary { inbox_len, ..Summary::from(&self.record) }
    }

    /// Reads the sealed parts too, within the same transaction.
    pub(super) fn into_record(self, connection: &Connection) -> Result<Record, Trouble> {
        let mut record = self.record;
        let mut snapshot = connection
            .prepare_cached("SELECT body FROM suspended_flow_snapshots WHERE key = ?1")?;
        let snapshot = snapshot.query_row([self.snapshot], |row| row.get(0));
        record.snapshot = Sealed(snapshot.map_err(unreadable("snapshot"))?);
        if !self.inbox.is_empty() {
            let mut items = connection.prepare_cached(
                "SELECT body FROM suspended_flow_inbox WHERE run = ?1 ORDER BY place",
            )?;
            let items = items.query_map([record.id.as_bytes()], |row| row.get(0).map(Sealed))?;
            record.inbox = items.collect::<Result<_, _>>().map_err(unreadable("inbox"))?;
        }
        Ok(record)
    }
}

/// Finds the row of a run.
pub(super) fn find(connection: &Connection, id: RunId) -> Result<Option<Header>, Trouble> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        " FROM suspended_flows f WHERE f.id = ?1"
    ))?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(Header::from_row).transpose()
}

/// Adds items to the inbox of a run, from that place on.
pub(super) fn push(
    connection: &Connection,
    id: RunId,
    from: i64,
    items: &[Sealed],
) -> Result<(), Trouble> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO suspended_flow_inbox (run, place, body) VALUES (?1, ?2, ?3)",
    )?;
    for (place, item) in (from..).zip(items) {
        insert.execute(params![id.as_bytes(), place, item.0])?;
    }
    Ok(())
}

/// Makes a run findable by its waits.
pub(super) fn index_waits(
    connection: &Connection,
    id: RunId,
    waits: &[WaitIndex],
) -> Result<(), Trouble> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO suspended_flow_waits (tool_id, run, place, expires_at) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (place, wait) in (0_i64..).zip(waits) {
        insert.execute(params![
            wait.tool_id.as_str(),
            id.as_bytes(),
            place,
            millis(wait.expires_at)
        ])?;
    }
    Ok(())
}

/// Undoes [`index_waits`].
pub(super) fn unindex_waits(
    connection: &Connection,
    id: RunId,
    waits: &[WaitIndex],
) -> Result<(), Trouble> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM suspended_flow_waits WHERE tool_id = ?1 AND run = ?2 AND place = ?3",
    )?;
    for (place, wait) in (0_i64..).zip(waits) {
        delete.execute(params![wait.tool_id.as_str(), id.as_bytes(), place])?;
    }
    Ok(())
}

/// Makes a run findable by its metadata.
pub(super) fn index_metadata(
    connection: &Connection,
    id: RunId,
    metadata: &Metadata,
) -> Result<(), Trouble> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO suspended_flow_metadata (name, value, run) VALUES (?1, ?2, ?3)",
    )?;
    for (name, value) in metadata {
        insert.execute(params![name, term(value), id.as_bytes()])?;
    }
    Ok(())
}

/// Undoes [`index_metadata`].
pub(super) fn unindex_metadata(
    connection: &Connection,
    id: RunId,
    metadata: &Metadata,
) -> Result<(), Trouble> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM suspended_flow_metadata WHERE name = ?1 AND value = ?2 AND run = ?3",
    )?;
    for (name, value) in metadata {
        delete.execute(params![name, term(value), id.as_bytes()])?;
    }
    Ok(())
}

/// A scalar as bytes that are equal exactly when the scalars are.
pub(super) fn term(value: &Scalar) -> Vec<u8> {
    // Longer texts would make poor index entries; their digests are as good as they are.
    const LONGEST: usize = 64;
    match value {
        Scalar::Bool(value) => vec![b'b', u8::from(*value)],
        Scalar::Int(value) => [&b"i"[..], &value.to_be_bytes()].concat(),
        // Adding zero makes -0.0, which equals 0.0, have the bits of 0.0.
        Scalar::Float(value) => [&b"f"[..], &(value + 0.0).to_bits().to_be_bytes()].concat(),
        Scalar::Text(text) if text.len() <= LONGEST => [b"t", text.as_bytes()].concat(),
        Scalar::Text(text) => [&b"h"[..], &Sha256::digest(text)].concat(),
    }
}

/// A value as JSON text.
pub(super) fn to_json<T: serde::Serialize>(
    value: &T,
    column: &'static str,
) -> Result<String, Trouble> {
    serde_json::to_string(value).map_err(|_| Trouble::Damaged(column))
}

fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    index: usize,
    column: &'static str,
) -> Result<T, Trouble> {
    let text = row.get_ref(index)?.as_str().map_err(|_| Trouble::Damaged(column))?;
    serde_json::from_str(text).map_err(|_| Trouble::Damaged(column))
}

fn get<T: FromSql>(row: &Row<'_>, index: usize, column: &'static str) -> Result<T, Trouble> {
    row.get_ref(index)
        .map_err(Trouble::from)
        .and_then(|value| T::column_result(value).map_err(|_| Trouble::Damaged(column)))
}

/// What is missing or of another type does not read back; all else is the database's matter.
fn unreadable(column: &'static str) -> impl Fn(rusqlite::Error) -> Trouble {
    move |error| match error {
        rusqlite::Error::QueryReturnedNoRows | rusqlite::Error::InvalidColumnType(..) => {
            Trouble::Damaged(column)
        }
        error => error.into(),
    }
}

fn read_counter(row: &Row<'_>, index: usize, column: &'static str) -> Result<u64, Trouble> {
    get::<i64>(row, index, column)?.try_into().map_err(|_| Trouble::Damaged(column))
}

/// A time as a column.
pub(super) fn millis(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_millis)
}

/// A revision or epoch as a column.
pub(super) fn counter(value: u64) -> Result<i64, Trouble> {
    i64::try_from(value).map_err(|_| Trouble::Counter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_equal_when_scalars_are() {
        let scalars: Vec<Scalar> = vec![
            1.into(),
            1.0.into(),
            "1".into(),
            true.into(),
            0.0.into(),
            (-0.0).into(),
            "t".repeat(64).into(),
            "t".repeat(65).into(),
            "t".repeat(66).into(),
        ];
        for a in &scalars {
            for b in &scalars {
                assert_eq!(term(a) == term(b), a == b, "{a:?} and {b:?}");
            }
        }
        assert!(scalars.iter().all(|scalar| term(scalar).len() <= 65));
    }
}
