//! Steps with bodies: how a turn goes into them, and what it makes of how they end.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    machine::Event,
    state::{Branch, Hint, Memo, StepState},
    turn::{Env, Here, Progress, Turn, misfit, too_large},
};
use crate::{
    ToolError, codes,
    expr::Variables,
    failure::Failure,
    flow::ir::{BodyName, Step, StepKind},
    value::check_room,
    wait::Closed,
};

impl<'f> Turn<'f> {
    /// Goes into a body of a step, for the first time.
    pub(super) fn enter(
        &mut self,
        here: Here<'_, 'f>,
        branch: &mut Branch,
        body: BodyName,
        memo: Memo,
    ) -> Progress {
        let inner = begin(here.step, body, 1, branch.value.clone());
        self.poll_inside(here, branch, vec![inner], memo)
    }

    pub(super) fn poll_inside(
        &mut self,
        here: Here<'_, 'f>,
        branch: &mut Branch,
        mut branches: Vec<Branch>,
        mut memo: Memo,
    ) -> Progress {
        let env = match self.go_on(here, &branch.value, &mut branches, &mut memo) {
            ControlFlow::Continue(env) => env,
            ControlFlow::Break(progress) => {
                if matches!(progress, Progress::Pending) {
                    branch.state = StepState::Inside { branches, memo };
                }
                return progress;
            }
        };
        let here = Here { env, ..here };
        let Some(inner) = branches.first_mut() else {
            return Progress::Done(branch.value.clone());
        };
        match self.poll_inner(here, &branch.value, inner, &memo) {
            Progress::Done(result) => self.leave(here, branch, result),
            Progress::Failed(failure) => self.handle(here, branch, branches, memo, failure),
            other => {
                branch.state = StepState::Inside { branches, memo };
                other
            }
        }
    }

