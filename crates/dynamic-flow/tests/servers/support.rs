//! Where the servers are, and what all of their tests need.

use std::{
    env,
    fmt::{Debug, Display},
    future::Future,
    time::Duration,
};

use dynamic_flow::{
    Epoch, Error, ErrorKind, KeyDigest, Metadata, Result, Revision, RunId, RunStatus, Timestamp,
    codec::Sealed,
    store::{Queue, Record, WaitIndex},
};
use dynamic_flow_services::{Corner, Kind, SmallDisk};
pub(crate) use dynamic_flow_services::{fresh, skip};

/// The URL of a server that was started for tests, from that variable of the environment.
pub(crate) fn url(variable: &str) -> Option<String> {
    let url = env::var(variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        skip(&format!("{variable} is not set; `cargo xtask test` starts the server and sets it"));
    }
    url
}

/// A corner of the server of that kind that was started for tests.
pub(crate) fn corner(kind: Kind) -> Option<Corner> {
    url(kind.variable()).map(|url| Corner::of(kind, url))
}

/// A URL with one more parameter.
pub(crate) fn with(url: &str, parameter: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{parameter}")
}

/// The URL with a host of which nothing tells that it is this machine: the system takes `127.1` for
/// `127.0.0.1`. None where the server is somewhere else.
pub(crate) fn elsewhere(url: &str) -> Option<String> {
    url.contains("127.0.0.1").then(|| url.replace("127.0.0.1", "127.1"))
}

/// The URL of a store that gives up soon.
pub(crate) fn impatient(url: &str) -> String {
    with(url, "connect_timeout=2s&operation_timeout=3s")
}

/// A server of a test's own that was started; none where none is installed, which is then said.
pub(crate) fn private<T>(started: std::result::Result<T, impl Display>) -> Option<T> {
    match started {
        Ok(server) => Some(server),
        Err(error) if format!("{error:#}").contains("not installed") => {
            skip(&format!("{error:#}; `cargo xtask test` installs it"));
            None
        }
        Err(error) => panic!("{error:#}"),
    }
}

/// A disk of so many megabytes for a server's data; none where there is no right to mount one,
/// which is then said.
pub(crate) fn small_disk(megabytes: u32) -> Option<SmallDisk> {
    match SmallDisk::mount(megabytes << 10) {
        Ok(disk) => Some(disk),
        Err(error) => {
            skip(&format!("a full disk needs the right to mount one: {error:#}"));
            None
        }
    }
}

pub(crate) fn id(n: u8) -> RunId {
    RunId::from_bytes([n; 16])
}

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_795_420_800_000 + millis)
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
pub(crate) fn assert_tells(
    (scheme, password): (&str, &str),
    error: &Error,
    operation: &str,
    retryable: bool,
    words: &[&str],
) {
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::StorageError, "{text}");
    assert!(text.contains(&format!("({operation}; ")), "which operation: {text}");
    assert!(text.contains(&format!("server {scheme}://")), "which server: {text}");
    assert_eq!(error.is_retryable(), retryable, "{error:?}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {error:?}");
    }
    for shown in [text, format!("{error:?}")] {
        assert!(!shown.contains(password), "{shown}");
    }
    assert!(!error.message().contains('\n'), "one line: {error}");
    if ["get", "query", "health"].contains(&operation) {
        assert!(!error.message().contains("taken effect"), "it only reads: {error}");
    }
}
