//! Tools: units of work with an id, schemas and an `execute`.

mod await_input;
mod function;
#[cfg(feature = "http")]
mod http;
mod presets;
mod set;
mod template;

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Error, ErrorKind, Result, ToolError,
    expr::Variables,
    id::{RunId, ToolId},
    position::Position,
    schema::Schema,
    wait::WaitRequest,
};

#[cfg(feature = "http")]
pub use self::http::{HostRule, HttpPolicy, HttpTool, Secret};
pub(crate) use self::template::{DATA as TEMPLATE_DATA, SOURCE as TEMPLATE_SOURCE};
pub(crate) use self::{
    await_input::QuestionPart,
    presets::{OptionSort, PresetOption},
};
pub use self::{
    await_input::{About, AnyInput, AwaitInput, AwaitInputDef, FitsPipe},
    function::{FnTool, ToolReturn, tool_fn},
    presets::{
        Annotation, Approval, ChoiceInput, ChoicesInput, Confirmation, DocumentReview, FormInput,
        HumanInTheLoop, NumberInput, Preset, ReviewDecision, TextInput,
    },
};
pub use self::{set::SetTool, template::TemplateTool};

/// What a tool is, without how it works.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolSpec {
    /// Names the tool; stable over deploys.
    pub id: ToolId,
    /// What people call it.
    pub name: String,
    /// What it does, for people and models.
    pub description: String,
    /// What its input must look like.
    pub input: Schema,
    /// What it gives in the end; of a tool that suspends and has no `on_resume` of its own, that is the
    /// answer.
    pub output: Schema,
    /// Whether it changes the world outside: the run is committed before and after it.
    pub effect: bool,
    /// Whether it always suspends its run.
    pub awaits_input: bool,
    /// Whether it fills the template in its input: documents write that out, and hand it on as it is
    /// written.
    #[serde(skip)]
    pub(crate) fills_template: bool,
}

impl ToolSpec {
    /// A tool of that id, named after it, which takes and gives anything and has no effects.
    pub fn new(id: impl Into<ToolId>) -> Self {
        let id = id.into();
        Self {
            name: id.to_string(),
            id,
            description: String::new(),
            input: Schema::any(),
            output: Schema::any(),
            effect: false,
            awaits_input: false,
            fills_template: false,
        }
    }

    /// Says what people call it.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Says what it does.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Says what its input must look like.
    #[must_use]
    pub fn input(mut self, schema: Schema) -> Self {
        self.input = schema;
        self
    }

    /// Says what its output looks like.
    #[must_use]
    pub fn output(mut self, schema: Schema) -> Self {
        self.output = schema;
        self
    }

    /// Says that it changes the world outside.
    #[must_use]
    pub fn effect(mut self, effect: bool) -> Self {
        self.effect = effect;
        self
    }

    /// Says that it always suspends its run.
    #[must_use]
    pub fn awaits_input(mut self, awaits_input: bool) -> Self {
        self.awaits_input = awaits_input;
        self
    }
}

/// What a call of a tool came to: a value, or a question that must be answered first.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one comes of a call, and is taken apart at once")]
pub enum Output<T = Value> {
    /// It is done.
    Value(T),
    /// It needs an answer; the run stops.
    Suspend(WaitRequest),
}

/// A unit of work.
///
/// Most tools are functions with `#[tool]` on them; implement this for one whose id or schemas
/// are known only at run time. A panic in it becomes the tool's error.
#[async_trait]
pub trait Tool: Send + Sync + 'static {
    /// What the tool is; the same at each call.
    fn spec(&self) -> &ToolSpec;

    /// Works on an input that fits the input schema.
    ///
    /// It is begun on the task that drives its run, and gets one of its own where it waits. What keeps
    /// a thread for long, as blocking calls do, belongs in `spawn_blocking` (see [`FnTool::blocking`]):
    /// nothing else happens in its run meanwhile. After a crash it may run again with the same [`ToolContext::idempotency_key`].
    async fn execute(&self, input: &Value, context: &ToolContext) -> Result<Output, ToolError>;

    /// Goes on after the question that `execute` asked was answered; gives the answer as the
    /// output unless the tool does something with it.
    ///
    /// When it fails, a `retry` of the run calls it again with the same answer. Where no further try
    /// can help, as with an answer that the tool has no use for, fail with
    /// [`ToolError::permanent`]: then a `retry` begins the step anew, which asks again.
    async fn on_resume(
        &self,
        answer: Value,
        saved: Option<Value>,
        context: &ToolContext,
    ) -> Result<Output, ToolError> {
        let _ = (saved, context);
        Ok(Output::Value(answer))
    }
}

/// A tool whose input and output are Rust types, as the typed builder needs it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a typed tool",
    label = "not a typed tool",
    note = "put `#[tool]` on a function and name the type that it makes: `fn check_stock` makes `CheckStock`",
    note = "for a question to somebody outside there is `await_input`"
)]
pub trait TypedTool: Sized {
    /// What goes in.
    type Input: DeserializeOwned + JsonSchema + Send + 'static;
    /// What comes out.
    type Output: Serialize + DeserializeOwned + JsonSchema + Send + 'static;

    /// The tool as the engine calls it.
    ///
    /// # Errors
    /// `InvalidFlow` when the types have no usable schema.
    fn into_tool(self) -> Result<Arc<dyn Tool>>;
}

