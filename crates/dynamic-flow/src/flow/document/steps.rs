//! From nodes to flows, bodies and steps.

use std::{collections::BTreeMap, sync::Arc};

use indexmap::IndexMap;
use serde_json::Value;

use super::{
    node::{Data, Node},
    reader::{Fields, Reader},
};
use crate::{
    expr::{Cel, Code, Compute, most_pattern_bytes},
    flow::{Backoff, Body, BodyName, FlowDef, Step, StepKind, ToolRef},
    id::{StepId, ToolId},
    schema::Schema,
    words::did_you_mean,
};

/// The fields that any step may have.
pub(super) const OF_ANY_STEP: &[&str] = &["id", "keyed_as", "description"];

/// The fields of a flow.
pub(super) const FLOW: &[&str] = &["flow", "name", "description", "input", "output", "steps"];

/// The verbs of steps, each with the field that may stand beside it.
pub(super) const VERBS: &[(&str, Option<&str>)] = &[
    ("set", None),
    ("let", None),
    ("get", None),
    ("await_input", None),
    ("filter", None),
    ("call", Some("with")),
    ("switch", None),
    ("keep", None),
    ("tap", None),
    ("flow", None),
    ("succeed", None),
    ("fail", None),
    ("input", None),
    ("wait", None),
    ("try", Some("catch")),
    ("retry", None),
    ("timeout", None),
];

