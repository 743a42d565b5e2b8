//! What the `http` tool may do.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use reqwest::Url;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{address::is_public, secret::Secret};
use crate::{Error, ErrorKind, Result};

/// What the `http` tool may do: the hosts that it may reach and the secrets that it may send.
///
/// It comes from the configuration of the process that runs the flows, never from a document or a
/// store. By default no host may be reached.
///
/// ```
/// use dynamic_flow::tool::HttpPolicy;
///
/// let policy: HttpPolicy = serde_json::from_value(serde_json::json!({
///     "allowed_hosts": ["api.example.com", "*.example.org:8443", { "host": "10.0.0.7", "private": true }],
///     "secrets": { "API_KEY": { "value": "Bearer s3cret", "hosts": ["api.example.com"] } },
/// }))?;
/// assert_eq!(policy.max_body, 1024 * 1024);
/// assert!(!format!("{policy:?}").contains("s3cret"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpPolicy {
    /// The hosts that may be reached.
    pub allowed_hosts: Vec<HostRule>,
    /// Values that a document may send as headers by their names, without ever seeing them, each to
    /// its hosts, or to all allowed hosts if it names none. They are read, never written.
    #[serde(skip_serializing)]
    pub secrets: BTreeMap<String, Secret>,
    /// Whether all allowed hosts may have addresses of this machine and its networks; false.
    pub allow_private: bool,
    /// Largest body of a response, in bytes; 1 MiB.
    pub max_body: usize,
}

impl Default for HttpPolicy {
    fn default() -> Self {
        Self {
            allowed_hosts: Vec::new(),
            secrets: BTreeMap::new(),
            allow_private: false,
            max_body: 1 << 20,
        }
    }
}

impl HttpPolicy {
    /// Looks for the rule that allows a URL; gives whether its host may have a private address, or
    /// says what to change.
    pub(super) fn check(&self, url: &Url) -> std::result::Result<bool, String> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{} is neither http nor https", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL must have no user or password in it".to_owned());
        }
        let Some(host) = host(url) else {
            return Err("the URL has no host".to_owned());
        };
        let mut rules = self.allowed_hosts.iter().filter(|rule| rule.allows(url)).peekable();
        if rules.peek().is_none() {
            return Err(format!("{} is not among the allowed hosts", shown_host(url)));
        }
        let private = self.allow_private || rules.any(|rule| rule.private);
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match address {
            Ok(address) if !private && !is_public(address) => {
                Err(format!("{host} is no public address"))
            }
            _ => Ok(private),
        }
    }

    /// The value of a secret that may be sent to where a URL leads, or says why there is none.
    pub(super) fn secret(&self, name: &str, url: &Url) -> std::result::Result<&str, String> {
        let Some(secret) = self.secrets.get(name) else {
            return Err(format!("there is no secret {name}"));
        };
        let refuse =
            |why| format!("the secret {name} may not be sent to {}: {why}", shown_host(url));
        secret.reveal_to(url, self).map_err(refuse)
    }
}

/// The host of a URL as rules have it: without the dot that may end it.
fn host(url: &Url) -> Option<&str> {
    url.host_str().map(|host| host.strip_suffix('.').unwrap_or(host))
}

/// Names the host alone: path and query may hold what belongs in no message.
pub(super) fn shown_host(url: &Url) -> String {
    let host = host(url).unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A host that may be reached, or that a secret may be sent to.
///
/// Written as text, `api.example.com`, `*.example.com` for all hosts below it, or `*` for all, with
/// a port as in `localhost:8080` where it is not the usual one; or as an object,
/// `{ "host": "localhost:8080", "private": true }`, where the host may have an address of this
/// machine or its networks.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(into = "Written")]
pub struct HostRule {
    /// In lower case; only the part behind `*.` for all hosts below it, and empty for all.
    host: String,
    below: bool,
    port: Option<u16>,
    private: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Object(Object),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    host: String,
    #[serde(default)]
    private: bool,
}

impl HostRule {
    /// Lets the host have an address of this machine or its networks.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// Whether it names more than a host of the open internet.
    pub(super) fn is_special(&self) -> bool {
        self.private || self.port.is_some()
    }

    /// Whether a URL leads to the host.
    pub(super) fn allows(&self, url: &Url) -> bool {
        let Some(host) = host(url) else { return false };
        let host_fits = if self.below {
            self.host.is_empty()
                || host.strip_suffix(self.host.as_str()).is_some_and(|rest| rest.ends_with('.'))
        } else {
            self.host == host
        };
        let port_fits = match self.port {
            Some(port) => url.port_or_known_default() == Some(port),
            None => url.port().is_none(),
        };
        host_fits && port_fits
    }
}

impl FromStr for HostRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || {
            Error::new(
                ErrorKind::InvalidConfig,
                "a host must read api.example.com, *.example.com or *, with or without a port",
            )
            .with("host", text)
        };
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => {
                (name, Some(port.parse().map_err(|_| invalid())?))
            }
            _ => (text, None),
        };
        if name == "*" {
            return Ok(Self { host: String::new(), below: true, port, private: false });
        }
        let (below, name) = match name.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, name),
        };
        // Parsed as in a URL, so that both are spelled alike.
        let url = Url::parse(&format!("http://{name}/")).map_err(|_| invalid())?;
        match url.host_str() {
            Some(host) if url.path() == "/" && url.port().is_none() && !host.contains('*') => {
                let host = host.strip_suffix('.').unwrap_or(host).to_owned();
                let alone =
                    url.username().is_empty() && url.query().is_none() && url.fragment().is_none();
                if host.is_empty() || !alone {
                    return Err(invalid());
                }
                Ok(Self { host, below, port, private: false })
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.below, self.host.is_empty()) {
            (true, true) => f.write_str("*")?,
            (true, false) => write!(f, "*.{}", self.host)?,
            _ => f.write_str(&self.host)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}{}", if self.private { " (private)" } else { "" })
    }
}

