use std::{collections::BTreeMap, sync::Arc, time::Duration};

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::*;
use crate::{
    expr::{Cel, Code, Template},
    flow::{
        Backoff,
        sample::{flow, schema, spec, step},
    },
};

mod sound;

fn tool(id: &str, input: Value, output: Value) -> StepKind {
    StepKind::Tool { tool: spec(id, input, output), with: None }
}

fn found(body: Body) -> Vec<String> {
    check(&flow(body)).iter().map(ToString::to_string).collect()
}

fn one(body: Body) -> String {
    let found = found(body);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().unwrap()
}

fn cel(source: &str) -> Compute {
    Compute::Cel(Cel::compile(source).unwrap())
}

fn map(id: &str) -> Step {
    step(id, StepKind::Map { compute: Compute::Code(Code::unknown()) })
}

fn set(id: &str, variable: &str) -> Step {
    let variables = BTreeMap::from([(variable.to_owned(), cel("value.x"))]);
    step(id, StepKind::Set { variables })
}

fn get(id: &str, variable: &str) -> Step {
    step(id, StepKind::Get { variable: variable.into() })
}

fn fail(id: &str) -> Step {
    step(id, StepKind::Fail { code: "c".into(), message: Compute::Value(json!("m")) })
}

fn succeed(id: &str, value: Value) -> Step {
    step(id, StepKind::Succeed { value })
}

fn switch(id: &str, route: Compute, arms: &[(&str, Body)], otherwise: Option<Body>) -> Step {
    let arms = arms.iter().map(|(name, body)| ((*name).to_owned(), body.clone())).collect();
    step(id, StepKind::Switch { route, arms, otherwise })
}

#[test]
fn a_right_flow_has_no_findings() {
    let arms = [("a", vec![map("x"), get("y", "v")]), ("b", vec![])];
    let catch = StepKind::Catch { body: vec![fail("t")], codes: vec![], handler: vec![map("h")] };
    let body = vec![
        set("s", "v"),
        switch("r", cel("value.a ? 'a' : 'b'"), &arms, None),
        step("k", StepKind::Keep { body: vec![get("g", "v")] }),
        step("c", catch),
        step("f", StepKind::Filter { predicate: cel("vars.v == 1") }),
        tool_step("t", json!({"type": "object"}), json!({})),
    ];
    assert_eq!(found(body), [""; 0]);
}

fn tool_step(id: &str, input: Value, output: Value) -> Step {
    step(id, tool(id, input, output))
}

#[test]
fn ids_are_checked_and_unique_among_all_bodies_of_a_parent() {
    assert!(one(vec![map("a/b")]).starts_with("a/b: the step's id: "));
    assert!(one(vec![map("a"), map("b"), map("a")]).starts_with("a: another step"));
    let arms = [("p", vec![map("x")]), ("q", vec![map("x")])];
    assert!(one(vec![switch("s", cel("value"), &arms, None)]).starts_with("s/x: another step"));
    let catch = StepKind::Catch { body: vec![map("x")], codes: vec![], handler: vec![map("x")] };
    assert!(one(vec![step("c", catch)]).starts_with("c/x: another step"));
    // The same id under different parents is fine.
    let keep = |id: &str| step(id, StepKind::Keep { body: vec![map("x")] });
    assert_eq!(found(vec![keep("a"), keep("b"), map("x")]), [""; 0]);
}

#[test]
fn what_two_steps_call_is_not_known_by_one_name() {
    let known_as = |id: &str, name: &str| Step { keyed_as: Some(name.into()), ..map(id) };
    let both = "would have the same idempotency keys";
    assert!(one(vec![known_as("a", "b"), map("b")]).contains(both));
    let twice = found(vec![known_as("a", "c"), known_as("b", "c")]);
    assert!(twice.len() == 2 && twice.iter().all(|it| it.contains(both)), "{twice:?}");
    let handler = vec![map("charge")];
    let catch = StepKind::Catch { body: vec![known_as("bill", "charge")], codes: vec![], handler };
    assert!(one(vec![step("safe", catch)]).starts_with("safe/bill: what another step"));
    assert!(one(vec![known_as("a", "b/c")]).starts_with("a: `keyed_as`: "));
    // Two that have changed their names, and one by its own.
    assert_eq!(found(vec![known_as("a", "b"), known_as("b", "a"), known_as("c", "c")]), [""; 0]);
}

