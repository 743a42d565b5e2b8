//! The usual answers as data, and what they must look like.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Error, ErrorKind, Finding, Result, Schema};

#[cfg(doc)]
use super::{
    Approval, ChoiceInput, ChoicesInput, Confirmation, DocumentReview, FormInput, NumberInput,
    TextInput,
};

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
        /// The JSON Schema of each field, in the order in which they are asked for.
        fields: Map<String, Value>,
        /// The fields that may be left out.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        optional: BTreeSet<String>,
    },
}

impl Preset {
    pub(super) fn approval() -> Self {
        Self::Approval { require_comments: false, allow_delegation: false }
    }

    pub(super) fn confirmation() -> Self {
        Self::Confirmation { require_reason: false }
    }

    pub(super) fn document_review() -> Self {
        Self::DocumentReview { allow_annotations: false }
    }

    pub(super) fn text() -> Self {
        Self::Text { min_length: None, max_length: None, pattern: None }
    }

    pub(super) fn number() -> Self {
        Self::Number { min: None, max: None, integer: false }
    }

    pub(super) fn form() -> Self {
        Self::Form { fields: Map::new(), optional: BTreeSet::new() }
    }

    /// Whether any option was taken.
    pub(in crate::tool) fn has_options(&self) -> bool {
        let fresh = [
            Self::approval(),
            Self::confirmation(),
            Self::document_review(),
            Self::text(),
            Self::number(),
            Self::form(),
        ];
        !fresh.contains(self)
    }

    /// What an answer must look like, under the options that were taken.
    ///
    /// # Errors
    /// `InvalidFlow` for options that no answer could satisfy, and for a pattern or the schema of
    /// a field that is none.
    pub fn schema(&self) -> Result<Schema> {
        self.schema_or_culprit().map_err(|(_, error)| error)
    }

    /// As [`Preset::schema`]; beside the error is the first option that it is about.
    pub(crate) fn schema_or_culprit(&self) -> Result<Schema, (Option<&'static str>, Error)> {
        let problems = self.problems();
        if let Some((option, first)) = problems.first() {
            let (option, error) = (*option, Error::new(ErrorKind::InvalidFlow, first.clone()));
            let finding =
                |(_, message)| Finding { path: String::new(), message, line: None, column: None };
            let findings = problems.into_iter().map(finding).collect();
            return Err((Some(option), error.with_findings(findings)));
        }
        Schema::new(self.fields().into_schema()).map_err(|error| {
            // Of the options, only these go into the schema as they are.
            let option = match self {
                Self::Text { .. } => Some("pattern"),
                Self::Form { .. } => Some("fields"),
                _ => None,
            };
            (option, error)
        })
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

    /// Options that no answer could satisfy, or that do not say what was meant; each with its name.
    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        match self {
            Self::Approval { .. } | Self::Confirmation { .. } | Self::DocumentReview { .. } => {}
            Self::Text { min_length, max_length, .. } => {
                if let (Some(min), Some(max)) = (min_length, max_length)
                    && min > max
                {
                    problems.push((
                        "min_length",
                        format!("min_length {min} is greater than max_length {max}"),
                    ));
                }
            }
            Self::Number { min, max, integer } => {
                if [min, max].into_iter().flatten().any(|bound| !bound.is_finite()) {
                    problems.push(("min", "min and max are finite numbers".into()));
                } else if let (Some(min), Some(max)) = (min, max) {
                    if min > max {
                        problems.push(("min", format!("min {min} is greater than max {max}")));
                    } else if *integer && min.ceil() > max.floor() {
                        problems
                            .push(("min", format!("there is no whole number from {min} to {max}")));
                    }
                }
            }
            Self::Choice { options, .. } => {
                if options.is_empty() {
                    problems.push(("options", "a choice needs at least one option".into()));
                }
                let mut seen = BTreeSet::new();
                let twice = options.iter().filter(|option| !seen.insert(*option));
                problems
                    .extend(twice.map(|option| {
                        ("options", format!("the option {option:?} is there twice"))
                    }));
            }
            Self::Form { fields, optional } => {
                if fields.is_empty() {
                    problems.push(("fields", "a form needs at least one field".into()));
                }
                for (name, schema) in fields {
                    if let Err(error) = Schema::new(schema.clone()) {
                        problems.push(("fields", format!("field {name:?}: {}", error.message())));
                    }
                }
                let unknown = optional.iter().filter(|name| !fields.contains_key(*name));
                problems.extend(
                    unknown.map(|name| ("optional", format!("there is no field {name:?}"))),
                );
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
