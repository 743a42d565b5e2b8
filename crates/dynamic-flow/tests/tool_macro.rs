//! What `#[tool]` makes of functions.

use std::{
    num::ParseIntError,
    sync::Mutex,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use dynamic_flow::{
    Schema, Tool, ToolContext, ToolError, TypedTool, tool, tool::Output, wait::WaitRequest,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Order {
    total: u32,
}

/// Checks stock and credit.
///
/// - stock: is there enough?
#[tool]
async fn validate_order(order: Order) -> Result<Order, ToolError> {
    if order.total == 0 {
        return Err(ToolError::new("nothing was ordered").code("empty").permanent());
    }
    Ok(order)
}

#[tool(effect, id = "charge", name = "Charge the card")]
async fn charge_card(order: Order, context: &ToolContext) -> Result<String, ToolError> {
    Ok(format!("{} as {}", order.total, context.idempotency_key))
}

#[tool]
fn parse((text, times): (String, i32)) -> Result<i32, ParseIntError> {
    Ok(text.parse::<i32>()? * times)
}

#[tool]
async fn attempt(context: &ToolContext) -> dynamic_flow::Result<u32> {
    Ok(context.attempt)
}

#[tool]
async fn r#yield() -> Result<(), ToolError> {
    Ok(())
}

#[tool]
async fn count_2_times(known: bool) -> Result<Output<u32>, ToolError> {
    Ok(if known { Output::Value(7) } else { Output::Suspend(question()) })
}

/// Functions that are called like what stands in the code that is made of them.
mod called_alike {
    use dynamic_flow::{ToolContext, ToolError, tool};

    #[tool]
    pub(super) fn input(n: u32) -> Result<u32, ToolError> {
        Ok(n)
    }

    #[tool]
    pub(super) async fn context(n: u32, context: &ToolContext) -> Result<u32, ToolError> {
        Ok(n + context.attempt)
    }

    #[tool(blocking)]
    pub(super) fn function(context: &ToolContext) -> Result<u32, ToolError> {
        Ok(context.attempt)
    }
}

/// A crate that hands the library on, with names in it that shadow those of the language.
mod facade {
    pub(crate) use dynamic_flow as flows;

    #[expect(dead_code, reason = "they shadow what a macro without paths would name")]
    mod shadowed {
        trait Debug {}
        trait Clone {}
        trait Copy {}
        trait Default {}
        type Result = ();
        type Box = ();

        #[super::flows::tool(crate = "super::flows")]
        pub(crate) fn handed_on(n: u32) -> super::flows::Result<u32> {
            Ok(n)
        }
    }

    pub(crate) use self::shadowed::HandedOn;
}

static WAITED_FOR: Mutex<Option<Receiver<u32>>> = Mutex::new(None);

/// Blocks its thread until somebody sends it something.
#[tool(blocking)]
fn wait_for_it(n: u32) -> Result<u32, ToolError> {
    let waited_for = WAITED_FOR.lock().unwrap().take().unwrap();
    Ok(waited_for.recv_timeout(Duration::from_secs(10))? + n)
}

#[tool(blocking)]
fn give_up(_: u32) -> Result<u32, ToolError> {
    panic!("enough")
}

fn question() -> WaitRequest {
    let schema = Schema::new(json!({ "type": "integer" })).unwrap();
    WaitRequest::new("How many?", schema).no_timeout()
}

async fn call(tool: impl TypedTool, input: Value) -> Result<Output, ToolError> {
    tool.into_tool().unwrap().execute(&input, &ToolContext::detached()).await
}

#[test]
fn a_tool_is_named_described_and_typed_by_its_function() {
    let tool = ValidateOrder.into_tool().unwrap();
    let spec = tool.spec();
    assert_eq!((spec.id.as_str(), spec.name.as_str()), ("validate_order", "validate_order"));
    assert_eq!(spec.description, "Checks stock and credit.\n\n- stock: is there enough?");
    assert_eq!(spec.input, Schema::of::<Order>().unwrap());
    assert!(!spec.effect && !spec.awaits_input);
    assert_eq!(Yield.into_tool().unwrap().spec().id, "yield");
    assert_eq!(Count2Times.into_tool().unwrap().spec().output, Schema::of::<u32>().unwrap());
}

#[test]
fn options_replace_what_the_function_says() {
    let tool = ChargeCard.into_tool().unwrap();
    let spec = tool.spec();
    assert_eq!((spec.id.as_str(), spec.name.as_str()), ("charge", "Charge the card"));
    assert!(spec.effect);
    assert_eq!(spec.description, "");
}

#[tokio::test]
async fn the_function_stays_callable() {
    assert_eq!(validate_order(Order { total: 1 }).await.unwrap(), Order { total: 1 });
    assert_eq!(parse(("6".into(), 7)), Ok(42));
}

#[tokio::test]
async fn functions_of_every_shape_run() {
    let value = |value: Value| Ok(Output::Value(value));
    assert_eq!(call(ValidateOrder, json!({ "total": 2 })).await, value(json!({ "total": 2 })));
    assert_eq!(call(ChargeCard, json!({ "total": 2 })).await, value(json!("2 as detached")));
    assert_eq!(call(Parse, json!(["6", 7])).await, value(json!(42)));
    assert_eq!(call(Attempt, json!(null)).await, value(json!(1)));
    assert_eq!(call(Yield, json!(null)).await, value(json!(null)));
    assert_eq!(call(Count2Times, json!(true)).await, value(json!(7)));
    assert_eq!(call(Count2Times, json!(false)).await, Ok(Output::Suspend(question())));
}

#[tokio::test]
async fn a_function_may_be_called_like_anything_in_what_is_made_of_it() {
    let value = |value: Value| Ok(Output::Value(value));
    assert_eq!(call(called_alike::Input, json!(3)).await, value(json!(3)));
    assert_eq!(call(called_alike::Context, json!(3)).await, value(json!(4)));
    assert_eq!(call(called_alike::Function, json!(null)).await, value(json!(1)));
    assert_eq!(call(facade::HandedOn, json!(3)).await, value(json!(3)));
}

// One thread, which the tool would keep from sending.
#[tokio::test(flavor = "current_thread")]
async fn a_blocking_tool_lets_others_go_on_meanwhile() {
    let (send, receive) = channel();
    *WAITED_FOR.lock().unwrap() = Some(receive);
    let (output, sent) =
        tokio::join!(call(WaitForIt, json!(1)), async { send.send(41).map_err(drop) });
    assert_eq!((output, sent), (Ok(Output::Value(json!(42))), Ok(())));
}

#[tokio::test]
async fn a_blocking_tool_that_panics_does_so_where_it_is_awaited() {
    let panic = tokio::spawn(call(GiveUp, json!(1))).await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"enough"));
}

#[tokio::test]
async fn errors_of_every_kind_become_tool_errors() {
    let error = call(ValidateOrder, json!({ "total": 0 })).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.retryable), ("empty", false));
    let error = call(Parse, json!(["six", 7])).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.retryable), ("tool", true));
    let error = call(ValidateOrder, json!({ "total": -1 })).await.unwrap_err();
    assert_eq!(error.code, "input_invalid");
}

#[tokio::test]
async fn a_tool_is_a_unit_value_that_may_be_used_again() {
    let tool = ValidateOrder;
    let (one, two) = (tool.into_tool().unwrap(), tool.into_tool().unwrap());
    assert_eq!(one.spec(), two.spec());
    let _: &dyn Tool = &*one;
}
