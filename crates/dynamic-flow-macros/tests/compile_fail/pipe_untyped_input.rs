//! Reading a value of known type anew as another one.

use dynamic_flow::Flow;

fn main() {
    let _ = Flow::input::<String>("wrong").input::<u32>("number");
}
