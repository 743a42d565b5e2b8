//! `run` and `retry`: inputs, outcomes, exit codes.

use serde_json::{Value, json};

use crate::support::{NO, Place, YES, examples, on_each_store, result, text};

#[test]
fn an_order_is_approved_by_another_process() {
    on_each_store(|place| {
        let (run, key) = place.park();
        let done = place.json(0, &["resume", &key, "--input", YES]);
        assert_eq!(done["status"], "completed");
        assert_eq!(done["run_id"], json!(run));
        assert_eq!(done["output"]["approved_by"], "Jane");
    });
}

#[test]
fn a_suspended_run_is_told_with_everything_an_answer_needs() {
    on_each_store(|place| {
        let flow = examples().join("purchase-approval.yaml");
        let order = format!("@{}", examples().join("order.json").display());
        let parked = place.json(10, &["run", flow.to_str().unwrap(), "--input", &order]);
        assert_eq!(parked["status"], "suspended");
        assert_eq!(parked["flow_id"], "purchase-approval");
        let wait = &parked["waits"][0];
        assert!(text(&wait["key"]).starts_with("df_"));
        assert_eq!(wait["tool_id"], "manager-approval");
        assert!(text(&wait["prompt"]).contains("PO-2048"));
        assert_eq!(wait["shown"]["id"], "PO-2048");
        assert_eq!(wait["schema"]["properties"]["approved"]["type"], "boolean");
        assert_eq!(wait["metadata"]["department"], "radiology");
        assert!(parked.get("resumes_at").is_none());
    });
}

#[test]
fn a_run_with_an_id_is_started_once() {
    on_each_store(|place| {
        let flow = examples().join("purchase-approval.yaml");
        let order = format!("@{}", examples().join("order.json").display());
        let start = |code, id: &str, input: &str| {
            place.json(code, &["run", flow.to_str().unwrap(), "--input", input, "--run-id", id])
        };
        let first = start(10, "2026-11-23/PO-2048", &order);
        let again = start(10, &text(&first["run_id"]), &order);
        assert_eq!(again["run_id"], first["run_id"]);
        assert_eq!(again["waits"][0]["id"], first["waits"][0]["id"]);
        assert!(again["waits"][0].get("key").is_none(), "{again}");
        assert_ne!(start(10, "2026-11-23/PO-2049", &order)["run_id"], first["run_id"]);

        let done = place.json(0, &["resume", &text(&first["waits"][0]["key"]), "--input", YES]);
        assert_eq!(start(0, "2026-11-23/PO-2048", &order), done);
        assert_eq!(place.json(0, &["list"])["items"].as_array().unwrap().len(), 2);
    });
}

#[test]
fn an_input_that_is_wrong_as_such_is_told_as_any_other() {
    let place = Place::file();
    let flow = place.write("f.yaml", "flow: f\nsteps: [{ id: a, set: '${ value }' }]\n");
    let path = place.folder.path().join("input.json");
    let run = ["run", flow, "--input", "@input.json"];
    std::fs::write(&path, "\u{feff}[1]").unwrap();
    assert_eq!(place.json(0, &run)["output"], json!([1]), "a byte order mark is none of it");
    let piped = place.call_with(&["run", flow, "--input", "-", "--json"], "\u{feff}[1]");
    assert_eq!(result(&piped, 0, "run")["output"], json!([1]));
    std::fs::write(&path, b"\"\xff\"").unwrap();
    let error = place.error(4, &run);
    assert_eq!(error["kind"], "InputValidationError");
    assert!(text(&error["message"]).contains("line 1 is not UTF-8"), "{error}");
    // Beyond what is read at all, and beyond what the hub takes.
    for size in [(64 << 20) + 1, (1 << 20) + 1] {
        std::fs::write(&path, format!("\"{}\"", "a".repeat(size))).unwrap();
        let error = place.error(4, &run);
        assert_eq!((&error["kind"], &error["retryable"]), (&json!("LimitExceeded"), &json!(false)));
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(place.error(2, &run)["kind"], "InvalidArgument");
}

#[test]
fn an_id_of_another_run_is_refused() {
    let place = Place::file();
    let flow = place.write("f.yaml", "flow: f\nsteps: [{ id: a, set: '${ value }' }]\n");
    let id = "2026-11-23/one";
    assert_eq!(place.json(0, &["run", flow, "--input", "1", "--run-id", id])["output"], 1);
    let error = place.error(5, &["run", flow, "--input", "2", "--run-id", id]);
    assert_eq!(error["kind"], "AlreadyExists");
    for wrong in ["one", "2h/one", "1969-12-31/one", "5ac3b4f6-58f3-4f0b-9c31-0ea1f4e5a2a7"] {
        let error = place.error(2, &["run", flow, "--input", "1", "--run-id", wrong]);
        assert_eq!(error["kind"], "InvalidArgument", "{wrong}");
    }
}

#[test]
fn a_no_is_a_result_and_not_a_failure() {
    on_each_store(|place| {
        let (run, key) = place.park();
        let rejected = place.json(11, &["resume", &key, "--input", NO]);
        assert_eq!(rejected, json!({ "status": "rejected", "run_id": run, "step": "approved" }));
        assert_eq!(place.status(&run), "rejected");
    });
}

#[test]
fn people_get_the_key_and_the_next_command() {
    let place = Place::file();
    let flow = examples().join("purchase-approval.yaml");
    let order = format!("@{}", examples().join("order.json").display());
    let called = place.call(&["run", flow.to_str().unwrap(), "--input", &order]);
    assert_eq!(called.code, 10, "{called:?}");
    assert!(called.out.contains("suspended"), "{called:?}");
    assert!(!called.out.contains('\x1b'), "no colors where there is no terminal");
    let next = called.out.lines().find(|line| line.contains(" resume df_")).unwrap();
    let words: Vec<&str> = next.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "resume").unwrap();
    assert_eq!(words[at + 2..], ["--store", "file:flows"], "the store is not the default one");
    let done = place.call(&[&words[at..], &["--input", YES]].concat());
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("completed") && done.out.contains("PO-2048"), "{done:?}");
}

