//! Locks held by the kernel: gone with their process, so that none is ever stale.

use std::{
    error::Error as _,
    fs::{File, TryLockError},
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::disk::{Mode, is_still_there};
use crate::Error;

/// The shortest and the longest pause between two tries: about as long as a thread takes to wake,
/// and shorter than most disks take to write.
const PAUSES: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(2)];

/// Proof that nobody else, here or in another process, writes the records of a shard.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock, for about that long at the most; none if somebody still has it.
    ///
    /// It tries again and again, since the kernel's own wait has no end: who has the lock may be
    /// stopped in the middle of a write, or wait for a disk that does not answer.
    pub(super) fn wait(path: &Path, mode: Mode, patience: Duration) -> io::Result<Option<Self>> {
        loop {
            let file = mode.open_lock(path)?;
            if !patiently(patience, || file.try_lock())? {
                return Ok(None);
            }
            // A tidy person who deletes lock files must not let two in.
            if is_still_there(&file, path)? {
                return Ok(Some(Self { _file: file }));
            }
        }
    }
}

/// Tries for a lock until it is there, for about that long at the most; gives whether it is.
pub(super) fn patiently(
    patience: Duration,
    try_lock: impl Fn() -> Result<(), TryLockError>,
) -> io::Result<bool> {
    let began = Instant::now();
    let [shortest, longest] = PAUSES;
    loop {
        match try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if began.elapsed() >= patience => return Ok(false),
            // So that no wait is much longer than it must be.
            Err(TryLockError::WouldBlock) => {
                thread::sleep((began.elapsed() / 4).clamp(shortest, longest));
            }
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Whether an error is that of [`kept`].
pub(super) fn is_kept(error: &Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() == io::ErrorKind::TimedOut)
}

/// Says that somebody has kept a lock for that long.
pub(super) fn kept(patience: Duration) -> io::Error {
    let waited = format!(
        "somebody has kept the lock of this file for {patience:?} (`lslocks` shows which process)"
    );
    io::Error::new(io::ErrorKind::TimedOut, waited)
}
