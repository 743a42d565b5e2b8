//! Runs as they are printed: what they came to, lists of them, and one in full.

use std::collections::BTreeMap;

use dynamic_flow::{
    Cancellation, Metadata, RunStatus, Timestamp,
    hub::{Ended as LibraryEnded, Outcome, RunView, SuspendedWait},
    store::{Summary, Unreadable as LibraryUnreadable, WaitIndex},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{Plain, Run, Time};

/// What `run`, `resume` and `retry` print.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(crate) enum RunResult {
    /// It ended with an output. Exit code 0.
    Completed { run_id: Run, output: Value },
    /// It is parked. Exit code 10.
    Suspended {
        run_id: Run,
        flow_id: String,
        suspended_at: Time,
        /// The open waits; none while the run only sleeps.
        waits: Vec<WaitWithKey>,
        /// When it wakes up, where it waits for nobody.
        #[serde(skip_serializing_if = "Option::is_none")]
        resumes_at: Option<Time>,
    },
    /// A filter said no. Exit code 11.
    Rejected { run_id: Run, step: String },
    /// It failed, expired or was cancelled; its state is kept. Exit code 1.
    Failed { run_id: Run, error: RunError },
}

/// Why a run ended without an output.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RunError {
    /// `RunFailed`, `RunExpired` or `RunCancelled`.
    pub(crate) kind: String,
    pub(crate) message: String,
    /// The step where it happened, where it happened at one.
    pub(crate) step: Option<String>,
    /// What a `catch` catches it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
}

/// An open wait.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Wait {
    id: String,
    tool_id: String,
    prompt: String,
    /// What whoever answers must see; null if nothing.
    shown: Value,
    /// What an answer must look like: a JSON Schema.
    schema: Value,
    /// Null if it never expires.
    expires_at: Option<Time>,
    #[schemars(with = "BTreeMap<String, Plain>")]
    metadata: Metadata,
}

/// An open wait, with when it was opened and what its deadline does.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct WaitInFull {
    #[serde(flatten)]
    wait: Wait,
    /// When it was opened.
    created_at: Time,
    /// Whether a default takes the answer's place when it expires.
    has_default: bool,
}

impl From<&SuspendedWait> for WaitInFull {
    fn from(wait: &SuspendedWait) -> Self {
        let (created_at, has_default) = (wait.created_at.into(), wait.has_default);
        Self { wait: wait.into(), created_at, has_default }
    }
}

/// An open wait, with the key that answers it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct WaitWithKey {
    #[serde(flatten)]
    wait: Wait,
    /// The suspension key: only for a wait that this very call opened. `reissue` gives another.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl From<&SuspendedWait> for Wait {
    fn from(wait: &SuspendedWait) -> Self {
        Self {
            id: wait.id.to_string(),
            tool_id: wait.tool_id.to_string(),
            prompt: wait.prompt.clone(),
            shown: wait.shown.clone().unwrap_or_default(),
            schema: wait.schema.as_value().clone(),
            expires_at: wait.expires_at.map(Into::into),
            metadata: wait.metadata.clone(),
        }
    }
}

impl From<&Outcome> for RunResult {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Completed(done) => {
                Self::Completed { run_id: done.run_id.into(), output: done.output.clone() }
            }
            Outcome::Rejected(rejection) => {
                Self::Rejected { run_id: rejection.run_id.into(), step: rejection.step.to_string() }
            }
            Outcome::Suspended(parked) => Self::Suspended {
                run_id: parked.run_id.into(),
                flow_id: parked.flow_id.to_string(),
                suspended_at: parked.suspended_at.into(),
                waits: parked
                    .waits
                    .iter()
                    .map(|wait| WaitWithKey {
                        wait: wait.into(),
                        key: wait.key.as_ref().map(|key| key.expose()),
                    })
                    .collect(),
                resumes_at: match parked.waits.is_empty() {
                    true => parked.resumes_at.map(Into::into),
                    false => None,
                },
            },
        }
    }
}

