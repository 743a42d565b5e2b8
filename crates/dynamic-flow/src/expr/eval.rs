//! Runs an expression.

use std::{cmp::Ordering, collections::BTreeMap, rc::Rc};

use super::{
    arithmetic,
    meter::{Fail, MAP_ENTRY, Meter, bytes},
    pattern::Pattern,
    program::{Fold, Literal, Loop, Node, Operator, Root},
    value::{Key, List, Map, Text, Val},
};
use crate::expr::Scope;

pub(super) type Eval<'a> = Result<Val<'a>, Fail>;

/// What a list costs for each item beside the item's value.
const LIST_ITEM: usize = 2;

/// One evaluation of an expression.
pub(super) struct Run<'a, 'm> {
    scope: Scope<'a>,
    meter: &'m Meter,
    /// The items that the loops around are at, outermost first.
    locals: Vec<Val<'a>>,
}

impl<'a, 'm> Run<'a, 'm> {
    pub(super) fn new(scope: Scope<'a>, meter: &'m Meter) -> Self {
        Self { scope, meter, locals: Vec::new() }
    }

    pub(super) fn eval(&mut self, node: &'a Node) -> Eval<'a> {
        self.meter.spend(1)?;
        match node {
            Node::Literal(literal) => self.literal(literal),
            Node::Type(name) => Ok(Val::Type(name)),
            Node::Root(root) => self.root(*root),
            Node::Variable(name) => match self.scope.vars.get(name) {
                Some(value) => Ok((&**value).into()),
                None => Fail::missing(format!("no such variable: {name}")),
            },
            Node::Local(local, _) => match self.locals.get(*local) {
                Some(val) => Ok(val.clone()),
                None => Fail::because("a loop's variable is used outside of the loop"),
            },
            Node::Field(of, name) => self.field(of, name),
            Node::Has(of, name) => self.has(of, name),
            Node::Index(of, key) => self.index(of, key),
            Node::Not(of) => Ok(Val::Bool(!self.bool(of, "!")?)),
            Node::Negate(of) => {
                let val = self.eval(of)?;
                arithmetic::negate(&val)
            }
            Node::And(pair) => self.junction(pair, false),
            Node::Or(pair) => self.junction(pair, true),
            Node::Choice(parts) => {
                let [condition, one, two] = &**parts;
                if self.bool(condition, "?:")? { self.eval(one) } else { self.eval(two) }
            }
            Node::Binary(operator, pair) => self.binary(*operator, pair),
            Node::List(nodes) => {
                self.meter.spend(LIST_ITEM * nodes.len())?;
                let items = nodes.iter().map(|node| self.eval(node)).collect::<Result<_, _>>()?;
                Ok(Val::list(items))
            }
            Node::Map(entries) => self.map(entries),
            Node::Loop(of) => self.walk(of),
            Node::Call(call, nodes) => {
                let args: Vec<_> =
                    nodes.iter().map(|node| self.eval(node)).collect::<Result<_, _>>()?;
                call.run(&args, self.meter)
            }
            Node::Matches(of, pattern) => self.matches(of, pattern),
            Node::Default(of, fallback) => match self.eval(of) {
                Ok(Val::Null) | Err(Fail::Missing(_)) => self.eval(fallback),
                other => other,
            },
            Node::Hole => Fail::because("a part of the expression could not be read"),
        }
    }

    fn literal(&self, literal: &'a Literal) -> Eval<'a> {
        Ok(match literal {
            Literal::Null => Val::Null,
            Literal::Bool(bool) => Val::Bool(*bool),
            Literal::Int(int) => Val::Int(*int),
            Literal::Uint(uint) => Val::Uint(*uint),
            Literal::Double(double) => Val::Double(*double),
            Literal::Text(text) => Val::Text(Text::Borrowed(text)),
            Literal::Bytes(data) => {
                self.meter.spend(bytes(data.len()))?;
                Val::Bytes(data.as_slice().into())
            }
        })
    }

    fn root(&self, root: Root) -> Eval<'a> {
        Ok(match root {
            Root::Value => self.scope.value.into(),
            Root::Vars => Val::Map(Map::Variables(self.scope.vars)),
            Root::Input => self.scope.input.into(),
            Root::Run => {
                let id = Val::text(self.scope.run_id.to_string());
                Val::Map(Map::Shared(Rc::new(BTreeMap::from([(Key::Text("id".into()), id)]))))
            }
        })
    }

    pub(super) fn bool(&mut self, node: &'a Node, operator: &str) -> Result<bool, Fail> {
        match self.eval(node)? {
            Val::Bool(bool) => Ok(bool),
            other => Fail::because(format!("{operator} needs a bool, not {}", other.type_name())),
        }
    }

    /// `&&` and `||`: the side that decides wins over an error on the other.
    fn junction(&mut self, pair: &'a [Node; 2], decides: bool) -> Eval<'a> {
        let operator = if decides { "||" } else { "&&" };
        let left = self.bool(&pair[0], operator);
        match left {
            Ok(bool) if bool == decides => return Ok(Val::Bool(decides)),
            Err(Fail::Exhausted) => return Err(Fail::Exhausted),
            _ => {}
        }
        let right = self.bool(&pair[1], operator)?;
        if right == decides { Ok(Val::Bool(decides)) } else { left.map(|_| Val::Bool(!decides)) }
    }

    fn field(&mut self, of: &'a Node, name: &'a str) -> Eval<'a> {
        match self.eval(of)? {
            Val::Map(map) => match map.field(name) {
                Some(val) => Ok(val),
                None => Fail::missing(format!("no such key: {name}")),
            },
            other => Fail::because(format!("no such key: {name} ({} has none)", other.type_name())),
        }
    }

    fn has(&mut self, of: &'a Node, name: &'a str) -> Eval<'a> {
        match self.eval(of)? {
            Val::Map(map) => Ok(Val::Bool(map.field(name).is_some())),
            other => Fail::because(format!("has() needs a map, not {}", other.type_name())),
        }
    }

