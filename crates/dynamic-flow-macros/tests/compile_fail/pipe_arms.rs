//! Arms of a switch that give different types.

use dynamic_flow::Flow;

fn main() {
    let _ = Flow::input::<f64>("wrong").switch_route("risk", |_| "review", |arms| {
        arms.arm("review", |score| score.map("yes", |_| true))
            .arm("auto", |score| score.map("word", |_| String::from("yes")))
    });
}
