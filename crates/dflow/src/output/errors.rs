//! What is printed on standard error.

use std::{collections::BTreeMap, io};

use schemars::JsonSchema;
use serde::Serialize;

use super::Receipt;

/// What is printed on standard error when a command fails. Exit codes 1 to 5, and 130 where a run was
/// interrupted.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Failed {
    pub(crate) error: Problem,
}

impl Failed {
    /// The result could not be written.
    pub(crate) fn unwritten(error: &io::Error) -> Self {
        Self {
            error: Problem {
                kind: "OutputError".into(),
                message: format!("the result could not be written: {error}"),
                retryable: false,
                run_id: None,
                operation: None,
                context: BTreeMap::new(),
                causes: Vec::new(),
                violations: Vec::new(),
                findings: Vec::new(),
                reasons: Vec::new(),
                receipt: None,
            },
        }
    }
}

/// What went wrong.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Problem {
    /// A name that stays: `SuspensionKeyNotFound`, `InputValidationError`, `InvalidFlow`, …, and
    /// `OutputError` where the result could not be written.
    pub(crate) kind: String,
    pub(crate) message: String,
    /// Whether the same call may succeed when it is made again: a store that is out of reach for a
    /// moment, a run that somebody drives. Nothing else helps by itself.
    pub(crate) retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run_id: Option<String>,
    /// In which operation it happened, where that is known: of a store that failed, the call, such as
    /// `get`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) operation: Option<&'static str>,
    /// The things it happened to, by name: of a store, its `server` (without credentials) or its
    /// `path`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) context: BTreeMap<String, String>,
    /// What caused it, and what caused that in turn; for people, and not the same from one version to
    /// the next.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) causes: Vec<String>,
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
    /// `Plaintext`: the store holds readable state, because there is no key; `KeyFile`: others may
    /// read the file with the keys; `UnsetSecret`: a flow may have been refused a secret
    /// that has no value; `NoStore`: nobody said which store it is, and there is none in this folder
    /// yet; `OtherKey`: the run before is sealed with a key that is not at hand; `Powers`: what flows
    /// may do by settings that nobody named, and where those have runs kept and with which key they
    /// are sealed; `Volatile`: the store is in memory, and the run is gone when the process ends;
    /// `Waiting`: somebody drives the run of that id, and is waited for.
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}
