//! Why a tool failed, as its author says it: any error makes one.

use std::{borrow::Cow, error::Error as StdError, fmt};

use serde::{Deserialize, Serialize};

use crate::{Error, codes};

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
    use crate::ErrorKind;

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
        let passing = || Error::new(ErrorKind::StorageError, "away").with_retryable();
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
