//! Records as properties and relationships, and back.
//!
//! The server reads a node property by property, while others write: two properties that it gives
//! may be of two different moments, a single one is whole. So everything of a record that is plain
//! stands together in one property, the `row`; beside it there are copies for indexes, conditions
//! and people. The snapshot and the inbox carry a stamp that changes when they are written, and the
//! row says with which stamps it belongs together.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use neo4rs::{BoltMap, BoltNull, BoltType, Row};
use sha2::{Digest as _, Sha256};

use super::trouble::Trouble;
use crate::{
    clock::Timestamp,
    codec::Sealed,
    engine::RunStatus,
    id::{Epoch, Revision, RunId},
    store::{Change, Lease, Queue, Record, WaitIndex},
    wait::{Metadata, Scalar},
};

/// What a page needs of a node: all but what is sealed.
pub(super) const PLAIN: &str = "f.id AS id, f.flowId AS flowId, f.row AS row";

/// All of a record.
pub(super) const WHOLE: &str = "f.id AS id, f.flowId AS flowId, f.row AS row, \
     f.snapshot AS snapshot, f.inbox AS inbox";

/// The row of the node `f`, made of its properties and of these expressions for what stands in no
/// other one.
pub(super) fn row_of(f: &str, waits: &str, metadata: &str, snapshot: &str, inbox: &str) -> String {
    format!(
        "[toString({f}.revision), toString({f}.epoch), toString({f}.updatedAt), \
         toString({f}.attempts), toString({f}.inboxSize), {f}.status, \
         coalesce('=' + {f}.queue, ''), coalesce(toString({f}.dueAt), ''), \
         coalesce('=' + {f}.leaseOwner, ''), coalesce(toString({f}.leaseUntil), ''), \
         {waits}, {metadata}, {snapshot}, {inbox}]"
    )
}

/// The places in the row of what stands in no other property.
pub(super) const WAITS: usize = 10;
pub(super) const METADATA: usize = 11;
pub(super) const SNAPSHOT_STAMP: usize = 12;
pub(super) const INBOX_STAMP: usize = 13;

/// How many bytes a stamp has, and how many letters.
const STAMP: usize = 8;

/// A mark that no other write has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp([u8; STAMP]);

impl Stamp {
    pub(super) fn new() -> Result<Self, Trouble> {
        let mut bytes = [0; STAMP];
        getrandom::fill(&mut bytes).map_err(|_| Trouble::NoRandomness)?;
        Ok(Self(bytes))
    }

    pub(super) fn text(self) -> String {
        hex::encode(self.0)
    }

    /// Bytes with the stamp before them.
    fn before(self, sealed: &Sealed) -> Vec<u8> {
        [&self.0[..], &sealed.0].concat()
    }

    /// Items with the stamp before them: a node holds lists of texts, not of bytes.
    fn before_items(self, inbox: &[Sealed]) -> Vec<String> {
        std::iter::once(self.text()).chain(items(inbox)).collect()
    }
}

/// The properties of a new node.
pub(super) fn properties(record: &Record, stamp: Stamp) -> Result<BoltMap, Trouble> {
    let mut map = BoltMap::new();
    let (revision, epoch) = (counter(record.revision.0)?, counter(record.epoch.0)?);
    set(&mut map, "id", id_text(record.id));
    set(&mut map, "createdAt", record.id.created_at().as_millis());
    set(&mut map, "flowId", record.flow_id.as_str());
    set(&mut map, "revision", revision);
    set(&mut map, "epoch", epoch);
    set_queue(&mut map, record.queue.as_ref());
    set(&mut map, "status", record.status.as_str());
    set(&mut map, "updatedAt", record.updated_at.as_millis());
    set(&mut map, "dueAt", time(record.due_at));
    set(&mut map, "attempts", i64::from(record.attempts));
    set_lease(&mut map, record.lease.as_ref());
    set(&mut map, "inboxSize", size(record.inbox.len()));
    set(&mut map, "snapshot", stamp.before(&record.snapshot));
    let with_inbox = !record.inbox.is_empty();
    if with_inbox {
        set(&mut map, "inbox", stamp.before_items(&record.inbox));
    }
    let marked = |text: Option<&str>| text.map_or_else(String::new, |text| format!("={text}"));
    let millis =
        |at: Option<Timestamp>| at.map(|at| at.as_millis().to_string()).unwrap_or_default();
    let row = vec![
        revision.to_string(),
        epoch.to_string(),
        record.updated_at.as_millis().to_string(),
        record.attempts.to_string(),
        record.inbox.len().to_string(),
        record.status.as_str().to_owned(),
        marked(record.queue.as_ref().map(|queue| queue.0.as_str())),
        millis(record.due_at),
        marked(record.lease.as_ref().map(|lease| lease.owner.as_str())),
        millis(record.lease.as_ref().map(|lease| lease.until)),
        json(&record.waits, "waits")?,
        json(&record.metadata, "metadata")?,
        stamp.text(),
        if with_inbox { stamp.text() } else { String::new() },
    ];
    set(&mut map, "row", row);
    Ok(map)
}

