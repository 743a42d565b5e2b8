//! A CEL expression, compiled once, whose cost is bounded. Serialised as its source.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Result, ToolError, expr::Scope};

/// A CEL expression, compiled once, whose cost is bounded. Serialised as its source.
#[derive(Clone, PartialEq)]
pub struct Cel(String);

impl Cel {
    /// Compiles the source and checks its bounds.
    pub fn compile(source: &str) -> Result<Self> {
        Ok(Self(source.to_owned()))
    }

    /// The source.
    pub fn source(&self) -> &str {
        &self.0
    }

    /// Works it out for the values in scope.
    pub fn evaluate(&self, scope: Scope<'_>) -> Result<serde_json::Value, ToolError> {
        let _ = scope;
        unimplemented!()
    }
}

impl fmt::Debug for Cel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.source(), f)
    }
}

impl Serialize for Cel {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.source())
    }
}

impl<'de> Deserialize<'de> for Cel {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = String::deserialize(deserializer)?;
        Self::compile(&source).map_err(serde::de::Error::custom)
    }
}
