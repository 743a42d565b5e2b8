//! Notifiers: whom they reach, when they are asked again, and what waits for them.

use std::sync::{Arc, OnceLock};

use dynamic_flow::{
    Clock as _, ErrorKind, Result, RunStatus, ToolError, hours,
    hub::{HubEvent, Notice, Notifier, PersistenceHub},
    seconds,
    testkit::faults::{Moment, Operation},
};
use serde_json::json;

use crate::support::{
    Counter, Counts, Unplugged, World, approval_flow, completed, escalates, faulty, order,
    suspended, yes,
};

#[derive(Clone, Default)]
struct Bot {
    hub: Arc<OnceLock<PersistenceHub>>,
    accepted: Counter,
}

#[async_trait::async_trait]
impl Notifier for Bot {
    async fn notify(&self, Notice { wait, .. }: Notice) -> Result<(), ToolError> {
        if wait.tool_id.as_str() == "boss" && self.accepted.get() < 20 {
            let taken = self.hub.get().unwrap().answer(wait.key().unwrap(), json!(true)).await;
            assert!(taken.is_ok(), "{taken:?}");
            self.accepted.add();
        }
        Ok(())
    }
}

#[tokio::test]
async fn an_escalation_can_be_answered_while_it_is_being_notified() {
    let world = World::new();
    let bot = Bot::default();
    bot.hub.set(world.hub().await).ok();
    let hub = world.builder().notifier(bot.clone()).build().await.unwrap();
    let s = suspended(hub.register(escalates()).unwrap().run(order()).await);
    world.clock.advance(hours(2));
    hub.work_once().await.unwrap();
    let view = hub.get(s.run_id).await.unwrap();
    assert_eq!((bot.accepted.get(), view.status), (1, RunStatus::Completed), "{:?}", view.receipts);
}

#[tokio::test]
async fn a_notifier_that_is_down_is_asked_at_ever_longer_intervals() {
    let (world, counts) = (World::new(), Counts::default());
    let hub = world.builder().notifier(Unplugged).build().await.unwrap();
    let run = suspended(hub.register(approval_flow(&counts)).unwrap().run(order()).await).run_id;
    for pause in [2, 4, 8, 16] {
        let due = hub.get(run).await.unwrap().due_at;
        assert_eq!(due, Some(world.clock.now().after(seconds(pause))));
        world.clock.advance(seconds(pause));
        assert_eq!(hub.work_once().await.unwrap().driven, 1);
    }
}

struct Panicking;

#[async_trait::async_trait]
impl Notifier for Panicking {
    async fn notify(&self, _: Notice) -> Result<(), ToolError> {
        panic!("no mail server")
    }
}

#[tokio::test]
async fn a_notifier_that_panics_has_failed_and_the_run_is_parked() {
    let (world, counts) = (World::new(), Counts::default());
    let hub = world.builder().notifier(Panicking).build().await.unwrap();
    let s = suspended(hub.register(approval_flow(&counts)).unwrap().run(order()).await);
    let view = hub.get(s.run_id).await.unwrap();
    assert_eq!((view.status, view.driven_by), (RunStatus::Waiting, None));
    assert_eq!(view.due_at, Some(world.clock.now().after(seconds(2))), "it is asked again");
    completed(hub.resume(s.only().unwrap().key().unwrap(), yes()).await);
}

#[tokio::test]
async fn a_notifier_that_is_down_does_not_fill_the_state_with_keys() {
    let (world, counts) = (World::new(), Counts::default());
    let hub = world.builder().notifier(Unplugged).build().await.unwrap();
    let s = suspended(hub.register(approval_flow(&counts)).unwrap().run(order()).await);
    for _ in 0..60 {
        world.clock.advance(seconds(1));
        hub.work_once().await.unwrap();
    }
    let keys = world.store.get(s.run_id).await.unwrap().unwrap().waits[0].keys.len();
    assert!(keys <= 16, "{keys} keys after a minute");
}

#[tokio::test]
async fn a_worker_without_a_notifier_leaves_a_wait_to_one_that_has_one_and_is_not_kept_busy() {
    let (world, counts) = (World::new(), Counts::default());
    let hub = world.builder().notifier(Unplugged).build().await.unwrap();
    let run = suspended(hub.register(approval_flow(&counts)).unwrap().run(order()).await).run_id;
    world.clock.advance(seconds(2));
    let without = world.hub().await;
    without.register(approval_flow(&counts)).unwrap();
    assert_eq!(without.work_once().await.unwrap().driven, 1);
    let again = world.clock.now().after(seconds(2048));
    assert_eq!(without.get(run).await.unwrap().due_at, Some(again), "long before the deadline");
    world.clock.advance(seconds(2048));
    assert_eq!(hub.work_once().await.unwrap().driven, 1);
    assert_eq!(hub.get(run).await.unwrap().due_at, Some(again.after(seconds(4))));
}

#[tokio::test]
async fn a_key_that_is_for_the_notifier_alone_is_given_to_nobody_else() {
    let (world, counts) = (World::new(), Counts::default());
    let hub = world.builder().notifier(Unplugged).build().await.unwrap();
    let run = suspended(hub.register(approval_flow(&counts)).unwrap().run(order()).await).run_id;
    world.clock.advance(seconds(2));
    // Not the call that opened the wait: its key would give way to those of later tries.
    let suspension = suspended(hub.drive(run).await);
    assert!(suspension.only().unwrap().key.is_none());
    assert_eq!(hub.get(run).await.unwrap().due_at, Some(world.clock.now().after(seconds(4))));
}

#[tokio::test]
async fn who_watches_hears_of_a_wait_before_somebody_is_notified_and_whatever_becomes_of_that() {
    let (world, counts) = (World::new(), Counts::default());
    let (faults, cut) = faulty(&world);
    let hub = cut.builder().notifier(Bot::default()).max_retries(0).build().await.unwrap();
    let mut events = hub.events();
    // That somebody was notified could not be written down.
    faults.fail(Operation::Update, 1, Moment::Before);
    let error = hub.register(approval_flow(&counts)).unwrap().run(order()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageError);
    let told: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
    let opened = |event: &HubEvent| matches!(event, HubEvent::WaitOpened { .. });
    assert_eq!(told.iter().filter(|it| opened(it)).count(), 1, "{told:?}");
}
