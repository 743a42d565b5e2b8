//! Upgrades that change what is asked, or what is being called: receipts tell what was asked, and no
//! call is made again as another one.

use std::sync::{Arc, Mutex};

use dynamic_flow::{
    Clock as _, ErrorKind, Flow, RunStatus, SuspensionKey, ToolError,
    flow::{FlowBuilder, RunState},
    hours,
    hub::{HubEvent, PersistenceHub},
    store::{Change, Expect, Lease},
    tool::{AwaitInput, FnTool, TypedTool},
    wait::{Closed, WaitRequest},
};
use serde_json::json;

use crate::support::{World, completed, knowing, suspended};

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
    let hub = knowing(&world, &new).await;
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
    let hub = knowing(&world, &new).await;
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
    let hub = knowing(&world, &new).await;
    let run = key.run_id();
    // In the middle of a deploy, one of the old version still holds the run: that keeps nobody off.
    let lease = Lease { owner: "old".into(), until: world.clock.now().after(hours(1)) };
    let now = world.clock.now();
    let held = Change { lease: Some(Some(lease)), ..Change::at(now) };
    world.store.update(run, Expect::Any, held).await.unwrap();
    assert_eq!(hub.question(&key).await.unwrap().prompt, "Is 20 right?");
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
    let hub = knowing(&world, &new).await;
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

type Calls = Arc<Mutex<Vec<String>>>;

/// A tool that keeps the keys with which it is called, and fails as often.
fn pay(calls: &Calls, fails: usize) -> impl TypedTool<Input = u32, Output = u32> {
    let calls = calls.clone();
    FnTool::with_context("pay", move |n: u32, context| {
        let mut calls = calls.lock().unwrap();
        calls.push(context.idempotency_key.clone());
        let fails = calls.len() <= fails;
        async move { if fails { Err(ToolError::new("no reply")) } else { Ok(n) } }
    })
}

/// A flow that pays in steps of these names, and tries it twice; `known_as` is what they were called before.
fn pays(names: [&str; 3], known_as: Option<[&str; 3]>, calls: &Calls) -> Flow<u32, u32> {
    let [outer, inner, step] = names;
    let named = |flow: FlowBuilder<u32, u32>, n: usize| match known_as {
        Some(names) => flow.keyed_as(names[n]),
        None => flow,
    };
    let pay = pay(calls, 3);
    let flow = Flow::input::<u32>("pays").retry(outer, 2, hours(1), |n| {
        let n = n.timeout(inner, hours(9), |n| named(n.tool_as(step, pay), 2));
        named(n, 1)
    });
    named(flow, 0).build().unwrap()
}

#[tokio::test]
async fn a_call_that_is_made_again_in_renamed_steps_has_the_key_that_it_had() {
    let (before, after) = (["tries", "limit", "pay"], ["attempts", "deadline", "charge"]);
    let world = World::new();
    let calls = Calls::default();
    let (old, hub) = (pays(before, None, &calls), world.hub().await);
    let run = suspended(hub.register(old.erase()).unwrap().run(json!(7)).await).run_id;
    let from = old.fingerprint().unwrap().clone();
    let rename = |state: &mut RunState| {
        state.rename_step("tries", "attempts")?;
        state.rename_step("attempts/limit", "deadline")?;
        state.rename_step("attempts/deadline/pay", "charge")
    };
    let forgetful = pays(after, None, &calls).erase().upgrade(from.clone(), rename);
    let refused = world.hub().await.check_run(run, &forgetful).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FlowIncompatible);
    assert!(refused.to_string().contains("`keyed_as: tries`"), "{refused}");

    // The first attempt has failed, the second one is that of the new version, and after that has
    // failed for good there is a third one, and a fourth.
    let new = pays(after, Some(before), &calls).erase().upgrade(from, rename);
    let hub = knowing(&world, &new).await;
    hub.upgrade(run, &new).await.unwrap();
    world.clock.advance(hours(1));
    hub.drive(run).await.unwrap_err();
    suspended(hub.retry(run).await);
    world.clock.advance(hours(1));
    assert_eq!(completed(hub.drive(run).await), json!(7));
    let calls = calls.lock().unwrap();
    assert_eq!(calls.len(), 4);
    assert!(calls.iter().all(|key| *key == calls[0]), "{calls:?}");
}

