//! Runs that workers skip, set aside or try again later.

use std::{sync::Arc, time::Duration};

use dynamic_flow::{
    Clock as _, ErrorKind, Flow, RunStatus, ToolError, days, hours,
    hub::{Durability, HubEvent, PersistenceHub, Suspension, Worked},
    minutes, seconds,
    testkit::{
        ManualClock,
        faults::{Moment, Operation},
    },
    tool::{AwaitInput, ToolRegistry, tool_fn},
};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::{
    Counter, Counts, Order, Unplugged, World, approval_flow, completed, faulty, order, parked,
    sleeper, suspended, worn, yes,
};

#[tokio::test]
async fn a_poisoned_run_is_let_go_and_kept_for_the_retention() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let run = suspension.run_id;
    world.hub().await.answer(&key, yes()).await.unwrap();
    worn(&world, run).await;
    let worked = hub.work_once().await.unwrap();
    assert_eq!((worked.driven, worked.skipped), (1, 0), "a run that failed is none that stays");
    let view = hub.get(run).await.unwrap();
    assert_eq!((view.status, view.driven_by), (RunStatus::Failed, None));
    assert_eq!(hub.sealed_info(run).await.unwrap().sequence, 2);
    let record = world.store.get(run).await.unwrap().unwrap();
    assert_eq!(record.attempts, 0, "once it is retried, takeovers count anew");
    world.clock.advance(days(7));
    assert_eq!(hub.work_once().await.unwrap().purged, 1);
}

#[tokio::test]
async fn a_run_that_was_set_aside_asks_nothing_until_it_is_retried() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let run = suspension.run_id;
    worn(&world, run).await;
    world.clock.advance(hours(4));
    hub.work_once().await.unwrap();
    assert!(hub.get(run).await.unwrap().waits.is_empty());
    let asked = hub.question(&key).await.unwrap_err();
    let answered = hub.answer(&key, yes()).await.unwrap_err();
    assert_eq!(asked.kind(), ErrorKind::InvalidState);
    assert_eq!(asked.to_string(), answered.to_string());
}

#[tokio::test]
async fn a_run_whose_document_kills_who_reads_it_is_set_aside_without_reading_it() {
    let world = World::new();
    let mut tools = ToolRegistry::new();
    tools.add_typed(tool_fn("pay", |euros: i64| async move { Ok::<_, ToolError>(euros) })).unwrap();
    let text = "
flow: paying
steps:
  - { id: nap, wait: 1h }
  - { id: pay, call: pay }
";
    let flow = Flow::from_document(text, &tools).unwrap();
    let hub = world.builder().tools(tools).build().await.unwrap();
    let run = suspended(hub.register(flow).unwrap().run(json!(1)).await).run_id;
    worn(&world, run).await;
    world.clock.advance(hours(1));
    // Here the document can not even be read.
    let bare = world.hub().await;
    bare.work_once().await.unwrap();
    assert_eq!(bare.get(run).await.unwrap().status, RunStatus::Failed);
    assert_eq!(completed(hub.retry(run).await), json!(1));
}

#[tokio::test]
async fn a_state_that_a_lowered_limit_is_too_small_for_is_set_aside_and_calls_no_tool_again() {
    let world = World::new();
    let calls = Counter::default();
    let flow = {
        let calls = calls.clone();
        Flow::input::<Order>("large")
            .keep(|order| order.await_input(AwaitInput::<bool>::new("ask").no_timeout()))
            .tool(tool_fn("work", move |(order, _): (Order, bool)| {
                calls.add();
                async move { Ok::<_, ToolError>(order.id) }
            }))
            .sleep("nap", hours(1))
            .build()
            .unwrap()
    };
    let hub = world.hub().await;
    let large = Order { id: "x".repeat(30_000), total: 1 };
    let suspension = suspended(hub.register(&flow).unwrap().run(large).await);
    hub.answer(suspension.only().unwrap().key().unwrap(), json!(true)).await.unwrap();
    let narrow = world.builder().max_state_size(20_000).build().await.unwrap();
    narrow.register(&flow).unwrap();
    for _ in 0..3 {
        narrow.work_once().await.unwrap();
        world.clock.advance(hours(1));
    }
    assert_eq!(calls.get(), 1);
    let view = narrow.get(suspension.run_id).await.unwrap();
    assert_eq!(view.status, RunStatus::Failed);
    // With the limit as it was, it goes on.
    suspended(hub.retry(suspension.run_id).await);
}

