//! `reissue`, `cancel`, `cleanup` and `work`.

use dynamic_flow::{Flow, hub::Outcome, tool::AwaitInput};
use serde_json::{Value, json};

use crate::support::{Place, YES, on_each_store, text};

#[test]
fn a_reissued_key_answers_and_the_first_stays_good() {
    on_each_store(|place| {
        let (run, first) = place.park();
        let again = place.json(0, &["reissue", &run]);
        assert_eq!(again["wait_id"], "manager-approval#1");
        let named = place.json(0, &["reissue", &run, "manager-approval#1"]);
        assert_ne!(named["key"], again["key"]);
        place.json(0, &["resume", &text(&again["key"]), "--input", YES]);
        assert_eq!(place.error(3, &["resume", &first, "--input", YES])["kind"], "AlreadyResumed");

        let (_, first) = place.park();
        place.json(0, &["resume", &first, "--input", YES]);
    });
}

#[test]
fn a_reissued_key_is_known_after_its_answer() {
    on_each_store(|place| {
        let (run, _) = place.park();
        let key = text(&place.json(0, &["reissue", &run])["key"]);
        let answer = ["resume", &key, "--input", YES, "--request-id", "r-1"];
        place.json(0, &answer);
        assert_eq!(place.json(0, &answer)["status"], "completed", "the same request again");
        let error = place.error(3, &["resume", &key, "--input", YES]);
        assert_eq!(error["kind"], "AlreadyResumed");

        // Nor is it a stranger's after a cancellation.
        let (run, _) = place.park();
        let key = text(&place.json(0, &["reissue", &run])["key"]);
        place.json(0, &["cancel", &run]);
        let error = place.error(3, &["resume", &key, "--input", YES]);
        assert_eq!(error["receipt"]["closed"], "cancelled");
    });
}

#[test]
fn only_an_open_wait_gets_a_key() {
    let place = Place::file();
    let (run, key) = place.park();
    assert_eq!(place.error(5, &["reissue", &run, "other#1"])["kind"], "InvalidState");
    place.json(0, &["resume", &key, "--input", YES]);
    assert_eq!(place.error(5, &["reissue", &run])["kind"], "InvalidState");
}

#[test]
fn a_cancelled_run_takes_no_answers() {
    on_each_store(|place| {
        let (run, key) = place.park();
        let args = ["cancel", &run, "--by", "jane", "--reason", "ordered twice"];
        assert_eq!(place.json(0, &args), json!({ "run_id": run, "status": "cancelled" }));
        place.json(0, &args);
        let error = place.error(3, &["resume", &key, "--input", YES]);
        assert_eq!(error["receipt"]["closed"], "cancelled");
        let shown = place.json(0, &["show", &run]);
        let ended = json!({ "kind": "cancelled", "by": "jane", "reason": "ordered twice" });
        assert_eq!(shown["ended"], ended);
        let (done, key) = place.park();
        place.json(0, &["resume", &key, "--input", YES]);
        assert_eq!(place.error(5, &["cancel", &done])["kind"], "InvalidState");
    });
}

#[test]
fn a_cancellation_names_a_holder_only_where_there_is_one() {
    let place = Place::file();
    let parked = place.in_rust(async |hub| {
        let flow = Flow::input::<Value>("rust").await_input(AwaitInput::<String>::new("ask"));
        let handle = hub.register(flow.build().unwrap()).unwrap();
        handle.run(json!(null)).await.unwrap()
    });
    let Outcome::Suspended(parked) = parked else { panic!("it waits: {parked:?}") };
    let key = parked.waits[0].key.as_ref().unwrap().expose();
    let run = parked.run_id.to_string();
    // An answer comes before a cancellation, and this program has no code that works it in.
    place.json(0, &["answer", &key, "--input", "\"Ada\""]);
    let told = place.call(&["cancel", &run]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.out.contains("ready") && !told.out.contains("holder"), "{told:?}");
    assert!(told.out.contains("whoever has its flow ends it next"), "{told:?}");
}

