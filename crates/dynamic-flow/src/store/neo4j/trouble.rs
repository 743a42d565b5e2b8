//! What can go wrong with a Neo4j server, in this store's own words, and in everybody's.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use neo4rs::Neo4jError;

use super::connection::Place;
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
    #[error("{code}: {message}")]
    Server { code: String, message: String },
    #[error("{0}")]
    Driver(Arc<neo4rs::Error>),
    /// Nothing was asked of it.
    #[error("no greeting within {0:?}")]
    Silent(Duration),
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    #[error("no randomness")]
    NoRandomness,
    #[error("the {0} does not read back")]
    Damaged(&'static str),
    #[error("a counter is at its end")]
    Counter,
    #[error("{0} bytes of state")]
    TooLarge(usize),
    #[error("the server is of version {0}")]
    OldServer(String),
    #[error("the schema is of version {0}")]
    NewerSchema(i64),
    #[error("there are nodes of the label {0} already")]
    Foreign(String),
    #[error("the index {0} is missing or of another shape")]
    Index(String),
    #[error("there is no database of that name, and it can't be made: {0}")]
    NoDatabase(Box<Trouble>),
    #[error("{path}: {why}")]
    Certificate { path: PathBuf, why: String },
}

impl From<neo4rs::Error> for Trouble {
    fn from(error: neo4rs::Error) -> Self {
        match error {
            neo4rs::Error::Neo4j(error) => Self::of_server(&error),
            other => Self::Driver(Arc::new(other)),
        }
    }
}

impl Trouble {
    /// The most bytes that are sent as the sealed parts of one record.
    pub(super) const MOST_BYTES: usize = 32 << 20;

    fn of_server(error: &Neo4jError) -> Self {
        Self::Server { code: error.code().into(), message: error.message().into() }
    }

    /// The server's own code for it.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Server { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the transaction was certainly rolled back, for a reason that passes: a deadlock, a
    /// shared node that somebody else made or removed at the same moment.
    pub(super) fn is_rolled_back(&self) -> bool {
        self.code().is_some_and(|code| {
            code.starts_with("Neo.TransientError.Transaction.")
                || code == "Neo.TransientError.Schema.SchemaModifiedConcurrently"
                || code == "Neo.ClientError.Statement.EntityNotFound"
                // What is removed while the statement waits for its lock has no properties left.
                || code == "Neo.ClientError.Statement.TypeError"
        })
    }

    /// Whether others changed the schema at the same moment, and perhaps in the same way.
    pub(super) fn is_schema_race(&self) -> bool {
        self.code().is_some_and(|code| {
            code.starts_with("Neo.TransientError.")
                || code == "Neo.ClientError.Schema.EquivalentSchemaRuleAlreadyExists"
        })
    }

    /// Whether what is in the schema already stands against it.
    pub(super) fn is_of_schema(&self) -> bool {
        self.code().is_some_and(|code| code.starts_with("Neo.ClientError.Schema."))
    }

    /// Whether a unique constraint stood against it.
    pub(super) fn is_duplicate(&self) -> bool {
        self.code() == Some("Neo.ClientError.Schema.ConstraintValidationFailed")
    }

    /// Whether there is no database of that name.
    pub(super) fn is_missing_database(&self) -> bool {
        self.code() == Some("Neo.ClientError.Database.DatabaseNotFound")
    }

