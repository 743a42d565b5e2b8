//! What the evaluations of a step may cost.

use std::cell::Cell;

/// What the evaluations of one step may spend together. A unit is a step of the evaluation or eight bytes of text.
pub(super) const BUDGET: usize = 400_000;
/// What an entry of a map costs beside its value.
pub(super) const MAP_ENTRY: usize = 6;
/// How deeply lists and maps may be nested where they are walked through.
const MAX_LEVELS: usize = 150;

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fail {
    /// It fails for these values; `&&`, `||` and `all` may still get by without it.
    Error(String),
    /// It lacks a key, an index or a variable; `default` gets by without that.
    Missing(String),
    /// It would cost too much; nothing gets by that.
    Exhausted,
}

impl Fail {
    pub(super) fn because<T>(message: impl Into<String>) -> Result<T, Self> {
        Err(Self::Error(message.into()))
    }

    pub(super) fn missing<T>(message: impl Into<String>) -> Result<T, Self> {
        Err(Self::Missing(message.into()))
    }
}

/// Counts down what is left to spend, and how deep a walk through a value is.
#[derive(Debug)]
pub(crate) struct Meter {
    left: Cell<usize>,
    level: Cell<usize>,
}

impl Default for Meter {
    fn default() -> Self {
        Self::new(BUDGET)
    }
}

impl Meter {
    pub(super) fn new(budget: usize) -> Self {
        Self { left: Cell::new(budget), level: Cell::new(0) }
    }

    /// Pays before the work is done, so that work that can't be paid for is not begun.
    pub(crate) fn spend(&self, units: usize) -> Result<(), Fail> {
        match self.left.get().checked_sub(units) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.left.set(0);
                Err(Fail::Exhausted)
            }
        }
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.left.get()
    }

    /// Steps into a list or map until the guard is dropped.
    pub(super) fn enter(&self) -> Result<Level<'_>, Fail> {
        if self.level.get() >= MAX_LEVELS {
            return Fail::because(format!("a value is nested more than {MAX_LEVELS} levels deep"));
        }
        self.level.set(self.level.get() + 1);
        Ok(Level(self))
    }
}

/// Steps out again when it is dropped.
pub(super) struct Level<'m>(&'m Meter);

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.0.level.set(self.0.level.get() - 1);
    }
}

/// What it costs to read or write that many bytes.
pub(super) fn bytes(count: usize) -> usize {
    count / 8
}
