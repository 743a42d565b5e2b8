//! JSON Schema: what a value must look like, and everything in which it does not.

mod check;
pub(crate) mod keywords;
mod message;
mod patterns;
mod work;

use std::{
    fmt,
    sync::{Arc, LazyLock, OnceLock},
};

use jsonschema::{PatternOptions, Validator};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::{
    patterns::MAX_PATTERN_BYTES,
    work::{MAX_TOLD_WORK, MAX_WORK, Plan, Texts},
};
use crate::{Error, ErrorKind, value::is_deeper};

pub use check::{MAX_SCHEMA_BYTES, MAX_SCHEMA_DEPTH, MAX_SCHEMA_NODES};

/// How many violations are told of one value, and then that there are more: a list of a million
/// wrong items must not become a million texts.
const MAX_VIOLATIONS: usize = 1_000;

/// One way in which a value does not fit its schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Violation {
    /// JSON pointer (RFC 6901) to the offending part; empty for the whole value.
    pub pointer: String,
    /// What is expected there. It quotes the schema, never the value; of properties that the schema
    /// does not allow it has the names.
    pub message: String,
}

impl Violation {
    /// That there is something else than what is expected.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }

    fn of_whole(message: impl Into<String>) -> Self {
        Self::new("", message)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "(whole value)" } else { &self.pointer };
        write!(f, "{place}: {}", self.message)
    }
}

