//! Redis servers: one, with whatever settings, or a cluster.

use std::{
    fs,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt,
    certificates::Certificates,
    server::{Launch, Server, free_port, give, run},
};

const SERVER: &str = "/usr/bin/redis-server";
const CLI: &str = "/usr/bin/redis-cli";

/// How long a cluster may take until all its members agree.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is set up. Unless it is told otherwise, it loses nothing that it acknowledged.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Settings beyond those that make it durable, as in its configuration file, and in place of
    /// those: `("appendfsync", "everysec")`.
    pub settings: Vec<(String, String)>,
    /// The password of the default user.
    pub password: Option<String>,
    /// Speak TLS only, with the server's certificate of these.
    pub tls: Option<Certificates>,
    /// Take nobody without a client's certificate of the same authority.
    pub client_certificates: bool,
    /// The port of the server on this machine whose replica it is.
    pub replica_of: Option<u16>,
}

impl Options {
    /// With one more setting.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }
}

/// A Redis server.
#[derive(Debug)]
pub struct Redis {
    server: Server,
    password: Option<String>,
    certificates: Option<Certificates>,
}

/// Gets what is missing: the Debian package, whose own service is not left running.
///
/// # Errors
/// When it can't be installed.
pub fn install(_cache: &Path) -> Result<()> {
    if Path::new(SERVER).exists() && Path::new(CLI).exists() {
        return Ok(());
    }
    apt::install(&["redis-server"])
}

/// Starts a server, and waits until it has loaded its data.
///
/// # Errors
/// When it is not installed, or does not start.
pub fn start(options: &Options) -> Result<Redis> {
    let folder = Server::folder_for("redis")?;
    let port = free_port()?;
    let mut settings: Vec<(&str, String)> = vec![
        ("bind", "127.0.0.1".into()),
        ("dir", folder.path().display().to_string()),
        ("save", String::new()),
        ("appendonly", "yes".into()),
        ("appendfsync", "always".into()),
    ];
    match &options.tls {
        None => settings.push(("port", port.to_string())),
        Some(certificates) => {
            let clients = if options.client_certificates { "yes" } else { "no" };
            settings.extend([
                ("port", "0".into()),
                ("tls-port", port.to_string()),
                ("tls-auth-clients", clients.into()),
            ]);
            let server = certificates.server();
            // Copies that the server can read, whoever it runs as.
            for (name, from) in [
                ("tls-ca-cert-file", certificates.ca()),
                ("tls-cert-file", server.certificate),
                ("tls-key-file", server.key),
            ] {
                let copy = folder.path().join(name);
                fs::copy(&from, &copy).with_context(|| from.display().to_string())?;
                give(&copy)?;
                settings.push((name, copy.display().to_string()));
            }
        }
    }
    if let Some(password) = &options.password {
        settings.push(("requirepass", password.clone()));
        settings.push(("masterauth", password.clone()));
    }
    if let Some(master) = options.replica_of {
        settings.push(("replicaof", format!("127.0.0.1 {master}")));
    }
    for (name, value) in &options.settings {
        settings.retain(|(known, _)| known != name);
        settings.push((name, value.clone()));
    }
    let launch = Launch {
        name: "Redis",
        program: PathBuf::from(SERVER),
        args: settings.into_iter().flat_map(|(name, value)| arguments(name, &value)).collect(),
        env: Vec::new(),
        port,
        stop: "TERM",
        ready: None,
    };
    let server = Server::start(launch, folder)?;
    let (password, certificates) = (options.password.clone(), options.tls.clone());
    let mut redis = Redis { server, password, certificates };
    redis.until_loaded()?;
    Ok(redis)
}

/// A setting on the command line.
fn arguments(name: &str, value: &str) -> Vec<String> {
    let values: Vec<_> = match name {
        "replicaof" | "client-output-buffer-limit" | "user" => {
            value.split(' ').map(str::to_owned).collect()
        }
        _ => vec![value.to_owned()],
    };
    [format!("--{name}")].into_iter().chain(values).collect()
}

