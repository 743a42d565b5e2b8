//! Filters of any shape, on records of any shape.

use super::{
    Subject,
    build::{at, id_at, insert_crowd, pages, plain, wait},
    dice::Dice,
    queries::expected,
};
use crate::{
    clock::Timestamp,
    engine::RunStatus,
    store::{Change, Expect, Filter, Record, WaitIndex},
    wait::{Metadata, Scalar},
};

const NAMES: &[&str] = &["a", "A", "a.b", "$in", "é", "o'clock", "`tick`", "{x}"];
const TOOLS: &[&str] = &["approve", "Approve", "re.view"];
const FLOWS: &[&str] = &["a", "A", "purchase-approval"];

/// Where one type or its limit is easily taken for another.
fn values() -> Vec<Scalar> {
    let ints = [0, 1, -1, 1 << 53, (1 << 53) + 1, i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX];
    let floats = [0.0, -0.0, 1.0, -1.0, 0.5, 9_007_199_254_740_992.0, 9.223_372_036_854_776e18];
    let extremes = [-9.223_372_036_854_776e18, f64::MAX, f64::MIN_POSITIVE, 5e-324];
    let texts = ["", "0", "1", "1.0", "-0.0", "true", "null", "a", "A", "a ", "é", "e\u{301}"];
    let mut values: Vec<Scalar> = vec![true.into(), false.into()];
    values.extend(ints.map(Scalar::from));
    values.extend(floats.map(Scalar::from));
    values.extend(extremes.map(Scalar::from));
    values.extend(texts.map(Scalar::from));
    values
}

fn times() -> Vec<Timestamp> {
    let extremes = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    let usual = (0..5).map(at);
    extremes.into_iter().map(Timestamp::from_millis).chain(usual).collect()
}

struct Draw {
    dice: Dice,
    values: Vec<Scalar>,
    times: Vec<Timestamp>,
}

impl Draw {
    fn metadata(&mut self) -> Metadata {
        let count = self.dice.roll(6);
        (0..count)
            .map(|_| (self.dice.one_of(NAMES).to_owned(), self.dice.one_of(&self.values)))
            .collect()
    }

    fn waits(&mut self) -> Vec<WaitIndex> {
        let count = self.dice.roll(4);
        (0..count)
            .map(|n| {
                let ends = (self.dice.roll(4) > 0).then(|| self.dice.one_of(&self.times));
                wait(&format!("w{n}"), self.dice.one_of(TOOLS), ends)
            })
            .collect()
    }

    fn record(&mut self, n: u64) -> Record {
        Record {
            flow_id: self.dice.one_of(FLOWS).into(),
            status: self.dice.one_of(&RunStatus::ALL),
            waits: self.waits(),
            metadata: self.metadata(),
            ..plain(id_at(self.dice.roll(5) as i64, n))
        }
    }

    /// A filter made after a record, so that it matches some: now and then with something else.
    fn filter(&mut self, like: &Record) -> Filter {
        let mut filter = Filter::default();
        let Self { dice, values, times } = self;
        if dice.roll(4) == 0 {
            filter.status = [like.status, dice.one_of(&RunStatus::ALL)].into();
        }
        filter.flow_id = dice.sometimes(|_| like.flow_id.clone());
        for (name, value) in &like.metadata {
            let mut value = value.clone();
            if dice.roll(5) == 0 {
                value = dice.one_of(values);
            }
            if dice.roll(2) == 0 {
                filter.metadata.insert(name.clone(), value);
            }
        }
        if let Some(of) = (!like.waits.is_empty()).then(|| dice.one_of(&like.waits)) {
            filter.tool_id = dice.sometimes(|_| of.tool_id.clone());
            let near = |dice: &mut Dice, other: Timestamp| {
                of.expires_at.filter(|_| dice.roll(2) == 0).unwrap_or(other)
            };
            let (from, to) = (dice.one_of(times), dice.one_of(times));
            filter.expires_after = dice.sometimes(|dice| near(dice, from));
            filter.expires_before = dice.sometimes(|dice| near(dice, to));
        }
        filter.created_after =
            dice.sometimes(|dice| dice.one_of(times)).filter(|_| dice.roll(2) == 0);
        filter.created_before =
            dice.sometimes(|dice| dice.one_of(times)).filter(|_| dice.roll(2) == 0);
        filter
    }
}

/// Three hundred filters on eighty runs, half of which were something else before.
pub async fn random_filters_list_what_matches(subject: Subject) {
    let store = subject.provisioned().await;
    let mut draw = Draw { dice: Dice(7), values: values(), times: times() };
    let mut records: Vec<_> = (0..80).map(|n| draw.record(n)).collect();
    insert_crowd(&store, records.clone()).await;
    for record in records.iter_mut().step_by(2) {
        let change = Change {
            status: Some(draw.dice.one_of(&RunStatus::ALL)),
            waits: Some(draw.waits()),
            metadata: Some(draw.metadata()),
            ..Change::at(at(1))
        };
        store.update(record.id, Expect::Any, change.clone()).await.expect("update");
        change.apply(record);
    }
    let mut found_some = 0;
    for step in 0..300 {
        let like = draw.dice.one_of(&records);
        let filter = draw.filter(&like);
        let limit = 1 + draw.dice.roll(20) as usize;
        let found = pages(&*store, &filter, limit).await;
        assert_same!(found, expected(&records, &filter), "step {step}: {filter:?}");
        found_some += usize::from(!found.is_empty());
    }
    assert!(found_some > 100, "the filters must find something: {found_some}");
}
