mod definitions;

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{
    Failure, Position, RunId, Timestamp,
    engine::{Call, Ended},
    expr::{Cel, Code, Compute, Variables},
    flow::{
        Backoff,
        sample::{flow, schema, spec, step},
    },
    id::WaitId,
    wait::{Deadline, WaitRequest},
};

/// Whether a run can go on with a flow.
fn compare(snapshot: &Snapshot, new: &FlowDef) -> Fit {
    Flow::<Value>::from_def(Arc::new(new.clone())).fit(snapshot)
}

fn map(id: &str) -> Step {
    step(id, StepKind::Map { compute: Compute::Code(Code::unknown()) })
}

fn ask(id: &str, answer: Value) -> Step {
    step(id, StepKind::AwaitInput { tool: spec("manager", json!(true), answer) })
}

fn call(id: &str, input: Value) -> Step {
    step(id, StepKind::Tool { tool: spec("pay", input, json!(true)), with: None })
}

fn get(id: &str, variable: &str) -> Step {
    step(id, StepKind::Get { variable: variable.into() })
}

fn keep(id: &str, body: Body) -> Step {
    step(id, StepKind::Keep { body })
}

fn at(step: &str, state: StepState) -> Branch {
    Branch {
        body: BodyName::Main,
        iteration: 1,
        step: Some(step.into()),
        index: crate::engine::Hint::default(),
        value: json!({ "total": 5 }).into(),
        vars: Variables::new(),
        state,
    }
}

fn inside(step: &str, inner: Branch) -> Branch {
    at(step, StepState::Inside { branches: vec![inner], memo: Memo::None })
}

fn waiting() -> StepState {
    StepState::Waiting { wait: WaitId::from("w") }
}

fn calling(kind: CallKind) -> StepState {
    StepState::Calling { call: Call { id: 1, kind, attempt: 1 } }
}

fn snapshot(def: &FlowDef, root: Branch) -> Snapshot {
    fn answers(body: &Body) -> Option<Schema> {
        body.iter().find_map(|step| match &step.kind {
            StepKind::AwaitInput { tool } => Some(tool.output.clone()),
            kind => kind.bodies().into_iter().find_map(|(_, body)| answers(body)),
        })
    }
    let run_id = RunId::from_bytes([0; 16]);
    let wait = answers(&def.body).map(|schema| {
        let request = WaitRequest {
            prompt: String::new(),
            shown: None,
            schema,
            deadline: Deadline::Never,
            default: None,
            metadata: BTreeMap::new(),
            saved: None,
        };
        let (tool, now) = ("manager".into(), Timestamp::from_millis(0));
        Wait::open(run_id, "w".into(), tool, Position::default(), request, now, None)
    });
    Snapshot {
        format: Snapshot::FORMAT,
        sequence: 1,
        run_id,
        flow: FlowStamp::of(def, &fingerprint(def).unwrap(), &root),
        metadata: BTreeMap::new(),
        input: json!({ "id": 7 }).into(),
        status: RunStatus::Waiting,
        root,
        waits: wait.into_iter().collect(),
        receipts: Vec::new(),
        earlier_receipts: 0,
        opened_waits: 1,
        calls: 0,
        output: None,
        ended: None,
    }
}

/// Why a run of `old` that stands at `root` does not fit `new`.
fn reasons(old: &FlowDef, root: Branch, new: &FlowDef) -> Vec<String> {
    match compare(&snapshot(old, root), new) {
        Fit::Incompatible(reasons) => reasons,
        fit => {
            assert_eq!(fit, Fit::Compatible);
            Vec::new()
        }
    }
}

fn bool_answer() -> Value {
    json!({ "type": "boolean" })
}

#[test]
fn steps_may_come_and_go_where_the_run_does_not_stand() {
    let old = flow(vec![map("a"), ask("ask", bool_answer()), map("b")]);
    let new = flow(vec![map("x"), ask("ask", bool_answer()), map("y"), map("z")]);
    assert_eq!(reasons(&old, at("ask", waiting()), &new), [""; 0]);
}

