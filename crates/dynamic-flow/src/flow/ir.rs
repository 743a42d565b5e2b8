//! Flow as data: the one truth behind the typed builder and the documents.

use std::{collections::BTreeMap, fmt, ops::Deref, sync::Arc, time::Duration};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    expr::Compute,
    id::{FlowId, StepId},
    schema::Schema,
    tool::{Tool, ToolSpec},
};

/// A flow: a tree of named steps.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FlowDef {
    /// Names the flow; stable over deploys.
    pub id: FlowId,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What its input must look like.
    pub input: Schema,
    /// What its output looks like.
    pub output: Schema,
    /// What happens.
    pub body: Body,
    /// The document it was read from, which travels inside its runs; none for a flow built in Rust.
    pub document: Option<Arc<str>>,
}

impl FlowDef {
    /// A flow that takes anything and does nothing.
    pub fn empty(id: FlowId) -> Self {
        Self {
            id,
            name: String::new(),
            description: String::new(),
            input: Schema::any(),
            output: Schema::any(),
            body: Body::new(),
            document: None,
        }
    }
}

/// Steps that happen one after the other, each working on the value that the one before gave.
pub type Body = Vec<Step>;

/// A named step.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// Names the step; unique among all steps in all bodies of the same parent.
    pub id: StepId,
    /// The name that what it calls is known by, where that is another one: that which it had before.
    pub keyed_as: Option<StepId>,
    /// What it does, for people.
    pub description: String,
    /// What it does.
    pub kind: StepKind,
}

impl Step {
    /// A step that does that, without a description.
    pub fn new(id: impl Into<StepId>, kind: StepKind) -> Self {
        Self { id: id.into(), keyed_as: None, description: String::new(), kind }
    }

    /// The name that its calls are known by: a part of their idempotency keys.
    pub(crate) fn known_as(&self) -> &StepId {
        self.keyed_as.as_ref().unwrap_or(&self.id)
    }

    /// Whether it, or a step inside it, calls a tool.
    pub(crate) fn calls_tools(&self) -> bool {
        matches!(self.kind, StepKind::Tool { .. })
            || self.kind.bodies().iter().any(|(_, body)| body.iter().any(Self::calls_tools))
    }
}

/// What a step does with the current value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StepKind {
    /// Checks the value against a schema; it goes on as it is.
    Input {
        /// What it must look like.
        schema: Schema,
    },
    /// Replaces the value by one that is known beforehand.
    Succeed {
        /// The new value.
        value: Value,
    },
    /// Fails with that error. A `catch` around it may handle it, and a `retry` tries again.
    Fail {
        /// What to catch it by.
        code: String,
        /// What happened: a text.
        message: Compute,
    },
    /// Calls a tool; its output is the new value.
    Tool {
        /// The tool.
        tool: ToolRef,
        /// What to call it with; the current value if not said.
        with: Option<Compute>,
    },
    /// Stops until somebody answers; the answer is the new value.
    AwaitInput {
        /// The tool that asks.
        tool: ToolRef,
    },
    /// Computes the new value.
    Map {
        /// From the old one.
        compute: Compute,
    },
    /// Looks at the value and lets it go on as it is.
    Tap {
        /// What is done with it; what comes of it is dropped.
        body: Body,
    },
    /// Lets the value go on, or ends the run as rejected.
    Filter {
        /// Gives `true` for a value that goes on.
        predicate: Compute,
    },
    /// Goes on with one of several bodies; its result is the new value.
    Switch {
        /// Gives the name of an arm.
        route: Compute,
        /// The bodies by name, in the order of their author, which means nothing to a run.
        arms: IndexMap<String, Body>,
        /// The body for every other name; without it, another name is a failure.
        otherwise: Option<Body>,
    },
    /// Runs a body and keeps the value beside its result: `[value, result]` is the new value.
    Keep {
        /// What is run.
        body: Body,
    },
    /// Sets variables, for the rest of this body and the bodies in it; the value goes on as it is.
    Set {
        /// Names and what they are set to.
        variables: BTreeMap<String, Compute>,
    },
    /// Makes a variable the new value.
    Get {
        /// Its name.
        variable: String,
    },
    /// Runs another flow in place; it sees the value, and none of the variables.
    SubFlow {
        /// The other flow.
        flow: Arc<FlowDef>,
    },
    /// Runs a body, again if it fails with an error that may pass: of a tool that does not call it
    /// permanent, of a question that nobody answered in time, of a `timeout`, or of a `fail`.
    /// Computations that fail, and values that do not fit, are permanent.
    Retry {
        /// What is run.
        body: Body,
        /// How often at the most, the first time included.
        attempts: u32,
        /// How long between.
        backoff: Backoff,
    },
    /// Runs a body; if it fails, a second one works on the error, and its result is the new value.
    Catch {
        /// What is run.
        body: Body,
        /// Which errors are caught; all if none is named.
        codes: Vec<String>,
        /// What is done then, with `{ code, message, step, tool_id, value }` as its value.
        handler: Body,
    },
    /// Runs a body that must end within a time.
    Timeout {
        /// What is run.
        body: Body,
        /// How long it may take, from its start, sleeps and waits included.
        after: Duration,
    },
    /// Does nothing for a time; the value goes on as it is.
    Sleep {
        /// How long.
        duration: Duration,
    },
}

