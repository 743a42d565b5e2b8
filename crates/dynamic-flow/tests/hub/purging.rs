//! Ended runs after their retention: who removes them, and who is faster.

use dynamic_flow::{
    Clock as _, ErrorKind, Flow, RunStatus, days, hours,
    hub::{Cleanup, PersistenceHub, Worked},
    minutes, seconds,
    store::{Claim, Expect, Filter, Queue},
    testkit::faults::{Moment, Operation},
};
use serde_json::json;

use crate::support::{
    Counts, Order, World, approval_flow, completed, failed, faulty, held, order, overlap, parked,
    yes,
};

#[tokio::test]
async fn a_worker_removes_ended_runs_after_their_retention_and_keeps_receipts_until_then() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    completed(hub.resume(&key, yes()).await);
    world.clock.advance(days(7) - hours(1));
    assert_eq!(hub.work_once().await.unwrap().purged, 0);
    assert_eq!(hub.resume(&key, yes()).await.unwrap_err().kind(), ErrorKind::AlreadyResumed);
    world.clock.advance(hours(1));
    assert_eq!(hub.work_once().await.unwrap().purged, 1);
    assert_eq!(hub.get(suspension.run_id).await.unwrap_err().kind(), ErrorKind::RunNotFound);
}

#[tokio::test]
async fn a_worker_that_has_many_runs_to_remove_goes_on_with_due_ones_in_between() {
    let (world, counts) = (World::new(), Counts::default());
    for _ in 0..3 {
        let (hub, _, key) = parked(&world, &counts).await;
        completed(hub.resume(&key, yes()).await);
    }
    world.clock.advance(days(7));
    let (hub, due, key) = parked(&world, &counts).await;
    let (faults, slow) = faulty(&world);
    let worker = slow.builder().configure(|options| options.concurrency = 1).build().await.unwrap();
    worker.register(approval_flow(&counts)).unwrap();
    let first = faults.pause(Operation::Delete, 1, Moment::Before);
    let second = faults.pause(Operation::Delete, 2, Moment::Before);
    let working = tokio::spawn({
        let worker = worker.clone();
        async move { worker.work().await }
    });
    first.reached().await;
    hub.answer(&key, yes()).await.unwrap();
    first.release();
    second.reached().await;
    assert_ne!(hub.get(due.run_id).await.unwrap().status, RunStatus::Ready, "it was taken up");
    second.release();
    assert!(worker.shutdown(seconds(5)).await);
    working.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_worker_purges_more_than_one_batch_in_an_interval() {
    let world = World::new();
    let hub = world.builder().retention(seconds(1)).build().await.unwrap();
    let flow = Flow::input::<Order>("quick").map("m", |_: Order| 1).build().unwrap();
    let handle = hub.register(&flow).unwrap();
    for _ in 0..100 {
        completed(handle.run(order()).await);
    }
    world.clock.advance(minutes(1));
    let h = hub.clone();
    let worker = tokio::spawn(async move { h.work().await });
    for _ in 0..2000 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        world.clock.advance(seconds(1));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    hub.shutdown(seconds(1)).await;
    worker.await.unwrap().unwrap();
    let left = hub.query(&Filter::default(), None, 200).await.unwrap().items.len();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_retry_wins_over_a_worker_that_is_about_to_purge() {
    let world = World::new();
    let (hub, _, run) = failed(&world).await;
    world.clock.advance(hours(24 * 7));
    let claim = Claim {
        now: world.clock.now(),
        queues: vec![Queue::purge()],
        owner: "w".into(),
        lease: seconds(30),
        limit: 1,
        except: [].into(),
    };
    let taken = world.store.claim(claim).await.unwrap().remove(0);
    let outcome = hub.retry(run).await;
    world.store.delete(run, Expect::Revision(taken.revision)).await.unwrap_err();
    assert!(
        outcome.is_ok(),
        "{outcome:?}, inbox {}",
        world.store.get(run).await.unwrap().unwrap().inbox.len()
    );
}

#[tokio::test]
async fn an_ended_run_that_a_worker_is_about_to_purge_is_left_to_it() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    completed(hub.resume(&key, yes()).await);
    held(&world, suspension.run_id, seconds(30)).await;
    let all = Cleanup::new().all();
    assert_eq!(hub.cleanup(&all).await.unwrap().deleted_count, 0);
    world.clock.advance(seconds(30));
    assert_eq!(hub.cleanup(&all).await.unwrap().deleted_count, 1);
}

#[tokio::test]
async fn a_retry_that_overlaps_the_purge_keeps_the_run() {
    let world = World::new();
    let (hub, _, run) = failed(&world).await;
    world.clock.advance(days(7));
    let purging = |slow: PersistenceHub| async move { slow.work_once().await };
    let retry = async { assert_eq!(completed(hub.retry(run).await), json!(1)) };
    let worked = overlap(&world, Operation::Delete, purging, retry).await.unwrap();
    assert_eq!(worked, Worked::default());
    assert_eq!(hub.get(run).await.unwrap().status, RunStatus::Completed);
}
