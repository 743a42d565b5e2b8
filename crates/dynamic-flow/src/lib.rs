//! Flows that stop for outside input and continue exactly where they stopped.
//!
//! A flow runs until it needs something from outside: an approval, a verdict, an answer. Then it
//! stops completely: its state goes into a store, and the caller gets a *suspension key*. Hours or
//! months later, in any process, somebody presents the key and an input, which is checked against
//! the schema that the wait declared, and the flow continues right after the wait.
//!
//! ```
//! use std::sync::Arc;
//!
//! use dynamic_flow::{
//!     Flow, ToolError, hours, tool,
//!     codec::{EncryptionKey, Keyring},
//!     hub::{Outcome, PersistenceHub},
//!     store::MemoryStore,
//!     tool::{Approval, HumanInTheLoop},
//! };
//!
//! /// Orders that many probes.
//! #[tool(effect)]
//! async fn purchase((probes, approval): (u32, Approval)) -> Result<String, ToolError> {
//!     Ok(format!("{probes} probes, approved by {}", approval.approved_by))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> dynamic_flow::Result<()> {
//! let question = HumanInTheLoop::approval("manager-approval")
//!     .prompt_with(|probes: &u32| format!("Buy {probes} probes?"))
//!     .timeout(hours(4));
//! let flow = Flow::input::<u32>("purchase-approval")
//!     .keep(|probes| probes.await_input(question)) // (u32, Approval): both continue
//!     .filter("approved", |(_, approval)| approval.approved) // a "no" is a result too
//!     .tool(Purchase)
//!     .build()?;
//!
//! let keyring = Keyring::new(EncryptionKey::generate()?);
//! let hub = PersistenceHub::builder(Arc::new(MemoryStore::new())).keyring(keyring).build().await?;
//! let purchases = hub.register(&flow)?;
//!
//! let Outcome::Suspended(parked) = purchases.run(2).await? else { panic!("it asks first") };
//! let wait = parked.only()?;
//! assert_eq!(wait.prompt, "Buy 2 probes?");
//!
//! let answer = serde_json::json!({ "approved": true, "approved_by": "Jane" });
//! let Outcome::Completed(done) = purchases.resume(wait.key()?, answer).await? else {
//!     panic!("nothing else is asked")
//! };
//! assert_eq!(done.output, "2 probes, approved by Jane");
//! # Ok(())
//! # }
//! ```
//!
//! In the order in which a value passes through: [`flow`] (built by [`Flow::input`], read by
//! [`Flow::from_document`], with computations of [`expr`]), [`mod@tool`] and [`wait`] (the units of
//! work and the open questions), the engine (moves a run), [`codec`] (seals its state), [`store`]
//! (keeps it), and [`hub`], which is where everything starts. [`schema`] checks what comes in;
//! [`value`] refuses what JSON would silently change. At the root are ids, times, metadata, errors, and
//! the names of these modules that most programs need.
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `file` (default) | the filesystem store, `file:./.suspended-flows` |
//! | `sqlite` | the SQLite store, `sqlite:flows.db` |
//! | `postgres` | the PostgreSQL store, `postgres://user@host/database` |
//! | `redis` | the Redis store, for one server or a cluster, `redis://localhost` |
//! | `mongodb` | the MongoDB store, `mongodb://host/flows` |
//! | `neo4j` | the Neo4j store, `neo4j://…` |
//! | `gzip` (default), `zstd` | compression of stored state, before it is sealed |
//! | `http` | the HTTP tool for documents |
//! | `testkit` | the conformance suite for stores, faults on demand, a manual clock |
//!
//! | store | URL | durable | good for |
//! | --- | --- | --- | --- |
//! | [`store::MemoryStore`] | `memory:` | no | tests |
#![cfg_attr(
    feature = "file",
    doc = "| [`store::FileStore`] | `file:PATH` | on a local disk | one machine |"
)]
#![cfg_attr(
    feature = "sqlite",
    doc = "| [`store::SqliteStore`] | `sqlite:PATH` | on a local disk | one machine, many runs |"
)]
#![cfg_attr(
    feature = "postgres",
    doc = "| [`store::PostgresStore`] | `postgres://…` | as the server is set up | many machines |"
)]
#![cfg_attr(
    feature = "redis",
    doc = "| [`store::RedisStore`] | `redis://HOST` | as the server is set up | many machines, short waits |"
)]
#![cfg_attr(
    feature = "mongodb",
    doc = "| [`store::MongodbStore`] | `mongodb://HOST/DATABASE` | as the server is set up | many machines |"
)]
#![cfg_attr(
    feature = "neo4j",
    doc = "| [`store::Neo4jStore`] | `neo4j://USER:PASSWORD@HOST/DATABASE` | yes | many machines; queries about how runs are related |"
)]
//!
//! Whether a store is durable as it is set up, [`store::Store::health`] says. Any number of hubs, in
//! any number of processes, may share a store. For a store of your own, implement
//! [`store::Store`].

// So that what `#[tool]` makes compiles inside this crate too.
#[cfg(test)]
extern crate self as dynamic_flow;

