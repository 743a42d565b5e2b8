//! What the hub promises, tested through its public face over the memory store.

mod acceptance;
mod bodies;
mod borders;
mod cleanup;
mod conflicts;
mod held;
mod keys;
mod late;
mod leases;
mod lower_half;
mod neighbours;
mod overlaps;
mod questions;
mod regressions;
mod reissued;
mod replays;
mod set_aside;
mod shutdown;
mod spans;
mod state_claims;
mod states;
mod steps;
mod support;
mod timers;
mod tools;
mod upgrades;
