//! Tools made of functions and closures.

use std::{fmt, future::Future, panic::resume_unwind, pin::Pin, sync::Arc};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tracing::Span;

use crate::{
    Error, Result, Schema, ToolError,
    id::ToolId,
    tool::{Output, Tool, ToolContext, ToolSpec, TypedTool},
    value::{from_value, to_value},
};

/// What the function of a tool may return: a `Result` of a value, or of an [`Output`] where the
/// tool may suspend; its error is anything that turns into a [`ToolError`]. Nothing else may: the trait
/// is sealed.
#[diagnostic::on_unimplemented(
    message = "a tool can't return `{Self}`",
    label = "not a `Result` that a tool may return",
    note = "return `Result<T, E>` or `Result<Output<T>, E>`: `T` derives `Serialize`, `Deserialize` and `JsonSchema`, and `E` is `ToolError` or any `std::error::Error`"
)]
pub trait ToolReturn: sealed::Sealed {
    /// What the tool gives when it is done.
    type Value;

    /// The same, as the engine takes it.
    ///
    /// # Errors
    /// What the function failed with.
    fn into_output(self) -> Result<Output<Self::Value>, ToolError>;
}

mod sealed {
    pub trait Sealed {}
    impl<T, E> Sealed for Result<T, E> {}
}

impl<T: Serialize, E: Into<ToolError>> ToolReturn for Result<T, E> {
    type Value = T;

    fn into_output(self) -> Result<Output<T>, ToolError> {
        self.map(Output::Value).map_err(Into::into)
    }
}

// `Output` is not `Serialize`, so that this is never the implementation above.
impl<T, E: Into<ToolError>> ToolReturn for Result<Output<T>, E> {
    type Value = T;

    fn into_output(self) -> Result<Output<T>, ToolError> {
        self.map_err(Into::into)
    }
}

/// The work that a call begins.
type Work<O> = Pin<Box<dyn Future<Output = Result<Output<O>, ToolError>> + Send>>;

type Function<I, O> = dyn Fn(I, &ToolContext) -> Work<O> + Send + Sync;

/// A tool made of a function from `I` to `O`; what `#[tool]` and [`tool_fn`] make.
pub struct FnTool<I, O> {
    spec: ToolSpec,
    function: Arc<Function<I, O>>,
}

/// Makes a tool of an async closure, which may own something of the program, such as a pool. One that
/// has to know of its call, such as its idempotency key, is made by [`FnTool::with_context`].
///
/// ```
/// use dynamic_flow::{ToolError, TypedTool, tool::tool_fn};
///
/// let double = tool_fn("double", |n: u32| async move {
///     n.checked_mul(2).ok_or_else(|| ToolError::new("too large").permanent())
/// })
/// .description("Doubles a number.");
/// assert_eq!(double.into_tool()?.spec().id, "double");
/// # Ok::<(), dynamic_flow::Error>(())
/// ```
pub fn tool_fn<I, R, F>(
    id: impl Into<ToolId>,
    function: impl Fn(I) -> F + Send + Sync + 'static,
) -> FnTool<I, R::Value>
where
    R: ToolReturn,
    F: Future<Output = R> + Send + 'static,
{
    FnTool {
        spec: ToolSpec::new(id),
        function: Arc::new(move |input, _| {
            let work = function(input);
            Box::pin(async move { work.await.into_output() })
        }),
    }
}

