//! `[http]`: what the `http` tool of documents may do.

use std::{collections::BTreeMap, env, fmt};

use dynamic_flow::tool::HostRule;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// `[http]`: what the `http` tool of documents may do. Nothing, unless it is said here.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HttpSection {
    /// The hosts that may be reached: `"api.example.com"`, `"*.example.com"`, or
    /// `{ host = "localhost:8080", private = true }`.
    pub(crate) allowed_hosts: Vec<HostRule>,
    /// Whether all of them may have addresses of this machine and its networks.
    pub(crate) allow_private: bool,
    /// The largest body of a response, in bytes.
    pub(crate) max_body: Option<usize>,
    /// Names under which documents may use secrets, and where those come from.
    pub(crate) secrets: BTreeMap<String, SecretSource>,
}

/// Where a secret comes from and goes to: `"API_TOKEN"`, or
/// `{ env = "API_TOKEN", hosts = ["api.example.com"] }`.
#[derive(Debug)]
pub(crate) struct SecretSource {
    /// The environment variable that holds it.
    pub(crate) env: String,
    /// The hosts that it may be sent to; all allowed ones if not said.
    pub(crate) hosts: Option<Vec<HostRule>>,
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

/// Reads both forms. An untagged enum would say of neither what is wrong with it.
struct Written;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bound {
    env: String,
    #[serde(default, deserialize_with = "some_hosts")]
    hosts: Option<Vec<HostRule>>,
}

fn some_hosts<'de, D: Deserializer<'de>>(hosts: D) -> Result<Option<Vec<HostRule>>, D::Error> {
    let hosts = Vec::deserialize(hosts)?;
    if hosts.is_empty() {
        let message = "a secret needs a host to go to; without `hosts` it may go to all allowed";
        return Err(D::Error::custom(message));
    }
    Ok(Some(hosts))
}

impl<'de> Visitor<'de> for Written {
    type Value = SecretSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an environment variable, or a table with `env` and `hosts`")
    }

    fn visit_str<E>(self, env: &str) -> Result<SecretSource, E> {
        Ok(SecretSource { env: env.to_owned(), hosts: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<SecretSource, A::Error> {
        let Bound { env, hosts } = Bound::deserialize(MapAccessDeserializer::new(fields))?;
        Ok(SecretSource { env, hosts })
    }
}

impl HttpSection {
    /// The secrets whose environment variable is not set, with it.
    pub(crate) fn unset_secrets(&self) -> impl Iterator<Item = (&str, &str)> {
        let secrets =
            self.secrets.iter().map(|(name, secret)| (name.as_str(), secret.env.as_str()));
        secrets.filter(|(_, variable)| env::var(variable).is_err())
    }

    /// The secrets that documents may send to more hosts than one, for no hosts are said.
    pub(crate) fn unbound_secrets(&self) -> impl Iterator<Item = &str> {
        let is_many = |rule: &HostRule| rule.to_string().starts_with('*');
        let several = self.allowed_hosts.len() > 1 || self.allowed_hosts.iter().any(is_many);
        let unbound = self.secrets.iter().filter(move |(_, it)| several && it.hosts.is_none());
        unbound.map(|(name, _)| name.as_str())
    }

    /// What flows may do by these settings that could do harm, in words; none if nothing.
    pub(crate) fn powers(&self) -> Option<String> {
        let secrets: Vec<&str> = self.secrets.keys().map(String::as_str).collect();
        let secrets =
            (!secrets.is_empty()).then(|| format!("send the secrets {}", secrets.join(", ")));
        let private = self.allow_private || self.allowed_hosts.iter().any(is_private);
        let private = private.then(|| "reach private hosts".to_owned());
        let powers: Vec<String> = secrets.into_iter().chain(private).collect();
        (!powers.is_empty()).then(|| powers.join(" and "))
    }
}

/// Whether a rule allows an address of this machine and its networks.
fn is_private(rule: &HostRule) -> bool {
    *rule == rule.clone().private()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn section(text: &str) -> HttpSection {
        Config::parse(&format!("[http]\n{text}")).unwrap().http
    }

    #[test]
    fn secrets_that_may_go_to_several_hosts_are_told() {
        let told = |text: &str| -> Vec<String> {
            section(text).unbound_secrets().map(str::to_owned).collect()
        };
        let secrets =
            "secrets = { a = \"A\", b = { env = \"B\" }, c = { env = \"C\", hosts = [\"c\"] } }";
        for several in ["[\"c\", \"d\"]", "[\"*.c\"]", "[\"*:81\"]"] {
            assert_eq!(told(&format!("allowed_hosts = {several}\n{secrets}")), ["a", "b"]);
        }
        for fewer in ["[]", "[\"c:8080\"]", "[{ host = \"c\", private = true }]"] {
            assert_eq!(told(&format!("allowed_hosts = {fewer}\n{secrets}")), [""; 0]);
        }
    }

    #[test]
    fn wrong_secrets_are_told_with_what_is_wrong() {
        for (text, problem) in [
            ("secrets.a = { env = \"A\", hosts = [] }", "needs a host to go to"),
            ("secrets.a = { env = \"A\", hosts = [\"a/b\"] }", "must read api.example.com"),
            ("secrets.a = { env = \"A\", host = [\"a\"] }", "unknown field `host`"),
            ("secrets.a = { hosts = [\"a\"] }", "missing field `env`"),
            ("secrets.a = 7", "an environment variable, or a table with `env` and `hosts`"),
        ] {
            let error = Config::parse(&format!("[http]\n{text}")).unwrap_err();
            assert!(error.message().contains(problem), "{error}");
        }
    }

    #[test]
    fn wrong_hosts_are_told_with_what_is_wrong() {
        for (text, problem) in [
            ("allowed_hosts = [{ host = \"x\", privat = true }]", "unknown field `privat`"),
            ("allowed_hosts = [{ private = true }]", "missing field `host`"),
            ("allowed_hosts = [7]", "a host, or a table with `host` and `private`"),
            ("allowed_hosts = [\"a/b\"]", "must read api.example.com"),
        ] {
            let error = Config::parse(&format!("[http]\n{text}")).unwrap_err();
            assert!(error.message().contains(problem), "{error}");
            assert!(!error.message().contains("InvalidConfig"), "{error}");
        }
    }

    #[test]
    fn powers_of_settings_that_nobody_named_are_told() {
        let told = |text: &str| Config::parse(text).unwrap().unasked_powers(None, None);
        assert_eq!(told("[http]\nallowed_hosts = [\"api.example.com\"]"), None);
        let secrets = "[http]\nsecrets = { token = \"API_TOKEN\" }";
        assert!(told(secrets).unwrap().contains("send the secrets token;"));
        for private in [
            "[http]\nallow_private = true",
            "[http]\nallowed_hosts = [{ host = \"localhost\", private = true }]",
        ] {
            assert!(told(private).unwrap().contains("may reach private hosts;"));
        }
    }
}
