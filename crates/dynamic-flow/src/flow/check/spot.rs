//! Where a check is, and where what it finds is written.

use super::inside;
use crate::flow::{BodyName, Step};

/// Where a step stands, by number: a path of bodies and places in them.
pub(crate) type Address = Vec<(BodyName, usize)>;

/// A part of a step, or of the flow itself where there is none: JSON pointers into what a document
/// writes for it.
#[derive(Debug, Clone, Default)]
pub(crate) enum Part {
    /// All of it.
    #[default]
    Whole,
    /// A value.
    Value(String),
    /// The name of a field.
    Name(String),
    /// A value that is computed, among others: which one must be said.
    Computed(String),
}

/// Something wrong, and the step that it is wrong with.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) address: Address,
    pub(crate) path: String,
    pub(crate) part: Part,
    pub(crate) message: String,
    /// A run of it goes on all the same: something in it is for nothing, or is the failure of a step
    /// that comes to it.
    pub(crate) bearable: bool,
}

/// Where the walk is.
#[derive(Clone, Default)]
pub(super) struct Spot {
    pub(super) path: String,
    pub(super) address: Address,
    pub(super) part: Part,
}

impl Spot {
    pub(super) fn step(&self, step: &Step, name: &BodyName, index: usize) -> Self {
        let mut address = self.address.clone();
        address.push((name.clone(), index));
        let id = step.id.as_str();
        let path = if self.path.is_empty() { id.to_owned() } else { format!("{}/{id}", self.path) };
        Self { path, address, part: Part::Whole }
    }

    pub(super) fn value(&self, pointer: &str) -> Self {
        Self { part: Part::Value(pointer.to_owned()), ..self.clone() }
    }

    pub(super) fn name(&self, pointer: &str, name: &str) -> Self {
        Self { part: Part::Name(inside(pointer, name)), ..self.clone() }
    }

    /// Where a flow stands in what is written for a step, or the outermost one.
    pub(super) fn flow(&self) -> &'static str {
        if self.address.is_empty() { "" } else { "/flow" }
    }
}
