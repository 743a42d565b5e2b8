//! What a store is told by its URL and its settings, and what the driver makes of it.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;
use tokio_postgres::config::Host;

use super::tables::{MAX_TABLE_NAME, Tables};
use crate::{
    Result,
    flow::parse_duration,
    store::server::{
        CONNECT_TIMEOUT, Name, OPERATION_TIMEOUT, Parameters, Secret, Wire, check_credentials,
        duration, location, misconfigured,
    },
};

/// How many connections a store has at the most, unless it is configured.
pub(super) const POOL_SIZE: usize = 12;

/// How long a connection may be idle, unless it is configured.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// What a URL says for the system's authorities, as libpq spells it.
pub(super) const SYSTEM: &str = "system";

/// PostgreSQL cuts longer names without an error.
const MAX_IDENTIFIER: usize = 63;

/// How to reach a PostgreSQL server, and where in it runs are kept.
///
/// ```
/// use dynamic_flow::store::{PostgresConfig, PostgresStore};
///
/// let mut config = PostgresConfig::from_url("postgres://flows:hunter2@db.example.org/flows");
/// config.schema_name = "workflow".into();
/// assert!(!format!("{config:?}").contains("hunter2"));
/// PostgresStore::new(config)?;
/// # Ok::<_, dynamic_flow::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database?parameter=value`, in libpq's form; several
    /// hosts are tried in turn, `host1:port1,host2:port2`, with `target_session_attrs=read-write`
    /// until one takes writes.
    ///
    /// All other fields of this type but `password` may be parameters of it, which then prevail;
    /// those of TLS have libpq's names: `sslmode`, `sslrootcert`, `sslcert`, `sslkey`. A
    /// `password` that is set prevails over the URL's. Neither libpq's environment variables nor
    /// its password files are read.
    pub url: Secret,
    /// The password, if it is not in the URL.
    pub password: Option<Secret>,
    /// The table; others beside it begin with its name. At most 40 bytes.
    pub table_name: String,
    /// The schema of the tables.
    pub schema_name: String,
    /// How many connections are open at the most, beside the one that listens for hints.
    ///
    /// Twelve is where 64 concurrent runs were fastest on two cores that client and server shared;
    /// from eight to sixteen there is hardly a difference. The server has to take as many of each
    /// process.
    pub pool_size: usize,
    /// How long a connection may be idle until it is given back to the server.
    #[serde(deserialize_with = "duration")]
    pub idle_timeout: Duration,
    /// How long it may take to reach a server.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
    /// How long a call may take, waiting for a connection included.
    #[serde(deserialize_with = "duration")]
    pub operation_timeout: Duration,
    /// Whether statements are prepared once for each connection, and sessions are set up.
    ///
    /// Say `false` behind a pooler that lends connections for a transaction, such as PgBouncer in
    /// its transaction mode: then nothing outlives a transaction, and the store gives no
    /// [hints](crate::store::Store::hints), because nothing can be listened for.
    pub prepared_statements: bool,
    /// Whether to encrypt, and whom to believe.
    pub ssl_mode: SslMode,
    /// The authorities (PEM) that the server's certificate must come from; those of the system if
    /// there is none.
    pub ssl_root_cert: Option<PathBuf>,
    /// A certificate (PEM) that says who the client is; needs `ssl_key`.
    pub ssl_cert: Option<PathBuf>,
    /// The key (PEM) of `ssl_cert`, not encrypted.
    pub ssl_key: Option<PathBuf>,
}

/// Whether a connection is encrypted, and what is asked of the server's certificate: what libpq
/// calls `sslmode`, without its `allow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SslMode {
    /// No encryption.
    Disable,
    /// Encryption where the server has it; its certificate is not looked at. Keeps nobody out who
    /// can change what is sent. Where encryption is offered and fails, the connection does: libpq
    /// would try once more without it.
    #[default]
    Prefer,
    /// Encryption or nothing. The certificate is not looked at, unless `ssl_root_cert` is given:
    /// then as `verify-ca`, which is what libpq does.
    Require,
    /// Encryption, and a certificate from an authority that is believed.
    VerifyCa,
    /// Encryption, and a certificate from an authority that is believed, for the host of the URL,
    /// among its subject alternative names.
    VerifyFull,
}

