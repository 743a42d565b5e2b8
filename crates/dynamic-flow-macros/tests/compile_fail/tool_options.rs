//! Options that there are not.

use dynamic_flow::{ToolError, tool};

#[tool(efect)]
async fn misspelt(n: u32) -> Result<u32, ToolError> {
    Ok(n)
}

#[tool(effect, effect)]
async fn twice(n: u32) -> Result<u32, ToolError> {
    Ok(n)
}

#[tool(id = 7)]
async fn no_text(n: u32) -> Result<u32, ToolError> {
    Ok(n)
}

#[tool(id = "")]
async fn empty(n: u32) -> Result<u32, ToolError> {
    Ok(n)
}

#[tool("charge")]
async fn bare(n: u32) -> Result<u32, ToolError> {
    Ok(n)
}

#[tool(blocking)]
async fn blocks_nothing(n: u32) -> Result<u32, ToolError> {
    Ok(n)
}

#[tool(crate = "1")]
async fn nowhere(n: u32) -> Result<u32, ToolError> {
    Ok(n)
}

fn main() {}