/// What a tool may know of the call it is in.
///
/// A clone of it shares the variables and the input of the run; it copies no more than a short text and
/// a short path.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ToolContext {
    /// The run.
    pub run_id: RunId,
    /// The step, and the iterations it is in.
    pub position: Position,
    /// Stays the same whenever this very call is made again, after a crash or by a retry; be it with
    /// another input, where what the retry repeats gave another result or was answered otherwise.
    /// What a retry does after the flow itself gave up, by a `fail`, are other calls.
    pub idempotency_key: String,
    /// Counts the attempts of the retry around it, from 1.
    pub attempt: u32,
    /// The variables in scope.
    pub variables: Arc<Variables>,
    /// The input of the run.
    pub run_input: Arc<Value>,
}

impl ToolContext {
    /// The variable of that name, if one is set.
    ///
    /// ```
    /// use dynamic_flow::ToolContext;
    /// use serde_json::json;
    ///
    /// let mut context = ToolContext::detached();
    /// context.variables = std::sync::Arc::new([("who".into(), json!("jane").into())].into());
    /// assert_eq!(context.variable("who"), Some(&json!("jane")));
    /// assert_eq!(context.variable("when"), None);
    /// ```
    pub fn variable(&self, name: &str) -> Option<&Value> {
        self.variables.get(name).map(AsRef::as_ref)
    }

    /// A context for calling a tool outside of a run, in tests.
    pub fn detached() -> Self {
        Self {
            run_id: RunId::from_bytes([0; 16]),
            position: Position::default(),
            idempotency_key: "detached".into(),
            attempt: 1,
            variables: Arc::default(),
            run_input: Arc::default(),
        }
    }
}

/// The tools that documents may name.
#[derive(Clone, Default)]
pub struct ToolRegistry {
    tools: BTreeMap<ToolId, Arc<dyn Tool>>,
}

impl ToolRegistry {
    /// A registry without tools.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tools that documents may be given without a thought, for they reach nothing: `set`
    /// ([`SetTool`]) and `template` ([`TemplateTool`]).
    ///
    /// ```
    /// use dynamic_flow::{Flow, tool::ToolRegistry};
    ///
    /// let greet = "
    /// flow: greet
    /// steps:
    ///   - id: say
    ///     call: template
    ///     with: { template: \"Hello, {{ value }}\" }
    /// ";
    /// Flow::from_document(greet, &ToolRegistry::for_documents())?;
    /// # Ok::<(), dynamic_flow::Error>(())
    /// ```
    pub fn for_documents() -> Self {
        let mut registry = Self::new();
        registry.put(Arc::new(SetTool::new()));
        registry.put(Arc::new(TemplateTool::new()));
        registry
    }

    /// All tools for documents that this library has: [`ToolRegistry::for_documents`], and `http`
    /// ([`HttpTool`]) for what the policy allows.
    #[cfg(feature = "http")]
    pub fn for_documents_with_http(policy: HttpPolicy) -> Self {
        let mut registry = Self::for_documents();
        registry.put(Arc::new(HttpTool::new(policy)));
        registry
    }

    fn put(&mut self, tool: Arc<dyn Tool>) {
        self.tools.insert(tool.spec().id.clone(), tool);
    }

    /// Adds a tool.
    ///
    /// # Errors
    /// `InvalidConfig` when a tool of that id is there.
    pub fn add(&mut self, tool: Arc<dyn Tool>) -> Result<&mut Self> {
        let id = &tool.spec().id;
        if self.contains(id) {
            return Err(
                Error::new(ErrorKind::InvalidConfig, "two tools have the same id").with("tool", id)
            );
        }
        self.put(tool);
        Ok(self)
    }

    /// Adds a typed tool, such as one made by `#[tool]`.
    ///
    /// # Errors
    /// As [`ToolRegistry::add`], and `InvalidFlow` when its types have no usable schema.
    pub fn add_typed(&mut self, tool: impl TypedTool) -> Result<&mut Self> {
        self.add(tool.into_tool()?)
    }

    /// The tool of that id.
    pub fn get(&self, id: &ToolId) -> Option<&Arc<dyn Tool>> {
        self.tools.get(id)
    }

    /// Whether there is a tool of that id.
    pub fn contains(&self, id: &ToolId) -> bool {
        self.tools.contains_key(id)
    }

    /// How many tools there are.
    pub fn len(&self) -> usize {
        self.tools.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// What tools there are, by id.
    pub fn specs(&self) -> impl Iterator<Item = &ToolSpec> {
        self.tools.values().map(|tool| tool.spec())
    }
}

impl fmt::Debug for ToolRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.tools.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_has_what_it_was_given_once() {
        let mut tools = ToolRegistry::new();
        assert!(tools.is_empty());
        tools.add(Arc::new(SetTool::new())).unwrap().add(Arc::new(TemplateTool::new())).unwrap();
        assert_eq!(tools.len(), 2);
        assert!(tools.contains(&"set".into()) && !tools.contains(&"http".into()));
        let twice = tools.add(Arc::new(SetTool::new())).unwrap_err();
        assert_eq!(twice.kind(), ErrorKind::InvalidConfig);
        assert_eq!(twice.context_value("tool"), Some("set"));
        assert_eq!((tools.len(), tools.is_empty()), (2, false));
    }

    #[test]
    fn the_tools_for_documents_are_there_and_their_schemas_compile() {
        let tools = ToolRegistry::for_documents();
        assert_eq!(format!("{tools:?}"), r#"{"set", "template"}"#);
        #[cfg(feature = "http")]
        let tools = ToolRegistry::for_documents_with_http(HttpPolicy::default());
        #[cfg(feature = "http")]
        assert_eq!(format!("{tools:?}"), r#"{"http", "set", "template"}"#);
        for spec in tools.specs() {
            for schema in [&spec.input, &spec.output] {
                assert_eq!(Schema::new(schema.as_value().clone()).as_ref().ok(), Some(schema));
            }
        }
    }
}
