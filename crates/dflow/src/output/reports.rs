//! What the commands print that look after runs, flows, keys and the store.

use std::collections::BTreeMap;

use dynamic_flow::hub::Stranded;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{Run, Unreadable};

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
    /// `cancelled`; or what the run is doing, where its holder, who was told, is still at work; or what
    /// it came to in the meantime, such as `completed`.
    pub(crate) status: String,
}

/// What `cleanup` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Cleaned {
    /// Whether it is only told what would be removed.
    pub(crate) dry_run: bool,
    pub(crate) deleted_count: usize,
    pub(crate) deleted: Vec<Run>,
    /// Those that the criteria name and that were left all the same: they are being driven or were when
    /// their process died, a worker goes on with them next, or they changed at that very moment.
    pub(crate) left: Vec<Run>,
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
    /// How many ended runs were removed after their retention. Null where nobody counts them: without
    /// `--once`, and where `interrupted` says that it was stopped before it was done.
    pub(crate) purged: Option<usize>,
    /// Those that were skipped, and why; left out where there are none, and without `--once`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) skipped_runs: Vec<Skipped>,
    /// That it was stopped in the middle of steps: a worker takes their runs over when their leases
    /// have lapsed. Left out where it was not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) interrupted: bool,
}

/// A run that a worker could not go on with.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Skipped {
    pub(crate) run_id: Run,
    pub(crate) reason: String,
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
    /// How many could not be opened with the keys at hand.
    pub(crate) failed: usize,
    /// Those, and why; left out where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) failed_runs: Vec<Refused>,
    /// Those whose records do not read back; left out where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unreadable: Vec<Unreadable>,
    /// For `--cursor`; null when all were looked at, or none where `interrupted` says so.
    pub(crate) next_cursor: Option<String>,
    /// That it was interrupted before all were looked at; to be gone on with after `next_cursor`, or
    /// from the start where that is null. Left out where it was not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) interrupted: bool,
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
    /// How many runs of the flow have failed or expired, so that `retry` may go on with them; they
    /// are not among `runs`.
    pub(crate) failed: usize,
    /// Those of them that could not be retried with it.
    pub(crate) failed_stranded: Vec<Refused>,
    /// Those that could not be opened, so that nobody knows; left out where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unopened: Vec<Refused>,
}

/// A run that can't go on with a flow, or can't be opened.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Refused {
    pub(crate) run_id: Run,
    pub(crate) reasons: Vec<String>,
}

impl From<&Stranded> for Refused {
    fn from(run: &Stranded) -> Self {
        Self { run_id: run.run_id.into(), reasons: run.reasons.clone() }
    }
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
    /// Those of the refused that are not there or could not be opened, so that nobody knows whether
    /// the flow fits them; left out where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unopened: Vec<Refused>,
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
    /// Whether what was acknowledged survives a power failure; false where the store can't be used.
    pub(crate) durable: bool,
    /// Whether state is sealed.
    pub(crate) encrypted: bool,
    /// The ids of the keys at hand, the active one first.
    pub(crate) key_ids: Vec<String>,
    /// How many runs there are, by status; of many, how many among the newest 10,000.
    pub(crate) runs: BTreeMap<String, usize>,
    /// Whether `runs` are all that there are.
    pub(crate) all_counted: bool,
    /// How many runs wait beyond a deadline that no worker has seen to yet, or should have been
    /// continued two minutes ago, up to 10,000.
    pub(crate) overdue: usize,
    /// Those of the runs that were looked at whose records do not read back; left out where there are
    /// none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unreadable: Vec<Unreadable>,
    /// Why nothing can be written, that the store is missing or can't be used, or why not all runs
    /// could be listed, and so not all are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
    /// Whether the newest run can be opened; null where there is none.
    pub(crate) newest: Option<Newest>,
    /// How many runs were opened to see whether they do: all if they are few, else the newest, the
    /// oldest of those counted and some between.
    pub(crate) tried: usize,
    /// Those of them that do not open.
    pub(crate) unopened: Vec<Newest>,
    /// The schemes of the store URLs that this build opens.
    pub(crate) backends: Vec<String>,
    /// What an operator should mend or know.
    pub(crate) warnings: Vec<String>,
}

/// Whether a run can be opened.
#[derive(Debug, Clone, Serialize, JsonSchema)]
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
