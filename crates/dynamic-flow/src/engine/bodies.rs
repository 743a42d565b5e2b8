//! Steps with bodies: how a turn goes into them, and what it makes of how they end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    machine::Event,
    state::{Branch, Failure, Hint, Memo, StepState},
    turn::{Env, Place, Progress, Turn, describe, too_large},
};
use crate::{
    ToolError,
    flow::ir::{BodyName, Step, StepKind},
    value::check_room,
    wait::Closed,
};

impl<'f> Turn<'f> {
    /// Goes into a body of a step, for the first time.
    pub(super) fn enter(
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

    pub(super) fn poll_inside(
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
                if *deadline <= self.at {
                    for inner in &mut branches {
                        self.abandon(inner, Closed::Superseded);
                    }
                    let error = ToolError::new(format!("not done within {after:?}"));
                    return self.fail(step, place, error.code("timeout"));
                }
                env.deadline = Some(env.deadline.map_or(*deadline, |end| end.min(*deadline)));
            }
            (StepKind::Retry { .. }, Memo::Retry { failed, until, .. }) => {
                if retried {
                    *failed = 0;
                }
                match *until {
                    Some(until_then) if until_then > self.at => {
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
        let round = match &memo {
            Memo::Retry { given_up, .. } => given_up + 1,
            _ => inner.iteration,
        };
        let place_inside = place.join_in_round(step, inner.iteration, round);
        // A sub-flow is a definition of its own: it sees none of the variables around it.
        let none = BTreeMap::new();
        let entered = match &step.kind {
            StepKind::SubFlow { .. } => branch.value.clone(),
            _ => Arc::default(),
        };
        let env_inside = match &step.kind {
            StepKind::SubFlow { .. } => {
                Env { vars: &none, outer: None, input: Some(&entered), ..env }
            }
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
                    if let Err(error) = check_room("the value", [&*branch.value, &*value]) {
                        return self.fail(step, place, too_large(&error));
                    }
                    let both = [std::mem::take(&mut branch.value), value];
                    let both = both.map(Arc::unwrap_or_clone);
                    Progress::Done(Arc::new(both.into_iter().collect()))
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
    pub(super) fn handle(
        &mut self,
        step: &'f Step,
        branch: &mut Branch,
        place: &Place,
        env: Env<'_>,
        mut branches: Vec<Branch>,
        memo: Memo,
        failure: Failure,
    ) -> Progress {
        let gave_up = std::mem::take(&mut self.gave_up);
        match (&step.kind, memo) {
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
                self.poll_inside(step, branch, place, env, branches, memo)
            }
            (StepKind::Catch { codes, .. }, memo)
                if branches.first().is_some_and(|inner| inner.body == BodyName::Main)
                    && (codes.is_empty() || codes.contains(&failure.code)) =>
            {
                for inner in &mut branches {
                    self.abandon(inner, Closed::Superseded);
                }
                if let Err(error) = check_room("the value", [&*branch.value]) {
                    return self.fail(step, place, too_large(&error));
                }
                let caught = serde_json::json!({
                    "code": failure.code,
                    "message": failure.message,
                    "step": failure.position,
                    "tool_id": failure.tool_id,
                    "value": branch.value,
                });
                let handler = begin(step, BodyName::Handler, 1, caught.into());
                self.poll_inside(step, branch, place, env, vec![handler], memo)
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
    let vars = BTreeMap::new();
    Branch { body, iteration, step, index: Hint::default(), value, vars, state: StepState::Ready }
}