#[test]
fn a_failed_run_keeps_its_state_for_retry() {
    on_each_store(|place| {
        let document =
            "flow: f\nsteps:\n  - id: stop\n    fail: { code: boom, message: It broke }\n";
        let failed = place.run(1, document);
        assert_eq!(failed["status"], "failed");
        assert_eq!(
            failed["error"],
            json!({ "kind": "RunFailed", "message": "It broke", "step": "stop", "code": "boom" })
        );
        let run = text(&failed["run_id"]);
        assert_eq!(place.status(&run), "failed");
        assert_eq!(place.json(1, &["retry", &run])["error"]["code"], "boom");
        let told = place.call(&["retry", &run]);
        assert_eq!(told.code, 1);
        assert!(told.out.contains("It broke") && told.out.contains(" retry "), "{told:?}");
    });
}

#[test]
fn only_what_failed_can_be_retried() {
    let place = Place::file();
    let (run, _) = place.park();
    let error = place.error(5, &["retry", &run]);
    assert_eq!((text(&error["kind"]), text(&error["run_id"])), ("InvalidState".into(), run));
}

#[test]
fn a_sleep_that_has_ended_goes_on_now_and_not_in_the_past() {
    let place = Place::file();
    place.write("dflow.toml", "[hub]\nlinger = \"0s\"\n");
    let flow = place.write("flow.yaml", "flow: f\nsteps:\n  - id: nap\n    wait: 1ms\n");
    // Now and then it is over before the run could be parked.
    let parked = (0..50).map(|_| place.call(&["run", flow])).find(|told| told.code == 10);
    let told = parked.expect("one of them is parked");
    assert!(told.out.contains("continues it") && !told.out.contains(" ago"), "{told:?}");
    assert!(told.out.contains(" work"), "{told:?}");
}

#[test]
fn a_run_that_sleeps_says_until_when() {
    on_each_store(|place| {
        let parked = place.run(10, "flow: f\nsteps:\n  - id: nap\n    wait: 2h\n");
        assert_eq!(parked["waits"], json!([]));
        assert!(parked["resumes_at"].is_string());
    });
}

