//! Runs that wait: for answers, for timers, for a call that never came back.

use dynamic_flow::{
    Answer, ErrorKind, Flow, SuspensionKey, hours,
    hub::{Outcome, Suspension},
    minutes,
    tool::ToolRegistry,
    wait::Closed,
};
use serde_json::{Value, json};

use super::{
    flows::{self, no, yes},
    world::{Golden, Parked, World},
};

pub(crate) fn text() -> String {
    "probe ".repeat(200)
}

pub(crate) fn suspended<O>(outcome: Outcome<O>) -> Suspension {
    match outcome {
        Outcome::Suspended(parked) => parked,
        _ => panic!("the run did not park"),
    }
}

pub(crate) fn completed<O>(outcome: Outcome<O>) -> O {
    match outcome {
        Outcome::Completed(done) => done.output,
        Outcome::Suspended(parked) => panic!("the run is parked: {parked:?}"),
        Outcome::Rejected(rejected) => panic!("the run was rejected by {}", rejected.step),
    }
}

/// The one wait of a run that parked just now.
pub(crate) fn waiting<O>(outcome: Outcome<O>) -> Parked {
    let parked = suspended(outcome);
    let key = parked.only().unwrap().key().unwrap().clone();
    Parked { run: parked.run_id, key: Some(key), note: Value::Null }
}

fn timed<O>(outcome: Outcome<O>) -> Parked {
    let parked = suspended(outcome);
    assert!(parked.waits.is_empty());
    Parked { run: parked.run_id, key: None, note: Value::Null }
}

pub(crate) async fn park_plain(world: World) -> Parked {
    let flow = world.hub().await.register(flows::plain(&world)).unwrap();
    waiting(flow.run(text()).await.unwrap())
}

pub(crate) async fn finish_plain(world: World, golden: Golden) {
    let hub = world.hub().await;
    let flow = hub.register(flows::plain(&world)).unwrap();
    let question = hub.question(golden.key()).await.unwrap();
    assert_eq!(question.prompt, "1200 characters; shall it be done?");
    assert_eq!(question.shown, Some(json!({ "text": text(), "nothing": null })));

    let wrong = SuspensionKey::from_secret(golden.run, [77; 32]);
    let error = flow.resume(&wrong, yes()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SuspensionKeyNotFound);
    let error = flow.resume(golden.key(), json!({ "approved": 1 })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InputValidationError);

    let done = flow.resume(golden.key(), yes()).await.unwrap();
    assert_eq!(completed(done), "probe … approved by jane");
    let error = flow.resume(golden.key(), no()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyResumed);
}

pub(crate) async fn park_nested(world: World) -> Parked {
    let flow = world.hub().await.register(flows::nested(&world)).unwrap();
    waiting(flow.run(12).await.unwrap())
}

pub(crate) async fn finish_nested(world: World, golden: Golden) {
    let hub = world.hub().await;
    let flow = hub.register(flows::nested(&world)).unwrap();
    let view = hub.get(golden.run).await.unwrap();
    let position = view.positions[0].to_string();
    assert_eq!(position, "in-time/safely/again[2]/size/both/inner/number");
    assert_eq!(view.waits[0].expires_at, Some(view.created_at.after(hours(8))));
    let done = flow.resume(golden.key(), json!(5)).await.unwrap();
    assert_eq!(completed(done), ("13 and 5, with 6".to_owned(), 120));
}

pub(crate) async fn park_mid_work(world: World) -> Parked {
    let flow = world.hub().await.register(flows::mid_work()).unwrap();
    waiting(flow.run(json!({ "price": 10 })).await.unwrap())
}

pub(crate) async fn finish_mid_work(world: World, golden: Golden) {
    let flow = world.hub().await.register(flows::mid_work()).unwrap();
    let done = flow.resume(golden.key(), json!(7)).await.unwrap();
    let saved = json!({ "wanted": { "price": 10 }, "offers": [], "partner": null });
    assert_eq!(completed(done), json!({ "offered": 7, "saved": saved }));
}

pub(crate) async fn park_sleeping(world: World) -> Parked {
    let flow = world.hub().await.register(flows::sleeping(&world)).unwrap();
    timed(flow.run("tired".into()).await.unwrap())
}