#[test]
fn the_step_that_the_run_stands_at_must_stay_what_it_is() {
    let old = flow(vec![ask("ask", bool_answer())]);
    let told = |new: Body| reasons(&old, at("ask", waiting()), &flow(new));
    assert_eq!(told(vec![map("other")]), ["The run stands at the step `ask`, which is gone."]);
    assert_eq!(told(vec![map("ask")]), ["The step `ask` was `await_input` and is `map` now."]);
    let tool = spec("director", json!(true), bool_answer());
    assert_eq!(
        told(vec![step("ask", StepKind::AwaitInput { tool })]),
        ["The step `ask` called the tool `manager` and calls `director` now."]
    );
    assert_eq!(
        told(vec![keep("k", vec![ask("ask", bool_answer())])]),
        ["The run stands at the step `ask`, which is gone."]
    );
    let mut other = flow(vec![ask("ask", bool_answer())]);
    other.id = "g".into();
    assert!(reasons(&old, at("ask", waiting()), &other)[0].contains("the flow `g`"));
}

#[test]
fn bodies_around_must_stay_too() {
    let switch = |arms: &[&str]| {
        let arms = arms.iter().map(|arm| ((*arm).to_owned(), vec![ask("ask", bool_answer())]));
        let route = Compute::Code(Code::unknown());
        step("route", StepKind::Switch { route, arms: arms.collect(), otherwise: None })
    };
    let old = flow(vec![switch(&["review"])]);
    let mut inner = at("ask", waiting());
    inner.body = BodyName::Arm("review".into());
    let told = |new: Body| reasons(&old, inside("route", inner.clone()), &flow(new));
    assert_eq!(told(vec![switch(&["review", "auto"]), map("more")]), [""; 0]);
    assert_eq!(
        told(vec![switch(&["auto"])]),
        ["The run stands in the case `review` of the step `route`, which is gone."]
    );
    assert_eq!(
        told(vec![keep("route", vec![])]),
        ["The step `route` was `switch` and is `keep` now."]
    );
}

#[test]
fn an_open_wait_must_take_only_what_the_new_flow_takes() {
    let answer = |more: Value| {
        let mut schema = json!({ "type": "object", "properties": { "ok": { "type": "boolean" } },
            "required": ["ok"], "additionalProperties": false });
        schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        schema
    };
    let old = flow(vec![ask("ask", answer(json!({})))]);
    let told = |new: Value| reasons(&old, at("ask", waiting()), &flow(vec![ask("ask", new)]));
    assert_eq!(told(json!(true)), [""; 0]);
    let both = json!({ "ok": { "type": "boolean" }, "note": { "type": "string" } });
    assert_eq!(told(answer(json!({ "properties": both }))), [""; 0]);
    let stricter = told(answer(json!({ "properties": both, "required": ["ok", "note"] })));
    assert_eq!(stricter.len(), 1);
    assert!(stricter[0].starts_with("The step `ask` asks for other answers now"), "{stricter:?}");
    assert_eq!(told(json!({ "type": "string" })).len(), 1);

    let mut lost = snapshot(&old, at("ask", waiting()));
    lost.waits.clear();
    let Fit::Incompatible(reasons) = compare(&lost, &flow(vec![ask("ask", json!(true))])) else {
        panic!()
    };
    assert!(reasons[0].contains("not in the saved state"), "{reasons:?}");
}

#[test]
fn saved_values_must_fit_the_new_schemas() {
    let old = flow(vec![call("pay", json!(true))]);
    let wants_total = json!({ "type": "object", "required": ["total"] });
    let wants_iban = json!({ "type": "object", "required": ["iban"] });
    let told = |state: StepState, new: &Value| {
        reasons(&old, at("pay", state), &flow(vec![call("pay", new.clone())]))
    };
    for state in [StepState::Ready, StepState::Failed, calling(CallKind::Tool { input: None })] {
        assert_eq!(told(state.clone(), &wants_total), [""; 0]);
        let reasons = told(state, &wants_iban);
        assert_eq!(reasons.len(), 1);
        assert!(reasons[0].contains("`pay`") && reasons[0].contains("iban"), "{reasons:?}");
        assert!(!reasons[0].contains("total"), "{reasons:?}");
    }
    let input = Some(json!({ "iban": "x" }));
    assert_eq!(told(calling(CallKind::Tool { input: input.clone() }), &wants_iban), [""; 0]);
    assert_eq!(told(calling(CallKind::Tool { input }), &wants_total).len(), 1);

    let old = flow(vec![ask("ask", bool_answer())]);
    let resumed = || calling(CallKind::OnResume { answer: json!(true), saved: None });
    assert_eq!(reasons(&old, at("ask", resumed()), &flow(vec![ask("ask", json!(true))])), [""; 0]);
    let new = flow(vec![ask("ask", json!({ "type": "string" }))]);
    assert!(
        reasons(&old, at("ask", resumed()), &new)[0].starts_with("The answer that the step `ask`")
    );

    let mut stricter = flow(vec![ask("ask", bool_answer())]);
    stricter.input = schema(json!({ "required": ["email"] }));
    assert!(reasons(&old, at("ask", waiting()), &stricter)[0].starts_with("The input of the run"));
}

