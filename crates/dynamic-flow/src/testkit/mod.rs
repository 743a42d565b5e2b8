//! For tests of flows, hubs and stores: a clock that stands still, faults on demand, and the suite
//! that every store passes.
//!
//! A flow is tested with a hub over a [`MemoryStore`](crate::store::MemoryStore). A [`ManualClock`]
//! is its clock, which the test moves; `work_once` does what a worker would do at that time:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use dynamic_flow::{
//!     Flow, Timestamp, hours,
//!     hub::{Outcome, PersistenceHub},
//!     store::MemoryStore,
//!     testkit::ManualClock,
//!     tool::AwaitInput,
//! };
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> dynamic_flow::Result<()> {
//! let clock = ManualClock::new(Timestamp::from_millis(1_795_420_800_000));
//! let hub = PersistenceHub::builder(Arc::new(MemoryStore::new()))
//!     .plaintext()
//!     .clock(clock.clone())
//!     .configure(|options| options.linger = Duration::ZERO)
//!     .build()
//!     .await?;
//! let question = AwaitInput::<bool>::new("proceed").timeout(hours(4)).default_value(false);
//! let flow = Flow::input::<u32>("asks")
//!     .await_input(question)
//!     .sleep("rest", Duration::from_secs(1))
//!     .build()?;
//! let asks = hub.register(&flow)?;
//!
//! // Somebody answers.
//! let Outcome::Suspended(parked) = asks.run(1).await? else { panic!("it asks") };
//! asks.resume(parked.only()?.key()?, json!(true)).await?;
//! clock.advance(Duration::from_secs(1)); // it sleeps
//! hub.work_once().await?;
//! assert_eq!(hub.get(parked.run_id).await?.output, Some(json!(true)));
//!
//! // Nobody answers.
//! let Outcome::Suspended(parked) = asks.run(2).await? else { panic!("it asks") };
//! clock.advance(hours(4));
//! hub.work_once().await?;
//! clock.advance(Duration::from_secs(1));
//! hub.work_once().await?;
//! assert_eq!(hub.get(parked.run_id).await?.output, Some(json!(false)));
//! # Ok(())
//! # }
//! ```
//!
//! **Short pauses hang under a manual clock.** A sleep, or a pause between attempts, of up to
//! [`linger`](crate::hub::HubOptions::linger) (10 seconds unless said) does not park the run: the
//! process waits for it, by the hub's clock. A clock that stands still never gets there. Say `linger
//! = Duration::ZERO`, as above; or run the call in a task of its own, and move the clock once
//! [`ManualClock::until_sleeping`] says that somebody sleeps.
//!
//! [`Faults`](faults::Faults) wraps a store and fails the calls that a test names: a crash after an effect is a failed
//! update, then the end of the lease, then another hub on the same store. The tool is called again
//! with the same idempotency key. `docs/testing.md` of the repository has a test of that.
//!
//! For a store of your own, see [`conformance`].

mod clock;
pub mod conformance;
pub mod faults;

/// The engine as the tests and benchmarks of this repository drive it. The persisted state changes with
/// any release: nothing else should name it.
#[doc(hidden)]
pub mod engine {
    pub use crate::engine::{Branch, CallKind, FlowStamp, Memo, Snapshot, StepState, machine};
}

pub use self::clock::ManualClock;
