//! A wait may stand anywhere a tool may: each body suspends, and completes in a fresh process.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use dynamic_flow::{
    Flow, RunStatus, ToolError,
    flow::{Backoff, FlowBuilder},
    hours, seconds,
    tool::{AwaitInput, FnTool, tool_fn},
};
use serde_json::{Value, json};

use crate::support::{Counter, Order, World, completed, order, suspended};

fn ask() -> AwaitInput<i64> {
    AwaitInput::<i64>::new("ask")
}

/// Suspends a flow in one hub, and completes it with 7 in another that registers it anew.
async fn through(flow: impl Fn() -> Flow<Order, Value>) -> Value {
    let world = World::new();
    let first = world.hub().await;
    let suspension = suspended(first.register(flow()).unwrap().run(order()).await);
    let key = suspension.only().unwrap().key().unwrap().clone();
    drop(first);
    let second = world.hub().await;
    second.register(flow()).unwrap();
    completed(second.resume(&key, json!(7)).await)
}

fn flow(
    build: impl FnOnce(FlowBuilder<Order, Order>) -> FlowBuilder<Order, Value>,
) -> Flow<Order, Value> {
    build(Flow::input::<Order>("bodies")).build().unwrap()
}

#[tokio::test]
async fn in_the_open() {
    let output = through(|| flow(|f| f.await_input(ask()).map("out", |n: i64| json!(n)))).await;
    assert_eq!(output, json!(7));
}

#[tokio::test]
async fn in_a_keep() {
    let output = through(|| {
        flow(|f| f.keep(|o| o.await_input(ask())).map("out", |(o, n)| json!([o.total, n])))
    })
    .await;
    assert_eq!(output, json!([250, 7]));
}

#[tokio::test]
async fn in_an_arm_of_a_switch() {
    let output = through(|| {
        flow(|f| {
            f.switch_route(
                "size",
                |o| if o.total > 100 { "large" } else { "small" },
                |arms| {
                    arms.arm("large", |o| {
                        o.await_input(ask()).map("l", |n: i64| json!(["large", n]))
                    })
                    .arm("small", |o| o.map("s", |_| json!("small")))
                },
            )
        })
    })
    .await;
    assert_eq!(output, json!(["large", 7]));
}

#[tokio::test]
async fn in_a_sub_flow() {
    let output = through(|| {
        let inner = Flow::input::<Order>("inner").await_input(ask()).build().unwrap();
        flow(|f| f.sub_flow("sub", &inner).map("out", |n: i64| json!(n + 1)))
    })
    .await;
    assert_eq!(output, json!(8));
}

#[tokio::test]
async fn in_a_retry_a_catch_a_timeout_and_a_tap() {
    let output = through(|| {
        flow(|f| {
            f.retry("again", 3, Backoff::default(), |o| {
                o.catch(
                    "careful",
                    |o| {
                        o.timeout("quick", hours(1), |o| {
                            o.tap_body("aside", |o| o.await_input(ask()))
                        })
                    },
                    |error| error.fail("never", "boom", "not reached"),
                )
            })
            .map("out", |o: Order| json!(o.id))
        })
    })
    .await;
    assert_eq!(output, json!("PO-17"));
}

#[tokio::test]
async fn in_the_handler_of_a_catch() {
    let output = through(|| {
        flow(|f| {
            f.catch(
                "careful",
                |o| {
                    o.tool(tool_fn("broken", |_: Order| async {
                        Err::<i64, _>(ToolError::new("broken").code("broke"))
                    }))
                },
                |error| {
                    error.keep(|e| e.await_input(ask())).map("n", |(error, n)| {
                        assert_eq!(
                            (error.code.as_str(), error.value.id.as_str()),
                            ("broke", "PO-17")
                        );
                        n
                    })
                },
            )
            .map("out", |n: i64| json!(n))
        })
    })
    .await;
    assert_eq!(output, json!(7));
}

