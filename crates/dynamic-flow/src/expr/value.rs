//! Values of expressions: borrowed from the scope where they can be, shared where they can't.

use std::{cmp::Ordering, collections::BTreeMap, ops::Deref, rc::Rc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Number, Value};

use super::{
    Variables,
    meter::{Fail, MAP_ENTRY, Meter, bytes},
};

/// A value is copied by reference, so that no expression can double what is in memory.
#[derive(Debug, Clone)]
pub(super) enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'a>),
    Bytes(Rc<[u8]>),
    List(List<'a>),
    Map(Map<'a>),
    Timestamp(Timestamp),
    Duration(SignedDuration),
    Type(&'static str),
}

#[derive(Debug, Clone)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Shared(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum List<'a> {
    Json(&'a [Value]),
    Shared(Rc<[Val<'a>]>),
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(items) => items.len(),
            Self::Shared(items) => items.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Val<'a>> {
        match self {
            Self::Json(items) => items.get(index).map(Val::from),
            Self::Shared(items) => items.get(index).cloned(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Val<'a>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

#[derive(Debug, Clone)]
pub(super) enum Map<'a> {
    Json(&'a serde_json::Map<String, Value>),
    Variables(&'a Variables),
    Shared(Rc<BTreeMap<Key, Val<'a>>>),
}

/// A key of a map that an expression made. Numbers that are equal are the same key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Bool(bool),
    Integer(i128),
    Text(Rc<str>),
}

impl Key {
    pub(super) fn new(val: &Val<'_>) -> Option<Self> {
        Some(match val {
            Val::Bool(bool) => Self::Bool(*bool),
            Val::Int(int) => Self::Integer((*int).into()),
            Val::Uint(uint) => Self::Integer((*uint).into()),
            Val::Double(double) if double.fract() == 0.0 && double.abs() < 2f64.powi(64) => {
                Self::Integer(*double as i128)
            }
            Val::Text(text) => Self::Text((**text).into()),
            _ => return None,
        })
    }

    fn val<'a>(&self) -> Val<'a> {
        match self {
            Self::Bool(bool) => Val::Bool(*bool),
            Self::Integer(integer) => Val::integer(*integer).unwrap_or(Val::Null),
            Self::Text(text) => Val::Text(Text::Shared(text.clone())),
        }
    }

    fn into_text(self) -> String {
        match self {
            Self::Bool(bool) => bool.to_string(),
            Self::Integer(integer) => integer.to_string(),
            Self::Text(text) => text.as_ref().to_owned(),
        }
    }
}

impl<'a> Map<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(map) => map.len(),
            Self::Variables(map) => map.len(),
            Self::Shared(map) => map.len(),
        }
    }

    pub(super) fn field(&self, name: &str) -> Option<Val<'a>> {
        match self {
            Self::Json(map) => map.get(name).map(Val::from),
            Self::Variables(map) => map.get(name).map(|value| Val::from(&**value)),
            Self::Shared(map) => map.get(&Key::Text(name.into())).cloned(),
        }
    }

    /// What is there under a key, which is paid for by its length.
    pub(super) fn get(&self, key: &Val<'_>, meter: &Meter) -> Result<Option<Val<'a>>, Fail> {
        if let Val::Text(name) = key {
            meter.spend(bytes(name.len()))?;
        }
        Ok(self.look_up(key))
    }

    fn look_up(&self, key: &Val<'_>) -> Option<Val<'a>> {
        match (self, key) {
            (_, Val::Text(name)) => self.field(name),
            (Self::Shared(map), key) => map.get(&Key::new(key)?).cloned(),
            _ => None,
        }
    }

    pub(super) fn keys(&self) -> Vec<Val<'a>> {
        let borrowed = |key: &'a String| Val::Text(Text::Borrowed(key));
        match self {
            Self::Json(map) => map.keys().map(borrowed).collect(),
            Self::Variables(map) => map.keys().map(borrowed).collect(),
            Self::Shared(map) => map.keys().map(Key::val).collect(),
        }
    }
}

impl<'a> From<&'a Value> for Val<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(bool) => Self::Bool(*bool),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(int), _) => Self::Int(int),
                (None, Some(uint)) => Self::Uint(uint),
                (None, None) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Self::Text(Text::Borrowed(text)),
            Value::Array(items) => Self::List(List::Json(items)),
            Value::Object(map) => Self::Map(Map::Json(map)),
        }
    }
}

impl<'a> Val<'a> {
    pub(super) fn text(text: impl Into<Rc<str>>) -> Self {
        Self::Text(Text::Shared(text.into()))
    }

    pub(super) fn list(items: Vec<Val<'a>>) -> Self {
        Self::List(List::Shared(items.into()))
    }

    /// An int where it fits, a uint where only that does.
    pub(super) fn integer(integer: i128) -> Option<Self> {
        let int = i64::try_from(integer).map(Val::Int);
        int.or_else(|_| u64::try_from(integer).map(Val::Uint)).ok()
    }

    /// What CEL calls its type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Timestamp(_) => "timestamp",
            Self::Duration(_) => "duration",
            Self::Type(_) => "type",
        }
    }

    /// Whether a value of its type can be the key of a map.
    pub(super) fn is_key(&self) -> bool {
        matches!(self, Self::Bool(_) | Self::Text(_)) || self.as_double().is_some()
    }

    pub(super) fn as_integer(&self) -> Option<i128> {
        match self {
            Self::Int(int) => Some((*int).into()),
            Self::Uint(uint) => Some((*uint).into()),
            _ => None,
        }
    }

    pub(super) fn as_double(&self) -> Option<f64> {
        match self {
            Self::Int(int) => Some(*int as f64),
            Self::Uint(uint) => Some(*uint as f64),
            Self::Double(double) => Some(*double),
            _ => None,
        }
    }

    /// The value as a template shows it: texts as they are, everything else as JSON.
    pub(super) fn shown(self, meter: &Meter) -> Result<String, Fail> {
        match self.into_json(meter)? {
            Value::String(text) => Ok(text),
            other => {
                let text = other.to_string();
                meter.spend(bytes(text.len()))?;
                Ok(text)
            }
        }
    }

    /// Whether two values are equal; numbers are by what they count, whatever their types.
    pub(super) fn equals(&self, other: &Self, meter: &Meter) -> Result<bool, Fail> {
        meter.spend(1)?;
        Ok(match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(one), Self::Bool(two)) => one == two,
            (Self::Text(one), Self::Text(two)) => {
                meter.spend(bytes(one.len().min(two.len())))?;
                **one == **two
            }
            (Self::Bytes(one), Self::Bytes(two)) => {
                meter.spend(bytes(one.len().min(two.len())))?;
                one == two
            }
            (Self::Timestamp(one), Self::Timestamp(two)) => one == two,
            (Self::Duration(one), Self::Duration(two)) => one == two,
            (Self::Type(one), Self::Type(two)) => one == two,
            (Self::List(one), Self::List(two)) => {
                if one.len() != two.len() {
                    return Ok(false);
                }
                let _level = meter.enter()?;
                for (one, two) in one.iter().zip(two.iter()) {
                    if !one.equals(&two, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Map(one), Self::Map(two)) => {
                if one.len() != two.len() {
                    return Ok(false);
                }
                let _level = meter.enter()?;
                meter.spend(one.len())?;
                for key in one.keys() {
                    let (Some(one), Some(two)) = (one.look_up(&key), two.get(&key, meter)?) else {
                        return Ok(false);
                    };
                    if !one.equals(&two, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            _ => compare_numbers(self, other) == Some(Ordering::Equal),
        })
    }

    /// How two values are ordered; nothing where they are not.
    pub(super) fn compare(&self, other: &Self, meter: &Meter) -> Result<Option<Ordering>, Fail> {
        Ok(match (self, other) {
            (Self::Bool(one), Self::Bool(two)) => Some(one.cmp(two)),
            (Self::Text(one), Self::Text(two)) => {
                meter.spend(bytes(one.len().min(two.len())))?;
                Some(one.cmp(two))
            }
            (Self::Bytes(one), Self::Bytes(two)) => {
                meter.spend(bytes(one.len().min(two.len())))?;
                Some(one.cmp(two))
            }
            (Self::Timestamp(one), Self::Timestamp(two)) => Some(one.cmp(two)),
            (Self::Duration(one), Self::Duration(two)) => Some(one.cmp(two)),
            _ => compare_numbers(self, other),
        })
    }

    /// The value as JSON. What is shared is written out each time it occurs, and paid for.
    pub(super) fn into_json(self, meter: &Meter) -> Result<Value, Fail> {
        meter.spend(2)?;
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(bool) => Value::Bool(bool),
            Self::Int(int) => int.into(),
            Self::Uint(uint) => uint.into(),
            Self::Double(double) => match Number::from_f64(double) {
                Some(number) => Value::Number(number),
                None => return Fail::because("the result is not a finite number"),
            },
            Self::Text(text) => {
                meter.spend(bytes(text.len()))?;
                Value::String((*text).to_owned())
            }
            Self::Bytes(data) => {
                meter.spend(bytes(2 * data.len()))?;
                Value::String(STANDARD.encode(data))
            }
            Self::List(items) => {
                let _level = meter.enter()?;
                let mut array = Vec::new();
                for item in items.iter() {
                    array.push(item.into_json(meter)?);
                }
                Value::Array(array)
            }
            Self::Map(map) => {
                let _level = meter.enter()?;
                let mut object = serde_json::Map::new();
                for key in map.keys() {
                    meter.spend(MAP_ENTRY)?;
                    let (Some(name), Some(item)) = (Key::new(&key), map.look_up(&key)) else {
                        continue;
                    };
                    let name = name.into_text();
                    meter.spend(bytes(name.len()))?;
                    if object.insert(name, item.into_json(meter)?).is_some() {
                        return Fail::because("the result has two keys that read the same as text");
                    }
                }
                Value::Object(object)
            }
            Self::Timestamp(timestamp) => timestamp.to_string().into(),
            Self::Duration(duration) => duration_text(duration).into(),
            Self::Type(name) => name.into(),
        })
    }
}

