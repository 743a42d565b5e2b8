//! Holders, takeovers, poisoned runs, and what is accepted while somebody drives.

use std::{sync::Arc, time::Duration};

use dynamic_flow::{
    Answer, Cancellation, ErrorKind, Flow, RunStatus, ToolError, hours,
    hub::{Durability, Ended, Outcome, Worked},
    minutes, seconds,
    store::FileStore,
    testkit::faults::{Moment, Operation},
    tool::{AwaitInput, tool_fn},
};
use futures::FutureExt as _;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::{
    Counter, Counts, Order, World, approval_flow, completed, fails_once, faulty, order, parked,
    parked_in, suspended, yes,
};

/// A flow that asks, then works until a gate opens.
fn gated(gate: &Arc<Semaphore>, calls: &Counter) -> Flow<Order, String> {
    let (gate, calls) = (gate.clone(), calls.clone());
    Flow::input::<Order>("gated")
        .await_input(AwaitInput::<String>::new("ask").no_timeout())
        .tool(tool_fn("work", move |text: String| {
            let call = calls.add();
            let gate = gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                Ok::<_, ToolError>(format!("{text} by call {call}"))
            }
        }))
        .build()
        .unwrap()
}

/// Lets tasks run until something is so.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if what() {
            return;
        }
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
    panic!("it did not come to pass");
}

#[tokio::test]
async fn a_holder_that_sleeps_past_its_lease_changes_nothing_when_it_wakes() {
    let world = World::new();
    let gate = Arc::new(Semaphore::new(0));
    let calls = Counter::default();
    // The sleeper can't renew: its store is cut off while it sleeps.
    let (faults, cut) = faulty(&world);
    let (sleeper, suspension, key) = parked_in(&cut, gated(&gate, &calls)).await;
    let sleeping = tokio::spawn({
        let (hub, key) = (sleeper.clone(), key.clone());
        async move { hub.resume(&key, json!("slow")).await }
    });
    until(|| calls.get() == 1).await;
    faults.fail_all(Operation::Renew, Moment::Before);
    world.clock.advance(seconds(31));

    let other_gate = Arc::new(Semaphore::new(1));
    let taker = world.hub().await;
    taker.register(gated(&other_gate, &calls)).unwrap();
    assert_eq!(taker.work_once().await.unwrap().driven, 1);
    let before = world.store.get(suspension.run_id).await.unwrap();
    assert_eq!(taker.get(suspension.run_id).await.unwrap().output, Some(json!("slow by call 2")));

    gate.add_permits(1);
    let error = sleeping.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RunBusy);
    assert_eq!(world.store.get(suspension.run_id).await.unwrap(), before);
}

#[tokio::test]
async fn a_lease_that_a_slow_store_has_used_up_is_renewed_before_anything_is_called() {
    let world = World::new();
    let (gate, calls) = (Arc::new(Semaphore::new(0)), Counter::default());
    let (_, _, key) = parked_in(&world, gated(&gate, &calls)).await;
    let (faults, slow) = faulty(&world);
    let slow = slow.hub().await;
    slow.register(gated(&gate, &calls)).unwrap();
    // The write that takes the lease comes through when it has a second left.
    let pause = faults.pause_next(Operation::Update, Moment::Before);
    let resuming = tokio::spawn(async move { slow.resume(&key, json!("slow")).await });
    pause.reached().await;
    world.clock.advance(seconds(29));
    pause.release();
    until(|| calls.get() == 1).await;
    world.clock.advance(seconds(2));

    let other = world.hub().await;
    other.register(gated(&Arc::new(Semaphore::new(1)), &calls)).unwrap();
    assert_eq!(other.work_once().await.unwrap(), Worked::default());
    gate.add_permits(1);
    assert_eq!(completed(resuming.await.unwrap()), json!("slow by call 1"));
    assert_eq!(calls.get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tool_that_blocks_its_thread_does_not_starve_the_renewal() {
    let world = World::new();
    let hub = world.hub().await;
    let (clock, store) = (world.clock.clone(), world.store.clone());
    let flow = Flow::input::<Order>("blocks")
        .await_input(AwaitInput::<bool>::new("ask").no_timeout())
        .tool(tool_fn("block", move |_: bool| {
            use dynamic_flow::store::Filter;
            let (clock, store) = (clock.clone(), store.clone());
            async move {
                // The memory store answers at once: nothing is awaited from here on, and nothing
                // else runs on the only worker thread.
                let until = || {
                    let page = store.query(&Filter::default(), None, 1).now_or_never().unwrap();
                    page.unwrap().readable().next().unwrap().lease.clone().unwrap().until
                };
                let first = until();
                for _ in 0..100_000 {
                    clock.advance(Duration::from_millis(10));
                    if until() > first {
                        return Ok::<_, ToolError>(true);
                    }
                    std::thread::yield_now();
                }
                Ok(false)
            }
        }))
        .build()
        .unwrap();
    let suspension = suspended(hub.register(&flow).unwrap().run(order()).await);
    let key = suspension.only().unwrap().key().unwrap();
    assert_eq!(completed(hub.resume(key, json!(true)).await), json!(true));
}

#[tokio::test]
async fn a_run_that_kills_its_workers_is_failed_as_poisoned_and_keeps_its_answer() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, key) = parked(&world, &counts).await;
    let (faults, dying) = faulty(&world);
    world.hub().await.answer(&key, Answer::new(yes())).await.unwrap();
    let hub = dying.builder().max_retries(0).build().await.unwrap();
    hub.register(approval_flow(&counts)).unwrap();
    faults.fail_all(Operation::Update, Moment::Before);
    for _ in 0..5 {
        hub.work_once().await.unwrap();
        world.clock.advance(hours(1));
    }
    faults.heal();
    hub.work_once().await.unwrap();
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!(view.status, RunStatus::Failed);
    let error = hub.drive(suspension.run_id).await.unwrap_err();
    assert_eq!(error.context_value("code"), Some("poisoned"));
    // Once the cause is mended, the accepted answer still counts.
    assert_eq!(completed(hub.retry(suspension.run_id).await), json!("PO-17 by jane"));
}

