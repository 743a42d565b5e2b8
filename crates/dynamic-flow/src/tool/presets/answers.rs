//! Typed answers to the usual questions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[cfg(doc)]
use super::HumanInTheLoop;

/// The answer to [`HumanInTheLoop::approval`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Approval {
    /// Yes or no.
    pub approved: bool,
    /// Who decided.
    pub approved_by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comments: Option<String>,
    /// To whom the decision was handed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegated_to: Option<String>,
}

/// The answer to [`HumanInTheLoop::confirmation`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Confirmation {
    /// Whether it shall be done.
    pub confirmed: bool,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer to [`HumanInTheLoop::document_review`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DocumentReview {
    /// The verdict.
    pub decision: ReviewDecision,
    /// Who gave it.
    pub reviewed_by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comments: Option<String>,
    /// Remarks on places in the document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
}

/// A verdict on a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviewDecision {
    /// It is good as it is.
    Approved,
    /// It is no good.
    Rejected,
    /// It will be good once it is changed.
    NeedsChanges,
}

/// A remark on a place in a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Annotation {
    /// Which place: a page, a line, a quotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The remark.
    pub text: String,
}

/// The answer to [`HumanInTheLoop::text`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TextInput {
    /// The text.
    pub text: String,
}

/// The answer to [`HumanInTheLoop::number`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NumberInput {
    /// The number.
    pub number: f64,
}

/// The answer to [`HumanInTheLoop::choice`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChoiceInput {
    /// The chosen option.
    pub choice: String,
}

/// The answer to [`HumanInTheLoop::choices`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChoicesInput {
    /// The chosen options, each once.
    pub choices: Vec<String>,
}

/// The answer to [`HumanInTheLoop::form`]: the fields by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct FormInput(pub Map<String, Value>);
