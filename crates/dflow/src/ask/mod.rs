//! Asks for a value in the terminal, field by field from its schema.

mod form;
mod frame;
mod line;
mod list;
mod plain;
mod prompt;
mod screen;

use dynamic_flow::{Schema, Violation, value::MAX_VALUE_DEPTH};
use serde_json::{Map, Value};

use self::{
    form::{Choice, Field, Kind, Part, Shape},
    plain::InLines,
    prompt::InTerminal,
    screen::Screen,
};
use crate::{
    json::{self, Wrong},
    progress::EndSignals,
    terminal::{Terminal, say},
};

/// Whoever is asked has had enough: Esc, Ctrl-C, Ctrl-D, or the terminal is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

/// An answer to one question; none if it was skipped.
pub(crate) type Asked<T> = Result<Option<T>, Stopped>;

/// A question as it is put.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) label: &'a str,
    pub(crate) help: Option<&'a str>,
    /// Whether it may be skipped.
    pub(crate) optional: bool,
}

/// Puts single questions to somebody.
pub(crate) trait Prompt {
    fn confirm(&mut self, question: Question<'_>, usual: Option<bool>) -> Asked<bool>;
    fn choose(
        &mut self,
        question: Question<'_>,
        options: &[String],
        usual: Option<usize>,
    ) -> Asked<usize>;
    fn choose_several(
        &mut self,
        question: Question<'_>,
        options: &[String],
        usual: &[usize],
    ) -> Asked<Vec<usize>>;
    fn line(&mut self, question: Question<'_>, usual: &str) -> Asked<String>;
    /// Asks for what nobody may read over a shoulder.
    fn secret(&mut self, label: &str) -> Result<String, Stopped>;
    /// Says what is wrong with what was given.
    fn complain(&mut self, message: &str);
}

/// Asks in the terminal, on a thread that may block. A signal to end ends the questions, too: where
/// the terminal obeys no escape sequences, Ctrl-C is one.
pub(crate) async fn in_terminal<T: Send + 'static>(
    terminal: &Terminal,
    ask: impl FnOnce(&mut dyn Prompt) -> Result<T, Stopped> + Send + 'static,
) -> Result<T, Stopped> {
    let (plain, style) = (terminal.plain, terminal.err);
    let mut signals = EndSignals::catch();
    let asked = tokio::task::spawn_blocking(move || match plain {
        true => ask(&mut InLines::open()?),
        false => ask(&mut InTerminal::open(style)?),
    });
    let asked = tokio::select! {
        asked = asked => asked.unwrap_or(Err(Stopped)),
        () = signals.next() => {
            Screen::give_back(plain);
            say("");
            return Err(Stopped);
        }
    };
    // As the last question was answered, somebody may have thought better of it.
    if signals.close() { Err(Stopped) } else { asked }
}

/// The key that ends the questions in a terminal.
pub(crate) fn ending_key(terminal: &Terminal) -> &'static str {
    if terminal.plain { "Ctrl-C" } else { "Esc" }
}

/// Asks until what is given fits the schema.
pub(crate) fn interview(prompt: &mut dyn Prompt, schema: &Schema) -> Result<Value, Stopped> {
    let shape = Shape::of(schema);
    let mut asker = Asker { prompt };
    let mut value = asker.must(&shape, "answer", None)?;
    while let Err(violations) = schema.validate(&value) {
        for violation in &violations {
            asker.prompt.complain(&told(violation));
        }
        let places: Vec<Place<'_>> = violations.iter().map(Place::of).collect();
        value = asker.repair(&shape, "", &value, &places)?;
    }
    Ok(value)
}

/// Where something does not fit, from the value at hand down.
#[derive(Clone)]
struct Place<'a> {
    pointer: &'a str,
}

impl<'a> Place<'a> {
    fn of(violation: &'a Violation) -> Self {
        Self { pointer: &violation.pointer }
    }

    /// The field that it is in, and where in that.
    fn enter(&self) -> Option<(String, Self)> {
        let rest = self.pointer.strip_prefix('/')?;
        let end = rest.find('/').unwrap_or(rest.len());
        let (name, pointer) = rest.split_at(end);
        Some((name.replace("~1", "/").replace("~0", "~"), Self { pointer }))
    }
}

struct Asker<'a> {
    prompt: &'a mut dyn Prompt,
}

