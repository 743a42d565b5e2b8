//! Where the servers are, and what all of their tests need.

use std::{env, fmt::Debug, future::Future, time::Duration};

use dynamic_flow::{Error, ErrorKind, Result, RunId, Timestamp};
use dynamic_flow_services::SmallDisk;
pub(crate) use dynamic_flow_services::skip;

/// The URL of a server that was started for tests, from that variable of the environment.
pub(crate) fn url(variable: &str) -> Option<String> {
    let url = env::var(variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        skip(&format!("{variable} is not set; `cargo xtask test` starts the server and sets it"));
    }
    url
}

/// A name for a database, schema or prefix of one test's own.
pub(crate) fn fresh() -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).unwrap();
    format!("dflow_test_{:016x}", u64::from_le_bytes(random))
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
}
