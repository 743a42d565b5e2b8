//! From state to sealed bytes and back: serialize → compress → encrypt.

mod builder;
mod compress;
mod dictionary;
mod envelope;
mod keyring;
mod seal;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use self::envelope::{Encoding, Header};
use crate::{
    Error, ErrorKind, Result,
    id::{FlowId, RunId, os_random},
    value,
};

pub use self::{
    builder::CodecBuilder,
    compress::Compression,
    envelope::Cipher,
    keyring::{EncryptionKey, KeyId, Keyring},
    seal::{SealContext, StateEncryptor},
};

/// Bytes that only the codec makes and opens; `Debug` shows their number.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(#[serde(with = "base64_bytes")] pub Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// What sealed bytes are bound to: opened as anything else, they do not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The run.
    pub run: RunId,
    /// Its flow.
    pub flow: &'a FlowId,
    /// What is sealed.
    pub part: Part,
}

/// Which part of a record is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// The snapshot.
    Snapshot,
    /// An item of the inbox.
    Inbox,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Snapshot => "snapshot",
            Self::Inbox => "inbox",
        })
    }
}

/// Writes values as bytes; JSON unless another one is put in.
pub trait StateSerializer: Send + Sync {
    /// Writes a value.
    ///
    /// # Errors
    /// `SerializationError`, without a word of the value.
    fn serialize(&self, value: &Value) -> Result<Vec<u8>>;

    /// Reads what [`StateSerializer::serialize`] wrote. It must stand any bytes.
    ///
    /// # Errors
    /// `CorruptState`, without a word of the bytes.
    fn deserialize(&self, bytes: &[u8]) -> Result<Value>;
}

/// What can be told of sealed bytes without opening them; nothing of it is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SealedInfo {
    /// The version of the form.
    pub format: u8,
    /// Which part of a record it is.
    pub part: Part,
    /// How it is compressed.
    pub compression: Compression,
    /// How it is protected.
    pub cipher: Cipher,
    /// The key that it is sealed with; none if it is not sealed.
    pub key_id: Option<KeyId>,
    /// The sequence that it was sealed with.
    pub sequence: u64,
    /// How many bytes it has, its header included.
    pub bytes: usize,
}

/// Seals and opens state.
///
/// ```
/// use dynamic_flow::{FlowId, RunId, Timestamp};
/// use dynamic_flow::codec::{Binding, Codec, EncryptionKey, Keyring, Part};
///
/// let codec = Codec::builder().keyring(Keyring::new(EncryptionKey::generate()?)).build()?;
/// let flow = FlowId::from("purchase-approval");
/// let run = RunId::new(Timestamp::from_millis(0))?;
/// let binding = Binding { run, flow: &flow, part: Part::Snapshot };
///
/// let sealed = codec.seal(&["state"], 7, binding)?;
/// let (state, sequence): (Vec<String>, u64) = codec.open(&sealed, binding)?;
/// assert_eq!((state, sequence), (vec!["state".to_owned()], 7));
///
/// // Bound to its run: in the record of another one, it does not open.
/// let other = Binding { run: RunId::new(Timestamp::from_millis(0))?, ..binding };
/// assert!(codec.open::<Vec<String>>(&sealed, other).is_err());
/// # Ok::<(), dynamic_flow::Error>(())
/// ```
#[derive(Clone)]
pub struct Codec {
    serializer: Option<Arc<dyn StateSerializer>>,
    compression: Compression,
    cipher: Cipher,
    encryptor: Option<Arc<dyn StateEncryptor>>,
    max_state_size: usize,
}

impl Codec {
    /// The default of [`CodecBuilder::max_state_size`]: 4 MiB.
    pub const DEFAULT_MAX_STATE_SIZE: usize = 4 << 20;

    /// State up to this size, uncompressed, is opened even by a codec with a lower
    /// `max_state_size`: lowering it must not strand runs. 64 MiB.
    pub const MAX_OPEN_SIZE: usize = 64 << 20;

    /// Starts to configure a codec.
    pub fn builder() -> CodecBuilder {
        CodecBuilder::default()
    }

    /// How state is protected.
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// Seals a value; `sequence` is bound to it and told again when it is opened.
    ///
    /// # Errors
    /// `SerializationError` for what JSON would change, `StateTooLarge` with both sizes.
    pub fn seal<T: Serialize>(
        &self,
        value: &T,
        sequence: u64,
        binding: Binding<'_>,
    ) -> Result<Sealed> {
        self.write(value)
            .and_then(|written| self.seal_written(self.max_state_size, written, sequence, binding))
            .map_err(|error| at(error, "seal", binding))
    }

