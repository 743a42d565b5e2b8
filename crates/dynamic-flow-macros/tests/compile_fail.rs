//! What must not compile, and with which words: uses of `#[tool]`, and pipes that do not fit. After
//! a change that is meant, or with another compiler, look at what
//! `TRYBUILD=overwrite cargo test --test compile_fail` writes.
//!
//! It is in this package because trybuild builds all that its package depends on once more, and the
//! tests of the library depend on the drivers of all servers.

use dynamic_flow::{Flow, ToolError, tool, tool::AwaitInput};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, JsonSchema)]
struct Order {
    total: f64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Parcel {
    total: f64,
}

#[tool]
async fn pack(order: Order) -> Result<Parcel, ToolError> {
    Ok(Parcel { total: order.total })
}

mod elsewhere {
    /// A tool may be visible elsewhere, sync, without an input, and made by a path.
    #[dynamic_flow::tool(effect, id = "the-time", name = "The time")]
    pub(crate) fn r#now(
        context: &dynamic_flow::ToolContext,
    ) -> Result<u32, std::num::ParseIntError> {
        context.idempotency_key.parse()
    }
}

#[test]
fn the_right_forms_of_what_the_cases_get_wrong_compile() {
    let question = AwaitInput::<u8>::new("ask")
        .prompt_with(|parcel: &Parcel| parcel.total.to_string())
        .show(|parcel| parcel.total)
        .metadata_with("total", |parcel| parcel.total);
    let anywhere = AwaitInput::<u8>::new("anywhere").prompt("How many?");
    let flow = Flow::input::<Order>("right")
        .tool(Pack)
        .await_input(question)
        .await_input(anywhere)
        .map("drop", |_| ())
        .tool(elsewhere::Now)
        .switch_route(
            "odd",
            |n| if n % 2 == 1 { "odd" } else { "even" },
            |arms| {
                arms.arm("odd", |n| n.map("yes", |_| true)).arm("even", |n| n.map("no", |_| false))
            },
        )
        .build();
    let flow: Flow<Order, bool> = flow.unwrap();
    assert_eq!(flow.def().body[4].id, "the-time");
}

#[test]
fn what_is_wrong_does_not_compile_and_says_why() {
    // Cases that must fail only: one that passes would have trybuild generate code for all
    // dependencies once more.
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile_fail/pipe_*.rs");
    cases.compile_fail("tests/compile_fail/tool_*.rs");
}
