//! Typed combinators: flows built in Rust, in which a wrong pipe does not compile.

mod bodies;
mod code;
mod var;

use std::{collections::BTreeSet, fmt, marker::PhantomData, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Error, ErrorKind, Finding, Result, Schema, ToolError,
    expr::{Code, Compute},
    flow::{Flow, FlowDef, Step, StepKind, ToolRef, check::check},
    id::{FlowId, StepId},
    tool::{AwaitInput, FitsPipe, Tool, TypedTool},
    value::to_value,
};

use self::code::{code, fallible};
pub use self::{
    bodies::{Arms, CaughtError},
    var::Var,
};

/// A flow in the making: steps so far take an `I` and give an `O`.
///
/// Each method adds a step that works on the `O`. Steps have ids, because a parked run finds its
/// place by them after a deploy: tools and questions bring theirs, closures take a name. What is
/// wrong is collected, and [`FlowBuilder::build`] reports all of it.
///
/// The same type builds the bodies inside steps: `|order| order.await_input(…)` gets an empty one
/// that carries what reaches the step, and gives it back with steps in it.
///
/// ```
/// use dynamic_flow::{Flow, ToolError, hours, tool, tool::AwaitInput};
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// # #[derive(Serialize, Deserialize, JsonSchema)]
/// # struct Order { id: String, total: f64 }
/// # #[derive(Serialize, Deserialize, JsonSchema)]
/// # struct ValidOrder { id: String, total: f64 }
/// # #[derive(Serialize, Deserialize, JsonSchema)]
/// # struct Approval { approved: bool, approved_by: String, comments: Option<String> }
/// # #[derive(Serialize, Deserialize, JsonSchema)]
/// # struct Processed { id: String }
/// /// Checks stock and credit.
/// #[tool]
/// async fn validate_order(order: Order) -> Result<ValidOrder, ToolError> {
///     Ok(ValidOrder { id: order.id, total: order.total })
/// }
///
/// /// Ships it.
/// #[tool(effect)]
/// async fn process_order((order, _): (ValidOrder, Approval)) -> Result<Processed, ToolError> {
///     Ok(Processed { id: order.id })
/// }
///
/// let manager_approval = AwaitInput::<Approval>::new("manager-approval")
///     .name("Manager approval")
///     .prompt_with(|order: &ValidOrder| format!("Approve {} for {}?", order.id, order.total))
///     .timeout(hours(4))
///     .default_value(Approval { approved: false, approved_by: "system".into(), comments: None });
///
/// let flow = Flow::input::<Order>("purchase-approval")
///     .tool(ValidateOrder)
///     .keep(|order| order.await_input(manager_approval))
///     .filter("approved", |(_, approval)| approval.approved)
///     .tool(ProcessOrder)
///     .build()?;
/// assert_eq!(flow.def().body.len(), 4);
/// # Ok::<(), dynamic_flow::Error>(())
/// ```
#[must_use = "a flow is nothing before it is built"]
pub struct FlowBuilder<I, O> {
    id: FlowId,
    name: String,
    description: String,
    steps: Vec<Step>,
    findings: Vec<Finding>,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O> fmt::Debug for FlowBuilder<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowBuilder")
            .field("id", &self.id)
            .field("steps", &self.steps)
            .field("findings", &self.findings)
            .finish_non_exhaustive()
    }
}

impl Flow {
    /// Starts a flow of that id whose runs are started with a `T`.
    pub fn input<T>(id: impl Into<FlowId>) -> FlowBuilder<T, T>
    where
        T: Serialize + DeserializeOwned + JsonSchema,
    {
        FlowBuilder::empty(id.into())
    }
}

impl<I, O> FlowBuilder<I, O> {
    /// Says what people call the flow.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Says what the flow is for.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Says what the step just added does; tools and questions bring their descriptions.
    pub fn describe(mut self, description: impl Into<String>) -> Self {
        match self.steps.last_mut() {
            Some(step) => step.description = description.into(),
            None => self.find("", "`describe` is about the step before it, and there is none"),
        }
        self
    }

