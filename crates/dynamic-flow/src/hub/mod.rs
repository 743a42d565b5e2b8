//! The hub: runs flows, suspends them, resumes them, and looks after what is parked.

mod accept;
mod cleanup;
mod config;
mod drive;
mod events;
mod flows;
mod inbox;
mod lease;
mod outcome;
mod pending;
mod plain;
mod query;
mod skips;
mod state;
mod state_claim;
mod suspension;
mod vault;
mod worker;

use std::{
    borrow::Borrow,
    collections::HashMap,
    fmt,
    marker::PhantomData,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::{Notify, broadcast, watch};

use self::{
    flows::Known,
    lease::{Active, Keeper, lock},
    skips::Skips,
    vault::Vault,
    worker::is_of_the_run,
};
use crate::{
    Error, ErrorKind, Result,
    clock::Clock,
    codec::Codec,
    engine::RunStatus,
    flow::Flow,
    id::{FlowId, RunId, SuspensionKey, WaitId},
    store::{Hint, Store, hinted},
    tool::ToolRegistry,
    value::{check_depth, from_value, json_size, to_value},
    wait::{Answer, Metadata, Scalar},
};

pub use self::{
    cleanup::{Cleaned, Cleanup, CleanupError},
    config::{HubBuilder, HubOptions, KeyGenerator, OsKeyGenerator},
    events::{Events, HubEvent, Notifier},
    outcome::{Accepted, Completion, Outcome, Rejection, RunView, SuspendedWait, Suspension},
    query::{CheckReport, ResealReport, Stranded},
    state_claim::StateClaim,
    suspension::{Suspended, SuspensionRequest},
    worker::Worked,
};

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
    vault: Vault,
    keeper: Keeper,
    skips: Skips,
    flows: RwLock<HashMap<FlowId, Arc<Known>>>,
    documents: Mutex<HashMap<Arc<str>, Arc<Known>>>,
    active: Mutex<HashMap<RunId, Arc<Active>>>,
    /// Told whenever this hub lets a run go.
    idle: Notify,
    /// How much is being carried out: see [`InHand`].
    in_hand: AtomicUsize,
    events: broadcast::Sender<HubEvent>,
    stopping: watch::Sender<bool>,
}

impl Inner {
    /// How many documents are kept read.
    const MAX_DOCUMENTS: usize = 256;
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

    /// Does something on a task of its own, so that a caller who goes away changes nothing;
    /// `shutdown` waits for it.
    async fn carry_out<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.in_hand.fetch_add(1, Ordering::SeqCst);
        let in_hand = InHand(self.clone());
        let task = tokio::spawn(async move {
            let _in_hand = in_hand;
            work.await
        });
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Error::new(ErrorKind::ShuttingDown, "the runtime is shutting down")),
        }
    }

    async fn stopped(&self) {
        // An error means that the sender is gone, and it is in this very hub.
        self.stopping.subscribe().wait_for(|stopping| *stopping).await.ok();
    }

    /// Waits until nobody drives a run any more, taking it over if its holder died.
    async fn await_outcome(self: &Arc<Self>, run: RunId) -> Result<Outcome> {
        let mut pause = Duration::from_millis(5);
        let mut hints = self.vault.store().hints(Hint::Idle);
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
                if let Some(outcome) = self.take_and_drive(opened, flow).await? {
                    return Ok(outcome);
                }
            }
            tokio::select! {
                () = idle => {}
                () = hinted(&mut hints) => {}
                () = self.stopped() => {}
                () = self.clock.sleep_until(now.after(pause)) => {}
            }
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }
}

/// Something is being carried out.
struct InHand(Arc<Inner>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.in_hand.fetch_sub(1, Ordering::SeqCst);
        if self.0.is_stopping() {
            self.0.idle.notify_waiters();
        }
    }
}

/// How a run is started.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RunOptions {
    metadata: Metadata,
}

impl RunOptions {
    /// Nothing out of the ordinary.
    pub fn new() -> Self {
        Self::default()
    }

