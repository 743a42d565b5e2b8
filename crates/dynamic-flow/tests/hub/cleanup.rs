//! Removing runs: criteria mean AND, none is an error, and nothing live is touched.

use std::collections::BTreeSet;

use dynamic_flow::{
    Cancellation, Clock as _, ErrorKind, Flow, RunStatus, Schema, days, hours,
    hub::{Cleanup, PersistenceHub, SuspensionRequest},
    seconds,
    store::{Change, Expect, Filter, Lease, Page},
    testkit::faults::{Moment, Operation},
    tool::AwaitInput,
};
use serde_json::json;

use crate::support::{
    Approval, Counts, Order, World, approval_flow, completed, defaulting_flow, escalates, faulty,
    order, parked, question, suspended, yes,
};

async fn count(hub: &PersistenceHub) -> usize {
    hub.query(&Filter::default(), None, 1000).await.unwrap().items.len()
}

#[tokio::test]
async fn without_criteria_nothing_is_removed_unless_all_is_said() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, ..) = parked(&world, &counts).await;
    let error = hub.cleanup(&Cleanup::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(count(&hub).await, 1);
    let dry = hub.cleanup(&Cleanup::new().all().dry_run()).await.unwrap();
    assert_eq!((dry.deleted_count, count(&hub).await), (1, 1));
    assert_eq!(hub.cleanup(&Cleanup::new().all()).await.unwrap().deleted_count, 1);
    assert_eq!(count(&hub).await, 0);
}

#[tokio::test]
async fn criteria_must_all_hold() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, old, _) = parked(&world, &counts).await;
    world.clock.advance(hours(5));
    let young = suspended(hub.register(approval_flow(&counts)).unwrap().run(order()).await);
    let border = old.suspended_at.after(hours(1));
    let other = Filter { flow_id: Some("another".into()), ..Filter::default() };
    let both = Cleanup::new().older_than(border).filter(other);
    assert_eq!(hub.cleanup(&both).await.unwrap().deleted_count, 0);
    let expired_and_young = Cleanup::new().expired_only().older_than(old.suspended_at);
    assert_eq!(hub.cleanup(&expired_and_young).await.unwrap().deleted_count, 0);
    let expired = hub.cleanup(&Cleanup::new().expired_only().older_than(border)).await.unwrap();
    assert_eq!(expired.deleted, [old.run_id]);
    assert_eq!(hub.get(young.run_id).await.unwrap().status, RunStatus::Waiting);
}

#[tokio::test]
async fn what_is_overdue_but_has_a_default_to_come_is_not_expired() {
    let (world, counts) = (World::new(), Counts::default());
    let hub = world.hub().await;
    let flow = defaulting_flow(&counts);
    let run = suspended(hub.register(&flow).unwrap().run(order()).await).run_id;
    world.clock.advance(days(1));
    assert_eq!(hub.cleanup(&Cleanup::new().expired_only()).await.unwrap().deleted_count, 0);
    hub.work_once().await.unwrap();
    assert_eq!(hub.get(run).await.unwrap().output, Some(json!("PO-17 by system")));
}

#[tokio::test]
async fn cleanup_of_expired_leaves_what_a_catch_will_handle() {
    let world = World::new();
    let hub = world.hub().await;
    suspended(hub.register(escalates()).unwrap().run(order()).await);
    world.clock.advance(hours(1));
    assert_eq!(hub.cleanup(&Cleanup::new().expired_only()).await.unwrap().deleted_count, 0);
}

#[tokio::test]
async fn a_run_with_an_accepted_answer_is_not_removed() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    hub.answer(&key, yes()).await.unwrap();
    for which in [Cleanup::new().all(), Cleanup::new().all().dry_run()] {
        let cleaned = hub.cleanup(&which).await.unwrap();
        assert_eq!((cleaned.deleted_count, cleaned.left), (0, vec![suspension.run_id]));
    }
    let other = Filter { flow_id: Some("another".into()), ..Filter::default() };
    let cleaned = hub.cleanup(&Cleanup::new().filter(other)).await.unwrap();
    assert!(cleaned.left.is_empty(), "no criterion names it");
    let old = Cleanup::new().older_than(suspension.suspended_at);
    assert!(hub.cleanup(&old).await.unwrap().left.is_empty(), "no criterion names it");
    completed(hub.drive(suspension.run_id).await);
    let cleaned = hub.cleanup(&Cleanup::new().all()).await.unwrap();
    assert_eq!((cleaned.deleted_count, cleaned.left), (1, vec![]));
    let gone = hub.resume(&key, yes()).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::SuspensionKeyNotFound);
    assert_eq!(hub.get(suspension.run_id).await.unwrap_err().kind(), ErrorKind::RunNotFound);
}

