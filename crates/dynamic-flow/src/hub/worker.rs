//! Workers: fire timers, take over crashed runs, remove what is kept no longer.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    task::JoinSet,
};

use super::{
    HubEvent, Inner, PersistenceHub,
    claims::Taken,
    drive,
    query::{PAGE, overdue_at},
    state::{Expiry, STATE_FLOW},
    vault::Opened,
};
use crate::{
    ErrorKind, Result,
    clock::Timestamp,
    codes,
    engine::RunStatus,
    seconds,
    store::{Expect, Filter, Hint, Queue, Record, Summary},
};

/// What a round of work did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Worked {
    /// How many runs were driven, or ended: because one worker after the other died over them, or as
    /// states of the lower half whose deadline has passed.
    pub driven: usize,
    /// How many could not be gone on with, and stay as they were.
    pub skipped: usize,
    /// How many ended runs were removed after their retention.
    pub purged: usize,
}

impl Worked {
    fn add(&mut self, other: Self) {
        self.driven += other.driven;
        self.skipped += other.skipped;
        self.purged += other.purged;
    }

    fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// What became of a batch of ended runs.
struct Purged {
    /// How many were removed.
    runs: usize,
    /// Whether there may be more.
    more: bool,
}

/// How often a worker lets states expire that nobody may ever ask for again.
const STATES_EXPIRE_EVERY: Duration = seconds(60);
/// How often a worker that can do nothing says so.
const OUTAGE_TOLD_EVERY: Duration = seconds(60);

impl PersistenceHub {
    /// Works until [`PersistenceHub::shutdown`]: fires timers, takes over crashed runs, drives what
    /// was only accepted, lets suspended states expire, and removes ended runs after their retention.
    ///
    /// Any number of workers may share a store. Runs of flows that this hub does not know are left
    /// alone. Faults of the store are logged and outlasted.
    ///
    /// Where this is dropped, as by `select!`, no more runs are asked for; those that are claimed or
    /// driven go on, and `shutdown` waits for them:
    ///
    /// ```no_run
    /// # use dynamic_flow::{hub::PersistenceHub, seconds};
    /// # async fn serve(hub: PersistenceHub) -> dynamic_flow::Result<()> {
    /// tokio::select! {
    ///     ended = hub.work() => ended?,
    ///     _ = tokio::signal::ctrl_c() => {}
    /// }
    /// hub.shutdown(seconds(10)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// None at the moment; faults of a store that will not pass may be reported here.
    pub async fn work(&self) -> Result<()> {
        let hub = self.inner().clone();
        // On a task of its own: what the store is asked for must not be dropped with the caller.
        let (_caller, gone) = oneshot::channel();
        self.inner()
            .carry_out(async move {
                hub.work(gone).await;
                Ok(())
            })
            .await
    }

    /// Does what is due now, until nothing is; for schedulers, and for tests.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn work_once(&self) -> Result<Worked> {
        let hub = self.inner().clone();
        self.inner()
            .carry_out(async move {
                let mut all = Worked { driven: hub.expire_states().await?, ..Worked::default() };
                loop {
                    let worked = hub.round().await?;
                    if worked.is_nothing() {
                        return Ok(all);
                    }
                    all.add(worked);
                }
            })
            .await
    }
}

impl Inner {
    /// Works until this hub stops, or the other end of `gone` is dropped.
    async fn work(self: &Arc<Self>, mut gone: oneshot::Receiver<()>) {
        let (mut purge_at, mut expire_at) = (self.clock.now(), self.clock.now());
        let mut outage: Option<Timestamp> = None;
        let mut driving = JoinSet::new();
        let mut hints = self.vault.hints(Hint::Due);
        loop {
            if self.is_stopping() || gone.try_recv() == Err(TryRecvError::Closed) {
                break;
            }
            while driving.try_join_next().is_some() {}
            let now = self.clock.now();
            let free = self.options.concurrency.saturating_sub(driving.len());
            match self.claim(self.queues(), free).await {
                Ok(records) => {
                    if outage.take().is_some() {
                        tracing::warn!("the store can be asked for due runs again");
                    }
                    for record in records {
                        driving.spawn(self.clone().drive_claimed(record));
                    }
                }
                Err(error) if outage.is_none_or(|told| now >= told.after(OUTAGE_TOLD_EVERY)) => {
                    outage = Some(now);
                    tracing::error!(%error, "the store can't be asked for due runs: nothing goes on");
                }
                Err(error) => {
                    tracing::debug!(%error, "the store can't be asked for due runs still");
                }
            }
            if now >= expire_at {
                expire_at = now.after(STATES_EXPIRE_EVERY);
                if let Err(error) = self.expire_states().await {
                    tracing::warn!(%error, "the store could not be asked for states that expire");
                }
            }
            let mut more_to_purge = false;
            if now >= purge_at {
                match self.purge().await {
                    Ok(Purged { more: true, .. }) => more_to_purge = true,
                    Ok(_) => purge_at = now.after(self.options.cleanup_interval),
                    Err(error) => {
                        purge_at = now.after(self.options.cleanup_interval);
                        tracing::warn!(%error, "ended runs could not be removed");
                    }
                }
            }
            if more_to_purge {
                // Runs that are due come before the next batch.
                continue;
            }
            let next = self.clock.now().after(self.options.poll_interval);
            let full = driving.len() >= self.options.concurrency;
            tokio::select! {
                Some(_) = driving.join_next() => {}
                () = self.clock.sleep_until(next), if !full => {}
                () = hints.next(), if !full => {}
                () = self.stopped() => {}
                _ = &mut gone => break,
            }
        }
        while driving.join_next().await.is_some() {}
    }

