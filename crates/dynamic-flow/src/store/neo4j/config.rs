//! Where the server is, how it is reached, and what is ours in it.

use std::{fmt, path::PathBuf, time::Duration};

use serde::Deserialize;
use url::Url;

use super::names::Names;
use crate::{
    Result,
    store::server::{
        CONNECT_TIMEOUT, Name, OPERATION_TIMEOUT, Parameters, Secret, check_credentials, duration,
        location, misconfigured,
    },
};

/// The schemes that are known; those with `+s` are TLS with a certificate that is checked.
const SCHEMES: &[&str] = &["neo4j", "neo4j+s", "bolt", "bolt+s"];

/// A server of the usual size has no more threads than that.
const MOST_CONNECTIONS: usize = 400;

/// What a database may be called.
const DATABASE: Name = Name { setting: "database", max: 63, without: &['`', '\\', '/', '?', '#'] };

/// Where a Neo4j store is, and how it is used.
///
/// ```
/// use dynamic_flow::store::Neo4jConfig;
///
/// let mut config = Neo4jConfig::default();
/// config.uri = "neo4j+s://graph.example.org".into();
/// config.password = "hunter2".into();
/// config.namespace = "billing_".into();
/// assert!(!format!("{config:?}").contains("hunter2"));
/// ```
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Neo4jConfig {
    /// `neo4j://HOST:PORT`, `neo4j+s://…`, `bolt://…` or `bolt+s://…`; the port is 7687 if it is
    /// left out. With `neo4j` a cluster routes calls to its leader by itself (server-side
    /// routing), reads too, since other members may not have what was written last; with `bolt`
    /// they go where they are sent. With `+s` the connection is encrypted.
    pub uri: String,
    /// The user.
    pub username: String,
    /// The user's password.
    pub password: Secret,
    /// The database; it is made where the edition and the user's rights allow it.
    pub database: String,
    /// Put in front of every label, relationship type, index and constraint, so that several
    /// stores may share a database. None unless set.
    pub namespace: String,
    /// How many connections are open at the most.
    pub pool_size: usize,
    /// How long it may take to reach the server.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
    /// How long a call may take, waiting for a connection included.
    #[serde(deserialize_with = "duration")]
    pub operation_timeout: Duration,
    /// The certificates (PEM) of the authorities that the server's certificate may be of, in place
    /// of those that the system trusts.
    pub tls_ca: Option<PathBuf>,
    /// This client's certificate (PEM), where the server asks for one; needs `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// The key of this client's certificate (PEM, not encrypted).
    pub tls_key: Option<PathBuf>,
}

impl Default for Neo4jConfig {
    fn default() -> Self {
        Self {
            uri: "neo4j://localhost:7687".into(),
            username: "neo4j".into(),
            password: Secret::default(),
            database: "neo4j".into(),
            namespace: String::new(),
            pool_size: 16,
            connect_timeout: CONNECT_TIMEOUT,
            operation_timeout: OPERATION_TIMEOUT,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
        }
    }
}

impl Neo4jConfig {
    /// Reads `neo4j://USER:PASSWORD@HOST:PORT/DATABASE?namespace=…`.
    ///
    /// Parameters: `namespace`, `pool_size`, `connect_timeout` and `operation_timeout` (such as
    /// `10s`), `tls_ca`, `tls_cert`, `tls_key`. What is left out is as in the default.
    ///
    /// # Errors
    /// `InvalidConfig`; it says what is wrong, and shows no secret.
    pub fn from_url(url: &str) -> Result<Self> {
        let mut parameters = Parameters::of(url);
        let namespace = parameters.take("namespace")?.unwrap_or_default();
        let mut config = Self { namespace, ..Self::default() };
        if let Some(size) = parameters.take_as("pool_size")? {
            config.pool_size = size;
        }
        if let Some(limit) = parameters.take_duration("connect_timeout")? {
            config.connect_timeout = limit;
        }
        if let Some(limit) = parameters.take_duration("operation_timeout")? {
            config.operation_timeout = limit;
        }
        config.tls_ca = parameters.take("tls_ca")?.map(PathBuf::from);
        config.tls_cert = parameters.take("tls_cert")?.map(PathBuf::from);
        config.tls_key = parameters.take("tls_key")?.map(PathBuf::from);
        if let Some(unknown) = parameters.names().next() {
            return Err(parameters.unclear().unwrap_or_else(|| misconfigured(format!(
                "the URL has the parameter {unknown:?}, which a Neo4j store does not know; it knows \
                 namespace, pool_size, connect_timeout, operation_timeout, tls_ca, tls_cert, tls_key"
            ))));
        }
        config.take_address(parameters.into_url().expose())?;
        Ok(config)
    }