#[test]
fn bodies_that_must_do_something_are_not_empty() {
    assert_eq!(one(vec![]), "a flow needs at least one step");
    assert_eq!(
        one(vec![step("t", StepKind::Tap { body: vec![] })]),
        "t: `tap` needs at least one step"
    );
    assert_eq!(found(vec![step("k", StepKind::Keep { body: vec![] })]), [""; 0]);
    let inner = StepKind::SubFlow { flow: Arc::new(flow(vec![])) };
    assert_eq!(one(vec![step("i", inner)]), "i: a flow needs at least one step");
}

#[test]
fn routes_and_arms_fit_together() {
    let arms = [("a", vec![]), ("b", vec![])];
    let routed =
        |route: Compute, otherwise: Option<Body>| found(vec![switch("s", route, &arms, otherwise)]);
    assert_eq!(routed(cel("value.route"), None), [""; 0]);
    assert_eq!(routed(cel("value.x ? 'a' : 'b'"), None), [""; 0]);
    assert_eq!(routed(cel("value.x ? 'a' : value.y"), None), [""; 0]);
    assert_eq!(
        routed(cel("value.x ? 'a' : value.y ? 'b' : 'c'"), None),
        ["s: `c` may be chosen, but there is no such case, and no `default`"]
    );
    assert_eq!(routed(cel("value.x ? 'a' : value.y ? 'b' : 'c'"), Some(vec![])), [""; 0]);
    assert_eq!(
        routed(cel("value.x ? 'a' : ''"), None),
        [
            "s: it may be that no case is chosen, as where no condition holds; add a `default`",
            "s: the case `b` is never chosen"
        ]
    );
    assert_eq!(routed(Compute::Value(json!("a")), None), ["s: the case `b` is never chosen"]);
    let unused = "s: the `default` is never chosen: whatever there may be has a case";
    assert_eq!(routed(cel("value.x ? 'a' : 'b'"), Some(vec![])), [unused]);
    assert_eq!(routed(cel("value.x ? 'a' : value.y"), Some(vec![])), [""; 0]);
    // As for a last rule that always holds.
    let rules = "(value.x\n) ? \"a\" : ((true\n) ? \"b\" : (''))";
    assert_eq!(routed(cel(rules), None), [""; 0]);
    assert_eq!(routed(cel(rules), Some(vec![])), [unused]);
    assert!(routed(cel("value.x ? 1 : 'b'"), None)[0].contains("must be on text"));
    assert!(routed(Compute::List(vec![]), None)[0].contains("must be on text"));
    assert!(one(vec![switch("s", cel("value"), &[], None)]).contains("at least one case"));
}

#[test]
fn arms_are_held_against_what_a_schema_lists() {
    let kinds = |list: Value| {
        json!({
            "type": "object",
            "properties": { "kind": { "$ref": "#/$defs/Kind" } },
            "$defs": { "Kind": list },
        })
    };
    let listed = kinds(json!({ "enum": ["a", "b"] }));
    let routed = |schema: &Value, route: &str, otherwise: Option<Body>| {
        let remember = BTreeMap::from([("v".to_owned(), cel("value"))]);
        let arms = [("a", vec![]), ("b", vec![])];
        found(vec![
            tool_step("t", json!({}), schema.clone()),
            step("l", StepKind::Set { variables: remember }),
            switch("s", cel(route), &arms, otherwise),
        ])
    };
    let unused = "s: the `default` is never chosen: whatever there may be has a case";
    let missing = "s: `c` may be chosen, but there is no such case, and no `default`";
    for route in ["value.kind", "vars.v['kind']", "value.x ? value.kind : 'a'"] {
        assert_eq!(routed(&listed, route, Some(vec![])), [unused], "{route}");
        assert_eq!(routed(&listed, route, None), [""; 0], "{route}");
    }
    for route in ["value.other", "value.kind + 'x'", "value.x ? value.kind : value.y", "input.kind"]
    {
        assert_eq!(routed(&listed, route, Some(vec![])), [""; 0], "{route}");
    }
    let more = kinds(json!({ "enum": ["a", "b", "c"] }));
    assert_eq!(routed(&more, "value.kind", None), [missing]);
    assert_eq!(routed(&more, "value.x ? value.kind : value.y", None), [missing]);
    assert_eq!(routed(&more, "value.kind", Some(vec![])), [""; 0]);
    let fewer = kinds(json!({ "enum": ["a"] }));
    let never = "s: the case `b` is never chosen";
    assert_eq!(routed(&fewer, "value.kind", None), [never]);
    assert_eq!(routed(&fewer, "value.kind", Some(vec![])), [never, unused]);
    let open = kinds(json!({ "type": "string" }));
    assert_eq!(routed(&open, "value.kind", Some(vec![])), [""; 0]);

    // `input` is that of the flow around.
    let arms = [("a", vec![]), ("b", vec![])];
    let body = vec![map("m"), switch("s", cel("input.kind"), &arms, Some(vec![]))];
    let inner = FlowDef { input: schema(listed), ..flow(body) };
    let outer = vec![map("m"), step("i", StepKind::SubFlow { flow: Arc::new(inner) })];
    assert_eq!(one(outer), format!("i/{unused}"));
}

