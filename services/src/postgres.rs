//! PostgreSQL servers, their standbys, and PgBouncer in front of one.

use std::{
    fs,
    ops::{Deref, DerefMut},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{
    apt,
    certificates::{Certificates, Pair},
    server::{Launch, Server, free_port, give, run, unprivileged},
};

/// The user that may do everything.
pub const USER: &str = "postgres";
/// Its password.
pub const PASSWORD: &str = "hunter2";

/// Where Debian's packages have the programs, a folder for each version.
const PROGRAMS: &str = "/usr/lib/postgresql";

/// How a server is set up, beside that it listens on a loopback port and asks for a password
/// (SCRAM).
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Lines of `postgresql.conf`, by name and value.
    pub settings: Vec<(String, String)>,
    /// Speak TLS, with the server's certificate of these.
    pub tls: Option<Certificates>,
    /// Take nobody without TLS and a client's certificate of the same authority.
    pub client_certificates: bool,
}

impl Options {
    /// With that setting too.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }
}

/// A PostgreSQL server of one's own.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
}

/// Starts a server with an empty cluster.
///
/// # Errors
/// When PostgreSQL is not installed, or does not start.
pub fn start(options: &Options) -> Result<Postgres> {
    let folder = Server::folder_for("postgres")?;
    let password = folder.path().join("password");
    fs::write(&password, PASSWORD)?;
    give(&password)?;
    let data = folder.path().join("data");
    run(unprivileged(&program("initdb")?)
        .arg("-D")
        .arg(&data)
        .args(["-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"])
        .arg(format!("--pwfile={}", password.display()))
        .current_dir(folder.path()))?;
    configure(folder.path(), options)?;
    launch(folder)
}

/// Installs PostgreSQL and PgBouncer from the system's packages where they are missing.
///
/// # Errors
/// When they can't be installed; the error says what to do.
pub fn install(_cache: &Path) -> Result<()> {
    if program("postgres").is_ok() && bouncer().is_ok() {
        return Ok(());
    }
    // Debian's package would make a cluster of its own and start it.
    let made = Path::new("/etc/postgresql-common/createcluster.d");
    let _ = fs::create_dir_all(made);
    let _ = fs::write(made.join("dynamic-flow.conf"), "create_main_cluster = false\n");
    apt::install(&["postgresql", "pgbouncer"])?;
    program("postgres").and(bouncer()).map(drop)
}

