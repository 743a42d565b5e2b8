//! Servers for one command: started beside other work, and ended with it.

use std::{collections::BTreeMap, path::Path, thread};

use anyhow::{Result, bail};
use dynamic_flow_services::{Kind, Service, start_apart};

use super::{
    given, interrupt,
    progress::Progress,
    start::{self, Started},
    state::State,
};

/// Servers that are being started.
pub(crate) struct Pending(thread::JoinHandle<Session>);

/// Servers that are there; those that were started for this end when it is dropped.
#[derive(Default)]
pub(crate) struct Session {
    started: Vec<(Kind, Box<dyn Service>)>,
    /// Those that `services up` left running.
    found: BTreeMap<Kind, String>,
    /// What kept the others from starting.
    troubles: Vec<String>,
}

impl Pending {
    /// Begins to start those servers that neither the environment names nor `services up` has left
    /// running.
    pub(crate) fn begin(kinds: Vec<Kind>, root: &Path) -> Result<Self> {
        let running = State::look(&root.join("target"))?;
        start_apart();
        interrupt::end_all_on_signal("")?;
        Ok(Self(thread::spawn(move || {
            let mut session = Session::default();
            let mut missing = Vec::new();
            for kind in kinds.into_iter().filter(|kind| given(*kind).is_none()) {
                match running.get(kind.name()).filter(|it| it.docker || it.runs()) {
                    Some(it) => drop(session.found.insert(kind, it.url.clone())),
                    None => missing.push(kind),
                }
            }
            for Started { kind, outcome } in start::all(&missing, &Progress::in_lines()) {
                match outcome {
                    Ok(service) => session.started.push((kind, service)),
                    Err(error) => session.troubles.push(format!("{kind}: {error:#}")),
                }
            }
            session
        })))
    }

    /// Waits until each takes connections or has failed.
    pub(crate) fn wait(self) -> Session {
        self.0.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Session {
    /// Tells which servers are not there; fails where everything must run.
    pub(crate) fn judge(&self, ci: bool) -> Result<()> {
        for trouble in &self.troubles {
            eprintln!("\nxtask: no {trouble}");
        }
        if ci && !self.troubles.is_empty() {
            bail!("servers are missing, and CI is set: every store must be tested there");
        }
        Ok(())
    }

    /// The variables that tell where they are.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let started = self.started.iter().map(|(kind, it)| (kind.variable(), it.url()));
        let found = self.found.iter().map(|(kind, url)| (kind.variable(), url.clone()));
        started.chain(found).collect()
    }
}
