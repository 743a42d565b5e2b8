//! The hub: runs flows, suspends them, resumes them, and looks after what is parked.

mod accept;
mod claims;
mod cleanup;
mod config;
mod drive;
mod driver;
mod ended;
mod events;
mod flows;
mod handle;
mod inbox;
mod lease;
mod outcome;
mod pending;
mod plain;
mod probe;
mod query;
mod requests;
mod rewrite;
mod skips;
mod state;
mod state_claim;
mod submit;
mod suspension;
mod take_up;
mod vault;
mod worker;

use std::{
    borrow::Borrow,
    collections::HashMap,
    fmt,
    marker::PhantomData,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::sync::{Notify, broadcast, watch};
use tracing::Instrument as _;

use self::{
    flows::{Documents, Known},
    lease::{Active, Keeper, lock},
    skips::Skips,
    vault::Vault,
};
use crate::{
    Error, ErrorKind, Result,
    clock::Clock,
    codec::Codec,
    engine::RunStatus,
    flow::Flow,
    id::{FlowId, RunId, SuspensionKey, WaitId},
    store::{Hint, Store},
    tool::ToolRegistry,
    value::{check_depth, json_size_beyond},
    wait::{Answer, Cancellation},
};

pub use self::{
    cleanup::{Cleaned, Cleanup, CleanupError},
    config::{HubBuilder, HubOptions, KeyGenerator, OsKeyGenerator},
    events::{Events, HubEvent, Notice, Notifier},
    handle::{Handle, RunOptions},
    outcome::{Accepted, Completion, Outcome, Rejection, RunView, SuspendedWait, Suspension},
    query::{CheckReport, ResealReport, Stranded},
    state_claim::StateClaim,
    suspension::{Suspended, SuspensionRequest},
    worker::Worked,
};
pub use crate::engine::{Ended, host::Durability};

/// Runs flows, suspends them when they need input, and resumes them exactly after it.
///
/// Cheap to clone; any number of hubs, in any number of processes, may share a store.
#[derive(Clone)]
pub struct PersistenceHub {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    codec: Codec,
    options: HubOptions,
    clock: Arc<dyn Clock>,
    keys: Arc<dyn KeyGenerator>,
    notifier: Option<Arc<dyn Notifier>>,
    tools: ToolRegistry,
    owner: String,
    /// How many leases this hub has asked for.
    leases: AtomicU64,
    vault: Vault,
    keeper: Keeper,
    skips: Skips,
    flows: RwLock<HashMap<FlowId, Arc<Known>>>,
    documents: Mutex<Documents>,
    /// Held while a document is read.
    reading: Mutex<()>,
    active: Mutex<HashMap<RunId, Arc<Active>>>,
    /// Told whenever this hub lets a run go.
    idle: Notify,
    /// How much is being carried out: see [`InHand`].
    in_hand: AtomicUsize,
    events: broadcast::Sender<HubEvent>,
    stopping: watch::Sender<bool>,
}

impl Inner {
    /// How many events a slow watcher may be behind before it misses some.
    const EVENTS: usize = 1024;

    fn tell(&self, event: HubEvent) {
        // Nobody need be watching.
        self.events.send(event).ok();
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Whether this hub carries nothing out.
    fn is_idle(&self) -> bool {
        self.in_hand.load(Ordering::SeqCst) == 0
    }

    /// Does something on a task of its own, so that a caller who goes away changes nothing, within the
    /// span of the caller; `shutdown` waits for it.
    fn carry_out<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
        self: &Arc<Self>,
        work: F,
    ) -> impl Future<Output = Result<T>> + Send + use<T, F> {
        let in_hand = InHand::of(self);
        // On the heap from the start, it makes no future large that is around it.
        let work = Box::pin(work);
        let work = async move {
            let _in_hand = in_hand;
            work.await
        };
        async {
            match tokio::spawn(work.in_current_span()).await {
                Ok(result) => result,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => Err(Error::new(ErrorKind::ShuttingDown, "the runtime is shutting down")),
            }
        }
    }

    /// As [`Self::carry_out`], where nobody waits for what comes of it; nothing where no runtime is at
    /// hand.
    fn carry_out_unseen(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let in_hand = InHand::of(self);
        runtime.spawn(async move {
            let _in_hand = in_hand;
            work.await;
        });
    }

    async fn stopped(&self) {
        // An error means that the sender is gone, and it is in this very hub.
        self.stopping.subscribe().wait_for(|stopping| *stopping).await.ok();
    }

    async fn drive(self: &Arc<Self>, run: RunId) -> Result<Outcome> {
        let opened = self.open_verified(run).await?;
        let due = opened.record.due_at.is_some_and(|due| due <= self.clock.now());
        if due && opened.record.status == RunStatus::Waiting {
            let flow = self.fitting_flow(&opened)?;
            if let Some(driven) = self.take_and_drive(opened, flow).await? {
                return driven.outcome();
            }
        }
        self.await_outcome(run).await
    }

    /// Waits until nobody drives a run any more, taking it over if its holder died.
    async fn await_outcome(self: &Arc<Self>, run: RunId) -> Result<Outcome> {
        let mut pause = Duration::from_millis(5);
        let mut hints = self.vault.hints(Hint::Idle);
        loop {
            let idle = self.idle.notified();
            let opened = self.open_verified(run).await?;
            let now = self.clock.now();
            let busy = matches!(opened.record.status, RunStatus::Running | RunStatus::Ready);
            if !busy {
                return outcome::outcome_of(&opened.snapshot, opened.record.updated_at, Vec::new());
            }
            if self.is_stopping() {
                return Err(Error::new(
                    ErrorKind::ShuttingDown,
                    "the hub is shutting down; what was accepted is kept for the next worker",
                )
                .with_run(run));
            }
            if !opened.record.is_held(now) {
                let flow = self.fitting_flow(&opened)?;
                if let Some(driven) = self.take_and_drive(opened, flow).await? {
                    return driven.outcome();
                }
            }
            tokio::select! {
                () = idle => {}
                () = hints.next() => {}
                () = self.stopped() => {}
                () = self.clock.sleep_until(now.after(pause)) => {}
            }
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }
}

/// Something is being carried out.
struct InHand(Arc<Inner>);

impl InHand {
    fn of(hub: &Arc<Inner>) -> Self {
        hub.in_hand.fetch_add(1, Ordering::SeqCst);
        Self(hub.clone())
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.in_hand.fetch_sub(1, Ordering::SeqCst);
        if self.0.is_stopping() {
            self.0.idle.notify_waiters();
        }
    }
}

impl PersistenceHub {
    /// Starts building a hub over a store.
    ///
    /// Either a keyring or `plaintext` must be said.
    pub fn builder(store: Arc<dyn Store>) -> HubBuilder {
        HubBuilder::new(store)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Makes a flow known to this hub, and gives a handle to run it.
    ///
    /// Every process that resumes runs of a flow in code must register it. A flow from a document
    /// travels with its runs and need not be registered to be resumed.
    ///
    /// # Errors
    /// `InvalidConfig` when another flow of that id is registered.
    pub fn register<I, O>(&self, flow: impl Borrow<Flow<I, O>>) -> Result<Handle<I, O>> {
        let erased = flow.borrow().erase();
        let known = Arc::new(Known::new(&erased));
        if known.def.document.is_none() {
            let mut flows = self.inner.flows.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(other) = flows.get(&known.def.id)
                && other.def != known.def
            {
                return Err(Error::new(
                    ErrorKind::InvalidConfig,
                    "another flow of this id is registered with this hub",
                )
                .with("flow", &known.def.id));
            }
            flows.insert(known.def.id.clone(), known.clone());
        }
        Ok(Handle { hub: self.clone(), known, types: PhantomData })
    }

    /// The tools that documents may call here.
    pub fn tools(&self) -> &ToolRegistry {
        &self.inner.tools
    }

    /// Answers a wait and drives the run until it is parked or has ended.
    ///
    /// # Errors
    /// As [`PersistenceHub::answer`], `FlowNotRegistered` (nothing is consumed), and what the run
    /// fails with after the wait. Where the answer was accepted and something else went wrong
    /// afterwards, such as the store, [`Error::is_answer_accepted`] says so:
    /// [`PersistenceHub::drive`] or a worker goes on, and the same answer again is `AlreadyResumed`,
    /// unless it has a [`request_id`](Answer::request_id).
    pub async fn resume(&self, key: &SuspensionKey, answer: impl Into<Answer>) -> Result<Outcome> {
        self.resume_of(None, key, answer.into()).await
    }

    async fn resume_of(
        &self,
        flow: Option<FlowId>,
        key: &SuspensionKey,
        answer: Answer,
    ) -> Result<Outcome> {
        let (hub, key) = (self.inner.clone(), key.clone());
        self.inner
            .carry_out(async move {
                let (accepted, submitted) = hub.accept(&key, &answer, flow.as_ref(), true).await?;
                let finished = hub.finish(accepted.run_id, submitted).await;
                finished.map_err(|error| match error.is_end_of_run() {
                    true => error,
                    false => error.answer_accepted(),
                })
            })
            .await
    }

    /// Accepts an answer durably, without driving the run; needs no flow.
    ///
    /// The same `request_id` with the same input again is told that it was accepted.
    ///
    /// # Errors
    /// `SuspensionKeyNotFound`; `AlreadyResumed` with the receipt; `SuspensionExpired` after the
    /// deadline, whose effect only `resume`, `drive` and workers bring about; `InvalidState` for a run
    /// that has failed, until it is retried; `FlowIncompatible`; `InputValidationError` with all
    /// violations; `LimitExceeded` for an input that is too large or nests too deep, and for a `by` or
    /// `request_id` beyond 1 KiB; `EncryptionError` and `CorruptState`, for the holder of a right key,
    /// where the state does not open; what the store fails with. But for the last, the run is as it
    /// was.
    pub async fn answer(&self, key: &SuspensionKey, answer: impl Into<Answer>) -> Result<Accepted> {
        let (hub, key, answer) = (self.inner.clone(), key.clone(), answer.into());
        self.inner
            .carry_out(async move { Ok(hub.accept(&key, &answer, None, false).await?.0) })
            .await
    }

    /// Moves a run on, if there is anything to do: something was accepted, a timer is due, or its
    /// holder died. Tells what it is doing otherwise, and waits while somebody else drives it.
    ///
    /// # Errors
    /// `RunNotFound`, `FlowNotRegistered`, `FlowIncompatible`, and what the run fails with.
    pub async fn drive(&self, run: RunId) -> Result<Outcome> {
        let hub = self.inner.clone();
        self.inner.carry_out(async move { hub.drive(run).await }).await
    }

    /// Adds a key to an open wait, for when the first was lost or never received. The earlier keys
    /// stay good; one answer is taken all the same.
    ///
    /// # Errors
    /// `RunNotFound`, `InvalidState` when there is no such open wait, `SuspensionExpired` after its
    /// deadline, `LimitExceeded` after 16 keys.
    pub async fn reissue(&self, run: RunId, wait: &WaitId) -> Result<SuspensionKey> {
        let (hub, wait) = (self.inner.clone(), wait.clone());
        self.inner.carry_out(async move { hub.reissue(run, &wait).await }).await
    }

    /// Ends a run: its waits take no answers any more. Cancelling a cancelled run is no error.
    ///
    /// Gives the run's status: `Cancelled`; `Ready` where an answer comes first and nobody here has the
    /// flow that takes it; what it came to where something that was accepted before the cancellation
    /// ended it or moved it on first; or what it is doing where somebody else drives it. A holder in
    /// this process stops once the tool that it calls awaits something, where the tool ends, an effect too,
    /// whose outcome nobody knows then. One elsewhere stops at its next commit, that of the run's end
    /// included.
    ///
    /// ```
    /// # use dynamic_flow::{Cancellation, RunId, hub::PersistenceHub};
    /// # async fn example(hub: PersistenceHub, run: RunId) -> dynamic_flow::Result<()> {
    /// hub.cancel(run, Cancellation::new().by("jane").reason("ordered twice")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `RunNotFound`; `InvalidState` when it has ended otherwise; `LimitExceeded` when `by` or `reason`
    /// is longer than 1 KiB; `EncryptionError` and `CorruptState` where its state does not open; what
    /// the store fails with.
    pub async fn cancel(&self, run: RunId, cancellation: Cancellation) -> Result<RunStatus> {
        let hub = self.inner.clone();
        self.inner.carry_out(async move { hub.cancel(run, cancellation).await }).await
    }

    /// Makes a failed or expired run go on from the step that failed. A tool that failed with the
    /// answer to its question is given that answer again, unless its error is permanent.
    ///
    /// # Errors
    /// `RunNotFound`, `InvalidState` when it has not failed, `FlowNotRegistered`,
    /// `FlowIncompatible`, and what the run fails with again.
    pub async fn retry(&self, run: RunId) -> Result<Outcome> {
        let hub = self.inner.clone();
        self.inner
            .carry_out(async move {
                let submitted = hub.retry(run).await?;
                hub.finish(run, submitted).await
            })
            .await
    }

    /// What happens in this hub from now on.
    pub fn events(&self) -> Events {
        Events::new(self.inner.events.subscribe())
    }

    /// Stops: no run is begun any more, each run that is being driven is committed before it calls its
    /// next tool, asks or sleeps, and let go, and workers end. Gives whether all were let go within
    /// `grace`; those that were not go on for as long as this process lives, and their leases lapse by
    /// themselves after it.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.inner.stopping.send_replace(true);
        let deadline = tokio::time::Instant::now() + grace;
        loop {
            let idle = self.inner.idle.notified();
            if self.inner.is_idle() {
                return true;
            }
            lock(&self.inner.active).values().for_each(|run| run.stop());
            if tokio::time::timeout_at(deadline, idle).await.is_err() {
                return self.inner.is_idle();
            }
        }
    }
}

impl fmt::Debug for PersistenceHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PersistenceHub")
            .field("owner", &self.inner.owner)
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Refuses an input that is too large or nests too deep, before anybody works with it.
    fn check_bounds(&self, input: &Value) -> Result<()> {
        if let Some(size) = json_size_beyond(self.options.max_input_size, input) {
            return Err(Error::new(ErrorKind::LimitExceeded, "the input is too large")
                .with("size", size)
                .with("limit", self.options.max_input_size));
        }
        check_depth(input)
    }
}
