//! Tools that asked in mid-work and fail with the answer.

use std::sync::{Arc, Mutex};

use dynamic_flow::{
    ErrorKind, Flow, RunStatus, Schema, ToolContext, ToolError, TypedTool,
    flow::Backoff,
    hours,
    hub::PersistenceHub,
    tool::{Output, Tool, ToolSpec},
    wait::{Closed, WaitRequest},
};
use serde_json::{Value, json};

use crate::support::{Counter, Order, World, completed, order, restate, suspended, worn, yes};

/// Asks, and books what was answered once the world outside lets it.
#[derive(Clone)]
struct Book {
    spec: ToolSpec,
    asked: Counter,
    tried: Arc<Mutex<Vec<String>>>,
    /// What the first tries fail with.
    failures: Vec<ToolError>,
}

impl Book {
    fn failing(failures: impl Into<Vec<ToolError>>) -> Self {
        let (spec, failures) = (ToolSpec::new("book"), failures.into());
        Self { spec, asked: Counter::default(), tried: Arc::default(), failures }
    }

    fn tries(&self) -> Vec<String> {
        self.tried.lock().unwrap().clone()
    }

    fn flow(&self) -> Flow<Order, Value> {
        Flow::input::<Order>("booking").tool(self.clone()).build().unwrap()
    }

    /// A run that was answered, and failed with the answer.
    async fn failed(&self, world: &World) -> (PersistenceHub, dynamic_flow::RunId) {
        let hub = world.hub().await;
        let parked = suspended(hub.register(self.flow()).unwrap().run(order()).await);
        let error = hub.resume(parked.only().unwrap().key().unwrap(), yes()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RunFailed);
        (hub, parked.run_id)
    }
}

#[async_trait::async_trait]
impl Tool for Book {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn execute(&self, input: &Value, _: &ToolContext) -> Result<Output, ToolError> {
        self.asked.add();
        let question = WaitRequest::new("Book it?", Schema::any());
        Ok(Output::Suspend(question.no_timeout().save(input["id"].clone())))
    }

    async fn on_resume(
        &self,
        answer: Value,
        saved: Option<Value>,
        context: &ToolContext,
    ) -> Result<Output, ToolError> {
        let mut tried = self.tried.lock().unwrap();
        tried.push(context.idempotency_key.clone());
        match self.failures.get(tried.len() - 1) {
            Some(failure) => Err(failure.clone()),
            None => Ok(Output::Value(json!({ "answer": answer, "saved": saved }))),
        }
    }
}

impl TypedTool for Book {
    type Input = Order;
    type Output = Value;
    fn into_tool(self) -> dynamic_flow::Result<Arc<dyn Tool>> {
        Ok(Arc::new(self))
    }
}

fn booked() -> Value {
    json!({ "answer": yes(), "saved": "PO-17" })
}

#[tokio::test]
async fn a_retry_goes_on_with_the_answer_that_was_accepted() {
    let (world, book) =
        (World::new(), Book::failing([ToolError::new("down"), ToolError::new("down")]));
    let (_, run) = book.failed(&world).await;
    let hub = world.hub().await;
    hub.register(book.flow()).unwrap();
    assert_eq!(hub.retry(run).await.unwrap_err().kind(), ErrorKind::RunFailed);
    assert_eq!(completed(hub.retry(run).await), booked());
    assert_eq!(book.asked.get(), 1);
    let tries = book.tries();
    assert_eq!(tries.len(), 3);
    assert!(
        tries.iter().all(|key| *key == tries[0]),
        "one call has one idempotency key: {tries:?}"
    );
    let receipts = hub.get(run).await.unwrap().receipts;
    assert_eq!((receipts.len(), receipts[0].closed), (1, Closed::Answered));
}

#[tokio::test]
async fn a_retry_asks_again_where_the_tool_has_no_use_for_the_answer() {
    let unusable = ToolError::new("there is no such seat").permanent();
    let (world, book) = (World::new(), Book::failing([unusable]));
    let (hub, run) = book.failed(&world).await;
    let parked = suspended(hub.retry(run).await);
    assert_eq!(book.asked.get(), 2);
    let key = parked.only().unwrap().key().unwrap();
    assert_eq!(completed(hub.resume(key, yes()).await), booked());
}

#[tokio::test]
async fn another_attempt_of_a_retry_step_is_one_with_a_question_of_its_own() {
    let (world, book) = (World::new(), Book::failing([ToolError::new("down")]));
    let pauses = Backoff::fixed(hours(1));
    let tool = book.clone();
    let flow = Flow::input::<Order>("persistent")
        .retry("again", 2, pauses, move |order| order.tool(tool))
        .build()
        .unwrap();
    let hub = world.hub().await;
    let parked = suspended(hub.register(&flow).unwrap().run(order()).await);
    suspended(hub.resume(parked.only().unwrap().key().unwrap(), yes()).await);
    // What the first attempt was answered is not kept for the second.
    let mut kept = String::new();
    restate(&world, parked.run_id, |state: &mut Value| kept = state["root"].to_string()).await;
    assert!(kept.contains("retry") && !kept.contains("jane"), "{kept}");
    world.clock.advance(hours(1));
    assert_eq!(hub.work_once().await.unwrap().driven, 1);
    assert_eq!((book.asked.get(), book.tries().len()), (2, 1));
}

#[tokio::test]
async fn a_run_that_was_set_aside_in_its_second_try_calls_the_tool_once_when_it_is_retried() {
    let (world, book) = (World::new(), Book::failing([ToolError::new("down")]));
    let (hub, run) = book.failed(&world).await;
    // The retry is accepted, and one worker after the other dies over it.
    let leaving = world.hub().await;
    leaving.register(book.flow()).unwrap();
    leaving.shutdown(std::time::Duration::ZERO).await;
    leaving.retry(run).await.unwrap_err();
    worn(&world, run).await;
    hub.work_once().await.unwrap();
    assert_eq!(hub.get(run).await.unwrap().status, RunStatus::Failed);
    assert_eq!(completed(hub.retry(run).await), booked());
    assert_eq!((book.asked.get(), book.tries().len()), (1, 2));
}

#[tokio::test]
async fn an_upgrade_drops_no_answer_with_which_a_tool_goes_on() {
    let world = World::new();
    let book = Book::failing([ToolError::new("no reply")]);
    let (hub, run) = book.failed(&world).await;
    let old = book.flow().fingerprint().unwrap().clone();
    let new = Flow::input::<Order>("booking").tool(book.clone()).map("after", |done| done);
    let new = new.build().unwrap().upgrade(old, |state| state.restart_step("book"));
    let refused = hub.check_run(run, &new).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FlowIncompatible);
    assert!(refused.to_string().contains("an answer was accepted"), "{refused}");
}
