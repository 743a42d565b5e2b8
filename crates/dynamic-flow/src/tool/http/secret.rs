//! Secrets of the `http` tool, and the hosts that they may be sent to.

use std::fmt;

use reqwest::Url;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};
use zeroize::Zeroizing;

use super::policy::{HostRule, HttpPolicy};

/// A secret: its value, wiped from memory when it is dropped and never shown, and the hosts that it
/// may be sent to.
///
/// Written as its value alone, or as `{ "value": "Bearer s3cret", "hosts": ["api.example.com"] }`.
/// One that names no hosts may be sent to every allowed host, so that a document can send the key
/// of one service to another: where more than one host is allowed, name them. It is sent over https
/// alone, unless the rule of the host names a port or is [private](HostRule::private).
///
/// ```
/// use dynamic_flow::tool::Secret;
///
/// let key = Secret::new("Bearer s3cret").hosts(["api.example.com".parse()?]);
/// assert_eq!(format!("{key:?}"), "(secret) for api.example.com");
/// # Ok::<(), dynamic_flow::Error>(())
/// ```
#[derive(Clone)]
pub struct Secret {
    value: Zeroizing<String>,
    /// None: every host that is allowed at all.
    hosts: Option<Vec<HostRule>>,
}

impl Secret {
    /// Keeps a value, which may be sent to every allowed host.
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: Zeroizing::new(value.into()), hosts: None }
    }

    /// Binds it to these hosts: those of them that are allowed may get it, and no others.
    #[must_use]
    pub fn hosts(mut self, hosts: impl IntoIterator<Item = HostRule>) -> Self {
        self.hosts = Some(hosts.into_iter().collect());
        self
    }

    /// The value for where a URL leads, or why that must not get it.
    pub(super) fn reveal_to(&self, url: &Url, policy: &HttpPolicy) -> Result<&str, &'static str> {
        let hosts = self.hosts.as_ref().unwrap_or(&policy.allowed_hosts);
        let mut rules = hosts.iter().filter(|rule| rule.allows(url)).peekable();
        if rules.peek().is_none() {
            return Err("it is for other hosts");
        }
        if url.scheme() != "https" && !policy.allow_private && !rules.any(HostRule::is_special) {
            return Err("it would be sent unencrypted; use https, or a rule that names the port");
        }
        Ok(&self.value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")?;
        let Some(hosts) = &self.hosts else { return Ok(()) };
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        write!(f, " for {}", if hosts.is_empty() { "no host".to_owned() } else { hosts.join(", ") })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

/// Reads both forms. An untagged enum would keep copies of the value, and lose what is wrong.
struct Written;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bound {
    value: String,
    #[serde(default, deserialize_with = "some_hosts")]
    hosts: Option<Vec<HostRule>>,
}

/// What is said must name hosts: `null` or none could be meant for none as well as for all.
fn some_hosts<'de, D: Deserializer<'de>>(hosts: D) -> Result<Option<Vec<HostRule>>, D::Error> {
    let hosts = Vec::deserialize(hosts)?;
    if hosts.is_empty() {
        let message = "`hosts` of a secret names no host; leave it out for all allowed hosts";
        return Err(D::Error::custom(message));
    }
    Ok(Some(hosts))
}

impl<'de> Visitor<'de> for Written {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value of a secret, or an object with `value` and `hosts`")
    }

    fn visit_str<E>(self, value: &str) -> Result<Secret, E> {
        Ok(Secret::new(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Secret, E> {
        Ok(Secret::new(value))
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Secret, A::Error> {
        let Bound { value, hosts } = Bound::deserialize(MapAccessDeserializer::new(fields))?;
        Ok(Secret { hosts, ..Secret::new(value) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn secret(written: Value) -> Secret {
        serde_json::from_value(written).unwrap()
    }

    #[test]
    fn a_secret_goes_to_its_hosts_only() {
        let rules = ["*", "*:81", "*:8443"].map(|rule| rule.parse().unwrap());
        let policy = HttpPolicy { allowed_hosts: rules.into(), ..HttpPolicy::default() };
        let to = |secret: &Secret, url: &str| {
            secret.reveal_to(&url.parse().unwrap(), &policy).ok().map(str::to_owned)
        };
        let bound = secret(json!({
            "value": "s3cret", "hosts": ["API.example.com", "*.example.org:8443"]
        }));
        for url in [
            "https://api.example.com/x",
            "https://api.example.com.",
            "http://a.example.org:8443",
            "https://a.example.org:8443",
        ] {
            assert_eq!(to(&bound, url).as_deref(), Some("s3cret"), "{url}");
        }
        for url in [
            "https://example.com",
            "http://api.example.com",
            "https://api.example.com:8443",
            "https://api.example.com.evil.com",
            "https://evilapi.example.com",
            "https://a.example.org",
            "https://example.org:8443",
            "file:///api.example.com",
        ] {
            assert_eq!(to(&bound, url), None, "{url}");
        }
        for unbound in [secret(json!("s3cret")), secret(json!({ "value": "s3cret" }))] {
            assert_eq!(to(&unbound, "https://example.com:81").as_deref(), Some("s3cret"));
            assert_eq!(to(&unbound, "http://example.com"), None);
            let url = "http://example.com".parse().unwrap();
            let private = HttpPolicy { allow_private: true, ..policy.clone() };
            assert!(unbound.reveal_to(&url, &private).is_ok());
        }
        assert_eq!(to(&Secret::new("s3cret").hosts([]), "https://example.com"), None);
    }

    #[test]
    fn wrong_secrets_are_refused_without_their_value() {
        for (wrong, problem) in [
            (json!({ "value": "s3cret", "hosts": [] }), "names no host"),
            (json!({ "value": "s3cret", "hosts": null }), "invalid type: null"),
            (json!({ "value": "s3cret", "hosts": ["https://a/b"] }), "must read api.example.com"),
            (json!({ "value": "s3cret", "host": ["a"] }), "unknown field `host`"),
            (json!({ "hosts": ["a"] }), "missing field `value`"),
            (json!(7), "the value of a secret, or an object with `value` and `hosts`"),
        ] {
            let error = serde_json::from_value::<Secret>(wrong).unwrap_err().to_string();
            assert!(error.contains(problem) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_secret_shows_its_hosts_and_no_value() {
        let shown = |secret: &Secret| format!("{secret:?}");
        assert_eq!(shown(&Secret::new("s3cret")), "(secret)");
        assert_eq!(shown(&Secret::new("s3cret").hosts([])), "(secret) for no host");
        let bound = secret(json!({ "value": "s3cret", "hosts": ["a.example", "*.b.example:81"] }));
        assert_eq!(shown(&bound), "(secret) for a.example, *.b.example:81");
    }
}