impl PostgresConfig {
    /// The settings of that URL; everything else is as usual.
    pub fn from_url(url: impl Into<Secret>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }
}

impl PostgresConfig {
    /// Whether the server has to show a certificate from an authority that is believed.
    pub(super) fn verifies(&self) -> bool {
        match self.ssl_mode {
            SslMode::Disable | SslMode::Prefer => false,
            SslMode::Require => self.ssl_root_cert.is_some(),
            SslMode::VerifyCa | SslMode::VerifyFull => true,
        }
    }

    /// What keeps a connection from whoever is on its way, where this is one that is encrypted or
    /// not, as the server sees it.
    pub(super) fn wire(&self, encrypted: bool) -> Wire {
        let own_authority = self.ssl_root_cert.as_deref().is_some_and(|it| it != Path::new(SYSTEM));
        match self.ssl_mode {
            SslMode::Disable => Wire::Clear,
            SslMode::Prefer if !encrypted => Wire::Clear,
            SslMode::VerifyFull => Wire::Verified,
            // An authority of one's own signs for one's own hosts; those of everybody, for any.
            _ if self.verifies() && own_authority => Wire::Verified,
            _ => Wire::Unverified,
        }
    }
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            url: Secret::new("postgres://localhost"),
            password: None,
            table_name: "suspended_flows".into(),
            schema_name: "public".into(),
            pool_size: POOL_SIZE,
            idle_timeout: IDLE_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            operation_timeout: OPERATION_TIMEOUT,
            prepared_statements: true,
            ssl_mode: SslMode::default(),
            ssl_root_cert: None,
            ssl_cert: None,
            ssl_key: None,
        }
    }
}

impl FromStr for SslMode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err(()),
        })
    }
}

/// Settings that were checked, and put into the driver's form.
pub(super) struct Settings {
    /// For the driver, but for TLS and hosts.
    pub(super) driver: tokio_postgres::Config,
    /// The same with one host each, in their order.
    pub(super) hosts: Vec<tokio_postgres::Config>,
    /// The database, and who uses it.
    pub(super) database: String,
    pub(super) user: String,
    pub(super) tables: Tables,
    /// The rest as it was told; without the URL, which may hold the password.
    pub(super) config: PostgresConfig,
    /// The URL as it may be shown.
    pub(super) location: Arc<str>,
}

impl Settings {
    /// Takes parameters out of the URL and checks everything that can be checked here.
    pub(super) fn resolve(mut config: PostgresConfig) -> Result<Self> {
        let url = std::mem::take(&mut config.url);
        if !["postgres://", "postgresql://"].iter().any(|it| url.expose().starts_with(it)) {
            return Err(misconfigured(
                "a PostgreSQL store has a URL such as postgres://user@host/database",
            ));
        }
        check_credentials(url.expose())?;
        let location = location(url.expose()).into();
        let mut parameters = Parameters::of(url.expose());
        config.take(&mut parameters)?;
        config.check()?;
        let refused = parameters.unclear().unwrap_or_else(|| {
            let names = parameters.names().collect::<Vec<_>>().join(", ");
            misconfigured(format!(
                "the URL is none that PostgreSQL's driver knows; check its parameters: {names}"
            ))
        });
        let parsed = parameters.into_url().expose().parse::<tokio_postgres::Config>();
        // The driver's own words may quote the URL.
        let mut driver = parsed.map_err(|_| refused)?;
        if let Some(password) = &config.password {
            driver.password(password.expose());
        }
        set_up(&mut driver, &config);
        let user = driver.get_user().unwrap_or_default().to_owned();
        let database = driver.get_dbname().unwrap_or(&user).to_owned();
        if !database.is_empty() {
            let name = Name { setting: "the database's name", max: MAX_IDENTIFIER, without: &[] };
            name.check(&database)?;
        }
        let tables = Tables::new(&config.schema_name, &config.table_name);
        let hosts = each_host(&driver)?;
        Ok(Self { driver, hosts, database, user, tables, config, location })
    }

    /// The hosts, by address where one is given; of a socket its path.
    pub(super) fn places(&self) -> Vec<String> {
        let place = |host: &tokio_postgres::Config| match (host.get_hostaddrs(), host.get_hosts()) {
            ([address, ..], _) => address.to_string(),
            (_, [Host::Tcp(name), ..]) => name.clone(),
            #[cfg(unix)]
            (_, [Host::Unix(path), ..]) => path.display().to_string(),
            _ => String::new(),
        };
        self.hosts.iter().map(place).collect()
    }

