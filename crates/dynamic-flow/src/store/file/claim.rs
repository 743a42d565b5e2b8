//! Due runs, by way of the due index: what is not due yet is told apart by the names of folders.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    disk::{self, At as _},
    folder::Folder,
    form::Stored,
    layout::{HOURS_DIGITS, SECONDS_DIGITS, due_hours, due_seconds, parse_due, parse_hex},
    lock::Lock,
};
use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    id::RunId,
    store::{Claim, Record},
};

/// How long a claim waits in all for those who write, while it has nothing: there are other runs,
/// and the next claim.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long what it has taken is kept waiting: long enough for who is in the middle of a write, or
/// for a process that was just begun and has not let go yet of what its parent has open.
const MOMENT: Duration = Duration::from_millis(100);

/// A hint that a run is due.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Timestamp,
    id: RunId,
    hint: PathBuf,
}

/// What a claim came by.
#[derive(Default)]
struct Taken {
    records: Vec<(Timestamp, Record)>,
    /// Why the first was passed over of those whose files can't be used.
    failed: Option<Error>,
    /// How long it has waited for others.
    waited: Duration,
}

impl Taken {
    /// One record that is damaged, or that can't be locked or read, must not keep workers from all
    /// the others.
    fn pass_over(&mut self, error: Error) -> Result<()> {
        // What passes by itself, such as too many open files, is no matter of that record.
        if error.is_retryable() {
            return Err(error);
        }
        tracing::warn!(%error, "a due run can't be claimed");
        if error.kind() != ErrorKind::CorruptState {
            self.failed.get_or_insert(error);
        }
        Ok(())
    }
}

impl Folder {
    pub(super) fn claim(&self, claim: &Claim) -> Result<Vec<Record>> {
        let mut taken = Taken::default();
        let ended = self.claim_into(claim, &mut taken);
        let Taken { mut records, failed, .. } = taken;
        // Those that were taken are the caller's now: nobody else gets them until they lapse.
        match ended {
            Err(error) if records.is_empty() => return Err(error),
            Err(error) => tracing::warn!(%error, "a claim ended early"),
            Ok(()) => {}
        }
        if let Some(error) = failed.filter(|_| records.is_empty()) {
            return Err(error);
        }
        records.sort_by_key(|(due, record)| (*due, record.id));
        Ok(records.into_iter().map(|(_, record)| record).collect())
    }

    fn claim_into(&self, claim: &Claim, taken: &mut Taken) -> Result<()> {
        if claim.limit == 0 {
            return Ok(());
        }
        self.check_present()?;
        let queues: BTreeSet<PathBuf> =
            claim.queues.iter().map(|queue| self.layout.queue(queue)).collect();
        for hours in slices(&queues, HOURS_DIGITS, due_hours(claim.now))?.into_values() {
            let hours = hours.into_iter().collect();
            for seconds in slices(&hours, SECONDS_DIGITS, due_seconds(claim.now))?.into_values() {
                self.claim_slice(claim, &seconds, taken)?;
                if taken.records.len() >= claim.limit {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes what is due in those folders, which are about the same seconds.
    fn claim_slice(&self, claim: &Claim, folders: &[PathBuf], taken: &mut Taken) -> Result<()> {
        let mut due = BTreeSet::new();
        let is_wanted =
            |(at, id): &(Timestamp, RunId)| *at <= claim.now && !claim.except.contains(id);
        for folder in folders {
            let mut any = false;
            let each = |name: &str| {
                any = true;
                if let Some((at, id)) = parse_due(name).filter(is_wanted) {
                    due.insert(Due { at, id, hint: folder.join(name) });
                }
            };
            disk::names(folder, each).at("list due runs", folder)?;
            if !any {
                disk::remove_empty(folder);
            }
        }
        // Many workers see the same runs: who finds one locked by another goes on to the next, and
        // comes back only if that was not enough.
        let mut busy = Vec::new();
        for due in due {
            if taken.records.len() >= claim.limit {
                return Ok(());
            }
            match self.try_lock(due.id) {
                Ok(Some(lock)) => self.claim_one(&lock, claim, &due, taken)?,
                Ok(None) => busy.push(due),
                Err(error) => taken.pass_over(error)?,
            }
        }
        for due in busy {
            if taken.records.len() >= claim.limit {
                return Ok(());
            }
            let began = Instant::now();
            let patience = if taken.records.is_empty() { PATIENCE } else { MOMENT };
            let patience = patience.saturating_sub(taken.waited);
            let lock = self.lock_within(due.id, patience);
            taken.waited += began.elapsed();
            match lock {
                Ok(Some(lock)) => self.claim_one(&lock, claim, &due, taken)?,
                // It stays due: the next claim finds it.
                Ok(None) if !patience.is_zero() => {
                    tracing::warn!(run = %due.id, "a due run is left: somebody keeps its lock");
                }
                Ok(None) => {}
                Err(error) => taken.pass_over(error)?,
            }
        }
        Ok(())
    }

    fn claim_one(&self, lock: &Lock, claim: &Claim, due: &Due, taken: &mut Taken) -> Result<()> {
        let path = self.layout.record(due.id);
        let read = self.load_locked(lock, due.id).and_then(|old| {
            let snapshot = old.as_ref().map(|old| old.sealed(&path)).transpose()?;
            Ok(old.zip(snapshot))
        });
        let found = match read {
            Err(error) => return taken.pass_over(error),
            Ok(found) => found,
        };
        let is_right = |old: &Stored| self.layout.due_hint(&old.record).as_ref() == Some(&due.hint);
        let Some((old, snapshot)) = found.filter(|(old, _)| is_right(old)) else {
            let _ = disk::remove(&due.hint);
            return Ok(());
        };
        if !claim.admits(&old.record) {
            return Ok(());
        }
        let mut record = old.record.clone();
        claim.apply(&mut record);
        self.commit(lock, Some(&old), &record, &old.snapshot)?;
        record.snapshot = snapshot;
        taken.records.push((due.at, record));
        Ok(())
    }
}

/// The folders in those folders that are not about a time after `now`, earliest first.
fn slices(
    folders: &BTreeSet<PathBuf>,
    digits: usize,
    now: u64,
) -> Result<BTreeMap<u64, Vec<PathBuf>>> {
    let mut slices: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    for folder in folders {
        let each = |name: &str| {
            if let Some(time) = parse_hex(name, digits).filter(|time| *time <= now) {
                slices.entry(time).or_default().push(Path::join(folder, name));
            }
        };
        disk::names(folder, each).at("list due runs", folder)?;
    }
    Ok(slices)
}
