//! Open questions of runs, what answers them, and the receipts of what they took.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    id::{KeyDigest, RunId, ToolId, WaitId},
    position::Position,
    schema::Schema,
    value::to_value,
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

/// SHA-256 over the canonical JSON (RFC 8785) of something, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentDigest(pub String);

impl ContentDigest {
    /// The digest of a JSON value, which always has a canonical form: its keys are texts and its
    /// numbers are finite.
    pub(crate) fn of_value(value: &Value) -> Self {
        Self::of_json(value)
            .unwrap_or_else(|_| Self(hex::encode(Sha256::digest(value.to_string()))))
    }

    /// The digest of a value.
    ///
    /// RFC 8785 writes every number as a double. Whole numbers that no double holds are digested
    /// beside that text, so that two different values never share a digest.
    ///
    /// # Errors
    /// `SerializationError` for what has no faithful JSON form; see [`crate::value::to_value`].
    ///
    /// ```
    /// use dynamic_flow::wait::ContentDigest;
    /// use serde_json::json;
    ///
    /// let digest = ContentDigest::of(&json!({ "b": 1, "a": [true] })).unwrap();
    /// assert_eq!(digest, ContentDigest::of(&json!({ "a": [true], "b": 1.0 })).unwrap());
    /// assert_eq!(digest.0.len(), 64);
    /// ```
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Self::of_json(&to_value(value)?)
    }

    fn of_json(value: &Value) -> Result<Self> {
        let canonical = serde_json_canonicalizer::to_vec(value).map_err(|_| {
            Error::new(ErrorKind::SerializationError, "the value has no canonical JSON form")
        })?;
        let mut digest = Sha256::new_with_prefix(canonical);
        let mut inexact = Vec::new();
        collect_inexact(value, &mut String::new(), &mut inexact);
        inexact.sort_unstable();
        for (pointer, number) in inexact {
            // JSON text holds no zero byte: nothing else can look like this.
            digest.update(format!("\0{pointer}\0{number}"));
        }
        Ok(Self(hex::encode(digest.finalize())))
    }
}

/// The whole numbers that would change as doubles, with their places.
fn collect_inexact(value: &Value, pointer: &mut String, found: &mut Vec<(String, String)>) {
    let len = pointer.len();
    match value {
        Value::Number(number) => {
            let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
            if whole.is_some_and(|whole| whole as f64 as i128 != whole) {
                found.push((pointer.clone(), number.to_string()));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointer.push_str(&format!("/{index}"));
                collect_inexact(item, pointer, found);
                pointer.truncate(len);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                // A length, so that no name can look like several.
                pointer.push_str(&format!("/{}:{name}", name.len()));
                collect_inexact(field, pointer, found);
                pointer.truncate(len);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// What is given to a wait: the input, by whom, and an id that makes a retried request recognizable.
///
/// ```
/// use dynamic_flow::Answer;
/// let answer = Answer::new(serde_json::json!({ "approved": true })).by("jane").request_id("req-1");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The input; it must fit the wait's schema.
    pub input: Value,
    /// Who gives it, as far as the caller knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The caller's id of this request: the same id with the same input again is told that it was
    /// accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Answer {
    /// An answer with that input.
    pub fn new(input: Value) -> Self {
        Self { input, by: None, request_id: None }
    }

    /// An answer of a type, such as that of a preset.
    ///
    /// # Errors
    /// `SerializationError` where the value has no faithful JSON form.
    ///
    /// ```
    /// use dynamic_flow::{Answer, tool::Confirmation};
    /// let yes = Confirmation { confirmed: true, confirmed_by: Some("jane".into()), reason: None };
    /// assert_eq!(Answer::of(&yes)?.input["confirmed"], true);
    /// # Ok::<(), dynamic_flow::Error>(())
    /// ```
    pub fn of(input: &impl Serialize) -> Result<Self> {
        to_value(input).map(Self::new)
    }

    /// Says who gives it.
    #[must_use]
    pub fn by(mut self, by: impl Into<String>) -> Self {
        self.by = Some(by.into());
        self
    }

    /// Makes a retry of the same request recognizable.
    #[must_use]
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = Some(id.into());
        self
    }
}

impl From<Value> for Answer {
    fn from(input: Value) -> Self {
        Self::new(input)
    }
}

/// Who ends a run, and why.
///
/// ```
/// use dynamic_flow::Cancellation;
/// let cancellation = Cancellation::new().by("jane").reason("ordered twice");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cancellation {
    /// Who, as far as the caller says.
    pub by: Option<String>,
    /// Why, as far as the caller says.
    pub reason: Option<String>,
}

impl Cancellation {
    /// One that says neither by whom nor why.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says who cancels.
    #[must_use]
    pub fn by(mut self, by: impl Into<String>) -> Self {
        self.by = Some(by.into());
        self
    }

    /// Says why.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

/// What closed a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closed {
    /// Somebody's answer was accepted.
    Answered,
    /// The deadline passed and the default took its place.
    Defaulted,
    /// The deadline passed and there was no default.
    TimedOut,
    /// The run was cancelled.
    Cancelled,
    /// The flow went on without it: a timeout around it, or a race that another branch won.
    Superseded,
}

/// Which answer, default or cancellation a wait took, and when. Holds neither input nor output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

    #[test]
    fn a_digest_is_sha256_of_the_canonical_form() {
        // printf '{"a":"\u00fc","b":[1,1e+30]}' | sha256sum
        let value = json!({ "b": [1.0, 1e30], "a": "ü" });
        let expected = hex::encode(Sha256::digest("{\"a\":\"ü\",\"b\":[1,1e+30]}"));
        assert_eq!(ContentDigest::of(&value).unwrap().0, expected);
        assert_eq!(ContentDigest::of(&f64::NAN).unwrap_err().kind(), ErrorKind::SerializationError);
    }

    #[test]
    fn numbers_beyond_a_double_do_not_share_a_digest() {
        let digest = |value: Value| ContentDigest::of(&value).unwrap();
        let exact = 1_u64 << 53;
        assert_ne!(digest(json!(exact)), digest(json!(exact + 1)));
        assert_ne!(digest(json!([exact, exact + 1])), digest(json!([exact + 1, exact])));
        assert_ne!(digest(json!(u64::MAX)), digest(json!(u64::MAX - 1)));
        assert_ne!(digest(json!({ "a/0": [exact + 1] })), digest(json!({ "a/0": [exact] })));
        assert_eq!(digest(json!(exact)), digest(json!(9_007_199_254_740_992.0)));
    }

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
        let read: WaitRequest = crate::value::from_value(&to_value(&request).unwrap()).unwrap();
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
        assert_eq!(crate::value::from_value::<Wait>(&written).unwrap(), wait);
    }
}
