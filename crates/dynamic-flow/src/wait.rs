//! Open questions of runs, what answers them, and the receipts of what they took.

mod answer;
mod digest;
// As the engine's state, of which it is a part.
#[cfg_attr(not(feature = "testkit"), allow(unreachable_pub))]
mod open;
mod receipt;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Result, clock::Timestamp, schema::Schema};

pub(crate) use self::open::Wait;
pub use self::{
    answer::{Answer, Cancellation},
    digest::ContentDigest,
    receipt::{Closed, Receipt},
};
pub(crate) use crate::metadata::{Metadata, Scalar};

/// How long a wait stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Deadline {
    /// As long as the hub's `default_timeout` says.
    #[default]
    HubDefault,
    /// So long from the moment it opens; whole milliseconds.
    After(Duration),
    /// Forever; somebody wrote that out.
    Never,
}

impl Deadline {
    /// When a wait ends that is opened now; none if it never does.
    pub(crate) fn ends_at(self, now: Timestamp, hub_default: Duration) -> Option<Timestamp> {
        match self {
            Self::HubDefault => Some(now.after(hub_default)),
            Self::After(duration) => Some(now.after(duration)),
            Self::Never => None,
        }
    }
}

impl From<Duration> for Deadline {
    fn from(duration: Duration) -> Self {
        Self::After(duration)
    }
}

/// What a tool asks for when it suspends its run.
///
/// ```
/// use dynamic_flow::{hours, tool::Output, wait::WaitRequest};
/// use serde_json::Value;
///
/// # fn main() -> dynamic_flow::Result<()> {
/// let request = WaitRequest::of::<bool>("Has the parcel been picked up?")?
///     .timeout(hours(48))
///     .metadata("carrier", "swift")
///     .save("parcel 17".into());
/// let suspends: Output<Value> = Output::Suspend(request);
/// # let _ = suspends; Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WaitRequest {
    /// The question, in words for whoever answers.
    pub prompt: String,
    /// What whoever answers must see to decide; digested into the receipt.
    #[serde(default, with = "present", skip_serializing_if = "Option::is_none")]
    pub shown: Option<Value>,
    /// What an answer must look like.
    pub schema: Schema,
    /// How long it stays open.
    #[serde(default)]
    pub deadline: Deadline,
    /// What answers it after the deadline; `Some(Value::Null)` is a default, `None` is none.
    #[serde(default, with = "present", skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Plain values to find it by.
    #[serde(default)]
    pub metadata: Metadata,
    /// What the tool wants back in `on_resume`; sealed with the state.
    #[serde(default, with = "present", skip_serializing_if = "Option::is_none")]
    pub saved: Option<Value>,
}

impl WaitRequest {
    /// Asks that, for an answer of that schema.
    ///
    /// A tool without an `on_resume` of its own gives the answer as its output: the schema must then be
    /// one of which all values fit the tool's output.
    #[must_use]
    pub fn new(prompt: impl Into<String>, schema: Schema) -> Self {
        Self {
            prompt: prompt.into(),
            shown: None,
            schema,
            deadline: Deadline::HubDefault,
            default: None,
            metadata: Metadata::new(),
            saved: None,
        }
    }

    /// Asks that, for an answer of a type.
    ///
    /// # Errors
    /// `InvalidFlow` for a type that has no schema of use.
    pub fn of<A: JsonSchema>(prompt: impl Into<String>) -> Result<Self> {
        Ok(Self::new(prompt, Schema::of::<A>()?))
    }

    /// What whoever answers must see to decide.
    #[must_use]
    pub fn show(mut self, shown: Value) -> Self {
        self.shown = Some(shown);
        self
    }

    /// How long it stays open; the hub's `default_timeout` unless said.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.deadline = Deadline::After(timeout);
        self
    }

    /// It stays open for ever.
    #[must_use]
    pub fn no_timeout(mut self) -> Self {
        self.deadline = Deadline::Never;
        self
    }

    /// What takes the answer's place after the deadline; `null` is a default too.
    #[must_use]
    pub fn default_value(mut self, default: Value) -> Self {
        self.default = Some(default);
        self
    }

    /// A plain value to find the run by while it asks; stored unsealed. It hides one of the same name
    /// that the run itself has.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Scalar>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// What the tool wants back in `on_resume`.
    #[must_use]
    pub fn save(mut self, state: Value) -> Self {
        self.saved = Some(state);
        self
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives it so")]
pub(crate) fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// `Option<Value>` in which a `null` that is there stays `Some(Value::Null)`.
pub(crate) mod present {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    #[expect(clippy::ref_option, reason = "serde gives it so")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Value>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        // Not as an option: of a `Some` that is null, the checking serializer would say that it is lost.
        match value {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Value>, D::Error> {
        Value::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{from_value, to_value};

    #[test]
    fn a_present_null_stays_present() {
        let request = WaitRequest {
            prompt: String::new(),
            shown: None,
            schema: Schema::any(),
            deadline: Deadline::Never,
            default: Some(Value::Null),
            metadata: Metadata::new(),
            saved: None,
        };
        let read: WaitRequest = from_value(&to_value(&request).unwrap()).unwrap();
        assert_eq!(read, request);
    }
}
