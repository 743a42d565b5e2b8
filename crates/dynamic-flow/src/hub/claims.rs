//! Leases of runs that are due: how they are claimed, and given back.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Inner, query::PAGE};
use crate::{
    Result,
    clock::Timestamp,
    engine::RunStatus,
    id::{Epoch, Revision, RunId},
    store::{Change, Claim, Expect, Filter, Lease, Queue, Record},
};

impl Inner {
    /// A name for one who is to hold a lease, as no other task of this hub has it: of two that take a
    /// run in the same millisecond, each can tell the other's write from its own.
    pub(super) fn holder(&self) -> String {
        format!("{}/{}", self.owner, self.leases.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes runs that are due. What a try was given before it seemed to fail is given back first, so
    /// that it need not wait for the end of a lease that nobody knows of.
    pub(super) async fn claim(&self, queues: Vec<Queue>, limit: usize) -> Result<Vec<Record>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        let claim = Claim {
            now,
            queues,
            owner: self.holder(),
            lease: self.options.lease,
            limit,
            except: self.skips.left_alone(now),
        };
        let may_have_claimed = AtomicBool::new(false);
        self.vault
            .retrying(|| async {
                if may_have_claimed.swap(true, Ordering::Relaxed) {
                    self.give_back(&claim).await?;
                }
                self.vault.store().claim(claim.clone()).await
            })
            .await
    }

    /// Gives back the runs that a claim was given, in whose place this hub knows of an error.
    async fn give_back(&self, claim: &Claim) -> Result<()> {
        let store = self.vault.store();
        let lease = Lease { owner: claim.owner.clone(), until: claim.until() };
        let running = Filter { status: [RunStatus::Running].into(), ..Filter::default() };
        let mut after = None;
        loop {
            let page = store.query(&running, after, PAGE).await?;
            let leased = page.readable().filter(|run| run.lease.as_ref() == Some(&lease));
            for lost in leased {
                let Some(record) = store.get(lost.id).await? else { continue };
                let change = Taken::claimed(&record).let_go(claim.now, claim.now);
                match store.update(record.id, Expect::Revision(lost.revision), change).await {
                    Err(error) if !error.is_conflict() => return Err(error),
                    _ => {}
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Gives a run back as it was taken, to be offered to others at once, and here after a pause.
    pub(super) async fn release(&self, taken: &Taken) {
        let now = self.clock.now();
        let change = taken.let_go(self.skips.skip(taken.id, now), now);
        // Should this fail, the lease lapses by itself.
        if let Err(error) = self.vault.update(taken.id, taken.revision, change).await {
            tracing::debug!(run = %taken.id, %error, "a lease is left to lapse");
        }
    }
}

/// A run whose lease was taken, as it is let go where nothing comes of that.
pub(super) struct Taken {
    pub(super) id: RunId,
    pub(super) revision: Revision,
    pub(super) epoch: Epoch,
    status: RunStatus,
    attempts: Option<u32>,
}

impl Taken {
    /// A record that a worker was given: that it was does not count where nothing comes of it.
    pub(super) fn claimed(record: &Record) -> Self {
        Self { attempts: Some(record.attempts.saturating_sub(1)), ..Self::of(record) }
    }

    /// A record whose lease was just taken.
    pub(super) fn of(record: &Record) -> Self {
        let status = match record.status {
            status if status.is_final() => status,
            // One without a wait was let go in the middle of its work, or its time has come.
            _ if record.inbox.is_empty() && !record.waits.is_empty() => RunStatus::Waiting,
            _ => RunStatus::Ready,
        };
        let Record { id, revision, epoch, .. } = *record;
        Self { id, revision, epoch, status, attempts: None }
    }

    /// The write that lets it go.
    pub(super) fn let_go(&self, due_at: Timestamp, now: Timestamp) -> Change {
        Change {
            status: Some(self.status),
            lease: Some(None),
            due_at: Some(Some(due_at)),
            attempts: self.attempts,
            ..Change::at(now)
        }
    }
}
