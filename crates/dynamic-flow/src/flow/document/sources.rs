//! Where in a document something is wrong with an expression or a template.

use super::{
    node::{Node, Place},
    reader::Reader,
};
use crate::expr::{Where, Wrong, line_and_column};

/// A source that a text of the document has, and what it is.
#[derive(Clone, Copy)]
pub(super) struct Source<'t> {
    /// The text as a whole.
    pub(super) text: &'t str,
    /// The part of it that is the source.
    pub(super) source: &'t str,
    pub(super) what: &'static str,
}

impl Reader<'_> {
    /// Tells what is wrong with a source, at its place in the document where that can be found.
    pub(super) fn find_wrong(
        &mut self,
        node: &Node,
        source: Source<'_>,
        wrong: &Wrong,
        what: &str,
    ) {
        let offset = match wrong.place {
            Where::At(offset) | Where::Behind(offset) => Some(offset),
            Where::Somewhere => None,
        };
        let start = source.source.as_ptr() as usize - source.text.as_ptr() as usize;
        let place = offset.and_then(|offset| self.place_in(node, source.text, start + offset));
        let (place, message) = match place {
            Some(place) => (place, wrong.message.clone()),
            None => (node.place, wrong.told(source.source)),
        };
        self.find(place, format!("{what}: {}: {message}", source.what));
    }

    /// The place in the document of a byte of a text that it has.
    fn place_in(&self, node: &Node, text: &str, offset: usize) -> Option<Place> {
        let raw = self.document.get(node.raw.clone())?;
        let (written, read) = (squeezed(raw, Quotes::of(raw)), squeezed(text.trim(), Quotes::None));
        let offset = offset.checked_sub(text.len() - text.trim_start().len())?;
        let width = read.len();
        let start = (0..(written.len() + 1).checked_sub(width)?).find(|start| {
            written[*start..start + width].iter().zip(&read).all(|(one, two)| one.1 == two.1)
        })?;
        let index = start + read.iter().position(|(at, _)| *at >= offset).unwrap_or(width);
        let at = match written.get(index) {
            Some((at, _)) => *at,
            None => raw.len(),
        };
        let Place { line, column } = node.place;
        Some(match line_and_column(raw, at) {
            (1, within) => Place { line, column: column + within - 1 },
            (lines, column) => Place { line: line + lines - 1, column },
        })
    }
}

/// How the quotes of a text are written inside it.
#[derive(Clone, Copy, PartialEq)]
enum Quotes {
    None,
    /// Each twice.
    Single,
    /// Behind a backslash.
    Double,
}

impl Quotes {
    fn of(raw: &str) -> Self {
        match raw.as_bytes().first() {
            Some(b'\'') => Self::Single,
            Some(b'"') => Self::Double,
            _ => Self::None,
        }
    }
}

/// The characters of a text and where they are, each run of white space as one space: folding
/// changes nothing else.
fn squeezed(text: &str, quotes: Quotes) -> Vec<(usize, char)> {
    let mut squeezed: Vec<(usize, char)> = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let twice = quotes == Quotes::Single && c == '\'';
        if twice && chars.peek().is_some_and(|(_, next)| *next == '\'') {
            chars.next();
        }
        let escaped = match quotes == Quotes::Double && c == '\\' {
            true => chars.next_if(|(_, next)| matches!(next, '"' | '\\' | '/')),
            false => None,
        };
        let c = escaped.map_or(c, |(_, escaped)| escaped);
        match c.is_whitespace() {
            true if squeezed.last().is_some_and(|(_, last)| *last == ' ') => {}
            true => squeezed.push((at, ' ')),
            false => squeezed.push((at, c)),
        }
    }
    squeezed
}
