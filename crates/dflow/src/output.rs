//! What `--json` prints: a contract. `dflow schema output` publishes it; fields may be added to it
//! and are never taken away.

use std::collections::BTreeMap;

use dynamic_flow::{
    RunId, Timestamp,
    engine::Ended as LibraryEnded,
    hub::{Outcome, RunView, SuspendedWait},
    store::Summary,
    wait::Metadata,
};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Serialize;
use serde_json::{Value, json};

/// RFC 3339.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("format" = "date-time"))]
pub(crate) struct Time(String);

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Self {
        Self(at.to_string())
    }
}

/// A run's id: a UUID whose order is that of creation.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("format" = "uuid"))]
pub(crate) struct Run(String);

impl From<RunId> for Run {
    fn from(id: RunId) -> Self {
        Self(id.to_string())
    }
}

/// A plain value.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is of use")]
enum Plain {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

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

/// How an enum without fields is spelt in JSON.
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

impl From<&Summary> for ListItem {
    fn from(run: &Summary) -> Self {
        let waits = run.waits.iter().map(|wait| ListWait {
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
    pub(crate) waits: Vec<Wait>,
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
            LibraryEnded::Failed(failure) => Self::Failed {
                step: failure.position.to_string(),
                code: failure.code.clone(),
                message: failure.message.clone(),
                tool_id: failure.tool_id.as_ref().map(ToString::to_string),
            },
            LibraryEnded::Cancelled { by, reason } => {
                Self::Cancelled { by: by.clone(), reason: reason.clone() }
            }
        }
    }
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
            receipts: view.receipts.iter().map(Into::into).collect(),
            earlier_receipts: view.earlier_receipts,
            diagram,
        }
    }
}

/// What `reissue` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Reissued {
    pub(crate) run_id: Run,
    pub(crate) wait_id: String,
    /// The new suspension key.
    pub(crate) key: String,
}

/// What `cancel` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Cancelled {
    pub(crate) run_id: Run,
    /// `cancelled`, or what the run is doing where its holder, who was told, is still at work.
    pub(crate) status: String,
}

/// What `cleanup` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Cleaned {
    /// Whether it is only told what would be removed.
    pub(crate) dry_run: bool,
    pub(crate) deleted_count: usize,
    pub(crate) deleted: Vec<Run>,
    /// Those that could not be removed, and why.
    pub(crate) errors: Vec<CleanupError>,
}

/// A run that could not be removed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CleanupError {
    pub(crate) run_id: Run,
    pub(crate) message: String,
}

/// What `work` prints when it ends.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Worked {
    /// How many runs were driven.
    pub(crate) driven: usize,
    /// How many could not be gone on with, and stay as they were.
    pub(crate) skipped: usize,
    /// How many ended runs were removed after their retention; null without `--once`.
    pub(crate) purged: Option<usize>,
}

/// What `keygen` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NewKey {
    /// 32 bytes in base64.
    pub(crate) key: String,
    /// Names the key without telling anything of it.
    pub(crate) key_id: String,
}

/// What `rotate-keys` prints.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Rotated {
    /// How many runs were looked at.
    pub(crate) runs: usize,
    /// How many were sealed anew.
    pub(crate) resealed: usize,
    /// How many were being driven, and are sealed with the active key at their next commit.
    pub(crate) busy: usize,
    /// How many no key at hand opens.
    pub(crate) failed: usize,
    /// For `--cursor`; null when all were looked at.
    pub(crate) next_cursor: Option<String>,
}

/// What `check` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Checked {
    pub(crate) flow_id: String,
    /// How many runs of the flow have not ended.
    pub(crate) runs: usize,
    /// How many of them are runs of this very flow.
    pub(crate) same: usize,
    /// How many others can go on with it.
    pub(crate) compatible: usize,
    /// Those that can't.
    pub(crate) stranded: Vec<Refused>,
}

/// A run that can't go on with a flow.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Refused {
    pub(crate) run_id: Run,
    pub(crate) reasons: Vec<String>,
}

/// What `upgrade` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Upgraded {
    pub(crate) flow_id: String,
    pub(crate) dry_run: bool,
    /// In what the newer flow differs, over all documents that the runs carry.
    pub(crate) differences: Vec<String>,
    /// What was moved, or would be.
    pub(crate) upgraded: Vec<Run>,
    /// What carries this very document already.
    pub(crate) unchanged: Vec<Run>,
    /// What can't be moved, and why.
    pub(crate) refused: Vec<Refused>,
}

/// What `diagram` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Diagram {
    pub(crate) flow_id: String,
    /// `mermaid` or `dot`.
    pub(crate) format: String,
    pub(crate) text: String,
}

/// What `tools` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Tools {
    pub(crate) tools: Vec<Tool>,
}

/// A tool that documents may call.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Tool {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: String,
    /// What it takes: a JSON Schema.
    pub(crate) input: Value,
    /// What it gives: a JSON Schema.
    pub(crate) output: Value,
    /// Whether it changes the world outside.
    pub(crate) effect: bool,
    /// Whether it always suspends its run.
    pub(crate) awaits_input: bool,
}

