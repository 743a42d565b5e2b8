//! Identifiers, and the secret that entitles to answer a wait.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{Error, ErrorKind, clock::Timestamp};

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The id's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<&String> for $name {
            fn from(text: &String) -> Self {
                Self(text.as_str().into())
            }
        }

        impl From<std::sync::Arc<str>> for $name {
            fn from(text: std::sync::Arc<str>) -> Self {
                Self(text)
            }
        }

        impl From<&$name> for $name {
            fn from(id: &$name) -> Self {
                id.clone()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }
    };
}

string_id! {
    /// Names a flow; the same in every process and after every deploy.
    FlowId
}
string_id! {
    /// Names a step among its siblings, which are all steps in all bodies of one parent.
    StepId
}
string_id! {
    /// Names a tool.
    ToolId
}
string_id! {
    /// Names a wait within its run: the position of the step that opened it, and which time that was.
    WaitId
}

/// The longest id of a flow, step or tool, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// Says what is wrong with the id of a flow, step or tool, if anything is.
///
/// Letters, digits, `-`, `_` and `.`; not empty; at most [`MAX_ID_BYTES`] bytes. Letters may be
/// of any alphabet.
pub(crate) fn id_problem(id: &str) -> Option<String> {
    if id.is_empty() {
        return Some("an id must not be empty".into());
    }
    if id.len() > MAX_ID_BYTES {
        return Some(format!("an id has at most {MAX_ID_BYTES} bytes, this one has {}", id.len()));
    }
    let foreign = id.chars().find(|c| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.')))?;
    Some(format!("an id has letters, digits, '-', '_' and '.', not {foreign:?}"))
}

/// Names a run: a UUIDv7, so that ids sort by the time at which their run was created.
///
/// Hubs make them. Where a run must be started once only, the caller chooses the id before it starts
/// the run: see [`RunOptions::id`](crate::hub::RunOptions::id).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Uuid);

impl RunId {
    /// A new id for a run created at that time, with 74 random bits.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn new(now: Timestamp) -> Result<Self, Error> {
        let mut random = [0; 10];
        os_random(&mut random)?;
        Ok(Self::of_bits(now, &random))
    }

    /// The id of the one run for something: the same time and name give the same id, in every process
    /// and build.
    ///
    /// `at` becomes the time at which the run was created, so it is best when that something came to
    /// be, to the millisecond; `name` tells it from all else, such as `order 2048`. 74 bits of the
    /// SHA-256 of `dynamic-flow run`, a zero byte and the name take the place of the random ones.
    ///
    /// ```
    /// use dynamic_flow::{RunId, Timestamp};
    ///
    /// let ordered_at = Timestamp::from_millis(1_795_420_800_000);
    /// let id = RunId::derive(ordered_at, "order 2048");
    /// assert_eq!(id, RunId::derive(ordered_at, "order 2048"));
    /// assert_ne!(id, RunId::derive(ordered_at, "order 2049"));
    /// assert_eq!(id.created_at(), ordered_at);
    /// ```
    #[must_use]
    pub fn derive(at: Timestamp, name: &str) -> Self {
        let digest =
            Sha256::new().chain_update(b"dynamic-flow run\0").chain_update(name).finalize();
        let mut bits = [0; 10];
        bits.copy_from_slice(&digest[..10]);
        Self::of_bits(at, &bits)
    }

    fn of_bits(at: Timestamp, bits: &[u8; 10]) -> Self {
        let millis = u64::try_from(at.as_millis()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, bits).into_uuid())
    }

    /// Refuses an id that a caller chose and whose time is not one: runs are listed by it.
    pub(crate) fn check_made(self, now: Timestamp) -> Result<(), Error> {
        let problem = if self.0.get_version_num() != 7 {
            "is no UUIDv7: a run's id holds the time at which it was created"
        } else if self.created_at() > now.after(crate::days(1)) {
            "holds a time more than a day from now, which is not when its run is created"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidArgument, format!("the id {self} {problem}")))
    }

    /// When the run was created, as its id holds it.
    pub fn created_at(self) -> Timestamp {
        let bytes = self.0.as_bytes();
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(&bytes[..6]);
        Timestamp::from_millis(i64::from_be_bytes(millis))
    }

    /// The least id of a run created at `at`: ids compare with it as their times compare with `at`.
    #[must_use]
    pub fn floor(at: Timestamp) -> Self {
        let millis = u64::try_from(at.as_millis()).unwrap_or(0).min((1 << 48) - 1);
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        Self(Uuid::from_bytes(bytes))
    }

    /// The id of those bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The id's 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RunId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let uuid = Uuid::try_parse(text).map_err(|_| {
            Error::new(ErrorKind::InvalidArgument, "not a run id; `dflow list` shows them")
        })?;
        Ok(Self(uuid))
    }
}

