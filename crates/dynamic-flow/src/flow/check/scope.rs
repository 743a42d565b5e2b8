//! What is known of variables.

use std::collections::HashMap;

use super::shape::Shape;

/// The variables in scope and what is known of them; a body is left by undoing what it set.
#[derive(Default)]
pub(super) struct Scope {
    vars: HashMap<String, Vec<Shape>>,
    pub(super) log: Vec<String>,
}

impl Scope {
    pub(super) fn set(&mut self, name: &str, shape: Shape) {
        self.vars.entry(name.to_owned()).or_default().push(shape);
        self.log.push(name.to_owned());
    }

    pub(super) fn get(&self, name: &str) -> Option<&Shape> {
        self.vars.get(name)?.last()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.vars.iter().filter(|(_, shapes)| !shapes.is_empty()).map(|(name, _)| name)
    }

    pub(super) fn leave(&mut self, mark: usize) {
        for name in self.log.drain(mark..) {
            if let Some(shapes) = self.vars.get_mut(&name) {
                shapes.pop();
            }
        }
    }
}
