//! A question whose prompt and shown value are about different types.

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
    let _ = AwaitInput::<u8>::new("ask")
        .prompt_with(|parcel: &Parcel| parcel.total.to_string())
        .show(|order: &Order| order.total);
    let _: Option<(ToolError, Flow)> = None;
}

#[tool]
fn unused(n: u8) -> Result<u8, ToolError> {
    Ok(n)
}
