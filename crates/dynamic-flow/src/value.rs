//! Values to JSON and back, refusing what JSON would silently change.

mod build;
mod place;

use std::io;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{
    Value,
    ser::{CompactFormatter, Formatter},
};

use crate::{Error, ErrorKind, Result};

/// How deep a value may be nested: what `serde_json` still reads back.
pub const MAX_DEPTH: usize = 127;

/// How deep the values of a run may nest: what they are nested in within the state, and
/// [`MAX_NESTING`](crate::flow::MAX_NESTING) bodies around them, must fit [`MAX_DEPTH`] too.
pub const MAX_VALUE_DEPTH: usize = 64;

/// Refuses a value that nests deeper than [`MAX_VALUE_DEPTH`].
pub(crate) fn check_depth(value: &Value) -> Result<()> {
    check_nesting(value, MAX_VALUE_DEPTH)
}

fn check_nesting(value: &Value, levels: usize) -> Result<()> {
    if !is_deeper(value, levels) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::LimitExceeded,
        format!("the value nests deeper than {MAX_VALUE_DEPTH} levels"),
    )
    .with("levels", levels))
}

/// Whether lists and objects are nested deeper than that.
pub(crate) fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => items_are_deeper(items.iter(), levels),
        Value::Object(fields) => items_are_deeper(fields.values(), levels),
        _ => false,
    }
}

/// Of most values nearly all parts are texts and numbers: these are looked at, and not called for.
fn items_are_deeper<'a>(mut items: impl Iterator<Item = &'a Value>, levels: usize) -> bool {
    let Some(left) = levels.checked_sub(1) else { return true };
    items.any(|item| matches!(item, Value::Array(_) | Value::Object(_)) && is_deeper(item, left))
}

/// How much memory a value may take that the engine puts together, as [`check_room`] estimates it.
const MAX_VALUE_BYTES: usize = 256 << 20;

/// Refuses values that would nest too deep, or take too much memory, once they are put together in
/// a list or an object; `what` that comes to. A few steps could double a value until nothing is left
/// otherwise.
pub(crate) fn check_room<'a>(what: &str, parts: impl IntoIterator<Item = &'a Value>) -> Result<()> {
    let mut room = MAX_VALUE_BYTES;
    for part in parts {
        check_nesting(part, MAX_VALUE_DEPTH - 1)?;
        room = take_room(part, room).ok_or_else(|| {
            Error::new(
                ErrorKind::LimitExceeded,
                format!("{what} takes more than {} MiB of memory", MAX_VALUE_BYTES >> 20),
            )
        })?;
    }
    Ok(())
}

/// What is left of some memory for a value; none if it takes more. An estimate: each value and
/// each key by its size, and what their texts have.
fn take_room(value: &Value, room: usize) -> Option<usize> {
    let left = room.checked_sub(size_of::<Value>())?;
    match value {
        Value::String(text) => left.checked_sub(text.len()),
        Value::Array(items) => items.iter().try_fold(left, |left, item| take_room(item, left)),
        Value::Object(fields) => fields.iter().try_fold(left, |left, (name, item)| {
            take_room(item, left.checked_sub(size_of::<String>() + name.len())?)
        }),
        _ => Some(left),
    }
}

/// Turns a value into JSON that reads back as the same value.
///
/// # Errors
/// `SerializationError` with the place (`at`, a JSON pointer) of what JSON would silently change
/// or not give back: NaN and infinities, `Some` of something that is null, whole numbers beyond 64 bits, keys of
/// maps that have no text form or the same one, or that `serde_json` has for itself, nesting deeper
/// than [`MAX_DEPTH`].
///
/// ```
/// use dynamic_flow::{ErrorKind, value::to_value};
///
/// assert_eq!(to_value(&("a", 1.5)).unwrap(), serde_json::json!(["a", 1.5]));
///
/// let error = to_value(&[1.0, f64::NAN]).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::SerializationError);
/// assert_eq!(error.context_value("at"), Some("/1"));
/// ```
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value> {
    value.serialize(build::Builder::default()).map_err(|fault| {
        let at = fault.pointer();
        located(Error::new(ErrorKind::SerializationError, fault.message), Some(at))
    })
}

/// Writes as JSON what holds only values that came through [`to_value`], and numbers and texts that
/// JSON has: without the copy that [`to_value`] makes to look at each part.
///
/// # Errors
/// `SerializationError` for what nests deeper than [`MAX_DEPTH`].
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    // Most states fit, and their beginning is not copied again and again.
    let mut json = Vec::with_capacity(4 << 10);
    let mut deepest = 0;
    let formatter = Measured { depth: 0, deepest: &mut deepest };
    let written =
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, formatter));
    written.map_err(|error| {
        Error::new(ErrorKind::SerializationError, "the state can't be written as JSON")
            .with_source(error.to_string())
    })?;
    if deepest > MAX_DEPTH {
        let message = format!("the state nests deeper than {MAX_DEPTH} levels");
        return Err(Error::new(ErrorKind::SerializationError, message));
    }
    Ok(json)
}

