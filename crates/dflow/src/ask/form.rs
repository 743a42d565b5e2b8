//! What to ask for: a JSON Schema as a tree of questions.

use dynamic_flow::Schema;
use serde_json::{Map, Value, json};

/// How deep questions nest before a value is asked for as a whole, as JSON.
const MAX_DEPTH: usize = 12;

/// What an answer must look like, as questions.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    /// Whether `null` is an answer, too.
    pub(crate) nullable: bool,
    pub(crate) description: Option<String>,
    pub(crate) default: Option<Value>,
    /// What a value of it must fit; none where it can be checked only as part of the whole.
    pub(crate) check: Option<Schema>,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// There is nothing to ask.
    Const(Value),
    Bool,
    Integer,
    Number,
    Text,
    Choice(Vec<Choice>),
    /// Several of them, each once.
    Several(Vec<Choice>),
    Object(Vec<Field>),
    List {
        item: Box<Shape>,
        min: usize,
        max: usize,
    },
    /// Anything else: it is typed as JSON.
    Json,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Choice {
    pub(crate) label: String,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) required: bool,
    pub(crate) shape: Shape,
}

impl Shape {
    /// The questions of a schema.
    pub(crate) fn of(schema: &Schema) -> Self {
        Reader { root: schema.as_value() }.shape(schema.as_value(), 0)
    }

    /// Whether it is asked for in one question.
    pub(crate) fn is_simple(&self) -> bool {
        !matches!(self.kind, Kind::Object(_) | Kind::List { .. } | Kind::Json)
    }
}

struct Reader<'a> {
    root: &'a Value,
}

