//! What a review broke, and must not break again.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use dynamic_flow::{
    Answer, Epoch, ErrorKind, Flow, FlowId, Result, Revision, RunId, Schema, SuspensionKey,
    Timestamp, ToolError,
    engine::RunStatus,
    hours,
    hub::{
        Cleanup, Notifier, Outcome, PersistenceHub, StateClaim, SuspendedWait, SuspensionRequest,
    },
    minutes, seconds,
    store::{Change, Claim, Cursor, Expect, Filter, Health, Page, Queue, Record, Store},
    testkit::faults::{Moment, Operation},
    tool::{AwaitInput, tool_fn},
};
use serde_json::{Value, json};

use crate::support::{
    Counter, Counts, Order, Unplugged, World, approval_flow, completed, faulty, order, parked,
    suspended, yes,
};

#[derive(Clone, Default)]
struct Bot {
    hub: Arc<OnceLock<PersistenceHub>>,
    accepted: Counter,
}

#[async_trait::async_trait]
impl Notifier for Bot {
    async fn notify(&self, _: RunId, _: &FlowId, wait: &SuspendedWait) -> Result<(), ToolError> {
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
    let flow = Flow::input::<Order>("escalates")
        .catch(
            "c",
            |o| o.await_input(AwaitInput::<bool>::new("first").timeout(hours(1))),
            |e| e.await_input(AwaitInput::<bool>::new("boss").timeout(hours(1))),
        )
        .build()
        .unwrap();
    let s = suspended(hub.register(&flow).unwrap().run(order()).await);
    world.clock.advance(hours(2));
    hub.work_once().await.unwrap();
    let view = hub.get(s.run_id).await.unwrap();
    assert_eq!((bot.accepted.get(), view.status), (1, RunStatus::Completed), "{:?}", view.receipts);
}

#[tokio::test]
async fn a_run_that_was_poisoned_while_it_was_retried_can_be_retried() {
    let world = World::new();
    let (faults, dying) = faulty(&world);
    let calls = Counter::default();
    let c = calls.clone();
    let flow = Flow::input::<Order>("fails-once")
        .tool(tool_fn("t", move |_: Order| {
            let n = c.add();
            async move { if n == 1 { Err(ToolError::new("x")) } else { Ok(1_i64) } }
        }))
        .build()
        .unwrap();
    let hub = dying.builder().max_retries(0).build().await.unwrap();
    let handle = hub.register(&flow).unwrap();
    let error = handle.run(order()).await.unwrap_err();
    let run = error.run_id().unwrap();
    // The retry is accepted, and each process that works on it dies at its commit.
    faults.fail(Operation::Update, faults.calls(Operation::Update) + 2, Moment::Before);
    hub.retry(run).await.unwrap_err();
    faults.fail_all(Operation::Update, Moment::Before);
    for _ in 0..5 {
        world.clock.advance(hours(1));
        hub.work_once().await.unwrap();
    }
    faults.heal();
    world.clock.advance(hours(1));
    hub.work_once().await.unwrap();
    assert_eq!(hub.get(run).await.unwrap().status, RunStatus::Failed, "poisoned");
    let outcome = hub.retry(run).await;
    let view = hub.get(run).await.unwrap();
    assert!(
        matches!(outcome, Ok(Outcome::Completed(_))),
        "{outcome:?} {:?} due {:?}",
        view.status,
        view.due_at
    );
}

#[tokio::test]
async fn runs_that_are_skipped_are_not_poisoned() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    world.hub().await.answer(&key, yes()).await.unwrap();
    let wrong = world.hub().await;
    wrong
        .register(Flow::input::<Order>("purchase").map("id", |o: Order| o.id).build().unwrap())
        .unwrap();
    for _ in 0..6 {
        assert_eq!(wrong.work_once().await.unwrap().skipped, 1);
        world.clock.advance(hours(1));
    }
    hub.work_once().await.unwrap();
    let view = hub.get(suspension.run_id).await.unwrap();
    assert_eq!(view.status, RunStatus::Completed, "{:?}", view.ended);
}

