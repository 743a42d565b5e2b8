//! What a schema refuses to be, and what it says of values.

use std::{collections::BTreeMap, thread};

use dynamic_flow::{ErrorKind, Schema};
use schemars::JsonSchema;
use serde_json::{Value, json};

fn schema(source: Value) -> Schema {
    Schema::new(source).unwrap()
}

#[track_caller]
fn refused(source: Value, why: &str) {
    let error = Schema::new(source.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidFlow);
    assert!(error.message().contains(why), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
    // What was sealed is not trusted either: it fits nothing, and nothing hangs or panics.
    let read: Schema = serde_json::from_value(source).unwrap();
    let violations = read.validate(&json!({ "a": 1 })).unwrap_err();
    assert!(violations[0].message.contains("the schema itself can't be used"), "{violations:?}");
}

/// Pointers and messages; none of which may hold what the value holds.
fn violations(source: Value, value: &Value) -> Vec<(String, String)> {
    let violations = schema(source).validate(value).unwrap_err();
    for violation in &violations {
        assert!(!violation.message.contains("secret"), "{violation}");
    }
    violations.into_iter().map(|violation| (violation.pointer, violation.message)).collect()
}

#[track_caller]
fn one(source: Value, value: &Value, pointer: &str, message: &str) {
    assert_eq!(violations(source, value), [(pointer.to_owned(), message.to_owned())]);
}

#[test]
fn all_violations_are_told_with_their_places() {
    let source = json!({
        "type": "object",
        "properties": {
            "approved": { "type": "boolean" },
            "by/whom": { "type": "string", "minLength": 30 },
            "items": { "type": "array", "items": { "type": "integer", "maximum": 5 } },
        },
        "required": ["approved", "reason"],
        "additionalProperties": false,
    });
    let value = json!({
        "approved": "secret", "by/whom": "secret", "items": [1, 9, "secret"], "x": "secret",
    });
    let mut told = violations(source, &value);
    told.sort();
    let expected = [
        ("", "must not have the property \"x\""),
        ("", "the property \"reason\" is missing"),
        ("/approved", "must be of type boolean"),
        ("/by~1whom", "must have at least 30 characters"),
        ("/items/1", "must be at most 5"),
        ("/items/2", "must be of type integer"),
    ];
    let expected = expected.map(|(pointer, message)| (pointer.to_owned(), message.to_owned()));
    assert_eq!(told, expected);
}

#[test]
fn no_message_quotes_the_value() {
    let old = "http://json-schema.org/draft-07/schema#";
    for (source, value, message) in [
        (json!({ "enum": ["a", "b"] }), json!("secret"), r#"must be one of ["a","b"]"#),
        (json!({ "const": 5 }), json!("secret"), "must be 5"),
        (json!({ "pattern": "^a+$" }), json!("secret"), "must match the pattern ^a+$"),
        (
            json!({ "not": { "type": "string" } }),
            json!("secret"),
            r#"must not fit {"type":"string"}"#,
        ),
        (
            json!({ "type": ["null", "number"] }),
            json!("secret"),
            "must be of one of the types null, number",
        ),
        (
            json!({ "uniqueItems": true }),
            json!(["secret", "secret"]),
            "must not have the same item twice",
        ),
        (
            json!({ "contains": { "type": "null" } }),
            json!(["secret"]),
            "lacks an item that the schema asks for (`contains`)",
        ),
        (
            json!({ "prefixItems": [{}], "unevaluatedItems": false }),
            json!([1, "secret"]),
            "has 1 item too many",
        ),
        (json!(false), json!("secret"), "must not be there"),
        (
            json!({ "propertyNames": { "maxLength": 1 } }),
            json!({ "secret": 1 }),
            "the name of a property must have at most 1 character",
        ),
        (
            json!({ "$schema": old, "contentMediaType": "application/json" }),
            json!("{secret"),
            "must be a text that holds application/json",
        ),
        (
            json!({ "$schema": old, "contentEncoding": "base64" }),
            json!("secret!"),
            "must be base64 text",
        ),
    ] {
        one(source, &value, "", message);
    }
    one(json!({ "items": false }), &json!(["secret"]), "/0", "must not be there");
}

#[test]
fn formats_are_asserted() {
    for (format, good, bad) in [
        ("date-time", "2026-11-23T04:00:00Z", "secret"),
        ("date", "2026-11-23", "2026-13-01"),
        ("email", "jane@example.com", "secret"),
        ("uri", "https://example.com", "secret"),
        ("uuid", "018f4d2e-7c00-7000-8000-000000000000", "secret"),
        ("ipv4", "127.0.0.1", "1.2.3"),
        ("regex", "^a$", "("),
    ] {
        let source = json!({ "format": format });
        assert!(schema(source.clone()).validate(&json!(good)).is_ok(), "{format}");
        let told = violations(source.clone(), &json!(bad));
        let [(pointer, message)] = told.as_slice() else { panic!("{told:?}") };
        let start = format!("must have the format {format}, such as ");
        let example = message.strip_prefix(&start).expect(message);
        assert_eq!(pointer, "");
        assert!(schema(source).validate(&json!(example)).is_ok(), "{format}: {example}");
    }
    for format in ["time", "duration", "hostname", "ipv6", "json-pointer"] {
        let source = json!({ "format": format });
        let told = violations(source.clone(), &json!("no\t<"));
        let (_, example) = told[0].1.split_once(", such as ").expect(format);
        assert!(schema(source).validate(&json!(example)).is_ok(), "{format}: {example}");
    }
}

#[test]
fn whole_numbers_are_told_without_a_point() {
    for (source, value, message) in [
        (json!({ "maximum": 5.0 }), json!(6), "must be at most 5"),
        (json!({ "minimum": 1.0 }), json!(0), "must be at least 1"),
        (json!({ "exclusiveMinimum": 1.5 }), json!(0), "must be greater than 1.5"),
        (json!({ "multipleOf": 2.0 }), json!(3), "must be a multiple of 2"),
    ] {
        one(source, &value, "", message);
    }
}

#[test]
fn an_optional_part_tells_what_is_wrong_inside() {
    #[derive(JsonSchema)]
    #[expect(dead_code)]
    struct Reviewer {
        name: String,
    }
    #[derive(JsonSchema)]
    #[expect(dead_code)]
    struct Review {
        reviewer: Option<Reviewer>,
    }
    #[derive(JsonSchema)]
    #[serde(tag = "kind")]
    #[expect(dead_code)]
    enum Decision {
        Approve { level: u8 },
        Reject { reason: String },
    }
    let review = Schema::of::<Review>().unwrap();
    assert!(review.validate(&json!({ "reviewer": null })).is_ok());
    let told = review.validate(&json!({ "reviewer": {} })).unwrap_err();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].to_string(), "/reviewer: the property \"name\" is missing");
    let told = review.validate(&json!({ "reviewer": 5 })).unwrap_err();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].to_string(), "/reviewer: must be of one of the types object, null");

    let decision = Schema::of::<Decision>().unwrap();
    let told = decision.validate(&json!({ "kind": "Reject" })).unwrap_err();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].to_string(), "(whole value): the property \"reason\" is missing");
    let told = decision.validate(&json!({ "kind": "Other" })).unwrap_err();
    assert_eq!(told[0].to_string(), r#"/kind: must be one of "Approve", "Reject""#);
    let told = decision.validate(&json!({})).unwrap_err();
    assert_eq!(told[0].to_string(), "(whole value): fits none of the schemas of `oneOf`");
}

