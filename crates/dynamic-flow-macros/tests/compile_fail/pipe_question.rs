//! A question whose prompt is about another type than the pipe carries.

use dynamic_flow::{Flow, ToolError, tool, tool::AwaitInput};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, JsonSchema)]
struct Order {
    total: f64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Parcel {
    total: f64,
}

fn main() {
    let question =
        AwaitInput::<u8>::new("ask").prompt_with(|parcel: &Parcel| parcel.total.to_string());
    let _ = Flow::input::<Order>("wrong").await_input(question);
    let _: Option<ToolError> = None;
}

#[tool]
fn unused(n: u8) -> Result<u8, ToolError> {
    Ok(n)
}
