//! Pages of queries: what is listed of a run, and what is said of a record that does not read back.

use serde::{Deserialize, Serialize};

use super::{Lease, Record, WaitIndex};
use crate::{
    Result,
    clock::Timestamp,
    engine::RunStatus,
    id::{FlowId, Revision, RunId},
    wait::Metadata,
};

/// Where a page of a query ended: the next one has the runs before this one, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub RunId);

/// A page of a query: records without their sealed parts.
///
/// A record that does not read back takes its place among the others, so that it hides none of them,
/// and counts as one of the page.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The runs, newest first.
    pub items: Vec<Listed>,
    /// Where the next page starts; none if there is nothing more.
    pub next: Option<Cursor>,
}

/// What is listed of a run.
pub type Listed = Result<Summary, Unreadable>;

impl Page {
    /// Those whose records read back.
    pub fn readable(&self) -> impl Iterator<Item = &Summary> {
        self.items.iter().filter_map(|listed| listed.as_ref().ok())
    }

    /// Those whose records do not.
    pub fn unreadable(&self) -> impl Iterator<Item = &Unreadable> {
        self.items.iter().filter_map(|listed| listed.as_ref().err())
    }

    /// Cuts what matches a query, newest first, to a page; `next` is set where there is more.
    pub fn of(mut found: impl Iterator<Item = Listed>, limit: usize) -> Self {
        let items: Vec<_> = found.by_ref().take(limit).collect();
        let next = found.next().and_then(|_| items.last()).map(|last| Cursor(id_of(last)));
        Self { items, next }
    }
}

/// The run that is listed, whether its record reads back or not.
pub(crate) fn id_of(listed: &Listed) -> RunId {
    match listed {
        Ok(summary) => summary.id,
        Err(unreadable) => unreadable.id,
    }
}

/// A record without its sealed parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The run.
    pub id: RunId,
    /// Its record's revision.
    pub revision: Revision,
    /// Its flow.
    pub flow_id: FlowId,
    /// What it is doing.
    pub status: RunStatus,
    /// Its open waits.
    pub waits: Vec<WaitIndex>,
    /// Its plain metadata.
    pub metadata: Metadata,
    /// When it was written last.
    pub updated_at: Timestamp,
    /// When a worker should look at it.
    pub due_at: Option<Timestamp>,
    /// Who drives it, if somebody does.
    pub lease: Option<Lease>,
    /// How much was accepted and is not worked in yet.
    pub inbox_len: usize,
}

impl Summary {
    /// Whether somebody drives it, as far as its lease says.
    pub fn is_held(&self, now: Timestamp) -> bool {
        super::is_good(self.lease.as_ref(), now)
    }
}

impl From<&Record> for Summary {
    fn from(record: &Record) -> Self {
        Self {
            id: record.id,
            revision: record.revision,
            flow_id: record.flow_id.clone(),
            status: record.status,
            waits: record.waits.clone(),
            metadata: record.metadata.clone(),
            updated_at: record.updated_at,
            due_at: record.due_at,
            lease: record.lease.clone(),
            inbox_len: record.inbox.len(),
        }
    }
}

/// A record that does not read back: a disk, or somebody else than a store, has changed it.
///
/// Nothing removes it, for nobody knows what it was: an operator puts it back from a backup, or
/// removes it where it is. `Display` is one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason} (run {id}, in {place})")]
pub struct Unreadable {
    /// The run.
    pub id: RunId,
    /// Where the record is, for who mends it: a file, a row, a key. Without credentials.
    pub place: String,
    /// What is wrong with it and what to do, in one line. Nothing of the record is told.
    pub reason: String,
}

impl Unreadable {
    /// A record in which something does not read back, as `what` says.
    #[cfg(any(feature = "sqlite", feature = "_server"))]
    pub(crate) fn new(id: RunId, place: String, what: impl std::fmt::Display) -> Self {
        let reason = format!("{what}; restore the record from a backup, or remove it");
        Self { id, place, reason }
    }
}
