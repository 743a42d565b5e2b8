//! What an upgrade sees of a run, and what it may change.

use std::{fmt, sync::Arc};

use serde_json::Value;

use crate::{
    RunId, StepId, ToolError, ToolId,
    engine::{Branch, CallKind, FlowStamp, RunStatus, Snapshot, StepState, check_request},
    expr::Variables,
    flow::FlowDef,
    id::id_problem,
    position::Position,
    value::check_depth,
    wait::{Metadata, WaitRequest},
};

/// The state of a parked run, as [`Flow::upgrade`](crate::Flow::upgrade) hands it to what carries it over
/// to a newer version of its flow.
///
/// A step is named by its path, `outer/inner`, without iterations, as [`Position::steps`] tells it. A path
/// has all of its steps by the names that they have at that moment: rename the outer step first, then the
/// inner one under its new name. Of a run that does not stand there, nothing changes, so that one
/// upgrade says what becomes of runs at any step.
///
/// Here an amount became an object, and what asks about it got a new name:
///
/// ```
/// # use std::sync::Arc;
/// use dynamic_flow::{
///     Flow,
///     hub::PersistenceHub,
///     store::MemoryStore,
///     tool::AwaitInput,
/// };
/// use serde::{Deserialize, Serialize};
/// use serde_json::json;
///
/// #[derive(Serialize, Deserialize, schemars::JsonSchema)]
/// struct Money { cents: u32, currency: String }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> dynamic_flow::Result<()> {
/// let first = Flow::input::<u32>("purchase")
///     .keep(|cents| cents.await_input(AwaitInput::<bool>::new("approve")))
///     .map("cents", |(cents, _)| cents)
///     .build()?;
/// # let store = Arc::new(MemoryStore::new());
/// # let old = PersistenceHub::builder(store.clone()).plaintext().build().await?;
/// # let parked = old.register(&first)?.run(2048).await?.suspended()?;
/// # let fingerprint_of_the_first = first.fingerprint()?.clone();
///
/// let second = Flow::input::<Money>("purchase")
///     .keep(|money| money.await_input(AwaitInput::<bool>::new("manager-approval")))
///     .map("cents", |(money, _)| money.cents)
///     .build()?
///     .upgrade(fingerprint_of_the_first, |state| {
///         let in_euros = |cents: &mut serde_json::Value| {
///             *cents = json!({ "cents": cents, "currency": "EUR" });
///             Ok(())
///         };
///         state.change_input(in_euros)?;
///         state.change_value("keep-approve", in_euros)?; // and that of `approve`, which is the same
///         state.rename_step("keep-approve", "keep-manager-approval")?;
///         state.rename_step("keep-manager-approval/approve", "manager-approval")?;
///         state.rename_tool("keep-manager-approval/manager-approval", "manager-approval")
///     });
/// # let new = PersistenceHub::builder(store).plaintext().build().await?;
/// # assert_eq!(new.check(&second).await?.compatible, 1);
/// # let done = new.register(second)?.resume(parked.only()?.key()?, json!(true)).await?;
/// # assert_eq!(done.completed()?, 2048);
/// # Ok(())
/// # }
/// ```
///
/// What is changed is held against the flow afterwards, as any state is: of what does not fit,
/// `check` and `resume` say why, and the run stays as it is.
pub struct RunState {
    snapshot: Snapshot,
    /// The steps that begin anew: what they were before does not matter.
    anew: Vec<Anew>,
}

/// A step that begins anew.
struct Anew {
    path: String,
    /// The name that its calls were known by, where it is the same step as before.
    known_as: Option<StepId>,
}

impl fmt::Debug for RunState {
    /// Tells where it stands, and no values: they are sealed in the store.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunState")
            .field("run_id", &self.snapshot.run_id)
            .field("status", &self.snapshot.status)
            .field("positions", &self.positions())
            .finish_non_exhaustive()
    }
}

/// What is seen of it.
impl RunState {
    /// The run.
    pub fn run_id(&self) -> RunId {
        self.snapshot.run_id
    }

    /// What the run was doing when it was committed last.
    pub fn status(&self) -> RunStatus {
        self.snapshot.status
    }

    /// Plain values to find the run by.
    pub fn metadata(&self) -> &Metadata {
        &self.snapshot.metadata
    }

    /// What the run was started with.
    pub fn input(&self) -> &Value {
        &self.snapshot.input
    }

