//! The store: one small trait, atomic on one record.

mod check;
#[cfg(feature = "file")]
mod file;
mod filter;
mod hints;
mod memory;
#[cfg(feature = "mongodb")]
mod mongodb;
#[cfg(feature = "neo4j")]
mod neo4j;
mod open;
mod page;
#[cfg(any(feature = "file", feature = "sqlite"))]
mod place;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "_server")]
mod server;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::{collections::BTreeSet, fmt, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    clock::Timestamp,
    codec::Sealed,
    engine::RunStatus,
    id::{Epoch, FlowId, KeyDigest, Revision, RunId, ToolId, WaitId},
    wait::Metadata,
};

#[cfg(feature = "file")]
pub use self::file::{FileStore, Rebuilt};
#[cfg(feature = "mongodb")]
pub use self::mongodb::{MongodbConfig, MongodbStore};
#[cfg(feature = "neo4j")]
pub use self::neo4j::{Neo4jConfig, Neo4jStore};
#[cfg(any(feature = "file", feature = "sqlite", feature = "redis", feature = "testkit"))]
pub(crate) use self::page::id_of;
#[cfg(feature = "postgres")]
pub use self::postgres::{PostgresConfig, PostgresStore, SslMode};
#[cfg(feature = "redis")]
pub use self::redis::{RedisConfig, RedisStore};
#[cfg(feature = "_server")]
pub use self::server::{CONNECT_TIMEOUT, OPERATION_TIMEOUT, Secret, location};
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
pub use self::{
    check::MAX_COUNTER,
    filter::Filter,
    hints::{Hint, Hinter, Hints},
    memory::MemoryStore,
    open::{DEFAULT_STORE, STORE_VARIABLE, compiled_in, open, open_from_env},
    page::{Cursor, Listed, Page, Summary, Unreadable},
};
/// What a store must have room for, in bytes and entries.
pub use crate::{
    id::MAX_ID_BYTES,
    metadata::{MAX_METADATA_ENTRIES, MAX_METADATA_NAME_BYTES, MAX_METADATA_TEXT_BYTES},
};

/// What a store holds for a run: sealed state, and the few plain columns that queries need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The run. Its creation time is [`RunId::created_at`]: ids sort by it.
    pub id: RunId,
    /// Changes with every write, but for [`Store::renew`]; what an update is conditional on.
    pub revision: Revision,
    /// Changes only when the holder of the lease does, and never goes back.
    pub epoch: Epoch,
    /// The run's flow.
    pub flow_id: FlowId,
    /// Which workers may claim the run when it is due; none if no worker may.
    pub queue: Option<Queue>,
    /// What the run is doing.
    pub status: RunStatus,
    /// An index of its open waits.
    pub waits: Vec<WaitIndex>,
    /// Plain and filterable; everything else is sealed.
    pub metadata: Metadata,
    /// When it was written last.
    pub updated_at: Timestamp,
    /// When a worker should look at it: its earliest timer, or the end of its lease; none if never.
    pub due_at: Option<Timestamp>,
    /// How often it was claimed since it last made progress.
    pub attempts: u32,
    /// Who drives it, if somebody does.
    pub lease: Option<Lease>,
    /// The sealed snapshot.
    pub snapshot: Sealed,
    /// What was accepted and is not in the snapshot yet, oldest first, each sealed.
    pub inbox: Vec<Sealed>,
}

impl Record {
    /// Whether somebody drives it, as far as its lease says.
    pub fn is_held(&self, now: Timestamp) -> bool {
        is_good(self.lease.as_ref(), now)
    }
}

/// What queries and acceptance need of an open wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitIndex {
    /// The wait.
    pub id: WaitId,
    /// The tool that asks.
    pub tool_id: ToolId,
    /// Digests of the keys that may answer it.
    pub keys: Vec<KeyDigest>,
    /// When it was opened.
    pub created_at: Timestamp,
    /// Its deadline, if it has one.
    pub expires_at: Option<Timestamp>,
    /// Whether a default answers it after its deadline.
    pub has_default: bool,
}

