//! Switches: which names a route may give, and which cases there are for them.

use std::collections::{BTreeSet, HashSet};

use indexmap::IndexMap;
use serde_json::Value;

use super::{Checker, shape::Shape, spot::Spot};
use crate::{
    expr::{Compute, Kinds, Known, Look, Outcome, Source},
    flow::Body,
    id::MAX_ID_BYTES,
    words::nearest,
};

/// How many names are told one by one that have no case.
const MAX_MISSING: usize = 10;

/// The names that a route may give.
struct Names {
    /// All of them; none if it may give others.
    all: Option<BTreeSet<String>>,
    /// Those that are listed, and that nothing before may have ruled out.
    sure: BTreeSet<String>,
}

/// What true and false are as names of cases.
fn truths() -> BTreeSet<String> {
    [false, true].iter().map(bool::to_string).collect()
}

impl Checker<'_> {
    pub(super) fn route(
        &mut self,
        route: &Compute,
        arms: &IndexMap<String, Body>,
        otherwise: bool,
        spot: &Spot,
        value: &Shape,
    ) {
        if arms.is_empty() {
            self.tell(&spot.value("/switch/cases"), "a switch needs at least one case");
            return;
        }
        for name in arms.keys().filter(|name| name.is_empty() || name.len() > MAX_ID_BYTES) {
            let bytes = name.len();
            let message = format!("the name of a case has 1 to {MAX_ID_BYTES} bytes, not {bytes}");
            self.tell(&spot.name("/switch/cases", name), message);
        }
        let on = spot.value("/switch/on");
        if matches!(route, Compute::Object(_) | Compute::List(_)) {
            self.tell_bearable(&on, "a switch must be on text, the name of a case");
        }
        let outcomes = route.outcomes(&self.meter);
        let mut told = HashSet::new();
        for outcome in &outcomes {
            let message = match outcome {
                Outcome::Known(Value::String(name)) if arms.contains_key(name) || otherwise => {
                    continue;
                }
                Outcome::Known(Value::String(name)) if name.is_empty() => {
                    "it may be that no case is chosen, as where no condition holds; add a `default`"
                        .to_owned()
                }
                Outcome::Known(Value::String(name)) => {
                    format!("`{name}` may be chosen, but there is no such case, and no `default`")
                }
                Outcome::Known(_) => "a switch must be on text, the name of a case".to_owned(),
                Outcome::Field(..) | Outcome::Truth | Outcome::Unknown => continue,
            };
            if told.insert(message.clone()) {
                self.tell_bearable(&on, message);
            }
        }
        let names = self.names(route, &outcomes, value);
        let missing: Vec<&String> =
            names.sure.iter().filter(|name| !arms.contains_key(*name)).collect();
        if !otherwise {
            for name in missing.iter().take(MAX_MISSING) {
                let message =
                    format!("`{name}` may be chosen, but there is no such case, and no `default`");
                if told.insert(message.clone()) {
                    self.tell_bearable(&on, message);
                }
            }
            if missing.len() > MAX_MISSING {
                let more = missing.len() - MAX_MISSING;
                let message =
                    format!("{more} more may be chosen that have no case; add a `default`");
                self.tell_bearable(&on, message);
            }
        }
        let Some(all) = names.all else { return };
        for name in arms.keys().filter(|name| !all.contains(*name)) {
            let meant = nearest(name, missing.iter().take(MAX_MISSING).map(|name| name.as_str()));
            let meant = meant.map(|meant| format!("; did you mean `{meant}`?"));
            let message = format!("the case `{name}` is never chosen{}", meant.unwrap_or_default());
            self.tell_bearable(&spot.name("/switch/cases", name), message);
        }
        if otherwise && all.iter().all(|name| arms.contains_key(name)) {
            let message = "the `default` is never chosen: whatever there may be has a case";
            self.tell_bearable(&spot.name("/switch", "default"), message);
        }
    }

    /// The names that a route may give.
    fn names(&self, route: &Compute, outcomes: &[Outcome<'_>], value: &Shape) -> Names {
        let mut names = Names { all: Some(BTreeSet::new()), sure: BTreeSet::new() };
        let conditions = self.looked_at(route.conditions(), value);
        let looks = self.looked_at(route.looks(), value);
        for outcome in outcomes {
            let (listed, is_sure) = match outcome {
                Outcome::Known(Value::String(name)) => {
                    (Some(BTreeSet::from([name.clone()])), false)
                }
                // That is told by itself.
                Outcome::Known(_) => continue,
                Outcome::Field(source, fields) => {
                    let field = self.part(*source, fields, value);
                    let listed = field.as_ref().and_then(|field| self.listed(field));
                    let was_looked_at = |field: &Shape| {
                        let mut before = self.looked.iter().chain(&conditions);
                        before.any(|looked| field.is_within(looked))
                    };
                    (listed, !field.as_ref().is_some_and(was_looked_at))
                }
                Outcome::Truth => {
                    let was_looked_at =
                        |field: &Shape| self.looked.iter().any(|looked| field.is_within(looked));
                    (Some(truths()), !looks.iter().any(was_looked_at))
                }
                Outcome::Unknown => (None, false),
            };
            match listed {
                Some(listed) => {
                    if is_sure {
                        names.sure.extend(listed.iter().cloned());
                    }
                    if let Some(all) = &mut names.all {
                        all.extend(listed);
                    }
                }
                None => names.all = None,
            }
        }
        names
    }

    /// All names that a field may be; none if it may be others.
    fn listed(&self, field: &Shape) -> Option<BTreeSet<String>> {
        if field.kinds() == Kinds::BOOL && !field.is_constant() {
            return Some(truths());
        }
        let texts = field.listed_texts()?;
        self.meter.spend(texts.len()).ok()?;
        Some(texts)
    }

    /// Notes what a filter or a switch looks at.
    pub(super) fn look(&mut self, looks: Vec<Look<'_>>, value: &Shape) {
        let looked = self.looked_at(looks, value);
        self.looked.extend(looked);
    }

    fn looked_at(&self, looks: Vec<Look<'_>>, value: &Shape) -> Vec<Shape> {
        let parts = looks.into_iter().filter_map(|(of, fields)| self.part(of, &fields, value));
        parts.collect()
    }

    /// What is known of a field of a field … of what an expression sees.
    fn part(&self, source: Source<'_>, fields: &[&str], value: &Shape) -> Option<Shape> {
        let seen = self.seen(source, value)?.clone();
        fields.iter().try_fold(seen, |of, name| of.field(name))
    }
}
