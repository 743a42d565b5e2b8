//! Random flows, in a form that shrinks and prints well.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use dynamic_flow::{
    ToolError, TypedTool,
    expr::{Code, Compute, Variables},
    flow::{Backoff, Body, FlowDef, Step, StepKind, ToolRef},
    tool::tool_fn,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

#[derive(Debug, Clone)]
pub(crate) enum Plan {
    Map(u8),
    Set(&'static str, u8),
    Get(&'static str),
    Tool,
    Wait,
    Sleep(u8),
    Filter(u8),
    Fail(&'static str),
    Succeed(u8),
    Switch(Vec<Plan>, Vec<Plan>, Option<Vec<Plan>>),
    Keep(Vec<Plan>),
    Tap(Vec<Plan>),
    Retry(u32, u8, Vec<Plan>),
    Catch(Vec<&'static str>, Vec<Plan>, Vec<Plan>),
    Timeout(u8, Vec<Plan>),
    SubFlow(Vec<Plan>),
}

const VARIABLES: [&str; 3] = ["x", "y", "z"];
const CODES: [&str; 4] = ["tool", "broken", "timeout", "wait_timed_out"];

/// Bodies of flows: steps that talk to the outside are likelier than others.
pub(crate) fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let leaf = prop_oneof![
        2 => any::<u8>().prop_map(Plan::Map),
        2 => (select(&VARIABLES[..]), any::<u8>()).prop_map(|(name, n)| Plan::Set(name, n)),
        1 => select(&VARIABLES[..]).prop_map(Plan::Get),
        4 => Just(Plan::Tool),
        4 => Just(Plan::Wait),
        2 => (1_u8..20).prop_map(Plan::Sleep),
        1 => (3_u8..20).prop_map(Plan::Filter),
        1 => select(&CODES[..]).prop_map(Plan::Fail),
        1 => any::<u8>().prop_map(Plan::Succeed),
    ];
    let step = leaf.prop_recursive(4, 24, 3, |step| {
        let body = || vec(step.clone(), 1..4);
        prop_oneof![
            (body(), body(), option::of(body())).prop_map(|(a, b, c)| Plan::Switch(a, b, c)),
            body().prop_map(Plan::Keep),
            body().prop_map(Plan::Tap),
            (1_u32..4, 0_u8..10, body()).prop_map(|(n, pause, body)| Plan::Retry(n, pause, body)),
            (vec(select(&CODES[..]), 0..3), body(), body())
                .prop_map(|(codes, body, handler)| Plan::Catch(codes, body, handler)),
            (1_u8..60, body()).prop_map(|(after, body)| Plan::Timeout(after, body)),
            body().prop_map(Plan::SubFlow),
        ]
    });
    vec(step, 1..6)
}

pub(crate) fn flow_of(plans: &[Plan]) -> FlowDef {
    let mut builder = Builder { steps: 0 };
    builder.flow(plans)
}

/// A number that depends on all of a value.
pub(crate) fn digest(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

fn small(value: &Value, salt: u8) -> u64 {
    digest((value.to_string(), salt)) % 1000
}

fn compute(of: impl Fn(&Value, &Variables) -> Value + Send + Sync + 'static) -> Compute {
    Compute::Code(Code::new(move |scope| Ok(of(scope.value, scope.vars))))
}

fn millis(n: u8) -> Duration {
    Duration::from_millis(n.into())
}

struct Builder {
    steps: u32,
}

impl Builder {
    fn flow(&mut self, plans: &[Plan]) -> FlowDef {
        let mut flow = FlowDef::empty("random".into());
        flow.body = self.body(plans);
        flow
    }

    fn body(&mut self, plans: &[Plan]) -> Body {
        plans.iter().map(|plan| self.step(plan)).collect()
    }

    fn step(&mut self, plan: &Plan) -> Step {
        self.steps += 1;
        let id = format!("s{}", self.steps);
        Step::new(id, self.kind(plan))
    }

    fn kind(&mut self, plan: &Plan) -> StepKind {
        match plan {
            // What is in scope goes into the value: a variable that is lost or leaks is noticed.
            Plan::Map(n) => {
                let n = *n;
                let compute =
                    compute(move |value, vars| json!([n, small(&json!([value, vars]), n)]));
                StepKind::Map { compute }
            }
            Plan::Set(name, n) => {
                let n = *n;
                let compute = compute(move |value, _| json!(small(value, n)));
                StepKind::Set { variables: BTreeMap::from([((*name).to_owned(), compute)]) }
            }
            Plan::Get(name) => StepKind::Get { variable: (*name).to_owned() },
            Plan::Tool => StepKind::Tool { tool: tool(), with: None },
            Plan::Wait => StepKind::AwaitInput { tool: tool() },
            Plan::Sleep(n) => StepKind::Sleep { duration: millis(*n) },
            Plan::Filter(n) => {
                let n = u64::from(*n);
                let predicate = compute(move |value, _| json!(!small(value, 0).is_multiple_of(n)));
                StepKind::Filter { predicate }
            }
            Plan::Fail(code) => {
                StepKind::Fail { code: (*code).to_owned(), message: Compute::Value(json!("no")) }
            }
            Plan::Succeed(n) => StepKind::Succeed { value: json!(n) },
            Plan::Switch(a, b, otherwise) => StepKind::Switch {
                route: compute(|value, _| json!(["a", "b", "c"][small(value, 1) as usize % 3])),
                arms: [("a".into(), self.body(a)), ("b".into(), self.body(b))].into(),
                otherwise: otherwise.as_ref().map(|body| self.body(body)),
            },
            Plan::Keep(body) => StepKind::Keep { body: self.body(body) },
            Plan::Tap(body) => StepKind::Tap { body: self.body(body) },
            Plan::Retry(attempts, pause, body) => {
                let pause = millis(*pause);
                let backoff = Backoff::exponential(pause).max(pause * 3);
                StepKind::Retry { body: self.body(body), attempts: *attempts, backoff }
            }
            Plan::Catch(codes, body, handler) => StepKind::Catch {
                codes: codes.iter().map(|code| (*code).to_owned()).collect(),
                body: self.body(body),
                handler: self.body(handler),
            },
            Plan::Timeout(after, body) => {
                StepKind::Timeout { body: self.body(body), after: millis(*after) }
            }
            Plan::SubFlow(body) => StepKind::SubFlow { flow: Arc::new(self.flow(body)) },
        }
    }
}

/// A tool that the machine only names: what it comes to is up to the simulation.
fn tool() -> ToolRef {
    let tool = tool_fn("work", |value: Value| async move { Ok::<_, ToolError>(value) });
    ToolRef::new(tool.into_tool().unwrap())
}
