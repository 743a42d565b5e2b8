mod bounds;
mod costs;
mod second_opinion;

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Cel;
use crate::{ErrorKind, RunId, ToolError, expr::Scope};

fn evaluate(source: &str, value: &Value) -> Result<Value, ToolError> {
    let vars = BTreeMap::from([
        ("limit".to_owned(), json!(100).into()),
        ("odd key".to_owned(), json!(1).into()),
    ]);
    let scope = Scope {
        value,
        vars: &vars,
        input: &json!({ "by": "ann" }),
        run_id: RunId::from_bytes([7; 16]),
    };
    Cel::compile(source).unwrap_or_else(|error| panic!("{source}: {error}")).evaluate(scope)
}

fn order() -> Value {
    json!({
        "total": 120, "rate": 1.5, "big": u64::MAX, "name": "Zoë", "none": null, "done": true,
        "items": [{ "price": 5, "tags": ["a"] }, { "price": 10, "tags": [] }],
        "at": "2026-01-31T12:30:00Z",
    })
}

#[track_caller]
fn gives(source: &str, expected: Value) {
    assert_eq!(evaluate(source, &order()), Ok(expected), "{source}");
}

#[track_caller]
fn fails(source: &str, message: &str) {
    let error = evaluate(source, &order()).expect_err(source);
    assert_eq!(error.message, message, "{source}");
    assert_eq!((error.code.as_str(), error.retryable), ("expression", false));
}

#[track_caller]
fn refused(source: &str, message: &str) {
    let error = Cel::compile(source).expect_err(source);
    assert_eq!(error.kind(), ErrorKind::InvalidFlow);
    assert!(error.message().contains(message), "{error}");
}

#[test]
fn json_goes_in_and_out_unchanged() {
    gives("value", order());
    gives("value.big", json!(u64::MAX));
    gives("value.rate", json!(1.5));
    gives(
        "[1, 2u, 3.0, 'x', null, true, {'a': {1: 2}}]",
        json!([1, 2, 3.0, "x", null, true, {"a": {"1": 2}}]),
    );
    gives("input.by + ' ' + run.id", json!(format!("ann {}", RunId::from_bytes([7; 16]))));
    gives("-9223372036854775808", json!(i64::MIN));
    gives("b'abc'", json!("YWJj"));
    gives("type(1) == int && type(null) == null_type", json!(true));
}

#[test]
fn numbers_of_different_types_work_together() {
    gives("value.total * 1.2", json!(144.0));
    gives("value.rate + 1", json!(2.5));
    gives("value.total / 7", json!(17));
    gives("value.total > 119.5 && 119.5 < value.total", json!(true));
    gives("value.big > value.total && value.big - 1 == 18446744073709551614u", json!(true));
    gives("value.big + 0 == value.big", json!(true));
    gives("9007199254740993 > 9007199254740992.0", json!(true));
    gives("1 == 1.0 && 1u == 1 && 2 in [1.0, 2.0]", json!(true));
    gives("{1: 'a'}[1.0]", json!("a"));
    gives("-7 % 3", json!(-1));
    fails("value.big + value.big", "+ overflows");
    fails("value.big * value.big", "* overflows");
    fails("9223372036854775807 + 1", "+ overflows");
    fails("value.total / 0", "division by zero");
    fails("1.0 / 0", "the result is not a finite number");
    fails("1.5 % 1", "% does not work for double and int");
}

#[test]
fn logic_gets_by_without_the_side_that_fails() {
    gives("value.nothing == 1 || true", json!(true));
    gives("value.nothing == 1 && false", json!(false));
    gives("[1, 0].exists(x, 1 / x == 1)", json!(true));
    gives("[0, 2].all(x, 1 / x == 1)", json!(false));
    gives("value.done ? 'yes' : value.nothing", json!("yes"));
    fails("value.nothing == 1 || false", "no such key: nothing");
    fails("[0, 1].all(x, 1 / x == 1)", "division by zero");
    fails("value.total && true", "&& needs a bool, not int");
}

