use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::{
    RunId,
    expr::Scope,
    flow::{Backoff, Body},
    hours, minutes, seconds,
    tool::{HumanInTheLoop, tool_fn},
};

#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize, JsonSchema)]
struct Order {
    id: String,
    total: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize, JsonSchema)]
struct ValidOrder {
    id: String,
    total: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize, JsonSchema)]
struct Approval {
    approved: bool,
    approved_by: String,
    comments: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize, JsonSchema)]
struct Processed {
    id: String,
}

/// Checks stock and credit.
#[crate::tool]
async fn validate_order(order: Order) -> Result<ValidOrder, ToolError> {
    Ok(ValidOrder { id: order.id, total: order.total })
}

/// Ships it.
#[crate::tool(effect)]
async fn process_order((order, _): (ValidOrder, Approval)) -> Result<Processed, ToolError> {
    Ok(Processed { id: order.id })
}

fn manager_approval() -> AwaitInput<Approval, crate::tool::About<ValidOrder>> {
    AwaitInput::<Approval>::new("manager-approval")
        .name("Manager approval")
        .description("Decides on large orders.")
        .prompt_with(|order: &ValidOrder| format!("Approve {} for {}?", order.id, order.total))
        .timeout(hours(4))
        .default_value(Approval { approved: false, approved_by: "system".into(), comments: None })
}

fn ids(body: &Body) -> Vec<&str> {
    body.iter().map(|step| step.id.as_str()).collect()
}

fn compute(compute: &Compute, value: &Value) -> Result<Value, ToolError> {
    compute.evaluate(Scope {
        value,
        vars: &BTreeMap::new(),
        input: &Value::Null,
        run_id: RunId::from_bytes([0; 16]),
    })
}

/// Everything that `build` finds in a flow that must not build.
fn findings<I: JsonSchema, O: JsonSchema>(flow: FlowBuilder<I, O>) -> Vec<String> {
    let error = flow.build().expect_err("it must not build");
    assert_eq!(error.kind(), ErrorKind::InvalidFlow);
    error.findings().iter().map(ToString::to_string).collect()
}

#[test]
fn the_purchase_approval_of_the_design_builds() {
    let flow: Flow<Order, Processed> = Flow::input::<Order>("purchase-approval")
        .name("Purchase approval")
        .description("Lets a manager decide.")
        .tool(ValidateOrder)
        .keep(|order| order.await_input(manager_approval()))
        .filter("approved", |(_, approval)| approval.approved)
        .tool(ProcessOrder)
        .build()
        .unwrap();
    let def = flow.def();
    assert_eq!(def.id, "purchase-approval");
    assert_eq!(
        (def.name.as_str(), def.description.as_str()),
        ("Purchase approval", "Lets a manager decide.")
    );
    assert_eq!(
        ids(&def.body),
        ["validate_order", "keep-manager-approval", "approved", "process_order"]
    );
    assert_eq!(def.body[0].description, "Checks stock and credit.");
    let StepKind::Keep { body } = &def.body[1].kind else { panic!("{:?}", def.body[1]) };
    assert_eq!(ids(body), ["manager-approval"]);
    assert_eq!(body[0].description, "Decides on large orders.");
    assert!(matches!(body[0].kind, StepKind::AwaitInput { .. }));
    assert!(def.input.validate(&json!({ "id": "o-1", "total": 3 })).is_ok());
    assert!(def.input.validate(&json!({ "id": "o-1" })).is_err());
    assert!(def.output.validate(&json!({ "id": "o-1" })).is_ok());
    assert!(def.output.validate(&json!({})).is_err());
    assert!(def.document.is_none());
}

#[test]
fn closures_work_on_typed_values() {
    let flow = Flow::input::<(Order, Approval)>("f")
        .filter("approved", |(_, approval)| approval.approved)
        .map("total", |(order, _)| order.total)
        .try_map("cents", |total| {
            if total >= 0.0 {
                Ok(total * 100.0)
            } else {
                Err(ToolError::new("negative").code("neg"))
            }
        })
        .build()
        .unwrap();
    let [filter, map, try_map] = flow.def().body.as_slice() else { panic!() };
    let StepKind::Filter { predicate } = &filter.kind else { panic!("{filter:?}") };
    let StepKind::Map { compute: total } = &map.kind else { panic!("{map:?}") };
    let StepKind::Map { compute: cents } = &try_map.kind else { panic!("{try_map:?}") };
    let pair = |approved| json!([{ "id": "o", "total": 2.5 }, { "approved": approved, "approved_by": "j" }]);
    assert_eq!(compute(predicate, &pair(true)).unwrap(), json!(true));
    assert_eq!(compute(predicate, &pair(false)).unwrap(), json!(false));
    assert_eq!(compute(total, &pair(true)).unwrap(), json!(2.5));
    assert_eq!(compute(cents, &json!(2.5)).unwrap(), json!(250.0));
    assert_eq!(compute(cents, &json!(-1.0)).unwrap_err().code, "neg");
}

