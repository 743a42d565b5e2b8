//! The `template` tool for documents.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    Schema, ToolError, codes,
    expr::{Scope, Template},
    tool::{Output, Tool, ToolContext, ToolSpec},
};

/// The tool `template`: fills a template with data of its own.
///
/// In the template `value` is what the input has as `data`; `vars`, `input` and `run.id` are the
/// run's. A document writes the template out: it is checked when the document is read, reaches the
/// tool as it is written, and is filled once, so that nothing in the data is taken for a part of it.
/// Without `data`, a document's template sees the current value, as a template without a tool does.
#[derive(Debug)]
pub struct TemplateTool(ToolSpec);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The template, written out, as in `Dear {{ value.name }}`.
    template: String,
    /// What the template sees as `value`; in a document the current value if absent.
    #[serde(default)]
    data: Value,
}

/// The field of the input that has the template.
pub(crate) const SOURCE: &str = "template";
/// The field of the input that has what the template sees as `value`.
pub(crate) const DATA: &str = "data";

impl TemplateTool {
    /// The tool.
    pub fn new() -> Self {
        let mut spec = ToolSpec::new("template")
            .name("Template")
            .description("Fills a template with data and gives the text.")
            .input(Schema::of_ours::<Input>())
            .output(Schema::of_ours::<String>());
        spec.fills_template = true;
        Self(spec)
    }
}

impl Default for TemplateTool {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Tool for TemplateTool {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    async fn execute(&self, input: &Value, context: &ToolContext) -> Result<Output, ToolError> {
        let input = Input::deserialize(input)
            .map_err(|_| expression("the input needs a text `template` and may have `data`"))?;
        let template =
            Template::compile(&input.template).map_err(|error| expression(error.message()))?;
        let text = template.render(Scope {
            value: &input.data,
            vars: &context.variables,
            input: &context.run_input,
            run_id: context.run_id,
        })?;
        Ok(Output::Value(Value::String(text)))
    }
}

fn expression(message: &str) -> ToolError {
    ToolError::new(message).code(codes::EXPRESSION).permanent()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use serde_json::json;

    use super::*;

    async fn run(input: Value) -> Result<Output, ToolError> {
        let tool = TemplateTool::new();
        let mut context = ToolContext::detached();
        context.variables = Arc::new(BTreeMap::from([("greeting".to_owned(), json!("Hi").into())]));
        context.run_input = Arc::new(json!({ "by": "Bo" }));
        tool.spec().input.validate(&input).map_err(|_| expression("schema"))?;
        tool.execute(&input, &context).await
    }

    #[tokio::test]
    async fn it_fills_the_template_with_data_and_what_the_run_has() {
        let input = json!({
            "template": "{{ vars.greeting }} {{ value.name }}, {{ input.by }} {{ run.id }}",
            "data": { "name": "Ann" },
        });
        let text = "Hi Ann, Bo 00000000-0000-0000-0000-000000000000";
        assert_eq!(run(input).await, Ok(Output::Value(json!(text))));
        assert_eq!(run(json!({ "template": "x" })).await, Ok(Output::Value(json!("x"))));
    }

    #[tokio::test]
    async fn what_is_wrong_with_the_template_is_the_tools_error() {
        let message = async |input| {
            let error = run(input).await.unwrap_err();
            assert_eq!((error.code.as_str(), error.retryable), ("expression", false));
            error.message
        };
        let at = |template: &str| json!({ "template": template, "data": {} });
        assert_eq!(message(at("{{ value.no }}")).await, "line 1: no such key: no");
        assert_eq!(
            message(at("{{ foo }}")).await,
            "the template: line 1: there is no name foo here, only value, vars, input and run"
        );
        assert_eq!(message(json!({ "data": 1 })).await, "schema");
        assert_eq!(message(json!({ "template": "x", "date": 1 })).await, "schema");
    }
}
