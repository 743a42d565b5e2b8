//! What an expression may come to, as far as it says so itself.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Compute, Scope,
    eval::Run,
    meter::Meter,
    program::{Fold, Literal, Node, Root},
};
use crate::id::RunId;

/// One of the ways in which a computation may end; it may always fail instead.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome<'e> {
    /// In this very value.
    Known(Value),
    /// In a field of a field … of that, or in all of it.
    Field(Source<'e>, Vec<&'e str>),
    /// In whatever is computed.
    Unknown,
}

/// What an expression sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Source<'e> {
    Value,
    Input,
    Variable(&'e str),
}

impl Compute {
    /// The ways in which it may end: the branches of its conditionals that may be taken. What sees
    /// nothing is worked out, for as long as the meter has something left.
    pub(crate) fn outcomes<'e>(&'e self, meter: &Meter) -> Vec<Outcome<'e>> {
        match self {
            Self::Value(value) => vec![Outcome::Known(value.clone())],
            Self::Cel(cel) => {
                let mut found = Vec::new();
                collect(cel.root(), meter, &mut found);
                found
            }
            _ => vec![Outcome::Unknown],
        }
    }
}

fn collect<'e>(node: &'e Node, meter: &Meter, found: &mut Vec<Outcome<'e>>) {
    let outcome = match (node, known(node, meter)) {
        (_, Some(value)) => Outcome::Known(value),
        (Node::Choice(parts), None) => {
            let [condition, one, two] = &**parts;
            let condition = known(condition, meter);
            if condition != Some(Value::Bool(false)) {
                collect(one, meter, found);
            }
            if condition != Some(Value::Bool(true)) {
                collect(two, meter, found);
            }
            return;
        }
        (node, None) => match field(node) {
            Some((source, fields)) => Outcome::Field(source, fields),
            None => Outcome::Unknown,
        },
    };
    found.push(outcome);
}

/// What an expression always comes to, unless it fails.
fn known(node: &Node, meter: &Meter) -> Option<Value> {
    if sees_nothing(node) {
        let (nothing, vars) = (Value::Null, BTreeMap::new());
        let run_id = RunId::from_bytes([0; 16]);
        let scope = Scope { value: &nothing, vars: &vars, input: &nothing, run_id };
        let result = Run::new(scope, meter).eval(node).and_then(|it| it.into_json(meter));
        return result.ok();
    }
    // The side that decides wins over whatever is on the other.
    let decided = |pair: &[Node; 2], decides: bool| {
        let decides = Value::Bool(decides);
        pair.iter().any(|side| known(side, meter).as_ref() == Some(&decides)).then_some(decides)
    };
    match node {
        Node::And(pair) => decided(pair, false),
        Node::Or(pair) => decided(pair, true),
        Node::Not(of) => known(of, meter)?.as_bool().map(|is| Value::Bool(!is)),
        _ => None,
    }
}

/// The field that an expression is.
fn field(node: &Node) -> Option<(Source<'_>, Vec<&str>)> {
    let (of, name) = match node {
        Node::Root(Root::Value) => return Some((Source::Value, Vec::new())),
        Node::Root(Root::Input) => return Some((Source::Input, Vec::new())),
        Node::Variable(name) => return Some((Source::Variable(name), Vec::new())),
        Node::Field(of, name) => (of, name),
        Node::Index(of, key) => match &**key {
            Node::Literal(Literal::Text(name)) => (of, name),
            _ => return None,
        },
        _ => return None,
    };
    let (source, mut fields) = field(of)?;
    fields.push(name);
    Some((source, fields))
}

