//! The pure machine: `(snapshot, event, now) → (snapshot, commands)`. No I/O, no clock, no randomness.
//!
//! It works like a future: an event is offered to the tree of branches, [`Machine::apply`] polls
//! the tree from the root down, and every leaf that the event or the time concerns goes on as far
//! as it can without anything from outside. What it needs from there comes out as commands.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::state::{Branch, Call, CallKind, Ended, Failure, Memo, RunStatus, Snapshot, StepState};
use crate::{
    ToolError,
    clock::Timestamp,
    flow::ir::{Body, BodyName, FlowDef, Step, StepKind},
    id::{RunId, ToolId, WaitId},
    position::Position,
    tool::Output,
    wait::{Answer, Closed, ContentDigest, Deadline, Receipt, Wait, WaitRequest},
};

/// Something that happened to a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The run begins, or goes on in another process: calls that were being made are made again.
    Started,
    /// A call came back.
    Returned {
        /// The call.
        call: u64,
        /// What it came to.
        result: Result<Output, ToolError>,
    },
    /// A wait was answered, and the answer was accepted.
    Answered {
        /// The wait.
        wait: WaitId,
        /// The answer.
        answer: Answer,
    },
    /// Time passed.
    Tick,
    /// Somebody cancelled the run.
    Cancelled {
        /// Who, as far as the caller said.
        by: Option<String>,
        /// Why, as far as the caller said.
        reason: Option<String>,
    },
    /// A failed or expired run is to go on from the step that failed.
    Retried,
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Command<'f> {
    /// Make a call, and tell what it came to.
    Call(Order<'f>),
    /// Drop a call: what it comes to is of no interest any more.
    Abort {
        /// The call.
        call: u64,
    },
    /// A wait was opened: give it keys and commit.
    OpenWait(WaitId),
    /// A wait was closed.
    CloseWait(Receipt),
    /// A step began or ended; for those who watch.
    Trace(Trace),
}

/// A call to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Order<'f> {
    /// The call.
    pub call: Call,
    /// The step that makes it.
    pub step: &'f Step,
    /// Where the step is.
    pub position: Position,
    /// What it works on.
    pub input: Value,
    /// The variables in scope.
    pub vars: Arc<BTreeMap<String, Value>>,
    /// The same whenever this very call is made again.
    pub idempotency_key: String,
}

/// What a watcher sees of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The step.
    pub position: Position,
    /// Its kind.
    pub kind: &'static str,
    /// What it calls.
    pub tool_id: Option<ToolId>,
    /// What happened to it.
    pub what: Traced,
}

/// What happened to a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Traced {
    /// It began.
    Started,
    /// It ended.
    Completed,
    /// It failed with that code.
    Failed(String),
}

/// Moves runs of one flow.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'f> {
    flow: &'f FlowDef,
    default_timeout: Duration,
}

/// How far a body or a step came.
enum Progress {
    /// It waits for something.
    Pending,
    /// It is through, with that value.
    Done(Value),
    /// It failed.
    Failed(Failure),
    /// A filter said no.
    Rejected(Position, Value),
}

/// What the bodies around a step give to it.
#[derive(Clone, Copy)]
struct Env<'e> {
    /// The variables of the innermost body.
    vars: &'e BTreeMap<String, Value>,
    /// The environment of the body around it, unless it is a flow of its own.
    outer: Option<&'e Env<'e>>,
    /// Counts the attempts of the innermost retry.
    attempt: u32,
    /// The earliest end of the timeouts around it.
    deadline: Option<Timestamp>,
}

impl Env<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.vars.get(name).or_else(|| self.outer?.get(name))
    }

    fn flatten(&self) -> BTreeMap<String, Value> {
        let mut all = self.outer.map(Self::flatten).unwrap_or_default();
        all.extend(self.vars.iter().map(|(name, value)| (name.clone(), value.clone())));
        all
    }
}

/// Where a step is: with all iterations, and with those of retries left out, which stays the same
/// from attempt to attempt.
#[derive(Clone, Default)]
struct Place {
    full: Position,
    stable: Position,
}

