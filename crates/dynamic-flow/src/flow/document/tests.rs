use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    Schema,
    expr::Compute,
    flow::{StepKind, document_schema, mermaid, parse_duration, sample::Fake},
    tool::{TemplateTool, ToolSpec},
};

mod arms;
mod known;
mod mangled;

mod names;
mod places;
mod reading;
mod retries;
mod schemas;
mod slips;
mod templates;

fn tools() -> ToolRegistry {
    let mut tools = ToolRegistry::new();
    let input = Schema::new(json!({
        "type": "object",
        "required": ["url"],
        "properties": { "method": { "enum": ["GET", "POST"] }, "url": { "type": "string" }, "body": {} },
        "additionalProperties": false
    }));
    tools.add(Arc::new(Fake(ToolSpec::new("http").input(input.unwrap())))).unwrap();
    tools.add(Arc::new(Fake(ToolSpec::new("ask-bob").awaits_input(true)))).unwrap();
    tools
}

fn read(text: &str) -> Result<Flow> {
    Flow::from_document(text, &tools())
}

/// The kind of the only step, written with its verb alone.
fn kind(step: &str) -> StepKind {
    let step = step.replace('\n', "\n    ");
    let flow = read(&format!("flow: f\nsteps:\n  - id: s\n    {step}\n")).unwrap();
    flow.def().body[0].kind.clone()
}

/// The findings of a document.
fn findings(text: &str) -> Vec<String> {
    let error = read(text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidFlow);
    error.findings().iter().map(ToString::to_string).collect()
}

/// The findings of some steps, of which the first begins on line 3.
fn told(steps: &str) -> Vec<String> {
    match read(&format!("flow: f\nsteps:\n{steps}")) {
        Ok(_) => Vec::new(),
        Err(error) => error.findings().iter().map(ToString::to_string).collect(),
    }
}

/// The findings of the only step, whose verb begins on line 4.
fn step_findings(step: &str) -> Vec<String> {
    findings(&format!("flow: f\nsteps:\n  - id: s\n    {}\n", step.replace('\n', "\n    ")))
}

#[test]
fn everything_wrong_is_told_at_once_with_its_place() {
    let text = "\
flow: f
nmae: typo
steps:
  - id: a
    set: '${ value. }'
  - id: b
    call: htpp
  - id: c
    wait: 5
  - id: a
    get: nothing
  - id: d
    keep:
      - id: e
        filter: yes
";
    let found = findings(text);
    let starts = [
        "2:1: a flow has no field `nmae`; did you mean `name`?",
        "5:20: a: `set`: ",
        "7:11: b: there is no tool `htpp`; did you mean `http`?",
        "9:11: c: `wait`: \"5\" is not a duration",
        "10:9: a: another step beside it has the id `a` too",
        "11:10: a: `get`: no step before it, here or around, sets the variable `nothing`",
        "15:17: d/e: a filter must give true or false",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}\n{start}");
    }
    let message = read(text).unwrap_err().to_string();
    assert!(message.starts_with("InvalidFlow: 2:1: a flow has no field"), "{message}");
    assert!(message.contains("(and 6 more)") && !message.contains('\n'), "{message}");
}

#[test]
fn what_is_for_nothing_is_told_with_its_place() {
    let text = "\
flow: f
input: { type: object, properties: { kind: { enum: [a, b] } } }
steps:
  - id: kind
    switch: { on: '${ value.kind }', cases: { a: [], b: [], c: [] }, default: [] }
  - id: rules
    switch:
      on:
        - { when: '${ input.kind == \"a\" }', then: a }
        - { when: '${ true }', then: b }
      cases: { a: [], b: [] }
      default: []
  - id: yes
    filter: '${ 1 < 2 }'
  - id: no
    filter: '${ false }'
  - id: behind
    set: 1
";
    assert_eq!(
        findings(text),
        [
            "5:61: kind: the case `c` is never chosen",
            "5:70: kind: the `default` is never chosen: whatever there may be has a case",
            "12:7: rules: the `default` is never chosen: whatever there may be has a case",
            "14:13: yes: a filter that always gives true does nothing; let it look at something, \
             such as \"${ value.approved }\", or take it out",
            "17:9: behind: can never run: `no` before it never goes on",
        ]
    );
    let needed = "switch:\n  on: [{ when: '${ true }', then: a }]\n  cases: { a: [] }";
    kind(needed);
}

