//! An old flow against a new one: can a parked run go on, and what has changed?

mod differences;
mod essence;
mod subsume;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub use self::differences::compare_defs;
pub(super) use self::essence::fingerprint;
use self::subsume::takes_all_of;
use crate::{
    engine::{Branch, CallKind, FlowStamp, Memo, RunStatus, Snapshot, StepStamp, StepState},
    flow::{Body, BodyName, Flow, FlowDef, Step, StepKind, ToolRef, check::reads},
    schema::{Schema, told},
    wait::{ContentDigest, Wait},
};

/// Whether a parked run can go on with a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fit {
    /// In all that can be compared it is the flow that the run was parked with.
    Same,
    /// It is another flow, in which the run stands where it stood.
    Compatible,
    /// The run can't go on; each reason is a sentence that names a step and what changed.
    Incompatible(Vec<String>),
}

impl<I, O> Flow<I, O> {
    /// Tells whether a parked run can go on with this flow, which may be newer than the one it ran with.
    ///
    /// It can if every step that the run stands in is still there, of the same kind and with the same
    /// tool, and if what was saved fits the new schemas: the run's input, the value that a step is
    /// about to work on, the input of a call that is being made, and every answer that an open wait
    /// would take. The variables that the steps to come read must be set.
    ///
    /// What closures and tools compute, and what the prompts of questions read, is not compared. A run
    /// that has ended for good fits any flow of its id.
    ///
    /// A run that has outgrown this flow does not fit, however it stands: what an upgrade has changed would
    /// be changed once more when the newer version finds the stamp of this one.
    pub(crate) fn fit(&self, snapshot: &Snapshot) -> Fit {
        match self.fingerprint() {
            Ok(known) if *known == snapshot.flow.fingerprint => Fit::Same,
            Ok(_) if self.is_outgrown(snapshot) => Fit::Incompatible(vec![outgrown(snapshot)]),
            _ => compare_changed(snapshot, &self.def),
        }
    }

    /// Whether a newer version has left this one behind, which has no upgrade that leads back.
    pub(crate) fn is_outgrown(&self, snapshot: &Snapshot) -> bool {
        let outgrown = &snapshot.flow.outgrown;
        self.fingerprint().is_ok_and(|known| outgrown.contains(known))
            && !self.upgrades_from(snapshot)
            && !has_ended_for_good(snapshot)
    }
}

fn outgrown(snapshot: &Snapshot) -> String {
    format!(
        "The run is past this version of the flow: a newer one, which carries its runs over, has committed \
         it, and a process that has the newer one goes on with it. To go back on purpose, give this one an \
         upgrade from `{}`.",
        snapshot.flow.fingerprint.0
    )
}

fn has_ended_for_good(snapshot: &Snapshot) -> bool {
    matches!(snapshot.status, RunStatus::Completed | RunStatus::Rejected | RunStatus::Cancelled)
}

impl FlowStamp {
    /// What a snapshot keeps of its flow: the steps that the run stands in, from the root down.
    ///
    /// `fingerprint` is [`Flow::fingerprint`](crate::Flow::fingerprint), worked out once for all
    /// commits.
    pub(crate) fn of(def: &FlowDef, fingerprint: &ContentDigest, root: &Branch) -> Self {
        let mut steps = Vec::new();
        stamp(&def.body, root, "", &mut steps);
        Self {
            id: def.id.clone(),
            fingerprint: fingerprint.clone(),
            document: def.document.clone(),
            steps,
            outgrown: Vec::new(),
        }
    }
}

fn stamp(body: &Body, branch: &Branch, parent: &str, steps: &mut Vec<StepStamp>) {
    let Some(step) = current(body, branch) else { return };
    let path = join(parent, step);
    steps.push(StepStamp {
        path: path.clone(),
        kind: step.kind.name().to_owned(),
        tool_id: step.kind.tool().map(|tool| tool.id.clone()),
        keyed_as: step.keyed_as.clone(),
    });
    if let StepState::Inside { branches, .. } = &branch.state {
        for inner in branches {
            if let Some(body) = step.kind.body(&inner.body) {
                stamp(body, inner, &path, steps);
            }
        }
    }
}

fn current<'f>(body: &'f Body, branch: &Branch) -> Option<&'f Step> {
    branch.find(body).map(|index| &body[index])
}

fn join(parent: &str, step: &Step) -> String {
    if parent.is_empty() { step.id.to_string() } else { format!("{parent}/{}", step.id) }
}

