//! All that can be compared of a flow.

use serde_json::{Value, json};

use super::tool_essence;
use crate::{
    Result,
    flow::{Body, FlowDef, StepKind},
    wait::ContentDigest,
};

/// Digest of all that can be compared of a flow: ids, kinds, tools with their schemas, the sources
/// of expressions and templates, and how it all stands together.
///
/// Names, descriptions and other annotations don't count. What closures and tools do can't be
/// seen, nor can the prompts, deadlines and defaults of questions, which are their tools' own.
///
/// # Errors
/// `SerializationError` if a constant in it has no canonical JSON form.
pub(crate) fn fingerprint(def: &FlowDef) -> Result<ContentDigest> {
    ContentDigest::of(&flow(def))
}

fn flow(def: &FlowDef) -> Value {
    json!({
        "id": def.id,
        "input": def.input.essence(),
        "output": def.output.essence(),
        "body": body(&def.body),
    })
}

fn body(steps: &Body) -> Value {
    steps
        .iter()
        .map(|step| {
            let mut essence = json!({
                "id": step.id,
                "kind": step.kind.name(),
                "what": own(&step.kind),
                "bodies": bodies(&step.kind),
            });
            if let Some(name) = &step.keyed_as {
                essence["keyed_as"] = json!(name);
            }
            essence
        })
        .collect()
}

fn bodies(kind: &StepKind) -> Value {
    match kind {
        StepKind::SubFlow { flow: inner } => json!([flow(inner)]),
        kind => {
            // The order of cases means nothing.
            let mut bodies = kind.bodies();
            bodies.sort_by(|(one, _), (two, _)| one.cmp(two));
            bodies.iter().map(|(name, steps)| json!([name, body(steps)])).collect()
        }
    }
}

/// What a step is beyond its kind and the bodies inside it.
pub(super) fn own(kind: &StepKind) -> Value {
    match kind {
        StepKind::Input { schema } => schema.essence(),
        StepKind::Succeed { value } => value.clone(),
        StepKind::Fail { code, message } => json!([code, message]),
        StepKind::Tool { tool, with } => json!([tool_essence(tool), with]),
        StepKind::AwaitInput { tool } => tool_essence(tool),
        StepKind::Map { compute } | StepKind::Filter { predicate: compute } => json!(compute),
        StepKind::Switch { route, .. } => json!(route),
        StepKind::Set { variables } => json!(variables),
        StepKind::Get { variable } => json!(variable),
        StepKind::Retry { attempts, backoff, .. } => json!([attempts, backoff]),
        StepKind::Catch { codes, .. } => json!(codes),
        StepKind::Timeout { after: time, .. } | StepKind::Sleep { duration: time } => json!(time),
        StepKind::Tap { .. } | StepKind::Keep { .. } | StepKind::SubFlow { .. } => Value::Null,
    }
}