    /// Seals state of the hub's own making. What JSON would change was refused where it came in, so
    /// that all is written as it is, and only its depth is looked at again.
    ///
    /// # Errors
    /// `SerializationError` for what nests too deep to be read back, `StateTooLarge`.
    pub(crate) fn seal_state<T: Serialize>(
        &self,
        state: &T,
        sequence: u64,
        binding: Binding<'_>,
    ) -> Result<Sealed> {
        self.seal_state_within(self.max_state_size, state, sequence, binding)
    }

    /// As [`Codec::seal_state`], of state that is stored already and only ends: all that this codec
    /// opens may be ended, so that lowering `max_state_size` strands no runs.
    pub(crate) fn seal_ending<T: Serialize>(
        &self,
        state: &T,
        sequence: u64,
        binding: Binding<'_>,
    ) -> Result<Sealed> {
        let limit = self.max_state_size.max(Self::MAX_OPEN_SIZE);
        self.seal_state_within(limit, state, sequence, binding)
    }

    fn seal_state_within<T: Serialize>(
        &self,
        limit: usize,
        state: &T,
        sequence: u64,
        binding: Binding<'_>,
    ) -> Result<Sealed> {
        let written = match self.serializer {
            Some(_) => self.write(state),
            None => value::to_json(state).map(|raw| (Encoding::Json, raw)),
        };
        written
            .and_then(|written| self.seal_written(limit, written, sequence, binding))
            .map_err(|error| at(error, "seal", binding))
    }

    /// Opens what [`Codec::seal`] made; gives the value and its sequence.
    ///
    /// # Errors
    /// `EncryptionError` for a wrong or missing key and for plaintext where it must be sealed;
    /// `CorruptState` for bytes that were changed, swapped or cut, and for a value that does not
    /// read back; `InvalidConfig` that names the feature for a compression that this build lacks.
    pub fn open<T: DeserializeOwned>(
        &self,
        sealed: &Sealed,
        binding: Binding<'_>,
    ) -> Result<(T, u64)> {
        self.open_value(sealed, binding).map_err(|error| at(error, "open", binding))
    }

    /// Seals with the active key what was sealed with an older one; the same value and sequence.
    ///
    /// # Errors
    /// As [`Codec::open`].
    pub fn reseal(&self, sealed: &Sealed, binding: Binding<'_>) -> Result<Sealed> {
        self.unseal(sealed, binding)
            .and_then(|(header, body)| self.enclose(header, body, binding))
            .map_err(|error| at(error, "reseal", binding))
    }

    /// Whether something is sealed in another way than this codec seals: with an older key, or with
    /// none. It is so for what can't be read, so that [`Codec::reseal`] tells why.
    pub fn needs_reseal(&self, sealed: &Sealed) -> bool {
        Header::decode(&sealed.0).map_or(true, |(header, _)| {
            header.cipher != self.cipher
                || self.encryptor.as_ref().is_some_and(|it| it.active_key() != header.key_id)
        })
    }

    /// Tells what can be told of sealed bytes without opening them.
    ///
    /// # Errors
    /// `CorruptState` for bytes whose header this version can't read.
    pub fn sealed_info(sealed: &Sealed) -> Result<SealedInfo> {
        let (header, _) = Header::decode(&sealed.0)?;
        Ok(SealedInfo {
            format: header.format,
            part: header.part,
            compression: header.compression,
            cipher: header.cipher,
            key_id: (header.cipher != Cipher::None).then_some(header.key_id),
            sequence: header.sequence,
            bytes: sealed.0.len(),
        })
    }

    fn write<T: Serialize>(&self, value: &T) -> Result<(Encoding, Vec<u8>)> {
        let value = value::to_value(value)?;
        Ok(match &self.serializer {
            Some(serializer) => (Encoding::Custom, serializer.serialize(&value)?),
            None => (Encoding::Json, serde_json::to_vec(&value).map_err(unwritable)?),
        })
    }

    fn seal_written(
        &self,
        limit: usize,
        (encoding, raw): (Encoding, Vec<u8>),
        sequence: u64,
        binding: Binding<'_>,
    ) -> Result<Sealed> {
        if raw.len() > limit {
            return Err(Error::new(
                ErrorKind::StateTooLarge,
                "the state is larger than max_state_size; keep less in it, or raise the limit",
            )
            .with("size", raw.len())
            .with("limit", limit));
        }
        let (compression, body) = self.compression.compress(raw, binding.part)?;
        let header = Header {
            format: envelope::FORMAT,
            part: binding.part,
            encoding,
            compression,
            cipher: self.cipher,
            key_id: KeyId::from_bytes([0; 8]),
            sequence,
            nonce: [0; seal::NONCE_BYTES],
        };
        self.enclose(header, body, binding)
    }