#[test]
fn a_value_that_is_not_of_the_type_is_refused_for_good_and_names_the_step() {
    let flow = Flow::input::<Order>("f").map("total", |order| order.total).build().unwrap();
    let StepKind::Map { compute: total } = &flow.def().body[0].kind else { panic!() };
    let error = compute(total, &json!({ "id": "o" })).unwrap_err();
    assert_eq!(error.code, "input_invalid");
    assert!(!error.retryable);
    assert!(error.message.starts_with("the input of step total does not fit"), "{error}");
}

#[test]
fn every_step_becomes_its_kind() {
    const ORDER: Var<Order> = Var::new("order");
    const LIMIT: Var<u32> = Var::new("limit");
    let inner = Flow::input::<Order>("inner").map("id", |order| order.id).build().unwrap();
    let flow = Flow::input::<Value>("all")
        .input::<Order>("read")
        .set(&ORDER, Order::clone)
        .set_value(&LIMIT, 7)
        .tap("log", |order| assert!(order.total > 0.0))
        .tap_body("notify", |order| order.tool(ValidateOrder))
        .describe("Tells others.")
        .sub_flow("inner", &inner)
        .sleep("pause", minutes(1))
        .get(&ORDER)
        .retry("again", 3, Backoff::default(), |order| order.tool(ValidateOrder))
        .timeout("in-time", hours(1), |order| order.await_input(manager_approval()))
        .map("who", |approval| approval.approved_by)
        .succeed("known", 5_u32)
        .fail_with::<u32>("stop", "stopped", |n| format!("{n} is the end"))
        .build()
        .unwrap();
    let body = &flow.def().body;
    let kinds: Vec<(&str, &str)> =
        body.iter().map(|step| (step.id.as_str(), step.kind.name())).collect();
    assert_eq!(
        kinds,
        [
            ("read", "input"),
            ("set-order", "set"),
            ("set-limit", "set"),
            ("log", "tap"),
            ("notify", "tap"),
            ("inner", "sub_flow"),
            ("pause", "sleep"),
            ("get-order", "get"),
            ("again", "retry"),
            ("in-time", "timeout"),
            ("who", "map"),
            ("known", "succeed"),
            ("stop", "fail"),
        ]
    );
    let StepKind::Input { schema } = &body[0].kind else { panic!() };
    assert!(schema.validate(&json!({ "id": 1 })).is_err());
    let StepKind::Set { variables } = &body[2].kind else { panic!() };
    assert_eq!(variables["limit"], Compute::Value(json!(7)));
    assert_eq!(body[4].description, "Tells others.");
    let StepKind::SubFlow { flow: sub } = &body[5].kind else { panic!() };
    assert_eq!(sub.id, "inner");
    assert!(matches!(body[6].kind, StepKind::Sleep { duration } if duration == minutes(1)));
    assert!(matches!(&body[7].kind, StepKind::Get { variable } if variable == "order"));
    let StepKind::Retry { attempts, backoff, body: again } = &body[8].kind else { panic!() };
    assert_eq!((*attempts, *backoff), (3, Backoff::default()));
    assert_eq!(ids(again), ["validate_order"]);
    assert!(matches!(body[9].kind, StepKind::Timeout { after, .. } if after == hours(1)));
    assert!(matches!(&body[11].kind, StepKind::Succeed { value } if *value == json!(5)));
    let StepKind::Fail { code, message } = &body[12].kind else { panic!() };
    assert_eq!(code, "stopped");
    assert_eq!(compute(message, &json!(5)).unwrap(), json!("5 is the end"));
}

