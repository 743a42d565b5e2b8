//! The whole persisted state of a run: plain data, versioned.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{status::RunStatus, stored};
use crate::{
    clock::Timestamp,
    expr::Variables,
    failure::Failure,
    flow::ir::{Body, BodyName},
    id::{FlowId, KeyDigest, RunId, StepId, ToolId, WaitId},
    position::Position,
    wait::{Cancellation, Closed, ContentDigest, Metadata, Receipt, Wait, is_zero, present},
};

/// The serializable continuation of a run: all that is needed to go on, and nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The version of this form; [`Snapshot::FORMAT`] when written by this build.
    pub format: u32,
    /// Counts the commits of the run; what seals this snapshot to its place in their order.
    #[serde(deserialize_with = "stored::count")]
    pub sequence: u64,
    /// The run.
    pub run_id: RunId,
    /// The flow it is a run of, as it was when the run was committed.
    pub flow: FlowStamp,
    /// Plain values to find the run by.
    pub metadata: Metadata,
    /// What it was started with.
    pub input: Arc<Value>,
    /// What it is doing.
    pub status: RunStatus,
    /// How far it is: a tree.
    #[serde(deserialize_with = "stored::read_root")]
    pub root: Branch,
    /// Its open waits.
    pub waits: Vec<Wait>,
    /// What its last closed waits took, oldest first; at most [`Snapshot::MAX_RECEIPTS`].
    pub receipts: Vec<Receipt>,
    /// How many receipts came before those.
    #[serde(deserialize_with = "stored::count")]
    pub earlier_receipts: u64,
    /// How many waits it has opened.
    #[serde(deserialize_with = "stored::count")]
    pub opened_waits: u64,
    /// How many calls it has made.
    #[serde(deserialize_with = "stored::count")]
    pub calls: u64,
    /// Its output, when it has completed.
    #[serde(default, with = "present", skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// The step that rejected it, or why it failed or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

impl Snapshot {
    /// The version of the persisted form that this build writes.
    ///
    /// 2: a value that a branch has from the one around it is written once, the place of the current
    /// step is kept, and steps are stamped without the schemas of their tools.
    pub const FORMAT: u32 = 2;
    /// How many receipts a snapshot keeps; a key is recognized as answered as long as its receipt is kept.
    pub const MAX_RECEIPTS: usize = 64;

    /// A run at the very start of its flow.
    pub fn start(run_id: RunId, flow: FlowStamp, body: &Body, input: Value) -> Self {
        let input = Arc::new(input);
        Self {
            format: Self::FORMAT,
            sequence: 0,
            run_id,
            flow,
            metadata: Metadata::new(),
            input: input.clone(),
            status: RunStatus::Running,
            root: Branch {
                body: BodyName::Main,
                iteration: 1,
                step: body.first().map(|step| step.id.clone()),
                index: Hint::default(),
                value: input,
                vars: Variables::new(),
                state: StepState::Ready,
            },
            waits: Vec::new(),
            receipts: Vec::new(),
            earlier_receipts: 0,
            opened_waits: 0,
            calls: 0,
            output: None,
            ended: None,
        }
    }

    /// One commit further, in the form that this build writes.
    pub(crate) fn advance(&mut self) {
        self.sequence += 1;
        self.format = Self::FORMAT;
    }

    /// The earliest timer of the run: a deadline, the end of a sleep, a pause or a timeout.
    pub fn due_at(&self) -> Option<Timestamp> {
        let deadlines = self.waits.iter().filter_map(|wait| wait.expires_at);
        if self.status.is_final() { None } else { deadlines.chain(self.root.timers()).min() }
    }

    /// What the run does once nobody drives it: one that was let go in the middle of its work is ready
    /// for whoever comes first.
    pub(crate) fn parked_status(&self) -> RunStatus {
        match self.status {
            RunStatus::Running => RunStatus::Ready,
            status => status,
        }
    }

    /// Whether it was failed from outside, and not at a step: it is as it was committed last.
    pub fn is_set_aside(&self) -> bool {
        matches!(self.ended, Some(Ended::SetAside(_)))
    }

    /// Closes the waits that no branch stands in any more, after an upgrade moved it on; gives their
    /// receipts, which it keeps.
    pub(crate) fn close_orphans(&mut self, now: Timestamp) -> Vec<Receipt> {
        let mut waited_for = Vec::new();
        self.root.collect_waits(&mut waited_for);
        let waits = std::mem::take(&mut self.waits).into_iter();
        let (kept, orphans): (Vec<_>, Vec<_>) =
            waits.partition(|wait| waited_for.contains(&wait.id));
        self.waits = kept;
        let closed: Vec<Receipt> =
            orphans.into_iter().map(|wait| wait.receipt(Closed::Superseded, now)).collect();
        closed.iter().cloned().for_each(|receipt| self.keep(receipt));
        closed
    }

