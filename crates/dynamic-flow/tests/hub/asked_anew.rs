//! Upgrades that change what is asked, or what is being called: receipts tell what was asked, and no
//! call is made again as another one.

use std::sync::{Arc, Mutex};

use dynamic_flow::{
    Clock as _, ErrorKind, Flow, RunStatus, SuspensionKey, ToolError,
    flow::RunState,
    hours,
    hub::{HubEvent, PersistenceHub},
    store::{Change, Expect, Lease},
    tool::{AwaitInput, FnTool},
    wait::{Closed, WaitRequest},
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
async fn who_looks_at_a_question_sees_what_the_run_goes_on_with_and_so_does_everybody() {
    let world = World::new();
    let (old_hub, key, old) = parked(&world).await;
    assert_eq!(old_hub.question(&key).await.unwrap().prompt, "Is 20 right?");
    let new = later(&old, in_other_words);
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    let run = key.run_id();
    assert_eq!(hub.get(run).await.unwrap().waits[0].prompt, "Is 20 right?");
    for hub in [&hub, &old_hub, &hub] {
        assert_eq!(hub.question(&key).await.unwrap().prompt, "Is 2,000 right?");
        assert_eq!(hub.get(run).await.unwrap().waits[0].prompt, "Is 2,000 right?");
    }
    let accepted = hub.answer(&key, json!(true)).await.unwrap();
    assert_eq!(completed(hub.drive(run).await), true);
    assert_eq!(hub.get(run).await.unwrap().receipts, [accepted.receipt]);
}

/// Somebody answers from a notice that they got before the deploy.
#[tokio::test]
async fn an_answer_to_what_was_asked_before_is_not_taken_for_one_to_what_is_asked_now() {
    let world = World::new();
    let (old_hub, key, old) = parked(&world).await;
    let new = later(&old, in_other_words);
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    let run = key.run_id();
    // In the middle of a deploy, one of the old version still holds the run: that keeps nobody off.
    let lease = Lease { owner: "old".into(), until: world.clock.now().after(hours(1)) };
    let now = world.clock.now();
    let held = Change { lease: Some(Some(lease)), ..Change::at(now) };
    world.store.update(run, Expect::Any, held).await.unwrap();
    let busy = hub.question(&key).await.unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::RunBusy, "{busy}");
    let accepted = hub.answer(&key, json!(true)).await.unwrap();
    let view = old_hub.get(run).await.unwrap();
    assert_eq!(view.accepted, std::slice::from_ref(&accepted.receipt));
    let let_go = Change { lease: Some(None), due_at: Some(Some(now)), ..Change::at(now) };
    let let_go = Change { status: Some(RunStatus::Ready), ..let_go };
    world.store.update(run, Expect::Any, let_go).await.unwrap();
    assert_eq!(completed(hub.drive(run).await), true);
    assert_eq!(hub.get(run).await.unwrap().receipts, [accepted.receipt]);
}

