//! Before and with a deploy: which runs a newer flow goes on with, moving them, sealing them anew.

use std::time::Duration;

use dynamic_flow::{
    Clock as _, ErrorKind, Flow, RunId, RunStatus, Schema, SuspensionKey,
    codec::{EncryptionKey, Keyring},
    hours,
    hub::{Events, HubEvent, PersistenceHub, ResealReport},
    seconds,
    testkit::{
        ManualClock,
        faults::{Moment, Operation},
    },
    tool::{AwaitInput, ToolRegistry},
    wait::Closed,
};
use serde_json::json;

use crate::support::{
    Counts, Order, World, approval_flow, completed, faulty, held, order, parked, suspended, yes,
};

const OLD: &str = "
flow: greet
steps:
  - id: ask
    await_input: { preset: text, prompt: Name? }
  - id: greet
    set: 'Hello {{ value.text }}'
";

fn document(text: &str) -> Flow {
    Flow::from_document(text, &ToolRegistry::new()).unwrap()
}

/// A step more, after the wait.
fn longer() -> Flow {
    document(&format!("{OLD}  - id: shout\n    set: '{{{{ value | upper }}}}'\n"))
}

async fn greeting(world: &World) -> (PersistenceHub, RunId, SuspensionKey) {
    let hub = world.hub().await;
    let suspension = suspended(hub.register(document(OLD)).unwrap().run(json!(null)).await);
    let key = suspension.only().unwrap().key().unwrap().clone();
    (hub, suspension.run_id, key)
}

#[tokio::test]
async fn a_check_counts_the_live_runs_of_the_flow_and_no_others() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, ..) = parked(&world, &counts).await;
    let (_, _, key) = parked(&world, &counts).await;
    completed(hub.resume(&key, yes()).await);
    greeting(&world).await;
    let report = hub.check(&approval_flow(&counts).erase()).await.unwrap();
    assert_eq!((report.runs, report.same, report.compatible), (1, 1, 0));
    assert!(report.stranded.is_empty());
}

#[tokio::test]
async fn a_question_takes_what_it_took_when_it_was_asked_though_the_flow_asks_for_more_now() {
    let flow = |choices: serde_json::Value| {
        let schema = Schema::new(json!({ "type": "string", "enum": choices })).unwrap();
        let ask = AwaitInput::<String>::new("ask").schema(schema);
        Flow::input::<Order>("ask").await_input(ask).build().unwrap()
    };
    let world = World::new();
    let asked = suspended(
        world.hub().await.register(flow(json!(["yes", "no"]))).unwrap().run(order()).await,
    );
    let key = asked.only().unwrap().key().unwrap().clone();
    let hub = world.hub().await;
    hub.register(flow(json!(["yes", "no", "later"]))).unwrap();
    let refused = hub.resume(&key, json!("later")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InputValidationError);
    assert_eq!(completed(hub.resume(&key, json!("no")).await), json!("no"));
}

#[tokio::test]
async fn a_check_passes_over_what_is_gone_and_fails_with_the_store() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, _) = parked(&world, &counts).await;
    let flow = approval_flow(&counts).erase();
    let (faults, cut) = faulty(&world);
    let hub = cut.builder().max_retries(0).build().await.unwrap();
    faults.fail_next(Operation::Get, Moment::Before);
    assert_eq!(hub.check(&flow).await.unwrap_err().kind(), ErrorKind::StorageError);

    let other = EncryptionKey::generate().unwrap().expose().to_string();
    let blind = World { key: other, ..world.clone() }.hub().await;
    let report = blind.check(&flow).await.unwrap();
    assert_eq!((report.runs, report.stranded.len(), report.unopened.len()), (1, 0, 1));

    let read = faults.pause_next(Operation::Get, Moment::Before);
    let checking = tokio::spawn(async move { hub.check(&flow).await });
    read.reached().await;
    world.store.delete(suspension.run_id, dynamic_flow::store::Expect::Any).await.unwrap();
    read.release();
    let report = checking.await.unwrap().unwrap();
    assert_eq!((report.runs, report.stranded.len()), (0, 0));
}

