//! What an upgrade may change of a parked run, and what becomes of the run by that.

use std::sync::{Arc, Mutex};

use dynamic_flow::{
    Error, ErrorKind, Flow, RunId, RunStatus, SuspensionKey, ToolError,
    flow::{Backoff, RunState, Var},
    hours,
    hub::PersistenceHub,
    tool::{AwaitInput, tool_fn},
    wait::Closed,
};
use serde_json::{Value, json};

use crate::support::{World, completed, suspended};

/// A run of an old flow, and a hub that has carried it over to a new one.
struct Carried {
    hub: PersistenceHub,
    run: RunId,
    key: Option<SuspensionKey>,
}

/// Runs an old flow until it parks, and moves the run to a new one.
async fn carried<O: Send + 'static>(
    world: &World,
    old: &Flow<u32, O>,
    new: Flow,
    carry: impl Fn(&mut RunState) -> Result<(), ToolError> + Send + Sync + 'static,
) -> Result<Carried, Error> {
    let before = world.hub().await;
    before.register(old)?;
    let parked = suspended(before.register(old.erase())?.run(json!(7)).await);
    let new = new.upgrade(old.fingerprint()?.clone(), carry);
    let hub = world.hub().await;
    hub.register(&new)?;
    hub.upgrade(parked.run_id, &new).await?;
    let key = parked.waits.first().and_then(|wait| wait.key.clone());
    Ok(Carried { hub, run: parked.run_id, key })
}

fn asks(question: &str) -> Flow<u32, (u32, bool)> {
    let ask = AwaitInput::<bool>::new(question);
    Flow::input::<u32>("asks").keep_as("review", |n| n.await_input_as("ask", ask)).build().unwrap()
}

#[tokio::test]
async fn a_tool_of_another_id_takes_the_place_of_the_one_that_asked() {
    let world = World::new();
    let (old, new) = (asks("approve"), asks("sign"));
    let refused = carried(&world, &old, new.erase(), |_| Ok(())).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::FlowIncompatible);

    let rename = |state: &mut RunState| state.rename_tool("review/ask", "sign");
    let Carried { hub, run, key } = carried(&world, &old, new.erase(), rename).await.unwrap();
    assert_eq!(hub.get(run).await.unwrap().waits[0].tool_id, "sign");
    let key = key.unwrap();
    assert_eq!(completed(hub.resume(&key, json!(true)).await), json!([7, true]));
    assert_eq!(hub.get(run).await.unwrap().receipts[0].tool_id, "sign");
}

#[tokio::test]
async fn a_step_that_begins_anew_asks_anew_and_may_be_of_another_kind() {
    let world = World::new();
    let new = Flow::input::<u32>("asks")
        .keep_as("vote", |n| {
            n.retry("ask", 2, Backoff::default(), |n| {
                n.await_input(AwaitInput::<String>::new("why"))
            })
        })
        .build()
        .unwrap();
    // What was said of a step before the one around it was renamed holds afterwards.
    let restart = |state: &mut RunState| {
        state.restart_step("review/ask")?;
        state.rename_step("review", "vote")
    };
    let old = asks("approve");
    let Carried { hub, run, key } = carried(&world, &old, new.erase(), restart).await.unwrap();
    let moved = hub.get(run).await.unwrap();
    assert_eq!((moved.status, moved.waits.len()), (RunStatus::Ready, 0), "it waits for a worker");
    let late = hub.resume(&key.unwrap(), json!(true)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::AlreadyResumed);
    assert_eq!(late.receipt().unwrap().closed, Closed::Superseded);
    let parked = suspended(hub.drive(run).await);
    let why = json!("it is cheap");
    assert_eq!(
        completed(hub.resume(parked.only().unwrap().key().unwrap(), why).await),
        json!([7, "it is cheap"])
    );
}

#[tokio::test]
async fn a_step_that_is_restarted_counts_its_attempts_from_the_first() {
    let world = World::new();
    let flow = |pause: &str| {
        Flow::input::<u32>("tries")
            .retry("try", 3, hours(1), |n| {
                n.sleep("nap", hours(2))
                    .tool(tool_fn("fail", async |_: u32| Err::<u32, _>(ToolError::new("down"))))
            })
            .sleep(pause, hours(1))
            .build()
            .unwrap()
    };
    let (old, new) = (flow("rest"), flow("pause"));
    let hub = world.hub().await;
    let run = suspended(hub.register(&old).unwrap().run(7).await).run_id;
    // Two attempts fail; the third one sleeps.
    for hours_later in [2, 1, 2, 1] {
        world.clock.advance(hours(hours_later));
        assert_eq!(hub.work_once().await.unwrap().driven, 1);
    }
    let new = new.erase().upgrade(old.fingerprint().unwrap().clone(), |state| {
        assert!(state.stands_in("try") && state.stands_in("try/nap"));
        assert!(!state.stands_in("tr") && !state.stands_in("nap") && !state.stands_in(""));
        state.restart_step("try")
    });
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    hub.upgrade(run, &new).await.unwrap();
    suspended(hub.drive(run).await);
    for hours_later in [2, 1, 2, 1] {
        world.clock.advance(hours(hours_later));
        assert_eq!(hub.work_once().await.unwrap().driven, 1);
        assert_eq!(hub.get(run).await.unwrap().status, RunStatus::Waiting);
    }
    world.clock.advance(hours(2));
    hub.work_once().await.unwrap();
    assert_eq!(hub.get(run).await.unwrap().status, RunStatus::Failed, "that was the third");
}

