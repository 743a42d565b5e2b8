//! The checking serializer: builds JSON, and stops where JSON would say something else.

use std::fmt;

use serde::ser::{self, Serialize};
use serde_json::{Map, Number, Value, map::Entry};

use super::MAX_DEPTH;

/// What stopped it, and the way there from the innermost step outwards.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    path: Vec<String>,
}

impl Fault {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), path: Vec::new() }
    }

    fn within(mut self, segment: impl fmt::Display) -> Self {
        self.path.push(segment.to_string());
        self
    }

    fn within_variant(self, variant: Option<&'static str>) -> Self {
        match variant {
            Some(variant) => self.within(variant),
            None => self,
        }
    }

    pub(super) fn pointer(&self) -> String {
        self.path.iter().rev().map(|segment| format!("/{}", escaped(segment))).collect()
    }
}

/// A segment of a JSON pointer.
pub(super) fn escaped(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl ser::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Builder {
    /// How many lists and objects are around it.
    depth: usize,
    /// Whether a `Some` is directly around it: a null would read back as `None`.
    in_some: bool,
}

impl Builder {
    fn null(self) -> Result<Value, Fault> {
        if self.in_some {
            return Err(Fault::new(
                "a `Some` of something that JSON writes as null reads back as `None`",
            ));
        }
        Ok(Value::Null)
    }

    fn float(value: f64) -> Result<Value, Fault> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| Fault::new("NaN and infinities have no JSON form"))
    }

    fn inside(self) -> Result<Self, Fault> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::new(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1, in_some: false })
    }

    fn list(self, len: usize, variant: Option<&'static str>) -> Result<List, Fault> {
        let outer = if variant.is_some() { self.inside()? } else { self };
        // The length is a hint that a value gives about itself: nothing to reserve memory by blindly.
        Ok(List { items: Vec::with_capacity(len.min(1024)), inside: outer.inside()?, variant })
    }

    fn object(self, len: usize, variant: Option<&'static str>) -> Result<Object, Fault> {
        let outer = if variant.is_some() { self.inside()? } else { self };
        // As with the length of a list.
        let map = Map::with_capacity(len.min(1024));
        Ok(Object { map, key: String::new(), inside: outer.inside()?, variant })
    }
}

fn tagged(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        Some(variant) => Value::Object(Map::from_iter([(variant.to_owned(), value)])),
        None => value,
    }
}

macro_rules! numbers {
    ($($method:ident $type:ty),*) => {
        $(fn $method(self, value: $type) -> Result<Value, Fault> {
            Ok(Value::Number(value.into()))
        })*
    };
}

impl ser::Serializer for Builder {
    type Ok = Value;
    type Error = Fault;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = List;
    type SerializeTupleVariant = List;
    type SerializeMap = Object;
    type SerializeStruct = Object;
    type SerializeStructVariant = Object;

    numbers!(serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64);
    numbers!(serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64);

    fn serialize_i128(self, value: i128) -> Result<Value, Fault> {
        Number::from_i128(value)
            .map(Value::Number)
            .ok_or_else(|| Fault::new("a whole number that does not fit 64 bits"))
    }

    fn serialize_u128(self, value: u128) -> Result<Value, Fault> {
        Number::from_u128(value)
            .map(Value::Number)
            .ok_or_else(|| Fault::new("a whole number that does not fit 64 bits"))
    }

    fn serialize_bool(self, value: bool) -> Result<Value, Fault> {
        Ok(Value::Bool(value))
    }

