//! The store into which bugs are planted.

mod choosing;
mod writing;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use dynamic_flow::{
    Epoch, Error, ErrorKind, Result, Revision, RunId, RunStatus, Timestamp,
    codec::Sealed,
    store::{
        Change, Claim, Cursor, Expect, Filter, Health, Hint, Hinter, Hints, Lease, Page, Record,
        Store, Summary,
    },
};

use super::Bug;

/// A store as plain as can be, with one bug.
#[derive(Debug)]
pub(super) struct Planted {
    bug: Bug,
    shared: Arc<Mutex<Shared>>,
    cache: Mutex<BTreeMap<RunId, Record>>,
    epochs: Mutex<BTreeMap<RunId, Epoch>>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    made: bool,
    records: BTreeMap<RunId, Record>,
    first: BTreeMap<RunId, Record>,
    deleted: BTreeMap<RunId, Record>,
}

/// Lets others run, more than once, so that what is open stays open for a while.
async fn pause() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_micros(50)).await;
}

impl Planted {
    /// A handle on the data.
    pub(super) fn open(bug: Bug, shared: &Arc<Mutex<Shared>>) -> Self {
        Self {
            bug,
            shared: if bug == Bug::HandlesAreApart { Arc::default() } else { shared.clone() },
            cache: Mutex::default(),
            epochs: Mutex::default(),
        }
    }

    fn refuse(&self, kind: ErrorKind, run: RunId) -> Error {
        let error = Error::new(kind, "planted");
        match self.bug {
            Bug::RefusalsAreRetryable => error.with_run(run).with_retryable(),
            Bug::RefusalsNameNoRun => error,
            _ => error.with_run(run),
        }
    }

    /// Lets what no store may take pass, if that is the bug.
    fn checked(&self, result: Result<()>) -> Result<()> {
        if self.is(Bug::NothingIsRefused) { Ok(()) } else { result }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Shared) -> T) -> T {
        work(&mut self.shared.lock().unwrap())
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }
}

#[async_trait]
impl Store for Planted {
    async fn provision(&self) -> Result<()> {
        self.with(|shared| shared.made = true);
        if self.is(Bug::ProvisionWipes) {
            self.with(|shared| shared.records.clear());
        }
        if self.is(Bug::ProvisionRebuilds) {
            let mut records = self.with(|shared| std::mem::take(&mut shared.records));
            pause().await;
            self.with(|shared| shared.records.append(&mut records));
        }
        Ok(())
    }

    async fn exists(&self) -> Result<bool> {
        Ok(match self.bug {
            Bug::HealthMakes => self.with(|shared| shared.made),
            Bug::ExistsMakes => self.with(|shared| std::mem::replace(&mut shared.made, true)),
            Bug::ExistsCountsRuns => self.with(|shared| !shared.records.is_empty()),
            _ => true,
        })
    }

    async fn insert(&self, record: Record) -> Result<()> {
        if !self.is(Bug::ChecksComeLast) {
            self.checked(record.check())?;
        }
        let known = self.with(|shared| shared.records.contains_key(&record.id));
        if known && !self.is(Bug::InsertOverwrites) {
            return Err(self.refuse(ErrorKind::AlreadyExists, record.id));
        }
        self.checked(record.check())?;
        if self.is(Bug::InsertRaces) {
            pause().await;
        }
        let record = self.keep(record);
        self.with(|shared| {
            let races = matches!(self.bug, Bug::InsertRaces | Bug::InsertOverwrites);
            if shared.records.contains_key(&record.id) && !races {
                return Err(self.refuse(ErrorKind::AlreadyExists, record.id));
            }
            shared.first.insert(record.id, record.clone());
            shared.records.insert(record.id, record);
            Ok(())
        })
    }

    async fn get(&self, id: RunId) -> Result<Option<Record>> {
        let record = self.with(|shared| shared.records.get(&id).cloned());
        if self.is(Bug::ReadsAreCached)
            && let Some(record) = &record
        {
            let mut cache = self.cache.lock().unwrap();
            return Ok(Some(cache.entry(id).or_insert_with(|| record.clone()).clone()));
        }
        Ok(record)
    }

