//! The lower half again: who gets a state, what becomes of it when callers die, and what its record
//! says afterwards.

use dynamic_flow::{
    Answer, Cancellation, Clock as _, Error, ErrorKind, RunStatus, Schema, SuspensionKey, days,
    hours,
    hub::{PersistenceHub, StateClaim, Suspended, SuspensionRequest, Worked},
    seconds,
    testkit::faults::{Moment, Operation},
    wait::Closed,
};
use serde_json::{Value, json};

use crate::support::{Counts, World, faulty, no, parked, yes};

fn request() -> SuspensionRequest {
    SuspensionRequest::new("ask", Schema::new(json!({ "type": "object" })).unwrap())
        .timeout(hours(24))
}

async fn suspended_state(world: &World, request: SuspensionRequest) -> (PersistenceHub, Suspended) {
    let hub = world.hub().await;
    let parked = hub.suspend(&json!("half way"), request).await.unwrap();
    (hub, parked)
}

/// Resumes a state, for a caller who dies; ends at the moment at which the lease does.
async fn crashed(world: &World, hub: &PersistenceHub, key: &SuspensionKey, answer: Answer) {
    let claim: StateClaim<Value> = hub.resume_state(key, answer).await.unwrap();
    drop(claim);
    world.clock.advance(seconds(30));
}

async fn refused(hub: &PersistenceHub, key: &SuspensionKey, answer: Answer) -> Error {
    hub.resume_state::<Value>(key, answer).await.unwrap_err()
}

#[tokio::test]
async fn a_completed_state_has_ended_and_is_purged_after_the_retention() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world, request()).await;
    let claim: StateClaim<Value> = hub.resume_state(&parked.key, yes()).await.unwrap();
    claim.complete().await.unwrap();
    let view = hub.get(parked.run_id).await.unwrap();
    assert_eq!((view.status, view.driven_by), (RunStatus::Completed, None));
    assert_eq!((view.waits.len(), view.receipts.len()), (0, 1));
    assert_eq!(hub.sealed_info(parked.run_id).await.unwrap().sequence, 2);
    world.clock.advance(days(7) - seconds(1));
    assert_eq!(hub.work_once().await.unwrap().purged, 0);
    world.clock.advance(seconds(1));
    assert_eq!(hub.work_once().await.unwrap().purged, 1);
    assert_eq!(hub.get(parked.run_id).await.unwrap_err().kind(), ErrorKind::RunNotFound);
}

#[tokio::test]
async fn an_expired_state_has_ended_and_can_still_be_looked_at() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world, request()).await;
    world.clock.advance(hours(24));
    let late = refused(&hub, &parked.key, yes().into()).await;
    assert_eq!(late.kind(), ErrorKind::SuspensionExpired);
    let view = hub.get(parked.run_id).await.unwrap();
    assert_eq!((view.status, view.waits.len()), (RunStatus::Expired, 0));
    assert_eq!(view.receipts[0].closed, Closed::TimedOut);
}

#[tokio::test]
async fn a_state_that_nobody_asks_for_expires_by_a_worker_unless_it_has_a_default() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world, request()).await;
    let default = hub.suspend(&json!("other"), request().default_value(json!({}))).await.unwrap();
    world.clock.advance(hours(24) - seconds(1));
    assert_eq!(hub.work_once().await.unwrap(), Worked::default());
    world.clock.advance(seconds(1));
    let worked = hub.work_once().await.unwrap();
    assert_eq!((worked.driven, worked.skipped), (1, 0));
    assert_eq!(hub.get(parked.run_id).await.unwrap().status, RunStatus::Expired);
    let kind = refused(&hub, &parked.key, yes().into()).await.kind();
    assert_eq!(kind, ErrorKind::SuspensionExpired);
    // The default is for whoever goes on with the state.
    let claims: Vec<StateClaim<Value>> = hub.claim_states(10).await.unwrap();
    assert_eq!(claims.iter().map(|claim| claim.run_id).collect::<Vec<_>>(), [default.run_id]);
    world.clock.advance(days(7));
    assert_eq!(hub.work_once().await.unwrap().purged, 1);
}

#[tokio::test]
async fn who_can_not_read_a_state_does_not_take_it_from_who_can() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world, request()).await;
    crashed(&world, &hub, &parked.key, yes().into()).await;
    let wrong = hub.resume_state::<u64>(&parked.key, yes()).await.unwrap_err();
    assert_eq!(
        (wrong.kind(), wrong.run_id()),
        (ErrorKind::SerializationError, Some(parked.run_id))
    );
    let right: StateClaim<String> = hub.resume_state(&parked.key, yes()).await.unwrap();
    assert_eq!(right.state, "half way");
}

