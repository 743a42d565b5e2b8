//! The few things that are done with files, and what their failures mean.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind as Io, Read as _, Write as _},
    path::Path,
};

use crate::{Error, ErrorKind, Result};

/// Who may read and write what the store makes, as Unix permission bits; ignored elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mode(pub(super) u32);

impl Mode {
    /// Nobody but the owner.
    pub(super) const PRIVATE: Self = Self(0o600);

    /// Who may read a file may enter its folder.
    pub(super) fn of_folders(self) -> u32 {
        self.0 | (self.0 & 0o444) >> 2
    }

    fn new_file(self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, self.0);
        options
    }

    /// Undoes what the process's umask took away, where more than the owner was asked for.
    fn widen(self, path: &Path, bits: u32) -> io::Result<()> {
        #[cfg(unix)]
        if self.0 != Self::PRIVATE.0 {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(bits);
            return fs::set_permissions(path, permissions);
        }
        let _ = (path, bits);
        Ok(())
    }

    /// Makes a file that is not there yet; never follows a link that somebody planted.
    pub(super) fn create_new(self, path: &Path) -> io::Result<File> {
        let file = self.new_file().open(path)?;
        self.widen(path, self.0)?;
        Ok(file)
    }

    /// Opens a file to lock it, and makes it if it is missing.
    pub(super) fn open_lock(self, path: &Path) -> io::Result<File> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == Io::NotFound => match self.create_new(path) {
                Err(error) if error.kind() == Io::AlreadyExists => {
                    OpenOptions::new().read(true).write(true).open(path)
                }
                made => made,
            },
            opened => opened,
        }
    }

    /// Makes a folder; tells whether it was missing.
    pub(super) fn create_dir(self, path: &Path) -> io::Result<bool> {
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, self.of_folders());
        match builder.create(path) {
            Ok(()) => self.widen(path, self.of_folders()).map(|()| true),
            Err(error) if error.kind() == Io::AlreadyExists && path.is_dir() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a folder and those around it, each of them durably.
    pub(super) fn create_dir_durably(self, path: &Path) -> io::Result<()> {
        let parent = parent(path);
        match self.create_dir(path) {
            Err(error) if error.kind() == Io::NotFound && parent != path => {
                self.create_dir_durably(parent)?;
                self.create_dir(path)?;
            }
            Err(error) => return Err(error),
            Ok(false) => return Ok(()),
            Ok(true) => {}
        }
        sync_dir(parent)
    }

    /// Makes an empty file whose name is all that it says, and up to so many folders around it;
    /// tells whether it was missing.
    ///
    /// It is another name of `seed`: a new file would cost as much as all the rest of a write.
    pub(super) fn place_hint(self, path: &Path, folders: usize, seed: &Path) -> io::Result<bool> {
        // Whoever finds a folder of hints empty may remove it, at any time.
        for _ in 0..64 {
            let placed = match fs::hard_link(seed, path) {
                // The number of names that a file may have is limited, to 65,000 at some places.
                Err(error) if error.kind() == Io::TooManyLinks => {
                    fs::remove_file(seed)?;
                    continue;
                }
                Err(error) if error.kind() == Io::NotFound => {
                    self.make_missing(path, folders, seed)
                }
                Err(error) if error.kind() == Io::AlreadyExists => Err(error),
                // There are file systems on which a file has one name.
                Err(_) => self.create_new(path).map(|_| true),
                Ok(()) => Ok(true),
            };
            match placed {
                Ok(true) => {
                    journal::note("place", path);
                    return Ok(true);
                }
                Err(error) if error.kind() == Io::AlreadyExists => return Ok(false),
                Err(error) if error.kind() != Io::NotFound => return Err(error),
                _ => {}
            }
        }
        Err(Io::NotFound.into())
    }

    /// Makes what a hint needs to be placed.
    fn make_missing(self, path: &Path, folders: usize, seed: &Path) -> io::Result<bool> {
        match self.create_new(seed) {
            Err(error) if error.kind() != Io::AlreadyExists => return Err(error),
            _ => {}
        }
        self.create_parents(path, folders).map(|()| false)
    }

    fn create_parents(self, path: &Path, folders: usize) -> io::Result<()> {
        let around: Vec<&Path> = path.ancestors().skip(1).take(folders).collect();
        for folder in around.into_iter().rev() {
            match self.create_dir(folder) {
                Err(error) if error.kind() != Io::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Replaces a file that is there, as a whole: the new contents are written over what is in
    /// `spare`, under the name `temp`, and change names with it. What the file was is left in `temp`,
    /// and may become the spare one when the folder is synced: until then it may be all that a power
    /// failure leaves.
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
    ) -> io::Result<()> {
        let taken = fs::rename(spare, temp).is_ok();
        let written = self.write_over(temp, taken, bytes);
        let exchanged = written.and_then(|_locked| exchange(temp, path));
        if exchanged.is_err() {
            let _ = fs::remove_file(temp);
        }
        journal::note("exchange", path);
        exchanged
    }

    /// Gives the file, which stays locked until its names have changed.
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
        let is_ours = is.is_file() && is.nlink() == 1 && is.mode() & 0o777 == self.0;
        is_ours.then_some(file)
    }

    /// Elsewhere two files can't change names.
    #[cfg(not(unix))]
    fn open_spare(self, _: &Path) -> Option<File> {
        None
    }

    /// Replaces a file as a whole by way of `temp`, which is gone if it fails.
    pub(super) fn replace(
        self,
        path: &Path,
        temp: &Path,
        bytes: &[u8],
        sync: Sync,
    ) -> io::Result<()> {
        let written = self.write_new(temp, bytes, sync).and_then(|_| fs::rename(temp, path));
        if written.is_err() {
            let _ = fs::remove_file(temp);
        }
        journal::note("rename", path);
        written
    }

    fn write_new(self, path: &Path, bytes: &[u8], sync: Sync) -> io::Result<File> {
        let mut file = match self.create_new(path) {
            Err(error) if error.kind() == Io::AlreadyExists => {
                fs::remove_file(path)?;
                self.create_new(path)?
            }
            Err(error) if error.kind() == Io::NotFound => {
                self.create_dir(parent(path))?;
                self.create_new(path)?
            }
            made => made?,
        };
        file.write_all(bytes)?;
        match sync {
            Sync::Contents => {
                journal::note("sync", path);
                file.sync_data()?;
            }
            Sync::Never => {}
        }
        Ok(file)
    }
}

/// Has two files change names; where that can't be done at once, the second gets that of the first.
fn exchange(temp: &Path, path: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        if renameat_with(CWD, temp, CWD, path, RenameFlags::EXCHANGE).is_ok() {
            return Ok(());
        }
    }
    fs::rename(temp, path)
}

