//! The async shell around the machine: makes the calls, feeds back what they come to, and asks for
//! commits where promises depend on them.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use serde_json::Value;
use tracing::Instrument as _;

use super::{
    host::{Committed, Durability, Host, Intent},
    live::{Live, Made},
    machine::{Command, Event, Machine, Order, Trace},
    perform::{compute, perform},
    state::{CallKind, Snapshot},
    status::RunStatus,
    timeline::Timeline,
};
use crate::{
    Result, ToolError,
    clock::{Clock, Timestamp},
    codes,
    flow::ir::FlowDef,
    id::WaitId,
    schema::Schema,
    tool::{Output, ToolContext},
    wait::{Closed, Receipt, Wait},
};

/// How a run is driven.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drive {
    /// When it is committed.
    pub(crate) durability: Durability,
    /// How long a sleep or pause may be to be waited for in this process.
    pub(crate) linger: Duration,
    /// How long waits stay open that do not say it themselves.
    pub(crate) default_timeout: Duration,
}

/// Drives a run until it is parked or has ended; gives the snapshot as it was committed last.
///
/// # Errors
/// What [`Host::commit`] fails with.
pub(crate) async fn drive<H: Host>(
    flow: &FlowDef,
    snapshot: Snapshot,
    events: Vec<(Event, Timestamp)>,
    options: Drive,
    clock: &dyn Clock,
    host: &mut H,
) -> Result<Snapshot> {
    let run_input = snapshot.input.clone();
    let runner = Runner {
        machine: Machine::new(flow, options.default_timeout),
        options,
        clock,
        host,
        snapshot,
        run_input,
        live: Live::default(),
        vetted: None,
        turn: Pending::default(),
    };
    let events = events.into();
    runner.run(events).await
}

/// What a batch of events asked for, and is done once the batch is committed.
#[derive(Clone, Default)]
struct Pending<'f> {
    start: Vec<Order<'f>>,
    abort: Vec<u64>,
    traces: Vec<Trace>,
    opened: Vec<WaitId>,
    closed: Vec<Receipt>,
    /// A commit must come before anything of it is done.
    commit: bool,
    /// A wait was closed by something else than its answer: if one was accepted meanwhile, the
    /// batch did not happen.
    undo: bool,
}

/// How everything was before a batch, in case that it did not happen.
struct Before<'f> {
    snapshot: Snapshot,
    turn: Pending<'f>,
    events: VecDeque<(Event, Timestamp)>,
}

struct Runner<'a, 'f, H> {
    machine: Machine<'f>,
    options: Drive,
    clock: &'a dyn Clock,
    host: &'a mut H,
    snapshot: Snapshot,
    run_input: Arc<Value>,
    live: Live,
    /// What a tool gave last, and the schema that it was found to fit.
    vetted: Option<(Weak<Value>, Schema)>,
    turn: Pending<'f>,
}

