//! Calls and questions: what a turn makes of what comes back.

use std::sync::Arc;

use serde_json::Value;

use super::{
    machine::{Command, Event},
    state::{Branch, Call, CallKind, Memo, StepState},
    turn::{Here, Progress, Turn},
};
use crate::{
    ToolError, codes,
    flow::ir::{BodyName, StepKind},
    id::{ToolId, WaitId},
    tool::Output,
    wait::{Closed, ContentDigest, Receipt, Wait, WaitRequest},
};

impl<'f> Turn<'f> {
    pub(super) fn poll_call(
        &mut self,
        here: Here<'_, 'f>,
        branch: &mut Branch,
        call: Call,
    ) -> Progress {
        let result = match self.event.take() {
            Some(Event::Returned { call: id, result }) if id == call.id => result,
            event => {
                // A run that failed in a call stands in it still where `retry` makes it again.
                if matches!(event, Some(Event::Started | Event::Retried)) {
                    let order = self.order(here, branch, call.clone());
                    self.commands.push(Command::Call(order));
                }
                self.event = event;
                branch.state = StepState::Calling { call };
                return Progress::Pending;
            }
        };
        let output = match result {
            Ok(output) => output,
            Err(error) => {
                // An answer is asked for once: `retry` makes the very call again, unless the tool
                // says that it is of no use.
                if error.retryable && matches!(call.kind, CallKind::OnResume { .. }) {
                    branch.state = StepState::Calling { call };
                }
                return self.fail(here, error);
            }
        };
        let value = match output {
            Output::Value(value) => value,
            Output::Suspend(request) => return self.open(here, branch, request),
        };
        match (&here.step.kind, call.kind) {
            (StepKind::Tool { .. }, CallKind::Compute) => {
                let input = Some(Arc::unwrap_or_clone(value));
                self.call(here, branch, CallKind::Tool { input })
            }
            (StepKind::Filter { .. }, _) => match *value {
                Value::Bool(true) => Progress::Done(branch.value.clone()),
                Value::Bool(false) => Progress::Rejected(here.position(), branch.value.clone()),
                _ => self.fail(
                    here,
                    ToolError::new("a filter gives true or false, and this one gave neither")
                        .code(codes::EXPRESSION)
                        .permanent(),
                ),
            },
            (StepKind::Fail { code, .. }, _) => {
                let message = match Arc::unwrap_or_clone(value) {
                    Value::String(message) => message,
                    other => other.to_string(),
                };
                // Not for good: it hangs on what came before, which a `retry` around it does again.
                self.gave_up = true;
                self.fail(here, ToolError::new(message).code(code.clone()))
            }
            (StepKind::Switch { arms, otherwise, .. }, _) => {
                let name = match Arc::unwrap_or_clone(value) {
                    Value::String(name) => name,
                    other => other.to_string(),
                };
                let body = match (arms.contains_key(&name), otherwise) {
                    (true, _) => BodyName::Arm(name),
                    (false, Some(_)) => BodyName::Otherwise,
                    (false, None) => {
                        let error = ToolError::new(format!("the switch has no case for `{name}`"));
                        return self.fail(here, error.code(codes::NO_SUCH_ARM).permanent());
                    }
                };
                self.enter(here, branch, body, Memo::None)
            }
            _ => Progress::Done(value),
        }
    }

    pub(super) fn poll_wait(
        &mut self,
        here: Here<'_, 'f>,
        branch: &mut Branch,
        id: WaitId,
    ) -> Progress {
        let Some(index) = self.waits.iter().position(|wait| wait.id == id) else {
            // It was closed when the run failed elsewhere; the run was retried since: ask again.
            return self.start(here, branch);
        };
        let (tool_id, question, answer) = match self.event.take() {
            Some(Event::Answered { wait, tool_id, question, answer }) if wait == id => {
                (tool_id, question, answer)
            }
            event => {
                self.event = event;
                let wait = &self.waits[index];
                if wait.expires_at.is_none_or(|end| end > self.at) {
                    branch.state = StepState::Waiting { wait: id };
                    return Progress::Pending;
                }
                let wait = self.waits.remove(index);
                let Some(default) = wait.request.default.clone() else {
                    self.commands.push(Command::CloseWait(wait.receipt(Closed::TimedOut, self.at)));
                    self.timed_out = Some(here.position());
                    let error = ToolError::new("nobody answered in time");
                    return self.fail(here, error.code(codes::WAIT_TIMED_OUT));
                };
                let mut receipt = wait.receipt(Closed::Defaulted, self.at);
                receipt.input = Some(ContentDigest::of_value(&default));
                self.commands.push(Command::CloseWait(receipt));
                return self.take_answer(here, branch, wait, default);
            }
        };
        let wait = self.waits.remove(index);
        let receipt = Receipt { tool_id, question, ..wait.answered(&answer, self.at) };
        self.commands.push(Command::CloseWait(receipt));
        self.take_answer(here, branch, wait, answer.input)
    }

    /// Goes on with an answer: it is the output of a step that only asks; a tool that suspended in
    /// mid-work gets it back.
    pub(super) fn take_answer(
        &mut self,
        here: Here<'_, 'f>,
        branch: &mut Branch,
        wait: Wait,
        answer: Value,
    ) -> Progress {
        match &here.step.kind {
            StepKind::AwaitInput { .. } => Progress::Done(answer.into()),
            _ => {
                let kind = CallKind::OnResume { answer, saved: wait.request.saved };
                self.call(here, branch, kind)
            }
        }
    }

    pub(super) fn open(
        &mut self,
        here: Here<'_, 'f>,
        branch: &mut Branch,
        request: WaitRequest,
    ) -> Progress {
        self.opened_waits += 1;
        let position = here.position();
        let id = WaitId::from(format!("{position}#{}", self.opened_waits));
        let own_end = request.deadline.ends_at(self.now, self.default_timeout);
        // A timeout around the wait ends it too; nobody may be told that an answer was accepted
        // which the timeout would throw away.
        let expires_at = [own_end, here.env.deadline].into_iter().flatten().min();
        let tool_id = here
            .step
            .kind
            .tool()
            .map_or_else(|| ToolId::from(here.step.id.as_str()), |t| t.id.clone());
        let (run, now) = (self.run_id, self.now);
        self.waits.push(Wait::open(run, id.clone(), tool_id, position, request, now, expires_at));
        self.commands.push(Command::OpenWait(id.clone()));
        branch.state = StepState::Waiting { wait: id };
        Progress::Pending
    }
}
