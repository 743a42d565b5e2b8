//! `[keys]`: where the keys are, unless the environment has them.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    str,
};

use dynamic_flow::{Error, ErrorKind, Result, codec::Keyring};
use serde::Deserialize;
use zeroize::Zeroizing;

/// How many bytes a file of keys may have: those of a thousand keys.
const MAX_FILE: usize = 64 << 10;

/// `[keys]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KeysSection {
    /// A file with the keyring, where `FLOW_ENCRYPTION_KEY` is not set.
    pub(crate) file: Option<PathBuf>,
    /// Whether nothing works without a key.
    pub(crate) required: bool,
}

impl KeysSection {
    /// Reads the keyring, if a file with it is named. Of the text nothing stays in memory.
    ///
    /// # Errors
    /// `InvalidConfig` for what is no regular file, is larger than 64 KiB, or holds no keyring.
    pub(crate) fn read(&self) -> Result<Option<Keyring>> {
        let Some(path) = &self.file else { return Ok(None) };
        let at = |error: Error| error.with("path", path.display());
        let bytes = read_small(path).map_err(|error| {
            at(Error::new(ErrorKind::InvalidConfig, format!("the keys can't be read: {error}")))
        })?;
        // What is no text is no key; the keyring says what one looks like.
        str::from_utf8(&bytes).unwrap_or_default().parse().map(Some).map_err(at)
    }
}

fn read_small(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Asked before it is opened: a pipe would be waited for.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    // As large as it gets: when a vector grows, it leaves what it held behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE + 1));
    File::open(path)?.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE {
        let message = format!("it is larger than {} KiB", MAX_FILE >> 10);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}
