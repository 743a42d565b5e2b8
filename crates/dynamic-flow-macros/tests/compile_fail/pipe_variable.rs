//! A variable that is set to another type than its own.

use dynamic_flow::{Flow, flow::Var};

const TOTAL: Var<f64> = Var::new("total");

fn main() {
    let _ = Flow::input::<String>("wrong").set(&TOTAL, |text| text.len());
}