/// Whether a file must survive a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    Contents,
    Never,
}

/// The folder that something is in, also where the path has one part only.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Makes the names in a folder survive a power failure.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    journal::note("sync", path);
    journal::fail(path)?;
    // Elsewhere a folder can't be opened as a file, and its names are the file system's care.
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    let _ = path;
    Ok(())
}

/// Reads a file that may be missing.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == Io::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Elsewhere two files can't change names.
#[cfg(not(unix))]
pub(super) fn read_settled(path: &Path) -> io::Result<Option<Vec<u8>>> {
    read(path)
}

/// Reads a file that may be missing, and that others replace by [`Mode::exchange`].
#[cfg(unix)]
pub(super) fn read_settled(path: &Path) -> io::Result<Option<Vec<u8>>> {
    loop {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == Io::NotFound => return Ok(None),
            opened => opened?,
        };
        // From here on nobody writes over it. But was that so when it was opened?
        match file.lock_shared() {
            Err(error) if error.kind() == Io::Interrupted => continue,
            locked => locked?,
        }
        if is_still_there(&file, path)? {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            return Ok(Some(bytes));
        }
    }
}

/// Whether others find the same file.
#[cfg(unix)]
pub(super) fn is_still_there(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let ours = file.metadata()?;
    match path.metadata() {
        Ok(theirs) => Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())),
        Err(error) if error.kind() == Io::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Elsewhere there is nothing to tell files by.
