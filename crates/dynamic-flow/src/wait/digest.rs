//! Digests of values: equal for what is equal as JSON.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use sha2::{Digest as _, Sha256};

use crate::{Error, ErrorKind, Result, value::to_value};

/// SHA-256 over the canonical JSON (RFC 8785) of something, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentDigest(pub String);

impl ContentDigest {
    /// The digest of a JSON value, which always has a canonical form: its keys are texts and its
    /// numbers are finite.
    pub(crate) fn of_value(value: &Value) -> Self {
        Self::of_json(value)
            .unwrap_or_else(|_| Self(hex::encode(Sha256::digest(value.to_string()))))
    }

    /// The digest of a value.
    ///
    /// RFC 8785 writes every number as a double. Whole numbers that no double holds are digested
    /// beside that text, so that two different values never share a digest.
    ///
    /// # Errors
    /// `SerializationError` for what has no faithful JSON form; see [`crate::value::to_value`].
    ///
    /// ```
    /// use dynamic_flow::wait::ContentDigest;
    /// use serde_json::json;
    ///
    /// let digest = ContentDigest::of(&json!({ "b": 1, "a": [true] })).unwrap();
    /// assert_eq!(digest, ContentDigest::of(&json!({ "a": [true], "b": 1.0 })).unwrap());
    /// assert_eq!(digest.0.len(), 64);
    /// ```
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Self::of_json(&to_value(value)?)
    }

    /// The digest of something that always has a JSON form, and whose only numbers are in those parts of
    /// it. Nothing of it is copied, unless one of them has to be digested beside the text.
    pub(crate) fn of_whole<'v, T: Serialize>(
        whole: &T,
        parts: impl IntoIterator<Item = &'v Value>,
    ) -> Self {
        match canonical(whole) {
            Ok(text) if !parts.into_iter().any(has_inexact) => {
                Self(hex::encode(Sha256::digest(text)))
            }
            _ => Self::of_value(&serde_json::to_value(whole).unwrap_or_default()),
        }
    }

    fn of_json(value: &Value) -> Result<Self> {
        let mut digest = Sha256::new_with_prefix(canonical(value)?);
        let mut inexact = Vec::new();
        if has_inexact(value) {
            collect_inexact(value, &mut String::new(), &mut inexact);
        }
        inexact.sort_unstable();
        for (pointer, number) in inexact {
            // JSON text holds no zero byte: nothing else can look like this.
            digest.update(format!("\0{pointer}\0{number}"));
        }
        Ok(Self(hex::encode(digest.finalize())))
    }
}

fn canonical<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json_canonicalizer::to_vec(value).map_err(|_| {
        Error::new(ErrorKind::SerializationError, "the value has no canonical JSON form")
    })
}

/// Whether it is a whole number that would change as a double.
fn is_inexact(number: &Number) -> bool {
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    whole.is_some_and(|whole| whole as f64 as i128 != whole)
}

fn has_inexact(value: &Value) -> bool {
    match value {
        Value::Number(number) => is_inexact(number),
        Value::Array(items) => items.iter().any(has_inexact),
        Value::Object(fields) => fields.values().any(has_inexact),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// The whole numbers that would change as doubles, with their places.
fn collect_inexact(value: &Value, pointer: &mut String, found: &mut Vec<(String, String)>) {
    let len = pointer.len();
    match value {
        Value::Number(number) => {
            if is_inexact(number) {
                found.push((pointer.clone(), number.to_string()));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointer.push_str(&format!("/{index}"));
                collect_inexact(item, pointer, found);
                pointer.truncate(len);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                // A length, so that no name can look like several.
                pointer.push_str(&format!("/{}:{name}", name.len()));
                collect_inexact(field, pointer, found);
                pointer.truncate(len);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_digest_is_sha256_of_the_canonical_form() {
        // printf '{"a":"\u00fc","b":[1,1e+30]}' | sha256sum
        let value = json!({ "b": [1.0, 1e30], "a": "ü" });
        let expected = hex::encode(Sha256::digest("{\"a\":\"ü\",\"b\":[1,1e+30]}"));
        assert_eq!(ContentDigest::of(&value).unwrap().0, expected);
        assert_eq!(ContentDigest::of(&f64::NAN).unwrap_err().kind(), ErrorKind::SerializationError);
    }

    #[test]
    fn numbers_beyond_a_double_do_not_share_a_digest() {
        let digest = |value: Value| ContentDigest::of(&value).unwrap();
        let exact = 1_u64 << 53;
        assert_ne!(digest(json!(exact)), digest(json!(exact + 1)));
        assert_ne!(digest(json!([exact, exact + 1])), digest(json!([exact + 1, exact])));
        assert_ne!(digest(json!(u64::MAX)), digest(json!(u64::MAX - 1)));
        assert_ne!(digest(json!({ "a/0": [exact + 1] })), digest(json!({ "a/0": [exact] })));
        assert_eq!(digest(json!(exact)), digest(json!(9_007_199_254_740_992.0)));
    }

    #[test]
    fn a_whole_has_the_same_digest_whether_it_was_copied_or_not() {
        #[derive(Serialize)]
        struct Whole<'a> {
            z: Option<&'a str>,
            shown: &'a Value,
        }
        for shown in [json!({ "b": [1, 2.5], "a": null }), json!([u64::MAX, { "n": u64::MAX - 1 }])]
        {
            let whole = Whole { z: None, shown: &shown };
            let copied = ContentDigest::of_value(&json!({ "z": null, "shown": shown }));
            assert_eq!(ContentDigest::of_whole(&whole, [&shown]), copied);
        }
    }
}
