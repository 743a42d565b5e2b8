//! The program: from the start of the process to the end of the run that it resumed.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use dynamic_flow::codec::EncryptionKey;
use serde_json::Value;

use crate::{
    Result,
    args::{Args, workspace},
    sample::median,
    table::{Row, Table, time},
};

const TARGET: Duration = Duration::from_millis(30);
const ANSWER: &str = r#"{"approved": true, "approved_by": "Jane"}"#;

pub(crate) fn measure(args: &Args, table: &mut Table) -> Result<()> {
    let what = "dflow resume, process start to end";
    let program = workspace().join("target/release/dflow");
    if !program.is_file() {
        let how = "not measured: build it with `cargo build --release --bin dflow`";
        table.add(Row::new(what, how));
        return Ok(());
    }
    let times = args.pick(5, 40);
    let start = || Ok(elapsed(Command::new(&program).arg("--version"))?.0);
    let start = (0..times).map(|_| start()).collect::<Result<Vec<_>>>()?;
    table.add(Row::new("dflow --version", time(median(&start))).n(times));
    for (name, url) in [("filesystem", "file:"), ("SQLite", "sqlite:")] {
        let store = format!("{url}{}", args.dir.join("program").join(name).display());
        match resumes(&program, &store, times) {
            Ok(resumes) => {
                let taken = median(&resumes);
                let row = Row::new(format!("{what}, {name}"), time(taken)).n(times);
                table.add(row.target(format!("below {}", time(TARGET)), taken < TARGET));
            }
            Err(error) => table.add(Row::new(what, format!("not measured: {error}"))),
        }
    }
    Ok(())
}

fn resumes(program: &Path, store: &str, times: usize) -> Result<Vec<Duration>> {
    let key = EncryptionKey::generate()?.expose().to_string();
    let dflow = |words: &[&str]| {
        let mut command = Command::new(program);
        command.args(["--json", "--store", store]).args(words);
        command.env("FLOW_ENCRYPTION_KEY", &key).current_dir(workspace());
        elapsed(&mut command)
    };
    let mut measured = Vec::with_capacity(times);
    for _ in 0..times {
        let run = ["run", "examples/purchase-approval.yaml", "--input", "@examples/order.json"];
        let (_, parked) = dflow(&run)?;
        let key = parked["waits"][0]["key"].as_str();
        let key = key.ok_or("`dflow run` printed no key")?;
        let (taken, done) = dflow(&["resume", key, "--input", ANSWER])?;
        if done["status"] != "completed" {
            return Err("`dflow resume` did not complete the run".into());
        }
        measured.push(taken);
    }
    Ok(measured)
}

/// Starts it and waits for its end; gives what it printed, if that is JSON.
fn elapsed(command: &mut Command) -> Result<(Duration, Value)> {
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    let taken = began.elapsed();
    Ok((taken, serde_json::from_slice(&output.stdout).unwrap_or_default()))
}
