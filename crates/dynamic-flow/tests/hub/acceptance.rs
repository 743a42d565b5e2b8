//! Who may answer, what is accepted, and what everybody else hears.

use dynamic_flow::{
    Answer, Cancellation, ErrorKind, RunId, RunStatus, SuspensionKey, Timestamp, ToolError,
    hub::Outcome,
    seconds,
    testkit::faults::{Moment, Operation},
    tool::{AwaitInput, tool_fn},
    wait::Closed,
};
use serde_json::json;

use crate::support::{
    Counts, World, approval_flow, completed, faulty, no, order, parked, suspended, yes,
};

#[tokio::test]
async fn a_run_suspends_and_goes_on_exactly_after_in_another_process() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    drop(hub);
    assert_eq!(suspension.flow_id, "purchase");
    assert_eq!(suspension.expires_at(), Some(world_time(&world, 4)));

    let other = world.hub().await;
    other.register(approval_flow(&counts)).unwrap();
    assert_eq!(completed(other.resume(&key, yes()).await), json!("PO-17 by jane"));
    assert_eq!((counts.before.get(), counts.after.get()), (1, 1));
}

fn world_time(world: &World, hours: u64) -> Timestamp {
    use dynamic_flow::Clock as _;
    world.clock.now().after(dynamic_flow::hours(hours))
}

#[tokio::test]
async fn what_was_accepted_is_seen_before_it_is_worked_in() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!((view.waits.len(), view.accepted.len()), (1, 0));

    let accepted = hub.answer(&key, Answer::new(yes()).by("jane")).await.unwrap();
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!(view.status, RunStatus::Ready);
    assert!(view.waits.is_empty(), "nobody can answer it any more");
    assert_eq!(view.accepted, std::slice::from_ref(&accepted.receipt));
    assert!(view.receipts.is_empty());

    hub.work_once().await.unwrap();
    let view = hub.get(suspension.run_id).await.unwrap();
    assert!(view.accepted.is_empty());
    assert_eq!(view.receipts, [accepted.receipt]);
}

#[tokio::test]
async fn keys_that_are_wrong_in_any_way_hear_the_same() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let text = key.expose();
    let malformed = ["", "df_", "df_short", &text[..text.len() - 1], &text[3..], "xx_123"];
    let mut heard: Vec<String> = Vec::new();
    for text in malformed {
        heard.push(text.parse::<SuspensionKey>().unwrap_err().to_string());
    }
    let strangers = [
        SuspensionKey::from_secret(suspension.run_id, [7; 32]),
        SuspensionKey::generate(RunId::new(Timestamp::from_millis(1)).unwrap()).unwrap(),
    ];
    for stranger in &strangers {
        // Not even an input that does not fit tells them that the run is there.
        let error = hub.resume(stranger, json!("nonsense")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SuspensionKeyNotFound);
        heard.push(error.to_string());
        heard.push(hub.question(stranger).await.unwrap_err().to_string());
    }
    heard.dedup();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(completed(hub.resume(&key, yes()).await), json!("PO-17 by jane"));
}

#[tokio::test]
async fn an_input_that_does_not_fit_is_refused_whole_and_the_wait_stays_open() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, _, key) = parked(&world, &counts).await;
    let error = hub.resume(&key, json!({ "approved": "yes", "by": 7 })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InputValidationError);
    let mut pointers: Vec<_> = error.violations().iter().map(|v| v.pointer.as_str()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/approved", "/by"]);
    assert_eq!(counts.after.get(), 0);
    completed(hub.resume(&key, yes()).await);
}

#[tokio::test]
async fn a_second_answer_gets_the_receipt_of_the_first_and_changes_nothing() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, _, key) = parked(&world, &counts).await;
    completed(hub.resume(&key, Answer::new(yes()).by("jane").request_id("r1")).await);
    let error = hub.resume(&key, Answer::new(no()).by("joe")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyResumed);
    let receipt = error.receipt().unwrap();
    assert_eq!((receipt.closed, receipt.by.as_deref()), (Closed::Answered, Some("jane")));
    let public = serde_json::to_string(receipt).unwrap();
    assert!(!public.contains("approved"), "a receipt holds no input: {public}");
    assert_eq!(counts.after.get(), 1);
}