impl WaitIndex {
    /// Whether its deadline has passed.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// The right to write a run's snapshot, for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who holds it: a name for people, unique to a hub.
    pub owner: String,
    /// When it lapses unless it is renewed.
    pub until: Timestamp,
}

fn is_good(lease: Option<&Lease>, now: Timestamp) -> bool {
    lease.is_some_and(|lease| lease.until > now)
}

/// A name under which due runs are offered to workers. Flow ids have no `@`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Queue(pub String);

impl Queue {
    /// The queue of the runs of a flow in code: only who has the code may claim them.
    pub fn of_flow(id: &FlowId) -> Self {
        Self(id.to_string())
    }

    /// The queue of the runs that carry their document: anybody may claim them.
    pub fn documents() -> Self {
        Self("@documents".into())
    }

    /// The queue of ended runs, which are due when their retention is over.
    pub fn purge() -> Self {
        Self("@purge".into())
    }

    /// The queue of states that were suspended without a flow.
    pub fn states() -> Self {
        Self("@states".into())
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What a conditional write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The record as it was read.
    Revision(Revision),
    /// Any record of that id.
    Any,
}

impl Expect {
    /// Whether a record of that revision is what is expected.
    pub fn admits(self, revision: Revision) -> bool {
        match self {
            Self::Revision(expected) => expected == revision,
            Self::Any => true,
        }
    }
}

/// A write of a record: what is `None` stays as it is. The revision goes up by one.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// When it is written.
    pub updated_at: Timestamp,
    /// A new epoch; only ever a later one.
    pub epoch: Option<Epoch>,
    /// A new queue, or none.
    pub queue: Option<Option<Queue>>,
    /// A new status.
    pub status: Option<RunStatus>,
    /// A new index of open waits, whole.
    pub waits: Option<Vec<WaitIndex>>,
    /// New metadata, whole.
    pub metadata: Option<Metadata>,
    /// A new due time, or none.
    pub due_at: Option<Option<Timestamp>>,
    /// A new count of claims.
    pub attempts: Option<u32>,
    /// A new lease, or none.
    pub lease: Option<Option<Lease>>,
    /// A new snapshot.
    pub snapshot: Option<Sealed>,
    /// How many of the oldest items leave the inbox.
    pub inbox_drop: usize,
    /// What is appended to the inbox after that.
    pub inbox_push: Vec<Sealed>,
    /// A new inbox, whole, in place of both (when everything is sealed anew).
    pub inbox: Option<Vec<Sealed>>,
}

impl Change {
    /// A write that changes nothing but the revision and the time.
    pub fn at(updated_at: Timestamp) -> Self {
        Self {
            updated_at,
            epoch: None,
            queue: None,
            status: None,
            waits: None,
            metadata: None,
            due_at: None,
            attempts: None,
            lease: None,
            snapshot: None,
            inbox_drop: 0,
            inbox_push: Vec::new(),
            inbox: None,
        }
    }

    /// Makes the change to a record in memory: what every store must come to.
    pub fn apply(self, record: &mut Record) {
        record.revision = record.revision.next();
        record.updated_at = self.updated_at;
        if let Some(epoch) = self.epoch {
            record.epoch = epoch;
        }
        if let Some(queue) = self.queue {
            record.queue = queue;
        }
        if let Some(status) = self.status {
            record.status = status;
        }
        if let Some(waits) = self.waits {
            record.waits = waits;
        }
        if let Some(metadata) = self.metadata {
            record.metadata = metadata;
        }
        if let Some(due_at) = self.due_at {
            record.due_at = due_at;
        }
        if let Some(attempts) = self.attempts {
            record.attempts = attempts;
        }
        if let Some(lease) = self.lease {
            record.lease = lease;
        }
        if let Some(snapshot) = self.snapshot {
            record.snapshot = snapshot;
        }
        if let Some(inbox) = self.inbox {
            record.inbox = inbox;
        } else {
            record.inbox.drain(..self.inbox_drop.min(record.inbox.len()));
            record.inbox.extend(self.inbox_push);
        }
    }
}

