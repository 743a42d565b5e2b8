//! How a step failed.

use serde::{Deserialize, Serialize};

use crate::{id::ToolId, position::Position};

/// A failure of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// What to catch it by: one of [`codes`](crate::codes), or a tool's own.
    pub code: String,
    /// What happened.
    pub message: String,
    /// Where.
    pub position: Position,
    /// In which tool, if a tool was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_id: Option<ToolId>,
    /// Whether a `retry` should try again.
    pub retryable: bool,
}

impl Failure {
    /// One that no `retry` helps against, of no tool.
    pub(crate) fn permanent(code: &str, message: impl Into<String>, position: Position) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self { code, message, position, tool_id: None, retryable: false }
    }
}
