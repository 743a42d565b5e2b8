//! The JSON Schema of documents, for editors.

use serde_json::Value;

/// The JSON Schema of documents: editors complete and check by it, and `dflow schema` prints it.
///
/// Whatever [`Flow::from_document`](crate::Flow::from_document) takes fits it. It can't say all
/// that a reading checks: unique ids, expressions, variables, tools, what schemas and presets come
/// to.
///
/// ```
/// let schema = dynamic_flow::flow::document_schema();
/// assert_eq!(schema["required"], serde_json::json!(["flow", "steps"]));
/// ```
pub fn document_schema() -> Value {
    serde_json::from_str(include_str!("schema.json")).expect("the file is JSON; a test reads it")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        super::{
            questions::AWAIT_INPUT,
            steps::{FLOW, OF_ANY_STEP, VERBS},
        },
        *,
    };

    fn names(schema: &Value) -> BTreeSet<&str> {
        schema["properties"].as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn the_schema_has_the_fields_that_the_reader_knows() {
        let schema = document_schema();
        crate::Schema::new(schema.clone()).unwrap();
        let flow = FLOW.iter().copied().collect();
        assert_eq!(names(&schema), flow);
        assert_eq!(names(&schema["$defs"]["flow"]), flow);

        let beside = VERBS.iter().filter_map(|(_, beside)| *beside);
        let verbs = VERBS.iter().map(|(verb, _)| *verb);
        let step = verbs.chain(beside).chain(OF_ANY_STEP.iter().copied()).collect();
        assert_eq!(names(&schema["$defs"]["step"]), step);

        let question = &schema["$defs"]["await_input"];
        let ways = question["oneOf"].as_array().unwrap();
        let mut known: BTreeSet<&str> = AWAIT_INPUT.iter().copied().collect();
        for way in ways {
            let names = way["propertyNames"]["enum"].as_array().unwrap();
            let names: BTreeSet<&str> = names.iter().map(|name| name.as_str().unwrap()).collect();
            let other = if names.contains("schema") { "preset" } else { "schema" };
            for own in AWAIT_INPUT.iter().filter(|own| **own != other) {
                assert!(names.contains(own), "{own}: {way}");
            }
            known.extend(names);
        }
        assert_eq!(names(question), known);
        let presets = question["properties"]["preset"]["enum"].as_array().unwrap();
        assert_eq!(ways.len(), presets.len() + 1);
    }
}
