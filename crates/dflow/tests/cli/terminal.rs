//! Questions at a real terminal, answered by keys.

use std::fs::File;

use serde_json::{Value, json};

use crate::{
    support::{NO, Place, text},
    tty::cuts_a_word,
};

const ESC: &str = "\x1b";
const CTRL_A: &str = "\x01";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_X: &str = "\x18";
const ALT_X: &str = "\x1bx";
const BACKSPACE: &str = "\x7f";
const LEFT: &str = "\x1b[D";
const HOME: &str = "\x1b[H";
const END: &str = "\x1b[F";
const DOWN: &str = "\x1b[B";
const UP: &str = "\x1b[A";

/// Pastes as a terminal does that was asked to say so.
fn pasted(text: &str) -> String {
    format!("\x1b[200~{text}\x1b[201~")
}

/// A flow that asks one question, and completes with the answer.
fn asking(place: &Place, prompt: &str, schema: &Value) -> (String, String) {
    let document = json!({
        "flow": "f",
        "steps": [{ "id": "ask", "await_input": { "prompt": prompt, "schema": schema } }],
    });
    let parked = place.run(10, &document.to_string());
    (text(&parked["run_id"]), text(&parked["waits"][0]["key"]))
}

/// What the run completed with.
fn output(place: &Place, run: &str) -> Value {
    let shown = place.json(0, &["show", run]);
    assert_eq!(shown["status"], "completed", "{shown}");
    shown["output"].clone()
}

#[test]
fn an_approval_is_answered_field_by_field() {
    let place = Place::file();
    let (run, key) = place.park();
    let tty = place.at_terminal(&["resume", &key, "--by", "jane"], 80);
    tty.sees("PO-2048").sees("Esc ends this").sees("? approved (y/n)");
    // What is no answer is asked for again, and nothing was sent meanwhile.
    tty.press("\r").sees("press y or n, then Enter");
    tty.press("y").sees("? approved (y/n)  yes").press("\r");
    tty.sees("› approved (y/n)  yes").sees("? approved_by");
    tty.press("\r").sees("must have at least 1 character");
    assert_eq!(place.status(&run), "waiting");
    tty.press("Jane\r").sees("› approved_by  Jane").sees("? comments").sees("Enter alone skips it");
    tty.press("\r");
    let (code, screen) = tty.end();
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("✓ completed"), "{screen}");
    assert_eq!(output(&place, &run)["approved_by"], "Jane");
}

#[test]
fn leaving_the_last_question_sends_nothing() {
    let place = Place::file();
    let (run, key) = place.park();
    for command in ["resume", "answer"] {
        for leave in [ESC, CTRL_C, CTRL_D] {
            let tty = place.at_terminal(&[command, &key], 80);
            tty.sees("? approved (y/n)").press("y\r").sees("? approved_by").press("Jane\r");
            // It may be skipped, but not so; nor with something typed.
            tty.sees("? comments").press("far too").sees("far too").press(leave);
            let (code, screen) = tty.end();
            assert_eq!(code, 130, "{leave:?}: {screen}");
            assert!(screen.contains("Nothing was sent"), "{leave:?}: {screen}");
        }
    }
    let shown = place.json(0, &["show", &run]);
    assert_eq!((&shown["status"], &shown["receipts"]), (&json!("waiting"), &json!([])));
    place.json(11, &["resume", &key, "--input", NO]);
}

#[test]
fn after_the_questions_the_program_can_still_be_ended() {
    let place = Place::file();
    let (run, key) = place.park();
    // Whoever writes the run's records stops in the middle of it.
    let shard = u8::from_str_radix(&run[run.len() - 2..], 16).unwrap() % 64;
    let lock = place.folder.path().join(format!("flows/locks/{shard:02x}"));
    let lock = File::options().write(true).open(lock).unwrap();
    lock.lock().unwrap();
    let tty = place.at_terminal(&["answer", &key], 80);
    tty.sees("? approved (y/n)").press("y\r").sees("? approved_by").press("Jane\r");
    tty.sees("? comments")
        .press("\r")
        .until("the terminal is given back", |screen| !screen.bracketed_paste());
    tty.press(CTRL_C);
    let (code, screen) = tty.end();
    assert_eq!(code, 130, "{screen}");
    drop(lock);
    assert_eq!(place.status(&run), "waiting");
}

