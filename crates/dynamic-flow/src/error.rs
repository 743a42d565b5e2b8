//! The one public error: what happened, to which thing, and what to do next.

use std::{borrow::Cow, error::Error as StdError, fmt};

use serde::Serialize;

use crate::{failure::Failure, id::RunId, schema::Violation, wait::Receipt};

/// What every fallible call of this library returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as a flat list; [`Error::kind`] tells.
///
/// The names of the variants, as [`ErrorKind::as_str`] spells them, are stable: programs and the
/// command line's `--json` output rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The key is malformed, unknown, or its secret is wrong: one answer for all of them.
    SuspensionKeyNotFound,
    /// The input does not fit the schema; [`Error::violations`] has all of what is wrong.
    InputValidationError,
    /// The wait is closed: [`Error::receipt`] says which answer it took, or what else closed it, such
    /// as its default or a cancellation of the run ([`Receipt::closed`](crate::Receipt)).
    AlreadyResumed,
    /// The deadline of the wait has passed, and nothing has taken the answer's place so far: once
    /// its default has, it is `AlreadyResumed`.
    SuspensionExpired,
    /// The flow at hand can't go on from where the run is parked; [`Error::reasons`] says why.
    FlowIncompatible,
    /// No flow of that id is registered with this hub, and the run carries no document.
    FlowNotRegistered,
    /// A flow or document is wrong; [`Error::findings`] has everything that was found.
    InvalidFlow,
    /// A setting is wrong: a key that is not 32 bytes, a store URL nobody knows.
    InvalidConfig,
    /// An argument is wrong: criteria that say nothing, a cursor that is not one.
    InvalidArgument,
    /// Sealed state can't be opened with the keys at hand, or must be sealed and is not.
    EncryptionError,
    /// Stored state contradicts itself or can't be decoded.
    CorruptState,
    /// State is larger than the hub's or the store's limit.
    StateTooLarge,
    /// An input, or a number of things, is over its limit.
    LimitExceeded,
    /// A value has no faithful JSON form, or does not read back as its type.
    SerializationError,
    /// The store failed; [`Error::is_retryable`] says whether trying again makes sense.
    StorageError,
    /// The record was changed in the meantime; [`crate::store::Store`] only.
    Conflict,
    /// There is a run of that id already, and it is another one.
    AlreadyExists,
    /// There is no run of that id.
    RunNotFound,
    /// The run is being driven by somebody else at the moment.
    RunBusy,
    /// The run does not have the state that the operation needs.
    InvalidState,
    /// The run failed at a step; its state is kept for `retry`.
    RunFailed,
    /// The run ended because nobody answered in time.
    RunExpired,
    /// The run was cancelled.
    RunCancelled,
    /// The hub is shutting down; the run will be taken over.
    ShuttingDown,
}

