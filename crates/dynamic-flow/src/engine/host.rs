//! What the runner needs of whoever keeps its run: commits, news from outside, and ears for what
//! happens.

use std::future::Future;

use serde::{Deserialize, Serialize};

use super::{
    machine::{Event, Trace},
    state::Snapshot,
};
use crate::{
    Result,
    clock::Timestamp,
    wait::{Receipt, Wait},
};

/// When a run is committed beyond its waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Durability {
    /// At waits, before and after tools with effects, and at the end.
    #[default]
    Suspensions,
    /// Also before each call of a tool.
    EveryStep,
}

/// Why a commit is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// The run goes on right after it.
    Progress,
    /// Nothing is left to do: the run is parked or has ended.
    Park,
}

/// What a commit came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Committed {
    /// The snapshot is durable.
    Done,
    /// Nothing was written: these were accepted in the meantime and must be worked in first.
    Merge(Vec<(Event, Timestamp)>),
}

/// Where a run is committed, and who watches it: the hub.
pub(crate) trait Host: Send {
    /// Makes the snapshot durable.
    ///
    /// # Errors
    /// When the run is somebody else's now, or the store failed for good: the run stops here and
    /// what it did since the last commit is discarded.
    fn commit(
        &mut self,
        snapshot: &mut Snapshot,
        intent: Intent,
    ) -> impl Future<Output = Result<Committed>> + Send;

    /// Whether somebody is to be told of a wait once it is durable, before the run is parked; gets
    /// keys ready for that.
    ///
    /// # Errors
    /// When there is no key to be had.
    fn has_news(&mut self, snapshot: &mut Snapshot) -> Result<bool>;

    /// Tells whoever is to be told of the waits, and notes in the snapshot that they were.
    fn pass_on(&mut self, snapshot: &mut Snapshot) -> impl Future<Output = ()> + Send;

    /// Ends when something from outside concerns the run: its inbox has grown, or it should stop.
    /// Once for each.
    fn signaled(&mut self) -> impl Future<Output = ()> + Send;

    /// Whether the run should be committed and let go at the next opportunity.
    fn stopping(&self) -> bool;

    /// Tells those who watch of a step, once nothing can undo it.
    fn trace(&mut self, trace: Trace);

    /// Tells those who watch that a wait was opened, once that is durable.
    fn opened(&mut self, wait: &Wait);

    /// Tells those who watch that a wait was closed, once that is durable.
    fn closed(&mut self, receipt: &Receipt);
}
