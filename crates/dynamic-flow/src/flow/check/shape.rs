//! What is known of a value before it is there.

use std::{collections::BTreeSet, rc::Rc};

use serde_json::{Map, Value, json};

use super::{
    inside,
    schemas::{
        Misfit, TYPES, conflict, kind_of, kinds_of, lacks, listed, referred, take_parts, type_of,
    },
};
use crate::{
    expr::{Kinds, Known},
    schema::Schema,
};

/// What fits whatever there is.
static ANYTHING: Value = Value::Bool(true);

/// How many parts the schemas of the fields of a computed object may have together, and how many
/// texts are looked at. What goes beyond is not known: an object of objects could double at each
/// step otherwise.
const MAX_PARTS: usize = 512;

/// What is known of a value: a JSON Schema that it fits, or the value itself; or a part of one of
/// them, which still knows what references in it refer to.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    is: Sort,
    whole: Rc<Value>,
    /// Which part: a JSON pointer.
    at: Rc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Sort {
    /// A schema.
    Schema,
    /// The value.
    Value,
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other)
            || (self.is == other.is && self.at == other.at && self.whole == other.whole)
    }
}

impl Shape {
    /// Nothing is known.
    pub(super) fn any() -> Self {
        Self::described(Value::Bool(true))
    }

    pub(super) fn is_any(&self) -> bool {
        let part = self.part();
        self.is == Sort::Schema
            && (*part == Value::Bool(true) || part.as_object().is_some_and(Map::is_empty))
    }

    pub(super) fn constant(value: Value) -> Self {
        Self { is: Sort::Value, whole: Rc::new(value), at: "".into() }
    }

    pub(super) fn described(schema: Value) -> Self {
        Self { is: Sort::Schema, whole: Rc::new(schema), at: "".into() }
    }

    pub(super) fn of_schema(schema: &Schema) -> Self {
        Self::described(schema.essence())
    }

    /// A value of which no more is known than its kind.
    pub(super) fn of_kinds(kinds: Kinds) -> Self {
        let kinds = kinds.as_json();
        let names = TYPES.iter().filter(|(_, kind)| kinds.may_be(*kind));
        let names: Vec<&str> = names.map(|(name, _)| *name).collect();
        match kinds.may_be(Kinds::ANY) && names.len() < TYPES.len() {
            true => Self::described(json!({ "type": names })),
            false => Self::any(),
        }
    }

    /// An object with exactly these fields. Of fields that come to more than [`MAX_PARTS`], only
    /// the names are known.
    pub(super) fn object(fields: impl Iterator<Item = (String, Self)>) -> Self {
        let mut room = MAX_PARTS;
        let properties: Map<String, Value> =
            fields.map(|(name, shape)| (name, shape.copied(&mut room))).collect();
        let required: Vec<&String> = properties.keys().collect();
        Self::described(json!({
            "type": "object",
            "required": required,
            "properties": properties,
            "additionalProperties": false,
        }))
    }

    /// A list of exactly these items, of which nothing is known where they come to more than
    /// [`MAX_PARTS`].
    pub(super) fn list(items: impl Iterator<Item = Self>) -> Self {
        let mut room = MAX_PARTS;
        let items: Vec<Value> = items.map(|shape| shape.copied(&mut room)).collect();
        Self::described(json!({ "type": "array", "prefixItems": items, "items": false }))
    }

    /// As a schema by itself, if there is room for it.
    fn copied(&self, room: &mut usize) -> Value {
        let part = self.part();
        let Some(left) = take_parts(part, *room) else { return Value::Bool(true) };
        *room = left;
        match self.is {
            Sort::Schema => part.clone(),
            Sort::Value => json!({ "type": type_of(part), "const": part }),
        }
    }

    /// What is known when one of several ways was gone; none if no way leads anywhere.
    pub(super) fn either(ways: Vec<Option<Self>>) -> Option<Self> {
        let mut ways = ways.into_iter().flatten();
        let first = ways.next()?;
        Some(if ways.all(|way| way == first) { first } else { Self::any() })
    }

