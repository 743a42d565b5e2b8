//! Ctrl-C: what was begun is kept, and goes on.
#![cfg(unix)]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    process::{Child, ChildStderr, Command, Stdio},
};

use dynamic_flow::{Clock as _, SystemClock, Timestamp};

use crate::support::{Place, text};

fn spawn(place: &Place, args: &[&str]) -> (Child, BufReader<ChildStderr>) {
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("dflow"))
        .args(args)
        .current_dir(place.folder.path())
        .env_remove("FLOW_ENCRYPTION_KEY")
        .envs(&place.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    (child, stderr)
}

/// What Ctrl-C sends.
fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Reads lines until one has that word.
fn read_until(lines: &mut BufReader<ChildStderr>, word: &str) {
    let mut line = String::new();
    while !line.contains(word) {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it ended without saying {word:?}");
    }
}

#[test]
fn a_run_that_is_interrupted_is_kept_and_goes_on_with_a_worker() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap();
    let place = Place::file();
    place.write(
        "dflow.toml",
        &format!(
            "[hub]\ndurability = \"every_step\"\n\
             [http]\nallowed_hosts = [{{ host = \"{host}\", private = true }}]\n"
        ),
    );
    let flow = place.write(
        "flow.yaml",
        &format!(
            "flow: f\nsteps:\n  - id: call\n    call: http\n    with: {{ url: 'http://{host}/' }}\n  \
             - id: ask\n    await_input: {{ preset: confirmation, prompt: Sure? }}\n"
        ),
    );
    let (child, mut stderr) = spawn(&place, &["run", flow]);
    let (mut connection, _) = listener.accept().unwrap();
    // An answer before the request would be none.
    let mut request = BufReader::new(connection.try_clone().unwrap()).lines();
    while request.next().is_some_and(|line| !line.unwrap().is_empty()) {}
    interrupt(&child);
    read_until(&mut stderr, "stopping after the step at hand");
    // The step at hand ends in its own time.
    let response = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
                    Connection: close\r\n\r\n{}";
    connection.write_all(response.as_bytes()).unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{rest}");
    assert!(output.stdout.is_empty());
    assert!(rest.contains("the run is kept") && rest.contains(" work --once"), "{rest}");

    let run = text(&place.json(0, &["list"])["items"][0]["run_id"]);
    assert!(rest.contains(&run), "{rest}");
    assert_eq!(place.status(&run), "ready");
    // Nobody listens any more: were the call made again, it would fail.
    drop((connection, listener));
    assert_eq!(place.json(0, &["work", "--once"])["driven"], 1);
    assert_eq!(place.status(&run), "waiting");
}

#[test]
fn a_run_that_is_stopped_at_once_is_taken_over_when_its_lease_has_lapsed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap();
    let place = Place::file();
    place.write(
        "dflow.toml",
        &format!(
            "[hub]\ndurability = \"every_step\"\nlease = \"300ms\"\n\
             [http]\nallowed_hosts = [{{ host = \"{host}\", private = true }}]\n"
        ),
    );
    let document = format!(
        "flow: f\nsteps:\n  - id: call\n    call: http\n    with: {{ url: 'http://{host}/' }}\n"
    );
    let (child, mut stderr) = spawn(&place, &["run", place.write("flow.yaml", &document)]);
    let (connection, _) = listener.accept().unwrap();
    interrupt(&child);
    read_until(&mut stderr, "Ctrl-C again to stop at once");
    interrupt(&child);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130), "{rest}");
    let next = rest.lines().find(|line| line.starts_with("  next")).unwrap();
    assert!(next.contains(" work") && !next.contains("--once"), "{rest}");
    assert!(next.contains("lease"), "{rest}");
    let run = text(&place.json(0, &["list"])["items"][0]["run_id"]);
    assert!(rest.contains(&run), "{rest}");

    // The host is gone by then, and the call fails; that it is made again is what counts.
    drop((connection, listener));
    let (worker, _stderr) = spawn(&place, &["work"]);
    let mut looks = 0;
    while place.status(&run) == "running" {
        looks += 1;
        assert!(looks < 600, "nobody takes it over");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(place.status(&run), "failed");
    interrupt(&worker);
    assert_eq!(worker.wait_with_output().unwrap().status.code(), Some(0));
}

#[test]
fn who_waits_for_a_run_of_somebody_else_is_told_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap();
    let place = Place::file();
    let settings = format!("[http]\nallowed_hosts = [{{ host = \"{host}\", private = true }}]\n");
    place.write("dflow.toml", &settings);
    let document = format!(
        "flow: f\nsteps:\n  - id: call\n    call: http\n    with: {{ url: 'http://{host}/' }}\n"
    );
    let flow = place.write("flow.yaml", &document);
    let run = ["run", flow, "--run-id", "2026-11-23/one", "--json"];
    let (first, _stderr) = spawn(&place, &run);
    let (mut connection, _) = listener.accept().unwrap();
    let (second, mut stderr) = spawn(&place, &run);
    read_until(&mut stderr, r#"{"notice":{"kind":"Waiting","message":"the run "#);
    // It is told for this very run only.
    let other = place.error(5, &["run", flow, "--run-id", "2026-11-23/one", "--input", "1"]);
    assert_eq!(other["kind"], "AlreadyExists");
    let mut request = BufReader::new(connection.try_clone().unwrap()).lines();
    while request.next().is_some_and(|line| !line.unwrap().is_empty()) {}
    let response = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
                    Connection: close\r\n\r\n{}";
    connection.write_all(response.as_bytes()).unwrap();
    let [first, second] = [first, second].map(|child| child.wait_with_output().unwrap());
    assert_eq!((first.status.code(), second.status.code()), (Some(0), Some(0)));
    assert_eq!(first.stdout, second.stdout);
}

