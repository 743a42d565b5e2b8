//! Flows as diagrams: Mermaid and DOT.

mod dot;
mod mermaid;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt};

pub use self::{dot::dot, mermaid::mermaid};
use crate::{
    flow::{Body, BodyName, FlowDef, Step, StepKind},
    position::Position,
};

/// What a run does at a step, or did there last: what a diagram says beside it.
///
/// A [`RunStatus`](crate::engine::RunStatus) converts into the mark for the steps where a run of
/// that status stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Mark {
    /// It waits for an answer or a time.
    Waits,
    /// It is to go on here, or goes on.
    Here,
    /// It ended with a filter that said no.
    Rejected,
    /// It failed.
    Failed,
    /// Nobody answered in time.
    Expired,
    /// It was cancelled.
    Cancelled,
    /// It ended in another way.
    Ended,
}

impl Mark {
    /// What is said beside the step, such as `waits here`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Waits => "waits here",
            Self::Here => "is here",
            Self::Rejected => "said no",
            Self::Failed => "failed here",
            Self::Expired => "expired here",
            Self::Cancelled => "cancelled here",
            Self::Ended => "ended here",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::Here => "here",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Ended => "ended",
        }
    }

    /// How the step is filled and framed.
    fn colors(self) -> (&'static str, &'static str) {
        match self {
            Self::Waits => ("#ffd54f", "#e65100"),
            Self::Here => ("#81d4fa", "#01579b"),
            Self::Rejected => ("#ffcc80", "#bf360c"),
            Self::Failed | Self::Expired => ("#ef9a9a", "#b71c1c"),
            Self::Cancelled | Self::Ended => ("#e0e0e0", "#424242"),
        }
    }

    fn sign(self) -> char {
        match self {
            Self::Waits => '⏸',
            Self::Here => '▶',
            Self::Ended => '■',
            Self::Rejected | Self::Failed | Self::Expired | Self::Cancelled => '✗',
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.words())
    }
}

/// A diagram, before it is written in any language. Nodes and groups are numbered as they stand
/// in the flow, so that the same flow always gives the same diagram.
struct Graph {
    items: Vec<Item>,
    edges: Vec<Edge>,
}

enum Item {
    Node(Node),
    Group(Group),
}

struct Node {
    id: usize,
    lines: Vec<String>,
    form: Form,
    mark: Option<Mark>,
}

struct Group {
    id: usize,
    label: String,
    mark: Option<Mark>,
    items: Vec<Item>,
}

/// What a node looks like.
#[derive(Clone, Copy)]
enum Form {
    /// Where the flow begins and ends.
    Terminal,
    /// A computation.
    Plain,
    /// A call of a tool.
    Tool,
    /// A stop until somebody answers.
    Wait,
    /// A filter or switch.
    Decision,
    /// A stop for a time.
    Pause,
    /// A failure.
    Failure,
}

struct Edge {
    from: usize,
    to: usize,
    label: Option<String>,
    /// The group that an error leaves; `from` is a node in it.
    error_of: Option<usize>,
}

/// Where an edge begins whose end is not known yet.
#[derive(Clone)]
struct Loose {
    from: usize,
    label: Option<String>,
}

impl From<usize> for Loose {
    fn from(from: usize) -> Self {
        Self { from, label: None }
    }
}

impl Graph {
    fn of(def: &FlowDef, marked: &[(Position, Mark)]) -> Self {
        let mut drawer = Drawer {
            marked: marked.iter().map(|(at, mark)| (at.steps(), *mark)).collect(),
            document: def.document.is_some(),
            next: 0,
            edges: Vec::new(),
            refused: Vec::new(),
        };
        let name = if def.name.is_empty() { def.id.as_str() } else { &def.name };
        let mut items = Vec::new();
        let start = drawer.node(&mut items, vec![name.to_owned()], Form::Terminal, None);
        let ends = drawer.body(&mut items, &def.body, "", vec![start.into()]);
        if !ends.is_empty() {
            let end = drawer.node(&mut items, vec!["completed".into()], Form::Terminal, None);
            drawer.join(ends, end);
        }
        let refused = std::mem::take(&mut drawer.refused);
        if !refused.is_empty() {
            let end = drawer.node(&mut items, vec!["rejected".into()], Form::Terminal, None);
            drawer.join(refused, end);
        }
        Self { items, edges: drawer.edges }
    }
}

struct Drawer {
    marked: HashMap<String, Mark>,
    /// Whether the flow is from a document, whose words for steps are others.
    document: bool,
    next: usize,
    edges: Vec<Edge>,
    /// Where filters say no, which ends the run wherever they stand.
    refused: Vec<Loose>,
}