#[test]
fn a_switch_has_arms_by_name_and_one_for_the_rest() {
    enum Risk {
        High,
        Low,
    }
    impl From<Risk> for String {
        fn from(risk: Risk) -> Self {
            match risk {
                Risk::High => "review".into(),
                Risk::Low => "auto".into(),
            }
        }
    }
    let flow: Flow<f64, bool> = Flow::input::<f64>("route")
        .switch_route(
            "risk",
            |&score| if score > 0.5 { Risk::High } else { Risk::Low },
            |arms| {
                arms.arm("review", |score| {
                    score
                        .await_input(HumanInTheLoop::approval("review"))
                        .map("yes", |approval| approval.approved)
                })
                .arm("auto", |score| score.map("fine", |_| true))
                .otherwise(|score| score.fail("unknown", "unknown_risk", "no such risk"))
            },
        )
        .switch_expr("again", "string(value)", |arms| {
            arms.arm("true", |it| it).otherwise(|it| it.map("no", |_| false))
        })
        .build()
        .unwrap();
    let StepKind::Switch { route, arms, otherwise } = &flow.def().body[0].kind else { panic!() };
    assert_eq!(compute(route, &json!(0.9)).unwrap(), json!("review"));
    assert_eq!(compute(route, &json!(0.1)).unwrap(), json!("auto"));
    assert_eq!(ids(&arms["review"]), ["review", "yes"]);
    assert_eq!(ids(&arms["auto"]), ["fine"]);
    assert_eq!(ids(otherwise.as_ref().unwrap()), ["unknown"]);
    let StepKind::Switch { route, arms, .. } = &flow.def().body[1].kind else { panic!() };
    assert!(matches!(route, Compute::Cel(cel) if cel.source() == "string(value)"));
    assert!(arms["true"].is_empty());
}

#[test]
fn a_catch_gives_the_error_and_the_value_to_its_handler() {
    let flow: Flow<Order, String> = Flow::input::<Order>("careful")
        .catch_codes(
            "careful",
            ["timeout", "wait_timed_out"],
            |order| order.tool(ValidateOrder).map("id", |order| order.id),
            |caught| caught.map("excuse", |error| format!("{}: {}", error.value.id, error.code)),
        )
        .catch(
            "sure",
            |id| id.map("trim", |id| id),
            |caught| caught.map("same", |error| error.value),
        )
        .build()
        .unwrap();
    let StepKind::Catch { codes, handler, .. } = &flow.def().body[0].kind else { panic!() };
    assert_eq!(codes, &["timeout", "wait_timed_out"]);
    let StepKind::Map { compute: excuse } = &handler[0].kind else { panic!() };
    let error = json!({
        "code": "timeout",
        "message": "took too long",
        "step": "careful/validate_order",
        "tool_id": null,
        "value": { "id": "o-1", "total": 1.0 },
    });
    assert_eq!(compute(excuse, &error).unwrap(), json!("o-1: timeout"));
    let StepKind::Catch { codes, .. } = &flow.def().body[1].kind else { panic!() };
    assert!(codes.is_empty());
}

#[test]
fn steps_that_take_no_name_keep_theirs_when_others_come_before_them() {
    const N: Var<u32> = Var::new("n");
    let ask = |id: &str| HumanInTheLoop::number(id);
    let one = Flow::input::<u32>("one").keep(|n| n.await_input(ask("b"))).build().unwrap();
    let two = Flow::input::<u32>("one")
        .tap_body("new", |n| n.keep(|n| n.await_input(ask("a"))))
        .keep(|n| n.await_input(ask("a")))
        .map("first", |(n, _)| n)
        .keep(|n| n.await_input(ask("b")))
        .build()
        .unwrap();
    assert_eq!(ids(&one.def().body), ["keep-b"]);
    assert_eq!(ids(&two.def().body), ["new", "keep-a", "first", "keep-b"]);
    // So it does when the first step in it is renamed, and says so.
    let renamed =
        Flow::input::<u32>("f").keep(|n| n.map("c", |n| n).keyed_as("b")).build().unwrap();
    assert_eq!(ids(&renamed.def().body), ["keep-b"]);
    let own = Flow::input::<u32>("f").map("c", |n| n).keyed_as("c").build().unwrap();
    assert_eq!(own.def().body[0].keyed_as, None);
    let again = Flow::input::<u32>("f")
        .set(&N, |n| n + 1)
        .set_value(&N, 2)
        .get(&N)
        .get(&N)
        .keep(|n| n)
        .keep_as("both", |n| n)
        .build()
        .unwrap();
    assert_eq!(ids(&again.def().body), ["set-n", "set-n-2", "get-n", "get-n-2", "keep", "both"]);
}

