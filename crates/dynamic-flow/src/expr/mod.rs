//! Computations in flows: Rust closures, CEL expressions and templates, all bounded.

mod arithmetic;
mod cel;
mod convert;
mod eval;
mod functions;
mod meter;
mod outcomes;
mod pattern;
mod program;
mod template;
mod times;
mod value;

use std::{collections::BTreeMap, fmt, sync::Arc};

use indexmap::IndexMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ToolError, id::RunId};

pub use self::{cel::Cel, template::Template};
pub(crate) use self::{
    meter::Meter,
    outcomes::{Outcome, Source},
};

/// How a value is computed from the current value and the variables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
        Ok(match self {
            Self::Code(code) => code.call(scope)?,
            Self::Value(value) => value.clone(),
            Self::Cel(cel) => cel.evaluate_within(meter, scope)?,
            Self::Template(template) => Value::String(template.render_within(meter, scope)?),
            Self::Object(fields) => Value::Object(
                fields
                    .iter()
                    .map(|(name, field)| Ok((name.clone(), field.evaluate_within(meter, scope)?)))
                    .collect::<Result<_, ToolError>>()?,
            ),
            Self::List(items) => Value::Array(
                items
                    .iter()
                    .map(|item| item.evaluate_within(meter, scope))
                    .collect::<Result<_, ToolError>>()?,
            ),
        })
    }
}

/// What a computation sees.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The current value: `value` in expressions.
    pub value: &'a Value,
    /// The variables in scope: `vars`.
    pub vars: &'a BTreeMap<String, Value>,
    /// The input of the run: `input`.
    pub input: &'a Value,
    /// The run: `run.id`.
    pub run_id: RunId,
}

/// A Rust closure in a flow. What it computes can't be compared or stored: two are always equal,
/// and one that was read from data can't be called.
#[derive(Clone, Default)]
pub struct Code(Option<Arc<CodeFn>>);

type CodeFn = dyn Fn(Scope<'_>) -> Result<Value, ToolError> + Send + Sync;

impl Code {
    /// Wraps a closure.
    pub fn new(
        code: impl Fn(Scope<'_>) -> Result<Value, ToolError> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(code)))
    }

    /// Calls the closure.
    ///
    /// # Errors
    /// What the closure fails with; `unbound` where there is no closure.
    pub fn call(&self, scope: Scope<'_>) -> Result<Value, ToolError> {
        match &self.0 {
            Some(code) => code(scope),
            None => Err(ToolError::new("this flow was read from data and has no code here")
                .code("unbound")
                .permanent()),
        }
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

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer)?;
        Ok(Self(None))
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
}
