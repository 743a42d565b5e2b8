//! Real servers for tests and benchmarks: `cargo xtask services`, and what the other commands
//! start for themselves.

mod docker;
mod interrupt;
mod progress;
mod session;
mod start;
mod state;

use std::{env, path::Path};

use anyhow::{Result, bail};
use clap::{Subcommand, ValueEnum, builder::PossibleValue};
use dynamic_flow_services::{Kind, start_apart};

pub(crate) use self::session::Pending;
use self::{progress::Progress, start::Started, state::State};

/// A kind of server, as one types it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Typed(Kind);

impl ValueEnum for Typed {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Typed; Kind::ALL.len()] = {
            let mut all = [Typed(Kind::Postgres); Kind::ALL.len()];
            let mut i = 0;
            while i < all.len() {
                all[i] = Typed(Kind::ALL[i]);
                i += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Starts servers and leaves them running, for `cargo test` and for a look at them.
    ///
    /// Installs what is missing (Debian's packages, as root or with sudo; Neo4j from Maven Central;
    /// what speaks MongoDB's protocol from PyPI). They run without root's rights, on free loopback
    /// ports and in temporary folders. A server that the environment names is used in place of one.
    #[command(after_help = "\
Examples:
  cargo xtask services up
  cargo xtask services up --only postgres --only redis
  eval \"$(cargo xtask services env)\" && cargo test -p dynamic-flow --all-features --test servers

Downloads are kept in ~/.cache/dynamic-flow (root: /var/cache/dynamic-flow), or where
DFLOW_SERVICES_CACHE says.")]
    Up {
        /// This kind alone; may be given several times.
        #[arg(long, value_name = "KIND")]
        only: Vec<Typed>,
        /// Uses containers, as compose.yaml describes them.
        #[arg(long)]
        docker: bool,
    },
    /// Prints the variables that tell tests where the servers are.
    #[command(after_help = "Example:\n  eval \"$(cargo xtask services env)\"")]
    Env,
    /// Ends the servers that `up` started, and no others, and removes their folders.
    Down {
        /// This kind alone; may be given several times.
        #[arg(long, value_name = "KIND")]
        only: Vec<Typed>,
    },
}

/// Does what was asked for, with the state in that folder.
pub(crate) fn perform(verb: Verb, root: &Path) -> Result<()> {
    let target = root.join("target");
    match verb {
        Verb::Up { only, docker } => up(&chosen(&only), docker, root, &target),
        Verb::Env => show_environment(&target),
        Verb::Down { only } => down(&only, root, &target),
    }
}

/// The kinds that are named, or all.
fn chosen(only: &[Typed]) -> Vec<Kind> {
    let named = |kind: &Kind| only.is_empty() || only.contains(&Typed(*kind));
    Kind::ALL.into_iter().filter(named).collect()
}

fn up(kinds: &[Kind], docker: bool, root: &Path, target: &Path) -> Result<()> {
    let mut state = State::hold(target)?;
    start_apart();
    interrupt::end_all_on_signal(
        "what runs already stays up: `cargo xtask services down` ends it",
    )?;
    let mut missing = Vec::new();
    for &kind in kinds {
        if given(kind).is_some() {
            eprintln!("{kind}: {} is set, so that server is used", kind.variable());
        } else if state.get(kind).is_some_and(|it| it.docker || it.runs()) {
            eprintln!("{kind}: runs already");
        } else {
            // One may have died with a part of it left.
            state.end(kind)?;
            missing.push(kind);
        }
    }
    if docker {
        for (kind, url) in docker::up(&missing, root)? {
            state.note(kind, state::Running::in_docker(url))?;
        }
        return Ok(());
    }
    let progress = Progress::on_terminal();
    let mut troubles = Vec::new();
    for Started { kind, outcome } in start::all(&missing, &progress) {
        match outcome.and_then(|mut service| state.leave(kind, service.as_mut())) {
            Ok(()) => {}
            Err(error) => troubles.push(format!("{kind}: {error:#}")),
        }
    }
    drop(progress);
    if !troubles.is_empty() {
        bail!("not everything could be started\n{}", troubles.join("\n"));
    }
    eprintln!("\neval \"$(cargo xtask services env)\"     tells your shell where they are");
    eprintln!("cargo xtask services down              ends them");
    Ok(())
}

fn down(only: &[Typed], root: &Path, target: &Path) -> Result<()> {
    let mut state = State::hold(target)?;
    let kinds = state.kinds().into_iter().filter(|kind| chosen(only).contains(kind));
    let kinds: Vec<Kind> = kinds.collect();
    let (mut troubles, mut contained) = (Vec::new(), false);
    if kinds.is_empty() {
        eprintln!("nothing that `cargo xtask services up` started is left");
    }
    for kind in kinds {
        let docker = state.get(kind).is_some_and(|it| it.docker);
        contained |= docker;
        let ended = if docker {
            docker::down(kind, root).and_then(|()| state.forget(kind)).map(|()| true)
        } else {
            state.end(kind)
        };
        match ended {
            Ok(true) => eprintln!("{kind}: ended"),
            Ok(false) => eprintln!("{kind}: had ended already"),
            Err(error) => troubles.push(format!("{kind}: {error:#}")),
        }
    }
    let in_docker = |kind: &Kind| state.get(*kind).is_some_and(|it| it.docker);
    if contained && !Kind::ALL.iter().any(in_docker) {
        docker::clear(root)?;
    }
    if !troubles.is_empty() {
        bail!("not everything could be ended\n{}", troubles.join("\n"));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a shell reads it")]
fn show_environment(target: &Path) -> Result<()> {
    let running = State::look(target)?;
    if running.is_empty() {
        bail!("no server is up; `cargo xtask services up` starts them");
    }
    for kind in Kind::ALL {
        let Some(it) = running.get(kind.name()) else { continue };
        if it.docker || it.runs() {
            println!("{}", export(kind, &it.url));
        } else {
            eprintln!("{kind}: has ended; `cargo xtask services up` starts it again");
        }
    }
    Ok(())
}

/// A line for a shell.
fn export(kind: Kind, url: &str) -> String {
    format!("export {}='{}'", kind.variable(), url.replace('\'', r"'\''"))
}

/// The server of that kind that the environment names.
fn given(kind: Kind) -> Option<String> {
    env::var(kind.variable()).ok().filter(|url| !url.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_called_what_one_types() {
        for typed in Typed::value_variants() {
            let name = typed.to_possible_value().expect("no kind is hidden");
            assert_eq!(Kind::from_name(name.get_name()), Some(typed.0));
        }
        assert_eq!(Typed::value_variants().len(), Kind::ALL.len());
    }

    #[test]
    fn all_kinds_are_meant_unless_some_are_named() {
        assert_eq!(chosen(&[]), Kind::ALL);
        let some = [Typed(Kind::Redis), Typed(Kind::Neo4j), Typed(Kind::Redis)];
        assert_eq!(chosen(&some), [Kind::Neo4j, Kind::Redis]);
    }

    #[test]
    fn a_shell_takes_a_url_as_it_is() {
        let line = export(Kind::Redis, "redis://:it's $HOME@h");
        assert_eq!(line, r"export DFLOW_TEST_REDIS_URL='redis://:it'\''s $HOME@h'");
    }
}
