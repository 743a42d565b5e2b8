//! Plain values to find runs and waits by.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, ErrorKind, Result};

/// The longest name of a metadata entry, in bytes.
pub const MAX_METADATA_NAME_BYTES: usize = 128;
/// The longest text in a metadata entry, in bytes.
pub const MAX_METADATA_TEXT_BYTES: usize = 4096;
/// The most entries that a record's metadata may have.
pub const MAX_METADATA_ENTRIES: usize = 64;
/// Plain, filterable values that describe a run or a wait; stored unsealed, so nothing private.
pub type Metadata = BTreeMap<String, Scalar>;

/// A value that can be filtered by: no list, no object.
///
/// Equality is by type and value: `1`, `1.0` and `"1"` are three different values.
///
/// ```
/// use dynamic_flow::Scalar;
///
/// assert_eq!(Scalar::from([1, 2].len()), Scalar::Int(2));
/// assert_eq!(Scalar::from("finance").as_str(), Some("finance"));
/// // Whole numbers that no store could hold as such are texts.
/// assert_eq!(Scalar::from(u64::MAX), Scalar::Text("18446744073709551615".into()));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A finite number with a fraction.
    Float(f64),
    /// A text without U+0000, which not every database can hold.
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

impl Scalar {
    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The whole number, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The number, if it is one, with a fraction or without; a whole one beyond 2^53 is rounded.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }

    /// JSON as a scalar, or what keeps it from being metadata.
    pub(crate) fn of_json(value: Value) -> Result<Self, String> {
        match value {
            Value::Bool(value) => Ok(Self::Bool(value)),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Ok(Self::Int(whole)),
                (None, Some(float)) if number.is_f64() && float.is_finite() => {
                    Ok(Self::Float(float))
                }
                _ => Err("is a number beyond 64 bits with a sign".into()),
            },
            Value::String(text) if text.contains('\0') => {
                Err("holds U+0000, which not every database can hold".into())
            }
            Value::String(text) => Ok(Self::Text(text)),
            other => Err(format!("is a text, a number or a boolean, not {}", kind_of(&other))),
        }
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident),* $(,)?) => {
        $(impl From<$type> for Scalar {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

from! {
    bool => Bool,
    i8 => Int,
    i16 => Int,
    i32 => Int,
    i64 => Int,
    u8 => Int,
    u16 => Int,
    u32 => Int,
    f32 => Float,
    f64 => Float,
    &str => Text,
    &String => Text,
    String => Text,
    Cow<'_, str> => Text,
}

/// Beyond [`i64::MAX`] it is its digits as a text: no other number is found by it.
impl From<u64> for Scalar {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or_else(|_| Self::Text(value.to_string()), Self::Int)
    }
}

/// As [`u64`].
impl From<usize> for Scalar {
    fn from(value: usize) -> Self {
        i64::try_from(value).map_or_else(|_| Self::Text(value.to_string()), Self::Int)
    }
}

/// Fails with `InvalidArgument` for `null`, a list, an object, a whole number beyond [`i64`] and a text
/// with U+0000.
///
/// ```
/// use dynamic_flow::Scalar;
/// use serde_json::json;
///
/// assert_eq!(Scalar::try_from(json!(7))?.as_i64(), Some(7));
/// let error = Scalar::try_from(json!([7])).unwrap_err();
/// assert_eq!(error.message(), "metadata is a text, a number or a boolean, not a list");
/// # Ok::<(), dynamic_flow::Error>(())
/// ```
impl TryFrom<Value> for Scalar {
    type Error = Error;

    fn try_from(value: Value) -> Result<Self> {
        Self::of_json(value).map_err(|problem| refuse(format!("metadata {problem}")))
    }
}

/// What JSON is, in words.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Says whether every store can hold the metadata that are given to a run or to a wait: those of
/// both are kept together.
pub(crate) fn check_given(metadata: &Metadata) -> Result<()> {
    const MOST: usize = MAX_METADATA_ENTRIES / 2;
    if metadata.len() > MOST {
        let n = metadata.len();
        return Err(refuse(format!("a run or a wait has at most {MOST} metadata, not {n}")));
    }
    check(metadata)
}

/// Says whether every store can hold the metadata.
pub(crate) fn check(metadata: &Metadata) -> Result<()> {
    if metadata.len() > MAX_METADATA_ENTRIES {
        return Err(refuse(format!(
            "metadata has at most {MAX_METADATA_ENTRIES} entries, not {}",
            metadata.len()
        )));
    }
    for (name, value) in metadata {
        plain("metadata name", name)?;
        if name.len() > MAX_METADATA_NAME_BYTES {
            return Err(refuse(format!(
                "a metadata name has at most {MAX_METADATA_NAME_BYTES} bytes, not {}",
                name.len()
            )));
        }
        match value {
            Scalar::Float(number) if !number.is_finite() => {
                return Err(refuse(format!("the metadata entry {name:?} is not a finite number")));
            }
            Scalar::Text(text) => {
                plain("metadata text", text)?;
                if text.len() > MAX_METADATA_TEXT_BYTES {
                    return Err(refuse(format!(
                        "a metadata text has at most {MAX_METADATA_TEXT_BYTES} bytes, {name:?} has \
                         {}; keep what is longer in the flow's value",
                        text.len()
                    )));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn plain(what: &str, text: &str) -> Result<()> {
    if text.contains('\0') {
        return Err(refuse(format!("a {what} must not hold U+0000")));
    }
    Ok(())
}

fn refuse(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, value: impl Into<Scalar>) -> Metadata {
        Metadata::from([(name.to_owned(), value.into())])
    }

    #[test]
    fn metadata_at_its_bounds_is_taken_and_over_them_refused() {
        assert!(check(&entry(&"n".repeat(128), "t".repeat(4096))).is_ok());
        for over in [
            entry(&"n".repeat(129), 1),
            entry("n", "t".repeat(4097)),
            entry("n\0", 1),
            entry("n", "\0"),
            entry("n", f64::NAN),
            entry("n", f64::INFINITY),
        ] {
            let error = check(&over).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
        let many = |n: i64| (0..n).map(|i| (i.to_string(), Scalar::Int(i))).collect::<Metadata>();
        assert!(check(&many(64)).is_ok());
        assert!(check(&many(65)).is_err());
    }
    #[test]
    fn every_plain_value_is_a_scalar_and_none_is_rounded() {
        let limit = u64::try_from(i64::MAX).unwrap();
        for (scalar, expected) in [
            (Scalar::from(i8::MIN), Scalar::Int(-128)),
            (Scalar::from(u8::MAX), Scalar::Int(255)),
            (Scalar::from(i16::MIN), Scalar::Int(-32_768)),
            (Scalar::from(u16::MAX), Scalar::Int(65_535)),
            (Scalar::from(u32::MAX), Scalar::Int(4_294_967_295)),
            (Scalar::from(limit), Scalar::Int(i64::MAX)),
            (Scalar::from(limit + 1), Scalar::Text("9223372036854775808".into())),
            (Scalar::from(usize::MAX), Scalar::from(usize::MAX as u64)),
            (Scalar::from(0.5_f32), Scalar::Float(0.5)),
            (Scalar::from(&"a".to_owned()), Scalar::Text("a".into())),
            (Scalar::from(Cow::Borrowed("a")), Scalar::Text("a".into())),
        ] {
            assert_eq!(scalar, expected);
        }
    }

    #[test]
    fn a_scalar_gives_what_it_is_and_nothing_else() {
        let all = |it: &Scalar| (it.as_bool(), it.as_i64(), it.as_f64(), it.as_str().map(str::len));
        assert_eq!(all(&true.into()), (Some(true), None, None, None));
        assert_eq!(all(&3.into()), (None, Some(3), Some(3.0), None));
        assert_eq!(all(&3.5.into()), (None, None, Some(3.5), None));
        assert_eq!(all(&"3".into()), (None, None, None, Some(1)));
    }
}