    fn take_address(&mut self, url: &str) -> Result<()> {
        let wrong = || {
            misconfigured(
                "a Neo4j URL is neo4j://USER:PASSWORD@HOST:PORT/DATABASE; what has a special meaning \
                 in a URL is percent-encoded in user and password",
            )
        };
        check_credentials(url)?;
        let parsed = Url::parse(url).map_err(|_| wrong())?;
        let host = parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let port = parsed.port().map(|port| format!(":{port}")).unwrap_or_default();
        self.uri = format!("{}://{host}{port}", parsed.scheme());
        if !parsed.username().is_empty() {
            self.username = decoded(parsed.username()).ok_or_else(wrong)?;
        }
        if let Some(password) = parsed.password() {
            self.password = decoded(password).ok_or_else(wrong)?.into();
        }
        let database = decoded(parsed.path().trim_matches('/')).ok_or_else(wrong)?;
        if !database.is_empty() {
            self.database = database;
        }
        if parsed.fragment().is_some() {
            return Err(wrong());
        }
        Ok(())
    }

    /// Says what is wrong with the settings, before anything is connected to.
    pub(super) fn check(&self) -> Result<Names> {
        let parsed = Url::parse(&self.uri).ok();
        let parsed = parsed.filter(|uri| uri.host_str().is_some_and(|host| !host.is_empty()));
        let Some(uri) = parsed.filter(|uri| SCHEMES.contains(&uri.scheme())) else {
            return Err(misconfigured(
                "uri is neo4j://HOST:PORT, neo4j+s://HOST:PORT, bolt://HOST:PORT or \
                 bolt+s://HOST:PORT",
            ));
        };
        let alone = uri.username().is_empty() && uri.password().is_none() && uri.query().is_none();
        if !alone || !matches!(uri.path(), "" | "/") || uri.fragment().is_some() {
            return Err(misconfigured(
                "uri has a host and a port only; user, password and database are settings of their \
                 own (Neo4jConfig::from_url takes all of them in one URL)",
            ));
        }
        DATABASE.check(&self.database)?;
        if !(1..=MOST_CONNECTIONS).contains(&self.pool_size) {
            return Err(misconfigured(format!("pool_size is from 1 to {MOST_CONNECTIONS}")));
        }
        if self.connect_timeout.is_zero() || self.operation_timeout.is_zero() {
            return Err(misconfigured("a timeout is longer than nothing"));
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err(misconfigured("tls_cert and tls_key are set together or not at all"));
        }
        let files = [&self.tls_ca, &self.tls_cert].into_iter().any(Option::is_some);
        if files && !self.encrypted() {
            return Err(misconfigured(
                "tls_ca, tls_cert and tls_key are for encrypted connections; use neo4j+s:// or \
                 bolt+s://",
            ));
        }
        Names::new(&self.namespace)
    }

    /// Whether the connection is by TLS.
    pub(super) fn encrypted(&self) -> bool {
        self.uri.split_once(':').is_some_and(|(scheme, _)| scheme.ends_with("+s"))
    }

    /// The host that is asked first.
    pub(super) fn host(&self) -> Option<String> {
        Url::parse(&self.uri).ok()?.host_str().map(str::to_owned)
    }

    /// Where the store is, as it may be shown.
    pub(super) fn location(&self) -> String {
        format!("{}/{}", location(&self.uri).trim_end_matches('/'), self.database)
    }
}

impl fmt::Debug for Neo4jConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the URI as it is: somebody may have put a password into it.
        f.debug_struct("Neo4jConfig")
            .field("location", &self.location())
            .field("username", &self.username)
            .field("password", &self.password)
            .field("namespace", &self.namespace)
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .field("operation_timeout", &self.operation_timeout)
            .field("tls_ca", &self.tls_ca)
            .field("tls_cert", &self.tls_cert)
            .field("tls_key", &self.tls_key)
            .finish()
    }
}

