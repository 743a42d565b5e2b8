//! How the servers are set up, and what that means for runs.

use std::collections::HashMap;

use futures::future::join_all;
use redis::{Cmd, cmd};

use super::{config::Address, reply, servers::Servers, trouble::Trouble};
use crate::store::server::{Wire, within};

/// What is asked about, by the names that Redis has for it.
const SETTINGS: [&str; 5] =
    ["appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy", "save"];

/// How the servers are.
#[derive(Debug, Default)]
pub(super) struct Checkup {
    /// Whether every server has what it acknowledged on its disk.
    pub(super) durable: bool,
    pub(super) warnings: Vec<String>,
}

/// What one server says; names that are missing were not told.
#[derive(Debug, Default)]
struct Facts {
    /// `INFO`, if this user may ask.
    info: Option<HashMap<String, String>>,
    /// `CONFIG GET`, if this user may ask.
    settings: Option<HashMap<String, String>>,
}

/// Looks at every server that takes writes, and whether its replicas write to disks too.
pub(super) async fn check(servers: &Servers) -> Result<Checkup, Trouble> {
    let masters = servers.masters().await?;
    let config = servers.config();
    let wire = if config.tls { Wire::Verified } else { Wire::Clear };
    // Those of a cluster may be elsewhere than the one that told of them.
    let hosts = config.addresses().filter_map(Result::ok).chain(masters.iter().cloned());
    let exposed = wire.warning(hosts.map(|it| it.host), "write rediss:// in the URL, for TLS");
    let mut checkup = Checkup { durable: true, warnings: exposed.into_iter().collect() };
    let mut said = Vec::new();
    let mut replicas = Vec::new();
    for master in &masters {
        let facts = Facts::of(servers, master).await?;
        let (durable, warnings) = facts.judge(config.wait_replicas);
        checkup.durable &= durable;
        said.push(warnings);
        replicas.extend(facts.replicas());
    }
    let replicas = replicas.iter().map(|replica| of_replica(servers, replica));
    said.push(join_all(replicas).await.into_iter().flatten().collect());
    for warnings in said {
        for warning in warnings {
            // Of many servers that are set up alike, one is enough.
            if !checkup.warnings.contains(&warning) {
                checkup.warnings.push(warning);
            }
        }
    }
    Ok(checkup)
}

/// What there is to say of a replica, which takes the place of its master when that is gone.
async fn of_replica(servers: &Servers, replica: &Address) -> Option<String> {
    let mut ask = cmd("INFO");
    ask.arg("persistence");
    let limit = servers.config().operation_timeout / 4;
    let info = within(limit, async {
        let mut replies = servers.aside(replica, &[ask]).await?;
        Ok::<_, Trouble>(parse_info(&reply::text(replies.pop().ok_or(Trouble::Confused)?)?))
    });
    match info.await {
        Ok(info) if info.get("aof_enabled").is_some_and(|it| it == "0") => Some(
            "A replica has appendonly no: after a failover, what it holds is only in its memory; \
             set appendonly yes and appendfsync always there too."
                .into(),
        ),
        Ok(_) => None,
        Err(trouble) => {
            tracing::debug!(%trouble, "a replica could not be looked at");
            Some(
                "A replica could not be checked: whether it has everything on its disk that a failover \
                 would need is not known."
                    .into(),
            )
        }
    }
}

impl Facts {
    async fn of(servers: &Servers, master: &Address) -> Result<Self, Trouble> {
        let info = servers.at(master, &[cmd("INFO")], false).await;
        let info = match permitted(info)? {
            Some(mut replies) => {
                let text = reply::text(replies.pop().ok_or(Trouble::Confused)?)?;
                Some(parse_info(&text))
            }
            None => None,
        };
        let asks: Vec<Cmd> = SETTINGS
            .iter()
            .map(|name| {
                let mut get = cmd("CONFIG");
                get.arg("GET").arg(name);
                get
            })
            .collect();
        let settings = match permitted(servers.at(master, &asks, false).await)? {
            Some(replies) => {
                let mut settings = HashMap::new();
                for reply in replies {
                    for (name, value) in reply::pairs(reply)? {
                        let name = String::from_utf8_lossy(&name).into_owned();
                        settings.insert(name, reply::text(value)?);
                    }
                }
                Some(settings)
            }
            None => None,
        };
        Ok(Self { info, settings })
    }

    fn info(&self, name: &str) -> &str {
        self.info.as_ref().and_then(|info| info.get(name)).map_or("", String::as_str)
    }

