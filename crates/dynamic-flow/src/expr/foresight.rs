//! What can be known to go wrong in an expression before it runs, and what it comes to.
//!
//! Only what is certain counts: an expression that is told of fails whenever what is told of is
//! worked out, whatever the values are. What a condition rules out is not looked at.

use super::{
    Compute, Source,
    functions::Call,
    kinds::Kinds,
    meter::Meter,
    program::{Fold, Literal, Loop, Node, Operator, Root},
};
use crate::words::nearest;

/// How much is told of one expression or template.
const MAX_TOLD: usize = 20;
/// Among how many fields of a value one is looked for that may be meant.
const MAX_GUESSED: usize = 50;
/// How many fields are listed where none is near.
const MAX_LISTED: usize = 8;

/// What is known of a value of the scope.
pub(crate) trait Known: Clone {
    /// What it may be.
    fn kinds(&self) -> Kinds;

    /// What is known of a field; none if it is certainly not there.
    fn field(&self, name: &str) -> Option<Self>;

    /// The fields that it may have, as far as they are known.
    fn fields(&self) -> Vec<&str>;

    /// What is known of any item of a list, or of the one at an index.
    fn item(&self, index: Option<usize>) -> Self;

    /// Whether the items of a list are told apart by where they stand.
    fn has_places(&self) -> bool;

    /// Whether the same is known of both, as far as that is seen at a glance.
    fn is_same(&self, other: &Self) -> bool;
}

/// What is known of a result.
#[derive(Debug, Clone)]
pub(crate) enum Result<K> {
    /// It is a value of the scope, or a part of one.
    Part(K),
    /// It is of one of these kinds.
    Kinds(Kinds),
}

impl<K: Known> Result<K> {
    pub(crate) fn kinds(&self) -> Kinds {
        match self {
            Self::Part(known) => known.kinds(),
            Self::Kinds(kinds) => *kinds,
        }
    }

    fn field(&self, name: &str) -> Option<Self> {
        match self {
            Self::Part(known) => known.field(name).map(Self::Part),
            Self::Kinds(_) => Some(Self::Kinds(Kinds::ANY)),
        }
    }

    fn has_places(&self) -> bool {
        matches!(self, Self::Part(known) if known.has_places())
    }

    fn item(&self, index: Option<usize>) -> Self {
        match self {
            Self::Part(known) => Self::Part(known.item(index)),
            Self::Kinds(_) => Self::Kinds(Kinds::ANY),
        }
    }
}

impl Compute {
    /// What is known of its result, and what certainly goes wrong in it, for a template with the
    /// line. Of a computation that consists of others, nothing is: those are looked at themselves.
    pub(crate) fn foresee<K: Known>(
        &self,
        seen: &dyn Fn(Source<'_>) -> Option<K>,
        guesses: &Meter,
    ) -> (Result<K>, Vec<String>) {
        let mut foresight =
            Foresight { seen, guesses, locals: Vec::new(), line: None, told: Vec::new() };
        let result = match self {
            Self::Cel(cel) => foresight.node(cel.root()).result,
            Self::Template(template) => {
                template.foresee(&mut foresight);
                Result::Kinds(Kinds::TEXT)
            }
            _ => Result::Kinds(Kinds::ANY),
        };
        (result, foresight.told.into_iter().map(|told| told.message).collect())
    }
}

/// What is known where a walk through an expression is.
pub(super) struct Fact<K> {
    pub(super) result: Result<K>,
    /// Whether it is true or false, where that is certain.
    pub(super) truth: Option<bool>,
    /// What it is called by whoever wrote the expression.
    name: Option<String>,
}

impl<K> From<Kinds> for Fact<K> {
    fn from(kinds: Kinds) -> Self {
        Self { result: Result::Kinds(kinds), truth: None, name: None }
    }
}

impl<K> From<Result<K>> for Fact<K> {
    fn from(result: Result<K>) -> Self {
        Self { result, truth: None, name: None }
    }
}

impl<K> Fact<K> {
    fn truth(truth: Option<bool>) -> Self {
        Self { truth, ..Kinds::BOOL.into() }
    }

    fn named(self, name: Option<String>) -> Self {
        Self { name, ..self }
    }
}

#[derive(PartialEq)]
struct Told {
    message: String,
    /// A key that there is not, which `default` gets by without.
    is_missing: bool,
}

/// A walk through an expression.
pub(super) struct Foresight<'s, K> {
    seen: &'s dyn Fn(Source<'_>) -> Option<K>,
    guesses: &'s Meter,
    locals: Vec<Result<K>>,
    /// The line of a template.
    line: Option<usize>,
    told: Vec<Told>,
}

