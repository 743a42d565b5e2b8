//! The questions that people ask most: approval, confirmation, review, text, number, choice, form.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    Error, ErrorKind, Finding, Result, Schema,
    id::ToolId,
    tool::{AwaitInput, await_input::AnswerSchema},
};

/// Makes questions with the usual answers; their options change what an answer must look like.
///
/// ```
/// use dynamic_flow::{hours, tool::HumanInTheLoop};
/// use serde_json::json;
///
/// let approval = HumanInTheLoop::approval("expense-approval")
///     .name("Expense approval")
///     .timeout(hours(4))
///     .require_comments();
/// let schema = approval.into_def()?.schema;
/// assert!(schema.validate(&json!({ "approved": true, "approved_by": "jane" })).is_err());
/// # Ok::<(), dynamic_flow::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub enum HumanInTheLoop {}

impl HumanInTheLoop {
    /// Asks for a yes or a no. Options: [`AwaitInput::require_comments`],
    /// [`AwaitInput::allow_delegation`].
    pub fn approval(id: impl Into<ToolId>) -> AwaitInput<Approval> {
        ask(id, Preset::approval())
    }

    /// Asks whether something shall really be done. Option: [`AwaitInput::require_reason`].
    pub fn confirmation(id: impl Into<ToolId>) -> AwaitInput<Confirmation> {
        ask(id, Preset::confirmation())
    }

    /// Asks for a verdict on a document. Option: [`AwaitInput::allow_annotations`].
    pub fn document_review(id: impl Into<ToolId>) -> AwaitInput<DocumentReview> {
        ask(id, Preset::document_review())
    }

    /// Asks for a text. Options: [`AwaitInput::min_length`], [`AwaitInput::max_length`],
    /// [`AwaitInput::pattern`].
    pub fn text(id: impl Into<ToolId>) -> AwaitInput<TextInput> {
        ask(id, Preset::text())
    }

    /// Asks for a number. Options: [`AwaitInput::min`], [`AwaitInput::max`],
    /// [`AwaitInput::integer`].
    pub fn number(id: impl Into<ToolId>) -> AwaitInput<NumberInput> {
        ask(id, Preset::number())
    }

    /// Asks for one of several options.
    pub fn choice(
        id: impl Into<ToolId>,
        options: impl IntoIterator<Item = impl Into<String>>,
    ) -> AwaitInput<ChoiceInput> {
        let options = options.into_iter().map(Into::into).collect();
        ask(id, Preset::Choice { options, multiple: false })
    }

    /// Asks for one or more of several options.
    pub fn choices(
        id: impl Into<ToolId>,
        options: impl IntoIterator<Item = impl Into<String>>,
    ) -> AwaitInput<ChoicesInput> {
        let options = options.into_iter().map(Into::into).collect();
        ask(id, Preset::Choice { options, multiple: true })
    }

    /// Asks for several things at once: [`AwaitInput::field`], [`AwaitInput::optional_field`].
    pub fn form(id: impl Into<ToolId>) -> AwaitInput<FormInput> {
        ask(id, Preset::form())
    }
}

fn ask<A>(id: impl Into<ToolId>, preset: Preset) -> AwaitInput<A> {
    AwaitInput::with_answer(id, AnswerSchema::Preset(preset))
}

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

