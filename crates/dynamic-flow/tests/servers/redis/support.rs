//! Stores in namespaces of their own, records, and servers that may be broken.

use std::time::Duration;

use dynamic_flow::{
    Epoch, Error, ErrorKind, Metadata, Result, Revision, RunId, RunStatus, Timestamp,
    codec::Sealed,
    store::{Claim, Queue, Record, RedisConfig, RedisStore},
    testkit::conformance::Subject,
};
use dynamic_flow_services::{
    Corner, Kind,
    redis::{Options, Redis, start},
};

/// The time at which all tests begin.
pub(super) const START: i64 = 1_795_420_800_000;

/// A prefix of a test's own, whose keys are removed when this is dropped.
pub(super) struct Namespace {
    pub(super) config: RedisConfig,
    corner: Corner,
}

impl Namespace {
    /// One that nobody has used, on the server or cluster for tests; none if there is none.
    pub(super) fn fresh(kind: Kind) -> Option<Self> {
        let corner = crate::support::corner(kind)?;
        Some(Self { config: RedisConfig::from_url(&corner.url()).unwrap(), corner })
    }

    pub(super) fn open(&self) -> RedisStore {
        open(&self.config)
    }

    /// A connection of the test's own.
    pub(super) fn raw(&self) -> redis::Connection {
        redis::Client::open(self.corner.server()).unwrap().get_connection().unwrap()
    }
}

/// A store for the conformance suite.
pub(super) fn subject(kind: Kind) -> Option<Subject> {
    let namespace = Namespace::fresh(kind)?;
    Some(Subject::new(namespace.open(), move || namespace.open()))
}

/// A server of the test's own; none where none can be started, which is said.
pub(super) fn server(options: &Options) -> Option<Redis> {
    match start(options) {
        Ok(server) => Some(server),
        Err(error) => {
            crate::support::skip(&format!("no Redis server can be started: {error:#}"));
            None
        }
    }
}

/// The configuration of a store at that server that has little patience.
pub(super) fn config(server: &Redis) -> RedisConfig {
    let mut config = RedisConfig::from_url(&server.url()).unwrap();
    config.operation_timeout = Duration::from_secs(3);
    config.connect_timeout = Duration::from_secs(2);
    config
}

pub(super) fn open(config: &RedisConfig) -> RedisStore {
    RedisStore::new(config.clone()).unwrap()
}

/// So many milliseconds after the tests began.
pub(super) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(START + millis)
}

/// The id of the `n`-th run, which was created `n` milliseconds after the tests began.
pub(super) fn id(n: u64) -> RunId {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&(START as u64 + n).to_be_bytes()[2..]);
    bytes[6] = 0x70;
    bytes[8..].copy_from_slice(&((1 << 63) | n).to_be_bytes());
    RunId::from_bytes(bytes)
}

/// A record that is due in the queue `q` when it was created.
pub(super) fn due(n: u64) -> Record {
    Record {
        id: id(n),
        revision: Revision::FIRST,
        epoch: Epoch(0),
        flow_id: "purchase".into(),
        queue: Some(Queue("q".into())),
        status: RunStatus::Waiting,
        waits: vec![],
        metadata: Metadata::from([("order".into(), (n as i64).into())]),
        updated_at: at(0),
        due_at: Some(at(n as i64)),
        attempts: 0,
        lease: None,
        snapshot: Sealed(format!("snapshot {n}").into_bytes()),
        inbox: vec![],
    }
}

/// A claim in the queue `q`, long after all are due.
pub(super) fn claim(limit: usize) -> Claim {
    Claim {
        now: at(1_000_000),
        queues: vec![Queue("q".into())],
        owner: "claimer".into(),
        lease: Duration::from_secs(60),
        limit,
        except: [].into(),
    }
}

/// The error that a call must have ended with: of the store, about the server, without a secret.
#[track_caller]
pub(super) fn failed<T: std::fmt::Debug>(result: Result<T>, says: &str, retryable: bool) -> Error {
    let error = result.expect_err("the call must fail");
    assert_eq!(error.kind(), ErrorKind::StorageError, "{error}");
    assert!(error.message().contains(says), "{says}: {error}");
    assert_eq!(error.is_retryable(), retryable, "{error}");
    let server = error.context_value("server").unwrap_or_default();
    assert!(server.starts_with("redis"), "which server it was: {error}");
    assert!(error.to_string().contains('('), "which operation it was: {error}");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    let only_reads =
        ["(get;", "(query;", "(health;"].iter().any(|it| error.to_string().contains(it));
    assert!(!only_reads || !error.message().contains("taken effect"), "{error}");
    error
}

/// Calls that take too long are no answer.
pub(super) async fn soon<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(8), call).await.expect("within seconds")
}
