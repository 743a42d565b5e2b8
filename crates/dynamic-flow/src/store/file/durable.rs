//! What is told of a record survives a power failure, also if it was written by who died over it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{
    disk::{self, At as _},
    exchange::is_left_behind,
    folder::Folder,
    layout::RECORD,
    lock::Lock,
};
use crate::{Result, id::RunId};

impl Folder {
    /// Makes the names in a record's folder durable. Where that fails, what is there now must not be
    /// told before it was made up for.
    pub(super) fn sync_bucket(&self, id: RunId) -> Result<()> {
        let bucket = self.layout.bucket(id);
        let synced = disk::sync_dir(&bucket).at("sync a folder", &bucket);
        if synced.is_err() {
            self.with_unsynced(|unsynced| unsynced.insert(bucket));
        }
        synced
    }

    /// Makes up for a sync that failed, or that whoever wrote the record did not live to make: what
    /// it was is still under its temporary name then.
    pub(super) fn make_up_for(&self, id: RunId) -> Result<()> {
        let bucket = self.layout.bucket(id);
        let is_owed = self.with_unsynced(|unsynced| unsynced.contains(&bucket))
            || is_left_behind(&self.layout.temp(id, RECORD));
        if is_owed && sync_if_there(&bucket)? {
            self.with_unsynced(|unsynced| unsynced.remove(&bucket));
        }
        Ok(())
    }

    /// The same, for who holds the lock, so that it need not be made up for again.
    pub(super) fn settle(&self, _lock: &Lock, id: RunId) -> Result<()> {
        self.make_up_for(id)?;
        let _ = fs::remove_file(self.layout.temp(id, RECORD));
        Ok(())
    }

    fn with_unsynced<T>(&self, f: impl FnOnce(&mut BTreeSet<PathBuf>) -> T) -> T {
        f(&mut self.unsynced.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// In a folder that is gone, for there was nothing in it, no name has to become durable.
fn sync_if_there(bucket: &Path) -> Result<bool> {
    match disk::sync_dir(bucket) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        synced => synced.map(|()| true).at("sync a folder", bucket),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        id::Revision,
        store::{
            Change, Expect, Record,
            file::folder::tests::{folder_in, record},
        },
    };

    fn folder() -> (tempfile::TempDir, Folder) {
        let root = tempfile::tempdir().unwrap();
        let folder = folder_in(&root);
        folder.provision().unwrap();
        (root, folder)
    }

    fn update(folder: &Folder) -> Result<Revision> {
        folder.update(record().id, Expect::Any, Change::at(Timestamp::from_millis(0)))
    }

    fn synced() -> usize {
        disk::take_notes().iter().filter(|(what, _)| *what == "sync").count()
    }

    /// A record of which a writer died between its exchange and its sync.
    fn left_behind(large: bool) -> (tempfile::TempDir, Folder) {
        let (root, folder) = folder();
        let mut record = record();
        record.snapshot.0 = vec![7; if large { 100_000 } else { 100 }];
        folder.insert(&record).unwrap();
        disk::fail_next_sync_of(&folder.layout.bucket(record.id));
        update(&folder).unwrap_err();
        disk::take_notes();
        let other = folder_in(&root);
        (root, other)
    }

    #[test]
    fn what_a_writer_left_that_died_is_told_only_when_it_is_durable() {
        for large in [false, true] {
            let (_root, folder) = left_behind(large);
            assert_eq!(folder.get(record().id).unwrap().unwrap().revision, Revision(2));
            assert_eq!(synced(), 1);
            // The writer that comes next needs the revision, and makes up for it for good.
            assert_eq!(update(&folder).unwrap(), Revision(3));
            assert_eq!(synced(), 3, "once for who died, twice for itself");
            assert_eq!(folder.get(record().id).unwrap().unwrap().revision, Revision(3));
            assert_eq!(synced(), 0);
        }
    }

    #[test]
    fn what_a_writer_left_that_died_is_not_tidied_away_before_it_is_durable() {
        let (_root, folder) = left_behind(false);
        folder.provision().unwrap();
        let bucket = folder.layout.bucket(record().id);
        assert!(disk::take_notes().contains(&("sync", bucket)));
        assert!(!folder.layout.temp(record().id, RECORD).exists());
    }

    #[test]
    fn that_there_is_a_record_is_told_only_when_it_is_durable() {
        let (_root, folder) = folder();
        folder.insert(&record()).unwrap();
        disk::take_notes();
        let again = folder.insert(&record()).unwrap_err();
        assert_eq!(again.kind(), crate::ErrorKind::AlreadyExists);
        assert_eq!(synced(), 1);
    }

    #[test]
    fn nobody_is_told_of_a_write_before_the_sync_of_its_folder() {
        let (_root, folder) = folder();
        let path = folder.layout.record(record().id);
        let is_held = |path: &Path| {
            let file = fs::File::open(path).unwrap();
            matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
        };
        let bucket = folder.layout.bucket(record().id);
        let write = |write: &dyn Fn()| {
            let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
            let (noted, path) = (seen.clone(), path.clone());
            disk::before_each_sync_of(&bucket, move || noted.borrow_mut().push(is_held(&path)));
            write();
            seen.take()
        };
        let insert = |record: Record| folder.insert(&record).unwrap();
        assert_eq!(write(&|| insert(record())), [true], "a new record");
        for round in ["a second file", "the first again"] {
            let held = write(&|| assert!(update(&folder).is_ok()));
            assert_eq!(held, [true], "{round}");
        }
        let large = Change {
            snapshot: Some(crate::codec::Sealed(vec![7; 100_000])),
            ..Change::at(Timestamp::from_millis(0))
        };
        folder.update(record().id, Expect::Any, large).unwrap();
        assert_eq!(write(&|| assert!(update(&folder).is_ok())), [true], "a large one");
        assert!(!is_held(&path), "it can be read when it was written");
    }
}