#[test]
fn lists_and_maps_are_walked_through() {
    gives("value.items.map(i, i.price * 2)", json!([10, 20]));
    gives("value.items.map(i, i.price > 5, i.price)", json!([10]));
    gives("value.items.filter(i, size(i.tags) > 0).map(i, i.price)", json!([5]));
    gives("value.items.exists_one(i, i.price == 5)", json!(true));
    gives("[1, 1].exists_one(i, i == 1)", json!(false));
    gives("{'b': 1, 'a': 2}.map(k, k)", json!(["a", "b"]));
    gives("[1, 2].map(x, [3, 4].map(y, x * y))", json!([[3, 4], [6, 8]]));
    gives("[1].map(x, [2].map(x, x) + [x])", json!([[2, 1]]));
    gives("'price' in value.items[0] && !('x' in value.items[0])", json!(true));
    gives("has(value.rate) && !has(value.nothing) && has(vars.limit)", json!(true));
    gives("value == value && value.items != [] && {'a': [1]} == {'a': [1.0]}", json!(true));
    gives("value['items'][1].price + vars['odd key']", json!(11));
    fails("value.items[2]", "no such index: 2 (the list has 2 items)");
    fails("value.items[-1]", "no such index: -1 (the list has 2 items)");
    fails("value.items['a']", "[] does not work for list and string");
    fails("value.total.map(x, x)", "int can't be walked through");
    fails("{'a': 1, 'a': 2}", "a map has the same key twice");
    fails("{1: 1, '1': 2}", "the result has two keys that read the same as text");
    fails("{[1]: 2}", "list can't be a key");
}

#[test]
fn texts() {
    gives("size(value.name) + value.name.size()", json!(6));
    gives(
        "value.name.contains('oë') && value.name.startsWith('Z') && value.name.endsWith('ë')",
        json!(true),
    );
    gives("value.name.matches('^.o.$') && !matches(value.name, '^o')", json!(true));
    gives("' Ab '.trim().lowerAscii() + 'x'.upperAscii()", json!("abX"));
    gives("'a,b,c'.split(',').join('-') + ['x', 'y'].join()", json!("a-b-cxy"));
    gives("'aë'.split('')", json!(["a", "ë"]));
    gives("''.split(',') + ''.split('')", json!([""]));
    gives("'hallo'.replace('l', 'LL')", json!("haLLLLo"));
    gives(
        "'Zoë!'.substring(2) + 'Zoë!'.substring(0, 2) + 'Zoë'.charAt(2) + 'abc'.reverse()",
        json!("ë!Zoëcba"),
    );
    gives("'Zoëx'.indexOf('x') * 10 + 'xx'.lastIndexOf('x') + 'a'.indexOf('b')", json!(30));
    gives("'a' < 'b' && string(12) + string(1.5) + string(true) == '121.5true'", json!(true));
    fails("'abc'.substring(2, 9)", "substring: the range is outside of the text");
    fails("'a' + 1", "+ does not work for string and int");
    fails("'a' < 1", "< does not work for string and int");
    fails("size(1)", "size does not work for int");
    gives(
        r"'ann.b@c-d.example'.matches('^\\w+([.-]\\w+)*@\\w+([.-]\\w+)*\\.\\w{2,}$')",
        json!(true),
    );
    refused("'a'.matches(value.name)", "must be written out");
    refused("'a'.matches('(')", "no regular expression");
}

#[test]
fn conversions_and_numbers() {
    gives("[int('12'), int(2.9), int(-2.9), int(true ? 7u : 0u)]", json!([12, 2, -2, 7]));
    gives("[double('1.5'), double(2), double(3u)]", json!([1.5, 2.0, 3.0]));
    gives("uint(3) + 1u", json!(4));
    gives("bool('true') && !bool('0')", json!(true));
    gives("string(bytes('é')) + string(b'x')", json!("éx"));
    gives(
        "[math.round(2.5), math.floor(-0.5), math.ceil(0.5), math.abs(-3), math.round(4)]",
        json!([3.0, -1.0, 1.0, 3, 4]),
    );
    gives("math.greatest(1, 2.5, 2u) + math.least([3, 2])", json!(4.5));
    fails("int('x')", "int: the text is no whole number");
    fails("int(1e30)", "int: out of range");
    fails("uint(-1)", "uint: out of range");
    fails("int(0.0 / 0.0)", "int: out of range");
    fails("math.greatest([])", "math.greatest: there are no items");
}

