//! Properties of the pure machine, over random flows in random weather.

mod machine {
    pub(crate) mod plan;
    pub(crate) mod simulation;
}

use dynamic_flow::RunStatus;
use machine::{
    plan::{flow_of, plans},
    simulation::{Crash, Simulation},
};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::FileFailurePersistence};

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    /// A run that is stored and read back after each turn, in the middle of its calls, waits and
    /// sleeps, goes the way of one that was never interrupted, step by step.
    #[test]
    fn interrupting_anywhere_changes_nothing(plans in plans(), seed: u64) {
        let flow = flow_of(&plans);
        let straight = Simulation::new(&flow, seed, Crash::Never).run_to_the_end();
        let interrupted = Simulation::new(&flow, seed, Crash::AfterEachTurn).run_to_the_end();
        prop_assert_eq!(&straight.log, &interrupted.log);
        prop_assert_eq!(straight.snapshot, interrupted.snapshot);
    }

    /// A run whose process dies now and then, and that goes on from its last commit, comes to the
    /// same end: calls made again have the same ids, inputs and idempotency keys.
    #[test]
    fn dying_between_commits_changes_nothing(plans in plans(), seed: u64) {
        let flow = flow_of(&plans);
        let straight = Simulation::new(&flow, seed, Crash::Never).run_to_the_end();
        let crashed = Simulation::new(&flow, seed, Crash::NowAndThen).run_to_the_end();
        prop_assert_eq!(straight.snapshot, crashed.snapshot);
    }

    /// A cancellation at any moment ends the run, its waits and its calls.
    #[test]
    fn cancelling_at_any_moment_leaves_nothing_open(plans in plans(), seed: u64, turns in 0_usize..30) {
        let flow = flow_of(&plans);
        let mut simulation = Simulation::new(&flow, seed, Crash::Never);
        let ended = (0..turns).any(|_| !simulation.step());
        if !ended && !simulation.state.snapshot.status.is_final() {
            simulation.cancel();
            prop_assert_eq!(simulation.state.snapshot.status, RunStatus::Cancelled);
        }
    }
}

/// The properties say nothing if the flows never get anywhere.
#[test]
fn random_flows_come_to_every_end() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    let (mut waits, mut retries) = (0, 0);
    for seed in 0..500 {
        let plans = plans().new_tree(&mut runner).unwrap().current();
        let flow = flow_of(&plans);
        let end = Simulation::new(&flow, seed, Crash::NowAndThen).run_to_the_end();
        seen.insert(end.snapshot.status);
        waits += end.snapshot.receipts.len();
        retries += usize::from(end.log.iter().any(|line| line.contains("[2]")));
    }
    use RunStatus::{Completed, Expired, Failed, Rejected};
    assert!(
        [Completed, Rejected, Failed, Expired].iter().all(|end| seen.contains(end)),
        "{seen:?}"
    );
    assert!(waits > 100 && retries > 20, "{waits} waits, {retries} flows with a second attempt");
}