    /// What everybody hears of it.
    pub(super) fn into_error(self, operation: &'static str, place: &Place) -> Error {
        let perhaps = perhaps_done(operation);
        let error = match &self {
            Self::Conflict => return conflict().with_operation(operation),
            Self::Exists => return exists().with_operation(operation),
            Self::Server { code, .. } => of_code(code).with_source(self.clone()),
            Self::Driver(error) => of_driver(error, place.was_greeted(), perhaps).with_source(self.clone()),
            Self::Silent(limit) => storage(format!(
                "the server took the connection and did not answer within {limit:?}; look whether it \
                 is frozen, overloaded or just starting, and whether the port is that for Bolt"
            ))
            .with_retryable(),
            Self::TimedOut(late) => storage(format!(
                "{late}{perhaps}; look whether the server is overloaded, stopped or cut off"
            ))
            .with_retryable(),
            Self::Interrupted(how) => interrupted(*how, operation),
            Self::NoRandomness => storage("the operating system gives no randomness"),
            Self::Damaged(what) => damaged(what),
            Self::Counter => Error::new(
                ErrorKind::LimitExceeded,
                "the revision or epoch of the record has come to its end",
            ),
            Self::TooLarge(size) => Error::new(
                ErrorKind::StateTooLarge,
                format!(
                    "the sealed state has {size} bytes, and Neo4j is given {} at the most; keep \
                     large values elsewhere and their address in the run",
                    Self::MOST_BYTES
                ),
            ),
            Self::OldServer(version) => storage(format!(
                "the server is Neo4j {version}, and 5.23 is the oldest that will do; update it (5.26 \
                 is the long-term one)"
            )),
            Self::NewerSchema(version) => storage(format!(
                "the graph has schema {version}, which is newer than this program; update it"
            )),
            Self::Foreign(label) => storage(format!(
                "a foreign graph: nodes of the label {label} are there that this store has not made; \
                 set another namespace or database"
            )),
            Self::Index(name) => storage(format!(
                "the index {name} is of another shape, or could not be filled; drop it, or set \
                 another namespace, and provision again"
            )),
            Self::NoDatabase(why) => no_database(why, place).with_source(self.clone()),
            Self::Certificate { path, why } => {
                storage(format!("{why}; check the file")).with("path", path.display())
            }
        };
        error.with_operation(operation).with("server", place)
    }
}

fn no_database(why: &Trouble, place: &Place) -> Error {
    let name = place.database();
    match why.code() {
        Some("Neo.ClientError.Statement.UnsupportedAdministrationCommand") => storage(format!(
            "there is no database {name:?}, and this edition of Neo4j has none but its own; name that \
             one, usually `neo4j`, or use the Enterprise edition"
        )),
        _ => storage(format!(
            "there is no database {name:?}, and this user may not make it; have an administrator \
             run CREATE DATABASE `{name}`"
        )),
    }
}

/// What the server's codes mean, and what to do.
fn of_code(code: &str) -> Error {
    let short = code.strip_prefix("Neo.").unwrap_or(code);
    match short {
        "ClientError.Database.DatabaseNotFound" => {
            storage("there is no such database any more; provision it, or name another one")
        }
        "ClientError.Statement.ArithmeticError" => Error::new(
            ErrorKind::LimitExceeded,
            "the revision or epoch of the record has come to its end",
        ),
        "TransientError.Database.DatabaseUnavailable" | "TransientError.General.DatabaseUnavailable" => {
            storage("the database is starting or stopping; try again").with_retryable()
        }
        "ClientError.General.WriteOnReadOnlyAccessDatabase"
        | "ClientError.General.ForbiddenOnReadOnlyDatabase"
        | "ClientError.Statement.AccessMode" => storage(
            "the database is read-only; take it out of server.databases.read_only, or name one that \
             can be written",
        ),
        "ClientError.Cluster.NotALeader" => storage(
            "this member of the cluster takes no writes; use a neo4j:// URL and let the cluster route \
             them (dbms.routing.enabled), or name the writer",
        )
        .with_retryable(),
        "ClientError.Security.CredentialsExpired" => {
            storage("the password has to be changed first: ALTER CURRENT USER SET PASSWORD")
        }
        "ClientError.Security.AuthorizationExpired" | "ClientError.Security.TokenExpired" => {
            storage("the login has expired; try again").with_retryable()
        }
        "ClientError.Transaction.TransactionTimedOut"
        | "ClientError.Transaction.TransactionTimedOutClientConfiguration"
        | "ClientError.Transaction.Terminated"
        | "ClientError.Transaction.LockClientStopped" => storage(
            "the server ended the transaction, which took too long or was terminated; nothing was \
             written, try again",
        )
        .with_retryable(),
        _ if short.starts_with("ClientError.Security.") => storage(
            "this user may not do that; let it read and write the database, and make indexes and \
             constraints in it",
        ),
        _ if short.contains("OutOfMemory") || short.contains("MemoryLimit") => storage(
            "the server has not enough memory for the transaction; raise \
             dbms.memory.transaction.total.max and db.memory.transaction.max, or keep less in a run",
        )
        .with_retryable(),
        _ if short.starts_with("TransientError.") => {
            storage("the server could not finish the transaction; try again").with_retryable()
        }
        _ if short.starts_with("DatabaseError.") => storage(
            "the server failed; look into its log for a full disk or a damaged store, and restart it",
        )
        .with_retryable(),
        // Rolled back: what it was about went away while it waited for the lock.
        "ClientError.Statement.EntityNotFound" => {
            storage("the record was removed in the same moment; try again").with_retryable()
        }
        _ => storage("the server refused the statement; its code is in the cause"),
    }
}