/// A usual answer as data, as documents write it: `{ preset: approval, require_comments: true }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "preset", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Preset {
    /// An [`Approval`].
    Approval {
        /// Whether comments must be given.
        #[serde(default)]
        require_comments: bool,
        /// Whether the decision may be handed on.
        #[serde(default)]
        allow_delegation: bool,
    },
    /// A [`Confirmation`].
    Confirmation {
        /// Whether a reason must be given.
        #[serde(default)]
        require_reason: bool,
    },
    /// A [`DocumentReview`].
    DocumentReview {
        /// Whether annotations may be given.
        #[serde(default)]
        allow_annotations: bool,
    },
    /// A [`TextInput`].
    Text {
        /// The least number of characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min_length: Option<u64>,
        /// The greatest number of characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_length: Option<u64>,
        /// A regular expression that must match somewhere in the text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pattern: Option<String>,
    },
    /// A [`NumberInput`].
    Number {
        /// The least number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        /// The greatest number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
        /// Whether it must be a whole number.
        #[serde(default)]
        integer: bool,
    },
    /// A [`ChoiceInput`], or a [`ChoicesInput`] if there may be several.
    Choice {
        /// What there is to choose from.
        options: Vec<String>,
        /// Whether several may be chosen.
        #[serde(default)]
        multiple: bool,
    },
    /// A [`FormInput`].
    Form {
        /// The JSON Schema of each field.
        fields: BTreeMap<String, Value>,
        /// The fields that may be left out.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        optional: BTreeSet<String>,
    },
}

impl Preset {
    fn approval() -> Self {
        Self::Approval { require_comments: false, allow_delegation: false }
    }

    fn confirmation() -> Self {
        Self::Confirmation { require_reason: false }
    }

    fn document_review() -> Self {
        Self::DocumentReview { allow_annotations: false }
    }

    fn text() -> Self {
        Self::Text { min_length: None, max_length: None, pattern: None }
    }

    fn number() -> Self {
        Self::Number { min: None, max: None, integer: false }
    }

    fn form() -> Self {
        Self::Form { fields: BTreeMap::new(), optional: BTreeSet::new() }
    }

    /// What an answer must look like, under the options that were taken.
    ///
    /// # Errors
    /// `InvalidFlow` for options that no answer could satisfy, and for a pattern or the schema of
    /// a field that is none.
    pub fn schema(&self) -> Result<Schema> {
        let problems = self.problems();
        if let Some(first) = problems.first() {
            let error = Error::new(ErrorKind::InvalidFlow, first.clone());
            let finding =
                |message| Finding { path: String::new(), message, line: None, column: None };
            return Err(error.with_findings(problems.into_iter().map(finding).collect()));
        }
        Schema::new(self.fields().into_schema())
    }

    fn fields(&self) -> Fields {
        // Whoever must say something says at least one character; whoever need not may say `null`.
        let said = |description: &str| json!({ "type": "string", "minLength": 1, "description": description });
        let maybe =
            |description: &str| json!({ "type": ["string", "null"], "description": description });
        match self {
            Self::Approval { require_comments, allow_delegation } => Fields::default()
                .required("approved", json!({ "type": "boolean", "description": "Yes or no." }))
                .required("approved_by", said("Who decided."))
                .either(
                    "comments",
                    *require_comments,
                    if *require_comments { said("Why.") } else { maybe("Why.") },
                )
                .optional_if(
                    *allow_delegation,
                    "delegated_to",
                    maybe("To whom the decision was handed on."),
                ),
            Self::Confirmation { require_reason } => Fields::default()
                .required(
                    "confirmed",
                    json!({ "type": "boolean", "description": "Whether it shall be done." }),
                )
                .optional_if(true, "confirmed_by", maybe("Who decided."))
                .either(
                    "reason",
                    *require_reason,
                    if *require_reason { said("Why.") } else { maybe("Why.") },
                ),
            Self::DocumentReview { allow_annotations } => Fields::default()
                .required(
                    "decision",
                    json!({
                        "enum": ["approved", "rejected", "needs_changes"],
                        "description": "The verdict.",
                    }),
                )
                .required("reviewed_by", said("Who gave it."))
                .optional_if(true, "comments", maybe("Why."))
                .optional_if(
                    *allow_annotations,
                    "annotations",
                    json!({
                        "type": "array",
                        "description": "Remarks on places in the document.",
                        "items": Fields::default()
                            .optional_if(true, "place", maybe("Which place."))
                            .required("text", said("The remark."))
                            .into_schema(),
                    }),
                ),
            Self::Text { min_length, max_length, pattern } => {
                let mut text = Map::from_iter([("type".to_owned(), json!("string"))]);
                put(&mut text, "minLength", min_length.as_ref());
                put(&mut text, "maxLength", max_length.as_ref());
                put(&mut text, "pattern", pattern.as_ref());
                Fields::default().required("text", text.into())
            }
            Self::Number { min, max, integer } => {
                let kind = if *integer { "integer" } else { "number" };
                let mut number = Map::from_iter([("type".to_owned(), json!(kind))]);
                put(&mut number, "minimum", min.as_ref());
                put(&mut number, "maximum", max.as_ref());
                Fields::default().required("number", number.into())
            }
            Self::Choice { options, multiple: false } => {
                Fields::default().required("choice", json!({ "type": "string", "enum": options }))
            }
            Self::Choice { options, multiple: true } => Fields::default().required(
                "choices",
                json!({
                    "type": "array",
                    "items": { "type": "string", "enum": options },
                    "minItems": 1,
                    "uniqueItems": true,
                }),
            ),
            Self::Form { fields, optional } => {
                fields.iter().fold(Fields::default(), |form, (name, schema)| {
                    form.either(name, !optional.contains(name), schema.clone())
                })
            }
        }
    }

