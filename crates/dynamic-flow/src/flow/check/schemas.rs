//! What JSON Schemas say of the values that fit them, as far as it is certain.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::inside;
use crate::{
    expr::Kinds,
    schema::{Schema, Violation},
};

/// How deep two schemas are compared, and how many references are followed.
const MAX_DEPTH: usize = 16;

/// Why a value does not fit.
#[derive(Debug, PartialEq)]
pub(super) struct Misfit {
    /// Which part of the value: a JSON pointer.
    pub(super) at: String,
    /// The field of that part which is not taken.
    pub(super) name: Option<String>,
    pub(super) why: String,
}

impl Misfit {
    fn new(pointer: &str, why: impl std::fmt::Display) -> Self {
        let place = if pointer.is_empty() { "(whole value)" } else { pointer };
        Self { at: pointer.to_owned(), name: None, why: format!("{place}: {why}") }
    }

    /// Of a known value: all violations, and where the first of them is.
    pub(super) fn of_value(
        value: &Value,
        wanted: &Value,
        pointer: &str,
        violations: &[Violation],
    ) -> Self {
        let all: Vec<String> = violations
            .iter()
            .map(|violation| {
                let inner = format!("{pointer}{}", violation.pointer);
                let place = if inner.is_empty() { "(whole value)" } else { &inner };
                format!("{place}: {}", violation.message)
            })
            .collect();
        let first = violations.first().map_or("", |violation| &violation.pointer);
        let mut names = value.as_object().into_iter().flat_map(Map::keys);
        let name = names.find(|name| first.is_empty() && lacks(wanted, name));
        Self { at: format!("{pointer}{first}"), name: name.cloned(), why: all.join("; ") }
    }
}

/// What is left of some room for the parts of a value; none if they are too many.
pub(super) fn take_parts(value: &Value, room: usize) -> Option<usize> {
    let left = room.checked_sub(1)?;
    match value {
        Value::Array(items) => items.iter().try_fold(left, |left, item| take_parts(item, left)),
        Value::Object(fields) => {
            fields.values().try_fold(left, |left, field| take_parts(field, left))
        }
        _ => Some(left),
    }
}

pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The types of JSON Schema. A whole number is a number, which works with all others.
pub(super) const TYPES: [(&str, Kinds); 6] = [
    ("null", Kinds::NULL),
    ("boolean", Kinds::BOOL),
    ("number", Kinds::NUMBER),
    ("string", Kinds::TEXT),
    ("array", Kinds::LIST),
    ("object", Kinds::MAP),
];

pub(super) fn kind_of(value: &Value) -> Kinds {
    kind_named(type_of(value))
}

fn kind_named(name: &str) -> Kinds {
    let name = if name == "integer" { "number" } else { name };
    TYPES.iter().find(|(known, _)| *known == name).map_or(Kinds::ANY, |(_, kind)| *kind)
}

/// What values may be that fit a schema, as far as it says so plainly.
pub(super) fn kinds_of(schema: &Value) -> Kinds {
    let either = |kinds: &mut dyn Iterator<Item = Kinds>| kinds.reduce(Kinds::or);
    let typed = types(schema).and_then(|names| either(&mut names.into_iter().map(kind_named)));
    let listed = schema.get("enum").and_then(Value::as_array);
    let listed = listed.and_then(|values| either(&mut values.iter().map(kind_of)));
    let constant = schema.get("const").map(kind_of);
    [typed, listed, constant].into_iter().flatten().fold(Kinds::ANY, Kinds::and)
}

