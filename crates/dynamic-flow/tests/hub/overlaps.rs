//! Writes of one run that overlap at the store: who comes second looks again at what the first did.

use dynamic_flow::{
    Answer, Cancellation, ErrorKind, RunStatus,
    hub::PersistenceHub,
    testkit::faults::{Moment, Operation},
    wait::Closed,
};
use serde_json::json;

use crate::support::{Counts, World, approval_flow, completed, faulty, no, overlap, parked, yes};

#[tokio::test]
async fn an_answer_that_overlaps_a_reissue_is_accepted() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let wait = suspension.only().unwrap().id.clone();
    let answering = |slow: PersistenceHub| async move { slow.resume(&key, yes()).await };
    let reissue = async { hub.reissue(suspension.run_id, &wait).await.unwrap() };
    assert_eq!(
        completed(overlap(&world, Operation::Update, answering, reissue).await),
        json!("PO-17 by jane")
    );
}

#[tokio::test]
async fn an_answer_that_overlaps_another_hears_of_it() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, _, key) = parked(&world, &counts).await;
    let second = key.clone();
    let answering = |slow: PersistenceHub| async move { slow.resume(&second, no()).await };
    let first = async { hub.answer(&key, Answer::new(yes()).by("jane")).await.unwrap() };
    let error = overlap(&world, Operation::Update, answering, first).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyResumed);
    assert_eq!(error.receipt().unwrap().by.as_deref(), Some("jane"));
}

#[tokio::test]
async fn a_reissue_that_overlaps_an_answer_makes_no_key() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let (run, wait) = (suspension.run_id, suspension.only().unwrap().id.clone());
    let reissuing = move |slow: PersistenceHub| async move { slow.reissue(run, &wait).await };
    let answer = async { completed(hub.resume(&key, yes()).await) };
    let error = overlap(&world, Operation::Update, reissuing, answer).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
}

#[tokio::test]
async fn two_reissues_that_overlap_make_two_keys() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, _) = parked(&world, &counts).await;
    let (run, wait) = (suspension.run_id, suspension.only().unwrap().id.clone());
    let other = wait.clone();
    let reissuing = move |slow: PersistenceHub| async move { slow.reissue(run, &other).await };
    let mut first = None;
    let reissue = async { first = Some(hub.reissue(run, &wait).await.unwrap()) };
    let second = overlap(&world, Operation::Update, reissuing, reissue).await.unwrap();
    assert_eq!(hub.question(&first.unwrap()).await.unwrap().id, wait);
    assert_eq!(hub.question(&second).await.unwrap().id, wait);
}

#[tokio::test]
async fn a_cancellation_that_overlaps_an_answer_leaves_its_receipt_true() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let run = suspension.run_id;
    let cancelling =
        move |slow: PersistenceHub| async move { slow.cancel(run, Cancellation::new()).await };
    let answer = async { hub.answer(&key, yes()).await.unwrap() };
    overlap(&world, Operation::Update, cancelling, answer).await.unwrap();
    hub.work_once().await.unwrap();
    let view = hub.get(run).await.unwrap();
    assert_eq!((view.status, view.receipts.len()), (RunStatus::Cancelled, 1));
    assert_eq!(view.receipts[0].closed, Closed::Answered);
}

#[tokio::test]
async fn what_the_store_does_not_take_is_an_error_and_changes_nothing() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let (faults, cut) = faulty(&world);
    let cut = cut.builder().max_retries(0).build().await.unwrap();
    cut.register(approval_flow(&counts)).unwrap();
    let (run, wait) = (suspension.run_id, &suspension.only().unwrap().id);
    let fail = || faults.fail_next(Operation::Update, Moment::Before);
    fail();
    let answer = cut.answer(&key, yes()).await.unwrap_err();
    fail();
    let resume = cut.resume(&key, yes()).await.unwrap_err();
    fail();
    let reissue = cut.reissue(run, wait).await.unwrap_err();
    fail();
    let cancel = cut.cancel(run, Cancellation::new()).await.unwrap_err();
    for error in [answer, resume, reissue, cancel] {
        assert_eq!(error.kind(), ErrorKind::StorageError, "{error}");
    }
    assert_eq!(completed(hub.resume(&key, yes()).await), json!("PO-17 by jane"));
}