impl Postgres {
    /// Where it is, with user and password; its database is `postgres`.
    pub fn url(&self) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", self.port())
    }

    /// Starts a standby of it: a copy that follows, and takes no writes.
    ///
    /// # Errors
    /// When it can't be copied or does not start.
    pub fn standby(&self) -> Result<Self> {
        let folder = Server::folder_for("postgres")?;
        let data = folder.path().join("data");
        run(unprivileged(&program("pg_basebackup")?)
            .arg("-D")
            .arg(&data)
            .args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", &self.url()])
            .current_dir(folder.path()))?;
        launch(folder)
    }

    /// Ends the recovery of a standby: it takes writes from now on.
    ///
    /// # Errors
    /// When it can't be promoted.
    pub fn promote(&self) -> Result<()> {
        let data = self.folder().join("data");
        run(unprivileged(&program("pg_ctl")?).args(["promote", "-w", "-s", "-D"]).arg(data))
            .map(drop)
    }

    /// Stops it and all that it has started where they are (SIGSTOP).
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self) -> Result<()> {
        self.server.freeze()?;
        self.signal_children("STOP")
    }

    /// Lets it go on after [`Postgres::freeze`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self) -> Result<()> {
        self.signal_children("CONT")?;
        self.server.thaw()
    }

    /// SIGKILL to all of it, as in a power failure; it is gone when this returns.
    ///
    /// # Errors
    /// When what it had started does not go.
    pub fn kill(&mut self) -> Result<()> {
        let children = self.children()?;
        self.server.kill();
        for child in &children {
            // Some go by themselves as soon as they notice.
            let _ = run(Command::new("kill").args(["-KILL", child]));
        }
        let give_up = Instant::now() + Duration::from_secs(20);
        while children.iter().any(|child| Path::new("/proc").join(child).exists()) {
            if Instant::now() > give_up {
                bail!("processes of a killed server do not go");
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The server alone, without what is PostgreSQL's own.
    pub fn into_server(self) -> Server {
        self.server
    }

    fn signal_children(&self, name: &str) -> Result<()> {
        for child in self.children()? {
            // One may have ended in the meantime.
            let _ = run(Command::new("kill").args([format!("-{name}"), child]));
        }
        Ok(())
    }

    /// The ids of the processes that it has started: one for each connection, and some more.
    fn children(&self) -> Result<Vec<String>> {
        let pid = self.pid().context("it does not run")?;
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        Ok(list.split_whitespace().map(str::to_owned).collect())
    }
}

impl Deref for Postgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Postgres {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// Starts PgBouncer in front of a server, which it gives to a client for a transaction at a time.
/// Gives it with the URL of the server's database behind it.
///
/// # Errors
/// When PgBouncer is not installed, or does not start.
pub fn bouncer_before(server: &Postgres) -> Result<(Server, String)> {
    let folder = Server::folder_for("pgbouncer")?;
    let port = free_port()?;
    let users = folder.path().join("users.txt");
    fs::write(&users, format!("\"{USER}\" \"{PASSWORD}\"\n"))?;
    let config = folder.path().join("pgbouncer.ini");
    fs::write(
        &config,
        format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = 4\n",
            server.port(),
            users.display(),
        ),
    )?;
    give(&users)?;
    give(&config)?;
    let launch = Launch {
        name: "PgBouncer",
        program: bouncer()?,
        args: vec![config.display().to_string()],
        env: Vec::new(),
        port,
        stop: "INT",
        ready: None,
    };
    let url = format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres");
    Ok((Server::start(launch, folder)?, url))
}

/// Writes what a server reads when it starts.
fn configure(folder: &Path, options: &Options) -> Result<()> {
    let data = folder.join("data");
    let mut conf = String::from("listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\n");
    if let Some(certificates) = &options.tls {
        let Pair { certificate, key } = certificates.server();
        for (from, to) in
            [(&certificate, "server.crt"), (&key, "server.key"), (&certificates.ca(), "ca.crt")]
        {
            let to = data.join(to);
            fs::copy(from, &to)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600))?;
            give(&to)?;
        }
        conf.push_str("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n");
        conf.push_str("ssl_ca_file = 'ca.crt'\n");
    }
    for (name, value) in &options.settings {
        conf.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
    }
    let path = data.join("postgresql.conf");
    let before = fs::read_to_string(&path)?;
    fs::write(&path, before + &conf)?;
    if options.client_certificates {
        let rule = "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n";
        fs::write(data.join("pg_hba.conf"), rule)?;
    }
    Ok(())
}

fn launch(folder: TempDir) -> Result<Postgres> {
    let port = free_port()?;
    let data = folder.path().join("data").display().to_string();
    let launch = Launch {
        name: "PostgreSQL",
        program: program("postgres")?,
        args: vec!["-D".into(), data, "-p".into(), port.to_string()],
        env: Vec::new(),
        port,
        // Ends connections and stops: `TERM` would wait for clients to go.
        stop: "INT",
        ready: Some(("output.log", "database system is ready to accept")),
    };
    Ok(Postgres { server: Server::start(launch, folder)? })
}

/// A program of the newest version that is installed.
fn program(name: &str) -> Result<PathBuf> {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = fs::read_dir(PROGRAMS).into_iter().flatten().flatten();
    versions
        .filter_map(|entry| Some((version(&entry.path())?, entry.path().join("bin").join(name))))
        .filter(|(_, path)| path.exists())
        .max()
        .map(|(_, path)| path)
        .with_context(|| {
            format!("PostgreSQL is not installed: there is no {PROGRAMS}/*/bin/{name}")
        })
}

fn bouncer() -> Result<PathBuf> {
    let path = PathBuf::from("/usr/sbin/pgbouncer");
    if !path.exists() {
        bail!("PgBouncer is not installed: there is no {}", path.display());
    }
    Ok(path)
}
