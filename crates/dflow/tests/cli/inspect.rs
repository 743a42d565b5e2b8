//! `list`, `show` and `doctor`.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{NO, Place, YES, examples, find, on_each_store, text};

fn ids(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| text(&item["run_id"])).collect()
}

#[test]
fn runs_are_listed_newest_first_and_page_by_page() {
    on_each_store(|place| {
        let mut runs: Vec<String> = (0..3).map(|_| place.park().0).collect();
        runs.reverse();
        assert_eq!(ids(&place.json(0, &["list"])), runs);
        let first = place.json(0, &["list", "--limit", "2"]);
        assert_eq!(ids(&first), runs[..2]);
        let cursor = text(&first["next_cursor"]);
        let second = place.json(0, &["list", "--limit", "2", "--cursor", &cursor]);
        assert_eq!(ids(&second), runs[2..]);
        assert_eq!(second["next_cursor"], Value::Null);
        let told = place.call(&["list", "--limit", "2"]);
        assert!(told.err.contains(&format!("--cursor {cursor}")), "{told:?}");
        assert_eq!(told.out.lines().count(), 3);
    });
}

#[test]
fn every_filter_narrows_the_list() {
    on_each_store(|place| {
        let (waiting, _) = place.park();
        let (done, key) = place.park();
        place.json(0, &["resume", &key, "--input", YES]);
        let asleep = text(&place.run(10, "flow: nap\nsteps:\n  - id: s\n    wait: 2h\n")["run_id"]);
        let cases: [(&[&str], &[&str]); 15] = [
            (&["--status", "completed"], &[&done]),
            (&["--status", "completed,waiting"], &[&asleep, &done, &waiting]),
            (&["--status", "failed"], &[]),
            (&["--flow", "nap"], &[&asleep]),
            (&["--tool", "manager-approval"], &[&waiting]),
            (&["--tool", "nobody"], &[]),
            // What the wait says of itself goes with it.
            (&["--metadata", "department=radiology"], &[&waiting]),
            (&["--meta", "department=surgery"], &[]),
            (&["--created-after", "1h"], &[&asleep, &done, &waiting]),
            (&["--created-before", "1h"], &[]),
            (&["--created-after", "2999-01-01T00:00:00Z"], &[]),
            (&["--expires-before", "5h"], &[&waiting]),
            (&["--expires-before", "3h"], &[]),
            (&["--expires-after", "3h"], &[&waiting]),
            (&["--flow", "purchase-approval", "--status", "waiting"], &[&waiting]),
        ];
        for (filter, expected) in cases {
            let list = place.json(0, &[&["list"], filter].concat());
            assert_eq!(ids(&list), expected, "{filter:?}");
        }
    });
}

#[test]
fn what_is_no_filter_is_a_usage_error() {
    let place = Place::file();
    for args in [
        &["list", "--status", "sleeping"][..],
        &["list", "--created-after", "soon"],
        &["list", "--meta", "department"],
        // No run has both.
        &["list", "--meta", "a=1", "--metadata", "a=2"],
        &["cleanup", "--meta", "a=1", "--meta", "a=\"1\"", "--dry-run"],
        &["list", "--limit", "0"],
        &["list", "--cursor", "nonsense"],
        &["show", "nonsense"],
    ] {
        let error = place.error(2, args);
        assert_eq!(error["kind"], "InvalidArgument", "{args:?}");
        // The kind is said once.
        assert!(!text(&error["message"]).contains("InvalidArgument"), "{error}");
    }
}

#[test]
fn a_list_tells_when_a_sleeper_wakes() {
    on_each_store(|place| {
        let (asked, _) = place.park();
        let parked = place.run(10, "flow: nap\nsteps:\n  - id: s\n    wait: 30h\n");
        let asleep = text(&parked["run_id"]);
        let list = place.json(0, &["list"]);
        let items = list["items"].as_array().unwrap();
        let of = |run: &str| items.iter().find(|item| item["run_id"] == run).unwrap();
        assert_eq!(of(&asleep)["resumes_at"], parked["resumes_at"], "{list}");
        assert_eq!(of(&asleep)["due_at"], parked["resumes_at"], "{list}");
        assert!(of(&asked).get("resumes_at").is_none(), "it waits for somebody: {list}");
        let told = place.call(&["list"]);
        let row = |run: &str| told.out.lines().find(|line| line.starts_with(run)).unwrap();
        assert!(
            row(&asleep).contains("  a timer ") && row(&asleep).contains("  in 30 h "),
            "{told:?}"
        );
        assert!(!row(&asked).contains("a timer"), "{told:?}");
        // What is due of an ended run is its removal.
        place.json(0, &["cancel", &asleep]);
        let list = place.json(0, &["list", "--flow", "nap"]);
        assert!(list["items"][0].get("resumes_at").is_none(), "{list}");
        let told = place.call(&["list", "--flow", "nap"]);
        assert!(!told.out.contains("a timer") && !told.out.contains("  in "), "{told:?}");
    });
}