impl StepKind {
    /// The kind's name, as snapshots spell it; documents have other words for some kinds.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Input { .. } => "input",
            Self::Succeed { .. } => "succeed",
            Self::Fail { .. } => "fail",
            Self::Tool { .. } => "tool",
            Self::AwaitInput { .. } => "await_input",
            Self::Map { .. } => "map",
            Self::Tap { .. } => "tap",
            Self::Filter { .. } => "filter",
            Self::Switch { .. } => "switch",
            Self::Keep { .. } => "keep",
            Self::Set { .. } => "set",
            Self::Get { .. } => "get",
            Self::SubFlow { .. } => "sub_flow",
            Self::Retry { .. } => "retry",
            Self::Catch { .. } => "catch",
            Self::Timeout { .. } => "timeout",
            Self::Sleep { .. } => "sleep",
        }
    }

    /// The tool that the step calls, if it calls one.
    pub fn tool(&self) -> Option<&ToolRef> {
        match self {
            Self::Tool { tool, .. } | Self::AwaitInput { tool } => Some(tool),
            _ => None,
        }
    }

    /// The bodies inside the step, by name.
    pub fn bodies(&self) -> Vec<(BodyName, &Body)> {
        match self {
            Self::Tap { body }
            | Self::Keep { body }
            | Self::Retry { body, .. }
            | Self::Timeout { body, .. } => vec![(BodyName::Main, body)],
            Self::Catch { body, handler, .. } => {
                vec![(BodyName::Main, body), (BodyName::Handler, handler)]
            }
            Self::Switch { arms, otherwise, .. } => arms
                .iter()
                .map(|(name, body)| (BodyName::Arm(name.clone()), body))
                .chain(otherwise.iter().map(|body| (BodyName::Otherwise, body)))
                .collect(),
            Self::SubFlow { flow } => vec![(BodyName::Main, &flow.body)],
            _ => Vec::new(),
        }
    }

    /// The body of that name inside the step.
    pub fn body(&self, name: &BodyName) -> Option<&Body> {
        match (self, name) {
            (Self::Switch { arms, .. }, BodyName::Arm(arm)) => arms.get(arm),
            _ => self.bodies().into_iter().find(|(known, _)| known == name).map(|(_, body)| body),
        }
    }
}

/// Which body of a step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BodyName {
    /// The only or the first one.
    Main,
    /// What a `catch` does with an error.
    Handler,
    /// An arm of a `switch`.
    Arm(String),
    /// The arm of a `switch` for every other name.
    Otherwise,
}

/// How long a `retry` waits before the next attempt: `first × factor^n`, at most `max`.
///
/// Unless said, it begins with a second, doubles with each attempt, and ends at a minute. A duration alone
/// is a pause that stays the same.
///
/// ```
/// use std::time::Duration;
///
/// use dynamic_flow::{flow::Backoff, hours, minutes, seconds};
///
/// let growing = Backoff::exponential(minutes(1)).factor(3.0).max(hours(1));
/// assert_eq!([1, 2, 9].map(|failed| growing.pause(failed)), [minutes(1), minutes(3), hours(1)]);
/// assert_eq!(Backoff::from(seconds(5)).pause(9), seconds(5));
/// assert_eq!(Backoff::none().pause(9), Duration::ZERO);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Backoff {
    /// Before the second attempt.
    pub first: Duration,
    /// By how much it grows.
    pub factor: f64,
    /// Where it stops growing.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), factor: 2.0, max: Duration::from_secs(60) }
    }
}

impl From<Duration> for Backoff {
    /// As [`Backoff::fixed`].
    fn from(pause: Duration) -> Self {
        Self::fixed(pause)
    }
}

impl Backoff {
    /// No pause: the next attempt is made at once.
    pub fn none() -> Self {
        Self::fixed(Duration::ZERO)
    }

    /// The same pause before each attempt.
    pub fn fixed(pause: Duration) -> Self {
        Self { first: pause, factor: 1.0, max: pause }
    }

    /// A pause that begins with that one and doubles with each attempt, up to a minute; or stays as it
    /// is, where it begins beyond that.
    pub fn exponential(first: Duration) -> Self {
        Self { first, max: first.max(Self::default().max), ..Self::default() }
    }

    /// By how much the pause grows with each attempt.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// The longest pause.
    #[must_use]
    pub fn max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// The pause after so many failed attempts (from 1).
    pub fn pause(&self, failed: u32) -> Duration {
        if self.first.is_zero() {
            return Duration::ZERO;
        }
        let exponent = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.first.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).min(self.max)
    }
}

/// A tool in a flow; it has all that its [`ToolSpec`] has. Two are equal that can't be told apart by
/// id and schemas, as when flows are compared.
#[derive(Clone)]
pub struct ToolRef(Arc<dyn Tool>);

impl ToolRef {
    /// Refers to that tool.
    pub fn new(tool: Arc<dyn Tool>) -> Self {
        Self(tool)
    }

    /// The tool.
    pub fn tool(&self) -> &Arc<dyn Tool> {
        &self.0
    }
}

impl Deref for ToolRef {
    type Target = ToolSpec;

    fn deref(&self) -> &ToolSpec {
        self.0.spec()
    }
}

impl PartialEq for ToolRef {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.input == other.input && self.output == other.output
    }
}

impl fmt::Debug for ToolRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ToolRef({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_nothing_stays_nothing() {
        let backoff = Backoff { first: Duration::ZERO, ..Backoff::default() };
        assert_eq!(backoff.pause(u32::MAX), Duration::ZERO);
        assert_eq!(Backoff::default().pause(u32::MAX), Duration::from_secs(60));
    }
}
