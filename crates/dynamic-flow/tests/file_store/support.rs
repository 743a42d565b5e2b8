use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use dynamic_flow::{
    Epoch, ErrorKind, FlowId, KeyDigest, Metadata, Result, Revision, RunId, RunStatus, Scalar,
    Timestamp, ToolId, WaitId,
    codec::Sealed,
    store::{Change, Claim, FileStore, Filter, Queue, Record, Store, Summary, WaitIndex},
};

/// 2026-11-23, some morning.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_795_420_800_000);

pub(crate) fn at(millis_later: i64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() + millis_later)
}

pub(crate) fn queue() -> Queue {
    Queue("purchase".into())
}

/// A folder of one's own, and a store in it.
pub(crate) struct Place {
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) store: FileStore,
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap()).await
    }

    /// In memory, where that can be: on another kind of file system than most disks have.
    pub(crate) async fn in_memory() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm");
        Self::within(folder.or_else(|_| tempfile::tempdir()).unwrap()).await
    }

    async fn within(folder: tempfile::TempDir) -> Self {
        let path = folder.path().join("flows");
        let store = FileStore::new(&path);
        store.provision().await.unwrap();
        Self { _folder: folder, path, store }
    }

    /// The file of a run's record.
    pub(crate) fn record(&self, id: RunId) -> PathBuf {
        let name = format!("{id}.json");
        files(&self.path).into_iter().find(|path| path.ends_with(&name)).unwrap()
    }

    /// The file that is locked while a run's record is written.
    pub(crate) fn lock(&self, id: RunId) -> fs::File {
        let path = self.path.join("locks").join(format!("{:02x}", id.as_bytes()[15] % 64));
        fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap()
    }

    /// Where a run's record is written before it gets its name.
    pub(crate) fn temp(&self, id: RunId) -> PathBuf {
        let folder = format!("{:x}", id.as_bytes()[15] % 16);
        self.path.join("tmp").join(folder).join(format!("{id}.json"))
    }

    /// The files whose names say only that there is a run.
    pub(crate) fn marks(&self) -> Vec<PathBuf> {
        let is_mark = |path: &PathBuf| name(path).split_once('~').is_some_and(|it| it.1.is_empty());
        files(&self.path.join("runs")).into_iter().filter(is_mark).collect()
    }

    /// The files whose names are hints of the plain columns of runs.
    pub(crate) fn columns_hints(&self) -> Vec<PathBuf> {
        // What begins as they do and says no more is a mark.
        let is_hint =
            |path: &PathBuf| name(path).split_once('~').is_some_and(|it| !it.1.is_empty());
        files(&self.path.join("runs")).into_iter().filter(is_hint).collect()
    }

    /// The files whose names are hints of when runs are due.
    pub(crate) fn due_hints(&self) -> Vec<PathBuf> {
        files(&self.path.join("due"))
    }

    pub(crate) async fn list(&self, filter: &Filter) -> Vec<Summary> {
        list(&self.store, filter).await.unwrap()
    }

    pub(crate) async fn claimed(&self, now: Timestamp, limit: usize) -> Vec<RunId> {
        let records = self.store.claim(claim(now, limit)).await.unwrap();
        records.into_iter().map(|record| record.id).collect()
    }
}

/// Whether somebody else in this process has a lock's file open: who waits for it.
pub(crate) fn is_waited_for(lock: &fs::File) -> bool {
    let place = |file: fs::Metadata| (file.dev(), file.ino());
    let locked = place(lock.metadata().unwrap());
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter(|it| fs::metadata(it.path()).is_ok_and(|file| place(file) == locked)).count() > 1
}

pub(crate) fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// All files below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

/// All pages of a query, three runs each.
pub(crate) async fn list(store: &FileStore, filter: &Filter) -> Result<Vec<Summary>> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let page = store.query(filter, after, 3).await?;
        items.extend(page.items.into_iter().map(|it| it.expect("a record that reads back")));
        after = page.next;
        if after.is_none() {
            return Ok(items);
        }
    }
}

pub(crate) fn claim(now: Timestamp, limit: usize) -> Claim {
    Claim {
        now,
        queues: vec![queue()],
        owner: "worker".into(),
        lease: Duration::from_secs(30),
        limit,
        except: [].into(),
    }
}

/// A parked run with one open wait, due in an hour.
pub(crate) fn parked() -> Record {
    let id = RunId::new(NOW).unwrap();
    Record {
        id,
        revision: Revision::FIRST,
        epoch: Epoch::default(),
        flow_id: FlowId::from("purchase"),
        queue: Some(queue()),
        status: RunStatus::Waiting,
        waits: vec![wait("approve", Some(at(3_600_000)))],
        metadata: Metadata::from([("amount".into(), Scalar::Int(40))]),
        updated_at: NOW,
        due_at: Some(at(3_600_000)),
        attempts: 0,
        lease: None,
        snapshot: Sealed(b"\x00sealed\xff snapshot".to_vec()),
        inbox: vec![Sealed(vec![1, 2, 3]), Sealed(vec![])],
    }
}

pub(crate) fn wait(tool: &str, expires_at: Option<Timestamp>) -> WaitIndex {
    WaitIndex {
        id: WaitId::from("wait"),
        tool_id: ToolId::from(tool),
        keys: vec![KeyDigest::from_bytes([7; 32])],
        created_at: NOW,
        expires_at,
        has_default: false,
    }
}

pub(crate) fn with_status(status: RunStatus) -> Change {
    Change { status: Some(status), ..Change::at(NOW) }
}

pub(crate) fn of_status(status: RunStatus) -> Filter {
    Filter { status: BTreeSet::from([status]), ..Filter::default() }
}

pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// Numbers that look random and are the same every time.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}