#[test]
fn an_empty_list_is_empty() {
    let place = Place::file();
    place.make();
    assert_eq!(place.json(0, &["list"]), json!({ "items": [], "next_cursor": null }));
    let told = place.call(&["list"]);
    assert_eq!((told.out.as_str(), told.err.as_str()), ("", "No runs.\n"));
}

#[test]
fn a_number_that_is_spelled_otherwise_is_no_riddle() {
    let place = Place::file();
    place.park_with(&["--metadata", "amount=6301.0"]);
    let told = place.call(&["list", "--meta", "amount=6301", "--meta", "team=7 of 9"]);
    assert!(told.err.contains("No runs."), "{told:?}");
    assert!(told.err.contains("--metadata amount=6301.0 does"), "{told:?}");
    assert!(!told.err.contains("team"), "{told:?}");
    assert_eq!(ids(&place.json(0, &["list", "--meta", "amount=6301.0"])).len(), 1);
    let told = place.call(&["list", "--meta", "amount=6302.0"]);
    assert!(told.err.contains("--metadata amount=6302 does"), "{told:?}");
}

#[test]
fn a_run_that_has_failed_asks_nothing() {
    on_each_store(|place| {
        place.write("dflow.toml", "[hub]\nmax_state_size = 6000\n");
        let parked = place.run(
            10,
            "flow: f\nsteps:\n  - id: ask\n    await_input: { preset: text, prompt: Name?, \
             timeout: 1h }\n",
        );
        let (run, key) = (text(&parked["run_id"]), text(&parked["waits"][0]["key"]));
        assert_eq!(ids(&place.json(0, &["list", "--tool", "ask"])), [run.as_str()]);
        let input = json!({ "text": "x".repeat(5400) }).to_string();
        place.error(5, &["resume", &key, "--input", &input]);
        let all = place.json(0, &["list"]);
        assert_eq!(all["items"][0]["status"], "failed");
        assert_eq!(all["items"][0]["waits"], json!([]), "{all}");
        let told = place.call(&["list"]);
        assert!(told.out.contains(&run) && !told.out.contains(" ask "), "{told:?}");
        assert!(!told.out.contains("in 59 min") && !told.out.contains("in 60 min"), "{told:?}");
        for filter in
            [&["--tool", "ask"][..], &["--expires-before", "2h"], &["--expires-after", "1m"]]
        {
            assert_eq!(ids(&place.json(0, &[&["list"], filter].concat())), [""; 0], "{filter:?}");
        }
    });
}

#[test]
fn an_open_wait_is_shown_with_what_makes_a_key_for_it() {
    let place = Place::file();
    let (run, key) = place.park();
    let told = place.call(&["show", &run]);
    let line = told.out.lines().find(|line| line.contains(" reissue ")).unwrap();
    assert!(line.contains("new key") && line.contains(&run), "{told:?}");
    place.json(0, &["resume", &key, "--input", YES]);
    assert!(!place.call(&["show", &run]).out.contains("reissue"));
}

#[test]
fn whoever_has_seen_enough_of_a_list_does_no_harm() {
    let place = Place::file();
    place.park();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("dflow"))
        .args(["list", "--json"])
        .current_dir(place.folder.path())
        .envs(&place.environment)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_parked_run_is_shown_with_its_place_and_question() {
    on_each_store(|place| {
        let (run, key) = place.park();
        let shown = place.json(0, &["show", &run]);
        assert_eq!(shown["status"], "waiting");
        assert_eq!(shown["positions"], json!(["manager-approval"]));
        assert_eq!(shown["waits"][0]["shown"]["id"], "PO-2048");
        assert!(shown["waits"][0].get("key").is_none(), "nobody has the key any more");
        assert!(text(&shown["diagram"]).starts_with("flowchart"));
        assert!(!shown.to_string().contains(&key));
        let told = place.call(&["show", &run]);
        let marked: Vec<&str> =
            told.out.lines().filter(|line| line.contains("waits here")).collect();
        assert_eq!(marked.len(), 1);
        assert!(marked[0].contains("manager-approval"), "{told:?}");
        let dot = place.call(&["show", &run, "--format", "dot"]);
        assert!(dot.out.starts_with("digraph"), "{dot:?}");
    });
}