    /// Keeps the idempotency keys of what the step just added calls, and of what the steps inside it call,
    /// though the step has another name by now: those that they had under this name.
    ///
    /// A call that may have had its effect is made again with the key that it had: after a crash, by a
    /// `retry`, by [`PersistenceHub::retry`](crate::hub::PersistenceHub::retry). The names of steps are a part
    /// of that key, so say this of each step that you rename and that calls tools, or has one inside it that
    /// does. It stays there: to take it away is to rename the step once more. And a name that a step had is
    /// not for another one beside it, whose calls would be taken for repetitions.
    ///
    /// A run that stands in the step has to be carried over to its new name besides, with
    /// [`RunState::rename_step`](crate::flow::RunState::rename_step).
    ///
    /// ```
    /// use dynamic_flow::{Flow, ToolError, tool::tool_fn};
    ///
    /// let pay = tool_fn("pay", |cents: u32| async move { Ok::<_, ToolError>(cents) });
    /// // The step was called `pay` before.
    /// let flow = Flow::input::<u32>("purchase").tool_as("charge", pay).keyed_as("pay").build()?;
    /// # let _ = flow;
    /// # Ok::<(), dynamic_flow::Error>(())
    /// ```
    ///
    /// What another step beside it calls can't be known by the same name: the flow is not built then.
    pub fn keyed_as(mut self, name: impl Into<StepId>) -> Self {
        match self.steps.last_mut() {
            Some(step) => step.keyed_as = Some(name.into()).filter(|name| *name != step.id),
            None => self.find("", "`keyed_as` is about the step before it, and there is none"),
        }
        self
    }

    /// Calls a tool, whose id names the step.
    pub fn tool<T: TypedTool<Input = O>>(self, tool: T) -> FlowBuilder<I, T::Output> {
        self.call(None, tool.into_tool(), |tool| StepKind::Tool { tool, with: None })
    }

    /// Calls a tool in a step of that name, for a tool that is called more than once.
    pub fn tool_as<T: TypedTool<Input = O>>(
        self,
        step: impl Into<StepId>,
        tool: T,
    ) -> FlowBuilder<I, T::Output> {
        self.call(Some(step.into()), tool.into_tool(), |tool| StepKind::Tool { tool, with: None })
    }

    /// Stops the run until somebody answers; the answer goes on. The question's id names the step.
    ///
    /// To go on with the value that was there too, put it in a [`FlowBuilder::keep`].
    pub fn await_input<A, S: FitsPipe<O>>(self, question: AwaitInput<A, S>) -> FlowBuilder<I, A> {
        self.call(None, question.into_tool(), |tool| StepKind::AwaitInput { tool })
    }

    /// Asks in a step of that name, for a question that is asked more than once.
    pub fn await_input_as<A, S: FitsPipe<O>>(
        self,
        step: impl Into<StepId>,
        question: AwaitInput<A, S>,
    ) -> FlowBuilder<I, A> {
        self.call(Some(step.into()), question.into_tool(), |tool| StepKind::AwaitInput { tool })
    }

    /// Computes a new value.
    pub fn map<U: Serialize>(
        self,
        step: impl Into<StepId>,
        map: impl Fn(O) -> U + Send + Sync + 'static,
    ) -> FlowBuilder<I, U>
    where
        O: DeserializeOwned,
    {
        let step = step.into();
        let compute = code(&step, map);
        self.push(step, StepKind::Map { compute })
    }

    /// Computes a new value, or fails.
    pub fn try_map<U: Serialize, E: Into<ToolError>>(
        self,
        step: impl Into<StepId>,
        map: impl Fn(O) -> Result<U, E> + Send + Sync + 'static,
    ) -> FlowBuilder<I, U>
    where
        O: DeserializeOwned,
    {
        let step = step.into();
        let compute = fallible(&step, move |value| map(value).map_err(Into::into));
        self.push(step, StepKind::Map { compute })
    }