    async fn round(self: &Arc<Self>) -> Result<Worked> {
        let mut worked = Worked::default();
        if self.is_stopping() {
            return Ok(worked);
        }
        let records = self.claim(self.queues(), self.options.concurrency).await?;
        let drive = |record| tokio::spawn(self.clone().drive_claimed(record));
        let tasks: Vec<_> = records.into_iter().map(drive).collect();
        for driven in join_all(tasks).await {
            match driven {
                Ok(true) => worked.driven += 1,
                _ => worked.skipped += 1,
            }
        }
        worked.purged = self.purge().await?.runs;
        Ok(worked)
    }

    /// Removes a batch of ended runs whose retention is over.
    async fn purge(&self) -> Result<Purged> {
        let batch = self.claim(vec![Queue::purge()], self.options.concurrency).await?;
        let mut purged = Purged { runs: 0, more: batch.len() == self.options.concurrency };
        for record in batch {
            let expect = Expect::Revision(record.revision);
            match self.vault.store().delete(record.id, expect).await {
                Ok(()) => purged.runs += 1,
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(purged)
    }

    /// Lets states expire that were suspended by themselves, whose deadline has passed and which have
    /// no default to be given with: nobody may ever ask for one again. Gives how many did.
    async fn expire_states(&self) -> Result<usize> {
        let now = self.clock.now();
        let overdue = Filter {
            flow_id: Some(STATE_FLOW.into()),
            // One that was given to a caller who has died before it was answered is running.
            status: [RunStatus::Waiting, RunStatus::Running].into(),
            ..overdue_at(now)
        };
        let (mut expired, mut after) = (0, None);
        loop {
            let store = self.vault.store();
            let page = self.vault.reading(|| store.query(&overdue, after, PAGE)).await?;
            let is_left = |run: &&Summary| {
                !run.is_held(now) && run.waits.iter().all(|wait| !wait.has_default)
            };
            for run in page.readable().filter(is_left) {
                let expiry =
                    async { self.expire_state(self.open_verified(run.id).await?, now).await };
                match expiry.await {
                    Ok(Expiry::Expired(_)) => expired += 1,
                    Ok(_) => {}
                    Err(error) if error.is_conflict() => {}
                    // It was removed; or whoever opens it hears of what is wrong with it.
                    Err(error) => tracing::debug!(run = %run.id, %error, "a state can't expire"),
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(expired);
            }
        }
    }

    /// The queues whose runs this hub can go on with.
    fn queues(&self) -> Vec<Queue> {
        let flows = self.flows.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        flows.keys().map(Queue::of_flow).chain([Queue::documents()]).collect()
    }

    /// Drives a claimed run; gives whether it could.
    async fn drive_claimed(self: Arc<Self>, record: Record) -> bool {
        let run_id = record.id;
        match self.drive_record(record).await {
            Ok(()) => true,
            Err(error) => {
                if error.kind() != ErrorKind::RunBusy {
                    tracing::warn!(run = %run_id, %error, "a due run could not be gone on with");
                    self.tell(HubEvent::RunSkipped { run_id, reason: error.to_string() });
                }
                false
            }
        }
    }

    /// Drives a claimed run, or sets it aside; one that it can't go on with is let go.
    ///
    /// # Errors
    /// Where it could not be gone on with; `RunBusy` where somebody else has it by now.
    async fn drive_record(self: &Arc<Self>, record: Record) -> Result<()> {
        let (taken, attempts) = (Taken::claimed(&record), record.attempts);
        let is_worn = attempts > self.options.max_takeovers;
        // Before anything is made of its flow: to read a document may be what kills workers.
        let ready = self.open_claimed(record).and_then(|opened| {
            let flow = if is_worn { None } else { Some(self.fitting_flow(&opened)?) };
            Ok((opened, flow))
        });
        let (opened, flow) = match ready {
            Ok(ready) => ready,
            Err(error) => {
                self.release(&taken).await;
                return Err(error);
            }
        };
        let Some(flow) = flow else {
            let message = format!(
                "{} workers took the run over and none got further; see what this step does to \
                 its process, then retry",
                attempts - 1
            );
            let aside = self.set_aside(opened, codes::POISONED, message).await;
            if aside.is_err() {
                self.release(&taken).await;
            }
            return aside;
        };
        drive::go_on_as(self.clone(), flow, opened, taken).await.map(drop)
    }

    fn open_claimed(&self, record: Record) -> Result<Opened> {
        let opened = Opened::unseal(&self.codec, record)?;
        opened.verify()?;
        Ok(opened)
    }
}
