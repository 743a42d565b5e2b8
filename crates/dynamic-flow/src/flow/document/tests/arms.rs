//! Cases that are missing where the answers are known.

use super::*;

#[test]
fn an_answer_that_has_no_case_is_told() {
    let choice = "  - { id: ask, await_input: { preset: choice, options: [x, y] } }\n";
    let switch = |cases: &str| {
        format!(
            "{choice}  - id: s\n    switch:\n      on: \"${{ value.choice }}\"\n      {cases}\n"
        )
    };
    assert_eq!(
        told(&switch("cases: { x: [] }")),
        ["6:11: s: `y` may be chosen, but there is no such case, and no `default`"]
    );
    assert_eq!(told(&switch("cases: { x: [], y: [] }")), [""; 0]);
    assert_eq!(told(&switch("cases: { x: [] }\n      default: []")), [""; 0]);

    let review = "  - { id: ask, await_input: { preset: document_review } }
  - id: s
    switch:
      on: \"${ value.decision }\"
      cases:
        approved: []
        rejectd: []
";
    assert_eq!(
        told(review),
        [
            "6:11: s: `needs_changes` may be chosen, but there is no such case, and no `default`",
            "6:11: s: `rejected` may be chosen, but there is no such case, and no `default`",
            "9:9: s: the case `rejectd` is never chosen; did you mean `rejected`?",
        ]
    );
    // In a text of some dozens of answers, what is missing is told of in one.
    let many: Vec<String> = (10..90).map(|n| format!("o{n}")).collect();
    let many = format!(
        "  - {{ id: ask, await_input: {{ preset: choice, options: [{}] }} }}\n  - id: s\n    \
         switch: {{ on: \"${{ value.choice }}\", cases: {{ o10: [] }} }}\n",
        many.join(", ")
    );
    let many = told(&many);
    assert_eq!(many.len(), 11, "{many:#?}");
    assert!(many[10].contains("69 more"), "{many:#?}");
}

#[test]
fn a_switch_on_what_is_true_or_false_has_a_case_for_each() {
    let on = |on: &str, cases: &str| {
        told(&format!(
            "  - {{ id: in, input: {{ properties: {{ ok: {{ type: boolean }} }} }} }}\n  - id: s\n    \
             switch: {{ on: \"${{ {on} }}\", cases: {cases} }}\n"
        ))
    };
    let missing = "5:19: s: `false` may be chosen, but there is no such case, and no `default`";
    for route in [
        "value.a > 1",
        "value.a == value.b",
        "value.ok",
        "!value.ok",
        "value.a && value.b",
        "value.a || value.b",
        "has(value.a)",
        "'a' in value",
        "value.a.startsWith('b')",
        "value.a.matches('b')",
        "value.a.exists(it, it == 1)",
        "value.a ? value.ok : value.b > 1",
    ] {
        assert_eq!(on(route, "{ 'true': [] }"), [missing], "{route}");
        assert_eq!(on(route, "{ 'true': [], 'false': [] }"), [""; 0], "{route}");
        let told = on(route, "{ 'yes': [], 'true': [], 'false': [] }");
        assert_eq!(told.len(), 1, "{route}: {told:#?}");
        assert!(told[0].contains("the case `yes` is never chosen"), "{told:#?}");
    }
    for route in ["value.other", "string(value.a)", "dyn(value.ok)"] {
        assert_eq!(on(route, "{ 'true': [] }"), [""; 0], "{route}");
    }
}

#[test]
fn what_was_looked_at_before_may_have_no_case() {
    let ask = "  - { id: ask, await_input: { preset: choice, options: [x, y] } }\n";
    let switch = "  - { id: s, switch: { on: \"${ value.choice }\", cases: { x: [] } } }\n";
    let filter = |predicate: &str| format!("  - {{ id: f, filter: \"${{ {predicate} }}\" }}\n");
    let number = |steps: &str| told(steps).len();
    assert_eq!(number(&format!("{ask}{switch}")), 1);
    assert_eq!(number(&format!("{ask}{}{switch}", filter("value.choice != 'y'"))), 0);
    assert_eq!(number(&format!("{ask}{}{switch}", filter("size(value) > 1"))), 0);
    // The flow's input is something else.
    assert_eq!(number(&format!("{ask}{}{switch}", filter("input.a != 'y'"))), 1);
    // What another variable has, or a filter inside a body that this does not come from.
    let kept = format!(
        "{ask}  - {{ id: k, tap: [{{ id: f, filter: \"${{ input.a == 'y' }}\" }}] }}\n{switch}"
    );
    assert_eq!(number(&kept), 1);
    let route = |route: &str| {
        format!("{ask}  - {{ id: s, switch: {{ on: \"${{ {route} }}\", cases: {{ x: [] }} }} }}\n")
    };
    assert_eq!(number(&route("value.choice == 'y' ? 'x' : value.choice")), 0);
    assert_eq!(number(&route("has(value.choice) ? value.choice : 'x'")), 1);
    assert_eq!(number(&route("input.a ? value.choice : 'x'")), 1);
    // Remembered, it is still what was looked at.
    let remembered = format!(
        "{ask}{}  - {{ id: l, let: {{ v: \"${{ value }}\" }} }}\n  - id: s\n    \
         switch: {{ on: \"${{ vars.v.choice }}\", cases: {{ x: [] }} }}\n",
        filter("value.choice != 'y'")
    );
    assert_eq!(number(&remembered), 0);
    let nested = format!(
        "{ask}  - id: s\n    switch:\n      on: \"${{ value.choice }}\"\n      cases:\n        y: []\n        \
         x: [{{ id: t, switch: {{ on: \"${{ value.choice }}\", cases: {{ x: [] }} }} }}]\n"
    );
    assert_eq!(number(&nested), 0);
}

#[test]
fn a_parked_run_goes_on_without_a_case() {
    let text = "flow: f
steps:
  - { id: ask, await_input: { preset: choice, options: [x, y] } }
  - { id: s, switch: { on: '${ value.choice }', cases: { x: [] } } }
";
    assert_eq!(findings(text).len(), 1);
    Flow::from_document_of_run(text, &tools()).unwrap();
}
