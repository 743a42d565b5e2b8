//! Flows that stop for outside input and go on exactly after it.

// So that what `#[tool]` makes compiles inside this crate too.
#[cfg(test)]
extern crate self as dynamic_flow;

pub mod clock;
pub mod codec;
pub mod engine;
mod error;
pub mod expr;
pub mod flow;
pub mod hub;
pub mod id;
pub mod metadata;
pub mod position;
pub mod schema;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod tool;
pub mod value;
pub mod wait;

pub use dynamic_flow_macros::tool;

pub use clock::{Clock, SystemClock, Timestamp, days, hours, minutes, seconds};
pub use error::{Error, ErrorKind, Finding, Result, ToolError};
pub use flow::Flow;
pub use id::{Epoch, FlowId, KeyDigest, Revision, RunId, StepId, SuspensionKey, ToolId, WaitId};
pub use position::Position;
pub use schema::{Schema, Violation};
pub use tool::{Tool, ToolContext, TypedTool};
pub use wait::{Answer, Deadline, Metadata, Receipt, Scalar};