#[tokio::test]
async fn a_state_that_was_given_once_is_given_to_no_stranger_who_guesses_the_answer() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world, request()).await;
    crashed(&world, &hub, &parked.key, yes().into()).await;
    let stranger = SuspensionKey::from_secret(parked.run_id, [7; 32]);
    let error = refused(&hub, &stranger, yes().into()).await;
    assert_eq!(error.kind(), ErrorKind::SuspensionKeyNotFound);
    let claim: StateClaim<Value> = hub.resume_state(&parked.key, yes()).await.unwrap();
    claim.complete().await.unwrap();
}

#[tokio::test]
async fn a_request_is_given_its_state_again_once_the_lease_has_lapsed() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world, request()).await;
    crashed(&world, &hub, &parked.key, Answer::new(yes()).request_id("r1")).await;
    let other = refused(&hub, &parked.key, Answer::new(no()).request_id("r2")).await;
    assert_eq!(other.kind(), ErrorKind::AlreadyResumed);
    let contrary = refused(&hub, &parked.key, Answer::new(no()).request_id("r1")).await;
    assert_eq!(contrary.kind(), ErrorKind::AlreadyResumed);
    let again = Answer::new(yes()).request_id("r1");
    let claim: StateClaim<Value> = hub.resume_state(&parked.key, again).await.unwrap();
    assert_eq!((&claim.state, &claim.input), (&json!("half way"), &yes()));
    claim.release().await.unwrap();
    let view = hub.get(parked.run_id).await.unwrap();
    assert_eq!((view.status, view.due_at), (RunStatus::Ready, Some(world.clock.now())));
}

#[tokio::test]
async fn the_key_of_a_flows_run_resumes_no_state() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let before = world.store.get(suspension.run_id).await.unwrap();
    let error = refused(&hub, &key, yes().into()).await;
    assert_eq!(error.kind(), ErrorKind::InvalidState);
    assert_eq!(world.store.get(suspension.run_id).await.unwrap(), before);
}

#[tokio::test]
async fn overdue_states_are_given_with_their_default_or_expire() {
    let world = World::new();
    let (hub, with) = suspended_state(&world, request().default_value(no())).await;
    let (_, without) = suspended_state(&world, request()).await;
    assert!(hub.claim_states::<Value>(10).await.unwrap().is_empty(), "not before");
    world.clock.advance(hours(24));
    let claims = hub.claim_states::<Value>(10).await.unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!((claims[0].run_id, &claims[0].input), (with.run_id, &no()));
    assert_eq!(claims[0].receipt.closed, Closed::Defaulted);
    let expired = hub.get(without.run_id).await.unwrap();
    assert_eq!((expired.status, expired.driven_by), (RunStatus::Expired, None));
}

#[tokio::test]
async fn a_default_that_was_taken_for_a_caller_who_died_is_given_to_the_next() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world, request().default_value(no())).await;
    world.clock.advance(hours(24));
    let (faults, cut) = faulty(&world);
    let dying = cut.builder().max_retries(0).build().await.unwrap();
    // The first write takes the default, the second would give it out.
    faults.fail(Operation::Update, 2, Moment::Before);
    assert_eq!(refused(&dying, &parked.key, yes().into()).await.kind(), ErrorKind::StorageError);
    let view = hub.get(parked.run_id).await.unwrap();
    assert_eq!((view.status, view.due_at), (RunStatus::Ready, Some(world.clock.now())));
    let claims = hub.claim_states::<Value>(10).await.unwrap();
    assert_eq!(claims[0].receipt.closed, Closed::Defaulted);
}

#[tokio::test]
async fn a_state_that_was_cancelled_when_its_caller_had_died_is_given_to_nobody() {
    let world = World::new();
    for worker in [true, false] {
        let (hub, parked) = suspended_state(&world, request()).await;
        crashed(&world, &hub, &parked.key, Answer::new(yes()).by("jane")).await;
        hub.cancel(parked.run_id, Cancellation::new().by("joe").reason("no more")).await.unwrap();
        if worker {
            assert!(hub.claim_states::<Value>(10).await.unwrap().is_empty());
        } else {
            let error = refused(&hub, &parked.key, yes().into()).await;
            assert_eq!(error.kind(), ErrorKind::RunCancelled);
        }
        let view = hub.get(parked.run_id).await.unwrap();
        assert_eq!((view.status, view.driven_by), (RunStatus::Cancelled, None));
        // What closed the wait was the answer, and that is what its receipt goes on to say.
        assert_eq!(view.receipts.len(), 1);
        assert_eq!(view.receipts[0].by.as_deref(), Some("jane"));
        let ended = serde_json::to_string(&view.ended).unwrap();
        assert!(ended.contains("joe") && ended.contains("no more"), "{ended}");
    }
}

