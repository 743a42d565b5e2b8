//! Processes that share a store: each sees it through a wire that fails, and may be killed.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use dynamic_flow::{
    Clock, Epoch, Error, ErrorKind, Flow, Result, Revision, RunId, Timestamp, ToolError,
    codec::Keyring,
    hub::{Durability, Handle, HubOptions, Notice, Notifier, PersistenceHub},
    seconds,
    store::{Change, Claim, Cursor, Expect, Filter, Health, Hint, Hints, Page, Record, Store},
    testkit::ManualClock,
};

use crate::{
    dice::Dice,
    flows::{self, Version},
    witness::Witness,
};

/// How long a lease is; nobody renews one, so that each holder that takes its time loses its run.
pub(crate) const LEASE: Duration = seconds(30);

/// What a process shares with all others of its world.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: ManualClock,
    pub(crate) dice: Dice,
    pub(crate) witness: Witness,
    /// Whether calls of the store and of tools may fail.
    pub(crate) faulty: Arc<AtomicBool>,
}

impl Ground {
    fn fails(&self, one_in: u64) -> bool {
        self.faulty.load(Ordering::Relaxed) && self.dice.one_in(one_in)
    }
}

/// What may be cut off from the world at any moment.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) name: Arc<str>,
    pub(crate) ground: Ground,
    alive: Arc<AtomicBool>,
}

impl Life {
    /// Lets others come first; does not come back in a process that was killed.
    pub(crate) async fn pause(&self) {
        for _ in 0..self.ground.dice.below(4) {
            tokio::task::yield_now().await;
        }
        if !self.is_alive() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Whether what is being done fails, as once in so many times.
    pub(crate) fn fails(&self, one_in: u64) -> bool {
        self.ground.fails(one_in)
    }
}

/// A hub, and all that makes it a process of its own.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) life: Life,
    pub(crate) hub: PersistenceHub,
    pub(crate) flows: Arc<Vec<Flow>>,
    pub(crate) handles: Arc<Vec<Handle>>,
}

impl Process {
    /// Starts one that is set up by chance.
    pub(crate) async fn start(ground: &Ground, name: String, keys: Keyring) -> Self {
        let version = if ground.dice.one_in(2) { Version::Old } else { Version::New };
        Self::of(ground, name, keys, version).await
    }

    /// Starts one that can go on with whatever the others have begun.
    pub(crate) async fn newest(ground: &Ground, keys: Keyring) -> Self {
        Self::of(ground, "the last".into(), keys, Version::New).await
    }

    async fn of(ground: &Ground, name: String, keys: Keyring, version: Version) -> Self {
        let dice = &ground.dice;
        let life = Life {
            name: name.into(),
            ground: ground.clone(),
            alive: Arc::new(AtomicBool::new(true)),
        };
        let mut options = HubOptions::default();
        options.lease = LEASE;
        options.retention = None;
        options.retry_delay = Duration::ZERO;
        options.max_retries = u32::try_from(dice.below(3)).expect("a few");
        options.max_takeovers = if dice.one_in(4) { 3 } else { 1000 };
        options.concurrency = 4;
        if dice.one_in(3) {
            options.durability = Durability::EveryStep;
        }
        if dice.one_in(3) {
            options.linger = Duration::ZERO;
        }
        let ahead = Duration::from_millis(dice.below(2) * dice.below(3000));
        ground.witness.note(&format!(
            "{} starts: {version:?}, {:?}, {} retries, {ahead:?} ahead",
            life.name, options.durability, options.max_retries
        ));
        let tells = dice.one_in(3);
        let hub = loop {
            let builder = PersistenceHub::builder(Arc::new(Wire(life.clone())))
                .keyring(keys.clone())
                .options(options.clone())
                .owner(life.name.to_string())
                .clock(Ahead { clock: ground.clock.clone(), by: ahead });
            let builder = if tells { builder.notifier(Mail(life.clone())) } else { builder };
            match builder.build().await {
                Ok(hub) => break hub,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        };
        let flows = flows::all(&life, version);
        let handles = flows.iter().map(|flow| hub.register(flow).expect("a new flow")).collect();
        Self { life, hub, flows: Arc::new(flows), handles: Arc::new(handles) }
    }

    pub(crate) fn kill(&self) {
        self.life.alive.store(false, Ordering::Relaxed);
    }
}

/// A clock that is ahead of the others.
struct Ahead {
    clock: ManualClock,
    by: Duration,
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.clock.now().after(self.by)
    }

    fn sleep_until(&self, at: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let by = i64::try_from(self.by.as_millis()).expect("seconds");
        self.clock.sleep_until(Timestamp::from_millis(at.as_millis() - by))
    }
}

/// Passes keys on, if it has a good day.
struct Mail(Life);

#[async_trait]
impl Notifier for Mail {
    async fn notify(&self, Notice { run_id, wait, .. }: Notice) -> Result<(), ToolError> {
        self.0.pause().await;
        let key = wait.key().map_err(|error| ToolError::new(error.to_string()))?;
        self.0.ground.witness.given(run_id, &wait.id, key);
        self.0.pause().await;
        match self.0.fails(4) {
            true => Err(ToolError::new("the mail server is away")),
            false => Ok(()),
        }
    }
}

/// The store, as a process reaches it: others come between any two calls, calls fail before or after
/// they have written, and none is made once the process was killed.
#[derive(Clone)]
struct Wire(Life);

impl Wire {
    async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.0.pause().await;
        self.cut()?;
        let result = call.await;
        self.0.pause().await;
        self.cut()?;
        result
    }

    fn cut(&self) -> Result<()> {
        match self.0.fails(40) {
            true => Err(Error::new(ErrorKind::StorageError, "the wire was cut").with_retryable()),
            false => Ok(()),
        }
    }

    fn store(&self) -> &dyn Store {
        self.0.ground.store.as_ref()
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wire").field(&self.0.name).finish()
    }
}

#[async_trait]
impl Store for Wire {
    async fn provision(&self) -> Result<()> {
        self.call(self.store().provision()).await
    }

    async fn exists(&self) -> Result<bool> {
        self.call(self.store().exists()).await
    }

    async fn insert(&self, record: Record) -> Result<()> {
        self.call(self.store().insert(record)).await
    }

    async fn get(&self, id: RunId) -> Result<Option<Record>> {
        self.call(self.store().get(id)).await
    }

    async fn update(&self, id: RunId, expect: Expect, change: Change) -> Result<Revision> {
        self.call(self.store().update(id, expect, change)).await
    }

    async fn delete(&self, id: RunId, expect: Expect) -> Result<()> {
        self.call(self.store().delete(id, expect)).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Record>> {
        self.call(self.store().claim(claim)).await
    }

    /// Leases are renewed on threads, which would make every simulation another one.
    async fn renew(&self, _: RunId, _: Epoch, _: Timestamp) -> Result<()> {
        Err(Error::new(ErrorKind::StorageError, "nobody renews").with_retryable())
    }

    async fn query(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page> {
        self.call(self.store().query(filter, after, limit)).await
    }

    async fn health(&self) -> Result<Health> {
        self.call(self.store().health()).await
    }

    fn hints(&self, to: Hint) -> Option<Hints> {
        self.store().hints(to)
    }
}
