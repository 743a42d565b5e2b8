//! Flows from YAML and JSON documents.
//!
//! ```yaml
//! flow: purchase-approval          # the id; then name, description, input and output (JSON Schemas)
//! steps:
//!   - id: validate
//!     set: { id: "${ value.id }", total: "${ value.quantity * value.price }" }
//!   - id: order
//!     let: { order: "${ value }" }
//!   - id: manager-approval
//!     await_input:
//!       prompt: "Approve {{ vars.order.id }}?"
//!       show: "${ vars.order }"
//!       preset: approval
//!       timeout: 4h
//!       default: { approved: false, approved_by: system }
//!   - id: approved
//!     filter: "${ value.approved }"
//!   - id: recall
//!     get: order
//! ```
//!
//! Each step has an `id`, perhaps a `description`, and one verb. One that was called otherwise before says so,
//! `keyed_as: NAME`, and what it calls keeps its idempotency keys
//! ([`FlowBuilder::keyed_as`](crate::flow::FlowBuilder::keyed_as)); runs that stand in it still need its old id.
//!
//! | verb | what it does |
//! | --- | --- |
//! | `set: VALUE` | makes a computed value the new value |
//! | `let: { name: VALUE }` | sets variables, for the rest of this list of steps and the lists inside it |
//! | `get: NAME` | makes a variable the new value |
//! | `await_input: {…}` | stops until somebody answers; the answer is the new value |
//! | `filter: "${…}"` | lets the value go on, or ends the run as rejected |
//! | `call: TOOL`, `with: VALUE` | calls a tool; without `with`, on the current value |
//! | `call: template`, `with: { template, data }` | fills a template, which is written out, with data of its own |
//! | `switch: { on, cases, default }` | goes on with one of several lists of steps; `on` gives the name of a case, or is a list of `{ when, then }` |
//! | `keep: [steps]` | runs steps and gives `[value, their result]` |
//! | `tap: [steps]` | runs steps and drops what comes of them |
//! | `flow: {…}` | runs another flow, written out, in place |
//! | `succeed: VALUE` | makes a constant the new value |
//! | `fail: { code, message }` | fails: a `try` around it may catch that, and a `retry` around it tries again |
//! | `input: SCHEMA` | checks the value |
//! | `wait: DURATION` | does nothing for a time |
//! | `try: [steps]`, `catch: { errors, do }` | runs steps; if they fail, others work on the error |
//! | `retry: { attempts, backoff, do }` | runs steps, again if they fail with an error that may pass: a tool's, `wait_timed_out`, `timeout`, or a `fail`; not an expression's |
//! | `timeout: { after, do }` | runs steps that must end within a time |
//!
//! A text that is `${ … }` as a whole is a CEL expression; one with `{{ … }}` or `{% … %}` is a
//! template; every other scalar is a constant; objects and lists may hold any of them. Expressions
//! see `value`, `vars`, `input` and `run.id`. YAML is read by the core schema of YAML 1.2, without
//! anchors, aliases and tags.

pub(super) mod durations;
mod node;
mod places;
mod presets;
mod questions;
mod reader;
mod scalars;
pub(super) mod schema;
mod slips;
mod sources;
mod steps;
mod syntax;
mod templates;

use std::sync::Arc;

use self::{places::locate, reader::Reader, syntax::parse};
use crate::{
    Error, ErrorKind, Finding, Result,
    flow::{
        Flow,
        check::{Problem, problems},
    },
    tool::ToolRegistry,
};

impl Flow {
    /// Reads a flow from a YAML or JSON document; its tools come from `tools`.
    ///
    /// A document has at most 1 MiB, in which lists and objects nest at most 128 levels deep.
    ///
    /// # Errors
    /// `InvalidFlow` with everything that is wrong in [`Error::findings`], in the order of the
    /// text, each with its line and column.
    ///
    /// ```
    /// use dynamic_flow::{Flow, tool::ToolRegistry};
    /// let flow = Flow::from_document(
    ///     "flow: greet\nsteps:\n  - id: hello\n    set: 'Hello {{ value.name }}'\n",
    ///     &ToolRegistry::new(),
    /// )
    /// .unwrap();
    /// assert_eq!(flow.def().id, "greet");
    ///
    /// let error = Flow::from_document("flow: greet\nstep: []\n", &ToolRegistry::new()).unwrap_err();
    /// assert_eq!(
    ///     error.findings()[0].to_string(),
    ///     "1:1: a flow needs `steps`"
    /// );
    /// assert_eq!(
    ///     error.findings()[1].to_string(),
    ///     "2:1: a flow has no field `step`; did you mean `steps`?"
    /// );
    /// ```
    pub fn from_document(text: &str, tools: &ToolRegistry) -> Result<Self> {
        Ok(Self::read_document(text, tools, true)?.0)
    }

    /// Reads the document that a run carries.
    ///
    /// It was checked when the run began, and this version may know more: what is for nothing in it,
    /// or would fail once a step comes to it, keeps no run from going on.
    ///
    /// # Errors
    /// `InvalidFlow` with all findings that this version can't go on with.
    pub fn from_document_of_run(text: &str, tools: &ToolRegistry) -> Result<Self> {
        Ok(Self::weighed_document_of_run(text, tools)?.0)
    }

    /// As [`Flow::from_document_of_run`]; says, too, how many bytes its regular expressions take,
    /// compiled.
    pub(crate) fn weighed_document_of_run(
        text: &str,
        tools: &ToolRegistry,
    ) -> Result<(Self, usize)> {
        Self::read_document(text, tools, false)
    }

    /// Reads a document; a new one must bear nothing.
    fn read_document(text: &str, tools: &ToolRegistry, is_new: bool) -> Result<(Self, usize)> {
        let mut reader = Reader::new(text, tools);
        let (root, faults) = parse(text);
        for (place, message) in faults {
            reader.find(place, message);
        }
        let def = root.as_ref().and_then(|root| {
            let mut def = reader.flow(root)?;
            def.document = Some(text.into());
            Some(def)
        });
        if let (Some(root), Some(def)) = (&root, &def) {
            let counts = |problem: &Problem| is_new || !problem.bearable;
            for problem in problems(def, &reader.hidden).into_iter().filter(counts) {
                let (place, part) = locate(root, &problem.address, &problem.part);
                let message = match part {
                    Some(part) => format!("{part}: {}", problem.message),
                    None => problem.message,
                };
                reader.find_in(&problem.path, place, message);
            }
        }
        let mut findings = reader.findings;
        if is_new {
            findings.append(&mut reader.bearable);
        }
        match def {
            Some(def) if findings.is_empty() => {
                Ok((Self::from_def(Arc::new(def)), reader.pattern_bytes))
            }
            _ => {
                findings.sort_by_key(|finding| (finding.line, finding.column));
                Err(refusal(findings))
            }
        }
    }
}

fn refusal(findings: Vec<Finding>) -> Error {
    let first = findings.first().map(ToString::to_string).unwrap_or_default();
    let message = match findings.len() {
        0 | 1 => first,
        n => format!("{first} (and {} more)", n - 1),
    };
    Error::new(ErrorKind::InvalidFlow, message)
        .with_operation("read document")
        .with_findings(findings)
}

#[cfg(test)]
mod tests;
