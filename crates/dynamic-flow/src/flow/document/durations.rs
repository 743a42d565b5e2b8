//! Durations as people write them.

use std::time::Duration;

use crate::{Error, ErrorKind, Result};

/// The longest duration that can be written: a hundred years of 365 days.
const MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Reads a duration such as `500ms`, `30s`, `4h`, `7d`, `1h30m`, or ISO 8601 such as `PT4H`.
///
/// A day has 24 hours; months and years, which have no fixed length, are refused, as are negative
/// durations, parts of a millisecond, and more than a hundred years.
///
/// # Errors
/// `InvalidArgument` saying what is wrong with it.
///
/// ```
/// use dynamic_flow::{flow::parse_duration, hours, minutes};
/// assert_eq!(parse_duration("1h30m").unwrap(), minutes(90));
/// assert_eq!(parse_duration("PT4H").unwrap(), hours(4));
/// assert!(parse_duration("30").is_err());
/// ```
pub fn parse_duration(text: &str) -> Result<Duration> {
    let refuse = |message: &str| {
        let shown: String = text.chars().take(40).collect();
        Error::new(ErrorKind::InvalidArgument, format!("{shown:?} {message}"))
    };
    let too_long = "is more than a hundred years";
    let span: jiff::Span = text.trim().parse().map_err(|_| {
        // With smaller numbers it would be one.
        match with_small_numbers(text).trim().parse::<jiff::Span>() {
            Ok(_) => refuse(too_long),
            Err(_) => {
                refuse("is not a duration; write it like 500ms, 30s, 5m, 4h, 7d, 1h30m or PT4H")
            }
        }
    })?;
    if span.get_years() != 0 || span.get_months() != 0 {
        return Err(refuse("has months or years, which have no fixed length; write days"));
    }
    if span.is_negative() {
        return Err(refuse("is negative"));
    }
    let nanos = [
        (i64::from(span.get_weeks()), 7 * 24 * 60 * 60 * 1_000_000_000),
        (i64::from(span.get_days()), 24 * 60 * 60 * 1_000_000_000),
        (i64::from(span.get_hours()), 60 * 60 * 1_000_000_000),
        (span.get_minutes(), 60 * 1_000_000_000),
        (span.get_seconds(), 1_000_000_000),
        (span.get_milliseconds(), 1_000_000),
        (span.get_microseconds(), 1_000),
        (span.get_nanoseconds(), 1),
    ]
    .into_iter()
    .map(|(count, unit)| i128::from(count) * unit)
    .sum::<i128>();
    if nanos % 1_000_000 != 0 {
        return Err(refuse("has a part of a millisecond; durations are whole milliseconds"));
    }
    let duration = Duration::from_millis(u64::try_from(nanos / 1_000_000).unwrap_or(u64::MAX));
    if duration > MAX {
        return Err(refuse(too_long));
    }
    Ok(duration)
}

/// A text with `1` in the place of each number.
fn with_small_numbers(text: &str) -> String {
    let mut small = String::new();
    let mut in_number = false;
    for c in text.chars() {
        match (in_number, c.is_ascii_digit()) {
            (true, true) => {}
            (_, true) => small.push('1'),
            (_, false) => small.push(c),
        }
        in_number = c.is_ascii_digit();
    }
    small
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("4h", 14_400_000),
            ("7d", 604_800_000),
            ("2w", 1_209_600_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1d12h", 129_600_000),
            ("1.5h", 5_400_000),
            ("90 minutes", 5_400_000),
            ("PT4H", 14_400_000),
            ("P1DT2H", 93_600_000),
            ("PT0.25S", 250),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for (text, why) in [
            ("", "not a duration"),
            ("30", "not a duration"),
            ("four hours", "not a duration"),
            ("4h4", "not a duration"),
            ("-4h", "negative"),
            ("4h ago", "negative"),
            ("1mo", "no fixed length"),
            ("P1Y", "no fixed length"),
            ("10us", "part of a millisecond"),
            ("40000d", "a hundred years"),
            ("99999999d", "a hundred years"),
            ("99999999999999999999s", "a hundred years"),
            ("1d99999999999h", "a hundred years"),
        ] {
            let message = parse_duration(text).unwrap_err().to_string();
            assert!(message.contains(why), "{text}: {message}");
        }
    }
}
