//! Computations in flows: Rust closures, CEL expressions and templates, all bounded.

mod arithmetic;
mod cel;
mod compile;
mod convert;
mod eval;
mod foresight;
mod functions;
mod kinds;
mod meter;
mod outcomes;
mod pattern;
mod program;
mod template;
mod times;
mod value;
mod wrong;

use std::{collections::BTreeMap, fmt, sync::Arc};

use indexmap::IndexMap;

use serde::Serialize;
use serde_json::Value;

use crate::{ToolError, codes, id::RunId};

pub use self::{cel::Cel, template::Template};
pub(crate) use self::{
    foresight::{Known, Result as Foreseen},
    kinds::Kinds,
    meter::Meter,
    outcomes::{Look, Outcome, Source},
    pattern::most_pattern_bytes,
    wrong::{Refused, Where, Wrong, line_and_column},
};

/// How a value is computed from the current value and the variables.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compute {
    /// A Rust closure.
    Code(Code),
    /// A value known beforehand.
    Value(Value),
    /// A CEL expression over `value`, `vars` and `input`.
    Cel(Cel),
    /// A template over the same names; gives a text.
    Template(Template),
    /// An object of computed fields, in their order.
    Object(IndexMap<String, Compute>),
    /// A list of computed items.
    List(Vec<Compute>),
}

impl Compute {
    /// Works it out for the values in scope. All expressions and templates in it share the 400,000
    /// units of work that one alone has.
    ///
    /// # Errors
    /// What a closure fails with; code `expression` for CEL and templates that fail or would run
    /// away.
    pub fn evaluate(&self, scope: Scope<'_>) -> Result<Value, ToolError> {
        self.evaluate_within(&Meter::default(), scope)
    }

    /// As [`Compute::evaluate`], with a budget that other computations share.
    pub(crate) fn evaluate_within(
        &self,
        meter: &Meter,
        scope: Scope<'_>,
    ) -> Result<Value, ToolError> {
        self.part(meter, scope).map_err(|failed| failed.told(&[]))
    }

    /// As [`Compute::evaluate_within`]; the message of an expression that fails names the parts of
    /// what it is in, from the outside: `` `metadata`.total: division by zero ``.
    pub(crate) fn evaluate_named(
        &self,
        names: &[&str],
        meter: &Meter,
        scope: Scope<'_>,
    ) -> Result<Value, ToolError> {
        self.part(meter, scope).map_err(|failed| failed.told(names))
    }

    fn part(&self, meter: &Meter, scope: Scope<'_>) -> Result<Value, Failed> {
        Ok(match self {
            Self::Code(code) => code.call(scope)?,
            Self::Value(value) => value.clone(),
            Self::Cel(cel) => cel.evaluate_within(meter, scope)?,
            Self::Template(template) => Value::String(template.render_within(meter, scope)?),
            Self::Object(fields) => Value::Object(
                fields
                    .iter()
                    .map(|(name, field)| {
                        let value = field.part(meter, scope);
                        Ok((name.clone(), value.map_err(|failed| failed.inside(name.clone()))?))
                    })
                    .collect::<Result<_, Failed>>()?,
            ),
            Self::List(items) => Value::Array(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| {
                        let value = item.part(meter, scope);
                        value.map_err(|failed| failed.inside(format!("[{index}]")))
                    })
                    .collect::<Result<_, Failed>>()?,
            ),
        })
    }
}

/// Why a part of a computation failed, and which: its names from the inside out.
struct Failed(Box<(ToolError, Vec<String>)>);

impl From<ToolError> for Failed {
    fn from(error: ToolError) -> Self {
        Self(Box::new((error, Vec::new())))
    }
}

impl Failed {
    fn inside(mut self, name: String) -> Self {
        self.0.1.push(name);
        self
    }

