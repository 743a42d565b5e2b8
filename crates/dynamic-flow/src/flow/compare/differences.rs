//! What has changed between two flows, for people.

use std::collections::BTreeMap;

use super::{essence::own, in_words, tool_essence};
use crate::flow::{Body, BodyName, FlowDef, StepKind};

/// Lists what has changed from one flow to another, each a sentence that names the step.
///
/// The steps that were there before come first, in their order, then new ones. What
/// [`fingerprint`](super::fingerprint) does not see is told from the documents, as one sentence,
/// if nothing else has changed.
pub fn compare_defs(old: &FlowDef, new: &FlowDef) -> Vec<String> {
    let mut told = Vec::new();
    if old.id != new.id {
        told.push(format!("The flow was `{}` and is `{}` now.", old.id, new.id));
    }
    flows(old, new, "", &mut told);
    if told.is_empty() && old.document != new.document {
        told.push(
            "Only names, comments, or prompts, timeouts and defaults of questions have changed."
                .into(),
        );
    }
    told
}

fn flows(old: &FlowDef, new: &FlowDef, path: &str, told: &mut Vec<String>) {
    let whose = if path.is_empty() { String::new() } else { format!(" inside `{path}`") };
    if old.input.essence() != new.input.essence() {
        told.push(format!("The flow{whose} takes another input."));
    }
    if old.output.essence() != new.output.essence() {
        told.push(format!("The flow{whose} gives another output."));
    }
    bodies(&[(BodyName::Main, &old.body)], &[(BodyName::Main, &new.body)], path, told);
}

type Named<'f> = [(BodyName, &'f Body)];

/// The steps of all bodies of one parent, by id.
fn bodies(old: &Named<'_>, new: &Named<'_>, parent: &str, told: &mut Vec<String>) {
    let join = |id: &str| if parent.is_empty() { id.into() } else { format!("{parent}/{id}") };
    let newer: BTreeMap<_, _> = new
        .iter()
        .flat_map(|(name, body)| body.iter().map(move |step| (&step.id, (name, step))))
        .collect();
    for (name, step) in old.iter().flat_map(|(name, body)| body.iter().map(move |s| (name, s))) {
        let path = join(step.id.as_str());
        let Some((new_name, new_step)) = newer.get(&step.id) else {
            told.push(format!("The step `{path}` is gone."));
            continue;
        };
        if name != *new_name {
            told.push(format!("The step `{path}` was moved to {}.", in_words(new_name)));
        }
        if step.known_as() != new_step.known_as() {
            let (was, is) = (step.known_as(), new_step.known_as());
            told.push(format!(
                "What the step `{path}` calls was known as that of `{was}` and is known as that of \
                 `{is}` now."
            ));
        }
        kinds(&step.kind, &new_step.kind, &path, told);
    }
    let known: Vec<_> = old.iter().flat_map(|(_, body)| body.iter().map(|step| &step.id)).collect();
    for (_, step) in new.iter().flat_map(|(name, body)| body.iter().map(move |s| (name, s))) {
        if !known.contains(&&step.id) {
            told.push(format!("The step `{}` is new.", join(step.id.as_str())));
        }
    }
    for (name, body) in old {
        let Some((_, new_body)) = new.iter().find(|(new_name, _)| new_name == name) else {
            told.push(format!("In the step `{parent}`, {} is gone.", in_words(name)));
            continue;
        };
        let shared = |from: &Body, to: &Body| -> Vec<String> {
            let in_both = from.iter().filter(|step| to.iter().any(|other| other.id == step.id));
            in_both.map(|step| step.id.to_string()).collect()
        };
        if shared(body, new_body) != shared(new_body, body) {
            let place = if parent.is_empty() { "the flow" } else { parent };
            told.push(format!(
                "The steps in {} of `{place}` stand in another order.",
                in_words(name)
            ));
        }
    }
    for (name, _) in new.iter().filter(|(name, _)| !old.iter().any(|(known, _)| known == name)) {
        told.push(format!("In the step `{parent}`, {} is new.", in_words(name)));
    }
}

fn kinds(old: &StepKind, new: &StepKind, path: &str, told: &mut Vec<String>) {
    if old.name() != new.name() {
        told.push(format!("The step `{path}` was `{}` and is `{}` now.", old.name(), new.name()));
        return;
    }
    match (old.tool(), new.tool()) {
        (Some(old), Some(new)) if old.id != new.id => told.push(format!(
            "The step `{path}` called the tool `{}` and calls `{}` now.",
            old.id, new.id
        )),
        (Some(old), Some(new)) if tool_essence(old) != tool_essence(new) => {
            for (what, old, new) in [
                ("takes another input", &old.input, &new.input),
                ("gives another output", &old.output, &new.output),
            ] {
                if old.essence() != new.essence() {
                    told.push(format!("The tool of the step `{path}` {what}."));
                }
            }
        }
        _ => {}
    }
    let arguments = |kind: &StepKind| match kind {
        StepKind::Tool { with, .. } => serde_json::json!(with),
        StepKind::AwaitInput { .. } => serde_json::Value::Null,
        kind => own(kind),
    };
    if arguments(old) != arguments(new) {
        told.push(format!("What the step `{path}` does with its value has changed."));
    }
    match (old, new) {
        (StepKind::SubFlow { flow: old }, StepKind::SubFlow { flow: new }) => {
            if old.id != new.id {
                told.push(format!(
                    "The step `{path}` ran the flow `{}` and runs `{}` now.",
                    old.id, new.id
                ));
            }
            flows(old, new, path, told);
        }
        _ => bodies(&old.bodies(), &new.bodies(), path, told),
    }
}