#[test]
fn alternatives_that_nothing_tells_apart_are_not_guessed_at() {
    let shapes = json!({ "anyOf": [
        { "properties": { "a": { "const": 1 } } },
        { "properties": { "b": { "const": 2 } } },
    ] });
    one(shapes, &json!({ "a": 0, "b": 0 }), "", "fits none of the schemas of `anyOf`");
    let either = json!({ "anyOf": [{ "type": "string" }, { "minimum": 5 }] });
    one(either, &json!(1), "", "must be at least 5");
    let ways = json!({ "oneOf": [{ "enum": ["a", "b"] }, { "const": null }] });
    one(ways, &json!("c"), "", r#"must be one of "a", "b", null"#);
}

#[test]
fn what_is_no_schema_is_refused() {
    refused(json!(5), "not a usable JSON Schema");
    refused(json!({ "type": "nonsense" }), "not a usable JSON Schema");
    refused(json!({ "$schema": "https://example.com/mine" }), "not a usable JSON Schema");
    let error = Schema::new(json!({ "properties": { "a": { "minLength": -1 } } })).unwrap_err();
    assert_eq!(error.context_value("at"), Some("/properties/a/minLength"));
    for draft in [
        "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-06/schema#",
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2019-09/schema",
        "https://json-schema.org/draft/2020-12/schema",
    ] {
        let source = json!({ "$schema": draft, "type": "string" });
        assert!(schema(source).validate(&json!(1)).is_err());
    }
}

#[test]
fn references_out_of_the_schema_are_refused() {
    for reference in [
        "https://example.com/schema.json",
        "file:///etc/passwd",
        "other.json#/a",
        "json-schema:///",
        "https://json-schema.org/draft/2020-12/schema",
        "",
    ] {
        refused(json!({ "properties": { "a": { "$ref": reference } } }), "leads out of it");
        refused(json!({ "items": { "$dynamicRef": reference } }), "leads out of it");
    }
    refused(json!({ "$ref": "#/$defs/missing" }), "names nothing");
    refused(json!({ "$ref": "#missing" }), "names nothing");
    refused(json!({ "items": { "$id": "https://example.com/a", "$ref": "#" } }), "`$id`");
    let old = "http://json-schema.org/draft-04/schema#";
    refused(json!({ "$schema": old, "items": { "id": "https://example.com/a" } }), "`$id`");
    refused(json!({ "$defs": { "a": { "$anchor": "x" }, "b": { "$anchor": "x" } } }), "twice");
}

#[test]
fn references_into_the_schema_work() {
    let source = json!({
        "$id": "https://example.com/tree",
        "$defs": {
            "a/b c": { "type": "integer" },
            "named": { "$anchor": "name", "type": "string" },
            "dynamic": { "$dynamicAnchor": "node", "type": "boolean" },
        },
        "properties": {
            "pointer": { "$ref": "#/$defs/a~1b%20c" },
            "anchor": { "$ref": "#name" },
            "dynamic": { "$dynamicRef": "#node" },
            "children": { "items": { "$ref": "#" } },
        },
    });
    let value = json!({ "children": [{ "pointer": 1, "anchor": "a", "dynamic": true }] });
    assert!(schema(source.clone()).validate(&value).is_ok());
    let value = json!({ "children": [{ "pointer": "1", "anchor": 1, "dynamic": 1 }] });
    assert_eq!(violations(source, &value).len(), 3);

    let source = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": { "a": { "$id": "#a", "type": "integer" } },
        "items": { "$ref": "#a" },
    });
    assert!(schema(source.clone()).validate(&json!([1])).is_ok());
    assert!(schema(source).validate(&json!(["1"])).is_err());
}

