//! What can go wrong with a MongoDB server, in this store's own words, and in everybody's.

use std::{fmt, io};

use mongodb::error::{ErrorKind as Driver, WriteConcernError, WriteFailure};

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
    #[error("{0}")]
    Server(Complaint),
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    #[error("the field {0} does not read back")]
    Damaged(&'static str),
    #[error("the schema is of version {0}")]
    Newer(i64),
    #[error("the collection {0}")]
    Foreign(&'static str),
    #[error("the index {0} is not ours")]
    ForeignIndex(String),
    #[error("the server speaks version {0} of the protocol")]
    TooOld(i64),
    #[error("the record has {size} bytes, {limit} at the most")]
    TooLarge { size: usize, limit: usize },
    #[error("a counter is at its end")]
    Counter,
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// What the driver said: its text holds neither the document nor the server's whole reply.
#[derive(Debug, Clone)]
pub(super) struct Complaint {
    text: String,
    what: What,
}

/// The sorts of complaints for which there is different advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// The server refused a command, or reported on a write, with that code.
    Code(i32),
    /// A write was made, but it is not known to be on as many members as it must be.
    Unconfirmed(i32),
    /// The user could not be authenticated.
    Login,
    /// No server could be found that does the job; why, if it is known.
    NoServer(Option<Reason>),
    /// A connection broke.
    Broken,
    /// The certificates at hand can't be used.
    Certificates,
    /// The server is too old for the driver.
    TooOld,
    /// Anything else.
    Other,
}

/// Why a server could not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Refused,
    /// No host has that name.
    Name,
    /// Nobody could be asked for the host's address.
    NameService,
    /// The certificates do not go together.
    Certificate,
    /// The server ended the handshake, as it also does while it is killed.
    HungUp,
    Silent,
    Login,
    TooOld,
    /// It was reached, and is not the one that takes writes.
    NoPrimary,
    Unknown,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<mongodb::error::Error> for Trouble {
    fn from(error: mongodb::error::Error) -> Self {
        Self::Server(Complaint::of(&error))
    }
}

impl From<mongodb::bson::error::Error> for Trouble {
    fn from(_: mongodb::bson::error::Error) -> Self {
        Self::Damaged("document")
    }
}

impl Complaint {
    /// Sorts what the driver said.
    fn of(error: &mongodb::error::Error) -> Self {
        let what = match &*error.kind {
            Driver::Command(refusal) => What::Code(refusal.code),
            Driver::Write(WriteFailure::WriteError(refusal)) => What::Code(refusal.code),
            Driver::Write(WriteFailure::WriteConcernError(it)) => What::Unconfirmed(it.code),
            Driver::Authentication { .. } => What::Login,
            Driver::ServerSelection { .. } => What::NoServer(None),
            Driver::DnsResolve { message, .. } => What::NoServer(Some(Reason::of_lookup(message))),
            Driver::InvalidTlsConfig { .. } => What::Certificates,
            Driver::Io(cause) if is_about_files(cause) => What::Certificates,
            Driver::IncompatibleServer { .. } => What::TooOld,
            Driver::Io(_) | Driver::ConnectionPoolCleared { .. } => What::Broken,
            _ => What::Other,
        };
        Self { text: told(&error.kind), what }
    }
}

/// Whether a file could not be read; no connection fails like that.
fn is_about_files(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

/// The driver's words for it, in one line.
fn told(kind: &Driver) -> String {
    let text = match kind {
        Driver::Command(it) => format!("{} (code {}): {}", it.code_name, it.code, it.message),
        Driver::Write(WriteFailure::WriteError(it)) => format!("code {}: {}", it.code, it.message),
        Driver::Write(WriteFailure::WriteConcernError(WriteConcernError {
            code, message, ..
        })) => format!("write concern, code {code}: {message}"),
        other => other.to_string(),
    };
    text.replace(['\n', '\r'], " ")
}

impl Reason {
    /// What kept the driver from a server, by the error of its last look at it.
    pub(super) fn of(error: &mongodb::error::Error) -> Self {
        match &*error.kind {
            Driver::DnsResolve { message, .. } => Self::of_lookup(message),
            Driver::Authentication { .. } => Self::Login,
            Driver::IncompatibleServer { .. } => Self::TooOld,
            Driver::InvalidTlsConfig { .. } => Self::Certificate,
            Driver::Io(cause) => Self::of_io(cause),
            _ => Self::Unknown,
        }
    }

    fn of_io(cause: &io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable => Self::Silent,
            // What TLS finds wrong is invalid data; a server that meets the other kind of client
            // just hangs up.
            io::ErrorKind::InvalidData => Self::Certificate,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Self::HungUp,
            _ if cause.to_string().contains("lookup") => Self::of_lookup(&cause.to_string()),
            _ => Self::Unknown,
        }
    }

    /// Why a name led to no address, by the words of whoever was asked.
    fn of_lookup(said: &str) -> Self {
        let said = said.to_lowercase();
        let is_unknown = ["not known", "no record"].iter().any(|words| said.contains(words));
        if is_unknown { Self::Name } else { Self::NameService }
    }
}

/// The run would not fit into a document.
const TOO_LARGE: [i32; 4] = [10334, 17419, 17420, 17280];
/// A unique index has that entry.
const DUPLICATE: [i32; 3] = [11000, 11001, 12582];
/// The member is no primary, or is about to be none.
const NOT_PRIMARY: [i32; 8] = [10107, 13435, 10058, 11600, 11602, 13436, 189, 91];
/// Somebody was in the way, or something took too long.
const BUSY: [i32; 16] = [6, 7, 24, 43, 46, 50, 89, 112, 134, 175, 237, 246, 262, 9001, 11601, 391];
/// Somebody else is just making the same collection or index.
const IN_THE_MAKING: [i32; 6] = [48, 112, 117, 283, 285, 276];

impl Trouble {
    pub(super) fn is_too_large(&self) -> bool {
        let refused = self.code().is_some_and(|code| TOO_LARGE.contains(&code));
        refused || matches!(self, Self::TooLarge { .. })
    }

    pub(super) fn is_duplicate(&self) -> bool {
        self.code().is_some_and(|code| DUPLICATE.contains(&code))
    }

    /// Whether somebody else is just making the same collection or index.
    pub(super) fn is_in_the_making(&self) -> bool {
        self.code().is_some_and(|code| IN_THE_MAKING.contains(&code))
    }

    pub(super) fn is_missing_collection(&self) -> bool {
        self.code() == Some(26)
    }

    /// Whether the user may not make the call.
    pub(super) fn is_forbidden(&self) -> bool {
        self.code() == Some(13)
    }

    /// Whether the server does not know the command.
    pub(super) fn is_unknown_command(&self) -> bool {
        self.code() == Some(59)
    }

    /// Adds what was seen of the servers last, where none was found.
    pub(super) fn seen(self, last: impl FnOnce() -> Reason) -> Self {
        match self {
            Self::Server(Complaint { text, what: What::NoServer(None) }) => {
                Self::Server(Complaint { text, what: What::NoServer(Some(last())) })
            }
            other => other,
        }
    }

    fn code(&self) -> Option<i32> {
        match self {
            Self::Server(Complaint { what: What::Code(code), .. }) => Some(*code),
            _ => None,
        }
    }

    /// What everybody hears of it.
    pub(super) fn into_error(self, operation: &'static str, server: &str) -> Error {
        let perhaps = perhaps_done(operation);
        let error = match &self {
            Self::Conflict => return conflict().with_operation(operation),
            Self::Exists => return exists().with_operation(operation),
            Self::Server(complaint) => complaint.what.error(perhaps).with_source(self.clone()),
            Self::TimedOut(after) => {
                storage(format!("{after}{perhaps}; look whether the server hangs or is overloaded"))
                    .with_retryable()
            }
            Self::Damaged(field) => damaged(field),
            Self::Newer(version) => storage(format!(
                "the collection has schema {version}, which is newer than this program; update it"
            )),
            Self::Foreign(why) => storage(format!("the collection {why}; name another collection")),
            Self::ForeignIndex(name) => storage(format!(
                "the index {name} of the collection is not as this store needs it; drop it, or \
                 name another collection"
            )),
            Self::TooOld(_) => storage(TOO_OLD),
            Self::TooLarge { size, limit } => Error::new(
                ErrorKind::StateTooLarge,
                format!(
                    "the run takes {size} bytes as a document, and the server holds {limit} at \
                     the most; keep large values elsewhere, and a reference to them in the flow"
                ),
            ),
            Self::Counter => Error::new(
                ErrorKind::LimitExceeded,
                "the revision or epoch of the record has come to its end",
            ),
            Self::Interrupted(how) => interrupted(*how, operation),
        };
        error.with_operation(operation).with("server", server)
    }
}

const TOO_OLD: &str = "the server is too old; MongoDB 4.4 or later is needed";

impl What {
    fn error(self, perhaps: &str) -> Error {
        let (advice, retryable) = match self {
            Self::Code(code) => return of_code(code),
            Self::Unconfirmed(79 | 100) => (
                "the write concern can't be met by these servers; the write may be there all the \
                 same; correct w in the URL",
                false,
            ),
            Self::Unconfirmed(_) => (
                "the write was made, but not confirmed by a majority in time, so it may be undone; \
                 check the members of the replica set",
                true,
            ),
            Self::Login => (LOGIN, false),
            Self::NoServer(reason) => return of_reason(reason.unwrap_or(Reason::Unknown)),
            Self::Broken => {
                let advice = "check that the server runs, and its log";
                return storage(format!("the connection broke{perhaps}; {advice}"))
                    .with_retryable();
            }
            Self::Certificates => (
                "the certificates can't be used; check tlsCAFile and tlsCertificateKeyFile in the \
                 URL",
                false,
            ),
            Self::TooOld => (TOO_OLD, false),
            Self::Other => ("the server or the driver failed", false),
        };
        worth(advice, retryable)
    }
}

const LOGIN: &str = "the user or the password is refused; check both, and authSource in the URL, \
                     which is the database that has the user";

fn of_code(code: i32) -> Error {
    let (advice, retryable) = match code {
        13 => (
            "the user may not do that; let an administrator run db.grantRolesToUser(USER, \
             [{role: \"readWrite\", db: DATABASE}])",
            false,
        ),
        18 | 8000 => (LOGIN, false),
        code if NOT_PRIMARY.contains(&code) => (
            "the member takes no writes: it is not the primary, or not any more; name all members \
             or the replicaSet in the URL, without directConnection",
            true,
        ),
        code if BUSY.contains(&code) => ("the server was busy, or took too long; try again", true),
        14031 => ("the disk of the server is full; make room and try again", false),
        85 | 86 => {
            ("an index of other making is in the way; drop it, or name another collection", false)
        }
        code if DUPLICATE.contains(&code) => (
            "a unique index of other making refuses the record; drop it, or name another collection",
            false,
        ),
        121 => (
            "a validator of the collection refuses the record; remove it, or name another \
             collection",
            false,
        ),
        166 => ("the collection is a view; name another collection", false),
        371 => ("an administrator has stopped all writes (setUserWriteBlockMode)", true),
        20 | 123 => ("this kind of server can't do that; use a replica set", false),
        72 | 73 | 9 => ("the server does not take the name or the setting", false),
        _ => ("the server refused the call", false),
    };
    worth(advice, retryable)
}

fn of_reason(reason: Reason) -> Error {
    let (advice, retryable) = match reason {
        Reason::Refused => ("nothing listens there; check host and port, and start it", true),
        // A name that is not known stays so.
        Reason::Name => ("there is no host of that name; check the URL", false),
        Reason::NameService => (
            "the host's address could not be found out; check the URL, and look after the name \
             service",
            true,
        ),
        Reason::Certificate => (
            "the server's certificate is not believed, or it has none; check tls, tlsCAFile and \
             tlsCertificateKeyFile in the URL, and that the certificate is for this host",
            false,
        ),
        Reason::HungUp => (
            "the server hung up on the handshake: either side may expect TLS where the other has \
             none, or refuse a certificate; check tls, tlsCAFile and tlsCertificateKeyFile in the \
             URL",
            true,
        ),
        Reason::Silent => {
            ("the server does not answer; check host, port and firewall, and tls in the URL", true)
        }
        Reason::Login => (LOGIN, false),
        Reason::TooOld => (TOO_OLD, false),
        Reason::NoPrimary => (
            "none of the servers takes writes: no primary is known; check replicaSet and the \
             members in the URL, and rs.status()",
            true,
        ),
        Reason::Unknown => ("no server was found", true),
    };
    worth(advice, retryable)
}

fn worth(advice: &'static str, retryable: bool) -> Error {
    let error = storage(advice);
    if retryable { error.with_retryable() } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is a matter of how things are set up stays so until somebody changes it.
    #[test]
    fn what_does_not_pass_is_not_worth_a_retry() {
        let lookup = "failed to lookup address information: ";
        for (kind, text, retryable) in [
            (io::ErrorKind::InvalidData, "invalid peer certificate: UnknownIssuer", false),
            (io::ErrorKind::UnexpectedEof, "tls handshake eof", true),
            (io::ErrorKind::ConnectionReset, "connection reset by peer", true),
            (io::ErrorKind::ConnectionRefused, "connection refused", true),
            (io::ErrorKind::Other, &format!("{lookup}Name or service not known"), false),
            (io::ErrorKind::Other, &format!("{lookup}Temporary failure"), true),
        ] {
            let reason = Reason::of(&io::Error::new(kind, text).into());
            assert_eq!(of_reason(reason).is_retryable(), retryable, "{text}");
        }
    }
}