#[test]
fn an_answer_that_nobody_has_worked_in_is_shown_as_accepted() {
    on_each_store(|place| {
        let (run, key) = place.park();
        assert_eq!(place.json(0, &["show", &run])["accepted"], json!([]));
        place.json(0, &["answer", &key, "--input", YES, "--by", "jane"]);
        let shown = place.json(0, &["show", &run]);
        assert_eq!((&shown["status"], &shown["waits"]), (&json!("ready"), &json!([])));
        assert_eq!(shown["accepted"][0]["closed"], "answered");
        assert_eq!(shown["accepted"][0]["by"], "jane");
        let told = place.call(&["show", &run]);
        assert!(!told.out.contains("open wait"), "{told:?}");
        assert!(told.out.contains("accepted, and not worked in yet"), "{told:?}");
        assert!(told.out.contains("answered by jane"), "{told:?}");
        assert!(told.out.contains(" work --once"), "{told:?}");
        let error = place.error(5, &["reissue", &run]);
        assert!(text(&error["message"]).contains("ready"), "{error}");
        place.json(0, &["work", "--once"]);
        assert_eq!(place.json(0, &["show", &run])["accepted"], json!([]));
    });
}

#[test]
fn a_run_that_has_ended_is_not_drawn_as_waiting() {
    let place = Place::file();
    let (refused, key) = place.park();
    place.json(11, &["resume", &key, "--input", NO]);
    let (cancelled, _) = place.park();
    place.json(0, &["cancel", &cancelled]);
    let failed = "flow: f\nsteps: [{ id: s, fail: { code: c, message: m } }]\n";
    let failed = text(&place.run(1, failed)["run_id"]);
    let cases = [(refused, "said no"), (cancelled, "cancelled here"), (failed, "failed here")];
    for (run, words) in cases {
        for format in ["tree", "mermaid", "dot"] {
            let drawn = place.call(&["show", &run, "--format", format]).out;
            assert!(drawn.contains(words), "{format}: {drawn}");
            assert!(!drawn.contains("waits here"), "{format}: {drawn}");
        }
    }
}

#[test]
fn an_ended_run_is_shown_with_receipts_and_output() {
    on_each_store(|place| {
        let (run, key) = place.park();
        place.json(0, &["resume", &key, "--input", YES, "--by", "jane"]);
        let shown = place.json(0, &["show", &run]);
        assert_eq!(shown["output"]["approved_by"], "Jane");
        assert_eq!(shown["receipts"][0]["by"], "jane");
        assert_eq!(shown["waits"], json!([]));
        let told = place.call(&["show", &run]);
        assert!(told.out.contains("answered by jane"), "{told:?}");
    });
}

#[test]
fn who_waits_for_the_end_of_a_run_is_shown_it_and_exits_as_run_does() {
    on_each_store(|place| {
        for (answer, code, status) in [(YES, 0, "completed"), (NO, 11, "rejected")] {
            let (run, key) = place.park();
            let shown = std::thread::scope(|scope| {
                let waiting = scope.spawn(|| place.json(code, &["show", &run, "--wait"]));
                place.json(code, &["resume", &key, "--input", answer]);
                waiting.join().unwrap()
            });
            assert_eq!(shown["status"], status);
            assert_eq!(place.json(code, &["show", &run, "--wait"]), shown);
            assert_eq!(place.status(&run), status, "without --wait it exits with 0");
        }
        let (run, _) = place.park();
        place.json(0, &["cancel", &run]);
        let told = place.call(&["show", &run, "--wait"]);
        assert!(told.code == 1 && told.out.contains("cancelled"), "{told:?}");
    });
    let gone = Place::file();
    gone.make();
    let error = gone.error(5, &["show", "019a2076-4400-7000-8000-000000000000", "--wait"]);
    assert_eq!(error["kind"], "RunNotFound");
}

#[test]
fn a_run_that_is_not_there_is_told() {
    on_each_store(|place| {
        place.make();
        let error = place.error(5, &["show", "01900000-0000-7000-8000-000000000000"]);
        assert_eq!(error["kind"], "RunNotFound");
    });
}

#[test]
fn the_doctor_tells_of_a_damaged_run_and_of_everything_else() {
    let place = Place::file();
    let (run, _) = place.park();
    std::fs::write(find(place.folder.path(), &run), "damaged").unwrap();
    let report = place.json(5, &["doctor"]);
    assert_eq!((&report["healthy"], &report["backend"]), (&json!(false), &json!("file")));
    assert_eq!(report["unreadable"][0]["run_id"], json!(run));
    let (path, reason) = (&report["unreadable"][0]["place"], &report["unreadable"][0]["reason"]);
    assert!(text(path).ends_with(&format!("{run}.json")), "{report}");
    assert!(text(reason).contains("restore it from a backup"), "{report}");
    let told = place.call(&["doctor"]);
    assert!(told.out.contains("1 run can't be read") && told.out.contains("unsealed"), "{told:?}");
    assert!(told.out.contains(&text(path)) && told.out.contains(&text(reason)), "{told:?}");
    assert!(!told.out.contains("There are no runs"), "{told:?}");
}

