//! What makes a definition another one, and how that is told.

use super::*;
use crate::id::FlowId;

#[test]
fn annotations_do_not_make_another_flow() {
    let old = flow(vec![ask("ask", json!({ "type": "boolean", "description": "Old" }))]);
    let mut new = flow(vec![ask("ask", json!({ "type": "boolean", "description": "New" }))]);
    new.name = "New".into();
    new.body[0].description = "New".into();
    assert_eq!(compare(&snapshot(&old, at("ask", waiting())), &new), Fit::Same);
    let registered = Flow::<Value, Value>::from_def(Arc::new(new.clone()));
    assert_eq!(registered.fit(&snapshot(&old, at("ask", waiting()))), Fit::Same);
    assert_eq!(registered.fingerprint().unwrap(), &fingerprint(&new).unwrap());
    assert_eq!(compare_defs(&old, &new), [""; 0]);
}

#[test]
fn every_part_of_a_flow_is_in_its_fingerprint() {
    let source = |source: &str| Compute::Cel(Cel::compile(source).unwrap());
    let base = || flow(vec![keep("k", vec![map("a"), map("b")]), ask("ask", bool_answer())]);
    let mut seen = vec![fingerprint(&base()).unwrap()];
    let mut differs = |what: &str, change: &dyn Fn(&mut FlowDef)| {
        let mut def = base();
        change(&mut def);
        let digest = fingerprint(&def).unwrap();
        assert!(!seen.contains(&digest), "{what}");
        seen.push(digest);
    };
    differs("id", &|def| def.id = FlowId::from("g"));
    differs("input", &|def| def.input = schema(bool_answer()));
    differs("output", &|def| def.output = schema(bool_answer()));
    differs("step id", &|def| def.body[0].id = "other".into());
    differs("keyed as", &|def| def.body[0].keyed_as = Some("other".into()));
    differs("kind", &|def| def.body[0].kind = StepKind::Tap { body: vec![map("a"), map("b")] });
    differs("order", &|def| def.body.swap(0, 1));
    differs("inner order", &|def| {
        def.body[0].kind = StepKind::Keep { body: vec![map("b"), map("a")] }
    });
    differs("answer", &|def| def.body[1] = ask("ask", json!({ "type": "string" })));
    differs("source", &|def| {
        def.body[0].kind = StepKind::Keep {
            body: vec![step("a", StepKind::Map { compute: source("value.x") }), map("b")],
        };
    });
    differs("other source", &|def| {
        def.body[0].kind = StepKind::Keep {
            body: vec![step("a", StepKind::Map { compute: source("value.y") }), map("b")],
        };
    });
    for attempts in [2, 3] {
        differs("attempts", &|def| {
            let backoff = Backoff::default();
            def.body[0].kind = StepKind::Retry { body: vec![map("a")], attempts, backoff };
        });
    }
}

#[test]
fn differences_are_told_in_sentences() {
    let route = || Compute::Code(Code::unknown());
    let switch = |arms: &[(&str, Body)]| {
        let arms = arms.iter().map(|(name, body)| ((*name).to_owned(), body.clone())).collect();
        step("route", StepKind::Switch { route: route(), arms, otherwise: None })
    };
    let value = |id: &str, value: Value| step(id, StepKind::Succeed { value });
    let old = flow(vec![
        map("a"),
        map("b"),
        map("gone"),
        value("changed", json!(1)),
        call("pay", json!(true)),
        ask("ask", bool_answer()),
        map("kind"),
        switch(&[("x", vec![map("moves")]), ("old", vec![])]),
        keep("k", vec![map("inner")]),
    ]);
    let mut new = flow(vec![
        map("b"),
        map("a"),
        map("new"),
        value("changed", json!(2)),
        step("pay", StepKind::Tool { tool: spec("pay2", json!(true), json!(true)), with: None }),
        ask("ask", json!({ "type": "string" })),
        get("kind", "v"),
        switch(&[("x", vec![]), ("y", vec![map("moves")])]),
        keep("k", vec![map("other")]),
    ]);
    new.input = schema(bool_answer());
    new.body[0].keyed_as = Some("c".into());
    assert_eq!(
        compare_defs(&old, &new),
        [
            "The flow takes another input.",
            "What the step `b` calls was known as that of `b` and is known as that of `c` now.",
            "The step `gone` is gone.",
            "What the step `changed` does with its value has changed.",
            "The step `pay` called the tool `pay` and calls `pay2` now.",
            "The tool of the step `ask` gives another output.",
            "The step `kind` was `map` and is `get` now.",
            "The step `route/moves` was moved to the case `y`.",
            "In the step `route`, the case `old` is gone.",
            "In the step `route`, the case `y` is new.",
            "The step `k/inner` is gone.",
            "The step `k/other` is new.",
            "The step `new` is new.",
            "The steps in the body of `the flow` stand in another order.",
        ]
    );
}

#[test]
fn a_document_that_reads_otherwise_is_told() {
    let mut old = flow(vec![map("a")]);
    old.document = Some("flow: f".into());
    let mut new = old.clone();
    assert_eq!(compare_defs(&old, &new), [""; 0]);
    new.document = Some("flow: f # changed".into());
    assert_eq!(compare_defs(&old, &new).len(), 1);
}