/// What an answer, default or cancellation did to a wait; holds no input, output or key.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Receipt {
    wait_id: String,
    tool_id: String,
    /// `answered`, `defaulted`, `timed_out`, `cancelled` or `superseded`.
    closed: String,
    at: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// SHA-256 of the question in canonical form, in hexadecimal.
    question: String,
    /// SHA-256 of the input in canonical form, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<String>,
}

impl From<&dynamic_flow::Receipt> for Receipt {
    fn from(receipt: &dynamic_flow::Receipt) -> Self {
        Self {
            wait_id: receipt.wait_id.to_string(),
            tool_id: receipt.tool_id.to_string(),
            closed: name_of(&receipt.closed),
            at: receipt.at.into(),
            by: receipt.by.clone(),
            request_id: receipt.request_id.clone(),
            question: receipt.question.0.clone(),
            input: receipt.input.as_ref().map(|digest| digest.0.clone()),
        }
    }
}

/// How an enum without fields is spelled in JSON.
pub(crate) fn name_of(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

/// What `answer` prints: the answer is durable, and whoever works goes on with the run.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Accepted {
    /// Always `accepted`.
    pub(crate) status: &'static str,
    pub(crate) run_id: Run,
    /// What the run is doing.
    pub(crate) run_status: String,
    /// Whether this very request was accepted before.
    pub(crate) repeated: bool,
    pub(crate) receipt: Receipt,
}

/// What `list` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct List {
    /// Newest first.
    pub(crate) items: Vec<ListItem>,
    /// For `--cursor`; null on the last page.
    pub(crate) next_cursor: Option<String>,
    /// Runs of the page whose records do not read back; left out where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unreadable: Vec<Unreadable>,
}

/// A run whose record does not read back.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Unreadable {
    pub(crate) run_id: Run,
    /// Where the record is: a file, a row, a key.
    pub(crate) place: String,
    /// What is wrong with it, and what to do.
    pub(crate) reason: String,
}

impl From<&LibraryUnreadable> for Unreadable {
    fn from(record: &LibraryUnreadable) -> Self {
        Self {
            run_id: record.id.into(),
            place: record.place.clone(),
            reason: record.reason.clone(),
        }
    }
}

/// A run in a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ListItem {
    pub(crate) run_id: Run,
    pub(crate) flow_id: String,
    pub(crate) status: String,
    pub(crate) created_at: Time,
    pub(crate) updated_at: Time,
    /// When a worker looks at it next.
    pub(crate) due_at: Option<Time>,
    /// When it continues by itself, where it waits for nobody but for a timer to go off: a sleep, or
    /// the pause before another try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resumes_at: Option<Time>,
    pub(crate) waits: Vec<ListWait>,
    #[schemars(with = "BTreeMap<String, Plain>")]
    pub(crate) metadata: Metadata,
}

/// An open wait in a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ListWait {
    id: String,
    tool_id: String,
    created_at: Time,
    expires_at: Option<Time>,
    /// Whether a default answers it after its deadline.
    has_default: bool,
}

/// The waits of a run that can be answered: none where it has ended, though one that was set aside
/// keeps them for when it is retried.
pub(crate) fn open_waits(run: &Summary) -> &[WaitIndex] {
    if run.status.is_final() { &[] } else { &run.waits }
}

/// When a run continues that is parked and asks nothing. Of one that asks something, the plain columns
/// don't tell a timer from a notifier's next call.
pub(crate) fn resumes_at(run: &Summary) -> Option<Timestamp> {
    let has_timer_alone = run.status == RunStatus::Waiting && run.waits.is_empty();
    run.due_at.filter(|_| has_timer_alone)
}

