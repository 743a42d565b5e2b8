//! The PostgreSQL store: a row a run, every conditional write one statement, every filter with an
//! index.

mod claim;
mod config;
mod connection;
mod health;
mod hints;
mod parts;
#[cfg(test)]
mod plans;
mod provision;
mod query;
mod rows;
mod tables;
mod tls;
mod trouble;
mod write;

use std::{fmt, future::Future, sync::Arc};

use async_trait::async_trait;
use tokio_postgres::Row;

pub use self::config::{PostgresConfig, SslMode};
use self::{
    config::Settings,
    connection::{Connections, Statement, Way},
    hints::{Ear, Mouth},
    tables::Tables,
    trouble::Trouble,
};
use crate::{
    Result,
    clock::Timestamp,
    id::{Epoch, Revision, RunId},
    store::{
        Change, Claim, Cursor, Expect, Filter, Health, Hint, Hints, Listed, Page, Record, Secret,
        Store, Unreadable, server::OwnRuntime,
    },
};

/// Keeps runs in a PostgreSQL database, from version 13 on.
///
/// Any number of stores, in any number of processes, may share the tables. Each write is one
/// statement and one round trip; of all that expect the same revision, the row lets one through.
/// Database, schema and tables are made where they are missing and the user may do that; where all
/// is there, the user needs no more than to read and write rows. Calls are made on a thread of the
/// store's own.
///
/// ```
/// use dynamic_flow::store::PostgresStore;
///
/// // Nothing is connected to yet.
/// let store = PostgresStore::from_url("postgres://flows:hunter2@db.example.org/flows")?;
/// assert!(!format!("{store:?}").contains("hunter2"));
/// # Ok::<_, dynamic_flow::Error>(())
/// ```
///
/// | parameter of the URL | what it says | unless it is given |
/// | --- | --- | --- |
/// | `table_name`, `schema_name` | where runs are kept | `suspended_flows`, `public` |
/// | `pool_size` | how many connections at the most | 12 |
/// | `idle_timeout` | how long a connection is kept that nobody uses | 5 min |
/// | `connect_timeout`, `operation_timeout` | such as `5s` | 5 s, 10 s |
/// | `prepared_statements` | `false` behind PgBouncer's transaction mode | `true` |
/// | `sslmode` | see [`SslMode`] | `prefer` |
/// | `sslrootcert`, `sslcert`, `sslkey` | paths of PEM files | the system's authorities, none |
/// | `application_name`, `options`, `target_session_attrs`, … | what else the driver knows, with libpq's meaning | |
#[derive(Clone)]
pub struct PostgresStore {
    shared: Arc<Shared>,
}

struct Shared {
    way: Arc<Way>,
    ear: Ear,
    mouth: Arc<Mouth>,
    runtime: OwnRuntime,
}

