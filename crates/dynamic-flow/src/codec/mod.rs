//! From state to sealed bytes and back: serialise → compress → encrypt.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Result,
    id::{FlowId, RunId},
    store::Sealed,
};

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
