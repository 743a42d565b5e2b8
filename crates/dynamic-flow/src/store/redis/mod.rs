//! The Redis store: one server or a cluster, each record a hash, each criterion an index.

mod attempts;
mod audit;
mod claim;
mod config;
mod connection;
mod entry;
mod greeting;
mod health;
mod hints;
mod keys;
mod query;
mod reply;
mod rows;
mod script;
mod servers;
mod tcp;
mod tls;
mod topology;
mod trouble;

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use futures::future::try_join_all;
use redis::{Value, cmd};
use tokio::sync::OnceCell;

pub use self::config::RedisConfig;
use self::{
    hints::{Listener, Told},
    keys::Keys,
    script::{DELETE, INSERT, PROBE, RENEW, UPDATE},
    servers::{Effect, Servers},
    trouble::Trouble,
};
use super::server::within;
use crate::{
    Result,
    clock::Timestamp,
    id::{Epoch, Revision, RunId},
    store::{
        Change, Claim, Cursor, Expect, Filter, Health, Hint, Hinter, Hints, Page, Record, Store,
    },
};

/// What the marker of this layout holds, before the number of partitions.
const LAYOUT: &str = "dynamic-flow 1 ";

/// Keeps runs in Redis, on one server or a cluster.
///
/// Redis acknowledges what is in its memory: whether a run survives a power failure is a matter of
/// how the server is set up, and [`Store::health`] says so. With `appendonly yes` and
/// `appendfsync always` it does. Replicas get a write after it was acknowledged, so that a failover
/// may lose the last ones: with `wait_replicas`, a write is acknowledged when so many have it.
///
/// ```no_run
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use dynamic_flow::store::{RedisStore, Store};
///
/// let store = RedisStore::from_url("redis://:hunter2@localhost/0?prefix=shop:").unwrap();
/// store.provision().await.unwrap();
/// assert!(store.health().await.unwrap().durable);
/// # });
/// ```
///
/// The keys of a run and of the index that lists it are in one of a fixed number of partitions,
/// each of which is one slot of a cluster; a script changes both at once, and whoever reads merges
/// the partitions.
///
/// # Rights
///
/// A user that may do what the store does, and nothing else:
///
/// ```text
/// ACL SETUSER flows on >PASSWORD resetchannels &flow:suspended:* ~flow:suspended:*
///     +@hash +@sortedset +@scripting +@connection +get +set +del +exists +pexpireat +persist
///     +publish +subscribe +wait +cluster|slots +info +config|get +scan
/// ```
///
/// Without the channels there are no hints, without `info`, `config|get` and `scan` less is known of
/// the server's health; `wait` is for `wait_replicas`, and `cluster|slots` for clusters.
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

struct Shared {
    servers: Arc<Servers>,
    keys: Keys,
    /// There once the marker was found to be this layout's, or written.
    ready: OnceCell<()>,
    /// Whether this user was found to have all rights that scripts need.
    allowed: AtomicBool,
    hinter: Hinter,
    listener: Mutex<Option<Listener>>,
}

