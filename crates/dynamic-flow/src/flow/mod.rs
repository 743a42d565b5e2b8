//! Flows: definitions of what happens, step by step.

pub mod build;
mod check;
pub mod document;
pub mod ir;

use std::{fmt, marker::PhantomData, sync::Arc};

use serde_json::Value;

pub use build::{Arms, CaughtError, FlowBuilder, Var};
pub use check::{MAX_NESTING, MAX_STEPS, check};
pub use document::{document_schema, parse_duration};
pub use ir::{Backoff, Body, BodyName, FlowDef, Step, StepKind, ToolRef};

/// A checked flow, from type `I` to type `O`; any JSON where it was read from a document.
pub struct Flow<I = Value, O = Value> {
    def: Arc<FlowDef>,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O> Clone for Flow<I, O> {
    fn clone(&self) -> Self {
        Self { def: self.def.clone(), types: PhantomData }
    }
}

impl<I, O> fmt::Debug for Flow<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Flow").field(&self.def).finish()
    }
}

impl<I, O> Flow<I, O> {
    /// The flow as data.
    pub fn def(&self) -> &Arc<FlowDef> {
        &self.def
    }

    pub(crate) fn from_def(def: Arc<FlowDef>) -> Self {
        Self { def, types: PhantomData }
    }

    /// The same flow with its types forgotten.
    #[must_use]
    pub fn erase(&self) -> Flow {
        Flow::from_def(self.def.clone())
    }
}
