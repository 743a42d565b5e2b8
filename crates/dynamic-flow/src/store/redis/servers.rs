//! Which server has which keys, and calls that find their way there.
//!
//! The driver's own client for clusters would make a write again after its connection broke, and
//! then the second try finds what the first one wrote: a conflict with nobody. Here a call is made
//! again only if it has certainly had no effect.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use redis::{Cmd, Value, aio::PubSub};
use rustls::ClientConfig;
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};

use super::{
    attempts::Attempts,
    config::{Address, RedisConfig},
    connection::{Connection, listen},
    topology::{Redirect, Topology},
    trouble::Trouble,
};
use crate::store::server::OwnRuntime;

/// How often a call follows the servers' word that the keys are elsewhere.
const REDIRECTS: usize = 16;
/// How long to wait before a cluster is asked again, more or less.
const PAUSE: Duration = Duration::from_millis(100);

/// What a call does: one that only reads may be made twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Read,
    Write,
}

/// The server, or the servers of a cluster.
pub(super) struct Servers {
    config: RedisConfig,
    /// Where connections are made and served.
    runtime: OwnRuntime,
    tls: OnceCell<Option<Arc<ClientConfig>>>,
    nodes: Mutex<HashMap<Address, Arc<Node>>>,
    topology: Mutex<Option<Arc<Topology>>>,
    /// Held by the one that asks where the slots are.
    asking: Attempts,
    /// Those that were asked last where the slots are and have not answered: others come first.
    silent: Mutex<HashSet<Address>>,
}

/// One server, and the connections to it.
struct Node {
    address: Address,
    connections: Vec<Place>,
    turn: AtomicUsize,
}

/// Where a connection is, and the ways to make one.
#[derive(Default)]
struct Place {
    dialling: Attempts,
    connection: Mutex<Option<Arc<Connection>>>,
}

impl Servers {
    pub(super) fn new(config: RedisConfig) -> Self {
        Self {
            config,
            runtime: OwnRuntime::new("dynamic-flow-redis"),
            tls: OnceCell::new(),
            nodes: Mutex::default(),
            topology: Mutex::default(),
            asking: Attempts::default(),
            silent: Mutex::default(),
        }
    }

    pub(super) fn runtime(&self) -> &OwnRuntime {
        &self.runtime
    }

    pub(super) fn config(&self) -> &RedisConfig {
        &self.config
    }

    /// Makes one call at the server that has the slot.
    pub(super) async fn one(
        &self,
        effect: Effect,
        slot: u16,
        command: Cmd,
    ) -> Result<Value, Trouble> {
        self.send(effect, slot, &[command]).await?.pop().ok_or(Trouble::Confused)
    }

    /// Makes calls in a row at the server that has the slot, and gives their replies.
    pub(super) async fn send(
        &self,
        effect: Effect,
        slot: u16,
        commands: &[Cmd],
    ) -> Result<Vec<Value>, Trouble> {
        // Half of what the whole call may take: who waits for a cluster hears why, and not only
        // that it took too long.
        let patience = self.config.operation_timeout / 2;
        self.send_within(patience, effect, slot, commands).await
    }

    /// As [`send`](Self::send), and waits no longer than that for a cluster to be in order.
    pub(super) async fn send_within(
        &self,
        patience: Duration,
        effect: Effect,
        slot: u16,
        commands: &[Cmd],
    ) -> Result<Vec<Value>, Trouble> {
        let give_up = Instant::now() + patience;
        let mut target = None;
        let mut redirects = 0;
        let mut reads_left = 1;
        // Only servers of a cluster name others.
        let mut in_cluster = true;
        loop {
            let (address, asking) = match target.take() {
                Some(target) => target,
                None => {
                    let topology = self.topology().await?;
                    in_cluster = topology.is_cluster();
                    let Some(owner) = topology.owner(slot) else {
                        self.pause(Trouble::NoOwner(slot), give_up).await?;
                        continue;
                    };
                    (owner.clone(), false)
                }
            };
            let trouble = match self.at(&address, commands, asking).await {
                Ok(replies) => return Ok(replies),
                Err(trouble) => trouble,
            };
            match Redirect::read(&trouble, &address) {
                Some(_) if redirects == REDIRECTS => return Err(trouble),
                Some(Redirect::Moved(to)) => {
                    redirects += 1;
                    self.forget_topology();
                    target = Some((to, false));
                }
                Some(Redirect::Ask(to)) => {
                    redirects += 1;
                    target = Some((to, true));
                }
                None if matches!(trouble, Trouble::Broken { .. }) => {
                    self.forget_topology();
                    if effect == Effect::Write || reads_left == 0 {
                        return Err(trouble);
                    }
                    reads_left -= 1;
                }
                None if in_cluster && trouble.is_passing_in_cluster() => {
                    self.pause(trouble, give_up).await?;
                }
                None => return Err(trouble),
            }
        }
    }

