//! What runs come to, as callers get it.

use serde::Serialize;
use serde_json::Value;

use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    engine::{Ended, RunStatus, Snapshot},
    id::{FlowId, RunId, SuspensionKey, ToolId, WaitId},
    position::Position,
    schema::Schema,
    wait::{Cancellation, ContentDigest, Metadata, Receipt, Wait},
};

/// What driving a run came to. A failure is an error ([`Error::failure`]), which carries run id and
/// step, and the run keeps its state for `retry`.
///
/// There will be no other: what is not one of these is an error.
///
/// It is serialized with its `status`, and without keys: whoever is to answer gets those in another
/// way than whoever started the run.
///
/// ```
/// # use std::sync::Arc;
/// # use dynamic_flow::{Flow, hub::PersistenceHub, store::MemoryStore};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> dynamic_flow::Result<()> {
/// # let store = Arc::new(MemoryStore::new());
/// # let hub = PersistenceHub::builder(store).plaintext().build().await?;
/// let double = Flow::input::<u32>("double").map("twice", |n| 2 * n).build()?;
/// let done = hub.register(&double)?.run(21).await?;
/// let shown = serde_json::json!({ "status": "completed", "run_id": done.run_id(), "output": 42 });
/// assert_eq!(serde_json::to_value(&done).unwrap(), shown);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome<O = Value> {
    /// It ended with an output.
    Completed(Completion<O>),
    /// It is parked until somebody answers, or a timer fires.
    Suspended(Suspension),
    /// A filter said no.
    Rejected(Rejection),
}

impl<O> Outcome<O> {
    /// The run.
    pub fn run_id(&self) -> RunId {
        match self {
            Self::Completed(it) => it.run_id,
            Self::Suspended(it) => it.run_id,
            Self::Rejected(it) => it.run_id,
        }
    }

    /// The output of a run that has completed.
    ///
    /// # Errors
    /// `InvalidState` for one that has not.
    pub fn completed(self) -> Result<O> {
        match self {
            Self::Completed(completion) => Ok(completion.output),
            other => Err(other.is_not("completed")),
        }
    }

    /// What a parked run waits for.
    ///
    /// # Errors
    /// `InvalidState` for one that has ended.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use dynamic_flow::{Flow, hub::PersistenceHub, store::MemoryStore, tool::AwaitInput};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> dynamic_flow::Result<()> {
    /// # let store = Arc::new(MemoryStore::new());
    /// # let hub = PersistenceHub::builder(store).plaintext().build().await?;
    /// # let flow = Flow::input::<u32>("purchase")
    /// #     .await_input(AwaitInput::<bool>::new("approve").prompt("Buy?")).build()?;
    /// let purchases = hub.register(&flow)?;
    /// let parked = purchases.run(2048).await?.suspended()?;
    /// let key = parked.only()?.key()?;
    /// assert!(purchases.resume(key, serde_json::json!(true)).await?.completed()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn suspended(self) -> Result<Suspension> {
        match self {
            Self::Suspended(suspension) => Ok(suspension),
            other => Err(other.is_not("suspended")),
        }
    }

    fn is_not(&self, expected: &str) -> Error {
        let is = match self {
            Self::Completed(_) => "has completed".to_owned(),
            Self::Suspended(_) => "is suspended".to_owned(),
            Self::Rejected(it) => format!("was rejected by {}", it.step),
        };
        let message = format!("the run is not {expected}: it {is}");
        Error::new(ErrorKind::InvalidState, message).with_run(self.run_id())
    }
}

/// A run that ended with an output.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Completion<O = Value> {
    /// The run.
    pub run_id: RunId,
    /// What it gave.
    pub output: O,
}

/// A run that a filter ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Rejection {
    /// The run.
    pub run_id: RunId,
    /// The filter.
    pub step: Position,
    /// The value that it did not let go on.
    pub value: Value,
}

/// A run that is parked, and how to make it go on.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Suspension {
    /// The run.
    pub run_id: RunId,
    /// Its flow.
    pub flow_id: FlowId,
    /// When it was parked.
    pub suspended_at: Timestamp,
    /// When its next timer fires, if it has one.
    pub resumes_at: Option<Timestamp>,
    /// Its open waits.
    pub waits: Vec<SuspendedWait>,
}

impl Suspension {
    /// The one open wait of a run that has one.
    ///
    /// # Errors
    /// `InvalidState` when there are several, or none because the run sleeps or somebody else drives
    /// it.
    pub fn only(&self) -> Result<&SuspendedWait> {
        match self.waits.as_slice() {
            [wait] => Ok(wait),
            waits => {
                let error = |what: String| {
                    Err(Error::new(ErrorKind::InvalidState, what).with_run(self.run_id))
                };
                match (waits.len(), self.resumes_at) {
                    (0, Some(at)) => error(format!("the run asks nothing; it sleeps until {at}")),
                    (0, None) => error("the run asks nothing at the moment".into()),
                    (n, _) => error(format!("the run has {n} open waits, not one")),
                }
            }
        }
    }

    /// When the first of its waits expires, if one does.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.waits.iter().filter_map(|wait| wait.expires_at).min()
    }
}

/// An open wait, as the caller who parked the run gets it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct SuspendedWait {
    /// Which wait of its run it is.
    pub id: WaitId,
    /// The key that answers it: only for a wait that this very call opened. `reissue` gives another.
    #[serde(skip)]
    pub key: Option<SuspensionKey>,
    /// The tool that asks.
    pub tool_id: ToolId,
    /// What is asked.
    pub prompt: String,
    /// What whoever answers must see.
    pub shown: Option<Value>,
    /// What an answer must look like.
    pub schema: Schema,
    /// When it was opened.
    pub created_at: Timestamp,
    /// Its deadline, if it has one.
    pub expires_at: Option<Timestamp>,
    /// Whether its deadline takes a default in place of an answer.
    pub has_default: bool,
    /// Plain values to find it by.
    pub metadata: Metadata,
}