impl<'f, H: Host> Runner<'_, 'f, H> {
    async fn run(mut self, mut events: VecDeque<(Event, Timestamp)>) -> Result<Snapshot> {
        loop {
            // Where all waits are answered already, no answer can come before what this batch does.
            let before = (!all_are_answered(&self.snapshot.waits, &events)).then(|| Before {
                snapshot: self.snapshot.clone(),
                turn: self.turn.clone(),
                events: events.clone(),
            });
            self.work_in(events);
            let stopped = self.stopped();
            if stopped && self.host.has_news(&mut self.snapshot)? {
                // Who is told of a wait may answer at once: the wait is durable before, and that it
                // was told of is written down after.
                match self.host.commit(&mut self.snapshot, Intent::Progress).await? {
                    Committed::Done => self.announce(),
                    Committed::Merge(merged) => {
                        events = self.merge(merged, before);
                        continue;
                    }
                }
                self.host.pass_on(&mut self.snapshot).await;
            }
            if stopped || self.turn.commit {
                let intent = if stopped { Intent::Park } else { Intent::Progress };
                match self.host.commit(&mut self.snapshot, intent).await? {
                    Committed::Done => {}
                    // What was announced is durable, and not undone any more.
                    Committed::Merge(merged) => {
                        events = self.merge(merged, before);
                        continue;
                    }
                }
            }
            self.announce();
            if stopped {
                return Ok(self.snapshot);
            }
            self.turn.commit = false;
            for call in std::mem::take(&mut self.turn.abort) {
                self.live.abort(call);
            }
            // A run that is asked to stop starts nothing; its next holder makes these calls.
            for order in std::mem::take(&mut self.turn.start) {
                if !self.host.stopping() {
                    self.start(order).await;
                }
            }
            events = self.next_events().await;
        }
    }

    /// Works events in, with all that follows from them without anything from outside.
    fn work_in(&mut self, events: VecDeque<(Event, Timestamp)>) {
        let mut timeline = Timeline::new(events);
        while let Some((event, at)) = timeline.next(&self.snapshot) {
            let now = self.clock.now();
            for command in self.machine.apply(&mut self.snapshot, event, at, now) {
                match command {
                    Command::Trace(trace) => self.turn.traces.push(trace),
                    Command::OpenWait(id) => {
                        self.turn.commit = true;
                        self.turn.opened.push(id);
                    }
                    Command::Abort { call } => {
                        self.turn.start.retain(|order| order.call.id != call);
                        self.turn.abort.push(call);
                    }
                    Command::CloseWait(receipt) => {
                        if receipt.closed != Closed::Answered {
                            self.turn.commit = true;
                            self.turn.undo = true;
                        }
                        self.turn.closed.push(receipt);
                    }
                    Command::Call(order) if is_computation(&order) => {
                        let result = compute(&order, &self.run_input, self.snapshot.run_id);
                        let call = order.call.id;
                        let result = result.map(|value| Output::Value(value.into()));
                        timeline.push(Event::Returned { call, result }, at);
                    }
                    Command::Call(order) => {
                        let every_step = self.options.durability == Durability::EveryStep;
                        self.turn.commit |= every_step || has_effect(&order);
                        // Where an answer overtook a timeout, the call that it led to is in the same
                        // batch as the start of the run, which asks for all calls anew.
                        if !self.turn.start.iter().any(|known| known.call.id == order.call.id) {
                            self.turn.start.push(order);
                        }
                    }
                }
            }
        }
    }

    /// Puts what was accepted meanwhile in front: before the whole batch if the batch closed a wait
    /// that may have been answered, else behind it; but no end that is not durable comes before a
    /// cancellation.
    fn merge(
        &mut self,
        merged: Vec<(Event, Timestamp)>,
        before: Option<Before<'f>>,
    ) -> VecDeque<(Event, Timestamp)> {
        let is_cancelled = merged.iter().any(|(event, _)| matches!(event, Event::Cancelled(_)));
        let mut events = VecDeque::from(merged);
        if let Some(before) = before.filter(|_| self.turn.undo) {
            self.snapshot = before.snapshot;
            self.turn = before.turn;
            events.extend(before.events);
        } else if is_cancelled && self.snapshot.status.is_final() {
            self.snapshot.status = RunStatus::Running;
            self.snapshot.output = None;
            self.snapshot.ended = None;
        }
        self.turn.commit = true;
        events
    }

    fn announce(&mut self) {
        self.turn.undo = false;
        for trace in std::mem::take(&mut self.turn.traces) {
            self.host.trace(trace);
        }
        for id in std::mem::take(&mut self.turn.opened) {
            if let Some(wait) = self.snapshot.wait(&id) {
                self.host.opened(wait);
            }
        }
        for receipt in std::mem::take(&mut self.turn.closed) {
            self.host.closed(&receipt);
        }
    }

    /// Whether nothing is left to do here: the run has ended, waits for answers, sleeps for longer
    /// than is worth waiting for, or is asked to stop.
    fn stopped(&self) -> bool {
        if self.snapshot.status.is_final() {
            return true;
        }
        if self.host.stopping() {
            return self.live.is_empty();
        }
        let idle = self.live.is_empty() && self.turn.start.is_empty();
        let long = || match self.snapshot.due_at() {
            Some(due) => self.clock.now().until(due) > self.options.linger,
            None => true,
        };
        idle && (!self.snapshot.waits.is_empty() || long())
    }

    async fn start(&mut self, order: Order<'f>) {
        let Some(tool) = order.step.kind.tool().map(|tool| tool.tool().clone()) else {
            // The hub goes on with no run in a flow whose step is of another kind now.
            let error = ToolError::new("the step calls no tool any more").permanent();
            let error = error.code(codes::FLOW_INCOMPATIBLE);
            let made = Made { effect: false, output: Schema::any() };
            self.live.start(order.call.id, made, async move { Err(error) }).await;
            return;
        };
        let context = ToolContext {
            run_id: self.snapshot.run_id,
            position: order.position,
            idempotency_key: order.idempotency_key,
            attempt: order.call.attempt,
            variables: order.vars,
            run_input: order.flow_input.unwrap_or_else(|| self.run_input.clone()),
        };
        let made = Made { effect: tool.spec().effect, output: tool.spec().output.clone() };
        // Most tools take what the one before them gave.
        let is_vetted = self.vetted.as_ref().is_some_and(|(value, schema)| {
            std::ptr::eq(value.as_ptr(), Arc::as_ptr(&order.input)) && *schema == tool.spec().input
        });
        let span = tracing::info_span!(
            "tool",
            run = %context.run_id,
            step = %context.position,
            tool = %tool.spec().id,
        );
        let call = perform(tool, order.call.kind, order.input, is_vetted, context).instrument(span);
        self.live.start(order.call.id, made, call).await;
    }

    /// Waits for whatever comes first: a call that returns, a timer, or something from outside.
    async fn next_events(&mut self) -> VecDeque<(Event, Timestamp)> {
        let due = self.snapshot.due_at();
        let timer = async {
            match due {
                Some(due) => self.clock.sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            Some((call, made, result)) = self.live.next() => {
                self.turn.commit |= made.effect;
                if let Ok(Output::Value(value)) = &result {
                    self.vetted = Some((Arc::downgrade(value), made.output));
                }
                Event::Returned { call, result }
            }
            () = timer => Event::Tick,
            () = self.host.signaled() => {
                self.turn.commit = true;
                Event::Tick
            }
        };
        VecDeque::from([(event, self.clock.now())])
    }
}