#[tokio::test]
async fn calls_get_no_other_keys_where_only_the_step_inside_is_renamed_or_one_begins_anew() {
    let (before, inside) = (["tries", "limit", "pay"], ["tries", "deadline", "pay"]);
    let world = World::new();
    let calls = Calls::default();
    let (old, hub) = (pays(before, None, &calls), world.hub().await);
    let run = suspended(hub.register(old.erase()).unwrap().run(json!(7)).await).run_id;
    type Carry = fn(&mut RunState) -> Result<(), ToolError>;
    let carries: [(Carry, &str); 2] = [
        // Within the pause of the retry.
        (|state| state.rename_step("tries/limit", "deadline"), "limit"),
        (
            |state| {
                state.rename_step("tries", "attempts")?;
                state.restart_step("attempts")
            },
            "tries",
        ),
    ];
    for (n, (carry, name)) in carries.into_iter().enumerate() {
        let names = [inside, ["attempts", "limit", "pay"]][n];
        let from = old.fingerprint().unwrap().clone();
        let forgetful = pays(names, None, &calls).erase().upgrade(from.clone(), carry);
        let refused = world.hub().await.check_run(run, &forgetful).await.unwrap_err();
        assert!(refused.to_string().contains(&format!("`keyed_as: {name}`")), "{refused}");
        let new = pays(names, Some(before), &calls).erase().upgrade(from, carry);
        world.hub().await.check_run(run, &new).await.unwrap();
    }
}

#[tokio::test]
async fn a_run_that_stands_in_a_step_of_an_earlier_name_is_told_how_it_is_carried_over() {
    let world = World::new();
    let calls = Calls::default();
    let flow = Flow::input::<u32>("pays").tool_as("pay", pay(&calls, 1)).build().unwrap();
    let failed = world.hub().await.register(&flow).unwrap().run(7).await.unwrap_err();
    let renamed = Flow::input::<u32>("pays").tool_as("charge", pay(&calls, 1)).keyed_as("pay");
    let renamed = renamed.build().unwrap();
    let refused = world.hub().await.check_run(failed.run_id().unwrap(), &renamed).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("gone") && refused.contains("`rename_step`"), "{refused}");
}

#[tokio::test]
async fn a_step_that_is_renamed_twice_is_known_by_its_first_name() {
    let world = World::new();
    let calls = Calls::default();
    let flow = |step: &str, known_as: Option<&str>| {
        let flow = Flow::input::<u32>("pays").tool_as(step, pay(&calls, 1));
        known_as.into_iter().fold(flow, FlowBuilder::keyed_as).build().unwrap().erase()
    };
    let first = flow("pay", None);
    let failed = world.hub().await.register(&first).unwrap().run(json!(7)).await.unwrap_err();
    let run = failed.run_id().unwrap();
    let from = |flow: &Flow| flow.fingerprint().unwrap().clone();
    let rename = |from, to| move |state: &mut RunState| state.rename_step(from, to);
    let second = flow("charge", Some("pay")).upgrade(from(&first), rename("pay", "charge"));
    let hub = knowing(&world, &second).await;
    hub.upgrade(run, &second).await.unwrap();
    let bill =
        |known_as| flow("bill", Some(known_as)).upgrade(from(&second), rename("charge", "bill"));
    let refused = world.hub().await.check_run(run, &bill("charge")).await.unwrap_err();
    assert!(refused.to_string().contains("`keyed_as: pay`"), "{refused}");
    let hub = world.hub().await;
    hub.register(bill("pay")).unwrap();
    assert_eq!(completed(hub.retry(run).await), json!(7));
    let calls = calls.lock().unwrap();
    assert_eq!((calls.len(), &calls[1]), (2, &calls[0]));
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
    let hub = knowing(&world, &new).await;
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
    let hub = knowing(&world, &new).await;
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