#[tokio::test]
async fn an_upgraded_run_goes_on_with_the_newer_document() {
    let world = World::new();
    let (hub, run, key) = greeting(&world).await;
    hub.upgrade(run, &longer()).await.unwrap();
    assert_eq!(hub.sealed_info(run).await.unwrap().sequence, 2);
    // What travels with a run is what any hub goes on with.
    let other = world.hub().await;
    assert_eq!(completed(other.resume(&key, json!({ "text": "Ada" })).await), json!("HELLO ADA"));
}

#[tokio::test]
async fn only_a_parked_run_of_the_same_flow_can_be_upgraded() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, run, key) = greeting(&world).await;
    let (_, other, _) = parked(&world, &counts).await;
    let refused = hub.upgrade(other.run_id, &longer()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FlowIncompatible);

    held(&world, run, seconds(30)).await;
    assert_eq!(hub.upgrade(run, &longer()).await.unwrap_err().kind(), ErrorKind::RunBusy);
    world.clock.advance(seconds(30));
    let resumed = hub.resume(&key, json!({ "text": "Ada" })).await;
    assert_eq!(completed(resumed), json!("Hello Ada"));
    let before = world.store.get(run).await.unwrap();
    assert!(hub.upgrade(run, &document(OLD)).await.is_err(), "it has ended");
    assert_eq!(world.store.get(run).await.unwrap(), before);
}

#[tokio::test]
async fn an_expired_run_can_be_upgraded_unless_a_worker_is_about_to_remove_it() {
    let world = World::new();
    let (hub, run, _) = greeting(&world).await;
    world.clock.advance(hours(24));
    hub.work_once().await.unwrap();
    assert_eq!(hub.get(run).await.unwrap().status, RunStatus::Expired);
    held(&world, run, seconds(30)).await;
    assert_eq!(hub.upgrade(run, &longer()).await.unwrap_err().kind(), ErrorKind::RunBusy);
    world.clock.advance(seconds(30));
    hub.upgrade(run, &longer()).await.unwrap();
    let again = suspended(hub.retry(run).await);
    let key = again.only().unwrap().key().unwrap();
    assert_eq!(completed(hub.resume(key, json!({ "text": "Ada" })).await), json!("HELLO ADA"));
}

#[tokio::test]
async fn an_upgrade_that_overlaps_an_answer_leaves_the_run_to_it() {
    let world = World::new();
    let (hub, run, key) = greeting(&world).await;
    let (faults, slow) = faulty(&world);
    let slow = slow.builder().max_retries(0).build().await.unwrap();
    let write = faults.pause_next(Operation::Update, Moment::Before);
    let upgrading = tokio::spawn({
        let slow = slow.clone();
        async move { slow.upgrade(run, &longer()).await }
    });
    write.reached().await;
    hub.answer(&key, json!({ "text": "Ada" })).await.unwrap();
    write.release();
    assert_eq!(upgrading.await.unwrap().unwrap_err().kind(), ErrorKind::RunBusy);
    faults.fail_next(Operation::Update, Moment::Before);
    let failed = slow.upgrade(run, &longer()).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::StorageError);
    assert_eq!(completed(hub.drive(run).await), json!("Hello Ada"));
}

/// A flow that asks, and one that sleeps in its place and takes its runs over.
fn without_the_question() -> (Flow<Order, bool>, Flow<Order, bool>) {
    let old = Flow::input::<Order>("upgraded")
        .await_input(AwaitInput::<bool>::new("ask").metadata("team", "blue"))
        .sleep("nap", hours(9))
        .build()
        .unwrap();
    let new = Flow::input::<Order>("upgraded")
        .sleep("nap", hours(9))
        .map("done", |_: Order| true)
        .build()
        .unwrap()
        .upgrade(old.fingerprint().unwrap().clone(), |state| state.move_to("ask", "nap"));
    (old, new)
}

#[tokio::test]
async fn a_wait_that_an_upgrade_has_no_use_for_takes_no_answer() {
    let world = World::new();
    let (old, new) = without_the_question();
    let hub = world.hub().await;
    let suspension = suspended(hub.register(&old).unwrap().run(order()).await);
    let key = suspension.only().unwrap().key().unwrap();
    let newer = world.hub().await;
    newer.register(&new).unwrap();
    for error in [
        newer.answer(key, json!(true)).await.unwrap_err(),
        newer.resume(key, json!(true)).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::FlowIncompatible);
    }
    assert_eq!(hub.answer(key, json!(true)).await.unwrap().status, RunStatus::Ready);
}

