//! The MongoDB store: one document for each run, and every condition in the write that it is for.

mod claim;
mod config;
mod connection;
mod document;
mod edit;
mod health;
mod hints;
mod provision;
mod query;
mod records;
mod trouble;

use std::{
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use tokio::sync::OnceCell;

pub use self::config::MongodbConfig;
use self::{
    config::Settings,
    connection::{Connection, Topology, Watch},
    trouble::Trouble,
};
use super::server::{Interrupted, OwnRuntime, within};
use crate::{
    Result,
    clock::Timestamp,
    id::{Epoch, Revision, RunId},
    store::{
        Change, Claim, Cursor, Expect, Filter, Health, Hint, Hinter, Hints, Page, Record, Store,
    },
};

/// Keeps runs in a MongoDB collection, on a replica set, a sharded cluster or a server alone.
///
/// What is acknowledged is on a majority of the members and in their journals, unless the URL asks
/// for less, which [`Store::health`] then says. Reads are of the primary, and linearizable where a
/// single run is read. Calls are made on a thread of the store's own.
///
/// Hints come from a change stream; a server alone has none, and workers look from time to time.
///
/// A run is limited to what a document may hold, 16 MiB with all that is not sealed.
///
/// ```no_run
/// # async fn example() -> dynamic_flow::Result<()> {
/// use dynamic_flow::store::{MongodbStore, Store};
///
/// let store = MongodbStore::from_url("mongodb://db.example/flows?replicaSet=rs0")?;
/// store.provision().await?;
/// assert!(store.health().await?.durable);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MongodbStore {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    connection: OnceCell<Connection>,
    watch: Watch,
    hinter: OnceLock<Hinter>,
    runtime: OwnRuntime,
}

impl MongodbStore {
    /// The store of those settings. Touches nothing yet.
    ///
    /// # Errors
    /// `InvalidConfig` for a URL or a name that can't be used.
    pub fn new(config: MongodbConfig) -> Result<Self> {
        let shared = Shared {
            settings: Settings::of(config)?,
            connection: OnceCell::new(),
            watch: Watch::default(),
            hinter: OnceLock::new(),
            runtime: OwnRuntime::new("dynamic-flow-mongodb"),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The store of that URL: see [`MongodbConfig::from_url`]. Touches nothing yet.
    ///
    /// # Errors
    /// `InvalidConfig` for a URL or a name that can't be used.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::new(MongodbConfig::from_url(url)?)
    }

    /// Makes a call on the driver's thread, and gives up on it when its time is over. It is not cut
    /// in the middle when its caller goes away, which would cost the connection.
    async fn call<T, F>(
        &self,
        operation: &'static str,
        call: impl FnOnce(Connection) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Trouble>> + Send,
    {
        let shared = self.shared.clone();
        let made = async move {
            let limit = shared.settings.operation_timeout;
            let call = async {
                let connection = shared.connection().await?;
                call(connection).await
            };
            within(limit, call).await.map_err(|trouble| trouble.seen(|| shared.watch.last()))
        };
        let result = match self.shared.runtime.handle() {
            Ok(handle) => handle.spawn(made).await.unwrap_or(Err(Interrupted::BrokenOff.into())),
            Err(error) => Err(error.into()),
        };
        result.map_err(|trouble| trouble.into_error(operation, &self.shared.settings.location))
    }
}

impl Shared {
    async fn connection(&self) -> Result<Connection, Trouble> {
        let open = || Connection::open(&self.settings, &self.watch);
        self.connection.get_or_try_init(open).await.cloned()
    }
}

#[async_trait]
impl Store for MongodbStore {
    async fn provision(&self) -> Result<()> {
        self.call("provision", |it| async move { provision::provision(&it).await }).await
    }

    async fn exists(&self) -> Result<bool> {
        self.call("exists", |it| async move { provision::exists(&it).await }).await
    }

    async fn insert(&self, record: Record) -> Result<()> {
        record.check()?;
        let run = record.id;
        let inserted = self.call("insert", move |it| async move { it.insert(&record).await });
        inserted.await.map_err(|error| error.with_run(run))
    }

    async fn get(&self, id: RunId) -> Result<Option<Record>> {
        let found = self.call("get", move |it| async move { it.get(id).await });
        found.await.map_err(|error| error.with_run(id))
    }

    async fn update(&self, id: RunId, expect: Expect, change: Change) -> Result<Revision> {
        change.check(id)?;
        let updated =
            self.call("update", move |it| async move { it.update(id, expect, &change).await });
        updated.await.map_err(|error| error.with_run(id))
    }

    async fn delete(&self, id: RunId, expect: Expect) -> Result<()> {
        let deleted = self.call("delete", move |it| async move { it.delete(id, expect).await });
        deleted.await.map_err(|error| error.with_run(id))
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Record>> {
        claim.check()?;
        self.call("claim", move |it| async move { claim::claim(&it, &claim).await }).await
    }

    async fn renew(&self, id: RunId, epoch: Epoch, until: Timestamp) -> Result<()> {
        let renewed = self.call("renew", move |it| async move { it.renew(id, epoch, until).await });
        renewed.await.map_err(|error| error.with_run(id))
    }

    async fn query(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page> {
        filter.check(limit)?;
        let filter = filter.clone();
        let query =
            move |it: Connection| async move { query::query(&it, &filter, after, limit).await };
        self.call("query", query).await
    }

    async fn health(&self) -> Result<Health> {
        let location = self.shared.settings.location.clone();
        self.call("health", move |it| async move { health::health(&it, location).await }).await
    }

    fn hints(&self, to: Hint) -> Option<Hints> {
        let connection = self.shared.connection.get()?;
        if connection.server.topology == Topology::Standalone {
            return None;
        }
        let runtime = self.shared.runtime.handle().ok()?;
        let hinter = self.shared.hinter.get_or_init(|| {
            let hinter = Hinter::new();
            // Ends with the runtime, and so with the store.
            runtime.spawn(hints::listen(connection.clone(), hinter.clone()));
            hinter
        });
        Some(hinter.subscribe(to))
    }
}

impl fmt::Debug for MongodbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MongodbStore").field(&self.shared.settings.location).finish()
    }
}
