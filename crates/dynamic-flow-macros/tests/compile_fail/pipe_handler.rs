//! A handler that gives another type than the body whose errors it catches.

use dynamic_flow::Flow;

fn main() {
    let _ = Flow::input::<f64>("wrong").catch(
        "careful",
        |score| score.map("yes", |_| true),
        |caught| caught.map("code", |error| error.code),
    );
}
