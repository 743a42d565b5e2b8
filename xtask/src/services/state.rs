//! What `services up` left running, written down so that `services down` ends that and nothing
//! else.

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use dynamic_flow_services::{Kind, Process, Server, Service};
use serde::{Deserialize, Serialize};

/// How long a server may take to end in good order.
const GRACE: Duration = Duration::from_secs(60);

/// How the folders of servers are called; none that is called otherwise is ever removed.
const FOLDER: &str = "dflow-";

/// The file, for whoever holds it alone.
#[derive(Debug)]
pub(crate) struct State {
    path: PathBuf,
    _lock: File,
    /// By the names of kinds.
    running: BTreeMap<String, Running>,
}

/// A server that was left running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    /// May hold a password.
    pub(crate) url: String,
    /// None where Docker has it.
    processes: Vec<Recorded>,
    /// Whether it was started through `compose.yaml`.
    #[serde(default)]
    pub(crate) docker: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Recorded {
    #[serde(flatten)]
    process: Process,
    /// The signal that makes it end in good order.
    stop: String,
    folder: PathBuf,
}

impl State {
    /// Reads the file in that folder, and holds it until this is dropped.
    ///
    /// # Errors
    /// When it can't be read, or somebody else holds it.
    pub(crate) fn hold(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let lock = folder.join("services.lock");
        let lock = File::create(&lock).with_context(|| lock.display().to_string())?;
        lock.try_lock().context("another `cargo xtask services` is at work; wait for it")?;
        let path = folder.join("services.json");
        Ok(Self { running: read(&path)?, path, _lock: lock })
    }

    /// What the file says at the moment, for those who only look.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn look(folder: &Path) -> Result<BTreeMap<String, Running>> {
        read(&folder.join("services.json"))
    }

    pub(crate) fn get(&self, kind: Kind) -> Option<&Running> {
        self.running.get(kind.name())
    }

    /// The kinds that were left running, whether they still do or not.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        self.running.keys().filter_map(|name| Kind::from_name(name)).collect()
    }

    /// Leaves a server running, which is written down before.
    ///
    /// # Errors
    /// When that can't be done; then it ends when it is dropped.
    pub(crate) fn leave(&mut self, kind: Kind, service: &mut dyn Service) -> Result<()> {
        let url = service.url();
        let mut servers = service.servers();
        let processes = servers.iter().map(|it| Recorded::of(it)).collect::<Result<_>>()?;
        self.note(kind, Running { url, processes, docker: false })?;
        servers.iter_mut().for_each(|server| server.leave());
        Ok(())
    }

    /// Writes down what runs.
    pub(crate) fn note(&mut self, kind: Kind, running: Running) -> Result<()> {
        self.running.insert(kind.name().to_owned(), running);
        self.write()
    }

    /// Ends what of a kind was left running here and still does, removes its folders, and forgets
    /// it. Tells whether anything ran.
    ///
    /// # Errors
    /// When a process can't be ended; then it is not forgotten.
    pub(crate) fn end(&mut self, kind: Kind) -> Result<bool> {
        let Some(running) = self.running.get(kind.name()) else { return Ok(false) };
        let mut ran = false;
        for it in &running.processes {
            ran |= it.process.end(&it.stop, GRACE)?;
        }
        for it in &running.processes {
            it.remove_folder()?;
        }
        self.forget(kind)?;
        Ok(ran)
    }

    /// Forgets a kind.
    pub(crate) fn forget(&mut self, kind: Kind) -> Result<()> {
        self.running.remove(kind.name());
        self.write()
    }

    fn write(&self) -> Result<()> {
        if self.running.is_empty() {
            return gone(fs::remove_file(&self.path)).context("the state can't be removed");
        }
        let text = serde_json::to_vec_pretty(&self.running)?;
        let new = self.path.with_extension("json.new");
        let written = || -> io::Result<()> {
            // URLs have passwords.
            let mut file =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(&text)?;
            fs::rename(&new, &self.path)
        };
        written().with_context(|| format!("{} can't be written", self.path.display()))
    }
}

impl Running {
    /// What Docker runs.
    pub(crate) fn in_docker(url: String) -> Self {
        Self { url, processes: Vec::new(), docker: true }
    }

    /// Whether all that belongs to it runs; of what Docker has, Docker knows.
    pub(crate) fn runs(&self) -> bool {
        self.processes.iter().all(|it| it.process.runs())
    }
}

impl Recorded {
    fn of(server: &Server) -> Result<Self> {
        let pid = server.pid().context("a server that was started runs")?;
        let process = Process::now(pid)?;
        let stop = server.stop_signal().to_owned();
        Ok(Self { process, stop, folder: server.folder().to_owned() })
    }

