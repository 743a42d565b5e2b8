//! Presets of questions: what their answers look like, and what is wrong with their options.

use serde_json::{Map, Value};

use super::{
    questions::AWAIT_INPUT,
    reader::Reader,
    syntax::{Data, Key, Node},
};
use crate::{
    Error,
    schema::Schema,
    tool::Preset,
    words::{did_you_mean, nearest},
};

impl Reader<'_> {
    /// What an answer to a preset must look like, under the options beside it.
    pub(super) fn preset(
        &mut self,
        preset: &Node,
        options: &[&(Key, Node)],
        path: &str,
    ) -> Option<Schema> {
        let name = self.text(preset, path, "`preset`")?;
        if let Err(message) = made(name, &[])
            && message.starts_with("unknown variant")
        {
            let guess = did_you_mean(name, expected(&message).1.into_iter());
            self.find(path, preset.place, format!("there is no preset `{name}`{guess}"));
            return None;
        }
        if options.iter().any(|(_, node)| node.has_broken()) {
            return None;
        }
        let found = self.findings.len();
        for option in options {
            self.option(name, option, path);
        }
        if self.findings.len() > found {
            return None;
        }
        let schema = match made(name, options) {
            Ok(preset) => preset.schema().map_err(|error| messages(&error).join("; ")),
            Err(message) => Err(match message.strip_prefix("missing field ") {
                Some(field) => format!("it needs {field}"),
                None => message,
            }),
        };
        let wrong = |message: String| {
            // What the options come to together names them.
            let named = options.iter().find(|(key, _)| message.contains(&key.name));
            let place = named.map_or(preset.place, |(key, _)| key.place);
            self.find(path, place, format!("the preset `{name}`: {message}"));
        };
        let schema = schema.map_err(wrong).ok()?;
        let fields = options.iter().find(|(key, _)| key.name == "fields");
        for (name, node) in fields.into_iter().flat_map(|(_, node)| node.fields()) {
            self.unknown_keywords(node, path, &format!("`fields`.{}", name.name));
        }
        Some(schema)
    }

    /// Tells what is wrong with an option by itself; what is missing beside it is told of all.
    fn option(&mut self, preset: &str, option: &(Key, Node), path: &str) {
        let Err(message) = made(preset, &[option]) else { return };
        let (key, node) = option;
        let (wanted, known) = expected(&message);
        if message.starts_with("unknown field") {
            // It may be meant for the question as well as for its preset.
            let all = known.iter().copied().chain(AWAIT_INPUT.iter().copied());
            let what = match nearest(&key.name, all.clone()) {
                Some(near) if AWAIT_INPUT.contains(&near) => "`await_input`".to_owned(),
                _ => format!("the preset `{preset}`"),
            };
            self.unknown_field(path, &what, key, &all.collect::<Vec<_>>());
        } else if !message.starts_with("missing field") {
            let wanted = match wanted {
                "a boolean" => "true or false",
                "f64" => "a number",
                "u64" => "a whole number from 0 on",
                "a sequence" => "a list",
                "a map" => "an object",
                "a string" => "text",
                other => other,
            };
            // Were it the list or the object itself, an empty one would be as wrong.
            let empty = match node.data {
                Data::List(_) => Some(Value::Array(Vec::new())),
                Data::Object(_) => Some(Value::Object(Map::new())),
                _ => None,
            };
            let within = empty.is_some_and(|empty| {
                let alone = of_values(preset, [(key.name.clone(), empty)]);
                alone.map_or_else(|message| message.starts_with("missing field"), |_| true)
            });
            // Where texts are expected in a list, the first of another sort is known.
            let wrong = match &node.data {
                Data::List(items) if within && wanted == "text" => {
                    items.iter().find(|item| !matches!(item.data, Data::Text(_)))
                }
                _ if within => None,
                _ => Some(node),
            };
            let Some(wrong) = wrong else {
                let told = format!("`{}`: {wanted} is expected in it", key.name);
                self.find(path, node.place, told);
                return;
            };
            let within = if within { " in it" } else { "" };
            let quotes = match wrong.data {
                Data::Bool(_) | Data::Number(_) if wanted == "text" => "; put it in quotes",
                _ => "",
            };
            let (name, sort) = (&key.name, wrong.sort());
            let told = format!("`{name}`: {wanted} is expected{within}, not {sort}{quotes}");
            self.find(path, wrong.place, told);
        }
    }
}

/// The preset of that name with those options, or what serde says of them.
fn made(name: &str, options: &[&(Key, Node)]) -> Result<Preset, String> {
    of_values(name, options.iter().map(|(key, node)| (key.name.clone(), node.to_value())))
}

fn of_values(
    name: &str,
    options: impl IntoIterator<Item = (String, Value)>,
) -> Result<Preset, String> {
    let name = ("preset".to_owned(), Value::from(name));
    let values: Map<String, Value> = options.into_iter().chain([name]).collect();
    serde_json::from_value(Value::Object(values)).map_err(|error| error.to_string())
}

/// What serde expects in place of what it complains of, and the words that it names there.
fn expected(message: &str) -> (&str, Vec<&str>) {
    let (_, wanted) = message.rsplit_once(", expected ").unwrap_or(("", message));
    (wanted, wanted.split('`').skip(1).step_by(2).collect())
}

/// All that an error says: its findings, or its message.
pub(super) fn messages(error: &Error) -> Vec<String> {
    match error.findings() {
        [] => vec![error.message().to_owned()],
        findings => findings.iter().map(|finding| finding.message.clone()).collect(),
    }
}
