//! The command line itself, settings, and stores that make trouble.

use std::process;

use serde_json::json;

use crate::support::{Place, YES, error_of, find, on_each_store, text};

const COMMANDS: [&str; 19] = [
    "run",
    "resume",
    "list",
    "show",
    "answer",
    "reissue",
    "cancel",
    "retry",
    "cleanup",
    "work",
    "keygen",
    "rotate-keys",
    "check",
    "upgrade",
    "diagram",
    "tools",
    "schema",
    "doctor",
    "completions",
];

#[test]
fn every_subcommand_has_help_with_examples() {
    let place = Place::file();
    let all = place.call(&["--help"]);
    for command in COMMANDS {
        assert!(all.out.contains(&format!("\n  {command} ")), "{command}");
        let help = place.call(&[command, "--help"]);
        assert_eq!((help.code, help.err.as_str()), (0, ""));
        assert!(help.out.contains("Example") && help.out.contains("dflow "), "{command}");
    }
    assert!(all.out.contains("10 suspended"));
    // A shell keeps what is typed: no example has a key in it.
    assert!(!place.call(&["resume", "--help"]).out.contains("df_"));
    assert!(place.call(&["help", "resume"]).out.contains("dflow resume -"));
    assert!(place.call(&["upgrade"]).err.contains("--all <FLOW>"));
    let bare = place.call(&[]);
    assert!(bare.err.contains("Usage") && !bare.err.contains("……"), "{bare:?}");
}

#[test]
fn usage_errors_end_with_2_and_are_json_where_it_is_asked_for() {
    let place = Place::file();
    for args in [&["walk"][..], &[], &["run"], &["list", "--color"], &["run", "x.yaml", "--input"]]
    {
        let called = place.call(args);
        assert_eq!((called.code, called.out.as_str()), (2, ""), "{args:?}");
        let error = place.error(2, args);
        assert_eq!(error["kind"], "InvalidArgument", "{args:?}");
        let message = text(&error["message"]);
        assert!(!message.is_empty() && !message.contains("--help"), "{message}");
        assert!(!message.contains("  "), "{message}");
    }
}

#[test]
fn a_key_that_was_typed_in_the_wrong_place_is_not_quoted() {
    let place = Place::file();
    let (_, key) = place.park();
    for args in [&["resume", "df_1", &key][..], &["resume", &format!("--{key}")], &[&key]] {
        let told = place.call(args);
        assert_eq!(told.code, 2);
        assert!(told.err.contains("df_…") && !told.err.contains(&key[3..]), "{told:?}");
        assert!(!place.error(2, args).to_string().contains(&key[3..]));
    }
}

#[test]
fn a_password_that_was_typed_in_the_wrong_place_is_not_quoted() {
    let place = Place::file();
    for url in ["postgres://u:hunter2@h/d", "redis://h?password=hunter2", "neo4j://u:'#hunter2?@h"]
    {
        for args in [&[url][..], &["list", url], &["--stoer", url], &["list", "--limit", url]] {
            let told = place.call(args);
            assert_eq!(told.code, 2);
            assert!(!told.err.contains("hunter2"), "{told:?}");
            assert!(!place.error(2, args).to_string().contains("hunter2"));
        }
    }
}

#[test]
fn the_settings_may_name_the_variable_that_holds_the_url() {
    let mut place = Place::file();
    place.unset("DFLOW_STORE");
    place.write("dflow.toml", "[store]\nurl_env = \"FLOWS_URL\"\n");
    let error = place.error(2, &["list"]);
    assert!(text(&error["message"]).contains("FLOWS_URL"), "{error}");
    place.set("FLOWS_URL", "sqlite:settings.db");
    place.make();
    assert!(text(&place.json(0, &["doctor"])["location"]).ends_with("settings.db"));
}

#[test]
fn the_store_comes_from_the_line_the_environment_or_the_settings() {
    let mut place = Place::file();
    place.write("dflow.toml", "[store]\nurl = \"sqlite:settings.db\"\n");
    // None of them is there.
    let location = |place: &Place, args: &[&str]| {
        text(&place.error(5, &[&["doctor"], args].concat())["context"]["path"])
    };
    assert!(location(&place, &["--store", "file:typed"]).ends_with("typed"));
    assert!(location(&place, &[]).ends_with("flows"));
    place.set("DFLOW_STORE", "");
    assert!(location(&place, &[]).ends_with("settings.db"));
    place.write("other.toml", "");
    assert!(location(&place, &["--config", "other.toml"]).ends_with(".suspended-flows"));
}

#[test]
fn wrong_settings_are_told_with_their_place() {
    let place = Place::file();
    place.write("dflow.toml", "[hub]\nlease = \"soon\"\n");
    let error = place.error(2, &["list"]);
    assert_eq!(error["kind"], "InvalidConfig");
    assert_eq!(error["context"], json!({ "path": "dflow.toml", "at": "2:9" }));
    place.write("dflow.toml", "[hub]\nlease = \"1m\"\nconcurrency = 0\n");
    let error = place.error(2, &["work", "--once"]);
    assert_eq!(error["context"], json!({ "path": "dflow.toml", "at": "3:15" }));
    assert_eq!(place.error(2, &["list", "--config", "no.toml"])["kind"], "InvalidConfig");
}

