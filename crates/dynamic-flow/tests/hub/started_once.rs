//! Runs whose id the caller chose: they are started once, however often they are started.

use std::sync::Arc;

use dynamic_flow::{
    ErrorKind, Flow, RunId, Timestamp, ToolError, hours,
    hub::{Handle, Outcome, PersistenceHub, RunOptions},
    seconds,
    store::{Filter, MemoryStore},
    testkit::faults::{Moment, Operation},
    tool::{AwaitInput, tool_fn},
};
use futures::future::join_all;

use crate::support::{
    Counter, Counts, Order, World, approval_flow, at, completed, fails_once, faulty, order,
    suspended, yes,
};

fn id() -> RunId {
    RunId::derive(at("2026-11-23T07:59:00Z"), "order 17")
}

fn once() -> RunOptions {
    RunOptions::new().id(id())
}

async fn handle(world: &World, counts: &Counts) -> (PersistenceHub, Handle<Order, String>) {
    let hub = world.hub().await;
    let handle = hub.register(approval_flow(counts)).unwrap();
    (hub, handle)
}

async fn runs(hub: &PersistenceHub) -> usize {
    hub.query(&Filter::default(), None, 10).await.unwrap().items.len()
}

#[tokio::test]
async fn a_run_that_is_started_again_is_the_same_run() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, handle) = handle(&world, &counts).await;
    let first = suspended(handle.run_with(order(), once()).await);
    assert_eq!(first.run_id, id());
    let key = first.only().unwrap().key().unwrap().clone();

    let again = suspended(handle.run_with(order(), once()).await);
    assert_eq!((again.run_id, &again.only().unwrap().id), (id(), &first.only().unwrap().id));
    assert!(again.only().unwrap().key().is_err(), "who started it has its key");
    assert_eq!((runs(&hub).await, counts.before.get()), (1, 1));

    assert_eq!(completed(handle.resume(&key, yes()).await), "PO-17 by jane");
    let after = RunOptions::new().id(id()).metadata("try", 3);
    assert_eq!(completed(handle.run_with(order(), after).await), "PO-17 by jane");
    assert_eq!((runs(&hub).await, counts.before.get(), counts.after.get()), (1, 1, 1));
}

#[tokio::test]
async fn an_id_is_that_of_one_flow_and_input() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, handle) = handle(&world, &counts).await;
    suspended(handle.run_with(order(), once()).await);
    let there = world.store.get(id()).await.unwrap();

    let other = Order { total: 9, ..order() };
    let error = handle.run_with(other, once()).await.unwrap_err();
    assert_eq!((error.kind(), error.run_id()), (ErrorKind::AlreadyExists, Some(id())));
    assert!(error.to_string().contains("another input"), "{error}");

    let error = hub.register(fails_once()).unwrap().run_with(order(), once()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("another flow"), "{error}");
    assert_eq!(world.store.get(id()).await.unwrap(), there);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_start_a_run_at_once_one_does() {
    let (world, counts) = (World::new(), Counts::default());
    let mut starts = Vec::new();
    for _ in 0..4 {
        // None must lapse, however fast the clock below is.
        let hub = world.builder().lease(hours(1)).build().await.unwrap();
        let handle = hub.register(approval_flow(&counts)).unwrap();
        starts.extend((0..8).map(|_| {
            let handle = handle.clone();
            tokio::spawn(async move { suspended(handle.run_with(order(), once()).await) })
        }));
    }
    // Who is not first looks now and then what has become of the run.
    let clock = world.clock.clone();
    let ticking = tokio::spawn(async move {
        loop {
            clock.advance(std::time::Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
    });
    let all: Vec<_> = join_all(starts).await.into_iter().map(Result::unwrap).collect();
    ticking.abort();
    assert!(all.iter().all(|parked| parked.run_id == id()));
    let keys = all.iter().filter(|parked| parked.only().unwrap().key().is_ok()).count();
    assert_eq!((counts.before.get(), keys), (1, 1));
}

#[tokio::test]
async fn a_start_that_seemed_to_fail_is_one_start_and_goes_on_at_once() {
    for moment in [Moment::Before, Moment::After] {
        let (world, counts) = (World::new(), Counts::default());
        let (faults, slow) = faulty(&world);
        let (_, handle) = handle(&slow, &counts).await;
        faults.fail_next(Operation::Insert, moment);
        let parked = suspended(handle.run_with(order(), once()).await);
        assert!(parked.only().unwrap().key().is_ok());
        assert_eq!(counts.before.get(), 1);
    }
}

#[tokio::test]
async fn a_start_that_failed_for_good_is_made_good_by_the_next() {
    let (world, counts) = (World::new(), Counts::default());
    let (faults, slow) = faulty(&world);
    let (_, cut) = handle(&slow, &counts).await;
    faults.fail_all(Operation::Insert, Moment::After);
    faults.fail_all(Operation::Get, Moment::Before);
    assert!(cut.run_with(order(), once()).await.is_err());

    // It was written, and its holder is gone: whoever starts it again takes it over.
    let (hub, handle) = handle(&world, &counts).await;
    world.clock.advance(seconds(31));
    let parked = suspended(handle.run_with(order(), once()).await);
    assert!(parked.only().unwrap().key().is_ok());
    assert_eq!((runs(&hub).await, counts.before.get()), (1, 1));
}

#[tokio::test]
async fn a_start_again_waits_for_who_drives_the_run() {
    let world = World::over(Arc::new(MemoryStore::new()));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let calls = Counter::default();
    let flow = {
        let (gate, calls) = (gate.clone(), calls.clone());
        Flow::input::<i64>("slow")
            .tool(tool_fn("work", move |n: i64| {
                calls.add();
                let gate = gate.clone();
                async move {
                    gate.acquire().await.unwrap().forget();
                    Ok::<_, ToolError>(n + 1)
                }
            }))
            .await_input(AwaitInput::<i64>::new("ask"))
            .build()
            .unwrap()
    };
    let handle = world.hub().await.register(flow).unwrap();
    let starts: Vec<_> = (0..2)
        .map(|_| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.run_with(1, once()).await })
        })
        .collect();
    while calls.get() == 0 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(2);
    for outcome in join_all(starts).await {
        suspended(outcome.unwrap());
    }
    assert_eq!(calls.get(), 1);
}

#[tokio::test]
async fn a_run_that_failed_is_not_tried_again_by_a_start() {
    let world = World::new();
    let handle = world.hub().await.register(fails_once()).unwrap();
    for _ in 0..2 {
        let error = handle.run_with(order(), once()).await.unwrap_err();
        assert_eq!((error.kind(), error.run_id()), (ErrorKind::RunFailed, Some(id())));
    }
    assert!(matches!(handle.retry(id()).await.unwrap(), Outcome::Completed(_)));
    assert_eq!(completed(handle.run_with(order(), once()).await), 1);
}

#[tokio::test]
async fn an_id_whose_time_is_none_is_refused() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, handle) = handle(&world, &counts).await;
    let v4: RunId = "5ac3b4f6-58f3-4f0b-9c31-0ea1f4e5a2a7".parse().unwrap();
    let later = RunId::derive(at("2026-11-25T08:00:00Z"), "order 17");
    let never = RunId::derive(Timestamp::from_millis((1 << 48) - 1), "order 17");
    for id in [v4, later, never] {
        let error = handle.run_with(order(), RunOptions::new().id(id)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{id}");
    }
    assert_eq!((runs(&hub).await, counts.before.get()), (0, 0));
    let soon = RunId::derive(at("2026-11-24T07:00:00Z"), "order 17");
    suspended(handle.run_with(order(), RunOptions::new().id(soon)).await);
}
