//! The way to the server: a bounded pool of connections, calls that end in time, and further tries
//! where the server has certainly undone what it began.

use std::{
    convert::Infallible,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable as _};
use neo4rs::{ConfigBuilder, Graph, Query, Row};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{OnceCell, Semaphore, oneshot},
    time::{Instant, timeout_at},
};
use url::{Host, Url};

use super::{config::Neo4jConfig, statement::Statement, stragglers::Stragglers, trouble::Trouble};
use crate::store::server::{Interrupted, OwnRuntime, within};

/// How many rows the server sends at a time.
const ROWS_AT_A_TIME: usize = 100;

/// The database in which databases are made.
const SYSTEM: &str = "system";

/// The first words of Bolt, with versions that are offered.
const BOLT: [u8; 20] = [0x60, 0x60, 0xb0, 0x17, 0, 0, 4, 5, 0, 0, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0];

/// Which store it is, for messages: shown without credentials.
#[derive(Debug)]
pub(super) struct Place {
    location: String,
    database: String,
    /// Whether the server has ever answered a statement.
    greeted: AtomicBool,
}

impl Place {
    pub(super) fn database(&self) -> &str {
        &self.database
    }

    pub(super) fn was_greeted(&self) -> bool {
        self.greeted.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location)
    }
}

/// Connections to one database, made when they are first needed. Calls are made on a thread of
/// their own.
pub(super) struct Connections {
    way: Arc<Way>,
    stragglers: Stragglers,
    runtime: OwnRuntime,
}

/// What calls need on their thread.
struct Way {
    config: Neo4jConfig,
    place: Place,
    graph: OnceCell<Graph>,
    /// As many as there may be connections.
    turns: Semaphore,
}

/// What a statement needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Any member of a cluster.
    Look,
    /// The member that has what was written last.
    Write,
    /// A statement for the database in which databases are made.
    Administer,
}

impl Connections {
    pub(super) fn new(config: Neo4jConfig) -> Self {
        let place = Place {
            location: config.location(),
            database: config.database.clone(),
            greeted: AtomicBool::new(false),
        };
        let turns = Semaphore::new(config.pool_size);
        Self {
            way: Arc::new(Way { config, place, graph: OnceCell::new(), turns }),
            stragglers: Stragglers::default(),
            runtime: OwnRuntime::new("dynamic-flow-neo4j"),
        }
    }

    pub(super) fn config(&self) -> &Neo4jConfig {
        &self.way.config
    }

    pub(super) fn place(&self) -> &Place {
        &self.way.place
    }

    /// Runs a statement that changes nothing, where writes go: other members of a cluster may not
    /// have what was written last. Gives all its rows.
    pub(super) async fn read(&self, statement: Statement) -> Result<Vec<Row>, Trouble> {
        self.call(Access::Write, statement.into()).await
    }

    /// Runs a statement that changes nothing, at any member of a cluster, and so without a leader.
    pub(super) async fn look(&self, statement: Statement) -> Result<Vec<Row>, Trouble> {
        self.call(Access::Look, statement.into()).await
    }

    /// Runs a statement in a transaction of its own, which is committed when this returns `Ok`.
    pub(super) async fn write(&self, statement: Statement) -> Result<Vec<Row>, Trouble> {
        self.call(Access::Write, statement.into()).await
    }

    /// Makes the database, if it is missing, and waits until it can be used.
    pub(super) async fn create_database(&self) -> Result<(), Trouble> {
        let create = Query::new("CREATE DATABASE $name IF NOT EXISTS WAIT".into());
        let create = create.param("name", &*self.config().database);
        self.call(Access::Administer, create).await.map(drop)
    }

    async fn call(&self, access: Access, query: Query) -> Result<Vec<Row>, Trouble> {
        let limit = self.config().operation_timeout;
        // The server gives up when we do, and does not commit behind our backs much later.
        let millis = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        let query = query.extra("tx_timeout", millis);
        within(limit, async {
            self.stragglers.gone().await;
            let runtime = self.runtime.handle()?;
            let (_here, caller) = oneshot::channel();
            let way = self.way.clone();
            let call = runtime.spawn(async move { way.call(access, query, caller).await });
            self.stragglers.watched(call, &runtime).await
        })
        .await
    }
}

impl Way {
    /// Makes a call; one that has not begun when its caller goes away is not made.
    async fn call(
        &self,
        access: Access,
        query: Query,
        caller: oneshot::Receiver<Infallible>,
    ) -> Result<Vec<Row>, Trouble> {
        let ready = async {
            let graph = self.graph().await?;
            let turn = self.turns.acquire().await.map_err(|_| Interrupted::BrokenOff)?;
            Ok::<_, Trouble>((graph, turn))
        };
        let (graph, _turn) = tokio::select! {
            biased;
            _ = caller => return Err(Interrupted::BrokenOff.into()),
            ready = ready => ready?,
        };
        let tries = || once(graph, access, query.clone());
        let tries = tries.retry(pauses()).when(Trouble::is_rolled_back);
        let result = within(self.config.operation_timeout, tries).await;
        if result.is_ok() {
            self.place.greeted.store(true, Ordering::Relaxed);
        }
        result
    }