    /// Options that no answer could satisfy, or that do not say what was meant.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match self {
            Self::Approval { .. } | Self::Confirmation { .. } | Self::DocumentReview { .. } => {}
            Self::Text { min_length, max_length, .. } => {
                if let (Some(min), Some(max)) = (min_length, max_length)
                    && min > max
                {
                    problems.push(format!("min_length {min} is greater than max_length {max}"));
                }
            }
            Self::Number { min, max, integer } => {
                if [min, max].into_iter().flatten().any(|bound| !bound.is_finite()) {
                    problems.push("min and max are finite numbers".into());
                } else if let (Some(min), Some(max)) = (min, max) {
                    if min > max {
                        problems.push(format!("min {min} is greater than max {max}"));
                    } else if *integer && min.ceil() > max.floor() {
                        problems.push(format!("there is no whole number from {min} to {max}"));
                    }
                }
            }
            Self::Choice { options, .. } => {
                if options.is_empty() {
                    problems.push("a choice needs at least one option".into());
                }
                let mut seen = BTreeSet::new();
                let twice = options.iter().filter(|option| !seen.insert(*option));
                problems
                    .extend(twice.map(|option| format!("the option {option:?} is there twice")));
            }
            Self::Form { fields, optional } => {
                if fields.is_empty() {
                    problems.push("a form needs at least one field".into());
                }
                for (name, schema) in fields {
                    if let Err(error) = Schema::new(schema.clone()) {
                        problems.push(format!("field {name:?}: {}", error.message()));
                    }
                }
                let unknown = optional.iter().filter(|name| !fields.contains_key(*name));
                problems.extend(unknown.map(|name| format!("there is no field {name:?}")));
            }
        }
        problems
    }
}

fn put<T: Serialize>(schema: &mut Map<String, Value>, keyword: &str, value: Option<&T>) {
    if let Some(value) = value {
        schema.insert(keyword.into(), json!(value));
    }
}

/// An object schema that allows the fields it names and no others.
#[derive(Default)]
struct Fields {
    properties: Map<String, Value>,
    required: Vec<String>,
}

impl Fields {
    fn required(self, name: &str, schema: Value) -> Self {
        self.either(name, true, schema)
    }

    fn optional_if(self, allowed: bool, name: &str, schema: Value) -> Self {
        if allowed { self.either(name, false, schema) } else { self }
    }

    fn either(mut self, name: &str, required: bool, schema: Value) -> Self {
        self.properties.insert(name.to_owned(), schema);
        if required {
            self.required.push(name.to_owned());
        }
        self
    }

