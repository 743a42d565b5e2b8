//! Two files for a record, which take turns: what it is, and a spare one to write what it will be.

#[cfg(unix)]
use std::{
    fs::OpenOptions,
    io::{ErrorKind as Io, Read as _},
};
use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

#[cfg(unix)]
use super::disk::is_still_there;
#[cfg(not(unix))]
use super::disk::read;
use super::disk::{Mode, Sync, journal, open};
#[cfg(unix)]
use super::lock::{kept, patiently};

impl Mode {
    /// Replaces a file that is there, as a whole: the new contents are written over what is in
    /// `spare`, under the name `temp`, and change names with it. What the file was is left in `temp`,
    /// and may become the spare one when the folder is synced: until then it may be all that a power
    /// failure leaves. The new file comes back locked: who lets it go lets others read it.
    ///
    /// A new file has a place to be found on the disk and recorded, and the old one is to be removed:
    /// that takes longer than all the rest.
    ///
    /// Who may read at the same time must do it by [`read_settled`], and nobody else may write.
    pub(super) fn exchange(
        self,
        path: &Path,
        temp: &Path,
        spare: &Path,
        bytes: &[u8],
    ) -> io::Result<File> {
        let taken = fs::rename(spare, temp).is_ok();
        let written = self.write_over(temp, taken, bytes);
        let exchanged = written.and_then(|locked| change_names(temp, path).map(|()| locked));
        if exchanged.is_err() {
            let _ = fs::remove_file(temp);
        }
        journal::note("exchange", path);
        exchanged
    }

    /// Gives the file, locked.
    fn write_over(self, path: &Path, is_there: bool, bytes: &[u8]) -> io::Result<File> {
        let Some(mut file) = Some(path).filter(|_| is_there).and_then(|it| self.open_spare(it))
        else {
            return self.write_new(path, bytes, Sync::Contents);
        };
        file.write_all(bytes)?;
        file.set_len(bytes.len() as u64)?;
        journal::note("sync", path);
        file.sync_data()?;
        Ok(file)
    }

    /// Opens a spare file, unless it is none that may be written over: somebody may still read what
    /// it was.
    #[cfg(unix)]
    fn open_spare(self, path: &Path) -> Option<File> {
        use rustix::fs::OFlags;
        use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path).ok()?;
        file.try_lock().ok()?;
        let is = file.metadata().ok()?;
        // One of somebody else's would let them read what is written into it.
        let is_ours = is.is_file()
            && is.nlink() == 1
            && is.mode() & 0o777 == self.0
            && is.uid() == rustix::process::geteuid().as_raw();
        is_ours.then_some(file)
    }

    /// Elsewhere two files can't change names.
    #[cfg(not(unix))]
    fn open_spare(self, _: &Path) -> Option<File> {
        None
    }
}

