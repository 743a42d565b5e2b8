//! What is wrong with a source, and where.

/// Why a source can't be read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wrong {
    pub(crate) place: Where,
    pub(crate) message: String,
}

/// Where it is wrong, in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Where {
    /// As a whole, or somewhere.
    Somewhere,
    /// In what begins there.
    Behind(usize),
    /// There.
    At(usize),
}

impl Wrong {
    pub(super) fn at(offset: usize, message: impl Into<String>) -> Self {
        Self { place: Where::At(offset), message: message.into() }
    }

    pub(super) fn behind(offset: usize, message: impl Into<String>) -> Self {
        Self { place: Where::Behind(offset), message: message.into() }
    }

    /// As what is wrong with a source that has this one from `start` on.
    pub(super) fn within(self, start: usize) -> Self {
        let place = match self.place {
            Where::At(offset) => Where::At(start + offset),
            Where::Behind(offset) => Where::Behind(start + offset),
            Where::Somewhere => Where::Behind(start),
        };
        Self { place, ..self }
    }

    /// The message, with its line, and with its column where that is known.
    pub(crate) fn told(&self, source: &str) -> String {
        let message = &self.message;
        match self.place {
            Where::Somewhere => message.clone(),
            Where::Behind(offset) => {
                format!("line {}: {message}", line_and_column(source, offset).0)
            }
            Where::At(offset) => {
                let (line, column) = line_and_column(source, offset);
                format!("line {line}, column {column}: {message}")
            }
        }
    }
}

/// A source in which something is wrong.
#[derive(Debug)]
pub(crate) struct Refused<T> {
    /// All that is; at least one thing.
    pub(crate) wrong: Vec<Wrong>,
    /// What was read all the same, with holes where it could not be, so that it can be checked. It
    /// never runs.
    pub(crate) rest: Option<Box<T>>,
}

impl<T> Refused<T> {
    /// All that is wrong, in one line.
    pub(super) fn told(&self, source: &str) -> String {
        self.wrong.iter().map(|wrong| wrong.told(source)).collect::<Vec<_>>().join("; ")
    }

    pub(crate) fn map<U>(self, then: impl FnOnce(T) -> U) -> Refused<U> {
        Refused { wrong: self.wrong, rest: self.rest.map(|rest| Box::new(then(*rest))) }
    }
}

impl<T> From<Wrong> for Refused<T> {
    fn from(wrong: Wrong) -> Self {
        Self { wrong: vec![wrong], rest: None }
    }
}

/// The line and the column of a byte of a text, both from 1. Lines end as those of YAML do: with a
/// line feed, a carriage return, or both.
pub(crate) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let (mut line, mut start) = (1, 0);
    for (at, byte) in before.bytes().enumerate() {
        if byte == b'\n' || (byte == b'\r' && text.as_bytes().get(at + 1) != Some(&b'\n')) {
            line += 1;
            start = at + 1;
        }
    }
    (line, before[start..].chars().count() + 1)
}

impl From<String> for Wrong {
    fn from(message: String) -> Self {
        Self { place: Where::Somewhere, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_those_of_yaml() {
        for text in ["é\nbc", "é\r\nbc", "é\rbc"] {
            let at = text.find('c').unwrap();
            assert_eq!(line_and_column(text, at), (2, 2), "{text:?}");
        }
        assert_eq!(line_and_column("a\r\r\n\n", 5), (4, 1));
        assert_eq!(line_and_column("é", 2), (1, 2));
        assert_eq!(line_and_column("", 5), (1, 1));
    }
}
