//! From nodes to the parts of a flow, gathering everything that is wrong on the way.

use std::time::Duration;

use serde_json::Value;

use super::{
    durations::parse_duration,
    node::{Data, Key, Node, Place},
    sources::Source,
    steps::unknown_value,
};
use crate::{
    Finding,
    expr::{Cel, Compute, Refused, Template, most_pattern_bytes},
    flow::{BodyName, check::Hidden},
    schema::{Schema, keywords},
    tool::ToolRegistry,
    words::{did_you_mean, nearest},
};

/// How much memory the regular expressions of a document may take together, compiled.
const MAX_PATTERNS_BYTES: usize = 64 << 20;

/// What is known while a document is read.
pub(super) struct Reader<'r> {
    /// The text that is read.
    pub(super) document: &'r str,
    pub(super) tools: &'r ToolRegistry,
    /// Where the step stands that is being read: by ids, for people.
    pub(super) path: String,
    /// The same by numbers, for looking it up.
    pub(super) address: Vec<(BodyName, usize)>,
    pub(super) findings: Vec<Finding>,
    /// What keeps no run from going on; see [`Problem::bearable`](crate::flow::check::Problem).
    pub(super) bearable: Vec<Finding>,
    /// Computations that went into tools, where a check of the flow can't see them.
    pub(super) hidden: Hidden,
    /// How much memory the regular expressions take that were read.
    pub(super) pattern_bytes: usize,
    /// How much those took that were compiled for nothing, for something around them is wrong.
    pub(super) lost_pattern_bytes: usize,
}

/// The fields of an object whose names are known to be right.
#[derive(Clone, Copy)]
pub(super) struct Fields<'n> {
    pub(super) place: Place,
    entries: &'n [(Key, Node)],
}

impl<'n> Fields<'n> {
    /// The node of that name, unless it is missing or broken.
    pub(super) fn get(&self, name: &str) -> Option<&'n Node> {
        self.entries
            .iter()
            .find(|(key, node)| key.name == name && !node.is_broken())
            .map(|(_, node)| node)
    }

    /// Whether the field is written at all, broken or not.
    pub(super) fn has(&self, name: &str) -> bool {
        self.key(name).is_some()
    }

    pub(super) fn key(&self, name: &str) -> Option<&'n Key> {
        self.entries.iter().map(|(key, _)| key).find(|key| key.name == name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'n (Key, Node)> + use<'n> {
        self.entries.iter()
    }
}

impl<'r> Reader<'r> {
    pub(super) fn new(document: &'r str, tools: &'r ToolRegistry) -> Self {
        Self {
            document,
            tools,
            path: String::new(),
            address: Vec::new(),
            findings: Vec::new(),
            bearable: Vec::new(),
            hidden: Hidden::new(),
            pattern_bytes: 0,
            lost_pattern_bytes: 0,
        }
    }

    /// Adds what the regular expressions at a place take; tells where they become too many.
    pub(super) fn weigh(&mut self, bytes: usize, place: Place) {
        self.count(|it| it.pattern_bytes += bytes, place);
    }

    /// Adds what the regular expressions of a source or schema may have taken that came to nothing:
    /// it takes as long to compile them.
    pub(super) fn lose(&mut self, bytes: usize, place: Place) {
        self.count(|it| it.lost_pattern_bytes += bytes, place);
    }

    fn count(&mut self, add: impl FnOnce(&mut Self), place: Place) {
        let was_full = self.is_full();
        add(self);
        if self.is_full() && !was_full {
            let message = format!(
                "the regular expressions up to here take more than {} MiB, compiled; leave some \
                 out, or make them shorter",
                MAX_PATTERNS_BYTES >> 20
            );
            self.find(place, message);
        }
    }

    /// Whether nothing more is compiled: it was told that there are too many regular expressions.
    pub(super) fn is_full(&self) -> bool {
        self.pattern_bytes > MAX_PATTERNS_BYTES || self.lost_pattern_bytes > MAX_PATTERNS_BYTES
    }

    pub(super) fn find(&mut self, place: Place, message: impl Into<String>) {
        self.findings.push(finding(&self.path, place, message));
    }