#[test]
fn settings_in_variables_may_be_switched_on() {
    let let_ = |name: &str, value: Value| {
        let variables = BTreeMap::from([(name.to_owned(), Compute::Value(value))]);
        step(&format!("let-{name}"), StepKind::Set { variables })
    };
    let arms = [("fast", vec![]), ("slow", vec![])];
    let body = vec![
        let_("mode", json!("fast")),
        let_("all", json!({ "on": true })),
        let_("off", json!(false)),
        switch("s", cel("vars.mode"), &arms, Some(vec![])),
        step("t", StepKind::Filter { predicate: cel("vars.all.on") }),
        step("f", StepKind::Filter { predicate: cel("vars.off") }),
        map("m"),
    ];
    assert_eq!(found(body), [""; 0]);
}

#[test]
fn values_that_can_not_fit_are_found() {
    let numbers = json!({"type": "number"});
    let text = json!({"type": "string"});
    let gives = |output: &Value| tool_step("gives", json!({}), output.clone());
    let takes = |input: &Value| tool_step("takes", input.clone(), json!({}));
    assert_eq!(
        one(vec![gives(&text), takes(&numbers)]),
        "takes: what tool `takes` is called with can't fit its input schema: \
         (whole value): it is string where number is wanted"
    );
    assert_eq!(found(vec![gives(&numbers), takes(&numbers)]), [""; 0]);
    assert_eq!(found(vec![gives(&text), map("m"), takes(&numbers)]), [""; 0]);
    assert!(one(vec![succeed("s", json!("x")), takes(&numbers)]).starts_with("takes: "));
    let tap = step("t", StepKind::Tap { body: vec![map("m")] });
    assert!(one(vec![gives(&text), tap, takes(&numbers)]).starts_with("takes: "));
    let template = Compute::Template(Template::compile("{{ value }}").unwrap());
    let templated = step("m", StepKind::Map { compute: template });
    assert!(one(vec![templated, takes(&numbers)]).starts_with("takes: "));
    let check = |schema_: &Value| step("i", StepKind::Input { schema: schema(schema_.clone()) });
    assert!(one(vec![gives(&text), check(&numbers)]).starts_with("i: the value can't fit"));
    assert!(one(vec![check(&text), takes(&numbers)]).starts_with("takes: "));
    let kept = step("k", StepKind::Keep { body: vec![map("m")] });
    assert!(one(vec![kept, takes(&json!({"type": "object"}))]).contains("it is array"));
    let remember = BTreeMap::from([("v".to_owned(), cel("value"))]);
    let remember = step("l", StepKind::Set { variables: remember });
    let found = found(vec![gives(&text), remember, map("m"), get("g", "v"), takes(&numbers)]);
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn input_and_output_of_flows_are_compared_with_what_is_inside() {
    let mut def = flow(vec![tool_step("t", json!({"type": "number"}), json!({"type": "string"}))]);
    def.input = schema(json!({"type": "string"}));
    def.output = schema(json!({"type": "object"}));
    let found: Vec<String> = check(&def).iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("t: what tool `t`"), "{found:#?}");
    assert!(found[1].starts_with("what comes out can't fit"), "{found:#?}");
    let mut inner = flow(vec![map("m")]);
    inner.input = schema(json!({"type": "object"}));
    let body = vec![succeed("s", json!(1)), step("i", StepKind::SubFlow { flow: Arc::new(inner) })];
    assert!(one(body).starts_with("i: the value can't fit the flow's input schema"));
}