impl SuspendedWait {
    /// The key, where this call opened the wait.
    ///
    /// # Errors
    /// `InvalidState` where it did not.
    pub fn key(&self) -> Result<&SuspensionKey> {
        self.key.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidState,
                "the wait was opened by another call, which got its key; reissue gives a new one",
            )
            .with("wait", &self.id)
        })
    }

    pub(crate) fn new(wait: &Wait, key: Option<SuspensionKey>) -> Self {
        Self {
            id: wait.id.clone(),
            key,
            tool_id: wait.tool_id.clone(),
            prompt: wait.request.prompt.clone(),
            shown: wait.request.shown.clone(),
            schema: wait.request.schema.clone(),
            created_at: wait.created_at,
            expires_at: wait.expires_at,
            has_default: wait.request.default.is_some(),
            metadata: wait.request.metadata.clone(),
        }
    }
}

/// An answer that was accepted: from now on it is not lost.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Accepted {
    /// The run.
    pub run_id: RunId,
    /// What the wait took.
    pub receipt: Receipt,
    /// Whether this very request was accepted before.
    pub repeated: bool,
    /// What the run was doing when it was accepted.
    pub status: RunStatus,
}

/// All that the owner of a run may see of it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct RunView {
    /// The run.
    pub run_id: RunId,
    /// Its flow.
    pub flow_id: FlowId,
    /// Which version of the flow wrote its state, as [`Flow::fingerprint`](crate::Flow::fingerprint)
    /// tells them apart.
    pub fingerprint: ContentDigest,
    /// What it is doing.
    pub status: RunStatus,
    /// What it was started with.
    pub input: Value,
    /// Where it stands: one position for each live branch.
    pub positions: Vec<Position>,
    /// Its open waits, without keys: those that can be answered now. One that failed where it was
    /// committed last asks again once it is retried.
    pub waits: Vec<SuspendedWait>,
    /// What was accepted for waits and is not worked in yet, oldest first: those waits are not among
    /// the open ones any more, and whoever drives the run next goes on from here.
    pub accepted: Vec<Receipt>,
    /// The cancellation that was accepted for it, while it has not ended by that yet.
    pub cancelling: Option<Cancellation>,
    /// What its last closed waits took, oldest first.
    pub receipts: Vec<Receipt>,
    /// How many receipts there were before those.
    pub earlier_receipts: u64,
    /// Its output, when it has completed.
    pub output: Option<Value>,
    /// Why it ended, when it has ended otherwise.
    pub ended: Option<Ended>,
    /// Plain values to find it by.
    pub metadata: Metadata,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was written last.
    pub updated_at: Timestamp,
    /// When a worker looks at it next.
    pub due_at: Option<Timestamp>,
    /// Who drives it, if somebody does.
    pub driven_by: Option<String>,
    /// The document it was read from, if it was.
    pub document: Option<std::sync::Arc<str>>,
}

/// Turns a committed snapshot into what the caller gets.
pub(crate) fn outcome_of(
    snapshot: &Snapshot,
    now: Timestamp,
    mut keys: Vec<(WaitId, SuspensionKey)>,
) -> Result<Outcome> {
    let run_id = snapshot.run_id;
    let failure = |kind: ErrorKind, message: String| {
        Err(Error::new(kind, message).with_run(run_id).with("flow", &snapshot.flow.id))
    };
    match (&snapshot.status, &snapshot.ended) {
        (RunStatus::Completed, _) => {
            let output = snapshot.output.clone().unwrap_or_default();
            Ok(Outcome::Completed(Completion { run_id, output }))
        }
        (RunStatus::Rejected, Some(Ended::Rejected { position, value })) => {
            let (step, value) = (position.clone(), value.clone());
            Ok(Outcome::Rejected(Rejection { run_id, step, value }))
        }
        (RunStatus::Cancelled, ended) => {
            let reason = match ended {
                Some(Ended::Cancelled(Cancellation { reason: Some(reason), .. })) => {
                    format!(": {reason}")
                }
                _ => String::new(),
            };
            failure(ErrorKind::RunCancelled, format!("the run was cancelled{reason}"))
        }
        (status, Some(Ended::Failed(failed) | Ended::SetAside(failed))) => {
            let kind = match status {
                RunStatus::Expired => ErrorKind::RunExpired,
                _ => ErrorKind::RunFailed,
            };
            let mut error = Error::new(kind, failed.message.clone())
                .with_run(run_id)
                .with("flow", &snapshot.flow.id)
                .with("step", &failed.position)
                .with("code", &failed.code)
                .with_failure(failed.clone());
            if let Some(tool) = &failed.tool_id {
                error = error.with("tool", tool);
            }
            Err(error)
        }
        _ => {
            let waits = snapshot
                .waits
                .iter()
                .map(|wait| {
                    let fresh = keys.iter().position(|(id, _)| *id == wait.id);
                    SuspendedWait::new(wait, fresh.map(|index| keys.swap_remove(index).1))
                })
                .collect();
            Ok(Outcome::Suspended(Suspension {
                run_id,
                flow_id: snapshot.flow.id.clone(),
                suspended_at: now,
                resumes_at: snapshot.due_at(),
                waits,
            }))
        }
    }
}