impl Reader<'_> {
    fn shape(&self, schema: &Value, depth: usize) -> Shape {
        let (kind, nullable) = self.kind(schema, depth);
        let text = |name: &str| schema.get(name).and_then(Value::as_str).map(str::to_owned);
        Shape {
            kind,
            nullable,
            description: text("description").or_else(|| text("title")),
            default: schema.get("default").cloned(),
            check: self.check(schema),
        }
    }

    /// The schema of a part, with the definitions of the whole that it may refer to.
    fn check(&self, schema: &Value) -> Option<Schema> {
        let mut whole = Map::new();
        for name in ["$schema", "$defs", "definitions"] {
            if let Some(definitions) = self.root.get(name) {
                whole.insert(name.into(), definitions.clone());
            }
        }
        whole.insert("allOf".into(), json!([schema]));
        Schema::new(whole.into()).ok()
    }

    /// What kind of value a schema asks for, and whether it takes `null` as well.
    fn kind(&self, schema: &Value, depth: usize) -> (Kind, bool) {
        let Some(object) = schema.as_object().filter(|_| depth < MAX_DEPTH) else {
            return (Kind::Json, false);
        };
        let deeper = |schema: &Value| self.kind(schema, depth + 1);
        if let Some(value) = object.get("const") {
            return (Kind::Const(value.clone()), false);
        }
        if let Some(values) = object.get("enum").and_then(Value::as_array) {
            let nullable = values.contains(&Value::Null);
            let choices = values.iter().filter(|value| !value.is_null()).map(Choice::of).collect();
            return (Kind::Choice(choices), nullable);
        }
        if object.contains_key("properties") && !object.contains_key("type") {
            return (self.object(object, depth), false);
        }
        for name in ["anyOf", "oneOf"] {
            if let Some(variants) = object.get(name).and_then(Value::as_array)
                && !object.contains_key("properties")
            {
                return self.variants(variants, depth);
            }
        }
        match object.get("type") {
            Some(Value::String(one)) => (self.of_type(one, object, depth), false),
            Some(Value::Array(several)) => {
                let names: Vec<&str> = several.iter().filter_map(Value::as_str).collect();
                let nullable = names.contains(&"null");
                match names.iter().filter(|name| **name != "null").collect::<Vec<_>>()[..] {
                    [one] => (self.of_type(one, object, depth), nullable),
                    _ => (Kind::Json, nullable),
                }
            }
            _ => {
                let inner = match (object.get("$ref"), object.get("allOf")) {
                    (Some(Value::String(reference)), None) => self.resolve(reference),
                    (None, Some(Value::Array(all))) if all.len() == 1 => all.first(),
                    _ => None,
                };
                inner.map_or((Kind::Json, false), deeper)
            }
        }
    }

    /// Where a reference within the schema leads.
    fn resolve(&self, reference: &str) -> Option<&Value> {
        let pointer = reference.strip_prefix('#')?;
        self.root.pointer(pointer)
    }

    fn variants(&self, variants: &[Value], depth: usize) -> (Kind, bool) {
        let is_null = |schema: &&Value| {
            schema.get("type") == Some(&json!("null")) || schema.get("const") == Some(&Value::Null)
        };
        let nullable = variants.iter().any(|schema| is_null(&schema));
        let others: Vec<&Value> = variants.iter().filter(|schema| !is_null(schema)).collect();
        if let [one] = others[..] {
            let (kind, nullable_inside) = self.kind(one, depth + 1);
            return (kind, nullable || nullable_inside);
        }
        let choices: Option<Vec<Choice>> =
            others.iter().map(|schema| Choice::of_variant(schema)).collect();
        (choices.filter(|it| !it.is_empty()).map_or(Kind::Json, Kind::Choice), nullable)
    }

    fn of_type(&self, name: &str, schema: &Map<String, Value>, depth: usize) -> Kind {
        match name {
            "null" => Kind::Const(Value::Null),
            "boolean" => Kind::Bool,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "string" => Kind::Text,
            "object" if schema.contains_key("properties") => self.object(schema, depth),
            "array" => match schema.get("items") {
                Some(items) if items.is_object() && !schema.contains_key("prefixItems") => {
                    self.list(schema, self.shape(items, depth + 1))
                }
                _ => Kind::Json,
            },
            _ => Kind::Json,
        }
    }

    fn list(&self, schema: &Map<String, Value>, item: Shape) -> Kind {
        let unique = schema.get("uniqueItems") == Some(&Value::Bool(true));
        match item {
            Shape { kind: Kind::Choice(choices), nullable: false, .. } if unique => {
                Kind::Several(choices)
            }
            item => {
                let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
                let bound = |name: &str| bound(name).and_then(|n| usize::try_from(n).ok());
                let min = bound("minItems").unwrap_or(0);
                let max = bound("maxItems").unwrap_or(usize::MAX);
                Kind::List { item: Box::new(item), min, max }
            }
        }
    }

    /// The fields of an object: those that must be there first, in the order in which the schema
    /// says so.
    fn object(&self, schema: &Map<String, Value>, depth: usize) -> Kind {
        let required = schema.get("required").and_then(Value::as_array);
        let required: Vec<&str> =
            required.into_iter().flatten().filter_map(Value::as_str).collect();
        let place = |name: &str| required.iter().position(|known| *known == name);
        let properties = schema.get("properties").and_then(Value::as_object);
        let mut fields: Vec<Field> = properties
            .into_iter()
            .flatten()
            // A property that must not be there is no question.
            .filter(|(_, schema)| **schema != Value::Bool(false))
            .map(|(name, schema)| Field {
                name: name.clone(),
                required: place(name).is_some(),
                shape: self.shape(schema, depth + 1),
            })
            .collect();
        fields.sort_by_key(|field| place(&field.name).unwrap_or(usize::MAX));
        Kind::Object(fields)
    }
}

impl Choice {
    fn of(value: &Value) -> Self {
        let label = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Self { label, value: value.clone() }
    }

