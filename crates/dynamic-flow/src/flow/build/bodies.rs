//! Steps with steps inside them.

use std::{fmt, marker::PhantomData, time::Duration};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Finding,
    expr::{Cel, Compute},
    flow::{Backoff, Body, FlowBuilder, StepKind},
    id::{StepId, ToolId},
};

use super::{code::code, finding};

impl<I, O> FlowBuilder<I, O> {
    /// Runs steps and keeps the value beside what comes of them: both go on, as a pair.
    ///
    /// The step is named `keep-` and the name of its first step (or what that is `keyed_as`), so that it
    /// keeps its name when other steps come before it; [`FlowBuilder::keep_as`] gives it a name of its own.
    pub fn keep<U>(
        self,
        body: impl FnOnce(FlowBuilder<O, O>) -> FlowBuilder<O, U>,
    ) -> FlowBuilder<I, (O, U)> {
        let body = body(FlowBuilder::body());
        let id = match body.steps.first() {
            Some(first) => format!("keep-{}", first.known_as()),
            None => "keep".into(),
        };
        let id = self.free_id(id);
        self.push_body(id, body, |body| StepKind::Keep { body })
    }

    /// As [`FlowBuilder::keep`], in a step of that name.
    pub fn keep_as<U>(
        self,
        step: impl Into<StepId>,
        body: impl FnOnce(FlowBuilder<O, O>) -> FlowBuilder<O, U>,
    ) -> FlowBuilder<I, (O, U)> {
        self.push_body(step.into(), body(FlowBuilder::body()), |body| StepKind::Keep { body })
    }

    /// Runs steps on the side: the value goes on as it is, what comes of them is dropped.
    pub fn tap_body<U>(
        self,
        step: impl Into<StepId>,
        body: impl FnOnce(FlowBuilder<O, O>) -> FlowBuilder<O, U>,
    ) -> Self {
        self.push_body(step.into(), body(FlowBuilder::body()), |body| StepKind::Tap { body })
    }

    /// Goes on with one of several bodies, as a closure says by the name of its arm.
    ///
    /// All arms give the same type. A name without an arm goes to [`Arms::otherwise`], and fails
    /// with the code `no_such_arm` where there is none.
    ///
    /// ```
    /// use dynamic_flow::Flow;
    ///
    /// let flow = Flow::input::<f64>("route-by-risk")
    ///     .switch_route("risk", |&score| if score > 0.5 { "review" } else { "auto" }, |arms| {
    ///         arms.arm("review", |score| score.map("careful", |_| "by hand".to_owned()))
    ///             .arm("auto", |score| score.map("quick", |_| "by itself".to_owned()))
    ///     })
    ///     .build()?;
    /// # let _: Flow<f64, String> = flow;
    /// # Ok::<(), dynamic_flow::Error>(())
    /// ```
    pub fn switch_route<R: Into<String>, U>(
        self,
        step: impl Into<StepId>,
        route: impl Fn(&O) -> R + Send + Sync + 'static,
        arms: impl FnOnce(Arms<O, U>) -> Arms<O, U>,
    ) -> FlowBuilder<I, U>
    where
        O: DeserializeOwned,
    {
        let step = step.into();
        let route = code(&step, move |value: O| -> String { route(&value).into() });
        self.push_switch(step, route, arms)
    }

    /// Goes on with one of several bodies, as a CEL expression over `value`, `vars` and `input`
    /// says by the name of its arm.
    pub fn switch_expr<U>(
        mut self,
        step: impl Into<StepId>,
        route: &str,
        arms: impl FnOnce(Arms<O, U>) -> Arms<O, U>,
    ) -> FlowBuilder<I, U> {
        let step = step.into();
        match Cel::compile(route) {
            Ok(route) => self.push_switch(step, Compute::Cel(route), arms),
            Err(error) => {
                let kind = self.unusable(&step, &error);
                self.push(step, kind)
            }
        }
    }

    /// Runs steps, again if they fail: `attempts` times at the most, the first time included. Between them
    /// it waits as long as the [`Backoff`] says, or that duration.
    ///
    /// Errors that are [permanent](crate::ToolError::permanent) end it at once: those of tools that say
    /// so, of computations, and of values that do not fit. A `fail`, a question that nobody answered
    /// in time and a `timeout` inside are tried again.
    pub fn retry<U>(
        self,
        step: impl Into<StepId>,
        attempts: u32,
        backoff: impl Into<Backoff>,
        body: impl FnOnce(FlowBuilder<O, O>) -> FlowBuilder<O, U>,
    ) -> FlowBuilder<I, U> {
        self.push_body(step.into(), body(FlowBuilder::body()), |body| StepKind::Retry {
            body,
            attempts,
            backoff: backoff.into(),
        })
    }

    /// Runs steps; if they fail, the handler makes a value of the error.
    pub fn catch<U>(
        self,
        step: impl Into<StepId>,
        body: impl FnOnce(FlowBuilder<O, O>) -> FlowBuilder<O, U>,
        handler: impl FnOnce(Handler<O, CaughtError<O>>) -> Handler<O, U>,
    ) -> FlowBuilder<I, U> {
        self.catch_codes(step, std::iter::empty::<String>(), body, handler)
    }