/// What a claim asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The time by the claimer's clock; a store never asks its own.
    pub now: Timestamp,
    /// From which queues.
    pub queues: Vec<Queue>,
    /// Who claims.
    pub owner: String,
    /// For how long the lease is given, from `now`.
    pub lease: Duration,
    /// How many at the most.
    pub limit: usize,
    /// Runs that the claimer can't go on with: they are left to others, and take no place of those
    /// that it can. A hub names a thousand at the most.
    pub except: BTreeSet<RunId>,
}

impl Claim {
    /// Whether a record may be given to the claimer.
    pub fn admits(&self, record: &Record) -> bool {
        record.due_at.is_some_and(|at| at <= self.now)
            && record.queue.as_ref().is_some_and(|queue| self.queues.contains(queue))
            && !record.is_held(self.now)
            && !self.except.contains(&record.id)
            // There is no next one: it would fail the claim for all others.
            && record.revision.0.max(record.epoch.0) < MAX_COUNTER
    }

    /// When a lease given by this claim ends.
    pub fn until(&self) -> Timestamp {
        self.now.after(self.lease)
    }

    /// Gives a record in memory to the claimer: what every store must come to.
    pub fn apply(&self, record: &mut Record) {
        record.revision = record.revision.next();
        record.epoch = record.epoch.next();
        record.updated_at = self.now;
        record.due_at = Some(self.until());
        record.attempts = record.attempts.saturating_add(1);
        record.lease = Some(Lease { owner: self.owner.clone(), until: self.until() });
        if !record.status.is_final() {
            record.status = RunStatus::Running;
        }
    }
}

/// How a store is, in plain words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Which kind of store it is: `file`, `sqlite`, …
    pub backend: String,
    /// Where it is, without credentials.
    pub location: String,
    /// How long one round trip took.
    pub latency: Duration,
    /// Whether what was acknowledged survives a power failure, as far as the store can tell.
    pub durable: bool,
    /// What an operator should mend or know, each a sentence: it ends with a period, and begins
    /// with a capital letter or the name of a setting.
    pub warnings: Vec<String>,
    /// Why nothing can be written, where a write was tried and failed, and what to do; as a warning
    /// is.
    pub problem: Option<String>,
}

impl Health {
    /// A store of that kind that answers, and keeps nothing for sure; its other fields are set
    /// afterwards.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use dynamic_flow::store::Health;
    ///
    /// let mut health = Health::new("ours", "host-7:4321", Duration::from_millis(2));
    /// health.durable = true;
    /// assert!(health.warnings.is_empty() && health.problem.is_none());
    /// ```
    pub fn new(backend: impl Into<String>, location: impl Into<String>, latency: Duration) -> Self {
        let (backend, location) = (backend.into(), location.into());
        Self { backend, location, latency, durable: false, warnings: Vec::new(), problem: None }
    }
}

/// Whether a warning of [`Health`] is a sentence.
#[cfg(all(test, feature = "_server"))]
pub(crate) fn is_sentence(warning: &str) -> bool {
    let first = warning.split([' ', ':']).next().unwrap_or_default();
    let is_setting = first.contains(['_', '-', '.'])
        || ["fsync", "appendfsync", "appendonly", "autovacuum", "maxmemory"].contains(&first);
    let begins = is_setting || first.starts_with(|c: char| c.is_uppercase());
    begins && warning.ends_with(['.', '?'])
}