#[tokio::test]
async fn an_upgrade_closes_the_waits_that_it_has_no_use_for() {
    let world = World::new();
    let (old, new) = without_the_question();
    let hub = world.hub().await;
    let suspension = suspended(hub.register(&old).unwrap().run(order()).await);
    let run = suspension.run_id;
    hub.upgrade(run, &new.erase()).await.unwrap();
    let view = hub.get(run).await.unwrap();
    assert!(view.waits.is_empty());
    assert!(view.metadata.is_empty(), "they were the wait's: {:?}", view.metadata);
    let late = hub.answer(suspension.only().unwrap().key().unwrap(), json!(true)).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::AlreadyResumed);
}

/// How often it was told that a wait was left behind.
fn told_to_be_superseded(events: &mut Events) -> usize {
    let told = std::iter::from_fn(|| events.try_next());
    let superseded = |event: &HubEvent| matches!(event, HubEvent::WaitClosed { receipt, .. } if receipt.closed == Closed::Superseded);
    told.filter(superseded).count()
}

#[tokio::test]
async fn a_run_that_an_upgrade_has_moved_is_due_at_once_and_who_watches_hears_of_its_wait() {
    let world = World::new();
    let (old, new) = without_the_question();
    let hub = world.hub().await;
    let run = suspended(hub.register(&old).unwrap().run(order()).await).run_id;
    let mut events = hub.events();
    hub.upgrade(run, &new.erase()).await.unwrap();
    assert_eq!(told_to_be_superseded(&mut events), 1);
    // It begins to nap now, and not when the deadline of its old question has passed.
    let newer = world.hub().await;
    newer.register(&without_the_question().1).unwrap();
    assert_eq!(newer.work_once().await.unwrap().driven, 1);
    assert_eq!(newer.get(run).await.unwrap().due_at, Some(world.clock.now().after(hours(9))));
}

#[tokio::test]
async fn who_watches_a_run_that_is_upgraded_as_it_goes_on_hears_of_its_wait() {
    let world = World::new();
    let (old, new) = without_the_question();
    suspended(world.hub().await.register(&old).unwrap().run(order()).await);
    let newer = world.hub().await;
    newer.register(&new).unwrap();
    let mut events = newer.events();
    world.clock.advance(hours(24));
    assert_eq!(newer.work_once().await.unwrap().driven, 1);
    assert_eq!(told_to_be_superseded(&mut events), 1);
}

#[tokio::test]
async fn an_overdue_wait_that_an_upgrade_left_behind_is_no_hot_loop() {
    let world = World::new();
    let (old, new) = without_the_question();
    let run = suspended(world.hub().await.register(&old).unwrap().run(order()).await).run_id;
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    world.clock.advance(hours(25));
    let worked = tokio::time::timeout(Duration::from_secs(5), hub.work_once()).await;
    let record = world.store.get(run).await.unwrap().unwrap();
    assert!(worked.is_ok(), "revision {:?}", record.revision);
}

#[tokio::test]
async fn a_run_that_was_moved_from_code_to_a_document_is_driven_by_who_reads_documents() {
    let world = World::new();
    let old = Flow::input::<i64>("napping").sleep("nap", hours(1)).build().unwrap();
    let hub = world.hub().await;
    let run = suspended(hub.register(&old).unwrap().run(1).await).run_id;
    let text = "flow: napping\nsteps:\n  - { id: nap, wait: 1h }\n";
    hub.upgrade(run, &document(text)).await.unwrap();
    world.clock.advance(hours(1));
    assert_eq!(world.hub().await.work_once().await.unwrap().driven, 1);
}