    async fn update(&self, id: RunId, expect: Expect, change: Change) -> Result<Revision> {
        if !self.is(Bug::ChecksComeLast) {
            self.checked(change.check(id))?;
        }
        let mut found = self.with(|shared| shared.records.get(&id).cloned());
        if found.is_none() && self.is(Bug::UpdateRevives) {
            found = self.with(|shared| shared.deleted.get(&id).cloned());
        }
        if found.is_none() && self.is(Bug::UpdateMakesRecords) && change.snapshot.is_some() {
            found = Some(Record {
                id,
                revision: Revision(0),
                epoch: Epoch(0),
                flow_id: "".into(),
                queue: None,
                status: RunStatus::Waiting,
                waits: vec![],
                metadata: BTreeMap::new(),
                updated_at: change.updated_at,
                due_at: None,
                attempts: 0,
                lease: None,
                snapshot: Sealed(vec![]),
                inbox: vec![],
            });
        }
        if !self.expected(found.as_ref(), expect) {
            return Err(self.refuse(ErrorKind::Conflict, id));
        }
        self.checked(change.check(id))?;
        let mut record = found.unwrap();
        match self.bug {
            Bug::UpdateComparesOutsideTheLock
            | Bug::UpdateLosesIncrements
            | Bug::InboxRaces
            | Bug::DeleteRaces => {
                pause().await;
                self.apply(change, &mut record);
                let revision = record.revision;
                self.with(|shared| shared.records.insert(id, record));
                return Ok(revision);
            }
            Bug::UpdateWritesInTwoSteps | Bug::DroppedUpdateIsHalf => {
                let mut half = record.clone();
                half.snapshot = change.snapshot.clone().unwrap_or(half.snapshot);
                self.with(|shared| shared.records.insert(id, half));
                pause().await;
            }
            _ => {}
        }
        self.with(|shared| {
            let current = shared.records.get(&id).cloned();
            let revives = matches!(self.bug, Bug::UpdateRevives | Bug::UpdateMakesRecords);
            if !revives && !self.expected(current.as_ref(), expect) {
                return Err(self.refuse(ErrorKind::Conflict, id));
            }
            let mut record = current.unwrap_or(record);
            self.apply(change, &mut record);
            let revision = record.revision;
            shared.records.insert(id, record);
            Ok(revision)
        })
    }