impl Asker<'_> {
    /// Asks for a value that must be there.
    fn must(&mut self, shape: &Shape, label: &str, old: Option<&Value>) -> Result<Value, Stopped> {
        loop {
            if let Some(value) = self.ask(shape, label, shape.nullable, old)? {
                return Ok(value);
            }
            if shape.nullable {
                return Ok(Value::Null);
            }
            self.prompt.complain("this one is needed; Ctrl-C leaves everything as it is");
        }
    }

    /// Asks for a value; none if it was skipped.
    fn ask(
        &mut self,
        shape: &Shape,
        label: &str,
        optional: bool,
        old: Option<&Value>,
    ) -> Asked<Value> {
        let question = Question { label, help: shape.description.as_deref(), optional };
        let usual = old.or(shape.default.as_ref());
        // Of a list that may be empty each item is asked for, the first one too.
        let asks_by_item = matches!(shape.kind, Kind::List { min: 0, .. });
        if optional && !shape.is_simple() && !asks_by_item {
            let give = format!("{label}: give it?");
            // A no skips it.
            let question = Question { label: &give, optional: false, ..question };
            if self.prompt.confirm(question, Some(old.is_some()))? != Some(true) {
                return Ok(None);
            }
        }
        match &shape.kind {
            Kind::Const(value) if !optional => Ok(Some(value.clone())),
            Kind::Const(value) => {
                let set = format!("{label}: set it to {value}?");
                let question = Question { label: &set, optional: false, ..question };
                let set = self.prompt.confirm(question, Some(false))?;
                Ok((set == Some(true)).then(|| value.clone()))
            }
            Kind::Bool => {
                let usual = usual.and_then(Value::as_bool);
                Ok(self.prompt.confirm(question, usual)?.map(Value::Bool))
            }
            Kind::Choice(choices) => {
                let usual = choices.iter().position(|choice| Some(&choice.value) == usual);
                let chosen = self.prompt.choose(question, &labels(choices), usual)?;
                Ok(chosen.and_then(|index| choices.get(index)).map(|choice| choice.value.clone()))
            }
            Kind::Several(choices) => {
                let usual = usual.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let usual: Vec<usize> = (0..choices.len())
                    .filter(|index| usual.contains(&choices[*index].value))
                    .collect();
                let chosen = self.prompt.choose_several(question, &labels(choices), &usual)?;
                let value = |index: usize| choices.get(index).map(|choice| choice.value.clone());
                Ok(chosen.map(|chosen| chosen.into_iter().filter_map(value).collect()))
            }
            Kind::Object(fields) => Ok(Some(self.object(fields, label, old)?)),
            Kind::List { item, min, max } => {
                let items = self.list(item, label, *min, *max)?;
                Ok((!optional || !items.is_empty()).then(|| items.into()))
            }
            Kind::Json => {
                let help = question.help.map(|help| format!("{help}\n{AS_JSON}"));
                let help = Some(help.as_deref().unwrap_or(AS_JSON));
                self.line(shape, Question { help, ..question }, usual)
            }
            Kind::Integer | Kind::Number | Kind::Text => self.line(shape, question, usual),
        }
    }

    fn object(
        &mut self,
        fields: &[Field],
        label: &str,
        old: Option<&Value>,
    ) -> Result<Value, Stopped> {
        let mut object = Map::new();
        for field in fields {
            let old = old.and_then(|old| old.get(&field.name));
            if let Some(value) = self.field(field, label, old)? {
                object.insert(field.name.clone(), value);
            }
        }
        Ok(object.into())
    }

    fn field(&mut self, field: &Field, parent: &str, old: Option<&Value>) -> Asked<Value> {
        let label = match parent {
            "" | "answer" => field.name.clone(),
            parent => format!("{parent}.{}", field.name),
        };
        if field.required {
            self.must(&field.shape, &label, old).map(Some)
        } else {
            self.ask(&field.shape, &label, true, old)
        }
    }

    /// Asks for one item after the other, until one is skipped.
    fn list(
        &mut self,
        item: &Shape,
        label: &str,
        min: usize,
        max: usize,
    ) -> Result<Vec<Value>, Stopped> {
        let mut items = Vec::new();
        while items.len() < max {
            let label = format!("{label}[{}]", items.len() + 1);
            if items.len() < min {
                items.push(self.must(item, &label, None)?);
                continue;
            }
            match self.ask(item, &label, true, None)? {
                Some(value) => items.push(value),
                None => break,
            }
        }
        Ok(items)
    }

    /// Asks for a line until it is a value of the kind and fits.
    fn line(
        &mut self,
        shape: &Shape,
        question: Question<'_>,
        usual: Option<&Value>,
    ) -> Asked<Value> {
        let mut usual = usual.map(|value| spell(&shape.kind, value)).unwrap_or_default();
        let check = shape.check.as_ref().and_then(Part::schema);
        loop {
            let Some(line) = self.prompt.line(question, &usual)? else { return Ok(None) };
            if question.optional && line.trim().is_empty() {
                return Ok(None);
            }
            let complaint = match read(&shape.kind, &line) {
                Ok(value) => match check.as_ref().map(|check| check.validate(&value)) {
                    Some(Err(violations)) => {
                        let told = violations.iter().map(told).collect::<Vec<_>>().join("; ");
                        match shape.check.as_ref().and_then(Part::example) {
                            Some(example) if !told.contains(SUCH_AS) => {
                                format!("{told}{SUCH_AS}{}", spell(&shape.kind, example))
                            }
                            _ => told,
                        }
                    }
                    _ => return Ok(Some(value)),
                },
                Err(complaint) => complaint,
            };
            self.prompt.complain(&complaint);
            usual = line;
        }
    }

    /// Asks again for the parts that do not fit, and leaves the others as they are.
    fn repair(
        &mut self,
        shape: &Shape,
        label: &str,
        value: &Value,
        places: &[Place<'_>],
    ) -> Result<Value, Stopped> {
        let whole = if label.is_empty() { "answer" } else { label };
        let (Kind::Object(fields), Value::Object(mut object)) = (&shape.kind, value.clone()) else {
            return self.must(shape, whole, Some(value));
        };
        let mut asked = false;
        for field in fields {
            let inside: Vec<Place<'_>> = places
                .iter()
                .filter_map(Place::enter)
                .filter(|(name, _)| *name == field.name)
                .map(|(_, place)| place)
                .collect();
            let missing = field.required && !object.contains_key(&field.name);
            if inside.is_empty() && !missing {
                continue;
            }
            asked = true;
            let old = object.get(&field.name).cloned();
            let new = match old {
                Some(old) if inside.iter().all(|place| !place.pointer.is_empty()) => {
                    let label = match label {
                        "" => field.name.clone(),
                        label => format!("{label}.{}", field.name),
                    };
                    Some(self.repair(&field.shape, &label, &old, &inside)?)
                }
                old => self.field(field, label, old.as_ref())?,
            };
            match new {
                Some(new) => drop(object.insert(field.name.clone(), new)),
                None => drop(object.shift_remove(&field.name)),
            }
        }
        // It is not in any field, but in how they go together.
        if asked { Ok(object.into()) } else { self.must(shape, whole, Some(value)) }
    }
}