    /// The positions of the steps that the run stands in, leaves only.
    pub fn positions(&self) -> Vec<Position> {
        let mut leaves = Vec::new();
        self.root.collect_leaves(&Position::default(), &mut leaves);
        leaves
    }

    /// The open wait of that id.
    pub fn wait(&self, id: &WaitId) -> Option<&Wait> {
        self.waits.iter().find(|wait| wait.id == *id)
    }

    /// Adds a key to a wait. Of one that was closed meanwhile, the receipt has it: who holds the key
    /// is told what became of the wait.
    pub(crate) fn add_key(&mut self, wait: &WaitId, digest: KeyDigest) {
        let open = self.waits.iter_mut().find(|open| open.id == *wait).map(|open| &mut open.keys);
        let closed = self.receipts.iter_mut().rev().find(|receipt| receipt.wait_id == *wait);
        let keys = open.or(closed.map(|receipt| &mut receipt.keys));
        if let Some(keys) = keys.filter(|keys| !keys.contains(&digest)) {
            keys.push(digest);
        }
    }

    /// Keeps a receipt; the oldest one beyond [`Snapshot::MAX_RECEIPTS`] is only counted.
    pub(crate) fn keep(&mut self, receipt: Receipt) {
        self.receipts.push(receipt);
        if self.receipts.len() > Self::MAX_RECEIPTS {
            self.receipts.remove(0);
            self.earlier_receipts += 1;
        }
    }
}

impl Branch {
    /// Finds the current step in its body.
    pub(crate) fn find(&self, body: &Body) -> Option<usize> {
        let id = self.step.as_ref()?;
        match body.get(self.index.0) {
            Some(step) if step.id == *id => Some(self.index.0),
            _ => body.iter().position(|step| step.id == *id),
        }
    }

    /// Whether nothing in it can go on without an answer or a timer.
    pub fn is_parked(&self) -> bool {
        match &self.state {
            StepState::Ready | StepState::Calling { .. } => false,
            StepState::Waiting { .. } | StepState::Sleeping { .. } | StepState::Failed => true,
            StepState::Inside { branches, memo } => {
                matches!(memo, Memo::Retry { until: Some(_), .. })
                    || branches.iter().all(Self::is_parked)
            }
        }
    }

    fn timers(&self) -> Box<dyn Iterator<Item = Timestamp> + '_> {
        match &self.state {
            StepState::Sleeping { until } => Box::new(std::iter::once(*until)),
            StepState::Inside { memo: Memo::Retry { until: Some(until), .. }, .. } => {
                Box::new(std::iter::once(*until))
            }
            StepState::Inside { branches, memo } => {
                let own = match memo {
                    Memo::Timeout { deadline } => Some(*deadline),
                    _ => None,
                };
                Box::new(own.into_iter().chain(branches.iter().flat_map(Self::timers)))
            }
            _ => Box::new(std::iter::empty()),
        }
    }

    fn collect_waits(&self, waits: &mut Vec<WaitId>) {
        match &self.state {
            StepState::Waiting { wait } => waits.push(wait.clone()),
            StepState::Inside { branches, .. } => {
                branches.iter().for_each(|branch| branch.collect_waits(waits));
            }
            _ => {}
        }
    }

    fn collect_leaves(&self, at: &Position, leaves: &mut Vec<Position>) {
        let Some(step) = &self.step else { return };
        match &self.state {
            StepState::Inside { branches, .. } if !branches.is_empty() => {
                for branch in branches {
                    branch.collect_leaves(&at.join(step.clone(), branch.iteration), leaves);
                }
            }
            _ => leaves.push(at.join(step.clone(), 1)),
        }
    }
}

/// Why a run that has not completed ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// A filter said no.
    #[non_exhaustive]
    Rejected {
        /// The filter.
        position: Position,
        /// The value that it let not go on.
        value: Value,
    },
    /// A step failed and nothing caught it.
    Failed(Failure),
    /// The run was failed from outside, where it was committed last.
    SetAside(Failure),
    /// Somebody cancelled it.
    Cancelled(Cancellation),
}

