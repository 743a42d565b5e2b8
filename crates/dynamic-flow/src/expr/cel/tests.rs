mod second_opinion;

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use super::{BUDGET, Cel, Meter};
use crate::{ErrorKind, RunId, ToolError, expr::Scope};

fn evaluate(source: &str, value: &Value) -> Result<Value, ToolError> {
    let vars = BTreeMap::from([("limit".to_owned(), json!(100)), ("odd key".to_owned(), json!(1))]);
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
    refused("now()", "no function now");
    refused("value.size(1)", "size does not take 1 arguments");
    refused("contains('a', 'b')", "called as ….contains(…)");
    refused("'a'.int()", "called as int(…)");
    refused("a.b.C{d: 1}", "no message type a.b.C");
    refused("value.?a", "unsupported");
    refused("1 +", "line 1, column 4");
    refused("value.a\n  == ==", "line 2");
    refused("", "");
}

#[test]
fn sources_over_the_bounds_are_refused() {
    let around = |open: &str, inner: &str, close: &str, times| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    refused(&"1 ".repeat(3_000), "is 6000 bytes long");
    refused(&around("", "1", "+1", 60), "nested more than 50 levels");
    refused(&around("", "1", "+1", 2_000), "nested more than 50 levels");
    refused(&around("", "value", ".a", 2_000), "nested more than 50 levels");
    refused(&around("", "value", "[0]", 1_300), "nested more than 50 levels");
    refused(&around("", "1", ".f()", 1_000), "more than 256 parentheses");
    refused(&around("(1+", "1", ")", 200), "recursion limit");
    refused(&around("[", "1", "]", 2_000), "recursion limit");
    refused(&around("{1:", "1", "}", 1_000), "recursion limit");
    refused(&around("true?1:", "1", "", 60), "nested more than 50 levels");
    refused(&around("true?1:", "1", "", 580), "more than 100 question marks");
    refused(&around("true?", "1", ":1", 580), "more than 100 question marks");
    refused(&around("!-", "1", "", 2_000), "nested more than 50 levels");
    refused(&format!("[{}1]", "1,".repeat(1_000)), "more than 1000 parts");
    refused(&around("[1].all(a, ", "true", ")", 4), "more than 3 loops");
    refused(&format!("[{}]", "'a'.matches('a'),".repeat(11)), "more than 10 matches");
    refused(r"'a'.matches('\\w{100}')", "too large");
    refused(&format!("'a'.matches('{}')", "a".repeat(300)), "longer than 256");
    Cel::compile(&around("", "1", "+1", 40)).unwrap();
    Cel::compile(&around("[1].all(a, ", "true", ")", 3)).unwrap();
    Cel::compile(&around("(", "1", ")", 200)).unwrap();
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
    let vars = BTreeMap::new();
    for source in runaways() {
        let cel = Cel::compile(&source).unwrap_or_else(|error| panic!("{source}: {error}"));
        let meter = Meter::new(BUDGET);
        let run_id = RunId::from_bytes([0; 16]);
        let scope = Scope { value: &value, vars: &vars, input: &Value::Null, run_id };
        let error = cel.evaluate_within(&meter, scope).expect_err(&source);
        assert_eq!(
            error.message, "the expression costs more than 400000 units of work",
            "{source}"
        );
        assert_eq!((error.code.as_str(), error.retryable), ("expression", false));
        assert_eq!(meter.left(), 0, "{source}");
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
    let meter = Meter::new(BUDGET);
    let (vars, run_id) = (BTreeMap::new(), RunId::from_bytes([0; 16]));
    let scope = Scope { value: &list, vars: &vars, input: &list, run_id };
    Cel::compile("size(value)").unwrap().evaluate_within(&meter, scope).unwrap();
    assert!(meter.left() > BUDGET - 10, "what is only looked at costs nothing");
}

/// Each in units, so that no work is ever left out of the bill unnoticed.
#[test]
fn each_kind_of_work_has_its_price() {
    let value = json!({ "list": vec![1; 100], "text": "a".repeat(800), "map": { "k": 1, "l": 2 } });
    let cost = |source: &str| {
        let meter = Meter::new(BUDGET);
        let (vars, run_id) = (BTreeMap::new(), RunId::from_bytes([0; 16]));
        let scope = Scope { value: &value, vars: &vars, input: &value, run_id };
        Cel::compile(source).unwrap().evaluate_within(&meter, scope).expect(source);
        BUDGET - meter.left()
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
fn a_long_text_is_no_number() {
    for source in ["int(value)", "uint(value)", "double(value)"] {
        let digits = |count: usize| json!(format!("{}7", "0".repeat(count - 1)));
        assert!(evaluate(source, &digits(64)).is_ok(), "{source}");
        let error = evaluate(source, &digits(65)).expect_err(source);
        assert!(error.message.contains("the text is no"), "{source}: {error}");
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
        let meter = Meter::new(BUDGET);
        let run_id = RunId::from_bytes([0; 16]);
        let scope = Scope { value: &value, vars: &BTreeMap::new(), input: &value, run_id };
        Cel::compile(source).unwrap().evaluate_within(&meter, scope).expect(source);
        assert!(meter.left() > BUDGET / 2, "{source}: {}", meter.left());
    }
}

/// Half of what a worker thread has, since others stand on the stack too.
fn on_a_small_stack(body: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(body).unwrap();
    thread.join().unwrap();
}

#[test]
fn deep_sources_do_not_overflow_the_stack() {
    on_a_small_stack(|| {
        for piece in [
            "(",
            "[",
            "{1:",
            "{",
            "-",
            "!",
            "!-",
            "1+",
            "a.",
            "a[",
            "f(",
            "a?",
            "a?1:",
            "1?a:b?",
            "x.all(a,",
            "[1].map(x, ",
            "a.b{c:",
            "1&&",
            "a||(",
            "'",
            "\"\"\"",
            "r'",
            "1 in ",
            "`",
            "((",
            "(a)(",
            "a.f().",
        ] {
            for close in ["", ")", "]", "}", ":1"] {
                let times = 4_090 / (piece.len() + close.len());
                let source = format!("{}1{}", piece.repeat(times), close.repeat(times));
                let _ = Cel::compile(&source);
            }
        }
        // The deepest that is allowed is also evaluated, compared, written out and dropped.
        let deep = format!("{}value{}", "[".repeat(48), "]".repeat(48));
        evaluate(&format!("{deep} == {deep} ? [{deep}] : []"), &json!([[[1]]])).unwrap();
    });
}

#[test]
fn values_nested_too_deeply_are_refused() {
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let error = evaluate("value", &deep).unwrap_err();
    assert_eq!(error.message, "a value is nested more than 150 levels deep");
    assert!(evaluate("value == value", &deep).is_err());
    assert_eq!(evaluate("size(value)", &deep), Ok(json!(1)));
}

#[test]
fn no_source_panics() {
    const WORDS: [&str; 50] = [
        "value",
        "vars",
        "input",
        "x",
        "y",
        ".items",
        ".a",
        "[0]",
        "['a']",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "?",
        "+",
        "-",
        "*",
        "/",
        "%",
        "==",
        "<",
        "in",
        "&&",
        "||",
        "!",
        "1",
        "0",
        "2u",
        "1.5",
        "1e308",
        "9223372036854775807",
        "'é'",
        "b'x'",
        "null",
        "true",
        ".map(x,",
        ".all(x,",
        ".filter(y,",
        "has(",
        "size(",
        "timestamp(",
        "duration(",
        ".matches('a*')",
        ".split(",
        ".substring(",
        "math.least(",
    ];
    on_a_small_stack(|| {
        let words = prop::collection::vec(prop::sample::select(WORDS.as_slice()), 0..30);
        let sources = prop_oneof![words.prop_map(|words| words.join(" ")), any::<String>()];
        let mut runner = TestRunner::new(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(4_000)
        });
        let value = order();
        let run = runner.run(&sources, |source| {
            if let Ok(cel) = Cel::compile(&source) {
                let run_id = RunId::from_bytes([0; 16]);
                let scope = Scope { value: &value, vars: &BTreeMap::new(), input: &value, run_id };
                let _ = cel.evaluate(scope);
            }
            Ok(())
        });
        run.unwrap();
    });
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
fn it_is_data() {
    let cel = Cel::compile("value.a + 1").unwrap();
    let text = serde_json::to_string(&cel).unwrap();
    assert_eq!(text, "\"value.a + 1\"");
    assert_eq!(serde_json::from_str::<Cel>(&text).unwrap(), cel);
    assert_ne!(cel, Cel::compile("value.a +1").unwrap());
    assert_eq!(format!("{cel:?}"), "\"value.a + 1\"");
    assert!(serde_json::from_str::<Cel>("\"value.\"").is_err());
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Cel>();
}
