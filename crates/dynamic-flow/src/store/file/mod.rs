//! The filesystem store: a folder of JSON files, safe for many processes at once.

mod claim;
mod disk;
mod durable;
mod exchange;
mod folder;
mod form;
mod health;
mod layout;
mod lock;
mod provision;
mod query;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use self::{disk::Mode, folder::Folder};
use super::{Change, Claim, Cursor, DEFAULT_STORE, Expect, Filter, Health, Page, Record, Store};
use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    id::{Epoch, Revision, RunId},
};

/// Keeps runs as JSON files in a folder: one file a run, readable by people, sealed parts in base64.
///
/// Any number of processes and tasks may use a folder at once. Files can be read by their owner
/// only (0600, folders 0700). A write is on the disk when it returns; locks are held by the kernel
/// and gone with their process, so that a crash blocks nobody. The folder is best on a local disk:
/// [`Store::health`] says what it is on.
///
/// Copy it while nobody writes, or by a snapshot of the file system: files are written over when
/// nobody of ours reads them. In `locks/*.spare` are records as they were before their last write, at
/// most one for each of 64 locks, until the next write or a deletion there; [`FileStore::rebuild`]
/// removes them.
///
/// Neither a claim nor a page of a query reads records that do not concern it: an index of file
/// names tells them apart. Filters on metadata read the records that the other criteria leave.
///
/// ```
/// use dynamic_flow::store::{FileStore, Store};
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// let store = FileStore::new(folder.path().join("flows"));
/// store.provision().await?;
/// assert_eq!(store.health().await?.backend, "file");
/// # Ok::<(), dynamic_flow::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct FileStore {
    folder: Arc<Folder>,
    readers: Arc<Semaphore>,
    writers: Arc<Semaphore>,
}

/// What [`FileStore::rebuild`] found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Rebuilt {
    /// How many records there are.
    pub records: usize,
    /// How many files of the index were missing and were made.
    pub added: usize,
    /// How many files belonged to no record and were removed.
    pub removed: usize,
    /// Which records can't be read, each an error that names the file and what to do.
    pub damaged: Vec<String>,
}

impl FileStore {
    /// The folder that is used where nobody names another.
    pub const DEFAULT: &str = DEFAULT_STORE.split_at("file:".len()).1;

    /// The default of [`FileStore::lock_timeout`]: 30 seconds.
    pub const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

    /// How many calls of a kind are at work at once; it bounds threads and open files.
    const AT_ONCE: usize = 64;

    /// A store in that folder, which [`Store::provision`] makes if it is missing.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with(path.into(), Mode::PRIVATE, Self::DEFAULT_LOCK_TIMEOUT)
    }

    fn with(path: PathBuf, mode: Mode, patience: Duration) -> Self {
        Self {
            folder: Arc::new(Folder::new(path, mode, patience)),
            readers: Arc::new(Semaphore::new(Self::AT_ONCE)),
            writers: Arc::new(Semaphore::new(Self::AT_ONCE)),
        }
    }

    /// Sets who may read and write the files, as Unix permission bits: 0o600 unless set, 0o660 to
    /// share the store with a group. Folders may be entered by those who may read. Has no effect
    /// on files that exist, nor on other systems than Unix.
    #[must_use]
    pub fn permissions(self, mode: u32) -> Self {
        Self::with(self.folder.layout.root().to_owned(), Mode(mode), self.folder.patience)
    }

    /// Sets how long a call waits while somebody else writes a record of the same shard: 30 seconds
    /// unless set. Then it ends with a `StorageError` that is worth a retry and names the lock's
    /// file; nothing was written. A process that is stopped in the middle of a write keeps its lock.
    /// Claims wait for a second in all, and a hub makes its call several times.
    #[must_use]
    pub fn lock_timeout(self, timeout: Duration) -> Self {
        Self::with(self.folder.layout.root().to_owned(), self.folder.mode, timeout)
    }

    /// Makes what is missing of the index, from the records; safe while others work.
    ///
    /// Nobody has to call it: the index is rebuilt when the store is provisioned after a start of
    /// the machine, or after another machine had the folder. It reads every record.
    ///
    /// # Errors
    /// `StorageError` if the folder can't be read or written. Damaged records are listed instead.
    pub async fn rebuild(&self) -> Result<Rebuilt> {
        self.work("rebuild", &self.writers, Folder::rebuild).await
    }

    /// Does something that blocks, on a thread for that: once begun it ends, whoever waits for it.
    async fn work<T: Send + 'static>(
        &self,
        operation: &'static str,
        permits: &Arc<Semaphore>,
        work: impl FnOnce(&Folder) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let interrupted = |why: &dyn std::fmt::Display| {
            let message = format!("the call was interrupted: {why}; it may have taken effect");
            Error::new(ErrorKind::StorageError, message).with_operation(operation)
        };
        let permit =
            permits.clone().acquire_owned().await.map_err(|closed| interrupted(&closed))?;
        let folder = Arc::clone(&self.folder);
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&folder)
        });
        let result = task.await.map_err(|error| interrupted(&error))?;
        result.map_err(|error| error.with_operation(operation))
    }
}

#[async_trait]
impl Store for FileStore {
    async fn provision(&self) -> Result<()> {
        self.work("provision", &self.writers, Folder::provision).await
    }

    async fn exists(&self) -> Result<bool> {
        self.work("exists", &self.readers, |folder| Ok(folder.exists())).await
    }

    async fn insert(&self, record: Record) -> Result<()> {
        record.check()?;
        self.work("insert", &self.writers, move |folder| folder.insert(&record)).await
    }

    async fn get(&self, id: RunId) -> Result<Option<Record>> {
        self.work("get", &self.readers, move |folder| folder.get(id)).await
    }

    async fn update(&self, id: RunId, expect: Expect, change: Change) -> Result<Revision> {
        change.check(id)?;
        self.work("update", &self.writers, move |folder| folder.update(id, expect, change)).await
    }

    async fn delete(&self, id: RunId, expect: Expect) -> Result<()> {
        self.work("delete", &self.writers, move |folder| folder.delete(id, expect)).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Record>> {
        claim.check()?;
        self.work("claim", &self.writers, move |folder| folder.claim(&claim)).await
    }

    async fn renew(&self, id: RunId, epoch: Epoch, until: Timestamp) -> Result<()> {
        self.work("renew", &self.writers, move |folder| folder.renew(id, epoch, until)).await
    }

    async fn query(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page> {
        filter.check(limit)?;
        let filter = filter.clone();
        self.work("query", &self.readers, move |folder| folder.query(&filter, after, limit)).await
    }

    async fn health(&self) -> Result<Health> {
        self.work("health", &self.readers, Folder::health).await
    }
}
