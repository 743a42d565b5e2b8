//! Makes the folder, refuses one that is not ours, and tidies up after a crash.

use std::{
    fs,
    io::ErrorKind as Io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    FileStore, Rebuilt,
    disk::{self, At as _, Mode, Sync},
    folder::Folder,
    form::newer,
    layout::{Name, parse_bucket, parse_hex, parse_id, parse_name},
};
use crate::{Error, ErrorKind, Result, id::RunId};

/// The version of the folder's layout that this build makes.
const VERSION: u32 = 1;

/// What the marker file says.
#[derive(Serialize, Deserialize)]
struct Marker {
    dynamic_flow_store: u32,
}

/// Whether something in a folder is what somebody put there: hidden files and what file systems
/// put into their root do no harm.
fn is_visible(name: &str) -> bool {
    !name.starts_with('.') && name != "lost+found"
}

/// Names of markers that are being written.
const TEMP_MARKER: &str = ".tmp-dynamic-flow-store-";

impl Folder {
    pub(super) fn provision(&self) -> Result<()> {
        self.check_mode()?;
        let root = self.layout.root();
        if root.as_os_str().is_empty() {
            let message = format!("the store's path is empty; {:?} is usual", FileStore::DEFAULT);
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        self.mode.create_dir_durably(root).at("make a folder", root)?;
        if !self.read_marker()? {
            self.check_empty()?;
            self.write_marker()?;
        }
        let layout = &self.layout;
        let mut made = false;
        for folder in [layout.locks(), layout.tmp(), layout.runs(), layout.due(), layout.boots()] {
            made |= self.mode.create_dir(&folder).at("make a folder", &folder)?;
        }
        if made {
            disk::sync_dir(root).at("sync a folder", root)?;
        }
        self.remove_temps()?;
        self.tidy_due()?;
        self.rebuild_after_boot(boot_id().as_deref())
    }

    /// Whether anything is there, be it a store's or not: a folder in which nothing is, such as one on
    /// which nothing is mounted, is no store. What can't be looked into is something.
    pub(super) fn exists(&self) -> bool {
        let mut found = false;
        let listed = disk::names(self.layout.root(), |name| found |= is_visible(name));
        listed.is_err() || found
    }

    fn check_mode(&self) -> Result<()> {
        let Mode(bits) = self.mode;
        if bits & 0o600 == 0o600 && bits & !0o666 == 0 {
            return Ok(());
        }
        let message = format!(
            "file permissions are {bits:#o}; the owner must read and write, nobody execute: \
             0o600 is usual, 0o660 shares with a group"
        );
        Err(Error::new(ErrorKind::InvalidConfig, message))
    }

    /// Whether the folder is a store; an error if it is one of another version.
    fn read_marker(&self) -> Result<bool> {
        let path = self.layout.marker();
        let Some(bytes) = disk::read(&path).at("read a file", &path)? else { return Ok(false) };
        let marker: Marker = serde_json::from_slice(&bytes)
            .map_err(|_| disk::corrupt(&path, "no store's marker"))?;
        if marker.dynamic_flow_store != VERSION {
            return Err(newer(ErrorKind::StorageError, marker.dynamic_flow_store, &path));
        }
        Ok(true)
    }

    /// Refuses a folder with things that are not ours.
    fn check_empty(&self) -> Result<()> {
        let root = self.layout.root();
        let mut foreign = None;
        let each = |name: &str| {
            if is_visible(name) {
                foreign = Some(name.to_owned());
            }
        };
        disk::names(root, each).at("list a folder", root)?;
        let Some(foreign) = foreign else { return Ok(()) };
        // What was there may be the work of another process that provisions it at this moment.
        if self.read_marker()? {
            return Ok(());
        }
        let message = format!(
            "the folder has something in it ({foreign:?}) and is no store; \
             choose an empty folder, or one that does not exist"
        );
        Err(Error::new(ErrorKind::StorageError, message).with("path", root.display()))
    }

    fn write_marker(&self) -> Result<()> {
        let root = self.layout.root();
        let path = self.layout.marker();
        let temp = root.join(format!("{TEMP_MARKER}{:016x}", random()?));
        let text = format!("{{\"dynamic_flow_store\":{VERSION}}}\n");
        let written = self.mode.replace(&path, &temp, text.as_bytes(), Sync::Contents);
        match written {
            // Another process was first, and has tidied up.
            Err(error) if error.kind() == Io::NotFound && self.read_marker()? => Ok(()),
            written => written.map(drop).at("write a file", &temp),
        }
    }

    /// Removes what processes that died had not finished writing.
    fn remove_temps(&self) -> Result<()> {
        let root = self.layout.root();
        let mut left = Vec::new();
        disk::names(root, |name| {
            if name.starts_with(TEMP_MARKER) {
                left.push(root.join(name));
            }
        })
        .at("list a folder", root)?;
        for path in left {
            let _ = fs::remove_file(path);
        }

        let tmp = self.layout.tmp();
        let mut folders = Vec::new();
        disk::names(&tmp, |name| folders.extend(parse_hex(name, 1).map(|_| tmp.join(name))))
            .at("list a folder", &tmp)?;
        let mut left = Vec::new();
        for folder in &folders {
            disk::names(folder, |name| {
                let id = name.split_at_checked(36).and_then(|(id, _)| parse_id(id));
                left.extend(id.map(|id| (id, folder.join(name))));
            })
            .at("list a folder", folder)?;
        }
        for (id, path) in left {
            // Only who holds the lock writes there: if nobody does, it was left behind.
            if let Some(lock) = self.try_lock(id)? {
                self.settle(&lock, id)?;
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }

    /// Removes empty folders of the due index, once an hour: to remove each as it becomes empty,
    /// only to make it again for the next run, would cost more than the hints do.
    fn tidy_due(&self) -> Result<()> {
        const INTERVAL: Duration = Duration::from_secs(3600);
        let stamp = self.layout.tidied();
        let age = stamp.metadata().and_then(|metadata| metadata.modified());
        if age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < INTERVAL)) {
            return Ok(());
        }
        // In a folder that can be read only there is nothing to tidy, and much to read.
        let _ = fs::remove_file(&stamp);
        match self.mode.create_new(&stamp) {
            Err(error) if error.kind() == Io::AlreadyExists => return Ok(()),
            Err(error) if error.kind() == Io::ReadOnlyFilesystem => return Ok(()),
            made => made.map(|_| ()).at("write a file", &stamp)?,
        }
        let list = |folder: &Path| {
            let mut inner = Vec::new();
            disk::names(folder, |name| inner.push(folder.join(name)))
                .at("list due runs", folder)
                .map(|()| inner)
        };
        // A link may lead to folders that are not ours.
        let is_folder = |path: &&PathBuf| path.symlink_metadata().is_ok_and(|it| it.is_dir());
        for queue in list(&self.layout.due())?.iter().filter(is_folder) {
            for hours in list(queue)?.iter().filter(is_folder) {
                for seconds in list(hours)? {
                    let _ = fs::remove_dir(seconds);
                }
                let _ = fs::remove_dir(hours);
            }
        }
        Ok(())
    }

    /// Rebuilds the index once after each start of the machine, for it is not synced: a process
    /// that dies takes nothing of it away, but a power failure may. So may that of another machine
    /// that had the folder in between; and what earlier builds made lacks some of it.
    pub(super) fn rebuild_after_boot(&self, boot: Option<&str>) -> Result<()> {
        let is_done = || boot.map_or(Ok(false), |boot| self.is_rebuilt(boot));
        if is_done()? {
            return Ok(());
        }
        let path = self.layout.locks().join("rebuild");
        let _lock = self.lock_file("lock the index", &path)?;
        if is_done()? {
            return Ok(());
        }
        self.rebuild()?;
        let Some(boot) = boot else { return Ok(()) };
        let path = self.rebuilt(boot);
        match self.mode.create_new(&path) {
            Err(error) if error.kind() == Io::AlreadyExists => {}
            made => drop(made.at("write a file", &path)?),
        }
        for other in self.boots_of_others(boot)? {
            let _ = fs::remove_file(other);
        }
        Ok(())
    }

    /// What says that the index was rebuilt since that start of the machine, with all that this
    /// build puts into one.
    fn rebuilt(&self, boot: &str) -> PathBuf {
        const INDEX: u32 = 2;
        self.layout.boots().join(format!("{boot}.{INDEX}"))
    }

    fn is_rebuilt(&self, boot: &str) -> Result<bool> {
        Ok(self.rebuilt(boot).exists() && self.boots_of_others(boot)?.is_empty())
    }

    /// What other starts of machines say: they had the folder since this one rebuilt its index last.
    fn boots_of_others(&self, boot: &str) -> Result<Vec<PathBuf>> {
        let boots = self.layout.boots();
        let mut others = Vec::new();
        let is_boot = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_hexdigit()) && !name.starts_with(boot)
        };
        let each = |name: &str| {
            if is_boot(name) {
                others.push(boots.join(name));
            }
        };
        disk::names(&boots, each).at("list a folder", &boots)?;
        Ok(others)
    }

    pub(super) fn rebuild(&self) -> Result<Rebuilt> {
        self.check_present()?;
        self.remove_spares()?;
        let runs = self.layout.runs();
        let mut buckets = Vec::new();
        let each = |name: &str| buckets.extend(parse_bucket(name).map(|_| runs.join(name)));
        disk::names(&runs, each).at("list records", &runs)?;
        let mut rebuilt = Rebuilt::default();
        for bucket in buckets {
            self.rebuild_bucket(&bucket, &mut rebuilt)?;
        }
        Ok(rebuilt)
    }

    /// After a power failure there may be some of runs that were deleted.
    fn remove_spares(&self) -> Result<()> {
        for (spare, lock) in self.layout.spares() {
            if spare.symlink_metadata().is_ok() {
                let _lock = self.lock_file("lock a record", &lock)?;
                let _ = fs::remove_file(spare);
            }
        }
        Ok(())
    }

    fn rebuild_bucket(&self, bucket: &Path, rebuilt: &mut Rebuilt) -> Result<()> {
        let mut records: Vec<RunId> = Vec::new();
        disk::names(bucket, |name| {
            if let Some((id, Name::Record)) = parse_name(name) {
                records.push(id);
            }
        })
        .at("list records", bucket)?;
        records.sort_unstable();
        rebuilt.records += records.len();
        for &id in &records {
            let lock = self.lock(id)?;
            match self.heal(&lock, id) {
                Ok(added) => rebuilt.added += added,
                Err(error) if error.kind() == ErrorKind::CorruptState => {
                    tracing::warn!(%error, "a record is left out of the index");
                    rebuilt.damaged.push(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        let mut orphans = Vec::new();
        disk::names(bucket, |name| match parse_name(name) {
            Some((id, what)) if what != Name::Record && records.binary_search(&id).is_err() => {
                orphans.push((id, bucket.join(name)));
            }
            _ => {}
        })
        .at("list records", bucket)?;
        for (id, orphan) in orphans {
            let _lock = self.lock(id)?;
            let gone = !self.layout.record(id).try_exists().at("look for a record", bucket)?;
            rebuilt.removed += usize::from(gone && disk::remove(&orphan).is_ok());
        }
        Ok(())
    }
}

/// What tells one start of the machine from another, where the system has such a thing.
fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = text.trim();
    let is_name = !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    is_name.then(|| id.to_owned())
}

/// A number that no other process comes up with.
pub(super) fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(ErrorKind::StorageError, format!("the system gives no randomness: {error}"))
    })?;
    Ok(u64::from_ne_bytes(bytes))
}