#[tokio::test]
async fn an_answered_run_whose_flow_nobody_has_is_removed_by_who_asks_for_what_is_ready() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    hub.answer(&key, yes()).await.unwrap();
    let stranger = world.hub().await;
    let status = stranger.cancel(suspension.run_id, Cancellation::new()).await.unwrap();
    assert_eq!(status, RunStatus::Ready, "the answer comes first, and here nobody can work it in");
    let left = stranger.cleanup(&Cleanup::new().all()).await.unwrap();
    assert_eq!((left.deleted_count, left.left), (0, vec![suspension.run_id]));

    let ready = Filter { status: [RunStatus::Ready].into(), ..Filter::default() };
    let ready = Cleanup::new().filter(ready);
    assert_eq!(stranger.cleanup(&ready).await.unwrap().deleted, [suspension.run_id]);
}

#[tokio::test]
async fn cleanup_keeps_a_crashed_run_with_an_accepted_answer() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, key) = parked(&world, &counts).await;
    let (faults, dying) = faulty(&world);
    let hub = dying.builder().max_retries(0).build().await.unwrap();
    hub.register(approval_flow(&counts)).unwrap();
    faults.fail(Operation::Update, 2, Moment::Before);
    hub.resume(&key, yes()).await.unwrap_err();
    world.clock.advance(hours(1));
    let now = world.clock.now();
    let cleaned = hub.cleanup(&Cleanup::new().older_than(now)).await.unwrap();
    assert_eq!(cleaned.deleted_count, 0, "{suspension:?}");
    assert_eq!(cleaned.left, [suspension.run_id]);
}

#[tokio::test]
async fn a_run_whose_holder_has_died_is_removed_by_who_asks_for_what_is_running() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, _) = parked(&world, &counts).await;
    let (run, now) = (suspension.run_id, world.clock.now());
    let lease = Lease { owner: "gone soon".into(), until: now.after(seconds(1)) };
    let held =
        Change { status: Some(RunStatus::Running), lease: Some(Some(lease)), ..Change::at(now) };
    world.store.update(run, Expect::Any, held).await.unwrap();
    let hub = world.hub().await;
    let running = Filter { status: [RunStatus::Running].into(), ..Filter::default() };
    let running = Cleanup::new().filter(running);
    assert_eq!(hub.cleanup(&running).await.unwrap().left, [run], "its holder lives");
    world.clock.advance(seconds(1));
    assert_eq!(
        hub.cleanup(&Cleanup::new().all()).await.unwrap().left,
        [run],
        "a worker may have it"
    );
    assert_eq!(hub.cleanup(&running).await.unwrap().deleted, [run]);
}

#[tokio::test]
async fn a_run_that_was_set_aside_is_removed_with_what_was_accepted_for_it() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    world.hub().await.answer(&key, yes()).await.unwrap();
    let worn = Change { attempts: Some(6), ..Change::at(world.clock.now()) };
    world.store.update(suspension.run_id, Expect::Any, worn).await.unwrap();
    hub.work_once().await.unwrap();
    let failed = Filter { status: [RunStatus::Failed].into(), ..Filter::default() };
    let cleaned = hub.cleanup(&Cleanup::new().filter(failed)).await.unwrap();
    assert_eq!(cleaned.deleted, [suspension.run_id]);
}