    fn remove_folder(&self) -> Result<()> {
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy();
        if !self.folder.is_absolute() || !name.starts_with(FOLDER) {
            bail!("{} is no folder of a server; it is left alone", self.folder.display());
        }
        gone(fs::remove_dir_all(&self.folder))
            .with_context(|| format!("{} can't be removed", self.folder.display()))
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Running>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| {
            format!("{} can't be read; did another version write it?", path.display())
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// What is gone already need not be removed.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use dynamic_flow_services::Launch;
    use tempfile::TempDir;

    use super::*;

    /// Processes that sleep, behind a port on which the test itself listens.
    struct Pretended {
        servers: Vec<Server>,
        _listener: TcpListener,
    }

    impl Pretended {
        fn start(processes: usize) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let start = || {
                let launch = Launch {
                    name: "pretended",
                    program: "sleep".into(),
                    args: vec!["600".into()],
                    env: Vec::new(),
                    port,
                    stop: "TERM",
                    ready: None,
                };
                Server::start(launch, Server::folder_for("pretended").unwrap()).unwrap()
            };
            Self { servers: (0..processes).map(|_| start()).collect(), _listener: listener }
        }
    }

    impl Service for Pretended {
        fn url(&self) -> String {
            "postgres://u:secret@127.0.0.1:1/".into()
        }

        fn servers(&mut self) -> Vec<&mut Server> {
            self.servers.iter_mut().collect()
        }
    }

    /// Leaves one running in a folder of state; gives what was written down.
    fn left(target: &TempDir, kind: Kind, processes: usize) -> Running {
        let mut state = State::hold(target.path()).unwrap();
        state.leave(kind, &mut Pretended::start(processes)).unwrap();
        state.get(kind).unwrap().clone()
    }

    fn rewrite(target: &TempDir, change: impl FnOnce(&mut Running)) {
        let mut state = State::hold(target.path()).unwrap();
        let mut running = state.get(Kind::Postgres).unwrap().clone();
        change(&mut running);
        state.note(Kind::Postgres, running).unwrap();
    }

    #[test]
    fn what_is_left_running_is_ended_by_a_later_call() {
        let target = TempDir::new().unwrap();
        let running = left(&target, Kind::RedisCluster, 2);
        assert!(running.runs());
        let file = target.path().join("services.json");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(State::look(target.path()).unwrap()["redis-cluster"], running);

        let mut later = State::hold(target.path()).unwrap();
        assert_eq!(later.kinds(), [Kind::RedisCluster]);
        assert!(!later.end(Kind::Postgres).unwrap());
        assert!(running.runs());
        assert!(later.end(Kind::RedisCluster).unwrap());
        assert!(running.processes.iter().all(|it| !it.process.runs() && !it.folder.exists()));
        assert!(!file.exists());
        assert!(!later.end(Kind::RedisCluster).unwrap());
    }

    #[test]
    fn a_process_that_got_the_id_of_one_that_was_started_is_not_ended() {
        let target = TempDir::new().unwrap();
        let running = left(&target, Kind::Postgres, 1);
        rewrite(&target, |it| it.processes[0].process.born = "another time".into());
        let mut state = State::hold(target.path()).unwrap();
        assert!(!state.get(Kind::Postgres).unwrap().runs());
        assert!(!state.end(Kind::Postgres).unwrap());
        assert!(running.runs());
        running.processes[0].process.end("KILL", GRACE).unwrap();
    }

    #[test]
    fn a_folder_that_is_none_of_a_server_is_not_removed() {
        let target = TempDir::new().unwrap();
        let precious = TempDir::new().unwrap();
        let running = left(&target, Kind::Postgres, 1);
        rewrite(&target, |it| it.processes[0].folder = precious.path().into());
        let error = State::hold(target.path()).unwrap().end(Kind::Postgres).unwrap_err();
        assert!(error.to_string().contains("left alone"), "{error}");
        assert!(precious.path().exists());
        fs::remove_dir_all(&running.processes[0].folder).unwrap();
    }

    #[test]
    fn the_state_has_one_holder() {
        let target = TempDir::new().unwrap();
        let held = State::hold(target.path()).unwrap();
        assert!(State::hold(target.path()).unwrap_err().to_string().contains("another"));
        drop(held);
        State::hold(target.path()).unwrap();
    }

    #[test]
    fn a_file_of_another_version_is_not_taken_for_empty() {
        let target = TempDir::new().unwrap();
        fs::write(target.path().join("services.json"), "{\"postgres\": 7}").unwrap();
        let error = State::hold(target.path()).unwrap_err();
        assert!(error.to_string().contains("another version"), "{error}");
    }
}
