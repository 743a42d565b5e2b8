//! Opening the database file: private, durable, of our schema.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::trouble::Trouble;

/// How long to wait for other processes before a call fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// `DFlw`: marks the file as ours in its header, where `file` and SQLite's own tools show it.
const APPLICATION_ID: i32 = 0x4446_6c77;

/// What leads from each version of the schema to the next; a new file goes through all of them.
const MIGRATIONS: &[&str] = &[include_str!("schema_1.sql")];

/// Opens the file to read from it; it must have been opened to write before.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, Trouble> {
    let mut connection = open(path)?;
    be_patient(&mut connection)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Opens the file to write to it, and makes it, its folder and its tables if they are missing.
pub(super) fn open_to_write(path: &Path) -> Result<Connection, Trouble> {
    create_private(path)?;
    // SQLite waits for no lock while it changes the journal mode or recovers from a crash.
    let began = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match prepare(path) {
            Err(trouble) if trouble.is_busy() && began.elapsed() < PATIENCE => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            result => return result,
        }
    }
}

fn prepare(path: &Path) -> Result<Connection, Trouble> {
    let mut connection = open(path)?;
    be_patient(&mut connection)?;
    let current = (APPLICATION_ID, MIGRATIONS.len() as i64);
    // Nothing is changed in a file before it is known to be ours or empty. All is read at once:
    // somebody else may be making the tables at this moment.
    let at_once = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let found = identity(&at_once)?;
    refuse_foreign(&at_once, found)?;
    at_once.finish()?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    if found != current {
        migrate(&mut connection)?;
    }
    Ok(connection)
}

fn open(path: &Path) -> Result<Connection, Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // To SQLite `:memory:` and what begins with `file:` are no paths, whatever the flags are.
    let connection = Connection::open_with_flags(Path::new(".").join(path), flags)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// Waits for locks of other processes: short pauses, so that no waiting is longer than need be.
fn be_patient(connection: &mut Connection) -> Result<(), Trouble> {
    let mut began = Instant::now();
    connection.busy_handler(Some(move |attempts: i32| {
        if attempts == 0 {
            began = Instant::now();
        }
        let millis = [1, 1, 2, 2, 3, 5][usize::try_from(attempts).unwrap_or(0).min(5)];
        std::thread::sleep(Duration::from_millis(millis));
        began.elapsed() < PATIENCE
    }))?;
    Ok(())
}

/// Whose file it is, and of which version of the schema.
fn identity(connection: &Connection) -> Result<(i32, i64), Trouble> {
    let application = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((application, version))
}

fn refuse_foreign(connection: &Connection, found: (i32, i64)) -> Result<(), Trouble> {
    match found {
        (APPLICATION_ID, version) if version > MIGRATIONS.len() as i64 => {
            Err(Trouble::Newer(version))
        }
        (APPLICATION_ID, _) => Ok(()),
        (0, 0) => {
            let tables: i64 =
                connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            if tables == 0 { Ok(()) } else { Err(Trouble::Foreign) }
        }
        _ => Err(Trouble::Foreign),
    }
}

fn migrate(connection: &mut Connection) -> Result<(), Trouble> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Somebody else may have done it while this one waited for the lock.
    let found = identity(&transaction)?;
    refuse_foreign(&transaction, found)?;
    let done = usize::try_from(found.1).unwrap_or(0);
    for migration in &MIGRATIONS[done..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    transaction.commit()?;
    Ok(())
}

/// Makes the file, empty, readable by its owner only, if it is missing; SQLite gives the same mode
/// to the files beside it.
fn create_private(path: &Path) -> Result<(), Trouble> {
    let folder = parent(path);
    create_folder(folder)?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => sync_folder(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes a folder and those around it, where they are missing, each of them durably.
fn create_folder(folder: &Path) -> Result<(), Trouble> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let around = parent(folder);
    let created = match builder.create(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && around != folder => {
            create_folder(around)?;
            builder.create(folder)
        }
        created => created,
    };
    match created {
        Ok(()) => sync_folder(around),
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The folder that something is in, also where the path has one part only.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Makes the name of a new file survive a power failure, where folders can be synced.
fn sync_folder(folder: &Path) -> Result<(), Trouble> {
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}