#[test]
fn a_text_that_is_no_yaml_is_told_with_its_place() {
    let found = findings("flow: f\nsteps:\n  - id: a\n   set: 1\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("4:"), "{found:?}");
    assert_eq!(findings("")[0], "1:1: the document is empty");
    assert_eq!(findings("just text")[0], "1:1: a flow must be an object, not text");
    assert_eq!(findings("flow: f\nsteps: []\n"), ["2:8: a flow needs at least one step"]);
}

#[test]
fn what_was_told_is_not_told_again_as_something_else() {
    for text in [
        "set: '${ ( }'\n",
        "filter: '${ ( }'",
        "let: { a: '${ ( }' }",
        "await_input: { schema: { type: 5 } }",
        "switch: { on: '${ ( }', cases: { a: [] } }",
        "switch: { on: '${ value }', cases: { a: 1 } }",
        "keep: 1",
        "call: nothing",
        "wait: soon",
        "set: &x 1",
        "input: { type: *x }",
        "succeed: [*x]",
    ] {
        let found = step_findings(text);
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
    }
    // The variable counts as set, although what it is set to is wrong.
    let text = "flow: f\nsteps:\n  - { id: a, let: { v: '${ ( }' } }\n  - { id: b, get: v }\n";
    assert_eq!(findings(text).len(), 1);
}

#[test]
fn a_step_tells_what_it_was_called_before() {
    let text =
        "flow: f\nsteps:\n  - { id: charge, keyed_as: pay, set: 1 }\n  - { id: tip, set: 1 }\n";
    let flow = Flow::from_document(text, &tools()).unwrap();
    let known_as: Vec<_> = flow.def().body.iter().map(|step| step.known_as().as_str()).collect();
    assert_eq!(known_as, ["pay", "tip"]);
    let found = findings(&text.replace("id: tip", "id: pay"));
    assert!(found[0].contains("same idempotency keys"), "{found:?}");
}

#[test]
fn wrong_steps_are_told() {
    for (text, message) in [
        ("description: x", "3:5: s: a step needs a verb, one of `set`"),
        ("set: 1\nkeyed_as: 5", "5:15: s: `keyed_as` must be text, not a number; put it in quotes"),
        ("set: 1\nkeyd_as: t", "5:5: s: a step has no field `keyd_as`; did you mean `keyed_as`?"),
        ("set: 1\nget: x", "5:5: s: a step has one verb, this one has `set` and `get`"),
        ("set: 1\nwith: 2", "5:5: s: `with` goes with `call` only"),
        ("set: 1\ncatch: { do: [] }", "5:5: s: `catch` goes with `try` only"),
        ("try: [{ id: t, set: 1 }]", "3:5: s: a step with `try` needs `catch`"),
        ("fliter: true", "4:5: s: a step has no field `fliter`; did you mean `filter`?"),
        ("set: Hi ${ value }", "4:10: s: `set`: an expression `${ … }` must be the whole text"),
        ("set: { a: { b: 'x ${ y }' } }", "4:20: s: `set`.a.b: an expression"),
        ("get: 5", "4:10: s: `get` must be text, not a number; put it in quotes"),
        ("succeed: '${ value }'", "4:14: s: `succeed` must be a constant; `set` computes values"),
        ("input: text", "4:12: s: `input` must be a JSON Schema, not text"),
        ("input: { type: nonsense }", "4:20: s: `input`: not a usable JSON Schema: `type` must be"),
        (
            "input:\n  type: object\n  properties:\n    a/b: { type: [string, { pattern: x }] }",
            "7:22: s: `input`: not a usable JSON Schema: `type` must be",
        ),
        (
            "input:\n  properties:\n    a/b: { minimum: five }",
            "6:25: s: `input`: not a usable JSON Schema: must be of type number",
        ),
        (
            "input: { anyOf: [true, { pattern: '(' }] }",
            "4:39: s: `input`: not a usable JSON Schema: must be a regular expression",
        ),
        ("fail: { message: m }", "4:11: s: `fail` needs `code`"),
        ("retry: { attempts: -1, do: [{ id: t, set: 1 }] }", "4:24: s: `attempts` must be a whole"),
        (
            "retry: { attempts: 0, do: [{ id: t, set: 1 }] }",
            "4:24: s: a retry makes at least 1 attempt",
        ),
        ("timeout: { after: 0s, do: [{ id: t, set: 1 }] }", "4:23: s: a timeout must be longer"),
        ("tap: []", "4:10: s: `tap` needs at least one step"),
        ("switch: { cases: { a: [] } }", "4:13: s: `switch` needs `on`"),
        ("switch: { on: x, cases: {} }", "4:29: s: a switch needs at least one case"),
        (
            "switch: { on: [{ when: 'x', then: a }], cases: { a: [] } }",
            "4:28: s: `when` must be an expression",
        ),
        ("await_input: {}", "4:18: s: `await_input` needs `schema` or `preset`"),
        (
            "await_input: { preset: approval, schema: true }",
            "4:38: s: `await_input` has `schema` or `preset`, not both",
        ),
        (
            "await_input: { schema: true, requires: 1 }",
            "4:34: s: `await_input` has no field `requires`",
        ),
        (
            "await_input: { preset: approval, require_coments: true }",
            "4:38: s: the preset `approval` has no field `require_coments`; did you mean `require_comments`?",
        ),
        (
            "await_input: { preset: aproval, min: 1 }",
            "4:28: s: there is no preset `aproval`; did you mean `approval`?",
        ),
        (
            "await_input: { preset: number, min: low }",
            "4:41: s: `min`: a number is expected, not text",
        ),
        (
            "await_input: { preset: choice, options: [a, 1] }",
            "4:49: s: `options`: text is expected in it, not a number; put it in quotes",
        ),
        (
            "await_input: { preset: choice, options: [{ value: a }] }",
            "4:46: s: `options`: text is expected in it, not an object",
        ),
        (
            "await_input: { preset: choice, options: { a: 1 } }",
            "4:45: s: `options`: a list is expected, not an object",
        ),
        ("await_input: { preset: choice }", "4:28: s: the preset `choice`: it needs `options`"),
        (
            "await_input: { preset: number, min: 2, max: 1 }",
            "4:36: s: the preset `number`: min 2 is greater than max 1",
        ),
        (
            "await_input: { preset: choice, options: [a, a] }",
            "4:36: s: the preset `choice`: the option \"a\" is there twice",
        ),
        (
            "await_input: { preset: form, fields: { a: {} }, optional: [b] }",
            "4:53: s: the preset `form`: there is no field \"b\"",
        ),
        (
            "await_input: { preset: text, min_length: 1, pattern: '(' }",
            "4:49: s: the preset `text`: ",
        ),
        (
            "await_input: { schema: true, default: 1, metadata: { default_owner: [] } }",
            "4:56: s: metadata \"default_owner\" is a text",
        ),
        ("await_input: { schema: true, timeout: 0s }", "4:43: s: `timeout` must be longer"),
        ("await_input: { schema: { type: boolean }, default: 5 }", "4:56: s: "),
        (
            "await_input: { schema: true, default: '${ value }' }",
            "4:43: s: `default` must be a constant",
        ),
        (
            "await_input: { schema: true, prompt: 5 }",
            "4:42: s: `prompt` must be text, not a number",
        ),
        (
            "await_input: { schema: true, prompt: '{{ vars.x }}' }",
            "4:42: s: `prompt`: no step before it",
        ),
        (
            "call: http\nwith: { method: GET }",
            "5:11: s: what tool `http` is called with can't fit its input schema: (whole value): ",
        ),
        (
            "call: http\nwith: { url: x, verb: '${ value }' }",
            "5:21: s: what tool `http` is called with can't fit its input schema: (whole value): `verb` is not taken",
        ),
        (
            "call: http\nwith: { url: '${ value }', method: PUT }",
            "5:40: s: what tool `http` is called with can't fit its input schema: /method: ",
        ),
    ] {
        let found = step_findings(text);
        assert!(found.iter().any(|found| found.starts_with(message)), "{text}: {found:#?}");
    }
}

#[test]
fn ids_that_are_missing_or_wrong_are_told() {
    let found =
        findings("flow: a b\nsteps:\n  - set: 1\n  - { id: 7, set: 1 }\n  - { id: a/b, set: 1 }\n");
    for start in [
        "1:7: the flow's id: an id has letters",
        "3:5: step-1: a step needs `id`",
        "4:11: step-2: `id` must be text, not a number; put it in quotes",
        "5:11: a/b: the step's id: an id has letters",
    ] {
        assert!(found.iter().any(|found| found.starts_with(start)), "{start}: {found:#?}");
    }
    assert_eq!(found.len(), 4, "{found:#?}");
}

#[test]
fn a_duplicate_is_found_where_it_stands() {
    let text = "flow: f\nsteps:\n  - id: s\n    switch:\n      on: '${ value }'\n      cases:\n        b: [{ id: x, set: 1 }]\n        a: [{ id: x, set: 2 }]\n";
    let found = findings(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("8:19: s/x: another step"), "{found:#?}");
}

#[test]
fn size_depth_and_number_of_steps_are_bounded() {
    let too_long = format!("flow: f\n# {}\nsteps: []\n", "x".repeat(1024 * 1024));
    assert!(findings(&too_long)[0].contains("at most 1048576 bytes"));

    let nested = |depth: usize| {
        let open = "{\"id\": \"k\", \"keep\": [".repeat(depth);
        let close = "]}".repeat(depth);
        format!("{{\"flow\": \"f\", \"steps\": [{open}{{\"id\": \"s\", \"set\": 1}}{close}]}}")
    };
    read(&nested(15)).unwrap();
    assert!(findings(&nested(16))[0].contains("nest at most 16 levels deep"));
    assert!(findings(&nested(63))[0].contains("nest at most 128 levels deep"));
    assert!(findings(&nested(10_000)).len() == 1);

    let many = |count: usize| {
        let steps: String = (0..count).map(|n| format!("  - {{ id: s{n}, set: 1 }}\n")).collect();
        format!("flow: f\nsteps:\n{steps}")
    };
    assert_eq!(read(&many(10_000)).unwrap().def().body.len(), 10_000);
    assert_eq!(findings(&many(10_001)), ["1:1: a flow has at most 10000 steps"]);
}

#[test]
fn a_preset_keeps_the_place_of_a_broken_option() {
    let found = step_findings("await_input:\n  preset: approval\n  require_comments: perhaps\n");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("true or false is expected, not text"), "{found:#?}");
}