/// Writes JSON without a space, and sees how deep it nests.
struct Measured<'a> {
    depth: usize,
    deepest: &'a mut usize,
}

impl Measured<'_> {
    fn enter(&mut self) {
        self.depth += 1;
        *self.deepest = self.depth.max(*self.deepest);
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }
}

impl Formatter for Measured<'_> {
    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter();
        CompactFormatter.begin_array(writer)
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.leave();
        CompactFormatter.end_array(writer)
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter();
        CompactFormatter.begin_object(writer)
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.leave();
        CompactFormatter.end_object(writer)
    }
}

/// How many bytes a value has as JSON, if that is more than the limit.
pub(crate) fn json_size_beyond(limit: usize, value: &Value) -> Option<usize> {
    // Text takes six bytes for one at the most, and everything else less than it does in memory.
    if take_room(value, limit / 6).is_some() {
        return None;
    }
    Some(json_size(value)).filter(|size| *size > limit)
}

fn json_size(value: &Value) -> usize {
    struct Count(usize);

    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut count = Count(0);
    serde_json::to_writer(&mut count, value).map_or(usize::MAX, |()| count.0)
}

/// Reads a value from its JSON form.
///
/// # Errors
/// `SerializationError` with the type's complaint and its place (`at`, a JSON pointer). Values that
/// the complaint quotes are left out of it.
///
/// ```
/// use dynamic_flow::value::from_value;
///
/// let error = from_value::<Vec<u8>>(&serde_json::json!([1, "secret"])).unwrap_err();
/// assert_eq!(error.context_value("at"), Some("/1"));
/// assert_eq!(error.message(), "invalid type: string, expected u8");
/// ```
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T> {
    T::deserialize(value).map_err(|complaint| {
        // A `Value` knows no places; its text does.
        let text = value.to_string();
        let found = serde_json::from_str::<T>(&text).err();
        let at = found.and_then(|error| place::of(&error, text.as_bytes()));
        located(Error::new(ErrorKind::SerializationError, place::redacted(&complaint)), at)
    })
}

/// The complaint of a type about JSON text, without the values that it quotes, and its place.
pub(crate) fn complaint(error: &serde_json::Error, text: &[u8]) -> (String, Option<String>) {
    (place::redacted(error), place::of(error, text))
}

