//! What a hub tells those who watch, and who is told of new waits.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{Stream, stream};
use serde::Serialize;
use tokio::sync::broadcast::{
    self,
    error::{RecvError, TryRecvError},
};

use super::outcome::SuspendedWait;
use crate::{
    ToolError,
    clock::Timestamp,
    engine::{Ended, RunStatus, Snapshot, machine::Traced},
    id::{FlowId, RunId, ToolId, WaitId},
    position::Position,
    wait::{Receipt, Wait},
};

/// Something that happened in a hub. Never holds a key, an input or an output.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum HubEvent {
    /// A run is being driven.
    #[non_exhaustive]
    RunStarted {
        /// The run.
        run_id: RunId,
        /// Its flow.
        flow_id: FlowId,
    },
    /// A step began.
    #[non_exhaustive]
    StepStarted {
        /// The run.
        run_id: RunId,
        /// The step.
        step: Position,
        /// Its kind.
        kind: &'static str,
        /// The tool it calls, if it calls one.
        tool_id: Option<ToolId>,
    },
    /// A step ended.
    #[non_exhaustive]
    StepCompleted {
        /// The run.
        run_id: RunId,
        /// The step.
        step: Position,
    },
    /// A step failed.
    #[non_exhaustive]
    StepFailed {
        /// The run.
        run_id: RunId,
        /// The step.
        step: Position,
        /// What to catch it by.
        code: String,
    },
    /// A wait was opened, durably.
    #[non_exhaustive]
    WaitOpened {
        /// The run.
        run_id: RunId,
        /// The wait, as its receipt names it once it is closed.
        wait_id: WaitId,
        /// The step that asks.
        step: Position,
        /// The tool that asks.
        tool_id: ToolId,
        /// Its deadline, if it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
    },
    /// A wait was closed, durably.
    #[non_exhaustive]
    WaitClosed {
        /// The run.
        run_id: RunId,
        /// What it took.
        receipt: Receipt,
    },
    /// A run was parked, has ended, or was let go for whoever comes first; nobody drives it any more.
    #[non_exhaustive]
    RunStopped {
        /// The run.
        run_id: RunId,
        /// What it is doing now.
        status: RunStatus,
        /// The step that ended it, if it was rejected, has failed or has expired.
        #[serde(skip_serializing_if = "Option::is_none")]
        step: Option<Position>,
        /// What it failed by, if it has failed or expired. The message is sealed, for it may hold what
        /// somebody said: [`get`](super::PersistenceHub::get) has it.
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<String>,
    },
    /// A worker could not go on with a run, which stays as it was.
    #[non_exhaustive]
    RunSkipped {
        /// The run.
        run_id: RunId,
        /// Why, in one line.
        reason: String,
    },
}

impl HubEvent {
    pub(crate) fn of_trace(run_id: RunId, trace: crate::engine::machine::Trace) -> Self {
        let step = trace.position;
        match trace.what {
            Traced::Started => {
                Self::StepStarted { run_id, step, kind: trace.kind, tool_id: trace.tool_id }
            }
            Traced::Completed => Self::StepCompleted { run_id, step },
            Traced::Failed(code) => Self::StepFailed { run_id, step, code },
        }
    }

    pub(crate) fn wait_opened(run_id: RunId, wait: &Wait) -> Self {
        Self::WaitOpened {
            run_id,
            wait_id: wait.id.clone(),
            step: wait.position.clone(),
            tool_id: wait.tool_id.clone(),
            expires_at: wait.expires_at,
        }
    }

    pub(super) fn run_stopped(snapshot: &Snapshot, status: RunStatus) -> Self {
        let ended = snapshot.ended.as_ref().filter(|_| status.is_final());
        let (step, code) = match ended {
            Some(Ended::Rejected { position, .. }) => (Some(position.clone()), None),
            Some(Ended::Failed(failure) | Ended::SetAside(failure)) => {
                (Some(failure.position.clone()), Some(failure.code.clone()))
            }
            Some(Ended::Cancelled(_)) | None => (None, None),
        };
        Self::RunStopped { run_id: snapshot.run_id, status, step, code }
    }

