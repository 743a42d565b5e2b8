//! The pure machine: `(snapshot, event, now) → (snapshot, commands)`. No I/O, no clock, no randomness.
//!
//! It works like a future: an event is offered to the tree of branches, [`Machine::apply`] polls
//! the tree from the root down, and every leaf that the event or the time concerns goes on as far
//! as it can without anything from outside. What it needs from there comes out as commands.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    state::{Call, Ended, Snapshot},
    status::RunStatus,
    turn::{Env, Place, Progress, Turn},
};
use crate::{
    ToolError,
    clock::Timestamp,
    codes,
    expr::Variables,
    failure::Failure,
    flow::ir::{FlowDef, Step},
    id::{KeyDigest, ToolId, WaitId},
    position::Position,
    schema::told,
    tool::Output,
    wait::{Answer, Cancellation, Closed, ContentDigest, Receipt},
};

/// What a call came to, as the run goes on with it.
pub type Returned = Result<Output<Arc<Value>>, ToolError>;

/// Something that happened to a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The run begins, or goes on in another process: calls that were being made are made again.
    Started,
    /// A call came back.
    Returned {
        /// The call.
        call: u64,
        /// What it came to.
        result: Returned,
    },
    /// A wait was answered, and the answer was accepted.
    Answered {
        /// The wait.
        wait: WaitId,
        /// The tool that asked when it was answered: an upgrade may have renamed it since.
        tool_id: ToolId,
        /// Digest of the question that was answered: an upgrade may ask otherwise by now.
        question: ContentDigest,
        /// The answer.
        answer: Answer,
    },
    /// One more key answers a wait.
    KeyAdded {
        /// The wait.
        wait: WaitId,
        /// The digest of the key's secret.
        digest: KeyDigest,
    },
    /// Time passed.
    Tick,
    /// Somebody cancelled the run.
    Cancelled(Cancellation),
    /// A failed or expired run is to go on from the step that failed.
    Retried,
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Command<'f> {
    /// Make a call, and tell what it came to.
    Call(Order<'f>),
    /// Drop a call: what it comes to is of no interest any more.
    Abort {
        /// The call.
        call: u64,
    },
    /// A wait was opened: give it keys and commit.
    OpenWait(WaitId),
    /// A wait was closed.
    CloseWait(Receipt),
    /// A step began or ended; for those who watch.
    Trace(Trace),
}

/// A call to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Order<'f> {
    /// The call.
    pub call: Call,
    /// The step that makes it.
    pub step: &'f Step,
    /// Where the step is.
    pub position: Position,
    /// What it works on.
    pub input: Arc<Value>,
    /// The variables in scope.
    pub vars: Arc<Variables>,
    /// The input of the sub-flow that it is in, where that is not the run's.
    pub flow_input: Option<Arc<Value>>,
    /// The same whenever this very call is made again.
    pub idempotency_key: String,
}

/// What a watcher sees of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The step.
    pub position: Position,
    /// Its kind.
    pub kind: &'static str,
    /// What it calls.
    pub tool_id: Option<ToolId>,
    /// What happened to it.
    pub what: Traced,
}

/// What happened to a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Traced {
    /// It began.
    Started,
    /// It ended.
    Completed,
    /// It failed with that code.
    Failed(String),
}

/// Moves runs of one flow.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'f> {
    flow: &'f FlowDef,
    default_timeout: Duration,
}

impl<'f> Machine<'f> {
    /// A machine for runs of that flow; `default_timeout` is how long waits stay open that do not
    /// say it themselves.
    pub fn new(flow: &'f FlowDef, default_timeout: Duration) -> Self {
        Self { flow, default_timeout }
    }

