//! The engine: the persisted state of a run, the pure machine that moves it, and its async shell.

mod bodies;
mod calls;
pub(crate) mod host;
mod live;
pub mod machine;
mod perform;
pub(crate) mod runner;
mod state;
mod status;
mod stored;
pub(crate) mod timeline;
mod turn;

pub(crate) use perform::{catch_panic, check_request, panicked};
pub(crate) use state::StepStamp;
pub use state::{Branch, CallKind, Ended, FlowStamp, Memo, Snapshot, StepState};
#[cfg(test)]
pub(crate) use state::{Call, Hint};
pub use status::RunStatus;
