//! The one public error: what happened, to which thing, and what to do next.

use std::{borrow::Cow, error::Error as StdError, fmt};

use serde::{Deserialize, Serialize};

use crate::{codes, failure::Failure, id::RunId, schema::Violation, wait::Receipt};

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
///     .operation("insert")
///     .with("path", "./.suspended-flows");
/// assert_eq!(error.kind(), ErrorKind::StorageError);
/// assert_eq!(error.operation_name(), Some("insert"));
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
    pub fn operation(mut self, operation: &'static str) -> Self {
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
    pub fn retryable(mut self) -> Self {
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
    pub fn operation_name(&self) -> Option<&'static str> {
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

    /// Whether the same call may succeed when it is made again.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
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

/// Why a tool failed: a code to catch it by, and a message.
///
/// ```
/// use dynamic_flow::ToolError;
/// let error = ToolError::new("no such customer").code("not_found");
/// assert_eq!(error.to_string(), "no such customer");
/// ```
///
/// It is no [`std::error::Error`] itself, so that `?` turns any error into one; what has no such type
/// either, such as a text, a `Box<dyn Error>` or an `anyhow::Error`, [`ToolError::wrap`] does:
///
/// ```
/// use dynamic_flow::{ToolError, tool};
///
/// /// Reads a number.
/// #[tool]
/// fn parse(text: String) -> Result<u32, ToolError> {
///     let number = text.trim().parse::<u32>()?;
///     check(number).map_err(ToolError::wrap)?;
///     Ok(number)
/// }
///
/// fn check(number: u32) -> anyhow::Result<()> {
///     anyhow::ensure!(number < 10, "{number} is too large");
///     Ok(())
/// }
///
/// // In a test or `main`, call the function that the tool is made of:
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     assert_eq!(parse("7".into())?, 7);
///     assert_eq!(parse("70".into()).unwrap_err().message, "70 is too large");
///     Ok(())
/// }
/// ```
///
/// The message is persisted with the run and shown to operators. Made of an error, it has the texts of
/// its causes, too, and whatever they quote: those of `reqwest`, for one, hold the URL, with what is in
/// its query. Where that may be a secret, say [`ToolError::new`] in words of your own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolError {
    /// What to catch it by; [`codes::TOOL`] unless the tool says another.
    pub code: String,
    /// What happened. It is shown to operators and persisted with the run: no secrets.
    pub message: String,
    /// Whether a `retry` around the tool should try again.
    pub retryable: bool,
}

impl ToolError {
    /// An error with that message, worth a retry.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { code: codes::TOOL.into(), message: message.to_string(), retryable: true }
    }

    /// Makes one of an error that is no [`std::error::Error`] by its type: a text, an `anyhow::Error`, a
    /// `Box<dyn Error>` that is `Send` and `Sync`. For all others, `?` does the same.
    ///
    /// The message has the error's text and those of its causes, `a: b: c`; a text that is in those
    /// before it is left out. It is worth a retry unless the error or one of its causes is an
    /// [`Error`](crate::Error) of this library that is not. Where one of them is what
    /// [`ToolError::into_error`] gave, it has the code of that, too. (An `anyhow::Error` hides the type
    /// of the outermost error, and shows those beneath.)
    ///
    /// ```
    /// use dynamic_flow::ToolError;
    ///
    /// let error = anyhow::anyhow!("no route").context("the gateway is away");
    /// assert_eq!(ToolError::wrap(error).message, "the gateway is away: no route");
    /// assert_eq!(ToolError::wrap("out of stock").message, "out of stock");
    /// ```
    pub fn wrap(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::told(&*error.into())
    }

    fn told(error: &(dyn StdError + 'static)) -> Self {
        let chain = || std::iter::successors(Some(error), |&error| error.source()).take(MAX_CAUSES);
        let mut message = String::new();
        for text in chain().map(ToString::to_string) {
            if !message.contains(&text) {
                if !message.is_empty() {
                    message.push_str(": ");
                }
                message.push_str(&text);
            }
        }
        let mut told = Self::new(message);
        for error in chain() {
            if let Some(ours) = error.downcast_ref::<Error>() {
                told.retryable = ours.is_retryable();
                break;
            }
            if let Some(ToolFailure(tools)) = error.downcast_ref() {
                told.code.clone_from(&tools.code);
                told.retryable = tools.retryable;
                break;
            }
        }
        told
    }

    /// The same as a [`std::error::Error`], for a function that returns another kind of error:
    /// `.map_err(ToolError::into_error)?`. Into a `Box<dyn Error>`, `?` alone turns it.
    ///
    /// ```
    /// use dynamic_flow::ToolError;
    ///
    /// fn test() -> anyhow::Result<()> {
    ///     Err(ToolError::new("out of stock")).map_err(ToolError::into_error)?;
    ///     Ok(())
    /// }
    /// assert_eq!(test().unwrap_err().to_string(), "out of stock");
    /// ```
    pub fn into_error(self) -> impl StdError + Send + Sync + 'static {
        ToolFailure(self)
    }

    /// Says what to catch it by.
    #[must_use]
    pub fn code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.code = code.into().into_owned();
        self
    }

    /// Says that trying again is of no use.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.retryable = false;
        self
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// `ToolError` is no `std::error::Error` itself, so that `?` turns any error into one.
impl<E: StdError + 'static> From<E> for ToolError {
    fn from(error: E) -> Self {
        Self::told(&error)
    }
}