impl<I, O> FnTool<I, O> {
    /// Makes a tool of an async closure that wants to know of the call it is in, and may own something
    /// of the program, such as a client or a pool of connections.
    ///
    /// ```
    /// use dynamic_flow::{Flow, TypedTool, tool::FnTool};
    ///
    /// /// The client of a payment provider.
    /// #[derive(Clone)]
    /// struct Client;
    ///
    /// impl Client {
    ///     /// Charges once for a key, however often it is called.
    ///     async fn charge(&self, cents: u32, key: &str) -> std::io::Result<String> {
    ///         Ok(format!("{cents} charged as {key}"))
    ///     }
    /// }
    ///
    /// fn charge(client: Client) -> impl TypedTool<Input = u32, Output = String> {
    ///     FnTool::with_context("charge", move |cents, context| {
    ///         let client = client.clone();
    ///         async move { client.charge(cents, &context.idempotency_key).await }
    ///     })
    ///     .description("Takes the money.")
    ///     .effect()
    /// }
    ///
    /// let flow = Flow::input::<u32>("pay").tool(charge(Client)).build()?;
    /// # let _ = flow;
    /// # Ok::<(), dynamic_flow::Error>(())
    /// ```
    ///
    /// Where `?` makes a [`ToolError`] of errors of several types, the last expression names it:
    /// `Ok::<_, ToolError>(receipt)`.
    pub fn with_context<R, F>(
        id: impl Into<ToolId>,
        function: impl Fn(I, ToolContext) -> F + Send + Sync + 'static,
    ) -> Self
    where
        R: ToolReturn<Value = O>,
        F: Future<Output = R> + Send + 'static,
    {
        Self {
            spec: ToolSpec::new(id),
            function: Arc::new(move |input, context| {
                let work = function(input, context.clone());
                Box::pin(async move { work.await.into_output() })
            }),
        }
    }

    /// Makes a tool of a sync closure that takes its time: it waits, or computes for long. It runs on a
    /// thread for such work ([`tokio::task::spawn_blocking`]), and keeps nothing else waiting.
    ///
    /// Once it has begun it goes on to its end, also where a `timeout` around it, or a hub that shuts
    /// down, no longer waits for it.
    ///
    /// ```
    /// use dynamic_flow::{TypedTool, tool::FnTool};
    ///
    /// let read = FnTool::blocking("read", |path: String, _| std::fs::read_to_string(path));
    /// assert_eq!(read.into_tool()?.spec().id, "read");
    /// # Ok::<(), dynamic_flow::Error>(())
    /// ```
    pub fn blocking<R>(
        id: impl Into<ToolId>,
        function: impl Fn(I, ToolContext) -> R + Send + Sync + 'static,
    ) -> Self
    where
        I: Send + 'static,
        O: Send + 'static,
        R: ToolReturn<Value = O>,
    {
        let function = Arc::new(function);
        Self {
            spec: ToolSpec::new(id),
            function: Arc::new(move |input, context| {
                let (function, context) = (function.clone(), context.clone());
                Box::pin(async move {
                    let span = Span::current();
                    let work = move || span.in_scope(|| function(input, context).into_output());
                    tokio::task::spawn_blocking(work).await.unwrap_or_else(|ended| {
                        match ended.try_into_panic() {
                            // As if it had panicked here.
                            Ok(panic) => resume_unwind(panic),
                            Err(_) => {
                                Err(ToolError::new("the runtime was shut down before it began"))
                            }
                        }
                    })
                })
            }),
        }
    }

    /// Says what people call it; its id if nothing is said.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.spec = self.spec.name(name);
        self
    }

    /// Says what it does, for people and models.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.spec = self.spec.description(description);
        self
    }

    /// Says that it changes the world outside: the run is committed before and after it.
    #[must_use]
    pub fn effect(mut self) -> Self {
        self.spec = self.spec.effect(true);
        self
    }
}

impl<I, O> Clone for FnTool<I, O> {
    fn clone(&self) -> Self {
        Self { spec: self.spec.clone(), function: self.function.clone() }
    }
}

impl<I, O> fmt::Debug for FnTool<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnTool").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl<I, O> TypedTool for FnTool<I, O>
where
    I: DeserializeOwned + JsonSchema + Send + 'static,
    O: Serialize + DeserializeOwned + JsonSchema + Send + 'static,
{
    type Input = I;
    type Output = O;

    fn into_tool(self) -> Result<Arc<dyn Tool>> {
        let Self { spec, function } = self;
        let of_tool = |error: Error| error.with("tool", &spec.id);
        let input = Schema::of::<I>().map_err(of_tool)?;
        let output = Schema::of::<O>().map_err(of_tool)?;
        Ok(Arc::new(Self { spec: spec.input(input).output(output), function }))
    }
}

