//! The lower half alone: any state, for callers with an engine of their own.

use dynamic_flow::{
    Answer, ErrorKind, Schema, hours,
    hub::{StateClaim, SuspensionRequest},
    minutes,
    wait::Closed,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{World, no, yes};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Job {
    step: u32,
    note: Option<String>,
}

fn job() -> Job {
    Job { step: 3, note: Some("half way".into()) }
}

fn request() -> SuspensionRequest {
    let schema = json!({ "type": "object", "required": ["approved"] });
    SuspensionRequest::new("await-approval", Schema::new(schema).unwrap())
        .timeout(hours(24))
        .metadata("request_id", "12345")
}

#[tokio::test]
async fn a_state_comes_back_with_an_input_that_fits() {
    let world = World::new();
    let parked = world.hub().await.suspend(&job(), request()).await.unwrap();
    assert_eq!(parked.expires_at, Some(parked.suspended_at.after(hours(24))));
    let hub = world.hub().await;
    let refused = hub.resume_state::<Job>(&parked.key, json!({})).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InputValidationError);
    let claim: StateClaim<Job> = hub.resume_state(&parked.key, yes()).await.unwrap();
    assert_eq!((&claim.state, &claim.input), (&job(), &yes()));
    claim.complete().await.unwrap();
    let again = hub.resume_state::<Job>(&parked.key, yes()).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyResumed);
}

#[tokio::test]
async fn a_claim_is_given_again_after_a_crash_until_it_is_completed() {
    let world = World::new();
    let hub = world.hub().await;
    let parked = hub.suspend(&job(), request()).await.unwrap();
    let crashed: StateClaim<Job> = hub.resume_state(&parked.key, yes()).await.unwrap();
    let busy = hub.resume_state::<Job>(&parked.key, yes()).await.unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::RunBusy);
    drop(crashed);
    world.clock.advance(minutes(1));
    let other = hub.resume_state::<Job>(&parked.key, no()).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::AlreadyResumed, "one answer counts");
    let claim: StateClaim<Job> = hub.resume_state(&parked.key, yes()).await.unwrap();
    assert_eq!(claim.state, job());
    drop(claim);
    world.clock.advance(minutes(1));
    let mut claims = hub.claim_states::<Job>(10).await.unwrap();
    assert_eq!(claims.len(), 1);
    claims.remove(0).complete().await.unwrap();
    world.clock.advance(minutes(1));
    assert!(hub.claim_states::<Job>(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_claim_can_be_suspended_anew_and_released() {
    let world = World::new();
    let hub = world.hub().await;
    let first = hub.suspend(&job(), request()).await.unwrap();
    let claim: StateClaim<Job> = hub.resume_state(&first.key, yes()).await.unwrap();
    let second = claim.suspend(&Job { step: 4, note: None }, request()).await.unwrap();
    assert_eq!(second.run_id, first.run_id);
    let stale = hub.resume_state::<Job>(&first.key, yes()).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::AlreadyResumed);
    let claim: StateClaim<Job> = hub.resume_state(&second.key, yes()).await.unwrap();
    assert_eq!(claim.state.step, 4);
    claim.release().await.unwrap();
    let claims = hub.claim_states::<Job>(1).await.unwrap();
    assert_eq!(claims[0].state.step, 4);
}

#[tokio::test]
async fn after_the_deadline_the_default_is_given_or_the_state_has_expired() {
    let world = World::new();
    let hub = world.hub().await;
    let with = hub.suspend(&job(), request().default_value(no())).await.unwrap();
    let without = hub.suspend(&job(), request()).await.unwrap();
    world.clock.advance(hours(24));
    let claim: StateClaim<Job> = hub.resume_state(&with.key, yes()).await.unwrap();
    assert_eq!((&claim.input, claim.receipt.closed), (&no(), Closed::Defaulted));
    let late = hub.resume_state::<Job>(&without.key, yes()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::SuspensionExpired);
}

#[tokio::test]
async fn a_claim_whose_lease_lapsed_writes_nothing_over_the_next_one() {
    let world = World::new();
    let (slow, quick) = (world.hub().await, world.hub().await);
    let parked = slow.suspend(&job(), request()).await.unwrap();
    let old: StateClaim<Job> = slow.resume_state(&parked.key, yes()).await.unwrap();
    // Frozen, it can't renew; to the store that is the same as a lapsed lease taken by another.
    let record = world.store.get(parked.run_id).await.unwrap().unwrap();
    let lapsed = dynamic_flow::store::Change {
        lease: Some(None),
        ..dynamic_flow::store::Change::at(record.updated_at)
    };
    world.store.update(record.id, dynamic_flow::store::Expect::Any, lapsed).await.unwrap();
    let new: StateClaim<Job> = quick.resume_state(&parked.key, yes()).await.unwrap();
    assert_eq!(old.complete().await.unwrap_err().kind(), ErrorKind::RunBusy);
    new.complete().await.unwrap();
}

#[tokio::test]
async fn a_state_that_does_not_read_back_consumes_nothing() {
    let world = World::new();
    let hub = world.hub().await;
    let parked = hub.suspend(&job(), request()).await.unwrap();
    let error = hub.resume_state::<Vec<u8>>(&parked.key, yes()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SerializationError);
    let claim: StateClaim<Job> = hub.resume_state(&parked.key, Answer::new(yes())).await.unwrap();
    claim.complete().await.unwrap();
}

#[tokio::test]
async fn what_json_would_change_is_refused_when_it_is_suspended() {
    let hub = World::new().hub().await;
    let error = hub.suspend(&f64::NAN, request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SerializationError);
}
