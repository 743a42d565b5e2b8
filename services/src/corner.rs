//! Corners of servers: each test has one of its own, and removes it.

use std::{
    collections::{BTreeSet, hash_map::RandomState},
    env,
    hash::{BuildHasher as _, Hasher as _},
    sync::Mutex,
    thread,
};

use anyhow::{Context as _, Result};

use crate::{Kind, mongodb::with_database, skip};

/// A schema, a database, a prefix or a namespace that nobody else uses; with all that is in it, it
/// goes when this is dropped.
#[derive(Debug)]
pub struct Corner {
    kind: Kind,
    server: String,
    name: String,
    shared: bool,
}

/// A name that nobody else has.
pub fn fresh() -> String {
    format!("dflow_test_{:016x}", RandomState::new().build_hasher().finish())
}

impl Corner {
    /// One on the server of that kind, if the environment tells where it is; where it does not,
    /// that is said once.
    pub fn on(kind: Kind) -> Option<Self> {
        static MISSING: Mutex<BTreeSet<Kind>> = Mutex::new(BTreeSet::new());
        match env::var(kind.variable()).ok().filter(|url| !url.is_empty()) {
            Some(url) => Some(Self::of(kind, url)),
            None => {
                if MISSING.lock().unwrap().insert(kind) {
                    skip(&format!("dflow on {kind}: {} is not set", kind.variable()));
                }
                None
            }
        }
    }

    /// One on that server.
    pub fn of(kind: Kind, server: String) -> Self {
        Self { kind, server, name: fresh(), shared: true }
    }

    /// One on a server of the test's own, which goes with all that is on it: nothing is removed.
    pub fn private(kind: Kind, server: String) -> Self {
        Self { kind, server, name: fresh(), shared: false }
    }

    /// What the schema or the database is called, and what the prefix or the namespace begins with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL of the server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The URL of the store in it.
    pub fn url(&self) -> String {
        let Self { kind, server, name, .. } = self;
        let separator = if server.contains('?') { '&' } else { '?' };
        match kind {
            Kind::Postgres => format!("{server}{separator}schema_name={name}"),
            Kind::Redis | Kind::RedisCluster => format!("{server}{separator}prefix={name}:"),
            Kind::Mongodb => with_database(server, name),
            Kind::Neo4j => format!("{server}{separator}namespace={name}_"),
        }
    }

    async fn remove(&self) -> Result<()> {
        let Self { kind, server, name, .. } = self;
        match kind {
            Kind::Postgres => drop_schema(server, name).await,
            Kind::Redis | Kind::RedisCluster => unlink(server, name).await,
            Kind::Mongodb => {
                let client = mongodb::Client::with_uri_str(server).await?;
                Ok(client.database(name).drop().await?)
            }
            Kind::Neo4j => detach(server, name).await,
        }
    }
}

async fn drop_schema(server: &str, name: &str) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(server, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    client
        .batch_execute(&format!(
            "SET client_min_messages = warning; DROP SCHEMA IF EXISTS \"{name}\" CASCADE"
        ))
        .await?;
    drop(client);
    Ok(connection.await??)
}

/// The hosts and the database of what follows the user in a URL.
fn place(rest: &str) -> (&str, &str) {
    let base = rest.split_once('?').map_or(rest, |(base, _)| base);
    base.split_once('/').unwrap_or((base, ""))
}

/// Removes all keys of that prefix, from all members if it is a cluster.
async fn unlink(server: &str, name: &str) -> Result<()> {
    let (_, rest) = server.split_once("://").context("a URL")?;
    let (user, rest) = rest.split_once('@').unwrap_or(("", rest));
    let at = if user.is_empty() { "" } else { "@" };
    let (hosts, database) = place(rest);
    let first = hosts.split(',').next().unwrap_or_default();
    let open = async |address: &str| {
        let client = redis::Client::open(format!("redis://{user}{at}{address}/{database}"))?;
        client.get_multiplexed_async_connection().await
    };
    let nodes: String = redis::cmd("CLUSTER")
        .arg("NODES")
        .query_async(&mut open(first).await?)
        .await
        .unwrap_or_default();
    let masters = nodes.lines().filter(|line| line.contains("master"));
    let mut addresses: Vec<&str> =
        masters.filter_map(|line| line.split(' ').nth(1)?.split('@').next()).collect();
    if addresses.is_empty() {
        addresses.push(first);
    }
    for address in addresses {
        let mut connection = open(address).await?;
        let keys: Vec<String> =
            redis::cmd("KEYS").arg(format!("{name}:*")).query_async(&mut connection).await?;
        for key in keys {
            redis::cmd("UNLINK").arg(key).exec_async(&mut connection).await?;
        }
    }
    Ok(())
}

/// Removes all nodes, constraints and indexes of that namespace.
async fn detach(server: &str, name: &str) -> Result<()> {
    let (scheme, rest) = server.split_once("://").context("a URL")?;
    let (user, rest) = rest.split_once('@').unwrap_or(("neo4j:", rest));
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let (address, database) = place(rest);
    let mut config = neo4rs::ConfigBuilder::new()
        .uri(format!("{scheme}://{address}"))
        .user(user)
        .password(password);
    if !database.is_empty() {
        config = config.db(database);
    }
    let graph = neo4rs::Graph::connect(config.build()?)?;
    // A label at a time: what is looked at are this corner's nodes, and nobody else's.
    for (list, column, remove) in [
        ("CALL db.labels() YIELD label", "label", "MATCH (it:$) DETACH DELETE it"),
        ("SHOW CONSTRAINT YIELD name", "name", "DROP CONSTRAINT $ IF EXISTS"),
        ("SHOW INDEX YIELD name", "name", "DROP INDEX $ IF EXISTS"),
    ] {
        let list = format!("{list} WHERE {column} STARTS WITH '{name}' RETURN {column} AS name");
        let mut rows = graph.execute(neo4rs::query(&list)).await?;
        let mut found: Vec<String> = Vec::new();
        while let Some(row) = rows.next().await? {
            found.push(row.get("name")?);
        }
        for it in found {
            let quoted = format!("`{}`", it.replace('`', "``"));
            graph.run(neo4rs::query(&remove.replace('$', &quoted))).await?;
        }
    }
    Ok(())
}

impl Drop for Corner {
    fn drop(&mut self) {
        if !self.shared {
            return;
        }
        let removing = || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(self.remove())
        };
        // On a thread of its own: a test may end within its runtime, where nobody can wait.
        let removed = thread::scope(|scope| scope.spawn(removing).join());
        if !thread::panicking() {
            removed.unwrap().expect("what a test made can be removed");
        }
    }
}
