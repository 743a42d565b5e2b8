//! The build that is deployed while the run is parked: steps were added everywhere.

mod steps;

use dynamic_flow::{Flow, tool::AwaitInput};

/// Counts, as before, but is other code.
fn count(boxes: u32) -> u32 {
    [boxes, 1].iter().sum()
}

#[tokio::main]
async fn main() {
    let build = "second";
    let flow = Flow::input::<u32>("deployed")
        .filter("not-too-many", |boxes| *boxes < 1_000)
        .tool(steps::step(build, "greet", |boxes: u32| boxes))
        .tool(steps::step(build, "count", count))
        .tool(steps::step(build, "price", |boxes: u32| format!("{boxes} boxes for {}", boxes * 4)))
        .tool(steps::step(build, "discount", |offer: String| offer + " less nothing"))
        .keep(|offer| offer.await_input(AwaitInput::<String>::new("who").no_timeout()))
        .tool(steps::step(build, "pack", |(offer, who): (String, String)| {
            (format!("packed {offer}"), who)
        }))
        .tool(steps::step(build, "ship", |(offer, who): (String, String)| {
            format!("{offer} to {who}")
        }))
        .tool(steps::step(build, "thank", |sent: String| sent + ", thanks"))
        .build()
        .unwrap();
    steps::serve(flow).await;
}
