//! What can be known of expressions before they run: the fields that a value has, and what an
//! expression can do with them.

use super::*;

/// The findings of an expression, behind a check of the value.
fn of(schema: &str, expression: &str) -> Vec<String> {
    told(&format!(
        "  - {{ id: in, input: {schema} }}\n  - {{ id: s, set: \"${{ {expression} }}\" }}\n"
    ))
}

/// What is wrong with an expression, behind a check of the value.
fn wrong(schema: &str, expression: &str) -> String {
    let told = of(schema, expression);
    assert_eq!(told.len(), 1, "{schema} {expression}: {told:#?}");
    told[0].strip_prefix("4:19: s: `set`: ").unwrap_or_else(|| panic!("{told:?}")).to_owned()
}

const CLOSED: &str = "{ type: object, properties: { a: { type: integer }, t: { type: string }, \
                      l: { type: array, items: { type: object, properties: { n: { type: string } }, \
                      additionalProperties: false } }, \
                      o: { type: object, properties: { p: { type: boolean } }, \
                      additionalProperties: false }, d: {} }, additionalProperties: false }";

#[test]
fn a_field_that_is_never_there_is_told() {
    let approval = "  - { id: ask, await_input: { preset: approval } }\n";
    assert_eq!(
        told(&format!("{approval}  - {{ id: f, filter: \"${{ value.aproved }}\" }}\n")),
        ["4:22: f: `filter`: `value` never has a field `aproved`; did you mean `approved`?"]
    );
    assert_eq!(
        told("  - { id: m, set: { total: 1 } }\n  - { id: f, filter: \"${ value.y > 1 }\" }\n"),
        ["4:22: f: `filter`: `value` never has a field `y`; known are `total`"]
    );
    let text = "flow: f
input: { type: object, properties: { a: { type: integer } }, additionalProperties: false }
steps:
  - { id: m, set: \"${ value.b }\" }
  - { id: n, set: \"${ input.b }\" }
  - { id: l, let: { x: \"${ input }\", y: { z: \"${ input.a }\" } } }
  - id: v
    set:
      a: \"${ vars.x.b + vars.y.z + vars.y.b }\"
      t: 'For {{ vars.x.c }}'
  - id: k
    keep: [{ id: s, set: { c: 1 } }]
  - { id: w, set: \"${ value[0].a + value[1].d + value[0].e }\" }
";
    assert_eq!(
        findings(text),
        [
            "4:19: m: `set`: `value` never has a field `b`; did you mean `a`?",
            "5:19: n: `set`: `input` never has a field `b`; did you mean `a`?",
            "9:10: v: `set`.a: `vars.x` never has a field `b`; did you mean `a`?",
            "9:10: v: `set`.a: `vars.y` never has a field `b`; did you mean `z`?",
            "10:10: v: `set`.t: line 1: `vars.x` never has a field `c`; did you mean `a`?",
            "13:19: w: `set`: `value[1]` never has a field `d`; did you mean `c`?",
            "13:19: w: `set`: `value[0]` never has a field `e`; did you mean `a`?",
        ]
    );
}

#[test]
fn fields_are_followed_wherever_an_expression_goes() {
    for (expression, start) in [
        ("value['b']", "`value` never has a field `b`"),
        ("value.o.q", "`value.o` never has a field `q`; did you mean `p`?"),
        ("value.o.p ? 1 : value.x", "`value` never has a field `x`"),
        ("{'k': [value.x]}", "`value` never has a field `x`"),
        ("size(value.x)", "`value` never has a field `x`"),
        ("-value.x", "`value` never has a field `x`"),
        ("value.l.map(it, it.m)", "`it` never has a field `m`; did you mean `n`?"),
        ("value.l[0].m", "`value.l[0]` never has a field `m`"),
        ("value.l.filter(it, it.n == 'x')[0].m", "it never has a field `m`"),
        ("value.a.b", "`value.a` is number, which has no field `b`"),
        ("value.t.b", "`value.t` is string, which has no field `b`"),
        ("has(value.x.y)", "`value` never has a field `x`"),
        ("(value.a > 1 ? value.o : value.o).q", "it never has a field `q`"),
    ] {
        let wrong = wrong(CLOSED, expression);
        assert!(wrong.starts_with(start), "{expression}: {wrong}");
    }
    // All of them at once, and each once.
    let all = of(CLOSED, "value.x + value.y + value.x");
    assert_eq!(all.len(), 2, "{all:#?}");
}

#[test]
fn operands_that_never_fit_are_told() {
    for (expression, expected) in [
        ("value.t > 1", "`>` never works for string and number"),
        ("value.t + 1", "`+` never works for string and number"),
        ("value.t - value.t", "`-` never works for string and string"),
        ("value.l * 2", "`*` never works for list and number"),
        ("1 < value.o", "`<` never works for number and map"),
        ("value.a in value.t", "`in` never works for number and string"),
        ("'a' in value.a", "`in` never works for string and number"),
        ("!value.t", "`!` needs a bool, not string"),
        ("-value.t", "`-` never works for string"),
        ("value.t && value.d", "`&&` needs a bool, not string"),
        ("value.d || value.a", "`||` needs a bool, not number"),
        ("value.a ? 1 : 2", "`?:` needs a bool, not number"),
        ("value.a.contains('x')", "`contains` never works for number, string"),
        ("value.t.contains(1)", "`contains` never works for string, number"),
        ("size(value.a)", "`size` never works for number"),
        (
            "value.t.map(it, it)",
            "`map`, `filter` and the like walk through a list or map, not string",
        ),
        ("value.l.all(it, it.n)", "`all` needs a bool, not string"),
        ("value.l.exists(it, 1)", "`exists` needs a bool, not number"),
        ("value.a.matches('x')", "`matches` needs a string, not number"),
        ("value.l['a']", "`[]` never works for list and string"),
        ("timestamp(value.t) > value.t", "`>` never works for timestamp and string"),
        ("value.t.size() > 'x'", "`>` never works for number and string"),
    ] {
        assert_eq!(wrong(CLOSED, expression), expected, "{expression}");
    }
}

#[test]
fn what_may_be_right_is_not_told() {
    for expression in [
        "has(value.x)",
        "has(value.x) && value.x > 1",
        "has(value.x) ? value.x : 1",
        "!has(value.x) || value.x",
        "!has(value.x) ? 1 : value.x",
        "'x' in value && value.x > 1",
        "value.d.x > 1",
        "value.d > 1 && value.d.y",
        "dyn(value.t) > 1",
        "value.t == 1",
        "value.t != null",
        "value.t in [1, 2]",
        "value.t in value.o",
        "value.a * 1.5 + 2u",
        "value.t + 'x' < 'y'",
        "value.l + [1]",
        "value[value.t]",
        "value.l[value.a].n",
        "value.l.map(it, it.n)",
        "value.l.all(it, it.n > 'a')",
        "value.o.map(k, k + 'x')",
        "value.map(k, k == 'a')",
        "vars",
        "vars.map(k, k)",
        "run.id.startsWith('a')",
        "timestamp(value.t) + duration('1h') > timestamp(0)",
        "(value.a > 1 ? value.t : value.a) > 1",
        "value.a > 1 ? value.o.p : value.t",
        "math.greatest([1, 2]) + math.abs(value.a)",
        "string(value.a) + value.t",
        "{'a': 1}.b == 1 || true",
    ] {
        assert_eq!(of(CLOSED, expression), [""; 0], "{expression}");
    }
    for schema in [
        "true",
        "{ type: object }",
        "{ type: object, properties: { a: {} } }",
        "{ type: object, properties: { a: {} }, additionalProperties: true }",
        "{ type: object, properties: { a: {} }, additionalProperties: { type: integer } }",
        "{ type: object, patternProperties: { '^x': {} }, additionalProperties: false }",
        "{ properties: { x: { type: [string, integer] } } }",
        "{ properties: { x: { anyOf: [{ type: string }, { type: integer }] } } }",
        "{ properties: { x: { enum: [1, a] } } }",
        "{ properties: { x: { type: [integer, 'null'] } } }",
        "{ oneOf: [{ type: object, properties: {}, additionalProperties: false }, { type: object }] }",
    ] {
        assert_eq!(of(schema, "value.x > 1"), [""; 0], "{schema}");
    }
    // A template gets by without a field where it has a `default`.
    let template = |text: &str| {
        told(&format!("  - {{ id: in, input: {CLOSED} }}\n  - {{ id: s, set: \"{text}\" }}\n"))
    };
    assert_eq!(template("{{ value.x | default('?') }}"), [""; 0]);
    assert_eq!(template("{% if has(value.x) %}{{ value.x }}{% endif %}"), [""; 0]);
    assert_eq!(template("{% for it in value.l %}{{ it.n | upper }}{% endfor %}"), [""; 0]);
    assert_eq!(template("{{ value.d | default('?') | upper }}"), [""; 0]);
    for (text, start) in [
        ("{{ value.x }}", "line 1: `value` never has a field `x`"),
        ("{% for it in value.l %}{{ it.m }}{% endfor %}", "line 1: `it` never has a field `m`"),
        ("{% for it in value.a %}x{% endfor %}", "line 1: `for` walks through a list or map"),
        ("{% if value.t %}x{% endif %}", "line 1: `if` needs a bool, not string"),
        ("{{ value.a | upper }}", "line 1: `upper` never works for number"),
        ("{{ (value.x) | default(value.y) }}", "line 1: `value` never has a field `y`"),
    ] {
        let told = template(text);
        assert_eq!(told.len(), 1, "{text}: {told:#?}");
        assert!(told[0].starts_with(&format!("4:19: s: `set`: {start}")), "{text}: {told:#?}");
    }
}

#[test]
fn references_are_followed_to_what_they_refer_to() {
    let schema = "{ type: object, properties: { p: { $ref: '#/$defs/P' } }, \
                  $defs: { P: { type: object, properties: { n: { type: string }, again: { $ref: '#/$defs/P' } }, \
                  additionalProperties: false } } }";
    assert_eq!(wrong(schema, "value.p.again.again.n > 1"), "`>` never works for string and number");
    assert_eq!(
        wrong(schema, "value.p.again.m"),
        "`value.p.again` never has a field `m`; did you mean `n`?"
    );
    // A part that went through a variable still knows what it refers to.
    let steps = format!(
        "  - {{ id: in, input: {schema} }}\n  - {{ id: l, let: {{ v: \"${{ value.p }}\" }} }}\n  \
         - {{ id: s, set: \"${{ vars.v.again.m }}\" }}\n"
    );
    let found = told(&steps);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("`vars.v.again` never has a field `m`"), "{found:#?}");
}

#[test]
fn what_a_computation_must_come_to_is_told() {
    for (step, expected) in [
        (
            "await_input: { schema: true, prompt: '${ 5 }' }",
            "4:42: s: `prompt`: it must be text, and is always number",
        ),
        (
            "await_input: { schema: true, prompt: '${ value.a > 1 }' }",
            "4:42: s: `prompt`: it must be text, and is always bool",
        ),
        (
            "await_input: { schema: true, metadata: { m: '${ [1] }' } }",
            "4:49: s: `metadata`.m: it must be text, a number, or true or false, and is always list",
        ),
        (
            "filter: '${ size(value.x) }'",
            "4:13: s: a filter must give true or false, such as \"${ value.approved }\"",
        ),
        (
            "fail: { code: c, message: '${ value.a > 1 }' }",
            "4:31: s: the message of a failure must be text",
        ),
        ("set: '${ 1 + \"a\" }'", "4:10: s: `set`: `+` never works for number and string"),
    ] {
        assert_eq!(step_findings(step), [expected], "{step}");
    }
    kind("await_input: { schema: true, prompt: '${ null }' }");
    kind(
        "await_input: { schema: true, prompt: '${ value.ask }', metadata: { a: '${ timestamp(0) }' } }",
    );
    kind("fail: { code: c, message: '${ timestamp(0) }' }");
}

#[test]
fn an_error_that_is_caught_has_known_fields() {
    let told = step_findings(
        "try: [{ id: t, call: http, with: { url: x } }]\ncatch: { do: [{ id: h, set: '${ value.code + value.mesage }' }] }",
    );
    assert_eq!(
        told,
        ["5:33: s/h: `set`: `value` never has a field `mesage`; did you mean `message`?"]
    );
}

#[test]
fn a_template_of_a_tool_sees_its_data() {
    let mut tools = ToolRegistry::new();
    tools.add(Arc::new(crate::tool::TemplateTool::new())).unwrap();
    let told = |with: &str| -> Vec<String> {
        let text = format!(
            "flow: f\nsteps:\n  - {{ id: m, set: {{ x: 1 }} }}\n  - {{ id: s, call: template, with: {with} }}\n"
        );
        match Flow::from_document(&text, &tools) {
            Ok(_) => Vec::new(),
            Err(error) => error.findings().iter().map(ToString::to_string).collect(),
        }
    };
    assert_eq!(told("{ template: '{{ value.x }}' }"), [""; 0]);
    assert_eq!(told("{ template: '{{ value.y }}', data: { y: 1 } }"), [""; 0]);
    assert_eq!(told("{ template: '{{ value.y }}', data: '${ input }' }"), [""; 0]);
    for with in ["{ template: '{{ value.y }}' }", "{ template: '{{ value.y }}', data: { x: 1 } }"] {
        let told = told(with);
        assert_eq!(told.len(), 1, "{with}: {told:#?}");
        assert!(told[0].contains("`value` never has a field `y`"), "{told:#?}");
    }
}

#[test]
fn a_parked_run_goes_on_with_what_would_only_fail() {
    for steps in [
        "  - { id: ask, await_input: { preset: approval } }\n  - { id: f, filter: '${ value.aproved }' }\n",
        "  - { id: s, set: '${ 1 + \"a\" }' }\n",
        "  - { id: ask, await_input: { schema: true, prompt: '${ 5 }' } }\n",
    ] {
        let text = format!("flow: f\nsteps:\n{steps}");
        assert!(!findings(&text).is_empty(), "{text}");
        Flow::from_document_of_run(&text, &tools()).unwrap();
    }
}