impl ErrorKind {
    /// Spells the kind the way `--json` output does.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SuspensionKeyNotFound => "SuspensionKeyNotFound",
            Self::InputValidationError => "InputValidationError",
            Self::AlreadyResumed => "AlreadyResumed",
            Self::SuspensionExpired => "SuspensionExpired",
            Self::FlowIncompatible => "FlowIncompatible",
            Self::FlowNotRegistered => "FlowNotRegistered",
            Self::InvalidFlow => "InvalidFlow",
            Self::InvalidConfig => "InvalidConfig",
            Self::InvalidArgument => "InvalidArgument",
            Self::EncryptionError => "EncryptionError",
            Self::CorruptState => "CorruptState",
            Self::StateTooLarge => "StateTooLarge",
            Self::LimitExceeded => "LimitExceeded",
            Self::SerializationError => "SerializationError",
            Self::StorageError => "StorageError",
            Self::Conflict => "Conflict",
            Self::AlreadyExists => "AlreadyExists",
            Self::RunNotFound => "RunNotFound",
            Self::RunBusy => "RunBusy",
            Self::InvalidState => "InvalidState",
            Self::RunFailed => "RunFailed",
            Self::RunExpired => "RunExpired",
            Self::RunCancelled => "RunCancelled",
            Self::ShuttingDown => "ShuttingDown",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something wrong in a flow or document, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The path of step ids, or of document fields where there is no step yet; empty for the whole.
    pub path: String,
    /// What is wrong and what would be right, in one line.
    pub message: String,
    /// Line in the document, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column in the document, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// An error: a kind, a one-line message, the things it happened to, and its cause.
///
/// `Display` is one line, `kind: message (run …, step …)`. It never holds a suspension key, an
/// input, an output or a connection string.
///
/// ```
/// use dynamic_flow::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::StorageError, "the folder is read-only")
///     .with_operation("insert")
///     .with("path", "./.suspended-flows");
/// assert_eq!(error.kind(), ErrorKind::StorageError);
/// assert_eq!(error.operation(), Some("insert"));
/// assert_eq!(
///     error.to_string(),
///     "StorageError: the folder is read-only (insert; path ./.suspended-flows)"
/// );
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    operation: Option<&'static str>,
    context: Vec<(&'static str, String)>,
    retryable: bool,
    detail: Detail,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What a kind of error carries beyond text.
enum Detail {
    None,
    Violations(Vec<Violation>),
    Findings(Vec<Finding>),
    Reasons(Vec<String>),
    Receipt(Box<Receipt>),
    Failure(Box<Failure>),
    PerhapsWritten,
}

impl Error {
    /// An error of that kind; the message is one line, without a full stop, and names no secret.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            operation: None,
            context: Vec::new(),
            retryable: false,
            detail: Detail::None,
            source: None,
        }))
    }

    /// Names the operation in which it happened; the innermost name stays.
    #[must_use]
    pub fn with_operation(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Names a thing to which it happened: `("path", …)`, `("step", …)`.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        if !self.0.context.iter().any(|(known, _)| *known == name) {
            self.0.context.push((name, value.to_string()));
        }
        self
    }

    /// Names the run to which it happened.
    #[must_use]
    pub fn with_run(self, run: RunId) -> Self {
        self.with("run", run)
    }

    /// Keeps the error that caused it; its text must hold no secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says that the same call may succeed when it is made again.
    #[must_use]
    pub fn with_retryable(mut self) -> Self {
        self.0.retryable = true;
        self
    }

    /// Says of a conflict that the write may have been made all the same, before somebody else's.
    pub(crate) fn perhaps_written(mut self) -> Self {
        self.0.detail = Detail::PerhapsWritten;
        self
    }

    pub(crate) fn is_perhaps_written(&self) -> bool {
        matches!(self.0.detail, Detail::PerhapsWritten)
    }

    pub(crate) fn with_violations(mut self, violations: Vec<Violation>) -> Self {
        self.0.detail = Detail::Violations(violations);
        self
    }

    pub(crate) fn with_findings(mut self, findings: Vec<Finding>) -> Self {
        self.0.detail = Detail::Findings(findings);
        self
    }

    pub(crate) fn with_reasons(mut self, reasons: Vec<String>) -> Self {
        self.0.detail = Detail::Reasons(reasons);
        self
    }

    pub(crate) fn with_receipt(mut self, receipt: Receipt) -> Self {
        self.0.detail = Detail::Receipt(Box::new(receipt));
        self
    }

    pub(crate) fn with_failure(mut self, failure: Failure) -> Self {
        self.0.detail = Detail::Failure(Box::new(failure));
        self
    }

    /// Says that an answer was accepted before something else went wrong.
    pub(crate) fn answer_accepted(self) -> Self {
        self.with("answer", "accepted")
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone, without kind and context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The operation in which it happened, where that is known: of a store that failed, the call.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// The things it happened to, as pairs of name and value.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// One named thing that it happened to.
    pub fn context_value(&self, name: &str) -> Option<&str> {
        self.context().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The run that it happened to, if one is concerned.
    pub fn run_id(&self) -> Option<RunId> {
        self.context_value("run")?.parse().ok()
    }

    /// Whether the same call may succeed when it is made again: whoever drives a run is done with it at
    /// some time.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable || self.0.kind == ErrorKind::RunBusy
    }

    /// Whether the answer was accepted all the same: it is not lost, and must not be given again. A
    /// worker goes on with the run, or [`PersistenceHub::drive`](crate::hub::PersistenceHub::drive).
    pub fn is_answer_accepted(&self) -> bool {
        self.context_value("answer") == Some("accepted")
    }

    /// Whether the record was changed by somebody else in the meantime.
    pub fn is_conflict(&self) -> bool {
        self.0.kind == ErrorKind::Conflict
    }

    /// Whether it says how a run ended, and not that something could not be done.
    pub fn is_end_of_run(&self) -> bool {
        use ErrorKind::{RunCancelled, RunExpired, RunFailed};
        matches!(self.0.kind, RunFailed | RunExpired | RunCancelled)
    }

    /// Everything in which an input does not fit its schema.
    pub fn violations(&self) -> &[Violation] {
        match &self.0.detail {
            Detail::Violations(violations) => violations,
            _ => &[],
        }
    }

    /// Everything that is wrong with a flow or document.
    pub fn findings(&self) -> &[Finding] {
        match &self.0.detail {
            Detail::Findings(findings) => findings,
            _ => &[],
        }
    }

    /// Why a flow does not fit a parked run.
    pub fn reasons(&self) -> &[String] {
        match &self.0.detail {
            Detail::Reasons(reasons) => reasons,
            _ => &[],
        }
    }

    /// The receipt of the answer that came first.
    pub fn receipt(&self) -> Option<&Receipt> {
        match &self.0.detail {
            Detail::Receipt(receipt) => Some(receipt),
            _ => None,
        }
    }

    /// How a run failed, at which step and with which code: of `RunFailed` and `RunExpired`.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.0.detail {
            Detail::Failure(failure) => Some(failure),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.0.message)?;
        let places = self.0.operation.map(str::to_owned).into_iter();
        let context = self.0.context.iter().map(|(name, value)| format!("{name} {value}"));
        let context: Vec<String> = context.collect();
        let places: Vec<String> =
            places.chain((!context.is_empty()).then(|| context.join(", "))).collect();
        if !places.is_empty() {
            write!(f, " ({})", places.join("; "))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        // Neither quotes what was given: schemas, paths and steps alone.
        for violation in self.violations() {
            write!(f, "\n  {violation}")?;
        }
        for finding in self.findings() {
            write!(f, "\n  {finding}")?;
        }
        for reason in self.reasons() {
            write!(f, "\n  {reason}")?;
        }
        let mut source = self.source();
        while let Some(cause) = source {
            write!(f, "\n  caused by: {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