/// The properties that a change sets, nothing for those that it takes away; without the waits, the
/// metadata and the inbox.
pub(super) fn changed_properties(change: &Change, stamp: Stamp) -> Result<BoltMap, Trouble> {
    let mut map = BoltMap::new();
    set(&mut map, "updatedAt", change.updated_at.as_millis());
    if let Some(epoch) = change.epoch {
        set(&mut map, "epoch", counter(epoch.0)?);
    }
    if let Some(queue) = &change.queue {
        set_queue(&mut map, queue.as_ref());
    }
    if let Some(status) = change.status {
        set(&mut map, "status", status.as_str());
    }
    if let Some(due_at) = change.due_at {
        set(&mut map, "dueAt", time(due_at));
    }
    if let Some(attempts) = change.attempts {
        set(&mut map, "attempts", i64::from(attempts));
    }
    if let Some(lease) = &change.lease {
        set_lease(&mut map, lease.as_ref());
    }
    if let Some(snapshot) = &change.snapshot {
        set(&mut map, "snapshot", stamp.before(snapshot));
    }
    Ok(map)
}

/// The relationships to the tools that are waited for.
pub(super) fn wait_links(waits: &[WaitIndex]) -> Vec<BoltType> {
    let link = |wait: &WaitIndex| {
        let mut map = BoltMap::new();
        set(&mut map, "tool", wait.tool_id.as_str());
        set(&mut map, "wait", wait.id.as_str());
        set(&mut map, "createdAt", wait.created_at.as_millis());
        set(&mut map, "expiresAt", time(wait.expires_at));
        BoltType::Map(map)
    };
    waits.iter().map(link).collect()
}

/// The relationships to the values in the metadata.
pub(super) fn metadata_links(metadata: Option<&Metadata>) -> Result<Vec<BoltType>, Trouble> {
    let link = |(name, value): (&String, &Scalar)| {
        let mut map = BoltMap::new();
        set(&mut map, "entry", entry(name, value)?);
        set(&mut map, "name", name.as_str());
        let value: BoltType = match value {
            Scalar::Bool(value) => (*value).into(),
            Scalar::Int(value) => (*value).into(),
            Scalar::Float(value) => (*value).into(),
            Scalar::Text(value) => value.as_str().into(),
        };
        set(&mut map, "value", value);
        Ok(BoltType::Map(map))
    };
    metadata.into_iter().flatten().map(link).collect()
}

/// A metadata entry as a text that is equal exactly when name, type and value are: to Cypher `1`
/// and `1.0` are the same.
pub(super) fn entry(name: &str, value: &Scalar) -> Result<String, Trouble> {
    // Longer texts would make poor index entries; their digests are as good as they are.
    const LONGEST: usize = 128;
    let value = match value {
        // Adding zero makes -0.0, which equals 0.0, look like it.
        Scalar::Float(value) => Scalar::Float(value + 0.0),
        other => other.clone(),
    };
    let text = json(&(name, value), "metadata")?;
    if text.len() <= LONGEST {
        return Ok(text);
    }
    Ok(format!("sha256:{}", hex::encode(Sha256::digest(text))))
}

/// An id as it is shown everywhere; such texts sort as the ids do.
pub(super) fn id_text(id: RunId) -> String {
    id.to_string()
}

/// The items of an inbox as texts.
pub(super) fn items(inbox: &[Sealed]) -> Vec<String> {
    inbox.iter().map(|item| STANDARD_NO_PAD.encode(&item.0)).collect()
}

/// Says if that much is more than the server is given.
pub(super) fn check_size<'a>(parts: impl IntoIterator<Item = &'a Sealed>) -> Result<(), Trouble> {
    let size = parts.into_iter().map(|part| part.0.len()).sum();
    if size > Trouble::MOST_BYTES { Err(Trouble::TooLarge(size)) } else { Ok(()) }
}

/// A revision or epoch as a property.
pub(super) fn counter(value: u64) -> Result<i64, Trouble> {
    i64::try_from(value).map_err(|_| Trouble::Counter)
}

