//! How tools are called: schemas at the boundary, panics, effects, idempotency keys, retries.

use std::sync::{Arc, Mutex, OnceLock};

use dynamic_flow::{
    ErrorKind, Flow, RunStatus, ToolContext, ToolError,
    flow::Backoff,
    hub::{Durability, Handle, HubEvent, Outcome},
    testkit::faults::{Moment, Operation},
    tool::{AwaitInput, FnTool, tool_fn},
};
use serde_json::{Value, json};

use crate::support::{
    Counter, Counts, Order, World, completed, faulty, order, parked, suspended, writes, yes,
};

#[tokio::test]
async fn a_panic_in_a_tool_is_that_tools_error() {
    let world = World::new();
    let hub = world.hub().await;
    let flow = Flow::input::<Order>("panics")
        .tool(tool_fn("fragile", |order: Order| async move {
            assert!(order.total < 0, "too much");
            Ok::<_, ToolError>(order)
        }))
        .build()
        .unwrap();
    let error = hub.register(&flow).unwrap().run(order()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RunFailed);
    assert_eq!(error.context_value("code"), Some("panic"));
    assert_eq!(error.context_value("tool"), Some("fragile"));
    let run = error.run_id().expect("a run that fails is kept");
    assert_eq!(hub.get(run).await.unwrap().status, RunStatus::Failed);
}

#[tokio::test]
async fn a_failed_run_goes_on_from_the_failed_step_when_it_is_retried() {
    let world = World::new();
    let hub = world.hub().await;
    let (first, second) = (Counter::default(), Counter::default());
    let (one, two) = (first.clone(), second.clone());
    let flow = Flow::input::<Order>("fails-once")
        .tool(tool_fn("first", move |order: Order| {
            one.add();
            async move { Ok::<_, ToolError>(order) }
        }))
        .tool(tool_fn("second", move |order: Order| {
            let call = two.add();
            async move { if call == 1 { Err(ToolError::new("down")) } else { Ok(order.id) } }
        }))
        .build()
        .unwrap();
    let error = hub.register(&flow).unwrap().run(order()).await.unwrap_err();
    assert_eq!(error.context_value("step"), Some("second"));
    let output = completed(hub.retry(error.run_id().unwrap()).await);
    assert_eq!(output, json!("PO-17"));
    assert_eq!((first.get(), second.get()), (1, 2));
}

#[tokio::test]
async fn what_does_not_fit_the_schemas_of_a_tool_stops_at_its_boundary() {
    use dynamic_flow::{
        Schema,
        tool::{Output, Tool, ToolSpec},
    };
    struct Liar(ToolSpec);
    #[async_trait::async_trait]
    impl Tool for Liar {
        fn spec(&self) -> &ToolSpec {
            &self.0
        }
        async fn execute(&self, _: &Value, _: &ToolContext) -> Result<Output, ToolError> {
            Ok(Output::Value(json!("not a number")))
        }
    }
    let mut tools = dynamic_flow::tool::ToolRegistry::new();
    let spec = ToolSpec::new("liar")
        .input(Schema::new(json!({ "type": "object" })).unwrap())
        .output(Schema::of::<i64>().unwrap());
    tools.add(Arc::new(Liar(spec))).unwrap();
    let world = World::new();
    let hub = world.builder().tools(tools).build().await.unwrap();
    for (input, code) in [(json!({}), "output_invalid"), (json!([]), "input_invalid")] {
        let text = "flow: boundary\nsteps:\n  - id: call\n    call: liar\n";
        let flow = Flow::from_document(text, hub.tools()).unwrap();
        let error = hub.register(&flow).unwrap().run(input).await.unwrap_err();
        assert_eq!(error.context_value("code"), Some(code));
    }
}

