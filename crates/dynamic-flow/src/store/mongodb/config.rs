//! Where the server is, and what is configured about it.

use std::{fmt, time::Duration};

use mongodb::options::{Acknowledgment, ConnectionString, HostInfo, ReadConcern, ReadPreference};
use serde::Deserialize;

use crate::{
    Result,
    clock::days,
    flow::parse_duration,
    store::server::{
        CONNECT_TIMEOUT, Name, OPERATION_TIMEOUT, Parameters, Secret, duration, location,
        maybe_duration, misconfigured,
    },
};

/// The database, unless one is named.
const DATABASE: &str = "flows";
/// The collection, unless one is named.
const COLLECTION: &str = "suspended_flows";
/// How many connections to each member there are at the most, unless one says.
const POOL_SIZE: u32 = 32;

/// What a URL says for no `purge_margin`.
const NEVER: &str = "never";

/// Which characters a database's name must not hold, on any system that a server runs on.
const NOT_IN_DATABASES: &[char] = &['/', '\\', '.', ' ', '"', '$', '*', '<', '>', ':', '|', '?'];

/// The settings of a [`MongodbStore`](super::MongodbStore).
///
/// ```
/// use dynamic_flow::store::{MongodbConfig, MongodbStore};
///
/// let mut config = MongodbConfig::new("mongodb://app:hunter2@db.example/?replicaSet=rs0");
/// config.database = Some("flows".into());
/// config.collection = "approvals".into();
/// let store = MongodbStore::new(config).unwrap();
/// assert!(!format!("{store:?}").contains("hunter2"));
/// ```
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MongodbConfig {
    /// Where the servers are, and all that the driver knows: `mongodb://` or `mongodb+srv://`.
    ///
    /// Writes are `w=majority` and `journal=true` unless it says otherwise.
    pub url: Secret,
    /// The database; if none, the one in the path of the URL, or `flows`.
    pub database: Option<String>,
    /// The collection; its schema's version is in a second one, `….schema`.
    pub collection: String,
    /// How long a call may take, waiting for a connection included.
    #[serde(deserialize_with = "duration")]
    pub operation_timeout: Duration,
    /// How long it may take to reach a server, or to find the one that takes writes.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
    /// How many connections to each member there are at the most; if none, what the URL says as
    /// `maxPoolSize`, or 32.
    pub pool_size: Option<u32>,
    /// How long after the end of its retention an ended run is removed by the server itself, should
    /// no worker have done it; never if none. The server goes by its own clock.
    #[serde(deserialize_with = "maybe_duration")]
    pub purge_margin: Option<Duration>,
}

fn margin(text: &str) -> Result<Duration> {
    parse_duration(text).ok().filter(|span| !span.is_zero()).ok_or_else(|| {
        misconfigured(format!(
            "the URL's parameter purge_margin must be a length of time, such as 7d, or {NEVER}"
        ))
    })
}

impl Default for MongodbConfig {
    fn default() -> Self {
        Self {
            url: "mongodb://localhost".into(),
            database: None,
            collection: COLLECTION.into(),
            operation_timeout: OPERATION_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            pool_size: None,
            purge_margin: Some(days(7)),
        }
    }
}

impl MongodbConfig {
    /// The servers of that URL, and the defaults.
    pub fn new(url: impl Into<Secret>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Reads a URL as the driver does, with the path as the database, and with parameters of this
    /// store's own: `collection`, `operation_timeout`, `connect_timeout`, `pool_size` and
    /// `purge_margin`, which may be `never`.
    ///
    /// # Errors
    /// `InvalidConfig` for a parameter that can't be read.
    pub fn from_url(url: &str) -> Result<Self> {
        let mut url = Parameters::of(url);
        let mut config = Self::default();
        if let Some(collection) = url.take("collection")? {
            config.collection = collection;
        }
        if let Some(timeout) = url.take_duration("operation_timeout")? {
            config.operation_timeout = timeout;
        }
        if let Some(timeout) = url.take_duration("connect_timeout")? {
            config.connect_timeout = timeout;
        }
        config.purge_margin = match url.take("purge_margin")? {
            None => config.purge_margin,
            Some(text) if text == NEVER => None,
            Some(text) => Some(margin(&text)?),
        };
        config.pool_size = url.take_as("pool_size")?;
        let unclear = url.unclear();
        config.url = url.into_url();
        // Later nobody knows what it was: what follows a `?` is escaped now.
        match unclear {
            Some(error) if ConnectionString::parse(config.url.expose()).is_err() => Err(error),
            _ => Ok(config),
        }
    }
}

impl fmt::Debug for MongodbConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongodbConfig")
            .field("url", &location(self.url.expose()))
            .field("database", &self.database)
            .field("collection", &self.collection)
            .field("operation_timeout", &self.operation_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("pool_size", &self.pool_size)
            .field("purge_margin", &self.purge_margin)
            .finish()
    }
}