#[test]
fn tools_are_bound() {
    let StepKind::Tool { tool, with: None } = kind("call: http") else { panic!() };
    assert_eq!(tool.tool().spec().id, "http");
}

#[test]
fn the_regular_expressions_of_a_document_have_a_bound() {
    let steps = |n| {
        format!(
            "  - id: s{n}\n    set: \"${{ value.matches('[ab]{{2000}}c') }}\"\n  \
             - id: i{n}\n    input: {{ pattern: '[ab]{{4000}}c' }}\n"
        )
    };
    let document = |count| {
        let steps: String = (0..count).map(steps).collect();
        format!("flow: f\nsteps:\n{steps}")
    };
    read(&document(12)).unwrap();
    let ask = |n| {
        format!("  - id: a{n}\n    await_input: {{ preset: text, pattern: '[ab]{{4000}}c' }}\n")
    };
    let asking = format!("flow: f\nsteps:\n{}", (0..120).map(ask).collect::<String>());
    for told in [findings(&document(60)), findings(&asking)] {
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].contains("regular expressions up to here take more than"), "{told:#?}");
    }
}

#[test]
fn regular_expressions_count_where_what_they_stand_in_is_wrong() {
    let document = |step: &str| {
        let steps: String = (0..130).map(|n| step.replace('#', &n.to_string())).collect();
        format!("flow: f\nsteps:\n{steps}")
    };
    let mut tools = tools();
    tools.add(Arc::new(TemplateTool::new())).unwrap();
    let findings = |text: &str| -> Vec<String> {
        let error = Flow::from_document(text, &tools).unwrap_err();
        error.findings().iter().map(ToString::to_string).collect()
    };
    let matches = "value.matches('[ab]{2000}c')";
    let template = "{% if value.matches('[ab]{2000}c') %}{{ nothing }}";
    for (step, wrong) in [
        (format!("  - id: s#\n    set: \"${{ {matches} && nothing }}\"\n"), "nothing"),
        (format!("  - id: s#\n    set: \"{template}{{% endif %}}\"\n"), "nothing"),
        (
            format!(
                "  - id: s#\n    call: template\n    with: {{ template: \"{template}{{% endif %}}\" }}\n"
            ),
            "nothing",
        ),
        (
            "  - id: s#\n    input: { properties: { a: { pattern: '[ab]{4000}c' } }, type: txt }\n"
                .to_owned(),
            "JSON Schema",
        ),
        (
            "  - id: s#\n    await_input: { preset: form, fields: { a: { pattern: '[ab]{4000}c', \
             type: txt } } }\n"
                .to_owned(),
            "JSON Schema",
        ),
        (
            format!(
                "  - id: s#\n    switch:\n      on:\n        - {{ when: \"${{ {matches} }}\", then: a }}\n        \
                 - {{ when: \"${{ nothing }}\", then: a }}\n      cases: {{ a: [{{ id: t, set: 1 }}] }}\n"
            ),
            "nothing",
        ),
    ] {
        let told = findings(&document(&step));
        assert!(told[0].contains(wrong), "{told:#?}");
        assert!(told.len() <= 2 * 130 + 1, "{told:#?}");
        let full: Vec<_> = told.iter().filter(|it| it.contains("take more than")).collect();
        assert_eq!(full.len(), 1, "{step}: {told:#?}");
    }
}

