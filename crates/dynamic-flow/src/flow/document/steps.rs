//! From nodes to flows, bodies and steps.

use std::{collections::BTreeMap, sync::Arc};

use indexmap::IndexMap;
use serde_json::Value;

use super::{
    reader::{Fields, Reader},
    syntax::{Data, Node},
};
use crate::{
    expr::{Cel, Code, Compute},
    flow::{Backoff, Body, BodyName, FlowDef, Step, StepKind, ToolRef},
    id::{StepId, ToolId},
    schema::Schema,
    words::did_you_mean,
};

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

/// Where a step stands: by ids for people, by numbers for looking it up.
#[derive(Clone, Copy)]
pub(super) struct Spot<'s> {
    pub(super) path: &'s str,
    pub(super) address: &'s [(BodyName, usize)],
}

impl Reader<'_> {
    /// A flow; its address is that of the step it is written in.
    pub(super) fn flow(
        &mut self,
        node: &Node,
        path: &str,
        address: &[(BodyName, usize)],
    ) -> Option<FlowDef> {
        let fields = self.fields(node, path, "a flow", FLOW)?;
        let id = self.required(fields, path, "a flow", "flow");
        let id = id.and_then(|node| self.text(node, path, "`flow`, the flow's id,"));
        let name = self.optional_text(fields, path, "name");
        let description = self.optional_text(fields, path, "description");
        let mut schema = |name: &str| {
            let schema = fields.get(name).and_then(|n| self.schema(n, path, &format!("`{name}`")));
            schema.unwrap_or_else(Schema::any)
        };
        let (input, output) = (schema("input"), schema("output"));
        let steps = self.required(fields, path, "a flow", "steps");
        let body = self.body(steps?, Spot { path, address }, &BodyName::Main, "`steps`")?;
        let id = id.unwrap_or("unnamed").into();
        Some(FlowDef { id, name, description, input, output, body, document: None })
    }

    fn body(&mut self, node: &Node, spot: Spot<'_>, name: &BodyName, what: &str) -> Option<Body> {
        let items = match &node.data {
            Data::List(items) => items,
            Data::Broken => return None,
            _ => {
                let message = format!("{what} must be a list of steps, not {}", node.sort());
                self.find(spot.path, node.place, message);
                return None;
            }
        };
        Some(
            items
                .iter()
                .enumerate()
                .map(|(index, item)| {
                    let mut address = spot.address.to_vec();
                    address.push((name.clone(), index));
                    self.step(item, spot.path, &address)
                })
                .collect(),
        )
    }

    fn step(&mut self, node: &Node, parent: &str, address: &[(BodyName, usize)]) -> Step {
        let index = address.last().map_or(0, |(_, index)| *index);
        let unnamed = format!("step-{}", index + 1);
        let join = |id: &str| if parent.is_empty() { id.into() } else { format!("{parent}/{id}") };
        let Some(fields) = self.object(node, &join(&unnamed), "a step") else {
            return unknown_step(&unnamed);
        };
        let path = join(&unnamed);
        let id = self.required(fields, &path, "a step", "id");
        let id = id.and_then(|id| self.text(id, &path, "`id`")).unwrap_or(&unnamed);
        let path = join(id);
        let description = self.optional_text(fields, &path, "description");
        let spot = Spot { path: &path, address };
        let kind = self.verb(fields, spot).and_then(|verb| self.kind(verb, fields, spot));
        Step { id: id.into(), description, kind: kind.unwrap_or_else(unknown_kind) }
    }

    /// Finds the one verb of a step; tells of missing, second and unknown ones.
    fn verb(&mut self, fields: Fields<'_>, spot: Spot<'_>) -> Option<&'static str> {
        let verbs: Vec<_> = VERBS.iter().filter(|(verb, _)| fields.has(verb)).collect();
        let words = || VERBS.iter().map(|(verb, _)| *verb).chain(["id", "description"]);
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
            self.find(spot.path, key.place, message);
        }
        match verbs.as_slice() {
            [] if unknown => None,
            [] => {
                let known: Vec<String> = VERBS.iter().map(|(v, _)| format!("`{v}`")).collect();
                let message = format!("a step needs a verb, one of {}", known.join(", "));
                self.find(spot.path, fields.place, message);
                None
            }
            [(verb, _)] => Some(verb),
            [(first, _), (second, _), ..] => {
                let place = fields.key(second).map_or(fields.place, |key| key.place);
                let message = format!("a step has one verb, this one has `{first}` and `{second}`");
                self.find(spot.path, place, message);
                None
            }
        }
    }

    fn kind(&mut self, verb: &str, fields: Fields<'_>, spot: Spot<'_>) -> Option<StepKind> {
        let node = fields.get(verb)?;
        let path = spot.path;
        Some(match verb {
            "set" => StepKind::Map { compute: self.compute(node, path, "`set`") },
            "let" => StepKind::Set { variables: self.variables(node, path, "`let`")? },
            "get" => StepKind::Get { variable: self.text(node, path, "`get`")?.to_owned() },
            "await_input" => self.await_input(node, spot)?,
            "filter" => StepKind::Filter { predicate: self.compute(node, path, "`filter`") },
            "call" => self.call(node, fields, spot)?,
            "switch" => self.switch(node, spot)?,
            "keep" => StepKind::Keep { body: self.body(node, spot, &BodyName::Main, "`keep`")? },
            "tap" => StepKind::Tap { body: self.body(node, spot, &BodyName::Main, "`tap`")? },
            "flow" => StepKind::SubFlow { flow: Arc::new(self.flow(node, path, spot.address)?) },
            "succeed" => StepKind::Succeed {
                value: self.constant(node, path, "`succeed`", "; `set` computes values")?,
            },
            "fail" => self.fail(node, path)?,
            "input" => StepKind::Input { schema: self.schema(node, path, "`input`")? },
            "wait" => StepKind::Sleep { duration: self.duration(node, path, "`wait`")? },
            "try" => self.catch(node, fields, spot)?,
            "retry" => self.retry(node, spot)?,
            "timeout" => self.timeout(node, spot)?,
            // Every verb of the table has its arm; a test reads each of them.
            _ => return None,
        })
    }

    pub(super) fn variables(
        &mut self,
        node: &Node,
        path: &str,
        what: &str,
    ) -> Option<BTreeMap<String, Compute>> {
        let fields = self.object(node, path, what)?;
        let named = fields.iter().map(|(key, node)| {
            let what = format!("{what}.{}", key.name);
            (key.name.clone(), self.compute(node, path, &what))
        });
        Some(named.collect())
    }

    fn call(&mut self, node: &Node, fields: Fields<'_>, spot: Spot<'_>) -> Option<StepKind> {
        let path = spot.path;
        let id = self.text(node, path, "`call`").map(ToolId::from);
        let tool = id.as_ref().and_then(|id| self.tools.get(id)).cloned();
        let with = match &tool {
            Some(tool) if tool.spec().fills_template => self.with_template(node, fields, spot),
            _ => fields.get("with").map(|with| self.compute(with, path, "`with`")),
        };
        let id = id?;
        let Some(tool) = tool else {
            let guess = did_you_mean(id.as_str(), self.tools.specs().map(|spec| spec.id.as_str()));
            self.find(path, node.place, format!("there is no tool `{id}`{guess}"));
            let with = with.map(|with| ("/with".to_owned(), with));
            self.hidden.insert(spot.address.to_vec(), with.into_iter().collect());
            return None;
        };
        let awaits = tool.spec().awaits_input && !fields.has("with");
        let tool = ToolRef::new(tool);
        Some(if awaits { StepKind::AwaitInput { tool } } else { StepKind::Tool { tool, with } })
    }

    fn switch(&mut self, node: &Node, spot: Spot<'_>) -> Option<StepKind> {
        let path = spot.path;
        let fields = self.fields(node, path, "`switch`", &["on", "cases", "default"])?;
        let on = self.required(fields, path, "`switch`", "on");
        let route = on.map(|on| match &on.data {
            Data::List(rules) => self.rules(rules, path),
            _ => self.compute(on, path, "`on`"),
        });
        let cases = self.required(fields, path, "`switch`", "cases");
        let cases = cases.and_then(|cases| self.object(cases, path, "`cases`"));
        let mut arms = IndexMap::new();
        for (key, steps) in cases.iter().flat_map(Fields::iter) {
            let what = format!("case `{}`", key.name);
            let name = BodyName::Arm(key.name.clone());
            let body = self.body(steps, spot, &name, &what);
            arms.insert(key.name.clone(), body.unwrap_or_else(unknown_body));
        }
        let otherwise = fields.get("default").map(|steps| {
            let body = self.body(steps, spot, &BodyName::Otherwise, "`default`");
            body.unwrap_or_else(unknown_body)
        });
        cases?;
        let route = route.unwrap_or_else(unknown_value);
        Some(StepKind::Switch { route, arms, otherwise })
    }

    /// A list of conditions, as one expression that gives the first arm whose condition holds.
    fn rules(&mut self, rules: &[Node], path: &str) -> Compute {
        let mut parts = Vec::new();
        let mut whole = true;
        for rule in rules {
            let what = "a rule of `on`";
            let part = self.fields(rule, path, what, &["when", "then"]).and_then(|fields| {
                let when = self.required(fields, path, what, "when");
                let when = when.and_then(|when| self.expression(when, path, "`when`"));
                let then = self.required(fields, path, what, "then");
                let then = then.and_then(|then| self.text(then, path, "`then`"));
                Some((when?, then?, rule.place))
            });
            whole &= part.is_some();
            parts.extend(part);
        }
        let Some((_, _, place)) = parts.first().copied().filter(|_| whole) else {
            return unknown_value();
        };
        // The line break ends a comment that a condition may end with.
        let source = parts.iter().rev().fold("''".to_owned(), |rest, (when, then, _)| {
            format!("({when}\n) ? {} : ({rest})", Value::from(*then))
        });
        let compute = Cel::compile(&source).map(Compute::Cel).unwrap_or_else(|error| {
            let message = format!("`on`, all rules together: {}", error.message());
            self.find(path, place, message);
            unknown_value()
        });
        self.weighed(compute, place, path)
    }

    fn fail(&mut self, node: &Node, path: &str) -> Option<StepKind> {
        let fields = self.fields(node, path, "`fail`", &["code", "message"])?;
        let code = self.required(fields, path, "`fail`", "code");
        let code = code.and_then(|code| self.text(code, path, "`code`"));
        let message = self.required(fields, path, "`fail`", "message");
        let message = message.map(|message| self.compute(message, path, "`message`"));
        Some(StepKind::Fail {
            code: code.unwrap_or("failed").to_owned(),
            message: message.unwrap_or_else(unknown_value),
        })
    }

    fn catch(&mut self, body: &Node, step: Fields<'_>, spot: Spot<'_>) -> Option<StepKind> {
        let path = spot.path;
        let body = self.body(body, spot, &BodyName::Main, "`try`");
        let node = self.required(step, path, "a step with `try`", "catch")?;
        let fields = self.fields(node, path, "`catch`", &["errors", "do"])?;
        let errors = fields.get("errors").and_then(|node| self.list(node, path, "`errors`"));
        let codes = errors
            .iter()
            .flat_map(|items| items.iter())
            .filter_map(|item| self.text(item, path, "a code in `errors`").map(str::to_owned))
            .collect();
        if let (Some([]), Some(key)) = (errors, fields.key("errors")) {
            let message = "`errors` names no code; leave it out to catch all errors";
            self.find(path, key.place, message);
        }
        let handler = self.required(fields, path, "`catch`", "do")?;
        let handler = self.body(handler, spot, &BodyName::Handler, "`catch.do`");
        Some(StepKind::Catch {
            body: body.unwrap_or_else(unknown_body),
            codes,
            handler: handler.unwrap_or_else(unknown_body),
        })
    }

    fn retry(&mut self, node: &Node, spot: Spot<'_>) -> Option<StepKind> {
        let path = spot.path;
        let fields = self.fields(node, path, "`retry`", &["attempts", "backoff", "do"])?;
        let attempts = self.required(fields, path, "`retry`", "attempts");
        let attempts = attempts.and_then(|node| match &node.data {
            Data::Number(number) if number.as_u64().is_some() => {
                Some(u32::try_from(number.as_u64()?).unwrap_or(u32::MAX))
            }
            _ => {
                self.find(path, node.place, "`attempts` must be a whole number, such as 3");
                None
            }
        });
        let backoff = fields.get("backoff").and_then(|node| self.backoff(node, path));
        let body = self.required(fields, path, "`retry`", "do")?;
        let body = self.body(body, spot, &BodyName::Main, "`do`")?;
        let backoff = backoff.unwrap_or_default();
        Some(StepKind::Retry { body, attempts: attempts.unwrap_or(1), backoff })
    }

    /// A pause that stays the same, or one that grows.
    fn backoff(&mut self, node: &Node, path: &str) -> Option<Backoff> {
        if !matches!(node.data, Data::Object(_)) {
            let pause = self.duration(node, path, "`backoff`")?;
            return Some(Backoff { first: pause, factor: 1.0, max: pause });
        }
        let fields = self.fields(node, path, "`backoff`", &["first", "factor", "max"])?;
        let duration = |reader: &mut Self, name: &str| {
            let node = fields.get(name);
            node.map(|node| reader.duration(node, path, &format!("`{name}`")))
        };
        let (first, max) = (duration(self, "first"), duration(self, "max"));
        let factor = fields.get("factor").map(|node| match &node.data {
            Data::Number(number) => number.as_f64(),
            _ => {
                self.find(path, node.place, "`factor` must be a number, such as 2");
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

    fn timeout(&mut self, node: &Node, spot: Spot<'_>) -> Option<StepKind> {
        let path = spot.path;
        let fields = self.fields(node, path, "`timeout`", &["after", "do"])?;
        let after = self.required(fields, path, "`timeout`", "after");
        let after = after.and_then(|node| self.duration(node, path, "`after`"));
        let body = self.required(fields, path, "`timeout`", "do")?;
        let body = self.body(body, spot, &BodyName::Main, "`do`")?;
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
    Step { id: StepId::from(id), description: String::new(), kind: unknown_kind() }
}

fn unknown_body() -> Body {
    vec![unknown_step("step-1")]
}