    /// Works an event in that happened at `at`, while it is `now`.
    ///
    /// Timers that are due by `at` fire in the same turn: a timeout around a step before the event
    /// reaches the step, a wait's own deadline only if the event is not its answer. What begins
    /// begins `now`: an answer may be worked in long after it was accepted. An event for a call or
    /// wait that is not there any more changes nothing.
    pub fn apply(
        &self,
        snapshot: &mut Snapshot,
        event: Event,
        at: Timestamp,
        now: Timestamp,
    ) -> Vec<Command<'f>> {
        match &event {
            Event::KeyAdded { wait, digest } => {
                snapshot.add_key(wait, *digest);
                return Vec::new();
            }
            Event::Retried if matches!(snapshot.status, RunStatus::Failed | RunStatus::Expired) => {
                snapshot.status = RunStatus::Running;
                snapshot.ended = None;
            }
            _ if snapshot.status.is_final() => return Vec::new(),
            _ => {}
        }
        let mut turn = Turn {
            run_id: snapshot.run_id,
            at,
            now,
            default_timeout: self.default_timeout,
            event: Some(event),
            calls: snapshot.calls,
            opened_waits: snapshot.opened_waits,
            waits: std::mem::take(&mut snapshot.waits),
            timed_out: None,
            gave_up: false,
            commands: Vec::new(),
        };
        if let Some(Event::Cancelled(cancellation)) = &turn.event {
            let ended = Ended::Cancelled(cancellation.clone());
            turn.abandon(&mut snapshot.root, Closed::Cancelled);
            end(snapshot, RunStatus::Cancelled, ended);
        } else {
            let vars = Variables::new();
            let env = Env { vars: &vars, outer: None, attempt: 1, deadline: None, input: None };
            let progress =
                turn.poll_body(&self.flow.body, &mut snapshot.root, &Place::default(), env);
            self.conclude(snapshot, &mut turn, progress);
        }
        snapshot.calls = turn.calls;
        snapshot.opened_waits = turn.opened_waits;
        snapshot.waits = turn.waits;
        for command in &turn.commands {
            if let Command::CloseWait(receipt) = command {
                snapshot.keep(receipt.clone());
            }
        }
        turn.commands
    }

    /// Writes down what the root came to.
    fn conclude(&self, snapshot: &mut Snapshot, turn: &mut Turn<'f>, progress: Progress) {
        let progress = match progress {
            Progress::Done(output) => match self.flow.output.validate(&output) {
                Ok(()) => Progress::Done(output),
                Err(violations) => {
                    let message =
                        format!("the flow's output does not fit its schema: {}", told(&violations));
                    let code = codes::OUTPUT_INVALID;
                    Progress::Failed(Failure::permanent(code, message, Position::default()))
                }
            },
            other => other,
        };
        match progress {
            Progress::Pending => {
                snapshot.status = match snapshot.root.is_parked() {
                    true => RunStatus::Waiting,
                    false => RunStatus::Running,
                };
            }
            Progress::Done(output) => {
                snapshot.status = RunStatus::Completed;
                snapshot.root.value = Arc::default();
                snapshot.output = Some(Arc::unwrap_or_clone(output));
                snapshot.root.vars.clear();
            }
            Progress::Failed(failure) => {
                turn.abandon(&mut snapshot.root, Closed::Superseded);
                // A tool may call its error as it likes: only a wait expires a run.
                let expired = failure.code == codes::WAIT_TIMED_OUT
                    && turn.timed_out.as_ref() == Some(&failure.position);
                let status = if expired { RunStatus::Expired } else { RunStatus::Failed };
                end(snapshot, status, Ended::Failed(failure));
            }
            Progress::Rejected(position, value) => {
                turn.abandon(&mut snapshot.root, Closed::Superseded);
                let value = Arc::unwrap_or_clone(value);
                end(snapshot, RunStatus::Rejected, Ended::Rejected { position, value });
            }
        }
    }
}

fn end(snapshot: &mut Snapshot, status: RunStatus, ended: Ended) {
    snapshot.status = status;
    snapshot.ended = Some(ended);
}
