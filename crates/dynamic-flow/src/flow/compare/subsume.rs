//! Whether one schema takes all that another one takes.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Keywords that are understood here; with any other one, schemas must be equal.
const UNDERSTOOD: [&str; 5] = ["type", "properties", "required", "additionalProperties", "enum"];

/// Whether every value that fits `old` certainly fits `new`; both without annotations.
///
/// Understands what commonly changes between deploys: further fields that may be left out, fields
/// that need not be there any longer, further choices, further types. Where it does not
/// understand, only equal schemas pass.
pub(super) fn takes_all_of(new: &Value, old: &Value) -> bool {
    let plain = |schema: &Map<String, Value>| {
        schema.keys().all(|key| UNDERSTOOD.contains(&key.as_str()) || key == "$schema")
    };
    match (new, old) {
        (new, old) if new == old => true,
        (Value::Bool(true), _) | (_, Value::Bool(false)) => true,
        (Value::Object(new), _) if new.keys().all(|key| key == "$schema") => true,
        (Value::Object(new), Value::Object(old)) if plain(new) && plain(old) => {
            takes_types(new, old) && takes_choices(new, old) && takes_fields(new, old)
        }
        _ => false,
    }
}

fn names(list: Option<&Value>) -> Option<BTreeSet<&str>> {
    match list? {
        Value::String(name) => Some(BTreeSet::from([name.as_str()])),
        Value::Array(names) => names.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn takes_types(new: &Map<String, Value>, old: &Map<String, Value>) -> bool {
    let Some(new) = names(new.get("type")) else { return true };
    let Some(old) = names(old.get("type")) else { return false };
    old.iter().all(|name| new.contains(name) || (*name == "integer" && new.contains("number")))
}

fn takes_choices(new: &Map<String, Value>, old: &Map<String, Value>) -> bool {
    let Some(new) = new.get("enum").and_then(Value::as_array) else { return true };
    let Some(old) = old.get("enum").and_then(Value::as_array) else { return false };
    old.iter().all(|choice| new.contains(choice))
}

fn takes_fields(new: &Map<String, Value>, old: &Map<String, Value>) -> bool {
    const OPEN: Value = Value::Bool(true);
    let required = |schema: &Map<String, Value>| -> BTreeSet<String> {
        let list = schema.get("required").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if !required(new).is_subset(&required(old)) {
        return false;
    }
    let none = Map::new();
    let fields = |schema: &'_ Map<String, Value>| {
        schema.get("properties").and_then(Value::as_object).cloned()
    };
    let (new_fields, old_fields) = (fields(new), fields(old));
    let (new_fields, old_fields) =
        (new_fields.as_ref().unwrap_or(&none), old_fields.as_ref().unwrap_or(&none));
    let new_others = new.get("additionalProperties").unwrap_or(&OPEN);
    let old_others = old.get("additionalProperties").unwrap_or(&OPEN);
    let named: BTreeSet<&String> = new_fields.keys().chain(old_fields.keys()).collect();
    takes_all_of(new_others, old_others)
        && named.into_iter().all(|name| {
            let new = new_fields.get(name).unwrap_or(new_others);
            let old = old_fields.get(name).unwrap_or(old_others);
            takes_all_of(new, old)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_takes_more_takes_all() {
        let old = json!({
            "type": "object",
            "properties": { "approved": { "type": "boolean" }, "level": { "enum": ["a", "b"] } },
            "required": ["approved"],
            "additionalProperties": false
        });
        let with = |change: &dyn Fn(&mut Value)| {
            let mut new = old.clone();
            change(&mut new);
            new
        };
        let takes = |change: &dyn Fn(&mut Value)| takes_all_of(&with(change), &old);
        assert!(takes(&|_| {}));
        assert!(takes_all_of(&json!(true), &old) && takes_all_of(&json!({}), &old));
        assert!(takes(
            &|new| new["properties"]["note"] = json!({ "type": "string", "minLength": 5 })
        ));
        assert!(takes(&|new| new["required"] = json!([])));
        assert!(takes(&|new| new["additionalProperties"] = json!(true)));
        assert!(takes(&|new| new["type"] = json!(["object", "null"])));
        assert!(takes(&|new| new["properties"]["level"]["enum"] = json!(["c", "b", "a"])));
        assert!(takes(
            &|new| new["properties"]["approved"] = json!({ "type": ["boolean", "string"] })
        ));
        assert!(takes_all_of(&json!({ "type": "number" }), &json!({ "type": "integer" })));

        assert!(!takes(&|new| new["required"] = json!(["approved", "level"])));
        assert!(!takes(&|new| new["properties"]["level"]["enum"] = json!(["a"])));
        assert!(!takes(&|new| new["properties"]["approved"] = json!({ "type": "string" })));
        assert!(!takes(&|new| {
            new["properties"].as_object_mut().unwrap().remove("level");
        }));
        assert!(!takes(&|new| new["minProperties"] = json!(1)));
        assert!(!takes_all_of(&old, &json!({ "type": "object" })));
        assert!(!takes_all_of(&old, &json!(true)));
        assert!(!takes_all_of(&json!({ "type": "integer" }), &json!({ "type": "number" })));
    }

    #[test]
    fn a_new_field_may_be_there_already_where_others_are_allowed() {
        let old = json!({ "type": "object", "properties": {} });
        let new = json!({ "type": "object", "properties": { "note": { "type": "string" } } });
        assert!(!takes_all_of(&new, &old));
    }
}
