//! Which runs a query is about.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Record, WaitIndex};
use crate::{
    clock::Timestamp,
    engine::RunStatus,
    id::{FlowId, ToolId},
    metadata::{Metadata, Scalar},
};

/// Which runs a query is about; every criterion that is given must hold.
///
/// ```
/// use dynamic_flow::{RunStatus, Timestamp, days, store::Filter};
///
/// let now = Timestamp::from_millis(1_795_420_800_000);
/// let of_the_blue_team = Filter::new()
///     .flow_id("purchase")
///     .status(RunStatus::Waiting)
///     .metadata("team", "blue")
///     .created_after(now.before(days(7)));
/// # let _ = of_the_blue_team;
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Of one of these statuses; any if empty.
    pub status: BTreeSet<RunStatus>,
    /// Of that flow.
    pub flow_id: Option<FlowId>,
    /// With an open wait of that tool.
    pub tool_id: Option<ToolId>,
    /// With all of these in the metadata, of the same type and value. A run has those that it was given
    /// and those of its open waits; of two of the same name, the wait's counts, and of two waits that of
    /// the later one.
    pub metadata: Metadata,
    /// Created at that time or later.
    pub created_after: Option<Timestamp>,
    /// Created before that time.
    pub created_before: Option<Timestamp>,
    /// With an open wait whose deadline is at that time or later.
    pub expires_after: Option<Timestamp>,
    /// With an open wait whose deadline is before that time.
    pub expires_before: Option<Timestamp>,
}

impl Filter {
    /// All runs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only runs of that status, or of one of those where it is said several times.
    #[must_use]
    pub fn status(mut self, status: RunStatus) -> Self {
        self.status.insert(status);
        self
    }

    /// Only runs that have not ended, beside those of a [`status`](Filter::status) that is said as well.
    #[must_use]
    pub fn live(mut self) -> Self {
        self.status.extend(RunStatus::ALL.into_iter().filter(|status| !status.is_final()));
        self
    }

    /// Only runs of that flow.
    #[must_use]
    pub fn flow_id(mut self, id: impl Into<FlowId>) -> Self {
        self.flow_id = Some(id.into());
        self
    }

    /// Only runs with an open wait of that tool.
    #[must_use]
    pub fn tool_id(mut self, id: impl Into<ToolId>) -> Self {
        self.tool_id = Some(id.into());
        self
    }

    /// Only runs with that in the metadata, of the same type and value.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Scalar>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Only runs that were created at that time or later.
    #[must_use]
    pub fn created_after(mut self, at: Timestamp) -> Self {
        self.created_after = Some(at);
        self
    }

    /// Only runs that were created before that time.
    #[must_use]
    pub fn created_before(mut self, at: Timestamp) -> Self {
        self.created_before = Some(at);
        self
    }

    /// Only runs with an open wait whose deadline is at that time or later.
    #[must_use]
    pub fn expires_after(mut self, at: Timestamp) -> Self {
        self.expires_after = Some(at);
        self
    }

    /// Only runs with an open wait whose deadline is before that time.
    #[must_use]
    pub fn expires_before(mut self, at: Timestamp) -> Self {
        self.expires_before = Some(at);
        self
    }

    /// Whether a record is among them. `tool_id`, `expires_after` and `expires_before` must hold
    /// for the same wait.
    pub fn matches(&self, record: &Record) -> bool {
        let created = record.id.created_at();
        (self.status.is_empty() || self.status.contains(&record.status))
            && self.flow_id.as_ref().is_none_or(|id| *id == record.flow_id)
            && self.created_after.is_none_or(|at| created >= at)
            && self.created_before.is_none_or(|at| created < at)
            && self.metadata.iter().all(|(name, value)| record.metadata.get(name) == Some(value))
            && (!self.concerns_waits() || record.waits.iter().any(|wait| self.matches_wait(wait)))
    }

    /// Whether it asks anything of waits.
    pub fn concerns_waits(&self) -> bool {
        self.tool_id.is_some() || self.expires_after.is_some() || self.expires_before.is_some()
    }

    /// Whether a wait is what the filter asks for.
    pub fn matches_wait(&self, wait: &WaitIndex) -> bool {
        self.tool_id.as_ref().is_none_or(|id| *id == wait.tool_id)
            && self.expires_after.is_none_or(|at| wait.expires_at.is_some_and(|end| end >= at))
            && self.expires_before.is_none_or(|at| wait.expires_at.is_some_and(|end| end < at))
    }
}