impl Place {
    fn join(&self, step: &Step, iteration: u32) -> Self {
        let stable = if matches!(step.kind, StepKind::Retry { .. }) { 1 } else { iteration };
        Self {
            full: self.full.join(step.id.clone(), iteration),
            stable: self.stable.join(step.id.clone(), stable),
        }
    }
}

/// One application of an event.
struct Turn<'f> {
    run_id: RunId,
    now: Timestamp,
    default_timeout: Duration,
    /// Taken by the leaf that it is for.
    event: Option<Event>,
    calls: u64,
    opened_waits: u64,
    waits: Vec<Wait>,
    commands: Vec<Command<'f>>,
}

impl<'f> Machine<'f> {
    /// A machine for runs of that flow; `default_timeout` is how long waits stay open that do not
    /// say it themselves.
    pub fn new(flow: &'f FlowDef, default_timeout: Duration) -> Self {
        Self { flow, default_timeout }
    }

    /// Works an event in, at that time.
    ///
    /// Timers that are due at `now` fire in the same turn: a timeout around a step before the event
    /// reaches the step, a wait's own deadline only if the event is not its answer. An event for a
    /// call or wait that is not there any more changes nothing.
    pub fn apply(&self, snapshot: &mut Snapshot, event: Event, now: Timestamp) -> Vec<Command<'f>> {
        match &event {
            Event::Retried if matches!(snapshot.status, RunStatus::Failed | RunStatus::Expired) => {
                snapshot.status = RunStatus::Running;
                snapshot.ended = None;
            }
            _ if snapshot.status.is_final() => return Vec::new(),
            _ => {}
        }
        let mut turn = Turn {
            run_id: snapshot.run_id,
            now,
            default_timeout: self.default_timeout,
            event: Some(event),
            calls: snapshot.calls,
            opened_waits: snapshot.opened_waits,
            waits: std::mem::take(&mut snapshot.waits),
            commands: Vec::new(),
        };
        if let Some(Event::Cancelled { by, reason }) = &turn.event {
            let ended = Ended::Cancelled { by: by.clone(), reason: reason.clone() };
            turn.abandon(&mut snapshot.root, Closed::Cancelled);
            end(snapshot, RunStatus::Cancelled, ended);
        } else {
            let vars = BTreeMap::new();
            let env = Env { vars: &vars, outer: None, attempt: 1, deadline: None };
            let progress =
                turn.poll_body(&self.flow.body, &mut snapshot.root, &Place::default(), env);
            self.conclude(snapshot, &mut turn, progress);
        }
        snapshot.calls = turn.calls;
        snapshot.opened_waits = turn.opened_waits;
        snapshot.waits = turn.waits;
        for command in &turn.commands {
            if let Command::CloseWait(receipt) = command {
                snapshot.keep(receipt.clone());
            }
        }
        turn.commands
    }

    /// Writes down what the root came to.
    fn conclude(&self, snapshot: &mut Snapshot, turn: &mut Turn<'f>, progress: Progress) {
        let progress = match progress {
            Progress::Done(output) => match self.flow.output.validate(&output) {
                Ok(()) => Progress::Done(output),
                Err(violations) => Progress::Failed(Failure {
                    code: "output_invalid".into(),
                    message: describe("the flow's output does not fit its schema", &violations),
                    position: Position::default(),
                    tool_id: None,
                    retryable: false,
                }),
            },
            other => other,
        };
        match progress {
            Progress::Pending => {
                snapshot.status = match snapshot.root.is_parked() {
                    true => RunStatus::Waiting,
                    false => RunStatus::Running,
                };
            }
            Progress::Done(output) => {
                snapshot.status = RunStatus::Completed;
                snapshot.output = Some(output);
                snapshot.root.value = Value::Null;
                snapshot.root.vars.clear();
            }
            Progress::Failed(failure) => {
                turn.abandon(&mut snapshot.root, Closed::Superseded);
                let status = match failure.code.as_str() {
                    Failure::WAIT_TIMED_OUT => RunStatus::Expired,
                    _ => RunStatus::Failed,
                };
                end(snapshot, status, Ended::Failed(failure));
            }
            Progress::Rejected(position, value) => {
                turn.abandon(&mut snapshot.root, Closed::Superseded);
                end(snapshot, RunStatus::Rejected, Ended::Rejected { position, value });
            }
        }
    }
}

