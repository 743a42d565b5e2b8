//! Configuration of a codec: how state is protected must be said.

use std::{fmt, sync::Arc};

use super::{Cipher, Codec, Compression, Keyring, StateEncryptor, StateSerializer};
use crate::{Error, ErrorKind, Result};

/// Configures a [`Codec`]. One of `keyring`, `encryptor` and `plaintext` must be said.
#[derive(Clone, Default)]
pub struct CodecBuilder {
    keyring: Option<Keyring>,
    encryptor: Option<Arc<dyn StateEncryptor>>,
    plaintext: bool,
    serializer: Option<Arc<dyn StateSerializer>>,
    compression: Option<Compression>,
    max_state_size: Option<usize>,
}

impl CodecBuilder {
    /// Seals with AES-256-GCM under keys derived from the active key of the keyring.
    #[must_use]
    pub fn keyring(mut self, keyring: Keyring) -> Self {
        self.keyring = Some(keyring);
        self
    }

    /// Seals with an encryptor of one's own.
    #[must_use]
    pub fn encryptor(mut self, encryptor: Arc<dyn StateEncryptor>) -> Self {
        self.encryptor = Some(encryptor);
        self
    }

    /// Stores state so that everybody who reads the store can read it.
    #[must_use]
    pub fn plaintext(mut self) -> Self {
        self.plaintext = true;
        self
    }

    /// Writes values with a serializer of one's own in place of JSON.
    #[must_use]
    pub fn serializer(mut self, serializer: Arc<dyn StateSerializer>) -> Self {
        self.serializer = Some(serializer);
        self
    }

    /// How state is compressed. What is stored already opens whatever is said here.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// How large state may be, in bytes before compression; 4 MiB if not said.
    #[must_use]
    pub fn max_state_size(mut self, bytes: usize) -> Self {
        self.max_state_size = Some(bytes);
        self
    }

    /// What was said of compression, and of how large state may be.
    pub(crate) fn plain_settings(&self) -> (Option<Compression>, Option<usize>) {
        (self.compression, self.max_state_size)
    }

    /// Makes the codec.
    ///
    /// # Errors
    /// `InvalidConfig` when none or several of `keyring`, `encryptor` and `plaintext` are said, and
    /// for a compression that this build lacks.
    pub fn build(self) -> Result<Codec> {
        let compression = self.compression.unwrap_or_default();
        let max_state_size = self.max_state_size.unwrap_or(Codec::DEFAULT_MAX_STATE_SIZE);
        let (cipher, encryptor): (_, Option<Arc<dyn StateEncryptor>>) =
            match (self.keyring, self.encryptor, self.plaintext) {
                (Some(keyring), None, false) => (Cipher::Aes256Gcm, Some(Arc::new(keyring))),
                (None, Some(encryptor), false) => (Cipher::Custom, Some(encryptor)),
                (None, None, true) => (Cipher::None, None),
                (None, None, false) => {
                    return Err(Error::new(
                        ErrorKind::InvalidConfig,
                        "neither a keyring nor plaintext was said: give `.keyring(…)`, which \
                         `Keyring::from_env` reads from FLOW_ENCRYPTION_KEY, or say `.plaintext()` \
                         if everybody who reads the store may read the state",
                    ));
                }
                _ => {
                    return Err(Error::new(
                        ErrorKind::InvalidConfig,
                        "only one of keyring, encryptor and plaintext can be said",
                    ));
                }
            };
        compression.check_available()?;
        Ok(Codec { serializer: self.serializer, compression, cipher, encryptor, max_state_size })
    }
}

impl fmt::Debug for CodecBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodecBuilder")
            .field("keyring", &self.keyring)
            .field("plaintext", &self.plaintext)
            .field("compression", &self.compression)
            .field("max_state_size", &self.max_state_size)
            .finish_non_exhaustive()
    }
}