impl<K: Known> Foresight<'_, K> {
    fn tell(&mut self, message: String) {
        self.push(message, false);
    }

    fn push(&mut self, message: String, is_missing: bool) {
        let message = match self.line {
            Some(line) => format!("line {line}: {message}"),
            None => message,
        };
        let told = Told { message, is_missing };
        if self.told.len() < MAX_TOLD && !self.told.contains(&told) {
            self.told.push(told);
        }
    }

    /// Says on which line of a template the walk is.
    pub(super) fn at_line(&mut self, line: usize) {
        self.line = Some(line);
    }

    pub(super) fn node(&mut self, node: &Node) -> Fact<K> {
        match node {
            Node::Literal(literal) => of_literal(literal),
            Node::Type(_) => Kinds::TYPE.into(),
            Node::Root(Root::Value) => self.source(Source::Value, "value".to_owned()),
            Node::Root(Root::Input) => self.source(Source::Input, "input".to_owned()),
            Node::Root(Root::Vars | Root::Run) => Kinds::MAP.into(),
            Node::Variable(name) => self.source(Source::Variable(name), dotted("vars", name)),
            Node::Local(local, name) => match self.locals.get(*local) {
                Some(result) => Fact::from(result.clone()).named(Some(name.clone())),
                None => Kinds::ANY.into(),
            },
            Node::Field(of, name) if matches!(**of, Node::Root(Root::Run)) && name == "id" => {
                Kinds::TEXT.into()
            }
            Node::Field(of, name) => {
                let of = self.node(of);
                self.field(of, name)
            }
            Node::Has(of, name) => self.has(of, name),
            Node::Index(of, key) => self.index(of, key),
            Node::Not(of) => Fact::truth(self.bool(of, "!").map(|truth| !truth)),
            Node::Negate(of) => {
                let kinds = self.node(of).result.kinds();
                let wanted = Kinds::NUMBER.or(Kinds::DURATION);
                if !kinds.may_be(wanted) {
                    self.tell(format!("`-` never works for {kinds}"));
                }
                kinds.and(wanted).into()
            }
            Node::And(pair) => self.junction(pair, false),
            Node::Or(pair) => self.junction(pair, true),
            Node::Choice(parts) => self.choice(parts),
            Node::Binary(operator, pair) => self.binary(*operator, pair),
            Node::List(nodes) => {
                for node in nodes {
                    self.node(node);
                }
                Kinds::LIST.into()
            }
            Node::Map(entries) => {
                for (key, node) in entries {
                    self.node(key);
                    self.node(node);
                }
                Kinds::MAP.into()
            }
            Node::Loop(of) => self.walk(of),
            Node::Call(call, nodes) => self.call(*call, nodes),
            Node::Matches(of, _) => {
                let kinds = self.node(of).result.kinds();
                if !kinds.may_be(Kinds::TEXT) {
                    self.tell(format!("`matches` needs a string, not {kinds}"));
                }
                Kinds::BOOL.into()
            }
            Node::Default(of, fallback) => self.fallback(of, fallback),
            Node::Hole => Kinds::ANY.into(),
        }
    }

    fn source(&mut self, source: Source<'_>, name: String) -> Fact<K> {
        let result = (self.seen)(source).map_or(Result::Kinds(Kinds::ANY), Result::Part);
        Fact::from(result).named(Some(name))
    }

    fn field(&mut self, of: Fact<K>, name: &str) -> Fact<K> {
        let kinds = of.result.kinds();
        if !kinds.may_be(Kinds::MAP) {
            let what = called(of.name.as_deref());
            self.tell(format!("{what} is {kinds}, which has no field `{name}`"));
            return Kinds::ANY.into();
        }
        match of.result.field(name) {
            Some(field) => Fact::from(field).named(of.name.map(|of| dotted(&of, name))),
            None => {
                let (what, meant) = (called(of.name.as_deref()), self.meant(&of.result, name));
                self.push(format!("{what} never has a field `{name}`{meant}"), true);
                Kinds::ANY.into()
            }
        }
    }

    /// Which field may be meant, or which there are if they are few.
    fn meant(&self, of: &Result<K>, name: &str) -> String {
        let Result::Part(known) = of else { return String::new() };
        let fields = known.fields();
        let guessed = &fields[..fields.len().min(MAX_GUESSED)];
        // To compare two long names takes far longer than two short ones.
        let cost = guessed.iter().map(|field| field.len().min(64)).sum::<usize>();
        if self.guesses.spend(cost.saturating_mul(name.len().min(64)) / 8).is_err() {
            return String::new();
        }
        if let Some(near) = nearest(name, guessed.iter().copied()) {
            return format!("; did you mean `{near}`?");
        }
        let listed: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
        match listed.len() {
            1..=MAX_LISTED => format!("; known are {}", listed.join(", ")),
            _ => String::new(),
        }
    }

    fn has(&mut self, of: &Node, name: &str) -> Fact<K> {
        let of = self.node(of).result;
        let kinds = of.kinds();
        if !kinds.may_be(Kinds::MAP) {
            self.tell(format!("`has` needs a map, not {kinds}"));
            return Kinds::BOOL.into();
        }
        Fact::truth(of.field(name).is_none().then_some(false))
    }

    fn index(&mut self, of: &Node, key: &Node) -> Fact<K> {
        let of = self.node(of);
        let key_kinds = self.node(key).result.kinds();
        let kinds = of.result.kinds();
        let never = match (kinds.may_be(Kinds::MAP), kinds.may_be(Kinds::LIST)) {
            (true, _) => false,
            (false, true) => !key_kinds.may_be(Kinds::NUMBER),
            (false, false) => true,
        };
        if never {
            self.tell(format!("`[]` never works for {kinds} and {key_kinds}"));
            return Kinds::ANY.into();
        }
        match key {
            Node::Literal(Literal::Text(name)) => self.field(of, name),
            _ if !kinds.is(Kinds::LIST) => Kinds::ANY.into(),
            Node::Literal(Literal::Int(index)) => {
                let name = of.name.map(|of| format!("{of}[{index}]"));
                Fact::from(of.result.item(usize::try_from(*index).ok())).named(name)
            }
            _ => of.result.item(None).into(),
        }
    }

    /// Something that must be true or false; which of them it is, where that is certain.
    pub(super) fn bool(&mut self, node: &Node, what: &str) -> Option<bool> {
        let fact = self.node(node);
        let kinds = fact.result.kinds();
        if !kinds.may_be(Kinds::BOOL) {
            self.tell(format!("`{what}` needs a bool, not {kinds}"));
        }
        fact.truth
    }

    /// `&&` and `||`: the side that decides wins over an error on the other.
    fn junction(&mut self, pair: &[Node; 2], decides: bool) -> Fact<K> {
        let what = if decides { "||" } else { "&&" };
        let before = self.told.len();
        let left = self.bool(&pair[0], what);
        if left == Some(decides) {
            return Fact::truth(left);
        }
        let between = self.told.len();
        let right = self.bool(&pair[1], what);
        if right == Some(decides) {
            self.told.drain(before..between);
            return Fact::truth(right);
        }
        Fact::truth(left.and(right))
    }

    fn choice(&mut self, [condition, one, two]: &[Node; 3]) -> Fact<K> {
        match self.bool(condition, "?:") {
            Some(true) => return self.node(one),
            Some(false) => return self.node(two),
            None => {}
        }
        let (one, two) = (self.node(one), self.node(two));
        let truth = one.truth.filter(|_| one.truth == two.truth);
        let result = match (one.result, two.result) {
            (Result::Part(one), Result::Part(two)) if one.is_same(&two) => Result::Part(one),
            (one, two) => Result::Kinds(one.kinds().or(two.kinds())),
        };
        Fact { truth, ..result.into() }
    }

    fn binary(&mut self, operator: Operator, [one, two]: &[Node; 2]) -> Fact<K> {
        let (first, second) = (self.node(one), self.node(two));
        let (a, b) = (first.result.kinds(), second.result.kinds());
        let Some(kinds) = combined(operator, a, b) else {
            self.tell(format!("`{}` never works for {a} and {b}", operator.sign()));
            return result_of(operator).into();
        };
        match (operator, one) {
            (Operator::In, Node::Literal(Literal::Text(name)))
                if b.is(Kinds::MAP) && second.result.field(name).is_none() =>
            {
                Fact::truth(Some(false))
            }
            _ => kinds.into(),
        }
    }

    /// What a loop is at, item by item; tells where there can't be items.
    pub(super) fn items(&mut self, over: &Result<K>, what: &str) -> Result<K> {
        let kinds = over.kinds();
        if !kinds.may_be(Kinds::LIST.or(Kinds::MAP)) {
            self.tell(format!("{what} through a list or map, not {kinds}"));
        }
        match kinds.is(Kinds::LIST) {
            true => over.item(None),
            false => Result::Kinds(Kinds::ANY),
        }
    }

    /// Steps into a loop.
    pub(super) fn enter(&mut self, item: Result<K>) {
        self.locals.push(item);
    }

    /// Steps out of the innermost loop.
    pub(super) fn leave(&mut self) {
        self.locals.pop();
    }

    fn walk(&mut self, of: &Loop) -> Fact<K> {
        let over = self.node(&of.over).result;
        let item = self.items(&over, "`map`, `filter` and the like walk");
        self.enter(item);
        let result = match &of.fold {
            Fold::All(body) => self.quantify(body, "all"),
            Fold::Exists(body) => self.quantify(body, "exists"),
            Fold::ExistsOne(body) => self.quantify(body, "exists_one"),
            Fold::Collect { guard, item } => {
                let passes = guard.as_ref().and_then(|guard| self.bool(guard, "filter"));
                if passes != Some(false) {
                    self.node(item);
                }
                let is_own =
                    matches!(item, Node::Local(local, _) if local + 1 == self.locals.len());
                match is_own && over.kinds().is(Kinds::LIST) && !over.has_places() {
                    true => over,
                    false => Result::Kinds(Kinds::LIST),
                }
            }
        };
        self.leave();
        result.into()
    }

    fn quantify(&mut self, body: &Node, name: &str) -> Result<K> {
        self.bool(body, name);
        Result::Kinds(Kinds::BOOL)
    }

    fn call(&mut self, call: Call, nodes: &[Node]) -> Fact<K> {
        let args: Vec<Kinds> = nodes.iter().map(|node| self.node(node).result.kinds()).collect();
        if !call.may_take(&args) {
            let kinds: Vec<String> = args.iter().map(Kinds::to_string).collect();
            self.tell(format!("`{}` never works for {}", call.name(), kinds.join(", ")));
        }
        call.gives().into()
    }

    /// What is wrong behind something that is missing is never met.
    fn fallback(&mut self, of: &Node, fallback: &Node) -> Fact<K> {
        let before = self.told.len();
        let of = self.node(of).result.kinds();
        let is_missing = self.told[before..].iter().any(|told| told.is_missing);
        if is_missing {
            self.told.truncate(before);
        }
        let fallback = self.node(fallback).result;
        match is_missing {
            true => fallback.into(),
            false => of.without(Kinds::NULL).or(fallback.kinds()).into(),
        }
    }
}