/// Whether each of these waits is answered by one of the events: it takes no other answer then.
fn all_are_answered(waits: &[Wait], events: &VecDeque<(Event, Timestamp)>) -> bool {
    let is_answered = |open: &Wait| {
        let is_its =
            |event: &Event| matches!(event, Event::Answered { wait, .. } if *wait == open.id);
        events.iter().any(|(event, _)| is_its(event))
    };
    waits.iter().all(is_answered)
}

fn is_computation(order: &Order<'_>) -> bool {
    matches!(order.call.kind, CallKind::Compute)
}

fn has_effect(order: &Order<'_>) -> bool {
    order.step.kind.tool().is_some_and(|tool| tool.effect)
}

#[cfg(all(test, feature = "testkit"))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;
    use crate::{
        Answer, Flow, RunId,
        engine::{RunStatus, state::FlowStamp},
        hours,
        testkit::ManualClock,
        tool::{AwaitInput, tool_fn},
        wait::Wait,
    };

    const START: Timestamp = Timestamp::from_millis(1_795_420_800_000);

    /// Takes every commit, but has something come in before the first.
    struct Overtaken(Vec<(Event, Timestamp)>, Vec<Closed>);

    impl Host for Overtaken {
        async fn commit(&mut self, _: &mut Snapshot, _: Intent) -> Result<Committed> {
            match std::mem::take(&mut self.0) {
                overtaking if overtaking.is_empty() => Ok(Committed::Done),
                overtaking => Ok(Committed::Merge(overtaking)),
            }
        }

        fn has_news(&mut self, _: &mut Snapshot) -> Result<bool> {
            Ok(false)
        }

        async fn pass_on(&mut self, _: &mut Snapshot) {}

        async fn signaled(&mut self) {
            std::future::pending::<()>().await;
        }

        fn stopping(&self) -> bool {
            false
        }

        fn trace(&mut self, _: Trace) {}

        fn opened(&mut self, _: &Wait) {}

        fn closed(&mut self, receipt: &Receipt) {
            self.1.push(receipt.closed);
        }
    }

    const OPTIONS: Drive = Drive {
        durability: Durability::Suspensions,
        linger: Duration::ZERO,
        default_timeout: hours(24),
    };

    /// A run of that flow at its first wait.
    async fn parked(flow: &FlowDef, clock: &ManualClock) -> Snapshot {
        let stamp = FlowStamp::unstamped(flow.id.clone());
        let run = RunId::new(START).unwrap();
        let snapshot = Snapshot::start(run, stamp, &flow.body, json!(true));
        let mut host = Overtaken(Vec::new(), Vec::new());
        let events = vec![(Event::Started, START)];
        let parked = drive(flow, snapshot, events, OPTIONS, clock, &mut host).await.unwrap();
        assert_eq!(parked.status, RunStatus::Waiting);
        parked
    }

    fn answer(asked: &Wait) -> Event {
        Event::Answered {
            wait: asked.id.clone(),
            tool_id: asked.tool_id.clone(),
            question: asked.question.clone(),
            answer: Answer::new(json!(true)),
        }
    }

    #[tokio::test]
    async fn a_state_can_be_gone_back_to_unless_each_of_its_waits_is_answered() {
        let ask = AwaitInput::<bool>::new("ask");
        let flow = Flow::input::<bool>("asked").await_input(ask).build().unwrap();
        let first = parked(flow.def(), &ManualClock::new(START)).await.waits.remove(0);
        let second = Wait { id: WaitId::from("second#2"), ..first.clone() };
        let both = [first, second];
        let all_answered = |waits: &[Wait], answered: &[Wait]| {
            let answers = answered.iter().map(|asked| (answer(asked), START));
            let events = [(Event::Started, START)].into_iter().chain(answers).collect();
            all_are_answered(waits, &events)
        };
        assert!(all_answered(&[], &[]));
        assert!(all_answered(&both, &both));
        assert!(all_answered(&both[..1], &both));
        for others in [&both[..1], &both[1..], &[]] {
            assert!(!all_answered(&both, others));
        }
    }

    #[tokio::test]
    async fn an_answer_that_overtakes_a_timeout_is_worked_in_once() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let flow = Flow::input::<bool>("overtaken")
            .await_input(AwaitInput::<bool>::new("ask").timeout(hours(1)))
            .tool(tool_fn("count", move |yes: bool| {
                counted.fetch_add(1, Ordering::SeqCst);
                async move { Ok::<_, ToolError>(yes) }
            }))
            .build()
            .unwrap();
        let clock = ManualClock::new(START);
        let parked = parked(flow.def(), &clock).await;

        clock.advance(hours(2));
        let now = clock.now();
        let mut host = Overtaken(vec![(answer(&parked.waits[0]), START)], Vec::new());
        let events = vec![(Event::Started, now), (Event::Tick, now)];
        let ended = drive(flow.def(), parked, events, OPTIONS, &clock, &mut host).await.unwrap();
        assert_eq!(ended.status, RunStatus::Completed);
        assert_eq!(host.1, [Closed::Answered], "the timeout did not happen");
        assert_eq!(calls.load(Ordering::SeqCst), 1, "its tool was called once");
    }
}
