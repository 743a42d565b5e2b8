//! Functions, and other things, that can't be tools.

use dynamic_flow::{ToolContext, ToolError, tool};

#[tool]
struct NoFunction;

struct Owner;

impl Owner {
    #[tool]
    async fn method(&self, n: u32) -> Result<u32, ToolError> {
        Ok(n)
    }
}

#[tool]
async fn too_many(a: u32, context: &ToolContext, c: u32) -> Result<u32, ToolError> {
    Ok(a + context.attempt + c)
}

#[tool]
async fn second_is_no_context(a: u32, b: u32) -> Result<u32, ToolError> {
    Ok(a + b)
}

#[tool]
async fn borrowed(text: &str) -> Result<usize, ToolError> {
    Ok(text.len())
}

#[tool]
async fn generic<T: Send>(_: T) -> Result<u32, ToolError> {
    Ok(1)
}

#[tool]
async fn opaque(text: impl Into<String>) -> Result<String, ToolError> {
    Ok(text.into())
}

#[tool]
async fn returns_nothing(_: u32) {}

#[tool]
async fn Camel(n: u32) -> Result<u32, ToolError> {
    Ok(n)
}

fn main() {}
