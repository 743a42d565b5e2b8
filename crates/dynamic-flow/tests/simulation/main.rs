//! Everything at once: processes that share a store run, answer, cancel, retry and work, are killed
//! and started anew in another build, with wires that are cut before and after every call, while a
//! clock moves on. Whatever chance does, what anybody was told must stay true.
//!
//! A seed gives the same simulation each time, or nearly: the order in which `select!` looks at
//! what is ready at once is not the seed's. `DFLOW_SEED=17` runs one, `DFLOW_SEEDS=5000` so many.

mod dice;
mod flows;
mod process;
mod states;
mod witness;
mod world;

use self::world::{Pace, World};

/// How many simulations of each kind there are, if nothing else is said.
const SEEDS: u64 = 40;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn simulate(pace: Pace) {
    let seeds = match number("DFLOW_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DFLOW_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let world = World::new(seed, pace);
        let clock = world.clock();
        runtime.block_on(world.live());
        // The threads that would renew leases see that their hubs are gone.
        drop(runtime);
        clock.advance(process::LEASE);
    }
}

#[test]
fn what_anybody_was_told_stays_true_where_processes_die() {
    simulate(Pace::Calm);
}

#[test]
fn what_anybody_was_told_stays_true_where_holders_lose_their_runs_at_work() {
    simulate(Pace::Wild);
}
