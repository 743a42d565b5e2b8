//! What can go wrong with a server, in this store's own words, and in everybody's.

use std::{borrow::Cow, error::Error as _, fmt, io, sync::Arc, time::Duration};

use tokio_postgres::{
    Error as DriverError,
    error::{DbError, SqlState},
};

use super::config::Settings;
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
    #[error("{}", Said(.0))]
    Driver(Arc<DriverError>),
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    #[error("no connection within {0:?}")]
    Silent(Duration),
    #[error("all {0} connections are in use")]
    Busy(usize),
    #[error("{0}")]
    Certificates(String),
    #[error("an administrator must run: {0}")]
    Forbidden(String),
    #[error("the table {table} is not of this kind: {what}")]
    Foreign { table: String, what: String },
    #[error("a table is there whose version is not told")]
    Unversioned,
    #[error("a table that was made is missing")]
    Lost,
    #[error("the tables have schema {0}")]
    Newer(i32),
    #[error("the server is PostgreSQL {0}")]
    TooOld(i32),
    #[error("the encoding of the database is {0}")]
    Encoding(String),
    #[error("the column {0} does not read back")]
    Damaged(&'static str),
    #[error("the pool of connections is closed")]
    Closed,
}

impl From<DriverError> for Trouble {
    fn from(error: DriverError) -> Self {
        Self::Driver(Arc::new(error))
    }
}

/// The oldest server that has all that is used here.
pub(super) const OLDEST: i32 = 130_000;

/// The driver's error in one line, without what a statement was called with.
struct Said<'a>(&'a DriverError);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = self.0.as_db_error() {
            let message = error.message().replace(['\r', '\n'], " ");
            return write!(f, "{message} (SQLSTATE {})", error.code().code());
        }
        self.0.fmt(f)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {}", error.to_string().replace(['\r', '\n'], " "))?;
            cause = error.source();
        }
        Ok(())
    }
}

/// What to do next, and whether trying again is worth it.
struct Advice {
    message: Cow<'static, str>,
    retryable: bool,
}

/// What a pooler says of who can't be let in; anything else that it says may pass.
const POOLER_REFUSES: [&str; 3] = ["no such", "authentication failed", "rejected"];

fn once(message: impl Into<Cow<'static, str>>) -> Advice {
    Advice { message: message.into(), retryable: false }
}

fn again(message: impl Into<Cow<'static, str>>) -> Advice {
    Advice { message: message.into(), retryable: true }
}

impl Trouble {
    /// The server's own code for it.
    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Driver(error) => error.code(),
            _ => None,
        }
    }

    /// What everybody hears of it.
    pub(super) fn into_error(self, operation: &'static str, settings: &Settings) -> Error {
        let error = match &self {
            Self::Conflict => return conflict().with_operation(operation),
            Self::Exists => return exists().with_operation(operation),
            Self::Damaged(column) => damaged(column),
            Self::Interrupted(how) => interrupted(*how, operation),
            Self::Certificates(what) => {
                Error::new(ErrorKind::InvalidConfig, format!("TLS can't be set up: {what}"))
            }
            Self::Driver(error) if is_code(error, &SqlState::NUMERIC_VALUE_OUT_OF_RANGE) => {
                Error::new(
                    ErrorKind::LimitExceeded,
                    "the revision or epoch of the record has come to its end",
                )
            }
            _ => {
                let advice = self.advice(settings, perhaps_done(operation));
                let error = storage(advice.message).with_source(self.clone());
                if advice.retryable { error.with_retryable() } else { error }
            }
        };
        error.with_operation(operation).with("server", &settings.location)
    }

    fn advice(&self, settings: &Settings, perhaps: &str) -> Advice {
        let tables = &settings.tables;
        match self {
            Self::Driver(error) => match error.as_db_error() {
                Some(said) => of_server(said, settings, perhaps)
                    .unwrap_or_else(|| once(format!("the server refuses: {}", Said(error)))),
                None => of_connection(error, settings, perhaps),
            },
            Self::TimedOut(after) => again(format!(
                "{after}{perhaps}; look whether the server is overloaded, or something holds locks"
            )),
            Self::Silent(after) => again(format!(
                "the server took no connection within {after:?}; check host and port, the network, \
                 and that it is not overloaded"
            )),
            Self::Busy(size) => again(format!(
                "all {size} connections were in use for too long; the server is slow, or pool_size \
                 is too small"
            )),
            Self::Forbidden(statement) => {
                once(format!("the user may not do that; an administrator must run: {statement}"))
            }
            Self::Foreign { table, what } => once(format!(
                "there is a table {table} of another kind ({what}); name another as table_name, or \
                 move that one away"
            )),
            Self::Unversioned => once(format!(
                "the table {} is there, and none beside it tells its version, as after a partial \
                 restore; restore {} from the same backup, or name another table as table_name",
                tables.shown(),
                tables.versions
            )),
            Self::Lost => once(format!(
                "the table {} is missing, and {} tells that it was made; give it its name back, or \
                 restore it from a backup; to begin without its runs, drop {}, {} and {}",
                tables.shown(),
                tables.versions,
                tables.versions,
                tables.waits,
                tables.metadata
            )),
            Self::Newer(version) => once(format!(
                "the tables have schema {version}, which is newer than this program; update it"
            )),
            Self::TooOld(version) => once(format!(
                "the server is PostgreSQL {}, and {} is the oldest that will do; upgrade it",
                version / 10_000,
                OLDEST / 10_000
            )),
            Self::Encoding(encoding) => once(format!(
                "the database holds text as {encoding}, which not every text fits; name a database \
                 that was made with ENCODING 'UTF8'"
            )),
            // Mapped before.
            Self::Conflict
            | Self::Exists
            | Self::Damaged(_)
            | Self::Interrupted(_)
            | Self::Certificates(_)
            | Self::Closed => again("the connections to the server are closed"),
        }
    }
}

