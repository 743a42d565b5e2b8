//! Deadlines, defaults, sleeps, pauses and timeouts, on a clock that only the test moves.

use std::time::Duration;

use dynamic_flow::{
    ErrorKind, Flow, RunStatus, ToolError, days,
    flow::Backoff,
    hours,
    hub::{HubEvent, Outcome},
    minutes, seconds,
    tool::{AwaitInput, tool_fn},
    wait::Closed,
};
use serde_json::{Value, json};

use crate::support::{
    Approval, Counter, Counts, Order, World, completed, defaulting_flow, order, parked, parked_in,
    sleeper, suspended, yes,
};

#[tokio::test]
async fn after_its_deadline_a_wait_without_default_has_expired_for_its_holder() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    world.clock.advance(hours(4));
    let error = hub.resume(&key, yes()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SuspensionExpired);
    assert_eq!(error.receipt().unwrap().closed, Closed::TimedOut);
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!(view.status, RunStatus::Expired);
    assert_eq!(counts.after.get(), 0);
}

#[tokio::test]
async fn a_millisecond_before_the_deadline_an_answer_is_taken() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, _, key) = parked(&world, &counts).await;
    world.clock.advance(hours(4) - std::time::Duration::from_millis(1));
    completed(hub.resume(&key, yes()).await);
}

#[tokio::test]
async fn an_answer_accepted_in_time_counts_however_late_it_is_worked_in() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    world.hub().await.answer(&key, yes()).await.unwrap();
    world.clock.advance(days(3));
    hub.work_once().await.unwrap();
    assert_eq!(hub.get(suspension.run_id).await.unwrap().status, RunStatus::Completed);
}

#[tokio::test]
async fn a_worker_is_woken_by_an_answer_that_somebody_else_accepts() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let mut events = hub.events();
    let worker = tokio::spawn({
        let hub = hub.clone();
        async move { hub.work().await }
    });
    // It has found nothing and waits, on a clock that stands still.
    world.clock.until_sleeping(1).await;
    world.hub().await.answer(&key, yes()).await.unwrap();
    loop {
        if let HubEvent::RunStopped { run_id, .. } = events.next().await.unwrap() {
            assert_eq!(run_id, suspension.run_id);
            break;
        }
    }
    assert!(hub.shutdown(seconds(1)).await);
    worker.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_worker_applies_the_default_after_the_deadline() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked_in(&world, defaulting_flow(&counts)).await;
    assert_eq!(hub.work_once().await.unwrap().driven, 0, "not before");
    world.clock.advance(hours(4));
    assert_eq!(hub.work_once().await.unwrap().driven, 1);
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!(view.output, Some(json!("PO-17 by system")));
    let late = hub.resume(&key, yes()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::AlreadyResumed);
    assert_eq!(late.receipt().unwrap().closed, Closed::Defaulted);
}

#[tokio::test]
async fn false_null_and_zero_are_defaults() {
    for default in [json!(false), json!(null), json!(0)] {
        let world = World::new();
        let hub = world.hub().await;
        let flow = Flow::input::<Order>("defaults")
            .await_input(AwaitInput::<Value>::new("ask").default_value(default.clone()))
            .map("wrap", |answer: Value| json!({ "answer": answer }))
            .build()
            .unwrap();
        let suspension = suspended(hub.register(&flow).unwrap().run(order()).await);
        world.clock.advance(hours(24));
        hub.work_once().await.unwrap();
        let view = hub.get(suspension.run_id).await.unwrap();
        assert_eq!(view.output, Some(json!({ "answer": default })));
    }
}

#[tokio::test]
async fn whoever_comes_late_applies_the_default_and_is_told() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked_in(&world, defaulting_flow(&counts)).await;
    world.clock.advance(hours(5));
    let late = hub.resume(&key, yes()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::AlreadyResumed);
    assert_eq!(late.receipt().unwrap().closed, Closed::Defaulted);
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!(view.output, Some(json!("PO-17 by system")));
}

#[tokio::test]
async fn a_wait_that_timed_out_can_be_caught() {
    let world = World::new();
    let hub = world.hub().await;
    let flow = Flow::input::<Order>("caught")
        .catch_codes(
            "unless-late",
            ["wait_timed_out"],
            |order| order.await_input(AwaitInput::<Approval>::new("ask")).map("by", |a| a.by),
            |error| error.map("late", |error| format!("{} at {}", error.code, error.step)),
        )
        .build()
        .unwrap();
    let suspension = suspended(hub.register(&flow).unwrap().run(order()).await);
    world.clock.advance(days(2));
    hub.work_once().await.unwrap();
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!(view.output, Some(json!("wait_timed_out at unless-late/ask")));
}

#[tokio::test]
async fn a_tool_whose_error_is_called_like_a_deadline_fails_the_run_and_expires_nothing() {
    let world = World::new();
    let hub = world.hub().await;
    let late = |_: Order| async { Err::<Order, _>(ToolError::new("late").code("wait_timed_out")) };
    let flow = Flow::input::<Order>("named").tool(tool_fn("call", late)).build().unwrap();
    let error = hub.register(&flow).unwrap().run(order()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RunFailed);
    assert_eq!(hub.get(error.run_id().unwrap()).await.unwrap().status, RunStatus::Failed);
}

#[tokio::test]
async fn an_expired_run_asks_anew_when_it_is_retried() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, old) = parked(&world, &counts).await;
    world.clock.advance(hours(5));
    hub.work_once().await.unwrap();
    let again = suspended(hub.retry(suspension.run_id).await);
    let new = again.only().unwrap().key().unwrap().clone();
    assert_eq!(hub.resume(&old, yes()).await.unwrap_err().kind(), ErrorKind::SuspensionExpired);
    assert_eq!(completed(hub.resume(&new, yes()).await), json!("PO-17 by jane"));
    assert_eq!(counts.before.get(), 1);
}

