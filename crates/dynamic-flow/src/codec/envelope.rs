//! What stands before sealed bytes: how they were made, and what they are.

use std::fmt;

use super::{Compression, KeyId, Part, seal::NONCE_BYTES};
use crate::{Error, ErrorKind, Result};

const MAGIC: [u8; 3] = *b"dfs";

/// The version of the form that this build writes; it reads all from 1 on.
///
/// 2: what is compressed is so as if a dictionary had come before it, and gzip's own header and
/// checksum are left out.
pub(super) const FORMAT: u8 = 2;

/// How sealed bytes are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cipher {
    /// Not at all: a checksum finds accidents, not attackers.
    None,
    /// AES-256-GCM under a key of the run.
    Aes256Gcm,
    /// An encryptor that was put in.
    Custom,
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::Custom => "custom",
        })
    }
}

/// How a value was written as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Custom,
}

/// What stands before the body; 36 bytes, all of them authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The version of the form, which says how what is compressed was compressed.
    pub(super) format: u8,
    pub(super) part: Part,
    pub(super) encoding: Encoding,
    pub(super) compression: Compression,
    pub(super) cipher: Cipher,
    pub(super) key_id: KeyId,
    pub(super) sequence: u64,
    pub(super) nonce: [u8; NONCE_BYTES],
}

impl Header {
    pub(super) const BYTES: usize = 36;

    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..3].copy_from_slice(&MAGIC);
        bytes[3] = self.format;
        bytes[4] = match self.part {
            Part::Snapshot => 0,
            Part::Inbox => 1,
        };
        bytes[5] = match self.encoding {
            Encoding::Json => 0,
            Encoding::Custom => 255,
        };
        bytes[6] = match self.compression {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Zstd => 2,
        };
        bytes[7] = match self.cipher {
            Cipher::None => 0,
            Cipher::Aes256Gcm => 1,
            Cipher::Custom => 255,
        };
        bytes[8..16].copy_from_slice(self.key_id.as_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[24..].copy_from_slice(&self.nonce);
        bytes
    }

    /// Reads the header; gives the body as well.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, &[u8])> {
        let Some((version, _)) = bytes.strip_prefix(&MAGIC).and_then(<[u8]>::split_first) else {
            return Err(corrupt("the bytes are no state of dynamic-flow"));
        };
        let format = match *version {
            known @ 1..=FORMAT => known,
            0 => return Err(corrupt("the version of the state can't be read")),
            newer => {
                return Err(corrupt(
                    "a newer dynamic-flow wrote the state; update the program that reads it",
                )
                .with("format", newer));
            }
        };
        let Some((header, body)) = bytes.split_first_chunk::<{ Self::BYTES }>() else {
            return Err(corrupt("the state is cut off"));
        };
        let part = match header[4] {
            0 => Part::Snapshot,
            1 => Part::Inbox,
            _ => return Err(unknown("part")),
        };
        let encoding = match header[5] {
            0 => Encoding::Json,
            255 => Encoding::Custom,
            _ => return Err(unknown("encoding")),
        };
        let compression = match header[6] {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Zstd,
            _ => return Err(unknown("compression")),
        };
        let cipher = match header[7] {
            0 => Cipher::None,
            1 => Cipher::Aes256Gcm,
            255 => Cipher::Custom,
            _ => return Err(unknown("cipher")),
        };
        let mut key_id = [0; 8];
        key_id.copy_from_slice(&header[8..16]);
        let mut sequence = [0; 8];
        sequence.copy_from_slice(&header[16..24]);
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&header[24..]);
        let key_id = KeyId::from_bytes(key_id);
        let sequence = u64::from_be_bytes(sequence);
        Ok((Self { format, part, encoding, compression, cipher, key_id, sequence, nonce }, body))
    }
}

fn corrupt(message: &'static str) -> Error {
    Error::new(ErrorKind::CorruptState, message)
}

fn unknown(what: &'static str) -> Error {
    corrupt("the header of the state names something that does not exist").with("field", what)
}