#[tokio::test]
async fn a_receipt_names_the_tool_that_asked_though_it_has_another_name_by_now() {
    let world = World::new();
    let (old_hub, key, old) = parked(&world).await;
    let accepted = old_hub.answer(&key, json!(true)).await.unwrap();
    let ask = AwaitInput::<bool>::new("sign").prompt("Is 20 right?");
    let new = Flow::input::<u32>("asks").await_input_as("ask", ask).build().unwrap().erase();
    let new = new.upgrade(old.fingerprint().unwrap().clone(), |s| s.rename_tool("ask", "sign"));
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    assert_eq!(completed(hub.drive(key.run_id()).await), true);
    assert_eq!(hub.get(key.run_id()).await.unwrap().receipts, [accepted.receipt]);
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

/// A flow that pays within a step of that name, and says with which keys.
fn pays(step: &str, paid: &Arc<Mutex<Vec<String>>>) -> Flow<u32, u32> {
    let paid = paid.clone();
    let pay = FnTool::with_context("pay", move |_: u32, context| {
        paid.lock().unwrap().push(context.idempotency_key.clone());
        async { Err::<u32, _>(ToolError::new("no reply")) }
    });
    Flow::input::<u32>("pays")
        .keep_as("before", |n| n.map("check", |n| n))
        .map("first", |(n, _): (u32, u32)| n)
        .retry(step, 2, hours(1), |n| n.keep_as("inner", |n| n.tool(pay)).map("last", |(n, _)| n))
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_call_that_is_made_again_in_a_renamed_step_has_the_key_that_it_had() {
    let world = World::new();
    let paid = Arc::default();
    let (old, new) = (pays("pays", &paid), pays("charges", &paid));
    let rename = |state: &mut RunState| state.rename_step("pays", "charges");
    let new = new.erase().upgrade(old.fingerprint().unwrap().clone(), rename);
    let hub = world.hub().await;
    let run = suspended(hub.register(old.erase()).unwrap().run(json!(7)).await).run_id;
    // The first attempt has failed, and the second one is that of the new version; the third is after it
    // has failed for good.
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    hub.upgrade(run, &new).await.unwrap();
    world.clock.advance(hours(1));
    let driven = hub.drive(run).await;
    assert_eq!(paid.lock().unwrap().len(), 2, "{driven:?}");
    driven.unwrap_err();
    suspended(hub.retry(run).await);
    let paid = paid.lock().unwrap();
    assert_eq!(paid.len(), 3);
    assert!(paid.iter().all(|key| *key == paid[0]), "{paid:?}");
}

#[tokio::test]
async fn what_comes_after_a_renamed_step_has_keys_of_its_own() {
    let world = World::new();
    let called = Arc::new(Mutex::new(Vec::new()));
    let tool = |id: &str| {
        let called = called.clone();
        FnTool::with_context(id, move |n: u32, context| {
            let mut called = called.lock().unwrap();
            called.push(context.idempotency_key.clone());
            let is_first = called.len() == 1;
            async move { if is_first { Err(ToolError::new("no reply")) } else { Ok(n) } }
        })
    };
    let flow = |step: &str| {
        let flow =
            Flow::input::<u32>("pays").tool_as(step, tool("pay")).tool_as("tips", tool("tip"));
        flow.build().unwrap()
    };
    let (old, new) = (flow("pays"), flow("charges"));
    let hub = world.hub().await;
    let failed = hub.register(old.erase()).unwrap().run(json!(7)).await.unwrap_err();
    let rename = |state: &mut RunState| state.rename_step("pays", "charges");
    let new = new.erase().upgrade(old.fingerprint().unwrap().clone(), rename);
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    assert_eq!(completed(hub.retry(failed.run_id().unwrap()).await), json!(7));
    let called = called.lock().unwrap();
    assert_eq!((called.len(), &called[1]), (3, &called[0]));
    assert_ne!(called[2], called[1]);
}

#[tokio::test]
async fn a_step_does_not_get_the_keys_of_one_that_had_its_name() {
    let world = World::new();
    let paid = Arc::default();
    let old = pays("pays", &paid);
    let hub = world.hub().await;
    let run = suspended(hub.register(old.erase()).unwrap().run(json!(7)).await).run_id;
    let pay_twice = |second: &str| {
        Flow::input::<u32>("pays")
            .keep_as("before", |n| n.map("check", |n| n))
            .map("first", |(n, _): (u32, u32)| n)
            .retry("charges", 2, hours(1), |n| {
                n.keep_as("inner", |n| n.map("pay", |n| n)).map("last", |(n, _)| n)
            })
            .map(second, |n: u32| n)
            .build()
            .unwrap()
            .erase()
            .upgrade(old.fingerprint().unwrap().clone(), |s| s.rename_step("pays", "charges"))
    };
    let refused = world.hub().await.check_run(run, &pay_twice("pays")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FlowIncompatible);
    assert!(refused.to_string().contains("same idempotency keys"), "{refused}");
    world.hub().await.check_run(run, &pay_twice("tips")).await.unwrap();
}

#[tokio::test]
async fn a_question_that_nobody_answered_in_time_is_renamed_and_asked_again() {
    let world = World::new();
    let flow = |step: &str| {
        let ask = AwaitInput::<bool>::new("ask").timeout(hours(1));
        Flow::input::<u32>("asks").await_input_as(step, ask).build().unwrap()
    };
    let (old, new) = (flow("ask"), flow("approve"));
    let hub = world.hub().await;
    let run = suspended(hub.register(old.erase()).unwrap().run(json!(7)).await).run_id;
    world.clock.advance(hours(1));
    hub.work_once().await.unwrap();
    assert_eq!(hub.get(run).await.unwrap().status, RunStatus::Expired);
    let rename = |state: &mut RunState| state.rename_step("ask", "approve");
    let new = new.erase().upgrade(old.fingerprint().unwrap().clone(), rename);
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    let asked = suspended(hub.retry(run).await);
    let key = asked.only().unwrap().key().unwrap();
    assert_eq!(completed(hub.resume(key, json!(true)).await), true);
}

#[tokio::test]
async fn who_was_given_a_key_later_hears_as_well_that_a_question_is_not_asked_any_more() {
    let world = World::new();
    let (hub, key, old) = parked(&world).await;
    let run = key.run_id();
    let wait = hub.get(run).await.unwrap().waits[0].id.clone();
    let later_key = hub.reissue(run, &wait).await.unwrap();
    let new = later(&old, |state| state.restart_step("ask"));
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    let mut events = hub.events();
    hub.upgrade(run, &new).await.unwrap();
    let Some(HubEvent::WaitClosed { receipt, .. }) = events.next().await else {
        panic!("nobody was told that the question is not asked any more");
    };
    assert_eq!(hub.get(run).await.unwrap().receipts, [receipt]);
    let hears = async |key| hub.question(key).await.unwrap_err().receipt().map(|it| it.closed);
    for key in [&key, &later_key] {
        assert_eq!(hears(key).await, Some(Closed::Superseded), "before it is driven");
    }
    suspended(hub.drive(run).await);
    for key in [&key, &later_key] {
        assert_eq!(hears(key).await, Some(Closed::Superseded), "and after");
    }
}

#[tokio::test]
async fn variables_that_no_state_may_hold_are_refused_before_anything_is_accepted() {
    let world = World::new();
    let (hub, key, old) = parked(&world).await;
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let new = later(&old, move |state| {
        state.change_variables("ask", |variables| {
            variables.insert("deep".into(), deep.clone().into());
            Ok(())
        })
    });
    let refused = hub.check_run(key.run_id(), &new).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FlowIncompatible, "{refused}");
}
