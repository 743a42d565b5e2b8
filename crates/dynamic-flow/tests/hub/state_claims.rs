//! The lower half a third time: whom a state belongs to while others answer it, cancel it, or clean
//! it up.

use std::collections::BTreeSet;

use dynamic_flow::{
    Answer, Cancellation, Clock as _, ErrorKind, RunStatus, Schema, hours,
    hub::{Cleanup, HubEvent, PersistenceHub, StateClaim, Suspended, SuspensionRequest},
    minutes, seconds,
    store::{Change, Expect, Queue},
    testkit::faults::{Moment, Operation},
};
use serde_json::{Value, json};

use crate::support::{Counts, World, faulty, overlap, parked, yes};

fn request() -> SuspensionRequest {
    SuspensionRequest::new("ask", Schema::new(json!({ "type": "object" })).unwrap())
        .timeout(hours(24))
}

async fn suspended_state(world: &World) -> (PersistenceHub, Suspended) {
    let hub = world.hub().await;
    let parked = hub.suspend(&json!("half way"), request()).await.unwrap();
    (hub, parked)
}

/// The same world, seen by who has a clock that stays where it is now.
fn behind(world: &World) -> World {
    let clock = dynamic_flow::testkit::ManualClock::new(world.clock.now());
    World { clock, ..world.clone() }
}

#[tokio::test]
async fn a_state_that_was_answered_while_the_expired_are_cleaned_up_stays() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world).await;
    // Who cleans up is ahead of the one who answers: both are right by their own clocks.
    let early = behind(&world);
    let answering = early.hub().await;
    world.clock.advance(hours(24));
    let cleaning =
        |slow: PersistenceHub| async move { slow.cleanup(&Cleanup::new().expired_only()).await };
    let meanwhile = async { answering.answer(&parked.key, yes()).await.unwrap() };
    let cleaned = overlap(&world, Operation::Get, cleaning, meanwhile).await.unwrap();
    assert_eq!((cleaned.deleted_count, cleaned.errors.len()), (0, 0));
    let claim: StateClaim<Value> = hub.resume_state(&parked.key, yes()).await.unwrap();
    claim.complete().await.unwrap();
}

#[tokio::test]
async fn a_state_that_was_suspended_anew_while_the_expired_are_cleaned_up_stays() {
    for dry in [false, true] {
        let world = World::new();
        let (hub, first) = suspended_state(&world).await;
        let early = behind(&world);
        let claiming = early.hub().await;
        world.clock.advance(hours(24));
        let cleaning = move |slow: PersistenceHub| async move {
            let expired = Cleanup::new().expired_only();
            slow.cleanup(&if dry { expired.dry_run() } else { expired }).await
        };
        let meanwhile = async {
            let claim: StateClaim<Value> = claiming.resume_state(&first.key, yes()).await.unwrap();
            claim.suspend(&json!("further"), request().timeout(hours(48))).await.unwrap()
        };
        let cleaned = overlap(&world, Operation::Get, cleaning, meanwhile).await.unwrap();
        assert_eq!(cleaned.deleted_count, 0, "dry: {dry}");
        assert_eq!(hub.get(first.run_id).await.unwrap().status, RunStatus::Waiting);
    }
}

#[tokio::test]
async fn a_state_that_was_completed_while_its_default_was_taken_stays_so() {
    let world = World::new();
    let hub = world.hub().await;
    let request = SuspensionRequest::new("ask", Schema::any()).timeout(hours(1));
    let parked = hub.suspend(&json!("half way"), request.default_value(json!(7))).await.unwrap();
    world.clock.advance(hours(1));
    let (faults, slow) = faulty(&world);
    let slow = slow.hub().await;
    // It has accepted the default, and looks at the state again to take it.
    let pause = faults.pause_next(Operation::Get, Moment::Before);
    let claiming = tokio::spawn(async move { slow.claim_states::<Value>(1).await });
    pause.reached().await;
    let mut claims = hub.claim_states::<Value>(1).await.unwrap();
    claims.pop().unwrap().complete().await.unwrap();
    pause.release();
    assert!(claiming.await.unwrap().unwrap().is_empty());
    assert_eq!(hub.get(parked.run_id).await.unwrap().status, RunStatus::Completed);
}

