//! What a `retry` tries again.

use super::*;
use crate::{
    hub::{Outcome, PersistenceHub, Suspension},
    store::MemoryStore,
};

const UNTIL_APPROVED: &str = "
flow: f
steps:
  - id: again
    retry:
      attempts: 2
      backoff: 0s
      do:
        - id: ask
          await_input: { prompt: '?', preset: approval }
        - id: route
          switch:
            on: \"${ value.approved ? 'yes' : 'no' }\"
            cases:
              yes: []
              no: [{ id: declined, fail: { code: declined, message: 'No, says {{ value.approved_by }}.' } }]
";

/// Asks, and answers in turn; gives how it ends.
async fn answered(document: &str, answers: &[Value]) -> std::result::Result<Value, String> {
    let flow = read(document).unwrap();
    let store = Arc::new(MemoryStore::new());
    let hub = PersistenceHub::builder(store).plaintext().tools(tools()).build().await.unwrap();
    let mut outcome = hub.register(&flow).unwrap().run(json!(null)).await;
    for answer in answers {
        let Ok(Outcome::Suspended(parked)) = &outcome else { panic!("{outcome:?}") };
        outcome = hub.resume(key(parked), answer.clone()).await;
    }
    match outcome {
        Ok(Outcome::Completed(completion)) => Ok(completion.output),
        Ok(outcome) => panic!("{outcome:?}"),
        Err(error) => Err(error.message().to_owned()),
    }
}

fn key(parked: &Suspension) -> &crate::SuspensionKey {
    parked.only().unwrap().key().unwrap()
}

#[tokio::test]
async fn a_failure_by_the_flow_itself_is_tried_again() {
    let answer = |approved: bool| json!({ "approved": approved, "approved_by": "Bo" });
    let ended = answered(UNTIL_APPROVED, &[answer(false), answer(true)]).await;
    assert_eq!(ended, Ok(answer(true)));
    let ended = answered(UNTIL_APPROVED, &[answer(false), answer(false)]).await;
    assert_eq!(ended, Err("No, says Bo.".into()));
}

#[tokio::test]
async fn an_expression_that_fails_is_not_tried_again() {
    let document = "flow: f\nsteps:\n  - id: again\n    retry:\n      attempts: 2\n      backoff: 0s\n      do:\n        \
                    - { id: ask, await_input: { schema: {} } }\n        - { id: half, set: '${ 1 / value }' }\n";
    assert_eq!(answered(document, &[json!(0)]).await, Err("division by zero".into()));
}

#[tokio::test]
async fn a_flow_that_gives_up_over_and_over_can_be_stopped() {
    let document = "flow: f\nsteps:\n  - id: again\n    retry:\n      attempts: 4000000000\n      backoff: 0s\n      \
                    do: [{ id: no, fail: { code: no, message: no } }]\n";
    let flow = read(document).unwrap();
    let store = Arc::new(MemoryStore::new());
    let hub = PersistenceHub::builder(store).plaintext().tools(tools()).build().await.unwrap();
    let handle = hub.register(&flow).unwrap();
    let mut events = hub.events();
    let running = tokio::spawn(async move { handle.run(json!(null)).await });
    for _ in 0..10 {
        events.next().await.unwrap();
    }
    assert!(hub.shutdown(crate::seconds(30)).await);
    match running.await.unwrap() {
        Ok(Outcome::Suspended(parked)) => assert!(parked.resumes_at.is_some(), "it pauses"),
        Ok(outcome) => panic!("{outcome:?}"),
        Err(error) => assert_eq!(error.kind(), crate::ErrorKind::ShuttingDown),
    }
}