    /// Where the run stands: the innermost step of each of its live branches.
    pub fn positions(&self) -> Vec<Position> {
        self.snapshot.positions()
    }

    /// Whether the run stands in the step at that path, or in one inside it.
    pub fn stands_in(&self, path: &str) -> bool {
        self.positions().iter().any(|position| inside(&position.steps(), path).is_some())
    }
}

/// What may be changed of it.
impl RunState {
    /// Gives the step at `path` another name. It goes on waiting, or with what is inside it.
    ///
    /// The tool or question of the step keeps its id, which counts too: where the new flow does not keep
    /// it (with `tool_as` or `await_input_as`), say [`RunState::rename_tool`] as well.
    ///
    /// The names of steps are a part of idempotency keys. Where the step, or one inside it, calls a tool, the
    /// flow must say by which name its calls are known, with
    /// [`keyed_as`](crate::flow::FlowBuilder::keyed_as): else they would be made again as other ones, and
    /// the run is refused.
    ///
    /// # Errors
    /// When no step can have that name.
    pub fn rename_step(&mut self, path: &str, to: impl Into<StepId>) -> Result<(), ToolError> {
        let to = usable(to.into())?;
        self.each_at(path, &mut |branch| {
            branch.step = Some(to.clone());
            Ok(())
        })?;
        let renamed = format!("{}{to}", around(path));
        let last = path.split('/').count() - 1;
        for wait in &mut self.snapshot.waits {
            if inside(&wait.position.steps(), path).is_some() {
                wait.position.0[last].step = to.clone();
            }
        }
        let stamped =
            self.snapshot.flow.steps.iter_mut().map(|it| (&mut it.path, &mut it.keyed_as));
        let anew = self.anew.iter_mut().map(|it| (&mut it.path, &mut it.known_as));
        for (known, known_as) in stamped.chain(anew) {
            if known == path {
                known_as.get_or_insert_with(|| path[around(path).len()..].into());
            }
            if let Some(rest) = inside(known, path) {
                *known = format!("{renamed}{rest}");
            }
        }
        Ok(())
    }

    /// Gives the tool that the step at `path` calls, or the question that it asks, another id.
    ///
    /// Say it where a tool was renamed and is otherwise the same: what it saved when it suspended comes
    /// back to the tool of the new id.
    ///
    /// # Errors
    /// When no tool can have that id.
    pub fn rename_tool(&mut self, path: &str, to: impl Into<ToolId>) -> Result<(), ToolError> {
        let to = usable(to.into())?;
        for stamp in self.snapshot.flow.steps.iter_mut().filter(|stamp| stamp.path == path) {
            stamp.tool_id = stamp.tool_id.take().map(|_| to.clone());
        }
        for wait in &mut self.snapshot.waits {
            if wait.position.steps() == path {
                wait.tool_id = to.clone();
            }
        }
        Ok(())
    }

    /// Lets the step at `path` begin anew, with the value that it worked on. It may be of another kind
    /// by now, and call another tool.
    ///
    /// What was done in it, and in the steps inside it, is dropped: an open wait takes no answer any
    /// more ([`Closed::Superseded`](crate::wait::Closed::Superseded)), and the attempts of a `retry` are
    /// counted from the first. A call that is made again by a step of the same name (or `keyed_as` it),
    /// outside of a `retry`, has the idempotency key that it had. Where an answer was accepted already, the upgrade is refused
    /// until a process of the old version has worked it in.
    ///
    /// A step is begun when somebody drives the run: [`PersistenceHub::upgrade`] has a worker do so at
    /// once, and [`PersistenceHub::drive`] does it; else the run stays as it is, question and all, until
    /// something is due.
    ///
    /// [`PersistenceHub::upgrade`]: crate::hub::PersistenceHub::upgrade
    /// [`PersistenceHub::drive`]: crate::hub::PersistenceHub::drive
    ///
    /// # Errors
    /// When `path` ends in what no step can be named; when a tool goes on there with an answer.
    pub fn restart_step(&mut self, path: &str) -> Result<(), ToolError> {
        let step = path.rsplit('/').next().unwrap_or(path).to_owned();
        self.move_to(path, step)
    }

