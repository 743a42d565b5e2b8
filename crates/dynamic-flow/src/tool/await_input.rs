//! Questions to somebody outside: the tool that always suspends its run.

mod def;

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Deadline, Error, Result, Scalar, Schema, ToolError, codes,
    expr::{Code, Compute},
    id::ToolId,
    tool::{Tool, presets::Preset},
    value::{from_value, to_value},
};

pub use self::def::AwaitInputDef;
pub(crate) use self::def::QuestionPart;
use self::def::{not_metadata, unusable};

/// A question to somebody outside, whose answer is an `A`: an approval, a verdict, a number.
///
/// A step with it stops the run; the answer is the step's output. Prompt, shown value and metadata
/// may be computed from the value that reaches the step; then the question is [`About`] that type
/// and fits no other pipe. Without them it fits every pipe.
///
/// ```
/// use dynamic_flow::{hours, tool::AwaitInput};
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, JsonSchema)]
/// struct Approval { approved: bool, approved_by: String }
/// #[derive(Serialize, Deserialize)]
/// struct Order { id: String, total: f64 }
///
/// let approval = AwaitInput::<Approval>::new("manager-approval")
///     .name("Manager approval")
///     .prompt_with(|order: &Order| format!("Approve {} for {}?", order.id, order.total))
///     .timeout(hours(4))
///     .default_value(Approval { approved: false, approved_by: "system".into() })
///     .metadata("department", "finance")
///     .metadata_with("total", |order: &Order| order.total);
/// assert!(approval.into_tool()?.spec().awaits_input);
/// # Ok::<(), dynamic_flow::Error>(())
/// ```
#[must_use = "a question asks nothing until it is a step of a flow"]
pub struct AwaitInput<A = Value, S = AnyInput> {
    def: AwaitInputDef,
    answer: AnswerSchema,
    problems: Vec<String>,
    types: PhantomData<fn(S) -> A>,
}

/// A question that fits every pipe: nothing of it is computed from a typed value.
#[derive(Debug, Clone, Copy)]
pub enum AnyInput {}

/// A question about an `I`: its prompt, shown value or metadata are computed from one.
pub struct About<I>(PhantomData<fn(I)>);

impl<I> fmt::Debug for About<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("About")
    }
}

/// Says which questions fit a pipe that carries `I`s: those about `I`, and those about nothing. There
/// are no others: the trait is sealed.
#[diagnostic::on_unimplemented(
    message = "this question can't be asked here: it is `{Self}`, and the pipe carries `{I}`",
    label = "a question about another type",
    note = "`prompt_with`, `show` and `metadata_with` take the value that reaches the step"
)]
pub trait FitsPipe<I>: sealed::Sealed {}

impl<I> FitsPipe<I> for AnyInput {}
impl<I> FitsPipe<I> for About<I> {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::AnyInput {}
    impl<I> Sealed for super::About<I> {}
}

/// Where the schema of the answer comes from; options may still change a preset.
#[derive(Clone)]
pub(super) enum AnswerSchema {
    Of(fn() -> Result<Schema>),
    Given(Schema),
    Preset(Preset),
}

impl<A> AwaitInput<A>
where
    A: Serialize + DeserializeOwned + JsonSchema,
{
    /// A question of that id whose answer fits the schema of `A`.
    pub fn new(id: impl Into<ToolId>) -> Self {
        Self::with_answer(id, AnswerSchema::Of(Schema::of::<A>))
    }
}

impl AwaitInput {
    /// A question of that id whose answer is any JSON that fits the schema.
    pub fn untyped(id: impl Into<ToolId>, schema: Schema) -> Self {
        Self::with_answer(id, AnswerSchema::Given(schema))
    }
}

impl<A> AwaitInput<A> {
    pub(super) fn with_answer(id: impl Into<ToolId>, answer: AnswerSchema) -> Self {
        Self {
            def: AwaitInputDef::new(id, Schema::any()),
            answer,
            problems: Vec::new(),
            types: PhantomData,
        }
    }
}