    async fn delete(&self, id: RunId, expect: Expect) -> Result<()> {
        if self.is(Bug::DeleteInTwoSteps) {
            self.with(|shared| shared.records.get_mut(&id).map(|record| record.inbox = Vec::new()));
            pause().await;
        }
        self.with(|shared| {
            let found = shared.records.get(&id);
            let any = found.is_some() && self.is(Bug::DeleteIgnoresRevision);
            let none = found.is_none() && self.is(Bug::DeleteOfNothingSucceeds);
            let expected = found.is_some_and(|record| expect.admits(record.revision));
            if !(any || none || expected) {
                return Err(self.refuse(ErrorKind::Conflict, id));
            }
            if let Some(record) = shared.records.remove(&id) {
                shared.deleted.insert(id, record);
            }
            Ok(())
        })
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Record>> {
        self.checked(claim.check())?;
        let mut due: Vec<_> = self.with(|shared| {
            let records = shared.records.values();
            let due = records.filter(|r| self.admits(&claim, r, &shared.first[&r.id]));
            due.map(|record| (record.due_at, record.id)).collect()
        });
        if !self.is(Bug::ClaimInOrderOfIds) {
            due.sort();
        }
        if !self.is(Bug::ClaimIgnoresLimit) {
            due.truncate(claim.limit);
        }
        if self.is(Bug::ClaimRaces) {
            pause().await;
        }
        Ok(self.with(|shared| {
            let mut given = Vec::new();
            for (_, id) in due {
                let Some(record) = shared.records.get_mut(&id) else { continue };
                let leased = record.lease.as_ref().is_some_and(|lease| lease.until > claim.now);
                let changed = !self.admits(&claim, record, &shared.first[&id]);
                let unwanted = claim.except.contains(&id);
                if (changed && !self.is(Bug::ClaimRaces))
                    || (leased && self.is(Bug::ClaimLimitsBeforeLeases))
                    || (unwanted && self.is(Bug::ClaimLimitsBeforeExceptions))
                {
                    continue;
                }
                given.push(self.take(&claim, record));
            }
            given
        }))
    }

    async fn renew(&self, id: RunId, epoch: Epoch, until: Timestamp) -> Result<()> {
        if self.is(Bug::RenewUndoesUpdates) {
            let before = self.with(|shared| shared.records.get(&id).cloned());
            pause().await;
            if let Some(before) = before {
                self.with(|shared| shared.records.insert(id, before));
            }
        }
        if self.is(Bug::RenewRestoresDeleted) {
            let before = self.with(|shared| shared.records.get(&id).cloned());
            pause().await;
            if let Some(before) = before {
                self.with(|shared| {
                    shared.records.entry(id).or_insert(before);
                });
            }
        }
        self.with(|shared| {
            if self.is(Bug::RenewRevives)
                && let Some(record) = shared.deleted.get(&id)
            {
                shared.records.insert(id, record.clone());
            }
            let Some(record) = shared.records.get_mut(&id) else {
                return Err(self.refuse(ErrorKind::Conflict, id));
            };
            if record.epoch != epoch && !self.is(Bug::RenewIgnoresEpoch) {
                return Err(self.refuse(ErrorKind::Conflict, id));
            }
            if record.lease.is_none() && self.is(Bug::RenewGivesALease) {
                record.lease = Some(Lease { owner: String::new(), until });
            }
            let Some(lease) = &mut record.lease else {
                return Err(self.refuse(ErrorKind::Conflict, id));
            };
            lease.until = until;
            match self.bug {
                Bug::RenewKeepsDueTime => return Ok(()),
                Bug::RenewCountsARevision => record.revision = record.revision.next(),
                Bug::RenewTouchesTime => record.updated_at = until,
                _ => {}
            }
            record.due_at = Some(until);
            Ok(())
        })
    }

    async fn query(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page> {
        match self.bug {
            Bug::NothingIsRefused => {}
            Bug::EmptyPageIsTaken => filter.check(limit.max(1))?,
            _ => filter.check(limit)?,
        }
        let counted = match after {
            Some(Cursor(id)) if self.is(Bug::CursorIsCountedFirst) => {
                let matching = |r: &&Record| r.id >= id && filter.matches(r);
                let count = self.with(|shared| shared.records.values().filter(matching).count());
                pause().await;
                count
            }
            _ => 0,
        };
        let mut found: Vec<_> = self.with(|shared| {
            let records = shared.records.values().rev();
            let all = self.is(Bug::PagesAreShort);
            let found =
                records.filter(|r| all || self.matches(filter, r, &shared.first[&r.id])).cloned();
            found.collect()
        });
        if self.is(Bug::OldestFirst) {
            found.reverse();
        }
        let rest = match after {
            None => 0,
            Some(Cursor(id)) => match self.bug {
                Bug::CursorByTime => {
                    found.iter().filter(|r| r.id.created_at() >= id.created_at()).count()
                }
                Bug::CursorIsCountedFirst => counted,
                Bug::CursorIncludesItself => found.iter().filter(|r| r.id > id).count(),
                Bug::CursorMustExist => {
                    found.iter().position(|r| r.id == id).map_or(found.len(), |n| n + 1)
                }
                Bug::CursorIsAnOffset => {
                    let first =
                        self.with(|shared| shared.first.keys().copied().collect::<Vec<_>>());
                    first.iter().filter(|known| **known >= id).count().min(found.len())
                }
                _ => found.iter().filter(|r| r.id >= id).count(),
            },
        };
        let mut items: Vec<_> = found.iter().skip(rest).take(limit).map(Summary::from).collect();
        let more = found.len() > rest + items.len();
        let last = items.last().map(|last| Cursor(last.id));
        match self.bug {
            Bug::PagesAreShort => {
                let matching = |id: &RunId| {
                    let record = found.iter().find(|record| record.id == *id);
                    record.is_some_and(|record| filter.matches(record))
                };
                items.retain(|summary| matching(&summary.id));
            }
            Bug::SummariesWithoutInbox => items.iter_mut().for_each(|item| item.inbox_len = 0),
            Bug::RunPerWait => {
                let per_wait = |item: Summary| vec![item.clone(); item.waits.len().max(1)];
                items = items.into_iter().flat_map(per_wait).collect();
            }
            _ => {}
        }
        let next = match self.bug {
            Bug::FullPageHasNext => last.filter(|_| items.len() == limit),
            Bug::PagesHaveNoEnd => last,
            _ => last.filter(|_| more),
        };
        Ok(Page { items: items.into_iter().map(Ok).collect(), next })
    }

    fn hints(&self, to: Hint) -> Option<Hints> {
        (self.is(Bug::HintsOfOneKind) && to == Hint::Due).then(|| Hinter::new().subscribe(to))
    }

    async fn health(&self) -> Result<Health> {
        if self.is(Bug::HealthMakes) {
            self.with(|shared| shared.made = true);
        }
        let silent = self.is(Bug::HealthIsSilent);
        let location = if silent { "" } else { "memory" };
        let mut health = Health::new("planted", location, Duration::ZERO);
        health.warnings.push("nothing is kept".into());
        Ok(health)
    }
}
