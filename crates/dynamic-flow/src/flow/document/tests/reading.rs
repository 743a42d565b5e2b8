//! Right documents: what is made of each part.

use super::*;

#[test]
fn the_head_of_a_flow_is_read() {
    let text = "flow: f\nname: F\ndescription: For nothing\ninput: { type: object }\noutput: true\n\
                steps:\n  - id: s\n    description: Step\n    tap: [{ id: t, wait: 1s }]\n";
    let flow = read(text).unwrap();
    let def = flow.def();
    assert_eq!((def.id.as_str(), def.name.as_str()), ("f", "F"));
    assert_eq!(def.description, "For nothing");
    assert_eq!(def.input.as_value(), &json!({"type": "object"}));
    assert_eq!(def.document.as_deref(), Some(text));
    assert_eq!(def.body[0].description, "Step");
}

#[test]
fn json_documents_are_read_as_well() {
    let text = r#"{"flow": "f", "steps": [{"id": "s", "set": "${ value }"}]}"#;
    assert!(matches!(read(text).unwrap().def().body[0].kind, StepKind::Map { .. }));
    let broken = findings("{\n\t\"flow\": \"f\",\n\t\"steps\": [{\"id\": \"s\", \"sett\": 1}]\n}");
    assert_eq!(broken, ["3:24: s: a step has no field `sett`; did you mean `set`?"]);
}

#[test]
fn set_computes_and_constants_collapse() {
    let StepKind::Map { compute: Compute::Object(fields) } =
        kind("set: { a: '${ value.x }', b: 'Hi {{ value.y }}', c: [1, { d: no }], e: ['${ 1 }'] }")
    else {
        panic!("no map of an object");
    };
    assert!(matches!(&fields["a"], Compute::Cel(cel) if cel.source() == "value.x"));
    assert!(matches!(&fields["b"], Compute::Template(t) if t.source() == "Hi {{ value.y }}"));
    assert_eq!(fields["c"], Compute::Value(json!([1, { "d": "no" }])));
    assert!(matches!(&fields["e"], Compute::List(items) if items.len() == 1));
    assert_eq!(
        kind("set: { a: 1, b: [x] }"),
        StepKind::Map { compute: Compute::Value(json!({ "a": 1, "b": ["x"] })) }
    );
}

#[test]
fn each_verb_becomes_its_kind() {
    for (text, name) in [
        ("set: 1", "map"),
        ("let: { a: 1 }", "set"),
        ("await_input: { schema: true }", "await_input"),
        ("filter: '${ value.ok }'", "filter"),
        ("call: http\nwith: { url: x }", "tool"),
        ("call: ask-bob", "await_input"),
        ("call: ask-bob\nwith: 1", "tool"),
        ("switch: { on: '${ value }', cases: { a: [] } }", "switch"),
        ("keep: [{ id: t, set: 1 }]", "keep"),
        ("tap: [{ id: t, set: 1 }]", "tap"),
        ("flow: { flow: g, steps: [{ id: t, set: 1 }] }", "sub_flow"),
        ("succeed: { a: [null] }", "succeed"),
        ("fail: { code: c, message: m }", "fail"),
        ("input: { type: string }", "input"),
        ("wait: 5m", "sleep"),
        ("try: [{ id: t, set: 1 }]\ncatch: { do: [] }", "catch"),
        ("retry: { attempts: 3, do: [{ id: t, set: 1 }] }", "retry"),
        ("timeout: { after: 10m, do: [{ id: t, set: 1 }] }", "timeout"),
    ] {
        assert_eq!(kind(text).name(), name, "{text}");
    }
    for (verb, _) in steps::VERBS {
        assert!(!step_findings(&format!("{verb}: ['${{']")).is_empty(), "{verb}");
    }
}