/// What a configuration comes to, when it has been checked.
pub(super) struct Settings {
    pub(super) servers: ConnectionString,
    pub(super) database: String,
    pub(super) collection: String,
    pub(super) operation_timeout: Duration,
    pub(super) purge_margin: Option<Duration>,
    /// Where it is, without credentials, and with the names of database and collection.
    pub(super) location: String,
}

impl Settings {
    pub(super) fn of(config: MongodbConfig) -> Result<Self> {
        let url = config.url.expose();
        let mut servers = parse(url)?;
        let named = config.database.or_else(|| servers.default_database.clone());
        let database = named.unwrap_or_else(|| DATABASE.into());
        check_database(&database)?;
        check_collection(&config.collection)?;
        if config.operation_timeout.is_zero() || config.connect_timeout.is_zero() {
            return Err(misconfigured("operation_timeout and connect_timeout are more than 0"));
        }
        servers.max_pool_size = config.pool_size.or(servers.max_pool_size).or(Some(POOL_SIZE));
        if servers.max_pool_size == Some(0) {
            return Err(misconfigured("pool_size is at least 1: without an end it is not taken"));
        }
        apply_defaults(&mut servers, config.operation_timeout, config.connect_timeout)?;
        let hosts = match &servers.host_info {
            HostInfo::HostIdentifiers(hosts) => {
                let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
                format!("mongodb://{}", hosts.join(","))
            }
            HostInfo::DnsRecord(name) => format!("mongodb+srv://{name}"),
            // Not one of those that there are.
            _ => location(url),
        };
        let location = format!("{hosts}/{database}.{}", config.collection);
        Ok(Self {
            servers,
            database,
            collection: config.collection,
            operation_timeout: config.operation_timeout,
            purge_margin: config.purge_margin,
            location,
        })
    }
}

/// Sets what makes writes durable and calls end, where the URL is silent; refuses what a store
/// can't do its work with.
fn apply_defaults(servers: &mut ConnectionString, call: Duration, connect: Duration) -> Result<()> {
    let write = servers.write_concern.get_or_insert_default();
    if matches!(write.w, Some(Acknowledgment::Nodes(0))) {
        return Err(misconfigured("w=0 tells nobody whether a write was made; use w=majority"));
    }
    write.w.get_or_insert(Acknowledgment::Majority);
    write.journal.get_or_insert(true);
    // Somewhat less than the call may take, so that the server says what it waited for.
    write.w_timeout.get_or_insert(call * 4 / 5);
    if servers.read_preference.as_ref().is_some_and(|it| *it != ReadPreference::Primary) {
        return Err(misconfigured(
            "readPreference must be primary: other members may not have what was written last",
        ));
    }
    let is_enough = |level: &ReadConcern| {
        [ReadConcern::majority(), ReadConcern::linearizable()].contains(level)
    };
    if servers.read_concern.as_ref().is_some_and(|it| !is_enough(it)) {
        return Err(misconfigured(
            "readConcernLevel must be majority, or be left out: what is read with less may be \
             undone, or may be older than what was written last",
        ));
    }
    servers.server_selection_timeout.get_or_insert(connect.min(call));
    servers.connect_timeout.get_or_insert(connect);
    servers.max_connecting.get_or_insert(8);
    servers.app_name.get_or_insert_with(|| "dynamic-flow".into());
    Ok(())
}