#[test]
fn rules_are_compiled_twice_and_count_once() {
    let rule = "{ when: \"${ value.matches('[ab]{2000}c') }\", then: a }";
    let rules = [rule; 10].join(", ");
    let step = |n| {
        format!(
            "  - id: s{n}\n    switch:\n      on: [{rules}]\n      \
             cases: {{ a: [{{ id: t{n}, set: x }}] }}\n      default: [{{ id: d{n}, set: y }}]\n"
        )
    };
    let document: String = (0..12).map(step).collect();
    read(&format!("flow: f\ninput: {{ type: string }}\nsteps:\n{document}")).unwrap();
}

#[test]
fn all_fields_of_a_step_are_read_even_if_one_of_them_is_wrong() {
    let told = findings(
        "flow: all\nsteps:
  - id: ask
    await_input:
      prompt: 5
      schema: { type: string }
      timeout: 4x
      default: \"${ value }\"
  - id: r
    retry:
      attempts: 3
      backoff: { first: 4x, factor: two, max: 5x }
      do: [{ id: a, set: 1 }]
  - id: c
    call: nothing
    with: { a: \"${ vars.unset }\" }
",
    );
    let wrong = ["`prompt`", "`timeout`", "`default`", "`first`", "`factor`", "`max`"];
    for what in wrong.into_iter().chain(["no tool `nothing`", "sets the variable `unset`"]) {
        assert_eq!(told.iter().filter(|told| told.contains(what)).count(), 1, "{what}: {told:#?}");
    }
    assert_eq!(told.len(), 8, "{told:#?}");
}