/// As [`Flow::fit`], of flows that are known to differ.
fn compare_changed(snapshot: &Snapshot, new: &FlowDef) -> Fit {
    if snapshot.flow.id != new.id {
        let (old, new) = (&snapshot.flow.id, &new.id);
        let reason = format!("The run is one of the flow `{old}`, and this is the flow `{new}`.");
        return Fit::Incompatible(vec![reason]);
    }
    if has_ended_for_good(snapshot) {
        return Fit::Compatible;
    }
    let stamps = snapshot.flow.steps.iter().map(|stamp| (stamp.path.as_str(), stamp)).collect();
    let mut walk = Walk { snapshot, stamps, reasons: Vec::new() };
    walk.saved("The input of the run", &snapshot.input, &new.input, "the flow takes");
    walk.branch(&snapshot.root, &new.body, "", &BTreeSet::new());
    if walk.reasons.is_empty() { Fit::Compatible } else { Fit::Incompatible(walk.reasons) }
}

struct Walk<'s> {
    snapshot: &'s Snapshot,
    stamps: BTreeMap<&'s str, &'s StepStamp>,
    reasons: Vec<String>,
}

impl Walk<'_> {
    fn branch(&mut self, branch: &Branch, body: &Body, parent: &str, around: &BTreeSet<String>) {
        let Some(id) = &branch.step else { return };
        let mut vars = around.clone();
        vars.extend(branch.vars.keys().cloned());
        let Some(at) = branch.find(body) else {
            let path = if parent.is_empty() { id.to_string() } else { format!("{parent}/{id}") };
            let renamed = body.iter().find(|step| step.known_as() == id);
            let hint = renamed.map_or_else(String::new, |step| {
                format!("; in Rust, an upgrade with `rename_step` carries it over to `{}`", step.id)
            });
            self.reasons.push(format!("The run stands at the step `{path}`, which is gone{hint}."));
            return;
        };
        let step = &body[at];
        let path = join(parent, step);
        if !self.same_step(step, &path) {
            return;
        }
        let rest = &body[at + 1..];
        let first_is_over = match &branch.state {
            StepState::Ready | StepState::Failed => {
                self.about_to_start(step, &path, &branch.value);
                false
            }
            StepState::Calling { call } => {
                self.calling(step, &path, &call.kind, &branch.value);
                call.kind != CallKind::Compute
            }
            StepState::Waiting { wait } => {
                let wait = self.snapshot.waits.iter().find(|open| open.id == *wait);
                self.waiting(step, &path, wait);
                true
            }
            StepState::Sleeping { .. } => {
                if let Some(next) = rest.first() {
                    self.about_to_start(next, &join(parent, next), &branch.value);
                }
                true
            }
            StepState::Inside { memo: Memo::Retry { until: Some(_), .. }, .. } => {
                self.about_to_retry(step, &path, &branch.value, &vars);
                true
            }
            StepState::Inside { branches, memo } => {
                self.inside(step, &path, branches, memo, &vars);
                true
            }
        };
        let to_come = if first_is_over { rest } else { &body[at..] };
        self.unset(to_come, parent, &vars);
    }

    fn same_step(&mut self, step: &Step, path: &str) -> bool {
        let Some(old) = self.stamps.get(path) else {
            let reason = format!("The saved state does not say what the step `{path}` was.");
            self.reasons.push(reason);
            return false;
        };
        let kind = step.kind.name();
        if old.kind != kind {
            let reason = format!("The step `{path}` was `{}` and is `{kind}` now.", old.kind);
            self.reasons.push(reason);
            return false;
        }
        let tool = step.kind.tool().map(|tool| &tool.id);
        if let (Some(old), Some(new)) = (&old.tool_id, tool)
            && old != new
        {
            let reason =
                format!("The step `{path}` called the tool `{old}` and calls `{new}` now.");
            self.reasons.push(reason);
            return false;
        }
        self.same_keys(step, path);
        true
    }

    /// What the step calls again must have the idempotency keys that it had.
    fn same_keys(&mut self, step: &Step, path: &str) {
        let Some(old) = self.stamps.get(path) else { return };
        let known_as = old.keyed_as.as_ref().unwrap_or(&step.id);
        if known_as != step.known_as() && step.calls_tools() {
            let reason = format!(
                "What the step `{path}` calls was known as that of `{known_as}`, and might be called \
                 again under other idempotency keys: give the step `keyed_as: {known_as}`, and a step \
                 beside it that has this name now another one."
            );
            self.reasons.push(reason);
        }
    }

    /// The step has done nothing yet: it will work on the value that was saved.
    fn about_to_start(&mut self, step: &Step, path: &str, value: &Value) {
        let what = format!("The value that the step `{path}` is about to work on");
        match &step.kind {
            StepKind::Tool { tool, with: None } | StepKind::AwaitInput { tool } => {
                self.saved(&what, value, &tool.input, "its tool takes");
            }
            StepKind::Input { schema } => self.saved(&what, value, schema, "it asks for"),
            StepKind::SubFlow { flow } => self.saved(&what, value, &flow.input, "its flow takes"),
            // What does not fit here is caught.
            StepKind::Catch { .. } => {}
            // Other bodies begin with the value of the step around them.
            kind => {
                if let Some(first) = kind.body(&BodyName::Main).and_then(|body| body.first()) {
                    self.about_to_start(first, &join(path, first), value);
                }
            }
        }
    }

    /// The step pauses between two attempts: nothing of the last one is gone on with.
    fn about_to_retry(&mut self, step: &Step, path: &str, value: &Value, vars: &BTreeSet<String>) {
        self.about_to_start(step, path, value);
        if let Some(body) = step.kind.body(&BodyName::Main) {
            body.iter().for_each(|step| self.same_keys(step, &join(path, step)));
            self.unset(body, path, vars);
        }
    }

    fn calling(&mut self, step: &Step, path: &str, call: &CallKind, value: &Value) {
        let Some(tool) = step.kind.tool() else { return };
        match call {
            CallKind::Compute => {}
            CallKind::Tool { input } => {
                let what = format!("The input of the call that the step `{path}` makes");
                self.saved(&what, input.as_ref().unwrap_or(value), &tool.input, "its tool takes");
            }
            CallKind::OnResume { answer, .. } => {
                if matches!(step.kind, StepKind::AwaitInput { .. }) {
                    let what = format!("The answer that the step `{path}` took");
                    self.saved(&what, answer, &tool.output, "is asked for");
                }
            }
        }
    }

    /// The wait keeps the schema that it was opened with: whatever it takes must suit what follows.
    fn waiting(&mut self, step: &Step, path: &str, wait: Option<&Wait>) {
        let Some(wait) = wait else {
            let reason =
                format!("The step `{path}` waits, but its wait is not in the saved state.");
            self.reasons.push(reason);
            return;
        };
        // A tool that suspends in mid-work makes its own output of the answer.
        let StepKind::AwaitInput { tool } = &step.kind else { return };
        if !takes_all_of(&tool.output.essence(), &wait.request.schema.essence()) {
            let reason = format!(
                "The step `{path}` asks for other answers now than the open wait takes: \
                 an answer that is right for the one may be wrong for the other."
            );
            self.reasons.push(reason);
        }
    }

    fn inside(
        &mut self,
        step: &Step,
        path: &str,
        branches: &[Branch],
        memo: &Memo,
        vars: &BTreeSet<String>,
    ) {
        let none = BTreeSet::new();
        let vars = if matches!(step.kind, StepKind::SubFlow { .. }) { &none } else { vars };
        for branch in branches {
            match step.kind.body(&branch.body) {
                Some(body) => self.branch(branch, body, path, vars),
                None => self.reasons.push(format!(
                    "The run stands in {} of the step `{path}`, which is gone.",
                    in_words(&branch.body)
                )),
            }
        }
        match (&step.kind, memo) {
            (StepKind::Retry { body, .. }, Memo::Retry { .. }) => self.unset(body, path, vars),
            (StepKind::Catch { handler, .. }, _)
                if branches.iter().all(|branch| branch.body == BodyName::Main) =>
            {
                self.unset(handler, path, vars);
            }
            _ => {}
        }
    }

    fn saved(&mut self, what: &str, value: &Value, schema: &Schema, wants: &str) {
        if let Err(violations) = schema.validate(value) {
            let all = told(&violations);
            self.reasons.push(format!("{what} is not what {wants} now: {all}."));
        }
    }

    /// Steps that are still to come must not read what nobody has set.
    fn unset(&mut self, steps: &[Step], parent: &str, vars: &BTreeSet<String>) {
        let mut vars = vars.clone();
        for step in steps {
            let path = join(parent, step);
            for name in reads(&step.kind).difference(&vars) {
                let reason = format!(
                    "The step `{path}` reads the variable `{name}`, which this run has not set."
                );
                if !self.reasons.contains(&reason) {
                    self.reasons.push(reason);
                }
            }
            match &step.kind {
                StepKind::Set { variables } => vars.extend(variables.keys().cloned()),
                StepKind::SubFlow { .. } => {}
                kind => {
                    for (_, body) in kind.bodies() {
                        self.unset(body, &path, &vars);
                    }
                }
            }
        }
    }
}

fn in_words(body: &BodyName) -> String {
    match body {
        BodyName::Main => "the body".into(),
        BodyName::Handler => "the handler".into(),
        BodyName::Arm(name) => format!("the case `{name}`"),
        BodyName::Otherwise => "the default".into(),
    }
}

/// A tool's schemas without annotations.
fn tool_essence(tool: &ToolRef) -> Value {
    serde_json::json!({
        "id": tool.id,
        "input": tool.input.essence(),
        "output": tool.output.essence(),
    })
}
