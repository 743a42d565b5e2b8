//! The engine: the persisted state of a run, the pure machine that moves it, and its async shell.

mod bodies;
mod calls;
pub(crate) mod host;
#[doc(hidden)]
pub mod machine;
mod perform;
pub(crate) mod runner;
pub mod state;
mod status;
mod stored;
pub(crate) mod timeline;
mod turn;

pub(crate) use perform::{catch_panic, panicked};
pub use state::{
    Branch, Call, CallKind, Ended, FlowStamp, Hint, Memo, Snapshot, StepStamp, StepState,
};
pub use status::RunStatus;