    /// Tells of what is wrong with another step than the one that is being read.
    pub(super) fn find_in(&mut self, path: &str, place: Place, message: impl Into<String>) {
        self.findings.push(finding(path, place, message));
    }

    /// Tells of what keeps no run from going on with a document that was accepted.
    pub(super) fn find_bearable(&mut self, place: Place, message: impl Into<String>) {
        self.bearable.push(finding(&self.path, place, message));
    }

    /// An object of any fields. `what` says what it is the value of, for messages.
    pub(super) fn object<'n>(&mut self, node: &'n Node, what: &str) -> Option<Fields<'n>> {
        match &node.data {
            Data::Object(entries) => Some(Fields { place: node.place, entries }),
            Data::Broken => None,
            _ => {
                let message = format!("{what} must be an object, not {}", node.sort());
                self.find(node.place, message);
                None
            }
        }
    }

    /// An object with none but the known fields.
    pub(super) fn fields<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        known: &[&str],
    ) -> Option<Fields<'n>> {
        let fields = self.object(node, what)?;
        for (key, _) in fields.iter().filter(|(key, _)| !known.contains(&key.name.as_str())) {
            self.unknown_field(what, key, known);
        }
        Some(fields)
    }

    pub(super) fn unknown_field(&mut self, what: &str, key: &Key, known: &[&str]) {
        let guess = did_you_mean(&key.name, known.iter().copied());
        self.find(key.place, format!("{what} has no field `{}`{guess}", key.name));
    }

    /// The field of that name; a finding if it is missing.
    pub(super) fn required<'n>(
        &mut self,
        fields: Fields<'n>,
        what: &str,
        name: &str,
    ) -> Option<&'n Node> {
        if !fields.has(name) {
            self.find(fields.place, format!("{what} needs `{name}`"));
        }
        fields.get(name)
    }

    pub(super) fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.data {
            Data::Text(text) => Some(text),
            Data::Broken => None,
            Data::Bool(_) | Data::Number(_) => {
                let message = format!("{what} must be text, not {}; put it in quotes", node.sort());
                self.find(node.place, message);
                None
            }
            _ => {
                self.find(node.place, format!("{what} must be text, not {}", node.sort()));
                None
            }
        }
    }

    /// The text of a field that may be missing; empty then.
    pub(super) fn optional_text(&mut self, fields: Fields<'_>, name: &str) -> String {
        let text = fields.get(name).and_then(|node| self.text(node, &format!("`{name}`")));
        text.unwrap_or_default().to_owned()
    }

    pub(super) fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        match &node.data {
            Data::List(items) => Some(items),
            Data::Broken => None,
            _ => {
                self.find(node.place, format!("{what} must be a list, not {}", node.sort()));
                None
            }
        }
    }

    pub(super) fn duration(&mut self, node: &Node, what: &str) -> Option<Duration> {
        let text = match &node.data {
            Data::Number(number) => number.to_string(),
            _ => self.text(node, what)?.to_owned(),
        };
        match parse_duration(&text) {
            Ok(duration) => Some(duration),
            Err(error) => {
                self.find(node.place, format!("{what}: {}", error.message()));
                None
            }
        }
    }

    pub(super) fn schema(&mut self, node: &Node, what: &str) -> Option<Schema> {
        if !matches!(node.data, Data::Object(_) | Data::Bool(_)) {
            if !node.is_broken() {
                let message = format!("{what} must be a JSON Schema, not {}", node.sort());
                self.find(node.place, message);
            }
            return None;
        }
        if node.has_broken() || self.is_full() {
            return None;
        }
        match Schema::new(node.to_value()) {
            Ok(schema) => {
                self.weigh(schema.pattern_bytes(), node.place);
                self.unknown_keywords(node, what);
                Some(schema)
            }
            Err(error) => {
                let at = error.context_value("at").unwrap_or_default();
                self.lose(Schema::most_pattern_bytes(&node.to_value()), node.place);
                self.find(node.at(at).place, format!("{what}: {}", error.message()));
                None
            }
        }
    }

    /// Tells of keywords that mean nothing: misspelt, they leave a value unchecked.
    pub(super) fn unknown_keywords(&mut self, node: &Node, what: &str) {
        for (at, keyword) in keywords::unknown(&node.to_value()) {
            let known = nearest(&keyword, keywords::known());
            let guess = known.map(|known| format!("; did you mean `{known}`?"));
            let guess = guess.unwrap_or_else(|| {
                format!("; call it `x-{keyword}` if it is a note of your own, or leave it out")
            });
            let message = format!("{what}: JSON Schema has no keyword `{keyword}`{guess}");
            let place = node.at(&at).key(&keyword).unwrap_or(node.place);
            self.find_bearable(place, message);
        }
    }

    /// A value that can't be computed; `instead` says what can.
    pub(super) fn constant(&mut self, node: &Node, what: &str, instead: &str) -> Option<Value> {
        if node.has_broken() {
            return None;
        }
        let computed = first_text(node, &|text| !matches!(Sort::of(text), Sort::Constant));
        if let Some(place) = computed {
            self.find(place, format!("{what} must be a constant{instead}"));
            return None;
        }
        Some(node.to_value())
    }

    /// A value in which texts may be expressions and templates.
    ///
    /// What is wrong in it becomes a computation of which nothing is known, so that checks go on
    /// without saying the same again.
    pub(super) fn compute(&mut self, node: &Node, what: &str) -> Compute {
        match &node.data {
            Data::Text(text) => self.computed_text(text, node, what),
            Data::List(items) => {
                let items: Vec<Compute> =
                    items.iter().map(|item| self.compute(item, what)).collect();
                let constants: Option<Vec<Value>> = items.iter().map(constant_of).collect();
                constants.map_or(Compute::List(items), |values| Compute::Value(values.into()))
            }
            Data::Object(entries) => {
                let fields: Vec<(String, Compute)> = entries
                    .iter()
                    .map(|(key, node)| {
                        let what = format!("{what}.{}", key.name);
                        (key.name.clone(), self.compute(node, &what))
                    })
                    .collect();
                object_of(fields)
            }
            Data::Broken => unknown_value(),
            _ => Compute::Value(node.to_value()),
        }
    }

    fn computed_text(&mut self, text: &str, node: &Node, what: &str) -> Compute {
        let (source, compiled) = match Sort::of(text) {
            Sort::Constant => return Compute::Value(text.into()),
            _ if self.is_full() => return unknown_value(),
            Sort::Expression(source) => {
                let compiled = Cel::read(source).map(Compute::Cel);
                let compiled = compiled.map_err(|refused| refused.map(Compute::Cel));
                (Source { text, source, what: "the expression" }, compiled)
            }
            Sort::Template => {
                let compiled = Template::read(text).map(Compute::Template);
                let compiled = compiled.map_err(|refused| refused.map(Compute::Template));
                (Source { text, source: text, what: "the template" }, compiled)
            }
            Sort::Mixed => {
                let message = format!(
                    "{what}: an expression `${{ … }}` must be the whole text; \
                     inside a text, write `{{{{ … }}}}`"
                );
                self.find(node.place, message);
                return unknown_value();
            }
        };
        let compute = compiled.unwrap_or_else(|refused| {
            self.lose(most_pattern_bytes(text), node.place);
            self.refused(node, source, refused, what)
        });
        self.weighed(compute, node.place)
    }

    /// Counts what the regular expressions of a computation take.
    pub(super) fn weighed(&mut self, compute: Compute, place: Place) -> Compute {
        match &compute {
            Compute::Cel(cel) => self.weigh(cel.pattern_bytes(), place),
            Compute::Template(template) => self.weigh(template.pattern_bytes(), place),
            _ => {}
        }
        compute
    }

    /// Tells all that is wrong with a source; gives what is left of it to be checked.
    pub(super) fn refused(
        &mut self,
        node: &Node,
        source: Source<'_>,
        refused: Refused<Compute>,
        what: &str,
    ) -> Compute {
        for wrong in &refused.wrong {
            self.find_wrong(node, source, wrong, what);
        }
        refused.rest.map_or_else(unknown_value, |rest| *rest)
    }

    /// The source of a text that must be an expression as a whole; none where something is wrong
    /// with it. Beside it, what can be checked of it all the same. What it takes is counted as lost,
    /// until it is known to be good with what is around it.
    pub(super) fn expression<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
    ) -> Option<(Option<&'n str>, Compute)> {
        let text = self.text(node, what)?;
        let Sort::Expression(source) = Sort::of(text) else {
            let message =
                format!("{what} must be an expression, such as \"${{ value.approved }}\"");
            self.find(node.place, message);
            return None;
        };
        if self.is_full() {
            return None;
        }
        Some(match Cel::read(source) {
            Ok(cel) => {
                self.lose(cel.pattern_bytes(), node.place);
                (Some(source), Compute::Cel(cel))
            }
            Err(refused) => {
                self.lose(most_pattern_bytes(text), node.place);
                let source = Source { text, source, what: "the expression" };
                (None, self.refused(node, source, refused.map(Compute::Cel), what))
            }
        })
    }
}

