//! The Neo4j store: a run is a node, and what it is of, waits for and has are its neighbors.

mod config;
mod connection;
mod health;
mod names;
mod pages;
mod rows;
mod schema;
mod statement;
mod statements;
mod stragglers;
mod trouble;

use std::{fmt, sync::Arc, time::Instant};

use async_trait::async_trait;
use neo4rs::Row;

pub use self::config::Neo4jConfig;
use self::{
    connection::Connections, names::Names, rows::Header, statement::Statement, trouble::Trouble,
};
use crate::{
    Result,
    clock::Timestamp,
    id::{Epoch, Revision, RunId},
    store::{
        Change, Claim, Cursor, Expect, Filter, Health, Listed, Page, Record, Store, Summary,
        Unreadable,
        server::{readable, within},
    },
};

/// Keeps runs in a Neo4j database, 5.23 or later.
///
/// Every write is one transaction, in the server's transaction log on the disk when it returns.
/// Clones share their connections, which are made when they are first needed, and made again when
/// the server comes back after a failure.
///
/// ```
/// use dynamic_flow::store::Neo4jStore;
///
/// let store = Neo4jStore::from_url("neo4j://neo4j:hunter2@localhost:7687/neo4j").unwrap();
/// assert_eq!(format!("{store:?}"), "Neo4jStore(\"neo4j://localhost:7687/neo4j\")");
/// ```
///
/// A run is a node, and what it is of, waits for and has are its neighbors:
///
/// ```text
///                      (:Flow {id})
///                           ^
///                         [:OF]
///                           |
/// (:Tool {id}) <-[:WAITS_FOR {createdAt, expiresAt, …}]- (:SuspendedFlow {id, status, dueAt, …})
///                           |
///                       [:HAS {…}]
///                           v
///                 (:Metadata {name, value})
/// ```
///
/// The relationships are written in the same transaction as the node, so that they are never out
/// of step with it. They hold nothing that is not plain in the record already: what is sealed stays
/// sealed, in properties that no query here needs.
///
/// # What a graph is good for
///
/// Which runs wait on the same approver as this one?
///
/// ```cypher
#[doc = include_str!("queries/same_approver.cypher")]
/// ```
///
/// What has been waiting for a tool for longest, and until when?
///
/// ```cypher
#[doc = include_str!("queries/waiting_longest.cypher")]
/// ```
///
/// Which flows share an approver, and how many of their runs wait for one?
///
/// ```cypher
#[doc = include_str!("queries/shared_approvers.cypher")]
/// ```
///
/// Times are milliseconds since 1970: `datetime({epochMillis: w.expiresAt})` makes them readable.
/// Read as much as you like, and leave writing to the store: it relies on what it wrote.
///
/// # What is shared, and what it costs
///
/// Runs of one flow share its node, and so do those that wait for one tool or have one value. Such a
/// node is locked for others only while it is made, and while the first few relationships come to
/// it; two that meet there, or in a deadlock, are sorted out by a further try. `Flow` and `Tool`
/// nodes stay when their last run is gone: there are as many as there are flows and tools. A
/// `Metadata` node goes with the last run that has its value. (Two such runs that go at the very
/// same moment may leave it behind; it harms nobody, and is found again or goes with the next one.)
#[derive(Clone)]
pub struct Neo4jStore {
    shared: Arc<Shared>,
}

struct Shared {
    names: Names,
    connections: Connections,
}

impl Neo4jStore {
    /// A store as configured; nothing is connected to yet.
    ///
    /// # Errors
    /// `InvalidConfig` if a setting is wrong; it says which one.
    pub fn new(config: Neo4jConfig) -> Result<Self> {
        let names = config.check()?;
        let connections = Connections::new(config);
        Ok(Self { shared: Arc::new(Shared { names, connections }) })
    }

    /// A store of that URL: see [`Neo4jConfig::from_url`].
    ///
    /// # Errors
    /// As [`Neo4jStore::new`].
    pub fn from_url(url: &str) -> Result<Self> {
        Self::new(Neo4jConfig::from_url(url)?)
    }

    fn names(&self) -> &Names {
        &self.shared.names
    }

    /// What everybody hears of what went wrong in a call.
    fn told<T>(&self, operation: &'static str, result: Result<T, Trouble>) -> Result<T> {
        result.map_err(|trouble| trouble.into_error(operation, self.shared.connections.place()))
    }

