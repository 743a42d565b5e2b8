//! A world in which everything depends on a seed: what tools come to and when, who answers, and
//! where the process dies. Each turn is checked for what must hold after every turn.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use dynamic_flow::{
    Answer, Cancellation, Deadline, RunId, RunStatus, Schema, Timestamp, ToolError, WaitId,
    expr::{Compute, Scope},
    flow::{FlowDef, StepKind},
    testkit::engine::{
        Branch, CallKind, FlowStamp, Memo, Snapshot, StepState,
        machine::{Command, Event, Machine, Order},
    },
    tool::Output,
    wait::{Closed, ContentDigest, Receipt, WaitRequest},
};
use serde_json::{Map, Value, json};

use super::plan::digest;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Crash {
    Never,
    /// Everything is durable, and the process dies after each turn.
    AfterEachTurn,
    /// The process dies now and then, and what came after the last commit is lost.
    NowAndThen,
}

/// All that a process knows of a run.
#[derive(Debug, Clone)]
pub(crate) struct State<'f> {
    pub(crate) snapshot: Snapshot,
    /// What happened so far, in words.
    pub(crate) log: Vec<String>,
    now: Timestamp,
    live: BTreeMap<u64, Order<'f>>,
    made: BTreeSet<u64>,
    opened: BTreeSet<WaitId>,
    closed: BTreeMap<WaitId, Receipt>,
    retried: bool,
}

pub(crate) struct Simulation<'f> {
    pub(crate) state: State<'f>,
    committed: State<'f>,
    machine: Machine<'f>,
    seed: u64,
    crash: Crash,
    turns: u64,
    /// Every call that was ever asked for, and when it comes back: the world outside does not
    /// forget it when the process dies.
    asked: BTreeMap<u64, (Order<'f>, Timestamp)>,
    /// The idempotency key of every call, whichever attempt it is.
    keys: BTreeMap<String, String>,
}

const START: Timestamp = Timestamp::from_millis(1_000_000);

impl<'f> Simulation<'f> {
    pub(crate) fn new(flow: &'f FlowDef, seed: u64, crash: Crash) -> Self {
        let stamp = FlowStamp::unstamped(flow.id.clone());
        let snapshot = Snapshot::start(RunId::from_bytes([7; 16]), stamp, &flow.body, json!(seed));
        let state = State {
            snapshot,
            log: Vec::new(),
            now: START,
            live: BTreeMap::new(),
            made: BTreeSet::new(),
            opened: BTreeSet::new(),
            closed: BTreeMap::new(),
            retried: false,
        };
        let mut simulation = Self {
            committed: state.clone(),
            state,
            machine: Machine::new(flow, Duration::from_millis(35)),
            seed,
            crash,
            turns: 0,
            asked: BTreeMap::new(),
            keys: BTreeMap::new(),
        };
        simulation.turn(Event::Started);
        simulation
    }