#[tokio::test]
async fn a_tool_that_runs_again_after_a_crash_has_the_same_idempotency_key() {
    let world = World::new();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let make = || {
        let seen = seen.clone();
        Flow::input::<Order>("crashes")
            .await_input(AwaitInput::<bool>::new("ask"))
            .tool(FnTool::with_context("pay", move |_: bool, context| {
                seen.lock().unwrap().push(context.idempotency_key);
                async { Ok::<_, ToolError>("paid".to_owned()) }
            }))
            .build()
            .unwrap()
    };
    let (faults, crashing) = faulty(&world);
    let hub = crashing.builder().max_retries(0).build().await.unwrap();
    let suspension = suspended(hub.register(make()).unwrap().run(order()).await);
    let key = suspension.only().unwrap().key().unwrap().clone();
    // The answer is accepted, the tool runs, and the commit after it never arrives.
    faults.fail(Operation::Update, 2, Moment::Before);
    let error = hub.resume(&key, json!(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageError);
    let other = world.hub().await;
    other.register(make()).unwrap();
    world.clock.advance(dynamic_flow::minutes(1));
    assert_eq!(other.work_once().await.unwrap().driven, 1);
    assert_eq!(other.get(suspension.run_id).await.unwrap().output, Some(json!("paid")));
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn an_effect_is_committed_before_and_after() {
    let world = World::new();
    let (store, counting) = faulty(&world);
    let hub = counting.hub().await;
    let before: Arc<Mutex<Vec<u64>>> = Arc::default();
    let (seen, watched) = (before.clone(), store.clone());
    let flow = Flow::input::<Order>("effects")
        .tool(
            tool_fn("pay", move |order: Order| {
                seen.lock().unwrap().push(writes(&watched));
                async move { Ok::<_, ToolError>(order) }
            })
            .effect(),
        )
        .tool(tool_fn("tell", {
            let (seen, watched) = (before.clone(), store.clone());
            move |order: Order| {
                seen.lock().unwrap().push(writes(&watched));
                async move { Ok::<_, ToolError>(order.id) }
            }
        }))
        .build()
        .unwrap();
    completed(hub.register(&flow).unwrap().run(order()).await);
    assert_eq!(*before.lock().unwrap(), [1, 2], "one commit before the effect, one after it");
    assert_eq!(writes(&store), 3);
}

#[tokio::test]
async fn with_durability_of_every_step_each_tool_has_a_commit_before_it() {
    let world = World::new();
    let (store, counting) = faulty(&world);
    let hub = counting.builder().durability(Durability::EveryStep).build().await.unwrap();
    let tool =
        |id: &'static str| tool_fn(id, |order: Order| async move { Ok::<_, ToolError>(order) });
    let flow = Flow::input::<Order>("careful").tool(tool("a")).tool(tool("b")).build().unwrap();
    completed(hub.register(&flow).unwrap().run(order()).await);
    assert_eq!(writes(&store), 3);
}

#[tokio::test]
async fn events_tell_of_steps_and_waits_and_hold_no_secrets() {
    let (world, counts) = (World::new(), Counts::default());
    let hub = world.hub().await;
    let mut events = hub.events();
    let handle = hub.register(crate::support::approval_flow(&counts)).unwrap();
    let suspension = suspended(handle.run(order()).await);
    let key = suspension.only().unwrap().key().unwrap().clone();
    completed(hub.resume(&key, yes()).await);
    let (mut all, mut steps) = (String::new(), Vec::new());
    while let Some(event) = events.try_next() {
        all.push_str(&serde_json::to_string(&event).unwrap());
        if let HubEvent::StepStarted { step, .. } = &event {
            steps.push(step.to_string());
        }
        assert_eq!(event.run_id(), suspension.run_id);
    }
    assert_eq!(
        steps,
        ["validate", "keep-approval", "keep-approval/approval", "approved", "process"]
    );
    assert!(all.contains("wait_opened") && all.contains("wait_closed"));
    assert!(!all.contains(&key.expose()[3..]) && !all.contains("PO-17"), "{all}");
}

#[tokio::test]
async fn the_debug_forms_of_everything_a_caller_gets_hide_the_key() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let secret = key.expose();
    let secret = &secret[30..];
    let second = hub.resume(&key, json!(1)).await.unwrap_err();
    for text in
        [format!("{suspension:?}"), format!("{hub:?}"), format!("{key:?}"), format!("{second:?}")]
    {
        assert!(!text.contains(secret), "{text}");
    }
}

/// A flow that runs itself, so many times.
#[tokio::test]
async fn flows_that_run_flows_may_be_as_deep_as_they_like() {
    let hub = World::new().hub().await;
    let around: Arc<OnceLock<Handle<u64, u64>>> = Arc::default();
    let inner = around.clone();
    let flow = Flow::input::<u64>("down")
        .tool(tool_fn("again", move |left: u64| {
            let inner = inner.clone();
            async move {
                match left {
                    0 => Ok(0),
                    _ => match inner.get().unwrap().run(left - 1).await {
                        Ok(Outcome::Completed(done)) => Ok(done.output + 1),
                        other => Err(ToolError::new(format!("{other:?}"))),
                    },
                }
            }
        }))
        .build()
        .unwrap();
    around.set(hub.register(flow).unwrap()).unwrap();
    assert_eq!(completed(around.get().unwrap().run(300).await), 300);
}

#[tokio::test]
async fn what_has_nothing_to_wait_for_is_done_on_the_task_of_its_run() {
    let hub = World::new().hub().await;
    let own = |name: &str| {
        tool_fn(name, |seen: Vec<String>| async move {
            Ok::<_, ToolError>([seen, vec![tokio::task::id().to_string()]].concat())
        })
    };
    let flow = Flow::input::<Vec<String>>("at-once")
        .tool(own("first"))
        .tool(tool_fn("waits", |seen: Vec<String>| async move {
            tokio::task::yield_now().await;
            Ok::<_, ToolError>([seen, vec![tokio::task::id().to_string()]].concat())
        }))
        .tool(own("last"))
        .build()
        .unwrap();
    let ids = completed(hub.register(flow).unwrap().run(Vec::new()).await);
    let [first, waits, last] = ids.as_slice() else { panic!("{ids:?}") };
    assert_eq!(first, last);
    assert_ne!(first, waits, "what can be given up needs a task of its own");
}

/// On a runtime of one thread.
#[tokio::test]
async fn a_run_of_calls_that_wait_for_nothing_lets_others_have_the_thread() {
    const CALLS: usize = 40;
    let hub = World::new().hub().await;
    let busy = tool_fn("busy", |(): ()| async {
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_millis(1) {}
        Err::<(), _>(ToolError::new("not yet"))
    });
    let flow = Flow::input::<()>("tries")
        .retry("again", u32::try_from(CALLS).unwrap(), Backoff::none(), |tries| tries.tool(busy))
        .build()
        .unwrap();
    let handle = hub.register(flow).unwrap();
    let mut running = tokio::spawn(async move { handle.run(()).await });
    let mut others = 0;
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut running => break ended.unwrap(),
            () = tokio::task::yield_now() => others += 1,
        }
    };
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::RunFailed);
    assert!(others >= CALLS, "{others}");
}