#[async_trait]
impl<I, O> Tool for FnTool<I, O>
where
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
{
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn execute(&self, input: &Value, context: &ToolContext) -> Result<Output, ToolError> {
        let input = from_value(input).map_err(|error| unfit("input", &error))?;
        Ok(match (self.function)(input, context).await? {
            Output::Value(output) => {
                Output::Value(to_value(&output).map_err(|error| unfit("output", &error))?)
            }
            Output::Suspend(request) => Output::Suspend(request),
        })
    }
}

/// An input or output that fits its schema, and still does not fit its type.
fn unfit(side: &str, error: &Error) -> ToolError {
    ToolError::new(format_args!("the {side} does not fit its type: {}", error.message()))
        .code(format!("{side}_invalid"))
        .permanent()
}

/// A tool whose types are known only at run time takes and gives any JSON.
impl TypedTool for Arc<dyn Tool> {
    type Input = Value;
    type Output = Value;

    fn into_tool(self) -> Result<Self> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wait::WaitRequest;

    async fn call(tool: impl TypedTool, input: Value) -> Result<Output, ToolError> {
        tool.into_tool().unwrap().execute(&input, &ToolContext::detached()).await
    }

    #[tokio::test]
    async fn a_closure_works_on_typed_values_and_has_their_schemas() {
        let tool = tool_fn("add", |(a, b): (i32, i32)| async move { Ok::<_, ToolError>(a + b) })
            .name("Add")
            .description("Adds.");
        let tool = tool.into_tool().unwrap();
        let spec = tool.spec();
        assert_eq!((spec.name.as_str(), spec.description.as_str()), ("Add", "Adds."));
        assert!(!spec.effect);
        assert!(spec.input.validate(&json!([1, "2"])).is_err());
        assert!(spec.output.validate(&json!("3")).is_err());
        let output = tool.execute(&json!([1, 2]), &ToolContext::detached()).await;
        assert_eq!(output.unwrap(), Output::Value(json!(3)));
    }

    #[tokio::test]
    async fn any_error_becomes_a_tool_error_and_keeps_its_text() {
        let tool = tool_fn("parse", |text: String| async move { text.parse::<i32>() });
        let error = call(tool, json!("x")).await.unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.message.as_str()),
            ("tool", "invalid digit found in string")
        );
        let tool = tool_fn("gone", |(): ()| async {
            Err::<(), _>(ToolError::new("gone").code("gone").permanent())
        });
        assert_eq!(call(tool, json!(null)).await.unwrap_err().code, "gone");
    }

    #[tokio::test]
    async fn values_that_are_not_of_the_type_are_refused_for_good() {
        let tool = tool_fn("double", |n: u8| async move { Ok::<_, ToolError>(n) });
        let error = call(tool, json!("many")).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.retryable), ("input_invalid", false));
    }

    #[tokio::test]
    async fn a_function_that_may_suspend_gives_the_type_of_its_answer() {
        let ask = WaitRequest {
            prompt: "How many?".into(),
            shown: None,
            schema: Schema::of::<u32>().unwrap(),
            deadline: crate::Deadline::Never,
            default: None,
            metadata: crate::Metadata::new(),
            saved: None,
        };
        let expected = ask.clone();
        let tool: FnTool<bool, u32> = tool_fn("ask", move |known: bool| {
            let ask = ask.clone();
            async move {
                Ok::<_, ToolError>(if known { Output::Value(7) } else { Output::Suspend(ask) })
            }
        });
        let tool = tool.into_tool().unwrap();
        let context = ToolContext::detached();
        assert_eq!(tool.execute(&json!(true), &context).await.unwrap(), Output::Value(json!(7)));
        assert_eq!(tool.execute(&json!(false), &context).await.unwrap(), Output::Suspend(expected));
    }

    #[tokio::test]
    async fn a_function_may_know_of_its_call() {
        let tool = FnTool::with_context("key", |(), context| async move {
            Ok::<_, ToolError>(context.idempotency_key)
        });
        let tool = tool.effect().clone();
        assert!(format!("{tool:?}").starts_with("FnTool { spec: ToolSpec { id: "), "{tool:?}");
        let tool = tool.into_tool().unwrap();
        assert!(tool.spec().effect);
        let output = tool.execute(&json!(null), &ToolContext::detached()).await.unwrap();
        assert_eq!(output, Output::Value(json!("detached")));
    }
}
