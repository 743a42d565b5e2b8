//! CEL expressions, compiled once, whose cost is bounded.
//!
//! Crate `cel` parses; the modules beside this one evaluate. The crate's own evaluation can't be
//! bounded (nested comprehensions and shared lists grow without end), refuses `1 * 1.5`, and
//! quotes values in its errors.

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::Serialize;

use super::{
    Scope, compile,
    eval::Run,
    meter::{BUDGET, Fail, Meter},
    program::{Node, Program},
    wrong::Refused,
};
use crate::{Error, ErrorKind, Result, ToolError, codes};

/// A CEL expression, compiled once, whose cost is bounded. Serialized as its source.
///
/// It sees `value` (the current value), `vars` (the variables), `input` (the input of the run) and
/// `run.id`. The language is [CEL](https://cel.dev) with `has`, `all`, `exists`, `exists_one`,
/// `map` and `filter`, its string functions, and `math.round`, `math.greatest` and the like, with
/// these differences:
///
/// - Numbers of different types work together: `value.total * 1.2` is a double whatever `total`
///   is. Two ints stay ints, so that `7 / 2` is 3.
/// - The pattern of `matches` must be written out, not computed.
/// - There are no messages, no optional values, and no function that tells the time.
///
/// Limits: 4 KiB of source, 1,000 parts, 50 levels of nesting, 3 loops within one another; and
/// 400,000 units of work, where a unit is a step or eight bytes of text, for all expressions and
/// templates of a step together.
///
/// Durations give text such as `90s`, timestamps RFC 3339, bytes base64. A result that is NaN or
/// infinite is an error.
///
/// ```
/// use dynamic_flow::{RunId, expr::{Cel, Scope}};
/// use serde_json::json;
///
/// let value = json!({ "items": [{ "price": 5 }, { "price": 10 }], "rate": 1.2 });
/// let scope = Scope {
///     value: &value,
///     vars: &Default::default(),
///     input: &value,
///     run_id: RunId::from_bytes([0; 16]),
/// };
///
/// let dear = Cel::compile("value.items.filter(item, item.price * value.rate > 10.0)")?;
/// assert_eq!(dear.evaluate(scope).unwrap(), json!([{ "price": 10 }]));
///
/// let wrong = Cel::compile("valeu.items").unwrap_err();
/// assert!(wrong.to_string().contains("no name valeu"));
/// # Ok::<(), dynamic_flow::Error>(())
/// ```
#[derive(Clone)]
pub struct Cel(Arc<Compiled>);

struct Compiled {
    source: String,
    program: Program,
}

impl Cel {
    /// Compiles the source and checks its bounds.
    ///
    /// # Errors
    /// `InvalidFlow` when the source is no expression, uses a name or function that there is not,
    /// or is over a limit.
    pub fn compile(source: &str) -> Result<Self> {
        Self::read(source).map_err(|refused| {
            let message = format!("the expression: {}", refused.told(source));
            Error::new(ErrorKind::InvalidFlow, message)
        })
    }

    /// As [`Cel::compile`]; the error has all that is wrong, each with where it is.
    pub(crate) fn read(source: &str) -> std::result::Result<Self, Refused<Self>> {
        let whole = |program| Self(Arc::new(Compiled { source: source.to_owned(), program }));
        compile::compile(source, &[]).map(whole).map_err(|refused| refused.map(whole))
    }

    /// The source.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The variables that it reads by name, `vars.NAME` or `vars["NAME"]`; those that it only
    /// tests with `has`, or whose names it computes, are not among them.
    pub fn variables(&self) -> BTreeSet<String> {
        self.0.program.variables.clone()
    }

    pub(super) fn root(&self) -> &Node {
        &self.0.program.root
    }

    /// How much memory the patterns of its `matches` take.
    pub(crate) fn pattern_bytes(&self) -> usize {
        self.0.program.pattern_bytes
    }

    /// Works it out for the values in scope.
    ///
    /// # Errors
    /// Code `expression`, permanent, when it fails for these values or would cost too much. The
    /// message names keys and types, never values.
    pub fn evaluate(&self, scope: Scope<'_>) -> Result<serde_json::Value, ToolError> {
        self.evaluate_within(&Meter::default(), scope)
    }

    pub(super) fn evaluate_within(
        &self,
        meter: &Meter,
        scope: Scope<'_>,
    ) -> Result<serde_json::Value, ToolError> {
        let result = Run::new(scope, meter).eval(&self.0.program.root);
        result
            .and_then(|val| val.into_json(meter))
            .map_err(|fail| match fail {
                Fail::Error(message) | Fail::Missing(message) => message,
                Fail::Exhausted => format!("the expression costs more than {BUDGET} units of work"),
            })
            .map_err(|message| ToolError::new(message).code(codes::EXPRESSION).permanent())
    }
}

impl PartialEq for Cel {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl fmt::Debug for Cel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.source(), f)
    }
}

impl Serialize for Cel {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.source())
    }
}
