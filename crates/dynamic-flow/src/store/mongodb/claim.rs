//! Gives due runs to a claimer: finds candidates in the index, and takes them one by one.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mongodb::{
    bson::{Document, RawDocument, RawDocumentBuf, doc},
    options::{ReadConcern, ReturnDocument},
};

use super::{
    connection::Connection,
    document::{counter, decode, id, int, lease, natural, purge_at, read_id, required},
    trouble::Trouble,
};
use crate::{
    engine::RunStatus,
    id::RunId,
    store::{Claim, Lease, Queue, Record},
};

/// How many are taken at the same time.
const TOGETHER: usize = 8;
/// How many are given at the most: more would be leased for longer than it takes to take them.
const MOST: usize = 1000;

pub(super) async fn claim(connection: &Connection, claim: &Claim) -> Result<Vec<Record>, Trouble> {
    let limit = claim.limit.min(MOST);
    let mut given = Vec::new();
    if claim.queues.is_empty() {
        return Ok(given);
    }
    while given.len() < limit {
        let found = match candidates(connection, claim, limit - given.len()).await {
            Ok(found) => found,
            Err(trouble) => return given_or(given, trouble),
        };
        let mut taken =
            stream::iter(found).map(|it| take(connection, claim, it)).buffered(TOGETHER);
        let mut lost = false;
        let mut failed = None;
        while let Some(result) = taken.next().await {
            match result {
                Ok(Some(record)) => given.push(record),
                Ok(None) => lost = true,
                Err(trouble) => failed = Some(trouble),
            }
        }
        if let Some(trouble) = failed {
            return given_or(given, trouble);
        }
        // What somebody else took may have been in front of others that are free.
        if !lost {
            break;
        }
    }
    Ok(given)
}

/// What was taken is the claimer's already; what is wrong is met again by the next call.
fn given_or(given: Vec<Record>, trouble: Trouble) -> Result<Vec<Record>, Trouble> {
    if given.is_empty() { Err(trouble) } else { Ok(given) }
}

/// What is needed to take a run.
struct Candidate {
    id: RunId,
    revision: u64,
    epoch: u64,
    attempts: i64,
    status: RunStatus,
    queue: Queue,
}

impl Candidate {
    fn read(doc: &RawDocument) -> Result<Self, Trouble> {
        Ok(Self {
            id: required(doc, "_id", read_id)?,
            revision: natural(doc, "revision")?,
            epoch: natural(doc, "epoch")?,
            attempts: int(doc, "attempts")?,
            status: required(doc, "status", |value| RunStatus::from_name(value.as_str()?))?,
            queue: required(doc, "queue", |value| Some(Queue(value.as_str()?.to_owned())))?,
        })
    }
}

/// Those that are due and free, due for longest first.
async fn candidates(
    connection: &Connection,
    claim: &Claim,
    limit: usize,
) -> Result<Vec<Candidate>, Trouble> {
    let queues: Vec<_> = claim.queues.iter().map(|queue| queue.0.as_str()).collect();
    let mut filter = free(claim);
    filter.insert("queue", doc! { "$in": queues });
    let fields = doc! { "revision": 1, "epoch": 1, "attempts": 1, "status": 1, "queue": 1 };
    let found = connection
        .records
        .find(filter)
        .sort(doc! { "dueAt": 1 })
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .projection(fields)
        // Whether a candidate is still one, the write finds out.
        .read_concern(ReadConcern::local())
        .max_time(connection.timeout)
        .await?;
    let found: Vec<RawDocumentBuf> = found.try_collect().await?;
    found.iter().map(|doc| Candidate::read(doc)).collect()
}

/// What holds of a run that is due and that nobody drives.
fn free(claim: &Claim) -> Document {
    let now = claim.now.as_millis();
    doc! { "dueAt": { "$lte": now }, "lease.until": { "$not": { "$gt": now } } }
}

/// Gives one run to the claimer, unless somebody else was faster.
async fn take(
    connection: &Connection,
    claim: &Claim,
    found: Candidate,
) -> Result<Option<Record>, Trouble> {
    let mut filter = free(claim);
    filter.insert("_id", id(found.id));
    filter.insert("revision", counter(found.revision)?);
    let until = claim.until();
    let status = if found.status.is_final() { found.status } else { RunStatus::Running };
    let purge = purge_at(status, Some(&found.queue), Some(until), connection.purge_margin);
    let held = Lease { owner: claim.owner.clone(), until };
    let mut set = doc! {
        "revision": counter(found.revision.saturating_add(1))?,
        "epoch": counter(found.epoch.saturating_add(1))?,
        "updatedAt": claim.now.as_millis(),
        "dueAt": until.as_millis(),
        "attempts": found.attempts.saturating_add(1).min(u32::MAX.into()),
        "lease": lease(&held),
        "status": status.as_str(),
    };
    let mut update = Document::new();
    match purge {
        Some(at) => drop(set.insert("purgeAt", at)),
        None => drop(update.insert("$unset", doc! { "purgeAt": "" })),
    }
    update.insert("$set", set);
    let taken = connection
        .records
        .find_one_and_update(filter, update)
        .return_document(ReturnDocument::After)
        .await?;
    taken.map(|doc| decode(&doc)).transpose()
}
