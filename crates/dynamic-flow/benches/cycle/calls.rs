//! The calls that a cycle makes to its store, made again with no hub around them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use async_trait::async_trait;
use dynamic_flow::{
    Clock as _, Epoch, Revision, RunId, SystemClock, Timestamp,
    store::{Change, Claim, Cursor, Expect, Filter, Health, MemoryStore, Page, Record, Store},
};

use crate::{
    Result,
    cycles::{Took, crowd},
    flow::{Bench, Order},
    sample::Pairs,
    table::{Row, Table, time},
};

/// What one cycle writes: a record, and what changes of it.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    record: Record,
    changes: Vec<Change>,
}

impl Calls {
    /// Those of a cycle that is made for it.
    pub(crate) async fn of_a_cycle() -> Result<Self> {
        let listener = Arc::new(Listener::default());
        Bench::over(listener.clone()).await?.cycle(Order::new(0)).await?;
        let mut heard = listener.heard();
        let record = heard.record.take().ok_or("a cycle inserts a record")?;
        Ok(Self { record, changes: std::mem::take(&mut heard.changes) })
    }

    /// Makes them as often as that in each of so many tasks.
    pub(crate) async fn crowd(
        self: &Arc<Self>,
        store: &Arc<dyn Store>,
        concurrent: usize,
        per_task: usize,
        numbers: &AtomicUsize,
    ) -> Result<Took> {
        let make = |_| {
            let (calls, store) = (self.clone(), store.clone());
            async move { calls.make(&*store).await }
        };
        crowd(concurrent, per_task, numbers, make).await
    }

    /// Makes them with a record of their own, which is read before it is changed.
    async fn make(&self, store: &dyn Store) -> Result<()> {
        let id = RunId::new(SystemClock.now())?;
        store.insert(Record { id, ..self.record.clone() }).await?;
        let mut revision = store.get(id).await?.ok_or("the record is not there")?.revision;
        for change in &self.changes {
            revision = store.update(id, Expect::Revision(revision), change.clone()).await?;
        }
        Ok(())
    }
}

/// A cycle, the calls that it makes, and the floor of these, measured in turns.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// The cycle above the floor.
    pub(crate) cycle: Pairs,
    /// Its calls above the floor.
    calls: Pairs,
    /// The cycle above its calls.
    hub: Pairs,
}

impl Beside {
    pub(crate) fn push(&mut self, floor: Duration, calls: Duration, cycle: Duration) {
        self.cycle.push(floor, cycle);
        self.calls.push(floor, calls);
        self.hub.push(calls, cycle);
    }

    /// Adds the rows that tell what the store takes of a cycle, and what the hub.
    pub(crate) fn tell(&self, name: &str, concurrent: usize, n: &str, table: &mut Table) {
        let calls = format!("{name}: its four calls without a hub, {concurrent} at once");
        let hub = format!("{name}: a cycle, {concurrent} at once (floor: its four calls)");
        for (what, pairs) in [(calls, &self.calls), (hub, &self.hub)] {
            let row = Row::new(what, time(pairs.measured())).floor(time(pairs.floor()));
            table.add(row.ratio(pairs.ratios()).n(n));
        }
    }
}

/// A store in memory that remembers what is written.
#[derive(Debug, Default)]
struct Listener {
    store: MemoryStore,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    record: Option<Record>,
    changes: Vec<Change>,
}

impl Listener {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for Listener {
    async fn provision(&self) -> dynamic_flow::Result<()> {
        self.store.provision().await
    }

    async fn insert(&self, record: Record) -> dynamic_flow::Result<()> {
        self.heard().record = Some(record.clone());
        self.store.insert(record).await
    }

    async fn get(&self, id: RunId) -> dynamic_flow::Result<Option<Record>> {
        self.store.get(id).await
    }

    async fn update(
        &self,
        id: RunId,
        expect: Expect,
        change: Change,
    ) -> dynamic_flow::Result<Revision> {
        self.heard().changes.push(change.clone());
        self.store.update(id, expect, change).await
    }

    async fn delete(&self, id: RunId, expect: Expect) -> dynamic_flow::Result<()> {
        self.store.delete(id, expect).await
    }

    async fn claim(&self, claim: Claim) -> dynamic_flow::Result<Vec<Record>> {
        self.store.claim(claim).await
    }

    async fn renew(&self, id: RunId, epoch: Epoch, until: Timestamp) -> dynamic_flow::Result<()> {
        self.store.renew(id, epoch, until).await
    }

    async fn query(
        &self,
        filter: &Filter,
        after: Option<Cursor>,
        limit: usize,
    ) -> dynamic_flow::Result<Page> {
        self.store.query(filter, after, limit).await
    }

    async fn health(&self) -> dynamic_flow::Result<Health> {
        self.store.health().await
    }
}
