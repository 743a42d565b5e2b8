//! What can go wrong on the way to a server and there, in this store's own words, and in
//! everybody's.

use std::{io, time::Duration};

use redis::{RedisError, ServerError};

use super::config::RedisConfig;
use crate::{
    Error, ErrorKind,
    store::server::{
        Interrupted, TimedOut, conflict, damaged, exists, interrupted, perhaps_done, storage,
    },
};

/// What can go wrong; mapped to [`Error`] once, at the edge of the store.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the record is not as expected")]
    Conflict,
    #[error("there is a record of that run")]
    Exists,
    #[error("the {} does not read back (field {field})", called(.0), field = .0)]
    Damaged(&'static str),
    #[error("a counter is at its end")]
    Counter,
    #[error("the record is larger than {0} bytes")]
    TooLarge(usize),
    /// Nothing was sent.
    #[error("{node} was not reached: {cause}")]
    Unreached { node: String, cause: Unreached },
    /// What was sent may have taken effect.
    #[error("the connection to {node} broke: {text}")]
    Broken { node: String, text: String },
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The server did not do what it was asked.
    #[error("{node} answered {code} {text}")]
    Refused { node: String, code: String, text: String },
    #[error("Redis {0} is too old")]
    TooOld(String),
    #[error("the layout under the prefix is {0:?}")]
    Layout(String),
    #[error("{0} is no member of a cluster")]
    NoCluster(String),
    #[error("a cluster has database 0 alone")]
    ClusterDatabase,
    #[error("no server of the cluster has slot {0}")]
    NoOwner(u16),
    #[error("{got} of {wanted} replicas confirmed the write")]
    Replicas { wanted: u32, got: u32 },
    /// What was to be written was not, since replicas would not confirm it.
    #[error("{got} of {wanted} replicas confirm what is written")]
    Unconfirmed { wanted: u32, got: u32 },
    #[error("the reply is not what the command gives")]
    Confused,
}