/// What `doctor` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Report {
    /// Whether nothing is broken; warnings do not count.
    pub(crate) healthy: bool,
    pub(crate) backend: String,
    /// Without credentials.
    pub(crate) location: String,
    pub(crate) latency_ms: f64,
    /// Whether what was acknowledged survives a power failure.
    pub(crate) durable: bool,
    /// Whether state is sealed.
    pub(crate) encrypted: bool,
    /// The ids of the keys at hand, the active one first.
    pub(crate) key_ids: Vec<String>,
    /// How many runs there are, by status.
    pub(crate) runs: BTreeMap<String, usize>,
    /// Whether the newest run can be opened; null where there is none.
    pub(crate) newest: Option<Newest>,
    /// The backends that this build has.
    pub(crate) backends: Vec<String>,
    /// What an operator should mend or know.
    pub(crate) warnings: Vec<String>,
}

/// Whether the newest run can be opened.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Newest {
    pub(crate) run_id: Run,
    pub(crate) opens: bool,
    /// Why it does not open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
}

/// What `completions` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Script {
    pub(crate) shell: String,
    pub(crate) script: String,
}

/// What is printed on standard error when a command fails. Exit codes 2 to 5, and 1.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Failed {
    pub(crate) error: Problem,
}

/// What went wrong.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Problem {
    /// A name that stays: `SuspensionKeyNotFound`, `InputValidationError`, `InvalidFlow`, …
    pub(crate) kind: String,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run_id: Option<String>,
    /// The things it happened to, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) context: BTreeMap<String, String>,
    /// Everything in which an input does not fit its schema.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) violations: Vec<Violation>,
    /// Everything that is wrong with a document.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) findings: Vec<Finding>,
    /// Why a flow does not fit a parked run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) reasons: Vec<String>,
    /// The receipt of what came first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) receipt: Option<Receipt>,
}

/// One way in which an input does not fit its schema.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Violation {
    /// JSON pointer to the offending part; empty for the whole.
    pub(crate) pointer: String,
    pub(crate) message: String,
}

/// Something that is wrong with a document.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Finding {
    /// The path of step ids.
    pub(crate) path: String,
    pub(crate) message: String,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<usize>,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<usize>,
}

/// What is worth knowing beside a result, on standard error.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Notice {
    pub(crate) notice: NoticeText,
}

/// The text of a notice.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NoticeText {
    /// `Plaintext`: the store holds readable state, because there is no key.
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

/// The schema of everything above. `$defs` has an entry for each subcommand by its name, and
/// `error` and `notice` for standard error.
pub(crate) fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    macro_rules! commands {
        ($($name:literal => $type:ty),* $(,)?) => {
            vec![$(($name, generator.subschema_for::<$type>().to_value())),*]
        };
    }
    let commands = commands! {
        "run" => RunResult,
        "resume" => RunResult,
        "retry" => RunResult,
        "answer" => Accepted,
        "list" => List,
        "show" => Show,
        "reissue" => Reissued,
        "cancel" => Cancelled,
        "cleanup" => Cleaned,
        "work" => Worked,
        "keygen" => NewKey,
        "rotate-keys" => Rotated,
        "check" => Checked,
        "upgrade" => Upgraded,
        "diagram" => Diagram,
        "tools" => Tools,
        "doctor" => Report,
        "completions" => Script,
        "error" => Failed,
        "notice" => Notice,
    };
    let any: Vec<Value> =
        commands.iter().map(|(name, _)| json!({ "$ref": format!("#/$defs/{name}") })).collect();
    let mut definitions = generator.take_definitions(true);
    definitions.extend(commands.into_iter().map(|(name, schema)| (name.to_owned(), schema)));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dflow --json",
        "description": "What each subcommand of dflow prints with --json, in $defs by its name.",
        "anyOf": any,
        "$defs": definitions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schema_is_one() {
        let schema = schema();
        let published = dynamic_flow::Schema::new(schema.clone()).unwrap();
        let completed =
            json!({ "status": "completed", "run_id": RunId::from_bytes([7; 16]), "output": 1 });
        published.validate(&completed).unwrap();
        published.validate(&json!({ "status": "completed" })).unwrap_err();
        for name in ["run", "error", "RunResult"] {
            assert!(schema["$defs"].get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_names_that_others_rely_on_stay() {
        let schema = schema();
        let required = |of: &str| schema["$defs"][of]["required"].clone();
        assert_eq!(required("List"), json!(["items", "next_cursor"]));
        assert_eq!(required("Failed"), json!(["error"]));
        assert_eq!(required("Problem"), json!(["kind", "message"]));
        assert_eq!(
            required("WaitWithKey"),
            json!(["id", "tool_id", "prompt", "shown", "schema", "expires_at", "metadata"])
        );
    }
}
