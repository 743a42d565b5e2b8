//! Locks held by the kernel: gone with their process, so that none is ever stale.

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::disk::{Mode, is_still_there};

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
        let began = Instant::now();
        let [shortest, longest] = PAUSES;
        let mut file = mode.open_lock(path)?;
        loop {
            match file.try_lock() {
                // A tidy person who deletes lock files must not let two in.
                Ok(()) if is_still_there(&file, path)? => return Ok(Some(Self { _file: file })),
                Ok(()) => file = mode.open_lock(path)?,
                Err(TryLockError::WouldBlock) if began.elapsed() >= patience => return Ok(None),
                Err(TryLockError::WouldBlock) => {
                    // So that no wait is much longer than it must be.
                    thread::sleep((began.elapsed() / 4).clamp(shortest, longest));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}