/// Names the place, if there is one.
pub(crate) fn located(error: Error, at: Option<String>) -> Error {
    match at {
        Some(at) if at.is_empty() => error.with("at", "(whole value)"),
        Some(at) => error.with("at", at),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;
    use serde::{Deserialize, ser::SerializeMap};
    use serde_json::json;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Unit,
        Newtype(Option<i64>),
        Tuple(u8, Vec<f64>),
        Struct { text: String, nested: Option<Box<Shape>> },
    }

    fn refused<T: Serialize + ?Sized>(value: &T) -> (String, String) {
        let error = to_value(value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SerializationError);
        (error.context_value("at").unwrap().to_owned(), error.message().to_owned())
    }

    #[test]
    fn what_json_would_change_is_refused_with_its_place() {
        #[derive(Serialize)]
        struct Deep {
            #[serde(rename = "a/b")]
            list: Vec<BTreeMap<&'static str, f64>>,
        }
        let deep = Deep { list: vec![BTreeMap::new(), BTreeMap::from([("x~y", f64::INFINITY)])] };
        assert_eq!(refused(&deep).0, "/a~1b/1/x~0y");
        assert_eq!(refused(&f32::NAN).0, "(whole value)");
        assert_eq!(refused(&json!(null).as_null().map(Some)).0, "(whole value)");
        assert_eq!(refused(&[Some(None), Some(Some(1))]).0, "/0");
        assert_eq!(refused(&Some(())).0, "(whole value)");
        assert_eq!(refused(&Some(Value::Null)).0, "(whole value)");
        assert_eq!(refused(&[u128::MAX]).0, "/0");
        assert_eq!(refused(&[i128::MIN]).0, "/0");
        assert_eq!(refused(&Shape::Tuple(1, vec![0.0, f64::NAN])).0, "/Tuple/1/1");
    }

    #[test]
    fn a_size_is_told_of_what_is_larger_than_the_limit() {
        for value in [json!("\u{1}\u{1}"), json!([1, { "a\n": -1.5 }, null]), json!({})] {
            let size = value.to_string().len();
            assert_eq!(json_size_beyond(size - 1, &value), Some(size), "{value}");
            assert_eq!(json_size_beyond(size, &value), None, "{value}");
            assert_eq!(json_size_beyond(size * 1000, &value), None, "{value}");
        }
        // Nothing becomes longer than by what is told of it before it is written.
        let worst = json!("\u{1}".repeat(1000));
        assert_eq!(json_size_beyond(6000, &worst), Some(6002));
    }

    #[test]
    fn keys_that_would_not_read_back_are_refused() {
        assert_eq!(refused(&HashMap::from([(vec![1], 1)])).0, "(whole value)");
        assert_eq!(refused(&HashMap::from([(None::<u8>, 1)])).0, "(whole value)");
        assert_eq!(
            refused(&HashMap::from([(Shape::Newtype(None).to_key(), 1)])).0,
            "(whole value)"
        );

        let own = HashMap::from([("$serde_json::private::RawValue", "[1]")]);
        let (at, message) = refused(&[own]);
        assert_eq!(at, "/0");
        assert!(message.contains("does not read back"), "{message}");

        struct Twice;
        impl Serialize for Twice {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("1", "text")?;
                map.serialize_entry(&1, "number")?;
                map.end()
            }
        }
        let (at, message) = refused(&[Twice]);
        assert_eq!(at, "/0/1");
        assert!(message.contains("twice"), "{message}");
    }

    impl Shape {
        fn to_key(&self) -> (u8, u8) {
            (0, 0)
        }
    }

    #[test]
    fn keys_that_read_back_are_kept() {
        let numbers: BTreeMap<i64, bool> = BTreeMap::from([(-1, true), (i64::MAX, false)]);
        assert_eq!(
            from_value::<BTreeMap<i64, bool>>(&to_value(&numbers).unwrap()).unwrap(),
            numbers
        );
        let flags = BTreeMap::from([(true, 'x'), (false, 'y')]);
        assert_eq!(from_value::<BTreeMap<bool, char>>(&to_value(&flags).unwrap()).unwrap(), flags);
        let letters = BTreeMap::from([('ü', Some(1)), ('"', None)]);
        let read: BTreeMap<char, Option<i32>> = from_value(&to_value(&letters).unwrap()).unwrap();
        assert_eq!(read, letters);
    }

    #[test]
    fn nesting_is_refused_exactly_where_it_would_not_read_back() {
        let nested = |depth| (0..depth).fold(Value::Null, |inner, _| json!([inner]));
        let deepest = to_value(&nested(MAX_DEPTH)).unwrap();
        assert!(serde_json::from_str::<Value>(&deepest.to_string()).is_ok());
        assert!(serde_json::from_str::<Value>(&nested(MAX_DEPTH + 1).to_string()).is_err());
        assert!(refused(&nested(MAX_DEPTH + 1)).1.contains("127"));
    }

    #[test]
    fn state_that_would_not_read_back_is_refused_by_its_text() {
        let nested = |depth| (0..depth).fold(json!("[{\\\"[{"), |inner, _| json!([inner]));
        let deepest = to_json(&nested(MAX_DEPTH)).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&deepest).unwrap(), nested(MAX_DEPTH));
        let error = to_json(&nested(MAX_DEPTH + 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SerializationError);
        let beside = json!([nested(MAX_DEPTH - 1), {}, { "a": nested(MAX_DEPTH - 2) }]);
        assert_eq!(to_json(&beside).unwrap(), beside.to_string().as_bytes(), "they don't add up");
    }

    #[test]
    fn values_have_room_in_a_list_until_it_nests_too_deep_or_is_too_large() {
        let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert!(check_room("it", [&nested(MAX_VALUE_DEPTH - 1), &json!(1)]).is_ok());
        let error = check_room("it", [&json!(1), &nested(MAX_VALUE_DEPTH)]).unwrap_err();
        assert!(error.message().contains("deeper than 64 levels"), "{error}");
        let text = json!("a".repeat(1 << 20));
        assert!(check_room("it", [&text; 255]).is_ok());
        let error = check_room("it", [&text; 257]).unwrap_err();
        assert!(error.message().contains("256 MiB"), "{error}");
        let value = json!({"key": [null, "text"]});
        let size = 4 * size_of::<Value>() + size_of::<String>() + 7;
        assert_eq!((take_room(&value, size), take_room(&value, size - 1)), (Some(0), None));
    }

    #[test]
    fn it_gives_what_serde_json_gives() {
        let shapes = [
            Shape::Unit,
            Shape::Newtype(Some(-5)),
            Shape::Tuple(7, vec![0.1, -0.0, 1e300]),
            Shape::Struct { text: "ü\n".into(), nested: Some(Box::new(Shape::Unit)) },
        ];
        assert_eq!(to_value(&shapes).unwrap(), serde_json::to_value(&shapes).unwrap());
        assert_eq!(to_value(&u64::MAX).unwrap(), json!(u64::MAX));
        assert_eq!(to_value(&i128::from(i64::MIN)).unwrap(), json!(i64::MIN));
        assert_eq!(to_value(&0.1f32).unwrap(), serde_json::to_value(0.1f32).unwrap());
        assert_eq!(to_value(b"ab".as_slice()).unwrap(), json!([97, 98]));
        assert_eq!(to_value(&()).unwrap(), Value::Null);
    }

    #[test]
    fn a_complaint_has_its_place_and_quotes_no_value() {
        fn complaint<T: DeserializeOwned + std::fmt::Debug>(value: &Value) -> (String, String) {
            let error = from_value::<T>(value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SerializationError);
            assert!(!error.to_string().contains("secret"), "{error}");
            (error.context_value("at").unwrap().into(), error.message().into())
        }
        let (at, message) = complaint::<BTreeMap<String, Vec<Shape>>>(
            &json!({ "a": [], "b/c": ["Unit", { "Struct": { "text": 5, "nested": null } }] }),
        );
        assert_eq!(at, "/b~1c/1/Struct/text");
        assert_eq!(message, "invalid type: integer, expected a string");
        let (at, message) = complaint::<Vec<Shape>>(&json!(["Unit", "secret`, expected x"]));
        assert_eq!(at, "/1");
        assert!(message.starts_with("unknown variant, expected one of `Unit`"), "{message}");
        let (at, message) =
            complaint::<Vec<Shape>>(&json!([{ "Struct": { "text": "secret" } , "x": 1}]));
        assert!(at.starts_with("/0") && !message.is_empty(), "{at} {message}");
        let (at, message) = complaint::<Shape>(&json!({ "Struct": {} }));
        assert_eq!((at.as_str(), message.as_str()), ("/Struct", "missing field `text`"));
        let (at, _) = complaint::<u8>(&json!("\"secret, expected \""));
        assert_eq!(at, "(whole value)");
        let (at, _) = complaint::<(u8, u8)>(&json!([1, 256]));
        assert_eq!(at, "/1");
        let (_, message) = complaint::<crate::RunId>(&json!("\"secret\" and 'secret'"));
        assert!(!message.is_empty());
    }

    type Sample = BTreeMap<i64, (Shape, Option<Option<bool>>, u128, f32)>;

    fn shape() -> impl Strategy<Value = Shape> {
        let leaf = prop_oneof![
            Just(Shape::Unit),
            any::<Option<i64>>().prop_map(Shape::Newtype),
            (any::<u8>(), prop::collection::vec(prop::num::f64::ANY, 0..3))
                .prop_map(|(number, floats)| Shape::Tuple(number, floats)),
        ];
        leaf.prop_recursive(4, 16, 2, |inner| {
            (any::<String>(), prop::option::of(inner))
                .prop_map(|(text, nested)| Shape::Struct { text, nested: nested.map(Box::new) })
        })
    }

    fn sample() -> impl Strategy<Value = Sample> {
        let number = prop_oneof![any::<u64>().prop_map(u128::from), any::<u128>()];
        let entry = (shape(), any::<Option<Option<bool>>>(), number, prop::num::f32::ANY);
        prop::collection::btree_map(any::<i64>(), entry, 0..4)
    }

    fn is_faithful(shape: &Shape) -> bool {
        match shape {
            Shape::Unit | Shape::Newtype(_) => true,
            Shape::Tuple(_, floats) => floats.iter().all(|float| float.is_finite()),
            Shape::Struct { nested, .. } => nested.as_deref().is_none_or(is_faithful),
        }
    }

    proptest! {
        #[test]
        fn what_passes_reads_back_equal_and_nothing_else_passes(value in sample()) {
            let faithful = value.values().all(|(shape, option, number, float)| {
                is_faithful(shape)
                    && *option != Some(None)
                    && u64::try_from(*number).is_ok()
                    && float.is_finite()
            });
            match to_value(&value) {
                Ok(json) => {
                    prop_assert!(faithful);
                    let text: Value = serde_json::from_str(&json.to_string()).unwrap();
                    prop_assert_eq!(&text, &json);
                    prop_assert_eq!(from_value::<Sample>(&json).unwrap(), value);
                }
                Err(error) => prop_assert!(!faithful, "{}", error),
            }
        }
    }
}