#[test]
fn what_needs_no_settings_works_where_they_are_wrong() {
    let place = Place::file();
    place.write("dflow.toml", "[hub]\nlease = \"soon\"\n");
    let flow = place.write("flow.yaml", "flow: f\nsteps:\n  - id: s\n    set: 1\n");
    for args in [
        &["keygen"][..],
        &["schema", "output"],
        &["schema", "document"],
        &["diagram", flow],
        &["completions", "bash"],
    ] {
        let called = place.call(args);
        assert_eq!(called.code, 0, "{called:?}");
    }
    assert_eq!(place.error(2, &["run", flow])["kind"], "InvalidConfig");
}

#[test]
fn what_is_said_of_an_answer_says_something() {
    let place = Place::file();
    let (run, key) = place.park();
    for args in [
        &["resume", &key, "--input", YES, "--by", ""][..],
        &["answer", &key, "--input", YES, "--by", " "],
        &["answer", &key, "--input", YES, "--request-id", ""],
        &["cancel", &run, "--by", ""],
        &["cancel", &run, "--reason", ""],
    ] {
        let error = place.error(2, args);
        assert_eq!(error["kind"], "InvalidArgument");
        assert!(text(&error["message"]).contains("it is empty"), "{error}");
    }
    assert_eq!(place.status(&run), "waiting");
}

