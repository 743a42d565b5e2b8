//! Records as documents, and back.
//!
//! ```json
//! { "_id": UUID, "revision": 7, "epoch": 3, "flowId": "…", "queue": "…", "status": "waiting",
//!   "waits": [{ "id": "…", "toolId": "…", "keys": [digest], "createdAt": ms, "expiresAt": ms,
//!               "hasDefault": true }],
//!   "metadata": [{ "n": "customer", "v": "ACME" }],
//!   "updatedAt": ms, "dueAt": ms, "attempts": 0, "lease": { "owner": "…", "until": ms },
//!   "snapshot": bytes, "inbox": [bytes], "purgeAt": date,
//!   "dueHints": 1, "idleHints": 1 }
//! ```
//!
//! What is none is left out. Names of metadata are values here, so any text can be one. All
//! binaries of ids have one length and one subtype, so that they sort as their bytes do.

use std::time::Duration;

use mongodb::bson::{
    Binary, Bson, DateTime, Document, RawBsonRef, RawDocument, doc, spec::BinarySubtype,
};

use super::{hints, trouble::Trouble};
use crate::{
    clock::Timestamp,
    codec::Sealed,
    engine::RunStatus,
    id::{Epoch, KeyDigest, Revision, RunId},
    store::{Lease, Queue, Record, Summary, WaitIndex},
    wait::{Metadata, Scalar},
};

/// The last millisecond of the year 9999: what is to be purged later is not purged by a server.
const LAST_DATE: i64 = 253_402_300_799_999;

/// The fields of a [`Summary`], and how long the inbox is, for a projection. Of what is no list a
/// server gives no length, and no page either.
pub(super) fn summary_fields() -> Document {
    let is_list = doc! { "$isArray": "$inbox" };
    let length = doc! { "$cond": [is_list, { "$size": "$inbox" }, Bson::Null] };
    doc! {
        "revision": 1, "flowId": 1, "status": 1, "waits": 1, "metadata": 1, "updatedAt": 1,
        "dueAt": 1, "lease": 1, "inboxLen": length,
    }
}

pub(super) fn encode(record: &Record, purge_margin: Option<Duration>) -> Result<Document, Trouble> {
    let mut doc = doc! {
        "_id": id(record.id),
        "revision": counter(record.revision.0)?,
        "epoch": counter(record.epoch.0)?,
        "flowId": record.flow_id.as_str(),
        "status": record.status.as_str(),
        "waits": waits(&record.waits),
        "metadata": metadata(&record.metadata),
        "updatedAt": record.updated_at.as_millis(),
        "attempts": i64::from(record.attempts),
    };
    if let Some(at) = purge_at(record.status, record.queue.as_ref(), record.due_at, purge_margin) {
        doc.insert("purgeAt", at);
    }
    if let Some(queue) = &record.queue {
        doc.insert("queue", queue.0.as_str());
    }
    if let Some(at) = record.due_at {
        doc.insert("dueAt", at.as_millis());
    }
    if let Some(held) = &record.lease {
        doc.insert("lease", lease(held));
    }
    for hint in record.hints() {
        doc.insert(hints::field(hint), 1_i64);
    }
    doc.insert("snapshot", sealed(&record.snapshot));
    doc.insert("inbox", inbox(&record.inbox));
    Ok(doc)
}

/// When the server may remove a record by itself: only one that ended, some time after a worker
/// should have purged it.
pub(super) fn purge_at(
    status: RunStatus,
    queue: Option<&Queue>,
    due_at: Option<Timestamp>,
    margin: Option<Duration>,
) -> Option<DateTime> {
    if !status.is_final() || *queue? != Queue::purge() {
        return None;
    }
    date_after(due_at?, margin?)
}

/// The date that much later; none if no calendar has it.
pub(super) fn date_after(due_at: Timestamp, margin: Duration) -> Option<DateTime> {
    let at = due_at.after(margin).as_millis();
    (at <= LAST_DATE).then(|| DateTime::from_millis(at))
}

