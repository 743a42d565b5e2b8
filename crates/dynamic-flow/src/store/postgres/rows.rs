//! Records as rows, and back.

use std::error::Error as StdError;

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use tokio_postgres::{
    Row,
    types::{FromSql, IsNull, ToSql, Type, private::BytesMut, to_sql_checked},
};

use super::{connection::Statement, tables::Tables, trouble::Trouble};
use crate::{
    clock::Timestamp,
    codec::Sealed,
    engine::RunStatus,
    id::{Epoch, Revision, RunId},
    store::{Lease, Queue, Record, Summary, WaitIndex},
    wait::{Metadata, Scalar},
};

type Failure = Box<dyn StdError + Sync + Send>;

/// The columns of a record without its sealed parts, of the table `f`, in the order of [`summary`].
macro_rules! columns {
    () => {
        "f.id, f.revision, f.epoch, f.flow_id, f.queue, f.status, f.waits, f.metadata, \
         f.updated_at, f.due_at, f.attempts, f.lease_owner, f.lease_until, f.inbox_len"
    };
}
pub(super) use columns;

/// The columns of a record, in the order of [`record`].
macro_rules! all_columns {
    () => {
        concat!(columns!(), ", f.state, f.inbox")
    };
}
pub(super) use all_columns;

/// Finds the record of a run.
pub(super) fn find(tables: &Tables, id: RunId) -> Statement<'static> {
    let mut it = Statement::new("");
    let id = it.bind(Id(id), Type::UUID);
    it.sql = format!("SELECT {} FROM {} AS f WHERE f.id = {id}", all_columns!(), tables.flows);
    it
}

/// Reads the row of a write.
pub(super) fn revision(row: &Row) -> Result<Revision, Trouble> {
    counter(row, 0, "revision").map(Revision)
}

/// Reads a row of [`all_columns`].
pub(super) fn record(row: &Row) -> Result<Record, Trouble> {
    let mut record = plain(row)?;
    record.snapshot = Sealed(get(row, 14, "state")?);
    record.inbox = get::<Vec<Vec<u8>>>(row, 15, "inbox")?.into_iter().map(Sealed).collect();
    Ok(record)
}

/// Reads a row of [`columns`].
pub(super) fn summary(row: &Row) -> Result<Summary, Trouble> {
    let inbox_len = usize::try_from(get::<i32>(row, 13, "inbox_len")?).unwrap_or(0);
    Ok(Summary { inbox_len, ..Summary::from(&plain(row)?) })
}

/// Reads the run's id of a row of [`columns`].
pub(super) fn id(row: &Row) -> Result<RunId, Trouble> {
    get(row, 0, "id").map(|Id(id)| id)
}

/// A record whose sealed parts are left out.
fn plain(row: &Row) -> Result<Record, Trouble> {
    let owner: Option<String> = get(row, 11, "lease_owner")?;
    let until: Option<i64> = get(row, 12, "lease_until")?;
    let attempts: i64 = get(row, 10, "attempts")?;
    Ok(Record {
        id: id(row)?,
        revision: Revision(counter(row, 1, "revision")?),
        epoch: Epoch(counter(row, 2, "epoch")?),
        flow_id: get::<&str>(row, 3, "flow_id")?.into(),
        queue: get::<Option<String>>(row, 4, "queue")?.map(Queue),
        status: RunStatus::from_name(get(row, 5, "status")?).ok_or(Trouble::Damaged("status"))?,
        waits: json::<Vec<WaitIndex>>(row, 6, "waits")?,
        metadata: json::<Metadata>(row, 7, "metadata")?,
        updated_at: Timestamp::from_millis(get(row, 8, "updated_at")?),
        due_at: get::<Option<i64>>(row, 9, "due_at")?.map(Timestamp::from_millis),
        attempts: attempts.try_into().map_err(|_| Trouble::Damaged("attempts"))?,
        lease: owner
            .zip(until)
            .map(|(owner, until)| Lease { owner, until: Timestamp::from_millis(until) }),
        snapshot: Sealed(Vec::new()),
        inbox: Vec::new(),
    })
}

pub(super) fn get<'a, T: FromSql<'a>>(
    row: &'a Row,
    index: usize,
    column: &'static str,
) -> Result<T, Trouble> {
    row.try_get(index).map_err(|_| Trouble::Damaged(column))
}

fn counter(row: &Row, index: usize, column: &'static str) -> Result<u64, Trouble> {
    get::<i64>(row, index, column)?.try_into().map_err(|_| Trouble::Damaged(column))
}

fn json<T: DeserializeOwned>(row: &Row, index: usize, column: &'static str) -> Result<T, Trouble> {
    let Text(text) = get(row, index, column)?;
    serde_json::from_str(text).map_err(|_| Trouble::Damaged(column))
}

/// The id of a run, as PostgreSQL has it: sorted by its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Id(pub(super) RunId);

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::UUID
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Id {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        Ok(Self(RunId::from_bytes(raw.try_into()?)))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::UUID
    }
}

/// A value as the text of a JSON column.
#[derive(Debug)]
pub(super) struct Json(String);

impl Json {
    pub(super) fn of<T: Serialize>(value: &T, column: &'static str) -> Result<Self, Trouble> {
        serde_json::to_string(value).map(Self).map_err(|_| Trouble::Damaged(column))
    }
}

impl ToSql for Json {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::JSON
    }

    to_sql_checked!();
}

/// The text of a JSON column.
struct Text<'a>(&'a str);

impl<'a> FromSql<'a> for Text<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        Ok(Self(std::str::from_utf8(raw)?))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::JSON
    }
}

/// A time as a column.
pub(super) fn millis(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_millis)
}

/// A name and a value of metadata as a text that is equal exactly when they are.
pub(super) fn entry(name: &str, value: &Scalar) -> String {
    // What is longer does not fit into an index; its digest is as good as it is.
    const LONGEST: usize = 512;
    let normal = match value {
        // Adding zero makes -0.0, which equals 0.0, have the digits of 0.0.
        Scalar::Float(value) => Scalar::Float(value + 0.0),
        other => other.clone(),
    };
    // No two scalars have the same JSON: a number with a fraction is always written with one.
    let text = serde_json::json!([name, normal]).to_string();
    if text.len() <= LONGEST { text } else { hex::encode(Sha256::digest(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_equal_when_names_and_scalars_are() {
        let scalars: Vec<Scalar> = vec![
            1.into(),
            1.0.into(),
            "1".into(),
            "1.0".into(),
            true.into(),
            "true".into(),
            0.0.into(),
            (-0.0).into(),
            1e16.into(),
            10_000_000_000_000_000_i64.into(),
            9_007_199_254_740_993_i64.into(),
            9_007_199_254_740_992.0.into(),
            "\"],[\"".into(),
            "t".repeat(509).into(),
            "t".repeat(510).into(),
            "t".repeat(4096).into(),
        ];
        let entries =
            || ["a", "b", "[\"a"].iter().flat_map(|name| scalars.iter().map(move |s| (name, s)));
        for a in entries() {
            for b in entries() {
                assert_eq!(entry(a.0, a.1) == entry(b.0, b.1), a == b, "{a:?} and {b:?}");
            }
        }
        assert!(entries().all(|(name, scalar)| entry(name, scalar).len() <= 512));
    }
}
