//! The questions that people ask most: approval, confirmation, review, text, number, choice, form.

mod answers;
mod options;
mod preset;

use serde_json::Value;

use crate::{
    id::ToolId,
    tool::{AwaitInput, await_input::AnswerSchema},
};

pub(crate) use self::options::{OptionSort, PresetOption};
pub use self::{
    answers::{
        Annotation, Approval, ChoiceInput, ChoicesInput, Confirmation, DocumentReview, FormInput,
        NumberInput, ReviewDecision, TextInput,
    },
    preset::Preset,
};

/// Makes questions with the usual answers; their options change what an answer must look like. So does
/// [`AwaitInput::schema`], which goes with none of them.
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