    /// A schema that only one value fits.
    fn of_variant(schema: &Value) -> Option<Self> {
        let value = match (schema.get("const"), schema.get("enum").and_then(Value::as_array)) {
            (Some(value), _) => value,
            (None, Some(values)) if values.len() == 1 => values.first()?,
            _ => return None,
        };
        let mut choice = Self::of(value);
        let told = schema.get("description").or_else(|| schema.get("title"));
        if let Some(told) = told.and_then(Value::as_str) {
            choice.label = format!("{}  ({told})", choice.label);
        }
        Some(choice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(schema: Value) -> Shape {
        Shape::of(&Schema::new(schema).unwrap())
    }

    fn kind_name(shape: &Shape) -> &'static str {
        match shape.kind {
            Kind::Const(_) => "const",
            Kind::Bool => "bool",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Text => "text",
            Kind::Choice(_) => "choice",
            Kind::Several(_) => "several",
            Kind::Object(_) => "object",
            Kind::List { .. } => "list",
            Kind::Json => "json",
        }
    }

    #[test]
    fn each_form_of_schema_gets_its_question() {
        for (schema, kind, nullable) in [
            (json!({ "type": "boolean" }), "bool", false),
            (json!({ "type": ["integer", "null"] }), "integer", true),
            (json!({ "type": "number", "minimum": 0 }), "number", false),
            (json!({ "type": "string", "format": "date" }), "text", false),
            (json!({ "enum": ["a", "b", null] }), "choice", true),
            (json!({ "const": 7 }), "const", false),
            (
                json!({ "oneOf": [{ "const": "a", "description": "first" }, { "enum": ["b"] }] }),
                "choice",
                false,
            ),
            (json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }), "text", true),
            (json!({ "anyOf": [{ "type": "string" }, { "type": "number" }] }), "json", false),
            (json!({ "type": "array", "items": { "type": "string" } }), "list", false),
            (
                json!({ "type": "array", "items": { "enum": ["a", "b"] }, "uniqueItems": true }),
                "several",
                false,
            ),
            (json!({ "type": "array" }), "json", false),
            (json!({ "type": "object" }), "json", false),
            (json!({ "properties": { "a": true } }), "object", false),
            (json!({ "type": ["string", "number"] }), "json", false),
            (
                json!({ "$ref": "#/$defs/x", "$defs": { "x": { "type": "boolean" } } }),
                "bool",
                false,
            ),
            (
                json!({ "allOf": [{ "$ref": "#/$defs/x" }], "$defs": { "x": { "type": "null" } } }),
                "const",
                false,
            ),
            (json!(true), "json", false),
        ] {
            let shape = shape(schema.clone());
            assert_eq!((kind_name(&shape), shape.nullable), (kind, nullable), "{schema}");
        }
    }

    #[test]
    fn a_schema_that_contains_itself_ends_as_json() {
        let mut shape = shape(json!({
            "type": "object",
            "required": ["next"],
            "properties": { "next": { "$ref": "#" } },
        }));
        let mut levels = 0;
        while let Kind::Object(mut fields) = shape.kind {
            shape = fields.remove(0).shape;
            levels += 1;
        }
        assert_eq!(kind_name(&shape), "json");
        assert!(levels <= MAX_DEPTH, "{levels}");
    }

    #[test]
    fn fields_that_must_be_there_come_first() {
        let shape = shape(json!({
            "type": "object",
            "properties": {
                "a": { "type": "string" },
                "b": { "type": "string" },
                "c": false,
                "d": { "type": "string" },
            },
            "required": ["d", "b"],
        }));
        let Kind::Object(fields) = shape.kind else { panic!("an object") };
        let names: Vec<_> =
            fields.iter().map(|field| (field.name.as_str(), field.required)).collect();
        assert_eq!(names, [("d", true), ("b", true), ("a", false)]);
    }

    #[test]
    fn parts_are_checked_with_the_definitions_of_the_whole() {
        let shape = shape(json!({
            "type": "object",
            "properties": { "n": { "$ref": "#/$defs/small" } },
            "$defs": { "small": { "type": "integer", "maximum": 9 } },
        }));
        let Kind::Object(fields) = shape.kind else { panic!("an object") };
        let check = fields[0].shape.check.clone().unwrap();
        check.validate(&json!(9)).unwrap();
        check.validate(&json!(10)).unwrap_err();
    }
}