#[tokio::test]
async fn a_tool_that_kills_its_workers_behind_a_commit_is_poisoned() {
    use dynamic_flow::{engine::runner::Durability, hub::HubOptions};
    let world = World::new();
    let (faults, cut) = faulty(&world);
    faults.fail_all(Operation::Renew, Moment::Before);
    let calls = Counter::default();
    let c = calls.clone();
    let flow = Flow::input::<Order>("kills")
        .await_input(AwaitInput::<bool>::new("ask").no_timeout())
        .tool(tool_fn("t", move |_: bool| {
            c.add();
            async {
                std::future::pending::<()>().await;
                Ok::<_, ToolError>(1_i64)
            }
        }))
        .build()
        .unwrap();
    let mut options = HubOptions::default();
    options.durability = Durability::EveryStep;
    options.retry_delay = Duration::ZERO;
    let hub = cut.builder().options(options).build().await.unwrap();
    let s = suspended(hub.register(&flow).unwrap().run(order()).await);
    hub.answer(s.only().unwrap().key().unwrap(), json!(true)).await.unwrap();
    for n in 1..=12 {
        let h = hub.clone();
        let worker = tokio::spawn(async move { h.work_once().await });
        for _ in 0..2000 {
            tokio::task::yield_now().await;
            if calls.get() == n {
                break;
            }
        }
        worker.abort();
        world.clock.advance(seconds(31));
    }
    assert_eq!((calls.get(), hub.get(s.run_id).await.unwrap().status), (6, RunStatus::Failed));
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

#[tokio::test]
async fn a_timeout_counts_from_when_its_step_begins() {
    let world = World::new();
    let flow = Flow::input::<Order>("late")
        .await_input(AwaitInput::<bool>::new("ask").no_timeout())
        .timeout("quick", minutes(5), |b| {
            b.tool(tool_fn("t", |_: bool| async { Ok::<_, ToolError>(1_i64) }))
        })
        .build()
        .unwrap();
    let hub = world.hub().await;
    let s = suspended(hub.register(&flow).unwrap().run(order()).await);
    world.hub().await.answer(s.only().unwrap().key().unwrap(), json!(true)).await.unwrap();
    world.clock.advance(hours(1));
    hub.work_once().await.unwrap();
    let view = hub.get(s.run_id).await.unwrap();
    assert_eq!(view.status, RunStatus::Completed, "{:?}", view.ended);
}

/// Makes one parking write, lets somebody reissue, and then says that it failed.
#[derive(Debug, Clone)]
struct Landed {
    inner: Arc<dyn Store>,
    armed: Arc<Mutex<bool>>,
    hub: Arc<OnceLock<PersistenceHub>>,
    key: Arc<Mutex<Option<SuspensionKey>>>,
}

#[async_trait::async_trait]
impl Store for Landed {
    async fn provision(&self) -> Result<()> {
        self.inner.provision().await
    }
    async fn insert(&self, record: Record) -> Result<()> {
        self.inner.insert(record).await
    }
    async fn get(&self, id: RunId) -> Result<Option<Record>> {
        self.inner.get(id).await
    }
    async fn update(&self, id: RunId, expect: Expect, change: Change) -> Result<Revision> {
        let parks = change.snapshot.is_some() && change.lease == Some(None);
        let done = self.inner.update(id, expect, change).await;
        if done.is_ok() && parks && std::mem::take(&mut *self.armed.lock().unwrap()) {
            let wait = self.inner.get(id).await?.unwrap().waits[0].id.clone();
            *self.key.lock().unwrap() =
                Some(self.hub.get().unwrap().reissue(id, &wait).await.unwrap());
            return Err(
                dynamic_flow::Error::new(ErrorKind::StorageError, "the line was cut").retryable()
            );
        }
        done
    }
    async fn delete(&self, id: RunId, expect: Expect) -> Result<()> {
        self.inner.delete(id, expect).await
    }
    async fn claim(&self, claim: Claim) -> Result<Vec<Record>> {
        self.inner.claim(claim).await
    }
    async fn renew(&self, id: RunId, epoch: Epoch, until: Timestamp) -> Result<()> {
        self.inner.renew(id, epoch, until).await
    }
    async fn query(&self, f: &Filter, a: Option<Cursor>, l: usize) -> Result<Page> {
        self.inner.query(f, a, l).await
    }
    async fn health(&self) -> Result<Health> {
        self.inner.health().await
    }
}

#[tokio::test]
async fn what_is_accepted_behind_a_write_whose_reply_got_lost_is_kept() {
    let world = World::new();
    let landed = Landed {
        inner: world.store.clone(),
        armed: Arc::default(),
        hub: Arc::default(),
        key: Arc::default(),
    };
    landed.hub.set(world.hub().await).ok();
    let cut = World { store: Arc::new(landed.clone()), ..world.clone() };
    let hub = cut.hub().await;
    let flow = Flow::input::<Order>("two")
        .await_input(AwaitInput::<bool>::new("one").no_timeout())
        .await_input(AwaitInput::<bool>::new("two").no_timeout())
        .build()
        .unwrap();
    let s = suspended(hub.register(&flow).unwrap().run(order()).await);
    *landed.armed.lock().unwrap() = true;
    suspended(hub.resume(s.only().unwrap().key().unwrap(), json!(true)).await);
    let key = landed.key.lock().unwrap().clone().unwrap();
    let asked = hub.question(&key).await;
    assert!(asked.is_ok(), "{asked:?}");
}

#[tokio::test]
async fn an_answer_that_can_not_be_stored_is_refused() {
    let world = World::new();
    let hub = world.hub().await;
    let flow = Flow::input::<Order>("deep")
        .keep(|o| {
            o.keep(|o| {
                o.await_input(AwaitInput::<Value>::new("one").no_timeout()).sleep("s", hours(1))
            })
        })
        .build()
        .unwrap();
    let handle = hub.register(&flow).unwrap();
    for depth in 90..127 {
        let s = suspended(handle.run(order()).await);
        let key = s.only().unwrap().key().unwrap();
        let deep = (0..depth).fold(json!(1), |v, _| json!([v]));
        if let Err(error) = hub.resume(key, deep).await {
            let open = hub.question(key).await;
            let view = hub.get(s.run_id).await.unwrap();
            assert!(
                open.is_ok(),
                "depth {depth}: {error}; yet accepted: {:?}, status {}",
                open.err(),
                view.status
            );
        }
    }
}

#[tokio::test]
async fn cleanup_keeps_a_crashed_run_with_an_accepted_answer() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, key) = parked(&world, &counts).await;
    let (faults, dying) = faulty(&world);
    let hub = dying.builder().max_retries(0).build().await.unwrap();
    hub.register(approval_flow(&counts)).unwrap();
    faults.fail(Operation::Update, 2, Moment::Before);
    hub.resume(&key, yes()).await.unwrap_err();
    world.clock.advance(hours(1));
    let now = at_now(&world);
    let cleaned = hub.cleanup(&Cleanup::new().older_than(now)).await.unwrap();
    assert_eq!(cleaned.deleted_count, 0, "{suspension:?}");
}