/// Counts the writes of a record; what a conditional update compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision of a record that was just inserted.
    pub const FIRST: Self = Self(1);

    /// The revision after one more write.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Counts the holders of a record's lease, and those who write a parked run's state anew; never
/// repeats.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of the next holder.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// SHA-256 of a key's secret: all of a key that is ever stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of those bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for KeyDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for KeyDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(serde::de::Error::custom)?;
        bytes.try_into().map(Self).map_err(|_| serde::de::Error::custom("a digest has 32 bytes"))
    }
}

/// The secret that entitles its holder to answer one wait of one run.
///
/// Written `df_` and the URL-safe base64 of the run's id and 32 secret bytes from the operating
/// system. It is never stored: stores keep [`SuspensionKey::digest`]. `Debug` is redacted, and
/// the secret is zeroed when the key is dropped; [`SuspensionKey::expose`] spells it out.
///
/// ```
/// use dynamic_flow::{RunId, SuspensionKey, Timestamp};
/// let run = RunId::new(Timestamp::from_millis(0)).unwrap();
/// let key = SuspensionKey::generate(run).unwrap();
/// assert!(key.expose().starts_with("df_"));
/// assert_eq!(format!("{key:?}"), "SuspensionKey(df_…)");
/// assert_eq!(key.expose().parse::<SuspensionKey>().unwrap().run_id(), run);
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SuspensionKey {
    #[zeroize(skip)]
    run: RunId,
    secret: [u8; 32],
}

impl SuspensionKey {
    const PREFIX: &'static str = "df_";

    /// A new key for that run, from the operating system's randomness.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate(run: RunId) -> Result<Self, Error> {
        let mut secret = [0; 32];
        os_random(&mut secret)?;
        Ok(Self { run, secret })
    }

    /// The key of that run with that secret, for key generators of one's own.
    pub fn from_secret(run: RunId, secret: [u8; 32]) -> Self {
        Self { run, secret }
    }

    /// The run whose wait it answers.
    pub fn run_id(&self) -> RunId {
        self.run
    }

    /// What is stored of it.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest(Sha256::digest(self.secret).into())
    }

    /// Spells the key out, to hand it to whoever shall answer. Keep it out of logs.
    pub fn expose(&self) -> String {
        let mut bytes = [0; 48];
        bytes[..16].copy_from_slice(self.run.as_bytes());
        bytes[16..].copy_from_slice(&self.secret);
        let text = format!("{}{}", Self::PREFIX, URL_SAFE_NO_PAD.encode(bytes));
        bytes.zeroize();
        text
    }

    /// What everybody hears who has no right key, whatever is wrong with theirs.
    pub(crate) fn not_found() -> Error {
        Error::new(
            ErrorKind::SuspensionKeyNotFound,
            "no open wait has this key; check that the key is complete, and that this is the right store",
        )
    }
}

/// From its text, as a path or a body of a request has it. It is never serialized.
impl<'de> Deserialize<'de> for SuspensionKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = zeroize::Zeroizing::new(String::deserialize(deserializer)?);
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for SuspensionKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim().strip_prefix(Self::PREFIX).ok_or_else(Self::not_found)?;
        let mut bytes = [0; 48];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(48) => {}
            _ => return Err(Self::not_found()),
        }
        let mut run = [0; 16];
        let mut secret = [0; 32];
        run.copy_from_slice(&bytes[..16]);
        secret.copy_from_slice(&bytes[16..]);
        bytes.zeroize();
        Ok(Self { run: RunId::from_bytes(run), secret })
    }
}

impl fmt::Debug for SuspensionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SuspensionKey(df_…)")
    }
}

/// Fills `bytes` from the operating system's generator.
pub(crate) fn os_random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|error| {
        Error::new(ErrorKind::StorageError, "the operating system gave no randomness")
            .with_source(error.to_string())
    })
}
