//! Neo4j servers, Community edition, from Maven's central repository.

use std::{
    collections::BTreeMap,
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

/// The user who may do everything.
pub const USER: &str = "neo4j";
/// The user's password.
pub const PASSWORD: &str = "hunter2-neo4j";

/// The version that is installed: of the long-term line.
const VERSION: &str = "5.26.30";

/// Gets what a project needs; the version is fixed, so that it is the same one everywhere.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies";

/// How the server's machine is started: small, soon there, and let into what it needs.
const JAVA: &[&str] = &[
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
];

/// How a server is set up, beside that it listens on a loopback port and asks for a password.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Lines of `neo4j.conf`, by name and value.
    pub settings: Vec<(String, String)>,
    /// Speak TLS only, with the server's certificate of these.
    pub tls: Option<Certificates>,
    /// Take nobody without a client's certificate of the same authority.
    pub client_certificates: bool,
    /// Keep the data there, and not in the server's own folder.
    pub data: Option<PathBuf>,
}

impl Options {
    /// With that setting too.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }
}

/// A Neo4j server of one's own.
#[derive(Debug)]
pub struct Neo4j {
    server: Server,
    options: Options,
}

/// Starts a server with an empty database.
///
/// # Errors
/// When it was not installed, or does not start.
pub fn start(options: &Options) -> Result<Neo4j> {
    let libraries = libraries(&cache()?);
    if !libraries.with_file_name("installed").exists() {
        bail!("{} is not there; `cargo xtask services` installs it", libraries.display());
    }
    let folder = Server::folder_for("neo4j")?;
    let port = free_port()?;
    configure(folder.path(), port, options)?;
    let class_path = format!("{}/*", libraries.display());
    let home = folder.path().display().to_string();
    // Before the first start, and only then.
    run(unprivileged(Path::new("java"))
        .args(["-XX:TieredStopAtLevel=1", "-cp", &class_path])
        .args(["org.neo4j.server.startup.Neo4jAdminCommand", "dbms", "set-initial-password"])
        .arg(PASSWORD)
        .env("NEO4J_HOME", &home)
        .env("NEO4J_CONF", folder.path().join("conf"))
        .current_dir(folder.path()))?;
    let mut args: Vec<String> = JAVA.iter().map(|it| (*it).to_owned()).collect();
    args.extend(["-cp".into(), class_path, "org.neo4j.server.CommunityEntryPoint".into()]);
    args.extend([format!("--home-dir={home}"), format!("--config-dir={home}/conf")]);
    let launch = Launch {
        name: "Neo4j",
        program: "java".into(),
        args,
        env: Vec::new(),
        port,
        stop: "TERM",
        // A connection that comes before that may be cut without a word.
        ready: Some(("logs/neo4j.log", "Started.")),
    };
    Ok(Neo4j { server: Server::start(launch, folder)?, options: options.clone() })
}

/// Gets Neo4j's libraries with Maven into that folder, and Java and Maven where they are missing.
///
/// # Errors
/// When they can't be had; the error says what to install.
pub fn install(cache: &Path) -> Result<()> {
    let libraries = libraries(cache);
    let done = libraries.with_file_name("installed");
    let has_java = apt::is_there("java");
    if has_java && done.exists() {
        return Ok(());
    }
    let lock = File::create(cache.join("neo4j.lock"))?;
    lock.lock()?;
    if !has_java {
        // Not every release has the same; from 17 on all will do.
        apt::install(&["openjdk-17-jre-headless"])
            .or_else(|_| apt::install(&["default-jre-headless"]))?;
    }
    if done.exists() {
        return Ok(());
    }
    if !apt::is_there("mvn") {
        apt::install(&["maven"])?;
    }
    let place = libraries.parent().context("the libraries are in a folder")?;
    fs::create_dir_all(place)?;
    fs::write(place.join("pom.xml"), project())?;
    run(Command::new("mvn")
        .args(["-B", "-q", COPY, "-DoutputDirectory=lib", "-DincludeScope=runtime"])
        .current_dir(place))
    .with_context(|| format!("Neo4j {VERSION} could not be got with Maven"))?;
    readable(place, 0o755)?;
    readable(&libraries, 0o755)?;
    for library in fs::read_dir(&libraries)? {
        readable(&library?.path(), 0o644)?;
    }
    File::create(done)?;
    Ok(())
}

