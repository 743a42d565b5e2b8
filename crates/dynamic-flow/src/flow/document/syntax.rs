//! Text to a tree of nodes that know their places.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span};

use super::{
    node::{Data, Key, Node, Place},
    scalars::scalar,
    slips::advised,
};
use crate::expr::line_and_column;

/// The longest document, in bytes.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// How deep lists and objects may nest in a document.
pub(super) const MAX_DEPTH: usize = 128;

/// For how many faults advice is looked for: it reads their whole line.
const MAX_ADVISED: usize = 20;

/// Something wrong, and its place.
pub(super) type Fault = (Place, String);

/// Reads YAML 1.2 with its core schema; JSON is a part of that.
///
/// Gives what could be read and everything that is wrong. Anchors, aliases and tags are refused:
/// a document means what it says where it says it, and can't unfold into more than it is.
pub(super) fn parse(text: &str) -> (Option<Node>, Vec<Fault>) {
    if text.len() > MAX_BYTES {
        let message =
            format!("a document has at most {MAX_BYTES} bytes, this one has {}", text.len());
        return (None, vec![(Place::START, message)]);
    }
    let mut builder = Builder { text, open: Vec::new(), root: None, faults: Vec::new() };
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.emit_unresolved_aliases = true;
    // JSON has no limit for its keys.
    options.simple_key_max_lookahead = MAX_BYTES;
    for event in Parser::new_from_str_with_options(text, options) {
        let taken = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => {
                let place = error.marker().into();
                let told = advised(text, place, &error.kind().to_string());
                // Of a text without quotes it was told already.
                if !builder.faults.iter().any(|(fault, _)| fault.line == place.line) {
                    builder.faults.push((place, told));
                }
                return (None, builder.faults);
            }
        };
        if let Err(fault) = taken {
            builder.faults.push(fault);
            return (None, builder.faults);
        }
    }
    if builder.root.is_none() {
        builder.faults.push((Place::START, "the document is empty".into()));
    }
    (builder.root, builder.faults)
}

struct Builder<'t> {
    text: &'t str,
    open: Vec<Open>,
    root: Option<Node>,
    faults: Vec<Fault>,
}

/// A list or object whose end has not come yet.
enum Open {
    List { place: Place, items: Vec<Node> },
    Object { place: Place, fields: Vec<(Key, Node)>, seen: HashMap<String, Place>, key: Slot },
}

/// What an object waits for.
enum Slot {
    Key,
    Value(Key),
    /// The value of a key that can't be used.
    Ignored,
}