    /// A plain value to find the run by; stored unsealed. A run has at most 32.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Scalar>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
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
    /// afterwards, such as the store, the error's context says `answer accepted`:
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
                finished.map_err(|error| match is_of_the_run(error.kind()) {
                    true => error,
                    false => error.with("answer", "accepted"),
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
        self.inner
            .carry_out(async move {
                let opened = hub.open_verified(run).await?;
                let due = opened.record.due_at.is_some_and(|due| due <= hub.clock.now());
                let parked = opened.record.status == RunStatus::Waiting;
                if parked && due {
                    let flow = hub.fitting_flow(&opened)?;
                    if let Some(outcome) = hub.take_and_drive(opened, flow).await? {
                        return Ok(outcome);
                    }
                }
                hub.await_outcome(run).await
            })
            .await
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
    /// Gives the run's status: `Cancelled`; or what it came to where something that was accepted before
    /// the cancellation ended it or moved it on first; or what it is doing where somebody else drives
    /// it. A holder in this process stops at once: a tool that it calls ends where it awaits
    /// something, an effect too, whose outcome nobody knows then. One elsewhere stops at its next
    /// commit.
    ///
    /// # Errors
    /// `RunNotFound`; `InvalidState` when it has ended otherwise; `LimitExceeded` when `by` or `reason`
    /// is longer than 1 KiB; `EncryptionError` and `CorruptState` where its state does not open; what
    /// the store fails with.
    pub async fn cancel(
        &self,
        run: RunId,
        by: Option<String>,
        reason: Option<String>,
    ) -> Result<RunStatus> {
        let hub = self.inner.clone();
        self.inner.carry_out(async move { hub.cancel(run, by, reason).await }).await
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

    /// Stops: no run is begun any more, each run that is being driven is committed at its next step
    /// and let go, and workers end. Gives whether all were let go within `grace`; leases of those
    /// that were not lapse by themselves.
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

/// A flow that is registered with a hub, ready to run.
#[derive(Debug)]
pub struct Handle<I = Value, O = Value> {
    hub: PersistenceHub,
    known: Arc<Known>,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O> Clone for Handle<I, O> {
    fn clone(&self) -> Self {
        Self { hub: self.hub.clone(), known: self.known.clone(), types: PhantomData }
    }
}

impl<I: Serialize, O: DeserializeOwned> Handle<I, O> {
    /// Runs the flow until it is parked or has ended.
    ///
    /// Once it returns a key, the run survives whatever happens to this process. A caller that goes
    /// away in the meantime changes nothing.
    ///
    /// A wait without a deadline of its own is open for
    /// [`HubOptions::default_timeout`](HubOptions). Deadlines and long sleeps need a worker somewhere:
    /// [`PersistenceHub::work`].
    ///
    /// # Errors
    /// `SerializationError` for an input that JSON would change; `LimitExceeded` for one that is too
    /// large or nests too deep; `InputValidationError` when it does not fit the flow's schema;
    /// `InvalidArgument` for metadata that no store could hold beside those of a wait; `RunFailed`,
    /// `RunExpired` and `RunCancelled`, with run id and step, for how the run ended; `StateTooLarge`
    /// for a state that can't be committed; `RunBusy` where somebody else took the run over
    /// meanwhile; `ShuttingDown`, where a run that was begun is committed and left to the next worker;
    /// what the store fails with.
    pub async fn run(&self, input: I) -> Result<Outcome<O>> {
        self.run_with(input, RunOptions::new()).await
    }

    /// Runs the flow, with options.
    ///
    /// # Errors
    /// As [`Handle::run`].
    pub async fn run_with(&self, input: I, options: RunOptions) -> Result<Outcome<O>> {
        let hub = self.hub.inner.clone();
        let flow = self.known.clone();
        let input = to_value(&input)?;
        hub.check_run_input(&flow, &input)?;
        crate::metadata::check_given(&options.metadata)?;
        let begun = self.hub.inner.carry_out(async move {
            if hub.is_stopping() {
                return Err(Error::new(ErrorKind::ShuttingDown, "the hub is shutting down"));
            }
            let run = RunId::new(hub.clock.now())?;
            let snapshot = flow.start(run, input, options.metadata)?;
            drive::begin(hub, flow, snapshot).await
        });
        typed(begun.await?)
    }

    /// Answers a wait of a run of this flow, and drives the run until it is parked or has ended.
    ///
    /// # Errors
    /// As [`PersistenceHub::resume`]; `InvalidState` for a key of another flow's run.
    pub async fn resume(
        &self,
        key: &SuspensionKey,
        answer: impl Into<Answer>,
    ) -> Result<Outcome<O>> {
        let flow = self.known.def.id.clone();
        typed(self.hub.resume_of(Some(flow), key, answer.into()).await?)
    }

    /// Moves a run of this flow on, if there is anything to do.
    ///
    /// # Errors
    /// As [`PersistenceHub::drive`]; `SerializationError` for the output of another flow's run.
    pub async fn drive(&self, run: RunId) -> Result<Outcome<O>> {
        typed(self.hub.drive(run).await?)
    }

    /// Makes a failed or expired run of this flow go on from the step that failed.
    ///
    /// # Errors
    /// As [`PersistenceHub::retry`]; `SerializationError` for the output of another flow's run.
    pub async fn retry(&self, run: RunId) -> Result<Outcome<O>> {
        typed(self.hub.retry(run).await?)
    }
}

impl Inner {
    /// Refuses an input that is too large or nests too deep, before anybody works with it.
    fn check_bounds(&self, input: &Value) -> Result<()> {
        let size = json_size(input);
        if size > self.options.max_input_size {
            return Err(Error::new(ErrorKind::LimitExceeded, "the input is too large")
                .with("size", size)
                .with("limit", self.options.max_input_size));
        }
        check_depth(input)
    }

    fn check_run_input(&self, flow: &Known, input: &Value) -> Result<()> {
        self.check_bounds(input).map_err(|error| error.with("flow", &flow.def.id))?;
        flow.def.input.validate(input).map_err(|violations| {
            Error::new(ErrorKind::InputValidationError, "the input does not fit the flow's schema")
                .with("flow", &flow.def.id)
                .with("violations", violations.len())
                .with_violations(violations)
        })
    }
}

/// Reads the output of a run as the type that its flow gives.
fn typed<O: DeserializeOwned>(outcome: Outcome) -> Result<Outcome<O>> {
    Ok(match outcome {
        Outcome::Completed(Completion { run_id, output }) => Outcome::Completed(Completion {
            run_id,
            output: from_value(&output).map_err(|error| error.with_run(run_id))?,
        }),
        Outcome::Suspended(suspension) => Outcome::Suspended(suspension),
        Outcome::Rejected(rejection) => Outcome::Rejected(rejection),
    })
}
