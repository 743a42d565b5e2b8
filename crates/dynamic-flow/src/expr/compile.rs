//! The crate's syntax tree, checked against its bounds and made ready to run.

use std::collections::BTreeSet;

use cel::{
    IdedExpr,
    common::ast::{
        CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, MapExpr, SelectExpr, operators,
    },
    parser::PrattParser,
};

use super::{
    functions::{Call, find, find_filter},
    pattern::Pattern,
    program::{Fold, Literal, Loop, Node, Operator, Program, Root},
    wrong::{Refused, Wrong},
};

/// Longest source, in bytes.
const MAX_SOURCE: usize = 4_096;
/// Most nodes of the tree.
const MAX_NODES: usize = 1_000;
/// Deepest nesting of the tree; a chain of `+` is as deep as it is long.
const MAX_DEPTH: usize = 50;
/// How many `map`, `filter`, `all`, … may stand within one another.
const MAX_LOOPS: usize = 3;
/// The parser copies the target of each call again: their number bounds its work.
const MAX_PARENTHESES: usize = 256;
/// The parser counts the nesting of everything but `?:`.
const MAX_QUESTION_MARKS: usize = 100;
/// How much is told that is wrong with one source.
pub(super) const MAX_WRONG: usize = 20;
/// Most filters behind one expression.
const MAX_FILTERS: usize = 10;
/// Most `matches` in one expression or template.
pub(super) const MAX_PATTERNS: usize = 10;

/// Parses and checks a source, which may use the variables of the loops around it; the error says
/// all that is wrong with it.
pub(super) fn compile(source: &str, locals: &[String]) -> Result<Program, Refused<Program>> {
    let tree = parse(source)?;
    let mut compiler = Compiler::new(locals);
    let root = compiler.node(&tree, 0);
    compiler.program(root)
}

/// Like [`compile`], for a source that may go through filters: `value.name | upper | default('?')`.
/// A filter is a function of what stands before it.
pub(super) fn compile_filtered(
    source: &str,
    locals: &[String],
) -> Result<Program, Refused<Program>> {
    let mut parts = split_filters(source).into_iter();
    let mut compiler = Compiler::new(locals);
    let (_, first) = parts.next().unwrap_or_default();
    let mut root = compiler.node(&parse(first)?, 0);
    for (number, (start, part)) in parts.enumerate() {
        let Ok(of) = root else { break };
        if number >= MAX_FILTERS {
            root = Err(format!("has more than {MAX_FILTERS} filters"));
            break;
        }
        root = match parse(part) {
            Ok(filter) => compiler.filter(of, &filter),
            Err(wrong) => {
                compiler.wrong.push(wrong.within(start));
                Ok(of)
            }
        };
    }
    compiler.program(root)
}

/// Splits at each `|` that is neither part of `||` nor in a text; gives where each part begins.
fn split_filters(source: &str) -> Vec<(usize, &str)> {
    let bytes = source.as_bytes();
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'\'' | b'"') => at = end_of_text(bytes, at + 1, quote),
            b'|' if bytes.get(at + 1) == Some(&b'|') => at += 1,
            b'|' => {
                parts.push((start, &source[start..at]));
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push((start, &source[start..]));
    parts
}

/// Where the text that begins at `from` has its closing quote, or the source ends.
pub(super) fn end_of_text(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut at = from;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at
}

fn parse(source: &str) -> Result<IdedExpr, Wrong> {
    if source.len() > MAX_SOURCE {
        let length = source.len();
        return Err(format!("is {length} bytes long, at most {MAX_SOURCE} are allowed").into());
    }
    let count = |wanted| source.bytes().filter(|byte| *byte == wanted).count();
    if count(b'(') > MAX_PARENTHESES {
        return Err(format!("has more than {MAX_PARENTHESES} parentheses").into());
    }
    if count(b'?') > MAX_QUESTION_MARKS {
        return Err(format!("has more than {MAX_QUESTION_MARKS} question marks").into());
    }
    let read = || PrattParser::new().max_recursion_depth(MAX_DEPTH as u16).parse(source);
    // The parser is not ours: a panic in it is a refusal, not the end of a flow.
    match std::panic::catch_unwind(read) {
        Ok(Ok(tree)) => Ok(tree),
        Ok(Err(errors)) => Err(match errors.errors.first() {
            Some(error) if error.pos.0 > 0 => {
                let message = error.msg.trim_start_matches("Syntax error: ");
                Wrong::at(offset(source, error.pos), message)
            }
            Some(error) => error.msg.clone().into(),
            None => "can't be read".to_owned().into(),
        }),
        Err(_) => Err("can't be read".to_owned().into()),
    }
}

