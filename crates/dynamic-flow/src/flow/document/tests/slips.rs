//! The usual slips are told with what to do about them.

use super::*;

#[test]
fn what_is_no_yaml_is_told_with_a_remedy() {
    let quotes = "; put a text with {{ … }}, {% … %} or ${ … } in quotes";
    for (step, expected) in [
        ("set: {{ value.x }}", format!("4:11: the name of a field must be text{quotes}")),
        ("set: {{ value.x }} and more", format!("4:11: the name of a field must be text{quotes}")),
        (
            "set: ${ value.x ? \"a\" : \"b\" }",
            format!("4:27: mapping values are not allowed in this context{quotes}"),
        ),
        (
            "await_input: { prompt: Hi {{ value.x }}, schema: true }",
            format!("4:31: while parsing a flow mapping, did not find expected ',' or '}}'{quotes}"),
        ),
        ("set: {% if value.x %}a{% endif %}", format!("4:11: unexpected character: `%'{quotes}")),
        (
            "set: @foo",
            "4:10: unexpected character: `@'; put a text that begins with @ in quotes".into(),
        ),
        (
            "set: `foo`",
            "4:10: unexpected character: ``'; put a text that begins with ` in quotes".into(),
        ),
        (
            "set: %a",
            "4:10: unexpected character: `%'; put a text that begins with % in quotes".into(),
        ),
        (
            "await_input:\n  prompt: Approve: yes?\n  schema: true",
            "5:22: mapping values are not allowed in this context; put a text with a colon and a \
             space in it in quotes"
                .into(),
        ),
        (
            "set: \"C:\\dir\"",
            "4:10: while parsing a quoted scalar, found unknown escape character; write \\\\ for \\ in \
             double quotes, or use single quotes"
                .into(),
        ),
        (
            "set: '{{ value }}' : 1",
            "4:24: mapping values are not allowed in this context; put a text with a colon and a \
             space in it in quotes"
                .into(),
        ),
    ] {
        assert_eq!(step_findings(step), [expected], "{step}");
    }
    assert_eq!(
        findings("flow: f\nsteps:\n  - id:a\n    set: 1\n"),
        [
            "4:8: mapping values are not allowed in this context; put a space behind the colon in the \
             line before: `id: a`"
        ]
    );
}

#[test]
fn a_misspelt_field_of_a_question_is_known_beside_a_preset_too() {
    for (wrong, right) in [
        ("timout", "timeout"),
        ("promt", "prompt"),
        ("metdata", "metadata"),
        ("defualt", "default"),
        ("shw", "show"),
        ("desciption", "description"),
    ] {
        assert_eq!(
            step_findings(&format!("await_input: {{ preset: text, {wrong}: 1h }}")),
            [format!("4:34: s: `await_input` has no field `{wrong}`; did you mean `{right}`?")]
        );
    }
    let far = step_findings("await_input: { preset: text, require_reason: true }");
    assert_eq!(far.len(), 1, "{far:?}");
    let start =
        "4:34: s: the preset `text` has no field `require_reason`; known are `min_length`, ";
    assert!(far[0].starts_with(start) && far[0].contains("`timeout`"), "{far:?}");
}

#[test]
fn a_body_that_is_no_list_of_steps_is_told() {
    assert_eq!(
        findings("flow: f\nsteps: { id: a }\n"),
        ["2:8: `steps` must be a list of steps, not an object"]
    );
    assert_eq!(step_findings("tap: x"), ["4:10: s: `tap` must be a list of steps, not text"]);
    let told = step_findings("wait: 99999999d");
    assert_eq!(told, ["4:11: s: `wait`: \"99999999d\" is more than a hundred years"]);
}
