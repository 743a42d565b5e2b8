//! Writes that come second, or fail, behind the first write of a call.

use dynamic_flow::{
    Answer, Cancellation, Error, ErrorKind, Flow, RunStatus, Schema, SuspensionKey, days, hours,
    hub::{Cleanup, PersistenceHub, StateClaim, SuspensionRequest},
    store::Filter,
    testkit::faults::{Moment, Operation},
    tool::AwaitInput,
    wait::Closed,
};
use serde_json::{Value, json};

use crate::support::{
    Counts, Order, World, approval_flow, completed, defaulting_flow, failed, faulty, no, order,
    overlap, parked, suspended, yes,
};

#[tokio::test]
async fn an_answer_whose_write_failed_is_not_taken_for_that_of_somebody_else() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let (faults, slow) = faulty(&world);
    let slow = slow.hub().await;
    slow.register(approval_flow(&counts)).unwrap();
    // Nothing was written at the first try, and before the second one somebody else is faster.
    faults.fail(Operation::Update, 1, Moment::Before);
    let second = faults.pause(Operation::Update, 2, Moment::Before);
    let answering = tokio::spawn({
        let key = key.clone();
        async move { slow.answer(&key, no()).await }
    });
    second.reached().await;
    hub.answer(&key, Answer::new(yes()).by("jane")).await.unwrap();
    second.release();
    let error = answering.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyResumed);
    assert_eq!(error.receipt().unwrap().by.as_deref(), Some("jane"));
    hub.work_once().await.unwrap();
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!(view.output, Some(json!("PO-17 by jane")));
}

#[tokio::test]
async fn a_lease_whose_write_failed_is_not_taken_for_that_of_somebody_else() {
    let (world, counts) = (World::new(), Counts::default());
    let flow = defaulting_flow(&counts);
    let hub = world.hub().await;
    let run = suspended(hub.register(&flow).unwrap().run(order()).await).run_id;
    world.clock.advance(hours(4));
    let (faults, slow) = faulty(&world);
    let slow = slow.hub().await;
    slow.register(&flow).unwrap();
    faults.fail(Operation::Update, 1, Moment::Before);
    let second = faults.pause(Operation::Update, 2, Moment::Before);
    let driving = tokio::spawn(async move { slow.drive(run).await });
    second.reached().await;
    crate::support::held(&world, run, hours(1)).await;
    let there = world.store.get(run).await.unwrap();
    second.release();
    // It is left to the holder; what it would have done waits for the end of that lease.
    world.clock.until_sleeping(1).await;
    assert_eq!(world.store.get(run).await.unwrap(), there);
    assert_eq!(counts.after.get(), 0);
    driving.abort();
}

#[tokio::test]
async fn a_late_answer_that_overlaps_the_deadline_hears_of_it() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, _, key) = parked(&world, &counts).await;
    world.clock.advance(hours(4));
    let answering = move |slow: PersistenceHub| async move { slow.resume(&key, yes()).await };
    let worker = async { hub.work_once().await.unwrap() };
    let error = overlap(&world, Operation::Update, answering, worker).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SuspensionExpired);
    assert_eq!(error.receipt().unwrap().closed, Closed::TimedOut);
}

#[tokio::test]
async fn who_drives_a_run_that_another_drives_meanwhile_hears_how_it_ended() {
    for answered in [true, false] {
        let (world, counts) = (World::new(), Counts::default());
        let (hub, suspension, key) = parked(&world, &counts).await;
        let run = suspension.run_id;
        if answered {
            world.hub().await.answer(&key, yes()).await.unwrap();
        }
        world.clock.advance(hours(4));
        let driving = move |slow: PersistenceHub| async move { slow.drive(run).await };
        let worker = async { hub.work_once().await.unwrap() };
        let outcome = overlap(&world, Operation::Update, driving, worker).await;
        match answered {
            true => assert_eq!(completed(outcome), json!("PO-17 by jane")),
            false => assert_eq!(outcome.unwrap_err().kind(), ErrorKind::RunExpired),
        }
    }
}

#[tokio::test]
async fn of_two_retries_at_once_the_second_finds_the_run_going_on() {
    let world = World::new();
    let (hub, flow, run) = failed(&world).await;
    let retrying = move |slow: PersistenceHub| async move {
        slow.register(&flow).unwrap();
        slow.retry(run).await
    };
    let first = async { assert_eq!(completed(hub.retry(run).await), json!(1)) };
    let error = overlap(&world, Operation::Update, retrying, first).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
}

#[tokio::test]
async fn a_run_that_is_answered_while_it_is_cleaned_up_stays() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let cleaning = |slow: PersistenceHub| async move { slow.cleanup(&Cleanup::new().all()).await };
    let answer = async { hub.answer(&key, yes()).await.unwrap() };
    let cleaned = overlap(&world, Operation::Delete, cleaning, answer).await.unwrap();
    assert_eq!((cleaned.deleted_count, cleaned.errors.len()), (0, 0));
    assert_eq!(completed(hub.drive(suspension.run_id).await), json!("PO-17 by jane"));
}

