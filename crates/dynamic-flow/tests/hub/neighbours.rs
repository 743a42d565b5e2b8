//! What users of neighbouring systems suffer from, each as a test that is named after what it
//! protects. Those that need several processes are in `tests/processes/`.

use std::sync::{Arc, Mutex};

use dynamic_flow::{
    Answer, Clock as _, ErrorKind, Flow, RunStatus, ToolError, hours,
    hub::{HubEvent, Notice, Notifier},
    store::Filter,
    testkit::faults::{Moment, Operation},
    tool::{AwaitInput, tool_fn},
    wait::Closed,
};
use serde_json::{Value, json};

use crate::support::{
    Approval, Counter, Counts, Order, World, approval_flow, approval_flow_with, completed, faulty,
    order, parked, question, suspended, yes,
};

#[tokio::test]
async fn code_before_the_wait_does_not_run_again_on_resume() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, _, key) = parked(&world, &counts).await;
    for _ in 0..3 {
        let hub = world.hub().await;
        hub.register(approval_flow(&counts)).unwrap();
        hub.resume(&key, yes()).await.ok();
    }
    assert_eq!((counts.before.get(), counts.after.get()), (1, 1));
}

#[tokio::test]
async fn a_left_over_timer_wipes_no_answer() {
    let (world, counts) = (World::new(), Counts::default());
    let hub = world.hub().await;
    let flow = approval_flow_with(&counts, question());
    let suspension = suspended(hub.register(&flow).unwrap().run(order()).await);
    let key = suspension.only().unwrap().key().unwrap().clone();
    completed(hub.resume(&key, Answer::new(yes()).by("jane")).await);
    world.clock.advance(hours(4));
    hub.work_once().await.unwrap();
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!(view.status, RunStatus::Completed);
    assert_eq!(view.receipts[0].by.as_deref(), Some("jane"));
}

#[tokio::test]
async fn a_stale_answer_is_not_eaten_by_a_later_wait() {
    let world = World::new();
    let hub = world.hub().await;
    let ask = |step: &str| AwaitInput::<String>::new(step);
    let flow = Flow::input::<Order>("two-questions")
        .await_input(ask("first"))
        .await_input(ask("second"))
        .build()
        .unwrap();
    let parked = suspended(hub.register(&flow).unwrap().run(order()).await);
    let first = parked.only().unwrap().key().unwrap().clone();
    let accepted = hub.answer(&first, Answer::new(json!("one")).by("jane")).await.unwrap();
    // The answer waits for a worker; the next question is not open yet, and must not take this.
    let stale = || hub.answer(&first, Answer::new(json!("stale")).by("joe"));
    let early = stale().await.unwrap_err();
    assert_eq!(early.receipt(), Some(&accepted.receipt));
    hub.work_once().await.unwrap();
    let late = stale().await.unwrap_err();
    assert_eq!(late.receipt(), Some(&accepted.receipt));
    let view = hub.get(parked.run_id).await.unwrap();
    assert_eq!((view.status, view.receipts.len()), (RunStatus::Waiting, 1));
    let second = hub.reissue(parked.run_id, &view.waits[0].id).await.unwrap();
    assert_eq!(hub.question(&second).await.unwrap().tool_id.as_str(), "second");
    assert_eq!(completed(hub.resume(&second, json!("two")).await), json!("two"));
}

#[tokio::test]
async fn answers_go_to_the_wait_whose_key_they_came_with() {
    let (world, counts) = (World::new(), Counts::default());
    let hub = world.hub().await;
    let handle = hub.register(approval_flow(&counts)).unwrap();
    let mut parked = Vec::new();
    for n in 0..4 {
        let suspension = suspended(handle.run(Order { id: format!("PO-{n}"), total: n }).await);
        parked.push(suspension.only().unwrap().key().unwrap().clone());
    }
    // In another order than that in which they were asked, accepted before any is worked in.
    for n in [2, 0, 3, 1] {
        let by = format!("who answers {n}");
        hub.answer(&parked[n], json!({ "approved": true, "by": by })).await.unwrap();
    }
    hub.work_once().await.unwrap();
    for (n, key) in parked.iter().enumerate() {
        let output = hub.get(key.run_id()).await.unwrap().output;
        assert_eq!(output, Some(json!(format!("PO-{n} by who answers {n}"))));
    }
}

