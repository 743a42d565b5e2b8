//! Settings of a hub, and building one.

use std::{
    fmt,
    sync::{Arc, Mutex, RwLock, atomic::AtomicUsize},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, broadcast, watch};

use super::{Inner, PersistenceHub, events::Notifier, lease::Keeper, skips::Skips, vault::Vault};
use crate::{
    Error, ErrorKind, Result,
    clock::{Clock, SystemClock, days, hours, seconds},
    codec::{Codec, CodecBuilder, Compression, Keyring},
    engine::runner::Durability,
    id::{RunId, SuspensionKey},
    store::Store,
    tool::ToolRegistry,
};

/// The settings of a hub that are plain data.
///
/// Written as a table of settings, with durations as texts:
///
/// ```
/// use dynamic_flow::{hours, hub::HubOptions};
///
/// let options: HubOptions =
///     serde_json::from_str(r#"{ "default_timeout": "4h", "retention": null }"#).unwrap();
/// assert_eq!(options.default_timeout, hours(4));
/// assert_eq!((options.retention, options.lease), (None, HubOptions::default().lease));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HubOptions {
    /// How long a wait stays open that does not say so itself.
    #[serde(with = "as_text")]
    pub default_timeout: Duration,
    /// How often a worker removes ended runs whose retention is over.
    #[serde(with = "as_text")]
    pub cleanup_interval: Duration,
    /// How often an operation is tried again after a passing fault of the store.
    pub max_retries: u32,
    /// The pause before the first of those tries; it doubles, with jitter.
    #[serde(with = "as_text")]
    pub retry_delay: Duration,
    /// How long an ended run is kept, with its receipts; forever if none.
    #[serde(with = "as_text::or_none")]
    pub retention: Option<Duration>,
    /// How long a holder keeps a run without renewing its lease; 10 ms or more.
    #[serde(with = "as_text")]
    pub lease: Duration,
    /// After how many takeovers without progress a run is failed as poisoned; 1 or more.
    pub max_takeovers: u32,
    /// The longest sleep, or pause between attempts, that is waited out in the process instead of
    /// parking the run.
    #[serde(with = "as_text")]
    pub linger: Duration,
    /// When runs are committed beyond their waits.
    pub durability: Durability,
    /// The largest input of a run or an answer, in bytes of JSON.
    pub max_input_size: usize,
    /// How often a worker looks for due runs.
    #[serde(with = "as_text")]
    pub poll_interval: Duration,
    /// How many runs a worker drives at once.
    pub concurrency: usize,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            default_timeout: hours(24),
            cleanup_interval: hours(1),
            max_retries: 3,
            retry_delay: seconds(1),
            retention: Some(days(7)),
            lease: seconds(30),
            max_takeovers: 5,
            linger: seconds(10),
            durability: Durability::Suspensions,
            max_input_size: 1024 * 1024,
            poll_interval: seconds(1),
            concurrency: 64,
        }
    }
}

/// Durations as people write them, to the millisecond: `24h`, `1m 30s`.
mod as_text {
    use std::time::Duration;

    use jiff::SignedDuration;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    use crate::flow::parse_duration;

    fn text(duration: Duration) -> String {
        // None is read that is longer, or finer.
        let duration = duration.min(crate::days(36_500));
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        format!("{:#}", SignedDuration::from_millis(millis))
    }

    pub(super) fn serialize<S: Serializer>(it: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text(*it))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        parse_duration(&String::deserialize(from)?).map_err(D::Error::custom)
    }

    pub(super) mod or_none {
        use serde::Serialize as _;

        use super::*;

        pub(in super::super) fn serialize<S: Serializer>(
            it: &Option<Duration>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            it.map(text).serialize(to)
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Duration>, D::Error> {
            let text = Option::<String>::deserialize(from)?;
            text.map(|text| parse_duration(&text)).transpose().map_err(D::Error::custom)
        }
    }
}

/// Makes suspension keys; the default takes 32 bytes from the operating system.
pub trait KeyGenerator: Send + Sync + 'static {
    /// A new key for a wait of that run, never the same twice.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    fn generate(&self, run: RunId) -> Result<SuspensionKey>;
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

    /// Stores state unsealed: whoever reads the store reads everything. It has to be asked for.
    pub fn plaintext(mut self) -> Self {
        self.codec = self.codec.plaintext();
        self
    }

    /// Compresses state, before it is sealed.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.codec = self.codec.compression(compression);
        self
    }

    /// Refuses state of more bytes of JSON than this.
    pub fn max_state_size(mut self, bytes: usize) -> Self {
        self.codec = self.codec.max_state_size(bytes);
        self
    }

    /// Serializes, compresses and seals with a codec of your own. It replaces whatever `keyring`,
    /// `plaintext`, `compression` and `max_state_size` said before.
    pub fn codec(mut self, codec: CodecBuilder) -> Self {
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
        let codec = self.codec.build()?;
        let options = self.options;
        // What is finer is dropped where it becomes a time: it would be no pause at all.
        let some_time = |duration: Duration| duration >= Duration::from_millis(1);
        let sane = [
            (options.lease >= Duration::from_millis(10), "lease must be 10 ms or more"),
            (some_time(options.default_timeout), "default_timeout must be 1 ms or more"),
            (options.concurrency > 0, "concurrency must be 1 or more"),
            (some_time(options.poll_interval), "poll_interval must be 1 ms or more"),
            // The first claim of a run counts, too.
            (options.max_takeovers > 0, "max_takeovers must be 1 or more"),
        ];
        if let Some((_, message)) = sane.iter().find(|(sane, _)| !sane) {
            return Err(Error::new(ErrorKind::InvalidConfig, *message));
        }
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
            vault: Vault::new(self.store.clone(), &options),
            keeper: Keeper::new(self.store, options.lease),
            skips: Skips::default(),
            options,
            flows: RwLock::default(),
            documents: Mutex::default(),
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
