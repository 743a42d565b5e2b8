//! One application of an event: the tree is polled from the root down.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    machine::{Command, Event, Order, Trace, Traced},
    state::{Branch, Call, CallKind, Hint, Memo, StepState},
};
use crate::{
    Error, Result, ToolError,
    clock::Timestamp,
    codes,
    expr::Variables,
    failure::Failure,
    flow::ir::{Body, BodyName, Step, StepKind},
    id::RunId,
    position::Position,
    schema::{Violation, told},
    value::check_room,
    wait::{Closed, Wait},
};

/// How far a body or a step came.
pub(super) enum Progress {
    /// It waits for something.
    Pending,
    /// It is through, with that value.
    Done(Arc<Value>),
    /// It failed.
    Failed(Failure),
    /// A filter said no.
    Rejected(Position, Arc<Value>),
}

/// What the bodies around a step give to it.
#[derive(Clone, Copy)]
pub(super) struct Env<'e> {
    /// The variables of the innermost body.
    pub(super) vars: &'e Variables,
    /// The environment of the body around it, unless it is a flow of its own.
    pub(super) outer: Option<&'e Env<'e>>,
    /// Counts the attempts of the innermost retry.
    pub(super) attempt: u32,
    /// What the innermost sub-flow began with, if it is in one.
    pub(super) input: Option<&'e Arc<Value>>,
    /// The earliest end of the timeouts around it.
    pub(super) deadline: Option<Timestamp>,
}

impl Env<'_> {
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Value>> {
        self.vars.get(name).or_else(|| self.outer?.get(name))
    }

    pub(super) fn flatten(&self) -> Variables {
        let mut all = self.outer.map(Self::flatten).unwrap_or_default();
        all.extend(self.vars.iter().map(|(name, value)| (name.clone(), value.clone())));
        all
    }
}

/// Where a step is: with all iterations, and with those of retries left out, which stays the same
/// from attempt to attempt.
#[derive(Clone, Default)]
pub(super) struct Place {
    pub(super) full: Position,
    pub(super) stable: Position,
}

impl Place {
    /// Inside a step, in that iteration of its body; `round` is that of the iteration which it repeats,
    /// if it does.
    pub(super) fn inside(&self, step: &Step, iteration: u32, round: u32) -> Self {
        Self {
            full: self.full.join(step.id.clone(), iteration),
            stable: self.stable.join(step.known_as().clone(), round),
        }
    }
}

/// A step that is being polled: which one, where, and what is around it.
#[derive(Clone, Copy)]
pub(super) struct Here<'a, 'f> {
    pub(super) step: &'f Step,
    /// Where the body stands that the step is in.
    pub(super) place: &'a Place,
    pub(super) env: Env<'a>,
}

impl Here<'_, '_> {
    pub(super) fn position(&self) -> Position {
        self.place.full.join(self.step.id.clone(), 1)
    }
}

/// One application of an event.
pub(super) struct Turn<'f> {
    pub(super) run_id: RunId,
    /// When the event happened: the timers that are due by then fire.
    pub(super) at: Timestamp,
    /// When what begins begins.
    pub(super) now: Timestamp,
    pub(super) default_timeout: Duration,
    /// Taken by the leaf that it is for.
    pub(super) event: Option<Event>,
    pub(super) calls: u64,
    pub(super) opened_waits: u64,
    pub(super) waits: Vec<Wait>,
    /// The wait that nobody answered in time, without a default: where it stood.
    pub(super) timed_out: Option<Position>,
    pub(super) commands: Vec<Command<'f>>,
    /// A `fail` step has failed, and nothing has handled that yet.
    pub(super) gave_up: bool,
}