fn is_code(error: &DriverError, code: &SqlState) -> bool {
    error.code() == Some(code)
}

fn broken(perhaps: &str) -> Advice {
    again(format!("the connection to the server broke{perhaps}; try again"))
}

fn read_only(settings: &Settings) -> Advice {
    let message = "the server is read-only, such as a standby is; name the primary, or all of them \
                   with target_session_attrs=read-write";
    // Another one may have been promoted.
    if settings.hosts.len() > 1 { again(message) } else { once(message) }
}

/// A pooler between here and the server lends connections for a transaction.
fn pooler(settings: &Settings) -> &'static str {
    if settings.config.prepared_statements {
        "a pooler between here and the server lends connections for a transaction; add \
         prepared_statements=false to the URL"
    } else {
        "a pooler between here and the server does not take what is set for the connection; remove \
         options from the URL, or have the pooler ignore that parameter"
    }
}

/// What a server says; none if there is nothing to add to its own words.
fn of_server(said: &DbError, settings: &Settings, perhaps: &str) -> Option<Advice> {
    let (user, database) = (&settings.user, &settings.database);
    let tables = &settings.tables;
    let advice = match *said.code() {
        SqlState::INVALID_PASSWORD => once(format!(
            "the server does not know the user {user:?} with that password; check both in the URL"
        )),
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => once(format!(
            "the server does not let the user {user:?} in: {}; check the user, sslmode, sslcert, and \
             the server's pg_hba.conf",
            said.message()
        )),
        SqlState::INVALID_CATALOG_NAME => once(format!(
            "there is no database {database:?}; the next start of a hub, or any `dflow` command \
             that uses the store, makes it where that is permitted"
        )),
        SqlState::INVALID_SCHEMA_NAME | SqlState::UNDEFINED_TABLE => once(format!(
            "a table of {} is not there ({}); the next start of a hub, or any `dflow` command that \
             uses the store, makes it or says what to do",
            tables.shown(),
            said.message()
        )),
        SqlState::UNDEFINED_COLUMN | SqlState::DATATYPE_MISMATCH => once(format!(
            "a table of {} has other columns than this store's ({}); name another as table_name, or \
             move that one away",
            tables.shown(),
            said.message()
        )),
        SqlState::DUPLICATE_TABLE | SqlState::DUPLICATE_OBJECT => once(format!(
            "something has the name of what is to be made for {} ({}); drop it if it was left behind, \
             or name another table as table_name",
            tables.shown(),
            said.message()
        )),
        SqlState::INVALID_COLUMN_REFERENCE => once(format!(
            "the table {} has lost its primary key, as after a partial restore; the next start of a \
             hub, or any `dflow` command that uses the store, makes it again where the user owns it \
             and no run is there twice",
            tables.shown()
        )),
        SqlState::INSUFFICIENT_PRIVILEGE => once(format!(
            "the user may not do that; an administrator must run: GRANT USAGE ON SCHEMA {} TO {user}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON {}, {}, {}, {} TO {user}",
            tables.schema,
            tables.flows,
            tables.waits,
            tables.metadata,
            tables.versions,
            user = super::tables::identifier(user),
        )),
        SqlState::READ_ONLY_SQL_TRANSACTION => read_only(settings),
        SqlState::DISK_FULL => once("the server's disk is full; make room and try again"),
        SqlState::OUT_OF_MEMORY => {
            again("the server is out of memory; give it more, or less to do")
        }
        SqlState::PROGRAM_LIMIT_EXCEEDED => once("the record is larger than PostgreSQL can hold"),
        SqlState::TOO_MANY_CONNECTIONS => again(
            "the server has all the connections that it may have; lower pool_size, or raise its \
             max_connections",
        ),
        SqlState::CANNOT_CONNECT_NOW => again("the server is starting or stopping; try again"),
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::IDLE_SESSION_TIMEOUT => {
            again(format!("the server ended the connection{perhaps}; try again"))
        }
        SqlState::T_R_SERIALIZATION_FAILURE
        | SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::LOCK_NOT_AVAILABLE => again("others write the same at the moment; try again"),
        SqlState::QUERY_CANCELED => again(
            "the server gave up on the call, which took too long or was cancelled; look whether it \
             is overloaded, or something holds locks",
        ),
        SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => {
            once("the database is damaged; restore a backup")
        }
        // PgBouncer's words.
        SqlState::PROTOCOL_VIOLATION if said.message().contains("startup parameter") => {
            once(pooler(settings))
        }
        SqlState::PROTOCOL_VIOLATION
            if POOLER_REFUSES.iter().any(|word| said.message().contains(word)) =>
        {
            return None;
        }
        ref other if other.code().starts_with("08") => broken(perhaps),
        SqlState::UNDEFINED_PSTATEMENT | SqlState::DUPLICATE_PSTATEMENT => once(pooler(settings)),
        _ => return None,
    };
    Some(advice)
}

