//! The SQLite store: one file, safe for several processes, every filter with an index.

mod connection;
mod operation;
mod query;
mod rows;
mod trouble;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::{OnceCell, Semaphore};

use self::{
    operation::{Done, Operation},
    trouble::Trouble,
    writer::Writer,
};
use crate::{
    Error, ErrorKind, Result, SystemClock,
    clock::{Clock as _, Timestamp},
    id::{Epoch, Revision, RunId},
    store::{
        Change, Claim, Cursor, Expect, Filter, Health, Page, Record, Store,
        place::{cramped, disk_under},
    },
};

/// How many connections read at once.
const READERS: usize = 4;

/// Keeps runs in an SQLite database, a file that only its owner can read.
///
/// Writes go to one thread, which commits together what waits for it; each is on the disk when it
/// returns (write-ahead log, `synchronous=FULL`). Several processes may share a file: a call waits
/// up to ten seconds for the others. The file must be on a local disk, and be copied with SQLite's
/// own tools while it is in use.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("flows.db");
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use dynamic_flow::store::{SqliteStore, Store};
///
/// let store = SqliteStore::new(path);
/// store.provision().await.unwrap();
/// assert_eq!(store.health().await.unwrap().backend, "sqlite");
/// # });
/// ```
#[derive(Clone)]
pub struct SqliteStore {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    /// There once the file has been opened to write, and with it made and brought up to date.
    writer: OnceCell<Writer>,
    idle_readers: Mutex<Vec<Connection>>,
    reading: Arc<Semaphore>,
}

impl SqliteStore {
    /// A store in that file, which is made, with the folders above it, when it is first used.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let shared = Shared {
            path: path.into(),
            writer: OnceCell::new(),
            idle_readers: Mutex::new(Vec::new()),
            reading: Arc::new(Semaphore::new(READERS)),
        };
        Self { shared: Arc::new(shared) }
    }

    async fn writer(&self) -> Result<&Writer, Trouble> {
        let start = || async {
            let writer = Writer::start(self.shared.path.clone())?;
            writer.perform(Operation::Provision).await?;
            Ok(writer)
        };
        self.shared.writer.get_or_try_init(start).await
    }

    async fn write(&self, name: &'static str, operation: Operation) -> Result<Done> {
        let result = match self.writer().await {
            Ok(writer) => writer.perform(operation).await,
            Err(trouble) => Err(trouble),
        };
        result.map_err(|trouble| trouble.into_error(name, &self.shared.path))
    }

    /// Reads in one transaction: all that it sees is of one moment.
    async fn read<T: Send + 'static>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T> {
        let result = match self.writer().await {
            Ok(_) => self.read_blocking(read).await,
            Err(trouble) => Err(trouble),
        };
        result.map_err(|trouble| trouble.into_error(name, &self.shared.path))
    }

    async fn read_blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Trouble> {
        let permit = self.shared.reading.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Trouble::Interrupted)?;
        let shared = self.shared.clone();
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = shared.lock_idle().pop();
            let mut connection = idle.map_or_else(|| connection::open_to_read(&shared.path), Ok)?;
            let result = {
                let transaction = connection.transaction()?;
                read(&transaction)?
            };
            // One that failed is not kept: it may be of a file that is gone.
            shared.lock_idle().push(connection);
            Ok(result)
        });
        task.await.unwrap_or(Err(Trouble::Interrupted))
    }
}

impl Shared {
    fn lock_idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle_readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn provision(&self) -> Result<()> {
        self.write("provision", Operation::Provision).await.map(drop)
    }

    async fn exists(&self) -> Result<bool> {
        // What can't be looked at is something.
        Ok(self.shared.path.try_exists().unwrap_or(true))
    }

    async fn insert(&self, record: Record) -> Result<()> {
        record.check()?;
        let id = record.id;
        let inserted = self.write("insert", Operation::Insert(Box::new(record))).await;
        inserted.map(drop).map_err(|error| error.with_run(id))
    }

