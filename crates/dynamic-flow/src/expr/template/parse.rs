//! Reads the source of a template.

use std::collections::BTreeSet;

use crate::expr::{
    compile::{MAX_PATTERNS, MAX_WRONG, compile_filtered, end_of_text},
    program::Node,
    wrong::{Refused, Wrong},
};

/// Longest source, in bytes.
const MAX_SOURCE: usize = 16 << 10;
/// Most `{{ }}` and `{% %}`.
const MAX_BRACKETS: usize = 1_000;
/// How deeply `if` and `for` may be nested.
const MAX_LEVELS: usize = 10;

/// A part of a template and the line that it stands on.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) line: usize,
    pub(super) item: Item,
}

#[derive(Debug)]
pub(super) enum Item {
    Text(String),
    Show(Node),
    If { condition: Node, then: Vec<Part>, otherwise: Vec<Part> },
    For { over: Node, body: Vec<Part>, otherwise: Vec<Part> },
}

/// The parts of a template, the variables that they read, and the memory of their patterns.
pub(super) struct Parsed {
    pub(super) parts: Vec<Part>,
    pub(super) variables: BTreeSet<String>,
    pub(super) pattern_bytes: usize,
}

/// Reads a source; the error says all that is wrong, and where.
pub(super) fn parse(source: &str) -> Result<Parsed, Refused<Parsed>> {
    if source.len() > MAX_SOURCE {
        let length = source.len();
        let message = format!("is {length} bytes long, at most {MAX_SOURCE} are allowed");
        return Err(Wrong::from(message).into());
    }
    let tokens = tokens(source)?;
    let mut parser = Parser {
        source,
        tokens: tokens.into_iter(),
        locals: vec![],
        levels: 0,
        patterns: 0,
        pattern_bytes: 0,
        variables: BTreeSet::new(),
        wrong: Vec::new(),
    };
    let parts = parser.parts().and_then(|(parts, end)| match end {
        None => Ok(parts),
        Some(Tag { spot, word, .. }) => Err(spot.wrong(format!("{word} has nothing to end"))),
    });
    let Parser { variables, pattern_bytes, mut wrong, .. } = parser;
    match parts {
        Ok(parts) => {
            let parsed = Parsed { parts, variables, pattern_bytes };
            match wrong.is_empty() {
                true => Ok(parsed),
                false => Err(Refused { wrong, rest: Some(Box::new(parsed)) }),
            }
        }
        Err(last) => {
            wrong.push(last);
            Err(Refused { wrong, rest: None })
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Expression,
    Tag,
}

/// Where a bracket stands: its line, and where what is in it begins.
#[derive(Debug, Clone, Copy)]
struct Spot {
    line: usize,
    start: usize,
}

impl Spot {
    fn wrong(self, message: impl Into<String>) -> Wrong {
        Wrong::behind(self.start, message)
    }
}

struct Token<'s> {
    kind: Kind,
    text: &'s str,
    spot: Spot,
}

/// Splits a source into texts, expressions and tags; leaves out comments.
fn tokens(source: &str) -> Result<Vec<Token<'_>>, Wrong> {
    let start_of = |part: &str| part.as_ptr() as usize - source.as_ptr() as usize;
    let mut tokens = Vec::new();
    let mut brackets = 0;
    let (mut rest, mut line, mut trim) = (source, 1, false);
    loop {
        let open = rest
            .match_indices('{')
            .map(|(at, _)| at)
            .find(|at| matches!(rest.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')));
        let (text, bracket) = rest.split_at(open.unwrap_or(rest.len()));
        let trim_next = bracket.as_bytes().get(2) == Some(&b'-');
        let kept = if trim { text.trim_start() } else { text };
        let kept = if trim_next { kept.trim_end() } else { kept };
        if !kept.is_empty() {
            let spot = Spot { line, start: start_of(kept) };
            tokens.push(Token { kind: Kind::Text, text: kept, spot });
        }
        line += count_lines(text);
        if bracket.is_empty() {
            return Ok(tokens);
        }
        brackets += 1;
        if brackets > MAX_BRACKETS {
            return Err(format!("has more than {MAX_BRACKETS} brackets").into());
        }
        let (kind, close) = match bracket.as_bytes()[1] {
            b'{' => (Some(Kind::Expression), "}}"),
            b'%' => (Some(Kind::Tag), "%}"),
            _ => (None, "#}"),
        };
        let body = bracket.get(2..).unwrap_or_default();
        let end = match kind {
            Some(_) => end_of_bracket(body, close),
            None => body.find(close),
        };
        let Some(end) = end else {
            let message = format!("{} is not closed by {close}", &bracket[..2]);
            return Err(Wrong::behind(start_of(bracket), message));
        };
        let inner = &body[..end];
        if let Some(kind) = kind {
            let text = inner.strip_prefix('-').unwrap_or(inner);
            let text = text.strip_suffix('-').unwrap_or(text).trim();
            let spot = Spot { line, start: start_of(text) };
            tokens.push(Token { kind, text, spot });
        }
        trim = inner.len() > 1 && inner.ends_with('-');
        line += count_lines(inner);
        rest = body.get(end + 2..).unwrap_or_default();
    }
}

fn count_lines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// Finds the closing bracket, which may also stand in a text or close two maps.
fn end_of_bracket(body: &str, close: &str) -> Option<usize> {
    let bytes = body.as_bytes();
    let (mut at, mut open) = (0, 0_usize);
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'\'' | b'"') => at = end_of_text(bytes, at + 1, quote),
            _ if open == 0 && bytes[at..].starts_with(close.as_bytes()) => return Some(at),
            b'{' => open += 1,
            b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// A tag that ends a part: `else`, `elif`, `endif` or `endfor`.
struct Tag<'s> {
    spot: Spot,
    word: &'s str,
    rest: &'s str,
}

struct Parser<'s> {
    source: &'s str,
    tokens: std::vec::IntoIter<Token<'s>>,
    locals: Vec<String>,
    levels: usize,
    patterns: usize,
    pattern_bytes: usize,
    variables: BTreeSet<String>,
    /// What is wrong with the expressions so far.
    wrong: Vec<Wrong>,
}