#[tokio::test]
async fn a_run_goes_on_in_a_step_of_another_name() {
    let flow = |around: &str, last: &str| {
        Flow::input::<Order>("renamed")
            .timeout(around, hours(2), |order| {
                order.await_input(AwaitInput::<bool>::new("ask")).sleep(last, hours(1))
            })
            .build()
            .unwrap()
    };
    let old = flow("slow", "nap");
    let print = old.fingerprint().unwrap().clone();
    let new = flow("patient", "nap").upgrade(print, |state| state.rename_step("slow", "patient"));
    let world = World::new();
    let hub = world.hub().await;
    let suspension = suspended(hub.register(&old).unwrap().run(order()).await);
    let newer = world.hub().await;
    newer.register(&new).unwrap();
    assert_eq!(newer.check(&new.erase()).await.unwrap().compatible, 1);
    let napping = newer.resume(suspension.only().unwrap().key().unwrap(), json!(true)).await;
    let run = suspended(napping).run_id;
    assert_eq!(newer.get(run).await.unwrap().positions[0].to_string(), "patient/nap");
    // And once more, at a step further in.
    let print = new.fingerprint().unwrap().clone();
    let newest =
        flow("patient", "rest").upgrade(print, |state| state.rename_step("patient/nap", "rest"));
    let hub = world.hub().await;
    hub.register(&newest).unwrap();
    world.clock.advance(hours(1));
    assert_eq!(completed(hub.drive(run).await), json!(true));
}

/// A run of the old flow in the hands of processes that are both right by their own clocks: one that
/// knows the old flow and is a day behind, and one that knows the new one.
async fn in_mid_deploy(world: &World) -> (PersistenceHub, PersistenceHub, SuspensionKey) {
    let (old, new) = without_the_question();
    let behind = World { clock: ManualClock::new(world.clock.now()), ..world.clone() };
    let older = behind.hub().await;
    let suspension = suspended(older.register(&old).unwrap().run(order()).await);
    let newer = world.hub().await;
    newer.register(&new).unwrap();
    (older, newer, suspension.only().unwrap().key().unwrap().clone())
}

#[tokio::test]
async fn an_answer_that_was_accepted_is_dropped_by_no_upgrade() {
    let world = World::new();
    let (older, newer, key) = in_mid_deploy(&world).await;
    let run = key.run_id();
    older.answer(&key, json!(true)).await.unwrap();
    assert_eq!(newer.work_once().await.unwrap().skipped, 1);
    let (_, new) = without_the_question();
    for error in
        [newer.upgrade(run, &new.erase()).await.unwrap_err(), newer.drive(run).await.unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::FlowIncompatible);
    }
    assert_eq!(newer.check(&new.erase()).await.unwrap().stranded.len(), 1);
    suspended(older.drive(run).await);
    assert_eq!(older.get(run).await.unwrap().receipts[0].closed, Closed::Answered);
}

#[tokio::test]
async fn an_answer_that_is_accepted_while_an_upgrade_is_under_way_is_not_dropped_either() {
    let world = World::new();
    let (faults, slow) = faulty(&world);
    let (older, newer, key) = in_mid_deploy(&slow).await;
    world.clock.advance(hours(24));
    let commit = faults.pause(Operation::Update, 1, Moment::Before);
    let working = tokio::spawn(async move { newer.work_once().await });
    commit.reached().await;
    older.answer(&key, json!(true)).await.unwrap();
    commit.release();
    assert_eq!(working.await.unwrap().unwrap().driven, 0);
    world.clock.advance(hours(1));
    let (old, _) = without_the_question();
    let hub = world.hub().await;
    hub.register(&old).unwrap();
    hub.work_once().await.unwrap();
    assert_eq!(hub.get(key.run_id()).await.unwrap().receipts[0].closed, Closed::Answered);
}

/// A new key, a hub that seals with it and opens what the world's key sealed, and one that has only
/// the new key.
async fn rotated(world: &World) -> (PersistenceHub, PersistenceHub) {
    let new = EncryptionKey::generate().unwrap().expose().to_string();
    let keyring = Keyring::new(new.parse().unwrap()).with_older(world.key.parse().unwrap());
    let both = world.builder().keyring(keyring).max_retries(0).build().await.unwrap();
    (both, World { key: new, ..world.clone() }.hub().await)
}