#[test]
fn a_damaged_run_takes_no_tool_away() {
    let mut place = Place::file();
    place.set("FLOW_ENCRYPTION_KEY", text(&place.json(0, &["keygen"])["key"]));
    let runs: Vec<String> = (0..3).map(|_| place.park().0).collect();
    let damaged = &runs[1];
    std::fs::write(find(place.folder.path(), damaged), "{").unwrap();

    let list = place.json(0, &["list"]);
    assert_eq!(ids(&list), [runs[2].as_str(), &runs[0]]);
    assert_eq!(list["unreadable"][0]["run_id"], json!(damaged));
    let second = place.json(0, &["list", "--limit", "1", "--cursor", &runs[2]]);
    assert_eq!(
        (ids(&second), second["unreadable"][0]["run_id"].as_str()),
        (vec![], Some(&**damaged))
    );
    assert_eq!(second["next_cursor"], json!(damaged), "it takes a place on its page");
    let told = place.call(&["list"]);
    assert_eq!((told.code, told.out.lines().count()), (0, 4), "{told:?}");
    let last = told.out.lines().last().unwrap();
    assert!(last.starts_with("unreadable") && last.contains(damaged), "{told:?}");
    assert!(told.err.contains("1 run can't be read"), "{told:?}");

    let flow = examples().join("purchase-approval.yaml");
    let flow = flow.to_str().unwrap();
    let checked = place.json(5, &["check", flow]);
    assert_eq!((&checked["runs"], &checked["same"]), (&json!(3), &json!(2)));
    assert_eq!(checked["unopened"][0]["run_id"], json!(damaged));
    assert!(checked["unopened"][0]["reasons"].to_string().contains(".json"), "{checked}");
    let upgraded = place.json(5, &["upgrade", flow, "--all"]);
    assert_eq!(upgraded["unchanged"].as_array().unwrap().len(), 2);
    assert_eq!(upgraded["refused"][0]["run_id"], json!(damaged));

    let rotated = place.json(5, &["rotate-keys"]);
    assert_eq!((&rotated["runs"], &rotated["failed"]), (&json!(3), &json!(0)));
    assert_eq!(rotated["unreadable"][0]["run_id"], json!(damaged));
    assert!(place.call(&["rotate-keys"]).out.contains(damaged));

    let cleaned = place.json(5, &["cleanup", "--all", "--yes"]);
    assert_eq!(cleaned["deleted_count"], 2);
    assert_eq!(cleaned["errors"][0]["run_id"], json!(damaged));
    let left = place.json(0, &["list"]);
    assert_eq!((ids(&left), left["unreadable"].as_array().unwrap().len()), (vec![], 1));
    let told = place.call(&["list"]);
    assert!(!told.err.contains("No runs"), "{told:?}");
    // Whoever moves it away, as is said, is rid of it.
    std::fs::remove_file(find(place.folder.path(), damaged)).unwrap();
    assert_eq!(place.json(0, &["list"]), json!({ "items": [], "next_cursor": null }));
}

#[test]
fn the_doctor_says_how_the_store_is() {
    on_each_store(|place| {
        let (run, _) = place.park();
        let report = place.json(0, &["doctor"]);
        assert_eq!(report["healthy"], true);
        assert_eq!(report["encrypted"], false);
        assert_eq!(report["runs"], json!({ "waiting": 1 }));
        assert_eq!(report["newest"], json!({ "run_id": run, "opens": true }));
        let backends = report["backends"].as_array().unwrap();
        assert!(backends.contains(&json!("sqlite")) && backends.contains(&json!("file")));
        assert!(report["warnings"].to_string().contains("unsealed"));
    });
}

#[test]
fn the_doctor_tells_of_deadlines_that_nobody_sees_to() {
    on_each_store(|place| {
        place.run(
            10,
            "flow: f\nsteps:\n  - id: ask\n    await_input: { preset: confirmation, prompt: Sure?, \
             timeout: 1ms }\n",
        );
        let report = place.json(0, &["doctor"]);
        assert_eq!(report["overdue"], 1);
        assert!(report["warnings"].to_string().contains("Overdue: 1 run,"), "{report}");
        place.json(0, &["work", "--once"]);
        assert_eq!(place.json(0, &["doctor"])["overdue"], 0);
    });
}