/// One live thread of a run: a body that is being gone through.
///
/// A value that it has from the branch around it is written with that alone: read the [`Snapshot`], not
/// a part of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Branch {
    /// Which body of the parent step; the flow's own for the root.
    pub body: BodyName,
    /// Which time this body runs, from 1.
    #[serde(deserialize_with = "stored::count")]
    pub iteration: u32,
    /// The current step; none once the body is through.
    #[serde(default)]
    pub step: Option<StepId>,
    /// Where in the body the current step stands, as far as is known.
    #[serde(default)]
    pub index: Hint,
    /// The value that the current step works on, or the body's result once it is through.
    #[serde(default = "stored::value_around")]
    pub value: Arc<Value>,
    /// The variables set in this body; those of the bodies around it are in scope too.
    #[serde(default)]
    pub vars: Variables,
    /// How far the current step is.
    pub state: StepState,
}

/// A place in a body that is looked at first, so that a resume costs the same however many steps
/// came before. It is worked out anew when it is wrong, and two are always equal.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hint(pub usize);

impl PartialEq for Hint {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
pub enum StepState {
    /// It is about to start.
    Ready,
    /// It waits for a call that is being made; after a crash the call is made again. In a run that
    /// failed in it, `retry` makes it again: a tool goes on with the answer that it has.
    Calling {
        /// The call.
        call: Call,
    },
    /// It waits for an answer.
    Waiting {
        /// The open wait.
        wait: WaitId,
    },
    /// It waits for a point in time.
    Sleeping {
        /// When it goes on.
        until: Timestamp,
    },
    /// The bodies inside it are being gone through.
    Inside {
        /// The live bodies. There is one, until steps that fork do.
        branches: Vec<Branch>,
        /// What the step must remember meanwhile.
        memo: Memo,
    },
    /// It failed, and with it the run; `retry` starts it again.
    Failed,
}

/// What a step with bodies must remember while they are gone through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memo {
    /// Nothing.
    None,
    /// Of a `retry`.
    Retry {
        /// How many attempts failed.
        #[serde(deserialize_with = "stored::count")]
        failed: u32,
        /// When the next attempt starts, during a pause.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// How many attempts a `fail` ended: what comes after one is no repetition of what came
        /// before it, and its calls have idempotency keys of their own.
        #[serde(default, deserialize_with = "stored::count", skip_serializing_if = "is_zero")]
        given_up: u32,
    },
    /// Of a `timeout`.
    Timeout {
        /// When the body must have ended.
        deadline: Timestamp,
    },
}

/// A call that the machine wants to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Counts the calls of the run.
    pub id: u64,
    /// What is called.
    pub kind: CallKind,
    /// Counts the attempts of the retry around it, from 1.
    pub attempt: u32,
}

/// What is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// The computation of a step: of a map, a filter, a route, variables, or a tool's arguments.
    Compute,
    /// A tool's `execute`.
    Tool {
        /// What it is called with, where that is not the step's value.
        #[serde(default, with = "present", skip_serializing_if = "Option::is_none")]
        input: Option<Value>,
    },
    /// A tool's `on_resume`.
    OnResume {
        /// The answer.
        answer: Value,
        /// What the tool saved when it suspended.
        #[serde(default, with = "present", skip_serializing_if = "Option::is_none")]
        saved: Option<Value>,
    },
}

/// What a snapshot knows of its flow: enough to tell whether another one can go on with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowStamp {
    /// The flow's id.
    pub id: FlowId,
    /// Digest of all that can be compared of the flow: two equal ones are the same flow.
    pub fingerprint: ContentDigest,
    /// The document it was read from, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<Arc<str>>,
    /// The steps that the run stands in, from the roots to the leaves.
    pub steps: Vec<StepStamp>,
    /// The versions that are not to go on with the run any more, the latest last: those that one which
    /// has committed it carries runs over from. At most [`FlowStamp::MAX_OUTGROWN`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outgrown: Vec<ContentDigest>,
}

impl FlowStamp {
    /// How many outgrown versions a stamp keeps: far more than are ever deployed side by side.
    pub const MAX_OUTGROWN: usize = 8;

    /// Of a run that has not been committed yet, or of a state without a flow: nothing but the id is
    /// known of the flow.
    pub fn unstamped(id: FlowId) -> Self {
        let fingerprint = ContentDigest(String::new());
        Self { id, fingerprint, document: None, steps: Vec::new(), outgrown: Vec::new() }
    }
}

/// A step as it was when the run was committed. What its tool takes and gives is not part of it: a new
/// schema is held against the values that are there, and against that of the open wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepStamp {
    /// Where it stands, iterations left out.
    pub path: String,
    /// Its kind.
    pub kind: String,
    /// The tool it calls, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_id: Option<ToolId>,
    /// The name that its calls are known by, where that is not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyed_as: Option<StepId>,
}
