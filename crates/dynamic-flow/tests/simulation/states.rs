//! The lower half in the simulation: states that are suspended, given to whoever resumes them, and
//! completed, suspended anew, given back, or forgotten.

use dynamic_flow::{
    Answer, Clock as _, ErrorKind, Schema, WaitId, hours,
    hub::{RunView, StateClaim, SuspensionRequest},
    seconds,
};
use serde_json::json;

use crate::{
    process::Process,
    witness::{Begun, Known},
};

/// The flow id under which states are stored.
pub(crate) const FLOW: &str = "@state";

fn request(with_default: bool) -> SuspensionRequest {
    let schema = Schema::of::<i64>().expect("a schema");
    let request = SuspensionRequest::new("state", schema).timeout(hours(3));
    if with_default { request.default_value(json!(7)) } else { request }
}

pub(crate) async fn suspend(process: Process, state: u64) {
    let (hub, ground) = (&process.hub, &process.life.ground);
    let state = i64::try_from(state).expect("a small number");
    ground.witness.note(&format!("{} suspends {state}", process.life.name));
    match hub.suspend(&state, request(ground.dice.one_in(2))).await {
        Ok(parked) => {
            let wait = WaitId::from("state#1");
            ground.witness.state_suspended(parked.run_id, &wait, &parked.key, state);
        }
        Err(error) => ground.witness.error(&error),
    }
}

/// Resumes what may be a state, or may not.
pub(crate) async fn resume(process: Process, known: Known, answer: Answer) {
    let witness = process.life.ground.witness.clone();
    let Known { run, wait, key } = known;
    let input = answer.input.clone();
    let name = &process.life.name;
    let begun = witness.begin(&format!("{name} takes {wait} of {run}: {input}"));
    match process.hub.resume_state::<i64>(&key, answer).await {
        Ok(claim) => use_up(&process, begun, claim).await,
        Err(error) if error.kind() == ErrorKind::InputValidationError && !input.is_number() => {}
        Err(error) => witness.error(&error),
    }
}

/// Takes over what others were given and have not completed.
pub(crate) async fn claim(process: Process) {
    let witness = process.life.ground.witness.clone();
    let begun = witness.begin(&format!("{} claims states", process.life.name));
    match process.hub.claim_states::<i64>(4).await {
        Ok(claims) => {
            for claim in claims {
                use_up(&process, begun, claim).await;
            }
        }
        Err(error) => witness.error(&error),
    }
}

/// Does something with a state that was given, by chance.
async fn use_up(process: &Process, begun: Begun, claim: StateClaim<i64>) {
    let (life, ground) = (&process.life, &process.life.ground);
    let witness = &ground.witness;
    witness.state_given(begun, &claim);
    life.pause().await;
    let (run, name) = (claim.run_id, &life.name);
    let result = match ground.dice.below(4) {
        0 | 1 => {
            let done = claim.complete().await;
            if done.is_ok() {
                witness.note(&format!("  {name} has completed {run}"));
                witness.state_completed(run);
            }
            done
        }
        2 => {
            let state = claim.state + 1;
            // A wait of a state is named by how many there were before it.
            let earlier = claim.receipt.wait_id.as_str().trim_start_matches("state#");
            let earlier: u32 = earlier.parse().expect("a number");
            let wait = WaitId::from(format!("state#{}", earlier + 1));
            match claim.suspend(&state, request(ground.dice.one_in(2))).await {
                Ok(parked) => {
                    witness.note(&format!("  {name} has suspended {run} as {state}"));
                    witness.state_suspended(run, &wait, &parked.key, state);
                    Ok(())
                }
                Err(error) => Err(error),
            }
        }
        _ => {
            witness.note(&format!("  {name} gives {run} back"));
            claim.release().await
        }
    };
    if let Err(error) = result {
        witness.error(&error);
    }
}

/// Brings a state to its end.
pub(crate) async fn finish(last: &Process, view: &RunView) {
    let witness = &last.life.ground.witness;
    let begun = witness.begin(&format!("the last finishes {}", view.run_id));
    // Deadlines come first.
    let mut claims = last.hub.claim_states::<i64>(100).await.expect("states");
    let now = last.life.ground.clock.now().after(seconds(5));
    let open = view.waits.first().filter(|wait| wait.expires_at.is_none_or(|end| end > now));
    if claims.is_empty() && open.is_none() {
        // Its deadline is about to pass.
        last.life.ground.clock.advance(seconds(5));
    } else if let Some(wait) = open.filter(|_| claims.is_empty()) {
        let key = last.hub.reissue(view.run_id, &wait.id).await.expect("a key");
        witness.given(view.run_id, &wait.id, &key);
        claims.push(last.hub.resume_state::<i64>(&key, json!(5)).await.expect("a claim"));
    }
    for claim in claims {
        witness.state_given(begun, &claim);
        let run = claim.run_id;
        claim.complete().await.expect("nobody else has it");
        witness.state_completed(run);
    }
}