    /// What the body of a step has around it, if the time has come to go on with it: the next attempt
    /// of a `retry` begins, and a `timeout` is over or not.
    fn go_on<'e>(
        &mut self,
        here: Here<'e, 'f>,
        value: &Arc<Value>,
        branches: &mut Vec<Branch>,
        memo: &mut Memo,
    ) -> ControlFlow<Progress, Env<'e>> {
        let retried = matches!(self.event, Some(Event::Retried));
        let mut env = here.env;
        match (&here.step.kind, memo) {
            (StepKind::Timeout { after, .. }, Memo::Timeout { deadline }) => {
                if retried {
                    *deadline = self.now.after(*after);
                }
                if *deadline <= self.at {
                    for inner in branches {
                        self.abandon(inner, Closed::Superseded);
                    }
                    let error = ToolError::new(format!("not done within {after:?}"));
                    return ControlFlow::Break(self.fail(here, error.code(codes::TIMEOUT)));
                }
                env.deadline = Some(env.deadline.map_or(*deadline, |end| end.min(*deadline)));
            }
            (StepKind::Retry { .. }, Memo::Retry { failed, until, .. }) => {
                if retried {
                    *failed = 0;
                }
                match *until {
                    Some(until) if until > self.at => return ControlFlow::Break(Progress::Pending),
                    Some(_) => {
                        let last = branches.pop().map_or(0, |inner| inner.iteration);
                        *branches = vec![begin(here.step, BodyName::Main, last + 1, value.clone())];
                        *until = None;
                    }
                    None => {}
                }
                env.attempt = *failed + 1;
            }
            _ => {}
        }
        ControlFlow::Continue(env)
    }

    /// Polls a body of a step that works on that value.
    fn poll_inner(
        &mut self,
        here: Here<'_, 'f>,
        value: &Arc<Value>,
        inner: &mut Branch,
        memo: &Memo,
    ) -> Progress {
        let Here { step, place, env } = here;
        let round = match memo {
            Memo::Retry { given_up, .. } => given_up + 1,
            _ => inner.iteration,
        };
        let place = place.inside(step, inner.iteration, round);
        // A sub-flow is a definition of its own: it sees none of the variables around it.
        let none = Variables::new();
        let env = match &step.kind {
            StepKind::SubFlow { .. } => Env { vars: &none, outer: None, input: Some(value), ..env },
            _ => env,
        };
        match step.kind.body(&inner.body) {
            Some(body) => self.poll_body(body, inner, &place, env),
            None => {
                let message = format!("the step has no body {:?} any more", inner.body);
                let code = codes::FLOW_INCOMPATIBLE;
                Progress::Failed(Failure::permanent(code, message, place.full))
            }
        }
    }

    /// What a step comes to whose body is through.
    fn leave(&mut self, here: Here<'_, 'f>, branch: &mut Branch, result: Arc<Value>) -> Progress {
        match &here.step.kind {
            StepKind::Keep { .. } => {
                if let Err(error) = check_room("the value", [&*branch.value, &*result]) {
                    return self.fail(here, too_large(&error));
                }
                let both = [std::mem::take(&mut branch.value), result];
                let both = both.map(Arc::unwrap_or_clone);
                Progress::Done(Arc::new(both.into_iter().collect()))
            }
            StepKind::Tap { .. } => Progress::Done(branch.value.clone()),
            StepKind::SubFlow { flow } => match flow.output.validate(&result) {
                Ok(()) => Progress::Done(result),
                Err(violations) => self.fail(
                    here,
                    misfit(codes::OUTPUT_INVALID, "the flow's output does not fit", &violations),
                ),
            },
            _ => Progress::Done(result),
        }
    }

    /// Lets a `retry` or `catch` deal with a failure inside it; every other step passes it on.
    fn handle(
        &mut self,
        here: Here<'_, 'f>,
        branch: &mut Branch,
        mut branches: Vec<Branch>,
        memo: Memo,
        failure: Failure,
    ) -> Progress {
        let gave_up = std::mem::take(&mut self.gave_up);
        match (&here.step.kind, memo) {
            (StepKind::Retry { attempts, backoff, .. }, Memo::Retry { failed, given_up, .. })
                if failure.retryable && failed + 1 < *attempts =>
            {
                for inner in &mut branches {
                    self.abandon(inner, Closed::Superseded);
                    // The next attempt is another one: nothing of this one is gone on with.
                    inner.state = StepState::Failed;
                }
                let failed = failed + 1;
                // Without anything from outside a flow may give up again in the very turn that begins
                // the next attempt, and so on: in a moment it can be cancelled, or stopped.
                let least = if gave_up { A_MOMENT } else { Duration::ZERO };
                let until = Some(self.now.after(backoff.pause(failed).max(least)));
                let memo = Memo::Retry { failed, until, given_up: given_up + u32::from(gave_up) };
                // Polled again at once: a pause of nothing is over already.
                self.poll_inside(here, branch, branches, memo)
            }
            (StepKind::Catch { codes, .. }, memo)
                if branches.first().is_some_and(|inner| inner.body == BodyName::Main)
                    && (codes.is_empty() || codes.contains(&failure.code)) =>
            {
                for inner in &mut branches {
                    self.abandon(inner, Closed::Superseded);
                }
                if let Err(error) = check_room("the value", [&*branch.value]) {
                    return self.fail(here, too_large(&error));
                }
                let caught = serde_json::json!({
                    "code": failure.code,
                    "message": failure.message,
                    "step": failure.position,
                    "tool_id": failure.tool_id,
                    "value": branch.value,
                });
                let handler = begin(here.step, BodyName::Handler, 1, caught.into());
                self.poll_inside(here, branch, vec![handler], memo)
            }
            (_, memo) => {
                self.gave_up = gave_up;
                branch.state = StepState::Inside { branches, memo };
                Progress::Failed(failure)
            }
        }
    }
}

/// How long a flow that gave up is left alone at the least.
const A_MOMENT: Duration = Duration::from_millis(1);

/// A branch at the first step of a body.
fn begin(step: &Step, body: BodyName, iteration: u32, value: Arc<Value>) -> Branch {
    let first = step.kind.body(&body).and_then(|steps| steps.first());
    let step = first.map(|step| step.id.clone());
    let vars = Variables::new();
    Branch { body, iteration, step, index: Hint::default(), value, vars, state: StepState::Ready }
}