/// Whether an expression comes to the same whatever is in scope.
fn sees_nothing(node: &Node) -> bool {
    match node {
        Node::Root(_) | Node::Variable(_) | Node::Hole => false,
        // Of a loop inside: an expression that stands alone has none around it.
        Node::Literal(_) | Node::Type(_) | Node::Local(..) => true,
        Node::Field(of, _)
        | Node::Has(of, _)
        | Node::Not(of)
        | Node::Negate(of)
        | Node::Matches(of, _) => sees_nothing(of),
        Node::Index(one, two) | Node::Default(one, two) => sees_nothing(one) && sees_nothing(two),
        Node::And(pair) | Node::Or(pair) | Node::Binary(_, pair) => pair.iter().all(sees_nothing),
        Node::Choice(parts) => parts.iter().all(sees_nothing),
        Node::List(nodes) | Node::Call(_, nodes) => nodes.iter().all(sees_nothing),
        Node::Map(entries) => {
            entries.iter().all(|(key, node)| sees_nothing(key) && sees_nothing(node))
        }
        Node::Loop(of) => {
            sees_nothing(&of.over)
                && match &of.fold {
                    Fold::All(body) | Fold::Exists(body) | Fold::ExistsOne(body) => {
                        sees_nothing(body)
                    }
                    Fold::Collect { guard, item } => {
                        guard.as_ref().is_none_or(sees_nothing) && sees_nothing(item)
                    }
                }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::expr::Cel;

    fn cel(source: &str) -> Compute {
        Compute::Cel(Cel::compile(source).unwrap())
    }

    #[test]
    fn branches_that_may_be_taken_are_found() {
        let of = |source: &str| -> Vec<Value> {
            let outcomes = cel(source);
            let outcomes = outcomes.outcomes(&Meter::default());
            let told = outcomes.into_iter().map(|outcome| match outcome {
                Outcome::Known(value) => value,
                Outcome::Field(..) => json!("(a field)"),
                Outcome::Unknown => json!("(unknown)"),
            });
            told.collect()
        };
        assert_eq!(
            of("value.a ? 'x' : (value.b ? \"y\" : value.c)"),
            [json!("x"), json!("y"), json!("(a field)")]
        );
        assert_eq!(
            of("(value.a\n) ? \"x\" : ((value.b\n) ? \"y\" : (''))"),
            [json!("x"), json!("y"), json!("")]
        );
        assert_eq!(of("value.a == '?:(' ? 'b?' : 'c:'"), [json!("b?"), json!("c:")]);
        assert_eq!(of("true ? 1 : 2.5"), [json!(1)]);
        assert_eq!(of("1 > 2 ? value.a : 2.5"), [json!(2.5)]);
        assert_eq!(of("value.a || true ? 'x' : value.b"), [json!("x")]);
        assert_eq!(of("{'a': value.b ? 1 : 2}"), [json!("(unknown)")]);
        assert_eq!(of("(value.a) + (value.b)"), [json!("(unknown)")]);
        for (constant, value) in [
            ("'x' // no, 'y'", json!("x")),
            ("r'x' + \"y\"", json!("xy")),
            ("'x' == 'y'", json!(false)),
            ("!(1 + 1 == 2)", json!(false)),
            ("[1, 2].exists(n, n > 1) && 'a' in {'a': null}", json!(true)),
            ("false && value.a", json!(false)),
            ("value.a && false", json!(false)),
            ("!(value.a || true)", json!(false)),
            ("(value.a && false) || true", json!(true)),
            ("[1, 2].map(n, n * 2)", json!([2, 4])),
        ] {
            assert_eq!(of(constant), [value], "{constant}");
        }
        for unknown in [
            "value.a && true",
            "value.a || false",
            "1 / 0 == 1",
            "run.id",
            "[1].map(n, value.a + n)",
        ] {
            assert_eq!(of(unknown), [json!("(unknown)")], "{unknown}");
        }
        assert_eq!(
            Compute::Value(json!("x")).outcomes(&Meter::default()),
            [Outcome::Known(json!("x"))]
        );
    }

    #[test]
    fn fields_are_named() {
        let of = |source: &str, expected: Outcome<'_>| {
            assert_eq!(cel(source).outcomes(&Meter::default()), [expected], "{source}");
        };
        of("value", Outcome::Field(Source::Value, vec![]));
        of("value.a.b", Outcome::Field(Source::Value, vec!["a", "b"]));
        of("(vars.v)['a b'].c", Outcome::Field(Source::Variable("v"), vec!["a b", "c"]));
        of("input.a", Outcome::Field(Source::Input, vec!["a"]));
        for unknown in ["value[0]", "value[value.a]", "vars", "has(value.a)", "size(value.a)"] {
            of(unknown, Outcome::Unknown);
        }
    }

    #[test]
    fn what_costs_too_much_is_not_known() {
        let meter = Meter::new(10);
        assert_eq!(cel("1 + 1").outcomes(&meter), [Outcome::Known(json!(2))]);
        assert_eq!(cel("[1, 2, 3, 4, 5]").outcomes(&meter), [Outcome::Unknown]);
        assert_eq!(cel("1 + 1").outcomes(&meter), [Outcome::Unknown]);
    }
}