#[test]
fn unguarded_cycles_are_refused() {
    let why = "comes back to itself";
    refused(json!({ "$ref": "#" }), why);
    refused(json!({ "allOf": [{ "$ref": "#" }] }), why);
    refused(json!({ "properties": { "x": { "anyOf": [{ "$ref": "#/properties/x" }] } } }), why);
    refused(json!({ "if": { "not": { "$ref": "#" } } }), why);
    refused(json!({ "dependentSchemas": { "a": { "$ref": "#" } } }), why);
    refused(json!({ "$dynamicAnchor": "a", "else": { "$dynamicRef": "#a" } }), why);
    refused(json!({ "unknown": { "oneOf": [{ "$ref": "#/unknown" }] }, "$ref": "#/unknown" }), why);
    let chain = json!({
        "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "then": { "$ref": "#/$defs/a" } } },
    });
    refused(chain, why);
    let old = "https://json-schema.org/draft/2019-09/schema";
    refused(json!({ "$schema": old, "oneOf": [{ "$recursiveRef": "#" }] }), why);
}

fn chain(length: usize, end: Value) -> BTreeMap<String, Value> {
    let link = |index| (format!("a{index}"), json!({ "$ref": format!("#/$defs/a{}", index + 1) }));
    let mut links: BTreeMap<String, Value> = (0..length).map(link).collect();
    links.insert(format!("a{length}"), end);
    links
}

