//! Keys that were added to a wait: what they are good for, and for how long.

use dynamic_flow::{
    Answer, Clock as _, ErrorKind, RunId, SuspensionKey, WaitId, hours,
    hub::{HubEvent, PersistenceHub},
    minutes,
    testkit::{
        ManualClock,
        faults::{Moment, Operation},
    },
    wait::Closed,
};

use serde_json::json;

use crate::support::{
    Counts, Unplugged, World, approval_flow, completed, escalates, faulty, order, parked,
    suspended, yes,
};

async fn reissued(hub: &PersistenceHub, run: RunId) -> (WaitId, SuspensionKey) {
    let wait = hub.get(run).await.unwrap().waits[0].id.clone();
    let key = hub.reissue(run, &wait).await.unwrap();
    (wait, key)
}

#[tokio::test]
async fn keys_that_were_reissued_outlast_a_notifier_that_is_down() {
    let (world, counts) = (World::new(), Counts::default());
    let hub = world.builder().notifier(Unplugged).build().await.unwrap();
    let run = suspended(hub.register(approval_flow(&counts)).unwrap().run(order()).await).run_id;
    let (_, early) = reissued(&hub, run).await;
    let mut late = None;
    for round in 0..30 {
        world.clock.advance(minutes(6));
        hub.work_once().await.unwrap();
        if round == 3 {
            late = Some(reissued(&hub, run).await.1);
        }
    }
    for key in [&early, late.as_ref().unwrap()] {
        assert!(hub.question(key).await.is_ok());
    }
    // Those that the notifier did not pass on have given way to one another.
    assert_eq!(world.store.get(run).await.unwrap().unwrap().waits[0].keys.len(), 10);
}

#[tokio::test]
async fn after_the_deadline_no_key_is_added() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, first) = parked(&world, &counts).await;
    let (wait, added) = reissued(&hub, suspension.run_id).await;
    world.clock.advance(hours(4));
    // No worker has done yet what the deadline does.
    let late = hub.reissue(suspension.run_id, &wait).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::SuspensionExpired);
    hub.work_once().await.unwrap();
    for key in [&added, &first] {
        assert_eq!(hub.resume(key, yes()).await.unwrap_err().kind(), ErrorKind::SuspensionExpired);
    }
}

#[tokio::test]
async fn a_key_that_was_added_while_the_deadline_was_at_work_is_told_of_it() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, _) = parked(&world, &counts).await;
    let behind = World { clock: ManualClock::new(world.clock.now()), ..world.clone() };
    let (faults, slow) = faulty(&world);
    let slow = slow.hub().await;
    slow.register(approval_flow(&counts)).unwrap();
    world.clock.advance(hours(4));
    // The deadline is worked in, and before that is committed a process that is behind adds a key.
    let commit = faults.pause(Operation::Update, 1, Moment::Before);
    let working = tokio::spawn({
        let slow = slow.clone();
        async move { slow.work_once().await }
    });
    commit.reached().await;
    let (_, added) = reissued(&behind.hub().await, suspension.run_id).await;
    commit.release();
    working.await.unwrap().unwrap();
    let late = slow.resume(&added, yes()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::SuspensionExpired);
    assert_eq!(late.receipt().unwrap().closed, Closed::TimedOut);
}

#[tokio::test]
async fn of_a_deadline_that_did_not_happen_nobody_is_told() {
    let world = World::new();
    let suspension = suspended(world.hub().await.register(escalates()).unwrap().run(order()).await);
    let behind = World { clock: ManualClock::new(world.clock.now()), ..world.clone() };
    let (faults, slow) = faulty(&world);
    let slow = slow.hub().await;
    slow.register(escalates()).unwrap();
    let mut events = slow.events();
    world.clock.advance(hours(1));
    // The deadline has made the flow ask the boss, and before that is committed a process that is
    // behind accepts an answer to the first question.
    let commit = faults.pause(Operation::Update, 1, Moment::Before);
    let working = tokio::spawn({
        let slow = slow.clone();
        async move { slow.work_once().await }
    });
    commit.reached().await;
    let key = suspension.only().unwrap().key().unwrap();
    behind.hub().await.answer(key, json!(true)).await.unwrap();
    commit.release();
    working.await.unwrap().unwrap();
    assert_eq!(slow.get(suspension.run_id).await.unwrap().output, Some(json!(true)));
    let told: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
    let undone = |event: &HubEvent| {
        matches!(event, HubEvent::StepFailed { .. } | HubEvent::WaitOpened { .. })
    };
    assert!(!told.iter().any(undone), "{told:?}");
}

#[tokio::test]
async fn a_reissued_key_is_recognised_after_its_answer() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, _) = parked(&world, &counts).await;
    let key = hub.reissue(suspension.run_id, &suspension.waits[0].id).await.unwrap();
    let answer = Answer::new(yes()).request_id("r");
    completed(hub.resume(&key, answer.clone()).await);
    let again = hub.answer(&key, answer).await;
    assert!(again.as_ref().is_ok_and(|a| a.repeated), "{again:?}");
}
