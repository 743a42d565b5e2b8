//! Compression, where it pays.

use std::fmt;
#[cfg(any(feature = "gzip", feature = "zstd"))]
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// Below this size there is nothing to gain.
const MIN_BYTES: usize = 200;

/// Cheap levels: a third of the default's time, a few per cent more bytes.
#[cfg(any(feature = "gzip", feature = "zstd"))]
const LEVEL: u8 = 1;

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
        if self == Self::None || raw.len() < MIN_BYTES {
            return Ok((Self::None, raw));
        }
        let compressed = match self {
            #[cfg(feature = "gzip")]
            Self::Gzip => gzip(&raw),
            #[cfg(feature = "zstd")]
            Self::Zstd => zstd::bulk::compress(&raw, LEVEL.into()),
            _ => return self.check_available().map(|()| (Self::None, raw)),
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
        let raw = match self {
            Self::None => bytes,
            #[cfg(feature = "gzip")]
            Self::Gzip => read(flate2::read::GzDecoder::new(&*bytes), bytes.len(), limit)?,
            #[cfg(feature = "zstd")]
            Self::Zstd => read(zstd_decoder(&bytes).map_err(broken)?, bytes.len(), limit)?,
            #[allow(unreachable_patterns, reason = "reachable in builds without the features")]
            _ => return self.check_available().map(|()| bytes),
        };
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

#[cfg(feature = "gzip")]
fn gzip(raw: &[u8]) -> io::Result<Vec<u8>> {
    use std::io::Write as _;
    let room = Vec::with_capacity(raw.len() / 2);
    let mut encoder = flate2::write::GzEncoder::new(room, flate2::Compression::new(LEVEL.into()));
    encoder.write_all(raw)?;
    encoder.finish()
}

#[cfg(feature = "zstd")]
fn zstd_decoder(bytes: &[u8]) -> io::Result<impl Read + '_> {
    /// What the header of a frame may make the decoder reserve: 8 MiB.
    const MAX_WINDOW_LOG: u32 = 23;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    Ok(decoder)
}

/// Reads to the end, or to the first byte beyond the limit.
#[cfg(any(feature = "gzip", feature = "zstd"))]
fn read(decoder: impl Read, compressed: usize, limit: usize) -> Result<Vec<u8>> {
    let mut raw = Vec::with_capacity(compressed.saturating_mul(4).min(limit));
    decoder.take((limit as u64).saturating_add(1)).read_to_end(&mut raw).map_err(broken)?;
    Ok(raw)
}

#[cfg(any(feature = "gzip", feature = "zstd"))]
fn broken(error: io::Error) -> Error {
    Error::new(ErrorKind::CorruptState, "the state can't be decompressed").with_source(error)
}

#[cfg(all(test, feature = "gzip", feature = "zstd"))]
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