impl Neo4j {
    /// Where it is, with user and password.
    pub fn url(&self) -> String {
        let scheme = if self.options.tls.is_some() { "neo4j+s" } else { "neo4j" };
        format!("{scheme}://{USER}:{PASSWORD}@127.0.0.1:{}/neo4j", self.port())
    }

    /// Changes a setting, which counts from the next start on.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        self.options.settings.retain(|(known, _)| known != name);
        self.options.settings.push((name.into(), value.into()));
        configure(self.server.folder(), self.server.port(), &self.options)
    }
}

impl Deref for Neo4j {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Neo4j {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

fn libraries(cache: &Path) -> PathBuf {
    cache.join(format!("neo4j-{VERSION}")).join("lib")
}

/// A project that needs Neo4j, and is nothing else.
fn project() -> String {
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n\
         <modelVersion>4.0.0</modelVersion>\n\
         <groupId>local</groupId><artifactId>neo4j</artifactId><version>1</version>\n\
         <packaging>pom</packaging>\n\
         <dependencies><dependency>\n\
         <groupId>org.neo4j</groupId><artifactId>neo4j</artifactId><version>{VERSION}</version>\n\
         </dependency></dependencies>\n\
         </project>\n"
    )
}

fn readable(path: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

/// Writes the configuration, and what it refers to, into the server's folder.
fn configure(folder: &Path, port: u16, options: &Options) -> Result<()> {
    let address = format!("127.0.0.1:{port}");
    let mut settings: BTreeMap<String, String> = [
        ("server.default_listen_address", "127.0.0.1"),
        ("server.bolt.listen_address", &address),
        ("server.bolt.advertised_address", &address),
        ("server.http.enabled", "false"),
        ("server.https.enabled", "false"),
        ("dbms.security.auth_enabled", "true"),
        ("dbms.usage_report.enabled", "false"),
        ("server.memory.pagecache.size", "64m"),
        ("db.tx_log.preallocate", "false"),
        ("db.tx_log.rotation.size", "16m"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into();
    for name in ["conf", "data", "logs", "run"] {
        let part = folder.join(name);
        fs::create_dir_all(&part)?;
        give(&part)?;
    }
    if let Some(data) = &options.data {
        give(data)?;
        settings.insert("server.directories.data".into(), data.display().to_string());
    }
    if let Some(certificates) = &options.tls {
        settings.extend(encrypt(folder, certificates, options.client_certificates)?);
    }
    // A setting that is there twice is refused.
    settings.extend(options.settings.iter().cloned());
    let text = settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect::<String>();
    let conf = folder.join("conf/neo4j.conf");
    fs::write(&conf, text)?;
    give(&conf)
}

/// Lays the certificates out as the server wants them; gives the settings that it needs.
fn encrypt(
    folder: &Path,
    certificates: &Certificates,
    of_clients: bool,
) -> Result<[(String, String); 6]> {
    let base = folder.join("certificates");
    let trusted = base.join("trusted");
    for made in [&base, &trusted, &base.join("revoked")] {
        fs::create_dir_all(made)?;
        give(made)?;
    }
    let server = certificates.server();
    for (from, to) in [
        (server.certificate, base.join("public.crt")),
        (server.key, base.join("private.key")),
        (certificates.ca(), trusted.join("ca.crt")),
    ] {
        fs::copy(&from, &to)?;
        give(&to)?;
    }
    let client_auth = if of_clients { "REQUIRE" } else { "NONE" };
    let base = base.display().to_string();
    Ok([
        ("server.bolt.tls_level", "REQUIRED"),
        ("dbms.ssl.policy.bolt.enabled", "true"),
        ("dbms.ssl.policy.bolt.base_directory", &base),
        ("dbms.ssl.policy.bolt.private_key", "private.key"),
        ("dbms.ssl.policy.bolt.public_certificate", "public.crt"),
        ("dbms.ssl.policy.bolt.client_auth", client_auth),
    ]
    .map(|(name, value)| (name.into(), value.into())))
}