/// What holds of a counter that can go up: a server would go on with a rounded number.
pub(super) fn below_end() -> Document {
    doc! { "$lt": i64::MAX }
}

pub(super) fn id(id: RunId) -> Bson {
    binary(BinarySubtype::Uuid, id.as_bytes().to_vec())
}

pub(super) fn sealed(sealed: &Sealed) -> Bson {
    binary(BinarySubtype::Generic, sealed.0.clone())
}

pub(super) fn inbox(items: &[Sealed]) -> Vec<Bson> {
    items.iter().map(sealed).collect()
}

pub(super) fn lease(lease: &Lease) -> Document {
    doc! { "owner": &lease.owner, "until": lease.until.as_millis() }
}

pub(super) fn metadata(metadata: &Metadata) -> Vec<Bson> {
    metadata.iter().map(|(name, value)| doc! { "n": name, "v": scalar(value) }.into()).collect()
}

pub(super) fn scalar(value: &Scalar) -> Bson {
    match value {
        Scalar::Bool(value) => Bson::Boolean(*value),
        Scalar::Int(value) => Bson::Int64(*value),
        Scalar::Float(value) => Bson::Double(*value),
        Scalar::Text(text) => Bson::String(text.clone()),
    }
}

pub(super) fn waits(waits: &[WaitIndex]) -> Vec<Bson> {
    let wait = |wait: &WaitIndex| {
        let key =
            |key: &KeyDigest| binary(BinarySubtype::Generic, key.as_bytes().as_slice().to_vec());
        let mut doc = doc! {
            "id": wait.id.as_str(),
            "toolId": wait.tool_id.as_str(),
            "keys": wait.keys.iter().map(key).collect::<Vec<_>>(),
            "createdAt": wait.created_at.as_millis(),
            "hasDefault": wait.has_default,
        };
        if let Some(at) = wait.expires_at {
            doc.insert("expiresAt", at.as_millis());
        }
        doc.into()
    };
    waits.iter().map(wait).collect()
}

/// A revision or epoch as a field.
pub(super) fn counter(value: u64) -> Result<i64, Trouble> {
    i64::try_from(value).map_err(|_| Trouble::Counter)
}

fn binary(subtype: BinarySubtype, bytes: Vec<u8>) -> Bson {
    Bson::Binary(Binary { subtype, bytes })
}

/// Reads what [`encode`] wrote.
pub(super) fn decode(doc: &RawDocument) -> Result<Record, Trouble> {
    let Summary {
        id, revision, flow_id, status, waits, metadata, updated_at, due_at, lease, ..
    } = read_plain(doc)?;
    let attempts = int(doc, "attempts")?;
    Ok(Record {
        id,
        revision,
        epoch: Epoch(natural(doc, "epoch")?),
        flow_id,
        queue: optional(doc, "queue", |value| Some(Queue(value.as_str()?.to_owned())))?,
        status,
        waits,
        metadata,
        updated_at,
        due_at,
        attempts: u32::try_from(attempts).map_err(|_| Trouble::Damaged("attempts"))?,
        lease,
        snapshot: required(doc, "snapshot", read_sealed)?,
        inbox: list(doc, "inbox", read_sealed)?,
    })
}

/// Reads the fields of [`summary_fields`].
pub(super) fn decode_summary(doc: &RawDocument) -> Result<Summary, Trouble> {
    let length = natural(doc, "inboxLen").map(usize::try_from);
    let Ok(Ok(inbox_len)) = length else { return Err(Trouble::Damaged("inbox")) };
    Ok(Summary { inbox_len, ..read_plain(doc)? })
}

