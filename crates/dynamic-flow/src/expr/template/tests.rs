use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{BUDGET, Meter, Template};
use crate::{ErrorKind, RunId, ToolError, expr::Scope};

fn render(source: &str, value: &Value) -> Result<String, ToolError> {
    let vars = BTreeMap::from([("limit".to_owned(), json!(100).into())]);
    let run_id = RunId::from_bytes([7; 16]);
    let scope = Scope { value, vars: &vars, input: &json!({ "by": "ann" }), run_id };
    Template::compile(source).unwrap_or_else(|error| panic!("{source}: {error}")).render(scope)
}

fn order() -> Value {
    json!({
        "id": "A-7", "total": 120, "rate": 1.5, "none": null, "done": true, "empty": [],
        "items": [{ "sku": "x", "n": 1 }, { "sku": "y", "n": 2 }],
    })
}

#[track_caller]
fn gives(source: &str, expected: &str) {
    assert_eq!(render(source, &order()).as_deref(), Ok(expected), "{source}");
}

#[track_caller]
fn fails(source: &str, message: &str) {
    let error = render(source, &order()).expect_err(source);
    assert_eq!(error.message, message, "{source}");
    assert_eq!((error.code.as_str(), error.retryable), ("expression", false));
}

#[track_caller]
fn refused(source: &str, message: &str) {
    let error = Template::compile(source).expect_err(source);
    assert_eq!(error.kind(), ErrorKind::InvalidFlow);
    assert!(error.message().contains(message), "{error}");
}