#[tokio::test]
async fn runs_are_found_by_flow_tool_status_metadata_and_deadline() {
    let world = World::new();
    let hub = world.hub().await;
    let flow = |id: &str, tool: &str| {
        Flow::input::<Order>(id)
            .await_input(
                AwaitInput::<bool>::new(tool)
                    .timeout(hours(2))
                    .metadata("department", "finance")
                    .metadata_with("total", |order: &Order| order.total),
            )
            .build()
            .unwrap()
    };
    let a = suspended(hub.register(flow("a", "sign")).unwrap().run(order()).await);
    world.clock.advance(hours(1));
    let b = suspended(hub.register(flow("b", "seal")).unwrap().run(order()).await);
    let find = async |filter: Filter| {
        let page = hub.query(&filter, None, 10).await.unwrap();
        page.readable().map(|run| run.id).collect::<Vec<_>>()
    };
    let (a, b) = (a.run_id, b.run_id);
    let nothing = Filter::default;
    assert_eq!(find(nothing()).await, [b, a], "newest first");
    assert_eq!(find(Filter { flow_id: Some("a".into()), ..nothing() }).await, [a]);
    assert_eq!(find(Filter { tool_id: Some("seal".into()), ..nothing() }).await, [b]);
    let total = |value: dynamic_flow::Scalar| Filter {
        metadata: [("total".to_owned(), value), ("department".to_owned(), "finance".into())].into(),
        ..nothing()
    };
    assert_eq!(find(total(250.into())).await, [b, a]);
    assert_eq!(find(total("250".into())).await, [], "equality is by type and value");
    let soon = b.created_at().after(hours(2));
    assert_eq!(find(Filter { expires_before: Some(soon), ..nothing() }).await, [a]);
    assert_eq!(find(Filter { expires_after: Some(soon), ..nothing() }).await, [b]);
    assert_eq!(find(Filter { created_before: Some(b.created_at()), ..nothing() }).await, [a]);
    assert_eq!(find(Filter { created_after: Some(b.created_at()), ..nothing() }).await, [b]);
    let done = Filter { status: [RunStatus::Completed].into(), ..nothing() };
    assert_eq!(find(done).await, []);
    let first = hub.query(&nothing(), None, 1).await.unwrap();
    let second = hub.query(&nothing(), first.next, 1).await.unwrap();
    let ids = |page: &Page| page.readable().map(|run| run.id).collect::<Vec<_>>();
    assert_eq!((ids(&first), ids(&second), second.next), (vec![b], vec![a], None));
    assert!(hub.query(&nothing(), None, 0).await.is_err());
}

#[tokio::test]
async fn a_dry_run_tells_of_the_overdue_what_the_deadlines_would_make_of_them() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, plain, _) = parked(&world, &counts).await;
    let default = Approval { approved: true, by: "system".into() };
    let caught = Flow::input::<Order>("caught")
        .catch(
            "late",
            |body| body.await_input(question()),
            |error| error.map("nobody", |_| Approval { approved: false, by: "nobody".into() }),
        )
        .build()
        .unwrap();
    let defaulted = Flow::input::<Order>("defaulted")
        .await_input(question().default_value(default))
        .build()
        .unwrap();
    for flow in [&caught, &defaulted] {
        suspended(hub.register(flow).unwrap().run(order()).await);
    }
    let ask = || SuspensionRequest::new("ask", Schema::any()).timeout(hours(4));
    let state = hub.suspend(&1, ask()).await.unwrap().run_id;
    hub.suspend(&2, ask().default_value(json!(true))).await.unwrap();
    let young = hub.suspend(&3, ask().timeout(days(2))).await.unwrap().run_id;
    assert_eq!(hub.overdue(10).await.unwrap(), 0);
    world.clock.advance(hours(5));
    assert_eq!(hub.overdue(10).await.unwrap(), 5);
    assert_eq!(hub.overdue(3).await.unwrap(), 3, "no more than asked for are counted");

    let expired = Cleanup::new().expired_only();
    let told = hub.cleanup(&expired.clone().dry_run()).await.unwrap();
    assert_eq!(BTreeSet::from_iter(told.deleted.clone()), [state, plain.run_id].into());
    assert_eq!(count(&hub).await, 6);
    let done = hub.cleanup(&expired).await.unwrap();
    assert_eq!((&done.deleted, done.deleted_count), (&told.deleted, told.deleted_count));
    assert!(done.errors.is_empty() && told.errors.is_empty(), "{done:?} {told:?}");
    assert_eq!(hub.get(young).await.unwrap().status, RunStatus::Waiting);
    assert_eq!(hub.overdue(10).await.unwrap(), 0);
}

#[tokio::test]
async fn overdue_runs_that_can_not_be_ended_here_are_told_with_the_reason() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, overdue, _) = parked(&world, &counts).await;
    world.clock.advance(hours(5));
    let stranger = world.hub().await;
    let before = world.store.get(overdue.run_id).await.unwrap();
    for which in [Cleanup::new().expired_only(), Cleanup::new().expired_only().dry_run()] {
        let cleaned = stranger.cleanup(&which).await.unwrap();
        assert_eq!(cleaned.deleted_count, 0);
        assert_eq!(cleaned.errors[0].run_id, overdue.run_id);
        let message = &cleaned.errors[0].message;
        assert!(message.contains("FlowNotRegistered") && message.contains("purchase"), "{message}");
    }
    let error = stranger.drive(overdue.run_id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FlowNotRegistered);
    assert_eq!(error.run_id(), Some(overdue.run_id), "who can't go on says with which run");
    assert_eq!(world.store.get(overdue.run_id).await.unwrap(), before);
}
