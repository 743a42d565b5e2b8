//! Points in time and durations. There is no "now": an expression gives the same each time.

use jiff::{
    SignedDuration, Timestamp,
    tz::{Offset, TimeZone},
};

use super::{eval::Eval, functions::Given, meter::Fail, value::Val};

/// Longest text that is read as a time, a duration or a time zone.
const MAX_TEXT: usize = 64;

/// What can be asked of a point in time; the last four of a duration too.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Part {
    Year,
    /// From 0.
    Month,
    /// Day of the month, from 1.
    Date,
    /// Day of the month, from 0.
    DayOfMonth,
    /// From 0, which is Sunday.
    DayOfWeek,
    /// From 0.
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

/// Reads RFC 3339 text, or seconds since 1970.
pub(super) fn timestamp<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    let timestamp = match &given.args[0] {
        Val::Timestamp(timestamp) => Some(*timestamp),
        Val::Int(seconds) => Timestamp::from_second(*seconds).ok(),
        Val::Text(text) if text.len() <= MAX_TEXT => text.parse().ok(),
        Val::Text(_) => None,
        _ => return given.mismatch(),
    };
    match timestamp {
        Some(timestamp) => Ok(Val::Timestamp(timestamp)),
        None => given.refuse("it is no time such as 2026-01-31T12:00:00Z"),
    }
}

/// Reads text such as `1h30m` or `1.5s`, or seconds.
pub(super) fn duration<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    let duration = match &given.args[0] {
        Val::Duration(duration) => Some(*duration),
        Val::Int(seconds) => Some(SignedDuration::from_secs(*seconds)),
        Val::Text(text) if text.len() <= MAX_TEXT => text.parse().ok(),
        Val::Text(_) => None,
        _ => return given.mismatch(),
    };
    match duration {
        Some(duration) => Ok(Val::Duration(duration)),
        None => given.refuse("it is no duration such as 1h30m"),
    }
}

pub(super) fn part<'a>(given: &Given<'_, 'a>, part: Part) -> Eval<'a> {
    given.meter.spend(20)?;
    match given.args {
        [Val::Duration(duration)] => of_duration(given, *duration, part),
        [Val::Timestamp(timestamp)] => Ok(Val::Int(of_time(*timestamp, TimeZone::UTC, part))),
        [Val::Timestamp(timestamp), Val::Text(name)] => {
            Ok(Val::Int(of_time(*timestamp, zone(given, name)?, part)))
        }
        _ => given.mismatch(),
    }
}

fn of_duration<'a>(given: &Given<'_, 'a>, duration: SignedDuration, part: Part) -> Eval<'a> {
    Ok(Val::Int(match part {
        Part::Hours => duration.as_hours(),
        Part::Minutes => duration.as_mins(),
        Part::Seconds => duration.as_secs(),
        Part::Milliseconds => i64::from(duration.subsec_millis()),
        _ => return given.mismatch(),
    }))
}

fn of_time(timestamp: Timestamp, zone: TimeZone, part: Part) -> i64 {
    let time = timestamp.to_zoned(zone);
    match part {
        Part::Year => time.year().into(),
        Part::Month => i64::from(time.month()) - 1,
        Part::Date => time.day().into(),
        Part::DayOfMonth => i64::from(time.day()) - 1,
        Part::DayOfWeek => time.weekday().to_sunday_zero_offset().into(),
        Part::DayOfYear => i64::from(time.day_of_year()) - 1,
        Part::Hours => time.hour().into(),
        Part::Minutes => time.minute().into(),
        Part::Seconds => time.second().into(),
        Part::Milliseconds => time.millisecond().into(),
    }
}

/// A name such as `Europe/Berlin` or an offset such as `+02:00`.
fn zone(given: &Given<'_, '_>, name: &str) -> Result<TimeZone, Fail> {
    given.meter.spend(200)?;
    let known = match offset(name) {
        Some(offset) => Some(TimeZone::fixed(offset)),
        None if name.len() <= MAX_TEXT => TimeZone::get(name).ok(),
        None => None,
    };
    known.map_or_else(|| given.refuse("there is no such time zone"), Ok)
}

fn offset(name: &str) -> Option<Offset> {
    let (sign, digits) = match (name.strip_prefix('-'), name.strip_prefix('+')) {
        (Some(digits), _) => (-1, digits),
        (None, digits) => (1, digits.unwrap_or(name)),
    };
    let (hours, minutes) = digits.split_once(':')?;
    let two = |text: &str| {
        let fits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| text.parse::<i32>().ok()).flatten()
    };
    let minutes = two(minutes).filter(|minutes| *minutes < 60)?;
    Offset::from_seconds(sign * (two(hours)? * 3_600 + minutes * 60)).ok()
}
