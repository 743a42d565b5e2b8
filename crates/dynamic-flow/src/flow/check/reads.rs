//! What a step computes and which variables it reads, and where its document writes that.

use std::collections::BTreeSet;

use crate::{expr::Compute, flow::StepKind};

/// A computation that consists of no others, and the part of a step that it is: a JSON pointer into
/// what a document writes for it.
pub(super) type Computed<'s> = (String, &'s Compute);

/// The variables that a step reads by itself, without the bodies inside it.
pub(in crate::flow) fn reads(kind: &StepKind) -> BTreeSet<String> {
    let got = match kind {
        StepKind::Get { variable } => Some(variable.clone()),
        _ => None,
    };
    computed_by(kind).iter().flat_map(|(_, compute)| variables(compute)).chain(got).collect()
}

/// The variables that a computation reads which consists of no others.
pub(super) fn variables(compute: &Compute) -> BTreeSet<String> {
    match compute {
        Compute::Cel(cel) => cel.variables(),
        Compute::Template(template) => template.variables(),
        _ => BTreeSet::new(),
    }
}

/// What a step computes by itself.
pub(super) fn computed_by(kind: &StepKind) -> Vec<Computed<'_>> {
    let mut found = Vec::new();
    match kind {
        StepKind::Fail { message: it, .. } => parts_of(it, "/fail/message", &mut found),
        StepKind::Tool { with: Some(it), .. } => parts_of(it, "/with", &mut found),
        StepKind::Map { compute: it } => parts_of(it, "/set", &mut found),
        StepKind::Filter { predicate: it } => parts_of(it, "/filter", &mut found),
        StepKind::Switch { route: it, .. } => parts_of(it, "/switch/on", &mut found),
        StepKind::Set { variables } => {
            for (name, it) in variables {
                parts_of(it, &inside("/let", name), &mut found);
            }
        }
        _ => {}
    }
    found
}

/// What a computation consists of that stands in that part of a step.
pub(super) fn parts_of<'s>(compute: &'s Compute, part: &str, found: &mut Vec<Computed<'s>>) {
    match compute {
        Compute::Object(fields) => {
            for (name, field) in fields {
                parts_of(field, &inside(part, name), found);
            }
        }
        Compute::List(items) => {
            for (index, item) in items.iter().enumerate() {
                parts_of(item, &format!("{part}/{index}"), found);
            }
        }
        Compute::Code(_) | Compute::Value(_) => {}
        Compute::Cel(_) | Compute::Template(_) => found.push((part.to_owned(), compute)),
    }
}

/// The names that a JSON pointer goes through.
pub(in crate::flow) fn parts(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"))
}

/// A JSON pointer to a field of what another one leads to.
pub(in crate::flow) fn inside(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}