#[test]
fn variables_that_are_still_read_must_be_set() {
    let reading = |step: Step| flow(vec![map("a"), ask("ask", bool_answer()), step]);
    let old = reading(map("b"));
    let told = |new: &FlowDef, vars: &[&str]| {
        let mut root = at("ask", waiting());
        root.vars = vars.iter().map(|name| ((*name).to_owned(), json!(1).into())).collect();
        reasons(&old, root, new)
    };
    let missing = |path: &str| {
        vec![format!("The step `{path}` reads the variable `v`, which this run has not set.")]
    };
    assert_eq!(told(&reading(get("b", "v")), &[]), missing("b"));
    assert_eq!(told(&reading(get("b", "v")), &["v"]), [""; 0]);
    // A step that has done nothing yet reads its variables still; one that is under way has.
    let retried = |state: StepState| {
        let compute = Compute::Cel(Cel::compile("vars.v").unwrap());
        let new = flow(vec![step("m", StepKind::Map { compute })]);
        reasons(&flow(vec![map("m")]), at("m", state), &new)
    };
    assert_eq!(retried(StepState::Ready), missing("m"));
    assert_eq!(retried(StepState::Failed), missing("m"));
    assert_eq!(retried(calling(CallKind::Compute)), missing("m"));
    assert_eq!(told(&reading(keep("k", vec![get("b", "v")])), &[]), missing("k/b"));
    let set = || {
        let variables = BTreeMap::from([("v".to_owned(), Compute::Value(json!(1)))]);
        step("s", StepKind::Set { variables })
    };
    assert_eq!(told(&reading(keep("k", vec![set(), get("b", "v")])), &[]), [""; 0]);
    // A step before the wait will not run again, so what it sets now is not set.
    let new = flow(vec![set(), ask("ask", bool_answer()), get("b", "v")]);
    assert_eq!(told(&new, &[]), missing("b"));
    let sub = flow(vec![set(), get("b", "v")]);
    assert_eq!(told(&reading(step("i", StepKind::SubFlow { flow: Arc::new(sub) })), &[]), [""; 0]);
}

#[test]
fn variables_of_bodies_around_are_in_scope_but_not_inside_another_flow() {
    let inner = |last: Step| vec![ask("ask", bool_answer()), last];
    let mut root = inside("k", at("ask", waiting()));
    root.vars.insert("v".into(), json!(1).into());
    let kept = |last: Step| flow(vec![keep("k", inner(last))]);
    assert_eq!(reasons(&kept(map("m")), root.clone(), &kept(get("m", "v"))), [""; 0]);
    let sub =
        |last: Step| flow(vec![step("k", StepKind::SubFlow { flow: Arc::new(flow(inner(last))) })]);
    assert_eq!(reasons(&sub(map("m")), root, &sub(get("m", "v"))).len(), 1);
}

#[test]
fn what_a_retry_or_catch_may_still_run_is_looked_at() {
    let retry = |first: Step| {
        let body = vec![first, ask("ask", bool_answer())];
        let backoff = Backoff::default();
        flow(vec![step("r", StepKind::Retry { body, attempts: 2, backoff })])
    };
    let memo = Memo::Retry { failed: 0, until: None, given_up: 0 };
    let root = at("r", StepState::Inside { branches: vec![at("ask", waiting())], memo });
    assert_eq!(reasons(&retry(map("m")), root, &retry(get("m", "v"))).len(), 1);

    let catch = |handler: Step| {
        let body = vec![ask("ask", bool_answer())];
        flow(vec![step("c", StepKind::Catch { body, codes: vec![], handler: vec![handler] })])
    };
    let root = inside("c", at("ask", waiting()));
    assert_eq!(reasons(&catch(map("m")), root, &catch(get("m", "v"))).len(), 1);
}