#[tokio::test]
async fn the_key_of_an_earlier_wait_is_given_nothing_of_a_later_one() {
    let world = World::new();
    let (hub, first) = suspended_state(&world).await;
    let claim: StateClaim<Value> = hub.resume_state(&first.key, yes()).await.unwrap();
    let second = claim.suspend(&json!("further"), request()).await.unwrap();
    let claim: StateClaim<Value> = hub.resume_state(&second.key, yes()).await.unwrap();
    drop(claim);
    world.clock.advance(minutes(1));
    let stale = hub.resume_state::<Value>(&first.key, yes()).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::AlreadyResumed);
    let claim: StateClaim<Value> = hub.resume_state(&second.key, yes()).await.unwrap();
    assert_eq!(claim.state, json!("further"));
    claim.complete().await.unwrap();
}

#[tokio::test]
async fn a_key_that_was_added_before_the_default_was_taken_is_given_the_state() {
    let world = World::new();
    let hub = world.hub().await;
    let parked = hub.suspend(&1_i64, request().default_value(json!({}))).await.unwrap();
    let wait = hub.get(parked.run_id).await.unwrap().waits[0].id.clone();
    let added = hub.reissue(parked.run_id, &wait).await.unwrap();
    world.clock.advance(hours(24));
    drop(hub.claim_states::<i64>(1).await.unwrap());
    world.clock.advance(minutes(1));
    let claim: StateClaim<i64> = hub.resume_state(&added, yes()).await.unwrap();
    assert_eq!(claim.input, json!({}));
    claim.complete().await.unwrap();
}

#[tokio::test]
async fn a_request_whose_state_is_completed_hears_so_and_not_that_it_is_busy() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world).await;
    let answer = Answer::new(yes()).request_id("r1");
    let claim: StateClaim<Value> = hub.resume_state(&parked.key, answer.clone()).await.unwrap();
    let busy = hub.resume_state::<Value>(&parked.key, answer.clone()).await.unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::RunBusy);
    claim.complete().await.unwrap();
    let done = hub.resume_state::<Value>(&parked.key, answer).await.unwrap_err();
    assert_eq!(done.kind(), ErrorKind::AlreadyResumed);
}

#[tokio::test]
async fn who_lost_a_state_to_a_cancellation_completes_nothing_over_it() {
    let world = World::new();
    let (slow, parked) = suspended_state(&world).await;
    let old: StateClaim<Value> = slow.resume_state(&parked.key, yes()).await.unwrap();
    // Frozen, it can't renew: its lease lapses, and then the state is cancelled.
    let lapsed = Change { lease: Some(None), ..Change::at(world.clock.now()) };
    world.store.update(parked.run_id, Expect::Any, lapsed).await.unwrap();
    let hub = world.hub().await;
    hub.cancel(parked.run_id, Cancellation::new()).await.unwrap();
    let cancelled = hub.resume_state::<Value>(&parked.key, yes()).await.unwrap_err();
    assert_eq!(cancelled.kind(), ErrorKind::RunCancelled);
    assert_eq!(old.complete().await.unwrap_err().kind(), ErrorKind::RunBusy);
    assert_eq!(hub.get(parked.run_id).await.unwrap().status, RunStatus::Cancelled);
}