impl From<&Summary> for ListItem {
    fn from(run: &Summary) -> Self {
        let waits = open_waits(run).iter().map(|wait| ListWait {
            id: wait.id.to_string(),
            tool_id: wait.tool_id.to_string(),
            created_at: wait.created_at.into(),
            expires_at: wait.expires_at.map(Into::into),
            has_default: wait.has_default,
        });
        Self {
            run_id: run.id.into(),
            flow_id: run.flow_id.to_string(),
            status: run.status.to_string(),
            created_at: run.id.created_at().into(),
            updated_at: run.updated_at.into(),
            due_at: run.due_at.map(Into::into),
            resumes_at: resumes_at(run).map(Into::into),
            waits: waits.collect(),
            metadata: run.metadata.clone(),
        }
    }
}

/// What `show` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Show {
    pub(crate) run_id: Run,
    pub(crate) flow_id: String,
    pub(crate) status: String,
    pub(crate) created_at: Time,
    pub(crate) updated_at: Time,
    /// When a worker looks at it next.
    pub(crate) due_at: Option<Time>,
    /// Who drives it, if somebody does.
    pub(crate) driven_by: Option<String>,
    #[schemars(with = "BTreeMap<String, Plain>")]
    pub(crate) metadata: Metadata,
    pub(crate) input: Value,
    /// Null unless it has completed.
    pub(crate) output: Value,
    /// Where it stands: one position for each live branch.
    pub(crate) positions: Vec<String>,
    /// Why it ended, when it has ended without an output.
    pub(crate) ended: Option<Ended>,
    /// Its open waits: those that can still be answered.
    pub(crate) waits: Vec<WaitInFull>,
    /// What was accepted for waits and is not worked in yet, oldest first; a worker goes on with it.
    pub(crate) accepted: Vec<Receipt>,
    /// A cancellation that was accepted, while whoever drives the run has not come to it yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelling: Option<Cancelling>,
    /// What its last waits took, oldest first.
    pub(crate) receipts: Vec<Receipt>,
    /// How many receipts there were before those.
    pub(crate) earlier_receipts: u64,
    /// The flow with the position marked, as Mermaid or DOT; null where the flow is not at hand.
    pub(crate) diagram: Option<String>,
}

/// Why a run ended without an output.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Ended {
    Rejected {
        step: String,
    },
    Failed {
        step: String,
        code: String,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        tool_id: Option<String>,
    },
    Cancelled {
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

impl From<&LibraryEnded> for Ended {
    fn from(ended: &LibraryEnded) -> Self {
        match ended {
            LibraryEnded::Rejected { position, .. } => {
                Self::Rejected { step: position.to_string() }
            }
            LibraryEnded::Failed(failure) | LibraryEnded::SetAside(failure) => Self::Failed {
                step: failure.position.to_string(),
                code: failure.code.clone(),
                message: failure.message.clone(),
                tool_id: failure.tool_id.as_ref().map(ToString::to_string),
            },
            LibraryEnded::Cancelled(Cancellation { by, reason, .. }) => {
                Self::Cancelled { by: by.clone(), reason: reason.clone() }
            }
        }
    }
}

/// Who wants a run to end, and why.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Cancelling {
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Show {
    pub(crate) fn new(view: &RunView, diagram: Option<String>) -> Self {
        Self {
            run_id: view.run_id.into(),
            flow_id: view.flow_id.to_string(),
            status: view.status.to_string(),
            created_at: view.created_at.into(),
            updated_at: view.updated_at.into(),
            due_at: view.due_at.map(Into::into),
            driven_by: view.driven_by.clone(),
            metadata: view.metadata.clone(),
            input: view.input.clone(),
            output: view.output.clone().unwrap_or_default(),
            positions: view.positions.iter().map(ToString::to_string).collect(),
            ended: view.ended.as_ref().map(Into::into),
            waits: view.waits.iter().map(Into::into).collect(),
            accepted: view.accepted.iter().map(Into::into).collect(),
            cancelling: view.cancelling.as_ref().map(|Cancellation { by, reason, .. }| {
                Cancelling { by: by.clone(), reason: reason.clone() }
            }),
            receipts: view.receipts.iter().map(Into::into).collect(),
            earlier_receipts: view.earlier_receipts,
            diagram,
        }
    }
}