    /// As [`FlowBuilder::catch`], for errors of those codes; others go through. No codes at all
    /// are all codes.
    pub fn catch_codes<U>(
        mut self,
        step: impl Into<StepId>,
        codes: impl IntoIterator<Item = impl Into<String>>,
        body: impl FnOnce(FlowBuilder<O, O>) -> FlowBuilder<O, U>,
        handler: impl FnOnce(Handler<O, CaughtError<O>>) -> Handler<O, U>,
    ) -> FlowBuilder<I, U> {
        let step = step.into();
        let (handler, findings) = handler(FlowBuilder::body()).into_body(&step);
        self.findings.extend(findings);
        let codes = codes.into_iter().map(Into::into).collect();
        self.push_body(step, body(FlowBuilder::body()), |body| StepKind::Catch {
            body,
            codes,
            handler,
        })
    }

    /// Runs steps that must end within a time, sleeps and waits included; fails with the code
    /// `timeout` when they have not. What blocks its thread, as no async code should, is not cut short.
    pub fn timeout<U>(
        self,
        step: impl Into<StepId>,
        after: Duration,
        body: impl FnOnce(FlowBuilder<O, O>) -> FlowBuilder<O, U>,
    ) -> FlowBuilder<I, U> {
        self.push_body(step.into(), body(FlowBuilder::body()), |body| StepKind::Timeout {
            body,
            after,
        })
    }

    /// An empty builder for the steps inside a step.
    fn body() -> Self {
        Self::empty("".into())
    }

    /// The steps for the inside of `parent`, and what was found, with the path from there.
    fn into_body(self, parent: &StepId) -> (Body, Vec<Finding>) {
        let mut findings: Vec<Finding> = self
            .findings
            .into_iter()
            .map(|found| {
                let path = match found.path.as_str() {
                    "" => parent.to_string(),
                    path => format!("{parent}/{path}"),
                };
                Finding { path, ..found }
            })
            .collect();
        if !(self.name.is_empty() && self.description.is_empty()) {
            let message = "only a flow has a name and a description; steps have `describe`";
            findings.push(finding(parent.as_str(), message.into()));
        }
        (self.steps, findings)
    }

    fn push_body<B, U, V>(
        mut self,
        step: StepId,
        body: FlowBuilder<B, U>,
        kind: impl FnOnce(Body) -> StepKind,
    ) -> FlowBuilder<I, V> {
        let (body, findings) = body.into_body(&step);
        self.findings.extend(findings);
        self.push(step, kind(body))
    }

    fn push_switch<U>(
        mut self,
        step: StepId,
        route: Compute,
        arms: impl FnOnce(Arms<O, U>) -> Arms<O, U>,
    ) -> FlowBuilder<I, U> {
        let Arms { arms, otherwise, findings, .. } = arms(Arms::none(step.clone()));
        self.findings.extend(findings);
        self.push(step, StepKind::Switch { route, arms, otherwise })
    }
}

/// A body that handles an error.
type Handler<O, U> = FlowBuilder<CaughtError<O>, U>;

/// What the handler of a [`FlowBuilder::catch`] works on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct CaughtError<T = Value> {
    /// The error's code: a tool's own, or `timeout`, `wait_timed_out` and the like.
    pub code: String,
    /// What happened.
    pub message: String,
    /// The step that failed, as a path from the flow's top.
    pub step: String,
    /// The tool that failed, if a tool was called.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub tool_id: Option<ToolId>,
    /// The value that had reached the `catch`.
    pub value: T,
}

/// The arms of a switch in the making: each takes an `O` and gives a `U`.
#[must_use = "give the arms back, so that the switch has them"]
pub struct Arms<O, U> {
    step: StepId,
    arms: IndexMap<String, Body>,
    otherwise: Option<Body>,
    findings: Vec<Finding>,
    types: PhantomData<fn(O) -> U>,
}

impl<O, U> fmt::Debug for Arms<O, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arms")
            .field("step", &self.step)
            .field("arms", &self.arms)
            .field("otherwise", &self.otherwise)
            .field("findings", &self.findings)
            .finish_non_exhaustive()
    }
}

impl<O, U> Arms<O, U> {
    fn none(step: StepId) -> Self {
        Self {
            step,
            arms: IndexMap::new(),
            otherwise: None,
            findings: Vec::new(),
            types: PhantomData,
        }
    }

    /// Adds the arm of that name.
    pub fn arm(
        mut self,
        name: impl Into<String>,
        body: impl FnOnce(FlowBuilder<O, O>) -> FlowBuilder<O, U>,
    ) -> Self {
        let name = name.into();
        let body = self.take(body);
        if self.arms.contains_key(&name) {
            let message = format!("two arms are named {name:?}");
            self.findings.push(finding(self.step.as_str(), message));
        }
        self.arms.insert(name, body);
        self
    }

    /// Adds the arm for every name that has no arm.
    pub fn otherwise(mut self, body: impl FnOnce(FlowBuilder<O, O>) -> FlowBuilder<O, U>) -> Self {
        let body = self.take(body);
        if self.otherwise.replace(body).is_some() {
            let message = "there are two `otherwise`".to_owned();
            self.findings.push(finding(self.step.as_str(), message));
        }
        self
    }

    fn take(&mut self, body: impl FnOnce(FlowBuilder<O, O>) -> FlowBuilder<O, U>) -> Body {
        let (body, findings) = body(FlowBuilder::body()).into_body(&self.step);
        self.findings.extend(findings);
        body
    }
}
