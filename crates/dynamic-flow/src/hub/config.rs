//! Settings of a hub, and building one.

mod options;

use std::{
    fmt,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::Duration,
};

use tokio::sync::{Notify, broadcast, watch};

pub use self::options::HubOptions;
use super::{Inner, PersistenceHub, events::Notifier, lease::Keeper, skips::Skips, vault::Vault};
use crate::{
    Result,
    clock::{Clock, SystemClock},
    codec::{Codec, CodecBuilder, Compression, Keyring},
    engine::host::Durability,
    id::{RunId, SuspensionKey},
    store::Store,
    tool::ToolRegistry,
};

/// Makes suspension keys; the default takes 32 bytes from the operating system.
pub trait KeyGenerator: Send + Sync + 'static {
    /// A new key for a wait of that run, never the same twice.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    fn generate(&self, run: RunId) -> Result<SuspensionKey>;
}

impl<T: KeyGenerator + ?Sized> KeyGenerator for Arc<T> {
    fn generate(&self, run: RunId) -> Result<SuspensionKey> {
        (**self).generate(run)
    }
}

/// The operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsKeyGenerator;

impl KeyGenerator for OsKeyGenerator {
    fn generate(&self, run: RunId) -> Result<SuspensionKey> {
        SuspensionKey::generate(run)
    }
}

/// Builds a [`PersistenceHub`]; see [`PersistenceHub::builder`].
#[must_use]
pub struct HubBuilder {
    store: Arc<dyn Store>,
    codec: CodecBuilder,
    options: HubOptions,
    clock: Arc<dyn Clock>,
    keys: Arc<dyn KeyGenerator>,
    notifier: Option<Arc<dyn Notifier>>,
    tools: ToolRegistry,
    owner: Option<String>,
}

impl HubBuilder {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            codec: Codec::builder(),
            options: HubOptions::default(),
            clock: Arc::new(SystemClock),
            keys: Arc::new(OsKeyGenerator),
            notifier: None,
            tools: ToolRegistry::new(),
            owner: None,
        }
    }

    /// Seals all state with these keys.
    pub fn keyring(mut self, keyring: Keyring) -> Self {
        self.codec = self.codec.keyring(keyring);
        self
    }

    /// Stores state unsealed: whoever reads the store reads everything, and what somebody
    /// writes into it is run. It has to be asked for.
    pub fn plaintext(mut self) -> Self {
        self.codec = self.codec.plaintext();
        self
    }

    /// Compresses state, before it is sealed.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.options.compression = compression;
        self
    }

    /// Refuses state of more bytes of JSON than this.
    pub fn max_state_size(mut self, bytes: usize) -> Self {
        self.options.max_state_size = bytes;
        self
    }

    /// Serializes, compresses and seals with a codec of your own. What it says replaces what `keyring`,
    /// `plaintext`, `compression` and `max_state_size` said before; the latter two, and `options`, may
    /// be said after it, too.
    pub fn codec(mut self, codec: CodecBuilder) -> Self {
        let (compression, max_state_size) = codec.plain_settings();
        self.options.compression = compression.unwrap_or(self.options.compression);
        self.options.max_state_size = max_state_size.unwrap_or(self.options.max_state_size);
        self.codec = codec;
        self
    }

    /// Takes all plain settings at once, as read from a file. They replace those that were said
    /// before, so say this first.
    pub fn options(mut self, options: HubOptions) -> Self {
        self.options = options;
        self
    }

    /// Changes some plain settings, and leaves the others as they are.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use dynamic_flow::{hub::PersistenceHub, seconds, store::MemoryStore};
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let hub = PersistenceHub::builder(Arc::new(MemoryStore::new()))
    ///     .plaintext()
    ///     .configure(|options| {
    ///         options.concurrency = 8;
    ///         options.poll_interval = seconds(5);
    ///     })
    ///     .build()
    ///     .await?;
    /// # Ok::<(), dynamic_flow::Error>(()) }).unwrap();
    /// ```
    pub fn configure(mut self, change: impl FnOnce(&mut HubOptions)) -> Self {
        change(&mut self.options);
        self
    }

    /// How long a wait stays open that does not say so itself; 24 hours unless said.
    pub fn default_timeout(mut self, timeout: Duration) -> Self {
        self.options.default_timeout = timeout;
        self
    }

    /// How often a worker removes ended runs whose retention is over; hourly unless said.
    pub fn cleanup_interval(mut self, interval: Duration) -> Self {
        self.options.cleanup_interval = interval;
        self
    }

    /// How often an operation is tried again after a passing fault of the store; 3 times unless said.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.options.max_retries = retries;
        self
    }

    /// The pause before the first of those tries; a second unless said.
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.options.retry_delay = delay;
        self
    }

    /// How long ended runs are kept; 7 days unless said, `None` for forever.
    pub fn retention(mut self, retention: impl Into<Option<Duration>>) -> Self {
        self.options.retention = retention.into();
        self
    }

    /// How long a holder keeps a run without renewing its lease; 30 seconds unless said, 10 ms at
    /// least.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.options.lease = lease;
        self
    }

    /// When runs are committed beyond their waits.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.options.durability = durability;
        self
    }

    /// Tells the time by another clock.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Makes suspension keys in another way.
    pub fn key_generator(mut self, keys: impl KeyGenerator) -> Self {
        self.keys = Arc::new(keys);
        self
    }

    /// Sets who is told of each new wait.
    pub fn notifier(mut self, notifier: impl Notifier) -> Self {
        self.notifier = Some(Arc::new(notifier));
        self
    }

    /// The tools that documents may call.
    pub fn tools(mut self, tools: ToolRegistry) -> Self {
        self.tools = tools;
        self
    }

    /// A name for this hub in leases, for people; unique among the hubs that share the store.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Builds the hub and provisions its store.
    ///
    /// # Errors
    /// `InvalidConfig` for settings that can't work, among them neither a keyring nor plaintext;
    /// what [`Store::provision`] fails with.
    pub async fn build(self) -> Result<PersistenceHub> {
        let options = self.options;
        options.check()?;
        let codec = self.codec.compression(options.compression);
        let codec = codec.max_state_size(options.max_state_size).build()?;
        let owner = match self.owner {
            Some(owner) => owner,
            None => default_owner(self.clock.as_ref())?,
        };
        self.store.provision().await?;
        let inner = Inner {
            codec,
            clock: self.clock,
            keys: self.keys,
            notifier: self.notifier,
            tools: self.tools,
            owner,
            leases: AtomicU64::new(0),
            vault: Vault::new(self.store.clone(), &options),
            keeper: Keeper::new(self.store, options.lease),
            skips: Skips::default(),
            options,
            flows: RwLock::default(),
            documents: Mutex::default(),
            reading: Mutex::default(),
            active: Mutex::default(),
            idle: Notify::new(),
            in_hand: AtomicUsize::new(0),
            events: broadcast::channel(Inner::EVENTS).0,
            stopping: watch::channel(false).0,
        };
        Ok(PersistenceHub { inner: Arc::new(inner) })
    }
}

impl fmt::Debug for HubBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubBuilder")
            .field("store", &self.store)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Process and a random part: unique, and tells people where to look.
fn default_owner(clock: &dyn Clock) -> Result<String> {
    let id = RunId::new(clock.now())?;
    let random = hex::encode(&id.as_bytes()[10..]);
    Ok(format!("{}-{random}", std::process::id()))
}
