//! Runs that have ended: some can be retried, the others be looked at.

use dynamic_flow::{
    Cancellation, ErrorKind, Failure, Flow, RunStatus, SuspensionKey, hours,
    hub::{Ended, Outcome},
    wait::Closed,
};
use serde_json::{Value, json};

use super::{
    flows::{self, no, yes},
    parked::{completed, text, waiting},
    world::{Golden, Parked, World},
};

pub(crate) async fn park_failed(world: World) -> Parked {
    let flow = world.hub().await.register(flows::failing(&world)).unwrap();
    let error = flow.run("text".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RunFailed);
    Parked { run: error.run_id().unwrap(), key: None, note: Value::Null }
}

pub(crate) async fn finish_failed(world: World, golden: Golden) {
    let hub = world.hub().await;
    hub.register(flows::failing(&world)).unwrap();
    let Some(Ended::Failed(failure)) = hub.get(golden.run).await.unwrap().ended else {
        panic!("it has failed");
    };
    let Failure { code, message, position, tool_id, retryable, .. } = failure;
    assert_eq!((code.as_str(), message.as_str()), ("broken", "out of order"));
    assert_eq!((position.to_string().as_str(), retryable), ("outside/broken", false));
    assert_eq!(tool_id.unwrap(), "broken");
    assert_eq!(completed(hub.retry(golden.run).await.unwrap()), "text");
}

pub(crate) async fn park_expired(world: World) -> Parked {
    let hub = world.hub().await;
    let flow = hub.register(flows::asked_in_vain(&world)).unwrap();
    let parked = waiting(flow.run(text()).await.unwrap());
    world.clock.advance(hours(4));
    let error = hub.drive(parked.run).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RunExpired);
    parked
}

pub(crate) async fn finish_expired(world: World, golden: Golden) {
    let hub = world.hub().await;
    let flow = hub.register(flows::asked_in_vain(&world)).unwrap();
    let refused = hub.answer(golden.key(), yes()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::SuspensionExpired);
    assert_eq!(refused.receipt().unwrap().closed, Closed::TimedOut);
    let asked_again = waiting(hub.retry(golden.run).await.unwrap());
    let key: SuspensionKey = asked_again.key.unwrap();
    assert_eq!(completed(flow.resume(&key, yes()).await.unwrap()), yes());
}

fn nothing() -> Flow<Value, Value> {
    Flow::input::<Value>("golden-nothing").map("nothing", |_| Value::Null).build().unwrap()
}

pub(crate) async fn park_completed(world: World) -> Parked {
    let flow = world.hub().await.register(nothing()).unwrap();
    let Outcome::Completed(done) = flow.run(json!([1])).await.unwrap() else {
        panic!("nothing is waited for");
    };
    Parked { run: done.run_id, key: None, note: Value::Null }
}

pub(crate) async fn finish_completed(world: World, golden: Golden) {
    let view = world.hub().await.get(golden.run).await.unwrap();
    assert_eq!((view.status, view.input), (RunStatus::Completed, json!([1])));
    assert_eq!(view.output, Some(Value::Null), "`null` is an output");
}

pub(crate) async fn park_rejected(world: World) -> Parked {
    let flow = world.hub().await.register(flows::plain(&world)).unwrap();
    let parked = waiting(flow.run(text()).await.unwrap());
    flow.resume(parked.key.as_ref().unwrap(), no()).await.unwrap();
    parked
}

pub(crate) async fn finish_rejected(world: World, golden: Golden) {
    let hub = world.hub().await;
    let view = hub.get(golden.run).await.unwrap();
    let Some(Ended::Rejected { position, value, .. }) = view.ended else {
        panic!("a filter said no");
    };
    assert_eq!((position.to_string().as_str(), &value[1]), ("approved", &no()));
    let refused = hub.answer(golden.key(), yes()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyResumed);
}

pub(crate) async fn park_cancelled(world: World) -> Parked {
    let hub = world.hub().await;
    let flow = hub.register(flows::plain(&world)).unwrap();
    let parked = waiting(flow.run(text()).await.unwrap());
    hub.cancel(parked.run, Cancellation::new().by("joe")).await.unwrap();
    parked
}

pub(crate) async fn finish_cancelled(world: World, golden: Golden) {
    let hub = world.hub().await;
    let view = hub.get(golden.run).await.unwrap();
    assert_eq!(view.ended, Some(Ended::Cancelled(Cancellation::new().by("joe"))));
    let refused = hub.answer(golden.key(), yes()).await.unwrap_err();
    assert_eq!(refused.receipt().unwrap().closed, Closed::Cancelled);
}
