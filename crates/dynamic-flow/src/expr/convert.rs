//! Conversions between types: `int(x)`, `string(x)`, …

use std::str::FromStr;

use super::{
    eval::Eval,
    functions::Given,
    meter::bytes,
    value::{Val, duration_text},
};

/// Longest text that is read as a number, in bytes.
const MAX_NUMBER: usize = 64;

/// Reads a text as a number; one that is too long is none.
fn parsed<T: FromStr>(text: &str) -> Option<T> {
    if text.len() <= MAX_NUMBER { text.parse().ok() } else { None }
}

pub(super) fn to_bool<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    match &given.args[0] {
        Val::Bool(bool) => Ok(Val::Bool(*bool)),
        Val::Text(text) => match &**text {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Val::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Val::Bool(false)),
            _ => given.refuse("the text is neither true nor false"),
        },
        _ => given.mismatch(),
    }
}

pub(super) fn to_int<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    let int = match &given.args[0] {
        Val::Int(int) => Some(*int),
        Val::Uint(uint) => i64::try_from(*uint).ok(),
        Val::Double(double) => whole(*double).and_then(|whole| i64::try_from(whole).ok()),
        Val::Text(text) => match parsed(text) {
            Some(int) => Some(int),
            None => return given.refuse("the text is no whole number"),
        },
        Val::Timestamp(timestamp) => Some(timestamp.as_second()),
        Val::Duration(duration) => Some(duration.as_secs()),
        _ => return given.mismatch(),
    };
    int.map_or_else(|| given.refuse("out of range"), |int| Ok(Val::Int(int)))
}

pub(super) fn to_uint<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    let uint = match &given.args[0] {
        Val::Int(int) => u64::try_from(*int).ok(),
        Val::Uint(uint) => Some(*uint),
        Val::Double(double) => whole(*double).and_then(|whole| u64::try_from(whole).ok()),
        Val::Text(text) => match parsed(text) {
            Some(uint) => Some(uint),
            None => return given.refuse("the text is no whole number from 0"),
        },
        _ => return given.mismatch(),
    };
    uint.map_or_else(|| given.refuse("out of range"), |uint| Ok(Val::Uint(uint)))
}

/// Cuts off what is behind the point; nothing for NaN and what no integer can hold.
fn whole(double: f64) -> Option<i128> {
    (double.abs() < 2f64.powi(65)).then(|| double.trunc() as i128)
}

pub(super) fn to_double<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    match &given.args[0] {
        Val::Text(text) => match parsed(text) {
            Some(double) => Ok(Val::Double(double)),
            None => given.refuse("the text is no number"),
        },
        other => match other.as_double() {
            Some(double) => Ok(Val::Double(double)),
            None => given.mismatch(),
        },
    }
}

pub(super) fn to_string<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    Ok(match &given.args[0] {
        text @ Val::Text(_) => text.clone(),
        Val::Bool(bool) => Val::text(bool.to_string()),
        Val::Int(int) => Val::text(int.to_string()),
        Val::Uint(uint) => Val::text(uint.to_string()),
        Val::Double(double) => {
            given.meter.spend(bytes(512))?;
            Val::text(double.to_string())
        }
        Val::Timestamp(timestamp) => Val::text(timestamp.to_string()),
        Val::Duration(duration) => Val::text(duration_text(*duration)),
        Val::Bytes(data) => {
            given.meter.spend(bytes(2 * data.len()))?;
            match std::str::from_utf8(data) {
                Ok(text) => Val::text(text),
                Err(_) => return given.refuse("the bytes are no UTF-8"),
            }
        }
        Val::Type(name) => Val::text(*name),
        _ => return given.mismatch(),
    })
}

pub(super) fn to_bytes<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    match &given.args[0] {
        Val::Text(text) => {
            given.meter.spend(bytes(text.len()))?;
            Ok(Val::Bytes(text.as_bytes().into()))
        }
        data @ Val::Bytes(_) => Ok(data.clone()),
        _ => given.mismatch(),
    }
}