/// Undoes percent-encoding; none if what comes out is no text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = after.get(..2).filter(|_| *first == b'%');
        let byte = pair
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_url_says_everything() {
        let config = Neo4jConfig::from_url(
            "neo4j+s://us%20er:p%40ss%2Fw%25@graph.example.org:17687/flows?namespace=a_&pool_size=3\
             &operation_timeout=2s&connect_timeout=500ms&tls_ca=/ca.pem&tls_cert=c&tls_key=k",
        )
        .unwrap();
        assert_eq!(config.uri, "neo4j+s://graph.example.org:17687");
        assert_eq!(config.username, "us er");
        assert_eq!(config.password.expose(), "p@ss/w%");
        assert_eq!((&*config.database, &*config.namespace), ("flows", "a_"));
        assert_eq!(config.pool_size, 3);
        assert_eq!(config.operation_timeout, Duration::from_secs(2));
        assert_eq!(config.connect_timeout, Duration::from_millis(500));
        assert_eq!(config.location(), "neo4j+s://graph.example.org:17687/flows");
        assert!(config.encrypted());
        config.check().unwrap();

        let config = Neo4jConfig::from_url("bolt://localhost").unwrap();
        assert_eq!(
            (&*config.uri, &*config.username, &*config.database),
            ("bolt://localhost", "neo4j", "neo4j")
        );
        let config = Neo4jConfig::from_url("bolt://u:p@[::1]:7/x").unwrap();
        assert_eq!(config.location(), "bolt://[::1]:7/x");
    }

    #[test]
    fn settings_are_read_from_a_file() {
        let config: Neo4jConfig = serde_json::from_value(serde_json::json!({
            "uri": "bolt://h", "password": "hunter2", "operation_timeout": "1m 30s"
        }))
        .unwrap();
        assert_eq!(config.password.expose(), "hunter2");
        assert_eq!(config.operation_timeout, Duration::from_secs(90));
        for wrong in
            [serde_json::json!({"pasword": "x"}), serde_json::json!({"connect_timeout": "-1s"})]
        {
            assert!(serde_json::from_value::<Neo4jConfig>(wrong).is_err());
        }
    }

    #[test]
    fn a_wrong_setting_is_named_and_no_secret_is_shown() {
        let wrong_urls = [
            "neo4j://u:hunter2@",
            "neo4j://",
            "neo4j://u:hunter2/x@h:y/d",
            "neo4j://h/d#hunter2",
            "neo4j://u:hunter2@h/d?policy=hunter2",
            "neo4j://u:hunter2@h?pool_size=hunter2",
            "neo4j://u:%ff@h",
            "neo4j://u:p?hunter2@h/d",
            "neo4j://u:12?hunter2@h/d",
            "neo4j://u:p?hunter2=hunter2&namespace=a@h/d",
            "neo4j://u:p#hunter2@h/d",
            "neo4j://u:12/hunter2@h",
            "neo4j://u:p@ss/hunter2@h/d",
            "neo4j://u:hunter2@ss@h/d",
        ];
        for url in wrong_urls {
            let error = Neo4jConfig::from_url(url).and_then(|it| it.check().map(drop)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let wrong = |change: fn(&mut Neo4jConfig)| {
            let mut config = Neo4jConfig { password: "hunter2".into(), ..Neo4jConfig::default() };
            change(&mut config);
            assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
            let error = config.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{config:?}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        };
        wrong(|it| it.uri = "neo4j://u:hunter2@h".into());
        wrong(|it| it.uri = "neo4j://h/x".into());
        wrong(|it| it.uri = "neo4j+ssc://h".into());
        wrong(|it| it.uri = "localhost:7687".into());
        wrong(|it| it.database = "a`b".into());
        wrong(|it| it.database = String::new());
        wrong(|it| it.namespace = "a`b".into());
        wrong(|it| it.pool_size = 0);
        wrong(|it| it.pool_size = 401);
        wrong(|it| it.operation_timeout = Duration::ZERO);
        wrong(|it| it.tls_ca = Some("ca.pem".into()));
        wrong(|it| {
            it.uri = "bolt+s://h".into();
            it.tls_cert = Some("c".into());
        });
    }
}
