//! How long, how deep and how odd a source or a value may be.

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::json;

use super::{super::Cel, evaluate, order, refused};
use crate::{RunId, expr::Scope};

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

#[test]
fn a_long_text_is_no_number() {
    for source in ["int(value)", "uint(value)", "double(value)"] {
        let digits = |count: usize| json!(format!("{}7", "0".repeat(count - 1)));
        assert!(evaluate(source, &digits(64)).is_ok(), "{source}");
        let error = evaluate(source, &digits(65)).expect_err(source);
        assert!(error.message.contains("the text is no"), "{source}: {error}");
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
