//! Templates: texts with expressions in them, compiled once, whose work and output are bounded.
//!
//! They look like Jinja's and are made of the same expressions as everything else in a document.
//! minijinja was tried: its fuel does not count what stands in lists that were joined or compared
//! (`{% set x = x + x %}` in a loop of 60 never comes back), and there is no way to take such
//! operators away.

mod parse;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::Serialize;

use self::parse::{Item, Parsed, Part};
use super::{
    Scope,
    eval::Run,
    foresight::{Foresight, Known},
    meter::{BUDGET, Fail, Meter, bytes},
    program::Node,
    value::List,
    wrong::Refused,
};
use crate::{Error, ErrorKind, Result, ToolError, codes};

/// Longest output, in bytes.
const MAX_OUTPUT: usize = 64 << 10;

/// A text with expressions in it, compiled once, whose work and output are bounded. Serialized as
/// its source.
///
/// | in the source | means |
/// | --- | --- |
/// | `{{ value.order.id }}` | the value of an expression: texts as they are, everything else as JSON |
/// | `{{ value.name \| upper \| default('?') }}` | the same, through filters |
/// | `{% if value.total > 100 %} … {% elif … %} … {% else %} … {% endif %}` | one of several parts |
/// | `{% for item in value.items %} … {% else %} … {% endfor %}` | a part for each item of a list, or key of a map; the last part for an empty one |
/// | `{# … #}` | nothing |
///
/// `-` inside of a bracket, as in `{%- … -%}`, takes away the white space beside it. Expressions
/// are those of [`Cel`](super::Cel). Filters are `default`, `first`, `fixed(digits)`, `join`,
/// `json`, `last`, `length`, `lower`, `round`, `upper`, and each function of expressions: `x | f(y)`
/// is `x.f(y)`. They stand at the end of an expression, outside of parentheses. A name or key that there
/// is not is an error; `default` takes its place, and that of null. Nothing is escaped.
///
/// Limits: 16 KiB of source, 1,000 brackets, 10 levels of nesting, 64 KiB of output, and 400,000
/// units of work for all expressions and templates of a step together.
///
/// ```
/// use dynamic_flow::{RunId, expr::{Scope, Template}};
/// use serde_json::json;
///
/// let value = json!({ "id": "A-7", "total": 120 });
/// let scope = Scope {
///     value: &value,
///     vars: &Default::default(),
///     input: &value,
///     run_id: RunId::from_bytes([0; 16]),
/// };
///
/// let prompt = Template::compile("Approve {{ value.id }} for {{ value.total | fixed(2) }} €?")?;
/// assert_eq!(prompt.render(scope).unwrap(), "Approve A-7 for 120.00 €?");
///
/// let error = Template::compile("{{ value.cost }}")?.render(scope).unwrap_err();
/// assert_eq!(error.message, "line 1: no such key: cost");
/// # Ok::<(), dynamic_flow::Error>(())
/// ```
#[derive(Clone)]
pub struct Template(Arc<Compiled>);

struct Compiled {
    source: String,
    parts: Vec<Part>,
    variables: BTreeSet<String>,
    pattern_bytes: usize,
}

impl Template {
    /// Compiles the source and checks its bounds.
    ///
    /// # Errors
    /// `InvalidFlow` when the source is no template, uses a name or filter that there is not, or
    /// is over a limit.
    pub fn compile(source: &str) -> Result<Self> {
        Self::read(source).map_err(|refused| {
            let message = format!("the template: {}", refused.told(source));
            Error::new(ErrorKind::InvalidFlow, message)
        })
    }

    /// As [`Template::compile`]; the error has all that is wrong, each with where it is.
    pub(crate) fn read(source: &str) -> std::result::Result<Self, Refused<Self>> {
        let whole = |Parsed { parts, variables, pattern_bytes }| {
            let source = source.to_owned();
            Self(Arc::new(Compiled { source, parts, variables, pattern_bytes }))
        };
        parse::parse(source).map(whole).map_err(|refused| refused.map(whole))
    }

    /// The source.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The variables that it reads by name, as [`Cel::variables`](super::Cel::variables) has them.
    pub fn variables(&self) -> BTreeSet<String> {
        self.0.variables.clone()
    }

