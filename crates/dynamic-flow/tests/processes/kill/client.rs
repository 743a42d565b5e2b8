//! The process that is killed, and the one that comes after it.

use std::{
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
    Answer, Epoch, Flow, Result, Revision, RunId, RunStatus, SuspensionKey, Timestamp, ToolError,
    days,
    hub::{Durability, HubOptions, Outcome, PersistenceHub, Suspension},
    seconds,
    store::{Change, Claim, Cursor, Expect, Filter, Health, Page, Record, Store},
    testkit::ManualClock,
    tool::{AwaitInput, FnTool},
};
use serde_json::json;

use super::promises::{Acknowledged, Done};
use crate::support::{append, folder, hub, lines, note, say, setting, store};

const START: Timestamp = Timestamp::from_millis(1_795_420_800_000);
const LEASE: Duration = seconds(30);

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

    async fn exists(&self) -> Result<bool> {
        self.call("exists", self.store.exists()).await
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
        FnTool::with_context(id, move |text: String, context| {
            let client = client.clone();
            async move {
                client.note(&Done::Began {
                    life: client.life,
                    tool: id.into(),
                    run: context.run_id,
                    at: context.position.to_string(),
                    key: context.idempotency_key,
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
            }
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

/// One life of the client.
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