#[tokio::test]
async fn a_run_that_can_not_be_removed_is_told_of() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, _) = parked(&world, &counts).await;
    let (faults, cut) = faulty(&world);
    faults.fail_next(Operation::Delete, Moment::Before);
    let cleaned = cut.hub().await.cleanup(&Cleanup::new().all()).await.unwrap();
    assert_eq!((cleaned.deleted_count, cleaned.errors.len()), (0, 1));
    assert_eq!(cleaned.errors[0].run_id, suspension.run_id);
}

fn request() -> SuspensionRequest {
    SuspensionRequest::new("ask", Schema::any()).timeout(hours(24)).default_value(json!("none"))
}

async fn resumed(hub: &PersistenceHub, key: &SuspensionKey, answer: Value) -> Result<Value, Error> {
    let claim: StateClaim<Value> = hub.resume_state(key, answer).await?;
    let input = claim.input.clone();
    claim.complete().await?;
    Ok(input)
}

#[tokio::test]
async fn of_two_callers_who_resume_a_state_at_once_one_gets_it() {
    for late in [false, true] {
        let world = World::new();
        let hub = world.hub().await;
        let parked = hub.suspend(&1_i64, request()).await.unwrap();
        if late {
            world.clock.advance(hours(24));
        }
        let key = parked.key.clone();
        let resuming =
            move |slow: PersistenceHub| async move { resumed(&slow, &key, json!("second")).await };
        let first = async { resumed(&hub, &parked.key, json!("first")).await.unwrap() };
        let error = overlap(&world, Operation::Update, resuming, first).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyResumed);
        let closed = if late { Closed::Defaulted } else { Closed::Answered };
        assert_eq!(error.receipt().unwrap().closed, closed);
    }
}

#[tokio::test]
async fn a_lease_whose_reply_got_lost_is_known_to_be_ones_own() {
    let (world, counts) = (World::new(), Counts::default());
    let flow = defaulting_flow(&counts);
    let (faults, cut) = faulty(&world);
    let hub = cut.hub().await;
    let run = suspended(hub.register(&flow).unwrap().run(order()).await).run_id;
    world.clock.advance(hours(4));
    faults.fail_next(Operation::Update, Moment::After);
    assert_eq!(completed(hub.drive(run).await), json!("PO-17 by system"));
}

#[tokio::test]
async fn an_answer_whose_reply_got_lost_is_known_to_be_ones_own_once_it_is_worked_in() {
    let (world, counts) = (World::new(), Counts::default());
    let (worker, suspension, key) = parked(&world, &counts).await;
    let (faults, cut) = faulty(&world);
    let hub = cut.hub().await;
    hub.register(approval_flow(&counts)).unwrap();
    // It was written, and before the second try a worker has gone on with it.
    faults.fail(Operation::Update, 1, Moment::After);
    let second = faults.pause(Operation::Update, 2, Moment::Before);
    let answering = tokio::spawn({
        let key = key.clone();
        async move { hub.answer(&key, Answer::new(yes()).by("jane")).await }
    });
    second.reached().await;
    assert_eq!(worker.work_once().await.unwrap().driven, 1);
    second.release();
    let accepted = answering.await.unwrap().unwrap();
    assert!(!accepted.repeated);
    assert_eq!(accepted.receipt, worker.get(suspension.run_id).await.unwrap().receipts[0]);
    let again = worker.answer(&key, Answer::new(yes()).by("jane")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyResumed);
}

#[tokio::test]
async fn a_start_whose_reply_got_lost_is_known_to_be_ones_own_when_others_have_gone_on() {
    let (world, counts) = (World::new(), Counts::default());
    let (faults, cut) = faulty(&world);
    let hub = cut.hub().await;
    let handle = hub.register(approval_flow(&counts)).unwrap();
    faults.fail(Operation::Insert, 1, Moment::After);
    let second = faults.pause(Operation::Insert, 2, Moment::Before);
    let running = tokio::spawn(async move { handle.run(order()).await });
    second.reached().await;
    let other = world.hub().await;
    other.register(approval_flow(&counts)).unwrap();
    let page = other.query(&Filter::default(), None, 1).await.unwrap();
    let run = page.readable().next().unwrap().id;
    other.cancel(run, Cancellation::new()).await.unwrap();
    second.release();
    let parked = suspended(running.await.unwrap());
    assert_eq!(parked.run_id, run);
    let late = other.answer(parked.only().unwrap().key().unwrap(), yes()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::AlreadyResumed, "{late}");
}

