//! Steps: what they refuse, when they end, what they tell.

use dynamic_flow::{
    Error, ErrorKind, Flow, ToolError, hours,
    hub::{Outcome, PersistenceHub},
    tool::{ToolRegistry, tool_fn},
};
use serde_json::{Value, json};

use crate::support::{World, completed, suspended};

async fn failure(hub: &PersistenceHub, flow: Flow) -> Error {
    let error = hub.register(flow).unwrap().run(json!({ "n": 4 })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RunFailed);
    error
}

#[tokio::test]
async fn what_a_flow_gives_and_what_a_flow_in_it_gives_fits_its_schema() {
    let hub = World::new().hub().await;
    let flow = |outer: &str, inner: &str| {
        let text = format!(
            "
flow: outer
output: {outer}
steps:
  - id: inner
    flow:
      flow: inner
      output: {inner}
      steps:
        - id: pick
          set: '${{ value.n }}'
"
        );
        Flow::from_document(&text, &ToolRegistry::new()).unwrap()
    };
    let (any, number, text) = ("true", "{ type: integer }", "{ type: string }");
    let fits = hub.register(flow(number, number)).unwrap().run(json!({ "n": 4 })).await;
    assert_eq!(completed(fits), json!(4));
    for (outer, inner, step) in [(any, text, "inner"), (text, any, "")] {
        let error = failure(&hub, flow(outer, inner)).await;
        assert_eq!(error.context_value("code"), Some("output_invalid"), "{error}");
        assert_eq!(error.context_value("step").unwrap_or_default(), step);
        assert!(error.to_string().contains("does not fit"), "{error}");
    }
}

#[tokio::test]
async fn a_variable_that_can_not_be_computed_is_named() {
    let hub = World::new().hub().await;
    let text = "flow: f\nsteps:\n  - id: sums\n    let: { half: 2, share: { each: '${ value.n / 0 }' } }\n";
    let error = failure(&hub, Flow::from_document(text, &ToolRegistry::new()).unwrap()).await;
    assert!(error.message().starts_with("`share`.each: "), "{error}");
}

#[tokio::test]
async fn what_one_tool_gave_is_held_against_what_the_next_one_takes() {
    let number = tool_fn("number", |n: i64| async move { Ok::<_, ToolError>(n) });
    let byte = tool_fn("byte", |n: u8| async move { Ok::<_, ToolError>(n) });
    let mut tools = ToolRegistry::new();
    tools.add_typed(number).unwrap();
    tools.add_typed(byte).unwrap();
    let hub = World::new().builder().tools(tools).build().await.unwrap();
    let between = |what: &str| {
        let text = format!(
            "
flow: narrower
steps:
  - {{ id: first, call: number }}
  - {{ id: between, {what} }}
  - {{ id: last, call: number }}
  - {{ id: narrow, call: byte }}
"
        );
        hub.register(Flow::from_document(&text, hub.tools()).unwrap()).unwrap()
    };
    let same = between("call: number");
    assert_eq!(completed(same.run(json!(255)).await), json!(255));
    // Nobody can know before it runs which of the two it is.
    let other = between("set: '${ value > 0 ? string(value) : value }'");
    for (flow, step) in [(same, "narrow"), (other, "last")] {
        let error = flow.run(json!(256)).await.unwrap_err();
        assert_eq!(error.context_value("code"), Some("input_invalid"), "{error}");
        assert_eq!(error.context_value("step"), Some(step));
        // By the schema, before the tool is called, and not by its type.
        assert!(error.to_string().contains("the tool's input does not fit"), "{error}");
    }
}

#[tokio::test]
async fn a_tool_in_a_document_is_called_with_what_it_says() {
    let double = tool_fn("double", |n: i64| async move { Ok::<_, ToolError>(2 * n) });
    let mut tools = ToolRegistry::new();
    tools.add_typed(double).unwrap();
    let hub = World::new().builder().tools(tools).build().await.unwrap();
    let text = "
flow: doubled
steps:
  - id: twice
    call: double
    with: '${ value.n }'
";
    let flow = Flow::from_document(text, hub.tools()).unwrap();
    let outcome = hub.register(flow).unwrap().run(json!({ "n": 4 })).await;
    assert_eq!(completed(outcome), json!(8));
}