#[tokio::test]
async fn a_claim_that_is_completed_wins_over_a_cancellation() {
    let world = World::new();
    let hub = world.hub().await;
    let a = hub.suspend(&1_i64, request()).await.unwrap();
    let claim: StateClaim<i64> = hub.resume_state(&a.key, yes()).await.unwrap();
    assert_eq!(hub.cancel(a.run_id, Cancellation::new()).await.unwrap(), RunStatus::Running);
    claim.complete().await.unwrap();
    world.clock.advance(minutes(1));
    assert!(hub.claim_states::<i64>(1).await.unwrap().is_empty());
    let view = hub.get(a.run_id).await.unwrap();
    assert_eq!((view.status, view.ended), (RunStatus::Completed, None));
}

#[tokio::test]
async fn a_state_that_was_cancelled_while_its_caller_had_it_ends_when_it_is_given_back() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world).await;
    let claim: StateClaim<Value> = hub.resume_state(&parked.key, yes()).await.unwrap();
    hub.cancel(parked.run_id, Cancellation::new()).await.unwrap();
    claim.release().await.unwrap();
    let view = hub.get(parked.run_id).await.unwrap();
    assert_eq!((view.status, view.driven_by), (RunStatus::Cancelled, None));
    assert!(view.accepted.is_empty(), "nobody goes on with it");
    assert!(hub.claim_states::<Value>(1).await.unwrap().is_empty());
    for _ in 0..2 {
        let cancelled = hub.resume_state::<Value>(&parked.key, yes()).await.unwrap_err();
        assert_eq!(cancelled.kind(), ErrorKind::RunCancelled);
    }
    assert_eq!(hub.get(parked.run_id).await.unwrap().due_at, view.due_at, "it is kept no longer");
}

#[tokio::test]
async fn every_key_of_a_state_that_was_cancelled_is_told_of_it() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world).await;
    let wait = hub.get(parked.run_id).await.unwrap().waits[0].id.clone();
    let added = hub.reissue(parked.run_id, &wait).await.unwrap();
    // Its holder is not heard of again, and a worker ends it.
    crate::support::held(&world, parked.run_id, minutes(1)).await;
    hub.cancel(parked.run_id, Cancellation::new()).await.unwrap();
    let told = hub.answer(&added, yes()).await.unwrap_err();
    world.clock.advance(minutes(1));
    assert!(hub.claim_states::<Value>(1).await.unwrap().is_empty());
    for key in [&parked.key, &added] {
        let error = hub.resume_state::<Value>(key, yes()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyResumed, "{error}");
        assert_eq!(error.receipt(), told.receipt(), "it was closed when it was cancelled");
    }
}

#[tokio::test]
async fn a_claim_that_is_dropped_is_given_back_and_offered_again_a_second_later() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world).await;
    let claim: StateClaim<Value> = hub.resume_state(&parked.key, yes()).await.unwrap();
    drop(claim);
    // `shutdown` waits for what goes on in the background.
    assert!(hub.shutdown(seconds(10)).await);
    let view = hub.get(parked.run_id).await.unwrap();
    assert_eq!((view.status, view.driven_by), (RunStatus::Ready, None));
    let hub = world.hub().await;
    // Whoever has key and input gets it at once; others are not kept busy by one that always fails.
    let claim: StateClaim<Value> = hub.resume_state(&parked.key, yes()).await.unwrap();
    drop(claim);
    assert!(hub.shutdown(seconds(10)).await);
    let hub = world.hub().await;
    assert!(hub.claim_states::<Value>(1).await.unwrap().is_empty());
    world.clock.advance(seconds(1));
    hub.claim_states::<Value>(1).await.unwrap().remove(0).complete().await.unwrap();
    assert_eq!(hub.get(parked.run_id).await.unwrap().status, RunStatus::Completed);
}

#[tokio::test]
async fn a_claim_that_is_dropped_where_its_state_was_cancelled_ends_it() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world).await;
    let claim: StateClaim<Value> = hub.resume_state(&parked.key, yes()).await.unwrap();
    hub.cancel(parked.run_id, Cancellation::new()).await.unwrap();
    drop(claim);
    assert!(hub.shutdown(seconds(10)).await);
    assert_eq!(hub.get(parked.run_id).await.unwrap().status, RunStatus::Cancelled);
}

