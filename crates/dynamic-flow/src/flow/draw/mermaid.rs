//! A diagram in Mermaid.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{Form, Graph, Item, Mark, Node, printable};
use crate::{flow::FlowDef, position::Position};

/// Draws a flow as a Mermaid flowchart; the steps at the marked positions stand out.
///
/// Waits are hexagons, tools have double sides, decisions are diamonds; bodies have frames. The `no`
/// of a filter leads to `rejected`.
pub fn mermaid(def: &FlowDef, marked: &[(Position, Mark)]) -> String {
    let graph = Graph::of(def, marked);
    let mut text = "flowchart TD\n".to_owned();
    let mut marked = BTreeMap::new();
    items(&mut text, &graph.items, 1, &mut marked);
    for edge in &graph.edges {
        let label = edge.label.as_ref().map(|label| format!("|{}|", quoted(&[label])));
        let label = label.unwrap_or_default();
        let _ = match edge.error_of {
            Some(group) => writeln!(text, "  g{group} -.->{label} n{}", edge.to),
            None => writeln!(text, "  n{} -->{label} n{}", edge.from, edge.to),
        };
    }
    for (mark, ids) in marked {
        let (name, (fill, stroke)) = (mark.name(), mark.colors());
        let _ = writeln!(
            text,
            "  classDef {name} fill:{fill},stroke:{stroke},stroke-width:3px,color:#000"
        );
        let _ = writeln!(text, "  class {} {name}", ids.join(","));
    }
    text
}

fn items(
    text: &mut String,
    items_: &[Item],
    depth: usize,
    marked: &mut BTreeMap<Mark, Vec<String>>,
) {
    let indent = "  ".repeat(depth);
    for item in items_ {
        match item {
            Item::Node(node) => {
                let _ = writeln!(text, "{indent}{}", drawn(node));
                if let Some(mark) = node.mark {
                    marked.entry(mark).or_default().push(format!("n{}", node.id));
                }
            }
            Item::Group(group) => {
                let label = quoted(&[&group.label]);
                let _ = writeln!(text, "{indent}subgraph g{}[{label}]", group.id);
                items(text, &group.items, depth + 1, marked);
                let _ = writeln!(text, "{indent}end");
                if let Some(mark) = group.mark {
                    marked.entry(mark).or_default().push(format!("g{}", group.id));
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
    let mark = node.mark.map(|mark| format!("{} {mark}", mark.sign()));
    let lines: Vec<&str> = node.lines.iter().chain(&mark).map(String::as_str).collect();
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
