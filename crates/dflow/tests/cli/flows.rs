//! `check`, `upgrade`, `diagram`, `tools`, `schema` and `completions`.

use dynamic_flow::Schema;
use serde_json::{Value, json};

use crate::support::{Place, examples, on_each_store, result, text};

const OLD: &str = "
flow: greet
steps:
  - id: ask
    await_input: { preset: text, prompt: Name? }
  - id: greet
    set: 'Hello {{ value.text }}'
";
/// A step more, after the wait.
const LONGER: &str = "
flow: greet
steps:
  - id: ask
    await_input: { preset: text, prompt: Name? }
  - id: greet
    set: 'Hello {{ value.text }}'
  - id: shout
    set: '{{ value | upper }}'
";
/// Without the step at which runs wait.
const OTHER: &str = "
flow: greet
steps:
  - id: greet
    set: Hello
";

#[test]
fn a_check_tells_whom_a_deploy_would_strand() {
    on_each_store(|place| {
        let run = text(&place.run(10, OLD)["run_id"]);
        let check =
            |document: &str, code| place.json(code, &["check", place.write("new.yaml", document)]);
        let same = check(OLD, 0);
        assert_eq!((&same["runs"], &same["same"]), (&json!(1), &json!(1)));
        let longer = check(LONGER, 0);
        assert_eq!((&longer["compatible"], &longer["stranded"]), (&json!(1), &json!([])));
        let other = check(OTHER, 1);
        assert_eq!(other["stranded"][0]["run_id"], json!(run));
        assert!(text(&other["stranded"][0]["reasons"][0]).contains("ask"), "{other}");
        let told = place.call(&["check", "new.yaml"]);
        assert_eq!(told.code, 1);
        assert!(told.out.contains(&run) && told.out.contains("1 stranded"), "{told:?}");
        assert_eq!(
            place.error(2, &["check", place.write("bad.yaml", "flow: x")])["kind"],
            "InvalidFlow"
        );
    });
}

