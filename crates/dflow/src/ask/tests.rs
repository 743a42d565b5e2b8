//! Interviews with somebody whose answers are written down.

use std::collections::VecDeque;

use serde_json::json;

use super::*;

/// What somebody answers to a question of that label.
enum Reply {
    Yes(bool),
    Pick(usize),
    Picks(Vec<usize>),
    Line(&'static str),
    Skip,
    Stop,
}
use Reply::{Line, Pick, Picks, Skip, Stop, Yes};

#[derive(Default)]
struct Script {
    replies: VecDeque<(&'static str, Reply)>,
    complaints: Vec<String>,
    usual: Vec<String>,
    help: Vec<String>,
}

impl Script {
    fn new(replies: impl IntoIterator<Item = (&'static str, Reply)>) -> Self {
        Self { replies: replies.into_iter().collect(), ..Self::default() }
    }

    fn next(&mut self, question: &Question<'_>) -> Reply {
        let (label, reply) = self.replies.pop_front().expect("no further question");
        assert_eq!(question.label, label);
        reply
    }
}

impl Prompt for Script {
    fn confirm(&mut self, question: Question<'_>, usual: Option<bool>) -> Asked<bool> {
        self.usual.push(format!("{usual:?}"));
        match self.next(&question) {
            Yes(yes) => Ok(Some(yes)),
            Skip => Ok(None),
            Stop => Err(Stopped),
            _ => panic!("{} asks for yes or no", question.label),
        }
    }

    fn choose(&mut self, question: Question<'_>, _: &[String], _: Option<usize>) -> Asked<usize> {
        match self.next(&question) {
            Pick(index) => Ok(Some(index)),
            Skip => Ok(None),
            Stop => Err(Stopped),
            _ => panic!("{} asks for a choice", question.label),
        }
    }

    fn choose_several(
        &mut self,
        question: Question<'_>,
        _: &[String],
        _: &[usize],
    ) -> Asked<Vec<usize>> {
        match self.next(&question) {
            Picks(indexes) => Ok(Some(indexes)),
            Skip => Ok(None),
            Stop => Err(Stopped),
            _ => panic!("{} asks for choices", question.label),
        }
    }

    fn line(&mut self, question: Question<'_>, usual: &str) -> Asked<String> {
        self.usual.push(usual.to_owned());
        self.help.extend(question.help.map(str::to_owned));
        match self.next(&question) {
            Line(line) => Ok(Some(line.to_owned())),
            Skip => Ok(None),
            Stop => Err(Stopped),
            _ => panic!("{} asks for a line", question.label),
        }
    }

    fn secret(&mut self, label: &str) -> Result<String, Stopped> {
        panic!("nothing secret is asked for: {label}")
    }

