//! Where the servers are, and how the store uses them.

use std::{fmt, path::PathBuf, time::Duration};

use serde::Deserialize;
use url::form_urlencoded;

use crate::{
    Result,
    store::{
        CONNECT_TIMEOUT, OPERATION_TIMEOUT, Secret,
        server::{Name, Parameters, duration, location, maybe_duration, misconfigured},
    },
};

/// The prefix of all keys, unless it is configured.
const KEY_PREFIX: &str = "flow:suspended:";
/// Over how many slots of a cluster the runs are spread, unless it is configured.
const PARTITIONS: u16 = 16;
/// More would cost each read more than any cluster gains by it.
const MAX_PARTITIONS: u16 = 256;
const PORT: u16 = 6379;
/// How many connections are held to each server, unless it is configured.
const POOL_SIZE: usize = 8;
/// A hundred years, beyond which Redis may find a time too far away.
const LONGEST_EXPIRY: Duration = Duration::from_secs(100 * 366 * 86_400);

/// The configuration of a [`RedisStore`](super::RedisStore).
///
/// ```
/// use dynamic_flow::store::RedisConfig;
///
/// let url = "rediss://flows:hunter2@a.example:6380,b.example/?prefix=shop:&tls_ca=/etc/ca.pem";
/// let config = RedisConfig::from_url(url).unwrap();
/// assert_eq!(config.hosts, ["a.example:6380", "b.example"]);
/// assert_eq!(config.key_prefix, "shop:");
/// assert!(config.tls);
/// assert!(!format!("{config:?}").contains("hunter2"));
/// ```
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RedisConfig {
    /// The server, or some servers of a cluster: `host` or `host:port`.
    pub hosts: Vec<String>,
    /// The ACL user, who has a password; the server's default user if there is none.
    pub username: Option<String>,
    /// The password, if the server asks for one.
    pub password: Option<Secret>,
    /// The number of the database; a cluster has number 0 alone.
    pub db: u32,
    /// Whether the servers must be those of a cluster. Several hosts must be; one host that turns
    /// out to belong to a cluster is used as such.
    pub cluster: bool,
    /// Whether to use TLS.
    pub tls: bool,
    /// A PEM file with the authorities that are trusted, in place of the system's.
    pub tls_ca: Option<PathBuf>,
    /// A PEM file with the certificate (and its chain) that this client shows; with `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// A PEM file with the private key of `tls_cert`, not encrypted.
    pub tls_key: Option<PathBuf>,
    /// What the names of all keys begin with; stores of different prefixes share a server.
    pub key_prefix: String,
    /// Over how many slots of a cluster the runs are spread. It is settled when the store is
    /// provisioned: another number is refused from then on.
    pub partitions: u16,
    /// How long ended runs stay after their retention, before Redis itself removes them where no
    /// worker did; none leaves that to workers.
    #[serde(deserialize_with = "maybe_duration")]
    pub expiry: Option<Duration>,
    /// How many replicas must have confirmed a write before it is acknowledged. Before runs are
    /// claimed, something else is written first, to see whether replicas confirm it.
    pub wait_replicas: u32,
    /// How many connections are held to each server; calls share them.
    ///
    /// A server that syncs each write takes 16 KiB at a time from each connection, and syncs what
    /// it took together: 5 writes through one connection, 21 through four, 42 through eight, of
    /// records of 3 KiB.
    pub pool_size: usize,
    /// How long a call may take.
    #[serde(deserialize_with = "duration")]
    pub operation_timeout: Duration,
    /// How long it may take to connect.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            hosts: vec!["localhost".into()],
            username: None,
            password: None,
            db: 0,
            cluster: false,
            tls: false,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            key_prefix: KEY_PREFIX.into(),
            partitions: PARTITIONS,
            expiry: None,
            wait_replicas: 0,
            pool_size: POOL_SIZE,
            operation_timeout: OPERATION_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
        }
    }
}

