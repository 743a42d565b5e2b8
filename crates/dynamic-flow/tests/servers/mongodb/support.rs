//! Databases of tests' own, servers that a test may break, and runs to put into them.

use std::fmt::Debug;

use ::mongodb::Client;
use dynamic_flow::{
    Epoch, Error, KeyDigest, Metadata, Revision,
    codec::Sealed,
    engine::RunStatus,
    store::{MongodbStore, Queue, Record, WaitIndex},
};
use dynamic_flow_services::mongodb::{Mongodb, Options, PASSWORD, start};

use crate::support;
pub(crate) use crate::support::{at, eventually, failure, id, soon};

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

/// What every error of this store must be.
#[track_caller]
pub(crate) fn assert_tells(error: &Error, operation: &str, retryable: bool, words: &[&str]) {
    crate::support::assert_tells(("mongodb", PASSWORD), error, operation, retryable, words);
}