#[cfg(not(unix))]
pub(super) fn is_still_there(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

/// The names in a folder that may be missing. Those that are not text are not ours.
pub(super) fn names(path: &Path, mut each: impl FnMut(&str)) -> io::Result<()> {
    let listing = match fs::read_dir(path) {
        Err(error) if error.kind() == Io::NotFound => return Ok(()),
        listing => listing?,
    };
    for entry in listing {
        if let Some(name) = entry?.file_name().to_str() {
            each(name);
        }
    }
    Ok(())
}

/// Removes a file.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    journal::note("remove", path);
    fs::remove_file(path)
}

/// Removes a folder of the due index, and the one around it, if they are empty.
pub(super) fn remove_empty(folder: &Path) {
    if fs::remove_dir(folder).is_ok() {
        let _ = fs::remove_dir(parent(folder));
    }
}

/// The error for something that can't be done with a path.
pub(super) fn cannot<'a>(what: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| {
        let (advice, retry) = advice(&source);
        let message = format!("cannot {what}: {source}; {advice}");
        let error = Error::new(ErrorKind::StorageError, message)
            .with("path", path.display())
            .with_source(source);
        if retry { error.retryable() } else { error }
    }
}

/// What to do about it, and whether trying again may help without.
fn advice(error: &io::Error) -> (&'static str, bool) {
    // Neither has a kind of its own: too many open files, in the process and in the system.
    const NO_DESCRIPTORS: [i32; 2] = [24, 23];
    match error.kind() {
        Io::StorageFull | Io::QuotaExceeded => ("free space there, or raise the quota", false),
        Io::PermissionDenied => ("give this user the right to read and write there", false),
        Io::ReadOnlyFilesystem => ("mount it writable, or choose another folder", false),
        Io::NotADirectory | Io::AlreadyExists => {
            ("a file is where a folder should be: choose another folder", false)
        }
        Io::IsADirectory => ("a folder is where a file should be: move it away", false),
        Io::NotFound => ("part of the folder is missing: provision the store", false),
        Io::Unsupported => ("choose a folder on a local file system", false),
        Io::Interrupted | Io::WouldBlock | Io::TimedOut | Io::StaleNetworkFileHandle => {
            ("try again", true)
        }
        _ if error.raw_os_error().is_some_and(|code| NO_DESCRIPTORS.contains(&code)) => {
            ("raise the limit of open files", true)
        }
        _ => ("check the disk and the system's log", false),
    }
}

/// The error for a file that is not what it should be.
pub(super) fn corrupt(path: &Path, why: impl std::fmt::Display) -> Error {
    let message = format!("the file is {why}; restore it from a backup or move it away");
    Error::new(ErrorKind::CorruptState, message).with("path", path.display())
}

/// Adds the path to results.
pub(super) trait At<T> {
    fn at(self, what: &str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: &str, path: &Path) -> Result<T> {
        self.map_err(|error| cannot(what, path)(error))
    }
}

/// What a thread did to files, in order: no test can cut the power, but it can see what was synced
/// before what.
mod journal {
    use std::path::Path;

