//! Removing runs.

use std::sync::Arc;

use serde::Serialize;

use super::{
    Inner, PersistenceHub, drive,
    query::PAGE,
    state::{Expiry, STATE_FLOW, overdue},
    take_up::{TakenUp, taken_up},
    vault::Opened,
};
use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    engine::{RunStatus, machine::Machine, timeline::Timeline},
    id::{Revision, RunId},
    store::{Expect, Filter, Summary},
};

/// Which runs are removed: those for which every criterion that is given holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cleanup {
    expired_only: bool,
    older_than: Option<Timestamp>,
    filter: Filter,
    all: bool,
    dry_run: bool,
}

impl Cleanup {
    /// No criterion yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only what has expired. The deadlines that have passed by now take effect first, which may run
    /// steps: a default is applied, a `catch` goes on, and only what then has expired is removed.
    #[must_use]
    pub fn expired_only(mut self) -> Self {
        self.expired_only = true;
        self
    }

    /// Only what was written last before that time.
    #[must_use]
    pub fn older_than(mut self, at: Timestamp) -> Self {
        self.older_than = Some(at);
        self
    }

    /// Only what the filter matches, by the plain columns.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// All runs. Must be said where no other criterion is given.
    #[must_use]
    pub fn all(mut self) -> Self {
        self.all = true;
        self
    }

    /// Only tell what would be removed.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    fn matches(&self, run: &Summary, now: Timestamp) -> bool {
        self.older_than.is_none_or(|at| run.updated_at < at)
            && (!self.expired_only || run.status == RunStatus::Expired || is_overdue(run, now))
    }
}

/// Whether a run is parked beyond the deadline of one of its waits.
fn is_overdue(run: &Summary, now: Timestamp) -> bool {
    run.status == RunStatus::Waiting && run.waits.iter().any(|wait| wait.is_over(now))
}

/// What a cleanup did.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Cleaned {
    /// How many runs were removed; in a dry run, how many would be.
    pub deleted_count: usize,
    /// Which they are.
    pub deleted: Vec<RunId>,
    /// Which were left though the criteria name them: somebody drives them, or they go on with what
    /// was accepted for them, or they changed at that very moment.
    pub left: Vec<RunId>,
    /// Those that could not be removed, and why; also those whose records do not read back, so that
    /// nobody knows whether all criteria hold for them.
    pub errors: Vec<CleanupError>,
}

/// A run that could not be removed.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct CleanupError {
    /// The run.
    pub run_id: RunId,
    /// What happened.
    pub message: String,
}