impl Drawer {
    fn number(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    fn node(
        &mut self,
        items: &mut Vec<Item>,
        lines: Vec<String>,
        form: Form,
        mark: Option<Mark>,
    ) -> usize {
        let id = self.number();
        items.push(Item::Node(Node { id, lines, form, mark }));
        id
    }

    fn join(&mut self, loose: Vec<Loose>, to: usize) {
        let edges =
            loose.into_iter().map(|Loose { from, label }| Edge { from, to, label, error_of: None });
        self.edges.extend(edges);
    }

    fn body(
        &mut self,
        items: &mut Vec<Item>,
        body: &Body,
        parent: &str,
        from: Vec<Loose>,
    ) -> Vec<Loose> {
        body.iter().fold(from, |loose, step| self.step(items, step, parent, loose))
    }

    fn step(
        &mut self,
        items: &mut Vec<Item>,
        step: &Step,
        parent: &str,
        from: Vec<Loose>,
    ) -> Vec<Loose> {
        let id = step.id.as_str();
        let path = if parent.is_empty() { id.to_owned() } else { format!("{parent}/{id}") };
        let mark = self.marked.get(&path).copied();
        match &step.kind {
            StepKind::Switch { .. } => {
                let node = self.node(items, lines(step, self.document), Form::Decision, mark);
                self.join(from, node);
                let arms = step.kind.bodies().into_iter();
                arms.flat_map(|(name, body)| self.arm(items, &name, body, &path, node)).collect()
            }
            StepKind::Catch { body, handler, .. } => {
                let label = lines(step, self.document).join(": ");
                let (tried, mut ends) = self.group(items, label, mark, body, &path, from);
                let Some((group, first)) = tried else { return ends };
                let label = format!("{id}: on error");
                let (handled, handler_ends) =
                    self.group(items, label, None, handler, &path, Vec::new());
                match handled {
                    Some((_, handler_first)) => self.edges.push(Edge {
                        from: first,
                        to: handler_first,
                        label: Some("error".into()),
                        error_of: Some(group),
                    }),
                    None => ends.push(Loose { from: first, label: Some("error".into()) }),
                }
                ends.extend(handler_ends);
                ends
            }
            kind => {
                if let Some((_, body)) = kind.bodies().first().filter(|(_, body)| !body.is_empty())
                {
                    let label = lines(step, self.document).join(": ");
                    return self.group(items, label, mark, body, &path, from).1;
                }
                let node = self.node(items, lines(step, self.document), form(kind), mark);
                self.join(from, node);
                match kind {
                    StepKind::Fail { .. } => Vec::new(),
                    StepKind::Filter { .. } => {
                        self.refused.push(Loose { from: node, label: Some("no".into()) });
                        vec![Loose { from: node, label: Some("yes".into()) }]
                    }
                    _ => vec![node.into()],
                }
            }
        }
    }

    /// An arm of a switch; one without steps is only an edge.
    fn arm(
        &mut self,
        items: &mut Vec<Item>,
        name: &BodyName,
        body: &Body,
        path: &str,
        switch: usize,
    ) -> Vec<Loose> {
        let label = match name {
            BodyName::Arm(name) => name.clone(),
            _ => "otherwise".into(),
        };
        let from = vec![Loose { from: switch, label: Some(label.clone()) }];
        self.group(items, label, None, body, path, from).1
    }

    /// A body with a frame around it: its number and first node, unless it is empty, and its ends.
    fn group(
        &mut self,
        items: &mut Vec<Item>,
        label: String,
        mark: Option<Mark>,
        body: &Body,
        path: &str,
        from: Vec<Loose>,
    ) -> (Option<(usize, usize)>, Vec<Loose>) {
        if body.is_empty() {
            return (None, from);
        }
        let id = self.number();
        let mut inner = Vec::new();
        let ends = self.body(&mut inner, body, path, from);
        let first = first_node(&inner);
        items.push(Item::Group(Group { id, label, mark, items: inner }));
        (first.map(|first| (id, first)), ends)
    }
}

fn first_node(items: &[Item]) -> Option<usize> {
    items.iter().find_map(|item| match item {
        Item::Node(node) => Some(node.id),
        Item::Group(group) => first_node(&group.items),
    })
}

/// The step's id, and what it does, in the words of what its author wrote.
fn lines(step: &Step, document: bool) -> Vec<String> {
    let word = match (&step.kind, document) {
        (StepKind::AwaitInput { .. }, _) => "await input",
        (StepKind::SubFlow { .. }, _) => "flow",
        (StepKind::Map { .. }, true) => "set",
        (StepKind::Set { .. }, true) => "let",
        (StepKind::Tool { .. }, true) => "call",
        (StepKind::Catch { .. }, true) => "try",
        (StepKind::Sleep { .. }, true) => "wait",
        (kind, _) => kind.name(),
    };
    let what = match &step.kind {
        StepKind::AwaitInput { tool } if tool.id.as_str() == step.id.as_str() => word.to_owned(),
        StepKind::Tool { tool, .. } | StepKind::AwaitInput { tool } => {
            format!("{word} {}", tool.id)
        }
        StepKind::SubFlow { flow } => format!("{word} {}", flow.id),
        StepKind::Fail { code, .. } => format!("{word} {code}"),
        StepKind::Get { variable } => format!("{word} {variable}"),
        StepKind::Set { variables } => {
            let names: Vec<&str> = variables.keys().map(String::as_str).collect();
            format!("{word} {}", names.join(", "))
        }
        StepKind::Retry { attempts, .. } => format!("{word}, {attempts} attempts"),
        _ => word.to_owned(),
    };
    vec![step.id.to_string(), what]
}

fn form(kind: &StepKind) -> Form {
    match kind {
        StepKind::Tool { .. } => Form::Tool,
        StepKind::AwaitInput { .. } => Form::Wait,
        StepKind::Filter { .. } => Form::Decision,
        StepKind::Sleep { .. } => Form::Pause,
        StepKind::Fail { .. } => Form::Failure,
        _ => Form::Plain,
    }
}

/// Control characters would break a line of the diagram in two.
fn printable(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().map(|c| if c.is_control() { ' ' } else { c })
}