#[tokio::test]
async fn what_is_accepted_behind_a_write_whose_reply_got_lost_is_kept() {
    let world = World::new();
    let (faults, cut) = faulty(&world);
    let hub = cut.hub().await;
    let flow = Flow::input::<Order>("two")
        .await_input(AwaitInput::<bool>::new("one").no_timeout())
        .await_input(AwaitInput::<bool>::new("two").no_timeout())
        .build()
        .unwrap();
    let suspension = suspended(hub.register(&flow).unwrap().run(order()).await);
    let (run, key) = (suspension.run_id, suspension.only().unwrap().key().unwrap().clone());
    // The first write accepts the answer, the second one parks the run.
    let second = faults.calls(Operation::Update) + 2;
    faults.fail(Operation::Update, second, Moment::After);
    let parks = faults.pause(Operation::Update, second, Moment::After);
    let resuming = tokio::spawn({
        let hub = hub.clone();
        async move { hub.resume(&key, json!(true)).await }
    });
    parks.reached().await;
    let record = world.store.get(run).await.unwrap().unwrap();
    assert_eq!(record.lease, None, "it is parked");
    let key = world.hub().await.reissue(run, &record.waits[0].id).await.unwrap();
    parks.release();
    suspended(resuming.await.unwrap());
    let asked = hub.question(&key).await;
    assert!(asked.is_ok(), "{asked:?}");
}

#[tokio::test]
async fn what_the_store_fails_with_is_told_and_not_tried_for_ever() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, cancelled, _) = parked(&world, &counts).await;
    let (_, answered, ready) = parked(&world, &counts).await;
    let (_, _, key) = parked(&world, &counts).await;
    world.hub().await.answer(&ready, yes()).await.unwrap();
    let (_, flow, failed) = failed(&world).await;
    let state = hub.suspend(&1_i64, request()).await.unwrap();
    let late = hub.suspend(&1_i64, request()).await.unwrap();
    let (faults, cut) = faulty(&world);
    let cut = cut.builder().max_retries(0).build().await.unwrap();
    cut.register(approval_flow(&counts)).unwrap();
    cut.register(&flow).unwrap();
    let fail = |writes| {
        faults.fail(Operation::Update, faults.calls(Operation::Update) + writes, Moment::Before);
    };
    let told = |error: Error| assert_eq!(error.kind(), ErrorKind::StorageError, "{error}");
    // The lease is taken; what was to be written under it is not.
    fail(2);
    told(cut.cancel(cancelled.run_id, Cancellation::new()).await.unwrap_err());
    fail(1);
    told(cut.drive(answered.run_id).await.unwrap_err());
    fail(1);
    told(cut.retry(failed).await.unwrap_err());
    fail(1);
    told(resumed(&cut, &state.key, json!(1)).await.unwrap_err());
    assert_eq!(resumed(&cut, &state.key, json!(1)).await.unwrap(), json!(1));

    world.clock.advance(hours(24));
    fail(1);
    told(cut.resume(&key, yes()).await.unwrap_err());
    fail(1);
    told(cut.drive(key.run_id()).await.unwrap_err());
    fail(1);
    told(resumed(&cut, &late.key, json!(1)).await.unwrap_err());
    assert_eq!(resumed(&cut, &late.key, json!(1)).await.unwrap(), json!("none"));

    world.clock.advance(days(7));
    faults.fail_next(Operation::Delete, Moment::Before);
    told(cut.work_once().await.unwrap_err());
}

#[tokio::test]
async fn a_run_that_is_cancelled_while_it_grows_too_large_is_left_to_the_cancellation() {
    let world = World::new();
    let flow = Flow::input::<Order>("grows")
        .await_input(AwaitInput::<bool>::new("ask").no_timeout())
        .map("grow", |_: bool| "x".repeat(30_000))
        .sleep("nap", hours(1))
        .build()
        .unwrap();
    let hub = world.hub().await;
    let suspension = suspended(hub.register(&flow).unwrap().run(order()).await);
    let key = suspension.only().unwrap().key().unwrap().clone();
    let (faults, narrow) = faulty(&world);
    let narrow = narrow.builder().max_state_size(20_000).build().await.unwrap();
    narrow.register(&flow).unwrap();
    // The first write takes the lease. The commit never gets to the store.
    let set_aside = faults.pause(Operation::Update, 2, Moment::Before);
    let resumed = tokio::spawn(async move { narrow.resume(&key, json!(true)).await });
    set_aside.reached().await;
    hub.cancel(suspension.run_id, Cancellation::new()).await.unwrap();
    set_aside.release();
    assert_eq!(resumed.await.unwrap().unwrap_err().kind(), ErrorKind::StateTooLarge);
    world.clock.advance(hours(1));
    hub.work_once().await.unwrap();
    assert_eq!(hub.get(suspension.run_id).await.unwrap().status, RunStatus::Cancelled);
}