mod clock;
pub mod codec;
pub mod codes;
// Public for the feature `testkit` alone, and for nobody but the tests of this repository.
#[cfg_attr(not(feature = "testkit"), allow(unreachable_pub))]
mod engine;
mod error;
pub mod expr;
mod failure;
pub mod flow;
pub mod hub;
mod id;
mod metadata;
mod position;
pub mod schema;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod tool;
mod tool_error;
pub mod value;
pub mod wait;
mod words;

/// What `Tool`, `Store` and `Notifier` are implemented with, in the version that fits.
pub use async_trait::async_trait;
/// Makes a tool of a function.
///
/// ```
/// use dynamic_flow::{Flow, ToolContext, ToolError, tool};
///
/// /// Checks stock and credit.
/// #[tool]
/// async fn validate_order(cents: u32) -> Result<u32, ToolError> {
///     if cents == 0 {
///         return Err(ToolError::new("nothing was ordered").code("empty").permanent());
///     }
///     Ok(cents)
/// }
///
/// /// Takes the money, once: the run is committed before and after it.
/// #[tool(effect, id = "charge", name = "Charge the card")]
/// async fn charge_card(cents: u32, context: &ToolContext) -> std::io::Result<String> {
///     Ok(format!("{cents} charged as {}", context.idempotency_key))
/// }
///
/// let flow = Flow::input::<u32>("purchase").tool(ValidateOrder).tool(ChargeCard).build()?;
/// # let _ = flow;
///
/// // The function stays as it is, to be called in tests:
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn test() {
/// assert_eq!(validate_order(5).await.unwrap(), 5);
/// assert_eq!(charge_card(5, &ToolContext::detached()).await.unwrap(), "5 charged as detached");
/// # }
/// # test();
/// # Ok::<(), dynamic_flow::Error>(())
/// ```
///
/// Beside it stands a unit struct with its name in CamelCase, `ValidateOrder` for `validate_order`,
/// which is a [`TypedTool`]: the function's name is the tool's id, its doc comment the description,
/// its types are the schemas.
///
/// - It takes its input by value, several as a tuple or struct; without an argument it takes `()`.
/// - A last argument [`&ToolContext`](ToolContext) tells of the call: run, attempt, idempotency key.
/// - It gives a `Result` of a value, or of an [`Output<T>`](tool::Output) where it may suspend the run.
///   The error is [`ToolError`] or any [`std::error::Error`].
/// - It may be sync. Then it should be quick, or say `blocking`: it blocks a thread that others need, and
///   neither a `timeout` around it nor a cancellation is heard before it is through.
/// - What needs something of the program, such as a client or a pool of connections, is made of a
///   closure that owns it: by [`FnTool::with_context`](tool::FnTool::with_context) where it must know
///   of the call, as every effect must for its idempotency key; by [`tool_fn`](tool::tool_fn)
///   otherwise.
///
/// Options:
///
/// | option | says |
/// | --- | --- |
/// | `effect` | it changes the world outside |
/// | `blocking` | it is sync and takes its time: it runs on a thread for that, as [`FnTool::blocking`](tool::FnTool::blocking) |
/// | `id = "…"`, `name = "…"` | what replaces the id and the name that the function's name gives |
/// | `crate = "…"` | the path of this library, where it is not `::dynamic_flow`: a renamed dependency, or a library that re-exports it |
///
/// ```
/// mod facade {
///     pub use dynamic_flow as flows;
/// }
///
/// /// Adds up what is in a file.
/// #[facade::flows::tool(blocking, crate = "facade::flows")]
/// fn add_up(path: String) -> std::io::Result<u64> {
///     let text = std::fs::read_to_string(path)?;
///     Ok(text.lines().filter_map(|line| line.parse::<u64>().ok()).sum())
/// }
/// # use facade::flows::TypedTool;
/// # assert_eq!(AddUp.into_tool()?.spec().id, "add_up");
/// # Ok::<(), dynamic_flow::Error>(())
/// ```
pub use dynamic_flow_macros::tool;

pub use clock::{Clock, SystemClock, Timestamp, days, hours, minutes, seconds};
pub use engine::RunStatus;
pub use error::{Error, ErrorKind, Finding, Result};
pub use failure::Failure;
pub use flow::Flow;
pub use id::{Epoch, FlowId, KeyDigest, Revision, RunId, StepId, SuspensionKey, ToolId, WaitId};
pub use metadata::{Metadata, Scalar};
pub use position::{PathPart, Position};
pub use schema::{Schema, Violation};
pub use tool::{Tool, ToolContext, TypedTool};
pub use tool_error::ToolError;
pub use wait::{Answer, Cancellation, Deadline, Receipt};

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(all(doctest, feature = "testkit"))]
#[doc = include_str!("../../../docs/testing.md")]
struct Testing;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/deploying.md")]
struct Deploying;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/observing.md")]
struct Observing;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/performance.md")]
struct Performance;

#[cfg(all(doctest, feature = "testkit"))]
#[doc = include_str!("../../../docs/stores.md")]
struct Stores;
