//! The persisted form is a tree: a state with several branches, each at a wait of its own. No step
//! makes one yet; what holds for one must hold once steps do.

use std::time::Duration;

use dynamic_flow::{
    Answer, Cancellation, Clock as _, ErrorKind, Flow, RunId, SuspensionKey, Timestamp, WaitId,
    hours,
    hub::PersistenceHub,
    minutes,
    store::{Change, Expect, Filter, WaitIndex},
    testkit::engine::{Branch, Snapshot, StepState},
    tool::AwaitInput,
    wait::Closed,
};
use serde_json::json;

use crate::support::{Counts, Order, World, approval_flow, at, no, parked, restate, yes};

/// The branches of the step that a run stands in.
fn branches(state: &mut Snapshot) -> &mut Vec<Branch> {
    match &mut state.root.state {
        StepState::Inside { branches, .. } => branches,
        other => panic!("no step with bodies: {other:?}"),
    }
}

/// A run that stands at two waits: the second one is open for an hour, the first for four.
struct Forked {
    world: World,
    hub: PersistenceHub,
    run: RunId,
    keys: [SuspensionKey; 2],
    waits: [WaitId; 2],
    ends: [Timestamp; 2],
}

async fn forked() -> Forked {
    let world = World::new();
    let (hub, suspension, first) = parked(&world, &Counts::default()).await;
    let run = suspension.run_id;
    let second = SuspensionKey::from_secret(run, [9; 32]);
    let waits = ["keep-approval/approval#1", "keep-approval[2]/approval#2"].map(WaitId::from);
    let ends = [at("2026-11-23T12:00:00Z"), at("2026-11-23T09:00:00Z")];
    restate(&world, run, |state: &mut Snapshot| {
        let mut wait = state.waits[0].clone();
        assert_eq!((&wait.id, wait.expires_at), (&waits[0], Some(ends[0])));
        (wait.id, wait.expires_at) = (waits[1].clone(), Some(ends[1]));
        wait.keys = vec![second.digest()];
        wait.request.metadata.insert("who".into(), "second".into());
        state.waits.push(wait);
        state.opened_waits = 2;
        let mut branch = branches(state)[0].clone();
        branch.iteration = 2;
        branch.state = StepState::Waiting { wait: waits[1].clone() };
        branches(state).push(branch);
    })
    .await;
    let mut index = world.store.get(run).await.unwrap().unwrap().waits;
    index.push(WaitIndex {
        id: waits[1].clone(),
        keys: vec![second.digest()],
        expires_at: Some(ends[1]),
        ..index[0].clone()
    });
    let change = Change {
        waits: Some(index),
        metadata: Some([("who".to_owned(), "second".into())].into()),
        due_at: Some(Some(ends[1])),
        ..Change::at(at("2026-11-23T08:00:00Z"))
    };
    world.store.update(run, Expect::Any, change).await.unwrap();
    Forked { world, hub, run, keys: [first, second], waits, ends }
}

#[tokio::test]
async fn both_waits_are_shown_each_with_its_question_and_deadline() {
    let Forked { hub, run, keys, waits, ends, .. } = forked().await;
    let view = hub.get(run).await.unwrap();
    let shown = view.waits.iter().map(|wait| (wait.id.clone(), wait.expires_at.unwrap()));
    assert!(shown.eq(waits.iter().cloned().zip(ends)));
    let positions: Vec<_> = view.positions.iter().map(ToString::to_string).collect();
    assert_eq!(positions, ["keep-approval/approval", "keep-approval[2]/approval"]);
    assert_eq!(view.metadata["who"], "second".into());
    for (key, wait) in keys.iter().zip(&waits) {
        assert_eq!(hub.question(key).await.unwrap().id, *wait);
    }
    // The two conditions are of one wait, not of both together.
    let between = |after, before| Filter {
        expires_after: Some(after),
        expires_before: Some(before),
        ..Filter::default()
    };
    let found = async |filter| hub.query(&filter, None, 9).await.unwrap().items.len();
    assert_eq!(found(between(ends[1], ends[1].after(minutes(1)))).await, 1);
    assert_eq!(found(between(ends[1].after(minutes(1)), ends[0])).await, 0);
}

#[tokio::test]
async fn each_key_answers_its_own_wait_and_leaves_the_other_open() {
    let Forked { world, run, keys: [first, second], waits, .. } = forked().await;
    let stranger = world.hub().await;
    let answer = Answer::new(yes()).request_id("r2");
    let accepted = stranger.answer(&second, answer.clone()).await.unwrap();
    assert_eq!((&accepted.receipt.wait_id, accepted.repeated), (&waits[1], false));
    assert!(stranger.answer(&second, answer).await.unwrap().repeated);
    let late = stranger.answer(&second, no()).await.unwrap_err();
    assert_eq!(late.receipt().unwrap().wait_id, waits[1]);
    assert_eq!(stranger.question(&second).await.unwrap_err().kind(), ErrorKind::AlreadyResumed);
    assert_eq!(stranger.question(&first).await.unwrap().id, waits[0]);
    let wrong = stranger.answer(&first, json!(1)).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::InputValidationError);
    let accepted = stranger.answer(&first, no()).await.unwrap();
    assert_eq!(accepted.receipt.wait_id, waits[0]);
    assert_eq!(world.store.get(run).await.unwrap().unwrap().inbox.len(), 2);
}

