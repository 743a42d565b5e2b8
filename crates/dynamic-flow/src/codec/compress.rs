//! Compression, where it pays.

use std::fmt;
#[cfg(any(feature = "gzip", feature = "zstd"))]
use std::io;

use serde::{Deserialize, Serialize};

use super::{Part, dictionary};
use crate::{Error, ErrorKind, Result};

/// The fewest bytes that are worth the time. A snapshot may be kept for months; an item of the inbox
/// is mostly there for milliseconds, until its run goes on.
fn least(part: Part) -> usize {
    match part {
        Part::Snapshot => 256,
        Part::Inbox => 2048,
    }
}

/// How state is compressed before it is sealed.
///
/// Gzip where the feature `gzip` is on, as it is by default; what it does not make at least a
/// tenth smaller is stored as it is. Either knows a dictionary of what every state has, so that a
/// short state becomes short too; programs of the same name don't, and can't read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    None,
    /// DEFLATE (RFC 1951), as gzip has it, level 6; needs the feature `gzip`. Without gzip's own
    /// header and checksum: sealed bytes have better ones.
    Gzip,
    /// zstd (RFC 8878), level 1; needs the feature `zstd`.
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
    pub(super) fn compress(self, raw: Vec<u8>, part: Part) -> Result<(Self, Vec<u8>)> {
        self.check_available()?;
        if self == Self::None || raw.len() < least(part) {
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

    /// Gives back what was compressed in sealed bytes of that format, if that has at most `limit`
    /// bytes.
    pub(super) fn decompress(self, bytes: Vec<u8>, format: u8, limit: usize) -> Result<Vec<u8>> {
        self.check_available()?;
        let dictionary = dictionary::of_format(format);
        let raw = match self {
            Self::None => Ok(bytes),
            Self::Gzip => gzip::decompress(&bytes, dictionary, limit),
            Self::Zstd => zstd::decompress(&bytes, dictionary, limit),
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
#[cfg(any(feature = "gzip", feature = "zstd"))]
fn read(decoder: impl io::Read, compressed: usize, limit: usize) -> io::Result<Vec<u8>> {
    use io::Read as _;

    let mut raw = Vec::with_capacity(compressed.saturating_mul(4).min(limit));
    decoder.take((limit as u64).saturating_add(1)).read_to_end(&mut raw)?;
    Ok(raw)
}

#[cfg(feature = "gzip")]
mod gzip {
    use std::{cell::RefCell, io};

    use flate2::{
        Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status,
        bufread::GzDecoder,
    };

    use super::dictionary;

    /// The default level. Of the benchmark's state (10 KB), level 3 takes a tenth less time and a
    /// twentieth more bytes, which each store would have to write and keep; level 4, with a
    /// dictionary, a third more time.
    const LEVEL: u32 = 6;

    thread_local! {
        // Its tables take 300 KiB: to make them anew costs more than to compress.
        static IDLE: RefCell<Option<Compress>> = const { RefCell::new(None) };
    }

    /// Gives what is at most that long; none if it would be longer.
    pub(super) fn compress(raw: &[u8], most: usize) -> io::Result<Option<Vec<u8>>> {
        // A literal takes 9 bits at the most. There is room for all of it, since a stream that
        // stopped halfway could not be reset.
        let mut bytes = Vec::with_capacity(raw.len() + raw.len() / 8 + 64);
        let kept = IDLE.with_borrow_mut(Option::take);
        let mut deflate = kept.unwrap_or_else(|| Compress::new(Compression::new(LEVEL), false));
        deflate.set_dictionary(dictionary::newest())?;
        let status = deflate.compress_vec(raw, &mut bytes, FlushCompress::Finish)?;
        // It takes 4 GiB at once, and no more.
        if status != Status::StreamEnd || deflate.total_in() != raw.len() as u64 {
            return Ok(None);
        }
        deflate.reset();
        IDLE.with_borrow_mut(|idle| *idle = Some(deflate));
        Ok((bytes.len() <= most).then_some(bytes))
    }

    pub(super) fn decompress(
        bytes: &[u8],
        dictionary: Option<&[u8]>,
        limit: usize,
    ) -> io::Result<Vec<u8>> {
        match dictionary {
            Some(dictionary) => inflate(bytes, dictionary, limit),
            None => super::read(GzDecoder::new(bytes), bytes.len(), limit),
        }
    }

    /// Reads to the end, or until there is more than the limit.
    fn inflate(mut bytes: &[u8], dictionary: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        let mut raw = Vec::new();
        let mut inflate = Decompress::new(false);
        inflate.set_dictionary(dictionary)?;
        while raw.len() <= limit {
            // One byte beyond the limit shows that there is more.
            let most = (limit - raw.len()).saturating_add(1);
            raw.reserve_exact((raw.len() * 2).max(bytes.len() * 6).min(most));
            let before = (inflate.total_in(), raw.len());
            let status = inflate.decompress_vec(bytes, &mut raw, FlushDecompress::None)?;
            let taken = usize::try_from(inflate.total_in() - before.0).unwrap_or(bytes.len());
            bytes = &bytes[taken..];
            match status {
                Status::StreamEnd if bytes.is_empty() => break,
                Status::StreamEnd => return Err(io::ErrorKind::InvalidData.into()),
                _ if raw.len() == before.1 && taken == 0 => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                _ => {}
            }
        }
        Ok(raw)
    }
}

#[cfg(feature = "zstd")]
mod zstd {
    use std::{cell::RefCell, io};

    use ::zstd::{bulk::Compressor, stream::read::Decoder};

    use super::dictionary;

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
                None => kept.insert(Compressor::with_dictionary(LEVEL, dictionary::newest())?),
            };
            compressor.compress(raw)
        })?;
        Ok((bytes.len() <= most).then_some(bytes))
    }

    pub(super) fn decompress(
        bytes: &[u8],
        dictionary: Option<&[u8]>,
        limit: usize,
    ) -> io::Result<Vec<u8>> {
        // None is the same as an empty one.
        let mut decoder = Decoder::with_dictionary(bytes, dictionary.unwrap_or_default())?;
        decoder.window_log_max(MAX_WINDOW_LOG)?;
        super::read(decoder, bytes.len(), limit)
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

    pub(super) fn decompress(_: &[u8], _: Option<&[u8]>, _: usize) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::{super::envelope::FORMAT, *};

    fn compress(compression: Compression, raw: Vec<u8>) -> (Compression, Vec<u8>) {
        compression.compress(raw, Part::Snapshot).unwrap()
    }

    /// The same in every format that there was.
    fn in_all_formats(compression: Compression, raw: &[u8]) -> [(u8, Vec<u8>); 2] {
        let first = match compression {
            Compression::Gzip => {
                let mut gz = flate2::write::GzEncoder::new(Vec::new(), Default::default());
                gz.write_all(raw).unwrap();
                gz.finish().unwrap()
            }
            _ => ::zstd::bulk::compress(raw, 1).unwrap(),
        };
        [(1, first), (FORMAT, compress(compression, raw.to_vec()).1)]
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let raw = vec![b'a'; 1_000_000];
        for compression in [Compression::Gzip, Compression::Zstd] {
            for (format, bytes) in in_all_formats(compression, &raw) {
                let open = |limit| compression.decompress(bytes.clone(), format, limit);
                assert_eq!(open(raw.len()).unwrap(), raw);
                let error = open(raw.len() - 1).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::StateTooLarge);
                assert_eq!(error.context_value("limit"), Some("999999"));
            }
        }
        assert!(Compression::None.decompress(vec![0; 11], FORMAT, 10).is_err());
    }

    #[test]
    fn what_is_short_is_left_as_it_is() {
        for (part, least) in [(Part::Snapshot, 256), (Part::Inbox, 2048)] {
            for (length, expected) in [(least - 1, Compression::None), (least, Compression::Gzip)] {
                let (how, _) = Compression::Gzip.compress(vec![b'a'; length], part).unwrap();
                assert_eq!(how, expected, "{part} of {length} bytes");
            }
        }
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
            let first = compress(compression, text(1));
            for n in 0..300 {
                let raw = noise(n * 97);
                assert_eq!(compress(compression, raw.clone()), (Compression::None, raw));
                assert_eq!(compress(compression, text(1)), first);
                // Half noise, half not: what is close to paying, on both sides.
                let mixed = [noise(n * 31), text(n)].concat();
                let (how, bytes) = compress(compression, mixed.clone());
                assert_eq!(how.decompress(bytes, FORMAT, 1 << 20).unwrap(), mixed);
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_goes_on_does_not_decompress() {
        let raw = b"a step, and another step, and then a wait; ".repeat(20);
        for compression in [Compression::Gzip, Compression::Zstd] {
            for (format, bytes) in in_all_formats(compression, &raw) {
                let cut = bytes[..bytes.len() - 1].to_vec();
                let longer = [&*bytes, b"more"].concat();
                for (what, bytes) in [("none", Vec::new()), ("cut", cut), ("longer", longer)] {
                    // gzip of the first format never looked at what follows; the seal does.
                    if (compression, format, what) == (Compression::Gzip, 1, "longer") {
                        continue;
                    }
                    let opened = compression.decompress(bytes, format, 1 << 20);
                    let error = opened.expect_err(&format!("{compression} {format} {what}"));
                    assert_eq!(error.kind(), ErrorKind::CorruptState);
                }
            }
        }
    }

    #[test]
    fn what_every_state_has_takes_next_to_no_bytes() {
        let text = dictionary::newest()[..1000].to_vec();
        for compression in [Compression::Gzip, Compression::Zstd] {
            let (_, bytes) = compress(compression, text.clone());
            assert!(bytes.len() < 32, "{compression}: {} bytes", bytes.len());
            assert_eq!(compression.decompress(bytes, FORMAT, 1000).unwrap(), text);
        }
    }
}
