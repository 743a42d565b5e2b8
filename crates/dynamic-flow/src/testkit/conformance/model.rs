//! Random operations, compared one by one with a reference that fits on a page.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Subject,
    build::{at, full, id, pages, plain, queue, sealed, wait},
    dice::Dice,
};
use crate::{
    Result,
    clock::Timestamp,
    engine::RunStatus,
    error::{Error, ErrorKind},
    id::{Epoch, Revision, RunId},
    store::{Change, Claim, Expect, Filter, Lease, Record, Summary},
    wait::Metadata,
};

impl Dice {
    fn id(&mut self) -> RunId {
        id(self.roll(8))
    }

    fn time(&mut self) -> Timestamp {
        at(self.roll(2000) as i64)
    }

    fn status(&mut self) -> RunStatus {
        self.one_of(&RunStatus::ALL)
    }

    fn name(&mut self) -> &'static str {
        self.one_of(&["a", "b", "B"])
    }

    fn metadata(&mut self) -> Metadata {
        let count = self.roll(3);
        (0..count).map(|_| (self.name().to_owned(), (self.roll(2) as i64).into())).collect()
    }

    fn waits(&mut self) -> Vec<crate::store::WaitIndex> {
        let count = self.roll(3);
        (0..count)
            .map(|n| {
                let expires_at = self.sometimes(Self::time);
                wait(&format!("w{n}"), self.name(), expires_at)
            })
            .collect()
    }

    fn lease(&mut self) -> Option<Lease> {
        self.sometimes(|dice| Lease { owner: dice.name().into(), until: dice.time() })
    }

    fn record(&mut self) -> Record {
        Record {
            status: self.status(),
            flow_id: self.name().into(),
            queue: (self.roll(4) > 0).then(|| queue(self.name())),
            due_at: (self.roll(4) > 0).then(|| self.time()),
            waits: self.waits(),
            metadata: self.metadata(),
            lease: self.lease(),
            inbox: (0..self.roll(3)).map(|n| sealed(&n.to_string())).collect(),
            ..plain(self.id())
        }
    }

    fn change(&mut self, record: Option<&Record>) -> Change {
        let epoch = record.map_or(Epoch(1), |record| record.epoch.next());
        Change {
            updated_at: self.time(),
            epoch: self.sometimes(|_| epoch),
            queue: self.sometimes(|dice| dice.sometimes(|dice| queue(dice.name()))),
            status: self.sometimes(Self::status),
            waits: self.sometimes(Self::waits),
            metadata: self.sometimes(Self::metadata),
            due_at: self.sometimes(|dice| (dice.roll(4) > 0).then(|| dice.time())),
            attempts: self.sometimes(|dice| dice.roll(5) as u32),
            lease: self.sometimes(Self::lease),
            snapshot: self.sometimes(|dice| sealed(&"s".repeat(dice.roll(5000) as usize))),
            inbox_drop: self.roll(3) as usize,
            inbox_push: (0..self.roll(3)).map(|n| sealed(&n.to_string())).collect(),
            inbox: self
                .sometimes(|dice| (0..dice.roll(3)).map(|n| sealed(&format!("new {n}"))).collect())
                .filter(|_| self.roll(4) == 0),
        }
    }

    fn expect(&mut self, record: Option<&Record>) -> Expect {
        let revision = record.map_or(Revision(1), |record| record.revision);
        match self.roll(4) {
            0 => Expect::Any,
            1 => Expect::Revision(Revision(revision.0 + self.roll(3))),
            _ => Expect::Revision(revision),
        }
    }

    fn filter(&mut self) -> Filter {
        Filter {
            status: (0..self.roll(3)).map(|_| self.status()).collect(),
            flow_id: self.sometimes(|dice| dice.name().into()),
            tool_id: self.sometimes(|dice| dice.name().into()),
            metadata: self.sometimes(Self::metadata).unwrap_or_default(),
            created_after: self.sometimes(|dice| at(dice.roll(8) as i64)),
            created_before: self.sometimes(|dice| at(dice.roll(8) as i64)),
            expires_after: self.sometimes(Self::time),
            expires_before: self.sometimes(Self::time),
        }
    }
}

/// What a store must come to, written down plainly.
#[derive(Default)]
struct Model(BTreeMap<RunId, Record>);

impl Model {
    fn expected(&mut self, id: RunId, expect: Expect) -> Result<&mut Record, ErrorKind> {
        match self.0.get_mut(&id) {
            Some(record) if expect.admits(record.revision) => Ok(record),
            _ => Err(ErrorKind::Conflict),
        }
    }

