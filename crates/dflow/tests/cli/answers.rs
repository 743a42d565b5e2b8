//! `resume` and `answer`: keys, inputs, repetitions, deadlines.

use dynamic_flow::{RunId, Schema, SuspensionKey, hub::SuspensionRequest};
use serde_json::{Value, json};

use crate::support::{NO, Place, YES, error_of, examples, find, on_each_store, result, text};

#[test]
fn the_key_may_stay_out_of_the_command_line() {
    on_each_store(|place| {
        let (_, key) = place.park();
        let called =
            place.call_with(&["resume", "-", "--input", YES, "--json"], &format!("{key}\n"));
        assert_eq!(result(&called, 0, "resume")["status"], "completed");

        // A line is a key; what comes after it is not.
        let (_, key) = place.park();
        let called = place.call_with(
            &["resume", "-", "--input", YES, "--json"],
            &format!("{key}\nof the order\n"),
        );
        assert_eq!(result(&called, 0, "resume")["status"], "completed");

        let (_, key) = place.park();
        let mut command = place.command();
        command.env("DFLOW_KEY", &key).args(["resume", "--json", "--input", "-"]).write_stdin(YES);
        let called = crate::support::called(&command.output().unwrap());
        assert_eq!(result(&called, 0, "resume")["status"], "completed");
    });
}

#[test]
fn whoever_has_no_right_key_hears_one_thing() {
    on_each_store(|place| {
        let (_, key) = place.park();
        let mut wrong_secret = key.clone();
        let last = if wrong_secret.pop() == Some('A') { 'B' } else { 'A' };
        wrong_secret.push(last);
        // A run that is not there.
        let unknown = format!("df_{}{}", "B".repeat(20), &key[23..]);
        let keys = [
            "df_",
            "nonsense",
            "df_####",
            &key[..40],
            &key[3..],
            &wrong_secret,
            &unknown,
            &format!("{key}A"),
        ];
        let mut told = Vec::new();
        for key in keys {
            for command in ["resume", "answer"] {
                let error = place.error(3, &[command, key, "--input", YES]);
                assert_eq!(error["kind"], "SuspensionKeyNotFound", "{key}");
                told.push(error.to_string());
            }
            // Nor does an input that does not fit tell more.
            told.push(place.error(3, &["resume", key, "--input", "{}"]).to_string());
        }
        told.dedup();
        assert_eq!(told.len(), 1, "{told:?}");
        place.json(0, &["resume", &key, "--input", YES]);
    });
}