#[tokio::test]
async fn variables_are_lexical_and_survive_a_wait() {
    use dynamic_flow::flow::Var;
    const ORDER: Var<Order> = Var::new("order");
    let output = through(|| {
        flow(|f| {
            f.set(&ORDER, |o| o.clone())
                .keep(|o| {
                    o.set(&ORDER, |o| Order { id: "inner".into(), ..o.clone() }).await_input(ask())
                })
                .get(&ORDER)
                .map("out", |o: Order| json!(o.id))
        })
    })
    .await;
    assert_eq!(output, json!("PO-17"), "a body gets a copy; what it sets ends with it");
}

#[tokio::test]
async fn a_retry_asks_again_under_a_key_of_its_own() {
    let world = World::new();
    let hub = world.hub().await;
    let flow = flow(|f| {
        f.retry("again", 2, Backoff::exponential(seconds(1)), |o| {
            o.await_input(ask()).tool(tool_fn("even", |n: i64| async move {
                if n % 2 == 0 { Ok(n) } else { Err(ToolError::new("odd")) }
            }))
        })
        .map("out", |n: i64| json!(n))
    });
    let handle = hub.register(&flow).unwrap();
    let first = suspended(handle.run(order()).await);
    let key = first.only().unwrap().key().unwrap().clone();
    assert_eq!(first.only().unwrap().id, "again/ask#1");
    // The pause is short enough to be waited for; the clock is moved once the answer is in.
    let resumed = tokio::spawn({
        let (hub, key) = (hub.clone(), key.clone());
        async move { hub.resume(&key, json!(1)).await }
    });
    let second = loop {
        world.clock.advance(seconds(1));
        tokio::task::yield_now().await;
        if resumed.is_finished() {
            break suspended(resumed.await.unwrap());
        }
    };
    let wait = second.only().unwrap();
    assert_eq!(wait.id, "again[2]/ask#2");
    assert!(hub.resume(&key, json!(2)).await.is_err(), "the first key is used");
    assert_eq!(completed(hub.resume(wait.key().unwrap(), json!(2)).await), json!(2));
}

#[tokio::test]
async fn any_tool_may_suspend_in_mid_work_and_goes_on_with_what_it_saved() {
    use dynamic_flow::tool::{Output, Tool, ToolContext, ToolSpec};
    use dynamic_flow::wait::WaitRequest;
    struct Quote(ToolSpec);
    #[async_trait::async_trait]
    impl Tool for Quote {
        fn spec(&self) -> &ToolSpec {
            &self.0
        }
        async fn execute(&self, input: &Value, _: &ToolContext) -> Result<Output, ToolError> {
            let question = WaitRequest::of::<i64>("Which discount?").unwrap();
            Ok(Output::Suspend(question.no_timeout().save(input["total"].clone())))
        }
        async fn on_resume(
            &self,
            answer: Value,
            saved: Option<Value>,
            _: &ToolContext,
        ) -> Result<Output, ToolError> {
            let saved = saved.unwrap().as_i64().unwrap();
            Ok(Output::Value(json!(saved - answer.as_i64().unwrap())))
        }
    }
    impl dynamic_flow::TypedTool for Quote {
        type Input = Order;
        type Output = i64;
        fn into_tool(self) -> dynamic_flow::Result<std::sync::Arc<dyn Tool>> {
            Ok(std::sync::Arc::new(self))
        }
    }
    let output =
        through(|| flow(|f| f.tool(Quote(ToolSpec::new("quote"))).map("out", |n: i64| json!(n))))
            .await;
    assert_eq!(output, json!(243));
}

