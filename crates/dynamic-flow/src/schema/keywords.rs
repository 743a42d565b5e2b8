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

/// What a schema may have that says nothing to a check: the keywords that hold no schemas, of all
/// drafts, and what other tools put beside them.
const OTHERS: [&str; 49] = [
    "$anchor",
    "$comment",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$recursiveAnchor",
    "$recursiveRef",
    "$ref",
    "$schema",
    "$vocabulary",
    "const",
    "contentEncoding",
    "contentMediaType",
    "default",
    "dependentRequired",
    "deprecated",
    "description",
    "discriminator",
    "enum",
    "enumDescriptions",
    "enumNames",
    "errorMessage",
    "example",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "externalDocs",
    "format",
    "id",
    "markdownDescription",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "readOnly",
    "required",
    "title",
    "type",
    "uniqueItems",
    "writeOnly",
    "xml",
];

/// The keywords that hold schemas.
const HOLDERS: [&str; 22] = [
    "$defs",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "contentSchema",
    "definitions",
    "dependencies",
    "dependentSchemas",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// All keywords that a schema may have.
pub(crate) fn known() -> impl Iterator<Item = &'static str> {
    OTHERS.into_iter().chain(HOLDERS)
}

/// The keywords in a schema that no draft knows and that are not marked as somebody's own by `x-`;
/// each with a JSON pointer to the schema that has it.
pub(crate) fn unknown(schema: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    gather_unknown(schema, "", &mut found);
    found
}

fn gather_unknown(schema: &Value, at: &str, found: &mut Vec<(String, String)>) {
    let Value::Object(keywords) = schema else { return };
    for (keyword, value) in keywords {
        let inside =
            |name: &str| format!("{at}/{keyword}/{}", name.replace('~', "~0").replace('/', "~1"));
        match (role(keyword).map(|(holds, _)| holds), value) {
            (Some(Holds::List | Holds::SchemaOrList), Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    gather_unknown(item, &inside(&index.to_string()), found);
                }
            }
            (Some(Holds::Map), Value::Object(map)) => {
                map.iter().for_each(|(name, item)| gather_unknown(item, &inside(name), found));
            }
            (Some(Holds::Schema | Holds::SchemaOrList), _) => {
                gather_unknown(value, &format!("{at}/{keyword}"), found);
            }
            (Some(_), _) => {}
            (None, _) if keyword.starts_with("x-") || OTHERS.contains(&keyword.as_str()) => {}
            (None, _) => found.push((at.to_owned(), keyword.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keywords_that_hold_schemas_are_known() {
        assert!(HOLDERS.iter().all(|keyword| role(keyword).is_some()));
        assert!(OTHERS.iter().all(|keyword| role(keyword).is_none()));
    }

    #[test]
    fn unknown_keywords_are_found_with_their_places() {
        let schema = json!({
            "tpye": "object",
            "x-mine": { "tpye": 1 },
            "const": { "tpye": 1 },
            "properties": { "a/b": { "requried": [] }, "tpye": true },
            "anyOf": [true, { "not": { "minimun": 1 } }],
            "items": { "enumNames": ["A"], "patern": "x" },
        });
        let pairs = [
            ("", "tpye"),
            ("/properties/a~1b", "requried"),
            ("/anyOf/1/not", "minimun"),
            ("/items", "patern"),
        ];
        assert_eq!(unknown(&schema), pairs.map(|(at, word)| (at.to_owned(), word.to_owned())));
        assert_eq!(unknown(&json!(true)), []);
    }
}
