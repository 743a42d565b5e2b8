//! What an expression may come to, as far as it says so itself.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Compute, Scope,
    eval::Run,
    kinds::Kinds,
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
    /// In true or false.
    Truth,
    /// In whatever is computed.
    Unknown,
}

/// A field of a field … that an expression looks at.
pub(crate) type Look<'e> = (Source<'e>, Vec<&'e str>);

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

    /// What it looks at to come to its result; not what it asks for being there.
    pub(crate) fn looks(&self) -> Vec<Look<'_>> {
        let mut found = Vec::new();
        if let Self::Cel(cel) = self {
            look(cel.root(), &mut found);
        }
        found
    }

    /// What the conditions look at that decide which of its outcomes it has.
    pub(crate) fn conditions(&self) -> Vec<Look<'_>> {
        let mut found = Vec::new();
        if let Self::Cel(cel) = self {
            conditions(cel.root(), &mut found);
        }
        found
    }
}

fn conditions<'e>(node: &'e Node, found: &mut Vec<Look<'e>>) {
    if let Node::Choice(parts) = node {
        let [condition, one, two] = &**parts;
        look(condition, found);
        conditions(one, found);
        conditions(two, found);
    }
}

fn look<'e>(node: &'e Node, found: &mut Vec<Look<'e>>) {
    match (node, field(node)) {
        (_, Some(field)) => found.push(field),
        (Node::Has(of, _), None) if field(of).is_some() => {}
        (node, None) => node.inner(&mut |inner| look(inner, found)),
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
            None if is_truth(node) => Outcome::Truth,
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

/// Whether an expression comes to true or false, whatever it sees.
fn is_truth(node: &Node) -> bool {
    match node {
        Node::Has(..) | Node::Not(_) | Node::And(_) | Node::Or(_) | Node::Matches(..) => true,
        Node::Binary(operator, _) => operator.is_comparison(),
        Node::Loop(of) => !matches!(of.fold, Fold::Collect { .. }),
        Node::Call(call, _) => call.gives() == Kinds::BOOL,
        _ => false,
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

/// Whether an expression comes to the same whatever is in scope. The variable of a loop is that of
/// one inside: around an expression that stands alone there is none.
fn sees_nothing(node: &Node) -> bool {
    if matches!(node, Node::Root(_) | Node::Variable(_) | Node::Hole) {
        return false;
    }
    let mut nothing = true;
    node.inner(&mut |inner| nothing = nothing && sees_nothing(inner));
    nothing
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
                Outcome::Truth => json!("(true or false)"),
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
        for truth in ["value.a && true", "value.a || false", "1 / 0 == 1", "value.a in [1]"] {
            assert_eq!(of(truth), [json!("(true or false)")], "{truth}");
        }
        for unknown in ["run.id", "[1].map(n, value.a + n)"] {
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
        for unknown in ["value[0]", "value[value.a]", "vars", "size(value.a)"] {
            of(unknown, Outcome::Unknown);
        }
    }

    #[test]
    fn what_is_looked_at_is_found() {
        let names = |looks: Vec<Look<'_>>| -> Vec<String> {
            looks
                .into_iter()
                .map(|(source, names)| format!("{source:?} {}", names.join(".")))
                .collect()
        };
        let compute = cel("has(value.a) && vars.v['b'].c == size(input) && has(value.d[0].e)");
        assert_eq!(names(compute.looks()), [r#"Variable("v") b.c"#, "Input ", "Value d"]);
        let compute = cel("value.a ? (input.b > 1 ? value.c : 'x') : value.d");
        assert_eq!(names(compute.conditions()), ["Value a", "Input b"]);
        assert_eq!(names(Compute::Value(json!("x")).looks()), [""; 0]);
    }

    #[test]
    fn what_costs_too_much_is_not_known() {
        let meter = Meter::new(10);
        assert_eq!(cel("1 + 1").outcomes(&meter), [Outcome::Known(json!(2))]);
        assert_eq!(cel("[1, 2, 3, 4, 5]").outcomes(&meter), [Outcome::Unknown]);
        assert_eq!(cel("1 + 1").outcomes(&meter), [Outcome::Unknown]);
    }
}
