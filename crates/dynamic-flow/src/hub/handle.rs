//! Flows that are ready to run, and how their runs begin.

use std::{fmt, marker::PhantomData, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Completion, Inner, Outcome, PersistenceHub, drive, flows::Known, plain::Plain, vault::Opened,
};
use crate::{
    Error, ErrorKind, Result,
    engine::Snapshot,
    id::{FlowId, RunId, SuspensionKey},
    value::{from_value, to_value},
    wait::{Answer, Metadata, Scalar},
};

/// How a run is started.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RunOptions {
    id: Option<RunId>,
    metadata: Metadata,
}

impl RunOptions {
    /// Nothing out of the ordinary.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts the run under that id, and only once: where there is one already, it is gone on with
    /// like by [`PersistenceHub::drive`], and what it comes to is given. So a caller who does not
    /// know whether a start has come through starts again.
    ///
    /// Who starts it again gets no keys, which the first caller has; [`PersistenceHub::reissue`] makes
    /// one. Flow and input must be the same, and metadata of a later start count for nothing.
    ///
    /// Such a run is written before its first step. An id is known for as long as its run is kept:
    /// see [`HubOptions::retention`](super::HubOptions::retention). Whoever names the run of somebody
    /// else is given what it came to: an id that is made of a client's words should be made of the
    /// client's name, too.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use dynamic_flow::{Flow, RunId, Timestamp, store::MemoryStore};
    /// # use dynamic_flow::{hub::{Outcome, PersistenceHub, RunOptions}, tool::AwaitInput};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> dynamic_flow::Result<()> {
    /// # let store = Arc::new(MemoryStore::new());
    /// # let hub = PersistenceHub::builder(store).plaintext().build().await?;
    /// # let ordered_at = Timestamp::from_millis(1_795_420_800_000);
    /// # let flow = Flow::input::<u32>("purchase")
    /// #     .await_input(AwaitInput::<bool>::new("approve").prompt("Buy?")).build()?;
    /// let purchases = hub.register(&flow)?;
    /// let id = RunId::derive(ordered_at, "order 2048");
    /// for _ in 0..2 {
    ///     let outcome = purchases.run_with(2048, RunOptions::new().id(id)).await?;
    ///     let Outcome::Suspended(parked) = outcome else { unreachable!("it asks") };
    ///     assert_eq!(parked.run_id, id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn id(mut self, id: RunId) -> Self {
        self.id = Some(id);
        self
    }

    /// A plain value to find the run by; stored unsealed. A run has at most 32. While a wait of it is
    /// open that has one of the same name, the run is found by that of the wait instead.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Scalar>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }
}

/// A flow that is registered with a hub, ready to run. A clone costs little.
pub struct Handle<I = Value, O = Value> {
    pub(super) hub: PersistenceHub,
    pub(super) known: Arc<Known>,
    pub(super) types: PhantomData<fn(I) -> O>,
}

impl<I, O> Clone for Handle<I, O> {
    fn clone(&self) -> Self {
        Self { hub: self.hub.clone(), known: self.known.clone(), types: PhantomData }
    }
}

impl<I, O> fmt::Debug for Handle<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("flow", self.flow_id()).finish_non_exhaustive()
    }
}

impl<I, O> Handle<I, O> {
    /// The flow.
    pub fn flow_id(&self) -> &FlowId {
        &self.known.def.id
    }

    /// The hub that it is registered with.
    pub fn hub(&self) -> &PersistenceHub {
        &self.hub
    }
}

