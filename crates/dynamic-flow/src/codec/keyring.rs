//! Keys: one that seals, and older ones that still open.

use std::{env, fmt, str::FromStr};

use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{Error, ErrorKind, Result, id::os_random};

/// Sets a key's name apart from every other use of SHA-256 over it.
const ID_LABEL: &[u8] = b"dynamic-flow key id v1";

/// Names a key without telling anything of it: the first 8 bytes of a hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// The id of those bytes, for encryptors of one's own.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The id's bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A master key: exactly 32 bytes. `Debug` shows its id only, and it is zeroed when dropped.
///
/// Read from base64 (standard or URL-safe, with or without padding) or hexadecimal; anything else
/// is `InvalidConfig`, never stretched or padded to fit.
///
/// ```
/// use dynamic_flow::codec::EncryptionKey;
///
/// let key = EncryptionKey::generate().unwrap();
/// let same: EncryptionKey = key.expose().parse().unwrap();
/// assert_eq!(same.id(), key.id());
/// assert!("correct horse battery staple".parse::<EncryptionKey>().is_err());
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct EncryptionKey([u8; Self::BYTES]);

impl EncryptionKey {
    /// How many bytes a key has.
    pub const BYTES: usize = 32;

    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self> {
        let mut key = Self([0; Self::BYTES]);
        os_random(&mut key.0)?;
        Ok(key)
    }

    /// The key of those bytes.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Names the key without telling anything of it.
    pub fn id(&self) -> KeyId {
        let digest = Sha256::new_with_prefix(ID_LABEL).chain_update(self.0).finalize();
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        KeyId(id)
    }

    /// Spells the key out in base64, to configure it somewhere. Keep it out of logs.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(self.0))
    }

    pub(super) fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl FromStr for EncryptionKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let mut key = Self([0; Self::BYTES]);
        // Base64 of 32 bytes has at most 44 characters: hexadecimal is never mistaken for it.
        let is_read = if text.len() == 2 * Self::BYTES {
            hex::decode_to_slice(text, &mut key.0).is_ok()
        } else {
            let alphabet = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
            let config = GeneralPurposeConfig::new()
                .with_decode_padding_mode(DecodePaddingMode::Indifferent);
            let engine = GeneralPurpose::new(&alphabet, config);
            engine.decode_slice(text, &mut key.0).is_ok_and(|bytes| bytes == Self::BYTES)
        };
        is_read.then_some(key).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidConfig,
                "an encryption key is exactly 32 bytes in base64 or hexadecimal; `dflow keygen` makes one",
            )
        })
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptionKey(id {})", self.id())
    }
}

/// The keys at hand: the active one seals, all of them open.
///
/// To rotate, make a new key active and keep the old one as an older one until everything is
/// sealed anew. Written as keys with commas between, the active one first.
///
/// ```
/// use dynamic_flow::codec::{EncryptionKey, Keyring};
///
/// let old = EncryptionKey::generate().unwrap();
/// let new = EncryptionKey::generate().unwrap();
/// let keyring = Keyring::new(new.clone()).with_older(old.clone());
/// assert_eq!(keyring.active().id(), new.id());
///
/// let text = format!("{},{}", *new.expose(), *old.expose());
/// assert_eq!(text.parse::<Keyring>().unwrap().key_ids(), keyring.key_ids());
/// ```
#[derive(Clone)]
pub struct Keyring {
    active: Entry,
    older: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    id: KeyId,
    key: EncryptionKey,
}

impl From<EncryptionKey> for Entry {
    fn from(key: EncryptionKey) -> Self {
        Self { id: key.id(), key }
    }
}

impl Keyring {
    /// The environment variable that [`Keyring::from_env`] reads.
    pub const ENV: &'static str = "FLOW_ENCRYPTION_KEY";

    /// A keyring with that key as the active one.
    pub fn new(active: EncryptionKey) -> Self {
        Self { active: active.into(), older: Vec::new() }
    }

    /// Adds a key that only opens.
    #[must_use]
    pub fn with_older(mut self, key: EncryptionKey) -> Self {
        self.older.push(key.into());
        self
    }

