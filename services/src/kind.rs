//! The kinds of servers, all handled alike.

use std::{fmt, path::Path};

use anyhow::Result;

use crate::{Server, apt, mongodb, neo4j, postgres, redis};

/// A kind of server that there are stores for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// One Redis server.
    Redis,
    /// Six Redis servers that are a cluster.
    RedisCluster,
    /// What speaks MongoDB's protocol.
    Mongodb,
    /// Neo4j.
    Neo4j,
}

/// A server, or several that belong together, for any test to use.
pub trait Service: Send {
    /// What a store is opened with.
    fn url(&self) -> String;

    /// Its processes.
    fn servers(&mut self) -> Vec<&mut Server>;
}

impl Kind {
    /// All of them; those that take longest first.
    pub const ALL: [Self; 5] =
        [Self::Neo4j, Self::Mongodb, Self::RedisCluster, Self::Postgres, Self::Redis];

    /// What one types: `redis-cluster`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::RedisCluster => "redis-cluster",
            Self::Mongodb => "mongodb",
            Self::Neo4j => "neo4j",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The variable of the environment that tells tests where the server is.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "DFLOW_TEST_POSTGRES_URL",
            Self::Redis => "DFLOW_TEST_REDIS_URL",
            Self::RedisCluster => "DFLOW_TEST_REDIS_CLUSTER_URL",
            Self::Mongodb => "DFLOW_TEST_MONGODB_URL",
            Self::Neo4j => "DFLOW_TEST_NEO4J_URL",
        }
    }

    /// Gets what is missing; what can be downloaded goes into that folder.
    ///
    /// # Errors
    /// When it can't be had; the error says what to install.
    pub fn install(self, cache: &Path) -> Result<()> {
        // Tests of each kind make certificates.
        if !apt::is_there("openssl") {
            apt::install(&["openssl"])?;
        }
        match self {
            Self::Postgres => postgres::install(cache),
            Self::Redis | Self::RedisCluster => redis::install(cache),
            Self::Mongodb => mongodb::install(cache),
            Self::Neo4j => neo4j::install(cache),
        }
    }

    /// Starts one, as any test can use it: what is special, a test starts for itself.
    ///
    /// # Errors
    /// When it can't be started, or what it needs is not installed.
    pub fn start(self) -> Result<Box<dyn Service>> {
        Ok(match self {
            Self::Postgres => Box::new(postgres::start(&postgres::Options::default())?),
            Self::Redis => Box::new(redis::start(&redis::Options::default())?),
            Self::RedisCluster => Box::new(redis::start_cluster(&redis::Options::default())?),
            Self::Mongodb => Box::new(mongodb::start(&mongodb::Options::default())?),
            Self::Neo4j => Box::new(neo4j::start(&neo4j::Options::default())?),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Service for postgres::Postgres {
    fn url(&self) -> String {
        Self::url(self)
    }

    fn servers(&mut self) -> Vec<&mut Server> {
        vec![self]
    }
}

impl Service for redis::Redis {
    fn url(&self) -> String {
        Self::url(self)
    }

    fn servers(&mut self) -> Vec<&mut Server> {
        vec![self]
    }
}

impl Service for redis::Cluster {
    fn url(&self) -> String {
        Self::url(self)
    }

    fn servers(&mut self) -> Vec<&mut Server> {
        self.nodes.iter_mut().map(|node| &mut **node).collect()
    }
}

impl Service for mongodb::Mongodb {
    fn url(&self) -> String {
        Self::url(self)
    }

    fn servers(&mut self) -> Vec<&mut Server> {
        vec![self]
    }
}

impl Service for neo4j::Neo4j {
    fn url(&self) -> String {
        Self::url(self)
    }

    fn servers(&mut self) -> Vec<&mut Server> {
        vec![self]
    }
}