fn end(snapshot: &mut Snapshot, status: RunStatus, ended: Ended) {
    snapshot.status = status;
    snapshot.ended = Some(ended);
}

fn describe(what: &str, violations: &[crate::schema::Violation]) -> String {
    let all: Vec<String> = violations.iter().map(ToString::to_string).collect();
    format!("{what}: {}", all.join("; "))
}

impl<'f> Turn<'f> {
    fn poll_body(
        &mut self,
        body: &'f Body,
        branch: &mut Branch,
        place: &Place,
        env: Env<'_>,
    ) -> Progress {
        // The variables are out of the branch while it is polled, so that steps can read them
        // while they change the branch.
        let mut vars = std::mem::take(&mut branch.vars);
        let progress = loop {
            let Some(id) = &branch.step else {
                break Progress::Done(branch.value.clone());
            };
            let Some(index) = branch.find(body) else {
                break Progress::Failed(Failure {
                    code: "flow_incompatible".into(),
                    message: format!("the flow has no step `{id}` here any more"),
                    position: place.full.join(id.clone(), 1),
                    tool_id: None,
                    retryable: false,
                });
            };
            match self.poll_step(&body[index], branch, place, &mut vars, env) {
                Progress::Done(value) => {
                    self.trace(&body[index], place, Traced::Completed);
                    branch.value = value;
                    branch.step = body.get(index + 1).map(|step| step.id.clone());
                    branch.index = index + 1;
                    branch.state = StepState::Ready;
                }
                other => break other,
            }
        };
        branch.vars = vars;
        progress
    }

    fn poll_step(
        &mut self,
        step: &'f Step,
        branch: &mut Branch,
        place: &Place,
        vars: &mut BTreeMap<String, Value>,
        outer: Env<'_>,
    ) -> Progress {
        if matches!(branch.state, StepState::Failed) && matches!(self.event, Some(Event::Retried)) {
            self.event = None;
            branch.state = StepState::Ready;
        }
        let env = Env { vars, outer: Some(&outer), ..outer };
        let progress = match std::mem::replace(&mut branch.state, StepState::Ready) {
            StepState::Ready => self.start(step, branch, place, env),
            StepState::Calling { call } => self.poll_call(step, branch, place, env, call),
            StepState::Waiting { wait } => self.poll_wait(step, branch, place, env, wait),
            StepState::Sleeping { until } if until <= self.now => {
                Progress::Done(branch.value.clone())
            }
            StepState::Inside { branches, memo } => {
                self.poll_inside(step, branch, place, env, branches, memo)
            }
            state @ (StepState::Sleeping { .. } | StepState::Failed) => {
                branch.state = state;
                Progress::Pending
            }
        };
        match progress {
            // The result of a `set` step's computation is its variables.
            Progress::Done(Value::Object(set)) if matches!(step.kind, StepKind::Set { .. }) => {
                vars.extend(set);
                Progress::Done(branch.value.clone())
            }
            Progress::Failed(failure) => {
                // A step with live bodies keeps them, so that `retry` finds the step that failed.
                if matches!(branch.state, StepState::Ready) {
                    branch.state = StepState::Failed;
                }
                self.trace(step, place, Traced::Failed(failure.code.clone()));
                Progress::Failed(failure)
            }
            other => other,
        }
    }