fn at_now(world: &World) -> Timestamp {
    use dynamic_flow::Clock;
    world.clock.now()
}

#[tokio::test]
async fn cleanup_of_expired_leaves_what_a_catch_will_handle() {
    let world = World::new();
    let hub = world.hub().await;
    let flow = Flow::input::<Order>("escalates")
        .catch(
            "c",
            |o| o.await_input(AwaitInput::<bool>::new("first").timeout(hours(1))),
            |e| e.await_input(AwaitInput::<bool>::new("boss").timeout(hours(1))),
        )
        .build()
        .unwrap();
    suspended(hub.register(&flow).unwrap().run(order()).await);
    world.clock.advance(hours(1));
    assert_eq!(hub.cleanup(&Cleanup::new().expired_only()).await.unwrap().deleted_count, 0);
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

fn request() -> SuspensionRequest {
    SuspensionRequest::new("ask", Schema::any()).timeout(hours(24))
}

#[tokio::test]
async fn states_of_another_type_do_not_block_claims() {
    let world = World::new();
    let hub = world.hub().await;
    let a = hub.suspend(&"text", request()).await.unwrap();
    let b = hub.suspend(&7_i64, request()).await.unwrap();
    hub.answer(&a.key, yes()).await.unwrap();
    hub.answer(&b.key, yes()).await.unwrap();
    let mine = hub.claim_states::<i64>(10).await;
    assert!(mine.as_ref().is_ok_and(|c| c.len() == 1), "{mine:?}");
}

#[tokio::test]
async fn a_retry_wins_over_a_worker_that_is_about_to_purge() {
    let world = World::new();
    let calls = Counter::default();
    let c = calls.clone();
    let flow = Flow::input::<Order>("fails-once")
        .tool(tool_fn("t", move |_: Order| {
            let n = c.add();
            async move { if n == 1 { Err(ToolError::new("x")) } else { Ok(1_i64) } }
        }))
        .build()
        .unwrap();
    let hub = world.hub().await;
    let run = hub.register(&flow).unwrap().run(order()).await.unwrap_err().run_id().unwrap();
    world.clock.advance(hours(24 * 7));
    let claim = Claim {
        now: at_now(&world),
        queues: vec![Queue::purge()],
        owner: "w".into(),
        lease: seconds(30),
        limit: 1,
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
async fn a_claim_that_is_completed_wins_over_a_cancellation() {
    let world = World::new();
    let hub = world.hub().await;
    let a = hub.suspend(&1_i64, request()).await.unwrap();
    let claim: StateClaim<i64> = hub.resume_state(&a.key, yes()).await.unwrap();
    assert_eq!(hub.cancel(a.run_id, None, None).await.unwrap(), RunStatus::Running);
    claim.complete().await.unwrap();
    world.clock.advance(minutes(1));
    assert!(hub.claim_states::<i64>(1).await.unwrap().is_empty());
    let view = hub.get(a.run_id).await.unwrap();
    assert_eq!((view.status, view.ended), (RunStatus::Completed, None));
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
async fn a_state_that_grew_too_large_says_so_and_calls_no_tool_again() {
    let world = World::new();
    let hub = world.builder().max_state_size(20_000).build().await.unwrap();
    let calls = Counter::default();
    let c = calls.clone();
    let flow = Flow::input::<Order>("grows")
        .await_input(AwaitInput::<bool>::new("ask").no_timeout())
        .tool(tool_fn("t", move |_: bool| {
            c.add();
            async { Ok::<_, ToolError>("x".repeat(30_000)) }
        }))
        .sleep("s", hours(1))
        .build()
        .unwrap();
    let s = suspended(hub.register(&flow).unwrap().run(order()).await);
    let error = hub.resume(s.only().unwrap().key().unwrap(), json!(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StateTooLarge);
    for _ in 0..10 {
        world.clock.advance(hours(1));
        hub.work_once().await.unwrap();
    }
    let view = hub.get(s.run_id).await.unwrap();
    assert_eq!(calls.get(), 1, "{:?}", view.ended);
}

#[tokio::test]
async fn a_lower_limit_does_not_stop_sealing_anew() {
    use dynamic_flow::codec::{EncryptionKey, Keyring};
    let (world, counts) = (World::new(), Counts::default());
    parked(&world, &counts).await;
    let keys =
        Keyring::new(EncryptionKey::generate().unwrap()).with_older(world.key.parse().unwrap());
    let hub = world.builder().keyring(keys).max_state_size(100).build().await.unwrap();
    let report = hub.reseal(None, 10).await;
    assert!(report.is_ok(), "{report:?}");
}

#[tokio::test]
async fn a_failure_that_calls_itself_poisoned_can_be_retried() {
    let world = World::new();
    let calls = Counter::default();
    let c = calls.clone();
    let flow = Flow::input::<Order>("f").tool(tool_fn("t", move |_: Order| {
        let n = c.add();
        async move { if n == 1 { Err(ToolError::new("x").code("poisoned")) } else { Ok(1_i64) } }
    })).build().unwrap();
    let hub = world.hub().await;
    let run = hub.register(&flow).unwrap().run(order()).await.unwrap_err().run_id().unwrap();
    let outcome = hub.retry(run).await;
    assert!(matches!(outcome, Ok(Outcome::Completed(_))), "{outcome:?}");
}

#[tokio::test]
async fn times_below_a_millisecond_are_refused_when_a_flow_is_built() {
    let short = Duration::from_micros(500);
    let flow = Flow::input::<Order>("short")
        .timeout("quick", short, |b| b.sleep("s", hours(1)))
        .sleep("nap", short)
        .build();
    assert_eq!(flow.unwrap_err().findings().len(), 2);
}

#[tokio::test]
async fn an_overdue_wait_that_an_upgrade_left_behind_is_no_hot_loop() {
    let world = World::new();
    let old = Flow::input::<Order>("f")
        .await_input(AwaitInput::<bool>::new("ask").timeout(hours(1)))
        .sleep("s", hours(9))
        .build()
        .unwrap();
    let hub = world.hub().await;
    let s = suspended(hub.register(&old).unwrap().run(order()).await);
    let new = Flow::input::<Order>("f")
        .sleep("s", hours(9))
        .map("m", |_: Order| true)
        .build()
        .unwrap()
        .upgrade(old.fingerprint().unwrap().clone(), |state| {
            state.root.step = Some("s".into());
            state.root.state = dynamic_flow::engine::StepState::Ready;
            state.flow.steps[0].path = "s".into();
            state.flow.steps[0].kind = "sleep".into();
            state.flow.steps[0].tool_id = None;
            Ok(())
        });
    let hub = world.hub().await;
    hub.register(&new).unwrap();
    world.clock.advance(hours(2));
    let worked = tokio::time::timeout(Duration::from_secs(5), hub.work_once()).await;
    let record = world.store.get(s.run_id).await.unwrap().unwrap();
    assert!(worked.is_ok(), "revision {:?}", record.revision);
}