    async fn get(&self, id: RunId) -> Result<Option<Record>> {
        let find = move |connection: &Connection| {
            let header = rows::find(connection, id)?;
            header.map(|header| header.into_record(connection)).transpose()
        };
        self.read("get", find).await.map_err(|error| error.with_run(id))
    }

    async fn update(&self, id: RunId, expect: Expect, change: Change) -> Result<Revision> {
        change.check(id)?;
        match self.write("update", Operation::Update(id, expect, Box::new(change))).await {
            Ok(Done::Revision(revision)) => Ok(revision),
            Ok(_) => Err(Self::confused("update")),
            Err(error) => Err(error.with_run(id)),
        }
    }

    async fn delete(&self, id: RunId, expect: Expect) -> Result<()> {
        let deleted = self.write("delete", Operation::Delete(id, expect)).await;
        deleted.map(drop).map_err(|error| error.with_run(id))
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Record>> {
        claim.check()?;
        match self.write("claim", Operation::Claim(claim)).await? {
            Done::Records(records) => Ok(records),
            _ => Err(Self::confused("claim")),
        }
    }

    async fn renew(&self, id: RunId, epoch: Epoch, until: Timestamp) -> Result<()> {
        let renewed = self.write("renew", Operation::Renew(id, epoch, until)).await;
        renewed.map(drop).map_err(|error| error.with_run(id))
    }

    async fn query(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page> {
        filter.check(limit)?;
        let filter = filter.clone();
        self.read("query", move |connection| query::query(connection, &filter, after, limit)).await
    }

    async fn health(&self) -> Result<Health> {
        if !self.exists().await? {
            let message = "there is no file yet; building a hub makes it, or `provision`";
            let error = Error::new(ErrorKind::StorageError, message).with_operation("health");
            return Err(error.with("path", self.shared.path.display()));
        }
        let began = Instant::now();
        let Done::Health(journal, synchronous, written) =
            self.write("health", Operation::Health).await?
        else {
            return Err(Self::confused("health"));
        };
        let latency = began.elapsed();
        let is_synced = synchronous >= 2 && !matches!(&*journal, "memory" | "off");
        let (survives, warning) = disk_under(&self.shared.path);
        let mut warnings = Vec::new();
        if journal != "wal" {
            warnings.push(format!(
                "The journal mode is {journal}, not wal: readers and writers block each other."
            ));
        }
        if !is_synced {
            warnings.push("What is acknowledged may be lost in a power failure.".into());
        }
        warnings.extend(warning);
        warnings.extend(exposed(&self.shared.path));
        let probe = beside(&self.shared.path)?;
        let cramped = tokio::task::spawn_blocking(move || cramped(&probe));
        let problem = match written.map_err(|it| it.into_error("health", &self.shared.path)) {
            Ok(()) => cramped.await.ok().flatten(),
            Err(error) => Some(format!("Nothing can be written there: {error}.")),
        };
        Ok(Health {
            backend: "sqlite".into(),
            location: self.shared.path.display().to_string(),
            latency,
            durable: is_synced && survives,
            warnings,
            problem,
        })
    }
}

impl SqliteStore {
    fn confused(operation: &'static str) -> Error {
        Error::new(ErrorKind::StorageError, "the writer gave the result of another call")
            .with_operation(operation)
    }
}

/// A name beside the file that nothing has yet. SQLite takes what is free in its files first, and so
/// can't tell before it is too late whether the disk has room.
fn beside(path: &Path) -> Result<PathBuf> {
    let random = RunId::new(SystemClock.now())?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!("-probe-{random}"));
    Ok(beside.into())
}

/// Says whether others than its owner may read the file.
#[cfg(unix)]
fn exposed(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o077 != 0)
        .then(|| format!("Others may read {0}; run `chmod 600 {0}`.", path.display()))
}

#[cfg(not(unix))]
fn exposed(_: &Path) -> Option<String> {
    None
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteStore").field(&self.shared.path).finish()
    }
}