    #[cfg(test)]
    thread_local! {
        pub(super) static NOTES: std::cell::RefCell<Vec<(&'static str, std::path::PathBuf)>> =
            const { std::cell::RefCell::new(Vec::new()) };
    }

    #[cfg(test)]
    pub(super) fn note(what: &'static str, path: &Path) {
        NOTES.with_borrow_mut(|notes| notes.push((what, path.to_owned())));
    }

    #[cfg(test)]
    thread_local! {
        pub(super) static FAILING: std::cell::RefCell<Option<std::path::PathBuf>> =
            const { std::cell::RefCell::new(None) };
    }

    #[cfg(test)]
    pub(super) fn fail(path: &Path) -> std::io::Result<()> {
        match FAILING.with_borrow_mut(|failing| failing.take_if(|failing| failing == path)) {
            Some(_) => Err(std::io::ErrorKind::Interrupted.into()),
            None => Ok(()),
        }
    }

    #[cfg(not(test))]
    pub(super) fn note(_: &'static str, _: &Path) {}

    #[cfg(not(test))]
    pub(super) fn fail(_: &Path) -> std::io::Result<()> {
        Ok(())
    }
}

/// Has the next sync of a folder by this thread fail.
#[cfg(test)]
pub(super) fn fail_next_sync_of(path: &Path) {
    journal::FAILING.set(Some(path.to_owned()));
}

/// What this thread did to files since it was asked last.
#[cfg(test)]
pub(super) fn take_notes() -> Vec<(&'static str, std::path::PathBuf)> {
    journal::NOTES.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_has_all_the_names_it_may_have_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let seed = folder.path().join("seed");
        // Some more than ext4 allows; where there is no limit, nothing is to be seen.
        for n in 0..65_100 {
            let hint = folder.path().join(n.to_string());
            assert!(Mode::PRIVATE.place_hint(&hint, 0, &seed).unwrap());
        }
        let first = folder.path().join("0");
        assert!(!Mode::PRIVATE.place_hint(&first, 0, &seed).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 65_101);
    }

    #[test]
    fn where_a_file_has_one_name_a_hint_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        // A folder has one name everywhere.
        let seed = folder.path().join("seed");
        fs::create_dir(&seed).unwrap();
        let hint = folder.path().join("hint");
        assert!(Mode::PRIVATE.place_hint(&hint, 0, &seed).unwrap());
        assert!(!Mode::PRIVATE.place_hint(&hint, 0, &seed).unwrap());
        assert!(hint.is_file());
    }

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
            assert_eq!(read_settled(&self.path).unwrap().unwrap(), text.as_bytes());
        }
    }

    #[cfg(target_os = "linux")]
    fn inode(path: &Path) -> u64 {
        std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap())
    }

    #[test]
    #[cfg(target_os = "linux")]
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
    #[cfg(target_os = "linux")]
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
    #[cfg(target_os = "linux")]
    fn who_opened_what_is_being_written_over_reads_what_took_its_place() {
        let pair = Pair::new();
        let writer = File::open(&pair.path).unwrap();
        writer.lock().unwrap();
        let path = pair.path.clone();
        let reader = std::thread::spawn(move || read_settled(&path).unwrap().unwrap());
        let blocked = format!(":{} ", inode(&pair.path));
        let is_blocked = |line: &str| line.contains("->") && line.contains(&blocked);
        while !fs::read_to_string("/proc/locks").unwrap().lines().any(is_blocked) {
            assert!(!reader.is_finished(), "it did not wait");
            std::thread::yield_now();
        }
        fs::write(&pair.spare, "second").unwrap();
        fs::rename(&pair.spare, &pair.path).unwrap();
        drop(writer);
        assert_eq!(reader.join().unwrap(), b"second");
    }

    #[test]
    #[cfg(target_os = "linux")]
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

    #[test]
    fn what_passes_by_itself_is_worth_another_try_and_each_fault_says_what_to_do() {
        let path = Path::new("/nowhere");
        let told = |error: io::Error| cannot("write", path)(error);
        let passing = [Io::Interrupted, Io::WouldBlock, Io::TimedOut, Io::StaleNetworkFileHandle];
        let no_descriptors = [23, 24].map(io::Error::from_raw_os_error);
        for error in passing.map(io::Error::from).into_iter().chain(no_descriptors) {
            assert!(told(error).is_retryable());
        }
        let lasting = [
            Io::StorageFull,
            Io::PermissionDenied,
            Io::ReadOnlyFilesystem,
            Io::NotADirectory,
            Io::IsADirectory,
            Io::NotFound,
            Io::Unsupported,
            Io::Other,
        ];
        let mut advices: Vec<_> = lasting.map(|kind| advice(&kind.into()).0).into();
        assert!(!lasting.into_iter().any(|kind| told(kind.into()).is_retryable()));
        advices.sort_unstable();
        advices.dedup();
        assert_eq!(advices.len(), lasting.len(), "{advices:?}");
    }
}
