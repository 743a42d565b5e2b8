//! Runs for which something was accepted that nobody has worked in.

use dynamic_flow::{Answer, Cancellation, ErrorKind, RunStatus};
use serde_json::json;

use super::{
    flows::{self, no, yes},
    parked::{completed, text, waiting},
    world::{Golden, Parked, World},
};

fn answer() -> Answer {
    Answer::new(yes()).by("jane").request_id("req-1")
}

pub(crate) async fn park_accepted(world: World) -> Parked {
    let flow = world.hub().await.register(flows::plain(&world)).unwrap();
    let parked = waiting(flow.run(text()).await.unwrap());
    // A hub without the flow's code accepts, and leaves the driving to others.
    let key = parked.key.as_ref().unwrap();
    let accepted = world.hub().await.answer(key, answer()).await.unwrap();
    assert_eq!(accepted.status, RunStatus::Ready);
    parked
}

pub(crate) async fn finish_accepted(world: World, golden: Golden) {
    let hub = world.hub().await;
    hub.register(flows::plain(&world)).unwrap();
    let refused = hub.answer(golden.key(), no()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyResumed);
    let outcome = hub.drive(golden.run).await.unwrap();
    assert_eq!(completed(outcome), "probe … approved by jane");
    assert!(hub.answer(golden.key(), answer()).await.unwrap().repeated);
}

pub(crate) async fn park_cancelled(world: World) -> Parked {
    let flow = world.hub().await.register(flows::worked_on(&world)).unwrap();
    let parked = waiting(flow.run(text()).await.unwrap());
    let stranger = world.hub().await;
    stranger.answer(parked.key.as_ref().unwrap(), answer()).await.unwrap();
    let cancellation = Cancellation::new().by("joe").reason("ordered twice");
    stranger.cancel(parked.run, cancellation).await.unwrap();
    parked
}

pub(crate) async fn finish_cancelled(world: World, golden: Golden) {
    let hub = world.hub().await;
    hub.register(flows::worked_on(&world)).unwrap();
    let error = hub.drive(golden.run).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RunCancelled);
    assert!(error.to_string().contains("ordered twice"), "{error}");
}

pub(crate) async fn park_reissued(world: World) -> Parked {
    let hub = world.hub().await;
    let flow = hub.register(flows::plain(&world)).unwrap();
    let parked = waiting(flow.run(text()).await.unwrap());
    let wait = &hub.get(parked.run).await.unwrap().waits[0].id;
    let second = hub.reissue(parked.run, wait).await.unwrap();
    Parked { note: json!({ "second": second.expose() }), ..parked }
}

pub(crate) async fn finish_reissued(world: World, golden: Golden) {
    let flow = world.hub().await.register(flows::plain(&world)).unwrap();
    let second = golden.note["second"].as_str().unwrap().parse().unwrap();
    let done = flow.resume(&second, yes()).await.unwrap();
    assert_eq!(completed(done), "probe … approved by jane");
    let refused = flow.resume(golden.key(), yes()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyResumed, "the first key is of the same wait");
}

pub(crate) async fn park_retried(world: World) -> Parked {
    let parked = super::ended::park_failed(world.clone()).await;
    let hub = world.hub().await;
    hub.register(flows::failing(&world)).unwrap();
    hub.shutdown(std::time::Duration::ZERO).await;
    let error = hub.retry(parked.run).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShuttingDown);
    parked
}

pub(crate) async fn finish_retried(world: World, golden: Golden) {
    let hub = world.hub().await;
    hub.register(flows::failing(&world)).unwrap();
    assert_eq!(completed(hub.drive(golden.run).await.unwrap()), "text");
}
