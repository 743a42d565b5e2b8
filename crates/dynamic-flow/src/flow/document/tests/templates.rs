//! Calls of `template`: the template is the author's, and what is put into it is not.

use super::*;
use crate::{
    hub::{Outcome, PersistenceHub},
    store::MemoryStore,
    tool::TemplateTool,
};

fn tools() -> ToolRegistry {
    let mut tools = ToolRegistry::new();
    tools.add(Arc::new(TemplateTool::new())).unwrap();
    tools
}

fn document(with: &str) -> String {
    format!("flow: f\nsteps:\n  - id: letter\n    call: template\n{with}")
}

fn told(with: &str) -> Vec<String> {
    let error = Flow::from_document(&document(with), &tools()).unwrap_err();
    error.findings().iter().map(ToString::to_string).collect()
}

async fn ran(flow: &Flow, input: Value) -> std::result::Result<Value, String> {
    let store = Arc::new(MemoryStore::new());
    let builder = PersistenceHub::builder(store).plaintext().tools(tools());
    match builder.build().await.unwrap().register(flow).unwrap().run(input).await {
        Ok(Outcome::Completed(completed)) => Ok(completed.output),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

async fn filled(with: &str, input: Value) -> std::result::Result<Value, String> {
    ran(&Flow::from_document(&document(with), &tools()).unwrap(), input).await
}

#[tokio::test]
async fn nothing_in_the_data_is_taken_for_a_part_of_the_template() {
    let with = "    with: { template: 'Note: {{ value.text }}', data: { text: '${ value.text }', salary: 99000 } }\n";
    for text in ["{{ value.salary }}", "100 {% off", "{{ input }}"] {
        let note = filled(with, json!({ "text": text })).await;
        assert_eq!(note, Ok(json!(format!("Note: {text}"))));
    }
}

#[tokio::test]
async fn a_template_sees_its_data_or_else_the_current_value() {
    let with =
        "    with: { template: 'Dear {{ value.name }}.', data: { name: '${ value.customer }' } }\n";
    assert_eq!(filled(with, json!({ "customer": "Ann" })).await, Ok(json!("Dear Ann.")));
    let without = "    with: { template: 'Dear {{ value.name }}.' }\n";
    assert_eq!(filled(without, json!({ "name": "Bo" })).await, Ok(json!("Dear Bo.")));
    let unfilled = "    with: { template: Dear Sir. }\n";
    assert_eq!(filled(unfilled, json!(1)).await, Ok(json!("Dear Sir.")));
}

#[test]
fn a_template_is_checked_when_its_document_is_read() {
    for (template, start) in [
        ("'{{ value.name'", "5:24: letter: `with`.template: the template: {{ is not"),
        ("'{{ value | shuot }}'", "5:27: letter: `with`.template: the template: there is"),
        ("'Pay ${ value } now'", "5:23: letter: `with`.template: an expression `${ … }` must be"),
    ] {
        let told = told(&format!("    with: {{ template: {template} }}\n"));
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].starts_with(start), "{told:#?}");
    }
    let told = told("    with: { template: '{{ vars.sender }}' }\n");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("sets the variable `sender`"), "{told:#?}");
}

#[tokio::test]
async fn a_template_that_is_made_of_data_is_refused_but_for_runs_that_have_it() {
    for (with, place) in [
        ("    with: { template: '${ value.text }' }\n", "5:23"),
        ("    with: '${ value }'\n", "5:11"),
        ("", "4:11"),
    ] {
        let told = told(with);
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].starts_with(&format!("{place}: letter: a template is written out")));
    }
    let computed = document("    with: { template: '${ value.text }', data: { a: 1 } }\n");
    let old = Flow::from_document_of_run(&computed, &tools()).unwrap();
    let text = ran(&old, json!({ "text": "{{ value.a }}" })).await;
    assert_eq!(text, Ok(json!("1")));
}