/// Sets variables, if there is room for them beside the others that are in scope.
fn set_variables(vars: &mut Variables, outer: &Env<'_>, set: Value) -> Result<()> {
    let Value::Object(set) = set else { return Ok(()) };
    let around = std::iter::successors(Some(outer), |env| env.outer);
    let around = around.flat_map(|env| env.vars.values());
    let kept = vars.iter().filter(|(name, _)| !set.contains_key(*name));
    let all = around.chain(kept.map(|(_, value)| value)).map(|value| &**value).chain(set.values());
    check_room("what the variables hold", all)?;
    vars.extend(set.into_iter().map(|(name, value)| (name, value.into())));
    Ok(())
}

/// What is not put together or set, as the error of the step that was about to.
pub(super) fn too_large(error: &Error) -> ToolError {
    ToolError::new(error.message()).code(codes::OUTPUT_INVALID).permanent()
}

/// What does not fit, as the error of the step whose it is.
pub(super) fn misfit(code: &'static str, what: &str, violations: &[Violation]) -> ToolError {
    ToolError::new(format_args!("{what}: {}", told(violations))).code(code).permanent()
}

impl<'f> Turn<'f> {
    pub(super) fn poll_body(
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
                let message = format!("the flow has no step `{id}` here any more");
                let position = place.full.join(id.clone(), 1);
                let code = codes::FLOW_INCOMPATIBLE;
                break Progress::Failed(Failure::permanent(code, message, position));
            };
            let here = Here { step: &body[index], place, env };
            match self.poll_step(here, branch, &mut vars) {
                Progress::Done(value) => {
                    self.trace(here, Traced::Completed);
                    branch.value = value;
                    branch.step = body.get(index + 1).map(|step| step.id.clone());
                    branch.index = Hint(index + 1);
                    branch.state = StepState::Ready;
                }
                other => break other,
            }
        };
        branch.vars = vars;
        progress
    }

    /// Polls a step of a body that has these variables; what is around the step is what is around
    /// that body.
    fn poll_step(
        &mut self,
        outside: Here<'_, 'f>,
        branch: &mut Branch,
        vars: &mut Variables,
    ) -> Progress {
        if matches!(branch.state, StepState::Failed) && matches!(self.event, Some(Event::Retried)) {
            self.event = None;
            branch.state = StepState::Ready;
        }
        let outer = outside.env;
        let here = Here { env: Env { vars, outer: Some(&outer), ..outer }, ..outside };
        let progress = match std::mem::replace(&mut branch.state, StepState::Ready) {
            StepState::Ready => self.start(here, branch),
            StepState::Calling { call } => self.poll_call(here, branch, call),
            StepState::Waiting { wait } => self.poll_wait(here, branch, wait),
            StepState::Sleeping { until } if until <= self.at => {
                Progress::Done(branch.value.clone())
            }
            StepState::Inside { branches, memo } => self.poll_inside(here, branch, branches, memo),
            state @ (StepState::Sleeping { .. } | StepState::Failed) => {
                branch.state = state;
                Progress::Pending
            }
        };
        let progress = match progress {
            // The result of a `set` step's computation is its variables.
            Progress::Done(set) if matches!(outside.step.kind, StepKind::Set { .. }) => {
                match set_variables(vars, &outer, Arc::unwrap_or_clone(set)) {
                    Ok(()) => Progress::Done(branch.value.clone()),
                    Err(error) => self.fail(outside, too_large(&error)),
                }
            }
            other => other,
        };
        match progress {
            Progress::Failed(failure) => {
                // A step with live bodies keeps them, so that `retry` finds the step that failed.
                if matches!(branch.state, StepState::Ready) {
                    branch.state = StepState::Failed;
                }
                self.trace(outside, Traced::Failed(failure.code.clone()));
                Progress::Failed(failure)
            }
            other => other,
        }
    }

    pub(super) fn start(&mut self, here: Here<'_, 'f>, branch: &mut Branch) -> Progress {
        self.trace(here, Traced::Started);
        match &here.step.kind {
            StepKind::Input { schema } => match schema.validate(&branch.value) {
                Ok(()) => Progress::Done(branch.value.clone()),
                Err(violations) => self.fail(
                    here,
                    misfit(codes::INPUT_INVALID, "the value does not fit", &violations),
                ),
            },
            StepKind::Succeed { value } => Progress::Done(value.clone().into()),
            StepKind::Get { variable } => match here.env.get(variable) {
                Some(value) => Progress::Done(value.clone()),
                None => self.fail(
                    here,
                    ToolError::new(format!("the variable `{variable}` is not set"))
                        .code(codes::EXPRESSION)
                        .permanent(),
                ),
            },
            StepKind::Sleep { duration } => {
                branch.state = StepState::Sleeping { until: self.now.after(*duration) };
                Progress::Pending
            }
            StepKind::Tool { with: None, .. } | StepKind::AwaitInput { .. } => {
                self.call(here, branch, CallKind::Tool { input: None })
            }
            StepKind::Tool { with: Some(_), .. }
            | StepKind::Map { .. }
            | StepKind::Filter { .. }
            | StepKind::Set { .. }
            | StepKind::Fail { .. }
            | StepKind::Switch { .. } => self.call(here, branch, CallKind::Compute),
            StepKind::SubFlow { flow } => match flow.input.validate(&branch.value) {
                Ok(()) => self.enter(here, branch, BodyName::Main, Memo::None),
                Err(violations) => self.fail(
                    here,
                    misfit(
                        codes::INPUT_INVALID,
                        "the value does not fit the flow's input",
                        &violations,
                    ),
                ),
            },
            StepKind::Tap { .. } | StepKind::Keep { .. } | StepKind::Catch { .. } => {
                self.enter(here, branch, BodyName::Main, Memo::None)
            }
            StepKind::Retry { .. } => {
                let memo = Memo::Retry { failed: 0, until: None, given_up: 0 };
                self.enter(here, branch, BodyName::Main, memo)
            }
            StepKind::Timeout { after, .. } => {
                let memo = Memo::Timeout { deadline: self.now.after(*after) };
                self.enter(here, branch, BodyName::Main, memo)
            }
        }
    }

    pub(super) fn call(
        &mut self,
        here: Here<'_, 'f>,
        branch: &mut Branch,
        kind: CallKind,
    ) -> Progress {
        self.calls += 1;
        let call = Call { id: self.calls, kind, attempt: here.env.attempt };
        let order = self.order(here, branch, call.clone());
        self.commands.push(Command::Call(order));
        branch.state = StepState::Calling { call };
        Progress::Pending
    }

    pub(super) fn order(&self, here: Here<'_, 'f>, branch: &Branch, call: Call) -> Order<'f> {
        let stage = match &call.kind {
            CallKind::Compute => "compute".to_owned(),
            CallKind::Tool { .. } => "execute".to_owned(),
            CallKind::OnResume { .. } => format!("resume {}", self.opened_waits),
        };
        let input = match &call.kind {
            CallKind::Tool { input: Some(input) } => input.clone().into(),
            _ => branch.value.clone(),
        };
        let stable = here.place.stable.join(here.step.known_as().clone(), 1);
        let digest = Sha256::digest(format!("{} {stable} {stage}", self.run_id));
        Order {
            call,
            step: here.step,
            position: here.position(),
            input,
            vars: Arc::new(here.env.flatten()),
            flow_input: here.env.input.cloned(),
            idempotency_key: hex::encode(&digest[..16]),
        }
    }

    /// Drops all that is live in a branch: its calls are of no interest, its waits are closed.
    pub(super) fn abandon(&mut self, branch: &mut Branch, closed: Closed) {
        match &mut branch.state {
            StepState::Calling { call } => self.commands.push(Command::Abort { call: call.id }),
            StepState::Waiting { wait } => {
                if let Some(index) = self.waits.iter().position(|open| open.id == *wait) {
                    let receipt = self.waits.remove(index).receipt(closed, self.at);
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

    pub(super) fn fail(&self, here: Here<'_, 'f>, error: ToolError) -> Progress {
        Progress::Failed(Failure {
            code: error.code,
            message: error.message,
            position: here.position(),
            tool_id: here.step.kind.tool().map(|tool| tool.id.clone()),
            retryable: error.retryable,
        })
    }

    pub(super) fn trace(&mut self, here: Here<'_, 'f>, what: Traced) {
        self.commands.push(Command::Trace(Trace {
            position: here.position(),
            kind: here.step.kind.name(),
            tool_id: here.step.kind.tool().map(|tool| tool.id.clone()),
            what,
        }));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        Flow,
        engine::{
            FlowStamp, RunStatus, Snapshot,
            machine::{Machine, Returned},
            state::Ended,
        },
        flow::Var,
        hours,
        tool::Output,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_795_420_800_000);

    /// What a step that sets that variable comes to: a text that has no memory before it is written.
    fn large(name: &str, mib: usize) -> Returned {
        let text = String::from_utf8(vec![0; mib << 20]).unwrap();
        Ok(Output::Value(Arc::new(json!({ name: text }))))
    }

    #[test]
    fn variables_are_set_while_all_that_are_in_scope_have_room() {
        let (a, b) = (Var::<String>::new("a"), Var::<String>::new("b"));
        let flow = Flow::input::<i64>("hoarding")
            .set(&a, |_| String::new())
            .timeout("inside", hours(1), |n| {
                n.set(&a, |_| String::new()).set(&b, |_| String::new())
            })
            .build()
            .unwrap();
        let (machine, stamp) = (
            Machine::new(flow.def(), Duration::from_secs(1)),
            FlowStamp::unstamped(flow.def().id.clone()),
        );
        let body = &flow.def().body;
        let mut snapshot = Snapshot::start(RunId::from_bytes([1; 16]), stamp, body, json!(1));
        machine.apply(&mut snapshot, Event::Started, NOW, NOW);
        for (name, mib) in [("a", 150), ("a", 100), ("b", 10)] {
            assert_eq!(snapshot.status, RunStatus::Running, "before {name} of {mib} MiB");
            let event = Event::Returned { call: snapshot.calls, result: large(name, mib) };
            machine.apply(&mut snapshot, event, NOW, NOW);
        }
        let Some(Ended::Failed(failure)) = snapshot.ended else { panic!("{:?}", snapshot.status) };
        assert_eq!((failure.code.as_str(), failure.retryable), ("output_invalid", false));
        assert_eq!(failure.position.to_string(), "inside/set-b");
        assert!(failure.message.contains("what the variables hold takes more than 256 MiB"));
    }

    #[test]
    fn a_call_is_given_the_variables_themselves_and_no_copies() {
        let (a, b) = (Var::<String>::new("a"), Var::<String>::new("b"));
        let flow = Flow::input::<i64>("sharing")
            .set(&a, |_| String::new())
            .timeout("inside", hours(1), |n| {
                n.set(&b, |_| String::new()).get(&a).map("on", |text| text)
            })
            .build()
            .unwrap();
        let machine = Machine::new(flow.def(), Duration::from_secs(1));
        let stamp = FlowStamp::unstamped(flow.def().id.clone());
        let body = &flow.def().body;
        let mut snapshot = Snapshot::start(RunId::from_bytes([1; 16]), stamp, body, json!(1));
        machine.apply(&mut snapshot, Event::Started, NOW, NOW);
        let mut asked = Vec::new();
        for name in ["a", "b"] {
            let result = Ok(Output::Value(Arc::new(json!({ name: "long" }))));
            let event = Event::Returned { call: snapshot.calls, result };
            asked = machine.apply(&mut snapshot, event, NOW, NOW);
        }
        let last = asked.iter().find_map(|command| match command {
            Command::Call(order) => Some(order),
            _ => None,
        });
        let order = last.expect("the computation of `on`");
        assert_eq!(order.vars.keys().collect::<Vec<_>>(), ["a", "b"]);
        let kept = &snapshot.root.vars["a"];
        assert!(Arc::ptr_eq(&order.vars["a"], kept) && Arc::ptr_eq(&order.input, kept));
    }
}
