//! What can be known to be wrong with a flow before it runs.

mod reads;
mod scope;
mod shape;
mod spot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};

use indexmap::IndexMap;
use serde_json::Value;

pub(in crate::flow) use self::reads::{inside, parts, reads};
pub(crate) use self::spot::{Address, Part, Problem};
use self::{
    reads::{computed_by, parts_of, variables},
    scope::Scope,
    shape::{Misfit, Shape},
    spot::Spot,
};
use crate::{
    Finding,
    expr::{Compute, Foreseen, Kinds, Known, Meter, Outcome, Source},
    flow::{Body, BodyName, FlowDef, Step, StepKind, ToolRef},
    id::{MAX_ID_BYTES, id_problem},
    tool::TEMPLATE_DATA,
};

/// The most steps of a flow, those of the flows inside it included.
pub const MAX_STEPS: usize = 10_000;
/// How deep steps may nest.
pub const MAX_NESTING: usize = 16;

/// The part of a step that is a template which its tool fills.
const TEMPLATE: &str = "/with/template";

/// Computations that a step makes through its tool, where the flow itself does not show them; each
/// with the part of the step that it stands in.
pub(crate) type Hidden = HashMap<Address, Vec<(String, Compute)>>;

/// Everything that can be known to be wrong with a flow: ids, empty bodies, missing arms, arms that
/// are never chosen, values that can't fit, steps that never run, filters that do nothing, variables
/// that nobody sets, expressions that can only fail, times of nothing.
///
/// A flow without findings may still fail: what closures and tools do is not known.
pub fn check(def: &FlowDef) -> Vec<Finding> {
    let finding = |problem: Problem| Finding {
        path: problem.path,
        message: problem.message,
        line: None,
        column: None,
    };
    // Where the parts of a step have no names, what is wrong with two of them is said once.
    let mut told = HashSet::new();
    problems(def, &Hidden::new())
        .into_iter()
        .map(finding)
        .filter(|finding| told.insert((finding.path.clone(), finding.message.clone())))
        .collect()
}

/// As [`check`], with addresses, and with what the tools of some steps compute.
pub(crate) fn problems(def: &FlowDef, hidden: &Hidden) -> Vec<Problem> {
    let mut checker = Checker {
        problems: Vec::new(),
        hidden,
        steps: 0,
        scope: Scope::default(),
        outside: BTreeSet::new(),
        input: Shape::any(),
        meter: Meter::default(),
        guesses: Meter::default(),
    };
    checker.flow(def, &Spot::default());
    checker.problems
}

struct Checker<'h> {
    problems: Vec<Problem>,
    hidden: &'h Hidden,
    steps: usize,
    scope: Scope,
    /// The variables that are set around the flow, which has its own.
    outside: BTreeSet<String>,
    /// What the flow around is started with.
    input: Shape,
    /// What working out constants may cost, for all steps together.
    meter: Meter,
    /// What it may cost to guess which fields are meant.
    guesses: Meter,
}

