//! Between records and runs: opens what a store holds and checks that it belongs together, and
//! makes writes whose outcome is certain.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use backon::{ExponentialBuilder, Retryable as _};
use serde::Deserialize;

use super::{
    HubOptions,
    inbox::{Accept, InboxItem},
    plain::{index_of, plain_metadata},
};
use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    codec::{Binding, Codec, Part, Sealed},
    engine::Snapshot,
    id::{KeyDigest, Revision, RunId, WaitId},
    store::{Change, Expect, Hint, Hinter, Hints, Record, Store, WaitIndex},
    wait::{Receipt, Wait},
};

/// What every snapshot says of the form that it is in.
#[derive(Deserialize)]
struct Form {
    format: u32,
}

/// A record and what its sealed parts hold.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) record: Record,
    pub(crate) snapshot: Snapshot,
    pub(crate) inbox: Vec<InboxItem>,
}

impl Opened {
    /// Opens the sealed parts of a record.
    pub(crate) fn unseal(codec: &Codec, record: Record) -> Result<Self> {
        let corrupt =
            |what: &'static str| Error::new(ErrorKind::CorruptState, what).with_run(record.id);
        let newer = || corrupt("a newer dynamic-flow wrote this run; update this program");
        let at = binding(&record, Part::Snapshot);
        let (snapshot, sequence) =
            codec.open::<Snapshot>(&record.snapshot, at).map_err(|error| {
                // A later form need not read as this one does; its number does.
                match codec.open::<Form>(&record.snapshot, at) {
                    Ok((form, _)) if form.format > Snapshot::FORMAT => newer(),
                    _ => error,
                }
            })?;
        if snapshot.format > Snapshot::FORMAT {
            return Err(newer());
        }
        if snapshot.run_id != record.id {
            return Err(corrupt("the sealed state is that of another run"));
        }
        if snapshot.sequence != sequence {
            return Err(corrupt("the sealed state is out of its order"));
        }
        let inbox = record
            .inbox
            .iter()
            .map(|item| {
                let bound = binding(&record, Part::Inbox);
                let (item, accepted_on) = codec.open::<InboxItem>(item, bound)?;
                Ok(item.found(accepted_on, sequence))
            })
            .collect::<Result<_>>()?;
        Ok(Self { record, snapshot, inbox })
    }

    /// Seals an item for the inbox, as accepted on the state that the run has.
    pub(crate) fn seal_item(&self, codec: &Codec, item: &InboxItem) -> Result<Sealed> {
        codec.seal_state(item, self.snapshot.sequence, binding(&self.record, Part::Inbox))
    }

    /// The inbox as it goes on counting for a state that was changed outside of the engine.
    pub(crate) fn carried_inbox(&self, codec: &Codec) -> Result<Vec<Sealed>> {
        let items = self.record.inbox.iter().zip(&self.inbox);
        items
            .filter(|(_, item)| item.what != Accept::Spent)
            .map(|(sealed, item)| match item.what.is_of_a_state() {
                true => self.seal_item(codec, item),
                false => Ok(sealed.clone()),
            })
            .collect()
    }

    /// Holds the plain columns against the sealed truth: who can write to the database must not be
    /// able to swap in a digest of their own.
    pub(crate) fn verify(&self) -> Result<()> {
        let corrupt = |what: &'static str| {
            Err(Error::new(ErrorKind::CorruptState, what).with_run(self.record.id))
        };
        if self.record.flow_id != self.snapshot.flow.id {
            return corrupt("the record names another flow than its sealed state");
        }
        // A run that goes on again is written so before its state is.
        let status = self.record.status;
        if status.is_final() && status != self.snapshot.status {
            return corrupt("the record's status differs from its sealed state");
        }
        if self.record.metadata != plain_metadata(&self.snapshot) {
            return corrupt("the record's metadata differ from its sealed state");
        }
        let sealed: Vec<WaitIndex> = self.snapshot.waits.iter().map(|w| self.index(w)).collect();
        if self.record.waits != sealed {
            return corrupt("the record's waits and keys differ from its sealed state");
        }
        Ok(())
    }

    /// The plain columns of a wait, with the keys that were added to it.
    pub(crate) fn index(&self, wait: &Wait) -> WaitIndex {
        let mut index = index_of(wait);
        index.keys.extend(self.added_keys(&wait.id));
        index
    }

    /// The keys that were added to a wait since the snapshot was written.
    pub(crate) fn added_keys(&self, wait: &WaitId) -> impl Iterator<Item = KeyDigest> {
        self.inbox.iter().filter_map(move |item| match &item.what {
            Accept::Key { wait_id, digest } if wait_id == wait => Some(*digest),
            _ => None,
        })
    }

    /// A wait with all keys that answer it.
    pub(crate) fn with_added_keys(&self, mut wait: Wait) -> Wait {
        let added: Vec<KeyDigest> = self.added_keys(&wait.id).collect();
        wait.keys.extend(added);
        wait
    }

    /// Closes the waits that no branch stands in any more; gives their receipts, which all who hold a key
    /// to them are told.
    pub(crate) fn close_orphans(&mut self, now: Timestamp) -> Vec<Receipt> {
        let mut closed = self.snapshot.close_orphans(now);
        for receipt in &mut closed {
            for digest in self.added_keys(&receipt.wait_id).collect::<Vec<_>>() {
                self.snapshot.add_key(&receipt.wait_id, digest);
                receipt.keys.push(digest);
            }
        }
        closed
    }

    /// The open wait that a key of that digest answers, as the sealed state has it.
    pub(crate) fn wait_by_key(&self, digest: &KeyDigest) -> Option<&Wait> {
        self.snapshot.waits.iter().find(|wait| {
            let keys = wait.keys.iter().copied().chain(self.added_keys(&wait.id));
            // All are compared, whether or not one has matched.
            keys.fold(false, |found, key| key.matches(digest) | found)
        })
    }
}

