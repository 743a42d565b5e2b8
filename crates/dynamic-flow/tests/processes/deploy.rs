//! A run is started by one build and resumed by another: two programs, compiled from different
//! code.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use crate::support::{self, Ground, Place, Process, on_each_store};

on_each_store!(another_build_goes_on_after_the_wait_and_runs_no_step_before_it_again);

fn another_build_goes_on_after_the_wait_and_runs_no_step_before_it_again(ground: &Ground) {
    let place = Place::new(ground);
    let [first, second] = programs();
    assert_ne!(fs::read(&first).unwrap(), fs::read(&second).unwrap(), "they are different builds");

    let key = say_to(&place, &first, "");
    assert_eq!(place.lines::<String>("log"), ["first count", "first price"]);
    let told = say_to(&place, &second, &key);
    assert_eq!(
        told,
        "0 same, 1 compatible, 0 stranded; \"packed 18 boxes for 54 to jane, thanks\""
    );
    assert_eq!(
        place.lines::<String>("log"),
        ["first count", "first price", "second pack", "second ship", "second thank"],
        "no step before the wait ran again, and none that is new there ran at all"
    );
}

/// Runs a program with something on standard input; gives what it tells.
fn say_to(place: &Place, program: &Path, input: &str) -> String {
    let mut command = Command::new(program);
    command
        .env("DFLOW_TEST_STORE", &place.url)
        .env("DFLOW_TEST_LOG", place.path.join("log"))
        .env("DFLOW_TEST_KEY", support::KEY);
    let mut process = Process::spawn(&program.display().to_string(), command);
    if !input.is_empty() {
        process.tell(input);
    }
    process.hang_up();
    let told = process.hear().expect("it tells something");
    process.end();
    told
}

/// Both programs, compiled.
///
/// A run of all tests has compiled them before it runs the first; for this test alone cargo is
/// asked to.
fn programs() -> [PathBuf; 2] {
    let test = env::current_exe().unwrap();
    let deps = test.parent().unwrap();
    let examples = deps.parent().unwrap().join("examples");
    let paths = ["first", "second"]
        .map(|build| examples.join(format!("processes-build-{build}{}", env::consts::EXE_SUFFIX)));
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/processes/builds");
    let newest = changed(&sources, |name| name.ends_with(".rs"))
        .max(changed(deps, |name| name.starts_with("libdynamic_flow-") && name.ends_with(".rlib")));
    let fresh = |path: &PathBuf| path.metadata().is_ok_and(|m| m.modified().ok() >= newest);
    if !paths.iter().all(fresh) {
        let mut cargo = Command::new(env::var("CARGO").unwrap_or_else(|_| env!("CARGO").into()));
        cargo.args(["build", "--offline", "--package", "dynamic-flow"]);
        cargo.args(["--example", "processes-build-first", "--example", "processes-build-second"]);
        // Those of the stores that this test has.
        for (feature, is_on) in [
            ("postgres", cfg!(feature = "postgres")),
            ("redis", cfg!(feature = "redis")),
            ("mongodb", cfg!(feature = "mongodb")),
            ("neo4j", cfg!(feature = "neo4j")),
        ] {
            cargo.args(is_on.then_some(["--features", feature]).into_iter().flatten());
        }
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.env("CARGO_TARGET_DIR", deps.ancestors().nth(2).unwrap());
        assert!(cargo.status().unwrap().success(), "the other builds can't be compiled");
    }
    paths
}

/// When the newest of some files was changed.
fn changed(folder: &Path, which: impl Fn(&str) -> bool) -> Option<SystemTime> {
    let files = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = files.filter(|file| file.file_name().to_str().is_some_and(&which));
    files.filter_map(|file| file.metadata().unwrap().modified().ok()).max()
}