    fn start(
        &mut self,
        step: &'f Step,
        branch: &mut Branch,
        place: &Place,
        env: Env<'_>,
    ) -> Progress {
        self.trace(step, place, Traced::Started);
        match &step.kind {
            StepKind::Input { schema } => match schema.validate(&branch.value) {
                Ok(()) => Progress::Done(branch.value.clone()),
                Err(violations) => self.fail(
                    step,
                    place,
                    ToolError::new(describe("the value does not fit", &violations))
                        .code("input_invalid")
                        .permanent(),
                ),
            },
            StepKind::Succeed { value } => Progress::Done(value.clone()),
            StepKind::Get { variable } => match env.get(variable) {
                Some(value) => Progress::Done(value.clone()),
                None => self.fail(
                    step,
                    place,
                    ToolError::new(format!("the variable `{variable}` is not set"))
                        .code("expression")
                        .permanent(),
                ),
            },
            StepKind::Sleep { duration } => {
                branch.state = StepState::Sleeping { until: self.now.after(*duration) };
                Progress::Pending
            }
            StepKind::Tool { with: None, .. } | StepKind::AwaitInput { .. } => {
                self.call(step, branch, place, env, CallKind::Tool { input: None })
            }
            StepKind::Tool { with: Some(_), .. }
            | StepKind::Map { .. }
            | StepKind::Filter { .. }
            | StepKind::Set { .. }
            | StepKind::Fail { .. }
            | StepKind::Switch { .. } => self.call(step, branch, place, env, CallKind::Compute),
            StepKind::SubFlow { flow } => match flow.input.validate(&branch.value) {
                Ok(()) => self.enter(step, branch, place, env, BodyName::Main, Memo::None),
                Err(violations) => self.fail(
                    step,
                    place,
                    ToolError::new(describe(
                        "the value does not fit the flow's input",
                        &violations,
                    ))
                    .code("input_invalid")
                    .permanent(),
                ),
            },
            StepKind::Tap { .. } | StepKind::Keep { .. } | StepKind::Catch { .. } => {
                self.enter(step, branch, place, env, BodyName::Main, Memo::None)
            }
            StepKind::Retry { .. } => {
                let memo = Memo::Retry { failed: 0, until: None };
                self.enter(step, branch, place, env, BodyName::Main, memo)
            }
            StepKind::Timeout { after, .. } => {
                let memo = Memo::Timeout { deadline: self.now.after(*after) };
                self.enter(step, branch, place, env, BodyName::Main, memo)
            }
        }
    }

    /// Goes into a body of a step, for the first time.
    fn enter(
        &mut self,
        step: &'f Step,
        branch: &mut Branch,
        place: &Place,
        env: Env<'_>,
        body: BodyName,
        memo: Memo,
    ) -> Progress {
        let inner = begin(step, body, 1, branch.value.clone());
        self.poll_inside(step, branch, place, env, vec![inner], memo)
    }

    fn poll_inside(
        &mut self,
        step: &'f Step,
        branch: &mut Branch,
        place: &Place,
        env: Env<'_>,
        mut branches: Vec<Branch>,
        mut memo: Memo,
    ) -> Progress {
        let retried = matches!(self.event, Some(Event::Retried));
        let mut env = env;
        match (&step.kind, &mut memo) {
            (StepKind::Timeout { after, .. }, Memo::Timeout { deadline }) => {
                if retried {
                    *deadline = self.now.after(*after);
                }
                if *deadline <= self.now {
                    for inner in &mut branches {
                        self.abandon(inner, Closed::Superseded);
                    }
                    let error = ToolError::new(format!("not done within {after:?}"));
                    return self.fail(step, place, error.code("timeout"));
                }
                env.deadline = Some(env.deadline.map_or(*deadline, |end| end.min(*deadline)));
            }
            (StepKind::Retry { .. }, Memo::Retry { failed, until }) => {
                if retried {
                    *failed = 0;
                }
                match *until {
                    Some(at) if at > self.now => {
                        branch.state = StepState::Inside { branches, memo };
                        return Progress::Pending;
                    }
                    Some(_) => {
                        let last = branches.pop().map_or(0, |inner| inner.iteration);
                        branches =
                            vec![begin(step, BodyName::Main, last + 1, branch.value.clone())];
                        *until = None;
                    }
                    None => {}
                }
                env.attempt = *failed + 1;
            }
            _ => {}
        }
        let Some(inner) = branches.first_mut() else {
            return Progress::Done(branch.value.clone());
        };
        let place_inside = place.join(step, inner.iteration);
        // A sub-flow is a definition of its own: it sees none of the variables around it.
        let none = BTreeMap::new();
        let env_inside = match &step.kind {
            StepKind::SubFlow { .. } => Env { vars: &none, outer: None, ..env },
            _ => env,
        };
        let progress = match step.kind.body(&inner.body) {
            Some(body) => self.poll_body(body, inner, &place_inside, env_inside),
            None => Progress::Failed(Failure {
                code: "flow_incompatible".into(),
                message: format!("the step has no body {:?} any more", inner.body),
                position: place_inside.full,
                tool_id: None,
                retryable: false,
            }),
        };
        match progress {
            Progress::Done(value) => match &step.kind {
                StepKind::Keep { .. } => {
                    Progress::Done(Value::Array(vec![branch.value.clone(), value]))
                }
                StepKind::Tap { .. } => Progress::Done(branch.value.clone()),
                StepKind::SubFlow { flow } => match flow.output.validate(&value) {
                    Ok(()) => Progress::Done(value),
                    Err(violations) => self.fail(
                        step,
                        place,
                        ToolError::new(describe("the flow's output does not fit", &violations))
                            .code("output_invalid")
                            .permanent(),
                    ),
                },
                _ => Progress::Done(value),
            },
            Progress::Failed(failure) => {
                self.handle(step, branch, place, env, branches, memo, failure)
            }
            other => {
                branch.state = StepState::Inside { branches, memo };
                other
            }
        }
    }