#[tokio::test]
async fn the_same_request_again_is_told_that_it_was_accepted() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, _, key) = parked(&world, &counts).await;
    let answer = Answer::new(yes()).request_id("r1");
    let first = hub.answer(&key, answer.clone()).await.unwrap();
    assert_eq!((first.repeated, first.status), (false, RunStatus::Ready));
    let again = hub.answer(&key, answer.clone()).await.unwrap();
    assert!(again.repeated, "before the run has gone on");
    assert_eq!(again.receipt, first.receipt);
    completed(hub.drive(key.run_id()).await);
    let again = hub.answer(&key, answer.clone()).await.unwrap();
    assert_eq!((again.repeated, again.status), (true, RunStatus::Completed));
    assert_eq!(completed(hub.resume(&key, answer).await), json!("PO-17 by jane"));
    assert_eq!(counts.after.get(), 1);
}

#[tokio::test]
async fn the_id_of_a_request_with_another_answer_is_no_repetition_of_it() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, _, key) = parked(&world, &counts).await;
    hub.answer(&key, Answer::new(yes()).request_id("r1")).await.unwrap();
    let contrary = Answer::new(no()).request_id("r1");
    let pending = hub.answer(&key, contrary.clone()).await.unwrap_err();
    completed(hub.drive(key.run_id()).await);
    let closed = hub.resume(&key, contrary).await.unwrap_err();
    for error in [pending, closed] {
        assert_eq!(error.kind(), ErrorKind::AlreadyResumed);
        assert_eq!(error.receipt().unwrap().request_id.as_deref(), Some("r1"));
    }
}

#[tokio::test]
async fn a_process_without_the_code_accepts_and_another_one_drives() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let stranger = world.hub().await;
    let refused = stranger.resume(&key, yes()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FlowNotRegistered, "nothing is consumed");
    stranger.answer(&key, yes()).await.unwrap();
    assert_eq!(counts.after.get(), 0);
    let worked = stranger.work_once().await.unwrap();
    assert_eq!(worked.driven + worked.skipped, 0, "flows it does not know are left alone");
    assert_eq!(hub.work_once().await.unwrap().driven, 1);
    assert_eq!(hub.get(suspension.run_id).await.unwrap().output, Some(json!("PO-17 by jane")));
}

#[tokio::test]
async fn of_many_answers_at_once_one_is_accepted_and_all_others_hold_its_receipt() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, _, key) = parked(&world, &counts).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let (world, key, counts) = (world.clone(), key.clone(), counts.clone());
        tasks.spawn(async move {
            let hub = world.hub().await;
            hub.register(approval_flow(&counts)).unwrap();
            let input = json!({ "approved": true, "by": format!("racer {n}") });
            (n, hub.resume(&key, Answer::new(input).by(format!("racer {n}"))).await)
        });
    }
    let (mut winners, mut receipts) = (Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        match done.unwrap() {
            (n, Ok(Outcome::Completed(completion))) => winners.push((n, completion.output)),
            (_, Err(error)) if error.kind() == ErrorKind::AlreadyResumed => {
                receipts.push(error.receipt().unwrap().by.clone().unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
    let [(winner, output)] = winners.as_slice() else { panic!("{winners:?}") };
    assert_eq!(*output, json!(format!("PO-17 by racer {winner}")));
    assert_eq!(receipts.len(), 63);
    assert!(receipts.iter().all(|by| *by == format!("racer {winner}")));
    assert_eq!(counts.after.get(), 1);
}

#[tokio::test]
async fn a_no_is_a_result_and_not_a_failure() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    match hub.resume(&key, no()).await.unwrap() {
        Outcome::Rejected(rejection) => assert_eq!(rejection.step.to_string(), "approved"),
        other => panic!("{other:?}"),
    }
    assert_eq!(hub.get(suspension.run_id).await.unwrap().status, RunStatus::Rejected);
    assert_eq!(counts.after.get(), 0);
}

#[tokio::test]
async fn an_input_over_the_limit_is_refused_with_both_sizes() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, _, key) = parked(&world, &counts).await;
    let hub =
        world.builder().configure(|options| options.max_input_size = 100).build().await.unwrap();
    let big = json!({ "approved": true, "by": "x".repeat(200) });
    let error = hub.answer(&key, big).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert_eq!(error.context_value("limit"), Some("100"));
}