#[tokio::test]
async fn an_id_has_at_most_128_bytes() {
    let flow = |id: String| Flow::input::<Value>(id).sleep("nap", hours(1)).build();
    assert!(flow("i".repeat(128)).is_ok());
    let error = flow("i".repeat(129)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidFlow);
}

#[tokio::test]
async fn a_step_that_fails_on_purpose_tells_its_code() {
    let hub = World::new().hub().await;
    let flow = Flow::input::<Value>("fails").fail::<Value>("stop", "too-much", "no more").build();
    let error = failure(&hub, flow.unwrap().erase()).await;
    let failure = error.failure().unwrap();
    assert_eq!((&*failure.code, failure.position.to_string()), ("too-much", "stop".into()));
    assert_eq!(error.context_value("code"), Some("too-much"));
    assert_eq!(error.context_value("step"), Some("stop"));
}

#[tokio::test]
async fn a_timeout_ends_a_sleep() {
    let world = World::new();
    let hub = world.hub().await;
    let flow = Flow::input::<Value>("hurried")
        .timeout("quick", hours(1), |value| value.sleep("nap", hours(2)))
        .build()
        .unwrap();
    let run = suspended(hub.register(&flow).unwrap().run(json!(1)).await).run_id;
    world.clock.advance(hours(1));
    assert_eq!(hub.work_once().await.unwrap().driven, 1);
    let error = hub.drive(run).await.unwrap_err();
    assert_eq!(error.context_value("code"), Some("timeout"));
}

#[tokio::test]
async fn a_value_that_grows_too_deep_fails_the_step_that_would_put_it_together() {
    let hub = World::new().hub().await;
    for step in [
        "keep: [{ id: a, set: 1 }]",
        "try: [{ id: a, fail: { code: c, message: m } }]\n        catch: { do: [] }",
    ] {
        let steps: String =
            (0..70).map(|n| format!("      - id: s{n}\n        {step}\n")).collect();
        let text = format!(
            "
flow: growing
steps:
  - id: all
    try:
{steps}
    catch:
      errors: [output_invalid]
      do: [{{ id: told, set: '${{ [value.code, value.step] }}' }}]
"
        );
        let flow = Flow::from_document(&text, &ToolRegistry::new()).unwrap();
        let told = hub.register(flow).unwrap().run(json!(4)).await;
        assert_eq!(completed(told), json!(["output_invalid", "all/s64"]), "{step}");
    }
}

#[tokio::test]
async fn watchers_hear_where_a_run_ended_and_by_what_code_and_nothing_that_anybody_said() {
    let world = World::new();
    let hub = world.hub().await;
    let mut events = hub.events();
    let mut stopped = async |steps: &str| {
        let text = format!("flow: f\nsteps:\n{steps}");
        let flow = Flow::from_document(&text, &ToolRegistry::new()).unwrap();
        let run = hub.register(flow).unwrap().run(json!({ "pin": "hunter2" })).await;
        if let Ok(Outcome::Suspended(_)) = &run {
            world.clock.advance(hours(1));
            hub.work_once().await.unwrap();
        }
        let mut told = serde_json::Value::Null;
        while let Some(event) = events.try_next() {
            let event = serde_json::to_value(event).unwrap();
            assert!(!event.to_string().contains("hunter2"), "{event}");
            told = event;
        }
        assert_eq!(told["event"], "run_stopped");
        ["status", "step", "code"].map(|field| told[field].clone())
    };
    let failed =
        stopped("  - id: no\n    fail: { code: wrong_pin, message: '{{ value.pin }}?' }\n");
    assert_eq!(failed.await, [json!("failed"), json!("no"), json!("wrong_pin")]);
    let rejected = stopped("  - id: ok\n    filter: \"${ value.pin == '1' }\"\n");
    assert_eq!(rejected.await, [json!("rejected"), json!("ok"), json!(null)]);
    let expired =
        stopped("  - id: ask\n    await_input: { preset: text, prompt: Who?, timeout: 1h }\n");
    assert_eq!(expired.await, [json!("expired"), json!("ask"), json!("wait_timed_out")]);
    let completed = stopped("  - id: yes\n    succeed: 1\n");
    assert_eq!(completed.await, [json!("completed"), json!(null), json!(null)]);
}