    pub(crate) fn run_to_the_end(mut self) -> State<'f> {
        while self.step() {
            assert!(self.turns < 20_000, "the run does not come to an end");
        }
        self.state
    }

    /// Lets the next thing happen; gives whether there was one.
    pub(crate) fn step(&mut self) -> bool {
        let event = match self.state.snapshot.status {
            RunStatus::Failed | RunStatus::Expired if !self.state.retried => {
                self.state.retried = true;
                Event::Retried
            }
            status if status.is_final() => return false,
            _ => {
                let (at, event) = self.next().expect("the run waits for nothing");
                assert!(at >= self.state.now, "something was due before now and did not happen");
                self.state.now = at;
                event
            }
        };
        self.turn(event);
        match self.crash {
            Crash::AfterEachTurn => self.restart(),
            Crash::NowAndThen if self.turns < 200 && self.chance("crash", self.turns, 4) == 0 => {
                self.state = self.committed.clone();
                self.restart();
            }
            Crash::Never | Crash::NowAndThen => {}
        }
        true
    }

    pub(crate) fn cancel(&mut self) {
        self.turn(Event::Cancelled(Cancellation::new()));
    }

    fn chance(&self, what: &str, of: impl std::hash::Hash, among: u64) -> u64 {
        digest((self.seed, what, of)) % among
    }

    /// What happens next, and when: a call comes back, a wait is answered, or a timer fires.
    fn next(&self) -> Option<(Timestamp, Event)> {
        let calls = self.state.live.values().map(|order| {
            let call = order.call.id;
            (self.asked[&call].1, Event::Returned { call, result: self.result(order).map(shared) })
        });
        let answers = self.state.snapshot.waits.iter().filter_map(|wait| {
            let answered = wait.expires_at.is_none() || self.chance("answer", &wait.id, 4) != 0;
            let delay = Duration::from_millis(1 + self.chance("delay", &wait.id, 40));
            let input = json!(self.chance("input", &wait.id, 1000));
            let event = Event::Answered {
                wait: wait.id.clone(),
                tool_id: wait.tool_id.clone(),
                question: wait.question.clone(),
                answer: Answer::new(input),
            };
            answered.then(|| (wait.created_at.after(delay), event))
        });
        let timer = self.state.snapshot.due_at().map(|due| (due, Event::Tick));
        // Of what happens at the same time, the first of these.
        calls.chain(answers).chain(timer).min_by_key(|(at, _)| *at)
    }

    /// What a call comes to. It depends on the place and the attempt, as it would outside.
    fn result(&self, order: &Order<'f>) -> Result<Output, ToolError> {
        match &order.call.kind {
            CallKind::Compute => self.compute(order).map(Output::Value),
            CallKind::OnResume { answer, saved } => {
                match self.chance("resumed", order.call.id, 6) {
                    0 | 1 if !self.state.retried => Err(ToolError::new("not now")),
                    2 if !self.state.retried => Err(ToolError::new("of no use").permanent()),
                    _ => Ok(Output::Value(json!({ "answer": answer, "saved": saved }))),
                }
            }
            CallKind::Tool { .. } => {
                let place = (order.position.to_string(), order.input.to_string());
                let asks = matches!(order.step.kind, StepKind::AwaitInput { .. });
                match self.chance("tool", &place, 12) {
                    _ if asks => Ok(Output::Suspend(self.question(&place.0, None))),
                    0 | 1 => Ok(Output::Suspend(self.question(&place.0, Some(json!(place.1))))),
                    2..=5 if !self.state.retried => Err(ToolError::new("not now")),
                    6 if !self.state.retried => {
                        Err(ToolError::new("never").code("broken").permanent())
                    }
                    n => Ok(Output::Value(json!([order.input, n, order.vars.len()]))),
                }
            }
        }
    }

    fn question(&self, place: &str, saved: Option<Value>) -> WaitRequest {
        let after = Duration::from_millis(1 + self.chance("deadline", place, 30));
        let mut request = WaitRequest::new("", Schema::any());
        request.deadline = match self.chance("kind of deadline", place, 3) {
            0 => Deadline::Never,
            1 => Deadline::HubDefault,
            _ => Deadline::After(after),
        };
        request.default = (self.chance("default", place, 2) == 0).then_some(Value::Null);
        request.saved = saved;
        request
    }

    fn compute(&self, order: &Order<'f>) -> Result<Value, ToolError> {
        let run_input = &self.state.snapshot.input;
        let run_id = self.state.snapshot.run_id;
        let scope = Scope { value: &order.input, vars: &order.vars, input: run_input, run_id };
        match &order.step.kind {
            StepKind::Map { compute: it }
            | StepKind::Filter { predicate: it }
            | StepKind::Switch { route: it, .. }
            | StepKind::Fail { message: it, .. } => it.evaluate(scope),
            StepKind::Set { variables } => variables
                .iter()
                .map(|(name, it)| Ok((name.clone(), Compute::evaluate(it, scope)?)))
                .collect::<Result<Map<_, _>, _>>()
                .map(Value::Object),
            other => panic!("{} computes nothing", other.name()),
        }
    }

    /// Stores the run, forgets all that was only in memory, and goes on in another process.
    fn restart(&mut self) {
        let stored = serde_json::to_string(&self.state.snapshot).unwrap();
        let read: Snapshot = serde_json::from_str(&stored).unwrap();
        assert_eq!(read, self.state.snapshot, "a snapshot reads back as it was written");
        self.state.snapshot = read;
        self.state.live.clear();
        if !self.state.snapshot.status.is_final() {
            self.turn(Event::Started);
        }
    }

    /// Works an event in, and does what the machine wants done.
    fn turn(&mut self, event: Event) {
        self.turns += 1;
        let before = self.state.snapshot.clone();
        let returned = match &event {
            Event::Returned { call, .. } => self.state.live.remove(call).map(|order| order.call.id),
            _ => None,
        };
        let starting = event == Event::Started && before.calls > 0;
        let retrying = event == Event::Retried;
        let now = self.state.now;
        let commands = self.machine.apply(&mut self.state.snapshot, event.clone(), now, now);

        let mut twin = before;
        assert_eq!(self.machine.apply(&mut twin, event, now, now), commands, "the same twice");
        assert_eq!(twin, self.state.snapshot, "the same twice");

        let mut durable = self.state.snapshot.status.is_final();
        for command in commands {
            match command {
                Command::Call(order) => self.call(order, starting, retrying),
                Command::Abort { call } => {
                    // One that comes back when a timeout around it is over comes too late.
                    let live = self.state.live.remove(&call).is_some() || returned == Some(call);
                    assert!(live, "call {call} was aborted and is not being made");
                }
                Command::OpenWait(id) => {
                    self.state.log.push(format!("{now} opened {id}"));
                    assert!(self.state.opened.insert(id), "two waits have the same id");
                    durable = true;
                }
                Command::CloseWait(receipt) => {
                    self.state.log.push(format!("{now} closed {receipt:?}"));
                    durable |= receipt.closed != Closed::Answered;
                    let id = receipt.wait_id.clone();
                    assert!(self.state.opened.contains(&id), "{id} was closed and never opened");
                    let earlier = self.state.closed.insert(id, receipt);
                    assert_eq!(earlier, None, "a wait was closed twice");
                }
                Command::Trace(trace) => self.state.log.push(format!("{now} {trace:?}")),
            }
        }
        self.check();
        self.check_stale();
        if durable {
            self.committed = self.state.clone();
        }
    }

    fn call(&mut self, order: Order<'f>, starting: bool, retrying: bool) {
        let id = order.call.id;
        let fresh = self.state.made.insert(id);
        let answered = matches!(order.call.kind, CallKind::OnResume { .. });
        let again = starting || (retrying && answered);
        assert!(fresh || again, "call {id} was made twice, and nobody had started anew");
        assert!(!(fresh && starting), "a run that goes on made call {id}, which is a new one");
        let latency = match order.call.kind {
            CallKind::Compute => 0,
            _ => self.chance("latency", id, 15),
        };
        let at = self.state.now.after(Duration::from_millis(latency));
        let (first, due) = self.asked.entry(id).or_insert_with(|| (order.clone(), at));
        if retrying {
            *due = at;
        }
        assert_eq!(*first, order, "a call that is made again is the same call");
        let what = match &order.call.kind {
            CallKind::Compute => "compute".to_owned(),
            CallKind::Tool { .. } => "execute".to_owned(),
            CallKind::OnResume { .. } => format!("resume {}", self.state.snapshot.opened_waits),
        };
        let rounds = rounds(&self.state.snapshot.root);
        let what = format!("{what} {} {rounds:?}", order.position.steps());
        let key = &order.idempotency_key;
        let known = self.keys.entry(what.clone()).or_insert_with(|| key.clone());
        assert_eq!(known, key, "{what} has another idempotency key when it is tried again");
        let sharing = self.keys.values().filter(|other| *other == key).count();
        assert_eq!(sharing, 1, "{what} has the idempotency key of another call");
        self.state.live.insert(id, order);
    }

    /// What must hold after every turn.
    fn check(&self) {
        let State { snapshot, live, opened, closed, .. } = &self.state;
        let open: BTreeSet<_> = snapshot.waits.iter().map(|wait| wait.id.clone()).collect();
        let unclosed: BTreeSet<_> =
            opened.iter().filter(|id| !closed.contains_key(*id)).cloned().collect();
        assert_eq!(open, unclosed, "a wait is open until it is closed");
        assert_eq!(snapshot.opened_waits, opened.len() as u64);
        assert_eq!(
            snapshot.receipts.len() as u64 + snapshot.earlier_receipts,
            closed.len() as u64,
            "each wait that was closed leaves a receipt"
        );
        match snapshot.status {
            RunStatus::Running => assert!(!live.is_empty(), "it runs, and does nothing"),
            RunStatus::Waiting => assert!(live.is_empty(), "it waits in the middle of a call"),
            status => {
                assert!(status.is_final(), "the machine never says {status}");
                assert!(live.is_empty(), "it has ended, and calls are being made");
                assert!(open.is_empty(), "it has ended, and waits are open");
                assert_eq!(snapshot.due_at(), None);
                let completed = status == RunStatus::Completed;
                assert_eq!(snapshot.output.is_some(), completed);
                assert_eq!(snapshot.ended.is_some(), !completed);
            }
        }
    }

    /// An event for what is not there any more changes nothing.
    fn check_stale(&self) {
        let gone = self.asked.keys().filter(|id| !self.state.live.contains_key(id));
        let late =
            gone.map(|&call| Event::Returned { call, result: Ok(shared(Output::Value(json!(1)))) });
        let answers = self.state.closed.keys().map(|wait| Event::Answered {
            wait: wait.clone(),
            tool_id: "late".into(),
            question: ContentDigest("late".into()),
            answer: Answer::new(json!("late")),
        });
        for event in late.chain(answers).chain([Event::Tick]) {
            let mut snapshot = self.state.snapshot.clone();
            let commands =
                self.machine.apply(&mut snapshot, event.clone(), self.state.now, self.state.now);
            assert!(commands.is_empty(), "{event:?} came too late and led to {commands:?}");
            assert_eq!(snapshot, self.state.snapshot, "{event:?} came too late");
        }
    }
}

/// How often the flow gave up in each `retry` around what is done: what comes then are other calls.
fn rounds(branch: &Branch) -> Vec<u32> {
    let StepState::Inside { branches, memo } = &branch.state else { return Vec::new() };
    let here = match memo {
        Memo::Retry { given_up, .. } => Some(*given_up),
        _ => None,
    };
    here.into_iter().chain(branches.iter().flat_map(rounds)).collect()
}

/// An output as the engine takes it.
fn shared(output: Output) -> Output<Arc<Value>> {
    match output {
        Output::Value(value) => Output::Value(value.into()),
        Output::Suspend(request) => Output::Suspend(request),
    }
}