    fn told(self, names: &[&str]) -> ToolError {
        let (mut error, inner) = *self.0;
        // What a closure fails with is told in its own words.
        if error.code != codes::EXPRESSION {
            return error;
        }
        let all = names.iter().copied().chain(inner.iter().rev().map(String::as_str));
        let mut place = String::new();
        for name in all {
            match name {
                _ if place.is_empty() => place = format!("`{name}`"),
                index if index.starts_with('[') => place.push_str(index),
                name => place.push_str(&format!(".{name}")),
            }
        }
        if !place.is_empty() {
            error.message = format!("{place}: {}", error.message);
        }
        error
    }
}

/// Variables by name. To copy them costs as much however large they are.
pub type Variables = BTreeMap<String, Arc<Value>>;

/// What a computation sees.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The current value: `value` in expressions.
    pub value: &'a Value,
    /// The variables in scope: `vars`.
    pub vars: &'a Variables,
    /// The input of the run: `input`.
    pub input: &'a Value,
    /// The run: `run.id`.
    pub run_id: RunId,
}

/// A Rust closure in a flow. What it computes can't be compared or stored: two are always equal.
#[derive(Clone)]
pub struct Code(Arc<CodeFn>);

type CodeFn = dyn Fn(Scope<'_>) -> Result<Value, ToolError> + Send + Sync;

impl Code {
    /// Wraps a closure.
    pub fn new(
        code: impl Fn(Scope<'_>) -> Result<Value, ToolError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(code))
    }

    /// Stands for a computation that could not be had, so that the flow around it can be checked. No
    /// such flow is ever run.
    pub(crate) fn unknown() -> Self {
        Self::new(|_| {
            let error = ToolError::new("this computation could not be read");
            Err(error.code(codes::EXPRESSION).permanent())
        })
    }

    /// Calls the closure.
    ///
    /// # Errors
    /// What the closure fails with.
    pub fn call(&self, scope: Scope<'_>) -> Result<Value, ToolError> {
        (self.0)(scope)
    }
}

impl PartialEq for Code {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code")
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_parts_of_a_computation_share_one_budget() {
        let value = json!("a".repeat(1 << 20));
        let (vars, run_id) = (BTreeMap::new(), RunId::from_bytes([0; 16]));
        let scope = Scope { value: &value, vars: &vars, input: &value, run_id };
        let copy = || Compute::Cel(Cel::compile("value").unwrap());
        let length = || Compute::Template(Template::compile("{{ value | length }}").unwrap());
        for part in [copy, length] {
            let list = |count| Compute::List((0..count).map(|_| part()).collect());
            assert!(list(2).evaluate(scope).is_ok());
            let error = list(4).evaluate(scope).unwrap_err();
            assert!(error.message.contains("more than 400000 units of work"), "{error}");
        }
        let fields = (0..4).map(|n| (n.to_string(), copy())).collect();
        assert!(Compute::Object(fields).evaluate(scope).is_err());
    }

    #[test]
    fn an_expression_that_fails_is_named() {
        let value = json!({ "n": 1 });
        let (vars, run_id) = (BTreeMap::new(), RunId::from_bytes([0; 16]));
        let scope = Scope { value: &value, vars: &vars, input: &value, run_id };
        let fails = || Compute::Cel(Cel::compile("value.n / 0").unwrap());
        let list = Compute::List(vec![Compute::Value(json!(1)), fails()]);
        let deep = Compute::Object(IndexMap::from([("list".to_owned(), list)]));
        let set = Compute::Object(IndexMap::from([("deep".to_owned(), deep)]));
        let message = |compute: &Compute| compute.evaluate(scope).unwrap_err().message;
        assert_eq!(message(&set), "`deep`.list[1]: division by zero");
        assert_eq!(message(&fails()), "division by zero");
        let named = set.evaluate_named(&["show"], &Meter::default(), scope).unwrap_err();
        assert_eq!(named.message, "`show`.deep.list[1]: division by zero");
        assert_eq!((named.code.as_str(), named.retryable), ("expression", false));
        let own = Compute::Code(Code::new(|_| Err(ToolError::new("mine").code("own"))));
        let own = Compute::Object(IndexMap::from([("a".to_owned(), own)]));
        assert_eq!(message(&own), "mine");
    }
}
