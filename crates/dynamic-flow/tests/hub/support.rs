//! Flows and hubs for the tests.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dynamic_flow::{
    Clock as _, Flow, Result, RunId, RunStatus, SuspensionKey, Timestamp, ToolError,
    codec::{Binding, Codec, EncryptionKey, Keyring, Part},
    hours,
    hub::{HubBuilder, Notice, Notifier, Outcome, PersistenceHub, Suspension},
    store::{Change, Expect, Lease, MemoryStore, Store},
    testkit::{
        ManualClock,
        faults::{Faults, Moment, Operation},
    },
    tool::{AwaitInput, tool_fn},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) total: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Approval {
    pub(crate) approved: bool,
    pub(crate) by: String,
}

/// Counts how often something was done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter(Arc<AtomicUsize>);

impl Counter {
    pub(crate) fn add(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// How often the tools on both sides of the wait ran.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) before: Counter,
    pub(crate) after: Counter,
}

/// A store, a clock, and hubs over them, each like a process of its own.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: ManualClock,
    pub(crate) key: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new()))
    }

    pub(crate) fn over(store: Arc<dyn Store>) -> Self {
        let clock = ManualClock::new(at("2026-11-23T08:00:00Z"));
        Self { store, clock, key: EncryptionKey::generate().unwrap().expose().to_string() }
    }

    pub(crate) fn builder(&self) -> HubBuilder {
        PersistenceHub::builder(self.store.clone())
            .keyring(Keyring::new(self.key.parse().unwrap()))
            .clock(self.clock.clone())
            .retry_delay(Duration::ZERO)
    }

    pub(crate) async fn hub(&self) -> PersistenceHub {
        self.builder().build().await.unwrap()
    }
}

/// A hub of a process that has that version of a flow.
pub(crate) async fn knowing(world: &World, flow: &Flow) -> PersistenceHub {
    let hub = world.hub().await;
    hub.register(flow).unwrap();
    hub
}

/// The same world seen through a store that fails on demand.
pub(crate) fn faulty(world: &World) -> (Faults, World) {
    let faults = Faults::over(world.store.clone());
    (faults.clone(), World { store: Arc::new(faults), ..world.clone() })
}