    /// How much memory the patterns of its `matches` take.
    pub(crate) fn pattern_bytes(&self) -> usize {
        self.0.pattern_bytes
    }

    /// Works it out for the values in scope.
    ///
    /// # Errors
    /// Code `expression`, permanent, when it fails for these values, would cost too much or writes
    /// too much. The message names lines, keys and types, never values.
    pub fn render(&self, scope: Scope<'_>) -> Result<String, ToolError> {
        self.render_within(&Meter::default(), scope)
    }

    /// Walks through its expressions; what a condition rules out is left out.
    pub(super) fn foresee<K: Known>(&self, foresight: &mut Foresight<'_, K>) {
        foresee(&self.0.parts, foresight);
    }

    pub(super) fn render_within(
        &self,
        meter: &Meter,
        scope: Scope<'_>,
    ) -> Result<String, ToolError> {
        let mut rendering = Rendering { run: Run::new(scope, meter), meter, output: String::new() };
        match rendering.parts(&self.0.parts) {
            Ok(()) => Ok(rendering.output),
            Err(Stopped { line, fail }) => {
                let message = match fail {
                    Fail::Error(message) | Fail::Missing(message) => message,
                    Fail::Exhausted => {
                        format!("the template costs more than {BUDGET} units of work")
                    }
                };
                let message = format!("line {line}: {message}");
                Err(ToolError::new(message).code(codes::EXPRESSION).permanent())
            }
        }
    }
}

fn foresee<K: Known>(parts: &[Part], foresight: &mut Foresight<'_, K>) {
    for part in parts {
        foresight.at_line(part.line);
        match &part.item {
            Item::Text(_) => {}
            Item::Show(node) => {
                foresight.node(node);
            }
            Item::If { condition, then, otherwise } => {
                let taken = foresight.bool(condition, "if");
                if taken != Some(false) {
                    foresee(then, foresight);
                }
                if taken != Some(true) {
                    foresee(otherwise, foresight);
                }
            }
            Item::For { over, body, otherwise } => {
                let over = foresight.node(over).result;
                let item = foresight.items(&over, "`for` walks");
                foresight.enter(item);
                foresee(body, foresight);
                foresight.leave();
                foresee(otherwise, foresight);
            }
        }
    }
}

struct Rendering<'a, 'm> {
    run: Run<'a, 'm>,
    meter: &'m Meter,
    output: String,
}

struct Stopped {
    line: usize,
    fail: Fail,
}

impl<'a> Rendering<'a, '_> {
    fn parts(&mut self, parts: &'a [Part]) -> Result<(), Stopped> {
        for part in parts {
            let stopped = |fail| Stopped { line: part.line, fail };
            self.meter.spend(1).map_err(stopped)?;
            match &part.item {
                Item::Text(text) => self.write(text).map_err(stopped)?,
                Item::Show(node) => self.show(node).map_err(stopped)?,
                Item::If { condition, then, otherwise } => {
                    let taken = self.run.bool(condition, "if").map_err(stopped)?;
                    self.parts(if taken { then } else { otherwise })?;
                }
                Item::For { over, body, otherwise } => {
                    let items = self.items(over).map_err(stopped)?;
                    if items.len() == 0 {
                        self.parts(otherwise)?;
                    }
                    for item in items.iter() {
                        self.meter.spend(1).map_err(stopped)?;
                        self.run.enter(item);
                        self.parts(body)?;
                        self.run.leave();
                    }
                }
            }
        }
        Ok(())
    }

    fn show(&mut self, node: &'a Node) -> Result<(), Fail> {
        let text = self.run.eval(node)?.shown(self.meter)?;
        self.write(&text)
    }

    fn write(&mut self, text: &str) -> Result<(), Fail> {
        self.meter.spend(bytes(text.len()))?;
        if self.output.len() + text.len() > MAX_OUTPUT {
            return Fail::because(format!("the template writes more than {MAX_OUTPUT} bytes"));
        }
        self.output.push_str(text);
        Ok(())
    }

    fn items(&mut self, over: &'a Node) -> Result<List<'a>, Fail> {
        let over = self.run.eval(over)?;
        self.run.items(over)
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.source(), f)
    }
}

impl Serialize for Template {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.source())
    }
}