    fn open_value<T: DeserializeOwned>(
        &self,
        sealed: &Sealed,
        binding: Binding<'_>,
    ) -> Result<(T, u64)> {
        let (header, body) = self.unseal(sealed, binding)?;
        let limit = self.max_state_size.max(Self::MAX_OPEN_SIZE);
        let raw = header.compression.decompress(body, header.format, limit)?;
        let value = match (header.encoding, &self.serializer) {
            (Encoding::Json, _) => read_json(&raw).map_err(|error| {
                let (complaint, place) = value::complaint(&error, &raw);
                value::located(unreadable(&complaint), place)
            })?,
            (Encoding::Custom, Some(serializer)) => {
                value::from_value(&serializer.deserialize(&raw)?)
                    .map_err(|error| unreadable(error.message()))?
            }
            (Encoding::Custom, None) => {
                return Err(Error::new(
                    ErrorKind::InvalidConfig,
                    "a serializer of one's own wrote the state; put the same one into the codec",
                ));
            }
        };
        Ok((value, header.sequence))
    }

    /// Encrypts a body and puts the header before it.
    fn enclose(
        &self,
        mut header: Header,
        mut body: Vec<u8>,
        binding: Binding<'_>,
    ) -> Result<Sealed> {
        header.cipher = self.cipher;
        let associated = match &self.encryptor {
            Some(encryptor) => {
                header.key_id = encryptor.active_key();
                os_random(&mut header.nonce)?;
                let associated = associated(&header, binding);
                encryptor.seal(&context(&header, binding, &associated), &mut body)?;
                associated
            }
            None => {
                let associated = associated(&header, binding);
                seal::append_checksum(&associated, &mut body);
                associated
            }
        };
        let mut bytes = Vec::with_capacity(Header::BYTES + body.len());
        bytes.extend_from_slice(&associated[..Header::BYTES]);
        bytes.append(&mut body);
        Ok(Sealed(bytes))
    }

    /// Checks and decrypts; gives the header and the body, which may be compressed.
    fn unseal(&self, sealed: &Sealed, binding: Binding<'_>) -> Result<(Header, Vec<u8>)> {
        let (header, body) = Header::decode(&sealed.0)?;
        if header.part != binding.part {
            return Err(Error::new(
                ErrorKind::CorruptState,
                "the state is another part of a record than the place where it was found",
            ));
        }
        let mut body = body.to_vec();
        let associated = associated(&header, binding);
        match (&self.encryptor, header.cipher) {
            (None, Cipher::None) => {
                if !seal::strip_checksum(&associated, &mut body) {
                    return Err(Error::new(
                        ErrorKind::CorruptState,
                        "the state was changed, cut or swapped: its checksum is wrong",
                    ));
                }
            }
            (Some(encryptor), cipher) if cipher == self.cipher => {
                encryptor.open(&context(&header, binding, &associated), &mut body)?;
            }
            (Some(_), Cipher::None) => {
                return Err(encryption(
                    "the state is not sealed, and with a keyring no such state is taken; was it \
                     stored before there was one, or by somebody else?",
                ));
            }
            (None, _) => {
                return Err(encryption(
                    "the state is sealed; a keyring with its key is needed (FLOW_ENCRYPTION_KEY)",
                )
                .with("key_id", header.key_id));
            }
            (Some(_), cipher) => {
                return Err(encryption("the state was sealed by another encryptor than this one")
                    .with("cipher", cipher));
            }
        }
        Ok((header, body))
    }
}

/// What is authenticated with the body: the header, and what it is bound to.
fn associated(header: &Header, binding: Binding<'_>) -> Vec<u8> {
    let flow = binding.flow.as_str().as_bytes();
    let mut bytes = Vec::with_capacity(Header::BYTES + 16 + flow.len());
    bytes.extend_from_slice(&header.encode());
    bytes.extend_from_slice(binding.run.as_bytes());
    bytes.extend_from_slice(flow);
    bytes
}

fn context<'a>(header: &'a Header, binding: Binding<'_>, associated: &'a [u8]) -> SealContext<'a> {
    SealContext { run: binding.run, key_id: header.key_id, nonce: &header.nonce, associated }
}

fn at(error: Error, operation: &'static str, binding: Binding<'_>) -> Error {
    error.with_operation(operation).with_run(binding.run).with("part", binding.part)
}

fn encryption(message: &'static str) -> Error {
    Error::new(ErrorKind::EncryptionError, message)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unwritable(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::SerializationError, "the state can't be written as JSON")
        .with_source(error.to_string())
}

/// That it is UTF-8 is quicker to see of the whole than of one text after the other.
fn read_json<T: DeserializeOwned>(raw: &[u8]) -> serde_json::Result<T> {
    match std::str::from_utf8(raw) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(raw),
    }
}

fn unreadable(complaint: &str) -> Error {
    Error::new(ErrorKind::CorruptState, format!("the state does not read back: {complaint}"))
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec")
            .field("cipher", &self.cipher)
            .field("compression", &self.compression)
            .field("max_state_size", &self.max_state_size)
            .finish_non_exhaustive()
    }
}

mod base64_bytes {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        STANDARD_NO_PAD.decode(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}
