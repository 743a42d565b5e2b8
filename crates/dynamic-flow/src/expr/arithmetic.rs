//! Arithmetic over numbers of any types, texts, lists, times and durations.

use super::{
    eval::Eval,
    meter::{Fail, Meter, bytes},
    program::Operator,
    value::{List, Val},
};

/// Says which types an operator does not work for; never which values.
pub(super) fn mismatch<'a>(operator: Operator, one: &Val<'_>, two: &Val<'_>) -> Eval<'a> {
    let (one, two) = (one.type_name(), two.type_name());
    Fail::because(format!("{} does not work for {one} and {two}", operator.sign()))
}

/// `-x`.
pub(super) fn negate<'a>(val: &Val<'_>) -> Eval<'a> {
    match val {
        Val::Double(double) => Ok(Val::Double(-double)),
        Val::Int(_) | Val::Uint(_) => match val.as_integer().and_then(|x| Val::integer(-x)) {
            Some(val) => Ok(val),
            None => Fail::because("- overflows"),
        },
        Val::Duration(duration) => match duration.checked_neg() {
            Some(duration) => Ok(Val::Duration(duration)),
            None => Fail::because("- overflows"),
        },
        other => Fail::because(format!("- does not work for {}", other.type_name())),
    }
}

/// `+`, `-`, `*`, `/` and `%`. A double on one side makes a double of the other.
pub(super) fn compute<'a>(
    operator: Operator,
    one: &Val<'a>,
    two: &Val<'a>,
    meter: &Meter,
) -> Eval<'a> {
    if let (Some(x), Some(y)) = (one.as_integer(), two.as_integer()) {
        return integers(operator, one, two, x, y);
    }
    if let (Some(x), Some(y)) = (one.as_double(), two.as_double()) {
        return match operator {
            Operator::Add => Ok(Val::Double(x + y)),
            Operator::Subtract => Ok(Val::Double(x - y)),
            Operator::Multiply => Ok(Val::Double(x * y)),
            Operator::Divide => Ok(Val::Double(x / y)),
            _ => mismatch(operator, one, two),
        };
    }
    match (operator, one, two) {
        (Operator::Add, Val::Text(x), Val::Text(y)) => {
            meter.spend(bytes(x.len() + y.len()))?;
            Ok(Val::text([&**x, &**y].concat()))
        }
        (Operator::Add, Val::Bytes(x), Val::Bytes(y)) => {
            meter.spend(bytes(x.len() + y.len()))?;
            Ok(Val::Bytes([&**x, &**y].concat().into()))
        }
        (Operator::Add, Val::List(x), Val::List(y)) => {
            meter.spend(2 * (x.len() + y.len()))?;
            Ok(Val::List(List::Shared(x.iter().chain(y.iter()).collect())))
        }
        _ => times(operator, one, two),
    }
}

fn integers<'a>(operator: Operator, one: &Val<'a>, two: &Val<'a>, x: i128, y: i128) -> Eval<'a> {
    if y == 0 && matches!(operator, Operator::Divide | Operator::Remainder) {
        return Fail::because("division by zero");
    }
    let result = match operator {
        Operator::Add => x.checked_add(y),
        Operator::Subtract => x.checked_sub(y),
        Operator::Multiply => x.checked_mul(y),
        Operator::Divide => x.checked_div(y),
        Operator::Remainder => x.checked_rem(y),
        _ => return mismatch(operator, one, two),
    };
    let val = result.and_then(|result| match (one, two) {
        (Val::Uint(_), Val::Uint(_)) => u64::try_from(result).ok().map(Val::Uint),
        (Val::Int(_), Val::Int(_)) => i64::try_from(result).ok().map(Val::Int),
        _ => Val::integer(result),
    });
    match val {
        Some(val) => Ok(val),
        None => Fail::because(format!("{} overflows", operator.sign())),
    }
}

fn times<'a>(operator: Operator, one: &Val<'a>, two: &Val<'a>) -> Eval<'a> {
    use Operator::{Add, Subtract};
    let val = match (operator, one, two) {
        (Add, Val::Timestamp(time), Val::Duration(by))
        | (Add, Val::Duration(by), Val::Timestamp(time)) => {
            time.checked_add(*by).ok().map(Val::Timestamp)
        }
        (Subtract, Val::Timestamp(time), Val::Duration(by)) => {
            time.checked_sub(*by).ok().map(Val::Timestamp)
        }
        (Subtract, Val::Timestamp(one), Val::Timestamp(two)) => {
            Some(Val::Duration(one.duration_since(*two)))
        }
        (Add, Val::Duration(one), Val::Duration(two)) => one.checked_add(*two).map(Val::Duration),
        (Subtract, Val::Duration(one), Val::Duration(two)) => {
            one.checked_sub(*two).map(Val::Duration)
        }
        _ => return mismatch(operator, one, two),
    };
    match val {
        Some(val) => Ok(val),
        None => Fail::because(format!("{} leaves the range of times", operator.sign())),
    }
}
