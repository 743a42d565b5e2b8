//! Compression, where it pays.

use std::{
    fmt,
    io::{self, Read},
};

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// Below this size, as that of most answers, there is next to nothing to gain: a hundred bytes, for
/// half of the time that the whole state takes.
const MIN_BYTES: usize = 512;

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
    /// gzip, level 4; needs the feature `gzip`.
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
        let most = raw.len() / 10 * 9;
        let compressed = match self {
            Self::Gzip => gzip::compress(&raw, most),
            Self::Zstd => zstd::compress(&raw, most),
            Self::None => Ok(None),
        };
        let compressed = compressed.map_err(|error| {
            Error::new(ErrorKind::SerializationError, "the state can't be compressed")
                .with_source(error)
        })?;
        Ok(match compressed {
            Some(compressed) => (self, compressed),
            None => (Self::None, raw),
        })
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
    use std::{
        cell::RefCell,
        io::{self, Read},
    };

    use flate2::{Compress, Compression, Crc, FlushCompress, Status, bufread::GzDecoder};

    /// As small as the default level within a hundredth, and a little quicker. Level 1 takes two
    /// fifths of the time and two fifths more bytes, which each store would have to write and keep.
    const LEVEL: u32 = 4;
    /// Magic, deflate, no flags, no time, neither fast nor small, by nobody in particular.
    const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    const TRAILER_BYTES: usize = 8;

    thread_local! {
        // Its tables take 300 KiB: to make them anew costs more than to compress.
        static IDLE: RefCell<Option<Compress>> = const { RefCell::new(None) };
    }

    /// Gives what is at most that long; none if it would be longer.
    pub(super) fn compress(raw: &[u8], most: usize) -> io::Result<Option<Vec<u8>>> {
        // A literal takes 9 bits at the most. There is room for all of it, since a stream that
        // stopped halfway could not be reset.
        let mut bytes = Vec::with_capacity(HEADER.len() + raw.len() + raw.len() / 8 + 64);
        bytes.extend_from_slice(&HEADER);
        let kept = IDLE.with_borrow_mut(Option::take);
        let mut deflate = kept.unwrap_or_else(|| Compress::new(Compression::new(LEVEL), false));
        if deflate.compress_vec(raw, &mut bytes, FlushCompress::Finish)? != Status::StreamEnd {
            return Ok(None);
        }
        deflate.reset();
        IDLE.with_borrow_mut(|idle| *idle = Some(deflate));
        if bytes.len() + TRAILER_BYTES > most {
            return Ok(None);
        }
        let mut crc = Crc::new();
        crc.update(raw);
        bytes.extend_from_slice(&crc.sum().to_le_bytes());
        bytes.extend_from_slice(&crc.amount().to_le_bytes());
        Ok(Some(bytes))
    }

    pub(super) fn reader(bytes: &[u8]) -> io::Result<impl Read + '_> {
        Ok(GzDecoder::new(bytes))
    }
}

#[cfg(feature = "zstd")]
mod zstd {
    use std::{
        cell::RefCell,
        io::{self, Read},
    };

    use ::zstd::{bulk::Compressor, stream::read::Decoder};

    const LEVEL: i32 = 1;
    /// What the header of a frame may make the decoder reserve: 8 MiB.
    const MAX_WINDOW_LOG: u32 = 23;

    thread_local! {
        static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    }

    /// Gives what is at most that long; none if it would be longer.
    pub(super) fn compress(raw: &[u8], most: usize) -> io::Result<Option<Vec<u8>>> {
        let bytes = COMPRESSOR.with_borrow_mut(|kept| {
            let compressor = match kept {
                Some(compressor) => compressor,
                None => kept.insert(Compressor::new(LEVEL)?),
            };
            compressor.compress(raw)
        })?;
        Ok((bytes.len() <= most).then_some(bytes))
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

    pub(super) fn compress(_: &[u8], _: usize) -> io::Result<Option<Vec<u8>>> {
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

    /// Bytes that no compression makes smaller.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..length).map(next).collect()
    }

    #[test]
    fn a_compressor_that_is_used_again_knows_nothing_of_what_came_before() {
        let text = |n: usize| format!("{{\"order\": {n}, \"lines\": [").repeat(50 + n).into_bytes();
        for compression in [Compression::Gzip, Compression::Zstd] {
            let first = compression.compress(text(1)).unwrap();
            for n in 0..300 {
                let raw = noise(n * 97);
                assert_eq!(compression.compress(raw.clone()).unwrap(), (Compression::None, raw));
                assert_eq!(compression.compress(text(1)).unwrap(), first);
                // Half noise, half not: what is close to paying, on both sides.
                let mixed = [noise(n * 31), text(n)].concat();
                let (how, bytes) = compression.compress(mixed.clone()).unwrap();
                assert_eq!(how.decompress(bytes, 1 << 20).unwrap(), mixed);
            }
        }
    }

    #[test]
    fn a_flipped_byte_of_what_was_compressed_is_found() {
        let raw = b"a step, and another step, and then a wait; ".repeat(20);
        let (_, mut bytes) = Compression::Gzip.compress(raw).unwrap();
        let last = bytes.len() - 6;
        bytes[last] ^= 1;
        let error = Compression::Gzip.decompress(bytes, 1 << 20).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptState);
    }
}
