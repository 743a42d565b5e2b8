//! What is accepted for a run before its holder works it in.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    engine::machine::Event,
    id::{KeyDigest, WaitId},
    wait::{Answer, Receipt},
};

/// An item of a run's inbox; each is sealed by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct InboxItem {
    /// When it was accepted; what the run goes by when it works the item in.
    pub(crate) at: Timestamp,
    /// What was accepted.
    pub(crate) what: Accept,
}

/// What was accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "nearly every item is an answer")]
pub(crate) enum Accept {
    /// An answer.
    Answer {
        /// To which wait.
        wait_id: WaitId,
        /// The answer.
        answer: Answer,
        /// What the caller was given for it.
        receipt: Receipt,
    },
    /// One more key for a wait.
    Key {
        /// For which wait.
        wait_id: WaitId,
        /// The digest of its secret.
        digest: KeyDigest,
    },
    /// A cancellation.
    Cancel {
        /// Who, as far as the caller said.
        by: Option<String>,
        /// Why, as far as the caller said.
        reason: Option<String>,
    },
    /// A failed run is to go on from the failed step.
    Retry,
}

impl InboxItem {
    /// What the machine hears of it, and when it happened.
    pub(crate) fn event(&self) -> (Event, Timestamp) {
        let event = match &self.what {
            Accept::Answer { wait_id, answer, .. } => {
                Event::Answered { wait: wait_id.clone(), answer: answer.clone() }
            }
            Accept::Key { wait_id, digest } => {
                Event::KeyAdded { wait: wait_id.clone(), digest: *digest }
            }
            Accept::Cancel { by, reason } => {
                Event::Cancelled { by: by.clone(), reason: reason.clone() }
            }
            Accept::Retry => Event::Retried,
        };
        (event, self.at)
    }
}