    async fn graph(&self) -> Result<&Graph, Trouble> {
        self.graph
            .get_or_try_init(|| async {
                self.reach().await?;
                self.connect()
            })
            .await
    }

    /// Says soon if nobody is there, or a server that is frozen, which takes connections too: the driver
    /// has one limit for reaching a server and for waiting for its answers, which may rightly take
    /// longer.
    async fn reach(&self) -> Result<(), Trouble> {
        let limit = self.config.connect_timeout;
        let late = Instant::now() + limit;
        let uri = Url::parse(&self.config.uri).map_err(neo4rs::Error::from)?;
        let port = uri.port().unwrap_or(7687);
        let stream = async {
            match uri.host() {
                Some(Host::Ipv4(address)) => TcpStream::connect((address, port)).await,
                Some(Host::Ipv6(address)) => TcpStream::connect((address, port)).await,
                Some(Host::Domain(name)) => TcpStream::connect((name, port)).await,
                None => Err(std::io::ErrorKind::InvalidInput.into()),
            }
        };
        let mut stream = match timeout_at(late, stream).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(neo4rs::Error::from(error).into()),
            Err(_) => return Err(neo4rs::Error::ConnectionTimedOut.into()),
        };
        let greeting = match self.config.encrypted() {
            true => client_hello(uri.host_str().unwrap_or_default().trim_matches(['[', ']'])),
            false => Some(BOLT.to_vec()),
        };
        let Some(greeting) = greeting else { return Ok(()) };
        let answer = async {
            stream.write_all(&greeting).await?;
            stream.read(&mut [0]).await
        };
        // What it answers, or that it hangs up, is for the driver to judge.
        timeout_at(late, answer).await.map(drop).map_err(|_| Trouble::Silent(limit))
    }

    fn connect(&self) -> Result<Graph, Trouble> {
        let Neo4jConfig { uri, username, password, database, .. } = &self.config;
        let builder = ConfigBuilder::new()
            .uri(uri)
            .user(username)
            .password(password.expose())
            .db(&**database)
            .max_connections(self.config.pool_size)
            .fetch_size(ROWS_AT_A_TIME)
            .connection_timeout(self.config.operation_timeout);
        let builder = if self.config.encrypted() { self.encrypt(builder)? } else { builder };
        Ok(Graph::connect(builder.build()?)?)
    }

    fn encrypt(&self, builder: ConfigBuilder) -> Result<ConfigBuilder, Trouble> {
        // The driver asks rustls for the provider of this process, which panics if there is none
        // and several are compiled in. Somebody else may be setting it: any will do.
        if CryptoProvider::get_default().is_none() {
            let _ = aws_lc_rs::default_provider().install_default();
        }
        let Neo4jConfig { tls_ca, tls_cert, tls_key, .. } = &self.config;
        // The driver takes a file without a certificate for an empty list of authorities, and
        // panics at one without a key.
        for path in [tls_ca, tls_cert].into_iter().flatten() {
            certificates(path)?;
        }
        Ok(match (tls_ca, tls_cert, tls_key) {
            (ca, Some(certificate), Some(key)) => {
                private_key(key)?;
                builder.with_mutual_tls_validation(ca.as_ref(), certificate, key)
            }
            (Some(ca), ..) => builder.with_client_certificate(ca),
            _ => builder,
        })
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.config(), f)
    }
}

async fn once(graph: &Graph, access: Access, query: Query) -> Result<Vec<Row>, Trouble> {
    let mut stream = match access {
        Access::Look => graph.execute_read(query).await?,
        Access::Write => graph.execute(query).await?,
        Access::Administer => graph.execute_on(SYSTEM, query).await?,
    };
    let mut rows = Vec::new();
    // To the end: it is the end that tells of the commit.
    while let Some(row) = stream.next().await? {
        rows.push(row);
    }
    Ok(rows)
}

/// The pauses before further tries: short, and of different lengths for those who met.
fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(2))
        .with_max_delay(Duration::from_millis(200))
        .with_max_times(30)
        .with_jitter()
}

/// The first words of TLS; whom to believe does not matter, since nothing more is said.
fn client_hello(host: &str) -> Option<Vec<u8>> {
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut hello = Vec::new();
    ClientConnection::new(config.into(), name).ok()?.write_tls(&mut hello).ok()?;
    Some(hello)
}

fn certificates(path: &std::path::Path) -> Result<(), Trouble> {
    let refuse = |why: String| Trouble::Certificate { path: path.into(), why };
    let found = CertificateDer::pem_file_iter(path)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(|error| refuse(format!("the certificate can't be read ({error})")))?;
    if found.is_empty() {
        return Err(refuse("the file holds no certificate (PEM)".into()));
    }
    Ok(())
}

fn private_key(path: &std::path::Path) -> Result<(), Trouble> {
    let key = PrivateKeyDer::from_pem_file(path);
    key.map(drop).map_err(|error| Trouble::Certificate {
        path: path.into(),
        why: format!("the key can't be read ({error}); it is PEM and not encrypted"),
    })
}