fn finding(path: &str, place: Place, message: impl Into<String>) -> Finding {
    Finding {
        path: in_line(path.to_owned()),
        message: in_line(message.into()),
        line: Some(place.line),
        column: Some(place.column),
    }
}

/// A text in one line: what it quotes of a document may have line breaks and other controls in it.
fn in_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

/// An object of those fields; a constant if all of them are.
pub(super) fn object_of(fields: Vec<(String, Compute)>) -> Compute {
    let constants: Option<serde_json::Map<String, Value>> =
        fields.iter().map(|(name, field)| Some((name.clone(), constant_of(field)?))).collect();
    constants.map_or_else(
        || Compute::Object(fields.into_iter().collect()),
        |values| Compute::Value(Value::Object(values)),
    )
}

fn constant_of(compute: &Compute) -> Option<Value> {
    match compute {
        Compute::Value(value) => Some(value.clone()),
        _ => None,
    }
}

fn first_text(node: &Node, wanted: &dyn Fn(&str) -> bool) -> Option<Place> {
    match &node.data {
        Data::Text(text) => wanted(text).then_some(node.place),
        Data::List(items) => items.iter().find_map(|item| first_text(item, wanted)),
        Data::Object(entries) => entries.iter().find_map(|(_, item)| first_text(item, wanted)),
        _ => None,
    }
}