#[test]
fn the_input_comes_from_the_line_a_file_or_standard_input() {
    let place = Place::file();
    let flow =
        place.write("flow.yaml", "flow: f\nsteps:\n  - id: s\n    set: '${ value.n + 1 }'\n");
    assert_eq!(place.json(0, &["run", flow, "--input", r#"{"n": 1}"#])["output"], 2);
    place.write("in.json", r#"{ "n": 2 }"#);
    assert_eq!(place.json(0, &["run", flow, "--input", "@in.json"])["output"], 3);
    let called = place.call_with(&["run", flow, "--json", "--input", "-"], "{\"n\": 3}\n");
    assert_eq!(crate::support::result(&called, 0, "run")["output"], 4);
}

#[test]
fn an_input_that_begins_with_a_minus_is_no_option() {
    let place = Place::file();
    let ask = "flow: f\nsteps:\n  - id: ask\n    await_input: { prompt: Score?, schema: { type: number } }\n";
    let flow = place.write("flow.yaml", ask);
    for number in ["-5", "-1e-5", "-0.5"] {
        let expected: serde_json::Value = serde_json::from_str(number).unwrap();
        let parked = place.json(10, &["run", flow, "--input", number]);
        assert_eq!(place.json(0, &["show", &text(&parked["run_id"])])["input"], expected);
        let key = text(&parked["waits"][0]["key"]);
        assert_eq!(place.json(0, &["resume", &key, "--input", number])["output"], expected);
    }
    // Where the input was left out, the next option is not taken for it.
    let error = place.error(2, &["run", flow, "--input", "--json"]);
    assert!(text(&error["message"]).contains("--input"), "{error}");
}

#[test]
fn an_input_that_is_no_json_is_refused_without_being_quoted() {
    let place = Place::file();
    let flow = place.write("flow.yaml", "flow: f\nsteps:\n  - id: s\n    succeed: 1\n");
    let error = place.error(4, &["run", flow, "--input", "{\"pin\": hunter2}"]);
    assert_eq!(error["kind"], "InputValidationError");
    assert_eq!(error["context"]["at"], "1:9");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let empty = place.error(4, &["run", flow, "--input", " "]);
    assert!(text(&empty["message"]).contains("empty"), "{empty}");
    let two = place.error(2, &["run", flow, "--metadata", "a=1", "--meta", "a=2"]);
    assert!(text(&two["message"]).contains("--metadata gives a two values"), "{two}");
    let missing = place.error(2, &["run", flow, "--input", "@missing.json"]);
    assert_eq!(missing["kind"], "InvalidArgument");
    assert_eq!(missing["context"]["path"], "missing.json");
}

#[test]
fn an_input_that_does_not_fit_is_refused_with_every_violation() {
    let place = Place::file();
    let flow = examples().join("purchase-approval.yaml");
    let flow = flow.to_str().unwrap();
    let input = r#"{"id": "x", "supplier": "", "item": "i", "quantity": 0, "price": 1}"#;
    let error = place.error(4, &["run", flow, "--input", input]);
    assert_eq!(error["kind"], "InputValidationError");
    let pointers: Vec<_> =
        error["violations"].as_array().unwrap().iter().map(|it| text(&it["pointer"])).collect();
    assert_eq!(pointers, ["/id", "/supplier", "/quantity"]);
    // No terminal to ask in.
    let nothing = place.error(4, &["run", flow]);
    assert_eq!(nothing["kind"], "InputValidationError");
    assert!(text(&nothing["message"]).contains("--input"), "{nothing}");
    let told = place.call(&["run", flow, "--input", input]);
    assert_eq!((told.code, told.out.as_str()), (4, ""));
    assert!(told.err.contains("/quantity: must be at least 1"), "{told:?}");
}

#[test]
fn an_input_that_is_too_large_is_invalid() {
    let place = Place::file();
    place.write("dflow.toml", "[hub]\nmax_input_size = 10\n");
    let flow = place.write("flow.yaml", "flow: f\nsteps:\n  - id: s\n    succeed: 1\n");
    let error = place.error(4, &["run", flow, "--input", "\"0123456789\""]);
    assert_eq!(error["kind"], "LimitExceeded");
    assert_eq!(error["context"]["limit"], "10");
    place.write("dflow.toml", "");
    let deep = format!("{}1{}", "[".repeat(70), "]".repeat(70));
    assert_eq!(place.error(4, &["run", flow, "--input", &deep])["kind"], "LimitExceeded");
    // Also where the reader itself reads no further.
    let deeper = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let error = place.error(4, &["run", flow, "--input", &deeper]);
    assert_eq!(
        (&error["kind"], &error["context"]["levels"]),
        (&json!("LimitExceeded"), &json!("64"))
    );
    assert!(text(&error["message"]).contains("deeper than 64 levels"), "{error}");
    let large = place.error(4, &["run", flow, "--input", "[1, 18446744073709551616]"]);
    assert_eq!(large["context"]["at"], "1:5");
    assert!(text(&large["message"]).contains("kept exactly"), "{large}");
}

#[test]
fn state_that_is_too_large_is_refused_with_both_sizes() {
    on_each_store(|place| {
        place.write("dflow.toml", "[hub]\nmax_state_size = 2000\n");
        let flow = place.write(
            "flow.yaml",
            "flow: f\nsteps:\n  - id: ask\n    await_input: { preset: confirmation, prompt: Sure? }\n",
        );
        let input = format!("\"{}\"", "x".repeat(3000));
        let error = place.error(5, &["run", flow, "--input", &input]);
        assert_eq!(error["kind"], "StateTooLarge");
        assert_eq!(error["context"]["limit"], "2000");
        assert!(text(&error["context"]["size"]).parse::<usize>().unwrap() > 3000);
        assert_eq!(place.json(0, &["list"])["items"], json!([]));
    });
}

#[test]
fn a_malformed_document_is_told_with_lines_and_columns() {
    let place = Place::file();
    let flow = place.write(
        "flow.yaml",
        "flow: f\nsteps:\n  - id: a\n    set: '${ value. }'\n  - id: a\n    get: nothing\n",
    );
    let error = place.error(2, &["run", flow]);
    assert_eq!(error["kind"], "InvalidFlow");
    let findings = error["findings"].as_array().unwrap();
    assert!(findings.len() >= 2, "{findings:?}");
    assert!(findings.iter().all(|it| it["line"].is_u64() && it["column"].is_u64()), "{findings:?}");
    let told = place.call(&["run", flow]);
    assert_eq!(told.code, 2);
    assert!(told.err.contains("flow.yaml:4:"), "{told:?}");
    assert_eq!(place.error(2, &["run", "missing.yaml"])["context"]["path"], "missing.yaml");
}

#[test]
fn an_expression_that_would_run_away_is_stopped() {
    let place = Place::file();
    let list = vec!["1"; 40].join(",");
    let document = format!(
        "flow: f\nsteps:\n  - id: s\n    set: '${{ [{list}].all(a, [{list}].all(b, [{list}].all(c, \
         [{list}].all(d, true)))) }}'\n"
    );
    let error = place.error(2, &["run", place.write("flow.yaml", &document)]);
    assert_eq!(error["kind"], "InvalidFlow");
    assert!(error["findings"][0].to_string().contains("loops"), "{error}");
}

#[test]
fn plaintext_is_told_once_for_each_store() {
    on_each_store(|place| {
        let flow = place.write("flow.yaml", "flow: f\nsteps:\n  - id: s\n    wait: 2h\n");
        let first = place.call(&["run", flow]);
        let unsealed =
            "stored unsealed: whoever can read or write the store can read or change them";
        assert!(first.err.contains(unsealed), "{first:?}");
        let second = place.call(&["run", flow]);
        assert_eq!(second.err, "");
        let doctor = place.call(&["doctor"]);
        assert!(doctor.out.contains(unsealed), "{doctor:?}");
    });
    let mut sealed = Place::file();
    let key = text(&sealed.json(0, &["keygen"])["key"]);
    sealed.set("FLOW_ENCRYPTION_KEY", key);
    let flow = sealed.write("flow.yaml", "flow: f\nsteps:\n  - id: s\n    wait: 2h\n");
    assert_eq!(sealed.call(&["run", flow]).err, "");
    // Whoever forgets the key must not find out later that nothing was sealed.
    sealed.unset("FLOW_ENCRYPTION_KEY");
    let forgotten = sealed.call(&["run", flow]);
    assert!(forgotten.err.contains("FLOW_ENCRYPTION_KEY is not set"), "{forgotten:?}");
    assert_eq!(sealed.call(&["run", flow]).err, "");
}

#[test]
fn metadata_is_typed_and_found_again() {
    on_each_store(|place| {
        let (run, _) = place.park_with(&["--metadata", "urgent=true", "--metadata", "level=1.5"]);
        place.park();
        let found = |filter: &str| place.json(0, &["list", "--meta", filter])["items"].clone();
        for filter in ["urgent=true", "level=1.5"] {
            let found = found(filter);
            assert_eq!(found.as_array().unwrap().len(), 1, "{filter}");
            assert_eq!(found[0]["run_id"], json!(run));
        }
        for filter in ["urgent=\"true\"", "level=1", "level=\"1.5\""] {
            assert_eq!(found(filter), json!([]), "{filter}");
        }
        assert_eq!(place.call(&["run", "x.yaml", "--metadata", "urgent"]).code, 2);
        // An id is found by what was typed, and by nothing that is only near it.
        for (id, other) in [("123456789012345678901", "123456789012345678902"), ("01234", "1234")] {
            let (run, _) = place.park_with(&["--metadata", &format!("id={id}")]);
            let found = found(&format!("id={id}"));
            assert_eq!(
                (&found[0]["run_id"], &found[0]["metadata"]["id"]),
                (&json!(run), &json!(id))
            );
            let others = place.json(0, &["list", "--meta", &format!("id={other}")]);
            assert_eq!(others["items"], json!([]), "{other}");
        }
    });
}

#[test]
fn a_run_in_memory_is_not_said_to_go_on() {
    let place = Place::new("memory:");
    let flow = examples().join("purchase-approval.yaml");
    let order = format!("@{}", examples().join("order.json").display());
    let told = place.call(&["run", flow.to_str().unwrap(), "--input", &order]);
    assert_eq!(told.code, 10, "{told:?}");
    assert!(told.out.contains("gone") && !told.out.contains(" resume "), "{told:?}");
    assert_eq!(told.err, "", "how it was sealed is of no interest");
    let told = place.call(&["run", flow.to_str().unwrap(), "--input", &order, "--json"]);
    result(&told, 10, "run");
    assert_eq!(told.err.lines().count(), 1, "{told:?}");
    assert!(told.err.contains("Volatile") && told.err.contains("--store"), "{told:?}");
}

#[test]
fn a_document_is_reviewed_by_another_process() {
    on_each_store(|place| {
        let flow = examples().join("document-review.yaml");
        let document = format!("@{}", examples().join("document.json").display());
        let parked = place.json(10, &["run", flow.to_str().unwrap(), "--input", &document]);
        let wait = &parked["waits"][0];
        assert!(text(&wait["prompt"]).starts_with("Review \"Invoice 88-1203"), "{wait}");
        let answer = json!({ "approved": true, "comments": "Looks good", "approved_by": "jane" });
        let key = text(&wait["key"]);
        let done = place.json(0, &["resume", &key, "--input", &answer.to_string()]);
        assert_eq!(done["output"]["reviewed_by"], "jane");
        assert_eq!(place.error(3, &["resume", &key, "--input", YES])["kind"], "AlreadyResumed");
    });
}

#[test]
fn what_people_see_is_in_the_order_of_its_author() {
    let place = Place::file();
    let parked = place.run(
        10,
        "flow: f\nsteps:\n  - id: ask\n    await_input:\n      preset: form\n      \
         show: { total: '${ 1 + 1 }', item: x }\n      \
         fields: { surname: { type: string }, name: { type: string } }\n      optional: [surname]\n",
    );
    let seen = place.json(0, &["show", &text(&parked["run_id"])]);
    for wait in [&parked["waits"][0], &seen["waits"][0]] {
        assert_eq!(wait["shown"].to_string(), r#"{"total":2,"item":"x"}"#);
        let fields = wait["schema"]["properties"].as_object().unwrap();
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["surname", "name"]);
    }
}

#[test]
fn the_fields_that_scripts_read_are_there() {
    let place = Place::file();
    let names = |value: &Value| -> Vec<String> {
        let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.sort_unstable();
        names
    };
    let flow = examples().join("purchase-approval.yaml");
    let order = format!("@{}", examples().join("order.json").display());
    let parked = place.json(10, &["run", flow.to_str().unwrap(), "--input", &order]);
    assert_eq!(names(&parked), ["flow_id", "run_id", "status", "suspended_at", "waits"]);
    assert_eq!(
        names(&parked["waits"][0]),
        ["expires_at", "id", "key", "metadata", "prompt", "schema", "shown", "tool_id"]
    );
    let key = text(&parked["waits"][0]["key"]);
    let rejected = place.json(11, &["resume", &key, "--input", NO]);
    assert_eq!(names(&rejected), ["run_id", "status", "step"]);
    let (_, key) = place.park();
    let completed = place.json(0, &["resume", &key, "--input", YES]);
    assert_eq!(names(&completed), ["output", "run_id", "status"]);
    let failed = place.run(1, "flow: f\nsteps:\n  - id: s\n    fail: { code: c, message: m }\n");
    assert_eq!(names(&failed), ["error", "run_id", "status"]);
    assert_eq!(names(&failed["error"]), ["code", "kind", "message", "step"]);
}