#[test]
fn cleanup_removes_what_all_criteria_name_and_asks_for_some() {
    on_each_store(|place| {
        let (waiting, _) = place.park();
        let (done, key) = place.park();
        place.json(0, &["resume", &key, "--input", YES]);
        assert_eq!(place.error(2, &["cleanup"])["kind"], "InvalidArgument");

        let dry = place.json(0, &["cleanup", "--status", "completed", "--dry-run"]);
        assert_eq!(dry["deleted"], json!([done]));
        assert_eq!((&dry["dry_run"], &dry["deleted_count"]), (&json!(true), &json!(1)));
        assert_eq!(place.status(&done), "completed");

        let none = place.json(0, &["cleanup", "--status", "completed", "--older-than", "1h"]);
        assert_eq!(none["deleted_count"], 0);
        assert_eq!(place.json(0, &["cleanup", "--expired"])["deleted_count"], 0);

        let gone = place.json(0, &["cleanup", "--status", "completed"]);
        assert_eq!(gone["deleted"], json!([done]));
        assert_eq!(place.error(5, &["show", &done])["kind"], "RunNotFound");
        assert_eq!(place.status(&waiting), "waiting");

        // Nobody can be asked here.
        let error = place.error(2, &["cleanup", "--all"]);
        assert!(text(&error["message"]).contains("--yes"), "{error}");
        assert_eq!(place.json(0, &["cleanup", "--all", "--dry-run"])["deleted_count"], 1);
        assert_eq!(place.status(&waiting), "waiting");
        let told = place.call(&["cleanup", "--all", "--yes"]);
        assert_eq!((told.code, told.out.as_str()), (0, "1 run removed\n"));
        assert_eq!(place.json(0, &["list"])["items"], json!([]));
    });
}

#[test]
fn cleanup_says_what_it_left_and_why() {
    on_each_store(|place| {
        let (ready, key) = place.park();
        place.json(0, &["answer", &key, "--input", YES]);
        let (waiting, _) = place.park();
        let dry = place.json(0, &["cleanup", "--all", "--dry-run"]);
        assert_eq!((&dry["deleted"], &dry["left"]), (&json!([waiting]), &json!([ready])));
        let told = place.call(&["cleanup", "--all", "--yes"]);
        assert!(told.out.starts_with("1 run removed\n1 run left: "), "{told:?}");
        assert!(told.out.contains(" list --status ready,running"), "{told:?}");
        // It waits for a worker; nobody drives it.
        let why = told.out.replace('\n', " ");
        assert!(why.contains("those that a worker goes on with next only with"), "{told:?}");
        assert_eq!(place.status(&ready), "ready");
        place.json(0, &["work", "--once"]);
        let gone = place.json(0, &["cleanup", "--all", "--yes"]);
        assert_eq!((&gone["deleted"], &gone["left"]), (&json!([ready]), &json!([])));
    });
}

#[test]
fn a_worker_fires_what_is_due_and_leaves_the_rest() {
    on_each_store(|place| {
        let due = place.run(
            10,
            "flow: f\nsteps:\n  - id: ask\n    await_input: { preset: confirmation, prompt: Sure?, \
             timeout: 1ms, default: { confirmed: true } }\n",
        );
        let (waiting, _) = place.park();
        let worked = place.json(0, &["work", "--once"]);
        assert_eq!(worked, json!({ "driven": 1, "skipped": 0, "purged": 0 }));
        assert_eq!(place.status(&text(&due["run_id"])), "completed");
        assert_eq!(place.status(&waiting), "waiting");
        let told = place.call(&["work", "--once"]);
        assert!(told.out.contains("driven"), "{told:?}");
    });
}

#[test]
fn a_worker_says_where_a_run_has_failed() {
    let place = Place::file();
    let run = place.run(
        10,
        "flow: f\nsteps:\n  - id: ask\n    await_input: { preset: text, prompt: Who?, timeout: 1ms }\n",
    );
    let told = place.call(&["work", "--once"]);
    let expired = format!("{}  expired  ask  (wait_timed_out)\n", text(&run["run_id"]));
    assert!(told.err.contains(&expired), "{told:?}");
}

#[test]
fn a_worker_says_which_runs_it_skipped_and_why() {
    for store in ["file:flows", "sqlite:flows.db"] {
        let sealed = || {
            let mut place = Place::new(store);
            place.set("FLOW_ENCRYPTION_KEY", text(&place.json(0, &["keygen"])["key"]));
            let document = "flow: f\nsteps:\n  - id: ask\n    await_input: { preset: confirmation, \
                            prompt: Sure?, timeout: 1ms, default: { confirmed: true } }\n";
            let run = text(&place.run(10, document)["run_id"]);
            place.unset("FLOW_ENCRYPTION_KEY");
            (place, run)
        };
        let (place, run) = sealed();
        let worked = place.json(5, &["work", "--once"]);
        assert_eq!((&worked["driven"], &worked["skipped"]), (&json!(0), &json!(1)));
        assert_eq!(worked["skipped_runs"][0]["run_id"], json!(run));
        let reason = text(&worked["skipped_runs"][0]["reason"]);
        assert!(reason.starts_with("EncryptionError"), "{reason}");

        let (place, run) = sealed();
        let told = place.call(&["work", "--once"]);
        assert_eq!(told.code, 5, "{told:?}");
        let skipped = told.err.lines().find(|line| line.contains(&run)).unwrap();
        assert!(skipped.contains("skipped") && skipped.contains("EncryptionError"), "{told:?}");
    }
}
