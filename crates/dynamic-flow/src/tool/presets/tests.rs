use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::*;
use crate::{ErrorKind, Schema};

fn schema<A>(question: AwaitInput<A>) -> Schema {
    question.into_def().unwrap().schema
}

/// Whether an answer is taken; one that is must read as the typed answer.
fn takes<A: DeserializeOwned + JsonSchema>(question: AwaitInput<A>, answer: &Value) -> bool {
    let fits = schema(question).validate(answer).is_ok();
    if fits {
        crate::value::from_value::<A>(answer).expect("what fits reads as its type");
        assert_eq!(Schema::of::<A>().unwrap().validate(answer), Ok(()));
    }
    fits
}

/// The places where an answer does not fit.
fn pointers<A>(question: AwaitInput<A>, answer: &Value) -> Vec<String> {
    let violations = schema(question).validate(answer).expect_err("it must not fit");
    violations.into_iter().map(|violation| violation.pointer).collect()
}

fn approval() -> AwaitInput<Approval> {
    HumanInTheLoop::approval("ask")
}

#[test]
fn an_approval_says_who_and_takes_comments_or_requires_them() {
    let bare = json!({ "approved": false, "approved_by": "jane" });
    let silent = json!({ "approved": true, "approved_by": "jane", "comments": "" });
    let null = json!({ "approved": true, "approved_by": "jane", "comments": null });
    let said = json!({ "approved": true, "approved_by": "jane", "comments": "fine" });
    for answer in [&bare, &silent, &null, &said] {
        assert!(takes(approval(), answer), "{answer}");
    }
    assert!(takes(approval().require_comments(), &said));
    for answer in [&bare, &silent, &null] {
        assert!(!takes(approval().require_comments(), answer), "{answer}");
    }
    assert_eq!(pointers(approval().require_comments(), &silent), ["/comments"]);
    assert!(!takes(approval(), &json!({ "approved": true })));
    assert!(!takes(approval(), &json!({ "approved": true, "approved_by": "" })));
    assert!(!takes(approval(), &json!({ "approved": "yes", "approved_by": "jane" })));
    assert!(!takes(approval(), &json!({ "approved": true, "approved_by": "jane", "x": 1 })));
}

#[test]
fn an_approval_is_handed_on_only_where_that_is_allowed() {
    let answer = json!({ "approved": false, "approved_by": "jane", "delegated_to": "joe" });
    assert!(!takes(approval(), &answer));
    assert!(!takes(approval().require_comments(), &answer));
    assert!(takes(approval().allow_delegation(), &answer));
    assert!(!takes(approval().allow_delegation().require_comments(), &answer));
}

#[test]
fn a_confirmation_requires_a_reason_where_that_is_said() {
    let ask = || HumanInTheLoop::confirmation("ask");
    let bare = json!({ "confirmed": true });
    let said = json!({ "confirmed": false, "confirmed_by": "jane", "reason": "too early" });
    assert!(takes(ask(), &bare) && takes(ask(), &said));
    assert!(!takes(ask().require_reason(), &bare));
    assert!(!takes(ask().require_reason(), &json!({ "confirmed": true, "reason": "" })));
    assert!(takes(ask().require_reason(), &said));
    assert!(!takes(ask(), &json!({})));
}

#[test]
fn a_review_has_three_verdicts_and_annotations_where_they_are_allowed() {
    let ask = || HumanInTheLoop::document_review("ask");
    for decision in ["approved", "rejected", "needs_changes"] {
        assert!(takes(ask(), &json!({ "decision": decision, "reviewed_by": "jane" })));
    }
    assert!(!takes(ask(), &json!({ "decision": "maybe", "reviewed_by": "jane" })));
    assert!(!takes(ask(), &json!({ "decision": "approved" })));
    let annotated = |annotation: Value| json!({ "decision": "rejected", "reviewed_by": "jane", "annotations": [annotation] });
    let remark = annotated(json!({ "place": "page 3", "text": "a typo" }));
    assert!(!takes(ask(), &remark));
    assert!(takes(ask().allow_annotations(), &remark));
    assert!(takes(ask().allow_annotations(), &annotated(json!({ "text": "short" }))));
    assert_eq!(
        pointers(ask().allow_annotations(), &annotated(json!({ "text": "" }))),
        ["/annotations/0/text"]
    );
}

#[test]
fn a_text_has_its_length_and_pattern() {
    let ask = || HumanInTheLoop::text("ask");
    assert!(takes(ask(), &json!({ "text": "" })));
    assert!(!takes(ask(), &json!({ "text": 1 })));
    let strict = || ask().min_length(2).max_length(3).pattern("^[a-z]+$");
    assert!(takes(strict(), &json!({ "text": "abc" })));
    for text in ["a", "abcd", "AB"] {
        assert!(!takes(strict(), &json!({ "text": text })), "{text}");
    }
}

#[test]
fn a_number_has_its_bounds_and_may_have_to_be_whole() {
    let ask = || HumanInTheLoop::number("ask");
    assert!(takes(ask(), &json!({ "number": -0.5 })));
    assert!(!takes(ask(), &json!({ "number": "1" })));
    let strict = || ask().min(1.0).max(3.0).integer();
    assert!(takes(strict(), &json!({ "number": 1 })) && takes(strict(), &json!({ "number": 3 })));
    for number in [0.0, 4.0, 1.5] {
        assert!(!takes(strict(), &json!({ "number": number })), "{number}");
    }
}

