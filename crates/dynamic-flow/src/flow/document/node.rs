//! The tree of nodes that a document is: values that know their places.

use std::ops::Range;

use serde_json::{Number, Value};
use serde_saphyr::granit_parser::Marker;

use crate::flow::check::parts;

/// A place in the text: line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Place {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

impl From<&Marker> for Place {
    fn from(marker: &Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

/// A value in the text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    /// Where a text is written, its quotes included: bytes of the document.
    pub(super) raw: Range<usize>,
    pub(super) data: Data,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(Key, Node)>),
    /// Something of which a fault was reported already.
    Broken,
}

/// The name of a field. Keys are text, whatever they look like: `no`, `on` and `1` too.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) name: String,
}

impl Node {
    pub(super) fn new(place: Place, data: Data) -> Self {
        Self { place, raw: 0..0, data }
    }

    /// The node as plain JSON; what is broken becomes `null`.
    pub(super) fn to_value(&self) -> Value {
        match &self.data {
            Data::Null | Data::Broken => Value::Null,
            Data::Bool(value) => Value::Bool(*value),
            Data::Number(number) => Value::Number(number.clone()),
            Data::Text(text) => Value::String(text.clone()),
            Data::List(items) => items.iter().map(Self::to_value).collect(),
            Data::Object(fields) => Value::Object(
                fields.iter().map(|(key, node)| (key.name.clone(), node.to_value())).collect(),
            ),
        }
    }

    /// The part that a JSON pointer leads to, or the last that is there on the way.
    pub(super) fn at(&self, pointer: &str) -> &Self {
        let mut node = self;
        for name in parts(pointer) {
            let Some(inner) = node.inner(&name) else { break };
            node = inner;
        }
        node
    }

    /// The field of that name, or the item of that number.
    pub(super) fn inner(&self, name: &str) -> Option<&Self> {
        match &self.data {
            Data::List(items) => items.get(name.parse::<usize>().ok()?),
            _ => self.field(name),
        }
    }

    /// The field of that name; none where there is none, or no object.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        self.fields().iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
    }

    /// The fields of an object; none of anything else.
    pub(super) fn fields(&self) -> &[(Key, Self)] {
        match &self.data {
            Data::Object(fields) => fields,
            _ => &[],
        }
    }

    /// Where the name of that field is written.
    pub(super) fn key(&self, name: &str) -> Option<Place> {
        self.fields().iter().find(|(key, _)| key.name == name).map(|(key, _)| key.place)
    }

    /// What it is, in words, for messages.
    pub(super) fn sort(&self) -> &'static str {
        match &self.data {
            Data::Null | Data::Broken => "nothing",
            Data::Bool(_) => "true or false",
            Data::Number(_) => "a number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Object(_) => "an object",
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.data == Data::Broken
    }

    /// Whether it, or anything in it, is broken.
    pub(super) fn has_broken(&self) -> bool {
        match &self.data {
            Data::Broken => true,
            Data::List(items) => items.iter().any(Self::has_broken),
            Data::Object(fields) => fields.iter().any(|(_, node)| node.has_broken()),
            _ => false,
        }
    }
}
