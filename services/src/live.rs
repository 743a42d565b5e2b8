//! What this process has running, for the case that it ends without dropping it: because of a
//! signal, or while other threads are still starting something.

use std::{
    fs, mem,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Result, bail};

use crate::process::{Process, signal};

/// How long servers get to end in good order.
const GRACE: Duration = Duration::from_secs(20);

static LIVE: Mutex<Live> =
    Mutex::new(Live { servers: Vec::new(), folders: Vec::new(), over: false });

struct Live {
    /// Ids of processes, and the signals that make them end in good order.
    servers: Vec<(u32, &'static str)>,
    folders: Vec<PathBuf>,
    /// Nothing is to be started any more.
    over: bool,
}

impl Live {
    fn add(&mut self, what: impl FnOnce(&mut Self)) -> Result<()> {
        if self.over {
            bail!("this process is about to end");
        }
        what(self);
        Ok(())
    }
}

fn live() -> MutexGuard<'static, Live> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// # Errors
/// When it comes too late, and is to be undone.
pub(crate) fn made(folder: &Path) -> Result<()> {
    live().add(|live| live.folders.push(folder.to_owned()))
}

/// # Errors
/// As [`made`].
pub(crate) fn started(pid: u32, stop: &'static str) -> Result<()> {
    live().add(|live| live.servers.push((pid, stop)))
}

pub(crate) fn ended(pid: u32) {
    live().servers.retain(|(it, _)| *it != pid);
}

/// From now on somebody else looks after it.
pub(crate) fn left(pid: Option<u32>, folder: &Path) {
    let mut live = live();
    live.servers.retain(|(it, _)| Some(*it) != pid);
    live.folders.retain(|it| it != folder);
}

/// Ends every server that this process has started and not left running, and removes the folders;
/// nothing can be started after it.
///
/// For a process that ends without dropping what it has.
pub fn end_all() {
    let (servers, folders) = {
        let mut live = live();
        live.over = true;
        (mem::take(&mut live.servers), mem::take(&mut live.folders))
    };
    for (pid, stop) in &servers {
        // All at once: each takes its time. One that is gone is what is wanted.
        let _ = signal(*pid, stop);
    }
    for (pid, stop) in servers {
        if let Ok(process) = Process::now(pid) {
            let _ = process.end(stop, GRACE);
        }
    }
    for folder in folders {
        let _ = fs::remove_dir_all(folder);
    }
}