#[test]
fn schemas_have_bounds() {
    let nested = |depth| (1..depth).fold(json!({}), |inner, _| json!({ "items": inner }));
    schema(nested(64));
    refused(nested(65), "deeper than 64");
    refused(json!({ "enum": (0..10_000).collect::<Vec<_>>() }), "more than 10000 parts");
    refused(json!({ "description": "x".repeat(256 * 1024) }), "more than 262144 bytes");
    refused(json!({ "pattern": "(a{1000}){1000}" }), "regular expression");
    refused(json!({ "pattern": "(?=a)b" }), "regular expression");
    let large = |count| json!({ "allOf": vec![json!({ "pattern": "\\p{L}{20}N" }); count] });
    schema(large(2));
    refused(large(17), "patterns take more than 16 MiB");
    let small = vec![json!({ "pattern": "^[A-Z]{2}[0-9]{4}$" }); 400];
    schema(json!({ "allOf": small }));
    refused(json!({ "pattern": "(a)\\1" }), "regular expression");

    schema(json!({ "$defs": chain(63, json!({})) }));
    refused(json!({ "$defs": chain(64, json!({})) }), "chains more than 64");

    let mut doubling: BTreeMap<String, Value> = BTreeMap::from([("a0".into(), json!({}))]);
    for index in 1..=20 {
        let reference = json!({ "$ref": format!("#/$defs/a{}", index - 1) });
        doubling.insert(format!("a{index}"), json!({ "allOf": [reference, reference] }));
    }
    refused(json!({ "$defs": doubling }), "checks of one value");
}

#[test]
fn a_pattern_can_not_run_away() {
    let source = json!({ "pattern": "^(a+)+$" });
    assert!(schema(source).validate(&json!(format!("{}!", "a".repeat(100_000)))).is_err());
}

#[test]
fn a_large_pattern_is_not_matched_against_a_long_text() {
    let fits = |pattern: &str, length: usize| {
        let text = json!("ab".repeat(length / 2));
        let told = schema(json!({ "pattern": pattern })).validate(&text);
        !told.is_err_and(|told| told[0].message.contains("more than 10000000 checks"))
    };
    assert!(fits("^[^<>]*$", 1 << 20));
    assert!(!fits("^[ab]*a[ab]{2000}c", 50_000));
    assert!(!fits("\\p{L}{20}N", 10_000));
}

#[test]
fn the_stack_is_never_exhausted() {
    fn nested(depth: usize) -> Value {
        (0..depth).fold(json!(1), |inner, _| json!({ "x": inner }))
    }
    let on_small_stack = |source: Value, depth: usize| {
        let check = move || {
            let schema = schema(source);
            (schema.validate(&nested(depth)), schema.validate(&nested(129)))
        };
        thread::Builder::new().stack_size(1 << 20).spawn(check).unwrap().join().unwrap()
    };
    let tree = json!({ "anyOf": [{ "properties": { "x": { "$ref": "#" } } }] });
    let (shallow, deep) = on_small_stack(tree, 128);
    assert!(shallow.is_ok());
    assert!(deep.unwrap_err()[0].message.contains("nested deeper than 128"));

    // The longest chain of schemas that there may be, at each level of the value.
    let end = json!({ "properties": { "x": { "$ref": "#" } }, "type": "object" });
    let longest = json!({ "$defs": chain(61, end), "$ref": "#/$defs/a0" });
    let (fitting, deep) = on_small_stack(longest, 8);
    assert_eq!(fitting.unwrap_err()[0].pointer, "/x".repeat(8));
    assert!(deep.unwrap_err()[0].message.contains("nested deeper than 8"));
}

#[test]
fn a_flood_of_violations_is_cut() {
    let source = json!({ "items": { "type": "null" } });
    let told = schema(source).validate(&json!(vec![1; 5_000])).unwrap_err();
    assert_eq!(told.len(), 1_001);
    assert!(told[1_000].message.contains("more violations"));
}

