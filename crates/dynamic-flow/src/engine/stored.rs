//! How a tree of branches is written and read.
//!
//! A body begins with the value of the branch around it, and most never change it before they park:
//! a value that is still the very same one is written with the outermost of them alone.

use std::sync::{Arc, LazyLock};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::Error as _,
    ser::{SerializeSeq as _, SerializeStruct as _},
};
use serde_json::Value;

use super::state::{Branch, StepState};

/// What a branch has that was written without a value, until it gets the one around it.
pub(super) fn value_around() -> Arc<Value> {
    static AROUND: LazyLock<Arc<Value>> = LazyLock::new(Arc::default);
    AROUND.clone()
}

/// Reads what a run counts. Nobody has counted beyond half of what the number holds: a greater one is
/// damage, and would make counting on panic.
pub(super) fn count<'de, D, N>(deserializer: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: Deserialize<'de> + Into<u64> + Copy,
{
    let count = N::deserialize(deserializer)?;
    let bits = 8 * size_of::<N>() - 1;
    match count.into() >> bits {
        0 => Ok(count),
        _ => Err(D::Error::custom("a counter is beyond all that can have been counted")),
    }
}

/// Reads the tree of a run, and gives each branch its value.
pub(super) fn read_root<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Branch, D::Error> {
    let mut root = Branch::deserialize(deserializer)?;
    if Arc::ptr_eq(&root.value, &value_around()) {
        return Err(D::Error::missing_field("value"));
    }
    hand_down(&mut root);
    Ok(root)
}

fn hand_down(branch: &mut Branch) {
    if let StepState::Inside { branches, .. } = &mut branch.state {
        for inner in branches {
            if Arc::ptr_eq(&inner.value, &value_around()) {
                inner.value = branch.value.clone();
            }
            hand_down(inner);
        }
    }
}

impl Serialize for Branch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Within { branch: self, around: None }.serialize(serializer)
    }
}

/// A branch inside one that has that value.
struct Within<'a> {
    branch: &'a Branch,
    around: Option<&'a Arc<Value>>,
}

impl Serialize for Within<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Branch { body, iteration, step, index, value, vars, state } = self.branch;
        let is_around = self.around.is_some_and(|around| Arc::ptr_eq(around, value));
        let mut fields = serializer.serialize_struct("Branch", 7)?;
        fields.serialize_field("body", body)?;
        fields.serialize_field("iteration", iteration)?;
        if let Some(step) = step {
            fields.serialize_field("step", step)?;
        }
        if index.0 > 0 {
            fields.serialize_field("index", index)?;
        }
        if !is_around {
            fields.serialize_field("value", value)?;
        }
        if !vars.is_empty() {
            fields.serialize_field("vars", vars)?;
        }
        fields.serialize_field("state", &StateOf { state, value })?;
        fields.end()
    }
}

/// How far the step of a branch is that has that value.
struct StateOf<'a> {
    state: &'a StepState,
    value: &'a Arc<Value>,
}

impl Serialize for StateOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let StepState::Inside { branches, memo } = self.state else {
            return self.state.serialize(serializer);
        };
        let mut fields = serializer.serialize_struct("Inside", 3)?;
        fields.serialize_field("at", "inside")?;
        fields.serialize_field("branches", &AllWithin { branches, around: self.value })?;
        fields.serialize_field("memo", memo)?;
        fields.end()
    }
}

struct AllWithin<'a> {
    branches: &'a [Branch],
    around: &'a Arc<Value>,
}

impl Serialize for AllWithin<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.branches.len()))?;
        for branch in self.branches {
            list.serialize_element(&Within { branch, around: Some(self.around) })?;
        }
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        engine::{FlowStamp, Memo, Snapshot},
        id::RunId,
    };

    fn snapshot() -> Snapshot {
        let stamp = FlowStamp::unstamped("f".into());
        Snapshot::start(RunId::from_bytes([1; 16]), stamp, &Vec::new(), json!({ "order": 7 }))
    }

    fn inside(branches: Vec<Branch>) -> StepState {
        StepState::Inside { branches, memo: Memo::None }
    }

    #[test]
    fn a_value_that_is_handed_down_is_written_once_and_read_back_for_all() {
        let mut snapshot = snapshot();
        let inner = snapshot.root.clone();
        let null = Branch { value: Arc::new(Value::Null), ..inner.clone() };
        let equal = Branch { value: Arc::new(json!({ "order": 7 })), ..inner.clone() };
        let deepest = inner.clone();
        let middle = Branch { state: inside(vec![deepest, null, equal]), ..inner };
        snapshot.root.state = inside(vec![middle]);

        let written = serde_json::to_value(&snapshot).unwrap();
        let root = &written["root"];
        let middle = &root["state"]["branches"][0];
        assert_eq!(root["value"], json!({ "order": 7 }));
        assert_eq!(middle.get("value"), None);
        assert_eq!(middle["state"]["branches"][0].get("value"), None);
        assert_eq!(middle["state"]["branches"][1].get("value"), Some(&Value::Null));
        assert_eq!(middle["state"]["branches"][2]["value"], json!({ "order": 7 }));

        let read: Snapshot = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(read, snapshot);
        assert_eq!(serde_json::to_value(&read).unwrap(), written, "it stays shared");
    }

    #[test]
    fn a_root_without_a_value_is_not_read() {
        let mut written = serde_json::to_value(snapshot()).unwrap();
        written["root"].as_object_mut().unwrap().remove("value");
        let error = serde_json::from_value::<Snapshot>(written).unwrap_err();
        assert!(error.to_string().contains("missing field `value`"), "{error}");
    }
}
