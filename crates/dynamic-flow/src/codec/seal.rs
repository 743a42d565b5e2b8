//! Sealing: AES-256-GCM under a key of the run, or a checksum where no keyring is.

use aes_gcm::{Aes256Gcm, KeyInit, aead::AeadInOut};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{EncryptionKey, KeyId, Keyring};
use crate::{Error, ErrorKind, Result, id::RunId};

/// How many bytes of fresh randomness each sealing gets.
pub(super) const NONCE_BYTES: usize = 12;

const SUBKEY_LABEL: &[u8] = b"dynamic-flow state v1 aes-256-gcm";
const CHECKSUM_LABEL: &[u8] = b"dynamic-flow state v1 checksum";
const CHECKSUM_BYTES: usize = 16;

/// What a body is sealed with, and bound to.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SealContext<'a> {
    /// The run that it belongs to.
    pub run: RunId,
    /// The key that it is sealed with.
    pub key_id: KeyId,
    /// 96 fresh bits from the operating system for each sealing; kept in the header.
    pub nonce: &'a [u8; NONCE_BYTES],
    /// What must be authenticated with it: the header and what it is bound to.
    pub associated: &'a [u8],
}

/// Encrypts state; a [`Keyring`] is one, with AES-256-GCM.
///
/// What it seals must not open when anything in the [`SealContext`] differs, nor when a byte of it was
/// changed: nothing inside has a checksum of its own.
pub trait StateEncryptor: Send + Sync {
    /// The key that [`StateEncryptor::seal`] uses: 8 bytes of which nothing is secret.
    fn active_key(&self) -> KeyId;

    /// Replaces a body by its sealed form.
    ///
    /// # Errors
    /// `EncryptionError`, without a word of the body.
    fn seal(&self, context: &SealContext<'_>, body: &mut Vec<u8>) -> Result<()>;

    /// Replaces a sealed body by what it was made of.
    ///
    /// # Errors
    /// `EncryptionError` for a key that is not at hand, and for a body that was changed or swapped.
    fn open(&self, context: &SealContext<'_>, body: &mut Vec<u8>) -> Result<()>;
}

impl StateEncryptor for Keyring {
    fn active_key(&self) -> KeyId {
        self.active_id()
    }

    fn seal(&self, context: &SealContext<'_>, body: &mut Vec<u8>) -> Result<()> {
        cipher(self.active(), context.run)
            .encrypt_in_place(&(*context.nonce).into(), context.associated, body)
            .map_err(|_| Error::new(ErrorKind::EncryptionError, "the state can't be sealed"))
    }

    fn open(&self, context: &SealContext<'_>, body: &mut Vec<u8>) -> Result<()> {
        let Some(key) = self.find(context.key_id) else {
            return Err(Error::new(
                ErrorKind::EncryptionError,
                "the state is sealed with a key that is not in the keyring; add it as an older key",
            )
            .with("key_id", context.key_id));
        };
        cipher(key, context.run)
            .decrypt_in_place(&(*context.nonce).into(), context.associated, body)
            .map_err(|_| {
                Error::new(
                    ErrorKind::EncryptionError,
                    "the state does not open: it was changed, swapped, or sealed with another key",
                )
            })
    }
}

/// Each run has a key of its own, so that nonces need only be unique within it.
fn cipher(key: &EncryptionKey, run: RunId) -> Aes256Gcm {
    let mut subkey = Zeroizing::new([0; EncryptionKey::BYTES]);
    Hkdf::<Sha256>::new(Some(run.as_bytes()), key.as_bytes())
        .expand(SUBKEY_LABEL, &mut *subkey)
        .expect("32 bytes are within what HKDF gives");
    Aes256Gcm::new(&(*subkey).into())
}

/// Appends a checksum: what takes the place of a tag where there is no key.
pub(super) fn append_checksum(associated: &[u8], body: &mut Vec<u8>) {
    let checksum = checksum(associated, body);
    body.extend_from_slice(&checksum);
}

/// Takes the checksum off; `false` if it is not the right one.
pub(super) fn strip_checksum(associated: &[u8], body: &mut Vec<u8>) -> bool {
    let Some(end) = body.len().checked_sub(CHECKSUM_BYTES) else { return false };
    let is_right = checksum(associated, &body[..end]).ct_eq(&body[end..]).into();
    body.truncate(end);
    is_right
}

fn checksum(associated: &[u8], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new_with_prefix(CHECKSUM_LABEL)
        .chain_update((associated.len() as u64).to_be_bytes())
        .chain_update(associated)
        .chain_update(body)
        .finalize();
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
    checksum
}