#[tokio::test]
async fn the_step_before_the_wait_ran_once_whatever_body_it_is_in() {
    let world = World::new();
    let calls = Counter::default();
    let make = || {
        let counted = calls.clone();
        flow(|f| {
            f.retry("again", 5, Backoff::default(), |o| {
                o.tool(tool_fn("before", move |o: Order| {
                    counted.add();
                    async move { Ok::<_, ToolError>(o) }
                }))
                .await_input(ask())
            })
            .map("out", |n: i64| json!(n))
        })
    };
    let hub = world.hub().await;
    let suspension = suspended(hub.register(make()).unwrap().run(order()).await);
    for _ in 0..3 {
        let other = world.hub().await;
        other.register(make()).unwrap();
        assert_eq!(other.work_once().await.unwrap().driven, 0);
        assert_eq!(other.get(suspension.run_id).await.unwrap().status, RunStatus::Waiting);
    }
    let other = world.hub().await;
    other.register(make()).unwrap();
    completed(other.resume(suspension.only().unwrap().key().unwrap(), json!(1)).await);
    assert_eq!(calls.get(), 1);
}

#[tokio::test]
async fn a_sub_flow_has_an_input_of_its_own() {
    let text = "
flow: outer
steps:
  - id: make
    set: { n: 1 }
  - id: inner
    flow:
      flow: inner
      steps:
        - id: ask
          await_input: { prompt: 'Add to {{ input.n }}?', schema: { type: integer } }
        - id: add
          set: '${ input.n + value }'
  - id: out
    set: { inner: '${ value }', outer: '${ input.n }' }
";
    let world = World::new();
    let hub = world.hub().await;
    let flow = Flow::from_document(text, hub.tools()).unwrap();
    let suspension = suspended(hub.register(flow).unwrap().run(json!({ "n": 5 })).await);
    let wait = suspension.only().unwrap();
    assert_eq!(wait.prompt, "Add to 1?");
    // Any hub goes on: the document travels with the run.
    let output = completed(world.hub().await.resume(wait.key().unwrap(), json!(2)).await);
    assert_eq!(output, json!({ "inner": 3, "outer": 5 }));
}

#[tokio::test]
async fn what_a_retry_does_after_the_flow_gave_up_are_other_calls() {
    let keys = Arc::new(Mutex::new(Vec::new()));
    let seen = keys.clone();
    let post = FnTool::with_context("post", move |yes: bool, context| {
        let mut seen = seen.lock().unwrap();
        seen.push(context.idempotency_key);
        // The first call fails, the second gives what was answered.
        let result = if seen.len() == 1 { Err(ToolError::new("not now")) } else { Ok(yes) };
        async { result }
    });
    let at_once = Backoff::none();
    let flow = Flow::input::<Order>("until-yes")
        .retry("again", 4, at_once, |order| {
            order.await_input(AwaitInput::<bool>::new("ask")).tool(post).switch_route(
                "is-it",
                |yes| if *yes { "yes" } else { "no" },
                |arms| {
                    arms.arm("yes", |yes| yes.map("so", |yes: bool| yes))
                        .arm("no", |no| no.fail("declined", "declined", "nobody wants it"))
                },
            )
        })
        .build()
        .unwrap();
    let world = World::new();
    let hub =
        world.builder().configure(|options| options.linger = Duration::ZERO).build().await.unwrap();
    let mut outcome = hub.register(flow.erase()).unwrap().run(json!(order())).await;
    for answer in [false, false, true] {
        let mut parked = suspended(outcome);
        if parked.waits.is_empty() {
            // It gave up, and begins anew in a moment.
            world.clock.advance(Duration::from_millis(1));
            parked = suspended(hub.drive(parked.run_id).await);
        }
        let key = hub.reissue(parked.run_id, &parked.waits[0].id).await.unwrap();
        outcome = hub.resume(&key, json!(answer)).await;
    }
    assert_eq!(completed(outcome), json!(true));
    let keys = keys.lock().unwrap();
    assert_eq!(keys[0], keys[1], "the tool failed, and is tried again");
    assert_ne!(keys[1], keys[2], "it was done, and the flow asked anew");
}
