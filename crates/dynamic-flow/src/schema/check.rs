//! What must hold of a schema before it is compiled: bounds, and references that end.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use serde_json::{Map, Value};

use super::{keywords, work::Plan};
use crate::{Error, ErrorKind, Result, value::is_deeper};

/// The most values (objects, lists, texts, …) that a schema may consist of.
pub const MAX_SCHEMA_NODES: usize = 10_000;
/// The deepest that a schema may be nested.
pub const MAX_SCHEMA_DEPTH: usize = 64;
/// The most bytes that a schema may have as compact JSON.
pub const MAX_SCHEMA_BYTES: usize = 256 * 1024;

/// The deepest that a value may be nested that is checked against any schema.
const MAX_VALUE_DEPTH: usize = 128;
/// How many schemas one may go through for one part of a value: a chain of `allOf`, `$ref`, ….
const MAX_CHAIN: usize = 64;
/// How many checks one part of a value may come to, once all references are written out.
const MAX_CHECKS: usize = 10_000;
/// What a check may nest, as the chain of the schema times the depth of the value: these many took
/// less than 1 MiB of stack in a debug build, half of what a thread of tokio has.
const MAX_NESTED_CHECKS: usize = 512;

/// Checks a schema; gives how deep a value may be nested to be checked against it, and what tells
/// how much work that is.
pub(super) fn check(schema: &Value) -> Result<(usize, Plan)> {
    if is_deeper(schema, MAX_SCHEMA_DEPTH) {
        return Err(refused(format!("it is nested deeper than {MAX_SCHEMA_DEPTH} levels")));
    }
    if nodes(schema) > MAX_SCHEMA_NODES {
        return Err(refused(format!("it has more than {MAX_SCHEMA_NODES} parts")));
    }
    if serde_json::to_writer(Room(MAX_SCHEMA_BYTES), schema).is_err() {
        return Err(refused(format!("it has more than {MAX_SCHEMA_BYTES} bytes")));
    }
    let is_draft_4 = schema["$schema"].as_str().is_some_and(|draft| draft.contains("draft-04"));
    if inside(schema).any(|inner| has_base(inner, if is_draft_4 { "id" } else { "$id" })) {
        return Err(refused("only the outermost schema may have an `$id`"));
    }
    let mut walk = Walk::new(schema);
    walk.collect_anchors(schema)?;
    walk.run(schema)?;
    let plan = Plan::new(schema, &walk)?;
    Ok((MAX_VALUE_DEPTH.min(MAX_NESTED_CHECKS / walk.longest), plan))
}

pub(super) fn refused(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidFlow, format!("not a usable JSON Schema: {why}"))
}

fn nodes(value: &Value) -> usize {
    1 + inside(value).map(nodes).sum::<usize>()
}

fn inside(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        _ => Box::new(std::iter::empty()),
    }
}

/// Whether `#` would mean another document than ours, here or deeper inside.
fn has_base(value: &Value, keyword: &str) -> bool {
    let base = value.get(keyword).and_then(Value::as_str);
    base.is_some_and(|base| !base.starts_with('#'))
        || inside(value).any(|inner| has_base(inner, keyword))
}

/// Takes so many bytes, and keeps none of them.
struct Room(usize);

impl Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::WriteZero)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What checking one part of a value against a schema comes to, once references are followed.
#[derive(Debug, Clone, Copy)]
struct Cost {
    chain: usize,
    checks: usize,
}