/// What went wrong between here and the server.
fn of_driver(error: &neo4rs::Error, greeted: bool, perhaps: &str) -> Error {
    match error {
        neo4rs::Error::IOError { detail } => of_io(detail, greeted, perhaps),
        neo4rs::Error::ConnectionTimedOut => {
            storage("the server can't be reached in time; check host, port and firewall")
                .with_retryable()
        }
        neo4rs::Error::AuthenticationError(message) if message.contains("too many times") => {
            storage(
                "too many wrong passwords: the server takes none for some seconds; correct the password, \
             then try again",
            )
        }
        neo4rs::Error::AuthenticationError(message) if message.contains("unauthorized") => {
            storage("user or password is wrong; correct them")
        }
        neo4rs::Error::AuthenticationError(_) => {
            storage("the server did not let the connection in; try again, or look into its log")
                .with_retryable()
        }
        neo4rs::Error::ProtocolMismatch(_) => storage(
            "what listens there does not speak Bolt; name the Bolt port, usually 7687, not that for \
             HTTP",
        ),
        neo4rs::Error::UnsupportedVersion(..) => {
            storage("the server does not speak Bolt 4.4; use Neo4j 5.23 or later")
        }
        neo4rs::Error::InvalidDnsName(_)
        | neo4rs::Error::UrlParseError(_)
        | neo4rs::Error::UnsupportedScheme(_)
        | neo4rs::Error::InvalidConfig => storage("the URI is none that can be connected to"),
        neo4rs::Error::BytesTooBig
        | neo4rs::Error::StringTooLong
        | neo4rs::Error::ListTooLong
        | neo4rs::Error::MapTooBig => {
            Error::new(ErrorKind::StateTooLarge, "the record is larger than Bolt can carry")
        }
        _ => storage(format!("the conversation with the server broke off{perhaps}; try again"))
            .with_retryable(),
    }
}

fn of_io(cause: &io::Error, greeted: bool, perhaps: &str) -> Error {
    if let Some(error) = cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return of_tls(error);
    }
    match cause.kind() {
        io::ErrorKind::ConnectionRefused => {
            storage("nobody listens there; start the server, or correct host and port")
                .with_retryable()
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            storage("there is no way to the server; check host and network").with_retryable()
        }
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
            if !greeted =>
        {
            storage(
                "the connection was cut before any greeting; if the server asks for TLS, or has \
                 none, correct the URL's scheme (neo4j+s, bolt+s), and try again otherwise",
            )
            .with_retryable()
        }
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => {
            storage(format!("the connection was cut{perhaps}; try again")).with_retryable()
        }
        _ if cause.to_string().contains("lookup address") => {
            let error = storage(
                "the server's host name is not known; correct it, or look after the name service",
            );
            // A name that is not known stays so.
            if cause.to_string().contains("not known") { error } else { error.with_retryable() }
        }
        _ => storage(format!("the connection failed{perhaps}; try again")).with_retryable(),
    }
}

fn of_tls(error: &rustls::Error) -> Error {
    use rustls::CertificateError as Wrong;
    match error {
        rustls::Error::InvalidCertificate(Wrong::UnknownIssuer | Wrong::BadSignature) => storage(
            "the server's certificate is of an authority that is not trusted; set tls_ca to that \
             authority's certificate",
        ),
        rustls::Error::InvalidCertificate(
            Wrong::NotValidForName | Wrong::NotValidForNameContext { .. },
        ) => storage(
            "the server's certificate is for another name; use the name that it has, or have one \
             made for this name",
        ),
        rustls::Error::InvalidCertificate(Wrong::Expired | Wrong::ExpiredContext { .. }) => {
            storage("the server's certificate has expired; have it renewed")
        }
        rustls::Error::InvalidCertificate(_) => {
            storage("the server's certificate is not accepted; see the cause")
        }
        rustls::Error::AlertReceived(_) => storage(
            "the server broke off the TLS handshake; if it asks for a client's certificate, set \
             tls_cert and tls_key",
        ),
        rustls::Error::InvalidMessage(_) => {
            storage("what listens there does not speak TLS; use neo4j:// or bolt://, without +s")
        }
        _ => storage("the TLS handshake failed; see the cause"),
    }
}