impl RedisConfig {
    /// Reads a URL: `redis://[user[:password]@]host[:port][,host…][/db][?parameters]`, with
    /// `rediss` in place of `redis` for TLS.
    ///
    /// Parameters: `prefix`, `cluster`, `partitions`, `tls_ca`, `tls_cert`, `tls_key`, `expiry`,
    /// `operation_timeout` and `connect_timeout` (such as `10s` or `7d`), `wait_replicas`, `pool_size`.
    ///
    /// # Errors
    /// `InvalidConfig` for what is no such URL, with a word on what is wrong and nothing of its
    /// secrets; and as [`RedisStore::new`](super::RedisStore::new).
    pub fn from_url(url: &str) -> Result<Self> {
        let mut parameters = Parameters::of(url);
        let default = Self::default();
        let config = Self {
            cluster: parameters.take_as("cluster")?.unwrap_or(default.cluster),
            tls_ca: parameters.take_as("tls_ca")?,
            tls_cert: parameters.take_as("tls_cert")?,
            tls_key: parameters.take_as("tls_key")?,
            key_prefix: parameters.take("prefix")?.unwrap_or(default.key_prefix),
            partitions: parameters.take_as("partitions")?.unwrap_or(default.partitions),
            expiry: parameters.take_duration("expiry")?,
            wait_replicas: parameters.take_as("wait_replicas")?.unwrap_or(default.wait_replicas),
            pool_size: parameters.take_as("pool_size")?.unwrap_or(default.pool_size),
            operation_timeout: parameters
                .take_duration("operation_timeout")?
                .unwrap_or(default.operation_timeout),
            connect_timeout: parameters
                .take_duration("connect_timeout")?
                .unwrap_or(default.connect_timeout),
            ..Self::default()
        };
        if let Some(unknown) = parameters.names().next() {
            return Err(parameters.unclear().unwrap_or_else(|| {
                misconfigured(format!("the URL has an unknown parameter, {unknown:?}"))
            }));
        }
        let unclear = parameters.unclear();
        let config = config.with_servers(parameters.into_url().expose());
        let checked = config.and_then(|config| config.check().map(|()| config));
        checked.map_err(|error| unclear.unwrap_or(error))
    }

