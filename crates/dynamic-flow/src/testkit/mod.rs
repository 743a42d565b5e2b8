//! For tests of stores and hubs: the suite that every store passes, faults on demand, and a clock
//! that stands still.

pub mod clock;
pub mod conformance;
pub mod faults;

pub use self::{clock::ManualClock, faults::Faults};