fn check_database(name: &str) -> Result<()> {
    Name { setting: "database", max: 63, without: NOT_IN_DATABASES }.check(name)?;
    if ["admin", "local", "config"].contains(&name) {
        return Err(misconfigured(format!("the database {name} is the server's own")));
    }
    Ok(())
}

fn check_collection(name: &str) -> Result<()> {
    // With the database, a dot and `.schema` it fits the 255 bytes that a server takes.
    Name { setting: "collection", max: 180, without: &['$'] }.check(name)?;
    if name.starts_with("system.") {
        return Err(misconfigured("collection must not begin with system., which is the server's"));
    }
    if name.starts_with('.') || name.ends_with('.') || name.contains("..") {
        return Err(misconfigured("collection must have something before and after each dot"));
    }
    Ok(())
}

/// Takes a URL apart as the driver does; shows nothing of it that may be a secret.
fn parse(url: &str) -> Result<ConnectionString> {
    let error = match ConnectionString::parse(url) {
        Ok(servers) => return Ok(servers),
        Err(error) => error,
    };
    let scheme = url.split_once("://").map_or("mongodb", |(scheme, _)| scheme);
    // What is wrong with the rest can be told; what the driver says of a password may quote it.
    let rest = url.rsplit_once('@').map(|(_, rest)| format!("{scheme}://{rest}"));
    let told = match rest.map(ConnectionString::parse) {
        None => Some(error),
        Some(Err(error)) => Some(error),
        Some(Ok(_)) => None,
    };
    Err(match told {
        Some(error) => misconfigured(format!("the URL can't be read: {}", error.kind)),
        None => misconfigured(
            "the user or password in the URL can't be read; write characters such as : / @ % \
             in them as %3A %2F %40 %25",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn settings(url: &str) -> Result<Settings> {
        Settings::of(MongodbConfig::from_url(url)?)
    }

    #[test]
    fn a_url_says_where_and_the_rest_is_durable_and_ends() {
        let it =
            settings("mongodb://u:hunter2@a:1,b/shop?collection=c.d&operation_timeout=2s").unwrap();
        assert_eq!(it.location, "mongodb://a:1,b:27017/shop.c.d");
        let write = it.servers.write_concern.unwrap();
        assert_eq!(write.w, Some(Acknowledgment::Majority));
        assert_eq!(write.journal, Some(true));
        assert_eq!(write.w_timeout, Some(Duration::from_millis(1600)));
        assert_eq!(it.servers.server_selection_timeout, Some(Duration::from_secs(2)));
        assert_eq!(it.servers.max_pool_size, Some(POOL_SIZE));
        let it = settings("mongodb://h").unwrap();
        assert_eq!(it.location, "mongodb://h:27017/flows.suspended_flows");
        let it = settings("mongodb+srv://u:hunter2@h.example.com/x").unwrap();
        assert_eq!(it.location, "mongodb+srv://h.example.com/x.suspended_flows");
    }

    #[test]
    fn what_the_url_says_holds() {
        let it = settings(
            "mongodb://h/?w=2&journal=false&wtimeoutMS=9&maxPoolSize=3&connectTimeoutMS=77\
             &serverSelectionTimeoutMS=88&appName=mine",
        )
        .unwrap();
        let write = it.servers.write_concern.unwrap();
        assert_eq!(write.w, Some(Acknowledgment::Nodes(2)));
        assert_eq!((write.journal, write.w_timeout), (Some(false), Some(Duration::from_millis(9))));
        assert_eq!(it.servers.max_pool_size, Some(3));
        assert_eq!(it.servers.connect_timeout, Some(Duration::from_millis(77)));
        assert_eq!(it.servers.server_selection_timeout, Some(Duration::from_millis(88)));
        assert_eq!(it.servers.app_name.as_deref(), Some("mine"));
        let it = settings("mongodb://h/?maxPoolSize=3&pool_size=5").unwrap();
        assert_eq!(it.servers.max_pool_size, Some(5));
    }

    #[test]
    fn a_wrong_url_or_name_is_refused_without_what_is_secret() {
        for url in [
            "mongodb://",
            "mongodb://u:hunter2@",
            "mongodb://u:hun:ter2@h",
            "mongodb://u:p?hunter2@h/x",
            "mongodb://u:p?hunter2=hunter2@h/x",
            "mongodb://u:hunter2?w=1@h/x",
            "mongodb://u:p#hunter2@h/x",
            "mongodb://u:p#a?hunter2@h/x",
            "mongodb://u:hunter2%@h",
            "mongodb://u:12/hunter2@h",
            "mongodb://u:p@ss/hunter2@h",
            "mongodb://u:hunter2@h/?nonsense=hunter2&readPreference=sometimes",
            "mongodb://u:hunter2@h/?w=0",
            "mongodb://u:hunter2@h/?readPreference=secondary",
            "mongodb://u:hunter2@h/?readConcernLevel=local",
            "mongodb://u:hunter2@h/?readConcernLevel=available",
            "mongodb://u:hunter2@h/?purge_margin=hunter2",
            "mongodb://u:hunter2@h/?purge_margin=0s",
            "mongodb://u:hunter2@h/?pool_size=0",
            "mongodb://u:hunter2@h/?pool_size=hunter2",
            "mongodb://u:hunter2@h/?operation_timeout=hunter2",
            "mongodb://u:hunter2@h/?collection=",
            "mongodb://u:hunter2@h/?collection=a&collection=b",
            "mongodb://u:hunter2@h/?collection=system.users",
            "mongodb://u:hunter2@h/?collection=a$b",
            "mongodb://u:hunter2@h/?collection=a%00b",
            "mongodb://u:hunter2@h/?collection=.a",
            "mongodb://u:hunter2@h/?collection=a..b",
            "mongodb://u:hunter2@h/admin",
            "mongodb://u:hunter2@h/a.b",
            "mongodb://u:hunter2@h/a%20b",
        ] {
            let error = settings(url).err().unwrap_or_else(|| panic!("{url} is taken"));
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}: {error}");
            let shown = format!("{error:?}");
            assert!(!shown.contains("hunter2") && !shown.contains("ter2"), "{url}: {shown}");
        }
        for (length, is_taken) in [(180, true), (181, false)] {
            let url = format!("mongodb://h/?collection={}", "c".repeat(length));
            assert_eq!(settings(&url).is_ok(), is_taken);
        }
    }

    #[test]
    fn a_read_concern_of_a_majority_or_more_is_taken() {
        for level in ["majority", "linearizable"] {
            assert!(settings(&format!("mongodb://h/?readConcernLevel={level}")).is_ok(), "{level}");
        }
    }

    #[test]
    fn a_purge_margin_is_a_time_or_none_in_urls_and_in_files() {
        let of_url = |url| MongodbConfig::from_url(url).unwrap().purge_margin;
        assert_eq!(of_url("mongodb://h"), Some(days(7)));
        assert_eq!(of_url("mongodb://h/?purge_margin=48h"), Some(days(2)));
        assert_eq!(of_url("mongodb://h/?purge_margin=2d"), Some(days(2)));
        assert_eq!(of_url("mongodb://h/?purge_margin=never"), None);
        let of_file = |text| serde_json::from_str::<MongodbConfig>(text).unwrap().purge_margin;
        assert_eq!(of_file("{}"), Some(days(7)));
        assert_eq!(of_file(r#"{ "purge_margin": "2d" }"#), Some(days(2)));
        assert_eq!(of_file(r#"{ "purge_margin": null }"#), None);
    }

    #[test]
    fn a_configuration_reads_from_a_file_and_shows_no_password() {
        let text = r#"{ "url": "mongodb://u:hunter2@h/x", "collection": "approvals" }"#;
        let config: MongodbConfig = serde_json::from_str(text).unwrap();
        let shown = format!("{config:?}");
        assert!(shown.contains("mongodb://h/x") && !shown.contains("hunter2"), "{shown}");
        assert_eq!(Settings::of(config).unwrap().location, "mongodb://h:27017/x.approvals");
        assert!(serde_json::from_str::<MongodbConfig>(r#"{ "tabel": "x" }"#).is_err());
    }
}
