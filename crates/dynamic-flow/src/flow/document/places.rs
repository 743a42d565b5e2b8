//! Where in a document things are written that a check of its flow knows by their addresses.

use super::node::{Data, Node, Place};
use crate::flow::{
    BodyName,
    check::{Address, Part, parts},
};

/// Verbs whose fields are called by their own names.
const SILENT: [&str; 3] = ["await_input", "switch", "fail"];

/// The place of a part of a step, and what the part is called where that must be said.
pub(super) fn locate(root: &Node, address: &Address, part: &Part) -> (Place, Option<String>) {
    let Some(step) = step(root, address) else { return (root.place, None) };
    match part {
        Part::Whole => (whole(step), None),
        Part::Value(pointer) => (value(step, pointer), None),
        Part::Name(pointer) => (name(step, pointer), None),
        Part::Computed(pointer) => (value(step, pointer), Some(label(step, pointer))),
    }
}

fn step<'n>(root: &'n Node, address: &Address) -> Option<&'n Node> {
    address.iter().try_fold(root, |node, (body, index)| {
        let steps = match body {
            BodyName::Main => main_body(node)?,
            BodyName::Handler => node.field("catch")?.field("do")?,
            BodyName::Arm(name) => node.field("switch")?.field("cases")?.field(name)?,
            BodyName::Otherwise => node.field("switch")?.field("default")?,
        };
        match &steps.data {
            Data::List(steps) => steps.get(*index),
            _ => None,
        }
    })
}

/// The first or only body of a step, or of a flow.
fn main_body(node: &Node) -> Option<&Node> {
    let own = ["steps", "keep", "tap", "try"].into_iter().find_map(|verb| node.field(verb));
    let inside = || ["retry", "timeout"].into_iter().find_map(|verb| node.field(verb)?.field("do"));
    own.or_else(inside).or_else(|| node.field("flow")?.field("steps"))
}

/// A step is where its id is.
fn whole(step: &Node) -> Place {
    step.field("id").unwrap_or(step).place
}

fn value(step: &Node, pointer: &str) -> Place {
    let found = step.at(pointer);
    if std::ptr::eq(found, step) { whole(step) } else { found.place }
}

fn name(step: &Node, pointer: &str) -> Place {
    let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
    let key = parts(pointer).last().and_then(|name| step.at(parent).key(&name));
    key.unwrap_or_else(|| value(step, pointer))
}

/// What a part is called: as it is where it could not be read.
fn label(step: &Node, pointer: &str) -> String {
    let mut label = String::new();
    let mut node = step;
    for part in parts(pointer) {
        match &node.data {
            Data::List(_) => label.push_str(&format!("[{part}]")),
            _ if label.is_empty() && SILENT.contains(&part.as_str()) => {}
            _ if label.is_empty() => label = format!("`{part}`"),
            _ => label.push_str(&format!(".{part}")),
        }
        node = node.inner(&part).unwrap_or(node);
    }
    label
}
