//! Words on the command line and in the settings: times, durations, metadata.

use std::{
    io::{self, Read as _},
    time::Duration,
};

use dynamic_flow::{Error, RunId, Scalar, Timestamp, flow::parse_duration};
use jiff::{civil::Date, tz::TimeZone};
use serde_json::Value;

use crate::failure::usage;

/// A name with a value, as in `--metadata department=radiology`.
pub(crate) type Pair = (String, Scalar);

/// A point in time, or one relative to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    At(Timestamp),
    Relative(Duration),
}

impl Moment {
    /// The point in time, where a duration means so long ago.
    pub(crate) fn ago(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Relative(duration) => now.before(duration),
        }
    }

    /// The point in time, where a duration means so long from now.
    pub(crate) fn ahead(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Relative(duration) => now.after(duration),
        }
    }
}

/// Reads a run's id, or a cursor, which is one.
pub(crate) fn run(text: &str) -> Result<RunId, String> {
    text.parse().map_err(|error: Error| error.message().to_owned())
}

/// Reads the id of a run that is to be started once, or makes it of a time and a name.
pub(crate) fn chosen_run(text: &str) -> Result<RunId, String> {
    let Some((at, name)) = text.split_once('/') else {
        return text.parse().map_err(|_| {
            "neither a UUIDv7 nor a time and a name, as in 2026-11-23/PO-2048".to_owned()
        });
    };
    match moment(at)? {
        Moment::Relative(_) => Err("a time from now is another one each time; say a date, or a \
                                    time such as 2026-11-23T08:00:00Z"
            .into()),
        Moment::At(_) if name.is_empty() => Err("there is no name behind the time".into()),
        // An id holds no earlier time: all of them would be one.
        Moment::At(at) if at.as_millis() < 0 => Err("a run is not created before 1970".into()),
        Moment::At(at) => Ok(RunId::derive(at, name)),
    }
}

pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(at) = text.parse() {
        return Ok(Moment::At(at));
    }
    // A time without a zone reads as its date, too.
    if let Some(date) = text.parse::<Date>().ok().filter(|date| date.to_string() == text) {
        let midnight = date.to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?;
        return Ok(Moment::At(Timestamp::from_millis(midnight.timestamp().as_millisecond())));
    }
    parse_duration(text).map(Moment::Relative).map_err(|_| {
        "neither an RFC 3339 time (2026-11-23T08:00:00Z), a date (2026-11-23) \
         nor a duration (90s, 2h, 3d)"
            .into()
    })
}

/// Reads a text that says something: an empty one comes of a variable that is not set.
pub(crate) fn said(text: &str) -> Result<String, String> {
    match text.trim().is_empty() {
        true => Err("it is empty: leave the option out, or say something".into()),
        false => Ok(text.to_owned()),
    }
}

/// Takes an input as it stands, also one that begins with a minus; but an option in its place means
/// that it was left out.
pub(crate) fn input(text: &str) -> Result<String, String> {
    let is_option = text
        .strip_prefix('-')
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(|c: char| c.is_ascii_digit()));
    match is_option {
        true => Err("it looks like an option, and no JSON begins like that".into()),
        false => Ok(text.to_owned()),
    }
}

/// Reads `NAME=VALUE`: `true`, and numbers that are spelled as JSON writes them, are typed, everything
/// else is a text; so is what stands in double quotes.
pub(crate) fn pair(text: &str) -> Result<Pair, String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("write it as NAME=VALUE, such as department=radiology")?;
    Ok((name.into(), scalar(value)))
}

/// Refuses a name that is given two values: no run has both.
pub(crate) fn once(pairs: &[Pair], option: &str) -> Result<(), Error> {
    for (index, (name, value)) in pairs.iter().enumerate() {
        if pairs[..index].iter().any(|(other, its)| other == name && its != value) {
            let message = format!("{option} gives {name} two values; a run has one of them");
            return Err(usage(message));
        }
    }
    Ok(())
}