#[test]
fn a_choice_is_among_the_options() {
    let one = || HumanInTheLoop::choice("ask", ["red", "blue"]);
    assert!(takes(one(), &json!({ "choice": "red" })));
    assert!(!takes(one(), &json!({ "choice": "green" })));
    let some = || HumanInTheLoop::choices("ask", ["red", "blue"]);
    assert!(takes(some(), &json!({ "choices": ["blue", "red"] })));
    for choices in [json!([]), json!(["red", "red"]), json!(["green"]), json!("red")] {
        assert!(!takes(some(), &json!({ "choices": choices })), "{choices}");
    }
}

#[test]
fn a_form_has_its_fields_and_no_others() {
    let ask = || {
        HumanInTheLoop::form("ask")
            .field("amount", json!({ "type": "number", "minimum": 0 }))
            .optional_field("note", json!({ "type": "string" }))
    };
    assert!(takes(ask(), &json!({ "amount": 1 })));
    assert!(takes(ask(), &json!({ "amount": 1, "note": "x" })));
    assert!(!takes(ask(), &json!({ "note": "x" })));
    assert!(!takes(ask(), &json!({ "amount": 1, "other": 1 })));
    assert_eq!(pointers(ask(), &json!({ "amount": -1 })), ["/amount"]);
    let required_after_all = ask().field("note", json!({ "type": "string" }));
    assert!(!takes(required_after_all, &json!({ "amount": 1 })));
}

#[test]
fn typed_defaults_fit_their_schemas() {
    let approval = approval().default_value(Approval {
        approved: false,
        approved_by: "system".into(),
        comments: None,
        delegated_to: None,
    });
    assert_eq!(
        approval.clone().into_def().unwrap().default,
        Some(json!({ "approved": false, "approved_by": "system" }))
    );
    assert!(approval.clone().into_tool().is_ok());
    assert!(approval.require_comments().into_tool().is_err(), "the default has no comments");
    let review = HumanInTheLoop::document_review("ask").default_value(DocumentReview {
        decision: ReviewDecision::NeedsChanges,
        reviewed_by: "system".into(),
        comments: None,
        annotations: Vec::new(),
    });
    assert!(review.into_tool().is_ok());
}

fn problems(preset: &Preset) -> Vec<String> {
    let error = preset.schema().expect_err("no answer could satisfy it");
    assert_eq!(error.kind(), ErrorKind::InvalidFlow);
    error.findings().iter().map(ToString::to_string).collect()
}

#[test]
fn options_that_no_answer_could_satisfy_are_refused() {
    let text = |min, max| Preset::Text { min_length: min, max_length: max, pattern: None };
    assert_eq!(problems(&text(Some(2), Some(1))), ["min_length 2 is greater than max_length 1"]);
    assert!(text(Some(1), Some(1)).schema().is_ok());
    let number = |min, max, integer| Preset::Number { min: Some(min), max: Some(max), integer };
    assert_eq!(problems(&number(2.0, 1.0, false)), ["min 2 is greater than max 1"]);
    assert_eq!(problems(&number(0.0, f64::NAN, false)), ["min and max are finite numbers"]);
    assert_eq!(problems(&number(0.2, 0.8, true)), ["there is no whole number from 0.2 to 0.8"]);
    assert!(number(0.2, 0.8, false).schema().is_ok());
    assert!(number(0.2, 1.0, true).schema().is_ok());
    let choice = |options: &[&str]| Preset::Choice {
        options: options.iter().map(ToString::to_string).collect(),
        multiple: false,
    };
    assert_eq!(problems(&choice(&[])), ["a choice needs at least one option"]);
    assert_eq!(problems(&choice(&["a", "b", "a"])), ["the option \"a\" is there twice"]);
    assert_eq!(problems(&Preset::form()), ["a form needs at least one field"]);
    let form = Preset::Form {
        fields: [("amount".to_owned(), json!({ "type": "nothing" }))].into_iter().collect(),
        optional: ["note".to_owned()].into(),
    };
    let found = problems(&form);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("field \"amount\": "), "{found:?}");
    assert_eq!(found[1], "there is no field \"note\"");
    let pattern = Preset::Text { min_length: None, max_length: None, pattern: Some("(".into()) };
    assert_eq!(pattern.schema().unwrap_err().kind(), ErrorKind::InvalidFlow);
}

#[test]
fn a_preset_reads_as_documents_write_it_and_means_the_same() {
    let read = |preset: Value| serde_json::from_value::<Preset>(preset);
    let preset = read(json!({ "preset": "approval", "require_comments": true })).unwrap();
    assert_eq!(preset.schema().unwrap(), schema(approval().require_comments()));
    for preset in [
        json!({ "preset": "approval" }),
        json!({ "preset": "confirmation" }),
        json!({ "preset": "document_review", "allow_annotations": true }),
        json!({ "preset": "text", "min_length": 1, "max_length": 9, "pattern": "x" }),
        json!({ "preset": "number", "min": 0, "max": 1.5, "integer": true }),
        json!({ "preset": "choice", "options": ["a"], "multiple": true }),
        json!({ "preset": "form", "fields": { "a": {} }, "optional": ["a"] }),
    ] {
        let preset = read(preset).unwrap();
        assert!(preset.schema().is_ok(), "{preset:?}");
        assert_eq!(read(json!(preset)).unwrap(), preset);
    }
    for wrong in [
        json!({ "preset": "approval", "require_coments": true }),
        json!({ "preset": "unknown" }),
        json!({ "preset": "choice" }),
        json!({ "require_comments": true }),
    ] {
        assert!(read(wrong.clone()).is_err(), "{wrong}");
    }
}