/// What binds the sealed parts of a record to it.
pub(crate) fn binding(record: &Record, part: Part) -> Binding<'_> {
    Binding { run: record.id, flow: &record.flow_id, part }
}

/// A store whose passing faults are met with further tries, and whose writes have a certain
/// outcome: where a call failed and may have written all the same, the record tells.
#[derive(Debug, Clone)]
pub(crate) struct Vault {
    store: std::sync::Arc<dyn Store>,
    /// Tells of what this hub wrote, for a store that tells of nothing.
    hinter: Hinter,
    retries: ExponentialBuilder,
    patience: Duration,
}

/// How long the tries of a read may wait for answers: less than one that hangs takes by default.
const PATIENCE: Duration = Duration::from_secs(4);

impl Vault {
    pub(crate) fn new(store: std::sync::Arc<dyn Store>, options: &HubOptions) -> Self {
        let retries = ExponentialBuilder::default()
            .with_min_delay(options.retry_delay)
            .with_max_times(options.max_retries as usize)
            .with_jitter();
        Self { store, hinter: Hinter::new(), retries, patience: PATIENCE }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Hints of what anybody wrote; of a store that gives none, of what this hub wrote.
    pub(crate) fn hints(&self, to: Hint) -> Hints {
        self.store.hints(to).unwrap_or_else(|| self.hinter.subscribe(to))
    }

    /// Makes a call that changes nothing, or the same however often it is made.
    pub(crate) async fn retrying<T, F>(&self, call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        call.retry(self.retries).when(Error::is_retryable).await
    }

    /// Makes a call that only reads. Once its tries have waited in vain for [`PATIENCE`] there are no
    /// more: somebody waits for it, and nothing is left undone.
    pub(crate) async fn reading<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut waited = Duration::ZERO;
        let timed = || {
            let (call, began) = (call(), Instant::now());
            async move { call.await.map_err(|error| (error, began.elapsed())) }
        };
        let is_worth_it = |(error, took): &(Error, Duration)| {
            waited += *took;
            error.is_retryable() && waited < self.patience
        };
        timed.retry(self.retries).when(is_worth_it).await.map_err(|(error, _)| error)
    }

    pub(crate) async fn get(&self, id: RunId) -> Result<Option<Record>> {
        self.reading(|| self.store.get(id)).await
    }

    /// The record of a run that must be there.
    pub(crate) async fn require(&self, id: RunId) -> Result<Record> {
        let found = self.get(id).await?;
        found.ok_or_else(|| {
            Error::new(
                ErrorKind::RunNotFound,
                "there is no such run in this store; it may have been removed after its retention",
            )
            .with_run(id)
        })
    }

    /// Inserts a record under an id that was made for it.
    pub(crate) async fn insert(&self, record: &Record) -> Result<()> {
        match self.insert_unless_there(record).await {
            // Nobody else makes an id of that randomness. Whatever has become of the record since, it
            // was written; who goes on with it meets that as a conflict.
            Err(error) if error.is_perhaps_written() => Ok(()),
            other => other,
        }
    }

