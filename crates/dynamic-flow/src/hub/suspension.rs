//! What a caller with an engine of its own asks for when it suspends, and what it gets.

use std::time::Duration;

use serde_json::Value;

use crate::{
    Scalar,
    clock::Timestamp,
    id::{RunId, SuspensionKey, ToolId},
    schema::Schema,
    wait::WaitRequest,
};

/// What a state is suspended for.
///
/// ```
/// use dynamic_flow::{Schema, hours, hub::SuspensionRequest};
/// # fn main() -> dynamic_flow::Result<()> {
/// let request = SuspensionRequest::new("await-approval", Schema::any())
///     .prompt("Approve order 17?")
///     .timeout(hours(24))
///     .metadata("request_id", "12345");
/// # let _ = request; Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct SuspensionRequest {
    pub(super) tool_id: ToolId,
    pub(super) request: WaitRequest,
}

impl SuspensionRequest {
    /// A request for an input of that schema, asked by that tool.
    pub fn new(tool_id: impl Into<ToolId>, schema: Schema) -> Self {
        let tool_id = tool_id.into();
        let request = WaitRequest::new(format!("Input needed: {tool_id}"), schema);
        Self { tool_id, request }
    }

    /// What is asked.
    pub fn prompt(mut self, prompt: impl Into<String>) -> Self {
        self.request.prompt = prompt.into();
        self
    }

    /// What whoever answers must see.
    pub fn show(mut self, shown: Value) -> Self {
        self.request = self.request.show(shown);
        self
    }

    /// How long it stays open; the hub's `default_timeout` unless said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request = self.request.timeout(timeout);
        self
    }

    /// It stays open for ever.
    pub fn no_timeout(mut self) -> Self {
        self.request = self.request.no_timeout();
        self
    }

    /// What takes the answer's place after the deadline; `null` is a default too.
    pub fn default_value(mut self, default: Value) -> Self {
        self.request = self.request.default_value(default);
        self
    }

    /// A plain value to find it by.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Scalar>) -> Self {
        self.request = self.request.metadata(name, value);
        self
    }
}

/// A suspended state: its key, and until when it can be resumed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Suspended {
    /// The run under which the state is stored.
    pub run_id: RunId,
    /// The key that resumes it.
    pub key: SuspensionKey,
    /// When it was suspended.
    pub suspended_at: Timestamp,
    /// Its deadline, if it has one.
    pub expires_at: Option<Timestamp>,
}