fn scalar(text: &str) -> Scalar {
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    if let Some(quoted) = quoted {
        return Scalar::Text(quoted.into());
    }
    if let Ok(value) = text.parse() {
        return Scalar::Bool(value);
    }
    number(text).unwrap_or_else(|| Scalar::Text(text.into()))
}

/// A text as a number, where JSON would write that number just so: whatever else looks like one, such
/// as 01234, +49 or 1e3, may be the name of something, and has to be found by what was typed.
fn number(text: &str) -> Option<Scalar> {
    if let Some(number) = text.parse::<i64>().ok().filter(|it| it.to_string() == text) {
        return Some(Scalar::Int(number));
    }
    let number = text.parse::<f64>().ok().filter(|it| it.is_finite())?;
    (as_json(number) == text).then_some(Scalar::Float(number))
}

/// How JSON spells a number.
fn as_json(number: f64) -> String {
    Value::from(number).to_string()
}

/// The number that is equal and of the other type, by which no run is found that has this one:
/// 6301.0 for 6301.
pub(crate) fn twin(value: &Scalar) -> Option<Scalar> {
    match value {
        // Others have no decimal one that is exactly equal.
        Scalar::Int(number) if number.unsigned_abs() <= 1 << 53 => {
            Some(Scalar::Float(*number as f64))
        }
        Scalar::Float(number) if number.fract() == 0.0 && number.abs() <= (1_u64 << 53) as f64 => {
            Some(Scalar::Int(*number as i64))
        }
        _ => None,
    }
}

/// How many bytes a text may have at the most.
pub(crate) const MOST_READ: u64 = 64 << 20;

/// Reads a text, unless it has no end.
///
/// # Errors
/// `InvalidData`, with the place, for what is not written in UTF-8; `FileTooLarge`.
pub(crate) fn read_text(from: impl io::Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    if from.take(MOST_READ + 1).read_to_end(&mut bytes)? as u64 > MOST_READ {
        let message = format!("it is larger than {} MiB", MOST_READ >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let bytes = error.as_bytes();
        let what = match bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it is UTF-16, not UTF-8".to_owned(),
            _ => {
                let before = &bytes[..error.utf8_error().valid_up_to()];
                let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
                format!("line {line} is not UTF-8")
            }
        };
        io::Error::new(io::ErrorKind::InvalidData, format!("{what}; save it as UTF-8"))
    })
}

/// What documents call a kind of step.
pub(crate) fn verb(kind: &str) -> &str {
    match kind {
        "map" => "set",
        "set" => "let",
        "tool" => "call",
        "catch" => "try",
        "sub_flow" => "flow",
        "sleep" => "wait",
        kind => kind,
    }
}

