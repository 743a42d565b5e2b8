//! Presets of questions: what their answers look like, and what is wrong with their options.

use serde_json::{Map, Value};

use super::{
    node::{Data, Key, Node},
    questions::AWAIT_INPUT,
    reader::Reader,
};
use crate::{
    Error,
    schema::Schema,
    tool::{OptionSort, Preset, PresetOption},
    words::{did_you_mean, nearest},
};

impl Reader<'_> {
    /// What an answer to a preset must look like, under the options beside it.
    pub(super) fn preset(&mut self, preset: &Node, options: &[&(Key, Node)]) -> Option<Schema> {
        let name = self.text(preset, "`preset`")?;
        let Some(known) = Preset::options_of(name) else {
            let guess = did_you_mean(name, Preset::OPTIONS.iter().map(|(name, _)| *name));
            self.find(preset.place, format!("there is no preset `{name}`{guess}"));
            return None;
        };
        if options.iter().any(|(_, node)| node.has_broken()) {
            return None;
        }
        let found = self.findings.len();
        for (key, node) in options.iter().copied() {
            match known.iter().find(|option| option.name == key.name) {
                Some(option) => self.option(option.sort, key, node),
                None => self.unknown_option(name, known, key),
            }
        }
        if self.findings.len() > found || self.is_full() {
            return None;
        }
        let written = |name: &str| options.iter().find(|(key, _)| key.name == name);
        let missing = known.iter().find(|it| it.is_needed && written(it.name).is_none());
        let schema = match missing {
            Some(missing) => Err((None, format!("it needs `{}`", missing.name))),
            None => schema_of(name, options),
        };
        let wrong = |(culprit, message): (Option<&str>, String)| {
            let place = culprit.and_then(written).map_or(preset.place, |(key, _)| key.place);
            self.find(place, format!("the preset `{name}`: {message}"));
        };
        let Ok(schema) = schema.map_err(wrong) else {
            let written = options.iter().map(|(key, node)| (key.name.clone(), node.to_value()));
            self.lose(Schema::most_pattern_bytes(&written.collect()), preset.place);
            return None;
        };
        self.weigh(schema.pattern_bytes(), preset.place);
        for (name, node) in written("fields").into_iter().flat_map(|(_, node)| node.fields()) {
            self.unknown_keywords(node, &format!("`fields`.{}", name.name));
        }
        Some(schema)
    }

    /// Tells of an option that the preset does not have.
    fn unknown_option(&mut self, preset: &str, known: &[PresetOption], key: &Key) {
        // It may be meant for the question as well as for its preset.
        let all = known.iter().map(|option| option.name).chain(AWAIT_INPUT.iter().copied());
        let what = match nearest(&key.name, all.clone()) {
            Some(near) if AWAIT_INPUT.contains(&near) => "`await_input`".to_owned(),
            _ => format!("the preset `{preset}`"),
        };
        self.unknown_field(&what, key, &all.collect::<Vec<_>>());
    }

    /// Tells what is wrong with an option by itself.
    fn option(&mut self, sort: OptionSort, key: &Key, node: &Node) {
        let (wrong, wanted, within) = match (sort, &node.data) {
            (OptionSort::Texts, Data::List(items)) => {
                let is_text = |item: &&Node| matches!(item.data, Data::Text(_));
                let Some(item) = items.iter().find(|item| !is_text(item)) else { return };
                (item, "text", " in it")
            }
            _ if sort.takes(&node.to_value()) => return,
            (OptionSort::Flag, _) => (node, "true or false", ""),
            (OptionSort::Whole, _) => (node, "a whole number from 0 on", ""),
            (OptionSort::Number, _) => (node, "a number", ""),
            (OptionSort::Text, _) => (node, "text", ""),
            (OptionSort::Texts, _) => (node, "a list", ""),
            (OptionSort::Object, _) => (node, "an object", ""),
        };
        let quotes = match wrong.data {
            Data::Bool(_) | Data::Number(_) if wanted == "text" => "; put it in quotes",
            _ => "",
        };
        let (name, sort) = (&key.name, wrong.sort());
        let told = format!("`{name}`: {wanted} is expected{within}, not {sort}{quotes}");
        self.find(wrong.place, told);
    }
}

/// What an answer to a preset with those options must look like; else what they come to together,
/// and the option that is to blame, if it is one.
fn schema_of(
    name: &str,
    options: &[&(Key, Node)],
) -> Result<Schema, (Option<&'static str>, String)> {
    let options = options.iter().map(|(key, node)| (key.name.clone(), node.to_value()));
    let all: Map<String, Value> =
        options.chain([("preset".to_owned(), Value::from(name))]).collect();
    let preset: Preset =
        serde_json::from_value(Value::Object(all)).map_err(|error| (None, error.to_string()))?;
    let told = |(option, error): (_, Error)| (option, messages(&error).join("; "));
    preset.schema_or_culprit().map_err(told)
}

/// All that an error says: its findings, or its message.
fn messages(error: &Error) -> Vec<String> {
    match error.findings() {
        [] => vec![error.message().to_owned()],
        findings => findings.iter().map(|finding| finding.message.clone()).collect(),
    }
}