#[test]
fn the_same_tool_and_the_same_question_may_stand_twice_under_other_names() {
    let question = HumanInTheLoop::confirmation("sure");
    let flow = Flow::input::<Order>("twice")
        .keep(|order| order.await_input(question.clone()).await_input_as("really", question))
        .map("order", |(order, _)| order)
        .tool(ValidateOrder)
        .map("back", |order| Order { id: order.id, total: order.total })
        .tool_as("validate-again", ValidateOrder)
        .build()
        .unwrap();
    let step = &flow.def().body[4];
    assert_eq!(step.id, "validate-again");
    assert_eq!(step.kind.tool().unwrap().id, "validate_order");
}

#[test]
fn all_that_is_wrong_is_reported_at_once_with_its_path() {
    let bad_default = |id: &str| {
        HumanInTheLoop::number(id).min(3.0).default_value(crate::tool::NumberInput { number: 1.0 })
    };
    let found = findings(
        Flow::input::<u32>("bad id")
            .describe("nothing")
            .keyed_as("nobody")
            .keep_as("outer", |n| {
                n.tap_body("inner", |n| n.await_input(bad_default("ask"))).name("not a flow")
            })
            .map("a", |_| 1_u32)
            .map("a", |n| n)
            .switch_route(
                "way",
                |_| "x",
                |arms| {
                    arms.arm("x", |n| n)
                        .arm("x", |n| n.sleep("s", seconds(1)))
                        .otherwise(|n| n)
                        .otherwise(|n| n)
                },
            )
            .await_input(HumanInTheLoop::choice("pick", Vec::<String>::new())),
    );
    let expected = [
        "`describe` is about the step before it, and there is none",
        "`keyed_as` is about the step before it, and there is none",
        "outer/inner/ask: the default does not fit the schema: /number: ",
        "outer: only a flow has a name and a description; steps have `describe`",
        "way: two arms are named \"x\"",
        "way: there are two `otherwise`",
        "pick: a choice needs at least one option",
    ];
    let (built, checked) = found.split_at_checked(expected.len()).unwrap();
    assert!(checked.iter().any(|found| found.starts_with("a: ")), "{found:#?}");
    for (found, expected) in built.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} is not {expected}…");
    }
}

#[test]
fn the_error_of_a_flow_that_can_not_be_built_is_one_line() {
    let pick = |id: &str| HumanInTheLoop::choice(id, Vec::<String>::new());
    let one = Flow::input::<u32>("f").await_input(pick("a"));
    let two = Flow::input::<u32>("f").await_input(pick("a")).await_input(pick("b"));
    let first = "a: a choice needs at least one option (flow f)";
    assert_eq!(
        one.build().unwrap_err().to_string(),
        format!("InvalidFlow: the flow can't be built: {first}")
    );
    assert_eq!(
        two.build().unwrap_err().to_string(),
        format!("InvalidFlow: the flow can't be built for 2 reasons; the first: {first}")
    );
}

#[test]
fn a_type_without_a_usable_schema_is_found_not_panicked_over() {
    #[derive(Clone, Serialize, serde::Deserialize)]
    struct Odd;
    impl JsonSchema for Odd {
        fn schema_name() -> std::borrow::Cow<'static, str> {
            "Odd".into()
        }
        fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
            schemars::json_schema!({ "type": "no such type" })
        }
    }
    let found = findings(
        Flow::input::<Odd>("odd")
            .tool(tool_fn("work", |odd: Odd| async move { Ok::<_, ToolError>(odd) }))
            .map("value", |_| Value::Null)
            .input::<Odd>("read"),
    );
    let places: Vec<&str> =
        found.iter().map(|found| found.split(": ").next().unwrap_or_default()).collect();
    assert_eq!(
        places,
        ["work", "read", "the input has no usable schema", "the output has no usable schema"]
    );
}

#[test]
fn a_tool_known_at_run_time_only_takes_and_gives_json() {
    let tool = tool_fn("add", |(a, b): (u32, u32)| async move { Ok::<_, ToolError>(a + b) });
    let tool = tool.into_tool().unwrap();
    let flow: Flow = Flow::input::<Value>("any").tool(tool).build().unwrap();
    assert_eq!(ids(&flow.def().body), ["add"]);
}

#[test]
fn what_is_in_the_making_can_be_shown() {
    let flow = Flow::input::<u32>("shown").map("double", |n| n * 2).switch_route(
        "route",
        |_| "a",
        |arms| {
            let arms = arms.arm("a", |n| n.map("inner", |n| n));
            let shown = format!("{arms:?}");
            assert!(shown.starts_with("Arms {") && shown.contains("inner"), "{shown}");
            arms
        },
    );
    let shown = format!("{flow:?}");
    assert!(shown.starts_with("FlowBuilder {") && shown.contains("double"), "{shown}");
}