fn labels(choices: &[Choice]) -> Vec<String> {
    choices.iter().map(|choice| choice.label.clone()).collect()
}

/// What stands before an example.
const SUCH_AS: &str = ", such as ";

/// How to answer what has no simpler form.
const AS_JSON: &str = "Give it as JSON, such as 12, \"text\" or [1, 2].";

/// What does not fit, with the place as questions call it.
fn told(violation: &Violation) -> String {
    let mut place = String::new();
    for part in violation.pointer.split('/').skip(1) {
        match part.parse::<usize>() {
            Ok(index) => place.push_str(&format!("[{}]", index.saturating_add(1))),
            Err(_) => {
                let dot = if place.is_empty() { "" } else { "." };
                place.push_str(dot);
                place.push_str(&part.replace("~1", "/").replace("~0", "~"));
            }
        }
    }
    match place.is_empty() {
        true => violation.message.clone(),
        false => format!("{place}: {}", violation.message),
    }
}

/// Reads a line as a value of a kind.
fn read(kind: &Kind, line: &str) -> Result<Value, String> {
    match kind {
        Kind::Text => Ok(Value::String(line.to_owned())),
        Kind::Integer => match line.trim().parse::<Value>() {
            Ok(value) if value.is_i64() || value.is_u64() => Ok(value),
            _ => Err("must be a whole number".into()),
        },
        Kind::Number => match line.trim().parse::<Value>() {
            Ok(value) if value.is_number() => Ok(value),
            _ => Err("must be a number, such as 12 or 12.5".into()),
        },
        _ if line.trim().is_empty() => Err("must be JSON, and is empty".into()),
        _ => json::read(line).map_err(|wrong| match wrong {
            Wrong::NoJson { column, .. } => {
                format!("must be JSON: it is not from column {column} on")
            }
            Wrong::Twice { key, .. } => format!("has the key {key:?} twice"),
            Wrong::Deep { .. } => format!("must not nest deeper than {MAX_VALUE_DEPTH} levels"),
            Wrong::Rounded { .. } => json::ROUNDED.into(),
        }),
    }
}

fn spell(kind: &Kind, value: &Value) -> String {
    match (kind, value) {
        (Kind::Text, Value::String(text)) => text.clone(),
        (Kind::Json, value) => value.to_string(),
        (_, Value::Null) => String::new(),
        (_, value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests;