    /// The run that it happened to.
    pub fn run_id(&self) -> RunId {
        match self {
            Self::RunStarted { run_id, .. }
            | Self::StepStarted { run_id, .. }
            | Self::StepCompleted { run_id, .. }
            | Self::StepFailed { run_id, .. }
            | Self::WaitOpened { run_id, .. }
            | Self::WaitClosed { run_id, .. }
            | Self::RunStopped { run_id, .. }
            | Self::RunSkipped { run_id, .. } => *run_id,
        }
    }
}

/// A watcher of a hub. One that falls more than 1,024 events behind misses the oldest of them.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<HubEvent>,
    missed: u64,
}

impl Events {
    pub(crate) fn new(receiver: broadcast::Receiver<HubEvent>) -> Self {
        Self { receiver, missed: 0 }
    }

    /// How many events this watcher has missed so far, because it fell behind.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// The next event; none once the hub is gone, with all its clones. Runs that are let go tell of
    /// it, so `shutdown` alone does not end this.
    pub async fn next(&mut self) -> Option<HubEvent> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(missed)) => self.missed += missed,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// All events from here on, as a stream: to be served, merged or filtered.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use dynamic_flow::{hub::{HubEvent, PersistenceHub}, store::MemoryStore};
    /// use futures::{StreamExt as _, stream::BoxStream};
    ///
    /// fn of_waits(hub: &PersistenceHub) -> BoxStream<'static, HubEvent> {
    ///     let is_of_waits = |event: &HubEvent| {
    ///         matches!(event, HubEvent::WaitOpened { .. } | HubEvent::WaitClosed { .. })
    ///     };
    ///     let events = hub.events().into_stream();
    ///     events.filter(move |event| std::future::ready(is_of_waits(event))).boxed()
    /// }
    /// ```
    pub fn into_stream(self) -> impl Stream<Item = HubEvent> + Send + Unpin + 'static {
        Box::pin(stream::unfold(self, |mut events| async {
            let event = events.next().await?;
            Some((event, events))
        }))
    }

    /// The next event if it has happened already.
    pub fn try_next(&mut self) -> Option<HubEvent> {
        loop {
            match self.receiver.try_recv() {
                Ok(event) => return Some(event),
                Err(TryRecvError::Lagged(missed)) => self.missed += missed,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    }
}

/// A wait that somebody has to be told of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Notice {
    /// The run that asks.
    pub run_id: RunId,
    /// Its flow.
    pub flow_id: FlowId,
    /// What it asks, with a key that answers it.
    pub wait: SuspendedWait,
}

/// Is told of each new wait, with a key that answers it.
///
/// ```
/// use dynamic_flow::{
///     ToolError, async_trait,
///     hub::{Notice, Notifier},
/// };
/// use tokio::sync::mpsc::Sender;
///
/// /// Puts notices on the queue of a task that sends mails.
/// struct Mail(Sender<Notice>);
///
/// #[async_trait]
/// impl Notifier for Mail {
///     async fn notify(&self, notice: Notice) -> Result<(), ToolError> {
///         Ok(self.0.send(notice).await?)
///     }
/// }
/// ```
#[async_trait]
pub trait Notifier: Send + Sync + 'static {
    /// Passes the wait on to whoever shall answer: a mail, a message, a row in an inbox.
    ///
    /// Called at least once for each wait, after it is durable, and before `run` or `resume` return:
    /// put on a queue what may take long. It has 30 seconds; a panic is an error. When it fails, or
    /// the process dies before the success is written down, a worker calls it again with another
    /// key, after 2 seconds, then 4, at last every 34 minutes; the last seven keys stay good.
    async fn notify(&self, notice: Notice) -> Result<(), ToolError>;
}

#[async_trait]
impl<T: Notifier + ?Sized> Notifier for Arc<T> {
    async fn notify(&self, notice: Notice) -> Result<(), ToolError> {
        (**self).notify(notice).await
    }
}
