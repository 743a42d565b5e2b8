//! What a text without quotes is: a number, a truth value, nothing, or text.

use serde_json::Number;

use super::node::Data;

/// What a plain scalar is in the core schema of YAML 1.2: `no`, `on` and dates are text.
pub(super) fn scalar(text: &str) -> Result<Data, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Data::Null,
        "true" | "True" | "TRUE" => Data::Bool(true),
        "false" | "False" | "FALSE" => Data::Bool(false),
        _ => match number(text) {
            Some(Some(number)) => Data::Number(number),
            Some(None) => {
                return Err(format!(
                    "{} can't be kept exactly as a number; put it in quotes to make it text",
                    text.chars().take(40).collect::<String>()
                ));
            }
            None => Data::Text(text.to_owned()),
        },
    })
}

/// None if it is no number; `Some(None)` if it is one that JSON can't hold.
fn number(text: &str) -> Option<Option<Number>> {
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let whole = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
            return whole.then(|| u64::from_str_radix(digits, radix).ok().map(Number::from));
        }
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(None);
    }
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !unsigned.is_empty() && all_digits(unsigned) {
        let positive = || text.trim_start_matches('+').parse::<u64>().map(Number::from);
        return Some(text.parse::<i64>().map(Number::from).or_else(|_| positive()).ok());
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let is_float = all_digits(whole)
        && all_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && !exponent.is_empty()
        && all_digits(exponent);
    is_float.then(|| text.parse().ok().and_then(Number::from_f64))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::node::{Node, Place},
        *,
    };

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for (texts, expected) in [
            ("no on yes off y 2026-11-23 1_000 1:30 e3 . 0x nULL", None),
            ("~ null Null NULL", Some(json!(null))),
            ("true True TRUE", Some(json!(true))),
            ("false False FALSE", Some(json!(false))),
            ("0x1F 31 +31", Some(json!(31))),
            ("0o17 15 015", Some(json!(15))),
            ("-3", Some(json!(-3))),
            ("18446744073709551615", Some(json!(u64::MAX))),
            ("1.5 +1.5 15e-1", Some(json!(1.5))),
            (".5 0.5", Some(json!(0.5))),
            ("5. 5.0", Some(json!(5.0))),
            ("1e3 1E+3", Some(json!(1000.0))),
        ] {
            for text in texts.split(' ') {
                let read = Node::new(Place::START, scalar(text).unwrap()).to_value();
                let expected = expected.clone().unwrap_or_else(|| Value::from(text));
                assert_eq!(read, expected, "{text}");
            }
        }
        assert_eq!(scalar(""), Ok(Data::Null));
    }

    #[test]
    fn numbers_that_json_would_change_are_refused() {
        for text in [".inf", "-.INF", ".nan", "1e999", "18446744073709551616"] {
            let told = scalar(text).unwrap_err();
            assert!(told.starts_with(text) && told.contains("quotes"), "{told}");
        }
    }
}