/// Spells a value so that it can be typed as it is shown: of another type it would be another value.
pub(crate) fn spell(value: &Scalar) -> String {
    match value {
        Scalar::Float(number) => as_json(*number),
        Scalar::Text(text) if scalar(text) != *value => format!("\"{text}\""),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use dynamic_flow::{days, hours, minutes};

    use super::*;

    #[test]
    fn metadata_is_typed_as_it_looks() {
        for (text, value) in [
            ("a=true", Scalar::Bool(true)),
            ("a=1", Scalar::Int(1)),
            ("a=-7", Scalar::Int(-7)),
            ("a=1.5", Scalar::Float(1.5)),
            ("a=1.0", Scalar::Float(1.0)),
            ("a=9223372036854775807", Scalar::Int(i64::MAX)),
            ("a=-9223372036854775808", Scalar::Int(i64::MIN)),
            ("a=True", Scalar::Text("True".into())),
            ("a=", Scalar::Text(String::new())),
            ("a=\"1\"", Scalar::Text("1".into())),
            ("a=x=y", Scalar::Text("x=y".into())),
            ("a=inf", Scalar::Text("inf".into())),
            ("a=-infinity", Scalar::Text("-infinity".into())),
            ("a=1e999", Scalar::Text("1e999".into())),
            ("a=2026-11-23", Scalar::Text("2026-11-23".into())),
        ] {
            assert_eq!(pair(text).unwrap(), ("a".to_owned(), value), "{text}");
        }
        // As a number each of them would be shown otherwise than it was typed.
        for name in [
            "01234",
            "+491234",
            "-0",
            "1.10",
            "1.",
            ".5",
            "1e3",
            "1E3",
            "123456789012345678901",
            "9223372036854775808",
            "0.1000000000000000055511151231257827",
        ] {
            let text = Scalar::Text(name.into());
            assert_eq!(pair(&format!("a={name}")).unwrap().1, text, "{name}");
        }
        assert!(pair("department").is_err());
        assert!(pair("=x").is_err());
    }

    #[test]
    fn an_input_may_begin_with_a_minus_and_is_no_option() {
        for text in ["-5", "-1e-5", "-0.5", "-", "@-", "@--json", "\"--json\"", "", "{}"] {
            assert_eq!(input(text), Ok(text.to_owned()));
        }
        for text in ["--json", "-v", "--", "-.5"] {
            assert!(input(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_run_is_named_by_its_id_or_by_time_and_name() {
        let day = "2026-11-23T00:00:00Z".parse().unwrap();
        let id = RunId::derive(day, "PO-2048");
        for text in ["2026-11-23/PO-2048", "2026-11-23T00:00:00Z/PO-2048", &id.to_string()] {
            assert_eq!(chosen_run(text), Ok(id), "{text}");
        }
        assert_eq!(chosen_run("2026-11-23/a/b"), Ok(RunId::derive(day, "a/b")));
        for text in [
            "PO-2048",
            "",
            "2026-11-23/",
            "2h/PO-2048",
            "soon/PO-2048",
            "/PO-2048",
            "1969-12-31/PO-2048",
            "1969-12-31T23:59:59.999Z/PO-2048",
        ] {
            assert!(chosen_run(text).is_err(), "{text}");
        }
    }

    #[test]
    fn metadata_is_shown_as_it_is_typed() {
        for text in [
            "true",
            "\"true\"",
            "1",
            "1.0",
            "\"1\"",
            "6301.5",
            "radiology",
            "",
            "01234",
            "0.00001",
            "1234567890123456.0",
        ] {
            assert_eq!(spell(&scalar(text)), text);
        }
        for number in [1e-7, 1e15, 1e16, 1e300, -0.0, f64::MAX, f64::MIN_POSITIVE] {
            let spelled = spell(&Scalar::Float(number));
            assert_eq!(scalar(&spelled), Scalar::Float(number), "{spelled}");
        }
    }

    #[test]
    fn a_number_has_a_twin_of_the_other_type() {
        assert_eq!(twin(&Scalar::Int(6301)), Some(Scalar::Float(6301.0)));
        assert_eq!(twin(&Scalar::Float(-7.0)), Some(Scalar::Int(-7)));
        for lonely in [
            Scalar::Float(1.5),
            Scalar::Float(1e300),
            Scalar::Int(i64::MIN),
            Scalar::Text("1".into()),
            Scalar::Bool(true),
        ] {
            assert_eq!(twin(&lonely), None, "{lonely}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_a_duration() {
        let now = Timestamp::from_millis(1_000_000_000_000);
        assert_eq!(moment("2h").unwrap().ago(now), now.before(hours(2)));
        assert_eq!(moment("2h").unwrap().ahead(now), now.after(hours(2)));
        assert_eq!(moment("1d 30m").unwrap().ago(now), now.before(days(1) + minutes(30)));
        let at: Timestamp = "2026-11-23T08:00:00Z".parse().unwrap();
        assert_eq!(moment("2026-11-23T08:00:00Z").unwrap().ahead(now), at);
        assert_eq!(moment("2026-11-23").unwrap().ago(now), at.before(hours(8)));
        assert_eq!(moment("2026-11-23T09:00:00+01:00").unwrap().ago(now), at);
        for wrong in ["", "soon", "2", "-2h", "2026-11-23T08:00", "2026-13-23", "3 parsecs"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
