//! What steps compute: which variables that reads, what is known of it, and what can only fail.

use super::{
    Checker,
    reads::{computed_by, parts_of, variables},
    shape::Shape,
    spot::{Part, Spot},
};
use crate::{
    expr::{Compute, Foreseen, Kinds, Known, Outcome, Source},
    flow::StepKind,
    tool::TEMPLATE_DATA,
};

/// The part of a step that is a template which its tool fills.
const TEMPLATE: &str = "/with/template";

impl Checker<'_> {
    /// Variables that are read must be set, and expressions must be able to come to something.
    pub(super) fn computations(&mut self, kind: &StepKind, spot: &Spot, value: &Shape) {
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

    /// What is known of what an expression sees.
    pub(super) fn seen<'s>(&'s self, source: Source<'_>, value: &'s Shape) -> Option<&'s Shape> {
        match source {
            Source::Value => Some(value),
            Source::Input => Some(&self.input),
            Source::Variable(name) => self.scope.get(name),
        }
    }

    /// What is known of the result of a computation.
    pub(super) fn shape(&self, compute: &Compute, value: &Shape) -> Shape {
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