#[test]
fn however_much_is_typed_at_once_is_taken_as_it_comes() {
    let place = Place::file();
    let fields = json!({ "why": { "type": "string" }, "approved": { "type": "boolean" } });
    let schema = json!({ "type": "object", "properties": fields, "required": ["why", "approved"] });
    let (run, key) = asking(&place, "Why?", &schema);
    let tty = place.at_terminal(&["resume", &key], 80);
    let why = "because ".repeat(400);
    // Nobody said that it is pasted.
    tty.sees("? why").press(&format!("{why}\r")).sees("? approved (y/n)").press("y\r");
    let (code, screen) = tty.end();
    assert_eq!(code, 0, "{screen}");
    assert_eq!(output(&place, &run), json!({ "why": why, "approved": true }));
}

#[test]
fn keys_that_are_no_letters_type_none() {
    let place = Place::file();
    let schema = json!({ "type": "object", "properties": { "it": { "type": "string" } }, "required": ["it"] });
    let (run, key) = asking(&place, "Who?", &schema);
    let tty = place.at_terminal(&["resume", &key], 80);
    tty.sees("? it");
    tty.press(&format!("ane{CTRL_X}{ALT_X}\t")).sees("? it  ane");
    tty.press(&format!("{CTRL_A}J{END}!x{LEFT}{BACKSPACE}{HOME}")).sees("? it  Janex");
    tty.press(&format!("{END}{BACKSPACE}")).until("the last letter went", |screen| {
        screen.contents().lines().any(|line| line.trim_end() == "? it  Jane")
    });
    tty.press("\r");
    assert_eq!(tty.end().0, 0);
    assert_eq!(output(&place, &run), json!({ "it": "Jane" }));
}

#[test]
fn several_lines_that_are_pasted_are_one_answer() {
    let place = Place::file();
    let schema = json!({
        "type": "object",
        "properties": { "a": { "type": "string" }, "b": { "type": "string" } },
        "required": ["a", "b"],
    });
    let (run, key) = asking(&place, "What?", &schema);
    let tty = place.at_terminal(&["resume", &key], 80);
    tty.sees("? a").until("marks are asked for", vt100::Screen::bracketed_paste);
    tty.press(&pasted("one\r\n日本 two\r\n")).sees("? a  one↵日本 two");
    tty.press("\r").sees("? b").press("three\r");
    assert_eq!(tty.end().0, 0);
    assert_eq!(output(&place, &run), json!({ "a": "one\n日本 two", "b": "three" }));
}

const PROMPT: &str = "Shall the seventeen replacement transducers be delivered to the northern \
                      department before the holidays?";
const HELP: &str = "Everything that the driver who brings the transducers must know about gates, \
                    dogs and staircases";
const OPTION: &str = "express delivery before noon of the following working day";

