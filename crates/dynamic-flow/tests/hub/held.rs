//! Runs that somebody else holds: who comes meanwhile takes nothing away, who comes after the lease
//! goes on.

use std::{sync::Arc, time::Duration};

use dynamic_flow::{
    Cancellation, Clock as _, ErrorKind, Flow, RunId, RunStatus, ToolError, hours, minutes,
    seconds,
    store::{Filter, Record},
    testkit::faults::{Moment, Operation},
    tool::{AwaitInput, tool_fn},
    wait::Closed,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::{
    Counter, Counts, Order, World, approval_flow, completed, faulty, held, order, parked,
    suspended, yes,
};

#[tokio::test]
async fn who_comes_too_late_takes_no_run_from_its_holder() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    world.clock.advance(hours(4));
    held(&world, suspension.run_id, seconds(30)).await;
    let before = world.store.get(suspension.run_id).await.unwrap();
    let late = hub.resume(&key, yes()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::SuspensionExpired);
    assert_eq!(world.store.get(suspension.run_id).await.unwrap(), before);
    // At the very moment of its end, the lease holds nobody off.
    world.clock.advance(seconds(30));
    let late = hub.resume(&key, yes()).await.unwrap_err();
    assert_eq!(late.receipt().unwrap().closed, Closed::TimedOut);
}

#[tokio::test]
async fn an_answer_at_the_end_of_a_lease_is_left_to_no_holder() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    held(&world, suspension.run_id, seconds(30)).await;
    world.clock.advance(seconds(30));
    let accepted = world.hub().await.answer(&key, yes()).await.unwrap();
    assert_eq!(accepted.status, RunStatus::Ready);
    assert_eq!(hub.work_once().await.unwrap().driven, 1);
}

#[tokio::test]
async fn runs_of_a_claim_that_seemed_to_fail_are_claimed_again_at_once() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, key) = parked(&world, &counts).await;
    let (_, other, _) = parked(&world, &counts).await;
    world.hub().await.answer(&key, yes()).await.unwrap();
    // Held by somebody else for just as long, it is theirs.
    held(&world, other.run_id, seconds(30)).await;
    let theirs = world.store.get(other.run_id).await.unwrap();
    let (faults, cut) = faulty(&world);
    let hub = cut.hub().await;
    hub.register(approval_flow(&counts)).unwrap();
    faults.fail_next(Operation::Claim, Moment::After);
    let second = faults.pause(Operation::Claim, 2, Moment::Before);
    let worked = tokio::spawn({
        let hub = hub.clone();
        async move { hub.work_once().await }
    });
    second.reached().await;
    let record = world.store.get(suspension.run_id).await.unwrap().unwrap();
    assert_eq!((record.status, record.attempts, record.lease), (RunStatus::Ready, 0, None));
    second.release();
    assert_eq!(worked.await.unwrap().unwrap().driven, 1);
    assert_eq!(hub.get(suspension.run_id).await.unwrap().status, RunStatus::Completed);
    assert_eq!(world.store.get(other.run_id).await.unwrap(), theirs);
}

#[tokio::test]
async fn a_resume_that_takes_a_run_over_counts_as_a_takeover() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, key) = parked(&world, &counts).await;
    held(&world, suspension.run_id, seconds(30)).await;
    world.clock.advance(seconds(30));
    let (faults, slow) = faulty(&world);
    let hub = slow.hub().await;
    hub.register(approval_flow(&counts)).unwrap();
    let commit = faults.pause(Operation::Update, 2, Moment::Before);
    let resumed = tokio::spawn(async move { hub.resume(&key, yes()).await });
    commit.reached().await;
    let attempts = async || world.store.get(suspension.run_id).await.unwrap().unwrap().attempts;
    assert_eq!(attempts().await, 1, "should this holder die as well, that is the second");
    commit.release();
    completed(resumed.await.unwrap());
    assert_eq!(attempts().await, 0, "it got further");
}

#[tokio::test]
async fn a_store_that_takes_no_writes_is_found_out_and_one_that_does_has_nothing_more_in_it() {
    let world = World::new();
    let (faults, refusing) = faulty(&world);
    let hub = refusing.hub().await;
    hub.try_write().await.unwrap();
    faults.fail_all(Operation::Insert, Moment::Before);
    let before = faults.calls(Operation::Insert);
    assert_eq!(hub.try_write().await.unwrap_err().kind(), ErrorKind::StorageError);
    assert_eq!(faults.calls(Operation::Insert), before + 1, "it is tried once");
    assert!(hub.query(&Filter::default(), None, 10).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn what_nobody_goes_on_with_is_overdue() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, _, key) = parked(&world, &counts).await;
    let (_, crashed, _) = parked(&world, &counts).await;
    hub.answer(&key, yes()).await.unwrap();
    held(&world, crashed.run_id, seconds(30)).await;
    assert_eq!(hub.overdue(10).await.unwrap(), 0, "somebody may come any moment");
    world.clock.advance(minutes(2) + seconds(1));
    assert_eq!(hub.overdue(10).await.unwrap(), 1, "it was answered two minutes ago");
    world.clock.advance(seconds(30));
    assert_eq!(hub.overdue(10).await.unwrap(), 2, "its holder has died two minutes ago");
    assert_eq!(hub.overdue(1).await.unwrap(), 1, "no more than asked for are counted");
    hub.work_once().await.unwrap();
    assert_eq!(hub.overdue(10).await.unwrap(), 0);
}