/// Where runs are kept while nobody works on them.
///
/// All logic is in the hub; a store has to be atomic on one record, and durable: when a call
/// that writes has returned `Ok`, what it wrote survives kill -9 and, set up as
/// [`Store::health`] asks for, a power failure. When it has returned `Err` of any kind but
/// `Conflict` and `AlreadyExists`, the write happened as a whole or not at all.
///
/// A future that is dropped leaves the write done or not done, never half.
///
/// The suite in `testkit::conformance` checks all that is promised here.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Makes what the store needs (folders, tables, indexes) where it is missing.
    ///
    /// Idempotent; safe when many processes do it at once. Every other call may rely on it.
    async fn provision(&self) -> Result<()>;

    /// Whether anything is there that [`Store::provision`] makes, or that stands in its place: which
    /// of both it is, and whether all is there, `provision` finds out.
    ///
    /// Makes nothing, so that who mistyped the name of a store can be told so, and is not given a
    /// new one without runs. A store that can't tell says yes.
    async fn exists(&self) -> Result<bool> {
        Ok(true)
    }

    /// Adds a record with the revision that it has.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one of that id, which then stays as it is; `InvalidArgument`
    /// as [`Record::check`] says.
    async fn insert(&self, record: Record) -> Result<()>;

    /// Reads a record: the last that was written, as a whole.
    async fn get(&self, id: RunId) -> Result<Option<Record>>;

    /// Changes a record if it is what is expected; gives the new revision.
    ///
    /// Atomic: of any number of updates that expect the same revision, one succeeds.
    ///
    /// # Errors
    /// `Conflict` if the record is not what is expected, or is not there; `InvalidArgument` as
    /// [`Change::check`] says; nothing is changed. This and all other refusals of one record name
    /// it, with [`Error::with_run`](crate::Error::with_run).
    async fn update(&self, id: RunId, expect: Expect, change: Change) -> Result<Revision>;

    /// Removes a record if it is what is expected. Nothing written later brings it back.
    ///
    /// # Errors
    /// `Conflict` if the record is not what is expected, or is not there; nothing is changed.
    async fn delete(&self, id: RunId, expect: Expect) -> Result<()>;

    /// Gives the caller runs that are due: `due_at <= now`, in one of the queues, with no lease or
    /// one whose `until <= now`; those that have been due for longest first.
    ///
    /// Each that is given has, atomically, a new lease of the caller until `now + lease`, which is
    /// its new `due_at` too, the next epoch, the next revision, `attempts` one higher, `now` as
    /// `updated_at`, and the status `Running` unless its status is final: see [`Claim::apply`]. No
    /// two callers get the same run, and one that is leased keeps none that is free from being
    /// given. Never reads all records.
    async fn claim(&self, claim: Claim) -> Result<Vec<Record>>;

    /// Moves the end of a lease, and with it `due_at`, if the record's epoch is still that one and
    /// it has a lease. Rewrites no state, and changes neither revision nor `updated_at`.
    ///
    /// It is made from a thread of its own, and gets on while every other thread that has called
    /// the store is blocked, as by a tool.
    ///
    /// # Errors
    /// `Conflict` if somebody else holds the lease now, nobody does, or the record is not there.
    async fn renew(&self, id: RunId, epoch: Epoch, until: Timestamp) -> Result<()>;

    /// Lists the runs that match, newest first, those before `after` in that order.
    ///
    /// A run that exists all the time while pages are turned is listed once. A page that is not
    /// the last one is full, and the last one says so: `next` is none.
    ///
    /// A record that does not read back keeps nobody from the others: it is listed in its place, as
    /// [`Unreadable`]. Each is where there are no criteria, or only those of creation times, which
    /// are times of ids. Others can't be held against it: it is listed where an index leads to it.
    ///
    /// # Errors
    /// `InvalidArgument` as [`Filter::check`] says, of a limit of 0 among others. Any other is good,
    /// up to `usize::MAX`.
    async fn query(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page>;

    /// Says how the store is, and whether it is set up to be durable; if not, a warning says why.
    ///
    /// Makes nothing that is not there. Of a store that was not made yet, some tell how what it would be
    /// made on is: those on servers do, once the database is there.
    async fn health(&self) -> Result<Health>;

    /// Subscribes to hints that somebody, in any process, wrote what others wait for: what
    /// [`Record::hints`] and [`Change::hints`] say, when the write is done. None if the store can't
    /// tell; hubs look from time to time either way.
    fn hints(&self, to: Hint) -> Option<Hints> {
        let _ = to;
        None
    }
}
