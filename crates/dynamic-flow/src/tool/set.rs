//! The `set` tool for documents.

use async_trait::async_trait;
use serde_json::Value;

use crate::{
    ToolError,
    tool::{Output, Tool, ToolContext, ToolSpec},
};

/// The tool `set`: gives its input as its output.
///
/// The work of a `set` is done by the step around it, which computes the input from expressions
/// and templates. A document's `set:` is therefore a step without any tool; this one is for where
/// a document has to name a tool, and so that `set` is listed among what documents may use.
#[derive(Debug)]
pub struct SetTool(ToolSpec);

impl SetTool {
    /// The tool.
    pub fn new() -> Self {
        let spec = ToolSpec::new("set").name("Set").description(
            "Makes a value of expressions and templates: gives its input as its output.",
        );
        Self(spec)
    }
}

impl Default for SetTool {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Tool for SetTool {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    async fn execute(&self, input: &Value, _: &ToolContext) -> Result<Output, ToolError> {
        Ok(Output::Value(input.clone()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn it_gives_what_it_gets() {
        let tool = SetTool::new();
        assert_eq!(tool.spec().id.as_str(), "set");
        assert!(!tool.spec().effect);
        for input in [json!(null), json!({ "a": [1, 2.5, u64::MAX] })] {
            tool.spec().input.validate(&input).unwrap();
            let output = tool.execute(&input, &ToolContext::detached()).await.unwrap();
            assert_eq!(output, Output::Value(input));
        }
    }
}