    /// The replicas that are connected, as their master calls them.
    fn replicas(&self) -> Vec<Address> {
        let replica = |n| {
            let told: HashMap<_, _> = self
                .info(&format!("slave{n}"))
                .split(',')
                .filter_map(|it| it.split_once('='))
                .collect();
            let (host, port) = ((*told.get("ip")?).to_owned(), told.get("port")?.parse().ok()?);
            Some(Address { host, port })
        };
        (0..self.number("connected_slaves")).filter_map(replica).collect()
    }

    fn number(&self, name: &str) -> u64 {
        self.info(name).parse().unwrap_or(0)
    }

    fn setting(&self, name: &str) -> &str {
        self.settings.as_ref().and_then(|it| it.get(name)).map_or("", String::as_str)
    }

    /// Whether what is acknowledged is on the disk, and what an operator should mend or know.
    fn judge(&self, wait_replicas: u32) -> (bool, Vec<String>) {
        let mut warnings = Vec::new();
        if self.info.is_none() {
            warnings.push(
                "This user may not use INFO, so the state of the server could not be checked."
                    .into(),
            );
        }
        let durable = self.persistence(&mut warnings);
        self.memory(&mut warnings);
        self.replication(wait_replicas, &mut warnings);
        (durable, warnings)
    }

    fn persistence(&self, warnings: &mut Vec<String>) -> bool {
        let appends = match (self.setting("appendonly"), self.info("aof_enabled")) {
            ("yes", _) | ("", "1") => Some(true),
            ("no", _) | ("", "0") => Some(false),
            _ => None,
        };
        if self.settings.is_none() {
            warnings.push(
                "This user may not use CONFIG GET, so appendfsync and maxmemory-policy could not be \
                 checked."
                    .into(),
            );
        }
        let mut durable = appends == Some(true);
        if appends == Some(false) {
            let saved = match self.setting("save") {
                "" if self.settings.is_some() => "everything is",
                _ => "all that came after the last snapshot is",
            };
            warnings.push(format!(
                "appendonly is no: {saved} lost when the server ends; set appendonly yes and \
                 appendfsync always."
            ));
        }
        if appends == Some(true) {
            match self.setting("appendfsync") {
                "always" => {}
                "everysec" => warnings.push(
                    "appendfsync is everysec: a power failure loses what was acknowledged in the \
                     last second or two; set appendfsync always."
                        .into(),
                ),
                "" => {}
                other => warnings.push(format!(
                    "appendfsync is {other}: a power failure loses what the system has not \
                     written yet, often half a minute; set appendfsync always."
                )),
            }
            if self.setting("no-appendfsync-on-rewrite") == "yes" {
                durable = false;
                warnings.push(
                    "no-appendfsync-on-rewrite is yes: while the file is rewritten nothing is \
                     synced; set it to no."
                        .into(),
                );
            }
        }
        durable &= self.setting("appendfsync") == "always";
        if self.info("aof_last_write_status") == "err" {
            durable = false;
            warnings
                .push("The last write of the append-only file failed; is the disk full?".into());
        }
        if self.info("aof_last_bgrewrite_status") == "err" {
            warnings.push(
                "The last rewrite of the append-only file failed; see the server's log.".into(),
            );
        }
        if self.info("rdb_last_bgsave_status") == "err" {
            warnings.push(
                "The last snapshot failed, and the server may refuse writes because of it; see the \
                 server's log."
                    .into(),
            );
        }
        if self.info("loading") == "1" {
            warnings.push("The server is still loading its data.".into());
        }
        durable
    }

    fn memory(&self, warnings: &mut Vec<String>) {
        let policy = match self.setting("maxmemory-policy") {
            "" => self.info("maxmemory_policy"),
            policy => policy,
        };
        let most = self.number("maxmemory");
        if policy.starts_with("allkeys") {
            let when =
                if most == 0 { "as soon as maxmemory is set" } else { "when memory is full" };
            warnings.push(format!(
                "maxmemory-policy is {policy}: {when}, runs are thrown away; set noeviction."
            ));
        } else if policy.starts_with("volatile") {
            warnings.push(format!(
                "maxmemory-policy is {policy}: when memory is full, ended runs with an expiry are \
                 thrown away before their time; set noeviction."
            ));
        }
        let used = self.number("used_memory");
        if most > 0 && used > most / 10 * 9 {
            warnings.push(format!(
                "maxmemory is nearly full: {used} of {most} bytes are used; once it is full, writes \
                 are refused."
            ));
        }
    }

