//! How much work it is to hold a value against a schema, known before it is done.
//!
//! Schemas that refer to themselves from several alternatives multiply at each level of a value,
//! and lists may be long: neither may hold up a process.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::{
    check::{Walk, references, refused},
    keywords::{self, About},
    patterns::{self, MAX_PATTERNS_BYTES},
};
use crate::Result;

/// How many checks a value may come to.
pub(super) const MAX_WORK: usize = 10_000_000;
/// How many checks a value may come to of which all violations are told; that takes far more
/// memory and time than finding out that there is one.
pub(super) const MAX_TOLD_WORK: usize = 200_000;

/// The schemas in a schema, and which parts of a value each of them hands to which others.
pub(super) struct Plan {
    parts: Vec<Part>,
    /// How many checks there are at most for one part of a value once all references are written out;
    /// none if that has no end.
    written_out: Option<usize>,
    /// Whether there are alternatives: all that is wrong in each is gathered for one violation.
    pub(super) has_alternatives: bool,
    /// How much memory its patterns take.
    pub(super) pattern_bytes: usize,
}

/// Whether it counts that patterns are matched against texts.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Texts {
    Matched,
    Free,
}

/// How many choices of an `enum` are compared in the time of one check.
const CHOICES: usize = 8;
/// How many checks it counts as to divide a number by one that is not whole, which is done exactly.
const EXACT_DIVISION: usize = 100;

/// By number: the schemas for the value itself, and for what is in it. And how many checks each
/// byte of a text, or of the name of a field, counts as, and what else each value, object or number
/// comes to.
#[derive(Default)]
struct Part {
    each: usize,
    object: usize,
    number: usize,
    text: usize,
    names: usize,
    itself: Vec<usize>,
    fields: BTreeMap<String, usize>,
    each_field: Vec<usize>,
    other_fields: Vec<usize>,
    items: Vec<usize>,
    each_item: Vec<usize>,
}

impl Plan {
    pub(super) fn new<'a>(schema: &'a Value, walk: &Walk<'a>) -> Result<Self> {
        let mut planner =
            Planner { walk, schemas: Vec::new(), numbers: HashMap::new(), pattern_bytes: 0 };
        planner.number(schema);
        let (mut parts, mut has_alternatives) = (Vec::new(), false);
        while let Some(schema) = planner.schemas.get(parts.len()).copied() {
            let Value::Object(keywords) = schema else {
                parts.push(Part::default());
                continue;
            };
            has_alternatives |= ["anyOf", "oneOf"].iter().any(|of| keywords.contains_key(*of));
            parts.push(planner.part(keywords)?);
        }
        let pattern_bytes = planner.pattern_bytes;
        let mut plan = Self { parts, written_out: None, has_alternatives, pattern_bytes };
        plan.written_out = plan.count_written_out();
        Ok(plan)
    }

    /// Counts each schema as often as others lead to it, from the outermost on.
    fn count_written_out(&self) -> Option<usize> {
        let mut uses = vec![0_usize; self.parts.len()];
        self.parts.iter().flat_map(Part::all).for_each(|inner| uses[inner] += 1);
        let mut counts = vec![0_usize; self.parts.len()];
        let (mut ready, mut done, mut total) = (vec![0], 0, 0_usize);
        if uses[0] > 0 {
            return None;
        }
        counts[0] = 1;
        while let Some(number) = ready.pop() {
            done += 1;
            let part = &self.parts[number];
            let each = 1 + part.each + part.object + part.number;
            total = total.saturating_add(counts[number].saturating_mul(each));
            for inner in self.parts[number].all() {
                counts[inner] = counts[inner].saturating_add(counts[number]);
                uses[inner] -= 1;
                if uses[inner] == 0 {
                    ready.push(inner);
                }
            }
        }
        (done == self.parts.len()).then_some(total)
    }

    /// Whether a value comes to no more than that many checks.
    pub(super) fn is_within(&self, limit: usize, texts: Texts, value: &Value) -> bool {
        let has_texts = texts == Texts::Matched && self.pattern_bytes > 0;
        let roughly = self.written_out.filter(|_| !has_texts);
        let roughly = roughly.map(|count| count.saturating_mul(parts_of(value)));
        let mut left = limit;
        roughly.is_some_and(|checks| checks <= limit) || self.take(0, texts, value, &mut left)
    }

    /// Takes the checks of a value from what is left; false once that is used up.
    fn take(&self, number: usize, texts: Texts, value: &Value, left: &mut usize) -> bool {
        let part = &self.parts[number];
        let bytes = match (texts, value) {
            (Texts::Matched, Value::String(text)) => part.text.saturating_mul(text.len()),
            (Texts::Matched, Value::Object(fields)) if part.names > 0 => {
                part.names.saturating_mul(fields.keys().map(String::len).sum())
            }
            _ => 0,
        };
        let more = match value {
            Value::Object(_) => part.object,
            Value::Number(_) => part.number,
            _ => 0,
        };
        match left.checked_sub(bytes.saturating_add(1 + part.each + more)) {
            Some(rest) => *left = rest,
            None => return false,
        }
        if !part.itself.iter().all(|inner| self.take(*inner, texts, value, left)) {
            return false;
        }
        match value {
            Value::Object(fields) => fields.iter().all(|(name, field)| {
                let named = part.fields.get(name);
                let others = if named.is_some() { [].as_slice() } else { &part.other_fields };
                let mut all = named.into_iter().chain(others).chain(&part.each_field);
                all.all(|inner| self.take(*inner, texts, field, left))
            }),
            Value::Array(items) => items.iter().enumerate().all(|(index, item)| {
                let mut all = part.items.get(index).into_iter().chain(&part.each_item);
                all.all(|inner| self.take(*inner, texts, item, left))
            }),
            _ => true,
        }
    }
}

