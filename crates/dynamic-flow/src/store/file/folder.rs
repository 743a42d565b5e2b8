//! The folder: one record at a time, under the lock of its shard.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind as Io,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    disk::{self, At as _, Mode, Sync},
    exchange::read_settled,
    form::{self, Renewal, Stored},
    layout::{Layout, bucket_of},
    lock::{Lock, kept},
};
use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    id::{Epoch, Revision, RunId},
    store::{Change, Expect, Record},
};

/// What a record was is kept to be written over, unless it is larger: a shard keeps no more of it.
const MAX_SPARE: usize = 64 << 10;

/// All that blocks is here and below; above it is async.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) layout: Layout,
    pub(super) mode: Mode,
    /// How long it waits for who writes.
    pub(super) patience: Duration,
    /// The bucket whose name this process last saw to be durable.
    synced: Mutex<Option<u32>>,
    /// The buckets that could not be synced after a write.
    pub(super) unsynced: Mutex<BTreeSet<PathBuf>>,
}

impl Folder {
    pub(super) fn new(root: PathBuf, mode: Mode, patience: Duration) -> Self {
        Self {
            layout: Layout::new(root),
            mode,
            patience,
            synced: Mutex::default(),
            unsynced: Mutex::default(),
        }
    }

    pub(super) fn lock(&self, id: RunId) -> Result<Lock> {
        self.lock_file("lock a record", &self.layout.shard(id))
    }

    /// Waits for a lock.
    pub(super) fn lock_file(&self, what: &str, path: &Path) -> Result<Lock> {
        let lock = Lock::wait(path, self.mode, self.patience).at(what, path)?;
        lock.ok_or_else(|| disk::cannot(what, path)(kept(self.patience)))
    }

    /// Waits for the lock of a record, at most for that long, or as long as it waits at all.
    pub(super) fn lock_within(&self, id: RunId, patience: Duration) -> Result<Option<Lock>> {
        let path = self.layout.shard(id);
        Lock::wait(&path, self.mode, patience.min(self.patience)).at("lock a record", &path)
    }

    pub(super) fn try_lock(&self, id: RunId) -> Result<Option<Lock>> {
        self.lock_within(id, Duration::ZERO)
    }

    pub(super) fn get(&self, id: RunId) -> Result<Option<Record>> {
        let Some(mut stored) = self.load(id)? else { return Ok(None) };
        stored.record.snapshot = stored.sealed(&self.layout.record(id))?;
        Ok(Some(stored.record))
    }

    /// Reads a record as it is now, its snapshot unopened. Needs no lock of its shard.
    pub(super) fn load(&self, id: RunId) -> Result<Option<Stored>> {
        match self.load_unlocked(id) {
            // Not every file system is as strict as it should be: a second look, with nobody writing.
            Err(error) if error.kind() == ErrorKind::CorruptState => match self.lock(id) {
                Ok(lock) => self.load_locked(&lock, id),
                Err(_) => Err(error),
            },
            loaded => loaded,
        }
    }

    fn load_unlocked(&self, id: RunId) -> Result<Option<Stored>> {
        // The renewal first: one of a later revision than the record's can then not be met, and
        // one of an earlier revision is void, for the record's write took it in.
        let renewal = self.renewal(id)?;
        let path = self.layout.record(id);
        let bytes = read_settled(&path, self.patience).at("read a record", &path)?;
        self.make_up_for(id)?;
        self.stored(id, bytes, renewal)
    }

    /// The same, for who holds the lock: nobody writes meanwhile.
    pub(super) fn load_locked(&self, lock: &Lock, id: RunId) -> Result<Option<Stored>> {
        self.settle(lock, id)?;
        let renewal = self.renewal(id)?;
        let path = self.layout.record(id);
        let bytes = disk::read(&path).at("read a record", &path)?;
        self.stored(id, bytes, renewal)
    }

    fn stored(
        &self,
        id: RunId,
        bytes: Option<Vec<u8>>,
        renewal: Option<Renewal>,
    ) -> Result<Option<Stored>> {
        let Some(bytes) = bytes else {
            self.check_present()?;
            return Ok(None);
        };
        let mut stored = Stored::read(&bytes, id, &self.layout.record(id))?;
        stored.renewed = renewal.is_some();
        if let Some(renewal) = renewal
            && renewal.revision == stored.record.revision
            && let Some(lease) = &mut stored.record.lease
        {
            lease.until = renewal.until;
            stored.record.due_at = Some(renewal.until);
        }
        Ok(Some(stored))
    }

