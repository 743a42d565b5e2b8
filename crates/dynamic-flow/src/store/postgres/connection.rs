//! Connections: a bounded number, made when they are needed, and never used again after a call that
//! did not come to its end.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool_postgres::{
    ClientWrapper, Connect, Manager, ManagerConfig, Object, Pool, PoolError, QueueMode,
    RecyclingMethod, Runtime, TimeoutType, WeakPool,
};
use tokio::task::JoinHandle;
use tokio_postgres::{
    Client, Config, Connection, Error as DriverError, Row, Socket,
    error::SqlState,
    tls::MakeTlsConnect,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{config::Settings, tls, trouble::Trouble};
use crate::store::server::within;

/// A statement, and what it is called with.
pub(super) struct Statement<'a> {
    pub(super) sql: String,
    pub(super) values: Vec<(Box<dyn ToSql + Send + Sync + 'a>, Type)>,
    /// Whether it is prepared once for each connection. What depends on its values for a good plan
    /// is planned each time.
    prepared: bool,
}

impl<'a> Statement<'a> {
    pub(super) fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), values: Vec::new(), prepared: true }
    }

    /// One that is planned each time.
    pub(super) fn planned() -> Self {
        Self { prepared: false, ..Self::new("") }
    }

    /// Takes a value; gives the place that stands for it, `$1`.
    pub(super) fn bind(&mut self, value: impl ToSql + Send + Sync + 'a, of: Type) -> String {
        self.values.push((Box::new(value), of));
        format!("${}", self.values.len())
    }

    async fn run(&self, client: &ClientWrapper, prepare: bool) -> Result<Vec<Row>, DriverError> {
        let values = || self.values.iter().map(|(value, of)| (&**value as _, of.clone()));
        if !(prepare && self.prepared) {
            return client.query_typed(&self.sql, &values().collect::<Vec<_>>()).await;
        }
        let types: Vec<_> = self.values.iter().map(|(_, of)| of.clone()).collect();
        let statement = client.prepare_typed_cached(&self.sql, &types).await?;
        let values: Vec<_> = values().map(|(value, _)| value).collect();
        client.query(&statement, &values).await
    }

    /// Has it prepared, so that running it takes one message.
    async fn prepare(&self, client: &ClientWrapper) -> Result<(), DriverError> {
        let types: Vec<_> = self.values.iter().map(|(_, of)| of.clone()).collect();
        client.prepare_typed_cached(&self.sql, &types).await.map(drop)
    }
}

/// The way to a server, on which nobody has gone yet.
pub(super) struct Way {
    pub(super) settings: Arc<Settings>,
    connections: Mutex<Option<Arc<Connections>>>,
}

impl Way {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), connections: Mutex::new(None) }
    }

    /// Goes it, which reads the certificates that are configured.
    pub(super) fn connections(&self) -> Result<Arc<Connections>, Trouble> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = &*connections {
            return Ok(connections.clone());
        }
        let opened = Arc::new(Connections::new(self.settings.clone())?);
        Ok(connections.insert(opened).clone())
    }
}

/// The connections to a server, as many as are configured at the most.
pub(super) struct Connections {
    pool: Pool,
    dialer: Arc<Dialer>,
    pub(super) settings: Arc<Settings>,
}

impl Connections {
    /// Reads certificates; makes no connection yet.
    fn new(settings: Arc<Settings>) -> Result<Self, Trouble> {
        let tls = tls::connector(&settings.config)?;
        let dialer =
            Arc::new(Dialer { settings: settings.clone(), tls, last: AtomicUsize::new(0) });
        let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let driver = settings.driver.clone();
        let manager = Manager::from_connect(driver, Dialing(dialer.clone()), recycle);
        let pool = Pool::builder(manager)
            .max_size(settings.config.pool_size)
            .wait_timeout(Some(settings.config.operation_timeout))
            .create_timeout(Some(settings.reach()))
            // What a burst needed and nobody needs now becomes idle.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| Trouble::Closed)?;
        tokio::spawn(give_back_idle(pool.weak(), settings.config.idle_timeout));
        Ok(Self { pool, dialer, settings })
    }