#[test]
fn a_store_that_nobody_knows_is_a_usage_error_without_its_password() {
    let place = Place::file();
    for url in ["mysql://root:hunter2@host/db", "hunter2", "file:"] {
        let error = place.error(2, &["list", "--store", url]);
        assert_eq!(error["kind"], "InvalidConfig");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn a_store_that_can_not_be_used_says_which_path() {
    let place = Place::file();
    place.write("file", "not a folder");
    for url in ["file:file", "sqlite:file/flows.db", "sqlite:file"] {
        let called = place.call(&["list", "--store", url, "--json"]);
        let error = error_of(&called, 5);
        assert_eq!(error["kind"], "StorageError", "{url}");
        assert!(text(&error["context"]["path"]).starts_with("file"), "{error}");
        assert!(!text(&error["operation"]).is_empty(), "{error}");
        assert!(!text(&error["causes"][0]).is_empty(), "{error}");
    }
}

#[test]
fn a_server_that_is_out_of_reach_is_told_with_all_that_is_known_but_no_password() {
    let place = Place::file();
    // Nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for scheme in ["postgres", "redis", "bolt"] {
        let url = format!("{scheme}://u:hunter2@{free}");
        let error = place.error(5, &["list", "--store", &url]);
        assert_eq!((&error["kind"], &error["retryable"]), (&json!("StorageError"), &json!(true)));
        assert!(text(&error["context"]["server"]).contains(&free.to_string()), "{error}");
        assert!(!text(&error["operation"]).is_empty(), "{error}");
        assert!(text(&error["causes"][0]).contains("refused"), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn a_flipped_byte_is_told_and_the_record_left_as_it_is() {
    let mut place = Place::file();
    place.set("FLOW_ENCRYPTION_KEY", text(&place.json(0, &["keygen"])["key"]));
    let (run, key) = place.park();
    let record = find(place.folder.path(), &run);
    let good = std::fs::read_to_string(&record).unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&good).unwrap();
    let sealed = text(&document["snapshot"]);
    let middle = sealed.len() / 2;
    let flipped = if sealed.as_bytes()[middle] == b'A' { "B" } else { "A" };
    document["snapshot"] =
        json!(format!("{}{flipped}{}", &sealed[..middle], &sealed[middle + 1..]));
    let bad = document.to_string();
    std::fs::write(&record, &bad).unwrap();
    let error = place.error(5, &["resume", &key, "--input", YES]);
    let kind = text(&error["kind"]);
    assert!(kind == "EncryptionError" || kind == "CorruptState", "{error}");
    assert_eq!(error["run_id"], json!(run));
    assert_eq!(std::fs::read_to_string(&record).unwrap(), bad);
    std::fs::write(&record, good).unwrap();
    place.json(0, &["resume", &key, "--input", YES]);
}

#[test]
fn nothing_is_written_where_only_words_are_printed() {
    on_each_store(|place| {
        for args in [&["keygen"][..], &["tools"], &["schema", "output"], &["--version"]] {
            assert_eq!(place.call(args).code, 0);
        }
        assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 0);
    });
}

#[test]
fn the_settings_may_be_named_in_the_environment() {
    let mut place = Place::file();
    place.unset("DFLOW_STORE");
    place.write("other.toml", "[store]\nurl = \"sqlite:other.db\"\n");
    place.set("DFLOW_CONFIG", "other.toml");
    place.make();
    assert!(text(&place.json(0, &["doctor"])["location"]).ends_with("other.db"));
    place.set("DFLOW_CONFIG", "missing.toml");
    assert_eq!(place.error(2, &["list"])["context"]["path"], "missing.toml");
}

#[cfg(unix)]
#[test]
fn settings_that_everybody_may_write_are_taken_only_when_they_are_named() {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    };
    let place = Place::file();
    let path = place.folder.path().join(place.write("dflow.toml", "[hub]\nlease = \"1m\"\n"));
    let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    set(0o600);
    place.make();
    set(0o666);
    let error = place.error(2, &["list"]);
    assert_eq!(
        (&error["kind"], &error["context"]["path"]),
        (&json!("InvalidConfig"), &json!("dflow.toml"))
    );
    assert!(text(&error["message"]).contains("--config"), "{error}");
    place.json(0, &["list", "--config", "dflow.toml"]);
    set(0o664);
    let is_of_own_group = fs::metadata(&path).is_ok_and(|it| it.gid() == it.uid());
    assert_eq!(place.call(&["list"]).code, if is_of_own_group { 0 } else { 2 });

    // Nobody is asked whom a link leads to, and a pipe is not waited for.
    let elsewhere = place.folder.path().join("elsewhere.toml");
    fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    let error = place.error(2, &["list"]);
    assert!(text(&error["message"]).contains("no regular file"), "{error}");
    place.json(0, &["list", "--config", "dflow.toml"]);
    fs::remove_file(&path).unwrap();
    assert!(process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    place.error(2, &["list"]);
}

#[cfg(unix)]
#[test]
fn a_default_store_that_others_may_write_to_is_used_only_when_it_is_named() {
    use std::{fs, os::unix::fs::PermissionsExt as _};
    let mut place = Place::file();
    place.unset("DFLOW_STORE");
    let path = place.folder.path().join(".suspended-flows");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let error = place.error(2, &["list"]);
    assert!(text(&error["message"]).contains("everybody may write to it"), "{error}");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "nothing was put into it");
    place.json(0, &["work", "--once", "--store", "file:./.suspended-flows"]);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_not_passed_over() {
    use std::os::unix::ffi::OsStrExt as _;
    let place = Place::file();
    for name in ["DFLOW_STORE", "DFLOW_KEY"] {
        let mut command = place.command();
        command.env(name, std::ffi::OsStr::from_bytes(b"file:st\xff"));
        let output = command.args(["resume", "--input", "1"]).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.contains(&format!("{name} is no text")), "{err}");
    }
}

#[test]
fn a_key_in_the_place_of_something_else_is_not_shown_as_that() {
    let place = Place::file();
    let (_, key) = place.park();
    for args in [&["run", &key][..], &["check", &key], &["list", "--config", &key]] {
        for json in [false, true] {
            let args = if json { [args, &["--json"]].concat() } else { args.to_vec() };
            let called = place.call(&args);
            assert_eq!(called.code, 2, "{called:?}");
            assert!(called.err.contains("df_…") && !called.err.contains(&key), "{called:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_key_that_nobody_reads_is_an_error_and_a_list_is_none() {
    let place = Place::file();
    let flow = place.write(
        "ask.yaml",
        "flow: f\nsteps:\n  - id: a\n    await_input: { preset: text, prompt: A? }\n",
    );
    for (args, code) in [(&["run", flow][..], 5), (&["list"], 0)] {
        let mut command = process::Command::new(assert_cmd::cargo::cargo_bin!("dflow"));
        command.args(args).current_dir(place.folder.path()).envs(&place.environment);
        command.env_remove("FLOW_ENCRYPTION_KEY");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{err}");
        assert_eq!(err.contains("reissue"), code == 5, "{err}");
    }
}

#[test]
fn json_holds_nothing_that_a_terminal_obeys() {
    let place = Place::file();
    let flow = place.write("flow.yaml", "flow: f\nsteps:\n  - id: a\n    set: \"${ value }\"\n");
    let value = json!("a\u{9b}31m\u{7f}\u{202e}b\u{e0041}\u{301}é");
    let called = place.call(&["run", flow, "--input", &value.to_string(), "--json"]);
    for harmful in ['\u{9b}', '\u{7f}', '\u{202e}', '\u{e0041}'] {
        assert!(!called.out.contains(harmful), "{called:?}");
    }
    assert!(called.out.contains('é'));
    let printed: serde_json::Value = serde_json::from_str(&called.out).unwrap();
    assert_eq!(printed["output"], value);
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_can_not_be_written_is_an_error_as_json() {
    let place = Place::file();
    let flow = place.write("flow.yaml", "flow: f\nsteps:\n  - id: s\n    wait: 2h\n");
    place.make();
    for args in [&["list", "--json"][..], &["run", flow, "--json"], &["list", "--help", "--json"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = process::Command::new(assert_cmd::cargo::cargo_bin!("dflow"));
        command.args(args).current_dir(place.folder.path()).envs(&place.environment);
        let output = command.env_remove("FLOW_ENCRYPTION_KEY").stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(5));
        let err = String::from_utf8(output.stderr).unwrap();
        let error: serde_json::Value = serde_json::from_str(err.lines().last().unwrap()).unwrap();
        assert_eq!(error["error"]["kind"], "OutputError", "{err}");
        assert_eq!(error["error"]["run_id"].is_string(), args[0] == "run", "{err}");
    }
}
