//! Locks held by the kernel: gone with their process, so that none is ever stale.

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
};

use super::disk::{Mode, is_still_there};

/// Proof that nobody else, here or in another process, writes the records of a shard.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock.
    pub(super) fn wait(path: &Path, mode: Mode) -> io::Result<Self> {
        loop {
            let file = mode.open_lock(path)?;
            match file.lock() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                locked => locked?,
            }
            // A tidy person who deletes lock files must not let two in.
            if is_still_there(&file, path)? {
                return Ok(Self { _file: file });
            }
        }
    }

    /// Takes the lock unless somebody has it.
    pub(super) fn attempt(path: &Path, mode: Mode) -> io::Result<Option<Self>> {
        loop {
            let file = mode.open_lock(path)?;
            match file.try_lock() {
                Ok(()) if is_still_there(&file, path)? => return Ok(Some(Self { _file: file })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}
