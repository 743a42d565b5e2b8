//! A tool that takes another type than the pipe carries.

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
async fn send(parcel: Parcel) -> Result<f64, ToolError> {
    Ok(parcel.total)
}

fn main() {
    let _ = Flow::input::<Order>("wrong").tool(Send);
    let _ = AwaitInput::<u8>::new("unused");
}