/// A number of things as a property.
pub(super) fn size(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A time, or nothing.
fn time(time: Option<Timestamp>) -> BoltType {
    time.map_or(BoltType::Null(BoltNull), |time| time.as_millis().into())
}

fn set(map: &mut BoltMap, name: &str, value: impl Into<BoltType>) {
    map.put(name.into(), value.into());
}

fn set_queue(map: &mut BoltMap, queue: Option<&Queue>) {
    set(map, "queue", queue.map_or(BoltType::Null(BoltNull), |queue| queue.0.as_str().into()));
}

fn set_lease(map: &mut BoltMap, lease: Option<&Lease>) {
    let owner = lease.map_or(BoltType::Null(BoltNull), |lease| lease.owner.as_str().into());
    set(map, "leaseOwner", owner);
    set(map, "leaseUntil", time(lease.map(|lease| lease.until)));
}

/// A value as JSON text.
pub(super) fn json<T: serde::Serialize>(value: &T, what: &'static str) -> Result<String, Trouble> {
    serde_json::to_string(value).map_err(|_| Trouble::Damaged(what))
}

/// The run of a row of [`PLAIN`].
pub(super) fn id(row: &Row) -> Option<RunId> {
    row.get::<String>("id").ok()?.parse().ok()
}

/// What was read of a record.
#[derive(Debug)]
pub(super) struct Header {
    /// The record, without its sealed parts.
    pub(super) record: Record,
    pub(super) inbox_len: usize,
    snapshot_stamp: String,
    inbox_stamp: String,
}

impl Header {
    /// Reads [`PLAIN`].
    pub(super) fn of(row: &Row) -> Result<Self, Trouble> {
        let damaged = |_| Trouble::Damaged("row");
        let flow_id: String = row.get("flowId").map_err(damaged)?;
        let fields: Vec<String> = row.get("row").map_err(damaged)?;
        let field = |place: usize| fields.get(place).map_or("", String::as_str);
        let owner = marked(field(8)).map(str::to_owned);
        let until = optional(field(9), "leaseUntil")?;
        let lease = |(owner, until)| Lease { owner, until: Timestamp::from_millis(until) };
        let record = Record {
            id: id(row).ok_or(Trouble::Damaged("id"))?,
            flow_id: flow_id.into(),
            revision: Revision(number(field(0), "revision")?),
            epoch: Epoch(number(field(1), "epoch")?),
            updated_at: Timestamp::from_millis(number(field(2), "updatedAt")?),
            attempts: number(field(3), "attempts")?,
            status: RunStatus::from_name(field(5)).ok_or(Trouble::Damaged("status"))?,
            queue: marked(field(6)).map(|queue| Queue(queue.to_owned())),
            due_at: optional(field(7), "dueAt")?.map(Timestamp::from_millis),
            lease: owner.zip(until).map(lease),
            waits: parsed(field(WAITS), "waits")?,
            metadata: parsed(field(METADATA), "metadata")?,
            snapshot: Sealed(Vec::new()),
            inbox: Vec::new(),
        };
        Ok(Self {
            record,
            inbox_len: number(field(4), "inboxSize")?,
            snapshot_stamp: field(SNAPSHOT_STAMP).to_owned(),
            inbox_stamp: field(INBOX_STAMP).to_owned(),
        })
    }

    /// Reads [`WHOLE`]; none if what was read is not of one moment.
    pub(super) fn whole(row: &Row) -> Result<Option<Record>, Trouble> {
        let Self { mut record, snapshot_stamp, inbox_stamp, .. } = Self::of(row)?;
        let snapshot: BoltType = row.get("snapshot").map_err(|_| Trouble::Damaged("snapshot"))?;
        let BoltType::Bytes(snapshot) = snapshot else { return Err(Trouble::Damaged("snapshot")) };
        let Some((stamp, snapshot)) = snapshot.value.split_at_checked(STAMP) else {
            return Err(Trouble::Damaged("snapshot"));
        };
        let inbox: Option<Vec<String>> = row.get("inbox").map_err(|_| Trouble::Damaged("inbox"))?;
        let inbox = inbox.unwrap_or_default();
        let mut inbox = inbox.iter();
        if hex::encode(stamp) != snapshot_stamp
            || inbox.next().map_or("", String::as_str) != inbox_stamp
        {
            return Ok(None);
        }
        record.snapshot = Sealed(snapshot.to_vec());
        record.inbox = inbox
            .map(|item| STANDARD_NO_PAD.decode(item).map(Sealed))
            .collect::<Result<_, _>>()
            .map_err(|_| Trouble::Damaged("inbox"))?;
        Ok(Some(record))
    }
}

fn number<T: std::str::FromStr>(text: &str, what: &'static str) -> Result<T, Trouble> {
    text.parse().map_err(|_| Trouble::Damaged(what))
}

fn optional(text: &str, what: &'static str) -> Result<Option<i64>, Trouble> {
    (!text.is_empty()).then(|| number(text, what)).transpose()
}

/// A text that may be missing, and may be empty without being so.
fn marked(text: &str) -> Option<&str> {
    text.strip_prefix('=')
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str, what: &'static str) -> Result<T, Trouble> {
    serde_json::from_str(text).map_err(|_| Trouble::Damaged(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_equal_when_names_and_values_are() {
        let values: Vec<Scalar> = vec![
            1.into(),
            1.0.into(),
            "1".into(),
            "1.0".into(),
            true.into(),
            "true".into(),
            0.0.into(),
            (-0.0).into(),
            9_007_199_254_740_992_i64.into(),
            9_007_199_254_740_993_i64.into(),
            9_007_199_254_740_992.0.into(),
            "t".repeat(200).into(),
            "t".repeat(201).into(),
        ];
        for a in &values {
            for b in &values {
                let (left, right) = (entry("n", a).unwrap(), entry("n", b).unwrap());
                assert_eq!(left == right, a == b, "{a:?} and {b:?}");
                assert_ne!(left, entry("m", b).unwrap());
                assert!(left.len() <= 128);
            }
        }
        assert_eq!(entry("approver", &"jane".into()).unwrap(), r#"["approver","jane"]"#);
    }
}
