//! The floors: durable insert; read; durable update; durable update, through the same driver, with
//! the same number of fsyncs and nothing else.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rusqlite::{Connection, params};

use crate::Result;

/// A record's life with nothing around it.
pub(crate) trait Floor: Sync {
    /// Writes a new record of that number, reads it, and writes it two times more.
    fn cycle(&self, number: usize, body: &[u8]) -> Result<()>;
}

/// As many other bytes: a database leaves out a write that changes nothing.
pub(crate) fn changed(body: &[u8]) -> Vec<u8> {
    body.iter().map(|byte| !byte).collect()
}

/// A map behind a mutex.
#[derive(Debug, Default)]
pub(crate) struct MemoryFloor(Mutex<HashMap<usize, Vec<u8>>>);

impl MemoryFloor {
    fn write(&self, number: usize, body: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number, body.to_vec());
    }
}

impl Floor for MemoryFloor {
    fn cycle(&self, number: usize, body: &[u8]) -> Result<()> {
        self.write(number, body);
        let read = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned();
        self.write(number, &changed(&read.ok_or("not there")?));
        self.write(number, body);
        Ok(())
    }
}

/// Files: written beside, synced, renamed, and their folder synced.
#[derive(Debug)]
pub(crate) struct FileFloor {
    temp: PathBuf,
    records: PathBuf,
}

impl FileFloor {
    pub(crate) fn new(root: &Path) -> Result<Self> {
        let (temp, records) = (root.join("tmp"), root.join("records"));
        DirBuilder::new().recursive(true).create(&temp)?;
        DirBuilder::new().recursive(true).create(&records)?;
        Ok(Self { temp, records })
    }

    fn write(&self, number: usize, body: &[u8]) -> Result<()> {
        let temp = self.temp.join(number.to_string());
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temp)?;
        file.write_all(body)?;
        file.sync_data()?;
        fs::rename(&temp, self.records.join(number.to_string()))?;
        File::open(&self.records)?.sync_all()?;
        Ok(())
    }
}

impl Floor for FileFloor {
    fn cycle(&self, number: usize, body: &[u8]) -> Result<()> {
        self.write(number, body)?;
        let read = fs::read(self.records.join(number.to_string()))?;
        self.write(number, &changed(&read))?;
        self.write(number, body)
    }
}

/// A table of two columns, on a connection set up as the store's own is.
#[derive(Debug)]
pub(crate) struct SqliteFloor(Mutex<Connection>);

impl SqliteFloor {
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "fullfsync", true)?;
        connection.pragma_update(None, "checkpoint_fullfsync", true)?;
        connection.execute_batch("CREATE TABLE floor (id INTEGER PRIMARY KEY, body BLOB)")?;
        Ok(Self(Mutex::new(connection)))
    }

    /// One call, which is one transaction.
    fn with<T>(&self, call: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        Ok(call(&self.0.lock().unwrap_or_else(PoisonError::into_inner))?)
    }

    fn update(&self, number: usize, body: &[u8]) -> Result<()> {
        const UPDATE: &str = "UPDATE floor SET body = ?2 WHERE id = ?1";
        self.with(|it| it.prepare_cached(UPDATE)?.execute(params![number as i64, body]))?;
        Ok(())
    }
}

impl Floor for SqliteFloor {
    fn cycle(&self, number: usize, body: &[u8]) -> Result<()> {
        const INSERT: &str = "INSERT INTO floor (id, body) VALUES (?1, ?2)";
        const SELECT: &str = "SELECT body FROM floor WHERE id = ?1";
        self.with(|it| it.prepare_cached(INSERT)?.execute(params![number as i64, body]))?;
        let read: Vec<u8> = self
            .with(|it| it.prepare_cached(SELECT)?.query_row([number as i64], |row| row.get(0)))?;
        self.update(number, &changed(&read))?;
        self.update(number, body)
    }
}
