//! What an expression may come to, as far as it says so itself.

use serde_json::Value;

use crate::expr::Compute;

/// One of the ways in which a computation may end.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Leaf {
    /// In this very value.
    Known(Value),
    /// In whatever is computed.
    Unknown,
}

/// What a computation may come to: the constant, or the literals among the branches of
/// `… ? … : …`.
///
/// The source was compiled before, so it is a right expression: only quotes, brackets and the
/// marks of conditionals have to be told apart here. What looks unusual is not known.
pub(super) fn leaves(compute: &Compute) -> Vec<Leaf> {
    match compute {
        Compute::Value(value) => vec![Leaf::Known(value.clone())],
        Compute::Cel(cel) => branches(cel.source()).unwrap_or_else(|| vec![Leaf::Unknown]),
        _ => vec![Leaf::Unknown],
    }
}

fn branches(source: &str) -> Option<Vec<Leaf>> {
    let mut found = Vec::new();
    let mut open = vec![source];
    while let Some(part) = open.pop() {
        let part = part.trim();
        let marks = marks(part)?;
        match marks.as_slice() {
            [('(', 0), (')', last)] if last + 1 == part.len() => open.push(&part[1..*last]),
            _ => match conditional(part, &marks) {
                Some((then, otherwise)) => open.extend([otherwise, then]),
                None => found.push(literal(part)),
            },
        }
    }
    Some(found)
}

/// The outermost parentheses, `?` and `:` of an expression, with their places.
fn marks(source: &str) -> Option<Vec<(char, usize)>> {
    let bytes = source.as_bytes();
    let mut marks = Vec::new();
    let mut depth = 0usize;
    let mut at = 0;
    while at < bytes.len() {
        let c = bytes[at];
        match c {
            b'\'' | b'"' => {
                let raw = at > 0 && bytes[at - 1].eq_ignore_ascii_case(&b'r');
                let tripled = bytes[at..].starts_with(&[c, c, c]);
                if raw || tripled {
                    return None;
                }
                at += 1;
                while at < bytes.len() && bytes[at] != c {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => return None,
            b'(' | b'[' | b'{' => {
                if depth == 0 && c == b'(' {
                    marks.push(('(', at));
                }
                depth += 1;
            }
            b')' | b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 && c == b')' {
                    marks.push((')', at));
                }
            }
            b'?' if at > 0 && bytes[at - 1] == b'.' => return None,
            b'?' | b':' if depth == 0 => marks.push((char::from(c), at)),
            _ => {}
        }
        at += 1;
    }
    Some(marks)
}

/// The two branches of a conditional.
fn conditional<'s>(source: &'s str, marks: &[(char, usize)]) -> Option<(&'s str, &'s str)> {
    let (_, question) = *marks.iter().find(|(mark, _)| *mark == '?')?;
    let (_, colon) = *marks.iter().find(|(mark, at)| *mark == ':' && *at > question)?;
    Some((&source[question + 1..colon], &source[colon + 1..]))
}

fn literal(source: &str) -> Leaf {
    let quoted = |quote: char| {
        let inner = source.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inner.contains(quote) && !inner.contains('\\')).then(|| Value::from(inner))
    };
    // Numbers, names of constants and most texts in double quotes are written as in JSON.
    let plain = || serde_json::from_str(source).ok().filter(|value: &Value| !value.is_array());
    quoted('\'').or_else(plain).map_or(Leaf::Unknown, Leaf::Known)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::expr::Cel;

    #[test]
    fn branches_are_found() {
        let of = |source: &str| leaves(&Compute::Cel(Cel::compile(source).unwrap()));
        let known = |value: Value| Leaf::Known(value);
        assert_eq!(
            of("value.a ? 'x' : (value.b ? \"y\" : value.c)"),
            [known(json!("x")), known(json!("y")), Leaf::Unknown]
        );
        assert_eq!(of("true ? 1 : 2.5"), [known(json!(1)), known(json!(2.5))]);
        assert_eq!(
            of("(value.a\n) ? \"x\" : ((value.b\n) ? \"y\" : (''))"),
            [known(json!("x")), known(json!("y")), known(json!(""))]
        );
        assert_eq!(of("value.a == '?:(' ? 'b?' : 'c:'"), [known(json!("b?")), known(json!("c:"))]);
        assert_eq!(of("('x')"), [known(json!("x"))]);
        assert_eq!(of("(value.a) + (value.b)"), [Leaf::Unknown]);
        assert_eq!(of("{'a': value.b ? 1 : 2}"), [Leaf::Unknown]);
        assert_eq!(of("r'x'"), [Leaf::Unknown]);
        assert_eq!(of("'x' // no, 'y'"), [Leaf::Unknown]);
        assert_eq!(of("'x' == 'y'"), [Leaf::Unknown]);
        assert_eq!(of("value.a"), [Leaf::Unknown]);
        assert_eq!(of("'a' + 'b'"), [Leaf::Unknown]);
        assert_eq!(leaves(&Compute::Value(json!("x"))), [known(json!("x"))]);
    }
}