#[tokio::test]
async fn a_claim_whose_end_could_not_be_written_is_given_back_and_one_that_has_ended_stays_so() {
    for (moment, status) in
        [(Moment::Before, RunStatus::Ready), (Moment::After, RunStatus::Completed)]
    {
        let world = World::new();
        let parked = suspended_state(&world).await.1;
        let (faults, faulty) = faulty(&world);
        let hub = faulty.builder().max_retries(0).build().await.unwrap();
        let claim: StateClaim<Value> = hub.resume_state(&parked.key, yes()).await.unwrap();
        faults.fail_next(Operation::Update, moment);
        claim.complete().await.unwrap_err();
        assert!(hub.shutdown(seconds(10)).await);
        let view = world.hub().await.get(parked.run_id).await.unwrap();
        assert_eq!((view.status, view.driven_by), (status, None), "{moment:?}");
    }
}

#[tokio::test]
async fn a_state_that_was_let_go_under_the_same_epoch_is_not_completed_over_it() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world).await;
    let claim: StateClaim<Value> = hub.resume_state(&parked.key, yes()).await.unwrap();
    // As by another task of this process, of which this one can't be told apart.
    let let_go = Change {
        status: Some(RunStatus::Completed),
        lease: Some(None),
        ..Change::at(world.clock.now())
    };
    world.store.update(parked.run_id, Expect::Any, let_go).await.unwrap();
    let before = world.store.get(parked.run_id).await.unwrap();
    assert_eq!(claim.complete().await.unwrap_err().kind(), ErrorKind::RunBusy);
    assert!(hub.shutdown(seconds(10)).await);
    assert_eq!(world.store.get(parked.run_id).await.unwrap(), before);
}

#[test]
fn a_claim_that_is_dropped_without_a_runtime_is_left_to_its_lease() {
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (parked, claim) = runtime.block_on(async {
        let (hub, parked) = suspended_state(&world).await;
        let claim: StateClaim<Value> = hub.resume_state(&parked.key, yes()).await.unwrap();
        (parked, claim)
    });
    drop(claim);
    runtime.block_on(async {
        let hub = world.hub().await;
        let busy = hub.resume_state::<Value>(&parked.key, yes()).await.unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::RunBusy);
        world.clock.advance(minutes(1));
        hub.claim_states::<Value>(1).await.unwrap().remove(0).complete().await.unwrap();
    });
}

#[tokio::test]
async fn a_state_that_a_caller_lost_is_not_given_back_by_it() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world).await;
    let old: StateClaim<Value> = hub.resume_state(&parked.key, yes()).await.unwrap();
    crate::support::held(&world, parked.run_id, minutes(1)).await;
    assert_eq!(old.release().await.unwrap_err().kind(), ErrorKind::RunBusy);
    let view = hub.get(parked.run_id).await.unwrap();
    assert_eq!(view.driven_by.as_deref(), Some("elsewhere"));
}