/// What people call a field, whose name is short.
fn called(field: &str) -> &str {
    match field {
        "rev" => "revision",
        "ep" => "epoch",
        "try" => "number of attempts",
        "flow" => "flow id",
        "q" => "queue",
        "st" => "status",
        "w" => "waits",
        "m" => "metadata",
        "at" => "time of the last write",
        "due" => "due time",
        "own" | "til" => "lease",
        "s" => "snapshot",
        "from" | "to" | "in" => "inbox",
        other => other,
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Unreached {
    #[error("{0}")]
    Io(String, io::ErrorKind),
    #[error("no name of that host is known: {0}")]
    Name(String),
    #[error("no connection within {0:?}")]
    Late(Duration),
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// As a server does that is killed at that moment, and one that speaks TLS to who does not.
    #[error("the server ended the connection: {0}")]
    Ended(String),
    #[error("the first answer is none of Redis")]
    Greeting,
    #[error("TLS: {0}")]
    Tls(String),
    #[error("the file {what} can't be used: {why}")]
    File { what: &'static str, why: String },
}

/// Of a server's answer, how often it is worth to try again, and what to do.
struct Advice {
    text: String,
    retry: bool,
}

impl Trouble {
    /// What a server answered in place of a result.
    pub(super) fn refused(node: &str, error: &ServerError) -> Self {
        let text = error.details().unwrap_or_default();
        // Before Redis 7, what goes wrong in a script is an ERR that has the true one in its text.
        let (code, text) = match text.split_once("user_script") {
            Some((_, inner)) if error.code() == "ERR" => inner
                .split_once('-')
                .and_then(|(_, inner)| inner.split_once(' '))
                .filter(|(code, _)| code.bytes().all(|b| b.is_ascii_uppercase()))
                .unwrap_or((error.code(), text)),
            _ => (error.code(), text),
        };
        if text.contains("would overflow") {
            return Self::Counter;
        }
        // What Redis 7 tells of the script is of no use to anybody else.
        let text = text.split(" script: ").next().unwrap_or_default();
        Self::Refused { node: node.into(), code: code.into(), text: text.into() }
    }

    /// A call that broke off.
    pub(super) fn broken(node: &str, error: &RedisError) -> Self {
        Self::Broken { node: node.into(), text: error.to_string() }
    }

    /// The code of a server's answer.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the same call may go well at another server of the cluster, or a moment later, and
    /// has certainly had no effect so far.
    pub(super) fn is_passing_in_cluster(&self) -> bool {
        match self {
            Self::Refused { code, .. } => {
                matches!(code.as_str(), "TRYAGAIN" | "CLUSTERDOWN" | "READONLY" | "MASTERDOWN")
            }
            Self::Unreached { cause, .. } => !matches!(cause, Unreached::File { .. }),
            Self::NoOwner(_) => true,
            _ => false,
        }
    }

    /// Whether something is wrong with one record alone: a field, or the sort of its key.
    pub(super) fn is_of_one_record(&self) -> bool {
        matches!(self, Self::Damaged(_)) || self.code() == Some("WRONGTYPE")
    }

    /// Whether a server took a connection and ended it before anything was asked of it.
    pub(super) fn ended_unasked(&self) -> bool {
        matches!(self, Self::Unreached { cause: Unreached::Ended(_), .. })
    }

    /// What everybody hears of it.
    pub(super) fn into_error(self, operation: &'static str, config: &RedisConfig) -> Error {
        let perhaps = perhaps_done(operation);
        let error = match &self {
            Self::Conflict => return conflict().with_operation(operation),
            Self::Exists => return exists().with_operation(operation),
            Self::Damaged(field) => damaged(called(field)),
            Self::Counter => Error::new(
                ErrorKind::LimitExceeded,
                "the revision or epoch of the record has come to its end",
            ),
            Self::TooLarge(most) => Error::new(
                ErrorKind::StateTooLarge,
                format!("Redis holds at most {most} bytes in one value"),
            ),
            Self::Unreached { cause, .. } => cause.error(),
            Self::Broken { .. } => {
                storage(format!("the connection broke during the call{perhaps}; try again"))
                    .with_retryable()
            }
            Self::TimedOut(limit) => {
                storage(format!("{limit}{perhaps}; look whether the server is frozen or busy"))
                    .with_retryable()
            }
            Self::Interrupted(how) => interrupted(*how, operation),
            Self::Refused { code, text, .. } => {
                let advice = advice(code, text);
                let error = storage(advice.text);
                if advice.retry { error.with_retryable() } else { error }
            }
            Self::TooOld(version) => storage(format!(
                "the server is Redis {version}; 6.2 is the oldest that this store works with"
            )),
            Self::Layout(there) => storage(wrong_layout(there, config.partitions)),
            Self::NoCluster(node) => storage(format!(
                "{node} is no member of a cluster; name it alone, without cluster=true, or turn \
                 on cluster-enabled there"
            )),
            Self::ClusterDatabase => {
                storage("the server belongs to a cluster, which has database 0 alone; name that")
            }
            Self::NoOwner(slot) => storage(format!(
                "no server of the cluster has slot {slot}; see `redis-cli --cluster check`"
            ))
            .with_retryable(),
            Self::Replicas { wanted, got } => storage(format!(
                "written, but only {got} of {wanted} replicas have confirmed it: a failover may \
                 lose it; look at the replicas, or lower wait_replicas"
            ))
            .with_retryable(),
            Self::Unconfirmed { wanted, got } => storage(format!(
                "only {got} of {wanted} replicas confirm what is written, and nothing was changed; \
                 look at the replicas, or lower wait_replicas"
            ))
            .with_retryable(),
            Self::Confused => storage(
                "the reply is not what the command gives; is something else than Redis between?",
            ),
        };
        let error = match &self {
            Self::Unreached { node, .. }
            | Self::Broken { node, .. }
            | Self::Refused { node, .. }
                if config.is_cluster() =>
            {
                error.with("node", node)
            }
            _ => error,
        };
        error.with_operation(operation).with("server", config.location()).with_source(self)
    }
}

impl Unreached {
    /// The server had taken the connection, and then bytes did not come through.
    pub(super) fn broke_off(error: &io::Error, tls: bool) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Ended(error.to_string()),
            _ if tls => Self::Tls(error.to_string()),
            kind => Self::Io(error.to_string(), kind),
        }
    }

    fn error(&self) -> Error {
        match self {
            Self::Io(_, io::ErrorKind::ConnectionRefused) => {
                storage("the connection was refused; check host and port, and that the server runs")
                    .with_retryable()
            }
            Self::Io(cause, _) => storage(format!(
                "the server was not reached: {cause}; check host, port and the network"
            ))
            .with_retryable(),
            Self::Name(_) => {
                storage("the name of the host is not known; check it, or the name server")
            }
            Self::Late(limit) => storage(format!(
                "no connection within {limit:?}; check host and port, and what is between"
            ))
            .with_retryable(),
            Self::Silent(limit) => storage(format!(
                "the server took the connection and did not answer within {limit:?}; it is frozen \
                 or busy, or one side speaks TLS and the other does not"
            ))
            .with_retryable(),
            Self::Ended(_) => storage(
                "the server ended the connection before it answered; it goes down or comes up, or \
                 one side speaks TLS and the other does not: write rediss:// if it wants TLS, and \
                 redis:// if not",
            )
            .with_retryable(),
            Self::Greeting => storage(
                "the server does not speak as Redis does; if it wants TLS, write rediss://, and \
                 if it does not, redis://",
            ),
            Self::Tls(cause) => storage(format!(
                "no TLS connection: {cause}; check that the port speaks TLS, the name of the \
                 host, and the settings tls_ca, tls_cert and tls_key"
            )),
            Self::File { what, why } => {
                Error::new(ErrorKind::InvalidConfig, format!("the file {what} is no use: {why}"))
            }
        }
    }
}

/// What a server's answer means, and what to do. Texts of Redis name commands, users and keys,
/// and no passwords.
fn advice(code: &str, text: &str) -> Advice {
    let (text, retry) = match code {
        "WRONGPASS" | "AUTH" => ("the user or the password is wrong".into(), false),
        "NOAUTH" => ("the server asks for a password, and the URL has none".into(), false),
        "NOPERM" => (format!("the user lacks a right: {text}; grant it with ACL SETUSER"), false),
        "WRONGTYPE" => (
            "a key under our prefix holds something else; choose another key_prefix, or remove it"
                .into(),
            false,
        ),
        "READONLY" => (
            "the server is a read-only replica; name the one that takes writes".into(),
            // It may have been the master a moment ago, and a name that moves with it helps.
            true,
        ),
        "OOM" => (
            "the server's memory is full, and nothing was written; raise maxmemory, or remove \
             what is not needed"
                .into(),
            false,
        ),
        "MISCONF" => (
            "the server can't persist (is its disk full?) and refuses writes; nothing was \
             written; its log tells more"
                .into(),
            false,
        ),
        "LOADING" => ("the server is still loading its data; try again".into(), true),
        "BUSY" => ("the server is busy with a script; try again".into(), true),
        "MASTERDOWN" => ("the replica has lost its master; try again".into(), true),
        "NOREPLICAS" => (
            "too few replicas are connected (min-replicas-to-write), and nothing was written"
                .into(),
            true,
        ),
        "CLUSTERDOWN" | "TRYAGAIN" => {
            (format!("the cluster does not serve the key at the moment: {text}"), true)
        }
        "DENIED" => (
            "the server is in protected mode: give it a password, or let it bind to its address"
                .into(),
            false,
        ),
        "ERR" if text.contains("max number of clients") => {
            ("the server takes no more clients; raise maxclients".into(), true)
        }
        "ERR" if text.contains("DB index is out of range") => {
            ("the server has no database of that number".into(), false)
        }
        // Redis 7 of what a script does; it does not say which right that is.
        "ERR" if text.contains("executing the script can't") => {
            (format!("the user lacks a right: {text}; grant it with ACL SETUSER"), false)
        }
        "ERR" if text.contains("unknown command") => {
            (format!("the server lacks a command: {text}"), false)
        }
        _ => (format!("the server refused: {code} {text}"), false),
    };
    Advice { text, retry }
}

fn wrong_layout(there: &str, here: u16) -> String {
    match there.strip_prefix(super::LAYOUT).map(str::parse::<u16>) {
        Some(Ok(number)) => format!(
            "the store under this prefix has {number} partitions, and not {here}: configure \
             partitions={number}, or another key_prefix"
        ),
        _ if there.starts_with("dynamic-flow ") => {
            "the store under this prefix was made by a newer program; update this one".into()
        }
        _ => "a key under our prefix holds something else; choose another key_prefix".into(),
    }
}