impl RedisStore {
    /// A store at the servers of a configuration.
    ///
    /// Touches nothing yet.
    ///
    /// # Errors
    /// `InvalidConfig` for a setting that makes no sense, or that does not go with another.
    pub fn new(config: RedisConfig) -> Result<Self> {
        config.check()?;
        let shared = Shared {
            keys: Keys::new(&config.key_prefix, config.db, config.partitions),
            servers: Arc::new(Servers::new(config)),
            ready: OnceCell::new(),
            allowed: AtomicBool::new(false),
            hinter: Hinter::new(),
            listener: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A store at the servers of a URL, as [`RedisConfig::from_url`] reads it.
    ///
    /// # Errors
    /// As [`RedisConfig::from_url`].
    pub fn from_url(url: &str) -> Result<Self> {
        Self::new(RedisConfig::from_url(url)?)
    }

    /// Makes a call to a store that has been made by then.
    async fn call<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T> {
        let call = async {
            self.shared.ready.get_or_try_init(|| self.shared.provision()).await?;
            call.await
        };
        self.shared.told(name, call).await
    }

    /// Makes a call that writes. The first one finds out whether this user may: a right that is
    /// missing would else stop a script in the middle, with a record changed and its index not.
    async fn change<T>(
        &self,
        name: &'static str,
        change: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T> {
        let change = async {
            if !self.shared.allowed.load(Ordering::Relaxed) {
                match self.shared.probe().await {
                    // Of changes, some make room.
                    Err(trouble) if trouble.code() == Some("OOM") => {}
                    probed => probed?,
                }
            }
            change.await
        };
        self.call(name, change).await
    }
}

impl Shared {
    /// Gives a call its time, and says of what went wrong in which call and where.
    async fn told<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T> {
        let config = self.servers.config();
        let result = within(config.operation_timeout, call).await;
        result.map_err(|trouble| trouble.into_error(name, config))
    }

    /// Whether there is the marker of a layout, or runs that have lost it.
    async fn exists(&self) -> Result<bool, Trouble> {
        let marker = (keys::slot(self.keys.marker.as_bytes()), &self.keys.marker);
        let indexes = self.keys.partitions.iter().map(|it| (it.slot, &it.index));
        let looks = std::iter::once(marker).chain(indexes).map(async |(slot, key)| {
            let mut exists = cmd("EXISTS");
            exists.arg(key);
            Ok::<_, Trouble>(self.servers.one(Effect::Read, slot, exists).await? == Value::Int(1))
        });
        Ok(try_join_all(looks).await?.contains(&true))
    }

    /// Looks whether what is under the prefix is a store of this layout, or makes it one.
    async fn provision(&self) -> Result<(), Trouble> {
        let slot = keys::slot(self.keys.marker.as_bytes());
        let mut get = cmd("GET");
        get.arg(&self.keys.marker);
        let layout = format!("{LAYOUT}{}", self.keys.partitions.len());
        let mut there = self.servers.one(Effect::Read, slot, get.clone()).await?;
        if there == Value::Nil {
            self.probe().await?;
            let mut set = cmd("SET");
            set.arg(&self.keys.marker).arg(&layout).arg("NX");
            self.servers.one(Effect::Write, slot, set).await?;
            // Of many who set it at once, one did.
            there = self.servers.one(Effect::Read, slot, get).await?;
        }
        let there = String::from_utf8_lossy(&reply::bytes(there)?).into_owned();
        if there == layout { Ok(()) } else { Err(Trouble::Layout(there)) }
    }

    /// Finds out whether the server takes scripts, and this user may do what they do.
    async fn probe(&self) -> Result<(), Trouble> {
        self.rehearse(0).await?;
        self.allowed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Writes what is of no use at the server of a partition, and removes it again: so what keeps
    /// a write from being made, or from being confirmed by replicas, is known before one is made.
    async fn rehearse(&self, partition: usize) -> Result<(), Trouble> {
        let partition = &self.keys.partitions[partition];
        let keys = [partition.probe.as_str()];
        match PROBE.run(&self.servers, Effect::Write, partition.slot, &keys, &[]).await {
            Err(Trouble::Replicas { wanted, got }) => Err(Trouble::Unconfirmed { wanted, got }),
            rehearsed => rehearsed.map(drop),
        }
    }

    async fn insert(&self, record: &Record) -> Result<(), Trouble> {
        let fields = rows::fields(record)?;
        let inbox = rows::inbox(&record.inbox)?;
        let (hints, expiry) = (record.told(), self.expiry());
        let mut arguments: Vec<&[u8]> =
            vec![record.id.as_bytes(), self.keys.channel.as_bytes(), hints.as_bytes(), &expiry];
        arguments.extend(fields.iter().flat_map(|(name, value)| [name.as_bytes(), value]));
        arguments.extend(inbox.iter().flat_map(|(name, value)| [name.as_bytes(), value]));
        match self.write(&INSERT, record.id, &arguments).await? {
            Value::Int(1) => Ok(()),
            Value::Int(0) => Err(Trouble::Exists),
            _ => Err(Trouble::Confused),
        }
    }

    async fn get(&self, id: RunId) -> Result<Option<Record>, Trouble> {
        let partition = &self.keys.partitions[self.keys.of(id)];
        let mut get = cmd("HGETALL");
        get.arg(partition.record(id));
        rows::record(id, self.servers.one(Effect::Read, partition.slot, get).await?)
    }

    async fn update(
        &self,
        id: RunId,
        expect: Expect,
        change: &Change,
    ) -> Result<Revision, Trouble> {
        let (mut set, removed) = rows::changes(change)?;
        let mut dropped = change.inbox_drop;
        let mut pushed = &change.inbox_push;
        if let Some(whole) = &change.inbox {
            (dropped, pushed) = (usize::MAX, whole);
        }
        let pushed = pushed.iter().map(rows::sized).collect::<Result<Vec<_>, _>>()?;
        let (expected, hints, expiry) = (expected(expect), change.told(), self.expiry());
        let dropped = rows::digits(dropped);
        let (sets, removals) = (rows::digits(2 * set.len()), rows::digits(removed.len()));
        let mut arguments: Vec<&[u8]> = vec![
            id.as_bytes(),
            &expected,
            self.keys.channel.as_bytes(),
            hints.as_bytes(),
            &expiry,
            &dropped,
            &sets,
            &removals,
        ];
        set.sort_unstable_by_key(|(name, _)| *name);
        arguments.extend(set.iter().flat_map(|(name, value)| [name.as_bytes(), value]));
        arguments.extend(removed.iter().map(|name| name.as_bytes()));
        arguments.extend(pushed.iter().map(Vec::as_slice));
        match self.write(&UPDATE, id, &arguments).await? {
            Value::Nil => Err(Trouble::Conflict),
            revision => {
                let revision = reply::text(revision)?.parse();
                revision.map(Revision).map_err(|_| Trouble::Damaged("rev"))
            }
        }
    }

    async fn delete(&self, id: RunId, expect: Expect) -> Result<(), Trouble> {
        let arguments: [&[u8]; 2] = [id.as_bytes(), &expected(expect)];
        done(&self.write(&DELETE, id, &arguments).await?)
    }

    async fn renew(&self, id: RunId, epoch: Epoch, until: Timestamp) -> Result<(), Trouble> {
        let (epoch, until) = (rows::digits(epoch.0), entry::ordered(until));
        let arguments: [&[u8]; 4] = [id.as_bytes(), &epoch, &until, &self.expiry()];
        done(&self.write(&RENEW, id, &arguments).await?)
    }

    /// Runs a script that writes one record.
    async fn write(
        &self,
        script: &script::Script,
        id: RunId,
        arguments: &[&[u8]],
    ) -> Result<Value, Trouble> {
        let partition = &self.keys.partitions[self.keys.of(id)];
        let record = partition.record(id);
        let keys = [record.as_str(), partition.index.as_str()];
        script.run(&self.servers, Effect::Write, partition.slot, &keys, arguments).await
    }

    /// How long ended runs stay after their retention, as scripts take it.
    fn expiry(&self) -> Vec<u8> {
        let expiry = self.servers.config().expiry;
        expiry.map_or_else(Vec::new, |expiry| rows::digits(expiry.as_millis()))
    }
}

/// A revision that is expected, as scripts take it.
fn expected(expect: Expect) -> Vec<u8> {
    match expect {
        Expect::Revision(revision) => rows::digits(revision.0),
        Expect::Any => Vec::new(),
    }
}

/// Whether a script found what it needed.
fn done(reply: &Value) -> Result<(), Trouble> {
    match reply {
        Value::Int(1) => Ok(()),
        Value::Int(0) => Err(Trouble::Conflict),
        _ => Err(Trouble::Confused),
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn provision(&self) -> Result<()> {
        self.call("provision", self.shared.provision()).await
    }

    async fn exists(&self) -> Result<bool> {
        // Other calls make the store first.
        self.shared.told("exists", self.shared.exists()).await
    }

    async fn insert(&self, record: Record) -> Result<()> {
        record.check()?;
        let inserted = self.change("insert", self.shared.insert(&record)).await;
        inserted.map_err(|error| error.with_run(record.id))
    }

    async fn get(&self, id: RunId) -> Result<Option<Record>> {
        self.call("get", self.shared.get(id)).await.map_err(|error| error.with_run(id))
    }

    async fn update(&self, id: RunId, expect: Expect, change: Change) -> Result<Revision> {
        change.check(id)?;
        let updated = self.change("update", self.shared.update(id, expect, &change)).await;
        updated.map_err(|error| error.with_run(id))
    }

    async fn delete(&self, id: RunId, expect: Expect) -> Result<()> {
        let deleted = self.change("delete", self.shared.delete(id, expect)).await;
        deleted.map_err(|error| error.with_run(id))
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Record>> {
        claim.check()?;
        self.change("claim", claim::claim(&self.shared, &claim)).await
    }

    async fn renew(&self, id: RunId, epoch: Epoch, until: Timestamp) -> Result<()> {
        let renewed = self.change("renew", self.shared.renew(id, epoch, until)).await;
        renewed.map_err(|error| error.with_run(id))
    }

    async fn query(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page> {
        filter.check(limit)?;
        self.call("query", query::query(&self.shared, filter, after, limit)).await
    }

    async fn health(&self) -> Result<Health> {
        let checkup = async {
            let slot = self.shared.keys.partitions[0].slot;
            let began = Instant::now();
            let mut exists = cmd("EXISTS");
            exists.arg(&self.shared.keys.partitions[0].index);
            self.shared.servers.one(Effect::Read, slot, exists).await?;
            let latency = began.elapsed();
            let mut checkup = health::check(&self.shared.servers).await?;
            match audit::look(&self.shared).await {
                Ok(said) => checkup.warnings.extend(said),
                // The server has just answered: a look by chance takes nothing away from that.
                Err(trouble) => checkup.warnings.push(format!(
                    "Whether records and index entries are lost could not be looked at: {trouble}."
                )),
            }
            Ok((latency, checkup))
        };
        // Unlike other calls, it makes nothing.
        let (latency, checkup) = self.shared.told("health", checkup).await?;
        Ok(Health {
            backend: "redis".into(),
            location: self.shared.servers.config().location(),
            latency,
            durable: checkup.durable,
            warnings: checkup.warnings,
            problem: None,
        })
    }

    fn hints(&self, to: Hint) -> Option<Hints> {
        let mut listener = self.shared.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.as_ref().is_none_or(Listener::has_ended) {
            let (servers, channel) =
                (self.shared.servers.clone(), self.shared.keys.channel.clone());
            *listener = Listener::start(servers, channel, self.shared.hinter.clone());
        }
        listener.as_ref().map(|_| self.shared.hinter.subscribe(to))
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisStore").field(self.shared.servers.config()).finish()
    }
}
