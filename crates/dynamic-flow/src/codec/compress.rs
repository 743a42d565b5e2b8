//! Compression, where it pays.

use std::{
    fmt,
    io::{self, Read},
};

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// Below this size there is nothing to gain.
const MIN_BYTES: usize = 200;

/// How state is compressed before it is sealed.
///
/// Gzip where the feature `gzip` is on, as it is by default; what it does not make at least a
/// tenth smaller is stored as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, level 1; needs the feature `gzip`.
    Gzip,
    /// zstd, level 1; needs the feature `zstd`.
    Zstd,
}

impl Default for Compression {
    fn default() -> Self {
        if cfg!(feature = "gzip") { Self::Gzip } else { Self::None }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

impl Compression {
    /// Whether this build can do it.
    ///
    /// # Errors
    /// `InvalidConfig` that names the feature which is missing.
    pub(super) fn check_available(self) -> Result<()> {
        let available = match self {
            Self::None => true,
            Self::Gzip => cfg!(feature = "gzip"),
            Self::Zstd => cfg!(feature = "zstd"),
        };
        if available {
            return Ok(());
        }
        let message =
            format!("this build can't do {self}; build dynamic-flow with its feature `{self}`");
        Err(Error::new(ErrorKind::InvalidConfig, message))
    }

    /// Compresses if that pays; says how the bytes that it gives are compressed.
    pub(super) fn compress(self, raw: Vec<u8>) -> Result<(Self, Vec<u8>)> {
        self.check_available()?;
        if self == Self::None || raw.len() < MIN_BYTES {
            return Ok((Self::None, raw));
        }
        let compressed = match self {
            Self::Gzip => gzip::compress(&raw),
            Self::Zstd => zstd::compress(&raw),
            Self::None => return Ok((Self::None, raw)),
        };
        let compressed = compressed.map_err(|error| {
            Error::new(ErrorKind::SerializationError, "the state can't be compressed")
                .with_source(error)
        })?;
        let pays = compressed.len() < raw.len() / 10 * 9;
        Ok(if pays { (self, compressed) } else { (Self::None, raw) })
    }

    /// Gives back what was compressed, if that has at most `limit` bytes.
    pub(super) fn decompress(self, bytes: Vec<u8>, limit: usize) -> Result<Vec<u8>> {
        self.check_available()?;
        let raw = match self {
            Self::None => Ok(bytes),
            Self::Gzip => gzip::reader(&bytes).and_then(|it| read(it, bytes.len(), limit)),
            Self::Zstd => zstd::reader(&bytes).and_then(|it| read(it, bytes.len(), limit)),
        };
        let raw = raw.map_err(|error| {
            Error::new(ErrorKind::CorruptState, "the state can't be decompressed")
                .with_source(error)
        })?;
        if raw.len() > limit {
            return Err(Error::new(
                ErrorKind::StateTooLarge,
                "the state is larger than what is opened; raise max_state_size",
            )
            .with("limit", limit));
        }
        Ok(raw)
    }
}

/// Reads to the end, or to the first byte beyond the limit.
fn read(decoder: impl Read, compressed: usize, limit: usize) -> io::Result<Vec<u8>> {
    let mut raw = Vec::with_capacity(compressed.saturating_mul(4).min(limit));
    decoder.take((limit as u64).saturating_add(1)).read_to_end(&mut raw)?;
    Ok(raw)
}

#[cfg(feature = "gzip")]
mod gzip {
    use std::io::{self, Read, Write as _};

    use flate2::{Compression, read::GzDecoder, write::GzEncoder};

    /// A third of the default level's time, for a few per cent more bytes.
    const LEVEL: u32 = 1;

    pub(super) fn compress(raw: &[u8]) -> io::Result<Vec<u8>> {
        let room = Vec::with_capacity(raw.len() / 2);
        let mut encoder = GzEncoder::new(room, Compression::new(LEVEL));
        encoder.write_all(raw)?;
        encoder.finish()
    }

    pub(super) fn reader(bytes: &[u8]) -> io::Result<impl Read + '_> {
        Ok(GzDecoder::new(bytes))
    }
}

#[cfg(feature = "zstd")]
mod zstd {
    use std::io::{self, Read};

    use ::zstd::{bulk, stream::read::Decoder};

    const LEVEL: i32 = 1;
    /// What the header of a frame may make the decoder reserve: 8 MiB.
    const MAX_WINDOW_LOG: u32 = 23;

    pub(super) fn compress(raw: &[u8]) -> io::Result<Vec<u8>> {
        bulk::compress(raw, LEVEL)
    }

    pub(super) fn reader(bytes: &[u8]) -> io::Result<impl Read + '_> {
        let mut decoder = Decoder::with_buffer(bytes)?;
        decoder.window_log_max(MAX_WINDOW_LOG)?;
        Ok(decoder)
    }
}

#[cfg(not(feature = "gzip"))]
use absent as gzip;
#[cfg(not(feature = "zstd"))]
use absent as zstd;

/// Stands where a feature is off; `check_available` refuses before it is reached.
#[cfg(not(all(feature = "gzip", feature = "zstd")))]
mod absent {
    use std::io;

    pub(super) fn compress(_: &[u8]) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn reader(_: &[u8]) -> io::Result<io::Empty> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let raw = vec![b'a'; 1_000_000];
        for compression in [Compression::Gzip, Compression::Zstd] {
            let (how, bytes) = compression.compress(raw.clone()).unwrap();
            assert_eq!(how, compression);
            assert_eq!(how.decompress(bytes.clone(), raw.len()).unwrap(), raw);
            let error = how.decompress(bytes, raw.len() - 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StateTooLarge);
            assert_eq!(error.context_value("limit"), Some("999999"));
        }
        assert!(Compression::None.decompress(vec![0; 11], 10).is_err());
    }
}