#[test]
fn an_input_that_does_not_fit_leaves_the_wait_open() {
    on_each_store(|place| {
        let (run, key) = place.park();
        for command in ["resume", "answer"] {
            let error = place.error(4, &[command, &key, "--input", r#"{"approved": "maybe"}"#]);
            assert_eq!(error["kind"], "InputValidationError");
            assert_eq!(error["run_id"], json!(run));
            let violations = error["violations"].as_array().unwrap();
            assert_eq!(violations.len(), 2);
            assert!(violations.iter().any(|it| it["pointer"] == "/approved"), "{violations:?}");
            assert!(!error.to_string().contains("maybe"));
        }
        assert_eq!(
            place.error(4, &["resume", &key, "--input", "{"])["kind"],
            "InputValidationError"
        );
        assert_eq!(place.status(&run), "waiting");
        place.json(0, &["resume", &key, "--input", YES]);
    });
}

#[test]
fn a_second_answer_is_shown_the_receipt_of_the_first() {
    on_each_store(|place| {
        let (run, key) = place.park();
        place.json(0, &["resume", &key, "--input", YES, "--by", "jane", "--request-id", "r-1"]);
        let error = place.error(3, &["resume", &key, "--input", NO]);
        assert_eq!(error["kind"], "AlreadyResumed");
        assert_eq!(error["run_id"], json!(run));
        let receipt = &error["receipt"];
        assert_eq!((&receipt["closed"], &receipt["by"]), (&json!("answered"), &json!("jane")));
        assert_eq!(receipt["request_id"], "r-1");
        assert!(!error.to_string().contains("approved_by"), "no input in it: {error}");
        let told = place.call(&["resume", &key, "--input", NO]).err;
        assert_eq!(told.matches(&text(&receipt["at"])).count(), 1, "once is enough: {told}");
        let told = place.call(&["resume", &key, "--input", NO]);
        assert_eq!(told.code, 3);
        assert!(told.err.contains("answered by jane"), "{told:?}");
    });
}

#[test]
fn the_same_request_again_is_told_that_it_was_accepted() {
    on_each_store(|place| {
        let (run, key) = place.park();
        let answer = ["answer", &key, "--input", YES, "--request-id", "r-1"];
        let first = place.json(0, &answer);
        assert_eq!((&first["repeated"], &first["run_status"]), (&json!(false), &json!("ready")));
        let again = place.json(0, &answer);
        assert_eq!((&again["repeated"], &again["status"]), (&json!(true), &json!("accepted")));
        assert_eq!(again["receipt"], first["receipt"]);
        let other = place.error(3, &["answer", &key, "--input", YES, "--request-id", "r-2"]);
        assert_eq!(other["kind"], "AlreadyResumed");
        // Resumed by the same request, it goes on.
        let resumed = place.json(0, &["resume", &key, "--input", YES, "--request-id", "r-1"]);
        assert_eq!(resumed["run_id"], json!(run));
        let after = place.json(0, &answer);
        assert_eq!((&after["repeated"], &after["run_status"]), (&json!(true), &json!("completed")));
    });
}

#[test]
fn what_is_only_accepted_goes_on_with_a_worker() {
    on_each_store(|place| {
        let (run, key) = place.park();
        let told = place.call(&["answer", &key, "--input", YES, "--by", "jane"]);
        assert_eq!(told.code, 0);
        assert!(told.out.contains("accepted") && told.err.contains("work --once"), "{told:?}");
        assert_eq!(place.status(&run), "ready");
        let worked = place.json(0, &["work", "--once"]);
        assert_eq!(worked["driven"], 1);
        assert_eq!(place.status(&run), "completed");
    });
}

#[test]
fn after_the_deadline_the_default_answers() {
    on_each_store(|place| {
        let parked = place.run(
            10,
            "flow: f\nsteps:\n  - id: ask\n    await_input: { preset: confirmation, prompt: Sure?, \
             timeout: 1ms, default: { confirmed: false } }\n",
        );
        let (run, key) = (text(&parked["run_id"]), text(&parked["waits"][0]["key"]));
        let error = place.error(3, &["resume", &key, "--input", r#"{"confirmed": true}"#]);
        assert_eq!(error["kind"], "AlreadyResumed");
        assert_eq!(error["receipt"]["closed"], "defaulted");
        let shown = place.json(0, &["show", &run]);
        assert_eq!(shown["output"], json!({ "confirmed": false }));
    });
}

#[test]
fn after_the_deadline_nothing_answers_where_there_is_no_default() {
    on_each_store(|place| {
        let parked = place.run(
            10,
            "flow: f\nsteps:\n  - id: ask\n    await_input: { preset: confirmation, prompt: Sure?, \
             timeout: 1ms }\n",
        );
        let (run, key) = (text(&parked["run_id"]), text(&parked["waits"][0]["key"]));
        for command in ["answer", "resume"] {
            let error = place.error(3, &[command, &key, "--input", r#"{"confirmed": true}"#]);
            assert_eq!(error["kind"], "SuspensionExpired", "{command}");
        }
        assert_eq!(place.status(&run), "expired");
        let again = place.json(10, &["retry", &run]);
        assert_eq!(again["status"], "suspended");
    });
}

#[test]
fn what_is_missing_is_told() {
    let mut place = Place::file();
    let (_, key) = place.park();
    // A variable that is empty says as little as one that is not set.
    for empty in [false, true] {
        if empty {
            place.set("DFLOW_KEY", "");
        }
        let error = place.error(2, &["resume", "--input", YES]);
        assert!(text(&error["message"]).contains("DFLOW_KEY"), "{error}");
    }
    let error = place.error(2, &["resume", &key]);
    assert!(text(&error["message"]).contains("--input"), "{error}");
    let error = place.error(3, &["resume", "df_wrong"]);
    assert_eq!(error["kind"], "SuspensionKeyNotFound");
    let both = place.call_with(&["resume", "-", "--input", "-", "--json"], &key);
    assert!(text(&error_of(&both, 2)["message"]).contains("both"));
}

#[test]
fn no_key_and_no_input_is_traced() {
    let place = Place::file();
    let (_, key) = place.park();
    let told = place.call(&["resume", &key, "--input", YES, "--verbose"]);
    assert_eq!(told.code, 0);
    for traced in ["approved  begins  (filter)", "approved  completed", "answered", "completed"] {
        assert!(told.err.contains(traced), "{traced}: {told:?}");
    }
    assert!(!told.err.contains(&key) && !told.err.contains("Jane"), "{told:?}");
}

#[test]
fn a_key_that_is_empty_is_none_and_not_a_wrong_one() {
    let place = Place::file();
    place.make();
    for command in ["resume", "answer"] {
        for (args, stdin) in
            [(&[command, "-"][..], ""), (&[command, "-"], "\n"), (&[command, ""], "")]
        {
            let called = place.call_with(&[args, &["--input", "1", "--json"]].concat(), stdin);
            let error = error_of(&called, 2);
            assert!(text(&error["message"]).contains("no key is given"), "{args:?}: {error}");
        }
    }
}

#[test]
fn a_flow_that_a_run_does_not_carry_is_not_needed() {
    // The document travels inside the run: here its file is gone.
    on_each_store(|place| {
        let flow = place.write(
            "flow.yaml",
            "flow: f\nsteps:\n  - id: ask\n    await_input: { preset: text, prompt: Name? }\n  - id: \
             greet\n    set: 'Hello {{ value.text }}'\n",
        );
        let parked = place.json(10, &["run", flow]);
        std::fs::remove_file(place.folder.path().join(flow)).unwrap();
        let key = text(&parked["waits"][0]["key"]);
        let done = place.json(0, &["resume", &key, "--input", r#"{"text": "Ada"}"#]);
        assert_eq!(done["output"], "Hello Ada");
    });
}

#[test]
fn an_answer_that_says_something_twice_is_refused() {
    on_each_store(|place| {
        let (run, key) = place.park();
        let twice = r#"{"approved": false, "approved_by": "Jane", "approved": true}"#;
        for command in ["resume", "answer"] {
            let error = place.error(4, &[command, &key, "--input", twice]);
            assert_eq!(error["kind"], "InputValidationError");
            assert_eq!(error["context"]["key"], "approved", "{error}");
        }
        assert_eq!(place.status(&run), "waiting");
        assert_eq!(place.json(11, &["resume", &key, "--input", NO])["run_id"], json!(run));
    });
}

#[test]
fn an_answer_that_makes_the_state_too_large_fails_its_run_and_says_so() {
    on_each_store(|place| {
        place.write("dflow.toml", "[hub]\nmax_state_size = 6000\n");
        let parked = place.run(
            10,
            "flow: f\nsteps:\n  - id: ask\n    await_input: { preset: text, prompt: Name? }\n",
        );
        let (run, key) = (text(&parked["run_id"]), text(&parked["waits"][0]["key"]));
        let input = json!({ "text": "x".repeat(5400) }).to_string();
        let error = place.error(5, &["resume", &key, "--input", &input]);
        assert_eq!(error["kind"], "StateTooLarge");
        assert_eq!(error["context"]["run_status"], "failed", "{error}");
        assert_eq!(place.status(&run), "failed");
        let told = place.call(&["retry", &run]);
        assert!(told.err.contains("the run is failed now"), "{told:?}");
        place.write("dflow.toml", "");
        assert_eq!(place.json(0, &["retry", &run])["status"], "completed");
    });
}

#[test]
fn no_worker_is_named_that_can_not_go_on_with_a_run() {
    let place = Place::file();
    let parked = place.in_rust(async |hub| {
        let schema = Schema::new(json!({ "type": "string" })).unwrap();
        hub.suspend(&1, SuspensionRequest::new("ask", schema)).await.unwrap()
    });
    let told = place.call(&["answer", &parked.key.expose(), "--input", "\"yes\""]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(!told.err.contains("work --once") && told.err.contains("Rust"), "{told:?}");
}

#[test]
fn a_log_is_written_beside_json_too() {
    let place = Place::file();
    let flow = examples().join("purchase-approval.yaml");
    let order = format!("@{}", examples().join("order.json").display());
    let logged = |code: i32, args: &[&str], says: &str| {
        let called = place.call(&[args, &["--json", "--verbose"]].concat());
        assert_eq!(called.code, code, "{called:?}");
        assert!(called.err.lines().any(|line| line.contains(says)), "{args:?}: {called:?}");
        assert!(!called.err.contains("df_") && !called.err.contains("Jane"), "{called:?}");
        serde_json::from_str::<Value>(&called.out).unwrap()
    };
    let parked = logged(10, &["run", flow.to_str().unwrap(), "--input", &order], "asks  (");
    let key = text(&parked["waits"][0]["key"]);
    logged(0, &["answer", &key, "--input", YES], "accepted; ");
    let worked = logged(0, &["work", "--once"], "completed");
    assert_eq!(worked["driven"], 1);
}

#[test]
fn a_made_up_key_tells_nothing_of_a_damaged_run() {
    let place = Place::file();
    let (run, _) = place.park();
    std::fs::write(find(place.folder.path(), &run), "damaged").unwrap();
    let told = |run: &str| {
        let run: RunId = run.parse().unwrap();
        let key = SuspensionKey::from_secret(run, [9; 32]).expose();
        place.error(3, &["resume", &key, "--input", YES])
    };
    assert_eq!(told(&run), told("01900000-0000-7000-8000-000000000000"));
}
