//! What a tool can't return.

use dynamic_flow::tool;

#[tool]
async fn no_result(n: u32) -> u32 {
    n
}

#[tool]
async fn no_error(n: u32) -> Result<u32, String> {
    Ok(n)
}

fn main() {}
