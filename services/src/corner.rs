//! Corners of servers: each test has one of its own, and removes it.

use std::{
    collections::{BTreeSet, hash_map::RandomState},
    env,
    hash::{BuildHasher as _, Hasher as _},
    sync::Mutex,
    thread,
};

use anyhow::{Context as _, Result};

use crate::{Kind, skip};

/// A schema, a database, a prefix or a namespace that nobody else uses; with all that is in it, it
/// goes when this is dropped.
#[derive(Debug)]
pub struct Corner {
    kind: Kind,
    server: String,
    name: String,
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
        let random = RandomState::new().build_hasher().finish();
        Self { kind, server, name: format!("corner_{random:016x}_{}", std::process::id()) }
    }

    /// The URL of the store in it.
    pub fn url(&self) -> String {
        let Self { kind, server, name } = self;
        let (base, query) = server.split_once('?').unwrap_or((server, ""));
        let with = |base: &str, own: &str| {
            let parameters: Vec<&str> =
                [query, own].into_iter().filter(|it| !it.is_empty()).collect();
            match parameters.is_empty() {
                true => base.to_owned(),
                false => format!("{base}?{}", parameters.join("&")),
            }
        };
        match kind {
            Kind::Postgres => with(base, &format!("schema_name={name}")),
            Kind::Redis | Kind::RedisCluster => with(base, &format!("prefix={name}:")),
            Kind::Mongodb => with(&format!("{}/{name}", base.trim_end_matches('/')), ""),
            Kind::Neo4j => with(base, &format!("namespace={name}_")),
        }
    }

    async fn remove(&self) -> Result<()> {
        let Self { kind, server, name } = self;
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
    client.batch_execute(&format!("DROP SCHEMA IF EXISTS {name} CASCADE")).await?;
    drop(client);
    Ok(connection.await??)
}

/// Removes all keys of that prefix, from all members if it is a cluster.
async fn unlink(server: &str, name: &str) -> Result<()> {
    let (_, rest) = server.split_once("://").context("a URL")?;
    let (user, rest) = rest.split_once('@').map_or(("", rest), |(user, rest)| (user, rest));
    let at = if user.is_empty() { "" } else { "@" };
    let first = rest.split([',', '/', '?']).next().unwrap_or_default();
    let open = async |address: &str| {
        let client = redis::Client::open(format!("redis://{user}{at}{address}"))?;
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
    let address = rest.split(['/', '?']).next().unwrap_or_default();
    let graph = neo4rs::Graph::new(format!("{scheme}://{address}"), user, password)?;
    let delete = format!(
        "MATCH (it) WHERE any(label IN labels(it) WHERE label STARTS WITH '{name}') DETACH DELETE it"
    );
    graph.run(neo4rs::query(&delete)).await?;
    for what in ["CONSTRAINT", "INDEX"] {
        let names = format!("SHOW {what} YIELD name WHERE name STARTS WITH '{name}' RETURN name");
        let mut rows = graph.execute(neo4rs::query(&names)).await?;
        let mut found: Vec<String> = Vec::new();
        while let Some(row) = rows.next().await? {
            found.push(row.get("name")?);
        }
        for it in found {
            graph.run(neo4rs::query(&format!("DROP {what} `{it}` IF EXISTS"))).await?;
        }
    }
    Ok(())
}

impl Drop for Corner {
    fn drop(&mut self) {
        let removing = || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(self.remove())
        };
        // On a thread of its own: a test may end within its runtime, where nobody can wait. Nothing
        // depends on it, and the server may be one that was stopped on purpose.
        let _ = thread::scope(|scope| scope.spawn(removing).join());
    }
}
