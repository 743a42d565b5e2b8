//! Servers that speak MongoDB's protocol, where no `mongod` is to be had: SecantusDB, a Python
//! package with WiredTiger inside. It is a separate program for tests, neither linked nor shipped.
//!
//! What it proves is compatibility with the protocol. The tests ask for nothing that a replica set
//! of MongoDB would not do: `DFLOW_TEST_MONGODB_URL` may name one instead.

use std::{
    fs::{self, File},
    ops::{Deref, DerefMut},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt, cache,
    certificates::Certificates,
    server::{Launch, Server, free_port, give, run, unprivileged},
};

/// The user of a server that asks who one is.
pub const USER: &str = "dflow";
/// Its password.
pub const PASSWORD: &str = "hunter2";

/// What pip installs.
const PACKAGE: &str = "secantusdb==0.7.0b3";

/// Interpreters that may be there, the system's first: who runs servers can read that one.
const PYTHONS: &[&str] = &["/usr/bin/python3", "/usr/local/bin/python3", "python3"];

/// How a server is set up, beside that it listens on a loopback port.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Ask for the password of [`USER`], who may do everything.
    pub auth: bool,
    /// Speak TLS, with the server's certificate of these.
    pub tls: Option<Certificates>,
    /// Take nobody without a client's certificate of the same authority.
    pub client_certificates: bool,
    /// Be a server alone, and not a replica set of one member.
    pub standalone: bool,
    /// Fail where a test asks for it, by `configureFailPoint`.
    pub fail_points: bool,
}

/// A server of one's own.
#[derive(Debug)]
pub struct Mongodb {
    server: Server,
    options: Options,
}

/// The URL of a server with a database in its path; the user is still the server's.
pub fn with_database(server: &str, name: &str) -> String {
    let (base, query) = server.split_once('?').unwrap_or((server, ""));
    let host = base.find("://").map_or(0, |at| at + "://".len());
    let end = base[host..].find('/').map_or(base.len(), |at| host + at);
    let asks = base.contains('@') && !query.contains("authSource=");
    let admin = asks.then_some("authSource=admin");
    let parameters: Vec<&str> =
        Some(query).filter(|query| !query.is_empty()).into_iter().chain(admin).collect();
    let question = if parameters.is_empty() { "" } else { "?" };
    format!("{}/{name}{question}{}", &base[..end], parameters.join("&"))
}

/// Starts a server with no databases.
///
/// # Errors
/// When it was not installed, or does not start.
pub fn start(options: &Options) -> Result<Mongodb> {
    let program = place(&cache()?).join("bin/secantusd-py");
    if !program.exists() {
        bail!("SecantusDB is not installed: {} is not there", program.display());
    }
    let folder = Server::folder_for("mongodb")?;
    let port = free_port()?;
    let data = folder.path().join("data");
    let args = ["--host", "127.0.0.1", "--port", &port.to_string(), "--cache-size", "256M"];
    let mut args: Vec<_> = args.map(str::to_owned).into();
    args.extend(["--storage-path".into(), data.display().to_string()]);
    if options.standalone {
        args.push("--standalone".into());
    }
    if options.fail_points {
        args.push("--enable-test-commands".into());
    }
    let launch = Launch {
        name: "SecantusDB",
        program,
        args,
        // Its output comes line by line, also into a file.
        env: vec![("PYTHONUNBUFFERED".into(), "1".into())],
        port,
        // To end in good order takes it seconds, and now and then for ever; and what it has
        // acknowledged is not lost this way either.
        stop: "KILL",
        ready: None,
    };
    let mut it = Mongodb { server: Server::start(launch, folder)?, options: options.clone() };
    if options.auth {
        it.add_user(USER, PASSWORD, "root", "admin")?;
    }
    it.guard()?;
    Ok(it)
}

/// Installs SecantusDB with pip into an environment of its own, in that folder.
///
/// # Errors
/// When there is no Python that can be used, or pip fails.
pub fn install(cache: &Path) -> Result<()> {
    let place = place(cache);
    let done = place.join("installed");
    if done.exists() {
        return Ok(());
    }
    let lock = File::create(cache.join("secantusdb.lock"))?;
    lock.lock()?;
    if done.exists() {
        return Ok(());
    }
    if place.exists() {
        // Left behind by a call that did not come to its end.
        fs::remove_dir_all(&place)?;
    }
    make_environment(&place)?;
    let pip = place.join("bin/pip");
    run(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check", PACKAGE]))
        .with_context(|| format!("{PACKAGE} could not be installed"))?;
    File::create(done)?;
    Ok(())
}

impl Mongodb {
    /// Where it is, with what is needed to use it; it names no database.
    pub fn url(&self) -> String {
        let user = if self.options.auth { format!("{USER}:{PASSWORD}@") } else { String::new() };
        let port = self.port();
        let mut url = format!("mongodb://{user}127.0.0.1:{port}/?directConnection=true");
        if let Some(certificates) = &self.options.tls {
            url += &format!("&tls=true&tlsCAFile={}", certificates.ca().display());
        }
        url
    }

    /// Adds a user with a role in a database; only to a server that asks for no password yet.
    fn add_user(&mut self, user: &str, password: &str, role: &str, database: &str) -> Result<()> {
        let script = "import sys, pymongo\n\
                      port, user, password, role, database = sys.argv[1:]\n\
                      client = pymongo.MongoClient('127.0.0.1', int(port), directConnection=True)\n\
                      client.admin.command('createUser', user, pwd=password,\n\
                                           roles=[{'role': role, 'db': database}])\n";
        let python = place(&cache()?).join("bin/python3");
        let port = self.port().to_string();
        run(unprivileged(&python)
            .args(["-c", script, &port, user, password, role, database])
            .current_dir(self.folder()))
        .map(drop)
    }

    /// Starts it again with a password and TLS, where it is to ask for them.
    fn guard(&mut self) -> Result<()> {
        let mut args: Vec<String> = Vec::new();
        if self.options.auth {
            args.push("--auth".into());
        }
        if let Some(certificates) = self.options.tls.clone() {
            let pair = certificates.server();
            let files = [
                ("--tls-cert-file", pair.certificate),
                ("--tls-key-file", pair.key),
                ("--tls-ca-file", certificates.ca()),
            ];
            for (name, from) in files {
                let to = self.folder().join(name.trim_start_matches('-'));
                fs::copy(from, &to)?;
                give(&to)?;
                args.extend([name.into(), to.display().to_string()]);
            }
            if self.options.client_certificates {
                args.push("--tls-require-client-cert".into());
            }
        }
        if args.is_empty() {
            return Ok(());
        }
        self.stop()?;
        self.launch_mut().args.extend(args);
        self.start_again()
    }
}

impl Deref for Mongodb {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Mongodb {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// Where that version is kept.
fn place(cache: &Path) -> PathBuf {
    cache.join(PACKAGE.replace("==", "-"))
}

/// Makes an environment that who runs servers can read.
fn make_environment(place: &Path) -> Result<()> {
    let made = python().and_then(|python| environment(python, place));
    if made.is_err() {
        // Debian's Python comes without what makes environments.
        apt::install(&["python3-venv"])?;
        environment(python()?, place)?;
    }
    fs::set_permissions(place, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn environment(python: &str, place: &Path) -> Result<()> {
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(place)).map(drop)
}

/// An interpreter that who runs servers may use.
fn python() -> Result<&'static str> {
    let usable = |python: &&&str| {
        run(unprivileged(Path::new(**python)).arg("--version").current_dir("/")).is_ok()
    };
    PYTHONS.iter().find(usable).copied().context("there is no python3 that any user may run")
}