#[tokio::test]
async fn the_wait_is_durable_before_anyone_can_know_its_key() {
    let (world, counts) = (World::new(), Counts::default());
    let (faults, cut) = faulty(&world);
    let hub = cut.builder().max_retries(0).build().await.unwrap();
    faults.fail_all(Operation::Insert, Moment::Before);
    let handle = hub.register(approval_flow(&counts)).unwrap();
    let error = handle.run(order()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageError);
    assert!(hub.query(&Filter::default(), None, 1).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_write_whose_answer_got_lost_is_not_made_twice() {
    let (world, counts) = (World::new(), Counts::default());
    let (faults, cut) = faulty(&world);
    let hub = cut.hub().await;
    let handle = hub.register(approval_flow(&counts)).unwrap();
    faults.fail_next(Operation::Insert, Moment::After);
    let suspension = suspended(handle.run(order()).await);
    let key = suspension.only().unwrap().key().unwrap().clone();
    faults.fail_next(Operation::Update, Moment::After);
    faults.fail(Operation::Update, 3, Moment::After);
    assert_eq!(completed(hub.resume(&key, yes()).await), json!("PO-17 by jane"));
    assert_eq!((counts.before.get(), counts.after.get()), (1, 1));
}

#[tokio::test]
async fn recovery_outlasts_a_fault_at_every_call_of_the_store() {
    let operations = [Operation::Claim, Operation::Get, Operation::Update, Operation::Renew];
    let moments = [Moment::Before, Moment::After];
    for (operation, moment) in operations.into_iter().flat_map(|o| moments.map(|m| (o, m))) {
        for number in 1..4 {
            let (world, counts) = (World::new(), Counts::default());
            let (_, suspension, key) = parked(&world, &counts).await;
            world.hub().await.answer(&key, yes()).await.unwrap();
            let (faults, cut) = faulty(&world);
            let hub = cut.builder().max_retries(0).build().await.unwrap();
            hub.register(approval_flow(&counts)).unwrap();
            faults.fail(operation, number, moment);
            for _ in 0..5 {
                hub.work_once().await.ok();
                world.clock.advance(hours(1));
            }
            let view = world.hub().await.get(suspension.run_id).await.unwrap();
            let what = format!("with a fault {moment:?} {operation:?} number {number}");
            assert_eq!(view.output, Some(json!("PO-17 by jane")), "{what}");
            assert_eq!(counts.before.get(), 1, "{what}");
        }
    }
}

#[tokio::test]
async fn a_changed_shape_of_state_is_refused_loudly_and_the_run_stays_resumable() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, key) = parked(&world, &counts).await;
    let changed = {
        #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        struct NewOrder {
            number: u64,
        }
        Flow::input::<NewOrder>("purchase")
            .tool(tool_fn("validate", |o: NewOrder| async move { Ok::<_, ToolError>(o) }))
            .keep(|o| o.await_input(AwaitInput::<String>::new("approval")))
            .map("out", |(order, _)| order.number)
            .build()
            .unwrap()
    };
    let hub = world.hub().await;
    hub.register(&changed).unwrap();
    let error = hub.resume(&key, json!("yes")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FlowIncompatible, "{error}");
    let report = hub.check(&changed.erase()).await.unwrap();
    assert_eq!((report.runs, report.stranded.len()), (1, 1));
    assert_eq!(report.stranded[0].run_id, suspension.run_id);
    let old = world.hub().await;
    old.register(approval_flow(&counts)).unwrap();
    assert_eq!(completed(old.resume(&key, yes()).await), json!("PO-17 by jane"));
}

#[tokio::test]
async fn new_code_with_unrelated_steps_resumes_a_parked_run() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, _, key) = parked(&world, &counts).await;
    let (before, after) = (Counter::default(), Counter::default());
    let (b, a) = (before.clone(), after.clone());
    let newer = Flow::input::<Order>("purchase")
        .tap("log", |_| {})
        .tool(tool_fn("validate", move |order: Order| {
            b.add();
            async move { Ok::<_, ToolError>(order) }
        }))
        .map("enrich", |order: Order| order)
        .keep(|order| order.await_input(question()))
        .filter("approved", |(_, approval): &(Order, Approval)| approval.approved)
        .tap("count", move |_| {
            a.add();
        })
        .tool(tool_fn("process", |(order, approval): (Order, Approval)| async move {
            Ok::<_, ToolError>(format!("{} for {}", order.id, approval.by))
        }))
        .build()
        .unwrap();
    let hub = world.hub().await;
    hub.register(&newer).unwrap();
    let report = hub.check(&newer.erase()).await.unwrap();
    assert_eq!((report.compatible, report.stranded.len()), (1, 0));
    assert_eq!(completed(hub.resume(&key, yes()).await), json!("PO-17 for jane"));
    assert_eq!((before.get(), after.get()), (0, 1), "no step before the wait, each one after it");
}

#[tokio::test]
async fn the_question_that_was_answered_is_the_one_that_was_asked() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let asked = hub.question(&key).await.unwrap();
    completed(hub.resume(&key, yes()).await);
    let receipt = &hub.get(suspension.run_id).await.unwrap().receipts[0];
    let digest = dynamic_flow::wait::ContentDigest::of(&json!({
        "run_id": suspension.run_id,
        "wait_id": asked.id,
        "tool_id": asked.tool_id,
        "prompt": asked.prompt,
        "shown": asked.shown,
        "schema": asked.schema,
    }))
    .unwrap();
    assert_eq!(receipt.question, digest);
    let input = dynamic_flow::wait::ContentDigest::of(&yes()).unwrap();
    assert_eq!(receipt.input, Some(input));
}

