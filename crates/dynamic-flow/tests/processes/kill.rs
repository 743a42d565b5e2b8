//! A process is killed before and after each call of its store, and between every two steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use dynamic_flow::{
    Answer, Epoch, Flow, Receipt, Result, Revision, RunId, SuspensionKey, Timestamp, ToolContext,
    ToolError, WaitId, days,
    engine::{RunStatus, runner::Durability},
    hub::{HubOptions, Outcome, PersistenceHub, Suspension},
    seconds,
    store::{Change, Claim, Cursor, Expect, Filter, Health, Page, Record, Store},
    testkit::ManualClock,
    tool::{AwaitInput, FnTool},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{
    Ground, Place, Process, append, folder, hub, lines, note, on_each_store, say, setting, store,
};

on_each_store!(
    nothing_acknowledged_is_lost_and_nothing_committed_runs_again,
    nothing_is_lost_either_when_each_step_is_committed,
    nothing_is_lost_when_the_recovery_is_killed_as_well,
);

const START: Timestamp = Timestamp::from_millis(1_795_420_800_000);
const LEASE: Duration = seconds(30);
const OUTPUT: &str = "order check weigh one book pay mail two ship";

/// What the process does, in the order in which it does it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
enum Done {
    /// A tool began.
    Began { life: u32, tool: String, run: RunId, at: String, key: String },
    /// A tool is through; what it gave is not committed yet.
    Through { life: u32, tool: String, run: RunId },
    /// The store took a snapshot.
    Committed { life: u32, status: Option<RunStatus> },
}

/// What the process told the world, and may not be taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
enum Acknowledged {
    /// A key was given to whoever answers.
    Key { run: RunId, wait: WaitId, key: String },
    /// An answer was accepted.
    Answer { receipt: Receipt },
    /// The run was seen to its end.
    End { output: serde_json::Value, receipts: Vec<Receipt> },
}

/// Counts the points at which the process may be killed, and stops at one for the killer.
#[derive(Debug, Clone)]
struct Points {
    passed: Arc<AtomicU64>,
    last: Option<u64>,
}

impl Points {
    fn pass(&self, label: &str) {
        if Some(self.passed.fetch_add(1, Ordering::SeqCst)) == self.last {
            say(label);
            loop {
                thread::park();
            }
        }
    }
}

/// All that a client and its tools need.
#[derive(Debug, Clone)]
struct Client {
    life: u32,
    points: Points,
    log: Arc<File>,
    acknowledged: Arc<File>,
    clock: ManualClock,
    renewals: Arc<AtomicU64>,
}

/// A store that passes a point before and after each call.
#[derive(Debug)]
struct Deadly {
    store: Arc<dyn Store>,
    client: Client,
}

impl Deadly {
    async fn call<T>(&self, name: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.client.points.pass(&format!("before {name}"));
        let result = call.await;
        self.client.points.pass(&format!("after {name}"));
        result
    }

    /// Notes that a snapshot is stored, before anything else can happen.
    async fn commit<T>(
        &self,
        status: Option<RunStatus>,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let written = call.await;
        if written.is_ok() {
            note(&self.client.log, &Done::Committed { life: self.client.life, status });
        }
        written
    }
}

#[async_trait]
impl Store for Deadly {
    async fn provision(&self) -> Result<()> {
        self.call("provision", self.store.provision()).await
    }

    async fn insert(&self, record: Record) -> Result<()> {
        let status = Some(record.status);
        self.call("insert", self.commit(status, self.store.insert(record))).await
    }

    async fn get(&self, id: RunId) -> Result<Option<Record>> {
        self.call("get", self.store.get(id)).await
    }

    async fn update(&self, id: RunId, expect: Expect, change: Change) -> Result<Revision> {
        let status = change.status;
        match change.snapshot {
            Some(_) => {
                let update = self.store.update(id, expect, change);
                self.call("commit", self.commit(status, update)).await
            }
            None => self.call("update", self.store.update(id, expect, change)).await,
        }
    }

