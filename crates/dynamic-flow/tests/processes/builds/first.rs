//! The build that starts a run.

mod steps;

use dynamic_flow::{Flow, tool::AwaitInput};

#[tokio::main]
async fn main() {
    let step = "first";
    let flow = Flow::input::<u32>("deployed")
        .tool(steps::step(step, "count", |boxes: u32| boxes + 1))
        .tool(steps::step(step, "price", |boxes: u32| format!("{boxes} boxes for {}", boxes * 3)))
        .keep(|offer| offer.await_input(AwaitInput::<String>::new("who").no_timeout()))
        .tool(steps::step(step, "ship", |(offer, who): (String, String)| {
            format!("{offer} to {who}")
        }))
        .build()
        .unwrap();
    steps::serve(flow).await;
}