fn of_literal<K>(literal: &Literal) -> Fact<K> {
    match literal {
        Literal::Null => Kinds::NULL.into(),
        Literal::Bool(bool) => Fact::truth(Some(*bool)),
        Literal::Int(_) | Literal::Uint(_) | Literal::Double(_) => Kinds::NUMBER.into(),
        Literal::Text(_) => Kinds::TEXT.into(),
        Literal::Bytes(_) => Kinds::BYTES.into(),
    }
}

/// What an operator gives for values of those kinds; none where it never works.
fn combined(operator: Operator, a: Kinds, b: Kinds) -> Option<Kinds> {
    use Operator::*;
    const TIME: Kinds = Kinds::TIMESTAMP;
    const SPAN: Kinds = Kinds::DURATION;
    let orders = |kind: &Kinds| a.may_be(*kind) && b.may_be(*kind);
    let gives = |ways: &[(Kinds, Kinds, Kinds)]| {
        let fitting = ways.iter().filter(|(x, y, _)| a.may_be(*x) && b.may_be(*y));
        fitting.map(|(_, _, result)| *result).reduce(Kinds::or)
    };
    let alike = |kind: Kinds| (kind, kind, kind);
    match operator {
        Equal | NotEqual => Some(Kinds::BOOL),
        Less | LessOrEqual | Greater | GreaterOrEqual => {
            let ordered = [Kinds::NUMBER, Kinds::TEXT, Kinds::BOOL, Kinds::BYTES, TIME, SPAN];
            ordered.iter().any(orders).then_some(Kinds::BOOL)
        }
        In => {
            let keys = Kinds::BOOL.or(Kinds::TEXT).or(Kinds::NUMBER);
            let fits = b.may_be(Kinds::LIST) || (b.may_be(Kinds::MAP) && a.may_be(keys));
            fits.then_some(Kinds::BOOL)
        }
        Add => gives(&[
            alike(Kinds::NUMBER),
            alike(Kinds::TEXT),
            alike(Kinds::BYTES),
            alike(Kinds::LIST),
            alike(SPAN),
            (TIME, SPAN, TIME),
            (SPAN, TIME, TIME),
        ]),
        Subtract => {
            gives(&[alike(Kinds::NUMBER), alike(SPAN), (TIME, SPAN, TIME), (TIME, TIME, SPAN)])
        }
        Multiply | Divide | Remainder => gives(&[alike(Kinds::NUMBER)]),
    }
}

/// What an operator gives at all.
fn result_of(operator: Operator) -> Kinds {
    combined(operator, Kinds::ANY, Kinds::ANY).unwrap_or(Kinds::ANY)
}

fn called(name: Option<&str>) -> String {
    name.map_or_else(|| "it".to_owned(), |name| format!("`{name}`"))
}

fn dotted(of: &str, name: &str) -> String {
    let is_plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if is_plain { format!("{of}.{name}") } else { format!("{of}['{name}']") }
}