impl Part {
    fn all(&self) -> impl Iterator<Item = usize> {
        let in_fields = self.fields.values().chain(&self.each_field).chain(&self.other_fields);
        let in_items = self.items.iter().chain(&self.each_item);
        self.itself.iter().chain(in_fields).chain(in_items).copied()
    }
}

struct Planner<'w, 'a> {
    walk: &'w Walk<'a>,
    schemas: Vec<&'a Value>,
    /// By address.
    numbers: HashMap<*const Value, usize>,
    pattern_bytes: usize,
}

impl<'a> Planner<'_, 'a> {
    fn number(&mut self, schema: &'a Value) -> usize {
        let next = self.schemas.len();
        let number = *self.numbers.entry(std::ptr::from_ref(schema)).or_insert(next);
        if number == next {
            self.schemas.push(schema);
        }
        number
    }

    /// How much memory a pattern takes, beside those before it.
    fn weigh(&mut self, pattern: &str) -> Result<usize> {
        let size = patterns::size(pattern);
        self.pattern_bytes += size;
        if self.pattern_bytes > MAX_PATTERNS_BYTES {
            let most = MAX_PATTERNS_BYTES >> 20;
            return Err(refused(format!("its patterns take more than {most} MiB, compiled")));
        }
        Ok(size)
    }

    fn part(&mut self, keywords: &'a Map<String, Value>) -> Result<Part> {
        let (text, names) = patterns::of(keywords);
        let mut part = Part::default();
        if let Some(pattern) = text {
            part.text += patterns::checks_of_a_byte(self.weigh(pattern)?);
        }
        for pattern in names {
            part.names += patterns::checks_of_a_byte(self.weigh(pattern)?);
            // Also where there is nothing to match it against.
            part.object += 1;
        }
        part.each += keywords.get("enum").map_or(0, compared) / CHOICES;
        for needs in ["dependentRequired", "dependencies"] {
            let needs = keywords.get(needs).and_then(Value::as_object);
            part.object += needs.into_iter().flat_map(Map::values).map(needed).sum::<usize>();
        }
        if keywords.get("multipleOf").and_then(Value::as_f64).is_some_and(|by| by.fract() != 0.0) {
            part.number += EXACT_DIVISION;
        }
        for (about, schema) in keywords::parts(keywords) {
            let number = self.number(schema);
            match about {
                About::Itself => part.itself.push(number),
                About::Field(name) => {
                    part.fields.insert(name.to_owned(), number);
                }
                About::EachField => part.each_field.push(number),
                About::OtherFields => part.other_fields.push(number),
                About::NextItem => part.items.push(number),
                About::EachItem => part.each_item.push(number),
            }
        }
        for reference in references(keywords) {
            let target = self.walk.resolve(reference)?;
            part.itself.push(self.number(target));
        }
        // What is evaluated already is found out by checking once more.
        if ["unevaluatedProperties", "unevaluatedItems"].iter().any(|it| keywords.contains_key(*it))
        {
            part.itself.extend_from_within(..);
        }
        Ok(part)
    }
}

/// How many values there are to compare with, one after the other; texts alone are looked up.
fn compared(choices: &Value) -> usize {
    let items = choices.as_array().map_or([].as_slice(), Vec::as_slice);
    let is_looked_up = items.iter().all(|item| item.is_string() || item.is_null());
    if is_looked_up { 0 } else { items.iter().map(parts_of).sum() }
}