#[test]
fn values_are_shown_as_texts_or_json() {
    gives("", "");
    gives("plain { text } 100 % {", "plain { text } 100 % {");
    gives("{{ value.id }} {{value.total}} {{ value.rate }} {{ value.done }}", "A-7 120 1.5 true");
    gives("{{ value.none }} {{ value.items[0] }}", r#"null {"sku":"x","n":1}"#);
    gives("{{ vars.limit + 1 }} {{ input.by }}", "101 ann");
    gives("{{ '<b> }} {% \\' ' + \"{{\" }}", "<b> }} {% ' {{");
    gives("{{ {'a': {'b': 1}}.a.b }}", "1");
    gives("a {# not {{ this }} #}b", "a b");
    gives("a  {{- 1 -}}  b {#- -#} c", "a1bc");
    gives("{{ duration('90s') }} {{ true || false }}", "90s true");
}

#[test]
fn filters_are_functions_of_what_stands_before_them() {
    gives("{{ value.id | lower | upper }}{{ 'é' | upper }}", "A-7É");
    gives(
        "{{ value.total | fixed(2) }} {{ 2.345 | fixed(1) }} {{ 2.5 | round }}",
        "120.00 2.3 3.0",
    );
    gives("{{ [1, 'a', null] | join(', ') }} {{ value.items | length }}", "1, a, null 2");
    gives("{{ value.items | first | json }} {{ [1, 2] | last }}", r#"{"sku":"x","n":1} 2"#);
    gives("{{ value.no.more | default('none') | upper }}{{ value.none | default(1) }}", "NONE1");
    gives("{{ vars.no | default(vars.limit) }} {{ value.empty | first | default('-') }}", "100 -");
    gives("{{ ' a|b ' | trim | split('|') | join('+') | replace('+', ' ') }}", "a b");
    fails("{{ 1 / 0 | default(1) }}", "line 1: division by zero");
    fails("{{ value.id | fixed(2) }}", "line 1: fixed does not work for string, int");
    fails("{{ 1 | fixed(10) }}", "line 1: fixed: the number of digits is not from 0 to 9");
    refused(
        "{{ value.id | shout }}",
        "line 1: there is no filter shout; known are `bool`, `bytes`,",
    );
    refused("{{ value.id | uper }}", "line 1: there is no filter uper; did you mean `upper`?");
    refused("{{ value.id | defualt('?') }}", "there is no filter defualt; did you mean `default`?");
    refused("{{ max(1, 2) }}", "there is no function max; did you mean `math.greatest`?");
    refused("{{ value.id | upper(1) }}", "upper does not take 1 arguments");
    refused("{{ value.id | 'x' }}", "must be the name of a filter");
    refused(&format!("{{{{ 'a' {} }}}}", "| upper".repeat(11)), "more than 10 filters");
}

#[test]
fn conditions_and_loops() {
    let sized = "{% if value.total > vars.limit %}big{% elif value.total > 50 %}middle{% else %}small{% endif %}";
    gives(sized, "big");
    let sized = |total: u64| render(sized, &json!({ "total": total })).unwrap();
    assert_eq!([sized(101), sized(100), sized(50)], ["big", "middle", "small"]);
    gives("{% if value.done %}{% if !value.done %}a{% endif %}b{% endif %}c", "bc");
    gives("{% for i in value.items %}{{ i.n }}x{{ i.sku }} {% endfor %}", "1xx 2xy ");
    gives("{% for k in value.items[0] %}{{ k }}{% endfor %}", "skun");
    gives("{% for i in value.empty %}{{ i }}{% else %}nothing{% endfor %}", "nothing");
    gives(
        "{% for a in [1, 2] %}{% for b in [a, a * 10] %}{{ a + b }} {% endfor %}{{ a }};{% endfor %}",
        "2 11 1;4 22 2;",
    );
    gives("{% for a in [1] %}{% for a in [2] %}{{ a }}{% endfor %}{{ a }}{% endfor %}", "21");
    gives("{% for i in value.items | reverse %}{{ [1].map(x, x + i.n)[0] }}{% endfor %}", "32");
    gives("a\n{%- for i in [1, 2] %}\n- {{ i }}\n{%- endfor %}\nb", "a\n- 1\n- 2\nb");
    fails("a\n{% if value.items %}{% endif %}", "line 2: if needs a bool, not list");
    fails("{% for i in value.total %}{% endfor %}", "line 1: int can't be walked through");
}

#[test]
fn what_is_missing_is_an_error_that_names_it() {
    fails("a\n\nb {{ value.cost }}", "line 3: no such key: cost");
    fails("{{ vars.no }}", "line 1: no such variable: no");
    fails("{% for i in value.items %}\n{{ i.price }}{% endfor %}", "line 2: no such key: price");
    refused("a\n{{ order.id }}", "line 2: there is no name order");
    refused("{% for i in [1] %}{% endfor %}{{ i }}", "no name i");
}

#[test]
fn malformed_sources_are_refused_with_their_line() {
    refused("a\n{{ value.id", "line 2: {{ is not closed by }}");
    refused("{% if true", "line 1: {% is not closed by %}");
    refused("{# x", "line 1: {# is not closed by #}");
    refused("\n{% if true %}", "line 2: if is not ended by endif");
    refused("{% if true %}{% endfor %}", "if is not ended by endif");
    refused("{% if true %}{% else %}", "else is not ended by endif");
    refused("{% if true %}{% else %}{% elif true %}{% endif %}", "else is not ended by endif");
    refused("{% for i in [1] %}{% endif %}", "for is not ended by endfor");
    refused("{% for 1 in [1] %}{% endfor %}", "for must read: for NAME in LIST");
    refused("a {% endif %}", "line 1: endif has nothing to end");
    refused("{% set a = 1 %}", "there is no tag set");
    refused("{% include 'x' %}", "there is no tag include");
    refused("{{ }}", "line 1, column ");
    refused("{{ 1 + }}", "line 1, column 7: ");
}

#[test]
fn sources_over_the_bounds_are_refused() {
    refused(&"x".repeat(20_000), "is 20000 bytes long");
    refused(&"{{1}}".repeat(1_001), "more than 1000 brackets");
    refused(&"{% if true %}".repeat(11), "nested more than 10 levels");
    refused(
        &format!("{{% if true %}}{}{{% endif %}}", "{% elif true %}".repeat(11)),
        "nested more",
    );
    refused(&format!("{{{{ {}1 }}}}", "1+".repeat(60)), "nested more than 50 levels");
    refused(&"{{ 'a'.matches('a') }}".repeat(11), "more than 10 matches");
}

#[test]
fn what_runs_away_is_stopped() {
    let run = |source: &str| {
        let value: Value = (0..1_000).collect();
        let (vars, run_id) = (BTreeMap::new(), RunId::from_bytes([0; 16]));
        let scope = Scope { value: &value, vars: &vars, input: &Value::Null, run_id };
        let meter = Meter::new(BUDGET);
        let error =
            Template::compile(source).unwrap().render_within(&meter, scope).expect_err(source);
        (error.message, meter.left())
    };
    let each = |body: &str| {
        format!(
            "{0}{1}{2}{body}{3}{3}{3}",
            "{% for a in value %}", "{% for b in value %}", "{% for c in value %}", "{% endfor %}"
        )
    };
    for source in [
        each(""),
        each("{% if a + b == c %}x{% endif %}"),
        each("{% if value == value.map(x, x) %}x{% endif %}"),
        "{% for a in value %}{% for b in value.map(x, value) %}{% endfor %}{% endfor %}".into(),
        "{{ value.map(a, value.map(b, 'abcdefgh')) | json | length }}".into(),
    ] {
        let (message, left) = run(&source);
        assert_eq!(
            message, "line 1: the template costs more than 400000 units of work",
            "{source}"
        );
        assert_eq!(left, 0);
    }
    let (message, left) = run(
        "{% for a in value %}0123456789012345678901234567890123456789012345678901234567890123456789{% endfor %}",
    );
    assert_eq!(message, "line 1: the template writes more than 65536 bytes");
    assert!(left > BUDGET / 2);
}

#[test]
fn no_source_panics() {
    const PIECES: [&str; 30] = [
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "-",
        " if ",
        " elif ",
        " else ",
        " endif ",
        " for x in ",
        " endfor ",
        "value",
        ".items",
        "x",
        " | ",
        "upper",
        "default(1)",
        "'",
        "\"",
        "\\",
        "é",
        "\n",
        " ",
        "true",
        "[1]",
        "{",
        "}",
        "{% if true %}",
    ];
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(|| {
        let pieces = prop::collection::vec(prop::sample::select(PIECES.as_slice()), 0..40);
        let sources = prop_oneof![pieces.prop_map(|pieces| pieces.concat()), any::<String>()];
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(4_000)
        });
        let value = order();
        let run = runner.run(&sources, |source| {
            if let Ok(template) = Template::compile(&source) {
                let (vars, run_id) = (BTreeMap::new(), RunId::from_bytes([0; 16]));
                let _ =
                    template.render(Scope { value: &value, vars: &vars, input: &value, run_id });
            }
            Ok(())
        });
        run.unwrap();
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn it_is_told_by_its_source_and_knows_its_variables() {
    let source = "{{ vars.a }}{% if has(vars.b) %}{{ vars['c'] | default(vars.d) }}{% endif %}";
    let template = Template::compile(source).unwrap();
    assert_eq!(template.variables().into_iter().collect::<Vec<_>>(), ["a", "c", "d"]);
    assert_eq!(json!(template), json!(source));
    assert_ne!(template, Template::compile("x").unwrap());
    assert_eq!(format!("{template:?}"), format!("{source:?}"));
    assert!(Template::compile("{{").is_err());
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Template>();
}