#[test]
fn what_comes_after_a_sleep_must_take_the_value_that_sleeps() {
    let sleeping = |wants: &str| {
        let sleep = StepKind::Sleep { duration: crate::hours(1) };
        flow(vec![step("nap", sleep), call("pay", json!({ "required": [wants] }))])
    };
    let asleep = StepState::Sleeping { until: Timestamp::from_millis(0) };
    let told = |wants| reasons(&sleeping("id"), at("nap", asleep.clone()), &sleeping(wants));
    assert_eq!(told("total"), [""; 0]);
    let reasons = told("iban");
    assert!(reasons[0].contains("`pay`") && reasons[0].contains("iban"), "{reasons:?}");
}

#[test]
fn a_retry_in_its_pause_begins_anew_whatever_became_of_its_last_attempt() {
    let retry = |body: Body| {
        let backoff = Backoff::default();
        flow(vec![step("r", StepKind::Retry { body, attempts: 2, backoff })])
    };
    let old = retry(vec![map("m"), call("pay", json!(true))]);
    let memo = Memo::Retry { failed: 1, until: Some(Timestamp::from_millis(0)), given_up: 0 };
    let paused = at("r", StepState::Inside { branches: vec![at("pay", StepState::Failed)], memo });
    let told = |new: Body| reasons(&old, paused.clone(), &retry(new));
    assert_eq!(told(vec![call("pay2", json!({ "required": ["total"] }))]), [""; 0]);
    let reasons = told(vec![call("pay2", json!({ "required": ["iban"] }))]);
    assert!(reasons[0].contains("`r/pay2`") && reasons[0].contains("iban"), "{reasons:?}");
}

#[test]
fn runs_that_have_ended_fit_and_failed_ones_are_looked_at() {
    let old = flow(vec![map("a")]);
    let new = flow(vec![map("b")]);
    let mut ended = snapshot(&old, at("a", StepState::Failed));
    for status in [RunStatus::Completed, RunStatus::Rejected, RunStatus::Cancelled] {
        ended.status = status;
        assert_eq!(compare(&ended, &new), Fit::Compatible);
    }
    ended.status = RunStatus::Failed;
    ended.ended = Some(Ended::Failed(Failure {
        code: "tool".into(),
        message: String::new(),
        position: Position::default(),
        tool_id: None,
        retryable: true,
    }));
    assert!(matches!(compare(&ended, &new), Fit::Incompatible(_)));
}

#[test]
fn what_has_outgrown_a_flow_does_not_fit_it_until_it_has_ended_or_an_upgrade_leads_back() {
    let def = flow(vec![map("a")]);
    let known = Flow::<Value>::from_def(Arc::new(def.clone()));
    let mut state = snapshot(&def, at("a", StepState::Ready));
    state.flow.fingerprint = ContentDigest("newer".into());
    state.flow.outgrown = vec![fingerprint(&def).unwrap()];
    let Fit::Incompatible(reasons) = known.fit(&state) else { panic!("it fits") };
    assert!(reasons[0].ends_with("give this one an upgrade from `newer`."), "{reasons:?}");
    let leads = |from: &str| known.clone().upgrade(ContentDigest(from.into()), |_| Ok(()));
    assert!(matches!(leads("another").fit(&state), Fit::Incompatible(_)));
    assert_eq!(leads("newer").fit(&state), Fit::Compatible);
    let mut own = state.clone();
    own.flow.fingerprint = fingerprint(&def).unwrap();
    assert_eq!(known.fit(&own), Fit::Same);
    state.status = RunStatus::Cancelled;
    assert_eq!(known.fit(&state), Fit::Compatible);
}

#[test]
fn stamps_name_the_steps_from_the_root_down() {
    let def = flow(vec![keep("k", vec![ask("ask", bool_answer())])]);
    let stamp =
        FlowStamp::of(&def, &fingerprint(&def).unwrap(), &inside("k", at("ask", waiting())));
    let steps: Vec<_> = stamp.steps.iter().map(|s| (s.path.as_str(), s.kind.as_str())).collect();
    assert_eq!(steps, [("k", "keep"), ("k/ask", "await_input")]);
    assert_eq!(stamp.steps[0].tool_id, None);
    assert_eq!(stamp.steps[1].tool_id.as_ref().unwrap(), &"manager");

    let mut unknown = snapshot(&def, inside("k", at("ask", waiting())));
    unknown.flow.steps.pop();
    let new = flow(vec![keep("k", vec![ask("ask", bool_answer())]), map("m")]);
    let Fit::Incompatible(reasons) = compare(&unknown, &new) else { panic!() };
    assert_eq!(reasons, ["The saved state does not say what the step `k/ask` was."]);
}