    fn renewal(&self, id: RunId) -> Result<Option<Renewal>> {
        let path = self.layout.lease(id);
        let bytes = disk::read(&path).at("read the lease of a record", &path)?;
        // It is written without a sync: after a power failure it may be empty, and its holder gone.
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// A record that is not in a folder that is not there is no record that does not exist.
    pub(super) fn check_present(&self) -> Result<()> {
        let runs = self.layout.runs();
        fs::metadata(&runs).map(|_| ()).at("find the store", &runs)
    }

    pub(super) fn insert(&self, record: &Record) -> Result<()> {
        let id = record.id;
        let lock = self.lock(id)?;
        let path = self.layout.record(id);
        if path.try_exists().at("look for a record", &path)? {
            // Who tries again takes that for success, and who made it may have died before its sync.
            self.sync_bucket(id)?;
            let error = Error::new(ErrorKind::AlreadyExists, "there is a record of that id");
            return Err(error.with_run(id));
        }
        self.make_bucket(id)?;
        self.commit(&lock, None, record, &form::encode(&record.snapshot))
    }

    /// Makes the folder that a new record comes into; its name must be durable before the record is.
    fn make_bucket(&self, id: RunId) -> Result<()> {
        let bucket = self.layout.bucket(id);
        let made = self.mode.create_dir(&bucket).at("make a folder", &bucket)?;
        let known = |synced: &mut Option<u32>| *synced == Some(bucket_of(id));
        if made || !self.with_synced(known) {
            let runs = self.layout.runs();
            disk::sync_dir(&runs).at("sync a folder", &runs)?;
            self.with_synced(|synced| *synced = Some(bucket_of(id)));
        }
        Ok(())
    }

    fn with_synced<T>(&self, f: impl FnOnce(&mut Option<u32>) -> T) -> T {
        f(&mut self.synced.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(super) fn update(&self, id: RunId, expect: Expect, mut change: Change) -> Result<Revision> {
        let snapshot = change.snapshot.take().map(|snapshot| form::encode(&snapshot));
        let lock = self.lock(id)?;
        let old = self.expect(&lock, id, expect)?;
        let mut record = old.record.clone();
        change.apply(&mut record);
        let snapshot = snapshot.as_ref().unwrap_or(&old.snapshot);
        self.commit(&lock, Some(&old), &record, snapshot)?;
        Ok(record.revision)
    }

    /// The record, if it is what is expected.
    fn expect(&self, lock: &Lock, id: RunId, expect: Expect) -> Result<Stored> {
        let stored =
            self.load_locked(lock, id)?.ok_or_else(|| conflict("there is no such record", id))?;
        if !expect.admits(stored.record.revision) {
            return Err(conflict("the record was changed in the meantime", id));
        }
        Ok(stored)
    }

    /// Writes a record: what it was is there until what it is now is on the disk.
    ///
    /// Hints of what it will be come first and those of what it was go last, so that at every
    /// instant those of what it is are there. Until all is durable the record can't be read, and
    /// until then what it was keeps its temporary name: who finds that knows that a sync is owed.
    pub(super) fn commit(
        &self,
        _lock: &Lock,
        old: Option<&Stored>,
        new: &Record,
        snapshot: &str,
    ) -> Result<()> {
        let id = new.id;
        let bytes = form::write(new, snapshot)?;
        let before = old.map(|old| Hints::of(&self.layout, &old.record));
        let after = Hints::of(&self.layout, new);
        let placed = self.place(&after, before.as_ref())?;

        let path = self.layout.record(id);
        let temp = self.layout.temp(id, super::layout::RECORD);
        let spare = self.layout.spare(id);
        let written = match old {
            Some(_) => self.mode.exchange(&path, &temp, &spare, &bytes),
            None => self.mode.replace(&path, &temp, &bytes, Sync::Contents),
        };
        let held = match written {
            Ok(held) => held,
            Err(error) => {
                placed.remove();
                return Err(error).at("write a record", &temp);
            }
        };
        self.sync_bucket(id)?;
        // Where files can't change names there is nothing under this one.
        match old {
            Some(old) if old.bytes <= MAX_SPARE => drop(fs::rename(&temp, &spare)),
            Some(_) => drop(fs::remove_file(&temp)),
            None => {}
        }
        drop(held);

        if let Some(before) = before {
            before.without(&after).remove();
        }
        if old.is_some_and(|old| old.renewed) {
            let _ = disk::remove(&self.layout.lease(id));
        }
        Ok(())
    }

    pub(super) fn delete(&self, id: RunId, expect: Expect) -> Result<()> {
        let lock = self.lock(id)?;
        let old = self.expect(&lock, id, expect)?;
        // Either may be what this record was.
        for path in [self.layout.spare(id), self.layout.temp(id, super::layout::RECORD)] {
            match disk::remove(&path) {
                Err(error) if error.kind() != Io::NotFound => {
                    return Err(error).at("remove a file", &path);
                }
                _ => {}
            }
        }
        let path = self.layout.record(id);
        disk::remove(&path).at("remove a record", &path)?;
        self.sync_bucket(id)?;
        let bucket = self.layout.bucket(id);
        let _ = disk::remove(&self.layout.lease(id));
        Hints::of(&self.layout, &old.record).remove();
        // New records come into the present bucket: that its name is durable must stay true.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = RunId::floor(Timestamp::from_millis(0).after(now));
        if bucket_of(id) + 1 < bucket_of(now) {
            let _ = fs::remove_dir(&bucket);
        }
        Ok(())
    }

    /// Moves the end of a lease. Not synced: if the power fails, its holder is gone as well.
    pub(super) fn renew(&self, id: RunId, epoch: Epoch, until: Timestamp) -> Result<()> {
        let lock = self.lock(id)?;
        let old = self.expect(&lock, id, Expect::Any)?;
        if old.record.epoch != epoch {
            return Err(conflict("somebody else holds the lease", id));
        }
        if old.record.lease.is_none() {
            return Err(conflict("nobody holds the lease", id));
        }
        let mut record = old.record.clone();
        record.due_at = Some(until);
        let before = Hints::of(&self.layout, &old.record);
        let after = Hints::of(&self.layout, &record);
        let placed = self.place(&after, Some(&before))?;

        let renewal = Renewal { revision: record.revision, until };
        let path = self.layout.lease(id);
        let temp = self.layout.temp(id, super::layout::LEASE);
        let written = serde_json::to_vec(&renewal)
            .map_err(std::io::Error::from)
            .and_then(|bytes| self.mode.replace(&path, &temp, &bytes, Sync::Never).map(drop));
        if let Err(error) = written {
            placed.remove();
            return Err(error).at("write the lease of a record", &temp);
        }
        before.without(&after).remove();
        Ok(())
    }

    /// Makes those hints that are not among `known`; gives those that were missing.
    fn place(&self, hints: &Hints, known: Option<&Hints>) -> Result<Hints> {
        let seed = self.layout.seed(hints.id);
        let mut placed = Hints { id: hints.id, mark: None, columns: None, due: None };
        let known_mark = known.and_then(|known| known.mark.as_ref());
        let known_columns = known.and_then(|known| known.columns.as_ref());
        let known_due = known.and_then(|known| known.due.as_ref());
        let mark = hints.mark.as_ref().filter(|path| known_mark != Some(path));
        let columns = hints.columns.as_ref().filter(|path| known_columns != Some(path));
        let due = hints.due.as_ref().filter(|path| known_due != Some(path));
        let place = |hint: Option<&PathBuf>, folders| match hint {
            Some(path) => self
                .mode
                .place_hint(path, folders, &seed)
                .map(|made| made.then(|| path.clone()))
                .at("write a file of the index", path),
            None => Ok(None),
        };
        placed.mark = place(mark, 1)?;
        placed.columns = place(columns, 1).inspect_err(|_| placed.remove())?;
        placed.due = place(due, 3).inspect_err(|_| placed.remove())?;
        Ok(placed)
    }

    /// Makes the hints of a record that lacks some; tells how many it lacked.
    pub(super) fn heal(&self, lock: &Lock, id: RunId) -> Result<usize> {
        let Some(stored) = self.load_locked(lock, id)? else { return Ok(0) };
        let hints = Hints::of(&self.layout, &stored.record);
        let placed = self.place(&hints, None)?;
        Ok(placed.paths().count())
    }

    /// Removes a hint or mark beside a record, unless it is right.
    pub(super) fn drop_hint(&self, lock: &Lock, id: RunId, hint: &Path) -> Result<()> {
        let stored = self.load_locked(lock, id)?;
        let right = stored.map(|stored| Hints::of(&self.layout, &stored.record));
        if !right.is_some_and(|right| right.paths().any(|path| path == hint)) {
            match disk::remove(hint) {
                Err(error) if error.kind() != Io::NotFound => {
                    return Err(error).at("remove a file of the index", hint);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The mark and the hints of a record, or some of them.
struct Hints {
    id: RunId,
    mark: Option<PathBuf>,
    columns: Option<PathBuf>,
    due: Option<PathBuf>,
}

impl Hints {
    fn of(layout: &Layout, record: &Record) -> Self {
        let mark = layout.mark(record.id);
        let columns = Some(layout.columns_hint(record));
        Self { id: record.id, mark, columns, due: layout.due_hint(record) }
    }

    fn without(mut self, others: &Self) -> Self {
        self.mark = self.mark.filter(|path| others.mark.as_ref() != Some(path));
        self.columns = self.columns.filter(|path| others.columns.as_ref() != Some(path));
        self.due = self.due.filter(|path| others.due.as_ref() != Some(path));
        self
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.mark.iter().chain(&self.columns).chain(&self.due)
    }

    /// Removes them, as far as it can: a hint too many is met and checked one day.
    fn remove(&self) {
        for path in self.paths() {
            let _ = disk::remove(path);
        }
    }
}

pub(super) fn conflict(message: &'static str, id: RunId) -> Error {
    Error::new(ErrorKind::Conflict, message).with_run(id)
}

#[cfg(test)]
pub(super) mod tests;
