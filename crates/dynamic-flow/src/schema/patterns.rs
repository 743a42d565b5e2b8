//! How much memory the regular expressions of a schema take, and what a byte of text costs them.

use regex::RegexBuilder;
use serde_json::{Map, Value};

/// How much memory one may take, compiled.
pub(super) const MAX_PATTERN_BYTES: usize = 1 << 20;
/// How much memory all of a schema may take together.
pub(super) const MAX_PATTERNS_BYTES: usize = 16 << 20;
/// The sizes by which they are told apart.
const SIZES: [usize; 3] = [8 << 10, 64 << 10, 256 << 10];

/// The patterns of a schema itself: of its text, and of the names of its fields.
pub(super) fn of(keywords: &Map<String, Value>) -> (Option<&str>, impl Iterator<Item = &str>) {
    let names = keywords.get("patternProperties").and_then(Value::as_object);
    let names = names.into_iter().flat_map(Map::keys).map(String::as_str);
    (keywords.get("pattern").and_then(Value::as_str), names)
}

/// How many patterns there may be in a value that may be no schema.
pub(super) fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => {
            let (text, names) = of(fields);
            usize::from(text.is_some()) + names.count() + fields.values().map(count).sum::<usize>()
        }
        _ => 0,
    }
}

/// How much memory a pattern takes at most. One that can't be read is refused elsewhere.
pub(super) fn size(pattern: &str) -> usize {
    // In a schema these are ASCII, as in JavaScript.
    let pattern = pattern.replace("\\d", "[0-9]").replace("\\w", "[0-9A-Za-z_]");
    let fits = |size: &usize| RegexBuilder::new(&pattern).size_limit(*size).build().is_ok();
    SIZES.into_iter().find(fits).unwrap_or(MAX_PATTERN_BYTES)
}

/// How many checks it counts as to match one byte of text: a few for what is small; what is large
/// may go through all its states for each byte.
pub(super) fn checks_of_a_byte(size: usize) -> usize {
    size / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_told_apart_by_their_size() {
        for (pattern, expected) in [
            ("^[^<>]*$", 8 << 10),
            ("^[\\w.-]{1,20}-\\d{4}$", 8 << 10),
            ("^[a-z0-9-]{1,63}$", 64 << 10),
            ("^[ab]*a[ab]{2000}c", 256 << 10),
            ("\\p{L}{20}N", MAX_PATTERN_BYTES),
            ("(?=a)b", MAX_PATTERN_BYTES),
        ] {
            assert_eq!(size(pattern), expected, "{pattern}");
        }
    }
}