    fn replication(&self, wait_replicas: u32, warnings: &mut Vec<String>) {
        if self.info("role") == "slave" {
            let link = match self.info("master_link_status") {
                "up" => "",
                _ => ", and has lost its master",
            };
            warnings.push(format!(
                "The server is a replica{link}: it takes no writes, and what it reads may be old."
            ));
            return;
        }
        let replicas = self.number("connected_slaves");
        if self.info.is_some() && u64::from(wait_replicas) > replicas {
            warnings.push(format!(
                "wait_replicas is {wait_replicas}, and {replicas} replicas are connected: no write \
                 can be acknowledged."
            ));
        } else if replicas > 0 && wait_replicas == 0 {
            warnings.push(
                "Writes are acknowledged before they reach a replica: a failover may lose what was \
                 acknowledged last; set wait_replicas=1."
                    .into(),
            );
        }
        if self.info("cluster_enabled") == "1" && replicas == 0 && wait_replicas == 0 {
            warnings.push(
                "A server of the cluster has no replica: while it is away, its runs are too, and \
                 nothing can be listed."
                    .into(),
            );
        }
    }
}

/// Nothing, where this user lacks the right or the server has no such command.
pub(super) fn permitted<T>(result: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
    match result {
        Ok(it) => Ok(Some(it)),
        Err(trouble) if matches!(trouble.code(), Some("NOPERM" | "ERR")) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

fn parse_info(text: &str) -> HashMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::is_sentence;

    fn map(pairs: &[(&str, &str)]) -> Option<HashMap<String, String>> {
        Some(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    fn judge(info: &[(&str, &str)], settings: &[(&str, &str)], wait: u32) -> (bool, String) {
        let facts = Facts { info: map(info), settings: map(settings) };
        let (durable, warnings) = facts.judge(wait);
        (durable, warnings.join("\n"))
    }

    #[test]
    fn a_server_that_syncs_each_write_is_durable_and_nothing_is_to_be_said() {
        let settings = [
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("no-appendfsync-on-rewrite", "no"),
            ("maxmemory-policy", "noeviction"),
        ];
        let info = [("role", "master"), ("connected_slaves", "0"), ("aof_last_write_status", "ok")];
        assert_eq!(judge(&info, &settings, 0), (true, String::new()));
        let failed = [("aof_last_write_status", "err")];
        assert!(!judge(&failed, &settings, 0).0);
    }

    #[test]
    fn each_risk_is_told() {
        let good = [("appendonly", "yes"), ("appendfsync", "always")];
        for (info, settings, wait, says) in [
            (vec![], vec![("appendonly", "no"), ("save", "")], 0, "everything is lost"),
            (vec![], vec![("appendonly", "no"), ("save", "60 1")], 0, "the last snapshot is lost"),
            (vec![], vec![("appendonly", "yes"), ("appendfsync", "everysec")], 0, "second or two"),
            (vec![], vec![("appendonly", "yes"), ("appendfsync", "no")], 0, "appendfsync is no"),
            (vec![], vec![("maxmemory-policy", "allkeys-lru")], 0, "as soon as maxmemory is set"),
            (
                vec![("maxmemory", "100"), ("used_memory", "95")],
                vec![("maxmemory-policy", "allkeys-lru")],
                0,
                "when memory is full, runs are thrown away",
            ),
            (vec![("maxmemory", "100"), ("used_memory", "95")], good.into(), 0, "95 of 100 bytes"),
            (vec![], vec![("maxmemory-policy", "volatile-ttl")], 0, "ended runs"),
            (vec![("role", "slave"), ("master_link_status", "down")], good.into(), 0, "lost its"),
            (vec![("connected_slaves", "1")], good.into(), 0, "set wait_replicas=1"),
            (vec![("connected_slaves", "1")], good.into(), 2, "no write can be acknowledged"),
            (vec![("rdb_last_bgsave_status", "err")], good.into(), 0, "The last snapshot failed"),
            (vec![("loading", "1")], good.into(), 0, "loading"),
        ] {
            let (_, warnings) = judge(&info, &settings, wait);
            assert!(warnings.contains(says), "{says}: {warnings}");
            assert!(warnings.lines().all(is_sentence), "{warnings}");
        }
        let rewriting = [good[0], good[1], ("no-appendfsync-on-rewrite", "yes")];
        assert!(!judge(&[], &rewriting, 0).0);
    }

    #[test]
    fn what_could_not_be_looked_at_is_said_and_nothing_is_promised() {
        let (durable, warnings) = Facts::default().judge(0);
        assert!(!durable);
        assert!(warnings.iter().all(|it| is_sentence(it)), "{warnings:?}");
        assert!(warnings.iter().any(|it| it.contains("INFO")), "{warnings:?}");
        assert!(warnings.iter().any(|it| it.contains("CONFIG GET")), "{warnings:?}");
        let half = Facts { info: map(&[("aof_enabled", "0")]), settings: None };
        assert!(half.judge(0).1.iter().any(|it| it.contains("appendonly is no")));
    }
}