    /// What is known after the value was found to fit a schema as well.
    pub(super) fn narrowed(self, schema: &Schema) -> Self {
        match self.is {
            Sort::Value => self,
            Sort::Schema => {
                let narrower = Self::of_schema(schema);
                if narrower.is_any() { self } else { narrower }
            }
        }
    }

    /// Whether it is written down.
    pub(super) fn is_constant(&self) -> bool {
        self.is == Sort::Value || self.part().get("const").is_some()
    }

    /// All texts that the value may be, where a schema lists them; none if it may be something
    /// else. A constant is no such list: whoever writes one down may mean to change it.
    pub(super) fn listed_texts(&self) -> Option<BTreeSet<String>> {
        if self.is == Sort::Value {
            return None;
        }
        let mut room = MAX_PARTS;
        let texts = listed(self.part(), &self.whole, &mut room)?;
        Some(texts.into_iter().map(str::to_owned).collect())
    }

    /// Whether it is all of another value, or a part of it. A part behind a reference is not known
    /// as one.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let rest = || self.at.strip_prefix(&*other.at);
        Rc::ptr_eq(&self.whole, &other.whole)
            && rest().is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Why the value certainly does not fit a schema; none if it may.
    pub(super) fn misfit(&self, schema: &Schema) -> Option<Misfit> {
        match self.is {
            Sort::Value => {
                let value = self.part();
                let violations = schema.validate(value).err()?;
                Some(Misfit::of_value(value, schema.as_value(), "", &violations))
            }
            Sort::Schema => conflict(self.part(), schema.as_value(), "", 0),
        }
    }

    fn part(&self) -> &Value {
        self.whole.pointer(&self.at).unwrap_or(&ANYTHING)
    }

    /// A part of the whole.
    fn at(&self, place: String) -> Self {
        Self { at: place.into(), ..self.clone() }
    }

    /// The value that a schema has as the only one that fits.
    fn written(&self, at: &str, schema: &Value) -> Option<Self> {
        schema.get("const")?;
        Some(Self { is: Sort::Value, ..self.at(format!("{at}/const")) })
    }

    /// The schema that the value fits, behind all references, and where it stands; none if it
    /// can't be told.
    fn plain(&self) -> Option<(&str, &Value)> {
        referred(&self.at, self.part(), &self.whole)
    }
}

impl Known for Shape {
    fn kinds(&self) -> Kinds {
        match (self.is, self.plain()) {
            (Sort::Value, _) => kind_of(self.part()),
            (Sort::Schema, Some((_, schema))) => kinds_of(schema),
            (Sort::Schema, None) => Kinds::ANY,
        }
    }

    fn field(&self, name: &str) -> Option<Self> {
        if self.is == Sort::Value {
            self.part().get(name)?;
            return Some(self.at(inside(&self.at, name)));
        }
        let Some((at, schema)) = self.plain() else { return Some(Self::any()) };
        if let Some(constant) = self.written(at, schema) {
            return constant.field(name);
        }
        if lacks(schema, name) {
            return None;
        }
        let known = schema.get("properties").and_then(|fields| fields.get(name));
        Some(match known {
            Some(_) => self.at(inside(&format!("{at}/properties"), name)),
            None => Self::any(),
        })
    }

    fn fields(&self) -> Vec<&str> {
        let fields = match self.is {
            Sort::Value => Some(self.part()),
            Sort::Schema => self
                .plain()
                .and_then(|(_, schema)| schema.get("const").or_else(|| schema.get("properties"))),
        };
        fields.and_then(Value::as_object).into_iter().flatten().map(|(name, _)| &**name).collect()
    }