    /// Lets a `retry` or `catch` deal with a failure inside it; every other step passes it on.
    #[expect(clippy::too_many_arguments, reason = "the parts of a branch that is being polled")]
    fn handle(
        &mut self,
        step: &'f Step,
        branch: &mut Branch,
        place: &Place,
        env: Env<'_>,
        mut branches: Vec<Branch>,
        memo: Memo,
        failure: Failure,
    ) -> Progress {
        match (&step.kind, memo) {
            (StepKind::Retry { attempts, backoff, .. }, Memo::Retry { failed, .. })
                if failure.retryable && failed + 1 < *attempts =>
            {
                for inner in &mut branches {
                    self.abandon(inner, Closed::Superseded);
                }
                let failed = failed + 1;
                let memo =
                    Memo::Retry { failed, until: Some(self.now.after(backoff.pause(failed))) };
                // Polled again at once: a pause of nothing is over already.
                self.poll_inside(step, branch, place, env, branches, memo)
            }
            (StepKind::Catch { codes, .. }, memo)
                if branches.first().is_some_and(|inner| inner.body == BodyName::Main)
                    && (codes.is_empty() || codes.contains(&failure.code)) =>
            {
                for inner in &mut branches {
                    self.abandon(inner, Closed::Superseded);
                }
                let caught = serde_json::json!({
                    "code": failure.code,
                    "message": failure.message,
                    "step": failure.position,
                    "tool_id": failure.tool_id,
                    "value": branch.value,
                });
                let handler = begin(step, BodyName::Handler, 1, caught);
                self.poll_inside(step, branch, place, env, vec![handler], memo)
            }
            (_, memo) => {
                branch.state = StepState::Inside { branches, memo };
                Progress::Failed(failure)
            }
        }
    }

