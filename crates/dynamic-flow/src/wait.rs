//! Open questions of runs, what answers them, and the receipts of what they took.

mod answer;
mod digest;
mod receipt;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    id::{KeyDigest, RunId, ToolId, WaitId},
    position::Position,
    schema::Schema,
};

pub use self::{
    answer::{Answer, Cancellation},
    digest::ContentDigest,
    receipt::{Closed, Receipt},
};
pub use crate::metadata::{Metadata, Scalar};

/// How long a wait stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deadline {
    /// As long as the hub's `default_timeout` says.
    #[default]
    HubDefault,
    /// So long from the moment it opens; whole milliseconds.
    After(Duration),
    /// Forever; somebody wrote that out.
    Never,
}

impl Deadline {
    /// When a wait ends that is opened now; none if it never does.
    pub(crate) fn ends_at(self, now: Timestamp, hub_default: Duration) -> Option<Timestamp> {
        match self {
            Self::HubDefault => Some(now.after(hub_default)),
            Self::After(duration) => Some(now.after(duration)),
            Self::Never => None,
        }
    }
}

impl From<Duration> for Deadline {
    fn from(duration: Duration) -> Self {
        Self::After(duration)
    }
}

/// What a tool asks for when it suspends its run.
///
/// ```
/// use dynamic_flow::{hours, tool::Output, wait::WaitRequest};
/// use serde_json::Value;
///
/// # fn main() -> dynamic_flow::Result<()> {
/// let request = WaitRequest::of::<bool>("Has the parcel been picked up?")?
///     .timeout(hours(48))
///     .metadata("carrier", "swift")
///     .save("parcel 17".into());
/// let suspends: Output<Value> = Output::Suspend(request);
/// # let _ = suspends; Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaitRequest {
    /// The question, in words for whoever answers.
    pub prompt: String,
    /// What whoever answers must see to decide; digested into the receipt.
    #[serde(default, with = "present", skip_serializing_if = "Option::is_none")]
    pub shown: Option<Value>,
    /// What an answer must look like.
    pub schema: Schema,
    /// How long it stays open.
    #[serde(default)]
    pub deadline: Deadline,
    /// What answers it after the deadline; `Some(Value::Null)` is a default, `None` is none.
    #[serde(default, with = "present", skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Plain values to find it by.
    #[serde(default)]
    pub metadata: Metadata,
    /// What the tool wants back in `on_resume`; sealed with the state.
    #[serde(default, with = "present", skip_serializing_if = "Option::is_none")]
    pub saved: Option<Value>,
}

impl WaitRequest {
    /// Asks that, for an answer of that schema.
    ///
    /// A tool without an `on_resume` of its own gives the answer as its output: the schema must then be
    /// one of which all values fit the tool's output.
    #[must_use]
    pub fn new(prompt: impl Into<String>, schema: Schema) -> Self {
        Self {
            prompt: prompt.into(),
            shown: None,
            schema,
            deadline: Deadline::HubDefault,
            default: None,
            metadata: Metadata::new(),
            saved: None,
        }
    }

    /// Asks that, for an answer of a type.
    ///
    /// # Errors
    /// `InvalidFlow` for a type that has no schema of use.
    pub fn of<A: JsonSchema>(prompt: impl Into<String>) -> Result<Self> {
        Ok(Self::new(prompt, Schema::of::<A>()?))
    }

    /// What whoever answers must see to decide.
    #[must_use]
    pub fn show(mut self, shown: Value) -> Self {
        self.shown = Some(shown);
        self
    }

    /// How long it stays open; the hub's `default_timeout` unless said.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.deadline = Deadline::After(timeout);
        self
    }

    /// It stays open for ever.
    #[must_use]
    pub fn no_timeout(mut self) -> Self {
        self.deadline = Deadline::Never;
        self
    }

    /// What takes the answer's place after the deadline; `null` is a default too.
    #[must_use]
    pub fn default_value(mut self, default: Value) -> Self {
        self.default = Some(default);
        self
    }

    /// A plain value to find the run by while it asks; stored unsealed. It hides one of the same name
    /// that the run itself has.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Scalar>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// What the tool wants back in `on_resume`.
    #[must_use]
    pub fn save(mut self, state: Value) -> Self {
        self.saved = Some(state);
        self
    }
}

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
        ContentDigest::of_value(&serde_json::json!({
            "run_id": run,
            "wait_id": id,
            "tool_id": tool,
            "prompt": request.prompt,
            "shown": request.shown,
            "schema": request.schema,
        }))
    }

    /// Digest of the question as it stands now.
    pub(crate) fn asks(&self, run: RunId) -> ContentDigest {
        Self::question_digest(run, &self.id, &self.tool_id, &self.request)
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives it so")]
pub(crate) fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// `Option<Value>` in which a `null` that is there stays `Some(Value::Null)`.
pub(crate) mod present {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    #[expect(clippy::ref_option, reason = "serde gives it so")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Value>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        // Not as an option: of a `Some` that is null, the checking serializer would say that it is lost.
        match value {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Value>, D::Error> {
        Value::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::value::{from_value, to_value};

    #[test]
    fn a_present_null_stays_present() {
        let request = WaitRequest {
            prompt: String::new(),
            shown: None,
            schema: Schema::any(),
            deadline: Deadline::Never,
            default: Some(Value::Null),
            metadata: Metadata::new(),
            saved: None,
        };
        let read: WaitRequest = from_value(&to_value(&request).unwrap()).unwrap();
        assert_eq!(read, request);
    }

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
