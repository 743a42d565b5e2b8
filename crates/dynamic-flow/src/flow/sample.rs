//! Parts of flows for tests.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::ir::{Body, FlowDef, Step, StepKind, ToolRef};
use crate::{
    Schema, ToolError,
    tool::{Output, Tool, ToolContext, ToolSpec},
};

/// A tool that gives back what it takes.
pub(super) struct Fake(pub(super) ToolSpec);

#[async_trait]
impl Tool for Fake {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    async fn execute(&self, input: &Value, _: &ToolContext) -> Result<Output, ToolError> {
        Ok(Output::Value(input.clone()))
    }
}

pub(super) fn schema(value: Value) -> Schema {
    Schema::new(value).unwrap()
}

/// A tool of that id and these schemas.
pub(super) fn spec(id: &str, input: Value, output: Value) -> ToolRef {
    let spec = ToolSpec::new(id).input(schema(input)).output(schema(output));
    ToolRef::new(Arc::new(Fake(spec)))
}

pub(super) fn step(id: &str, kind: StepKind) -> Step {
    Step::new(id, kind)
}

pub(super) fn flow(body: Body) -> FlowDef {
    FlowDef {
        id: "f".into(),
        name: String::new(),
        description: String::new(),
        input: Schema::any(),
        output: Schema::any(),
        body,
        document: None,
    }
}