pub(crate) async fn finish_sleeping(world: World, golden: Golden) {
    let hub = world.hub().await;
    hub.register(flows::sleeping(&world)).unwrap();
    world.clock.advance(hours(7));
    suspended(hub.drive(golden.run).await.unwrap());
    world.clock.advance(hours(1));
    assert_eq!(completed(hub.drive(golden.run).await.unwrap()), "tired, slept over");
}

pub(crate) async fn park_outgrown(world: World) -> Parked {
    let flow = world.hub().await.register(flows::outgrown(&world)).unwrap();
    timed(flow.run("new".into()).await.unwrap())
}

/// With the flow as it is once nothing has to be carried over any more.
pub(crate) async fn finish_outgrown(world: World, golden: Golden) {
    let hub = world.hub().await;
    hub.register(flows::later(&world)).unwrap();
    world.clock.advance(hours(8));
    assert_eq!(completed(hub.drive(golden.run).await.unwrap()), "new");
}

pub(crate) async fn park_pausing(world: World) -> Parked {
    let flow = world.hub().await.register(flows::pausing()).unwrap();
    timed(flow.run("ready".into()).await.unwrap())
}

pub(crate) async fn finish_pausing(world: World, golden: Golden) {
    let hub = world.hub().await;
    hub.register(flows::pausing()).unwrap();
    world.clock.advance(hours(1));
    assert_eq!(completed(hub.drive(golden.run).await.unwrap()), "ready at attempt 2");
}

pub(crate) async fn park_calling(world: World) -> Parked {
    let hub = world.hub().await;
    let mut events = hub.events();
    let flow = hub.register(flows::calling(&world)).unwrap();
    tokio::spawn(async move { flow.run("money".into()).await });
    let run = events.next().await.unwrap().run_id();
    // The run is committed before the tool starts, and the tool never ends.
    let key = world.charged.subscribe().wait_for(|key| !key.is_empty()).await.unwrap().clone();
    Parked { run, key: None, note: json!({ "idempotency_key": key }) }
}

pub(crate) async fn finish_calling(world: World, golden: Golden) {
    let hub = world.hub().await;
    hub.register(flows::calling(&world)).unwrap();
    world.clock.advance(minutes(1));
    let key = completed(hub.drive(golden.run).await.unwrap());
    assert_eq!(key, golden.note["idempotency_key"], "a call made again has the same key");
}

pub(crate) async fn park_second_wait(world: World) -> Parked {
    let flow = world.hub().await.register(flows::twice(&world)).unwrap();
    let first = waiting(flow.run("text".into()).await.unwrap()).key.unwrap();
    let answer = Answer::new(yes()).by("jane").request_id("req-1");
    let mut second = waiting(flow.resume(&first, answer).await.unwrap());
    second.note = json!({ "first": first.expose() });
    second
}

pub(crate) async fn finish_second_wait(world: World, golden: Golden) {
    let flow = world.hub().await.register(flows::twice(&world)).unwrap();
    let first: SuspensionKey = golden.note["first"].as_str().unwrap().parse().unwrap();
    let refused = flow.resume(&first, no()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyResumed);
    let receipt = refused.receipt().unwrap();
    assert_eq!((receipt.closed, receipt.by.as_deref()), (Closed::Answered, Some("jane")));
    let done = flow.resume(golden.key(), no()).await.unwrap();
    assert_eq!(completed(done), (yes(), no()));
}

pub(crate) async fn park_document(world: World) -> Parked {
    let flow = Flow::from_document(flows::DOCUMENT, &ToolRegistry::new()).unwrap();
    let flow = world.hub().await.register(flow).unwrap();
    waiting(flow.run(json!({ "item": "probe", "quantity": 2 })).await.unwrap())
}

/// With a hub that has never seen the document: it is in the run.
pub(crate) async fn finish_document(world: World, golden: Golden) {
    let hub = world.hub().await;
    assert_eq!(hub.question(golden.key()).await.unwrap().prompt, "2 × probe?");
    let answer = json!({ "approved": true, "approved_by": "jane" });
    let done = hub.resume(golden.key(), answer).await.unwrap();
    assert_eq!(completed(done), json!({ "item": "probe", "approved_by": "jane" }));
}