/// The types that a schema allows, if it says so plainly. A `$ref` may make the rest void.
fn types(schema: &Value) -> Option<BTreeSet<&str>> {
    let schema = schema.as_object().filter(|schema| !schema.contains_key("$ref"))?;
    match schema.get("type")? {
        Value::String(name) => Some(BTreeSet::from([name.as_str()])),
        Value::Array(names) => names.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// Where in the whole a `$ref` leads; none if it can't be told. A computed object has no
/// definitions: what refers to those of a schema inside it is not followed.
fn definition(reference: &Value) -> Option<&str> {
    let place = reference.as_str()?.strip_prefix('#')?;
    (place.starts_with("/$defs/") || place.starts_with("/definitions/")).then_some(place)
}

/// The schema that a `$ref` refers to, or the schema itself, and where it stands; none if it can't be
/// told.
pub(super) fn referred<'s>(
    mut at: &'s str,
    mut schema: &'s Value,
    root: &'s Value,
) -> Option<(&'s str, &'s Value)> {
    for _ in 0..MAX_DEPTH {
        let Some(reference) = schema.get("$ref") else { return Some((at, schema)) };
        at = definition(reference)?;
        schema = root.pointer(at)?;
    }
    None
}

/// All texts that a schema lists; none if something else fits it as well, or they are too many.
pub(super) fn listed<'s>(
    schema: &'s Value,
    root: &'s Value,
    room: &mut usize,
) -> Option<BTreeSet<&'s str>> {
    let (_, schema) = referred("", schema, root)?;
    if let Some(Value::Array(values)) = schema.get("enum") {
        *room = room.checked_sub(values.len())?;
        return values.iter().map(Value::as_str).collect();
    }
    let ways = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
    *room = room.checked_sub(ways.len())?;
    let mut texts = BTreeSet::new();
    for way in ways {
        match way.get("const") {
            Some(constant) if way.get("$ref").is_none() => texts.extend([constant.as_str()?]),
            _ => texts.extend(listed(way, root, room)?),
        }
    }
    Some(texts)
}

/// Why no value fits both schemas. Only what is certain counts; whatever is not understood may fit.
pub(super) fn conflict(
    given: &Value,
    wanted: &Value,
    pointer: &str,
    depth: usize,
) -> Option<Misfit> {
    if depth > MAX_DEPTH {
        return None;
    }
    if *wanted == Value::Bool(false) {
        return Some(Misfit::new(pointer, "no value is taken"));
    }
    if let (Some(constant), None) = (given.get("const"), given.get("$ref")) {
        // A part that refers to the whole can't stand alone: nothing is certain then.
        let part = Schema::new(wanted.clone()).ok()?;
        let violations = part.validate(constant).err()?;
        return Some(Misfit::of_value(constant, wanted, pointer, &violations));
    }
    let (given_types, wanted_types) = (types(given)?, types(wanted)?);
    let overlap = |name: &&str| {
        wanted_types.contains(*name)
            || (*name == "integer" && wanted_types.contains("number"))
            || (*name == "number" && wanted_types.contains("integer"))
    };
    if !given_types.iter().any(overlap) {
        let list = |types: &BTreeSet<&str>| types.iter().copied().collect::<Vec<_>>().join(" or ");
        let (given, wanted) = (list(&given_types), list(&wanted_types));
        return Some(Misfit::new(pointer, format!("it is {given} where {wanted} is wanted")));
    }
    // An object it must certainly be, before anything can be said of its fields.
    if given_types.len() != 1 || !given_types.contains("object") {
        return None;
    }
    fields(given, wanted, pointer, depth)
}

fn fields(given: &Value, wanted: &Value, pointer: &str, depth: usize) -> Option<Misfit> {
    for name in required(wanted) {
        if lacks(given, name) {
            return Some(Misfit::new(pointer, format!("the required `{name}` is never there")));
        }
    }
    for name in required(given) {
        if lacks(wanted, name) {
            let misfit = Misfit::new(pointer, format!("`{name}` is not taken"));
            return Some(Misfit { name: Some(name.to_owned()), ..misfit });
        }
        let parts = given["properties"].get(name).zip(wanted["properties"].get(name));
        let pointer = || inside(pointer, name);
        if let Some(misfit) = parts.and_then(|(g, w)| conflict(g, w, &pointer(), depth + 1)) {
            return Some(misfit);
        }
    }
    None
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Whether no object that fits the schema has a field of that name.
pub(super) fn lacks(schema: &Value, name: &str) -> bool {
    schema["additionalProperties"] == Value::Bool(false)
        && schema.get("patternProperties").is_none()
        && schema["properties"].get(name).is_none()
}