#[test]
fn an_upgrade_compares_first_and_moves_what_can_be_moved() {
    on_each_store(|place| {
        let parked = place.run(10, OLD);
        let (run, key) = (text(&parked["run_id"]), text(&parked["waits"][0]["key"]));
        place.write("longer.yaml", LONGER);
        place.write("other.yaml", OTHER);

        let refused = place.json(1, &["upgrade", "other.yaml", "--all"]);
        assert_eq!(refused["refused"][0]["run_id"], json!(run));
        assert!(refused.get("unopened").is_none(), "it opens: {refused}");
        let dry = place.json(0, &["upgrade", "longer.yaml", &run, "--dry-run"]);
        assert_eq!(dry["upgraded"], json!([run]));
        assert!(dry["differences"].to_string().contains("shout"), "{dry}");
        let again = place.json(0, &["upgrade", "longer.yaml", &run, "--dry-run"]);
        assert_eq!(again["upgraded"], json!([run]), "a dry run moves nothing");

        let moved = place.json(0, &["upgrade", "longer.yaml", &run, &run]);
        assert_eq!((&moved["upgraded"], &moved["unchanged"]), (&json!([run]), &json!([])));
        let done = place.json(0, &["upgrade", "longer.yaml", "--all"]);
        assert_eq!((&done["upgraded"], &done["unchanged"]), (&json!([]), &json!([run])));
        let resumed = place.json(0, &["resume", &key, "--input", r#"{"text": "Ada"}"#]);
        assert_eq!(resumed["output"], "HELLO ADA");
    });
}

/// Fails behind its question, whatever is answered.
const WRONG: &str = "
flow: greet
steps:
  - id: ask
    await_input: { preset: text, prompt: Name? }
  - id: greet
    set: '${ int(value.text) }'
";

#[test]
fn a_mistake_in_a_document_costs_no_answer() {
    on_each_store(|place| {
        let parked = place.run(10, WRONG);
        let (run, key) = (text(&parked["run_id"]), text(&parked["waits"][0]["key"]));
        let told = place.call(&["resume", &key, "--input", r#"{"text": "Ada"}"#]);
        assert_eq!(told.code, 1, "{told:?}");
        // To retry alone would fail as before.
        let at = |words: &str| told.out.find(words).unwrap_or_else(|| panic!("{told:?}"));
        assert!(at(&format!(" upgrade FLOW {run}")) < at(&format!(" retry {run}")), "{told:?}");

        place.write("right.yaml", LONGER);
        let checked = place.json(0, &["check", "right.yaml"]);
        assert_eq!((&checked["runs"], &checked["failed"]), (&json!(0), &json!(1)));
        place.write("other.yaml", &OTHER.replace("id: greet", "id: hail"));
        // It is told of, and stops no deploy: perhaps nobody wants to retry it.
        let stranded = place.json(0, &["check", "other.yaml"]);
        assert_eq!(stranded["stranded"], json!([]));
        assert_eq!(stranded["failed_stranded"][0]["run_id"], json!(run));
        let told = place.call(&["check", "other.yaml"]);
        assert!(told.out.contains("1 run failed or expired: 0 that"), "{told:?}");
        assert!(told.out.contains(&run), "{told:?}");
        let refused = place.json(1, &["upgrade", "other.yaml", "--all"]);
        assert_eq!(refused["refused"][0]["run_id"], json!(run));

        let dry = place.json(0, &["upgrade", "right.yaml", "--all", "--dry-run"]);
        assert_eq!(dry["upgraded"], json!([run]));
        let told = place.call(&["upgrade", "right.yaml", &run]);
        assert!(told.out.contains("1 run upgraded"), "{told:?}");
        assert!(told.err.contains(&format!(" retry {run}")), "{told:?}");
        assert_eq!(place.status(&run), "failed", "until it is retried");
        assert_eq!(place.json(0, &["retry", &run])["output"], "HELLO ADA");
        let ended = place.json(1, &["upgrade", "other.yaml", &run]);
        assert!(ended["refused"].to_string().contains("it is completed"), "{ended}");
    });
}

#[test]
fn a_run_that_was_answered_is_moved_before_a_worker_takes_it() {
    on_each_store(|place| {
        let parked = place.run(10, OLD);
        let (run, key) = (text(&parked["run_id"]), text(&parked["waits"][0]["key"]));
        place.json(0, &["answer", &key, "--input", r#"{"text": "Ada"}"#]);
        assert_eq!(place.status(&run), "ready");
        let longer = place.write("longer.yaml", LONGER);
        let dry = place.json(0, &["upgrade", longer, "--all", "--dry-run"]);
        assert_eq!(dry["upgraded"], json!([run]));
        let told = place.call(&["upgrade", longer, &run]);
        assert!(told.out.contains("1 run upgraded"), "{told:?}");
        assert!(told.err.contains(" work --once"), "{told:?}");
        place.json(0, &["work", "--once"]);
        assert_eq!(place.json(0, &["show", &run])["output"], "HELLO ADA");
    });
}

#[test]
fn a_run_that_has_expired_is_moved_too() {
    let place = Place::file();
    let asks = |name| {
        format!(
            "flow: f\nsteps:\n  - id: ask\n    await_input: {{ preset: text, prompt: '{name}?', timeout: 1ms }}\n"
        )
    };
    let run = text(&place.run(10, &asks("Name"))["run_id"]);
    place.json(0, &["work", "--once"]);
    assert_eq!(place.status(&run), "expired");
    place.write("new.yaml", &asks("First name"));
    assert_eq!(place.json(0, &["check", "new.yaml"])["failed"], 1);
    assert_eq!(place.json(0, &["upgrade", "new.yaml", "--all"])["upgraded"], json!([run]));
    let again = place.json(10, &["retry", &run]);
    assert_eq!(again["waits"][0]["prompt"], "First name?");
}

#[test]
fn an_upgrade_says_that_an_open_question_stays_as_it_was_asked() {
    let place = Place::file();
    let run = text(&place.run(10, OLD)["run_id"]);
    let reworded = place.write("new.yaml", &OLD.replace("Name?", "First name?"));
    let told = place.call(&["upgrade", reworded, &run]);
    assert!(told.out.contains("1 run upgraded"), "{told:?}");
    assert!(told.err.contains("stays as it was asked"), "{told:?}");
    assert_eq!(place.json(0, &["show", &run])["waits"][0]["prompt"], "Name?");
}

#[test]
fn a_flow_comes_from_standard_input() {
    let place = Place::file();
    let done =
        place.call_with(&["run", "-", "--json"], "flow: shout\nsteps:\n  - id: a\n    set: 1\n");
    assert_eq!((done.code, done.out.contains("completed")), (0, true), "{done:?}");
    let drawn = place.call_with(&["diagram", "-"], OLD);
    assert!(drawn.out.starts_with("flowchart TD"), "{drawn:?}");
    let wrong = place.call_with(&["check", "-"], "flow: x\nodd: 1\nsteps: [{ set: 1 }]\n");
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("standard input:2:1"), "{wrong:?}");
    let both = place.call_with(&["run", "-", "--input", "-"], OLD);
    assert_eq!(both.code, 2);
    assert!(both.err.contains("flow and input can't both come"), "{both:?}");
}

#[test]
fn an_upgrade_names_its_runs() {
    let place = Place::file();
    let flow = place.write("flow.yaml", OLD);
    assert_eq!(place.error(2, &["upgrade", flow])["kind"], "InvalidArgument");
    let (purchase, _) = place.park();
    let refused = place.json(1, &["upgrade", flow, &purchase]);
    assert!(
        refused["refused"][0]["reasons"].to_string().contains("purchase-approval"),
        "{refused}"
    );
}

#[test]
fn a_run_that_does_not_open_keeps_no_other_from_being_upgraded() {
    for store in ["file:flows", "sqlite:flows.db"] {
        let mut place = Place::new(store);
        let run = |place: &Place| text(&place.run(10, OLD)["run_id"]);
        let first = run(&place);
        place.set("FLOW_ENCRYPTION_KEY", text(&place.json(0, &["keygen"])["key"]));
        let sealed = run(&place);
        place.unset("FLOW_ENCRYPTION_KEY");
        let last = run(&place);
        let longer = place.write("longer.yaml", LONGER);
        let gone = "01900000-0000-7000-8000-000000000000";
        let named = place.json(5, &["upgrade", longer, &last, gone, "--dry-run"]);
        assert_eq!(named["upgraded"], json!([last]));
        assert!(named["refused"].to_string().contains("RunNotFound"), "{named}");
        assert_eq!(named["unopened"][0]["run_id"], gone);
        // That it does not open is no matter of the document.
        let checked = place.json(5, &["check", longer]);
        assert_eq!((&checked["compatible"], &checked["stranded"]), (&json!(2), &json!([])));
        assert_eq!(checked["unopened"][0]["run_id"], json!(sealed));
        let told = place.call(&["check", longer]);
        assert!(
            told.out.contains("none stranded")
                && told.out.contains("1 run can't be opened: whether the flow fits it")
        );
        let all = place.json(5, &["upgrade", longer, "--all"]);
        assert_eq!(all["upgraded"], json!([last, first]));
        assert_eq!(all["refused"][0]["run_id"], json!(sealed));
        assert_eq!(all["unopened"], all["refused"]);
        assert!(all["refused"].to_string().contains("EncryptionError"), "{all}");
    }
}

#[test]
fn a_flow_is_drawn() {
    let place = Place::file();
    let flow = examples().join("purchase-approval.yaml");
    let flow = flow.to_str().unwrap();
    let drawn = place.json(0, &["diagram", flow]);
    assert_eq!(
        (&drawn["flow_id"], &drawn["format"]),
        (&json!("purchase-approval"), &json!("mermaid"))
    );
    assert!(text(&drawn["text"]).contains("manager-approval"));
    assert!(place.call(&["diagram", flow, "--format", "dot"]).out.starts_with("digraph"));
    assert!(!place.folder.path().join("flows").exists(), "no store is made for a drawing");
}

#[test]
fn the_readmes_show_flows_that_are_right_and_every_verb() {
    let place = Place::file();
    let documents = |readme: &str| -> Vec<String> {
        let readme = std::fs::read_to_string(examples().join("..").join(readme)).unwrap();
        let blocks = readme.split("```yaml\n").skip(1);
        blocks.filter_map(|it| it.split("```").next()).map(str::to_owned).collect()
    };
    let (short, long) = (documents("README.md"), documents("crates/dflow/README.md"));
    place.make();
    let ids: Vec<String> = short
        .iter()
        .chain(&long)
        .map(|it| text(&place.json(0, &["check", place.write("flow.yaml", it)])["flow_id"]))
        .collect();
    assert_eq!(ids, ["purchase-approval", "expenses", "more-forms"]);
    let document = &long[0];
    let schema = place.call(&["schema", "document"]).out;
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let verbs = schema["$defs"]["step"]["oneOf"].as_array().unwrap();
    assert!(verbs.len() > 10);
    for verb in verbs {
        let verb = text(&verb["required"][0]);
        let is_there = document.lines().any(|line| line.contains(&format!(" {verb}:")));
        assert!(is_there, "the README does not show `{verb}`");
    }
}

#[test]
fn the_tools_of_documents_are_told_with_their_schemas() {
    let place = Place::file();
    let tools = place.json(0, &["tools"]);
    let ids: Vec<&Value> = tools["tools"].as_array().unwrap().iter().map(|it| &it["id"]).collect();
    assert_eq!(ids, ["http", "set", "template"]);
    for tool in tools["tools"].as_array().unwrap() {
        Schema::new(tool["input"].clone()).unwrap();
        Schema::new(tool["output"].clone()).unwrap();
        assert!(!text(&tool["description"]).is_empty());
    }
    let told = place.call(&["tools", "http"]);
    assert!(told.out.contains("\"properties\"") && !told.out.contains("template"), "{told:?}");
    assert_eq!(place.error(2, &["tools", "carrier-pigeon"])["kind"], "InvalidArgument");
}

#[test]
fn what_http_may_do_comes_from_the_settings_alone() {
    let place = Place::file();
    let document =
        "flow: f\nsteps:\n  - id: call\n    call: http\n    with: { url: 'http://127.0.0.1:9/' }\n";
    let refused = place.run(1, document);
    assert_eq!(refused["error"]["code"], "http_refused");
    place.write("dflow.toml", "[http]\nallowed_hosts = [\"a b\"]\n");
    assert_eq!(place.error(2, &["list"])["kind"], "InvalidConfig");
}

#[test]
fn the_schemas_are_schemas() {
    let place = Place::file();
    for of in ["document", "output"] {
        let called = place.call(&["schema", of]);
        assert_eq!(called.code, 0);
        Schema::new(serde_json::from_str(&called.out).unwrap()).unwrap();
    }
}

#[test]
fn shells_complete_every_subcommand() {
    let place = Place::file();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let called = place.call(&["completions", shell]);
        assert_eq!(called.code, 0);
        assert!(called.out.contains("rotate-keys"), "{shell}");
    }
    place.json(0, &["completions", "bash"]);
    assert_eq!(place.call(&["completions", "cmd"]).code, 2);
}

#[test]
fn a_secret_without_a_value_stops_only_what_uses_it() {
    let place = Place::file();
    place.write(
        "dflow.toml",
        "[http]\nallowed_hosts = [\"api.example.com\"]\nsecrets = { token = \"API_TOKEN\" }\n",
    );
    let (run, _) = place.park();
    assert_eq!(place.status(&run), "waiting");
    assert!(place.json(0, &["doctor"])["warnings"].to_string().contains("API_TOKEN"));
    let flow = place.write(
        "call.yaml",
        "flow: f\nsteps:\n  - id: call\n    call: http\n    with: { url: 'https://api.example.com/', \
         headers: { Authorization: { secret: token } } }\n",
    );
    let called = place.call(&["run", flow, "--json"]);
    assert_eq!(result(&called, 1, "run")["error"]["code"], "http_refused");
    assert!(called.err.contains("API_TOKEN is not set"), "{called:?}");
    // Also where the flow makes up for it.
    let caught = place.write(
        "caught.yaml",
        "flow: f\nsteps:\n  - id: t\n    try:\n      - id: call\n        call: http\n        with: { url: \
         'https://api.example.com/', headers: { Authorization: { secret: token } } }\n    \
         catch: { do: [{ id: s, set: fallback }] }\n",
    );
    let called = place.call(&["run", caught, "--json"]);
    assert_eq!(result(&called, 0, "run")["output"], "fallback");
    assert!(called.err.contains("API_TOKEN is not set"), "{called:?}");
    // A worker runs whatever comes.
    let error = place.error(2, &["work", "--once"]);
    assert_eq!(error["context"]["variable"], "API_TOKEN");
}

#[test]
fn what_flows_may_do_is_told_where_whoever_writes_the_store_may_do_it_too() {
    let mut place = Place::file();
    place.make();
    let warnings = |place: &Place, settings: &str| {
        place.write("dflow.toml", &format!("[http]\n{settings}\n"));
        place.json(0, &["doctor"])["warnings"].to_string()
    };
    let powers = [
        ("secrets = { token = \"API_TOKEN\" }", "send the secrets token; so may whoever can write"),
        ("allow_private = true", "reach private hosts; so may whoever can write"),
    ];
    for (settings, told) in powers {
        assert!(warnings(&place, settings).contains(told), "{settings}");
    }
    let harmless = "allowed_hosts = [\"api.example.com\"]";
    assert!(!warnings(&place, harmless).contains("By [http], flows may"));
    place.set("FLOW_ENCRYPTION_KEY", text(&place.json(0, &["keygen"])["key"]));
    for (settings, told) in powers {
        assert!(!warnings(&place, settings).contains(told), "{settings}");
    }
}

#[test]
fn names_in_the_settings_steer_no_terminal() {
    let place = Place::file();
    place
        .write("dflow.toml", "[http]\nsecrets = { \"to\\u001b]0;x\\u0007ken\" = \"API_TOKEN\" }\n");
    let flow = place.write(
        "call.yaml",
        "flow: f\nsteps:\n  - id: call\n    call: http\n    with: { url: 'https://api.example.com/' }\n",
    );
    let called = place.call(&["run", flow]);
    assert!(called.err.contains("API_TOKEN is not set"), "{called:?}");
    assert!(!called.err.contains(['\x1b', '\x07']), "{called:?}");
}

#[test]
fn a_secret_goes_to_its_hosts_only() {
    let mut place = Place::file();
    place.set("API_TOKEN", "s3cret");
    let bound = |secret: &str| {
        let hosts = "allowed_hosts = [\"api.example.com\", \"other.example.com\"]";
        place.write("dflow.toml", &format!("[http]\n{hosts}\nsecrets = {{ token = {secret} }}\n"));
    };
    let flow = place.write(
        "call.yaml",
        "flow: f\nsteps:\n  - id: call\n    call: http\n    with: { url: 'https://other.example.com/', \
         headers: { Authorization: { secret: token } } }\n",
    );
    bound("{ env = \"API_TOKEN\", hosts = [\"api.example.com\"] }");
    let called = place.call(&["run", flow, "--json"]);
    let error = &result(&called, 1, "run")["error"];
    assert_eq!(error["code"], "http_refused");
    let told = "the secret token may not be sent to other.example.com: it is for other hosts";
    assert!(error["message"].to_string().contains(told), "{error}");
    assert!(!called.err.contains("s3cret") && !called.out.contains("s3cret"), "{called:?}");
    let doctor = || place.json(0, &["doctor"])["warnings"].to_string();
    assert!(!doctor().contains("The secret token"));
    bound("\"API_TOKEN\"");
    assert!(doctor().contains("The secret token of [http] may be sent to every allowed host"));
}

#[test]
fn a_template_is_filled_once() {
    let place = Place::file();
    let document = "flow: f\nsteps:\n  - id: letter\n    call: template\n    with: { template: 'Note: \
                    {{ value.text }}', data: { text: '${ value.text }', salary: 99000 } }\n";
    let flow = place.write("flow.yaml", document);
    let input = r#"{"text": "{{ value.salary }} {% off"}"#;
    let ended = place.json(0, &["run", flow, "--input", input]);
    assert_eq!(ended["output"], "Note: {{ value.salary }} {% off");
}

#[test]
fn a_document_in_another_encoding_is_told_what_to_do() {
    let place = Place::file();
    let write =
        |bytes: &[u8]| std::fs::write(place.folder.path().join("flow.yaml"), bytes).unwrap();
    let latin = [b"flow: f\n# ", &[0xe9][..], b"\nsteps: []\n"].concat();
    write(&latin);
    let error = place.error(2, &["check", "flow.yaml"]);
    assert_eq!(error["kind"], "InvalidFlow");
    let told = "the flow can't be read: line 2 is not UTF-8; save it as UTF-8";
    assert_eq!(error["message"], told);
    let wide: Vec<u8> = "\u{feff}flow: f\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    write(&wide);
    let error = place.error(2, &["check", "flow.yaml"]);
    let told = "the flow can't be read: it is UTF-16, not UTF-8; save it as UTF-8";
    assert_eq!(error["message"], told);
}
