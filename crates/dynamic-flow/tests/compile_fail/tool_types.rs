//! Types that a tool can't take or give.

use dynamic_flow::{ToolError, tool};

struct Opaque;

#[tool]
async fn no_result(n: u32) -> u32 {
    n
}

#[tool]
async fn no_error(n: u32) -> Result<u32, String> {
    Ok(n)
}

#[tool]
async fn no_input(_: Opaque) -> Result<u32, ToolError> {
    Ok(1)
}

#[tool]
async fn no_output(_: u32) -> Result<Opaque, ToolError> {
    Ok(Opaque)
}

fn main() {}
