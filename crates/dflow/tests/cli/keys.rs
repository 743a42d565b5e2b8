//! Encryption: `keygen`, `rotate-keys`, and stores with the wrong key or none.

use dynamic_flow::{
    Schema,
    hub::{StateClaim, SuspensionRequest},
};
use serde_json::{Value, json};

use crate::support::{Place, YES, on_each_store, result, text};

fn key() -> String {
    text(&Place::file().json(0, &["keygen"])["key"])
}

#[test]
fn a_generated_key_is_printed_alone() {
    let told = Place::file().call(&["keygen"]);
    assert_eq!(told.out.trim().len(), 44, "{told:?}");
    assert_eq!(told.err, "");
    assert_ne!(told.out, Place::file().call(&["keygen"]).out);
}

#[test]
fn a_key_that_is_not_32_bytes_is_refused() {
    let mut place = Place::file();
    for wrong in ["", "hunter2", "aHVudGVyMg==", &"ab".repeat(31)] {
        place.set("FLOW_ENCRYPTION_KEY", wrong);
        for args in [&["list"][..], &["doctor"], &["rotate-keys"]] {
            let error = place.error(2, args);
            assert_eq!(error["kind"], "InvalidConfig", "{wrong}");
            assert!(text(&error["message"]).contains("32 bytes"), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}

#[test]
fn a_store_can_be_made_to_need_a_key() {
    let mut place = Place::file();
    place.write("dflow.toml", "[keys]\nrequired = true\n");
    assert_eq!(place.error(2, &["list"])["kind"], "InvalidConfig");
    place.write("key", &key());
    place.write("dflow.toml", "[keys]\nrequired = true\nfile = \"key\"\n");
    place.make();
    assert_eq!(place.json(0, &["doctor"])["encrypted"], true);
    place.set("FLOW_ENCRYPTION_KEY", "short");
    assert_eq!(place.error(2, &["list"])["kind"], "InvalidConfig");
}

#[test]
fn what_is_sealed_opens_with_its_key_alone() {
    for store in ["file:flows", "sqlite:flows.db"] {
        let mut place = Place::new(store);
        let right = key();
        place.set("FLOW_ENCRYPTION_KEY", &right);
        let (run, suspension) = place.park();
        let resume = ["resume", &suspension, "--input", YES];

        place.unset("FLOW_ENCRYPTION_KEY");
        let error = place.error(5, &resume);
        assert_eq!((&error["kind"], &error["run_id"]), (&json!("EncryptionError"), &json!(run)));
        let report = place.json(5, &["doctor"]);
        assert_eq!(
            (&report["healthy"], &report["newest"]["opens"]),
            (&json!(false), &json!(false))
        );

        assert_eq!(report["unopened"][0]["run_id"], json!(run));
        let warnings = report["warnings"].to_string();
        assert!(
            warnings.contains("No key is set") && !warnings.contains("Runs are stored unsealed")
        );

        place.set("FLOW_ENCRYPTION_KEY", key());
        // Newer runs open, this one does not; and that is told as they come in.
        let flow = place.write("flow.yaml", "flow: f\nsteps:\n  - id: s\n    wait: 2h\n");
        let called = place.call(&["run", flow, "--json"]);
        let newer = text(&result(&called, 10, "run")["run_id"]);
        assert!(called.err.contains("OtherKey") && called.err.contains("NEW,OLD"), "{called:?}");
        assert_eq!(place.call(&["run", flow, "--store", "memory:"]).err, "", "no run before it");
        let report = place.json(5, &["doctor"]);
        assert_eq!(report["newest"], json!({ "run_id": newer, "opens": true }));
        assert_eq!((&report["tried"], &report["healthy"]), (&json!(2), &json!(false)));
        assert_eq!(report["unopened"][0]["run_id"], json!(run));
        assert!(place.call(&["doctor"]).out.contains("Of 2 runs tried, 1 did not open"));
        let error = place.error(5, &resume);
        assert_eq!((&error["kind"], &error["run_id"]), (&json!("EncryptionError"), &json!(run)));
        assert_eq!(place.error(5, &["show", &run])["kind"], "EncryptionError");

        place.set("FLOW_ENCRYPTION_KEY", right);
        place.json(0, &resume);
    }
}

#[test]
fn a_hub_with_a_key_takes_no_plaintext() {
    for store in ["file:flows", "sqlite:flows.db"] {
        let mut place = Place::new(store);
        let (run, suspension) = place.park();
        place.set("FLOW_ENCRYPTION_KEY", key());
        let error = place.error(5, &["resume", &suspension, "--input", YES]);
        assert_eq!((&error["kind"], &error["run_id"]), (&json!("EncryptionError"), &json!(run)));
        let rotated = place.json(5, &["rotate-keys"]);
        assert_eq!((&rotated["runs"], &rotated["failed"]), (&json!(1), &json!(1)));
        let told = place.call(&["rotate-keys"]);
        assert!(told.out.contains("stored without one"), "{told:?}");
        assert_eq!(rotated["failed_runs"][0]["run_id"], json!(run));
        let why = text(&rotated["failed_runs"][0]["reasons"][0]);
        assert!(why.contains("EncryptionError") && told.out.contains(&why), "{why}: {told:?}");
        place.unset("FLOW_ENCRYPTION_KEY");
        assert_eq!(place.status(&run), "waiting");
    }
}

#[test]
fn rotated_runs_open_with_the_new_key_alone() {
    for store in ["file:flows", "sqlite:flows.db"] {
        let mut place = Place::new(store);
        let (old, new) = (key(), key());
        place.set("FLOW_ENCRYPTION_KEY", &old);
        let (_, first) = place.park();
        place.park();
        place.park();

        place.set("FLOW_ENCRYPTION_KEY", format!("{new},{old}"));
        let flow = place.write("flow.yaml", "flow: f\nsteps:\n  - id: s\n    set: 1\n");
        assert_eq!(place.call(&["run", flow]).err, "", "all open");
        place.json(0, &["cleanup", "--status", "completed"]);
        let rotated = place.json(0, &["rotate-keys", "--page", "2"]);
        assert_eq!(
            rotated,
            json!({ "runs": 3, "resealed": 3, "busy": 0, "failed": 0, "next_cursor": null })
        );
        let again = place.json(0, &["rotate-keys"]);
        assert_eq!((&again["runs"], &again["resealed"]), (&json!(3), &json!(0)));
        let cursor = text(&place.json(0, &["list"])["items"][1]["run_id"]);
        let rest = place.json(0, &["rotate-keys", "--cursor", &cursor]);
        assert_eq!(rest["runs"], 1, "it goes on after the cursor");

        place.set("FLOW_ENCRYPTION_KEY", new);
        place.json(0, &["resume", &first, "--input", YES]);
    }
}

#[test]
fn while_a_run_is_driven_the_old_key_is_not_done_with() {
    let mut place = Place::file();
    place.make();
    place.set("FLOW_ENCRYPTION_KEY", key());
    place.in_rust(async |hub| {
        let request = SuspensionRequest::new("ask", Schema::any());
        let parked = hub.suspend(&1, request).await.unwrap();
        let held: StateClaim<Value> = hub.resume_state(&parked.key, json!(2)).await.unwrap();
        let rotated = place.json(5, &["rotate-keys"]);
        assert_eq!((&rotated["busy"], &rotated["failed"]), (&json!(1), &json!(0)));
        held.complete().await.unwrap();
    });
}

#[test]
fn there_is_nothing_to_rotate_to_without_a_key() {
    on_each_store(|place| {
        let error = place.error(2, &["rotate-keys"]);
        assert!(text(&error["message"]).contains("FLOW_ENCRYPTION_KEY"), "{error}");
    });
}

#[cfg(unix)]
#[test]
fn a_file_with_keys_that_others_may_read_is_told() {
    use std::{fs, os::unix::fs::PermissionsExt as _};
    let place = Place::file();
    place.write("dflow.toml", "[keys]\nfile = \"key\"\n");
    let path = place.folder.path().join(place.write("key", &key()));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    place.make();
    let told = |mode| {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        place.call(&["list"]).err.contains("other users of this machine may read the keys in key")
    };
    assert!(told(0o644));
    assert!(!told(0o600));
    assert!(!told(0o640), "a group may be there for it");
}

#[test]
fn a_file_of_keys_is_a_regular_one_and_small() {
    let place = Place::file();
    place.write("dflow.toml", "[keys]\nfile = \"key\"\n");
    place.write("key", &" ".repeat(64 << 10));
    let told = place.error(2, &["doctor"]);
    assert!(text(&told["message"]).contains("32 bytes"), "{told}");
    place.write("key", &format!("{}{}", " ".repeat(64 << 10), key()));
    let told = place.error(2, &["doctor"]);
    assert_eq!((&told["kind"], &told["context"]["path"]), (&json!("InvalidConfig"), &json!("key")));
    assert!(text(&told["message"]).contains("larger than 64 KiB"), "{told}");
    let path = place.folder.path().join("key");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let told = place.error(2, &["doctor"]);
    assert!(text(&told["message"]).contains("no regular file"), "{told}");
}