    fn insert(&mut self, record: Record) -> Result<(), ErrorKind> {
        if self.0.contains_key(&record.id) {
            return Err(ErrorKind::AlreadyExists);
        }
        self.0.insert(record.id, record);
        Ok(())
    }

    fn update(&mut self, id: RunId, expect: Expect, change: Change) -> Result<Revision, ErrorKind> {
        let record = self.expected(id, expect)?;
        change.apply(record);
        Ok(record.revision)
    }

    fn delete(&mut self, id: RunId, expect: Expect) -> Result<(), ErrorKind> {
        self.expected(id, expect)?;
        self.0.remove(&id);
        Ok(())
    }

    fn renew(&mut self, id: RunId, epoch: Epoch, until: Timestamp) -> Result<(), ErrorKind> {
        let record = self.expected(id, Expect::Any)?;
        let lease = record.lease.as_mut().filter(|_| record.epoch == epoch);
        lease.ok_or(ErrorKind::Conflict)?.until = until;
        record.due_at = Some(until);
        Ok(())
    }

    /// Among runs due at one time the store may choose; what it chose must be right.
    fn claim(&mut self, claim: &Claim, given: &[Record]) {
        let mut free: Vec<_> =
            self.0.values().filter(|r| claim.admits(r)).map(|r| (r.due_at, r.id)).collect();
        free.sort();
        assert_eq!(given.len(), free.len().min(claim.limit), "how many {claim:?} gives");
        let due = given.iter().map(|record| self.0[&record.id].due_at);
        assert!(due.eq(free.iter().take(given.len()).map(|(at, _)| *at)), "in order of due times");
        for record in given {
            let mine = self.0.get_mut(&record.id).expect("known");
            assert!(claim.admits(mine), "{} is not free", record.id);
            claim.apply(mine);
            assert_same!(mine, record);
        }
    }

    fn query(&self, filter: &Filter) -> Vec<Summary> {
        self.0.values().rev().filter(|r| filter.matches(r)).map(Summary::from).collect()
    }
}

fn kind<T>(result: Result<T>) -> Result<T, ErrorKind> {
    result.map_err(|error| Error::kind(&error))
}

/// A thousand operations on eight ids: every result, and every record after it, is as expected.
pub async fn random_operations_agree_with_the_reference(subject: Subject) {
    let stores = subject.pair().await;
    let mut model = Model::default();
    let mut dice = Dice(42);
    for step in 0..1000 {
        let store = &*stores[dice.roll(2) as usize];
        let id = dice.id();
        let known = model.0.get(&id).cloned();
        match dice.roll(10) {
            0 | 1 => {
                let record = if dice.roll(5) == 0 { full(id) } else { dice.record() };
                let result = kind(store.insert(record.clone()).await);
                assert_eq!(result, model.insert(record), "insert, step {step}");
            }
            2..=5 => {
                let expect = dice.expect(known.as_ref());
                let change = dice.change(known.as_ref());
                let result = kind(store.update(id, expect, change.clone()).await);
                assert_eq!(result, model.update(id, expect, change), "update, step {step}");
            }
            6 => {
                let expect = dice.expect(known.as_ref());
                let result = kind(store.delete(id, expect).await);
                assert_eq!(result, model.delete(id, expect), "delete, step {step}");
            }
            7 => {
                let epoch = known.as_ref().map_or(0, |record| record.epoch.0) + dice.roll(4) / 3;
                let until = dice.time();
                let result = kind(store.renew(id, Epoch(epoch), until).await);
                assert_eq!(result, model.renew(id, Epoch(epoch), until), "renew, step {step}");
            }
            8 => {
                let claim = Claim {
                    now: dice.time(),
                    queues: (0..dice.roll(3)).map(|_| queue(dice.name())).collect(),
                    owner: dice.name().into(),
                    lease: Duration::from_millis(dice.roll(300)),
                    limit: dice.roll(4) as usize,
                    except: (dice.roll(3) == 0).then_some(id).into_iter().collect(),
                };
                model.claim(&claim, &store.claim(claim.clone()).await.expect("claim"));
            }
            _ => {
                let filter = dice.filter();
                let limit = 1 + dice.roll(5) as usize;
                let found = pages(store, &filter, limit).await;
                assert_same!(found, model.query(&filter), "query, step {step}: {filter:?}");
            }
        }
        let stored = stores[dice.roll(2) as usize].get(id).await.expect("get");
        assert_same!(stored.as_ref(), model.0.get(&id), "step {step}");
    }
    assert_same!(pages(&*stores[0], &Filter::default(), 3).await, model.query(&Filter::default()));
}