#[test]
fn a_large_value_is_told_in_short() {
    let alternatives = json!({ "items": { "anyOf": [
        { "const": 1 }, { "const": 2 }, { "type": "object" }, { "type": "null" },
    ] } });
    let told = schema(alternatives).validate(&json!(vec![3; 40_000])).unwrap_err();
    let too_large = "(whole value): does not fit its schema, and is too large to tell where";
    assert_eq!(told.iter().map(ToString::to_string).collect::<Vec<_>>(), [too_large]);
    let plain = schema(json!({ "items": { "properties": { "a": { "type": "null" } } } }));
    let mut items = vec![json!({ "a": null }); 120_000];
    assert!(plain.validate(&json!(items)).is_ok());
    items[100_000] = json!({ "a": 1 });
    let told = plain.validate(&json!(items)).unwrap_err();
    assert_eq!(told[0].to_string(), "/100000/a: must be of type null");
    assert!(told[1].message.contains("too large to tell whether there are more"), "{told:?}");
}

#[test]
fn alternatives_that_multiply_at_each_level_end() {
    let again = json!({ "properties": { "a": { "$ref": "#" } }, "required": ["a"] });
    let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!({ "a": inner }));
    for of in ["allOf", "anyOf", "oneOf"] {
        let schema = schema(json!({ of: [again, again, { "type": "object" }] }));
        let told = schema.validate(&nested(40)).unwrap_err();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].message.contains("more than 10000000 checks"), "{told:?}");
    }
}

#[test]
fn many_values_are_not_held_against_long_lists() {
    let too_much = |source: Value, value: Value| {
        let told = schema(source).validate(&value);
        told.is_err_and(|told| told[0].message.contains("more than 10000000 checks"))
    };
    let choices: Vec<u32> = (0..5_000).collect();
    assert!(too_much(json!({ "items": { "enum": choices } }), json!(vec![4_999; 20_000])));
    assert!(!too_much(json!({ "items": { "enum": choices[..250] } }), json!(vec![9; 200_000])));
    let names: Vec<String> = choices.iter().map(ToString::to_string).collect();
    let needed = json!({ "items": { "dependentRequired": { "a": names } } });
    assert!(too_much(needed, json!(vec![json!({ "a": 1 }); 10_000])));
    assert!(too_much(json!({ "items": { "multipleOf": 0.01 } }), json!(vec![0.5; 200_000])));
}

#[test]
fn the_essence_leaves_out_annotations_and_only_those() {
    let draft = "https://json-schema.org/draft/2020-12/schema";
    let source = json!({
        "title": "Order", "description": "…", "$comment": "…", "examples": [1], "default": {},
        "deprecated": true, "readOnly": true, "writeOnly": true, "$schema": draft,
        "properties": {
            "title": { "type": "string", "title": "Title" },
            "default": { "const": { "title": "kept" }, "enum": [{ "description": "kept" }] },
        },
        "$defs": { "description": { "items": { "description": "…" } } },
        "anyOf": [
            { "title": "…" },
            { "not": { "title": "…" }, "prefixItems": [{ "title": "…" }, true] },
        ],
        "required": ["title"],
    });
    let essence = json!({
        "$schema": draft,
        "properties": {
            "title": { "type": "string" },
            "default": { "const": { "title": "kept" }, "enum": [{ "description": "kept" }] },
        },
        "$defs": { "description": { "items": {} } },
        "anyOf": [{}, { "not": {}, "prefixItems": [{}, true] }],
        "required": ["title"],
    });
    assert_eq!(schema(source).essence(), essence);
    assert_eq!(Schema::any().essence(), json!(true));
}

#[test]
fn it_is_the_plain_schema_when_serialized() {
    let source = json!({ "type": "integer" });
    let text = serde_json::to_string(&schema(source.clone())).unwrap();
    assert_eq!(text, source.to_string());
    let read: Schema = serde_json::from_str(&text).unwrap();
    assert_eq!(read, schema(source));
    assert!(read.validate(&json!(1)).is_ok());
    assert!(read.validate(&json!("1")).is_err());
    assert!(Schema::any().validate(&json!({ "any": ["thing"] })).is_ok());
}