/// How many names there are to look up where a field is there that needs others, its own included.
fn needed(names: &Value) -> usize {
    1 + names.as_array().map_or(0, Vec::len)
}

/// How many values a value consists of, itself included.
fn parts_of(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(parts_of).sum(),
        Value::Object(fields) => fields.values().map(parts_of).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// How many checks a value comes to, counted exactly.
    fn work(schema: &Value, value: &Value) -> usize {
        let mut walk = Walk::new(schema);
        walk.collect_anchors(schema).unwrap();
        let plan = Plan { written_out: None, ..Plan::new(schema, &walk).unwrap() };
        (0..10_000).find(|limit| plan.is_within(*limit, Texts::Matched, value)).unwrap()
    }

    #[test]
    fn each_keyword_hands_on_the_parts_that_it_is_about() {
        for (schema, value, checks) in [
            (json!({}), json!([1, 2]), 1),
            (json!({"allOf": [{}, {}], "not": {}, "if": {}}), json!(1), 5),
            (
                json!({"properties": {"a": {}}, "additionalProperties": {}}),
                json!({"a": 1, "b": 2}),
                3,
            ),
            (json!({"patternProperties": {"x": {}, "y": {}}}), json!({"a": 1, "b": 2}), 39),
            (json!({"patternProperties": {"x": {}, "y": {}}}), json!({}), 3),
            (json!({"items": {"enum": [0, 1, 2, 3, 4, 5, 6, [7, 8]]}}), json!([1, 2]), 5),
            (json!({"enum": ["a", "b", "c", "d", "e", "f", "g", "h", null]}), json!("a"), 1),
            (json!({"dependentRequired": {"a": ["b", "c"], "d": []}}), json!({}), 5),
            (json!({"dependencies": {"a": ["b", "c"], "d": {}}}), json!({}), 7),
            (json!({"dependentRequired": {"a": ["b", "c"]}, "multipleOf": 0.1}), json!("a"), 1),
            (json!({"items": {"multipleOf": 0.1}}), json!([1, "a"]), 103),
            (json!({"items": {"multipleOf": 2}}), json!([1, 2]), 3),
            (json!({"prefixItems": [{}, {}], "contains": {}}), json!([1, 2, 3]), 6),
            (json!({"items": {"anyOf": [{}, {}]}}), json!([1, 2]), 7),
            (json!({"$defs": {"a": {"items": {}}}, "$ref": "#/$defs/a"}), json!([1, 2]), 4),
            (json!({"anyOf": [{}, {}], "unevaluatedProperties": {}}), json!({"a": 1}), 6),
            (json!({"pattern": "^[a-z]*$"}), json!("abc"), 25),
            (json!({"patternProperties": {"^[a-z]*$": {}}}), json!({"abc": 1}), 27),
        ] {
            assert_eq!(work(&schema, &value), checks, "{schema}");
        }
    }

    #[test]
    fn references_that_end_are_written_out() {
        let written_out = |schema: Value| {
            let mut walk = Walk::new(&schema);
            walk.collect_anchors(&schema).unwrap();
            Plan::new(&schema, &walk).unwrap().written_out
        };
        assert_eq!(written_out(json!({"items": {"anyOf": [{}, {}]}})), Some(4));
        let twice = json!({"$defs": {"a": {"items": {}}}, "properties": {
            "x": {"$ref": "#/$defs/a"}, "y": {"$ref": "#/$defs/a"},
        }});
        assert_eq!(written_out(twice), Some(7));
        assert_eq!(written_out(json!({"items": {"multipleOf": 0.1, "enum": [1]}})), Some(102));
        assert_eq!(written_out(json!({"items": {"$ref": "#"}})), None);
        assert_eq!(
            written_out(
                json!({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "items": {"$ref": "#/$defs/a"}})
            ),
            None
        );
    }

    #[test]
    fn trees_come_to_their_size_and_alternatives_multiply() {
        let tree = json!({"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}});
        let grown = (0..8).fold(json!({}), |inner, _| json!({"a": inner, "b": inner}));
        assert_eq!(work(&tree, &grown), 2 * parts_of(&grown) - 1);
        let twice = json!({"anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]});
        let deep = (0..30).fold(json!(1), |inner, _| json!([inner]));
        let plan = Plan::new(&twice, &Walk::new(&twice)).unwrap();
        assert!(!plan.is_within(1_000_000, Texts::Matched, &deep));
    }
}
