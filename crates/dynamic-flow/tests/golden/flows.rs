//! The flows whose runs are golden. What is parked in them must fit them for ever: where one has to
//! change, it gets a new name.

use std::{
    future,
    sync::{Arc, atomic::Ordering},
};

use async_trait::async_trait;
use dynamic_flow::{
    Flow, Schema, Tool, ToolContext, ToolError, TypedTool,
    flow::{Backoff, Var},
    hours,
    tool::{AwaitInput, FnTool, Output, ToolSpec, tool_fn},
    wait::{ContentDigest, WaitRequest},
};
use serde_json::{Value, json};

use super::world::World;

pub(crate) const SCALE: Var<u64> = Var::new("scale");

/// What answers `approval`.
pub(crate) fn yes() -> Value {
    json!({ "approved": true, "by": "jane" })
}

pub(crate) fn no() -> Value {
    json!({ "approved": false, "by": "jane" })
}

fn approval_schema() -> Schema {
    Schema::new(json!({
        "type": "object",
        "required": ["approved", "by"],
        "properties": { "approved": { "type": "boolean" }, "by": { "type": "string" } },
    }))
    .unwrap()
}

fn approval() -> AwaitInput {
    AwaitInput::untyped("approval", approval_schema())
        .name("Approval")
        .prompt("Shall it be done?")
        .timeout(hours(4))
}

/// A tool that must not run again once the run is parked.
fn prepare(world: &World) -> impl TypedTool<Input = String, Output = String> + use<> {
    let before = world.before.clone();
    tool_fn("prepare", move |text: String| {
        before.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, ToolError>(text) }
    })
}

fn thanks(text: &str, approval: &Value) -> String {
    format!("{} … approved by {}", &text[..5], approval["by"].as_str().unwrap_or("nobody"))
}

/// A tool, a wait with everything that a wait may have, a filter.
pub(crate) fn plain(world: &World) -> Flow<String, String> {
    let question = approval()
        .prompt_with(|text: &String| format!("{} characters; shall it be done?", text.len()))
        .show(|text: &String| json!({ "text": text, "nothing": null }))
        .default_value(json!({ "approved": false, "by": "system" }))
        .metadata("department", "radiology")
        .metadata("urgent", true)
        .metadata("amount", 6301.5)
        .metadata("pieces", 2);
    Flow::input::<String>("golden-plain")
        .tool(prepare(world))
        .keep(|text| text.await_input(question))
        .filter("approved", |(_, approval)| approval["approved"] == true)
        .map("thank", |(text, approval)| thanks(&text, &approval))
        .build()
        .unwrap()
}

/// A wait, and a tool after it.
pub(crate) fn worked_on(world: &World) -> Flow<String, String> {
    let finish = tool_fn("finish", |(text, approval): (String, Value)| async move {
        Ok::<_, ToolError>(thanks(&text, &approval))
    });
    Flow::input::<String>("golden-worked-on")
        .tool(prepare(world))
        .keep(|text| text.await_input(approval()))
        .tool(finish)
        .build()
        .unwrap()
}

/// A wait without a default.
pub(crate) fn asked_in_vain(world: &World) -> Flow<String, Value> {
    Flow::input::<String>("golden-asked-in-vain")
        .tool(prepare(world))
        .await_input(approval())
        .build()
        .unwrap()
}

/// A wait in everything that a wait can be in, in the second attempt of a retry.
pub(crate) fn nested(world: &World) -> Flow<u64, (String, u64)> {
    let before = world.before.clone();
    let flaky = FnTool::with_context("flaky", move |n: u64, context| {
        before.fetch_add(1, Ordering::SeqCst);
        async move {
            match context.attempt {
                1 => Err(ToolError::new("not yet").code("busy")),
                _ => Ok(n + 1),
            }
        }
    });
    let number = Schema::new(json!({ "type": "integer" })).unwrap();
    let inner = Flow::input::<u64>("golden-inner")
        .set(&Var::<u64>::new("half"), |n| n / 2)
        .await_input(AwaitInput::untyped("number", number).prompt("How many?").no_timeout())
        .keep(|answer| answer.get(&Var::<u64>::new("half")))
        .build()
        .unwrap();
    let at_once = Backoff::none();
    Flow::input::<u64>("golden-nested")
        .set(&SCALE, |n| n * 10)
        .timeout("in-time", hours(8), |n| {
            n.catch(
                "safely",
                |n| {
                    n.retry("again", 3, at_once, |n| {
                        n.switch_route(
                            "size",
                            |n| if *n > 10 { "large" } else { "small" },
                            |arms| {
                                arms.arm("large", |n| {
                                    n.tool(flaky)
                                        .keep_as("both", |n| n.sub_flow("inner", &inner))
                                        .map("tell", |(n, (answer, half))| {
                                            format!("{n} and {answer}, with {half}")
                                        })
                                })
                                .arm("small", |n| n.map("small", |n| n.to_string()))
                            },
                        )
                    })
                },
                |error| error.map("told", |error| format!("{} at {}", error.code, error.step)),
            )
        })
        .keep_as("scaled", |text| text.get(&SCALE))
        .build()
        .unwrap()
}

