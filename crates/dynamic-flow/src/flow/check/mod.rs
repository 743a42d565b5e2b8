//! What can be known to be wrong with a flow before it runs.

mod computed;
mod reads;
mod routes;
mod schemas;
mod scope;
mod shape;
mod spot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};

pub(in crate::flow) use self::reads::{inside, parts, reads};
pub(crate) use self::spot::{Address, Part, Problem};
use self::{schemas::Misfit, scope::Scope, shape::Shape, spot::Spot};
use crate::{
    Finding,
    expr::{Compute, Kinds, Known, Meter, Outcome},
    flow::{Body, BodyName, FlowDef, Step, StepKind, ToolRef},
    id::id_problem,
};

/// The most steps of a flow, those of the flows inside it included.
pub const MAX_STEPS: usize = 10_000;
/// How deep steps may nest.
pub const MAX_NESTING: usize = 16;

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
        looked: Vec::new(),
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
    /// What filters and switches before have looked at: not all that it may be must still come.
    looked: Vec<Shape>,
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
        let known: Vec<_> =
            bodies.iter().flat_map(|body| body.iter()).map(Step::known_as).collect();
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
                let Some(own) = &step.keyed_as else { continue };
                let spot = parent.step(step, name, index);
                self.id(&spot, "`keyed_as`", own.as_str());
                if known.iter().filter(|known| **known == own).count() > 1 {
                    let message = format!(
                        "what another step beside it calls is known as that of `{own}` too; both would \
                         have the same idempotency keys; give that one a `keyed_as` of its own"
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
                let mark = self.looked.len();
                self.look(route.looks(), &value);
                let arms = arms.iter().map(|(name, body)| (BodyName::Arm(name.clone()), body));
                let all = arms.chain(otherwise.iter().map(|body| (BodyName::Otherwise, body)));
                let ends = all.map(|(name, body)| self.body(body, &name, spot, value.clone()));
                let ends: Vec<Option<Shape>> = ends.collect();
                self.looked.truncate(mark);
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
        self.look(predicate.looks(), &value);
        Some(value)
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
