//! Which keywords of a schema hold schemas, and which only speak to people.

use serde_json::{Map, Value};

/// How a keyword holds schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Schema,
    List,
    Map,
    /// `items` and `additionalItems` of older drafts.
    SchemaOrList,
}

/// How a keyword holds schemas, and whether they are about the same value as the schema around.
fn role(keyword: &str) -> Option<(Holds, bool)> {
    Some(match keyword {
        "allOf" | "anyOf" | "oneOf" => (Holds::List, true),
        "not" | "if" | "then" | "else" => (Holds::Schema, true),
        "dependentSchemas" | "dependencies" => (Holds::Map, true),
        "properties" | "patternProperties" | "$defs" | "definitions" => (Holds::Map, false),
        "additionalProperties"
        | "unevaluatedProperties"
        | "propertyNames"
        | "contains"
        | "unevaluatedItems"
        | "contentSchema" => (Holds::Schema, false),
        "prefixItems" => (Holds::List, false),
        "items" | "additionalItems" => (Holds::SchemaOrList, false),
        _ => return None,
    })
}

/// What part of a value a schema inside a schema is about.
pub(super) enum About<'s> {
    Itself,
    Field(&'s str),
    EachField,
    /// The fields that `properties` does not name.
    OtherFields,
    /// The item behind the one of the schema before, from the first one on.
    NextItem,
    EachItem,
}

/// The schemas directly inside a schema that a value is held against, and what they are about.
/// Those for some fields, or for the names of fields, count as those for each.
pub(super) fn parts(schema: &Map<String, Value>) -> impl Iterator<Item = (About<'_>, &Value)> {
    schema.iter().flat_map(|(keyword, value)| {
        let about = || {
            Some(match keyword.as_str() {
                "$defs" | "definitions" | "contentSchema" => return None,
                "additionalProperties" => About::OtherFields,
                "patternProperties" | "unevaluatedProperties" | "propertyNames" => About::EachField,
                "contains" | "unevaluatedItems" | "items" | "additionalItems" => About::EachItem,
                _ => About::Itself,
            })
        };
        let parts: Vec<(About<'_>, &Value)> = match (role(keyword).map(|(holds, _)| holds), value) {
            (Some(Holds::Map), Value::Object(map)) if keyword == "properties" => {
                map.iter().map(|(name, schema)| (About::Field(name), schema)).collect()
            }
            (Some(Holds::Map), Value::Object(map)) => {
                map.values().filter_map(|schema| Some((about()?, schema))).collect()
            }
            (Some(Holds::List), Value::Array(items)) if keyword != "prefixItems" => {
                items.iter().map(|schema| (About::Itself, schema)).collect()
            }
            (Some(Holds::List | Holds::SchemaOrList), Value::Array(items)) => {
                items.iter().map(|schema| (About::NextItem, schema)).collect()
            }
            (Some(Holds::Schema | Holds::SchemaOrList), _) => {
                about().map(|about| (about, value)).into_iter().collect()
            }
            _ => Vec::new(),
        };
        parts
    })
}

const ANNOTATIONS: [&str; 8] = [
    "$comment",
    "default",
    "deprecated",
    "description",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];

/// The schemas directly inside a schema, and whether they are about the same value.
pub(super) fn inside(schema: &Map<String, Value>) -> impl Iterator<Item = (&Value, bool)> {
    schema.iter().filter_map(|(keyword, value)| Some((role(keyword)?, value))).flat_map(
        |((holds, in_place), value)| {
            let schemas: Vec<&Value> = match (holds, value) {
                (Holds::Schema, _) => vec![value],
                (Holds::List | Holds::SchemaOrList, Value::Array(items)) => items.iter().collect(),
                (Holds::SchemaOrList, _) => vec![value],
                (Holds::Map, Value::Object(map)) => map.values().collect(),
                (Holds::List | Holds::Map, _) => Vec::new(),
            };
            schemas.into_iter().map(move |schema| (schema, in_place))
        },
    )
}

/// A schema without annotations, at any depth; a property that is called like one stays.
pub(super) fn without_annotations(schema: &Value) -> Value {
    let Value::Object(keywords) = schema else { return schema.clone() };
    let kept = keywords.iter().filter(|(keyword, _)| !ANNOTATIONS.contains(&keyword.as_str()));
    kept.map(|(keyword, value)| {
        let value = match (role(keyword).map(|(holds, _)| holds), value) {
            (Some(Holds::List | Holds::SchemaOrList), Value::Array(items)) => {
                items.iter().map(without_annotations).collect()
            }
            (Some(Holds::Map), Value::Object(map)) => map
                .iter()
                .map(|(name, schema)| (name.clone(), without_annotations(schema)))
                .collect(),
            (Some(Holds::Schema | Holds::SchemaOrList), _) => without_annotations(value),
            _ => value.clone(),
        };
        (keyword.clone(), value)
    })
    .collect()
}
