//! Stopping a hub: what is being done is finished and committed, the rest is let go.

use std::{sync::Arc, time::Duration};

use dynamic_flow::{
    Clock as _, ErrorKind, Flow, Result, RunStatus, SuspensionKey, ToolError,
    hub::{Cleanup, HubEvent, Outcome, PersistenceHub},
    seconds,
    testkit::faults::{Moment, Operation},
    tool::{AwaitInput, tool_fn},
};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::{
    Counter, Counts, Order, World, approval_flow, completed, faulty, order, parked, suspended, yes,
};

/// Answers with 1, and stops the hub while the tool that counts is held up; gives what the answer
/// came to.
async fn stopped_at(
    calls: &Counter,
    gate: &Semaphore,
    hub: &PersistenceHub,
    key: SuspensionKey,
) -> Result<Outcome> {
    let resumed = tokio::spawn({
        let hub = hub.clone();
        async move { hub.resume(&key, json!(1)).await }
    });
    while calls.get() == 0 {
        tokio::task::yield_now().await;
    }
    let stopping = tokio::spawn({
        let hub = hub.clone();
        async move { hub.shutdown(Duration::from_secs(30)).await }
    });
    tokio::task::yield_now().await;
    gate.add_permits(1);
    assert!(stopping.await.unwrap());
    resumed.await.unwrap()
}

#[tokio::test]
async fn a_shutdown_commits_at_the_next_step_and_another_hub_goes_on() {
    let world = World::new();
    let gate = Arc::new(Semaphore::new(0));
    let (first, second) = (Counter::default(), Counter::default());
    let make = || {
        let (gate, first, second) = (gate.clone(), first.clone(), second.clone());
        Flow::input::<Order>("two-tools")
            .await_input(AwaitInput::<i64>::new("ask"))
            .tool(tool_fn("first", move |n: i64| {
                first.add();
                let gate = gate.clone();
                async move {
                    gate.acquire().await.unwrap().forget();
                    Ok::<_, ToolError>(n + 1)
                }
            }))
            .tool(tool_fn("second", move |n: i64| {
                second.add();
                async move { Ok::<_, ToolError>(n + 1) }
            }))
            .build()
            .unwrap()
    };
    let hub = world.hub().await;
    let suspension = suspended(hub.register(make()).unwrap().run(order()).await);
    let key = suspension.only().unwrap().key().unwrap().clone();
    let mut events = hub.events();
    let error = stopped_at(&first, &gate, &hub, key).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShuttingDown);
    assert!(error.is_answer_accepted());
    let stopped = loop {
        if let HubEvent::RunStopped { status, .. } = events.next().await.unwrap() {
            break status;
        }
    };
    assert_eq!(stopped, RunStatus::Ready, "as its record has it");
    assert_eq!((first.get(), second.get()), (1, 0));
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!((view.status, view.driven_by), (RunStatus::Ready, None));

    let other = world.hub().await;
    other.register(make()).unwrap();
    assert_eq!(other.work_once().await.unwrap().driven, 1);
    assert_eq!(other.get(suspension.run_id).await.unwrap().output, Some(json!(3)));
    assert_eq!((first.get(), second.get()), (1, 1), "what was done is not done again");
}

#[tokio::test]
async fn a_hub_that_has_stopped_begins_nothing() {
    let world = World::new();
    let hub = world.hub().await;
    let flow = Flow::input::<Order>("late").map("id", |o: Order| o.id).build().unwrap();
    let handle = hub.register(&flow).unwrap();
    assert!(hub.shutdown(Duration::from_secs(1)).await);
    assert_eq!(handle.run(order()).await.unwrap_err().kind(), ErrorKind::ShuttingDown);
}

#[tokio::test]
async fn a_run_whose_last_step_ends_in_a_shutdown_has_completed() {
    let world = World::new();
    let gate = Arc::new(Semaphore::new(0));
    let calls = Counter::default();
    let flow = {
        let (gate, calls) = (gate.clone(), calls.clone());
        Flow::input::<Order>("one-tool")
            .await_input(AwaitInput::<i64>::new("ask"))
            .tool(tool_fn("last", move |n: i64| {
                calls.add();
                let gate = gate.clone();
                async move {
                    gate.acquire().await.unwrap().forget();
                    Ok::<_, ToolError>(n + 1)
                }
            }))
            .build()
            .unwrap()
    };
    let hub = world.hub().await;
    let suspension = suspended(hub.register(&flow).unwrap().run(order()).await);
    let key = suspension.only().unwrap().key().unwrap().clone();
    let resumed = stopped_at(&calls, &gate, &hub, key).await;
    assert_eq!(completed(resumed), json!(2));
}