#[test]
fn a_narrow_terminal_wraps_at_words() {
    let place = Place::file();
    let schema = json!({
        "type": "object",
        "properties": {
            "how": { "enum": [OPTION, "standard"] },
            "note": { "type": "string", "description": HELP },
        },
        "required": ["how", "note"],
    });
    let (run, key) = asking(&place, PROMPT, &schema);
    let tty = place.at_terminal(&["resume", &key], 40);
    tty.sees("❯ express").until("whole words", |screen| {
        let screen = screen.contents();
        !cuts_a_word(&screen, PROMPT) && !cuts_a_word(&screen, OPTION)
    });
    // Up and down again: it is painted over, not once more below.
    tty.press(DOWN).sees("❯ standard").press(UP).sees("❯ express");
    tty.until("one list", |screen| screen.contents().matches("standard").count() == 1);
    tty.press("\r").sees("? note").until("whole words", |screen| {
        let screen = screen.contents();
        !cuts_a_word(&screen, HELP) && !cuts_a_word(&screen, OPTION)
    });
    // A long line goes on below, and back up again.
    let long = "word ".repeat(30);
    tty.press(&long).until("all words", |screen| {
        let screen = screen.contents();
        screen.matches("word").count() >= 25 && screen.matches("? note").count() == 1
    });
    tty.press("\x15").until("no words", |screen| {
        let screen = screen.contents();
        screen.matches("word ").count() == 0 && screen.matches("? note").count() == 1
    });
    tty.press("mind the dog");
    // What was typed stays when the window changes.
    tty.sees("mind the dog").widen(60).until("as wide as the window", |screen| {
        let screen = screen.contents();
        screen.lines().any(|line| line.trim_end().len() > 45) && !cuts_a_word(&screen, HELP)
    });
    tty.press("\r");
    assert_eq!(tty.end().0, 0);
    assert_eq!(output(&place, &run), json!({ "how": OPTION, "note": "mind the dog" }));
}

#[test]
fn of_many_options_one_is_found_by_typing_or_moving() {
    let place = Place::file();
    let options: Vec<String> = (1..=60).map(|n| format!("room {n}")).collect();
    let schema = json!({
        "type": "object",
        "properties": {
            "one": { "enum": options },
            "some": { "type": "array", "items": { "enum": options }, "uniqueItems": true },
            "none": { "enum": ["a", "b"] },
        },
        "required": ["one", "some"],
    });
    let (run, key) = asking(&place, "Which?", &schema);
    let tty = place.at_terminal(&["resume", &key], 80);
    tty.sees("❯ room 1").sees("1 of 60");
    tty.press(UP).sees("❯ room 60").press(DOWN).sees("❯ room 1\n");
    tty.press("room 42").sees("❯ room 42").sees("1 of 60 have this").press("\r");
    tty.sees("› one  room 42").sees("? some").sees("❯ [ ] room 1");
    tty.press(" ").sees("❯ [x] room 1").press(&format!("{END} ")).sees("❯ [x] room 60");
    tty.press("\r").sees("› some  room 1, room 60");
    tty.sees("❯ (skip)").press("\r");
    assert_eq!(tty.end().0, 0);
    assert_eq!(output(&place, &run), json!({ "one": "room 42", "some": ["room 1", "room 60"] }));
}

#[test]
fn a_key_that_is_typed_is_not_shown() {
    let place = Place::file();
    let (run, key) = place.park();
    let tty = place.at_terminal(&["answer", "-"], 80);
    tty.sees("? Suspension key").press(&format!("{key}\r")).sees("? approved (y/n)");
    tty.press("y\r").sees("? approved_by").press("Jane\r").sees("? comments").press("\r");
    let (code, screen) = tty.end();
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains(&key[..20]), "{screen}");
    assert!(screen.contains("accepted"), "{screen}");
    assert_eq!(place.status(&run), "ready");
}

/// A place whose terminals obey no escape sequences.
fn dumb() -> Place {
    let mut place = Place::file();
    place.set("TERM", "dumb");
    place
}

#[test]
fn what_is_filled_in_is_not_said_to_be_skipped_by_enter() {
    let place = Place::file();
    let schema = json!({
        "type": "object",
        "properties": {
            "team": { "type": "string", "default": "blue" },
            "note": { "type": "string", "default": "none" },
            "sure": { "type": "boolean", "default": true },
        },
    });
    let (run, key) = asking(&place, "?", &schema);
    let tty = place.at_terminal(&["resume", &key], 80);
    let filled = "Enter sends what stands here; emptied, it is skipped";
    tty.sees("? team  blue").sees(filled).press("\r").sees("› team  blue");
    tty.sees("? note  none").sees(filled).press(&BACKSPACE.repeat(4)).press("\r");
    tty.sees("? sure (y/n)  yes").sees(filled).press("\r");
    let (code, screen) = tty.end();
    assert_eq!(code, 0, "{screen}");
    assert_eq!(output(&place, &run), json!({ "team": "blue", "sure": true }));
}

