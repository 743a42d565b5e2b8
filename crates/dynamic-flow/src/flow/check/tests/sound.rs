//! What is told of an expression is true of it whatever it sees.

use proptest::prelude::*;

use super::*;
use crate::{
    expr::{Foreseen, Known as _, Scope, Source},
    id::RunId,
};

/// What values look like that expressions are worked out for.
fn looks() -> Value {
    json!({
        "type": "object",
        "required": ["int", "text", "flag", "list", "pair", "map"],
        "properties": {
            "int": { "type": "integer" },
            "text": { "type": "string" },
            "flag": { "type": "boolean" },
            "list": { "type": "array", "items": { "type": "integer" } },
            "pair": {
                "type": "array",
                "prefixItems": [{ "type": "string" }, { "type": "integer" }],
                "items": false,
                "minItems": 2,
            },
            "map": { "$ref": "#/$defs/Map" },
            "maybe": { "type": ["string", "null"] },
            "any": {},
        },
        "additionalProperties": false,
        "$defs": {
            "Map": {
                "type": "object",
                "properties": { "int": { "type": "integer" }, "again": { "$ref": "#/$defs/Map" } },
                "additionalProperties": false,
            },
        },
    })
}

fn values() -> impl Strategy<Value = Value> {
    let other = prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        Just(json!(1.5)),
        Just(json!("b")),
        Just(json!([1])),
        Just(json!({ "int": 1 })),
    ];
    let maybe = prop_oneof![Just(None), Just(Some(json!(null))), Just(Some(json!("m")))];
    let map = prop_oneof![Just(json!({})), Just(json!({ "int": 2, "again": { "int": 3 } }))];
    (
        0..3_i64,
        any::<bool>(),
        maybe,
        map,
        prop::option::of(other),
        prop::collection::vec(0..3_i64, 0..3),
    )
        .prop_map(|(int, flag, maybe, map, any, list)| {
            let mut value = json!({
                "int": int, "text": "a", "flag": flag, "list": list, "pair": ["p", 1], "map": map,
            });
            for (name, field) in [("maybe", maybe), ("any", any)] {
                if let Some(field) = field {
                    value[name] = field;
                }
            }
            value
        })
}

fn expressions() -> impl Strategy<Value = String> {
    let known = ["int", "text", "flag", "list", "pair", "map", "maybe", "any", "nope"];
    let leaves = prop_oneof![
        4 => prop::sample::select(known.to_vec()).prop_map(|name| format!("value.{name}")),
        1 => prop::sample::select(vec![
            "1", "1.5", "'a'", "true", "null", "[1]", "{'a': 1}", "value", "value.map.again",
            "value.pair[0]", "value.pair[1]", "value.list[0]", "duration('1s')", "timestamp(0)",
            "b'x'", "run.id", "type(1)", "vars",
        ])
        .prop_map(str::to_owned),
    ];
    leaves.prop_recursive(3, 12, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        let operators =
            vec!["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "&&", "||"];
        let calls = vec![
            "size($)",
            "string($)",
            "int($)",
            "double($)",
            "bool($)",
            "dyn($)",
            "type($)",
            "$.contains('a')",
            "$.upperAscii()",
            "$.split('a')",
            "$.join()",
            "$.reverse()",
            "math.abs($)",
            "math.greatest($, 1)",
            "timestamp($)",
            "duration($)",
            "$.matches('a')",
            "!$",
            "-$",
            "$.int",
            "$.again",
            "$['int']",
            "$[0]",
            "$.getHours()",
            "[$]",
            "{'k': $}",
            "$.map(it, it)",
            "$.filter(it, true)",
            "$.all(it, it == 1)",
            "$.exists(it, it)",
            "$.map(it, it + 1)",
            "$.charAt(0)",
            "$.substring(0, 1)",
            "bytes($)",
        ];
        prop_oneof![
            (two.clone(), prop::sample::select(operators))
                .prop_map(|((one, two), sign)| format!("({one}) {sign} ({two})")),
            (inner.clone(), prop::sample::select(calls))
                .prop_map(|(of, call)| call.replace('$', &format!("({of})"))),
            (inner, two).prop_map(|(condition, (one, two))| {
                format!("({condition}) ? ({one}) : ({two})")
            }),
        ]
    })
}

/// Whether all of an expression is always worked out: what is told of a part that is not may not
/// matter for a value.
fn is_all_worked_out(expression: &str) -> bool {
    ![" ? ", "&&", "||", "(it,"].iter().any(|part| expression.contains(part))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_500) })]

    #[test]
    fn what_is_foreseen_comes_true(expression in expressions(), value in values()) {
        let Ok(cel) = Cel::compile(&expression) else { return Ok(()) };
        prop_assert!(schema(looks()).validate(&value).is_ok());
        let compute = Compute::Cel(cel);
        let shape = Shape::of_schema(&schema(looks()));
        let (foreseen, told) =
            compute.foresee(&|source| (source == Source::Value).then(|| shape.clone()), &Meter::default());
        let vars = BTreeMap::new();
        let scope = Scope { value: &value, vars: &vars, input: &Value::Null, run_id: RunId::from_bytes([0; 16]) };
        let result = compute.evaluate(scope);
        if let Ok(result) = &result {
            prop_assert!(
                told.is_empty() || !is_all_worked_out(&expression),
                "{expression} of {value} is {result}, but: {told:?}"
            );
            let kinds = match &foreseen {
                Foreseen::Part(shape) => shape.kinds(),
                Foreseen::Kinds(kinds) => kinds.as_json(),
            };
            let kind = Shape::constant(result.clone()).kinds();
            // What was told of may be of any kind.
            prop_assert!(kinds.may_be(kind) || !told.is_empty(), "{expression} of {value}: {result}");
        }
    }
}