#[tokio::test]
async fn sealing_anew_goes_page_by_page_and_takes_the_inbox_along() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, first, key) = parked(&world, &counts).await;
    world.hub().await.answer(&key, yes()).await.unwrap();
    parked(&world, &counts).await;
    let (both, new) = rotated(&world).await;
    let page = both.reseal(None, 1).await.unwrap();
    assert_eq!((page.runs, page.resealed), (1, 1));
    let rest = both.reseal(page.next, 1).await.unwrap();
    assert_eq!((rest.runs, rest.resealed, rest.next), (1, 1, None));
    new.register(approval_flow(&counts)).unwrap();
    assert_eq!(completed(new.drive(first.run_id).await), json!("PO-17 by jane"));
}

#[tokio::test]
async fn sealing_anew_leaves_what_is_driven_and_what_does_not_open() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let (_, new) = rotated(&world).await;
    let report_of = |change: fn(&mut ResealReport)| {
        let mut report = ResealReport::default();
        report.runs = 1;
        change(&mut report);
        report
    };
    let report = new.reseal(None, 9).await.unwrap();
    let [failed] = report.failed_runs.as_slice() else { panic!("{report:?}") };
    assert_eq!(failed.run_id, suspension.run_id);
    assert!(failed.reasons[0].starts_with("EncryptionError"), "{failed:?}");
    let mut expected = report_of(|report| report.failed = 1);
    expected.failed_runs = report.failed_runs.clone();
    assert_eq!(report, expected, "it was sealed with the old key");

    let (faults, cut) = faulty(&world);
    let (both, _) = rotated(&cut).await;
    held(&world, suspension.run_id, seconds(30)).await;
    let busy = report_of(|report| report.busy = 1);
    assert_eq!(both.reseal(None, 9).await.unwrap(), busy);
    world.clock.advance(seconds(30));
    // The lease has lapsed; but while it is sealed, an answer comes in.
    let write = faults.pause_next(Operation::Update, Moment::Before);
    let sealing = tokio::spawn({
        let both = both.clone();
        async move { both.reseal(None, 9).await }
    });
    write.reached().await;
    hub.answer(&key, yes()).await.unwrap();
    write.release();
    assert_eq!(sealing.await.unwrap().unwrap(), busy);
    faults.fail_next(Operation::Update, Moment::Before);
    assert_eq!(both.reseal(None, 9).await.unwrap_err().kind(), ErrorKind::StorageError);
    let done = report_of(|report| report.resealed = 1);
    assert_eq!(both.reseal(None, 9).await.unwrap(), done);
}

#[tokio::test]
async fn a_lower_limit_does_not_stop_sealing_anew() {
    let (world, counts) = (World::new(), Counts::default());
    parked(&world, &counts).await;
    let keys =
        Keyring::new(EncryptionKey::generate().unwrap()).with_older(world.key.parse().unwrap());
    let hub = world.builder().keyring(keys).max_state_size(100).build().await.unwrap();
    let report = hub.reseal(None, 10).await;
    assert!(report.is_ok(), "{report:?}");
}

#[tokio::test]
async fn an_upgrade_that_panics_refuses_and_the_run_stays_as_it_is() {
    let flow = |pause: &str| {
        let flow = Flow::input::<Order>("pauses").sleep(pause, hours(1));
        flow.await_input(AwaitInput::<i64>::new("ask")).build().unwrap()
    };
    let (world, old) = (World::new(), flow("pause"));
    let run = suspended(world.hub().await.register(&old).unwrap().run(order()).await).run_id;
    let view = world.hub().await.get(run).await.unwrap();
    assert_eq!(&view.fingerprint, old.fingerprint().unwrap());
    let new = flow("rest").upgrade(view.fingerprint, |_| panic!("there is no such step"));
    let hub = world.hub().await;
    let handle = hub.register(&new).unwrap();
    assert_eq!(hub.check(&new).await.unwrap().stranded.len(), 1);
    let before = world.store.get(run).await.unwrap();
    for error in [hub.upgrade(run, &new).await.unwrap_err(), {
        world.clock.advance(hours(1));
        handle.drive(run).await.unwrap_err()
    }] {
        assert_eq!(error.kind(), ErrorKind::FlowIncompatible);
        assert!(error.message().contains("it panicked: there is no such step"), "{error}");
    }
    assert_eq!(world.store.get(run).await.unwrap(), before);
}