impl<I: Serialize, O: DeserializeOwned> Handle<I, O> {
    /// Runs the flow until it is parked or has ended.
    ///
    /// Once it returns a key, the run survives whatever happens to this process. A caller that goes
    /// away in the meantime changes nothing.
    ///
    /// A wait without a deadline of its own is open for
    /// [`HubOptions::default_timeout`](super::HubOptions). Deadlines and long sleeps need a worker
    /// somewhere: [`PersistenceHub::work`].
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
    /// As [`Handle::run`]. With an [`id`](RunOptions::id): `InvalidArgument` for one that is not made
    /// as [`RunId`] says; `AlreadyExists` where its run is one of another flow, or has another input;
    /// what [`PersistenceHub::drive`] fails with.
    pub async fn run_with(&self, input: I, options: RunOptions) -> Result<Outcome<O>> {
        let (hub, flow) = (self.hub.inner.clone(), self.known.clone());
        let input = to_value(&input)?;
        hub.check_run_input(&flow, &input)?;
        crate::metadata::check_given(&options.metadata)?;
        if let Some(id) = options.id {
            id.check_made(hub.clock.now())?;
        }
        let begun = self.hub.inner.carry_out(async move {
            if hub.is_stopping() {
                return Err(Error::new(ErrorKind::ShuttingDown, "the hub is shutting down"));
            }
            match options.id {
                None => {
                    let run = RunId::new(hub.clock.now())?;
                    let snapshot = flow.start(run, input, options.metadata)?;
                    drive::begin(hub, flow, snapshot).await?.outcome()
                }
                Some(run) => {
                    let snapshot = flow.start(run, input, options.metadata)?;
                    hub.run_once(flow, snapshot).await
                }
            }
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
        let flow = self.flow_id().clone();
        typed(self.hub.resume_of(Some(flow), key, answer.into()).await?)
    }

    /// Moves a run of this flow on, if there is anything to do; gives, too, what one that has ended came
    /// to.
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
    fn check_run_input(&self, flow: &Known, input: &Value) -> Result<()> {
        self.check_bounds(input).map_err(|error| error.with("flow", &flow.def.id))?;
        flow.def.input.validate(input).map_err(|violations| {
            Error::new(ErrorKind::InputValidationError, "the input does not fit the flow's schema")
                .with("flow", &flow.def.id)
                .with("violations", violations.len())
                .with_violations(violations)
        })
    }

    /// Begins a run under an id that others may begin it under, too, and drives it; where it was
    /// begun before, goes on with it.
    async fn run_once(
        self: &Arc<Self>,
        flow: Arc<Known>,
        mut snapshot: Snapshot,
    ) -> Result<Outcome> {
        let run = snapshot.run_id;
        if self.vault.get(run).await?.is_some() {
            return self.join(snapshot).await;
        }
        let now = self.clock.now();
        let record =
            self.seal_first(&mut snapshot, Plain::running(flow.queue(), now, self), now)?;
        match self.vault.insert_unless_there(&record).await {
            Ok(()) => {
                let begun = Opened { record, snapshot, inbox: Vec::new() };
                drive::go_on(self.clone(), flow, begun).await?.outcome()
            }
            Err(error) if error.is_perhaps_written() => {
                if self.vault.get(run).await?.as_ref() == Some(&record) {
                    let begun = Opened { record, snapshot, inbox: Vec::new() };
                    return drive::go_on(self.clone(), flow, begun).await?.outcome();
                }
                self.join(snapshot).await
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.join(snapshot).await,
            Err(error) => Err(error.with_run(run)),
        }
    }

    /// Goes on with the run that was begun with an id before.
    ///
    /// # Errors
    /// `AlreadyExists` where it is not the run that the snapshot would begin.
    async fn join(self: &Arc<Self>, snapshot: Snapshot) -> Result<Outcome> {
        let there = self.open_verified(snapshot.run_id).await?.snapshot;
        let other = match there.input == snapshot.input {
            _ if there.flow.id != snapshot.flow.id => "of another flow",
            false => "that was started with another input",
            true => return self.drive(snapshot.run_id).await,
        };
        let message = format!("there is a run of this id already, {other}; nothing was started");
        Err(Error::new(ErrorKind::AlreadyExists, message)
            .with_run(snapshot.run_id)
            .with("flow", &there.flow.id))
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
