//! A statement and its parameters.

use neo4rs::{BoltMap, BoltNull, BoltType, Query};

/// A statement in Cypher, in which `$p.name` is the parameter of that name.
///
/// All parameters are handed over in one map: the server keeps a plan for each combination of types
/// and sizes of parameters, and would make new ones all the time (30 ms each, and 8 ms to find one
/// that it has; with a map it finds it in less than one).
#[derive(Debug, Clone)]
pub(super) struct Statement {
    text: String,
    params: BoltMap,
}

impl Statement {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), params: BoltMap::new() }
    }

    pub(super) fn param(mut self, name: &str, value: impl Into<BoltType>) -> Self {
        self.params.put(name.into(), value.into());
        self
    }

    /// A parameter that is `null` if there is nothing.
    pub(super) fn maybe<T: Into<BoltType>>(self, name: &str, value: Option<T>) -> Self {
        self.param(name, value.map_or(BoltType::Null(BoltNull), Into::into))
    }
}

impl From<Statement> for Query {
    fn from(Statement { text, params }: Statement) -> Self {
        Self::new(text).param("p", BoltType::Map(params))
    }
}
