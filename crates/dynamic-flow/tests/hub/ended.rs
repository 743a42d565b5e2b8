//! Waiting for the end of a run.

use std::time::Duration;

use dynamic_flow::{
    Cancellation, ErrorKind, RunId, RunStatus, hours,
    hub::{Cleanup, PersistenceHub, RunView},
    minutes, seconds, store,
    testkit::faults::Operation,
};
use futures::FutureExt as _;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::{Counts, World, faulty, parked, yes};

/// Waits on a task of its own; gives it once it has looked, and waits.
async fn waiting(
    world: &World,
    run: RunId,
) -> (PersistenceHub, JoinHandle<dynamic_flow::Result<RunView>>) {
    let (faults, watched) = faulty(world);
    let hub = watched.hub().await;
    let task = tokio::spawn({
        let hub = hub.clone();
        async move { hub.ended(run).await }
    });
    while faults.calls(Operation::Get) == 0 {
        tokio::task::yield_now().await;
    }
    (hub, task)
}

#[tokio::test]
async fn who_waits_hears_of_the_end_that_another_hub_brought_about() {
    let world = World::new();
    let (hub, suspension, key) = parked(&world, &Counts::default()).await;
    let (_elsewhere, ended) = waiting(&world, suspension.run_id).await;
    hub.resume(&key, yes()).await.unwrap();
    // The clock stands still: the store has told of it.
    let view = ended.await.unwrap().unwrap();
    assert_eq!((view.status, view.output), (RunStatus::Completed, Some(json!("PO-17 by jane"))));
    // It has ended for whoever asks later, too.
    let again = world.hub().await.ended(suspension.run_id).await.unwrap();
    assert_eq!(again.status, RunStatus::Completed);
}

#[tokio::test]
async fn every_end_is_one_and_a_run_that_is_parked_has_none() {
    let world = World::new();
    let (hub, suspension, _) = parked(&world, &Counts::default()).await;
    assert!(hub.ended(suspension.run_id).now_or_never().is_none());
    let (_elsewhere, ended) = waiting(&world, suspension.run_id).await;
    hub.cancel(suspension.run_id, Cancellation::new()).await.unwrap();
    assert_eq!(ended.await.unwrap().unwrap().status, RunStatus::Cancelled);

    let (hub, suspension, _) = parked(&world, &Counts::default()).await;
    let (_elsewhere, ended) = waiting(&world, suspension.run_id).await;
    world.clock.advance(hours(4));
    hub.work_once().await.unwrap();
    assert_eq!(ended.await.unwrap().unwrap().status, RunStatus::Expired);
}

#[tokio::test]
async fn without_hints_it_looks_from_time_to_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = store::open(&format!("file:{}", folder.path().display())).unwrap();
    let world = World::over(store);
    let (hub, suspension, key) = parked(&world, &Counts::default()).await;
    let (_elsewhere, ended) = waiting(&world, suspension.run_id).await;
    hub.resume(&key, yes()).await.unwrap();
    world.clock.until_sleeping(1).await;
    assert!(!ended.is_finished());
    world.clock.advance(Duration::from_millis(10));
    assert_eq!(ended.await.unwrap().unwrap().status, RunStatus::Completed);
}

#[tokio::test]
async fn who_waits_hears_that_there_is_nothing_to_wait_for() {
    let world = World::new();
    let (hub, suspension, _) = parked(&world, &Counts::default()).await;
    let (elsewhere, ended) = waiting(&world, suspension.run_id).await;
    assert!(elsewhere.shutdown(seconds(1)).await, "it is nothing that is carried out");
    assert_eq!(ended.await.unwrap().unwrap_err().kind(), ErrorKind::ShuttingDown);

    let (_elsewhere, ended) = waiting(&world, suspension.run_id).await;
    hub.cleanup(&Cleanup::new().all()).await.unwrap();
    world.clock.advance(minutes(1));
    let gone = ended.await.unwrap().unwrap_err();
    assert_eq!((gone.kind(), gone.run_id()), (ErrorKind::RunNotFound, Some(suspension.run_id)));
}