impl<A, S> AwaitInput<A, S> {
    /// Says what people call it; its id if nothing is said.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.def.name = name.into();
        self
    }

    /// Says what it is for.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.def.description = description.into();
        self
    }

    /// Narrows what an answer must look like; what fits it must still read as an `A`.
    ///
    /// It stands in place of all that a preset says. Where options of one were given, before or after
    /// it, one of them would be of no effect: building refuses that.
    pub fn schema(mut self, schema: Schema) -> Self {
        if matches!(&self.answer, AnswerSchema::Preset(preset) if preset.has_options()) {
            self.exclusive();
        }
        self.answer = AnswerSchema::Given(schema);
        self
    }

    /// Asks in these words; without any, `Input needed: ` and the name.
    pub fn prompt(mut self, prompt: impl Into<String>) -> Self {
        self.def.prompt = Compute::Value(Value::String(prompt.into()));
        self
    }

    /// Asks in words that depend on the value that reaches the step.
    pub fn prompt_with<I: DeserializeOwned>(
        mut self,
        prompt: impl Fn(&I) -> String + Send + Sync + 'static,
    ) -> AwaitInput<A, About<I>>
    where
        S: FitsPipe<I>,
    {
        self.def.prompt = self.about("prompt", move |value: &I| Ok(Value::String(prompt(value))));
        self.retype()
    }

    /// Shows what whoever answers must see to decide; it is kept with the wait and digested into
    /// the receipt.
    pub fn show<I: DeserializeOwned, R: Serialize>(
        mut self,
        show: impl Fn(&I) -> R + Send + Sync + 'static,
    ) -> AwaitInput<A, About<I>>
    where
        S: FitsPipe<I>,
    {
        let id = self.def.id.clone();
        self.def.show = Some(self.about("shown value", move |value: &I| {
            to_value(&show(value)).map_err(|error| unfit(&id, "shown value", &error))
        }));
        self.retype()
    }

    /// Says how long it stays open; the hub's `default_timeout` if nothing is said.
    ///
    /// At least a millisecond; what is finer is dropped.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.def.deadline = Deadline::After(timeout);
        self
    }

    /// Says that it stays open forever.
    pub fn no_timeout(mut self) -> Self {
        self.def.deadline = Deadline::Never;
        self
    }

    /// Says what answers it once its time is over; without that, the step fails then.
    pub fn default_value(mut self, default: A) -> Self
    where
        A: Serialize,
    {
        match to_value(&default) {
            Ok(default) => self.def.default = Some(default),
            Err(error) => self.problems.push(format!("the default: {}", error.message())),
        }
        self
    }

    /// Adds a plain value to find the wait by. Metadata is stored unsealed: nothing private. While the
    /// wait is open, it hides one of the same name that the run itself has.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Scalar>) -> Self {
        let name = name.into();
        match plain(value.into()) {
            Ok(value) => {
                self.def.metadata.insert(name, Compute::Value(value));
            }
            Err(problem) => self.problems.push(format!("metadata {name:?} {problem}")),
        }
        self
    }

    /// Adds a plain value that depends on the value that reaches the step.
    pub fn metadata_with<I: DeserializeOwned, R: Into<Scalar>>(
        mut self,
        name: impl Into<String>,
        value: impl Fn(&I) -> R + Send + Sync + 'static,
    ) -> AwaitInput<A, About<I>>
    where
        S: FitsPipe<I>,
    {
        let name = name.into();
        let label = name.clone();
        let compute = self.about("metadata", move |input: &I| {
            plain(value(input).into())
                .map_err(|problem| not_metadata(format_args!("metadata {label:?} {problem}")))
        });
        self.def.metadata.insert(name, compute);
        self.retype()
    }

    /// The question as data.
    ///
    /// # Errors
    /// `InvalidFlow` when the answer has no usable schema, or the default or metadata no JSON form.
    pub fn into_def(self) -> Result<AwaitInputDef> {
        let Self { mut def, answer, mut problems, .. } = self;
        let schema = match answer {
            AnswerSchema::Of(schema) => schema(),
            AnswerSchema::Given(schema) => Ok(schema),
            AnswerSchema::Preset(preset) => preset.schema(),
        };
        match schema {
            Ok(schema) => def.schema = schema,
            Err(error) => {
                if error.findings().is_empty() {
                    problems.push(error.message().to_owned());
                }
                problems.extend(error.findings().iter().map(ToString::to_string));
            }
        }
        if problems.is_empty() { Ok(def) } else { Err(unusable(&def.id, problems)) }
    }

    /// The tool that asks it.
    ///
    /// # Errors
    /// As [`AwaitInput::into_def`] and [`AwaitInputDef::into_tool`].
    pub fn into_tool(self) -> Result<Arc<dyn Tool>> {
        self.into_def()?.into_tool()
    }

    /// The tool's id.
    pub fn id(&self) -> &ToolId {
        &self.def.id
    }

    /// Changes an option of the preset that the answer is; the schema of the type gives way to `fresh`.
    pub(super) fn option(mut self, fresh: Preset, change: impl FnOnce(&mut Preset)) -> Self {
        if let AnswerSchema::Given(_) = self.answer {
            self.exclusive();
        }
        let mut preset = match self.answer {
            AnswerSchema::Preset(preset) => preset,
            AnswerSchema::Of(_) | AnswerSchema::Given(_) => fresh,
        };
        change(&mut preset);
        self.answer = AnswerSchema::Preset(preset);
        self
    }

    fn exclusive(&mut self) {
        let problem = "a schema of its own and options of a preset exclude each other: say in the \
                       schema what the options would say";
        if !self.problems.iter().any(|known| known == problem) {
            self.problems.push(problem.into());
        }
    }

    fn about<I: DeserializeOwned>(
        &self,
        part: &'static str,
        compute: impl Fn(&I) -> Result<Value, ToolError> + Send + Sync + 'static,
    ) -> Compute {
        let id = self.def.id.clone();
        Compute::Code(Code::new(move |scope| {
            let value = from_value(scope.value).map_err(|error| unfit(&id, part, &error))?;
            compute(&value)
        }))
    }

    fn retype<I>(self) -> AwaitInput<A, About<I>> {
        AwaitInput {
            def: self.def,
            answer: self.answer,
            problems: self.problems,
            types: PhantomData,
        }
    }
}

impl<A, S> Clone for AwaitInput<A, S> {
    fn clone(&self) -> Self {
        Self {
            def: self.def.clone(),
            answer: self.answer.clone(),
            problems: self.problems.clone(),
            types: PhantomData,
        }
    }
}

impl<A, S> fmt::Debug for AwaitInput<A, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AwaitInput({})", self.def.id)
    }
}

fn unfit(id: &ToolId, part: &str, error: &Error) -> ToolError {
    ToolError::new(format_args!(
        "the {part} of {id} can't be made of this value: {}",
        error.message()
    ))
    .code(codes::INPUT_INVALID)
    .permanent()
}

/// A scalar as JSON, or what keeps it from being metadata.
fn plain(value: Scalar) -> Result<Value, &'static str> {
    Ok(match value {
        Scalar::Bool(value) => Value::from(value),
        Scalar::Int(value) => Value::from(value),
        // `Value::from` would make NaN and the infinities `null`.
        Scalar::Float(value) => {
            serde_json::Number::from_f64(value).ok_or("is not a finite number")?.into()
        }
        Scalar::Text(value) => Value::from(value),
    })
}

#[cfg(test)]
mod tests;