impl Builder<'_> {
    /// Takes an event; an error ends the reading.
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let place = Place::from(&span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let is_key = matches!(self.open.last(), Some(Open::Object { key: Slot::Key, .. }));
                let data = if anchor != 0 || tag.is_some() {
                    self.refuse_extras(&span);
                    Data::Broken
                } else if plain && !is_key {
                    scalar(&text).unwrap_or_else(|message| {
                        self.faults.push((place, message));
                        Data::Broken
                    })
                } else {
                    Data::Text(text.into_owned())
                };
                self.put(Node { place, raw: span.byte_range().unwrap_or_default(), data });
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.refuse_extras(&span);
                self.put(Node::new(place, Data::Broken));
            }
            Event::SequenceStart(_, anchor, tag) => {
                if anchor != 0 || tag.is_some() {
                    self.refuse_extras(&span);
                }
                self.push(Open::List { place, items: Vec::new() })?;
            }
            Event::MappingStart(_, anchor, tag) => {
                if anchor != 0 || tag.is_some() {
                    self.refuse_extras(&span);
                }
                self.push(Open::Object {
                    place,
                    fields: Vec::new(),
                    seen: HashMap::new(),
                    key: Slot::Key,
                })?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.open.pop() {
                    Some(Open::List { place, items }) => Node::new(place, Data::List(items)),
                    Some(Open::Object { place, fields, .. }) => {
                        Node::new(place, Data::Object(fields))
                    }
                    None => return Ok(()),
                };
                self.put(node);
            }
            Event::DocumentStart(..) if self.root.is_some() => {
                return Err((place, "a second document begins here; one file is one flow".into()));
            }
            _ => {}
        }
        Ok(())
    }

    fn refuse_extras(&mut self, span: &Span) {
        let place = self.start_of_extras(span);
        let message = "anchors (&x), aliases (*x) and tags (!x) are not used in documents; \
                       write the value out, or quote the text";
        self.faults.push((place, message.into()));
    }

    /// Where the anchor or tag begins that stands before a value, or the value itself.
    fn start_of_extras(&self, span: &Span) -> Place {
        let place = Place::from(&span.start);
        let offset = span.start.byte_offset().unwrap_or_default();
        let Some(mut before) = self.text.get(..offset) else { return place };
        let mut start = offset;
        loop {
            before = before.trim_end();
            let ends_word = |c: char| c.is_whitespace() || "[{,".contains(c);
            let end = before.char_indices().rfind(|(_, c)| ends_word(*c));
            let word = end.map_or(0, |(at, c)| at + c.len_utf8());
            if !before[word..].starts_with(['&', '!']) {
                break;
            }
            start = word;
            before = &before[..word];
        }
        // Not counted from the start of the text: there may be many of them.
        let between = &self.text[start..offset];
        let lines = line_and_column(between, between.len()).0 - 1;
        let column = match lines {
            0 => place.column.saturating_sub(between.chars().count()),
            _ => {
                let line = self.text[..start].rfind(['\n', '\r']).map_or(0, |at| at + 1);
                self.text[line..start].chars().count() + 1
            }
        };
        Place { line: place.line - lines, column }
    }

    fn push(&mut self, open: Open) -> Result<(), Fault> {
        self.open.push(open);
        if self.open.len() <= MAX_DEPTH {
            return Ok(());
        }
        let Some(Open::List { place, .. } | Open::Object { place, .. }) = self.open.last() else {
            return Ok(());
        };
        Err((*place, format!("lists and objects nest at most {MAX_DEPTH} levels deep")))
    }

    fn put(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Object { fields, seen, key, .. }) => match std::mem::replace(key, Slot::Key)
            {
                Slot::Ignored => {}
                Slot::Value(name) => fields.push((name, node)),
                Slot::Key => *key = Self::key(self.text, &mut self.faults, seen, node),
            },
        }
    }

    fn key(
        text: &str,
        faults: &mut Vec<Fault>,
        seen: &mut HashMap<String, Place>,
        node: Node,
    ) -> Slot {
        let place = node.place;
        match node.data {
            Data::Text(name) => match seen.get(&name) {
                Some(first) => {
                    let message =
                        format!("`{name}` is here a second time, after line {}", first.line);
                    faults.push((place, message));
                    Slot::Ignored
                }
                None => {
                    seen.insert(name.clone(), place);
                    Slot::Value(Key { place, name })
                }
            },
            Data::Broken => Slot::Ignored,
            _ => {
                let told = "the name of a field must be text";
                let told = match faults.len() < MAX_ADVISED {
                    true => advised(text, place, told),
                    false => told.to_owned(),
                };
                faults.push((place, told));
                Slot::Ignored
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn value(text: &str) -> Value {
        let (node, faults) = parse(text);
        assert_eq!(faults, []);
        node.unwrap().to_value()
    }

    fn faults(text: &str) -> Vec<String> {
        let (_, faults) = parse(text);
        faults.iter().map(|(p, m)| format!("{}:{}: {m}", p.line, p.column)).collect()
    }

    #[test]
    fn texts_in_quotes_are_no_scalars_of_another_kind() {
        let text = "[12, '12', null, \"null\", true, 'true', '']";
        assert_eq!(value(text), json!([12, "12", null, "null", true, "true", ""]));
    }

    #[test]
    fn keys_are_text_whatever_they_look_like() {
        assert_eq!(
            value("no: 1\non: 2\n1: 3\ntrue: 4\n~: 5\n"),
            json!({"no": 1, "on": 2, "1": 3, "true": 4, "~": 5})
        );
    }

    #[test]
    fn json_is_read_as_json() {
        let long_key = "k".repeat(5_000);
        let text = format!(
            "{{\n\t\"a\\/\\u00e9\" : \"\\ud83d\\ude00\\n\",\n\t\"{long_key}\":[1,-2.5e-3,true,null,{{}}]\n}}"
        );
        assert_eq!(value(&text), serde_json::from_str::<Value>(&text).unwrap());
        let pretty =
            serde_json::to_string_pretty(&json!({"a": {"b": [1, {"c": "x: y # z"}]}})).unwrap();
        assert_eq!(value(&pretty), serde_json::from_str::<Value>(&pretty).unwrap());
        assert_eq!(value("{\"a\":1,\"b\":{\"c\":\"d\"}}"), json!({"a": 1, "b": {"c": "d"}}));
    }

    #[test]
    fn faults_are_told_with_their_places_and_all_at_once() {
        let text = "a: 1\nb:\n  c: 2\n  c: 3\na: 4\nd: .nan\n";
        assert_eq!(
            faults(text),
            [
                "4:3: `c` is here a second time, after line 3",
                "5:1: `a` is here a second time, after line 1",
                "6:4: .nan can't be kept exactly as a number; put it in quotes to make it text",
            ]
        );
        assert!(
            faults("a: [1,\n  2\nb: }\n")[0].starts_with("3:"),
            "{:?}",
            faults("a: [1,\n  2\nb: }\n")
        );
        assert_eq!(faults(""), ["1:1: the document is empty"]);
        assert!(faults("a: 1\n---\nb: 2\n")[0].contains("a second document"));
    }

    #[test]
    fn alias_bombs_and_tags_are_refused() {
        let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
        let faults_of_bomb = faults(bomb);
        assert_eq!(faults_of_bomb.len(), 6, "{faults_of_bomb:?}");
        assert!(faults_of_bomb[0].contains("aliases"), "{faults_of_bomb:?}");
        assert_eq!(faults("a: !!binary aGk=\n").len(), 1);
        assert_eq!(faults("<<: *nothing\n").len(), 1);
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(parse(&nested(MAX_DEPTH)).1, []);
        assert!(faults(&nested(MAX_DEPTH + 1))[0].contains("at most 128 levels"));
        assert!(!faults(&nested(100_000)).is_empty());
        assert!(faults(&" ".repeat(MAX_BYTES + 1))[0].contains("at most 1048576 bytes"));
    }
}