#[tokio::test]
async fn a_run_that_was_poisoned_while_it_was_retried_can_be_retried() {
    let world = World::new();
    let (faults, dying) = faulty(&world);
    let hub = dying.builder().max_retries(0).build().await.unwrap();
    let handle = hub.register(fails_once()).unwrap();
    let error = handle.run(order()).await.unwrap_err();
    let run = error.run_id().unwrap();
    // The retry is accepted, and each process that works on it dies at its commit.
    faults.fail(Operation::Update, faults.calls(Operation::Update) + 2, Moment::Before);
    hub.retry(run).await.unwrap_err();
    faults.fail_all(Operation::Update, Moment::Before);
    for _ in 0..5 {
        world.clock.advance(hours(1));
        hub.work_once().await.unwrap();
    }
    faults.heal();
    world.clock.advance(hours(1));
    hub.work_once().await.unwrap();
    assert_eq!(hub.get(run).await.unwrap().status, RunStatus::Failed, "poisoned");
    let outcome = hub.retry(run).await;
    let view = hub.get(run).await.unwrap();
    assert!(
        matches!(outcome, Ok(Outcome::Completed(_))),
        "{outcome:?} {:?} due {:?}",
        view.status,
        view.due_at
    );
}

#[tokio::test]
async fn a_tool_that_kills_its_workers_behind_a_commit_is_poisoned() {
    let world = World::new();
    let (faults, cut) = faulty(&world);
    faults.fail_all(Operation::Renew, Moment::Before);
    let calls = Counter::default();
    let c = calls.clone();
    let flow = Flow::input::<Order>("kills")
        .await_input(AwaitInput::<bool>::new("ask").no_timeout())
        .tool(tool_fn("t", move |_: bool| {
            c.add();
            async {
                std::future::pending::<()>().await;
                Ok::<_, ToolError>(1_i64)
            }
        }))
        .build()
        .unwrap();
    let builder = cut.builder().durability(Durability::EveryStep).retry_delay(Duration::ZERO);
    let hub = builder.build().await.unwrap();
    let s = suspended(hub.register(&flow).unwrap().run(order()).await);
    hub.answer(s.only().unwrap().key().unwrap(), json!(true)).await.unwrap();
    for n in 1..=12 {
        let h = hub.clone();
        let worker = tokio::spawn(async move { h.work_once().await });
        for _ in 0..2000 {
            tokio::task::yield_now().await;
            if calls.get() == n {
                break;
            }
        }
        worker.abort();
        world.clock.advance(seconds(31));
    }
    assert_eq!((calls.get(), hub.get(s.run_id).await.unwrap().status), (6, RunStatus::Failed));
}