/// A tool that asks in the middle of its work, and goes on with what it saved.
struct Haggle(ToolSpec);

#[async_trait]
impl Tool for Haggle {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    async fn execute(&self, input: &Value, _: &ToolContext) -> Result<Output, ToolError> {
        let schema = Schema::new(json!({ "type": "integer" })).unwrap();
        let question = WaitRequest::new("What do you offer?", schema)
            .timeout(hours(1))
            .default_value(json!(0))
            .metadata("round", 1)
            .save(json!({ "wanted": input, "offers": [], "partner": null }));
        Ok(Output::Suspend(question))
    }

    async fn on_resume(
        &self,
        answer: Value,
        saved: Option<Value>,
        _: &ToolContext,
    ) -> Result<Output, ToolError> {
        Ok(Output::Value(json!({ "offered": answer, "saved": saved })))
    }
}

pub(crate) fn mid_work() -> Flow<Value, Value> {
    let haggle: Arc<dyn Tool> = Arc::new(Haggle(ToolSpec::new("haggle")));
    Flow::input::<Value>("golden-mid-work").tool(haggle).build().unwrap()
}

pub(crate) fn sleeping(world: &World) -> Flow<String, String> {
    Flow::input::<String>("golden-sleeping")
        .tool(prepare(world))
        .sleep("night", hours(8))
        .map("morning", |text| format!("{text}, slept over"))
        .build()
        .unwrap()
}

pub(crate) fn later(world: &World) -> Flow<String, String> {
    let flow = Flow::input::<String>("golden-outgrown").tool(prepare(world));
    flow.sleep("night", hours(8)).build().unwrap()
}

/// A version to which runs of two earlier ones are carried over.
pub(crate) fn outgrown(world: &World) -> Flow<String, String> {
    let from = |digit: &str| ContentDigest(digit.repeat(64));
    later(world).upgrade(from("1"), |_| Ok(())).upgrade(from("2"), |_| Ok(()))
}

/// Fails at the first attempt, and pauses for an hour.
pub(crate) fn pausing() -> Flow<String, String> {
    let backoff = Backoff::exponential(hours(1)).max(hours(24));
    let second = FnTool::with_context("second-time", |text: String, context| async move {
        match context.attempt {
            1 => Err(ToolError::new("not yet")),
            n => Ok(format!("{text} at attempt {n}")),
        }
    });
    Flow::input::<String>("golden-pausing")
        .retry("again", 3, backoff, |text| text.tool(second))
        .build()
        .unwrap()
}

/// A tool with an effect that gives its idempotency key, and hangs until the world is mended.
pub(crate) fn calling(world: &World) -> Flow<String, String> {
    let (mended, charged) = (world.mended, world.charged.clone());
    let charge = FnTool::with_context("charge", move |_: String, context| {
        charged.send_replace(context.idempotency_key.clone());
        async move {
            if !mended {
                future::pending::<()>().await;
            }
            Ok::<_, ToolError>(context.idempotency_key)
        }
    });
    Flow::input::<String>("golden-calling")
        .tool(prepare(world))
        .tool(charge.effect())
        .build()
        .unwrap()
}

/// A tool that fails for good, or works once the world is mended.
pub(crate) fn failing(world: &World) -> Flow<String, String> {
    let mended = world.mended;
    let broken = tool_fn("broken", move |text: String| async move {
        match mended {
            true => Ok(format!("{text}, mended")),
            false => Err(ToolError::new("out of order").code("broken").permanent()),
        }
    });
    Flow::input::<String>("golden-failing")
        .tool(prepare(world))
        .tap_body("outside", |text| text.tool(broken))
        .build()
        .unwrap()
}

/// Two waits, one after the other.
pub(crate) fn twice(world: &World) -> Flow<String, (Value, Value)> {
    Flow::input::<String>("golden-twice")
        .tool(prepare(world))
        .await_input_as("first", approval())
        .keep_as("both", |first| first.await_input_as("second", approval()))
        .build()
        .unwrap()
}

pub(crate) const DOCUMENT: &str = r#"
flow: golden-document
steps:
  - id: remember
    let: { order: "${ value }" }
  - id: route
    switch:
      on: "${ value.quantity > 1 ? 'many' : 'one' }"
      cases:
        many:
          - id: approval
            await_input:
              prompt: "{{ vars.order.quantity }} × {{ vars.order.item }}?"
              show: "${ vars.order }"
              preset: approval
              timeout: 4h
              default: { approved: false, approved_by: system }
              metadata: { item: "${ vars.order.item }" }
          - id: approved
            filter: "${ value.approved }"
        one:
          - id: granted
            set: { approved_by: nobody }
  - id: done
    set: { item: "${ vars.order.item }", approved_by: "${ value.approved_by }" }
"#;