    fn item(&self, index: Option<usize>) -> Self {
        if self.is == Sort::Value {
            let item = index.filter(|index| self.part().get(index).is_some());
            return item.map_or_else(Self::any, |index| self.at(format!("{}/{index}", self.at)));
        }
        let Some((at, schema)) = self.plain() else { return Self::any() };
        if let Some(constant) = self.written(at, schema) {
            return constant.item(index);
        }
        let place = match (schema.get("prefixItems").and_then(Value::as_array), index) {
            (Some(first), Some(index)) if index < first.len() => format!("/prefixItems/{index}"),
            (Some(_), None) => return Self::any(),
            _ => "/items".to_owned(),
        };
        // In older drafts, `items` may be a list that says something of the first ones.
        match schema.pointer(&place) {
            Some(Value::Object(_)) => self.at(format!("{at}{place}")),
            _ => Self::any(),
        }
    }

    fn has_places(&self) -> bool {
        self.is == Sort::Value
            || self.plain().is_none_or(|(_, schema)| schema.get("prefixItems").is_some())
    }

    fn is_same(&self, other: &Self) -> bool {
        self.is == other.is && self.at == other.at && Rc::ptr_eq(&self.whole, &other.whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misfit(given: Value, wanted: Value) -> Option<String> {
        Shape::described(given).misfit(&Schema::new(wanted).unwrap()).map(|misfit| misfit.why)
    }

    #[test]
    fn disjoint_types_do_not_fit() {
        assert_eq!(
            misfit(json!({"type": "string"}), json!({"type": "object"})).unwrap(),
            "(whole value): it is string where object is wanted"
        );
        assert!(misfit(json!({"type": ["string", "null"]}), json!({"type": "integer"})).is_some());
        assert_eq!(misfit(json!({"type": ["string", "null"]}), json!({"type": "null"})), None);
        assert_eq!(misfit(json!({"type": "integer"}), json!({"type": "number"})), None);
        assert_eq!(misfit(json!({"type": "number"}), json!({"type": "integer"})), None);
        assert_eq!(misfit(json!({}), json!({"type": "object"})), None);
        assert_eq!(misfit(json!(true), json!({"type": "object"})), None);
        assert_eq!(
            misfit(json!({"$ref": "#/$defs/a", "type": "string"}), json!({"type": "object"})),
            None
        );
    }

    #[test]
    fn fields_that_are_never_there_are_found() {
        let closed =
            json!({"type": "object", "properties": {"a": {}}, "additionalProperties": false});
        let wants_b = json!({"type": "object", "required": ["b"]});
        assert_eq!(
            misfit(closed.clone(), wants_b.clone()).unwrap(),
            "(whole value): the required `b` is never there"
        );
        let open = json!({"type": "object", "properties": {"a": {}}});
        assert_eq!(misfit(open, wants_b.clone()), None);
        let patterned = json!({"type": "object", "patternProperties": {"^b": {}}, "additionalProperties": false});
        assert_eq!(misfit(patterned, wants_b.clone()), None);
        let maybe_null = json!({"type": ["object", "null"], "additionalProperties": false});
        assert_eq!(misfit(maybe_null, wants_b.clone()), None);
        let has_b = json!({"type": "object", "required": ["b"]});
        assert_eq!(misfit(has_b, closed).unwrap(), "(whole value): `b` is not taken");
    }

    #[test]
    fn fields_are_compared_where_they_are_certain() {
        let given = |required: Value| {
            json!({
                "type": "object", "properties": {"a/b": {"type": "string"}}, "required": required
            })
        };
        let wanted = json!({"type": "object", "properties": {"a/b": {"type": "integer"}}});
        assert_eq!(
            misfit(given(json!(["a/b"])), wanted.clone()).unwrap(),
            "/a~1b: it is string where integer is wanted"
        );
        assert_eq!(misfit(given(json!([])), wanted), None);
    }

    #[test]
    fn constants_are_validated() {
        let schema =
            Schema::new(json!({"type": "object", "properties": {"n": {"maximum": 3}}})).unwrap();
        assert_eq!(Shape::constant(json!({"n": 2})).misfit(&schema), None);
        assert!(Shape::constant(json!({"n": 4})).misfit(&schema).unwrap().why.starts_with("/n: "));
        let computed = Shape::object(
            [("n".to_owned(), Shape::constant(json!(4))), ("m".to_owned(), Shape::any())]
                .into_iter(),
        );
        assert!(computed.misfit(&schema).unwrap().why.starts_with("/n: "));
        let referring =
            Schema::new(json!({"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "string"}}}))
                .unwrap();
        assert_eq!(computed.misfit(&referring), None);
    }

    fn listed(shape: &Shape, fields: &[&str]) -> Option<BTreeSet<String>> {
        fields.iter().try_fold(shape.clone(), |shape, name| shape.field(name))?.listed_texts()
    }

    #[test]
    fn texts_that_a_schema_lists_are_found() {
        let texts = |schema: Value, fields: &[&str]| {
            let shape = Shape::of_schema(&Schema::new(schema).unwrap());
            listed(&shape, fields).map(|texts| texts.into_iter().collect::<Vec<_>>())
        };
        let is = |expected: &[&str]| Some(expected.iter().map(|&it| it.to_owned()).collect());
        let object = |kind: Value| {
            json!({
                "type": "object",
                "properties": { "kind": kind },
                "$defs": {
                    "Kind": { "oneOf": [{ "const": "a", "description": "A." }, { "const": "b" }] },
                    "Part": { "properties": { "kind": { "enum": ["p"] } } },
                },
            })
        };
        assert_eq!(texts(json!({ "enum": ["b", "a"] }), &[]), is(&["a", "b"]));
        assert_eq!(
            texts(object(json!({ "enum": ["a"], "type": "string" })), &["kind"]),
            is(&["a"])
        );
        assert_eq!(texts(object(json!({ "$ref": "#/$defs/Kind" })), &["kind"]), is(&["a", "b"]));
        let either = json!({ "anyOf": [{ "$ref": "#/$defs/Kind" }, { "enum": ["c"] }] });
        assert_eq!(texts(object(either), &["kind"]), is(&["a", "b", "c"]));
        let part = json!({ "$ref": "#/$defs/Part" });
        assert_eq!(texts(object(part), &["kind", "kind"]), is(&["p"]));
        for open in [
            json!({ "type": "string" }),
            json!({ "enum": ["a", null] }),
            json!({ "enum": ["a", 1] }),
            json!({ "const": "a" }),
            json!({ "anyOf": [{ "$ref": "#/$defs/Kind" }, { "type": "null" }] }),
            json!(true),
        ] {
            assert_eq!(texts(object(open.clone()), &["kind"]), None, "{open}");
        }
        assert_eq!(texts(object(json!({ "enum": ["a"] })), &["sort"]), None);
        assert_eq!(texts(object(json!({ "enum": ["a"] })), &[]), None);
        let endless = |again: Value| json!({ "$ref": "#/$defs/a", "$defs": { "a": again } });
        let again = json!({ "$ref": "#/$defs/a" });
        for again in [again.clone(), json!({ "anyOf": [again.clone(), again] })] {
            assert_eq!(Shape::described(endless(again)).listed_texts(), None);
        }
        // Inside a computed object, a reference from the top leads somewhere else.
        let part = json!({
            "properties": { "kind": { "$ref": "#/properties/other" }, "other": { "enum": ["a"] } }
        });
        assert_eq!(texts(part.clone(), &["kind"]), None);
        let other = Shape::described(json!({ "enum": ["b"] }));
        let fields = [("part".to_owned(), Shape::described(part)), ("other".to_owned(), other)];
        let computed = Shape::object(fields.into_iter());
        assert_eq!(listed(&computed, &["part", "kind"]), None);
        assert!(listed(&computed, &["part", "other"]).is_some());
        let many: Vec<String> = (0..=MAX_PARTS).map(|n| n.to_string()).collect();
        assert_eq!(texts(json!({ "enum": many[1..] }), &[]).map(|it| it.len()), Some(MAX_PARTS));
        assert_eq!(texts(json!({ "enum": many }), &[]), None);
        assert_eq!(listed(&Shape::constant(json!({ "kind": "a" })), &["kind"]), None);
    }

    #[test]
    fn what_is_known_of_an_object_is_bounded() {
        let doubled = |shape: &Shape| {
            Shape::object(["a", "b"].into_iter().map(|name| (name.to_owned(), shape.clone())))
        };
        let deep = (0..40).fold(Shape::constant(json!(1)), |shape, _| doubled(&shape));
        assert!(take_parts(deep.part(), 2 * MAX_PARTS).is_some());
        let wants_c = Schema::new(json!({"type": "object", "required": ["c"]})).unwrap();
        assert!(deep.misfit(&wants_c).is_some(), "its own fields are known all the same");
    }

    #[test]
    fn kinds_of_values_are_found_where_a_schema_says_them() {
        let kinds = |schema: Value| Shape::described(schema).kinds();
        assert_eq!(kinds(json!({ "type": "integer" })), Kinds::NUMBER);
        assert_eq!(kinds(json!({ "type": ["string", "null"] })), Kinds::TEXT.or(Kinds::NULL));
        assert_eq!(kinds(json!({ "enum": ["a", 1] })), Kinds::TEXT.or(Kinds::NUMBER));
        assert_eq!(kinds(json!({ "type": "string", "enum": ["a", 1] })), Kinds::TEXT);
        assert_eq!(kinds(json!({ "const": true })), Kinds::BOOL);
        for open in [
            json!(true),
            json!(false),
            json!({ "type": "nonsense" }),
            json!({ "type": "string", "const": 1 }),
            json!({ "anyOf": [{ "type": "string" }] }),
            json!({ "$ref": "#/properties/a", "type": "string" }),
        ] {
            assert_eq!(kinds(open.clone()), Kinds::ANY, "{open}");
        }
        let referring = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "type": "object" } } });
        assert_eq!(kinds(referring), Kinds::MAP);
        assert_eq!(Shape::constant(json!([1])).kinds(), Kinds::LIST);
        for kinds in [Kinds::TEXT, Kinds::BOOL.or(Kinds::NULL), Kinds::ANY] {
            assert_eq!(Shape::of_kinds(kinds).kinds(), kinds);
        }
        assert!(Shape::of_kinds(Kinds::ANY).is_any());
    }

    #[test]
    fn items_are_found_by_their_places() {
        let item = |schema: Value, index| Shape::described(schema).item(index).kinds();
        let all = json!({ "type": "array", "items": { "type": "string" } });
        assert_eq!(item(all.clone(), None), Kinds::TEXT);
        assert_eq!(item(all, Some(3)), Kinds::TEXT);
        let first = json!({ "prefixItems": [{ "type": "null" }], "items": { "type": "string" } });
        assert_eq!(item(first.clone(), Some(0)), Kinds::NULL);
        assert_eq!(item(first.clone(), Some(1)), Kinds::TEXT);
        assert_eq!(item(first, None), Kinds::ANY);
        assert_eq!(item(json!({ "items": [{ "type": "string" }] }), Some(0)), Kinds::ANY);
        assert_eq!(item(json!({ "items": false }), Some(0)), Kinds::ANY);
        let list = Shape::constant(json!([1, "a"]));
        assert_eq!(
            (list.item(Some(1)).kinds(), list.item(None).kinds()),
            (Kinds::TEXT, Kinds::ANY)
        );
        assert_eq!(list.item(Some(2)).kinds(), Kinds::ANY);
    }

    #[test]
    fn ways_are_joined() {
        let (a, b) = (Shape::constant(json!(1)), Shape::constant(json!(2)));
        assert_eq!(Shape::either(vec![None, None]), None);
        assert_eq!(Shape::either(vec![None, Some(a.clone())]), Some(a.clone()));
        assert_eq!(Shape::either(vec![Some(a.clone()), Some(a.clone())]), Some(a.clone()));
        assert_eq!(Shape::either(vec![Some(a), Some(b)]), Some(Shape::any()));
    }
}
