//! A store, a clock and keys that are the same each time.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
};

use dynamic_flow::{
    Result, RunId, SuspensionKey, Timestamp,
    codec::{Codec, CodecBuilder, Compression, Keyring},
    hub::{HubBuilder, KeyGenerator, PersistenceHub},
    store::MemoryStore,
    testkit::ManualClock,
};
use serde_json::Value;
use tokio::sync::watch;

/// The test key, of which nothing secret is sealed.
const ENCRYPTION_KEY: &str = "6b6579206f66207468652064796e616d69632d666c6f7720676f6c64656e2121";

pub(crate) type Done<T> = Pin<Box<dyn Future<Output = T>>>;

/// A run that is parked in a certain way, and what must become of it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) sealing: Sealing,
    pub(crate) park: fn(World) -> Done<Parked>,
    pub(crate) finish: fn(World, Golden) -> Done<()>,
}

/// What a case leaves behind beside its record.
pub(crate) struct Parked {
    pub(crate) run: RunId,
    pub(crate) key: Option<SuspensionKey>,
    /// Anything else that must stay as it is.
    pub(crate) note: Value,
}

/// What is known of a golden record beside itself.
pub(crate) struct Golden {
    pub(crate) run: RunId,
    pub(crate) key: Option<SuspensionKey>,
    pub(crate) note: Value,
}

impl Golden {
    pub(crate) fn key(&self) -> &SuspensionKey {
        self.key.as_ref().expect("the case has a wait")
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sealing {
    PlainNone,
    PlainGzip,
    PlainZstd,
    SealedNone,
    SealedGzip,
    SealedZstd,
}

impl Sealing {
    fn is_sealed(self) -> bool {
        matches!(self, Self::SealedNone | Self::SealedGzip | Self::SealedZstd)
    }

    pub(crate) fn compression(self) -> Compression {
        match self {
            Self::PlainNone | Self::SealedNone => Compression::None,
            Self::PlainGzip | Self::SealedGzip => Compression::Gzip,
            Self::PlainZstd | Self::SealedZstd => Compression::Zstd,
        }
    }

    fn builder(self) -> CodecBuilder {
        match self.is_sealed() {
            true => Codec::builder().keyring(Keyring::new(ENCRYPTION_KEY.parse().unwrap())),
            false => Codec::builder().plaintext(),
        }
    }

    pub(crate) fn codec(self) -> Codec {
        self.builder().build().unwrap()
    }
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: ManualClock,
    /// How often the tools before the waits ran.
    pub(crate) before: Arc<AtomicUsize>,
    /// The idempotency key of the last charge.
    pub(crate) charged: watch::Sender<String>,
    /// Whether what failed or hung when the run was parked works by now.
    pub(crate) mended: bool,
    sealing: Sealing,
    keys: Keys,
}

impl World {
    /// Where runs are parked.
    pub(crate) fn then(sealing: Sealing) -> Self {
        Self::at("2026-11-23T08:00:00Z".parse().unwrap(), sealing, false)
    }

    /// Where a golden record is found, at the time at which it was parked.
    pub(crate) fn now(at: Timestamp, sealing: Sealing) -> Self {
        Self::at(at, sealing, true)
    }

    fn at(at: Timestamp, sealing: Sealing, mended: bool) -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            clock: ManualClock::new(at),
            before: Arc::default(),
            charged: watch::Sender::default(),
            mended,
            sealing,
            keys: Keys(Arc::new(AtomicU8::new(if mended { 128 } else { 0 }))),
        }
    }

    fn builder(&self) -> HubBuilder {
        PersistenceHub::builder(self.store.clone())
            .codec(self.sealing.builder().compression(self.sealing.compression()))
            .clock(self.clock.clone())
            .key_generator(self.keys.clone())
            .owner("golden")
    }

    pub(crate) async fn hub(&self) -> PersistenceHub {
        self.builder().build().await.unwrap()
    }

    pub(crate) fn assert_nothing_ran_again(&self) {
        assert_eq!(self.before.load(Ordering::SeqCst), 0, "a step before the wait ran again");
    }
}

/// Secrets that are the same each time, so that what is stored of them is.
#[derive(Clone)]
struct Keys(Arc<AtomicU8>);

impl KeyGenerator for Keys {
    fn generate(&self, run: RunId) -> Result<SuspensionKey> {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        Ok(SuspensionKey::from_secret(run, [number; 32]))
    }
}