#[tokio::test]
async fn a_shutdown_waits_for_an_answer_that_is_about_to_take_its_run() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, key) = parked(&world, &counts).await;
    let (faults, slow) = faulty(&world);
    let hub = slow.hub().await;
    hub.register(approval_flow(&counts)).unwrap();
    let takes = faults.pause_next(Operation::Update, Moment::After);
    let resuming = tokio::spawn({
        let hub = hub.clone();
        async move { hub.resume(&key, yes()).await }
    });
    takes.reached().await;
    let stopping = tokio::spawn({
        let hub = hub.clone();
        async move { hub.shutdown(Duration::from_secs(30)).await }
    });
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(!stopping.is_finished(), "the run is taken, and not let go");
    takes.release();
    assert!(stopping.await.unwrap());
    let resumed = resuming.await.unwrap().unwrap_err();
    assert_eq!(resumed.kind(), ErrorKind::ShuttingDown);
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!((view.status, view.driven_by), (RunStatus::Ready, None));
}

#[tokio::test]
async fn a_worker_that_is_dropped_lets_its_runs_go_on_and_a_shutdown_waits_for_them() {
    let world = World::new();
    let gate = Arc::new(Semaphore::new(0));
    let (begun, done) = (Counter::default(), Counter::default());
    let flow = Flow::input::<Order>("effect")
        .await_input(AwaitInput::<i64>::new("ask"))
        .tool(tool_fn("held", {
            let (gate, begun, done) = (gate.clone(), begun.clone(), done.clone());
            move |n: i64| {
                begun.add();
                let (gate, done) = (gate.clone(), done.clone());
                async move {
                    gate.acquire().await.unwrap().forget();
                    done.add();
                    Ok::<_, ToolError>(n)
                }
            }
        }))
        .build()
        .unwrap();
    let hub = world.hub().await;
    let suspension = suspended(hub.register(&flow).unwrap().run(order()).await);
    hub.answer(suspension.only().unwrap().key().unwrap(), json!(1)).await.unwrap();
    let held_up = async {
        while begun.get() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = hub.work() => panic!("nobody has stopped it"),
        () = held_up => {}
    }
    let stopping = tokio::spawn({
        let hub = hub.clone();
        async move { hub.shutdown(Duration::from_secs(30)).await }
    });
    tokio::task::yield_now().await;
    gate.add_permits(1);
    assert!(stopping.await.unwrap());
    assert_eq!((begun.get(), done.get()), (1, 1));
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!((view.status, view.driven_by), (RunStatus::Completed, None));
}

#[tokio::test]
async fn a_run_that_was_let_go_in_mid_work_and_skipped_is_not_taken_for_a_parked_one() {
    let world = World::new();
    let gate = Arc::new(Semaphore::new(0));
    let first = Counter::default();
    let make = || {
        let (gate, first) = (gate.clone(), first.clone());
        Flow::input::<Order>("two-tools")
            .await_input(AwaitInput::<i64>::new("ask"))
            .tool(tool_fn("first", move |n: i64| {
                first.add();
                let gate = gate.clone();
                async move {
                    gate.acquire().await.unwrap().forget();
                    Ok::<_, ToolError>(n + 1)
                }
            }))
            .tool(tool_fn("second", |n: i64| async move { Ok::<_, ToolError>(n + 1) }))
            .build()
            .unwrap()
    };
    let hub = world.hub().await;
    let suspension = suspended(hub.register(make()).unwrap().run(order()).await);
    let key = suspension.only().unwrap().key().unwrap().clone();
    let resumed = stopped_at(&first, &gate, &hub, key).await;
    assert_eq!(resumed.unwrap_err().kind(), ErrorKind::ShuttingDown);

    // A worker that has another version of the flow comes by.
    let other = world.hub().await;
    other
        .register(Flow::input::<Order>("two-tools").map("id", |o: Order| o.id).build().unwrap())
        .unwrap();
    assert_eq!(other.work_once().await.unwrap().skipped, 1);
    let hub = world.hub().await;
    hub.register(make()).unwrap();
    let run = suspension.run_id;
    let status = hub.get(run).await.unwrap().status;
    let now = world.clock.now().after(seconds(1));
    let cleaned = hub.cleanup(&Cleanup::new().older_than(now).dry_run()).await.unwrap();
    let driven = hub.drive(run).await;
    assert_eq!(
        (status, cleaned.deleted_count, matches!(driven, Ok(Outcome::Completed(_)))),
        (RunStatus::Ready, 0, true),
        "{driven:?}"
    );
}

#[tokio::test]
async fn a_hub_that_has_shut_down_holds_no_run() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, key) = parked(&world, &counts).await;
    world.hub().await.answer(&key, yes()).await.unwrap();
    let (faults, slow) = faulty(&world);
    let slow = slow.hub().await;
    slow.register(approval_flow(&counts)).unwrap();
    let claimed = faults.pause_next(Operation::Claim, Moment::After);
    let working = tokio::spawn({
        let slow = slow.clone();
        async move { slow.work().await }
    });
    claimed.reached().await;
    assert!(!slow.shutdown(Duration::ZERO).await, "it has a lease by now");
    // Nobody waits for the worker any more.
    working.abort();
    claimed.release();
    assert!(slow.shutdown(Duration::from_secs(30)).await);
    assert_eq!(world.store.get(suspension.run_id).await.unwrap().unwrap().lease, None);
}