impl From<ToolError> for Box<dyn StdError + Send + Sync> {
    fn from(error: ToolError) -> Self {
        Box::new(ToolFailure(error))
    }
}

impl From<ToolError> for Box<dyn StdError> {
    fn from(error: ToolError) -> Self {
        Box::new(ToolFailure(error))
    }
}

/// How many errors of a chain are looked at; one that comes back to itself has no end.
const MAX_CAUSES: usize = 32;

/// A [`ToolError`] where a [`StdError`] is wanted.
struct ToolFailure(ToolError);

impl fmt::Display for ToolFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a `main` that returns it prints.
impl fmt::Debug for ToolFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.0, self.0.code)
    }
}

impl StdError for ToolFailure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<dyn StdError + Send + Sync>>,
    }

    fn link(text: &'static str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Link {
        Link { text, source: Some(source.into()) }
    }

    fn last(text: &'static str) -> Link {
        Link { text, source: None }
    }

    #[test]
    fn a_tool_error_tells_the_causes_of_what_it_is_made_of_once_each() {
        let error = ToolError::from(link("no reply", link("connect", last("refused"))));
        assert_eq!(error.message, "no reply: connect: refused");
        assert_eq!((error.code.as_str(), error.retryable), (codes::TOOL, true));
        let error = ToolError::from(link("a: b", link("b", link("", last("c")))));
        assert_eq!(error.message, "a: b: c");
        assert_eq!(ToolError::from(last("")).message, "");
    }

    #[test]
    fn an_error_of_the_library_says_itself_whether_a_retry_is_of_use() {
        let lasting = || Error::new(ErrorKind::InvalidConfig, "no host");
        let passing = || Error::new(ErrorKind::StorageError, "away").retryable();
        assert!(!ToolError::from(lasting()).retryable);
        assert!(!ToolError::from(link("can't store it", lasting())).retryable);
        assert!(!ToolError::wrap(lasting()).retryable);
        assert!(!ToolError::wrap(anyhow::Error::from(lasting()).context("outer")).retryable);
        assert!(ToolError::from(passing()).retryable);
        assert!(ToolError::from(link("lasting", passing().with_source(lasting()))).retryable);
    }

    #[test]
    fn what_is_no_error_by_its_type_can_be_wrapped() {
        assert_eq!(ToolError::wrap("a text").message, "a text");
        assert_eq!(ToolError::wrap(String::from("a text")), ToolError::new("a text"));
        let boxed: Box<dyn StdError + Send + Sync> = Box::new(link("outer", last("inner")));
        assert_eq!(ToolError::wrap(boxed).message, "outer: inner");
        let error = anyhow::Error::from(link("middle", last("inner"))).context("outer");
        assert_eq!(ToolError::wrap(error).message, "outer: middle: inner");
    }

    #[test]
    fn a_tool_error_that_went_through_others_keeps_its_code() {
        let error = || ToolError::new("gone").code("not_found").permanent();
        let through = || -> Result<(), Box<dyn StdError>> { Err(error())? };
        let failed = through().unwrap_err();
        assert_eq!(failed.to_string(), "gone");
        assert_eq!(format!("{failed:?}"), "gone (code not_found)");
        assert_eq!(ToolError::wrap(error()), error());
        assert_eq!(ToolError::from(error().into_error()), error());
        let outer = ToolError::wrap(anyhow::Error::from(error().into_error()).context("outer"));
        assert_eq!(outer, ToolError { message: "outer: gone".into(), ..error() });
    }
}