    /// The keyring that `FLOW_ENCRYPTION_KEY` holds; none if it is not set.
    ///
    /// # Errors
    /// `InvalidConfig` when it is set to anything but keys with commas between.
    pub fn from_env() -> Result<Option<Self>> {
        match env::var(Self::ENV) {
            Ok(text) => {
                let text = Zeroizing::new(text);
                text.parse().map(Some).map_err(|error: Error| error.with("variable", Self::ENV))
            }
            Err(env::VarError::NotPresent) => Ok(None),
            Err(env::VarError::NotUnicode(_)) => {
                Err(Error::new(ErrorKind::InvalidConfig, "the variable is no text")
                    .with("variable", Self::ENV))
            }
        }
    }

    /// The keyring that `FLOW_ENCRYPTION_KEY` holds, where one must be there: a variable that is
    /// misspelled leaves no state unsealed.
    ///
    /// # Errors
    /// `InvalidConfig` when it is not set, or set to anything but keys with commas between.
    pub fn require_env() -> Result<Self> {
        Self::from_env()?.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidConfig,
                "no encryption key is set; `dflow keygen` makes one",
            )
            .with("variable", Self::ENV)
        })
    }

    /// The key that seals.
    pub fn active(&self) -> &EncryptionKey {
        &self.active.key
    }

    /// The ids of all keys, the active one first.
    pub fn key_ids(&self) -> Vec<KeyId> {
        self.entries().map(|entry| entry.id).collect()
    }

    pub(super) fn active_id(&self) -> KeyId {
        self.active.id
    }

    pub(super) fn find(&self, id: KeyId) -> Option<&EncryptionKey> {
        self.entries().find(|entry| entry.id == id).map(|entry| &entry.key)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        std::iter::once(&self.active).chain(&self.older)
    }
}

impl FromStr for Keyring {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut keys = text.split(',').map(EncryptionKey::from_str);
        // `split` gives at least one part, and an empty one is no key.
        let active = keys.next().unwrap_or_else(|| EncryptionKey::from_str(""))?;
        keys.try_fold(Self::new(active), |keyring, key| Ok(keyring.with_older(key?)))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring(ids {:?})", self.key_ids())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; 32] = [
        0xfb, 0xef, 0xff, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
        23, 24, 25, 26, 27, 28, 29, 30, 0xff,
    ];

    #[test]
    fn a_key_is_read_from_base64_and_hexadecimal() {
        let standard = "++//AwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHv8=";
        let url_safe = standard.replace('+', "-").replace('/', "_");
        let hexadecimal = hex::encode(BYTES);
        for text in [
            standard,
            standard.trim_end_matches('='),
            &url_safe,
            url_safe.trim_end_matches('='),
            &hexadecimal,
            &hexadecimal.to_uppercase(),
            &format!(" {standard}\n"),
        ] {
            assert_eq!(text.parse::<EncryptionKey>().unwrap().as_bytes(), &BYTES, "{text}");
        }
        assert_eq!(*EncryptionKey::from_bytes(BYTES).expose(), standard);
    }

    #[test]
    fn what_is_not_exactly_32_bytes_is_no_key() {
        let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        for text in [
            String::new(),
            " ".into(),
            "password".into(),
            base64(&[7; 31]),
            base64(&[7; 33]),
            base64(&[7; 48]),
            hex::encode([7; 31]),
            hex::encode([7; 33]),
            "z".repeat(64),
            "a".repeat(32),
            "é".repeat(32),
        ] {
            let error = text.parse::<EncryptionKey>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(text.trim().is_empty() || !error.to_string().contains(&text), "{error}");
            assert!(text.parse::<Keyring>().is_err());
        }
        let key = base64(&[7; 32]);
        for text in [format!("{key},"), format!(",{key}"), format!("{key},short")] {
            assert_eq!(text.parse::<Keyring>().unwrap_err().kind(), ErrorKind::InvalidConfig);
        }
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let key = EncryptionKey::from_bytes(BYTES);
        let keyring = Keyring::new(key.clone()).with_older(EncryptionKey::from_bytes([9; 32]));
        for shown in [format!("{key:?}"), format!("{keyring:?}")] {
            assert!(shown.contains(&key.id().to_string()), "{shown}");
            assert!(!shown.contains(&*key.expose()) && !shown.contains(&hex::encode(BYTES)));
            assert!(!shown.contains("251") && !shown.contains("fbefff"));
        }
        assert!(!hex::encode(BYTES).contains(&key.id().to_string()));
    }
}