impl Checker<'_> {
    fn tell(&mut self, spot: &Spot, message: impl Into<String>) {
        self.push(spot, message.into(), false);
    }

    /// Tells of what keeps no run from going on.
    fn tell_bearable(&mut self, spot: &Spot, message: impl Into<String>) {
        self.push(spot, message.into(), true);
    }

    fn push(&mut self, spot: &Spot, message: String, bearable: bool) {
        let Spot { path, address, part } = spot.clone();
        self.problems.push(Problem { address, path, part, message, bearable });
    }

    fn id(&mut self, spot: &Spot, what: &str, id: &str) {
        if let Some(problem) = id_problem(id) {
            self.tell(spot, format!("{what}: {problem}"));
        }
    }

    /// What comes out of a flow; none if nothing ever does.
    fn flow(&mut self, def: &FlowDef, spot: &Spot) -> Option<Shape> {
        let at = spot.flow();
        self.id(&spot.value(&format!("{at}/flow")), "the flow's id", def.id.as_str());
        let outside = self.outside.clone();
        self.outside.extend(self.scope.names().cloned());
        let scope = std::mem::take(&mut self.scope);
        let input = std::mem::replace(&mut self.input, Shape::of_schema(&def.input));
        if def.body.is_empty() {
            self.tell(&spot.value(&format!("{at}/steps")), "a flow needs at least one step");
        }
        self.siblings(&[&def.body], spot, &[BodyName::Main]);
        let result = self.body(&def.body, &BodyName::Main, spot, Shape::of_schema(&def.input));
        self.scope = scope;
        self.outside = outside;
        self.input = input;
        let result = result?;
        if let Some(Misfit { why, .. }) = result.misfit(&def.output) {
            self.tell_bearable(
                &spot.value(&format!("{at}/output")),
                format!("what comes out can't fit the flow's output schema: {why}"),
            );
        }
        let promised = Shape::of_schema(&def.output);
        Some(if promised.is_any() { result } else { promised })
    }

    /// Ids are unique among all bodies of one parent: a position names no body.
    fn siblings(&mut self, bodies: &[&Body], parent: &Spot, names: &[BodyName]) {
        let mut seen = HashSet::new();
        for (body, name) in bodies.iter().zip(names) {
            for (index, step) in body.iter().enumerate() {
                if !seen.insert(&step.id) {
                    let spot = parent.step(step, name, index);
                    let message = format!(
                        "another step beside it has the id `{}` too; ids are unique among all \
                         steps inside one step",
                        step.id
                    );
                    self.tell(&spot, message);
                }
            }
        }
    }

    fn body(&mut self, body: &Body, name: &BodyName, at: &Spot, start: Shape) -> Option<Shape> {
        let mark = self.scope.log.len();
        let mut value = Some(start);
        let mut told = false;
        for (index, step) in body.iter().enumerate() {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                if self.steps == MAX_STEPS + 1 {
                    let message = format!("a flow has at most {MAX_STEPS} steps");
                    self.tell(&Spot::default(), message);
                }
                break;
            }
            let spot = at.step(step, name, index);
            if value.is_none() && !told {
                told = true;
                let before = &body[index.saturating_sub(1)].id;
                let message = format!("can never run: `{before}` before it never goes on");
                self.tell_bearable(&spot, message);
            }
            let current = value.clone().unwrap_or_else(Shape::any);
            let next = self.step(step, &spot, current);
            value = value.and(next);
        }
        self.scope.leave(mark);
        value
    }

    fn step(&mut self, step: &Step, spot: &Spot, value: Shape) -> Option<Shape> {
        self.id(spot, "the step's id", step.id.as_str());
        let bodies = step.kind.bodies();
        if spot.address.len() > MAX_NESTING {
            self.tell(spot, format!("steps nest at most {MAX_NESTING} levels deep"));
            return Some(Shape::any());
        }
        if !matches!(step.kind, StepKind::SubFlow { .. }) {
            let names: Vec<BodyName> = bodies.iter().map(|(name, _)| name.clone()).collect();
            let all: Vec<&Body> = bodies.iter().map(|(_, body)| *body).collect();
            self.siblings(&all, spot, &names);
            // A `keep` of nothing has a meaning: the value, twice.
            let needs_steps = !matches!(step.kind, StepKind::Keep { .. });
            let empty =
                |(name, body): &(BodyName, &Body)| *name == BodyName::Main && body.is_empty();
            if needs_steps && bodies.iter().any(empty) {
                let message = format!("`{}` needs at least one step", step.kind.name());
                self.tell(&spot.value(main_body(&step.kind)), message);
            }
        }
        self.computations(&step.kind, spot, &value);
        self.kind(&step.kind, spot, value)
    }

    /// Variables that are read must be set, and expressions must be able to come to something.
    fn computations(&mut self, kind: &StepKind, spot: &Spot, value: &Shape) {
        if let StepKind::Get { variable } = kind {
            self.variable(variable, spot, "/get");
        }
        let hidden = self.hidden.get(&spot.address);
        let mut found = computed_by(kind);
        for (part, compute) in hidden.into_iter().flatten() {
            parts_of(compute, part, &mut found);
        }
        for (part, compute) in found {
            for name in variables(compute) {
                self.variable(&name, spot, &part);
            }
            // What a tool fills is filled with data of its own.
            let data = match (kind, part == TEMPLATE) {
                (StepKind::Tool { with: Some(with), .. }, true) => Some(self.data(with, value)),
                _ => None,
            };
            let seen = |source: Source<'_>| self.seen(source, data.as_ref().unwrap_or(value));
            let (_, told) = compute.foresee(&|source| seen(source).cloned(), &self.guesses);
            for message in told {
                let part = Part::Computed(part.clone());
                self.tell_bearable(&Spot { part, ..spot.clone() }, message);
            }
        }
        for (part, compute) in hidden.into_iter().flatten() {
            self.question(compute, spot, part, value);
        }
    }

    fn variable(&mut self, name: &str, spot: &Spot, part: &str) {
        if self.scope.get(name).is_some() {
            return;
        }
        let message = match self.outside.contains(name) {
            true => format!(
                "the variable `{name}` is set outside of this flow, which has variables of its \
                 own; pass it in the value that the flow works on"
            ),
            false => format!("no step before it, here or around, sets the variable `{name}`"),
        };
        self.tell(&Spot { part: Part::Computed(part.to_owned()), ..spot.clone() }, message);
    }

    /// What a template sees as its value that a tool is called with.
    fn data(&self, with: &Compute, value: &Shape) -> Shape {
        self.shape(with, value).field(TEMPLATE_DATA).unwrap_or_else(Shape::any)
    }

    /// What a part of a question must come to.
    fn question(&mut self, compute: &Compute, spot: &Spot, part: &str, value: &Shape) {
        let (wanted, words) = match part.strip_prefix("/await_input/") {
            // Without a prompt, a question has one made of its name.
            Some("prompt") => (Kinds::TEXT.or(Kinds::NULL), "text"),
            Some(part) if part.starts_with("metadata/") => {
                (Kinds::TEXT.or(Kinds::NUMBER).or(Kinds::BOOL), "text, a number, or true or false")
            }
            _ => return,
        };
        let kinds = self.shape(compute, value).kinds();
        // What is written out is told of where it is read.
        if !matches!(compute, Compute::Value(_)) && !kinds.may_be(wanted) {
            let part = Part::Computed(part.to_owned());
            let message = format!("it must be {words}, and is always {kinds}");
            self.tell_bearable(&Spot { part, ..spot.clone() }, message);
        }
    }

    fn kind(&mut self, kind: &StepKind, spot: &Spot, value: Shape) -> Option<Shape> {
        match kind {
            StepKind::Input { schema } => {
                let misfit = value.misfit(schema);
                self.fit(&spot.value("/input"), misfit, "the value can't fit the schema");
                Some(value.narrowed(schema))
            }
            StepKind::Succeed { value } => Some(Shape::constant(value.clone())),
            StepKind::Fail { code, message } => {
                if code.is_empty() {
                    let message = "the code of a failure must not be empty";
                    self.tell(&spot.value("/fail/code"), message);
                }
                if !self.shape(message, &value).kinds().may_be(Kinds::TEXT) {
                    let message = "the message of a failure must be text";
                    self.tell_bearable(&spot.value("/fail/message"), message);
                }
                None
            }
            StepKind::Tool { tool, with } => {
                let input = with.as_ref().map_or(value.clone(), |with| self.shape(with, &value));
                let at = with.as_ref().map_or("/call", |_| "/with");
                self.tool(tool, &spot.value(at), &input)
            }
            StepKind::AwaitInput { tool } => {
                self.tool(tool, &spot.value("/await_input/tool"), &value)
            }
            StepKind::Map { compute } => Some(self.shape(compute, &value)),
            StepKind::Tap { body } => {
                self.body(body, &BodyName::Main, spot, value.clone()).map(|_| value)
            }
            StepKind::Filter { predicate } => self.filter(predicate, spot, value),
            StepKind::Switch { route, arms, otherwise } => {
                self.route(route, arms, otherwise.is_some(), spot, &value);
                let arms = arms.iter().map(|(name, body)| (BodyName::Arm(name.clone()), body));
                let all = arms.chain(otherwise.iter().map(|body| (BodyName::Otherwise, body)));
                let ends = all.map(|(name, body)| self.body(body, &name, spot, value.clone()));
                let ends: Vec<Option<Shape>> = ends.collect();
                // Without arms the switch itself is wrong already; what follows it is not.
                if ends.is_empty() { Some(Shape::any()) } else { Shape::either(ends) }
            }
            StepKind::Keep { body } => {
                let result = self.body(body, &BodyName::Main, spot, value.clone())?;
                Some(Shape::list([value, result].into_iter()))
            }
            StepKind::Set { variables } => {
                // All are computed before the first one is set.
                let computed: Vec<(&String, Shape)> = variables
                    .iter()
                    .map(|(name, compute)| (name, self.shape(compute, &value)))
                    .collect();
                for (name, shape) in computed {
                    self.id(&spot.name("/let", name), "the name of a variable", name);
                    self.scope.set(name, shape);
                }
                Some(value)
            }
            StepKind::Get { variable } => {
                Some(self.scope.get(variable).cloned().unwrap_or_else(Shape::any))
            }
            StepKind::SubFlow { flow } => {
                let misfit = value.misfit(&flow.input);
                let what = "the value can't fit the flow's input schema";
                self.fit(&spot.value("/flow/input"), misfit, what);
                self.flow(flow, spot)
            }
            StepKind::Retry { body, attempts, backoff } => {
                if *attempts == 0 {
                    self.tell(&spot.value("/retry/attempts"), "a retry makes at least 1 attempt");
                }
                if !backoff.factor.is_finite() || backoff.factor < 1.0 {
                    let message = "the factor of a backoff is a number from 1 on";
                    self.tell(&spot.value("/retry/backoff/factor"), message);
                }
                if backoff.max < backoff.first {
                    let message = "the longest pause of a backoff is shorter than the first";
                    self.tell(&spot.value("/retry/backoff/max"), message);
                }
                self.body(body, &BodyName::Main, spot, value)
            }
            StepKind::Catch { body, handler, .. } => {
                let main = self.body(body, &BodyName::Main, spot, value.clone());
                let error = Shape::object(caught(value).into_iter());
                let handled = self.body(handler, &BodyName::Handler, spot, error);
                Shape::either(vec![main, handled])
            }
            StepKind::Timeout { body, after } => {
                if after.as_millis() == 0 {
                    let message = "a timeout must be longer than nothing";
                    self.tell(&spot.value("/timeout/after"), message);
                }
                self.body(body, &BodyName::Main, spot, value)
            }
            StepKind::Sleep { duration } => {
                if duration.as_millis() == 0 {
                    self.tell(&spot.value("/wait"), "a wait must be longer than nothing");
                }
                Some(value)
            }
        }
    }

    fn fit(&mut self, spot: &Spot, misfit: Option<Misfit>, what: &str) {
        if let Some(Misfit { why, .. }) = misfit {
            self.tell_bearable(spot, format!("{what}: {why}"));
        }
    }

    fn tool(&mut self, tool: &ToolRef, spot: &Spot, input: &Shape) -> Option<Shape> {
        self.id(spot, "the tool's id", tool.id.as_str());
        let what = format!("what tool `{}` is called with can't fit its input schema", tool.id);
        let misfit = input.misfit(&tool.input);
        let spot = match (&misfit, &spot.part) {
            (Some(misfit), Part::Value(at)) if at == "/with" => {
                let at = format!("{at}{}", misfit.at);
                match &misfit.name {
                    Some(name) => spot.name(&at, name),
                    None => spot.value(&at),
                }
            }
            _ => spot.clone(),
        };
        self.fit(&spot, misfit, &what);
        Some(Shape::of_schema(&tool.output))
    }

    fn filter(&mut self, predicate: &Compute, spot: &Spot, value: Shape) -> Option<Shape> {
        let at = spot.value("/filter");
        let outcomes = predicate.outcomes(&self.meter);
        let all = |wanted: bool| outcomes.iter().all(|it| *it == Outcome::Known(wanted.into()));
        if all(false) {
            return None;
        }
        if all(true) {
            let message = "a filter that always gives true does nothing; let it look at something, \
                           such as \"${ value.approved }\", or take it out";
            self.tell_bearable(&at, message);
        }
        let wrong = |it: &Outcome<'_>| matches!(it, Outcome::Known(value) if !value.is_boolean());
        let shape = self.shape(predicate, &value);
        if !shape.kinds().may_be(Kinds::BOOL) || outcomes.iter().any(wrong) {
            self.tell_bearable(
                &at,
                "a filter must give true or false, such as \"${ value.approved }\"",
            );
        }
        Some(value)
    }

    fn route(
        &mut self,
        route: &Compute,
        arms: &IndexMap<String, Body>,
        otherwise: bool,
        spot: &Spot,
        value: &Shape,
    ) {
        if arms.is_empty() {
            self.tell(&spot.value("/switch/cases"), "a switch needs at least one case");
            return;
        }
        for name in arms.keys().filter(|name| name.is_empty() || name.len() > MAX_ID_BYTES) {
            let bytes = name.len();
            let message = format!("the name of a case has 1 to {MAX_ID_BYTES} bytes, not {bytes}");
            self.tell(&spot.name("/switch/cases", name), message);
        }
        let on = spot.value("/switch/on");
        if matches!(route, Compute::Object(_) | Compute::List(_)) {
            self.tell_bearable(&on, "a switch must be on text, the name of a case");
        }
        let outcomes = route.outcomes(&self.meter);
        let mut told = HashSet::new();
        for outcome in &outcomes {
            let message = match outcome {
                Outcome::Known(Value::String(name)) if arms.contains_key(name) || otherwise => {
                    continue;
                }
                Outcome::Known(Value::String(name)) if name.is_empty() => {
                    "it may be that no case is chosen, as where no condition holds; add a `default`"
                        .to_owned()
                }
                Outcome::Known(Value::String(name)) => {
                    format!("`{name}` may be chosen, but there is no such case, and no `default`")
                }
                Outcome::Known(_) => "a switch must be on text, the name of a case".to_owned(),
                Outcome::Field(..) | Outcome::Unknown => continue,
            };
            if told.insert(message.clone()) {
                self.tell_bearable(&on, message);
            }
        }
        let Some(names) = self.names(&outcomes, value) else { return };
        for name in arms.keys().filter(|name| !names.contains(*name)) {
            let message = format!("the case `{name}` is never chosen");
            self.tell_bearable(&spot.name("/switch/cases", name), message);
        }
        if otherwise && names.iter().all(|name| arms.contains_key(name)) {
            let message = "the `default` is never chosen: whatever there may be has a case";
            self.tell_bearable(&spot.name("/switch", "default"), message);
        }
    }

    /// All names that a route may give; none if it may give others.
    fn names(&self, outcomes: &[Outcome<'_>], value: &Shape) -> Option<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for outcome in outcomes {
            match outcome {
                Outcome::Known(Value::String(name)) => names.extend([name.clone()]),
                // That is told by itself.
                Outcome::Known(_) => {}
                Outcome::Field(source, fields) => {
                    let seen = self.seen(*source, value)?.clone();
                    let field = fields.iter().try_fold(seen, |of, name| of.field(name))?;
                    let texts = field.listed_texts()?;
                    self.meter.spend(texts.len()).ok()?;
                    names.extend(texts);
                }
                Outcome::Unknown => return None,
            }
        }
        Some(names)
    }

    /// What is known of what an expression sees.
    fn seen<'s>(&'s self, source: Source<'_>, value: &'s Shape) -> Option<&'s Shape> {
        match source {
            Source::Value => Some(value),
            Source::Input => Some(&self.input),
            Source::Variable(name) => self.scope.get(name),
        }
    }

    /// What is known of the result of a computation.
    fn shape(&self, compute: &Compute, value: &Shape) -> Shape {
        match compute {
            Compute::Value(constant) => Shape::constant(constant.clone()),
            Compute::Template(_) => Shape::of_kinds(Kinds::TEXT),
            Compute::List(items) => Shape::list(items.iter().map(|item| self.shape(item, value))),
            Compute::Object(fields) => Shape::object(
                fields.iter().map(|(name, field)| (name.clone(), self.shape(field, value))),
            ),
            Compute::Cel(_) => match compute.outcomes(&self.meter).as_slice() {
                [Outcome::Known(constant)] => Shape::constant(constant.clone()),
                _ => {
                    let seen = |source: Source<'_>| self.seen(source, value).cloned();
                    match compute.foresee(&seen, &self.guesses).0 {
                        Foreseen::Part(shape) => shape,
                        Foreseen::Kinds(kinds) => Shape::of_kinds(kinds),
                    }
                }
            },
            Compute::Code(_) => Shape::any(),
        }
    }
}

/// What is known of the fields of an error that is caught; of its position and code, that they are
/// texts.
fn caught(value: Shape) -> Vec<(String, Shape)> {
    let text = || Shape::of_kinds(Kinds::TEXT);
    let tool = Shape::of_kinds(Kinds::TEXT.or(Kinds::NULL));
    let fields = [
        ("code", text()),
        ("message", text()),
        ("step", text()),
        ("tool_id", tool),
        ("value", value),
    ];
    fields.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect()
}

/// Where a document writes the first or only body of a step.
fn main_body(kind: &StepKind) -> &'static str {
    match kind {
        StepKind::Retry { .. } => "/retry/do",
        StepKind::Timeout { .. } => "/timeout/do",
        StepKind::Catch { .. } => "/try",
        StepKind::Keep { .. } => "/keep",
        _ => "/tap",
    }
}