impl<'s> Parser<'s> {
    /// Reads up to the tag that ends these parts.
    fn parts(&mut self) -> Result<(Vec<Part>, Option<Tag<'s>>), Wrong> {
        let mut parts = Vec::new();
        while let Some(Token { kind, text, spot }) = self.tokens.next() {
            let item = match kind {
                Kind::Text => Item::Text(text.to_owned()),
                Kind::Expression => Item::Show(self.expression(text, spot)?),
                Kind::Tag => {
                    let (word, rest) =
                        text.split_once(char::is_whitespace).unwrap_or(text.split_at(text.len()));
                    match word {
                        "if" => self.nested(spot, |parser| parser.condition(rest, spot))?,
                        "for" => self.nested(spot, |parser| parser.walk(rest, spot))?,
                        "else" | "elif" | "endif" | "endfor" => {
                            return Ok((parts, Some(Tag { spot, word, rest })));
                        }
                        _ => {
                            return Err(spot.wrong(format!(
                                "there is no tag {word}, only if, elif, else, endif, for and endfor"
                            )));
                        }
                    }
                }
            };
            parts.push(Part { line: spot.line, item });
        }
        Ok((parts, None))
    }

    fn nested(
        &mut self,
        spot: Spot,
        read: impl FnOnce(&mut Self) -> Result<Item, Wrong>,
    ) -> Result<Item, Wrong> {
        if self.levels >= MAX_LEVELS {
            return Err(spot.wrong(format!("is nested more than {MAX_LEVELS} levels deep")));
        }
        self.levels += 1;
        let item = read(self)?;
        self.levels -= 1;
        Ok(item)
    }

    fn expression(&mut self, source: &'s str, spot: Spot) -> Result<Node, Wrong> {
        let start = source.as_ptr() as usize - self.source.as_ptr() as usize;
        let program = match compile_filtered(source, &self.locals) {
            Ok(program) => program,
            Err(Refused { wrong, rest }) => {
                let room = MAX_WRONG.saturating_sub(self.wrong.len());
                self.wrong.extend(wrong.into_iter().take(room).map(|it| it.within(start)));
                let Some(rest) = rest else { return Ok(Node::Hole) };
                *rest
            }
        };
        self.patterns += program.patterns;
        self.pattern_bytes += program.pattern_bytes;
        if self.patterns > MAX_PATTERNS {
            return Err(spot.wrong(format!("has more than {MAX_PATTERNS} matches")));
        }
        self.variables.extend(program.variables);
        Ok(program.root)
    }

    fn condition(&mut self, source: &'s str, spot: Spot) -> Result<Item, Wrong> {
        let condition = self.expression(source, spot)?;
        let (then, end) = self.parts()?;
        let otherwise = match end {
            Some(Tag { word: "endif", .. }) => Vec::new(),
            Some(Tag { word: "else", .. }) => self.last("endif", spot)?,
            // An `elif` is an `if` in the `else`, and shares its end.
            Some(Tag { word: "elif", rest, spot }) => {
                let item = self.nested(spot, |parser| parser.condition(rest, spot))?;
                vec![Part { line: spot.line, item }]
            }
            _ => return Err(spot.wrong("if is not ended by endif")),
        };
        Ok(Item::If { condition, then, otherwise })
    }

    fn walk(&mut self, source: &'s str, spot: Spot) -> Result<Item, Wrong> {
        let (name, over) = match source.split_once(" in ") {
            Some((name, over)) if is_name(name.trim()) => (name.trim(), over),
            _ => return Err(spot.wrong("for must read: for NAME in LIST")),
        };
        let over = self.expression(over, spot)?;
        self.locals.push(name.to_owned());
        let (body, end) = self.parts()?;
        self.locals.pop();
        let otherwise = match end {
            Some(Tag { word: "endfor", .. }) => Vec::new(),
            Some(Tag { word: "else", .. }) => self.last("endfor", spot)?,
            _ => return Err(spot.wrong("for is not ended by endfor")),
        };
        Ok(Item::For { over, body, otherwise })
    }

    /// Reads the part behind `else`, which only that tag may end.
    fn last(&mut self, word: &str, spot: Spot) -> Result<Vec<Part>, Wrong> {
        match self.parts()? {
            (parts, Some(end)) if end.word == word => Ok(parts),
            _ => Err(spot.wrong(format!("else is not ended by {word}"))),
        }
    }
}

fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|char| char.is_ascii_alphanumeric() || char == '_')
}
