//! What to ask for: a JSON Schema as a tree of questions.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use dynamic_flow::Schema;
use serde_json::{Map, Value, json};

/// How deep questions nest before a value is asked for as a whole, as JSON.
const MAX_DEPTH: usize = 12;

/// How many questions there are before the others are asked for as JSON: a short schema may unfold
/// into more than anybody answers, or any memory holds.
const MAX_QUESTIONS: usize = 500;

/// What an answer must look like, as questions.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    /// Whether `null` is an answer, too.
    pub(crate) nullable: bool,
    pub(crate) description: Option<String>,
    pub(crate) default: Option<Value>,
    /// What a line that is typed for it must fit; none where no line is.
    pub(crate) check: Option<Part>,
}

/// A part of a schema. It is compiled when it is asked for: of many questions few may be.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    schema: Value,
    /// What it may refer to.
    definitions: Rc<Map<String, Value>>,
}

impl Part {
    /// The part with the definitions of the whole; none where it can be checked only within that.
    pub(crate) fn schema(&self) -> Option<Schema> {
        let mut whole = Map::clone(&self.definitions);
        whole.insert("allOf".into(), json!([self.schema]));
        Schema::new(whole.into()).ok()
    }

    /// A value that its author gives as an example.
    pub(crate) fn example(&self) -> Option<&Value> {
        self.schema.get("examples")?.get(0)
    }
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
        let root = schema.as_value();
        let definitions = ["$schema", "$defs", "definitions"].into_iter();
        let definitions =
            definitions.filter_map(|name| Some((name.into(), root.get(name)?.clone())));
        let reader = Reader {
            root,
            definitions: Rc::new(definitions.collect()),
            entered: RefCell::default(),
            questions_left: Cell::new(MAX_QUESTIONS),
        };
        reader.shape(root, 0)
    }

    /// Whether it is asked for in one question.
    pub(crate) fn is_simple(&self) -> bool {
        !matches!(self.kind, Kind::Object(_) | Kind::List { .. } | Kind::Json)
    }
}

struct Reader<'a> {
    root: &'a Value,
    definitions: Rc<Map<String, Value>>,
    /// The references that lead to where it reads.
    entered: RefCell<Vec<String>>,
    questions_left: Cell<usize>,
}

impl Reader<'_> {
    fn shape(&self, schema: &Value, depth: usize) -> Shape {
        let (kind, nullable) = self.kind(schema, depth);
        let text = |name: &str| schema.get(name).and_then(Value::as_str).map(str::to_owned);
        let is_typed = matches!(kind, Kind::Integer | Kind::Number | Kind::Text | Kind::Json);
        let check = || Part { schema: schema.clone(), definitions: self.definitions.clone() };
        Shape {
            check: is_typed.then(check),
            kind,
            nullable,
            description: text("description").or_else(|| text("title")),
            default: schema.get("default").cloned(),
        }
    }

    /// What kind of value a schema asks for, and whether it takes `null` as well.
    fn kind(&self, schema: &Value, depth: usize) -> (Kind, bool) {
        let left = self.questions_left.get();
        let Some(object) = schema.as_object().filter(|_| depth < MAX_DEPTH && left > 0) else {
            return (Kind::Json, false);
        };
        self.questions_left.set(left - 1);
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
            _ => match (object.get("$ref"), object.get("allOf")) {
                (Some(Value::String(reference)), None) => self.referred(reference, depth),
                (None, Some(Value::Array(all))) if all.len() == 1 => deeper(&all[0]),
                _ => (Kind::Json, false),
            },
        }
    }

    /// What a reference leads to; what contains itself is asked for as JSON from there on.
    fn referred(&self, reference: &str, depth: usize) -> (Kind, bool) {
        let known = self.entered.borrow().iter().any(|entered| entered == reference);
        let Some(schema) = self.resolve(reference).filter(|_| !known) else {
            return (Kind::Json, false);
        };
        self.entered.borrow_mut().push(reference.to_owned());
        let kind = self.kind(schema, depth + 1);
        self.entered.borrow_mut().pop();
        kind
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

    /// The fields of an object, in the order of its author.
    fn object(&self, schema: &Map<String, Value>, depth: usize) -> Kind {
        let required = schema.get("required").and_then(Value::as_array);
        let required: Vec<&str> =
            required.into_iter().flatten().filter_map(Value::as_str).collect();
        let properties = schema.get("properties").and_then(Value::as_object);
        let fields: Vec<Field> = properties
            .into_iter()
            .flatten()
            // A property that must not be there is no question.
            .filter(|(_, schema)| **schema != Value::Bool(false))
            .map(|(name, schema)| Field {
                name: name.clone(),
                required: required.contains(&name.as_str()),
                shape: self.shape(schema, depth + 1),
            })
            .collect();
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
        assert_eq!(levels, 2, "itself, and once more by its reference");
    }

    #[test]
    fn a_short_schema_does_not_unfold_without_end() {
        fn questions(shape: &Shape) -> usize {
            match &shape.kind {
                Kind::Object(fields) => fields.iter().map(|field| questions(&field.shape)).sum(),
                _ => 1,
            }
        }
        // Ten levels of ten fields each; and ten parts of which each has all of them as fields.
        let part = |refers: &dyn Fn(usize) -> usize| -> Value {
            let fields = (0..10)
                .map(|n| (format!("f{n}"), json!({ "$ref": format!("#/$defs/d{}", refers(n)) })));
            json!({ "properties": fields.collect::<Map<_, _>>() })
        };
        let levels: Map<String, Value> = (0..10)
            .map(|level| (format!("d{level}"), part(&|_| level + 1)))
            .chain([("d10".to_owned(), json!({ "type": "string" }))])
            .collect();
        let circles: Map<String, Value> =
            (0..10).map(|n| (format!("d{n}"), part(&|field| field))).collect();
        for definitions in [levels, circles] {
            let shape = shape(json!({ "$ref": "#/$defs/d0", "$defs": definitions }));
            assert!(questions(&shape) <= 10 * MAX_QUESTIONS);
        }
    }

    #[test]
    fn fields_are_asked_for_in_the_order_of_their_author() {
        let shape = shape(json!({
            "type": "object",
            "properties": {
                "d": { "type": "string" },
                "c": false,
                "a": { "type": "string" },
                "b": { "type": "string" },
            },
            "required": ["b", "d"],
        }));
        let Kind::Object(fields) = shape.kind else { panic!("an object") };
        let names: Vec<_> =
            fields.iter().map(|field| (field.name.as_str(), field.required)).collect();
        assert_eq!(names, [("d", true), ("a", false), ("b", true)]);
    }

    #[test]
    fn parts_are_checked_with_the_definitions_of_the_whole() {
        let shape = shape(json!({
            "type": "object",
            "properties": { "n": { "$ref": "#/$defs/small" } },
            "$defs": { "small": { "type": "integer", "maximum": 9 } },
        }));
        let Kind::Object(fields) = shape.kind else { panic!("an object") };
        let check = fields[0].shape.check.as_ref().unwrap().schema().unwrap();
        check.validate(&json!(9)).unwrap();
        check.validate(&json!(10)).unwrap_err();
    }
}