    /// Waits for a cluster to be in order, unless that has lasted long enough.
    async fn pause(&self, trouble: Trouble, give_up: Instant) -> Result<(), Trouble> {
        self.forget_topology();
        if Instant::now() + PAUSE > give_up {
            return Err(trouble);
        }
        // Not all at the same moment.
        let chance = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
        sleep(PAUSE.mul_f64(0.5 + chance)).await;
        Ok(())
    }

    /// Makes calls in a row at that server.
    pub(super) async fn at(
        &self,
        address: &Address,
        commands: &[Cmd],
        asking: bool,
    ) -> Result<Vec<Value>, Trouble> {
        let node = self.node(address);
        let (place, connection) = node.connection(self).await?;
        let patience = Instant::now() + self.config.operation_timeout / 2;
        let guard = Impatience { servers: self, node: &node, patience };
        let result = connection.send(commands, asking).await;
        drop(guard);
        if matches!(&result, Err(Trouble::Broken { .. })) || demoted(&result) {
            node.discard(place, &connection);
        }
        result
    }

    /// The server that has a slot, as far as is known.
    pub(super) async fn owner(&self, slot: u16) -> Result<Option<Address>, Trouble> {
        Ok(self.topology().await?.owner(slot).cloned())
    }

    /// Makes calls in a row at a server that the store does not use, by a connection of their own.
    pub(super) async fn aside(
        &self,
        address: &Address,
        commands: &[Cmd],
    ) -> Result<Vec<Value>, Trouble> {
        let connection = Connection::dial(&self.config, self.tls().await?, address).await?;
        connection.send(commands, false).await
    }

    /// All servers that take writes.
    pub(super) async fn masters(&self) -> Result<Vec<Address>, Trouble> {
        Ok(self.topology().await?.masters())
    }

