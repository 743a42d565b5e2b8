//! A flow as an indented tree, with the steps at which a run stands marked.

use std::fmt::Write as _;

use dynamic_flow::{
    Position, RunStatus,
    flow::{Body, BodyName, FlowDef, Mark, Step},
};
use textwrap::core::display_width;

use crate::{
    render::{Style, clean_line},
    words::verb,
};

/// Draws a flow; `positions` are marked by what the run is doing there: beside the step, or below it
/// where lines of that width leave no room.
pub(crate) fn tree(
    def: &FlowDef,
    positions: &[Position],
    status: RunStatus,
    width: usize,
    style: Style,
) -> String {
    let mark = format!("◀ {}", Mark::from(status));
    let mark = match status {
        RunStatus::Waiting | RunStatus::Rejected => style.yellow(&mark),
        RunStatus::Ready | RunStatus::Running => style.cyan(&mark),
        RunStatus::Failed | RunStatus::Expired => style.red(&mark),
        _ => style.dim(&mark),
    };
    let marked = positions.iter().map(Position::steps).collect();
    let mut drawer = Drawer { marked, mark, width, style, text: String::new() };
    let id = clean_line(def.id.as_str());
    writeln!(drawer.text, "{}", style.bold(&id)).ok();
    drawer.body(&def.body, "", "", false);
    drawer.text
}

struct Drawer {
    marked: Vec<String>,
    mark: String,
    width: usize,
    style: Style,
    text: String,
}

impl Drawer {
    /// Draws steps; `more` is whether something stands below them on their level.
    fn body(&mut self, body: &Body, path: &str, indent: &str, more: bool) {
        for (index, step) in body.iter().enumerate() {
            self.step(step, path, indent, !more && index + 1 == body.len());
        }
    }

    fn step(&mut self, step: &Step, parent: &str, indent: &str, last: bool) {
        let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let path = match parent {
            "" => step.id.to_string(),
            parent => format!("{parent}/{}", step.id),
        };
        let kind = match step.kind.tool() {
            Some(tool) if tool.id != step.id.as_str() => {
                format!("{} {}", verb(step.kind.name()), tool.id)
            }
            _ => verb(step.kind.name()).to_owned(),
        };
        let kind = self.style.dim(&format!("({})", clean_line(&kind)));
        let id = clean_line(step.id.as_str());
        let line = format!("{indent}{branch}{id} {kind}");
        let beside = format!("{line}  {}", self.mark);
        let indent = format!("{indent}{below}");
        match self.marked.contains(&path) {
            false => writeln!(self.text, "{line}").ok(),
            true if display_width(&beside) <= self.width => writeln!(self.text, "{beside}").ok(),
            true => writeln!(self.text, "{line}\n{indent}{}", self.mark).ok(),
        };
        let bodies = step.kind.bodies();
        let count = bodies.len();
        for (index, (name, body)) in bodies.into_iter().enumerate() {
            let title = match name {
                BodyName::Main => None,
                BodyName::Handler => Some("on error".to_owned()),
                BodyName::Arm(arm) => Some(format!("case {}", clean_line(&arm))),
                BodyName::Otherwise => Some("otherwise".to_owned()),
                _ => None,
            };
            let Some(title) = title else {
                self.body(body, &path, &indent, index + 1 < count);
                continue;
            };
            let last = index + 1 == count;
            let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            writeln!(self.text, "{indent}{branch}{}", self.style.dim(&title)).ok();
            self.body(body, &path, &format!("{indent}{below}"), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use dynamic_flow::{Flow, tool::ToolRegistry};

    use super::*;

    #[test]
    fn steps_have_the_verbs_of_the_document_and_branches_that_hang_together() {
        let document = "
flow: f
steps:
  - id: guarded
    try:
      - { id: name, let: { it: 1 } }
      - id: inner
        flow: { flow: g, steps: [{ id: made, set: 2 }] }
    catch:
      do:
        - { id: nap, wait: 2s }
";
        let flow = Flow::from_document(document, &ToolRegistry::new()).unwrap();
        let drawn = tree(flow.def(), &[], RunStatus::Completed, 80, Style::plain());
        assert_eq!(
            drawn,
            "\
f
└─ guarded (try)
   ├─ name (let)
   ├─ inner (flow)
   │  └─ made (set)
   └─ on error
      └─ nap (wait)
"
        );
    }

    #[test]
    fn the_step_at_which_a_run_stands_is_marked() {
        let document = "
flow: review
steps:
  - id: first
    succeed: 1
  - id: route
    switch:
      on: \"${ value > 0 ? 'yes' : 'no' }\"
      cases:
        yes:
          - id: ask
            await_input: { preset: confirmation, prompt: Sure? }
        no:
          - id: stop
            succeed: null
  - id: last
    succeed: 2
";
        let flow = Flow::from_document(document, &ToolRegistry::new()).unwrap();
        let at = Position::default().join("route".into(), 1).join("ask".into(), 1);
        let draw = |width| {
            tree(flow.def(), std::slice::from_ref(&at), RunStatus::Waiting, width, Style::plain())
        };
        let drawn = draw(80);
        assert_eq!(
            drawn,
            "\
review
├─ first (succeed)
├─ route (switch)
│  ├─ case yes
│  │  └─ ask (await_input)  ◀ waits here
│  └─ case no
│     └─ stop (succeed)
└─ last (succeed)
"
        );
        let narrow = draw(38);
        let asks = "\n│  │  └─ ask (await_input)\n│  │     ◀ waits here\n│  └─ case no";
        assert!(narrow.contains(asks), "{narrow}");
    }
}