#[tokio::test]
async fn a_state_that_grew_too_large_says_so_and_calls_no_tool_again() {
    let world = World::new();
    let hub = world.builder().max_state_size(20_000).build().await.unwrap();
    let calls = Counter::default();
    let c = calls.clone();
    let flow = Flow::input::<Order>("grows")
        .await_input(AwaitInput::<bool>::new("ask").no_timeout())
        .tool(tool_fn("t", move |_: bool| {
            c.add();
            async { Ok::<_, ToolError>("x".repeat(30_000)) }
        }))
        .sleep("s", hours(1))
        .build()
        .unwrap();
    let s = suspended(hub.register(&flow).unwrap().run(order()).await);
    let error = hub.resume(s.only().unwrap().key().unwrap(), json!(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StateTooLarge);
    for _ in 0..10 {
        world.clock.advance(hours(1));
        hub.work_once().await.unwrap();
    }
    let view = hub.get(s.run_id).await.unwrap();
    assert_eq!(calls.get(), 1, "{:?}", view.ended);
}

#[tokio::test]
async fn a_poisoned_run_that_nothing_was_accepted_for_goes_on_when_it_is_retried() {
    let world = World::new();
    let hub = world.hub().await;
    let run = suspended(hub.register(sleeper()).unwrap().run(order()).await).run_id;
    worn(&world, run).await;
    world.clock.advance(hours(1));
    hub.work_once().await.unwrap();
    assert_eq!(hub.get(run).await.unwrap().status, RunStatus::Failed);
    assert_eq!(completed(hub.retry(run).await), json!("PO-17"));
}

#[tokio::test]
async fn a_call_in_which_a_run_was_set_aside_is_made_again_when_it_is_retried() {
    let world = World::new();
    let calls = Counter::default();
    let flow = {
        let calls = calls.clone();
        Flow::input::<Order>("kills-once")
            .await_input(AwaitInput::<bool>::new("ask").no_timeout())
            .tool(tool_fn("work", move |_: bool| {
                let first = calls.add() == 1;
                async move {
                    if first {
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, ToolError>(1_i64)
                }
            }))
            .build()
            .unwrap()
    };
    // The holder commits before the call, and dies in it.
    let (faults, dying) = faulty(&world);
    faults.fail_all(Operation::Renew, Moment::Before);
    let dying = dying.builder().durability(Durability::EveryStep).build().await.unwrap();
    let suspension = suspended(dying.register(&flow).unwrap().run(order()).await);
    let key = suspension.only().unwrap().key().unwrap().clone();
    let resumed = tokio::spawn(async move { dying.resume(&key, json!(true)).await });
    while calls.get() == 0 {
        tokio::task::yield_now().await;
    }
    worn(&world, suspension.run_id).await;
    world.clock.advance(seconds(30));
    let hub = world.hub().await;
    hub.register(&flow).unwrap();
    hub.work_once().await.unwrap();
    assert_eq!(hub.get(suspension.run_id).await.unwrap().status, RunStatus::Failed);
    assert_eq!(completed(hub.retry(suspension.run_id).await), json!(1));
    assert_eq!(calls.get(), 2);
    resumed.abort();
}

#[tokio::test]
async fn a_run_that_was_skipped_is_let_go_as_it_was_for_others_to_take_it_at_once() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, waiting, _) = parked(&world, &counts).await;
    let (_, answered, key) = parked(&world, &counts).await;
    world.hub().await.answer(&key, yes()).await.unwrap();
    world.clock.advance(hours(4));
    let wrong = world.hub().await;
    let other = Flow::input::<Order>("purchase").map("id", |o: Order| o.id).build().unwrap();
    wrong.register(other).unwrap();
    let mut events = wrong.events();
    let worked = wrong.work_once().await.unwrap();
    assert_eq!((worked.driven, worked.skipped, worked.purged), (0, 2, 0));
    let mut skipped = Vec::new();
    while skipped.len() < 2 {
        if let HubEvent::RunSkipped { run_id, .. } = events.next().await.unwrap() {
            skipped.push(run_id);
        }
    }
    let now = Some(world.clock.now());
    for (run, status) in [(waiting.run_id, RunStatus::Waiting), (answered.run_id, RunStatus::Ready)]
    {
        assert!(skipped.contains(&run));
        let view = wrong.get(run).await.unwrap();
        assert_eq!((view.status, view.driven_by, view.due_at), (status, None, now));
    }
}

#[tokio::test]
async fn runs_that_are_skipped_are_not_poisoned() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    world.hub().await.answer(&key, yes()).await.unwrap();
    let wrong = world.hub().await;
    wrong
        .register(Flow::input::<Order>("purchase").map("id", |o: Order| o.id).build().unwrap())
        .unwrap();
    for _ in 0..6 {
        assert_eq!(wrong.work_once().await.unwrap().skipped, 1);
        world.clock.advance(hours(1));
    }
    hub.work_once().await.unwrap();
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!(view.status, RunStatus::Completed, "{:?}", view.ended);
}

