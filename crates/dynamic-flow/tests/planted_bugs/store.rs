//! The store into which bugs are planted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use dynamic_flow::{
    Clock as _, Epoch, Error, ErrorKind, Result, Revision, RunId, SystemClock, Timestamp,
    codec::Sealed,
    engine::RunStatus,
    store::{
        Change, Claim, Cursor, Expect, Filter, Health, Hint, Hinter, Hints, Lease, Page, Queue,
        Record, Store, Summary,
    },
    wait::Scalar,
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
            Bug::RefusalsAreRetryable => error.with_run(run).retryable(),
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

    /// The record as this store keeps it.
    fn keep(&self, mut record: Record) -> Record {
        match self.bug {
            Bug::EmptyQueueIsNone => {
                record.queue = record.queue.filter(|queue| !queue.0.is_empty());
            }
            Bug::TextIsTrimmed => record.flow_id = record.flow_id.as_str().trim().into(),
            Bug::TextIsLowered => record.flow_id = record.flow_id.as_str().to_lowercase().into(),
            Bug::BytesEndAtZero => {
                let end = record.snapshot.0.iter().position(|byte| *byte == 0);
                record.snapshot.0.truncate(end.unwrap_or(usize::MAX));
            }
            Bug::BytesAreText => {
                let text = String::from_utf8_lossy(&record.snapshot.0).into_owned();
                record.snapshot = Sealed(text.into_bytes());
            }
            // As a format has it in which all bits set say that a longer length follows.
            Bug::LengthIsASign if record.snapshot.0.len() == 65_535 => record.snapshot.0.clear(),
            Bug::SnapshotIsCut => record.snapshot.0.truncate(1 << 20),
            Bug::NumbersAreFloats => {
                for value in record.metadata.values_mut() {
                    if let Scalar::Int(number) = value {
                        *number = *number as f64 as i64;
                    }
                }
            }
            _ => {}
        }
        record
    }

    fn apply(&self, mut change: Change, record: &mut Record) {
        let before = record.clone();
        if self.is(Bug::ClearingIsIgnored) {
            change.due_at = change.due_at.filter(Option::is_some);
        }
        if self.is(Bug::AbsentMeansCleared) {
            change.lease = Some(change.lease.flatten());
        }
        match self.bug {
            Bug::InboxGrowsAtTheFront if change.inbox.is_none() => {
                let kept = record.inbox.drain(..).skip(change.inbox_drop);
                change.inbox = Some(change.inbox_push.drain(..).chain(kept).collect());
            }
            Bug::InboxDropsTheNewest if change.inbox.is_none() => {
                let kept = record.inbox.len().saturating_sub(change.inbox_drop);
                record.inbox.truncate(kept);
                change.inbox_drop = 0;
            }
            Bug::InboxDropsAfterPush if change.inbox.is_none() => {
                record.inbox.append(&mut change.inbox_push);
            }
            Bug::InboxIsASet => change.inbox_push.dedup(),
            Bug::OperatorsAreDropped => {
                if let Some(metadata) = &mut change.metadata {
                    metadata.retain(|name, _| !name.starts_with('$'));
                }
            }
            Bug::InboxReplacedAndPushed => {
                if let Some(inbox) = &mut change.inbox {
                    inbox.append(&mut change.inbox_push);
                }
            }
            _ => {}
        }
        change.apply(record);
        match self.bug {
            Bug::UpdateKeepsRevision => record.revision = before.revision,
            Bug::RevisionIsFloat => {
                record.revision = Revision((before.revision.0 as f64 + 1.0) as u64);
            }
            Bug::EpochGoesBack => record.epoch = before.epoch,
            _ => {}
        }
        *record = self.keep(record.clone());
    }

    fn expected(&self, found: Option<&Record>, expect: Expect) -> bool {
        let Some(record) = found else { return false };
        match (self.bug, expect) {
            (Bug::UpdateIgnoresRevision, _) => true,
            (Bug::UpdateTakesLaterRevisions, Expect::Revision(revision)) => {
                record.revision <= revision
            }
            _ => expect.admits(record.revision),
        }
    }

    fn admits(&self, claim: &Claim, record: &Record, first: &Record) -> bool {
        let due_at = match self.bug {
            Bug::ClaimByFirstDueTime => first.due_at,
            Bug::ClaimByStaleIndex => record.due_at.or(first.due_at),
            _ => record.due_at,
        };
        let due = due_at.is_some_and(|at| match self.bug {
            Bug::ClaimIgnoresDueTime => true,
            Bug::ClaimAfterDueOnly => at < claim.now,
            Bug::ClaimWaitsForItsClock => at <= claim.now.min(SystemClock.now()),
            _ => at <= claim.now,
        });
        let queued = match &record.queue {
            None => self.is(Bug::ClaimTakesUnqueued),
            Some(_) if self.is(Bug::ClaimIgnoresQueues) => true,
            Some(queue) if self.is(Bug::ClaimIgnoresCase) => {
                let lower = |queue: &Queue| queue.0.to_lowercase();
                claim.queues.iter().any(|other| lower(other) == lower(queue))
            }
            Some(queue) => claim.queues.contains(queue),
        };
        let free = record.lease.as_ref().is_none_or(|lease| match self.bug {
            Bug::ClaimIgnoresLeases | Bug::ClaimLimitsBeforeLeases => true,
            Bug::ClaimAfterLapseOnly => lease.until < claim.now,
            _ => lease.until <= claim.now,
        });
        due && queued && free
    }

    fn take(&self, claim: &Claim, record: &mut Record) -> Record {
        let before = record.clone();
        claim.apply(record);
        match self.bug {
            Bug::EpochIsRemembered => {
                let mut epochs = self.epochs.lock().unwrap();
                let mine = epochs.entry(record.id).and_modify(|epoch| *epoch = epoch.next());
                record.epoch = *mine.or_insert(record.epoch);
            }
            Bug::ClaimKeepsEpoch => record.epoch = before.epoch,
            Bug::ClaimKeepsRevision => record.revision = before.revision,
            Bug::ClaimKeepsAttempts => record.attempts = before.attempts,
            Bug::ClaimKeepsDueTime => record.due_at = before.due_at,
            Bug::ClaimRunsWhatEnded => record.status = RunStatus::Running,
            _ => {}
        }
        match self.bug {
            Bug::ClaimGivesWhatWas => before,
            Bug::ClaimLeavesOutTheInbox => Record { inbox: vec![], ..record.clone() },
            _ => record.clone(),
        }
    }

    fn matches(&self, filter: &Filter, record: &Record, first: &Record) -> bool {
        let mut filter = filter.clone();
        let mut record = record.clone();
        let later = |at: Timestamp| at.after(Duration::from_millis(1));
        match self.bug {
            Bug::BoundsYieldToOthers
                if !filter.status.is_empty() && !filter.metadata.is_empty() =>
            {
                (filter.created_after, filter.created_before) = (None, None);
            }
            // It is the index in which it differs from zero, so the one who asks does not see it.
            Bug::NegativeZeroIsStored => {
                let is_negative = |value: &Scalar| matches!(value, Scalar::Float(float) if float.to_bits() == 1 << 63);
                record.metadata.retain(|_, value| !is_negative(value));
            }
            // An index entry has a limit, which texts that compress well do not come to.
            Bug::LongTextsHaveNoIndex => {
                let kinds = |text: &str| text.chars().collect::<BTreeSet<_>>().len();
                let is_long = |value: &Scalar| match value {
                    Scalar::Text(text) => text.len() > 2_704 && kinds(text) > 9,
                    _ => false,
                };
                record.metadata.retain(|_, value| !is_long(value));
            }
            Bug::StatusIsIgnored => filter.status.clear(),
            Bug::QueryByFirstState => record = first.clone(),
            Bug::CreatedAfterIsStrict => filter.created_after = filter.created_after.map(later),
            Bug::CreatedBeforeIsLoose => filter.created_before = filter.created_before.map(later),
            Bug::ExpiresAfterIsStrict => filter.expires_after = filter.expires_after.map(later),
            Bug::ExpiresBeforeIsLoose => filter.expires_before = filter.expires_before.map(later),
            Bug::CriteriaMeanOr if filter.flow_id.is_some() && filter.tool_id.is_some() => {
                let by_flow = Filter { tool_id: None, ..filter.clone() };
                return by_flow.matches(&record)
                    || Filter { flow_id: None, ..filter }.matches(&record);
            }
            Bug::WaitsAreTakenTogether if filter.concerns_waits() => {
                let by_tool =
                    Filter { expires_after: None, expires_before: None, ..filter.clone() };
                return by_tool.matches(&record)
                    && Filter { tool_id: None, ..filter }.matches(&record);
            }
            Bug::MetadataAsText | Bug::MetadataAsNumbers => {
                let loose = |value: &mut Scalar| {
                    *value = match &*value {
                        Scalar::Int(number) if self.is(Bug::MetadataAsNumbers) => {
                            Scalar::Float(*number as f64)
                        }
                        other if self.is(Bug::MetadataAsText) => Scalar::Text(other.to_string()),
                        other => other.clone(),
                    };
                };
                record.metadata.values_mut().for_each(loose);
                filter.metadata.values_mut().for_each(loose);
            }
            Bug::NamesIgnoreCase => {
                let lower = |id: &str| id.to_lowercase();
                filter.flow_id = filter.flow_id.map(|id| lower(id.as_str()).into());
                record.flow_id = lower(record.flow_id.as_str()).into();
            }
            _ => {}
        }
        filter.matches(&record)
    }
}

#[async_trait]
impl Store for Planted {
    async fn provision(&self) -> Result<()> {
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
                if (changed && !self.is(Bug::ClaimRaces))
                    || (leased && self.is(Bug::ClaimLimitsBeforeLeases))
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
        let silent = self.is(Bug::HealthIsSilent);
        Ok(Health {
            backend: "planted".into(),
            location: if silent { String::new() } else { "memory".into() },
            latency: Duration::ZERO,
            durable: false,
            warnings: vec!["nothing is kept".into()],
        })
    }
}