impl PersistenceHub {
    /// Removes runs. Never one that somebody drives; one that a worker would go on with, because
    /// something was accepted for it or its holder has died, only where the filter asks for its status
    /// (`Ready`, `Running`), for when nobody has its flow any more; one that
    /// changes at that very moment stays, and so does one whose record does not read back. A run that
    /// was set aside has ended: it is removed with what was accepted for it, as it is after the
    /// retention.
    ///
    /// # Errors
    /// `InvalidArgument` when no criterion is given and `all` is not said; when the store can't
    /// list runs. What goes wrong with single runs is in [`Cleaned::errors`].
    pub async fn cleanup(&self, which: &Cleanup) -> Result<Cleaned> {
        let criteria =
            which.expired_only || which.older_than.is_some() || which.filter != Filter::default();
        if !criteria && !which.all {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "no criterion is given; to remove every run, say `all` (`--all`)",
            ));
        }
        let hub = self.inner();
        let mut cleaned = Cleaned::default();
        let mut after = None;
        loop {
            let page = self.query(&which.filter, after, PAGE).await?;
            for listed in &page.items {
                let run = match listed {
                    Ok(run) => run,
                    Err(unreadable) => {
                        cleaned.failed(unreadable.id, unreadable);
                        continue;
                    }
                };
                let now = hub.clock.now();
                let goes_on = matches!(run.status, RunStatus::Ready | RunStatus::Running)
                    && !which.filter.status.contains(&run.status);
                let live = run.is_held(now) || goes_on;
                if !which.matches(run, now) {
                    continue;
                }
                if live {
                    cleaned.left.push(run.id);
                    continue;
                }
                let expired = match which.expired_only && run.status != RunStatus::Expired {
                    true if which.dry_run => hub.would_expire(run.id).await,
                    true => {
                        let (at_work, run) = (hub.clone(), run.id);
                        hub.carry_out(async move { at_work.expire_now(run).await }).await
                    }
                    false => Ok(Some(run.revision)),
                };
                let revision = match expired {
                    Ok(Some(revision)) => revision,
                    Ok(None) => continue,
                    // Somebody else had it at that very moment.
                    Err(error) if error.is_conflict() || error.kind() == ErrorKind::RunBusy => {
                        cleaned.left.push(run.id);
                        continue;
                    }
                    Err(error) => {
                        cleaned.failed(run.id, &error);
                        continue;
                    }
                };
                if which.dry_run {
                    cleaned.deleted.push(run.id);
                    continue;
                }
                match hub.vault.store().delete(run.id, Expect::Revision(revision)).await {
                    Ok(()) => cleaned.deleted.push(run.id),
                    // It was answered, claimed or removed since the page was read.
                    Err(error) if error.is_conflict() => cleaned.left.push(run.id),
                    Err(error) => cleaned.failed(run.id, &error),
                }
            }
            after = page.next;
            if after.is_none() {
                cleaned.deleted_count = cleaned.deleted.len();
                return Ok(cleaned);
            }
        }
    }
}

impl Cleaned {
    fn failed(&mut self, run_id: RunId, error: &impl std::fmt::Display) {
        self.errors.push(CleanupError { run_id, message: error.to_string() });
    }
}

impl Inner {
    /// Lets the deadlines of a run do what they do; gives its revision if it has expired then.
    async fn expire_now(self: &Arc<Self>, run: RunId) -> Result<Option<Revision>> {
        let opened = self.open_verified(run).await?;
        let now = self.clock.now();
        let has_expired = if opened.record.flow_id == STATE_FLOW {
            // A caller who was given it by now has it until its lease lapses.
            !opened.record.is_held(now)
                && matches!(self.expire_state(opened, now).await?, Expiry::Expired(_))
        } else {
            let flow = self.fitting_flow(&opened)?;
            let Some(opened) = self.take(opened).await? else { return Ok(None) };
            // What else becomes of it is its own affair.
            let driven = drive::go_on(self.clone(), flow, opened).await?;
            driven.status() == RunStatus::Expired
        };
        if !has_expired {
            return Ok(None);
        }
        let record = self.vault.get(run).await?;
        let expired = record.filter(|record| record.status == RunStatus::Expired);
        Ok(expired.map(|record| record.revision))
    }

    /// Gives the revision of a run that would expire if its deadlines did what they do; writes
    /// nothing, and calls no tool.
    async fn would_expire(&self, run: RunId) -> Result<Option<Revision>> {
        let opened = self.open_verified(run).await?;
        let now = self.clock.now();
        let revision = opened.record.revision;
        let expires = if opened.record.flow_id == STATE_FLOW {
            !opened.record.is_held(now)
                && overdue(&opened, now).is_some_and(|wait| wait.request.default.is_none())
        } else {
            let flow = self.fitting_flow(&opened)?;
            let Opened { snapshot, inbox, .. } = opened;
            let TakenUp { mut snapshot, events, .. } = taken_up(&flow, snapshot, &inbox, now)?;
            let machine = Machine::new(&flow.def, self.options.default_timeout);
            let mut timeline = Timeline::new(events.into());
            while let Some((event, at)) = timeline.next(&snapshot) {
                machine.apply(&mut snapshot, event, at, now);
            }
            snapshot.status == RunStatus::Expired
        };
        Ok(expires.then_some(revision))
    }
}
