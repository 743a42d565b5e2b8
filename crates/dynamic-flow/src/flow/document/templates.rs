//! What a tool is called with that fills a template: the template is the author's, never the data's.

use super::{
    node::{Data, Node},
    reader::{Fields, Reader, Sort, object_of},
    sources::Source,
    steps::unknown_value,
};
use crate::{
    expr::{Cel, Compute, Template, most_pattern_bytes},
    flow::check::inside,
    tool::{TEMPLATE_DATA, TEMPLATE_SOURCE},
};

impl Reader<'_> {
    /// What such a tool is called with: its template as it is written, once it was checked, and the
    /// data, which is the current value where nothing else is said.
    ///
    /// A template that is computed would be made of data. It is told of; a run that was started with
    /// one goes on as it began.
    pub(super) fn with_template(&mut self, call: &Node, step: Fields<'_>) -> Option<Compute> {
        let told = "a template is written out in `with.template`, never made of data: write it \
                    there, as in \"Dear {{ value.name }}\"";
        let Some(with) = step.get("with") else {
            if !step.has("with") {
                self.find_bearable(call.place, told);
            }
            return None;
        };
        let entries = match &with.data {
            Data::Object(entries) => entries,
            Data::Text(text) if matches!(Sort::of(text), Sort::Expression(_)) => {
                self.find_bearable(with.place, told);
                return Some(self.compute(with, "`with`"));
            }
            _ => return Some(self.compute(with, "`with`")),
        };
        let mut inputs: Vec<(String, Compute)> = Vec::new();
        let mut sees_value = false;
        for (key, node) in entries {
            let what = format!("`with`.{}", key.name);
            let sort = match &node.data {
                Data::Text(text) if key.name == TEMPLATE_SOURCE => Some((text, Sort::of(text))),
                _ => None,
            };
            let input = match sort {
                Some((text, Sort::Constant | Sort::Template)) => {
                    sees_value = Sort::of(text) == Sort::Template;
                    self.written_template(text, node, &what);
                    Compute::Value(text.as_str().into())
                }
                Some((_, Sort::Expression(_))) => {
                    self.find_bearable(node.place, told);
                    self.compute(node, &what)
                }
                _ => self.compute(node, &what),
            };
            inputs.push((key.name.clone(), input));
        }
        if sees_value && !inputs.iter().any(|(name, _)| name == TEMPLATE_DATA) {
            let value = Cel::compile("value").map_or_else(|_| unknown_value(), Compute::Cel);
            inputs.push((TEMPLATE_DATA.to_owned(), value));
        }
        Some(object_of(inputs))
    }

    /// Checks a template that the tool will fill: it reads the variables of the step.
    fn written_template(&mut self, text: &str, node: &Node, what: &str) {
        if self.is_full() {
            return;
        }
        let template = match Template::read(text) {
            Ok(template) => Compute::Template(template),
            // Without any bracket it was not read before, and would fail in its step.
            Err(refused) if Sort::of(text) == Sort::Constant => {
                self.lose(most_pattern_bytes(text), node.place);
                for wrong in &refused.wrong {
                    let message = format!("{what}: the template: {}", wrong.told(text));
                    self.find_bearable(node.place, message);
                }
                return;
            }
            Err(refused) => {
                self.lose(most_pattern_bytes(text), node.place);
                let source = Source { text, source: text, what: "the template" };
                self.refused(node, source, refused.map(Compute::Template), what)
            }
        };
        let template = self.weighed(template, node.place);
        let hidden = self.hidden.entry(self.address.clone()).or_default();
        hidden.push((inside("/with", TEMPLATE_SOURCE), template));
    }
}