/// How many inserts and updates a store was asked for.
pub(crate) fn writes(faults: &Faults) -> u64 {
    faults.calls(Operation::Insert) + faults.calls(Operation::Update)
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn order() -> Order {
    Order { id: "PO-17".into(), total: 250 }
}

pub(crate) fn yes() -> Value {
    json!({ "approved": true, "by": "jane" })
}

pub(crate) fn no() -> Value {
    json!({ "approved": false, "by": "jane" })
}

pub(crate) fn question() -> AwaitInput<Approval> {
    AwaitInput::<Approval>::new("approval").timeout(dynamic_flow::hours(4))
}

/// Two tools, a wait, a filter, and a tool that gives who approved what.
pub(crate) fn approval_flow(counts: &Counts) -> Flow<Order, String> {
    approval_flow_with(counts, question())
}

pub(crate) fn approval_flow_with(
    counts: &Counts,
    question: AwaitInput<Approval>,
) -> Flow<Order, String> {
    let (before, after) = (counts.before.clone(), counts.after.clone());
    Flow::input::<Order>("purchase")
        .tool(tool_fn("validate", move |order: Order| {
            before.add();
            async move { Ok::<_, ToolError>(order) }
        }))
        .keep(|order| order.await_input(question))
        .filter("approved", |(_, approval)| approval.approved)
        .tool(tool_fn("process", move |(order, approval): (Order, Approval)| {
            after.add();
            async move { Ok::<_, ToolError>(format!("{} by {}", order.id, approval.by)) }
        }))
        .build()
        .unwrap()
}

/// The approval flow, where the system approves what nobody answers in time.
pub(crate) fn defaulting_flow(counts: &Counts) -> Flow<Order, String> {
    let default = Approval { approved: true, by: "system".into() };
    approval_flow_with(counts, question().default_value(default))
}

pub(crate) fn suspended<O: std::fmt::Debug>(outcome: Result<Outcome<O>>) -> Suspension {
    match outcome {
        Ok(Outcome::Suspended(suspension)) => suspension,
        other => panic!("not suspended: {other:?}"),
    }
}

pub(crate) fn completed<O: std::fmt::Debug>(outcome: Result<Outcome<O>>) -> O {
    match outcome {
        Ok(Outcome::Completed(completion)) => completion.output,
        other => panic!("not completed: {other:?}"),
    }
}

/// Runs the approval flow up to its wait.
pub(crate) async fn parked(
    world: &World,
    counts: &Counts,
) -> (PersistenceHub, Suspension, SuspensionKey) {
    parked_in(world, approval_flow(counts)).await
}

/// Runs a flow up to its first wait.
pub(crate) async fn parked_in(
    world: &World,
    flow: Flow<Order, String>,
) -> (PersistenceHub, Suspension, SuspensionKey) {
    let hub = world.hub().await;
    let handle = hub.register(flow).unwrap();
    let suspension = suspended(handle.run(order()).await);
    let key = suspension.only().unwrap().key().unwrap().clone();
    (hub, suspension, key)
}

/// Gives a run to a holder elsewhere, of whom nothing more is heard.
pub(crate) async fn held(world: &World, run: RunId, lease: Duration) {
    let (now, record) = (world.clock.now(), world.store.get(run).await.unwrap().unwrap());
    let until = now.after(lease);
    let change = Change {
        epoch: Some(record.epoch.next()),
        // One that has ended is held by a worker that is about to remove it.
        status: (!record.status.is_final()).then_some(RunStatus::Running),
        due_at: Some(Some(until)),
        lease: Some(Some(Lease { owner: "elsewhere".into(), until })),
        ..Change::at(now)
    };
    world.store.update(run, Expect::Any, change).await.unwrap();
}

/// Changes the sealed state of a run, as only a bug or another version could: the seal is right.
pub(crate) async fn restate<T: Serialize + DeserializeOwned>(
    world: &World,
    run: RunId,
    change: impl FnOnce(&mut T),
) {
    let record = world.store.get(run).await.unwrap().unwrap();
    let binding = Binding { run, flow: &record.flow_id, part: Part::Snapshot };
    let keyring = Keyring::new(world.key.parse().unwrap());
    let codec = Codec::builder().keyring(keyring).build().unwrap();
    let (mut state, sequence) = codec.open::<T>(&record.snapshot, binding).unwrap();
    change(&mut state);
    let snapshot = Some(codec.seal(&state, sequence, binding).unwrap());
    let change = Change { snapshot, ..Change::at(world.clock.now()) };
    world.store.update(run, Expect::Any, change).await.unwrap();
}

/// Makes it look as if one worker after the other had died over a run.
pub(crate) async fn worn(world: &World, run: RunId) {
    let change = Change { attempts: Some(6), ..Change::at(world.clock.now()) };
    world.store.update(run, Expect::Any, change).await.unwrap();
}

/// Begins something in a hub of its own that knows the approval flow, and does something else before
/// its first call of that kind comes to the store.
pub(crate) async fn overlap<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    world: &World,
    operation: Operation,
    begin: impl FnOnce(PersistenceHub) -> F,
    meanwhile: impl Future,
) -> T {
    let (faults, slow) = faulty(world);
    let hub = slow.hub().await;
    hub.register(approval_flow(&Counts::default())).unwrap();
    let pause = faults.pause_next(operation, Moment::Before);
    let begun = tokio::spawn(begin(hub));
    pause.reached().await;
    meanwhile.await;
    pause.release();
    begun.await.unwrap()
}

/// A notifier that reaches nobody.
pub(crate) struct Unplugged;

#[async_trait::async_trait]
impl Notifier for Unplugged {
    async fn notify(&self, _: Notice) -> Result<(), ToolError> {
        Err(ToolError::new("no line"))
    }
}

/// A flow that sleeps for an hour, and gives the order's id.
pub(crate) fn sleeper() -> Flow<Order, String> {
    Flow::input::<Order>("sleeper")
        .sleep("nap", hours(1))
        .map("id", |order: Order| order.id)
        .build()
        .unwrap()
}

/// A flow whose tool fails when it is called first.
pub(crate) fn fails_once() -> Flow<Order, i64> {
    let calls = Counter::default();
    Flow::input::<Order>("fails-once")
        .tool(tool_fn("work", move |_: Order| {
            let first = calls.add() == 1;
            async move { if first { Err(ToolError::new("not yet")) } else { Ok(1_i64) } }
        }))
        .build()
        .unwrap()
}

/// A flow that fails once, and its run that did.
pub(crate) async fn failed(world: &World) -> (PersistenceHub, Flow<Order, i64>, RunId) {
    let (hub, flow) = (world.hub().await, fails_once());
    let error = hub.register(&flow).unwrap().run(order()).await.unwrap_err();
    (hub, flow, error.run_id().unwrap())
}

/// A flow that asks somebody else where nobody answers within an hour.
pub(crate) fn escalates() -> Flow<Order, bool> {
    let ask = |id: &str| AwaitInput::<bool>::new(id).timeout(hours(1));
    Flow::input::<Order>("escalates")
        .catch("c", |o| o.await_input(ask("first")), |e| e.await_input(ask("boss")))
        .build()
        .unwrap()
}