#[tokio::test]
async fn a_cancellation_takes_no_state_from_the_caller_who_has_it() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world, request()).await;
    let claim: StateClaim<Value> = hub.resume_state(&parked.key, yes()).await.unwrap();
    hub.cancel(parked.run_id, Cancellation::new()).await.unwrap();
    let error = refused(&hub, &parked.key, yes().into()).await;
    assert_eq!(error.kind(), ErrorKind::RunCancelled);
    claim.complete().await.unwrap();
    assert_eq!(hub.get(parked.run_id).await.unwrap().status, RunStatus::Completed);
}

#[tokio::test]
async fn a_completion_that_is_not_stored_is_none() {
    let world = World::new();
    let (_, parked) = suspended_state(&world, request()).await;
    let (faults, cut) = faulty(&world);
    let hub = cut.builder().max_retries(0).build().await.unwrap();
    let claim: StateClaim<Value> = hub.resume_state(&parked.key, yes()).await.unwrap();
    faults.fail_next(Operation::Update, Moment::Before);
    assert_eq!(claim.complete().await.unwrap_err().kind(), ErrorKind::StorageError);
    world.clock.advance(seconds(30));
    let again: StateClaim<Value> = hub.resume_state(&parked.key, yes()).await.unwrap();
    again.complete().await.unwrap();
}

#[tokio::test]
async fn who_has_a_state_is_told_apart_and_found() {
    let world = World::new();
    let mut holders = Vec::new();
    for _ in 0..2 {
        let (hub, parked) = suspended_state(&world, request()).await;
        let claim: StateClaim<Value> = hub.resume_state(&parked.key, yes()).await.unwrap();
        holders.push(hub.get(parked.run_id).await.unwrap().driven_by.unwrap());
        claim.complete().await.unwrap();
    }
    let process = std::process::id().to_string();
    assert!(holders.iter().all(|holder| holder.contains(&process)), "{holders:?}");
    assert_ne!(holders[0], holders[1]);
}

#[tokio::test]
async fn of_many_receipts_the_latest_are_kept_and_the_others_counted() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world, request()).await;
    let mut keys = vec![parked.key];
    for n in 0..66 {
        let claim: StateClaim<Value> = hub.resume_state(&keys[n], yes()).await.unwrap();
        keys.push(claim.suspend(&json!(n), request()).await.unwrap().key);
    }
    let view = hub.get(parked.run_id).await.unwrap();
    assert_eq!((view.receipts.len(), view.earlier_receipts), (64, 2));
    let heard = async |key| refused(&hub, key, no().into()).await.kind();
    assert_eq!(heard(&keys[1]).await, ErrorKind::SuspensionKeyNotFound);
    assert_eq!(heard(&keys[2]).await, ErrorKind::AlreadyResumed);
}

#[tokio::test]
async fn states_of_another_type_do_not_block_claims() {
    let world = World::new();
    let hub = world.hub().await;
    let a = hub.suspend(&"text", request()).await.unwrap();
    let b = hub.suspend(&7_i64, request()).await.unwrap();
    hub.answer(&a.key, yes()).await.unwrap();
    hub.answer(&b.key, yes()).await.unwrap();
    let mine = hub.claim_states::<i64>(10).await;
    assert!(mine.as_ref().is_ok_and(|c| c.len() == 1), "{mine:?}");
}

#[tokio::test]
async fn a_default_of_a_state_that_is_too_deep_to_be_accepted_is_refused_when_it_suspends() {
    let world = World::new();
    let hub = world.hub().await;
    let asked = |levels| {
        let deep = (0..levels).fold(json!(1), |inner, _| json!([inner]));
        SuspensionRequest::new("ask", Schema::any()).timeout(hours(1)).default_value(deep)
    };
    for levels in [65, 124, 127] {
        let refused = hub.suspend(&1, asked(levels)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LimitExceeded, "{levels}");
    }
    let parked = hub.suspend(&1, asked(64)).await.unwrap();
    world.clock.advance(hours(1));
    let resumed: StateClaim<i32> = hub.resume_state(&parked.key, json!(1)).await.unwrap();
    assert_eq!(resumed.state, 1);
}
