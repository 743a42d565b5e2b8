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
}

/// Reads a value in which no object has a key twice.
pub(crate) fn read(text: &str) -> Result<Value, Wrong> {
    let twice = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Once { twice: &twice }.deserialize(&mut reader);
    read.and_then(|value| reader.end().map(|()| value)).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match twice.take() {
            Some(key) => Wrong::Twice { key, line, column },
            None => Wrong::NoJson { line, column },
        }
    })
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
        assert!(matches!(read(&"[".repeat(10_000)), Err(Wrong::NoJson { .. })));
    }

    #[test]
    fn a_key_that_is_there_twice_is_named() {
        for text in [r#"{"a": 1, "a": 1}"#, r#"[{"b": {"a": false, "c": 1, "\u0061": true}}]"#] {
            let wrong = read(text).unwrap_err();
            assert!(matches!(&wrong, Wrong::Twice { key, .. } if key == "a"), "{wrong:?}");
        }
    }
}
