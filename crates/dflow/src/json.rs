//! JSON as people and scripts type it.

use std::{cell::RefCell, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Why a text is not taken as a value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    NoJson {
        line: usize,
        column: usize,
    },
    /// An object has a key twice: which of the two counts is not for a parser to say.
    Twice {
        key: String,
        line: usize,
        column: usize,
    },
    /// It nests deeper than any value may.
    Deep {
        line: usize,
        column: usize,
    },
    /// A whole number that JSON's readers would round.
    Rounded {
        line: usize,
        column: usize,
    },
}

/// What is to be said of [`Wrong::Rounded`].
pub(crate) const ROUNDED: &str = "a whole number is too large to be kept exactly: write it in \
                                  quotes as a text, or with an exponent if it may be rounded";

/// Reads a value in which no object has a key twice, and no whole number is rounded.
pub(crate) fn read(text: &str) -> Result<Value, Wrong> {
    let twice = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Once { twice: &twice }.deserialize(&mut reader);
    let value = read.and_then(|value| reader.end().map(|()| value)).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match twice.take() {
            Some(key) => Wrong::Twice { key, line, column },
            // The reader's own limit is beyond that of values.
            None if error.to_string().starts_with("recursion limit") => {
                Wrong::Deep { line, column }
            }
            None => Wrong::NoJson { line, column },
        }
    })?;
    match rounded(text) {
        Some((line, column)) => Err(Wrong::Rounded { line, column }),
        None => Ok(value),
    }
}

/// Where a JSON text has a whole number that is read as a floating one, and so as another.
fn rounded(text: &str) -> Option<(usize, usize)> {
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        rest = &rest[at..];
        if rest.starts_with('"') {
            rest = after_string(rest);
            continue;
        }
        let is_part = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let number = &rest[..end];
        let is_whole = !number.contains(['.', 'e', 'E']);
        if is_whole && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
            let before = &text[..text.len() - rest.len()];
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            return Some((before.matches('\n').count() + 1, before.len() - line_start + 1));
        }
        rest = &rest[end..];
    }
    None
}

/// What comes after the string with which a text begins.
fn after_string(text: &str) -> &str {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or("", |(at, _)| &text[at + 1..])
}

/// A value whose objects have each key once.
#[derive(Clone, Copy)]
struct Once<'a> {
    /// The key that was there twice.
    twice: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Once<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                self.twice.replace(Some(key));
                return Err(de::Error::custom("a key is there twice"));
            }
            let value = entries.next_value_seed(self)?;
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_read_as_it_stands() {
        let text = r#"{"a": [1, -2, 1.5, 1e300, 18446744073709551615], "b": {"a": null, "c": "\u00e9"}, "d": true}"#;
        assert_eq!(read(text), Ok(serde_json::from_str(text).unwrap()));
        assert_eq!(read("{\n  nonsense"), Err(Wrong::NoJson { line: 2, column: 3 }));
        assert!(matches!(read("1 2"), Err(Wrong::NoJson { .. })));
        assert!(matches!(read(&"[".repeat(100)), Err(Wrong::NoJson { .. })));
        assert!(matches!(read(&"[".repeat(10_000)), Err(Wrong::Deep { .. })));
    }

    #[test]
    fn a_whole_number_that_would_be_rounded_is_refused_and_no_text_that_looks_like_one() {
        let refused = |text| match read(text) {
            Err(Wrong::Rounded { line, column }) => Some((line, column)),
            _ => None,
        };
        assert_eq!(refused("18446744073709551616"), Some((1, 1)));
        assert_eq!(refused("{\n  \"a\": [1, -9223372036854775809]}"), Some((2, 12)));
        assert_eq!(refused(r#"{"\\": 99999999999999999999}"#), Some((1, 8)));
        for kept in [
            "[18446744073709551615, -9223372036854775808, 1e300, 0.1, -0]",
            r#"{"a\"99999999999999999999": "99999999999999999999\\"}"#,
        ] {
            assert_eq!(read(kept), Ok(serde_json::from_str(kept).unwrap()), "{kept}");
        }
    }

    #[test]
    fn a_key_that_is_there_twice_is_named() {
        for text in [r#"{"a": 1, "a": 1}"#, r#"[{"b": {"a": false, "c": 1, "\u0061": true}}]"#] {
            let wrong = read(text).unwrap_err();
            assert!(matches!(&wrong, Wrong::Twice { key, .. } if key == "a"), "{wrong:?}");
        }
    }
}
