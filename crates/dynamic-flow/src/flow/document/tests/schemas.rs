//! The schema of documents, and the schemas in documents.

use super::*;

#[test]
fn the_schema_of_documents_refuses_what_the_reader_refuses() {
    let documents = Schema::new(document_schema()).unwrap();
    let fits = |step: Value| documents.validate(&json!({ "flow": "f", "steps": [step] })).is_ok();
    assert!(fits(json!({ "id": "s", "set": 1 })));
    assert!(fits(json!({ "id": "s", "call": "http", "with": 1 })));
    assert!(!fits(json!({ "id": "s" })));
    assert!(!fits(json!({ "set": 1 })));
    assert!(!fits(json!({ "id": "s", "set": 1, "get": "x" })));
    assert!(!fits(json!({ "id": "s", "set": 1, "with": 1 })));
    assert!(!fits(json!({ "id": "s", "try": [{ "id": "t", "set": 1 }] })));
    assert!(!fits(json!({ "id": "s", "tap": [] })));
    assert!(!fits(json!({ "id": "s", "fliter": true })));
    assert!(!fits(json!({ "id": "s", "await_input": {} })));
}

#[test]
fn the_schema_of_documents_knows_questions_as_the_reader_does() {
    let documents = Schema::new(document_schema()).unwrap();
    for (question, is_right) in [
        (json!({ "schema": true, "timeout": "never" }), true),
        (json!({ "schema": true, "timeout": "none" }), false),
        (json!({ "schema": true, "timeout": "30m1h" }), false),
        (json!({ "schema": true, "preset": "text" }), false),
        (json!({ "schema": true, "min": 1 }), false),
        (json!({ "schema": true, "timout": "1h" }), false),
        (json!({ "preset": "approval" }), true),
        (
            json!({ "preset": "approval", "require_comments": true, "allow_delegation": false }),
            true,
        ),
        (json!({ "preset": "approval", "require_comment": true }), false),
        (json!({ "preset": "approval", "require_comments": "yes" }), false),
        (json!({ "preset": "confirmation", "require_reason": true, "show": "${ value }" }), true),
        (json!({ "preset": "confirmation", "require_comments": true }), false),
        (json!({ "preset": "document_review", "allow_annotations": true }), true),
        (json!({ "preset": "text", "min_length": 1, "max_length": null, "pattern": "^a$" }), true),
        (json!({ "preset": "text", "min_length": -1 }), false),
        (json!({ "preset": "number", "min": 1, "max": 2.5, "integer": true }), true),
        (json!({ "preset": "number", "min": "low" }), false),
        (json!({ "preset": "choice" }), false),
        (json!({ "preset": "choice", "options": "yes" }), false),
        (json!({ "preset": "choice", "options": [] }), false),
        (json!({ "preset": "choice", "options": ["a", "a"] }), false),
        (json!({ "preset": "choice", "options": ["a", "b"], "multiple": true }), true),
        (json!({ "preset": "form", "fields": {} }), false),
        (json!({ "preset": "form" }), false),
        (json!({ "preset": "form", "fields": { "a": true, "b": {} }, "optional": ["a"] }), true),
        (json!({ "preset": "poll" }), false),
    ] {
        let document = json!({ "flow": "f", "steps": [{ "id": "s", "await_input": question }] });
        assert_eq!(documents.validate(&document).is_ok(), is_right, "{question}");
        assert_eq!(read(&document.to_string()).is_ok(), is_right, "{question}");
    }
}

#[test]
fn the_schema_of_documents_takes_every_duration_that_is_one() {
    let duration = Schema::new(document_schema()["$defs"]["duration"].clone()).unwrap();
    for text in [
        "500ms",
        "30s",
        "5m",
        "4h",
        "7d",
        "2w",
        "1h30m",
        "1h 30m",
        "1d12h",
        "1.5h",
        "90 minutes",
        "PT4H",
        "P1DT2H",
        "PT0.25S",
        "0s",
        "1 hour, 30 minutes",
        "2weeks 3days",
        "1hr 5mins 2secs",
        "1m 500 milliseconds",
        "1000us",
        "0y 4h",
        "+4h",
        "pt4h",
        "1d 10:30:00",
    ] {
        parse_duration(text).unwrap();
        assert!(duration.validate(&json!(text)).is_ok(), "{text}");
    }
    for text in ["", "30", "none", "never", "30m1h", "4h4", "four hours", "1m1d"] {
        parse_duration(text).unwrap_err();
        assert!(duration.validate(&json!(text)).is_err(), "{text}");
    }
}

#[test]
fn a_keyword_that_no_schema_has_is_told_and_borne_by_runs() {
    for (step, expected) in [
        (
            "input: { type: object, properties: { age: { tpye: integer } } }",
            "4:49: s: `input`: JSON Schema has no keyword `tpye`; did you mean `type`?",
        ),
        (
            "await_input: { preset: form, fields: { age: { minimun: 1 } } }",
            "4:51: s: `fields`.age: JSON Schema has no keyword `minimun`; did you mean `minimum`?",
        ),
        (
            "await_input: { schema: { zzz: 1 } }",
            "4:30: s: `schema`: JSON Schema has no keyword `zzz`; call it `x-zzz` if it is a note of \
             your own, or leave it out",
        ),
        (
            "await_input: { schema: true, timeout: never, default: 1 }",
            "4:50: s: `default` is never taken beside `timeout: never`: take one of them out",
        ),
    ] {
        assert_eq!(step_findings(step), [expected], "{step}");
        let document = format!("flow: f\nsteps:\n  - id: s\n    {step}\n");
        Flow::from_document_of_run(&document, &tools()).unwrap();
    }
    kind("input: { x-a: 1, title: T, description: D, examples: [1], $comment: c, format: date }");
}

#[test]
fn the_examples_are_read_and_fit_the_schema_of_documents() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/");
    let file = |name: &str| std::fs::read_to_string(format!("{folder}{name}")).unwrap();
    let documents = Schema::new(document_schema()).unwrap();
    for (document, input) in
        [("purchase-approval.yaml", "order.json"), ("document-review.yaml", "document.json")]
    {
        let text = file(document);
        let flow = Flow::from_document(&text, &ToolRegistry::new());
        let flow = flow.unwrap_or_else(|error| panic!("{document}: {:#?}", error.findings()));
        let input: Value = serde_json::from_str(&file(input)).unwrap();
        assert_eq!(flow.def().input.validate(&input), Ok(()), "{document}");
        let (node, _) = parse(&text);
        assert_eq!(documents.validate(&node.unwrap().to_value()), Ok(()), "{document}");
    }
}
