//! From nodes to the questions that wait for an answer.

use super::{
    node::{Data, Node},
    reader::{Fields, Reader},
};
use crate::{
    expr::Compute,
    flow::{StepKind, ToolRef, check::inside},
    id::id_problem,
    schema::Schema,
    tool::{AwaitInputDef, QuestionPart},
    wait::Deadline,
};

/// The fields of a question, but for those of its preset.
pub(super) const AWAIT_INPUT: &[&str] = &[
    "tool",
    "name",
    "description",
    "prompt",
    "show",
    "schema",
    "preset",
    "timeout",
    "default",
    "metadata",
];

impl Reader<'_> {
    pub(super) fn await_input(&mut self, node: &Node) -> Option<StepKind> {
        let what = "`await_input`";
        let fields = self.object(node, what)?;
        let own_id = self.path.rsplit('/').next().unwrap_or_default().to_owned();
        let tool = fields.get("tool").and_then(|node| self.text(node, "`tool`"));
        let schema = self.question_schema(fields);
        let name = self.optional_text(fields, "name");
        let description = self.optional_text(fields, "description");
        let mut hidden = Vec::new();
        let mut computed = |reader: &mut Self, name: &str| {
            let compute = reader.compute(fields.get(name)?, &format!("`{name}`"));
            hidden.push((inside("/await_input", name), compute.clone()));
            Some(compute)
        };
        let prompt = computed(self, "prompt");
        let show = computed(self, "show");
        let metadata = fields.get("metadata").and_then(|n| self.variables(n, "`metadata`"));
        hidden.extend(
            metadata
                .iter()
                .flatten()
                .map(|(name, compute)| (inside("/await_input/metadata", name), compute.clone())),
        );
        self.hidden.insert(self.address.clone(), hidden);
        let mut is_right = true;
        if let (Some(Compute::Value(prompt)), Some(node)) = (&prompt, fields.get("prompt"))
            && !prompt.is_string()
        {
            self.find(node.place, format!("`prompt` must be text, not {}", node.sort()));
            is_right = false;
        }
        let deadline = self.question_deadline(fields);
        let default = match fields.get("default") {
            None => Some(None),
            Some(node) => self.constant(node, "`default`", "").map(Some),
        };
        if let (Some(Deadline::Never), Some(key)) = (&deadline, fields.key("default")) {
            let message = "`default` is never taken beside `timeout: never`: take one of them out";
            self.find_bearable(key.place, message);
        }
        let (schema, deadline, default) = (schema?, deadline?, default?);
        if !is_right {
            return None;
        }
        // The id of the step is found wrong by itself, once.
        let own_id = if id_problem(&own_id).is_none() { &own_id } else { "question" };
        let mut def = AwaitInputDef::new(tool.unwrap_or(own_id), schema);
        if !name.is_empty() {
            def.name = name;
        }
        if !description.is_empty() {
            def.description = description;
        }
        if let Some(prompt) = prompt {
            def.prompt = prompt;
        }
        def.show = show;
        def.deadline = deadline;
        def.default = default;
        def.metadata = metadata.unwrap_or_default();
        match def.checked_tool() {
            Ok(tool) => Some(StepKind::AwaitInput { tool: ToolRef::new(tool) }),
            Err(problems) => {
                for (part, message) in problems {
                    let name = match part {
                        QuestionPart::Id => "tool",
                        QuestionPart::Default => "default",
                        QuestionPart::Deadline => "timeout",
                        QuestionPart::Prompt => "prompt",
                        QuestionPart::Metadata => "metadata",
                    };
                    let place = fields.get(name).map_or(fields.place, |node| node.place);
                    self.find(place, message);
                }
                None
            }
        }
    }

    /// How long a question waits for its answer.
    fn question_deadline(&mut self, fields: Fields<'_>) -> Option<Deadline> {
        let node = match fields.get("timeout") {
            None => return Some(Deadline::HubDefault),
            Some(Node { data: Data::Text(text), .. }) if text == "never" => {
                return Some(Deadline::Never);
            }
            Some(node) => node,
        };
        let duration = self.duration(node, "`timeout`")?;
        if duration.is_zero() {
            let message = "`timeout` must be longer than nothing, or `never`";
            self.find(node.place, message);
            return None;
        }
        Some(Deadline::After(duration))
    }

    /// What an answer must look like: a schema, or a preset with its options beside it.
    fn question_schema(&mut self, fields: Fields<'_>) -> Option<Schema> {
        let what = "`await_input`";
        let options = || fields.iter().filter(|(key, _)| !AWAIT_INPUT.contains(&key.name.as_str()));
        let Some(preset) = fields.get("preset") else {
            for (key, _) in options() {
                self.unknown_field(what, key, AWAIT_INPUT);
            }
            if !fields.has("schema") && !fields.has("preset") {
                let message =
                    format!("{what} needs `schema` or `preset`, which say what to answer");
                self.find(fields.place, message);
            }
            return fields.get("schema").and_then(|node| self.schema(node, "`schema`"));
        };
        if let Some(key) = fields.key("schema") {
            self.find(key.place, format!("{what} has `schema` or `preset`, not both"));
            return None;
        }
        let options: Vec<_> = options().collect();
        self.preset(preset, &options)
    }
}