    /// Inserts a record under an id that others may insert one under, too.
    ///
    /// # Errors
    /// `AlreadyExists`, which knows whether an earlier try of this call may have written the record.
    pub(crate) async fn insert_unless_there(&self, record: &Record) -> Result<()> {
        let may_have_written = AtomicBool::new(false);
        let inserted = self
            .retrying(|| async {
                match self.store.insert(record.clone()).await {
                    Err(error)
                        if error.kind() == ErrorKind::AlreadyExists
                            && may_have_written.load(Ordering::Relaxed) =>
                    {
                        Err(error.perhaps_written())
                    }
                    Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                        may_have_written.store(true, Ordering::Relaxed);
                        Err(error)
                    }
                    other => other,
                }
            })
            .await;
        self.told(record.hints(), inserted)
    }

    pub(crate) async fn update(
        &self,
        id: RunId,
        expected: Revision,
        change: Change,
    ) -> Result<Revision> {
        let hints = change.hints();
        // Only where an earlier try of this call may have written can a conflict be with itself:
        // what another task of this hub wrote in the same millisecond may look the same.
        let may_have_written = AtomicBool::new(false);
        let updated = self
            .retrying(|| async {
                match self.store.update(id, Expect::Revision(expected), change.clone()).await {
                    Err(error)
                        if error.is_conflict() && may_have_written.load(Ordering::Relaxed) =>
                    {
                        match self.store.get(id).await? {
                            // Not the revision that is there: what was accepted behind the write has
                            // to be met as a conflict by the next one, and merged.
                            Some(there) if is_result_of(&there, expected, &change) => {
                                Ok(expected.next())
                            }
                            _ => Err(error.perhaps_written()),
                        }
                    }
                    Err(error) if !error.is_conflict() => {
                        may_have_written.store(true, Ordering::Relaxed);
                        Err(error)
                    }
                    other => other,
                }
            })
            .await;
        self.told(hints, updated)
    }

    /// Gives the hints of a write, if it was made.
    fn told<T>(&self, hints: impl Iterator<Item = Hint>, written: Result<T>) -> Result<T> {
        if written.is_ok() {
            hints.for_each(|hint| self.hinter.give(hint));
        }
        written
    }
}

/// Whether a record is what this very change made of it, in an earlier try that seemed to fail.
///
/// Sealing takes a new nonce each time, so nobody else's write has the same sealed bytes.
fn is_result_of(record: &Record, expected: Revision, change: &Change) -> bool {
    match (&change.snapshot, change.inbox_push.last()) {
        (Some(snapshot), _) => record.snapshot == *snapshot,
        (None, Some(item)) => record.inbox.contains(item),
        // A change of plain columns alone: the same values at the next revision are as good.
        (None, None) => {
            record.revision == expected.next()
                && change.epoch.is_none_or(|epoch| epoch == record.epoch)
                && change.lease.as_ref().is_none_or(|lease| *lease == record.lease)
                && change.updated_at == record.updated_at
        }
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests {
    use std::{cell::Cell, sync::Arc};

    use super::*;
    use crate::{
        ErrorKind,
        clock::Timestamp,
        hub::plain::first_record,
        store::{Lease, MemoryStore},
        testkit::faults::{Faults, Moment, Operation},
    };

    const NOW: Timestamp = Timestamp::from_millis(1_795_420_800_000);

    /// A vault with a record in it, and the faults that can be asked for.
    async fn vault() -> (Vault, Faults, Record) {
        let faults = Faults::new(MemoryStore::new());
        let options = HubOptions { retry_delay: Duration::ZERO, ..HubOptions::default() };
        let vault = Vault::new(Arc::new(faults.clone()), &options);
        let id = RunId::from_bytes([9; 16]);
        let change = Change { snapshot: Some(Sealed(vec![1])), ..Change::at(NOW) };
        let record = first_record(id, "flow".into(), change);
        vault.insert(&record).await.unwrap();
        (vault, faults, record)
    }

    fn take() -> Change {
        let lease = Lease { owner: "this hub".into(), until: NOW.after(Duration::from_secs(30)) };
        Change { lease: Some(Some(lease)), ..Change::at(NOW) }
    }

    fn accept() -> Change {
        Change { inbox_push: vec![Sealed(vec![2])], ..Change::at(NOW) }
    }

    /// Four times the timeout of a store would keep whoever asks waiting for a minute.
    #[tokio::test]
    async fn a_read_that_has_waited_in_vain_is_not_made_again() {
        let (mut vault, ..) = vault().await;
        for (patience, made) in [(PATIENCE, 4), (Duration::ZERO, 1)] {
            vault.patience = patience;
            let calls = Cell::new(0);
            let failing = vault.reading(|| async {
                calls.set(calls.get() + 1);
                Err::<(), _>(Error::new(ErrorKind::StorageError, "no answer").with_retryable())
            });
            assert!(failing.await.is_err());
            assert_eq!(calls.get(), made, "with a patience of {patience:?}");
        }
    }

    #[tokio::test]
    async fn of_two_tasks_that_write_the_same_at_once_one_has_written_it() {
        for change in [take(), accept()] {
            let (vault, _, record) = vault().await;
            vault.update(record.id, record.revision, change.clone()).await.unwrap();
            let second = vault.update(record.id, record.revision, change).await.unwrap_err();
            assert_eq!(second.kind(), ErrorKind::Conflict);
        }
    }

    #[tokio::test]
    async fn a_write_that_seemed_to_fail_is_found_to_be_done() {
        for change in [take(), accept()] {
            let (vault, faults, record) = vault().await;
            faults.fail_next(Operation::Update, Moment::After);
            let revision = vault.update(record.id, record.revision, change).await.unwrap();
            assert_eq!(revision, record.revision.next());
            assert_eq!(faults.calls(Operation::Update), 2, "the second try finds the first");
        }
    }
}
