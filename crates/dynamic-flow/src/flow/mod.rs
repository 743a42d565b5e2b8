//! Flows: definitions of what happens, step by step.

mod build;
mod check;
mod compare;
pub mod document;
mod draw;
pub(crate) mod ir;
#[cfg(test)]
mod sample;
mod upgrade;

use std::{
    fmt,
    marker::PhantomData,
    sync::{Arc, OnceLock},
};

use serde_json::Value;

use self::upgrade::Upgrade;
use crate::{Result, wait::ContentDigest};

pub use build::{Arms, CaughtError, FlowBuilder, Var};
pub use check::{MAX_NESTING, MAX_STEPS, check};
pub(crate) use compare::Fit;
pub use compare::compare_defs;
pub use document::{durations::parse_duration, schema::document_schema};
pub use draw::{Mark, dot, mermaid};
pub use ir::{Backoff, Body, BodyName, FlowDef, Step, StepKind, ToolRef};
pub use upgrade::RunState;

/// A checked flow, from type `I` to type `O`; any JSON where it was read from a document.
pub struct Flow<I = Value, O = Value> {
    def: Arc<FlowDef>,
    fingerprint: Arc<OnceLock<ContentDigest>>,
    upgrades: Vec<Upgrade>,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O> Clone for Flow<I, O> {
    fn clone(&self) -> Self {
        self.clone_parts()
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

    /// Digest of all that can be compared of the flow, worked out once; see [`fingerprint`].
    ///
    /// # Errors
    /// As [`fingerprint`].
    pub fn fingerprint(&self) -> Result<&ContentDigest> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known);
        }
        let fresh = compare::fingerprint(&self.def)?;
        Ok(self.fingerprint.get_or_init(|| fresh))
    }

    pub(crate) fn from_def(def: Arc<FlowDef>) -> Self {
        Self { def, fingerprint: Arc::default(), upgrades: Vec::new(), types: PhantomData }
    }

    fn clone_parts<J, P>(&self) -> Flow<J, P> {
        Flow {
            def: self.def.clone(),
            fingerprint: self.fingerprint.clone(),
            upgrades: self.upgrades.clone(),
            types: PhantomData,
        }
    }

    /// The same flow with its types forgotten.
    #[must_use]
    pub fn erase(&self) -> Flow {
        self.clone_parts()
    }
}
