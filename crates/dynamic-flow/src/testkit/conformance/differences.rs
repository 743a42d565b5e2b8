//! What differs between a record and what it should be: a whole one is too long to be compared by eye.

use std::{error::Error, fmt::Write as _};

use serde::Serialize;
use serde_json::Value;

/// As `assert_eq!`, for records and lists of them: says which fields differ, and nothing of the others.
macro_rules! assert_same {
    ($there:expr, $expected:expr $(,)?) => {
        assert_same!($there, $expected, "what is there is not what should be")
    };
    ($there:expr, $expected:expr, $($what:tt)+) => {
        match (&$there, &$expected) {
            (there, expected) => if !(*there == *expected) {
                let what = format!($($what)+);
                let differences = crate::testkit::conformance::differences::told(there, expected);
                panic!("{what}:{differences}");
            }
        }
    };
}

/// How many differences are told.
const MOST: usize = 10;
/// How many characters of a value are told.
const LENGTH: usize = 100;

/// The differences between two values, a line for each.
pub(super) fn told(there: &impl Serialize, expected: &impl Serialize) -> String {
    let differences = differences(there, expected)
        .unwrap_or_else(|error| vec![format!("they can't be compared: {error}")]);
    let mut text = String::new();
    for difference in differences.iter().take(MOST) {
        // Writing to a text can't fail.
        write!(text, "\n  {difference}").ok();
    }
    match differences.len().checked_sub(MOST) {
        None | Some(0) => text,
        Some(more) => format!("{text}\n  and {more} more"),
    }
}

fn differences(
    there: &impl Serialize,
    expected: &impl Serialize,
) -> Result<Vec<String>, Box<dyn Error>> {
    let (there, expected) = (serde_json::to_value(there)?, serde_json::to_value(expected)?);
    let mut found = Vec::new();
    compare("", Some(&there), Some(&expected), &mut found);
    Ok(found)
}

/// Compares what is at a place of both values.
fn compare(place: &str, there: Option<&Value>, expected: Option<&Value>, found: &mut Vec<String>) {
    match (there, expected) {
        (Some(Value::Object(there)), Some(Value::Object(expected))) => {
            let added = there.keys().filter(|name| !expected.contains_key(*name));
            for name in expected.keys().chain(added) {
                let inner = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                compare(&inner, there.get(name), expected.get(name), found);
            }
        }
        (Some(Value::Array(there)), Some(Value::Array(expected))) => {
            for n in 0..there.len().max(expected.len()) {
                compare(&format!("{place}[{n}]"), there.get(n), expected.get(n), found);
            }
        }
        (there, expected) if there != expected => {
            let place = if place.is_empty() { "it" } else { place };
            found.push(format!("{place} is {}, not {}", brief(there), brief(expected)));
        }
        _ => {}
    }
}

/// A value in a few characters; of a long one, how long it is, too.
fn brief(value: Option<&Value>) -> String {
    let Some(value) = value else { return "not there".into() };
    let text = value.to_string();
    match text.char_indices().nth(LENGTH) {
        None => text,
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::{Lease, Record, Summary},
        testkit::conformance::build::{at, full, id, plain, sealed},
    };

    #[test]
    fn only_what_differs_is_told() {
        let expected = full(id(1));
        let there = Record {
            lease: Some(Lease { owner: "worker-1".into(), until: at(8_001) }),
            inbox: expected.inbox[..1].to_vec(),
            snapshot: sealed(&"x".repeat(500)),
            ..expected.clone()
        };
        let told = told(&there, &expected);
        let lines: Vec<_> = told.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 3, "{told}");
        for (line, begin) in
            lines.iter().zip(["lease.until is ", "snapshot is \"", "inbox[1] is not there, not "])
        {
            assert!(line.starts_with(begin) && line.len() < 300, "{told}");
        }
    }

    #[test]
    fn a_list_of_many_others_is_told_in_few_lines() {
        let all = |n: u64| (0..50).map(|i| Summary::from(&plain(id(i + n)))).collect::<Vec<_>>();
        let told = told(&all(1), &all(0));
        assert_eq!(told.lines().count(), 1 + MOST + 1, "{told}");
        assert!(told.contains("and 40 more"), "{told}");
    }

    #[test]
    #[should_panic(expected = "round 7:\n  attempts is 3, not 2")]
    fn a_failure_says_what_was_looked_at() {
        let expected = full(id(1));
        assert_same!(Record { attempts: 3, ..expected.clone() }, expected, "round {}", 7);
    }
}
