//! From state to sealed bytes and back: serialise → compress → encrypt.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Result,
    id::{FlowId, RunId},
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
pub enum Part {
    /// The snapshot.
    Snapshot,
    /// An item of the inbox.
    Inbox,
}

/// Seals and opens state.
pub struct Codec {}

impl Codec {
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
        let _ = (value, sequence, binding);
        unimplemented!()
    }

    /// Opens what [`Codec::seal`] made; gives the value and its sequence.
    ///
    /// # Errors
    /// `EncryptionError` for a wrong or missing key and for plaintext where it must be sealed;
    /// `CorruptState` for bytes that were changed, swapped or cut, and for a value that does not read back.
    pub fn open<T: DeserializeOwned>(
        &self,
        sealed: &Sealed,
        binding: Binding<'_>,
    ) -> Result<(T, u64)> {
        let _ = (sealed, binding);
        unimplemented!()
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
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