    fn serialize_f32(self, value: f32) -> Result<Value, Fault> {
        Self::float(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<Value, Fault> {
        Self::float(value)
    }

    fn serialize_char(self, value: char) -> Result<Value, Fault> {
        Ok(Value::String(value.into()))
    }

    fn serialize_str(self, value: &str) -> Result<Value, Fault> {
        Ok(Value::String(value.into()))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Value, Fault> {
        self.inside()?;
        Ok(value.iter().copied().map(Value::from).collect())
    }

    fn serialize_none(self) -> Result<Value, Fault> {
        self.null()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Fault> {
        value.serialize(Self { in_some: true, ..self })
    }

    fn serialize_unit(self) -> Result<Value, Fault> {
        self.null()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, Fault> {
        self.null()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Value, Fault> {
        Ok(Value::String(variant.into()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Value, Fault> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, Fault> {
        let value = value.serialize(self.inside()?).map_err(|fault| fault.within(variant))?;
        Ok(tagged(Some(variant), value))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<List, Fault> {
        self.list(len.unwrap_or(0), None)
    }

    fn serialize_tuple(self, len: usize) -> Result<List, Fault> {
        self.list(len, None)
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<List, Fault> {
        self.list(len, None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<List, Fault> {
        self.list(len, Some(variant))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Object, Fault> {
        self.object(len.unwrap_or(0), None)
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Object, Fault> {
        self.object(len, None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Object, Fault> {
        self.object(len, Some(variant))
    }
}

/// A list that is being built.
pub(super) struct List {
    items: Vec<Value>,
    inside: Builder,
    variant: Option<&'static str>,
}

impl List {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        let item = value
            .serialize(self.inside)
            .map_err(|fault| fault.within(self.items.len()).within_variant(self.variant))?;
        self.items.push(item);
        Ok(())
    }

    fn finish(self) -> Value {
        tagged(self.variant, Value::Array(self.items))
    }
}

/// An object that is being built.
pub(super) struct Object {
    map: Map<String, Value>,
    key: String,
    inside: Builder,
    variant: Option<&'static str>,
}

/// How `serde_json` marks what is no object: numbers and texts of its own, which features give it that
/// any crate of a program may turn on. Then an object of such a key is read as one of these, or not
/// at all.
const MARK: &str = "$serde_json::private::";

impl Object {
    fn insert<T: Serialize + ?Sized>(&mut self, key: String, value: &T) -> Result<(), Fault> {
        if key.starts_with(MARK) {
            return Err(Fault::new(format!("a key that begins with `{MARK}` does not read back")));
        }
        let slot = match self.map.entry(key) {
            Entry::Vacant(slot) => slot,
            Entry::Occupied(slot) => {
                let fault = Fault::new("this key is there twice, when both are written as text");
                return Err(fault.within(slot.key()).within_variant(self.variant));
            }
        };
        match value.serialize(self.inside) {
            Ok(value) => {
                slot.insert(value);
                Ok(())
            }
            Err(fault) => Err(fault.within(slot.key()).within_variant(self.variant)),
        }
    }

    fn finish(self) -> Value {
        tagged(self.variant, Value::Object(self.map))
    }
}

impl ser::SerializeMap for Object {
    type Ok = Value;
    type Error = Fault;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        self.key = match key.serialize(Builder::default())? {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(Fault::new("the key of a map must be a text, a number or a boolean"));
            }
        };
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        let key = std::mem::take(&mut self.key);
        self.insert(key, value)
    }

    fn end(self) -> Result<Value, Fault> {
        Ok(self.finish())
    }
}

macro_rules! parts {
    ($($type:ident: $trait:ident $method:ident;)*) => {
        $(impl ser::$trait for $type {
            type Ok = Value;
            type Error = Fault;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
                self.push(value)
            }

            fn end(self) -> Result<Value, Fault> {
                Ok(self.finish())
            }
        })*
    };
}

parts! {
    List: SerializeSeq serialize_element;
    List: SerializeTuple serialize_element;
    List: SerializeTupleStruct serialize_field;
    List: SerializeTupleVariant serialize_field;
}

macro_rules! fields {
    ($($trait:ident)*) => {
        $(impl ser::$trait for Object {
            type Ok = Value;
            type Error = Fault;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Fault> {
                self.insert(name.to_owned(), value)
            }

            fn end(self) -> Result<Value, Fault> {
                Ok(self.finish())
            }
        })*
    };
}

fields! { SerializeStruct SerializeStructVariant }
