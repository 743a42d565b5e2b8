//! The project's own commands: `cargo xtask test` is what CI runs and the README tells.

mod bench;
mod command;
mod features;
mod mutants;
mod services;
mod skips;
mod stages;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{command::Cargo, services::Verb, stages::Stage};

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
    /// Stages run in this order, and the first that fails ends it: fmt, clippy, features, trees,
    /// tests. A test that can't run where it is prints a line `SKIPPED: reason`; where the
    /// environment variable CI is set, that is a failure.
    ///
    /// The stage `tests` needs servers, which are installed where they are missing, started beside
    /// the first stages and ended with the tests: see `cargo xtask services up --help`. Those that
    /// are up already, or that the environment names, are used in place of them.
    #[command(after_help = "Examples:
  cargo xtask test
  cargo xtask test --only fmt --only clippy
  cargo xtask test --only tests --no-services")]
    Test {
        /// Runs this stage alone; may be given several times.
        #[arg(long, value_name = "STAGE")]
        only: Vec<Stage>,
        /// Installs and starts no servers: tests that need one are skipped.
        #[arg(long)]
        no_services: bool,
    },
    /// Measures one cycle of run, wait, answer and resume on each store, against its floor.
    ///
    /// Builds with optimizations and all features, starts the servers that are needed, and prints
    /// the table.
    #[command(after_help = "Examples:
  cargo xtask bench
  cargo xtask bench -- --only postgres --quick
  cargo xtask bench -- --help")]
    Bench {
        /// Passed on to the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Starts, shows and ends servers: PostgreSQL, Redis, a Redis cluster, Neo4j, and for MongoDB
    /// what speaks its protocol.
    Services {
        #[command(subcommand)]
        verb: Verb,
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
    let done = perform(Args::parse().task);
    // Servers may be on their way that nobody waits for any more.
    dynamic_flow_services::end_all();
    match done {
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
        Task::Test { only, no_services } => stages::run(&cargo, &only, !no_services),
        Task::Services { verb } => services::perform(verb, cargo.root()),
        Task::Bench { args } => bench::run(&cargo, args),
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