/// Where a line and column are, as the parser counts them: from 1, columns in bytes.
fn offset(source: &str, (line, column): (isize, isize)) -> usize {
    let from_zero = |count: isize| usize::try_from(count - 1).unwrap_or(0);
    let before: usize = source.split_inclusive('\n').take(from_zero(line)).map(str::len).sum();
    (before + from_zero(column)).min(source.len())
}

struct Compiler {
    nodes: usize,
    patterns: usize,
    pattern_bytes: usize,
    /// The variables of the loops around, outermost first.
    locals: Vec<String>,
    /// How many of them are loops of the source itself.
    loops: usize,
    variables: BTreeSet<String>,
    /// What is wrong so far; nothing that was read beside it ever runs.
    wrong: Vec<Wrong>,
}

impl Compiler {
    fn new(locals: &[String]) -> Self {
        let (locals, variables, wrong) = (locals.to_vec(), BTreeSet::new(), Vec::new());
        Self { nodes: 0, patterns: 0, pattern_bytes: 0, locals, loops: 0, variables, wrong }
    }

    /// What was read, unless something was wrong.
    fn program(self, root: Result<Node, String>) -> Result<Program, Refused<Program>> {
        let Self { variables, patterns, pattern_bytes, mut wrong, .. } = self;
        match root {
            Ok(root) => {
                let program = Program { root, variables, patterns, pattern_bytes };
                match wrong.is_empty() {
                    true => Ok(program),
                    false => Err(Refused { wrong, rest: Some(Box::new(program)) }),
                }
            }
            Err(message) => {
                wrong.push(message.into());
                Err(Refused { wrong, rest: None })
            }
        }
    }

    /// Notes what is wrong, once, so that what else is wrong is found, too; stands for the node.
    fn refuse(&mut self, message: String) -> Node {
        let wrong = Wrong::from(message);
        if self.wrong.len() < MAX_WRONG && !self.wrong.contains(&wrong) {
            self.wrong.push(wrong);
        }
        Node::Hole
    }

    /// A call of a function that was found, or what is wrong with that.
    fn called(&mut self, function: Result<Call, String>, args: Vec<Node>) -> Node {
        match function {
            Ok(function) => Node::Call(function, args),
            Err(message) => self.refuse(message),
        }
    }