    /// Looks at the value, which goes on as it is. It may look again after a crash.
    ///
    /// For steps on the side there is [`FlowBuilder::tap_body`].
    pub fn tap(self, step: impl Into<StepId>, look: impl Fn(&O) + Send + Sync + 'static) -> Self
    where
        O: DeserializeOwned,
    {
        self.tap_body(step, |value| value.map("look", move |value| look(&value)))
    }

    /// Lets a value go on, or ends the run as rejected: a "no" is a result, not a failure.
    pub fn filter(
        self,
        step: impl Into<StepId>,
        predicate: impl Fn(&O) -> bool + Send + Sync + 'static,
    ) -> Self
    where
        O: DeserializeOwned,
    {
        let step = step.into();
        let predicate = code(&step, move |value| predicate(&value));
        self.push(step, StepKind::Filter { predicate })
    }

    /// Goes on with a value that is known beforehand.
    pub fn succeed<U: Serialize>(mut self, step: impl Into<StepId>, value: U) -> FlowBuilder<I, U> {
        let step = step.into();
        let kind = match to_value(&value) {
            Ok(value) => StepKind::Succeed { value },
            Err(error) => self.unusable(&step, &error),
        };
        self.push(step, kind)
    }

    /// Fails with an error to catch by its code; no value goes on, so it may be of any type. A
    /// `retry` around it tries again.
    pub fn fail<U>(
        self,
        step: impl Into<StepId>,
        code: impl Into<String>,
        message: impl Into<String>,
    ) -> FlowBuilder<I, U> {
        let message = Compute::Value(Value::String(message.into()));
        self.push(step.into(), StepKind::Fail { code: code.into(), message })
    }

    /// Fails with a message that depends on the value. It is kept with the run: no secrets.
    pub fn fail_with<U>(
        self,
        step: impl Into<StepId>,
        error_code: impl Into<String>,
        message: impl Fn(&O) -> String + Send + Sync + 'static,
    ) -> FlowBuilder<I, U>
    where
        O: DeserializeOwned,
    {
        let step = step.into();
        let message = code(&step, move |value| message(&value));
        self.push(step, StepKind::Fail { code: error_code.into(), message })
    }

    /// Does nothing for a time; the value goes on as it is.
    pub fn sleep(self, step: impl Into<StepId>, duration: Duration) -> Self {
        self.push(step.into(), StepKind::Sleep { duration })
    }

    /// Sets a variable for the rest of this body and the bodies in it; the value goes on as it is.
    ///
    /// The step is named `set-` and the variable's name, with a number if it is set again.
    pub fn set<T: Serialize>(
        self,
        variable: &Var<T>,
        to: impl Fn(&O) -> T + Send + Sync + 'static,
    ) -> Self
    where
        O: DeserializeOwned,
    {
        let step = self.free_id(format!("set-{}", variable.name()));
        let compute = code(&step, move |value| to(&value));
        self.push_set(step, variable.name(), compute)
    }

    /// Sets a variable to a value that is known beforehand.
    pub fn set_value<T: Serialize>(mut self, variable: &Var<T>, to: T) -> Self {
        let step = self.free_id(format!("set-{}", variable.name()));
        match to_value(&to) {
            Ok(value) => self.push_set(step, variable.name(), Compute::Value(value)),
            Err(error) => {
                let kind = self.unusable(&step, &error);
                self.push(step, kind)
            }
        }
    }

    /// Goes on with what a variable was set to.
    ///
    /// The step is named `get-` and the variable's name, with a number if it is got again.
    pub fn get<T>(self, variable: &Var<T>) -> FlowBuilder<I, T> {
        let step = self.free_id(format!("get-{}", variable.name()));
        self.push(step, StepKind::Get { variable: variable.name().to_owned() })
    }

    /// Runs another flow in place; it sees the value, and none of the variables.
    pub fn sub_flow<U>(self, step: impl Into<StepId>, flow: &Flow<O, U>) -> FlowBuilder<I, U> {
        self.push(step.into(), StepKind::SubFlow { flow: flow.def().clone() })
    }

    /// Checks the flow.
    ///
    /// # Errors
    /// `InvalidFlow` with everything that is wrong, each with the path of the step:
    /// [`Error::findings`].
    pub fn build(self) -> Result<Flow<I, O>>
    where
        I: JsonSchema,
        O: JsonSchema,
    {
        let Self { id, name, description, steps, mut findings, .. } = self;
        let mut schema = |side: &str, schema: Result<Schema>| {
            schema.unwrap_or_else(|error| {
                findings.push(finding(
                    "",
                    format!("the {side} has no usable schema: {}", error.message()),
                ));
                Schema::any()
            })
        };
        let input = schema("input", Schema::of::<I>());
        let output = schema("output", Schema::of::<O>());
        let def = FlowDef { id, name, description, input, output, body: steps, document: None };
        findings.extend(check(&def));
        let Some(first) = findings.first() else { return Ok(Flow::from_def(Arc::new(def))) };
        let message = match findings.len() {
            1 => format!("the flow can't be built: {first}"),
            n => format!("the flow can't be built for {n} reasons; the first: {first}"),
        };
        Err(Error::new(ErrorKind::InvalidFlow, message)
            .with("flow", def.id)
            .with_findings(findings))
    }

    fn empty(id: FlowId) -> Self {
        Self {
            id,
            name: String::new(),
            description: String::new(),
            steps: Vec::new(),
            findings: Vec::new(),
            types: PhantomData,
        }
    }

    fn push<U>(mut self, id: StepId, kind: StepKind) -> FlowBuilder<I, U> {
        let description = kind.tool().map(|tool| tool.description.clone()).unwrap_or_default();
        self.steps.push(Step { description, ..Step::new(id, kind) });
        FlowBuilder {
            id: self.id,
            name: self.name,
            description: self.description,
            steps: self.steps,
            findings: self.findings,
            types: PhantomData,
        }
    }

    fn push_set(self, step: StepId, variable: &str, compute: Compute) -> Self {
        let variables = [(variable.to_owned(), compute)].into();
        self.push(step, StepKind::Set { variables })
    }

    /// Adds a step that calls a tool, unless the tool can't be had.
    fn call<U>(
        mut self,
        step: Option<StepId>,
        tool: Result<Arc<dyn Tool>>,
        kind: impl FnOnce(ToolRef) -> StepKind,
    ) -> FlowBuilder<I, U> {
        match tool {
            Ok(tool) => {
                let step = step.unwrap_or_else(|| tool.spec().id.as_str().into());
                self.push(step, kind(ToolRef::new(tool)))
            }
            Err(error) => {
                let step = step
                    .or_else(|| error.context_value("tool").map(StepId::from))
                    .unwrap_or_else(|| self.free_id("tool".into()));
                let kind = self.unusable(&step, &error);
                self.push(step, kind)
            }
        }
    }

    /// Reports why a step can't be had, and gives one to stand in its place while the rest is
    /// checked.
    fn unusable(&mut self, step: &StepId, error: &Error) -> StepKind {
        if error.findings().is_empty() {
            self.find(step.as_str(), error.message());
        }
        for found in error.findings() {
            self.find(step.as_str(), &found.message);
        }
        StepKind::Map { compute: Compute::Code(Code::unknown()) }
    }

    fn find(&mut self, path: &str, message: &str) {
        self.findings.push(finding(path, message.to_owned()));
    }

    /// The id, or with the first number that makes it new in this body.
    fn free_id(&self, id: String) -> StepId {
        let taken: BTreeSet<&str> = self.steps.iter().map(|step| step.id.as_str()).collect();
        if !taken.contains(id.as_str()) {
            return id.into();
        }
        let mut numbered = (2_u32..).map(|n| format!("{id}-{n}"));
        numbered.find(|id| !taken.contains(id.as_str())).unwrap_or(id).into()
    }
}

impl<I> FlowBuilder<I, Value> {
    /// Checks a value of unknown type against the schema of `T`, and goes on with it as a `T`.
    pub fn input<T>(mut self, step: impl Into<StepId>) -> FlowBuilder<I, T>
    where
        T: Serialize + DeserializeOwned + JsonSchema,
    {
        let step = step.into();
        let kind = match Schema::of::<T>() {
            Ok(schema) => StepKind::Input { schema },
            Err(error) => self.unusable(&step, &error),
        };
        self.push(step, kind)
    }
}

fn finding(path: &str, message: String) -> Finding {
    Finding { path: path.to_owned(), message, line: None, column: None }
}

#[cfg(test)]
mod tests;
