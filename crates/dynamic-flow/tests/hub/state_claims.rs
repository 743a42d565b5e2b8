//! The lower half a third time: whom a state belongs to while others answer it, cancel it, or clean
//! it up.

use dynamic_flow::{
    Answer, Clock as _, ErrorKind, Schema,
    engine::RunStatus,
    hours,
    hub::{Cleanup, PersistenceHub, StateClaim, Suspended, SuspensionRequest},
    minutes,
    store::{Change, Expect},
    testkit::faults::Operation,
};
use serde_json::{Value, json};

use crate::support::{World, overlap, yes};

fn request() -> SuspensionRequest {
    SuspensionRequest::new("ask", Schema::new(json!({ "type": "object" })).unwrap())
        .timeout(hours(24))
}

async fn suspended_state(world: &World) -> (PersistenceHub, Suspended) {
    let hub = world.hub().await;
    let parked = hub.suspend(&json!("half way"), request()).await.unwrap();
    (hub, parked)
}

#[tokio::test]
async fn a_state_that_was_answered_while_the_expired_are_cleaned_up_stays() {
    let world = World::new();
    let (hub, parked) = suspended_state(&world).await;
    // Who cleans up is ahead of the one who answers: both are right by their own clocks.
    let early = World {
        clock: dynamic_flow::testkit::ManualClock::new(world.clock.now()),
        ..world.clone()
    };
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
        let early = World {
            clock: dynamic_flow::testkit::ManualClock::new(world.clock.now()),
            ..world.clone()
        };
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