    /// How long it may take until one of the hosts has taken the connection.
    pub(super) fn reach(&self) -> Duration {
        let hosts = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        self.config.connect_timeout.saturating_mul(hosts)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("location", &self.location).finish_non_exhaustive()
    }
}

impl PostgresConfig {
    /// Takes those parameters that are this store's own.
    fn take(&mut self, url: &mut Parameters) -> Result<()> {
        fn set<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        set(&mut self.table_name, url.take("table_name")?);
        set(&mut self.schema_name, url.take("schema_name")?);
        set(&mut self.pool_size, url.take_as("pool_size")?);
        set(&mut self.prepared_statements, url.take_as("prepared_statements")?);
        set(&mut self.idle_timeout, url.take_duration("idle_timeout")?);
        set(&mut self.operation_timeout, url.take_duration("operation_timeout")?);
        // libpq's own has a number of seconds.
        match url.take("connect_timeout")? {
            Some(text) if text.parse::<u32>().is_ok_and(|seconds| seconds > 0) => {
                self.connect_timeout = Duration::from_secs(text.parse().unwrap_or_default());
            }
            Some(text) => {
                self.connect_timeout = parse_duration(&text).map_err(|_| {
                    misconfigured(
                        "the URL's parameter connect_timeout must be a length of time, such as 5s, \
                         or a number of seconds",
                    )
                })?;
            }
            None => {}
        }
        if let Some(text) = url.take("sslmode")? {
            self.ssl_mode = text.parse().map_err(|()| {
                misconfigured(
                    "sslmode is one of disable, prefer, require, verify-ca and verify-full",
                )
            })?;
        }
        for (field, name) in [
            (&mut self.ssl_root_cert, "sslrootcert"),
            (&mut self.ssl_cert, "sslcert"),
            (&mut self.ssl_key, "sslkey"),
        ] {
            if let Some(path) = url.take(name)? {
                *field = Some(path.into());
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let schema = Name { setting: "schema_name", max: MAX_IDENTIFIER, without: &[] };
        schema.check(&self.schema_name)?;
        let table = Name { setting: "table_name", max: MAX_TABLE_NAME, without: &[] };
        table.check(&self.table_name)?;
        if self.pool_size == 0 {
            return Err(misconfigured("pool_size is at least 1"));
        }
        if [self.connect_timeout, self.operation_timeout, self.idle_timeout]
            .contains(&Duration::ZERO)
        {
            return Err(misconfigured(
                "connect_timeout, operation_timeout and idle_timeout are longer than zero",
            ));
        }
        if self.ssl_cert.is_some() != self.ssl_key.is_some() {
            return Err(misconfigured("sslcert and sslkey are given together or not at all"));
        }
        Ok(())
    }
}

/// Adds what every connection of a store has.
fn set_up(driver: &mut tokio_postgres::Config, config: &PostgresConfig) {
    if driver.get_application_name().is_none() {
        driver.application_name("dynamic-flow");
    }
    if driver.get_user().is_none()
        && let Ok(user) = std::env::var("USER")
    {
        driver.user(user);
    }
    driver.connect_timeout(config.connect_timeout);
    driver.ssl_mode(match config.ssl_mode {
        SslMode::Disable => tokio_postgres::config::SslMode::Disable,
        SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
        _ => tokio_postgres::config::SslMode::Require,
    });
    if config.prepared_statements {
        // Plans are made once and kept as long as the connection: one that was made while a table
        // was small must not read it whole when it has grown. What a caller has given up ends on
        // the server too.
        let timeout = config.operation_timeout.as_millis().max(1);
        let mut options = driver.get_options().map_or_else(String::new, |it| format!("{it} "));
        options.push_str(&format!(
            "-c statement_timeout={timeout} -c plan_cache_mode=force_generic_plan \
             -c enable_seqscan=off -c jit=off -c default_transaction_isolation=read\\ committed"
        ));
        driver.options(options);
    }
}

/// The settings with one host each: so that one that hangs does not keep the others from being
/// tried, which the driver's own way through them would.
fn each_host(driver: &tokio_postgres::Config) -> Result<Vec<tokio_postgres::Config>> {
    let (hosts, addresses, ports) =
        (driver.get_hosts(), driver.get_hostaddrs(), driver.get_ports());
    let count = hosts.len().max(addresses.len());
    if count == 0 {
        return Err(misconfigured("the URL names no host"));
    }
    let fits = |length: usize| length == 0 || length == count;
    if !fits(hosts.len()) || !fits(addresses.len()) || (!fits(ports.len()) && ports.len() != 1) {
        return Err(misconfigured("hosts, addresses and ports of the URL are not equally many"));
    }
    let one = |n: usize| {
        let mut it = without_hosts(driver);
        match hosts.get(n) {
            Some(Host::Tcp(name)) => {
                it.host(name);
            }
            #[cfg(unix)]
            Some(Host::Unix(path)) => {
                it.host_path(path);
            }
            None => {}
        }
        if let Some(address) = addresses.get(n) {
            it.hostaddr(*address);
        }
        if let Some(port) = ports.get(n).or(ports.first()) {
            it.port(*port);
        }
        it
    };
    Ok((0..count).map(one).collect())
}

/// A copy of all else; the driver has no way to take a host back.
fn without_hosts(from: &tokio_postgres::Config) -> tokio_postgres::Config {
    let mut to = tokio_postgres::Config::new();
    if let Some(user) = from.get_user() {
        to.user(user);
    }
    if let Some(password) = from.get_password() {
        to.password(password);
    }
    if let Some(database) = from.get_dbname() {
        to.dbname(database);
    }
    if let Some(options) = from.get_options() {
        to.options(options);
    }
    if let Some(name) = from.get_application_name() {
        to.application_name(name);
    }
    if let Some(timeout) = from.get_connect_timeout() {
        to.connect_timeout(*timeout);
    }
    if let Some(timeout) = from.get_tcp_user_timeout() {
        to.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = from.get_keepalives_interval() {
        to.keepalives_interval(interval);
    }
    if let Some(retries) = from.get_keepalives_retries() {
        to.keepalives_retries(retries);
    }
    to.keepalives(from.get_keepalives())
        .keepalives_idle(from.get_keepalives_idle())
        .ssl_mode(from.get_ssl_mode())
        .ssl_negotiation(from.get_ssl_negotiation())
        .target_session_attrs(from.get_target_session_attrs())
        .channel_binding(from.get_channel_binding())
        .load_balance_hosts(from.get_load_balance_hosts());
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Settings {
        Settings::resolve(PostgresConfig::from_url(url)).unwrap()
    }

    #[test]
    fn only_a_server_that_proves_which_one_it_is_is_verified() {
        for (parameters, encrypted, wire) in [
            ("sslmode=disable", false, Wire::Clear),
            // A pooler may encrypt what comes after it.
            ("sslmode=disable", true, Wire::Clear),
            ("sslmode=prefer", false, Wire::Clear),
            ("sslmode=prefer", true, Wire::Unverified),
            ("sslmode=require", true, Wire::Unverified),
            ("sslmode=require", false, Wire::Unverified),
            ("sslmode=require&sslrootcert=/ca", true, Wire::Verified),
            ("sslmode=require&sslrootcert=system", true, Wire::Unverified),
            ("sslmode=verify-ca&sslrootcert=/ca", true, Wire::Verified),
            ("sslmode=verify-ca&sslrootcert=system", true, Wire::Unverified),
            ("sslmode=verify-ca", true, Wire::Unverified),
            ("sslmode=verify-full", true, Wire::Verified),
            ("sslmode=verify-full", false, Wire::Verified),
        ] {
            let config = settings(&format!("postgres://u@h/db?{parameters}")).config;
            assert_eq!(config.wire(encrypted), wire, "{parameters}, encrypted: {encrypted}");
        }
    }

    #[test]
    fn a_host_is_where_its_address_says_and_a_socket_is_a_path() {
        for (url, places) in [
            ("postgres://u@a:1,b:2/db", &["a", "b"][..]),
            ("postgres://u@a/db?hostaddr=127.0.0.1", &["127.0.0.1"]),
            ("postgres://u@%2Frun%2Fpg/db", &["/run/pg"]),
        ] {
            assert_eq!(settings(url).places(), places, "{url}");
        }
    }
}