/// A duration in seconds, as protobuf writes it: `90s`, `1.5s`.
pub(super) fn duration_text(duration: SignedDuration) -> String {
    let sign = if duration.is_negative() { "-" } else { "" };
    let (seconds, nanos) = (duration.as_secs().unsigned_abs(), duration.subsec_nanos().abs());
    let fraction = format!("{nanos:09}");
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{seconds}s"),
        fraction => format!("{sign}{seconds}.{fraction}s"),
    }
}

fn compare_numbers(one: &Val<'_>, two: &Val<'_>) -> Option<Ordering> {
    match (one.as_integer(), two.as_integer()) {
        (Some(one), Some(two)) => Some(one.cmp(&two)),
        (Some(one), None) => compare_mixed(one, two.as_double()?),
        (None, Some(two)) => compare_mixed(two, one.as_double()?).map(Ordering::reverse),
        (None, None) => one.as_double()?.partial_cmp(&two.as_double()?),
    }
}

/// Compares without rounding the integer, which a double can't always hold.
fn compare_mixed(integer: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // Out of range saturates, which orders it rightly: an integer here has 64 bits.
    let whole = double.trunc() as i128;
    Some(
        integer
            .cmp(&whole)
            .then_with(|| 0.0.partial_cmp(&double.fract()).unwrap_or(Ordering::Equal)),
    )
}