#[test]
fn a_rotation_that_is_interrupted_does_not_say_that_it_is_done() {
    let mut place = Place::file();
    let key = |place: &Place| text(&place.json(0, &["keygen"])["key"]);
    let (old, new) = (key(&place), key(&place));
    place.set("FLOW_ENCRYPTION_KEY", &old);
    let (run, _) = place.park();
    place.set("FLOW_ENCRYPTION_KEY", format!("{new},{old}"));
    // Whoever writes the run's record stops in the middle of it.
    let shard = u8::from_str_radix(&run[run.len() - 2..], 16).unwrap() % 64;
    let lock = place.folder.path().join(format!("flows/locks/{shard:02x}"));
    let lock = std::fs::File::options().write(true).open(lock).unwrap();
    lock.lock().unwrap();
    let told = |json: &[&str]| {
        // Before it has begun, it would end at once and say nothing.
        let mut pause = std::time::Duration::from_millis(100);
        loop {
            let (child, _stderr) = spawn(&place, &[&["rotate-keys", "--page", "1"], json].concat());
            std::thread::sleep(pause);
            interrupt(&child);
            let output = child.wait_with_output().unwrap();
            let out = String::from_utf8(output.stdout).unwrap();
            if output.status.code() == Some(130) && !out.is_empty() {
                return out;
            }
            pause *= 2;
            assert!(pause.as_secs() < 8, "it never says anything");
        }
    };
    let out = told(&["--json"]);
    let rotated: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&rotated["runs"], &rotated["interrupted"]), (&0.into(), &true.into()), "{out}");
    let out = told(&[]);
    assert!(out.contains("stopped; to continue:") && out.contains(" rotate-keys"), "{out}");
    drop(lock);
    let rotated = place.json(0, &["rotate-keys"]);
    assert_eq!((&rotated["resealed"], rotated.get("interrupted")), (&1.into(), None));
}

#[test]
fn who_waits_no_longer_for_a_run_changes_nothing() {
    let place = Place::file();
    let (run, _) = place.park();
    let (child, mut stderr) = spawn(&place, &["show", &run, "--wait"]);
    read_until(&mut stderr, "Waiting for its end");
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(130), Vec::new()));
    assert_eq!(place.status(&run), "waiting");
}

#[test]
fn a_worker_that_is_interrupted_ends_well() {
    let place = Place::file();
    let (child, mut stderr) = spawn(&place, &["work"]);
    read_until(&mut stderr, "Working");
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

/// A place with a run that is answered, and calls a host that may hesitate next.
fn answered_before_a_call(listener: &TcpListener) -> (Place, String) {
    let host = listener.local_addr().unwrap();
    let place = Place::file();
    let settings = format!(
        "[hub]\nlease = \"300ms\"\n[http]\nallowed_hosts = [{{ host = \"{host}\", private = true }}]\n"
    );
    place.write("dflow.toml", &settings);
    let document = format!(
        "flow: f\nsteps:\n  - id: ask\n    await_input: {{ preset: confirmation, prompt: Sure? }}\n  \
         - id: call\n    call: http\n    with: {{ url: 'http://{host}/' }}\n  - id: again\n    \
         await_input: {{ preset: confirmation, prompt: Really? }}\n"
    );
    let parked = place.run(10, &document);
    let key = text(&parked["waits"][0]["key"]);
    place.json(0, &["answer", &key, "--input", r#"{"confirmed": true}"#]);
    (place, text(&parked["run_id"]))
}

#[test]
fn a_worker_that_is_interrupted_in_a_step_gives_its_lease_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (place, run) = answered_before_a_call(&listener);
    let (child, mut stderr) = spawn(&place, &["work"]);
    let (mut connection, _) = listener.accept().unwrap();
    let mut request = BufReader::new(connection.try_clone().unwrap()).lines();
    while request.next().is_some_and(|line| !line.unwrap().is_empty()) {}
    interrupt(&child);
    read_until(&mut stderr, "Ctrl-C again to stop at once");
    let response = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
                    Connection: close\r\n\r\n{}";
    connection.write_all(response.as_bytes()).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    let left = place.json(0, &["show", &run]);
    assert_eq!((&left["status"], &left["driven_by"]), (&"ready".into(), &().into()));
    // Nobody listens any more: were the call made again, it would fail.
    drop((connection, listener));
    assert_eq!(place.json(0, &["work", "--once"])["driven"], 1);
    assert_eq!(place.status(&run), "waiting");
}

#[test]
fn a_worker_that_is_stopped_at_once_says_so_and_loses_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (place, run) = answered_before_a_call(&listener);
    for args in [&["work"][..], &["work", "--json"], &["work", "--once", "--json"]] {
        let (mut child, mut stderr) = spawn(&place, args);
        let connection = listener.accept().unwrap();
        while child.try_wait().unwrap().is_none() {
            interrupt(&child);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{args:?}: {rest}");
        match args {
            ["work"] => assert!(rest.contains("lease"), "{rest}"),
            _ => {
                let worked: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!((&worked["driven"], &worked["interrupted"]), (&0.into(), &true.into()));
            }
        }
        // What was accepted is there, for whoever takes the run over.
        let left = place.json(0, &["show", &run]);
        assert_eq!(left["status"], "running");
        drop(connection);
        let lapses_at: Timestamp = text(&left["due_at"]).parse().unwrap();
        while SystemClock.now() <= lapses_at {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    drop(listener);
    assert_eq!(place.json(0, &["work", "--once"])["driven"], 1);
    let failed = place.json(0, &["show", &run]);
    assert_eq!(
        (&failed["status"], &failed["receipts"][0]["closed"]),
        (&"failed".into(), &"answered".into())
    );
}
