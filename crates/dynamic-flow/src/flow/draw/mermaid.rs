//! A diagram in Mermaid.

use std::fmt::Write as _;

use super::{Form, Graph, Item, Node, printable};
use crate::{flow::FlowDef, position::Position};

/// Draws a flow as a Mermaid flowchart; the steps at the parked positions stand out.
///
/// Waits are hexagons, tools have double sides, decisions are diamonds; bodies have frames.
pub fn mermaid(def: &FlowDef, parked: &[Position]) -> String {
    let graph = Graph::of(def, parked);
    let mut text = "flowchart TD\n".to_owned();
    let mut marked = Vec::new();
    items(&mut text, &graph.items, 1, &mut marked);
    for edge in &graph.edges {
        let label = edge.label.as_ref().map(|label| format!("|{}|", quoted(&[label])));
        let label = label.unwrap_or_default();
        let _ = match edge.error_of {
            Some(group) => writeln!(text, "  g{group} -.->{label} n{}", edge.to),
            None => writeln!(text, "  n{} -->{label} n{}", edge.from, edge.to),
        };
    }
    if !marked.is_empty() {
        text.push_str(
            "  classDef parked fill:#ffd54f,stroke:#e65100,stroke-width:3px,color:#000\n",
        );
        let _ = writeln!(text, "  class {} parked", marked.join(","));
    }
    text
}

fn items(text: &mut String, items_: &[Item], depth: usize, marked: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    for item in items_ {
        match item {
            Item::Node(node) => {
                let _ = writeln!(text, "{indent}{}", drawn(node));
                if node.parked {
                    marked.push(format!("n{}", node.id));
                }
            }
            Item::Group(group) => {
                let label = quoted(&[&group.label]);
                let _ = writeln!(text, "{indent}subgraph g{}[{label}]", group.id);
                items(text, &group.items, depth + 1, marked);
                let _ = writeln!(text, "{indent}end");
                if group.parked {
                    marked.push(format!("g{}", group.id));
                }
            }
        }
    }
}

fn drawn(node: &Node) -> String {
    let (open, close) = match node.form {
        Form::Terminal => ("([", "])"),
        Form::Plain => ("[", "]"),
        Form::Tool => ("[[", "]]"),
        Form::Wait => ("{{", "}}"),
        Form::Decision => ("{", "}"),
        Form::Pause => ("(", ")"),
        Form::Failure => (">", "]"),
    };
    let mut lines: Vec<&str> = node.lines.iter().map(String::as_str).collect();
    if node.parked {
        lines.push("⏸ parked here");
    }
    format!("n{}{open}{}{close}", node.id, quoted(&lines))
}

/// A label in quotes. What means something to Mermaid, HTML or Markdown becomes an entity.
fn quoted(lines: &[&str]) -> String {
    let mut text = "\"".to_owned();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            text.push_str("<br/>");
        }
        for c in printable(line) {
            if matches!(c, '"' | '#' | '&' | '<' | '>' | ';' | '%' | '\\' | '`' | '*' | '_') {
                let _ = write!(text, "#{};", u32::from(c));
            } else {
                text.push(c);
            }
        }
    }
    text.push('"');
    text
}
