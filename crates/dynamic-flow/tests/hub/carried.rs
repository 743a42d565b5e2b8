//! Upgrades beside what is asked and answered: what was accepted counts, and nothing is undone.

use dynamic_flow::{
    Cancellation, ErrorKind, Flow, RunStatus, Schema,
    testkit::faults::{Moment, Operation},
    tool::{AwaitInput, ToolRegistry},
};
use serde_json::json;

use crate::support::{Order, World, completed, faulty, order, suspended};

const TWICE: &str = "
flow: greet
steps:
  - id: ask
    await_input: { preset: text, prompt: Name? }
  - id: again
    await_input: { preset: text, prompt: Really? }
  - id: greet
    set: 'Hello {{ value.text }}'
";

fn document(text: &str) -> Flow {
    Flow::from_document(text, &ToolRegistry::new()).unwrap()
}

fn longer() -> Flow {
    document(&format!("{TWICE}  - id: shout\n    set: '{{{{ value | upper }}}}'\n"))
}

#[tokio::test]
async fn an_upgrade_between_a_commit_that_seemed_to_fail_and_its_next_try_stays() {
    let world = World::new();
    let hub = world.hub().await;
    let suspension = suspended(hub.register(document(TWICE)).unwrap().run(json!(null)).await);
    let (run, key) = (suspension.run_id, suspension.only().unwrap().key().unwrap().clone());
    let (faults, slow) = faulty(&world);
    let slow = slow.hub().await;
    // The first write accepts, the second one parks the run; its holder does not hear of it.
    faults.fail(Operation::Update, 2, Moment::After);
    let third = faults.pause(Operation::Update, 3, Moment::Before);
    let resumed = tokio::spawn(async move { slow.resume(&key, json!({ "text": "Ada" })).await });
    third.reached().await;
    hub.upgrade(run, &longer()).await.unwrap();
    third.release();
    let told = resumed.await.unwrap().unwrap_err();
    assert_eq!((told.kind(), told.is_answer_accepted()), (ErrorKind::RunBusy, true));
    let document = hub.get(run).await.unwrap().document.unwrap();
    assert!(document.contains("shout"), "the upgrade was undone");
}

#[tokio::test]
async fn an_answer_between_a_commit_that_seemed_to_fail_and_its_next_try_is_not_lost() {
    let world = World::new();
    let hub = world.hub().await;
    let suspension = suspended(hub.register(document(TWICE)).unwrap().run(json!(null)).await);
    let run = suspension.run_id;
    let first = hub.reissue(run, &suspension.only().unwrap().id).await.unwrap();
    let (faults, slow) = faulty(&world);
    let slow = slow.hub().await;
    faults.fail(Operation::Update, 2, Moment::After);
    let third = faults.pause(Operation::Update, 3, Moment::Before);
    let resumed = tokio::spawn(async move { slow.resume(&first, json!({ "text": "Ada" })).await });
    third.reached().await;
    let wait = hub.get(run).await.unwrap().waits[0].id.clone();
    let second = hub.reissue(run, &wait).await.unwrap();
    hub.answer(&second, json!({ "text": "Bob" })).await.unwrap();
    hub.upgrade(run, &longer()).await.unwrap();
    third.release();
    let told = resumed.await.unwrap().unwrap_err();
    assert_eq!((told.kind(), told.is_answer_accepted()), (ErrorKind::RunBusy, true));
    let view = hub.get(run).await.unwrap();
    let answered = view.receipts.len() + view.accepted.len();
    assert_eq!(answered, 2, "the second answer is gone: {:?}", view.status);
}

#[tokio::test]
async fn an_upgrade_of_a_run_that_has_ended_is_not_told_to_come_again() {
    let world = World::new();
    let hub = world.hub().await;
    let suspension = suspended(hub.register(document(TWICE)).unwrap().run(json!(null)).await);
    hub.cancel(suspension.run_id, Cancellation::new()).await.unwrap();
    let refused = hub.upgrade(suspension.run_id, &longer()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidState, "{refused}");
}

/// A flow that asks for yes or no, and one that asks for a word in its place.
fn other_answers() -> (Flow<Order, String>, Flow<Order, String>) {
    let old = Flow::input::<Order>("asks")
        .await_input(AwaitInput::<bool>::new("ask"))
        .map("say", |yes: bool| format!("{yes}"))
        .build()
        .unwrap();
    let new = Flow::input::<Order>("asks")
        .await_input(AwaitInput::<String>::new("ask"))
        .map("say", |word: String| word)
        .build()
        .unwrap()
        .upgrade(old.fingerprint().unwrap().clone(), |state| {
            state.change_question("ask", |question| {
                question.schema = Schema::new(json!({ "type": "string" }))?;
                Ok(())
            })
        });
    (old, new)
}

#[tokio::test]
async fn an_answer_is_held_against_what_an_upgrade_asks_before_it_is_consumed() {
    let world = World::new();
    let (old, new) = other_answers();
    let suspension = suspended(world.hub().await.register(&old).unwrap().run(order()).await);
    let key = suspension.only().unwrap().key().unwrap();
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    let refused = hub.resume(key, json!(true)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InputValidationError, "{refused:?}");
    assert_eq!(completed(hub.resume(key, json!("word")).await), json!("word"));
}

#[tokio::test]
async fn an_answer_that_an_upgrade_can_not_use_is_not_consumed_by_it() {
    let world = World::new();
    let (old, new) = other_answers();
    let suspension = suspended(world.hub().await.register(&old).unwrap().run(order()).await);
    let run = suspension.run_id;
    world.hub().await.answer(suspension.only().unwrap().key().unwrap(), json!(true)).await.unwrap();
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    hub.work_once().await.unwrap();
    let view = hub.get(run).await.unwrap();
    assert_eq!(view.status, RunStatus::Ready, "{:?}", view.ended);
}

#[tokio::test]
async fn an_answer_that_only_a_newer_flow_can_use_is_left_to_it() {
    let world = World::new();
    let (old, new) = other_answers();
    let earlier = world.hub().await;
    let suspension = suspended(earlier.register(&old).unwrap().run(order()).await);
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    hub.answer(suspension.only().unwrap().key().unwrap(), json!("word")).await.unwrap();
    // In the middle of a deploy, a worker of the earlier version comes by first.
    assert_eq!(earlier.work_once().await.unwrap().skipped, 1);
    assert_eq!(hub.get(suspension.run_id).await.unwrap().status, RunStatus::Ready);
    assert_eq!(completed(hub.drive(suspension.run_id).await), json!("word"));
}
