//! The write that accepts something for a run, and takes its lease where nobody has it.

use std::sync::Arc;

use super::{
    Inner, Outcome,
    drive::{self, Driven},
    flows::Known,
    inbox::{Accept, InboxItem},
    lease::lock,
    vault::Opened,
};
use crate::{
    Result,
    engine::RunStatus,
    id::RunId,
    store::{Change, Lease, Record},
};

/// What became of something that was to be accepted.
pub(super) enum Submitted {
    /// It is durable, and this hub has the lease: the run is to be driven.
    Leased(Box<Opened>, Arc<Known>),
    /// It is durable, and somebody else drives the run, or will.
    Left,
}

impl Inner {
    /// Reads a run that must be there, opened and checked.
    pub(super) async fn open_verified(&self, run: RunId) -> Result<Opened> {
        let opened = Opened::unseal(&self.codec, self.vault.require(run).await?)?;
        opened.verify()?;
        Ok(opened)
    }

    /// Takes the lease of a run as it was read, if nobody has it.
    ///
    /// # Errors
    /// `Conflict` if the record has changed since.
    pub(super) async fn take(&self, opened: Opened) -> Result<Option<Opened>> {
        if opened.record.is_held(self.clock.now()) || self.is_stopping() {
            return Ok(None);
        }
        let change = self.lease_change(&opened.record);
        self.write(opened, change, None).await.map(Some)
    }

    /// The change by which this hub takes the lease of a record.
    pub(super) fn lease_change(&self, record: &Record) -> Change {
        let now = self.clock.now();
        let until = now.after(self.options.lease);
        Change {
            epoch: Some(record.epoch.next()),
            // Whoever held it before is gone and left it as it was.
            attempts: record.lease.as_ref().map(|_| record.attempts.saturating_add(1)),
            status: Some(RunStatus::Running),
            due_at: Some(Some(until)),
            lease: Some(Some(Lease { owner: self.holder(), until })),
            ..Change::at(now)
        }
    }

    /// Changes plain columns of a run as it was read, and appends an item to its inbox.
    ///
    /// # Errors
    /// `Conflict` if the record has changed since.
    pub(super) async fn write(
        &self,
        mut opened: Opened,
        mut change: Change,
        item: Option<InboxItem>,
    ) -> Result<Opened> {
        if let Some(item) = &item {
            change.inbox_push = vec![opened.seal_item(&self.codec, item)?];
        }
        let Record { id, revision, .. } = opened.record;
        self.vault.update(id, revision, change.clone()).await?;
        change.apply(&mut opened.record);
        opened.inbox.extend(item);
        Ok(opened)
    }

    /// Appends an item to the inbox, and in the same write takes the lease if `flow` is given and
    /// nobody has it.
    ///
    /// # Errors
    /// `Conflict` if the record has changed since it was read.
    pub(super) async fn submit(
        self: &Arc<Self>,
        opened: Opened,
        item: InboxItem,
        flow: Option<Arc<Known>>,
    ) -> Result<(RunStatus, Submitted)> {
        let record = &opened.record;
        let now = self.clock.now();
        // A lease on a run that has ended is that of a worker about to remove it: it is too late.
        let live = !record.status.is_final() && record.is_held(now);
        let mut change = match (&flow, live) {
            (Some(_), false) if !self.is_stopping() => self.lease_change(record),
            (_, true) => Change::at(now),
            (_, false) => Change {
                status: Some(RunStatus::Ready),
                due_at: Some(Some(now)),
                queue: Some(Some(self.queue_of(&opened.snapshot))),
                ..Change::at(now)
            },
        };
        if matches!(item.what, Accept::Retry) {
            change.queue = Some(Some(self.queue_of(&opened.snapshot)));
        }
        let leased = change.lease.is_some();
        let opened = self.write(opened, change, Some(item)).await?;
        if live && let Some(active) = lock(&self.active).get(&opened.record.id) {
            active.signal();
        }
        let status = opened.record.status;
        match flow {
            Some(flow) if leased => Ok((status, Submitted::Leased(Box::new(opened), flow))),
            _ => Ok((status, Submitted::Left)),
        }
    }

    /// Drives what was submitted, or waits for whoever does.
    pub(super) async fn finish(
        self: &Arc<Self>,
        run: RunId,
        submitted: Submitted,
    ) -> Result<Outcome> {
        match submitted {
            Submitted::Leased(opened, flow) => {
                drive::go_on(self.clone(), flow, *opened).await?.outcome()
            }
            Submitted::Left => self.await_outcome(run).await,
        }
    }

    /// Takes the lease of a run as it was read, and drives it; none where somebody else has it.
    pub(super) async fn take_and_drive(
        self: &Arc<Self>,
        opened: Opened,
        flow: Arc<Known>,
    ) -> Result<Option<Driven>> {
        match self.take(opened).await {
            Ok(Some(opened)) => drive::go_on(self.clone(), flow, opened).await.map(Some),
            Ok(None) => Ok(None),
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests {
    use crate::{
        Schema, Timestamp,
        hub::{PersistenceHub, SuspensionRequest},
        store::MemoryStore,
        testkit::ManualClock,
    };

    /// Of two tasks that take a run in the same millisecond, one whose write seemed to fail would
    /// take the other's for its own, and both would call the same tools.
    #[tokio::test]
    async fn no_take_looks_like_another() {
        let clock = ManualClock::new(Timestamp::from_millis(1_795_420_800_000));
        let hub = PersistenceHub::builder(std::sync::Arc::new(MemoryStore::new()));
        let hub = hub.plaintext().clock(clock).build().await.unwrap();
        let parked = hub.suspend(&1, SuspensionRequest::new("ask", Schema::any())).await.unwrap();
        let hub = hub.inner();
        let record = hub.vault.require(parked.run_id).await.unwrap();
        assert_ne!(hub.lease_change(&record), hub.lease_change(&record));
    }
}
