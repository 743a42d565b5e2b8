//! The project's own commands: `cargo xtask test` is what CI runs and the README tells.

mod command;
mod features;
mod mutants;
mod skips;
mod stages;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{command::Cargo, stages::Stage};

/// The commands of this project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version = None)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs everything that must hold: format, lints, all tests, each feature, no stray drivers.
    ///
    /// Stages run in this order, and the first that fails ends it: fmt, clippy, tests, features,
    /// trees. A test that can't run where it is prints a line `SKIPPED: reason`; where the
    /// environment variable CI is set, that is a failure.
    #[command(
        after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --only fmt --only clippy"
    )]
    Test {
        /// Runs this stage alone; may be given several times.
        #[arg(long, value_name = "STAGE")]
        only: Vec<Stage>,
    },
    /// Measures one cycle of run, wait, answer and resume on each store, against its floor.
    ///
    /// Builds with optimizations and all features, and prints the table.
    #[command(after_help = "Examples:\n  cargo xtask bench\n  cargo xtask bench -- --help")]
    Bench {
        /// Passed on to the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Plants bugs in hub, codec and stores, one at a time, and lists those that no test noticed.
    ///
    /// Needs cargo-mutants, and says how to install it. Takes hours for everything; name a file to
    /// try one.
    #[command(after_help = "Examples:\n  cargo xtask mutants\n  cargo xtask mutants -- --list\n  \
                      cargo xtask mutants -- --shard 1/8 --timeout 120")]
    Mutants {
        /// Only in these files; globs as cargo-mutants has them.
        #[arg(long, value_name = "GLOB")]
        file: Vec<String>,
        /// Passed on to cargo-mutants.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    match perform(Args::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<()> {
    let cargo = Cargo::here()?;
    match task {
        Task::Test { only } => stages::run(&cargo, &only),
        Task::Bench { args } => {
            let bench = ["bench", "-p", "dynamic-flow", "--all-features", "--bench", "cycle", "--"];
            cargo.run(bench.map(str::to_owned).into_iter().chain(args))
        }
        Task::Mutants { file, args } => mutants::run(&cargo, file, args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_follows_bench_is_passed_on() {
        let given = ["xtask", "bench", "--", "--stores", "memory"];
        let Task::Bench { args } = Args::parse_from(given).task else {
            panic!("bench is bench");
        };
        assert_eq!(args, ["--stores", "memory"]);
    }
}