#[test]
fn details_of_steps_are_read() {
    let text = "retry:\n  attempts: 4\n  backoff: { first: 2s, factor: 3, max: 1m }\n  do: [{ id: t, set: 1 }]";
    let StepKind::Retry { attempts: 4, backoff, .. } = kind(text) else { panic!() };
    assert_eq!((backoff.first.as_secs(), backoff.factor, backoff.max.as_secs()), (2, 3.0, 60));

    let text = "retry: { attempts: 2, backoff: 2m, do: [{ id: t, set: 1 }] }";
    let StepKind::Retry { backoff, .. } = kind(text) else { panic!() };
    assert_eq!((backoff.pause(1).as_secs(), backoff.pause(9).as_secs()), (120, 120));

    let text = "retry: { attempts: 2, backoff: { first: 5m }, do: [{ id: t, set: 1 }] }";
    let StepKind::Retry { backoff, .. } = kind(text) else { panic!() };
    assert_eq!(backoff.pause(1).as_secs(), 300);

    let text = "try: [{ id: t, set: 1 }]\ncatch: { errors: [a, b], do: [{ id: u, set: 2 }] }";
    let StepKind::Catch { codes, handler, .. } = kind(text) else { panic!() };
    assert_eq!((codes, handler.len()), (vec!["a".to_owned(), "b".to_owned()], 1));

    let StepKind::Sleep { duration } = kind("wait: PT90S") else { panic!() };
    assert_eq!(duration.as_secs(), 90);
}

#[test]
fn a_switch_may_be_on_conditions() {
    let text = "switch:\n  on:\n    - { when: '${ value.a > 1 }', then: 'say \"b\"' }\n    \
                - { when: '${ value.c }', then: d }\n  cases: { 'say \"b\"': [], d: [] }\n  default: []";
    let StepKind::Switch { route: Compute::Cel(cel), arms, otherwise } = kind(text) else {
        panic!()
    };
    let expected = "(value.a > 1\n) ? \"say \\\"b\\\"\" : ((value.c\n) ? \"d\" : (''))";
    assert_eq!(cel.source(), expected);
    assert_eq!(arms.len(), 2);
    assert!(otherwise.is_some());
}

#[test]
fn cases_keep_the_order_of_their_author_which_means_nothing_to_a_run() {
    let flow = |cases: &str| {
        let step = format!("switch: {{ on: '${{ value }}', cases: {{ {cases} }}, default: [] }}");
        read(&format!("flow: f\nsteps:\n  - id: s\n    {step}\n")).unwrap()
    };
    let (one, two) = (
        flow("yes: [{ id: a, set: 1 }], no: [{ id: t, set: 1 }]"),
        flow("no: [{ id: t, set: 1 }], yes: [{ id: a, set: 1 }]"),
    );
    let drawn = mermaid(one.def(), &[]);
    assert!(drawn.find("|\"yes\"|").unwrap() < drawn.find("|\"no\"|").unwrap(), "{drawn}");
    assert_eq!(one.fingerprint().unwrap(), two.fingerprint().unwrap());
    // As it was when cases were kept in the order of their names.
    assert_eq!(
        one.fingerprint().unwrap().0,
        "2fac0201ff385801071c0bb748e6610dbb96e3d51cf3b11eee7bc8a4a8f7f9a3"
    );
}

#[test]
fn questions_are_read() {
    let StepKind::AwaitInput { tool } = kind(
        "await_input:\n  prompt: 'Approve {{ value.id }}?'\n  show: '${ value }'\n  preset: approval\n  \
         require_comments: true\n  timeout: never\n  \
         metadata: { a: '${ value.b }', c: 1 }",
    ) else {
        panic!()
    };
    assert_eq!(tool.id, "s");
    let required = tool.output.as_value()["required"].as_array().unwrap();
    assert!(required.contains(&json!("comments")));

    let StepKind::AwaitInput { tool } = kind(
        "await_input: { tool: manager, schema: { type: boolean }, default: false, timeout: 4h }",
    ) else {
        panic!()
    };
    assert_eq!(tool.id, "manager");
    assert_eq!(tool.output.as_value(), &json!({"type": "boolean"}));
}