    async fn delete(&self, id: RunId, expect: Expect) -> Result<()> {
        self.call("delete", self.store.delete(id, expect)).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Record>> {
        self.call("claim", self.store.claim(claim)).await
    }

    async fn renew(&self, id: RunId, epoch: Epoch, until: Timestamp) -> Result<()> {
        let renewed = self.call("renew", self.store.renew(id, epoch, until)).await;
        self.client.renewals.fetch_add(1, Ordering::SeqCst);
        renewed
    }

    async fn query(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page> {
        self.call("query", self.store.query(filter, after, limit)).await
    }

    async fn health(&self) -> Result<Health> {
        self.store.health().await
    }
}

impl Client {
    fn tool(&self, id: &'static str) -> FnTool<String, String> {
        let client = self.clone();
        FnTool::with_context(id, move |text: String, context: &ToolContext| {
            let client = client.clone();
            Box::pin(async move {
                client.note(&Done::Began {
                    life: client.life,
                    tool: id.into(),
                    run: context.run_id,
                    at: context.position.to_string(),
                    key: context.idempotency_key.clone(),
                });
                client.points.pass(&format!("in {id}, before its work"));
                if id == "ship" {
                    client.outlast_a_renewal().await;
                }
                client.note(&Done::Through {
                    life: client.life,
                    tool: id.into(),
                    run: context.run_id,
                });
                client.points.pass(&format!("in {id}, after its work"));
                Ok::<_, ToolError>(format!("{text} {id}"))
            })
        })
    }

    fn note(&self, done: &Done) {
        note(&self.log, done);
    }

    /// Works for so long that the lease is renewed.
    async fn outlast_a_renewal(&self) {
        let before = self.renewals.load(Ordering::SeqCst);
        while self.renewals.load(Ordering::SeqCst) == before {
            self.clock.advance(LEASE / 3);
            // Who renews is another thread, and may not have looked at the clock yet.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn acknowledge(&self, what: &Acknowledged) {
        self.points.pass("before it is acknowledged");
        note(&self.acknowledged, what);
        self.acknowledged.sync_data().unwrap();
        self.points.pass("after it is acknowledged");
    }

    fn flow(&self) -> Flow<String, String> {
        let ask = |id| AwaitInput::<String>::new(id).no_timeout();
        let join = |(text, answer)| format!("{text} {answer}");
        Flow::input::<String>("killed")
            .tool(self.tool("check"))
            .tool(self.tool("weigh"))
            .keep(|text| text.await_input(ask("first")))
            .map("join-first", join)
            .tool(self.tool("book"))
            .tool(self.tool("pay").effect())
            .tool(self.tool("mail"))
            .keep(|text| text.await_input(ask("second")))
            .map("join-second", join)
            .tool(self.tool("ship"))
            .build()
            .unwrap()
    }

    /// Acknowledges the keys that a call brought.
    fn acknowledge_keys(&self, suspension: &Suspension) {
        for wait in &suspension.waits {
            if let Some(key) = &wait.key {
                let (run, wait) = (suspension.run_id, wait.id.clone());
                self.acknowledge(&Acknowledged::Key { run, wait, key: key.expose().to_string() });
            }
        }
    }

    /// Brings one run to its end and has it removed, wherever earlier lives left it.
    async fn live(&self, options: HubOptions) {
        let store = Arc::new(Deadly { store: store(), client: self.clone() });
        let hub = hub(store).options(options).clock(self.clock.clone()).build().await.unwrap();
        let handle = hub.register(self.flow()).unwrap();
        hub.work_once().await.unwrap();
        let before: Vec<Acknowledged> = lines(&folder().join("acknowledged"));
        if !before.iter().any(|what| matches!(what, Acknowledged::End { .. })) {
            let run = match self.find(&hub, &before).await {
                Some(run) => run,
                None => match handle.run("order".into()).await.unwrap() {
                    Outcome::Suspended(suspension) => {
                        self.acknowledge_keys(&suspension);
                        suspension.run_id
                    }
                    other => panic!("{other:?}"),
                },
            };
            while !self.step(&hub, run).await {}
        }
        self.clock.advance(days(8));
        hub.work_once().await.unwrap();
        let left = hub.query(&Filter::default(), None, 10).await.unwrap().items;
        assert!(left.is_empty(), "it is removed after its retention: {left:?}");
    }

    /// The run that an earlier life began. One whose key was acknowledged must be there.
    async fn find(&self, hub: &PersistenceHub, before: &[Acknowledged]) -> Option<RunId> {
        let page = hub.query(&Filter::default(), None, 10).await.unwrap();
        assert!(page.items.len() <= 1, "{page:?}");
        let run = page.readable().next().map(|run| run.id);
        for what in before {
            if let Acknowledged::Key { run: acknowledged, .. } = what {
                assert_eq!(run, Some(*acknowledged), "a run is lost whose key was given away");
            }
        }
        run
    }

    /// Takes the run to its next wait; gives whether it has come to its end.
    async fn step(&self, hub: &PersistenceHub, run: RunId) -> bool {
        let view = hub.get(run).await.unwrap();
        let acknowledged: Vec<Acknowledged> = lines(&folder().join("acknowledged"));
        for what in &acknowledged {
            if let Acknowledged::Answer { receipt } = what {
                assert!(view.receipts.contains(receipt), "lost: {receipt:?} of {view:?}");
            }
        }
        if view.status == RunStatus::Completed {
            let (output, receipts) = (view.output.unwrap(), view.receipts);
            self.acknowledge(&Acknowledged::End { output, receipts });
            return true;
        }
        assert_eq!(view.status, RunStatus::Waiting, "recovery is automatic: {view:?}");
        let [wait] = &view.waits[..] else { panic!("{view:?}") };
        let known = acknowledged.iter().find_map(|what| match what {
            Acknowledged::Key { wait: of, key, .. } if *of == wait.id => Some(key),
            _ => None,
        });
        let key: SuspensionKey = match known {
            Some(key) => key.parse().unwrap(),
            None => {
                let key = hub.reissue(run, &wait.id).await.unwrap();
                let (wait, text) = (wait.id.clone(), key.expose().to_string());
                self.acknowledge(&Acknowledged::Key { run, wait, key: text });
                key
            }
        };
        let outcome = match wait.tool_id.as_str() {
            "first" => {
                let answer = Answer::new(json!("one")).by("jane").request_id("r1");
                let accepted = hub.answer(&key, answer).await.unwrap();
                self.acknowledge(&Acknowledged::Answer { receipt: accepted.receipt });
                hub.drive(run).await.unwrap()
            }
            "second" => {
                let answer = Answer::new(json!("two")).by("joe").request_id("r2");
                hub.resume(&key, answer).await.unwrap()
            }
            other => panic!("{other}"),
        };
        if let Outcome::Suspended(suspension) = outcome {
            self.acknowledge_keys(&suspension);
        }
        false
    }
}

/// The process that is killed, and the one that comes after it.
pub(crate) async fn client() {
    let life = setting("LIFE").unwrap();
    let clock = ManualClock::new(START.after(dynamic_flow::hours(1) * life));
    let client = Client {
        life,
        points: Points { passed: Arc::default(), last: setting("LAST_POINT") },
        log: Arc::new(append("log")),
        acknowledged: Arc::new(append("acknowledged")),
        clock,
        renewals: Arc::default(),
    };
    let mut options = HubOptions::default();
    options.retry_delay = Duration::ZERO;
    options.lease = LEASE;
    if setting::<bool>("EVERY_STEP") == Some(true) {
        options.durability = Durability::EveryStep;
    }
    client.live(options).await;
}

/// Lives that end at these points, and one that ends well; gives where each stood when it was
/// killed, as far as it came there.
fn lives(place: &Place, every_step: bool, points: &[u64]) -> Vec<Option<String>> {
    let life = |life: usize, last: Option<u64>| {
        let mut settings = vec![("LIFE", life.to_string()), ("EVERY_STEP", every_step.to_string())];
        settings.extend(last.map(|last| ("LAST_POINT", last.to_string())));
        let mut process = Process::start("client", place, &settings);
        let stands = process.hear();
        match &stands {
            Some(_) => process.kill(),
            None => process.end(),
        }
        stands
    };
    let mut stood: Vec<_> =
        points.iter().enumerate().map(|(n, point)| life(n, Some(*point))).collect();
    assert_eq!(life(points.len(), None), None);
    stood.push(None);
    stood
}

/// Holds what was done in all lives together against what is promised.
fn check(place: &Place, every_step: bool) {
    let log: Vec<Done> = place.lines("log");
    // Whether what a tool gave before a point of the log was committed by then, by who called it.
    let committed = |tool: &str, run: RunId, before: usize| {
        let through = |done: &Done| match done {
            Done::Through { tool: t, run: r, life } if t == tool && *r == run => Some(*life),
            _ => None,
        };
        (0..before).any(|index| {
            through(&log[index]).is_some_and(|of| {
                log[index..before]
                    .iter()
                    .any(|done| matches!(done, Done::Committed { life, .. } if *life == of))
            })
        })
    };
    let mut calls: BTreeMap<(RunId, &str), (u32, &str, &str)> = BTreeMap::new();
    for (index, done) in log.iter().enumerate() {
        let Done::Began { life, tool, run, at, key } = done else { continue };
        if let Some((last, same_at, same_key)) = calls.get(&(*run, tool)) {
            assert_ne!(life, last, "{tool} ran twice in one life: {log:?}");
            assert_eq!((at, key), (&(*same_at).to_owned(), &(*same_key).to_owned()), "{log:?}");
            assert!(!committed(tool, *run, index), "{tool} ran again: {log:?}");
        }
        calls.insert((*run, tool), (*life, at, key));
        let needs = match tool.as_str() {
            "weigh" if every_step => Some("check"),
            "pay" => Some("book"),
            "mail" => Some("pay"),
            _ => None,
        };
        if let Some(earlier) = needs {
            assert!(committed(earlier, *run, index), "{earlier} is not committed: {log:?}");
        }
    }
    let keys: BTreeSet<_> = calls.values().map(|(_, _, key)| key).collect();
    assert_eq!(keys.len(), calls.len(), "each call has a key of its own: {calls:?}");

    let runs: BTreeSet<RunId> = calls.keys().map(|(run, _)| *run).collect();
    for lost in runs.iter().rev().skip(1) {
        assert!(!every_step, "a run is committed before its first tool: {log:?}");
        let mut tools = calls.keys().filter(|(run, _)| run == lost);
        let before_the_first_wait = tools.all(|(_, tool)| ["check", "weigh"].contains(tool));
        assert!(before_the_first_wait, "a run was left behind: {log:?}");
    }
    let ends = log
        .iter()
        .filter(|done| matches!(done, Done::Committed { status: Some(RunStatus::Completed), .. }));
    assert_eq!(ends.count(), 1, "{log:?}");

    let acknowledged: Vec<Acknowledged> = place.lines("acknowledged");
    let mut ended = 0;
    for what in &acknowledged {
        match what {
            Acknowledged::Key { run, .. } => assert_eq!(Some(run), runs.last(), "{acknowledged:?}"),
            Acknowledged::Answer { .. } => {}
            Acknowledged::End { output, receipts } => {
                ended += 1;
                assert_eq!(*output, json!(OUTPUT));
                let by: Vec<_> = receipts.iter().map(|r| r.by.as_deref().unwrap()).collect();
                assert_eq!(by, ["jane", "joe"], "each wait took one answer");
                for what in &acknowledged {
                    if let Acknowledged::Answer { receipt } = what {
                        assert!(receipts.contains(receipt), "{receipt:?} of {receipts:?}");
                    }
                }
            }
        }
    }
    assert_eq!(ended, 1, "{acknowledged:?}");
}

/// Kills a process at each point that it passes, one after the other, or at each that many; gives what
/// the points were.
fn at_each_point(ground: &Ground, every_step: bool, step: usize) -> Vec<String> {
    let mut points = Vec::new();
    for point in (0..).step_by(step) {
        let place = Place::new(ground);
        let stood = lives(&place, every_step, &[point]);
        check(&place, every_step);
        match &stood[0] {
            Some(label) => points.push(label.clone()),
            None => break,
        }
    }
    points
}

fn nothing_acknowledged_is_lost_and_nothing_committed_runs_again(ground: &Ground) {
    let points = at_each_point(ground, false, 1);
    let calls =
        ["provision", "insert", "get", "update", "commit", "claim", "renew", "query", "delete"];
    for call in calls {
        for side in ["before", "after"] {
            let label = format!("{side} {call}");
            assert!(points.contains(&label), "it was never killed {label}: {points:?}");
        }
    }
    for tool in ["check", "weigh", "book", "pay", "mail", "ship"] {
        for side in ["before", "after"] {
            let label = format!("in {tool}, {side} its work");
            assert_eq!(points.iter().filter(|point| **point == label).count(), 1, "{points:?}");
        }
    }
}

fn nothing_is_lost_either_when_each_step_is_committed(ground: &Ground) {
    let step = ground.step();
    let points = at_each_point(ground, true, step);
    assert!(points.len() > 50 / step, "{points:?}");
}

fn nothing_is_lost_when_the_recovery_is_killed_as_well(ground: &Ground) {
    let mut dice = 7_u64;
    for first in (0..).step_by(ground.step()) {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let place = Place::new(ground);
        let stood = lives(&place, false, &[first, (dice >> 33) % 50, (dice >> 40) % 50]);
        check(&place, false);
        if stood[0].is_none() {
            break;
        }
    }
}
