//! What failures are caught by: the codes that are not a tool's own.
//!
//! ```
//! use dynamic_flow::{Flow, codes, hours, tool::AwaitInput};
//!
//! let flow = Flow::input::<String>("patient")
//!     .catch_codes(
//!         "ask",
//!         [codes::WAIT_TIMED_OUT],
//!         |n| n.await_input(AwaitInput::<bool>::new("approve").timeout(hours(1))),
//!         |caught| caught.map("no", |_| false),
//!     )
//!     .build()?;
//! # Ok::<(), dynamic_flow::Error>(())
//! ```

/// A tool failed and gave no code of its own.
pub const TOOL: &str = "tool";
/// A tool or a computation panicked.
pub const PANIC: &str = "panic";
/// A value does not fit what a step, a tool or a flow takes.
pub const INPUT_INVALID: &str = "input_invalid";
/// A value does not fit what a tool or a flow gives, or is too large.
pub const OUTPUT_INVALID: &str = "output_invalid";
/// An expression or a template could not be evaluated.
pub const EXPRESSION: &str = "expression";
/// The prompt of a question came to what can't be asked.
pub const PROMPT: &str = "prompt";
/// The metadata of a question came to what no run can be found by.
pub const METADATA: &str = "metadata";
/// The body of a `timeout` did not end in time.
pub const TIMEOUT: &str = "timeout";
/// Nobody answered a question in time, and it has no default.
pub const WAIT_TIMED_OUT: &str = "wait_timed_out";
/// A `switch` has no case of that name.
pub const NO_SUCH_ARM: &str = "no_such_arm";
/// The flow has no longer what the run stands in.
pub const FLOW_INCOMPATIBLE: &str = "flow_incompatible";
/// The input of the `http` tool makes no request.
pub const HTTP_INPUT: &str = "http_input";

/// The state of the run could not be committed: it is too large, or has no JSON form. Ends a run from
/// outside, so that nothing in it catches it.
pub const UNCOMMITTABLE: &str = "uncommittable";
/// The run was taken over again and again without getting further. Ends it from outside, too.
pub const POISONED: &str = "poisoned";
