//! Databases of tests' own, servers that a test may break, and runs to put into them.

use std::{fmt::Debug, future::Future, time::Duration};

use ::mongodb::Client;
use dynamic_flow::{
    Epoch, Error, ErrorKind, KeyDigest, Metadata, Result, Revision, RunId, Timestamp,
    codec::Sealed,
    engine::RunStatus,
    store::{MongodbStore, Queue, Record, WaitIndex},
};
use dynamic_flow_services::mongodb::{Mongodb, Options, PASSWORD, start};

use crate::support;

/// A database that goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Database {
    url: String,
    name: String,
}

impl Database {
    /// One that nobody has used, on the server for tests; none if there is no server.
    pub(crate) fn fresh() -> Option<Self> {
        support::url("DFLOW_TEST_MONGODB_URL").map(|url| Self::on(&url))
    }

    /// One that nobody has used, on that server.
    pub(crate) fn on(server: &str) -> Self {
        let name = support::fresh();
        Self { url: with_database(server, &name), name }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A handle of its own on the collection.
    pub(crate) fn store(&self) -> MongodbStore {
        open(&self.url)
    }

    /// The database as the driver has it, with nothing between.
    pub(crate) async fn raw(&self) -> ::mongodb::Database {
        Client::with_uri_str(&self.url).await.unwrap().database(&self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (url, name) = (self.url.clone(), self.name.clone());
        // A runtime of its own: there may be none any more.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                Client::with_uri_str(&url).await.unwrap().database(&name).drop().await.unwrap();
            });
        });
        dropping.join().unwrap();
    }
}

/// The URL of a server with a database in its path; the user is still the server's.
pub(crate) fn with_database(server: &str, name: &str) -> String {
    let (base, parameters) = server.split_once('?').unwrap_or((server, ""));
    let host = base.find("://").map_or(0, |at| at + "://".len());
    let end = base[host..].find('/').map_or(base.len(), |at| host + at);
    let mut url = format!("{}/{name}?{parameters}", &base[..end]);
    if base.contains('@') && !parameters.contains("authSource=") {
        url += "&authSource=admin";
    }
    url
}

/// A URL with one more parameter.
pub(crate) fn with(url: &str, parameter: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{parameter}")
}

/// The URL of a store that gives up soon.
pub(crate) fn impatient(url: &str) -> String {
    with(url, "connect_timeout=2s&operation_timeout=3s")
}

/// A store at that URL.
pub(crate) fn open(url: &str) -> MongodbStore {
    MongodbStore::from_url(url).unwrap()
}

/// A server of a test's own, which it may break; none where none is installed.
pub(crate) fn private(options: &Options) -> Option<Mongodb> {
    match start(options) {
        Ok(server) => Some(server),
        Err(error) if format!("{error:#}").contains("not installed") => {
            support::skip(&format!("{error:#}; `cargo xtask test` installs it"));
            None
        }
        Err(error) => panic!("{error:#}"),
    }
}

/// A parked run, due at once.
pub(crate) fn record(n: u8) -> Record {
    Record {
        id: id(n),
        revision: Revision::FIRST,
        epoch: Epoch(0),
        flow_id: "flow".into(),
        queue: Some(Queue("q".into())),
        status: RunStatus::Waiting,
        waits: vec![WaitIndex {
            id: "ask".into(),
            tool_id: "approve".into(),
            keys: vec![KeyDigest::from_bytes([7; 32])],
            created_at: at(0),
            expires_at: Some(at(9)),
            has_default: false,
        }],
        metadata: Metadata::from([("order".into(), i64::from(n).into())]),
        updated_at: at(0),
        due_at: Some(at(0)),
        attempts: 0,
        lease: None,
        snapshot: Sealed(vec![n; 100]),
        inbox: vec![],
    }
}

pub(crate) fn id(n: u8) -> RunId {
    RunId::from_bytes([n; 16])
}

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_795_420_800_000 + millis)
}

/// The error of a call that must fail, and not hang.
pub(crate) async fn failure<T: Debug>(call: impl Future<Output = Result<T>>) -> Error {
    soon(call).await.expect_err("the call must fail")
}

/// A call that must end in seconds.
pub(crate) async fn soon<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), call).await.expect("it must not hang")
}

/// Makes a call until it succeeds: another process has to act first.
pub(crate) async fn eventually<T, F>(mut call: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T>>,
{
    let mut last = None;
    for _ in 0..100 {
        match call().await {
            Ok(done) => return done,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it does not recover: {last:?}");
}

/// What every error of a store must be: of one line, with server, operation and advice, without a
/// password, and worth a retry or not.
#[track_caller]
pub(crate) fn assert_tells(error: &Error, operation: &str, retryable: bool, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::StorageError, "{text}");
    assert!(text.contains(&format!("({operation}; ")), "which operation: {text}");
    assert!(text.contains("server mongodb://"), "which server: {text}");
    assert_eq!(error.is_retryable(), retryable, "{error:?}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {error:?}");
    }
    for shown in [text, format!("{error:?}")] {
        assert!(!shown.contains(PASSWORD), "{shown}");
    }
    assert!(!error.message().contains('\n'), "one line: {error}");
}