    fn index(&mut self, of: &'a Node, key: &'a Node) -> Eval<'a> {
        // A key that was computed is a value: messages show only one that was written out.
        let shown = match key {
            Node::Literal(Literal::Text(name)) => format!(": {name}"),
            Node::Literal(Literal::Int(index)) => format!(": {index}"),
            _ => String::new(),
        };
        let of = self.eval(of)?;
        let key = self.eval(key)?;
        match (&of, &key) {
            (Val::Map(map), _) => match map.get(&key, self.meter)? {
                Some(val) => Ok(val),
                None => Fail::missing(format!("no such key{shown}")),
            },
            (Val::List(list), Val::Int(_) | Val::Uint(_) | Val::Double(_)) => {
                let index = match Key::new(&key) {
                    Some(Key::Integer(index)) => usize::try_from(index).ok(),
                    _ => None,
                };
                match index.and_then(|index| list.get(index)) {
                    Some(val) => Ok(val),
                    None => Fail::missing(format!(
                        "no such index{shown} (the list has {} items)",
                        list.len()
                    )),
                }
            }
            _ => Fail::because(format!(
                "[] does not work for {} and {}",
                of.type_name(),
                key.type_name()
            )),
        }
    }

    fn binary(&mut self, operator: Operator, pair: &'a [Node; 2]) -> Eval<'a> {
        let one = self.eval(&pair[0])?;
        let two = self.eval(&pair[1])?;
        let order = |wanted: fn(Ordering) -> bool| match one.compare(&two, self.meter)? {
            Some(order) => Ok(Val::Bool(wanted(order))),
            // NaN is neither less nor more than anything.
            None if one.as_double().is_some() && two.as_double().is_some() => Ok(Val::Bool(false)),
            None => arithmetic::mismatch(operator, &one, &two),
        };
        match operator {
            Operator::Equal => Ok(Val::Bool(one.equals(&two, self.meter)?)),
            Operator::NotEqual => Ok(Val::Bool(!one.equals(&two, self.meter)?)),
            Operator::Less => order(Ordering::is_lt),
            Operator::LessOrEqual => order(Ordering::is_le),
            Operator::Greater => order(Ordering::is_gt),
            Operator::GreaterOrEqual => order(Ordering::is_ge),
            Operator::In => match &two {
                Val::Map(map) if one.is_key() => {
                    Ok(Val::Bool(map.get(&one, self.meter)?.is_some()))
                }
                Val::List(list) => {
                    for item in list.iter() {
                        if item.equals(&one, self.meter)? {
                            return Ok(Val::Bool(true));
                        }
                    }
                    Ok(Val::Bool(false))
                }
                _ => arithmetic::mismatch(operator, &one, &two),
            },
            _ => arithmetic::compute(operator, &one, &two, self.meter),
        }
    }

    fn map(&mut self, entries: &'a [(Node, Node)]) -> Eval<'a> {
        let mut map = BTreeMap::new();
        for (key, node) in entries {
            self.meter.spend(MAP_ENTRY)?;
            let key = self.eval(key)?;
            if let Val::Text(text) = &key {
                self.meter.spend(bytes(text.len()))?;
            }
            let Some(key) = Key::new(&key) else {
                return Fail::because(format!("{} can't be a key", key.type_name()));
            };
            if map.insert(key, self.eval(node)?).is_some() {
                return Fail::because("a map has the same key twice");
            }
        }
        Ok(Val::Map(Map::Shared(Rc::new(map))))
    }

    /// The items of a list, or the keys of a map.
    pub(super) fn items(&self, of: Val<'a>) -> Result<List<'a>, Fail> {
        match of {
            Val::List(list) => Ok(list),
            Val::Map(map) => {
                self.meter.spend(LIST_ITEM * map.len())?;
                Ok(List::Shared(map.keys().into()))
            }
            other => Fail::because(format!("{} can't be walked through", other.type_name())),
        }
    }

    fn walk(&mut self, of: &'a Loop) -> Eval<'a> {
        let over = self.eval(&of.over)?;
        let over = self.items(over)?;
        match &of.fold {
            Fold::All(body) => self.quantify(&over, body, false),
            Fold::Exists(body) => self.quantify(&over, body, true),
            Fold::ExistsOne(body) => {
                let mut found = 0;
                for item in over.iter() {
                    found += usize::from(self.with(item, |run| run.bool(body, "exists_one"))?);
                }
                Ok(Val::Bool(found == 1))
            }
            Fold::Collect { guard, item: body } => {
                let mut items = Vec::new();
                for item in over.iter() {
                    let kept = self.with(item, |run| match guard {
                        Some(guard) if !run.bool(guard, "filter")? => Ok(None),
                        _ => run.eval(body).map(Some),
                    })?;
                    self.meter.spend(LIST_ITEM)?;
                    items.extend(kept);
                }
                Ok(Val::list(items))
            }
        }
    }

    /// `all` and `exists`: an item that decides wins over errors of others.
    fn quantify(&mut self, over: &List<'a>, body: &'a Node, decides: bool) -> Eval<'a> {
        let name = if decides { "exists" } else { "all" };
        let mut failed = None;
        for item in over.iter() {
            match self.with(item, |run| run.bool(body, name)) {
                Ok(bool) if bool == decides => return Ok(Val::Bool(decides)),
                Ok(_) => {}
                Err(Fail::Exhausted) => return Err(Fail::Exhausted),
                Err(fail) => failed = Some(fail),
            }
        }
        failed.map_or(Ok(Val::Bool(!decides)), Err)
    }

    /// Steps into a loop at an item of it.
    pub(super) fn enter(&mut self, item: Val<'a>) {
        self.locals.push(item);
    }

    /// Steps out of the innermost loop.
    pub(super) fn leave(&mut self) {
        self.locals.pop();
    }

    fn with<T>(
        &mut self,
        item: Val<'a>,
        body: impl FnOnce(&mut Self) -> Result<T, Fail>,
    ) -> Result<T, Fail> {
        self.meter.spend(1)?;
        self.enter(item);
        let done = body(self);
        self.leave();
        done
    }

    fn matches(&mut self, of: &'a Node, pattern: &Pattern) -> Eval<'a> {
        match self.eval(of)? {
            Val::Text(text) => {
                self.meter.spend(text.len().saturating_mul(pattern.cost))?;
                Ok(Val::Bool(pattern.regex.is_match(&text)))
            }
            other => Fail::because(format!("matches needs a string, not {}", other.type_name())),
        }
    }
}