    fn poll_call(
        &mut self,
        step: &'f Step,
        branch: &mut Branch,
        place: &Place,
        env: Env<'_>,
        call: Call,
    ) -> Progress {
        let result = match self.event.take() {
            Some(Event::Returned { call: id, result }) if id == call.id => result,
            event => {
                if matches!(event, Some(Event::Started)) {
                    let order = self.order(step, branch, place, env, call.clone());
                    self.commands.push(Command::Call(order));
                }
                self.event = event;
                branch.state = StepState::Calling { call };
                return Progress::Pending;
            }
        };
        let output = match result {
            Ok(output) => output,
            Err(error) => return self.fail(step, place, error),
        };
        let value = match output {
            Output::Value(value) => value,
            Output::Suspend(request) => return self.open(step, branch, place, env, request),
        };
        match (&step.kind, call.kind) {
            (StepKind::Tool { .. }, CallKind::Compute) => {
                self.call(step, branch, place, env, CallKind::Tool { input: Some(value) })
            }
            (StepKind::Filter { .. }, _) => match value {
                Value::Bool(true) => Progress::Done(branch.value.clone()),
                Value::Bool(false) => {
                    Progress::Rejected(place.join(step, 1).full, branch.value.clone())
                }
                _ => self.fail(
                    step,
                    place,
                    ToolError::new("a filter gives true or false, and this one gave neither")
                        .code("expression")
                        .permanent(),
                ),
            },
            (StepKind::Fail { code, .. }, _) => {
                let message = match value {
                    Value::String(message) => message,
                    other => other.to_string(),
                };
                self.fail(step, place, ToolError::new(message).code(code.clone()).permanent())
            }
            (StepKind::Switch { arms, otherwise, .. }, _) => {
                let name = match value {
                    Value::String(name) => name,
                    other => other.to_string(),
                };
                let body = match (arms.contains_key(&name), otherwise) {
                    (true, _) => BodyName::Arm(name),
                    (false, Some(_)) => BodyName::Otherwise,
                    (false, None) => {
                        let error = ToolError::new(format!("no arm is named `{name}`"));
                        return self.fail(step, place, error.code("no_such_arm").permanent());
                    }
                };
                self.enter(step, branch, place, env, body, Memo::None)
            }
            _ => Progress::Done(value),
        }
    }

    fn poll_wait(
        &mut self,
        step: &'f Step,
        branch: &mut Branch,
        place: &Place,
        env: Env<'_>,
        id: WaitId,
    ) -> Progress {
        let Some(index) = self.waits.iter().position(|wait| wait.id == id) else {
            // It was closed when the run failed elsewhere; the run was retried since: ask again.
            return self.start(step, branch, place, env);
        };
        let answer = match self.event.take() {
            Some(Event::Answered { wait, answer }) if wait == id => answer,
            event => {
                self.event = event;
                let wait = &self.waits[index];
                if wait.expires_at.is_none_or(|end| end > self.now) {
                    branch.state = StepState::Waiting { wait: id };
                    return Progress::Pending;
                }
                let wait = self.waits.remove(index);
                let Some(default) = wait.request.default.clone() else {
                    self.commands
                        .push(Command::CloseWait(wait.receipt(Closed::TimedOut, self.now)));
                    let error = ToolError::new("nobody answered in time");
                    return self.fail(step, place, error.code(Failure::WAIT_TIMED_OUT));
                };
                let mut receipt = wait.receipt(Closed::Defaulted, self.now);
                receipt.input = Some(ContentDigest::of_value(&default));
                self.commands.push(Command::CloseWait(receipt));
                return self.take_answer(step, branch, place, env, wait, default);
            }
        };
        let wait = self.waits.remove(index);
        let receipt = wait.answered(&answer, self.now);
        self.commands.push(Command::CloseWait(receipt));
        self.take_answer(step, branch, place, env, wait, answer.input)
    }

    /// Goes on with an answer: it is the output of a step that only asks; a tool that suspended in
    /// mid-work gets it back.
    fn take_answer(
        &mut self,
        step: &'f Step,
        branch: &mut Branch,
        place: &Place,
        env: Env<'_>,
        wait: Wait,
        answer: Value,
    ) -> Progress {
        match &step.kind {
            StepKind::AwaitInput { .. } => Progress::Done(answer),
            _ => {
                let kind = CallKind::OnResume { answer, saved: wait.request.saved };
                self.call(step, branch, place, env, kind)
            }
        }
    }

