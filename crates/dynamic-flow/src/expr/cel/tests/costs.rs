//! What work costs, and that none is done that is not paid for.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    super::{BUDGET, Cel, Meter},
    evaluate,
};
use crate::{RunId, ToolError, expr::Scope};

/// What an expression comes to within the budget, and how much of that is left.
fn metered(source: &str, value: &Value) -> (Result<Value, ToolError>, usize) {
    let cel = Cel::compile(source).unwrap_or_else(|error| panic!("{source}: {error}"));
    let meter = Meter::new(BUDGET);
    let (vars, run_id) = (BTreeMap::new(), RunId::from_bytes([0; 16]));
    let scope = Scope { value, vars: &vars, input: &Value::Null, run_id };
    (cel.evaluate_within(&meter, scope), meter.left())
}

/// What would run away for seconds or fill the memory.
fn runaways() -> Vec<String> {
    let nested = |body: &str| format!("value.all(a, value.all(b, value.all(c, {body})))");
    let doubled = |start: &str, times: usize| {
        let step = |inner: String| format!("[{inner}].map(x, x + x)[0]");
        (0..times).fold(start.to_owned(), |inner, _| step(inner))
    };
    vec![
        nested("true"),
        nested("a + b + c >= 0"),
        nested("[a, b, c] + [a] != []"),
        // An error in each round must not make the rounds free.
        nested("1 / 0 == 1"),
        "value.exists(a, value.exists(b, value.exists(c, c.no)))".into(),
        "value.map(a, value.map(b, value))".into(),
        "value.map(a, value + value)".into(),
        "value.map(a, string(value.map(b, '0123456789').join()).size())".into(),
        "value.map(a, value.map(b, 'xxxxxxxxxxxxxxxx').join('yyyyyyyyyyyyyyyyyyyyyyyy'))".into(),
        "value.map(a, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaa').join().replace('a', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb').replace('b', 'cccccccccccccccccccccccccccccccccccc')".into(),
        "value.map(a, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaa').join().matches('(a|aa|aaa)*b')".into(),
        "value.map(a, value == value.map(b, b))".into(),
        "value.filter(a, value.map(b, b) + [a] == value)".into(),
        "value.all(a, value.exists(b, b in value.map(c, c * 2 + 1)))".into(),
        "value.map(a, {'k': value.map(b, {'k': a})})".into(),
        doubled("'0123456789abcdef'", 12) + ".split('')",
        // Shared in memory, but 3^15 texts when it is written out.
        (0..15).fold("'abc'".to_owned(), |inner, _| format!("[{inner}].map(x, [x, x, x])[0]")),
    ]
}

#[test]
fn what_runs_away_is_stopped_within_its_budget() {
    let value: Value = (0..1_000).collect();
    for source in runaways() {
        let (outcome, left) = metered(&source, &value);
        let error = outcome.expect_err(&source);
        assert_eq!(
            error.message, "the expression costs more than 400000 units of work",
            "{source}"
        );
        assert_eq!((error.code.as_str(), error.retryable), ("expression", false));
        assert_eq!(left, 0, "{source}");
    }
}

#[test]
fn what_can_not_be_paid_for_is_not_begun() {
    let text = json!("a".repeat(60_000));
    let list: Value = (0..150_000).collect();
    for (source, value) in [
        ("value.replace('a', value)", &text),
        ("value.replace('', value)", &text),
        ("value.split('').join(value)", &text),
        ("value.split('')", &text),
        ("value + value", &list),
        ("size(value.map(x, x))", &list),
        ("value.map(x, string(x)).join()", &list),
        ("value", &list.as_array().map(|items| json!([items, items])).unwrap()),
    ] {
        let error = evaluate(source, value).expect_err(source);
        assert!(error.message.contains("units of work"), "{source}: {error}");
    }
    assert_eq!(evaluate("size(value + value)", &json!([1])), Ok(json!(2)));
    let (outcome, left) = metered("size(value)", &list);
    outcome.unwrap();
    assert!(left > BUDGET - 10, "what is only looked at costs nothing");
}

/// Each in units, so that no work is ever left out of the bill unnoticed.
#[test]
fn each_kind_of_work_has_its_price() {
    let value = json!({ "list": vec![1; 100], "text": "a".repeat(800), "map": { "k": 1, "l": 2 } });
    let cost = |source: &str| {
        let (outcome, left) = metered(source, &value);
        outcome.expect(source);
        BUDGET - left
    };
    for (source, units) in [
        ("1", 3),
        ("1 + 1", 5),
        ("value.text", 104),
        ("size(value.text)", 105),
        ("size(value.list)", 5),
        ("size(value.list + value.list)", 408),
        ("size(value.text + value.text)", 408),
        ("size(b'0123456789abcdef' + b'0123456789abcdef')", 14),
        ("size([1, 2, 3])", 13),
        ("size({'k': 1, 'l': 2})", 20),
        ("value.list == value.list", 108),
        ("value.text == value.text", 108),
        ("value.text < value.text", 107),
        ("value.map == value.map", 12),
        ("2 in value.list", 106),
        ("value.text in value.map", 107),
        ("[{}].exists(m, m[value.text] == 1) || true", 115),
        ("{value.text: 1} == {value.text: 1}", 326),
        ("size(value.list.map(x, x))", 406),
        ("size(value.list.filter(x, false))", 406),
        ("value.list.all(x, true)", 205),
        ("value.list.exists_one(x, true)", 205),
        ("size(value.map.map(k, k))", 18),
        ("value.map", 20),
        ("value.text.contains('b')", 206),
        ("size(value.text.lowerAscii())", 306),
        ("size(value.text.replace('a', 'bc'))", 1008),
        ("size(value.text.split('a'))", 5013),
        ("size(['ab', 'cd'].join('0123456789abcdef'))", 26),
        ("value.text.matches('b')", 12805),
        ("size(bytes(value.text))", 106),
        ("size(value.text.substring(1))", 406),
        ("size(string(1.5))", 69),
        ("math.greatest(value.list)", 205),
        ("size(value.list.reverse())", 206),
        ("timestamp(0).getHours('+01:00')", 226),
    ] {
        assert_eq!(cost(source), units, "{source}");
    }
}

#[test]
fn what_people_write_costs_a_small_part_of_the_budget() {
    let items: Vec<_> = (0..1_000).map(|n| json!({ "price": n, "sku": "ab-123456" })).collect();
    let value = json!({ "items": items });
    for source in [
        "value.items.filter(i, i.price > 10 && i.sku.startsWith('ab')).map(i, {'p': i.price * 1.2})",
        "value.items.filter(i, i.price < 100).all(i, i.sku.matches('^[a-z]+-[0-9]+$'))",
    ] {
        let (outcome, left) = metered(source, &value);
        outcome.expect(source);
        assert!(left > BUDGET / 2, "{source}: {left}");
    }
}
