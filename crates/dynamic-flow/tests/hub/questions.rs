//! What was asked is what the run goes on with.

use dynamic_flow::{
    ErrorKind, Flow, RunId, RunStatus, Schema,
    hub::{RunOptions, SuspensionRequest},
    store::Filter,
    testkit::engine::Snapshot,
};
use serde_json::json;

use crate::support::{
    Counts, World, approval_flow, approval_flow_with, completed, order, parked, question, restate,
    suspended, yes,
};

/// Makes the open wait of a run another question, as only a bug could.
async fn ask_otherwise(world: &World, run: RunId) {
    restate(world, run, |state: &mut Snapshot| {
        state.waits[0].request.prompt = "Sell the house?".into();
    })
    .await;
}

#[tokio::test]
async fn what_was_approved_is_not_taken_for_an_approval_of_something_else() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let run = suspension.run_id;
    hub.answer(&key, yes()).await.unwrap();
    ask_otherwise(&world, run).await;
    let error = hub.drive(run).await.unwrap_err();
    assert_eq!((error.kind(), error.run_id()), (ErrorKind::CorruptState, Some(run)));
    assert!(error.message().contains("is not what the wait asks"), "{error}");
    assert_eq!(hub.get(run).await.unwrap().driven_by, None, "it is left to others at once");
    world.clock.advance(dynamic_flow::hours(1));
    let worked = hub.work_once().await.unwrap();
    assert_eq!((worked.driven, worked.skipped), (0, 1));
    assert_eq!(counts.after.get(), 0);
    let record = world.store.get(run).await.unwrap().unwrap();
    assert_eq!((record.status, record.inbox.len()), (RunStatus::Ready, 1), "nothing is lost");
}

#[tokio::test]
async fn a_state_is_not_given_with_an_answer_to_something_else() {
    let world = World::new();
    let hub = world.hub().await;
    let request = SuspensionRequest::new("ask", Schema::any()).prompt("Sell the car?");
    let suspended = hub.suspend(&1, request).await.unwrap();
    hub.answer(&suspended.key, json!(true)).await.unwrap();
    ask_otherwise(&world, suspended.run_id).await;
    let error = hub.resume_state::<i32>(&suspended.key, json!(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptState);
}

/// The approval, asked for more politely.
fn reworded(counts: &Counts) -> Flow {
    let old = approval_flow(counts).fingerprint().unwrap().clone();
    approval_flow(counts).erase().upgrade(old, |state| {
        state.change_question("keep-approval/approval", |question| {
            question.prompt = "Approve, please?".into();
            Ok(())
        })
    })
}

#[tokio::test]
async fn an_upgrade_may_ask_otherwise_and_answers_are_to_what_it_asks() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, key) = parked(&world, &counts).await;
    let new = reworded(&counts);
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    hub.upgrade(suspension.run_id, &new).await.unwrap();
    assert_eq!(hub.question(&key).await.unwrap().prompt, "Approve, please?");
    assert_eq!(completed(hub.resume(&key, yes()).await), json!("PO-17 by jane"));
    suspended(hub.register(&new).unwrap().run(json!(order())).await);
}

#[tokio::test]
async fn an_answer_that_was_accepted_before_an_upgrade_asked_otherwise_wedges_no_run() {
    let (world, counts) = (World::new(), Counts::default());
    let (old_hub, suspension, key) = parked(&world, &counts).await;
    let new = reworded(&counts);
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    old_hub.answer(&key, yes()).await.unwrap();
    let refused = hub.upgrade(suspension.run_id, &new).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FlowIncompatible);
    assert!(refused.message().contains("drive it first"), "{refused}");
    // Who drives it works the answer in, and then goes on with the upgrade.
    assert_eq!(completed(hub.drive(suspension.run_id).await), json!("PO-17 by jane"));
}

#[tokio::test]
async fn metadata_of_a_wait_hide_those_of_its_run_while_it_is_open() {
    let (world, counts) = (World::new(), Counts::default());
    let hub = world.hub().await;
    let flow = approval_flow_with(&counts, question().metadata("desk", "approvals"));
    let handle = hub.register(flow).unwrap();
    let named = RunOptions::new().metadata("desk", "orders").metadata("order", "PO-17");
    let parked = handle.run_with(order(), named).await.unwrap().suspended().unwrap();
    let found_by = async |name: &str, value: &str| {
        let metadata = [(name.to_owned(), value.into())].into();
        let page = hub.query(&Filter { metadata, ..Filter::default() }, None, 10).await.unwrap();
        page.readable().count() == 1
    };
    assert!(found_by("desk", "approvals").await && found_by("order", "PO-17").await);
    assert!(!found_by("desk", "orders").await);
    completed(hub.resume(parked.only().unwrap().key().unwrap(), yes()).await);
    assert!(found_by("desk", "orders").await && !found_by("desk", "approvals").await);
}
