//! Starts servers, all at once.

use std::{sync::mpsc, thread, time::Instant};

use anyhow::{Context as _, Result};
use dynamic_flow_services::{Kind, Service, cache};

use super::progress::Progress;
use crate::stages::seconds;

/// What became of a server that was to be started.
pub(super) struct Started {
    pub(super) kind: Kind,
    pub(super) outcome: Result<Box<dyn Service>>,
}

/// Installs and starts servers, each on a thread of its own; gives each when it takes connections
/// or has failed.
pub(super) fn all(kinds: &[Kind], progress: &Progress) -> impl Iterator<Item = Started> {
    let (sender, receiver) = mpsc::channel();
    for &kind in kinds {
        let task = progress.begin(kind);
        let sender = sender.clone();
        thread::spawn(move || {
            let begin = Instant::now();
            let start = || {
                task.says("makes sure of what it needs");
                kind.install(&cache()?).context("it can't be installed")?;
                task.says("starts");
                kind.start()
            };
            let outcome = start();
            let took = seconds(begin.elapsed());
            match &outcome {
                Ok(_) => task.ends(&format!("takes connections after {took}")),
                Err(_) => task.ends(&format!("failed after {took}")),
            }
            // Nobody may be left who wants it: then it ends here.
            let _ = sender.send(Started { kind, outcome });
        });
    }
    receiver.into_iter()
}