#[test]
fn times() {
    gives("timestamp(value.at) + duration('1h30m')", json!("2026-01-31T14:00:00Z"));
    gives("timestamp('2026-02-01T00:00:00Z') - timestamp(value.at)", json!("41400s"));
    gives("duration('1.5s') - duration('2s')", json!("-0.5s"));
    gives("timestamp(value.at) > timestamp(0) && duration('90m') == duration(5400)", json!(true));
    gives(
        "[timestamp(value.at)].map(t, [t.getFullYear(), t.getMonth(), t.getDate(), t.getDayOfWeek(), t.getHours('+02:00'), t.getMinutes('-00:45')])",
        json!([[2026, 0, 31, 6, 14, 45]]),
    );
    gives("duration('1h30m').getMinutes()", json!(90));
    gives("int(timestamp(value.at))", json!(1_769_862_600));
    fails("timestamp(value.name)", "timestamp: it is no time such as 2026-01-31T12:00:00Z");
    fails("duration('3 apples')", "duration: it is no duration such as 1h30m");
    fails("timestamp(value.at).getHours('Nowhere/At_All')", "getHours: there is no such time zone");
    fails("timestamp('9999-12-30T00:00:00Z') + duration('200000h')", "+ leaves the range of times");
}

#[test]
fn errors_name_what_is_missing_and_no_value() {
    fails("value.items[0].cost", "no such key: cost");
    fails("vars.nothing", "no such variable: nothing");
    fails("value.total.x", "no such key: x (int has none)");
    fails("value[value.name]", "no such key");
    fails("value.name - value.name", "- does not work for string and string");
}

#[test]
fn names_are_known_when_it_is_compiled() {
    let cel = Cel::compile(
        "vars.a + vars['b'].c + [1].map(vars, vars.not)[0] + (has(vars.d) ? 1 : 2) + size(vars)",
    );
    let names: Vec<_> = cel.unwrap().variables().into_iter().collect();
    assert_eq!(names, ["a", "b"]);
    refused("foo.bar", "no name foo");
    refused("[1].map(x, y)", "no name y");
    refused("[1].map(x, x)[0] + x", "no name x");
    refused("run.key", "run has no field key");
    refused("now()", "no function now; known are `size`, `type`,");
    for (wrong, right) in [
        ("max(1, 2)", "math.greatest"),
        ("math.min(1, 2)", "math.least"),
        ("round(value.rate)", "math.round"),
        ("len(value.items)", "size"),
        ("value.id.Contains('A')", "contains"),
        ("value.id.upper()", "upperAscii"),
        ("value.id.startWith('A')", "startsWith"),
    ] {
        refused(wrong, &format!("; did you mean `{right}`?"));
    }
    refused("value.size(1)", "size does not take 1 arguments");
    refused("contains('a', 'b')", "called as ….contains(…)");
    refused("'a'.int()", "called as int(…)");
    refused("a.b.C{d: 1}", "no message type a.b.C");
    refused("value.?a", "unsupported");
    refused("1 +", "line 1, column 4");
    refused("value.a\n  == ==", "line 2");
    refused("", "");
}

proptest! {
    #[test]
    fn numbers_compute_as_in_rust(one: i64, two: i64, double: f64) {
        let value = json!({ "one": one, "two": two, "double": double });
        let run = |source: &str| evaluate(source, &value).ok();
        prop_assert_eq!(run("value.one + value.two"), one.checked_add(two).map(Value::from));
        prop_assert_eq!(run("value.one * value.two"), one.checked_mul(two).map(Value::from));
        prop_assert_eq!(run("value.one / value.two"), one.checked_div(two).map(Value::from));
        prop_assert_eq!(run("value.one < value.two"), Some(json!(one < two)));
        if double.is_finite() {
            prop_assert_eq!(run("value.double"), Some(json!(double)));
            prop_assert_eq!(run("value.one == value.double"), run("value.double == value.one"));
            prop_assert_eq!(run("value.one < value.double"), run("value.double > value.one"));
        }
    }
}

#[test]
fn it_is_told_by_its_source() {
    let cel = Cel::compile("value.a + 1").unwrap();
    assert_eq!(json!(cel), json!("value.a + 1"));
    assert_ne!(cel, Cel::compile("value.a +1").unwrap());
    assert_eq!(format!("{cel:?}"), "\"value.a + 1\"");
    assert!(Cel::compile("value.").is_err());
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Cel>();
}
