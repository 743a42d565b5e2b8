//! Upgrades that change what is asked, or what is being called: receipts tell what was asked, and no
//! call is made again as another one.

use dynamic_flow::{
    ErrorKind, Flow, SuspensionKey, ToolError,
    flow::RunState,
    hub::PersistenceHub,
    tool::{AwaitInput, tool_fn},
    wait::WaitRequest,
};
use serde_json::json;

use crate::support::{World, completed, suspended};

/// A run that asks, of a version without `after`, and a hub of that version.
async fn parked(world: &World) -> (PersistenceHub, SuspensionKey, Flow<u32, bool>) {
    let flow = asks().build().unwrap();
    let hub = world.hub().await;
    let parked = suspended(hub.register(flow.erase()).unwrap().run(json!(7)).await);
    let key = parked.only().unwrap().key().unwrap().clone();
    (hub, key, flow)
}

fn asks() -> dynamic_flow::flow::FlowBuilder<u32, bool> {
    Flow::input::<u32>("asks").await_input(AwaitInput::<bool>::new("ask").prompt("Is 20 right?"))
}

/// A later version, to which that carries runs over.
fn later(
    old: &Flow<u32, bool>,
    carry: impl Fn(&mut RunState) -> Result<(), ToolError> + Send + Sync + 'static,
) -> Flow {
    let flow = asks().map("after", |yes| yes).build().unwrap();
    flow.erase().upgrade(old.fingerprint().unwrap().clone(), carry)
}

fn in_other_words(state: &mut RunState) -> Result<(), ToolError> {
    state.change_question("ask", |question| {
        question.prompt = "Is 2,000 right?".into();
        Ok(())
    })
}

#[tokio::test]
async fn a_receipt_says_what_was_asked_when_it_was_answered() {
    let world = World::new();
    let (old_hub, key, old) = parked(&world).await;
    let accepted = old_hub.answer(&key, json!(true)).await.unwrap();
    let new = later(&old, in_other_words);
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    assert_eq!(hub.check(&new).await.unwrap().compatible, 1);
    assert_eq!(completed(hub.drive(accepted.run_id).await), true);
    assert_eq!(hub.get(accepted.run_id).await.unwrap().receipts, [accepted.receipt]);
}

#[tokio::test]
async fn who_answers_is_asked_what_the_run_goes_on_with() {
    let world = World::new();
    let (old_hub, key, old) = parked(&world).await;
    assert_eq!(old_hub.question(&key).await.unwrap().prompt, "Is 20 right?");
    let new = later(&old, in_other_words);
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    assert_eq!(hub.question(&key).await.unwrap().prompt, "Is 2,000 right?");
    let accepted = hub.answer(&key, json!(true)).await.unwrap();
    let run = accepted.run_id;
    assert_eq!(completed(hub.drive(run).await), true);
    assert_eq!(hub.get(run).await.unwrap().receipts, [accepted.receipt]);
}

#[tokio::test]
async fn a_question_that_could_not_be_asked_is_refused() {
    let world = World::new();
    let (_, _, old) = parked(&world).await;
    let changes: [fn(&mut WaitRequest); 2] = [
        |question| question.default = Some(json!("perhaps")),
        |question| drop(question.metadata.insert("x".repeat(129), true.into())),
    ];
    for change in changes {
        let new = later(&old, move |state| {
            state.change_question("ask", |question| {
                change(question);
                Ok(())
            })
        });
        let report = world.hub().await.check(&new).await.unwrap();
        assert!(report.stranded[0].reasons[0].contains("carry the run over"), "{report:?}");
    }
}

#[tokio::test]
async fn a_call_is_not_made_again_under_another_name() {
    let world = World::new();
    let flow = |step: &str| {
        let pays = tool_fn("pay", |_: u32| async { Err::<u32, _>(ToolError::new("no reply")) });
        Flow::input::<u32>("pays").keep_as(step, |n| n.tool(pays)).build().unwrap()
    };
    let (old, hub) = (flow("pays"), world.hub().await);
    let failed = hub.register(old.erase()).unwrap().run(json!(7)).await.unwrap_err();
    let run = failed.run_id().unwrap();
    let renamed = flow("charges")
        .erase()
        .upgrade(old.fingerprint().unwrap().clone(), |state| state.rename_step("pays", "charges"));
    let refused = world.hub().await.check_run(run, &renamed).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FlowIncompatible);
    assert!(refused.to_string().contains("another idempotency key"), "{refused}");
}
