//! Keys that were added to a wait: what they are good for, and for how long.

use dynamic_flow::{
    Answer, Clock as _, ErrorKind, RunId, SuspensionKey, WaitId, hours,
    hub::PersistenceHub,
    minutes, seconds,
    testkit::{
        ManualClock,
        faults::{Moment, Operation},
    },
    wait::Closed,
};
use serde_json::json;

use crate::support::{
    Counts, Unplugged, World, approval_flow, completed, faulty, order, parked, suspended, yes,
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
