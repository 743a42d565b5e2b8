//! A store that fails, stops or kills the process where a test says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    id::{Epoch, Revision, RunId},
    store::{Change, Claim, Cursor, Expect, Filter, Health, Hint, Hints, Page, Record, Store},
};

/// A call of the [`Store`] trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`Store::provision`]
    Provision,
    /// [`Store::exists`]
    Exists,
    /// [`Store::insert`]
    Insert,
    /// [`Store::get`]
    Get,
    /// [`Store::update`]
    Update,
    /// [`Store::delete`]
    Delete,
    /// [`Store::claim`]
    Claim,
    /// [`Store::renew`]
    Renew,
    /// [`Store::query`]
    Query,
    /// [`Store::health`]
    Health,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Provision,
        Self::Insert,
        Self::Get,
        Self::Update,
        Self::Delete,
        Self::Claim,
        Self::Renew,
        Self::Query,
        Self::Health,
    ];

    /// Its name in the trait.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::Provision => "provision",
            Self::Insert => "insert",
            Self::Get => "get",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Claim => "claim",
            Self::Renew => "renew",
            Self::Query => "query",
            Self::Health => "health",
        }
    }
}

/// On which side of a call something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// The store has not been called yet.
    Before,
    /// The store is through: what it wrote is written, but the caller does not know yet.
    After,
}

/// A side of a call, as a hook sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Call {
    /// What is called.
    pub operation: Operation,
    /// Which call of this operation it is, from 1.
    pub number: u64,
    /// Whether the store has been called.
    pub moment: Moment,
}

type Hook = Arc<dyn Fn(Call) + Send + Sync>;

/// Hands every call on to a store, unless told to fail, to wait, or to tell somebody first.
///
/// Counts of calls begin at 1, when the wrapper is made, separately for each operation. Clones
/// share counts and faults.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use dynamic_flow::{
///     RunId, Timestamp,
///     store::{MemoryStore, Store},
///     testkit::faults::{Faults, Moment, Operation},
/// };
///
/// let store = Faults::new(MemoryStore::new());
/// store.fail(Operation::Get, 2, Moment::Before);
/// let id = RunId::new(Timestamp::from_millis(0)).unwrap();
/// assert!(store.get(id).await.is_ok());
/// assert!(store.get(id).await.unwrap_err().is_retryable());
/// assert!(store.get(id).await.is_ok());
/// assert_eq!(store.calls(Operation::Get), 3);
/// # });
/// ```
#[derive(Clone)]
pub struct Faults {
    inner: Arc<dyn Store>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Default)]
struct Plan {
    calls: BTreeMap<Operation, u64>,
    failures: BTreeSet<Call>,
    broken: BTreeSet<(Operation, Moment)>,
    pauses: BTreeMap<Call, Arc<watch::Sender<Stage>>>,
    offline: bool,
    hook: Option<Hook>,
}

/// How far a pause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Planned,
    Reached,
    Released,
}

impl Faults {
    /// Wraps a store; as long as nothing is planned, it behaves as that store does.
    pub fn new(store: impl Store) -> Self {
        Self::over(Arc::new(store))
    }

    /// Wraps a store that others have a hand on.
    pub fn over(store: Arc<dyn Store>) -> Self {
        Self { inner: store, plan: Arc::default() }
    }

    /// How often an operation was called so far, calls that failed included.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.lock().calls.get(&operation).copied().unwrap_or(0)
    }

    /// Makes that call fail with a retryable `StorageError`.
    ///
    /// Before, nothing is written; after, the write has happened and the caller hears of an error
    /// all the same, as when a connection breaks.
    pub fn fail(&self, operation: Operation, number: u64, moment: Moment) {
        self.lock().failures.insert(Call { operation, number, moment });
    }

    /// Makes the next call fail; see [`Faults::fail`].
    pub fn fail_next(&self, operation: Operation, moment: Moment) {
        self.fail(operation, self.calls(operation) + 1, moment);
    }

    /// Makes every call of an operation fail from the next one on, until [`Faults::heal`].
    pub fn fail_all(&self, operation: Operation, moment: Moment) {
        self.lock().broken.insert((operation, moment));
    }

    /// Makes nothing fail any more, now or later.
    pub fn heal(&self) {
        let mut plan = self.lock();
        plan.failures.clear();
        plan.broken.clear();
        plan.offline = false;
    }

    /// Makes all calls fail, or no longer: the database is away, and comes back.
    pub fn offline(&self, offline: bool) {
        self.lock().offline = offline;
    }

    /// Makes that call wait there until the pause is released or dropped.
    pub fn pause(&self, operation: Operation, number: u64, moment: Moment) -> Pause {
        let stage = Arc::new(watch::Sender::new(Stage::Planned));
        self.lock().pauses.insert(Call { operation, number, moment }, stage.clone());
        Pause { stage }
    }

    /// Makes the next call wait; see [`Faults::pause`].
    pub fn pause_next(&self, operation: Operation, moment: Moment) -> Pause {
        self.pause(operation, self.calls(operation) + 1, moment)
    }

    /// Calls the hook before and after every call, in place of the hook before.
    ///
    /// A test of crashes aborts the process in it.
    pub fn on_call(&self, hook: impl Fn(Call) + Send + Sync + 'static) {
        self.lock().hook = Some(Arc::new(hook));
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn at(&self, call: Call) -> Result<()> {
        let (hook, pause, failure, offline) = {
            let mut plan = self.lock();
            let failure =
                plan.failures.remove(&call) | plan.broken.contains(&(call.operation, call.moment));
            (plan.hook.clone(), plan.pauses.remove(&call), failure, plan.offline)
        };
        if let Some(hook) = hook {
            hook(call);
        }
        if let Some(stage) = pause {
            stage.send_if_modified(|stage| {
                let reached = *stage == Stage::Planned;
                *stage = (*stage).max(Stage::Reached);
                reached
            });
            let _ = stage.subscribe().wait_for(|stage| *stage == Stage::Released).await;
        }
        if failure || (offline && call.moment == Moment::Before) {
            return Err(Error::new(ErrorKind::StorageError, "a fault that a test injected")
                .with_operation(call.operation.as_str())
                .with_retryable());
        }
        Ok(())
    }

    async fn around<T>(
        &self,
        operation: Operation,
        inner: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let number = {
            let mut plan = self.lock();
            let count = plan.calls.entry(operation).or_default();
            *count += 1;
            *count
        };
        self.at(Call { operation, number, moment: Moment::Before }).await?;
        let result = inner.await;
        self.at(Call { operation, number, moment: Moment::After }).await?;
        result
    }
}

