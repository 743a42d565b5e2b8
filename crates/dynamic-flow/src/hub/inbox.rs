//! What is accepted for a run before its holder works it in.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    engine::machine::Event,
    id::{KeyDigest, WaitId},
    wait::{Answer, Cancellation, Receipt},
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
    Cancel(Cancellation),
    /// A failed run is to go on from the failed step.
    Retry,
    /// What counted once, and counts no more. Never written.
    #[serde(skip)]
    Spent,
}

impl Accept {
    /// Whether it names nothing that is there only once, as answers and keys name their wait: it
    /// counts for the state that it was accepted on, and for no later one.
    pub(crate) fn is_of_a_state(&self) -> bool {
        matches!(self, Self::Cancel(_) | Self::Retry)
    }
}

impl InboxItem {
    /// Items that were sealed with this sequence were accepted before it said on which state.
    const UNBOUND: u64 = 0;

    /// The item as it counts for the state of a sequence, when it was accepted on that of another.
    /// An old one, which the run has gone on from since, can only have been put back.
    pub(crate) fn found(self, accepted_on: u64, sequence: u64) -> Self {
        let is_old = ![Self::UNBOUND, sequence].contains(&accepted_on);
        match is_old && self.what.is_of_a_state() {
            true => Self { what: Accept::Spent, ..self },
            false => self,
        }
    }

    /// What the machine hears of it, and when it happened.
    pub(crate) fn event(&self) -> Option<(Event, Timestamp)> {
        let event = match &self.what {
            Accept::Answer { wait_id, answer, receipt } => Event::Answered {
                wait: wait_id.clone(),
                tool_id: receipt.tool_id.clone(),
                question: receipt.question.clone(),
                answer: answer.clone(),
            },
            Accept::Key { wait_id, digest } => {
                Event::KeyAdded { wait: wait_id.clone(), digest: *digest }
            }
            Accept::Cancel(cancellation) => Event::Cancelled(cancellation.clone()),
            Accept::Retry => Event::Retried,
            Accept::Spent => return None,
        };
        Some((event, self.at))
    }
}
