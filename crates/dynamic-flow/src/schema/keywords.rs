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
