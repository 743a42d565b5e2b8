//! A fresh folder with a store in it, and calls of the program whose JSON is held against the
//! published schema.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{self, Output},
    sync::OnceLock,
    thread,
};

use assert_cmd::Command;
use dynamic_flow::{Schema, hub::PersistenceHub, store};
use dynamic_flow_services::{Corner, Kind};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The folder of the examples.
pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// Holds a test on each kind of store, on all at once; on those on servers, where the environment
/// tells where one is.
pub(crate) fn on_each_store(test: impl Fn(&Place) + Sync) {
    thread::scope(|scope| {
        for store in ["file:flows", "sqlite:flows.db"] {
            scope.spawn(|| test(&Place::new(store)));
        }
        for corner in Kind::ALL.into_iter().filter_map(Corner::on) {
            let test = &test;
            scope.spawn(move || test(&Place::new(&corner.url())));
        }
    });
}

/// A folder of its own, with a store.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) environment: BTreeMap<&'static str, String>,
}

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    /// What the program would otherwise take from the environment of the tests.
    pub(crate) const CLEARED: [&'static str; 5] =
        ["DFLOW_STORE", "DFLOW_CONFIG", "DFLOW_KEY", "FLOW_ENCRYPTION_KEY", "API_TOKEN"];

    pub(crate) fn new(store: &str) -> Self {
        let environment = BTreeMap::from([("DFLOW_STORE", store.to_owned())]);
        Self { folder: tempfile::tempdir().unwrap(), environment }
    }

    /// A place with a file store.
    pub(crate) fn file() -> Self {
        Self::new("file:flows")
    }

    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) -> &mut Self {
        self.environment.insert(name, value.into());
        self
    }

    pub(crate) fn unset(&mut self, name: &'static str) -> &mut Self {
        self.environment.remove(name);
        self
    }

    /// Writes a file; gives its name.
    pub(crate) fn write<'a>(&self, name: &'a str, text: &str) -> &'a str {
        fs::write(self.folder.path().join(name), text).unwrap();
        name
    }

    /// The program in this place, with nothing in its environment that this place does not set.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("dflow"));
        command.current_dir(self.folder.path());
        for name in Self::CLEARED {
            command.env_remove(name);
        }
        command.envs(&self.environment);
        command
    }

    /// Calls the program.
    pub(crate) fn call(&self, args: &[&str]) -> Called {
        self.call_with(args, "")
    }

    /// Calls the program with something on standard input.
    pub(crate) fn call_with(&self, args: &[&str], stdin: &str) -> Called {
        let output = self.command().args(args).write_stdin(stdin).output().unwrap();
        called(&output)
    }

    /// What a shell makes of a line, here.
    pub(crate) fn shell(&self, line: &str) -> Called {
        let mut shell = process::Command::new("sh");
        shell.args(["-c", line]).current_dir(self.folder.path()).envs(&self.environment);
        called(&shell.output().unwrap())
    }

    /// Calls the program with `--json`; gives what it printed on standard output, which must be
    /// as published.
    pub(crate) fn json(&self, code: i32, args: &[&str]) -> Value {
        let called = self.call(&[args, &["--json"]].concat());
        result(&called, code, args[0])
    }

    /// Calls the program with `--json`; gives the error it printed, which must be as published.
    pub(crate) fn error(&self, code: i32, args: &[&str]) -> Value {
        error_of(&self.call(&[args, &["--json"]].concat()), code)
    }

    /// Does something with the store `file:flows` as a program in Rust does.
    pub(crate) fn in_rust<T>(&self, work: impl AsyncFnOnce(PersistenceHub) -> T) -> T {
        let url = format!("file:{}", self.folder.path().join("flows").display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let hub = PersistenceHub::builder(store::open(&url).unwrap()).plaintext();
            work(hub.build().await.unwrap()).await
        })
    }

    /// Makes the store, without a run in it.
    pub(crate) fn make(&self) {
        self.json(0, &["work", "--once"]);
    }

    /// Parks a run of the purchase approval; gives it and its key.
    pub(crate) fn park(&self) -> (String, String) {
        self.park_with(&[])
    }

    pub(crate) fn park_with(&self, more: &[&str]) -> (String, String) {
        let flow = examples().join("purchase-approval.yaml");
        let order = format!("@{}", examples().join("order.json").display());
        let args = [&["run", flow.to_str().unwrap(), "--input", &order], more].concat();
        let parked = self.json(10, &args);
        (text(&parked["run_id"]), text(&parked["waits"][0]["key"]))
    }

    /// Runs a document that is written here.
    pub(crate) fn run(&self, code: i32, document: &str) -> Value {
        self.json(code, &["run", self.write("flow.yaml", document)])
    }

    /// The status of a run.
    pub(crate) fn status(&self, run: &str) -> String {
        text(&self.json(0, &["show", run])["status"])
    }
}

/// What a call printed on standard output, which must be as published for that subcommand.
pub(crate) fn result(called: &Called, code: i32, command: &str) -> Value {
    assert_eq!(called.code, code, "{called:?}");
    assert_eq!(called.out.lines().count(), 1, "one object on standard output: {called:?}");
    let value: Value = serde_json::from_str(&called.out).unwrap();
    conforms(command, &value);
    for line in called.err.lines() {
        let notice = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        conforms("notice", &notice);
    }
    value
}

/// The error that a call printed, which must be as published.
pub(crate) fn error_of(called: &Called, code: i32) -> Value {
    assert_eq!(called.code, code, "{called:?}");
    assert_eq!(called.out, "", "standard output is for results: {called:?}");
    let value: Value = serde_json::from_str(&called.err).unwrap();
    conforms("error", &value);
    value["error"].clone()
}

pub(crate) fn called(output: &Output) -> Called {
    Called {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout.clone()).unwrap(),
        err: String::from_utf8(output.stderr.clone()).unwrap(),
    }
}

/// Holds a value against the part of the published schema that is for a subcommand.
fn conforms(command: &str, value: &Value) {
    static PUBLISHED: OnceLock<Value> = OnceLock::new();
    let published = PUBLISHED.get_or_init(|| {
        let called = Place::file().call(&["schema", "output"]);
        serde_json::from_str(&called.out).unwrap()
    });
    let schema = json!({ "$ref": format!("#/$defs/{command}"), "$defs": published["$defs"] });
    if let Err(violations) = Schema::new(schema).unwrap().validate(value) {
        panic!("{command} printed {value}, which does not fit: {violations:?}");
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}

/// The file of a run, somewhere in the folder of a store.
pub(crate) fn find(folder: &Path, run: &str) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            if path.is_dir() {
                folders.push(path);
            } else if name.contains(run) && name.ends_with(".json") {
                return path;
            }
        }
    }
    panic!("no file of the run {run}")
}

/// An answer that approves.
pub(crate) const YES: &str = r#"{"approved": true, "approved_by": "Jane"}"#;
/// An answer that refuses.
pub(crate) const NO: &str = r#"{"approved": false, "approved_by": "Jane"}"#;
