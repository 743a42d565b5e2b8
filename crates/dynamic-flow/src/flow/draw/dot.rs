//! A diagram in DOT, the language of Graphviz.

use std::fmt::Write as _;

use super::{Form, Graph, Item, Mark, Node, printable};
use crate::{flow::FlowDef, position::Position};

/// Draws a flow as a DOT graph; the steps at the marked positions stand out.
///
/// Waits are hexagons, tools have double sides, decisions are diamonds; bodies have frames. The `no`
/// of a filter leads to `rejected`.
pub fn dot(def: &FlowDef, marked: &[(Position, Mark)]) -> String {
    let graph = Graph::of(def, marked);
    let mut text = format!("digraph {} {{\n", quoted(&[def.id.as_str()]));
    text.push_str("  compound=true;\n  node [fontname=\"Helvetica\", shape=box];\n");
    items(&mut text, &graph.items, 1);
    for edge in &graph.edges {
        let mut attributes = Vec::new();
        if let Some(label) = &edge.label {
            attributes.push(format!("label={}", quoted(&[label])));
        }
        if let Some(group) = edge.error_of {
            attributes.push(format!("style=dashed, ltail=\"cluster_{group}\""));
        }
        let attributes = match attributes.as_slice() {
            [] => String::new(),
            some => format!(" [{}]", some.join(", ")),
        };
        let _ = writeln!(text, "  n{} -> n{}{attributes};", edge.from, edge.to);
    }
    text.push_str("}\n");
    text
}

fn items(text: &mut String, items_: &[Item], depth: usize) {
    let indent = "  ".repeat(depth);
    for item in items_ {
        match item {
            Item::Node(node) => {
                let _ = writeln!(text, "{indent}{}", drawn(node));
            }
            Item::Group(group) => {
                let label = quoted(&[&group.label]);
                let _ = writeln!(text, "{indent}subgraph \"cluster_{}\" {{", group.id);
                let _ = writeln!(text, "{indent}  label={label};");
                items(text, &group.items, depth + 1);
                if let Some(mark) = group.mark {
                    // After the frames inside, which would look the same otherwise.
                    let _ = writeln!(text, "{indent}  graph [{}];", filled(mark));
                }
                let _ = writeln!(text, "{indent}}}");
            }
        }
    }
}

fn drawn(node: &Node) -> String {
    let shape = match node.form {
        Form::Terminal => "shape=oval",
        Form::Plain => "shape=box",
        Form::Tool => "shape=box, peripheries=2",
        Form::Wait => "shape=hexagon",
        Form::Decision => "shape=diamond",
        Form::Pause => "shape=box, style=rounded",
        Form::Failure => "shape=octagon",
    };
    let mut lines: Vec<&str> = node.lines.iter().map(String::as_str).collect();
    // A second `style` would take the place of the first, so the mark stands alone.
    let shape = match node.mark {
        Some(mark) => {
            lines.push(mark.words());
            format!("{}, {}", shape.trim_end_matches(", style=rounded"), filled(mark))
        }
        None => shape.to_owned(),
    };
    format!("n{} [label={}, {shape}];", node.id, quoted(&lines))
}

fn filled(mark: Mark) -> String {
    let (fill, stroke) = mark.colors();
    format!("style=\"filled,bold\", fillcolor=\"{fill}\", color=\"{stroke}\"")
}

/// A text in quotes, in which backslashes begin escapes.
fn quoted(lines: &[&str]) -> String {
    let mut text = "\"".to_owned();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            text.push_str("\\n");
        }
        for c in printable(line) {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
    }
    text.push('"');
    text
}