/// What a text in a document is.
#[derive(Debug, PartialEq)]
pub(super) enum Sort<'t> {
    /// What it says.
    Constant,
    /// `${ … }`, with what is inside.
    Expression(&'t str),
    /// With `{{ … }}`, `{% … %}` or `{# … #}`.
    Template,
    /// With `${ … }` in the middle, which would do nothing.
    Mixed,
}

impl<'t> Sort<'t> {
    /// Tells; `${{ total }}` is a dollar sign and a template, as in `Pay ${{ total }}`.
    pub(super) fn of(text: &'t str) -> Self {
        let trimmed = text.trim();
        let opens = |at: usize| !text[at + 2..].starts_with('{');
        if let Some(inner) = trimmed.strip_prefix("${")
            && !inner.starts_with('{')
            && closing_brace(inner).is_some_and(|at| at + 1 == inner.len())
        {
            return Self::Expression(inner[..inner.len() - 1].trim());
        }
        if text.match_indices("${").any(|(at, _)| opens(at)) {
            return Self::Mixed;
        }
        if ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) {
            return Self::Template;
        }
        Self::Constant
    }
}

/// Where the brace closes that was opened before the text; quotes are skipped.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 1usize;
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            (None, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_told_apart() {
        for (text, sort) in [
            ("plain", Sort::Constant),
            ("costs $5 {or so}", Sort::Constant),
            ("${ value }", Sort::Expression("value")),
            ("  ${value.a}\n", Sort::Expression("value.a")),
            ("${ {'a': '}'} }", Sort::Expression("{'a': '}'}")),
            ("${ 'it\\'s }' }", Sort::Expression("'it\\'s }'")),
            ("Hello {{ value.name }}", Sort::Template),
            ("{% if value %}yes{% endif %}", Sort::Template),
            ("${{ value.total }}", Sort::Template),
            ("Pay ${{ value.total }} now", Sort::Template),
            ("Hello ${ value.name }", Sort::Mixed),
            ("${ a } and ${ b }", Sort::Mixed),
            ("${ a", Sort::Mixed),
            ("{{ a }} and ${ b }", Sort::Mixed),
        ] {
            assert_eq!(Sort::of(text), sort, "{text}");
        }
    }
}