#[tokio::test]
async fn values_that_are_the_same_change_together_and_others_stay() {
    const LIMIT: Var<u32> = Var::new("limit");
    const MOST: Var<u32> = Var::new("most");
    let flow = |limit: Var<u32>| {
        Flow::input::<Value>("grows")
            .set(&limit, |_| 5)
            .keep_as("same", |n| {
                n.keep_as("other", |n| {
                    n.map("another", |n: Value| json!([n]))
                        .await_input(AwaitInput::<bool>::new("ask"))
                })
            })
            .keep(|all| all.get(&limit))
            .build()
            .unwrap()
    };
    let world = World::new();
    let old = flow(LIMIT);
    let hub = world.hub().await;
    let parked = suspended(hub.register(&old).unwrap().run(json!(7)).await);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let new = flow(MOST).erase().upgrade(old.fingerprint().unwrap().clone(), {
        let seen = seen.clone();
        move |state| {
            let look = |value: &mut Value| {
                seen.lock().unwrap().push(value.clone());
                Ok(())
            };
            let shown = format!("{state:?}");
            assert!(shown.contains("same/other/ask") && !shown.contains("value"), "{shown}");
            assert_eq!((state.run_id(), state.input()), (parked.run_id, &json!(7)));
            state.change_input(|input| {
                *input = json!("seven");
                Ok(())
            })?;
            state.change_value("same", |value| {
                *value = json!({ "n": value });
                Ok(())
            })?;
            state.change_value("same/other", look)?;
            state.change_value("same/other/ask", look)?;
            state.change_variables("same", |variables| {
                let limit = variables.remove("limit").unwrap();
                variables.insert("most".into(), limit);
                Ok(())
            })?;
            // Where it does not stand, nothing is changed, and nobody asked.
            state.change_value("nowhere", |_| panic!("it does not stand there"))?;
            state.move_to("nowhere", "elsewhere")
        }
    });
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    assert_eq!(hub.check(&new).await.unwrap().compatible, 1);
    assert_eq!(*seen.lock().unwrap(), [json!({ "n": 7 }), json!([7])]);
    let done = hub.resume(parked.only().unwrap().key().unwrap(), json!(true)).await;
    let same = json!({ "n": 7 });
    assert_eq!(completed(done), json!([[same, [same, true]], 5]));
    assert_eq!(hub.get(parked.run_id).await.unwrap().input, json!("seven"));
}

#[tokio::test]
async fn a_name_that_no_step_can_have_is_refused_and_the_run_stays() {
    let world = World::new();
    let old = asks("approve");
    type Carry = fn(&mut RunState) -> Result<(), ToolError>;
    let carries: [Carry; 4] = [
        |state| state.rename_step("review", "the/review"),
        |state| state.rename_tool("review/ask", ""),
        |state| state.move_to("review", "re view"),
        |state| state.restart_step("review/"),
    ];
    for carry in carries {
        let refused = carried(&world, &old, asks("sign").erase(), carry).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::FlowIncompatible);
        assert!(refused.message().contains("an id "), "{refused}");
        let run = world.hub().await.get(refused.run_id().unwrap()).await.unwrap();
        assert_eq!((run.status, run.waits[0].id.as_str()), (RunStatus::Waiting, "review/ask#1"));
    }
}

#[tokio::test]
async fn an_attempt_that_failed_is_not_moved_and_the_next_one_begins_with_the_new_body() {
    let world = World::new();
    let flow = |first: &str, answer: Result<u32, ()>| {
        let look = move |_: u32| async move { answer.map_err(|()| ToolError::new("down")) };
        Flow::input::<u32>("tries")
            .retry("try", 3, hours(1), |n| n.map("more", |n| n + 1).tool(tool_fn(first, look)))
            .build()
            .unwrap()
    };
    let (old, new) = (flow("price", Err(())), flow("ask-price", Ok(5)));
    let to_the_end = |state: &mut RunState| state.move_to("try/price", "ask-price");
    for carry in [to_the_end, |_: &mut RunState| Ok(())] {
        let moved = carried(&world, &old, new.erase(), carry).await.unwrap();
        world.clock.advance(hours(1));
        assert_eq!(completed(moved.hub.drive(moved.run).await), json!(5));
    }
}
