//! Text to a tree of nodes that know their places.

use std::{collections::HashMap, ops::Range};

use serde_json::{Number, Value};
use serde_saphyr::granit_parser::{Event, Marker, Options, Parser, ScalarStyle, Span};

use super::slips::advised;
use crate::flow::check::parts;

/// The longest document, in bytes.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// How deep lists and objects may nest in a document.
pub(super) const MAX_DEPTH: usize = 128;

/// For how many faults advice is looked for: it reads their whole line.
const MAX_ADVISED: usize = 20;

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
    fn new(place: Place, data: Data) -> Self {
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
        let lines = between.matches('\n').count();
        let column = match lines {
            0 => place.column.saturating_sub(between.chars().count()),
            _ => {
                let line = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
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

/// What a plain scalar is in the core schema of YAML 1.2: `no`, `on` and dates are text.
fn scalar(text: &str) -> Result<Data, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Data::Null,
        "true" | "True" | "TRUE" => Data::Bool(true),
        "false" | "False" | "FALSE" => Data::Bool(false),
        _ => match number(text) {
            Some(Some(number)) => Data::Number(number),
            Some(None) => {
                return Err(format!(
                    "{} can't be kept exactly as a number; put it in quotes to make it text",
                    text.chars().take(40).collect::<String>()
                ));
            }
            None => Data::Text(text.to_owned()),
        },
    })
}

/// None if it is no number; `Some(None)` if it is one that JSON can't hold.
fn number(text: &str) -> Option<Option<Number>> {
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let whole = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
            return whole.then(|| u64::from_str_radix(digits, radix).ok().map(Number::from));
        }
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(None);
    }
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !unsigned.is_empty() && all_digits(unsigned) {
        let positive = || text.trim_start_matches('+').parse::<u64>().map(Number::from);
        return Some(text.parse::<i64>().map(Number::from).or_else(|_| positive()).ok());
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let is_float = all_digits(whole)
        && all_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && !exponent.is_empty()
        && all_digits(exponent);
    is_float.then(|| text.parse().ok().and_then(Number::from_f64))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
    fn plain_scalars_follow_the_core_schema() {
        let text = "[no, on, yes, off, y, 2026-11-23, 1_000, 1:30, ~, null, true, True, 0x1F, 0o17, 007, \
                    -3, +3, 18446744073709551615, 1.5, .5, 5., 1e3, e3, ., 0x, '12', \"null\"]";
        let expected = json!([
            "no",
            "on",
            "yes",
            "off",
            "y",
            "2026-11-23",
            "1_000",
            "1:30",
            null,
            null,
            true,
            true,
            31,
            15,
            7,
            -3,
            3,
            18446744073709551615u64,
            1.5,
            0.5,
            5.0,
            1000.0,
            "e3",
            ".",
            "0x",
            "12",
            "null"
        ]);
        assert_eq!(value(text), expected);
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
    fn numbers_that_json_would_change_are_refused() {
        for text in ["a: .inf", "a: -.INF", "a: .nan", "a: 1e999", "a: 18446744073709551616"] {
            let faults = faults(text);
            assert_eq!(faults.len(), 1, "{text}");
            assert!(faults[0].starts_with("1:4: "), "{faults:?}");
            assert!(faults[0].contains("quotes"), "{faults:?}");
        }
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