    /// Lets a run that stands in the step at `path` stand before the step `to` of the same body instead,
    /// which then begins with the value that the step at `path` worked on. Of that step, all is dropped,
    /// as [`RunState::restart_step`] says.
    ///
    /// A run in the pause of a `retry` begins the next attempt with the first step of the body, wherever in
    /// it the last attempt is moved to: nothing of that is gone on with.
    ///
    /// ```
    /// # use dynamic_flow::{Flow, hours, wait::ContentDigest};
    /// # let old = ContentDigest(String::new());
    /// let flow = Flow::input::<u32>("purchase")
    ///     .sleep("cooling-off", hours(24))
    ///     .build()?
    ///     // There was a question here, which nobody has to answer any more.
    ///     .upgrade(old, |state| state.move_to("approve", "cooling-off"));
    /// # let _ = flow;
    /// # Ok::<(), dynamic_flow::Error>(())
    /// ```
    ///
    /// # Errors
    /// When no step can have that name; when a tool goes on with an answer in the step at `path`.
    pub fn move_to(&mut self, path: &str, to: impl Into<StepId>) -> Result<(), ToolError> {
        let to = usable(to.into())?;
        let goes_on_with_answer = |state: &StepState| match state {
            StepState::Calling { call } => matches!(call.kind, CallKind::OnResume { .. }),
            _ => false,
        };
        let mut stood = false;
        self.each_at(path, &mut |branch| {
            if any(branch, &goes_on_with_answer) {
                let message = "an answer was accepted in the step that is left, and its tool goes on \
                               with it";
                return Err(ToolError::new(message).permanent());
            }
            stood = true;
            branch.step = Some(to.clone());
            branch.state = StepState::Ready;
            Ok(())
        })?;
        if stood {
            let now = format!("{}{to}", around(path));
            let stamps = &mut self.snapshot.flow.steps;
            let stamped = stamps.iter().find(|stamp| stamp.path == now);
            let known_as = stamped.map(|it| it.keyed_as.clone().unwrap_or_else(|| to.clone()));
            stamps.retain(|stamp| inside(&stamp.path, path).is_none());
            self.anew.retain(|anew| inside(&anew.path, path).is_none());
            self.anew.push(Anew { path: now, known_as });
        }
        Ok(())
    }

    /// Changes what the run was started with, which the expressions of all of its steps may read.
    ///
    /// # Errors
    /// That of the closure.
    pub fn change_input(
        &mut self,
        change: impl FnOnce(&mut Value) -> Result<(), ToolError>,
    ) -> Result<(), ToolError> {
        let input = Arc::make_mut(&mut self.snapshot.input);
        change(input)?;
        bounded(input)
    }

    /// Changes the value that the step at `path` works on. A body begins with the value of the step that
    /// it belongs to: where a step inside still works on that very value, it gets the new one too.
    ///
    /// A `keep` goes on with its value beside that of its body, a `sleep` and a `tap` with theirs; what
    /// comes out of other steps is not there yet. The arguments of a call that was being made are
    /// those that were computed: to have them computed again, [restart](RunState::restart_step) the step.
    ///
    /// # Errors
    /// That of the closure.
    pub fn change_value(
        &mut self,
        path: &str,
        mut change: impl FnMut(&mut Value) -> Result<(), ToolError>,
    ) -> Result<(), ToolError> {
        self.each_at(path, &mut |branch| {
            let before = branch.value.clone();
            let value = Arc::make_mut(&mut branch.value);
            change(value)?;
            bounded(value)?;
            let after = branch.value.clone();
            hand_down(branch, &before, &after);
            Ok(())
        })
    }

    /// Changes the variables that were set in the body in which the step at `path` stands. Those that were
    /// set around it belong to the steps around it.
    ///
    /// ```
    /// # use dynamic_flow::{Flow, flow::RunState};
    /// # fn carry(state: &mut RunState) -> Result<(), dynamic_flow::ToolError> {
    /// state.change_variables("review", |variables| {
    ///     if let Some(limit) = variables.remove("max") {
    ///         variables.insert("limit".into(), limit);
    ///     }
    ///     Ok(())
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    /// That of the closure; when a value is nested too deep.
    pub fn change_variables(
        &mut self,
        path: &str,
        mut change: impl FnMut(&mut Variables) -> Result<(), ToolError>,
    ) -> Result<(), ToolError> {
        self.each_at(path, &mut |branch| {
            change(&mut branch.vars)?;
            branch.vars.values().try_for_each(|value| bounded(value))
        })
    }

