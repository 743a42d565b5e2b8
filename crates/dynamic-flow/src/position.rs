//! Where in a flow something is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::StepId;

/// Where in a flow something is: the steps from the root down, each with the iteration of it.
///
/// Displayed as `review[2]/ask`: the step `ask` in the second iteration of the step `review`
/// (an iteration of 1 is not shown). Serialized as that text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub Vec<PathPart>);

/// One step of a position.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct PathPart {
    /// The step.
    pub step: StepId,
    /// Which time the bodies inside the step run, from 1; 1 for a step without bodies.
    pub iteration: u32,
}

impl Position {
    /// The position of a step in a body at this position.
    #[must_use]
    pub fn join(&self, step: StepId, iteration: u32) -> Self {
        let mut parts = self.0.clone();
        parts.push(PathPart { step, iteration });
        Self(parts)
    }

    /// The steps without their iterations: `review/ask`.
    pub fn steps(&self) -> String {
        self.0.iter().map(|part| part.step.as_str()).collect::<Vec<_>>().join("/")
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            f.write_str(part.step.as_str())?;
            if part.iteration != 1 {
                write!(f, "[{}]", part.iteration)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.split('/')
            .map(|part| {
                let (step, iteration) = match part.strip_suffix(']').and_then(|p| p.split_once('['))
                {
                    Some((step, iteration)) => {
                        (step, iteration.parse().map_err(serde::de::Error::custom)?)
                    }
                    None => (part, 1),
                };
                Ok(PathPart { step: step.into(), iteration })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}
