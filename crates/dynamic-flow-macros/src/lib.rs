//! The `#[tool]` attribute of dynamic-flow, which re-exports and documents it.

mod expand;
mod options;

use proc_macro::TokenStream;

/// Makes a tool of a function.
///
/// The function stays as it is, to be called in tests: `charge(order, &ToolContext::detached())`.
/// What it gives has to be `unwrap`ped there, or its error mapped, where it is a `ToolError`: that
/// is no `std::error::Error`.
///
/// Beside it stands a unit struct with its name in CamelCase, `ValidateOrder` for `validate_order`,
/// which is a `TypedTool`: the function's name is the tool's id, its doc comment the description,
/// its types are the schemas.
///
/// ```ignore
/// /// Checks stock and credit.
/// #[tool]
/// async fn validate_order(order: Order) -> Result<ValidOrder, ToolError> { … }
///
/// /// Takes the money, once: the run is committed before and after it.
/// #[tool(effect, id = "charge", name = "Charge the card")]
/// async fn charge(order: ValidOrder, context: &ToolContext) -> Result<Receipt, CardError> { … }
/// ```
///
/// - It takes its input by value, several as a tuple or struct; without an argument it takes `()`.
/// - A last argument `&ToolContext` tells of the call: run, attempt, idempotency key.
/// - It gives a `Result` of a value, or of an `Output<T>` where it may suspend the run. The error
///   is `ToolError` or any `std::error::Error`.
/// - What needs something of the program, such as a client or a pool of connections, is made of a
///   closure that owns it: by `FnTool::with_context` where it must know of the call, as every effect
///   must for its idempotency key; by `tool_fn` otherwise. See below.
/// - It may be sync; then it should be quick, for it blocks the thread that drives the run.
///
/// Options: `effect` says that it changes the world outside; `id = "…"` and `name = "…"` replace
/// those that the function's name gives.
///
/// A tool with a client, an effect and an idempotency key:
///
/// ```ignore
/// use dynamic_flow::{TypedTool, tool::FnTool};
///
/// fn charge(client: Client) -> impl TypedTool<Input = u32, Output = String> {
///     FnTool::with_context("charge", move |cents, context| {
///         let client = client.clone();
///         async move { client.charge(cents, &context.idempotency_key).await }
///     })
///     .description("Takes the money.")
///     .effect()
/// }
/// ```
///
/// It goes into a flow as `.tool(charge(client))`. The documentation of `FnTool::with_context` has
/// this example whole.
#[proc_macro_attribute]
pub fn tool(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(options.into(), &item.into()).into()
}