impl<'de> Deserialize<'de> for HostRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Forms)
    }
}

/// Reads both forms. An untagged enum would say of neither what is wrong with it.
struct Forms;

impl<'de> Visitor<'de> for Forms {
    type Value = HostRule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a host, or a table with `host` and `private`")
    }

    fn visit_str<E: serde::de::Error>(self, host: &str) -> Result<HostRule, E> {
        host.parse().map_err(|error: Error| E::custom(error.message()))
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<HostRule, A::Error> {
        let Object { host, private } = Object::deserialize(MapAccessDeserializer::new(fields))?;
        let rule = host.parse().map_err(|error: Error| A::Error::custom(error.message()))?;
        Ok(HostRule { private, ..rule })
    }
}

impl From<HostRule> for Written {
    fn from(rule: HostRule) -> Self {
        let host = rule.to_string();
        match rule.private {
            true => Self::Object(Object { host, private: true }),
            false => Self::Text(host),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(hosts: impl serde::Serialize) -> HttpPolicy {
        serde_json::from_value(json!({ "allowed_hosts": hosts })).unwrap()
    }

    #[test]
    fn hosts_are_allowed_by_name_below_a_name_and_by_port() {
        let policy = policy(json!([
            "API.example.com",
            "*.example.org:8443",
            "bücher.example",
            "*.example.net."
        ]));
        for url in [
            "https://api.example.com/x?y",
            "http://api.example.com",
            "https://API.EXAMPLE.COM.",
            "https://api.example.com:443",
            "https://a.example.org:8443",
            "https://a.b.example.org:8443",
            "https://xn--bcher-kva.example",
            "https://a.example.net",
        ] {
            assert_eq!(policy.check(&url.parse().unwrap()), Ok(false), "{url}");
        }
        for url in [
            "https://example.com",
            "https://api.example.com:8443",
            "https://api.example.com.evil.com",
            "https://evilapi.example.com",
            "https://example.org:8443",
            "https://a.example.org",
            "https://evilexample.org:8443",
            "https://example.net",
            "ftp://api.example.com",
            "https://user@api.example.com",
            "https://:pw@api.example.com",
            "file:///etc/passwd",
            "data:x",
        ] {
            assert!(policy.check(&url.parse().unwrap()).is_err(), "{url}");
        }
        let none = HttpPolicy::default().check(&"https://a.example:81".parse().unwrap());
        assert_eq!(none, Err("a.example:81 is not among the allowed hosts".into()));
    }

    #[test]
    fn addresses_must_be_public_unless_their_rule_says_otherwise() {
        let urls = [
            "http://127.0.0.1",
            "http://0x7f.1",
            "http://[::1]",
            "http://[::ffff:10.0.0.1]",
            "http://2130706433",
        ];
        let strict = policy(json!(["*"]));
        for url in urls {
            assert!(
                strict.check(&url.parse().unwrap()).unwrap_err().contains("no public address"),
                "{url}"
            );
        }
        assert_eq!(strict.check(&"http://8.8.8.8".parse().unwrap()), Ok(false));
        let one = policy(json!([{ "host": "127.0.0.1", "private": true }, "10.0.0.1", "[::1]:80"]));
        assert_eq!(one.check(&"http://127.0.0.1".parse().unwrap()), Ok(true));
        assert!(one.check(&"http://10.0.0.1".parse().unwrap()).is_err());
        assert!(one.check(&"http://[::1]".parse().unwrap()).is_err());
        let all = HttpPolicy { allow_private: true, ..strict };
        for url in urls {
            assert_eq!(all.check(&url.parse().unwrap()), Ok(true), "{url}");
        }
    }

    #[test]
    fn rules_are_data() {
        let rules =
            json!(["a.example", "*.b.example:81", "*", { "host": "[::1]:8080", "private": true }]);
        assert_eq!(serde_json::to_value(&policy(rules.clone()).allowed_hosts).unwrap(), rules);
        for wrong in [
            "",
            "a/b",
            "a b",
            "*a.example",
            "a.*.example",
            "http://a",
            "a:99999",
            "a?b",
            "a#b",
            "u@a",
            "*.",
            ".",
        ] {
            assert!(wrong.parse::<HostRule>().is_err(), "{wrong}");
        }
        assert!(serde_json::from_value::<HttpPolicy>(json!({ "hosts": [] })).is_err());
    }

    #[test]
    fn secrets_are_not_shown_or_written() {
        let policy = HttpPolicy {
            secrets: BTreeMap::from([("KEY".to_owned(), Secret::new("s3cret"))]),
            ..HttpPolicy::default()
        };
        assert!(!format!("{policy:?}").contains("s3cret"));
        assert!(!serde_json::to_string(&policy).unwrap().contains("s3cret"));
    }
}
