//! The store in memory: the reference for the others, and for tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    id::{Epoch, Revision, RunId},
    store::{
        Change, Claim, Cursor, Expect, Filter, Health, Hint, Hinter, Hints, Page, Queue, Record,
        Store, Summary,
    },
};

/// Keeps runs in this process's memory, as long as one of its clones lives.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use dynamic_flow::store::{MemoryStore, Store};
///
/// let store = MemoryStore::new();
/// store.provision().await.unwrap();
/// assert!(!store.health().await.unwrap().durable);
/// # });
/// ```
#[derive(Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    hinter: Hinter,
}

#[derive(Default)]
struct State {
    records: BTreeMap<RunId, Record>,
    /// The records that have both a queue and a due time, by these.
    due: BTreeMap<Queue, BTreeSet<(Timestamp, RunId)>>,
}

impl MemoryStore {
    /// An empty store; its clones share its records.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes that belong together, so a poisoned lock is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Changes a record in place and keeps the due index in step with it.
    fn change<T>(&mut self, id: RunId, change: impl FnOnce(&mut Record) -> T) -> Option<T> {
        let record = self.records.get_mut(&id)?;
        let before = due_key(record);
        let result = change(record);
        let after = due_key(record);
        if before != after {
            self.unindex(before, id);
            self.index(after, id);
        }
        Some(result)
    }

    fn index(&mut self, key: Option<(Queue, Timestamp)>, id: RunId) {
        if let Some((queue, at)) = key {
            self.due.entry(queue).or_default().insert((at, id));
        }
    }

    fn unindex(&mut self, key: Option<(Queue, Timestamp)>, id: RunId) {
        if let Some((queue, at)) = key
            && let Some(set) = self.due.get_mut(&queue)
        {
            set.remove(&(at, id));
            if set.is_empty() {
                self.due.remove(&queue);
            }
        }
    }

    fn expect(&self, id: RunId, expect: Expect) -> Result<()> {
        match self.records.get(&id) {
            Some(record) if expect.admits(record.revision) => Ok(()),
            _ => Err(Error::new(ErrorKind::Conflict, "the record is not as expected").with_run(id)),
        }
    }
}

fn due_key(record: &Record) -> Option<(Queue, Timestamp)> {
    Some((record.queue.clone()?, record.due_at?))
}

#[async_trait]
impl Store for MemoryStore {
    async fn provision(&self) -> Result<()> {
        Ok(())
    }

    async fn insert(&self, record: Record) -> Result<()> {
        record.check()?;
        let mut state = self.lock();
        if state.records.contains_key(&record.id) {
            return Err(Error::new(ErrorKind::AlreadyExists, "there is a record of that run")
                .with_run(record.id));
        }
        let hints = record.hints();
        state.index(due_key(&record), record.id);
        state.records.insert(record.id, record);
        hints.for_each(|hint| self.hinter.give(hint));
        Ok(())
    }

    async fn get(&self, id: RunId) -> Result<Option<Record>> {
        Ok(self.lock().records.get(&id).cloned())
    }

    async fn update(&self, id: RunId, expect: Expect, change: Change) -> Result<Revision> {
        change.check(id)?;
        let mut state = self.lock();
        state.expect(id, expect)?;
        let hints = change.hints();
        let revision = state.change(id, |record| {
            change.apply(record);
            record.revision
        });
        hints.for_each(|hint| self.hinter.give(hint));
        Ok(revision.expect("the record was there under the same lock"))
    }

    async fn delete(&self, id: RunId, expect: Expect) -> Result<()> {
        let mut state = self.lock();
        state.expect(id, expect)?;
        if let Some(record) = state.records.remove(&id) {
            state.unindex(due_key(&record), id);
        }
        Ok(())
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Record>> {
        claim.check()?;
        let mut state = self.lock();
        let mut due = BTreeSet::new();
        for set in claim.queues.iter().filter_map(|queue| state.due.get(queue)) {
            let free = set
                .iter()
                .take_while(|(at, _)| *at <= claim.now)
                .filter(|(_, id)| state.records.get(id).is_some_and(|record| claim.admits(record)));
            due.extend(free.take(claim.limit).copied());
        }
        let ids = due.into_iter().take(claim.limit).map(|(_, id)| id);
        Ok(ids
            .filter_map(|id| {
                state.change(id, |record| {
                    claim.apply(record);
                    record.clone()
                })
            })
            .collect())
    }

    async fn renew(&self, id: RunId, epoch: Epoch, until: Timestamp) -> Result<()> {
        let moved = self.lock().change(id, |record| match &mut record.lease {
            Some(lease) if record.epoch == epoch => {
                lease.until = until;
                record.due_at = Some(until);
                true
            }
            _ => false,
        });
        if moved == Some(true) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Conflict, "the lease is not the caller's any more").with_run(id))
    }

    async fn query(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page> {
        filter.check(limit)?;
        let state = self.lock();
        let end = after.map_or(Bound::Unbounded, |Cursor(id)| Bound::Excluded(id));
        let newest_first = state.records.range((Bound::Unbounded, end)).rev();
        let found = newest_first
            .map(|(_, record)| record)
            .take_while(|record| filter.created_after.is_none_or(|at| record.id.created_at() >= at))
            .filter(|record| filter.matches(record));
        Ok(Page::of(found.map(|record| Ok(Summary::from(record))), limit))
    }

    async fn health(&self) -> Result<Health> {
        Ok(Health {
            backend: "memory".into(),
            location: "memory:".into(),
            latency: Duration::ZERO,
            durable: false,
            warnings: vec!["Runs are lost when this process ends.".into()],
            problem: None,
        })
    }

    fn hints(&self, to: Hint) -> Option<Hints> {
        Some(self.hinter.subscribe(to))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("records", &self.lock().records.len()).finish()
    }
}