#[tokio::test]
async fn watchers_hear_of_each_wait_of_a_state_and_of_how_it_was_closed() {
    let world = World::new();
    let hub = world.hub().await;
    let mut events = hub.events();
    let first = hub.suspend(&json!("half way"), request()).await.unwrap();
    let claim: StateClaim<Value> = hub.resume_state(&first.key, yes()).await.unwrap();
    let second = claim.suspend(&json!("further"), request()).await.unwrap();
    let claim: StateClaim<Value> = hub.resume_state(&second.key, yes()).await.unwrap();
    claim.complete().await.unwrap();
    let expired = hub.suspend(&json!("idle"), request()).await.unwrap();
    world.clock.advance(hours(24));
    hub.resume_state::<Value>(&expired.key, yes()).await.unwrap_err();
    let cancelled = hub.suspend(&json!("half way"), request()).await.unwrap();
    let claim: StateClaim<Value> = hub.resume_state(&cancelled.key, yes()).await.unwrap();
    hub.cancel(cancelled.run_id, Cancellation::new()).await.unwrap();
    claim.release().await.unwrap();
    let (mut told, mut open) = (Vec::new(), BTreeSet::new());
    while let Some(event) = events.try_next() {
        let what = match &event {
            HubEvent::WaitOpened { run_id, wait_id, expires_at, .. } => {
                assert!(expires_at.is_some());
                open.insert((*run_id, wait_id.clone()));
                "opened".to_owned()
            }
            HubEvent::WaitClosed { run_id, receipt, .. } => {
                let opened = open.remove(&(*run_id, receipt.wait_id.clone()));
                assert!(opened, "{receipt:?} is of no wait that was told of");
                format!("{:?}", receipt.closed)
            }
            HubEvent::RunStopped { status, .. } => format!("stopped: {status}"),
            other => panic!("{other:?}"),
        };
        told.push((event.run_id(), what));
    }
    let of = |run| -> Vec<_> {
        told.iter().filter(|(id, _)| *id == run).map(|(_, what)| what.as_str()).collect()
    };
    let suspended_anew = ["opened", "Answered", "stopped: waiting"];
    let completed = ["Answered", "stopped: completed"];
    assert_eq!(of(first.run_id), [&["opened"], &suspended_anew[..], &completed[..]].concat());
    assert_eq!(of(expired.run_id), ["opened", "TimedOut", "stopped: expired"]);
    assert_eq!(of(cancelled.run_id), ["opened", "Answered", "stopped: cancelled"]);
}

#[tokio::test]
async fn a_state_that_was_cancelled_is_not_suspended_anew() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world).await;
    let claim: StateClaim<Value> = hub.resume_state(&parked.key, yes()).await.unwrap();
    hub.cancel(parked.run_id, Cancellation::new().by("joe")).await.unwrap();
    let error = claim.suspend(&json!("further"), request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RunCancelled);
    let view = hub.get(parked.run_id).await.unwrap();
    assert_eq!((view.status, view.waits.len()), (RunStatus::Cancelled, 0));
    assert!(serde_json::to_string(&view.ended).unwrap().contains("joe"));
}

#[tokio::test]
async fn of_two_callers_who_are_given_a_state_again_at_once_the_second_hears_that_it_is_busy() {
    let world = World::new();
    let hub = world.hub().await;
    let request = SuspensionRequest::new("ask", Schema::any()).timeout(hours(24));
    let parked = hub.suspend(&1, request).await.unwrap();
    // Accepted; nobody has the state.
    hub.answer(&parked.key, json!(true)).await.unwrap();
    let key = parked.key.clone();
    let again = |slow: dynamic_flow::hub::PersistenceHub| async move {
        slow.resume_state::<i32>(&key, json!(true)).await.map(|claim| claim.run_id)
    };
    let first = async { hub.resume_state::<i32>(&parked.key, json!(true)).await.unwrap() };
    let second = crate::support::overlap(&world, Operation::Update, again, async {
        let _kept = std::mem::ManuallyDrop::new(first.await);
    });
    let error = second.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RunBusy, "{error}");
}

#[tokio::test]
async fn a_run_of_a_flow_is_not_given_out_as_a_state_whatever_queue_it_is_in() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let run = suspension.run_id;
    hub.answer(&key, yes()).await.unwrap();
    let now = world.clock.now();
    let change =
        Change { queue: Some(Some(Queue::states())), due_at: Some(Some(now)), ..Change::at(now) };
    world.store.update(run, Expect::Any, change).await.unwrap();
    let claims: Vec<StateClaim<Value>> = hub.claim_states(9).await.unwrap();
    assert!(claims.is_empty());
    hub.drive(run).await.unwrap();
    assert_eq!(counts.after.get(), 1, "its flow has it still");
}