#[test]
fn steps_that_never_run_are_found_once() {
    assert_eq!(
        one(vec![fail("a"), map("b"), map("c")]),
        "b: can never run: `a` before it never goes on"
    );
    let never = switch(
        "s",
        cel("value"),
        &[("a", vec![fail("x")]), ("b", vec![fail("y")])],
        Some(vec![fail("z")]),
    );
    assert!(one(vec![never, map("c")]).starts_with("c: can never run"));
    let arms = [("a", vec![fail("x")]), ("b", vec![])];
    assert_eq!(found(vec![switch("s", cel("value"), &arms, None), map("c")]), [""; 0]);
    let catch = StepKind::Catch { body: vec![fail("t")], codes: vec![], handler: vec![fail("u")] };
    assert!(one(vec![step("k", catch), map("c")]).starts_with("c: can never run"));
    for no in [Compute::Value(json!(false)), cel("false"), cel("1 > 2"), cel("value.x && false")] {
        let no = step("n", StepKind::Filter { predicate: no });
        assert!(one(vec![no.clone(), map("c")]).starts_with("c: can never run: `n`"));
        // At the end it is how a document rejects.
        assert_eq!(found(vec![map("c"), no]), [""; 0]);
    }
}

#[test]
fn variables_are_lexical() {
    let missing =
        |path: &str| format!("{path}: no step before it, here or around, sets the variable `v`");
    assert_eq!(one(vec![get("g", "v")]), missing("g"));
    assert_eq!(one(vec![get("g", "v"), set("s", "v")]), missing("g"));
    assert_eq!(found(vec![set("s", "v"), get("g", "v")]), [""; 0]);
    let keep = |body: Body| step("k", StepKind::Keep { body });
    assert_eq!(found(vec![set("s", "v"), keep(vec![get("g", "v")])]), [""; 0]);
    assert_eq!(one(vec![keep(vec![set("s", "v")]), get("g", "v")]), missing("g"));
    let inner = |body: Body| step("i", StepKind::SubFlow { flow: Arc::new(flow(body)) });
    let outside = "i/g: the variable `v` is set outside of this flow, which has variables of its own; \
                   pass it in the value that the flow works on";
    assert_eq!(one(vec![set("s", "v"), inner(vec![get("g", "v")])]), outside);
    assert_eq!(
        one(vec![set("s", "v"), inner(vec![inner(vec![get("g", "v")])])]),
        outside.replace("i/g", "i/i/g")
    );
    assert_eq!(one(vec![inner(vec![get("g", "v")]), set("s", "v")]), missing("i/g"));
    assert_eq!(one(vec![keep(vec![set("s", "v")]), inner(vec![get("g", "v")])]), missing("i/g"));
    assert_eq!(found(vec![set("s", "v"), inner(vec![map("m")]), get("g", "v")]), [""; 0]);
    let catch = StepKind::Catch {
        body: vec![set("s", "v"), fail("t")],
        codes: vec![],
        handler: vec![get("g", "v")],
    };
    assert_eq!(one(vec![step("c", catch)]), missing("c/g"));
    let used =
        Compute::Object(IndexMap::from([("a".to_owned(), Compute::List(vec![cel("vars.v + 1")]))]));
    assert_eq!(one(vec![step("m", StepKind::Map { compute: used })]), missing("m"));
    let twice = [cel("vars.v"), cel("vars.w + vars.v")];
    let twice = vec![step("m", StepKind::Map { compute: Compute::List(twice.into()) })];
    assert_eq!(found(twice), [missing("m"), missing("m").replace("`v`", "`w`")]);
    let template = Compute::Template(Template::compile("{{ vars.v }}").unwrap());
    let fails = StepKind::Fail { code: "c".into(), message: template };
    assert_eq!(one(vec![step("f", fails)]), missing("f"));
    // What one step sets, its own computations don't see yet.
    let itself = BTreeMap::from([("v".to_owned(), cel("vars.v"))]);
    assert_eq!(one(vec![step("s", StepKind::Set { variables: itself })]), missing("s"));
}

