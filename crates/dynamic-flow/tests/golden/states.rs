//! States of callers with an engine of their own.

use dynamic_flow::{
    Answer, ErrorKind, Schema, hours,
    hub::{StateClaim, SuspensionRequest},
    minutes,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::world::{Golden, Parked, World};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Job {
    step: u32,
    note: Option<String>,
    history: Vec<(String, f64)>,
}

fn job() -> Job {
    Job { step: 3, note: None, history: vec![("begun".into(), 0.5)] }
}

pub(crate) async fn park_state(world: World) -> Parked {
    let schema = Schema::new(json!({ "type": "boolean" })).unwrap();
    let request = SuspensionRequest::new("go-on", schema)
        .prompt("Go on?")
        .show(json!({ "step": 3 }))
        .timeout(hours(24))
        .default_value(json!(false))
        .metadata("request", "12345");
    let suspended = world.hub().await.suspend(&job(), request).await.unwrap();
    Parked { run: suspended.run_id, key: Some(suspended.key), note: Value::Null }
}

pub(crate) async fn finish_state(world: World, golden: Golden) {
    let hub = world.hub().await;
    let error = hub.resume_state::<Job>(golden.key(), json!("yes")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InputValidationError);
    let claim = hub.resume_state::<Job>(golden.key(), json!(true)).await.unwrap();
    assert_eq!((&claim.state, &claim.input), (&job(), &json!(true)));
    claim.complete().await.unwrap();
    let error = hub.resume_state::<Job>(golden.key(), json!(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyResumed);
}

/// Given to a caller that died with it.
pub(crate) async fn park_given(world: World) -> Parked {
    let parked = park_state(world.clone()).await;
    let answer = Answer::new(json!(true)).by("jane");
    let key = parked.key.as_ref().unwrap();
    drop(world.hub().await.resume_state::<Job>(key, answer).await.unwrap());
    parked
}

pub(crate) async fn finish_given(world: World, _: Golden) {
    let hub = world.hub().await;
    assert!(hub.claim_states::<Job>(10).await.unwrap().is_empty(), "its lease has not lapsed");
    world.clock.advance(minutes(1));
    let mut claims: Vec<StateClaim<Job>> = hub.claim_states(10).await.unwrap();
    let claim = claims.pop().unwrap();
    assert_eq!((&claim.state, &claim.input), (&job(), &json!(true)));
    claim.complete().await.unwrap();
}
