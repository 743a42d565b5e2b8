//! What the stores on servers share: secrets that are not shown, names that are checked, URLs
//! taken apart, calls that end in time, a thread of their own, and words for what goes wrong.

mod name;
mod runtime;
mod secret;
mod url;
mod wire;

use std::{borrow::Cow, future::Future, time::Duration};

#[cfg(any(feature = "postgres", feature = "neo4j"))]
pub(crate) use self::url::check_credentials;
#[cfg(any(feature = "redis", feature = "mongodb"))]
pub(crate) use self::url::maybe_duration;
pub(crate) use self::{
    name::Name,
    runtime::{Interrupted, OwnRuntime},
    url::{Parameters, duration},
    wire::Wire,
};
pub use self::{secret::Secret, url::location};
use crate::{Error, ErrorKind, Result};

/// How long a call may take, waiting for a connection included, unless it is configured.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to reach the server, unless it is configured.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes a call, and gives up on it after that time: it may have taken effect all the same.
pub(crate) async fn within<T, E: From<TimedOut>>(
    limit: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(TimedOut(limit).into()))
}

/// A call that was given up.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("no answer within {0:?}")]
pub(crate) struct TimedOut(pub(crate) Duration);

/// What a claim gives of the records that it took, each with its run: one that does not read back
/// keeps nobody from the others, which are leased by now; where there are no others, it is an error.
#[cfg(any(feature = "postgres", feature = "redis", feature = "neo4j"))]
pub(crate) fn readable<T, E: std::fmt::Display>(
    taken: impl IntoIterator<Item = (Option<crate::RunId>, Result<T, E>)>,
) -> Result<Vec<T>, E> {
    let mut given = Vec::new();
    let mut unreadable = None;
    for (run, read) in taken {
        match read {
            Ok(record) => given.push(record),
            Err(trouble) => {
                tracing::warn!(?run, %trouble, "a run that is due can't be read");
                unreadable = Some(trouble);
            }
        }
    }
    match unreadable {
        Some(trouble) if given.is_empty() => Err(trouble),
        _ => Ok(given),
    }
}

/// The record is not what the call expects.
pub(crate) fn conflict() -> Error {
    Error::new(ErrorKind::Conflict, "the record is not as expected")
}

/// There is a record of that run already.
pub(crate) fn exists() -> Error {
    Error::new(ErrorKind::AlreadyExists, "there is a record of that run")
}

/// What there is to say of a call whose end is not known: unless it only reads, it may be done.
pub(crate) fn perhaps_done(operation: &str) -> &'static str {
    match operation {
        "exists" | "get" | "query" | "health" => "",
        _ => "; the call may have taken effect",
    }
}

/// A call did not come to its end on the store's own thread.
pub(crate) fn interrupted(how: Interrupted, operation: &str) -> Error {
    let message = match how {
        Interrupted::NoThread(_) => format!("{how}; allow this process more of them"),
        Interrupted::BrokenOff => {
            format!("the call was interrupted{}; try again", perhaps_done(operation))
        }
    };
    storage(message).with_retryable()
}

/// What is stored does not read back.
pub(crate) fn damaged(what: &str) -> Error {
    let message = format!("the {what} of a record does not read back; restore a backup");
    Error::new(ErrorKind::CorruptState, message)
}

/// Something is wrong with the server or on the way to it; the message says what to do.
pub(crate) fn storage(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::StorageError, message)
}

/// A setting is wrong; the message names it, and never its value where that may be a secret.
pub(crate) fn misconfigured(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message).with_operation("open store")
}