/// A call that waits, or will; dropped, it lets the call go on.
#[must_use = "a pause that is dropped is no pause"]
pub struct Pause {
    stage: Arc<watch::Sender<Stage>>,
}

impl Pause {
    /// Ends when the call has come to the pause.
    pub async fn reached(&self) {
        let _ = self.stage.subscribe().wait_for(|stage| *stage >= Stage::Reached).await;
    }

    /// Lets the call go on.
    pub fn release(self) {}
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.stage.send_replace(Stage::Released);
    }
}

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pause").field(&*self.stage.borrow()).finish()
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Faults {
    async fn provision(&self) -> Result<()> {
        self.around(Operation::Provision, self.inner.provision()).await
    }

    async fn exists(&self) -> Result<bool> {
        self.around(Operation::Exists, self.inner.exists()).await
    }

    async fn insert(&self, record: Record) -> Result<()> {
        self.around(Operation::Insert, self.inner.insert(record)).await
    }

    async fn get(&self, id: RunId) -> Result<Option<Record>> {
        self.around(Operation::Get, self.inner.get(id)).await
    }

    async fn update(&self, id: RunId, expect: Expect, change: Change) -> Result<Revision> {
        self.around(Operation::Update, self.inner.update(id, expect, change)).await
    }

    async fn delete(&self, id: RunId, expect: Expect) -> Result<()> {
        self.around(Operation::Delete, self.inner.delete(id, expect)).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Record>> {
        self.around(Operation::Claim, self.inner.claim(claim)).await
    }

    async fn renew(&self, id: RunId, epoch: Epoch, until: Timestamp) -> Result<()> {
        self.around(Operation::Renew, self.inner.renew(id, epoch, until)).await
    }

    async fn query(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page> {
        self.around(Operation::Query, self.inner.query(filter, after, limit)).await
    }

    async fn health(&self) -> Result<Health> {
        self.around(Operation::Health, self.inner.health()).await
    }

    fn hints(&self, to: Hint) -> Option<Hints> {
        self.inner.hints(to)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{codec::Sealed, engine::RunStatus, store::MemoryStore, wait::Metadata};

    fn record() -> Record {
        let now = Timestamp::from_millis(1000);
        Record {
            id: RunId::new(now).expect("an id"),
            revision: Revision::FIRST,
            epoch: Epoch(0),
            flow_id: "flow".into(),
            queue: None,
            status: RunStatus::Waiting,
            waits: vec![],
            metadata: Metadata::new(),
            updated_at: now,
            due_at: None,
            attempts: 0,
            lease: None,
            snapshot: Sealed(vec![]),
            inbox: vec![],
        }
    }

    #[tokio::test]
    async fn a_failure_before_writes_nothing_and_one_after_has_written() {
        let store = Faults::new(MemoryStore::new());
        let (first, second) = (record(), record());
        store.fail(Operation::Insert, 1, Moment::Before);
        store.fail(Operation::Insert, 2, Moment::After);
        for record in [&first, &second] {
            let error = store.insert(record.clone()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StorageError);
            assert!(error.is_retryable());
        }
        assert_eq!(store.get(first.id).await.unwrap(), None);
        assert_eq!(store.get(second.id).await.unwrap(), Some(second.clone()));
        store.insert(first).await.unwrap();
        assert_eq!(store.calls(Operation::Insert), 3);
        store.fail_next(Operation::Get, Moment::Before);
        assert!(store.get(second.id).await.is_err());
        store.offline(true);
        assert!(store.clone().health().await.is_err());
        store.offline(false);
        assert!(store.health().await.is_ok());
    }

    #[tokio::test]
    async fn a_paused_call_waits_where_it_was_told_to() {
        let store = Faults::new(MemoryStore::new());
        for (moment, written) in [(Moment::Before, false), (Moment::After, true)] {
            let record = record();
            let pause = store.pause_next(Operation::Insert, moment);
            let task = tokio::spawn({
                let (store, record) = (store.clone(), record.clone());
                async move { store.insert(record).await }
            });
            pause.reached().await;
            assert!(!task.is_finished());
            assert_eq!(store.get(record.id).await.unwrap().is_some(), written);
            pause.release();
            task.await.unwrap().unwrap();
            assert!(store.get(record.id).await.unwrap().is_some());
        }
    }

    #[tokio::test]
    async fn the_hook_sees_both_sides_of_every_call() {
        let store = Faults::new(MemoryStore::new());
        let sides = Arc::new(AtomicUsize::new(0));
        let seen = sides.clone();
        store.on_call(move |call| {
            let order = 2 * (call.number - 1) + u64::from(call.moment == Moment::After);
            assert_eq!(seen.fetch_add(1, Ordering::SeqCst) as u64, order);
        });
        for _ in 0..3 {
            store.health().await.unwrap();
        }
        assert_eq!(sides.load(Ordering::SeqCst), 6);
    }
}