    fn node(&mut self, expr: &IdedExpr, depth: usize) -> Result<Node, String> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(format!("has more than {MAX_NODES} parts"));
        }
        if depth > MAX_DEPTH {
            return Err(format!("is nested more than {MAX_DEPTH} levels deep"));
        }
        match &expr.expr {
            Expr::Literal(literal) => Ok(Node::Literal(self.literal(literal))),
            Expr::Ident(name) => Ok(self.name(name)),
            Expr::Select(select) => self.select(select, depth),
            Expr::Call(call) => self.call(call, depth),
            Expr::List(list) => Ok(Node::List(self.nodes(&list.elements, depth)?)),
            Expr::Map(map) => self.map(map, depth),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth),
            Expr::Struct(message) => {
                Ok(self.refuse(format!("there is no message type {}", message.type_name)))
            }
            Expr::Unspecified => Err("can't be read".to_owned()),
        }
    }

    fn boxed(&mut self, expr: &IdedExpr, depth: usize) -> Result<Box<Node>, String> {
        self.node(expr, depth + 1).map(Box::new)
    }

    fn nodes(&mut self, exprs: &[IdedExpr], depth: usize) -> Result<Vec<Node>, String> {
        exprs.iter().map(|expr| self.node(expr, depth + 1)).collect()
    }

    fn literal(&self, literal: &LiteralValue) -> Literal {
        match literal {
            LiteralValue::Null => Literal::Null,
            LiteralValue::Boolean(bool) => Literal::Bool(*bool.inner()),
            LiteralValue::Int(int) => Literal::Int(*int.inner()),
            LiteralValue::UInt(uint) => Literal::Uint(*uint.inner()),
            LiteralValue::Double(double) => Literal::Double(*double.inner()),
            LiteralValue::String(text) => Literal::Text(text.inner().to_owned()),
            LiteralValue::Bytes(bytes) => Literal::Bytes(bytes.inner().to_vec()),
        }
    }

    fn name(&mut self, name: &str) -> Node {
        const TYPES: [&str; 10] = [
            "null_type",
            "bool",
            "int",
            "uint",
            "double",
            "string",
            "bytes",
            "list",
            "map",
            "type",
        ];
        if let Some(local) = self.locals.iter().rposition(|local| local == name) {
            return Node::Local(local, name.to_owned());
        }
        let name = name.strip_prefix('.').unwrap_or(name);
        Node::Root(match name {
            "value" => Root::Value,
            "vars" => Root::Vars,
            "input" => Root::Input,
            "run" => Root::Run,
            _ => match TYPES.iter().find(|known| **known == name) {
                Some(known) => return Node::Type(known),
                None => {
                    return self.refuse(format!(
                        "there is no name {name} here, only value, vars, input and run"
                    ));
                }
            },
        })
    }

    fn select(&mut self, select: &SelectExpr, depth: usize) -> Result<Node, String> {
        let field = select.field.clone();
        let of = self.boxed(&select.operand, depth)?;
        match *of {
            _ if select.test => Ok(Node::Has(of, field)),
            Node::Root(Root::Vars) => {
                self.variables.insert(field.clone());
                Ok(Node::Variable(field))
            }
            Node::Root(Root::Run) if field != "id" => {
                Ok(self.refuse(format!("run has no field {field}, only id")))
            }
            _ => Ok(Node::Field(of, field)),
        }
    }

    fn call(&mut self, call: &CallExpr, depth: usize) -> Result<Node, String> {
        let name = call.func_name.as_str();
        if let Some(target) = &call.target {
            if let Expr::Ident(space) = &target.expr
                && space == "math"
                && !self.locals.contains(space)
            {
                let function = find(&format!("math.{name}"), false, call.args.len());
                let args = self.nodes(&call.args, depth)?;
                return Ok(self.called(function, args));
            }
            let of = self.node(target, depth + 1)?;
            if name == "matches" && call.args.len() == 1 {
                return self.matches(of, &call.args[0]);
            }
            let function = find(name, true, call.args.len());
            let mut args = vec![of];
            args.extend(self.nodes(&call.args, depth)?);
            return Ok(self.called(function, args));
        }
        match (name, call.args.as_slice()) {
            (operators::LOGICAL_NOT, [of]) => Ok(Node::Not(self.boxed(of, depth)?)),
            (operators::NEGATE, [of]) => Ok(Node::Negate(self.boxed(of, depth)?)),
            (operators::CONDITIONAL, [condition, one, two]) => Ok(Node::Choice(Box::new([
                self.node(condition, depth + 1)?,
                self.node(one, depth + 1)?,
                self.node(two, depth + 1)?,
            ]))),
            (operators::INDEX, [of, key]) => self.index(of, key, depth),
            ("matches", [of, pattern]) => {
                let of = self.node(of, depth + 1)?;
                self.matches(of, pattern)
            }
            (name, [one, two]) if name.starts_with('_') || name == operators::IN => {
                let pair = Box::new([self.node(one, depth + 1)?, self.node(two, depth + 1)?]);
                match (name, Operator::find(name)) {
                    (operators::LOGICAL_AND, _) => Ok(Node::And(pair)),
                    (operators::LOGICAL_OR, _) => Ok(Node::Or(pair)),
                    (_, Some(operator)) => Ok(Node::Binary(operator, pair)),
                    _ => Ok(self.refuse(format!("there is no function {name}"))),
                }
            }
            _ => {
                let function = find(name, false, call.args.len());
                let args = self.nodes(&call.args, depth)?;
                Ok(self.called(function, args))
            }
        }
    }

    fn filter(&mut self, of: Node, filter: &IdedExpr) -> Result<Node, String> {
        let (name, args) = match &filter.expr {
            Expr::Ident(name) => (name.as_str(), [].as_slice()),
            Expr::Call(call) if call.target.is_none() => {
                (call.func_name.as_str(), call.args.as_slice())
            }
            _ => {
                let message = "what stands behind | must be the name of a filter";
                return Ok(self.refuse(message.to_owned()));
            }
        };
        let mut args = self.nodes(args, 0)?;
        if name == "default" && args.len() == 1 {
            let fallback = args.remove(0);
            return Ok(Node::Default(Box::new(of), Box::new(fallback)));
        }
        let function = find_filter(name, args.len());
        args.insert(0, of);
        Ok(self.called(function, args))
    }

    fn index(&mut self, of: &IdedExpr, key: &IdedExpr, depth: usize) -> Result<Node, String> {
        let of = self.boxed(of, depth)?;
        let key = self.boxed(key, depth)?;
        if let (Node::Root(Root::Vars), Node::Literal(Literal::Text(name))) = (&*of, &*key) {
            self.variables.insert(name.clone());
            return Ok(Node::Variable(name.clone()));
        }
        Ok(Node::Index(of, key))
    }

    fn map(&mut self, map: &MapExpr, depth: usize) -> Result<Node, String> {
        let mut entries = Vec::with_capacity(map.entries.len());
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return Err("has a field where a map has an entry".to_owned());
            };
            let key = self.node(&entry.key, depth + 1)?;
            entries.push((key, self.node(&entry.value, depth + 1)?));
        }
        Ok(Node::Map(entries))
    }

    fn matches(&mut self, of: Node, pattern: &IdedExpr) -> Result<Node, String> {
        let Expr::Literal(LiteralValue::String(pattern)) = &pattern.expr else {
            let message = "the pattern of matches must be written out as a text";
            return Ok(self.refuse(message.to_owned()));
        };
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            return Err(format!("has more than {MAX_PATTERNS} matches"));
        }
        Ok(match Pattern::compile(pattern.inner()) {
            Ok(pattern) => {
                self.pattern_bytes += pattern.size;
                Node::Matches(Box::new(of), pattern)
            }
            Err(message) => self.refuse(message),
        })
    }

    /// Reads a macro back from what the parser expanded it to: its steps are few and known, while
    /// a fold of any shape could grow without bounds.
    fn comprehension(&mut self, of: &ComprehensionExpr, depth: usize) -> Result<Node, String> {
        let over = self.node(&of.iter_range, depth + 1)?;
        if self.loops >= MAX_LOOPS {
            return Err(format!("has more than {MAX_LOOPS} loops within one another"));
        }
        self.loops += 1;
        self.locals.push(of.iter_var.clone());
        let fold = self.fold(of, depth + 1)?;
        self.locals.pop();
        self.loops -= 1;
        Ok(Node::Loop(Box::new(Loop { over, fold })))
    }

    fn fold(&mut self, of: &ComprehensionExpr, depth: usize) -> Result<Fold, String> {
        let step = as_call(&of.loop_step);
        match step {
            Some((operators::LOGICAL_AND, [_, body])) => Ok(Fold::All(self.node(body, depth)?)),
            Some((operators::LOGICAL_OR, [_, body])) => Ok(Fold::Exists(self.node(body, depth)?)),
            Some((operators::CONDITIONAL, [guard, step, _])) => {
                let guard = self.node(guard, depth)?;
                match self.collected(step, depth)? {
                    Some(item) => Ok(Fold::Collect { guard: Some(guard), item }),
                    None => Ok(Fold::ExistsOne(guard)),
                }
            }
            _ => match self.collected(&of.loop_step, depth)? {
                Some(item) => Ok(Fold::Collect { guard: None, item }),
                None => Err("has a loop of an unknown kind".to_owned()),
            },
        }
    }

    /// The item of a step `@result + [item]`.
    fn collected(&mut self, step: &IdedExpr, depth: usize) -> Result<Option<Node>, String> {
        if let Some((operators::ADD, [_, items])) = as_call(step)
            && let Expr::List(items) = &items.expr
            && let [item] = items.elements.as_slice()
        {
            return self.node(item, depth).map(Some);
        }
        Ok(None)
    }
}

fn as_call(expr: &IdedExpr) -> Option<(&str, &[IdedExpr])> {
    match &expr.expr {
        Expr::Call(call) if call.target.is_none() => Some((&call.func_name, &call.args)),
        _ => None,
    }
}
