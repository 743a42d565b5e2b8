//! A run comes to the same however late somebody drives it.

use std::time::Duration;

use dynamic_flow::{
    Cancellation, Flow, RunStatus, hours,
    hub::{Ended, RunView},
    seconds,
    tool::AwaitInput,
};
use serde_json::{Value, json};

use crate::support::{Order, World, order, suspended};

/// What becomes of a run that parks, and that a worker comes to so long after.
async fn after<O: Send + 'static>(flow: Flow<Order, O>, late: Duration) -> RunView {
    let world = World::new();
    let hub =
        world.builder().configure(|options| options.linger = Duration::ZERO).build().await.unwrap();
    let flow = flow.erase();
    let run = suspended(hub.register(&flow).unwrap().run(json!(order())).await).run_id;
    world.clock.advance(late);
    hub.work_once().await.unwrap();
    hub.get(run).await.unwrap()
}

#[tokio::test]
async fn a_default_that_was_due_before_a_timeout_counts() {
    let flow = || {
        let ask = AwaitInput::<bool>::new("ask").timeout(seconds(1)).default_value(false);
        Flow::input::<Order>("f")
            .timeout("t", hours(1), |body| body.await_input(ask))
            .build()
            .unwrap()
    };
    for late in [seconds(1), hours(1), hours(9)] {
        let run = after(flow(), late).await;
        assert_eq!(
            (run.status, run.output),
            (RunStatus::Completed, Some(json!(false))),
            "{late:?}"
        );
    }
}

#[tokio::test]
async fn a_sleep_that_was_over_before_a_timeout_counts() {
    let flow = |nap| {
        let body = Flow::input::<Order>("f");
        body.timeout("t", hours(2), |body| body.sleep("nap", nap)).build().unwrap()
    };
    assert_eq!(after(flow(hours(1)), hours(9)).await.status, RunStatus::Completed);
    // At the same time the timeout is over: what is in it had no time left.
    let run = after(flow(hours(3)), hours(9)).await;
    assert_eq!(run.status, RunStatus::Failed);
    assert!(matches!(run.ended, Some(Ended::Failed(failed)) if failed.code == "timeout"));
}

#[tokio::test]
async fn naps_one_after_the_other_are_each_begun_when_somebody_comes() {
    let flow = Flow::input::<Order>("f")
        .timeout("t", hours(3), |body| body.sleep("first", hours(1)).sleep("second", hours(1)))
        .build()
        .unwrap();
    let run = after(flow, hours(2)).await;
    assert_eq!(
        run.status,
        RunStatus::Waiting,
        "the second began when the first was seen to be over"
    );
}

#[tokio::test]
async fn a_cancellation_that_an_earlier_answer_forestalls_tells_how_the_run_ended() {
    let world = World::new();
    let hub = world.hub().await;
    let flow = Flow::input::<Order>("fails")
        .await_input(AwaitInput::<bool>::new("ask"))
        .fail::<Value>("stop", "too-much", "no more")
        .build()
        .unwrap();
    let suspension = suspended(hub.register(&flow).unwrap().run(order()).await);
    hub.answer(suspension.only().unwrap().key().unwrap(), json!(true)).await.unwrap();
    let cancelled = hub.cancel(suspension.run_id, Cancellation::new()).await;
    assert_eq!(cancelled.unwrap(), RunStatus::Failed);
}
