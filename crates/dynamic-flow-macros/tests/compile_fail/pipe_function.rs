//! The function in the place of its tool, and a question in the place of a tool.

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

#[tool]
async fn pack(order: Order) -> Result<Parcel, ToolError> {
    Ok(Parcel { total: order.total })
}

fn main() {
    let _ = Flow::input::<Order>("wrong").tool(pack);
    let _ = Flow::input::<Order>("wrong").tool(AwaitInput::<u8>::new("ask"));
}