impl Redis {
    /// Where it is, with its password.
    pub fn url(&self) -> String {
        let scheme = if self.certificates.is_some() { "rediss" } else { "redis" };
        let user = self.password.as_ref().map(|password| format!(":{password}@"));
        format!("{scheme}://{}127.0.0.1:{}/0", user.unwrap_or_default(), self.port())
    }

    /// Has `redis-cli` make a call; gives what it printed.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub fn cli(&self, words: &[&str]) -> Result<String> {
        let mut cli = Command::new(CLI);
        cli.args(["-h", "127.0.0.1", "-p", &self.port().to_string()]);
        if let Some(password) = &self.password {
            cli.env("REDISCLI_AUTH", password);
        }
        if let Some(certificates) = &self.certificates {
            let client = certificates.client();
            cli.arg("--tls").arg("--cacert").arg(certificates.ca());
            cli.arg("--cert").arg(client.certificate).arg("--key").arg(client.key);
        }
        Ok(run(cli.args(words))?.trim_end().to_owned())
    }

    /// Starts it once more, and waits until it has loaded its data.
    ///
    /// # Errors
    /// As [`start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.server.start_again()?;
        self.until_loaded()
    }

    fn until_loaded(&mut self) -> Result<()> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let said = self.cli(&["PING"]).unwrap_or_default();
            // One that wants to know who asks has loaded what it has.
            if said == "PONG" || said.starts_with("NOPERM") || said.starts_with("NOAUTH") {
                return Ok(());
            }
            if Instant::now() > give_up {
                bail!("Redis does not answer: {said}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Deref for Redis {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Redis {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It has no helpers that would be left behind, and may refuse to end in good order: while
        // it writes its first file, or can't write one.
        self.server.kill();
    }
}

/// A cluster of three masters with a replica each.
#[derive(Debug)]
pub struct Cluster {
    /// Its members.
    pub nodes: Vec<Redis>,
}

/// Starts a cluster of six processes, and waits until all agree who has which slots.
///
/// # Errors
/// When it is not installed, or does not come about.
pub fn start_cluster(options: &Options) -> Result<Cluster> {
    let nodes = (0..6)
        .map(|_| {
            // The port of the bus is told: its default is beyond the port, and may not be free.
            let bus = free_port()?;
            start(
                &options
                    .clone()
                    .with("cluster-enabled", "yes")
                    .with("cluster-port", &bus.to_string())
                    .with("cluster-node-timeout", "2000"),
            )
        })
        .collect::<Result<Vec<_>>>()?;
    let cluster = Cluster { nodes };
    let addresses: Vec<_> =
        cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
    let mut create = vec!["--cluster", "create"];
    create.extend(addresses.iter().map(String::as_str));
    create.extend(["--cluster-replicas", "1", "--cluster-yes"]);
    cluster.nodes[0].cli(&create)?;
    cluster.until_agreed()?;
    Ok(cluster)
}

impl Cluster {
    /// Where its first three members are.
    pub fn url(&self) -> String {
        let hosts: Vec<_> =
            self.nodes[..3].iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis://{}/0", hosts.join(","))
    }

    /// Waits until all members that run say that all slots are served, and replicas are in step.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn until_agreed(&self) -> Result<()> {
        let give_up = Instant::now() + PATIENCE;
        let running = || self.nodes.iter().filter(|node| node.pid().is_some());
        let agree = || -> Result<bool> {
            for node in running() {
                let info = node.cli(&["CLUSTER", "INFO"])?;
                let replication = node.cli(&["INFO", "replication"])?;
                if !info.contains("cluster_state:ok")
                    || !info.contains("cluster_known_nodes:6")
                    || replication.contains("master_link_status:down")
                {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        while !agree()? {
            if Instant::now() > give_up {
                bail!("the members of the Redis cluster do not agree");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}