#[tokio::test]
async fn what_is_stored_does_not_grow_with_the_steps_that_were_made() {
    let world = World::new();
    let hub = world.hub().await;
    let sizes: Arc<Mutex<Vec<usize>>> = Arc::default();
    for steps in [10, 1000] {
        let mut flow = Flow::input::<Order>(format!("steps-{steps}"));
        for n in 0..steps {
            flow = flow.map(format!("step-{n}"), |order: Order| order);
        }
        let flow = flow.await_input(AwaitInput::<bool>::new("ask")).build().unwrap();
        let run = suspended(hub.register(&flow).unwrap().run(order()).await).run_id;
        let record = world.store.get(run).await.unwrap().unwrap();
        sizes.lock().unwrap().push(record.snapshot.0.len());
    }
    let sizes = sizes.lock().unwrap();
    assert!(sizes[1] < sizes[0] + 32, "{sizes:?}");
}

#[tokio::test]
async fn who_waits_for_whom_can_be_asked() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, _) = parked(&world, &counts).await;
    let filter = Filter { tool_id: Some("approval".into()), ..Filter::default() };
    let page = hub.query(&filter, None, 10).await.unwrap();
    let listed = page.readable().next().unwrap();
    let wait = &listed.waits[0];
    assert_eq!((listed.id, wait.tool_id.as_str()), (suspension.run_id, "approval"));
    assert_eq!(wait.expires_at, suspension.expires_at());
}

#[tokio::test]
async fn what_is_overdue_can_be_asked_for_and_is_told() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, _) = parked(&world, &counts).await;
    let now = || world.clock.now();
    let overdue = || Filter { expires_before: Some(now()), ..Filter::default() };
    world.clock.advance(hours(4));
    assert!(hub.query(&overdue(), None, 1).await.unwrap().items.is_empty());
    world.clock.advance(hours(1));
    let page = hub.query(&overdue(), None, 1).await.unwrap();
    assert_eq!(page.readable().next().unwrap().id, suspension.run_id);
    let mut events = hub.events();
    hub.work_once().await.unwrap();
    let receipt = loop {
        if let HubEvent::WaitClosed { receipt, .. } = events.next().await.unwrap() {
            break receipt;
        }
    };
    assert_eq!(receipt.closed, Closed::TimedOut);
    assert!(hub.query(&overdue(), None, 1).await.unwrap().items.is_empty());
}

#[derive(Default, Clone)]
struct Mailbox {
    fail: Counter,
    mails: Arc<Mutex<Vec<(String, dynamic_flow::SuspensionKey)>>>,
}

#[async_trait::async_trait]
impl Notifier for Mailbox {
    async fn notify(&self, Notice { wait, .. }: Notice) -> Result<(), ToolError> {
        if self.fail.add() == 1 {
            return Err(ToolError::new("the mail server is down"));
        }
        let key = wait.key().expect("a notifier gets a key").clone();
        self.mails.lock().unwrap().push((wait.prompt, key));
        Ok(())
    }
}

#[tokio::test]
async fn a_notifier_gets_each_wait_at_least_once_with_a_key_that_works() {
    let (world, counts) = (World::new(), Counts::default());
    let mailbox = Mailbox::default();
    let hub = world.builder().notifier(mailbox.clone()).build().await.unwrap();
    let handle = hub.register(approval_flow(&counts)).unwrap();
    let suspension = suspended(handle.run(order()).await);
    assert!(mailbox.mails.lock().unwrap().is_empty());
    // The caller who held the first key is gone; a worker passes the wait on with another.
    world.clock.advance(hours(1));
    hub.work_once().await.unwrap();
    let (prompt, key) = mailbox.mails.lock().unwrap().remove(0);
    assert_eq!(prompt, "Input needed: approval");
    world.clock.advance(hours(1));
    hub.work_once().await.unwrap();
    assert!(
        mailbox.mails.lock().unwrap().is_empty(),
        "once it was passed on, that is written down"
    );
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!(view.status, RunStatus::Waiting);
    assert_eq!(completed(hub.resume(&key, yes()).await), json!("PO-17 by jane"));
}

#[tokio::test]
async fn values_come_back_as_they_were() {
    let world = World::new();
    let hub = world.hub().await;
    let flow = Flow::input::<Value>("values")
        .keep(|v| v.await_input(AwaitInput::<bool>::new("ask")))
        .map("out", |(value, _)| value)
        .build()
        .unwrap();
    let input = json!({
        "float": 0.1, "tiny": 5e-324, "big": u64::MAX, "negative": i64::MIN,
        "date": "2026-11-23T08:00:00.123456789Z", "nul": "a\u{0}b", "emoji": "🦀",
        "same": [[1], [1]], "empty": {}, "null": null,
    });
    let suspension = suspended(hub.register(&flow).unwrap().run(input.clone()).await);
    let key = suspension.only().unwrap().key().unwrap();
    assert_eq!(completed(hub.resume(key, json!(true)).await), input);
}
