//! Which variables a step reads, and where its document writes that.

use std::collections::BTreeSet;

use crate::{expr::Compute, flow::StepKind};

/// A variable that a step reads, and the part of the step that does: a JSON pointer into what a
/// document writes for it.
#[derive(Debug, PartialEq)]
pub(super) struct Read {
    pub(super) part: String,
    pub(super) name: String,
}

/// The variables that a step reads by itself, without the bodies inside it.
pub(in crate::flow) fn reads(kind: &StepKind) -> BTreeSet<String> {
    reads_at(kind).into_iter().map(|read| read.name).collect()
}

pub(super) fn reads_at(kind: &StepKind) -> Vec<Read> {
    let mut found = Vec::new();
    match kind {
        StepKind::Fail { message: it, .. } => read_by(it, "/fail/message", &mut found),
        StepKind::Tool { with: Some(it), .. } => read_by(it, "/with", &mut found),
        StepKind::Map { compute: it } => read_by(it, "/set", &mut found),
        StepKind::Filter { predicate: it } => read_by(it, "/filter", &mut found),
        StepKind::Switch { route: it, .. } => read_by(it, "/switch/on", &mut found),
        StepKind::Set { variables } => {
            for (name, it) in variables {
                read_by(it, &inside("/let", name), &mut found);
            }
        }
        StepKind::Get { variable } => {
            found.push(Read { part: "/get".into(), name: variable.clone() });
        }
        _ => {}
    }
    found
}

/// The variables that a computation reads, which stands in that part of a step.
pub(super) fn read_by(compute: &Compute, part: &str, found: &mut Vec<Read>) {
    let names = match compute {
        Compute::Cel(cel) => cel.variables(),
        Compute::Template(template) => template.variables(),
        Compute::Object(fields) => {
            for (name, field) in fields {
                read_by(field, &inside(part, name), found);
            }
            return;
        }
        Compute::List(items) => {
            for (index, item) in items.iter().enumerate() {
                read_by(item, &format!("{part}/{index}"), found);
            }
            return;
        }
        Compute::Code(_) | Compute::Value(_) => return,
    };
    found.extend(names.into_iter().map(|name| Read { part: part.to_owned(), name }));
}

/// The names that a JSON pointer goes through.
pub(in crate::flow) fn parts(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"))
}

/// A JSON pointer to a field of what another one leads to.
pub(in crate::flow) fn inside(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}