#[tokio::test]
async fn a_failure_that_calls_itself_poisoned_can_be_retried() {
    let world = World::new();
    let calls = Counter::default();
    let c = calls.clone();
    let flow = Flow::input::<Order>("f").tool(tool_fn("t", move |_: Order| {
        let n = c.add();
        async move { if n == 1 { Err(ToolError::new("x").code("poisoned")) } else { Ok(1_i64) } }
    })).build().unwrap();
    let hub = world.hub().await;
    let run = hub.register(&flow).unwrap().run(order()).await.unwrap_err().run_id().unwrap();
    let outcome = hub.retry(run).await;
    assert!(matches!(outcome, Ok(Outcome::Completed(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_resume_waits_for_the_hub_that_drives_the_run() {
    let world = World::new();
    let gate = Arc::new(Semaphore::new(0));
    let calls = Counter::default();
    let (hub, _, key) = parked_in(&world, gated(&gate, &calls)).await;
    let answer = Answer::new(json!("once")).request_id("r");
    let both: Vec<_> = (0..2)
        .map(|_| {
            let (hub, key, answer) = (hub.clone(), key.clone(), answer.clone());
            tokio::spawn(async move { hub.resume(&key, answer).await })
        })
        .collect();
    until(|| calls.get() == 1).await;
    gate.add_permits(1);
    for resumed in both {
        assert_eq!(completed(resumed.await.unwrap()), json!("once by call 1"));
    }
    assert_eq!(calls.get(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_changes_nothing() {
    let world = World::new();
    let gate = Arc::new(Semaphore::new(0));
    let calls = Counter::default();
    let (hub, suspension, key) = parked_in(&world, gated(&gate, &calls)).await;
    let caller = tokio::spawn({
        let hub = hub.clone();
        async move { hub.resume(&key, json!("gone")).await }
    });
    until(|| calls.get() == 1).await;
    caller.abort();
    gate.add_permits(1);
    assert_eq!(completed(hub.drive(suspension.run_id).await), json!("gone by call 1"));
}

#[tokio::test]
async fn a_cancellation_reaches_a_run_that_is_being_driven_here() {
    let world = World::new();
    let gate = Arc::new(Semaphore::new(0));
    let calls = Counter::default();
    let (hub, suspension, key) = parked_in(&world, gated(&gate, &calls)).await;
    let resumed = tokio::spawn({
        let hub = hub.clone();
        async move { hub.resume(&key, json!("never")).await }
    });
    until(|| calls.get() == 1).await;
    let status = hub.cancel(suspension.run_id, Cancellation::new()).await.unwrap();
    assert_eq!(status, RunStatus::Cancelled, "it has stopped by now");
    assert_eq!(resumed.await.unwrap().unwrap_err().kind(), ErrorKind::RunCancelled);
}

#[tokio::test]
async fn a_cancellation_ends_a_run_that_is_driven_elsewhere_before_its_end_is_durable() {
    let world = World::new();
    let (gate, calls) = (Arc::new(Semaphore::new(0)), Counter::default());
    let (hub, suspension, key) = parked_in(&world, gated(&gate, &calls)).await;
    let run = suspension.run_id;
    let driven = tokio::spawn(async move { hub.resume(&key, json!("slow")).await });
    until(|| calls.get() == 1).await;
    let elsewhere = world.hub().await;
    let cancellation = Cancellation::new().by("joe").reason("ordered twice");
    for _ in 0..2 {
        let status = elsewhere.cancel(run, cancellation.clone()).await.unwrap();
        assert_eq!(status, RunStatus::Running, "it has not ended by that yet");
        assert_eq!(elsewhere.get(run).await.unwrap().cancelling, Some(cancellation.clone()));
    }
    gate.add_permits(1);
    let error = driven.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RunCancelled);
    let view = elsewhere.get(run).await.unwrap();
    assert_eq!((view.output, view.cancelling), (None, None));
    assert_eq!(view.ended, Some(Ended::Cancelled(cancellation.clone())));
    assert_eq!(elsewhere.cancel(run, cancellation).await.unwrap(), RunStatus::Cancelled);
}

#[tokio::test]
async fn a_due_run_whose_flow_no_longer_fits_is_skipped_and_stays_parked() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, key) = parked(&world, &counts).await;
    let hub = world.hub().await;
    let other = Flow::input::<Order>("purchase").map("id", |o: Order| o.id).build().unwrap();
    hub.register(&other).unwrap();
    let refused = hub.resume(&key, yes()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FlowIncompatible);
    assert!(!refused.reasons().is_empty());
    world.clock.advance(hours(5));
    assert_eq!(hub.work_once().await.unwrap().skipped, 1);
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!(view.status, RunStatus::Waiting);
    // It is not offered again at once, and the old code still takes it up.
    assert_eq!(hub.work_once().await.unwrap().skipped, 0);
    let old = world.hub().await;
    old.register(approval_flow(&counts)).unwrap();
    world.clock.advance(minutes(30));
    assert_eq!(old.work_once().await.unwrap().driven, 1);
    assert_eq!(old.get(suspension.run_id).await.unwrap().status, RunStatus::Expired);
}

#[tokio::test]
async fn work_drives_what_is_due_until_shutdown() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    world.hub().await.answer(&key, yes()).await.unwrap();
    let builder = world.builder().configure(|options| options.poll_interval = seconds(1));
    let worker = builder.build().await.unwrap();
    worker.register(approval_flow(&counts)).unwrap();
    let working = tokio::spawn({
        let worker = worker.clone();
        async move { worker.work().await }
    });
    while hub.get(suspension.run_id).await.unwrap().status != RunStatus::Completed {
        tokio::task::yield_now().await;
    }
    assert!(worker.shutdown(Duration::from_secs(5)).await);
    working.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_worker_hears_of_answers_to_its_own_hub_where_the_store_tells_of_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path().join("flows"));
    let (world, counts) = (World::over(Arc::new(store)), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let working = tokio::spawn({
        let hub = hub.clone();
        async move { hub.work().await }
    });
    // It has looked, and looks again when the time has come, which stands still here.
    world.clock.until_sleeping(1).await;
    hub.answer(&key, yes()).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), hub.ended(suspension.run_id));
    assert_eq!(ended.await.expect("nobody drives it").unwrap().status, RunStatus::Completed);
    assert!(hub.shutdown(Duration::from_secs(5)).await);
    working.await.unwrap().unwrap();
}
