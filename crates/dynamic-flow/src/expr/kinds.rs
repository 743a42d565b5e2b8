//! What kinds of values something may be, before it is there.

use std::fmt;

/// A set of kinds. A value of an unknown kind may be of any; integers and doubles are one kind, for
/// they work together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kinds(u16);

impl Kinds {
    pub(crate) const NULL: Self = Self(1);
    pub(crate) const BOOL: Self = Self(1 << 1);
    pub(crate) const NUMBER: Self = Self(1 << 2);
    pub(crate) const TEXT: Self = Self(1 << 3);
    pub(crate) const LIST: Self = Self(1 << 4);
    pub(crate) const MAP: Self = Self(1 << 5);
    pub(super) const BYTES: Self = Self(1 << 6);
    pub(super) const TIMESTAMP: Self = Self(1 << 7);
    pub(super) const DURATION: Self = Self(1 << 8);
    pub(super) const TYPE: Self = Self(1 << 9);
    pub(crate) const ANY: Self = Self((1 << 10) - 1);

    const NAMES: [&str; 10] = [
        "null",
        "bool",
        "number",
        "string",
        "list",
        "map",
        "bytes",
        "timestamp",
        "duration",
        "type",
    ];

    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both; of what can't be at all, nothing is known.
    pub(crate) const fn and(self, other: Self) -> Self {
        match self.0 & other.0 {
            0 => Self::ANY,
            both => Self(both),
        }
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether a value may be of one of those kinds.
    pub(crate) const fn may_be(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether a value is of none but those kinds.
    pub(crate) const fn is(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// What the values become as JSON: bytes, times and types are texts.
    pub(crate) fn as_json(self) -> Self {
        let texts = Self::BYTES.or(Self::TIMESTAMP).or(Self::DURATION).or(Self::TYPE);
        match self.may_be(texts) {
            true => self.without(texts).or(Self::TEXT),
            false => self,
        }
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = Self::NAMES.iter().enumerate();
        let names: Vec<&str> =
            all.filter(|(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| *name).collect();
        f.write_str(&names.join(" or "))
    }
}