    fn into_schema(self) -> Value {
        json!({
            "type": "object",
            "properties": self.properties,
            "required": self.required,
            "additionalProperties": false,
        })
    }
}

// What `AwaitInput` offers where the answer is one of the above.

impl<S> AwaitInput<Approval, S> {
    /// Takes no approval or refusal without comments.
    pub fn require_comments(self) -> Self {
        self.option(Preset::approval(), |preset| {
            if let Preset::Approval { require_comments, .. } = preset {
                *require_comments = true;
            }
        })
    }

    /// Lets whoever is asked hand the decision on, in `delegated_to`.
    pub fn allow_delegation(self) -> Self {
        self.option(Preset::approval(), |preset| {
            if let Preset::Approval { allow_delegation, .. } = preset {
                *allow_delegation = true;
            }
        })
    }
}

impl<S> AwaitInput<Confirmation, S> {
    /// Takes no answer without a reason.
    pub fn require_reason(self) -> Self {
        self.option(Preset::confirmation(), |preset| {
            if let Preset::Confirmation { require_reason } = preset {
                *require_reason = true;
            }
        })
    }
}

impl<S> AwaitInput<DocumentReview, S> {
    /// Lets whoever reviews annotate places in the document.
    pub fn allow_annotations(self) -> Self {
        self.option(Preset::document_review(), |preset| {
            if let Preset::DocumentReview { allow_annotations } = preset {
                *allow_annotations = true;
            }
        })
    }
}

impl<S> AwaitInput<TextInput, S> {
    /// Asks for at least so many characters.
    pub fn min_length(self, characters: u64) -> Self {
        self.option(Preset::text(), |preset| {
            if let Preset::Text { min_length, .. } = preset {
                *min_length = Some(characters);
            }
        })
    }

    /// Asks for at most so many characters.
    pub fn max_length(self, characters: u64) -> Self {
        self.option(Preset::text(), |preset| {
            if let Preset::Text { max_length, .. } = preset {
                *max_length = Some(characters);
            }
        })
    }

    /// Asks for a text in which a regular expression matches somewhere; anchor it with `^` and `$`.
    pub fn pattern(self, regex: impl Into<String>) -> Self {
        self.option(Preset::text(), |preset| {
            if let Preset::Text { pattern, .. } = preset {
                *pattern = Some(regex.into());
            }
        })
    }
}

impl<S> AwaitInput<NumberInput, S> {
    /// Asks for at least that number.
    pub fn min(self, least: f64) -> Self {
        self.option(Preset::number(), |preset| {
            if let Preset::Number { min, .. } = preset {
                *min = Some(least);
            }
        })
    }

    /// Asks for at most that number.
    pub fn max(self, greatest: f64) -> Self {
        self.option(Preset::number(), |preset| {
            if let Preset::Number { max, .. } = preset {
                *max = Some(greatest);
            }
        })
    }

    /// Asks for a whole number.
    pub fn integer(self) -> Self {
        self.option(Preset::number(), |preset| {
            if let Preset::Number { integer, .. } = preset {
                *integer = true;
            }
        })
    }
}

impl<S> AwaitInput<FormInput, S> {
    /// Adds a field that must be filled in, with its JSON Schema.
    pub fn field(self, name: impl Into<String>, schema: Value) -> Self {
        self.option(Preset::form(), |preset| {
            if let Preset::Form { fields, optional } = preset {
                let name = name.into();
                optional.remove(&name);
                fields.insert(name, schema);
            }
        })
    }

    /// Adds a field that may be left out, with its JSON Schema.
    pub fn optional_field(self, name: impl Into<String>, schema: Value) -> Self {
        let name = name.into();
        self.option(Preset::form(), |preset| {
            if let Preset::Form { fields, optional } = preset {
                optional.insert(name.clone());
                fields.insert(name, schema);
            }
        })
    }
}

#[cfg(test)]
mod tests;