    /// Changes what the step at `path` asks, and what its tool has saved meanwhile. The wait stays open,
    /// with its keys and until its deadline, which can't be changed.
    ///
    /// Whoever looks at the question from now on ([`PersistenceHub::question`]) is shown what is said here.
    /// An answer to what was shown before, as in a notice, counts if it fits, and its receipt says what was
    /// asked then; where it must not count, let the step [begin anew](RunState::restart_step).
    ///
    /// [`PersistenceHub::question`]: crate::hub::PersistenceHub::question
    ///
    /// # Errors
    /// That of the closure; when a wait can't be opened like that, as with a default that does not fit.
    pub fn change_question(
        &mut self,
        path: &str,
        mut change: impl FnMut(&mut WaitRequest) -> Result<(), ToolError>,
    ) -> Result<(), ToolError> {
        let waits = self.snapshot.waits.iter_mut();
        waits.filter(|wait| wait.position.steps() == path).try_for_each(|wait| {
            let deadline = wait.request.deadline;
            change(&mut wait.request)?;
            wait.request.deadline = deadline;
            check_request(&wait.request).map_err(|problem| ToolError::new(problem).permanent())
        })
    }
}

impl RunState {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        Self { snapshot, anew: Vec::new() }
    }

    /// What the flow goes on with.
    pub(super) fn into_snapshot(self, flow: &FlowDef) -> Snapshot {
        let Self { mut snapshot, anew } = self;
        if !anew.is_empty() {
            let fresh = FlowStamp::of(flow, &snapshot.flow.fingerprint, &snapshot.root);
            for mut stamp in fresh.steps {
                let Some(anew) = anew.iter().find(|anew| anew.path == stamp.path) else { continue };
                stamp.keyed_as = anew.known_as.clone().or(stamp.keyed_as);
                snapshot.flow.steps.push(stamp);
            }
        }
        // What is asked may be another question by now, and answers are held against it.
        let run = snapshot.run_id;
        snapshot.waits.iter_mut().for_each(|wait| wait.question = wait.asks(run));
        snapshot
    }

    /// Does something with each branch that stands in the step at that path.
    fn each_at(&mut self, path: &str, change: &mut Change<'_>) -> Result<(), ToolError> {
        let steps: Vec<&str> = path.split('/').collect();
        each_at(&mut self.snapshot.root, &steps, change)
    }
}

type Change<'a> = dyn FnMut(&mut Branch) -> Result<(), ToolError> + 'a;

fn each_at(branch: &mut Branch, path: &[&str], change: &mut Change<'_>) -> Result<(), ToolError> {
    match (path, &branch.step) {
        ([last], Some(step)) if step == *last => change(branch),
        ([first, rest @ ..], Some(step)) if step == *first => match &mut branch.state {
            StepState::Inside { branches, .. } => {
                branches.iter_mut().try_for_each(|inner| each_at(inner, rest, change))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Whether that is so of the state of a branch, or of one inside it.
fn any(branch: &Branch, is_so: &dyn Fn(&StepState) -> bool) -> bool {
    is_so(&branch.state)
        || match &branch.state {
            StepState::Inside { branches, .. } => branches.iter().any(|inner| any(inner, is_so)),
            _ => false,
        }
}

fn bounded(value: &Value) -> Result<(), ToolError> {
    check_depth(value).map_err(|error| ToolError::new(error.message().to_owned()).permanent())
}

/// Gives the steps inside that still work on the value of this one its new value.
fn hand_down(branch: &mut Branch, before: &Arc<Value>, after: &Arc<Value>) {
    if let StepState::Inside { branches, .. } = &mut branch.state {
        for inner in branches.iter_mut().filter(|inner| Arc::ptr_eq(&inner.value, before)) {
            inner.value = after.clone();
            hand_down(inner, before, after);
        }
    }
}

/// What of a path comes after that of a step around it, or of itself.
fn inside<'p>(path: &'p str, outer: &str) -> Option<&'p str> {
    path.strip_prefix(outer).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The path of the body in which a step stands, to be gone on with.
fn around(path: &str) -> &str {
    path.rfind('/').map_or("", |slash| &path[..=slash])
}

fn usable<T: AsRef<str>>(id: T) -> Result<T, ToolError> {
    match id_problem(id.as_ref()) {
        None => Ok(id),
        Some(problem) => Err(ToolError::new(problem).permanent()),
    }
}