    /// A connection that hears what is published on a channel, to whichever server can be reached.
    pub(super) async fn listen(&self, channel: &str) -> Result<PubSub, Trouble> {
        let tls = self.tls().await?;
        let mut last = Trouble::Confused;
        for address in self.known() {
            match listen(&self.config, tls, &address, channel).await {
                Ok(listener) => return Ok(listener),
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }

    async fn topology(&self) -> Result<Arc<Topology>, Trouble> {
        self.asking.once(|| lock(&self.topology).clone(), self.find_topology()).await
    }

    /// Asks one server after the other. Where one is slow to answer the next is asked beside it: all
    /// of a cluster that hangs take hardly longer than one.
    async fn find_topology(&self) -> Result<Arc<Topology>, Trouble> {
        let known = self.known();
        let count = u32::try_from(known.len()).unwrap_or(u32::MAX);
        let slow = self.config.connect_timeout / count.saturating_mul(2).max(1);
        let mut known = known.into_iter();
        let mut asked = FuturesUnordered::new();
        let mut first = None;
        loop {
            if let Some(address) = known.next() {
                // Even if this is given up, the next one begins elsewhere.
                lock(&self.silent).insert(address.clone());
                asked.push(async { (self.ask_for_topology(&address).await, address) });
            }
            match timeout(slow, asked.next()).await {
                Ok(Some((Ok(topology), address))) => {
                    let topology = Arc::new(topology);
                    *lock(&self.topology) = Some(topology.clone());
                    let masters = topology.masters();
                    lock(&self.nodes).retain(|address, _| masters.contains(address));
                    lock(&self.silent).remove(&address);
                    return Ok(topology);
                }
                Ok(Some((Err(trouble), _))) => first = first.or(Some(trouble)),
                Ok(None) => return Err(first.unwrap_or(Trouble::Confused)),
                Err(_) => {}
            }
        }
    }

    async fn ask_for_topology(&self, address: &Address) -> Result<Topology, Trouble> {
        let node = self.node(address);
        let (_, connection) = node.connection(self).await?;
        if connection.in_cluster {
            let mut slots = redis::cmd("CLUSTER");
            slots.arg("SLOTS");
            let reply = self.at(address, &[slots], false).await?.pop().ok_or(Trouble::Confused)?;
            return Topology::read(reply, address);
        }
        match self.config.is_cluster() {
            true => Err(Trouble::NoCluster(address.to_string())),
            false => Ok(Topology::Alone(address.clone())),
        }
    }

    fn forget_topology(&self) {
        *lock(&self.topology) = None;
    }

    /// The servers that may know where the others are: those that were found, and those that are
    /// configured, which may be others by now; last those that did not answer when they were asked.
    fn known(&self) -> Vec<Address> {
        let mut known: Vec<_> = self.config.addresses().filter_map(Result::ok).collect();
        for address in lock(&self.nodes).keys() {
            if !known.contains(address) {
                known.push(address.clone());
            }
        }
        let silent = lock(&self.silent);
        known.sort_by_key(|address| silent.contains(address));
        known
    }

    fn node(&self, address: &Address) -> Arc<Node> {
        let mut nodes = lock(&self.nodes);
        nodes.entry(address.clone()).or_insert_with(|| Node::new(address, &self.config)).clone()
    }

    async fn tls(&self) -> Result<Option<&Arc<ClientConfig>>, Trouble> {
        let load = || async {
            match self.config.tls {
                true => super::tls::client(&self.config).map(Some),
                false => Ok(None),
            }
        };
        let loaded = self.tls.get_or_try_init(load).await;
        loaded
            .map(Option::as_ref)
            .map_err(|cause| Trouble::Unreached { node: self.config.location(), cause })
    }
}

impl Node {
    fn new(address: &Address, config: &RedisConfig) -> Arc<Self> {
        Arc::new(Self {
            address: address.clone(),
            connections: (0..config.pool_size).map(|_| Default::default()).collect(),
            turn: AtomicUsize::new(0),
        })
    }

    /// The next connection in turn, made anew if it has ended.
    async fn connection(&self, servers: &Servers) -> Result<(usize, Arc<Connection>), Trouble> {
        let place = self.turn.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let Place { dialling, connection } = &self.connections[place];
        let open = || lock(connection).clone().filter(|it| it.is_open());
        let dial = async {
            let (config, address) = (servers.config.clone(), self.address.clone());
            let tls = servers.tls().await?.cloned();
            let dial = async move {
                match Connection::dial(&config, tls.as_ref(), &address).await {
                    // Whatever the call does, it has done nothing yet, and may have another.
                    Err(trouble) if trouble.ended_unasked() => {
                        Connection::dial(&config, tls.as_ref(), &address).await
                    }
                    dialled => dialled,
                }
            };
            let made = Arc::new(servers.runtime.run(dial).await?);
            *lock(connection) = Some(made.clone());
            Ok(made)
        };
        dialling.once(open, dial).await.map(|connection| (place, connection))
    }

    /// Has the connection made anew, unless that has happened.
    fn discard(&self, place: usize, connection: &Arc<Connection>) {
        let mut held = lock(&self.connections[place].connection);
        if held.as_ref().is_some_and(|it| Arc::ptr_eq(it, connection)) {
            *held = None;
        }
    }

    /// Has all connections made anew; who uses one at the moment goes on with it.
    fn discard_all(&self) {
        for place in &self.connections {
            *lock(&place.connection) = None;
        }
    }
}

/// Discards the connections to a server when a call on one is given up for taking too long: the
/// server may be frozen or gone, and another have taken its place.
struct Impatience<'a> {
    servers: &'a Servers,
    node: &'a Node,
    patience: Instant,
}

impl Drop for Impatience<'_> {
    fn drop(&mut self) {
        if Instant::now() > self.patience {
            self.node.discard_all();
            self.servers.forget_topology();
        }
    }
}

/// Whether the server does not take writes (any more): its name may lead to another by now.
fn demoted<T>(result: &Result<T, Trouble>) -> bool {
    result.as_ref().is_err_and(|trouble| trouble.code() == Some("READONLY"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics between two changes that belong together.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
