//! A store that fails when it is told to.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    id::{Epoch, Revision, RunId},
    store::{Change, Claim, Cursor, Expect, Filter, Health, Page, Record, Store},
};

/// A store that passes its calls on to another, and fails those it is told to.
#[derive(Debug, Clone)]
pub struct Faults {
    inner: Arc<dyn Store>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    calls: usize,
    writes: usize,
    fail_call: Option<usize>,
    updates_left: Option<usize>,
    renewals: bool,
    inserts: bool,
    lose: usize,
}

impl Faults {
    /// Passes everything on, for now.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, plan: Arc::default() }
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets so many more updates through, then fails each.
    pub fn fail_updates_after(&self, updates: usize) {
        self.plan().updates_left = Some(updates);
    }

    /// Fails renewals of leases, or no more.
    pub fn fail_renewals(&self, fail: bool) {
        self.plan().renewals = fail;
    }

    /// Fails inserts, or no more.
    pub fn fail_inserts(&self, fail: bool) {
        self.plan().inserts = fail;
    }

    /// Makes so many of the next writes, and fails all the same.
    pub fn lose_next_answers(&self, writes: usize) {
        self.plan().lose = writes;
    }

    /// Fails the call of that number, counted from 0 from now on, once.
    pub fn fail_call(&self, number: usize) {
        let mut plan = self.plan();
        plan.calls = 0;
        plan.fail_call = Some(number);
    }

    /// Fails nothing any more.
    pub fn heal(&self) {
        let mut plan = self.plan();
        *plan = Plan { calls: plan.calls, writes: plan.writes, ..Plan::default() };
    }

    /// How many inserts and updates were made.
    pub fn writes(&self) -> usize {
        self.plan().writes
    }

    /// Counts a call, and fails it if it is the one.
    fn call(&self) -> Result<()> {
        let mut plan = self.plan();
        let number = plan.calls;
        plan.calls += 1;
        if plan.fail_call == Some(number) { Err(fault()) } else { Ok(()) }
    }

    fn written<T>(&self, written: Result<T>) -> Result<T> {
        let mut plan = self.plan();
        if written.is_ok() {
            plan.writes += 1;
            if plan.lose > 0 {
                plan.lose -= 1;
                return Err(fault());
            }
        }
        written
    }
}

fn fault() -> Error {
    Error::new(ErrorKind::StorageError, "a fault that was asked for").retryable()
}

#[async_trait]
impl Store for Faults {
    async fn provision(&self) -> Result<()> {
        self.inner.provision().await
    }

    async fn insert(&self, record: Record) -> Result<()> {
        self.call()?;
        if self.plan().inserts {
            return Err(fault());
        }
        let written = self.inner.insert(record).await;
        self.written(written)
    }

    async fn get(&self, id: RunId) -> Result<Option<Record>> {
        self.call()?;
        self.inner.get(id).await
    }

    async fn update(&self, id: RunId, expect: Expect, change: Change) -> Result<Revision> {
        self.call()?;
        {
            let mut plan = self.plan();
            match &mut plan.updates_left {
                Some(0) => return Err(fault()),
                Some(left) => *left -= 1,
                None => {}
            }
        }
        let written = self.inner.update(id, expect, change).await;
        self.written(written)
    }

    async fn delete(&self, id: RunId, expect: Expect) -> Result<()> {
        self.call()?;
        self.inner.delete(id, expect).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Record>> {
        self.call()?;
        self.inner.claim(claim).await
    }

    async fn renew(&self, id: RunId, epoch: Epoch, until: Timestamp) -> Result<()> {
        if self.plan().renewals {
            return Err(fault());
        }
        self.inner.renew(id, epoch, until).await
    }

    async fn query(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page> {
        self.call()?;
        self.inner.query(filter, after, limit).await
    }

    async fn health(&self) -> Result<Health> {
        self.inner.health().await
    }
}