/// Goes through all schemas in a schema, along the references.
pub(super) struct Walk<'a> {
    root: &'a Value,
    anchors: HashMap<&'a str, &'a Value>,
    /// By address; none while it is being gone through.
    costs: HashMap<*const Value, Option<Cost>>,
    pending: Vec<&'a Value>,
    longest: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: &'a Value) -> Self {
        Self { root, anchors: HashMap::new(), costs: HashMap::new(), pending: vec![], longest: 1 }
    }

    /// Finds what can be referred to by name.
    pub(super) fn collect_anchors(&mut self, schema: &'a Value) -> Result<()> {
        let Value::Object(keywords) = schema else { return Ok(()) };
        let text = |keyword: &str| keywords.get(keyword).and_then(Value::as_str);
        let old_style = |keyword| text(keyword).and_then(|name| name.strip_prefix('#'));
        let names = [text("$anchor"), text("$dynamicAnchor"), old_style("$id"), old_style("id")];
        for name in names.into_iter().flatten() {
            if self.anchors.insert(name, schema).is_some() {
                return Err(refused(format!("the anchor {name:?} is there twice")));
            }
        }
        keywords::inside(keywords).try_for_each(|(inner, _)| self.collect_anchors(inner))
    }

    fn run(&mut self, schema: &'a Value) -> Result<()> {
        self.pending.push(schema);
        while let Some(schema) = self.pending.pop() {
            self.visit(schema, 1, "")?;
        }
        Ok(())
    }

    fn visit(&mut self, schema: &'a Value, depth: usize, reference: &str) -> Result<Cost> {
        let Value::Object(keywords) = schema else { return Ok(Cost { chain: 1, checks: 1 }) };
        let address = std::ptr::from_ref(schema);
        match self.costs.get(&address) {
            Some(Some(cost)) => return Ok(*cost),
            Some(None) => {
                return Err(refused(format!(
                    "the reference {reference:?} comes back to itself without going into a \
                     property or an item"
                )));
            }
            None => {}
        }
        if depth > MAX_CHAIN {
            return Err(too_long());
        }
        self.costs.insert(address, None);
        let mut cost = Cost { chain: 0, checks: 0 };
        for (inner, in_place) in keywords::inside(keywords) {
            if in_place {
                cost = cost.and(self.visit(inner, depth + 1, reference)?);
            } else {
                self.pending.push(inner);
            }
        }
        for reference in references(keywords) {
            let target = self.resolve(reference)?;
            cost = cost.and(self.visit(target, depth + 1, reference)?);
        }
        let cost = Cost { chain: cost.chain + 1, checks: cost.checks.saturating_add(1) };
        if cost.chain > MAX_CHAIN {
            return Err(too_long());
        }
        if cost.checks > MAX_CHECKS {
            return Err(refused(format!(
                "its references, written out, come to more than {MAX_CHECKS} checks of one value"
            )));
        }
        self.longest = self.longest.max(cost.chain);
        self.costs.insert(address, Some(cost));
        Ok(cost)
    }

    pub(super) fn resolve(&self, reference: &str) -> Result<&'a Value> {
        let Some(fragment) = reference.strip_prefix('#') else {
            return Err(refused(format!(
                "the reference {reference:?} leads out of it; put what it names under `$defs` and \
                 refer to `#/$defs/…`"
            )));
        };
        let fragment = percent_decoded(fragment);
        let target = match fragment.as_deref() {
            Some(pointer) if pointer.is_empty() || pointer.starts_with('/') => {
                self.root.pointer(pointer)
            }
            Some(anchor) => self.anchors.get(anchor).copied(),
            None => None,
        };
        target.ok_or_else(|| refused(format!("the reference {reference:?} names nothing in it")))
    }
}

impl Cost {
    fn and(self, other: Self) -> Self {
        Self {
            chain: self.chain.max(other.chain),
            checks: self.checks.saturating_add(other.checks),
        }
    }
}

fn too_long() -> Error {
    refused(format!("it chains more than {MAX_CHAIN} schemas for one value"))
}

pub(super) fn references(keywords: &Map<String, Value>) -> impl Iterator<Item = &str> {
    ["$ref", "$dynamicRef", "$recursiveRef"]
        .into_iter()
        .filter_map(|keyword| keywords.get(keyword).and_then(Value::as_str))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let mut byte = [0];
            hex::decode_to_slice(tail.get(..2)?, &mut byte).ok()?;
            bytes.extend(byte);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}