#[tokio::test]
async fn a_long_sleep_parks_the_run_and_a_worker_wakes_it() {
    let world = World::new();
    let hub = world.hub().await;
    let parked = suspended(hub.register(sleeper()).unwrap().run(order()).await);
    assert!(parked.waits.is_empty());
    assert_eq!(parked.resumes_at, Some(crate::support::at("2026-11-23T09:00:00Z")));
    world.clock.advance(minutes(59));
    assert_eq!(hub.work_once().await.unwrap().driven, 0);
    world.clock.advance(minutes(1));
    assert_eq!(hub.work_once().await.unwrap().driven, 1);
    assert_eq!(hub.get(parked.run_id).await.unwrap().output, Some(json!("PO-17")));
}

#[tokio::test]
async fn a_retry_pauses_longer_each_time_and_gives_up_in_the_end() {
    let world = World::new();
    let hub = world.hub().await;
    let calls = Counter::default();
    let counted = calls.clone();
    let backoff = Backoff::exponential(minutes(1)).max(hours(1));
    let flow = Flow::input::<Order>("stubborn")
        .retry("again", 3, backoff, |order| {
            order.tool(tool_fn("flaky", move |_: Order| {
                counted.add();
                async move { Err::<Order, _>(ToolError::new("not today")) }
            }))
        })
        .build()
        .unwrap();
    let parked = suspended(hub.register(&flow).unwrap().run(order()).await);
    assert_eq!(parked.resumes_at, Some(crate::support::at("2026-11-23T08:01:00Z")));
    world.clock.advance(minutes(1));
    hub.work_once().await.unwrap();
    assert_eq!(calls.get(), 2);
    world.clock.advance(minutes(1));
    assert_eq!(hub.work_once().await.unwrap().driven, 0, "the second pause is two minutes");
    world.clock.advance(minutes(1));
    hub.work_once().await.unwrap();
    assert_eq!(calls.get(), 3);
    let view = hub.get(parked.run_id).await.unwrap();
    assert_eq!(view.status, RunStatus::Failed);
    let error = hub.drive(parked.run_id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RunFailed);
    assert_eq!(error.context_value("step"), Some("again[3]/flaky"));
}

#[tokio::test]
async fn a_timeout_around_a_wait_closes_it_and_its_key_says_so() {
    let world = World::new();
    let hub = world.hub().await;
    let flow = Flow::input::<Order>("hurried")
        .timeout("quick", minutes(10), |order| {
            order.await_input(AwaitInput::<Approval>::new("ask").timeout(hours(4)))
        })
        .build()
        .unwrap();
    let suspension = suspended(hub.register(&flow).unwrap().run(order()).await);
    let wait = suspension.only().unwrap();
    assert_eq!(
        wait.expires_at,
        Some(crate::support::at("2026-11-23T08:10:00Z")),
        "nobody may be told that an answer was accepted which the timeout would throw away"
    );
    let key = wait.key().unwrap().clone();
    world.clock.advance(minutes(10));
    hub.work_once().await.unwrap();
    let error = hub.drive(suspension.run_id).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.context_value("code")),
        (ErrorKind::RunFailed, Some("timeout"))
    );
    let late = hub.resume(&key, yes()).await.unwrap_err();
    assert_eq!(late.receipt().unwrap().closed, Closed::Superseded);
}

#[tokio::test]
async fn a_timeout_counts_from_when_its_step_begins() {
    let world = World::new();
    let flow = Flow::input::<Order>("late")
        .await_input(AwaitInput::<bool>::new("ask").no_timeout())
        .timeout("quick", minutes(5), |b| {
            b.tool(tool_fn("t", |_: bool| async { Ok::<_, ToolError>(1_i64) }))
        })
        .build()
        .unwrap();
    let hub = world.hub().await;
    let s = suspended(hub.register(&flow).unwrap().run(order()).await);
    world.hub().await.answer(s.only().unwrap().key().unwrap(), json!(true)).await.unwrap();
    world.clock.advance(hours(1));
    hub.work_once().await.unwrap();
    let view = hub.get(s.run_id).await.unwrap();
    assert_eq!(view.status, RunStatus::Completed, "{:?}", view.ended);
}

#[tokio::test]
async fn a_wait_that_nobody_gave_a_deadline_has_that_of_the_hub() {
    let world = World::new();
    let hub = world.builder().default_timeout(seconds(90)).build().await.unwrap();
    let flow = Flow::input::<Order>("unsaid")
        .await_input(AwaitInput::<Approval>::new("ask"))
        .build()
        .unwrap();
    let suspension = suspended(hub.register(&flow).unwrap().run(order()).await);
    assert_eq!(suspension.expires_at(), Some(crate::support::at("2026-11-23T08:01:30Z")));

    let flow = Flow::input::<Order>("for-ever")
        .await_input(AwaitInput::<Approval>::new("ask").no_timeout())
        .build()
        .unwrap();
    let suspension = suspended(hub.register(&flow).unwrap().run(order()).await);
    assert_eq!(suspension.expires_at(), None);
    world.clock.advance(days(3650));
    let key = suspension.only().unwrap().key().unwrap();
    assert!(matches!(hub.resume(key, yes()).await.unwrap(), Outcome::Completed(_)));
}

#[tokio::test]
async fn times_below_a_millisecond_are_refused_when_a_flow_is_built() {
    let short = Duration::from_micros(500);
    let flow = Flow::input::<Order>("short")
        .timeout("quick", short, |b| b.sleep("s", hours(1)))
        .sleep("nap", short)
        .build();
    assert_eq!(flow.unwrap_err().findings().len(), 2);
}
