//! Expressions as they run: a tree of few and known steps.

use std::collections::BTreeSet;

use cel::common::ast::operators;

use super::{functions::Call, pattern::Pattern};

/// An expression that is ready to run.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) root: Node,
    /// The variables that it uses by name.
    pub(super) variables: BTreeSet<String>,
    /// How many `matches` it has.
    pub(super) patterns: usize,
    /// How much memory their patterns take.
    pub(super) pattern_bytes: usize,
}

/// A step of the evaluation.
#[derive(Debug)]
pub(super) enum Node {
    Literal(Literal),
    /// The name of a type, as a value.
    Type(&'static str),
    Root(Root),
    /// `vars.NAME`.
    Variable(String),
    /// The variable of a loop, counted from the outermost, and its name.
    Local(usize, String),
    Field(Box<Node>, String),
    Has(Box<Node>, String),
    Index(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Choice(Box<[Node; 3]>),
    Binary(Operator, Box<[Node; 2]>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Loop(Box<Loop>),
    Call(Call, Vec<Node>),
    Matches(Box<Node>, Pattern),
    /// The second where the first is null or lacks something.
    Default(Box<Node>, Box<Node>),
    /// What could not be read. No program with it is ever run.
    Hole,
}

impl Node {
    /// Calls something with each node directly inside.
    pub(super) fn inner<'n>(&'n self, each: &mut dyn FnMut(&'n Self)) {
        match self {
            Self::Literal(_)
            | Self::Type(_)
            | Self::Root(_)
            | Self::Variable(_)
            | Self::Local(..)
            | Self::Hole => {}
            Self::Field(of, _)
            | Self::Has(of, _)
            | Self::Not(of)
            | Self::Negate(of)
            | Self::Matches(of, _) => each(of),
            Self::Index(one, two) | Self::Default(one, two) => {
                each(one);
                each(two);
            }
            Self::And(pair) | Self::Or(pair) | Self::Binary(_, pair) => pair.iter().for_each(each),
            Self::Choice(parts) => parts.iter().for_each(each),
            Self::List(nodes) | Self::Call(_, nodes) => nodes.iter().for_each(each),
            Self::Map(entries) => {
                for (key, node) in entries {
                    each(key);
                    each(node);
                }
            }
            Self::Loop(of) => {
                each(&of.over);
                match &of.fold {
                    Fold::All(body) | Fold::Exists(body) | Fold::ExistsOne(body) => each(body),
                    Fold::Collect { guard, item } => {
                        guard.iter().for_each(&mut *each);
                        each(item);
                    }
                }
            }
        }
    }
}

#[derive(Debug)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Root {
    Value,
    Vars,
    Input,
    Run,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

impl Operator {
    const ALL: [(&'static str, &'static str, Self); 12] = [
        (operators::ADD, "+", Self::Add),
        (operators::SUBSTRACT, "-", Self::Subtract),
        (operators::MULTIPLY, "*", Self::Multiply),
        (operators::DIVIDE, "/", Self::Divide),
        (operators::MODULO, "%", Self::Remainder),
        (operators::EQUALS, "==", Self::Equal),
        (operators::NOT_EQUALS, "!=", Self::NotEqual),
        (operators::LESS, "<", Self::Less),
        (operators::LESS_EQUALS, "<=", Self::LessOrEqual),
        (operators::GREATER, ">", Self::Greater),
        (operators::GREATER_EQUALS, ">=", Self::GreaterOrEqual),
        (operators::IN, "in", Self::In),
    ];

    pub(super) fn find(function: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _, _)| *name == function).map(|(_, _, operator)| *operator)
    }

    /// Whether it compares, and so gives true or false.
    pub(super) fn is_comparison(self) -> bool {
        use Operator::*;
        matches!(self, Equal | NotEqual | Less | LessOrEqual | Greater | GreaterOrEqual | In)
    }

    pub(super) fn sign(self) -> &'static str {
        Self::ALL.iter().find(|(_, _, other)| *other == self).map_or("", |(_, sign, _)| sign)
    }
}

/// A walk over a list, or over the keys of a map.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) over: Node,
    pub(super) fold: Fold,
}

/// What a walk does with each item.
#[derive(Debug)]
pub(super) enum Fold {
    All(Node),
    Exists(Node),
    ExistsOne(Node),
    Collect { guard: Option<Node>, item: Node },
}
