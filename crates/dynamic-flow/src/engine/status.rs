//! What a run is doing: the word for it that stores, programs and diagrams share.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::flow::Mark;

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunStatus {
    /// Parked: nothing is left to do but wait for answers or timers.
    Waiting,
    /// Parked with something accepted that nobody works on yet.
    Ready,
    /// Somebody drives it, or did when its process died.
    Running,
    /// Ended with an output.
    Completed,
    /// Ended by a filter that said no.
    Rejected,
    /// Stopped by a failure; `retry` makes it go on from the failed step.
    Failed,
    /// Ended because nobody answered in time.
    Expired,
    /// Ended by `cancel`.
    Cancelled,
}

impl RunStatus {
    /// All of them, in the order of a run's life.
    pub const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Ready,
        Self::Running,
        Self::Completed,
        Self::Rejected,
        Self::Failed,
        Self::Expired,
        Self::Cancelled,
    ];

    /// Whether the run has come to an end; `Failed` and `Expired` may still be retried.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Waiting | Self::Ready | Self::Running)
    }

    /// The status as it is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads what [`RunStatus::as_str`] wrote.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

impl From<RunStatus> for Mark {
    /// What a diagram says of the steps where a run of that status stands.
    fn from(status: RunStatus) -> Self {
        match status {
            RunStatus::Waiting => Self::Waits,
            RunStatus::Ready | RunStatus::Running => Self::Here,
            RunStatus::Completed => Self::Ended,
            RunStatus::Rejected => Self::Rejected,
            RunStatus::Failed => Self::Failed,
            RunStatus::Expired => Self::Expired,
            RunStatus::Cancelled => Self::Cancelled,
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