#[test]
fn a_terminal_that_obeys_nothing_is_asked_line_by_line() {
    let place = dumb();
    let schema = json!({
        "type": "object",
        "properties": {
            "sure": { "type": "boolean" },
            "how": { "enum": [OPTION, "standard"] },
            "some": { "type": "array", "items": { "enum": ["a", "b", "c"] }, "uniqueItems": true },
            "count": { "type": "integer", "default": 7 },
            "note": { "type": "string", "description": HELP },
        },
        "required": ["sure", "how", "some", "count"],
    });
    let (run, key) = asking(&place, PROMPT, &schema);
    let tty = place.at_terminal(&["resume", "-"], 40);
    tty.sees("Suspension key").press(&format!("{key}\r"));
    tty.sees("Ctrl-C ends this").sees("? sure (y/n)").press("yes\r");
    tty.sees("? how").sees("2  standard");
    tty.until("whole words", |screen| !cuts_a_word(&screen.contents(), OPTION));
    tty.press("3\r").sees("none of them is called so").press("1\r");
    tty.sees("? some").press("1, c\r").sees("? count").sees("Enter alone takes 7\n> ");
    tty.press("many\r").sees("must be a whole number").press("\r12\r");
    tty.sees("? note").sees("Enter alone skips it").press("mind the dog\r");
    assert!(!tty.is_commanded());
    let (code, screen) = tty.end();
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains(&key[..20]), "{screen}");
    let given = json!({ "sure": true, "how": OPTION, "some": ["a", "c"], "count": 12, "note": "mind the dog" });
    assert_eq!(output(&place, &run), given);
}

#[test]
fn leaving_a_terminal_that_obeys_nothing_sends_nothing() {
    let place = dumb();
    let (run, key) = place.park();
    for leave in [CTRL_C, CTRL_D] {
        let tty = place.at_terminal(&["resume", &key], 80);
        tty.sees("? approved (y/n)").press("y\r").sees("? approved_by").press(leave);
        let (code, screen) = tty.end();
        assert_eq!(code, 130, "{leave:?}: {screen}");
        assert!(screen.contains("Nothing was sent"), "{leave:?}: {screen}");
    }
    let tty = place.at_terminal(&["cleanup", "--all"], 80);
    tty.sees("? Permanently remove 1 run? (y/n)\n  Enter alone takes no\n> ").press("\r");
    assert_eq!(tty.end().0, 130);
    assert_eq!(place.status(&run), "waiting");
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let place = Place::file();
    let (run, key) = place.park();
    let tty = place.at_terminal(&["resume", &key], 80);
    tty.sees("? approved (y/n)").until("marks are asked for", vt100::Screen::bracketed_paste);
    place.shell(&format!("kill -TERM {}", tty.id()));
    let (code, screen) = tty.end();
    assert_eq!(code, 130, "{screen}");
    assert!(screen.contains("Nothing was sent"), "{screen}");
    assert_eq!(place.status(&run), "waiting");
}

#[test]
fn removing_for_ever_asks_first() {
    let place = Place::file();
    let (run, _) = place.park();
    let asks = |keys: &str| {
        let tty = place.at_terminal(&["cleanup", "--all"], 80);
        tty.sees("? Permanently remove 1 run? (y/n)  no").press(keys);
        tty.end()
    };
    for keys in ["\r", ESC, "yn\r"] {
        let (code, screen) = asks(keys);
        assert_eq!(code, 130, "{screen}");
        assert!(screen.contains("Nothing was removed"), "{screen}");
        assert_eq!(place.status(&run), "waiting");
    }
    assert_eq!(asks("y\r").0, 0);
    assert_eq!(place.json(0, &["list"])["items"], json!([]));
}
