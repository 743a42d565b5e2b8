//! Gives due runs to a claimer: finds them in the index, and takes each in one atomic step.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mongodb::{
    bson::{Bson, Document, RawDocumentBuf, doc},
    options::{ReadConcern, ReturnDocument},
};

use super::{
    connection::Connection,
    document::{below_end, date_after, decode, id, lease, read_id, required},
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
    if claim.queues.is_empty() || limit == 0 {
        return Ok(given);
    }
    let taking =
        Taking { connection, free: free(claim), update: update(claim, connection.purge_margin) };
    match taking.take_up_to(limit, &mut given).await {
        // What was taken is the claimer's already; what is wrong is met again by the next call.
        Err(trouble) if given.is_empty() => Err(trouble),
        _ => Ok(given),
    }
}

struct Taking<'a> {
    connection: &'a Connection,
    /// What holds of a run that the claimer may have.
    free: Document,
    /// What gives it to the claimer.
    update: Vec<Document>,
}

impl Taking<'_> {
    async fn take_up_to(&self, limit: usize, given: &mut Vec<Record>) -> Result<(), Trouble> {
        let found = self.find(limit).await?;
        let mut taken = stream::iter(found).map(|id| self.take(id)).buffered(TOGETHER);
        let mut lost = false;
        let mut failed = None;
        // All that were begun are brought to their end: what is taken must be given.
        while let Some(result) = taken.next().await {
            match result {
                Ok(Some(record)) => given.push(record),
                Ok(None) => lost = true,
                Err(trouble) => failed = Some(trouble),
            }
        }
        if let Some(trouble) = failed {
            return Err(trouble);
        }
        // Where others take at the same time, all would look for the same ones again and again:
        // the server finds each its own.
        while lost && given.len() < limit {
            match self.take_any().await? {
                Some(record) => given.push(record),
                None => lost = false,
            }
        }
        Ok(())
    }

    /// Those that are due and free, due for longest first.
    async fn find(&self, limit: usize) -> Result<Vec<RunId>, Trouble> {
        let found = self
            .connection
            .records
            .find(self.free.clone())
            .sort(doc! { "dueAt": 1 })
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .projection(doc! { "_id": 1 })
            // Whether it is still free, the write finds out.
            .read_concern(ReadConcern::local())
            .max_time(self.connection.timeout)
            .await?;
        let found: Vec<RawDocumentBuf> = found.try_collect().await?;
        found.iter().map(|doc| required(doc, "_id", read_id)).collect()
    }

    /// Takes that run, unless somebody else was faster.
    async fn take(&self, run: RunId) -> Result<Option<Record>, Trouble> {
        let mut filter = self.free.clone();
        filter.insert("_id", id(run));
        self.take_first(filter).await
    }

    /// Takes the one that has been due for longest, if there is one.
    async fn take_any(&self) -> Result<Option<Record>, Trouble> {
        self.take_first(self.free.clone()).await
    }

    async fn take_first(&self, filter: Document) -> Result<Option<Record>, Trouble> {
        let taken = self
            .connection
            .records
            .find_one_and_update(filter, self.update.clone())
            .sort(doc! { "dueAt": 1 })
            .return_document(ReturnDocument::After)
            .await?;
        taken.map(|doc| decode(&doc)).transpose()
    }
}

/// What holds of a run that is due in one of the queues, and that nobody drives.
fn free(claim: &Claim) -> Document {
    let now = claim.now.as_millis();
    let queues: Vec<_> = claim.queues.iter().map(|queue| queue.0.as_str()).collect();
    let except: Vec<_> = claim.except.iter().map(|run| id(*run)).collect();
    let mut free = doc! {
        "queue": { "$in": queues },
        "dueAt": { "$lte": now },
        "lease.until": { "$not": { "$gt": now } },
        "revision": below_end(),
        "epoch": below_end(),
    };
    if !except.is_empty() {
        free.insert("_id", doc! { "$nin": except });
    }
    free
}

/// What [`Claim::apply`] does to a record in memory.
fn update(claim: &Claim, margin: Option<Duration>) -> Vec<Document> {
    let until = claim.until();
    let finals = RunStatus::ALL.into_iter().filter(|status| status.is_final());
    let finals: Vec<_> = finals.map(RunStatus::as_str).collect();
    let ended = doc! { "$in": ["$status", finals] };
    let status = doc! { "$cond": [&ended, "$status", RunStatus::Running.as_str()] };
    let purged = doc! { "$eq": ["$queue", Queue::purge().0] };
    let date =
        margin.and_then(|margin| date_after(until, margin)).map_or_else(removed, Bson::DateTime);
    let purge_at = doc! { "$cond": [{ "$and": [ended, purged] }, date, removed()] };
    let next = |field| doc! { "$add": [field, 1_i64] };
    let attempts = doc! { "$min": [next("$attempts"), i64::from(u32::MAX)] };
    let held = Lease { owner: claim.owner.clone(), until };
    vec![doc! { "$set": {
        "revision": next("$revision"),
        "epoch": next("$epoch"),
        "updatedAt": claim.now.as_millis(),
        "dueAt": until.as_millis(),
        "attempts": attempts,
        "lease": { "$literal": lease(&held) },
        "status": status,
        "purgeAt": purge_at,
    } }]
}

/// What removes a field in a pipeline.
fn removed() -> Bson {
    "$$REMOVE".into()
}