#[tokio::test]
async fn the_handle_of_another_flow_consumes_nothing() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, _, key) = parked(&world, &counts).await;
    let other = hub.register(crate::support::sleeper()).unwrap();
    let error = other.resume(&key, yes()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
    let handle = hub.register(approval_flow(&counts)).unwrap();
    let answer = Answer::new(yes()).request_id("r");
    assert_eq!(completed(handle.resume(&key, answer.clone()).await), "PO-17 by jane");
    // Nor is the output of this flow given as that of the other, when the request is repeated.
    let error = other.resume(&key, answer).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
}

#[tokio::test]
async fn who_answers_or_cancels_says_so_in_few_words() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let run = suspension.run_id;
    let before = world.store.get(run).await.unwrap();
    let (most, more) = ("x".repeat(1024), "x".repeat(1025));
    for error in [
        hub.answer(&key, Answer::new(yes()).by(&more)).await.unwrap_err(),
        hub.resume(&key, Answer::new(yes()).request_id(&more)).await.unwrap_err(),
        hub.cancel(run, Cancellation::new().by(&more)).await.unwrap_err(),
        hub.cancel(run, Cancellation::new().reason(more)).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert_eq!(error.context_value("limit"), Some("1024"));
    }
    assert_eq!(world.store.get(run).await.unwrap(), before);
    hub.answer(&key, Answer::new(yes()).by(&most).request_id(&most)).await.unwrap();
}

#[tokio::test]
async fn a_reissued_key_answers_the_same_wait_and_the_first_stays_good() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, first) = parked(&world, &counts).await;
    let wait = &suspension.only().unwrap().id;
    let second = hub.reissue(suspension.run_id, wait).await.unwrap();
    assert_eq!(hub.question(&second).await.unwrap().id, *wait);
    assert_eq!(hub.question(&first).await.unwrap().id, *wait);
    completed(hub.resume(&second, yes()).await);
    let error = hub.resume(&first, yes()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyResumed);
    let closed = hub.reissue(suspension.run_id, wait).await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::InvalidState);
}

#[tokio::test]
async fn a_wait_takes_a_bounded_number_of_keys() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, _) = parked(&world, &counts).await;
    let wait = &suspension.only().unwrap().id;
    for _ in 1..16 {
        hub.reissue(suspension.run_id, wait).await.unwrap();
    }
    let error = hub.reissue(suspension.run_id, wait).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
}

#[tokio::test]
async fn a_cancelled_run_takes_no_answer_and_says_so_to_the_holder_of_the_key() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let run = suspension.run_id;
    // Cancelling needs no code.
    let stranger = world.hub().await;
    let status =
        stranger.cancel(run, Cancellation::new().by("ops").reason("duplicate")).await.unwrap();
    assert_eq!(status, RunStatus::Cancelled);
    assert_eq!(stranger.cancel(run, Cancellation::new()).await.unwrap(), RunStatus::Cancelled);
    let error = hub.resume(&key, yes()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyResumed);
    assert_eq!(error.receipt().unwrap().closed, Closed::Cancelled);
    assert_eq!(counts.after.get(), 0);
}

#[tokio::test]
async fn an_answer_that_was_accepted_is_not_undone_by_a_cancellation() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    hub.answer(&key, Answer::new(yes()).by("jane")).await.unwrap();
    world.hub().await.cancel(suspension.run_id, Cancellation::new()).await.unwrap();
    hub.work_once().await.unwrap();
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!(view.receipts.len(), 1);
    assert_eq!(view.receipts[0].closed, Closed::Answered, "the receipt that jane holds stays true");
    assert_eq!(view.status, RunStatus::Cancelled);
}

