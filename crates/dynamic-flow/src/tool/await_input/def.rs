//! A question as data, and the tool that asks it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use serde_json::Value;

#[cfg(doc)]
use super::AwaitInput;
use crate::{
    Deadline, Error, ErrorKind, Finding, Metadata, Result, Scalar, Schema, ToolError, codes,
    expr::{Compute, Meter, Scope},
    id::{ToolId, id_problem},
    metadata::kind_of,
    tool::{Output, Tool, ToolContext, ToolSpec},
    wait::WaitRequest,
};

/// A question as data: what documents are read into, and what [`AwaitInput`] is at heart.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AwaitInputDef {
    /// Names the tool that asks, and the step.
    pub id: ToolId,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The question, a text; where it comes out as `null`, `Input needed: ` and the name.
    pub prompt: Compute,
    /// What whoever answers must see to decide.
    pub show: Option<Compute>,
    /// What an answer must look like.
    pub schema: Schema,
    /// How long it stays open.
    pub deadline: Deadline,
    /// What answers it after the deadline; `Some(Value::Null)` is a default, `None` is none.
    pub default: Option<Value>,
    /// Plain values to find it by; each must come out as a text, a number or a boolean.
    pub metadata: BTreeMap<String, Compute>,
}

impl AwaitInputDef {
    /// A question named after its id, open as long as the hub says, without a default.
    pub fn new(id: impl Into<ToolId>, schema: Schema) -> Self {
        let id = id.into();
        Self {
            name: id.to_string(),
            id,
            description: String::new(),
            prompt: Compute::Value(Value::Null),
            show: None,
            schema,
            deadline: Deadline::HubDefault,
            default: None,
            metadata: BTreeMap::new(),
        }
    }

    /// The tool that asks the question.
    ///
    /// # Errors
    /// `InvalidFlow` with everything that is wrong: a bad id, a default that does not fit the
    /// schema, a timeout of nothing, a prompt that is no text, metadata that can't be filtered by.
    pub fn into_tool(self) -> Result<Arc<dyn Tool>> {
        let id = self.id.clone();
        self.checked_tool().map_err(|problems| {
            unusable(&id, problems.into_iter().map(|(_, message)| message).collect())
        })
    }

    /// As [`AwaitInputDef::into_tool`]; each problem is told with the part that it is about.
    pub(crate) fn checked_tool(self) -> Result<Arc<dyn Tool>, Vec<(QuestionPart, String)>> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let spec = ToolSpec::new(self.id.clone())
            .name(self.name.clone())
            .description(self.description.clone())
            .output(self.schema.clone())
            .awaits_input(true);
        Ok(Arc::new(AwaitInputTool { spec, def: self }))
    }

    /// What can be known to be wrong before anything runs.
    fn problems(&self) -> Vec<(QuestionPart, String)> {
        let mut problems = Vec::new();
        if let Some(problem) = id_problem(self.id.as_str()) {
            problems.push((QuestionPart::Id, problem));
        }
        if let Some(default) = &self.default
            && let Err(violations) = self.schema.validate(default)
        {
            problems.extend(violations.iter().map(|violation| {
                let problem = format!("the default does not fit the schema: {violation}");
                (QuestionPart::Default, problem)
            }));
        }
        if matches!(self.deadline, Deadline::After(timeout) if timeout.as_millis() == 0) {
            let problem = "a timeout is at least a millisecond; say `no_timeout` for none";
            problems.push((QuestionPart::Deadline, problem.into()));
        }
        if let Compute::Value(prompt) = &self.prompt
            && !(prompt.is_null() || prompt.is_string())
        {
            let problem = format!("a prompt is a text, not {}", kind_of(prompt));
            problems.push((QuestionPart::Prompt, problem));
        }
        for (name, compute) in &self.metadata {
            if name.is_empty() || name.contains('\0') {
                let problem = "a name in metadata is not empty and has no U+0000";
                problems.push((QuestionPart::Metadata, problem.into()));
            }
            if let Compute::Value(value) = compute
                && let Err(problem) = Scalar::of_json(value.clone())
            {
                let problem = format!("metadata {name:?} {problem}");
                problems.push((QuestionPart::Metadata, problem));
            }
        }
        problems
    }
}

/// A part of a question that may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QuestionPart {
    Id,
    Default,
    Deadline,
    Prompt,
    Metadata,
}

struct AwaitInputTool {
    spec: ToolSpec,
    def: AwaitInputDef,
}

impl AwaitInputTool {
    fn ask(&self, scope: Scope<'_>) -> Result<WaitRequest, ToolError> {
        let (def, meter) = (&self.def, Meter::default());
        let prompt = match def.prompt.evaluate_named(&["prompt"], &meter, scope)? {
            Value::Null => format!("Input needed: {}", def.name),
            Value::String(prompt) => prompt,
            other => {
                let problem = format!("the prompt must be a text, not {}", kind_of(&other));
                return Err(ToolError::new(problem).code(codes::PROMPT).permanent());
            }
        };
        let show = def.show.as_ref();
        let shown = show.map(|show| show.evaluate_named(&["show"], &meter, scope)).transpose()?;
        let mut metadata = Metadata::new();
        for (name, compute) in &def.metadata {
            let value = compute.evaluate_named(&["metadata", name], &meter, scope)?;
            let value = Scalar::of_json(value)
                .map_err(|problem| not_metadata(format_args!("metadata {name:?} {problem}")))?;
            metadata.insert(name.clone(), value);
        }
        Ok(WaitRequest {
            prompt,
            shown,
            schema: def.schema.clone(),
            deadline: def.deadline,
            default: def.default.clone(),
            metadata,
            saved: None,
        })
    }
}

#[async_trait]
impl Tool for AwaitInputTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn execute(&self, input: &Value, context: &ToolContext) -> Result<Output, ToolError> {
        let request = self.ask(Scope {
            value: input,
            vars: &context.variables,
            input: &context.run_input,
            run_id: context.run_id,
        })?;
        Ok(Output::Suspend(request))
    }
}

pub(super) fn unusable(id: &ToolId, problems: Vec<String>) -> Error {
    let message = format!("the question can't be asked: {}", problems.join("; "));
    let findings = problems
        .into_iter()
        .map(|message| Finding { path: id.to_string(), message, line: None, column: None })
        .collect();
    Error::new(ErrorKind::InvalidFlow, message).with("tool", id).with_findings(findings)
}

pub(super) fn not_metadata(problem: fmt::Arguments<'_>) -> ToolError {
    ToolError::new(problem).code(codes::METADATA).permanent()
}
