//! Where the servers are, and what all of their tests need.

use std::{
    env,
    fmt::Debug,
    fs,
    future::Future,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use dynamic_flow::{Error, ErrorKind, Result, RunId, Timestamp};

/// The URL of a server that was started for tests, from that variable of the environment.
pub(crate) fn url(variable: &str) -> Option<String> {
    let url = env::var(variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        skip(&format!("{variable} is not set; `cargo xtask test` starts the server and sets it"));
    }
    url
}

/// Says that a test can't run where it is: past the test harness, which keeps what is printed.
pub(crate) fn skip(reason: &str) {
    let _ = std::io::stderr().write_all(format!("SKIPPED: {reason}\n").as_bytes());
}

/// A name for a database, schema or prefix of one test's own.
pub(crate) fn fresh() -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).unwrap();
    format!("dflow_test_{:016x}", u64::from_le_bytes(random))
}

/// A file system of a few megabytes for a server's data, which goes with the test.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// None where there is no right to mount one, which is then said.
    pub(crate) fn of_megabytes(size: u32) -> Option<Self> {
        let disk = Self(env::temp_dir().join(fresh()));
        fs::create_dir(&disk.0).unwrap();
        // The servers run as nobody.
        let options = format!("size={size}m,uid=65534,gid=65534,mode=0700");
        if disk.mount(&["-t", "tmpfs", "-o", &options, "tmpfs"]) {
            return Some(disk);
        }
        skip("a full disk needs the right to mount one");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes room.
    pub(crate) fn grow_to_megabytes(&self, size: u32) {
        assert!(self.mount(&["-o", &format!("remount,size={size}m")]));
    }

    fn mount(&self, args: &[&str]) -> bool {
        let mount = Command::new("mount").args(args).arg(&self.0).output();
        mount.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Also while the server still uses it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
        let _ = fs::remove_dir(&self.0);
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
