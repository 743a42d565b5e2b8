//! A small file system of one test's own, for what a full disk does.

use std::{path::Path, process::Command};

use anyhow::Result;
use tempfile::TempDir;

use crate::server::{UNPRIVILEGED, run};

/// A file system with room for little, which ends with the test. It belongs to whom servers run as.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts one of so many KiB.
    ///
    /// # Errors
    /// Where there is no right to mount.
    pub fn mount(kibibytes: u32) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let options = format!("size={kibibytes}k,uid={UNPRIVILEGED},gid={UNPRIVILEGED},mode=0700");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder.path()))?;
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Makes room, so many KiB in all.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn grow(&self, kibibytes: u32) -> Result<()> {
        self.remount(&format!("size={kibibytes}k"))
    }

    /// Lets nobody write any more.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn make_read_only(&self) -> Result<()> {
        self.remount("ro")
    }

    fn remount(&self, option: &str) -> Result<()> {
        let option = format!("remount,{option}");
        run(Command::new("mount").args(["-o", &option]).arg(self.path())).map(drop)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Also while a server still uses it.
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}
