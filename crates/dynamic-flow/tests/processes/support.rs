//! Processes, and the stores that they share.

use std::{
    env,
    fs::{self, File, OpenOptions},
    future::Future,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    pin::Pin,
    process::{Child, Command, Stdio},
    str::FromStr,
    sync::{
        Arc, Mutex, OnceLock,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use dynamic_flow::{
    Clock, Timestamp,
    codec::Keyring,
    hub::{HubBuilder, PersistenceHub},
    store::{self, Store},
};
use dynamic_flow_services::Corner;
pub(crate) use dynamic_flow_services::Kind;

const ROLE: &str = "DFLOW_TEST_ROLE";
const FOLDER: &str = "DFLOW_TEST_FOLDER";
const STORE: &str = "DFLOW_TEST_STORE";
/// Sealed state goes through all that real state goes through.
pub(crate) const KEY: &str = "3f1c5a0e9b7d2486c0ffee0011223344556677889900aabbccddeeff13579bdf";
/// How long a process may say nothing before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a test of each function for each store that processes can share.
macro_rules! on_each_store {
    ($($test:ident),+ $(,)?) => {
        mod on_files {
            $(#[test] fn $test() { super::$test(&crate::support::Ground::Files); })+
        }
        mod on_sqlite {
            $(#[test] fn $test() { super::$test(&crate::support::Ground::Sqlite); })+
        }
        #[cfg(feature = "postgres")]
        mod on_postgres {
            $(#[test] fn $test() { crate::support::on(crate::support::Kind::Postgres, super::$test); })+
        }
        #[cfg(feature = "redis")]
        mod on_redis {
            $(#[test] fn $test() { crate::support::on(crate::support::Kind::Redis, super::$test); })+
        }
        #[cfg(feature = "mongodb")]
        mod on_mongodb {
            $(#[test] fn $test() { crate::support::on(crate::support::Kind::Mongodb, super::$test); })+
        }
        #[cfg(feature = "neo4j")]
        mod on_neo4j {
            $(#[test] fn $test() { crate::support::on(crate::support::Kind::Neo4j, super::$test); })+
        }
    };
}
pub(crate) use on_each_store;

/// Holds a test on a server of that kind, where the environment tells where one is.
#[cfg(any(feature = "postgres", feature = "redis", feature = "mongodb", feature = "neo4j"))]
pub(crate) fn on(kind: Kind, test: impl FnOnce(&Ground)) {
    if let Some(corner) = Corner::on(kind) {
        test(&Ground::Server(kind, Arc::new(corner)));
    }
}

/// Where the stores of a test are.
#[derive(Debug, Clone)]
pub(crate) enum Ground {
    /// Each place has a store of its own.
    Files,
    Sqlite,
    /// All places share a store, in a corner of the server. It takes long to make one.
    Server(Kind, Arc<Corner>),
}

impl Ground {
    /// Another ground of that kind, on which nobody has made a store.
    pub(crate) fn anew(&self) -> Self {
        match self {
            Self::Server(kind, _) => {
                Self::Server(*kind, Arc::new(Corner::on(*kind).expect("it was there")))
            }
            embedded => embedded.clone(),
        }
    }

    /// Of how many cases one is tried here: on servers each takes long, and what differs between the
    /// stores is tried by the conformance suite.
    pub(crate) fn step(&self) -> usize {
        match self {
            Self::Files | Self::Sqlite => 1,
            Self::Server(..) => 8,
        }
    }
}

/// A folder of one's own and a store, for the processes of one test.
pub(crate) struct Place {
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
    /// The URL of the store.
    pub(crate) url: String,
    /// What keeps the store.
    _ground: Ground,
}

impl Place {
    /// In memory where there is such a file system: what is killed takes nothing along that it has
    /// written, synced or not, so that the disk would cost minutes and show nothing.
    pub(crate) fn new(ground: &Ground) -> Self {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { env::temp_dir() };
        let folder = tempfile::tempdir_in(&base).or_else(|_| tempfile::tempdir()).unwrap();
        let path = folder.path().to_owned();
        let url = match ground {
            Ground::Files => format!("file:{}", path.join("flows").display()),
            Ground::Sqlite => format!("sqlite:{}", path.join("flows.db").display()),
            Ground::Server(_, corner) => corner.url(),
        };
        Self { _folder: folder, path, url, _ground: ground.clone() }
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        store::open(&self.url).unwrap()
    }

    /// What processes wrote into a file, a JSON value on each line.
    pub(crate) fn lines<T: serde::de::DeserializeOwned>(&self, file: &str) -> Vec<T> {
        lines(&self.path.join(file))
    }
}

/// Reads a JSON value from each line; the file need not be there.
pub(crate) fn lines<T: serde::de::DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Appends a JSON value as a line, which no kill takes back once this has returned.
pub(crate) fn note<T: serde::Serialize>(mut file: &File, line: &T) {
    let mut text = serde_json::to_vec(line).unwrap();
    text.push(b'\n');
    file.write_all(&text).unwrap();
}

/// A hub over a store, which seals with the key that all hubs here have.
pub(crate) fn hub(store: Arc<dyn Store>) -> HubBuilder {
    PersistenceHub::builder(store)
        .keyring(Keyring::new(KEY.parse().unwrap()))
        .retry_delay(Duration::ZERO)
}

/// The system's clock, set wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WrongBy(pub(crate) Duration);

impl Clock for WrongBy {
    fn now(&self) -> Timestamp {
        dynamic_flow::SystemClock.now().after(self.0)
    }

    fn sleep_until(&self, at: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            dynamic_flow::SystemClock.sleep_until(at.before(self.0)).await;
        })
    }
}

/// A process that this test started; killed when the test is done with it, however it ends.
pub(crate) struct Process {
    child: Child,
    heard: Receiver<String>,
    name: String,
}

impl Process {
    /// Starts this program again, in that role, on that place.
    pub(crate) fn start(role: &str, place: &Place, settings: &[(&str, String)]) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", "as_a_process_of_another_test", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(FOLDER, &place.path)
            .env(STORE, &place.url)
            .envs(settings.iter().map(|(name, value)| (name, value)));
        Self::spawn(role, command)
    }

    /// Starts another program.
    pub(crate) fn spawn(name: &str, mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, heard) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // What the test harness says is not said by the process.
                if let Some((_, said)) = line.split_once("> ")
                    && tell.send(said.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Self { child, heard, name: format!("{name} {}", env::args().next().unwrap_or_default()) }
    }

    /// Tells the process a line.
    pub(crate) fn tell(&mut self, line: &str) {
        let mut stdin = self.child.stdin.as_ref().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Tells it that there is nothing more to tell.
    pub(crate) fn hang_up(&mut self) {
        drop(self.child.stdin.take());
    }

    /// The next line that it says; none once it has ended.
    pub(crate) fn hear(&mut self) -> Option<String> {
        match self.heard.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("{} says nothing", self.name),
        }
    }

    /// Forgets what it has said so far.
    pub(crate) fn forget(&mut self) {
        while self.heard.try_recv().is_ok() {}
    }

    /// Sends a signal of that name.
    pub(crate) fn signal(&self, name: &str) {
        let (signal, id) = (format!("-{name}"), self.child.id().to_string());
        assert!(Command::new("kill").args([signal, id]).status().unwrap().success());
    }

    /// SIGKILL, and gone when this returns.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for it to end well.
    pub(crate) fn end(&mut self) {
        self.hang_up();
        while self.hear().is_some() {}
        assert!(self.child.wait().unwrap().success(), "{} failed: see above", self.name);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What this process was started for, if another test did.
pub(crate) fn role() -> Option<String> {
    env::var(ROLE).ok()
}

/// A setting that this process was started with.
pub(crate) fn setting<T: FromStr>(name: &str) -> Option<T> {
    env::var(name).ok().map(|value| value.parse().ok().expect(name))
}

/// The folder that this process was started on.
pub(crate) fn folder() -> PathBuf {
    setting(FOLDER).unwrap()
}

/// The store that this process was started on.
pub(crate) fn store() -> Arc<dyn Store> {
    store::open(&setting::<String>(STORE).unwrap()).unwrap()
}

/// Opens a file of this process's folder to append to.
pub(crate) fn append(file: &str) -> File {
    OpenOptions::new().create(true).append(true).open(folder().join(file)).unwrap()
}

/// Tells the test that started this process; it has been told when this returns.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("> {text}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

static TOLD: OnceLock<Mutex<Receiver<String>>> = OnceLock::new();

/// The next line that this process is told; none once there is nothing more.
pub(crate) fn told() -> Option<String> {
    TOLD.get().expect("only processes are told something").lock().unwrap().recv().ok()
}

/// Does the work of a process: as long as the test that started it is there, and no longer.
pub(crate) fn run(work: impl Future<Output = ()>) {
    let (tell, told) = mpsc::channel();
    TOLD.set(Mutex::new(told)).expect("a process has one role");
    thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = tell.send(line);
        }
        drop(tell);
        // A test that ended well has told us to end; one that did not needs us no more.
        thread::sleep(PATIENCE);
        std::process::exit(3);
    });
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(work);
}

/// Waits for something that another process does, or that time does.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < give_up, "it did not come to pass: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