#[tokio::test]
async fn workers_without_the_right_key_ask_for_a_run_ever_later_and_delay_it_for_nobody() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    world.hub().await.answer(&key, yes()).await.unwrap();
    let stranger = World { key: World::new().key, ..world.clone() };
    let strangers = [stranger.hub().await, stranger.hub().await];
    for pause in [1, 2, 4] {
        for stranger in &strangers {
            stranger.register(approval_flow(&counts)).unwrap();
            let worked = stranger.work_once().await.unwrap();
            assert_eq!((worked.driven, worked.skipped, worked.purged), (0, 1, 0));
            let record = world.store.get(suspension.run_id).await.unwrap().unwrap();
            let now = Some(world.clock.now());
            assert_eq!((record.due_at, record.lease, record.attempts), (now, None, 0));
        }
        world.clock.advance(seconds(pause).saturating_sub(Duration::from_millis(1)));
        for stranger in &strangers {
            assert_eq!(stranger.work_once().await.unwrap(), Worked::default(), "not so soon");
        }
        world.clock.advance(Duration::from_millis(1));
    }
    assert_eq!(hub.work_once().await.unwrap().driven, 1);
    assert_eq!(hub.get(suspension.run_id).await.unwrap().status, RunStatus::Completed);
}

#[tokio::test]
async fn a_store_that_fails_under_a_worker_is_no_run_that_was_driven() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, key) = parked(&world, &counts).await;
    world.hub().await.answer(&key, yes()).await.unwrap();
    let (faults, cut) = faulty(&world);
    let hub = cut.builder().max_retries(0).build().await.unwrap();
    hub.register(approval_flow(&counts)).unwrap();
    faults.fail_all(Operation::Update, Moment::Before);
    let worked = hub.work_once().await.unwrap();
    assert_eq!((worked.driven, worked.skipped, worked.purged), (0, 1, 0));
    faults.heal();
    world.clock.advance(minutes(1));
    assert_eq!(hub.work_once().await.unwrap().driven, 1);
    assert_eq!(hub.get(suspension.run_id).await.unwrap().status, RunStatus::Completed);
}

#[tokio::test]
async fn a_question_is_still_the_same_when_its_run_was_set_aside_and_retried() {
    let (world, counts) = (World::new(), Counts::default());
    let hub = world.builder().notifier(Unplugged).build().await.unwrap();
    let handle = hub.register(approval_flow(&counts)).unwrap();
    let suspension = suspended(handle.run(order()).await);
    let run = suspension.run_id;
    worn(&world, run).await;
    // Due, because the notifier is to be asked again; the wait itself is not.
    world.clock.advance(seconds(2));
    hub.work_once().await.unwrap();
    assert_eq!(hub.get(run).await.unwrap().status, RunStatus::Failed);
    suspended(hub.retry(run).await);
    let key = suspension.only().unwrap().key().unwrap();
    assert_eq!(completed(hub.resume(key, yes()).await), json!("PO-17 by jane"));
    assert_eq!(counts.before.get(), 1);
}

/// A run that waits and was set aside, and that was retried by a process whose clock is beyond its
/// deadline, and which died before it could commit anything.
async fn retried_ahead(world: &World, counts: &Counts) -> (PersistenceHub, Suspension) {
    let hub = world.builder().notifier(Unplugged).build().await.unwrap();
    let suspension = suspended(hub.register(approval_flow(counts)).unwrap().run(order()).await);
    let run = suspension.run_id;
    worn(world, run).await;
    world.clock.advance(seconds(2));
    hub.work_once().await.unwrap();
    let (faults, cut) = faulty(world);
    let ahead = World { clock: ManualClock::new(world.clock.now().after(hours(4))), ..cut };
    let ahead = ahead.builder().max_retries(0).build().await.unwrap();
    ahead.register(approval_flow(counts)).unwrap();
    // The first write takes the lease.
    faults.fail(Operation::Update, 2, Moment::Before);
    assert_eq!(ahead.retry(run).await.unwrap_err().kind(), ErrorKind::StorageError);
    (hub, suspension)
}

#[tokio::test]
async fn an_answer_in_time_counts_though_a_clock_that_is_ahead_retried_the_run_before_it() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension) = retried_ahead(&world, &counts).await;
    hub.answer(suspension.only().unwrap().key().unwrap(), yes()).await.unwrap();
    world.clock.advance(hours(5));
    hub.work_once().await.unwrap();
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!(view.output, Some(json!("PO-17 by jane")));
}

#[tokio::test]
async fn a_key_that_was_added_before_the_deadline_but_written_after_what_ends_it_is_told_so() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension) = retried_ahead(&world, &counts).await;
    let wait = &suspension.only().unwrap().id;
    let key = hub.reissue(suspension.run_id, wait).await.unwrap();
    world.clock.advance(hours(5));
    hub.work_once().await.unwrap();
    let late = hub.resume(&key, yes()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::SuspensionExpired);
}

