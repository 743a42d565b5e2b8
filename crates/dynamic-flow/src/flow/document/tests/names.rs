//! Names that there are not.

use super::*;

#[test]
fn all_names_that_there_are_not_are_told() {
    let names = |told: &[String]| -> Vec<String> {
        let name = |told: &String| told.split("there is no ").nth(1).map(str::to_owned);
        told.iter().filter_map(name).collect()
    };
    let told = step_findings("set: '${ foo + bar + vars.q }'");
    assert_eq!(
        names(&told),
        [
            "name foo here, only value, vars, input and run",
            "name bar here, only value, vars, input and run"
        ]
    );
    assert!(told.iter().all(|told| told.starts_with("4:10: s: `set`: ")), "{told:#?}");
    assert!(told.iter().any(|told| told.contains("sets the variable `q`")), "{told:#?}");
    assert_eq!(told.len(), 3, "{told:#?}");

    let told = step_findings("set: '${ foo.siez() + bar(foo) + run.name }'");
    assert_eq!(told.len(), 4, "{told:#?}");
    for what in [
        "no name foo",
        "no function siez; did you mean `size`?",
        "no function bar",
        "run has no field name",
    ] {
        assert!(told.iter().any(|told| told.contains(what)), "{what}: {told:#?}");
    }
    let told =
        step_findings("set: '{{ foo }} {% if bar %}{{ vars.q }}{% endif %} {{ zip | uper }}'");
    let names = ["no name foo", "no name bar", "variable `q`", "no name zip", "no filter uper"];
    assert_eq!(told.len(), names.len(), "{told:#?}");
    for what in names {
        assert!(told.iter().any(|told| told.contains(what)), "{what}: {told:#?}");
    }
    // The rules of a switch are checked each by itself where one of them is wrong.
    let told = step_findings(
        "switch:\n  on: [{ when: '${ foo && vars.q }', then: a }, { when: '${ vars.r }', then: a }]\n  cases: { a: [] }",
    );
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(
        told[0].starts_with("5:20: s: `when`: the expression: there is no name foo"),
        "{told:#?}"
    );
    assert!(told[1].starts_with("5:20: s: `on`[0].when: no step before it"), "{told:#?}");
    assert!(told[2].starts_with("5:61: s: `on`[1].when: no step before it"), "{told:#?}");
}

#[test]
fn what_is_told_of_one_source_has_a_bound() {
    let names: Vec<String> = (0..100).map(|n| format!("n{n}")).collect();
    assert_eq!(step_findings(&format!("set: '${{ {} }}'", names[..40].join(" + "))).len(), 20);
    assert_eq!(step_findings(&format!("set: '{{{{ {} }}}}'", names.join(" }} {{ "))).len(), 20);
}