#[test]
fn what_one_step_sets_is_computed_from_what_was_set_before_it() {
    let let_ = |id: &str, variables: &[(&str, Compute)]| {
        let variables = variables.iter().map(|(name, it)| ((*name).to_owned(), it.clone()));
        step(id, StepKind::Set { variables: variables.collect() })
    };
    let text = schema(json!({"type": "string"}));
    let body = vec![
        let_("one", &[("a", Compute::Value(json!("text")))]),
        let_("two", &[("a", Compute::Value(json!(5))), ("b", cel("vars.a"))]),
        get("three", "b"),
        step("four", StepKind::Input { schema: text }),
    ];
    assert_eq!(found(body), [""; 0]);
}

#[test]
fn a_check_of_values_that_double_ends() {
    let doubled = || {
        Compute::Object(IndexMap::from([
            ("a".to_owned(), cel("value")),
            ("b".to_owned(), cel("value")),
        ]))
    };
    let doubling = (0..40).map(|n| step(&format!("s{n}"), StepKind::Map { compute: doubled() }));
    assert_eq!(found(doubling.collect()), [""; 0]);
}

#[test]
fn filters_give_true_or_false() {
    let filter = |predicate: Compute| found(vec![step("f", StepKind::Filter { predicate })]);
    for right in [
        cel("value.ok"),
        cel("value.a ? true : false"),
        cel("value.a && true"),
        cel("false ? true : value.ok"),
    ] {
        assert_eq!(filter(right), [""; 0]);
    }
    for idle in [
        Compute::Value(json!(true)),
        cel("true"),
        cel("1 + 1 == 2"),
        cel("value.ok || true"),
        cel("value.a ? true : !false"),
    ] {
        let found = filter(idle);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("f: a filter that always gives true does nothing"));
    }
    let template = Compute::Template(Template::compile("{{ value.ok }}").unwrap());
    for wrong in [
        template,
        Compute::Value(json!("true")),
        cel("value.a ? 'yes' : 'no'"),
        Compute::List(vec![]),
    ] {
        assert!(filter(wrong)[0].starts_with("f: a filter must give true or false"));
    }
}

#[test]
fn numbers_and_times_of_nothing_are_found() {
    let retry = |attempts: u32, backoff: Backoff| {
        found(vec![step("r", StepKind::Retry { body: vec![map("m")], attempts, backoff })])
    };
    assert_eq!(retry(1, Backoff::default()), [""; 0]);
    assert_eq!(retry(0, Backoff::default()), ["r: a retry makes at least 1 attempt"]);
    for factor in [0.5, f64::NAN, f64::INFINITY] {
        assert!(retry(1, Backoff { factor, ..Backoff::default() })[0].contains("factor"));
    }
    let short = Backoff { max: Duration::from_millis(1), ..Backoff::default() };
    assert!(retry(1, short)[0].contains("shorter than the first"));
    let sleep = StepKind::Sleep { duration: Duration::ZERO };
    assert_eq!(one(vec![step("s", sleep)]), "s: a wait must be longer than nothing");
    let timeout = StepKind::Timeout { body: vec![map("m")], after: Duration::ZERO };
    assert_eq!(one(vec![step("t", timeout)]), "t: a timeout must be longer than nothing");
}

#[test]
fn number_and_nesting_of_steps_are_bounded() {
    let many = |count: usize| (0..count).map(|n| map(&format!("m{n}"))).collect::<Body>();
    assert_eq!(found(many(MAX_STEPS)), [""; 0]);
    assert_eq!(one(many(MAX_STEPS + 5)), "a flow has at most 10000 steps");
    let nested = |levels: usize| {
        (1..levels).fold(vec![map("m")], |body, _| vec![step("k", StepKind::Keep { body })])
    };
    assert_eq!(found(nested(MAX_NESTING)), [""; 0]);
    assert!(one(nested(MAX_NESTING + 1)).ends_with("steps nest at most 16 levels deep"));
}