#[tokio::test]
async fn a_worker_drives_no_more_runs_at_once_than_it_may() {
    let world = World::new();
    let gate = Arc::new(Semaphore::new(0));
    let calls = Counter::default();
    let flow = {
        let (gate, calls) = (gate.clone(), calls.clone());
        Flow::input::<Order>("gated")
            .await_input(AwaitInput::<bool>::new("ask").no_timeout())
            .tool(tool_fn("work", move |_: bool| {
                calls.add();
                let gate = gate.clone();
                async move {
                    gate.acquire().await.unwrap().forget();
                    Ok::<_, ToolError>(true)
                }
            }))
            .build()
            .unwrap()
    };
    let hub = world.builder().configure(|options| options.concurrency = 2).build().await.unwrap();
    let handle = hub.register(&flow).unwrap();
    for _ in 0..5 {
        let suspension = suspended(handle.run(order()).await);
        let key = suspension.only().unwrap().key().unwrap();
        hub.answer(key, json!(true)).await.unwrap();
    }
    let worker = tokio::spawn({
        let hub = hub.clone();
        async move { hub.work().await }
    });
    for done in 0..3 {
        while calls.get() < done + 2 {
            tokio::task::yield_now().await;
        }
        // Whatever else it took would have begun by now: all runs on this one thread.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(calls.get(), done + 2, "with {done} done");
        gate.add_permits(1);
    }
    gate.add_permits(2);
    assert!(hub.shutdown(Duration::from_secs(5)).await);
    worker.await.unwrap().unwrap();
}

/// Asks and works, both within two hours.
fn timed(calls: &Counter) -> Flow<Order, bool> {
    let calls = calls.clone();
    Flow::input::<Order>("timed")
        .timeout("t", hours(2), move |order| {
            order.await_input(AwaitInput::<bool>::new("ask").no_timeout()).tool(tool_fn(
                "work",
                move |yes: bool| {
                    calls.add();
                    async move { Ok::<_, ToolError>(yes) }
                },
            ))
        })
        .build()
        .unwrap()
}

#[tokio::test]
async fn an_answer_of_a_run_that_was_set_aside_counts_though_it_is_retried_after_a_timeout_around_it()
 {
    let (world, calls) = (World::new(), Counter::default());
    let hub = world.hub().await;
    let suspension = suspended(hub.register(timed(&calls)).unwrap().run(order()).await);
    let run = suspension.run_id;
    hub.answer(suspension.only().unwrap().key().unwrap(), json!(true)).await.unwrap();
    worn(&world, run).await;
    hub.work_once().await.unwrap();
    assert_eq!(hub.get(run).await.unwrap().status, RunStatus::Failed, "poisoned");
    // Somebody mends what killed the workers, and retries the next day.
    world.clock.advance(hours(3));
    let retried = hub.retry(run).await;
    let view = hub.get(run).await.unwrap();
    assert!(view.waits.is_empty(), "asked again though answered: {:?}", view.receipts);
    assert_eq!((completed(retried), calls.get()), (json!(true), 1));
}

#[tokio::test]
async fn a_retry_of_a_run_that_was_set_aside_in_its_second_try_repeats_no_step_that_was_done() {
    let world = World::new();
    let (first, second) = (Counter::default(), Counter::default());
    let flow = {
        let (first, second) = (first.clone(), second.clone());
        Flow::input::<Order>("two")
            .timeout("t", hours(2), move |order| {
                order
                    .tool(tool_fn("first", move |order: Order| {
                        first.add();
                        async move { Ok::<_, ToolError>(order) }
                    }))
                    .tool(tool_fn("second", move |_: Order| {
                        let fails = second.add() == 1;
                        async move { if fails { Err(ToolError::new("not yet")) } else { Ok(1_i64) } }
                    }))
            })
            .build()
            .unwrap()
    };
    let hub = world.hub().await;
    let run = hub.register(&flow).unwrap().run(order()).await.unwrap_err().run_id().unwrap();
    // A day later it is retried, but its holder dies before it has committed anything.
    world.clock.advance(hours(24));
    let (faults, dying) = faulty(&world);
    let dying = dying.builder().max_retries(0).build().await.unwrap();
    dying.register(&flow).unwrap();
    faults.fail_all(Operation::Renew, Moment::Before);
    faults.fail(Operation::Update, 2, Moment::Before);
    dying.retry(run).await.unwrap_err();
    worn(&world, run).await;
    world.clock.advance(seconds(31));
    hub.work_once().await.unwrap();
    assert_eq!(hub.get(run).await.unwrap().status, RunStatus::Failed, "poisoned");
    assert_eq!(completed(hub.retry(run).await), json!(1));
    assert_eq!(first.get(), 1, "the step before the one that failed");
}