/// All of a summary but the length of the inbox.
fn read_plain(doc: &RawDocument) -> Result<Summary, Trouble> {
    let status = required(doc, "status", |value| RunStatus::from_name(value.as_str()?))?;
    let metadata = list(doc, "metadata", |entry| {
        let entry = entry.as_document()?;
        Some((entry.get_str("n").ok()?.to_owned(), read_scalar(entry.get("v").ok()??)?))
    })?;
    Ok(Summary {
        id: required(doc, "_id", read_id)?,
        revision: Revision(natural(doc, "revision")?),
        flow_id: required(doc, "flowId", |value| Some(value.as_str()?.into()))?,
        status,
        waits: list(doc, "waits", |wait| read_wait(wait.as_document()?))?,
        metadata: metadata.into_iter().collect(),
        updated_at: Timestamp::from_millis(int(doc, "updatedAt")?),
        due_at: optional(doc, "dueAt", read_time)?,
        lease: optional(doc, "lease", |lease| {
            let lease = lease.as_document()?;
            let owner = lease.get_str("owner").ok()?.to_owned();
            Some(Lease { owner, until: read_time(lease.get("until").ok()??)? })
        })?,
        inbox_len: 0,
    })
}

fn read_wait(doc: &RawDocument) -> Option<WaitIndex> {
    let keys = doc.get_array("keys").ok()?.into_iter().map(|key| {
        let bytes = key.ok()?.as_binary()?.bytes;
        Some(KeyDigest::from_bytes(bytes.try_into().ok()?))
    });
    Some(WaitIndex {
        id: doc.get_str("id").ok()?.into(),
        tool_id: doc.get_str("toolId").ok()?.into(),
        keys: keys.collect::<Option<_>>()?,
        created_at: read_time(doc.get("createdAt").ok()??)?,
        expires_at: match doc.get("expiresAt").ok()? {
            Some(value) => Some(read_time(value)?),
            None => None,
        },
        has_default: doc.get_bool("hasDefault").ok()?,
    })
}

pub(super) fn read_id(value: RawBsonRef<'_>) -> Option<RunId> {
    Some(RunId::from_bytes(value.as_binary()?.bytes.try_into().ok()?))
}

fn read_sealed(value: RawBsonRef<'_>) -> Option<Sealed> {
    Some(Sealed(value.as_binary()?.bytes.to_vec()))
}

fn read_scalar(value: RawBsonRef<'_>) -> Option<Scalar> {
    match value {
        RawBsonRef::Boolean(value) => Some(Scalar::Bool(value)),
        RawBsonRef::Int64(value) => Some(Scalar::Int(value)),
        RawBsonRef::Double(value) => Some(Scalar::Float(value)),
        RawBsonRef::String(text) => Some(Scalar::Text(text.to_owned())),
        _ => None,
    }
}

fn read_time(value: RawBsonRef<'_>) -> Option<Timestamp> {
    read_int(value).map(Timestamp::from_millis)
}

/// Whole numbers are written with 64 bits; what a server computes may have fewer.
fn read_int(value: RawBsonRef<'_>) -> Option<i64> {
    value.as_i64().or_else(|| value.as_i32().map(i64::from))
}

pub(super) fn int(doc: &RawDocument, field: &'static str) -> Result<i64, Trouble> {
    required(doc, field, read_int)
}

pub(super) fn natural(doc: &RawDocument, field: &'static str) -> Result<u64, Trouble> {
    u64::try_from(int(doc, field)?).map_err(|_| Trouble::Damaged(field))
}

pub(super) fn required<T>(
    doc: &RawDocument,
    field: &'static str,
    read: impl FnOnce(RawBsonRef<'_>) -> Option<T>,
) -> Result<T, Trouble> {
    optional(doc, field, read)?.ok_or(Trouble::Damaged(field))
}

fn optional<T>(
    doc: &RawDocument,
    field: &'static str,
    read: impl FnOnce(RawBsonRef<'_>) -> Option<T>,
) -> Result<Option<T>, Trouble> {
    match doc.get(field).map_err(|_| Trouble::Damaged(field))? {
        None => Ok(None),
        Some(value) => read(value).map(Some).ok_or(Trouble::Damaged(field)),
    }
}

fn list<T>(
    doc: &RawDocument,
    field: &'static str,
    mut read: impl FnMut(RawBsonRef<'_>) -> Option<T>,
) -> Result<Vec<T>, Trouble> {
    required(doc, field, |value| {
        value.as_array()?.into_iter().map(|item| read(item.ok()?)).collect()
    })
}