    async fn read(&self, statement: Statement) -> Result<Vec<Row>, Trouble> {
        self.shared.connections.read(statement).await
    }

    async fn write(&self, statement: Statement) -> Result<Vec<Row>, Trouble> {
        self.shared.connections.write(statement).await
    }

    async fn try_insert(&self, record: &Record) -> Result<(), Trouble> {
        rows::check_size(record.inbox.iter().chain([&record.snapshot]))?;
        let insert = statements::insert(self.names(), record)?;
        let limit = self.shared.connections.config().operation_timeout;
        within(limit, async {
            loop {
                match self.write(insert.clone()).await {
                    Err(trouble) if trouble.is_duplicate() => {
                        let exists = statements::exists(self.names(), record.id);
                        if !self.read(exists).await?.is_empty() {
                            return Err(Trouble::Exists);
                        }
                        // It was a shared node that somebody else made at the same moment, or the
                        // record has gone since: either way nothing was written.
                    }
                    other => return other.map(drop),
                }
            }
        })
        .await
    }

    async fn try_update(
        &self,
        id: RunId,
        expect: Expect,
        change: &Change,
    ) -> Result<Revision, Trouble> {
        let inbox = change.inbox.as_ref().unwrap_or(&change.inbox_push);
        rows::check_size(inbox.iter().chain(&change.snapshot))?;
        let rows = self.write(statements::update(self.names(), id, expect, change)?).await?;
        let row = rows.first().ok_or(Trouble::Conflict)?;
        let revision: i64 = row.get("revision").map_err(|_| Trouble::Damaged("revision"))?;
        revision.try_into().map(Revision).map_err(|_| Trouble::Damaged("revision"))
    }

    async fn try_get(&self, id: RunId) -> Result<Option<Record>, Trouble> {
        // So often, others can't write between two reads of a few microseconds.
        const TRIES: usize = 100;
        // A node that is being deleted has lost some of its properties when it is still found. One
        // that is damaged is so each time.
        const DAMAGED: usize = 3;
        let mut damaged = 0;
        for _ in 0..TRIES {
            let rows = self.read(statements::get(self.names(), id)).await?;
            let Some(row) = rows.first() else { return Ok(None) };
            match Header::whole(row) {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) => {}
                Err(_) if damaged < DAMAGED => damaged += 1,
                Err(trouble) => return Err(trouble),
            }
        }
        Err(Trouble::Damaged("stamp"))
    }

    async fn try_claim(&self, claim: &Claim) -> Result<Vec<Record>, Trouble> {
        let query = statements::claim(self.names(), claim);
        let limit = self.shared.connections.config().operation_timeout;
        within(limit, async {
            loop {
                let rows = self.write(query.clone()).await?;
                let mine = rows.iter().filter(|row| row.get("given").unwrap_or(false));
                let mine = readable(mine.map(|row| (rows::id(row), whole(row))))?;
                // Where others were quicker with all of them, there may be more that are due.
                if !mine.is_empty() || rows.is_empty() {
                    return Ok(mine);
                }
            }
        })
        .await
    }

    async fn try_query(
        &self,
        filter: &Filter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, Trouble> {
        let few_deadlines = match pages::count_deadlines(self.names(), filter) {
            None => true,
            Some(count) => {
                let rows = self.read(count).await?;
                let count = rows.first().and_then(|row| row.get::<i64>("count").ok());
                count.ok_or(Trouble::Damaged("count"))? <= pages::FEW_DEADLINES
            }
        };
        // One more than asked for tells whether there is a next page.
        let wanted = limit.saturating_add(1);
        let mut found: Vec<Listed> = Vec::new();
        let mut after = after;
        let mut nameless = 0;
        loop {
            let missing = (wanted - found.len()).saturating_add(nameless);
            let page = pages::page(self.names(), filter, after, missing, few_deadlines)?;
            let rows = self.read(page).await?;
            nameless = 0;
            for row in &rows {
                // What has no id of a run is no record: nobody can name it. But it may be met again.
                let Some(id) = rows::id(row) else {
                    nameless += 1;
                    continue;
                };
                after = Some(Cursor(id));
                found.extend(self.listed(filter, id, row).await?);
            }
            if rows.len() < missing || found.len() >= wanted {
                return Ok(Page::of(found.into_iter(), limit));
            }
        }
    }

    /// The run if it matches. One that does not read back must not hide all the others.
    async fn listed(
        &self,
        filter: &Filter,
        id: RunId,
        row: &Row,
    ) -> Result<Option<Listed>, Trouble> {
        let summary = match Header::of(row) {
            // What led to it may have been of an earlier moment than the record.
            Ok(Header { record, .. }) if !filter.matches(&record) => return Ok(None),
            Ok(Header { record, inbox_len, .. }) => Summary { inbox_len, ..Summary::from(&record) },
            // It may just have been in the middle of its deletion.
            Err(Trouble::Damaged(_)) => match self.try_get(id).await {
                Ok(Some(record)) if filter.matches(&record) => Summary::from(&record),
                Ok(_) => return Ok(None),
                Err(trouble @ Trouble::Damaged(_)) => {
                    let (run, place) = (&self.names().run, self.shared.connections.place());
                    let place = format!("the node (:{run} {{id: '{id}'}}) at {place}");
                    return Ok(Some(Err(Unreadable::new(id, place, trouble))));
                }
                Err(trouble) => return Err(trouble),
            },
            Err(trouble) => return Err(trouble),
        };
        Ok(Some(Ok(summary)))
    }
}

