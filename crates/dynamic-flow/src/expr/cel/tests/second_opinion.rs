//! What the `cel` crate makes of the same expressions.

use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use super::evaluate;

/// Expressions where the crate's own evaluation is a second opinion: without numbers of different
/// types, which it refuses, and maps of several keys, whose order it leaves to chance.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "0",
        "1",
        "2",
        "-3",
        "9223372036854775807",
        "'a'",
        "'bcé'",
        "''",
        "true",
        "false",
        "null",
        "[1, 2]",
        "[]",
        "['a', 1]",
        "{'a': 1}",
        "{1: 'a'}",
        "value.n",
        "value.t",
        "value.l",
        "value.m",
        "value.no",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        let operator = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in",
        ]);
        prop_oneof![
            4 => (two.clone(), operator).prop_map(|((a, b), op)| format!("({a} {op} {b})")),
            1 => (inner.clone(), two.clone()).prop_map(|(c, (a, b))| format!("({c} ? {a} : {b})")),
            1 => two.clone().prop_map(|(a, b)| format!("{a}[{b}]")),
            1 => two.clone().prop_map(|(a, b)| format!("[{a}, {b}]")),
            1 => two.clone().prop_map(|(a, b)| format!("{{{a}: {b}}}")),
            1 => inner.clone().prop_map(|a| format!("size({a})")),
            1 => inner.clone().prop_map(|a| format!("!{a}")),
            1 => (two.clone(), prop::sample::select(vec!["map", "filter", "all", "exists", "exists_one"]))
                .prop_map(|((a, b), name)| format!("{a}.{name}(x, [x] == {b} || {b})")),
            1 => two.prop_map(|(a, b)| format!("{a}.map(x, [x, {b}])")),
            1 => inner.prop_map(|a| format!("has({{'a': {a}}}.a)")),
        ]
    })
}

fn second_opinion(source: &str, value: &Value) -> Result<Value, String> {
    fn json(value: &cel::Value) -> Value {
        match value {
            cel::Value::List(items) => items.iter().map(json).collect(),
            cel::Value::Map(map) => {
                map.map.iter().map(|(key, item)| (key.to_string(), json(item))).collect()
            }
            cel::Value::Int(int) => (*int).into(),
            cel::Value::UInt(uint) => (*uint).into(),
            cel::Value::Float(double) => (*double).into(),
            cel::Value::String(text) => text.as_str().into(),
            cel::Value::Bool(bool) => (*bool).into(),
            _ => Value::Null,
        }
    }
    let program = cel::Program::compile(source).map_err(|error| error.to_string())?;
    let mut context = cel::Context::default();
    context.add_variable("value", value).map_err(|error| error.to_string())?;
    program.execute(&context).map(|value| json(&value)).map_err(|error| error.to_string())
}

#[test]
fn it_agrees_with_the_crates_own_evaluation() {
    let value = json!({ "n": -5, "t": "text", "l": [-3, "x", null], "m": { "a": { "b": -1 } } });
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_500) };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let run = runner.run(&expressions(), |source| {
        // It lets maps be added to lists.
        if source.contains('+') && (source.contains('{') || source.contains("value.m")) {
            return Ok(());
        }
        let ours = evaluate(&source, &value);
        let theirs = second_opinion(&source, &value);
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs, "{}", source),
            (Err(_), Err(_)) => {}
            _ => prop_assert!(false, "{source}: {ours:?} {theirs:?}"),
        }
        Ok(())
    });
    run.unwrap();
}
