//! What became of a wait, as it is kept and told.

use serde::{Deserialize, Serialize};

use super::{Answer, ContentDigest};
use crate::{
    clock::Timestamp,
    id::{KeyDigest, ToolId, WaitId},
};

/// What closed a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Closed {
    /// Somebody's answer was accepted.
    Answered,
    /// The deadline passed and the default took its place.
    Defaulted,
    /// The deadline passed and there was no default.
    TimedOut,
    /// The run was cancelled.
    Cancelled,
    /// The flow went on without it: a timeout around it, a failure elsewhere, an upgrade that moved the
    /// run on.
    Superseded,
}

/// Which answer, default or cancellation a wait took, and when. Holds neither input nor output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Receipt {
    /// The wait that was closed.
    pub wait_id: WaitId,
    /// The tool that asked.
    pub tool_id: ToolId,
    /// What closed it.
    pub closed: Closed,
    /// When it was closed.
    pub at: Timestamp,
    /// Who answered, as the answer said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The request that answered, as the answer said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Digest of the question that was answered.
    pub question: ContentDigest,
    /// Digest of the input that was taken, if any was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<ContentDigest>,
    /// Digests of the keys that could have answered it.
    #[serde(default)]
    pub keys: Vec<KeyDigest>,
}

impl Receipt {
    /// Whether a key of that digest could have answered the wait. All are compared, whether or not
    /// one has matched.
    pub(crate) fn is_opened_by(&self, digest: &KeyDigest) -> bool {
        self.keys.iter().fold(false, |found, key| key.matches(digest) | found)
    }

    /// Whether it says of the same answer that it was accepted at the same time. Keys may have been
    /// added to the wait since.
    pub(crate) fn is_same_answer(&self, other: &Self) -> bool {
        Self { keys: Vec::new(), ..self.clone() } == Self { keys: Vec::new(), ..other.clone() }
    }

    /// Whether it is that of this very request: the same id with another input is another request.
    pub(crate) fn is_of(&self, answer: &Answer) -> bool {
        self.closed == Closed::Answered
            && answer.request_id.is_some()
            && answer.request_id == self.request_id
            && self.input == Some(ContentDigest::of_value(&answer.input))
    }
}