/// A record that was read under its lock.
fn whole(row: &Row) -> Result<Record, Trouble> {
    Header::whole(row)?.ok_or(Trouble::Damaged("stamp"))
}

/// A write whose condition did not hold gave no row.
fn done(rows: &[Row]) -> Result<(), Trouble> {
    if rows.is_empty() { Err(Trouble::Conflict) } else { Ok(()) }
}

#[async_trait]
impl Store for Neo4jStore {
    async fn provision(&self) -> Result<()> {
        let Shared { names, connections } = &*self.shared;
        self.told("provision", schema::provision(connections, names).await)
    }

    async fn exists(&self) -> Result<bool> {
        let Shared { names, connections } = &*self.shared;
        self.told("exists", schema::exists(connections, names).await)
    }

    async fn insert(&self, record: Record) -> Result<()> {
        record.check()?;
        let inserted = self.told("insert", self.try_insert(&record).await);
        inserted.map_err(|error| error.with_run(record.id))
    }

    async fn get(&self, id: RunId) -> Result<Option<Record>> {
        self.told("get", self.try_get(id).await).map_err(|error| error.with_run(id))
    }

    async fn update(&self, id: RunId, expect: Expect, change: Change) -> Result<Revision> {
        change.check(id)?;
        let updated = self.try_update(id, expect, &change).await;
        self.told("update", updated).map_err(|error| error.with_run(id))
    }

    async fn delete(&self, id: RunId, expect: Expect) -> Result<()> {
        let deleted = self.write(statements::delete(self.names(), id, expect)).await;
        let deleted = deleted.and_then(|rows| done(&rows));
        self.told("delete", deleted).map_err(|error| error.with_run(id))
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Record>> {
        claim.check()?;
        let claimed = self.try_claim(&claim).await;
        self.told("claim", claimed)
    }

    async fn renew(&self, id: RunId, epoch: Epoch, until: Timestamp) -> Result<()> {
        let renewed = match statements::renew(self.names(), id, epoch, until) {
            Ok(query) => self.write(query).await.and_then(|rows| done(&rows)),
            Err(trouble) => Err(trouble),
        };
        self.told("renew", renewed).map_err(|error| error.with_run(id))
    }

    async fn query(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page> {
        filter.check(limit)?;
        let page = self.try_query(filter, after, limit).await;
        self.told("query", page)
    }

    async fn health(&self) -> Result<Health> {
        let connections = &self.shared.connections;
        let began = Instant::now();
        let round_trip = connections.look(Statement::new("RETURN true AS here")).await;
        self.told("health", round_trip)?;
        let latency = began.elapsed();
        let warnings = self.told("health", health::warnings(connections).await)?;
        Ok(Health {
            backend: "neo4j".into(),
            location: connections.place().to_string(),
            latency,
            // A commit is in the transaction log on the disk before it is told; there is no
            // setting that changes this.
            durable: true,
            warnings,
            problem: None,
        })
    }
}

impl fmt::Debug for Neo4jStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Neo4jStore").field(&self.shared.connections.place().to_string()).finish()
    }
}