#[tokio::test]
async fn a_run_is_cancelled_by_who_has_another_flow_by_now_as_by_who_has_none() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, answered, key) = parked(&world, &counts).await;
    let (_, waiting, _) = parked(&world, &counts).await;
    hub.answer(&key, yes()).await.unwrap();
    let newer = world.hub().await;
    let other = dynamic_flow::Flow::input::<crate::support::Order>("purchase");
    newer.register(other.map("id", |order| order.id).build().unwrap()).unwrap();
    let before = hub.get(waiting.run_id).await.unwrap().positions;
    let status = newer.cancel(waiting.run_id, Cancellation::new()).await.unwrap();
    assert_eq!(status, RunStatus::Cancelled);
    assert_eq!(hub.get(waiting.run_id).await.unwrap().positions, before);
    // The answer comes first, and this flow does not know what follows from it.
    let status = newer.cancel(answered.run_id, Cancellation::new()).await.unwrap();
    assert_eq!(status, RunStatus::Ready);
    hub.work_once().await.unwrap();
    let view = hub.get(answered.run_id).await.unwrap();
    assert_eq!((view.status, view.receipts[0].closed), (RunStatus::Cancelled, Closed::Answered));
}

#[tokio::test]
async fn an_ended_run_can_be_neither_cancelled_nor_retried() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    completed(hub.resume(&key, yes()).await);
    let run = suspension.run_id;
    assert_eq!(
        hub.cancel(run, Cancellation::new()).await.unwrap_err().kind(),
        ErrorKind::InvalidState
    );
    assert_eq!(hub.retry(run).await.unwrap_err().kind(), ErrorKind::InvalidState);
}

#[tokio::test]
async fn each_question_of_a_run_has_a_key_of_its_own() {
    let world = World::new();
    let hub = world.hub().await;
    let flow = dynamic_flow::Flow::input::<crate::support::Order>("two-questions")
        .await_input(AwaitInput::<String>::new("first"))
        .await_input(AwaitInput::<String>::new("second"))
        .tool(tool_fn("shout", |text: String| async move { Ok::<_, ToolError>(text + "!") }))
        .build()
        .unwrap();
    let handle = hub.register(&flow).unwrap();
    let first = suspended(handle.run(order()).await).only().unwrap().key().unwrap().clone();
    let parked = suspended(hub.resume(&first, json!("one")).await);
    let second = parked.only().unwrap().key().unwrap().clone();
    // A stale answer is not eaten by a later wait.
    let stale = hub.resume(&first, json!("stale")).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::AlreadyResumed);
    assert_eq!(completed(hub.resume(&second, json!("two")).await), json!("two!"));
}

#[tokio::test]
async fn who_hears_of_a_fault_after_the_answer_was_taken_is_told_so() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, key) = parked(&world, &counts).await;
    let (faults, cut) = faulty(&world);
    let hub = cut.builder().max_retries(0).build().await.unwrap();
    hub.register(approval_flow(&counts)).unwrap();
    // What follows the write by which the answer is taken.
    faults.fail(Operation::Update, 2, Moment::Before);
    let error = hub.resume(&key, yes()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::StorageError, true));
    assert!(error.is_answer_accepted(), "{error}");
    assert_eq!(hub.resume(&key, yes()).await.unwrap_err().kind(), ErrorKind::AlreadyResumed);
    world.clock.advance(seconds(30));
    completed(hub.drive(suspension.run_id).await);

    let (_, _, key) = parked(&world, &counts).await;
    faults.fail_next(Operation::Update, Moment::Before);
    let error = hub.resume(&key, yes()).await.unwrap_err();
    assert!(error.is_retryable() && !error.is_answer_accepted());
    completed(hub.resume(&key, yes()).await);
}

#[tokio::test]
async fn a_watcher_that_falls_behind_knows_how_many_events_it_has_missed() {
    let (world, counts) = (World::new(), Counts::default());
    let hub = world.hub().await;
    let handle = hub.register(approval_flow(&counts)).unwrap();
    let (mut slow, mut told) = (hub.events(), hub.events());
    let (mut seen, mut all) = (0, 0);
    for _ in 0..300 {
        suspended(handle.run(order()).await);
        while told.try_next().is_some() {
            all += 1;
        }
    }
    while slow.try_next().is_some() {
        seen += 1;
    }
    assert_eq!(told.missed(), 0);
    assert!(slow.missed() > 0);
    assert_eq!(slow.missed() + seen, all);
}
