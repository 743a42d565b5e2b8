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
    ///
    /// What a folder has from the one around it stays: that files in it belong to its group.
    fn widen(self, path: &Path, bits: u32) -> io::Result<()> {
        #[cfg(unix)]
        if self.0 != Self::PRIVATE.0 {
            use std::os::unix::fs::PermissionsExt as _;
            let mut permissions = fs::symlink_metadata(path)?.permissions();
            permissions.set_mode(bits | permissions.mode() & 0o2000);
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

    /// Replaces a file as a whole by way of `temp`, which is gone if it fails. Gives the new file: one
    /// that must survive is locked until it is let go.
    pub(super) fn replace(
        self,
        path: &Path,
        temp: &Path,
        bytes: &[u8],
        sync: Sync,
    ) -> io::Result<File> {
        let written = self
            .write_new(temp, bytes, sync)
            .and_then(|file| fs::rename(temp, path).map(|()| file));
        if written.is_err() {
            let _ = fs::remove_file(temp);
        }
        journal::note("rename", path);
        written
    }

    pub(super) fn write_new(self, path: &Path, bytes: &[u8], sync: Sync) -> io::Result<File> {
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
        // Elsewhere who can't lock a file can't read it either, and nobody looks for a lock.
        #[cfg(unix)]
        if sync == Sync::Contents {
            file.lock()?;
        }
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
    journal::look(path);
    journal::fail(path)?;
    // Elsewhere a folder can't be opened as a file, and its names are the file system's care.
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    let _ = path;
    Ok(())
}

/// Reads a file that may be missing.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = match open(path) {
        Err(error) if error.kind() == Io::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Opens a file to read it, and nothing else that somebody put in its place: a pipe would be waited
/// for, a device has no end, and a link leads elsewhere.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::{fs::OFlags, io::Errno};
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
        let file = match options.open(path) {
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                return Err(Io::InvalidData.into());
            }
            opened => opened?,
        };
        match file.metadata()?.file_type() {
            it if it.is_file() => Ok(file),
            it if it.is_dir() => Err(Io::IsADirectory.into()),
            _ => Err(Io::InvalidData.into()),
        }
    }
    #[cfg(not(unix))]
    options.open(path)
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
        if source.kind() == Io::InvalidData {
            return corrupt(path, "no regular file");
        }
        let (advice, retry) = advice(&source);
        let message = format!("cannot {what}: {source}; {advice}");
        let error = Error::new(ErrorKind::StorageError, message)
            .with("path", path.display())
            .with_source(source);
        if retry { error.with_retryable() } else { error }
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
        Io::NotFound => {
            ("part of the folder is missing: provision the store, where folders can be made", false)
        }
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
pub(super) mod journal {
    use std::path::Path;

    #[cfg(test)]
    thread_local! {
        pub(super) static NOTES: std::cell::RefCell<Vec<(&'static str, std::path::PathBuf)>> =
            const { std::cell::RefCell::new(Vec::new()) };
    }

    #[cfg(test)]
    pub(in super::super) fn note(what: &'static str, path: &Path) {
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

    #[cfg(test)]
    type Look = (std::path::PathBuf, Box<dyn FnMut()>);

    #[cfg(test)]
    thread_local! {
        pub(super) static LOOKING: std::cell::RefCell<Option<Look>> =
            const { std::cell::RefCell::new(None) };
    }

    #[cfg(test)]
    pub(super) fn look(path: &Path) {
        LOOKING.with_borrow_mut(|looking| {
            if let Some((_, look)) = looking.as_mut().filter(|(of, _)| of == path) {
                look();
            }
        });
    }

    #[cfg(not(test))]
    pub(super) fn look(_: &Path) {}

    #[cfg(not(test))]
    pub(in super::super) fn note(_: &'static str, _: &Path) {}

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

/// Has this thread look at something before each of its syncs of a folder.
#[cfg(test)]
pub(super) fn before_each_sync_of(path: &Path, look: impl FnMut() + 'static) {
    journal::LOOKING.set(Some((path.to_owned(), Box::new(look))));
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