    /// Reads the part of a URL before its parameters.
    fn with_servers(self, url: &str) -> Result<Self> {
        let (tls, rest) = match url.split_once("://") {
            Some(("redis", rest)) => (false, rest),
            Some(("rediss", rest)) => (true, rest),
            _ => return Err(misconfigured("a Redis URL starts with redis:// or rediss://")),
        };
        // A password may hold an unescaped `@` or `/`.
        let (user, rest) = rest.rsplit_once('@').map_or((None, rest), |(u, r)| (Some(u), r));
        let (username, password) = match user.map(|user| user.split_once(':').unwrap_or((user, "")))
        {
            Some((name, password)) => (decoded(name)?, decoded(password)?),
            None => (None, None),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let db = match path {
            "" => 0,
            number => number.parse().map_err(|_| {
                misconfigured("the path of a Redis URL is the number of a database, such as /0")
            })?,
        };
        let hosts = match hosts {
            "" => self.hosts,
            hosts => hosts.split(',').map(str::to_owned).collect(),
        };
        let password = password.map(Secret::from);
        Ok(Self { hosts, username, password, db, tls, ..self })
    }

    /// Says whether the settings make sense together, and names are what they may be.
    pub(super) fn check(&self) -> Result<()> {
        let prefix = Name { setting: "key_prefix", max: 128, without: &['{', '}'] };
        prefix.check(&self.key_prefix)?;
        if self.hosts.is_empty() {
            return Err(misconfigured("hosts is empty"));
        }
        self.addresses().try_for_each(|address| address.map(drop))?;
        if self.partitions == 0 || self.partitions > MAX_PARTITIONS {
            return Err(misconfigured(format!("partitions is between 1 and {MAX_PARTITIONS}")));
        }
        if self.pool_size == 0 || self.pool_size > 64 {
            return Err(misconfigured("pool_size is between 1 and 64"));
        }
        if self.username.is_some() && self.password.is_none() {
            return Err(misconfigured(
                "a user has a password, and none is given; without one the server would take who \
                 connects for its default user: write redis://USER:PASSWORD@HOST",
            ));
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err(misconfigured("tls_cert and tls_key belong together"));
        }
        if !self.tls && (self.tls_ca.is_some() || self.tls_cert.is_some()) {
            return Err(misconfigured("tls_ca, tls_cert and tls_key need TLS: write rediss://"));
        }
        if self.is_cluster() && self.db != 0 {
            return Err(misconfigured("a cluster has database 0 alone"));
        }
        let times = [self.operation_timeout, self.connect_timeout];
        if times.contains(&Duration::ZERO) || self.expiry == Some(Duration::ZERO) {
            return Err(misconfigured("a length of time is longer than nothing"));
        }
        if self.expiry.is_some_and(|expiry| expiry > LONGEST_EXPIRY) {
            return Err(misconfigured("expiry is at most a hundred years"));
        }
        Ok(())
    }

    /// Whether nothing but a cluster will do.
    pub(super) fn is_cluster(&self) -> bool {
        self.cluster || self.hosts.len() > 1
    }

    /// The hosts, taken apart.
    pub(super) fn addresses(&self) -> impl Iterator<Item = Result<Address>> {
        self.hosts.iter().map(|host| Address::parse(host))
    }

    /// Where the store is, without credentials.
    pub(super) fn location(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        location(&format!("{scheme}://{}/{}", self.hosts.join(","), self.db))
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("location", &self.location())
            .field("key_prefix", &self.key_prefix)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// Reads `host`, `host:port`, `[address]` or `[address]:port`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = || misconfigured("a host is written host, host:port or [address]:port");
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
                (host, rest.strip_prefix(':').or(rest.is_empty().then_some("")))
            }
            None => {
                let (host, port) = text.split_once(':').unwrap_or((text, ""));
                (host, Some(port))
            }
        };
        let port = match port.ok_or_else(wrong)? {
            "" => PORT,
            port => port.parse().map_err(|_| wrong())?,
        };
        let strange = |c: char| c.is_whitespace() || c.is_control() || "/?#@[]".contains(c);
        if host.is_empty() || port == 0 || host.contains(strange) {
            return Err(wrong());
        }
        Ok(Self { host: host.into(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Takes the escapes of a URL out of a name or password; none if it is empty.
fn decoded(text: &str) -> Result<Option<String>> {
    if text.is_empty() {
        return Ok(None);
    }
    // A plus is a plus here, and a separator has no meaning.
    let escaped = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let (decoded, _) = form_urlencoded::parse(escaped.as_bytes())
        .next()
        .ok_or_else(|| misconfigured("the credentials of the URL can't be read"))?;
    Ok(Some(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_all_that_can_be_said() {
        let url = "rediss://us%40er:p%2B+a/ss@w&=%25rd@h:1,[::1]:2,i/0?prefix=a%20b&partitions=4\
                   &cluster=true&expiry=7d&operation_timeout=3s&connect_timeout=1s&wait_replicas=1\
                   &pool_size=2&tls_ca=/ca&tls_cert=/cert&tls_key=/key";
        let config = RedisConfig::from_url(url).unwrap();
        assert_eq!(config.username.as_deref(), Some("us@er"));
        assert_eq!(config.password.as_ref().map(Secret::expose), Some("p++a/ss@w&=%rd"));
        let addresses: Vec<_> = config.addresses().map(|it| it.unwrap().to_string()).collect();
        assert_eq!(addresses, ["h:1", "[::1]:2", "i:6379"]);
        assert_eq!((config.key_prefix.as_str(), config.partitions), ("a b", 4));
        assert!(config.cluster && config.tls);
        assert_eq!(config.expiry, Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(config.operation_timeout, Duration::from_secs(3));
        assert_eq!(config.connect_timeout, Duration::from_secs(1));
        assert_eq!((config.wait_replicas, config.pool_size), (1, 2));
        assert_eq!(config.tls_ca, Some("/ca".into()));
        assert_eq!(RedisConfig::from_url("redis://").unwrap().hosts, ["localhost"]);
        assert_eq!(RedisConfig::from_url("redis://h/7").unwrap().db, 7);
        let alone = RedisConfig::from_url("redis://:hunter2@h").unwrap();
        assert_eq!(alone.username, None);
        assert_eq!(alone.location(), "redis://h/0");
    }

    #[test]
    fn a_wrong_setting_is_named_without_its_secrets() {
        for (url, why) in [
            ("http://u:hunter2@h", "redis://"),
            ("redis:hunter2", "redis://"),
            ("redis://h/hunter2", "number of a database"),
            ("redis://u:hunter2@h:x", "host:port"),
            ("redis://u:hunter2@h,/0", "host:port"),
            ("redis://h?password=hunter2", "unknown parameter"),
            ("redis://h?partitions=0", "partitions"),
            ("redis://h?partitions=257", "partitions"),
            ("redis://h?expiry=9999999h", "expiry"),
            ("redis://h?pool_size=0", "pool_size"),
            ("redis://h?prefix=", "key_prefix is empty"),
            ("redis://h?prefix=a%7Bhunter2", "key_prefix"),
            ("redis://h?prefix=a%0Ahunter2", "key_prefix"),
            ("rediss://h?tls_cert=/hunter2", "belong together"),
            ("redis://h?tls_ca=/hunter2", "rediss://"),
            ("redis://h/1?cluster=true", "database 0"),
            ("redis://h,i/1", "database 0"),
            ("redis://h?cluster=hunter2", "cluster"),
            ("redis://hunter2@h", "a user has a password"),
            ("redis://hunter2:@h", "a user has a password"),
            ("redis://:p?hunter2@h/0", "? as %3F"),
            ("redis://:hunter2?prefix=x@h/0", "? as %3F"),
            ("redis://:p?hunter2=hunter2&prefix=a@h/0", "? as %3F"),
        ] {
            let error = RedisConfig::from_url(url).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidConfig, "{url}");
            assert!(error.message().contains(why), "{url}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_config_is_read_with_defaults() {
        let config: RedisConfig =
            serde_json::from_str(r#"{ "password": "hunter2", "expiry": "24h", "db": 3 }"#).unwrap();
        assert_eq!(config.key_prefix, KEY_PREFIX);
        assert_eq!(config.expiry, Some(Duration::from_secs(86_400)));
        assert_eq!(config.db, 3);
        assert!(config.check().is_ok());
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(serde_json::from_str::<RedisConfig>(r#"{ "host": "a" }"#).is_err());
    }
}