impl PostgresStore {
    /// A store with those settings. Connects to nothing and reads no file yet.
    ///
    /// # Errors
    /// `InvalidConfig` for a URL that is none, an unknown parameter, a name that PostgreSQL could
    /// not have.
    pub fn new(config: PostgresConfig) -> Result<Self> {
        let shared = Shared {
            way: Arc::new(Way::new(Settings::resolve(config)?)),
            ear: Ear::default(),
            mouth: Arc::default(),
            runtime: OwnRuntime::new("dynamic-flow-postgres"),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A store of that URL: `postgres://user:password@host:port/database?parameter=value`.
    ///
    /// # Errors
    /// As [`PostgresStore::new`].
    pub fn from_url(url: impl Into<Secret>) -> Result<Self> {
        Self::new(PostgresConfig::from_url(url))
    }

    fn settings(&self) -> &Settings {
        &self.shared.way.settings
    }

    /// Makes a call on the store's own thread, and says of what goes wrong where it did. Nothing of
    /// it is left to the caller's runtime, which may be blocked for long: neither a connection that
    /// it makes, nor one that it has in use.
    async fn call<T, F>(
        &self,
        operation: &'static str,
        call: impl FnOnce(Arc<Shared>, Arc<Connections>) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Trouble>> + Send,
    {
        let shared = self.shared.clone();
        let made = async move {
            let connections = shared.way.connections()?;
            call(shared, connections).await
        };
        let result = self.shared.runtime.run(made).await;
        result.map_err(|trouble| trouble.into_error(operation, self.settings()))
    }
}

impl Shared {
    fn tables(&self) -> &Tables {
        &self.way.settings.tables
    }

    /// Makes a write that others may wait for; gives its row, if there is one.
    async fn write<'a>(
        &self,
        connections: &Arc<Connections>,
        hints: &[Hint],
        lock: Option<RunId>,
        statement: impl FnOnce(Option<&str>) -> Result<Statement<'a>, Trouble>,
    ) -> Result<Option<Row>, Trouble> {
        let mouth = &self.mouth;
        let turn = mouth.turn(hints, self.tables());
        let statement = statement(turn.as_ref().map(hints::Turn::told))?;
        let rows = match lock {
            Some(id) => {
                connections.query_locked(&write::lock(self.tables(), id), &statement).await?
            }
            None => connections.query(&statement).await?,
        };
        let row = rows.into_iter().next();
        if row.is_some() && turn.is_none() && !hints.is_empty() {
            Mouth::tell(mouth, hints, connections);
        }
        Ok(row)
    }

    async fn insert(&self, it: &Arc<Connections>, record: &Record) -> Result<(), Trouble> {
        let hints: Vec<_> = record.hints().collect();
        let statement = |told: Option<&str>| write::insert(self.tables(), record, told);
        self.write(it, &hints, None, statement).await?.map(drop).ok_or(Trouble::Exists)
    }

    async fn update(
        &self,
        it: &Arc<Connections>,
        id: RunId,
        expect: Expect,
        change: &Change,
    ) -> Result<Revision, Trouble> {
        let hints: Vec<_> = change.hints().collect();
        let beside = change.waits.is_some() || change.metadata.is_some();
        let lock = write::needs_lock(expect, beside).then_some(id);
        let statement = |told: Option<&str>| write::update(self.tables(), id, expect, change, told);
        let row = self.write(it, &hints, lock, statement).await?.ok_or(Trouble::Conflict)?;
        rows::revision(&row)
    }

    async fn delete(
        &self,
        it: &Arc<Connections>,
        id: RunId,
        expect: Expect,
    ) -> Result<(), Trouble> {
        let lock = write::needs_lock(expect, true).then_some(id);
        let statement = |_: Option<&str>| Ok(write::delete(self.tables(), id, expect));
        self.write(it, &[], lock, statement).await?.map(drop).ok_or(Trouble::Conflict)
    }

    async fn query(
        &self,
        it: &Connections,
        filter: &Filter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, Trouble> {
        let Some(statement) = query::query(self.tables(), filter, after, limit) else {
            return Ok(Page::default());
        };
        let rows = it.query(&statement).await?;
        let found = rows.iter().map(|row| self.listed(row)).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found.into_iter(), limit))
    }

    /// One row that does not read back must not hide all the others.
    fn listed(&self, row: &Row) -> Result<Listed, Trouble> {
        match rows::summary(row) {
            Err(trouble @ Trouble::Damaged(_)) => {
                let id = rows::id(row)?;
                let (table, location) = (self.tables().shown(), &self.way.settings.location);
                let place = format!("the row of {table} at {location} with id = '{id}'");
                Ok(Err(Unreadable::new(id, place, trouble)))
            }
            summary => Ok(Ok(summary?)),
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn provision(&self) -> Result<()> {
        self.call("provision", |_, it| async move { provision::provision(&it).await }).await
    }

    async fn exists(&self) -> Result<bool> {
        self.call("exists", |_, it| async move { provision::exists(&it).await }).await
    }

    async fn insert(&self, record: Record) -> Result<()> {
        record.check()?;
        let run = record.id;
        let inserted =
            self.call("insert", move |store, it| async move { store.insert(&it, &record).await });
        inserted.await.map_err(|error| error.with_run(run))
    }

    async fn get(&self, id: RunId) -> Result<Option<Record>> {
        let found = self.call("get", move |store, it| async move {
            let rows = it.query(&rows::find(store.tables(), id)).await?;
            rows.first().map(rows::record).transpose()
        });
        found.await.map_err(|error| error.with_run(id))
    }

    async fn update(&self, id: RunId, expect: Expect, change: Change) -> Result<Revision> {
        change.check(id)?;
        let updated = self.call("update", move |store, it| async move {
            store.update(&it, id, expect, &change).await
        });
        updated.await.map_err(|error| error.with_run(id))
    }

    async fn delete(&self, id: RunId, expect: Expect) -> Result<()> {
        let deleted = self
            .call("delete", move |store, it| async move { store.delete(&it, id, expect).await });
        deleted.await.map_err(|error| error.with_run(id))
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Record>> {
        claim.check()?;
        self.call("claim", move |store, it| async move {
            let rows = it.query(&claim::claim(store.tables(), &claim)).await?;
            claim::in_order(&rows)
        })
        .await
    }

    async fn renew(&self, id: RunId, epoch: Epoch, until: Timestamp) -> Result<()> {
        let renewed = self.call("renew", move |store, it| async move {
            let renewed = it.query(&write::renew(store.tables(), id, epoch, until)).await?;
            renewed.first().map(drop).ok_or(Trouble::Conflict)
        });
        renewed.await.map_err(|error| error.with_run(id))
    }

    async fn query(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page> {
        filter.check(limit)?;
        let filter = filter.clone();
        self.call(
            "query",
            move |store, it| async move { store.query(&it, &filter, after, limit).await },
        )
        .await
    }

    async fn health(&self) -> Result<Health> {
        self.call("health", |_, it| async move { health::health(&it).await }).await
    }

    fn hints(&self, to: Hint) -> Option<Hints> {
        // Behind a pooler there is no connection on which to listen.
        if !self.settings().config.prepared_statements {
            return None;
        }
        let runtime = self.shared.runtime.handle().ok()?;
        Some(self.shared.ear.subscribe(to, &self.shared.way, &runtime))
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresStore").field(&self.settings().location).finish()
    }
}
