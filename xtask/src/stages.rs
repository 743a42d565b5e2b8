//! The stages of `cargo xtask test`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use dynamic_flow_services::Kind;

use crate::{command::Cargo, features, services::Pending, skips};

/// One thing that must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// The code is formatted.
    Fmt,
    /// No lint has anything to say, of any target with all features.
    Clippy,
    /// The library compiles without features, and with each alone.
    Features,
    /// A build without the feature of a driver has none of the driver's code.
    Trees,
    /// All tests pass, those in the docs too.
    Tests,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Features => "features",
            Self::Trees => "trees",
            Self::Tests => "tests",
        }
    }

    /// Runs it; the tests with those servers.
    fn run(self, cargo: &Cargo, servers: Option<Pending>) -> Result<()> {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        match self {
            Self::Fmt => cargo.run(words("fmt --all --check")),
            Self::Clippy => {
                cargo.run(words("clippy --workspace --all-targets --all-features -- -D warnings"))
            }
            Self::Features => features::check_each(cargo),
            Self::Trees => features::check_trees(cargo),
            Self::Tests => {
                let args = words("test --workspace --all-features");
                // What takes long is done while the servers start.
                cargo.run(args.iter().cloned().chain(["--no-run".to_owned()]))?;
                let servers = servers.map(Pending::wait).unwrap_or_default();
                servers.judge(skips::is_ci())?;
                let cargo = cargo.with(servers.variables());
                let skipped = cargo.run_picking(args, skips::reason)?;
                skips::judge(&skipped, skips::is_ci())
            }
        }
    }
}

/// Runs the stages that are asked for, or all, in their order, up to the first that fails.
pub(crate) fn run(cargo: &Cargo, only: &[Stage], services: bool) -> Result<()> {
    let mut timings = Vec::new();
    let wanted = services && chosen(only).any(|stage| stage == Stage::Tests);
    let mut servers = match wanted {
        true => Some(Pending::begin(Kind::ALL.to_vec(), cargo.root())?),
        false => None,
    };
    for stage in chosen(only) {
        let name = stage.name();
        eprintln!("\n== {name}");
        let start = Instant::now();
        let servers = if stage == Stage::Tests { servers.take() } else { None };
        let done = stage.run(cargo, servers);
        let took = seconds(start.elapsed());
        done.with_context(|| {
            format!("stage {name} failed after {took} (alone: cargo xtask test --only {name})")
        })?;
        eprintln!("== {name}: passed in {took}");
        timings.push(format!("{name} {took}"));
    }
    eprintln!("\nxtask: passed: {}", timings.join(", "));
    Ok(())
}

fn chosen(only: &[Stage]) -> impl Iterator<Item = Stage> {
    let all = Stage::value_variants().iter().copied();
    all.filter(|stage| only.is_empty() || only.contains(stage))
}

pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_stages_run_unless_some_are_named_and_keep_their_order() {
        assert_eq!(chosen(&[]).count(), Stage::value_variants().len());
        let some: Vec<_> = chosen(&[Stage::Trees, Stage::Fmt, Stage::Trees]).collect();
        assert_eq!(some, [Stage::Fmt, Stage::Trees]);
    }

    #[test]
    fn stages_are_called_what_one_types() {
        for stage in Stage::value_variants() {
            let typed = stage.to_possible_value().expect("no stage is hidden");
            assert_eq!(typed.get_name(), stage.name());
        }
    }
}
