//! Each Rust example in two processes over one folder.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::SystemTime,
};

use tempfile::TempDir;

/// Where cargo puts the examples of this package, beside the folder of this test.
///
/// `cargo test` builds them, but not where it is told to build this test alone: then one that is
/// missing or older than its source is built here.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let build = test.parent().and_then(|deps| deps.parent()).unwrap();
    let program = build.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/{name}.rs"));
    if written(&program).is_none_or(|built| Some(built) < written(&source)) {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--example", name]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "the example {name} does not build");
    }
    program
}

fn written(file: &Path) -> Option<SystemTime> {
    file.metadata().ok()?.modified().ok()
}

/// A folder that somebody works in.
struct Desk {
    folder: TempDir,
    program: PathBuf,
}

impl Desk {
    fn new(example: &str) -> Self {
        Self { folder: TempDir::new().unwrap(), program: program(example) }
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.env_remove("FLOW_ENCRYPTION_KEY").current_dir(&self.folder).args(args);
        command.output().unwrap()
    }

    /// Standard output of a process that must succeed.
    fn succeeds(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Standard error of a process that must fail.
    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Starts a run that parks; gives its key.
    fn start(&self) -> String {
        key_in(&self.succeeds(&["start"]))
    }
}

fn key_in(output: &str) -> String {
    let key = output.lines().find_map(|line| line.strip_prefix("Key: "));
    key.unwrap_or_else(|| panic!("no key in {output}")).to_owned()
}

#[test]
fn a_purchase_is_approved_in_another_process() {
    let desk = Desk::new("purchase_approval");
    let started = desk.succeeds(&["start"]);
    assert!(started.starts_with("Approve PO-2048: 2 × Ultrasound probe"), "{started}");
    let key = key_in(&started);
    let next = format!("cargo run --example purchase_approval -- resume {key} ");
    assert!(started.contains(&next), "{started}");

    let done = desk.succeeds(&["resume", &key, r#"{"approved": true, "approved_by": "Jane"}"#]);
    assert_eq!(
        done,
        "2 × Ultrasound probe, linear, 12 MHz ordered from Harbour Medical Supplies for 6301, \
         approved by Jane\n"
    );
}

#[test]
fn the_command_that_the_example_prints_is_the_one_to_type() {
    for example in ["purchase_approval", "document_review"] {
        let desk = Desk::new(example);
        let started = desk.succeeds(&["start"]);
        let command = started.lines().find_map(|line| line.split_once(" -- resume ")).unwrap().1;
        let (key, answer) = command.split_once(" '").unwrap();
        let done = desk.succeeds(&["resume", key, answer.strip_suffix('\'').unwrap()]);
        assert!(done.contains("Jane"), "{done}");
    }
}

#[test]
fn a_no_rejects_the_purchase() {
    let desk = Desk::new("purchase_approval");
    let key = desk.start();
    let answer = r#"{"approved": false, "approved_by": "Jane", "comments": "too dear"}"#;
    assert_eq!(desk.succeeds(&["resume", &key, answer]), "rejected by `approved`\n");
}

#[test]
fn wrong_keys_answers_and_orders_are_refused_and_the_wait_stays_open() {
    let desk = Desk::new("purchase_approval");
    let key = desk.start();
    let answer = r#"{"approved": true, "approved_by": "Jane"}"#;

    let mut wrong = key.clone();
    let last = wrong.pop().unwrap();
    wrong.push(if last == 'A' { 'E' } else { 'A' });
    for key in [wrong.as_str(), "df_", "nonsense"] {
        let error = desk.fails(&["resume", key, answer]);
        assert!(error.contains("SuspensionKeyNotFound"), "{error}");
    }
    let error = desk.fails(&["resume", &key, r#"{"approved": "perhaps"}"#]);
    assert!(error.contains("InputValidationError"), "{error}");
    let error = desk.fails(&[
        "start",
        r#"{"id": "17", "supplier": "S", "item": "I", "quantity": 1, "price": 1}"#,
    ]);
    assert!(error.contains("InputValidationError"), "{error}");

    assert!(desk.succeeds(&["resume", &key, answer]).contains("approved by Jane"));
}

#[test]
fn a_second_answer_hears_of_the_first() {
    let desk = Desk::new("purchase_approval");
    let key = desk.start();
    desk.succeeds(&["resume", &key, r#"{"approved": true, "approved_by": "Jane"}"#]);
    let error = desk.fails(&["resume", &key, r#"{"approved": false, "approved_by": "Joe"}"#]);
    assert!(error.contains("AlreadyResumed"), "{error}");
    assert!(!error.contains("Jane"), "who answers is not told what was answered: {error}");
}

#[test]
fn with_a_key_in_the_environment_the_order_is_sealed() {
    let desk = Desk::new("purchase_approval");
    let run = |args: &[&str], key: &str| {
        let mut command = Command::new(&desk.program);
        command.env("FLOW_ENCRYPTION_KEY", key).current_dir(&desk.folder).args(args);
        command.output().unwrap()
    };
    let (ours, theirs) = ("a".repeat(64), "b".repeat(64));
    let started = run(&["start"], &ours);
    let key = key_in(&String::from_utf8(started.stdout).unwrap());
    let answer = r#"{"approved": true, "approved_by": "Jane"}"#;
    let resume = ["resume", key.as_str(), answer];

    let error = desk.fails(&resume);
    assert!(error.contains("EncryptionError"), "{error}");
    let error = String::from_utf8(run(&resume, &theirs).stderr).unwrap();
    assert!(error.contains("EncryptionError"), "{error}");
    let done = String::from_utf8(run(&resume, &ours).stdout).unwrap();
    assert!(done.contains("approved by Jane"), "{done}");
}

#[test]
fn a_risky_document_is_reviewed_in_another_process() {
    let desk = Desk::new("document_review");
    let started = desk.succeeds(&["start"]);
    assert!(
        started.starts_with("Review \"Invoice 88-1203, roof repair\" (risk 0.75: unusual_amount"),
        "{started}"
    );
    let key = key_in(&started);
    let error = desk.fails(&["resume", &key, r#"{"approved": true, "approved_by": "jane"}"#]);
    assert!(error.contains("InputValidationError"), "a review has comments: {error}");
    let answer = r#"{"approved": true, "comments": "Looks good", "approved_by": "jane"}"#;
    let done = desk.succeeds(&["resume", &key, answer]);
    assert_eq!(done, "DOC-2026-0417 processed, reviewed by jane\n");
}

#[test]
fn a_risky_document_is_refused() {
    let desk = Desk::new("document_review");
    let key = desk.start();
    let answer = r#"{"approved": false, "comments": "a fraud", "approved_by": "jane"}"#;
    assert_eq!(desk.succeeds(&["resume", &key, answer]), "rejected by `route/approved`\n");
}

#[test]
fn a_harmless_document_asks_nobody() {
    let desk = Desk::new("document_review");
    let document = r#"{"id": "7", "title": "Minutes", "text": "We met and went home."}"#;
    assert_eq!(desk.succeeds(&["start", document]), "DOC-7 processed without a review\n");
}

#[test]
fn the_lower_half_gives_a_state_back_once() {
    let desk = Desk::new("lower_half");
    let key = desk.start();
    let error = desk.fails(&["resume", &key, "17"]);
    assert!(error.contains("InputValidationError"), "{error}");
    let done = desk.succeeds(&["resume", &key, r#""Ada Lovelace""#]);
    assert_eq!(done, "contract 17 goes on at page 4, signed by \"Ada Lovelace\"\n");
    let error = desk.fails(&["resume", &key, r#""Charles""#]);
    assert!(error.contains("AlreadyResumed"), "{error}");
}

#[test]
fn wrong_arguments_get_the_usage() {
    for example in ["purchase_approval", "document_review", "lower_half"] {
        let output = Desk::new(example).run(&["finish"]);
        assert_eq!(output.status.code(), Some(2));
        let usage = String::from_utf8(output.stderr).unwrap();
        assert!(usage.starts_with(&format!("usage: {example} start")), "{usage}");
    }
}
