//! A server process: started, stopped, killed and started again, and never left behind.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{live, process::signal};

/// `nobody` and `nogroup`: what a server runs as where this process is root.
pub const UNPRIVILEGED: u32 = 65534;

/// How long a server may take until it serves.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether servers are kept out of this process's group.
static APART: AtomicBool = AtomicBool::new(false);

/// From now on, servers start in process groups of their own: a Ctrl-C that ends this process does
/// not reach them. Who calls this ends them himself, or leaves them running on purpose.
pub fn start_apart() {
    APART.store(true, Ordering::Relaxed);
}

/// How a server is started: the same way each time, on one port and in one folder.
#[derive(Debug)]
pub struct Launch {
    /// What it is called in messages.
    pub name: &'static str,
    /// The program, and what it is called with.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables of its environment, beside those of this process.
    pub env: Vec<(String, String)>,
    /// The loopback port on which it listens.
    pub port: u16,
    /// The signal that makes it end in good order.
    pub stop: &'static str,
    /// For those that take connections before they serve them: a log in its folder, and what its
    /// last words are when they do.
    pub ready: Option<(&'static str, &'static str)>,
}

/// A server of one's own; killed, and its folder removed, when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Option<Child>,
    launch: Launch,
    folder: TempDir,
}

impl Server {
    /// A folder for a server: for its owner and for who runs it, and for nobody else.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn folder_for(name: &str) -> Result<TempDir> {
        let folder = tempfile::Builder::new().prefix(&format!("dflow-{name}-")).tempdir()?;
        live::made(folder.path())?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700))?;
        give(folder.path())?;
        Ok(folder)
    }

    /// Starts a server in that folder, and waits until it serves.
    ///
    /// # Errors
    /// When it can't be started or ends at once; the error has the end of its logs.
    pub fn start(launch: Launch, folder: TempDir) -> Result<Self> {
        let mut server = Self { child: None, launch, folder };
        server.start_again()?;
        Ok(server)
    }

    /// Where it keeps its data and its log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The loopback port on which it listens.
    pub fn port(&self) -> u16 {
        self.launch.port
    }

    /// How it is started; what is changed counts from the next start on.
    pub fn launch_mut(&mut self) -> &mut Launch {
        &mut self.launch
    }

    /// The id of its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it once more, on the same port and in the same folder.
    ///
    /// # Errors
    /// As [`Server::start`]; also when it runs already.
    pub fn start_again(&mut self) -> Result<()> {
        let Launch { name, program, args, env, port, ready, .. } = &self.launch;
        if self.child.is_some() {
            bail!("{name} runs already");
        }
        let ready = ready.map(|(log, words)| (self.folder.path().join(log), words));
        let earlier = ready.as_ref().map_or(0, |(log, words)| count(log, words));
        let log = self.folder.path().join("output.log");
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = unprivileged(program);
        command
            .args(args)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        if APART.load(Ordering::Relaxed) {
            command.process_group(0);
        }
        let child = command
            .spawn()
            .with_context(|| format!("{name} could not be started: {}", program.display()))?;
        let pid = child.id();
        let child = self.child.insert(child);
        if let Err(late) = live::started(pid, self.launch.stop) {
            self.kill();
            return Err(late);
        }
        let give_up = Instant::now() + PATIENCE;
        // Some say nothing but in a log of their own.
        let said = || tail(&log) + &ready.as_ref().map_or_else(String::new, |(log, _)| tail(log));
        let serves = || ready.as_ref().is_none_or(|(log, words)| count(log, words) > earlier);
        while !(accepts(*port) && serves()) {
            if let Some(status) = child.try_wait()? {
                live::ended(child.id());
                self.child = None;
                bail!("{name} ended at once ({status}):\n{}", said());
            }
            if Instant::now() > give_up {
                bail!("{name} does not serve on port {port}:\n{}", said());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends it in good order, and waits until it is gone.
    ///
    /// # Errors
    /// When it does not end, and had to be killed.
    pub fn stop(&mut self) -> Result<()> {
        let name = self.launch.name;
        let stop = self.launch.stop;
        let Some(child) = &mut self.child else { return Ok(()) };
        signal(child.id(), stop)?;
        // Should it be frozen, it could not hear that.
        signal(child.id(), "CONT")?;
        let give_up = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() > give_up {
                self.kill();
                bail!("{name} did not end, and was killed");
            }
            thread::sleep(Duration::from_millis(10));
        }
        live::ended(child.id());
        self.child = None;
        Ok(())
    }

    /// Stops its process where it is (SIGSTOP): connections stay open, and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self) -> Result<()> {
        signal(self.pid().context("it does not run")?, "STOP")
    }

    /// Lets it go on after [`Server::freeze`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self) -> Result<()> {
        signal(self.pid().context("it does not run")?, "CONT")
    }

    /// Lets it run on when this is dropped, and leaves its folder where it is.
    ///
    /// Whoever ends it later needs its id and its folder: ask for them before.
    pub fn leave(&mut self) {
        live::left(self.pid(), self.folder.path());
        self.folder.disable_cleanup(true);
        self.child = None;
    }

    /// The signal that makes it end in good order.
    pub fn stop_signal(&self) -> &'static str {
        self.launch.stop
    }

    /// SIGKILL; it is gone when this returns.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            live::ended(child.id());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // In good order where it has helpers of its own, which a kill would leave behind.
        if self.stop().is_err() {
            self.kill();
        }
    }
}

/// A command that does not run as root, should this process be root.
pub(crate) fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    }
    command
}

/// Gives a file or folder to whom servers run as.
pub(crate) fn give(path: &Path) -> Result<()> {
    if is_root() {
        chown(path, Some(UNPRIVILEGED), Some(UNPRIVILEGED))?;
    }
    Ok(())
}

/// Runs a command to its end; an error has the end of what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{name} could not be started"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}):\n{printed}{complaint}", shown(output.status));
    }
    Ok(printed)
}

/// A loopback port that nobody listens on at the moment.
///
/// # Errors
/// When the system has none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}

fn accepts(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}

/// How often a log has these words; it may not be there yet.
fn count(log: &Path, words: &str) -> usize {
    fs::read_to_string(log).unwrap_or_default().matches(words).count()
}

fn shown(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => status.to_string(),
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
