//! Versions of a flow side by side, as in a rolling deploy: what a newer one has carried over, the one
//! before leaves to it, so that no value is changed twice.

use dynamic_flow::{
    ErrorKind, Flow, RunId, RunStatus, SuspensionKey, ToolError,
    flow::RunState,
    hours,
    hub::{HubEvent, PersistenceHub},
    tool::{AwaitInput, ToolRegistry},
    wait::ContentDigest,
};
use serde_json::{Value, json};

use crate::support::{World, completed, knowing, suspended};

/// Naps, asks whether the price is right, and gives it; with a step more at the end, as each version
/// has another one.
fn version(last: &str) -> Flow {
    let flow = Flow::input::<i64>("price")
        .sleep("nap", hours(1))
        .keep(|price| price.await_input(AwaitInput::<bool>::new("right").no_timeout()))
        .map(last, |(price, _): (i64, bool)| price);
    flow.build().unwrap().erase()
}

fn print(flow: &Flow) -> ContentDigest {
    flow.fingerprint().unwrap().clone()
}

/// Changes the price wherever the run stands.
fn reckon(state: &mut RunState, change: fn(i64) -> i64) -> Result<(), ToolError> {
    let changed = |price: &mut Value| {
        *price = change(price.as_i64().expect("a price")).into();
        Ok(())
    };
    state.change_value("nap", changed)?;
    state.change_value("keep-right", changed)
}

fn in_cents(state: &mut RunState) -> Result<(), ToolError> {
    reckon(state, |euros| euros * 100)
}

/// The version that has prices in euros, and the one after it, which has them in cents.
fn versions() -> (Flow, Flow) {
    let old = version("euros");
    let new = version("cents").upgrade(print(&old), in_cents);
    (old, new)
}

/// Begins a run that naps.
async fn napping(hub: &PersistenceHub, flow: &Flow, price: i64) -> RunId {
    suspended(hub.register(flow).unwrap().run(json!(price)).await).run_id
}

/// Answers the question of a run, which ends it.
async fn priced(hub: &PersistenceHub, run: RunId) -> Value {
    let key = key_of(hub, run).await;
    completed(hub.resume(&key, json!(true)).await)
}

async fn key_of(hub: &PersistenceHub, run: RunId) -> SuspensionKey {
    let wait = hub.get(run).await.unwrap().waits[0].id.clone();
    hub.reissue(run, &wait).await.unwrap()
}

#[tokio::test]
async fn an_upgrade_is_made_once_though_workers_of_the_version_before_are_still_there() {
    let world = World::new();
    let (old, new) = versions();
    let older = knowing(&world, &old).await;
    let run = napping(&older, &old, 5).await;
    let newer = knowing(&world, &new).await;
    newer.upgrade(run, &new).await.unwrap();

    // The older worker comes by first, tells why it can't go on, and holds nobody up.
    world.clock.advance(hours(1));
    let mut events = older.events();
    let worked = older.work_once().await.unwrap();
    assert_eq!((worked.driven, worked.skipped), (0, 1));
    let told = std::iter::from_fn(|| events.try_next()).find_map(|event| match event {
        HubEvent::RunSkipped { reason, .. } => Some(reason),
        _ => None,
    });
    let told = told.unwrap();
    assert!(told.contains("past this version") && told.contains(&print(&new).0), "{told}");
    let refused = older.drive(run).await.unwrap_err();
    assert_eq!((refused.kind(), refused.run_id()), (ErrorKind::FlowIncompatible, Some(run)));
    assert_eq!(older.check(&old).await.unwrap().stranded[0].reasons, refused.reasons());

    assert_eq!(newer.work_once().await.unwrap().driven, 1);
    assert_eq!(priced(&newer, run).await, json!(500));
}

#[tokio::test]
async fn an_answer_to_a_run_that_was_carried_over_is_taken_for_whoever_can_go_on_with_it() {
    let world = World::new();
    let (old, new) = versions();
    let older = knowing(&world, &old).await;
    let run = napping(&older, &old, 5).await;
    world.clock.advance(hours(1));
    suspended(older.drive(run).await);
    let key = key_of(&older, run).await;
    let newer = knowing(&world, &new).await;
    newer.upgrade(run, &new).await.unwrap();

    let before = world.store.get(run).await.unwrap();
    let refused = older.resume(&key, json!(true)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FlowIncompatible);
    assert_eq!(world.store.get(run).await.unwrap(), before, "the question is open as it was");
    older.answer(&key, json!(true)).await.unwrap();
    assert_eq!(older.work_once().await.unwrap().skipped, 1);
    assert_eq!(older.get(run).await.unwrap().status, RunStatus::Ready);
    assert_eq!(completed(newer.drive(run).await), json!(500));
}

#[tokio::test]
async fn what_was_begun_by_the_newer_version_is_not_taken_for_a_run_of_the_older_one() {
    let world = World::new();
    let (old, new) = versions();
    let (older, newer) = (knowing(&world, &old).await, knowing(&world, &new).await);
    let run = napping(&newer, &new, 500).await;
    world.clock.advance(hours(1));
    assert_eq!(older.work_once().await.unwrap().driven, 0);
    assert_eq!(newer.work_once().await.unwrap().driven, 1);
    assert_eq!(priced(&newer, run).await, json!(500));
}