    /// Runs a statement, which is a transaction of its own.
    pub(super) async fn query(&self, statement: &Statement<'_>) -> Result<Vec<Row>, Trouble> {
        let prepare = self.settings.config.prepared_statements;
        self.with(async |client| {
            if !prepare {
                return self.query_set_up(client, statement).await;
            }
            if statement.prepared {
                return statement.run(client, prepare).await;
            }
            // Otherwise sessions are set up for plans that are made once.
            let (_, rows, _) = futures::join!(
                client.batch_execute(
                    "BEGIN READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan"
                ),
                statement.run(client, prepare),
                client.batch_execute("COMMIT"),
            );
            rows
        })
        .await
    }

    /// Runs a statement in a session that may be set up in any way, in one round trip.
    async fn query_set_up(
        &self,
        client: &ClientWrapper,
        statement: &Statement<'_>,
    ) -> Result<Vec<Row>, DriverError> {
        let begin = self.begin();
        let (begun, rows, committed) = futures::join!(
            client.batch_execute(&begin),
            statement.run(client, false),
            client.batch_execute("COMMIT"),
        );
        begun?;
        let rows = rows?;
        committed?;
        Ok(rows)
    }

    /// Begins a transaction for writing. Behind a pooler it says what sessions are set up for
    /// otherwise.
    fn begin(&self) -> String {
        let config = &self.settings.config;
        let mut begin = String::from("BEGIN ISOLATION LEVEL READ COMMITTED");
        if !config.prepared_statements {
            let timeout = config.operation_timeout.as_millis().max(1);
            begin.push_str(&format!("; SET LOCAL statement_timeout = {timeout}"));
        }
        begin
    }

    /// Runs a statement after one that locks what it is about, in one transaction and one round
    /// trip: it sees all that was written before the lock was given.
    pub(super) async fn query_locked(
        &self,
        lock: &Statement<'_>,
        statement: &Statement<'_>,
    ) -> Result<Vec<Row>, Trouble> {
        let prepare = self.settings.config.prepared_statements;
        let begin = self.begin();
        self.with(async |client| {
            if prepare {
                futures::try_join!(lock.prepare(client), statement.prepare(client))?;
            }
            // All are sent before the first is answered, and after one that fails the others do
            // nothing.
            let (_, locked, rows, committed) = futures::join!(
                client.batch_execute(&begin),
                lock.run(client, prepare),
                statement.run(client, prepare),
                client.batch_execute("COMMIT"),
            );
            locked?;
            let rows = rows?;
            committed?;
            Ok(rows)
        })
        .await
    }

    /// Runs statements without values, one after the other, in one round trip.
    pub(super) async fn execute(&self, script: &str) -> Result<(), Trouble> {
        self.with(async |client| client.batch_execute(script).await).await
    }

    async fn with<T>(
        &self,
        call: impl AsyncFnOnce(&ClientWrapper) -> Result<T, DriverError>,
    ) -> Result<T, Trouble> {
        let limit = self.settings.config.operation_timeout;
        within(limit, async {
            let lent = self.lend().await?;
            let result = call(lent.client()).await;
            lent.give_back(result.as_ref().err());
            Ok(result?)
        })
        .await
    }

    /// Takes a connection that is not in use, or makes one.
    pub(super) async fn lend(&self) -> Result<Lent, Trouble> {
        match self.pool.get().await {
            Ok(client) => Ok(Lent(Some(client))),
            Err(PoolError::Backend(error)) => Err(error.into()),
            Err(PoolError::Timeout(TimeoutType::Wait)) => {
                Err(Trouble::Busy(self.settings.config.pool_size))
            }
            Err(PoolError::Timeout(_)) => Err(Trouble::Silent(self.settings.reach())),
            Err(_) => Err(Trouble::Closed),
        }
    }

    /// Makes a connection beside the pool's.
    pub(super) fn dialer(&self) -> Arc<Dialer> {
        self.dialer.clone()
    }
}