    fn complain(&mut self, message: &str) {
        self.complaints.push(message.to_owned());
    }
}

/// Holds an interview that must use up its script.
fn held(schema: Value, script: &mut Script) -> Result<Value, Stopped> {
    let value = interview(script, &Schema::new(schema).unwrap());
    assert!(script.replies.is_empty(), "{} questions were not asked", script.replies.len());
    value
}

fn approval() -> Value {
    json!({
        "type": "object",
        "properties": {
            "approved": { "type": "boolean" },
            "approved_by": { "type": "string", "minLength": 1 },
            "comments": { "type": ["string", "null"] },
        },
        "required": ["approved", "approved_by"],
        "additionalProperties": false,
    })
}

#[test]
fn a_complaint_shows_what_would_be_right() {
    let schema = Schema::new(json!({
        "type": "object",
        "properties": {
            "zip": { "type": "string", "pattern": "^[0-9]{5}$", "examples": ["12345"] },
            "born": { "type": "string", "format": "date", "examples": ["1980-01-01"] },
        },
        "required": ["zip", "born"],
    }));
    let lines = [("zip", "1"), ("zip", "54321"), ("born", "28 Feb"), ("born", "1990-02-28")];
    let mut script = Script::new(lines.map(|(label, line)| (label, Line(line))));
    interview(&mut script, &schema.unwrap()).unwrap();
    assert_eq!(
        script.complaints,
        [
            "must match the pattern ^[0-9]{5}$, such as 12345",
            "must have the format date, such as 1990-02-28",
        ]
    );
}

#[test]
fn an_approval_is_asked_for_field_by_field() {
    let mut script = Script::new([
        ("approved", Yes(true)),
        ("approved_by", Line("Jane")),
        ("comments", Line("")),
    ]);
    let value = held(approval(), &mut script).unwrap();
    assert_eq!(value, json!({ "approved": true, "approved_by": "Jane" }));
    assert!(script.complaints.is_empty());
}

#[test]
fn a_field_that_does_not_fit_is_asked_for_at_once() {
    let mut script = Script::new([
        ("approved", Skip),
        ("approved", Yes(false)),
        ("approved_by", Line("")),
        ("approved_by", Line("Jane")),
        ("comments", Line("too dear")),
    ]);
    let value = held(approval(), &mut script).unwrap();
    assert_eq!(value["comments"], "too dear");
    assert_eq!(script.complaints.len(), 2);
    assert!(script.complaints[1].contains("at least 1 character"), "{:?}", script.complaints);
}

#[test]
fn numbers_are_checked_and_offered_again() {
    let schema = json!({
        "type": "object",
        "properties": { "count": { "type": "integer", "minimum": 1 }, "price": { "type": "number" } },
        "required": ["count", "price"],
    });
    let mut script = Script::new([
        ("count", Line("two")),
        ("count", Line("2.5")),
        ("count", Line("0")),
        ("count", Line(" 2 ")),
        ("price", Line("true")),
        ("price", Line("12.5")),
    ]);
    let value = held(schema, &mut script).unwrap();
    assert_eq!(value, json!({ "count": 2, "price": 12.5 }));
    assert_eq!(script.usual, ["", "two", "2.5", "0", "", "true"]);
    assert_eq!(script.complaints.len(), 4);
}

#[test]
fn what_only_the_whole_can_tell_is_asked_for_again_where_it_is() {
    // Whoever refuses must say why: no single field can know.
    let schema = json!({
        "type": "object",
        "properties": {
            "approved": { "type": "boolean" },
            "by": { "type": "string" },
            "why": { "type": "string" },
        },
        "required": ["approved", "by"],
        "if": { "properties": { "approved": { "const": false } } },
        "then": { "properties": { "why": { "minLength": 10 } } },
    });
    let mut script = Script::new([
        ("approved", Yes(false)),
        ("by", Line("Jane")),
        ("why", Line("no")),
        // Only this one again, with what was given.
        ("why", Line("it is far too dear")),
    ]);
    let value = held(schema, &mut script).unwrap();
    assert_eq!(value, json!({ "approved": false, "by": "Jane", "why": "it is far too dear" }));
    assert_eq!(script.complaints, ["why: must have at least 10 characters"]);
    assert_eq!(script.usual.last().unwrap(), "no");
}

#[test]
fn what_is_wrong_between_fields_asks_for_all_of_them_again() {
    let schema = json!({
        "type": "object",
        "properties": { "a": { "type": "string" }, "b": { "type": "string" } },
        "minProperties": 1,
    });
    let mut script = Script::new([("a", Line("")), ("b", Skip), ("a", Line("x")), ("b", Line(""))]);
    assert_eq!(held(schema, &mut script).unwrap(), json!({ "a": "x" }));
}

#[test]
fn nested_objects_and_lists_are_asked_for_item_by_item() {
    let schema = json!({
        "type": "object",
        "properties": {
            "address": {
                "type": "object",
                "properties": { "city": { "type": "string" }, "zip": { "type": "string" } },
                "required": ["city"],
            },
            "remarks": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": { "text": { "type": "string" } },
                    "required": ["text"],
                },
            },
            "tags": { "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": 3 },
        },
        "required": ["address", "tags"],
    });
    let mut script = Script::new([
        ("address.city", Line("Ghent")),
        ("address.zip", Line("")),
        ("remarks[1]: give it?", Yes(true)),
        ("remarks[1].text", Line("good")),
        ("remarks[2]: give it?", Yes(false)),
        ("tags[1]", Line("urgent")),
        ("tags[2]", Line("")),
    ]);
    assert_eq!(
        held(schema, &mut script).unwrap(),
        json!({
            "address": { "city": "Ghent" },
            "remarks": [{ "text": "good" }],
            "tags": ["urgent"],
        })
    );
}

#[test]
fn a_list_of_which_nothing_is_given_is_left_out_or_empty() {
    for (required, given) in
        [(json!([]), json!({})), (json!(["remarks"]), json!({ "remarks": [] }))]
    {
        let schema = json!({
            "type": "object",
            "properties": { "remarks": { "type": "array", "items": { "type": "string" } } },
            "required": required,
        });
        let mut script = Script::new([("remarks[1]", Line(""))]);
        assert_eq!(held(schema, &mut script).unwrap(), given);
    }
}

#[test]
fn choices_give_their_values() {
    let schema = json!({
        "type": "object",
        "properties": {
            "decision": { "enum": ["approved", "rejected"] },
            "level": { "oneOf": [{ "const": 1 }, { "const": 2 }] },
            "colors": { "type": "array", "items": { "enum": ["red", "green"] }, "uniqueItems": true },
            "kind": { "const": "review" },
            "extra": { "enum": ["x"] },
        },
        "required": ["colors", "decision", "kind", "level"],
    });
    let mut script = Script::new([
        ("decision", Pick(1)),
        ("level", Pick(0)),
        ("colors", Picks(vec![1])),
        ("extra", Skip),
    ]);
    assert_eq!(
        held(schema, &mut script).unwrap(),
        json!({ "colors": ["green"], "decision": "rejected", "kind": "review", "level": 1 })
    );
}

#[test]
fn a_value_that_may_be_null_is_null_when_it_is_skipped() {
    let schema = json!({
        "type": "object",
        "properties": { "until": { "type": ["string", "null"] } },
        "required": ["until"],
    });
    let mut script = Script::new([("until", Line(""))]);
    assert_eq!(held(schema, &mut script).unwrap(), json!({ "until": null }));
}

#[test]
fn anything_else_is_typed_as_json() {
    let mut script = Script::new([
        ("answer", Line("{nonsense")),
        ("answer", Line("")),
        ("answer", Line("{\"a\": [1]}")),
    ]);
    assert_eq!(held(json!(true), &mut script).unwrap(), json!({ "a": [1] }));
    assert_eq!(script.usual[1], "{nonsense");
    assert_eq!(script.complaints[1], "must be JSON, and is empty");
    // Nobody would guess it.
    assert!(script.help[0].contains("as JSON"), "{:?}", script.help);
}

#[test]
fn what_does_not_fit_is_called_as_its_question_is() {
    for (pointer, shown) in
        [("", "no"), ("/tags", "tags: no"), ("/who/mails/0/a~1b", "who.mails[1].a/b: no")]
    {
        let violation = Violation::new(pointer, "no");
        assert_eq!(told(&violation), shown);
    }
}

#[test]
fn enough_is_enough() {
    let mut script = Script::new([("approved", Yes(true)), ("approved_by", Stop)]);
    assert_eq!(held(approval(), &mut script), Err(Stopped));
}
