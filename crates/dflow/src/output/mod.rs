//! What `--json` prints: a contract. `dflow schema output` publishes it; fields may be added to it
//! and are never taken away.

mod errors;
mod reports;
mod runs;

use dynamic_flow::{RunId, Timestamp};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use self::{errors::*, reports::*, runs::*};

/// RFC 3339.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("format" = "date-time"))]
pub(crate) struct Time(String);

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Self {
        Self(at.to_string())
    }
}

/// A run's id: a UUID whose order is that of creation.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("format" = "uuid"))]
pub(crate) struct Run(String);

impl From<RunId> for Run {
    fn from(id: RunId) -> Self {
        Self(id.to_string())
    }
}

/// A plain value.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is of use")]
enum Plain {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// The schema of everything in here. `$defs` has an entry for each subcommand by its name, and
/// `error` and `notice` for standard error.
pub(crate) fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    macro_rules! commands {
        ($($name:literal => $type:ty),* $(,)?) => {
            vec![$(($name, generator.subschema_for::<$type>().to_value())),*]
        };
    }
    let commands = commands! {
        "run" => RunResult,
        "resume" => RunResult,
        "retry" => RunResult,
        "answer" => Accepted,
        "list" => List,
        "show" => Show,
        "reissue" => Reissued,
        "cancel" => Cancelled,
        "cleanup" => Cleaned,
        "work" => Worked,
        "keygen" => NewKey,
        "rotate-keys" => Rotated,
        "check" => Checked,
        "upgrade" => Upgraded,
        "diagram" => Diagram,
        "tools" => Tools,
        "doctor" => Report,
        "completions" => Script,
        "error" => Failed,
        "notice" => Notice,
    };
    let any: Vec<Value> =
        commands.iter().map(|(name, _)| json!({ "$ref": format!("#/$defs/{name}") })).collect();
    let mut definitions = generator.take_definitions(true);
    definitions.extend(commands.into_iter().map(|(name, schema)| (name.to_owned(), schema)));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dflow --json",
        "description": "What each subcommand of dflow prints with --json, in $defs by its name.",
        "anyOf": any,
        "$defs": definitions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schema_is_one() {
        let schema = schema();
        let published = dynamic_flow::Schema::new(schema.clone()).unwrap();
        let completed =
            json!({ "status": "completed", "run_id": RunId::from_bytes([7; 16]), "output": 1 });
        published.validate(&completed).unwrap();
        published.validate(&json!({ "status": "completed" })).unwrap_err();
        for name in ["run", "error", "RunResult"] {
            assert!(schema["$defs"].get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_names_that_others_rely_on_stay() {
        let schema = schema();
        let required = |of: &str| schema["$defs"][of]["required"].clone();
        assert_eq!(required("List"), json!(["items", "next_cursor"]));
        assert_eq!(required("Failed"), json!(["error"]));
        assert_eq!(required("Problem"), json!(["kind", "message", "retryable"]));
        assert_eq!(
            required("WaitWithKey"),
            json!(["id", "tool_id", "prompt", "shown", "schema", "expires_at", "metadata"])
        );
    }
}
