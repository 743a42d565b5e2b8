//! What was accepted once does not count again when somebody who can write to the database puts it
//! back.

use dynamic_flow::{
    Cancellation, Clock as _, ErrorKind, Flow, RunId, RunStatus, Schema, ToolError,
    codec::Sealed,
    hub::{PersistenceHub, StateClaim, SuspensionRequest},
    store::{Change, Expect, Queue},
    tool::{AwaitInput, tool_fn},
    wait::Closed,
};
use serde_json::json;

use crate::support::{Counter, Counts, World, completed, parked, suspended, worn, yes};

/// What is in the inbox of a run now.
async fn inbox(world: &World, run: RunId) -> Vec<Sealed> {
    world.store.get(run).await.unwrap().unwrap().inbox
}

/// Puts items back, and makes it look as if somebody had to work them in.
async fn put_back(world: &World, run: RunId, items: Vec<Sealed>, queue: Queue) {
    let now = world.clock.now();
    let change = Change {
        status: Some(RunStatus::Ready),
        queue: Some(Some(queue)),
        due_at: Some(Some(now)),
        inbox_push: items,
        ..Change::at(now)
    };
    world.store.update(run, Expect::Any, change).await.unwrap();
}

/// A flow whose tool fails the first times.
fn failing(calls: &Counter, times: usize) -> Flow<i64, i64> {
    let calls = calls.clone();
    Flow::input::<i64>("failing")
        .tool(tool_fn("work", move |n: i64| {
            let fails = calls.add() <= times;
            async move { if fails { Err(ToolError::new("not now")) } else { Ok(n) } }
        }))
        .build()
        .unwrap()
}

/// Has a retry accepted by a hub that is about to end and so drives nothing.
async fn retry_accepted(world: &World, flow: &Flow<i64, i64>, run: RunId) {
    let leaving = world.hub().await;
    leaving.register(flow).unwrap();
    leaving.shutdown(std::time::Duration::ZERO).await;
    assert_eq!(leaving.retry(run).await.unwrap_err().kind(), ErrorKind::ShuttingDown);
}

/// A run that failed, and for which a retry was accepted.
async fn retried(world: &World, flow: &Flow<i64, i64>) -> (PersistenceHub, RunId) {
    let hub = world.hub().await;
    let run = hub.register(flow).unwrap().run(1).await.unwrap_err().run_id().unwrap();
    retry_accepted(world, flow, run).await;
    (hub, run)
}

#[tokio::test]
async fn a_retry_that_failed_again_is_not_repeated_by_its_old_item() {
    let (world, calls) = (World::new(), Counter::default());
    let (hub, run) = retried(&world, &failing(&calls, 2)).await;
    let old = inbox(&world, run).await;
    assert_eq!((calls.get(), old.len()), (1, 1));
    assert_eq!(hub.work_once().await.unwrap().driven, 1);
    assert_eq!(calls.get(), 2);
    put_back(&world, run, old, Queue::of_flow(&"failing".into())).await;
    hub.work_once().await.unwrap();
    assert_eq!(calls.get(), 2, "nobody asked for it to be tried a third time");
    assert_eq!(hub.get(run).await.unwrap().status, RunStatus::Failed);
    assert_eq!(completed(hub.retry(run).await), json!(1));
}

#[tokio::test]
async fn a_retry_counts_also_when_the_run_is_upgraded_before_it_is_worked_in() {
    let (world, calls) = (World::new(), Counter::default());
    let flow = failing(&calls, 1);
    let (hub, run) = retried(&world, &flow).await;
    hub.upgrade(run, &flow.erase()).await.unwrap();
    assert_eq!(completed(hub.drive(run).await), json!(1));
}

#[tokio::test]
async fn a_retry_counts_also_when_the_run_was_set_aside_before_it_was_worked_in() {
    let (world, calls) = (World::new(), Counter::default());
    let flow = failing(&calls, 1);
    let (hub, run) = retried(&world, &flow).await;
    worn(&world, run).await;
    hub.work_once().await.unwrap();
    assert_eq!((hub.get(run).await.unwrap().status, calls.get()), (RunStatus::Failed, 1));
    assert_eq!(completed(hub.retry(run).await), json!(1));
    assert!(inbox(&world, run).await.is_empty());
}

/// Asks, breaks once right after the answer, and asks again.
fn breaking() -> Flow<i64, bool> {
    let runs = Counter::default();
    Flow::input::<i64>("breaking")
        .await_input(AwaitInput::<bool>::new("first").no_timeout())
        .map("break", move |answer: bool| {
            assert!(runs.add() > 1, "broken");
            answer
        })
        .await_input(AwaitInput::<bool>::new("second").no_timeout())
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_cancellation_that_came_too_late_does_not_end_the_run_once_it_is_retried() {
    let (world, flow) = (World::new(), breaking());
    let hub = world.hub().await;
    let parked = suspended(hub.register(&flow).unwrap().run(1).await);
    let run = parked.run_id;
    let stranger = world.hub().await;
    stranger.answer(parked.only().unwrap().key().unwrap(), json!(true)).await.unwrap();
    stranger.cancel(run, Cancellation::new()).await.unwrap();
    let old = inbox(&world, run).await;
    assert_eq!(old.len(), 2);
    // The answer comes first, and what follows from it ends the run before the cancellation.
    assert_eq!(hub.drive(run).await.unwrap_err().kind(), ErrorKind::RunFailed);
    let parked = suspended(hub.retry(run).await);
    put_back(&world, run, old, Queue::of_flow(&"breaking".into())).await;
    assert_eq!(hub.work_once().await.unwrap().driven, 1);
    assert_eq!(hub.get(run).await.unwrap().status, RunStatus::Waiting);
    let key = parked.only().unwrap().key().unwrap();
    assert_eq!(completed(hub.resume(key, json!(false)).await), json!(false));
}

#[tokio::test]
async fn a_cancellation_of_a_run_that_was_set_aside_still_counts_when_it_is_retried() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let run = suspension.run_id;
    let stranger = world.hub().await;
    stranger.answer(&key, yes()).await.unwrap();
    stranger.cancel(run, Cancellation::new()).await.unwrap();
    worn(&world, run).await;
    hub.work_once().await.unwrap();
    assert_eq!(hub.get(run).await.unwrap().status, RunStatus::Failed);
    assert_eq!(hub.retry(run).await.unwrap_err().kind(), ErrorKind::RunCancelled);
    let view = hub.get(run).await.unwrap();
    assert_eq!((view.receipts[0].closed, counts.after.get()), (Closed::Answered, 0));
}

#[tokio::test]
async fn an_answer_to_an_earlier_wait_of_a_state_is_not_given_with_a_later_state() {
    let world = World::new();
    let hub = world.hub().await;
    let request = || SuspensionRequest::new("ask", Schema::any());
    let first = hub.suspend(&1, request()).await.unwrap();
    let run = first.run_id;
    hub.answer(&first.key, json!("old")).await.unwrap();
    let old = inbox(&world, run).await;
    let claim: StateClaim<i64> = hub.claim_states(1).await.unwrap().remove(0);
    let second = claim.suspend(&2, request()).await.unwrap();
    put_back(&world, run, old, Queue::states()).await;
    let given = hub.claim_states::<i64>(1).await.unwrap();
    assert!(given.is_empty(), "{given:?}");
    let claim: StateClaim<i64> = hub.resume_state(&second.key, json!("new")).await.unwrap();
    assert_eq!((claim.state, &claim.input), (2, &json!("new")));
    claim.complete().await.unwrap();
}
