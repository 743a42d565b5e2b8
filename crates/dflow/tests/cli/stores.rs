//! Stores that are not there, that are named wrongly, or whose disk is full.

use serde_json::json;

use crate::support::{Place, result, text};

const FLOW: &str =
    "flow: f\nsteps:\n  - id: ask\n    await_input: { preset: confirmation, prompt: Sure? }\n";
const RUN: &str = "01900000-0000-7000-8000-000000000000";

#[test]
fn a_mistyped_store_is_told_and_not_made() {
    for store in ["file:typo/flows", "sqlite:typo/a/x.db", "file:empty"] {
        let mut place = Place::new(store);
        let flow = place.write("flow.yaml", FLOW);
        std::fs::create_dir(place.folder.path().join("empty")).unwrap();
        let key = text(&place.json(0, &["keygen"])["key"]);
        place.set("FLOW_ENCRYPTION_KEY", key);
        for args in [
            &["check", flow][..],
            &["list"],
            &["show", RUN],
            &["doctor"],
            &["cleanup", "--all", "--yes"],
            &["rotate-keys"],
            &["reissue", RUN],
            &["cancel", RUN],
            &["retry", RUN],
            &["upgrade", flow, RUN],
            &["upgrade", flow, "--all"],
        ] {
            let error = place.error(5, args);
            assert_eq!(error["kind"], "StorageError", "{args:?}");
            let message = text(&error["message"]);
            assert!(message.contains("no store there yet") && message.contains("dflow run"));
            assert!(store.ends_with(&text(&error["context"]["path"])), "{error}");
        }
        assert!(!place.folder.path().join("typo").exists(), "it was made");
        let empty = std::fs::read_dir(place.folder.path().join("empty")).unwrap().count();
        assert_eq!(empty, 0, "it was made");
        place.json(10, &["run", flow]);
        assert_eq!(place.json(0, &["check", flow])["runs"], 1);
    }
}

#[test]
fn an_answer_makes_no_store() {
    for store in ["file:typo/flows", "sqlite:typo/x.db"] {
        let parked = Place::file().park().1;
        let place = Place::new(store);
        for command in ["resume", "answer"] {
            let error = place.error(5, &[command, &parked, "--input", "1"]);
            assert!(text(&error["message"]).contains("no store there yet"), "{error}");
        }
        assert!(!place.folder.path().join("typo").exists(), "it was made");
    }
}

#[test]
fn a_worker_may_come_before_the_first_run() {
    for store in ["file:new/flows", "sqlite:new/x.db"] {
        let place = Place::new(store);
        place.json(0, &["work", "--once"]);
        assert_eq!(place.json(0, &["list"])["items"], json!([]));
    }
}

#[test]
fn a_folder_without_a_store_is_said_to_have_none() {
    let mut place = Place::file();
    place.unset("DFLOW_STORE");
    let flow = place.write("flow.yaml", FLOW);
    for args in [&["list"][..], &["check", flow]] {
        let told = place.call(args);
        assert_eq!(told.code, 0, "{told:?}");
        assert!(told.err.contains("no store in this folder yet"), "{told:?}");
        let called = place.call(&[args, &["--json"]].concat());
        result(&called, 0, args[0]);
        assert!(called.err.contains("NoStore"), "{called:?}");
    }
    assert!(place.call(&["list"]).err.contains("No runs."));
    assert_eq!(place.error(5, &["doctor"])["context"]["path"], "./.suspended-flows");
    assert!(!place.folder.path().join(".suspended-flows").exists(), "it was made");
    place.json(10, &["run", flow]);
    assert_eq!(place.call(&["check", flow]).err, "");
}

#[test]
fn parameters_become_no_part_of_a_name() {
    for store in ["sqlite:x.db?operation_timeout=5s", "file:./x?operation_timeout=5s"] {
        let place = Place::new(store);
        let flow = place.write("flow.yaml", FLOW);
        for args in [&["run", flow][..], &["list"]] {
            let error = place.error(2, args);
            assert_eq!(error["kind"], "InvalidConfig");
            assert!(text(&error["message"]).contains("takes no parameters"), "{error}");
        }
        assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 1);
    }
}

#[cfg(unix)]
#[test]
fn the_doctor_finds_a_disk_that_takes_no_record() {
    for store in ["file:flows", "sqlite:flows.db"] {
        let place = Place::new(store);
        let flow = place.write("flow.yaml", FLOW);
        place.json(10, &["run", flow]);
        let program = assert_cmd::cargo::cargo_bin!("dflow").display();
        let doctor = |code: i32, blocks: &str| {
            let told = place.shell(&format!(
                "unset FLOW_ENCRYPTION_KEY; trap '' XFSZ; ulimit -f {blocks}; {program} doctor --json"
            ));
            result(&told, code, "doctor")
        };
        let problem = "64 KiB could not be written there";
        let well = doctor(0, "unlimited");
        assert!(well["healthy"] == true && well.get("problem").is_none(), "{well}");
        // What no file may be larger than, in units of 512 bytes.
        let told = doctor(5, "96");
        assert_eq!(
            (&told["healthy"], &told["runs"]["waiting"]),
            (&json!(false), &json!(1)),
            "{told}"
        );
        assert!(text(&told["problem"]).contains(problem), "{told}");
        assert!(text(&told["problem"]).contains("make room"), "{told}");
        let files = std::fs::read_dir(place.folder.path()).unwrap();
        let names: Vec<_> = files.map(|it| it.unwrap().file_name()).collect();
        assert!(!names.iter().any(|it| it.to_string_lossy().contains("probe")), "{names:?}");
    }
}

#[test]
fn the_doctor_reports_also_where_nothing_can_be_written_or_read() {
    // A folder where a file should be stops everybody, whoever runs the tests.
    let block = |place: &Place, name: &str| {
        let path = place.folder.path().join("flows").join(name);
        std::fs::remove_file(&path).ok();
        std::fs::create_dir(&path).unwrap();
    };
    let place = Place::file();
    place.run(10, FLOW);
    let reported = |what: &str| {
        let report = place.json(5, &["doctor"]);
        assert_eq!((&report["healthy"], &report["backend"]), (&json!(false), &json!("file")));
        assert!(text(&report["problem"]).starts_with(what), "{report}");
        let told = place.call(&["doctor"]);
        assert!(told.code == 5 && told.out.contains(&format!("✗ {what}")), "{told:?}");
        report
    };
    (0..64).for_each(|shard| block(&place, &format!("locks/{shard:02x}")));
    assert_eq!(reported("Nothing can be written there")["runs"]["waiting"], 1);
    block(&place, "dynamic-flow-store.json");
    reported("The store can't be used");
}