/// All of them, as one text.
pub(crate) fn told(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A JSON Schema (draft 2020-12 unless it says another), compiled once.
///
/// Formats are asserted, regular expressions run in linear time, and `$ref` reaches only into the
/// schema itself: nothing is ever fetched. Serialized as the plain schema; one that was
/// deserialized is compiled when it is first needed.
#[derive(Clone)]
pub struct Schema(Arc<Inner>);

struct Inner {
    source: Value,
    /// Compiling costs far more than reading: the waits of a snapshot are read far more often
    /// than they are answered.
    compiled: OnceLock<Result<Compiled, Error>>,
}

struct Compiled {
    validator: Validator,
    max_depth: usize,
    plan: Plan,
}

impl Schema {
    /// Checks and compiles a schema.
    ///
    /// # Errors
    /// `InvalidFlow`, with the place (`at`, a JSON pointer) where there is one, for what is no
    /// schema; for a `$ref` out of the schema or to nothing; for one that comes back to itself
    /// without going into a property or an item; for a pattern that has no linear-time form; and
    /// beyond [`MAX_SCHEMA_NODES`], [`MAX_SCHEMA_DEPTH`], [`MAX_SCHEMA_BYTES`], or 16 MiB of memory for
    /// all patterns.
    ///
    /// ```
    /// use dynamic_flow::Schema;
    /// use serde_json::json;
    ///
    /// let schema = Schema::new(json!({
    ///     "type": "object",
    ///     "properties": { "approved": { "type": "boolean" } },
    ///     "required": ["approved"],
    /// })).unwrap();
    /// assert!(schema.validate(&json!({ "approved": false })).is_ok());
    ///
    /// let violations = schema.validate(&json!({ "approved": "maybe" })).unwrap_err();
    /// assert_eq!(violations[0].to_string(), "/approved: must be of type boolean");
    /// ```
    pub fn new(source: Value) -> crate::Result<Self> {
        let compiled = compile(&source)?;
        Ok(Self(Arc::new(Inner { source, compiled: OnceLock::from(Ok(compiled)) })))
    }

    /// The schema of a Rust type, as `schemars` derives it.
    ///
    /// # Errors
    /// As [`Schema::new`].
    ///
    /// ```
    /// use dynamic_flow::Schema;
    ///
    /// let schema = Schema::of::<Vec<u8>>().unwrap();
    /// assert!(schema.validate(&serde_json::json!([1, 2])).is_ok());
    /// assert!(schema.validate(&serde_json::json!([1, 256])).is_err());
    /// ```
    pub fn of<T: JsonSchema>() -> crate::Result<Self> {
        let generator = SchemaSettings::draft2020_12().into_generator();
        Self::new(generator.into_root_schema_for::<T>().to_value())
    }

    /// The schema that every value fits.
    pub fn any() -> Self {
        static ANY: LazyLock<Schema> = LazyLock::new(|| Schema::uncompiled(Value::Bool(true)));
        ANY.clone()
    }

    /// The same, compiled when it is first needed: of types of this library, whose schemas are tested.
    pub(crate) fn of_ours<T: JsonSchema>() -> Self {
        let generator = SchemaSettings::draft2020_12().into_generator();
        Self::uncompiled(generator.into_root_schema_for::<T>().to_value())
    }

    /// A schema that is compiled when it is first needed. One that does not compile fits no value.
    pub(crate) fn uncompiled(source: Value) -> Self {
        Self(Arc::new(Inner { source, compiled: OnceLock::new() }))
    }

    /// The schema as JSON.
    pub fn as_value(&self) -> &Value {
        &self.0.source
    }

    /// Checks a value; says *everything* that does not fit, up to 1,000 violations. Of a value that
    /// is very large it says the first thing, or only that it does not fit.
    ///
    /// A value that comes to more than ten million checks fits no schema: alternatives that lead
    /// back to the schema multiply at each level of a value, and patterns count for each byte of a
    /// text.
    ///
    /// A value nested deeper than 128 levels fits no schema, so that a check can't exhaust the
    /// stack; with a schema that chains many `allOf` and `$ref` the bound is lower.
    ///
    /// # Errors
    /// The violations, each with its place in the value.
    pub fn validate(&self, value: &Value) -> Result<(), Vec<Violation>> {
        let compiled = match self.0.compiled.get_or_init(|| compile(&self.0.source)) {
            Ok(compiled) => compiled,
            Err(error) => {
                let message = format!("the schema itself can't be used: {}", error.message());
                return Err(vec![Violation::of_whole(message)]);
            }
        };
        if is_deeper(value, compiled.max_depth) {
            let message = format!("must not be nested deeper than {} levels", compiled.max_depth);
            return Err(vec![Violation::of_whole(message)]);
        }
        if !compiled.plan.is_within(MAX_WORK, Texts::Matched, value) {
            let message = format!("must not need more than {MAX_WORK} checks against its schema");
            return Err(vec![Violation::of_whole(message)]);
        }
        if compiled.validator.is_valid(value) { Ok(()) } else { Err(compiled.violations(value)) }
    }

    /// How much memory its regular expressions take.
    pub(crate) fn pattern_bytes(&self) -> usize {
        let compiled = self.0.compiled.get().and_then(|compiled| compiled.as_ref().ok());
        compiled.map_or(0, |compiled| compiled.plan.pattern_bytes)
    }

    /// How much memory the regular expressions of what may be no schema took at most while that was
    /// found out.
    pub(crate) fn most_pattern_bytes(source: &Value) -> usize {
        let most = patterns::count(source).saturating_mul(patterns::MAX_PATTERN_BYTES);
        most.min(patterns::MAX_PATTERNS_BYTES)
    }

    /// The schema without annotations (titles, descriptions, examples, comments): what counts when
    /// two schemas are compared.
    ///
    /// ```
    /// use dynamic_flow::Schema;
    /// use serde_json::json;
    ///
    /// let old = Schema::new(json!({ "type": "string", "title": "Name" })).unwrap();
    /// let new = Schema::new(json!({ "type": "string", "description": "What it is called" })).unwrap();
    /// assert_ne!(old, new);
    /// assert_eq!(old.essence(), new.essence());
    /// ```
    pub fn essence(&self) -> Value {
        keywords::without_annotations(&self.0.source)
    }
}

impl Compiled {
    /// Everything in which a value does not fit; of one that is large, the first thing, or that it
    /// does not.
    fn violations(&self, value: &Value) -> Vec<Violation> {
        let mut violations = Vec::new();
        if !self.plan.is_within(MAX_TOLD_WORK, Texts::Free, value) {
            if self.plan.has_alternatives {
                let message = "does not fit its schema, and is too large to tell where";
                return vec![Violation::of_whole(message)];
            }
            if let Err(error) = self.validator.validate(value) {
                message::collect(&error, &mut violations);
            }
            let message = "is too large to tell whether there are more violations";
            violations.push(Violation::of_whole(message));
            return violations;
        }
        for error in self.validator.iter_errors(value) {
            message::collect(&error, &mut violations);
            if violations.len() > MAX_VIOLATIONS {
                violations.truncate(MAX_VIOLATIONS);
                violations.push(Violation::of_whole("there are more violations than can be told"));
                break;
            }
        }
        violations
    }
}

fn compile(source: &Value) -> crate::Result<Compiled> {
    let (max_depth, plan) = check::check(source)?;
    let validator = jsonschema::options()
        .offline()
        .should_validate_formats(true)
        .with_pattern_options(
            PatternOptions::regex().size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES),
        )
        .build(source)
        .map_err(|error| {
            let message = format!("not a usable JSON Schema: {}", message::of_schema(&error));
            Error::new(ErrorKind::InvalidFlow, message).with("at", error.instance_path())
        })?;
    Ok(Compiled { validator, max_depth, plan })
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.source == other.0.source
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({})", self.0.source)
    }
}

impl Serialize for Schema {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.source.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::uncompiled)
    }
}