impl Reader<'_> {
    /// A flow; where it stands is where the step stands that it is written in.
    pub(super) fn flow(&mut self, node: &Node) -> Option<FlowDef> {
        let fields = self.fields(node, "a flow", FLOW)?;
        let id = self.required(fields, "a flow", "flow");
        let id = id.and_then(|node| self.text(node, "`flow`, the flow's id,"));
        let name = self.optional_text(fields, "name");
        let description = self.optional_text(fields, "description");
        let mut schema = |name: &str| {
            let schema = fields.get(name).and_then(|n| self.schema(n, &format!("`{name}`")));
            schema.unwrap_or_else(Schema::any)
        };
        let (input, output) = (schema("input"), schema("output"));
        let steps = self.required(fields, "a flow", "steps");
        let body = self.body(steps?, &BodyName::Main, "`steps`")?;
        let id = id.unwrap_or("unnamed").into();
        Some(FlowDef { id, name, description, input, output, body, document: None })
    }

    fn body(&mut self, node: &Node, name: &BodyName, what: &str) -> Option<Body> {
        let items = match &node.data {
            Data::List(items) => items,
            Data::Broken => return None,
            _ => {
                let message = format!("{what} must be a list of steps, not {}", node.sort());
                self.find(node.place, message);
                return None;
            }
        };
        let mut steps = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            self.address.push((name.clone(), index));
            steps.push(self.step(item, index));
            self.address.pop();
        }
        Some(steps)
    }

    /// A step, whose address is set already; while it is read, the path is its own.
    fn step(&mut self, node: &Node, index: usize) -> Step {
        let around = self.path.len();
        let unnamed = format!("step-{}", index + 1);
        self.go_to(around, &unnamed);
        let step = match self.object(node, "a step") {
            Some(fields) => self.step_of(fields, around, &unnamed),
            None => unknown_step(&unnamed),
        };
        self.path.truncate(around);
        step
    }

    fn step_of(&mut self, fields: Fields<'_>, around: usize, unnamed: &str) -> Step {
        let id = self.required(fields, "a step", "id");
        let id = id.and_then(|id| self.text(id, "`id`")).unwrap_or(unnamed);
        self.go_to(around, id);
        let keyed_as = fields.get("keyed_as").and_then(|name| self.text(name, "`keyed_as`"));
        let keyed_as = keyed_as.filter(|name| *name != id).map(StepId::from);
        let description = self.optional_text(fields, "description");
        let kind = self.verb(fields).and_then(|verb| self.kind(verb, fields));
        let kind = kind.unwrap_or_else(unknown_kind);
        Step { id: id.into(), keyed_as, description, kind }
    }

    /// Has the path lead to a step in what it leads to with so many of its bytes.
    fn go_to(&mut self, around: usize, id: &str) {
        self.path.truncate(around);
        if around > 0 {
            self.path.push('/');
        }
        self.path.push_str(id);
    }

    /// Finds the one verb of a step; tells of missing, second and unknown ones.
    fn verb(&mut self, fields: Fields<'_>) -> Option<&'static str> {
        let verbs: Vec<_> = VERBS.iter().filter(|(verb, _)| fields.has(verb)).collect();
        let words = || VERBS.iter().map(|(verb, _)| *verb).chain(OF_ANY_STEP.iter().copied());
        let beside = verbs.first().and_then(|(_, beside)| *beside);
        let mut unknown = false;
        for (key, _) in fields.iter() {
            let name = key.name.as_str();
            if words().any(|word| word == name) || Some(name) == beside {
                continue;
            }
            unknown = true;
            let owner = VERBS.iter().find(|(_, beside)| *beside == Some(name));
            let message = match owner {
                Some((verb, _)) => format!("`{name}` goes with `{verb}` only"),
                None => {
                    let guess = did_you_mean(name, words().chain(beside));
                    format!("a step has no field `{name}`{guess}")
                }
            };
            self.find(key.place, message);
        }
        match verbs.as_slice() {
            [] if unknown => None,
            [] => {
                let known: Vec<String> = VERBS.iter().map(|(v, _)| format!("`{v}`")).collect();
                let message = format!("a step needs a verb, one of {}", known.join(", "));
                self.find(fields.place, message);
                None
            }
            [(verb, _)] => Some(verb),
            [(first, _), (second, _), ..] => {
                let place = fields.key(second).map_or(fields.place, |key| key.place);
                let message = format!("a step has one verb, this one has `{first}` and `{second}`");
                self.find(place, message);
                None
            }
        }
    }

    fn kind(&mut self, verb: &str, fields: Fields<'_>) -> Option<StepKind> {
        let node = fields.get(verb)?;
        Some(match verb {
            "set" => StepKind::Map { compute: self.compute(node, "`set`") },
            "let" => StepKind::Set { variables: self.variables(node, "`let`")? },
            "get" => StepKind::Get { variable: self.text(node, "`get`")?.to_owned() },
            "await_input" => self.await_input(node)?,
            "filter" => StepKind::Filter { predicate: self.compute(node, "`filter`") },
            "call" => self.call(node, fields)?,
            "switch" => self.switch(node)?,
            "keep" => StepKind::Keep { body: self.body(node, &BodyName::Main, "`keep`")? },
            "tap" => StepKind::Tap { body: self.body(node, &BodyName::Main, "`tap`")? },
            "flow" => StepKind::SubFlow { flow: Arc::new(self.flow(node)?) },
            "succeed" => StepKind::Succeed {
                value: self.constant(node, "`succeed`", "; `set` computes values")?,
            },
            "fail" => self.fail(node)?,
            "input" => StepKind::Input { schema: self.schema(node, "`input`")? },
            "wait" => StepKind::Sleep { duration: self.duration(node, "`wait`")? },
            "try" => self.catch(node, fields)?,
            "retry" => self.retry(node)?,
            "timeout" => self.timeout(node)?,
            // Every verb of the table has its arm; a test reads each of them.
            _ => return None,
        })
    }

    pub(super) fn variables(
        &mut self,
        node: &Node,
        what: &str,
    ) -> Option<BTreeMap<String, Compute>> {
        let fields = self.object(node, what)?;
        let named = fields.iter().map(|(key, node)| {
            let what = format!("{what}.{}", key.name);
            (key.name.clone(), self.compute(node, &what))
        });
        Some(named.collect())
    }

    fn call(&mut self, node: &Node, fields: Fields<'_>) -> Option<StepKind> {
        let id = self.text(node, "`call`").map(ToolId::from);
        let tool = id.as_ref().and_then(|id| self.tools.get(id)).cloned();
        let with = match &tool {
            Some(tool) if tool.spec().fills_template => self.with_template(node, fields),
            _ => fields.get("with").map(|with| self.compute(with, "`with`")),
        };
        let id = id?;
        let Some(tool) = tool else {
            let guess = did_you_mean(id.as_str(), self.tools.specs().map(|spec| spec.id.as_str()));
            self.find(node.place, format!("there is no tool `{id}`{guess}"));
            let with = with.map(|with| ("/with".to_owned(), with));
            self.hidden.insert(self.address.clone(), with.into_iter().collect());
            return None;
        };
        let awaits = tool.spec().awaits_input && !fields.has("with");
        let tool = ToolRef::new(tool);
        Some(if awaits { StepKind::AwaitInput { tool } } else { StepKind::Tool { tool, with } })
    }

    fn switch(&mut self, node: &Node) -> Option<StepKind> {
        let fields = self.fields(node, "`switch`", &["on", "cases", "default"])?;
        let on = self.required(fields, "`switch`", "on");
        let route = on.map(|on| match &on.data {
            Data::List(rules) => self.rules(rules),
            _ => self.compute(on, "`on`"),
        });
        let cases = self.required(fields, "`switch`", "cases");
        let cases = cases.and_then(|cases| self.object(cases, "`cases`"));
        let mut arms = IndexMap::new();
        for (key, steps) in cases.iter().flat_map(Fields::iter) {
            let what = format!("case `{}`", key.name);
            let name = BodyName::Arm(key.name.clone());
            let body = self.body(steps, &name, &what);
            arms.insert(key.name.clone(), body.unwrap_or_else(unknown_body));
        }
        let otherwise = fields.get("default").map(|steps| {
            let body = self.body(steps, &BodyName::Otherwise, "`default`");
            body.unwrap_or_else(unknown_body)
        });
        cases?;
        let route = route.unwrap_or_else(unknown_value);
        Some(StepKind::Switch { route, arms, otherwise })
    }

    /// A list of conditions, as one expression that gives the first arm whose condition holds.
    fn rules(&mut self, rules: &[Node]) -> Compute {
        let lost = self.lost_pattern_bytes;
        let mut parts = Vec::new();
        let mut checked = Vec::new();
        let mut whole = true;
        for (index, rule) in rules.iter().enumerate() {
            let what = "a rule of `on`";
            let part = self.fields(rule, what, &["when", "then"]).and_then(|fields| {
                let when = self.required(fields, what, "when");
                let when = when.and_then(|when| self.expression(when, "`when`"));
                let when = when.and_then(|(source, compute)| {
                    checked.push((format!("/switch/on/{index}/when"), compute));
                    source
                });
                let then = self.required(fields, what, "then");
                let then = then.and_then(|then| self.text(then, "`then`"));
                Some((when?, then?, rule.place))
            });
            whole &= part.is_some();
            parts.extend(part);
        }
        let Some((_, _, place)) = parts.first().copied().filter(|_| whole) else {
            // Nothing is known of the whole, so that its parts are checked each by itself.
            self.hidden.entry(self.address.clone()).or_default().extend(checked);
            return unknown_value();
        };
        // The line break ends a comment that a condition may end with.
        let source = parts.iter().rev().fold("''".to_owned(), |rest, (when, then, _)| {
            format!("({when}\n) ? {} : ({rest})", Value::from(*then))
        });
        match Cel::compile(&source) {
            Ok(cel) => {
                self.lost_pattern_bytes = lost;
                self.weighed(Compute::Cel(cel), place)
            }
            Err(error) => {
                self.lose(most_pattern_bytes(&source), place);
                let message = format!("`on`, all rules together: {}", error.message());
                self.find(place, message);
                unknown_value()
            }
        }
    }

    fn fail(&mut self, node: &Node) -> Option<StepKind> {
        let fields = self.fields(node, "`fail`", &["code", "message"])?;
        let code = self.required(fields, "`fail`", "code");
        let code = code.and_then(|code| self.text(code, "`code`"));
        let message = self.required(fields, "`fail`", "message");
        let message = message.map(|message| self.compute(message, "`message`"));
        Some(StepKind::Fail {
            code: code.unwrap_or("failed").to_owned(),
            message: message.unwrap_or_else(unknown_value),
        })
    }

    fn catch(&mut self, body: &Node, step: Fields<'_>) -> Option<StepKind> {
        let body = self.body(body, &BodyName::Main, "`try`");
        let node = self.required(step, "a step with `try`", "catch")?;
        let fields = self.fields(node, "`catch`", &["errors", "do"])?;
        let errors = fields.get("errors").and_then(|node| self.list(node, "`errors`"));
        let codes = errors
            .iter()
            .flat_map(|items| items.iter())
            .filter_map(|item| self.text(item, "a code in `errors`").map(str::to_owned))
            .collect();
        if let (Some([]), Some(key)) = (errors, fields.key("errors")) {
            let message = "`errors` names no code; leave it out to catch all errors";
            self.find(key.place, message);
        }
        let handler = self.required(fields, "`catch`", "do")?;
        let handler = self.body(handler, &BodyName::Handler, "`catch.do`");
        Some(StepKind::Catch {
            body: body.unwrap_or_else(unknown_body),
            codes,
            handler: handler.unwrap_or_else(unknown_body),
        })
    }

    fn retry(&mut self, node: &Node) -> Option<StepKind> {
        let fields = self.fields(node, "`retry`", &["attempts", "backoff", "do"])?;
        let attempts = self.required(fields, "`retry`", "attempts");
        let attempts = attempts.and_then(|node| match &node.data {
            Data::Number(number) if number.as_u64().is_some() => {
                Some(u32::try_from(number.as_u64()?).unwrap_or(u32::MAX))
            }
            _ => {
                self.find(node.place, "`attempts` must be a whole number, such as 3");
                None
            }
        });
        let backoff = fields.get("backoff").and_then(|node| self.backoff(node));
        let body = self.required(fields, "`retry`", "do")?;
        let body = self.body(body, &BodyName::Main, "`do`")?;
        let backoff = backoff.unwrap_or_default();
        Some(StepKind::Retry { body, attempts: attempts.unwrap_or(1), backoff })
    }

    /// A pause that stays the same, or one that grows.
    fn backoff(&mut self, node: &Node) -> Option<Backoff> {
        if !matches!(node.data, Data::Object(_)) {
            let pause = self.duration(node, "`backoff`")?;
            return Some(Backoff::fixed(pause));
        }
        let fields = self.fields(node, "`backoff`", &["first", "factor", "max"])?;
        let duration = |reader: &mut Self, name: &str| {
            let node = fields.get(name);
            node.map(|node| reader.duration(node, &format!("`{name}`")))
        };
        let (first, max) = (duration(self, "first"), duration(self, "max"));
        let factor = fields.get("factor").map(|node| match &node.data {
            Data::Number(number) => number.as_f64(),
            _ => {
                self.find(node.place, "`factor` must be a number, such as 2");
                None
            }
        });
        // A field that is there and can't be read leaves nothing to go on with.
        let mut backoff = Backoff::default();
        if let Some(first) = first {
            backoff.first = first?;
            backoff.max = backoff.max.max(backoff.first);
        }
        if let Some(factor) = factor {
            backoff.factor = factor?;
        }
        if let Some(max) = max {
            backoff.max = max?;
        }
        Some(backoff)
    }

    fn timeout(&mut self, node: &Node) -> Option<StepKind> {
        let fields = self.fields(node, "`timeout`", &["after", "do"])?;
        let after = self.required(fields, "`timeout`", "after");
        let after = after.and_then(|node| self.duration(node, "`after`"));
        let body = self.required(fields, "`timeout`", "do")?;
        let body = self.body(body, &BodyName::Main, "`do`")?;
        Some(StepKind::Timeout { body, after: after? })
    }
}

/// Stands for what could not be read: nothing is known of it, so nothing more is said of it.
pub(super) fn unknown_value() -> Compute {
    Compute::Code(Code::unknown())
}

fn unknown_kind() -> StepKind {
    StepKind::Map { compute: unknown_value() }
}

fn unknown_step(id: &str) -> Step {
    Step::new(id, unknown_kind())
}

fn unknown_body() -> Body {
    vec![unknown_step("step-1")]
}
