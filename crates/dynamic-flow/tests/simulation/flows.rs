//! The flows of the simulation: their tools are watched, fail now and then, and take their time.

use std::sync::Arc;

use async_trait::async_trait;
use dynamic_flow::{
    Clock as _, Flow, Result, Schema, Tool, ToolContext, ToolError, TypedTool,
    flow::{Backoff, FlowBuilder},
    hours, minutes, seconds,
    tool::{AwaitInput, FnTool, Output, ToolSpec},
    wait::WaitRequest,
};
use serde_json::{Value, json};

use crate::process::Life;

/// Which build of the flows a process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Old,
    /// With steps that the older build does not have.
    New,
}

/// All flows of a build, as a process makes them of tools of its own.
pub(crate) fn all(life: &Life, version: Version) -> Vec<Flow> {
    [purchase(life, version), escalation(life, version), stubborn(life, version), booking(life)]
        .map(|flow| flow.build().expect("a flow").erase())
        .into()
}

/// Asks twice: once with a default, once without, and does something in between that can't be undone.
fn purchase(life: &Life, version: Version) -> FlowBuilder<i64, i64> {
    let flow = Flow::input::<i64>("purchase");
    newer(flow, version, "checked")
        .tool(work(life, "fetch"))
        .keep(|n| n.await_input(ask("approve").timeout(hours(4)).default_value(4)))
        .filter("wanted", |(_, answer)| answer % 10 != 3)
        .map("sum", |(n, answer)| n * 10 + answer)
        .tool(work(life, "order").effect())
        .keep(|n| n.await_input(ask("confirm").timeout(hours(8)).metadata("team", "blue")))
        .map("total", |(n, answer)| n * 10 + answer)
        .tool(work(life, "close"))
}

/// Asks somebody else where nobody answers, and sleeps.
fn escalation(life: &Life, version: Version) -> FlowBuilder<i64, i64> {
    let first = ask("first").timeout(hours(1));
    let flow = Flow::input::<i64>("escalation").tool(work(life, "look").effect()).catch(
        "asked",
        |n| n.await_input(first),
        |e| e.await_input(ask("boss").timeout(hours(2))),
    );
    newer(flow, version, "noted")
        .tool(work(life, "settle").effect())
        .sleep("nap", minutes(20))
        .await_input(ask("last").timeout(hours(1)).default_value(0))
        .tool(work(life, "file"))
}

/// Tries again what fails, the question included, as long as there is time.
fn stubborn(life: &Life, version: Version) -> FlowBuilder<i64, i64> {
    let tries = Backoff::exponential(seconds(40));
    let flow = Flow::input::<i64>("stubborn").timeout("in-time", hours(6), |n| {
        n.retry("tries", 3, tries, |n| {
            n.tool(work(life, "try"))
                .keep(|n| n.await_input(ask("judge").timeout(hours(1))))
                .map("sum", |(n, answer)| n * 10 + answer)
        })
        .tool(work(life, "use").effect())
    });
    newer(flow, version, "weighed").await_input(ask("sign").no_timeout()).tool(work(life, "end"))
}

/// A tool that asks in mid-work.
fn booking(life: &Life) -> FlowBuilder<i64, i64> {
    Flow::input::<i64>("booking").tool(Booking::new(life)).tool(work(life, "ticket").effect())
}

fn ask(id: &str) -> AwaitInput<i64> {
    AwaitInput::<i64>::new(id)
}

/// A step that only the newer build has.
fn newer(flow: FlowBuilder<i64, i64>, version: Version, step: &str) -> FlowBuilder<i64, i64> {
    match version {
        Version::Old => flow,
        Version::New => flow.map(step, |n: i64| n),
    }
}

/// A tool that makes another number of a number, always the same of the same.
fn work(life: &Life, id: &'static str) -> FnTool<i64, i64> {
    let life = life.clone();
    FnTool::with_context(id, move |number: i64, context| {
        let life = life.clone();
        async move {
            life.pause().await;
            life.ground.witness.called(&life.name, id, &context, &json!(number));
            if life.fails(12) {
                let ground = &life.ground;
                let needed = seconds(ground.dice.below(20));
                ground.clock.sleep_until(ground.clock.now().after(needed)).await;
            }
            life.pause().await;
            if life.fails(8) {
                return Err(ToolError::new("not now"));
            }
            life.ground.witness.returned(&context);
            Ok(worked(number))
        }
    })
}

/// What the world outside makes of a number.
fn worked(number: i64) -> i64 {
    (number * 7 + 1) % 1_000_003
}

/// Asks, and goes on with what it has saved.
struct Booking {
    life: Life,
    spec: ToolSpec,
}

impl Booking {
    fn new(life: &Life) -> Self {
        let number = || Schema::of::<i64>().expect("a schema");
        let spec = ToolSpec::new("book").input(number()).output(number());
        Self { life: life.clone(), spec }
    }
}

#[async_trait]
impl Tool for Booking {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn execute(&self, input: &Value, context: &ToolContext) -> Result<Output, ToolError> {
        let Self { life, spec } = self;
        life.pause().await;
        life.ground.witness.called(&life.name, spec.id.as_str(), context, input);
        life.pause().await;
        life.ground.witness.returned(context);
        let question = WaitRequest::of::<i64>(format!("Book {input}?")).expect("a schema");
        Ok(Output::Suspend(question.show(input.clone()).timeout(hours(5)).save(input.clone())))
    }

    async fn on_resume(
        &self,
        answer: Value,
        saved: Option<Value>,
        context: &ToolContext,
    ) -> Result<Output, ToolError> {
        let Self { life, spec } = self;
        life.pause().await;
        let input = json!([saved, answer]);
        life.ground.witness.called(&life.name, spec.id.as_str(), context, &input);
        life.pause().await;
        if life.fails(4) {
            let error = ToolError::new("not bookable");
            return Err(if life.ground.dice.one_in(2) { error.permanent() } else { error });
        }
        life.ground.witness.returned(context);
        let number = answer.as_i64().ok_or_else(|| ToolError::new("not a number").permanent())?;
        Ok(Output::Value(json!(worked(number))))
    }
}

impl TypedTool for Booking {
    type Input = i64;
    type Output = i64;

    fn into_tool(self) -> Result<Arc<dyn Tool>> {
        Ok(Arc::new(self))
    }
}
