//! A question that is open, as the state of its run has it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Answer, Closed, ContentDigest, Receipt, WaitRequest, is_zero};
use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    id::{KeyDigest, RunId, ToolId, WaitId},
    position::Position,
};

/// An open question of a run: one versioned, persisted object, from which a terminal prompt, a
/// form, an inbox row and a notification are all derived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wait {
    /// The version of this object's form; [`Wait::VERSION`] when written by this build. Nothing depends
    /// on it yet: one without it is read as well.
    #[serde(default = "first_version")]
    pub version: u32,
    /// Which wait of its run it is.
    pub id: WaitId,
    /// The tool that asks.
    pub tool_id: ToolId,
    /// Where in the flow it stands.
    pub position: Position,
    /// What is asked, and on which terms.
    #[serde(flatten)]
    pub request: WaitRequest,
    /// When it was opened.
    pub created_at: Timestamp,
    /// After this time no answer is taken any more; none if it never ends.
    pub expires_at: Option<Timestamp>,
    /// Digests of the keys that may answer it.
    pub keys: Vec<KeyDigest>,
    /// Digest of the question: its run, id, tool, prompt, shown value and schema.
    pub question: ContentDigest,
    /// Whether a notifier was told of it.
    #[serde(default)]
    pub notified: bool,
    /// How often a notifier failed to pass it on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_notices: u32,
    /// Those of its keys that were made for a notifier which did not pass them on, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notice_keys: Vec<KeyDigest>,
}

impl Wait {
    /// The version of the persisted form that this build writes.
    pub const VERSION: u32 = 1;

    /// A wait that is opened now, without keys.
    pub(crate) fn open(
        run: RunId,
        id: WaitId,
        tool_id: ToolId,
        position: Position,
        request: WaitRequest,
        now: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> Self {
        Self {
            version: Self::VERSION,
            question: Self::question_digest(run, &id, &tool_id, &request),
            id,
            tool_id,
            position,
            request,
            created_at: now,
            expires_at,
            keys: Vec::new(),
            notified: false,
            failed_notices: 0,
            notice_keys: Vec::new(),
        }
    }

    /// Digest of a question: which wait of which run it is, what it asks and shows, and what an
    /// answer must look like.
    pub(crate) fn question_digest(
        run: RunId,
        id: &WaitId,
        tool: &ToolId,
        request: &WaitRequest,
    ) -> ContentDigest {
        #[derive(Serialize)]
        struct Question<'a> {
            run_id: RunId,
            wait_id: &'a WaitId,
            tool_id: &'a ToolId,
            prompt: &'a str,
            shown: &'a Option<Value>,
            schema: &'a Value,
        }
        let WaitRequest { prompt, shown, schema, .. } = request;
        let schema = schema.as_value();
        let question = Question { run_id: run, wait_id: id, tool_id: tool, prompt, shown, schema };
        ContentDigest::of_whole(&question, shown.iter().chain([schema]))
    }

    /// Digest of the question as it stands now.
    pub(crate) fn asks(&self, run: RunId) -> ContentDigest {
        Self::question_digest(run, &self.id, &self.tool_id, &self.request)
    }

    /// Whether another says the same to whoever answers, whatever its tool is called.
    pub(crate) fn asks_the_same<'w>(&'w self, other: &'w Self) -> bool {
        let said = |wait: &'w Self| {
            let WaitRequest { prompt, shown, schema, default, metadata, .. } = &wait.request;
            (prompt, shown, schema, default, metadata)
        };
        said(self) == said(other)
    }

    /// Whether its deadline has passed.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Makes sure that a receipt is of the question as it stands now: what was approved is what the
    /// run goes on with.
    ///
    /// # Errors
    /// `CorruptState` where it is of another.
    pub(crate) fn check_asked(&self, run: RunId, receipt: &Receipt) -> Result<()> {
        if self.asks(run) == receipt.question {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::CorruptState,
            "what was answered is not what the wait asks now; the run was left as it is",
        )
        .with_run(run)
        .with("wait", &self.id))
    }

    /// Adds a key for a notifier. Of those that earlier calls did not pass on, the oldest gives way
    /// once there are `most`; keys that somebody was given stay.
    pub(crate) fn add_notice_key(&mut self, digest: KeyDigest, most: usize) {
        if self.notice_keys.len() >= most {
            let oldest = self.notice_keys.remove(0);
            self.keys.retain(|key| *key != oldest);
        }
        self.keys.push(digest);
        self.notice_keys.push(digest);
    }

    /// The receipt of a wait that was closed without an input.
    pub(crate) fn receipt(&self, closed: Closed, at: Timestamp) -> Receipt {
        Receipt {
            wait_id: self.id.clone(),
            tool_id: self.tool_id.clone(),
            closed,
            at,
            by: None,
            request_id: None,
            question: self.question.clone(),
            input: None,
            keys: self.keys.clone(),
        }
    }

    /// The receipt of an answer that was accepted at that time.
    pub(crate) fn answered(&self, answer: &Answer, at: Timestamp) -> Receipt {
        Receipt {
            by: answer.by.clone(),
            request_id: answer.request_id.clone(),
            input: Some(ContentDigest::of_value(&answer.input)),
            ..self.receipt(Closed::Answered, at)
        }
    }
}

fn first_version() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        schema::Schema,
        value::{from_value, to_value},
        wait::{Deadline, Metadata},
    };

    #[test]
    fn a_wait_is_written_with_its_version_and_read_without() {
        let request = WaitRequest {
            prompt: "?".into(),
            shown: None,
            schema: Schema::any(),
            deadline: Deadline::Never,
            default: None,
            metadata: Metadata::new(),
            saved: None,
        };
        let (run, now) = (RunId::from_bytes([1; 16]), Timestamp::from_millis(0));
        let wait =
            Wait::open(run, "w".into(), "ask".into(), Position::default(), request, now, None);
        let mut written = to_value(&wait).unwrap();
        let version = written.as_object_mut().unwrap().remove("version");
        assert_eq!(version, Some(json!(Wait::VERSION)));
        assert_eq!(from_value::<Wait>(&written).unwrap(), wait);
    }
}
