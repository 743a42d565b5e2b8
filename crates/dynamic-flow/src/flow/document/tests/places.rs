//! Findings are where the mistake is.

use super::*;

#[test]
fn a_variable_that_nobody_sets_is_told_where_it_is_read() {
    let text = "\
flow: f
steps:
  - id: q
    await_input:
      prompt: >-
        Hello
        {{ vars.who }}
      show:
        a: 1
        b: ['x', \"${ vars.nope }\"]
      schema: true
      metadata: { m: \"${ vars.zip }\" }
  - id: s
    set:
      t: \"${ vars.a + vars.b }\"
  - id: l
    let:
      a/b: \"{{ vars.c }}\"
  - id: f
    fail: { code: x, message: \"{{ vars.d }}\" }
";
    let unset =
        |name: &str| format!("no step before it, here or around, sets the variable `{name}`");
    assert_eq!(
        findings(text),
        [
            format!("6:9: q: `prompt`: {}", unset("who")),
            format!("10:18: q: `show`.b[1]: {}", unset("nope")),
            format!("12:22: q: `metadata`.m: {}", unset("zip")),
            format!("15:10: s: `set`.t: {}", unset("a")),
            format!("15:10: s: `set`.t: {}", unset("b")),
            "18:7: l: the name of a variable: an id has letters, digits, '-', '_' and '.', not '/'"
                .to_owned(),
            format!("18:12: l: `let`.a/b: {}", unset("c")),
            format!("20:31: f: `message`: {}", unset("d")),
        ]
    );
}

#[test]
fn what_is_wrong_with_a_step_is_told_where_it_is_written() {
    let text = "\
flow: f
output: { type: string }
steps:
  - id: try
    try:
      - { id: t, wait: 0s }
    catch:
      do:
        - id: r
          retry: { attempts: 0, backoff: { first: 2m, max: 1m, factor: 0.5 }, do: [] }
  - id: sw
    switch:
      on: \"${ value.age > 3 ? 'old' : 'young' }\"
      cases:
        young: []
        old: [{ id: x, timeout: { after: 0s, do: [] } }]
        oldest: [{ id: y, set: 1 }]
      default: [{ id: z, wait: 0s }]
  - id: sub
    flow:
      flow: a b
      steps: []
      output: { type: boolean }
  - id: h
    call: http
    with:
      url: x
      mehtod: GET
  - id: n
    set: 5
";
    let told: Vec<String> = findings(text);
    let starts = [
        "2:9: what comes out can't fit the flow's output schema",
        "6:24: try/t: a wait must be longer than nothing",
        "10:30: try/r: a retry makes at least 1 attempt",
        "10:60: try/r: the longest pause of a backoff",
        "10:72: try/r: the factor of a backoff",
        "10:83: try/r: `retry` needs at least one step",
        "16:42: sw/x: a timeout must be longer than nothing",
        "16:50: sw/x: `timeout` needs at least one step",
        "17:9: sw: the case `oldest` is never chosen",
        "18:7: sw: the `default` is never chosen",
        "18:32: sw/z: a wait must be longer than nothing",
        "21:13: sub: the flow's id",
        "22:14: sub: a flow needs at least one step",
        "28:7: h: what tool `http` is called with can't fit",
    ];
    for start in starts {
        assert!(told.iter().any(|told| told.starts_with(start)), "{start}: {told:#?}");
    }
    assert_eq!(told.len(), starts.len(), "{told:#?}");
}

#[test]
fn a_mistake_in_a_source_is_told_at_its_place_alone() {
    for (step, expected) in [
        ("set: ${ value. }", "4:19: s: `set`: the expression: "),
        ("set: '${ value. }'", "4:20: s: `set`: the expression: "),
        ("set: \"${ value.a == \\\"x\\\" = 2 }\"", "4:31: s: `set`: the expression: "),
        ("set: '${ ''a'' = 2 }'", "4:20: s: `set`: the expression: "),
        ("set: >-\n  ${ value.a == 1\n     && value.b = 2 }", "6:21: s: `set`: the expression: "),
        ("set: |\n  ${ value.a ==\n     == 2 }", "6:10: s: `set`: the expression: "),
        (
            "set: >\n  Hello\n  {{ value.a | uper }}",
            "6:10: s: `set`: the template: there is no filter",
        ),
        ("set: 'Hé {{ value. }}'", "4:23: s: `set`: the template: "),
        ("set: 'Hi {{ value.a | trim | uper( }}'", "4:39: s: `set`: the template: "),
        ("set: 'Hi {{ value'", "4:14: s: `set`: the template: {{ is not closed"),
        ("filter: '${ valeu.a }'", "4:13: s: `filter`: the expression: there is no name valeu"),
        (
            "switch:\n  on: [{ when: '${ a = 1 }', then: a }]\n  cases: { a: [] }",
            "5:26: s: `when`: the expression: ",
        ),
        // A text whose letters are written otherwise keeps the place in the text.
        (
            "set: \"${ value.a =\\u003d= 2 }\"",
            "4:10: s: `set`: the expression: line 1, column 11: ",
        ),
    ] {
        let told = step_findings(step);
        assert_eq!(told.len(), 1, "{step}: {told:#?}");
        assert!(told[0].starts_with(expected), "{step}: {told:#?}");
        assert_eq!(told[0].contains("line "), expected.contains("line "), "{told:#?}");
    }
}

#[test]
fn anchors_and_tags_are_told_where_they_begin() {
    for (step, place) in [
        ("set: &x 1", "4:10"),
        ("set: !x &y 1", "4:10"),
        ("set: &x\n  b: 1", "4:10"),
        ("set: [1, &x 2]", "4:14"),
        ("filter: !value.ok", "4:13"),
        // A no-break space, as pasted text has it, is more than one byte.
        ("set: { a\u{a0}b: &x 1 }", "4:17"),
        ("set: # a\u{3000}b\n      &x 1", "5:11"),
    ] {
        let told = step_findings(step);
        assert_eq!(told.len(), 1, "{step}: {told:#?}");
        assert!(told[0].starts_with(&format!("{place}: anchors (&x)")), "{step}: {told:#?}");
    }
}