/// Whether a write by way of `temp` was begun and not ended: who writes holds it locked, until it
/// has another name.
pub(super) fn is_left_behind(temp: &Path) -> bool {
    open(temp).is_ok_and(|file| !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Has two files change names; where that can't be done at once, the second gets that of the first.
fn change_names(temp: &Path, path: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        if renameat_with(CWD, temp, CWD, path, RenameFlags::EXCHANGE).is_ok() {
            return Ok(());
        }
    }
    fs::rename(temp, path)
}

/// Elsewhere two files can't change names.
#[cfg(not(unix))]
pub(super) fn read_settled(path: &Path, _: Duration) -> io::Result<Option<Vec<u8>>> {
    read(path)
}

/// Reads a file that may be missing, and that others replace by [`Mode::exchange`]; waits for them
/// for about that long at the most.
#[cfg(unix)]
pub(super) fn read_settled(path: &Path, patience: Duration) -> io::Result<Option<Vec<u8>>> {
    loop {
        let mut file = match open(path) {
            Err(error) if error.kind() == Io::NotFound => return Ok(None),
            opened => opened?,
        };
        // From here on nobody writes over it. But was that so when it was opened?
        if !patiently(patience, || file.try_lock_shared())? {
            return Err(kept(patience));
        }
        if is_still_there(&file, path)? {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            return Ok(Some(bytes));
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A file and its spare one, with what was written into each.
    struct Pair {
        _folder: tempfile::TempDir,
        path: std::path::PathBuf,
        spare: std::path::PathBuf,
    }

    impl Pair {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let [path, spare] = ["file", "spare"].map(|name| folder.path().join(name));
            let pair = Self { _folder: folder, path, spare };
            Mode::PRIVATE.replace(&pair.path, &pair.spare, b"first", Sync::Contents).unwrap();
            pair
        }

        fn write(&self, text: &str) {
            let temp = self.path.with_extension("temp");
            Mode::PRIVATE.exchange(&self.path, &temp, &self.spare, text.as_bytes()).unwrap();
            let _ = fs::rename(&temp, &self.spare);
            assert_eq!(read_settled(&self.path, PATIENCE).unwrap().unwrap(), text.as_bytes());
        }
    }

    fn inode(path: &Path) -> u64 {
        std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap())
    }

    #[test]
    fn two_files_take_turns_and_no_third_is_made() {
        let pair = Pair::new();
        pair.write("second, which is longer");
        assert_eq!(fs::read(&pair.spare).unwrap(), b"first");
        let files = [inode(&pair.path), inode(&pair.spare)];
        for text in ["3rd", "the fourth", ""] {
            pair.write(text);
        }
        assert_eq!([inode(&pair.spare), inode(&pair.path)], files);
    }

    #[test]
    fn what_somebody_still_reads_is_not_written_over() {
        let pair = Pair::new();
        let mut reader = File::open(&pair.path).unwrap();
        reader.lock_shared().unwrap();
        for text in ["second", "third", "fourth"] {
            pair.write(text);
        }
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "first");
    }

    #[test]
    fn who_opened_what_is_being_written_over_reads_what_took_its_place() {
        let pair = Pair::new();
        let writer = File::open(&pair.path).unwrap();
        writer.lock().unwrap();
        let path = pair.path.clone();
        let reader = std::thread::spawn(move || read_settled(&path, PATIENCE).unwrap().unwrap());
        let opened = || {
            let files = fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
            files
                .filter_map(|it| fs::read_link(it.path()).ok())
                .filter(|it| *it == pair.path)
                .count()
        };
        while opened() < 2 {
            assert!(!reader.is_finished(), "it did not wait");
            std::thread::yield_now();
        }
        fs::write(&pair.spare, "second").unwrap();
        fs::rename(&pair.spare, &pair.path).unwrap();
        drop(writer);
        assert_eq!(reader.join().unwrap(), b"second");
    }

    #[test]
    fn a_file_that_somebody_keeps_locked_is_not_waited_for_without_an_end() {
        let pair = Pair::new();
        let other = File::open(&pair.path).unwrap();
        other.lock().unwrap();
        let error = read_settled(&pair.path, Duration::from_millis(5)).unwrap_err();
        assert_eq!(error.kind(), Io::TimedOut);
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let pair = Pair::new();
        fs::rename(&pair.path, &pair.spare).unwrap();
        let pipe = || rustix::fs::mkfifoat(rustix::fs::CWD, &pair.path, 0o600.into());
        let link = || std::os::unix::fs::symlink(&pair.spare, &pair.path);
        for plant in [&|| pipe().map_err(io::Error::from), &link as &dyn Fn() -> io::Result<()>] {
            plant().unwrap();
            let error = read_settled(&pair.path, PATIENCE).unwrap_err();
            assert_eq!(error.kind(), Io::InvalidData);
            assert_eq!(super::super::disk::read(&pair.path).unwrap_err().kind(), Io::InvalidData);
            assert!(!is_left_behind(&pair.path));
            fs::remove_file(&pair.path).unwrap();
        }
    }

    #[test]
    fn only_a_file_of_ones_own_is_written_over() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let elsewhere = tempfile::tempdir().unwrap();
        let precious = elsewhere.path().join("precious");
        let plant = |pair: &Pair, how: usize| match how {
            0 => symlink(&precious, &pair.spare),
            1 => fs::hard_link(&precious, &pair.spare),
            2 => fs::write(&pair.spare, "?")
                .and_then(|()| fs::set_permissions(&pair.spare, PermissionsExt::from_mode(0o644))),
            3 => symlink("/nowhere", &pair.spare),
            _ => rustix::fs::mkfifoat(rustix::fs::CWD, &pair.spare, 0o600.into())
                .map_err(io::Error::from),
        };
        for how in 0..5 {
            let pair = Pair::new();
            fs::write(&precious, "precious").unwrap();
            plant(&pair, how).unwrap();
            pair.write("second");
            pair.write("third");
            assert_eq!(fs::read_to_string(&precious).unwrap(), "precious", "{how}");
            for path in [&pair.path, &pair.spare] {
                assert_eq!(path.symlink_metadata().unwrap().permissions().mode(), 0o100_600);
            }
        }
    }
}