#[tokio::test]
async fn whom_nobody_wakes_after_a_timer_is_overdue() {
    let world = World::new();
    let hub = world.hub().await;
    let nap = Flow::input::<Value>("nap").sleep("nap", hours(1)).build().unwrap();
    let fails = tool_fn("fails", |_: Value| async { Err::<Value, _>(ToolError::new("no")) });
    let tries = Flow::input::<Value>("tries").retry("again", 2, hours(1), |body| body.tool(fails));
    let ask = AwaitInput::<Value>::new("ask").timeout(hours(9));
    let asks = Flow::input::<Value>("asks").await_input(ask).build().unwrap();
    for flow in [nap, tries.build().unwrap(), asks] {
        suspended(hub.register(flow).unwrap().run(json!(1)).await);
    }
    world.clock.advance(hours(1) + minutes(2));
    assert_eq!(hub.overdue(10).await.unwrap(), 0, "somebody may come any moment");
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(hub.overdue(10).await.unwrap(), 2);
    assert_eq!(hub.overdue(1).await.unwrap(), 1, "no more than asked for are counted");
    world.clock.advance(hours(9));
    assert_eq!(hub.overdue(10).await.unwrap(), 3, "one whose deadline has passed is one, too");
    hub.work_once().await.unwrap();
    assert_eq!(hub.overdue(10).await.unwrap(), 0);
}

#[tokio::test]
async fn of_runs_with_a_timer_alone_the_10_000_newest_that_are_parked_are_looked_at() {
    let world = World::new();
    let hub = world.hub().await;
    let nap = Flow::input::<Value>("nap").sleep("nap", hours(1)).build().unwrap();
    let oldest = suspended(hub.register(&nap).unwrap().run(json!(1)).await).run_id;
    let like = world.store.get(oldest).await.unwrap().unwrap();
    world.clock.advance(hours(2));
    let mut newer = (0..10_000_u128).map(|n| RunId::from_bytes((u128::MAX - n).to_be_bytes()));
    let due_at = Some(world.clock.now());
    for id in newer.by_ref().take(9_999) {
        world.store.insert(Record { id, due_at, ..like.clone() }).await.unwrap();
    }
    assert_eq!(hub.overdue(10).await.unwrap(), 1);
    let last = newer.next().unwrap();
    world.store.insert(Record { id: last, due_at, ..like }).await.unwrap();
    assert_eq!(hub.overdue(10).await.unwrap(), 0);
}

#[tokio::test]
async fn a_cancellation_that_the_holder_has_not_seen_closes_the_wait_already() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let run = suspension.run_id;
    held(&world, run, seconds(30)).await;
    hub.cancel(run, Cancellation::new().by("joe")).await.unwrap();
    let late = hub.answer(&key, yes()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::AlreadyResumed);
    assert_eq!(late.receipt().unwrap().closed, Closed::Cancelled);
    let again = hub.cancel(run, Cancellation::new()).await.unwrap();
    assert_eq!(again, RunStatus::Running, "its holder has not come to it");
    let view = hub.get(run).await.unwrap();
    let by = view.cancelling.and_then(|cancellation| cancellation.by);
    assert_eq!(by.as_deref(), Some("joe"), "cancelling twice is once");
    assert!(view.waits.is_empty(), "it can't be answered any more");
    assert_eq!(view.accepted.len(), 1, "{:?}", view.accepted);
    assert_eq!(view.accepted[0].closed, Closed::Cancelled);
    world.clock.advance(seconds(30));
    let error = hub.drive(run).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RunCancelled);
    assert_eq!(counts.after.get(), 0);
}

/// A flow that asks, works until a gate opens, and takes a further step.
fn two_steps(gate: &Arc<Semaphore>, working: &Counter, further: &Counter) -> Flow<Order, i64> {
    let (gate, working, further) = (gate.clone(), working.clone(), further.clone());
    Flow::input::<Order>("two-steps")
        .await_input(AwaitInput::<bool>::new("ask").no_timeout())
        .tool(tool_fn("work", move |_: bool| {
            working.add();
            let gate = gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                Ok::<_, ToolError>(1_i64)
            }
        }))
        .tool(tool_fn("further", move |n: i64| {
            further.add();
            async move { Ok::<_, ToolError>(n) }
        }))
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_holder_whose_run_was_taken_begins_no_further_step_and_one_whose_store_fails_does() {
    for taken in [true, false] {
        let world = World::new();
        let gate = Arc::new(Semaphore::new(0));
        let (working, further) = (Counter::default(), Counter::default());
        let (faults, slow) = faulty(&world);
        let hub = slow.hub().await;
        let flow = two_steps(&gate, &working, &further);
        let suspension = suspended(hub.register(&flow).unwrap().run(order()).await);
        let key = suspension.only().unwrap().key().unwrap().clone();
        let resumed = tokio::spawn(async move { hub.resume(&key, json!(true)).await });
        while working.get() == 0 {
            tokio::task::yield_now().await;
        }
        if taken {
            held(&world, suspension.run_id, seconds(30)).await;
        } else {
            faults.fail_next(Operation::Renew, Moment::Before);
        }
        // A third of the lease later it is to be renewed, and the holder hears what is.
        world.clock.until_sleeping(1).await;
        let renewal = faults.pause_next(Operation::Renew, Moment::Before);
        world.clock.advance(seconds(10));
        renewal.reached().await;
        renewal.release();
        world.clock.until_sleeping(1).await;
        gate.add_permits(1);
        let outcome = resumed.await.unwrap();
        match taken {
            true => assert_eq!(outcome.unwrap_err().kind(), ErrorKind::RunBusy),
            false => assert_eq!(completed(outcome), json!(1)),
        }
        assert_eq!(further.get(), usize::from(!taken));
    }
}