/// Gives connections back to the server that nobody has used for that long. Ends with the pool.
async fn give_back_idle(pool: WeakPool, idle: Duration) {
    loop {
        tokio::time::sleep(idle / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.retain(|_, metrics| metrics.last_used() < idle);
    }
}

/// A connection in use. One that is not given back is closed: a call that was given up may still
/// be at work on it.
pub(super) struct Lent(Option<Object>);

impl Lent {
    pub(super) fn client(&self) -> &ClientWrapper {
        self.0.as_ref().expect("it is there until it is given back")
    }

    pub(super) fn client_mut(&mut self) -> &mut ClientWrapper {
        self.0.as_mut().expect("it is there until it is given back")
    }

    /// Gives it back after a call that came to its end.
    pub(super) fn give_back(mut self, error: Option<&DriverError>) {
        if !error.is_some_and(is_of_the_connection) {
            drop(self.0.take());
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}

/// Whether another connection may fare better: that one is cut, or of a server that takes no writes.
fn is_of_the_connection(error: &DriverError) -> bool {
    match error.code() {
        Some(code) => {
            code.code().starts_with("08")
                || code.code().starts_with("57P")
                || *code == SqlState::READ_ONLY_SQL_TRANSACTION
        }
        None => true,
    }
}

/// Makes connections: to the host that worked last, or to the next one that does.
pub(super) struct Dialer {
    settings: Arc<Settings>,
    tls: MakeRustlsConnect,
    last: AtomicUsize,
}

type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

impl Dialer {
    pub(super) async fn dial(&self) -> Result<(Client, Connection<Socket, Stream>), DriverError> {
        let hosts = &self.settings.hosts;
        let first = self.last.load(Ordering::Relaxed);
        let mut attempt = 0;
        loop {
            let host = (first + attempt) % hosts.len();
            attempt += 1;
            let trial = self.trial(host);
            let dialed = hosts[host].connect(self.tls.clone());
            // Who dials gives up on the last one.
            let result = if attempt == hosts.len() {
                dialed.await
            } else {
                let limit = self.settings.config.connect_timeout;
                let Ok(result) = tokio::time::timeout(limit, dialed).await else { continue };
                result
            };
            match result {
                Err(error) => {
                    trial.failed();
                    if attempt == hosts.len() {
                        return Err(error);
                    }
                }
                Ok(connected) => {
                    trial.reached();
                    return Ok(connected);
                }
            }
        }
    }

    fn trial(&self, host: usize) -> Trial<'_> {
        let config = &self.settings.config;
        let patience = config.connect_timeout.min(config.operation_timeout) / 2;
        Trial {
            last: &self.last,
            host,
            next: (host + 1) % self.settings.hosts.len(),
            patience: Some(Instant::now() + patience),
        }
    }

    /// Makes a connection to another database of the server.
    pub(super) async fn dial_database(&self, name: &str) -> Result<Client, DriverError> {
        let mut error = None;
        for host in &self.settings.hosts {
            match host.clone().dbname(name).connect(self.tls.clone()).await {
                Ok((client, connection)) => {
                    drive(connection);
                    return Ok(client);
                }
                Err(failed) => error = Some(failed),
            }
        }
        Err(error.expect("there is at least one host"))
    }
}

/// A try to reach a host. Whoever dials after one that failed, or was given up late, begins with the
/// next host: a call may not have the time for all of them.
struct Trial<'a> {
    last: &'a AtomicUsize,
    host: usize,
    next: usize,
    /// Until when giving it up says nothing of the host.
    patience: Option<Instant>,
}

impl Trial<'_> {
    fn reached(mut self) {
        self.patience = None;
        self.last.store(self.host, Ordering::Relaxed);
    }

    fn failed(&self) {
        // Unless another one has been reached since.
        let _ =
            self.last.compare_exchange(self.host, self.next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if self.patience.is_some_and(|end| Instant::now() > end) {
            self.failed();
        }
    }
}

/// The dialer as the pool knows it.
struct Dialing(Arc<Dialer>);

type Dialed<'a> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), DriverError>> + Send + 'a>>;

impl Connect for Dialing {
    fn connect(&self, _: &Config) -> Dialed<'_> {
        Box::pin(async {
            let (client, connection) = self.0.dial().await?;
            Ok((client, drive(connection)))
        })
    }
}

fn drive(connection: Connection<Socket, Stream>) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            // Whoever used it has been told.
            tracing::debug!(error = %Trouble::from(error), "a connection to PostgreSQL ended");
        }
    })
}
