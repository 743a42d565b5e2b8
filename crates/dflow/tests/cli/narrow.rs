//! What people read, at terminals that are narrow.

use serde_json::json;

use crate::{
    support::{Place, YES},
    tty::cuts_a_word,
};

/// What stands on the screen after a call, at a terminal of that many columns.
fn shown(place: &Place, args: &[&str], columns: u16) -> String {
    place.at_terminal(args, columns).end_as_seen().1
}

#[test]
fn a_list_leaves_out_columns_before_it_cuts_what_is_typed_again() {
    let place = Place::file();
    let (run, _) = place.park();
    for (columns, headings) in [
        (140, &["RUN", "FLOW", "STATUS", "WAITS FOR", "EXPIRES", "CREATED", "METADATA"][..]),
        (100, &["RUN", "FLOW", "STATUS", "WAITS FOR", "EXPIRES"]),
        (80, &["RUN", "FLOW", "STATUS", "EXPIRES"]),
        (60, &["RUN", "FLOW", "STATUS"]),
        (50, &["RUN", "FLOW"]),
        (42, &["RUN"]),
    ] {
        let list = shown(&place, &["list"], columns);
        let mut lines = list.lines();
        let heading = lines.next().unwrap();
        let words = heading.split("  ").map(str::trim).filter(|word| !word.is_empty());
        assert_eq!(words.collect::<Vec<_>>(), headings, "{columns}: {list}");
        let row = lines.next().unwrap();
        assert!(row.starts_with(&run), "{columns}: {list}");
        let flow = if columns < 80 { "purchase" } else { "purchase-approval  " };
        assert_eq!(row.contains(flow), headings.contains(&"FLOW"), "{columns}: {list}");
        assert_eq!(lines.find(|line| !line.trim().is_empty()), None, "{columns}: {list}");
    }
    // Where nobody looks at it, it is whole.
    let list = place.call(&["list"]).out;
    assert!(list.contains("manager-approval") && list.contains("department=radiology"), "{list}");
}

#[test]
fn receipts_and_reasons_break_between_words() {
    let place = Place::file();
    let who = "Jane of the department for replacement transducers and other spare parts";
    let (run, key) = place.park();
    let answered = ["answer", &key, "--input", YES, "--by", who];
    let answered = shown(&place, &answered, 50);
    assert!(!cuts_a_word(&answered, who), "{answered}");
    // What is to be copied stays on one line, for the terminal to break.
    assert!(answered.contains("\n  next  "), "{answered}");
    let accepted = shown(&place, &["show", &run, "--format", "tree"], 50);
    assert!(!cuts_a_word(&accepted, who), "{accepted}");
    place.json(0, &["work", "--once"]);
    let receipts = shown(&place, &["show", &run], 50);
    assert!(!cuts_a_word(&receipts, who), "{receipts}");
    let (other, _) = place.park();
    place.json(0, &["cancel", &other, "--reason", who]);
    let ended = shown(&place, &["show", &other], 50);
    assert!(!cuts_a_word(&ended, who), "{ended}");
}

#[test]
fn what_is_told_breaks_between_words() {
    let place = Place::file();
    let (run, _) = place.park();
    let show = shown(&place, &["show", &run], 42);
    let expires = show.lines().find(|line| line.contains("expires")).unwrap();
    assert!(expires.contains('Z'), "{show}");
    assert!(show.contains("    │  ◀ waits here\n"), "{show}");
    let doctor = shown(&place, &["doctor"], 50);
    let unsealed = "whoever can read or write the store can read or change them. Set \
                    FLOW_ENCRYPTION_KEY for a new store";
    assert!(!cuts_a_word(&doctor, unsealed), "{doctor}");
    let tools = shown(&place, &["tools"], 40);
    let http = "Sends an HTTP request to an allowed host and gives the response.";
    assert!(!cuts_a_word(&tools, http), "{tools}");
    let wrong = shown(&place, &["list", "--status", "sleeping"], 50);
    let statuses = "waiting, ready, running, completed, rejected, failed, expired, cancelled]";
    assert!(!cuts_a_word(&wrong, statuses), "{wrong}");
    let key = shown(&place, &["keygen"], 60);
    let kept = "FLOW_ENCRYPTION_KEY, and keep it: without it nothing opens again";
    assert!(!cuts_a_word(&key, kept), "{key}");
}

#[test]
fn what_a_flow_says_of_itself_breaks_between_words() {
    let place = Place::file();
    let about = "Asks whether the seventeen replacement transducers are to be delivered";
    let document = json!({
        "flow": "f",
        "description": about,
        "input": { "type": "string" },
        "steps": [{ "id": "a", "set": 1 }],
    });
    let flow = place.write("flow.yaml", &document.to_string());
    let tty = place.at_terminal(&["run", flow], 40);
    tty.sees("? answer").press("\x03");
    let screen = tty.end_as_seen().1;
    assert!(!cuts_a_word(&screen, about), "{screen}");
}
