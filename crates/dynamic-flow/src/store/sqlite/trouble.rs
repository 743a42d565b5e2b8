//! What can go wrong with a database file, in this store's own words, and in everybody's.

use std::{fs, io, path::Path, sync::Arc};

use rusqlite::ErrorCode;

use crate::{Error, ErrorKind};

/// What can go wrong; mapped to [`Error`] once, at the edge of the store.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the record is not as expected")]
    Conflict,
    #[error("there is a record of that run")]
    Exists,
    #[error(transparent)]
    Sqlite(Arc<rusqlite::Error>),
    #[error(transparent)]
    Io(Arc<io::Error>),
    #[error("the column {0} does not read back")]
    Damaged(&'static str),
    #[error("the schema is of version {0}")]
    Newer(i64),
    #[error("the file belongs to another program")]
    Foreign,
    #[error("a counter is at its end")]
    Counter,
    #[error("the call was interrupted")]
    Interrupted,
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl Trouble {
    /// Whether the database is as it was, and nothing is wrong with it: a condition did not hold.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Conflict | Self::Exists)
    }

    /// Whether another process holds a lock that it will give back.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            _ => None,
        }
    }

    /// What everybody hears of it.
    pub(super) fn into_error(self, operation: &'static str, path: &Path) -> Error {
        let error = match &self {
            Self::Conflict => {
                return Error::new(ErrorKind::Conflict, "the record is not as expected")
                    .with_operation(operation);
            }
            Self::Exists => {
                return Error::new(ErrorKind::AlreadyExists, "there is a record of that run")
                    .with_operation(operation);
            }
            Self::Sqlite(_) => storage(self.advice(path)).with_source(self.clone()),
            Self::Io(cause) => storage(advice_of_io(cause)).with_source(self.clone()),
            Self::Damaged(column) => Error::new(
                ErrorKind::CorruptState,
                format!("the column {column} of a record does not read back; restore a backup"),
            ),
            Self::Newer(version) => storage(format!(
                "the database has schema {version}, which is newer than this program; update it"
            )),
            Self::Foreign => storage("the file belongs to another program; name another file"),
            Self::Counter => Error::new(
                ErrorKind::LimitExceeded,
                "the revision or epoch of the record has come to its end",
            ),
            Self::Interrupted => {
                storage("the call was interrupted; it may have taken effect").with_retryable()
            }
        };
        let error = if self.is_busy() { error.with_retryable() } else { error };
        error.with_operation(operation).with("path", path.display())
    }

    /// What happened to a database, and what to do.
    fn advice(&self, path: &Path) -> &'static str {
        match self.code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                "the database was locked by others for too long; try again, or look who holds it"
            }
            Some(ErrorCode::DiskFull) => FULL,
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) if is_on_read_only(path) => READ_ONLY,
            Some(ErrorCode::ReadOnly) => {
                "the database is read-only; let this user write to the file and its folder"
            }
            Some(ErrorCode::CannotOpen) if path.is_dir() => {
                "the path is a folder; name a file in it"
            }
            Some(ErrorCode::CannotOpen) => {
                "the file can't be opened; check that its folder exists and that this user may use it"
            }
            Some(ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
                "the file may not be used by this user; check its owner and mode"
            }
            Some(ErrorCode::NotADatabase) => {
                "a foreign file: it is no SQLite database; move it away or name another file"
            }
            Some(ErrorCode::DatabaseCorrupt) => {
                "the database is damaged; restore a backup, or try `sqlite3 FILE .recover`"
            }
            Some(ErrorCode::SystemIoFailure) => "the disk failed to read or write the database",
            Some(ErrorCode::TooBig) => "the record is larger than SQLite can hold",
            _ => "the database failed",
        }
    }
}

const FULL: &str =
    "the disk is full; make room and try again: without some, SQLite can't even remove runs";
const READ_ONLY: &str = "the file system is read-only, where this store can't even read: make it \
                         writable, or name another place";

/// Whether the file is there, on a file system on which nothing can be written.
fn is_on_read_only(path: &Path) -> bool {
    let opened = fs::OpenOptions::new().append(true).open(path);
    opened.is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem)
}

fn advice_of_io(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            "the file can't be made; let this user write to its folder"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FULL,
        io::ErrorKind::ReadOnlyFilesystem => READ_ONLY,
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file is where a folder should be; name another place"
        }
        io::ErrorKind::IsADirectory => "the path is a folder; name a file in it",
        _ => "the file can't be made",
    }
}

fn storage(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::StorageError, message)
}
