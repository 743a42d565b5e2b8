//! One call: what a step computes, or a tool between the schemas of its input and output.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use serde_json::{Map, Value};

use super::{
    machine::{Order, Returned},
    state::CallKind,
    turn::{misfit, too_large},
};
use crate::{
    RunId, ToolError, codes,
    expr::{Meter, Scope},
    flow::ir::StepKind,
    schema::{Schema, told},
    tool::{Output, Tool, ToolContext},
    value::check_depth,
    wait::WaitRequest,
};

/// Works out what a step computes.
pub(super) fn compute(
    order: &Order<'_>,
    run_input: &Value,
    run_id: RunId,
) -> Result<Value, ToolError> {
    let run_input = order.flow_input.as_deref().unwrap_or(run_input);
    let scope = Scope { value: &order.input, vars: &order.vars, input: run_input, run_id };
    let work = || match &order.step.kind {
        StepKind::Map { compute: it }
        | StepKind::Filter { predicate: it }
        | StepKind::Switch { route: it, .. }
        | StepKind::Fail { message: it, .. }
        | StepKind::Tool { with: Some(it), .. } => it.evaluate(scope),
        StepKind::Set { variables } => {
            let (mut set, meter) = (Map::new(), Meter::default());
            for (name, it) in variables {
                set.insert(name.clone(), it.evaluate_named(&[name], &meter, scope)?);
            }
            Ok(Value::Object(set))
        }
        _ => Ok(Value::clone(&order.input)),
    };
    let value = std::panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(panicked(panic.as_ref())))?;
    check_depth(&value).map_err(|error| too_large(&error))?;
    Ok(value)
}

/// Calls a tool, and holds its input and output against their schemas; the input unless it was.
pub(super) async fn perform(
    tool: Arc<dyn Tool>,
    kind: CallKind,
    input: Arc<Value>,
    is_vetted: bool,
    context: ToolContext,
) -> Returned {
    let output = match kind {
        CallKind::OnResume { answer, saved } => tool.on_resume(answer, saved, &context).await?,
        CallKind::Compute | CallKind::Tool { .. } => {
            if !is_vetted && let Err(violations) = tool.spec().input.validate(&input) {
                let what = "the tool's input does not fit";
                return Err(misfit(codes::INPUT_INVALID, what, &violations));
            }
            tool.execute(&input, &context).await?
        }
    };
    check_output(&tool, &output)
        .map_err(|message| ToolError::new(message).code(codes::OUTPUT_INVALID))?;
    Ok(match output {
        Output::Value(value) => Output::Value(value.into()),
        Output::Suspend(request) => Output::Suspend(request),
    })
}

/// Says what is wrong with what a tool gave.
fn check_output(tool: &Arc<dyn Tool>, output: &Output) -> Result<(), String> {
    match output {
        Output::Value(value) => fits(&tool.spec().output, value, "the tool's output"),
        Output::Suspend(request) => check_request(request),
    }
}

/// Says what is wrong with a question.
pub(crate) fn check_request(request: &WaitRequest) -> Result<(), String> {
    for value in [&request.shown, &request.saved].into_iter().flatten() {
        check_depth(value).map_err(|error| error.message().to_owned())?;
    }
    crate::metadata::check_given(&request.metadata).map_err(|error| error.message().to_owned())?;
    match &request.default {
        Some(default) => fits(&request.schema, default, "the default of the wait"),
        None => Ok(()),
    }
}

fn fits(schema: &Schema, value: &Value, what: &str) -> Result<(), String> {
    check_depth(value).map_err(|error| format!("{what}: {}", error.message()))?;
    schema
        .validate(value)
        .map_err(|violations| format!("{what} does not fit: {}", told(&violations)))
}

/// Makes an error of a panic in what others wrote.
pub(crate) async fn catch_panic<T>(
    work: impl Future<Output = Result<T, ToolError>>,
) -> Result<T, ToolError> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

/// A panic as the error of what it happened in.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> ToolError {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    let message =
        text.map_or_else(|| "it panicked".to_owned(), |text| format!("it panicked: {text}"));
    ToolError::new(message).code(codes::PANIC)
}