#[tokio::test]
async fn a_key_that_is_added_to_one_wait_is_none_of_the_other() {
    let Forked { hub, run, keys, waits, .. } = forked().await;
    let added = hub.reissue(run, &waits[1]).await.unwrap();
    assert_eq!(hub.question(&added).await.unwrap().id, waits[1]);
    hub.answer(&added, yes()).await.unwrap();
    assert_eq!(hub.question(&keys[1]).await.unwrap_err().kind(), ErrorKind::AlreadyResumed);
    assert_eq!(hub.question(&keys[0]).await.unwrap().id, waits[0]);
}

#[tokio::test]
async fn who_is_late_for_a_wait_of_a_run_that_can_not_go_on_hears_why_and_asks_no_more() {
    let Forked { world, hub, run, keys: [first, second], .. } = forked().await;
    hub.answer(&first, yes()).await.unwrap();
    // As only a bug could: what was answered is not what is asked any more.
    restate(&world, run, |state: &mut Snapshot| {
        state.waits[0].request.prompt = "Sell the house?".into();
    })
    .await;
    world.clock.advance(hours(1));
    let late = tokio::time::timeout(Duration::from_secs(10), hub.resume(&second, yes())).await;
    assert_eq!(late.expect("no loop").unwrap_err().kind(), ErrorKind::CorruptState);
}

#[tokio::test]
async fn a_deadline_ends_its_own_wait_alone() {
    let Forked { world, hub, keys: [first, second], waits, .. } = forked().await;
    world.clock.advance(hours(1));
    assert_eq!(hub.overdue(9).await.unwrap(), 1, "a deadline has passed at its very moment");
    assert_eq!(hub.question(&second).await.unwrap_err().kind(), ErrorKind::SuspensionExpired);
    let late = hub.answer(&second, yes()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::SuspensionExpired);
    assert_eq!(late.context_value("wait"), Some(waits[1].as_str()));
    assert_eq!(hub.answer(&first, yes()).await.unwrap().receipt.wait_id, waits[0]);
}

#[tokio::test]
async fn a_cancellation_closes_both_waits() {
    let Forked { hub, run, keys, waits, .. } = forked().await;
    hub.cancel(run, Cancellation::new().by("joe")).await.unwrap();
    let view = hub.get(run).await.unwrap();
    assert!(view.waits.is_empty() && view.metadata.is_empty());
    let closed = view.receipts.iter().map(|receipt| (&receipt.wait_id, receipt.closed));
    assert!(closed.eq(waits.iter().map(|wait| (wait, Closed::Cancelled))));
    for (key, wait) in keys.iter().zip(&waits) {
        let told = hub.answer(key, yes()).await.unwrap_err();
        assert_eq!(told.kind(), ErrorKind::AlreadyResumed);
        assert_eq!(told.receipt().unwrap().wait_id, *wait);
    }
}

#[tokio::test]
async fn a_state_that_is_written_again_has_both_branches_and_is_due_at_the_earlier_deadline() {
    let Forked { world, hub, run, keys, waits, ends } = forked().await;
    let tree = || async {
        let mut tree = None;
        restate(&world, run, |state: &mut Snapshot| tree = Some(state.root.clone())).await;
        tree.unwrap()
    };
    let before = tree().await;
    // A worker is given it, and finds nothing to do.
    let now = world.clock.now();
    let due = Change { due_at: Some(Some(now)), ..Change::at(now) };
    world.store.update(run, Expect::Any, due).await.unwrap();
    assert_eq!(hub.work_once().await.unwrap().driven, 1);
    assert_eq!(hub.sealed_info(run).await.unwrap().sequence, 2);
    assert_eq!(tree().await, before);
    let view = hub.get(run).await.unwrap();
    assert_eq!(view.due_at, Some(ends[1]));
    for (key, wait) in keys.iter().zip(&waits) {
        assert_eq!(hub.question(key).await.unwrap().id, *wait);
    }
}

#[tokio::test]
async fn a_flow_must_fit_both_branches() {
    let Forked { hub, .. } = forked().await;
    let counts = Counts::default();
    let report = hub.check(&approval_flow(&counts).erase()).await.unwrap();
    assert_eq!((report.same, report.stranded.len()), (1, 0));
    let other = Flow::input::<Order>("purchase")
        .keep(|order| order.await_input(AwaitInput::<bool>::new("approval")))
        .build()
        .unwrap();
    let report = hub.check(&other.erase()).await.unwrap();
    assert_eq!(report.stranded[0].reasons.len(), 2, "{report:?}");
}
