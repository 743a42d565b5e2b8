//! Typed closures as computations over JSON.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Error, ToolError,
    expr::{Code, Compute},
    id::StepId,
    value::{from_value, to_value},
};

/// The computation of a closure that can't fail.
pub(super) fn code<T: DeserializeOwned, U: Serialize>(
    step: &StepId,
    closure: impl Fn(T) -> U + Send + Sync + 'static,
) -> Compute {
    fallible(step, move |value| Ok(closure(value)))
}

/// The computation of a closure that may fail.
pub(super) fn fallible<T: DeserializeOwned, U: Serialize>(
    step: &StepId,
    closure: impl Fn(T) -> Result<U, ToolError> + Send + Sync + 'static,
) -> Compute {
    let step = step.clone();
    Compute::Code(Code::new(move |scope| {
        let value = from_value(scope.value).map_err(|error| unfit(&step, "input", &error))?;
        to_value(&closure(value)?).map_err(|error| unfit(&step, "output", &error))
    }))
}

fn unfit(step: &StepId, side: &str, error: &Error) -> ToolError {
    ToolError::new(format_args!(
        "the {side} of step {step} does not fit its type: {}",
        error.message()
    ))
    .code(format!("{side}_invalid"))
    .permanent()
}