/// What goes wrong before the server says anything, or in the middle of it.
fn of_connection(error: &DriverError, settings: &Settings, perhaps: &str) -> Advice {
    if error.is_closed() {
        return broken(perhaps);
    }
    let what = Said(error).to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return of_tls(tls);
        }
        // What an I/O error wraps is not among its sources.
        let wrapped = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(tls) = wrapped.and_then(|it| it.downcast_ref::<rustls::Error>()) {
            return of_tls(tls);
        }
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return of_network(error, io, settings, perhaps);
        }
        cause = inner.source();
    }
    if what.contains("TLS") {
        return once(format!("{what}; the server speaks none, or choose another sslmode"));
    }
    if what.contains("password missing") {
        return once("the server asks for a password; add it to the URL, or as `password`");
    }
    once(what)
}

fn of_network(error: &DriverError, io: &io::Error, settings: &Settings, perhaps: &str) -> Advice {
    let connecting = error.to_string().contains("connecting");
    match io.kind() {
        io::ErrorKind::ConnectionRefused => again(
            "nothing listens there: the connection is refused; check host and port, and that the \
             server runs",
        ),
        // The driver's own words, where `target_session_attrs` is not met.
        io::ErrorKind::PermissionDenied if connecting => read_only(settings),
        io::ErrorKind::TimedOut => again(
            "the server did not answer in time; check host and port, and the network between here \
             and there",
        ),
        io::ErrorKind::NotFound if connecting => {
            once("there is no such socket; check the host in the URL, and that the server runs")
        }
        _ if connecting => {
            let text = io.to_string();
            let message = format!("the host can't be reached ({text}); check the host in the URL");
            // A name that is not known stays so.
            if text.contains("not known") { once(message) } else { again(message) }
        }
        _ => broken(perhaps),
    }
}

fn of_tls(error: &rustls::Error) -> Advice {
    use rustls::{CertificateError as Bad, Error as Tls};
    match error {
        // Two authorities may have the same name.
        Tls::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => once(
            "the server's certificate is from nobody who is believed; name its authority as \
             sslrootcert",
        ),
        Tls::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => once(
            "the server's certificate is for another host; check the host in the URL, or choose \
             sslmode=verify-ca",
        ),
        Tls::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            once("the server's certificate has expired; have it renewed")
        }
        Tls::AlertReceived(alert) => once(format!(
            "the server ends the handshake ({alert:?}); it may ask for a client's certificate: \
             sslcert and sslkey"
        )),
        other => once(format!("the connection can't be encrypted: {other}; check sslmode")),
    }
}
