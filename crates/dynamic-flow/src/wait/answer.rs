//! What people give: answers to waits, and the end of runs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Result, value::to_value};

/// What is given to a wait: the input, by whom, and an id that makes a retried request recognizable.
///
/// ```
/// use dynamic_flow::Answer;
/// let answer = Answer::new(serde_json::json!({ "approved": true })).by("jane").request_id("req-1");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
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
#[non_exhaustive]
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
