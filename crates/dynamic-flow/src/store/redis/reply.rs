//! What servers reply, taken apart.

use redis::Value;

use super::trouble::Trouble;

/// A text of bytes.
pub(super) fn bytes(reply: Value) -> Result<Vec<u8>, Trouble> {
    match reply {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::VerbatimString { text, .. } => Ok(text.into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        _ => Err(Trouble::Confused),
    }
}

/// A text.
pub(super) fn text(reply: Value) -> Result<String, Trouble> {
    String::from_utf8(bytes(reply)?).map_err(|_| Trouble::Confused)
}

/// A text of bytes, or nothing.
pub(super) fn maybe_bytes(reply: Value) -> Result<Option<Vec<u8>>, Trouble> {
    match reply {
        Value::Nil => Ok(None),
        reply => bytes(reply).map(Some),
    }
}

/// A number.
pub(super) fn int(reply: &Value) -> Result<i64, Trouble> {
    match reply {
        Value::Int(number) => Ok(*number),
        _ => Err(Trouble::Confused),
    }
}

/// A list.
pub(super) fn list(reply: Value) -> Result<Vec<Value>, Trouble> {
    match reply {
        Value::Array(items) | Value::Set(items) => Ok(items),
        _ => Err(Trouble::Confused),
    }
}

/// A list of texts of bytes.
pub(super) fn all_bytes(reply: Value) -> Result<Vec<Vec<u8>>, Trouble> {
    list(reply)?.into_iter().map(bytes).collect()
}

/// Names and values, as a map or as a list in which they take turns.
pub(super) fn pairs(reply: Value) -> Result<Vec<(Vec<u8>, Value)>, Trouble> {
    let named = |(name, value)| Ok((bytes(name)?, value));
    match reply {
        Value::Map(pairs) => pairs.into_iter().map(named).collect(),
        reply => {
            let mut items = list(reply)?.into_iter();
            let mut pairs = Vec::with_capacity(items.len() / 2);
            while let Some(name) = items.next() {
                pairs.push(named((name, items.next().ok_or(Trouble::Confused)?))?);
            }
            Ok(pairs)
        }
    }
}