    fn open(
        &mut self,
        step: &'f Step,
        branch: &mut Branch,
        place: &Place,
        env: Env<'_>,
        request: WaitRequest,
    ) -> Progress {
        self.opened_waits += 1;
        let position = place.join(step, 1).full;
        let id = WaitId::from(format!("{position}#{}", self.opened_waits));
        let own_end = match request.deadline {
            Deadline::HubDefault => Some(self.now.after(self.default_timeout)),
            Deadline::After(duration) => Some(self.now.after(duration)),
            Deadline::Never => None,
        };
        // A timeout around the wait ends it too; nobody may be told that an answer was accepted
        // which the timeout would throw away.
        let expires_at = [own_end, env.deadline].into_iter().flatten().min();
        let tool_id =
            step.kind.tool().map_or_else(|| ToolId::from(step.id.as_str()), |t| t.id.clone());
        let question = Wait::question_digest(self.run_id, &id, &tool_id, &request);
        self.waits.push(Wait {
            version: Wait::VERSION,
            id: id.clone(),
            tool_id,
            position,
            request,
            created_at: self.now,
            expires_at,
            keys: Vec::new(),
            question,
            notified: false,
        });
        self.commands.push(Command::OpenWait(id.clone()));
        branch.state = StepState::Waiting { wait: id };
        Progress::Pending
    }

    fn call(
        &mut self,
        step: &'f Step,
        branch: &mut Branch,
        place: &Place,
        env: Env<'_>,
        kind: CallKind,
    ) -> Progress {
        self.calls += 1;
        let call = Call { id: self.calls, kind, attempt: env.attempt };
        let order = self.order(step, branch, place, env, call.clone());
        self.commands.push(Command::Call(order));
        branch.state = StepState::Calling { call };
        Progress::Pending
    }

    fn order(
        &self,
        step: &'f Step,
        branch: &Branch,
        place: &Place,
        env: Env<'_>,
        call: Call,
    ) -> Order<'f> {
        let stage = match &call.kind {
            CallKind::Compute => "compute".to_owned(),
            CallKind::Tool { .. } => "execute".to_owned(),
            CallKind::OnResume { .. } => format!("resume {}", self.opened_waits),
        };
        let input = match &call.kind {
            CallKind::Tool { input: Some(input) } => input.clone(),
            _ => branch.value.clone(),
        };
        let stable = place.join(step, 1).stable;
        let digest = Sha256::digest(format!("{} {stable} {stage}", self.run_id));
        Order {
            call,
            step,
            position: place.join(step, 1).full,
            input,
            vars: Arc::new(env.flatten()),
            idempotency_key: hex::encode(&digest[..16]),
        }
    }

    /// Drops all that is live in a branch: its calls are of no interest, its waits are closed.
    fn abandon(&mut self, branch: &mut Branch, closed: Closed) {
        match &mut branch.state {
            StepState::Calling { call } => self.commands.push(Command::Abort { call: call.id }),
            StepState::Waiting { wait } => {
                if let Some(index) = self.waits.iter().position(|open| open.id == *wait) {
                    let receipt = self.waits.remove(index).receipt(closed, self.now);
                    self.commands.push(Command::CloseWait(receipt));
                }
            }
            StepState::Inside { branches, .. } => {
                for inner in branches {
                    self.abandon(inner, closed);
                }
            }
            StepState::Ready | StepState::Sleeping { .. } | StepState::Failed => {}
        }
    }

    fn fail(&self, step: &Step, place: &Place, error: ToolError) -> Progress {
        Progress::Failed(Failure {
            code: error.code,
            message: error.message,
            position: place.join(step, 1).full,
            tool_id: step.kind.tool().map(|tool| tool.id.clone()),
            retryable: error.retryable,
        })
    }

    fn trace(&mut self, step: &Step, place: &Place, what: Traced) {
        self.commands.push(Command::Trace(Trace {
            position: place.join(step, 1).full,
            kind: step.kind.name(),
            tool_id: step.kind.tool().map(|tool| tool.id.clone()),
            what,
        }));
    }
}

/// A branch at the first step of a body.
fn begin(step: &Step, body: BodyName, iteration: u32, value: Value) -> Branch {
    let first = step.kind.body(&body).and_then(|steps| steps.first());
    let step = first.map(|step| step.id.clone());
    let vars = BTreeMap::new();
    Branch { body, iteration, step, index: 0, value, vars, state: StepState::Ready }
}