#[tokio::test]
async fn none_of_the_versions_that_are_carried_over_from_takes_what_was_carried_over_from_another()
{
    let world = World::new();
    let (first, second) = (version("euros"), version("whole-euros"));
    let newest = version("cents").upgrade(print(&first), in_cents);
    let newest = newest.upgrade(print(&second), in_cents);
    // Parked long ago, it would go on with the second version as it is.
    let run = napping(&world.hub().await, &first, 5).await;
    let (older, newer) = (knowing(&world, &second).await, knowing(&world, &newest).await);
    newer.upgrade(run, &newest).await.unwrap();
    world.clock.advance(hours(1));
    assert_eq!(older.work_once().await.unwrap().skipped, 1);
    // One between them that nothing is carried over from may go on with it; the others still may not.
    let between = knowing(&world, &version("between")).await;
    assert_eq!(between.work_once().await.unwrap().driven, 1);
    for old in [&first, &second] {
        let refused = between.check_run(run, old).await.unwrap_err();
        assert!(refused.message().contains("past this version"), "{refused}");
    }
    assert_eq!(priced(&newer, run).await, json!(500));
}

#[tokio::test]
async fn who_goes_back_on_purpose_carries_the_runs_back() {
    let world = World::new();
    let (old, new) = versions();
    let run = napping(&world.hub().await, &old, 5).await;
    let newer = knowing(&world, &new).await;
    newer.upgrade(run, &new).await.unwrap();

    // The code of the older version as it was: its runs stay parked, and `check` says so beforehand.
    let hub = world.hub().await;
    assert_eq!(hub.check(&old).await.unwrap().stranded.len(), 1);
    let refused = hub.upgrade(run, &old).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FlowIncompatible);

    let back = old.clone().upgrade(print(&new), |state| reckon(state, |cents| cents / 100));
    assert_eq!(print(&back), print(&old));
    let hub = knowing(&world, &back).await;
    assert_eq!(hub.check(&back).await.unwrap().compatible, 1);
    world.clock.advance(hours(1));
    assert_eq!(hub.work_once().await.unwrap().driven, 1);
    // Once it is back, it is a run of the older version as any other.
    assert_eq!(priced(&knowing(&world, &old).await, run).await, json!(5));
}

#[tokio::test]
async fn who_deploys_the_newer_version_again_carries_over_what_was_carried_back() {
    let world = World::new();
    let (old, new) = versions();
    let run = napping(&world.hub().await, &old, 5).await;
    let back = old.upgrade(print(&new), |state| reckon(state, |cents| cents / 100));
    let hub = world.hub().await;
    for flow in [&new, &back, &new] {
        hub.upgrade(run, flow).await.unwrap();
    }
    let newer = knowing(&world, &new).await;
    world.clock.advance(hours(1));
    suspended(newer.drive(run).await);
    assert_eq!(priced(&newer, run).await, json!(500));
}

#[tokio::test]
async fn a_failed_run_that_was_carried_over_is_not_retried_by_the_version_before() {
    let world = World::new();
    let flow = |last: &str| {
        let ask = AwaitInput::<bool>::new("right").timeout(hours(1));
        let flow = Flow::input::<i64>("price").keep(|price| price.await_input(ask));
        flow.map(last, |(price, _): (i64, bool)| price).build().unwrap().erase()
    };
    let old = flow("euros");
    let new = flow("cents").upgrade(print(&old), in_cents);
    let older = knowing(&world, &old).await;
    let run = napping(&older, &old, 5).await;
    world.clock.advance(hours(1));
    older.work_once().await.unwrap();
    let newer = knowing(&world, &new).await;
    newer.upgrade(run, &new).await.unwrap();
    assert_eq!(older.retry(run).await.unwrap_err().kind(), ErrorKind::FlowIncompatible);
    suspended(newer.retry(run).await);
    assert_eq!(priced(&newer, run).await, json!(500));
}

#[tokio::test]
async fn a_run_that_was_carried_over_to_another_document_goes_on_with_it_and_not_back() {
    let text = |unit: &str| {
        format!(
            "flow: price\nsteps:\n  - {{ id: nap, wait: 1h }}\n  - {{ id: again, wait: 1h }}\n  \
             - {{ id: tell, set: '${{ string(value) + \" {unit}\" }}' }}\n"
        )
    };
    let document = |unit| Flow::from_document(&text(unit), &ToolRegistry::new()).unwrap();
    let world = World::new();
    let (old, hub) = (document("euros"), world.hub().await);
    let run = napping(&hub, &old, 5).await;
    let new = document("cents").upgrade(print(&old), in_cents);
    hub.upgrade(run, &new).await.unwrap();
    for hour in 0..2 {
        world.clock.advance(hours(1));
        let refused = hub.upgrade(run, &old).await.unwrap_err();
        assert!(refused.message().contains("past this version"), "{hour}: {refused}");
        // Any worker goes on with the document that the run has, also one that knows the old one.
        assert_eq!(hub.work_once().await.unwrap().driven, 1);
    }
    assert_eq!(hub.get(run).await.unwrap().output, Some(json!("500 cents")));
}
