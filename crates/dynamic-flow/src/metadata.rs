//! Plain values to find runs and waits by.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

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

impl From<bool> for Scalar {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Scalar {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Scalar {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for Scalar {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<f64> for Scalar {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Scalar {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for Scalar {
    fn from(value: String) -> Self {
        Self::Text(value)
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
}
